"""The books: once per key, never below zero, never changed, on both databases."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from market import ledger
from market.errors import Conflict, NotFound
from market.ledger import Cause, LedgerEntry, Unbalanced
from storage import ledger as books
from storage.database import Database

AT = datetime(2026, 11, 2, tzinfo=UTC)
ON = date(2026, 11, 2)
BANK, HELD, OWED = ledger.bank(1, "CNY"), ledger.deposit(1, 2, "CNY"), ledger.payable(2, "CNY")


def paid_in(key: str = "in", amount_minor: int = 100) -> LedgerEntry:
    return ledger.move(key, ON, Cause("test", 1), amount_minor, debit=BANK, credit=HELD)


def release(key: str = "out", amount_minor: int = 100) -> LedgerEntry:
    return ledger.move(key, ON, Cause("test", 1), amount_minor, debit=HELD, credit=OWED)


def test_once_per_key(db: Database) -> None:
    assert db.in_transaction(books.post, [paid_in()], at=AT) == 1
    assert db.in_transaction(books.post, [paid_in(), paid_in("more", 5)], at=AT) == 1
    with pytest.raises(Conflict, match="ledger_key_reused"):
        db.in_transaction(books.post, [paid_in(amount_minor=101)], at=AT)
    assert db.read(books.balance, HELD.code) == -105


def test_a_deposit_cannot_be_released_twice(db: Database) -> None:
    db.in_transaction(books.post, [paid_in()], at=AT)
    db.in_transaction(books.post, [release("first", 60)], at=AT)
    with pytest.raises(Conflict, match="balance_below_zero"):
        db.in_transaction(books.post, [release("second", 60)], at=AT)
    assert db.read(books.balance, HELD.code) == -40


def test_two_that_release_at_once_do_not_spend_the_same_money(db: Database) -> None:
    db.in_transaction(books.post, [paid_in()], at=AT)
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def spend(key: str) -> None:
        start.wait()
        try:
            db.in_transaction(books.post, [release(key, 60)], at=AT)
            outcomes.append("done")
        except Conflict as conflict:
            outcomes.append(conflict.code)

    threads = [threading.Thread(target=spend, args=(f"key {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["balance_below_zero"] * 3 + ["done"]
    assert db.read(books.balance, HELD.code) == -40


def test_a_reversal_answers_an_entry_once(db: Database) -> None:
    db.in_transaction(books.post, [paid_in()], at=AT)

    def reverse(session: Session, key: str = "in") -> bool:
        return books.reverse(session, key, on=ON, cause=Cause("test", 2), at=AT)

    assert db.in_transaction(reverse)
    assert not db.in_transaction(reverse)
    assert db.read(books.balance, HELD.code) == 0
    with pytest.raises(Conflict, match="reversal_of_reversal"):
        db.in_transaction(reverse, "reversal:in")
    with pytest.raises(NotFound):
        db.in_transaction(reverse, "nothing")
    db.in_transaction(books.post, [paid_in("again"), release("out")], at=AT)
    with pytest.raises(Conflict, match="balance_below_zero"):
        db.in_transaction(reverse, "again")  # its money has gone on
    assert db.read(books.unbalanced) == []


def test_what_is_posted_never_changes(db: Database) -> None:
    db.in_transaction(books.post, [paid_in()], at=AT)
    for statement in ("update posting set amount_minor = 1", "delete from posting", "delete from ledgerentry"):
        with pytest.raises(DBAPIError, match="append-only"):
            db.in_transaction(_execute, statement)


def _execute(session: Session, statement: str) -> None:
    session.execute(text(statement))


def test_a_spread_must_sum_to_its_posting(db: Database) -> None:
    def spread(session: Session, amount_minor: int) -> bool:
        rows = select(literal(7), literal(amount_minor))
        entry = ledger.move("many", ON, Cause("test", 1), 100, debit=BANK, credit=HELD)
        return books.post_spread(session, entry, {BANK.code: rows}, at=AT)

    with pytest.raises(Unbalanced):
        db.in_transaction(spread, 99)
    assert db.read(books.trial_balance) == []
    assert db.in_transaction(spread, 100)
    assert not db.in_transaction(spread, 100)
    ((kept, debits),) = db.read(books.entries)
    assert debits == 100
    _, lines = db.read(books.show_entry, kept.id)
    assert [(line.posting.amount_minor, line.posting.loan_account_id) for line in lines] == [(100, 7), (-100, None)]
    assert db.read(books.unbalanced) == []


def test_the_trial_balance_sums_to_zero(db: Database) -> None:
    db.in_transaction(books.post, [paid_in(), release(amount_minor=30)], at=AT)
    lines = db.read(books.trial_balance)
    assert {line.code: line.balance_minor for line in lines} == {BANK.code: 100, HELD.code: -70, OWED.code: -30}
    assert sum(line.debit_minor for line in lines) == sum(line.credit_minor for line in lines) == 130
    assert [line.code for line in db.read(books.trial_balance, prefix="deposit:")] == [HELD.code]
