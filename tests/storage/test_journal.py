"""A turn at both databases: order, copies, what a close leaves behind, two nodes, failures beside the commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import Session, col, select

from auctions.journal import Answered, Busy, Entry, Fold, KeyReused
from auctions.messages import Admit, Bid, Close, Closed, Command, PlaceBid, Refused, Tick, Withdraw, Withdrawn
from auctions.sequencer import Sequencer, Told, Turned, TurnFailed, Waiting, Work
from storage import journal, tables
from storage.database import Database
from web.bench_world import Sale, World, make_auctions, make_people, make_world
from web.render import utc_now

STEP = 10_000
AT = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.fixture
async def world(db: Database) -> World:
    return await make_world(db, investors=3, auctions=2)


@pytest.fixture
async def turns(db: Database) -> AsyncIterator[journal.Journal]:
    made = journal.journal_of(db)
    yield made
    await made.close()


def bid(world: World, who: int, minor: int, id: str = "") -> PlaceBid:
    return PlaceBid(id or f"b{who}-{minor}", world.investors[who].party_id, minor)


async def take(turns: journal.Journal, fold: Fold, *wanted: Command) -> Turned:
    now = asyncio.get_running_loop().time()
    waiting = [Waiting(fold.auction_id, each, now, lambda _: None) for each in wanted]
    [turned] = await turns.turn([Work(fold.auction_id, fold, waiting)])
    return turned


def sequences(db: Database, auction_id: int) -> list[int]:
    entry = tables.Entry
    return db.read(
        lambda s: list(
            s.exec(select(entry.sequence).where(entry.auction_id == auction_id).order_by(col(entry.sequence)))
        )
    )


async def test_a_turn_numbers_without_gaps_and_keeps_the_copies(
    db: Database, world: World, turns: journal.Journal
) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    turned = await take(turns, fold, bid(world, 0, 100_000), bid(world, 1, 110_000), bid(world, 2, 110_000))
    first, second, third = turned.answers
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert isinstance(third, Entry)
    assert [type(entry.events[0]) for entry in turned.entries] == [Bid, Bid, Refused]
    assert sequences(db, fold.auction_id) == list(range(1, fold.sequence + 1))
    row = db.read(lambda s: s.get_one(tables.Auction, fold.auction_id))
    standing = turned.standing
    assert (row.sequence, row.phase, row.price_minor, row.leader, row.bids) == (fold.sequence, "open", 110_000, 2, 2)
    assert row.closes_at == journal.instant(standing.closes_at_ms)
    assert row.due_at == journal.instant(fold.auction.due_at_ms() or 0)
    assert turned.leader_party_id == world.investors[1].party_id
    again = db.read(journal.load_fold, fold.auction_id)
    assert (again.hash, again.sequence, again.at_ms) == (fold.hash, fold.sequence, fold.at_ms)


async def test_one_turn_serves_several_auctions(db: Database, world: World, turns: journal.Journal) -> None:
    folds = [db.read(journal.load_fold, one) for one in world.auctions]
    now = asyncio.get_running_loop().time()
    work = [
        Work(fold.auction_id, fold, [Waiting(fold.auction_id, bid(world, 0, 100_000), now, lambda _: None)])
        for fold in folds
    ]
    turned = await turns.turn(work)
    assert [len(one.entries) for one in turned] == [1, 1]
    assert all(sequences(db, one) == [1, 2, 3, 4, 5, 6] for one in world.auctions)


async def test_two_nodes_never_accept_bids_that_exclude_each_other(db: Database, world: World) -> None:
    nodes = [journal.journal_of(db) for _ in range(2)]
    folds = [db.read(journal.load_fold, world.auctions[0]) for _ in nodes]

    async def bidding(which: int) -> list[Turned]:
        done = []
        for at in range(20):
            done.append(
                await take(nodes[which], folds[which], bid(world, which, 100_000 + at * STEP, f"n{which}-{at}"))
            )
        return done

    await asyncio.gather(*(bidding(which) for which in range(2)))
    for each in nodes:
        await each.close()
    assert sequences(db, world.auctions[0]) == list(range(1, 46))
    fold = db.read(journal.load_fold, world.auctions[0])  # checks every hash
    amounts = [
        event.amount_minor
        for entry in db.read(journal.entries_after, fold.auction_id, 0, limit=100)
        for event in entry.events
        if isinstance(event, Bid)
    ]
    assert amounts == sorted(set(amounts))


async def test_the_same_id_again_gets_the_first_answer_also_from_another_node(db: Database, world: World) -> None:
    first, second = journal.journal_of(db), journal.journal_of(db)
    [entry] = (await take(first, Fold(world.auctions[0]), bid(world, 0, 100_000, "k"))).answers
    assert isinstance(entry, Entry)
    fold = Fold(world.auctions[0])
    turned = await take(second, fold, bid(world, 0, 100_000, "k"), bid(world, 0, 120_000, "k"))
    assert turned.answers == [Answered(entry.sequence), KeyReused(entry.sequence)]
    assert sequences(db, fold.auction_id) == list(range(1, entry.sequence + 1))
    await first.close()
    await second.close()


async def test_a_close_leaves_the_work_of_settling_once(db: Database, turns: journal.Journal) -> None:
    sale = Sale(ruleset="ebay-proxy", step_minor=None, currency="USD", opens_in=timedelta(seconds=-10),
                lasts=timedelta(seconds=8))  # fmt: skip
    creditor_id, person_id, [investor] = db.in_transaction(make_people, 1, at=utc_now())
    [auction_id] = db.in_transaction(make_auctions, creditor_id, person_id, 1, sale, at=utc_now())
    db.in_transaction(
        lambda s: s.add(tables.Participation(auction_id=auction_id, party_id=investor.party_id, created_at=AT))
    )
    fold = db.read(journal.load_fold, auction_id)
    now_ms = fold.auction.closes_at_ms
    turned = await take(turns, fold, Admit("a", investor.party_id, 10**9, by=person_id), Tick(), Close(now_ms))
    assert isinstance(turned.entries[-1].events[-1], Closed)
    await take(turns, fold, Close(now_ms))
    row = db.read(lambda s: s.get_one(tables.Auction, auction_id))
    assert (row.phase, row.outcome, row.due_at, row.hammer_minor) == ("closed", "unsold", None, None)
    rows = db.read(lambda s: list(s.exec(select(tables.Outbox).where(tables.Outbox.task == "settle"))))
    assert [(one.key, one.arguments) for one in rows] == [(f"settle:{auction_id}", {"auction_id": auction_id})]
    taking_part = db.read(lambda s: s.exec(select(tables.Participation)).one())
    assert (taking_part.status, taking_part.bidder, taking_part.limit_minor) == ("admitted", 1, 10**9)


async def test_a_withdrawal_leaves_the_same_work(db: Database, world: World, turns: journal.Journal) -> None:
    fold = Fold(world.auctions[0])
    turned = await take(turns, fold, Withdraw("w", "debt paid", by=1))
    assert isinstance(turned.entries[-1].events[-1], Withdrawn)
    await take(turns, fold, Withdraw("w", "debt paid", by=1), Withdraw("w2", "again", by=1))
    rows = db.read(lambda s: list(s.exec(select(tables.Outbox).where(tables.Outbox.task == "settle"))))
    assert [(one.key, one.arguments) for one in rows] == [
        (f"settle:{fold.auction_id}", {"auction_id": fold.auction_id})
    ]


async def test_arrival_is_the_clock_at_the_turn_less_the_wait(
    db: Database, world: World, turns: journal.Journal
) -> None:
    fold = db.read(journal.load_fold, world.auctions[0])
    now = asyncio.get_running_loop().time()
    late = Waiting(fold.auction_id, bid(world, 0, 100_000), now - 0.5, lambda _: None)
    [turned] = await turns.turn([Work(fold.auction_id, fold, [late])])
    [entry] = turned.entries
    after = await take(turns, fold, bid(world, 1, 110_000))
    assert 450 <= after.entries[0].at_ms - entry.arrived_ms < 2_000
    assert after.entries[0].at_ms >= entry.at_ms


class Breaks:
    """A journal whose turn fails, before or after the real commit, as often as asked."""

    def __init__(self, real: journal.Journal, *, before: int = 0, after: int = 0) -> None:
        self.real, self.before, self.after = real, before, after

    async def turn(self, work: Sequence[Work]) -> list[Turned]:
        if self.before:
            self.before -= 1
            for one in work:  # decided, then lost: the fold is ahead of the journal
                one.fold.take(one.waiting[0].command, one.fold.at_ms, "0" * 32)
            raise TurnFailed("before the commit")
        turned = await self.real.turn(work)
        if self.after:
            self.after -= 1
            raise TurnFailed("after the commit")
        return turned


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1), (2, 0), (0, 2), (1, 1)])
async def test_a_failed_turn_tells_nothing_untrue(
    db: Database, world: World, turns: journal.Journal, before: int, after: int
) -> None:
    breaking = Breaks(turns, before=before, after=after)

    async def load(auction_id: int) -> Fold:
        return db.read(journal.load_fold, auction_id)

    sequencer = Sequencer(breaking.turn, load, lambda _: None)
    auction_id = world.auctions[0]
    sequencer.adopt(await load(auction_id))
    running = asyncio.create_task(sequencer.run())
    answer: Told = await sequencer.ask(auction_id, bid(world, 0, 100_000, "once"))
    kept = sequences(db, auction_id)
    if before + after == 1:
        assert isinstance(answer, Entry if before else Answered)
        assert len(kept) == 6
    else:
        assert type(answer).__name__ in ("Unknown", "Answered")
    again = await sequencer.ask(auction_id, bid(world, 0, 100_000, "once"))
    assert isinstance(again, Entry | Answered)
    assert sequences(db, auction_id) == [1, 2, 3, 4, 5, 6]
    sequencer.stop()
    await running


async def test_a_lost_connection_fails_the_turn_and_the_next_one_connects_anew(
    postgresql_url: str,
) -> None:
    db = Database(postgresql_url)
    world = await make_world(db, investors=1, auctions=1)
    turns = journal.journal_of(db)
    fold = db.read(journal.load_fold, world.auctions[0])
    await take(turns, fold, bid(world, 0, 100_000))
    db.in_transaction(
        lambda s: s.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'clearlot journal'")
        )
    )
    with pytest.raises(TurnFailed):
        await take(turns, fold, bid(world, 0, 120_000))
    fold = db.read(journal.load_fold, world.auctions[0])
    turned = await take(turns, fold, bid(world, 0, 120_000))
    assert isinstance(turned.answers[0], Entry)
    await turns.close()
    db.close()


async def test_a_node_whose_clock_is_off_decides_nothing(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(postgresql_url)
    world = await make_world(db, investors=1, auctions=1)
    turns = journal.journal_of(db)
    fold = db.read(journal.load_fold, world.auctions[0])
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 0.7)
        turned = await take(turns, fold, bid(world, 0, 100_000))
    assert turned.answers == [Busy()]
    assert len(sequences(db, fold.auction_id)) == fold.sequence
    assert isinstance((await take(turns, fold, bid(world, 0, 100_000))).answers[0], Entry)
    await turns.close()
    db.close()


async def test_the_journal_is_append_only(db: Database, world: World) -> None:
    for statement in ("UPDATE entry SET public = ''", "DELETE FROM entry"):
        with pytest.raises(DatabaseError, match="append-only"):
            db.in_transaction(Session.execute, text(statement))


async def test_a_silence_of_all_nodes_is_an_outage_once(db: Database) -> None:
    assert not db.in_transaction(journal.heartbeat, at=AT).is_over_now
    assert not db.in_transaction(journal.heartbeat, at=AT + timedelta(seconds=3)).is_over_now
    later = AT + timedelta(seconds=60)
    beat = db.in_transaction(journal.heartbeat, at=later)
    assert (beat.outage_since, beat.outage_until, beat.is_over_now) == (AT + timedelta(seconds=3), later, True)
    assert not db.in_transaction(journal.heartbeat, at=later).is_over_now
