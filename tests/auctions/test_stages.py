"""The formats with stages: the vectors of spec/rulesets.md 6.5 (6 to 9), the timelines of 2.2, what is refused, and
random games beside the models.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from itertools import pairwise
from random import Random
from typing import Any, get_args, get_type_hints

import pytest

from auctions.bidding import Stage
from auctions.formats import FORMATS
from auctions.journal import Busy, Entry, Fold
from auctions.messages import (
    EVENTS,
    REFUSALS,
    Admit,
    AutoBid,
    Bid,
    Close,
    Closed,
    Command,
    Create,
    Event,
    Extended,
    Kept,
    MaximumSet,
    Pause,
    PlaceBid,
    Refused,
    Reschedule,
    Resume,
    Retract,
    Revealed,
    SetProxy,
    Staged,
    Take,
    Tick,
    read_event,
)
from auctions.rulesets import HONOURED, PACKAGED, SHOWN, Ruleset, RulesetFault, Terms, packaged, read_ruleset
from auctions.stages import Clocked
from tests.auctions.game import LOT, SALT, VARIANTS
from tests.auctions.stage_game import STAGE_VARIANTS, StageGame, play
from tests.auctions.test_english import STAGED_CODES, STAGED_EVENTS

# 2026-11-23 10:00:00 UTC
TEN = 1_795_428_000_000
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
ANY = 10**15


def at(text: str) -> int:
    """A time of that day, hours:minutes:seconds."""
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return TEN + (hours - 10) * HOUR + minutes * MINUTE + seconds * SECOND


class Sale:
    """One auction under a packaged ruleset, with bidders 1 to 4 (parties 11, 22, 33, 44)."""

    def __init__(self, name: str, opening: int, length: int | None = None, limit: int = ANY, **more: Any) -> None:
        ruleset = packaged(name)
        length = length or ruleset.planned_ms(opening, more.get("step_minor"))
        assert length is not None
        terms = Terms(7, "UAH", LOT, ruleset, opening, TEN, TEN + length, **more)
        self.fold = Fold(7)
        self.ids = 0
        self.entries: list[Entry] = []
        self.say(Create("create", terms), TEN - HOUR)
        for party in (11, 22, 33, 44):
            self.say(Admit(f"admit-{party}", party, limit), TEN - HOUR)

    @property
    def auction(self) -> Clocked:
        assert isinstance(self.fold.auction, Clocked)
        return self.fold.auction

    def say(self, command: Command, now: int) -> tuple[Event, ...]:
        answer = self.fold.take(command, now, SALT)
        assert isinstance(answer, Entry), answer
        self.entries.append(answer)
        return answer.events

    def id(self) -> str:
        self.ids += 1
        return f"k{self.ids}"

    def bid(self, party: int, amount: int, now: int) -> str:
        return code(self.say(PlaceBid(self.id(), party, amount), now))

    def take(self, party: int, step: int, amount: int, now: int) -> str:
        return code(self.say(Take(self.id(), party, step, amount), now))

    def due(self) -> tuple[Event, ...]:
        """What the timer does when it is due."""
        due = self.auction.due_at_ms()
        assert due is not None
        return self.say(Close() if self.auction.opened else Tick(), max(due, self.fold.at_ms))

    def end(self) -> Closed:
        while self.auction.closed is None:
            self.due()
        return self.auction.closed

    def stage(self, now: int) -> Stage:
        stage = self.auction.stage(now)
        assert stage is not None
        return stage

    def actions(self, party: int, now: int) -> tuple[str, ...]:
        position = self.auction.position(party, now)
        assert position is not None
        return position.actions


def code(events: tuple[Event, ...]) -> str:
    last = events[-1]
    return last.code if isinstance(last, Refused) else "ok"


def facts(sale: Sale) -> dict[str, int]:
    refused = sale.entries[-1].events[-1]
    assert isinstance(refused, Refused)
    return refused.facts


# --- insider (2.2.4) ------------------------------------------------------------------------------------------------


def insider() -> Sale:
    sale = Sale("prozorro-insider", 100_000_000)
    sale.say(Tick(), TEN)
    return sale


def test_the_timeline_of_the_insider() -> None:
    """spec/rulesets.md 2.2.4: start 10:00:00 and 1,000,000."""
    sale = insider()
    stages = sale.auction.stages()
    dutch = [stage for stage in stages if stage.name == "dutch"]
    assert len(dutch) == 81
    assert (dutch[0].starts_at_ms, dutch[0].price_minor) == (at("10:00:30"), 100_000_000)
    assert (dutch[24].starts_at_ms, dutch[24].price_minor) == (at("12:00:30"), 76_000_000)
    assert (dutch[80].starts_at_ms, dutch[80].price_minor) == (at("16:40:30"), 20_000_000)
    sealed, best = (next(stage for stage in stages if stage.name == name) for name in ("sealed", "best"))
    assert (sealed.starts_at_ms, sealed.ends_at_ms) == (at("16:45:50"), at("16:55:50"))
    assert (best.starts_at_ms, best.ends_at_ms) == (at("16:56:10"), at("17:01:10"))
    assert sale.auction.closes_at_ms == at("17:01:10")
    for one, next_one in pairwise(stages):
        assert one.ends_at_ms == next_one.starts_at_ms, "a gap in the plan"


def test_prices_are_rounded_half_up() -> None:
    assert packaged("prozorro-insider").falling_minor(1_050)[:3] == (1_050, 1_040, 1_029)  # 1039.5, 1029
    assert packaged("prozorro-insider").falling_minor(149)[:3] == (149, 148, 146)  # 147.51, 146.02
    assert packaged("dutch-clock").falling_minor(100, 4)[-1] == 20
    assert packaged("dutch-clock").falling_minor(100, 4, 90) == (100, 96, 92, 90)


def test_vector_6_a_hit_at_step_24() -> None:
    sale = insider()
    assert sale.take(11, 24, 76_000_000, at("12:00:30")) == "ok"
    assert sale.auction.leader is not None
    assert (sale.auction.leader.number, sale.auction.leader.offered_minor) == (1, 76_000_000)
    assert sale.take(22, 24, 76_000_000, at("12:00:30") + 1) == "taken"
    # The sealed phase keeps its planned time, though the price was taken four hours before the last step.
    assert sale.bid(22, 80_000_000, at("12:01:00")) == "wait_for_stage"
    assert facts(sale) == {"starts_at_ms": at("16:45:50")}
    assert sale.bid(22, 76_000_000, at("16:45:50")) == "below_minimum"
    assert sale.bid(22, 76_000_001, at("16:45:50")) == "ok"
    assert sale.bid(11, 90_000_000, at("16:46:00")) == "not_in_stage"  # everyone but the Dutch winner


def test_vector_7_equal_sealed_bids() -> None:
    sale = insider()
    sale.take(11, 24, 76_000_000, at("12:00:30"))
    assert sale.bid(22, 80_000_000, at("16:46:00")) == "ok"  # B
    assert sale.bid(33, 80_000_000, at("16:47:00")) == "ok"  # C, later
    assert sale.bid(44, 79_000_000, at("16:48:00")) == "ok"
    assert all('"amount' not in entry.public for entry in sale.entries[-3:]), "a sealed amount was published"
    assert sale.due() == (Revealed(4, 79_000_000, 4), Revealed(3, 80_000_000, 3), Revealed(2, 80_000_000, 2))
    assert sale.auction.standing(1).leader == 2
    # Best bid: the best sealed one and 1 % of the opening, by the Dutch winner alone.
    assert sale.bid(22, 90_000_000, at("16:56:10")) == "not_in_stage"
    assert sale.bid(11, 80_999_999, at("16:56:10")) == "below_minimum"
    assert sale.bid(11, 81_000_000, at("16:56:10")) == "ok"
    assert sale.bid(11, 99_000_000, at("16:56:11")) == "already_leading"
    closed = sale.end()
    assert (closed.result, closed.bidder, closed.price_minor) == ("sold", 1, 81_000_000)
    assert (closed.runner_up, closed.runner_up_minor, closed.closed_at_ms) == (2, 80_000_000, at("17:01:10"))


def test_without_a_best_bid_the_earlier_sealed_one_wins() -> None:
    sale = insider()
    sale.take(11, 24, 76_000_000, at("12:00:30"))
    sale.bid(22, 80_000_000, at("16:46:00"))
    sale.bid(33, 80_000_000, at("16:47:00"))
    closed = sale.end()
    assert (closed.bidder, closed.price_minor, closed.runner_up) == (2, 80_000_000, 3)


def test_a_replaced_sealed_bid_has_a_new_place_and_a_withdrawn_one_is_gone() -> None:
    sale = insider()
    sale.take(11, 24, 76_000_000, at("12:00:30"))
    sale.bid(22, 80_000_000, at("16:46:00"))
    sale.bid(33, 80_000_000, at("16:47:00"))
    sale.bid(22, 80_000_000, at("16:48:00"))  # again: now the later one
    sale.bid(44, 99_000_000, at("16:48:00"))
    assert code(sale.say(Retract("r", 44), at("16:49:00"))) == "ok"
    assert code(sale.say(Retract("s", 44), at("16:49:00"))) == "nothing_sealed"
    closed = sale.end()
    assert (closed.bidder, closed.price_minor, closed.runner_up) == (3, 80_000_000, 2)


def test_nobody_took_the_price_or_nobody_sealed() -> None:
    sale = insider()
    closed = sale.end()
    assert (closed.result, closed.closed_at_ms) == ("unsold", at("16:45:30"))
    sale = insider()
    sale.take(11, 80, 20_000_000, at("16:45:29"))
    closed = sale.end()
    assert (closed.result, closed.bidder, closed.price_minor, closed.closed_at_ms) == (
        *("sold", 1, 20_000_000),
        at("16:55:50"),
    )


def test_a_sealed_bid_that_waited_too_long_is_to_be_sent_again() -> None:
    """The amounts were opened: nothing may be sealed any more, and to say "too late" would be untrue."""
    sale = insider()
    sale.take(11, 24, 76_000_000, at("12:00:30"))
    sale.bid(22, 80_000_000, at("16:46:00"))
    sale.due()
    assert isinstance(sale.fold.take(PlaceBid("late", 33, 90_000_000), at("16:55:50") - 1, SALT), Busy)


# --- the Dutch clock ------------------------------------------------------------------------------------------------


def clock(**more: Any) -> Sale:
    sale = Sale("dutch-clock", 100_000, step_minor=1_000, **more)
    sale.say(Tick(), TEN)
    return sale


def test_the_step_is_judged_by_arrival() -> None:
    sale = clock()
    assert sale.take(11, 0, 100_000, TEN + 29_999) == "wait_for_stage"
    edge = TEN + 30_000 + 30_000  # step 1
    sale.say(Pause("p", "look"), edge + 5)
    sale.say(Resume("r"), edge + 5)  # nothing was lost: at the same instant, and the step keeps its time
    assert sale.take(11, 0, 100_000, edge + 10) == "step_moved"
    assert facts(sale) == {"step": 0, "current_step": 1, "price_minor": 99_000}
    assert sale.take(11, 1, 98_000, edge + 10) == "not_the_price"
    assert sale.take(11, 0, 100_000, edge - 1) == "ok"  # it had waited on another node
    assert sale.take(22, 1, 99_000, edge + 10) == "too_late"
    closed = sale.end()
    assert (closed.result, closed.price_minor, closed.closed_at_ms) == ("sold", 100_000, edge - 1)


def test_of_two_who_take_the_same_step_the_lower_number_has_it() -> None:
    sale = clock()
    assert sale.take(11, 0, 100_000, TEN + 30_500) == "ok"
    assert sale.take(22, 0, 100_000, TEN + 30_400) == "taken"  # arrived before, but is second in the journal


def test_a_hidden_reserve_under_a_clock() -> None:
    sale = clock(reserve="hidden", reserve_minor=95_000)
    assert sale.take(11, 6, 94_000, TEN + 30_000 + 6 * 30_000) == "ok"
    assert sale.end().result == "reserve_not_met"


def test_a_pause_stands_the_clock_still_and_gives_the_step_its_least_time() -> None:
    sale = clock()
    start = TEN + 30_000
    sale.say(Pause("p", "fault"), start + 59_000)  # a second before step 2
    assert sale.auction.standing(1, start + HOUR).stage == Stage("dutch", 1, start + 30_000, start + 60_000, 99_000)
    sale.say(Resume("r"), start + HOUR)
    assert sale.stage(start + HOUR).number == 1
    assert sale.stage(start + HOUR).ends_at_ms == start + HOUR + 30_000
    assert sale.take(11, 1, 99_000, start + HOUR + 29_999) == "ok"


def test_an_outage_moves_all_later_stages() -> None:
    """The timer comes late, nobody could bid since step 3 began: the clock goes on from there."""
    sale = clock()
    start, back = TEN + 30_000, TEN + HOUR
    down = start + 3 * 30_000
    assert isinstance(sale.say(Close(down), back)[-1], Extended)
    assert sale.stage(back).number == 3
    assert sale.take(11, 3, 97_000, back + 29_999) == "ok"


def test_a_late_stage_is_rescheduled_and_not_run_late() -> None:
    """spec/rulesets.md 2.2.2, of a ruleset that says so."""
    sale = insider()
    sale.take(11, 24, 76_000_000, at("12:00:30"))
    events = sale.say(Close(), at("16:55:50") + MINUTE)  # the sealed phase should have been decided a minute ago
    assert [type(event).__name__ for event in events] == ["Extended", "Paused"]
    tomorrow = at("10:00:00") + 24 * HOUR
    sale.say(Reschedule("again", tomorrow, tomorrow + 1, "outage"), at("17:30:00"))
    assert sale.bid(22, 80_000_000, tomorrow - 1) == "not_open_yet"
    sale.say(Tick(), tomorrow)
    assert sale.bid(22, 80_000_000, tomorrow + 5 * MINUTE - 1) == "ok"
    assert sale.stage(tomorrow + 5 * MINUTE).name == "pause"
    assert sale.auction.closes_at_ms == tomorrow + 5 * MINUTE + 20 * SECOND + 5 * MINUTE


# --- gong (2.2.3) ---------------------------------------------------------------------------------------------------


def gong(length: int = 7 * HOUR) -> Sale:
    sale = Sale("prozorro-gong", 1_000, length, step_minor=100)
    sale.say(Tick(), TEN)
    return sale


def test_vector_9_not_a_multiple_of_the_step() -> None:
    sale = gong()
    first = TEN + 15 * SECOND
    assert sale.bid(11, 1_100, first - 1) == "wait_for_stage"
    assert sale.stage(first) == Stage("round", 1, first, first + 180 * SECOND, 1_100)
    assert sale.bid(11, 1_150, first) == "not_a_step"
    assert (facts(sale)["lower_minor"], facts(sale)["upper_minor"]) == (1_100, 1_200)
    assert sale.bid(11, 1_000, first) == "below_minimum"
    assert sale.bid(11, 1_300, first) == "ok"  # a higher multiple
    assert sale.bid(22, 1_400, first + 14_999) == "round_taken"
    assert facts(sale) == {"starts_at_ms": first + 15 * SECOND, "price_minor": 1_400}
    assert sale.bid(22, 1_400, first + 15 * SECOND) == "ok"
    assert sale.bid(22, 1_500, first + 30 * SECOND) == "already_leading"
    closed = sale.end()
    assert (closed.bidder, closed.price_minor, closed.runner_up) == (2, 1_400, 1)
    assert closed.closed_at_ms == first + 30 * SECOND + 180 * SECOND


def test_a_gong_without_bids_and_with_a_single_one() -> None:
    closed = gong().end()
    assert (closed.result, closed.closed_at_ms) == ("unsold", TEN + 195 * SECOND)
    sale = gong()
    sale.bid(11, 1_100, TEN + 20 * SECOND)
    assert (sale.end().bidder, sale.end().price_minor) == (1, 1_100)


def test_a_bid_just_before_the_hard_end_leaves_no_round() -> None:
    """16:59:59 of a gong that ends at 17:00: the pause reaches the end."""
    sale = gong()
    bidder, price, now = 11, 1_100, TEN + 15 * SECOND
    while now < at("16:59:59"):
        sale.bid(bidder, price, now)
        bidder, price, now = 33 - bidder, price + 100, now + 179 * SECOND
    now = at("16:59:59")
    stage = sale.stage(now)
    assert (stage.name, stage.ends_at_ms) == ("round", at("17:00:00"))
    assert sale.bid(bidder, price, now) == "ok"
    assert sale.stage(now + 500).name == "pause"
    assert sale.bid(33 - bidder, price + 100, now + 500) == "wait_for_stage"
    assert sale.end().closed_at_ms == at("17:00:00")


# --- three rounds (2.2.2) -------------------------------------------------------------------------------------------


def rounds(*offers: tuple[int, int]) -> Sale:
    sale = Sale("prozorro-english-3", 1_000, 4 * HOUR, step_minor=50)
    for number, (party, amount) in enumerate(offers):
        assert sale.bid(party, amount, TEN - MINUTE + number) == "ok"
    return sale


FOUR = ((11, 1_200), (22, 1_000), (33, 1_200), (44, 1_500))


def turns(sale: Sale) -> list[Stage]:
    return [stage for stage in sale.auction.stages() if stage.name == "turn"]


def test_vector_8_twelve_turns() -> None:
    sale = rounds(*FOUR)
    assert all("1200" not in entry.public for entry in sale.entries), "an offer was published before the opening"
    events = sale.due()
    assert sale.fold.at_ms == TEN + SECOND  # the opening waits for what arrived before it
    assert [event.bidder for event in events if isinstance(event, Revealed)] == [2, 3, 1, 4]
    stages = turns(sale)
    assert len(stages) == 12
    # 2 is lowest; of 1 and 3, who offer the same, the later submitter goes first; the leader last.
    assert [stage.bidder for stage in stages] == [2, 3, 1, 4] + [None] * 8
    assert stages[0].starts_at_ms == TEN + 5 * MINUTE
    assert stages[4].starts_at_ms == stages[3].ends_at_ms + 3 * MINUTE
    assert sale.auction.closes_at_ms - TEN == 47 * MINUTE  # first pause, two pauses, twelve turns


def test_each_turn_belongs_to_one() -> None:
    sale = rounds(*FOUR)
    sale.due()
    assert sale.bid(22, 1_050, TEN + 5 * MINUTE - 1) == "wait_for_stage"
    first, second = turns(sale)[:2]
    assert sale.bid(33, 1_300, first.starts_at_ms) == "not_your_turn"
    assert facts(sale) == {"turn_at_ms": second.starts_at_ms}
    assert sale.actions(22, first.starts_at_ms) == ("seal",)
    assert sale.actions(33, first.starts_at_ms) == ()
    assert sale.bid(22, 1_049, first.starts_at_ms) == "below_minimum"
    assert sale.bid(22, 5_000, first.starts_at_ms) == "ok"
    assert code(sale.say(Retract("r", 22), first.ends_at_ms - 2)) == "ok"
    assert sale.bid(22, 1_250, first.ends_at_ms - 1) == "ok"
    # Nothing of it is public before the turn has ended, not even that there is anything.
    assert all('"events":[]' in entry.public for entry in sale.entries[-3:])
    assert sale.bid(33, 1_300, first.ends_at_ms) == "ok"  # the next turn begins at once
    assert sale.due() == (Revealed(2, 1_250, 7),)
    assert sale.bid(22, 2_000, sale.fold.at_ms) == "no_turn_left"
    assert sale.due()[0] == Revealed(3, 1_300, 8)
    assert sale.due() == (Kept(1),)
    assert sale.due() == (Kept(4),)
    # Sorted anew: 1 kept 1,200, then 2 with 1,250, 3 with 1,300, the leader last.
    assert [stage.bidder for stage in turns(sale)][4:8] == [1, 2, 3, 4]


def test_a_turn_that_was_decided_is_over() -> None:
    sale = rounds(*FOUR)
    sale.due()
    first = turns(sale)[0]
    sale.due()
    assert isinstance(sale.fold.take(PlaceBid("late", 22, 1_250), first.ends_at_ms - 1, SALT), Busy)


def test_a_single_bidder_wins_without_an_auction() -> None:
    sale = rounds((11, 1_000))
    assert sale.due()[-1] == Closed("sold", TEN, 1, 1_000, None, None)
    sale = rounds()
    assert sale.due()[-1] == Closed("unsold", TEN, None, None, None, None)


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        (((11, 1_000), (22, 1_000)), ("reserve_not_met", 1, 1_000, None, None)),  # two need the opening and a step
        (((11, 1_000), (22, 1_049)), ("reserve_not_met", 2, 1_049, None, None)),
        (((11, 1_000), (22, 1_050)), ("sold", 2, 1_050, None, None)),  # and so does the runner-up
        (((11, 1_050), (22, 1_050)), ("sold", 1, 1_050, 2, 1_050)),  # the earlier leads
    ],
)
def test_the_award_among_several(offers: tuple[tuple[int, int], ...], expected: tuple[Any, ...]) -> None:
    closed = rounds(*offers).end()
    said = (closed.result, closed.bidder, closed.price_minor, closed.runner_up, closed.runner_up_minor)
    assert said == expected


def test_who_made_no_offer_has_no_turn() -> None:
    sale = rounds((11, 1_000), (22, 1_100))
    sale.due()
    assert sale.bid(33, 2_000, turns(sale)[0].starts_at_ms) == "no_offer"
    assert sale.bid(11, 990, turns(sale)[0].starts_at_ms) == "below_minimum"


def test_an_offer_may_be_changed_until_the_opening() -> None:
    sale = rounds((11, 1_500), (22, 1_200), (11, 1_100), (33, 1_300))
    assert code(sale.say(Retract("r", 33), TEN - 1)) == "ok"
    assert sale.bid(44, 1_400, TEN - 1) == "ok"
    assert sale.bid(33, 1_400, TEN) == "wait_for_stage"
    shown = {event.bidder: event.amount_minor for event in sale.due() if isinstance(event, Revealed)}
    assert shown == {1: 1_100, 2: 1_200, 4: 1_400}


# --- fixed price, sell-off (2.1.5) ----------------------------------------------------------------------------------


def test_a_fixed_price_goes_to_the_first() -> None:
    sale = Sale("fixed-price", 500_000, 30 * 24 * HOUR)
    sale.say(Tick(), TEN)
    assert sale.take(11, 0, 499_999, TEN + HOUR) == "not_the_price"
    assert sale.bid(11, 500_000, TEN + HOUR) == "wrong_action"
    assert sale.take(22, 0, 500_000, TEN + HOUR) == "ok"
    assert sale.take(11, 0, 500_000, TEN + HOUR) == "too_late"
    assert sale.end() == Closed("sold", TEN + HOUR, 2, 500_000, None, None)
    unsold = Sale("fixed-price", 500_000, HOUR).end()
    assert (unsold.result, unsold.closed_at_ms) == ("unsold", TEN + HOUR)


def test_a_sell_off_counts_a_day_from_the_first_bid() -> None:
    """spec/rulesets.md 2.1.5: the first bid starts 24 hours, in which others may raise; five minutes' extension."""
    day = 24 * HOUR
    terms = Terms(7, "CNY", LOT, packaged("cn-sell-off"), 84_000_000, TEN, TEN + 60 * day, step_minor=500_000)
    fold = Fold(7)

    def say(command: Command, now: int) -> tuple[Event, ...]:
        answer = fold.take(command, now, SALT)
        assert isinstance(answer, Entry)
        return answer.events

    say(Create("c", terms), 0)
    for party in (11, 22):
        say(Admit(f"a{party}", party, ANY), 0)
    say(Tick(), TEN)
    first = TEN + 40 * day
    assert say(PlaceBid("1", 11, 84_000_000), first)[-1] == Extended(first + day, 0, "first_bid")
    last = first + day - 5 * MINUTE
    assert say(PlaceBid("2", 22, 84_500_000), last - 1)[-1] == Bid(2, 84_500_000)
    assert say(PlaceBid("3", 11, 85_000_000), last + 1)[-1] == Extended(last + 1 + 5 * MINUTE, 1, "bid")
    assert code(say(PlaceBid("4", 22, 85_500_000), last + 1 + 5 * MINUTE)) == "too_late"
    closed = say(Close(), last + 1 + 5 * MINUTE + SECOND)[-1]
    assert closed == Closed("sold", last + 1 + 5 * MINUTE, 1, 85_000_000, 2, 84_500_000)
    listing = packaged("cn-sell-off").listing
    assert (listing.deposit_least_bp, listing.deposit_most_bp) == (10_000, 10_000)  # the full price


# --- what a format cannot honour ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "name", "changes"),
    [
        ("format_soft_close", "dutch-clock", {"soft_close": {"window_ms": 1_000, "extension_ms": 1_000}}),
        ("format_soft_close", "prozorro-gong", {"soft_close": {"window_ms": 1_000, "extension_ms": 1_000}}),
        ("format_countdown", "prozorro-english-3", {"timing": {"countdown_ms": 1_000}}),
        ("format_proxy", "prozorro-insider", {"bidding": {"proxy": "optional"}}),
        ("format_proxy", "prozorro-gong", {"bidding__proxy": "always"}),
        ("format_priority", "prozorro-insider", {"bidding": {"priority_buyers": True}}),
        ("format_leader", "prozorro-gong", {"bidding__leader_may_raise": True}),
        ("format_reserve", "prozorro-insider", {"bidding": {"reserve": ["hidden"]}}),
        ("format_reserve", "dutch-clock", {"bidding__reserve": ["opening"]}),
        ("format_increments", "fixed-price", {"bidding": {"increments": {"kind": "listing"}}}),
        ("format_increments", "prozorro-gong", {"bidding__increments": {"kind": "share", "share_bp": 100}}),
        ("format_whole_steps", "prozorro-gong", {"bidding__increments": {"kind": "listing"}}),
        ("format_whole_steps", "prozorro-english-3", {"bidding__increments__whole_steps": True}),
        ("missing", "prozorro-gong", {"bidding__increments": None}),
        ("missing", "ebay-proxy", {"bidding": None}),
        ("format_table_missing", "prozorro-gong", {"gong": None}),
        ("format_table_missing", "prozorro-insider", {"hybrid": None}),
        ("format_table_foreign", "fixed-price", {"gong": {"pause_ms": 15_000, "round_ms": 180_000}}),
        ("format_table_foreign", "cn-sell-off", {"gong": {"pause_ms": 15_000, "round_ms": 180_000}}),
        ("format_step", "dutch-clock", {"dutch__step_bp": 100}),
        ("format_step", "prozorro-insider", {"hybrid__step_bp": None}),
        ("out_of_range", "prozorro-insider", {"hybrid__step_bp": 125}),  # 80 steps would reach zero
        ("out_of_range", "prozorro-insider", {"hybrid__best_bp": 0}),
        ("out_of_range", "prozorro-insider", {"hybrid__sealed_ms": 4_999}),
        ("out_of_range", "dutch-clock", {"dutch__steps": 0}),
        ("out_of_range", "prozorro-gong", {"gong__round_ms": 86_400_001}),
        ("out_of_range", "prozorro-english-3", {"rounds__rounds": 0}),
        ("out_of_range", "prozorro-english-3", {"rounds__award_steps": 1_001}),
        ("unknown_name", "prozorro-gong", {"gong__rounds": 3}),
    ],
)
def test_what_a_format_cannot_honour_is_refused(expected: str, name: str, changes: dict[str, Any]) -> None:
    data = json.loads(json.dumps(packaged(name).data()))
    for way, value in changes.items():
        *above, last = way.split("__")
        place = data
        for step in above:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    with pytest.raises(RulesetFault) as caught:
        read_ruleset(data)
    assert caught.value.code == expected
    assert caught.value.sentence.endswith(".")


@pytest.mark.parametrize(
    ("expected", "name", "more"),
    [
        ("planned_length", "prozorro-insider", {"opening_minor": 1_000}),
        ("floor", "dutch-clock", {"opening_minor": 1_000, "step_minor": 50}),
        (
            "reserve_high",
            "dutch-clock",
            {"opening_minor": 1_000, "step_minor": 5, "reserve": "open", "reserve_minor": 1_001},
        ),
        ("too_short", "prozorro-gong", {"opening_minor": 1_000, "step_minor": 50, "closes_at_ms": 15_000}),
        ("step_given", "prozorro-insider", {"opening_minor": 1_000, "step_minor": 50}),
        ("step_missing", "prozorro-english-3", {"opening_minor": 1_000}),
    ],
)  # fmt: skip
def test_terms_that_a_clock_cannot_honour(expected: str, name: str, more: dict[str, Any]) -> None:
    times = {"opens_at_ms": 0, "closes_at_ms": HOUR}
    with pytest.raises(RulesetFault) as caught:
        Terms(auction_id=1, currency="UAH", lot_sha256=LOT, ruleset=packaged(name), **(times | more))
    assert caught.value.code == expected


def test_what_the_pages_cannot_show_yet_is_not_offered() -> None:
    assert set(SHOWN) < set(PACKAGED)
    assert all(packaged(name).format == "english" for name in SHOWN)


@pytest.mark.parametrize("name", [*VARIANTS, *STAGE_VARIANTS])
def test_every_format_refuses_what_it_does_not_know(name: str) -> None:
    terms = {**VARIANTS, **STAGE_VARIANTS}[name]
    fold = Fold(7)
    fold.take(Create("c", terms), 0, SALT)
    fold.take(Admit("a", 1, 10_000), 0, SALT)
    english = terms.ruleset.format == "english"
    command: Command = Take("t", 1, 0, 1_000) if english else SetProxy("t", 1, 1_000)
    early = terms.ruleset.format == "rounds"  # whose offers come before the opening
    answer = fold.take(command, terms.opens_at_ms - 1 if early else terms.opens_at_ms, SALT)
    assert isinstance(answer, Entry)
    assert code(answer.events) == "wrong_action"


# --- random games ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGE_VARIANTS)
def test_random_games_beside_the_model(name: str) -> None:
    for seed in range(60):
        play(Random(f"{name} {seed}"), StageGame(STAGE_VARIANTS[name]), 50)


@pytest.mark.parametrize("name", STAGE_VARIANTS)
def test_a_turn_that_was_not_kept_leaves_no_trace(name: str) -> None:
    """A fold that went forward and back again is the one that never went, with stages, turns and sealed offers."""
    for seed in range(10):
        game = StageGame(STAGE_VARIANTS[name])
        play(Random(f"undo {name} {seed}"), game, 40)
        rng, fold = Random(seed), Fold(7)
        while fold.sequence < len(game.entries):
            for entry in game.entries[fold.sequence :][: rng.randint(1, 5)]:
                fold.follow(entry)
            fold.mark()
            before = (fold.sequence, fold.hash, str(fold.auction.bidders), seen(fold, game))
            taken = []
            for number in range(rng.randint(1, 4)):
                timer: Command = Close() if rng.random() < 0.5 else Tick()
                command = timer if rng.random() < 0.6 else PlaceBid(f"new-{number}", rng.randint(1, 4), 1_100)
                answer = fold.take(command, fold.at_ms + rng.choice([0, 9_000]), SALT)
                if isinstance(answer, Entry):
                    taken.append(answer)
            fold.undo(taken)
            assert (fold.sequence, fold.hash, str(fold.auction.bidders), seen(fold, game)) == before


def seen(fold: Fold, game: StageGame) -> tuple[object, ...]:
    auction = fold.auction
    assert isinstance(auction, Clocked)
    positions = [auction.position(party) for party in game.model.parties]
    return auction.standing(fold.sequence), positions, auction.due_at_ms(), auction.stages()


def test_every_format_is_known_everywhere() -> None:
    named = set(get_args(get_type_hints(Ruleset)["format"]))
    assert named == set(HONOURED) == set(FORMATS)
    assert {packaged(name).format for name in PACKAGED} <= named
    for one in HONOURED.values():
        assert one.table is None or one.table in {each.name for each in fields(Ruleset)}


def test_draws_come_near_every_limit() -> None:
    """The random play must have met every refusal, every event and every outcome, or it proves little."""
    seen: Counter[str] = Counter()
    for name, terms in STAGE_VARIANTS.items():
        for seed in range(40):
            game = StageGame(terms)
            play(Random(f"seen {name} {seed}"), game, 50)
            for entry in game.entries:
                for event in entry.events:
                    seen[type(event).__name__] += 1
                    for word in ("code", "cause", "result", "stage"):
                        seen[str(getattr(event, word, ""))] += 1
    english_only = {AutoBid.__name__, MaximumSet.__name__}
    assert seen.keys() >= {make.__name__ for make in EVENTS.values()} - english_only
    assert seen.keys() >= STAGED_EVENTS | STAGED_CODES | {
        "below_minimum",
        "above_limit",
        "not_a_step",
        "already_leading",
    }
    assert seen.keys() >= {"wrong_action", "limit_in_use", "busy", "outage", "sold", "unsold", "reserve_not_met"}
    assert seen.keys() >= {"taken", "round", "rounds"}
    assert set(REFUSALS) >= STAGED_CODES


def test_every_event_survives_as_text() -> None:
    events: tuple[Event, ...] = (Revealed(1, 2, 3), Kept(4), Staged("round", 2, 5, 6))
    for event in events:
        text = event.text()
        assert json.dumps(json.loads(text), separators=(",", ":")) == text
        assert read_event(json.loads(text)) == event
