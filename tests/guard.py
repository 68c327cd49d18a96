"""Stops a test session's servers when the session is over, however it ended: `python -I -S guard.py FOLDER`.

Waits until its input closes, which the system does for a session that was killed, too. Standard library only.
"""

import shutil
import signal
import sys
import time
from contextlib import suppress
from os import kill
from pathlib import Path

STOP_SECONDS = 5


def stop_all(folder: Path) -> None:
    """Stop every process that left a `*.pid` file below `folder`, then remove the folder."""
    pids = set()
    for file in folder.rglob("*.pid"):
        with suppress(OSError, ValueError, IndexError):
            pid = int(file.read_text().split()[0])
            # Nothing in these servers is kept. Only PostgreSQL, killed, would leave its children and shared memory.
            kill(pid, signal.SIGQUIT if file.name == "postmaster.pid" else signal.SIGKILL)
            pids.add(pid)
    until = time.monotonic() + STOP_SECONDS
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether `pid` runs; one that ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the tests still want their servers
    sys.stdin.read()
    stop_all(Path(sys.argv[1]))
