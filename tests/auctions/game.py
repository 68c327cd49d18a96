"""The core and the model side by side: every command goes to both, and all that they say must agree."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from auctions import journal as core
from auctions.bidding import Auction
from auctions.messages import (
    Admit,
    Bar,
    Close,
    Closed,
    Command,
    Create,
    Disturbed,
    Pause,
    PlaceBid,
    Refused,
    Reschedule,
    Resume,
    SetProxy,
    StopProxy,
    Tick,
    Withdraw,
)
from auctions.proof import public_line
from auctions.rulesets import Increments, Listing, Ruleset, SoftClose, Terms, Timing, packaged
from auctions.verify import verify
from tests.auctions.model import Model

SALT = "00112233445566778899aabbccddeeff"
OPENS, CLOSES = 1_000_000, 2_000_000
LOT = "ab" * 32

CN, EBAY, OPTIONAL = packaged("cn-judicial-2017"), packaged("ebay-proxy"), packaged("english-proxy-soft-close")
COUNTDOWN = packaged("countdown-110")
SHORT = Listing()  # without the least duration of the courts


def _variants() -> dict[str, Terms]:
    """Terms under every switch of the English format, small numbers, so that limits are met all the time."""

    def terms(ruleset: Ruleset, opening: int = 1_000, **more: Any) -> Terms:
        return Terms(7, "CNY", LOT, ruleset, opening, OPENS, CLOSES, **more)

    cn = replace(CN, listing=SHORT)
    optional = replace(OPTIONAL, bidding=replace(OPTIONAL.bidding, leader_may_raise=True))
    late = replace(cn.timing, outage="close_as_of")
    capped = SoftClose(60_000, 90_000, "from_end", most_extensions=2)
    hard = SoftClose(100_000, 100_000, "from_bid", hard_end_ms=150_000)
    share = replace(
        OPTIONAL, bidding=replace(OPTIONAL.bidding, increments=Increments("share", share_bp=333)), soft_close=hard
    )
    return {
        "cn": terms(cn, step_minor=50),
        "cn capped": terms(replace(cn, soft_close=capped, timing=late), step_minor=7),
        "cn shy": terms(replace(cn, bidding=replace(cn.bidding, leader_may_raise=False)), step_minor=50),
        "ebay": terms(EBAY, opening=99),
        "ebay hidden": terms(EBAY, opening=500, reserve="hidden", reserve_minor=1_234),
        "ebay open": terms(replace(EBAY, soft_close=hard), opening=500, reserve="open", reserve_minor=700),
        "optional": terms(OPTIONAL, step_minor=50),
        "optional raise": terms(optional, step_minor=20, reserve="hidden", reserve_minor=1_200),
        "optional share": terms(share, reserve="open", reserve_minor=1_100),
        "countdown": terms(replace(COUNTDOWN, timing=Timing(countdown_ms=300_000, outage="reschedule"))),
    }


VARIANTS = _variants()


class Game:
    """One auction under `terms`, played on the core and on the model. `kit` is the journal module to play with."""

    def __init__(self, terms: Terms, kit: Any = core) -> None:
        self.kit = kit
        self.terms = terms
        self.fold = kit.Fold(terms.auction_id)
        self.model = Model(terms)
        self.entries: list[Any] = []
        self.sent: dict[tuple[int, str], tuple[Command, int]] = {}
        self.at = 0
        self.ids = 0
        self.entries.append(self.fold.take(Create("create", terms), 0, SALT))

    @property
    def auction(self) -> Auction:
        auction: Auction = self.fold.auction
        return auction

    def id(self) -> str:
        self.ids += 1
        return f"c-{self.ids}"

    def do(self, command: Command, at: int) -> str:
        """Play `command`, arrived at `at`, on both; return what was said."""
        now = max(at, self.at)
        busy = self.model.result is not None and at < self.model.closes
        answer = self.fold.take(command, at, SALT)
        if busy and isinstance(command, PlaceBid | SetProxy | StopProxy):
            assert type(answer).__name__ == "Busy", "in time, but after the close was decided"
            return "busy"
        expected = self.model.answer(command, at, now)
        if type(answer).__name__ == "NothingToDo":
            assert expected == "nothing"
            assert answer.due_at_ms == self.due()
            return expected
        assert type(answer).__name__ == "Entry", answer
        said = "ok"
        for event in answer.events:
            if isinstance(event, Refused):
                said = event.code
                self.facts(event)
        assert said == expected, f"{said}, but the model says {expected}: {command}"
        self.at = now
        self.entries.append(answer)
        assert (answer.sequence, answer.at_ms, answer.arrived_ms) == (len(self.entries), now, at)
        assert answer.previous == self.entries[-2].hash
        if command.id:
            self.sent[(command.scope, command.id)] = (command, answer.sequence)
        self.agree()
        return said

    def again(self, command: Command, at: int) -> None:
        """Send something under an id that was used: the first answer, or `key_reused`; never anything new."""
        first, sequence = self.sent[(command.scope, command.id)]
        answer = self.fold.take(command, at, SALT)
        assert type(answer).__name__ == ("Answered" if first == command else "KeyReused")
        assert answer.sequence == sequence
        assert self.fold.sequence == len(self.entries)

    def due(self) -> int | None:
        model = self.model
        if model.stopped():
            return None
        return model.closes + self.terms.ruleset.timing.grace_ms if model.opened else model.opens

    def facts(self, refused: Refused) -> None:
        """The facts of a refusal must be those that hold."""
        facts, model = refused.facts, self.model
        if refused.code == "not_a_step":
            assert facts["lower_minor"] < facts["amount_minor"] < facts["upper_minor"]
            assert facts["upper_minor"] - facts["lower_minor"] == self.terms.step_minor
            assert (facts["lower_minor"] - self.terms.opening_minor) % (self.terms.step_minor or 1) == 0
        if refused.code == "below_minimum":
            assert facts["amount_minor"] < facts["minimum_minor"]
        if refused.code == "too_late":
            assert facts["closed_at_ms"] == model.closes <= facts["arrived_at_ms"]
        if refused.code == "not_open_yet":
            assert facts["arrived_at_ms"] < facts["opens_at_ms"] == model.opens
        if refused.code == "paused":
            assert facts["paused_at_ms"] == model.paused_at
        if refused.code == "above_limit":
            assert facts["amount_minor"] > facts["limit_minor"]

    def agree(self) -> None:
        """All that anybody may see must agree."""
        model, shown = self.model, self.auction.standing(self.fold.sequence)
        price, leader = model.price(), model.leader()
        assert (shown.price_minor, shown.leader) == (price, model.parties[leader].number if leader else None)
        assert shown.minimum_minor == model.minimum()
        assert (shown.opens_at_ms, shown.closes_at_ms) == (model.opens, model.closes)
        assert shown.extensions == model.extensions
        assert shown.bidders == len(model.parties)
        assert shown.paused_at_ms == model.paused_at
        assert self.auction.due_at_ms() == self.due()
        phase = "open" if model.opened else "upcoming"
        phase = "paused" if model.paused_at is not None else phase
        phase = "withdrawn" if model.withdrawn else phase
        assert shown.phase == ("closed" if model.result else phase)
        reserve = self.terms.reserve_minor
        assert shown.reserve_met == (None if reserve is None else price is not None and price >= reserve)
        if model.result is not None:
            closed = self.auction.closed
            assert isinstance(closed, Closed)
            said = (closed.result, closed.bidder, closed.price_minor, closed.runner_up, closed.runner_up_minor)
            assert said == model.result
            assert closed.closed_at_ms == model.closes
        for party, one in model.parties.items():
            mine = self.auction.position(party)
            assert mine is not None
            assert (mine.bidder, mine.limit_minor, mine.priority_rank, mine.barred) == (
                one.number,
                one.limit,
                one.rank,
                one.barred,
            )
            if model.result is None:
                assert (mine.state == "leading") == (party == leader)
            if self.terms.ruleset.bidding.proxy != "off":
                assert (mine.maximum_minor or 0) == one.maximum
            if party == leader:
                assert (mine.maximum_minor or 0) >= (price or 0), "he leads with more than he offered"
                assert (mine.maximum_minor or 0) <= one.limit, "he is bound above his limit"

    def replay(self) -> None:
        """A fold over the texts, as kept, must be the same, bit for bit, and know the same ids."""
        again = self.kit.Fold(self.terms.auction_id)
        for entry in self.entries:
            again.follow(self.kit.read_entry(entry.public, entry.private, entry.previous, entry.hash))
        assert (again.sequence, again.at_ms, again.hash) == (self.fold.sequence, self.fold.at_ms, self.fold.hash)
        assert again.auction.standing(1) == self.auction.standing(1)
        assert again.auction.bidders == self.auction.bidders
        for (scope, _), (command, sequence) in self.sent.items():
            assert again.answered(scope, command.id) == sequence
            answer = again.take(command, 0, SALT)
            assert (type(answer).__name__, answer.sequence) == ("Answered", sequence)
        verdict = verify([public_line(entry) for entry in self.entries])
        assert verdict.problems == []
        assert verdict.closed == self.auction.closed


def play(rng: Random, game: Game, steps: int) -> None:
    """Play at random, near the limits, where rules bite; at the end replay and verify."""
    for party in rng.sample(range(1, 5), rng.randint(1, 4)):
        game.do(draw_admit(rng, game, party), 10)
    if rng.random() < 0.9:
        game.do(Tick(), game.model.opens - rng.choice([0, 0, 0, 1]))
    for _ in range(steps):
        at = draw_instant(rng, game)
        command = draw_command(rng, game, at)
        if game.sent and rng.random() < 0.06:
            used = rng.choice(list(game.sent.values()))[0]
            game.again(used if rng.random() < 0.5 else altered(used), at)
        game.do(command, at)
    if rng.random() < 0.7:  # to its end, and somebody whom we kept waiting
        if game.model.paused_at is not None:
            game.do(Resume(game.id()), game.at)
        # Ties, where the rules know them: whoever goes before the one before him.
        for party in sorted(game.model.parties, key=lambda each: -(game.model.parties[each].rank or 9)):
            game.do(PlaceBid(game.id(), party, game.model.price() or game.model.minimum()), game.at)
        game.do(Close(), max(game.at, game.model.closes + game.terms.ruleset.timing.grace_ms))
        game.do(PlaceBid(game.id(), rng.randint(1, 4), game.model.minimum()), game.model.closes - rng.choice([0, 1]))
    game.replay()


def altered(command: Command) -> Command:
    match command:
        case PlaceBid():
            return PlaceBid(command.id, command.party_id, command.amount_minor + 1, command.maximum_minor)
        case Admit():
            return replace(command, limit_minor=command.limit_minor + 1)
    return command


def draw_admit(rng: Random, game: Game, party: int) -> Admit:
    priority = game.terms.ruleset.bidding.priority_buyers or rng.random() < 0.03
    rank = rng.choice([None, 1, 2, 2]) if priority else None
    least = game.model.minimum()
    if rng.random() < 0.03:
        return Admit(game.id(), party, rng.choice([-1, 0, 10**17, 10**17 + 1]), rank)
    return Admit(game.id(), party, least + rng.choice([-1, 0, 1, 60, 200, 600, 5_000, 5_000, 5_000]), rank)


def draw_instant(rng: Random, game: Game) -> int:
    """Mostly now or a little later; often exactly at an edge, a millisecond beside it, or somewhat overtaken."""
    model, rule = game.model, game.terms.ruleset.soft_close
    window = rule.window_ms if rule else game.terms.ruleset.timing.resume_least_ms
    ends = [model.closes, model.closes + 1_000, model.closes + 11_000]
    kind = rng.random()
    if kind < 0.6:
        return game.at + rng.choice([0, 0, 1, 50, 5_000])
    if kind < 0.7:
        return max(0, game.at - rng.choice([1, 3, 900]))
    edges = ends if kind < 0.8 else [model.opens, model.closes - window, model.closes - window, model.closes - 2]
    later = [edge + beside for edge in edges for beside in (-1, 0, 1) if edge + beside >= game.at - 900]
    return rng.choice(later) if later else game.at + 1


def draw_command(rng: Random, game: Game, at: int) -> Command:
    model, rules = game.model, game.terms.ruleset.bidding
    party = rng.choice([1, 2, 3, 4, model.leader() or 1])
    least, price = model.minimum(), model.price() or game.terms.opening_minor
    step = model.increment(price)
    me, leader = model.parties.get(party), model.parties.get(model.leader() or 0)
    near = [least, least, least, least + step, least + 2 * step, price, least - 1, least + 1, least + 5 * step]
    near += [me.limit, me.limit + 1, me.maximum + 1, me.maximum] if me else []
    near += [leader.maximum, leader.maximum + 1, leader.maximum + step, leader.maximum - step] if leader else []
    near += [game.terms.reserve_minor, game.terms.reserve_minor - 1] if game.terms.reserve_minor else []
    kind = rng.random()
    if kind < 0.62:
        amount = rng.choice(near)
        maximum = None
        if rng.random() < (0.05 if rules.proxy == "off" else 0.3):
            maximum = amount + rng.choice([0, step, 3 * step, 10 * step, -1, 1])
        return PlaceBid(game.id(), party, amount, maximum)
    if kind < 0.75:
        return SetProxy(game.id(), party, rng.choice(near))
    if kind < 0.78:
        return StopProxy(game.id(), party)
    if kind < 0.83:
        return draw_admit(rng, game, party)
    if kind < 0.85:
        return Bar(game.id(), rng.choice([party, model.leader() or party]), "conflict of interest")
    if kind < 0.87:
        return Pause(game.id(), 'network "fault" 网络故障\u2028')
    if kind < 0.92:
        return Resume(game.id())
    if kind < 0.93:
        opens = at + rng.choice([-1, 0, 0, 500])
        return Reschedule(game.id(), opens, opens + rng.choice([0, 1, 400_000]), "new times")
    if kind < 0.932:
        return Withdraw(game.id(), "debt paid")
    if kind < 0.95:
        return Disturbed("busy") if rng.random() < 0.5 else Disturbed("outage", at - rng.choice([0, 5, 700_000]))
    if kind < 0.97:
        return Tick()
    return Close(rng.choice([None, None, at - 5, at - 700_000, model.closes, model.closes - 1]))
