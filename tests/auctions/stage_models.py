"""The rules of the formats with stages said again, too simple to be wrong.

Everything is kept on a clock of its own that stands still whenever the auction's does: a real instant less `offset`.
On that clock the plan never moves, so nothing is ever shifted. The stages, the leader and whose turn it is are made
anew from the offers each time that somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from auctions.messages import (
    Admit,
    Bar,
    Close,
    Command,
    Disturbed,
    Pause,
    PlaceBid,
    Reschedule,
    Resume,
    Retract,
    SetProxy,
    StopProxy,
    Take,
    Tick,
    Withdraw,
)
from auctions.rulesets import Terms

BIDS = (PlaceBid, SetProxy, StopProxy, Take, Retract)


@dataclass
class Part:
    name: str
    number: int
    start: int
    end: int
    price: int | None = None
    party: int | None = None


@dataclass
class Who:
    number: int
    limit: int
    barred: bool = False


@dataclass
class Offer:
    party: int
    amount: int
    turn: int  # the number of its command: lower is earlier


@dataclass
class StageModel:
    """What all of them share; a format fills in the last four."""

    terms: Terms
    parties: dict[int, Who] = field(default_factory=dict)
    shown: list[Offer] = field(default_factory=list)  # public
    sealed: dict[int, Offer] = field(default_factory=dict)
    offset: int = 0
    opened: bool = False
    paused_at: int | None = None
    withdrawn: bool = False
    result: tuple[Any, ...] | None = None
    closed_at: int = 0
    decided: int = 0
    turn: int = 0
    ended: int | None = None  # on the model's clock: when the price was taken

    def __post_init__(self) -> None:
        self.opens = self.terms.opens_at_ms
        self.timing = self.terms.ruleset.timing

    # --- formats

    def parts(self) -> list[Part]:
        raise NotImplementedError

    def due(self) -> int:
        """When the first part ends that was not decided yet, on the model's clock."""
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError

    def bid(self, command: Command, party: int, part: Part | None, now: int) -> str:
        raise NotImplementedError

    def settled(self) -> bool:
        return False

    def end(self) -> int:
        """The end of the auction on the model's clock."""
        return self.parts()[-1].end if self.ended is None else self.ended

    # --- what it is now

    def best(self) -> list[Offer]:
        """Each bidder's best offer that is public, the leading one first: the higher, of equal ones the earlier."""
        last: dict[int, Offer] = {}
        for offer in self.shown:
            last[offer.party] = offer
        return sorted(last.values(), key=lambda offer: (-offer.amount, offer.turn))

    def leader(self) -> int | None:
        best = self.best()
        return best[0].party if best else None

    def price(self) -> int | None:
        best = self.best()
        return best[0].amount if best else None

    @property
    def closes(self) -> int:
        return self.closed_at if self.result else self.end() + self.offset

    def part(self, real: int) -> Part | None:
        if real >= self.closes:
            return None
        now = real - self.offset
        return next((part for part in self.parts() if part.name != "later" and part.start <= now < part.end), None)

    def stopped(self) -> bool:
        return self.withdrawn or self.result is not None or self.paused_at is not None

    def due_at(self) -> int | None:
        if self.stopped():
            return None
        return self.due() + self.offset + self.timing.grace_ms if self.opened else self.opens

    def missing(self, real: int) -> int:
        """How much longer the part at that instant must last, so that enough of it is left."""
        part = self.part(real)
        if part is None:
            return 0
        left = part.end + self.offset - real
        return max(left, min(self.timing.resume_least_ms, part.end - part.start)) - left

    # --- what a command does

    def answer(self, command: Command, arrived: int, at: int) -> str:
        self.turn += 1
        if isinstance(command, BIDS):
            return self.bidder_command(command, arrived)
        over = "withdrawn" if self.withdrawn else "closed" if self.result else ""
        match command:
            case Admit():
                return over or self.admit(command)
            case Bar():
                known = self.parties.get(command.party_id)
                if over or known is None or known.barred:
                    return over or ("not_admitted" if known is None else "barred")
                known.barred = True
                self.sealed.pop(command.party_id, None)
                return "ok"
            case Pause() | Withdraw():
                if over or (self.paused_at is None and at >= self.closes):
                    return "withdrawn" if self.withdrawn else "too_late"
                if isinstance(command, Withdraw):
                    self.withdrawn = True
                elif self.paused_at is not None:
                    return "paused"
                else:
                    self.paused_at = at
                return "ok"
            case Resume():
                if over or self.paused_at is None:
                    return "not_paused"
                self.resume(at)
                return "ok"
            case Reschedule():
                if over:
                    return over
                if self.paused_at is None and (self.opened or at >= self.opens):
                    return "not_paused"
                if not at <= command.opens_at_ms < command.closes_at_ms:
                    return "bad_times"
                since = self.stood_since()
                self.offset += command.opens_at_ms - since + self.missing(since)
                self.opens, self.opened, self.paused_at = command.opens_at_ms, False, None
                return "ok"
            case Tick():
                return self.timer(None, at)
            case Close():
                return self.timer(command.down_since_ms, at)
            case Disturbed():
                return self.disturbed(command, arrived, at)
        raise AssertionError(command)

    def bidder_command(self, command: Command, arrived: int) -> str:
        assert isinstance(command, BIDS)
        if arrived < self.decided:
            return "busy"
        me = self.parties.get(command.party_id)
        if me is None or me.barred:
            return "not_admitted" if me is None else "barred"
        if self.withdrawn:
            return "withdrawn"
        if self.result is not None:
            return "too_late"
        if self.paused_at is not None:
            return "paused"
        if arrived < self.opens:
            return self.early(command)
        if arrived >= self.closes:
            return "too_late"
        self.open_by_bid()
        return self.bid(command, command.party_id, self.part(arrived), arrived - self.offset)

    def early(self, command: Command) -> str:
        return "not_open_yet"

    def open_by_bid(self) -> None:
        self.opened = True

    def admit(self, command: Admit) -> str:
        if command.priority_rank is not None:
            return "no_priority"
        if not 0 <= command.limit_minor <= 10**17:
            return "limit_out_of_range"
        known = self.parties.get(command.party_id)
        if known is None:
            self.parties[command.party_id] = Who(len(self.parties) + 1, command.limit_minor)
            return "ok"
        sealed = self.sealed.get(command.party_id)
        bound = self.price() or 0 if self.leader() == command.party_id else 0
        if command.limit_minor < max(bound, sealed.amount if sealed else 0):
            return "limit_in_use"
        known.limit, known.barred = command.limit_minor, False
        return "ok"

    def stood_since(self) -> int:
        """Since when the clock stands: the pause, or the opening, when that has not come."""
        return self.opens if self.paused_at is None else max(self.paused_at, self.opens)

    def resume(self, at: int) -> None:
        assert self.paused_at is not None
        since = self.stood_since()
        if self.paused_at < self.opens or not self.opened:
            self.opens = max(self.opens, at)
        self.offset += max(self.opens, at) - since + self.missing(since)
        self.paused_at = None

    def timer(self, since: int | None, at: int) -> str:
        due = self.due_at()
        if due is None or at < due:
            return "nothing"
        end = self.due() + self.offset if self.opened else self.opens
        was_up = since is not None and since >= end
        late = at - due > self.timing.outage_after_ms
        if late and not was_up and not self.settled() and self.timing.outage != "close_as_of":
            self.outage(end if since is None else since, at)
        elif self.opened:
            self.finish()
        else:
            self.open()
        return "ok"

    def open(self) -> None:
        self.opened = True

    def outage(self, since: int, at: int) -> None:
        since = max(since, self.opens)
        if self.opened:
            since = min(since, self.due() + self.offset - 1)
        self.offset += max(0, at - since) + self.missing(since)
        self.opened = True
        if self.timing.outage == "reschedule":
            self.paused_at = at

    def disturbed(self, command: Disturbed, arrived: int, at: int) -> str:
        if self.stopped() or self.settled() or not self.opened or not self.opens <= arrived < self.closes:
            return "nothing"
        if command.cause == "outage":
            if self.timing.outage == "close_as_of":
                return "nothing"
            self.outage(arrived if command.since_ms is None else command.since_ms, arrived)
            self.paused_at = at if self.paused_at is not None else None
            return "ok"
        part = self.part(arrived)
        if part is None or part.name == "pause" or not self.missing(arrived):
            return "nothing"
        self.offset += self.missing(arrived)
        return "ok"

    # --- helpers of the formats

    def fits(self, party: int, amount: int, least: int) -> str:
        if amount < least:
            return "below_minimum"
        return "above_limit" if amount > self.parties[party].limit else ""

    def seal(self, command: Command, party: int, least: int) -> str:
        if isinstance(command, Retract):
            return "ok" if self.sealed.pop(party, None) else "nothing_sealed"
        assert isinstance(command, PlaceBid)
        if refused := self.fits(party, command.amount_minor, least):
            return refused
        self.sealed[party] = Offer(party, command.amount_minor, self.turn)
        return "ok"

    def show(self, offers: list[Offer]) -> None:
        for offer in offers:
            self.shown.append(offer)
            self.sealed.pop(offer.party, None)

    def close(self, end: int, least: int = 0) -> None:
        """End it as of `end` on the model's clock; below `least` there is neither a sale nor a runner-up."""
        self.closed_at = self.decided = end + self.offset
        best = self.best()
        if not best:
            self.result = ("unsold", None, None, None, None)
            return
        sold = "sold" if best[0].amount >= max(least, self.terms.reserve_minor or 0) else "reserve_not_met"
        others = [offer for offer in best[1:] if not self.parties[offer.party].barred]
        second = others[0] if others and others[0].amount >= least else None
        self.result = (
            *(sold, self.parties[best[0].party].number, best[0].amount),
            *((self.parties[second.party].number, second.amount) if second else (None, None)),
        )


class RoundsModel(StageModel):
    published = False
    turns = 0  # decided
    begun: list[Offer]  # the first offers

    @property
    def rules(self) -> Any:
        return self.terms.ruleset.rounds

    def order(self, number: int) -> list[int]:
        """The parties in a round, in order of their turns, from what was public when it began."""
        count = len(self.begun)
        known = {offer.party: offer for offer in self.begun}
        for place, change in self.changes:
            if place < number * count and change is not None:
                known[change.party] = change
        return [offer.party for offer in sorted(known.values(), key=lambda offer: (offer.amount, -offer.turn))]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begun = []
        self.changes: list[tuple[int, Offer | None]] = []  # turn, what became of it

    def parts(self) -> list[Part]:
        start = self.terms.opens_at_ms
        parts = [Part("offers", 0, -(10**15), start), Part("pause", 0, start, start + self.rules.first_pause_ms)]
        if not self.begun:
            return [*parts, Part("later", 0, parts[-1].end, self.terms.closes_at_ms)]
        at = parts[-1].end
        for number in range(self.rules.rounds):
            if number:
                parts.append(Part("pause", number, at, at + self.rules.pause_ms))
                at += self.rules.pause_ms
            # Only the round at hand has an order: of the next one the offers are not all known.
            known = self.turns // len(self.begun) == number
            for place in range(len(self.begun)):
                party = self.order(number)[place] if known else None
                turn = number * len(self.begun) + place + 1
                parts.append(Part("turn", turn, at, at + self.rules.turn_ms, party=party))
                at += self.rules.turn_ms
        return parts

    def turn_parts(self) -> list[Part]:
        return [part for part in self.parts() if part.name == "turn"]

    def settled(self) -> bool:
        return self.published and self.turns == len(self.turn_parts())

    def due(self) -> int:
        return self.end() if self.settled() else self.turn_parts()[self.turns].end

    def due_at(self) -> int | None:
        if not self.stopped() and not self.published:
            return self.opens + self.timing.grace_ms
        return super().due_at()

    def open_by_bid(self) -> None:
        pass

    def early(self, command: Command) -> str:
        if self.published:
            return super().early(command)
        return self.offer(command, self.terms.opening_minor)

    def offer(self, command: Command, least: int) -> str:
        if not isinstance(command, PlaceBid | Retract):
            return "wrong_action"
        if isinstance(command, PlaceBid) and command.maximum_minor is not None:
            return "proxy_off"
        assert isinstance(command, BIDS)
        return self.seal(command, command.party_id, least)

    def open(self) -> None:
        self.opened = True
        if self.published:
            return
        self.published, self.decided = True, self.opens
        self.begun = list(self.sealed.values())
        self.show(self.begun)
        if len(self.begun) < 2:
            self.close(self.opens - self.offset)

    def outage(self, since: int, at: int) -> None:
        if self.published:
            super().outage(since, at)
        elif self.timing.outage == "reschedule":
            self.paused_at = at
        else:
            self.again(at)

    def again(self, at: int) -> None:
        """There is time again to make a first offer."""
        self.offset += at + self.timing.resume_least_ms - self.opens
        self.opens = at + self.timing.resume_least_ms

    def stood_since(self) -> int:
        return super().stood_since() if self.published else self.opens

    def resume(self, at: int) -> None:
        assert self.paused_at is not None
        if self.published or self.paused_at < self.opens:
            super().resume(at)
        else:
            self.again(at)
            self.paused_at = None

    def bid(self, command: Command, party: int, part: Part | None, now: int) -> str:
        if not self.published or part is None or part.name == "pause":
            return "wait_for_stage"
        if party not in [offer.party for offer in self.begun]:
            return "no_offer"
        if part.party is None:
            return "wait_for_stage"
        if part.party != party:
            later = [each for each in self.turn_parts() if each.start > now and each.party == party]
            return "not_your_turn" if later else "no_turn_left"
        mine = next(offer.amount for offer in self.best() if offer.party == party)
        return self.offer(command, mine + (self.terms.step_minor or 0))

    def award(self) -> int:
        steps: int = self.rules.award_steps
        return self.terms.opening_minor + steps * (self.terms.step_minor or 0)

    def finish(self) -> None:
        if self.settled():
            self.close(self.end(), self.award())
            return
        part = self.turn_parts()[self.turns]
        assert part.party is not None
        offer = self.sealed.get(part.party)
        self.show([offer] if offer else [])
        self.changes.append((self.turns, offer))
        self.turns += 1
        self.decided = part.end + self.offset


class GongModel(StageModel):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.round = 1
        self.start = self.terms.opens_at_ms + self.rules.pause_ms  # of the round

    @property
    def rules(self) -> Any:
        return self.terms.ruleset.gong

    def asked(self) -> int:
        return (self.price() or self.terms.opening_minor) + (self.terms.step_minor or 0)

    def parts(self) -> list[Part]:
        hard = self.terms.closes_at_ms
        parts = [Part("pause", self.round, self.start - self.rules.pause_ms, min(self.start, hard))]
        if self.start < hard:
            parts.append(
                Part("round", self.round, self.start, min(self.start + self.rules.round_ms, hard), self.asked())
            )
        return parts

    def due(self) -> int:
        return self.end()

    def finish(self) -> None:
        self.close(self.end())

    def bid(self, command: Command, party: int, part: Part | None, now: int) -> str:
        if not isinstance(command, PlaceBid):
            return "wrong_action"
        if command.maximum_minor is not None:
            return "proxy_off"
        if self.leader() == party:
            return "already_leading"
        if part is None or part.name != "round":
            return "round_taken" if self.shown and self.start < self.terms.closes_at_ms else "wait_for_stage"
        step = self.terms.step_minor or 1
        if command.amount_minor < self.asked():
            return "below_minimum"
        if (command.amount_minor - self.terms.opening_minor) % step:
            return "not_a_step"
        if command.amount_minor > self.parties[party].limit:
            return "above_limit"
        self.shown.append(Offer(party, command.amount_minor, self.turn))
        self.round, self.start = self.round + 1, now + self.rules.pause_ms
        return "ok"


class DutchModel(StageModel):
    def rules(self) -> Any:
        return self.terms.ruleset.dutch or self.terms.ruleset.hybrid

    def prices(self) -> list[int]:
        """By hand: tenths of a thousandth of the opening, a half rounded up; not below an open reserve."""
        rules, opening = self.rules(), self.terms.opening_minor
        floor = self.terms.reserve_minor or 0 if self.terms.reserve == "open" else 0
        prices = []
        for step in range(rules.steps + 1):
            if rules.step_bp is None:
                price = opening - step * (self.terms.step_minor or 0)
            else:
                whole, part = divmod(opening * (10_000 - step * rules.step_bp), 10_000)
                price = whole + (1 if part >= 5_000 else 0)
            prices.append(max(floor, price))
            if price <= floor:
                break
        return prices

    def parts(self) -> list[Part]:
        rules = self.rules()
        at = self.terms.opens_at_ms + rules.first_pause_ms
        parts = [Part("pause", 0, self.terms.opens_at_ms, at)]
        for step, price in enumerate(self.prices()):
            parts.append(Part("dutch", step, at, at + rules.step_ms, price))
            at += rules.step_ms
        return parts

    def settled(self) -> bool:
        return self.ended is not None

    def due(self) -> int:
        return self.end()

    def finish(self) -> None:
        self.close(self.end())

    def bid(self, command: Command, party: int, part: Part | None, now: int) -> str:
        if not isinstance(command, Take):
            return "wrong_action"
        if self.shown:
            return "taken"
        return self.take(command, party, part, now)

    def take(self, command: Take, party: int, part: Part | None, now: int) -> str:
        if part is None or part.price is None:
            return "wait_for_stage"
        if part.number != command.step:
            return "step_moved"
        if part.price != command.amount_minor:
            return "not_the_price"
        if part.price > self.parties[party].limit:
            return "above_limit"
        self.shown.append(Offer(party, part.price, self.turn))
        self.taken(now)
        return "ok"

    def taken(self, now: int) -> None:
        self.ended = now


class FixedModel(DutchModel):
    def parts(self) -> list[Part]:
        return [Part("fixed", 0, self.terms.opens_at_ms, self.terms.closes_at_ms, self.terms.opening_minor)]


class HybridModel(DutchModel):
    winner: int | None = None
    opened_seals = False

    def parts(self) -> list[Part]:
        rules, parts = self.rules(), super().parts()
        if self.winner is not None:
            parts = [Part("pause", 0, parts[0].start, parts[-1].end)]
        for name, number, length in (
            *(("pause", 1, rules.pause_ms), ("sealed", 1, rules.sealed_ms)),
            *(("pause", 2, rules.pause_ms), ("best", 1, rules.best_ms)),
        ):
            parts.append(Part(name, number, parts[-1].end, parts[-1].end + length))
        return parts

    def taken(self, now: int) -> None:
        self.winner = self.shown[0].party

    def settled(self) -> bool:
        return False

    def due(self) -> int:
        if self.winner is None:
            return self.parts()[-5].end
        return self.parts()[-1 if self.opened_seals else -3].end

    def finish(self) -> None:
        if self.winner is None or self.opened_seals or not self.sealed:
            self.close(self.due())
            return
        self.decided = self.due() + self.offset
        self.show(list(self.sealed.values()))
        self.opened_seals = True

    def bid(self, command: Command, party: int, part: Part | None, now: int) -> str:
        if isinstance(command, SetProxy | StopProxy):
            return "wrong_action"
        if isinstance(command, PlaceBid) and command.maximum_minor is not None:
            return "proxy_off"
        if isinstance(command, Take) and self.winner is not None:
            return "taken"
        if part is None or part.name == "pause":
            return "wait_for_stage"
        if part.name == "dutch":
            return self.take(command, party, part, now) if isinstance(command, Take) else "not_in_stage"
        if isinstance(command, Take) or self.winner is None:
            return "not_in_stage"
        if part.name == "sealed":
            return "not_in_stage" if party == self.winner else self.seal(command, party, self.shown[0].amount + 1)
        if party != self.winner or not isinstance(command, PlaceBid):
            return "not_in_stage"
        if self.leader() == party:
            return "already_leading"
        over = self.terms.opening_minor * self.rules().best_bp
        least = (self.price() or 0) + over // 10_000 + (1 if over % 10_000 else 0)
        if refused := self.fits(party, command.amount_minor, least):
            return refused
        self.shown.append(Offer(party, command.amount_minor, self.turn))
        return "ok"


MODELS: dict[str, type[StageModel]] = {
    "rounds": RoundsModel,
    "gong": GongModel,
    "dutch": DutchModel,
    "hybrid": HybridModel,
    "fixed_price": FixedModel,
}
