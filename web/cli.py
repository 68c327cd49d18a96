"""The command `clearlot`. A subject adds its commands with `app.command()` or a Typer of its own, at the end."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import threading
from base64 import b64encode
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvicorn
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from auctions.journal import Entry, NoAuction
from auctions.proof import public_line
from market.errors import BadInput, MarketError
from market.inputs import Reader
from storage import journal, trace
from storage.database import Database
from storage.objects import Objects, open_objects
from storage.tables import Auction
from web import demo_seed, portfolios, words
from web.app import create_app
from web.client import ApiError, Client, LiveError, NotAdmitted, Standing
from web.errors import fault_text
from web.ledger import trace_lines
from web.render import utc_now
from web.security import BadSettings, check_settings, is_embedded
from web.settings import Settings

app = typer.Typer(
    name="clearlot", help="Overdue debt, sold live, settled to the cent.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
journal_app = typer.Typer(help="Take an auction's journal out, and check one.", no_args_is_help=True)
tape_app = typer.Typer(help="Loan tapes.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
app.add_typer(tape_app, name="tape")


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
    chosen = _chosen(host, port)
    require_tables(chosen)
    serve_app(chosen)


def require_tables(chosen: Settings) -> None:
    """Let nothing work on a database whose tables are another version's; the embedded default upgrades its own.

    Raises: typer.Exit, with a sentence.
    """
    if is_embedded(chosen):
        return
    database = Database(chosen.database)
    try:
        is_upgraded = database.is_upgraded()
    except SQLAlchemyError:
        raise fail("the database does not answer; see CLEARLOT_DATABASE_URL.") from None
    finally:
        database.close()
    if not is_upgraded:
        raise fail("the database's tables are not those of this version; run `clearlot migrate` first.")


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
    require_tables(chosen)
    if beat:
        jobs.celery.Beat(scheduler="celery.beat.Scheduler", quiet=True).run()
    else:
        threading.Thread(target=jobs.look_alone, name="look alone", daemon=True).start()
        jobs.celery.Worker(pool="threads", concurrency=THREADS, quiet=True).start()


@app.command()
def migrate() -> None:
    """Bring the database's tables to the newest version."""
    database = Database(settings().database)
    try:
        database.upgrade()
    except OperationalError:
        raise fail("the database does not answer; see CLEARLOT_DATABASE_URL.") from None
    finally:
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


# --- tapes -------------------------------------------------------------------------------------------


@tape_app.command("import")
def tape_import(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX, also gzipped.")],
    creditor: Annotated[str, typer.Option(help="The creditor: a party's name or number.")],
    cutoff: Annotated[str, typer.Option(help="The day at which the balances hold: 2018-12-31.")],
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "USD",
    mapping: Annotated[str, typer.Option(help="A format known by name; without it, it is recognised.")] = "",
) -> None:
    """Read a loan tape into accounts, with a progress bar; a faulty one is not kept, and says where it is wrong."""
    chosen = settings()
    reader = Reader({"cutoff": cutoff})
    cutoff_on = reader.day("cutoff")
    if cutoff_on is None:
        raise fail("--cutoff is a day such as 2018-12-31.")
    database, objects = Database(chosen.database), open_objects(chosen.objects)
    try:
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
            rows = bar.add_task("rows", total=None)
            tape, faults = portfolios.import_tape(
                database, objects, path, creditor=creditor, cutoff_on=cutoff_on, currency=currency, mapping=mapping,
                told=lambda done, total: bar.update(rows, completed=done, total=total or None),
            )  # fmt: skip
    except MarketError as error:
        raise fail(words.say(error.code, error.facts)) from None
    except BadInput as bad:
        raise fail("; ".join(fault_text(fault) for fault in bad.faults[:20])) from None
    finally:
        database.close()
    say(f"tape       {tape.id}, {tape.report.get('mapping', 'no format')}, {tape.rows:,} rows: {tape.status}")
    for fault in faults[:20]:
        say(f"fault      row {fault.row}, {fault.field}: found {fault.found!r}, expected {fault.expected}")
    if tape.status != "kept":
        raise fail(f"not kept: {tape.faults:,} faults in {tape.faulty_rows:,} rows")


# --- auctions, from outside: over the socket, with an API key ------------------------------------------

Url = Annotated[str, typer.Option(help="The marketplace's address.", envvar="CLEARLOT_BASE_URL")]
Key = Annotated[str, typer.Option(help="An API key from the settings page.", envvar="CLEARLOT_KEY")]
HERE = "http://127.0.0.1:8000"


def _talk(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except NotAdmitted:
        raise fail("the key is not known, was revoked, or may not do this.") from None
    except (LiveError, ApiError) as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def watch(auction: int, url: Url = HERE, key: Key = "", since: int | None = None) -> None:
    """Print an auction's entries and standings as they come, one JSON object a line, until it is closed."""

    async def watching() -> None:
        async with Client(url, key=key) as client, client.watch(auction, since=since) as events:
            async for event in events:
                say(msgspec.json.encode(event).decode())
                if isinstance(event, Standing) and event.phase in ("closed", "withdrawn"):
                    return

    _talk(watching())


@app.command()
def bid(
    auction: int,
    amount: Annotated[str, typer.Argument(help="Exact decimal text, without separators: 1310000.00")],
    url: Url = HERE,
    key: Key = "",
    maximum: Annotated[str | None, typer.Option(help="The system bids up to this, where the rules allow it.")] = None,
    id: Annotated[str, typer.Option(help="The bid's own key: the same one again has no second effect.")] = "",
) -> None:
    """Bid, and print the receipt; the exit status is 3 when the bid was refused."""
    refused = False

    async def bidding() -> None:
        nonlocal refused
        async with Client(url, key=key) as client:
            ack = await client.bid(auction, amount, maximum=maximum, id=id)
        say(msgspec.json.encode(ack).decode())
        refused = not ack.is_accepted

    _talk(bidding())
    if refused:
        raise typer.Exit(3)


# --- journals ------------------------------------------------------------------------------------------


@journal_app.command("export")
def journal_export(
    auction: int, out: Annotated[Path | None, typer.Option(help="A file; without it, the output.")] = None
) -> None:
    """Write an auction's public journal, one line an entry: what `journal verify` and anybody else can check."""
    database = Database(settings().database)
    try:
        opens = database.read(journal.load_fold, auction).auction.opens
        lines = [public_line(entry, opens=opens) for entry in _entries(database, auction)]
    except NoAuction:
        lines = []
    finally:
        database.close()
    if not lines:
        raise fail(f"there is no auction {auction}.")
    text = "\n".join(lines) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        say(f"{len(lines):,} entries in {out}")


def _entries(database: Database, auction: int) -> Iterator[Entry]:
    sequence = 0
    while found := database.read(journal.entries_after, auction, sequence, limit=10_000):
        yield from found
        sequence = found[-1].sequence


@journal_app.command("verify")
def journal_verify(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    head: Annotated[str, typer.Option(help="SEQUENCE:HASH from a receipt or checkpoint.")] = "",
    proof: Annotated[list[Path] | None, typer.Option(help="A receipt, checkpoint, tree head or proof; again.")] = None,
    keys: Annotated[Path | None, typer.Option(help="The platform's public keys, from their own address.")] = None,
) -> None:
    """Check a public journal without any server: its hashes, its order, every bid against the rules, its outcome."""
    from auctions.verify import main as check
    from web.signatures import is_signed

    arguments = [str(path), *(["--head", head] if head else []), *(["--keys", str(keys)] if keys else [])]
    for one in proof or []:
        arguments += ["--proof", str(one)]
    raise typer.Exit(check(arguments, is_signed))


@app.command()
def replay(auction: int) -> None:
    """Fold an auction's journal again and compare what comes out with what the lists show."""
    database = Database(settings().database)
    try:
        fold = database.read(journal.load_fold, auction)
        kept = database.read(lambda session: session.get(Auction, auction))
    finally:
        database.close()
    if kept is None:
        raise fail(f"there is no auction {auction}.")
    standing = fold.auction.standing(fold.sequence)
    ours = (fold.sequence, standing.phase, standing.price_minor, standing.leader, standing.bids)
    lists = (kept.sequence, kept.phase, kept.price_minor, kept.leader, kept.bids)
    for name, replayed, listed in zip(("entries", "phase", "price_minor", "leader", "bids"), ours, lists, strict=True):
        say(f"{name:12} {replayed!s:>20} {'=' if replayed == listed else '!='} {listed!s}")
    if ours != lists:
        raise fail("the journal and the lists differ.")


# --- the books -----------------------------------------------------------------------------------------


@app.command("trace")
def trace_command(
    kind: Annotated[str, typer.Argument(help=", ".join(trace.KINDS))],
    id: Annotated[int, typer.Argument()],
) -> None:
    """Walk from one thing to all that hangs on it: cent, posting, entry, bank line, bid, account."""
    database = Database(settings().database)
    try:
        lines = trace_lines(database, kind, id)
    except MarketError as error:
        raise fail(words.say(error.code, error.facts)) from None
    finally:
        database.close()
    for line in lines:
        say(line)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="bids, decide, echo, recover, tape; without one, all of them.")] = "",
    database: Annotated[str, typer.Option(help="sqlite, postgresql or none")] = "sqlite",
    in_flight: Annotated[int, typer.Option(help="Bids that wait for their answer at once.")] = 256,
    runs: Annotated[int, typer.Option(help="Rounds; the figure is their median.")] = 5,
    rows: Annotated[int, typer.Option(help="Of the tape.")] = 1_000_000,
    lots: Annotated[int, typer.Option(help="bids: hot lots at once; the limit is one.")] = 1,
    nodes: Annotated[int, typer.Option(help="bids: nodes on one PostgreSQL; the limit is one.")] = 1,
    against: Annotated[str, typer.Option(help="bids: naive, in place of the echo.")] = "",
    auctions: Annotated[int, typer.Option(help="recover: auctions that share the entries.")] = 2_000,
    entries: Annotated[int, typer.Option(help="recover: entries in all journals.")] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Measure, beside the limit, in the same run."""
    from web import bench as benches  # the load driver; nothing else needs it

    for one in [name] if name else sorted(benches.BENCHES):
        if one not in benches.BENCHES:
            raise fail(f"there is no bench {one}; there are {', '.join(sorted(benches.BENCHES))}.")
        figures = benches.run(
            one, database=database, in_flight=in_flight, runs=runs, rows=rows, lots=lots, nodes=nodes, against=against,
            auctions=auctions, entries=entries,
        )  # fmt: skip
        say(json.dumps(figures) if as_json else f"{benches.table(figures)}\n")


# --- the keys that sign --------------------------------------------------------------------------------

keys_app = typer.Typer(help="The keys that sign receipts, checkpoints and the log.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")


@keys_app.command("list")
def keys_list() -> None:
    """Every public key with its validity, as it is published."""
    from storage import proof

    database = Database(settings().database)
    try:
        rows = database.read(proof.keys)
    finally:
        database.close()
    for row in rows:
        until = "in use" if row.valid_until is None else f"until {row.valid_until:%Y-%m-%d %H:%M:%S} UTC"
        say(f"{row.key_id}  {row.public_key.hex()}  from {row.valid_from:%Y-%m-%d %H:%M:%S} UTC, {until}")


@keys_app.command("rotate")
def keys_rotate() -> None:
    """Make a new signing key; the one before it signs for another day, and what it signed stays good."""
    from web.proof import Signing
    from web.security import renew_signing_key

    chosen = settings()
    if chosen.signing_key.get_secret_value() or not is_embedded(chosen):
        say(f"CLEARLOT_SIGNING_KEY={b64encode(secrets.token_bytes(32)).decode()}")
        say("Give it to every node and worker, and restart all of them within a day: each publishes it at its start.")
        return
    database = Database(chosen.database)
    try:
        signing = Signing(renew_signing_key(chosen))
        signing.register(database)
    finally:
        database.close()
    say(f"new key    {signing.signer.key_id}; restart the server within a day, then it signs")


@keys_app.command("retire")
def keys_retire(key: Annotated[str, typer.Argument(help="Its name, as `keys list` has it.")]) -> None:
    """End a key now, because somebody else may have it; nodes that have no other sign nothing more."""
    from storage import proof

    database = Database(settings().database)
    try:
        database.in_transaction(proof.retire_key, key, at=utc_now())
    except MarketError:
        raise fail(f"there is no key {key}.") from None
    finally:
        database.close()
    say(f"retired    {key}")


def main() -> None:
    """The entry point of the command `clearlot`."""
    app()


if __name__ == "__main__":
    main()
