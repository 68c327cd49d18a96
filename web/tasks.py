"""Work after the commit: rows of the outbox are the truth, Celery only carries their numbers.

A beat looks for due rows every second; a handler that has just committed one may `poke`.  What a task
does must be harmless to do again: a worker that dies lets its claim run out and another one takes the row.
In the embedded default worker and beat live in the server's process (recipes.md 5); in production
`clearlot worker` runs them against Redis.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import Celery
from celery.app import trace
from celery.beat import Scheduler, Service
from prometheus_client import Counter, Gauge
from sqlalchemy import func
from sqlmodel import Session, col, select

from auctions.messages import Admit, Bar
from market.errors import Conflict
from storage import outbox
from storage.database import Database
from storage.objects import Objects
from storage.tables import Outbox
from web.live import submit_alone
from web.render import utc_now
from web.settings import Settings

log = structlog.get_logger("tasks")

HOLD = timedelta(minutes=10)  # a claim; a task that takes longer says so in LONG
LONG = {"read_tape": timedelta(hours=1)}
BATCH = 50  # rows that one look hands out
BEAT_S = 1.0
THREADS = 2
STOP_WITHIN_S = 10

DONE = Counter("clearlot_tasks_total", "Tasks run", ["task", "outcome"])
WAITING = Gauge("clearlot_outbox_waiting", "Outbox rows that are due and not done")


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task may use."""

    settings: Settings
    db: Database
    objects: Objects
    submit: Callable[..., Any]  # (auction_id, command) -> its entry; through the sequencer of this node


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


def run_row(context: TaskContext, outbox_id: int) -> None:
    """Claim one outbox row, run its task, and mark it; a failure comes back later by itself."""
    now = utc_now()
    row = context.db.in_transaction(_claim, outbox_id, at=now)
    if row is None:
        return
    try:
        TASKS[row.task](context, **row.arguments)
    except Exception as error:
        log.exception("task failed", task=row.task, key=row.key, attempt=row.attempts)
        DONE.labels(row.task, "failed").inc()
        context.db.in_transaction(outbox.failed, outbox_id, f"{type(error).__name__}: {error}", at=utc_now())
    else:
        DONE.labels(row.task, "done").inc()
        context.db.in_transaction(outbox.done, outbox_id, at=utc_now())


def _claim(session: Session, outbox_id: int, *, at: datetime) -> Outbox | None:
    name = session.exec(select(Outbox.task).where(Outbox.id == outbox_id)).first()
    return outbox.claim(session, outbox_id, at=at, hold=LONG.get(name or "", HOLD))


def due_rows(session: Session, *, at: datetime) -> list[int]:
    """The numbers of the rows that are due, the oldest first; at most BATCH."""
    waiting = select(func.count()).select_from(Outbox).where(col(Outbox.done_at).is_(None), Outbox.due_at <= at)
    WAITING.set(session.exec(waiting).one())
    return [row.id for row in outbox.due(session, at=at, limit=BATCH)]


class Jobs:
    """The Celery side of one process: `state` has settings, db, objects and perhaps a gateway."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.context = TaskContext(state.settings, state.db, state.objects, self._submit)
        self.is_embedded = not state.settings.redis_url
        self.celery = make_celery(state.settings, self.context)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Any = None
        self._beat: Any = None
        self._threads: list[threading.Thread] = []

    def _submit(self, auction_id: int, command: Any) -> Any:
        """Have a command decided by this node's sequencer, or by one of its own, and wait for its entry."""
        if self._loop is None or self.state.gateway is None:
            return submit_alone(self.state.db, auction_id, command)
        submitted = asyncio.run_coroutine_threadsafe(self.state.gateway.submit(auction_id, command), self._loop)
        return submitted.result(timeout=30)

    async def start(self) -> None:
        """Start worker and beat inside this process; with Redis they are processes of their own."""
        self._loop = asyncio.get_running_loop()
        if self.is_embedded:
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
        if self._worker is not None:
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        import celery.worker.state

        self._beat.stop(wait=False)
        celery.worker.state.should_stop = 0
        until = time.monotonic() + STOP_WITHIN_S
        while self._threads[0].is_alive() and time.monotonic() < until:
            self.poke()  # it looks at `should_stop` after a message, or after two seconds without one
            self._threads[0].join(0.05)
        celery.worker.state.should_stop = None

    def poke(self) -> None:
        """Look for due work now, not at the next beat; loss is harmless."""
        try:
            self.celery.send_task("clearlot.look", ignore_result=True, retry=False)
        except Exception as error:  # the broker is down: the beat finds the row
            log.warning("no broker", error=type(error).__name__)


def make_celery(settings: Settings, context: TaskContext) -> Celery:
    """The Celery application: one task that looks for due rows, one that runs a row, and the beats."""
    broker = settings.redis_url or "memory://"
    app = Celery("clearlot", broker=broker, backend="cache+memory://", set_as_current=False)
    app.conf.update(
        task_ignore_result=True, worker_hijack_root_logger=False, worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True, task_acks_late=True, worker_prefetch_multiplier=1,
        timezone="UTC", broker_transport_options={"polling_interval": 0.02} if broker == "memory://" else {},
    )  # fmt: skip

    @app.task(name="clearlot.look", expires=5, shared=False)
    def look() -> None:  # type: ignore[untyped-decorator, unused-ignore]
        for outbox_id in context.db.read(due_rows, at=utc_now()):
            app.send_task("clearlot.run", args=[outbox_id], ignore_result=True)

    @app.task(name="clearlot.run", shared=False)
    def run(outbox_id: int) -> None:
        run_row(context, outbox_id)

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
