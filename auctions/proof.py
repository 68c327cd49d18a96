"""What can be shown of a journal: the public lines, receipts, checkpoints and tree heads, as the bytes that are signed.

Who signs is passed in: `Signer`. Every text is canonical JSON: UTF-8, no spaces, names in the order given here, hashes
as small hex digits. docs/proof.md describes all of it for who writes a verifier.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from auctions import merkle
from auctions.journal import AFTER_SALT, FORMAT_1, Entry, fact_hashes
from auctions.merkle import Place

KEY_ID_DIGITS = 16


def canonical(data: Any) -> str:
    """Return plain data as canonical JSON text: the names in their order, no spaces, no escapes but the needed ones."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


# --- Lines ----------------------------------------------------------------------------------------------------------


def public_line(
    entry: Entry, *, opens: Callable[[dict[str, Any]], bool] | None = None, open_private: bool = False
) -> str:
    """Return one line of a public journal, without the line end.

    {"public":"<text>","commitment":"<hex>","hash":"<hex>"}. The texts are strings within the JSON, so that their bytes
    survive every reader.

    Args:
        opens: which private facts are open by now (`Auction.opens`): those stand in
            "facts":[{"fact":"<text>","index":1,"of":3,"path":["<hex>",...]},...], each with its path to the commitment.
            Of format 1 nothing can be opened alone, so nothing is.
        open_private: add "private":"<text>", all of it, of either format.
    """
    line: dict[str, Any] = {
        "public": entry.public,
        "commitment": entry.commitment().hex(),
        "hash": entry.hash.hex(),
    }
    if open_private:
        line["private"] = entry.private
    elif opens is not None and (facts := _opened_facts(entry.private, opens)):
        line["facts"] = facts
    return public_line_of(line)


def public_line_of(parts: dict[str, Any]) -> str:
    """Return a line of these parts; whoever reads one can see by it whether every byte is as it must be."""
    names = ("public", "commitment", "hash", "private", "facts")
    return canonical({name: parts[name] for name in names if name in parts})


def _opened_facts(private: str, opens: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    texts = private.split("\n")
    if len(texts) == 1 or private.startswith(FORMAT_1, AFTER_SALT):
        return []  # nothing but a command, which is never opened
    open_ones = [number for number, text in enumerate(texts) if number and opens(json.loads(text)["fact"])]
    if not open_ones:
        return []
    nodes: dict[Place, bytes] = {}
    tree = merkle.Tree()
    for leaf in fact_hashes(private):
        nodes.update(tree.append(leaf))
    return [
        {
            "fact": texts[number],
            "index": number,
            "of": tree.size,
            "path": [
                each.hex()
                for each in merkle.proof(
                    merkle.inclusion(number, tree.size), lambda places: {place: nodes[place] for place in places}
                )
            ],
        }
        for number in open_ones
    ]


# --- What is signed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signer:
    """One of the platform's keys: its name, and what makes an Ed25519 signature (64 bytes) over bytes."""

    key_id: str
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Signed:
    """A text and the platform's signature over its UTF-8 bytes. `key_id` names the public key, in the text too."""

    text: str
    key_id: str
    signature: bytes


def key_name(public_key: bytes) -> str:
    """Return the name of a public key: the first digits of its SHA-256."""
    return sha256(public_key).hexdigest()[:KEY_ID_DIGITS]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Fixes the journal of an auction up to entry `sequence`, made at `at_ms`."""

    auction_id: int
    sequence: int
    at_ms: int
    hash: bytes

    def text(self) -> str:
        """Return the text that is a leaf of the log."""
        return (
            f'{{"type":"checkpoint","auction":{self.auction_id},"sequence":{self.sequence},"at_ms":{self.at_ms},'
            f'"hash":"{self.hash.hex()}"}}'
        )


def signed(text: str, signer: Signer, *, at_ms: int) -> Signed:
    """Return a text, with when and by which key it is signed added to its end, and its signature."""
    whole = f'{text[:-1]},"signed_ms":{at_ms},"key":"{signer.key_id}"}}'
    return Signed(whole, signer.key_id, signer.sign(whole.encode()))


def checkpoint_of(entry: Entry) -> Checkpoint:
    """Return the checkpoint that ends with this entry."""
    return Checkpoint(entry.auction_id, entry.sequence, entry.at_ms, entry.hash)


def receipt(entry: Entry, covered_by: Checkpoint) -> str:
    """Return the receipt for the command of `entry`: which place it got in which chain, and when it arrived.

    `covered_by`: a checkpoint of the same auction, of this entry or a later one.
    """
    assert covered_by.auction_id == entry.auction_id
    assert covered_by.sequence >= entry.sequence
    return (
        f'{{"type":"receipt","auction":{entry.auction_id},"sequence":{entry.sequence},"at_ms":{entry.at_ms},'
        f'"arrived_ms":{entry.arrived_ms},"commitment":"{entry.commitment().hex()}","hash":"{entry.hash.hex()}",'
        f'"previous":"{entry.previous.hex()}",'
        f'"checkpoint":{{"sequence":{covered_by.sequence},"hash":"{covered_by.hash.hex()}"}}}}'
    )


def tree_head(size: int, root: bytes) -> str:
    """Return the text that fixes the whole log of checkpoints, `size` leaves under `root`."""
    return f'{{"type":"tree_head","size":{size},"root":"{root.hex()}"}}'
