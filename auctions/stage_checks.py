"""What the offline verifier checks of the formats whose stages follow a clock (auctions/stages.py).

The commands are private, but the public events say what they must have been: the price was taken, a stage ended, time
was added. So each entry is decided again by the rules and must say the same. Limits stay private (here they are without
bound), and so do sealed offers until they are revealed: those are judged when they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from auctions.hybrid import Hybrid
from auctions.messages import (
    Bid,
    Close,
    Closed,
    Command,
    Disturbed,
    Event,
    Extended,
    Kept,
    Opened,
    Paused,
    PlaceBid,
    Refused,
    Reschedule,
    Rescheduled,
    Resume,
    Resumed,
    Revealed,
    Staged,
    Take,
)
from auctions.rulesets import LARGEST_MINOR
from auctions.stages import Clocked

if TYPE_CHECKING:
    from auctions.checks import Check


def staged(check: Check, auction: Clocked, events: list[Event], arrived_ms: int, at_ms: int) -> list[Event]:
    """Judge everything of an entry but admissions, bars, a pause by the platform and a withdrawal."""
    for bidder in auction.bidders[len(auction.by_party) :]:
        bidder.party_id, bidder.limit_minor = bidder.number, LARGEST_MINOR
        auction.by_party[bidder.number] = bidder
    if not any(isinstance(each, Opened | Bid | Revealed | Kept | Staged | Extended | Closed | Resumed | Rescheduled)
               for each in events):  # fmt: skip
        return events
    code, commands = _commands(check, auction, events, arrived_ms, at_ms)
    decided = [_public(auction, command, arrived_ms, at_ms) for command in commands]
    if _outage(auction, events, at_ms):
        code, decided = "extension", [events]
    if not any(_same(auction, events, each) for each in decided):
        said = next((each[0].code for each in decided if each and isinstance(each[0], Refused)), "")
        check.problem(code, f"By the rules it should be otherwise{f': {said}' if said else ''}.")
    for event in events:
        if isinstance(event, Closed):
            check.verdict.closed = event
        auction.apply(event, at_ms)
    return []


def _commands(
    check: Check, auction: Clocked, events: list[Event], arrived_ms: int, at_ms: int
) -> tuple[str, Sequence[Command]]:
    """Return which commands may have caused the events, and the code of a problem when none did."""
    bids = [each for each in events if isinstance(each, Bid)]
    if bids:
        number, amount_minor = bids[0].bidder, bids[0].amount_minor
        if check.bidder(auction, number) is None:
            return "bids", ()
        check.in_time(auction, events, arrived_ms)
        stage = auction.stage(arrived_ms)
        return "bids", (
            PlaceBid("v", number, amount_minor),
            Take("v", number, stage.number if stage else 0, amount_minor),
        )
    for event in events:
        match event:
            case Resumed():
                return "resumed", (Resume("v"),)
            case Rescheduled():
                return "rescheduled", (Reschedule("v", event.opens_at_ms, event.closes_at_ms, event.reason),)
            case Extended(cause="busy"):
                return "extension", (Disturbed("busy"),)
    for event in events:
        if isinstance(event, Revealed):
            _revealed(check, auction, event)
    code = "outcome" if any(isinstance(each, Closed) for each in events) else "stage"
    return code, (Close(None), Close(at_ms))  # whether the platform was up until the end stands in the command


def _revealed(check: Check, auction: Clocked, event: Revealed) -> None:
    """Judge a sealed offer, and let the state know it."""
    if not 1 <= event.bidder <= len(auction.bidders):
        check.problem("bidder", f"Bidder {event.bidder} was not admitted.")
        return
    bidder = auction.bidders[event.bidder - 1]
    least_minor = auction.minimum_minor(bidder, auction.stage_due_ms() - 1)  # in the stage that has ended
    check.need(event.amount_minor >= least_minor, "below_minimum", f"{event.amount_minor} is below {least_minor}.")
    winner = isinstance(auction, Hybrid) and bidder is auction.winner
    check.need(not winner, "bids", "He who has taken the price seals nothing.")
    known = [fact for _, fact in check.verdict.opened if fact["type"] == "offer_sealed"]
    if known:  # what is revealed is the offer that was committed to
        mine = (event.bidder, event.amount_minor)
        fits = any((fact["bidder"], fact["amount_minor"]) == mine for fact in known)
        check.need(fits, "revealed", "The revealed offer is not one that was handed in under seal.")
    bidder.sealed_minor, bidder.sealed_order = event.amount_minor, event.place


def _outage(auction: Clocked, events: list[Event], at_ms: int) -> bool:
    """Return whether the events are those after an outage, whose length stands in the command: its least is checked."""
    timing = auction.terms.ruleset.timing
    if timing.outage == "close_as_of" or auction.stopped:
        return False
    rest = [each for each in events if not isinstance(each, Opened)]
    match rest:
        case [Extended(cause="outage") as extended]:
            return timing.outage == "extend" and _adds(auction, extended)
        case [Extended(cause="outage") as extended, Paused(reason="outage")]:
            return timing.outage == "reschedule" and _adds(auction, extended)
        case [Rescheduled(reason="outage") as moved]:
            length_ms = auction.closes_at_ms - auction.opens_at_ms
            fits = moved.opens_at_ms == at_ms + timing.resume_least_ms
            return timing.outage == "extend" and fits and moved.closes_at_ms == moved.opens_at_ms + length_ms
    return False


def _adds(auction: Clocked, event: Extended) -> bool:
    return event.closes_at_ms >= auction.closes_at_ms and event.extensions == auction.extensions


def _public(auction: Clocked, command: Command, arrived_ms: int, at_ms: int) -> list[Event]:
    events = auction.decide(command, arrived_ms, at_ms)
    return [each for each in events if each.public or isinstance(each, Refused)]


def _same(auction: Clocked, events: list[Event], decided: list[Event]) -> bool:
    """Return whether both are the same; whether a reserve that is still hidden was reached cannot be known."""
    if len(events) != len(decided):
        return False
    secret = auction.terms.reserve == "hidden" and auction.reserve_minor is None
    for event, right in zip(events, decided, strict=True):
        if secret and isinstance(event, Closed) and isinstance(right, Closed) and right.bidder:
            right.result = event.result if event.result in ("sold", "reserve_not_met") else right.result
        if event != right:
            return False
    return True
