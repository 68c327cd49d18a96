"""Fill an empty marketplace: lots in every state, with a past that the domain's own functions have written.

The past is acted out in the order of its instants.  Journals are real: bids go through the same turn as
live ones, only that they "have waited" since the instant at which they were made, so a command of three hours
ago arrives three hours ago.  Statements are files that a bank could have sent, read by the same reader.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from sqlmodel import Session, col, select

from auctions.journal import Fold
from auctions.messages import Admit, Close, Command, Withdraw
from auctions.sequencer import Waiting, Work
from market import statements as statement_files
from market.lots import LotDraft, to_ms
from storage import journal, lots, outbox, portfolios, reconciliation, settlement
from storage.database import Database
from storage.objects import Objects
from storage.tables import Outbox, Party, PaymentDue, Sale, StatementFile
from web import demo_data
from web.demo_acts import (
    SECURED,
    Actor,
    Cast,
    bank_day,
    currency_of,
    draft_lot,
    give_book,
    give_item,
    give_statement,
    give_tape,
    list_lot,
    make_terms,
    name_payees,
    open_bank_accounts,
    our_bank_accounts,
    pays_now,
    portfolio_draft,
    register_all,
    take_part,
)
from web.demo_bidders import DemoBidder, bidder, play

SEED = 20261122
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE = timedelta(minutes=1)
PICTURES = 3  # of each item, to begin with
BANK_EVERY = timedelta(hours=6)  # a statement of each account in the acted past
DEPOSIT_S, BALANCE_S = 900, 26 * 3600  # a payment is under way so long, and up to as long again
CLOSE_AFTER = timedelta(seconds=1, milliseconds=20)  # the grace before a close, and a little

# English with a soft close of a minute; the court's rules; proxy bids as on eBay.
ENGLISH, COURT, PROXY = "english-proxy-soft-close", "cn-judicial-2017", "ebay-proxy"


@dataclass(frozen=True, slots=True)
class Scene:
    """One lot to be: what it is, how it is sold, how far it has come, and when, seen from now."""

    what: str  # creditor's key and portfolio | vehicle | property
    ruleset: str
    stage: str
    opens: timedelta = timedelta()
    closes: timedelta = timedelta()
    bidders: int = 4
    pays: bool = True  # the winner


SCENES = (
    # not yet public
    Scene("bank portfolio", ENGLISH, "draft", 9 * DAY, 12 * DAY),
    Scene("amc vehicle", PROXY, "draft", 6 * DAY, 8 * DAY),
    Scene("lender portfolio", ENGLISH, "submitted", 4 * DAY, 5 * DAY),
    Scene("bank property", COURT, "submitted", 34 * DAY, 35 * DAY),
    Scene("amc portfolio", ENGLISH, "approved", 3 * DAY, 4 * DAY),
    # announced, days ahead
    Scene("bank portfolio", ENGLISH, "published", 2 * DAY, 5 * DAY, 2),
    Scene("bank property", COURT, "published", 3 * DAY, 4 * DAY + 2 * HOUR, 1),
    Scene("amc vehicle", PROXY, "published", 20 * HOUR, 2 * DAY, 1),
    Scene("amc vehicle", ENGLISH, "published", 4 * HOUR, 28 * HOUR, 2),
    # registration under way
    Scene("lender portfolio", ENGLISH, "registration", 25 * MINUTE, 2 * HOUR),
    Scene("bank vehicle", ENGLISH, "registration", 12 * MINUTE, 40 * MINUTE),
    Scene("amc property", ENGLISH, "registration", 50 * MINUTE, 26 * HOUR),
    # live
    Scene("bank portfolio", ENGLISH, "live", -3 * HOUR, 55 * MINUTE, 5),
    Scene("lender portfolio", ENGLISH, "live", -20 * HOUR, 5 * HOUR),
    Scene("amc portfolio", ENGLISH, "live", -DAY, DAY, 5),
    Scene("bank vehicle", COURT, "live", -23 * HOUR, 90 * MINUTE),
    Scene("amc vehicle", PROXY, "live", -30 * HOUR, 6 * HOUR, 5),
    Scene("bank property", COURT, "live", -22 * HOUR, 3 * HOUR, 4),
    Scene("amc property", ENGLISH, "live", -5 * HOUR, 20 * MINUTE, 4),
    Scene("bank vehicle", ENGLISH, "live", -2 * HOUR, 33 * MINUTE, 3),
    # about to close
    Scene("amc portfolio", ENGLISH, "live", -50 * MINUTE, 6 * MINUTE),
    Scene("amc vehicle", ENGLISH, "live", -45 * MINUTE, 10 * MINUTE),
    Scene("bank property", COURT, "live", -25 * HOUR, 14 * MINUTE),
    # sold, the balance is on its way
    Scene("bank portfolio", ENGLISH, "sold", -2 * DAY, -5 * HOUR),
    Scene("bank vehicle", COURT, "sold", -2 * DAY - 3 * HOUR, -20 * HOUR),
    # sold, paid, closed out
    Scene("amc portfolio", ENGLISH, "settled", -12 * DAY, -9 * DAY, 5),
    Scene("lender portfolio", ENGLISH, "settled", -14 * DAY, -12 * DAY),
    Scene("bank vehicle", COURT, "settled", -8 * DAY, -6 * DAY, 3),
    Scene("amc property", ENGLISH, "settled", -18 * DAY, -15 * DAY),
    Scene("amc vehicle", PROXY, "settled", -7 * DAY, -5 * DAY, 5),
    # nobody, or not enough
    Scene("bank vehicle", COURT, "unsold", -4 * DAY, -2 * DAY, 0),
    Scene("lender portfolio", ENGLISH, "unsold", -5 * DAY, -3 * DAY, 1),
    # not paid for; the second is listed anew and runs
    Scene("amc vehicle", ENGLISH, "sold", -17 * DAY, -16 * DAY, 3, pays=False),
    Scene("bank portfolio", ENGLISH, "relisted", -19 * DAY, -17 * DAY, 4, pays=False),
    Scene("bank property", ENGLISH, "withdrawn", -3 * DAY, 2 * DAY, 2),
)

# What each creditor brings: rows of the tape that is sold in portfolios, and of the one behind collateral.
_BOOKS = {"bank": (1_400, 40), "lender": (900, 0), "amc": (1_100, 40)}


def is_empty(session: Session) -> bool:
    """Whether nobody has registered yet."""
    return session.exec(select(Party.id)).first() is None


def seed(db: Database, objects: Objects, *, at: datetime, told: Callable[[str], None] = lambda _: None) -> None:
    """Fill an empty database as of `at` (now); takes some seconds, `told` hears of each step."""
    with asyncio.Runner() as runner:
        past = _Past(db, objects, runner, at=at, told=told)
        try:
            past.act()
        finally:
            past.close()


class _Past:
    """The past up to `now`, acted out in the order of its instants."""

    def __init__(
        self, db: Database, objects: Objects, runner: asyncio.Runner, *, at: datetime, told: Callable[[str], None]
    ) -> None:
        self.db, self.objects, self.now, self.told = db, objects, at, told
        self.random = Random(SEED)
        self._runner = runner
        self._journal = journal.journal_of(db)
        self._acts: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._count = itertools.count()
        self._cast: Cast | None = None
        self._worth: dict[int, int] = {}  # lot -> what it is worth to the usual investor
        self._takes: dict[int, list[Actor]] = {}
        self._unpaid: set[int] = set()  # auctions whose buyer does not pay
        self._loans: dict[str, list[str]] = {}  # numbers of secured loans that no collateral has yet

    def close(self) -> None:
        """Let the journal's connection go."""
        self._runner.run(self._journal.close())

    @property
    def cast(self) -> Cast:
        """Everybody, once they are registered."""
        assert self._cast is not None
        return self._cast

    def later(self, at: datetime, act: Callable[[datetime], None]) -> None:
        """Act at an instant; what lies ahead of now stays undone."""
        if at <= self.now:
            heapq.heappush(self._acts, (at, next(self._count), act))

    def act(self) -> None:
        """Act everything out."""
        start = self.now - 45 * DAY
        self._cast = self.db.in_transaction(register_all, self.random, at=start)
        self.db.in_transaction(open_bank_accounts, self.random, self.cast.operator, at=start)
        self.told("tapes")
        self._give_tapes(start + DAY)
        self.told("collateral and pictures")
        self._stage_scenes()
        at = start + 2 * DAY
        while at < self.now:
            self.later(at, self._bank)
            at += BANK_EVERY
        self.later(self.now, self._bank)
        self.told("auctions of the past weeks")
        while self._acts:
            at, _, act = heapq.heappop(self._acts)
            act(at)
            self._work_off(at)

    # --- what is sold -------------------------------------------------------------------------------

    def _give_tapes(self, at: datetime) -> None:
        cutoff_on = (self.now - 46 * DAY).date()
        for creditor in self.cast.creditors:
            key = creditor.demo.key
            rows, secured = _BOOKS[key]
            prefix = {"bank": "LT", "lender": "BM", "amc": "YH"}[key]
            give_book(
                self.db, self.objects, creditor, self.random, rows=rows, prefix=prefix, cutoff_on=cutoff_on, at=at
            )
            if secured:
                data = demo_data.book_csv(self.random, rows=secured, prefix=f"{prefix}S", cutoff_on=cutoff_on)
                give_tape(
                    self.db, self.objects, creditor, data, filename=f"{SECURED}{prefix}-{cutoff_on}.csv",
                    currency=currency_of(creditor), cutoff_on=cutoff_on, at=at,
                )  # fmt: skip
                self._loans[key] = [f"{prefix}S-{number:05d}" for number in range(1, secured + 1)]
        self._work_off(at)

    def _stage_scenes(self) -> None:
        """Draw every item's pictures side by side, then put each scene on the time line."""
        on = (self.now - 40 * DAY).date()
        made = []
        for scene in SCENES:
            what = scene.what.partition(" ")[2]
            make = {"vehicle": demo_data.vehicle, "property": demo_data.property_}.get(what)
            made.append(make(self.random, on=on) if make else None)
        entered = self.now - 41 * DAY

        def enter(one: tuple[Scene, demo_data.DemoItem | None, str]) -> int | None:
            scene, item, loan_id = one
            if item is None:
                return None
            creditor = self.cast[scene.what.partition(" ")[0]]
            return give_item(
                self.db, self.objects, creditor, item, loan_id=loan_id, pictures=PICTURES, at=entered + DAY
            )

        loans = [self._loan(scene) if item else "" for scene, item in zip(SCENES, made, strict=True)]
        with ThreadPoolExecutor(2) as threads:
            item_ids = list(threads.map(enter, zip(SCENES, made, loans, strict=True)))
        for scene, item, item_id in zip(SCENES, made, item_ids, strict=True):
            self._stage(scene, item, item_id)

    def _loan(self, scene: Scene) -> str:
        """The number of the account behind an item, for two items of three; the others secure nobody's loan here."""
        left = self._loans[scene.what.partition(" ")[0]]
        return left.pop() if self.random.random() < 0.67 else ""

    def _stage(self, scene: Scene, item: demo_data.DemoItem | None, item_id: int | None) -> None:
        opens_at, closes_at = self.now + scene.opens, self.now + scene.closes
        ruleset = lots.rulesets()[scene.ruleset]
        what = scene.what.partition(" ")[2]
        notice = {"vehicle": "movable", "property": "real_estate", "portfolio": "other_right"}[what]
        days = ruleset.listing.notice_days.get(notice, 0)
        ahead = timedelta(days=days, hours=6) if days else min(5 * DAY, timedelta(days=2 + self.random.random() * 3))
        listed = min(opens_at - ahead, self.now - 20 * MINUTE)
        creditor = self.cast[scene.what.partition(" ")[0]]

        def begin(at: datetime) -> None:
            draft, fair, appraisal = self._draft(scene, creditor, item, item_id, at=at)
            terms = make_terms(
                self.random, ruleset, kind=what, fair_minor=fair, appraisal_minor=appraisal,
                appraisal_on=(self.now - 40 * DAY).date(), opens_at=opens_at, closes_at=closes_at,
                balance_due_days=2 if not scene.pays else 10,
                reserved=scene.stage not in ("sold", "settled", "relisted"),
            )  # fmt: skip
            lot_id = draft_lot(self.db, creditor, draft, terms, at=at)
            to = scene.stage if scene.stage in ("draft", "submitted", "approved") else "published"
            auction_id = list_lot(self.db, self.cast, creditor, lot_id, to=to, at=at)
            if auction_id is not None:
                self._worth[lot_id] = fair
                self._run(scene, creditor, lot_id, auction_id, at, opens_at, closes_at)

        self.later(listed, begin)

    def _draft(
        self, scene: Scene, creditor: Actor, item: demo_data.DemoItem | None, item_id: int | None, *, at: datetime
    ) -> tuple[LotDraft, int, int | None]:
        """What the lot says, what it is worth to the usual investor, and its appraisal."""
        if item is not None:
            assert item_id is not None
            appraisal = int(item.form["appraisal"].replace(".", ""))
            return item.draft(item_id), appraisal * self.random.randint(84, 104) // 100, appraisal
        made = portfolio_draft(self.db, self.random, creditor, at=at)
        assert made is not None, "the tapes give more portfolios than the scenes sell"
        return *made, None

    # --- an auction ---------------------------------------------------------------------------------

    def _run(
        self, scene: Scene, creditor: Actor, lot_id: int, auction_id: int, listed: datetime, opens_at: datetime,
        closes_at: datetime,
    ) -> None:  # fmt: skip
        """Put the rest of a published lot's life on the time line."""
        random = self.random
        chosen = random.sample(self.cast.investors[1:], scene.bidders)
        if not scene.pays:
            unsure = self.cast[demo_data.NEVER_SURE]
            chosen = [unsure, *(one for one in chosen if one is not unsure)]
            self._unpaid.add(auction_id)
        self._takes[auction_id] = chosen
        room = (min(opens_at, self.now) - listed) / 2
        for number, investor in enumerate(chosen):
            approved = not (scene.stage == "registration" and number == len(chosen) - 1)

            def ask(at: datetime, investor: Actor = investor, approved: bool = approved) -> None:
                take_part(self.db, self.cast, auction_id, investor, approved=approved, at=at)

            self.later(listed + room * (0.1 + 0.9 * random.random()), ask)
        if scene.stage == "withdrawn":
            self.later(self.now - 30 * HOUR, lambda at: self._withdraw(auction_id, at))
        elif opens_at <= self.now:
            # Bids are made at once for the whole time; their instants are their own.
            self.later(min(closes_at, self.now), lambda at: self._bid(scene, creditor, lot_id, auction_id, at))

    def _bid(self, scene: Scene, creditor: Actor, lot_id: int, auction_id: int, at: datetime) -> None:
        fold = self.db.read(journal.load_fold, auction_id)
        fair = self._worth[lot_id]
        if scene.stage == "unsold":
            fair = fair * 6 // 10
        admitted = [one for one in self._takes[auction_id] if fold.auction.position(one.party_id) is not None]
        bidders = [bidder(self.random, one.party_id, fair_minor=fair, purse=one.demo.purse) for one in admitted]
        if not scene.pays and bidders:  # who does not pay is who bids the most
            most = max(one.worth_minor for one in bidders) * 125 // 100
            bidders[0] = DemoBidder(bidders[0].party_id, most, "proxy")
        until_ms = to_ms(self.now) if scene.closes > timedelta() else to_ms(self.now + scene.closes + 2 * HOUR)
        moves: list[tuple[Command, int]] = []
        if bidders:
            moves += play(self.random, fold, bidders, until_ms=until_ms, key=f"seed-{auction_id}")
        self._take(auction_id, moves)
        fold = self.db.read(journal.load_fold, auction_id)
        if scene.closes > timedelta():
            return
        closed_at = datetime.fromtimestamp(fold.auction.closes_at_ms / 1000, UTC) + CLOSE_AFTER
        self._take(auction_id, [(Close(), to_ms(closed_at))])
        self.later(closed_at, lambda _at: None)  # its settlement is worked off then
        if not scene.pays:
            self.later(closed_at + 8 * DAY, lambda at: self._default(auction_id, at))
        if scene.stage == "relisted":
            self.later(self.now - 7 * DAY, lambda at: self._relist(creditor, lot_id, at))

    def _default(self, auction_id: int, at: datetime) -> None:
        sale_id = self.db.read(lambda session: session.exec(select(Sale.id).where(Sale.auction_id == auction_id)).one())
        self.db.in_transaction(
            settlement.default, sale_id, person_id=self.cast.operator.person_id,
            reason="The buyer wrote that it will not pay. 买受人来函表示不再付款。", at=at,
        )  # fmt: skip

    def _relist(self, creditor: Actor, lot_id: int, at: datetime) -> None:
        """List a lot anew after its buyer did not pay: it runs now, without him."""
        lot = self.db.read(lots.own_lot, creditor.party_id, lot_id)
        fair = self._worth[lot_id]
        scene = Scene("bank portfolio", ENGLISH, "live", -6 * HOUR, 70 * MINUTE)
        terms = make_terms(
            self.random, lots.rulesets()[ENGLISH], kind=lot.kind, fair_minor=fair, appraisal_minor=None,
            appraisal_on=None, opens_at=self.now + scene.opens, closes_at=self.now + scene.closes,
        )  # fmt: skip
        self.db.in_transaction(lots.set_terms, creditor.party_id, lot_id, terms, person_id=creditor.person_id, at=at)
        again = list_lot(self.db, self.cast, creditor, lot_id, to="published", at=at)
        assert again is not None
        self._run(scene, creditor, lot_id, again, at, terms.opens_at, terms.closes_at)

    def _withdraw(self, auction_id: int, at: datetime) -> None:
        reason = "The debtor has paid. 债务人已清偿债务。"
        operator = self.cast.operator.person_id
        self._take(auction_id, [(Withdraw(f"withdraw-{auction_id}", reason, by=operator), to_ms(at))])

    # --- journal, bank, work ------------------------------------------------------------------------

    def _take(self, auction_id: int, commands: Sequence[tuple[Command, int]]) -> None:
        """Have commands journaled as of their instants (ms): each has waited since."""
        now_ms, clock = time.time_ns() // 1_000_000, time.monotonic()
        waiting = [
            Waiting(auction_id, command, clock - (now_ms - at_ms) / 1000, lambda _answer: None)
            for command, at_ms in commands
        ]
        self._runner.run(self._journal.turn([Work(auction_id, Fold(auction_id), waiting)]))

    def _bank(self, at: datetime) -> None:
        """State each bank account, where anything moved: payments asked for some hours ago, and pay-outs."""

        def pays(due: PaymentDue) -> bool:
            if due.kind == "balance":
                return due.auction_id not in self._unpaid and pays_now(due, seconds=BALANCE_S, at=at)
            return pays_now(due, seconds=DEPOSIT_S, at=at)

        name_payees(self.db, self.cast.operator, at=at)
        for account_id in self.db.read(our_bank_accounts):
            paper = self.db.read(bank_day, account_id, at=at, pays=pays)
            if paper is not None:
                give_statement(self.db, self.objects, self.cast.operator, paper, at=at)
                self._work_off(at)

    def _work_off(self, at: datetime) -> None:
        """Do the outbox's work as of `at`; mail and the like wait for the server."""
        while rows := self.db.read(_due, at=at):
            for row in rows:
                _TASKS[row.task](self, row, at)
                self.db.in_transaction(outbox.done, row.id, at=at)

    def _read_tape(self, row: Outbox, at: datetime) -> None:
        status = portfolios.read_tape(self.db, self.objects, row.arguments["tape_id"], now=lambda: at)
        assert status == "kept", f"a generated tape was {status}"

    def _read_statement(self, row: Outbox, at: datetime) -> None:
        file_id = row.arguments["file_id"]
        digest = self.db.read(lambda session: session.get_one(StatementFile, file_id).digest)
        with self.objects.get(digest) as stream:
            parsed = statement_files.parse(stream.read())
        file = self.db.in_transaction(reconciliation.import_statement, file_id, parsed, at=at)
        assert file.status == "kept", f"a generated statement was {file.status}: {file.faults}"

    def _admit(self, row: Outbox, at: datetime) -> None:
        command = {name: value for name, value in row.arguments["command"].items() if name != "type"}
        self._take(row.arguments["auction_id"], [(Admit(**command), to_ms(at))])

    def _settle(self, row: Outbox, at: datetime) -> None:
        self.db.in_transaction(settlement.settle, row.arguments["auction_id"], at=at)

    def _complete(self, row: Outbox, at: datetime) -> None:
        self.db.in_transaction(settlement.complete, row.arguments["sale_id"], at=at)


_TASKS: dict[str, Callable[[_Past, Outbox, datetime], None]] = {
    "read_tape": _Past._read_tape,
    "read_statement": _Past._read_statement,
    "submit_command": _Past._admit,
    "settle": _Past._settle,
    "complete": _Past._complete,
}


def _due(session: Session, *, at: datetime) -> list[Outbox]:
    """What the seed does itself of the work that is due, oldest first."""
    waiting = select(Outbox).where(col(Outbox.done_at).is_(None), Outbox.due_at <= at, col(Outbox.task).in_(_TASKS))
    return list(session.exec(waiting.order_by(col(Outbox.due_at), col(Outbox.id)).limit(50)))
