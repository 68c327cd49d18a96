"""Work to do after the commit, once per key: rows that a task runner finds, also after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from storage.tables import Outbox

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=6)
GIVE_UP_AFTER = 30  # attempts: about three days at the longest pause


def put(session: Session, task: str, key: str, arguments: Mapping[str, Any], *, at: datetime) -> None:
    """Leave work for `task` (a name in web/tasks.py), due at `at`; the same key again is a no-op."""
    if session.exec(select(Outbox.id).where(Outbox.key == key)).first() is None:
        session.add(Outbox(key=key, task=task, arguments=dict(arguments), due_at=at))


def due(session: Session, *, at: datetime, limit: int) -> list[Outbox]:
    """Return the work that is due, oldest first."""
    waiting = (
        select(Outbox)
        .where(col(Outbox.done_at).is_(None), Outbox.due_at <= at, Outbox.attempts < GIVE_UP_AFTER)
        .order_by(col(Outbox.due_at), col(Outbox.id))
        .limit(limit)
    )
    return list(session.exec(waiting))


def claim(session: Session, outbox_id: int, *, at: datetime, hold: timedelta) -> Outbox | None:
    """Take one row for `hold`; None, when another worker has it or it is done.

    A worker that dies lets the claim run out; what it does must therefore be harmless to do again.
    """
    row = session.exec(
        select(Outbox)
        .where(Outbox.id == outbox_id, col(Outbox.done_at).is_(None), Outbox.due_at <= at)
        .with_for_update(skip_locked=True)
    ).first()
    if row is not None:
        row.attempts += 1
        row.due_at = at + hold
        session.add(row)
    return row


def done(session: Session, outbox_id: int, *, at: datetime) -> None:
    """Mark work as done."""
    row = session.get_one(Outbox, outbox_id)
    row.done_at, row.error = at, ""
    session.add(row)


def failed(session: Session, outbox_id: int, error: str, *, at: datetime) -> None:
    """Note a failure; the work comes back after a pause that doubles each time."""
    row = session.get_one(Outbox, outbox_id)
    row.error = error[:500]
    row.due_at = at + min(FIRST_PAUSE * 2 ** min(row.attempts, 20), LONGEST_PAUSE)
    session.add(row)
