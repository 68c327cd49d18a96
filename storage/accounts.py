"""One loan, one account that counts: what a newer tape replaces.

A creditor's tapes tell of the same loans again. Two accounts of one creditor with the same loan number are the same
debt, so at most one of them is ever for sale. Of two that are not, that of the later cut-off date counts (on the same
date, of the later tape), and beside one that was closed out none does. The others become `replaced`: they stay
readable, and nothing can be done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from market.accounts import Status
from market.errors import Conflict
from storage import outbox
from storage.database import Database
from storage.tables import LoanAccount, Party, Tape

BATCH_ROWS = 2_500  # written in well under 50 ms, so that a bid's transaction gets its turn in between
LOOSE = (Status.PERFORMING.value, Status.OVERDUE.value)  # not for sale, not sold, and the debt still stands
TAKEN = (Status.LISTED.value, Status.UNDER_CONTRACT.value, Status.CLOSED_OUT.value)


def replace_later(session: Session, creditor_id: int, which: ColumnElement[bool], key: str, *, at: datetime) -> None:
    """Leave it for a task to look which account of each loan counts, on every tape that has accounts `which`.

    To be called when accounts come to be loose, or are sold; once for each tape and `key`.
    """
    kept = select(func.count()).where(col(Tape.creditor_id) == creditor_id, col(Tape.status) == "kept")
    if (session.scalar(kept) or 0) < 2:
        return
    for tape_id in session.scalars(select(col(LoanAccount.tape_id)).where(which).distinct()).all():
        outbox.put(session, "replace_accounts", f"replace_accounts:{tape_id}:{key}", {"tape_id": tape_id}, at=at)


def replace_outdone(db: Database, tape_id: int, *, now: Callable[[], datetime]) -> int:
    """Call those accounts `replaced` that do not count beside another one of the same loan, where either of the two is
    on this tape; return how many. Many short transactions, harmless to do again at any point.
    """
    replaced = 0
    for of_tape in ("loose", "other"):
        after = 0
        while True:
            found = db.read(_outdone, tape_id, of_tape, after)
            if found:
                replaced += db.in_transaction(_replace, found, at=now())
            if len(found) < BATCH_ROWS:
                break
            after = found[-1]
    return replaced


def check_free(session: Session, creditor_id: int, which: ColumnElement[bool], *, expected: int) -> None:
    """Lock the creditor's listing, and see that nobody else's account of these loans is listed or sold.

    Raises: Conflict `accounts_not_free`.
    """
    # Two lots may be published at the same instant, each with another account of one loan: the second one waits here.
    session.execute(select(col(Party.id)).where(col(Party.id) == creditor_id).with_for_update())
    mine: Any = aliased(LoanAccount)
    other: Any = aliased(LoanAccount)
    wanted = select(col(LoanAccount.id)).where(which)
    twins = (
        select(mine.id)
        .join(other, and_(other.creditor_id == mine.creditor_id, other.loan_id == mine.loan_id, other.id != mine.id))
        .where(mine.id.in_(wanted), mine.creditor_id == creditor_id, other.status.in_(TAKEN))
    )
    if taken := len(set(session.scalars(twins).all())):
        raise Conflict("accounts_not_free", expected=expected, free=expected - taken)


def _outdone(session: Session, tape_id: int, of_tape: str, after: int) -> list[int]:
    """Loose accounts, by id, beside which another one counts; `of_tape` says which of the two is on the tape."""
    loose: Any = aliased(LoanAccount)
    other: Any = aliased(LoanAccount)
    loose_tape: Any = aliased(Tape)
    other_tape: Any = aliased(Tape)
    is_later = or_(
        other_tape.cutoff_on > loose_tape.cutoff_on,
        and_(other_tape.cutoff_on == loose_tape.cutoff_on, other_tape.id > loose_tape.id),
    )
    found = (
        select(loose.id)
        .join(other, and_(other.creditor_id == loose.creditor_id, other.loan_id == loose.loan_id))
        .join(loose_tape, loose_tape.id == loose.tape_id)
        .join(other_tape, other_tape.id == other.tape_id)
        .where(
            (loose if of_tape == "loose" else other).tape_id == tape_id,
            loose.id != other.id,
            loose.id > after,
            loose.status.in_(LOOSE),
            loose_tape.status == "kept",
            other_tape.status == "kept",
            or_(other.status == Status.CLOSED_OUT.value, and_(other.status.in_(LOOSE), is_later)),
        )
        .distinct()
        .order_by(loose.id)
        .limit(BATCH_ROWS)
    )
    return list(session.scalars(found).all())


def _replace(session: Session, account_ids: list[int], *, at: datetime) -> int:
    done = session.execute(
        update(LoanAccount)
        .where(col(LoanAccount.id).in_(account_ids), col(LoanAccount.status).in_(LOOSE))
        .values(status=Status.REPLACED.value)
    )
    return int(done.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
