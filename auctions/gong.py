"""The gong (spec/rulesets.md 2.2.3): each round has one price; the first who takes it, or more in whole steps, ends it.

The next round begins a pause after that bid's arrival, at the bid and one step. Who came in while the round was taken
is told when the next one begins. A round that nobody takes ends the auction, and so does the hard end, which is the
close of the terms: a pause that reaches it leaves no round.
"""

from auctions.bidding import Bidder, Events, Stage
from auctions.messages import Bid, BidderCommand, Event, PlaceBid, Refused, Staged
from auctions.rulesets import Gong as Rules
from auctions.rulesets import Terms
from auctions.stages import Clocked


class Gong(Clocked):
    """Besides what `Clocked` has: `round` (counted from 1), `round_ms` (when it begins), `step_minor`."""

    __slots__ = ("_rules", "round", "round_ms", "step_minor")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        rules = terms.ruleset.gong
        assert rules is not None
        assert terms.step_minor is not None
        self._rules: Rules = rules
        self.step_minor: int = terms.step_minor
        self.hard_end_ms = terms.closes_at_ms
        self.round = 1
        self.round_ms = terms.opens_at_ms + rules.pause_ms
        self.closes_at_ms = self._end_ms(self.round_ms)

    def _end_ms(self, round_ms: int) -> int:
        """Return when a round that begins at `round_ms` ends, and the auction with it unless somebody takes it."""
        assert self.hard_end_ms is not None
        return min(round_ms + self._rules.round_ms, self.hard_end_ms)

    def shift(self, by_ms: int) -> None:
        """Move the round as the end has moved."""
        self.round_ms += by_ms

    def plan(self) -> tuple[Stage, ...]:
        """Return the pause before the round, and the round, if the hard end leaves it any time."""
        pause = Stage("pause", self.round, self.round_ms - self._rules.pause_ms, min(self.round_ms, self.closes_at_ms))
        if self.round_ms >= self.closes_at_ms:
            return (pause,)
        return (pause, Stage("round", self.round, self.round_ms, self.closes_at_ms, self._price_minor()))

    def _price_minor(self) -> int:
        return (self.leader.offered_minor if self.leader else self.terms.opening_minor) + self.step_minor

    def stage_due_ms(self) -> int:
        """Return the end of the round."""
        return self.closes_at_ms

    def decide_stage(self) -> Events:
        """Return the outcome: nobody took the round."""
        return (self.outcome(),)

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        if not isinstance(command, PlaceBid):
            return (Refused(bidder.number, "wrong_action", {}),)
        if command.maximum_minor is not None:
            return (Refused(bidder.number, "proxy_off", {}),)
        price_minor, amount_minor = self._price_minor(), command.amount_minor
        if bidder is self.leader:
            return (Refused(bidder.number, "already_leading", {"price_minor": bidder.offered_minor}),)
        if arrived_ms < self.round_ms:
            if self.leader is None or self.round_ms >= self.closes_at_ms:
                return (self.wait(bidder, arrived_ms),)
            facts = {"starts_at_ms": self.round_ms, "price_minor": price_minor}
            return (Refused(bidder.number, "round_taken", facts),)
        refused = self.refuse_amount(bidder, amount_minor, price_minor)
        over_minor = (amount_minor - price_minor) % self.step_minor
        if over_minor and (refused is None or refused.code == "above_limit"):
            facts = {
                "amount_minor": amount_minor,
                "opening_minor": self.terms.opening_minor,
                "step_minor": self.step_minor,
                "lower_minor": amount_minor - over_minor,
                "upper_minor": amount_minor - over_minor + self.step_minor,
            }
            refused = Refused(bidder.number, "not_a_step", facts)
        if refused:
            return (refused,)
        next_ms = arrived_ms + self._rules.pause_ms
        return (
            Bid(bidder.number, amount_minor),
            Staged("round", self.round + 1, next_ms, self._end_ms(next_ms)),
        )

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        super().apply(event, at_ms)
        if isinstance(event, Staged):
            self.round, self.round_ms, self.closes_at_ms = event.number, event.starts_at_ms, event.closes_at_ms

    def minimum_minor(self, bidder: Bidder | None, at_ms: int) -> int:
        """Return the price of the round, or of the next one."""
        return self._price_minor()

    def actions(self, bidder: Bidder, stage: Stage) -> tuple[str, ...]:
        """Return what a bidder may do in a stage, while the auction runs."""
        return ("bid",) if stage.name == "round" and bidder is not self.leader else ()
