"""Ed25519 for `clearlot journal verify`, which starts without a server's libraries."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def is_signed(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether a signature over `text` is good: for auctions/verify.py, which has the standard library only."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
