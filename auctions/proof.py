"""What can be shown of a journal: the public lines, receipts and checkpoints, as the bytes that are signed.

Who signs is passed in: `Sign` takes the bytes and returns the signature. Every text is canonical JSON: UTF-8, no
spaces, names in the order given here, hashes as small hex digits.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from auctions.journal import Entry

Sign: TypeAlias = Callable[[bytes], bytes]


@dataclass(slots=True)
class Signed:
    """A text and the platform's signature over its UTF-8 bytes. `key_id` names the public key."""

    text: str
    key_id: str
    signature: bytes


def public_line(entry: Entry, *, open_private: bool = False) -> str:
    """Return one line of a public journal, without the line end.

    {"public":"<text>","commitment":"<hex>","hash":"<hex>"}, and "private":"<text>" when the private part is opened. The
    texts are strings within the JSON, so that their bytes survive every reader.
    """
    line = {"public": entry.public, "commitment": entry.commitment().hex(), "hash": entry.hash.hex()}
    if open_private:
        line["private"] = entry.private
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def receipt(entry: Entry) -> str:
    """Return the receipt for the command of `entry`: which place it got in which chain, and when it arrived."""
    return (
        f'{{"type":"receipt","auction":{entry.auction_id},"sequence":{entry.sequence},"at_ms":{entry.at_ms},'
        f'"arrived_ms":{entry.arrived_ms},"commitment":"{entry.commitment().hex()}","hash":"{entry.hash.hex()}",'
        f'"previous":"{entry.previous.hex()}"}}'
    )


def checkpoint(auction_id: int, sequence: int, hash: bytes, at_ms: int) -> str:
    """Return the text that fixes an auction's whole journal up to `sequence`."""
    return f'{{"type":"checkpoint","auction":{auction_id},"sequence":{sequence},"at_ms":{at_ms},"hash":"{hash.hex()}"}}'


def signed(text: str, sign: Sign, key_id: str) -> Signed:
    """Return `text` with its signature."""
    return Signed(text, key_id, sign(text.encode()))
