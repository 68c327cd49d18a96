"""Work after the commit: rows of the outbox are the truth, Celery only carries their numbers.

A beat looks for due rows every second; a handler that has just committed one may `poke`.  A claim is short and
renewed while its task runs, so what a killed process left is taken up HOLD later at most; where one process does
everything, its start frees all claims at once.  What a task does must be harmless to do again.
In the embedded default worker and beat live in the server's process (recipes.md 5); in production
`clearlot worker` runs them against Redis.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import Celery
from celery.app import trace
from celery.beat import Scheduler, Service
from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from auctions.messages import Admit, Bar
from market.errors import Conflict
from storage import notices, outbox, participations
from storage.database import Database
from storage.objects import Objects
from web.live import submit_alone
from web.render import utc_now
from web.settings import Settings

log = structlog.get_logger("tasks")

HOLD = timedelta(seconds=10)  # a claim
RENEW_S = 2.0
BATCH = 50  # rows that one look hands out
BEAT_S = 1.0
OVERLOOKED_AFTER = timedelta(seconds=5)  # a row that is due for longer was lost with its message, or the broker is away
THREADS = 4
AT_ONCE = {"read_tape": 2, "send_mail": 2}  # of one process: tapes and mails do not keep a sale from being settled
ABANDONED_AFTER = timedelta(days=1)  # no upload takes that long
STOP_WITHIN_S = 10

MEMORY = "memory://localhost"  # without a host kombu warns that there is none
REDIS = {"socket_timeout": 5, "socket_connect_timeout": 2, "socket_keepalive": True}

DONE = Counter("clearlot_tasks_total", "Tasks run", ["task", "outcome"])


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task may use."""

    settings: Settings
    db: Database
    objects: Objects
    submit: Callable[..., Any]  # (auction_id, command) -> its entry; through the sequencer of this node
    signing_key: bytes = field(repr=False)  # Ed25519 seed
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
    slots: dict[str, threading.BoundedSemaphore] = field(
        default_factory=lambda: {task: threading.BoundedSemaphore(count) for task, count in AT_ONCE.items()}
    )


Task = Callable[..., None]
TASKS: dict[str, Task] = {}  # name -> f(context, **arguments); subjects register theirs with `task`
BEATS: dict[str, tuple[Task, timedelta]] = {}  # name -> f(context), and how often it runs in one of all processes


def task(name: str) -> Callable[[Task], Task]:
    """Register `f(context, **arguments)` as what outbox rows of `name` run."""

    def register(function: Task) -> Task:
        assert TASKS.get(name, function) is function, f"two tasks are called {name}"
        TASKS[name] = function
        return function

    return register


def beat(name: str, *, every: timedelta) -> Callable[[Task], Task]:
    """Register `f(context)` to run about so often; it must be harmless to run twice at once."""

    def register(function: Task) -> Task:
        BEATS[name] = (function, every)
        return function

    return register


def run_row(context: TaskContext, outbox_id: int, task: str) -> None:
    """Claim one outbox row, run its task, and mark it; a failure comes back later by itself."""
    with _slot(context, task) as is_free:
        if not is_free:
            return  # it stays due
        row = context.db.in_transaction(outbox.claim, outbox_id, by=context.name, at=utc_now(), hold=HOLD)
        if row is None:
            return
        try:
            with _held(context, outbox_id):
                TASKS[row.task](context, **row.arguments)
        except Exception as error:
            log.exception("task failed", task=row.task, key=row.key, attempt=row.attempts)
            DONE.labels(row.task, "failed").inc()
            reason = f"{type(error).__name__}: {error}"
            context.db.in_transaction(notices.work_failed, outbox_id, reason, by=context.name, at=utc_now())
        else:
            DONE.labels(row.task, "done").inc()
            context.db.in_transaction(outbox.done, outbox_id, by=context.name, at=utc_now())


@contextmanager
def _slot(context: TaskContext, task: str) -> Iterator[bool]:
    slots = context.slots.get(task)
    is_free = slots is None or slots.acquire(blocking=False)
    try:
        yield is_free
    finally:
        if slots is not None and is_free:
            slots.release()


@contextmanager
def _held(context: TaskContext, outbox_id: int) -> Iterator[None]:
    """Renew the claim for as long as the block runs, and this process with it."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(RENEW_S):
            try:
                if not context.db.in_transaction(outbox.renew, outbox_id, by=context.name, until=utc_now() + HOLD):
                    log.warning("claim lost", row=outbox_id)
                    return
            except SQLAlchemyError as error:  # the database is away: so is everybody else who could take the row
                log.warning("claim not renewed", row=outbox_id, error=type(error).__name__)

    renewing = threading.Thread(target=renew, name=f"claim {outbox_id}", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        is_over.set()
        renewing.join()


def due_rows(session: Session, *, but: list[str], at: datetime) -> list[tuple[int, str]]:
    """The numbers and tasks of the rows that are due, the oldest first, at most BATCH; then as many of AT_ONCE.

    So a thousand mails, or a mail server that is down, keep no sale from being settled.
    """
    first = outbox.due(session, at=at, limit=BATCH, but=list(AT_ONCE))
    last = [row for row in outbox.due(session, at=at, limit=BATCH, but=but) if row.task in AT_ONCE]
    return [(row.id, row.task) for row in (*first, *last)]


class Jobs:
    """The Celery side of one process: `state` has settings, db, objects and perhaps a gateway."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.context = TaskContext(state.settings, state.db, state.objects, self._submit, state.secrets.signing_key)
        self.is_embedded = not state.settings.redis_url
        self.celery = make_celery(state.settings, self.context)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Any = None
        self._beat: Any = None
        self._threads: list[threading.Thread] = []
        self._poked = threading.Event()
        self._is_stopping = threading.Event()

    def _submit(self, auction_id: int, command: Any) -> Any:
        """Have a command decided by this node's sequencer, or by one of its own, and wait for its entry."""
        if self._loop is None or self.state.gateway is None:
            return submit_alone(self.state.db, auction_id, command, redis_url=self.state.settings.redis_url)
        submitted = asyncio.run_coroutine_threadsafe(self.state.gateway.submit(auction_id, command), self._loop)
        return submitted.result(timeout=30)

    async def start(self) -> None:
        """Start worker and beat inside this process; with Redis they are processes of their own."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._send_pokes, name="pokes", daemon=True).start()
        if self.is_embedded:
            if self.state.db.is_sqlite:  # nobody else has the file: what is claimed was left by a process that is gone
                await self.state.db.in_thread(outbox.release_all, at=utc_now())
            await asyncio.to_thread(self._start)

    def _start(self) -> None:
        ready = threading.Event()
        app = self.celery
        app.loader.import_default_modules()
        trace.setup_worker_optimizations(app, "embedded@localhost")
        self._worker = app.WorkController(
            app=app, pool="threads", concurrency=THREADS, without_heartbeat=True, without_mingle=True,
            without_gossip=True, hostname="embedded@localhost", ready_callback=lambda _consumer: ready.set(),
        )  # fmt: skip
        self._beat = Service(app, max_interval=BEAT_S, scheduler_cls=Scheduler)
        self._threads = [
            threading.Thread(target=self._worker.start, name="worker", daemon=True),
            threading.Thread(target=self._beat.start, name="beat", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        ready.wait(15)
        from celery._state import _set_task_join_will_block

        _set_task_join_will_block(False)

    async def stop(self) -> None:
        """Let what runs come to its end; what does not is found again in the outbox."""
        self._is_stopping.set()
        self._poked.set()
        if self._worker is not None:
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        import celery.worker.state

        self._beat.stop(wait=False)
        celery.worker.state.should_stop = 0
        until = time.monotonic() + STOP_WITHIN_S
        while self._threads[0].is_alive() and time.monotonic() < until:
            self._send_look()  # it looks at `should_stop` after a message, or after two seconds without one
            self._threads[0].join(0.05)
        celery.worker.state.should_stop = None

    def poke(self) -> None:
        """Look for due work now, not at the next beat; loss is harmless, and nobody waits for the broker."""
        self._poked.set()

    def _send_pokes(self) -> None:
        while self._poked.wait() and not self._is_stopping.is_set():
            self._poked.clear()
            self._send_look()

    def _send_look(self) -> None:
        try:
            self.celery.send_task("clearlot.look", ignore_result=True, retry=False)
        except Exception as error:  # the broker is down: the beat finds the row, or `look_alone`
            log.warning("no broker", error=type(error).__name__)

    def look_alone(self) -> None:
        """Do what nobody was told to do, for as long as this process runs: while the broker is away, sales are settled.

        Tapes wait for the broker.
        """
        while True:
            time.sleep(BEAT_S)
            try:
                for row in self.context.db.read(due_rows, but=list(AT_ONCE), at=utc_now() - OVERLOOKED_AFTER):
                    run_row(self.context, *row)
            except SQLAlchemyError as error:
                log.warning("database", error=type(error).__name__)


def make_celery(settings: Settings, context: TaskContext) -> Celery:
    """The Celery application: one task that looks for due rows, one that runs a row, and the beats."""
    broker = settings.redis_url or MEMORY
    app = Celery("clearlot", broker=broker, backend="cache+memory://", set_as_current=False)
    app.conf.update(
        task_ignore_result=True, worker_hijack_root_logger=False, worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True, broker_connection_max_retries=None, task_acks_late=True,
        worker_prefetch_multiplier=1,
        timezone="UTC", broker_transport_options={"polling_interval": 0.02} if broker == MEMORY else REDIS,
    )  # fmt: skip

    @app.task(name="clearlot.look", expires=5, shared=False)
    def look() -> None:  # type: ignore[untyped-decorator, unused-ignore]
        full = [task for task, slots in context.slots.items() if slots._value == 0]
        for row in context.db.read(due_rows, but=full, at=utc_now()):
            app.send_task("clearlot.run", args=row, ignore_result=True, expires=60)

    @app.task(name="clearlot.run", shared=False)
    def run(outbox_id: int, task: str) -> None:
        run_row(context, outbox_id, task)

    @app.task(name="clearlot.beat", shared=False)
    def run_beat(name: str) -> None:
        try:
            BEATS[name][0](context)
        except Exception:
            log.exception("beat failed", task=name)

    app.conf.beat_schedule = {
        "look": {"task": "clearlot.look", "schedule": BEAT_S, "options": {"expires": 5}},
        **{
            name: {"task": "clearlot.beat", "schedule": every, "args": (name,), "options": {"expires": 60}}
            for name, (_function, every) in BEATS.items()
        },
    }
    return app


# --- what the flows leave in the outbox; tapes and statements stand with their subjects -----------------


@task("submit_command")
def submit_command(context: TaskContext, auction_id: int, command: dict[str, Any]) -> None:
    """Hand an admission to the auction's sequencer; the command's id makes a second time harmless."""
    kinds = {"admit": Admit, "bar": Bar}
    facts = {name: value for name, value in command.items() if name != "type"}
    try:
        context.submit(auction_id, kinds[command["type"]](**facts))
    except Conflict as conflict:
        if conflict.code != "key_reused":  # its first form is in the journal, and stands
            raise
    if command["type"] == "admit":
        context.db.in_transaction(participations.tell_admitted, auction_id, command["party_id"], at=utc_now())


@beat("clear_abandoned", every=timedelta(hours=1))
def clear_abandoned(context: TaskContext) -> None:
    """Remove what was still being received when its process died."""
    count = context.objects.clear_abandoned(utc_now() - ABANDONED_AFTER)
    if count:
        log.info("abandoned files removed", files=count)
