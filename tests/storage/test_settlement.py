"""From the hammer to the last account closed out: every cent accounted for, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import Session, col, select

from market.errors import Conflict
from market.money import allocate
from storage import ledger as books
from storage import reconciliation, settlement, tables
from storage.database import Database
from tests.bank import Paid
from tests.storage.sales import AT, DEPOSIT, World, world

LATER = AT + timedelta(days=3)


@pytest.fixture
def w(db: Database) -> World:
    made = world(db)
    made.publish()
    return made


def balance(w: World, code: str) -> int:
    return w.db.read(books.balance, code)


def pay_balance(w: World, sale_id: int) -> None:
    due = w.balance_due(sale_id)
    w.pay(Paid(due.amount_minor, due.reference, "Bidder A", "NL0000000000000001"), at=LATER)


def test_from_the_hammer_to_the_last_account_closed_out(w: World) -> None:
    sale_id = w.sell(1_000_000_00)
    sale = w.sale(sale_id)
    assert (sale.hammer_minor, sale.deposit_minor, sale.status) == (1_000_000_00, DEPOSIT, "awaiting_balance")
    assert w.balance_due(sale_id).amount_minor == 1_000_000_00 - DEPOSIT
    assert w.statuses() == {"under_contract"}
    assert w.payouts() == {f"release:{w.auction}:{w.bidders[1]}": DEPOSIT}
    assert balance(w, f"claims:{w.creditor}:CNY") == 80_000_08
    assert w.agrees()

    pay_balance(w, sale_id)
    assert w.sale(sale_id).status == "paid"
    assert w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    assert w.statuses() == {"closed_out"}
    assert balance(w, f"claims:{w.creditor}:CNY") == 0
    assert balance(w, f"claims_owner:{w.creditor}:CNY") == 0
    assert balance(w, f"escrow:{sale_id}:CNY") == 0
    assert balance(w, f"buyer:{sale_id}:CNY") == 0
    assert w.payouts()[f"proceeds:{sale_id}"] == 1_000_000_00
    with Session(w.db.engine) as session:
        of_accounts = session.exec(select(tables.SaleAccount).order_by(col(tables.SaleAccount.account_id))).all()
        assert sum(one.price_minor for one in of_accounts) == 1_000_000_00
        shares = allocate(1_000_000_00, [50_000_00, 30_000_01, 0, 7])
        assert [one.price_minor for one in of_accounts] == shares
        for one in of_accounts:
            claims = session.exec(
                select(tables.Posting.amount_minor)
                .join(tables.LedgerAccount, col(tables.LedgerAccount.id) == col(tables.Posting.ledger_account_id))
                .where(
                    tables.Posting.loan_account_id == one.account_id,
                    col(tables.LedgerAccount.code).startswith("claims:"),
                )
            ).all()
            assert sum(claims) == 0  # each account ends at exactly zero
            assert one.closed_out_at is not None
        assert session.get_one(tables.Lot, w.lot).status == "settled"
        assert {one.owner_id for one in session.exec(select(tables.LoanAccount))} == {w.bidders[0]}
    assert w.agrees()


def test_asking_twice_is_asking_once(w: World) -> None:
    sale_id = w.sell()
    before = w.db.read(books.trial_balance)
    assert w.settle() == sale_id
    assert w.db.read(books.trial_balance) == before
    pay_balance(w, sale_id)
    assert w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    before = w.db.read(books.trial_balance)
    assert not w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    assert w.settle() == sale_id
    assert w.db.read(books.trial_balance) == before


def test_premium_and_commission(db: Database) -> None:
    w = world(db)
    w.publish(premium_bp=150, commission_bp=250)
    sale_id = w.sell(1_000_000_00)
    assert w.balance_due(sale_id).amount_minor == 1_015_000_00 - DEPOSIT
    pay_balance(w, sale_id)
    w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    assert w.payouts()[f"proceeds:{sale_id}"] == 975_000_00
    assert balance(w, "premium:CNY") == -15_000_00
    assert balance(w, "commission:CNY") == -25_000_00
    assert w.agrees()


def test_nobody_bid(w: World) -> None:
    w.deposits(*w.bidders[:2])
    w.play([])
    assert w.settle() is None
    assert w.statuses() == {"overdue"}
    assert len(w.payouts()) == 2
    with Session(w.db.engine) as session:
        assert session.get_one(tables.Lot, w.lot).status == "unsold"
    assert w.settle() is None
    assert len(w.payouts()) == 2
    assert w.agrees()


def test_an_open_auction_is_not_settled(w: World) -> None:
    with pytest.raises(Conflict, match="auction_not_closed"):
        w.settle()


def test_default_and_the_resale_that_uses_the_deposit(w: World) -> None:
    """spec/rulesets.md 2.1.4: 84,000 on 1,000,000; costs 6,000; re-sale 950,000 -> 6,000 / 50,000 / 28,000."""
    first = w.sell(1_000_000_00)
    first_auction = w.auction
    with pytest.raises(Conflict, match="not_due_yet"):
        w.db.in_transaction(settlement.default, first, at=LATER)
    late = AT + timedelta(days=30)
    assert w.db.in_transaction(settlement.default_overdue_sales, at=late) == [first]
    assert w.db.in_transaction(settlement.default_overdue_sales, at=late) == []
    assert w.statuses() == {"overdue"}
    assert balance(w, f"forfeited:{first}:CNY") == -DEPOSIT
    assert balance(w, f"claims:{w.creditor}:CNY") == 0
    assert w.db.read(settlement.is_barred, w.lot, w.bidders[0])
    assert not w.db.read(settlement.is_barred, w.lot, w.bidders[1])
    assert w.agrees()
    w.db.in_transaction(settlement.set_costs, first, 6_000_00, person_id=w.person, at=late)

    w.publish()
    assert w.auction != first_auction
    second = w.sell(950_000_00, winner=1, others=(2,))
    pay_balance(w, second)
    assert balance(w, f"forfeited:{first}:CNY") == -DEPOSIT  # not before the re-sale is paid
    w.db.in_transaction(settlement.complete, second, at=late)
    assert balance(w, f"forfeited:{first}:CNY") == 0
    assert balance(w, "sale_costs:CNY") == -6_000_00
    assert w.payouts()[f"forfeiture:{first}"] == 50_000_00 + 28_000_00
    with Session(w.db.engine) as session:
        used = session.exec(select(tables.SaleStep).where(tables.SaleStep.step == "deposit_used")).one().facts
        assert (used["costs_minor"], used["shortfall_minor"], used["remainder_minor"]) == (
            6_000_00, 50_000_00, 28_000_00,
        )  # fmt: skip
        assert used["remainder_to"] == "to_debtor_debt"
    assert w.statuses() == {"closed_out"}
    assert w.agrees()


def test_what_a_defaulted_buyer_had_paid_of_the_balance_goes_back(w: World) -> None:
    sale_id = w.sell()
    due = w.balance_due(sale_id)
    w.pay(Paid(1_000_00, due.reference))
    (line,) = w.db.read(reconciliation.waiting_lines)
    w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, person_id=w.person, at=LATER)
    assert w.agrees()
    w.db.in_transaction(settlement.default, sale_id, at=LATER, person_id=w.person, reason="he said so")
    assert w.payouts()[f"part_payment_back:{sale_id}"] == 1_000_00
    assert balance(w, f"buyer:{sale_id}:CNY") == 0
    # The rest comes too late: it is recognised, and owed back.
    w.pay(Paid(due.amount_minor - 1_000_00, due.reference))
    assert sum(amount for key, amount in w.payouts().items() if key.startswith("late:")) == due.amount_minor - 1_000_00
    assert w.agrees()


def test_a_deposit_larger_than_the_price(db: Database) -> None:
    w = world(db)
    w.publish(deposit_minor=DEPOSIT)
    winner, loser = w.bidders[:2]
    due = w.ask(winner, amount_minor=900_000_00)
    other = w.ask(loser)
    w.pay(Paid(due.amount_minor, due.reference), Paid(other.amount_minor, other.reference))
    w.play([(winner, 840_000_00)])
    sale_id = w.settle()
    assert sale_id is not None
    assert w.sale(sale_id).status == "paid"
    assert w.payouts()[f"deposit_back:{sale_id}"] == 60_000_00
    w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    assert w.agrees()


def assert_waits_for_a_payee(w: World, key: str) -> None:
    """Nobody knows a debtor's account from a lot: what is his is not sent before somebody names it, once."""
    [payout] = w.db.read(lambda session: session.exec(select(tables.Payout).where(tables.Payout.key == key)).all())
    assert (payout.status, payout.name, payout.iban) == ("needs_payee", "", "")
    w.pay(Paid(-payout.amount_minor, f"{payout.reference} surplus"), at=LATER)
    lines = select(tables.StatementLine.status).order_by(col(tables.StatementLine.id).desc())
    assert w.db.read(lambda session: session.exec(lines).first()) == "waiting"  # in the queue: who got that?

    def name(payee: str, iban: str) -> None:
        w.db.in_transaction(
            settlement.name_payee, payout.id, name=payee, iban=iban, reason="his letter", person_id=w.person, at=LATER
        )

    name("Li Wei", "CN001122334455")
    with pytest.raises(Conflict, match="payee_known"):
        name("Li Wen", "CN009988776655")
    kept = w.db.read(lambda session: session.get_one(tables.Payout, payout.id))
    assert (kept.status, kept.name, kept.iban) == ("due", "Li Wei", "CN001122334455")


@pytest.mark.parametrize("owed", [600_000_00, 2_000_000_00])
def test_collateral_pays_the_account_behind_it(db: Database, owed: int) -> None:
    w = world(db, [owed], car=True)
    w.publish(commission_bp=100)
    sale_id = w.sell(1_000_000_00)
    w.db.in_transaction(settlement.set_costs, sale_id, 24_000_00, person_id=w.person, at=LATER)
    pay_balance(w, sale_id)
    w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    net = 1_000_000_00 - 10_000_00 - 24_000_00
    with Session(w.db.engine) as session:
        account = session.get_one(tables.LoanAccount, w.accounts[0])
    assert balance(w, f"claims:{w.creditor}:CNY") == 0
    assert w.payouts()[f"proceeds:{sale_id}"] == min(net, owed)
    if owed < net:
        assert account.status == "closed_out"
        assert account.balance_minor == 0
        assert w.payouts()[f"surplus:{sale_id}"] == net - owed
        assert_waits_for_a_payee(w, f"surplus:{sale_id}")
    else:
        assert account.status == "overdue"  # the deficiency stays owed
        assert account.balance_minor == owed - net
        assert account.principal_minor + account.interest_minor == owed - net
    assert w.agrees()
