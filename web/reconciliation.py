"""Bank statements in, and the queue of lines that wait for a person."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market import statements as files
from market.errors import BadInput, Conflict, Fault, NotFound
from market.inputs import Reader
from market.money import amount_text, parse_amount
from storage import reconciliation
from storage.tables import Statement, StatementFile, StatementLine
from web.render import N_, _, money, page, redirect, utc_now
from web.security import requires
from web.tasks import TaskContext, task
from web.words import expected
from web.words import found as found_text

REASON_MOST = 200
LABELS = {"file": N_("Bank statement"), "reason": N_("Reason"), "shares": N_("Split")}
REASON_WORDS = {
    "reference_equal": N_("Reference equal: %(value)s"),
    "amount_equal": N_("Amount equal: %(value)s"),
    "amount_short": N_("Amount short by %(value)s"),
    "amount_over": N_("Amount over by %(value)s"),
    "iban_equal": N_("Account number equal: …%(value)s"),
    "name_equal": N_("Name equal"),
    "name_similar": N_("Name similar: %(value)s"),
    "other_reference": N_("The line names another reference: %(value)s"),
    "late": N_("After the due date, days: %(value)s"),
    "too_late": N_("Came too late: goes back to the payer"),
    "by_hand": N_("By hand %(value)s"),
    "reversal_mark": N_("The bank marks it as a reversal"),
    "end_to_end_equal": N_("End-to-end id equal: %(value)s"),
    "bank_reference_equal": N_("Bank's reference equal: %(value)s"),
}


# --- the task ---------------------------------------------------------------------------------------


@task("read_statement")
def read_statement(context: TaskContext, file_id: int) -> None:
    """Read an uploaded file: booked whole, or refused whole with its faults."""
    digest = context.db.read(_digest, file_id)
    with context.objects.get(digest) as stream:
        data = stream.read()
    try:
        statements = files.parse(data)
    except BadInput as bad:
        context.db.in_transaction(reconciliation.refuse_file, file_id, bad.faults)
        return
    context.db.in_transaction(reconciliation.import_statement, file_id, statements, at=utc_now())


def _digest(session: Session, file_id: int) -> str:
    return session.get_one(StatementFile, file_id).digest


# --- statements -------------------------------------------------------------------------------------


@requires("operator")
async def statements(request: Request) -> Response:
    """The files that were uploaded, and the form for the next one."""
    return await _statements(request, [], 200)


async def _statements(request: Request, faults: list[Fault], status: int) -> Response:
    rows = await request.state.db.read_in_thread(reconciliation.statement_files)
    accounts = await request.state.db.read_in_thread(reconciliation.next_statements)
    context = {"files": rows, "accounts": accounts, "faults": faults, "labels": LABELS, "most": files.MOST_BYTES}
    return page(request, "reconciliation/statements.html", context, status=status)


@requires("operator")
async def upload(request: Request) -> Response:
    """Keep a file; a task reads it."""
    form = await request.form(max_files=1, max_fields=8)
    upload = form.get("file")
    try:
        if not isinstance(upload, UploadFile) or not upload.filename:
            raise BadInput([Fault("required", "file", "", "a file")])
        kept = await to_thread(request.app.state.objects.put, upload.file, limit_bytes=files.MOST_BYTES)
    except BadInput as bad:
        return await _statements(request, [_of_file(one) for one in bad.faults], 422)
    file_id = await request.state.db.in_thread(
        reconciliation.keep_file, filename=upload.filename, digest=kept.digest, size=kept.size_bytes,
        created_by=request.user.id, gap_consent=form.get("gap_consent") == "on", at=utc_now(),
    )  # fmt: skip
    request.app.state.poke()
    return redirect(request, f"/statements/{file_id}")


def _of_file(fault: Fault) -> Fault:
    return Fault(fault.code, "file", fault.found, fault.expected)


@requires("operator")
async def statement(request: Request) -> Response:
    """One file: being read, refused with its faults by place, or kept with its lines."""
    shown = await request.state.db.read_in_thread(reconciliation.show_file, request.path_params["id"])
    file: StatementFile = shown[0]
    found = [Fault(one["code"], one["field"], one["found"], one["expected"], one["row"]) for one in file.faults]
    context = {"file": file, "statements": shown[1], "found": found, "reason": reason_text, "expected": expected}
    context["found_text"] = found_text
    return page(request, "reconciliation/statement.html", context)


# --- the queue --------------------------------------------------------------------------------------


@requires("operator")
async def queue(request: Request) -> Response:
    """Lines that wait, the chosen one, and what it may be."""
    return await _queue(request, [], 200)


async def _queue(
    request: Request, faults: list[Fault], status: int, values: Mapping[str, Any] | None = None
) -> Response:
    db = request.state.db
    text = request.query_params.get("q", "")[:60]
    lines = await db.read_in_thread(reconciliation.waiting_lines, text=text)
    wanted = request.path_params.get("id") or request.query_params.get("line", "")
    chosen = next((one for one in lines if str(one.id) == str(wanted)), lines[0] if lines else None)
    found = await db.read_in_thread(reconciliation.candidates, chosen) if chosen else []
    taken = await db.read_in_thread(reconciliation.takes_back, chosen) if chosen else []
    proof = await db.read_in_thread(reconciliation.three_way)
    last = await db.read_in_thread(_last_statement)
    context = {
        "lines": lines, "chosen": chosen, "candidates": found, "takes_back": taken, "proof": proof, "q": text,
        "last": last, "faults": faults, "labels": _labels(), "reason": reason_text, "values": values or {},
        "shares": _proposed(chosen, found), "decided": await db.read_in_thread(reconciliation.decided_lines),
    }  # fmt: skip
    return page(request, "reconciliation/queue.html", context, status=status)


def _labels() -> dict[str, str]:
    """The fields of the queue's forms as its list of errors names them."""
    labels = {name: _(words) for name, words in LABELS.items()}
    for number in range(1, reconciliation.MOST_SHARES + 1):
        labels[f"reference-{number}"] = _("Payment reference %(number)s", number=number)
        labels[f"amount-{number}"] = _("Amount %(number)s", number=number)
    return labels


def _proposed(line: StatementLine | None, found: list[reconciliation.Candidate]) -> list[tuple[str, str]]:
    """How the line may be split: the payments that it names, each with what is missing, and empty fields for others."""
    if line is None or line.amount_minor <= 0:
        return []
    named = [one for one in found if any(code == "reference_equal" for code, _value in one.suggestion.reasons)]
    shares = [(one.reference, amount_text(one.amount_minor, line.currency)) for one in named]
    empty = max(reconciliation.LEAST_SHARES + 1 - len(shares), 1)
    return (shares + [("", "")] * empty)[: reconciliation.MOST_SHARES]


def _read_shares(reader: Reader, currency: str) -> list[tuple[str, int]]:
    """The pairs of reference and amount that were filled in."""
    shares = []
    for number in range(1, reconciliation.MOST_SHARES + 1):
        reference = reader.raw(f"reference-{number}").upper()
        amount_minor = reader.amount(f"amount-{number}", currency, required=bool(reference))
        if reference and amount_minor is not None:
            if not amount_minor:
                reader.fault("amount_zero", f"amount-{number}", "0", "an amount above zero")
            shares.append((reference, amount_minor))
        elif amount_minor is not None:
            reader.fault("missing", f"reference-{number}", "", "a payment reference")
    reader.done()
    return shares


def _last_statement(session: Session) -> Statement | None:
    return session.exec(select(Statement).order_by(col(Statement.id).desc())).first()


@requires("operator")
async def decide(request: Request) -> Response:
    """Take a suggestion, split, send back, say that it is not ours, or take that back; then the next line opens."""
    values, line_id = dict(await request.form()), request.path_params["id"]
    by = {"person_id": request.user.id, "at": utc_now()}
    db, act = request.state.db, request.path_params["act"]
    reader = Reader(values)
    try:
        if act == "match":
            due_id = reader.whole("expected", least=1, most=2**53)
            reader.done()
            line: StatementLine = await db.read_in_thread(_line, line_id)
            form = reconciliation.match_by_hand if line.amount_minor > 0 else reconciliation.match_payout_by_hand
            await db.in_thread(form, line_id, due_id, **by)
        elif act == "take-back":
            first_id = reader.whole("first", least=1, most=2**53)
            reader.done()
            is_wrong = values.get("payee") == "wrong"
            await db.in_thread(reconciliation.take_back, line_id, first_id, is_payee_wrong=is_wrong, **by)
        elif act == "return":
            await db.in_thread(reconciliation.return_to_sender, line_id, **by)
        elif act == "not-ours":
            reason = reader.line("reason", most=REASON_MOST)
            reader.done()
            await db.in_thread(reconciliation.not_ours, line_id, reason, **by)
        elif act == "split":
            line = await db.read_in_thread(_line, line_id)
            await db.in_thread(reconciliation.split, line_id, _read_shares(reader, line.currency), **by)
        elif act == "undo":
            reason = reader.line("reason", most=REASON_MOST)
            reader.done()
            await db.in_thread(reconciliation.undo, line_id, reason, **by)
            return redirect(request, f"/reconciliation?line={line_id}")
        else:
            raise NotFound("act")
    except BadInput as bad:
        return await _queue(request, bad.faults, 422, values)
    except Conflict as conflict:
        if conflict.code not in ("line_decided", "line_taken_back"):
            raise
        # Somebody else was faster; the queue shows what is left.
    request.app.state.poke()
    return redirect(request, "/reconciliation")


def _line(session: Session, line_id: int) -> StatementLine:
    line = session.get(StatementLine, line_id)
    if line is None:
        raise NotFound("statement_line", id=line_id)
    return line


def reason_text(code: str, value: str, currency: str) -> str:
    """What speaks for a match, as a sentence; amounts are of `currency`."""
    if code.startswith("amount_"):
        value = money(parse_amount(value, currency), currency)
    return _(REASON_WORDS.get(code, code), value=value).strip()


routes: list[BaseRoute] = [
    Route("/statements", statements),
    Route("/statements", upload, methods=["POST"], max_body_size=files.MOST_BYTES + 64 * 1024),
    Route("/statements/{id:int}", statement),
    Route("/reconciliation", queue),
    Route("/reconciliation/{id:int}/{act}", decide, methods=["POST"]),
]
