"""What the formats share whose stages follow a clock: pauses, rounds, turns, falling prices, sealed phases.

The stage at an instant is a pure function of the terms, the events so far and that instant, so a bid is judged by its
arrival and the timer writes an entry only where something must be revealed or fixed: a turn or the sealed phase has
ended, or the auction. That is decided after the same grace as a close, as of the stage's end, so that what arrived
in time is decided first; what comes in later than that finds `decided_ms` and is to be sent again (`Busy`).

Whatever moves the end moves all later stages alike: a pause, new times, an outage, somebody who was answered `busy`.
The stage in which that happened then has at least the ruleset's `resume_least_ms` left, or its whole length. A stage
that would be decided later than `outage_after_ms` is not run late: the ruleset's outage rule applies.

One tie rule for all of them (`right`): the higher amount, and of equal ones the earlier, by number in the journal. The
turns of a round, the leader, the award and the runner-up follow it.
"""

from collections.abc import Mapping
from typing import Any

from auctions.bidding import Auction, Bidder, Events, Position, Stage, Standing
from auctions.messages import (
    Bid,
    Close,
    Closed,
    Command,
    Disturbed,
    Event,
    Extended,
    OfferSealed,
    Opened,
    Paused,
    Refused,
    Reschedule,
    Resumed,
    Revealed,
    Tick,
)
from auctions.rulesets import Terms

STILL = (Refused, OfferSealed)  # what moves no stage


def right(bidder: Bidder) -> tuple[int, int]:
    """Return the key by which published offers are ordered: the greatest leads."""
    return bidder.offered_minor, -bidder.offered_order


def sealed_right(bidder: Bidder) -> tuple[int, int]:
    """Return the same key for offers that are still sealed."""
    return bidder.sealed_minor, -bidder.sealed_order


class Clocked(Auction):
    """Besides what `Auction` has: `leader`, `bids` (published ones), `places` (offers so far, sealed ones included)."""

    __slots__ = ("_stages", "bids", "leader", "places", "revealed", "seen_ms")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.leader: Bidder | None = None
        self.bids = 0
        self.places = 0
        self.seen_ms = 0  # the instant of the last entry
        self.revealed: tuple[tuple[int, int], ...] = ()  # (bidder, amount) of every offer that was sealed and is not
        self._stages: tuple[Stage, ...] | None = None

    # --- What a format says -------------------------------------------------------------------------------------

    def plan(self) -> tuple[Stage, ...]:
        """Return the stages as far as they are known, in order and without gaps."""
        raise NotImplementedError

    def stage_due_ms(self) -> int:
        """Return the end of the first stage that has not been decided, once the auction is open."""
        raise NotImplementedError

    def decide_stage(self) -> Events:
        """Return what the end of that stage causes."""
        raise NotImplementedError

    def settled(self) -> bool:
        """Return whether nobody can do anything any more, so that an outage takes nothing from anybody."""
        return False

    def minimum_minor(self, bidder: Bidder | None, at_ms: int) -> int:
        """Return the least that a bidder (None: any ordinary one) could bid at that instant, or in the next stage."""
        raise NotImplementedError

    def actions(self, bidder: Bidder, stage: Stage) -> tuple[str, ...]:
        """Return what a bidder may do in a stage, while the auction runs."""
        raise NotImplementedError

    def acts_at_ms(self, bidder: Bidder, at_ms: int) -> int | None:
        """Return when the next stage begins in which a bidder may do something; None: there is none, or not known."""
        later = (stage for stage in self.stages() if stage.starts_at_ms > at_ms and self.actions(bidder, stage))
        return next((stage.starts_at_ms for stage in later), None)

    def decide_opening(self) -> Events:
        """Return what the opening causes."""
        return (Opened(),)

    # --- Stages -------------------------------------------------------------------------------------------------

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages as far as they are known, in order and without gaps."""
        if self._stages is None:
            self._stages = self.plan()
        return self._stages

    def stage(self, at_ms: int) -> Stage | None:
        """Return the stage at an instant, or None, when there is none."""
        if at_ms < self.closes_at_ms:
            for stage in self.stages():
                if stage.starts_at_ms <= at_ms < stage.ends_at_ms:
                    return stage
        return None

    def top_up_ms(self, at_ms: int) -> int:
        """Return by how much the stage at an instant must end later, to have the ruleset's least time left."""
        stage = self.stage(at_ms)
        if stage is None:
            return 0
        least_ms = min(self.terms.ruleset.timing.resume_least_ms, stage.ends_at_ms - stage.starts_at_ms)
        return max(0, least_ms - (stage.ends_at_ms - at_ms))

    def due_at_ms(self) -> int | None:
        """Return the next instant at which Tick or Close has something to do, or None."""
        if self.stopped:
            return None
        if not self.opened:
            return self.opens_at_ms
        return self.stage_due_ms() + self.terms.ruleset.timing.grace_ms

    # --- Deciding -----------------------------------------------------------------------------------------------

    def decide(self, command: Command, arrived_ms: int, at_ms: int) -> Events:
        """As `Auction.decide`; a Tick and a Close both do whatever is due."""
        match command:
            case Tick():
                return self._decide_timer(None, at_ms)
            case Close():
                return self._decide_timer(command.down_since_ms, at_ms)
        return super().decide(command, arrived_ms, at_ms)

    def _decide_timer(self, since_ms: int | None, at_ms: int) -> Events:
        due_at_ms = self.due_at_ms()
        if due_at_ms is None or at_ms < due_at_ms:
            return ()
        timing = self.terms.ruleset.timing
        end_ms = self.stage_due_ms() if self.opened else self.opens_at_ms
        reachable = since_ms is not None and since_ms >= end_ms  # we were up until then: bids could come
        fine = reachable or self.settled() or timing.outage == "close_as_of"
        if at_ms > due_at_ms + timing.outage_after_ms and not fine:
            return self.after_outage(end_ms if since_ms is None else since_ms, at_ms)
        return self.decide_stage() if self.opened else self.decide_opening()

    def _decide_disturbed(self, command: Disturbed, arrived_ms: int) -> Events:
        if self.stopped or not self.opened or not self.opens_at_ms <= arrived_ms < self.closes_at_ms:
            return ()
        if self.settled():
            return ()
        if command.cause == "outage":
            if self.terms.ruleset.timing.outage == "close_as_of":
                return ()
            return self.after_outage(arrived_ms if command.since_ms is None else command.since_ms, arrived_ms)
        stage = self.stage(arrived_ms)
        by_ms = 0 if stage is None or stage.name == "pause" else self.top_up_ms(arrived_ms)
        return (Extended(self.closes_at_ms + by_ms, self.extensions, "busy"),) if by_ms else ()

    def after_outage(self, since_ms: int, at_ms: int) -> Events:
        """Return what follows when nobody could bid from `since_ms` to `at_ms`: the stage goes on as it was then."""
        since_ms = max(since_ms, self.opens_at_ms)
        if self.opened:
            since_ms = min(since_ms, self.stage_due_ms() - 1)  # a millisecond of the stage that is to be given again
        by_ms = max(0, at_ms - since_ms) + self.top_up_ms(since_ms)
        events: Events = (Extended(self.closes_at_ms + by_ms, self.extensions, "outage"),)
        if self.terms.ruleset.timing.outage == "reschedule":
            events = (*events, Paused("outage"))
        return events if self.opened else (Opened(), *events)

    def _decide_resume(self, at_ms: int) -> Events:
        events = super()._decide_resume(at_ms)
        if not self.opened and isinstance(resumed := events[0], Resumed):
            resumed.opens_at_ms = max(resumed.opens_at_ms, at_ms)  # it opens now, and not late
        return events

    def left_ms(self, paused_at_ms: int) -> int:
        """Return how long a paused auction goes on after its pause, with the least time for the present stage."""
        from_ms = max(paused_at_ms, self.opens_at_ms)
        return max(0, self.closes_at_ms - from_ms) + self.top_up_ms(from_ms)

    def rescheduled_end_ms(self, command: Reschedule) -> int:
        """Return when a rescheduled auction ends: its stages keep their lengths, whatever end was asked for."""
        return command.opens_at_ms + self.left_ms(self.opens_at_ms if self.paused_at_ms is None else self.paused_at_ms)

    def stop_proxy(self, bidder: Bidder) -> Events:
        """Return what takes back a bidder's sealed offer, on which nobody has acted yet; nothing, when he has none."""
        return (OfferSealed(bidder.number, None),) if bidder.sealed_minor else ()

    def bound_minor(self, bidder: Bidder) -> int:
        """Return the most that a bidder is bound to: his sealed offer, and the leading one."""
        return max(bidder.sealed_minor, bidder.offered_minor if bidder is self.leader else 0)

    def refuse_amount(self, bidder: Bidder, amount_minor: int, minimum_minor: int) -> Refused | None:
        """Return why an amount will not do, by the minimum and the limit, or None."""
        if amount_minor < minimum_minor:
            facts = {"amount_minor": amount_minor, "minimum_minor": minimum_minor}
            return Refused(bidder.number, "below_minimum", facts)
        if amount_minor > bidder.limit_minor:
            facts = {"amount_minor": amount_minor, "limit_minor": bidder.limit_minor}
            return Refused(bidder.number, "above_limit", facts)
        return None

    def decide_retract(self, bidder: Bidder) -> Events:
        """Return what follows when a bidder takes back what he has sealed."""
        return self.stop_proxy(bidder) or (Refused(bidder.number, "nothing_sealed", {}),)

    def opens(self, fact: Mapping[str, Any]) -> bool:
        """As `Auction.opens`; with the outcome every offer that was revealed is opened, and no other one."""
        if fact["type"] == "offer_sealed":
            return self.closed is not None and (fact["bidder"], fact["amount_minor"]) in self.revealed
        return super().opens(fact)

    def wait(self, bidder: Bidder, arrived_ms: int) -> Refused:
        """Return the refusal of what came in a pause: it names the stage after it."""
        rest = [stage for stage in self.stages() if stage.name != "pause"]
        later = (stage.starts_at_ms for stage in rest if stage.starts_at_ms > arrived_ms)
        return Refused(bidder.number, "wait_for_stage", {"starts_at_ms": next(later, self.closes_at_ms)})

    def outcome(self) -> Closed:
        """Return how the auction ends as it stands."""
        leader = self.leader
        if leader is None:
            return Closed("unsold", self.stage_due_ms(), None, None, None, None)
        others = [each for each in self.bidders if each is not leader and each.offered_order and not each.barred]
        second = max(others, key=right, default=None)
        return Closed(
            self.result(leader.offered_minor),
            self.stage_due_ms(),
            leader.number,
            leader.offered_minor,
            second.number if second else None,
            second.offered_minor if second else None,
        )

    def result(self, price_minor: int) -> str:
        """Return whether the leading offer makes a sale."""
        return "sold" if price_minor >= (self.reserve_minor or 0) else "reserve_not_met"

    # --- Applying -----------------------------------------------------------------------------------------------

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        self.seen_ms = at_ms
        if not isinstance(event, STILL):
            self._stages = None
        match event:
            case Bid():
                self.places += 1
                self._offer(self.bidders[event.bidder - 1], event.amount_minor, self.places)
            case Revealed():
                self.places = max(self.places, event.place)
                self.revealed = (*self.revealed, (event.bidder, event.amount_minor))
                bidder = self.bidders[event.bidder - 1]
                bidder.sealed_minor = bidder.sealed_order = 0
                self._offer(bidder, event.amount_minor, event.place)
            case OfferSealed():
                self.places += 1
                bidder = self.bidders[event.bidder - 1]
                bidder.sealed_minor = event.amount_minor or 0
                bidder.sealed_order = self.places if event.amount_minor else 0
            case _:
                super().apply(event, at_ms)

    def _offer(self, bidder: Bidder, amount_minor: int, order: int) -> None:
        self.bids += 1
        bidder.offered_minor, bidder.offered_order = amount_minor, order
        if self.leader is None or right(bidder) > right(self.leader):
            self.leader = bidder
        if bidder is self.leader:
            self.bid_sequence = self.sequence

    # --- Reading ------------------------------------------------------------------------------------------------

    def _shown_ms(self, at_ms: int | None) -> int:
        """Return the instant whose stage is shown: during a pause that at which time stopped."""
        if self.paused_at_ms is not None:
            return self.paused_at_ms
        return self.seen_ms if at_ms is None else at_ms

    def standing(self, sequence: int, at_ms: int | None = None) -> Standing:
        """Return what everybody may see at `at_ms` (None: at the last entry, which is number `sequence`)."""
        at_ms = self._shown_ms(at_ms)
        price_minor = self.leader.offered_minor if self.leader else None
        reserve_met = None
        if self.terms.reserve != "none":
            reserve_met = price_minor is not None and price_minor >= (self.reserve_minor or 0)
        return Standing(
            sequence=sequence,
            phase=self.phase,
            price_minor=price_minor,
            leader=self.leader.number if self.leader else None,
            bid_sequence=self.bid_sequence,
            minimum_minor=self.minimum_minor(None, at_ms),
            bids=self.bids,
            bidders=len(self.bidders),
            extensions=self.extensions,
            opens_at_ms=self.opens_at_ms,
            closes_at_ms=self.closes_at_ms,
            paused_at_ms=self.paused_at_ms,
            reason=self.reason,
            reserve_met=reserve_met,
            result=self.closed.result if self.closed else None,
            stage=None if self.stopped_for_good else self.stage(at_ms),
        )

    def position(self, party_id: int, at_ms: int | None = None) -> Position | None:
        """Return where a party stands at `at_ms` (None: at the last entry), or None, when it was not admitted."""
        bidder = self.by_party.get(party_id)
        if bidder is None:
            return None
        at_ms = self._shown_ms(at_ms)
        leads = bidder is self.leader
        if not bidder.offered_order:
            state = "none"
        elif self.closed:
            state = "won" if leads and self.closed.result == "sold" else "lost"
        else:
            state = "leading" if leads else "outbid"
        actions: tuple[str, ...] = ()
        acts_at_ms = None
        if not self.stopped_for_good and not bidder.barred:
            stage = self.stage(at_ms)
            if stage is not None and self.paused_at_ms is None:
                actions = self.actions(bidder, stage)
            if not actions:
                acts_at_ms = self.acts_at_ms(bidder, at_ms)
        return Position(
            bidder=bidder.number,
            state=state,
            barred=bidder.barred,
            minimum_minor=self.minimum_minor(bidder, at_ms),
            maximum_minor=max(bidder.sealed_minor, bidder.offered_minor) or None,
            limit_minor=bidder.limit_minor,
            priority_rank=bidder.priority_rank,
            actions=actions,
            acts_at_ms=acts_at_ms,
            sealed_minor=bidder.sealed_minor or None,
        )
