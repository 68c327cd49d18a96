"""The journal of one auction: numbered entries in a hash chain, and the fold that makes them and follows them.

An entry has two texts, both canonical JSON (UTF-8, no spaces, this order of names, written once and kept as written):

    public   {"auction":7,"sequence":42,"at_ms":1764000000000,"events":[{"type":"bid","bidder":3,"amount_minor":90000000}]}
    private  {"salt":"<32 hex digits>","events":[...],"command":{"type":"place_bid","id":"...","party_id":812,...}}

    commitment = SHA-256(private)          the salt keeps anybody from guessing what is behind it
    hash       = SHA-256(hash of the entry before (32 bytes; of the first: zeros) + public + commitment (32 bytes))

So whoever has the public texts, the commitments and the hashes can recompute the chain, and a private text that is shown
later cannot have been changed. `at_ms` never runs backwards along the numbers. When a bid arrived before the instant of the
entry before it (it had waited on another node), its public text also says `"arrived_ms"`, after `at_ms`: arrival decides
whether it was in time, the number who was first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

from auctions.bidding import Auction
from auctions.formats import start
from auctions.messages import ID, Bid, Command, Create, Created, Event, PlaceBid, SetProxy, StopProxy, read_event

ZERO_HASH = bytes(32)
SALT_DIGITS = 32  # hex digits; take them for a whole batch in one call: secrets.token_hex(16 * n)


class NoAuction(Exception):
    """The journal is empty: the first command must be `Create`."""


class JournalBroken(Exception):
    """An entry does not follow the one before: a number, an instant or a hash is wrong. Says which entry."""


@dataclass(slots=True)
class Entry:
    """One place in an auction's journal. Never changed after it was made."""

    auction_id: int
    sequence: int  # 1, 2, 3 ... without gaps
    at_ms: int  # not before that of the entry before
    arrived_ms: int  # when the command arrived; before `at_ms` only if it was overtaken on another node
    public: str
    private: str
    previous: bytes  # hash of the entry before
    hash: bytes
    events: tuple[Event, ...]  # public ones first

    def commitment(self) -> bytes:
        return sha256(self.private.encode()).digest()


@dataclass(slots=True)
class Answered:
    """The same command was taken before: its answer is entry `sequence` (which may be one of this very turn)."""

    sequence: int


@dataclass(slots=True)
class KeyReused:
    """The id was used for another command, which is entry `sequence`. That one stands; this one was not recorded."""

    sequence: int


@dataclass(slots=True)
class NothingToDo:
    """A timer's command found nothing due; nothing was recorded. `due_at_ms`: when to ask again, None for never."""

    due_at_ms: int | None


@dataclass(slots=True)
class Busy:
    """Not taken and not recorded: it waited, or would wait, too long. It may be sent again under the same id."""


Answer: TypeAlias = Entry | Answered | KeyReused | NothingToDo | Busy


class Fold:
    """An auction as its journal has made it: `take` makes the next entry, `follow` applies one that was made elsewhere."""

    __slots__ = ("_answers", "_auction", "at_ms", "auction_id", "hash", "sequence")

    def __init__(self, auction_id: int) -> None:
        self.auction_id = auction_id
        self.sequence = 0
        self.at_ms = 0
        self.hash = ZERO_HASH
        self._auction: Auction | None = None
        # scope -> command id -> sequence of its entry in the upper, digest of the command in the lower 64 bits: one int
        # each, since a hot lot keeps a million of them.
        self._answers: dict[int, dict[str, int]] = {}

    @property
    def auction(self) -> Auction:
        """The state. Raises NoAuction before the first entry."""
        if self._auction is None:
            raise NoAuction(self.auction_id)
        return self._auction

    def answered(self, scope: int, command_id: str) -> int | None:
        """Return the number of the entry that answered this id of this scope (see messages.py), or None."""
        found = self._answers.get(scope, {}).get(command_id)
        return None if found is None else found >> 64

    def take(self, command: Command, at_ms: int, salt: str) -> Answer:
        """Decide `command` and make it the next entry, unless it was answered before or finds nothing to do.

        Args:
            at_ms: when the command arrived (the clock at the turn, less the time it waited).
            salt: SALT_DIGITS hex digits that nobody can guess, another for each entry.
        Returns: the entry, already applied here and not yet kept anywhere; or why there is none.
        Raises: NoAuction, when there is no auction yet and the command is not `Create`; ValueError, for an id that is not one.
        """
        raise NotImplementedError

    def follow(self, entry: Entry) -> None:
        """Apply `entry`, made elsewhere. Raises JournalBroken, when it is not the next one or its hash is wrong."""
        raise NotImplementedError


def read_entry(public: str, private: str, previous: bytes, hash: bytes) -> Entry:
    """Rebuild an entry from its two texts, as kept. The hash is not checked here but by `Fold.follow`."""
    raise NotImplementedError
