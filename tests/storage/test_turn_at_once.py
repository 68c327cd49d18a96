"""The turn at once at PostgreSQL: the fence, nodes beside each other, clocks, a frozen node, a cut connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from auctions.journal import Answered, Busy, Entry, Fold
from auctions.messages import Bid, Command, PlaceBid, Withdraw
from auctions.sequencer import Turned, TurnFailed, Waiting, Work
from storage import journal, tables
from storage.database import Database
from storage.journal import ALONE, PostgresqlJournal
from web.bench_world import World, make_world

STEP = 10_000


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to take a turn under the lock here."""
    monkeypatch.setattr(journal, "FRESH_S", 3_600.0)
    monkeypatch.setattr(journal, "FENCE_MS", 20_000)


@pytest.fixture
def db(postgresql_url: str) -> Iterator[Database]:
    made = Database(postgresql_url)
    yield made
    made.close()


@pytest.fixture
async def world(db: Database) -> World:
    return await make_world(db, investors=3, auctions=3)


@asynccontextmanager
async def node(url: str) -> AsyncIterator[PostgresqlJournal]:
    made = PostgresqlJournal(url)
    yield made
    await made.close()


def bid(world: World, who: int, minor: int, id: str = "") -> PlaceBid:
    return PlaceBid(id or f"b{who}-{minor}", world.investors[who].party_id, minor)


def works(*wanted: tuple[Fold, Command]) -> list[Work]:
    now = time.monotonic()
    return [
        Work(fold.auction_id, fold, [Waiting(fold.auction_id, command, now, lambda _: None)])
        for fold, command in sorted(wanted, key=lambda one: one[0].auction_id)
    ]


async def take(turns: PostgresqlJournal, fold: Fold, command: Command) -> Turned:
    [turned] = await turns.turn(works((fold, command)))
    return turned


async def settle_in(turns: PostgresqlJournal, world: World, fold: Fold, first: int = 100_000) -> int:
    """Take turns until the lot is taken at once; return the least amount that comes next."""
    minor, before = first, turns.at_once
    while turns.at_once == before:
        assert isinstance((await take(turns, fold, bid(world, 0, minor))).answers[0], Entry)
        minor += STEP
    return minor


def whole(db: Database, auction_id: int) -> list[Entry]:
    """The journal, whose hashes hold and whose bids rise."""
    entries = db.read(journal.entries_after, auction_id, 0, limit=10_000)
    fold = Fold(auction_id)
    for entry in entries:
        fold.follow(entry)
    amounts = [event.amount_minor for entry in entries for event in entry.events if isinstance(event, Bid)]
    assert amounts == sorted(set(amounts))
    row = db.read(lambda session: session.get_one(tables.Auction, auction_id))
    assert (row.sequence, row.bids, row.price_minor) == (len(entries), len(amounts), amounts[-1] if amounts else None)
    return entries


async def test_a_lot_that_is_alone_is_taken_at_once(db: Database, world: World) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        minor = await settle_in(turns, world, fold)
        assert (turns.at_once, turns.undone) == (1, 0)
        turned = await take(turns, fold, bid(world, 1, minor))
        assert turns.at_once == 2
    assert [one.sequence for one in turned.entries] == [fold.sequence]
    assert whole(db, fold.auction_id)[-1].hash == fold.hash


async def test_several_lots_in_one_statement_and_only_the_overtaken_one_goes_again(db: Database, world: World) -> None:
    folds = [db.read(journal.load_fold, one) for one in world.auctions]
    async with node(db.url) as here, node(db.url) as there:
        minor = 100_000
        for fold in folds:
            minor = await settle_in(here, world, fold)
        assert isinstance((await take(there, Fold(world.auctions[1]), bid(world, 2, minor))).answers[0], Entry)
        wanted = [(fold, bid(world, 1, minor + STEP)) for fold in folds]
        turned = await here.turn(works(*wanted))
        assert [len(one.entries) for one in turned] == [1, 2, 1]  # of the overtaken one, the other node's entry first
        assert (here.at_once, here.undone) == (3 + 2, 1)
    assert all(isinstance(one.answers[0], Entry) for one in turned)
    for fold in folds:
        assert whole(db, fold.auction_id)[-1].hash == fold.hash


async def test_a_lost_fence_is_decided_again_on_what_the_other_node_wrote(db: Database, world: World) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as here, node(db.url) as there:
        minor = await settle_in(here, world, fold)
        other = await take(there, Fold(fold.auction_id), bid(world, 1, minor, "theirs"))
        assert isinstance(other.answers[0], Entry)
        turned = await take(here, fold, bid(world, 0, minor, "ours"))  # the same amount: now it is too low
        [answer] = turned.answers
        assert isinstance(answer, Entry)
        assert [type(event).__name__ for event in answer.events] == ["Refused"]
        assert answer.sequence == other.answers[0].sequence + 1
        assert (here.undone, fold.alone) == (1, 0)
        assert (await take(here, fold, bid(world, 1, minor, "theirs"))).answers == [Answered(other.answers[0].sequence)]
    whole(db, fold.auction_id)


async def test_two_nodes_at_once_never_both_accept(db: Database, world: World) -> None:
    """Both believe that they are alone, all the time."""
    auction_id = world.auctions[0]
    async with node(db.url) as one, node(db.url) as two:
        folds = [db.read(journal.load_fold, auction_id) for _ in range(2)]

        async def bidding(turns: PostgresqlJournal, which: int) -> None:
            for at in range(60):
                folds[which].alone = ALONE
                turned = await take(turns, folds[which], bid(world, which, 100_000 + at * STEP, f"n{which}-{at}"))
                assert isinstance(turned.answers[0], Entry)

        await asyncio.gather(bidding(one, 0), bidding(two, 1))
        assert one.undone + two.undone > 0
    assert len(whole(db, auction_id)) == 5 + 120


async def test_a_node_that_was_frozen_decides_nothing_on_what_it_remembers(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock stood still, too, as that of a virtual machine does: the database's clock is part of the fence."""
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        minor = await settle_in(turns, world, fold)
        monkeypatch.setattr(turns._database_clock, "_ahead_s", turns._database_clock._ahead_s - 60)
        turned = await take(turns, fold, bid(world, 1, minor))
        [entry] = turned.answers
        assert isinstance(entry, Entry)
        assert turns.undone == 1
    assert abs(entry.at_ms - time.time() * 1000) < 30_000  # the database's instant, not the remembered one
    assert whole(db, fold.auction_id)[-1].hash == fold.hash


async def test_a_reading_of_the_clock_that_is_old_is_not_decided_on(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        minor = await settle_in(turns, world, fold)
        monkeypatch.setattr(turns._database_clock, "_read_at", time.monotonic() - 3_600)
        await take(turns, fold, bid(world, 1, minor))
        assert (turns.at_once, turns.undone) == (1, 0)  # under the lock, which reads it anew
        await take(turns, fold, bid(world, 2, minor + STEP))
        assert turns.at_once == 2


async def test_a_node_whose_clock_is_off_decides_nothing_at_once(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        minor = await settle_in(turns, world, fold)
        real = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() - 0.7)
            await take(turns, fold, bid(world, 0, minor))  # notices it
            assert (await take(turns, fold, bid(world, 0, minor + STEP))).answers == [Busy()]
        assert turns.at_once == 2
        assert isinstance((await take(turns, fold, bid(world, 0, minor + STEP))).answers[0], Entry)


async def test_what_leaves_more_than_entries_goes_under_the_lock(db: Database, world: World) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        await settle_in(turns, world, fold)
        await take(turns, fold, Withdraw("w", "debt paid", by=1))
        assert turns.at_once == 1
        rows = db.read(lambda s: s.exec(select(tables.Outbox.key)).all())
        assert f"settle:{fold.auction_id}" in rows


async def test_a_journal_that_lost_its_end_is_read_anew(db: Database, world: World) -> None:
    """A standby that was promoted before it had everything: what this node knows is not the journal any more."""
    fold = db.read(journal.load_fold, world.auctions[0])
    async with node(db.url) as turns:
        minor = await settle_in(turns, world, fold)
        known = fold.sequence

        def lose(session: Session) -> None:
            session.execute(text("ALTER TABLE entry DISABLE TRIGGER USER"))
            where = "auction_id = :auction AND sequence = :last"
            session.execute(text(f"DELETE FROM entry WHERE {where}"), {"auction": fold.auction_id, "last": known})
            session.execute(
                text("UPDATE auction SET sequence = :head WHERE id = :auction"),
                {"auction": fold.auction_id, "head": known - 1},
            )

        db.in_transaction(lose)
        with pytest.raises(TurnFailed, match="was known"):
            await take(turns, fold, bid(world, 1, minor))
        fold = db.read(journal.load_fold, fold.auction_id)  # as the sequencer does
        assert fold.sequence == known - 1
        [entry] = (await take(turns, fold, bid(world, 1, minor))).answers
        assert isinstance(entry, Entry)
        assert entry.sequence == known
    assert len(db.read(journal.entries_after, fold.auction_id, 0, limit=100)) == known


class Wire:
    """The way to the database; `cut` says when it breaks: at the next statement, or at its answer."""

    def __init__(self, host: str, port: int) -> None:
        self.to = (host, port)
        self.cut = ""
        self._open: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._break()
        self._server.close()

    def _break(self) -> None:
        for one in self._open:
            one.close()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.to)
        self._open += [writer, far_writer]
        await asyncio.gather(self._carry(reader, far_writer, "statement"), self._carry(far_reader, writer, "answer"))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        ready = b"Z\x00\x00\x00\x05I"  # ReadyForQuery: what comes before it may be told before the commit
        try:
            while data := await reader.read(1 << 16):
                if self.cut == name:
                    self._break()
                    return
                if self.cut == "ready" and name == "answer" and data.endswith(ready):
                    writer.write(data[: -len(ready)])
                    await writer.drain()
                    self._break()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("cut", ["statement", "answer", "ready"])
async def test_a_cut_connection_tells_nothing_and_the_same_id_finds_what_was_kept(
    db: Database, world: World, cut: str
) -> None:
    """Before the statement arrives, before its answer does, and between the rows and the end of the transaction."""
    auction_id = world.auctions[0]
    fold = db.read(journal.load_fold, auction_id)
    address = urlsplit(db.url)
    wire = Wire(address.hostname or "", address.port or 5432)
    port = await wire.start()
    url = address._replace(netloc=f"{address.netloc.rpartition(':')[0]}:{port}").geturl()
    async with node(url) as turns:
        minor = await settle_in(turns, world, fold)
        wire.cut = cut
        with pytest.raises(TurnFailed):
            await take(turns, fold, bid(world, 1, minor, "cut"))
        wire.cut = ""
        fold = db.read(journal.load_fold, auction_id)  # as the sequencer does
        kept = fold.answered(world.investors[1].party_id, "cut")
        assert cut != "statement" or kept is None
        [again] = (await take(turns, fold, bid(world, 1, minor, "cut"))).answers
        assert isinstance(again, Entry) if kept is None else again == Answered(kept)
    await wire.stop()
    entries = whole(db, auction_id)
    assert [one.command_id for one in entries].count("cut") == 1
