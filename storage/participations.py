"""A party's way into an auction: it asks and agrees, the operator decides, the deposit comes, the journal admits it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from auctions.messages import Admit
from market.errors import Conflict, NotAllowed, NotFound
from market.lots import UNLIMITED_MINOR, LotTerms, agreement_hash
from storage import notices, outbox
from storage.parties import note
from storage.settlement import ask_deposit
from storage.tables import Auction, Lot, Participation, Party, PaymentDue, Person, Sale

RUNNING = ("upcoming", "open", "paused")


def ask(
    session: Session, auction_id: int, party_id: int, *, agreed: str, limit_minor: int, person_id: int, at: datetime
) -> int:
    """Ask to take part, having agreed to the lot's terms; return the participation. Asking again is a no-op.

    `agreed`: the hash of the agreement that the person saw; `limit_minor`: the party's own limit, 0 for none.

    Raises: Conflict `auction_over`, `agreement_changed`; NotAllowed with the reason why this party may not bid here.
    """
    auction, lot = _auction(session, auction_id)
    if auction.phase not in RUNNING:
        raise Conflict("auction_over")
    if agreed != agreement_hash(lot.frozen_hash):
        raise Conflict("agreement_changed")
    party = session.get_one(Party, party_id)
    if reason := conflict(session, lot, party):
        raise NotAllowed(reason)
    there = session.exec(
        select(Participation).where(Participation.auction_id == auction_id, Participation.party_id == party_id)
    ).first()
    if there is not None:
        return there.id
    asked = Participation(
        auction_id=auction_id, party_id=party_id, agreement_hash=agreed, agreed_by=person_id, agreed_at=at,
        limit_minor=limit_minor, created_at=at,
    )  # fmt: skip
    session.add(asked)
    session.flush()
    note(session, person_id, "participation.ask", "participation", asked.id, {"agreement": agreed}, at=at)
    return asked.id


def conflict(session: Session, lot: Lot, party: Party) -> str:
    """Return why a party may not bid on a lot, as a code; "" when nothing stands against it.

    The creditor does not buy from itself, the platform and its people do not bid (judicial rules, art. 34), and a buyer
    who did not pay for this lot is barred from its re-auction (art. 24).
    """
    if party.status != "admitted":
        return "party_not_admitted"
    if lot.creditor_id == party.id:
        return "own_lot"
    roles = session.exec(select(Person.roles).where(Person.party_id == party.id)).all()
    if any("operator" in one for one in roles):
        return "conflict_of_interest"
    defaulted = select(Sale.id).where(Sale.lot_id == lot.id, Sale.buyer_id == party.id, Sale.status == "defaulted")
    if session.exec(defaulted).first() is not None:
        return "defaulted_buyer"
    return ""


def approve(
    session: Session, participation_id: int, *, priority_rank: int | None, person_id: int, at: datetime
) -> PaymentDue | None:
    """Let a party in, once its deposit has come; return the payment that is expected, None where no deposit is asked.

    `priority_rank`: 1 goes first; only where the ruleset knows priority buyers.
    """
    asked, auction, lot = _waiting(session, participation_id)
    party = session.get_one(Party, asked.party_id)
    if reason := conflict(session, lot, party):
        raise NotAllowed(reason)
    terms = LotTerms.model_validate((lot.frozen or {})["terms"])
    if priority_rank is not None and not (lot.frozen or {})["ruleset"]["bidding"].get("priority_buyers"):
        raise Conflict("no_priority")
    asked.limit_minor = terms.limit_minor(asked.limit_minor)
    asked.priority_rank, asked.decided_by, asked.decided_at = priority_rank, person_id, at
    asked.status = "awaiting_deposit"
    session.add(asked)
    note(session, person_id, "participation.approve", "participation", asked.id, {"rank": priority_rank}, at=at)
    if not terms.deposit_minor:
        put_admission(session, asked, at=at)
        return None
    due = ask_deposit(
        session, auction_id=auction.id, party_id=asked.party_id, amount_minor=terms.deposit_minor,
        currency=lot.currency, due_at=auction.closes_at, at=at,
    )  # fmt: skip
    facts = notices.lot_facts(lot) | {
        "amount_minor": due.amount_minor, "reference": due.reference, "due_at": due.due_at,
    }  # fmt: skip
    notices.put(session, "deposit_expected", due.id, facts, party_id=asked.party_id, at=at)
    return due


def put_admission(session: Session, asked: Participation, *, at: datetime) -> None:
    """Leave the `Admit` for the auction's sequencer; the key makes sending it twice harmless."""
    command = Admit(f"admit-{asked.id}", asked.party_id, asked.limit_minor, asked.priority_rank)
    arguments = {"auction_id": asked.auction_id, "command": json.loads(command.text())}
    outbox.put(session, "submit_command", f"admit:{asked.auction_id}:{asked.party_id}", arguments, at=at)


def refuse(session: Session, participation_id: int, reason: str, *, person_id: int, at: datetime) -> None:
    """Refuse a party; it reads `reason`."""
    asked, _, lot = _waiting(session, participation_id)
    asked.status, asked.decision, asked.decided_by, asked.decided_at = "refused", reason, person_id, at
    session.add(asked)
    note(session, person_id, "participation.refuse", "participation", asked.id, {"reason": reason}, at=at)
    facts = notices.lot_facts(lot) | {"reason": reason}
    notices.put(session, "participation_refused", asked.id, facts, party_id=asked.party_id, at=at)


def tell_admitted(session: Session, auction_id: int, party_id: int, *, at: datetime) -> None:
    """Tell a party whom the journal has admitted its number and its limit; again: a no-op."""
    asked = participation(session, auction_id, party_id)
    if asked is not None and asked.bidder is not None:
        _, lot = _auction(session, auction_id)
        limit_minor = asked.limit_minor if asked.limit_minor < UNLIMITED_MINOR else None
        facts = notices.lot_facts(lot) | {"bidder": asked.bidder, "limit_minor": limit_minor}
        notices.put(session, "admitted", asked.id, facts, party_id=party_id, at=at)


@dataclass(frozen=True, slots=True)
class Asking:
    """A party that waits for the operator's decision."""

    asked: Participation
    party: Party
    lot: Lot
    auction: Auction
    conflict: str


def queue(session: Session) -> list[Asking]:
    """Return who waits for the operator, the auction that opens first, then the longest waiting, first."""
    rows = session.exec(
        select(Participation, Party, Lot, Auction)
        .join(Party, col(Party.id) == Participation.party_id)
        .join(Auction, col(Auction.id) == Participation.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(Participation.status == "requested", col(Auction.phase).in_(RUNNING))
        .order_by(col(Auction.opens_at), col(Participation.id))
        .limit(200)
    ).all()
    return [Asking(asked, party, lot, auction, conflict(session, lot, party)) for asked, party, lot, auction in rows]


@dataclass(frozen=True, slots=True)
class Mine:
    """One auction that a party takes part in."""

    participation: Participation
    auction: Auction
    lot: Lot
    deposit: PaymentDue | None
    sale: Sale | None


def of_party(session: Session, party_id: int) -> list[Mine]:
    """Return the auctions that a party takes part in: running ones first, by their end; then the newest."""
    rows = session.exec(
        select(Participation, Auction, Lot)
        .join(Auction, col(Auction.id) == Participation.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(Participation.party_id == party_id)
        .order_by(col(Participation.id).desc())
        .limit(200)
    ).all()
    auction_ids = [auction.id for _, auction, _ in rows]
    dues = {
        due.auction_id: due
        for due in session.exec(
            select(PaymentDue).where(
                PaymentDue.party_id == party_id, PaymentDue.kind == "deposit",
                col(PaymentDue.auction_id).in_(auction_ids),
            )
        )
    }  # fmt: skip
    sales = {
        sale.auction_id: sale
        for sale in session.exec(select(Sale).where(Sale.buyer_id == party_id, col(Sale.auction_id).in_(auction_ids)))
    }
    mine = [Mine(asked, auction, lot, dues.get(auction.id), sales.get(auction.id)) for asked, auction, lot in rows]
    running = sorted((one for one in mine if one.auction.phase in RUNNING), key=lambda one: one.auction.closes_at)
    return running + [one for one in mine if one.auction.phase not in RUNNING]


def participation(session: Session, auction_id: int, party_id: int) -> Participation | None:
    """Return a party's participation in an auction."""
    return session.exec(
        select(Participation).where(Participation.auction_id == auction_id, Participation.party_id == party_id)
    ).first()


def _auction(session: Session, auction_id: int) -> tuple[Auction, Lot]:
    row = session.exec(
        select(Auction, Lot)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(Auction.id == auction_id, col(Lot.published_at).is_not(None))
    ).first()
    if row is None:
        raise NotFound("auction")
    return row[0], row[1]


def _waiting(session: Session, participation_id: int) -> tuple[Participation, Auction, Lot]:
    asked = session.exec(select(Participation).where(Participation.id == participation_id).with_for_update()).first()
    if asked is None:
        raise NotFound("participation")
    if asked.status != "requested":
        raise Conflict("participation_status", status=asked.status)
    auction, lot = _auction(session, asked.auction_id)
    if auction.phase not in RUNNING:
        raise Conflict("auction_over")
    return asked, auction, lot
