"""Production's shape: two nodes behind nginx, a worker and a beat of their own, PostgreSQL, Redis, an S3 server.

One cluster for all tests of this file; what a test breaks it mends.  Bidders are the product's client, through the
proxy, with nginx's certificate and all.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest
import redis
from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from auctions.journal import Entry
from auctions.messages import Admit, Extended, Paused, Tick
from storage import journal, outbox, parties, settlement, tables
from storage.database import Database
from tests import servers
from tests.bank import Paid
from tests.conftest import ROOT, S3, lacking, new_bucket
from tests.servers import PATIENCE_S
from tests.storage import sales
from tests.test_deploy import proxy
from tests.web.conftest import SECRET, SIGNING_KEY
from web import bench_world, live
from web.client import Ack, Client, Entries, JournalEntry, Watch
from web.security import hash_token, new_token

pytestmark = pytest.mark.slow

OUTAGE_S = 12.0  # the rulesets' outage_after_ms and grace: who comes later than this did not just close late
BIDDERS = 6


# --- the cluster -----------------------------------------------------------------------------------------


class Process:
    """One `clearlot` process of the cluster."""

    def __init__(self, cluster_env: dict[str, str], folder: Path, name: str, *command: str) -> None:
        self.name, self.command = name, command
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = cluster_env | {"CLEARLOT_PORT": str(self.port), "CLEARLOT_DATA": str(folder / name)}
        self.log = folder / f"{name}.log"
        self.pid = servers.session_folder() / f"cluster-{name}.pid"  # for tests/guard.py
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.cli", *self.command], env=self.env, stdout=log, stderr=log, cwd=ROOT
            )
        self.pid.write_text(str(self.process.pid))

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pid.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz", timeout=PATIENCE_S).status_code == 200
        return False

    def state(self) -> str:
        """For a person who wonders why it is not ready: what it says of itself, and the end of its log."""
        status = self.process.poll() if self.process else None
        try:
            ready = httpx2.get(f"{self.url}/readyz", timeout=10).text
        except httpx2.TransportError as error:
            ready = repr(error)
        log = self.log.read_text(errors="replace")[-3000:]
        return f"{self.name} is ready; exit status {status}, /readyz: {ready}, log:\n{log}"

    def parts(self) -> dict[str, str]:
        """What /readyz says of what the node needs."""
        found: dict[str, str] = httpx2.get(f"{self.url}/readyz", timeout=PATIENCE_S).json()["parts"]
        return found

    def figure(self, name: str) -> float:
        """One of /metrics."""
        text = httpx2.get(f"{self.url}/metrics", timeout=PATIENCE_S).text
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " "))


class Valkey:
    """Redis, or Valkey, of the cluster's own: it is killed on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, servers.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [servers._redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = servers.start(
            "cluster-redis", [*command, "--save", "", "--appendonly", "no"], self.folder,
            lambda: redis.Redis.from_url(self.url).ping(),
        )  # fmt: skip

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def hearers(self) -> int:
        """How many nodes listen for news."""
        with redis.Redis.from_url(self.url) as client:
            [(_, count)] = client.pubsub_numsub(live.CHANNEL)
        return int(count)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Cluster:
    """Everything, running."""

    db: Database
    valkey: Valkey
    nodes: list[Process]
    worker: Process
    beat: Process
    url: str
    world: bench_world.World
    sold: sales.World  # its one auction has closed, and nobody has settled it
    clients: list[Client] = field(default_factory=list)

    def client(self, investor: bench_world.Investor, url: str = "") -> Client:
        """The product's client: through the proxy, or to one node."""
        if url:
            return Client(url, key=investor.key)
        tls = ssl._create_unverified_context()  # nginx's certificate was made a moment ago
        return Client(self.url, key=investor.key, tls=tls)

    async def auctions(self, **terms: Any) -> list[int]:
        """Open a new auction, to which every investor is admitted, for each ruleset named."""
        made = []
        for ruleset in terms.pop("rulesets", ["english-proxy-soft-close"]):
            sale = bench_world.Sale(ruleset=ruleset, **terms)
            at = datetime.now(UTC)
            [auction] = await self.db.in_thread(
                bench_world.make_auctions, self.world.creditor_id, self.world.operator_id, 1, sale, at=at
            )
            turns = journal.journal_of(self.db)
            admits = [
                Admit(f"admit-{one.party_id}", one.party_id, bench_world.UNLIMITED_MINOR)
                for one in self.world.investors
            ]
            await bench_world.journal_all(turns, auction, [*admits, Tick()])
            await turns.close()
            made.append(auction)
        return made

    async def upload(self, path: str, name: str, data: bytes) -> float:
        """Send a file as the operator's browser does; return how long the answer took, in seconds."""
        token, csrf = new_token(), new_token()
        await self.db.in_thread(
            parties.open_sign_in, self.world.operator_id, token_hash=hash_token(token), csrf=csrf, old_token_hash=None,
            at=datetime.now(UTC),
        )  # fmt: skip
        tls = ssl._create_unverified_context()
        cookies = {"__Host-clearlot-session": token}
        async with httpx2.AsyncClient(base_url=self.url, verify=tls, cookies=cookies, timeout=PATIENCE_S) as http:
            started = time.monotonic()
            answer = await http.post(
                path, files={"file": (name, data)}, headers={"Origin": self.url, "X-CSRF-Token": csrf}
            )
            assert answer.status_code == 303, answer.text
            return time.monotonic() - started

    def entries(self, auction: int) -> list[Entry]:
        """The journal as it stands."""
        entries = self.db.read(journal.entries_after, auction, 0, limit=100_000)  # checks every hash
        assert [one.sequence for one in entries] == list(range(1, len(entries) + 1))
        return entries


@contextmanager
def database() -> Iterator[str]:
    server = servers.once("postgresql", servers.postgresql)["url"]
    name = f"clearlot_{uuid4().hex[:12]}"
    servers.postgresql_do(server, f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    servers.postgresql_do(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def cluster(nginx: str, bucket: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, with a world in it: people, and one auction that has closed."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(database())
        except servers.Absent as absent:
            lacking(str(absent))
            raise
        valkey = Valkey(folder)
        valkey.start()
        stack.callback(valkey.kill)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEARLOT_")} | {
            "CLEARLOT_DATABASE_URL": url, "CLEARLOT_REDIS_URL": valkey.url, "CLEARLOT_SECRET": SECRET,
            "CLEARLOT_SIGNING_KEY": SIGNING_KEY, "PYTHONPATH": str(ROOT), "CLEARLOT_LOG_LEVEL": "WARNING",
            "CLEARLOT_OBJECTS_URL": f"s3://{quote(bucket.access_key)}:{quote(bucket.secret_key)}"
                                    f"@{bucket.endpoint}/{bucket.bucket}",
        }  # fmt: skip
        db = Database(url)
        stack.callback(db.close)
        db.upgrade()
        world = asyncio.run(bench_world.make_world(db, investors=BIDDERS, auctions=1))
        sold = sales.world(db)
        sold.publish()
        sold.deposits(sold.bidders[0], sold.bidders[1])
        sold.play([(sold.bidders[0], 1_000_000_00)])
        db.in_transaction(lambda session: session.execute(delete(tables.Outbox)))  # its files are in no store
        # The proxy's address is what people type, so it is chosen before the nodes start; nginx comes after them.
        nodes = [Process(environment, folder, f"node-{n}", "serve") for n in (1, 2)]
        worker, beat = (
            Process(environment, folder, "worker", "worker"),
            Process(environment, folder, "beat", "worker", "--beat"),
        )
        with proxy(nginx, folder, *(node.port for node in nodes)) as site:
            address = f"https://localhost:{site.https}"
            for one in (*nodes, worker, beat):
                one.env["CLEARLOT_BASE_URL"] = address
                stack.callback(one.kill)
                one.start()
            asyncio.run(ready(*nodes))
            yield Cluster(db, valkey, nodes, worker, beat, address, world, sold)


@pytest.fixture(autouse=True)
def mended(cluster: Cluster) -> Iterator[None]:
    """A node that a test left frozen when it failed goes on, so that the next one fails for a reason of its own."""
    yield
    for node in cluster.nodes:
        node.send(signal.SIGCONT)


@pytest.fixture(scope="module")
def bucket() -> S3:
    return new_bucket()


async def until(holds: Callable[[], Any], what: str | Callable[[], str]) -> float:
    """Wait, with the loop free; return how long it took."""
    started = time.monotonic()
    while not await asyncio.to_thread(holds):
        if time.monotonic() > started + PATIENCE_S:
            pytest.fail(f"not within {PATIENCE_S:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def ready(*nodes: Process) -> None:
    """Wait until these nodes are ready."""
    for node in nodes:
        await until(node.is_ready, node.state)


# --- bidders ---------------------------------------------------------------------------------------------


class Bidder:
    """Somebody who watches from the first entry and bids the least that is allowed, again and again."""

    def __init__(self, client: Client, watch: Watch) -> None:
        self.client, self.watch = client, watch
        self.seen: list[JournalEntry] = []
        self.acks: list[Ack] = []
        self.slowest_s = 0.0
        self.is_bidding = False

    async def looks(self) -> None:
        async for event in self.watch:
            if isinstance(event, Entries):
                self.seen += event.entries

    async def bids(self) -> None:
        self.is_bidding = True
        while self.is_bidding:
            assert self.watch.standing is not None
            started = time.monotonic()
            self.acks.append(await self.client.bid(self.watch.auction, self.watch.standing.minimum))
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def proves(self, entries: list[Entry]) -> None:
        """What he was told is in the journal, and he saw the journal: no hole, no double, nothing else."""
        mine = [(one.sequence, one.hash) for one in self.seen]
        assert mine == [(one.sequence, one.hash.hex()) for one in entries[: len(mine)]]
        assert len({ack.sequence for ack in self.acks}) == len(self.acks)
        for ack in self.acks:
            assert entries[ack.sequence - 1].hash.hex() == ack.hash


@asynccontextmanager
async def bidders(cluster: Cluster, auction: int) -> AsyncIterator[list[Bidder]]:
    """All investors at one lot, through the proxy."""
    async with AsyncExitStack() as stack:
        made = []
        for investor in cluster.world.investors:
            client = await stack.enter_async_context(cluster.client(investor))
            made.append(Bidder(client, await stack.enter_async_context(client.watch(auction, since=0))))
        tasks = [asyncio.create_task(one.looks()) for one in made]
        yield made
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def bidding(made: list[Bidder]) -> AsyncIterator[None]:
    """Let them all bid against each other until the block ends; the last bids are answered, too."""
    tasks = [asyncio.create_task(one.bids()) for one in made]
    try:
        yield
    finally:
        for one in made:
            one.is_bidding = False
        await asyncio.gather(*tasks)


def acked(made: list[Bidder]) -> int:
    return sum(ack.is_accepted for one in made for ack in one.acks)


async def all_see(cluster: Cluster, made: list[Bidder], auction: int) -> list[Entry]:
    """Wait until everybody has seen the journal to its end, and check it with each of them."""
    entries = cluster.entries(auction)
    await until(lambda: all(len(one.seen) >= len(entries) for one in made), "everybody sees the last entry")
    entries = cluster.entries(auction)
    for one in made:
        one.proves(entries)
    return entries


# --- the tests -------------------------------------------------------------------------------------------


async def test_bidders_on_two_nodes_make_one_order(cluster: Cluster) -> None:
    [auction] = cluster.world.auctions
    async with bidders(cluster, auction) as made:
        assert [node.figure("clearlot_live_sockets") for node in cluster.nodes] == [BIDDERS / 2, BIDDERS / 2]
        async with bidding(made):
            await until(
                lambda: all(len(one.acks) >= 10 for one in made) and acked(made) >= 20, "everybody has bid ten times"
            )
        await all_see(cluster, made, auction)
        for node in cluster.nodes:  # each of them decided some of it
            assert node.figure('clearlot_bids_total{outcome="accepted"}') > 0
        # Where the two were at it at once, somebody was too late, and it was said to him.
        assert {ack.code for one in made for ack in one.acks if not ack.is_accepted} <= {
            "below_minimum", "already_leading", "lower_than_own",
        }  # fmt: skip


async def test_a_node_is_killed_while_bids_flow(cluster: Cluster) -> None:
    [auction] = await cluster.auctions()
    killed = cluster.nodes[0]
    async with bidders(cluster, auction) as made:
        async with bidding(made):
            await until(lambda: acked(made) >= 20, "bids flow")
            killed.kill()
            before = [len(one.acks) for one in made]
            took = await until(
                lambda: all(len(one.acks) >= count + 5 for one, count in zip(made, before, strict=True)),
                "everybody bids on, on the other node",
            )
        moved = [one for one in made if one.client.connections > 1]
        assert len(moved) == BIDDERS / 2
        await all_see(cluster, made, auction)
        print(f"\nfive more bids of everybody {took:.2f} s after kill -9; slowest answer {slowest(made):.2f} s")
        killed.start()
        await ready(killed)
        async with cluster.client(cluster.world.investors[0], killed.url) as client:
            assert (await client.position(auction)).sequence == len(cluster.entries(auction))


def slowest(made: list[Bidder]) -> float:
    return max(one.slowest_s for one in made)


async def test_a_frozen_node_decides_nothing_on_what_it_remembers(cluster: Cluster) -> None:
    [auction] = await cluster.auctions()
    frozen, awake = cluster.nodes
    one, two, three = cluster.world.investors[:3]
    async with (
        cluster.client(one, frozen.url) as here,
        cluster.client(two, awake.url) as there,
        cluster.client(three, awake.url) as third,
    ):
        stale = (await here.position(auction)).minimum
        assert stale is not None
        for client in (there, third):
            await client.position(auction)
        for _ in range(5):  # also in the middle of a turn: here it bids without a pause
            flood = [asyncio.create_task(here.bid(auction, stale)) for _ in range(10)]
            await asyncio.sleep(0.01)
            frozen.send(signal.SIGSTOP)
            async with asyncio.timeout(PATIENCE_S):  # longer: the frozen node holds the lot
                for client in (there, third):
                    minimum = (await client.position(auction)).minimum
                    assert minimum is not None
                    assert (await client.bid(auction, minimum)).is_accepted
            late = asyncio.create_task(here.bid(auction, stale))
            await asyncio.sleep(0)
            frozen.send(signal.SIGCONT)
            told = await asyncio.gather(late, *flood)
            assert (told[0].outcome, told[0].code) == ("refused", "below_minimum")
            stale = (await there.position(auction)).minimum
            assert stale is not None
        cluster.entries(auction)


async def test_without_redis_bids_news_and_settlement_go_on(cluster: Cluster) -> None:
    [auction] = await cluster.auctions()
    one, two, three = cluster.world.investors[:3]
    first, second = cluster.nodes
    async with (
        cluster.client(one, first.url) as client_1,
        cluster.client(three, first.url) as client_3,
        cluster.client(two, second.url) as other,
    ):
        turns = itertools.cycle([client_1, client_3])  # who leads does not bid
        async with other.watch(auction) as watch:

            async def bid_is_seen() -> float:
                client = next(turns)
                minimum = (await client.position(auction)).minimum
                assert minimum is not None
                ack = await client.bid(auction, minimum)
                assert ack.is_accepted, ack
                return await until(
                    lambda: watch.standing is not None and watch.standing.sequence >= ack.sequence, "the other sees it"
                )

            async with asyncio.timeout(2 * PATIENCE_S):
                with_redis = await bid_is_seen()
                cluster.valkey.send(signal.SIGSTOP)  # it hangs: worse than a refusal
                hanging = await bid_is_seen()
                answered = await cluster.upload("/statements", "x.sta", b"not a statement")
                cluster.valkey.kill()
                await until(lambda: first.parts()["redis"] == "down", "/readyz says so")
                assert first.is_ready()
                without = await bid_is_seen()
                # The worker is told nothing; it looks for itself.
                await cluster.db.in_thread(
                    outbox.put, "settle", f"settle:{cluster.sold.auction}", {"auction_id": cluster.sold.auction},
                    at=datetime.now(UTC),
                )  # fmt: skip
                settled = await until(lambda: cluster.db.read(sales_of, cluster.sold.auction) == 1, "it is settled")
                cluster.valkey.start()
                await until(lambda: first.parts()["redis"] == second.parts()["redis"] == "ok", "Redis is back")
                await until(lambda: cluster.valkey.hearers() == 2, "both nodes hear the news by Redis again")
                back = await bid_is_seen()
        print(f"\na bid was seen on the other node after {with_redis:.3f} s; Redis hangs: {hanging:.2f}; gone:"
              f" {without:.2f}; back: {back:.3f}; settled without it after {settled:.1f} s; an upload"
              f" while it hangs: {answered:.2f} s")  # fmt: skip


def sales_of(session: Session, auction: int) -> int:
    return session.exec(select(func.count()).where(tables.Sale.auction_id == auction)).one()


async def test_a_deposit_is_matched_and_admitted_by_the_worker(cluster: Cluster) -> None:
    """File to S3, its reading, the match, and the admission through the worker's own turn at the journal."""
    investor = cluster.world.investors[0]
    at = datetime.now(UTC)
    [auction] = await cluster.db.in_thread(
        bench_world.make_auctions, cluster.world.creditor_id, cluster.world.operator_id, 1, bench_world.Sale(), at=at
    )

    def approve(session: Session) -> str:
        session.add(
            tables.Participation(
                auction_id=auction, party_id=investor.party_id, status="awaiting_deposit", limit_minor=90_000_00,
                created_at=at,
            )
        )  # fmt: skip
        return settlement.ask_deposit(
            session, auction_id=auction, party_id=investor.party_id, amount_minor=1_000_00, currency="CNY",
            due_at=at + timedelta(days=1), at=at,
        ).reference  # fmt: skip

    reference = await cluster.db.in_thread(approve)
    async with cluster.client(investor) as client:
        assert (await client.position(auction)).bidder is None
        data = cluster.sold.bank.camt053(Paid(1_000_00, f"Deposit {reference}", "Investor", "NL22TEST0000000002"))
        await cluster.upload("/statements", "a.camt.xml", data)
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            limit = await client.private.get()  # the node tells him by itself: nobody asked
        assert (limit.auction, getattr(limit, "limit", None)) == (auction, "90000.00")
        print(f"\nadmitted {time.monotonic() - started:.2f} s after the upload was answered")
        minimum = (await client.position(auction)).minimum
        assert minimum is not None
        assert (await client.bid(auction, minimum)).is_accepted
    statuses = cluster.db.read(
        lambda session: list(
            session.exec(select(tables.Participation.status).where(col(tables.Participation.auction_id) == auction))
        )
    )
    assert statuses == ["admitted"]


async def test_an_end_that_passes_while_every_node_is_down(cluster: Cluster) -> None:
    """English with a soft close goes on for as long as nobody could bid; the judicial one is suspended."""
    ends = timedelta(seconds=12)  # from here: time for a bid before
    soft, judicial = await cluster.auctions(
        rulesets=["english-proxy-soft-close", "cn-judicial-2017"], opens_in=timedelta(days=-1),
        lasts=timedelta(days=1) + ends, reserve="open", reserve_minor=100_000,
    )  # fmt: skip
    async with cluster.client(cluster.world.investors[0]) as client:
        ack = await client.bid(soft, "1000.00")
        assert ack.is_accepted
        # On a slow machine the bid itself comes late enough to move the end.
        closes_at = cluster.db.read(lambda session: session.get_one(tables.Auction, soft).closes_at)
        for node in cluster.nodes:
            node.kill()
        await until(lambda: datetime.now(UTC) > closes_at + timedelta(seconds=OUTAGE_S), "the end is past")
        for node in cluster.nodes:
            node.start()
        await ready(*cluster.nodes)

        def last(auction: int) -> Any:
            return cluster.entries(auction)[-1].events[-1]

        await until(lambda: isinstance(last(soft), Extended) and last(soft).cause == "outage", "the lot goes on")
        assert last(soft).closes_at_ms > datetime.now(UTC).timestamp() * 1000
        await until(lambda: isinstance(last(judicial), Paused), "the judicial one is suspended")
        assert last(judicial).reason == "outage"
        again = await client.bid(soft, "1000.00", id=ack.id)
        assert (again.sequence, again.hash) == (ack.sequence, ack.hash)
