"""The product's client against the product: it comes back by itself, also from a kill -9, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from storage import journal, tables
from storage.database import Database
from tests.servers import PATIENCE_S
from tests.web.live_node import Product, node
from web.bench_world import World, make_world
from web.client import Ack, Client, Entries, LiveError, NotAdmitted
from web.render import utc_now


@pytest.fixture
async def world(db: Database) -> World:
    return await make_world(db, investors=3, auctions=1)


@pytest.fixture
def product(database_url: str, tmp_path: Path) -> Iterator[Product]:
    made = Product(database_url, tmp_path)
    yield made
    made.stop()


def kept(db: Database, auction_id: int) -> list[tuple[int, str]]:
    entry = tables.Entry
    rows = select(entry.sequence, entry.hash).where(entry.auction_id == auction_id).order_by(col(entry.sequence))
    return db.read(lambda s: [(sequence, hash_.hex()) for sequence, hash_ in s.exec(rows)])


@pytest.mark.slow
async def test_kill_9_while_bids_flow_loses_nothing_that_was_accepted(
    db: Database, world: World, product: Product
) -> None:
    auction = world.auctions[0]
    product.start()
    acks: list[tuple[str, Ack]] = []
    seen: list[tuple[int, str]] = []

    async def bid_on(client: Client, who: int) -> None:
        for at in range(30):
            id = f"{who}-{at}"
            acks.append((id, await client.bid(auction, f"{1000 + 100 * (3 * at + who)}.00", id=id)))

    async def look_on(client: Client) -> None:
        async with client.watch(auction, since=0) as watching:
            async for event in watching:
                if isinstance(event, Entries):
                    seen.extend((entry.sequence, entry.hash) for entry in event.entries)

    people = [Client(product.url, key=one.key) for one in world.investors[:2]]
    async with asyncio.timeout(PATIENCE_S), people[0] as li, people[1] as chen:
        await asyncio.gather(li.ping(), chen.ping())  # both are in
        looking = asyncio.create_task(look_on(chen))
        bidding = asyncio.gather(bid_on(li, 0), bid_on(chen, 1))
        for killed_after in (8, 30):
            while len(acks) < killed_after:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            product.kill()
            before = kept(db, auction)
            product.start()
        await bidding
        assert li.connections + chen.connections >= 4
        while not seen or seen[-1][0] < kept(db, auction)[-1][0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        looking.cancel()
    after = kept(db, auction)
    assert after[: len(before)] == before  # an unchanged beginning
    assert [sequence for sequence, _ in after] == list(range(1, len(after) + 1))
    assert seen == after
    fold = db.read(journal.load_fold, auction)  # the chain holds
    assert len(acks) == 60
    for id, ack in acks:
        assert (ack.sequence, ack.hash) in after
        who = int(id[0])
        assert fold.answered(world.investors[who].party_id, id) == ack.sequence
    commands = [entry.command_id for entry in db.read(journal.entries_after, auction, 0, limit=1000)]
    mine = [id for id in commands if id[:2] in ("0-", "1-")]
    assert len(mine) == len(set(mine)) == 60


async def test_typed_answers(db: Database, world: World, tmp_path: Path) -> None:
    auction = world.auctions[0]
    async with node(db, tmp_path) as running:
        async with running.client(world.investors[0].key) as li, running.client(world.investors[1].key) as chen:
            ack = await li.bid(auction, "1000.00")
            assert (ack.is_accepted, ack.bidder, ack.price, ack.leading) == (True, 1, "1000.00", True)
            refused = await chen.bid(auction, "900.00")
            assert (refused.is_accepted, refused.code) == (False, "below_minimum")
            assert (await chen.set_proxy(auction, "3000.00")).is_accepted
            position = await chen.position(auction)
            assert (position.state, position.maximum) == ("leading", "3000.00")
            assert (await li.private.get()).auction == auction
            with pytest.raises(LiveError, match="amount_format"):
                await li.bid(auction, "1e3")
            with pytest.raises(LiveError, match="not_found"):
                await li.bid(99, "1.00")
            async with li.watch(auction, since=0) as watching:
                assert watching.standing is not None
                assert (watching.standing.phase, watching.standing.leader) == ("open", 2)
            assert (await li.ping()).clock.endswith("Z")
        async with running.client("clk_00000000_" + "a" * 43) as stranger:
            with pytest.raises(NotAdmitted):
                await stranger.ping()


async def test_the_commands_say_no_in_sentences(db: Database, world: World, tmp_path: Path) -> None:
    auction, li = world.auctions[0], world.investors[0]

    async def clearlot(*arguments: object) -> tuple[int | None, str]:
        env = {**os.environ, "CLEARLOT_KEY": li.key, "CLEARLOT_BASE_URL": one.url}
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", *map(str, arguments), env=env,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            _, told = await run.communicate()
        return run.returncode, told.decode()

    async with node(db, tmp_path) as one:
        assert await clearlot("bid", auction, "1000.00", "--id", "k") == (0, "")
        sequence = db.read(journal.load_fold, auction).sequence
        stands = f"which stands: entry {sequence}, 1000.00, accepted. Nothing was bid now. (key_reused)\n"
        assert await clearlot("bid", auction, "1100.00", "--id", "k") == (
            1, f"clearlot: The key k was used for another bid, {stands}"
        )  # fmt: skip
        for arguments, status, sentence in (
            (("bid", auction, "0.01"), 3, "clearlot: refused: You lead at 1000.00 already; under these rules"),
            (("bid", auction, "ten"), 1, "clearlot: Enter digits only, at most two decimals"),
            (("bid", 999, "1000.00"), 1, "clearlot: There is no auction 999, or it is not open to you."),
            (("bid", 0, "1000.00"), 1, "clearlot: The field auction is 0; expected a whole number from 1"),
            (("watch", 999), 1, "clearlot: There is no auction 999, or it is not open to you."),
        ):
            code, told = await clearlot(*arguments)
            assert (code, told[: len(sentence)]) == (status, sentence)


async def test_a_watch_ends_when_the_key_is_revoked(db: Database, world: World, tmp_path: Path) -> None:
    auction, li = world.auctions[0], world.investors[0]
    async with (
        asyncio.timeout(PATIENCE_S), node(db, tmp_path) as one, one.client(li.key) as client,
        client.watch(auction) as watching,
    ):  # fmt: skip
        db.in_transaction(_revoke, li.key)
        one.gateway._end_keys({connection.key for connection in one.gateway.connections})
        with pytest.raises(NotAdmitted):
            async for _event in watching:
                pass


def _revoke(session: Session, key: str) -> None:
    for one in session.exec(select(tables.ApiKey)).all():
        if one.prefix in key:
            one.revoked_at = utc_now()
            session.add(one)


async def test_a_restarted_node_answers_what_was_asked_before(db: Database, world: World, tmp_path: Path) -> None:
    auction = world.auctions[0]
    async with node(db, tmp_path) as first, first.client(world.investors[0].key) as li:
        ack = await li.bid(auction, "1000.00", id="k")
    async with node(db, tmp_path) as second, second.client(world.investors[0].key) as li:
        assert await li.bid(auction, "1000.00", id="k") == ack
