"""The bank takes money back, on both databases: what it did is undone, the books agree, the sale follows the money."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from random import Random

import pytest
from sqlmodel import Session, col, select

from market.errors import Conflict
from storage import home, reconciliation, settlement, tables
from storage import ledger as books
from storage.database import Database
from tests.bank import Paid
from tests.storage.sales import AT, DEPOSIT, World, world

PRICE = 1_000_000_00
BALANCE = PRICE - DEPOSIT
LATER = AT + timedelta(days=2)


@pytest.fixture
def w(db: Database) -> World:
    made = world(db)
    made.publish()
    return made


def outbox(w: World, prefix: str) -> list[str]:
    """Work that is not done yet."""

    def keys(session: Session) -> list[str]:
        rows = select(tables.Outbox.key).where(col(tables.Outbox.done_at).is_(None))
        return [key for key in session.exec(rows.order_by(col(tables.Outbox.id))) if key.startswith(prefix)]

    return w.db.read(keys)


def complete(w: World, sale_id: int) -> bool:
    return w.db.in_transaction(settlement.complete, sale_id, at=LATER)


def line(w: World, amount_minor: int) -> tables.StatementLine:
    """The last line of this amount."""
    query = select(tables.StatementLine).where(tables.StatementLine.amount_minor == amount_minor)
    return w.db.read(lambda session: list(session.exec(query.order_by(col(tables.StatementLine.id))))[-1])


def needs(w: World) -> list[str]:
    return [need.code for need in w.db.read(home.operator, at=LATER).needs]


def take_back(w: World, one: tables.StatementLine, *, wrong: bool = False) -> None:
    (best, *_) = w.db.read(reconciliation.takes_back, one)
    w.db.in_transaction(
        reconciliation.take_back, one.id, best.first.id, is_payee_wrong=wrong, person_id=w.person, at=LATER
    )


@pytest.mark.parametrize("is_closed_out", [False, True])
def test_a_balance_that_the_bank_takes_back_is_owed_again(w: World, is_closed_out: bool) -> None:
    sale_id = w.sell(PRICE)
    due = w.balance_due(sale_id)
    w.pay(Paid(BALANCE, due.reference, "Bidder A", "NL01"), at=LATER)
    if is_closed_out:
        assert complete(w, sale_id)
    w.pay(Paid(-BALANCE, due.reference, "Bidder A", "NL01", is_reversal=True), at=LATER)
    assert w.agrees()
    due = w.balance_due(sale_id)
    assert (due.status, due.paid_minor) == ("open", 0)
    assert w.sale(sale_id).status == ("closed_out" if is_closed_out else "awaiting_balance")
    assert w.statuses() == ({"closed_out"} if is_closed_out else {"under_contract"})
    assert w.db.read(books.balance, f"buyer:{sale_id}:CNY") == BALANCE
    assert (line(w, BALANCE).status, line(w, -BALANCE).status) == ("taken_back", "takes_back")
    assert ("need_taken_back" in needs(w)) == is_closed_out
    assert not outbox(w, "complete:") or is_closed_out
    # It comes a second time, under the same reference.
    w.pay(Paid(BALANCE, due.reference, "Bidder A", "NL01"), at=LATER)
    assert w.agrees()
    assert w.balance_due(sale_id).status == "paid"
    assert "need_taken_back" not in needs(w)
    if not is_closed_out:
        assert outbox(w, "complete:") == [f"complete:{sale_id}:2"]
        assert complete(w, sale_id)
    assert w.sale(sale_id).status == "closed_out"
    assert w.db.read(books.balance, f"buyer:{sale_id}:CNY") == 0
    assert w.agrees()


def test_a_debit_without_the_banks_mark_waits_and_holds_the_close_out(w: World) -> None:
    sale_id = w.sell(PRICE)
    due = w.balance_due(sale_id)
    w.pay(Paid(BALANCE, due.reference, "Bidder A", "NL01"), at=LATER)
    w.pay(Paid(-BALANCE, due.reference, "Bidder A", "NL01"), at=LATER)
    assert not complete(w, sale_id)
    assert w.sale(sale_id).status == "paid"
    debit = line(w, -BALANCE)
    held = w.db.read(settlement.show_sale, sale_id, party_id=None, is_operator=True).held_by
    assert held is not None
    assert held.id == debit.id
    (found,) = w.db.read(reconciliation.takes_back, debit)
    assert [code for code, _ in found.suggestion.reasons] == [
        "reference_equal", "amount_equal", "iban_equal", "name_equal",
    ]  # fmt: skip
    # A person says what it was: nothing of the sale. Then it is closed out after all.
    for one in outbox(w, "complete:"):
        w.db.in_transaction(settlement._drop_work, one, at=LATER)
    w.db.in_transaction(reconciliation.not_ours, debit.id, "charges", person_id=w.person, at=LATER)
    assert len(outbox(w, f"complete:{sale_id}:line:{debit.id}")) == 1
    assert complete(w, sale_id)
    assert w.agrees()


def test_what_was_said_to_take_back_is_parted_again(w: World) -> None:
    sale_id = w.sell(PRICE)
    due = w.balance_due(sale_id)
    w.pay(Paid(BALANCE, due.reference), at=LATER)
    w.pay(Paid(-BALANCE, due.reference), at=LATER)
    take_back(w, line(w, -BALANCE))
    assert w.sale(sale_id).status == "awaiting_balance"
    with pytest.raises(Conflict, match="line_taken_back"):
        w.db.in_transaction(reconciliation.undo, line(w, BALANCE).id, "x", person_id=w.person, at=LATER)
    decided = w.db.read(reconciliation.decided_lines)
    assert (decided[0].line.status, decided[0].references) == ("takes_back", (due.reference,))
    w.db.in_transaction(reconciliation.undo, line(w, -BALANCE).id, "a mistake", person_id=w.person, at=LATER)
    assert {one.status for one in (line(w, BALANCE), line(w, -BALANCE))} == {"waiting"}
    assert w.agrees()
    w.db.in_transaction(reconciliation.match_by_hand, line(w, BALANCE).id, due.id, person_id=w.person, at=LATER)
    assert w.sale(sale_id).status == "paid"
    assert w.agrees()


def test_a_deposit_taken_back_bars_the_bidder_until_it_comes_again(w: World) -> None:
    due = w.ask(w.bidders[0])
    paid = Paid(DEPOSIT, due.reference, "Bidder A", "NL01")
    back = Paid(-DEPOSIT, due.reference, "Bidder A", "NL01", is_reversal=True)
    w.pay(paid)
    w.pay(back)
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[0]}:CNY") == 0
    assert not outbox(w, "admit:")
    assert len(outbox(w, f"bar:{w.auction}:{w.bidders[0]}:")) == 1
    assert w.agrees()
    w.pay(paid)
    assert outbox(w, "admit:") == [f"admit:{w.auction}:{w.bidders[0]}-1"]
    assert w.agrees()


def test_the_operator_is_told_that_a_leader_has_no_deposit(w: World) -> None:
    due = w.ask(w.bidders[0])
    w.pay(Paid(DEPOSIT, due.reference))

    def lead(session: Session) -> None:
        asked = session.exec(select(tables.Participation)).one()
        asked.status, asked.bidder = "admitted", 1
        auction = session.get_one(tables.Auction, w.auction)
        auction.phase, auction.leader = "open", 1
        session.add_all((asked, auction))

    w.db.in_transaction(lead)
    assert "need_leader_unpaid" not in needs(w)
    w.pay(Paid(-DEPOSIT, due.reference, is_reversal=True))
    assert "need_leader_unpaid" in needs(w)
    assert w.agrees()


@pytest.mark.parametrize("then", ["pays", "defaults"])
def test_the_buyers_deposit_taken_back_is_asked_for_with_the_balance(w: World, then: str) -> None:
    sale_id = w.sell(PRICE)
    deposit = w.dues[w.bidders[0]]
    w.pay(Paid(-DEPOSIT, deposit.reference, is_reversal=True), at=LATER)
    assert w.agrees()
    due = w.balance_due(sale_id)
    assert (due.amount_minor, w.sale(sale_id).deposit_minor) == (PRICE, 0)
    if then == "pays":
        w.pay(Paid(PRICE, due.reference), at=LATER)
        assert complete(w, sale_id)
    else:
        assert w.db.in_transaction(settlement.default, sale_id, at=AT + timedelta(days=60))
    assert w.agrees()
    assert w.db.read(books.balance, f"buyer:{sale_id}:CNY") == 0


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_losers_deposit_taken_back_after_its_release(w: World, is_sent: bool) -> None:
    w.sell(PRICE)
    loser = w.bidders[1]
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    if is_sent:
        w.pay(Paid(-payout.amount_minor, payout.reference, payout.name, payout.iban), at=LATER)
    w.pay(Paid(-DEPOSIT, w.dues[loser].reference, is_reversal=True), at=LATER)
    assert w.agrees()
    assert w.db.read(books.balance, f"payable:{loser}:CNY") == 0
    assert w.db.read(books.balance, f"receivable:{loser}:CNY") == (DEPOSIT if is_sent else 0)
    assert ("need_claim_open" in needs(w)) == is_sent
    if is_sent:
        query = select(tables.PaymentDue).where(tables.PaymentDue.kind == "claim")
        claim = w.db.read(lambda session: session.exec(query).one())
        w.pay(Paid(DEPOSIT, claim.reference), at=LATER)
        assert w.db.read(books.balance, f"receivable:{loser}:CNY") == 0
        assert "need_claim_open" not in needs(w)
    assert w.agrees()


@pytest.mark.parametrize("is_sent", [False, True])
def test_what_was_paid_too_much_goes_the_same_way(w: World, is_sent: bool) -> None:
    due = w.ask(w.bidders[0])
    w.pay(Paid(DEPOSIT + 7_00, "deposit", "Bidder A", "NL01"))
    first = line(w, DEPOSIT + 7_00)
    w.db.in_transaction(reconciliation.match_by_hand, first.id, due.id, person_id=w.person, at=AT)
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    if is_sent:
        w.pay(Paid(-7_00, payout.reference, payout.name, payout.iban))
    w.pay(Paid(-DEPOSIT - 7_00, "deposit", "Bidder A", "NL01", is_reversal=True))
    assert line(w, -DEPOSIT - 7_00).status == "waiting"  # nothing but name and account: for a person
    take_back(w, line(w, -DEPOSIT - 7_00))
    assert w.agrees()
    assert w.db.read(books.balance, f"deposit:{w.auction}:{w.bidders[0]}:CNY") == 0
    assert w.db.read(books.balance, f"receivable:{w.bidders[0]}:CNY") == (7_00 if is_sent else 0)
    assert w.db.read(lambda session: session.get_one(tables.PaymentDue, due.id)).status == "open"


def test_a_claim_outlives_the_end_of_the_auction(w: World) -> None:
    """What was paid too much had been sent back when the bank took the payment: that is owed, whoever wins."""
    loser = w.bidders[1]
    due = w.ask(loser)
    w.pay(Paid(DEPOSIT + 7_00, "deposit", "Bidder B", "NL02"))
    w.db.in_transaction(reconciliation.match_by_hand, line(w, DEPOSIT + 7_00).id, due.id, person_id=w.person, at=AT)
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    w.pay(Paid(-7_00, payout.reference, payout.name, payout.iban))
    w.pay(Paid(-DEPOSIT - 7_00, "deposit", "Bidder B", "NL02", is_reversal=True))
    take_back(w, line(w, -DEPOSIT - 7_00))
    w.sell(PRICE, others=())
    query = select(tables.PaymentDue).where(tables.PaymentDue.kind == "claim")
    claim = w.db.read(lambda session: session.exec(query).one())
    assert (claim.status, claim.amount_minor) == ("open", 7_00)
    assert "need_claim_open" in needs(w)
    w.pay(Paid(7_00, claim.reference, "Bidder B", "NL02"), at=LATER)
    assert w.db.read(books.balance, f"receivable:{loser}:CNY") == 0
    assert w.db.read(lambda session: session.get_one(tables.PaymentDue, due.id)).status == "cancelled"
    assert w.agrees()


@pytest.mark.parametrize("is_payee_wrong", [False, True])
def test_a_pay_out_that_comes_back_is_due_again(w: World, is_payee_wrong: bool) -> None:
    w.sell(PRICE)
    (payout,) = w.db.read(lambda session: session.exec(select(tables.Payout)).all())
    w.pay(Paid(-payout.amount_minor, payout.reference, payout.name, payout.iban), at=LATER)
    w.pay(Paid(payout.amount_minor, f"RETURN {payout.reference}", payout.name, payout.iban), at=LATER)
    back = line(w, payout.amount_minor)
    assert back.status == "waiting"
    (found, *_) = w.db.read(reconciliation.takes_back, back)
    assert found.payout is not None
    assert found.payout.id == payout.id
    take_back(w, back, wrong=is_payee_wrong)
    after = w.db.read(lambda session: session.get_one(tables.Payout, payout.id))
    assert (after.status, after.sent_at) == ("needs_payee" if is_payee_wrong else "due", None)
    assert w.agrees()
    if is_payee_wrong:
        w.db.in_transaction(
            settlement.name_payee, payout.id, name="B", iban="NL77", reason="by phone", person_id=w.person, at=LATER
        )
    w.pay(Paid(-payout.amount_minor, payout.reference, payout.name, "NL77"), at=LATER)
    assert w.db.read(lambda session: session.get_one(tables.Payout, payout.id)).status == "sent"
    assert w.agrees()


@pytest.mark.parametrize("kind", ["waiting", "not_ours", "returned"])
def test_what_nobody_expected_is_taken_back_too(w: World, kind: str) -> None:
    w.pay(Paid(100_00, "who?", "Stranger", "DE00", end_to_end_id="E-1"))
    first = line(w, 100_00)
    by = {"person_id": w.person, "at": AT}
    if kind == "not_ours":
        w.db.in_transaction(reconciliation.not_ours, first.id, "?", **by)  # type: ignore[arg-type]
    elif kind == "returned":
        w.db.in_transaction(reconciliation.return_to_sender, first.id, **by)  # type: ignore[arg-type]
    w.pay(Paid(-100_00, "taken back", "Stranger", "DE00", end_to_end_id="E-1", is_reversal=True))
    assert (line(w, 100_00).status, line(w, -100_00).status) == ("taken_back", "takes_back")
    assert w.agrees()
    assert w.db.read(books.balance, "returns:CNY") == 0
    assert w.db.read(reconciliation.waiting_lines) == []


def test_a_reversal_is_taken_once(w: World) -> None:
    due = w.ask(w.bidders[0])
    w.pay(Paid(DEPOSIT, due.reference))
    for _ in range(2):
        w.pay(Paid(-DEPOSIT, due.reference, is_reversal=True))
    waiting = line(w, -DEPOSIT)
    assert waiting.status == "waiting"
    with pytest.raises(Conflict, match="line_taken_back"):
        w.db.in_transaction(reconciliation.take_back, waiting.id, line(w, DEPOSIT).id, person_id=w.person, at=AT)
    assert w.agrees()


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_payments_and_reversals(db: Database, seed: int) -> None:
    """What counts is what has come and was not taken back: the sale's state follows from it, whatever came when."""
    random = Random(seed)
    w = world(db, (50_000_00, 30_000_01, 7))
    w.publish()
    sale_id = w.sell(PRICE)
    due = w.balance_due(sale_id)
    numbers, alive, is_closed_out = count(), dict[str, int](), False
    for _ in range(14):
        act = random.choice(("pay", "part", "back", "back", "complete", "person"))
        paid_before = w.balance_due(sale_id).paid_minor
        if act in ("pay", "part") and paid_before < BALANCE:
            amount = BALANCE - paid_before if act == "pay" else max(1, (BALANCE - paid_before) // 3)
            name = f"E{next(numbers)}"
            w.pay(Paid(amount, due.reference, "Bidder A", "NL01", end_to_end_id=name), at=LATER)
            alive[name] = amount
            if act == "part":  # a part is for a person
                w.db.in_transaction(
                    reconciliation.match_by_hand, line(w, amount).id, due.id, person_id=w.person, at=LATER
                )
        elif act == "back" and alive:
            name = random.choice(list(alive))
            marked = random.random() < 0.5
            amount = alive.pop(name)
            w.pay(Paid(-amount, due.reference, "Bidder A", "NL01", end_to_end_id=name, is_reversal=marked), at=LATER)
            for waits in w.db.read(reconciliation.waiting_lines):
                assert not complete(w, sale_id) if w.sale(sale_id).status == "paid" else True
                (best, *_) = w.db.read(reconciliation.takes_back, waits)
                assert best.first.end_to_end_id == name
                take_back(w, waits)
        elif act == "complete" and w.sale(sale_id).status == "paid":
            is_closed_out = complete(w, sale_id)
        assert w.agrees()
        now = w.balance_due(sale_id)
        assert now.paid_minor == sum(alive.values())
        in_full = now.paid_minor == BALANCE
        assert now.status == ("paid" if in_full else "open")
        expected = "closed_out" if is_closed_out else "paid" if in_full else "awaiting_balance"
        assert w.sale(sale_id).status == expected
        assert w.db.read(books.balance, f"buyer:{sale_id}:CNY") == BALANCE - now.paid_minor
