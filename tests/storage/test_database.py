"""Transactions, instants and append-only tables, the same on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from threading import Thread

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col, select

from storage import outbox
from storage.database import Database
from storage.tables import LedgerAccount, LedgerEntry, Outbox, Posting

NOON = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)


def put_work(session: Session, key: str, at: datetime = NOON) -> None:
    outbox.put(session, "read_tape", key, {"tape_id": 1}, at=at)


def keys(session: Session) -> list[str]:
    return [row.key for row in session.exec(select(Outbox).order_by(col(Outbox.id)))]


def test_what_raises_leaves_nothing_behind(db: Database) -> None:
    def put_and_fail(session: Session) -> None:
        put_work(session, "a")
        session.flush()
        raise LookupError

    with pytest.raises(LookupError):
        db.in_transaction(put_and_fail)
    assert db.read(keys) == []


def test_a_reading_transaction_cannot_write(db: Database) -> None:
    with pytest.raises(DBAPIError):
        db.read(put_work, "a")


def test_instants_come_back_aware_and_equal_whatever_zone_they_went_in_with(db: Database) -> None:
    beijing = timezone(timedelta(hours=8))
    db.in_transaction(put_work, "a", NOON.astimezone(beijing))
    (due,) = db.read(lambda session: [row.due_at for row in session.exec(select(Outbox))])
    assert due == NOON
    assert due.tzinfo is not None


def test_many_writers_wait_for_one_another(db: Database) -> None:
    writers = [Thread(target=db.in_transaction, args=(put_work, f"w{i}")) for i in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(db.read(keys)) == sorted(f"w{i}" for i in range(16))


def test_handlers_use_it_from_the_event_loop(db: Database) -> None:
    async def both() -> list[str]:
        await db.in_thread(put_work, "a")
        return await db.read_in_thread(keys)

    assert asyncio.run(both()) == ["a"]


@pytest.mark.parametrize("verb", ["update posting set amount_minor = 2", "delete from posting"])
def test_the_database_itself_refuses_to_change_what_was_posted(db: Database, verb: str) -> None:
    def post(session: Session) -> None:
        account = LedgerAccount(code="bank", kind="asset", currency="CNY")
        entry = LedgerEntry(
            key="k", content_hash="h", on=NOON.date(), at=NOON, currency="CNY", cause="test", cause_id=1
        )
        session.add_all([account, entry])
        session.flush()
        assert entry.id
        assert account.id
        session.add(Posting(ledger_entry_id=entry.id, ledger_account_id=account.id, amount_minor=1))

    db.in_transaction(post)
    with pytest.raises(DBAPIError, match="append-only"):
        db.in_transaction(lambda session: session.execute(text(verb)))


def test_work_is_put_once_claimed_once_and_comes_back_when_its_worker_died(db: Database) -> None:
    db.in_transaction(put_work, "a")
    db.in_transaction(put_work, "a")
    (row,) = db.read(outbox.due, at=NOON, limit=10)
    hold = timedelta(minutes=1)
    assert db.in_transaction(outbox.claim, row.id, by="a", at=NOON, hold=hold) is not None
    assert db.in_transaction(outbox.claim, row.id, by="b", at=NOON, hold=hold) is None
    assert db.read(outbox.due, at=NOON, limit=10) == []
    assert db.in_transaction(outbox.renew, row.id, by="a", until=NOON + 2 * hold)
    assert db.in_transaction(outbox.claim, row.id, by="b", at=NOON + hold, hold=hold) is None
    assert db.in_transaction(outbox.claim, row.id, by="b", at=NOON + 2 * hold, hold=hold) is not None
    # The first one wakes up: the work is no longer his, and he can say nothing about it.
    assert not db.in_transaction(outbox.renew, row.id, by="a", until=NOON + 9 * hold)
    db.in_transaction(outbox.done, row.id, by="a", at=NOON + 2 * hold)
    db.in_transaction(outbox.failed, row.id, "woke up", by="a", at=NOON + 2 * hold)
    db.in_transaction(outbox.done, row.id, by="b", at=NOON + 2 * hold)
    assert db.read(outbox.due, at=NOON + timedelta(days=9), limit=10) == []
    assert [row.error for row in db.read(lambda session: list(session.exec(select(Outbox))))] == [""]


def test_a_process_that_is_alone_frees_every_claim_at_its_start_and_no_pause(db: Database) -> None:
    for key in ("claimed", "failed", "done"):
        db.in_transaction(put_work, key)
    for row in db.read(outbox.due, at=NOON, limit=10):
        db.in_transaction(outbox.claim, row.id, by="a", at=NOON, hold=timedelta(minutes=1))
        if row.key == "done":
            db.in_transaction(outbox.done, row.id, by="a", at=NOON)
        if row.key == "failed":
            db.in_transaction(outbox.failed, row.id, "no bank today", by="a", at=NOON)
    assert db.in_transaction(outbox.release_all, at=NOON) == 1
    assert [row.key for row in db.read(outbox.due, at=NOON, limit=10)] == ["claimed"]


def test_a_task_that_has_no_room_holds_nothing_else_up(db: Database) -> None:
    db.in_transaction(put_work, "tape")
    db.in_transaction(outbox.put, "settle", "settle:1", {"auction_id": 1}, at=NOON)
    assert [row.key for row in db.read(outbox.due, at=NOON, limit=1, but=["read_tape"])] == ["settle:1"]


def test_failed_work_comes_back_later_each_time_and_keeps_its_error(db: Database) -> None:
    db.in_transaction(put_work, "a")
    at, pauses = NOON, []
    for _ in range(4):
        (row,) = db.read(outbox.due, at=at, limit=10)
        db.in_transaction(outbox.claim, row.id, by="a", at=at, hold=timedelta(minutes=1))
        db.in_transaction(outbox.failed, row.id, "no bank today", by="a", at=at)
        (later,) = db.read(lambda session: [r.due_at for r in session.exec(select(Outbox))])
        pauses.append(later - at)
        at = later
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]
