"""One public function is the body of one transaction: lock, load, let a pure ring decide, keep."""
