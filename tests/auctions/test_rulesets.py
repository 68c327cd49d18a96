"""Rulesets: the numbers of the field, and every combination that cannot be honoured refused with a code and a
sentence.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from auctions.rulesets import PACKAGED, RulesetFault, Terms, packaged, parse_ruleset, read_ruleset, read_terms
from tests.auctions.game import CN, EBAY, LOT, OPTIONAL

DAY = 86_400_000


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_ruleset_survives_as_data(name: str) -> None:
    ruleset = packaged(name)
    assert ruleset.name == name
    assert read_ruleset(json.loads(json.dumps(ruleset.data()))) == ruleset


def test_the_numbers_of_the_court() -> None:
    """spec/rulesets.md 2.1.1."""
    listing, second = CN.listing, CN.listing.second_auction
    assert CN.soft_close is not None
    assert second is not None
    assert listing.sell_off is not None
    assert (CN.soft_close.window_ms, CN.soft_close.extension_ms, CN.soft_close.anchor) == (300_000, 300_000, "from_bid")
    assert (CN.soft_close.most_extensions, CN.soft_close.hard_end_ms) == (None, None)
    assert (CN.bidding.reserve, CN.bidding.priority_buyers, CN.bidding.proxy) == (("opening",), True, "off")
    assert (listing.deposit_least_bp, listing.deposit_most_bp, listing.opening_least_bp) == (500, 2_000, 7_000)
    assert dict(listing.notice_days) == {"movable": 15, "real_estate": 30, "other_right": 30}
    assert dict(second.notice_days) == {"movable": 7, "real_estate": 15, "other_right": 15}
    assert (second.within_days, second.cut_most_bp, listing.notice_to_parties_days) == (30, 2_000, 3)
    assert (listing.least_duration_ms, listing.deposit_return_hours, listing.retention_years) == (DAY, 24, 10)
    assert (listing.resume_within_days, CN.timing.resume_least_ms) == (5, 300_000)
    assert (listing.sell_off.period_days, listing.sell_off.countdown_hours) == (60, 24)
    assert listing.default.deposit_order == ("costs", "shortfall", "case_debts", "asset_debts")
    assert (listing.default.forfeit_remainder, listing.default.buyer_barred) == ("to_debtor_debt", True)
    assert listing.least_opening_minor(133_000_00) == 93_100_00
    # 70 % x 80 % = 56 % of the appraisal, second auction
    assert second.least_opening_minor(listing.least_opening_minor(100_00)) == 56_00


@pytest.mark.parametrize(
    ("price", "increment"),
    [
        *((1, 5), (99, 5), (100, 25), (499, 25), (500, 50), (2_499, 50), (2_500, 100), (9_999, 100), (10_000, 250)),
        *((24_999, 250), (25_000, 500), (49_999, 500), (50_000, 1_000), (99_999, 1_000), (100_000, 2_500)),
        *((249_999, 2_500), (250_000, 5_000), (499_999, 5_000), (500_000, 10_000), (10**9, 10_000)),
    ],
)
def test_the_increment_table_of_ebay(price: int, increment: int) -> None:
    assert Terms(1, "USD", LOT, EBAY, 100, 0, DAY).increment_minor(price) == increment


def faulty(code: str, **changes: Any) -> None:
    """Change the court's ruleset by dotted names (None: take away) and expect this fault."""
    data = json.loads(json.dumps(CN.data()))
    for name, value in changes.items():
        *way, last = name.split("__")
        place = data
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    with pytest.raises(RulesetFault) as caught:
        read_ruleset(data)
    assert caught.value.code == code
    assert caught.value.sentence.endswith(".")
    assert caught.value.where


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("priority_with_proxy", {"bidding__proxy": "optional"}),
        ("steps_vary", {"bidding__increments__kind": "share", "bidding__increments__share_bp": 100}),
        ("table_missing", {"bidding__increments__kind": "table"}),
        ("table_missing", {"bidding__increments__table": [[0, 5]]}),
        ("table_order", {"bidding__increments": {"kind": "table", "table": [[1, 5]]}}),
        ("table_order", {"bidding__increments": {"kind": "table", "table": [[0, 5], [0, 6]]}}),
        ("table_order", {"bidding__increments": {"kind": "table", "table": [[0, 0]]}}),
        ("share_missing", {"bidding__increments": {"kind": "share"}}),
        ("out_of_range", {"bidding__increments": {"kind": "share", "share_bp": 10_001}}),
        ("two_caps", {"soft_close__most_extensions": 3, "soft_close__hard_end_ms": 5}),
        ("out_of_range", {"soft_close__window_ms": 0}),
        ("out_of_range", {"timing__grace_ms": 999}),
        ("out_of_range", {"timing__outage_after_ms": 0}),
        ("reserve_missing", {"bidding__reserve": []}),
        ("not_a_choice", {"bidding__reserve": ["secret"]}),
        ("not_a_choice", {"format": "lottery"}),
        ("not_a_choice", {"soft_close__anchor": "from_moon"}),
        ("name_format", {"name": "CN 2017"}),
        ("title_missing", {"title": {"en": "x"}}),
        ("unknown_name", {"bidding__sniping": True}),
        ("unknown_name", {"sofft_close": {}}),
        ("missing", {"version": None}),
        ("missing", {"bidding__increments": None}),
        ("out_of_range", {"version": 0}),
        ("wrong_type", {"version": "1"}),
        ("wrong_type", {"version": True}),
        ("wrong_type", {"version": 1.0}),
        ("wrong_type", {"timing__grace_ms": -1}),
        ("wrong_type", {"bidding": []}),
        ("wrong_type", {"title": "x"}),
        ("wrong_type", {"bidding__increments__table": 5}),
        ("wrong_type", {"bidding__increments": {"kind": "table", "table": [[0, 5, 6]]}}),
        ("wrong_type", {"listing__notice_days": {"movable": "15"}}),
    ],
)
def test_what_cannot_be_honoured_is_refused(code: str, changes: dict[str, Any]) -> None:
    faulty(code, **changes)


def test_text_that_is_not_toml() -> None:
    with pytest.raises(RulesetFault) as caught:
        parse_ruleset("name = ")
    assert caught.value.code == "not_toml"
    with pytest.raises(KeyError):
        packaged("../../etc/passwd")


GOOD: dict[str, Any] = {
    "auction_id": 1,
    "currency": "CNY",
    "lot_sha256": LOT,
    "ruleset": CN,
    "opening_minor": 84_000_000,
    "opens_at_ms": 0,
    "closes_at_ms": DAY,
    "step_minor": 500_000,
}


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("out_of_range", {"auction_id": 0}),
        ("currency_format", {"currency": "cny"}),
        ("hash_format", {"lot_sha256": "x"}),
        ("out_of_range", {"opening_minor": 0}),
        ("bad_times", {"closes_at_ms": 0}),
        ("bad_times", {"opens_at_ms": -1}),
        ("too_short", {"closes_at_ms": DAY - 1}),
        ("step_missing", {"step_minor": None}),
        ("step_missing", {"step_minor": 0}),
        ("step_given", {"ruleset": EBAY}),
        ("reserve_kind", {"reserve": "hidden", "reserve_minor": 84_000_000}),
        ("reserve_kind", {"reserve": "open", "reserve_minor": 84_500_000}),
        ("reserve_kind", {"reserve_minor": 84_000_000}),
        ("reserve_missing", {"ruleset": OPTIONAL, "reserve": "open"}),
        ("reserve_low", {"ruleset": OPTIONAL, "reserve": "open", "reserve_minor": 83_999_999}),
        ("not_a_step", {"ruleset": OPTIONAL, "reserve": "open", "reserve_minor": 84_000_001}),
        ("out_of_range", {"deposit_minor": -1}),
    ],
)
def test_terms_that_cannot_be_honoured(code: str, changes: dict[str, Any]) -> None:
    with pytest.raises(RulesetFault) as caught:
        Terms(**{**GOOD, **changes})
    assert caught.value.code == code


def test_terms_survive_as_text_and_keep_a_hidden_reserve_out_of_it() -> None:
    terms = Terms(**{**GOOD, "ruleset": OPTIONAL, "reserve": "hidden", "reserve_minor": 90_000_000, "deposit_minor": 5})
    assert "90000000" not in terms.text()
    assert read_terms(json.loads(terms.text())) == replace(terms, reserve_minor=None)
    assert terms.sha256() != replace(terms, reserve_minor=90_500_000).sha256()
    opened = Terms(**{**GOOD, "reserve": "open", "reserve_minor": 84_000_000})
    assert read_terms(json.loads(opened.text())) == opened
