"""The room over plain forms: taking part, bidding once, refusals with what would do, private things kept private."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlmodel import Session, select

from auctions.verify import verify
from storage import settlement
from storage.tables import Auction, Lot, Sale
from tests.storage import sales
from tests.web.conftest import Site, Visit
from tests.web.lot_world import World, terms


def key_of(page: str) -> str:
    found = re.search(r'name="command_id" value="([0-9a-f]{32})"', page)
    assert found
    return found.group(1)


def bid(visit: Visit, auction_id: int, amount: str, command_id: str) -> str:
    """Bid, confirmed; return the number of its entry."""
    answer = visit.post(
        f"/auctions/{auction_id}/bids", {"command_id": command_id, "amount": amount, "confirmed": "yes"}
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].split("answer=")[1].split("#")[0]


def mine(visit: Visit, auction_id: int, answer: str = "") -> str:
    page = visit.get(f"/auctions/{auction_id}/mine?answer={answer}&lang=en").text
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_a_bidder_without_script(site: Site) -> None:
    world = World(site)
    lot_id, auction_id = world.published()
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    page = one.get(f"/lots/{lot_id}?lang=en").text
    for facts in ("Bid CNY 840,000", "Bid CNY 845,000", "You are Bidder 1", "CNY 84,000.00 received"):
        assert facts in page
    key = key_of(page)
    # The first bid on a lot is confirmed; the confirmation keeps the key.
    asked = one.post(f"/auctions/{auction_id}/bids", {"command_id": key, "amount": "840000"})
    assert asked.status_code == 200
    assert "Confirm bid CNY 840,000" in asked.text
    assert "852,600.00" in asked.text  # with the premium
    assert "within 10 business days of the close" in page
    assert f'value="{key}"' in asked.text
    number = bid(one, auction_id, "840000", key)
    assert bid(one, auction_id, "840000", key) == number, "asking twice is asking once"
    reused = one.post(f"/auctions/{auction_id}/bids", {"command_id": key, "amount": "850000", "confirmed": "yes"})
    assert reused.status_code == 409
    said = " ".join(re.sub(r"<[^>]+>", " ", reused.text).split())
    assert "Nothing was recorded now. This key was used for another command." in said
    assert f"The first answer, entry {number}: CNY 840,000 was accepted." in said
    assert f'value="{key}"' not in reused.text, "the next bid has a key of its own"
    page = one.get(f"/lots/{lot_id}?answer={number}").text
    assert "You lead. Nothing to do." in page
    assert "Accepted: CNY 840,000, entry" in mine(one, auction_id, number)
    # Nobody sees another one's answer or receipt.
    assert "Accepted" not in mine(other, auction_id, number)
    assert other.get(f"/auctions/{auction_id}/receipts/{number}").status_code == 404
    bid(other, auction_id, "845000", "x1")
    assert "Outbid" in mine(one, auction_id)
    for path in (f"/lots/{lot_id}", f"/auctions/{auction_id}/live"):  # the whole page, and what is pushed into it
        assert "From CNY 840,000 to CNY 845,000 in 2 bids." in one.get(path).text
    # A second bid at a button's price needs no confirmation; one far above does.
    again = one.post(f"/auctions/{auction_id}/bids", {"command_id": "k3", "amount": "850000.00"})
    assert again.status_code == 303
    # Its answer was lost and it comes again, when it leads already: the first answer, not a question about one more.
    lost = one.post(f"/auctions/{auction_id}/bids", {"command_id": "k3", "amount": "850000.00"})
    assert (lost.status_code, lost.headers["location"]) == (303, again.headers["location"])
    far = one.post(f"/auctions/{auction_id}/bids", {"command_id": "k4", "amount": "990000"})
    assert far.status_code == 200


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("835000", "CNY 835,000 is below the minimum, now CNY 840,000"),
        ("841000", "Nearest: CNY 840,000 or CNY 845,000"),
        ("1005000", "above your limit for this lot, CNY 1,000,000"),
    ],
)
def test_a_refusal_says_what_would_do(demo_site: Site, amount: str, sentence: str) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    one = world.bidder(auction_id, limit="1000000")
    world.opened(auction_id)
    assert sentence in mine(one, auction_id, bid(one, auction_id, amount, "r1"))


def test_who_has_reached_the_limit_is_told_and_asked_nothing(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one, other = world.bidder(auction_id, limit="850000"), world.bidder(auction_id)
    world.opened(auction_id)
    page = one.get(f"/lots/{lot_id}").text
    assert "Bid CNY 845,000" in page
    assert "Bid CNY 865,000" not in page, "a jump above the limit must be refused"
    refused = one.post(f"/auctions/{auction_id}/bids", {"command_id": "far", "amount": "900000"})
    assert refused.status_code == 303, "what must be refused is not confirmed first"
    number = refused.headers["location"].split("answer=")[1].split("#")[0]
    assert "above your limit for this lot, CNY 850,000" in mine(one, auction_id, number)
    bid(other, auction_id, "850000", "o")
    page = one.get(f"/lots/{lot_id}?lang=en").text
    assert "The minimum CNY 855,000 is above your limit CNY 850,000, so you can bid no more here." in page
    assert "It is the limit that you set yourself" in page
    assert 'id="bidform"' not in page
    assert 'id="freeform"' not in page
    asked = one.post(f"/auctions/{auction_id}/bids", {"command_id": "x", "amount": "850000"})
    assert "is above your limit" in asked.text
    assert 'id="confirm"' not in asked.text


def test_the_standing_names_its_own_entry(demo_site: Site) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    number = bid(one, auction_id, "840000", "a")
    bid(one, auction_id, "1", "low")  # the journal goes on, the standing stays
    part = one.get(f"/auctions/{auction_id}/live").text
    assert f"Bidder 1 · entry {number}" in " ".join(part.split())


def test_bad_amounts_change_nothing(demo_site: Site) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    for amount in ("1e6", "840,000", "-1", "840000.001", "", "８４００００", "NaN"):
        answer = one.post(f"/auctions/{auction_id}/bids", {"command_id": "b", "amount": amount, "confirmed": "yes"})
        assert answer.status_code == 422, amount
    assert one.post(f"/auctions/{auction_id}/bids", {"command_id": "ö", "amount": "840000"}).status_code == 422
    assert demo_site.db.read(lambda session: session.get_one(Auction, auction_id).bids) == 0
    assert one.post("/auctions/999/bids", {"command_id": "b", "amount": "1"}).status_code == 404


def test_automatic_bidding(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    asked = one.post(f"/auctions/{auction_id}/proxy", {"command_id": "p1", "maximum": "900000"})
    assert "Confirm maximum CNY 900,000" in asked.text
    done = one.post(f"/auctions/{auction_id}/proxy", {"command_id": "p1", "maximum": "900000", "confirmed": "yes"})
    assert done.status_code == 303
    number = bid(other, auction_id, "860000", "o1")
    assert "Another bidder's automatic maximum is higher" in mine(other, auction_id, number)
    page = other.get(f"/lots/{lot_id}").text
    assert "900000" not in page
    assert "900,000" not in page
    assert "up to CNY 900,000" in mine(one, auction_id)
    assert one.post(f"/auctions/{auction_id}/proxy", {"command_id": "p2", "stop": "1"}).status_code == 303
    assert "Automatic bidding : off" in mine(one, auction_id).replace("bidding:", "bidding :")


def test_who_may_not_bid(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published(opens=timedelta(days=1))
    page = demo_site.person("investor").get(f"/lots/{lot_id}").text
    agreement = page.split('name="agreement" value="', 1)[1].split('"', 1)[0]
    form = {"agreed": "on", "agreement": agreement}
    ask = f"/auctions/{auction_id}/participations"
    own = demo_site.person("investor", party_id=world.creditor.party_id)
    platform = demo_site.person("investor", party_id=world.operator.party_id)
    assert own.post(ask, form).status_code == 403
    assert platform.post(ask, form).status_code == 403
    assert demo_site.person("investor", status="registered").post(ask, form).status_code == 403
    someone = demo_site.person("investor")
    assert someone.post(ask, {"agreement": agreement}).status_code == 422  # not agreed
    assert someone.post(ask, {**form, "agreement": "0" * 64}).status_code == 409  # to something else
    assert world.creditor.post(ask, form).status_code == 403
    guest = demo_site.guest()
    assert guest.post(ask, form).status_code in (401, 403)
    assert guest.get(f"/lots/{lot_id}").status_code == 200
    assert someone.post(ask, form).status_code == 303
    asked = world.asked(auction_id, someone)
    assert world.operator.post(f"/participations/{asked.id}/refuse", {"reason": "no funds shown"}).status_code == 303
    assert "no funds shown" in someone.get(f"/lots/{lot_id}").text
    assert someone.post(f"/participations/{asked.id}/approve").status_code == 403


def test_what_others_see_names_nobody(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one = world.bidder(auction_id, name="Secret Capital Partners")
    other = world.bidder(auction_id)
    world.opened(auction_id)
    bid(one, auction_id, "840000", "s1")
    places = [f"/lots/{lot_id}", f"/auctions/{auction_id}/live", f"/auctions/{auction_id}/journal.jsonl", "/lots"]
    for visit in (other, demo_site.guest()):
        for place in places:
            text = visit.get(place).text
            assert "Secret Capital" not in text
            assert f'"party_id":{one.party_id}' not in text.replace("\\", "")
    shown = other.api("GET", f"/auctions/{auction_id}").json()
    assert shown["leader"] == 1
    assert "Secret" not in json.dumps(shown)


def test_the_journal_and_the_receipt_can_be_checked_outside(demo_site: Site) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    number = bid(one, auction_id, "840000", "j1")
    assert one.get(f"/auctions/{auction_id}/receipts/{number}").status_code == 200
    signed = one.get(f"/auctions/{auction_id}/receipts/{number}?as=json").json()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signed["public_key"]))
    key.verify(base64.b64decode(signed["signature"]), signed["text"].encode())
    lines = demo_site.guest().get(f"/auctions/{auction_id}/journal.jsonl").text.splitlines()
    assert verify(lines).good
    assert json.loads(lines[int(number) - 1])["hash"] == json.loads(signed["text"])["hash"]


def test_bidding_by_the_api(demo_site: Site) -> None:
    world = World(demo_site)
    _, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    key = {"Idempotency-Key": "api-1"}
    address = f"/auctions/{auction_id}/bids"
    first = one.api("POST", address, json={"amount": "840000.00"}, headers=key).json()
    assert (first["outcome"], first["leading"]) == ("accepted", True)
    assert one.api("POST", address, json={"amount": "840000.00"}, headers=key).json() == first
    assert one.api("POST", address, json={"amount": "850000"}, headers=key).status_code == 409
    low = one.api("POST", address, json={"amount": "1"}, headers={"Idempotency-Key": "api-2"}).json()
    assert low["outcome"] == "refused"
    assert one.api("POST", address, json={"amount": 840000}, headers={"Idempotency-Key": "x"}).status_code == 422
    assert one.api("POST", address, json={"amount": "840000"}).status_code == 422
    entries = one.api("GET", f"/auctions/{auction_id}/entries?after=1&limit=2").json()
    assert len(entries["entries"]) == 2
    assert one.api("GET", f"/auctions/{auction_id}/participation").json()["status"] == "admitted"


def test_pause_and_resume(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    assert one.post(f"/auctions/{auction_id}/control/pause", {"reason": "x"}).status_code == 403
    control = f"/auctions/{auction_id}/control"
    assert world.operator.post(f"{control}/pause", {"reason": "Network fault"}).status_code == 303
    page = one.get(f"/lots/{lot_id}?lang=en").text
    assert "Network fault" in page
    assert "No bid is taken while the auction is paused" in page
    assert "Bidding was paused at" in mine(one, auction_id, bid(one, auction_id, "840000", "w1"))
    assert world.operator.post(f"{control}/resume").status_code == 303
    assert world.operator.post(f"{control}/resume").status_code == 403  # it is not paused
    assert "You lead" in mine(one, auction_id, bid(one, auction_id, "840000", "w2"))


def test_sold_not_paid_listed_again_the_old_buyer_barred(demo_site: Site) -> None:
    """One lot, two auctions: the second has number 2, and the defaulted buyer may not take part."""
    world = World(demo_site)
    # The ruleset without a soft close, so that the end stands.
    lot_id, auction_id = world.published(ruleset="ebay-proxy", step="", lasts=timedelta(seconds=4))
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    bid(one, auction_id, "840000", "d1")
    found = select(Sale).where(Sale.auction_id == auction_id)
    world.until(lambda: demo_site.db.read(lambda session: session.exec(found).first()) is not None)
    sale = demo_site.db.read(lambda session: session.exec(found).one())
    assert sale.buyer_id == one.party_id
    assert "You won at" in mine(one, auction_id)
    assert "Another bidder won this lot" in mine(other, auction_id)
    demo_site.db.in_transaction(settlement.default, sale.id, at=datetime.now(UTC) + timedelta(days=40), reason="late")
    assert demo_site.db.read(lambda session: session.get_one(Lot, lot_id).status) == "defaulted"
    new = terms(opens=timedelta(days=1))
    assert world.creditor.post(f"/lots/{lot_id}/edit/terms", new).status_code == 303
    assert world.creditor.post(f"/lots/{lot_id}/edit/submit").status_code == 303
    assert world.operator.post(f"/lots/queue/{lot_id}/publish").status_code == 303
    auctions = demo_site.db.read(lambda session: session.exec(select(Auction).where(Auction.lot_id == lot_id)).all())
    assert [auction.number for auction in auctions] == [1, 2]
    barred = one.get(f"/lots/{lot_id}?lang=en").text
    assert "did not pay, so it may not bid again" in barred  # in place of the form that would be refused
    assert 'name="agreement"' not in barred
    page = other.get(f"/lots/{lot_id}").text
    agreement = page.split('name="agreement" value="', 1)[1].split('"', 1)[0]
    form = {"agreed": "on", "agreement": agreement}
    assert one.post(f"/auctions/{auctions[1].id}/participations", form).status_code == 403
    assert other.post(f"/auctions/{auctions[1].id}/participations", form).status_code == 303


def test_what_is_confirmed(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    bid(one, auction_id, "840000", "a")
    bid(other, auction_id, "850000", "b")
    address = f"/auctions/{auction_id}/bids"
    # What the standing has passed turns into the minimum, and is not sent.
    asked = one.post(address, {"command_id": "c", "amount": "845000", "step": "review"})
    assert "CNY 845,000 is below the minimum now." in asked.text
    assert "Confirm bid CNY 855,000" in asked.text
    assert 'name="amount" value="855000.00"' in asked.text
    # At most ten steps over the minimum, and not the first: it needs none; from the bidder's own threshold on it does.
    assert one.post(f"/auctions/{auction_id}/confirm-from", {"confirm_from": "860000"}).status_code == 303
    assert "Confirmed from" in one.get(f"/lots/{lot_id}?lang=en").text
    assert one.post(address, {"command_id": "d", "amount": "860000"}).status_code == 200
    assert one.post(f"/auctions/{auction_id}/confirm-from", {"confirm_from": "1e5"}).status_code == 422
    assert one.post(f"/auctions/{auction_id}/confirm-from", {"confirm_from": ""}).status_code == 303
    assert one.post(address, {"command_id": "d", "amount": "860000"}).status_code == 303
    assert other.post(address, {"command_id": "e", "amount": "920000"}).status_code == 200
    # A maximum stays what it was, and says that it is passed.
    low = other.post(f"/auctions/{auction_id}/proxy", {"command_id": "f", "maximum": "855000"}).text
    assert "The standing has passed this amount" in low
    assert "Confirm maximum CNY 855,000" in low


@pytest.mark.parametrize(
    ("currency", "more", "button"),
    [
        ("JPY", {"opening": "840000", "step": "5000"}, "Bid JPY 840,000"),
        ("KWD", {"opening": "840.125", "step": "5.005", "deposit": "84.125"}, "Bid KWD 840.125"),
        ("KWD", {"opening": "840", "step": "5", "deposit": "84.125"}, "Bid KWD 840<"),
    ],
)
def test_decimals_are_those_of_the_lot(demo_site: Site, currency: str, more: dict[str, str], button: str) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published(world.item(currency=currency, liens=""), **more)
    one = world.bidder(auction_id)
    world.opened(auction_id)
    assert button in one.get(f"/lots/{lot_id}?lang=en").text
    bid(one, auction_id, more["opening"], "a")
    assert f"standing + {currency} {int(float(more['step'])):,}" in mine_of(one, lot_id)


def mine_of(visit: Visit, lot_id: int) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", visit.get(f"/lots/{lot_id}?lang=en").text).split())


def test_before_the_opening(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published(opens=timedelta(days=1))
    one = world.bidder(auction_id)
    page = one.get(f"/lots/{lot_id}?lang=en").text
    assert f"/auctions/{auction_id}/calendar.ics" in page
    file = one.get(f"/auctions/{auction_id}/calendar.ics?lang=zh")
    assert file.headers["content-type"].startswith("text/calendar")
    lines = file.text.replace("\r\n ", "").split("\r\n")
    assert lines.count("BEGIN:VEVENT") == 2
    opens_at = demo_site.db.read(lambda session: session.get_one(Auction, auction_id).opens_at)
    assert f"DTSTART:{opens_at:%Y%m%dT%H%M%SZ}" in lines
    assert all(len(line.encode()) <= 75 for line in file.text.split("\r\n"))
    # What the bidder has at stake, and the newest hash under the platform's signature.
    assert "CNY 84,000.00" in one.get("/bids?lang=en").text.split("<table", 1)[0]
    signed = one.get(f"/auctions/{auction_id}/checkpoint.json").json()
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signed["public_key"]))
    key.verify(base64.b64decode(signed["signature"]), signed["text"].encode())
    text = json.loads(signed["text"])
    last = one.get(f"/auctions/{auction_id}/journal.jsonl").text.splitlines()[-1]
    assert text["hash"] == json.loads(last)["hash"]
    assert text["hash"][:16] in page


def test_a_lot_taken_off_sale(demo_site: Site) -> None:
    world = World(demo_site)
    lot_id, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    assert world.operator.post(f"/auctions/{auction_id}/control/pause", {"reason": "fault"}).status_code == 303
    assert "at least 1 minute will" in mine_of(one, lot_id)
    assert world.operator.post(f"/auctions/{auction_id}/control/withdraw", {"reason": "debt paid"}).status_code == 303
    world.until(lambda: "debt paid" in demo_site.db.read(lambda session: session.get_one(Lot, lot_id).decision))
    page = one.get(f"/lots/{lot_id}?lang=en").text
    strip = page.split('id="strip-live"', 1)[1].split("</div>", 1)[0]
    assert "Withdrawn" in strip
    assert "Closed" not in strip


def test_a_judicial_lot_shows_its_eleven_items_and_seven_warnings(site: Site) -> None:
    """Fa Shi [2016] 18, articles 13 and 14; what the listing does not give is said to be missing."""
    sold = sales.world(site.db)
    sold.publish()

    def show(session: Session) -> None:
        lot = session.get_one(Lot, sold.lot)
        lot.frozen = {"terms": lot.terms, "creditor": "Northern Asset Management"}
        lot.frozen_hash, lot.published_at = "0" * 64, lot.created_at

    site.db.in_transaction(show)
    words = {"en": ("Announcement", "Not given in this listing"), "zh": ("拍卖公告信息", "未提供")}
    for language, (title, absent) in words.items():
        page = site.guest().get(f"/lots/{sold.lot}?lang={language}", follow_redirects=True).text
        announcement = page.split('id="announcement"', 1)[1].split("</section>", 1)[0]
        for each in (title, absent, "840,000", "Northern Asset Management"):
            assert each in announcement
        assert announcement.count("<li>") == 11
        assert page.split('id="warnings"', 1)[1].split("</section>", 1)[0].count("<li>") == 7
