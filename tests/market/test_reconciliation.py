"""References that notice their own typing errors, and matches that say why."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.reconciliation import (
    ALPHABET,
    IN,
    OUT,
    REFERENCE_SPACE,
    Expected,
    Line,
    make_reference,
    match,
    references_in,
)

ON = date(2026, 11, 22)
numbers = st.integers(0, REFERENCE_SPACE - 1)


@given(numbers, st.sampled_from([IN, OUT]))
def test_a_reference_is_found_however_a_bank_writes_it(number: int, prefix: str) -> None:
    reference = make_reference(prefix, number)
    plain = reference.replace("-", "")
    for text in (reference, reference.lower(), f"/REF/ {plain} ", f"{plain[:5]}\n{plain[5:]}", f"款项{reference}。"):
        assert references_in(text) == [reference]


@given(numbers, st.integers(2, 10), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(number: int, place: int, other: str) -> None:
    plain = make_reference(IN, number).replace("-", "")
    wrong = plain[:place] + other + plain[place + 1 :]
    assert wrong == plain or references_in(wrong) == []
    swapped = plain[:place] + plain[place : place + 2][::-1] + plain[place + 2 :]
    assert swapped == plain or references_in(swapped) == []
    assert references_in("CP" + plain[2:]) == []  # money in is not money out


def expected(**more: object) -> Expected:
    facts = {
        "id": 1, "reference": make_reference(IN, 7), "amount_minor": 100_00, "currency": "CNY",
        "name": "Acme Asset Ltd", "iban": "NL91ABNA0417164300", "due_on": ON, **more,
    }  # fmt: skip
    return Expected(**facts)  # type: ignore[arg-type]


def test_certain_needs_reference_amount_currency_and_an_open_payment() -> None:
    due = expected()
    line = Line(100_00, "CNY", ON, text=f"pay {due.reference}")
    (found,) = match(line, [due])
    assert found.certain
    assert found.reasons[:2] == (("reference_equal", due.reference), ("amount_equal", "100.00"))
    assert not any(one.certain for one in match(Line(99_99, "CNY", ON, text=due.reference), [due]))
    assert not any(one.certain for one in match(Line(100_00, "CNY", ON, text="no reference"), [due]))
    assert match(Line(100_00, "EUR", ON, text=due.reference), [due]) == []
    assert match(line, [expected(is_open=False)]) == []
    two = f"{due.reference} {make_reference(IN, 8)}"
    assert not any(one.certain for one in match(Line(100_00, "CNY", ON, text=two), [due]))


def test_suggestions_come_best_first_with_reasons() -> None:
    named = expected(id=1, amount_minor=115_00)
    same_amount = expected(id=2, reference=make_reference(IN, 8), iban="", name="Other")
    unlike = expected(id=3, reference=make_reference(IN, 9), amount_minor=5, iban="", name="Other")
    line = Line(
        100_00, "CNY", ON, text=named.reference, other_name="ACME ASSET LTD.", other_iban="NL91 ABNA 0417 1643 00"
    )
    found = match(line, [same_amount, unlike, named])
    assert [one.expected_id for one in found] == [1]
    assert found[0].reasons == (
        ("reference_equal", named.reference), ("amount_short", "15.00"), ("iban_equal", "4300"), ("name_equal", "100%"),
    )  # fmt: skip
    without = Line(100_00, "CNY", date(2026, 11, 25))
    assert match(without, [same_amount])[0].reasons == (("amount_equal", "100.00"), ("late", "3"))


def test_references_are_bounded() -> None:
    for prefix, number in (("XX", 1), (IN, -1), (IN, REFERENCE_SPACE)):
        with pytest.raises(ValueError):
            make_reference(prefix, number)
