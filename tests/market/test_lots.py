"""What a ruleset asks of a listing, to the last minor unit; the moves; the freeze."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auctions.rulesets import Ruleset, packaged
from market.errors import BadInput, Conflict
from market.lots import (
    MOVES,
    UNLIMITED_MINOR,
    LotDraft,
    LotTerms,
    Previous,
    Status,
    agreement_hash,
    auction_terms,
    canonical,
    checks,
    freeze,
    from_ms,
    move,
    read_terms_of,
    rules_in_words,
    to_ms,
)
from web.words import SENTENCES

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
COURT, ENGLISH = packaged("cn-judicial-2017"), packaged("english-proxy-soft-close")
RULESETS = {one.name: one for one in (COURT, ENGLISH, packaged("ebay-proxy"))}


def terms(**more: Any) -> LotTerms:
    given: dict[str, Any] = {
        "ruleset": COURT.name, "opening_minor": 84_000_000, "step_minor": 500_000, "reserve": "open",
        "reserve_minor": 84_000_000, "deposit_minor": 8_400_000, "opens_at": NOW + timedelta(days=15),
        "closes_at": NOW + timedelta(days=16), "balance_due_days": 10, "appraisal_minor": 120_000_000, **more,
    }  # fmt: skip
    if "opening_minor" in more and "reserve_minor" not in more:
        given["reserve_minor"] = more["opening_minor"]
    return LotTerms.model_validate(given)


def broken(
    given: LotTerms, *, kind: str = "vehicle", ruleset: Ruleset = COURT, previous: Previous | None = None
) -> set[str]:
    found = checks(given, ruleset, kind=kind, currency="CNY", at=NOW, previous=previous)
    assert all(check.code in SENTENCES for check in found), "every check has a sentence"
    return {check.code for check in found if not check.holds}


def test_a_court_listing_that_keeps_every_rule() -> None:
    assert broken(terms()) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"opening_minor": 84_000_000, "appraisal_minor": 120_000_000}, None),  # exactly 70 %
        ({"opening_minor": 83_999_999, "deposit_minor": 8_400_000}, "opening_low"),
        ({"appraisal_minor": None}, "appraisal_missing"),
        ({"deposit_minor": 4_200_000}, None),  # exactly 5 %
        ({"deposit_minor": 4_199_999}, "deposit_share"),
        ({"deposit_minor": 16_800_000}, None),  # exactly 20 %
        ({"deposit_minor": 16_800_001}, "deposit_share"),
        ({"closes_at": NOW + timedelta(days=16) - timedelta(seconds=1)}, "too_short"),
        ({"opens_at": NOW + timedelta(days=15) - timedelta(seconds=1)}, "notice_short"),
        ({"reserve_minor": 85_000_000}, "reserve_is_opening"),
    ],
)
def test_the_courts_numbers(change: dict[str, Any], code: str | None) -> None:
    assert broken(terms(**change)) == ({code} if code else set())


@pytest.mark.parametrize(("kind", "days"), [("vehicle", 15), ("property", 30), ("portfolio", 30)])
def test_notice_days_by_kind(kind: str, days: int) -> None:
    given = terms(opens_at=NOW + timedelta(days=days), closes_at=NOW + timedelta(days=days + 1))
    assert broken(given, kind=kind) == set()
    given = terms(opens_at=NOW + timedelta(days=days, seconds=-1), closes_at=NOW + timedelta(days=days + 1))
    assert broken(given, kind=kind) == {"notice_short"}


def test_the_second_auction_is_cut_by_a_fifth_at_most() -> None:
    """spec/rulesets.md 6.5: 840,000 → 671,999 refused, 672,000 accepted; notice 7 days; within 30 days."""
    failed = Previous(1, "unsold", 84_000_000, NOW - timedelta(days=1))
    week = {"opens_at": NOW + timedelta(days=7), "closes_at": NOW + timedelta(days=8), "deposit_minor": 6_720_000}
    assert broken(terms(opening_minor=67_200_000, **week), previous=failed) == set()
    assert broken(terms(opening_minor=67_199_900, **week), previous=failed) == {"second_opening_low"}
    late = Previous(1, "unsold", 84_000_000, NOW - timedelta(days=24))
    assert broken(terms(opening_minor=67_200_000, **week), previous=late) == {"second_too_late"}


def test_the_fault_names_figures_and_article() -> None:
    [low] = [
        c for c in checks(terms(opening_minor=81_840_000), COURT, kind="vehicle", currency="CNY", at=NOW) if not c.holds
    ]
    fault = low.fault()
    assert (fault.code, fault.field, fault.found, fault.expected) == (
        "opening_low",
        "opening",
        "68.20%",
        "70% (art. 10)",
    )


def test_other_rulesets_ask_less() -> None:
    given = terms(ruleset=ENGLISH.name, reserve="none", reserve_minor=None, opens_at=NOW + timedelta(minutes=1),
                  closes_at=NOW + timedelta(minutes=5))  # fmt: skip
    assert broken(given, ruleset=ENGLISH) == set()


TYPED = {
    "ruleset": "english-proxy-soft-close", "opening": "840000", "step": "5000", "deposit": "84000.00",
    "opens_at": "2026-12-10T10:00", "closes_at": "2026-12-11T10:00", "balance_due_days": "10", "premium": "1.25",
    "zone": "Asia/Shanghai",
}  # fmt: skip


def test_an_opening_that_has_passed_is_named_in_the_lots_zone() -> None:
    given = terms(
        ruleset=ENGLISH.name, reserve="none", reserve_minor=None, opens_at=datetime(2026, 1, 31, 18, tzinfo=UTC)
    )
    at = datetime(2026, 2, 1, tzinfo=UTC)
    (past,) = (one for one in checks(given, ENGLISH, kind="portfolio", currency="CNY", at=at) if not one.holds)
    assert (past.code, past.facts["found"]) == ("opens_in_past", "2026-02-01 02:00")  # Beijing, as it was typed


def test_terms_are_read_in_the_lots_zone() -> None:
    read = read_terms_of(TYPED, "CNY", RULESETS)
    assert read.opens_at == datetime(2026, 12, 10, 2, tzinfo=UTC)
    assert (read.opening_minor, read.deposit_minor, read.premium_bp) == (84_000_000, 8_400_000, 125)
    assert LotTerms.model_validate(read.kept()) == read


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"opening": "84e4"}, {("amount_format", "opening")}),
        ({"opening": "８４００００"}, {("amount_format", "opening")}),
        ({"opening": "0"}, {("range", "opening")}),
        ({"deposit": "-1", "premium": "31"}, {("amount_format", "deposit"), ("percent", "premium")}),
        ({"closes_at": "2026-12-10T10:00"}, {("bad_times", "closes_at")}),
        ({"opens_at": "10.12.2026", "ruleset": "x"}, {("instant", "opens_at"), ("choice", "ruleset")}),
        ({"reserve": "open", "reserve_amount": "839999.99"}, {("reserve_low", "reserve_amount")}),
        ({"reserve": "opening"}, {("choice", "reserve"), ("missing", "reserve_amount")}),
        ({"balance_due_days": "1_0"}, {("whole_number", "balance_due_days")}),
    ],
)
def test_every_fault_by_its_field(change: dict[str, str], faults: set[tuple[str, str]]) -> None:
    with pytest.raises(BadInput) as refused:
        read_terms_of({**TYPED, **change}, "CNY", RULESETS)
    assert {(fault.code, fault.field) for fault in refused.value.faults} == faults


def test_moves() -> None:
    for status in Status:
        for to in Status:
            if to in MOVES[status]:
                assert move(status, to) is to
            else:
                with pytest.raises(Conflict):
                    move(status, to)


DRAFT = LotDraft("vehicle", 1, "Car", "车", "", "", "")


def frozen(given: LotTerms, **content: Any) -> tuple[dict[str, Any], str]:
    return freeze(DRAFT, given, ENGLISH, reference="2026-0001", currency="CNY", creditor="Bank", content=content)


def test_the_freeze_notices_any_change_and_hides_the_hidden_reserve() -> None:
    hidden = terms(ruleset=ENGLISH.name, reserve="hidden", reserve_minor=90_000_000)
    data, mark = frozen(hidden, pictures=["aa"])
    assert b"90000000" not in canonical(data)
    assert frozen(hidden, pictures=["ab"])[1] != mark
    assert frozen(hidden, pictures=["aa"])[1] == mark
    assert agreement_hash(mark) != agreement_hash(frozen(hidden)[1])


def test_terms_of_the_auction() -> None:
    of_auction = auction_terms(terms(), COURT, auction_id=7, currency="CNY", lot_sha256="0" * 64)
    assert of_auction.reserve_minor == of_auction.opening_minor == 84_000_000
    assert from_ms(of_auction.opens_at_ms) == terms().opens_at
    with pytest.raises(Conflict) as refused:
        auction_terms(terms(step_minor=None), COURT, auction_id=7, currency="CNY", lot_sha256="0" * 64)
    assert refused.value.facts["rule"] == "step_missing"


def test_limits() -> None:
    assert terms().limit_minor(0) == UNLIMITED_MINOR
    assert terms().limit_minor(5) == 5
    tenfold = terms(limit_per_deposit_bp=100_000)
    assert (tenfold.limit_minor(0), tenfold.limit_minor(5)) == (84_000_000, 5)


def test_milliseconds_survive() -> None:
    at = datetime(2026, 11, 22, 10, 0, 0, 123_000, tzinfo=UTC)
    assert from_ms(to_ms(at)) == at


@pytest.mark.parametrize("ruleset", RULESETS.values(), ids=RULESETS)
def test_rules_in_words_have_sentences(ruleset: Ruleset) -> None:
    given = terms(ruleset=ruleset.name)
    assert {code for code, _ in rules_in_words(ruleset, given, "CNY")} <= SENTENCES.keys()
