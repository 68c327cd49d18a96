"""Work to do after the commit, once per key: rows that a task runner finds, also after a crash.

Who takes a row claims it for a short time and renews the claim while he works; the claim of a process that died runs
out.  Only who holds the claim says how it ended.  What a task does must be harmless to do again all the same: a
process that was frozen for longer than its claim does not know that another one has begun.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import CursorResult, and_, func, update
from sqlmodel import Session, col, select

from storage.tables import Outbox

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=6)
GIVE_UP_AFTER = 30  # attempts: about three days at the longest pause


def put(session: Session, task: str, key: str, arguments: Mapping[str, Any], *, at: datetime) -> None:
    """Leave work for `task` (a name in web/tasks.py), due at `at`; the same key again is a no-op."""
    if session.exec(select(Outbox.id).where(Outbox.key == key)).first() is None:
        session.add(Outbox(key=key, task=task, arguments=dict(arguments), due_at=at))


def due(session: Session, *, at: datetime, limit: int, but: Collection[str] = ()) -> list[Outbox]:
    """Return the work that is due, oldest first, without the tasks named in `but`."""
    waiting = (
        select(Outbox)
        .where(col(Outbox.done_at).is_(None), Outbox.due_at <= at, Outbox.attempts < GIVE_UP_AFTER)
        .where(col(Outbox.task).not_in(but))
        .order_by(col(Outbox.due_at), col(Outbox.id))
        .limit(limit)
    )
    return list(session.exec(waiting))


def figures(session: Session, *, at: datetime) -> list[tuple[str, float]]:
    """Return what an operator watches: how many rows are `due`, `claimed`, `given_up`, and `oldest_seconds`."""
    due_at, attempts = col(Outbox.due_at), col(Outbox.attempts)
    is_due = and_(due_at <= at, attempts < GIVE_UP_AFTER)
    is_claimed = and_(due_at > at, col(Outbox.claimed_by).is_not(None))
    counts = session.execute(
        sqlalchemy.select(
            func.count().filter(is_due),
            func.count().filter(is_claimed),
            func.count().filter(attempts >= GIVE_UP_AFTER),
            func.min(due_at).filter(is_due),
        ).where(col(Outbox.done_at).is_(None))
    ).one()
    due_count, claimed, given_up, oldest_at = counts
    waited_s = (at - oldest_at).total_seconds() if oldest_at is not None else 0.0
    return [("due", due_count), ("claimed", claimed), ("oldest_seconds", waited_s), ("given_up", given_up)]


def unfinished(
    session: Session, *, failing: bool = False, after: int = 0, limit: int = 50
) -> tuple[list[Outbox], int, int]:
    """Return work that is not done, the oldest first (from above `after`); how many there are, and how many failed.

    `failing`: only what has failed at least once.
    """
    waits = col(Outbox.done_at).is_(None)
    has_failed = col(Outbox.error) != ""
    query = select(Outbox).where(waits, Outbox.id > after).order_by(col(Outbox.id)).limit(limit)
    if failing:
        query = query.where(has_failed)
    counts = sqlalchemy.select(func.count(), func.count().filter(has_failed)).select_from(Outbox).where(waits)
    total, failed_count = session.execute(counts).one()
    return list(session.exec(query)), total, failed_count


def try_again(session: Session, outbox_id: int, *, at: datetime) -> bool:
    """Make failed work due now, also when it was given up; return False when it is done or somebody is at it."""
    row = _claimed(session, outbox_id, None)
    if row is None:
        return False
    row.due_at, row.attempts = at, min(row.attempts, GIVE_UP_AFTER - 1)
    session.add(row)
    return True


def let_go(session: Session, outbox_id: int, *, at: datetime) -> Outbox | None:
    """End failed work undone, by an operator's order; return it, or None when it is done, running, or never failed."""
    row = _claimed(session, outbox_id, None)
    if row is None or not row.error:
        return None
    row.done_at = at  # its error stays: what is done has none
    session.add(row)
    return row


def claim(session: Session, outbox_id: int, *, by: str, at: datetime, hold: timedelta) -> Outbox | None:
    """Take one row for `hold`, as the process `by`; None, when another one has it or it is done."""
    row = session.exec(
        select(Outbox)
        .where(Outbox.id == outbox_id, col(Outbox.done_at).is_(None), Outbox.due_at <= at)
        .with_for_update(skip_locked=True)
    ).first()
    if row is not None:
        row.attempts += 1
        row.claimed_by, row.due_at = by, at + hold
        session.add(row)
    return row


def renew(session: Session, outbox_id: int, *, by: str, until: datetime) -> bool:
    """Hold the claim of `by` until then; return whether it was still theirs."""
    row = _claimed(session, outbox_id, by)
    if row is not None:
        row.due_at = until
        session.add(row)
    return row is not None


def release_all(session: Session, *, at: datetime) -> int:
    """Free every claim, where nobody else can be at work: one process has just started. Return how many there were."""
    freed: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        update(Outbox)
        .where(col(Outbox.claimed_by).is_not(None), col(Outbox.done_at).is_(None))
        .values(claimed_by=None, due_at=at)
    )
    return freed.rowcount


def done(session: Session, outbox_id: int, *, at: datetime, by: str | None = None) -> None:
    """Mark work as done, if `by` still holds it; None: work that nobody has claimed."""
    row = _claimed(session, outbox_id, by)
    if row is not None:
        row.done_at, row.error, row.claimed_by = at, "", None
        session.add(row)


def failed(session: Session, outbox_id: int, error: str, *, at: datetime, by: str | None = None) -> Outbox | None:
    """Note a failure, if `by` still holds the work; it comes back after a pause that doubles each time.

    Returns: the work, when this was its last attempt (GIVE_UP_AFTER); else None.
    """
    row = _claimed(session, outbox_id, by)
    if row is not None:
        row.error, row.claimed_by = error[:500], None
        row.due_at = at + min(FIRST_PAUSE * 2 ** min(row.attempts, 20), LONGEST_PAUSE)
        session.add(row)
        if row.attempts >= GIVE_UP_AFTER:
            return row
    return None


def _claimed(session: Session, outbox_id: int, by: str | None) -> Outbox | None:
    is_theirs = col(Outbox.claimed_by) == by if by is not None else col(Outbox.claimed_by).is_(None)
    return session.exec(
        select(Outbox).where(Outbox.id == outbox_id, col(Outbox.done_at).is_(None), is_theirs).with_for_update()
    ).first()
