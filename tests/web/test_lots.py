"""From a vehicle to a published lot, over the pages; what is refused on the way; who may see what."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, timedelta

from sqlmodel import Session, select

from auctions.journal import ZERO_HASH, read_entry
from auctions.messages import Created
from storage.tables import Auction, Entry, LoanAccount, Lot, Picture, Tape
from tests.web.conftest import Site
from tests.web.lot_world import DRAFT, ITEM, World, photograph, terms
from web.render import utc_now


def account(site: Site, creditor_id: int, loan_id: str = "L-1") -> int:
    """An overdue account of the creditor, on a tape that is kept."""

    def make(session: Session) -> int:
        tape = Tape(
            creditor_id=creditor_id, filename="t.csv", digest="d", size=1, status="kept", created_by=1,
            cutoff_on=date(2026, 10, 1), created_at=utc_now(),
        )  # fmt: skip
        session.add(tape)
        session.flush()
        row = LoanAccount(
            creditor_id=creditor_id, tape_id=tape.id, row=1, loan_id=loan_id, status="overdue", currency="CNY",
            cutoff_on=date(2026, 10, 1), principal_minor=100, interest_minor=0, fees_minor=0, balance_minor=100, dpd=90,
            bucket="31-120",
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.id

    return site.db.in_transaction(make)


def status(site: Site, account_id: int) -> str:
    return site.db.read(lambda session: session.get_one(LoanAccount, account_id).status)


def test_publication_freezes_lists_the_account_and_begins_the_journal(site: Site) -> None:
    world = World(site)
    account_id = account(site, world.creditor.party_id)
    item = world.item(pictures=2, loan_id="L-1")
    lot_id, auction_id = world.published(item, opens=timedelta(days=1))
    lot, auction, entry = site.db.read(
        lambda session: (
            session.get_one(Lot, lot_id),
            session.get_one(Auction, auction_id),
            session.exec(select(Entry).where(Entry.auction_id == auction_id)).one(),
        )
    )
    assert (lot.status, auction.phase, auction.sequence, auction.number) == ("published", "upcoming", 1, 1)
    assert status(site, account_id) == "listed"
    created = read_entry(entry.public, entry.private, ZERO_HASH, entry.hash).events[0]
    assert isinstance(created, Created)
    assert created.terms.lot_sha256 == lot.frozen_hash
    assert created.terms.deposit_minor == 8_400_000
    file = world.site.guest().get(f"/lots/{lot_id}/frozen.json")
    assert hashlib.sha256(file.content).hexdigest() == lot.frozen_hash
    assert len(file.json()["content"]["pictures"]) == 2
    for address in (f"/collateral/{item}/edit", f"/collateral/{item}"):
        assert world.creditor.get(address).status_code == 200
    assert world.creditor.post(f"/collateral/{item}", ITEM).status_code == 409
    files = {"picture": ("a.jpg", photograph(500), "image/jpeg")}
    assert world.creditor.post(f"/collateral/{item}/pictures", files=files).status_code == 409


def test_a_withdrawn_lot_gives_its_account_back(site: Site) -> None:
    world = World(site)
    account_id = account(site, world.creditor.party_id)
    lot_id, auction_id = world.published(world.item(loan_id="L-1"), opens=timedelta(days=1))
    assert world.operator.post(f"/auctions/{auction_id}/control/withdraw", {"reason": ""}).status_code == 422
    assert world.operator.post(f"/auctions/{auction_id}/control/withdraw", {"reason": "debt paid"}).status_code == 303
    world.until(lambda: status(site, account_id) == "overdue")
    assert "debt paid" in world.operator.get(f"/lots/{lot_id}").text
    assert site.guest().get("/lots?state=withdrawn").text.count("lotcard") >= 1


def test_what_a_ruleset_refuses_is_shown_with_its_article(site: Site) -> None:
    world = World(site)
    answer = world.creditor.post("/lots", {"kind": "vehicle", "content_id": world.item(), **DRAFT})
    lot_id = int(answer.headers["location"].split("/")[2])
    court = terms(ruleset="cn-judicial-2017", opening="699999.99", opens=timedelta(days=3))
    assert world.creditor.post(f"/lots/{lot_id}/edit/terms", court).status_code == 303
    page = world.creditor.get(f"/lots/{lot_id}/edit?step=terms&lang=en").text
    assert "69.99%" in page
    assert "article 10" in page
    refused = world.creditor.post(f"/lots/{lot_id}/edit/submit")
    assert refused.status_code == 422
    answer = world.creditor.api("POST", f"/lots/{lot_id}/submit")
    assert answer.status_code == 422
    codes = {fault["code"] for fault in answer.json()["faults"]}
    assert codes == {"opening_low", "notice_short", "deposit_share", "too_short"} - {"deposit_share"}
    wrong = world.creditor.post(f"/lots/{lot_id}/edit/terms", terms(opening="1e6", deposit=""))
    assert wrong.status_code == 422
    assert 'value="1e6"' in wrong.text  # what was typed is still there
    little = world.creditor.post(f"/lots/{lot_id}/edit/terms", terms(deposit="20000"))
    assert little.status_code == 422, "the deposit's rule is said at its field, not two steps later"
    assert 'id="e-deposit"' in little.text
    assert "allowed" in little.text


def test_the_wizard_says_what_binds(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id = world.submitted(opens=timedelta(days=1), limit_per_deposit="20")
    review = world.operator.get(f"/lots/queue/{lot_id}?lang=en").text
    bidders = world.creditor.get(f"/lots/{lot_id}?lang=en").text
    assert world.operator.post(f"/lots/queue/{lot_id}/send-back", {"reason": "Photographs"}).status_code == 303
    preview = world.creditor.get(f"/lots/{lot_id}/edit?step=submit").text
    for page in (review, bidders, preview):
        assert "20 times the deposit: CNY 1,680,000.00" in page
        assert "<dt>Ruleset</dt><dd>English auction with maximum bids and soft close</dd>" in page
    form = world.creditor.get(f"/lots/{lot_id}/edit?step=terms").text
    step = form.split('for="f-step"')[1].split("</label>")[0]
    assert "(by the ruleset)" in step
    assert "Needed under: " in form
    assert "English auction with maximum bids and soft close: 5.00% to 20.00% of the opening." in form


def test_the_operator_sends_back_and_cannot_be_skipped(site: Site) -> None:
    world = World(site)
    lot_id = world.submitted(opens=timedelta(days=1))
    assert world.creditor.post(f"/lots/queue/{lot_id}/publish").status_code == 403
    assert world.operator.post(f"/lots/queue/{lot_id}/send-back", {"reason": " "}).status_code == 422
    assert (
        world.operator.post(f"/lots/queue/{lot_id}/send-back", {"reason": "Photographs are missing"}).status_code == 303
    )
    assert "Photographs are missing" in world.creditor.get(f"/lots/{lot_id}/edit").text
    assert world.operator.post(f"/lots/queue/{lot_id}/publish").status_code in (404, 409)
    both = site.person("operator", "asset_manager", party_id=world.creditor.party_id)
    item = world.item(vin="JHMCM56557C404453", model_year="2007")
    answer = both.post("/lots", {"kind": "vehicle", "content_id": item, **DRAFT})
    own = int(answer.headers["location"].split("/")[2])
    both.post(f"/lots/{own}/edit/terms", terms(opens=timedelta(days=1)))
    both.post(f"/lots/{own}/edit/submit")
    assert both.post(f"/lots/queue/{own}/publish").status_code == 403  # four eyes


def test_what_is_not_published_is_not_there(site: Site) -> None:
    world = World(site)
    item = world.item(pictures=1)
    lot_id = world.submitted(item, opens=timedelta(days=1))
    picture = site.db.read(lambda session: session.exec(select(Picture.id)).one())
    other, guest = site.person("asset_manager"), site.guest()
    for visit in (other, guest):
        assert visit.get(f"/lots/{lot_id}").status_code == 404
        assert visit.get(f"/lots/{lot_id}/frozen.json").status_code == 404
        assert visit.get(f"/pictures/{picture}/small").status_code == 404
        assert f"/lots/{lot_id}" not in visit.get("/lots").text
    assert other.get(f"/lots/{lot_id}/edit").status_code == 404
    assert other.post(f"/lots/{lot_id}/edit/terms", terms()).status_code == 404
    assert other.get(f"/collateral/{item}").status_code == 404
    assert other.api("GET", f"/lots/{lot_id}").status_code == 404
    assert world.creditor.get(f"/lots/{lot_id}").status_code == 200
    shown = world.creditor.get(f"/pictures/{picture}/full")
    assert shown.headers["content-type"] == "image/webp"
    assert shown.headers["x-content-type-options"] == "nosniff"
    world.operator.post(f"/lots/queue/{lot_id}/publish")
    assert guest.get(f"/lots/{lot_id}").status_code == 200
    assert guest.get(f"/pictures/{picture}/small").status_code == 200


def test_the_catalogue_filters_counts_and_follows(site: Site) -> None:
    world = World(site)
    lot_id, _ = world.published(opens=timedelta(days=1))
    investor = site.person("investor")
    for query, found in (
        ("", True), ("?kind=vehicle", True), ("?kind=property", False), ("?state=upcoming", True),
        ("?state=open", False),
        ("?q=轿车", True), ("?q=100%25", False), ("?least=840000.01", False), ("?most=840000", True),
        ("?ruleset=english-proxy-soft-close", True), ("?ruleset=ebay-proxy", False), ("?page=x&sort=nonsense", True),
        ("?watched=1", False),
    ):  # fmt: skip
        page = investor.get(f"/lots{query}")
        assert page.status_code == 200
        assert (f'href="/lots/{lot_id}"' in page.text) is found, query
    assert investor.post(f"/lots/{lot_id}/watch", {"follow": "yes"}).status_code == 303
    assert f'href="/lots/{lot_id}"' in investor.get("/lots?watched=1").text
    listed = investor.api("GET", "/lots?kind=vehicle&limit=1").json()
    assert [one["id"] for one in listed["lots"]] == [lot_id]
    assert listed["lots"][0]["terms"]["opening"] == "840000.00"


def test_a_lot_by_the_api(site: Site) -> None:
    world = World(site)
    body = {
        "kind": "vehicle",
        "content_id": world.item(),
        **DRAFT,
        **terms(opens=timedelta(days=1)),
        "balance_due_days": 10,
    }
    made = world.creditor.api("POST", "/lots", json=body)
    assert made.status_code == 201, made.text
    lot_id = made.json()["id"]
    assert world.creditor.api("POST", f"/lots/{lot_id}/submit").json()["status"] == "submitted"
    published = world.operator.api("POST", f"/lots/{lot_id}/publish").json()
    assert (published["status"], published["auction"]["phase"]) == ("published", "upcoming")
    assert datetime.fromisoformat(published["auction"]["opens_at"]) > datetime.now(UTC)
    wrong = world.creditor.api("POST", "/lots", json={**body, "opening": "1,0", "kind": "boat"})
    assert wrong.status_code == 422


def test_the_header_shows_where_one_is(demo_site: Site) -> None:
    manager = demo_site.person("asset_manager")
    for path, link in (
        ("/accounts", "/portfolios"),
        ("/collateral", "/lots"),
        ("/lots/mine", "/lots"),
        ("/home", "/home"),
    ):
        header = manager.get(path).text.split("</header>")[0]
        assert re.findall(r'<a href="([^"]+)" aria-current="page"', header) == [link]
        assert header.count("<li>") == 5
