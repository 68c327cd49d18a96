"""Statements into the books, on both databases: whole or not at all, once, and every cent found again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlmodel import Session, col, select

from market.errors import BadInput, Conflict
from storage import ledger as books
from storage import reconciliation, tables, trace
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


def test_a_line_pays_several_payments(w: World) -> None:
    one, two = w.ask(w.bidders[0]), w.ask(w.bidders[1])
    w.pay(Paid(2 * DEPOSIT - 5_00, f"{one.reference} and {two.reference}", "Bidder A", "NL01"))
    (line,) = w.db.read(reconciliation.waiting_lines)

    def split(*shares: tuple[str, int]) -> None:
        w.db.in_transaction(reconciliation.split, line.id, shares, person_id=w.person, at=AT)

    for shares, faults in (
        ([(one.reference, DEPOSIT)], [("shares", "too_few_shares")]),
        ([(one.reference, DEPOSIT), (two.reference, DEPOSIT)], [("shares", "shares_sum")]),
        ([(one.reference, DEPOSIT + 1), (two.reference, DEPOSIT - 5_01)], [("amount-1", "share_too_much")]),
        ([(one.reference, DEPOSIT), ("CLxx", DEPOSIT - 5_00)], [("reference-2", "reference_unknown")]),
        ([(one.reference, DEPOSIT), (one.reference, DEPOSIT - 5_00)], [("reference-2", "reference_repeated")]),
    ):
        with pytest.raises(BadInput) as bad:
            split(*shares)
        assert [(fault.field, fault.code) for fault in bad.value.faults] == faults
    split((one.reference, DEPOSIT), (two.reference, DEPOSIT - 5_00))
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[0]}:CNY") == -DEPOSIT
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[1]}:CNY") == -(DEPOSIT - 5_00)
    assert [key for key in outbox(w) if key.startswith("admit")] == [f"admit:{w.auction}:{w.bidders[0]}"]
    assert w.agrees()
    cards = w.db.read(trace.trace, "statement_line", line.id)
    assert {card.facts["reference"] for card in cards if card.kind == "payment_due"} == {one.reference, two.reference}
    (decided,) = w.db.read(reconciliation.decided_lines)
    assert (decided.line.id, decided.references) == (line.id, (one.reference, two.reference))
    with pytest.raises(Conflict, match="match_final"):
        w.db.in_transaction(reconciliation.undo, line.id, "wrong", person_id=w.person, at=AT)
    assert w.agrees(), "nothing of the undoing that was refused is left"


def test_a_decision_is_taken_back_by_its_reversal_and_taken_anew(w: World) -> None:
    wrong, right = w.ask(w.bidders[0]), w.ask(w.bidders[1])
    w.pay(Paid(DEPOSIT - 15_00, "deposit", "Bidder B", "NL02"))
    (line,) = w.db.read(reconciliation.waiting_lines)
    with pytest.raises(Conflict, match="line_waits"):
        w.db.in_transaction(reconciliation.undo, line.id, "why", person_id=w.person, at=AT)
    for due in (wrong, right):
        w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, person_id=w.person, at=AT)
        if due is wrong:
            w.db.in_transaction(reconciliation.undo, line.id, "the other bidder's", person_id=w.person, at=AT)
            assert [one.id for one in w.db.read(reconciliation.waiting_lines)] == [line.id]
            assert w.db.read(lambda session: session.get_one(tables.PaymentDue, wrong.id).paid_minor) == 0
            assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[0]}:CNY") == 0
            assert w.agrees()
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[1]}:CNY") == -(DEPOSIT - 15_00)
    assert w.agrees()

    def trail(session: Session) -> list[tuple[int | None, str]]:
        rows = session.exec(select(tables.AuditTrail).where(tables.AuditTrail.action == "statement_line.undo"))
        return [(row.person_id, row.facts["reason"]) for row in rows]

    assert w.db.read(trail) == [(w.person, "the other bidder's")]

    def entries(session: Session) -> list[tuple[str, str]]:
        of_line = tables.LedgerEntry.cause_id == line.id, tables.LedgerEntry.cause == "statement_line"
        rows = session.exec(select(tables.LedgerEntry).where(*of_line).order_by(col(tables.LedgerEntry.id)))
        return [(row.key, row.text) for row in rows]

    key = f"match:{line.id}"
    assert w.db.read(entries)[1:] == [(key, ""), (f"reversal:{key}", "the other bidder's"), (f"{key}:1", "")]


def test_what_was_returned_or_not_ours_is_taken_back(w: World) -> None:
    w.pay(Paid(100_00, "who?", "Stranger", "DE00"), Paid(-3_00, "charges"))
    stranger, charges = sorted(w.db.read(reconciliation.waiting_lines), key=lambda line: -line.amount_minor)
    for reason in ("first", "second"):
        w.db.in_transaction(reconciliation.return_to_sender, stranger.id, person_id=w.person, at=AT)
        w.db.in_transaction(reconciliation.not_ours, charges.id, "charges", person_id=w.person, at=AT)
        for line in (stranger, charges):
            w.db.in_transaction(reconciliation.undo, line.id, reason, person_id=w.person, at=AT)
        assert w.agrees()
    w.db.in_transaction(reconciliation.return_to_sender, stranger.id, person_id=w.person, at=AT)
    assert w.agrees()

    def due(session: Session) -> list[tables.Payout]:
        return list(session.exec(select(tables.Payout).where(tables.Payout.status == "due")))

    (payout,) = w.db.read(due)
    w.pay(Paid(-100_00, payout.reference))
    assert w.agrees()
    with pytest.raises(Conflict, match="match_final"):
        w.db.in_transaction(reconciliation.undo, stranger.id, "sent already", person_id=w.person, at=AT)
    (sent, *_) = [one for one in w.db.read(reconciliation.decided_lines) if one.line.payout_id]
    assert sent.references == (payout.reference,)
    w.db.in_transaction(reconciliation.undo, sent.line.id, "another payment", person_id=w.person, at=AT)
    assert [one.id for one in w.db.read(due)] == [payout.id]
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
