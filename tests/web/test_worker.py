"""`clearlot worker` and `clearlot worker --beat`, as compose.yaml starts them: processes of their own, a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from storage import outbox
from storage.database import Database
from storage.tables import Outbox
from tests import servers
from tests.servers import PATIENCE_S
from tests.web.conftest import SECRET, SIGNING_KEY
from web.render import utc_now


@contextmanager
def clearlot(tmp_path: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLEARLOT_")}
    env |= {f"CLEARLOT_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "web.cli", *arguments],
        env=env | {"CLEARLOT_DATA": str(tmp_path / "data"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = servers.session_folder() / f"worker-{process.pid}.pid"  # for tests/guard.py
    pid.write_text(str(process.pid))
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        pid.unlink()


def test_a_row_of_the_outbox_is_run_by_a_worker(postgresql_url: str, redis_url: str, tmp_path: Path) -> None:
    db = Database(postgresql_url)
    # No such tape: the task fails, and says so in the log and in its row, which is how we hear that it ran.
    db.in_transaction(outbox.put, "read_tape", "tape 404", {"tape_id": 404}, at=utc_now() - timedelta(seconds=1))
    settings = {
        "database_url": postgresql_url, "redis_url": redis_url, "secret": SECRET, "signing_key": SIGNING_KEY,
    }  # fmt: skip
    with clearlot(tmp_path, "worker", **settings) as worker, clearlot(tmp_path, "worker", "--beat", **settings):
        assert worker.stderr
        lines: list[str] = []
        for line in worker.stderr:  # ends with the worker, should it end
            lines.append(line)
            if "task failed" in line:
                break
        assert "tape 404" in lines[-1], "".join(lines)
    row = db.read(lambda session: session.get_one(Outbox, 1))
    assert row.done_at is None
    assert row.attempts >= 1
    db.close()


def test_without_redis_there_is_nothing_for_a_worker_to_do(tmp_path: Path) -> None:
    with clearlot(tmp_path, "worker") as worker:
        assert worker.wait(PATIENCE_S) == 1
        assert worker.stderr
        assert "CLEARLOT_REDIS_URL" in worker.stderr.read()
