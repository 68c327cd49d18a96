"""Tapes, overdue accounts and portfolios of a creditor: pages, JSON, the task that reads a tape, and its import."""

from __future__ import annotations

import csv
import io
import re
from asyncio import to_thread
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from fastapi import Request as ApiRequest
from pydantic import Field
from sqlmodel import Session, col, select
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from market.accounts import BUCKETS, Status
from market.errors import BadInput, Fault, MarketError, NotFound
from market.inputs import Reader, text_of
from market.mappings import DATE_FORMATS, FIELDS, MOST_DPD, known
from market.money import DECIMALS, allocate, amount_text, ratio_bp
from market.portfolios import DIMENSIONS, OTHER, SIZES, Selection
from market.sheets import MOST_COLUMNS, MOST_ROWS, open_table
from market.tape import annotated
from storage import portfolios, settlement
from storage.accounts import replace_outdone
from storage.database import Database
from storage.objects import Objects
from storage.tables import LoanAccount, Party, Person, Portfolio, Tape, TapeFault
from web.api import PROBLEMS, Strict, allowed, body_of, json_body
from web.render import N_, _, count, money, page, redirect, share, utc_now
from web.security import Visitor, requires
from web.tasks import TaskContext, task
from web.words import expected as expected_text

UPLOAD_BYTES = 512 * 1024**2  # the route's limit; the settings may set a lower one
FORM_BYTES = 64 * 1024
PAGE_ROWS = 50
READING = ("received", "reading")
API_ROWS = 500  # accounts in one answer, at most
FACETS = 30  # products and regions that are offered as filters

FIELD_WORDS = {
    "loan_id": N_("Loan number"), "borrower_id": N_("Borrower number"), "principal": N_("Principal"),
    "interest_due": N_("Interest due"), "fees_due": N_("Fees due"), "legal_balance": N_("Legal balance"),
    "dpd": N_("Days past due"), "product": N_("Product"), "region": N_("Region"), "rate": N_("Interest rate"),
    "originated_on": N_("Origination date"), "currency": N_("Currency"),
}  # fmt: skip
BUCKET_WORDS = {
    "current": N_("not overdue"), "charged_off": N_("charged off, days not given"), "none": N_("nothing owed"),
}  # fmt: skip
DIMENSION_WORDS = {
    "bucket": N_("Delinquency bucket"), "product": N_("Product"), "region": N_("Region"), "size": N_("Size of balance"),
}  # fmt: skip
UNITS = {
    "percent": N_("per cent (13.99)"), "fraction": N_("fraction (0.1399)"),
}  # fmt: skip
DOUBTS = {
    "rate_high": N_("Interest rate above 60%%"),
    "interest_above_principal": N_("Interest more than three times the principal"),
    "overdue_nothing_owed": N_("Overdue or charged off, and the file says that nothing is owed"),
    "very_old": N_("Origination more than 40 years ago"),
    "late_before_it_began": N_("More days past due than days since origination"),
    "principal_above_loan": N_("Principal above the amount lent"),
    "overpaid": N_("More recovered than was owed"),
}
# What market/tape.py and market/sheets.py expect, in words that do not vary; the others are in web/words.EXPECTED.
EXPECTED = (
    N_("a value"),
    N_("its value"),
    N_("no blanks at its ends"),
    N_("no control, direction or zero-width characters"),
    N_("at least principal, interest and fees together"),
    N_("a number that no other row has"),
    N_("days inside the range of the status"),
    N_("a loan of which not more was repaid than lent"),
    N_("the header once, as the first row"),
    N_("UTF-8 or GB18030 throughout"),
    N_("a name for each column"),
    N_("a column of this name"),
    N_("a table with a header and rows"),
    N_("at least one row"),
    N_("a whole file"),
    N_("one sheet with data"),
    N_("values only"),
    N_("a workbook without macros"),
    N_("a workbook without a password"),
    N_("a workbook as Excel or LibreOffice saves it"),
    N_("CSV in UTF-8 or GB18030, gzipped or not, or XLSX"),
    N_("a quote that is closed"),
    N_("quotes only around a whole cell, doubled inside it"),
    N_("a date that is not in the future"),
    N_("a file"),
)


def bucket_text(bucket: str) -> str:
    """A delinquency bucket for a person."""
    if bucket in BUCKET_WORDS:
        return _(BUCKET_WORDS[bucket])
    return _("%(days)s days", days=bucket.replace("-", "–"))


@dataclass(frozen=True, slots=True)
class Spark:
    """A small plot of a portfolio's balance by bucket: bars `(x, y, width, height)` in a box, and the same in words."""

    bars: tuple[tuple[int, int, int, int], ...]
    words: str


SPARK_WIDTH, SPARK_HEIGHT, SPARK_GAP = 120, 40, 3


def spark(buckets: Sequence[tuple[str, int]]) -> Spark:
    """A bar for each bucket, the least overdue first, from zero; the tallest fills the box."""
    most = max((minor for _name, minor in buckets), default=0)
    if not most:
        return Spark((), "")
    width = (SPARK_WIDTH - SPARK_GAP * (len(buckets) - 1)) // len(buckets)
    bars = []
    for number, (_name, minor) in enumerate(buckets):
        height = max(minor * SPARK_HEIGHT // most, 1 if minor else 0)
        bars.append((number * (width + SPARK_GAP), SPARK_HEIGHT - height, width, height))
    shares = allocate(10_000, [minor for _name, minor in buckets])
    parts = [f"{bucket_text(name)} {share(bp)}" for (name, _minor), bp in zip(buckets, shares, strict=True)]
    return Spark(tuple(bars), _("Balance by delinquency bucket: %(parts)s", parts=_(", ").join(parts)))


def dpd_text(dpd: int | None, dpd_to: int | None) -> str:
    """Days past due as they are known: a number, a range, at least, or not given."""
    if dpd is None:
        return _("not given")
    if dpd == dpd_to:
        return count(dpd)
    return f"{dpd}–{dpd_to}" if dpd_to is not None else _("%(days)s or more", days=dpd)


def _size_text(number: str, currency: str) -> str:
    bounds = [bound * 10 ** DECIMALS[currency] for bound in SIZES]
    at = int(number)
    low = money(bounds[at - 1], currency, whole=True) if at else ""
    high = money(bounds[at], currency, whole=True) if at < len(bounds) else ""
    if not low:
        return _("below %(amount)s", amount=high)
    return _("%(low)s to below %(high)s", low=low, high=high) if high else _("%(amount)s and more", amount=low)


# --- tapes ---------------------------------------------------------------------------------------


@requires("asset_manager")
async def tapes(request: Request) -> Response:
    """The creditor's tapes, and the form for another."""
    return await _tapes(request, {}, [], 200)


async def _tapes(request: Request, values: Mapping[str, Any], faults: Sequence[Fault], status: int) -> Response:
    db: Database = request.state.db
    rows = await db.read_in_thread(portfolios.tapes, request.user.party_id)
    saved = await db.read_in_thread(portfolios.saved_mappings, request.user.party_id)
    context = {
        "rows": rows, "values": values, "faults": list(faults), "saved": saved, "known": known(),
        "currency_options": [(one, one) for one in sorted(DECIMALS)], "limits": _limits(request),
    }  # fmt: skip
    return page(request, "portfolios/tapes.html", context, status=status)


def _limits(request: Request) -> dict[str, int]:
    most = min(request.app.state.settings.max_upload_bytes, UPLOAD_BYTES)
    return {"mb": most // 1024**2, "rows": MOST_ROWS, "columns": MOST_COLUMNS}


@requires("asset_manager")
async def upload(request: Request) -> Response:
    """Take a tape in; its page then shows how the reading goes."""
    async with request.form(max_files=1, max_fields=10) as form:
        try:
            tape_id = await receive(request, form)
        except BadInput as bad:
            values = {name: value for name, value in form.items() if isinstance(value, str)}
            return await _tapes(request, values, bad.faults, 422)
        except MarketError as refused:
            if refused.code != "tape_repeated":
                raise
            fault = Fault("tape_repeated", "file", str(refused.facts["found"]), "another file")
            values = {name: value for name, value in form.items() if isinstance(value, str)}
            return await _tapes(request, values, [fault], 409)
    return redirect(request, f"/tapes/{tape_id}")


async def receive(request: Request, form: FormData) -> int:
    """Check what came with a file, keep the file, note the tape. Raises: BadInput; Conflict `tape_repeated`."""
    file = form.get("file")
    reader = Reader({name: value for name, value in form.items() if isinstance(value, str)})
    cutoff_on = reader.day("cutoff_on")
    currency = reader.currency("currency") if reader.raw("currency") else "USD"
    mapping = reader.line("mapping", most=80, least=0)
    if cutoff_on and not date(1950, 1, 1) <= cutoff_on <= utc_now().date():
        reader.fault("date_range", "cutoff_on", cutoff_on, "a date that is not in the future")
    if not isinstance(file, UploadFile) or not file.filename:
        reader.fault("required", "file", "", "a file")
    reader.done()
    assert isinstance(file, UploadFile)
    assert cutoff_on is not None
    objects: Objects = request.app.state.objects
    limit = min(request.app.state.settings.max_upload_bytes, UPLOAD_BYTES)
    kept = await to_thread(objects.put, file.file, limit_bytes=limit)
    visitor: Visitor = request.user
    db: Database = request.app.state.db
    tape_id = await db.in_thread(
        portfolios.receive_tape, _party(visitor), _person(visitor), filename=_filename(file.filename or ""),
        digest=kept.digest, size=kept.size_bytes, cutoff_on=cutoff_on, currency=currency, mapping=mapping,
        at=utc_now(),
    )  # fmt: skip
    request.app.state.poke()
    return tape_id


def _party(visitor: Visitor) -> int:
    assert visitor.party_id is not None
    return visitor.party_id


def _person(visitor: Visitor) -> int:
    assert visitor.id is not None
    return visitor.id


def _filename(name: str) -> str:
    """A name to show: the last part of what the browser sent, without what could mislead."""
    last = re.split(r"[\\/]", name)[-1]
    return "".join(one for one in last if one.isprintable())[:120] or "tape"


@task("read_tape")
def read_tape(context: TaskContext, tape_id: int) -> None:
    """Read a tape that was received."""
    portfolios.read_tape(context.db, context.objects, tape_id, now=utc_now)


@task("replace_accounts")
def replace_accounts(context: TaskContext, tape_id: int) -> None:
    """See which account of each loan counts, where a tape tells of it."""
    replace_outdone(context.db, tape_id, now=utc_now)


@requires("asset_manager")
async def tape(request: Request) -> Response:
    """One tape: how far the reading is, its faults, or what was kept."""
    return await _tape(request, {}, [], 200)


async def _tape(request: Request, values: Mapping[str, Any], faults: Sequence[Fault], status: int) -> Response:
    found, shown = await _own_tape(request)
    context = {
        "tape": found, "shown": shown, "report": found.report, "values": values, "faults": list(faults),
        "kinds": _kinds(found, shown), "doubts": DOUBTS, "expected_text": expected_text, "bucket_text": bucket_text,
        "is_reading": found.status in READING,
    }  # fmt: skip
    return page(request, "portfolios/tape.html", context, status=status)


def _kinds(found: Tape, shown: Sequence[TapeFault]) -> list[tuple[str, str, str, int]]:
    """Faults by kind: column, what was expected there, code, how many."""
    expected = {(fault.code, fault.field): expected_text(fault.expected) for fault in shown}
    kinds = [(column, expected.get((code, column), ""), code, n) for code, column, n in found.report.get("kinds", [])]
    return sorted(kinds, key=lambda kind: -kind[3])


async def _own_tape(request: Request) -> tuple[Tape, list[TapeFault]]:
    db: Database = request.state.db
    found: tuple[Tape, list[TapeFault]] = await db.read_in_thread(
        portfolios.tape, request.user.party_id, request.path_params["id"]
    )
    return found


@requires("asset_manager")
async def progress(request: Request) -> Response:
    """The part of a tape's page that asks again while the tape is read; once it is, the whole page is fetched."""
    found, _shown = await _own_tape(request)
    if found.status not in READING:
        return redirect(request, f"/tapes/{found.id}")
    return page(request, "portfolios/_progress.html", {"tape": found})


@requires("asset_manager")
async def order(request: Request) -> Response:
    """Order that a faulty tape be taken without its faulty rows."""
    reason = text_of(await request.form(), "reason")
    db: Database = request.state.db
    visitor: Visitor = request.user
    try:
        await db.in_thread(
            portfolios.take_without_faulty_rows, _party(visitor), request.path_params["id"], _person(visitor),
            reason=reason, at=utc_now(),
        )  # fmt: skip
    except BadInput as bad:
        return await _tape(request, {"reason": reason}, bad.faults, 422)
    request.app.state.poke()
    return redirect(request, f"/tapes/{request.path_params['id']}")


def _attachment(name: str, lines: Iterator[bytes], then: ExitStack) -> Response:
    def pieces() -> Iterator[bytes]:
        with then:
            yield from lines

    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(pieces(), media_type="text/csv; charset=utf-8", headers=headers)


@requires("asset_manager")
async def faults_file(request: Request) -> Response:
    """Every fault of a tape, as CSV."""
    found, _shown = await _own_tape(request)
    if not found.faults_digest:
        raise NotFound("file")
    then = ExitStack()
    file = await to_thread(then.enter_context, request.app.state.objects.get(found.faults_digest))
    return _attachment(f"faults-{found.id}.csv", iter(lambda: file.read(256 * 1024), b""), then)


@requires("asset_manager")
async def annotated_file(request: Request) -> Response:
    """The creditor's own file as CSV, with a column that says what is wrong in each row."""
    found, _shown = await _own_tape(request)
    if not found.faults_digest:
        raise NotFound("file")
    then = ExitStack()
    lines = await to_thread(_annotated, request.app.state.objects, found, then)
    return _attachment(f"tape-{found.id}-with-faults.csv", lines, then)


def _annotated(objects: Objects, found: Tape, then: ExitStack) -> Iterator[bytes]:
    notes: dict[int, str] = {}
    with objects.get(found.faults_digest) as file:
        for line in csv.DictReader(io.TextIOWrapper(file, "utf-8", newline="")):
            if line["row"]:
                note = f"{line['column']}: {line['code']}, {line['expected']}"
                row = int(line["row"])
                notes[row] = f"{notes[row]}; {note}"[:2000] if row in notes else note
    table = open_table(then.enter_context(objects.get(found.digest)))
    return annotated(table.header, table.blocks(), notes)


# --- mapping -------------------------------------------------------------------------------------


@requires("asset_manager")
async def mapping(request: Request) -> Response:
    """The columns of a tape, three values of each, and what each may mean."""
    return await _mapping(request, None, [], 200)


async def _mapping(
    request: Request, values: Mapping[str, str] | None, faults: Sequence[Fault], status: int
) -> Response:
    found, _shown = await _own_tape(request)
    header: list[str] = found.report.get("header", [])
    if not header:
        raise NotFound("mapping")
    samples = [
        [row[number] if number < len(row) else "" for row in found.report["samples"]] for number in range(len(header))
    ]
    guesses = _guesses(header)
    context = {
        "tape": found, "columns": list(zip(header, samples, guesses, strict=True)), "values": values or {},
        "faults": list(faults), "fields": FIELD_WORDS, "formats": DATE_FORMATS, "units": UNITS,
        "is_new": values is None, "example_on": date(2026, 1, 31),
    }  # fmt: skip
    return page(request, "portfolios/mapping.html", context, status=status)


_GUESSES: tuple[tuple[str, str], ...] = (
    (r"loan.?(id|no|number)|contract|^id$|合同号|借据号|贷款编号|债权编号", "loan_id"),
    (r"borrower|member|customer|客户|借款人编号", "borrower_id"),
    (r"interest.?(due|owed)|欠息|未偿利息|利息余额", "interest_due"),
    (r"fee|其他费用|费用", "fees_due"),
    (r"legal.?balance|债权总额|本息合计", "legal_balance"),
    (r"principal|balance|本金", "principal"),
    (r"dpd|past.?due|overdue.?days|逾期天数", "dpd"),
    (r"product|purpose|产品|贷款种类|用途", "product"),
    (r"region|state|province|city|地区|省|城市", "region"),
    (r"rate|利率", "rate"),
    (r"orig|issue|放款日|起始日|发放日", "originated_on"),
    (r"^currency$|币种", "currency"),
)


def _guesses(header: Sequence[str]) -> list[str]:
    """Return, per column, the field it seems to mean, or ""; a field once: the first column that looks like it."""
    guesses: list[str] = []
    for name in header:
        guess = next((field for pattern, field in _GUESSES if re.search(pattern, name, re.IGNORECASE)), "")
        guesses.append("" if guess in guesses else guess)
    return guesses


@requires("asset_manager")
async def save_mapping(request: Request) -> Response:
    """Keep the mapping under its name, and read the tape through it."""
    form = await request.form(max_fields=4 * MOST_COLUMNS + 10)
    values = {name: value for name, value in form.items() if isinstance(value, str)}
    found, _shown = await _own_tape(request)
    visitor: Visitor = request.user
    db: Database = request.state.db
    try:
        data = _mapping_data(values, found.report.get("header", []))
        await db.in_thread(
            portfolios.use_mapping, _party(visitor), found.id, _person(visitor), values=data, at=utc_now()
        )
    except BadInput as bad:
        return await _mapping(request, values, bad.faults, 422)
    request.app.state.poke()
    return redirect(request, f"/tapes/{found.id}")


def _mapping_data(values: Mapping[str, str], header: Sequence[str]) -> dict[str, Any]:
    """What `mappings.read` reads, from the form. Raises: BadInput."""
    reader = Reader(values)
    name = reader.line("name", most=60, least=2)
    columns: list[dict[str, Any]] = []
    for number, source in enumerate(header):
        field = values.get(f"field-{number}", "")
        if not field:
            continue
        if field != "fact" and field not in FIELDS:
            reader.fault("choice", f"field-{number}", field[:40], ", ".join(FIELD_WORDS))
            continue
        kind = "text" if field == "fact" else FIELDS[field]
        column: dict[str, Any] = {"source": source, "field": field, "type": kind}
        if field == "fact":
            column["field"] = f"fact_{number}"
        if field == "rate" and values.get(f"unit-{number}") == "fraction":
            column["type"] = "fraction"
        if kind == "date":
            column["format"] = values.get(f"format-{number}", "%Y-%m-%d")
        if kind == "whole":
            column |= {"least": 0, "most": MOST_DPD}
        column["must"] = field in ("loan_id", "principal", "dpd")
        column["rounds"] = kind == "amount" and reader.ticked("rounds")
        columns.append(column)
    missing = [word for word in re.split(r"[,，\s]+", values.get("missing", "")) if word][:10]
    reader.done()
    return {"name": name, "title": name, "rule": "days_past_due", "columns": columns, "missing": missing}


# --- accounts ------------------------------------------------------------------------------------


@requires("asset_manager")
async def accounts(request: Request) -> Response:
    """Overdue accounts: the filter is in the address, the sums are of the whole selection."""
    return await _accounts(request, {}, [], 200)


async def _accounts(request: Request, values: Mapping[str, Any], faults: Sequence[Fault], status: int) -> Response:
    db: Database = request.state.db
    creditor = request.user.party_id
    selection, faults = _selection(request.query_params.multi_items(), faults)
    after = request.query_params.get("after", "0")
    after_id = int(after) if after.isascii() and after.isdigit() and len(after) < 18 else 0
    rows = await db.read_in_thread(portfolios.accounts, creditor, selection, after=after_id, limit=PAGE_ROWS + 1)
    sums = await db.read_in_thread(portfolios.sums, creditor, selection)
    tapes_kept = [one for one in await db.read_in_thread(portfolios.tapes, creditor) if one.status == "kept"]
    facets = _whole_tape(selection, tapes_kept, sum(one.accounts for one in sums))
    if facets is None:
        facets = await db.read_in_thread(portfolios.facets, creditor, selection)
    context = {
        "rows": rows[:PAGE_ROWS], "next": rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None, "sums": sums,
        "after": after_id, "selection": selection, "chips": _chips(selection),
        "choices": _choices(selection, facets),
        "shown": _shown(rows[:PAGE_ROWS]) if after_id or len(rows) > PAGE_ROWS else [],
        "query": urlencode(selection.query()), "values": values, "faults": list(faults), "tapes": tapes_kept,
        "bucket_text": bucket_text, "dpd_text": dpd_text, "total": sum(one.accounts for one in sums),
        "can_make": bool(rows) and selection.statuses == (Status.OVERDUE.value,),
    }  # fmt: skip
    return page(request, "portfolios/accounts.html", context, status=status)


def _selection(pairs: Sequence[tuple[str, str]], faults: Sequence[Fault]) -> tuple[Selection, list[Fault]]:
    """The choice that an address names; one that cannot be read shows all overdue accounts, and why."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if value:
            values.setdefault(name, []).append(value)
    if not values.get("status"):
        values["status"] = [Status.OVERDUE.value]
    elif values["status"] == ["any"]:
        values["status"] = []
    try:
        return Selection.read(values), list(faults)
    except BadInput as bad:
        return Selection(statuses=(Status.OVERDUE.value,)), [*faults, *bad.faults]


def _chips(selection: Selection) -> list[tuple[str, str]]:
    """What narrows the choice: words, and the address without it."""
    pairs = selection.query()
    chips = []
    for at, (name, value) in enumerate(pairs):
        rest = pairs[:at] + pairs[at + 1 :]
        if name == "status" and not any(other == "status" for other, _value in rest):
            rest.append(("status", "any"))
        if name == "currency" and {"least", "most"} & {other for other, _value in rest}:
            continue
        words = WORDS_OF[name](value) if name in WORDS_OF else value
        chips.append((words, "/accounts?" + urlencode(rest)))
    return chips


def _status_text(status: str) -> str:
    from web.words import state

    return state(status)[1]


WORDS_OF: dict[str, Callable[[str], str]] = {
    "bucket": bucket_text,
    "status": _status_text,
    "tape": lambda text: _("tape %(number)s", number=text),
    "least": lambda text: _("from %(amount)s", amount=text),
    "most": lambda text: _("to %(amount)s", amount=text),
}


def _choices(
    selection: Selection, facets: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """What may narrow or widen the choice: for each field, words, the address, and how many accounts that selects."""
    taken = {"bucket": selection.buckets, "product": selection.products, "region": selection.regions}
    order = {name: number for number, name in enumerate(BUCKETS)}
    found: list[tuple[str, list[tuple[str, str, int]]]] = []
    for name, chosen in taken.items():
        counts = facets[name]
        if name == "bucket":
            values = sorted((v for v in counts if v not in ("current", "none")), key=lambda v: order.get(v, 99))
        else:
            values = sorted(counts, key=lambda v: (-counts[v], v))[:FACETS]
        base = selection.query()
        links = [
            (bucket_text(v) if name == "bucket" else v, "/accounts?" + urlencode([*base, (name, v)]), counts[v])
            for v in values
            if v and v not in chosen
        ]
        if links:
            found.append((DIMENSION_WORDS[name], links))
    return found


def _whole_tape(selection: Selection, tapes_kept: Sequence[Tape], total: int) -> dict[str, dict[str, int]] | None:
    """The facets of a whole tape, which were counted when it was read; None, when the selection is something else."""
    reports = [one.report.get("kept", {}) for one in tapes_kept if selection.tape_id in (None, one.id)]
    if len(reports) != 1 or total != reports[0].get("rows"):
        return None
    return {
        name: {value: sums[0] for value, sums in reports[0].get(f"by_{name}", {}).items()}
        for name in ("bucket", "product", "region")
    }


def _shown(rows: Sequence[LoanAccount]) -> list[portfolios.Sums]:
    """What the rows of a page come to, by currency."""
    return [
        portfolios.Sums(
            currency, len(own), sum(one.principal_minor for one in own), sum(one.balance_minor for one in own)
        )
        for currency in sorted({one.currency for one in rows})
        if (own := [one for one in rows if one.currency == currency])
    ]


@requires("asset_manager")
async def account(request: Request) -> Response:
    """One overdue account: its state, its balances and their make-up."""
    db: Database = request.state.db
    found, given = await db.read_in_thread(portfolios.account, request.user.party_id, request.path_params["id"])
    facts = [(name, value) for name, value in given.items() if value is not None]
    sold = await db.read_in_thread(settlement.sale_of_account, found.id)
    context = {
        "account": found, "facts_kept": facts, "bucket_text": bucket_text, "dpd_text": dpd_text, "sold": sold,
        "zone": settlement.zone_of(sold.sale, sold.lot) if sold else "",
    }  # fmt: skip
    return page(request, "portfolios/account.html", context)


# --- portfolios ----------------------------------------------------------------------------------


@requires("asset_manager")
async def index(request: Request) -> Response:
    """The creditor's portfolios."""
    db: Database = request.state.db
    rows = await db.read_in_thread(portfolios.portfolios, request.user.party_id)
    return page(request, "portfolios/index.html", {"rows": rows})


@requires("asset_manager")
async def create(request: Request) -> Response:
    """Make a portfolio of the accounts that the address selects."""
    name = text_of(await request.form(), "name")
    visitor: Visitor = request.user
    db: Database = request.state.db
    selection, faults = _selection(request.query_params.multi_items(), [])
    try:
        if faults:
            raise BadInput(faults)
        made = await to_thread(
            portfolios.make_portfolio,
            db,
            _party(visitor),
            _person(visitor),
            name=name,
            selection=selection,
            at=utc_now(),
        )
    except BadInput as bad:
        return await _accounts(request, {"name": name}, bad.faults, 422)
    return redirect(request, f"/portfolios/{made}")


@requires("asset_manager")
async def show(request: Request) -> Response:
    """A portfolio: tiles, strata one dimension at a time, concentration, its accounts."""
    db: Database = request.state.db
    creditor, number = request.user.party_id, request.path_params["id"]
    found = await db.read_in_thread(portfolios.portfolio, creditor, number)
    by = request.query_params.get("by", "bucket")
    by = by if by in DIMENSIONS else "bucket"
    after = request.query_params.get("after", "0")
    after_id = int(after) if after.isascii() and after.isdigit() and len(after) < 18 else 0
    rows = await db.read_in_thread(portfolios.members, creditor, number, after=after_id, limit=PAGE_ROWS + 1)
    context = {
        "portfolio": found, "by": by, "dimensions": DIMENSION_WORDS, "strata": _strata(found, by),
        "top": [(n, minor, ratio_bp(minor, found.balance_minor)) for n, minor in found.strata.get("top", [])],
        "curve": found.strata.get("curve", []), "dpd": _weighted(found), "rows": rows[:PAGE_ROWS],
        "next": rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None, "after": after_id,
        "principal_bp": ratio_bp(found.principal_minor, found.balance_minor), "bucket_text": bucket_text,
        "dpd_text": dpd_text, "names_borrowers": found.strata.get("names_borrowers", True),
        "shown": _shown(rows[:PAGE_ROWS]) if after_id or len(rows) > PAGE_ROWS else [],
    }  # fmt: skip
    return page(request, "portfolios/show.html", context)


def _strata(found: Portfolio, by: str) -> list[dict[str, Any]]:
    rows = found.strata.get(by, [])
    most = max((row[3] for row in rows), default=0) or 1
    shares = allocate(10_000, [row[3] for row in rows]) if found.balance_minor else [0] * len(rows)
    shown = []
    for (name, accounts_count, principal, balance), share_bp in zip(rows, shares, strict=True):
        if name == OTHER:
            text = _("all others")
        elif by == "size":
            text = _size_text(name, found.currency)
        else:
            text = (bucket_text(name) if by == "bucket" else name) or _("not given")
        shown.append(
            {
                "words": text,
                "accounts": accounts_count,
                "principal": principal,
                "balance": balance,
                "share": share_bp,
                "width": balance * 1000 // most,
            }
        )
    return shown


def _weighted(found: Portfolio) -> str:
    """The weighted average days past due as it is known."""
    dpd = found.strata.get("weighted_dpd", {})
    if dpd.get("from") is None:
        return _("not given")
    least = f"{dpd['from'] // 100}.{dpd['from'] % 100:02}"
    if dpd["to"] is None:
        return _("%(days)s or more", days=least)
    return least if dpd["to"] == dpd["from"] else f"{least}–{dpd['to'] // 100}.{dpd['to'] % 100:02}"


routes: list[BaseRoute] = [
    Route("/tapes", tapes),
    Route("/tapes", upload, methods=["POST"], max_body_size=UPLOAD_BYTES + FORM_BYTES),
    Route("/tapes/{id:int}", tape),
    Route("/tapes/{id:int}/progress", progress),
    Route("/tapes/{id:int}/order", order, methods=["POST"]),
    Route("/tapes/{id:int}/faults.csv", faults_file),
    Route("/tapes/{id:int}/with-faults.csv", annotated_file),
    Route("/tapes/{id:int}/mapping", mapping),
    Route("/tapes/{id:int}/mapping", save_mapping, methods=["POST"]),
    Route("/accounts", accounts),
    Route("/accounts/{id:int}", account),
    Route("/portfolios", index),
    Route("/portfolios", create, methods=["POST"]),
    Route("/portfolios/{id:int}", show),
]


# --- JSON ----------------------------------------------------------------------------------------

api = APIRouter()


def tape_json(found: Tape) -> dict[str, Any]:
    """A tape as JSON: status, progress, scores, sums as exact text."""
    report = found.report
    return {
        "id": found.id, "status": found.status, "filename": found.filename, "digest": found.digest,
        "size": found.size, "cutoff_on": found.cutoff_on.isoformat(), "currency": found.currency,
        "format": report.get("name"), "rows": found.rows, "rows_done": found.rows_done, "faults": found.faults,
        "faulty_rows": found.faulty_rows, "header": report.get("header"),
        "completeness_bp": report.get("completeness_bp"), "plausibility_bp": report.get("plausibility_bp"),
        "doubts": report.get("doubts", {}), "kept": _totals_json(report.get("kept"), found.currency),
        "all": _totals_json(report.get("all"), found.currency), "created_at": found.created_at.isoformat(),
        "kept_at": found.kept_at.isoformat() if found.kept_at else None,
    }  # fmt: skip


def _totals_json(totals: dict[str, Any] | None, currency: str) -> dict[str, Any] | None:
    if totals is None:
        return None
    buckets = {
        name: {"accounts": rows, "balance": amount_text(balance, currency)}
        for name, (rows, balance) in totals["by_bucket"].items()
    }
    return {
        "rows": totals["rows"], "principal": amount_text(totals["principal_minor"], currency),
        "balance": amount_text(totals["balance_minor"], currency), "by_bucket": buckets,
    }  # fmt: skip


def account_json(found: LoanAccount) -> dict[str, Any]:
    """An account as JSON; `dpd_to` equals `dpd` when the days are exact, both null when the tape does not say."""
    amounts = {
        name: amount_text(getattr(found, f"{name}_minor"), found.currency)
        for name in ("principal", "interest", "fees", "balance")
    }
    return {
        "id": found.id, "tape": found.tape_id, "row": found.row, "loan_id": found.loan_id,
        "borrower_id": found.borrower_id, "status": found.status, "currency": found.currency,
        "cutoff_on": found.cutoff_on.isoformat(), **amounts, "dpd": found.dpd, "dpd_to": found.dpd_to,
        "bucket": found.bucket, "product": found.product, "region": found.region, "rate_bp": found.rate_bp,
        "originated_on": found.originated_on.isoformat() if found.originated_on else None,
    }  # fmt: skip


def portfolio_json(found: Portfolio) -> dict[str, Any]:
    """A portfolio as JSON."""
    return {
        "id": found.id, "name": found.name, "cutoff_on": found.cutoff_on.isoformat(), "currency": found.currency,
        "accounts": found.accounts, "borrowers": found.borrowers,
        "principal": amount_text(found.principal_minor, found.currency),
        "balance": amount_text(found.balance_minor, found.currency), "hash": found.content_hash,
        "created_at": found.created_at.isoformat(),
    }  # fmt: skip


Owner = Annotated[Visitor, allowed("asset_manager")]
Id = Annotated[int, Field(ge=1, le=2**53)]
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "cutoff_on"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "cutoff_on": {"type": "string", "format": "date"},
                        "currency": {"type": "string", "description": "for layouts that name none; default USD"},
                        "mapping": {"type": "string", "description": "a format's name, or saved:<id>"},
                    },
                }
            }
        },
    }
}


@api.get("/tapes", tags=["tapes"], responses=PROBLEMS)
async def list_tapes(request: ApiRequest, visitor: Owner) -> dict[str, Any]:
    """The caller's tapes, the newest 100."""
    rows = await request.state.db.read_in_thread(portfolios.tapes, visitor.party_id)
    return {"tapes": [tape_json(row) for row in rows]}


@api.post(
    "/tapes", tags=["tapes"], status_code=202, responses=PROBLEMS, openapi_extra=_UPLOAD,
    max_body_size=UPLOAD_BYTES + FORM_BYTES,
)  # fmt: skip
async def post_tape(request: ApiRequest, visitor: Owner) -> JSONResponse:
    """Send a tape as a form with a file; it is read by and by: ask for it until its status is not `reading`."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadInput([Fault("type", "body", "", "multipart/form-data")])
    async with request.form(max_files=1, max_fields=10) as form:
        tape_id = await receive(request, form)
    found, _shown = await request.state.db.read_in_thread(portfolios.tape, visitor.party_id, tape_id)
    return JSONResponse(tape_json(found), 202, headers={"Location": f"/api/v1/tapes/{tape_id}"})


@api.get("/tapes/{tape_id}", tags=["tapes"], responses=PROBLEMS)
async def get_tape(request: ApiRequest, visitor: Owner, tape_id: Id) -> dict[str, Any]:
    """One tape."""
    found, _shown = await request.state.db.read_in_thread(portfolios.tape, visitor.party_id, tape_id)
    return tape_json(found)


@api.get("/tapes/{tape_id}/faults", tags=["tapes"], responses=PROBLEMS)
async def get_faults(request: ApiRequest, visitor: Owner, tape_id: Id) -> dict[str, Any]:
    """The first 100 faults; `file` has all of them."""
    found, shown = await request.state.db.read_in_thread(portfolios.tape, visitor.party_id, tape_id)
    lines = [
        {"row": one.row, "column": one.field, "found": one.found, "expected": one.expected, "code": one.code}
        for one in shown
    ]
    file = f"/tapes/{tape_id}/faults.csv" if found.faults_digest else None
    return {"total": found.faults, "faulty_rows": found.faulty_rows, "faults": lines, "file": file}


class OrderBody(Strict):
    """Why the faulty rows may be left out."""

    reason: str


@api.post(
    "/tapes/{tape_id}/order", tags=["tapes"], status_code=202, responses=PROBLEMS, openapi_extra=body_of(OrderBody)
)
async def post_order(
    request: ApiRequest, visitor: Owner, tape_id: Id, body: Annotated[OrderBody, json_body(OrderBody)]
) -> dict[str, Any]:
    """Order, on record, that a faulty tape be taken without its faulty rows."""
    db: Database = request.state.db
    await db.in_thread(
        portfolios.take_without_faulty_rows, _party(visitor), tape_id, _person(visitor), reason=body.reason,
        at=utc_now(),
    )  # fmt: skip
    request.app.state.poke()
    found, _shown = await db.read_in_thread(portfolios.tape, _party(visitor), tape_id)
    return tape_json(found)


@api.get("/accounts", tags=["accounts"], responses=PROBLEMS)
async def list_accounts(
    request: ApiRequest,
    visitor: Owner,
    cursor: Annotated[int, Field(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Field(ge=1, le=API_ROWS)] = 100,
) -> dict[str, Any]:
    """Accounts by id after `cursor`.

    These narrow them: `tape`, `bucket`, `status`, `product`, `region`, `currency`, `least`, `most`, `loan`.
    """
    values: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, []).append(value)
    selection = Selection.read(values)
    rows = await request.state.db.read_in_thread(
        portfolios.accounts, visitor.party_id, selection, after=cursor, limit=limit + 1
    )
    sums = await request.state.db.read_in_thread(portfolios.sums, visitor.party_id, selection)
    return {
        "accounts": [account_json(row) for row in rows[:limit]],
        "next": rows[limit - 1].id if len(rows) > limit else None,
        "sums": [
            {
                "currency": one.currency,
                "accounts": one.accounts,
                "principal": amount_text(one.principal_minor, one.currency),
                "balance": amount_text(one.balance_minor, one.currency),
            }
            for one in sums
        ],
    }


class PortfolioBody(Strict):
    """A portfolio's name and the query that chooses its accounts."""

    name: str
    selection: dict[str, list[str]]


@api.post("/portfolios", tags=["portfolios"], status_code=201, responses=PROBLEMS, openapi_extra=body_of(PortfolioBody))
async def post_portfolio(
    request: ApiRequest, visitor: Owner, body: Annotated[PortfolioBody, json_body(PortfolioBody)]
) -> JSONResponse:
    """Make a portfolio of the selected accounts; all must be overdue, of one currency and one cut-off date."""
    selection = Selection.read(body.selection)
    db: Database = request.state.db
    made = await to_thread(
        portfolios.make_portfolio,
        db,
        _party(visitor),
        _person(visitor),
        name=body.name,
        selection=selection,
        at=utc_now(),
    )
    found = await db.read_in_thread(portfolios.portfolio, _party(visitor), made)
    return JSONResponse(portfolio_json(found), 201, headers={"Location": f"/api/v1/portfolios/{made}"})


@api.get("/portfolios", tags=["portfolios"], responses=PROBLEMS)
async def list_portfolios(request: ApiRequest, visitor: Owner) -> dict[str, Any]:
    """The caller's portfolios, the newest 100."""
    rows = await request.state.db.read_in_thread(portfolios.portfolios, visitor.party_id)
    return {"portfolios": [portfolio_json(row) for row in rows]}


@api.get("/portfolios/{portfolio_id}", tags=["portfolios"], responses=PROBLEMS)
async def get_portfolio(request: ApiRequest, visitor: Owner, portfolio_id: Id) -> dict[str, Any]:
    """One portfolio."""
    return portfolio_json(await request.state.db.read_in_thread(portfolios.portfolio, visitor.party_id, portfolio_id))


@api.get("/portfolios/{portfolio_id}/strata", tags=["portfolios"], responses=PROBLEMS)
async def get_strata(request: ApiRequest, visitor: Owner, portfolio_id: Id) -> dict[str, Any]:
    """Strata by bucket, product, region and size; the largest borrowers; weighted average days past due."""
    found = await request.state.db.read_in_thread(portfolios.portfolio, visitor.party_id, portfolio_id)
    strata = {
        by: [
            {
                "name": None if name == OTHER else name,
                "accounts": rows,
                "principal": amount_text(principal, found.currency),
                "balance": amount_text(balance, found.currency),
            }
            for name, rows, principal, balance in found.strata.get(by, [])
        ]
        for by in DIMENSIONS
    }
    dpd = found.strata.get("weighted_dpd", {})
    return {
        **strata,
        "top": [{"borrowers": n, "balance": amount_text(m, found.currency)} for n, m in found.strata.get("top", [])],
        "curve_bp": found.strata.get("curve", []),
        "weighted_dpd": {
            side: None if dpd.get(side) is None else f"{dpd[side] // 100}.{dpd[side] % 100:02}"
            for side in ("from", "to")
        },
    }


# --- import by the command line ------------------------------------------------------------------


def import_tape(
    db: Database,
    objects: Objects,
    path: Path,
    *,
    creditor: str,
    cutoff_on: date,
    currency: str = "USD",
    mapping: str = "",
    told: Callable[[int, int], None] | None = None,
) -> tuple[Tape, list[TapeFault]]:
    """Take a file in and read it here, for the party named `creditor` (its name, or its number).

    Raises: BadInput, also `creditor_unknown`, when there is no such party with a person; Conflict `tape_repeated`.
    """
    creditor_id, person_id = db.read(_creditor, creditor)
    with path.open("rb") as file:
        kept = objects.put(file, limit_bytes=UPLOAD_BYTES)
    tape_id = db.in_transaction(
        portfolios.receive_tape, creditor_id, person_id, filename=_filename(path.name), digest=kept.digest,
        size=kept.size_bytes, cutoff_on=cutoff_on, currency=currency, mapping=mapping, is_read_here=True, at=utc_now(),
    )  # fmt: skip
    portfolios.read_tape(db, objects, tape_id, now=utc_now, told=told)
    return db.read(portfolios.tape, creditor_id, tape_id)


def _creditor(session: Session, creditor: str) -> tuple[int, int]:
    from market.parties import name_key

    which = (
        Party.id == int(creditor) if creditor.isascii() and creditor.isdigit() else Party.name_key == name_key(creditor)
    )
    found = session.exec(
        select(Party.id, Person.id)
        .join(Person, col(Person.party_id) == col(Party.id))
        .where(which)
        .order_by(col(Person.id))
    ).first()
    if found is None:
        raise BadInput([Fault("creditor_unknown", "creditor", creditor[:80], "a party's name or number")])
    return found[0], found[1]


__all__ = ["api", "import_tape", "routes"]
