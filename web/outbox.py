"""Work after the commit, for the operator: what waits, what keeps failing and why, and trying again now."""

from __future__ import annotations

import re

from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.errors import Conflict
from storage import outbox, parties
from storage.outbox import GIVE_UP_AFTER
from web.render import page, redirect, utc_now
from web.security import requires

PAGE = 50
_CODED = re.compile(r"\w+: ([a-z_]+)\(", re.ASCII)


def error_code(error: str) -> str:
    """The code of a failure, without its text, which may name what the operator need not see."""
    coded = _CODED.match(error)
    return coded.group(1) if coded else error.partition(":")[0]


@requires("operator")
async def jobs(request: Request) -> Response:
    """What waits, the oldest first."""
    text = request.query_params.get("after", "")
    after = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0
    failing = request.query_params.get("state") == "failing"
    rows, waiting, failed = await request.state.db.read_in_thread(
        outbox.unfinished, failing=failing, after=after, limit=PAGE
    )
    context = {
        "rows": [(row, error_code(row.error)) for row in rows], "waiting": waiting, "failed": failed,
        "failing": failing,
        "more": rows[-1].id if len(rows) == PAGE else None, "first": not after, "most": GIVE_UP_AFTER,
        "now": utc_now(),
    }  # fmt: skip
    return page(request, "outbox/jobs.html", context)


@requires("operator")
async def try_again(request: Request) -> Response:
    """Make one piece of work due now."""
    await request.state.db.in_thread(_try_again, request.path_params["id"], person_id=request.user.id)
    request.app.state.poke()
    return redirect(request, "/jobs?state=failing")


def _try_again(session: Session, outbox_id: int, *, person_id: int) -> None:
    at = utc_now()
    if not outbox.try_again(session, outbox_id, at=at):
        raise Conflict("job_busy")
    parties.note(session, person_id, "job.try_again", "outbox", outbox_id, at=at)


routes: list[BaseRoute] = [
    Route("/jobs", jobs, methods=["GET"]),
    Route("/jobs/{id:int}/try-again", try_again, methods=["POST"]),
]
