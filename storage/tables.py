"""Every table, in one file.  Money: `_minor` beside a currency; instants `_at` in UTC; dates `_on`.

The journal and the postings are append-only: triggers (migrations) refuse UPDATE and DELETE on both
engines.  Keys of money movements never expire.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from storage.database import Instant

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only a plain INTEGER key
JSON_TYPE = JSON().with_variant(JSONB, "postgresql")


def _id() -> Any:
    return Field(default=None, sa_type=BIG, primary_key=True)


def _at(*, index: bool = False, nullable: bool = False) -> Any:
    return Field(default=None, sa_type=Instant, index=index, nullable=nullable)


def _minor() -> Any:
    return Field(sa_type=BigInteger)


def _to(target: str, *, index: bool = True, nullable: bool = False, primary_key: bool = False) -> Any:
    if primary_key:
        return Field(foreign_key=target, sa_type=BIG, primary_key=True)
    if nullable:
        return Field(default=None, foreign_key=target, sa_type=BIG, index=index, nullable=True)
    return Field(foreign_key=target, sa_type=BIG, index=index)


def _json(*, nullable: bool = False) -> Any:
    return Field(default=None if nullable else {}, sa_type=JSON_TYPE, nullable=nullable)


# --- parties ------------------------------------------------------------------------------------


class Party(SQLModel, table=True):
    """An organisation or a person who may list, bid or be paid."""

    id: int = _id()
    kind: str  # organisation | person
    name: str
    name_key: str = Field(unique=True)  # NFKC, case folded: two names that look the same may not both exist
    country: str = "CN"
    status: str = "registered"  # registered | admitted | refused | suspended
    iban: str = ""  # where pay-outs go; refunds go back to the account that paid
    created_at: datetime = _at()
    decided_by: int | None = Field(default=None, sa_type=BIG)
    decided_at: datetime | None = _at(nullable=True)
    decision: str = ""  # reason, in the operator's words


class Person(SQLModel, table=True):
    """Somebody who signs in and acts for one party."""

    id: int = _id()
    party_id: int = _to("party.id")
    email: str
    email_key: str = Field(unique=True)
    name: str
    password_hash: str = ""  # argon2id; empty: no password sign-in
    roles: list[str] = Field(default=[], sa_type=JSON_TYPE)
    language: str = ""  # zh | en | "" (the browser's)
    locked: bool = False
    created_at: datetime = _at()


class SignIn(SQLModel, table=True):
    """A server-side session; the cookie's token is kept only as its hash."""

    token_hash: str = Field(primary_key=True)
    person_id: int = _to("person.id")
    csrf: str
    created_at: datetime = _at()
    seen_at: datetime = _at()
    expires_at: datetime = _at(index=True)
    ended: str = ""  # why it ended before its time: suspended | password | elsewhere; such a row opens nothing


class SignInLink(SQLModel, table=True):
    """A one-time link (demo mode on loopback only)."""

    token_hash: str = Field(primary_key=True)
    person_id: int = _to("person.id")
    expires_at: datetime = _at()
    used_at: datetime | None = _at(nullable=True)


class SignInFailure(SQLModel, table=True):
    """Failed tries, for slowing: `key` is the account or the address, hashed."""

    id: int = _id()
    key: str = Field(index=True)
    at: datetime = _at(index=True)


class ApiKey(SQLModel, table=True):
    """A key for the JSON API, the socket and the client; only its hash is kept."""

    id: int = _id()
    person_id: int = _to("person.id")
    name: str
    prefix: str = Field(unique=True)
    secret_hash: str
    scopes: list[str] = Field(default=[], sa_type=JSON_TYPE)
    created_at: datetime = _at()
    used_at: datetime | None = _at(nullable=True)
    revoked_at: datetime | None = _at(nullable=True)


class AuditTrail(SQLModel, table=True):
    """Who did what, when, why."""

    id: int = _id()
    at: datetime = _at(index=True)
    person_id: int | None = Field(default=None, sa_type=BIG, index=True)
    action: str
    subject: str  # "lot", "party", "tape" ...
    subject_id: int = Field(sa_type=BIG)
    facts: dict[str, Any] = _json()
    __table_args__ = (Index("ix_audittrail_subject", "subject", "subject_id"),)


# --- tapes, accounts, portfolios ------------------------------------------------------------------


class Mapping(SQLModel, table=True):
    """A creditor's saved column mapping; a change is a new version."""

    id: int = _id()
    creditor_id: int = _to("party.id")
    name: str
    version: int
    columns: dict[str, Any] = _json()
    created_at: datetime = _at()
    __table_args__ = (UniqueConstraint("creditor_id", "name", "version"),)


class Tape(SQLModel, table=True):
    """A creditor's file and what became of it."""

    id: int = _id()
    creditor_id: int = _to("party.id")
    filename: str
    digest: str = Field(index=True)  # SHA-256 of the file as received
    size: int = Field(sa_type=BigInteger)
    status: str = "received"  # received | reading | needs_mapping | faulty | kept | refused
    stage: str = ""  # progress: which stage, and rows done
    attempt: int = 0  # counts the readers; an older one that wakes up finds that it is not its turn
    mapping: str = ""  # format known by name, or "saved:<mapping id>"
    cutoff_on: date
    currency: str = "USD"
    rows: int = 0
    rows_done: int = 0
    faults: int = 0
    faulty_rows: int = 0
    report: dict[str, Any] = _json()  # header, samples, scores, totals, faults by kind
    decision: dict[str, Any] | None = _json(nullable=True)  # to take it without its faulty rows: who, when, why
    faults_digest: str = ""  # all faults, CSV, in the object store
    created_by: int = _to("person.id", index=False)
    created_at: datetime = _at()
    kept_at: datetime | None = _at(nullable=True)


class TapeFault(SQLModel, table=True):
    """The first faults of a tape, for the page; all are in the file."""

    tape_id: int = _to("tape.id", primary_key=True)
    number: int = Field(primary_key=True)
    row: int | None = None
    field: str
    code: str
    found: str
    expected: str


class LoanAccount(SQLModel, table=True):
    """An overdue account: balances at the tape's cut-off date, and where it is on its way."""

    id: int = _id()
    creditor_id: int = Field(sa_type=BIG)
    tape_id: int = Field(sa_type=BIG)
    row: int  # of the tape, from 1
    loan_id: str  # the creditor's own number
    borrower_id: str = ""
    status: str = "overdue"  # market/accounts.Status; nothing of a tape is shown before the tape is `kept`
    currency: str
    cutoff_on: date
    principal_minor: int = _minor()
    interest_minor: int = _minor()
    fees_minor: int = _minor()
    balance_minor: int = _minor()  # legal balance
    dpd: int | None = None  # days past due, the least that is known; None: the tape does not say
    dpd_to: int | None = None  # the most: equal to `dpd` when exact; None: open, or not given
    bucket: str
    product: str = ""
    region: str = ""
    rate_bp: int = 0
    originated_on: date | None = None
    facts: dict[str, Any] | None = Field(default=None, sa_type=JSON, nullable=True)  # names: the tape's report
    owner_id: int | None = Field(default=None, sa_type=BIG)  # the buyer, once assigned
    __table_args__ = (
        UniqueConstraint("creditor_id", "loan_id", "tape_id"),
        Index("ix_loanaccount_tape_bucket", "tape_id", "bucket"),
    )


class Portfolio(SQLModel, table=True):
    """Accounts sold together, at a cut-off date."""

    id: int = _id()
    creditor_id: int = _to("party.id")
    name: str
    cutoff_on: date
    currency: str
    accounts: int
    borrowers: int = 0
    principal_minor: int = _minor()
    balance_minor: int = _minor()
    strata: dict[str, Any] = _json()  # precomputed tables
    selection: dict[str, Any] = _json()  # the query that chose the accounts
    content_hash: str = ""  # SHA-256 over its accounts in order (market/portfolios.content_hash)
    is_shown: bool = True  # False: its members are still being written; for everybody it is not there
    created_by: int = _to("person.id", index=False)
    created_at: datetime = _at()


class PortfolioAccount(SQLModel, table=True):
    portfolio_id: int = _to("portfolio.id", primary_key=True)
    account_id: int = Field(sa_type=BIG, primary_key=True, index=True)


# --- collateral, lots, auctions -------------------------------------------------------------------


class Collateral(SQLModel, table=True):
    """A vehicle or a property, seized or pledged."""

    id: int = _id()
    creditor_id: int = _to("party.id")
    kind: str  # vehicle | property
    title_en: str
    title_zh: str
    place: str = ""
    currency: str
    appraisal_minor: int = _minor()
    appraisal_on: date
    facts: dict[str, Any] = _json()  # vin, odometer | address, area, title, occupancy
    account_id: int | None = _to("loanaccount.id", nullable=True)  # the debt behind it
    created_at: datetime = _at()


class Picture(SQLModel, table=True):
    """A photograph, decoded and written anew; kept in the object store."""

    id: int = _id()
    collateral_id: int = _to("collateral.id")
    position: int = 0
    digest: str
    thumbnail_digest: str
    width: int
    height: int
    caption_en: str = ""
    caption_zh: str = ""
    created_at: datetime = _at()


class Lot(SQLModel, table=True):
    """What one auction sells: a portfolio or an item of collateral; frozen when published."""

    id: int = _id()
    reference: str = Field(unique=True)  # 2026-0417
    creditor_id: int = _to("party.id")
    kind: str  # portfolio | vehicle | property
    portfolio_id: int | None = _to("portfolio.id", nullable=True)
    collateral_id: int | None = _to("collateral.id", nullable=True)
    title_en: str
    title_zh: str
    text_en: str = ""
    text_zh: str = ""
    place: str = ""
    status: str = "draft"  # market/lots.MOVES: draft submitted approved published live sold unsold settled withdrawn
    currency: str
    terms: dict[str, Any] = _json()  # ruleset, opening, step, reserve, deposit, instants ... (market/lots)
    frozen: dict[str, Any] | None = _json(nullable=True)  # exactly what was hashed
    frozen_hash: str = ""
    opens_at: datetime | None = _at(nullable=True, index=True)
    closes_at: datetime | None = _at(nullable=True, index=True)  # as published; the journal has the truth
    created_by: int = _to("person.id", index=False)
    created_at: datetime = _at()
    submitted_at: datetime | None = _at(nullable=True)
    decided_by: int | None = Field(default=None, sa_type=BIG)
    decided_at: datetime | None = _at(nullable=True)
    decision: str = ""
    published_at: datetime | None = _at(nullable=True)


class Auction(SQLModel, table=True):
    """One sale of one lot; its head is what a turn locks.

    `phase`, `price_minor`, `bids`, `closes_at` are copies of the journal's state for lists, written in
    the same transaction as the entries.
    """

    id: int = _id()
    lot_id: int = _to("lot.id")
    number: int = 1  # 1: first auction, 2: second or re-auction ...
    ruleset: str  # name@version
    currency: str
    sequence: int = Field(default=0, sa_type=BigInteger)  # the last entry: the head
    phase: str = "upcoming"  # upcoming | open | paused | closed | withdrawn
    due_at: datetime | None = _at(nullable=True, index=True)  # the next instant at which something must happen
    price_minor: int | None = Field(default=None, sa_type=BigInteger)
    leader: int | None = None  # bidder number
    bids: int = 0
    opens_at: datetime = _at()
    closes_at: datetime = _at()
    outcome: str = ""  # "" | sold | unsold | reserve_not_met | withdrawn
    hammer_minor: int | None = Field(default=None, sa_type=BigInteger)
    created_at: datetime = _at()
    __table_args__ = (UniqueConstraint("lot_id", "number"),)


class Entry(SQLModel, table=True):
    """One place in an auction's journal (auctions/journal.Entry). Append-only."""

    # No foreign key: a check for each row would double the cost of a turn, which has locked the auction's row anyway.
    auction_id: int = Field(sa_type=BIG, primary_key=True, sa_column_kwargs={"autoincrement": False})
    sequence: int = Field(sa_type=BigInteger, primary_key=True)
    at_ms: int = Field(sa_type=BigInteger)
    public: str
    private: str
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class LogLeaf(SQLModel, table=True):
    """One checkpoint of one auction in the log of all of them (auctions/merkle.py). Append-only."""

    number: int = Field(sa_type=BIG, primary_key=True, sa_column_kwargs={"autoincrement": False})  # from 0, no gaps
    auction_id: int = Field(sa_type=BIG)
    sequence: int = Field(sa_type=BigInteger)
    at_ms: int = Field(sa_type=BigInteger)  # of that entry
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))  # of that entry
    __table_args__ = (UniqueConstraint("auction_id", "sequence"),)


class LogNode(SQLModel, table=True):
    """A complete subtree of the log, leaves included: 2**level leaves from `number` * 2**level on. Append-only."""

    level: int = Field(primary_key=True)
    number: int = Field(sa_type=BIG, primary_key=True, sa_column_kwargs={"autoincrement": False})
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class TreeHead(SQLModel, table=True):
    """The log at a size, as it was signed. Append-only."""

    id: int = _id()
    size: int = Field(sa_type=BigInteger, index=True)
    signed_at: datetime = _at()
    text: str  # auctions/proof.tree_head, with instant and key
    key_id: str
    signature: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SigningKey(SQLModel, table=True):
    """A public key (Ed25519) that signs, or has signed, what the platform gives out."""

    key_id: str = Field(primary_key=True)
    public_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    valid_from: datetime = _at()
    valid_until: datetime | None = _at(nullable=True)  # None: in use


class Heartbeat(SQLModel, table=True):
    """One row: when any node could last decide bids, and the last time in which none could."""

    id: int = Field(sa_type=BIG, primary_key=True)
    seen_at: datetime = _at()
    outage_since: datetime | None = _at(nullable=True)
    outage_until: datetime | None = _at(nullable=True)


class Participation(SQLModel, table=True):
    """A party's way into one auction: asked, agreement, deposit, admitted with a limit."""

    id: int = _id()
    auction_id: int = _to("auction.id")
    party_id: int = _to("party.id")
    status: str = "requested"  # requested | refused | awaiting_deposit | admitted | released | forfeited | bought
    agreement_hash: str = ""
    agreed_by: int | None = Field(default=None, sa_type=BIG)
    agreed_at: datetime | None = _at(nullable=True)
    limit_minor: int = Field(default=0, sa_type=BigInteger)
    priority_rank: int | None = None
    bidder: int | None = None  # number in the auction, once the journal has it
    decided_by: int | None = Field(default=None, sa_type=BIG)
    decided_at: datetime | None = _at(nullable=True)
    decision: str = ""
    created_at: datetime = _at()
    __table_args__ = (UniqueConstraint("auction_id", "party_id"),)


class Watch(SQLModel, table=True):
    person_id: int = _to("person.id", primary_key=True)
    lot_id: int = _to("lot.id", primary_key=True)


# --- money ------------------------------------------------------------------------------------------


class LedgerAccount(SQLModel, table=True):
    """A line of our books; the code says what it is (ARCHITECTURE.md, chart of accounts)."""

    id: int = _id()
    code: str = Field(unique=True)  # "deposits:12:USD" ... (market/ledger)
    kind: str  # asset | liability | income | expense
    currency: str
    party_id: int | None = Field(default=None, sa_type=BIG, index=True)


class LedgerEntry(SQLModel, table=True):
    """A balanced set of postings; append-only; one reversal at most."""

    id: int = _id()
    key: str = Field(unique=True)
    content_hash: str  # the same key with other content is an error
    on: date
    at: datetime = _at()
    currency: str
    cause: str  # "statement_line", "auction", "sale" ...
    cause_id: int = Field(sa_type=BIG)
    text: str = ""
    reverses_id: int | None = Field(default=None, sa_type=BIG, unique=True)
    __table_args__ = (Index("ix_ledgerentry_cause", "cause", "cause_id"),)


class Posting(SQLModel, table=True):
    """A debit (positive) or credit (negative) in minor units; append-only."""

    id: int = _id()
    ledger_entry_id: int = _to("ledgerentry.id")
    ledger_account_id: int = _to("ledgeraccount.id")
    amount_minor: int = _minor()
    loan_account_id: int | None = Field(default=None, sa_type=BIG, index=True)


class BankAccount(SQLModel, table=True):
    """An account of the platform at a bank."""

    id: int = _id()
    name: str
    iban: str = Field(unique=True)  # or the bank's own account number
    currency: str


class Statement(SQLModel, table=True):
    """A bank statement taken whole: its lines agree with both balances."""

    id: int = _id()
    file_id: int | None = _to("statementfile.id", nullable=True)
    bank_account_id: int = _to("bankaccount.id")
    number: str
    digest: str = Field(index=True)  # of the file
    format: str
    from_on: date
    to_on: date
    opening_minor: int = _minor()
    closing_minor: int = _minor()
    created_by: int | None = Field(default=None, sa_type=BIG)
    created_at: datetime = _at()
    __table_args__ = (UniqueConstraint("bank_account_id", "number", "from_on"),)


class StatementFile(SQLModel, table=True):
    """An uploaded statement file: read by a task; refused whole with its faults, or kept."""

    id: int = _id()
    filename: str
    digest: str = Field(index=True)
    size: int
    status: str = "received"  # received | kept | refused | repeated
    faults: list[Any] = Field(default=[], sa_type=JSON_TYPE)
    lines: int = 0
    gap_consent: bool = False  # the person agreed that a statement number is skipped
    created_by: int | None = _to("person.id", nullable=True)  # None: fetched by the platform itself
    created_at: datetime = _at()


class StatementLine(SQLModel, table=True):
    """One movement on a bank account."""

    id: int = _id()
    statement_id: int = _to("statement.id")
    number: int
    amount_minor: int = _minor()  # positive: came in
    currency: str
    booked_on: date
    value_on: date
    bank_reference: str = ""
    end_to_end_id: str = ""
    text: str = ""
    other_name: str = ""
    other_iban: str = ""
    is_reversal: bool = False  # by the bank's own mark
    status: str = Field(default="waiting", index=True)
    # waiting (suspense) | matched | returned | not_ours | taken_back (by the bank) | takes_back (another line)
    takes_back_id: int | None = Field(default=None, sa_type=BIG)  # the line that this one takes back
    payment_due_id: int | None = Field(default=None, sa_type=BIG, index=True)
    payout_id: int | None = Field(default=None, sa_type=BIG, index=True)  # money that went out
    decided_by: int | None = Field(default=None, sa_type=BIG)
    reasons: list[Any] = Field(default=[], sa_type=JSON_TYPE)
    line_key: str = Field(unique=True)  # account + bank's identity of the movement: no entry seen before


class PaymentDue(SQLModel, table=True):
    """One expected payment, found on statements by its reference."""

    id: int = _id()
    reference: str = Field(unique=True)
    kind: str  # deposit | balance | claim (what the bank took back after it had been used or sent on)
    party_id: int = _to("party.id")
    auction_id: int = _to("auction.id")
    sale_id: int | None = Field(default=None, sa_type=BIG, index=True)
    amount_minor: int = _minor()
    paid_minor: int = Field(default=0, sa_type=BigInteger)
    currency: str
    due_at: datetime = _at()
    status: str = "open"  # open | paid | late | cancelled
    created_at: datetime = _at()


class LineShare(SQLModel, table=True):
    """What of a bank line counts toward one payment due; a line may pay several. Undone: answered in the ledger."""

    id: int = _id()
    line_id: int = _to("statementline.id")
    payment_due_id: int = _to("paymentdue.id")
    amount_minor: int = _minor()  # counted toward it
    over_minor: int = _minor()  # owed back to the payer
    ledger_key: str  # of the entry that all shares of one decision stand in
    decided_by: int | None = Field(default=None, sa_type=BIG)  # None: certain, posted without a person
    created_at: datetime = _at()
    undone_at: datetime | None = _at(nullable=True)


class Sale(SQLModel, table=True):
    """What follows one hammer: sold -> contract -> paid -> closed out, or defaulted."""

    id: int = _id()
    auction_id: int = Field(foreign_key="auction.id", sa_type=BIG, unique=True)
    lot_id: int = _to("lot.id")
    buyer_id: int = _to("party.id")
    bidder: int
    status: str = "awaiting_balance"  # market/settlement.MOVES
    currency: str
    hammer_minor: int = _minor()
    premium_minor: int = _minor()
    commission_minor: int = _minor()
    deposit_minor: int = _minor()
    due_at: datetime = _at()
    plan: dict[str, Any] = _json()  # the facts frozen with the sale
    created_at: datetime = _at()
    paid_at: datetime | None = _at(nullable=True)
    closed_out_at: datetime | None = _at(nullable=True)
    defaulted_at: datetime | None = _at(nullable=True)


class SaleStep(SQLModel, table=True):
    """The timeline of a sale: who, when, what, why."""

    id: int = _id()
    sale_id: int = _to("sale.id")
    at: datetime = _at()
    step: str
    person_id: int | None = Field(default=None, sa_type=BIG)
    facts: dict[str, Any] = _json()


class SaleAccount(SQLModel, table=True):
    """An overdue account under a sale, with its share of the price."""

    sale_id: int = _to("sale.id", primary_key=True)
    account_id: int = Field(sa_type=BIG, primary_key=True, index=True)
    balance_minor: int = _minor()
    price_minor: int = _minor()
    closed_out_at: datetime | None = _at(nullable=True)


class Payout(SQLModel, table=True):
    """Money that we owe to send; found on statements by its reference when the bank has sent it."""

    id: int = _id()
    key: str = Field(unique=True)
    reference: str = Field(unique=True)
    kind: str  # refund (deposit, overpayment) | proceeds | surplus (to a debtor) | return (to an unknown sender)
    account_code: str  # the ledger account that it clears
    party_id: int | None = _to("party.id", nullable=True)
    auction_id: int | None = _to("auction.id", nullable=True)
    statement_line_id: int | None = _to("statementline.id", nullable=True)  # a return: the line that it answers
    currency: str
    amount_minor: int = _minor()
    name: str = ""  # of the payee
    iban: str = ""
    status: str = Field(default="due", index=True)  # needs_payee | due | sent | cancelled
    created_at: datetime = _at()
    sent_at: datetime | None = _at(nullable=True)


# --- work after the commit --------------------------------------------------------------------------


class Outbox(SQLModel, table=True):
    """Work to do after commit, once per key; found again at start and by a beat task."""

    id: int = _id()
    key: str = Field(unique=True)
    task: str
    arguments: dict[str, Any] = _json()
    due_at: datetime = _at(index=True)  # under a claim: when it runs out, unless it is renewed
    claimed_by: str | None = None  # the process that works on it
    attempts: int = 0
    done_at: datetime | None = _at(nullable=True, index=True)
    error: str = ""


class Mail(SQLModel, table=True):
    """A message to a person, as sent; the operator's outbox and the person's own notices show it."""

    id: int = _id()
    key: str  # of the notice: once for each person
    person_id: int = _to("person.id", index=False)
    template: str
    language: str  # zh | en | zh+en
    subject: str
    body: str
    created_at: datetime = _at()
    sent_at: datetime | None = _at(nullable=True, index=True)
    read_at: datetime | None = _at(nullable=True)
    __table_args__ = (
        UniqueConstraint("key", "person_id"),
        Index("ix_mail_person", "person_id", "read_at"),
    )


class ApiCall(SQLModel, table=True):
    """A call of the JSON API under an `Idempotency-Key`, with its first answer."""

    id: int = _id()
    person_id: int = _to("person.id", index=False)
    key: str
    method: str
    path: str
    body_hash: str  # SHA-256 of query and body
    status: int | None = None  # of the answer; None: it has not come yet, or never came
    media_type: str = ""
    answer: str = ""
    created_at: datetime = _at()
    expires_at: datetime | None = _at(nullable=True, index=True)  # None: it moves money, so it is kept for ever
    __table_args__ = (UniqueConstraint("person_id", "key"),)
