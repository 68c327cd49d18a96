"""Tasks when things die: a server killed in the middle of one goes on at once, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import delete, text
from sqlmodel import func, select

from storage import outbox, portfolios
from storage.database import Database
from storage.objects import open_objects
from storage.tables import LoanAccount, Outbox, Payout, Sale, Tape
from tests import servers
from tests.conftest import ROOT
from tests.servers import PATIENCE_S
from tests.storage import sales
from tests.web.conftest import SECRET, SIGNING_KEY, settings_for
from web import bench_world
from web.client import Client
from web.render import utc_now
from web.tasks import BEATS, TaskContext

ROWS = 60_000
HEADER = "loan_id,borrower_id,principal,interest_due,dpd,product,region\n"


class Server:
    """`clearlot serve` with its jobs inside, to be killed."""

    def __init__(self, db: Database, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {
            "DATABASE_URL": db.url, "DATA": str(folder), "PORT": str(self.port), "BASE_URL": self.url, "SECRET": SECRET,
            "SIGNING_KEY": SIGNING_KEY, "OBJECTS_URL": (folder / "objects").as_uri(), "LOG_LEVEL": "ERROR", **settings,
        }  # fmt: skip
        self.env = os.environ | {f"CLEARLOT_{name}": value for name, value in given.items()}
        self.pid = servers.session_folder() / f"server-{self.port}.pid"  # for tests/guard.py
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.cli", "serve"], env=self.env, stdout=log, stderr=log, cwd=ROOT
            )
        self.pid.write_text(str(self.process.pid))

    def is_ready(self) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz", timeout=PATIENCE_S).status_code == 200
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pid.unlink(missing_ok=True)


@contextmanager
def server(db: Database, folder: Path, **settings: str) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    made = Server(db, folder, **settings)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def wait(holds: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> float:
    """Wait; return how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() < started + seconds, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - started


def row_of(db: Database, key: str) -> Outbox:
    return db.read(lambda session: session.exec(select(Outbox).where(Outbox.key == key)).one())


def reading_of(db: Database) -> Outbox:
    return db.read(lambda session: session.exec(select(Outbox).where(Outbox.task == "read_tape")).one())


def make_tape(db: Database, folder: Path) -> int:
    """Keep a tape's file, and leave the reading of it, as the page does; return its id."""
    lines = "".join([f"L{n},B{n % 50},{100 + n % 4000}.07,1.00,{n % 120},card,NY\n" for n in range(ROWS)])
    objects = open_objects((folder / "objects").as_uri())
    kept = objects.put(BytesIO((HEADER + lines).encode()), limit_bytes=10**8)
    creditor, person, _ = db.in_transaction(bench_world.make_people, 0, at=utc_now())
    return db.in_transaction(
        portfolios.receive_tape, creditor, person, filename="t.csv", digest=kept.digest, size=kept.size_bytes,
        cutoff_on=date(2026, 10, 31), currency="USD", at=utc_now(),
    )  # fmt: skip


def count_of(db: Database, *what: Any) -> int:
    return db.read(lambda session: session.exec(select(func.count()).where(*what)).one())


def test_killed_in_the_middle_of_a_tape(db: Database, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with server(db, folder) as running:
        wait(running.is_ready, "ready")
        tape_id = make_tape(db, folder)

        def status() -> str:
            return db.read(lambda session: session.get_one(Tape, tape_id).status)

        wait(lambda: count_of(db, LoanAccount.tape_id == tape_id) > 0, "the first accounts are written")
        running.kill()
        assert status() == "reading", "the machine was too fast: give the tape more rows"
        assert reading_of(db).claimed_by
        running.start()
        wait(running.is_ready, "ready again")
        took = wait(lambda: status() != "reading", "the tape is read")
        wait(lambda: reading_of(db).done_at, "it is marked")
    assert status() == "kept"
    assert count_of(db, LoanAccount.tape_id == tape_id) == ROWS
    assert reading_of(db).attempts == 2
    print(f"\nkept {took:.1f} s after the restart")


def test_killed_in_the_middle_of_settling(db: Database, tmp_path: Path) -> None:
    world = sales.world(db)
    world.publish()
    world.deposits(world.bidders[0], world.bidders[1])
    world.play([(world.bidders[0], 1_000_000_00)])
    db.in_transaction(lambda session: session.execute(delete(Outbox)))
    key = f"settle:{world.auction}"
    with server(db, tmp_path / "data") as running:
        wait(running.is_ready, "ready")
        if db.is_sqlite:
            # One writer at a time: it is killed somewhere around its one transaction.
            db.in_transaction(outbox.put, "settle", key, {"auction_id": world.auction}, at=utc_now())
            wait(lambda: row_of(db, key).attempts, "it is begun")
            running.kill()
        else:
            # It has done all but the last rows, which wait for us.
            with db.engine.begin() as connection:
                connection.execute(text("LOCK TABLE sale IN SHARE MODE"))
                db.in_transaction(outbox.put, "settle", key, {"auction_id": world.auction}, at=utc_now())
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sale'::regclass")
                wait(lambda: connection.execute(waiting).scalar_one(), "it is in the middle")
                running.kill()
            assert count_of(db, Sale.auction_id == world.auction) == 0
        running.start()
        wait(running.is_ready, "ready again")
        took = wait(lambda: row_of(db, key).done_at, "it is settled")
    assert count_of(db, Sale.auction_id == world.auction) == 1
    assert count_of(db, Payout.kind == "refund") == 1
    assert world.agrees()
    assert took < 15
    print(f"\nsettled {took:.1f} s after the restart")


async def test_without_an_object_store_bids_and_settlements_go_on(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    market = await bench_world.make_world(db, investors=1, auctions=1)
    world = sales.world(db)
    world.publish()
    world.deposits(world.bidders[0])
    world.play([(world.bidders[0], 1_000_000_00)])
    db.in_transaction(lambda session: session.execute(delete(Outbox)))
    db.in_transaction(outbox.put, "settle", "settle", {"auction_id": world.auction}, at=utc_now())
    with server(db, tmp_path / "data", OBJECTS_URL="s3://key:secret@127.0.0.1:1/gone") as running:
        await asyncio.to_thread(wait, running.is_ready, "ready")
        assert httpx2.get(f"{running.url}/readyz", timeout=PATIENCE_S).json()["parts"]["objects"] == "down"
        async with Client(running.url, key=market.investors[0].key) as client:
            assert (await client.bid(market.auctions[0], "1000.00")).is_accepted
        await asyncio.to_thread(wait, lambda: row_of(db, "settle").done_at, "it is settled")
    assert count_of(db, Sale.auction_id == world.auction) == 1
    db.close()


def test_what_was_being_received_when_a_process_died_is_removed(tmp_path: Path) -> None:
    objects = open_objects((tmp_path / "objects").as_uri())
    left = tmp_path / "objects" / "waiting" / "half"
    left.write_bytes(b"half a tape")
    day_ago = time.time() - 25 * 3600
    os.utime(left, (day_ago, day_ago))
    context = TaskContext(
        settings_for(tmp_path), Database(f"sqlite:///{tmp_path / 'none.db'}"), objects, print, bytes(32)
    )
    function, every = BEATS["clear_abandoned"]
    assert every <= timedelta(days=1)
    function(context)
    assert not left.exists()
    context.db.close()
