"""Work after the commit, for the operator: what waits, what keeps failing and why, and trying again now."""

from __future__ import annotations

import re

from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.errors import Conflict
from market.inputs import Reader
from storage import outbox, parties
from storage.outbox import GIVE_UP_AFTER
from web.render import N_, _, page, redirect, utc_now
from web.security import requires

PAGE = 50
_CODED = re.compile(r"\w+: ([a-z_]+)\(", re.ASCII)


# What each kind of work is, and, where nothing but itself is lost, what letting it go means. Work on which money, an
# admission or an account depends is never let go: its cause is mended, and it is tried again.
WORK = {
    "settle": (N_("Settle an auction that has ended: give deposits back, begin the sale"), ""),
    "complete": (N_("Close out a sale that is paid: pay the creditor, assign the accounts"), ""),
    "submit_command": (N_("Put an admission or a bar into the journal of an auction"), ""),
    "replace_accounts": (N_("Let the newest tape's account stand for each loan"), ""),
    "read_tape": (N_("Read a creditor's tape"), N_("The tape stays unread; the creditor may send it again.")),
    "read_statement": (
        N_("Read a bank statement"),
        N_("The statement is not booked; upload it again, or the next one will not follow."),
    ),
    "keep_tree_head": (
        N_("Keep a signed tree head of the log in the object store"),
        N_("This one stands in the database alone; the next one is kept there again."),
    ),
    "send_mail": (N_("Send a notice by mail"), N_("The mail is not sent; who was to get it is not told by mail.")),
}  # fmt: skip
ERRORS = {
    "not_found": N_("Something that it works on is not there."),
    "ConnectionRefusedError": N_("A server that it needs refuses the connection: mail, objects or broker."),
    "TimeoutError": N_("A server that it needs did not answer in time."),
    "gaierror": N_("The name of a server that it needs is not known."),
    "SMTPException": N_("The mail server refused the mail."),
    "SMTPRecipientsRefused": N_("The mail server refused the address."),
    "SMTPServerDisconnected": N_("The mail server broke the connection off."),
    "OSError": N_("The disk or a connection failed."),
    "OperationalError": N_("The database could not be reached, or was busy for too long."),
    "KeyError": N_("A fault of the program: whoever keeps it needs the key of this work and the log."),
}
LET_GO = tuple(task for task, (_words, loss) in WORK.items() if loss)
REASON_LEAST, REASON_MOST = 3, 300


def work_text(task: str) -> str:
    """What a piece of work is, in words."""
    return _(WORK[task][0]) if task in WORK else task


def loss_text(task: str) -> str:
    """What is lost when it is let go; empty, when it may not be."""
    return _(WORK[task][1]) if task in LET_GO else ""


def error_text(code: str) -> str:
    """What failed, in words."""
    return _(ERRORS.get(code, ERRORS["KeyError"]))


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
        "now": utc_now(), "work": work_text, "loss": loss_text, "why": error_text,
    }  # fmt: skip
    return page(request, "outbox/jobs.html", context)


@requires("operator")
async def try_again(request: Request) -> Response:
    """Make one piece of work due now."""
    await request.state.db.in_thread(_try_again, request.path_params["id"], person_id=request.user.id)
    request.app.state.poke()
    return redirect(request, "/jobs?state=failing")


@requires("operator")
async def let_go(request: Request) -> Response:
    """End one piece of failed work undone, with a reason on record."""
    reader = Reader(dict(await request.form()))
    reason = reader.line("reason", most=REASON_MOST, least=REASON_LEAST)
    reader.done()
    await request.state.db.in_thread(_let_go, request.path_params["id"], reason, person_id=request.user.id)
    return redirect(request, "/jobs?state=failing")


def _let_go(session: Session, outbox_id: int, reason: str, *, person_id: int) -> None:
    at = utc_now()
    row = outbox.let_go(session, outbox_id, at=at)
    if row is None:
        raise Conflict("job_busy")
    if row.task not in LET_GO:
        raise Conflict("job_needed")
    facts = {"key": row.key, "reason": reason, "error": row.error}
    parties.note(session, person_id, "job.let_go", "outbox", outbox_id, facts, at=at)


def _try_again(session: Session, outbox_id: int, *, person_id: int) -> None:
    at = utc_now()
    if not outbox.try_again(session, outbox_id, at=at):
        raise Conflict("job_busy")
    parties.note(session, person_id, "job.try_again", "outbox", outbox_id, at=at)


routes: list[BaseRoute] = [
    Route("/jobs", jobs, methods=["GET"]),
    Route("/jobs/{id:int}/try-again", try_again, methods=["POST"]),
    Route("/jobs/{id:int}/let-go", let_go, methods=["POST"]),
]
