"""The demonstration: a seeded marketplace has lots in every state, books that agree, and journals that hold."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from market import statements
from storage import journal, ledger, reconciliation
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.tables import (
    Auction,
    AuditTrail,
    BankAccount,
    Lot,
    Outbox,
    Participation,
    PaymentDue,
    Picture,
    Sale,
    StatementFile,
    StatementLine,
)
from tests.bank import IBAN, Bank, Paid
from web import demo, demo_acts, demo_data
from web.demo_seed import is_empty, seed

pytestmark = pytest.mark.slow


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects((tmp_path / "objects").as_uri())


def states(session: Session) -> dict[str, Counter[str]]:
    """How many of what are in which state."""
    return {
        "lot": Counter(session.exec(select(Lot.status))),
        "phase": Counter(session.exec(select(Auction.phase))),
        "outcome": Counter(session.exec(select(Auction.outcome))),
        "sale": Counter(session.exec(select(Sale.status))),
        "participation": Counter(session.exec(select(Participation.status))),
        "file": Counter(session.exec(select(StatementFile.status))),
        "line": Counter(session.exec(select(StatementLine.status))),
    }


def test_lots_in_every_state_with_a_true_past(db: Database, objects: Objects) -> None:
    now = datetime.now(UTC)
    assert db.read(is_empty)
    seed(db, objects, at=now)
    assert not db.read(is_empty)
    found = db.read(states)
    for status in (
        "draft",
        "submitted",
        "approved",
        "published",
        "sold",
        "settled",
        "unsold",
        "defaulted",
        "withdrawn",
    ):
        assert found["lot"][status], f"no lot is {status}"
    assert found["phase"]["open"] >= 9
    assert found["phase"]["upcoming"] >= 5
    assert found["sale"]["awaiting_balance"]
    assert found["sale"]["closed_out"] >= 3
    assert found["sale"]["defaulted"] == 2
    assert {"admitted", "released", "bought", "forfeited"} <= found["participation"].keys()
    assert found["file"].keys() == {"kept"}, "generated statements are read without a fault"
    assert found["line"].keys() == {"matched"}
    assert db.read(reconciliation.three_way).agrees
    assert db.read(ledger.unbalanced) == []
    # Nobody approves or publishes a lot of his own.
    alone = select(AuditTrail.id).join(Lot, col(Lot.id) == AuditTrail.subject_id)
    alone = alone.where(
        col(AuditTrail.action).in_(("lot.approve", "lot.publish")), AuditTrail.person_id == Lot.created_by
    )
    assert db.read(lambda session: session.exec(alone).all()) == []
    # The journals are real: every hash holds, instants lie in the past and never run backwards.
    for auction_id in db.read(lambda session: list(session.exec(select(Auction.id)))):
        fold = db.read(journal.load_fold, auction_id)
        assert fold.sequence >= 1
        assert fold.at_ms <= datetime.now(UTC).timestamp() * 1000 + 1
    left = db.read(lambda session: list(session.exec(select(Outbox.task).where(col(Outbox.done_at).is_(None)))))
    assert set(left) <= {"send_mail", "replace_accounts"}, "what the server finds to do at its first start"
    assert len(db.read(lambda session: list(session.exec(select(Picture.id))))) >= 40


def test_the_market_goes_on_from_the_database_alone(db: Database, objects: Objects) -> None:
    """Two engines one after the other, as after a kill: the second goes on where the first was."""
    now = datetime.now(UTC)
    seed(db, objects, at=now)
    cast = db.read(demo_acts.cast)
    assert cast is not None
    first = demo._Market(db, objects, cast)
    before = db.read(lambda session: len(session.exec(select(Lot.id)).all()))
    assert first.list_next(now)
    second = demo._Market(db, objects, cast)
    again = now + timedelta(seconds=5)
    while second.list_next(again):
        again += timedelta(seconds=5)
    after = db.read(lambda session: len(session.exec(select(Lot.id)).all()))
    assert before < after <= before + demo.AHEAD, "it lists until enough close soon, and no more"
    assert second.register(again), "investors ask to take part in what is new"
    assert second.bank(again + timedelta(minutes=2)), "their deposits are on the next statement"
    assert not second.bank(again + timedelta(minutes=2)), "which waits to be read before another follows"


def test_a_statement_by_hand_and_the_engines_do_not_meet(db: Database, objects: Objects) -> None:
    now = datetime.now(UTC)
    seed(db, objects, at=now)
    cast = db.read(demo_acts.cast)
    assert cast is not None
    account, due = db.read(
        lambda session: (
            session.exec(select(BankAccount).where(BankAccount.name == f"{demo_acts.BY_HAND} CNY")).one(),
            session.exec(select(PaymentDue).where(PaymentDue.currency == "CNY", PaymentDue.status == "open")).first(),
        )
    )
    assert due is not None
    bank = Bank(currency="CNY", iban=account.iban)  # number 1, and nothing on it: as a person begins

    def take(data: bytes) -> StatementFile:
        kept = objects.put(io.BytesIO(data), limit_bytes=len(data))
        file_id = db.in_transaction(
            reconciliation.keep_file, filename="by hand.xml", digest=kept.digest, size=kept.size_bytes,
            created_by=cast.operator.person_id, gap_consent=False, at=now,
        )  # fmt: skip
        return db.in_transaction(reconciliation.import_statement, file_id, statements.parse(data), at=now)

    first = take(bank.camt053(Paid(due.amount_minor - due.paid_minor, f"For {due.reference}", "Somebody", IBAN)))
    assert (first.status, first.faults) == ("kept", [])
    assert db.read(lambda session: session.get_one(PaymentDue, due.id).status) == "paid"
    # The engine states its own accounts, and both go on.
    market = demo._Market(db, objects, cast)
    assert market.bank(now + timedelta(days=3))
    [waiting] = db.read(
        lambda session: session.exec(select(StatementFile).where(StatementFile.status == "received")).all()
    )
    with objects.get(waiting.digest) as file:
        parsed = statements.parse(file.read())
    assert db.in_transaction(reconciliation.import_statement, waiting.id, parsed, at=now).status == "kept"
    assert take(bank.camt053(Paid(5_00, "nothing we know", "Somebody", IBAN))).status == "kept"
    assert db.read(reconciliation.three_way).agrees


def test_a_visitors_own_lot_is_not_offered_again_by_the_engine(db: Database, objects: Objects) -> None:
    now = datetime.now(UTC)
    seed(db, objects, at=now)
    cast = db.read(demo_acts.cast)
    assert cast is not None

    def unsold(session: Session, text_en: str) -> int:
        found = session.exec(select(Lot).where(Lot.status == "unsold").order_by(col(Lot.id))).first()
        assert found is not None
        found.text_en = text_en
        found.terms = {**found.terms, "closes_at": (now - timedelta(minutes=30)).isoformat()}
        session.add(found)
        return found.id

    db.in_transaction(unsold, "My own loans.")
    assert db.read(demo._to_offer_again, cast, at=now) is None
    lot_id = db.in_transaction(unsold, f"Loans. {demo_data.MADE_UP}")
    offered = db.read(demo._to_offer_again, cast, at=now)
    assert offered is not None
    assert offered[0].id == lot_id
