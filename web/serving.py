"""`clearlot run` and `clearlot serve`: what must be right before a server starts, and the server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvicorn
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from storage.database import Database
from storage.objects import Objects, open_objects
from web.app import create_app
from web.render import utc_now
from web.security import BadSettings, is_embedded
from web.settings import Settings

Say = Callable[[str], None]  # tells the person at the terminal one line


class CannotStart(Exception):
    """Why nothing was started, and what to do, in a sentence."""


class Server(uvicorn.Server):
    """uvicorn, which tells when it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self.listens = listens

    async def startup(self, sockets: object = None) -> None:
        """As uvicorn's; then say so."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self.listens()


def serve_app(chosen: Settings, say: Say) -> None:
    """Serve until stopped.

    Raises: CannotStart.
    """
    try:
        application = create_app(chosen)
    except BadSettings as refused:
        raise CannotStart(str(refused)) from None
    config = uvicorn.Config(
        application, host=chosen.host, port=chosen.port, log_config=None, access_log=False, server_header=False,
        proxy_headers=True, forwarded_allow_ips=chosen.trusted_proxies, ws="web.live_protocol:LiveProtocol",
        ws_per_message_deflate=False, timeout_graceful_shutdown=10,
    )  # fmt: skip

    def listens() -> None:
        say(f"address    {chosen.base_url}/")
        if chosen.demo:
            say("next       open the address, choose somebody under “Sign in to look around”: no password is needed")
            say("stop       Ctrl-C; the next start goes on from here")

    server = Server(config, listens)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve())
    except SystemExit:  # so uvicorn says that it did not get as far as serving
        if server.lifespan.should_exit:
            raise CannotStart("it did not start; the line above says why, and the log has all of it.") from None
        why = f"nothing can listen on {chosen.host}:{chosen.port}; is it in use? Choose with --port."
        raise CannotStart(why) from None


# --- the database before the start ---------------------------------------------------------------------


def require_tables(chosen: Settings) -> None:
    """Let nothing work on a database whose tables are another version's; the embedded default upgrades its own.

    Raises: CannotStart.
    """
    if is_embedded(chosen):
        return
    database = Database(chosen.database)
    try:
        is_upgraded = database.tables_are() == "ok"
    except SQLAlchemyError:
        raise CannotStart("the database does not answer; see CLEARLOT_DATABASE_URL.") from None
    finally:
        database.close()
    if not is_upgraded:
        raise CannotStart("the database's tables are not those of this version; run `clearlot migrate` first.")


def bring_up(chosen: Settings, say: Say) -> None:
    """Bring a data folder of an earlier version to this one; leave one that cannot be brought here as it is.

    Raises: CannotStart.
    """
    path = chosen.data / "clearlot.db"
    if not is_embedded(chosen) or not path.exists():
        return
    away = f"Start with another folder (--data), or move {chosen.data.absolute()} away."
    database = Database(chosen.database)
    try:
        tables = database.tables_are()
        if tables == "ahead":
            raise CannotStart(f"{path} was made by a newer version of Clearlot, which this one cannot read. {away}")
        if tables == "behind":
            say("upgrading  the tables of an earlier version")
            database.upgrade()
        lacks = columns_missing(database)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        raise CannotStart(f"{path} cannot be used ({reason}). {away}") from None
    finally:
        database.close()
    if lacks:  # before the first landing, the first migration was remade under its name
        raise CannotStart(f"{path} was made by a version from before the first release (no {lacks[0]}). {away}")


def columns_missing(database: Database) -> list[str]:
    """The columns (`table.column`) that this version's code uses and the database does not have, in order."""
    inspector = inspect(database.engine)
    there = {name: {one["name"] for one in inspector.get_columns(name)} for name in inspector.get_table_names()}
    return sorted(
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
        if column.name not in there.get(table.name, ())
    )


# --- the first fill ------------------------------------------------------------------------------------


def first_fill(chosen: Settings, say: Say) -> None:
    """Fill a folder that holds no database yet; one that was stopped half-way is begun anew the next time."""
    path = chosen.data / "clearlot.db"
    if not is_embedded(chosen) or path.exists():
        return
    chosen.data.mkdir(parents=True, exist_ok=True)
    half = path.with_name("clearlot.db.half")
    for left in chosen.data.glob(f"{half.name}*"):
        left.unlink()
    fill(chosen.model_copy(update={"database_url": f"sqlite:///{half.absolute()}"}), open_objects(chosen.objects), say)
    half.rename(path)


def fill(chosen: Settings, objects: Objects, say: Say) -> bool:
    """Fill an empty database with life-like data; return False, when there is something in it."""
    from web import demo_seed  # it draws pictures and writes tapes: only a first start needs it

    database = Database(chosen.database)
    try:
        database.upgrade()
        if not database.read(demo_seed.is_empty):
            return False
        demo_seed.seed(database, objects, at=utc_now(), told=lambda step: say(f"making     {step}"))
    finally:
        database.close()
    return True
