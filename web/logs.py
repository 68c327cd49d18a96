"""Logs: one JSON object a line, on the error stream; no secret, no personal data, no raw line break."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET = frozenset({"password", "token", "secret", "cookie", "authorization", "csrf", "signing_key", "email", "iban"})


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


def configure_logs(level: str) -> None:
    """Send our own lines and those of libraries to the error stream, from `level` up.

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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )  # fmt: skip
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(ensure_ascii=False),
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info, _without_values],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel("WARNING")
