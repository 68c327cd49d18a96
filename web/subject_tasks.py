"""The subjects that have tasks; importing one registers them (`web.tasks.task`, `web.tasks.beat`)."""

from __future__ import annotations


def load() -> None:
    """Import every subject with tasks."""
