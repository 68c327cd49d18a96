"""Statements into the books, on both databases: whole or not at all, once, and every cent found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import select

from market.errors import Conflict
from storage import ledger as books
from storage import reconciliation, tables
from storage.database import Database
from tests.bank import Bank, Paid
from tests.storage.sales import AT, DEPOSIT, World, world


@pytest.fixture
def w(db: Database) -> World:
    made = world(db)
    made.publish()
    return made


def codes(file: tables.StatementFile) -> list[str]:
    return [one["code"] for one in file.faults]


def outbox(w: World) -> list[str]:
    return w.db.read(lambda session: list(session.exec(select(tables.Outbox.key))))


def test_a_certain_match_holds_the_deposit_and_asks_for_admission(w: World) -> None:
    due = w.ask(w.bidders[0])
    file = w.pay(Paid(DEPOSIT, f"deposit {due.reference.lower()} thanks", "Bidder A", "NL01"))
    assert (file.status, file.lines) == ("kept", 1)
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[0]}:CNY") == -DEPOSIT
    assert f"admit:{w.auction}:{w.bidders[0]}" in outbox(w)
    assert w.db.read(reconciliation.waiting_lines) == []
    assert w.agrees()


def test_the_same_file_twice_books_once(w: World) -> None:
    due = w.ask(w.bidders[0])
    data = w.bank.camt053(Paid(DEPOSIT, due.reference))
    assert w.read(data).status == "kept"
    before = w.db.read(books.trial_balance)
    assert w.read(data).status == "repeated"
    assert w.read(data.replace(b"<MsgId>", b"<MsgId>again ")).status == "refused"  # another file, the same entries
    assert w.db.read(books.trial_balance) == before


@pytest.mark.parametrize(
    ("amount_minor", "text", "status"),
    [
        (DEPOSIT - 1, "{}", "waiting"), (DEPOSIT + 1, "{}", "waiting"), (DEPOSIT, "no reference", "waiting"),
        (DEPOSIT, "{} and CL22-2222-223", "matched"), (DEPOSIT, "{} and CL22-2222-222", "waiting"),  # a valid one
    ],
)  # fmt: skip
def test_only_reference_and_amount_together_are_certain(w: World, amount_minor: int, text: str, status: str) -> None:
    due = w.ask(w.bidders[0])
    w.pay(Paid(amount_minor, text.format(due.reference)))
    lines = w.db.read(reconciliation.waiting_lines)
    assert ("waiting" if lines else "matched") == status
    assert w.agrees()


def test_under_and_over_payment_by_hand(w: World) -> None:
    due = w.ask(w.bidders[0])
    w.pay(Paid(DEPOSIT - 15_00, due.reference, "Bidder A"))
    (line,) = w.db.read(reconciliation.waiting_lines)
    (best, *_) = w.db.read(reconciliation.candidates, line)
    assert best.suggestion.reasons[0] == ("reference_equal", due.reference)
    assert best.suggestion.reasons[1] == ("amount_short", "15.00")
    w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, person_id=w.person, at=AT)
    assert not [key for key in outbox(w) if key.startswith("admit")]  # not in full yet
    with pytest.raises(Conflict, match="line_decided"):
        w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, person_id=w.person, at=AT)
    w.pay(Paid(20_00, "the rest", "Bidder A"))
    (line,) = w.db.read(reconciliation.waiting_lines)
    w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, person_id=w.person, at=AT)
    assert [key for key in outbox(w) if key.startswith("admit")]
    assert w.payouts() == {f"over:{line.id}": 5_00}
    assert w.agrees()


def test_a_deposit_that_comes_after_the_close_goes_back(w: World) -> None:
    due, late = w.ask(w.bidders[0]), w.ask(w.bidders[1])
    w.pay(Paid(DEPOSIT, due.reference))
    w.play([(w.bidders[0], 840_000_00)])
    w.settle()
    w.pay(Paid(DEPOSIT, late.reference, "Late", "NL99"))
    assert [amount for key, amount in w.payouts().items() if key.startswith("late:")] == [DEPOSIT]
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[1]}:CNY") == 0
    assert w.agrees()


def test_money_goes_out_by_the_reference_of_its_payout(w: World) -> None:
    w.sell()
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    w.pay(Paid(-payout.amount_minor, f"refund {payout.reference}", payout.name, payout.iban))
    assert w.db.read(lambda session: session.get_one(tables.Payout, payout.id).status) == "sent"
    assert w.db.read(books.balance, f"payable:{w.bidders[1]}:CNY") == 0
    assert w.agrees()
    # Sent twice: the second one is not explained, and waits.
    w.pay(Paid(-payout.amount_minor, f"refund {payout.reference}"))
    (line,) = w.db.read(reconciliation.waiting_lines)
    with pytest.raises(Conflict, match="due_closed"):
        w.db.in_transaction(reconciliation.match_payout_by_hand, line.id, payout.id, person_id=w.person, at=AT)
    assert w.agrees()


def test_return_to_sender_and_not_ours(w: World) -> None:
    w.pay(Paid(100_00, "who?", "Stranger", "DE00"), Paid(-3_00, "charges"))
    stranger, charges = sorted(w.db.read(reconciliation.waiting_lines), key=lambda line: -line.amount_minor)
    w.db.in_transaction(reconciliation.return_to_sender, stranger.id, person_id=w.person, at=AT)
    w.db.in_transaction(reconciliation.not_ours, charges.id, "bank charges", person_id=w.person, at=AT)
    assert w.payouts() == {f"return:{stranger.id}": 100_00}
    assert w.agrees()
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    assert (payout.iban, payout.name) == ("DE00", "Stranger")
    w.pay(Paid(-100_00, payout.reference))
    assert w.db.read(books.balance, "returns:CNY") == 0
    assert w.agrees()


def test_what_is_wrong_refuses_the_whole_file(w: World) -> None:
    good = w.bank.camt053(Paid(10_00, "a"))
    wrong = {
        "account_unknown": replace(w.bank, iban="DE0000").camt053(Paid(1, "x")),
        "currency_differs": replace(w.bank, currency="EUR").camt053(Paid(1, "x")),
        "statement_balance": good.replace(b"<Ntry><Amt Ccy='CNY'>10.00<", b"<Ntry><Amt Ccy='CNY'>11.00<"),
    }
    for code, data in wrong.items():
        assert code in codes(w.read(data)), code
    assert w.db.read(books.trial_balance) == []
    assert w.read(good).status == "kept"
    # A number skipped needs a person's consent; a chain that does not go on is refused with it, too.
    w.bank.number += 1
    gap = w.bank.camt053(Paid(1_00, "b"))
    assert codes(w.read(gap)) == ["number_skipped"]
    assert w.read(gap, gap_consent=True).status == "kept"
    w.bank.balance_minor += 5
    assert "chain_broken" in codes(w.read(w.bank.camt053(Paid(1_00, "c")), gap_consent=True))
    assert w.agrees()


def test_a_movement_seen_before_is_refused(w: World) -> None:
    seen = Paid(10_00, "a", reference="SAME")
    w.pay(seen)
    assert codes(w.pay(seen)) == ["entry_seen"]
    bank = Bank(balance_minor=w.bank.balance_minor - 10_00, number=w.bank.number - 1)
    twice = Paid(7_00, "equal in everything", reference="TWO")
    assert w.read(bank.mt940(twice, twice)).status == "kept"  # two payments: the balances say so
    assert w.agrees()


def test_the_first_opening_balance_is_our_own(w: World) -> None:
    w.pay()
    assert w.db.read(books.balance, "own:CNY") == -1_000_00
    assert w.db.read(books.balance, "bank:1:CNY") == 1_000_00
    assert w.agrees()


def test_balances_as_of_an_instant(w: World) -> None:
    w.pay(Paid(10_00, "a"), at=AT)
    w.pay(Paid(5_00, "b"), at=AT + timedelta(days=1))
    code = "bank:1:CNY"
    assert w.db.read(books.balance, code, at=AT) == 1_010_00
    assert w.db.read(books.balance, code, at=AT - timedelta(seconds=1)) == 0
    assert w.db.read(books.balance, code) == 1_015_00
