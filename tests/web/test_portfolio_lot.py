"""A lot of overdue accounts from its tape to the last one closed out, by pages, on both databases."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from sqlmodel import Session, col, func, select

from market.lots import canonical
from storage import settlement
from storage.ledger import balance
from storage.tables import Auction, LoanAccount, Lot, PaymentDue, Sale, SaleAccount
from tests.web.conftest import Site, Visit
from tests.web.lot_world import World, terms
from tests.web.test_portfolios import send
from tests.web.test_rooms import bid

ROWS = [("L1", 100_000, 1_000, 45), ("L2", 200_000, 2_050, 20), ("L3", 300_000, 0, 60), ("L4", 40_000, 100, 200)]
TAPE = "loan_id,borrower_id,principal,interest_due,dpd,product,region\n" + "".join(
    f"{loan},B-{loan},{principal / 100:.2f},{interest / 100:.2f},{dpd},cars,Hebei\n"
    for loan, principal, interest, dpd in ROWS
)
TEXTS = {"title_zh": "逾期债权包", "title_en": "Late accounts", "text_zh": "四笔。", "text_en": "Four.", "place": ""}


def portfolio_of(visit: Visit) -> int:
    """Every account of the tape as a portfolio; its id."""
    send(visit, TAPE.encode())
    made = visit.post("/portfolios?status=overdue", {"name": "Late"})
    assert made.status_code == 303, made.text
    return int(made.headers["location"].rsplit("/", 1)[1])


def drafted(world: World, portfolio_id: int) -> int:
    """A lot that waits for the operator."""
    answer = world.creditor.post("/lots", {"kind": "portfolio", "content_id": portfolio_id, **TEXTS})
    assert answer.status_code == 303, answer.text
    lot_id = int(answer.headers["location"].split("/")[2])
    of_auction = terms(
        opens=timedelta(seconds=3), lasts=timedelta(seconds=5), ruleset="ebay-proxy", step="", opening="1000",
        deposit="100", appraisal="", appraisal_on="",
    )  # fmt: skip
    for step, values in (("terms", of_auction), ("texts", TEXTS), ("submit", {})):
        answer = world.creditor.post(f"/lots/{lot_id}/edit/{step}", values)
        assert answer.status_code == 303, answer.text
    return lot_id


def states(site: Site) -> dict[str, int]:
    """How many accounts are in which state."""

    def count(session: Session) -> dict[str, int]:
        return dict(session.exec(select(LoanAccount.status, func.count()).group_by(LoanAccount.status)).all())

    return site.db.read(count)


def test_from_the_tape_to_accounts_closed_out(site: Site) -> None:
    world = World(site)
    lot_id = drafted(world, portfolio_of(world.creditor))
    assert world.operator.post(f"/lots/queue/{lot_id}/publish").status_code == 303
    auction = site.db.read(lambda session: session.exec(select(Auction).where(Auction.lot_id == lot_id)).one())

    # What is frozen, its hash, and the hash of the accounts in it, made anew from the tape.
    lot = site.db.read(lambda session: session.get_one(Lot, lot_id))
    assert lot.frozen is not None
    assert hashlib.sha256(canonical(lot.frozen)).hexdigest() == lot.frozen_hash
    lines = "".join(f"{loan}|USD|{p}|{i}|0|{p + i}|{dpd}\n" for loan, p, i, dpd in ROWS)
    assert lot.frozen["content"]["accounts_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert states(site) == {"listed": 4}
    page = site.guest().get(f"/lots/{lot_id}?lang=en").text
    for words in ("Late accounts", "USD 6,431.50", "Overdue accounts", "Opening", "USD 1,000"):
        assert words in page, words

    cards = site.guest().get("/lots?lang=en").text
    spark = cards.split('<svg class="spark"', 1)[1].split("</svg>", 1)[0]
    assert spark.count("<rect") == 3, "a bar for each bucket"
    assert 'height="40"' in spark, "the tallest fills the box"
    assert 'role="img" aria-label="Balance by delinquency bucket: ' in spark
    assert "16–30 days 31.42%, 31–60 days 62.35%, " in spark, "and in words what the bars show"

    one, other = world.bidder(auction.id), world.bidder(auction.id)
    world.opened(auction.id)
    bid(one, auction.id, "3000", "one")
    bid(other, auction.id, "2000", "other")
    world.until(lambda: site.db.read(lambda session: session.get_one(Auction, auction.id).outcome) == "sold")
    world.until(lambda: site.db.read(lambda session: session.exec(select(Sale.id)).first()) is not None)
    assert states(site) == {"under_contract": 4}
    sale = site.db.read(lambda session: session.exec(select(Sale)).one())
    shares = site.db.read(lambda session: session.exec(select(func.sum(SaleAccount.price_minor))).one())
    assert sale.hammer_minor == shares
    page = one.get(f"/lots/{lot_id}?lang=en").text
    assert "You won at" in page
    assert "Payment reference" in page
    assert "Another bidder won" in other.get(f"/lots/{lot_id}?lang=en").text

    def pay(session: Session) -> None:
        due = session.exec(select(PaymentDue).where(PaymentDue.sale_id == sale.id)).one()
        due.status, due.paid_minor = "paid", due.amount_minor
        session.add(due)
        settlement.balance_arrived(session, session.get_one(Sale, sale.id), at=datetime.now(UTC))

    site.db.in_transaction(pay)
    site.app.state.poke()
    world.until(lambda: states(site) == {"closed_out": 4})
    assert site.db.read(lambda session: session.get_one(Lot, lot_id).status) == "settled"
    assert site.db.read(balance, f"claims:{world.creditor.party_id}:USD") == 0
    assert "Hammer" in site.guest().get(f"/lots/{lot_id}?lang=en").text


def test_an_account_is_in_one_lot_at_a_time(site: Site) -> None:
    """Two portfolios may share accounts; the first to be published takes them, and the second changes nothing."""
    world = World(site)
    first = portfolio_of(world.creditor)
    answer = world.creditor.post("/portfolios?status=overdue&bucket=31-60", {"name": "Some of them"})
    second = int(answer.headers["location"].rsplit("/", 1)[1])
    ids = [drafted(world, one) for one in (first, second)]
    assert world.operator.post(f"/lots/queue/{ids[0]}/publish").status_code == 303
    assert world.operator.post(f"/lots/queue/{ids[1]}/publish").status_code == 409
    assert states(site) == {"listed": 4}
    assert site.db.read(lambda session: session.exec(select(func.count(col(Auction.id)))).one()) == 1
    world.until(lambda: states(site) == {"overdue": 4})  # nobody bid
    assert site.db.read(lambda session: session.get_one(Lot, ids[0]).status) == "unsold"
    assert "Nobody bid. The creditor may list the lot again." in world.creditor.get(f"/lots/{ids[0]}").text
