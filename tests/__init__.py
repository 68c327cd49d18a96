"""One test file per module, same name, in a folder per ring."""
