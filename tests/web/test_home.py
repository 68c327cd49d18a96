"""The homes of the roles: what needs somebody now."""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlmodel import Session

from storage import home
from storage.tables import BankAccount, Statement, StatementLine
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
