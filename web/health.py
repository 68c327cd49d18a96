"""For machines that watch us: /healthz (the process lives), /readyz (what it needs answers), /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from storage import outbox
from web.live import Gateway
from web.render import utc_now
from web.settings import Settings

ANSWER_WITHIN_S = 3


async def healthz(request: Request) -> Response:
    """The process runs and its loop turns."""
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


async def readyz(request: Request) -> Response:
    """What a node needs, each with its state.  Only the database decides: without the rest bidding goes on.

    "behind": somebody must run `clearlot migrate`, nothing works. "ahead": a newer version's tables, to which this
    node's replacement is on its way; it serves until then.
    """
    state = request.app.state
    checks = {
        "database": asyncio.to_thread(state.db.tables_are),
        "objects": asyncio.to_thread(_objects, state.objects),
        "redis": _redis(state.settings),
    }
    answers = await asyncio.gather(
        *(asyncio.wait_for(c, ANSWER_WITHIN_S) for c in checks.values()), return_exceptions=True
    )
    parts = {
        name: "down" if isinstance(answer, BaseException) else answer
        for name, answer in zip(checks, answers, strict=True)
    }
    ready = parts["database"] in ("ok", "ahead")
    body = {"status": "ready" if ready else "not ready", "parts": parts}
    return JSONResponse(body, 200 if ready else 503, headers={"Cache-Control": "no-store"})


def _objects(objects: Any) -> str:
    objects.check()
    return "ok"


async def _redis(settings: Settings) -> str:
    if not settings.redis_url:
        return "in process"
    import redis.asyncio

    async with redis.asyncio.Redis.from_url(settings.redis_url) as client:
        await client.ping()
    return "ok"


async def metrics(request: Request) -> Response:
    """Counters and histograms for Prometheus: of this process, its gateway, and the outbox that all share."""
    families = list(_live(request.app.state.gateway))
    try:
        waiting = await asyncio.wait_for(request.state.db.read_in_thread(outbox.figures, at=utc_now()), ANSWER_WITHIN_S)
        families += [GaugeMetricFamily(f"clearlot_outbox_{name}", OUTBOX[name], value) for name, value in waiting]
    except (SQLAlchemyError, TimeoutError):
        pass  # without the database the rest is wanted all the more
    shown = CollectorRegistry()
    shown.register(_Families(families))
    text = generate_latest() + generate_latest(shown)
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


OUTBOX = {
    "due": "Outbox rows that are due and not done",
    "claimed": "Outbox rows that a process works on",
    "oldest_seconds": "For how long the oldest due row has waited",
    "given_up": "Outbox rows that failed too often: somebody must look",
}


def _live(gateway: Gateway) -> Iterator[Metric]:
    bids = CounterMetricFamily("clearlot_bids", "Commands of bidders decided on this node", labels=["outcome"])
    bids.add_metric(["accepted"], gateway.accepted)
    bids.add_metric(["refused"], gateway.refused)
    yield bids
    turns = CounterMetricFamily("clearlot_turns", "Turns at the journal on this node", labels=["outcome"])
    turns.add_metric(["committed"], gateway.turns)
    turns.add_metric(["failed"], gateway.failed_turns)
    yield turns
    yield CounterMetricFamily("clearlot_turn_seconds", "Time in committed turns", gateway.turn_seconds)
    for name, value in gateway.figures().items():
        yield GaugeMetricFamily(f"clearlot_live_{name}", f"{name.capitalize()} on this node", value)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


routes: list[BaseRoute] = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
