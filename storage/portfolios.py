"""Tapes, the overdue accounts that they bring, and portfolios of them.

A tape is read by a task in many short transactions (`read_tape`), so that a million rows hold no bid up: batches of
accounts are written while the tape is `reading`, and nothing of a tape is shown before one last, short transaction
calls it `kept`.  A reader that was killed is followed by another one, which clears what the first had written and
begins anew; the tape's `attempt` keeps the older one from writing, should it wake up.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import IO, Any

import polars as pl
from sqlalchemy import ColumnElement, CursorResult, case, delete, func, insert, update
from sqlmodel import Session, col, select

from market import mappings
from market.accounts import Status
from market.errors import BadInput, Conflict, Fault, NotFound
from market.inputs import has_hidden
from market.mappings import TapeMapping
from market.portfolios import CONTENT, Assembled, Assembly, Selection, ranks
from market.sheets import Table, open_table
from market.tape import (
    ACCOUNT_COLUMNS,
    FAULT_HEADER,
    MOST_FAULTS,
    SHOWN_FAULTS,
    Checked,
    Checker,
    fault_lines,
    mapping_for,
)
from storage import notices, outbox
from storage.accounts import replace_later
from storage.database import Database
from storage.objects import Objects
from storage.tables import AuditTrail, LoanAccount, Outbox, Portfolio, PortfolioAccount, Tape, TapeFault
from storage.tables import Mapping as SavedMapping

SQLITE_BATCH_ROWS = 2_500  # written in well under 50 ms, so that a bid's transaction gets its turn in between
POSTGRESQL_BATCH_ROWS = 50_000
CLEAR_ROWS = 5_000
PORTFOLIO_BATCH_ROWS = 20_000
ABANDONED_AFTER = timedelta(hours=6)  # a portfolio that nobody writes members of any more
FAULTS_FILE_BYTES = 512 * 1024**2
HOLD = timedelta(seconds=60)  # a reader without a claim (the command line) lives, or another one may begin
WAITING = ("received", "reading", "needs_mapping", "kept")  # a file that is in one of these is not taken twice
MOST_REASON_CHARACTERS = 500
NOTHING_HIDDEN = "no control, direction or zero-width characters"
LEAST_REASON_CHARACTERS = 10
MOST_SAVED = 50  # mappings of one creditor that are looked at

COLUMNS = ("creditor_id", "tape_id", "currency", "cutoff_on", *ACCOUNT_COLUMNS)


# --- a tape, from its file to its accounts -------------------------------------------------------


def receive_tape(
    session: Session,
    creditor_id: int,
    person_id: int,
    *,
    filename: str,
    digest: str,
    size: int,
    cutoff_on: date,
    currency: str,
    mapping: str = "",
    is_read_here: bool = False,
    at: datetime,
) -> int:
    """Note a file that is in the object store, and leave the reading of it for a task; return the tape's id.

    `mapping`: a format known by name, `saved:<id>`, or "" to recognise it by its header. `is_read_here`: the caller
    reads it at once, so the task waits until that reader would have been heard of.

    Raises: Conflict `tape_repeated`, when the creditor has given the same file already and it was not refused.
    """
    same = select(Tape.id).where(Tape.creditor_id == creditor_id, Tape.digest == digest, col(Tape.status).in_(WAITING))
    if (first := session.exec(same).first()) is not None:
        raise Conflict("tape_repeated", found=first)
    if mapping.startswith("saved:"):
        _saved(session, creditor_id, mapping)
    elif mapping:
        mapping_for(mapping)
    tape = Tape(
        creditor_id=creditor_id, filename=filename, digest=digest, size=size, mapping=mapping, cutoff_on=cutoff_on,
        currency=currency, created_by=person_id, created_at=at, report={},
    )  # fmt: skip
    session.add(tape)
    session.flush()
    _read_again(session, tape, at + HOLD if is_read_here else at)
    _note(session, "tape_received", "tape", tape.id, person_id, at, filename=filename, digest=digest)
    return tape.id


def take_without_faulty_rows(
    session: Session, creditor_id: int, tape_id: int, person_id: int, *, reason: str, at: datetime
) -> None:
    """Order, on record, that a faulty tape be taken without its faulty rows; it is read once more.

    Raises: NotFound; Conflict `tape_status`; BadInput `reason`.
    """
    tape = _own(session, creditor_id, tape_id)
    if tape.status != "faulty" or not tape.report.get("kept", {}).get("rows"):
        raise Conflict("tape_status", status=tape.status)
    reason = reason.strip().replace("\r\n", "\n")
    if not LEAST_REASON_CHARACTERS <= len(reason) <= MOST_REASON_CHARACTERS:
        expected = f"{LEAST_REASON_CHARACTERS} to {MOST_REASON_CHARACTERS} characters"
        raise BadInput([Fault("reason", "reason", str(len(reason)), expected)])
    if has_hidden(reason, allowed="\n"):
        raise BadInput([Fault("hidden_character", "reason", ascii(reason)[:80], NOTHING_HIDDEN)])
    facts = {"reason": reason, "before": tape.report["all"], "after": tape.report["kept"], "faults": tape.faults}
    tape.decision = {"person": person_id, "at": at.isoformat(), "reason": reason}
    _note(session, "tape_without_faulty_rows", "tape", tape.id, person_id, at, **facts)
    _read_again(session, tape, at)


def use_mapping(
    session: Session, creditor_id: int, tape_id: int, person_id: int, *, values: Mapping[str, Any], at: datetime
) -> None:
    """Save a mapping under its name as a new version, and read the tape through it.

    Raises: NotFound; Conflict `tape_status`, for a tape that is being read or kept; BadInput as `mappings.read`.
    """
    tape = _own(session, creditor_id, tape_id)
    if tape.status not in ("needs_mapping", "faulty", "refused"):
        raise Conflict("tape_status", status=tape.status)
    mapping = mappings.read(values)
    newest = select(func.max(SavedMapping.version)).where(
        SavedMapping.creditor_id == creditor_id, SavedMapping.name == mapping.name
    )
    saved = SavedMapping(
        creditor_id=creditor_id, name=mapping.name, version=(session.exec(newest).one() or 0) + 1,
        columns=mappings.write(mapping), created_at=at,
    )  # fmt: skip
    session.add(saved)
    session.flush()
    tape.mapping = f"saved:{saved.id}"
    _note(session, "tape_mapped", "tape", tape.id, person_id, at, mapping=mapping.name, version=saved.version)
    _read_again(session, tape, at)


def read_tape(
    db: Database,
    objects: Objects,
    tape_id: int,
    *,
    now: Callable[[], datetime],
    told: Callable[[int, int], None] | None = None,
) -> str:
    """Read a tape from its file to its accounts; return its status then: `kept`, `faulty`, `refused`, `needs_mapping`.

    Many transactions, harmless to do again at any point.  `told(done, all)` hears how many rows are read.
    """
    job = db.in_transaction(_begin, tape_id, at=now())
    if job is not None:
        try:
            return _read(db, objects, job, now, told)
        except Superseded:
            pass  # the other reader's outcome counts
    return db.read(lambda session: session.get_one(Tape, tape_id).status)


def _read(
    db: Database, objects: Objects, job: _Job, now: Callable[[], datetime], told: Callable[[int, int], None] | None
) -> str:
    _clear_all(db, job, now)
    with objects.get(job.digest) as stream:
        try:
            table = open_table(stream)
            mapping = job.mapping or mappings.recognise(table.header, job.saved)
            if mapping is None:
                db.in_transaction(_ask_for_mapping, job, table, at=now())
                return "needs_mapping"
            _check_columns(mapping, table.header)
        except BadInput as bad:
            db.in_transaction(_refuse, job, bad.faults, at=now())
            return "refused"
        return _read_rows(db, objects, job, table, mapping, now, told)


@dataclass(slots=True)
class _Job:
    """One attempt at reading one tape."""

    tape_id: int
    creditor_id: int
    attempt: int
    digest: str
    cutoff_on: date
    currency: str
    mapping: TapeMapping | None
    saved: list[TapeMapping]
    is_ordered: bool  # to be taken without its faulty rows
    key: str  # of the outbox row that this attempt answers


class Superseded(Exception):
    """Another reader has begun; this one must not write."""


def _read_rows(
    db: Database,
    objects: Objects,
    job: _Job,
    table: Table,
    mapping: TapeMapping,
    now: Callable[[], datetime],
    told: Callable[[int, int], None] | None,
) -> str:
    currency = mapping.currency or job.currency
    checker = Checker(table.header, mapping, cutoff_on=job.cutoff_on, currency=currency, is_workbook=table.is_workbook)
    db.in_transaction(_recognised, job, table, mapping, currency, at=now())
    shown: list[Fault] = []
    rows = faults = 0  # so far; the checker is a block ahead
    with tempfile.TemporaryFile() as file:
        file.write(FAULT_HEADER)
        try:
            for checked in _ahead(table, checker):
                rows, faults = rows + checked.rows, faults + len(checked.faults)
                if checked.faults:
                    shown += checked.faults[: SHOWN_FAULTS - len(shown)]
                    file.write(fault_lines(checked.faults))
                if faults > MOST_FAULTS:
                    expected = f"a tape with at most {MOST_FAULTS} faults; the rows after this one were not read"
                    raise BadInput([Fault("too_many_faults", "", str(faults), expected, rows)])
                if job.is_ordered or not faults:
                    _write(db, job, checked.good, currency, rows, now)
                else:
                    db.in_transaction(_progress, job, rows, at=now())
                if told:
                    told(rows, max(table.rows, rows))
        except BadInput as bad:  # nothing can be read from there on
            _clear_all(db, job, now)
            db.in_transaction(_refuse, job, bad.faults, at=now())
            return "refused"
        digest = _keep_faults(objects, file) if checker.fault_count else ""
    is_kept = checker.kept.rows and (job.is_ordered or not checker.fault_count)
    if not is_kept:
        _clear_all(db, job, now)
    return db.in_transaction(_finish, job, checker, shown, digest, is_kept=bool(is_kept), at=now())


def _ahead(table: Table, checker: Checker) -> Iterator[Checked]:
    """The blocks, checked; while one is written, the next is read in a thread (the database works meanwhile)."""
    blocks = table.blocks()

    def step() -> Checked | None:
        block = next(blocks, None)
        return None if block is None else checker.check(block)

    with ThreadPoolExecutor(1, thread_name_prefix="tape") as pool:
        waiting = pool.submit(step)
        while (checked := waiting.result()) is not None:
            waiting = pool.submit(step)
            yield checked


def _keep_faults(objects: Objects, file: IO[bytes]) -> str:
    file.seek(0)
    return objects.put(file, limit_bytes=FAULTS_FILE_BYTES).digest


def _begin(session: Session, tape_id: int, *, at: datetime) -> _Job | None:
    tape = session.exec(select(Tape).where(Tape.id == tape_id).with_for_update()).one()
    if tape.status not in ("received", "reading"):
        return None
    tape.attempt += 1
    tape.status, tape.stage, tape.rows_done, tape.faults, tape.faulty_rows = "reading", "hashed", 0, 0, 0
    session.add(tape)
    saved = select(SavedMapping).where(SavedMapping.creditor_id == tape.creditor_id)
    newest: dict[str, TapeMapping] = {}
    for row in session.exec(saved.order_by(col(SavedMapping.id).desc()).limit(MOST_SAVED)):
        newest.setdefault(row.name, mappings.read(row.columns))
    chosen = None
    if tape.mapping.startswith("saved:"):
        chosen = _saved(session, tape.creditor_id, tape.mapping)
    elif tape.mapping:
        chosen = mapping_for(tape.mapping)
    return _Job(
        tape_id=tape.id, creditor_id=tape.creditor_id, attempt=tape.attempt, digest=tape.digest,
        cutoff_on=tape.cutoff_on, currency=tape.currency, mapping=chosen, saved=list(newest.values()),
        is_ordered=tape.decision is not None, key=_key(tape),
    )  # fmt: skip


def _progress(session: Session, job: _Job, done: int, *, at: datetime) -> None:
    """Note how far the reader is, and that it lives. Raises: Superseded."""
    mine = (Tape.id == job.tape_id, Tape.attempt == job.attempt, Tape.status == "reading")
    noted: CursorResult[Any] = session.execute(update(Tape).where(*mine).values(rows_done=done))  # type: ignore[arg-type, assignment]
    if noted.rowcount != 1:
        raise Superseded(job.tape_id)
    session.execute(
        update(Outbox)
        .where(col(Outbox.key) == job.key, col(Outbox.done_at).is_(None), col(Outbox.claimed_by).is_(None))
        .values(due_at=at + HOLD)
    )


def _clear_all(db: Database, job: _Job, now: Callable[[], datetime]) -> None:
    while db.in_transaction(_clear, job, at=now()):
        pass


def _clear(session: Session, job: _Job, *, at: datetime) -> bool:
    """Remove some accounts of an attempt that came to nothing; return whether there may be more."""
    _progress(session, job, 0, at=at)
    some = select(LoanAccount.id).where(LoanAccount.tape_id == job.tape_id).limit(CLEAR_ROWS)
    gone: CursorResult[Any] = session.execute(delete(LoanAccount).where(col(LoanAccount.id).in_(some)))  # type: ignore[assignment]
    return gone.rowcount == CLEAR_ROWS


def _recognised(
    session: Session, job: _Job, table: Table, mapping: TapeMapping, currency: str, *, at: datetime
) -> None:
    _progress(session, job, 0, at=at)
    tape = session.get_one(Tape, job.tape_id)
    tape.stage, tape.rows, tape.currency = "rows", table.rows, currency
    tape.report = _kept(tape) | _header(table) | {"mapping": mapping.title, "name": mapping.name}
    session.add(tape)


def _ask_for_mapping(session: Session, job: _Job, table: Table, *, at: datetime) -> None:
    _progress(session, job, 0, at=at)
    tape = session.get_one(Tape, job.tape_id)
    tape.status, tape.stage, tape.rows, tape.report = "needs_mapping", "", table.rows, _kept(tape) | _header(table)
    session.add(tape)


def _kept(tape: Tape) -> dict[str, Any]:
    """What of the report outlives a reading: which one it is."""
    return {name: value for name, value in tape.report.items() if name == "turn"}


def _header(table: Table) -> dict[str, Any]:
    samples = [[cell[:60] for cell in row] for row in table.samples]
    return {"header": table.header, "samples": samples, "encoding": table.encoding}


def _check_columns(mapping: TapeMapping, header: Sequence[str]) -> None:
    """Raises: BadInput, a fault for each column that the chosen mapping must have and the file has not."""
    names = {mappings.normal(name) for name in header}
    lacking = [
        column.source for column in mapping.columns if column.must and mappings.normal(column.source) not in names
    ]
    if lacking:
        raise BadInput([Fault("column_missing", name, "", "a column of this name", 0) for name in lacking])


def _refuse(session: Session, job: _Job, faults: Sequence[Fault], *, at: datetime) -> None:
    _progress(session, job, 0, at=at)
    tape = session.get_one(Tape, job.tape_id)
    tape.status, tape.stage, tape.faults, tape.faulty_rows = "refused", "", len(faults), 0
    tape.decision = None
    _keep_shown(session, tape, faults[:SHOWN_FAULTS])
    _note(session, "tape_refused", "tape", tape.id, None, at, code=faults[0].code)
    _tell(session, tape, job, "tape_faulty", at=at)


def _keep_shown(session: Session, tape: Tape, faults: Sequence[Fault]) -> None:
    session.execute(delete(TapeFault).where(col(TapeFault.tape_id) == tape.id))
    for number, fault in enumerate(faults, 1):
        session.add(
            TapeFault(
                tape_id=tape.id,
                number=number,
                row=fault.row,
                field=fault.field,
                code=fault.code,
                found=fault.found,
                expected=fault.expected,
            )
        )
    session.add(tape)


def _write(db: Database, job: _Job, good: pl.DataFrame, currency: str, rows: int, now: Callable[[], datetime]) -> None:
    """Keep the good rows of a block, out of sight, in transactions small enough for others to come between."""
    frame = good.with_columns(
        pl.lit(job.creditor_id, pl.Int64).alias("creditor_id"),
        pl.lit(job.tape_id, pl.Int64).alias("tape_id"),
        pl.lit(currency).alias("currency"),
        pl.lit(job.cutoff_on).alias("cutoff_on"),
    ).select(COLUMNS)
    if not db.is_sqlite:
        for batch in frame.iter_slices(POSTGRESQL_BATCH_ROWS):
            # COPY's own text form costs the server less than CSV; no cell has a tab or a line end in it (Checker).
            plain = batch.with_columns(pl.col(pl.String).str.replace_all("\\", "\\\\", literal=True))
            data = plain.write_csv(include_header=False, separator="\t", quote_style="never", null_value="\\N").encode()
            db.in_transaction(_copy, job, data, rows, at=now())
        return
    frame = frame.with_columns(pl.col(pl.Date).cast(pl.String))
    for batch in frame.iter_slices(SQLITE_BATCH_ROWS):
        db.in_transaction(_insert, job, batch.rows(), rows, at=now())


_INTO = f"loanaccount ({', '.join(COLUMNS)})"  # names of ours only
_COPY = f"COPY {_INTO} FROM STDIN"
_INSERT = f"INSERT INTO {_INTO} VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608


def _copy(session: Session, job: _Job, data: bytes, rows: int, *, at: datetime) -> None:
    """A batch by COPY: the driver's own, since it is ten times as fast as any INSERT."""
    _progress(session, job, rows, at=at)
    driver = session.connection().connection.cursor()
    with driver.copy(_COPY) as copy:
        copy.write(data)


def _insert(session: Session, job: _Job, batch: Sequence[tuple[Any, ...]], rows: int, *, at: datetime) -> None:
    _progress(session, job, rows, at=at)
    session.connection().connection.cursor().executemany(_INSERT, batch)


def _finish(
    session: Session, job: _Job, checker: Checker, shown: Sequence[Fault], digest: str, *, is_kept: bool, at: datetime
) -> str:
    """The last transaction: from here on the accounts are there, or the faults are."""
    _progress(session, job, checker.rows, at=at)
    tape = session.get_one(Tape, job.tape_id)
    tape.rows = tape.rows_done = checker.rows
    tape.status, tape.stage = ("kept" if is_kept else "faulty"), ""
    tape.faults, tape.faulty_rows, tape.faults_digest = checker.fault_count, checker.faulty_rows, digest
    tape.report = tape.report | checker.report()
    if is_kept:
        tape.kept_at = at
        session.flush()
        replace_later(session, job.creditor_id, col(LoanAccount.tape_id) == tape.id, "kept", at=at)
    else:
        tape.decision = None
    _keep_shown(session, tape, shown)
    sums = {"rows": checker.kept.rows, "balance_minor": checker.kept.balance_minor, "faults": checker.fault_count}
    _note(session, f"tape_{tape.status}", "tape", tape.id, None, at, **sums)
    _tell(session, tape, job, f"tape_{tape.status}", at=at)
    return tape.status


def _tell(session: Session, tape: Tape, job: _Job, kind: str, *, at: datetime) -> None:
    """Tell who uploaded the tape what became of it; counts only, nothing of a debtor."""
    facts = {
        "tape_id": tape.id, "file": tape.filename, "rows": tape.rows, "faults": tape.faults,
        "faulty_rows": tape.faulty_rows,
    }  # fmt: skip
    notices.put(session, kind, f"{tape.id}:{job.attempt}", facts, person_id=tape.created_by, at=at)


def _own(session: Session, creditor_id: int, tape_id: int) -> Tape:
    tape = session.exec(
        select(Tape).where(Tape.id == tape_id, Tape.creditor_id == creditor_id).with_for_update()
    ).first()
    if tape is None:
        raise NotFound("tape")
    return tape


def _saved(session: Session, creditor_id: int, mapping: str) -> TapeMapping:
    number = mapping.removeprefix("saved:")
    row = None
    if number.isascii() and number.isdigit() and len(number) < 18:
        row = session.exec(
            select(SavedMapping).where(SavedMapping.id == int(number), SavedMapping.creditor_id == creditor_id)
        ).first()
    if row is None:
        raise BadInput([Fault("mapping_unknown", "mapping", mapping[:80], "a mapping that was saved")])
    return mappings.read(row.columns)


def _read_again(session: Session, tape: Tape, at: datetime) -> None:
    tape.status, tape.stage, tape.rows_done = "received", "", 0
    tape.report = tape.report | {"turn": int(tape.report.get("turn", 0)) + 1}
    session.add(tape)
    outbox.put(session, "read_tape", _key(tape), {"tape_id": tape.id}, at=at)


def _key(tape: Tape) -> str:
    return f"read_tape:{tape.id}:{tape.report.get('turn', 1)}"


def _note(
    session: Session, action: str, subject: str, subject_id: int, person_id: int | None, at: datetime, **facts: Any
) -> None:
    session.add(
        AuditTrail(at=at, person_id=person_id, action=action, subject=subject, subject_id=subject_id, facts=facts)
    )


# --- looking at tapes ----------------------------------------------------------------------------


def tapes(session: Session, creditor_id: int, *, limit: int = 100) -> list[Tape]:
    """The creditor's tapes, the newest first."""
    mine = select(Tape).where(Tape.creditor_id == creditor_id).order_by(col(Tape.id).desc())
    return list(session.exec(mine.limit(limit)))


def tape(session: Session, creditor_id: int, tape_id: int) -> tuple[Tape, list[TapeFault]]:
    """A tape and its first faults. Raises: NotFound."""
    found = session.exec(select(Tape).where(Tape.id == tape_id, Tape.creditor_id == creditor_id)).first()
    if found is None:
        raise NotFound("tape")
    faults = select(TapeFault).where(TapeFault.tape_id == tape_id).order_by(col(TapeFault.number))
    return found, list(session.exec(faults))


def saved_mappings(session: Session, creditor_id: int) -> list[SavedMapping]:
    """The newest version of each of the creditor's mappings, by name."""
    mine = select(SavedMapping).where(SavedMapping.creditor_id == creditor_id).order_by(col(SavedMapping.id).desc())
    newest: dict[str, SavedMapping] = {}
    for row in session.exec(mine.limit(MOST_SAVED)):
        newest.setdefault(row.name, row)
    return sorted(newest.values(), key=lambda row: row.name)


# --- accounts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sums:
    """What a selection comes to, in one currency."""

    currency: str
    accounts: int
    principal_minor: int
    balance_minor: int


def accounts(
    session: Session, creditor_id: int, selection: Selection, *, after: int = 0, limit: int = 50
) -> list[LoanAccount]:
    """The selected accounts by id, at most `limit`, from the first after the account `after`."""
    chosen = select(LoanAccount).where(*_where(creditor_id, selection), col(LoanAccount.id) > after)
    return list(session.exec(chosen.order_by(col(LoanAccount.id)).limit(limit)))


def account(session: Session, creditor_id: int, account_id: int) -> tuple[LoanAccount, dict[str, Any]]:
    """One account, and the other facts of its row by name. Raises: NotFound."""
    found = session.exec(
        select(LoanAccount).where(*_where(creditor_id, Selection()), col(LoanAccount.id) == account_id)
    ).first()
    if found is None:
        raise NotFound("account")
    names = session.get_one(Tape, found.tape_id).report.get("facts", [])
    facts = {name: (found.facts or {}).get(str(number)) for number, name in enumerate(names)}
    return found, facts


def sums(session: Session, creditor_id: int, selection: Selection) -> list[Sums]:
    """What the selection comes to: one for each currency."""
    rows = session.execute(
        select(
            LoanAccount.currency,
            func.count(),
            func.coalesce(func.sum(LoanAccount.principal_minor), 0),
            func.coalesce(func.sum(LoanAccount.balance_minor), 0),
        )
        .where(*_where(creditor_id, selection))
        .group_by(LoanAccount.currency)
        .order_by(LoanAccount.currency)
    )
    return [Sums(currency, count, int(principal), int(balance)) for currency, count, principal, balance in rows]


def facets(session: Session, creditor_id: int, selection: Selection) -> dict[str, dict[str, int]]:
    """For bucket, product and region: how many accounts each value would select, the rest of the choice standing.

    A field's own values are left out of its count, so that a figure says what one more press would bring.
    """
    found: dict[str, dict[str, int]] = {}
    for name, chosen in (("bucket", "buckets"), ("product", "products"), ("region", "regions")):
        column = getattr(LoanAccount, name)
        others = replace(selection, **{chosen: ()})  # type: ignore[arg-type]
        counts = select(column, func.count()).where(*_where(creditor_id, others)).group_by(column)
        found[name] = dict(session.exec(counts).all())
    return found


def _where(creditor_id: int, selection: Selection) -> list[ColumnElement[bool]]:
    """The owner and the choice, as SQL; accounts of a tape that is not kept do not exist."""
    kept = select(Tape.id).where(Tape.creditor_id == creditor_id, Tape.status == "kept")
    if selection.tape_id is not None:
        kept = kept.where(Tape.id == selection.tape_id)
    where: list[Any] = [LoanAccount.creditor_id == creditor_id, col(LoanAccount.tape_id).in_(kept)]
    several = (
        (LoanAccount.bucket, selection.buckets),
        (LoanAccount.status, selection.statuses),
        (LoanAccount.product, selection.products),
        (LoanAccount.region, selection.regions),
    )
    where += [col(column).in_(values) for column, values in several if values]
    if selection.currency:
        where.append(LoanAccount.currency == selection.currency)
    if selection.least_minor is not None:
        where.append(LoanAccount.balance_minor >= selection.least_minor)
    if selection.most_minor is not None:
        where.append(LoanAccount.balance_minor <= selection.most_minor)
    if selection.loan:
        where.append(col(LoanAccount.loan_id).startswith(selection.loan, autoescape=True))
    return where


# --- portfolios ----------------------------------------------------------------------------------


def make_portfolio(
    db: Database,
    creditor_id: int,
    person_id: int,
    *,
    name: str,
    selection: Selection,
    at: datetime,
    told: Callable[[int, int], None] | None = None,
) -> int:
    """Make a portfolio of the selected accounts as they are now; return its id.

    The accounts are read and assembled in a transaction that holds nobody up, in batches of PORTFOLIO_BATCH_ROWS: of
    each account only its id stays in memory, eight bytes. The members are written in small transactions while the
    portfolio is not shown, so that bids come between; one last, short one shows it. `told(done, all)` hears how many
    members are written. What a process that died has left is never shown, and removed by the next one.

    Raises: BadInput `name`, `selection_empty`, `several_currencies`, `several_cutoffs`, `not_overdue`: an account that
        is not overdue, or is listed or sold already, under this tape or another; `selection_changed`: accounts were
        listed or replaced meanwhile.
    """
    for left in db.read(_abandoned, creditor_id, at=at):
        while db.in_transaction(_remove_members, left):
            pass
    chosen = db.read(_choose, creditor_id, name.strip(), selection)
    portfolio_id = db.in_transaction(_begin_portfolio, creditor_id, person_id, chosen, at=at)
    batch_rows = SQLITE_BATCH_ROWS if db.is_sqlite else POSTGRESQL_BATCH_ROWS
    for start in range(0, len(chosen.ids), batch_rows):
        db.in_transaction(_add_members, portfolio_id, chosen.ids[start : start + batch_rows])
        if told:
            told(min(start + batch_rows, len(chosen.ids)), len(chosen.ids))
    if changed := db.read(_changed_since, creditor_id, portfolio_id, selection):
        while db.in_transaction(_remove_members, portfolio_id):
            pass
        expected = "accounts that stay as they are until the portfolio is made"
        raise BadInput([Fault("selection_changed", "selection", changed, expected)])
    db.in_transaction(_show_portfolio, portfolio_id, person_id, at=at)
    return portfolio_id


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A selection that may become a portfolio, assembled."""

    name: str
    selection: Selection
    currency: str
    cutoff_on: date
    made: Assembled
    ids: array[int]  # of its accounts, ascending


def _choose(session: Session, creditor_id: int, name: str, selection: Selection) -> _Chosen:
    if session.get_bind().dialect.name == "postgresql":  # every statement sees one state, as a reader of SQLite does
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    faults: list[Fault] = []
    if not 3 <= len(name) <= 120:
        faults.append(Fault("name", "name", name[:80], "3 to 120 characters"))
    elif has_hidden(name):
        faults.append(Fault("hidden_character", "name", ascii(name)[:80], NOTHING_HIDDEN))
    where = _where(creditor_id, selection)
    kinds = session.execute(
        select(LoanAccount.currency, LoanAccount.cutoff_on, LoanAccount.status, func.count())  # type: ignore[call-overload]
        .where(*where)
        .group_by(LoanAccount.currency, LoanAccount.cutoff_on, LoanAccount.status)
    ).all()
    currencies, cutoffs = sorted({row[0] for row in kinds}), sorted({row[1] for row in kinds})
    for code, values in (("several_currencies", currencies), ("several_cutoffs", cutoffs)):
        if len(values) > 1:
            faults.append(Fault(code, "selection", ", ".join(map(str, values[:10])), "accounts of one kind"))
    if not kinds:
        faults.append(Fault("selection_empty", "selection", "no account", "at least one account"))
    elif others := sum(count for _currency, _on, status, count in kinds if status != Status.OVERDUE.value):
        faults.append(
            Fault("not_overdue", "selection", f"{others} accounts", "accounts that are overdue and not listed")
        )
    elif taken := _taken(session, creditor_id, selection):
        faults.append(Fault("not_overdue", "selection", taken, "loans that no other tape's account lists or sells"))
    if faults:
        raise BadInput(faults)
    ids = array("q")
    assembly = Assembly(currencies[0])
    for batch in _contents(session, where):
        ids.extend(batch["id"])
        assembly.add(batch.drop("id"))
    return _Chosen(name, selection, currencies[0], cutoffs[0], assembly.done(*_largest(session, where)), ids)


def _begin_portfolio(session: Session, creditor_id: int, person_id: int, chosen: _Chosen, *, at: datetime) -> int:
    made = chosen.made
    portfolio = Portfolio(
        creditor_id=creditor_id, name=chosen.name, cutoff_on=chosen.cutoff_on, currency=chosen.currency,
        accounts=made.accounts, borrowers=made.borrowers, principal_minor=made.principal_minor,
        balance_minor=made.balance_minor, strata=made.strata, selection=chosen.selection.values(),
        content_hash=made.content_hash, is_shown=False, created_by=person_id, created_at=at,
    )  # fmt: skip
    session.add(portfolio)
    session.flush()
    return portfolio.id


def _add_members(session: Session, portfolio_id: int, ids: Sequence[int]) -> None:
    session.execute(insert(PortfolioAccount), [{"portfolio_id": portfolio_id, "account_id": one} for one in ids])


def _changed_since(session: Session, creditor_id: int, portfolio_id: int, selection: Selection) -> str:
    """What has happened to the accounts since they were read; "" when nothing has.

    A change after this is seen when the lot is published, which takes all accounts of a portfolio or none.
    """
    portfolio = session.get_one(Portfolio, portfolio_id)
    still = session.exec(
        select(func.count())
        .select_from(PortfolioAccount)
        .join(LoanAccount, col(LoanAccount.id) == PortfolioAccount.account_id)
        .where(PortfolioAccount.portfolio_id == portfolio_id, LoanAccount.status == Status.OVERDUE.value)
    ).one()
    if still != portfolio.accounts:
        return f"{portfolio.accounts - still} accounts"
    return _taken(session, creditor_id, selection)


def _show_portfolio(session: Session, portfolio_id: int, person_id: int, *, at: datetime) -> None:
    portfolio = session.get_one(Portfolio, portfolio_id, with_for_update=True)
    portfolio.is_shown = True
    session.add(portfolio)
    _note(session, "portfolio_made", "portfolio", portfolio_id, person_id, at, hash=portfolio.content_hash)


def _abandoned(session: Session, creditor_id: int, *, at: datetime) -> list[int]:
    old = Portfolio.creditor_id == creditor_id, ~col(Portfolio.is_shown), Portfolio.created_at < at - ABANDONED_AFTER
    return list(session.exec(select(Portfolio.id).where(*old)))


def _remove_members(session: Session, portfolio_id: int) -> bool:
    """Remove some members of a portfolio that is not shown, at last itself; return whether there may be more."""
    mine = col(PortfolioAccount.portfolio_id) == portfolio_id
    some = select(PortfolioAccount.account_id).where(mine).limit(CLEAR_ROWS)
    gone: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        delete(PortfolioAccount).where(mine, col(PortfolioAccount.account_id).in_(some))
    )
    if gone.rowcount == CLEAR_ROWS:
        return True
    session.execute(delete(Portfolio).where(col(Portfolio.id) == portfolio_id, ~col(Portfolio.is_shown)))
    return False


def _contents(session: Session, where: Sequence[ColumnElement[bool]]) -> Iterator[pl.DataFrame]:
    """What is sold, by id, a batch at a time; one statement, so all batches are of one state of the accounts."""
    content = [col(LoanAccount.id), *(getattr(LoanAccount, field) for field in CONTENT)]
    query = select(*content).where(*where).order_by(col(LoanAccount.id))
    rows = session.execute(query, execution_options={"yield_per": PORTFOLIO_BATCH_ROWS})
    for batch in rows.partitions():
        yield pl.DataFrame([tuple(row) for row in batch], schema=_SCHEMA, orient="row")


def _largest(session: Session, where: Sequence[ColumnElement[bool]]) -> tuple[int, dict[int, int]]:
    """How many borrowers there are, and what the largest of them owe together, for each of `ranks`."""
    of_nobody = col(LoanAccount.borrower_id) == ""  # then the loan itself counts as one
    owed = (
        select(func.sum(LoanAccount.balance_minor).label("minor"))
        .where(*where)
        .group_by(LoanAccount.borrower_id, case((of_nobody, LoanAccount.loan_id), else_=""))
    ).cte("owed")
    borrowers = session.exec(select(func.count()).select_from(owed)).one()
    place = func.row_number().over(order_by=owed.c.minor.desc()).label("place")
    so_far = func.sum(owed.c.minor).over(order_by=owed.c.minor.desc(), rows=(None, 0)).label("so_far")
    ranked = select(place, so_far).subquery()
    rows = session.execute(select(ranked.c.place, ranked.c.so_far).where(ranked.c.place.in_(ranks(borrowers))))
    return borrowers, {place: int(total) for place, total in rows}


def _kind(field: str) -> Any:
    if field == "originated_on":
        return pl.Date
    return pl.Int64 if field.endswith(("_minor", "_bp")) or field.startswith("dpd") else pl.String


_SCHEMA: dict[str, Any] = {"id": pl.Int64} | {field: _kind(field) for field in CONTENT}


def _taken(session: Session, creditor_id: int, selection: Selection) -> str:
    """A selected loan that the same creditor lists, sells or has sold under another tape; "" when there is none."""
    mine = select(LoanAccount.loan_id, LoanAccount.tape_id).where(*_where(creditor_id, selection)).subquery()
    on_sale = (Status.LISTED.value, Status.UNDER_CONTRACT.value, Status.CLOSED_OUT.value)
    other = (
        select(LoanAccount.loan_id)
        .join(mine, (col(LoanAccount.loan_id) == mine.c.loan_id) & (col(LoanAccount.tape_id) != mine.c.tape_id))
        .where(LoanAccount.creditor_id == creditor_id, col(LoanAccount.status).in_(on_sale))
    )
    return session.exec(other.limit(1)).first() or ""


def portfolios(session: Session, creditor_id: int, *, limit: int = 100) -> list[Portfolio]:
    """The creditor's portfolios, the newest first."""
    mine = (
        select(Portfolio)
        .where(Portfolio.creditor_id == creditor_id, col(Portfolio.is_shown))
        .order_by(col(Portfolio.id).desc())
    )
    return list(session.exec(mine.limit(limit)))


def portfolio(session: Session, creditor_id: int, portfolio_id: int) -> Portfolio:
    """A portfolio. Raises: NotFound."""
    mine = select(Portfolio).where(
        Portfolio.id == portfolio_id, Portfolio.creditor_id == creditor_id, col(Portfolio.is_shown)
    )
    found = session.exec(mine).first()
    if found is None:
        raise NotFound("portfolio")
    return found


def members(
    session: Session, creditor_id: int, portfolio_id: int, *, after: int = 0, limit: int = 50
) -> list[LoanAccount]:
    """The accounts of a portfolio by id, at most `limit`, from the first after the account `after`.

    Raises: NotFound.
    """
    portfolio(session, creditor_id, portfolio_id)
    inside = (
        select(LoanAccount)
        .join(PortfolioAccount, col(PortfolioAccount.account_id) == col(LoanAccount.id))
        .where(PortfolioAccount.portfolio_id == portfolio_id, col(LoanAccount.id) > after)
    )
    return list(session.exec(inside.order_by(col(LoanAccount.id)).limit(limit)))
