"""English auction in rounds with turns (Prozorro, spec/rulesets.md 2.2.2).

Until the opening everybody hands in a first offer under seal, and may change it or take it back. With the opening the
offers are published; then come rounds in which each bidder has his turn, the lowest offer first and the leader last,
so that nobody can wait until it is too late for the others. In his turn a bidder raises his own offer by at least the
step, or leaves it; he may change his mind until the turn ends, and nothing of it is published before. A single bidder
has won with the opening. Several need the opening and `award_steps` steps.
"""

from auctions.bidding import Bidder, Events, Stage
from auctions.messages import (
    BidderCommand,
    Closed,
    Created,
    Event,
    Kept,
    OfferSealed,
    Opened,
    Paused,
    PlaceBid,
    Refused,
    Rescheduled,
    Resumed,
    Retract,
    Revealed,
    Staged,
)
from auctions.rulesets import Rounds as Rules
from auctions.rulesets import Terms
from auctions.stages import Clocked, right, sealed_right


class Rounds(Clocked):
    """Besides what `Clocked` has: `first_ms` (the first turn), `order` (of the round whose turns are being decided),
    `turns` (turns decided so far), `published` (the first offers are), `since_ms` (when the auction was created).
    """

    __slots__ = ("_rules", "_step_minor", "first_ms", "order", "published", "since_ms", "turns")

    opens_by_bid = False  # the opening publishes the offers, all that arrived before it: only the timer knows those

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        rules = terms.ruleset.rounds
        assert rules is not None
        assert terms.step_minor is not None
        self._rules: Rules = rules
        self._step_minor: int = terms.step_minor
        self.first_ms = terms.opens_at_ms + rules.first_pause_ms
        self.order: list[Bidder] = []
        self.turns = 0
        self.published = False
        self.since_ms = 0

    # --- Stages -------------------------------------------------------------------------------------------------

    def shift(self, by_ms: int) -> None:
        """Move the turns as the end has moved."""
        self.first_ms += by_ms

    def turn_ms(self, turn: int) -> int:
        """Return when a turn begins; they are counted from 0 through all rounds."""
        number, place = divmod(turn, len(self.order))
        round_ms = len(self.order) * self._rules.turn_ms + self._rules.pause_ms
        return self.first_ms + number * round_ms + place * self._rules.turn_ms

    def plan(self) -> tuple[Stage, ...]:
        """Return the time for first offers, the first pause, and every turn with the pauses between the rounds.

        Whose turn it is, is known for the round at hand only: the next one's order follows its offers.
        """
        rules, count = self._rules, len(self.order)
        opened_ms = self.first_ms - rules.first_pause_ms
        stages = [
            Stage("offers", 0, min(self.since_ms, opened_ms), opened_ms),
            Stage("pause", 0, opened_ms, self.first_ms),
        ]
        known = self.turns // count if count else 0
        for turn in range(rules.rounds * count):
            number, place = divmod(turn, count)
            starts_ms = self.turn_ms(turn)
            if number and not place:
                stages.append(Stage("pause", number, starts_ms - rules.pause_ms, starts_ms))
            bidder = self.order[place].number if number == known else None
            stages.append(Stage("turn", turn + 1, starts_ms, starts_ms + rules.turn_ms, bidder=bidder))
        return tuple(stages)

    def due_at_ms(self) -> int | None:
        """Return the next instant at which a timer has something to do, or None: the first opening has its grace."""
        if not self.opened and not self.published and not self.stopped:
            return self.opens_at_ms + self.terms.ruleset.timing.grace_ms
        return super().due_at_ms()

    def stage_due_ms(self) -> int:
        """Return the end of the first turn that has not been decided, or of the auction."""
        if not self.order or self.settled():
            return self.closes_at_ms
        return self.turn_ms(self.turns) + self._rules.turn_ms

    def settled(self) -> bool:
        """Return whether all turns have been decided."""
        return bool(self.order) and self.turns >= len(self.order) * self._rules.rounds

    # --- Deciding -----------------------------------------------------------------------------------------------

    def decide_opening(self) -> Events:
        """Return the first offers, lowest first; and the outcome, when fewer than two bidders made one."""
        if self.published:
            return (Opened(),)
        offers = sorted((each for each in self.bidders if each.sealed_minor), key=sealed_right)
        shown = tuple(Revealed(each.number, each.sealed_minor, each.sealed_order) for each in offers)
        if not offers:
            return (Opened(), Closed("unsold", self.opens_at_ms, None, None, None, None))
        if len(offers) == 1:
            only = offers[0]
            return (Opened(), *shown, Closed("sold", self.opens_at_ms, only.number, only.sealed_minor, None, None))
        rules = self._rules
        length_ms = rules.rounds * len(offers) * rules.turn_ms + (rules.rounds - 1) * rules.pause_ms
        return (Opened(), *shown, Staged("rounds", len(offers), self.first_ms, self.first_ms + length_ms))

    def decide_stage(self) -> Events:
        """Return what was done in the turn that has ended; after the last one the outcome."""
        if self.settled():
            return (self.outcome(),)
        bidder = self.order[self.turns % len(self.order)]
        if bidder.sealed_minor:
            return (Revealed(bidder.number, bidder.sealed_minor, bidder.sealed_order),)
        return (Kept(bidder.number),)

    def decide_early(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what an offer before the opening causes."""
        if self.published:
            return super().decide_early(bidder, command, arrived_ms)
        return self._decide_offer(bidder, command, self.terms.opening_minor)

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        stage = self.stage(arrived_ms)
        if not self.published or stage is None or stage.name == "pause":
            return (self.wait(bidder, arrived_ms),)
        if bidder not in self.order:
            return (Refused(bidder.number, "no_offer", {}),)
        if stage.bidder is None:  # a round whose order is not known yet: the timer is late
            return (self.wait(bidder, arrived_ms),)
        if stage.bidder != bidder.number:
            turn_at_ms = self.acts_at_ms(bidder, arrived_ms)
            if turn_at_ms is None:
                return (Refused(bidder.number, "no_turn_left", {}),)
            return (Refused(bidder.number, "not_your_turn", {"turn_at_ms": turn_at_ms}),)
        return self._decide_offer(bidder, command, bidder.offered_minor + self._step_minor)

    def _decide_offer(self, bidder: Bidder, command: BidderCommand, minimum_minor: int) -> Events:
        if isinstance(command, Retract):
            return self.decide_retract(bidder)
        if not isinstance(command, PlaceBid):
            return (Refused(bidder.number, "wrong_action", {}),)
        if command.maximum_minor is not None:
            return (Refused(bidder.number, "proxy_off", {}),)
        if refused := self.refuse_amount(bidder, command.amount_minor, minimum_minor):
            return (refused,)
        return (OfferSealed(bidder.number, command.amount_minor),)

    def after_outage(self, since_ms: int, at_ms: int) -> Events:
        """Return what follows when nobody could bid: before the offers are published, there is time again to make
        one.
        """
        if self.published:
            return super().after_outage(since_ms, at_ms)
        if self.terms.ruleset.timing.outage == "reschedule":
            return (Paused("outage"),)
        opens_at_ms = at_ms + self.terms.ruleset.timing.resume_least_ms
        return (Rescheduled(opens_at_ms, self.closes_at_ms + opens_at_ms - self.opens_at_ms, "outage"),)

    def left_ms(self, paused_at_ms: int) -> int:
        """Return how long it goes on after a pause; before the offers are published, that is all of it."""
        return super().left_ms(paused_at_ms) if self.published else self.closes_at_ms - self.opens_at_ms

    def _decide_resume(self, at_ms: int) -> Events:
        if self.published or self.paused_at_ms is None or self.paused_at_ms < self.opens_at_ms:
            return super()._decide_resume(at_ms)
        if self.stopped_for_good:
            return (Refused(None, "not_paused", {}),)
        # It was paused before the offers were published, but after the last instant to make one: that comes again.
        opens_at_ms = at_ms + self.terms.ruleset.timing.resume_least_ms
        return (Resumed(opens_at_ms, self.closes_at_ms + opens_at_ms - self.opens_at_ms),)

    def result(self, price_minor: int) -> str:
        """Return whether the leading offer makes a sale."""
        return "sold" if price_minor >= self._award_minor() else "reserve_not_met"

    def outcome(self) -> Closed:
        """Return how the auction ends as it stands: an offer below the award's least is no runner-up either."""
        closed = super().outcome()
        if closed.runner_up_minor is not None and closed.runner_up_minor < self._award_minor():
            closed.runner_up = closed.runner_up_minor = None
        return closed

    def _award_minor(self) -> int:
        return self.terms.opening_minor + self._rules.award_steps * self._step_minor

    # --- Applying -----------------------------------------------------------------------------------------------

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        super().apply(event, at_ms)
        match event:
            case Created():
                self.since_ms = at_ms
            case Opened() if not self.published:
                self.published, self.decided_ms = True, self.opens_at_ms
            case Staged():
                self.order = sorted((each for each in self.bidders if each.offered_order), key=right)
                self.first_ms, self.closes_at_ms = event.starts_at_ms, event.closes_at_ms
            case Revealed() | Kept() if self.order:
                self.turns += 1
                self.decided_ms = self.turn_ms(self.turns - 1) + self._rules.turn_ms
                if self.turns % len(self.order) == 0:
                    self.order.sort(key=right)

    # --- Reading ------------------------------------------------------------------------------------------------

    def minimum_minor(self, bidder: Bidder | None, at_ms: int) -> int:
        """Return his own offer and a step (None: of the one whose turn it is); before the opening the opening price."""
        stage = self.stage(at_ms)
        if bidder is None and stage is not None and stage.bidder is not None:
            bidder = self.bidders[stage.bidder - 1]
        if bidder is None or not bidder.offered_order:
            return self.terms.opening_minor
        return bidder.offered_minor + self._step_minor

    def actions(self, bidder: Bidder, stage: Stage) -> tuple[str, ...]:
        """Return what a bidder may do in a stage, while the auction runs."""
        if stage.name == "offers" or (stage.name == "turn" and stage.bidder == bidder.number):
            return ("seal", "retract") if bidder.sealed_minor else ("seal",)
        return ()
