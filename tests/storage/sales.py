"""A small world for tests of money: a creditor, his accounts in a lot, bidders, a bank; auctions played through."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from sqlmodel import Session, col, select

from auctions.journal import Entry as JournalEntry
from auctions.messages import Admit, Bar, Close, Command, Create, PlaceBid, Withdraw
from auctions.rulesets import packaged
from market import lots, statements
from storage import outbox, reconciliation, settlement, tables
from storage.database import Database
from storage.journal import instant, load_fold, open_journal
from tests.bank import IBAN, Bank, Paid

AT = datetime(2026, 11, 2, 2, tzinfo=UTC)  # Monday 10:00 in Beijing
DEPOSIT, OPENING, STEP = 84_000_00, 840_000_00, 5_000_00


@dataclass
class World:
    """What a test starts from; `lot` sells `balances`, or a car that secures the one account."""

    db: Database
    creditor: int
    bidders: list[int]
    person: int
    lot: int
    accounts: list[int]
    bank: Bank
    auction: int = 0
    number: int = 0
    dues: dict[int, tables.PaymentDue] = field(default_factory=dict)

    # --- the walk ---------------------------------------------------------------------------------

    def publish(self, *, deposit_minor: int = DEPOSIT, premium_bp: int = 0, commission_bp: int = 0) -> int:
        """Open an auction of the lot under cn-judicial-2017; return its id."""
        self.auction = self.db.in_transaction(self._publish, deposit_minor, premium_bp, commission_bp)
        return self.auction

    def _publish(self, session: Session, deposit_minor: int, premium_bp: int, commission_bp: int) -> int:
        lot = session.get_one(tables.Lot, self.lot)
        ruleset = packaged("cn-judicial-2017")
        terms = lots.LotTerms(
            ruleset=ruleset.name, opening_minor=OPENING, step_minor=STEP, reserve="open", reserve_minor=OPENING,
            deposit_minor=deposit_minor, opens_at=AT, closes_at=AT + timedelta(days=1), balance_due_days=10,
            premium_bp=premium_bp, commission_bp=commission_bp, appraisal_minor=1_200_000_00,
        )  # fmt: skip
        lot.terms, lot.status = terms.kept(), "published"
        self.number += 1
        for account_id in self.accounts:
            account = session.get_one(tables.LoanAccount, account_id)
            assert account.status == "overdue"
            account.status = "listed"
        auction = tables.Auction(
            lot_id=lot.id, number=self.number, ruleset="cn-judicial-2017@1", currency="CNY", opens_at=AT,
            closes_at=AT + timedelta(days=1), created_at=AT,
        )  # fmt: skip
        session.add(auction)
        session.flush()
        of_auction = lots.auction_terms(
            terms, ruleset, auction_id=auction.id, currency="CNY", lot_sha256=sha256(b"lot").hexdigest()
        )
        open_journal(session, auction.id, Create(f"create-{auction.id}", of_auction), at=AT)
        session.expire(auction)
        return auction.id

    def ask(self, party_id: int, *, amount_minor: int = DEPOSIT) -> tables.PaymentDue:
        """The operator approves a bidder: a deposit is expected from him."""

        def approve(session: Session) -> tables.PaymentDue:
            session.add(
                tables.Participation(
                    auction_id=self.auction, party_id=party_id, status="awaiting_deposit", limit_minor=10**12,
                    created_at=AT,
                )
            )  # fmt: skip
            return settlement.ask_deposit(
                session, auction_id=self.auction, party_id=party_id, amount_minor=amount_minor, currency="CNY",
                due_at=AT + timedelta(days=1), at=AT,
            )  # fmt: skip

        self.dues[party_id] = self.db.in_transaction(approve)
        return self.dues[party_id]

    def read(self, data: bytes, *, gap_consent: bool = False, at: datetime = AT) -> tables.StatementFile:
        """Upload a statement and read it, as the task does."""
        parsed = statements.parse(data)

        def keep(session: Session) -> tables.StatementFile:
            file_id = reconciliation.keep_file(
                session, filename="s.xml", digest=sha256(data).hexdigest(), size=len(data), created_by=self.person,
                gap_consent=gap_consent, at=at,
            )  # fmt: skip
            return reconciliation.import_statement(session, file_id, parsed, at=at)

        return self.db.in_transaction(keep)

    def pay(self, *movements: Paid, at: datetime = AT) -> tables.StatementFile:
        """Money arrives by the next statement, in turn camt.053 and MT940."""
        form = self.bank.camt053 if self.bank.number % 2 else self.bank.mt940
        return self.read(form(*movements), at=at)

    def deposits(self, *party_ids: int) -> None:
        """Ask these bidders for their deposits, and let them arrive."""
        dues = [self.ask(party_id) for party_id in party_ids]
        self.pay(*(Paid(due.amount_minor, due.reference, "Bidder", f"NL{due.party_id:016}") for due in dues))

    def play(self, bids: Sequence[tuple[int, int]], *, withdrawn: str = "") -> None:
        """Admit whom the outbox says, let them bid (party, minor units), and close, or withdraw for a reason."""
        self.db.in_transaction(self._play, bids, withdrawn)

    def _play(self, session: Session, bids: Sequence[tuple[int, int]], withdrawn: str) -> None:
        fold = load_fold(session, self.auction)
        start = lots.to_ms(AT)

        def take(command: Command, at_ms: int) -> None:
            entry = fold.take(command, at_ms, secrets.token_hex(16))
            if isinstance(entry, JournalEntry):
                session.add(
                    tables.Entry(
                        auction_id=self.auction, sequence=entry.sequence, at_ms=entry.at_ms, public=entry.public,
                        private=entry.private, hash=entry.hash,
                    )
                )  # fmt: skip

        rows = session.exec(select(tables.Outbox).where(tables.Outbox.task == "submit_command")).all()
        for row in rows:
            if row.arguments["auction_id"] == self.auction and row.done_at is None:
                it = row.arguments["command"]
                kind = {"admit": Admit, "bar": Bar}[it["type"]]
                take(kind(**{name: value for name, value in it.items() if name != "type"}), start)
                outbox.done(session, row.id, at=AT)
        for number, (party_id, amount_minor) in enumerate(bids):
            take(PlaceBid(f"bid-{number}", party_id, amount_minor), start + 1000 * (number + 1))
        if withdrawn:
            take(Withdraw("off", withdrawn, by=self.person), start + 80_000_000)
        take(Close(), start + 86_400_000 + 2_000)
        standing = fold.auction.standing(fold.sequence)
        auction = session.get_one(tables.Auction, self.auction)
        auction.phase, auction.sequence = standing.phase.value, standing.sequence
        auction.outcome = standing.result or ("withdrawn" if withdrawn else "")
        auction.hammer_minor = standing.price_minor if standing.result == "sold" else None
        auction.closes_at = instant(standing.closes_at_ms)
        session.add(auction)

    def settle(self, *, at: datetime = AT + timedelta(days=1)) -> int | None:
        return self.db.in_transaction(settlement.settle, self.auction, at=at)

    def sell(self, price_minor: int = 1_000_000_00, *, winner: int = 0, others: Sequence[int] = (1,)) -> int:
        """Publish nothing; deposits, bids, close, settle; return the sale's id."""
        party = self.bidders[winner]
        self.deposits(party, *(self.bidders[one] for one in others))
        self.play([(party, price_minor)])
        sale_id = self.settle()
        assert sale_id is not None
        return sale_id

    # --- looking ------------------------------------------------------------------------------------

    def sale(self, sale_id: int) -> tables.Sale:
        return self.db.read(lambda session: session.get_one(tables.Sale, sale_id))

    def balance_due(self, sale_id: int) -> tables.PaymentDue:
        return self.db.read(
            lambda session: session.exec(select(tables.PaymentDue).where(tables.PaymentDue.sale_id == sale_id)).one()
        )

    def statuses(self) -> set[str]:
        """The statuses of the lot's overdue accounts."""
        return self.db.read(
            lambda session: set(
                session.exec(select(tables.LoanAccount.status).where(col(tables.LoanAccount.id).in_(self.accounts)))
            )
        )

    def payouts(self) -> dict[str, int]:
        """What is owed out or sent, by key."""
        return self.db.read(lambda session: {one.key: one.amount_minor for one in session.exec(select(tables.Payout))})

    def proof(self) -> reconciliation.ThreeWay:
        return self.db.read(reconciliation.three_way)

    def agrees(self) -> bool:
        """Do ledger, bank and accounts agree? Shows what differs, when a test asserts it."""
        proof = self.proof()
        differing = [one for one in proof.proofs if one.difference_minor]
        assert not differing, differing
        assert not proof.unbalanced, proof.unbalanced
        return proof.agrees


def world(db: Database, balances: Sequence[int] = (50_000_00, 30_000_01, 0, 7), *, car: bool = False) -> World:
    """Make a world; with `car`, the lot is a vehicle behind the first account."""
    return db.in_transaction(_world, db, balances, car)


def _party(session: Session, name: str) -> int:
    party = tables.Party(
        kind="organisation", name=name, name_key=name.casefold(), status="admitted", iban=f"IBAN-{name}", created_at=AT
    )
    session.add(party)
    session.flush()
    return party.id


def _world(session: Session, db: Database, balances: Sequence[int], car: bool) -> World:
    creditor = _party(session, "Lender")
    bidders = [_party(session, f"Bidder {one}") for one in "ABCD"]
    person = tables.Person(party_id=creditor, email="a@b.c", email_key="a@b.c", name="A", created_at=AT)
    session.add(person)
    session.flush()
    tape = tables.Tape(
        creditor_id=creditor,
        filename="t.csv",
        digest="d",
        size=1,
        currency="CNY",
        cutoff_on=date(2026, 10, 31),
        created_by=person.id,
        created_at=AT,
    )
    session.add(tape)
    session.flush()
    loans = [
        tables.LoanAccount(
            creditor_id=creditor, tape_id=tape.id, row=row, loan_id=f"L{row}", status="overdue", currency="CNY",
            cutoff_on=date(2026, 10, 31), principal_minor=balance - balance // 10, interest_minor=balance // 10,
            fees_minor=0, balance_minor=balance, dpd=90, bucket="61-90",
        )
        for row, balance in enumerate(balances, start=1)
    ]  # fmt: skip
    session.add_all(loans)
    session.flush()
    lot = tables.Lot(
        reference="2026-0001", creditor_id=creditor, kind="portfolio", title_en="Lot", title_zh="标的", currency="CNY",
        status="published", created_by=person.id, created_at=AT,
    )  # fmt: skip
    if car:
        item = tables.Collateral(
            creditor_id=creditor, kind="vehicle", title_en="Car", title_zh="车", currency="CNY",
            appraisal_minor=1_200_000_00, appraisal_on=date(2026, 10, 1), account_id=loans[0].id, created_at=AT,
        )  # fmt: skip
        session.add(item)
        session.flush()
        lot.kind, lot.collateral_id = "vehicle", item.id
        loans = loans[:1]
    else:
        portfolio = tables.Portfolio(
            creditor_id=creditor, name="P", cutoff_on=date(2026, 10, 31), currency="CNY", accounts=len(loans),
            principal_minor=sum(balances), balance_minor=sum(balances), created_by=person.id, created_at=AT,
        )  # fmt: skip
        session.add(portfolio)
        session.flush()
        session.add_all(tables.PortfolioAccount(portfolio_id=portfolio.id, account_id=one.id) for one in loans)
        lot.portfolio_id = portfolio.id
    session.add_all([lot, tables.BankAccount(name="Deposits", iban=IBAN, currency="CNY")])
    session.flush()
    return World(db, creditor, bidders, person.id, lot.id, [one.id for one in loans], Bank(balance_minor=1_000_00))
