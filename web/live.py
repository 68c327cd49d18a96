"""The live gateway of one node: sockets in, turns at the journal, answers and news out (docs/live-protocol.md).

A message is parsed and its command queued in the sequencer; after the commit the bidder gets his ack, and then
everybody who watches gets the same bytes, encoded once.  Who reconnects names the last sequence seen and gets
every entry after it from the journal, then the stream, without a hole and without a double.  The gateway also keeps the
heap of deadlines that submits Tick and Close, follows what other nodes wrote, and looks at sessions again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from auctions import messages as commands
from auctions.bidding import Phase, Position, Standing
from auctions.journal import Answered, Busy, Entry, Fold, JournalBroken, KeyReused, NothingToDo
from auctions.messages import AutoBid, Bid, Close, Command, Disturbed, Refused, Tick
from auctions.sequencer import Sequencer, Told, Turned, TurnFailed, Unknown, Work
from market.errors import BadInput, Conflict, MarketError, NotFound
from market.money import amount_text, parse_amount
from storage import journal, parties
from storage.database import Database
from storage.journal import CLOCK_OFF_MS, Head
from web.live_messages import (
    SUBPROTOCOL,
    Fault,
    Get,
    Ping,
    PlaceBid,
    SetProxy,
    StopProxy,
    Unwatch,
    Watch,
    encode,
    entry_text,
    facts_text,
    instant,
    position_facts,
    read,
    standing_facts,
)
from web.live_protocol import MESSAGE_BYTES, TAKE, text_frame
from web.render import utc_now
from web.security import Visitor, key_prefix, origins
from web.settings import Settings

if TYPE_CHECKING:
    from redis import asyncio as redis

log = structlog.get_logger("live")

# Published in docs/live-protocol.md and in `hello`; those of commands are settings.
MESSAGES_PER_SECOND, MESSAGES_BURST = 50, 200  # of one socket
WATCHES = 500  # auctions on one socket
SOCKETS = 50  # of one person

FLUSH_S = 0.04  # a hot lot's watchers get at most one frame in it
CATCH_UP = 500  # entries of the journal in one message
BEHIND_S = 10.0  # a socket that is behind for longer is let go
RECHECK_S = 2.0  # a bid trusts a look at its session that is no older
IDLE_RECHECK_S = 30.0  # and a mere watcher this one
BEAT_S = 1.0  # how often other nodes' heads, due auctions and sessions are looked at
AHEAD_S = 10.0  # deadlines are read from the database so long before they come
NEAR_S = 900.0  # after an outage, auctions that end within it are looked at
LOADS = 4  # auctions read from the journal at once
IDLE_ROOM_S = 600.0  # an auction that nobody asked for is let go
ROOMS = 20_000
RETRY_MS = 500
CHANNEL = "clearlot:live"

RenderPart = Callable[[int, int, str, Standing, str], str]  # auction, lot, currency, standing, language -> HTML


def quiet_collector() -> None:
    """Let the garbage collector look at what is new only, and less often: call it once, when a server has started.

    Bids make and drop thousands of small objects, and each full look at all modules' objects costs as much as hundreds
    of bids.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class Unavailable(MarketError):
    """Nothing can be decided now: `database_down`, `clock_off`, `busy`, or `unknown_outcome` (ask again, same id)."""

    status: ClassVar[int] = 503


class Socket(Protocol):
    """What the gateway needs of a socket: LiveProtocol, or any ASGI server's through AsgiSocket."""

    behind: bool

    def tell(self, payload: bytes) -> None: ...
    def tell_all(self, payloads: list[bytes]) -> None: ...
    def tell_frame(self, frame: bytes, payload: bytes) -> None: ...
    def fail(self, code: int, reason: str) -> None: ...


@dataclass(slots=True)
class Bucket:
    """A token bucket on the monotonic clock."""

    per_second: float
    burst: float
    left: float
    since: float

    def wait_s(self, now: float) -> float:
        """Take one; return 0, or in how many seconds there will be one."""
        left = self.left + (now - self.since) * self.per_second
        self.since = now
        if left >= 1.0:
            self.left = (left if left < self.burst else self.burst) - 1.0
            return 0.0
        self.left = left
        return (1.0 - left) / self.per_second


class Room:
    """An auction that this node serves. All of it is committed: what may be shown."""

    __slots__ = (
        "asking", "auction_id", "currency", "due_ms", "entries", "flushed", "fresh", "leader_party_id", "lot_id",
        "pages", "sent", "sequence", "standing", "standings", "timer", "used",
    )  # fmt: skip

    def __init__(self, head: Head, standing: Standing, leader_party_id: int | None, due_ms: int | None) -> None:
        self.auction_id, self.lot_id, self.currency = head.auction_id, head.lot_id, head.currency
        self.standing = standing
        self.sequence = standing.sequence
        self.leader_party_id = leader_party_id
        self.due_ms = due_ms
        self.sent = standing.sequence  # the last entry that went to the live watchers; all of them have it
        self.fresh: list[Entry] = []  # the entries after `sent`, until the next flush
        self.entries: set[Connection] = set()
        self.standings: set[Connection] = set()
        self.pages: dict[str, set[Connection]] = {}
        self.asking: dict[int, list[Connection]] = {}
        self.flushed = 0.0
        self.timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self.used = time.monotonic()

    def live(self, watching: Watching) -> set[Connection]:
        """The set of connections that get the same bytes as this one."""
        if watching.want == "page":
            return self.pages.setdefault(watching.language, set())
        return self.entries if watching.want == "entries" else self.standings

    def is_watched(self) -> bool:
        """Whether anybody here looks at it live."""
        return bool(self.entries or self.standings or any(self.pages.values()))


@dataclass(slots=True, eq=False)
class Watching:
    """What one connection watches, and how far it has been told."""

    room: Room
    want: str
    language: str
    since: int
    told: int  # the sequence of the newest standing that it got outside of the stream


@dataclass(slots=True)
class Party:
    """A party's sockets on this node, and its limit."""

    bucket: Bucket
    connections: set[Connection]


class Connection:
    """One socket: who is behind it and what it watches."""

    __slots__ = (
        "behind_since", "bucket", "checked", "closed", "commanded", "drained", "gateway", "held", "key", "may_bid",
        "party", "party_id", "person_id", "socket", "soon", "watching",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, visitor: Visitor, key: str) -> None:
        now = time.monotonic()
        self.gateway = gateway
        self.socket: Socket
        self.person_id = visitor.id or 0
        self.party_id = visitor.party_id or 0
        self.key = key  # the session's token hash, or "key:" and the API key's prefix
        self.may_bid = visitor.has("investor") and visitor.may("bid")
        self.checked = now
        self.commanded = 0.0
        self.closed = False
        self.bucket = Bucket(gateway.messages_per_second, gateway.messages_burst, gateway.messages_burst, now)
        self.party = gateway.party(self.party_id)
        self.soon: list[bytes] = []  # of the turn that is being told: they leave together
        self.watching: dict[int, Watching] = {}
        self.held: deque[tuple[PlaceBid | SetProxy | StopProxy, float]] | None = None  # while the session is looked at
        self.behind_since: float | None = None
        self.drained = asyncio.Event()
        self.drained.set()

    def tell(self, facts: dict[str, Any]) -> None:
        """Send one message to this connection alone."""
        self.socket.tell(encode(facts))

    def tell_soon(self, payload: bytes) -> None:
        """Send a message together with all others that a turn has for this connection."""
        if not self.soon:
            self.gateway.tell_soon(self)
        self.soon.append(payload)

    def on_text(self, text: str) -> None:
        """Take one message; never waits and never raises for anything that a client can send."""
        now = time.monotonic()
        if wait_s := self.bucket.wait_s(now):
            self.tell(error("rate_limited", retry_after_ms=int(wait_s * 1000) + 1))
            return
        try:
            message = read(text)
            match message:
                case PlaceBid() | SetProxy() | StopProxy():
                    self._command(message, now)
                case Ping():
                    id = f'"id":"{message.id}",' if message.id else ""
                    self.socket.tell(f'{{"type":"pong",{id}"clock":"{self.gateway.clock()}"}}'.encode())
                case Watch():
                    self._check_watch(message)
                    self.gateway.spawn(self._watch(message))
                case Unwatch():
                    self.leave(message.auction)
                    self.tell({"type": "unwatched", "auction": message.auction})
                case Get():
                    self.gateway.spawn(self._get(message.auction))
        except Fault as fault:
            self.tell(error(fault.code, id=fault.id, field=fault.field, found=fault.found, expected=fault.expected))

    # --- commands -----------------------------------------------------------------------------------

    def _command(self, message: PlaceBid | SetProxy | StopProxy, now: float) -> None:
        gateway = self.gateway
        self.commanded = now
        if self.held is not None or now - self.checked > RECHECK_S:
            gateway.hold(self, message, now)
            return
        room = gateway.rooms.get(message.auction)
        if room is None:
            gateway.spawn(self._command_later(message, now))
            return
        if gateway.trouble or not self.may_bid:
            self.tell(error(gateway.trouble or "not_allowed", id=message.id, auction=message.auction))
            return
        if wait_s := self.party.bucket.wait_s(now):
            retry_ms = int(wait_s * 1000) + 1
            self.tell(error("rate_limited", id=message.id, auction=message.auction, retry_after_ms=retry_ms))
            return
        try:
            command = self._parse(message, room.currency)
        except BadInput as bad:
            fault = bad.faults[0]
            self.tell(
                error(
                    fault.code,
                    message.id,
                    message.auction,
                    field=fault.field,
                    found=fault.found,
                    expected=fault.expected,
                )
            )
            return
        gateway.sequencer.submit(room.auction_id, command, partial(self._told, room, message.id), now)

    def _parse(self, message: PlaceBid | SetProxy | StopProxy, currency: str) -> commands.BidderCommand:
        if type(message) is PlaceBid:
            maximum_minor = None
            if type(message.maximum) is str:
                maximum_minor = parse_amount(message.maximum, currency, field="maximum")
            return commands.PlaceBid(message.id, self.party_id, parse_amount(message.amount, currency), maximum_minor)
        if type(message) is SetProxy:
            return commands.SetProxy(
                message.id, self.party_id, parse_amount(message.maximum, currency, field="maximum")
            )
        return commands.StopProxy(message.id, self.party_id)

    async def _command_later(self, message: PlaceBid | SetProxy | StopProxy, now: float) -> None:
        """The auction has to be read first; the command has arrived all the same."""
        try:
            await self.gateway.room(message.auction)
        except MarketError as failed:
            self.tell(error(failed.code, id=message.id, auction=message.auction))
            return
        self._command(message, now)

    def _told(self, room: Room, id: str, answer: Told) -> None:
        if type(answer) is Entry:
            self.tell_soon(self.gateway.ack(room, id, answer, self.party_id))
        elif type(answer) is Answered:
            self.gateway.spawn(self._told_again(room, id, answer.sequence))
        elif type(answer) is KeyReused:
            self.gateway.spawn(self._told_reused(room, id, answer.sequence))
        elif type(answer) is Busy:
            if abs(self.gateway.journal.offset_ms) > CLOCK_OFF_MS:
                self.tell(error("clock_off", id=id, auction=room.auction_id))
            else:
                self.tell({"type": "busy", "id": id, "auction": room.auction_id, "retry_after_ms": RETRY_MS})
        else:
            self.tell({"type": "unknown", "id": id, "auction": room.auction_id, "retry_after_ms": RETRY_MS})

    async def _told_again(self, room: Room, id: str, sequence: int) -> None:
        try:
            entry = await self.gateway.entry(room.auction_id, sequence)
        except SQLAlchemyError:
            self.tell({"type": "unknown", "id": id, "auction": room.auction_id, "retry_after_ms": RETRY_MS})
            return
        self.socket.tell(self.gateway.ack(room, id, entry, self.party_id))

    async def _told_reused(self, room: Room, id: str, sequence: int) -> None:
        """Name the command that stands: it is this party's own, for ids are scoped by party."""
        first: dict[str, Any] = {}
        with contextlib.suppress(SQLAlchemyError):
            entry = await self.gateway.entry(room.auction_id, sequence)
            refused = any(type(event) is Refused for event in entry.events)
            first["outcome"] = "refused" if refused else "accepted"
            command = json.loads(entry.private)["command"]
            if (minor := command.get("amount_minor", command.get("maximum_minor"))) is not None:
                first["amount"] = amount_text(minor, room.currency)
        self.tell(error("key_reused", id=id, auction=room.auction_id, sequence=sequence, **first))

    async def _get(self, auction_id: int) -> None:
        try:
            room = await self.gateway.room(auction_id)
        except MarketError as failed:
            self.tell(error(failed.code, auction=auction_id))
            return
        room.asking.setdefault(self.party_id, []).append(self)
        self.gateway.sequencer.look(auction_id, self.party_id)

    # --- watching -----------------------------------------------------------------------------------

    def _check_watch(self, message: Watch) -> None:
        named = [name for name in ("auction", "lot") if type(getattr(message, name)) is int]
        if len(named) != 1:
            if named:
                raise Fault("field_unknown", "lot", expected="auction or lot, not both")
            raise Fault("field_missing", "auction", expected="auction or lot")
        is_page = message.want == "page"
        if is_page and type(message.language) is not str:
            raise Fault("field_missing", "language", expected="one of: en, zh")
        if not is_page and type(message.language) is str:
            raise Fault("field_unknown", "language", expected='only with "want": "page"')
        if len(self.watching) >= WATCHES and message.auction not in self.watching:
            raise Fault("too_many_watched", expected=f"at most {WATCHES}")

    async def _watch(self, message: Watch) -> None:
        gateway = self.gateway
        try:
            if type(message.auction) is int:
                room = await gateway.room(message.auction)
            else:
                room = await gateway.room(lot_id=int(message.lot))  # type: ignore[arg-type]
        except MarketError as failed:
            named = "auction" if type(message.auction) is int else "lot"
            self.tell(error(failed.code, **{named: getattr(message, named)}))
            return
        if self.closed:
            return
        self.leave(room.auction_id)
        gateway.flush(room)
        since = message.since if type(message.since) is int else room.sent
        want = message.want if type(message.want) is str else "entries"
        language = message.language if type(message.language) is str else ""
        watching = Watching(room, want, language, since, room.sequence)
        self.watching[room.auction_id] = watching
        self.tell(
            {
                "type": "watching", "auction": room.auction_id, "lot": room.lot_id, "currency": room.currency,
                "sequence": room.sent, "since": since, "want": want, "clock": gateway.clock(),
                "standing": standing_facts(room.standing, room.auction_id, room.currency),
            }
        )  # fmt: skip
        await self._catch_up(watching)

    async def _catch_up(self, watching: Watching) -> None:
        """Send what was missed from the journal; join the live watchers when nothing is left."""
        room, gateway = watching.room, self.gateway
        tries = 0
        while not self.closed and self.watching.get(room.auction_id) is watching:
            if watching.want == "standing" or watching.since == room.sent:
                # No await between this look and the joining: no entry can slip in between.
                room.live(watching).add(self)
                if watching.told != room.sequence:
                    self.socket.tell(gateway.standing_payload(room))
                if watching.want == "page":
                    gateway.tell_part(room, self, watching.language)
                return
            if watching.since > room.sent:  # seen on another node, which is ahead of what this one knows
                tries += 1
                if tries > 40:
                    self.watching.pop(room.auction_id, None)
                    self.tell(
                        error("field_value", auction=room.auction_id, field="since", expected=f"at most {room.sent}")
                    )
                    return
                gateway.sequencer.look(room.auction_id)
                await asyncio.sleep(0.05)
                gateway.flush(room)
                continue
            try:
                entries = await gateway.entries(room.auction_id, watching.since)
            except SQLAlchemyError:
                await asyncio.sleep(BEAT_S)
                continue
            # What the live watchers have not been sent yet will come to this one with them.
            entries = [entry for entry in entries if entry.sequence <= room.sent]
            if not entries:
                continue
            self.socket.tell(entries_payload(room, entries))
            watching.since = entries[-1].sequence
            if self.socket.behind:
                self.drained.clear()
                await self.drained.wait()

    def leave(self, auction_id: int) -> None:
        """Watch it no more."""
        if watching := self.watching.pop(auction_id, None):
            watching.room.live(watching).discard(self)

    def on_drained(self) -> None:
        """The socket can take more: bring it to the newest standing, with every entry that it missed."""
        self.behind_since = None
        self.drained.set()
        gateway = self.gateway
        gateway.behind.discard(self)
        for watching in self.watching.values():
            if self not in watching.room.live(watching):
                gateway.spawn(self._catch_up(watching))

    def skip(self, watching: Watching, sent: int) -> None:
        """The socket cannot take more now: take it out of the live watchers, who have got everything up to `sent`."""
        watching.since, watching.told = sent, 0
        watching.room.live(watching).discard(self)
        if self.behind_since is None:
            self.behind_since = time.monotonic()
            self.gateway.behind.add(self)

    def on_close(self) -> None:
        """The socket is gone."""
        self.closed = True
        self.drained.set()
        for auction_id in list(self.watching):
            self.leave(auction_id)
        self.gateway.left(self)


def error(code: str, id: str = "", auction: int | None = None, **facts: Any) -> dict[str, Any]:
    """An `error` message; facts that are empty are left out."""
    made: dict[str, Any] = {"type": "error", "code": code}
    if id:
        made["id"] = id
    if auction is not None:
        made["auction"] = auction
    return made | {name: value for name, value in facts.items() if value not in ("", None)}


def entries_payload(room: Room, entries: Iterable[Entry]) -> bytes:
    """An `entries` message."""
    texts = ",".join([entry_text(entry, room.currency) for entry in entries])
    return f'{{"type":"entries","auction":{room.auction_id},"entries":[{texts}]}}'.encode()


class Gateway:
    """See the module's text. `start` and `stop` belong to the application's lifespan."""

    def __init__(self, settings: Settings, db: Database, *, render_part: RenderPart | None = None) -> None:
        """`render_part` makes the standing as a ready part of a page in one language (web/lots.py)."""
        self.settings = settings
        self.db = db
        self.render_part = render_part
        self.origins = origins(settings)
        self.journal = journal.journal_of(db)
        self.sequencer = Sequencer(self._turn, self._load, self._publish)
        self.messages_per_second = max(MESSAGES_PER_SECOND, settings.commands_per_second)
        self.messages_burst = max(MESSAGES_BURST, settings.commands_burst)
        self.rooms: dict[int, Room] = {}
        self.connections: set[Connection] = set()
        self.behind: set[Connection] = set()
        self._soon: list[Connection] = []  # have messages of the turn that is being told
        self.trouble = ""  # an error's code, while nothing can be decided
        self.outage_since_ms: int | None = None  # the last time in which no node could decide
        self.outage_until_ms = 0
        self._beaten = time.monotonic()  # the last heartbeat of ours
        self._parties: dict[int, Party] = {}
        self._loading: dict[int, asyncio.Task[Room]] = {}
        self._loads = asyncio.Semaphore(LOADS)
        self._due: list[tuple[int, int]] = []
        self._due_changed = asyncio.Event()
        self._held: list[Connection] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lasting: list[asyncio.Task[Any]] = []
        self._run: asyncio.Task[None] | None = None
        self._redis: redis.Redis | None = None
        self._news: dict[int, int] = {}
        self._news_changed = asyncio.Event()
        self.node = f"{time.time_ns():x}"
        self.turns = self.failed_turns = self.accepted = self.refused = 0
        self.turn_seconds = 0.0

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take turns, keep deadlines and follow other nodes."""
        await self._heartbeat()
        self._run = asyncio.create_task(self.sequencer.run())
        self._run.add_done_callback(self._ended)
        lasting = [self._keep_deadlines(), self._beat()]
        if self.settings.redis_url:
            from redis import asyncio as redis  # half a second, and the embedded default has none

            self._redis = redis.Redis.from_url(self.settings.redis_url, socket_timeout=5, socket_connect_timeout=2)
            lasting += [self._listen(self._redis), self._announce(self._redis)]
        self._lasting = [asyncio.create_task(one) for one in lasting]

    async def stop(self) -> None:
        """Answer what waits, let the sockets go, and stop."""
        for task in self._lasting:
            task.cancel()
        if self._run is not None:
            self.sequencer.stop()
            await asyncio.wait([self._run], timeout=10)
        for connection in list(self.connections):
            connection.socket.fail(1012, "restart")
        for task in [*self._tasks, *self._loading.values()]:
            task.cancel()
        await asyncio.gather(*self._lasting, *self._tasks, return_exceptions=True)
        if self._redis is not None:
            await self._redis.aclose()
        await self.journal.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The sequencer ends only when it is told to; anything else is a bug, and bidders must not wait for it."""
        if not task.cancelled() and (failed := task.exception()):
            log.error("sequencer", exc_info=failed)
            self.trouble = "database_down"
            for connection in list(self.connections):
                connection.socket.fail(1011, "internal")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; what it raises is our bug and is logged."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failed := task.exception()):
            log.error("live", exc_info=failed)

    # --- for pages, API and tasks -------------------------------------------------------------------

    async def submit(self, auction_id: int, command: Command) -> Entry | NothingToDo:
        """Have a command decided and return its entry: the same one, when its id was taken before.

        Raises: NotFound; Conflict `key_reused`; Unavailable.
        """
        await self.room(auction_id)
        if self.trouble:
            raise Unavailable(self.trouble)
        answer = await self.sequencer.ask(auction_id, command)
        if isinstance(answer, Answered):
            return await self.entry(auction_id, answer.sequence)
        if isinstance(answer, KeyReused):
            raise Conflict("key_reused", auction_id=auction_id, sequence=answer.sequence)
        if isinstance(answer, Busy):
            raise Unavailable("clock_off" if abs(self.journal.offset_ms) > CLOCK_OFF_MS else "busy")
        if isinstance(answer, Unknown):
            raise Unavailable("unknown_outcome")
        return answer

    async def look(self, auction_id: int, party_id: int | None = None) -> tuple[Standing, Position | None]:
        """Return the newest standing, and where a party stands, for a page.

        Raises: NotFound; Unavailable.
        """
        room = await self.room(auction_id)
        if party_id is None:
            return room.standing, None
        waiting: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        asking: Any = _Asking(waiting)
        room.asking.setdefault(party_id, []).append(asking)
        self.sequencer.look(auction_id, party_id)
        try:
            async with asyncio.timeout(5):
                return room.standing, await waiting
        except TimeoutError:
            raise Unavailable("database_down") from None

    def end_session(self, token_hash: str) -> None:
        """Let the sockets of a session go at once, here and on other nodes that Redis reaches."""
        self._end_keys({token_hash})
        if self._redis is not None:
            self.spawn(self._tell_ended(self._redis, token_hash))

    async def _tell_ended(self, client: redis.Redis, key: str) -> None:
        from redis.exceptions import RedisError

        with contextlib.suppress(RedisError, OSError):
            await client.publish(CHANNEL, encode({"node": self.node, "ended": key}))

    def _end_keys(self, keys: set[str]) -> None:
        for connection in [one for one in self.connections if one.key in keys]:
            self.end(connection)

    def end(self, connection: Connection) -> None:
        """The session is over: say so and close."""
        connection.may_bid = False
        connection.tell(error("session_ended"))
        connection.socket.fail(1008, "session ended")

    def clock(self) -> str:
        """The database's clock, as well as this node knows it."""
        return instant(self.now_ms())

    def now_ms(self) -> int:
        """The same, in ms since the Unix epoch."""
        return time.time_ns() // 1_000_000 + self.journal.offset_ms

    async def entry(self, auction_id: int, sequence: int) -> Entry:
        """One entry of a journal."""
        [entry] = await self.db.read_in_thread(journal.entries_after, auction_id, sequence - 1, limit=1)
        return entry

    async def entries(self, auction_id: int, sequence: int) -> list[Entry]:
        """The next entries of a journal after `sequence`, at most CATCH_UP."""
        return await self.db.read_in_thread(journal.entries_after, auction_id, sequence, limit=CATCH_UP)

    # --- rooms --------------------------------------------------------------------------------------

    async def room(self, auction_id: int | None = None, *, lot_id: int | None = None) -> Room:
        """Return an auction that this node serves, read from the journal if it has to be.

        Raises: NotFound; Unavailable.
        """
        try:
            if auction_id is None:
                head = await self.db.read_in_thread(journal.find_head, lot_id=lot_id)
                if head is None:
                    raise NotFound("auction")
                auction_id = head.auction_id
            if (room := self.rooms.get(auction_id)) is not None:
                room.used = time.monotonic()
                return room
            loading = self._loading.get(auction_id)
            if loading is None:
                loading = self._loading[auction_id] = asyncio.create_task(self._open(auction_id))
                loading.add_done_callback(partial(self._opened, auction_id))
            return await asyncio.shield(loading)
        except SQLAlchemyError as failed:
            raise Unavailable("database_down") from failed
        except JournalBroken:
            log.exception("journal", auction=auction_id)
            raise Unavailable("journal_broken") from None

    def _opened(self, auction_id: int, loading: asyncio.Task[Room]) -> None:
        self._loading.pop(auction_id, None)
        if not loading.cancelled():
            loading.exception()  # whoever waited has got it

    async def _open(self, auction_id: int) -> Room:
        async with self._loads:
            head = await self.db.read_in_thread(journal.find_head, auction_id=auction_id)
            if head is None:
                raise NotFound("auction")
            fold = await self.db.read_in_thread(journal.load_fold, auction_id)
        auction = fold.auction
        standing = auction.standing(fold.sequence)
        leader = None if standing.leader is None else auction.bidders[standing.leader - 1].party_id
        room = Room(head, standing, leader, auction.due_at_ms())
        self.sequencer.forget(auction_id)  # a room and its fold begin together
        self.sequencer.adopt(fold)
        self.rooms[auction_id] = room
        if room.due_ms is not None:
            self._arm(room.due_ms, auction_id)
        return room

    async def _load(self, auction_id: int) -> Fold:
        try:
            return await self.db.read_in_thread(journal.load_fold, auction_id)
        except SQLAlchemyError as failed:
            raise TurnFailed(str(failed)) from failed

    async def _turn(self, work: Sequence[Work]) -> list[Turned]:
        started = time.perf_counter()
        try:
            turned = await self.journal.turn(work)
        except TurnFailed as failed:
            log.warning("turn failed", reason=str(failed))
            self.failed_turns += 1
            self.trouble = "database_down"
            raise
        self.trouble = ""
        self.turns += 1
        self.turn_seconds += time.perf_counter() - started
        for done in turned:
            last = [type(one.events[-1]) for one in done.answers if type(one) is Entry and one.scope > 0]  # of bidders
            refused = last.count(Refused)
            self.refused += refused
            self.accepted += len(last) - refused
        return turned

    async def _after_outage(self) -> None:
        """Nobody could bid for a while: auctions whose end is near are extended by the time that was lost."""
        log.warning("outage over", since_ms=self.outage_since_ms, until_ms=self.outage_until_ms)
        before = utc_now() + timedelta(seconds=NEAR_S)
        for head in await self.db.read_in_thread(journal.due_heads, before=before):
            with contextlib.suppress(MarketError):
                room = await self.room(head.auction_id)
                if room.standing.phase is Phase.OPEN and room.standing.closes_at_ms > self.outage_until_ms:
                    await self.sequencer.ask(head.auction_id, Disturbed("outage", self.outage_since_ms))

    # --- after a turn -------------------------------------------------------------------------------

    def tell_soon(self, connection: Connection) -> None:
        """Send what a connection has to be told when the whole turn was told: one write for each socket."""
        if not self._soon:
            asyncio.get_running_loop().call_soon(self._tell_all_soon)
        self._soon.append(connection)

    def _tell_all_soon(self) -> None:
        connections, self._soon = self._soon, []
        for connection in connections:
            payloads, connection.soon = connection.soon, []
            connection.socket.tell_all(payloads)

    def _publish(self, turned: Turned) -> None:
        """Keep what a committed turn did, tell those whom it concerns, and have the watchers told."""
        room = self.rooms.get(turned.auction_id)
        if room is None:
            return
        if turned.positions:
            self._tell_positions(room, turned)
        standing = turned.standing
        if standing.sequence <= room.sequence:
            return
        entries = turned.entries
        if entries and entries[0].sequence != room.sequence + 1:
            entries = [entry for entry in entries if entry.sequence > room.sequence]
        is_gap = not entries or entries[0].sequence != room.sequence + 1
        room.standing, room.sequence = standing, standing.sequence
        if turned.leader_party_id != room.leader_party_id:
            self._tell_leaders(room, turned)
        if turned.due_at_ms != room.due_ms:
            room.due_ms = turned.due_at_ms
            if room.due_ms is not None:
                self._arm(room.due_ms, room.auction_id)
        if self._redis is not None:
            self._news[room.auction_id] = room.sequence
            self._news_changed.set()
        if is_gap:  # the fold was read anew: the watchers get from the journal what did not come by here
            self._resume_all(room)
        else:
            room.fresh.extend(entries)
        if room.timer is None and room.is_watched():
            left_s = room.flushed + FLUSH_S - time.monotonic()
            loop = asyncio.get_running_loop()
            room.timer = loop.call_later(left_s, self.flush, room) if left_s > 0 else loop.call_soon(self.flush, room)
        elif not room.is_watched():
            room.sent = room.sequence
            room.fresh.clear()

    def _resume_all(self, room: Room) -> None:
        for connection in [*room.entries, *(one for page in room.pages.values() for one in page)]:
            watching = connection.watching[room.auction_id]
            watching.since = room.sent
            room.live(watching).discard(connection)
            self.spawn(connection._catch_up(watching))
        room.fresh.clear()
        room.sent = room.sequence

    def flush(self, room: Room) -> None:
        """Send the watchers what came since the last time: one encoding, one write for each."""
        if room.timer is not None:
            room.timer.cancel()
            room.timer = None
        if room.sequence == room.sent:
            return
        room.flushed = time.monotonic()
        before, room.sent = room.sent, room.sequence
        fresh, room.fresh = room.fresh, []
        if not room.is_watched():
            return
        standing = self.standing_payload(room)
        standing_frame = text_frame(standing)
        self._send_all(room, room.standings, before, [(standing_frame, standing)])
        if not room.entries and not any(room.pages.values()):
            return
        entries = entries_payload(room, fresh)
        entries_frame = text_frame(entries)
        self._send_all(room, room.entries, before, [(entries_frame, entries), (standing_frame, standing)])
        for language, connections in room.pages.items():
            if connections and (part := self._part(room, language)) is not None:
                frames = [(entries_frame, entries), (standing_frame, standing), (text_frame(part), part)]
                self._send_all(room, connections, before, frames)

    def _send_all(
        self, room: Room, connections: set[Connection], before: int, frames: list[tuple[bytes, bytes]]
    ) -> None:
        late: list[Connection] = []
        [(frame, payload), *more] = frames
        for connection in connections:
            socket = connection.socket
            if socket.behind:
                late.append(connection)
                continue
            socket.tell_frame(frame, payload)
            for each in more:
                socket.tell_frame(*each)
        for connection in late:
            connection.skip(connection.watching[room.auction_id], before)

    def standing_payload(self, room: Room) -> bytes:
        """A `standing` message."""
        facts = standing_facts(room.standing, room.auction_id, room.currency)
        return encode({"type": "standing", **facts, "clock": self.clock()})

    def tell_part(self, room: Room, connection: Connection, language: str) -> None:
        """Send one page its part."""
        if (part := self._part(room, language)) is not None:
            connection.socket.tell(part)

    def _part(self, room: Room, language: str) -> bytes | None:
        if self.render_part is None:
            return None
        html = self.render_part(room.auction_id, room.lot_id, room.currency, room.standing, language)
        return encode(
            {"type": "part", "auction": room.auction_id, "sequence": room.sequence, "language": language, "html": html}
        )

    def ack(self, room: Room, id: str, entry: Entry, party_id: int) -> bytes:
        """An `ack` message: the receipt of a command."""
        events = entry.events
        last = events[-1]
        head = (
            f'{{"type":"ack","id":"{id}","auction":{room.auction_id},"sequence":{entry.sequence},'
            f'"at":"{instant(entry.at_ms)}","hash":"{entry.hash.hex()}"'
        )
        if type(last) is Refused:
            bidder = "null" if last.bidder is None else last.bidder
            facts = facts_text(last.facts, room.currency)
            return (
                f'{head},"outcome":"refused","code":"{last.code}","facts":{facts},"bidder":{bidder},'
                '"leading":null,"price":null}'
            ).encode()
        fold = self.sequencer.folds.get(room.auction_id)
        mine = None if fold is None else fold.auction.by_party.get(party_id)
        number = None if mine is None else mine.number
        shown = "null" if number is None else number
        for event in reversed(events):
            if type(event) is Bid or type(event) is AutoBid:
                leading = "true" if event.bidder == number else "false"
                price = amount_text(event.amount_minor, room.currency)
                return f'{head},"outcome":"accepted","bidder":{shown},"leading":{leading},"price":"{price}"}}'.encode()
        return f'{head},"outcome":"accepted","bidder":{shown},"leading":null,"price":null}}'.encode()

    def _tell_positions(self, room: Room, turned: Turned) -> None:
        sequence = turned.standing.sequence
        for party_id, position in turned.positions.items():
            facts = position_facts(position, room.auction_id, sequence, room.currency)
            for asking in room.asking.pop(party_id, ()):
                if isinstance(asking, _Asking):
                    asking.answer(position)
                else:
                    asking.tell({"type": "position", **facts})
            changed = any(
                type(event) is commands.LimitSet and event.party_id == party_id
                for entry in turned.entries
                for event in entry.events
            )
            if changed and (party := self._parties.get(party_id)):
                for connection in party.connections:
                    connection.tell({"type": "limit", **facts})

    def _tell_leaders(self, room: Room, turned: Turned) -> None:
        standing = turned.standing
        facts = {
            "auction": room.auction_id,
            "sequence": standing.sequence,
            "price": None if standing.price_minor is None else amount_text(standing.price_minor, room.currency),
            "minimum": amount_text(standing.minimum_minor, room.currency),
        }
        for kind, party_id in (("outbid", room.leader_party_id), ("leading", turned.leader_party_id)):
            if party_id is not None and (party := self._parties.get(party_id)) and party.connections:
                payload = encode({"type": kind, **facts})
                for connection in party.connections:
                    connection.tell_soon(payload)
        room.leader_party_id = turned.leader_party_id

    # --- connections --------------------------------------------------------------------------------

    def party(self, party_id: int) -> Party:
        """The party's sockets and limit on this node."""
        party = self._parties.get(party_id)
        if party is None:
            burst = self.settings.commands_burst
            bucket = Bucket(self.settings.commands_per_second, burst, burst, time.monotonic())
            party = self._parties[party_id] = Party(bucket, set())
        return party

    def join(self, connection: Connection, socket: Socket) -> None:
        """Serve a connection from here on."""
        connection.socket = socket
        self.connections.add(connection)
        connection.party.connections.add(connection)
        settings = self.settings
        connection.tell(
            {
                "type": "hello", "protocol": SUBPROTOCOL, "clock": self.clock(),
                "limits": {
                    "commands_per_second": settings.commands_per_second, "commands_burst": settings.commands_burst,
                    "messages_per_second": self.messages_per_second, "messages_burst": self.messages_burst,
                    "message_bytes": MESSAGE_BYTES, "watches": WATCHES, "sockets": SOCKETS,
                },
            }
        )  # fmt: skip

    def left(self, connection: Connection) -> None:
        """A connection is gone. Its party's bucket stays: to connect anew gives nobody a new one."""
        self.connections.discard(connection)
        self.behind.discard(connection)
        connection.party.connections.discard(connection)

    def count_of(self, person_id: int) -> int:
        """How many sockets a person has here."""
        return sum(1 for one in self.connections if one.person_id == person_id)

    def hold(self, connection: Connection, message: PlaceBid | SetProxy | StopProxy, now: float) -> None:
        """Look at the session before this command is taken; it keeps its arrival."""
        if connection.held is None:
            connection.held = deque()
            if not self._held:
                asyncio.get_running_loop().call_soon(lambda: self.spawn(self._recheck_held()))
            self._held.append(connection)
        connection.held.append((message, now))

    async def _recheck_held(self) -> None:
        connections, self._held = self._held, []
        try:
            await self._recheck(connections)
        except SQLAlchemyError:
            for connection in connections:
                held, connection.held = connection.held or deque(), None
                for message, _ in held:
                    connection.tell(error("database_down", id=message.id, auction=message.auction))
            return
        for connection in connections:
            held, connection.held = connection.held or deque(), None
            for message, now in held:
                connection._command(message, now)

    async def _recheck(self, connections: list[Connection]) -> None:
        """Look at sessions and keys again, in one query; let go whose is over."""
        keys = {connection.key for connection in connections}
        now = time.monotonic()
        valid = await self.db.read_in_thread(parties.still_valid, keys, at=utc_now())
        for connection in connections:
            connection.checked = now
            if connection.key not in valid:
                self.end(connection)
            elif not valid[connection.key]:
                connection.may_bid = False

    # --- deadlines ----------------------------------------------------------------------------------

    def _arm(self, due_ms: int, auction_id: int) -> None:
        heapq.heappush(self._due, (due_ms, auction_id))
        if self._due[0] == (due_ms, auction_id):
            self._due_changed.set()

    async def _keep_deadlines(self) -> None:
        """Submit Tick and Close when they are due. Every node does; the first takes the turn."""
        while True:
            self._due_changed.clear()
            now_ms = self.now_ms()
            while self._due and self._due[0][0] <= now_ms:
                due_ms, auction_id = heapq.heappop(self._due)
                room = self.rooms.get(auction_id)
                if room is None or room.due_ms == due_ms:
                    self.spawn(self._do_due(auction_id))
            left_s = (self._due[0][0] - self.now_ms()) / 1000 + 0.001 if self._due else 60.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due_changed.wait(), max(0.0, left_s))

    async def _do_due(self, auction_id: int) -> None:
        try:
            room = await self.room(auction_id)
        except MarketError:
            self._arm(self.now_ms() + 1000, auction_id)
            return
        if room.due_ms is None or room.due_ms > self.now_ms():
            return
        standing = room.standing
        command: Command = Tick()
        if standing.phase is Phase.OPEN or self.now_ms() >= standing.closes_at_ms:
            if time.monotonic() - self._beaten > self.settings.outage_s:
                # We were away ourselves: whether anybody could bid as the end came is known only after a heartbeat.
                try:
                    await self._heartbeat()
                except SQLAlchemyError:
                    self._arm(self.now_ms() + 1000, auction_id)
                    return
            was_down = self.outage_until_ms > standing.closes_at_ms
            command = Close(self.outage_since_ms if was_down else None)
        answer = await self.sequencer.ask(auction_id, command)
        if isinstance(answer, NothingToDo) and answer.due_at_ms is not None:
            self._arm(max(answer.due_at_ms, self.now_ms() + 5), auction_id)
        elif isinstance(answer, Unknown | Busy):
            self._arm(self.now_ms() + 1000, auction_id)

    # --- the beat, and other nodes ------------------------------------------------------------------

    async def _beat(self) -> None:
        beats = 0
        while True:
            try:
                await self._look_around(beats)
                if self.trouble == "database_down" and not (self._run and self._run.done()):
                    self.trouble = ""
            except SQLAlchemyError as failed:
                if not self.trouble:
                    log.warning("database", reason=type(failed).__name__)
                    self.trouble = "database_down"
            except Exception:
                log.exception("beat")
            beats += 1
            await asyncio.sleep(BEAT_S)

    async def _look_around(self, beats: int) -> None:
        now = time.monotonic()
        for connection in list(self.behind):
            if connection.behind_since is not None and now - connection.behind_since > BEHIND_S:
                connection.socket.fail(1013, "too slow")
        before = utc_now() + timedelta(seconds=AHEAD_S)
        for head in await self.db.read_in_thread(journal.due_heads, before=before):
            assert head.due_at is not None
            due_ms = int(head.due_at.timestamp() * 1000)
            room = self.rooms.get(head.auction_id)
            if room is None:
                self._arm_once(due_ms, head.auction_id)
            elif room.sequence < head.sequence:
                self.sequencer.look(head.auction_id)
        watched = [room.auction_id for room in self.rooms.values() if room.is_watched()]
        if watched:
            for head in await self.db.read_in_thread(journal.heads_of, watched):
                if head.sequence > self.rooms[head.auction_id].sequence:
                    self.sequencer.look(head.auction_id)
        stale = [
            one
            for one in self.connections
            if one.held is None
            and now - one.checked > (BEAT_S / 2 if now - one.commanded < RECHECK_S else IDLE_RECHECK_S)
        ]
        if stale:
            await self._recheck(stale)
        await self._heartbeat()
        if beats % 60 == 0:
            self._forget_idle(now)

    def _arm_once(self, due_ms: int, auction_id: int) -> None:
        if (due_ms, auction_id) not in self._due:
            self._arm(due_ms, auction_id)

    def _forget_idle(self, now: float) -> None:
        for room in [room for room in self.rooms.values() if now - room.used > IDLE_ROOM_S or len(self.rooms) > ROOMS]:
            if not room.is_watched() and not room.asking and room.timer is None:
                del self.rooms[room.auction_id]
                self.sequencer.forget(room.auction_id)

    async def _heartbeat(self) -> None:
        """Say that this node can decide; learn since when none could. One node of all sees that an outage is over."""
        outage = timedelta(seconds=self.settings.outage_s)
        beat = await self.db.in_thread(journal.heartbeat, at=utc_now(), outage=outage)
        self._beaten = time.monotonic()
        if beat.outage_since is not None and beat.outage_until is not None:
            self.outage_since_ms = int(beat.outage_since.timestamp() * 1000)
            self.outage_until_ms = int(beat.outage_until.timestamp() * 1000)
        if beat.is_over_now:
            self.spawn(self._after_outage())

    async def _announce(self, client: redis.Redis) -> None:
        """Tell other nodes which heads moved: one message per auction and moment, with nothing in it but numbers."""
        from redis.exceptions import RedisError

        while True:
            await self._news_changed.wait()
            self._news_changed.clear()
            news, self._news = self._news, {}
            with contextlib.suppress(RedisError, OSError):
                await client.publish(CHANNEL, encode({"node": self.node, "heads": list(news.items())}))

    async def _listen(self, client: redis.Redis) -> None:
        """Follow other nodes; while Redis is away the beat does it, each second."""
        from redis.exceptions import RedisError

        while True:
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    while True:
                        message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                        if message is not None:
                            self._heard(message["data"])
            except (RedisError, OSError) as failed:
                log.warning("redis", reason=type(failed).__name__)
                await asyncio.sleep(BEAT_S)

    def _heard(self, data: bytes) -> None:
        news = msgspec.json.decode(data)
        if news["node"] == self.node:
            return
        if "ended" in news:
            self._end_keys({news["ended"]})
        for auction_id, sequence in news.get("heads", ()):
            room = self.rooms.get(auction_id)
            if room is not None and room.sequence < sequence:
                self.sequencer.look(auction_id)

    def figures(self) -> dict[str, int]:
        """What /metrics shows of the gateway."""
        return {
            "sockets": len(self.connections),
            "rooms": len(self.rooms),
            "watchers": sum(len(connection.watching) for connection in self.connections),
            "behind": len(self.behind),
        }


class _Asking:
    """Somebody in this process who waits for a position."""

    def __init__(self, waiting: asyncio.Future[Position | None]) -> None:
        self.waiting = waiting

    def answer(self, position: Position | None) -> None:
        if not self.waiting.done():
            self.waiting.set_result(position)


# --- the door -----------------------------------------------------------------------------------------


async def live(websocket: WebSocket) -> None:
    """`GET /live`: check who comes and from where, accept, and hand the socket to the gateway."""
    gateway: Gateway = websocket.app.state.gateway
    visitor: Visitor = websocket.user
    headers = websocket.headers
    origin = headers.get("origin")
    is_key = visitor.scopes is not None
    allowed = visitor.is_authenticated and (origin in gateway.origins or (is_key and origin is None))
    if SUBPROTOCOL not in websocket.scope.get("subprotocols", []) or not allowed or visitor.id is None:
        await websocket.close()  # 403, before the upgrade
        return
    if gateway.count_of(visitor.id) >= SOCKETS or not visitor.may("read"):
        await websocket.close()
        return
    key = visitor.token_hash or f"key:{key_prefix(headers.get('authorization', ''))}"
    await websocket.accept(subprotocol=SUBPROTOCOL)
    connection = Connection(gateway, visitor, key)
    take = websocket.scope.get("extensions", {}).get(TAKE)
    if take is None:
        await AsgiSocket(websocket).serve(connection)
        return
    gateway.join(connection, take.__self__)
    take(connection.on_text, connection.on_close, connection.on_drained)


class AsgiSocket:
    """The same over any ASGI server: slower, and with its own bounded buffer."""

    QUEUE = 64  # messages that wait to be sent

    def __init__(self, websocket: WebSocket) -> None:
        self.behind = False
        self._websocket = websocket
        self._waiting: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self._closing = False

    def tell(self, payload: bytes) -> None:
        """Send one text message."""
        if not self._closing:
            self._waiting.put_nowait((payload, 0))
            self.behind = self._waiting.qsize() > self.QUEUE

    def tell_all(self, payloads: list[bytes]) -> None:
        """Send several text messages."""
        for payload in payloads:
            self.tell(payload)

    def tell_frame(self, frame: bytes, payload: bytes) -> None:
        """Send one text message; the server frames it."""
        self.tell(payload)

    def fail(self, code: int, reason: str) -> None:
        """Close, after what waits."""
        if not self._closing:
            self._closing = True
            self._waiting.put_nowait((reason.encode(), code))

    async def serve(self, connection: Connection) -> None:
        """Run the connection until one side ends it."""
        connection.gateway.join(connection, self)
        sending = asyncio.create_task(self._send(connection))
        try:
            while True:
                text = await self._websocket.receive_text()
                if len(text.encode()) > MESSAGE_BYTES:
                    self.fail(1009, "too big")
                elif not self._closing:
                    connection.on_text(text)
        except KeyError:  # binary
            self.fail(1003, "text only")
            await sending
        except WebSocketDisconnect:
            pass
        finally:
            sending.cancel()
            connection.on_close()

    async def _send(self, connection: Connection) -> None:
        while True:
            payload, code = await self._waiting.get()
            if code:
                await self._websocket.close(code, payload.decode())
                return
            await self._websocket.send_text(payload.decode())
            if self.behind and self._waiting.qsize() < self.QUEUE // 2:
                self.behind = False
                connection.on_drained()


def submit_alone(db: Database, auction_id: int, command: Command, *, redis_url: str = "") -> Entry | NothingToDo:
    """Have a command decided from a process that has no gateway: a worker. The order is the journal's all the same.

    The nodes hear of it by Redis, or at their next beat.
    """
    answer = asyncio.run(_submit_alone(db, auction_id, command))
    if redis_url and isinstance(answer, Entry):
        from redis import Redis, RedisError

        news = {"node": "", "heads": [(auction_id, answer.sequence)]}
        with (
            contextlib.suppress(RedisError, OSError),
            Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2) as client,
        ):
            client.publish(CHANNEL, encode(news))
    return answer


async def _submit_alone(db: Database, auction_id: int, command: Command) -> Entry | NothingToDo:
    turns = journal.journal_of(db)

    async def load(auction_id: int) -> Fold:
        return db.read(journal.load_fold, auction_id)

    sequencer = Sequencer(turns.turn, load, lambda _turned: None)
    if (fold := await load(auction_id)).sequence == 0:
        raise NotFound("auction")
    sequencer.adopt(fold)
    running = asyncio.create_task(sequencer.run())
    try:
        answer = await sequencer.ask(auction_id, command)
    finally:
        sequencer.stop()
        await running
        await turns.close()
    if isinstance(answer, Answered):
        [answer] = db.read(journal.entries_after, auction_id, answer.sequence - 1, limit=1)
    if isinstance(answer, KeyReused):
        raise Conflict("key_reused", auction_id=auction_id, sequence=answer.sequence)
    if not isinstance(answer, Entry | NothingToDo):
        raise Unavailable("unknown_outcome")
    return answer


routes: list[BaseRoute] = [WebSocketRoute("/live", live, name="live")]
