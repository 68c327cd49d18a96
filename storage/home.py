"""What the first page and the homes of the roles show: what needs somebody now, what is live, where the money is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy import select as select_rows
from sqlmodel import Session, col, select

from storage.tables import (
    Auction,
    Entry,
    LineShare,
    Lot,
    Outbox,
    Participation,
    Party,
    PaymentDue,
    Payout,
    Portfolio,
    Sale,
    SaleStep,
    Statement,
    StatementLine,
    Tape,
)

MOST_NEEDS = 7
MOST_LOTS = 12
TRIES_THAT_WORRY = 3  # of work after the commit


@dataclass(frozen=True, slots=True)
class OnSale:
    """A lot and one of its auctions, as lists show it."""

    lot: Lot
    auction: Auction
    bidder: int | None = None  # mine, where the reader takes part
    status: str = ""  # of my participation

    @property
    def price_minor(self) -> int:
        """The standing, or the opening while there is no bid."""
        opening: int = (self.lot.frozen or {"terms": self.lot.terms})["terms"]["opening_minor"]
        return self.auction.price_minor if self.auction.price_minor is not None else opening


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for the reader: a code of web/words with its facts, where to go, until when."""

    code: str
    address: str
    facts: dict[str, Any]
    since: datetime
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One column of a board: how many, and how much by currency."""

    name: str
    count: int
    sums: tuple[tuple[str, int], ...] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class Front:
    """The first page."""

    live: list[OnSale]
    closing: list[OnSale]
    results: list[OnSale]
    next_opening: OnSale | None


@dataclass(frozen=True, slots=True)
class Home:
    """A role's home."""

    needs: list[Need]
    live: list[OnSale]
    board: list[Stage]
    money: list[Stage] = field(default_factory=list)


def _on_sale(session: Session, *where: Any, by: Any, limit: int, party_id: int | None = None) -> list[OnSale]:
    rows = session.exec(
        select(Lot, Auction)
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .where(col(Lot.published_at).is_not(None), *where)
        .order_by(by, col(Auction.id))
        .limit(limit)
    ).all()
    mine: dict[int, Participation] = {}
    if party_id is not None:
        found = select(Participation).where(
            Participation.party_id == party_id,
            col(Participation.auction_id).in_([auction.id for _, auction in rows]),
        )
        mine = {one.auction_id: one for one in session.exec(found)}
    return [
        OnSale(
            lot, auction,
            mine[auction.id].bidder if auction.id in mine else None,
            mine[auction.id].status if auction.id in mine else "",
        )
        for lot, auction in rows
    ]  # fmt: skip


def front(session: Session, *, at: datetime) -> Front:
    """Three live lots, the next that close, the last results, and when the next one opens."""
    soonest, latest = col(Auction.closes_at), col(Auction.closes_at).desc()
    live = _on_sale(session, Auction.phase == "open", Auction.closes_at > at, by=soonest, limit=9)
    results = _on_sale(session, Auction.phase == "closed", Auction.outcome == "sold", by=latest, limit=5)
    opening = _on_sale(session, Auction.phase == "upcoming", by=col(Auction.opens_at), limit=1)
    return Front(live[:3], live[3:], results, opening[0] if opening else None)


def _oldest_first(needs: Sequence[Need]) -> list[Need]:
    return sorted(needs, key=lambda need: need.due_at or need.since)[:MOST_NEEDS]


def _sums(rows: Sequence[tuple[str, int, int]]) -> tuple[int, tuple[tuple[str, int], ...]]:
    return sum(count for _, count, _ in rows), tuple((currency, int(total or 0)) for currency, _, total in rows)


def _lots(session: Session, creditor_id: int, *statuses: str) -> int:
    return session.exec(
        select(func.count()).select_from(Lot).where(Lot.creditor_id == creditor_id, col(Lot.status).in_(statuses))
    ).one()


def _sales(session: Session, amount: Any, *where: Any) -> tuple[int, tuple[tuple[str, int], ...]]:
    return _sums(
        session.exec(
            select(Sale.currency, func.count(), func.sum(amount))
            .join(Lot, col(Lot.id) == Sale.lot_id)
            .where(*where)
            .group_by(Sale.currency)
            .order_by(Sale.currency)
        ).all()
    )


def asset_manager(session: Session, creditor_id: int, *, at: datetime) -> Home:
    """Faults, lots sent back, sales that failed; the way from tape to closed out; money to come, here, and late."""
    needs = [
        Need(
            f"need_tape_{tape.status}",
            f"/tapes/{tape.id}",
            {"name": tape.filename, "faults": tape.faults},
            tape.created_at,
        )
        for tape in session.exec(
            select(Tape)
            .where(Tape.creditor_id == creditor_id, col(Tape.status).in_(("faulty", "needs_mapping", "refused")))
            .order_by(col(Tape.id).desc())
            .limit(MOST_NEEDS)
        )
    ]  # fmt: skip
    needs += [
        Need("need_lot_draft", f"/lots/{lot.id}/edit", {"lot": lot.reference}, lot.decided_at or lot.created_at)
        for lot in session.exec(
            select(Lot)
            .where(Lot.creditor_id == creditor_id, Lot.status == "draft")
            .order_by(col(Lot.id).desc())
            .limit(MOST_NEEDS)
        )
    ]
    failed = _oldest_first(_to_list_again(session, creditor_id))
    own = Lot.creditor_id == creditor_id
    tapes = session.exec(
        select(func.count()).select_from(Tape).where(Tape.creditor_id == creditor_id, Tape.status == "kept")
    ).one()
    portfolios = _sums(
        session.exec(
            select(Portfolio.currency, func.count(), func.sum(Portfolio.balance_minor))
            .where(Portfolio.creditor_id == creditor_id, col(Portfolio.is_shown))
            .group_by(Portfolio.currency)
            .order_by(Portfolio.currency)
        ).all()
    )
    price = Sale.hammer_minor
    board = [
        Stage("board_tapes", tapes, address="/tapes"),
        Stage("board_portfolios", *portfolios, address="/portfolios"),
        Stage("board_preparing", _lots(session, creditor_id, "draft", "submitted", "approved"), address="/lots/mine"),
        Stage("board_on_sale", _lots(session, creditor_id, "published", "live"), address="/lots/mine"),
        Stage("board_sold", *_sales(session, price, own, Sale.status == "awaiting_balance"), address="/sales"),
        Stage("board_paid", *_sales(session, price, own, Sale.status == "paid"), address="/sales"),
        Stage("board_closed_out", *_sales(session, price, own, Sale.status == "closed_out"), address="/sales"),
    ]
    to_come = Sale.hammer_minor - Sale.commission_minor
    waiting = Sale.status == "awaiting_balance"
    received = session.exec(
        select(Payout.currency, func.count(), func.sum(Payout.amount_minor))
        .where(Payout.party_id == creditor_id, Payout.kind == "proceeds")
        .group_by(Payout.currency)
        .order_by(Payout.currency)
    ).all()
    money = [
        Stage("money_expected", *_sales(session, to_come, own, waiting, Sale.due_at >= at), address="/sales"),
        Stage("money_received", *_sums(received), address="/sales"),
        Stage("money_late", *_sales(session, to_come, own, waiting, Sale.due_at < at), address="/sales"),
    ]
    live = _on_sale(
        session, own, col(Auction.phase).in_(("open", "paused", "upcoming")), by=col(Auction.closes_at), limit=MOST_LOTS
    )
    return Home([*failed, *_oldest_first(needs)][:MOST_NEEDS], live, board, money)


def _to_list_again(session: Session, creditor_id: int) -> list[Need]:
    """Lots that were not sold, or not paid: since that day, and to the terms of their next auction."""
    rows = session.execute(
        select_rows(
            col(Lot.id), col(Lot.reference), col(Lot.status), func.max(Auction.closes_at), func.max(Sale.defaulted_at)
        )
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .join(Sale, col(Sale.auction_id) == Auction.id, isouter=True)
        .where(col(Lot.creditor_id) == creditor_id, col(Lot.status).in_(("unsold", "defaulted")))
        .group_by(col(Lot.id))
        .order_by(col(Lot.id))
    ).all()
    return [
        Need(f"need_lot_{status}", f"/lots/{lot_id}/edit?step=terms", {"lot": reference},
             defaulted_at if status == "defaulted" and defaulted_at else closed_at)
        for lot_id, reference, status, closed_at, defaulted_at in rows
    ]  # fmt: skip


def investor(session: Session, party_id: int, *, at: datetime) -> Home:
    """What to pay, where I do not lead, what I take part in, and where my deposits are."""
    running = _on_sale(
        session,
        col(Auction.id).in_(select(Participation.auction_id).where(Participation.party_id == party_id)),
        col(Auction.phase).in_(("open", "paused", "upcoming")),
        by=col(Auction.closes_at), limit=MOST_LOTS, party_id=party_id,
    )  # fmt: skip
    due = session.exec(
        select(PaymentDue, Lot)
        .join(Auction, col(Auction.id) == PaymentDue.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(PaymentDue.party_id == party_id, col(PaymentDue.status).in_(("open", "late")))
        .order_by(col(PaymentDue.due_at))
        .limit(MOST_NEEDS)
    ).all()
    needs = [
        Need(
            f"need_{payment.kind}",
            f"/sales/{payment.sale_id}" if payment.sale_id else f"/lots/{lot.id}",
            {
                "amount_minor": payment.amount_minor - payment.paid_minor, "currency": payment.currency,
                "reference": payment.reference, "lot": lot.reference,
            },
            payment.created_at,
            payment.due_at,
        )
        for payment, lot in due
    ]  # fmt: skip
    needs += [
        Need(
            "need_outbid", f"/lots/{one.lot.id}",
            {"lot": one.lot.reference, "price_minor": one.price_minor, "currency": one.lot.currency},
            one.auction.closes_at, one.auction.closes_at,
        )
        for one in running
        if one.auction.phase == "open" and one.bidder and one.auction.leader not in (None, one.bidder)
    ]  # fmt: skip
    deposits = session.exec(
        select(PaymentDue.currency, func.count(), func.sum(PaymentDue.paid_minor))
        .join(Participation, col(Participation.auction_id) == PaymentDue.auction_id)
        .where(
            PaymentDue.party_id == party_id, PaymentDue.kind == "deposit", PaymentDue.paid_minor > 0,
            Participation.party_id == party_id, col(Participation.status).in_(("awaiting_deposit", "admitted")),
        )
        .group_by(PaymentDue.currency)
        .order_by(PaymentDue.currency)
    ).all()  # fmt: skip
    to_pay = session.exec(
        select(PaymentDue.currency, func.count(), func.sum(PaymentDue.amount_minor - PaymentDue.paid_minor))
        .where(PaymentDue.party_id == party_id, col(PaymentDue.status).in_(("open", "late")))
        .group_by(PaymentDue.currency)
        .order_by(PaymentDue.currency)
    ).all()
    mine = Sale.buyer_id == party_id
    money = [
        Stage("money_deposits", *_sums(deposits), address="/bids"),
        Stage("money_to_pay", *_sums(to_pay), address="/bids"),
        Stage("money_bought", *_sales(session, Sale.hammer_minor, mine, Sale.status != "defaulted"), address="/sales"),
    ]
    closing = _on_sale(session, Auction.phase == "open", Auction.closes_at > at, by=col(Auction.closes_at), limit=6)
    taken = {one.auction.id for one in running}
    return Home(_oldest_first(needs), running + [one for one in closing if one.auction.id not in taken][:4], [], money)


def operator(session: Session, *, at: datetime) -> Home:
    """The queues with their lengths and their oldest, and the floor by closing."""
    queues = [
        _queue(
            session, "board_admission", "/parties?status=registered", Party.created_at, Party.status == "registered"
        ),
        _queue(session, "board_lots", "/lots/queue", Lot.submitted_at, col(Lot.status).in_(("submitted", "approved"))),
        _queue(
            session, "board_participations", "/participations", Participation.created_at,
            Participation.status == "requested",
        ),
        _queue(
            session, "board_lines", "/reconciliation", Statement.created_at, StatementLine.status == "waiting",
            StatementLine.statement_id == Statement.id,
        ),
        _queue(session, "board_payouts", "/payouts", Payout.created_at, Payout.status == "due"),
        _queue(
            session, "board_troubled", "/jobs?state=failing", Outbox.due_at, col(Outbox.done_at).is_(None),
            Outbox.attempts >= TRIES_THAT_WORRY,
        ),
    ]  # fmt: skip
    board = [stage for stage, _ in queues]
    needs = [
        Need(f"need_{stage.name.removeprefix('board_')}", stage.address, {"count": stage.count}, oldest)
        for stage, oldest in queues
        if stage.count
    ]
    needs += [*_paused(session), *_claims(session), *_unpaid_leaders(session)]
    live = _on_sale(
        session, col(Auction.phase).in_(("open", "paused", "upcoming")), by=col(Auction.closes_at), limit=40
    )
    return Home(_oldest_first(needs), live, board)


def _paused(session: Session) -> list[Need]:
    """Lots whose time stands still: bidders wait for somebody to resume or withdraw them. Since: the journal."""
    rows = session.exec(
        select(Lot, Auction)
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .where(Auction.phase == "paused")
        .order_by(col(Auction.id))
        .limit(MOST_NEEDS)
    ).all()
    needs = []
    for lot, auction in rows:
        since_ms = session.exec(
            select(Entry.at_ms)
            .where(Entry.auction_id == auction.id, col(Entry.public).contains('"type":"paused"'))
            .order_by(col(Entry.sequence).desc())
            .limit(1)
        ).one()
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        needs.append(Need("need_paused", f"/lots/{lot.id}", {"lot": lot.reference}, since))
    return needs


def _claims(session: Session) -> list[Need]:
    """What the bank took back after the accounts were closed out, or the money sent on: claims, until they are paid."""
    rows = session.exec(
        select(PaymentDue, Lot, Sale)
        .join(Auction, col(Auction.id) == PaymentDue.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .join(Sale, col(Sale.id) == PaymentDue.sale_id, isouter=True)
        .where(
            PaymentDue.status == "open", (col(PaymentDue.kind) == "claim") | (col(Sale.status) == "closed_out"),
        )
        .order_by(col(PaymentDue.id))
        .limit(MOST_NEEDS)
    ).all()  # fmt: skip
    needs = []
    for due, lot, sale in rows:
        since = due.created_at
        if sale is not None:
            taken_at = select(func.max(SaleStep.at)).where(SaleStep.sale_id == sale.id, SaleStep.step == "taken_back")
            since = session.exec(taken_at).one() or since
        facts = {
            "amount_minor": due.amount_minor - due.paid_minor, "currency": due.currency, "lot": lot.reference,
            "reference": due.reference,
        }  # fmt: skip
        code = "need_taken_back" if sale is not None else "need_claim_open"
        needs.append(Need(code, f"/sales/{sale.id}" if sale is not None else "/payments", facts, since))
    return needs


def _unpaid_leaders(session: Session) -> list[Need]:
    """Who leads and whose deposit the bank took back: his bid binds, and somebody must know."""
    rows = session.execute(
        select_rows(Lot, Auction, Participation, func.max(LineShare.undone_at))
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .join(
            Participation,
            (col(Participation.auction_id) == Auction.id) & (col(Participation.bidder) == Auction.leader),
        )
        .join(
            PaymentDue,
            (col(PaymentDue.auction_id) == Auction.id) & (col(PaymentDue.party_id) == Participation.party_id),
        )
        .join(LineShare, col(LineShare.payment_due_id) == PaymentDue.id)
        .where(
            col(Auction.phase).in_(("open", "paused")), col(Participation.status) == "awaiting_deposit",
            col(LineShare.undone_at).is_not(None),
        )
        .group_by(col(Lot.id), col(Auction.id), col(Participation.id))
        .order_by(col(Auction.id))
        .limit(MOST_NEEDS)
    ).all()  # fmt: skip
    return [
        Need(
            "need_leader_unpaid", f"/lots/{lot.id}", {"lot": lot.reference, "bidder": asked.bidder}, since,
            auction.closes_at,
        )
        for lot, auction, asked, since in rows
    ]  # fmt: skip


def _queue(session: Session, name: str, address: str, since: Any, *where: Any) -> tuple[Stage, Any]:
    count, oldest = session.exec(select(func.count(), func.min(since)).where(*where)).one()
    return Stage(name, count, address=address), oldest
