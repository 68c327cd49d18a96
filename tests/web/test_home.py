"""The homes of the roles: what needs somebody now."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlmodel import Session

from market.lots import LotTerms
from storage import home
from storage.tables import Auction, BankAccount, Lot, Sale, Statement, StatementLine
from tests.web.conftest import Site
from tests.web.lot_world import World


def needs(site: Site) -> dict[str, home.Need]:
    return {need.code: need for need in site.db.read(home.operator, at=datetime.now(UTC)).needs}


def test_a_paused_lot_needs_the_operator_until_it_is_resumed(site: Site) -> None:
    world = World(site)
    lot_id, auction_id = world.published()
    assert "need_paused" not in needs(site)
    before = datetime.now(UTC)
    control = f"/auctions/{auction_id}/control"
    world.until(lambda: world.operator.post(f"{control}/pause", {"reason": "Network fault"}).status_code == 303)
    need = needs(site)["need_paused"]
    assert (need.address, need.since >= before.replace(microsecond=0)) == (f"/lots/{lot_id}", True)
    assert "is paused: resume it, or withdraw it" in world.operator.get("/home?lang=en").text
    assert world.operator.post(f"{control}/resume").status_code == 303
    assert "need_paused" not in needs(site)


def test_lines_that_wait_need_the_operator(site: Site) -> None:
    day, taken = date(2026, 11, 20), datetime(2026, 11, 21, 6, tzinfo=UTC)

    def put(session: Session) -> None:
        bank = BankAccount(name="Bank", iban="DE1", currency="CNY")
        session.add(bank)
        session.flush()
        statement = Statement(
            bank_account_id=bank.id, number="1", digest="", format="csv", from_on=day, to_on=day, opening_minor=0,
            closing_minor=1, created_at=taken,
        )  # fmt: skip
        session.add(statement)
        session.flush()
        session.add(
            StatementLine(
                statement_id=statement.id, number=1, amount_minor=1, currency="CNY", booked_on=day, value_on=day,
                line_key="1",
            )
        )  # fmt: skip

    site.db.in_transaction(put)
    need = needs(site)["need_lines"]
    assert (need.address, need.facts["count"], need.since) == ("/reconciliation", 1, taken)
    assert "Statement lines that wait for a person: 1" in site.person("operator").get("/home?lang=en").text


def test_a_lot_not_sold_and_a_lot_not_paid_need_their_creditor_to_list_them_again(site: Site) -> None:
    """Both stand before older drafts, since the day on which they failed, and lead to the terms of the next auction."""
    world = World(site)
    creditor, now = world.creditor.party_id, datetime(2026, 11, 20, 8, tzinfo=UTC)

    def make(session: Session) -> dict[str, int]:
        ids = {}
        for number, status in enumerate(["draft"] * 8 + ["unsold", "defaulted"]):
            lot = Lot(
                reference=f"2026-{number:04}", creditor_id=creditor, kind="vehicle", title_en="Car", title_zh="车",
                currency="CNY", status=status, created_by=world.creditor.person_id, created_at=now - timedelta(days=9),
                terms=LotTerms.model_validate(
                    {"ruleset": "ebay-proxy", "opening_minor": 1, "deposit_minor": 0, "opens_at": now,
                     "closes_at": now, "balance_due_days": 1}
                ).kept(),
            )  # fmt: skip
            session.add(lot)
            session.flush()
            ids[status] = lot.id
            if status == "draft":
                continue
            auction = Auction(
                lot_id=lot.id, number=1, ruleset="ebay-proxy@1", currency="CNY", opens_at=now, closes_at=now,
                created_at=now, phase="closed",
            )  # fmt: skip
            session.add(auction)
            session.flush()
            if status == "defaulted":
                session.add(
                    Sale(
                        auction_id=auction.id, lot_id=lot.id, buyer_id=creditor, bidder=1, status=status,
                        currency="CNY", hammer_minor=1, premium_minor=0, commission_minor=0, deposit_minor=0,
                        due_at=now, created_at=now, defaulted_at=now + timedelta(days=1),
                    )
                )  # fmt: skip
        return ids

    ids = site.db.in_transaction(make)
    found = site.db.read(home.asset_manager, creditor, at=now).needs
    assert [(one.code, one.address, one.since) for one in found[:2]] == [
        ("need_lot_unsold", f"/lots/{ids['unsold']}/edit?step=terms", now),
        ("need_lot_defaulted", f"/lots/{ids['defaulted']}/edit?step=terms", now + timedelta(days=1)),
    ]
    assert len(found) == home.MOST_NEEDS
    for one in found[:2]:
        assert world.creditor.get(one.address).status_code == 200


def test_the_page_of_a_lot_leads_its_owner_and_its_operator_to_what_they_may_do(site: Site) -> None:
    world = World(site)
    lot_id = world.submitted(opens=timedelta(days=1))
    queue = f'href="/lots/queue/{lot_id}"'
    assert queue in world.operator.get(f"/lots/{lot_id}").text
    assert queue not in world.creditor.get(f"/lots/{lot_id}").text
    assert 'href="/lots/queue"' in world.operator.get(f"/lots/queue/{lot_id}").text.split("<main", 1)[1]
    again = f'href="/lots/{lot_id}/edit?step=terms"'
    assert again not in world.creditor.get(f"/lots/{lot_id}").text

    def send_back(session: Session) -> None:
        lot = session.get_one(Lot, lot_id)
        lot.status = "unsold"
        session.add(lot)

    site.db.in_transaction(send_back)
    assert again in world.creditor.get(f"/lots/{lot_id}").text
    assert again not in world.operator.get(f"/lots/{lot_id}").text
