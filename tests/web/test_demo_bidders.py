"""The simulated investors: they keep to the rules, to their purse, and to their seed."""

from __future__ import annotations

from random import Random

import pytest

from auctions.bidding import Phase
from auctions.journal import Entry, Fold
from auctions.messages import Admit, Close, Create, PlaceBid, Refused
from auctions.rulesets import Terms, packaged
from web.demo_bidders import DemoBidder, bidder, play

OPENS_MS = 1_790_000_000_000
DAY_MS = 86_400_000
SALT = "0" * 32


def begun(ruleset: str, *, parties: int) -> Fold:
    """An auction that opens at 1,000.00 and lasts a day, with that many parties admitted without a limit."""
    rules = packaged(ruleset)
    step = 1_000 if rules.bidding.increments.kind == "listing" else None
    opening = 100_000
    is_reserve = "opening" in rules.bidding.reserve
    terms = Terms(
        1, "CNY", "0" * 64, rules, opening, OPENS_MS, OPENS_MS + DAY_MS, step,
        reserve="open" if is_reserve else "none", reserve_minor=opening if is_reserve else None, deposit_minor=10_000,
    )  # fmt: skip
    fold = Fold(1)
    fold.take(Create("create", terms), OPENS_MS - DAY_MS, SALT)
    for party_id in range(1, parties + 1):
        fold.take(Admit(f"admit-{party_id}", party_id, 10**12), OPENS_MS - DAY_MS, SALT)
    return fold


@pytest.mark.parametrize("ruleset", ["english-proxy-soft-close", "cn-judicial-2017", "ebay-proxy"])
def test_they_bid_up_to_what_it_is_worth_and_no_further(ruleset: str) -> None:
    for seed in range(12):
        random = Random(seed)
        fold = begun(ruleset, parties=4)
        bidders = [bidder(random, party_id, fair_minor=150_000, purse=100) for party_id in range(1, 5)]
        moves = play(random, fold, bidders, until_ms=OPENS_MS + 2 * DAY_MS, key=f"seed-{seed}")
        for command, at_ms in moves:
            entry = fold.take(command, at_ms, SALT)
            assert isinstance(entry, Entry)
            assert not any(isinstance(event, Refused) for event in entry.events), entry.events
            if isinstance(command, PlaceBid):
                worth = bidders[command.party_id - 1].worth_minor
                assert max(command.amount_minor, command.maximum_minor or 0) <= worth
        fold.take(Close(), fold.auction.closes_at_ms + 1_000, SALT)
        assert fold.auction.phase is Phase.CLOSED
        standing = fold.auction.standing(fold.sequence)
        assert standing.result == "sold"
        assert standing.bids >= 3


def test_the_same_seed_gives_the_same_auction() -> None:
    bidders = [DemoBidder(1, 140_000, "steady"), DemoBidder(2, 155_000, "proxy")]
    first, second = (
        play(Random(7), begun("english-proxy-soft-close", parties=2), bidders, until_ms=OPENS_MS + DAY_MS, key="k")
        for _ in range(2)
    )
    assert first == second
    assert len(first) > 3


def test_nobody_bids_on_what_is_too_dear() -> None:
    bidders = [DemoBidder(1, 99_999, "early"), DemoBidder(2, 50_000, "late")]
    moves = play(Random(1), begun("cn-judicial-2017", parties=2), bidders, until_ms=OPENS_MS + DAY_MS, key="k")
    assert not any(isinstance(command, PlaceBid) for command, _ in moves)
