"""Trace: from any cent to the bid, the bank line and the account that it closed, and back.

A chain is a list of cards. Whatever one starts at - a posting, a ledger entry, a bank line, an overdue account, a sale,
a pay-out - the chain goes on to everything that is tied to it: what booked it, why, and what it paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from market.errors import NotFound
from storage.settlement import winning_bid
from storage.tables import (
    LedgerAccount,
    LedgerEntry,
    LineShare,
    LoanAccount,
    Lot,
    PaymentDue,
    Payout,
    Posting,
    Sale,
    SaleAccount,
    Statement,
    StatementLine,
)

KINDS = ("posting", "ledger_entry", "statement_line", "loan_account", "sale", "payout")
MOST_CARDS = 200
MOST_OF_ONE = 20  # postings of an entry, or entries of a cause, that are shown


@dataclass(frozen=True, slots=True)
class Card:
    """One link of the chain: what it is, and its facts; `tie` says how it hangs on the one before."""

    kind: str  # one of KINDS, or auction_entry, payment_due, statement
    id: int
    tie: str
    facts: dict[str, Any] = field(default_factory=dict)


def trace(session: Session, kind: str, subject_id: int) -> list[Card]:
    """The chain that begins at one thing of KINDS. Raises: NotFound."""
    chain = _Chain(session)
    starts = {
        "posting": chain.posting, "ledger_entry": chain.entry, "statement_line": chain.line,
        "loan_account": chain.account, "sale": chain.sale, "payout": chain.payout,
    }  # fmt: skip
    if kind not in starts:
        raise NotFound("trace", subject=kind)
    starts[kind](subject_id, "start")
    if not chain.cards:
        raise NotFound(kind, id=subject_id)
    return chain.cards


class _Chain:
    """Follows the ties, each thing once, breadth being small: a sale has few entries and two bank lines or so."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cards: list[Card] = []
        self._seen: set[tuple[str, int, int | None]] = set()

    def _add(self, kind: str, subject_id: int, tie: str, **facts: Any) -> bool:
        thing = (kind, subject_id, facts.get("auction"))  # entries are numbered per auction
        if thing in self._seen or len(self.cards) >= MOST_CARDS:
            return False
        self._seen.add(thing)
        self.cards.append(Card(kind, subject_id, tie, facts))
        return True

    def posting(self, posting_id: int, tie: str) -> None:
        row = self.session.get(Posting, posting_id)
        if row is None:
            return
        account = self.session.get_one(LedgerAccount, row.ledger_account_id)
        if self._add(
            "posting", row.id, tie, amount_minor=row.amount_minor, currency=account.currency, account=account.code
        ):
            self.entry(row.ledger_entry_id, "booked_by")
            if row.loan_account_id is not None:
                self.account(row.loan_account_id, "closes")

    def entry(self, entry_id: int, tie: str) -> None:
        row = self.session.get(LedgerEntry, entry_id)
        if row is None:
            return
        if self._add("ledger_entry", row.id, tie, key=row.key, on=row.on, at=row.at, currency=row.currency):
            if row.reverses_id is not None:
                self.entry(row.reverses_id, "reverses")
            self._cause(row)

    def _cause(self, row: LedgerEntry) -> None:
        match row.cause:
            case "statement_line":
                self.line(row.cause_id, "because_of")
            case "sale":
                self.sale(row.cause_id, "because_of")
            case "auction":
                self._end_of_auction(row.cause_id)
            case "statement":
                statement = self.session.get_one(Statement, row.cause_id)
                self._add(
                    "statement", statement.id, "because_of", number=statement.number,
                    opening_minor=statement.opening_minor,
                )  # fmt: skip

    def line(self, line_id: int, tie: str) -> None:
        row = self.session.get(StatementLine, line_id)
        if row is None:
            return
        statement = self.session.get_one(Statement, row.statement_id)
        if not self._add(
            "statement_line", row.id, tie, amount_minor=row.amount_minor, currency=row.currency,
            booked_on=row.booked_on, number=statement.number, line=row.number, status=row.status,
            bank_reference=row.bank_reference,
        ):  # fmt: skip
            return
        self._entries("statement_line", row.id)
        shares = select(LineShare.payment_due_id).where(LineShare.line_id == row.id, col(LineShare.undone_at).is_(None))
        for due_id in self.session.exec(shares.order_by(col(LineShare.id)).limit(MOST_OF_ONE)).all():
            self._due(self.session.get_one(PaymentDue, due_id))
        if row.payout_id is not None:
            self.payout(row.payout_id, "sent")
        if row.takes_back_id is not None:
            self.line(row.takes_back_id, "takes_back")
        for line_id in self.session.exec(select(StatementLine.id).where(StatementLine.takes_back_id == row.id)):
            self.line(line_id, "taken_back_by")

    def _due(self, due: PaymentDue) -> None:
        if not self._add(
            "payment_due", due.id, "pays", reference=due.reference, due_kind=due.kind, amount_minor=due.amount_minor,
            currency=due.currency, status=due.status,
        ):  # fmt: skip
            return
        sales = select(Sale).where(Sale.auction_id == due.auction_id, Sale.buyer_id == due.party_id)
        if (sale := self.session.exec(sales).first()) is not None:
            self.sale(sale.id, "for")
        else:
            self._end_of_auction(due.auction_id)

    def sale(self, sale_id: int, tie: str) -> None:
        row = self.session.get(Sale, sale_id)
        if row is None:
            return
        lot = self.session.get_one(Lot, row.lot_id)
        if not self._add(
            "sale", row.id, tie, lot=lot.reference, hammer_minor=row.hammer_minor, currency=row.currency,
            status=row.status, bidder=row.bidder, accounts=row.plan.get("accounts", 0),
        ):  # fmt: skip
            return
        self._bid(row)
        for line in self._lines_of(row):
            self.line(line.id, "paid_by")
        self._entries("sale", row.id)

    def _bid(self, sale: Sale) -> None:
        sequence, amount_minor, entry_hash = winning_bid(self.session, sale)
        self._add(
            "auction_entry", sequence, "sold_by", auction=sale.auction_id, amount_minor=amount_minor,
            currency=sale.currency, bidder=sale.bidder, hash=entry_hash, event="bid",
        )  # fmt: skip
        self._add(
            "auction_entry", sale.plan["entry"], "closed_by", auction=sale.auction_id, amount_minor=sale.hammer_minor,
            currency=sale.currency, bidder=sale.bidder, hash=sale.plan["entry_hash"], event="closed",
        )  # fmt: skip

    def _end_of_auction(self, auction_id: int) -> None:
        sale = self.session.exec(select(Sale).where(Sale.auction_id == auction_id)).first()
        if sale is not None:
            self._bid(sale)

    def _lines_of(self, sale: Sale) -> Sequence[StatementLine]:
        dues = select(PaymentDue.id).where(
            PaymentDue.auction_id == sale.auction_id, PaymentDue.party_id == sale.buyer_id
        )
        return self.session.exec(
            select(StatementLine)
            .where(
                col(StatementLine.id).in_(
                    select(LineShare.line_id).where(
                        col(LineShare.payment_due_id).in_(dues), col(LineShare.undone_at).is_(None)
                    )
                )
            )
            .order_by(col(StatementLine.id))
            .limit(MOST_OF_ONE)
        ).all()

    def account(self, account_id: int, tie: str) -> None:
        row = self.session.get(LoanAccount, account_id)
        if row is None:
            return
        if not self._add(
            "loan_account", row.id, tie, loan_id=row.loan_id, balance_minor=row.balance_minor, currency=row.currency,
            status=row.status,
        ):  # fmt: skip
            return
        shares = self.session.exec(select(SaleAccount).where(SaleAccount.account_id == account_id)).all()
        postings = self.session.exec(
            select(Posting.id).where(Posting.loan_account_id == account_id).order_by(col(Posting.id)).limit(MOST_OF_ONE)
        ).all()
        for posting_id in postings:
            self.posting(posting_id, "posted")
        for share in shares:
            self.sale(share.sale_id, "sold_in")

    def payout(self, payout_id: int, tie: str) -> None:
        row = self.session.get(Payout, payout_id)
        if row is None:
            return
        if not self._add(
            "payout", row.id, tie, reference=row.reference, payout_kind=row.kind, amount_minor=row.amount_minor,
            currency=row.currency, status=row.status, key=row.key,
        ):  # fmt: skip
            return
        if row.statement_line_id is not None:
            self.line(row.statement_line_id, "answers")
        for entry_id in self.session.exec(select(LedgerEntry.id).where(LedgerEntry.key == row.key)):
            self.entry(entry_id, "owed_by")
        for line_id in self.session.exec(select(StatementLine.id).where(StatementLine.payout_id == row.id)):
            self.line(line_id, "sent_by")
        if row.kind == "proceeds" and row.auction_id is not None:
            for sale_id in self.session.exec(select(Sale.id).where(Sale.auction_id == row.auction_id)):
                self.sale(sale_id, "for")

    def _entries(self, cause: str, cause_id: int) -> None:
        found = self.session.exec(
            select(LedgerEntry.id)
            .where(LedgerEntry.cause == cause, LedgerEntry.cause_id == cause_id)
            .order_by(col(LedgerEntry.id))
            .limit(MOST_OF_ONE)
        ).all()
        for entry_id in found:
            self.entry(entry_id, "booked_by")
