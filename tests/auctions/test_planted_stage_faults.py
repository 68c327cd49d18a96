# ruff: noqa: E501 - the planted lines are quoted whole
"""Every rule of the formats with stages, broken on purpose, must be noticed by the random play beside the models."""

from __future__ import annotations

from random import Random

import pytest

from tests.auctions.planting import planted
from tests.auctions.stage_game import STAGE_VARIANTS, StageGame, play

GAMES = 150  # for each variant; most faults are found in the first few

FAULTS = {
    # --- what they share
    "equal offers: the later leads": (
        "stages",
        "return bidder.offered_minor, -bidder.offered_order",
        "return bidder.offered_minor, bidder.offered_order",
    ),
    "equal sealed offers: the later leads": (
        "stages",
        "return bidder.sealed_minor, -bidder.sealed_order",
        "return bidder.sealed_minor, bidder.sealed_order",
    ),
    "a stage keeps its last instant": (
        "stages",
        "if stage.starts_at_ms <= at_ms < stage.ends_at_ms:",
        "if stage.starts_at_ms <= at_ms <= stage.ends_at_ms:",
    ),
    "stages go on after the end": ("stages", "if at_ms < self.closes_at_ms:", "if True:"),
    "a stage is decided without grace": (
        "stages",
        "return self.stage_due_ms() + self.terms.ruleset.timing.grace_ms",
        "return self.stage_due_ms()",
    ),
    "a pause leaves a stage too little": ("stages", "return max(0, least_ms - (stage.ends_at_ms - at_ms))", "return 0"),
    "a pause lengthens a stage": (
        "stages",
        "least_ms = min(self.terms.ruleset.timing.resume_least_ms, stage.ends_at_ms - stage.starts_at_ms)",
        "least_ms = self.terms.ruleset.timing.resume_least_ms",
    ),
    "a late stage is run late": ("stages", "if at_ms > due_at_ms + timing.outage_after_ms and not fine:", "if False:"),
    "a moment is an outage": (
        "stages",
        "if at_ms > due_at_ms + timing.outage_after_ms and not fine:",
        "if at_ms > due_at_ms and not fine:",
    ),
    "an outage after the stage counts": ("stages", "since_ms is not None and since_ms >= end_ms", "False"),
    "an outage after the sale counts": ("stages", "reachable or self.settled() or", "reachable or"),
    "close_as_of waits": ("stages", ' or timing.outage == "close_as_of"\n', "\n"),
    "a disturbance after the sale": ("stages", "        if self.settled():\n            return ()\n", ""),
    "what was lost before the opening is given": (
        "stages",
        "since_ms = max(since_ms, self.opens_at_ms)",
        "since_ms = since_ms",
    ),
    "the stage that was missed is not given again": (
        "stages",
        "since_ms = min(since_ms, self.stage_due_ms() - 1)",
        "since_ms = min(since_ms, at_ms)",
    ),
    "an outage gives no time": ("stages", "by_ms = max(0, at_ms - since_ms) + self", "by_ms = self"),
    "an outage leaves a stage too little": (
        "stages",
        "max(0, at_ms - since_ms) + self.top_up_ms(since_ms)",
        "max(0, at_ms - since_ms)",
    ),
    "reschedule goes on": ("stages", 'ruleset.timing.outage == "reschedule":', 'ruleset.timing.outage == "never":'),
    "busy extends a pause": ("stages", 'if stage is None or stage.name == "pause" else', "if stage is None else"),
    "busy before the opening": (
        "stages",
        "not self.opened or not self.opens_at_ms <= arrived_ms < self.closes_at_ms",
        "not self.opened or not arrived_ms < self.closes_at_ms",
    ),
    "new times eat the stages": (
        "stages",
        "return command.opens_at_ms + self.left_ms(self.opens_at_ms if self.paused_at_ms is None else self.paused_at_ms)",
        "return command.closes_at_ms",
    ),
    "a pause over the opening opens in the past": (
        "stages",
        "resumed.opens_at_ms = max(resumed.opens_at_ms, at_ms)  #",
        "pass  #",
    ),
    "a bar keeps what is sealed": (
        "stages",
        "return (OfferSealed(bidder.number, None),) if bidder.sealed_minor else ()",
        "return ()",
    ),
    "a limit below a sealed offer": (
        "stages",
        "return max(bidder.sealed_minor, bidder.offered_minor if bidder is self.leader else 0)",
        "return bidder.offered_minor if bidder is self.leader else 0",
    ),
    "a limit below a leading offer": (
        "stages",
        "return max(bidder.sealed_minor, bidder.offered_minor if bidder is self.leader else 0)",
        "return bidder.sealed_minor",
    ),
    "below the minimum by one": ("stages", "if amount_minor < minimum_minor:", "if amount_minor < minimum_minor - 1:"),
    "the minimum itself is refused": ("stages", "if amount_minor < minimum_minor:", "if amount_minor <= minimum_minor:"),
    "above the limit": ("stages", "if amount_minor > bidder.limit_minor:", "if False:"),
    "the limit itself is refused": (
        "stages",
        "if amount_minor > bidder.limit_minor:",
        "if amount_minor >= bidder.limit_minor:",
    ),
    "a pause ends with itself": ("stages", 'if stage.name != "pause"]\n        later', "]\n        later"),
    "a barred runner-up": ("stages", "and each.offered_order and not each.barred]", "and each.offered_order]"),
    "the lowest is runner-up": ("stages", "second = max(others, key=right, default=None)", "second = min(others, key=right, default=None)"),
    "sold below the reserve": (
        "stages",
        'return "sold" if price_minor >= (self.reserve_minor or 0) else "reserve_not_met"',
        'return "sold"',
    ),
    "what is public stays sealed": ("stages", "bidder.sealed_minor = bidder.sealed_order = 0", "pass"),
    "a retracted offer stays": ("stages", "bidder.sealed_minor = event.amount_minor or 0", "bidder.sealed_minor = event.amount_minor or bidder.sealed_minor"),
    "a sealed offer is public": ("stages", "self.places += 1\n                bidder = self.bidders[event.bidder - 1]\n                bidder.sealed_minor", "self.places += 1\n                bidder = self.bidders[event.bidder - 1]\n                self._offer(bidder, event.amount_minor or 0, self.places)\n                bidder.sealed_minor"),
    "stages are remembered too long": ("stages", "if not isinstance(event, STILL):", "if False:"),
    "the last one leads": ("stages", "if self.leader is None or right(bidder) > right(self.leader):", "if True:"),
    # --- the Dutch clock
    "the clock does not wait": ("dutch", "self.clock_ms += by_ms", "pass"),
    "a step lasts longer": ("dutch", "starts_ms[step] + self.step_ms, price_minor)", "starts_ms[step] + self.step_ms + 1, price_minor)"),
    "two take the same price": ("dutch", "if self.taken and self.leader:", "if False:"),
    "any step will do": ("dutch", "if command.step != stage.number:", "if False:"),
    "any amount will do": ("dutch", "if command.amount_minor != stage.price_minor:", "if False:"),
    "a better amount will do": (
        "dutch",
        "if command.amount_minor != stage.price_minor:",
        "if command.amount_minor < stage.price_minor:",
    ),
    "taken above the limit": (
        "dutch",
        "if refused := self.refuse_amount(bidder, command.amount_minor, command.amount_minor):",
        "if refused := None:",
    ),
    "the clock runs on after the sale": ("dutch", "        return arrived_ms\n", "        return self.closes_at_ms\n"),
    "a sale is not settled": ("dutch", "        return self.taken\n", "        return False\n"),
    "a fixed price can be taken twice": ("dutch", "            self.taken = True\n", ""),
    # --- the gong
    "the first round costs the opening": (
        "gong",
        "(self.leader.offered_minor if self.leader else self.terms.opening_minor) + self.step_minor",
        "(self.leader.offered_minor + self.step_minor) if self.leader else self.terms.opening_minor",
    ),
    "a round outlasts the hard end": (
        "gong",
        "return min(round_ms + self._rules.round_ms, self.hard_end_ms)",
        "return round_ms + self._rules.round_ms",
    ),
    "the round does not wait": ("gong", "self.round_ms += by_ms", "pass"),
    "a leader beats himself": ("gong", "if bidder is self.leader:", "if False:"),
    "a taken round is open": ("gong", "if arrived_ms < self.round_ms:", "if False:"),
    "a round begins a moment later": ("gong", "if arrived_ms < self.round_ms:", "if arrived_ms <= self.round_ms:"),
    "nobody is told of the next round": (
        "gong",
        "if self.leader is None or self.round_ms >= self.closes_at_ms:",
        "if True:",
    ),
    "any amount is a step": ("gong", "over_minor = (amount_minor - price_minor) % self.step_minor", "over_minor = 0"),
    "no pause after a round": ("gong", "next_ms = arrived_ms + self._rules.pause_ms", "next_ms = arrived_ms"),
    # --- the hybrid
    "the sealed phase begins with the hit": ("hybrid", "        return self.closes_at_ms\n\n    def apply", "        return arrived_ms\n\n    def apply"),
    "a sealed bid may equal the price": ("hybrid", "self.winner.offered_minor + 1 if", "self.winner.offered_minor if"),
    "the Dutch winner seals, too": ("hybrid", 'if stage.name == "sealed" and self.winner and bidder is not self.winner:\n            return self._decide', 'if stage.name == "sealed" and self.winner:\n            return self._decide'),
    "anybody makes the best bid": (
        "hybrid",
        'if stage.name == "best" and bidder is self.winner and isinstance(command, PlaceBid):',
        'if stage.name == "best" and isinstance(command, PlaceBid):',
    ),
    "a best bid in the sealed phase": ("hybrid", 'if stage.name == "best" and bidder is self.winner and isinstance', 'if bidder is self.winner and isinstance'),
    "the best bid may equal the best sealed one": ("hybrid", "if self.leader else 0) + over_minor", "if self.leader else 0)"),
    "the share of the best bid is rounded down": (
        "hybrid",
        "-(-self.terms.opening_minor * self._rules.best_bp // 10_000)",
        "self.terms.opening_minor * self._rules.best_bp // 10_000",
    ),
    "two best bids": ("hybrid", "        if bidder is self.leader:\n", "        if False:\n"),
    "sealed bids are not opened": ("hybrid", "if self.winner is None or self.unsealed or not sealed:", "if True:"),
    "without sealed bids it goes on": ("hybrid", " or self.unsealed or not sealed:", " or self.unsealed:"),
    "the clock's end is not the end": ("hybrid", "        if self.winner is None:\n            return self.clock_ms", "        if False:\n            return self.clock_ms"),
    "after the opening one may still seal": ("hybrid", "self.unsealed, self.decided_ms = True, self.unsealed_ms", "self.unsealed = True"),
    "steps go on after the hit": ("hybrid", "        if self.winner:\n            clock = (", "        if False:\n            clock = ("),
    "a maximum under seal": ("hybrid", "if isinstance(command, PlaceBid) and command.maximum_minor is not None:", "if False:"),
    # --- the rounds
    "the turns do not wait": ("rounds", "self.first_ms += by_ms", "pass"),
    "no pause between rounds": ("rounds", "round_ms = len(self.order) * self._rules.turn_ms + self._rules.pause_ms", "round_ms = len(self.order) * self._rules.turn_ms"),
    "the next round's order is known early": ("rounds", "if number == known else None", "if True else None"),
    "the opening has no grace": ("rounds", "return self.opens_at_ms + self.terms.ruleset.timing.grace_ms", "return self.opens_at_ms"),
    "a single bidder has an auction": ("rounds", "if len(offers) == 1:", "if False:"),
    "nobody has an auction": ("rounds", "if not offers:", "if False:"),
    "a round too many": (
        "rounds",
        "length_ms = rules.rounds * len(offers) * rules.turn_ms + (rules.rounds - 1) * rules.pause_ms",
        "length_ms = (rules.rounds + 1) * len(offers) * rules.turn_ms + rules.rounds * rules.pause_ms",
    ),
    "a raise is lost": ("rounds", "        if bidder.sealed_minor:\n            return (Revealed(", "        if False:\n            return (Revealed("),
    "an offer below the opening": ("rounds", "self._decide_offer(bidder, command, self.terms.opening_minor)", "self._decide_offer(bidder, command, 0)"),
    "offers during the first pause": ("rounds", 'stage is None or stage.name == "pause":', "stage is None:"),
    "turns without an offer": ("rounds", "if bidder not in self.order:", "if False:"),
    "anybody's turn": ("rounds", "if stage.bidder != bidder.number:", "if False:"),
    "a raise by less than a step": ("rounds", "bidder.offered_minor + self._step_minor)\n\n    def _decide_offer", "bidder.offered_minor + 1)\n\n    def _decide_offer"),
    "an outage takes the first offers": ("rounds", "opens_at_ms = at_ms + self.terms.ruleset.timing.resume_least_ms\n        return (Rescheduled(", "opens_at_ms = at_ms\n        return (Rescheduled("),
    "a pause takes the first offers": ("rounds", "opens_at_ms = at_ms + self.terms.ruleset.timing.resume_least_ms\n        return (Resumed(", "opens_at_ms = at_ms\n        return (Resumed("),
    "new times before the opening eat the pause": ("rounds", "return super().left_ms(paused_at_ms) if self.published else self.closes_at_ms - self.opens_at_ms", "return super().left_ms(paused_at_ms)"),
    "sold below the award": ("rounds", 'return "sold" if price_minor >= self._award_minor() else "reserve_not_met"', 'return "sold"'),
    "a runner-up below the award": ("rounds", "closed.runner_up_minor < self._award_minor():", "False:"),
    "the award needs no step": ("rounds", "self._rules.award_steps * self._step_minor", "0"),
    "an offer after the offers were published": ("rounds", "self.published, self.decided_ms = True, self.opens_at_ms", "self.published = True"),
    "the highest goes first": ("rounds", "if each.offered_order), key=right)", "if each.offered_order), key=right, reverse=True)"),
    "the order is never made anew": ("rounds", "if self.turns % len(self.order) == 0:", "if False:"),
    "the order changes in a round": ("rounds", "if self.turns % len(self.order) == 0:", "if True:"),
    "a decided turn goes on": ("rounds", "self.decided_ms = self.turn_ms(self.turns - 1) + self._rules.turn_ms", "pass"),
    "a bid opens": ("rounds", "    opens_by_bid = False", "    opens_by_bid = True"),
    "published again": ("rounds", "        if self.published:\n            return (Opened(),)\n", ""),
    # --- the journal, the frame
    "too late, though it waited on us": ("journal", "                return Busy()  #", "                pass  #"),
    "the end is not that of the outcome": ("bidding", "self.closes_at_ms = self.decided_ms = event.closed_at_ms", "self.decided_ms = event.closed_at_ms"),
    "stages stay where they were": ("bidding", "        self.shift(by_ms)\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_rule_is_noticed(fault: str) -> None:
    with planted(FAULTS[fault]) as kit:
        for seed in range(GAMES):
            for name, terms in STAGE_VARIANTS.items():
                try:
                    play(Random(f"{name} {seed}"), StageGame(terms, kit), 50)
                except (AssertionError, kit.JournalBroken, IndexError, KeyError, ZeroDivisionError, TypeError):
                    return
    pytest.fail(f"nobody noticed: {fault}")


def test_without_a_fault_nothing_is_noticed() -> None:
    """The same play on a copy of the core as it is: the failures above are the faults' doing."""
    with planted(("stages", "self.places = 0\n", "self.places = 0\n")) as kit:
        for seed in range(10):
            for name, terms in STAGE_VARIANTS.items():
                play(Random(f"{name} {seed}"), StageGame(terms, kit), 50)
