"""What waits on this node goes to the journals in turns; answers are told after the commit.

asyncio only. The turn itself, one database transaction, is passed in by `web`; so is what shows new entries to
watchers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from auctions.journal import Answer, Busy, Entry, Fold
from auctions.messages import BIDDER_COMMANDS, Command, Disturbed

TURN_LIMIT = 256  # commands in one turn, over all auctions: more does not make it faster (live-recipe.md 2)
QUEUE_LIMIT = 10_000  # commands waiting: about half a second's worth; beyond it the answer is `busy`
QUEUE_BOUND_S = 1.0  # who has waited longer is answered `busy`; not more than the grace before a close


class TurnFailed(Exception):
    """A turn was not committed, or nobody knows whether it was: rebuild from the journal and ask again."""


@dataclass(slots=True)
class Waiting:
    """A command in the queue."""

    auction_id: int
    command: Command
    arrived: float  # the event loop's clock, seconds
    tell: Callable[[Answer], None]  # called once, after the commit; must not raise and must not wait


@dataclass(slots=True)
class Work:
    """What one turn does for one auction: bring `fold` up to date, then take each of `waiting` in order.

    `fold` may be behind, or empty (sequence 0): the turn follows the entries after `fold.sequence` first.
    """

    auction_id: int
    fold: Fold
    waiting: list[Waiting]


class Turn(Protocol):
    """One transaction for all of `work`, which is in order of auction id, for the locks.

    Returns: for each Work the answers to its `waiting`, in order; all is committed when it returns.
    Raises: TurnFailed. Anything else is a bug, and ends `Sequencer.run`.
    """

    def __call__(self, work: Sequence[Work]) -> Awaitable[list[list[Answer]]]: ...


class Publish(Protocol):
    """Show the new entries of one auction, in order, committed. Must not raise and must not wait."""

    def __call__(self, fold: Fold, entries: list[Entry]) -> None: ...


class Sequencer:
    """The queue of one node, for all auctions that it has bidders for. `run` is its only task.

    `folds` are the auctions as this node last saw them: good for showing, never for deciding outside a turn.
    """

    def __init__(self, turn: Turn, publish: Publish) -> None:
        self._turn = turn
        self._publish = publish
        self._queue: list[Waiting] = []
        self._disturbed: set[int] = set()  # auctions with a Disturbed in the queue
        self._wake = asyncio.Event()
        self._stopping = False
        self.folds: dict[int, Fold] = {}

    def submit(self, auction_id: int, command: Command, tell: Callable[[Answer], None]) -> None:
        """Queue `command`; `tell` gets the answer, `Busy` at once when too many wait. Call it from the event loop."""
        now = asyncio.get_running_loop().time()
        if len(self._queue) >= QUEUE_LIMIT and isinstance(command, BIDDER_COMMANDS):
            self._answer_busy(Waiting(auction_id, command, now, tell))
            return
        self._queue.append(Waiting(auction_id, command, now, tell))
        self._wake.set()

    async def ask(self, auction_id: int, command: Command) -> Answer:
        """Queue `command` and return its answer."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.submit(auction_id, command, lambda answer: None if answered.done() else answered.set_result(answer))
        return await answered

    def stop(self) -> None:
        """Let `run` end when all that waits has been answered."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Take turns until `stop`. Raises TurnFailed, when a turn failed twice: the gateway lets its sockets go.

        Those who wait then are not told anything: to ask again under the same id is harmless.
        """
        loop = asyncio.get_running_loop()
        told: Callable[[], None] | None = None
        while True:
            work = self._next_work(loop.time())
            if work:
                turn = asyncio.ensure_future(self._turn(work))
                await asyncio.sleep(0)  # the turn's first statements leave; the answers of the last are told meanwhile
                if told:
                    told()
                answers = await self._finish(turn, work)
                told = self._teller(work, answers)
            elif told:
                told()  # which may queue more
                told = None
            elif self._stopping:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _finish(self, turn: "asyncio.Future[list[list[Answer]]]", work: list[Work]) -> list[list[Answer]]:
        try:
            return await turn
        except TurnFailed:
            for each in work:  # what did get in keeps its entry, and its id gets it
                each.fold = self.folds[each.auction_id] = Fold(each.auction_id)
            try:
                return await self._turn(work)
            except TurnFailed:
                for each in work:
                    del self.folds[each.auction_id]
                raise

    def _next_work(self, now: float) -> list[Work]:
        """Take what waits, at most TURN_LIMIT, in order of arrival within each auction."""
        batch = self._queue[:TURN_LIMIT]
        if not batch:
            return []
        del self._queue[:TURN_LIMIT]
        by_auction: dict[int, list[Waiting]] = {}
        for one in batch:
            if now - one.arrived > QUEUE_BOUND_S and isinstance(one.command, BIDDER_COMMANDS):
                self._answer_busy(one)
            else:
                if isinstance(one.command, Disturbed):
                    self._disturbed.discard(one.auction_id)
                by_auction.setdefault(one.auction_id, []).append(one)
        return [Work(each, self._fold(each), by_auction[each]) for each in sorted(by_auction)]

    def _fold(self, auction_id: int) -> Fold:
        if auction_id not in self.folds:
            self.folds[auction_id] = Fold(auction_id)
        return self.folds[auction_id]

    def _answer_busy(self, one: Waiting) -> None:
        """Say so, and have the auction extended if its end is near: nobody loses a lot because we were slow."""
        if one.auction_id not in self._disturbed:
            self._disturbed.add(one.auction_id)
            self._queue.append(Waiting(one.auction_id, Disturbed("busy"), one.arrived, lambda _: None))
            self._wake.set()
        one.tell(Busy())

    def _teller(self, work: list[Work], answers: list[list[Answer]]) -> Callable[[], None]:
        """Return what tells the answers of a committed turn: first to those who asked, then to who watches."""

        def tell() -> None:
            for each, answered in zip(work, answers, strict=True):
                for one, answer in zip(each.waiting, answered, strict=True):
                    one.tell(answer)
            for each, answered in zip(work, answers, strict=True):
                if entries := [answer for answer in answered if isinstance(answer, Entry)]:
                    self._publish(each.fold, entries)

        return tell
