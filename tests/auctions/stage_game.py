"""The formats with stages and their models side by side, and what must hold of every auction, whatever its format."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

from auctions import journal as core
from auctions.messages import (
    Admit,
    Bar,
    Close,
    Closed,
    Command,
    Create,
    Disturbed,
    OfferSealed,
    Pause,
    PlaceBid,
    Refused,
    Reschedule,
    Resume,
    Retract,
    Revealed,
    SetProxy,
    StopProxy,
    Take,
    Tick,
    Withdraw,
)
from auctions.proof import public_line
from auctions.rulesets import Ruleset, Terms, Timing, packaged
from auctions.verify import verify
from tests.auctions.game import LOT, SALT
from tests.auctions.stage_models import MODELS, RoundsModel, StageModel

OPENS = 1_000_000


def planned(ruleset: Ruleset, opening: int, **more: Any) -> Terms:
    """Terms that end when the clock of the ruleset is planned to end."""
    floor = more["reserve_minor"] if more.get("reserve") == "open" else 0
    length = ruleset.planned_ms(opening, more.get("step_minor"), floor)
    assert length is not None
    return Terms(7, "CNY", LOT, ruleset, opening, OPENS, OPENS + length, **more)


def _variants() -> dict[str, Terms]:
    """Every format with short times and small numbers, and every outage rule."""

    def timing(outage: Any, least: int = 6_000) -> Timing:
        return Timing(resume_least_ms=least, outage=outage)

    english_3, gong = packaged("prozorro-english-3"), packaged("prozorro-gong")
    insider, clock, fixed = packaged("prozorro-insider"), packaged("dutch-clock"), packaged("fixed-price")
    assert english_3.rounds and gong.gong and insider.hybrid and clock.dutch  # noqa: PT018
    rounds = replace(english_3.rounds, first_pause_ms=9_000, turn_ms=10_000, pause_ms=7_000)
    english_3 = replace(english_3, rounds=rounds, timing=timing("extend"))
    later = replace(english_3, rounds=replace(rounds, rounds=2, award_steps=2), timing=timing("reschedule", 20_000))
    gong = replace(gong, gong=replace(gong.gong, pause_ms=5_000, round_ms=20_000), timing=timing("extend"))
    hybrid = replace(
        insider.hybrid, first_pause_ms=6_000, step_ms=7_000, steps=4, step_bp=1_500, pause_ms=5_000, sealed_ms=15_000,
        best_ms=9_000,
    )  # fmt: skip
    insider = replace(insider, hybrid=hybrid, timing=timing("extend"))
    dutch = replace(clock, dutch=replace(clock.dutch, steps=5, step_ms=8_000, first_pause_ms=5_000))

    def terms(ruleset: Ruleset, length: int, **more: Any) -> Terms:
        return Terms(7, "CNY", LOT, ruleset, 1_000, OPENS, OPENS + length, **more)

    return {
        "rounds": terms(english_3, 300_000, step_minor=50),
        "rounds rescheduled": terms(later, 300_000, step_minor=7),
        "rounds as of": terms(replace(english_3, timing=timing("close_as_of")), 300_000, step_minor=50),
        "gong": terms(gong, 120_000, step_minor=50),
        "gong rescheduled": terms(replace(gong, timing=timing("reschedule")), 45_000, step_minor=50),
        "dutch": planned(replace(dutch, timing=timing("extend")), 1_000, step_minor=50),
        "dutch hidden": planned(
            replace(dutch, timing=timing("reschedule")), 1_000, step_minor=50, reserve="hidden", reserve_minor=850
        ),
        "dutch open": planned(
            replace(dutch, timing=timing("close_as_of")), 1_000, step_minor=50, reserve="open", reserve_minor=870
        ),
        "insider": planned(insider, 1_001),
        "insider rescheduled": planned(replace(insider, timing=timing("reschedule", 30_000)), 1_005),
        "fixed": terms(replace(fixed, timing=timing("extend")), 100_000),
    }


STAGE_VARIANTS = _variants()


class StageGame:
    """One auction under `terms`, played on the core and on its model. `kit` is the journal module to play with."""

    def __init__(self, terms: Terms, kit: Any = core) -> None:
        self.kit, self.terms = kit, terms
        self.fold = kit.Fold(terms.auction_id)
        self.model: StageModel = MODELS[terms.ruleset.format](terms)
        self.entries: list[Any] = [self.fold.take(Create("create", terms), 0, SALT)]
        self.sent: dict[tuple[int, str], tuple[Command, int]] = {}
        self.at = self.ids = 0

    def id(self) -> str:
        self.ids += 1
        return f"c-{self.ids}"

    def do(self, command: Command, at: int) -> str:
        """Play `command`, arrived at `at`, on both; return what was said."""
        now = max(at, self.at)
        before = self.seen(now)
        answer = self.fold.take(command, at, SALT)
        expected = self.model.answer(command, at, now)
        kind = type(answer).__name__
        if kind in ("Busy", "NothingToDo"):
            assert expected == ("busy" if kind == "Busy" else "nothing"), f"{kind}, but the model says {expected}"
            assert self.seen(now) == before
            if kind == "NothingToDo":
                assert answer.due_at_ms == self.model.due_at()
            return expected
        assert kind == "Entry", answer
        said = "ok"
        for event in answer.events:
            if isinstance(event, Refused):
                said = event.code
                self.facts(event, at)
        assert said == expected, f"{said}, but the model says {expected}: {command} at {at}"
        if said != "ok":
            opened = any(type(event).__name__ == "Opened" for event in answer.events)
            assert opened or self.seen(now) == before, "it was refused, and changed something"
        self.at = now
        self.entries.append(answer)
        assert (answer.sequence, answer.at_ms, answer.arrived_ms) == (len(self.entries), now, at)
        if command.id:
            self.sent[(command.scope, command.id)] = (command, answer.sequence)
        self.secrets(answer, command)
        self.agree()
        return said

    def again(self, command: Command, at: int) -> None:
        """Send something under an id that was used: the first answer, and nothing new."""
        _, sequence = self.sent[(command.scope, command.id)]
        answer = self.fold.take(command, at, SALT)
        assert (type(answer).__name__, answer.sequence) == ("Answered", sequence)
        assert self.fold.sequence == len(self.entries)

    def seen(self, at: int) -> tuple[Any, ...]:
        """All that anybody sees of the auction at that instant."""
        auction = self.fold.auction
        positions = [auction.position(party, at) for party in self.model.parties]
        return auction.standing(0, at), positions, auction.due_at_ms(), auction.stages()

    def secrets(self, entry: Any, command: Command) -> None:
        """What is under seal shows in no public text before it is opened, and nobody's party id ever does."""
        shown = json.loads(entry.public)
        assert "party" not in entry.public
        opened = [event for event in entry.events if isinstance(event, Revealed)]
        assert opened == sorted(opened, key=lambda each: (each.amount_minor, -each.place)), "the best is not the last"
        for event in entry.events:
            assert not event.public or type(event).__name__ != "OfferSealed"
            if isinstance(event, OfferSealed) and not isinstance(command, Bar):
                assert shown["events"] in ([], [{"type": "opened"}]), "an offer under seal left something public"
            if isinstance(event, Revealed):
                assert isinstance(command, Tick | Close)

    def facts(self, refused: Refused, arrived: int) -> None:
        """The facts of a refusal must be those that hold."""
        facts, model = refused.facts, self.model
        if refused.code == "below_minimum":
            assert facts["amount_minor"] < facts["minimum_minor"]
        if refused.code == "above_limit":
            assert facts["amount_minor"] > facts["limit_minor"]
        if refused.code in ("wait_for_stage", "round_taken"):
            starts = [part.start + model.offset for part in model.parts() if part.name not in ("pause", "later")]
            assert facts["starts_at_ms"] == next((start for start in starts if start > arrived), model.closes)
        if refused.code == "round_taken":
            asked = (model.price() or 0) + (self.terms.step_minor or 0)
            assert facts["price_minor"] == asked
        if refused.code == "step_moved":
            part = next(each for each in model.parts() if each.number == facts["current_step"] and each.price)
            assert facts["price_minor"] == part.price
        if refused.code == "not_your_turn":
            assert isinstance(model, RoundsModel)
            party = next(each for each, who in model.parties.items() if who.number == refused.bidder)
            turns = [part.start + model.offset for part in model.turn_parts() if part.party == party]
            assert facts["turn_at_ms"] in turns
        if refused.code == "not_a_step":
            assert facts["lower_minor"] < facts["amount_minor"] < facts["upper_minor"]
            assert (facts["lower_minor"] - self.terms.opening_minor) % facts["step_minor"] == 0
        if refused.code == "too_late":
            assert facts["closed_at_ms"] == model.closes <= facts["arrived_at_ms"]
        if refused.code in ("taken", "already_leading"):
            assert facts["price_minor"] in [offer.amount for offer in model.shown]

    def agree(self) -> None:
        """All that anybody may see must agree."""
        model, auction = self.model, self.fold.auction
        shown = auction.standing(self.fold.sequence)
        leader = model.leader()
        number = model.parties[leader].number if leader else None
        assert (shown.price_minor, shown.leader) == (model.price(), number)
        assert (shown.opens_at_ms, shown.closes_at_ms) == (model.opens, model.closes)
        assert (shown.bidders, shown.paused_at_ms, shown.bids) == (
            len(model.parties), model.paused_at, len(model.shown)
        )  # fmt: skip
        assert auction.due_at_ms() == model.due_at()
        phase = "open" if model.opened else "upcoming"
        phase = "paused" if model.paused_at is not None else phase
        phase = "withdrawn" if model.withdrawn else phase
        assert shown.phase == ("closed" if model.result else phase)
        if model.result is not None:
            closed = auction.closed
            assert isinstance(closed, Closed)
            said = (closed.result, closed.bidder, closed.price_minor, closed.runner_up, closed.runner_up_minor)
            assert said == model.result
            assert closed.closed_at_ms == model.closed_at
        elif not model.withdrawn:
            self.stages()
        for party, one in model.parties.items():
            mine = auction.position(party)
            assert mine is not None
            assert (mine.bidder, mine.limit_minor, mine.barred) == (one.number, one.limit, one.barred)
            sealed = model.sealed.get(party)
            assert mine.sealed_minor == (sealed.amount if sealed else None)
            assert (mine.sealed_minor or 0) <= one.limit, "he is bound above his limit"
            if model.result is None:
                assert (mine.state == "leading") == (party == leader)
            if party == leader:
                assert (model.price() or 0) <= one.limit, "he leads above his limit"

    def stages(self) -> None:
        """The stage at every edge, whose turn it is, and what it asks."""
        model, auction = self.model, self.fold.auction
        if model.result is not None or model.withdrawn:
            return
        edges = {part.start + model.offset for part in model.parts()[-40:]} | {self.at, model.closes}
        for at in {edge + beside for edge in edges for beside in (-1, 0)}:
            part, stage = model.part(at), auction.stage(at)
            if part is None or stage is None:
                assert part is None or at < 0
                assert stage is None or stage.name == "offers"
                continue
            party = model.parties[part.party].number if part.party else None
            assert (stage.name, stage.number, stage.price_minor, stage.bidder) == (
                part.name, part.number, part.price, party
            )  # fmt: skip
            assert stage.ends_at_ms == part.end + model.offset

    def replay(self) -> None:
        """A fold over the texts is the same, bit for bit; and its public half alone shows what everybody may see."""
        auction = self.fold.auction
        again, public = self.kit.Fold(self.terms.auction_id), self.kit.start(self.terms)
        for entry in self.entries:
            read = self.kit.read_entry(entry.public, entry.private, entry.previous, entry.hash)
            again.follow(read)
            public.sequence = read.sequence
            for event in read.events:
                if event.public:
                    public.apply(event, read.at_ms)
        assert (again.sequence, again.at_ms, again.hash) == (self.fold.sequence, self.fold.at_ms, self.fold.hash)
        assert self.seen(self.at) == (
            again.auction.standing(0, self.at),
            [again.auction.position(each, self.at) for each in self.model.parties],
            again.auction.due_at_ms(),
            again.auction.stages(),
        )
        assert again.auction.bidders == auction.bidders
        seen = public.standing(0, self.at)
        if self.terms.reserve == "hidden":
            seen.reserve_met = auction.standing(0, self.at).reserve_met
        assert seen == auction.standing(0, self.at)
        assert (public.due_at_ms(), public.closed) == (auction.due_at_ms(), auction.closed)
        verdict = verify([public_line(entry) for entry in self.entries])
        assert (verdict.problems, verdict.closed) == ([], auction.closed)
        for command, _ in self.sent.values():
            assert type(again.take(command, 0, SALT)).__name__ == "Answered"
        assert sum(isinstance(event, Closed) for entry in self.entries for event in entry.events) <= 1


def tick(game: StageGame, at: int, since: int | None = None) -> None:
    """Do at `at` whatever is due: afterwards nothing is due in the past."""
    for _ in range(100):
        if game.do(Close(since), at) == "nothing":
            break
    due = game.fold.auction.due_at_ms()
    assert due is None or due > game.at


def play(rng: Random, game: StageGame, steps: int) -> None:
    """Play at random, near the limits, where rules bite; at the end replay."""
    for party in rng.sample(range(1, 5), rng.choice([1, 2, 3, 4, 4])):
        game.do(draw_admit(rng, game, party), 10)
    if game.terms.ruleset.format == "rounds":
        for party in rng.sample(range(1, 5), rng.choice([1, 2, 3, 4, 4])):
            game.do(PlaceBid(game.id(), party, 1_000 + rng.choice([0, 0, 50, 50, 60, 300, -1])), 20 + party)
    if rng.random() < 0.9:
        game.do(Tick(), (game.model.due_at() or 0) - rng.choice([0, 0, 0, 1]))
    for _ in range(steps):
        at = draw_instant(rng, game)
        command = draw_command(rng, game, at)
        if game.sent and rng.random() < 0.05:
            game.again(rng.choice(list(game.sent.values()))[0], at)
        game.do(command, at)
    model = game.model
    if rng.random() < 0.7:  # to its end
        if model.paused_at is not None:
            game.do(Resume(game.id()), game.at)
        while (due := model.due_at()) is not None:
            for party in rng.sample(sorted(model.parties), len(model.parties)):
                at = max(game.at - 200, due - 1_000 - rng.choice([0, 1, 1, 3_000]))
                game.do(draw_bid(rng, game, party, at), at)
            due = model.due_at() or due
            tick(game, max(game.at, due))
            if model.decided and rng.random() < 0.6:  # somebody whom we kept waiting
                late = max(0, model.decided - rng.choice([0, 1, 1]))
                game.do(draw_bid(rng, game, rng.randint(1, 4), late), late)
    game.replay()


def draw_admit(rng: Random, game: StageGame, party: int) -> Admit:
    limit = 5_000 if rng.random() < 0.75 else rng.choice([-1, 0, 999, 1_000, 1_100, 10**17, 10**17 + 1])
    return Admit(game.id(), party, limit, rng.choice([None] * 30 + [1]))


def draw_instant(rng: Random, game: StageGame) -> int:
    """Mostly a little later, or at the edge of a stage or of its decision, or a millisecond beside it."""
    model, kind = game.model, rng.random()
    if kind < 0.45:
        return game.at + rng.choice([0, 0, 1, 50, 500, 2_000])
    if kind < 0.52:
        late, waited = [1, 3, 900, 1_001], game.at - model.decided
        late += [waited, waited + 1] if waited <= 1_500 else []  # a command waits a second, not minutes
        return max(0, game.at - rng.choice(late))
    parts = [part for part in model.parts() if part.start > 0]
    edges = [edge + model.offset for part in parts for edge in (part.start, part.end)]
    due = model.due_at()
    if due is not None:
        edges += [due, due, due, due - 1_000, due - 1_000] + [due + 10_000] * (rng.random() < 0.2)
    later = sorted({edge + beside for edge in edges for beside in (-1, 0, 1) if edge + beside >= game.at - 900})
    return rng.choice(later[:5]) if later else game.at + 1


def draw_bid(rng: Random, game: StageGame, party: int, at: int) -> Command:
    """What that party might do now, right or slightly wrong."""
    model, me = game.model, game.model.parties.get(party)
    part = model.part(at)
    step = game.terms.step_minor or 10
    if rng.random() < 0.03:
        return SetProxy(game.id(), party, 1_500) if rng.random() < 0.5 else StopProxy(game.id(), party)
    if rng.random() < 0.08:
        return Retract(game.id(), party)
    asks = part is not None and part.price is not None and part.name != "round"
    if rng.random() < (0.85 if asks else 0.08):
        price = part.price if part and part.price else game.terms.opening_minor
        number = (part.number if part else 0) + rng.choice([0, 0, 0, 0, 1, -1])
        return Take(game.id(), party, number, price + rng.choice([0, 0, 0, 0, 0, 1, -step]))
    mine = next((offer.amount for offer in model.best() if offer.party == party), game.terms.opening_minor)
    price = model.price() or game.terms.opening_minor
    near = [mine + step, mine + step, mine, mine - 1, mine + step - 1, price + step, price + step, price + step // 2]
    near += [price, price + 1, price + 1, price + 10, price + 11, price + 3 * step, price + 5 * step]
    near += [me.limit, me.limit + 1] if me else []
    near += [offer.amount for offer in model.sealed.values()]
    if part is not None and part.name in ("round", "best") and rng.random() < 0.6:
        near = [part.price or price + 11, price + 10, price + 11]
    if part is not None and part.name == "sealed" and rng.random() < 0.6:
        near = [price + 1, price + 1, price + 2, price + 50]
    amount = rng.choice(near)
    return PlaceBid(game.id(), party, amount, amount if rng.random() < 0.02 else None)


def draw_command(rng: Random, game: StageGame, at: int) -> Command:
    model, kind = game.model, rng.random()
    part = model.part(at)
    party = rng.choice([1, 2, 3, 4, part.party if part and part.party else 1])
    if kind < 0.62:
        return draw_bid(rng, game, party, at)
    if kind < 0.66:
        return draw_admit(rng, game, party)
    if kind < 0.675:
        return Bar(game.id(), party, "conflict of interest")
    if kind < 0.70:
        return Pause(game.id(), "network fault")
    if kind < 0.76:
        return Resume(game.id())
    if kind < 0.775:
        opens = at + rng.choice([-1, 0, 0, 500, 30_000])
        return Reschedule(game.id(), opens, opens + rng.choice([0, 1, 400_000]), "new times")
    if kind < 0.778:
        return Withdraw(game.id(), "debt paid")
    if kind < 0.80:
        return Disturbed("busy") if rng.random() < 0.6 else Disturbed("outage", at - rng.choice([0, 5, 9_000, 70_000]))
    if kind < 0.86:
        return Tick()
    ends = [(model.due_at() or at) - 1_000, model.closes - 1]
    return Close(rng.choice([None, None, at - 5, at - 30_000, at - 30_000, *ends]))
