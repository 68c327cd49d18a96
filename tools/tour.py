"""Take the screenshot of README.md: start a made-up marketplace, photograph a lot's room as an admitted bidder.

.venv/bin/python -m tools.tour
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from sqlmodel import Session, col, select

from storage.database import Database
from storage.tables import Auction, Lot, Participation, Person
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
SIZE = {"width": 1280, "height": 900}
START_S = 180


def subject(session: Session) -> tuple[int, str]:
    """The open lot with pictures that has the most bids, and the name of somebody who may bid there."""
    lot_id, name = session.exec(
        select(Lot.id, Person.name)
        .join(Auction, col(Auction.lot_id) == Lot.id)
        .join(Participation, col(Participation.auction_id) == Auction.id)
        .join(Person, col(Person.party_id) == Participation.party_id)
        .where(Auction.phase == "open", Participation.status == "admitted", col(Lot.collateral_id).is_not(None))
        .order_by(col(Auction.bids).desc(), col(Participation.id))
    ).first() or (0, "")
    return lot_id, name


def main() -> None:
    """Start, photograph, stop."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        command = [sys.executable, "-m", "web.cli", "run", "--port", str(port), "--data", str(data)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_for(f"{address}/readyz")
            database = Database(f"sqlite:///{data / 'clearlot.db'}")
            lot_id, name = database.read(subject)
            database.close()
            chromium = servers.chromium(Path(folder))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=str(chromium["path"]),
                    args=["--no-sandbox"],
                    env={**os.environ, "FONTCONFIG_FILE": str(chromium["fonts"])},
                )
                page = browser.new_page(viewport=SIZE, locale="en")  # type: ignore[arg-type]
                page.goto(address)
                page.locator("#ways-in summary").click()
                page.locator("#ways-in li", has_text=name).locator("button").click()
                page.wait_for_url(f"{address}/home")
                page.goto(f"{address}/lots/{lot_id}")
                page.wait_for_timeout(3_000)
                picture = page.screenshot()
                browser.close()
        finally:
            server.terminate()
            server.wait(20)
    target = ROOT / "docs" / "tour" / "room.webp"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(picture)).convert("RGB").save(target, "WEBP", quality=82)
    print(f"{target}: {target.stat().st_size} bytes, lot {lot_id} as {name}")


def wait_for(address: str) -> None:
    """Until the server answers."""
    end = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - our own
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
