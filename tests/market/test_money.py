"""Money is whole minor units; shares add up to the last cent; text is exact both ways."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import BadInput
from market.money import DECIMALS, Money, allocate, amount_text, parse_amount, ratio_bp, round_minor, share_bp, to_minor

AMOUNTS = st.integers(-(10**17) + 1, 10**17 - 1)


@given(st.integers(0, 10**15 - 1), st.sampled_from(sorted(DECIMALS)))
def test_an_amount_written_out_reads_back_the_same(amount_minor: int, currency: str) -> None:
    assert parse_amount(amount_text(amount_minor, currency), currency) == amount_minor


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "+1", "-1", "1.", ".5", "1.234", "1,000", "1e3", "1_000", "NaN", "Infinity", "0x10",
     "１２", "٣", "1\n", "1" * 16, "1.0.0", "¥1", "1\u200b"],
)  # fmt: skip
def test_anything_but_plain_digits_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_amount(text, "CNY", field="opening")
    (fault,) = refused.value.faults
    assert (fault.code, fault.field) == ("amount_format", "opening")
    assert "decimals" in fault.expected


def test_a_currency_without_decimals_takes_none() -> None:
    assert parse_amount("1500", "JPY") == 1500
    with pytest.raises(BadInput):
        parse_amount("1500.0", "JPY")


def test_an_unknown_currency_is_bad_input_not_a_crash() -> None:
    with pytest.raises(BadInput) as refused:
        parse_amount("1", "XXX")
    assert refused.value.faults[0].code == "currency_unknown"


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=50).filter(any))
def test_shares_add_up_and_each_is_within_one_unit_of_its_part(total: int, weights: list[int]) -> None:
    shares = allocate(total, weights)
    assert sum(shares) == total
    whole = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        assert total * weight // whole <= share <= total * weight // whole + 1


def test_cents_left_over_go_to_the_largest_remainder_then_to_the_earlier() -> None:
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(10, [15, 25, 60]) == [2, 2, 6]  # 1.5, 2.5, 6.0: equal remainders, the earlier first
    with pytest.raises(ValueError, match="weight"):
        allocate(1, [0, 0])


def test_rounding_is_half_up_for_fees_and_half_even_for_tapes() -> None:
    assert round_minor(Decimal("0.5")) == 1
    assert round_minor(Decimal("-0.5")) == -1
    assert share_bp(12_345, 1_850) == 2_284  # 2283.825
    assert ratio_bp(2, 3) == 6_667
    assert (ratio_bp(1, 3), ratio_bp(1, 20_000), ratio_bp(1, 20_001), ratio_bp(5, 0)) == (3_333, 1, 0, 0)
    assert to_minor(Decimal("5864.9505117095"), "USD") == 586_495
    assert to_minor(Decimal("0.125"), "USD") == 12


@given(AMOUNTS, AMOUNTS)
def test_sums_are_exact_and_currencies_never_mix(a: int, b: int) -> None:
    assert Money(a, "EUR") + Money(b, "EUR") - Money(b, "EUR") == Money(a, "EUR")
    with pytest.raises(ValueError, match="add up"):
        Money(a, "EUR") + Money(b, "CNY")
