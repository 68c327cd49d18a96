"""The journal of one auction: numbered entries in a hash chain, and the fold that makes them and follows them.

An entry has a public text and private facts, all canonical JSON (UTF-8, no spaces, this order of names, written once
and kept as written):

    public   {"auction":7,"sequence":42,"at_ms":1764000000000,"events":[{"type":"bid","bidder":3,"amount_minor":900}]}
    fact 0   {"salt":"<32 hex digits>","command":{"type":"place_bid","id":"...","party_id":812,...}}
    fact 1   {"salt":"<32 others>","fact":{"type":"maximum_set","bidder":3,"maximum_minor":1500}}   and so on

    commitment = root of the Merkle tree over the facts (auctions/merkle.py; of one fact: SHA-256(0x00 + fact))
    hash       = SHA-256(hash of the entry before (32 bytes; of the first: zeros) + public + commitment (32 bytes))

So whoever has the public texts, the commitments and the hashes can recompute the chain; a fact that is shown later,
with its path to the commitment, cannot have been changed; and its salt keeps anybody from guessing the others. The
private text is the facts, one on each line. `at_ms` never runs backwards along the numbers. When a bid arrived before
the instant of the entry before it (it had waited on another node), its public text also says `"arrived_ms"`, after
`at_ms`: arrival decides whether it was in time, the number who was first.

Journals from before have private texts that can only be opened whole (docs/proof.md, format 1):

    private  {"salt":"<32 hex digits>","events":[...],"command":{...}}      commitment = SHA-256(private)

Format 1 begins with 0x7b where the hash of format 2 begins with 0x00 or 0x01, so none can pass for the other, and a
journal may change from one to the other at any entry.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeAlias

from auctions.bidding import Auction
from auctions.formats import start
from auctions.merkle import leaf_hash, root
from auctions.messages import (
    BIDDER_COMMANDS,
    ID,
    TIMER_COMMANDS,
    Command,
    Create,
    Created,
    Event,
    LimitSet,
    ReserveSet,
    read_event,
)
from auctions.rulesets import RulesetFault
from auctions.snapshot import Snapshot

ZERO_HASH = bytes(32)
Loads: TypeAlias = Callable[[str], Any]  # JSON text to plain data
FAR = 2_048  # entries after which `mark` takes a new snapshot: what undoing has to apply again, at most
DIGEST = 2**64 - 1  # the lower bits of an answer's record
is_id = ID.fullmatch
SALT_DIGITS = 32  # hex digits; take them for a whole batch in one call: secrets.token_hex(16 * n)
AFTER_SALT = len('{"salt":"') + SALT_DIGITS
FORMAT_1 = '","events":['  # what follows the salt of a private text of format 1


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
    scope: int  # whose command id it is, see messages.py
    command_id: str  # "" for a timer's command

    def commitment(self) -> bytes:
        """Return what the hash says of the private text: 32 bytes."""
        return commitment_of(self.private)


def commitment_of(private: str) -> bytes:
    """Return what is committed to for a private text, of either format."""
    if private.startswith(FORMAT_1, AFTER_SALT):
        return sha256(private.encode()).digest()
    if "\n" not in private:
        return sha256(b"\x00" + private.encode()).digest()
    return root(fact_hashes(private))


def fact_hashes(private: str) -> list[bytes]:
    """Return the hashes of the facts of a private text of format 2: the leaves under its commitment."""
    return [leaf_hash(fact.encode()) for fact in private.split("\n")]


def private_parts(private: str, loads: Loads = json.loads) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the command and the private events of a private text, of either format, as plain data."""
    if private.startswith(FORMAT_1, AFTER_SALT):
        whole = loads(private)
        return whole["command"], whole["events"]
    if "\n" not in private:
        return loads(private)["command"], []
    events: list[dict[str, Any]] = []
    party: dict[str, Any] = {}
    for fact in facts_of(private):
        if fact["type"] == PARTY:
            party = fact
        elif fact["type"] == "limit_set":
            events.append({**fact, "party_id": party["party_id"]})
        else:
            events.append(fact)
    return json.loads(private.partition("\n")[0])["command"], events


def facts_of(private: str) -> list[dict[str, Any]]:
    """Return the facts of a private text besides its command, as plain data; of format 1: the events."""
    if private.startswith(FORMAT_1, AFTER_SALT):
        events: list[dict[str, Any]] = json.loads(private)["events"]
        return events
    return [json.loads(text)["fact"] for text in private.split("\n")[1:]]


PARTY = "party"  # who a bidder is: of LimitSet, but a fact of its own, so that it can be opened without the limit


def _facts(event: Event) -> tuple[str, ...]:
    """Return the facts of a private event: what may have to be opened alone."""
    if isinstance(event, LimitSet):
        return (
            f'{{"type":"{PARTY}","bidder":{event.bidder},"party_id":{event.party_id}}}',
            f'{{"type":"limit_set","bidder":{event.bidder},"limit_minor":{event.limit_minor}}}',
        )
    return (event.text(),)


def _private_text(command: str, hidden: list[Event], salt: str) -> str:
    """Return the facts of an entry with private events, one on each line; `command` is its text."""
    facts = [f'"command":{command}']
    for event in hidden:
        facts += [f'"fact":{text}' for text in _facts(event)]
    # A salt of its own for each: who is shown one cannot guess behind another.
    return "\n".join(
        [
            f'{{"salt":"{sha256(f"{salt}:{number}".encode()).hexdigest()[:SALT_DIGITS]}",{fact}}}'
            for number, fact in enumerate(facts)
        ]
    )


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
    """An auction as its journal has made it: `take` makes the next entry, `follow` applies one that was made
    elsewhere.
    """

    __slots__ = (
        "_answers", "_auction", "_kept", "_marked", "_snapshot", "_snapshot_at",
        "alone", "at_ms", "auction_id", "hash", "sequence",
    )  # fmt: skip

    def __init__(self, auction_id: int) -> None:
        self.auction_id = auction_id
        self.sequence = 0
        self.at_ms = 0
        self.hash = ZERO_HASH
        self._auction: Auction | None = None
        # scope -> command id -> sequence of its entry in the upper, digest of the command in the lower 64 bits: one int
        # each, since a hot lot keeps a million of them.
        self._answers: dict[int, dict[str, int]] = {}
        self.alone = 0  # turns in a row in which no other node had written; counted by who takes the turns
        self._snapshot: Snapshot | None = None
        self._snapshot_at = 0
        self._kept: list[tuple[int, tuple[Event, ...]]] = []  # what was kept since the snapshot: instant, events
        self._marked = (0, 0, ZERO_HASH)

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
        Raises: NoAuction, when there is no auction yet and the command is not `Create`; ValueError, for an id that is
        not one.
        """
        text = command.text()
        command_id = command.id
        scope = command.scope
        if command_id:
            answers = self._answers.get(scope)
            if answers is not None and (found := answers.get(command_id)) is not None:
                first = found >> 64
                return Answered(first) if found & DIGEST == hash(text) & DIGEST else KeyReused(first)
            if not is_id(command_id):
                raise ValueError("an id has 1 to 64 letters, digits, dots, hyphens or underscores")
        elif not isinstance(command, TIMER_COMMANDS):
            raise ValueError("only a timer's command has no id")
        auction = self._auction
        arrived_ms = at_ms
        if at_ms < self.at_ms:
            at_ms = self.at_ms  # time never runs backwards
        events: tuple[Event, ...]
        if auction is None:
            events = self._decide_create(command)
            auction = start(events[0].terms)  # type: ignore[union-attr]  # _decide_create returns Created first
        else:
            if arrived_ms < auction.decided_ms and isinstance(command, BIDDER_COMMANDS):
                return Busy()  # it waited longer than the grace; to say "too late" of what came in time would be untrue
            events = auction.decide(command, arrived_ms, at_ms)
            if not events:
                return NothingToDo(auction.due_at_ms())
        sequence = self.sequence + 1
        arrived = "" if at_ms == arrived_ms else f'"arrived_ms":{arrived_ms},'
        shown: list[str] = []
        hidden: list[Event] = []
        for event in events:
            if event.public:
                shown.append(event.text())
            else:
                hidden.append(event)
        texts = shown[0] if len(shown) == 1 else ",".join(shown)
        public = f'{{"auction":{self.auction_id},"sequence":{sequence},"at_ms":{at_ms},{arrived}"events":[{texts}]}}'
        if hidden:
            private = _private_text(text, hidden, salt)
            commitment = commitment_of(private)
        else:
            private = f'{{"salt":"{salt}","command":{text}}}'
            commitment = leaf_hash(private.encode())
        previous = self.hash
        chained = sha256(previous + public.encode() + commitment).digest()
        auction.sequence = sequence
        for event in events:
            auction.apply(event, at_ms)
        self._auction = auction
        self.sequence, self.at_ms, self.hash = sequence, at_ms, chained
        if command_id:
            self._remember(scope, command_id, text)
        return Entry(
            self.auction_id, sequence, at_ms, arrived_ms, public, private, previous, chained, events, scope, command_id
        )

    def _decide_create(self, command: Command) -> tuple[Event, ...]:
        if not isinstance(command, Create):
            raise NoAuction(self.auction_id)
        terms = command.terms
        if terms.auction_id != self.auction_id:
            raise ValueError(f"terms of auction {terms.auction_id} for auction {self.auction_id}")
        if terms.reserve != "hidden":
            return (Created(terms),)
        if terms.reserve_minor is None:
            raise RulesetFault("reserve_missing", "reserve_minor", "A hidden reserve needs an amount.")
        return (Created(replace(terms, reserve_minor=None)), ReserveSet(terms.reserve_minor))

    def _remember(self, scope: int, command_id: str, text: str) -> None:
        answers = self._answers.get(scope)
        if answers is None:
            answers = self._answers[scope] = {}
        # `hash` differs from process to process, and so do these digests: they are made again from the journal.
        answers[command_id] = self.sequence << 64 | hash(text) & DIGEST

    def follow(self, entry: Entry) -> None:
        """Apply `entry`, made elsewhere. Raises JournalBroken, when it is not the next one or its hash is wrong.

        After an exception the fold may have changed in part; throw it away.
        """
        if entry.auction_id != self.auction_id or entry.sequence != self.sequence + 1 or entry.at_ms < self.at_ms:
            raise JournalBroken(f"auction {self.auction_id}: entry {entry.sequence} does not follow {self.sequence}")
        chained = sha256(self.hash + entry.public.encode() + entry.commitment()).digest()
        if entry.previous != self.hash or entry.hash != chained:
            raise JournalBroken(f"auction {self.auction_id}: the hash of entry {entry.sequence} is wrong")
        auction = self._auction
        if auction is None:
            created = entry.events[0]
            if not isinstance(created, Created):
                raise JournalBroken(f"auction {self.auction_id}: entry 1 does not create it")
            auction = self._auction = start(created.terms)
        auction.sequence = entry.sequence
        for event in entry.events:
            auction.apply(event, entry.at_ms)
        self.sequence, self.at_ms, self.hash = entry.sequence, entry.at_ms, chained
        if entry.command_id:
            self._remember(entry.scope, entry.command_id, _command_text(entry.private))

    def mark(self) -> None:
        """Be ready to `undo` what is taken from here on. After the turn: `keep` or `undo` it."""
        if self._snapshot is None or self._snapshot_at + len(self._kept) != self.sequence or len(self._kept) >= FAR:
            self._snapshot, self._snapshot_at, self._kept = Snapshot(self.auction), self.sequence, []
        self._marked = (self.sequence, self.at_ms, self.hash)

    def keep(self, entries: Sequence[Entry]) -> None:
        """`entries`, all that were taken since `mark`, are in the journal."""
        self._kept += [(entry.at_ms, entry.events) for entry in entries]

    def undo(self, entries: Sequence[Entry]) -> None:
        """Forget `entries`, all that were taken since `mark`: the journal does not have them."""
        if self._snapshot is None:
            raise ValueError("nothing was marked")
        for entry in entries:
            if entry.command_id:
                del self._answers[entry.scope][entry.command_id]
        auction = self._snapshot.restore()
        for auction.sequence, (at_ms, events) in enumerate(self._kept, self._snapshot_at + 1):
            for event in events:
                auction.apply(event, at_ms)
        self._auction = auction
        self.sequence, self.at_ms, self.hash = self._marked


def read_entry(public: str, private: str, previous: bytes, hash: bytes, loads: Loads = json.loads) -> Entry:
    """Rebuild an entry from its two texts, as kept. The hash is not checked here but by `Fold.follow`.

    `loads` reads JSON; whoever has a faster one passes it.
    """
    shown = loads(public)
    command, hidden = private_parts(private, loads)
    events = tuple([read_event(one) for one in (*shown["events"], *hidden)])
    at_ms = shown["at_ms"]
    arrived_ms = shown.get("arrived_ms", at_ms)
    scope = -command["by"] if "by" in command else command.get("party_id", 0)
    return Entry(
        shown["auction"],
        shown["sequence"],
        at_ms,
        arrived_ms,
        public,
        private,
        previous,
        hash,
        events,
        scope,
        command.get("id", ""),
    )


def _command_text(private: str) -> str:
    """Return the command's text within a private text; what stands before it is numbers and fixed words only."""
    first = private.partition("\n")[0]
    return first[first.index(',"command":') + len(',"command":') : -1]
