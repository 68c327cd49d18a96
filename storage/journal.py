"""The journals of the auctions on disk: one turn for all auctions that wait, and what is read from them.

A turn is one short transaction (design.md 2): lock the heads, follow what other nodes appended, read the
clock, let the pure core decide, append, move the heads, commit.  It is the one place that speaks to the driver
itself, for speed (live-recipe.md 2): SQLite through a thread of its own, PostgreSQL through psycopg's pipeline.
In the same transaction it keeps the copies in `auction` and leaves the work that follows a close.

A lot for which no other node wrote lately gets its turn "at once" on PostgreSQL: decided on what this node knows, then
journaled by one statement with a fence in it.  Why that is as safe as the lock stands in ARCHITECTURE.md, section 3.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import msgspec
import psycopg
from psycopg import AsyncConnection
from sqlalchemy import insert, update
from sqlmodel import Session, col, select

from auctions.bidding import Phase, Standing
from auctions.journal import SALT_DIGITS, ZERO_HASH, Answer, Busy, Entry, Fold, commitment_of, read_entry
from auctions.messages import BIDDER_COMMANDS, Closed, Create, LimitSet, Withdrawn
from auctions.sequencer import Turned, TurnFailed, Work
from storage import tables
from storage.database import BUSY_TIMEOUT_MS, Database

TURN_TIMEOUT_S = 5.0  # a database that is silent for longer counts as lost
LOCK_TIMEOUT_MS = 2_000  # another node's turn is a thousand times shorter
FROZEN_MS = 1_000  # the database lets a node go that stops in the middle of its turn
CLOCK_OFF_MS = 500  # a node whose clock is off by more decides nothing (promises.md, Time)
OUTAGE = timedelta(seconds=4)  # every node's heart beats each second
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDS = (Closed, Withdrawn)  # what leaves the work of settling behind
SEPARATOR = "\x1e"  # JSON text cannot contain it
ROWS = 1_000  # entries that are read at once
read_json = msgspec.json.Decoder().decode  # four times as fast as the standard library's
ALONE = 10  # turns in a row without another node's entries, before a lot's turns are taken at once
FRESH_S = 1.0  # a reading of the database's clock is good for so long
FENCE_MS = 500  # by how much the database's clock may differ from what a turn at once believed: less than the grace


# --- The turn --------------------------------------------------------------------------------------


def _decide(
    work: Sequence[Work], followed: Sequence[list[Entry]], now_ms: int, read_at: float
) -> tuple[list[Turned], list[Entry]]:
    """Take all that waits; return what was done to each auction, and the new entries.

    Args:
        now_ms: the database's clock, read while the heads are locked.
        read_at: the same instant on this node's monotonic clock, on which arrivals are measured.
    """
    waiting = sum(len(one.waiting) for one in work)
    salts = secrets.token_hex(SALT_DIGITS // 2 * waiting)
    done: list[Turned] = []
    new: list[Entry] = []
    at = 0
    for one, entries in zip(work, followed, strict=True):
        answers: list[Answer] = []
        take = one.fold.take
        for command in one.waiting:
            waited_ms = int((read_at - command.arrived) * 1000)
            arrived_ms = now_ms - waited_ms if waited_ms > 0 else now_ms
            answers.append(take(command.command, arrived_ms, salts[at : at + SALT_DIGITS]))
            at += SALT_DIGITS
        made = [answer for answer in answers if type(answer) is Entry]
        entries += made
        new += made
        done.append(_turned(one, answers, entries))
    return done, new


def _turned(one: Work, answers: list[Answer], entries: list[Entry]) -> Turned:
    auction = one.fold.auction
    standing = auction.standing(one.fold.sequence)
    parties = set(one.parties)
    for entry in _after(entries):
        parties.update([event.party_id for event in entry.events if type(event) is LimitSet])
    return Turned(
        one.auction_id, answers, entries, standing,
        None if standing.leader is None else auction.bidders[standing.leader - 1].party_id,
        auction.due_at_ms(), {party_id: auction.position(party_id) for party_id in parties},
    )  # fmt: skip


def _busy(work: Sequence[Work], followed: Sequence[list[Entry]]) -> list[Turned]:
    """Take nothing: this node's clock is off, so that it may not decide."""
    return [_turned(one, [Busy() for _ in one.waiting], entries) for one, entries in zip(work, followed, strict=True)]


def _outcome(standing: Standing) -> str:
    return "withdrawn" if standing.phase is Phase.WITHDRAWN else standing.result or ""


def _hammer(standing: Standing) -> int | None:
    return standing.price_minor if standing.result == "sold" else None


def _moved(done: Sequence[Turned], new: Sequence[Entry]) -> list[Turned]:
    moved = {entry.auction_id for entry in new}
    return [turned for turned in done if turned.auction_id in moved]


def _after(new: Sequence[Entry]) -> list[Entry]:
    """The entries that leave more behind than themselves: an end, an admission."""
    return [entry for entry in new if entry.scope <= 0 or type(entry.events[-1]) in ENDS]


def instant(ms: int) -> datetime:
    """Milliseconds since the Unix epoch as an aware instant, exactly."""
    return EPOCH + timedelta(milliseconds=ms)


INSERTS = [  # one statement for each power of two, so that the driver keeps them prepared
    (
        rows,
        "INSERT INTO entry (auction_id, sequence, at_ms, public, private, hash) VALUES "  # noqa: S608
        + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows),
    )
    for rows in (128, 64, 32, 16, 8, 4, 2, 1)
]


class SqliteJournal:
    """Turns at a SQLite file: a thread with its own connection, so that the event loop never waits for the disk."""

    offset_ms = 0  # the database's clock is this machine's

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._connection: sqlite3.Connection | None = None

    async def turn(self, work: Sequence[Work]) -> list[Turned]:
        """Journal what waits; committed when it returns. Raises TurnFailed: nothing may be told, folds are spoilt."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._turn, work)

    async def close(self) -> None:
        """Let the connection and the thread go; no turn may be under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown(wait=True)

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_TIMEOUT_MS}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute("PRAGMA " + pragma)
        return connection

    def _turn(self, work: Sequence[Work]) -> list[Turned]:
        try:
            if self._connection is None:
                self._connection = self._open()
            connection = self._connection
            writes = any(one.waiting for one in work)
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                now_ms, read_at = time.time_ns() // 1_000_000, time.monotonic()
                followed = [self._follow(connection, one) for one in work]
                done, new = _decide(work, followed, now_ms, read_at)
                if new:
                    self._append(connection, done, new)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return done
        except sqlite3.Error as error:
            self._forget()
            raise TurnFailed(str(error)) from error

    def _follow(self, connection: sqlite3.Connection, one: Work) -> list[Entry]:
        fold = one.fold
        row = connection.execute("SELECT sequence FROM auction WHERE id = ?", (one.auction_id,)).fetchone()
        if row is None or row[0] == fold.sequence:
            return []
        _check_behind(fold, row[0])
        return _follow(
            fold,
            connection.execute(
                "SELECT public, private, hash FROM entry WHERE auction_id = ? AND sequence > ? ORDER BY sequence",
                (one.auction_id, fold.sequence),
            ),
        )

    def _append(self, connection: sqlite3.Connection, done: Sequence[Turned], new: Sequence[Entry]) -> None:
        # Many rows in one statement: `executemany` lets the interpreter's lock go for each row, and has to wait for the
        # event loop each time to get it back.
        at = 0
        for rows, statement in INSERTS:
            while len(new) - at >= rows:
                columns: list[object] = []
                for e in new[at : at + rows]:
                    columns += (e.auction_id, e.sequence, e.at_ms, e.public, e.private, e.hash)
                connection.execute(statement, columns)
                at += rows
        connection.executemany(
            "UPDATE auction SET sequence = ?, phase = ?, due_at = ?, price_minor = ?, leader = ?, bids = ?,"
            " opens_at = ?, closes_at = ?, outcome = ?, hammer_minor = ? WHERE id = ?",
            [
                (
                    s.sequence, s.phase.value, _sqlite_instant(one.due_at_ms), s.price_minor, s.leader, s.bids,
                    _sqlite_instant(s.opens_at_ms), _sqlite_instant(s.closes_at_ms), _outcome(s), _hammer(s),
                    one.auction_id,
                )
                for one in _moved(done, new)
                for s in (one.standing,)
            ],
        )  # fmt: skip
        for entry in _after(new):
            for event in entry.events:
                if type(event) in ENDS:
                    connection.execute(
                        "INSERT INTO outbox (key, task, arguments, due_at, attempts, error)"
                        " VALUES (?, 'settle', ?, ?, 0, '') ON CONFLICT DO NOTHING",
                        (*_settle(entry), _sqlite_instant(entry.at_ms)),
                    )
                elif type(event) is LimitSet:
                    connection.execute(ADMITTED.replace("%s", "?"), _admitted(entry, event))


def _check_behind(fold: Fold, head: int) -> None:
    """A journal that ends before what this node knows is not the one that it knew: read it anew."""
    if head < fold.sequence:
        raise TurnFailed(f"the journal of auction {fold.auction_id} ends at {head}, {fold.sequence} was known")


def _follow(fold: Fold, rows: Any) -> list[Entry]:
    return list(_followed(fold, rows))


def _followed(fold: Fold, rows: Any) -> Iterator[Entry]:
    for public, private, hash_ in rows:
        entry = read_entry(public, private, fold.hash, bytes(hash_), read_json)
        fold.follow(entry)
        yield entry


def _settle(entry: Entry) -> tuple[str, str]:
    return f"settle:{entry.auction_id}", json.dumps({"auction_id": entry.auction_id})


ADMITTED = (
    "UPDATE participation SET bidder = %s, limit_minor = %s,"
    " status = CASE WHEN status IN ('requested', 'awaiting_deposit') THEN 'admitted' ELSE status END"
    " WHERE auction_id = %s AND party_id = %s"
)


def _admitted(entry: Entry, event: LimitSet) -> tuple[int, int, int, int]:
    return event.bidder, event.limit_minor, entry.auction_id, event.party_id


def _sqlite_instant(ms: int | None) -> str | None:
    """As SQLAlchemy keeps an instant in SQLite (storage/database.Instant)."""
    return None if ms is None else f"{instant(ms):%Y-%m-%d %H:%M:%S.%f}"


class DatabaseClock:
    """The database's clock on this node's monotonic one, from readings that lay between two of our own instants."""

    def __init__(self) -> None:
        self._ahead_s = 0.0  # the database's clock less our monotonic one
        self._read_at = -FRESH_S

    def read(self, now_s: float, asked: float, answered: float) -> None:
        """The database read `now_s` at some instant between `asked` and `answered`, both monotonic."""
        self._ahead_s = min(max(self._ahead_s, now_s - answered), now_s - asked)
        self._read_at = answered

    def is_fresh(self, at: float) -> bool:
        """Whether the last reading is not too long ago."""
        return at - self._read_at < FRESH_S

    def ms_at(self, at: float) -> int:
        """What the database's clock says at an instant of our monotonic one, in ms since the Unix epoch."""
        return int((self._ahead_s + at) * 1000)


class PostgresqlJournal:
    """Turns at a PostgreSQL server, on the event loop: two round trips in pipeline mode, or one statement "at once"."""

    # The lock stands in a CTE and the clock outside of it: beside FOR UPDATE the clock would be read before the wait
    # for the lock when its holder rolled back.  Entries are read in the next statement, and only when a head has
    # moved: a statement that waited sees the new head but the old entries.
    LOCK = (
        "WITH head AS (SELECT id, sequence FROM auction WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE)"
        " SELECT id, sequence, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM head"
    )
    HEADS = (
        "SELECT id, sequence, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM auction"
        " WHERE id = ANY(%s::bigint[])"
    )
    ENTRIES = (
        "SELECT public, private, hash FROM entry"
        " WHERE auction_id = %s::bigint AND sequence > %s::bigint ORDER BY sequence"
    )
    # Columns travel as one text each: psycopg builds arrays element by element, at twice the cost of the whole turn.
    MOVE = (
        "UPDATE auction a SET sequence = m.sequence, phase = m.phase,"
        " due_at = to_timestamp(m.due_ms / 1000.0), price_minor = m.price, leader = m.leader, bids = m.bids,"
        " opens_at = to_timestamp(m.opens_ms / 1000.0), closes_at = to_timestamp(m.closes_ms / 1000.0),"
        " outcome = m.outcome, hammer_minor = m.hammer"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::int[],"
        " %s::int[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])"
        " m (id, before, sequence, phase, due_ms, price, leader, bids, opens_ms, closes_ms, outcome, hammer)"
    )
    KEEP = (
        "INSERT INTO entry (auction_id, sequence, at_ms, public, private, hash)"
        " SELECT t.a, t.s, t.i, t.p, t.q, decode(t.h, 'hex') FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[],"
        " string_to_array(%s, e'\\x1e'), string_to_array(%s, e'\\x1e'), string_to_array(%s, e'\\x1e'))"
        " t (a, s, i, p, q, h)"
    )
    APPEND = f"WITH moved AS ({MOVE} WHERE a.id = m.id) {KEEP}"
    # The fence: a head moves only from where this node saw it, and only while the database's clock says what the
    # deciding believed; entries are kept only of heads that moved. One that waited for another node's lock is checked
    # against the row as that node left it. Several heads are locked in the order of their ids, as LOCK does.
    FENCE = (
        " AND a.sequence = m.before AND abs(extract(epoch FROM clock_timestamp()) * 1000 - %s) <= %s RETURNING a.id),"  # noqa: S608
        f" kept AS ({KEEP} JOIN moved ON moved.id = t.a)"
        " SELECT id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM moved"
    )
    AT_ONCE = f"WITH moved AS ({MOVE} WHERE a.id = m.id {FENCE}"
    AT_ONCE_MANY = (
        "WITH head AS (SELECT id FROM auction WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE),"  # noqa: S608
        f" moved AS ({MOVE} JOIN head ON head.id = m.id WHERE a.id = m.id {FENCE}"
    )
    SETTLE = (
        "INSERT INTO outbox (key, task, arguments, due_at, attempts, error)"
        " VALUES (%s, 'settle', %s::jsonb, to_timestamp(%s / 1000.0), 0, '') ON CONFLICT DO NOTHING"
    )

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")
        self._connection: AsyncConnection[Any] | None = None
        self.offset_ms = 0  # how far this machine's clock is behind the database's
        self.at_once = self.undone = 0  # turns of lots, for those who want to know
        self._database_clock = DatabaseClock()

    async def turn(self, work: Sequence[Work]) -> list[Turned]:
        """Journal what waits; committed when it returns. Raises TurnFailed: nothing may be told, folds are spoilt."""
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                if self._connection is None:
                    self._connection = await self._open()
                return await self._turn(self._connection, work)
        except (psycopg.Error, OSError, TimeoutError) as error:
            await self._forget()
            raise TurnFailed(str(error)) from error
        except BaseException:
            await self._forget()
            raise

    async def close(self) -> None:
        """Let the connection go; no turn may be under way."""
        await self._forget()

    async def _forget(self) -> None:
        """Drop the connection, whatever state it is in: the database undoes what was not committed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _open(self) -> AsyncConnection[Any]:
        options = f"-c lock_timeout={LOCK_TIMEOUT_MS} -c idle_in_transaction_session_timeout={FROZEN_MS}"
        return await AsyncConnection.connect(
            self._url, autocommit=True, prepare_threshold=0, options=options, connect_timeout=3,
            application_name="clearlot journal", tcp_user_timeout=int(TURN_TIMEOUT_S * 1000),
        )  # fmt: skip

    async def _turn(self, connection: AsyncConnection[Any], work: Sequence[Work]) -> list[Turned]:
        done = await self._at_once(connection, [one for one in work if self._is_alone(one)])
        if rest := [one for one in work if one.auction_id not in done]:
            done |= {one.auction_id: one for one in await self._locked(connection, rest)}
        return [done[one.auction_id] for one in work]

    async def _locked(self, connection: AsyncConnection[Any], work: Sequence[Work]) -> list[Turned]:
        """The turn that locks the heads first, and so knows what it decides on."""
        ids = _array([one.auction_id for one in work])
        if not any(one.waiting for one in work):
            asked = time.time(), time.monotonic()
            heads = await (await connection.execute(self.HEADS, (ids,))).fetchall()
            now_ms, read_at = self._clock(heads, *asked)
            followed = await self._follow(connection, work, heads)
            return _decide(work, followed, now_ms, read_at)[0]
        async with connection.pipeline():
            await connection.execute("BEGIN")  # travels with the lock
            asked = time.time(), time.monotonic()
            heads = await (await connection.execute(self.LOCK, (ids,))).fetchall()
            now_ms, read_at = self._clock(heads, *asked)
            followed = await self._follow(connection, work, heads)
            if abs(self.offset_ms) > CLOCK_OFF_MS:
                await connection.execute("ROLLBACK")
                return _busy(work, followed)
            before = [one.fold.sequence for one in work]
            done, new = _decide(work, followed, now_ms, read_at)
            if new:
                await connection.execute(self.APPEND, (*_heads_moved(before, done), *_entries_of(new)))
                await self._leave(connection, new)
            await connection.execute("COMMIT")  # travels with the entries; leaving the block waits for it
        return done

    def _is_alone(self, one: Work) -> bool:
        """Whether this lot's turn may be taken at once: bids only, on a head that only this node moves lately."""
        return (
            one.fold.alone >= ALONE
            and bool(one.waiting)
            and all(isinstance(each.command, BIDDER_COMMANDS) for each in one.waiting)
            and abs(self.offset_ms) <= CLOCK_OFF_MS
            and self._database_clock.is_fresh(time.monotonic())
        )

    async def _at_once(self, connection: AsyncConnection[Any], work: Sequence[Work]) -> dict[int, Turned]:
        """Decide on what this node knows, and journal it where that still holds, in one statement.

        Returns: what was done, by auction. What is not in it lost the fence, or left more behind than entries, and is
        undone: nothing was journaled of it.
        """
        if not work:
            return {}
        before = []
        for one in work:
            one.fold.mark()
            before.append(one.fold.sequence)
        asked = time.time(), time.monotonic()
        now_ms = self._database_clock.ms_at(asked[1])
        done, _ = _decide(work, [[] for _ in work], now_ms, asked[1])
        pairs = list(zip(before, done, strict=True))
        plain = [(was, one) for was, one in pairs if one.entries and not _after(one.entries)]
        kept = {one.auction_id: one for one in done if not one.entries}  # only asked again what was answered before
        if plain:
            moved = [one for _, one in plain]
            values = (
                *_heads_moved([was for was, _ in plain], moved), now_ms, FENCE_MS,
                *_entries_of([entry for one in moved for entry in one.entries]),
            )  # fmt: skip
            if len(moved) == 1:
                cursor = await connection.execute(self.AT_ONCE, values)
            else:
                cursor = await connection.execute(self.AT_ONCE_MANY, (values[0], *values))
            # psycopg gives the rows when the server is ready for the next query: after the commit.
            heads = await cursor.fetchall()
            self._clock([(id_, 0, now) for id_, now in heads], *asked)
            by_id = {one.auction_id: one for one in moved}
            kept |= {id_: by_id[id_] for id_, _ in heads}
        for one, turned in zip(work, done, strict=True):
            if turned.auction_id in kept:
                one.fold.keep(turned.entries)
                self.at_once += 1
            else:
                one.fold.undo(turned.entries)
                one.fold.alone = 0
                self.undone += 1
        return kept

    def _clock(self, heads: Sequence[tuple[int, int, int]], wall: float, asked: float) -> tuple[int, float]:
        """Return the database's clock in ms and the same instant on our monotonic clock; note how far ours is off.

        Args:
            wall, asked: our wall clock and our monotonic one, before the database was asked.
        """
        read_at, answered = time.monotonic(), time.time()
        if not heads:
            return int(answered * 1000), read_at
        now = heads[-1][2] / 1e6
        # Ours was between `wall` and `answered` when the database read its own: inside of that nobody is off.
        off = now - answered if now > answered else min(now - wall, 0.0)
        self.offset_ms = int(off * 1000)
        self._database_clock.read(now, asked, read_at)
        return self._database_clock.ms_at(read_at), read_at  # its answer took a while to get here

    async def _follow(
        self, connection: AsyncConnection[Any], work: Sequence[Work], heads: Sequence[tuple[int, int, int]]
    ) -> list[list[Entry]]:
        at = {auction_id: sequence for auction_id, sequence, _ in heads}
        followed: list[list[Entry]] = []
        for one in work:
            if at.get(one.auction_id, 0) == one.fold.sequence:
                followed.append([])
                one.fold.alone += 1
                continue
            _check_behind(one.fold, at.get(one.auction_id, 0))
            cursor = await connection.execute(self.ENTRIES, (one.auction_id, one.fold.sequence))
            followed.append(_follow(one.fold, await cursor.fetchall()))
            one.fold.alone = 0
        return followed

    async def _leave(self, connection: AsyncConnection[Any], new: Sequence[Entry]) -> None:
        """Leave what follows from an end or an admission."""
        for entry in _after(new):
            for event in entry.events:
                if type(event) in ENDS:
                    await connection.execute(self.SETTLE, (*_settle(entry), entry.at_ms))
                elif type(event) is LimitSet:
                    await connection.execute(ADMITTED, _admitted(entry, event))


def _heads_moved(before: Sequence[int], done: Sequence[Turned]) -> tuple[str, ...]:
    """The columns of MOVE: every head that got entries, with the number that it had before them."""
    moved = [(was, one) for was, one in zip(before, done, strict=True) if one.standing.sequence > was]
    standings = [one.standing for _, one in moved]
    return (
        _array([one.auction_id for _, one in moved]),
        _array([was for was, _ in moved]),
        _array([s.sequence for s in standings]),
        _array([s.phase.value for s in standings]),
        _array([one.due_at_ms for _, one in moved]),
        _array([s.price_minor for s in standings]),
        _array([s.leader for s in standings]),
        _array([s.bids for s in standings]),
        _array([s.opens_at_ms for s in standings]),
        _array([s.closes_at_ms for s in standings]),
        _array([_outcome(s) or '""' for s in standings]),
        _array([_hammer(s) for s in standings]),
    )


def _entries_of(new: Sequence[Entry]) -> tuple[str, ...]:
    """The columns of KEEP."""
    return (
        _array([e.auction_id for e in new]),
        _array([e.sequence for e in new]),
        _array([e.at_ms for e in new]),
        SEPARATOR.join([e.public for e in new]),
        SEPARATOR.join([e.private for e in new]),
        SEPARATOR.join([e.hash.hex() for e in new]),
    )


def _array(values: Sequence[int | str | None]) -> str:
    """A PostgreSQL array as text, of numbers and plain words."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


Journal: TypeAlias = SqliteJournal | PostgresqlJournal


def journal_of(database: Database) -> Journal:
    """Return what takes turns at this database."""
    return SqliteJournal(database.url) if database.is_sqlite else PostgresqlJournal(database.url)


# --- In an ordinary transaction -----------------------------------------------------------------------


def open_journal(session: Session, auction_id: int, command: Create, *, at: datetime) -> Entry:
    """Begin the journal of an auction that was just added: write its first entry and the copies in its row."""
    fold = Fold(auction_id)
    entry = fold.take(command, int(at.timestamp() * 1000), secrets.token_hex(SALT_DIGITS // 2))
    if not isinstance(entry, Entry):
        raise TypeError(f"the first entry of auction {auction_id} was answered {entry}")
    session.flush()
    session.execute(
        insert(tables.Entry).values(
            auction_id=auction_id, sequence=entry.sequence, at_ms=entry.at_ms, public=entry.public,
            private=entry.private, hash=entry.hash,
        )
    )  # fmt: skip
    standing = fold.auction.standing(fold.sequence)
    due_ms = fold.auction.due_at_ms()
    session.execute(
        update(tables.Auction)
        .where(col(tables.Auction.id) == auction_id)
        .values(
            sequence=standing.sequence,
            phase=standing.phase.value,
            due_at=None if due_ms is None else instant(due_ms),
            opens_at=instant(standing.opens_at_ms),
            closes_at=instant(standing.closes_at_ms),
        )
    )
    return entry


def entries_after(session: Session, auction_id: int, sequence: int, *, limit: int) -> list[Entry]:
    """Return up to `limit` entries after `sequence`, in order."""
    entry = tables.Entry
    previous = ZERO_HASH
    if sequence:
        found = session.exec(
            select(entry.hash).where(entry.auction_id == auction_id, entry.sequence == sequence)
        ).first()
        if found is None:
            return []
        previous = found
    rows = session.exec(
        select(entry.public, entry.private, entry.hash)
        .where(entry.auction_id == auction_id, entry.sequence > sequence)
        .order_by(col(entry.sequence))
        .limit(limit)
    )
    entries = []
    for public, private, hash_ in rows:
        entries.append(read_entry(public, private, previous, hash_, read_json))
        previous = hash_
    return entries


def load_fold(session: Session, auction_id: int) -> Fold:
    """Return the auction as its journal has made it, every hash checked; an empty fold, when there is none."""
    fold = Fold(auction_id)
    entry = tables.Entry
    rows = session.connection().execute(  # plain rows, past what the session does with each
        select(entry.public, entry.private, entry.hash)
        .where(entry.auction_id == auction_id)
        .order_by(col(entry.sequence)),
        execution_options={"yield_per": ROWS},
    )
    for _ in _followed(fold, rows):  # a hot lot has a million of them: none is held
        pass
    return fold


def public_lines(session: Session, auction_id: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Give the public text, the commitment to the private text, and the hash of every entry, in order."""
    entry = tables.Entry
    rows = session.exec(
        select(entry.public, entry.private, entry.hash)
        .where(entry.auction_id == auction_id)
        .order_by(col(entry.sequence))
    )
    for public, private, hash_ in rows:
        yield public, commitment_of(private), hash_


@dataclass(frozen=True, slots=True)
class Head:
    """What a node must know of an auction to serve it."""

    auction_id: int
    lot_id: int
    currency: str
    sequence: int
    due_at: datetime | None


def _heads() -> Any:
    auction: Any = tables.Auction
    return select(auction.id, auction.lot_id, auction.currency, auction.sequence, auction.due_at)  # type: ignore[call-overload]


def find_head(session: Session, *, auction_id: int | None = None, lot_id: int | None = None) -> Head | None:
    """Return the head of an auction whose journal has begun, or of the newest auction of a lot; None: there is none."""
    auction = tables.Auction
    query = _heads().where(auction.sequence > 0)
    if auction_id is not None:
        query = query.where(auction.id == auction_id)
    else:
        query = query.where(auction.lot_id == lot_id).order_by(col(auction.number).desc()).limit(1)
    row = session.exec(query).first()
    return None if row is None else Head(*row)


def due_heads(session: Session, *, before: datetime) -> list[Head]:
    """Return every auction at which something is due before that instant, also what was missed while no node ran."""
    due_at = col(tables.Auction.due_at)
    return [Head(*row) for row in session.exec(_heads().where(due_at < before).order_by(due_at))]


def heads_of(session: Session, auction_ids: Sequence[int]) -> list[Head]:
    """Return the heads of these auctions."""
    return [Head(*row) for row in session.exec(_heads().where(col(tables.Auction.id).in_(auction_ids)))]


@dataclass(frozen=True, slots=True)
class Beat:
    """The last time in which no node could decide bids, and whether this very heartbeat ended it."""

    outage_since: datetime | None
    outage_until: datetime | None
    is_over_now: bool


def heartbeat(session: Session, *, at: datetime, outage: timedelta = OUTAGE) -> Beat:
    """Note that a node can decide now; a silence of all nodes longer than `outage` was one, and ends here."""
    row = session.exec(select(tables.Heartbeat).where(tables.Heartbeat.id == 1).with_for_update()).first()
    if row is None:
        row = tables.Heartbeat(id=1, seen_at=at)
    is_over_now = at - row.seen_at > outage
    if is_over_now:
        row.outage_since, row.outage_until = row.seen_at, at
    row.seen_at = max(row.seen_at, at)
    session.add(row)
    return Beat(row.outage_since, row.outage_until, is_over_now)
