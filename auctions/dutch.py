"""The Dutch clock: the price falls step by step until somebody takes it; and a fixed price, which has one step.

The step at a bid's arrival is the price that it can take, whenever it is decided. Who takes one names the step that he
saw; if the clock had moved on when he arrived, he is refused, and never buys at a price that he did not see. Of several
who took the same step the lowest number in the journal has it. Bidding ends with it; the outcome follows after the
grace, as every close.
"""

from auctions.bidding import Bidder, Events, Stage
from auctions.messages import Bid, BidderCommand, Event, Refused, Staged, Take
from auctions.rulesets import Terms
from auctions.stages import Clocked


class Dutch(Clocked):
    """Besides what `Clocked` has: `prices` (highest first), `clock_ms` (when the first of them begins), `taken`."""

    __slots__ = ("clock_ms", "pause_ms", "prices", "step_ms", "taken")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        rules = terms.ruleset.dutch or terms.ruleset.hybrid
        self.pause_ms, self.step_ms = (rules.first_pause_ms, rules.step_ms) if rules else (0, 0)
        self.prices = terms.falling_minor
        self.clock_ms = terms.opens_at_ms + self.pause_ms
        self.taken = False

    def shift(self, by_ms: int) -> None:
        """Move the clock as the end has moved."""
        self.clock_ms += by_ms

    def plan(self) -> tuple[Stage, ...]:
        """Return the pause before the clock, and each price with its time."""
        starts_ms = [self.clock_ms + step * self.step_ms for step in range(len(self.prices))]
        return (
            Stage("pause", 0, self.clock_ms - self.pause_ms, self.clock_ms),
            *(
                Stage("dutch", step, starts_ms[step], starts_ms[step] + self.step_ms, price_minor)
                for step, price_minor in enumerate(self.prices)
            ),
        )

    def stage_due_ms(self) -> int:
        """Return the end of the clock, or the instant at which the price was taken."""
        return self.closes_at_ms

    def settled(self) -> bool:
        """Return whether the price was taken."""
        return self.taken

    def decide_stage(self) -> Events:
        """Return the outcome."""
        return (self.outcome(),)

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        if not isinstance(command, Take):
            return (Refused(bidder.number, "wrong_action", {}),)
        if self.taken and self.leader:  # he arrived before the one who was first in the journal
            return (Refused(bidder.number, "taken", {"price_minor": self.leader.offered_minor}),)
        return self.decide_take(bidder, command, arrived_ms)

    def decide_take(self, bidder: Bidder, command: Take, arrived_ms: int) -> Events:
        """Return what follows when the first takes the price at his arrival."""
        stage = self.stage(arrived_ms)
        if stage is None or stage.price_minor is None:
            return (self.wait(bidder, arrived_ms),)
        if command.step != stage.number:
            facts = {"step": command.step, "current_step": stage.number, "price_minor": stage.price_minor}
            return (Refused(bidder.number, "step_moved", facts),)
        if command.amount_minor != stage.price_minor:
            facts = {"amount_minor": command.amount_minor, "price_minor": stage.price_minor}
            return (Refused(bidder.number, "not_the_price", facts),)
        if refused := self.refuse_amount(bidder, command.amount_minor, command.amount_minor):
            return (refused,)
        taken = Staged("taken", stage.number, arrived_ms, self.end_when_taken_ms(arrived_ms))
        return (Bid(bidder.number, command.amount_minor), taken)

    def end_when_taken_ms(self, arrived_ms: int) -> int:
        """Return when the auction ends whose price was taken."""
        return arrived_ms

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        super().apply(event, at_ms)
        if isinstance(event, Staged):
            self.taken = True
            self.closes_at_ms = event.closes_at_ms

    def minimum_minor(self, bidder: Bidder | None, at_ms: int) -> int:
        """Return the price at that instant: before the clock the first, after it the last."""
        stage = self.stage(at_ms)
        if stage is not None and stage.price_minor is not None:
            return stage.price_minor
        if self.leader:
            return self.leader.offered_minor
        return self.prices[0] if at_ms < self.clock_ms else self.prices[-1]

    def actions(self, bidder: Bidder, stage: Stage) -> tuple[str, ...]:
        """Return what a bidder may do in a stage, while the auction runs."""
        return ("take",) if stage.price_minor is not None and not self.taken else ()


class FixedPrice(Dutch):
    """One price, the opening, from the opening to the end; the first has it."""

    __slots__ = ()

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.prices = (terms.opening_minor,)
        self.step_ms = terms.closes_at_ms - terms.opens_at_ms

    def plan(self) -> tuple[Stage, ...]:
        """Return the one stage."""
        return (Stage("fixed", 0, self.clock_ms, self.clock_ms + self.step_ms, self.prices[0]),)
