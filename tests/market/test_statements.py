"""Real dialects of banks, read as two mature parsers read them; broken chains are flagged; bad files are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import statements
from market.errors import BadInput
from market.money import DECIMALS, amount_text
from market.statements import Statement, StatementLine, check, line_keys, parse
from tests.bank import Bank, Paid

RECURSION = "__RECURSIVITY__"  # how the published JSON ends its cycles


def text_of(line: StatementLine) -> Decimal:
    """The amount, also of currencies that we do not know (cents)."""
    if line.currency in DECIMALS:
        return Decimal(amount_text(line.amount_minor, line.currency))
    return Decimal(line.amount_minor).scaleb(-2)


def compare_mt(found: list[Statement], expected: dict[str, Any]) -> list[str]:
    """What differs from the published parse, as sentences."""
    lines = [line for one in found for line in one.lines]
    wrong = []
    if len(lines) != len(expected["transactions"]):
        wrong.append(f"{len(lines)} lines")
    for line, other in zip(lines, expected["transactions"], strict=False):
        entry = other.get("guessed_entry_date") or other.get("entry_date") or other["date"]
        pairs = {
            "amount": (text_of(line), Decimal(other["amount"]["amount"])),
            "currency": (line.currency, other["amount"].get("currency", "")),
            "value date": (str(line.value_on), other["date"]),
            "booking date": (str(line.booked_on), entry),
            "type": (line.kind, other.get("id") or ""),
            "bank reference": (line.bank_reference, other.get("bank_reference") or ""),
        }
        wrong += [f"{name}: {ours} for {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    chains = [one for one in found if one.opening and one.closing]
    if len(chains) != len(expected["balance_chain"]):
        wrong.append(f"{len(chains)} chains")
    for one, chain in zip(chains, expected["balance_chain"], strict=False):
        if (one.difference_minor == 0, len(one.lines)) != (chain["balanced"], chain["entries"]):
            wrong.append(f"chain {one.number}: off by {one.difference_minor}")
    return wrong


def compare_camt(found: list[Statement], expected: dict[str, Any]) -> list[str]:
    """What differs from the published parse; pending entries are not money yet and are left out by us."""
    lines = [line for one in found for line in one.lines]
    others = [one for one in expected.get("entries", []) if one != RECURSION and one.get("status") != "PDNG"]
    wrong = [] if len(lines) == len(others) else [f"{len(lines)} lines for {len(others)}"]
    for line, other in zip(lines, others, strict=False):
        detail = other.get("transactionDetail") or {}
        end_to_end = (detail.get("reference") or {}).get("endToEndId") or ""
        message = " ".join(((detail.get("remittanceInformation") or {}).get("message") or "").split())
        pairs = {
            "amount": (str(line.amount_minor), other["amount"]["minor_units"]),
            "currency": (line.currency, other["amount"]["currency"]),
            "booking date": (str(line.booked_on), other.get("bookingDate", str(line.booked_on))[:10]),
            "value date": (str(line.value_on), other.get("valueDate", str(line.value_on))[:10]),
            "end-to-end id": (line.end_to_end_id, "" if end_to_end == "NOTPROVIDED" else end_to_end),
            "message": (line.text[: len(message)], message),
        }
        record = other.get("record")
        if isinstance(record, dict):
            pairs["account"] = (found[0].account, record["account"].get("identification"))
            for kind, ours in (("opening", found[0].opening), ("closing", found[0].closing)):
                stated = [one for one in record.get("balances", []) if isinstance(one, dict) and one["type"] == kind]
                if stated:
                    theirs = (stated[0]["amount"]["minor_units"], stated[0]["amount"]["currency"])
                    pairs[kind] = ((str(ours.amount_minor), ours.currency) if ours else None, theirs)  # type: ignore[assignment]
        wrong += [f"{name}: {ours} for {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    return wrong


def test_every_published_file_is_read_as_published(shared_data: Path) -> None:
    folder = shared_data / "bank_statements"
    results: dict[str, list[str]] = {}
    for path in sorted([*folder.glob("mt940/*.sta"), *folder.glob("camt/*.xml")]):
        wanted = path.with_suffix(".expected.json")
        if not wanted.exists():
            with pytest.raises(BadInput):
                parse(path.read_bytes())  # camt053.v2.wrong: a file without a statement
            continue
        compare = compare_mt if path.suffix == ".sta" else compare_camt
        results[path.name] = compare(parse(path.read_bytes()), json.loads(wanted.read_text()))
    differing = {name: wrong for name, wrong in results.items() if wrong}
    print(f"{len(results) - len(differing)} of {len(results)} statement files agree")
    assert differing == {}
    assert len(results) == 40


def test_broken_chains_are_flagged(shared_data: Path) -> None:
    folder = shared_data / "bank_statements" / "mt940"
    flagged = balanced = 0
    for path in sorted(folder.glob("*.sta")):
        expected = json.loads(path.with_suffix(".expected.json").read_text())["balance_chain"]
        codes = {fault.code for fault in check(parse(path.read_bytes()))}
        if any(not one["balanced"] for one in expected):
            flagged += 1
            assert "statement_balance" in codes, path.name
        elif expected:
            balanced += 1
            assert "statement_balance" not in codes, path.name
        else:
            assert "balance_missing" in codes, path.name
    assert (flagged, balanced) == (13, 6)


MOVEMENTS = (
    Paid(100_00, "CL6H-5AJV-4X2 Überweisung <&>", "Müller & Söhne", "DE89370400440532013000", "E2E-1"),
    Paid(-3, "charges"),
)


@pytest.mark.parametrize("form", ["camt053", "mt940"])
def test_both_forms_say_the_same(form: str) -> None:
    bank = Bank(balance_minor=-5_00)
    (found,) = parse(getattr(bank, form)(*MOVEMENTS))
    assert check([found]) == []
    assert (found.account, found.currency) == (bank.iban, "CNY")
    assert found.number.partition("/")[0] == "1"
    assert found.opening == statements.Balance(-5_00, "CNY", bank.on)
    assert found.difference_minor == 0
    first, second = found.lines
    assert (first.amount_minor, second.amount_minor) == (100_00, -3)
    assert (first.text, first.end_to_end_id) == ("CL6H-5AJV-4X2 Überweisung <&>", "E2E-1")
    assert (first.other_name, first.other_iban) == ("Müller & Söhne", "DE89370400440532013000")
    assert (found.from_on, found.to_on) == (date(2026, 11, 2), date(2026, 11, 2))


def test_a_batch_is_split_when_its_parts_explain_it() -> None:
    one = Bank().camt053(Paid(30_00, "x")).decode()
    head, tail = one.split("<TxDtls>")[0], one.split("</TxDtls>")[1]
    part = "<TxDtls><Amt Ccy='CNY'>{}</Amt><RmtInf><Ustrd>{}</Ustrd></RmtInf></TxDtls>"
    split = head + part.format("10.00", "a") + part.format("20.00", "b") + tail
    (found,) = parse(split.encode())
    assert [(line.amount_minor, line.text) for line in found.lines] == [(10_00, "a"), (20_00, "b")]
    (found,) = parse(split.replace("20.00", "19.00").encode())
    assert [line.amount_minor for line in found.lines] == [30_00]  # not explained: the entry is the movement


GOOD = Bank().camt053(Paid(1_00, "x"))
DOCTYPE = GOOD.replace(b"<Document", b"<!DOCTYPE a [<!ENTITY b 'c'>]><Document", 1)
DEEP = GOOD.replace(b"<Ustrd>x</Ustrd>", b"<a>" * 50 + b"</a>" * 50)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "file_empty"), (b" \n", "file_empty"), (b"hello", "format_unknown"), (b"<html/>", "format_unknown"),
        (b"<Document", "xml_broken"), (DOCTYPE, "xml_forbidden"), (DEEP, "xml_too_deep"),
        (GOOD.replace(b">1.00<", b">1,00<"), "amount_format"), (GOOD.replace(b">1.00<", b">1.001<"), "amount_format"),
        (GOOD.replace(b">1.00<", b">-1.00<"), "amount_format"), (GOOD.replace(b">1.00<", b">NaN<"), "amount_format"),
        (GOOD.replace(b">1.00<", b">1e3<"), "amount_format"), (GOOD.replace(b"CRDT", b"XXXX"), "field_format"),
        (GOOD.replace(b"2026-11-02", b"2026-13-02"), "date_format"), (b":20:A\n:61:rubbish\n", "field_format"),
        (b":20:A\n:60F:X260101EUR1,00\n", "field_format"), (b":20:A\n:60F:C269901EUR1,00\n", "date_format"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(data: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(data)
    assert refused.value.faults[0].code == code


def test_a_file_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MOST_LINES", 1)
    with pytest.raises(BadInput, match="bad_input"):
        parse(Bank().camt053(*MOVEMENTS))
    monkeypatch.setattr(statements, "MOST_BYTES", 10)
    with pytest.raises(BadInput, match="bad_input"):
        parse(GOOD)


def test_a_skipped_balance_inside_a_file_is_seen() -> None:
    bank = Bank()
    first = bank.mt940(Paid(1_00, "a"))
    bank.balance_minor += 7
    assert [fault.code for fault in check(parse(first + bank.mt940(Paid(1_00, "b"))))] == ["chain_broken"]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for one in (data, b":20:A\n:61:" + data, GOOD.replace(b"x", data, 1)):
        with suppress(BadInput):
            check(parse(one))


@given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.sampled_from("ab")), max_size=8))
def test_each_movement_has_a_key_of_its_own(movements: list[tuple[int, str]]) -> None:
    day = date(2026, 1, 1)
    lines = [StatementLine(amount, "EUR", day, day, text=text) for amount, text in movements]
    keys = line_keys("A", lines)
    assert len(set(keys)) == len(keys)
    assert keys == line_keys("A", lines)
    assert not set(keys) & set(line_keys("B", lines))
