"""What all formats share: terms, who may bid up to what, time, pause, end. A format says who leads and what comes
next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from auctions.messages import (
    Admit,
    Admitted,
    Bar,
    Barred,
    BidderCommand,
    Close,
    Closed,
    Command,
    Create,
    Disturbed,
    Event,
    Extended,
    LimitSet,
    MaximumSet,
    Opened,
    Pause,
    Paused,
    PlaceBid,
    Refused,
    Reschedule,
    Rescheduled,
    ReserveSet,
    Resume,
    Resumed,
    Retract,
    SetProxy,
    StopProxy,
    Take,
    Tick,
    Withdraw,
    Withdrawn,
)
from auctions.rulesets import LARGEST_MINOR, Terms

Events = tuple[Event, ...]


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
    offered_order: int = (
        0  # its place among all bids of the auction; who has the better right at equal amounts, the format says
    )
    sealed_minor: int = 0  # what he has handed in and nobody has seen yet
    sealed_order: int = 0  # its place among all offers


@dataclass(slots=True)
class Stage:
    """A part of an auction that has stages, from `starts_at_ms` (included) to `ends_at_ms` (not included).

    name: "pause" (nobody may bid), "offers" (sealed, before the opening), "turn", "round", "dutch", "fixed", "sealed",
    "best". number: of the turn or round, counted from 1; of the Dutch step, from 0, as `Take` names it.
    """

    name: str
    number: int
    starts_at_ms: int
    ends_at_ms: int
    price_minor: int | None = None  # what it asks
    bidder: int | None = None  # whose turn it is, where that is known already


@dataclass(slots=True)
class Standing:
    """What everybody may see of an auction after entry `sequence`."""

    sequence: int
    phase: Phase
    price_minor: int | None  # None: nobody has bid
    leader: int | None  # bidder number
    bid_sequence: int | None  # the entry of the newest bid, which made the price; None: nobody has bid
    minimum_minor: int  # least next bid of an ordinary bidder who does not lead
    bids: int  # bids so far, automatic ones included
    bidders: int  # admitted so far
    extensions: int
    opens_at_ms: int
    closes_at_ms: int
    paused_at_ms: int | None
    reason: str | None  # of the pause or withdrawal
    reserve_met: bool | None  # None: there is no reserve beside the opening
    result: str | None  # sold, unsold, reserve_not_met; None: not closed
    stage: Stage | None = None  # None: the format has no stages, or there is none at that instant


@dataclass(slots=True)
class Position:
    """What one bidder may see about himself besides the standing."""

    bidder: int
    state: str  # "leading", "outbid", "none" (has not bid); after the close "won", "lost", or "none" again
    barred: bool
    minimum_minor: (
        int  # his own least next bid: a priority buyer may equal the standing, a leader must exceed his maximum
    )
    maximum_minor: int | None  # the most he is bound to or lets the system bid; None: has not bid
    limit_minor: int
    priority_rank: int | None
    actions: tuple[str, ...] = ()  # what he may do now: "bid", "proxy", "take", "seal", "retract"
    acts_at_ms: int | None = None  # when he may act next, if that is later and known: his turn, the next round
    sealed_minor: int | None = None  # what he handed in and nobody has seen yet


class Auction:
    """State of one auction: `decide` reads, `apply` changes. Made by `formats.start`; `Fold` is the only one to drive
    it.
    """

    __slots__ = (
        "bid_sequence",
        "bidders",
        "by_party",
        "closed",
        "closes_at_ms",
        "decided_ms",
        "extensions",
        "hard_end_ms",
        "opened",
        "opens_at_ms",
        "paused_at_ms",
        "reason",
        "reserve_minor",
        "sequence",
        "stopped",
        "terms",
        "withdrawn",
    )

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.opens_at_ms = terms.opens_at_ms
        self.closes_at_ms = terms.closes_at_ms
        soft_close = terms.ruleset.soft_close
        hard_end_ms = soft_close.hard_end_ms if soft_close else None
        self.hard_end_ms = None if hard_end_ms is None else terms.closes_at_ms + hard_end_ms
        self.reserve_minor = terms.reserve_minor  # of a hidden one: None until ReserveSet
        self.bidders: list[Bidder] = []  # number n stands at n - 1
        self.by_party: dict[int, Bidder] = {}
        self.sequence = 0  # of the entry whose events are applied; set by `Fold`, which numbers them
        self.bid_sequence: int | None = None
        self.extensions = 0  # by bids
        self.opened = False
        self.paused_at_ms: int | None = None
        self.withdrawn = False
        self.stopped = False  # paused, withdrawn or closed: one look on the way of a bid
        self.closed: Closed | None = None
        self.decided_ms = 0  # what arrived before this can change nothing any more: its stage was decided
        self.reason: str | None = None

    # --- What a format says -------------------------------------------------------------------------------------

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        raise NotImplementedError

    def outcome(self) -> Closed:
        """Return how the auction ends as it stands."""
        raise NotImplementedError

    def standing(self, sequence: int, at_ms: int | None = None) -> Standing:
        """Return what everybody may see; `sequence` is the number of the last entry.

        Where stages follow a clock, they are those at `at_ms`; without it, at the last entry.
        """
        raise NotImplementedError

    def position(self, party_id: int, at_ms: int | None = None) -> Position | None:
        """Return where a party stands, or None, when it was not admitted. `at_ms`: as for `standing`."""
        raise NotImplementedError

    def bound_minor(self, bidder: Bidder) -> int:
        """Return the most that a bidder is bound to now or lets the system bid: his limit must not fall below it."""
        raise NotImplementedError

    def stop_proxy(self, bidder: Bidder) -> Events:
        """Return what ends a bidder's automatic bids; nothing, when he has none."""
        raise NotImplementedError

    def opens(self, fact: Mapping[str, Any]) -> bool:
        """Return whether a private fact of this journal stands open to everybody by now (docs/proof.md, Opening).

        `fact`: a private event as plain data; of LimitSet there are two, {"type":"party","bidder","party_id"} and
        {"type":"limit_set","bidder","limit_minor"}. A format that opens more (sealed amounts) says so here.
        """
        if self.closed is None:
            return False
        opens = self.terms.ruleset.opens or ()
        match fact["type"]:
            case "party":
                return "winner" in opens and self.closed.result == "sold" and fact["bidder"] == self.closed.bidder
            case "reserve_set":
                return "reserve" in opens
            case "maximum_set":
                return "maxima" in opens
        return False

    # --- What a format may say otherwise ------------------------------------------------------------------------

    opens_by_bid = True  # a bid that arrives after the opening instant opens the auction, if the timer has not yet

    def decide_early(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes that arrived before the opening."""
        facts = {"opens_at_ms": self.opens_at_ms, "arrived_at_ms": arrived_ms}
        return (Refused(bidder.number, "not_open_yet", facts),)

    def left_ms(self, paused_at_ms: int) -> int:
        """Return how long a paused auction goes on after its pause."""
        ruleset = self.terms.ruleset
        # Time stood still from the pause, or from the opening, when that had not come.
        left_ms = max(0, self.closes_at_ms - max(paused_at_ms, self.opens_at_ms))
        if left_ms <= ruleset.disturbed_window_ms:
            left_ms = max(left_ms, ruleset.timing.resume_least_ms)
        return left_ms

    def rescheduled_end_ms(self, command: Reschedule) -> int:
        """Return when a rescheduled auction ends."""
        return command.closes_at_ms

    def shift(self, by_ms: int) -> None:
        """Move whatever follows a clock: the end has moved by so much."""

    # --- Reading ------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        if self.closed:
            return Phase.CLOSED
        if self.withdrawn:
            return Phase.WITHDRAWN
        if self.paused_at_ms is not None:
            return Phase.PAUSED
        return Phase.OPEN if self.opened else Phase.UPCOMING

    def due_at_ms(self) -> int | None:
        """Return the next instant at which a timer has something to do (Tick before the opening, else Close), or
        None.
        """
        if self.stopped:
            return None
        return self.closes_at_ms + self.terms.ruleset.timing.grace_ms if self.opened else self.opens_at_ms

    # --- Deciding -----------------------------------------------------------------------------------------------

    def decide(self, command: Command, arrived_ms: int, at_ms: int) -> Events:
        """Return what `command` causes, public events first; nothing for a timer with nothing due. Change nothing.

        Args:
            arrived_ms: when the command arrived: decides whether a bid is in time, and how far it extends.
            at_ms: the instant of the entry, not before the one before it: for everything else.
        """
        match command:
            case PlaceBid() | SetProxy() | StopProxy() | Take() | Retract():
                return self._decide_bidder(command, arrived_ms)
            case Tick():
                return (Opened(),) if not self.stopped and not self.opened and at_ms >= self.opens_at_ms else ()
            case Close():
                return self._decide_close(command, at_ms)
            case Disturbed():
                return self._decide_disturbed(command, arrived_ms)
            case Admit():
                return self._decide_admit(command)
            case Bar():
                return self._decide_bar(command)
            case Pause():
                return (self._ended(at_ms) or Paused(command.reason),)
            case Withdraw():
                return (self._ended(at_ms, paused_is_fine=True) or Withdrawn(command.reason),)
            case Resume():
                return self._decide_resume(at_ms)
            case Reschedule():
                return self._decide_reschedule(command, at_ms)
            case Create():
                return (Refused(None, "already_created", {}),)

    def _decide_bidder(self, command: BidderCommand, arrived_ms: int) -> Events:
        bidder = self.by_party.get(command.party_id)
        if bidder is None:
            return (Refused(None, "not_admitted", {}),)
        if bidder.barred:
            return (Refused(bidder.number, "barred", {}),)
        if self.stopped and (refused := self._ended(arrived_ms)):
            refused.bidder = bidder.number
            return (refused,)
        if arrived_ms < self.opens_at_ms:
            return self.decide_early(bidder, command, arrived_ms)
        if arrived_ms >= self.closes_at_ms:
            facts = {"closed_at_ms": self.closes_at_ms, "arrived_at_ms": arrived_ms}
            return (Refused(bidder.number, "too_late", facts),)
        events = self.decide_bid(bidder, command, arrived_ms)
        return events if self.opened or not self.opens_by_bid else (Opened(), *events)

    def _ended(self, at_ms: int, *, paused_is_fine: bool = False) -> Refused | None:
        """Return the refusal of what needs an auction that has not ended (and does not stand still), or None."""
        if self.withdrawn:
            return Refused(None, "withdrawn", {})
        if self.closed:
            return Refused(None, "too_late", {"closed_at_ms": self.closes_at_ms, "arrived_at_ms": at_ms})
        if self.paused_at_ms is not None:
            return None if paused_is_fine else Refused(None, "paused", {"paused_at_ms": self.paused_at_ms})
        if at_ms >= self.closes_at_ms:
            return Refused(None, "too_late", {"closed_at_ms": self.closes_at_ms, "arrived_at_ms": at_ms})
        return None

    def _decide_admit(self, command: Admit) -> Events:
        if self.stopped_for_good:
            return (Refused(None, "withdrawn" if self.withdrawn else "closed", {}),)
        rank, limit_minor = command.priority_rank, command.limit_minor
        if rank is not None and not self.terms.ruleset.bidding.priority_buyers:
            return (Refused(None, "no_priority", {}),)
        if not 0 <= limit_minor <= LARGEST_MINOR:
            return (Refused(None, "limit_out_of_range", {"limit_minor": limit_minor}),)
        bidder = self.by_party.get(command.party_id)
        if bidder is None:
            number = len(self.bidders) + 1
            return (Admitted(number, rank), LimitSet(number, command.party_id, limit_minor))
        if bidder.offered_order and bidder.priority_rank != rank:
            return (Refused(bidder.number, "rank_fixed", {}),)
        if limit_minor < (bound_minor := self.bound_minor(bidder)):
            facts = {"limit_minor": limit_minor, "maximum_minor": bound_minor}
            return (Refused(bidder.number, "limit_in_use", facts),)
        limit = LimitSet(bidder.number, command.party_id, limit_minor)
        if bidder.barred or bidder.priority_rank != rank:
            return (Admitted(bidder.number, rank), limit)
        return (limit,)

    def _decide_bar(self, command: Bar) -> Events:
        if self.stopped_for_good:
            return (Refused(None, "withdrawn" if self.withdrawn else "closed", {}),)
        bidder = self.by_party.get(command.party_id)
        if bidder is None:
            return (Refused(None, "not_admitted", {}),)
        if bidder.barred:
            return (Refused(bidder.number, "barred", {}),)
        return (Barred(bidder.number), *self.stop_proxy(bidder))

    def _decide_close(self, command: Close, at_ms: int) -> Events:
        timing = self.terms.ruleset.timing
        due_at_ms = self.closes_at_ms + timing.grace_ms
        if self.stopped or at_ms < due_at_ms:
            return ()
        since_ms = command.down_since_ms
        # Known: whoever wanted to bid last could not, however soon we were back. Not known: being late must tell.
        was_down = since_ms < self.closes_at_ms if since_ms is not None else at_ms > due_at_ms + timing.outage_after_ms
        if was_down and timing.outage != "close_as_of":
            return self._after_outage(since_ms, at_ms)
        return (self.outcome(),) if self.opened else (Opened(), self.outcome())

    def _decide_disturbed(self, command: Disturbed, arrived_ms: int) -> Events:
        ruleset = self.terms.ruleset
        near_ms = self.closes_at_ms - ruleset.disturbed_window_ms
        if self.stopped or not self.opened or not near_ms <= arrived_ms < self.closes_at_ms:
            return ()
        if command.cause == "outage":
            return () if ruleset.timing.outage == "close_as_of" else self._after_outage(command.since_ms, arrived_ms)
        closes_at_ms = arrived_ms + ruleset.timing.resume_least_ms
        return (Extended(closes_at_ms, self.extensions, "busy"),) if closes_at_ms > self.closes_at_ms else ()

    def _after_outage(self, since_ms: int | None, at_ms: int) -> Events:
        timing = self.terms.ruleset.timing
        if timing.outage == "reschedule":
            return (Paused("outage"),)
        lost_ms = 0 if since_ms is None else max(0, at_ms - max(since_ms, self.opens_at_ms))
        closes_at_ms = max(self.closes_at_ms + lost_ms, at_ms + timing.resume_least_ms)
        extended = Extended(closes_at_ms, self.extensions, "outage")
        return (extended,) if self.opened else (Opened(), extended)

    def _decide_resume(self, at_ms: int) -> Events:
        if self.paused_at_ms is None or self.stopped_for_good:
            return (Refused(None, "not_paused", {}),)
        left_ms = self.left_ms(self.paused_at_ms)
        opens_at_ms = self.opens_at_ms if self.opens_at_ms <= self.paused_at_ms else max(self.opens_at_ms, at_ms)
        return (Resumed(opens_at_ms, max(opens_at_ms, at_ms) + left_ms),)

    def _decide_reschedule(self, command: Reschedule, at_ms: int) -> Events:
        if self.stopped_for_good:
            return (Refused(None, "withdrawn" if self.withdrawn else "closed", {}),)
        if self.paused_at_ms is None and (self.opened or at_ms >= self.opens_at_ms):
            return (Refused(None, "not_paused", {}),)
        opens_at_ms, closes_at_ms = command.opens_at_ms, command.closes_at_ms
        if not at_ms <= opens_at_ms < closes_at_ms:
            return (Refused(None, "bad_times", {"opens_at_ms": opens_at_ms, "closes_at_ms": closes_at_ms}),)
        return (Rescheduled(opens_at_ms, self.rescheduled_end_ms(command), command.reason),)

    @property
    def stopped_for_good(self) -> bool:
        return self.withdrawn or self.closed is not None

    # --- Applying -----------------------------------------------------------------------------------------------

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`; the only place where it changes."""
        match event:
            case Admitted():
                if event.bidder > len(self.bidders):
                    self.bidders.append(Bidder(event.bidder, 0, 0, event.priority_rank))
                bidder = self.bidders[event.bidder - 1]
                bidder.priority_rank, bidder.barred = event.priority_rank, False
            case LimitSet():
                bidder = self.bidders[event.bidder - 1]
                bidder.party_id, bidder.limit_minor = event.party_id, event.limit_minor
                self.by_party[event.party_id] = bidder
            case MaximumSet():
                self.bidders[event.bidder - 1].maximum_minor = event.maximum_minor
            case Barred():
                self.bidders[event.bidder - 1].barred = True
            case ReserveSet():
                self.reserve_minor = event.reserve_minor
            case Opened():
                self.opened = True
            case Extended():
                self._move_end(event.closes_at_ms, keep_hard_end=event.cause == "bid")
                self.extensions = event.extensions
            case Paused():
                self.paused_at_ms, self.reason, self.stopped = at_ms, event.reason, True
            case Resumed():
                self.opens_at_ms = event.opens_at_ms
                self._move_end(event.closes_at_ms)
                self.paused_at_ms, self.reason, self.stopped = None, None, False
            case Rescheduled():
                self.opens_at_ms, self.opened = event.opens_at_ms, False
                self._move_end(event.closes_at_ms)
                self.paused_at_ms, self.reason, self.stopped = None, None, False
            case Withdrawn():
                self.withdrawn, self.reason, self.stopped = True, event.reason, True
            case Closed():
                self.closed, self.stopped = event, True
                self.closes_at_ms = self.decided_ms = event.closed_at_ms

    def _move_end(self, closes_at_ms: int, *, keep_hard_end: bool = False) -> None:
        by_ms = closes_at_ms - self.closes_at_ms
        if self.hard_end_ms is not None and not keep_hard_end:
            self.hard_end_ms += by_ms
        self.closes_at_ms = closes_at_ms
        self.shift(by_ms)
