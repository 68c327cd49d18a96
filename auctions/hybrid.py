"""A Dutch clock, then sealed bids above its price, then a best bid: Prozorro's insider (spec/rulesets.md 2.2.4).

Who takes the falling price is the Dutch winner. In the sealed phase all others may bid above it, the last bid of each
counts and may be taken back; the amounts become public when the phase has ended, the best last. Then the Dutch winner
alone may bid once more: at least the best sealed bid and a share of the opening. Nobody sealed: he has it at his price.
The sealed phase and the best bid keep the times that were planned, also when the price was taken early.
"""

from auctions.bidding import Bidder, Events, Stage
from auctions.dutch import Dutch
from auctions.messages import Bid, BidderCommand, Event, OfferSealed, PlaceBid, Refused, Retract, Revealed, Staged, Take
from auctions.rulesets import Hybrid as Rules
from auctions.rulesets import Terms
from auctions.stages import sealed_right


class Hybrid(Dutch):
    """Besides what `Dutch` has: `winner` (who took the price), `unsealed` (the sealed bids are public)."""

    __slots__ = ("_rules", "unsealed", "winner")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        rules = terms.ruleset.hybrid
        assert rules is not None
        self._rules: Rules = rules
        self.winner: Bidder | None = None
        self.unsealed = False

    @property
    def sealed_ms(self) -> int:
        """When the sealed phase begins."""
        return self.clock_ms + len(self.prices) * self.step_ms + self._rules.pause_ms

    @property
    def unsealed_ms(self) -> int:
        """When the sealed phase ends."""
        return self.sealed_ms + self._rules.sealed_ms

    def plan(self) -> tuple[Stage, ...]:
        """Return the clock (until it was stopped), the sealed phase and the best bid, and the pauses between them."""
        rules, begin_ms, end_ms = self._rules, self.sealed_ms, self.unsealed_ms
        best_ms = end_ms + rules.pause_ms
        clock = super().plan()
        before_ms = clock[-1].ends_at_ms
        if self.winner:
            clock = (Stage("pause", 0, clock[0].starts_at_ms, before_ms),)
        return (
            *clock,
            Stage("pause", 1, before_ms, begin_ms),
            Stage("sealed", 1, begin_ms, end_ms),
            Stage("pause", 2, end_ms, best_ms),
            Stage("best", 1, best_ms, best_ms + rules.best_ms),
        )

    def stage_due_ms(self) -> int:
        """Return the end of the first stage that has not been decided: of the clock, the sealed phase, the best bid."""
        if self.winner is None:
            return self.clock_ms + len(self.prices) * self.step_ms
        return self.closes_at_ms if self.unsealed else self.unsealed_ms

    def settled(self) -> bool:
        """Return False: until the end of the best bid somebody may have something to do."""
        return False

    def decide_stage(self) -> Events:
        """Return the sealed bids, the best last, when there are any and their time has ended; else the outcome."""
        sealed = sorted((each for each in self.bidders if each.sealed_minor), key=sealed_right)
        if self.winner is None or self.unsealed or not sealed:
            return (self.outcome(),)
        return tuple(Revealed(each.number, each.sealed_minor, each.sealed_order) for each in sealed)

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        if not isinstance(command, Take | PlaceBid | Retract):
            return (Refused(bidder.number, "wrong_action", {}),)
        if isinstance(command, PlaceBid) and command.maximum_minor is not None:
            return (Refused(bidder.number, "proxy_off", {}),)
        if self.winner and isinstance(command, Take):
            return (Refused(bidder.number, "taken", {"price_minor": self.winner.offered_minor}),)
        stage = self.stage(arrived_ms)
        if stage is None or stage.name == "pause":
            return (self.wait(bidder, arrived_ms),)
        if stage.name == "dutch" and isinstance(command, Take):
            return self.decide_take(bidder, command, arrived_ms)
        if stage.name == "sealed" and self.winner and bidder is not self.winner:
            return self._decide_sealed(bidder, command)
        if stage.name == "best" and bidder is self.winner and isinstance(command, PlaceBid):
            return self._decide_best(bidder, command)
        return (Refused(bidder.number, "not_in_stage", {}),)

    def _decide_sealed(self, bidder: Bidder, command: BidderCommand) -> Events:
        if isinstance(command, Retract):
            return self.decide_retract(bidder)
        if not isinstance(command, PlaceBid):
            return (Refused(bidder.number, "not_in_stage", {}),)
        amount_minor = command.amount_minor
        if refused := self.refuse_amount(bidder, amount_minor, self._least_sealed_minor()):
            return (refused,)
        return (OfferSealed(bidder.number, amount_minor),)

    def _decide_best(self, bidder: Bidder, command: PlaceBid) -> Events:
        if bidder is self.leader:
            facts = {"price_minor": bidder.offered_minor}
            return (Refused(bidder.number, "already_leading", facts),)
        if refused := self.refuse_amount(bidder, command.amount_minor, self._least_best_minor()):
            return (refused,)
        return (Bid(bidder.number, command.amount_minor),)

    def _least_sealed_minor(self) -> int:
        return self.winner.offered_minor + 1 if self.winner else self.prices[-1] + 1

    def _least_best_minor(self) -> int:
        """Return the best sealed bid and `best_bp` of the opening, a part of a minor unit counting as a whole one."""
        over_minor = -(-self.terms.opening_minor * self._rules.best_bp // 10_000)
        return (self.leader.offered_minor if self.leader else 0) + over_minor

    def end_when_taken_ms(self, arrived_ms: int) -> int:
        """Return when the auction ends whose price was taken: as planned."""
        return self.closes_at_ms

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        super().apply(event, at_ms)
        if isinstance(event, Staged):
            self.winner = self.leader
        elif isinstance(event, Revealed):
            self.unsealed, self.decided_ms = True, self.unsealed_ms

    def minimum_minor(self, bidder: Bidder | None, at_ms: int) -> int:
        """Return the price of the clock; once it was taken, the least sealed bid, and then the least best bid."""
        if self.winner is None:
            return super().minimum_minor(bidder, at_ms)
        if self.unsealed or at_ms >= self.unsealed_ms:
            return self._least_best_minor()
        return self._least_sealed_minor()

    def actions(self, bidder: Bidder, stage: Stage) -> tuple[str, ...]:
        """Return what a bidder may do in a stage, while the auction runs."""
        if stage.name == "sealed" and self.winner and bidder is not self.winner:
            return ("seal", "retract") if bidder.sealed_minor else ("seal",)
        if stage.name == "best":
            return ("bid",) if bidder is self.winner and bidder is not self.leader else ()
        return super().actions(bidder, stage)
