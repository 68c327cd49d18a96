"""A typed async client of the socket (docs/live-protocol.md) and of the JSON API.

    async with Client("https://clearlot.example", key="clk_...") as client:
        async with client.watch(7) as auction:
            ack = await client.bid(7, "900000.00")
            async for event in auction:
                ...

The connection comes back by itself, with a growing pause; watches go on after the last sequence seen, and commands that
got no answer are sent again under the same id, so that asking twice is asking once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import httpx2
import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

SUBPROTOCOL = "clearlot.v1"
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
OPEN_S = 10.0
ANSWER_S = 30.0  # no answer for so long is an error; connections in between come and go
LARGEST_MESSAGE = 8 * 1024 * 1024  # catching up sends many entries at once
QUEUE = 10_000  # events of a watch that nobody has taken yet; beyond it the watch ends


# --- what comes ---------------------------------------------------------------------------------------


class Hello(Struct, tag="hello", tag_field="type"):
    protocol: str
    clock: str
    limits: dict[str, float]


class Standing(Struct, tag="standing", tag_field="type", kw_only=True):
    """What everybody may see after entry `sequence`; amounts and instants are text, as on the wire."""

    auction: int
    sequence: int
    currency: str
    phase: str
    price: str | None
    leader: int | None
    minimum: str
    bids: int
    bidders: int
    extensions: int
    reserve_met: bool | None
    opens_at: str
    closes_at: str
    paused_at: str | None
    reason: str | None
    outcome: str
    clock: str = ""


class StandingFacts(Standing, tag=None, tag_field=None):
    """The standing inside of `watching`."""


class Watching(Struct, tag="watching", tag_field="type"):
    auction: int
    lot: int
    currency: str
    sequence: int
    since: int
    want: str
    clock: str
    standing: StandingFacts


class JournalEntry(Struct):
    """One place of the journal: its public events, as dictionaries with a `type`."""

    sequence: int
    at: str
    hash: str
    events: list[dict[str, Any]]


class Entries(Struct, tag="entries", tag_field="type"):
    auction: int
    entries: list[JournalEntry]


class Part(Struct, tag="part", tag_field="type"):
    auction: int
    sequence: int
    language: str
    html: str


class Ack(Struct, tag="ack", tag_field="type", kw_only=True):
    """The receipt of a command: it is in the journal. `outcome`: "accepted" or "refused" (then with code and facts)."""

    id: str
    auction: int
    sequence: int
    at: str
    hash: str
    outcome: str
    bidder: int | None
    leading: bool | None
    price: str | None
    code: str = ""
    facts: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def is_accepted(self) -> bool:
        """Whether the command was accepted."""
        return self.outcome == "accepted"


class Position(Struct, tag="position", tag_field="type", kw_only=True):
    """Where we stand; `bidder` is None when we are not admitted."""

    auction: int
    sequence: int
    bidder: int | None
    state: str = "none"
    barred: bool = False
    minimum: str | None = None
    maximum: str | None = None
    limit: str | None = None
    priority_rank: int | None = None


class Limit(Position, tag="limit"):
    """Our admission or limit changed."""


class Outbid(Struct, tag="outbid", tag_field="type"):
    auction: int
    sequence: int
    price: str | None
    minimum: str


class Leading(Outbid, tag="leading"):
    """We came to lead."""


class Busy(Struct, tag="busy", tag_field="type"):
    id: str
    auction: int
    retry_after_ms: int


class Unknown(Struct, tag="unknown", tag_field="type"):
    id: str
    auction: int
    retry_after_ms: int


class Pong(Struct, tag="pong", tag_field="type"):
    clock: str
    id: str = ""


class Unwatched(Struct, tag="unwatched", tag_field="type"):
    auction: int


class Error(Struct, tag="error", tag_field="type"):
    code: str
    id: str = ""
    auction: int | None = None
    lot: int | None = None
    field: str = ""
    found: str = ""
    expected: str = ""
    retry_after_ms: int = 0
    sequence: int = 0  # with `key_reused`: the command that stands, what became of it, and its amount
    outcome: str = ""
    amount: str = ""


Event: TypeAlias = (
    Hello | Watching | Entries | Standing | Part | Ack | Position | Limit | Outbid | Leading | Busy | Unknown | Pong
    | Unwatched | Error
)  # fmt: skip
decode: Callable[[str | bytes], Event] = msgspec.json.Decoder(Event).decode
RETRIED = ("database_down", "clock_off", "rate_limited")  # errors after which the same command may do


class LiveError(Exception):
    """The server said no to a message: a code of docs/live-protocol.md."""

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code} {error.field} {error.expected}".strip())
        self.code, self.error = error.code, error


class ApiError(Exception):
    """The JSON API said no: its problem (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}")
        self.status, self.code, self.problem = status, str(problem.get("code", "")), problem


class NotAdmitted(Exception):
    """The server did not let us connect at all: the key is not valid, or the address is not a socket of ours."""


class Watch:
    """One auction, live: iterate over its events. `standing` and `sequence` are the newest that came."""

    def __init__(self, client: Client, auction: int, since: int | None, want: str) -> None:
        self.auction = auction
        self.want = want
        self.sequence = since
        self.standing: Standing | None = None
        self._client = client
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        await self._client._open_watch(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client._close_watch(self)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Give every event, in order; entries without a hole and without a double, over all reconnections.

        It ends with the client, or when nobody takes what comes (QUEUE): watch again with `since`. Raises NotAdmitted,
        when the key is revoked.
        """
        while (event := await self._events.get()) is not None:
            yield event
        self._client._raise_if_shut_out()

    def _message(self) -> dict[str, Any]:
        since = {} if self.sequence is None else {"since": self.sequence}
        return {"type": "watch", "auction": self.auction, "want": self.want, **since}

    def _take(self, event: Event) -> None:
        match event:
            case Watching():
                if self.sequence is None:
                    self.sequence = event.since
                self.standing = event.standing
                if not self._is_open.done():
                    self._is_open.set_result(None)
            case Entries():
                self.sequence = event.entries[-1].sequence
            case Standing():
                self.standing = event
            case Error():
                if not self._is_open.done():
                    self._is_open.set_exception(LiveError(event))
                return
        if self._events.qsize() < QUEUE:
            self._events.put_nowait(event)
        else:
            self._end()

    def _end(self) -> None:
        self._events.put_nowait(None)


class Client:
    """One socket and one HTTP client, for one person."""

    def __init__(self, base_url: str, *, key: str = "", cookie: str = "", tls: ssl.SSLContext | None = None) -> None:
        """`key`: an API key. `cookie`: a session cookie instead, `name=value`, as a browser has it.

        `tls`: whom to trust, where the marketplace's certificate is one of its own making.
        """
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {"Cookie": cookie, "Origin": self.base_url}
        parts = urlsplit(self.base_url)
        self._socket_url = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/live"
        self.http = httpx2.AsyncClient(base_url=self.base_url, headers=self._headers, timeout=30, verify=tls or True)
        self._tls = tls
        self.private: asyncio.Queue[Outbid | Leading | Limit] = asyncio.Queue()
        self.hello: Hello | None = None
        self.connections = 0  # how often we were let in
        self._commands: dict[str, tuple[dict[str, Any], asyncio.Future[Ack]]] = {}
        self._asked: dict[int, list[asyncio.Future[Position]]] = {}
        self._pongs: dict[str, asyncio.Future[Pong]] = {}
        self._watches: dict[int, Watch] = {}
        self._socket: ClientConnection | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let everything go."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, NotAdmitted):
                await self._task
        for watch in self._watches.values():
            watch._end()
        await self.http.aclose()

    # --- JSON API -----------------------------------------------------------------------------------

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """Ask the JSON API (`path` without `/api/v1`); return what it answers. Raises ApiError."""
        response = await self.http.request(method, f"/api/v1{path}", **options)
        if response.status_code >= 400:
            try:
                problem = response.json()
            except ValueError:
                problem = {"detail": response.text[:200]}
            raise ApiError(response.status_code, problem)
        return response.json() if response.content else None

    # --- socket -------------------------------------------------------------------------------------

    async def bid(self, auction: int, amount: str, *, maximum: str | None = None, id: str = "") -> Ack:
        """Bid; return the receipt, which may be a refusal. Raises LiveError, TimeoutError, NotAdmitted.

        `id`: give the one of an earlier try to ask for what became of it.
        """
        more = {} if maximum is None else {"maximum": maximum}
        return await self._command({"type": "bid", "auction": auction, "amount": amount, **more}, id)

    async def set_proxy(self, auction: int, maximum: str, *, id: str = "") -> Ack:
        """Let the system bid up to `maximum`."""
        return await self._command({"type": "set_proxy", "auction": auction, "maximum": maximum}, id)

    async def stop_proxy(self, auction: int, *, id: str = "") -> Ack:
        """No further automatic bids."""
        return await self._command({"type": "stop_proxy", "auction": auction}, id)

    async def position(self, auction: int) -> Position:
        """Where we stand."""
        answered: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(auction, []).append(answered)
        await self._send({"type": "get", "auction": auction})
        async with asyncio.timeout(ANSWER_S):
            return await answered

    async def ping(self) -> Pong:
        """Ask for the server's clock."""
        id = uuid.uuid4().hex
        answered: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._pongs[id] = answered
        try:
            await self._send({"type": "ping", "id": id})
            async with asyncio.timeout(ANSWER_S):
                return await answered
        finally:
            del self._pongs[id]

    def watch(self, auction: int, *, since: int | None = None, want: str = "entries") -> Watch:
        """Watch an auction: `async with client.watch(7) as auction: async for event in auction: ...`.

        `since`: the last sequence that was seen (0: from the beginning); without it from now on.
        """
        return Watch(self, auction, since, want)

    async def _open_watch(self, watch: Watch) -> None:
        self._watches[watch.auction] = watch
        await self._send(watch._message())
        async with asyncio.timeout(ANSWER_S):
            await watch._is_open

    async def _close_watch(self, watch: Watch) -> None:
        if self._watches.pop(watch.auction, None) and self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(msgspec.json.encode({"type": "unwatch", "auction": watch.auction}), text=True)
        watch._end()

    async def _command(self, message: dict[str, Any], id: str) -> Ack:
        message["id"] = id = id or uuid.uuid4().hex
        answered: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._commands[id] = (message, answered)
        try:
            await self._send(message)
            async with asyncio.timeout(ANSWER_S):
                return await answered
        finally:
            self._commands.pop(id, None)

    async def _send(self, message: dict[str, Any]) -> None:
        """Send when connected; what is lost on the way is sent again after the reconnection."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        up = asyncio.create_task(self._up.wait())
        async with asyncio.timeout(ANSWER_S):
            await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            up.cancel()
            self._task.result()
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(msgspec.json.encode(message), text=True)

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with connect(
                    self._socket_url,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    additional_headers=self._headers,
                    compression=None,
                    max_size=LARGEST_MESSAGE,
                    open_timeout=OPEN_S,
                    user_agent_header="clearlot-client",
                    ssl=self._tls,
                ) as socket:
                    pause_s = FIRST_PAUSE_S
                    await self._serve(socket)
            except InvalidStatus as refused:
                if refused.response.status_code in (400, 401, 403, 404):
                    shut_out = NotAdmitted(f"{self._socket_url}: {refused.response.status_code}")
                    for _, answered in self._commands.values():
                        if not answered.done():
                            answered.set_exception(shut_out)
                    for watch in self._watches.values():
                        watch._end()
                    raise shut_out from None
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                pass
            finally:
                self._socket = None
                self._up.clear()
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  (so that not all come back at once)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _raise_if_shut_out(self) -> None:
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _serve(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.connections += 1
        if self.connections > 1:
            for watch in self._watches.values():
                await socket.send(msgspec.json.encode(watch._message()), text=True)
            for auction in self._asked:
                await socket.send(msgspec.json.encode({"type": "get", "auction": auction}), text=True)
            for message, _ in list(self._commands.values()):
                await socket.send(msgspec.json.encode(message), text=True)
        self._up.set()
        async for text in socket:
            self._take(decode(text))

    def _take(self, event: Event) -> None:
        match event:
            case Ack():
                if found := self._commands.get(event.id):
                    self._settle(found[1], event)
            case Busy() | Unknown():
                self._again(event.id, event.retry_after_ms)
            case Error() if event.id in self._commands:
                if event.code in RETRIED:
                    self._again(event.id, event.retry_after_ms or 500)
                elif not (answered := self._commands[event.id][1]).done():
                    answered.set_exception(LiveError(event))
            case Limit() | Outbid() | Leading():
                self.private.put_nowait(event)
            case Position():
                for waiting in self._asked.pop(event.auction, []):
                    self._settle(waiting, event)
            case Pong():
                if waiting_pong := self._pongs.get(event.id):
                    self._settle(waiting_pong, event)
            case Hello():
                self.hello = event
            case Watching() | Entries() | Standing() | Part():
                if watch := self._watches.get(event.auction):
                    watch._take(event)
            case Error() if event.auction in self._watches:
                self._watches[event.auction]._take(event)
            case _:
                pass

    def _again(self, id: str, after_ms: int) -> None:
        """Send a command again under the same id, a little later."""
        asyncio.get_running_loop().call_later(after_ms / 1000, lambda: asyncio.ensure_future(self._resend(id)))

    async def _resend(self, id: str) -> None:
        if (found := self._commands.get(id)) and self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(msgspec.json.encode(found[0]), text=True)

    @staticmethod
    def _settle(waiting: asyncio.Future[Any], value: object) -> None:
        if not waiting.done():
            waiting.set_result(value)
