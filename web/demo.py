"""Keeps the demonstration alive: lots are listed, investors bid over /live, money arrives, sales close out.

The engine has no memory of its own: what to do next follows from the database and from seeds made of ids, so a
server that was killed goes on where it was.  Growth is bounded by the constants below.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

import structlog
from sqlmodel import Session, col, func, select

from auctions.rulesets import Ruleset
from market.errors import MarketError
from market.lots import LotTerms
from market.money import amount_text, parse_amount
from storage import lots, participations, parties, settlement
from storage.database import Database
from storage.objects import Objects
from storage.tables import (
    Auction,
    Lot,
    Participation,
    PaymentDue,
    Sale,
    StatementFile,
    Tape,
)
from web import demo_data
from web.client import Client, LiveError, NotAdmitted, Watch
from web.demo_acts import (
    Actor,
    Cast,
    bank_day,
    cast,
    draft_lot,
    give_book,
    give_item,
    give_statement,
    list_lot,
    make_terms,
    name_payees,
    our_bank_accounts,
    pays_now,
    portfolio_draft,
    take_part,
)
from web.demo_bidders import DemoBidder, View, bidder, next_offer
from web.demo_seed import ENGLISH
from web.render import utc_now
from web.security import new_key

log = structlog.get_logger("demo")

LOTS_MOST = 600  # lots in the database, beyond which nothing new is listed: about two days of running
TAPES_MOST = 12  # of each creditor; each gives about twenty portfolios
TAPE_ROWS = 900
PICTURES = 2  # of each new item
AHEAD = 7  # lots that open or close within the next HORIZON
HORIZON = timedelta(minutes=32)
APART_S = (200, 300)  # seconds between two closes
LASTS_S = (330, 900)  # of an auction
OPENS_AFTER_S = (80, 150)  # seconds from the listing to the opening: time to ask and to pay the deposit
AUCTIONS_OF_A_LOT = 3  # an unsold lot is offered again until then
DEPOSIT_S, BALANCE_S = 12, 75  # a payment is under way so long, and up to as long again
DEFAULT_AFTER = timedelta(minutes=6)  # then the buyer who does not pay says so
VISITOR_WAITS = timedelta(seconds=45)  # before a visitor's request is approved; an operator may be faster
LIST_EVERY_S, BANK_EVERY_S, LOOK_EVERY_S = 8.0, 9.0, 2.0
KEY_NAME = "demonstration"


class Engine:
    """The demonstration's life beside one server: `start` and `stop` belong to the application's lifespan."""

    def __init__(self, *, base_url: str, db: Database, objects: Objects, poke: Callable[[], None]) -> None:
        self.base_url, self.db, self.objects, self.poke = base_url, db, objects, poke
        self._task: asyncio.Task[None] | None = None
        self._clients: dict[int, Client] = {}
        self._bidding: dict[tuple[int, int], asyncio.Task[None]] = {}  # (auction, party) -> who bids there

    async def start(self) -> None:
        """Begin, when the database holds the demonstration; else there is nothing to keep alive."""
        found = await self.db.read_in_thread(cast)
        if found is not None:
            self._task = asyncio.create_task(self._run(found))

    async def stop(self) -> None:
        """Let everything go; nothing needs an end."""
        tasks = [one for one in (self._task, *self._bidding.values()) if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    async def _run(self, cast: Cast) -> None:
        for investor in cast.investors:
            key = await self.db.in_thread(_new_key, investor, at=utc_now())
            self._clients[investor.party_id] = Client(self.base_url, key=key)
        market = _Market(self.db, self.objects, cast)
        await asyncio.gather(
            self._every(LIST_EVERY_S, lambda: self._act(market.list_next, market.register)),
            self._every(BANK_EVERY_S, lambda: self._act(market.bank, market.give_up)),
            self._every(LOOK_EVERY_S, lambda: self._look(cast)),
        )

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        """Do `step` again and again; what fails is written down and tried again, so that one mishap ends nothing."""
        while True:
            try:
                await step()
            except Exception:
                log.exception("demo")
            await asyncio.sleep(seconds)

    async def _act(self, *acts: Callable[[datetime], bool]) -> None:
        """Act in a thread; jobs are told when there is work for them."""
        for act in acts:
            if await asyncio.to_thread(act, utc_now()):
                self.poke()

    # --- bidding ------------------------------------------------------------------------------------

    async def _look(self, cast: Cast) -> None:
        """Have every admitted investor bid wherever an auction is open."""
        for key in [key for key, task in self._bidding.items() if task.done()]:
            del self._bidding[key]
        for seat in await self.db.read_in_thread(_seats, cast):
            key = seat.auction_id, seat.who.party_id
            if key not in self._bidding and seat.who.party_id in self._clients:
                client = self._clients[seat.who.party_id]
                self._bidding[key] = asyncio.create_task(self._bid(client, seat))

    async def _bid(self, client: Client, seat: _Seat) -> None:
        """Bid in one auction until it is over."""
        random = Random()
        try:
            async with client.watch(seat.auction_id, want="standing") as watch:
                drain = asyncio.create_task(_drain(watch))
                try:
                    while (standing := watch.standing) is not None and standing.phase in ("open", "paused", "upcoming"):
                        left_s = _seconds_left(standing.closes_at)
                        await asyncio.sleep(_thinks(random, left_s))
                        await self._move(client, watch, seat, random)
                finally:
                    drain.cancel()
        except (LiveError, NotAdmitted, TimeoutError) as error:
            log.info("demo bidder", auction=seat.auction_id, error=str(error))

    async def _move(self, client: Client, watch: Watch, seat: _Seat, random: Random) -> None:
        standing = watch.standing
        if standing is None or standing.phase != "open":
            return
        position = await client.position(seat.auction_id)
        minimum = parse_amount(standing.minimum, seat.currency)
        maximum = parse_amount(position.maximum, seat.currency) if position.maximum else 0
        view = View(
            minimum_minor=minimum, step_minor=seat.step_minor, leads=position.state == "leading",
            has_maximum=maximum > minimum, time_left=_seconds_left(standing.closes_at) / seat.lasts_s,
        )  # fmt: skip
        offer = next_offer(random, seat.who, view, seat.ruleset)
        if offer is None or position.bidder is None or position.barred:
            return
        most = amount_text(offer.maximum_minor, seat.currency) if offer.maximum_minor else None
        await client.bid(seat.auction_id, amount_text(offer.amount_minor, seat.currency), maximum=most)


@dataclass(frozen=True, slots=True)
class _Seat:
    """An admitted investor in an auction that is open."""

    auction_id: int
    currency: str
    who: DemoBidder
    step_minor: int
    lasts_s: float
    ruleset: Ruleset


def _seats(session: Session, cast: Cast) -> list[_Seat]:
    rows = session.exec(
        select(Participation, Auction, Lot)
        .join(Auction, col(Auction.id) == Participation.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(Auction.phase == "open", Participation.status == "admitted")
    )
    seats = []
    for asked, auction, lot in rows:
        actor = cast.by_party(asked.party_id)
        if actor is None or actor in cast.investors[:1]:  # the first one is for the visitor
            continue
        terms = LotTerms.model_validate((lot.frozen or {})["terms"])
        who = bidder(
            Random(f"{auction.id}:{actor.party_id}"), actor.party_id, fair_minor=_fair(terms), purse=actor.demo.purse
        )
        seats.append(
            _Seat(
                auction.id, auction.currency, who, terms.step_minor or 100,
                (terms.closes_at - terms.opens_at).total_seconds(), lots.rulesets()[terms.ruleset],
            )
        )  # fmt: skip
    return seats


def _fair(terms: LotTerms) -> int:
    """What a lot is worth to the usual investor, as far as its terms show."""
    return terms.appraisal_minor * 94 // 100 if terms.appraisal_minor else terms.opening_minor * 100 // 62


def _thinks(random: Random, left_s: float) -> float:
    """How long a bidder thinks: a part of what is left, between a second and a quarter of an hour."""
    return random.uniform(0.4, 1.6) * min(max(left_s / 16, 2.5), 600)


def _seconds_left(closes_at: str) -> float:
    return max(0.0, (datetime.fromisoformat(closes_at) - utc_now()).total_seconds())


async def _drain(watch: Watch) -> None:
    """Take what comes, so that the watch goes on; `watch.standing` is the newest."""
    async for _event in watch:
        pass


def _new_key(session: Session, investor: Actor, *, at: datetime) -> str:
    """A fresh API key for an investor; the ones of earlier runs are revoked."""
    for key in parties.keys(session, investor.person_id):
        if key.name == KEY_NAME and key.revoked_at is None:
            parties.revoke_key(session, investor.person_id, key.id, at=at)
    text, prefix, secret_hash = new_key()
    parties.make_key(
        session, investor.person_id, name=KEY_NAME, scopes=("read", "bid"), prefix=prefix, secret_hash=secret_hash,
        at=at,
    )  # fmt: skip
    return text


# --- listing, registering, paying ---------------------------------------------------------------


class _Market:
    """What happens beside the bidding. Each act looks at the database first, and says whether it left work for jobs."""

    def __init__(self, db: Database, objects: Objects, cast: Cast) -> None:
        self.db, self.objects, self.cast = db, objects, cast

    def list_next(self, at: datetime) -> bool:
        """List another lot, when fewer than AHEAD are about to close; rather one again that was not sold."""
        count, closings, newest = self.db.read(_on_sale, at=at)
        if len(closings) >= AHEAD:
            return False
        random = Random(f"list:{newest}")
        opens_at = at + timedelta(seconds=random.randint(*OPENS_AFTER_S))
        closes_at = max(
            opens_at + timedelta(seconds=random.randint(*LASTS_S)),
            max(closings, default=at) + timedelta(seconds=random.randint(*APART_S)),
        )
        if again := self.db.read(_to_offer_again, self.cast, at=at):
            return self._offer_again(random, *again, opens_at=opens_at, closes_at=closes_at, at=at)
        if count >= LOTS_MOST:
            return False
        return self._list_new(random, opens_at=opens_at, closes_at=closes_at, at=at)

    def _offer_again(
        self, random: Random, lot: Lot, creditor: Actor, *, opens_at: datetime, closes_at: datetime, at: datetime
    ) -> bool:
        before = LotTerms.model_validate(lot.terms)
        terms = make_terms(
            random, lots.rulesets()[ENGLISH], kind=lot.kind, fair_minor=_fair(before) * 85 // 100, reserved=False,
            appraisal_minor=before.appraisal_minor, appraisal_on=before.appraisal_on, opens_at=opens_at,
            closes_at=closes_at,
        )  # fmt: skip
        self.db.in_transaction(lots.set_terms, creditor.party_id, lot.id, terms, person_id=creditor.person_id, at=at)
        list_lot(self.db, self.cast, creditor, lot.id, to="published", at=at)
        return True

    def _list_new(self, random: Random, *, opens_at: datetime, closes_at: datetime, at: datetime) -> bool:
        creditor = random.choice(self.cast.creditors)
        appraisal = None
        made = None
        if creditor.demo.key == "lender" or random.random() < 0.45:
            made = portfolio_draft(self.db, random, creditor, at=at)
            if made is None and self._give_tape(random, creditor, at=at):
                return True
        if made is None:
            if creditor.demo.key == "lender":
                return False
            make = demo_data.vehicle if random.random() < 0.6 else demo_data.property_
            item = make(random, on=(at - timedelta(days=9)).date())
            item_id = give_item(self.db, self.objects, creditor, item, loan_id="", pictures=PICTURES, at=at)
            appraisal = int(item.form["appraisal"].replace(".", ""))
            made = item.draft(item_id), appraisal * random.randint(84, 104) // 100
        draft, fair = made
        terms = make_terms(
            random, lots.rulesets()[ENGLISH], kind=draft.kind, fair_minor=fair, appraisal_minor=appraisal,
            appraisal_on=(at - timedelta(days=9)).date(), opens_at=opens_at, closes_at=closes_at,
        )  # fmt: skip
        lot_id = draft_lot(self.db, creditor, draft, terms, at=at)
        list_lot(self.db, self.cast, creditor, lot_id, to="published", at=at)
        return True

    def _give_tape(self, random: Random, creditor: Actor, *, at: datetime) -> bool:
        """Bring another book of overdue accounts, when the last one is sold."""
        count, waiting = self.db.read(_tapes_of, creditor.party_id)
        if waiting:
            return True
        if count >= TAPES_MOST:
            return False
        prefix, cutoff_on = f"{creditor.demo.key[:1].upper()}{count:02d}", (at - timedelta(days=20)).date()
        give_book(self.db, self.objects, creditor, random, rows=TAPE_ROWS, prefix=prefix, cutoff_on=cutoff_on, at=at)
        return True

    def register(self, at: datetime) -> bool:
        """Have investors ask to take part in what opens next; approve what visitors have asked, after a while."""
        did = False
        for auction_id, there in self.db.read(_without_bidders, self.cast, at=at):
            random = Random(f"take part:{auction_id}")
            for investor in random.sample(self.cast.investors[1:], random.randint(3, 5)):
                if investor.party_id not in there:
                    with contextlib.suppress(MarketError):  # barred, or the auction is over meanwhile
                        did |= take_part(self.db, self.cast, auction_id, investor, approved=True, at=at)
        for asking in self.db.read(participations.queue):
            if not asking.conflict and asking.asked.created_at <= at - VISITOR_WAITS:
                with contextlib.suppress(MarketError):
                    self.db.in_transaction(
                        participations.approve, asking.asked.id, priority_rank=None,
                        person_id=self.cast.operator.person_id, at=at,
                    )  # fmt: skip
                    did = True
        return did

    def bank(self, at: datetime) -> bool:
        """Send the statements of accounts on which something moved, one after the other."""
        name_payees(self.db, self.cast.operator, at=at)
        accounts = self.db.read(_quiet_accounts)
        unsure = self.cast[demo_data.NEVER_SURE].party_id

        def pays(due: PaymentDue) -> bool:
            if self.cast.by_party(due.party_id) is None:
                return False  # somebody who has registered by himself pays by himself
            if due.kind == "balance":
                return due.party_id != unsure and pays_now(due, seconds=BALANCE_S, at=at)
            return pays_now(due, seconds=DEPOSIT_S, at=at)

        for account_id in accounts:
            paper = self.db.read(bank_day, account_id, at=at, pays=pays)
            if paper is not None:
                give_statement(self.db, self.objects, self.cast.operator, paper, at=at)
                return True
        return False

    def give_up(self, at: datetime) -> bool:
        """The buyer who never pays says so; the operator puts it on record, and the lot can be offered again."""
        unsure = self.cast[demo_data.NEVER_SURE].party_id
        sale_ids = self.db.read(_unpaid_sales, unsure, before=at - DEFAULT_AFTER)
        for sale_id in sale_ids:
            self.db.in_transaction(
                settlement.default, sale_id, person_id=self.cast.operator.person_id,
                reason="The buyer wrote that it will not pay. 买受人来函表示不再付款。", at=at,
            )  # fmt: skip
        return bool(sale_ids)


def _on_sale(session: Session, *, at: datetime) -> tuple[int, list[datetime], int]:
    """How many lots there are, when those close that do so soon, and the newest auction."""
    count = session.exec(select(func.count()).select_from(Lot)).one()
    closings = session.exec(
        select(Auction.closes_at).where(
            col(Auction.phase).in_(("upcoming", "open")), Auction.closes_at > at, Auction.closes_at < at + HORIZON
        )
    ).all()
    return count, sorted(closings), session.exec(select(func.max(Auction.id))).one() or 0


def _to_offer_again(session: Session, cast: Cast, *, at: datetime) -> tuple[Lot, Actor] | None:
    """A lot of ours that was not sold or not paid for, some minutes ago; a visitor's own waits for the visitor."""
    rows = session.exec(
        select(Lot, func.max(Auction.number))
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .where(col(Lot.status).in_(("unsold", "defaulted")), col(Lot.text_en).contains(demo_data.MADE_UP))
        .group_by(col(Lot.id))
        .having(func.max(Auction.number) < AUCTIONS_OF_A_LOT, func.max(Auction.closes_at) < at - timedelta(minutes=8))
        .order_by(col(Lot.id).desc())
        .limit(20)
    )
    for lot, _number in rows:
        creditor = cast.by_party(lot.creditor_id)
        # Those of the seed stay as they are: a visitor may want to see them.
        if (
            creditor is not None
            and lot.published_at is not None
            and LotTerms.model_validate(lot.terms).closes_at > (at - timedelta(hours=6))
        ):
            return lot, creditor
    return None


def _tapes_of(session: Session, creditor_id: int) -> tuple[int, int]:
    """How many tapes a creditor has, and how many of them are still being read."""
    statuses = session.exec(select(Tape.status).where(Tape.creditor_id == creditor_id)).all()
    return len(statuses), sum(status in ("received", "reading") for status in statuses)


def _without_bidders(session: Session, cast: Cast, *, at: datetime) -> Sequence[tuple[int, set[int]]]:
    """Auctions that open or are open under our creditors, with fewer than three of our investors."""
    ours = {one.party_id for one in cast.investors}
    creditors = [one.party_id for one in cast.creditors]
    found = []
    rows = session.exec(
        select(Auction.id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(
            col(Auction.phase).in_(("upcoming", "open")), col(Lot.creditor_id).in_(creditors),
            Auction.opens_at < at + timedelta(minutes=10),
        )
    ).all()  # fmt: skip
    for auction_id in rows:
        there = set(session.exec(select(Participation.party_id).where(Participation.auction_id == auction_id)))
        if len(there & ours) < 3:
            found.append((auction_id, there))
    return found


def _quiet_accounts(session: Session) -> list[int]:
    """Our bank accounts, when no statement of ours waits to be read: the next one follows the last that was kept."""
    if session.exec(select(StatementFile.id).where(StatementFile.status == "received")).first() is not None:
        return []
    return our_bank_accounts(session)


def _unpaid_sales(session: Session, party_id: int, *, before: datetime) -> list[int]:
    return list(
        session.exec(
            select(Sale.id).where(
                Sale.buyer_id == party_id, Sale.status == "awaiting_balance", Sale.created_at < before
            )
        )
    )
