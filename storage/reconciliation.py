"""Statements into the books, lines to payments, and the proof that ledger, bank and accounts agree.

Every line is booked against suspense when its statement is taken, so the ledger's bank account equals the statement at
once; a match moves it on. A line that nobody expected stays in suspense and waits for a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import String, cast, func, literal
from sqlalchemy import select as select_rows
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from market import calendars, ledger
from market import reconciliation as rules
from market import statements as files
from market.errors import BadInput, Conflict, Fault, NotFound
from market.ledger import Cause, LedgerEntry
from market.money import Money
from market.reconciliation import Expected, Line, Suggestion
from storage import ledger as books
from storage import outbox, settlement
from storage.parties import note
from storage.tables import (
    AuditTrail,
    BankAccount,
    LedgerAccount,
    LineShare,
    LoanAccount,
    Party,
    PaymentDue,
    Payout,
    Person,
    Sale,
    SaleAccount,
    Statement,
    StatementFile,
    StatementLine,
)
from storage.tables import LedgerEntry as LedgerRow

Reversal = aliased(LedgerRow)

KEYS_AT_ONCE = 500
LEAST_SHARES, MOST_SHARES = 2, 8  # of a line that pays several payments
DECIDED_SHOWN = 20
MOST_CANDIDATES = 500  # open payments that a line is compared with
MOST_FAULTS = 100
TAKEN_FROM = ("waiting", "matched", "returned", "not_ours")  # lines that another one may take back


# --- files --------------------------------------------------------------------------------------------


def open_bank_account(session: Session, *, name: str, iban: str, currency: str, person_id: int, at: datetime) -> int:
    """Enter a bank account of the platform, whose statements may then be taken; return its id. Again: the first one."""
    first = session.exec(select(BankAccount.id).where(BankAccount.iban == iban)).first()
    if first is not None:
        return first
    account = BankAccount(name=name, iban=iban, currency=currency)
    session.add(account)
    session.flush()
    note(session, person_id, "open_bank_account", "bank_account", account.id, {"currency": currency}, at=at)
    return account.id


def keep_file(
    session: Session, *, filename: str, digest: str, size: int, created_by: int | None, gap_consent: bool, at: datetime
) -> int:
    """Keep an uploaded statement's row and leave its reading as work; return its id."""
    file = StatementFile(
        filename=filename[:200], digest=digest, size=size, created_by=created_by, gap_consent=gap_consent, created_at=at
    )
    session.add(file)
    session.flush()
    outbox.put(session, "read_statement", f"read_statement:{file.id}", {"file_id": file.id}, at=at)
    return file.id


def refuse_file(session: Session, file_id: int, faults: Sequence[Fault]) -> None:
    """Nothing of the file is booked; its page says why."""
    file = session.get_one(StatementFile, file_id)
    if file.status == "received":
        file.status = "refused"
        file.faults = [_fault(one) for one in faults[:MOST_FAULTS]]
        session.add(file)


def _fault(one: Fault) -> dict[str, Any]:
    return {"code": one.code, "field": one.field, "found": one.found, "expected": one.expected, "row": one.row}


def import_statement(
    session: Session, file_id: int, statements: Sequence[files.Statement], *, at: datetime
) -> StatementFile:
    """Book a parsed file whole, or refuse it whole; the same file again books nothing.

    In one transaction: all checks, the lines, their postings, every certain match with what follows from it.

    Args:
        statements: from market/statements.parse.
    Returns: the file's row: `kept`, `refused` with its faults by place, or `repeated`.
    """
    file = session.get_one(StatementFile, file_id, with_for_update=True)
    if file.status != "received":
        return file
    if session.exec(
        select(StatementFile.id).where(StatementFile.digest == file.digest, StatementFile.status == "kept")
    ).first():
        file.status = "repeated"
        session.add(file)
        return file
    accounts = _bank_accounts(session, statements)
    faults = [*files.check(statements), *_book_faults(session, statements, accounts, gap_consent=file.gap_consent)]
    if faults:
        refuse_file(session, file_id, faults)
        return file
    for one in statements:
        _keep(session, one, accounts[one.account], file, at=at)
    file.status, file.lines = "kept", sum(len(one.lines) for one in statements)
    session.add(file)
    return file


def _bank_accounts(session: Session, statements: Sequence[files.Statement]) -> dict[str, BankAccount]:
    """Our accounts by the name that the file gives them; locked in order, so that their statements come one by one."""
    ours = session.exec(select(BankAccount).order_by(col(BankAccount.id)).with_for_update()).all()
    by_number = {_number_of(one.iban): one for one in ours}
    named = {one.account for one in statements}
    return {name: by_number[number] for name in named if (number := _number_of(name)) in by_number}


def _number_of(account: str) -> str:
    """An account's number without blanks and stops, and without the currency that some banks write behind it."""
    plain = re.sub(r"[\s.]", "", account).upper()
    return re.sub(r"(?<=\d)[A-Z]{3}$", "", plain)


def _book_faults(
    session: Session,
    statements: Sequence[files.Statement],
    accounts: dict[str, BankAccount],
    *,
    gap_consent: bool,
) -> list[Fault]:
    """What our own books have against the file (promises.md, bad input 12)."""
    faults: list[Fault] = []
    last = {name: _last_statement(session, one.id) for name, one in accounts.items()}
    for place, one in enumerate(statements, start=1):
        where = f"{one.account} · {one.number}"
        ours = accounts.get(one.account)
        if ours is None:
            faults.append(Fault("account_unknown", where, one.account, "an account of ours", place))
            continue
        if ours.currency != one.currency:
            faults.append(Fault("currency_differs", where, one.currency, ours.currency, place))
            continue
        before = last[one.account]
        if before is not None and one.opening is not None:
            number, closing_minor, to_on = before
            if one.opening.amount_minor != closing_minor:
                found, expected = (str(Money(it, one.currency)) for it in (one.opening.amount_minor, closing_minor))
                faults.append(Fault("chain_broken", where, found, expected, place))
            if not _follows(one, number, to_on) and not gap_consent:
                faults.append(Fault("number_skipped", where, one.number, f"the one after {number}", place))
        if one.closing is not None:
            last[one.account] = (one.number, one.closing.amount_minor, one.to_on)
        faults += _seen(session, one, ours, where)
    return faults


def _last_statement(session: Session, bank_account_id: int) -> tuple[str, int, date] | None:
    row = session.exec(
        select(Statement).where(Statement.bank_account_id == bank_account_id).order_by(col(Statement.id).desc())
    ).first()
    return (row.number, row.closing_minor, row.to_on) if row else None


def _follows(one: files.Statement, number: str, to_on: date) -> bool:
    """Does this number come right after `number`? Banks that do not count, or begin anew in January, are taken so."""
    now, before = _count(one.number), _count(number)
    if now is None or before is None or now[0] == 0:
        return True
    if now[0] == before[0]:
        return now[1] == before[1] + 1  # the next page of the same statement
    return now[0] == before[0] + 1 or (now[0] == 1 and one.from_on.year > to_on.year)


def _count(number: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,9})(?:/(\d{1,5}))?", number, re.ASCII)
    return (int(found[1]), int(found[2] or 0)) if found else None


def _seen(session: Session, one: files.Statement, ours: BankAccount, where: str) -> list[Fault]:
    """Movements that were booked before."""
    keys = files.line_keys(ours.iban, one.lines)
    known: set[str] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = col(StatementLine.line_key).in_(keys[start : start + KEYS_AT_ONCE])
        known.update(session.exec(select(StatementLine.line_key).where(some)))
    return [
        Fault("entry_seen", where, f"{line.booked_on} {line.currency} {line.amount_minor}", "a new entry", row)
        for row, (key, line) in enumerate(zip(keys, one.lines, strict=True), start=1)
        if key in known
    ]


def _keep(session: Session, one: files.Statement, ours: BankAccount, file: StatementFile, *, at: datetime) -> None:
    assert one.opening is not None
    assert one.closing is not None
    is_first = _last_statement(session, ours.id) is None
    statement = Statement(
        bank_account_id=ours.id, file_id=file.id, number=one.number, digest=file.digest, format=one.format,
        from_on=one.from_on, to_on=one.to_on, opening_minor=one.opening.amount_minor,
        closing_minor=one.closing.amount_minor, created_by=file.created_by, created_at=at,
    )  # fmt: skip
    session.add(statement)
    session.flush()
    bank, waiting = ledger.bank(ours.id, ours.currency), ledger.suspense(ours.id, ours.currency)
    entries = []
    if is_first and one.opening.amount_minor:
        # What stood there before our first statement is the platform's own.
        cause = Cause("statement", statement.id)
        amounts = ledger.postings(
            (bank, one.opening.amount_minor), (ledger.own(ours.currency), -one.opening.amount_minor)
        )
        entries.append(
            LedgerEntry(f"bank_opening:{ours.id}", one.opening.on, ours.currency, cause, amounts, "opening balance")
        )
    keys = files.line_keys(ours.iban, one.lines)
    lines = []
    for number, (key, line) in enumerate(zip(keys, one.lines, strict=True), start=1):
        lines.append(
            StatementLine(
                statement_id=statement.id, number=number, amount_minor=line.amount_minor, currency=line.currency,
                booked_on=line.booked_on, value_on=line.value_on, bank_reference=line.bank_reference,
                end_to_end_id=line.end_to_end_id, text=line.text, other_name=line.other_name,
                other_iban=line.other_iban, is_reversal=line.is_reversal, line_key=key,
            )
        )  # fmt: skip
    session.add_all(lines)
    session.flush()
    entries += [
        LedgerEntry(
            f"line:{line.id}", line.booked_on, line.currency, Cause("statement_line", line.id),
            ledger.postings((bank, line.amount_minor), (waiting, -line.amount_minor)),
        )
        for line in lines
        if line.amount_minor
    ]  # fmt: skip
    books.post(session, entries, at=at)
    _match_certain(session, lines, ours.id, at=at)


# --- certain matches ------------------------------------------------------------------------------------


def _match_certain(session: Session, lines: Sequence[StatementLine], bank_account_id: int, *, at: datetime) -> None:
    """Post what leaves no doubt; the rest waits."""
    named = {line.id: _line(line).references for line in lines}
    references = sorted({one for several in named.values() for one in several})
    dues = {one.reference: one for one in _by_reference(session, PaymentDue, references)}
    payouts = {one.reference: one for one in _by_reference(session, Payout, references)}
    parties = _names(session, (one.party_id for one in dues.values()))
    for line in lines:
        if line.amount_minor > 0:
            found = [dues[one] for one in named[line.id] if one in dues]
            suggestion = _certain(line, [_expected(one, parties) for one in found])
            if suggestion is not None:
                due = next(one for one in found if one.id == suggestion.expected_id)
                _take(session, line, due, bank_account_id, reasons=suggestion.reasons, person_id=None, at=at)
            elif len(found) == 1 and found[0].status == "cancelled" and found[0].currency == line.currency:
                _send_late_back(session, line, found[0], bank_account_id, at=at)
        elif line.amount_minor < 0:
            sent = [payouts[one] for one in named[line.id] if one in payouts]
            suggestion = _certain(line, [_expected_out(one) for one in sent])
            if suggestion is not None:
                payout = next(one for one in sent if one.id == suggestion.expected_id)
                _sent(session, line, payout, bank_account_id, reasons=suggestion.reasons, person_id=None, at=at)
        if line.status == "waiting" and line.is_reversal:
            taken = [one for one in _taken_back(session, line) if one.certain]
            if taken:
                first = session.get_one(StatementLine, taken[0].expected_id, with_for_update=True)
                session.refresh(first)  # a person may have decided about it since it was read
                if first.status in TAKEN_FROM and _may_be_taken_back(session, first):
                    _take_back(session, line, first, bank_account_id, reasons=taken[0].reasons, person_id=None, at=at)


def _taken_back(session: Session, line: StatementLine) -> list[Suggestion]:
    """The earlier lines of the same bank account that a line may take back."""
    earlier = session.exec(
        select(StatementLine)
        .join(Statement, col(Statement.id) == StatementLine.statement_id)
        .where(
            StatementLine.amount_minor == -line.amount_minor, StatementLine.id != line.id,
            StatementLine.booked_on <= line.booked_on, col(StatementLine.status).in_(TAKEN_FROM),
            Statement.bank_account_id
            == select(Statement.bank_account_id).where(Statement.id == line.statement_id).scalar_subquery(),
        )
        .order_by(col(StatementLine.id).desc())
        .limit(MOST_CANDIDATES)
    ).all()  # fmt: skip
    return rules.match_reversal(_line(line), [(one.id, _line(one)) for one in earlier])


def _may_be_taken_back(session: Session, first: StatementLine) -> bool:
    """Money that was sent on to somebody whom we do not know cannot be claimed from anybody: a person decides."""
    if first.status != "returned":
        return True
    return _return_of(session, first).status != "sent"


def _certain(line: StatementLine, expected: Iterable[Expected]) -> Suggestion | None:
    return next((one for one in rules.match(_line(line), expected) if one.certain), None)


def _by_reference(session: Session, table: Any, references: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(references), KEYS_AT_ONCE):
        some = references[start : start + KEYS_AT_ONCE]
        found += session.exec(
            select(table)
            .where(col(table.reference).in_(some))
            .order_by(col(table.id))
            .with_for_update()
            .execution_options(populate_existing=True)
        ).all()
    return found


def _line(line: StatementLine) -> Line:
    return Line(
        line.amount_minor, line.currency, line.booked_on, line.text, line.end_to_end_id, line.other_name,
        line.other_iban, line.bank_reference, line.is_reversal,
    )  # fmt: skip


def _expected(due: PaymentDue, names: dict[int, tuple[str, str]]) -> Expected:
    name, iban = names.get(due.party_id, ("", ""))
    due_on = calendars.local_date(due.due_at, calendars.of_currency(due.currency))
    missing = due.amount_minor - due.paid_minor
    return Expected(due.id, due.reference, missing, due.currency, name, iban, due_on, due.status == "open")


def _expected_out(payout: Payout) -> Expected:
    return Expected(
        payout.id, payout.reference, payout.amount_minor, payout.currency, payout.name, payout.iban,
        date.max, payout.status == "due",
    )  # fmt: skip


def _names(session: Session, party_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    ids = set(party_ids)
    if not ids:
        return {}
    rows = session.exec(select(Party.id, Party.name, Party.iban).where(col(Party.id).in_(ids)))
    return {party_id: (name, iban) for party_id, name, iban in rows}


# --- what a match does ----------------------------------------------------------------------------------


def _take(
    session: Session, line: StatementLine, due: PaymentDue, bank_account_id: int, *,
    reasons: Sequence[tuple[str, str]], person_id: int | None, at: datetime,
) -> None:  # fmt: skip
    """Count a line toward a payment due: what is missing of it, no more; the rest is owed back to the party."""
    taken = min(line.amount_minor, due.amount_minor - due.paid_minor)
    shares = [(due, taken, line.amount_minor - taken)]
    _take_shares(session, line, shares, bank_account_id, reasons=reasons, person_id=person_id, at=at)


def _take_shares(
    session: Session, line: StatementLine, shares: Sequence[tuple[PaymentDue, int, int]], bank_account_id: int, *,
    reasons: Sequence[tuple[str, str]], person_id: int | None, at: datetime,
) -> None:  # fmt: skip
    """Count a line toward payments due, in one ledger entry; of each: what is taken, and what is over."""
    targets = []
    for due, taken, over in shares:
        if due.kind == "deposit":
            target = ledger.deposit(due.auction_id, due.party_id, due.currency)
        elif due.kind == "claim":
            target = ledger.receivable(due.party_id, due.currency)
        else:
            assert due.sale_id is not None
            target = ledger.buyer(due.sale_id, due.party_id, due.currency)
        targets += [(target, taken), (ledger.payable(due.party_id, due.currency), over)]
    key = _post_match(session, line, bank_account_id, *targets, at=at)
    line.payment_due_id = shares[0][0].id if len(shares) == 1 else None
    _decide(session, line, "matched", reasons, person_id)
    for due, taken, over in shares:
        _keep_share(session, line, due, taken, over, key, person_id, at=at)
        due.paid_minor += taken
        if due.paid_minor == due.amount_minor:
            due.status = "paid"
        session.add(due)
    session.flush()
    for due, _taken, over in shares:
        if over:
            over_key = f"over:{line.id}{_round(session, line.id)}"
            settlement.refund(session, key=over_key, due=due, amount_minor=over, at=at)
        if due.status == "paid" and due.kind == "deposit":
            settlement.deposit_arrived(session, due, at=at)
        elif due.status == "paid" and due.kind == "balance":
            sale = session.get_one(Sale, due.sale_id, with_for_update=True)
            settlement.balance_arrived(session, sale, at=at)


def _keep_share(
    session: Session, line: StatementLine, due: PaymentDue, taken: int, over: int, key: str, person_id: int | None, *,
    at: datetime,
) -> None:  # fmt: skip
    session.add(
        LineShare(
            line_id=line.id, payment_due_id=due.id, amount_minor=taken, over_minor=over, ledger_key=key,
            decided_by=person_id, created_at=at,
        )
    )  # fmt: skip


def _send_late_back(
    session: Session, line: StatementLine, due: PaymentDue, bank_account_id: int, *, at: datetime
) -> None:
    """It came after the auction had closed, or after the default: recognised, and owed back."""
    back = (ledger.payable(due.party_id, due.currency), line.amount_minor)
    key = _post_match(session, line, bank_account_id, back, at=at)
    line.payment_due_id = due.id
    _decide(session, line, "matched", (("reference_equal", due.reference), ("too_late", "refund")), None)
    _keep_share(session, line, due, 0, line.amount_minor, key, None, at=at)
    session.flush()
    late_key = f"late:{line.id}{_round(session, line.id)}"
    settlement.refund(session, key=late_key, due=due, amount_minor=line.amount_minor, at=at)


def _sent(
    session: Session, line: StatementLine, payout: Payout, bank_account_id: int, *,
    reasons: Sequence[tuple[str, str]], person_id: int | None, at: datetime,
) -> None:  # fmt: skip
    """The bank has sent what we owed: the debt is gone."""
    row = session.exec(select(LedgerAccount).where(LedgerAccount.code == payout.account_code)).one()
    owed = ledger.LedgerAccount(row.code, ledger.Kind(row.kind), row.currency, row.party_id)
    _post_match(session, line, bank_account_id, (owed, line.amount_minor), at=at)
    line.payout_id = payout.id
    _decide(session, line, "matched", reasons, person_id)
    payout.status, payout.sent_at = "sent", at
    session.add(payout)
    settlement.debit_decided(session, line, at=at)


def _post_match(
    session: Session,
    line: StatementLine,
    bank_account_id: int,
    *targets: tuple[ledger.LedgerAccount, int],
    at: datetime,
) -> str:
    """Take a line out of suspense: each target is credited with its amount (debited, when that is negative).

    Returns: the entry's key.
    """
    waiting = ledger.suspense(bank_account_id, line.currency)
    amounts = ledger.postings((waiting, line.amount_minor), *((account, -amount) for account, amount in targets))
    on = calendars.local_date(at, calendars.of_currency(line.currency))
    key = f"match:{line.id}{_round(session, line.id)}"
    books.post(session, [LedgerEntry(key, on, line.currency, Cause("statement_line", line.id), amounts)], at=at)
    return key


def _round(session: Session, line_id: int) -> str:
    """What a key of a line's decision ends in: "" for the first, ":1" after one that was taken back, and so on."""
    taken_back = session.exec(
        select(func.count())
        .select_from(LedgerRow)
        .where(
            LedgerRow.cause == "statement_line", LedgerRow.cause_id == line_id, col(LedgerRow.reverses_id).is_not(None)
        )
    ).one()
    return f":{taken_back}" if taken_back else ""


def _decide(
    session: Session, line: StatementLine, status: str, reasons: Sequence[tuple[str, str]], person_id: int | None
) -> None:
    line.status, line.decided_by, line.reasons = status, person_id, [list(one) for one in reasons]
    session.add(line)


# --- by hand --------------------------------------------------------------------------------------------


def match_by_hand(session: Session, line_id: int, due_id: int, *, person_id: int, at: datetime) -> None:
    """A person says that a line pays a payment due: less counts toward it, more goes back to the payer.

    Raises: NotFound; Conflict `line_decided`, `due_closed`, `currency_differs`, `wrong_direction`.
    """
    line, bank_account_id = _waiting(session, line_id)
    due = session.get(PaymentDue, due_id, with_for_update=True)
    if due is None:
        raise NotFound("payment_due", id=due_id)
    session.refresh(due)
    if line.amount_minor <= 0:
        raise Conflict("wrong_direction", line=line_id)
    if due.currency != line.currency:
        raise Conflict("currency_differs", found=line.currency, expected=due.currency)
    if due.status != "open":
        raise Conflict("due_closed", reference=due.reference, status=due.status)
    reasons = _reasons(line, _expected(due, _names(session, [due.party_id])))
    _take(session, line, due, bank_account_id, reasons=reasons, person_id=person_id, at=at)


def split(session: Session, line_id: int, shares: Sequence[tuple[str, int]], *, person_id: int, at: datetime) -> None:
    """A person says that a line pays several payments due.

    Args:
        shares: for each its reference and minor units, at least two; together they are the whole line, none is more
            than what is missing of its payment.
    Raises: NotFound; Conflict `line_decided`, `wrong_direction`; BadInput by `reference-N` and `amount-N` (N from 1)
        `reference_unknown`, `reference_repeated`, `currency_differs`, `due_closed`, `share_too_much`, and by `shares`
        `shares_sum`, `too_few_shares`.
    """
    line, bank_account_id = _waiting(session, line_id)
    if line.amount_minor <= 0:
        raise Conflict("wrong_direction", line=line_id)
    dues = {one.reference: one for one in _by_reference(session, PaymentDue, sorted({name for name, _ in shares}))}
    faults: list[Fault] = []
    for number, (reference, amount_minor) in enumerate(shares, start=1):
        due = dues.get(reference)
        field = f"reference-{number}"
        if due is None:
            faults.append(Fault("reference_unknown", field, reference[:40], "a payment that is expected"))
        elif reference in [name for name, _ in shares[: number - 1]]:
            faults.append(Fault("reference_repeated", field, reference, "each payment once"))
        elif due.currency != line.currency:
            faults.append(Fault("currency_differs", field, due.currency, line.currency))
        elif due.status != "open":
            faults.append(Fault("due_closed", field, due.status, "a payment that is open"))
        elif amount_minor > (missing := due.amount_minor - due.paid_minor):
            found, expected = (str(Money(it, due.currency)) for it in (amount_minor, missing))
            faults.append(Fault("share_too_much", f"amount-{number}", found, expected))
    if len(shares) < LEAST_SHARES:
        faults.append(Fault("too_few_shares", "shares", str(len(shares)), "at least two payments"))
    elif (total := sum(amount_minor for _, amount_minor in shares)) != line.amount_minor:
        found, expected = (str(Money(it, line.currency)) for it in (total, line.amount_minor))
        faults.append(Fault("shares_sum", "shares", found, expected))
    if faults:
        raise BadInput(faults)
    taken = [(dues[reference], amount_minor, 0) for reference, amount_minor in shares]
    reasons = (*(("reference_equal", reference) for reference, _ in shares), ("by_hand", ""))
    _take_shares(session, line, taken, bank_account_id, reasons=reasons, person_id=person_id, at=at)


def undo(session: Session, line_id: int, reason: str, *, person_id: int, at: datetime) -> None:
    """Take a decision about a line back: its ledger entry is reversed, and the line waits again.

    Only what nothing has followed from: a payment that was paid in full has admitted a bidder or closed a sale, money
    that was sent is gone.  Who, when and why stand in the audit trail and in the reversal.  A line that was said to
    take another one back: both wait again, and what the other one was counted toward is decided anew.

    Raises: NotFound; Conflict `line_waits`, `line_taken_back`, `match_final`.
    """
    line = session.get(StatementLine, line_id, with_for_update=True)
    if line is None:
        raise NotFound("statement_line", id=line_id)
    session.refresh(line)
    if line.status == "waiting":
        raise Conflict("line_waits", line=line_id)
    if line.status == "taken_back":
        raise Conflict("line_taken_back", line=line_id)
    if line.status == "takes_back":
        _part(session, line, reason, person_id=person_id, at=at)
        return
    key = f"match:{line.id}{_round(session, line.id)}"
    shares = session.exec(
        select(LineShare)
        .where(LineShare.line_id == line_id, col(LineShare.undone_at).is_(None))
        .order_by(col(LineShare.payment_due_id))  # payments are locked in the order of ids, as everywhere
    ).all()
    for share in shares:
        due = session.get_one(PaymentDue, share.payment_due_id, with_for_update=True)
        session.refresh(due)
        if due.status != "open":
            raise Conflict("match_final", reference=due.reference)
        due.paid_minor -= share.amount_minor
        share.undone_at = at
        session.add_all((due, share))
    if line.payout_id is not None:
        payout = session.get_one(Payout, line.payout_id, with_for_update=True)
        payout.status, payout.sent_at = "due", None
        session.add(payout)
    if line.status == "returned":
        _take_return_back(session, line)
    on = calendars.local_date(at, calendars.of_currency(line.currency))
    books.reverse(session, key, on=on, cause=Cause("statement_line", line.id), at=at, text=reason)
    before = {"status": line.status, "reasons": line.reasons, "reason": reason, "ledger_key": key}
    note(session, person_id, "statement_line.undo", "statement_line", line.id, before, at=at)
    line.payment_due_id = line.payout_id = None
    _decide(session, line, "waiting", (), None)


def _take_return_back(session: Session, line: StatementLine) -> None:
    """The money is not to be sent back after all. Raises: Conflict `match_final`, when it was sent."""
    payout = _return_of(session, line)
    if payout.status == "sent":
        raise Conflict("match_final", reference=payout.reference)
    payout.status = "cancelled"
    session.add(payout)


def _return_of(session: Session, line: StatementLine) -> Payout:
    key = f"return:{line.id}{_round(session, line.id)}"
    return session.exec(select(Payout).where(Payout.key == key).with_for_update()).one()


# --- what the bank takes back ---------------------------------------------------------------------------


def take_back(
    session: Session, line_id: int, first_id: int, *, is_payee_wrong: bool = False, person_id: int, at: datetime
) -> None:
    """A person says that a line takes an earlier one back: a payment that the bank reversed, a pay-out that came back.

    What the first line did is undone by the reversal of its ledger entry: its payment is open again, its pay-out due
    again (`is_payee_wrong`: it needs a payee first). What has been used or sent on since is claimed from its party.

    Raises: NotFound; Conflict `line_decided`, `line_taken_back`, `bank_account_differs`, `currency_differs`,
    `amount_differs`, `match_final`.
    """
    line, bank_account_id = _waiting(session, line_id)
    first = session.get(StatementLine, first_id, with_for_update=True)
    if first is None:
        raise NotFound("statement_line", id=first_id)
    session.refresh(first)
    if first.status not in TAKEN_FROM or first.id == line.id:
        raise Conflict("line_taken_back", line=first_id)
    if session.get_one(Statement, first.statement_id).bank_account_id != bank_account_id:
        raise Conflict("bank_account_differs", line=first_id)
    if first.currency != line.currency:
        raise Conflict("currency_differs", found=line.currency, expected=first.currency)
    if first.amount_minor != -line.amount_minor:
        raise Conflict("amount_differs", found_minor=line.amount_minor, expected_minor=-first.amount_minor)
    found = next((one.reasons for one in rules.match_reversal(_line(line), [(first.id, _line(first))])), ())
    _take_back(
        session, line, first, bank_account_id, reasons=(*found, ("by_hand", "")), person_id=person_id, at=at,
        is_payee_wrong=is_payee_wrong,
    )  # fmt: skip


def _take_back(
    session: Session, line: StatementLine, first: StatementLine, bank_account_id: int, *,
    reasons: Sequence[tuple[str, str]], person_id: int | None, at: datetime, is_payee_wrong: bool = False,
) -> None:  # fmt: skip
    """Undo what `first` did. Its reversal puts its money into suspense, where `line` has taken it out already.

    Where the money has gone on since, the first entry stands, and `line` is posted against what is left of it.
    """
    key = f"match:{first.id}{_round(session, first.id)}"
    targets: list[tuple[ledger.LedgerAccount, int]] = []
    is_whole = True
    for share, due in _shares_of(session, first):
        for account, amount_minor, is_same in _share_back(session, first, share, due, line.id, at=at):
            targets.append((account, -amount_minor))
            is_whole = is_whole and is_same
    if first.payout_id is not None:
        payout = session.get_one(Payout, first.payout_id, with_for_update=True)
        payout.status, payout.sent_at = "needs_payee" if is_payee_wrong else "due", None
        session.add(payout)
    if first.status == "returned":
        _take_return_back(session, first)
    if not is_whole:
        _post_match(session, line, bank_account_id, *targets, at=at)
    elif first.status != "waiting":
        on = calendars.local_date(at, calendars.of_currency(line.currency))
        cause = Cause("statement_line", first.id)
        books.reverse(session, key, on=on, cause=cause, at=at, text=f"taken back by the bank: line {line.id}")
    before = {"status": first.status, "takes_back": first.id, "ledger_key": key, "is_whole": is_whole}
    note(session, person_id, "statement_line.take_back", "statement_line", line.id, before, at=at)
    first.status = "taken_back"
    line.takes_back_id = first.id
    session.add(first)
    _decide(session, line, "takes_back", reasons, person_id)
    session.flush()
    if line.amount_minor < 0:
        settlement.debit_decided(session, line, at=at)


def _shares_of(session: Session, line: StatementLine) -> list[tuple[LineShare, PaymentDue]]:
    """What a line counts toward, with all payments of those auctions locked in the order of ids."""
    shares = session.exec(
        select(LineShare)
        .where(LineShare.line_id == line.id, col(LineShare.undone_at).is_(None))
        .order_by(col(LineShare.id))
    ).all()
    auctions = select(PaymentDue.auction_id).where(col(PaymentDue.id).in_([one.payment_due_id for one in shares]))
    dues = {
        due.id: due
        for due in session.exec(
            select(PaymentDue)
            .where(col(PaymentDue.auction_id).in_(auctions))
            .order_by(col(PaymentDue.id))
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    }
    return [(one, dues[one.payment_due_id]) for one in shares]


def _share_back(
    session: Session, first: StatementLine, share: LineShare, due: PaymentDue, line_id: int, *, at: datetime
) -> list[tuple[ledger.LedgerAccount, int, bool]]:
    """Undo one share: the ledger accounts that its money is taken out of, with minor units (none is zero).

    The third says whether it is the account that the share was booked to, which a reversal answers.
    """
    back: list[tuple[ledger.LedgerAccount, int, bool]] = []
    if over := share.over_minor:
        ended = f"{first.id}{_round(session, first.id)}"
        if _cancel_payout(session, (f"over:{ended}", f"late:{ended}"), over):
            back.append((ledger.payable(due.party_id, due.currency), over, True))
        else:
            back.append((settlement.claim(session, due, over, at=at), over, False))
    if taken := share.amount_minor:
        target, is_same = _taken_out_of(session, due, taken, line_id, at=at)
        back.append((target, taken, is_same))
        if is_same:
            due.paid_minor -= taken
            if due.status == "paid":
                due.status = "open"
            session.add(due)
            if due.kind == "balance":
                sale = session.get_one(Sale, due.sale_id, with_for_update=True)
                settlement.balance_taken_back(session, sale, due, taken, line_id=line_id, at=at)
    share.undone_at = at
    session.add(share)
    return back


def _taken_out_of(
    session: Session, due: PaymentDue, amount_minor: int, line_id: int, *, at: datetime
) -> tuple[ledger.LedgerAccount, bool]:
    """Where the money of a payment is now, and whether it is where it was booked."""
    if due.kind == "claim":
        return ledger.receivable(due.party_id, due.currency), True
    if due.kind == "balance":
        assert due.sale_id is not None
        sale = session.get_one(Sale, due.sale_id, with_for_update=True)
        if sale.status != "defaulted":
            return ledger.buyer(sale.id, due.party_id, due.currency), True
        going_back = (f"part_payment_back:{sale.id}",)
    else:
        account = settlement.deposit_taken_back(session, due, amount_minor, line_id=line_id, at=at)
        if account is not None:
            return account, account.code.startswith("deposit:")
        going_back = (f"release:{due.auction_id}:{due.party_id}",)
    if _cancel_payout(session, going_back, amount_minor):
        return ledger.payable(due.party_id, due.currency), False
    return settlement.claim(session, due, amount_minor, at=at), False


def _cancel_payout(session: Session, keys: Sequence[str], amount_minor: int) -> bool:
    """Owe a payment of exactly this amount no longer, if it was not sent; return whether there was one."""
    payout = session.exec(
        select(Payout)
        .where(
            col(Payout.key).in_(keys), col(Payout.status).in_(("due", "needs_payee")),
            Payout.amount_minor == amount_minor,
        )
        .with_for_update()
    ).first()  # fmt: skip
    if payout is None:
        return False
    payout.status = "cancelled"
    session.add(payout)
    return True


def _part(session: Session, line: StatementLine, reason: str, *, person_id: int, at: datetime) -> None:
    """The line takes nothing back after all: both wait, in suspense, where they stand already.

    Raises: Conflict `match_final`, when it was posted against money that had gone on.
    """
    first = session.get_one(StatementLine, line.takes_back_id, with_for_update=True)
    posted = select(LedgerRow.id).where(LedgerRow.key == f"match:{line.id}{_round(session, line.id)}")
    if session.exec(posted).first() is not None:
        raise Conflict("match_final", reference=", ".join(_line(first).references))
    before = {"status": line.status, "reasons": line.reasons, "reason": reason, "takes_back": first.id}
    note(session, person_id, "statement_line.undo", "statement_line", line.id, before, at=at)
    line.takes_back_id = first.payment_due_id = first.payout_id = None
    for one in (line, first):
        _decide(session, one, "waiting", (), None)


def match_payout_by_hand(session: Session, line_id: int, payout_id: int, *, person_id: int, at: datetime) -> None:
    """A person says that a line is the payment that we owed; the amounts must be equal.

    Raises: NotFound; Conflict `line_decided`, `due_closed`, `currency_differs`, `wrong_direction`, `amount_differs`.
    """
    line, bank_account_id = _waiting(session, line_id)
    payout = session.get(Payout, payout_id, with_for_update=True)
    if payout is None:
        raise NotFound("payout", id=payout_id)
    if line.amount_minor >= 0:
        raise Conflict("wrong_direction", line=line_id)
    if payout.currency != line.currency:
        raise Conflict("currency_differs", found=line.currency, expected=payout.currency)
    if payout.status != "due":
        raise Conflict("due_closed", reference=payout.reference, status=payout.status)
    if -line.amount_minor != payout.amount_minor:
        raise Conflict("amount_differs", found_minor=-line.amount_minor, expected_minor=payout.amount_minor)
    reasons = _reasons(line, _expected_out(payout))
    _sent(session, line, payout, bank_account_id, reasons=reasons, person_id=person_id, at=at)


def return_to_sender(session: Session, line_id: int, *, person_id: int, at: datetime) -> None:
    """Nothing was expected: owe the money back to the account that it came from."""
    line, bank_account_id = _waiting(session, line_id)
    if line.amount_minor <= 0:
        raise Conflict("wrong_direction", line=line_id)
    account = ledger.returns(line.currency)
    _post_match(session, line, bank_account_id, (account, line.amount_minor), at=at)
    _decide(session, line, "returned", (), person_id)
    settlement.make_payout(
        session, key=f"return:{line.id}{_round(session, line.id)}", kind="return", account=account,
        amount_minor=line.amount_minor, name=line.other_name, iban=line.other_iban, statement_line_id=line.id, at=at,
    )  # fmt: skip


def not_ours(session: Session, line_id: int, reason: str, *, person_id: int, at: datetime) -> None:
    """The movement is no business of the market (interest, bank charges): it is the platform's own."""
    line, bank_account_id = _waiting(session, line_id)
    _post_match(session, line, bank_account_id, (ledger.own(line.currency), line.amount_minor), at=at)
    _decide(session, line, "not_ours", (("by_hand", reason[:200]),), person_id)
    settlement.debit_decided(session, line, at=at)


def _waiting(session: Session, line_id: int) -> tuple[StatementLine, int]:
    line = session.get(StatementLine, line_id, with_for_update=True)
    if line is None:
        raise NotFound("statement_line", id=line_id)
    session.refresh(line)
    if line.status != "waiting":
        raise Conflict("line_decided", line=line_id, status=line.status)
    return line, session.get_one(Statement, line.statement_id).bank_account_id


def _reasons(line: StatementLine, expected: Expected) -> Sequence[tuple[str, str]]:
    found = next((one.reasons for one in rules.match(_line(line), [expected])), ())
    return (*found, ("by_hand", ""))


# --- the queue ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A suggestion with what a person needs to see of it."""

    suggestion: Suggestion
    kind: str  # deposit | balance | a payout's kind
    reference: str
    name: str
    amount_minor: int  # what is missing, or to be sent
    due_at: datetime


def waiting_lines(session: Session, *, text: str = "", limit: int = 200) -> list[StatementLine]:
    """Lines that wait for a person, oldest first; `text` looks in payer, text and references."""
    query = select(StatementLine).where(StatementLine.status == "waiting")
    if text:
        like = [
            col(column).icontains(text, autoescape=True)
            for column in (StatementLine.text, StatementLine.other_name, StatementLine.end_to_end_id)
        ]
        query = query.where(like[0] | like[1] | like[2])
    return list(session.exec(query.order_by(col(StatementLine.booked_on), col(StatementLine.id)).limit(limit)))


@dataclass(frozen=True, slots=True)
class Decided:
    """A line that was decided, as the list of the last ones shows it."""

    line: StatementLine
    person: str  # "": certain, posted without one
    at: datetime
    references: tuple[str, ...]  # of the payments that it counts toward, or of the pay-out


def decided_lines(session: Session, *, limit: int = DECIDED_SHOWN) -> list[Decided]:
    """The lines that were decided last, the newest first; each may be taken back (`undo`) while nothing followed."""
    rows = session.exec(
        select(StatementLine, LedgerRow.at, Person.name)
        .join(LedgerRow, (col(LedgerRow.cause) == "statement_line") & (col(LedgerRow.cause_id) == StatementLine.id))
        .outerjoin(Person, col(Person.id) == StatementLine.decided_by)
        .where(col(StatementLine.status).not_in(("waiting", "taken_back")), col(LedgerRow.key).startswith("match:"))
        .where(~select(Reversal.id).where(Reversal.reverses_id == LedgerRow.id).exists())
        .order_by(col(LedgerRow.id).desc())
        .limit(limit)
    ).all()
    ids = [line.id for line, _at, _name in rows]
    paid = session.exec(
        select(LineShare.line_id, PaymentDue.reference)
        .join(PaymentDue, col(PaymentDue.id) == LineShare.payment_due_id)
        .where(col(LineShare.line_id).in_(ids), col(LineShare.undone_at).is_(None))
        .order_by(col(LineShare.id))
    ).all()
    sent = session.exec(
        select(StatementLine.id, Payout.reference)
        .join(Payout, col(Payout.id) == StatementLine.payout_id)
        .where(col(StatementLine.id).in_(ids))
    ).all()
    decided = [
        Decided(
            line, name or "", at,
            tuple(reference for line_id, reference in [*paid, *sent] if line_id == line.id),
        )
        for line, at, name in rows
    ]  # fmt: skip
    # A line that took another one back: its audit entry says when, for its ledger entry may be the other's reversal.
    taking = session.exec(
        select(StatementLine, func.max(AuditTrail.at), Person.name)
        .join(
            AuditTrail,
            (col(AuditTrail.action) == "statement_line.take_back") & (col(AuditTrail.subject_id) == StatementLine.id),
        )
        .outerjoin(Person, col(Person.id) == StatementLine.decided_by)
        .where(StatementLine.status == "takes_back", col(StatementLine.id).not_in(ids))
        .group_by(col(StatementLine.id), col(Person.name))
        .order_by(func.max(AuditTrail.at).desc())
        .limit(limit)
    ).all()
    decided += [Decided(line, name or "", at, tuple(_line(line).references)) for line, at, name in taking]
    return sorted(decided, key=lambda one: one.at, reverse=True)[:limit]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """An earlier line that a line may take back, with what a person needs to see of it."""

    suggestion: Suggestion  # its `expected_id` is the earlier line
    first: StatementLine
    statement: Statement
    references: tuple[str, ...]  # of the payments that it counts toward
    payout: Payout | None  # that it sent


def takes_back(session: Session, line: StatementLine) -> list[TakenBack]:
    """What a line may take back, best first: at most nine."""
    found = []
    for suggestion in _taken_back(session, line):
        first = session.get_one(StatementLine, suggestion.expected_id)
        references = session.exec(
            select(PaymentDue.reference)
            .join(LineShare, col(LineShare.payment_due_id) == PaymentDue.id)
            .where(LineShare.line_id == first.id, col(LineShare.undone_at).is_(None))
            .order_by(col(LineShare.id))
        ).all()
        payout = session.get(Payout, first.payout_id) if first.payout_id else None
        statement = session.get_one(Statement, first.statement_id)
        found.append(TakenBack(suggestion, first, statement, tuple(references), payout))
    return found


def candidates(session: Session, line: StatementLine) -> list[Candidate]:
    """What a line may be, best first: at most nine."""
    if line.amount_minor < 0:
        payouts = session.exec(
            select(Payout)
            .where(Payout.status == "due", Payout.currency == line.currency)
            .order_by(col(Payout.id).desc())
            .limit(MOST_CANDIDATES)
        ).all()
        by_id = {one.id: one for one in payouts}
        return [
            Candidate(found, one.kind, one.reference, one.name, one.amount_minor, one.created_at)
            for found in rules.match(_line(line), [_expected_out(one) for one in payouts])
            if (one := by_id[found.expected_id])
        ]
    dues = session.exec(
        select(PaymentDue)
        .where(PaymentDue.status == "open", PaymentDue.currency == line.currency)
        .order_by(col(PaymentDue.id).desc())
        .limit(MOST_CANDIDATES)
    ).all()
    names = _names(session, (one.party_id for one in dues))
    due_by_id = {one.id: one for one in dues}
    return [
        Candidate(found, due.kind, due.reference, names[due.party_id][0], due.amount_minor - due.paid_minor, due.due_at)
        for found in rules.match(_line(line), [_expected(one, names) for one in dues])
        if (due := due_by_id[found.expected_id])
    ]


def statement_files(session: Session, *, limit: int = 100) -> list[StatementFile]:
    """Uploaded files, newest first."""
    return list(session.exec(select(StatementFile).order_by(col(StatementFile.id).desc()).limit(limit)))


def bank_accounts(session: Session) -> list[BankAccount]:
    """Our accounts."""
    return list(session.exec(select(BankAccount).order_by(col(BankAccount.id))))


@dataclass(frozen=True, slots=True)
class NextStatement:
    """What the next statement of one of our accounts must begin with; None: anything does."""

    account: BankAccount
    number: int | None
    opening_minor: int | None


def next_statements(session: Session) -> list[NextStatement]:
    """Return what must come next for each of our accounts: the number and the opening balance."""
    found = []
    for account in bank_accounts(session):
        last = _last_statement(session, account.id)
        counted = _count(last[0]) if last else None
        number = counted[0] + 1 if counted and counted[0] else None  # 0: the bank does not count
        found.append(NextStatement(account, number, last[1] if last else None))
    return found


LINES_SHOWN = 500


def show_file(
    session: Session, file_id: int
) -> tuple[StatementFile, list[tuple[Statement, BankAccount, list[StatementLine]]]]:
    """A file with its statements and the first LINES_SHOWN lines of each. Raises: NotFound."""
    file = session.get(StatementFile, file_id)
    if file is None:
        raise NotFound("statement_file", id=file_id)
    kept = session.exec(
        select(Statement, BankAccount)
        .join(BankAccount, col(BankAccount.id) == col(Statement.bank_account_id))
        .where(Statement.file_id == file_id)
        .order_by(col(Statement.id))
    ).all()
    lines = select(StatementLine).order_by(col(StatementLine.number)).limit(LINES_SHOWN)
    return file, [
        (one, account, list(session.exec(lines.where(StatementLine.statement_id == one.id)))) for one, account in kept
    ]


# --- ledger = bank = accounts -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """One comparison: what the ledger says, and what the other book says, in minor units."""

    name: str  # bank | suspense | deposits | owed | buyers | claims | receivable | debit_credit
    subject: str  # an account's name, a party's, a currency
    currency: str
    ledger_minor: int
    other_minor: int

    @property
    def difference_minor(self) -> int:
        return self.ledger_minor - self.other_minor


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """The whole comparison at one instant."""

    proofs: tuple[Proof, ...]
    unbalanced: tuple[tuple[int, int], ...]  # ledger entries that do not sum to zero: (id, minor units)

    @property
    def agrees(self) -> bool:
        """Ledger = bank = accounts?"""
        return not self.unbalanced and all(one.difference_minor == 0 for one in self.proofs)


def three_way(session: Session) -> ThreeWay:
    """Prove that ledger, bank and accounts agree, with every difference named.

    bank: each bank account in the ledger against the closing balance of its last statement; suspense: against the
    lines that wait; deposits: what is held against what has been paid and is neither used nor released; owed: payables
    against the payments due out; buyers: against the balances not paid yet; claims: against the overdue accounts under
    contract; receivable: what the bank took back after it was used or sent on, against the claims not paid yet.
    """
    lines = books.trial_balance(session)
    sums: dict[tuple[str, str], int] = {}
    for line in lines:
        kind = line.code.partition(":")[0]
        sums[kind, line.currency] = sums.get((kind, line.currency), 0) + line.balance_minor
    by_code = {line.code: line.balance_minor for line in lines}
    currencies = sorted({line.currency for line in lines})
    proofs = []
    for account in session.exec(select(BankAccount).order_by(col(BankAccount.id))):
        last = _last_statement(session, account.id)
        stands = by_code.get(ledger.bank(account.id, account.currency).code, 0)
        proofs.append(Proof("bank", account.name, account.currency, stands, last[1] if last else 0))
        waiting = session.exec(
            select(func.coalesce(func.sum(StatementLine.amount_minor), 0))
            .join(Statement, col(Statement.id) == col(StatementLine.statement_id))
            .where(Statement.bank_account_id == account.id, StatementLine.status == "waiting")
        ).one()
        suspended = by_code.get(ledger.suspense(account.id, account.currency).code, 0)
        proofs.append(Proof("suspense", account.name, account.currency, -suspended, int(waiting)))
    others = {
        "deposits": _by_currency(session, _deposits_held()),
        "owed": _by_currency(
            session,
            select_rows(col(Payout.currency), func.sum(Payout.amount_minor)).where(
                col(Payout.status).in_(("due", "needs_payee"))
            ),
        ),
        "receivable": _by_currency(
            session,
            select_rows(
                col(PaymentDue.currency), func.sum(col(PaymentDue.amount_minor) - col(PaymentDue.paid_minor))
            ).where(col(PaymentDue.kind) == "claim"),
        ),
        "buyers": _by_currency(
            session,
            select_rows(
                col(PaymentDue.currency), func.sum(col(PaymentDue.amount_minor) - col(PaymentDue.paid_minor))
            ).where(col(PaymentDue.kind) == "balance", col(PaymentDue.status) == "open"),
        ),
        "claims": _by_currency(
            session,
            select_rows(col(Sale.currency), func.sum(SaleAccount.balance_minor))
            .join(Sale, col(Sale.id) == col(SaleAccount.sale_id))
            .join(LoanAccount, col(LoanAccount.id) == col(SaleAccount.account_id))
            .where(col(Sale.status).in_(("awaiting_balance", "paid")), col(LoanAccount.status) == "under_contract"),
            by=col(Sale.currency),
        ),
    }
    kinds = {
        "deposits": ("deposit",),
        "owed": ("payable", "surplus", "returns"),
        "buyers": ("buyer",),
        "claims": ("claims",),
        "receivable": ("receivable",),
    }
    for name, of_kind in kinds.items():
        sign = 1 if name in ("buyers", "claims", "receivable") else -1
        for currency in currencies:
            stands = sign * sum(sums.get((kind, currency), 0) for kind in of_kind)
            proofs.append(Proof(name, currency, currency, stands, others[name].get(currency, 0)))
    for currency in currencies:
        debit = sum(line.debit_minor for line in lines if line.currency == currency)
        credit = sum(line.credit_minor for line in lines if line.currency == currency)
        proofs.append(Proof("debit_credit", currency, currency, debit, credit))
    return ThreeWay(tuple(proofs), tuple(books.unbalanced(session)))


def _deposits_held() -> Any:
    """Deposits paid for auctions that are not settled yet: once settled, each is released, used or forfeited."""
    settled = select(Payout.key).where(
        col(Payout.key)
        == literal("release:") + cast(PaymentDue.auction_id, String) + ":" + cast(PaymentDue.party_id, String)
    )
    bought = select(Sale.id).where(
        col(Sale.auction_id) == col(PaymentDue.auction_id), col(Sale.buyer_id) == col(PaymentDue.party_id)
    )
    return select_rows(col(PaymentDue.currency), func.sum(PaymentDue.paid_minor)).where(
        col(PaymentDue.kind) == "deposit", ~settled.exists(), ~bought.exists()
    )


def _by_currency(session: Session, query: Any, *, by: Any = None) -> dict[str, int]:
    column = query.selected_columns[0] if by is None else by
    return {currency: int(total or 0) for currency, total in session.execute(query.group_by(column))}
