"""The command `clearlot`. A subject adds its commands with `app.command()` or a Typer of its own, at the end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from storage.database import Database
from storage.objects import Objects, open_objects
from web import demo_seed
from web.app import create_app
from web.render import utc_now
from web.security import BadSettings, check_settings, is_embedded
from web.settings import Settings

app = typer.Typer(
    name="clearlot", help="Overdue debt, sold live, settled to the cent.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
journal_app = typer.Typer(help="Take an auction's journal out, and check one.", no_args_is_help=True)
tape_app = typer.Typer(help="Loan tapes.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure, beside the limit, in the same run.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
app.add_typer(tape_app, name="tape")
app.add_typer(bench_app, name="bench")


def settings() -> Settings:
    """The settings of this run; commands take theirs from here."""
    return Settings()


def say(line: str) -> None:
    """Tell the person at the terminal one fact."""
    print(line, flush=True)


def fail(line: str) -> typer.Exit:
    """End with a sentence that says why: `raise fail(...)`."""
    print(f"clearlot: {line}", file=sys.stderr)
    return typer.Exit(1)


class Server(uvicorn.Server):
    """uvicorn, which tells when it listens."""

    async def startup(self, sockets: object = None) -> None:
        """As uvicorn's; then say where."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            say(f"address    {self.config.app.state.settings.base_url}/")  # type: ignore[union-attr]


def serve_app(chosen: Settings) -> None:
    """Serve until stopped.

    Raises: typer.Exit, with a sentence, when the settings do not allow a start.
    """
    try:
        application = create_app(chosen)
    except BadSettings as refused:
        raise fail(str(refused)) from None
    config = uvicorn.Config(
        application, host=chosen.host, port=chosen.port, log_config=None, access_log=False, server_header=False,
        proxy_headers=True, forwarded_allow_ips=chosen.trusted_proxies, ws=live_protocol(),
        ws_per_message_deflate=False, timeout_graceful_shutdown=10,
    )  # fmt: skip
    server = Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve())
    if not server.started:
        raise fail(f"nothing can listen on {chosen.host}:{chosen.port}; is it in use? Choose with --port.")


def live_protocol() -> str:
    """The class that carries /live (web/live_protocol.py)."""
    return "web.live_protocol:LiveProtocol" if (Path(__file__).parent / "live_protocol.py").exists() else "auto"


Port = Annotated[int | None, typer.Option(help="Where to listen; the address follows it on loopback.")]
Host = Annotated[str | None, typer.Option(help="Where to listen; demo mode only on loopback.")]


def _chosen(host: str | None, port: int | None, **changes: object) -> Settings:
    given = settings()
    update: dict[str, object] = {name: value for name, value in changes.items() if value is not None}
    if host is not None:
        update["host"] = host
    if port is not None:
        update["port"] = port
    if "base_url" not in given.model_fields_set and (host is not None or port is not None):
        shown = host or given.host
        update["base_url"] = f"http://{'127.0.0.1' if shown in ('0.0.0.0', '::') else shown}:{port or given.port}"  # noqa: S104
    return given.model_copy(update=update)


@app.command()
def run(
    host: Host = None,
    port: Port = None,
    data: Annotated[Path | None, typer.Option(help="The folder that keeps everything.")] = None,
    demo: Annotated[bool, typer.Option(help="Life-like data, simulated bidders, one-time sign-in links.")] = True,
) -> None:
    """Start everything in one process: tables, life-like data when there is none, jobs, pages, sockets."""
    chosen = _chosen(host, port, data=data, demo=demo)
    say(f"data       {chosen.data.absolute()}")
    if demo:
        first_fill(chosen)
    serve_app(chosen)


def first_fill(chosen: Settings) -> None:
    """Fill a folder that holds no database yet; one that was stopped half-way is begun anew the next time."""
    path = chosen.data / "clearlot.db"
    if not is_embedded(chosen) or path.exists():
        return
    chosen.data.mkdir(parents=True, exist_ok=True)
    half = path.with_name("clearlot.db.half")
    for left in chosen.data.glob(f"{half.name}*"):
        left.unlink()
    fill(chosen.model_copy(update={"database_url": f"sqlite:///{half.absolute()}"}), open_objects(chosen.objects))
    half.rename(path)


def fill(chosen: Settings, objects: Objects) -> bool:
    """Fill an empty database with life-like data; return False, when there is something in it."""
    database = Database(chosen.database)
    try:
        database.upgrade()
        if not database.read(demo_seed.is_empty):
            return False
        demo_seed.seed(database, objects, at=utc_now(), told=lambda step: say(f"making     {step}"))
    finally:
        database.close()
    return True


@app.command()
def seed() -> None:
    """Fill an empty database with made-up parties, tapes, pictures and lots in every state."""
    chosen = settings()
    if not fill(chosen, open_objects(chosen.objects)):
        raise fail("the database is not empty: it is left as it is")


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Start one web node, with the settings of the environment (production)."""
    serve_app(_chosen(host, port))


@app.command()
def worker(
    beat: Annotated[bool, typer.Option(help="Only tell the workers when to look; one such process is enough.")] = False,
) -> None:
    """Run the jobs of the outbox until stopped (production, over Redis)."""
    from web.tasks import THREADS, Jobs

    chosen = settings()
    try:
        jobs = Jobs(create_app(chosen).state)
    except BadSettings as refused:
        raise fail(str(refused)) from None
    if jobs.is_embedded:
        raise fail("without CLEARLOT_REDIS_URL the jobs run inside `clearlot run`.")
    if beat:
        jobs.celery.Beat(scheduler="celery.beat.Scheduler", quiet=True).run()
    else:
        jobs.celery.Worker(pool="threads", concurrency=THREADS, quiet=True).start()


@app.command()
def migrate() -> None:
    """Bring the database's tables to the newest version."""
    database = Database(settings().database)
    database.upgrade()
    database.close()
    say("tables are up to date")


@app.command()
def check() -> None:
    """Say whether the settings allow a start."""
    try:
        check_settings(settings())
    except BadSettings as refused:
        raise fail(str(refused)) from None
    say("settings are good")


def main() -> None:
    """The entry point of the command `clearlot`."""
    app()


if __name__ == "__main__":
    main()
