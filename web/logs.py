"""Logs: one JSON object a line, on the error stream or in a file; no secret, no personal data, no raw line break."""

from __future__ import annotations

import json
import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET = frozenset({"password", "token", "secret", "cookie", "authorization", "csrf", "signing_key", "email", "iban"})
FILE_BYTES, FILES_BEFORE = 10_000_000, 2  # of a log file; how many older ones are kept
MOST_OF_A_PROBLEM = 300  # characters on the terminal
OURS = "clearlot"  # the logger whose records are JSON already


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in SECRET.intersection(event):
        event[name] = "***"
    return event


VALUES = re.compile(r"^(DETAIL|CONTEXT|LINE \d+|\[parameters|\[SQL):?.*$\n?", re.MULTILINE)


def _without_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop the lines in which a database repeats what a person typed."""
    for name, value in event.items():
        if isinstance(value, str) and "\n" in value:
            event[name] = VALUES.sub("", value)
    return event


class _Lines(structlog.stdlib.ProcessorFormatter):
    """Our own lines as they are, those of libraries as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == OURS else super().format(record)


class _Problem(_Lines):
    """One line for a person: what happened, the facts, and the last line of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        event = json.loads(super().format(record))
        what, level = event.pop("event"), event.pop("level")
        del event["at"]
        exception = event.pop("exception", "").strip().splitlines()[-1:]
        said = " ".join([str(what), *(f"{name}={value}" for name, value in event.items()), *exception])
        return f"{level:10} {' '.join(said.split())[:MOST_OF_A_PROBLEM]}"


def configure_logs(level: str, file: Path | None = None) -> None:
    """Send our own lines from `level` up, and warnings of libraries, to the error stream as JSON.

    With a `file` they go there, and the error stream gets one plain line for each warning and failure.
    JSON escapes line breaks, so input cannot forge a line.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[
            *shared, _mask, structlog.processors.format_exc_info, _without_values,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: logging.getLogger(OURS),
        cache_logger_on_first_use=False,
    )  # fmt: skip
    logging.getLogger(OURS).setLevel(logging.DEBUG)
    foreign: dict[str, Any] = {
        "processor": structlog.processors.JSONRenderer(ensure_ascii=False),
        "foreign_pre_chain": [*shared, structlog.processors.format_exc_info, _without_values],
    }
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_Lines(**foreign))
    root = logging.getLogger()
    root.handlers = [terminal]
    root.setLevel("WARNING")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = RotatingFileHandler(file, maxBytes=FILE_BYTES, backupCount=FILES_BEFORE, encoding="utf-8")
        kept.setFormatter(_Lines(**foreign))
        terminal.setFormatter(_Problem(**foreign))
        terminal.setLevel(logging.WARNING)
        root.handlers = [kept, terminal]
