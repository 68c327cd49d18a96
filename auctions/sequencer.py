"""What waits on this node goes to the journals in turns; answers are told after the commit.

asyncio only. The turn itself, one database transaction, is passed in by `web`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from auctions.journal import Answer, Fold
from auctions.messages import Command

TURN_LIMIT = 256  # commands in one turn, over all auctions: more does not make it faster (live-recipe.md 2)
QUEUE_LIMIT = 10_000  # commands waiting: about half a second's worth; beyond it the answer is `busy`
QUEUE_BOUND_MS = 1_000  # a command that has waited longer is answered `busy`; equals the grace before a close


@dataclass(slots=True)
class Waiting:
    """A command in the queue."""

    command: Command
    arrived: float  # the event loop's clock, seconds
    tell: Callable[[Answer], None]  # called once, after the commit; must not raise, must not wait


@dataclass(slots=True)
class Work:
    """What one turn does for one auction: bring `fold` up to date, then take each of `waiting` in order."""

    auction_id: int
    fold: Fold  # may be empty (sequence 0) or behind: the turn follows the entries after fold.sequence first
    waiting: list[Waiting]


# A turn: one transaction for all of `work` (which is in order of auction id, for the locks). Returns one list of answers per
# Work, in order of its `waiting`; committed when it returns. Raises TurnFailed (anything else is a bug and ends `run`).
Turn: TypeAlias = Callable[[Sequence[Work]], Awaitable[list[list[Answer]]]]
