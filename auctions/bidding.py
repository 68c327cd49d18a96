"""What all formats share: terms, who may bid up to what, time, pause, end. A format says who leads and what comes next."""

from dataclasses import dataclass
from enum import StrEnum

from auctions.messages import Command, Event
from auctions.rulesets import Terms


class Phase(StrEnum):
    UPCOMING = "upcoming"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"  # with an outcome
    WITHDRAWN = "withdrawn"


@dataclass(slots=True)
class Bidder:
    """An admitted party. `maximum_minor` is the most he is bound to or lets the system bid, 0 before his first bid."""

    number: int
    party_id: int
    limit_minor: int
    priority_rank: int | None
    barred: bool = False
    maximum_minor: int = 0
    offered_minor: int = 0  # his highest bid that everybody has seen
    offered_order: int = 0  # its place among all bids of the auction; at equal amounts the later one had the better right


@dataclass(slots=True)
class Standing:
    """What everybody may see of an auction after entry `sequence`."""

    sequence: int
    phase: Phase
    price_minor: int | None  # None: nobody has bid
    leader: int | None  # bidder number
    minimum_minor: int  # least next bid of an ordinary bidder who does not lead
    bids: int  # bids so far, automatic ones included
    bidders: int  # admitted so far
    extensions: int
    opens_at_ms: int
    closes_at_ms: int
    paused_at_ms: int | None
    reason: str | None  # of the pause or withdrawal
    reserve_met: bool | None  # None: there is no reserve
    result: str | None  # sold, unsold, reserve_not_met; None: not closed


@dataclass(slots=True)
class Position:
    """What one bidder may see about himself besides the standing."""

    bidder: int
    state: str  # "leading", "outbid", "none" (has not bid); at the end "won" or "lost"; "barred"
    minimum_minor: int  # his own least next bid: a priority buyer may equal the standing, a leader must exceed his maximum
    maximum_minor: int | None  # the most he is bound to or lets the system bid; None: has not bid
    limit_minor: int
    priority_rank: int | None


class Auction:
    """State of one auction: `decide` reads, `apply` changes. Made by `formats.start`; `Fold` is the only one to drive it.

    Readable by others: `terms`, `phase`, `opens_at_ms`, `closes_at_ms`, `closed` (the Closed event, or None), `bidders`
    (list, bidder n at n - 1), `by_party` (party id -> Bidder).
    """

    terms: Terms

    def decide(self, command: Command, at_ms: int) -> tuple[Event, ...]:
        """Return what `command`, arrived at `at_ms`, causes, public events first; nothing for a timer with nothing due."""
        raise NotImplementedError

    def apply(self, event: Event) -> None:
        """Change the state by `event`; the only place where it changes."""
        raise NotImplementedError

    def standing(self, sequence: int) -> Standing:
        raise NotImplementedError

    def position(self, party_id: int) -> Position | None:
        """Return where a party stands, or None, when it was not admitted."""
        raise NotImplementedError

    def due_at_ms(self) -> int | None:
        """Return the next instant at which a timer has something to do (Tick before the opening, else Close), or None."""
        raise NotImplementedError
