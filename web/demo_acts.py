"""What the people of the demonstration do: list a lot, take part, pay, decide. Every act is the domain's own function.

Shared by the seed, which acts as of instants in the past, and by the engine, which acts now.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

from sqlmodel import Session, col, select

from auctions.rulesets import Ruleset
from market.collateral import Photograph, read_item, read_photograph
from market.errors import BadInput, Conflict
from market.lots import TERMS_OPEN, LotDraft, LotTerms, agreement_hash
from market.money import parse_amount
from market.parties import Registration, name_key
from market.portfolios import Selection
from storage import collateral, lots, participations, parties, portfolios, reconciliation, settlement
from storage.database import Database
from storage.objects import Objects
from storage.tables import (
    Auction,
    BankAccount,
    Lot,
    Party,
    PaymentDue,
    Payout,
    Person,
    Portfolio,
    Statement,
)
from web import demo_data
from web.demo_data import CREDITORS, INVESTORS, PLATFORM, DemoItem, DemoParty, Movement, StatementPaper

CURRENCIES = ("CNY", "USD")
STATEMENT_BYTES = 1024 * 1024
PICTURE_BYTES = 4 * 1024 * 1024
TAPE_BYTES = 16 * 1024 * 1024
SECURED = "secured-"  # begins the name of a tape whose accounts stand behind collateral


@dataclass(frozen=True, slots=True)
class Actor:
    """A party of the demonstration as it stands in the database, and its first person."""

    demo: DemoParty
    party_id: int
    person_id: int


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody, by the key of the party."""

    actors: dict[str, Actor]

    def __getitem__(self, key: str) -> Actor:
        return self.actors[key]

    @property
    def operator(self) -> Actor:
        """Who admits, approves and decides."""
        return self.actors[PLATFORM.key]

    @property
    def creditors(self) -> list[Actor]:
        """Who lists."""
        return [self.actors[one.key] for one in CREDITORS]

    @property
    def investors(self) -> list[Actor]:
        """Who bids."""
        return [self.actors[one.key] for one in INVESTORS]

    def by_party(self, party_id: int) -> Actor | None:
        """The actor behind a party, None when a person has registered it."""
        return next((one for one in self.actors.values() if one.party_id == party_id), None)


# --- parties, bank accounts ---------------------------------------------------------------------


def cast(session: Session) -> Cast | None:
    """Everybody of the demonstration, from the database; None, when it was never seeded."""
    found: dict[str, Actor] = {}
    for demo in (PLATFORM, *CREDITORS, *INVESTORS):
        key = name_key(demo.people[0].email)
        person = session.exec(select(Person).where(Person.email_key == key)).first()
        if person is None:
            return None
        found[demo.key] = Actor(demo, person.party_id, person.id)
    return Cast(found)


def register_all(session: Session, random: Random, *, at: datetime) -> Cast:
    """Register and admit everybody; nobody has a password, so only one-time links let people in."""
    found: dict[str, Actor] = {}
    for demo in (PLATFORM, *CREDITORS, *INVESTORS):
        person = demo.people[0]
        asked = Registration(
            kind=demo.kind, party_name=demo.name, country=demo.country, iban=demo_data.bank_number(random),
            role=person.roles[0], person_name=person.name, email=person.email, language=person.language,
        )  # fmt: skip
        person_id = parties.register(session, asked, password_hash="", at=at)
        party_id = parties.person(session, person_id).party_id
        found[demo.key] = Actor(demo, party_id, person_id)
        operator = found[PLATFORM.key].person_id
        parties.decide(
            session, party_id, status="admitted", reason="Made up for the demonstration.", person_id=operator, at=at
        )
    return Cast(found)


# --- tapes, portfolios, collateral --------------------------------------------------------------


def give_tape(
    db: Database, objects: Objects, creditor: Actor, data: bytes, *, filename: str, currency: str, cutoff_on: date,
    at: datetime,
) -> int:  # fmt: skip
    """Upload a tape as its creditor; return its id. A task reads it."""
    kept = objects.put(io.BytesIO(data), limit_bytes=TAPE_BYTES)
    return db.in_transaction(
        portfolios.receive_tape, creditor.party_id, creditor.person_id, filename=filename, digest=kept.digest,
        size=kept.size_bytes, cutoff_on=cutoff_on, currency=currency, at=at,
    )  # fmt: skip


def currency_of(creditor: Actor) -> str:
    """Its books' currency."""
    return "USD" if creditor.demo.key == "lender" else "CNY"


def give_book(
    db: Database, objects: Objects, creditor: Actor, random: Random, *, rows: int, prefix: str, cutoff_on: date,
    at: datetime,
) -> int:  # fmt: skip
    """Make up a book of overdue accounts as its creditor keeps it, and upload it; `prefix` begins the accounts' ids."""
    if creditor.demo.key == "lender":
        data = demo_data.tape_csv(random, rows=rows, prefix=prefix, year=cutoff_on.year - 1)
    else:
        data = demo_data.book_csv(random, rows=rows, prefix=prefix, cutoff_on=cutoff_on)
    return give_tape(
        db, objects, creditor, data, filename=f"{prefix}-{cutoff_on}.csv", currency=currency_of(creditor),
        cutoff_on=cutoff_on, at=at,
    )  # fmt: skip


def give_item(
    db: Database, objects: Objects, creditor: Actor, item: DemoItem, *, loan_id: str, pictures: int, at: datetime
) -> int:
    """Enter an item of collateral with its first pictures as its creditor; return its id.

    `loan_id`: the creditor's number of the account that it secures, or "".
    """
    read = read_item(item.form, on=at.date())
    item_id = db.in_transaction(
        collateral.create_item, creditor.party_id, read, loan_id=loan_id, person_id=creditor.person_id, at=at
    )
    for drawing in demo_data.pictures(item)[:pictures]:
        photograph: Photograph = read_photograph(drawing.data)
        full = objects.put(io.BytesIO(photograph.full), limit_bytes=PICTURE_BYTES)
        thumbnail = objects.put(io.BytesIO(photograph.thumbnail), limit_bytes=PICTURE_BYTES)
        db.in_transaction(
            collateral.add_picture, creditor.party_id, item_id, digest=full.digest, thumbnail_digest=thumbnail.digest,
            size=(photograph.width, photograph.height), captions=(drawing.caption_zh, drawing.caption_en),
            person_id=creditor.person_id, at=at,
        )  # fmt: skip
    return item_id


def make_portfolio(db: Database, creditor: Actor, *, name: str, selection: Selection, at: datetime) -> Portfolio:
    """Put selected overdue accounts together. Raises: BadInput, when none of them is free."""
    portfolio_id = portfolios.make_portfolio(
        db, creditor.party_id, creditor.person_id, name=name, selection=selection, at=at
    )
    return db.read(portfolios.portfolio, creditor.party_id, portfolio_id)


# --- terms and lots -----------------------------------------------------------------------------


def nice(amount_minor: int) -> int:
    """The nearest amount below of the form 1, 2 or 5 with noughts, at least one unit of the currency."""
    scale = 100
    while scale * 10 <= amount_minor:
        scale *= 10
    return next((scale * one for one in (5, 2) if scale * one <= amount_minor), scale)


def make_terms(
    random: Random, ruleset: Ruleset, *, kind: str, fair_minor: int, appraisal_minor: int | None,
    appraisal_on: date | None, opens_at: datetime, closes_at: datetime, balance_due_days: int = 10,
    reserved: bool = True,
) -> LotTerms:  # fmt: skip
    """Make up terms as a creditor would choose them.

    `fair_minor`: what the lot is worth to the usual investor; `reserved`: a reserve above the opening is possible.
    """
    listing, rules = ruleset.listing, ruleset.bidding
    opening = fair_minor * random.randint(52, 72) // 100
    if listing.opening_least_bp and appraisal_minor:
        opening = max(opening, ruleset.listing.least_opening_minor(appraisal_minor))
    step: int | None = nice(opening // 110)
    assert step is not None
    opening = -(-opening // step) * step
    deposit = -(-opening * random.randint(8, 14) // 100 // 10_000) * 10_000
    reserve, reserve_minor = "none", None
    if "opening" in rules.reserve:
        reserve, reserve_minor = "open", opening
    elif reserved and random.random() < 0.6:
        reserve = random.choice([one for one in rules.reserve if one not in ("none", "opening")])
        reserve_minor = opening + max(1, (fair_minor * random.randint(74, 88) // 100 - opening) // step) * step
    if rules.increments.kind != "listing":
        step = None
    premium_bp, commission_bp = (0, 0) if ruleset.name.startswith("cn-") else (random.choice((0, 100, 150)), 100)
    return LotTerms(
        ruleset=ruleset.name, opening_minor=opening, step_minor=step, reserve=reserve, reserve_minor=reserve_minor,
        deposit_minor=min(deposit, opening * (listing.deposit_most_bp or 2_000) // 10_000), opens_at=opens_at,
        closes_at=closes_at, balance_due_days=balance_due_days, premium_bp=premium_bp, commission_bp=commission_bp,
        appraisal_minor=appraisal_minor if kind != "portfolio" else None,
        appraisal_on=appraisal_on if kind != "portfolio" else None,
    )  # fmt: skip


STAGES = ("draft", "submitted", "approved", "published")


def draft_lot(db: Database, creditor: Actor, draft: LotDraft, terms: LotTerms, *, at: datetime) -> int:
    """Draft a lot with its terms as its creditor; return its id."""
    lot_id = db.in_transaction(lots.create_lot, creditor.party_id, draft, person_id=creditor.person_id, at=at)
    db.in_transaction(lots.set_terms, creditor.party_id, lot_id, terms, person_id=creditor.person_id, at=at)
    return lot_id


def list_lot(db: Database, cast: Cast, creditor: Actor, lot_id: int, *, to: str, at: datetime) -> int | None:
    """Take a lot whose terms are set as far as `to` (of STAGES); return its auction, once it is published.

    The creditor submits, the operator approves and publishes: what is sold was looked at by somebody else.
    """
    far = STAGES.index(to)
    status = db.read(lots.own_lot, creditor.party_id, lot_id).status
    operator = cast.operator.person_id
    if status in TERMS_OPEN and far >= 1:
        db.in_transaction(lots.submit, creditor.party_id, lot_id, person_id=creditor.person_id, at=at)
    if status in TERMS_OPEN and far >= 2:
        db.in_transaction(lots.approve, lot_id, person_id=operator, at=at)
    if far < 3:
        return None
    content = db.read(lots.content_of, lot_id)
    return db.in_transaction(lots.publish, lot_id, content, person_id=operator, at=at)


def take_part(db: Database, cast: Cast, auction_id: int, investor: Actor, *, approved: bool, at: datetime) -> bool:
    """Ask to take part as an investor, and be approved by the operator; return whether both went well.

    False: the party is barred from this auction (it did not pay for the lot before).
    """
    lot = db.read(_lot_of, auction_id)
    if db.read(settlement.is_barred, lot.id, investor.party_id):
        return False
    asked = db.in_transaction(
        participations.ask, auction_id, investor.party_id, agreed=agreement_hash(lot.frozen_hash), limit_minor=0,
        person_id=investor.person_id, at=at,
    )  # fmt: skip
    if approved:
        db.in_transaction(participations.approve, asked, priority_rank=None, person_id=cast.operator.person_id, at=at)
    return True


def _lot_of(session: Session, auction_id: int) -> Lot:
    auction = session.get_one(Auction, auction_id)
    return session.get_one(Lot, auction.lot_id)


# --- the bank -----------------------------------------------------------------------------------

CLIENTS_MONEY = "Clearlot demo clients' money"  # begins the name of each account whose statements we write
BY_HAND = "Clearlot demo, for statements that you upload"


def open_bank_accounts(session: Session, random: Random, operator: Actor, *, at: datetime) -> None:
    """Open two accounts in each currency: one that we move, and one that is left to people who try a file of theirs.

    Numbers and balances of statements go on from the last one, so both on one account would refuse each other's.
    """
    for name, numbers in ((CLIENTS_MONEY, random), (BY_HAND, Random(BY_HAND))):
        for currency in CURRENCIES:
            reconciliation.open_bank_account(
                session, name=f"{name} {currency}", iban=demo_data.bank_number(numbers), currency=currency,
                person_id=operator.person_id, at=at,
            )  # fmt: skip


def our_bank_accounts(session: Session) -> list[int]:
    """The accounts whose statements we write."""
    ours = select(BankAccount.id).where(col(BankAccount.name).startswith(CLIENTS_MONEY)).order_by(col(BankAccount.id))
    return list(session.exec(ours))


@dataclass(frozen=True, slots=True)
class BankDay:
    """What the bank would state now for one account: None in `paper`, when nothing moved."""

    account: BankAccount
    paper: StatementPaper | None


def pays_now(due: PaymentDue, *, seconds: int, at: datetime) -> bool:
    """Whether a payment is on its way: `seconds` after it was asked for, and up to as long again, each its own."""
    extra = int.from_bytes(hashlib.sha256(due.reference.encode()).digest()[:2], "big") % max(seconds, 1)
    return at >= due.created_at + timedelta(seconds=seconds + extra)


def bank_day(
    session: Session, account_id: int, *, at: datetime, pays: Callable[[PaymentDue], bool], limit: int = 200
) -> StatementPaper | None:
    """Return what the bank states for one account at `at`; None, when nothing moved.

    Which payments came in is decided by `pays`; every pay-out that is due goes out. Number and opening balance follow
    the last statement that we kept, so a bank that was asked twice states the same again.
    """
    account = session.get_one(BankAccount, account_id)
    last = session.exec(
        select(Statement).where(Statement.bank_account_id == account_id).order_by(col(Statement.id).desc())
    ).first()
    number = int(last.number.partition("/")[0]) + 1 if last else 1
    opening = last.closing_minor if last else 0
    movements: list[Movement] = []
    dues = session.exec(
        select(PaymentDue, Party)
        .join(Party, col(Party.id) == PaymentDue.party_id)
        .where(PaymentDue.status == "open", PaymentDue.currency == account.currency)
        .order_by(col(PaymentDue.id))
    )
    for due, party in dues:
        if len(movements) < limit and due.created_at <= at and pays(due):
            missing = due.amount_minor - due.paid_minor
            movements.append(
                Movement(
                    missing, f"{due.reference} {due.kind}", party.name, party.iban, f"IN{due.id:08d}", due.reference
                )
            )
    payouts = session.exec(
        select(Payout).where(Payout.status == "due", Payout.currency == account.currency).order_by(col(Payout.id))
    )
    for payout in payouts:
        if len(movements) < 2 * limit and payout.created_at <= at:
            text = f"{payout.reference} {payout.kind}"
            movements.append(
                Movement(-payout.amount_minor, text, payout.name, payout.iban, f"OUT{payout.id:08d}", payout.reference)
            )
    if not movements:
        return None
    on = at.astimezone(UTC).date()
    return StatementPaper(account.iban, account.currency, number, on, opening, tuple(movements))


def paying_statement(session: Session, reference: str, amount: str = "", *, at: datetime) -> tuple[str, bytes]:
    """The statement that the made-up bank would give if this payment came in: its name and content.

    For a party that somebody registered himself, for whom the made-up bank does not pay. `amount`: exact text;
    without it, what is missing. Raises: Conflict `reference_unknown`; BadInput.
    """
    due = session.exec(select(PaymentDue).where(PaymentDue.reference == reference, PaymentDue.status == "open")).first()
    ours = {session.get_one(BankAccount, one).currency: one for one in our_bank_accounts(session)}
    if due is None or due.currency not in ours:
        raise Conflict("reference_unknown")
    paper = bank_day(session, ours[due.currency], at=at, pays=lambda one: one.id == due.id)
    assert paper is not None
    if amount:
        amount_minor = parse_amount(amount, due.currency)
        paid = [replace(one, amount_minor=amount_minor) if one.end_to_end_id == reference else one
                for one in paper.movements]  # fmt: skip
        paper = replace(paper, movements=tuple(paid))
    return statement_file(paper, at=at)


def name_payees(db: Database, operator: Actor, *, at: datetime) -> None:
    """Do what an operator does for a debtor's surplus: ask him where it shall go, and write it down."""
    waiting = select(Payout.id, Payout.reference).where(Payout.status == "needs_payee")
    for payout_id, reference in db.read(lambda session: session.exec(waiting).all()):
        db.in_transaction(
            settlement.name_payee, payout_id, name=f"Debtor {reference[-4:]}",
            iban=demo_data.bank_number(Random(reference)), reason="the debtor's answer to our letter",
            person_id=operator.person_id, at=at,
        )  # fmt: skip


def statement_file(paper: StatementPaper, *, at: datetime) -> tuple[str, bytes]:
    """The statement as a file, as its bank sends it: yuan as camt.053, dollars as MT940. Returns name and content."""
    if paper.currency == "CNY":
        return f"{paper.currency}-{paper.number:05d}.camt.xml", demo_data.camt053(paper, at=at)
    return f"{paper.currency}-{paper.number:05d}.mt940.sta", demo_data.mt940(paper)


def give_statement(db: Database, objects: Objects, operator: Actor, paper: StatementPaper, *, at: datetime) -> int:
    """Upload a statement as the operator; return the file's id. A task reads it."""
    filename, data = statement_file(paper, at=at)
    kept = objects.put(io.BytesIO(data), limit_bytes=STATEMENT_BYTES)
    return db.in_transaction(
        reconciliation.keep_file, filename=filename, digest=kept.digest, size=kept.size_bytes,
        created_by=operator.person_id, gap_consent=False, at=at,
    )  # fmt: skip


# --- portfolios to sell -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Accounts that would make a portfolio, with its name in both languages."""

    selection: Selection
    name_en: str
    name_zh: str


_REGIONS_CN = (
    (("GD", "FJ"), "Guangdong and Fujian", "广东、福建"),
    (("ZJ", "JS"), "Zhejiang and Jiangsu", "浙江、江苏"),
    (("SC", "CQ"), "Sichuan and Chongqing", "四川、重庆"),
    (("SD", "SN"), "Shandong and Shaanxi", "山东、陕西"),
    (("HB", "HN"), "Hubei and Hunan", "湖北、湖南"),
)
_PRODUCTS_CN = (
    (("credit card",), "Credit card debt", "信用卡债权"),
    (("consumer loan",), "Consumer loans", "个人消费贷款债权"),
    (("small business loan",), "Small business loans", "小微企业贷款债权"),
    (("car loan", "home improvement loan"), "Car and renovation loans", "汽车及装修贷款债权"),
)
_REGIONS_US = (
    (("CA", "WA"), "Pacific coast", "太平洋沿岸"),
    (("TX", "GA", "FL"), "southern states", "南部各州"),
    (("NY", "NJ", "PA"), "north-eastern states", "东北部各州"),
    (("IL", "OH"), "Midwest", "中西部"),
)
_PRODUCTS_US = (
    (("debt_consolidation",), "Debt consolidation loans", "债务整合贷款债权"),
    (("credit_card",), "Card refinancing loans", "信用卡置换贷款债权"),
    (("home_improvement", "other", "car", "major_purchase", "medical", "small_business"), "Other personal loans",
     "其他个人贷款债权"),
)  # fmt: skip


def choices(session: Session, creditor: Actor) -> list[Choice]:
    """The portfolios that could be made of a creditor's tapes and were not yet, in a fixed order."""
    made = [one.selection for one in portfolios.portfolios(session, creditor.party_id, limit=1_000)]
    found = []
    for tape in reversed(portfolios.tapes(session, creditor.party_id)):
        if tape.status != "kept" or tape.filename.startswith(SECURED):
            continue
        products, regions = (_PRODUCTS_US, _REGIONS_US) if tape.currency == "USD" else (_PRODUCTS_CN, _REGIONS_CN)
        for place, place_en, place_zh in regions:
            for product, product_en, product_zh in products:
                selection = Selection(tape.id, statuses=("overdue",), products=product, regions=place)
                if _plain(selection) not in made:
                    found.append(Choice(selection, f"{product_en}, {place_en}", f"{product_zh}（{place_zh}）"))
    return found


def _plain(selection: Selection) -> dict[str, Any]:
    """The selection's values as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in selection.values().items()}


def portfolio_draft(db: Database, random: Random, creditor: Actor, *, at: datetime) -> tuple[LotDraft, int] | None:
    """Make the next portfolio of a creditor; return what its lot says and what it is worth to the usual investor.

    None: no accounts are left to make one of.
    """
    for choice in db.read(choices, creditor):
        try:
            made = make_portfolio(
                db, creditor, name=f"{choice.name_en} {choice.name_zh}", selection=choice.selection, at=at
            )
        except BadInput:
            continue  # they were sold in another portfolio, or there are none
        is_dollars = made.currency == "USD"
        share = random.randint(20, 38) if is_dollars else random.randint(9, 21)
        draft = LotDraft(
            "portfolio", made.id, f"{choice.name_en}: {made.accounts} accounts",
            f"{choice.name_zh}{made.accounts}笔",
            f"{made.accounts} overdue accounts of {made.borrowers} borrowers as of {made.cutoff_on}. Assigned without "
            f"recourse; the price is shared over the accounts by balance. {demo_data.MADE_UP}",
            f"截至{made.cutoff_on}，{made.borrowers}户{made.accounts}笔逾期债权，无追索权转让，价款按债权余额分摊至单户。"
            "本标的为演示虚构。",
            "",
        )  # fmt: skip
        return draft, made.balance_minor * share // 100
    return None
