"""The room in a real browser: two people in Chromium and one with the Python client; without script; axe."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT
from tests.servers import PATIENCE_S
from tests.web.conftest import Visit
from tests.web.lot_world import World, photograph
from tests.web.served import ServedSite, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def served(tmp_path: Path, sqlite_url: str) -> Iterator[ServedSite]:
    with serve(tmp_path / "data", sqlite_url) as site:
        yield site


class Seat:
    """A person in front of a browser; what goes wrong in its console fails the test."""

    def __init__(self, browser: Browser, site: ServedSite, visit: Visit | None, **more: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **more})
        if visit is not None:
            token = visit.client.cookies["clearlot-session"]
            self.context.add_cookies([{"name": "clearlot-session", "value": token, "url": site.url}])
        self.url, self.wrong = site.url, list[str]()
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)

    def open(self, address: str, language: str = "en") -> None:
        self.page.goto(f"{self.url}{address}?lang={language}")

    def see(self, selector: str, text: str) -> None:
        """Wait until `selector` shows `text`."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []


def client_bids(site: ServedSite, visit: Visit, auction_id: int, amount: str) -> Any:
    """Bid with the product's client, in a loop of its own thread: Playwright's loop is in this one."""
    from storage import parties
    from web.client import Client
    from web.render import utc_now
    from web.security import new_key

    key, prefix, secret_hash = new_key()
    site.db.in_transaction(
        parties.make_key, visit.person_id, name="test", scopes=["read", "bid"], prefix=prefix, secret_hash=secret_hash,
        at=utc_now(),
    )  # fmt: skip
    told: list[Any] = []

    async def run() -> None:
        async with Client(site.url, key=key) as client:
            told.append(await client.bid(auction_id, amount))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join(30)
    assert told, "the client got no answer"
    return told[0]


def press_and_confirm(seat: Seat) -> None:
    seat.page.locator("#quick .first").first.click()
    seat.page.locator("#confirm button.first").click()


def test_three_bidders_in_a_room(browser: Browser, served: ServedSite) -> None:
    world = World(served)
    lot_id, auction_id = world.published(world.item(pictures=1), lasts=timedelta(seconds=55))  # all in the last minute
    one, other, program = (world.bidder(auction_id) for _number in range(3))
    world.opened(auction_id)
    left, right = Seat(browser, served, one), Seat(browser, served, other)
    for seat in (left, right):
        seat.open(f"/lots/{lot_id}")
        seat.see("#link", "live")
    press_and_confirm(left)  # over the socket
    left.see("#mine", "Accepted: CNY 840,000")
    left.see("#mine", "You lead. Nothing to do.")
    left.see("#standing", "extended once")
    right.see("#standing", "CNY 840,000")
    right.see("#quick", "Bid CNY 845,000")
    right.see("#bidtable", "Bidder 1")
    answer = client_bids(served, program, auction_id, "845000")
    assert (answer.outcome, answer.leading) == ("accepted", True)
    left.see("#strip-position", "Outbid")
    left.see("#standing", "CNY 845,000")
    left.see("#bidtable", "Bidder 3")
    right.see("#quick", "Bid CNY 850,000")
    press_and_confirm(right)
    right.see("#mine", "You lead.")
    left.see("#standing", "extended 3 times")
    left.see("#quick", "Bid CNY 855,000")
    # What is not the opening plus whole steps is refused with what would do.
    left.page.fill("#freeform [name=amount]", "856000")
    left.see("#r-amount", "CNY 856,000")
    left.page.click("#freeform button")
    left.page.locator("#confirm button.first").click()
    left.see("#mine", "Nearest: CNY 855,000 or CNY 860,000")
    assert left.page.locator("#plot canvas").count() == 1
    assert left.page.evaluate("document.documentElement.scrollWidth") <= 1280
    # A word of the keyboard never places a bid.
    left.page.keyboard.press("m")
    assert left.page.input_value("#freeform [name=amount]") == "855000.00"
    for seat in (left, right):
        seat.close()


def test_the_room_comes_back_after_a_break(browser: Browser, served: ServedSite) -> None:
    world = World(served)
    lot_id, auction_id = world.published()
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    seat = Seat(browser, served, one)
    seat.open(f"/lots/{lot_id}")
    seat.see("#link", "live")
    press_and_confirm(seat)
    seat.see("#strip-position", "You lead")
    seat.context.set_offline(True)
    for connection in list(served.app.state.gateway.connections):
        served.call(connection.socket.fail, 1012, "restart")
    seat.see("#connection", "Not live")
    form = {"command_id": "away", "amount": "845000", "confirmed": "yes"}
    assert other.post(f"/auctions/{auction_id}/bids", form).status_code == 303
    seat.context.set_offline(False)
    seat.see("#connection", "Live again. Missed: 1 bid. You were outbid meanwhile.")
    seat.see("#bidtable", "Bidder 2")
    seat.context.close()  # a lost line is an error of the console; it is what this test makes


def test_what_is_being_confirmed_follows_the_standing(browser: Browser, served: ServedSite) -> None:
    world = World(served)
    money = {"opening": "840.125", "step": "5.005", "deposit": "84.125"}
    lot_id, auction_id = world.published(world.item(currency="KWD", liens=""), **money)
    one, other = world.bidder(auction_id), world.bidder(auction_id)
    world.opened(auction_id)
    seat = Seat(browser, served, one, viewport={"width": 360, "height": 740})
    seat.open(f"/lots/{lot_id}")
    seat.see("#link", "live")
    seat.page.click("#more")  # the sheet: over the lower half, the strip stays, Escape folds it away
    seat.see("#more", "Fold away")
    box = seat.page.locator("#mine").bounding_box()
    assert box is not None
    assert box["y"] >= 740 / 2 - 40
    assert seat.page.locator("#strip-live").is_visible()
    seat.page.keyboard.press("Escape")
    seat.see("#more", "More")
    seat.page.locator("#bottombar button[name=amount]").click()
    seat.see("#confirm", "Confirm bid KWD 840.125")
    form = {"command_id": "o", "amount": "840.125", "confirmed": "yes"}
    assert other.post(f"/auctions/{auction_id}/bids", form).status_code == 303
    seat.see("#passed", "KWD 840.125 is below the minimum now")
    seat.see("#confirm", "Confirm bid KWD 845.130")
    seat.see("#bidtable", "840.125")
    assert re.search(r"\b\d\d:\d\d:\d\d\.\d{3}\b", seat.page.inner_text("#bidtable")), "the time of a pushed bid"
    assert seat.page.locator("#mine .answer").count() == 0, "nothing was sent"
    seat.page.locator("#confirm button.first").click()
    seat.see("#mine", "Accepted: KWD 845.130")
    seat.close()


def test_without_script(browser: Browser, served: ServedSite) -> None:
    world = World(served)
    lot_id, auction_id = world.published()
    one = world.bidder(auction_id)
    world.opened(auction_id)
    seat = Seat(browser, served, one, java_script_enabled=False, viewport={"width": 360, "height": 740})
    seat.open(f"/lots/{lot_id}")
    seat.page.locator("#quick .first").click()
    seat.page.locator("#confirm button.first").click()
    seat.see("#mine", "Accepted: CNY 840,000")
    assert "/lots/" in seat.page.url
    seat.close()


def axe(page: Page) -> list[str]:
    """What axe finds, one line a rule with the first place."""
    # The page's policy allows no script of others; a new isolated world is not the page's.
    found = page.evaluate(
        f"(() => {{ {AXE.read_text()}; return window.axe.run(document, {{resultTypes: ['violations']}}); }})()"
    )
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found["violations"]]


@pytest.mark.parametrize(("width", "language", "theme"), [(360, "zh", "dark"), (1280, "en", "light")])
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Browser, served: ServedSite, width: int, language: str, theme: str
) -> None:
    world = World(served)
    item = world.item(pictures=2)
    lot_id, auction_id = world.published(item)
    one, other, waiting = world.bidder(auction_id), world.bidder(auction_id), world.bidder(auction_id, admit=False)
    world.opened(auction_id)
    draft = world.submitted(world.item(vin="JHMCM56557C404453", model_year="2007"), opens=timedelta(days=1))
    for number, (visit, amount) in enumerate(((one, "840000"), (other, "845000"))):
        form = {"command_id": f"a{number}", "amount": amount, "confirmed": "yes"}
        answer = visit.post(f"/auctions/{auction_id}/bids", form)
        assert answer.status_code == 303
    number = int(answer.headers["location"].split("answer=")[1].split("#")[0]) - 1
    found: dict[str, list[str]] = {}
    seats: tuple[tuple[Visit | None, tuple[str, ...]], ...] = (
        (one, (f"/lots/{lot_id}", "/lots", "/bids", "/rules", f"/auctions/{auction_id}/receipts/{number}")),
        (waiting, (f"/lots/{lot_id}",)),
        (None, (f"/lots/{lot_id}", "/lots")),
        (world.creditor, ("/lots/new", "/lots/mine", "/lots/wall", "/collateral", f"/collateral/{item}",
                          f"/collateral/{item}/edit", f"/lots/{draft}")),
        (world.operator, ("/lots/queue", f"/lots/queue/{draft}", "/participations", "/floor", f"/lots/{lot_id}")),
    )  # fmt: skip
    for visitor, addresses in seats:
        seat = Seat(
            browser, served, visitor, viewport={"width": width, "height": 800}, color_scheme=theme, bypass_csp=True
        )
        for address in addresses:
            seat.open(address, language)
            wide = seat.page.evaluate("document.documentElement.scrollWidth")
            faults = axe(seat.page) + ([f"{wide} px wide"] if wide > width else [])
            if language == "en" and (chinese := re.findall(r"[\u4e00-\u9fff]+", seat.page.inner_text(".bottom"))):
                faults.append(f"Chinese: {chinese}")
            if faults:
                found[address] = faults
        seat.close()
    assert found == {}


def test_a_photograph_by_the_page(browser: Browser, served: ServedSite, tmp_path: Path) -> None:
    world = World(served)
    item = world.item()
    file = tmp_path / "car.jpg"
    file.write_bytes(photograph())
    seat = Seat(browser, served, world.creditor)
    seat.open(f"/collateral/{item}")
    seat.page.set_input_files("input[type=file]", file)
    seat.page.get_by_role("button", name="Add", exact=True).click()
    seat.page.locator(".photos img").first.wait_for()
    seat.close()
