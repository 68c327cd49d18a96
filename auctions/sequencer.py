"""What waits on this node goes to the journals in turns; answers are told after the commit.

asyncio only. The turn itself, one database transaction, is passed in by `web`; so is what shows new entries to
watchers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from auctions.bidding import Position, Standing
from auctions.journal import Answer, Busy, Entry, Fold
from auctions.messages import BIDDER_COMMANDS, Command, Disturbed

TURN_LIMIT = 256  # commands in one turn, over all auctions: more does not make it faster (live-recipe.md 2)
QUEUE_LIMIT = 10_000  # commands waiting: about half a second's worth; beyond it the answer is `busy`
QUEUE_BOUND_S = 1.0  # who has waited longer is answered `busy`; not more than the grace before a close
DISTURBED_EACH_S = 0.1  # per auction, one command to extend for all who were answered `busy` in this time


class TurnFailed(Exception):
    """A turn was not committed, or nobody knows whether it was: rebuild from the journal and ask again."""


@dataclass(slots=True)
class Unknown:
    """The database was lost on the way: nobody knows whether it was recorded. Ask again under the same id."""


Told: TypeAlias = Answer | Unknown


@dataclass(slots=True)
class Waiting:
    """A command in the queue."""

    auction_id: int
    command: Command
    arrived: float  # the monotonic clock, seconds
    tell: Callable[[Told], None]  # called once, after the commit; must not raise and must not wait


@dataclass(slots=True)
class Work:
    """What one turn does for one auction: bring `fold` up to date, then take each of `waiting` in order.

    `fold` may be behind, or empty (sequence 0): the turn follows the entries after `fold.sequence` first.
    """

    auction_id: int
    fold: Fold
    waiting: list[Waiting]  # none: only bring the fold up to date
    parties: set[int] = field(default_factory=set)  # who wants to know where he stands after it


@dataclass(slots=True)
class Turned:
    """What a committed turn did to one auction: values, since the fold may be in the next turn when they are shown."""

    auction_id: int
    answers: list[Answer]  # to each of `waiting`, in order
    entries: list[Entry]  # all after what the fold knew before: of other nodes, then of this turn
    standing: Standing
    leader_party_id: int | None
    due_at_ms: int | None
    positions: dict[int, Position | None]  # of the parties that asked or whose limit changed


class Turn(Protocol):
    """One transaction for all of `work`, which is in order of auction id, for the locks.

    Returns: one Turned for each Work, in order; all is committed when it returns.
    Raises: TurnFailed. Anything else is a bug, and ends `Sequencer.run`.
    """

    def __call__(self, work: Sequence[Work]) -> Awaitable[list[Turned]]: ...


class Load(Protocol):
    """Read an auction from its journal, outside of any turn. Raises TurnFailed, when the database does not answer."""

    def __call__(self, auction_id: int) -> Awaitable[Fold]: ...


class Publish(Protocol):
    """Show what a turn did to one auction, after its bidders were answered. Must not raise and must not wait."""

    def __call__(self, turned: Turned) -> None: ...


class Sequencer:
    """The queue of one node, for all auctions that it has bidders for. `run` is its only task.

    `folds` are the auctions as this node last saw them; outside of a turn they may be ahead of the journal, so what is
    shown comes from `publish`. An auction that is not among them is loaded inside the turn; who can, `adopt`s it first.
    """

    def __init__(self, turn: Turn, load: Load, publish: Publish) -> None:
        self._turn = turn
        self._load = load
        self._publish = publish
        self._queue: list[Waiting] = []
        self._looks: dict[int, set[int]] = {}  # auctions to bring up to date -> parties that asked
        self._disturbed: dict[int, float] = {}  # auction -> arrival of who was answered busy and counted last
        self._wake = asyncio.Event()
        self._stopping = False
        self.folds: dict[int, Fold] = {}

    def submit(
        self, auction_id: int, command: Command, tell: Callable[[Told], None], arrived: float | None = None
    ) -> None:
        """Queue `command`; `tell` gets the answer, `Busy` at once when too many wait. Call it from the event loop.

        `arrived`: when, on the monotonic clock; without it now.
        """
        one = Waiting(auction_id, command, time.monotonic() if arrived is None else arrived, tell)
        if len(self._queue) >= QUEUE_LIMIT and isinstance(command, BIDDER_COMMANDS):
            self._answer_busy(one)
            return
        self._queue.append(one)
        self._wake.set()

    def look(self, auction_id: int, party_id: int | None = None) -> None:
        """Have the auction brought up to date and published, with the position of that party if one is named."""
        parties = self._looks.setdefault(auction_id, set())
        if party_id is not None:
            parties.add(party_id)
        self._wake.set()

    async def ask(self, auction_id: int, command: Command) -> Told:
        """Queue `command` and return its answer."""
        answered: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self.submit(auction_id, command, lambda answer: None if answered.done() else answered.set_result(answer))
        return await answered

    def knows(self, auction_id: int, scope: int, command_id: str) -> bool:
        """Whether a command of this id was seen here, as of the last turn; asking it again decides nothing new."""
        fold = self.folds.get(auction_id)
        return fold is not None and fold.answered(scope, command_id) is not None

    def adopt(self, fold: Fold) -> None:
        """Take over an auction that was read outside of a turn, unless it is known already."""
        self.folds.setdefault(fold.auction_id, fold)

    def forget(self, auction_id: int) -> None:
        """Let an auction go that nobody asks for; it can be read again."""
        self.folds.pop(auction_id, None)

    def stop(self) -> None:
        """Let `run` end when all that waits has been answered."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Take turns until `stop`.

        Whose turn failed twice is answered `Unknown`; what was asked of those auctions afterwards begins anew.
        """
        told: Callable[[], None] | None = None
        while True:
            self._wake.clear()  # before looking: to answer somebody `busy` queues a command, too
            work = self._next_work(time.monotonic())
            if work:
                turn = asyncio.ensure_future(self._turn(work))
                await asyncio.sleep(0)  # the turn's first statements leave; the answers of the last are told meanwhile
                if told:
                    told()
                told = self._teller(work, await self._finish(turn, work))
            elif told:
                told()  # which may queue more
                told = None
            elif self._stopping and not self._queue:
                return
            else:
                await self._wake.wait()

    async def _finish(self, turn: "asyncio.Future[list[Turned]]", work: list[Work]) -> list[Turned] | None:
        """Return what the turn did, asked a second time if it failed; None, when that failed, too."""
        try:
            return await turn
        except TurnFailed:
            try:
                for each in work:  # what did get in keeps its entry, and its id gets it
                    each.fold = self.folds[each.auction_id] = await self._load(each.auction_id)
                return await self._turn(work)
            except TurnFailed:
                for each in work:
                    self.folds.pop(each.auction_id, None)
                return None

    def _next_work(self, now: float) -> list[Work]:
        """Take what waits, at most TURN_LIMIT, in order of arrival within each auction."""
        batch = self._queue[:TURN_LIMIT]
        if not batch and not self._looks:
            return []
        del self._queue[:TURN_LIMIT]
        by_auction: dict[int, list[Waiting]] = {}
        for one in batch:
            if now - one.arrived > QUEUE_BOUND_S and isinstance(one.command, BIDDER_COMMANDS):
                self._answer_busy(one)
            elif (waiting := by_auction.get(one.auction_id)) is None:
                by_auction[one.auction_id] = [one]
            else:
                waiting.append(one)
        looks, self._looks = self._looks, {}
        return [
            Work(each, self._fold(each), by_auction.get(each, []), looks.get(each, set()))
            for each in sorted({*by_auction, *looks})
        ]

    def _fold(self, auction_id: int) -> Fold:
        if auction_id not in self.folds:
            self.folds[auction_id] = Fold(auction_id)
        return self.folds[auction_id]

    def _answer_busy(self, one: Waiting) -> None:
        """Say so, and have the auction extended if its end is near: nobody loses a lot because we were slow."""
        if one.arrived - self._disturbed.get(one.auction_id, 0.0) >= DISTURBED_EACH_S:
            self._disturbed[one.auction_id] = one.arrived
            self._queue.append(Waiting(one.auction_id, Disturbed("busy"), one.arrived, lambda _: None))
            self._wake.set()
        one.tell(Busy())

    def _teller(self, work: list[Work], turned: list[Turned] | None) -> Callable[[], None]:
        """Return what tells the answers of a committed turn: first to those who asked, then to who watches."""

        def tell() -> None:
            if turned is None:
                for each in work:
                    for one in each.waiting:
                        one.tell(Unknown())
                return
            for each, done in zip(work, turned, strict=True):
                for one, answer in zip(each.waiting, done.answers, strict=True):
                    one.tell(answer)
            for done in turned:
                self._publish(done)

        return tell
