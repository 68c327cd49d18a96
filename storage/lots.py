"""Lots: drafted by their creditor, approved by the operator; frozen, hashed and opened in one transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_, true, update
from sqlalchemy import select as select_rows
from sqlmodel import Session, col, func, select

from auctions.messages import Create, Created
from auctions.rulesets import SHOWN, Ruleset, Terms, packaged
from market import lots as rules
from market.errors import BadInput, Conflict, Fault, NotAllowed, NotFound
from market.lots import Check, LotDraft, LotTerms, Previous, Status, move
from storage import notices, participations, settlement
from storage.accounts import check_free
from storage.journal import entries_after, open_journal
from storage.parties import note
from storage.tables import (
    Auction,
    BankAccount,
    Collateral,
    Entry,
    LoanAccount,
    Lot,
    Participation,
    Party,
    PaymentDue,
    Picture,
    Portfolio,
    PortfolioAccount,
    Sale,
    Watch,
)  # fmt: skip

PAGE = 24  # lots on one page of the catalogue
ROWS_AT_ONCE = 10_000


@cache
def rulesets() -> Mapping[str, Ruleset]:
    """The rulesets that a lot may be listed under, by name."""
    return {name: packaged(name) for name in SHOWN}


# --- drafting ---------------------------------------------------------------------------------------


def create_lot(session: Session, creditor_id: int, draft: LotDraft, *, person_id: int, at: datetime) -> int:
    """Keep a new draft; return its id. What it sells must be the creditor's and in no other lot on its way."""
    currency = _content_currency(session, creditor_id, draft, lot_id=None)
    lot = Lot(
        reference=f"new:{creditor_id}:{at.timestamp()}", creditor_id=creditor_id, currency=currency,
        created_by=person_id, created_at=at, **_columns(draft),
    )  # fmt: skip
    session.add(lot)
    session.flush()
    lot.reference = f"{at.year}-{lot.id:04}"
    note(session, person_id, "lot.create", "lot", lot.id, at=at)
    return lot.id


def edit_lot(session: Session, creditor_id: int, lot_id: int, draft: LotDraft, *, person_id: int, at: datetime) -> None:
    """Describe a draft anew."""
    lot = _own(session, creditor_id, lot_id)
    if lot.status != Status.DRAFT or lot.published_at is not None:
        raise Conflict("lot_status", status=lot.status, to="edit")
    lot.currency = _content_currency(session, creditor_id, draft, lot_id=lot_id)
    for name, value in _columns(draft).items():
        setattr(lot, name, value)
    session.add(lot)
    note(session, person_id, "lot.edit", "lot", lot_id, at=at)


def set_terms(
    session: Session, creditor_id: int, lot_id: int, terms: LotTerms, *, person_id: int, at: datetime
) -> None:
    """Set the terms of the lot's next auction, while it is a draft, or after it was unsold or not paid for."""
    lot = _own(session, creditor_id, lot_id)
    if lot.status not in rules.TERMS_OPEN:
        raise Conflict("lot_status", status=lot.status, to="edit")
    lot.terms = terms.kept()
    session.add(lot)
    note(session, person_id, "lot.terms", "lot", lot_id, lot.terms, at=at)


def delete_draft(session: Session, creditor_id: int, lot_id: int, *, person_id: int, at: datetime) -> None:
    """Put a draft away; it stays on record as withdrawn."""
    lot = _own(session, creditor_id, lot_id)
    if lot.status not in (Status.DRAFT, Status.UNSOLD, Status.DEFAULTED):
        raise Conflict("lot_status", status=lot.status, to=Status.WITHDRAWN.value)
    lot.status = move(lot.status, Status.WITHDRAWN)
    session.add(lot)
    note(session, person_id, "lot.put_away", "lot", lot_id, at=at)


def listing_checks(session: Session, lot: Lot, *, at: datetime) -> list[Check]:
    """Return what the ruleset asks of the lot as it stands; empty, while it has no terms."""
    if not lot.terms:
        return []
    terms = LotTerms.model_validate(lot.terms)
    return rules.checks(
        terms, rulesets()[terms.ruleset], kind=lot.kind, currency=lot.currency, at=at, previous=_previous(session, lot)
    )


def submit(session: Session, creditor_id: int, lot_id: int, *, person_id: int, at: datetime) -> None:
    """Hand a lot to the operator. Raises BadInput with every rule of the ruleset that does not hold."""
    lot = _own(session, creditor_id, lot_id)
    to = move(lot.status, Status.SUBMITTED)
    _must_hold(session, lot, at)
    _content_currency(session, creditor_id, _draft(lot), lot_id=lot.id)
    lot.status, lot.submitted_at, lot.decision = to, at, ""
    session.add(lot)
    note(session, person_id, "lot.submit", "lot", lot_id, at=at)


# --- the operator -------------------------------------------------------------------------------------


def send_back(session: Session, lot_id: int, reason: str, *, person_id: int, at: datetime) -> None:
    """Refuse a submitted lot; its creditor reads `reason` and may mend it."""
    lot = _submitted(session, lot_id, person_id)
    lot.status, lot.decision = move(lot.status, Status.DRAFT), reason
    lot.decided_by, lot.decided_at = person_id, at
    session.add(lot)
    note(session, person_id, "lot.send_back", "lot", lot_id, {"reason": reason}, at=at)
    facts = notices.lot_facts(lot) | {"reason": reason}
    notices.put(session, "lot_sent_back", f"{lot_id}:{at.isoformat()}", facts, party_id=lot.creditor_id, at=at)


def approve(session: Session, lot_id: int, *, person_id: int, at: datetime) -> None:
    """Approve a submitted lot, as another person than the one who made it."""
    lot = _submitted(session, lot_id, person_id)
    lot.status = move(lot.status, Status.APPROVED)
    lot.decided_by, lot.decided_at, lot.decision = person_id, at, ""
    session.add(lot)
    note(session, person_id, "lot.approve", "lot", lot_id, at=at)


def content_of(session: Session, lot_id: int) -> dict[str, Any]:
    """Return what the lot sells, as it will be frozen.

    The accounts of a portfolio go in as one hash over their lines in order of id, `loan_id|currency|principal|
    interest|fees|balance|dpd`, minor units. They do not change once their tape is kept, so this may be read before the
    transaction that publishes: a million lines take seconds, and the writer's lock must not wait for them.
    """
    lot = session.get(Lot, lot_id)
    if lot is None:
        raise NotFound("lot")
    if lot.portfolio_id is not None:
        return _portfolio_content(session, lot.portfolio_id)
    item = session.get_one(Collateral, lot.collateral_id)
    pictures = session.exec(
        select(Picture.digest).where(Picture.collateral_id == item.id).order_by(col(Picture.position))
    )
    return {
        "kind": item.kind,
        "title": {"en": item.title_en, "zh": item.title_zh},
        "place": item.place,
        "appraisal_minor": item.appraisal_minor,
        "appraisal_on": item.appraisal_on.isoformat(),
        "facts": item.facts,
        "pictures": list(pictures),
    }


def _portfolio_content(session: Session, portfolio_id: int) -> dict[str, Any]:
    portfolio = session.get_one(Portfolio, portfolio_id)
    lines = (
        select_rows(
            *(
                col(column)
                for column in (
                    LoanAccount.loan_id, LoanAccount.currency, LoanAccount.principal_minor, LoanAccount.interest_minor,
                    LoanAccount.fees_minor, LoanAccount.balance_minor, LoanAccount.dpd,
                )
            )
        )
        .join(PortfolioAccount, col(PortfolioAccount.account_id) == LoanAccount.id)
        .where(col(PortfolioAccount.portfolio_id) == portfolio_id)
        .order_by(col(LoanAccount.id))
        .execution_options(yield_per=ROWS_AT_ONCE)
    )  # fmt: skip
    digest = hashlib.sha256()
    for line in session.execute(lines):
        digest.update("|".join(map(str, line)).encode() + b"\n")
    return {
        "portfolio": portfolio.id,
        "name": portfolio.name,
        "cutoff_on": portfolio.cutoff_on.isoformat(),
        "accounts": portfolio.accounts,
        "principal_minor": portfolio.principal_minor,
        "balance_minor": portfolio.balance_minor,
        "accounts_sha256": digest.hexdigest(),
    }


def publish(session: Session, lot_id: int, content: Mapping[str, Any], *, person_id: int, at: datetime) -> int:
    """Freeze and hash an approved lot, list its accounts, begin the journal of its auction; return the auction's id.

    `content`: from `content_of`.
    """
    lot = _locked(session, lot_id)
    to = move(lot.status, Status.PUBLISHED)
    previous = _previous(session, lot)
    _must_hold(session, lot, at)
    terms = LotTerms.model_validate(lot.terms)
    ruleset = rulesets()[terms.ruleset]
    creditor = session.get_one(Party, lot.creditor_id)
    lot.frozen, lot.frozen_hash = rules.freeze(
        _draft(lot), terms, ruleset, reference=lot.reference, currency=lot.currency, creditor=creditor.name,
        content=content,
    )  # fmt: skip
    lot.status, lot.opens_at, lot.closes_at = to, terms.opens_at, terms.closes_at
    lot.published_at = lot.published_at or at
    session.add(lot)
    _list_accounts(session, lot)
    auction = Auction(
        lot_id=lot.id, number=previous.number + 1 if previous else 1, ruleset=f"{ruleset.name}@{ruleset.version}",
        currency=lot.currency, opens_at=terms.opens_at, closes_at=terms.closes_at, created_at=at,
    )  # fmt: skip
    session.add(auction)
    session.flush()
    of_auction = rules.auction_terms(
        terms, ruleset, auction_id=auction.id, currency=lot.currency, lot_sha256=lot.frozen_hash
    )
    open_journal(session, auction.id, Create(f"create-{auction.id}", of_auction, by=person_id), at=at)
    note(session, person_id, "lot.publish", "lot", lot.id, {"auction": auction.id, "hash": lot.frozen_hash}, at=at)
    facts = notices.lot_facts(lot) | {"opens_at": terms.opens_at, "closes_at": terms.closes_at}
    notices.put(session, "lot_published", auction.id, facts, party_id=lot.creditor_id, at=at)
    session.expire(auction)  # the journal wrote its copies behind the session's back
    return auction.id


def _list_accounts(session: Session, lot: Lot) -> None:
    portfolio = session.get(Portfolio, lot.portfolio_id) if lot.portfolio_id else None
    item = session.get(Collateral, lot.collateral_id) if lot.collateral_id else None
    expected = portfolio.accounts if portfolio else int(bool(item and item.account_id))
    check_free(session, lot.creditor_id, settlement.accounts_of(lot), expected=expected)
    changed = session.execute(
        update(LoanAccount)
        .where(settlement.accounts_of(lot), col(LoanAccount.status) == "overdue")
        .values(status="listed")
    )
    if (free := int(changed.rowcount)) != expected:  # type: ignore[attr-defined]
        raise Conflict("accounts_not_free", expected=expected, free=free)


# --- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """A lot as lists show it, with its newest auction (None before publication)."""

    lot: Lot
    auction: Auction | None
    picture: int | None
    balance_minor: int | None  # of a portfolio
    appraisal_minor: int | None  # of collateral
    watched: bool = False
    buckets: tuple[tuple[str, int], ...] = ()  # of a portfolio: balance in minor units by delinquency bucket, in order

    @property
    def state(self) -> str:
        """upcoming, open, paused, sold, unsold, withdrawn; or the lot's own before publication."""
        if self.auction is None:
            return self.lot.status
        if self.auction.phase == "closed":
            return "sold" if self.auction.outcome == "sold" else "unsold"
        return self.auction.phase


@dataclass(frozen=True, slots=True)
class Filters:
    """What the catalogue shows; empty: everything."""

    kinds: tuple[str, ...] = ()
    rulesets: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    currency: str = ""
    least_minor: int | None = None
    most_minor: int | None = None
    text: str = ""
    watched_by: int | None = None
    sort: str = "closing"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One page of lots; `total` of the selection; counts by facet over all that is published."""

    cards: list[Card]
    total: int
    pages: int
    facets: dict[str, dict[str, int]] = field(default_factory=dict)


_STATE: Any = case(
    (and_(col(Auction.phase) == "closed", col(Auction.outcome) == "sold"), "sold"),
    (col(Auction.phase) == "closed", "unsold"),
    else_=col(Auction.phase),
)
_PRICE: Any = func.coalesce(Auction.price_minor, Lot.terms["opening_minor"].as_integer())
STATES = ("open", "paused", "upcoming", "sold", "unsold", "withdrawn")
SORTS = ("closing", "newest", "price", "price_down")


def catalogue(session: Session, filters: Filters, *, person_id: int | None = None) -> Catalogue:
    """Return one page of the published lots, each with its newest auction."""
    newest = select(func.max(Auction.id)).where(Auction.lot_id == Lot.id).correlate(Lot).scalar_subquery()
    joined = select(Lot, Auction).join(Auction, col(Auction.id) == newest)
    where = _where(filters)
    phase = col(Auction.phase)
    orders: dict[str, list[Any]] = {
        "closing": [case((phase.in_(("open", "paused")), 0), (phase == "upcoming", 1), else_=2),
                    case((phase.in_(("closed", "withdrawn")), None), else_=Auction.closes_at),
                    col(Auction.closes_at).desc()],
        "newest": [col(Lot.published_at).desc()],
        "price": [_PRICE],
        "price_down": [_PRICE.desc()],
    }  # fmt: skip
    rows = session.exec(
        joined.where(*where)
        .order_by(*orders[filters.sort], col(Lot.id).desc())
        .limit(PAGE)
        .offset((filters.page - 1) * PAGE)
    ).all()
    counted = select(func.count()).select_from(Lot).join(Auction, col(Auction.id) == newest)
    total = session.exec(counted.where(*where)).one()
    facets: dict[str, dict[str, int]] = {}
    for name, expression in (("kind", col(Lot.kind)), ("state", _STATE), ("ruleset", col(Auction.ruleset))):
        grouped = select(expression, func.count()).select_from(Lot).join(Auction, col(Auction.id) == newest)
        facets[name] = {
            str(value).partition("@")[0]: number for value, number in session.execute(grouped.group_by(expression))
        }
    return Catalogue(_cards(session, rows, person_id), total, -(-total // PAGE), facets)


def _where(filters: Filters) -> list[ColumnElement[bool]]:
    where: list[Any] = [col(Lot.published_at).is_not(None)]
    if filters.kinds:
        where.append(col(Lot.kind).in_(filters.kinds))
    if filters.states:
        where.append(_STATE.in_(filters.states))
    if filters.rulesets:
        where.append(or_(*(col(Auction.ruleset).like(f"{name}@%") for name in filters.rulesets)))
    if filters.currency:
        where.append(Lot.currency == filters.currency)
    if filters.least_minor is not None:
        where.append(filters.least_minor <= _PRICE)
    if filters.most_minor is not None:
        where.append(filters.most_minor >= _PRICE)
    if filters.text:
        pattern = "%" + filters.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        fields = (Lot.title_en, Lot.title_zh, Lot.place, Lot.reference)
        where.append(or_(*(col(one).ilike(pattern, escape="\\") for one in fields)))
    if filters.watched_by is not None:
        where.append(col(Lot.id).in_(select(Watch.lot_id).where(Watch.person_id == filters.watched_by)))
    return where


def _cards(session: Session, rows: Any, person_id: int | None) -> list[Card]:
    pairs = [(lot, auction) for lot, auction in rows]
    item_ids = [lot.collateral_id for lot, _ in pairs if lot.collateral_id]
    portfolio_ids = [lot.portfolio_id for lot, _ in pairs if lot.portfolio_id]
    covers: dict[int, int] = {}
    for one in session.exec(
        select(Picture).where(col(Picture.collateral_id).in_(item_ids)).order_by(col(Picture.position).desc())
    ):
        covers[one.collateral_id] = one.id
    appraisals = dict(
        session.execute(select(Collateral.id, Collateral.appraisal_minor).where(col(Collateral.id).in_(item_ids))).all()
    )
    sold = select(Portfolio.id, Portfolio.balance_minor, Portfolio.strata).where(col(Portfolio.id).in_(portfolio_ids))
    balances: dict[int | None, int] = {}
    buckets: dict[int | None, tuple[tuple[str, int], ...]] = {}
    for portfolio_id, balance_minor, strata in session.exec(sold):
        balances[portfolio_id] = balance_minor
        buckets[portfolio_id] = tuple((row[0], row[3]) for row in strata.get("bucket", []))
    watched = set(session.exec(select(Watch.lot_id).where(Watch.person_id == person_id))) if person_id else set()
    return [
        Card(
            lot, auction, covers.get(lot.collateral_id), balances.get(lot.portfolio_id),
            appraisals.get(lot.collateral_id), lot.id in watched, buckets.get(lot.portfolio_id, ()),
        )
        for lot, auction in pairs
    ]  # fmt: skip


def after(session: Session, lot_id: int, *, limit: int, state: str = "", kind: str = "") -> list[Card]:
    """Return up to `limit` published lots after `lot_id`, in the order of their ids."""
    newest = select(func.max(Auction.id)).where(Auction.lot_id == Lot.id).correlate(Lot).scalar_subquery()
    where = _where(Filters(states=(state,) if state else (), kinds=(kind,) if kind else ()))
    rows = session.exec(
        select(Lot, Auction)
        .join(Auction, col(Auction.id) == newest)
        .where(*where, Lot.id > lot_id)
        .order_by(col(Lot.id))
        .limit(limit)
    ).all()
    return _cards(session, rows, None)


def watch(session: Session, person_id: int, lot_id: int, *, follow: bool) -> None:
    """Put a published lot on a person's watch list, or take it off."""
    if session.exec(select(Lot.id).where(Lot.id == lot_id, col(Lot.published_at).is_not(None))).first() is None:
        raise NotFound("lot")
    there = session.get(Watch, (person_id, lot_id))
    if follow and there is None:
        session.add(Watch(person_id=person_id, lot_id=lot_id))
    elif not follow and there is not None:
        session.delete(there)


def own_lots(session: Session, creditor_id: int) -> list[Card]:
    """Return the lots of one creditor, newest first, drafts too."""
    newest = select(func.max(Auction.id)).where(Auction.lot_id == Lot.id).correlate(Lot).scalar_subquery()
    rows = session.exec(
        select(Lot, Auction)
        .join(Auction, col(Auction.id) == newest, isouter=True)
        .where(Lot.creditor_id == creditor_id)
        .order_by(col(Lot.id).desc())
        .limit(500)
    ).all()
    return _cards(session, rows, None)


def own_lot(session: Session, creditor_id: int, lot_id: int) -> Lot:
    """Return a lot of this creditor."""
    found = session.exec(select(Lot).where(Lot.id == lot_id, Lot.creditor_id == creditor_id)).first()
    if found is None:
        raise NotFound("lot")
    return found


def queue(session: Session) -> list[tuple[Lot, Party]]:
    """Return the lots that wait for the operator, the longest waiting first."""
    rows = session.exec(
        select(Lot, Party)
        .join(Party, col(Party.id) == Lot.creditor_id)
        .where(col(Lot.status).in_((Status.SUBMITTED, Status.APPROVED)))
        .order_by(col(Lot.submitted_at))
    )
    return [(lot, party) for lot, party in rows]


def live_auctions(session: Session) -> list[tuple[Lot, Auction]]:
    """Return what is on sale or about to be, the first to close first (for the operator's floor)."""
    rows = session.exec(
        select(Lot, Auction)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(col(Auction.phase).in_(("open", "paused", "upcoming")))
        .order_by(col(Auction.closes_at))
        .limit(200)
    )
    return [(lot, auction) for lot, auction in rows]


def choices(session: Session, creditor_id: int) -> dict[str, list[tuple[int, str, str]]]:
    """Return what a creditor may make a lot of, by kind of lot: (id, name in English, name in Chinese)."""
    taken = select(Lot.portfolio_id).where(
        Lot.creditor_id == creditor_id, Lot.status != Status.WITHDRAWN, col(Lot.portfolio_id).is_not(None)
    )
    portfolios = session.exec(
        select(Portfolio)
        .where(Portfolio.creditor_id == creditor_id, col(Portfolio.is_shown), col(Portfolio.id).not_in(taken))
        .order_by(col(Portfolio.id).desc())
    )
    found: dict[str, list[tuple[int, str, str]]] = {"portfolio": [(one.id, one.name, one.name) for one in portfolios]}
    held = select(Lot.collateral_id).where(
        Lot.creditor_id == creditor_id, Lot.status != Status.WITHDRAWN, col(Lot.collateral_id).is_not(None)
    )
    items = session.exec(
        select(Collateral)
        .where(Collateral.creditor_id == creditor_id, col(Collateral.id).not_in(held))
        .order_by(col(Collateral.id).desc())
    )
    for one in items:
        found.setdefault(one.kind, []).append((one.id, one.title_en, one.title_zh))
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """A lot as one viewer may see it, with everything around it."""

    lot: Lot
    auctions: list[Auction]  # oldest first
    creditor: Party
    portfolio: Portfolio | None
    item: Collateral | None
    pictures: list[Picture]
    participation: Participation | None  # the viewer's party, in the newest auction
    conflict: str  # why the viewer's party would not be let into it, as a code; "" when nothing is known against it
    deposit: PaymentDue | None
    sale: Sale | None  # only for the buyer, the creditor and the operator
    balance: PaymentDue | None
    bank: BankAccount | None  # where the viewer's deposit or balance is paid to
    watched: bool

    @property
    def auction(self) -> Auction | None:
        return self.auctions[-1] if self.auctions else None


def lot_to_show(
    session: Session, lot_id: int, *, party_id: int | None, person_id: int | None, is_operator: bool
) -> Shown:
    """Return a lot that this viewer may see: published, all; before, its creditor, and the operator once submitted."""
    rights: list[Any] = [col(Lot.published_at).is_not(None)]
    if party_id is not None:
        rights.append(col(Lot.creditor_id) == party_id)
    if is_operator:
        rights.append(col(Lot.submitted_at).is_not(None))
    lot = session.exec(select(Lot).where(Lot.id == lot_id, or_(*rights))).first()
    if lot is None:
        raise NotFound("lot")
    auctions = list(session.exec(select(Auction).where(Auction.lot_id == lot_id).order_by(col(Auction.number))))
    participation = deposit = sale = balance = None
    conflict = ""
    if auctions:
        of_auction = Participation.auction_id == auctions[-1].id
        if party_id is not None:
            participation = session.exec(
                select(Participation).where(of_auction, Participation.party_id == party_id)
            ).first()
            if participation is None:
                conflict = participations.conflict(session, lot, session.get_one(Party, party_id))
            dues = session.exec(
                select(PaymentDue).where(PaymentDue.auction_id == auctions[-1].id, PaymentDue.party_id == party_id)
            ).all()
            deposit = next((due for due in dues if due.kind == "deposit"), None)
            balance = next((due for due in dues if due.kind == "balance"), None)
            of_party = or_(col(Sale.buyer_id) == party_id, col(Lot.creditor_id) == party_id)
            sale = session.exec(
                select(Sale)
                .join(Lot, col(Lot.id) == Sale.lot_id)
                .where(Sale.auction_id == auctions[-1].id, true() if is_operator else of_party)
            ).first()
    item = session.get(Collateral, lot.collateral_id) if lot.collateral_id else None
    pictures = []
    if item is not None:
        found = select(Picture).where(Picture.collateral_id == item.id).order_by(col(Picture.position))
        pictures = list(session.exec(found))
    return Shown(
        lot=lot,
        auctions=auctions,
        creditor=session.get_one(Party, lot.creditor_id),
        portfolio=session.get(Portfolio, lot.portfolio_id) if lot.portfolio_id else None,
        item=item,
        pictures=pictures,
        participation=participation,
        conflict=conflict,
        deposit=deposit,
        sale=sale,
        balance=balance,
        bank=settlement.account_to_pay(session, lot.currency) if deposit or balance else None,
        watched=person_id is not None and session.get(Watch, (person_id, lot_id)) is not None,
    )


# --- what a room shows of the journal --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BidRow:
    """One bid that everybody has seen: its entry, instant and how it came (`bid`, `auto_bid`)."""

    sequence: int
    at: datetime
    bidder: int
    amount_minor: int
    how: str
    extended: bool  # the entry moved the end


def bids(session: Session, auction_id: int, *, limit: int) -> list[BidRow]:
    """Return the last bids of an auction, newest first; those of one entry in their reverse order."""
    rows = session.execute(
        select(col(Entry.sequence), col(Entry.at_ms), col(Entry.public))
        .where(Entry.auction_id == auction_id, or_(*(col(Entry.public).contains(mark) for mark in _BID_MARKS)))
        .order_by(col(Entry.sequence).desc())
        .limit(limit)
    )
    found: list[BidRow] = []
    for sequence, at_ms, public in rows:
        events = json.loads(public)["events"]
        extended = any(event["type"] == "extended" for event in events)
        for event in reversed([event for event in events if event["type"] in ("bid", "auto_bid")]):
            at = rules.from_ms(at_ms)
            found.append(BidRow(sequence, at, event["bidder"], event["amount_minor"], event["type"], extended))
    return found


_BID_MARKS = ('{"type":"bid"', '{"type":"auto_bid"')


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What never changes about an auction: enough to show its standing without another look."""

    auction_id: int
    lot_id: int
    number: int
    reference: str
    title_en: str
    title_zh: str
    currency: str
    terms: Terms
    lot_terms: LotTerms
    picture: int | None
    creditor_id: int


def room_facts(session: Session, auction_id: int) -> RoomFacts:
    """Return what never changes about an auction: the terms are those of its journal's first entry."""
    row = session.exec(
        select(Auction, Lot).join(Lot, col(Lot.id) == Auction.lot_id).where(Auction.id == auction_id)
    ).first()
    if row is None:
        raise NotFound("auction")
    auction, lot = row
    [first] = entries_after(session, auction_id, 0, limit=1)
    created = first.events[0]
    assert isinstance(created, Created)
    cover = None
    if lot.collateral_id:
        cover = session.exec(
            select(Picture.id)
            .where(Picture.collateral_id == lot.collateral_id)
            .order_by(col(Picture.position))
            .limit(1)
        ).first()
    return RoomFacts(
        auction_id, lot.id, auction.number, lot.reference, lot.title_en, lot.title_zh, lot.currency, created.terms,
        LotTerms.model_validate((lot.frozen or {})["terms"]), cover, lot.creditor_id,
    )  # fmt: skip


# --- shared -------------------------------------------------------------------------------------------


def _columns(draft: LotDraft) -> dict[str, Any]:
    return {
        "kind": draft.kind,
        "portfolio_id": draft.content_id if draft.kind == "portfolio" else None,
        "collateral_id": None if draft.kind == "portfolio" else draft.content_id,
        "title_en": draft.title_en,
        "title_zh": draft.title_zh,
        "text_en": draft.text_en,
        "text_zh": draft.text_zh,
        "place": draft.place,
    }


def _draft(lot: Lot) -> LotDraft:
    content_id = lot.portfolio_id or lot.collateral_id
    assert content_id is not None
    return LotDraft(lot.kind, content_id, lot.title_en, lot.title_zh, lot.text_en, lot.text_zh, lot.place)


def _content_currency(session: Session, creditor_id: int, draft: LotDraft, *, lot_id: int | None) -> str:
    """The currency of what a lot sells; it must be the creditor's, of that kind, and in no other lot on its way."""
    if draft.kind == "portfolio":
        mine = select(Portfolio.currency).where(
            Portfolio.id == draft.content_id, Portfolio.creditor_id == creditor_id, col(Portfolio.is_shown)
        )
        holds = col(Lot.portfolio_id) == draft.content_id
    else:
        mine = select(Collateral.currency).where(
            Collateral.id == draft.content_id, Collateral.creditor_id == creditor_id, Collateral.kind == draft.kind
        )
        holds = col(Lot.collateral_id) == draft.content_id
    currency = session.exec(mine).first()
    if currency is None:
        raise BadInput(
            [Fault("content_unknown", "content_id", str(draft.content_id), f"one of your own: {draft.kind}")]
        )
    others = select(Lot.reference).where(holds, Lot.status != Status.WITHDRAWN, col(Lot.id) != (lot_id or 0))
    if other := session.exec(others).first():
        raise Conflict("content_in_lot", lot=other)
    return currency


def _previous(session: Session, lot: Lot) -> Previous | None:
    """The lot's last auction, as the rules about the next one see it."""
    last = session.exec(
        select(Auction).where(Auction.lot_id == lot.id).order_by(col(Auction.number).desc()).limit(1)
    ).first()
    if last is None or lot.frozen is None:
        return None
    outcome = "defaulted" if last.outcome == "sold" else "unsold"
    return Previous(last.number, outcome, int(lot.frozen["terms"]["opening_minor"]), last.closes_at)


def _must_hold(session: Session, lot: Lot, at: datetime) -> None:
    if not lot.terms:
        raise BadInput([Fault("missing", "terms", "", "ruleset, price and dates")])
    if faults := [check.fault() for check in listing_checks(session, lot, at=at) if not check.holds]:
        raise BadInput(faults)


def _own(session: Session, creditor_id: int, lot_id: int) -> Lot:
    found = session.exec(select(Lot).where(Lot.id == lot_id, Lot.creditor_id == creditor_id).with_for_update()).first()
    if found is None:
        raise NotFound("lot")
    return found


def _locked(session: Session, lot_id: int) -> Lot:
    found = session.exec(select(Lot).where(Lot.id == lot_id).with_for_update()).first()
    if found is None:
        raise NotFound("lot")
    return found


def _submitted(session: Session, lot_id: int, person_id: int) -> Lot:
    lot = _locked(session, lot_id)
    if lot.submitted_at is None:
        raise NotFound("lot")
    if lot.created_by == person_id:
        raise NotAllowed("four_eyes")
    return lot
