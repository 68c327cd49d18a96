"""English auction: beside a naive model, by the conformance vectors of spec/rulesets.md 6.5, and edge by edge."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from auctions.journal import Entry, Fold, NothingToDo
from auctions.messages import (
    EVENTS,
    REFUSALS,
    Admit,
    AutoBid,
    Bar,
    Bid,
    Close,
    Closed,
    Create,
    Disturbed,
    Extended,
    MaximumSet,
    Opened,
    Pause,
    PlaceBid,
    Refused,
    Resume,
    SetProxy,
    StopProxy,
    Tick,
)
from auctions.rulesets import Ruleset, SoftClose, Terms
from tests.auctions.game import CN, EBAY, LOT, OPENS, OPTIONAL, SALT, SHORT, VARIANTS, Game, play

DAY = 86_400_000
MINUTE = 60_000

# --- Beside the model
# ---------------------------------------------------------------------------------------------------


class Bidding(RuleBasedStateMachine):
    """Any commands in any order, values near the limits, beside the model; at the end replayed and verified."""

    @initialize(name=st.sampled_from(sorted(VARIANTS)), ranks=st.lists(st.sampled_from([None, 1, 2]), min_size=3))
    def create(self, name: str, ranks: list[int | None]) -> None:
        self.game = Game(VARIANTS[name])
        priority = self.game.terms.ruleset.bidding.priority_buyers
        for party, rank in enumerate(ranks[:3], 1):
            self.game.do(Admit(self.game.id(), party, 5_000, rank if priority else None), 10)
        self.now = OPENS

    @rule(
        party=st.integers(1, 4),
        above=st.integers(-2, 6),
        steps=st.booleans(),
        over=st.none() | st.integers(-1, 8),
        late=st.integers(0, 3),
    )
    def bid(self, party: int, above: int, steps: bool, over: int | None, late: int) -> None:
        model = self.game.model
        unit = model.increment(model.price() or self.game.terms.opening_minor) if steps else 1
        amount = model.minimum() + above * unit
        maximum = None if over is None else amount + over * unit
        self.game.do(PlaceBid(self.game.id(), party, amount, maximum), self.now - late)

    @rule(party=st.integers(1, 4), above=st.integers(-2, 12))
    def proxy(self, party: int, above: int) -> None:
        model = self.game.model
        maximum = model.minimum() + above * model.increment(model.price() or self.game.terms.opening_minor)
        self.game.do(SetProxy(self.game.id(), party, maximum), self.now)

    @rule(party=st.integers(1, 4))
    def stop(self, party: int) -> None:
        self.game.do(StopProxy(self.game.id(), party), self.now)

    @rule(limit=st.integers(-2, 40), party=st.integers(1, 5), rank=st.sampled_from([None, None, 1]))
    def admit(self, limit: int, party: int, rank: int | None) -> None:
        least = self.game.model.minimum()
        self.game.do(Admit(self.game.id(), party, least + 25 * limit, rank), self.now)

    @rule(party=st.integers(1, 4))
    def bar(self, party: int) -> None:
        self.game.do(Bar(self.game.id(), party, "conflict of interest"), self.now)

    @rule()
    def pause(self) -> None:
        self.game.do(Pause(self.game.id(), "network fault"), self.now)

    @rule()
    def resume(self) -> None:
        self.game.do(Resume(self.game.id()), self.now)

    @rule(edge=st.sampled_from(["window", "end", "grace"]), beside=st.integers(-1, 1))
    def wait(self, edge: str, beside: int) -> None:
        model, rules = self.game.model, self.game.terms.ruleset
        window = rules.soft_close.window_ms if rules.soft_close else rules.timing.resume_least_ms
        end = model.closes + beside
        self.now = max(self.now, {"window": end - window, "end": end, "grace": end + rules.timing.grace_ms}[edge])

    @rule(passed=st.integers(0, 100_000))
    def go_on(self, passed: int) -> None:
        self.now += passed

    @rule()
    def tick(self) -> None:
        self.game.do(Tick(), self.now)

    @rule()
    def close(self) -> None:
        self.game.do(Close(), self.now)

    @rule(outage=st.booleans())
    def disturb(self, outage: bool) -> None:
        self.game.do(Disturbed("outage", self.now - 10) if outage else Disturbed("busy"), self.now)

    @precondition(lambda self: self.game.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        command, _ = data.draw(st.sampled_from(list(self.game.sent.values())))
        self.game.again(command, self.now)

    @invariant()
    def numbers_have_no_gap(self) -> None:
        if hasattr(self, "game"):
            assert [entry.sequence for entry in self.game.entries] == list(range(1, len(self.game.entries) + 1))

    def teardown(self) -> None:
        if hasattr(self, "game"):
            self.game.replay()


TestBidding = Bidding.TestCase
TestBidding.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("name", VARIANTS)
def test_random_play_agrees_with_the_model(name: str) -> None:
    for seed in range(150):
        play(Random(f"{name} {seed}"), Game(VARIANTS[name]), 40)


# --- Vectors and edges
# --------------------------------------------------------------------------------------------------


class Room:
    """One auction, and short ways to bid in it. Parties 1 to 4 are admitted as bidders 1 to 4."""

    def __init__(self, ruleset: Ruleset, ranks: dict[int, int] | None = None, **terms: Any) -> None:
        terms = {"opens_at_ms": OPENS, "closes_at_ms": OPENS + DAY, **terms}
        self.terms = Terms(7, "CNY", LOT, ruleset, **terms)
        self.fold = Fold(7)
        self.count = 0
        self.now = OPENS
        self.take(Create("create", self.terms), 0)
        for party in (1, 2, 3, 4):
            self.take(Admit(f"admit-{party}", party, 10**12, (ranks or {}).get(party)), 0)

    def take(self, command: Any, at: int | None = None) -> Entry:
        entry = self.fold.take(command, self.now if at is None else at, SALT)
        assert isinstance(entry, Entry), entry
        return entry

    def id(self) -> str:
        self.count += 1
        return f"k{self.count}"

    def bid(self, party: int, amount: int, maximum: int | None = None, at: int | None = None) -> str | int:
        """Bid; return the standing price, or the code of the refusal."""
        return self.said(self.take(PlaceBid(self.id(), party, amount, maximum), at))

    def proxy(self, party: int, maximum: int, at: int | None = None) -> str | int:
        return self.said(self.take(SetProxy(self.id(), party, maximum), at))

    def said(self, entry: Entry) -> str | int:
        for event in entry.events:
            if isinstance(event, Refused):
                return event.code
        return self.show()[0] or 0

    def show(self) -> tuple[int | None, int | None]:
        standing = self.fold.auction.standing(0)
        return standing.price_minor, standing.leader

    @property
    def closes(self) -> int:
        return self.fold.auction.closes_at_ms

    def close(self) -> Closed:
        entry = self.take(Close(), self.closes + 1_000)
        closed = entry.events[-1]
        assert isinstance(closed, Closed)
        return closed


def court(ranks: dict[int, int] | None = None, **terms: Any) -> Room:
    return Room(CN, ranks, opening_minor=84_000_000, step_minor=500_000, **terms)


def test_vector_1_a_bid_in_the_last_five_minutes_moves_the_end_and_a_lone_bidder_wins() -> None:
    room = court()
    at = room.closes - 4 * MINUTE
    assert room.bid(1, 84_000_000, at=at) == 84_000_000
    assert room.closes == at + 5 * MINUTE
    closed = room.close()
    assert (closed.result, closed.bidder, closed.price_minor) == ("sold", 1, 84_000_000)
    assert (closed.closed_at_ms, closed.runner_up) == (at + 5 * MINUTE, None)


def test_vectors_2_and_3_priority_buyers_by_rank_then_the_higher_bid() -> None:
    room = court(ranks={2: 2, 3: 1})
    assert room.bid(1, 90_000_000) == 90_000_000
    assert room.bid(2, 90_000_000) == 90_000_000
    assert room.show() == (90_000_000, 2)
    assert room.bid(3, 90_000_000) == 90_000_000
    assert room.show() == (90_000_000, 3)
    assert room.bid(2, 90_000_000) == "below_minimum"
    assert room.bid(1, 90_000_000) == "below_minimum"
    assert room.bid(1, 90_500_000) == 90_500_000
    assert room.show() == (90_500_000, 1)


def test_at_equal_rank_and_price_the_earlier_bid_leads() -> None:
    room = court(ranks={2: 1, 3: 1})
    room.bid(2, 84_000_000)
    assert room.bid(3, 84_000_000) == "below_minimum"
    assert room.bid(3, 84_500_000) == 84_500_000


def test_the_runner_up_of_equal_amounts_is_the_one_with_the_better_right() -> None:
    room = court(ranks={2: 2, 3: 1})
    for party in (1, 2, 3):
        room.bid(party, 90_000_000)
    closed = room.close()
    assert (closed.bidder, closed.runner_up, closed.runner_up_minor) == (3, 2, 90_000_000)


def test_a_matching_priority_bid_extends_like_any_other() -> None:
    room = court(ranks={2: 1})
    room.bid(1, 84_000_000)
    at = room.closes - 1
    room.bid(2, 84_000_000, at=at)
    assert room.closes == at + 5 * MINUTE


def test_vector_4_the_ruleset_carries_the_order_of_a_forfeited_deposit() -> None:
    assert CN.listing.default.deposit_order[:3] == ("costs", "shortfall", "case_debts")
    left, used = 84_000, []
    for due in (6_000, 1_000_000 - 950_000, 10**9):
        used.append(min(left, due))
        left -= used[-1]
    assert used == [6_000, 50_000, 28_000]


def test_vector_5_the_second_auction_is_cut_by_a_fifth_at_most() -> None:
    second = CN.listing.second_auction
    assert second is not None
    assert second.least_opening_minor(840_000) == 672_000 > 671_999


def test_vector_10_trace_1() -> None:
    room = Room(EBAY, opening_minor=100)
    assert room.bid(1, 5_000) == 100
    assert room.bid(2, 3_000) == 3_100
    assert room.show() == (3_100, 1)
    assert room.bid(4, 5_001) == 5_001  # less than a full increment over 50.00
    assert room.show() == (5_001, 4)


def test_vector_10_trace_2() -> None:
    room = Room(EBAY, opening_minor=100)
    room.bid(1, 5_000)
    room.bid(2, 3_000)
    assert room.bid(3, 5_000) == 5_000
    assert room.show() == (5_000, 1)  # equal maxima: the earlier one
    assert room.bid(3, 5_001) == "below_minimum"
    assert room.bid(3, 5_100) == 5_100
    assert room.show() == (5_100, 3)


def test_vector_10_trace_3_a_hidden_reserve() -> None:
    room = Room(EBAY, opening_minor=10_000, reserve="hidden", reserve_minor=40_000)
    for party, maximum, price, leader, met in (
        (1, 30_000, 30_000, 1, False),
        (2, 35_000, 30_500, 2, False),
        (2, 50_000, 40_000, 2, True),
        (1, 45_000, 45_500, 2, True),
    ):
        assert room.bid(party, maximum) == price
        standing = room.fold.auction.standing(0)
        assert (standing.leader, standing.reserve_met) == (leader, met)


def test_a_reserve_that_is_not_met_sells_nothing() -> None:
    room = Room(EBAY, opening_minor=10_000, reserve="hidden", reserve_minor=40_000)
    room.bid(1, 39_999)
    closed = room.close()
    assert (closed.result, closed.bidder, closed.price_minor) == ("reserve_not_met", 1, 39_999)
    assert '"reserve_minor"' not in room.take(PlaceBid("x", 1, 1), room.closes + 2_000).public


@pytest.mark.parametrize(("late", "said"), [(-1, 84_000_000), (0, "too_late"), (1, "too_late")])
def test_vector_13_at_the_end_is_too_late(late: int, said: str | int) -> None:
    room = court()
    assert room.bid(1, 84_000_000, at=room.closes + late) == said


@pytest.mark.parametrize(("early", "said"), [(1, "not_open_yet"), (0, 84_000_000)])
def test_the_opening_instant_is_inside(early: int, said: str | int) -> None:
    assert court().bid(1, 84_000_000, at=OPENS - early) == said


def test_a_bid_at_the_edge_of_the_window_is_inside() -> None:
    room = Room(replace(CN, soft_close=SoftClose(5 * MINUTE, 6 * MINUTE)), opening_minor=100, step_minor=10)
    edge = room.closes - 5 * MINUTE
    room.bid(1, 100, at=edge - 1)
    assert room.closes == OPENS + DAY
    room.bid(2, 110, at=edge)
    assert room.closes == edge + 6 * MINUTE


def test_a_step_is_counted_from_the_opening() -> None:
    room = court()
    room.bid(1, 84_000_000)
    entry = room.take(PlaceBid("k", 2, 84_700_000))
    refused = entry.events[0]
    assert isinstance(refused, Refused)
    assert refused.code == "not_a_step"
    assert (refused.facts["lower_minor"], refused.facts["upper_minor"]) == (84_500_000, 85_000_000)


def test_a_deposit_paid_during_bidding_admits_at_once() -> None:
    room = court()
    room.bid(1, 84_000_000)
    assert room.bid(9, 84_500_000) == "not_admitted"
    room.take(Admit("late", 9, 84_500_000))
    assert room.bid(9, 85_000_000) == "above_limit"
    assert room.bid(9, 84_500_000) == 84_500_000
    assert room.show() == (84_500_000, 5)


def test_a_pause_inside_the_window_leaves_five_minutes() -> None:
    room = court()
    room.bid(1, 84_000_000)
    paused = room.closes - 2 * MINUTE
    room.take(Pause("p", "network fault"), paused)
    assert room.bid(2, 84_500_000, at=paused + 1) == "paused"
    resumed = paused + 40 * MINUTE
    room.take(Resume("r"), resumed)
    assert room.closes == resumed + 5 * MINUTE


def test_a_pause_before_the_window_leaves_what_was_left() -> None:
    room = court()
    left = room.closes - OPENS - 60 * MINUTE
    room.take(Pause("p", "network fault"), OPENS + 60 * MINUTE)
    room.take(Resume("r"), OPENS + 3 * DAY)
    assert room.closes == OPENS + 3 * DAY + left


def test_the_close_waits_for_the_grace() -> None:
    room = court()
    room.bid(1, 84_000_000)
    assert room.fold.take(Close(), room.closes + 999, SALT) == NothingToDo(room.closes + 1_000)
    # Arrived in time, decided in the grace, after somebody who came too late on another node.
    assert room.bid(2, 84_500_000, at=room.closes + 1) == "too_late"
    at = room.closes - 1
    entry = room.take(PlaceBid("in-time", 3, 84_500_000), at)
    assert (entry.at_ms, entry.arrived_ms) == (at + 2, at)
    assert f'"arrived_ms":{at}' in entry.public
    assert room.closes == at + 5 * MINUTE


def test_who_leads_and_was_held_at_his_maximum_moves_the_price_when_he_raises_it() -> None:
    room = Room(EBAY, opening_minor=100)
    room.bid(1, 5_000)
    room.bid(2, 5_001)
    assert room.show() == (5_001, 2)
    assert room.bid(2, 9_000) == 5_100  # min(90.00, 50.00 + 1.00)
    assert room.bid(2, 9_900) == 5_100
    assert room.bid(2, 9_900) == "not_above_maximum"


def test_a_higher_own_maximum_is_seen_by_nobody_and_extends_nothing() -> None:
    room = Room(OPTIONAL, opening_minor=1_000, step_minor=100)
    room.bid(1, 1_000)
    closes = room.closes
    entry = room.take(SetProxy("m", 1, 5_000), closes - 1)
    assert entry.events == (MaximumSet(1, 5_000),)
    assert '"events":[]' in entry.public
    assert room.closes == closes


def test_an_automatic_answer_belongs_to_the_entry_of_the_bid_and_extends_once() -> None:
    room = Room(OPTIONAL, opening_minor=1_000, step_minor=100)
    room.proxy(1, 2_000)
    at = room.closes - 5
    entry = room.take(PlaceBid("k", 2, 1_500), at)
    assert entry.events == (Bid(2, 1_500), AutoBid(1, 1_600), Extended(at + MINUTE, 1, "bid"))


def test_an_open_bid_stands_as_it_is_and_a_maximum_beside_it_waits() -> None:
    room = Room(OPTIONAL, opening_minor=1_000, step_minor=100)
    assert room.bid(1, 1_500, 3_000) == 1_500
    assert room.bid(1, 1_600) == "already_leading"
    assert room.bid(2, 1_600) == 1_700
    assert room.show() == (1_700, 1)
    room.take(StopProxy("s", 1))
    assert room.bid(2, 1_800) == 1_800
    assert room.said(room.take(StopProxy("s2", 2))) == "no_proxy"


def test_barring_keeps_the_bid_and_stops_the_proxy() -> None:
    room = Room(OPTIONAL, opening_minor=1_000, step_minor=100)
    room.bid(1, 1_000, 5_000)
    room.take(Bar("b", 1, "conflict of interest"))
    assert room.show() == (1_000, 1)
    assert room.bid(1, 2_000) == "barred"
    assert room.bid(2, 1_100) == 1_100


def test_a_limit_is_never_passed_by_a_coin_nor_cut_under_a_bid() -> None:
    room = Room(OPTIONAL, opening_minor=1_000, step_minor=1)
    room.take(Admit("l", 1, 1_500))
    assert room.bid(1, 1_501) == "above_limit"
    assert room.bid(1, 1_000, 1_501) == "above_limit"
    assert room.bid(1, 1_000, 1_500) == 1_000
    assert room.said(room.take(Admit("less", 1, 1_499))) == "limit_in_use"
    assert room.bid(2, 1_500) == 1_500


@pytest.mark.parametrize(
    ("anchor", "cap", "hard", "ends"),
    [
        ("from_bid", None, None, [30_000, 60_000, 90_000]),
        ("from_end", None, None, [60_000, 120_000, 180_000]),
        ("from_end", 2, None, [60_000, 120_000, 120_000]),
        ("from_end", None, 70_000, [60_000, 70_000, 70_000]),
    ],
)
def test_how_the_end_moves(anchor: Any, cap: int | None, hard: int | None, ends: list[int]) -> None:
    rule = SoftClose(30_000, 60_000, anchor, cap, hard)
    room = Room(replace(CN, soft_close=rule, listing=SHORT), opening_minor=100, step_minor=10)
    first = room.closes
    for index, end in enumerate(ends):
        room.bid(1 + index % 2, 100 + 10 * index, at=room.closes - 30_000)
        assert room.closes == first + end


def test_busy_in_the_last_window_extends_and_before_it_does_not() -> None:
    room = court()
    near = room.closes - 5 * MINUTE
    room.take(Tick(), OPENS)
    assert type(room.fold.take(Disturbed("busy"), near - 1, SALT)).__name__ == "NothingToDo"
    room.take(Disturbed("busy"), near + 1)
    assert room.closes == near + 1 + 5 * MINUTE


@pytest.mark.parametrize("rule", ["extend", "reschedule", "close_as_of"])
def test_a_server_that_was_down_at_the_end(rule: Any) -> None:
    room = Room(replace(CN, timing=replace(CN.timing, outage=rule)), opening_minor=100, step_minor=10)
    room.bid(1, 100)
    end, back = room.closes, room.closes + 60 * MINUTE
    events = room.take(Close(down_since_ms=end - 10 * MINUTE), back).events
    standing = room.fold.auction.standing(0)
    if rule == "extend":
        assert standing.closes_at_ms == end + 70 * MINUTE  # by the outage
    elif rule == "reschedule":
        assert (standing.phase, standing.reason) == ("paused", "outage")
    else:
        assert isinstance(events[0], Closed)
        assert events[0].closed_at_ms == end


@pytest.mark.parametrize("late_ms", [1_000, 4_000, 10_000])
def test_down_over_the_end_counts_however_soon_we_are_back(late_ms: int) -> None:
    room = Room(replace(CN, timing=replace(CN.timing, outage="extend")), opening_minor=100, step_minor=10)
    room.bid(1, 100)
    end = room.closes
    room.take(Close(down_since_ms=end - 3_000), end + late_ms)
    # The three seconds that bidders lost, the way back, and never less than the time to come in again.
    assert room.closes == max(end + 3_000 + late_ms, end + late_ms + 5 * MINUTE)


def test_a_close_that_is_a_little_late_without_an_outage_is_a_close() -> None:
    room = court()
    room.bid(1, 84_000_000)
    end = room.closes
    assert isinstance(room.take(Close(), end + 11_000).events[0], Closed)


def test_down_only_after_the_end_closes_as_of_the_end() -> None:
    room = court()
    room.bid(1, 84_000_000)
    end = room.closes
    events = room.take(Close(down_since_ms=end + 10), end + DAY).events
    assert isinstance(events[0], Closed)
    assert events[0].closed_at_ms == end


def test_nobody_came() -> None:
    room = court()
    entry = room.take(Close(), room.closes + 1_000)
    assert entry.events == (Opened(), Closed("unsold", room.closes, None, None, None, None))
    assert room.fold.auction.due_at_ms() is None


def test_late_waiting_commands_after_the_close_are_not_told_too_late() -> None:
    room = court()
    room.bid(1, 84_000_000)
    end = room.closes
    room.close()
    assert type(room.fold.take(PlaceBid("x", 2, 84_500_000), end - 1, SALT)).__name__ == "Busy"
    assert room.bid(2, 84_500_000, at=end) == "too_late"


# What only the formats with stages know (test_stages.py).
STAGED_EVENTS = {"Revealed", "Kept", "Staged", "OfferSealed"}
STAGED_CODES = {
    *("wait_for_stage", "not_in_stage", "not_your_turn", "no_turn_left", "no_offer", "round_taken", "step_moved"),
    *("not_the_price", "taken", "nothing_sealed"),
}


def test_draws_come_near_every_limit() -> None:
    """The random play must have met every refusal, every event and every cause, or it proves little."""
    seen: set[str] = set()
    for name, terms in VARIANTS.items():
        for seed in range(60):
            game = Game(terms)
            play(Random(f"seen {name} {seed}"), game, 40)
            for entry in game.entries:
                for event in entry.events:
                    seen.add(type(event).__name__)
                    if isinstance(event, Refused):
                        seen.add(event.code)
                    if isinstance(event, Extended):
                        seen.add(event.cause)
                    if isinstance(event, Closed):
                        seen.add(event.result)
    names = {make.__name__ for make in EVENTS.values()} - STAGED_EVENTS
    codes = REFUSALS.keys() - STAGED_CODES - {"already_created", "wrong_action"}
    assert seen >= names | codes | {"bid", "first_bid", "busy", "outage"}
    assert seen >= {"sold", "unsold", "reserve_not_met"}
