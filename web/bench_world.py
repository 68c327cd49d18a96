"""A marketplace to measure and to test with: a creditor, investors with API keys, lots whose auctions are open.

Everything stands in the real tables and journals, written the way the product writes it, only without its pages.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session

from auctions.journal import Fold
from auctions.messages import Admit, Command, Create, Tick
from auctions.rulesets import Terms, packaged
from auctions.sequencer import TURN_LIMIT, Waiting, Work
from market.parties import name_key
from storage import journal, tables
from storage.database import Database
from web.render import utc_now
from web.security import new_key

UNLIMITED_MINOR = 10**15


@dataclass(frozen=True, slots=True)
class Investor:
    """One party with one person, and the person's API key."""

    party_id: int
    person_id: int
    key: str


@dataclass(frozen=True, slots=True)
class World:
    """What was made, in order."""

    creditor_id: int
    operator_id: int
    investors: tuple[Investor, ...]
    auctions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sale:
    """The terms that the auctions have in common."""

    ruleset: str = "english-proxy-soft-close"
    opening_minor: int = 100_000
    step_minor: int | None = 10_000
    reserve: Literal["none", "open", "hidden"] = "none"
    reserve_minor: int | None = None
    currency: str = "CNY"
    opens_in: timedelta = timedelta(seconds=-60)
    lasts: timedelta = timedelta(days=2)


def make_people(session: Session, count: int, *, at: datetime) -> tuple[int, int, list[Investor]]:
    """Add a creditor with one person, an operator, and `count` investors with keys; return their ids."""

    def add(name: str, role: str, scopes: list[str]) -> Investor:
        party = tables.Party(
            kind="organisation", name=name, name_key=name_key(name), status="admitted", created_at=at, decided_at=at
        )
        session.add(party)
        session.flush()
        email = f"{name.lower().replace(' ', '.')}@example.com"
        person = tables.Person(
            party_id=party.id, email=email, email_key=name_key(email), name=name, roles=[role], created_at=at
        )
        session.add(person)
        session.flush()
        text, prefix, secret_hash = new_key()
        session.add(
            tables.ApiKey(
                person_id=person.id, name="bench", prefix=prefix, secret_hash=secret_hash, scopes=scopes, created_at=at
            )
        )
        return Investor(party.id, person.id, text)

    creditor = add("Bench Creditor", "asset_manager", ["read", "write"])
    operator = add("Bench Operator", "operator", ["read", "write"])
    investors = [add(f"Bench Investor {n}", "investor", ["read", "write", "bid"]) for n in range(1, count + 1)]
    return creditor.party_id, operator.person_id, investors


def make_auctions(
    session: Session, creditor_id: int, person_id: int, count: int, sale: Sale, *, at: datetime
) -> list[int]:
    """Add `count` published lots with an auction each, whose journals have begun; return the auctions' ids."""
    made = []
    opens_at, closes_at = at + sale.opens_in, at + sale.opens_in + sale.lasts
    for number in range(1, count + 1):
        lot = tables.Lot(
            reference=f"B-{at:%H%M%S%f}-{number}",
            creditor_id=creditor_id,
            kind="vehicle",
            title_en=f"Vehicle {number}",
            title_zh=f"车辆 {number}",
            status="published",
            currency=sale.currency,
            terms={},
            opens_at=opens_at,
            closes_at=closes_at,
            created_by=person_id,
            created_at=at,
            published_at=at,
        )
        session.add(lot)
        session.flush()
        auction = tables.Auction(
            lot_id=lot.id, ruleset=f"{sale.ruleset}@1", currency=sale.currency, opens_at=opens_at, closes_at=closes_at,
            created_at=at,
        )  # fmt: skip
        session.add(auction)
        session.flush()
        terms = Terms(
            auction_id=auction.id,
            currency=sale.currency,
            lot_sha256=hashlib.sha256(lot.reference.encode()).hexdigest(),
            ruleset=packaged(sale.ruleset),
            opening_minor=sale.opening_minor,
            opens_at_ms=_ms(opens_at),
            closes_at_ms=_ms(closes_at),
            step_minor=sale.step_minor,
            reserve=sale.reserve,
            reserve_minor=sale.reserve_minor,
        )
        journal.open_journal(session, auction.id, Create(f"create-{auction.id}", terms, by=person_id), at=at)
        made.append(auction.id)
    return made


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


async def journal_all(
    turns: journal.Journal, auction_id: int, wanted: Sequence[Command], fold: Fold | None = None
) -> Fold:
    """Have commands journaled in turns, as a node does; return the fold."""
    fold = Fold(auction_id) if fold is None else fold
    for at in range(0, len(wanted), TURN_LIMIT):
        now = asyncio.get_running_loop().time()
        waiting = [Waiting(auction_id, each, now, lambda _: None) for each in wanted[at : at + TURN_LIMIT]]
        await turns.turn([Work(auction_id, fold, waiting)])
    return fold


async def make_world(db: Database, *, investors: int, auctions: int, sale: Sale | None = None) -> World:
    """Make people and auctions, admit everybody to every auction, and open those whose time has come."""
    sale = sale or Sale()
    at = utc_now()
    creditor_id, person_id, people = db.in_transaction(make_people, investors, at=at)
    ids = db.in_transaction(make_auctions, creditor_id, person_id, auctions, sale, at=at)
    turns = journal.journal_of(db)
    try:
        for auction_id in ids:
            admits = [Admit(f"admit-{one.party_id}", one.party_id, UNLIMITED_MINOR, by=person_id) for one in people]
            opening: list[Command] = [Tick()] if sale.opens_in.total_seconds() <= 0 else []
            await journal_all(turns, auction_id, [*admits, *opening])
    finally:
        await turns.close()
    return World(creditor_id, person_id, tuple(people), tuple(ids))
