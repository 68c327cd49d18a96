"""kill -9 all along settling, closing out, defaulting, taking a statement: nothing twice, nothing lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session, select

from market import statements
from storage import ledger as books
from storage import reconciliation, settlement, tables
from storage.database import Database
from tests.bank import Paid
from tests.storage.sales import AT, World, world

LATER = AT + timedelta(days=40)
STRIDE = int(os.environ.get("CLEARLOT_KILL_STRIDE", "5"))  # 1: at every statement (two minutes)
MOST = 400  # statements in one transaction; more would mean that it is not one by the set


def killed_at_every_statement(w: World, work: Callable[[Session], Any]) -> int:
    """Run `work` in processes that kill themselves before their statement 1, 1 + STRIDE ..., until one gets through.

    After each death the books must be exactly what they were. Return how many statements it took.
    """
    before = w.db.read(books.trial_balance)
    for at_statement in range(1, MOST, STRIDE):
        status = _in_a_process(w.db.url, work, at_statement)
        if status == 0:
            return at_statement - 1  # statements after which it was killed, or could have been
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert w.db.read(books.trial_balance) == before
    raise AssertionError("it never got through")


def _in_a_process(url: str, work: Callable[[Session], Any], at_statement: int) -> int:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        database, count = Database(url), 0

        def one_more(*_: Any) -> None:
            nonlocal count
            count += 1
            if count == at_statement:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(database.engine, "before_cursor_execute", one_more)
        event.listen(database.engine, "commit", one_more)
        database.in_transaction(work)
        os._exit(0)
    finally:
        os._exit(1)  # an exception, which the parent sees as another death than by the signal


@pytest.fixture
def w(db: Database) -> World:
    made = world(db)
    made.publish(premium_bp=100, commission_bp=100)
    return made


def test_killed_while_settling_and_closing_out(w: World) -> None:
    w.deposits(*w.bidders[:3])
    w.play([(w.bidders[0], 1_000_000_00)])
    auction_id = w.auction
    assert killed_at_every_statement(w, lambda session: settlement.settle(session, auction_id, at=AT)) > 20
    assert sum(key.startswith("release:") for key in w.payouts()) == 2
    assert w.statuses() == {"under_contract"}
    assert w.agrees()
    sale_id = w.settle()
    assert sale_id is not None
    due = w.balance_due(sale_id)
    w.pay(Paid(due.amount_minor, due.reference))
    assert killed_at_every_statement(w, lambda session: settlement.complete(session, sale_id, at=LATER)) > 15
    assert w.statuses() == {"closed_out"}
    assert [key for key in w.payouts() if key.startswith("proceeds")] == [f"proceeds:{sale_id}"]
    assert w.agrees()


def test_killed_while_defaulting(w: World) -> None:
    sale_id = w.sell()
    assert killed_at_every_statement(w, lambda session: settlement.default_overdue_sales(session, at=LATER)) > 15
    assert w.sale(sale_id).status == "defaulted"
    assert w.statuses() == {"overdue"}
    assert w.agrees()


def test_killed_while_taking_a_lot_off_sale(w: World) -> None:
    w.deposits(*w.bidders[:3])
    w.play([(w.bidders[0], 1_000_000_00)], withdrawn="debt paid")
    auction_id = w.auction

    def settle(session: Session) -> None:
        assert settlement.settle(session, auction_id, at=AT) is None

    assert killed_at_every_statement(w, settle) > 20
    for _again in range(2):
        assert set(w.payouts()) == {f"release:{auction_id}:{party_id}" for party_id in w.bidders[:3]}
        assert w.statuses() == {"overdue"}
        lot, notes = w.db.read(
            lambda session: (
                session.get_one(tables.Lot, w.lot),
                session.exec(select(tables.AuditTrail).where(tables.AuditTrail.action == "lot.withdraw")).all(),
            )
        )
        assert (lot.status, lot.decision) == ("withdrawn", "debt paid")
        assert [one.person_id for one in notes] == [w.person]
        assert w.agrees()
        w.db.in_transaction(settle)


def test_killed_while_taking_a_statement(w: World) -> None:
    dues = [w.ask(party_id) for party_id in w.bidders]
    data = w.bank.camt053(*(Paid(due.amount_minor, due.reference) for due in dues), Paid(5, "?"))
    parsed = statements.parse(data)
    file_id = w.db.in_transaction(
        reconciliation.keep_file, filename="s", digest=sha256(data).hexdigest(), size=1, created_by=w.person,
        gap_consent=False, at=AT,
    )  # fmt: skip

    def take(session: Session) -> tables.StatementFile:
        return reconciliation.import_statement(session, file_id, parsed, at=AT)

    assert killed_at_every_statement(w, take) > 20
    assert w.db.in_transaction(take).status == "kept"  # asked again, its work is done
    assert len(w.db.read(reconciliation.waiting_lines)) == 1
    assert len(w.db.read(settlement.held_deposits, w.auction)) == 4
    assert w.agrees()
