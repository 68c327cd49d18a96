"""The gateway over real sockets, on both databases: acks after the commit, the same news for all, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select
from websockets.exceptions import ConnectionClosed, InvalidStatus

from auctions.messages import Admit, Close, Pause
from storage import journal, parties, tables
from storage.database import Database
from tests.web.live_node import Node, Talk, node
from web.bench_world import Sale, World, make_world
from web.live import Unavailable, submit_alone
from web.live_messages import Fault, diagnose, read
from web.render import utc_now
from web.security import hash_token, new_token

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def world(db: Database) -> World:
    return await make_world(db, investors=3, auctions=2)


@pytest.fixture
async def one(db: Database, tmp_path: Path, world: World) -> AsyncIterator[Node]:
    async with node(db, tmp_path) as running:
        yield running


def kept(db: Database, auction_id: int) -> list[int]:
    entry = tables.Entry
    return db.read(
        lambda s: list(
            s.exec(select(entry.sequence).where(entry.auction_id == auction_id).order_by(col(entry.sequence)))
        )
    )


async def test_an_ack_comes_after_the_commit_and_everybody_sees_the_same(db: Database, world: World, one: Node) -> None:
    auction = world.auctions[0]
    async with await one.socket(world.investors[0].key) as li, await one.socket(world.investors[1].key) as chen:
        for talk in (li, chen):
            watching = await talk.ask("watching", type="watch", auction=auction, since=0)
            assert (watching["sequence"], watching["standing"]["phase"]) == (5, "open")
        ack = await li.ask("ack", type="bid", id="li-1", auction=auction, amount="1000.00")
        assert ack["sequence"] in kept(db, auction)
        assert (ack["outcome"], ack["bidder"], ack["leading"], ack["price"]) == ("accepted", 1, True, "1000.00")
        higher = await chen.ask("ack", type="bid", id="chen-1", auction=auction, amount="1100.00")
        outbid = await li.until("outbid")
        assert (outbid["price"], outbid["minimum"]) == ("1100.00", "1200.00")
        for talk in (li, chen):
            while higher["sequence"] not in talk.sequences():
                await talk.next()
            standing = await talk.until("standing", sequence=higher["sequence"])
            assert (standing["price"], standing["leader"], standing["bids"]) == ("1100.00", 2, 2)
            assert talk.sequences() == kept(db, auction)
        first, second = (
            [one for m in talk.seen if m["type"] == "entries" for one in m["entries"]] for talk in (li, chen)
        )
        assert first == second
        assert world.investors[0].key not in json.dumps(first)
        assert "party" not in json.dumps(first)


async def test_the_same_id_twice_is_one_bid(db: Database, world: World, one: Node) -> None:
    auction = world.auctions[0]
    bid = {"type": "bid", "id": "k", "auction": auction, "amount": "1000.00"}
    async with await one.socket(world.investors[0].key) as talk, await one.socket(world.investors[0].key) as other:
        first = await talk.ask("ack", **bid)
        assert await talk.ask("ack", **bid) == first
        assert await other.ask("ack", **bid) == first
        reused = await talk.ask("error", **bid | {"amount": "1100.00"})
        assert (reused["code"], reused["id"], reused["sequence"]) == ("key_reused", "k", first["sequence"])
        assert (reused["outcome"], reused["amount"]) == ("accepted", "1000.00")
        refused = await talk.ask("ack", type="bid", id="low", auction=auction, amount="0.01")
        assert (refused["outcome"], refused["leading"], refused["price"]) == ("refused", None, None)
        assert await talk.ask("ack", type="bid", id="low", auction=auction, amount="0.01") == refused
    async with await one.socket(world.investors[1].key) as stranger:  # his ids are his own
        answer = await stranger.ask("ack", **bid)
        assert (answer["outcome"], answer["code"]) == ("refused", "below_minimum")
        assert answer["facts"] == {"amount": "1000.00", "minimum": "1100.00"}
    assert kept(db, auction) == list(range(1, answer["sequence"] + 1))


async def test_a_proxy_bids_and_only_its_owner_learns_the_maximum(world: World, one: Node) -> None:
    auction = world.auctions[0]
    async with await one.socket(world.investors[0].key) as li, await one.socket(world.investors[1].key) as chen:
        await chen.ask("watching", type="watch", auction=auction, since=0)
        assert (await li.ask("ack", type="set_proxy", id="p", auction=auction, maximum="5000.00"))[
            "outcome"
        ] == "accepted"
        assert (await chen.ask("ack", type="bid", id="b", auction=auction, amount="2000.00"))["leading"] is False
        mine = await li.ask("position", type="get", auction=auction)
        assert (mine["state"], mine["maximum"], mine["bidder"]) == ("leading", "5000.00", 1)
        await chen.until("standing", price="2100.00")
        assert "5000.00" not in json.dumps(chen.seen)
        assert (await li.ask("ack", type="stop_proxy", id="s", auction=auction))["type"] == "ack"


async def test_who_comes_back_gets_what_he_missed_without_hole_or_double(db: Database, world: World, one: Node) -> None:
    auction = world.auctions[0]

    async def bid_on(talk: Talk, who: int, count: int) -> None:
        for at in range(count):
            await talk.ask(
                "ack", type="bid", id=f"{who}-{at}", auction=auction, amount=f"{1000 + 100 * (2 * at + who)}.00"
            )

    settings = one.gateway.party(world.investors[0].party_id)
    settings.bucket.burst = settings.bucket.left = 1e6
    other = one.gateway.party(world.investors[1].party_id)
    other.bucket.burst = other.bucket.left = 1e6
    one.gateway.messages_burst = 10_000
    async with await one.socket(world.investors[0].key) as li, await one.socket(world.investors[1].key) as chen:
        bidding = asyncio.gather(bid_on(li, 0, 60), bid_on(chen, 1, 60))
        seen: list[int] = []
        while not bidding.done():  # watches for a moment, is cut off, comes back: again and again
            async with await one.socket(world.investors[2].key) as watcher:
                await watcher.say(type="watch", auction=auction, since=seen[-1] if seen else 0)
                await watcher.until("watching")
                with contextlib.suppress(TimeoutError):  # when the bidding has ended, nothing more comes
                    async with asyncio.timeout(0.2):
                        for _ in range(4):
                            await watcher.next()
                seen += watcher.sequences()
        await bidding
        async with await one.socket(world.investors[2].key) as watcher:
            await watcher.say(type="watch", auction=auction, since=seen[-1])
            while (watcher.sequences() or seen)[-1] < len(kept(db, auction)):
                await watcher.next()
            seen += watcher.sequences()
    assert seen == kept(db, auction) == list(range(1, 126))


async def test_a_watcher_who_does_not_read_holds_nobody_up_and_is_let_go(
    world: World, one: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.live.BEHIND_S", 0.5)
    auction = world.auctions[0]
    async with await one.socket(world.investors[2].key) as stuck, await one.socket(world.investors[0].key) as li:
        await stuck.ask("watching", type="watch", auction=auction)
        stuck.opened.transport.pause_reading()
        [connection] = [c for c in one.gateway.connections if c.person_id == world.investors[2].person_id]
        room = one.gateway.rooms[auction]
        filler = b'{"type":"standing","x":"' + b"x" * 60_000 + b'"}'
        while not connection.socket.behind:
            connection.socket.tell(filler)
            await asyncio.sleep(0)
        ack = await li.ask("ack", type="bid", id="1", auction=auction, amount="1000.00")
        assert ack["outcome"] == "accepted"
        while connection in room.entries:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while connection in one.gateway.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        stuck.opened.transport.resume_reading()
        with pytest.raises(ConnectionClosed) as closed:
            await stuck.until("the end")
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1013


async def test_a_slow_watcher_is_brought_to_the_newest_without_a_hole(db: Database, world: World, one: Node) -> None:
    auction = world.auctions[0]
    async with await one.socket(world.investors[2].key) as slow, await one.socket(world.investors[0].key) as li:
        await slow.ask("watching", type="watch", auction=auction, since=0)
        slow.opened.transport.pause_reading()
        [connection] = [c for c in one.gateway.connections if c.person_id == world.investors[2].person_id]
        filler = b'{"type":"pong","clock":"' + b"x" * 60_000 + b'"}'
        while not connection.socket.behind:
            connection.socket.tell(filler)
            await asyncio.sleep(0)
        for at in range(10):
            await li.ask("ack", type="bid", id=f"{at}", auction=auction, amount=f"{1000 + 100 * at}.00")
        slow.opened.transport.resume_reading()
        while (slow.sequences() or [0])[-1] < len(kept(db, auction)):
            await slow.next()
        assert slow.sequences() == kept(db, auction)


async def test_who_may_come_in(db: Database, world: World, one: Node) -> None:
    token = new_token()
    person = world.investors[0].person_id
    db.in_transaction(
        parties.open_sign_in, person, token_hash=hash_token(token), csrf="x", old_token_hash=None, at=utc_now()
    )
    cookie = f"clearlot-session={token}"
    async with await one.socket(Cookie=cookie, Origin=one.url) as talk:
        assert (await talk.ask("pong", type="ping", id="x"))["id"] == "x"
    refused: list[dict[str, str]] = [
        {"Cookie": cookie},
        {"Cookie": cookie, "Origin": "https://elsewhere.example"},
        {"Cookie": "clearlot-session=wrong", "Origin": one.url},
        {"Origin": one.url},
        {"Authorization": "Bearer clk_00000000_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {"Authorization": f"Bearer {world.investors[0].key}", "Origin": "https://elsewhere.example"},
    ]
    for headers in refused:
        with pytest.raises(InvalidStatus) as status:
            await one.socket(**headers)
        assert status.value.response.status_code == 403


async def test_a_session_is_looked_at_again_for_every_bid(db: Database, world: World, one: Node) -> None:
    auction = world.auctions[0]
    async with await one.socket(world.investors[0].key) as talk:
        await talk.ask("ack", type="bid", id="1", auction=auction, amount="1000.00")
        db.in_transaction(
            lambda s: [
                parties.revoke_key(s, world.investors[0].person_id, key.id, at=utc_now())
                for key in parties.keys(s, world.investors[0].person_id)
            ]
        )
        for connection in one.gateway.connections:
            connection.checked -= 60
        assert (await talk.ask("error", type="bid", id="2", auction=auction, amount="1100.00"))[
            "code"
        ] == "session_ended"
        with pytest.raises(ConnectionClosed) as closed:
            await talk.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    assert len(kept(db, auction)) == 6


async def test_signing_out_closes_the_sockets(db: Database, world: World, one: Node) -> None:
    token = hash_token(plain := new_token())
    db.in_transaction(
        parties.open_sign_in,
        world.investors[0].person_id,
        token_hash=token,
        csrf="x",
        old_token_hash=None,
        at=utc_now(),
    )
    talk = await one.socket(Cookie=f"clearlot-session={plain}", Origin=one.url)
    one.gateway.end_session(token)
    with pytest.raises(ConnectionClosed) as closed:
        await talk.until("the end")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


BID = '{"type":"bid","id":"x","auction":1,"amount":"1000.00"}'
MALFORMED = {
    "": "message_format",
    "x": "message_format",
    "[]": "message_format",
    "1": "message_format",
    "null": "message_format",
    '{"type":"ping"} {}': "message_format",
    '{"type":"ping","id":NaN}': "message_format",
    "[" * 20_000: "message_format",
    '{"type":"ping","id":' + "[" * 30 + "]" * 30 + "}": "message_format",
    '{"type":"ping","id":"\\ud800"}': "field_value",
    '{"type":"ping","type":"ping"}': "name_twice",
    '{"type":"bid","id":"x","auction":1,"amount":"1000.00","amount":"1.00"}': "name_twice",
    '{"type":"bid","id":"x","id":"x","auction":1,"amount":"1000.00"}': "name_twice",
    '{"type":"bid","id":"x","auction":1,"auction":1,"amount":"1000.00"}': "name_twice",
    '{"type":"bid","\\u0069d":"y","id":"x","auction":1,"amount":"1000.00"}': "name_twice",
    "{}": "type_missing",
    '{"id":"x"}': "type_missing",
    '{"type":1}': "field_type",
    '{"type":"sell"}': "type_unknown",
    '{"type":"bid"}': "field_missing",
    '{"type":"bid","id":"x","auction":1}': "field_missing",
    '{"type":"bid","id":"x","auction":1,"amount":"1","colour":"red"}': "field_unknown",
    '{"type":"bid","id":"x","auction":"1","amount":"1"}': "field_type",
    '{"type":"bid","id":"x","auction":true,"amount":"1"}': "field_type",
    '{"type":"bid","id":"x","auction":1.0,"amount":"1"}': "field_type",
    '{"type":"bid","id":"x","auction":1,"amount":1000}': "field_type",
    '{"type":"bid","id":"x","auction":1,"amount":null}': "field_type",
    '{"type":"bid","id":"x","auction":1,"amount":"1","maximum":null}': "field_type",
    '{"type":"bid","id":"","auction":1,"amount":"1"}': "field_value",
    '{"type":"bid","id":"a b","auction":1,"amount":"1"}': "field_value",
    '{"type":"bid","id":"' + "x" * 65 + '","auction":1,"amount":"1"}': "field_value",
    '{"type":"bid","id":"x","auction":0,"amount":"1"}': "field_value",
    '{"type":"bid","id":"x","auction":9007199254740992,"amount":"1"}': "field_value",
    '{"type":"watch","auction":1,"since":-1}': "field_value",
    '{"type":"watch","auction":1,"want":"all"}': "field_value",
    '{"type":"watch"}': "field_missing",
    '{"type":"watch","auction":1,"lot":1}': "field_unknown",
    '{"type":"watch","auction":1,"want":"page"}': "field_missing",
    '{"type":"watch","auction":999}': "not_found",
    '{"type":"watch","lot":999}': "not_found",
    '{"type":"get","auction":999}': "not_found",
    '{"type":"bid","id":"x","auction":999,"amount":"1"}': "not_found",
    **{
        json.dumps({"type": "bid", "id": "x", "auction": 1, "amount": amount}): "amount_format"
        for amount in (
            "", " 1", "1 ", "+1", "-1", "1e3", "1,000", "1_000", "0x1", "NaN", "Infinity", "1.", ".5", "1.005", "１",
            "1" * 16, "٣", "1000.00\n", "1\x00",
        )
    },
}  # fmt: skip


async def test_malformed_messages_get_a_code_and_change_nothing(db: Database, world: World, one: Node) -> None:
    one.gateway.messages_burst = 10_000
    before = kept(db, world.auctions[0])
    async with await one.socket(world.investors[0].key) as talk:
        talk_party = one.gateway.party(world.investors[0].party_id)
        talk_party.bucket.left = talk_party.bucket.burst = 1e6
        for text, code in MALFORMED.items():
            await talk.opened.send(text)
            answer = await talk.next()
            assert (answer["type"], answer["code"]) == ("error", code), text[:80]
        assert (await talk.ask("pong", type="ping"))["type"] == "pong"
    assert kept(db, world.auctions[0]) == before
    async with await one.socket(world.investors[0].key) as talk:
        await talk.opened.send("x" * 65_537)
        with pytest.raises(ConnectionClosed) as closed:
            await talk.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_every_code_is_in_the_document() -> None:
    page = (ROOT / "docs" / "live-protocol.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert set(MALFORMED.values()) <= listed
    from auctions.messages import REFUSALS

    assert {code for code in REFUSALS if code in page} >= {"below_minimum", "too_late", "above_limit"}
    with pytest.raises(Fault):
        read("{}")
    assert diagnose('{"type":"bid","id":"x","auction":1,"amount":5}').id == "x"


@pytest.fixture
async def strict(db: Database, tmp_path: Path, world: World) -> AsyncIterator[Node]:
    async with node(db, tmp_path, commands_per_second=1) as running:
        yield running


async def test_limits_are_told_and_kept(world: World, strict: Node) -> None:
    auction, one = world.auctions[0], strict
    async with await one.socket(world.investors[0].key) as talk:
        for at in range(60):  # at once: asked one by one, a busy machine gives the bucket time to fill
            await talk.say(type="bid", id=f"{at}", auction=auction, amount="0.01")
        codes = [(await talk.until("ack", "error")).get("code") for _ in range(60)]
        assert 40 <= len(codes) - codes.count("rate_limited") < 60
        limited = next(m for m in talk.seen if m.get("code") == "rate_limited")
        assert limited["retry_after_ms"] > 0
    async with await one.socket(world.investors[0].key) as again:  # to connect anew gives nobody a new bucket
        for at in range(30):
            await again.say(type="bid", id=f"n{at}", auction=auction, amount="0.01")
        answers = [await again.until("ack", "error") for _ in range(30)]
        assert "rate_limited" in [one.get("code") for one in answers]


async def test_a_bid_at_the_very_end_is_too_late_and_the_lot_closes_by_itself(db: Database, tmp_path: Path) -> None:
    sale = Sale(ruleset="ebay-proxy", step_minor=None, currency="USD", opens_in=timedelta(seconds=-5),
                lasts=timedelta(seconds=20))  # fmt: skip
    world = await make_world(db, investors=2, auctions=1, sale=sale)
    auction = world.auctions[0]
    async with node(db, tmp_path) as running, await running.socket(world.investors[0].key) as talk:
        watching = await talk.ask("watching", type="watch", auction=auction)
        assert (await talk.ask("ack", type="bid", id="1", auction=auction, amount="1500.00"))["outcome"] == "accepted"
        closes_ms = running.gateway.rooms[auction].standing.closes_at_ms
        await asyncio.sleep(max(0.0, (closes_ms - running.gateway.now_ms()) / 1000))
        late = await talk.ask("ack", type="bid", id="2", auction=auction, amount="2000.00")
        assert (late["outcome"], late["code"]) == ("refused", "too_late")
        assert late["facts"]["closed_at"] == watching["standing"]["closes_at"]
        standing = await talk.until("standing", phase="closed")
        assert (standing["outcome"], standing["price"], standing["leader"]) == ("sold", "1000.00", 1)
    tasks = db.read(lambda s: list(s.exec(select(tables.Outbox.key))))
    assert f"settle:{auction}" in tasks


async def test_a_lot_that_was_due_while_no_node_ran_is_handled_at_the_start(db: Database, tmp_path: Path) -> None:
    sale = Sale(ruleset="cn-judicial-2017", opens_in=timedelta(days=-2), lasts=timedelta(days=2, minutes=-10))
    world = await make_world(db, investors=1, auctions=1, sale=sale)
    long_ago = utc_now() - timedelta(hours=1)
    db.in_transaction(journal.heartbeat, at=long_ago)
    async with node(db, tmp_path) as running, await running.socket(world.investors[0].key) as talk:
        await talk.ask("watching", type="watch", auction=world.auctions[0], since=0)
        while not any(e["type"] == "paused" for m in talk.seen if m["type"] == "entries"
                      for one in m["entries"] for e in one["events"]):  # fmt: skip
            await talk.next()


async def test_two_nodes_one_lot(postgresql_url: str, redis_url: str, tmp_path: Path) -> None:
    db, other_db = Database(postgresql_url), Database(postgresql_url)
    world = await make_world(db, investors=2, auctions=1)
    auction = world.auctions[0]
    async with (
        node(db, tmp_path, redis_url=redis_url) as here,
        node(other_db, tmp_path, redis_url=redis_url) as there,
        await here.socket(world.investors[0].key) as li,
        await there.socket(world.investors[1].key) as chen,
    ):
        for talk in (li, chen):
            await talk.ask("watching", type="watch", auction=auction, since=0)
        for at in range(8):
            first = li.ask("ack", type="bid", id=f"{at}", auction=auction, amount=f"{1000 + at * 200}.00")
            second = chen.ask("ack", type="bid", id=f"{at}", auction=auction, amount=f"{1100 + at * 200}.00")
            await asyncio.gather(first, second)
        for talk in (li, chen):
            while (talk.sequences() or [0])[-1] < 20:
                await talk.next()
            assert talk.sequences() == list(range(1, 21)) == kept(db, auction)
    db.close()
    other_db.close()


async def test_nodes_agree_without_redis_too(postgresql_url: str, tmp_path: Path) -> None:
    db, other_db = Database(postgresql_url), Database(postgresql_url)
    world = await make_world(db, investors=2, auctions=1)
    auction = world.auctions[0]
    async with (
        node(db, tmp_path) as here,
        node(other_db, tmp_path) as there,
        await here.socket(world.investors[0].key) as li,
        await there.socket(world.investors[1].key) as chen,
    ):
        await chen.ask("watching", type="watch", auction=auction, since=0)
        await li.ask("ack", type="bid", id="1", auction=auction, amount="1000.00")
        await chen.until("standing", price="1000.00")
    db.close()
    other_db.close()


async def test_any_server_will_do(db: Database, world: World, tmp_path: Path) -> None:
    plain = node(db, tmp_path, protocol="websockets-sansio")
    async with plain as running, await running.socket(world.investors[0].key) as talk:
        await talk.ask("watching", type="watch", auction=world.auctions[0], since=0)
        ack = await talk.ask("ack", type="bid", id="1", auction=world.auctions[0], amount="1000.00")
        assert ack["outcome"] == "accepted"
        await talk.until("standing", price="1000.00")


async def test_pages_and_tasks_use_the_same_path(db: Database, world: World, one: Node) -> None:
    auction, investor = world.auctions[0], world.investors[0]
    entry = await one.gateway.submit(auction, Admit("new-limit", investor.party_id, 150_000, by=world.operator_id))
    again = await one.gateway.submit(auction, Admit("new-limit", investor.party_id, 150_000, by=world.operator_id))
    assert entry.sequence == again.sequence  # type: ignore[union-attr]
    async with await one.socket(investor.key) as talk:
        over = await talk.ask("ack", type="bid", id="1", auction=auction, amount="1600.00")
        assert (over["code"], over["facts"]["limit"]) == ("above_limit", "1500.00")
        pausing = Pause("stop", "a question about the title", by=world.operator_id)
        paused = await asyncio.to_thread(submit_alone, db, auction, pausing)  # as a worker without sockets does
        assert paused.sequence > over["sequence"]  # type: ignore[union-attr]
        refused = await talk.ask("ack", type="bid", id="2", auction=auction, amount="1000.00")
        assert refused["code"] == "paused"
    standing, position = await one.gateway.look(auction, investor.party_id)
    assert (standing.phase, position and position.limit_minor) == ("paused", 150_000)
    nothing = await one.gateway.submit(auction, Close())
    assert type(nothing).__name__ == "NothingToDo"


async def test_without_a_database_nothing_is_accepted_and_it_says_so(postgresql_url: str, tmp_path: Path) -> None:
    from tests import servers

    db = Database(postgresql_url)
    world = await make_world(db, investors=2, auctions=1)
    auction, url, name = world.auctions[0], *postgresql_url.rsplit("/", 1)
    async with node(db, tmp_path) as running, await running.socket(world.investors[0].key) as talk:
        first = Admit("first", world.investors[1].party_id, 10**9, by=world.operator_id)
        await running.gateway.submit(auction, first)
        servers.postgresql_do(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        servers.postgresql_do(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        bid = {"type": "bid", "id": "2", "auction": auction, "amount": "1200.00"}
        lost = await talk.ask("unknown", "error", **bid)
        assert lost["type"] == "unknown" or lost["code"] == "database_down"
        assert (await talk.ask("error", **bid))["code"] == "database_down"
        with pytest.raises(Unavailable):
            await running.gateway.submit(auction, Close())
        servers.postgresql_do(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        while running.gateway.trouble:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert (await talk.ask("ack", **bid))["outcome"] == "accepted"
        assert kept(db, auction)[-1] == len(kept(db, auction))
    db.close()
