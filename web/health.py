"""For machines that watch us: /healthz (the process lives), /readyz (what it needs answers), /metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from web.settings import Settings

ANSWER_WITHIN_S = 3


async def healthz(request: Request) -> Response:
    """The process runs and its loop turns."""
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


async def readyz(request: Request) -> Response:
    """What a node needs, each with its state.  Only the database decides: without the rest bidding goes on."""
    state = request.app.state
    checks = {
        "database": request.state.db.read_in_thread(_one),
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
    ready = parts["database"] == "ok"
    body = {"status": "ready" if ready else "not ready", "parts": parts}
    return JSONResponse(body, 200 if ready else 503, headers={"Cache-Control": "no-store"})


def _one(session: Session) -> str:
    session.connection().execute(text("SELECT 1"))
    return "ok"


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
    """Counters and histograms for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


routes: list[BaseRoute] = [
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
