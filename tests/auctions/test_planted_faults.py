# ruff: noqa: E501 - the planted lines are quoted whole
"""Every rule broken on purpose must be noticed: one fault at a time is planted into a copy of the core's source, and
the random play beside the model must fail. A fault that goes unnoticed means that the tests prove nothing about that
rule.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.auctions.game import VARIANTS, Game, play
from tests.auctions.planting import planted

GAMES = 250  # for each variant; most faults are found in the first few

# (module, what stands there, what is planted). Each must occur exactly once.
FAULTS = {
    "a limit beyond 64 bits": (
        "bidding",
        "if not 0 <= limit_minor <= LARGEST_MINOR:",
        "if not 0 <= limit_minor:",
    ),
    "a limit below zero": (
        "bidding",
        "if not 0 <= limit_minor <= LARGEST_MINOR:",
        "if not limit_minor <= LARGEST_MINOR:",
    ),
    "the end is inside": ("bidding", "if arrived_ms >= self.closes_at_ms:", "if arrived_ms > self.closes_at_ms:"),
    "the opening is outside": ("bidding", "if arrived_ms < self.opens_at_ms:", "if arrived_ms <= self.opens_at_ms:"),
    "a barred bidder bids": (
        "bidding",
        '        if bidder.barred:\n            return (Refused(bidder.number, "barred", {}),)\n        if self.stopped',
        "        if self.stopped",
    ),
    "bids during a pause": ("bidding", "if self.stopped and (refused", "if self.stopped_for_good and (refused"),
    "lateness by the entry's instant": (
        "bidding",
        "return self._decide_bidder(command, arrived_ms)",
        "return self._decide_bidder(command, at_ms)",
    ),
    "no grace": ("bidding", "if self.stopped or at_ms < due_at_ms:", "if self.stopped or at_ms < self.closes_at_ms:"),
    "closed while paused": (
        "bidding",
        "if self.stopped or at_ms < due_at_ms:",
        "if self.stopped_for_good or at_ms < due_at_ms:",
    ),
    "closes again": (
        "bidding",
        "if self.stopped or at_ms < due_at_ms:",
        "if at_ms < due_at_ms or self.withdrawn or self.paused_at_ms is not None:",
    ),
    "an outage is not noticed": ("bidding", "if was_down and", "if False and"),
    "a moment is an outage": ("bidding", "else at_ms > due_at_ms + timing.outage_after_ms", "else at_ms > due_at_ms"),
    "an outage after the end counts": (
        "bidding",
        "since_ms < self.closes_at_ms if since_ms is not None",
        "True if since_ms is not None",
    ),
    "a short outage does not count": (
        "bidding",
        "since_ms < self.closes_at_ms if since_ms is not None",
        "since_ms < self.closes_at_ms and at_ms > due_at_ms + timing.outage_after_ms if since_ms is not None",
    ),
    "an outage extends by nothing": (
        "bidding",
        "max(self.closes_at_ms + lost_ms, at_ms + timing.resume_least_ms)",
        "at_ms + timing.resume_least_ms",
    ),
    "an outage leaves too little": (
        "bidding",
        "max(self.closes_at_ms + lost_ms, at_ms + timing.resume_least_ms)",
        "max(self.closes_at_ms + lost_ms, at_ms)",
    ),
    "reschedule extends": ("bidding", 'if timing.outage == "reschedule":', 'if timing.outage == "never":'),
    "close_as_of extends": ("bidding", ' and timing.outage != "close_as_of":', ":"),
    "busy long before the end extends": (
        "bidding",
        "not near_ms <= arrived_ms < self.closes_at_ms",
        "not arrived_ms < self.closes_at_ms",
    ),
    "busy after the end extends": (
        "bidding",
        "not near_ms <= arrived_ms < self.closes_at_ms",
        "not near_ms <= arrived_ms",
    ),
    "busy shortens": ("bidding", "if closes_at_ms > self.closes_at_ms else ()", "if closes_at_ms else ()"),
    "a pause eats time": ("bidding", "max(opens_at_ms, at_ms) + left_ms", "self.closes_at_ms"),
    "a pause gives no five minutes": ("bidding", "left_ms = max(left_ms, ruleset.timing.resume_least_ms)", "pass"),
    "every pause gives five minutes": (
        "bidding",
        "if left_ms <= ruleset.disturbed_window_ms:",
        "if left_ms <= ruleset.disturbed_window_ms + 1_000_000:",
    ),
    "a pause before the opening eats the sale": (
        "bidding",
        "self.closes_at_ms - max(paused_at_ms, self.opens_at_ms)",
        "self.closes_at_ms - paused_at_ms",
    ),
    "a pause forgets the opening": (
        "bidding",
        "opens_at_ms = self.opens_at_ms if self.opens_at_ms <= self.paused_at_ms else max(self.opens_at_ms, at_ms)",
        "opens_at_ms = self.opens_at_ms",
    ),
    "rescheduled into the past": (
        "bidding",
        "if not at_ms <= opens_at_ms < closes_at_ms:",
        "if not opens_at_ms < closes_at_ms:",
    ),
    "rescheduled while open": (
        "bidding",
        "if self.paused_at_ms is None and (self.opened or at_ms >= self.opens_at_ms):",
        "if False:",
    ),
    "withdrawn after the end": (
        "bidding",
        "return (self._ended(at_ms, paused_is_fine=True) or Withdrawn(command.reason),)",
        "return (Withdrawn(command.reason),)",
    ),
    "a limit below a leading bid": (
        "bidding",
        "if limit_minor < (bound_minor := self.bound_minor(bidder)):",
        "if limit_minor < (bound_minor := 0):",
    ),
    "a rank changes after a bid": ("bidding", "if bidder.offered_order and bidder.priority_rank != rank:", "if False:"),
    "a rank where there is none": (
        "bidding",
        "if rank is not None and not self.terms.ruleset.bidding.priority_buyers:",
        "if False:",
    ),
    "admitted after the end": (
        "bidding",
        'if self.stopped_for_good:\n            return (Refused(None, "withdrawn" if self.withdrawn else "closed", {}),)\n        rank',
        "rank",
    ),
    "admission keeps the bar": (
        "bidding",
        "bidder.priority_rank, bidder.barred = event.priority_rank, False",
        "bidder.priority_rank = event.priority_rank",
    ),
    "a bar keeps the proxy": (
        "bidding",
        "return (Barred(bidder.number), *self.stop_proxy(bidder))",
        "return (Barred(bidder.number),)",
    ),
    "bidders share a number": ("bidding", "number = len(self.bidders) + 1", "number = max(1, len(self.bidders))"),
    "the hard end moves with extensions": ("bidding", 'keep_hard_end=event.cause == "bid"', "keep_hard_end=False"),
    "the hard end stays after a pause": (
        "bidding",
        "if self.hard_end_ms is not None and not keep_hard_end:",
        "if False:",
    ),
    "opens early": (
        "bidding",
        "not self.opened and at_ms >= self.opens_at_ms else ()",
        "not self.opened and at_ms >= self.opens_at_ms - 1 else ()",
    ),
    "a bid does not open": (
        "bidding",
        "return events if self.opened or not self.opens_by_bid else (Opened(), *events)",
        "return events",
    ),
    "below the minimum by one": ("english", "if asked_minor < minimum_minor:", "if asked_minor < minimum_minor - 1:"),
    "the minimum itself is refused": ("english", "if asked_minor < minimum_minor:", "if asked_minor <= minimum_minor:"),
    "the first bid must beat the opening": (
        "english",
        "self.minimum_minor = terms.opening_minor",
        "self.minimum_minor = terms.opening_minor + 1",
    ),
    "any amount is a step": ("english", "if step_minor := self._step_minor:", "if step_minor := None:"),
    "only the amount must be a step": (
        "english",
        "for wanted_minor in (asked_minor, maximum_minor):",
        "for wanted_minor in (asked_minor,):",
    ),
    "steps are not counted from the opening": (
        "english",
        "(wanted_minor - opening_minor) % step_minor",
        "wanted_minor % step_minor",
    ),
    "the limit is passed by one": (
        "english",
        "if maximum_minor > bidder.limit_minor:",
        "if maximum_minor > bidder.limit_minor + 1:",
    ),
    "the limit itself is refused": (
        "english",
        "if maximum_minor > bidder.limit_minor:",
        "if maximum_minor >= bidder.limit_minor:",
    ),
    "the limit binds only the amount": (
        "english",
        "if maximum_minor > bidder.limit_minor:",
        "if asked_minor > bidder.limit_minor:",
    ),
    "a leader bids against himself": ("english", "elif not self._rules.leader_may_raise:", "elif False:"),
    "equal maxima: the later leads": (
        "english",
        "maximum_minor <= leader.maximum_minor and",
        "maximum_minor < leader.maximum_minor and",
    ),
    "an equal rank may match": ("english", "rank < leader.priority_rank", "rank <= leader.priority_rank"),
    "any rank may match": ("english", "(leader.priority_rank is None or rank < leader.priority_rank)", "rank"),
    "nobody may match": (
        "english",
        "            return self.price_minor\n        return self.minimum_minor",
        "            return self.minimum_minor\n        return self.minimum_minor",
    ),
    "the increment of the winner's maximum": (
        "english",
        "min(maximum_minor, rival_minor + self.terms.increment_minor(rival_minor))",
        "min(maximum_minor, rival_minor + self.terms.increment_minor(maximum_minor))",
    ),
    "always a full increment": (
        "english",
        "min(maximum_minor, rival_minor + self.terms.increment_minor(rival_minor))",
        "rival_minor + self.terms.increment_minor(rival_minor)",
    ),
    "the winner pays his maximum": (
        "english",
        "min(maximum_minor, rival_minor + self.terms.increment_minor(rival_minor))",
        "maximum_minor",
    ),
    "the reserve does not lift the price": ("english", "if maximum_minor >= reserve_minor:", "if False:"),
    "the reserve must be passed": (
        "english",
        "if maximum_minor >= reserve_minor:",
        "if maximum_minor > reserve_minor:",
    ),
    "sold below the reserve": ("english", '"sold" if self.price_minor >= (self.reserve_minor or 0)', '"sold" if True'),
    "the reserve itself does not sell": (
        "english",
        '"sold" if self.price_minor >= (self.reserve_minor or 0)',
        '"sold" if self.price_minor > (self.reserve_minor or 0)',
    ),
    "a held leader does not move": (
        "english",
        "if price_minor > self.price_minor:",
        "if price_minor > self.price_minor and amount_minor:",
    ),
    "a leader's open bid drops his maximum": (
        "english",
        "maximum_minor = max(maximum_minor, bidder.maximum_minor)",
        "pass",
    ),
    "the window's edge is outside": (
        "english",
        "arrived_ms < self.closes_at_ms - soft_close.window_ms",
        "arrived_ms <= self.closes_at_ms - soft_close.window_ms",
    ),
    "any bid extends": ("english", "arrived_ms < self.closes_at_ms - soft_close.window_ms", "False"),
    "extended from the end": (
        "english",
        'arrived_ms if soft_close.anchor == "from_bid" else',
        "self.closes_at_ms if soft_close else",
    ),
    "extended from the bid": (
        "english",
        'arrived_ms if soft_close.anchor == "from_bid" else self.closes_at_ms',
        "arrived_ms",
    ),
    "one extension too many": (
        "english",
        "self.extensions >= soft_close.most_extensions",
        "self.extensions > soft_close.most_extensions",
    ),
    "past the hard end": ("english", "closes_at_ms = min(closes_at_ms, self.hard_end_ms)", "pass"),
    "the end moves back": ("english", "if closes_at_ms <= self.closes_at_ms:", "if False:"),
    "the countdown starts again": (
        "english",
        "if countdown_ms is not None and self.leader is None:",
        "if countdown_ms is not None:",
    ),
    "no countdown": ("english", "if countdown_ms is not None and self.leader is None:", "if False:"),
    "stop takes back what was bid": (
        "english",
        "return (MaximumSet(bidder.number, self.price_minor),)",
        "return (MaximumSet(bidder.number, self.price_minor - 1),)",
    ),
    "a binding maximum is taken back": (
        "english",
        'if self._rules.proxy == "always":\n            return (Refused',
        "if False:\n            return (Refused",
    ),
    "the leader is his own runner-up": (
        "english",
        "if each is not leader and each.offered_order",
        "if each.offered_order",
    ),
    "a barred runner-up": ("english", "and each.offered_order and not each.barred]", "and each.offered_order]"),
    "the runner-up is the first": (
        "english",
        "key=lambda each: (each.offered_minor, each.offered_order)",
        "key=lambda each: (-each.offered_order,)",
    ),
    "the worse right is runner-up": (
        "english",
        "key=lambda each: (each.offered_minor, each.offered_order)",
        "key=lambda each: (each.offered_minor, -each.offered_order)",
    ),
    "the beaten maximum is forgotten": ("english", "self.rival_minor = self.price_minor  #", "pass  #"),
    "a maximum without a proxy rule": (
        "english",
        '            elif proxy == "off":\n                return (Refused(bidder.number, "proxy_off", {}),)\n            elif (maximum',
        "            elif (maximum",
    ),
    "a maximum below the amount": (
        "english",
        "(maximum_minor := command.maximum_minor) < amount_minor:",
        "(maximum_minor := command.maximum_minor) < 0:",
    ),
    "the same id bids twice": (
        "journal",
        "if answers is not None and (found := answers.get(command_id)) is not None:",
        "if False:\n                found = 0",
    ),
    "other content gets the first answer": (
        "journal",
        "if found & DIGEST == hash(text) & DIGEST else KeyReused(first)",
        "if True else KeyReused(first)",
    ),
    "ids are shared among parties": ("journal", "scope = command.scope", "scope = 1"),
    "ids are not kept on replay": (
        "journal",
        "if entry.command_id:\n            self._remember",
        "if False:\n            self._remember",
    ),
    "time runs backwards": ("journal", "at_ms = self.at_ms  # time never", "pass  # time never"),
    "the arrival is not recorded": ("journal", 'arrived = "" if at_ms == arrived_ms else', 'arrived = "" if True else'),
    "the private part is not in the hash": (
        "journal",
        "sha256(previous + public.encode() + commitment).digest()",
        "sha256(previous + public.encode()).digest()",
    ),
    "the chain is cut": (
        "journal",
        "sha256(previous + public.encode() + commitment).digest()",
        "sha256(bytes(32) + public.encode() + commitment).digest()",
    ),
    "too late, though it waited on us": ("journal", "                return Busy()  #", "                pass  #"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_rule_is_noticed(fault: str) -> None:
    with planted(FAULTS[fault]) as kit:
        for seed in range(GAMES):
            for name, terms in VARIANTS.items():
                try:
                    play(Random(f"{name} {seed}"), Game(terms, kit), 40)
                except (AssertionError, kit.JournalBroken):
                    return
    pytest.fail(f"nobody noticed: {fault}")


def test_without_a_fault_nothing_is_noticed() -> None:
    """The same play on a copy of the core as it is: the failures above are the faults' doing."""
    with planted(("bidding", "self.extensions = 0", "self.extensions = 0")) as kit:
        for seed in range(20):
            for name, terms in VARIANTS.items():
                play(Random(f"{name} {seed}"), Game(terms, kit), 40)
