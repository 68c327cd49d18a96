"""create_app: the route table, the middleware, the lifespan; the only wiring."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from storage import proof as kept
from storage.database import Database
from storage.objects import open_objects
from web import (
    collateral,
    health,
    home,
    ledger,
    live,
    lots,
    notices,
    outbox,
    parties,
    portfolios,
    proof,
    reconciliation,
    rooms,
    settlement,
)
from web.api import create_api
from web.errors import HANDLERS
from web.logs import configure_logs
from web.render import utc_now
from web.security import Guard, check_settings, is_embedded, load_secrets
from web.settings import Settings
from web.tasks import Jobs

log = structlog.get_logger("web")

MAX_BODY_BYTES = 1024 * 1024  # a route that takes files says so: Route(..., max_body_size=...)
STATIC = Path(__file__).parent / "static"

# The pages of each subject; where it has JSON too, web/api.py lists it.
PAGES: list[BaseRoute] = [
    *home.routes, *parties.routes, *portfolios.routes, *lots.routes, *collateral.routes, *rooms.routes,
    *proof.routes, *settlement.routes, *reconciliation.routes, *ledger.routes, *notices.routes, *outbox.routes,
    *health.routes, *live.routes,
]  # fmt: skip


class Static(StaticFiles):
    """Files whose address carries their hash may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve one file."""
        response = await super().get_response(path, scope)
        kept = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "public, max-age=300"
        return response


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Begin and end what lives as long as the server: tables, jobs, the live gateway."""
    state = app.state
    if is_embedded(state.settings):
        state.db.upgrade()
    try:
        await state.db.in_thread(kept.register_key, state.signing.public_key, at=utc_now())
    except SQLAlchemyError as error:  # the database is away: the round of checkpoints publishes the key
        log.warning("key not published yet", error=type(error).__name__)
    state.gateway = live.Gateway(state.settings, state.db, render_part=rooms.Parts(state.db).render)
    await state.gateway.start()
    jobs = Jobs(state)
    state.jobs = jobs
    state.poke = jobs.poke
    await jobs.start()
    engine = None
    if state.settings.demo:
        from web import demo

        engine = demo.Engine(base_url=state.settings.base_url, db=state.db, objects=state.objects, poke=jobs.poke)
        await engine.start()
    live.quiet_collector()
    try:
        yield
    finally:
        if engine is not None:
            await engine.stop()
        await jobs.stop()
        await state.gateway.stop()
        state.db.close()


def create_app(settings: Settings) -> Starlette:
    """Make the application; nothing is opened or started before its lifespan begins.

    Raises: BadSettings, when a start with these settings would not be safe.
    """
    check_settings(settings)
    configure_logs(settings.log_level, settings.log_file)
    app = Starlette(
        routes=[*PAGES, Mount("/static", Static(directory=STATIC), name="static")],
        middleware=[
            Middleware(Guard, settings=settings),
            Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    settings.data.mkdir(parents=True, exist_ok=True)
    app.state.settings = settings
    app.state.secrets = load_secrets(settings)
    app.state.signing = proof.Signing(app.state.secrets.signing_key)
    app.state.opens = {}
    app.state.db = Database(settings.database)
    app.state.objects = open_objects(settings.objects)
    app.state.clock = utc_now
    app.state.gateway = None
    app.mount("/api/v1", create_api(app))
    return app
