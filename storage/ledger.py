"""The books: post once per key, balances as of an instant, trial balance, reversal.

Postings are inserted and never changed (triggers refuse). An account that may never become a debit
(market/ledger.NEVER_DEBIT) is locked before its balance is looked at, so two transactions cannot spend
the same money; locks are taken in the order of ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import BigInteger, Select, cast, func, insert, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from market import ledger
from market.errors import Conflict, NotFound
from market.ledger import Cause, LedgerEntry, Unbalanced
from storage import tables

KEYS_AT_ONCE = 500  # bound parameters of one query


def post(session: Session, entries: Sequence[LedgerEntry], *, at: datetime) -> int:
    """Post each entry once; return how many are new.

    An entry whose key is known with the same content is a no-op.

    Raises: Conflict `ledger_key_reused`, when a key is known with other content; `balance_below_zero`, when a deposit,
    an escrow or a payable would pay out more than it holds. Nothing of the call is then kept (the caller's transaction
    is undone).
    """
    new = _unknown(session, entries)
    if not new:
        return 0
    ids = _account_ids(session, {one.account for entry in new for one in entry.postings})
    guarded = _lock(session, new, ids)
    kept = _insert_entries(session, new, at=at)
    session.execute(
        insert(tables.Posting),
        [
            {
                "ledger_entry_id": kept[entry.key],
                "ledger_account_id": ids[one.account.code],
                "amount_minor": one.amount_minor,
                "loan_account_id": one.loan_account_id,
            }
            for entry in new
            for one in entry.postings
        ],
    )
    _check(session, guarded)
    return len(new)


def post_spread(session: Session, entry: LedgerEntry, spread: Mapping[str, Select[int, int]], *, at: datetime) -> bool:
    """Post one entry whose postings on some ledger accounts stand for many overdue accounts; return whether it is new.

    Args:
        entry: balanced, with exactly one posting for each ledger account.
        spread: by ledger account code, a query of (loan account id, minor units); its rows are posted in place of
            the entry's one posting and must sum to it. One statement writes them, however many there are.
    Raises: as `post`; Unbalanced, when a query's rows do not sum to the entry's posting.
    """
    if not _unknown(session, [entry]):
        return False
    ids = _account_ids(session, {one.account for one in entry.postings})
    guarded = _lock(session, [entry], ids)
    entry_id = _insert_entries(session, [entry], at=at)[entry.key]
    for one in entry.postings:
        account_id = ids[one.account.code]
        if one.account.code not in spread:
            session.execute(
                insert(tables.Posting).values(
                    ledger_entry_id=entry_id, ledger_account_id=account_id, amount_minor=one.amount_minor
                )
            )
            continue
        rows = spread[one.account.code].subquery()
        loan_account_id, amount_minor = rows.c[0], rows.c[1]
        session.execute(
            insert(tables.Posting).from_select(
                ["ledger_entry_id", "ledger_account_id", "amount_minor", "loan_account_id"],
                select(
                    cast(literal(entry_id), BigInteger), cast(literal(account_id), BigInteger), amount_minor,
                    loan_account_id,
                ).where(amount_minor != 0),
            )
        )  # fmt: skip
        posted = _sum(session, col(tables.Posting.ledger_entry_id) == entry_id, account_id)
        if posted != one.amount_minor:
            raise Unbalanced(entry.key, posted - one.amount_minor)
    _check(session, guarded)
    return True


def reverse(session: Session, key: str, *, on: date, cause: Cause, at: datetime, text: str = "") -> bool:
    """Answer the entry `key` with the same postings of the other sign; return False, when that was done before.

    Raises: NotFound; Conflict `reversal_of_reversal`, `balance_below_zero`.
    """
    other_key = ledger.reversal_key(key)
    first = session.exec(select(tables.LedgerEntry).where(tables.LedgerEntry.key == key)).first()
    if first is None:
        raise NotFound("ledger_entry", key=key)
    if session.exec(select(tables.LedgerEntry.id).where(tables.LedgerEntry.key == other_key)).first():
        return False
    accounts = session.exec(
        select(tables.LedgerAccount)
        .where(
            col(tables.LedgerAccount.id).in_(
                select(tables.Posting.ledger_account_id).where(tables.Posting.ledger_entry_id == first.id)
            )
        )
        .order_by(col(tables.LedgerAccount.id))
        .with_for_update()
    ).all()
    entry = tables.LedgerEntry(
        key=other_key, content_hash=first.content_hash, on=on, at=at, currency=first.currency, cause=cause.kind,
        cause_id=cause.id, text=text, reverses_id=first.id,
    )  # fmt: skip
    session.add(entry)
    session.flush()
    session.execute(
        insert(tables.Posting).from_select(
            ["ledger_entry_id", "ledger_account_id", "amount_minor", "loan_account_id"],
            select(
                cast(literal(entry.id), BigInteger), tables.Posting.ledger_account_id,
                -col(tables.Posting.amount_minor), tables.Posting.loan_account_id,
            ).where(tables.Posting.ledger_entry_id == first.id),
        )
    )  # fmt: skip
    _check(session, {one.id: one.code for one in accounts if one.code.partition(":")[0] in ledger.NEVER_DEBIT})
    return True


def balance(session: Session, code: str, *, at: datetime | None = None) -> int:
    """The balance of a ledger account in minor units, debit positive; as of the instant `at`, if one is given."""
    query = (
        select(func.coalesce(func.sum(tables.Posting.amount_minor), 0))
        .join(tables.LedgerAccount, col(tables.LedgerAccount.id) == col(tables.Posting.ledger_account_id))
        .where(tables.LedgerAccount.code == code)
    )
    if at is not None:
        query = query.join(tables.LedgerEntry, col(tables.LedgerEntry.id) == col(tables.Posting.ledger_entry_id)).where(
            col(tables.LedgerEntry.at) <= at
        )
    return int(session.exec(query).one())


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One ledger account in the trial balance."""

    code: str
    kind: str
    currency: str
    party_id: int | None
    debit_minor: int  # all debits; never negative
    credit_minor: int  # all credits, as a figure that is not negative
    postings: int

    @property
    def balance_minor(self) -> int:
        """Debit positive."""
        return self.debit_minor - self.credit_minor


def trial_balance(session: Session, *, at: datetime | None = None, prefix: str = "") -> list[TrialLine]:
    """Every ledger account with postings, by currency and code; debits equal credits in each currency.

    `prefix`: only accounts whose code begins with it; `at`: as of that instant.
    """
    amount = col(tables.Posting.amount_minor)
    account = tables.LedgerAccount
    query = (
        sqlalchemy.select(
            col(account.code), col(account.kind), col(account.currency), col(account.party_id),
            func.coalesce(func.sum(amount).filter(amount > 0), 0),
            func.coalesce(func.sum(-amount).filter(amount < 0), 0),
            func.count(),
        )
        .join(tables.Posting, col(tables.Posting.ledger_account_id) == col(account.id))
        .group_by(col(account.id))
        .order_by(col(account.currency), col(account.code))
    )  # fmt: skip
    if prefix:
        query = query.where(col(account.code).startswith(prefix, autoescape=True))
    if at is not None:
        query = query.join(tables.LedgerEntry, col(tables.LedgerEntry.id) == col(tables.Posting.ledger_entry_id)).where(
            col(tables.LedgerEntry.at) <= at
        )
    return [
        TrialLine(code, kind, currency, party_id, int(debit), int(credit), int(count))
        for code, kind, currency, party_id, debit, credit, count in session.execute(query)
    ]


def unbalanced(session: Session) -> list[tuple[int, int]]:
    """Entries whose postings do not sum to zero, as (entry id, minor units): there must never be one."""
    total = func.sum(tables.Posting.amount_minor)
    query = (
        select(tables.Posting.ledger_entry_id, total).group_by(col(tables.Posting.ledger_entry_id)).having(total != 0)
    )
    return [(one, int(difference)) for one, difference in session.execute(query)]


# --- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PostingLine:
    """One posting, with the entry that it is part of."""

    posting: tables.Posting
    entry: tables.LedgerEntry
    account: tables.LedgerAccount


def postings_of(session: Session, code: str, *, before: int = 0, limit: int = 100) -> list[PostingLine]:
    """The postings of one ledger account, newest first; `before`: a posting's id, for the next page."""
    query = _lines().where(tables.LedgerAccount.code == code).order_by(col(tables.Posting.id).desc()).limit(limit)
    if before:
        query = query.where(col(tables.Posting.id) < before)
    return [PostingLine(*row) for row in session.execute(query)]


def show_entry(session: Session, entry_id: int, *, limit: int = 200) -> tuple[tables.LedgerEntry, list[PostingLine]]:
    """One entry and its postings, at most `limit` of them. Raises: NotFound."""
    entry = session.get(tables.LedgerEntry, entry_id)
    if entry is None:
        raise NotFound("ledger_entry", id=entry_id)
    query = _lines().where(tables.Posting.ledger_entry_id == entry_id).order_by(col(tables.Posting.id)).limit(limit)
    return entry, [PostingLine(*row) for row in session.execute(query)]


def reversal_of(session: Session, entry_id: int) -> int | None:
    """The id of the entry that reverses this one, if there is one."""
    return session.exec(select(tables.LedgerEntry.id).where(tables.LedgerEntry.reverses_id == entry_id)).first()


def entries(session: Session, *, before: int = 0, limit: int = 100) -> list[tuple[tables.LedgerEntry, int]]:
    """Entries, newest first, each with the sum of its debits."""
    amount = col(tables.Posting.amount_minor)
    debits = func.coalesce(func.sum(amount).filter(amount > 0), 0)
    query = (
        sqlalchemy.select(tables.LedgerEntry, debits)
        .join(tables.Posting, col(tables.Posting.ledger_entry_id) == col(tables.LedgerEntry.id))
        .group_by(col(tables.LedgerEntry.id))
        .order_by(col(tables.LedgerEntry.id).desc())
        .limit(limit)
    )
    if before:
        query = query.where(col(tables.LedgerEntry.id) < before)
    return [(entry, int(debit)) for entry, debit in session.execute(query)]


def _lines() -> Any:
    return (
        sqlalchemy.select(tables.Posting, tables.LedgerEntry, tables.LedgerAccount)
        .join(tables.LedgerEntry, col(tables.LedgerEntry.id) == col(tables.Posting.ledger_entry_id))
        .join(tables.LedgerAccount, col(tables.LedgerAccount.id) == col(tables.Posting.ledger_account_id))
    )


# --- one step each ----------------------------------------------------------------------------------


def _unknown(session: Session, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    hashes = {entry.key: entry.content_hash() for entry in entries}
    if len(hashes) != len(entries):
        raise ValueError("one call posts each key once")
    known: dict[str, str] = {}
    keys = list(hashes)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = col(tables.LedgerEntry.key).in_(keys[start : start + KEYS_AT_ONCE])
        known.update(session.exec(select(tables.LedgerEntry.key, tables.LedgerEntry.content_hash).where(some)).all())
    for key, content_hash in known.items():
        if content_hash != hashes[key]:
            raise Conflict("ledger_key_reused", key=key)
    return [entry for entry in entries if entry.key not in known]


def _account_ids(session: Session, accounts: Iterable[ledger.LedgerAccount]) -> dict[str, int]:
    """Ids by code; what is not there yet is made, in the order of codes, so that two makers cannot deadlock."""
    by_code = {one.code: one for one in sorted(accounts, key=lambda one: one.code)}
    codes = list(by_code)
    found: dict[str, int] = {}

    def look(some: list[str]) -> None:
        for start in range(0, len(some), KEYS_AT_ONCE):
            these = col(tables.LedgerAccount.code).in_(some[start : start + KEYS_AT_ONCE])
            found.update(session.exec(select(tables.LedgerAccount.code, tables.LedgerAccount.id).where(these)).all())

    look(codes)
    if missing := [code for code in codes if code not in found]:
        make = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        rows = [
            {"code": code, "kind": one.kind.value, "currency": one.currency, "party_id": one.party_id}
            for code in missing
            if (one := by_code[code])
        ]
        session.execute(make(tables.LedgerAccount).on_conflict_do_nothing(index_elements=["code"]), rows)
        look(missing)
    return found


def _lock(session: Session, entries: Sequence[LedgerEntry], ids: Mapping[str, int]) -> dict[int, str]:
    guarded = {
        ids[one.account.code]: one.account.code
        for entry in entries
        for one in entry.postings
        if one.account.never_debit and one.amount_minor > 0
    }
    for account_id in sorted(guarded):
        session.exec(select(tables.LedgerAccount.id).where(tables.LedgerAccount.id == account_id).with_for_update())
    return guarded


def _check(session: Session, guarded: Mapping[int, str]) -> None:
    for account_id, code in guarded.items():
        if (over := _sum(session, col(tables.Posting.ledger_account_id) == account_id)) > 0:
            raise Conflict("balance_below_zero", account=code, short_minor=over)


def _sum(session: Session, where: object, account_id: int | None = None) -> int:
    query = select(func.coalesce(func.sum(tables.Posting.amount_minor), 0)).where(where)  # type: ignore[arg-type]
    if account_id is not None:
        query = query.where(tables.Posting.ledger_account_id == account_id)
    return int(session.exec(query).one())


def _insert_entries(session: Session, entries: Sequence[LedgerEntry], *, at: datetime) -> dict[str, int]:
    rows = [
        {
            "key": entry.key, "content_hash": entry.content_hash(), "on": entry.on, "at": at,
            "currency": entry.currency, "cause": entry.cause.kind, "cause_id": entry.cause.id, "text": entry.text,
        }
        for entry in entries
    ]  # fmt: skip
    made = session.execute(insert(tables.LedgerEntry).returning(tables.LedgerEntry.key, tables.LedgerEntry.id), rows)  # type: ignore[call-overload]
    return dict(made.all())
