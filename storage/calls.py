"""Calls of the JSON API that carry an `Idempotency-Key`: one effect, and the first answer again.

The key is taken before the call runs and the answer is kept after it. When a process dies in between, nobody knows
whether the call had its effect: it is not run again, and asking again says so.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import CursorResult, delete
from sqlmodel import Session, col, select

from market.errors import Conflict
from storage.tables import ApiCall

KEPT = timedelta(days=30)  # unless it moves money
LONGEST_CALL = timedelta(minutes=2)


def begin(
    session: Session,
    person_id: int,
    key: str,
    *,
    method: str,
    path: str,
    body_hash: str,
    moves_money: bool,
    at: datetime,
) -> ApiCall:
    """Take a key for a call, or find the call that has it; a new one has no `id` before the transaction ends.

    Raises: Conflict `key_reused`, when the key was used for another call; `key_in_use`, while that call runs;
        `answer_unknown`, when it began and its answer never came.
    """
    there = session.exec(
        select(ApiCall).where(ApiCall.person_id == person_id, ApiCall.key == key).with_for_update()
    ).first()
    if there is None:
        call = ApiCall(
            person_id=person_id, key=key, method=method, path=path, body_hash=body_hash, created_at=at,
            expires_at=None if moves_money else at + KEPT,
        )  # fmt: skip
        session.add(call)
        session.flush()
        return call
    if (there.method, there.path, there.body_hash) != (method, path, body_hash):
        raise Conflict("key_reused", key=key)
    if there.status is None:
        raise Conflict("key_in_use" if at < there.created_at + LONGEST_CALL else "answer_unknown", key=key)
    return there


def finish(session: Session, call_id: int, *, status: int, media_type: str, answer: str) -> None:
    """Keep the answer of a call."""
    call = session.get_one(ApiCall, call_id)
    call.status, call.media_type, call.answer = status, media_type, answer
    session.add(call)


def clear_old(session: Session, *, at: datetime) -> int:
    """Remove the calls whose time is over, never those that move money; return how many."""
    gone: CursorResult[object] = session.execute(delete(ApiCall).where(col(ApiCall.expires_at) <= at))  # type: ignore[assignment]
    return gone.rowcount
