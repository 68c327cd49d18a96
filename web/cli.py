"""The command `clearlot`. A subject adds its commands with `app.command()` or a Typer of its own, at the end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# A server's libraries take seconds to load and `clearlot bid` should not, so each command imports what it works with.
if TYPE_CHECKING:
    from auctions.journal import Entry
    from storage.database import Database
    from web.client import Ack, Error
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
    from web.settings import Settings

    return Settings()


def say(line: str) -> None:
    """Tell the person at the terminal one fact."""
    print(line, flush=True)


def fail(line: str) -> typer.Exit:
    """End with a sentence that says why: `raise fail(...)`."""
    print(f"clearlot: {line}", file=sys.stderr)
    return typer.Exit(1)


@contextmanager
def in_words() -> Iterator[None]:
    """Let what cannot be done end in a sentence."""
    from market.errors import MarketError
    from web import words
    from web.security import BadSettings
    from web.serving import CannotStart

    try:
        yield
    except MarketError as error:
        raise fail(words.say(error.code, error.facts)) from None
    except (BadSettings, CannotStart) as refused:
        raise fail(str(refused)) from None


@contextmanager
def opened() -> Iterator[Database]:
    """The database of the settings; one that cannot be used ends in a sentence."""
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from storage.database import Database

    database = Database(settings().database)
    try:
        yield database
    except (OperationalError, ProgrammingError):
        raise fail(
            "the database does not answer, or its tables are not those of this version; see CLEARLOT_DATABASE_URL, "
            "and bring them up with `clearlot migrate`."
        ) from None
    finally:
        database.close()


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
    from web import serving

    chosen = _chosen(host, port, data=data, demo=demo)
    if chosen.log_file is None:
        chosen = chosen.model_copy(update={"log_file": chosen.data / "clearlot.log"})
    say(f"data       {chosen.data.absolute()}")
    with in_words():
        serving.bring_up(chosen, say)
        if demo:
            serving.first_fill(chosen, say)
        serving.serve_app(chosen, say)


@app.command()
def seed() -> None:
    """Fill an empty database with made-up parties, tapes, pictures and lots in every state."""
    from storage.objects import open_objects
    from web.serving import fill

    chosen = settings()
    if not fill(chosen, open_objects(chosen.objects), say):
        raise fail("the database is not empty: it is left as it is")


@app.command("demo-statement")
def demo_statement(
    reference: Annotated[str, typer.Argument(help="The payment reference that the lot page shows.")],
    amount: Annotated[str, typer.Argument(help="Exact decimal text; left out: what is missing.")] = "",
    out: Annotated[Path, typer.Option(help="The folder for the file.")] = Path(),
) -> None:
    """Write the bank statement that pays for a party of your own, to upload as the operator: for trying out only."""
    from market.errors import BadInput
    from web.demo_acts import paying_statement
    from web.errors import fault_text
    from web.render import utc_now

    with in_words(), opened() as database:
        try:
            name, data = database.read(paying_statement, reference, amount, at=utc_now())
        except BadInput as bad:
            raise fail(fault_text(bad.faults[0])) from None
    (out / name).write_bytes(data)
    say(f"{out / name}: upload it under Reconciliation, Bank statements, before the made-up bank writes its next one")


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Start one web node, with the settings of the environment (production)."""
    from web import serving

    chosen = _chosen(host, port)
    with in_words():
        serving.require_tables(chosen)
        serving.serve_app(chosen, say)


@app.command()
def worker(
    beat: Annotated[bool, typer.Option(help="Only tell the workers when to look; one such process is enough.")] = False,
) -> None:
    """Run the jobs of the outbox until stopped (production, over Redis)."""
    from web.app import create_app
    from web.serving import require_tables
    from web.tasks import THREADS, Jobs

    chosen = settings()
    with in_words():
        jobs = Jobs(create_app(chosen).state)
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
    from sqlalchemy.exc import OperationalError

    with opened() as database:
        try:
            database.upgrade()
        except OperationalError:
            raise fail("the database does not answer; see CLEARLOT_DATABASE_URL.") from None
    say("tables are up to date")


@app.command()
def check() -> None:
    """Say whether the settings allow a start."""
    from web.security import check_settings

    with in_words():
        check_settings(settings())
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
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from market.errors import BadInput
    from market.inputs import Reader
    from storage.objects import open_objects
    from web.errors import fault_text
    from web.portfolios import import_tape

    cutoff_on = Reader({"cutoff": cutoff}).day("cutoff")
    if cutoff_on is None:
        raise fail("--cutoff is a day such as 2018-12-31.")
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with in_words(), opened() as database, Progress(*columns, console=Console(stderr=True)) as bar:
        rows = bar.add_task("rows", total=None)
        try:
            tape, faults = import_tape(
                database, open_objects(settings().objects), path, creditor=creditor, cutoff_on=cutoff_on,
                currency=currency, mapping=mapping,
                told=lambda done, total: bar.update(rows, completed=done, total=total or None),
            )  # fmt: skip
        except BadInput as bad:
            raise fail("; ".join(fault_text(fault) for fault in bad.faults[:20])) from None
    say(f"tape       {tape.id}, {tape.report.get('mapping', 'no format')}, {tape.rows:,} rows: {tape.status}")
    for fault in faults[:20]:
        row = "" if fault.row is None else f"row {fault.row}" if fault.row else "header"
        place = ", ".join(part for part in (row, fault.field) if part) or "file"
        say(f"fault      {place}: found {fault.found!r}, expected {fault.expected}")
    if tape.status != "kept":
        raise fail(f"not kept: {tape.faults:,} faults in {tape.faulty_rows:,} rows")


# --- auctions, from outside: over the socket, with an API key ------------------------------------------

Url = Annotated[str, typer.Option(help="The marketplace's address.", envvar="CLEARLOT_BASE_URL")]
Key = Annotated[str, typer.Option(help="An API key from the settings page.", envvar="CLEARLOT_KEY")]
HERE = "http://127.0.0.1:8000"


def _talk(work: Coroutine[Any, Any, None], on_silence: str) -> None:
    import asyncio

    from web.client import LiveError, NotAdmitted

    try:
        asyncio.run(work)
    except NotAdmitted:
        raise fail("the key is not known, was revoked, or may not do this.") from None
    except LiveError as refused:
        raise fail(_sentence(refused.error)) from None
    except TimeoutError:
        raise fail(on_silence) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _sentence(error: Error) -> str:
    """An error of the socket, for a person."""
    import msgspec

    from web import words

    facts = {name: value for name, value in msgspec.structs.asdict(error).items() if value not in ("", None)}
    code = error.code
    if code == "key_reused" and error.outcome:
        code = "key_answered"
    elif code == "not_found":
        code = "auction_unknown"
    return f"{words.say(code, facts)} ({error.code})"


def _refused(ack: Ack) -> str:
    """Why a bid was refused, and what would do, for a person; instants stay as the receipt has them."""
    from web import words

    facts = {name.removesuffix("_at"): value for name, value in ack.facts.items()}
    return f"refused: {words.say(ack.code, facts)} ({ack.code})"


@app.command()
def watch(auction: int, url: Url = HERE, key: Key = "", since: int | None = None) -> None:
    """Print an auction's entries and standings as they come, one JSON object a line, until it is closed."""
    import msgspec

    from web.client import Client, Standing

    async def watching() -> None:
        async with Client(url, key=key) as client, client.watch(auction, since=since) as events:
            async for event in events:
                say(msgspec.json.encode(event).decode())
                if isinstance(event, Standing) and event.phase in ("closed", "withdrawn"):
                    return

    _talk(watching(), f"nothing answers at {url}; see --url.")


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
    import uuid

    import msgspec

    from web.client import Client

    refused = False
    id = id or uuid.uuid4().hex

    async def bidding() -> None:
        nonlocal refused
        async with Client(url, key=key) as client:
            ack = await client.bid(auction, amount, maximum=maximum, id=id)
        say(msgspec.json.encode(ack).decode())
        refused = not ack.is_accepted
        if refused:
            print(f"clearlot: {_refused(ack)}", file=sys.stderr)

    again = f"Ask with the same bid and --id {id}; do not bid under another one before."
    _talk(bidding(), f"no answer from {url} (see --url); the bid may have been recorded. {again}")
    if refused:
        raise typer.Exit(3)


# --- journals ------------------------------------------------------------------------------------------


@journal_app.command("export")
def journal_export(
    auction: int, out: Annotated[Path | None, typer.Option(help="A file; without it, the output.")] = None
) -> None:
    """Write an auction's public journal, one line an entry: what `journal verify` and anybody else can check."""
    from auctions.journal import NoAuction
    from auctions.proof import public_line
    from storage import journal

    with opened() as database:
        try:
            opens = database.read(journal.load_fold, auction).auction.opens
        except NoAuction:
            raise fail(f"there is no auction {auction}.") from None
        lines = [public_line(entry, opens=opens) for entry in _entries(database, auction)]
    text = "\n".join(lines) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        say(f"{len(lines):,} entries in {out}")


def _entries(database: Database, auction: int) -> Iterator[Entry]:
    from storage import journal

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
    from storage import journal
    from storage.tables import Auction

    with opened() as database:
        fold = database.read(journal.load_fold, auction)
        kept = database.read(lambda session: session.get(Auction, auction))
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
    kind: Annotated[str, typer.Argument(help="Such as sale, posting, statement_line, loan_account.")],
    id: Annotated[int, typer.Argument()],
) -> None:
    """Walk from one thing to all that hangs on it: cent, posting, entry, bank line, bid, account."""
    from market.errors import NotFound
    from storage.trace import KINDS
    from web.ledger import trace_lines

    with in_words(), opened() as database:
        try:
            lines = trace_lines(database, kind, id)
        except NotFound:
            raise fail(f"there is no {kind} {id}; a trace begins at one of: {', '.join(KINDS)}.") from None
    for line in lines:
        say(line)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="bids, decide, echo, recover, tape; without one, all of them.")] = "",
    database: Annotated[str, typer.Option(help="sqlite, postgresql or none")] = "sqlite",
    in_flight: Annotated[int, typer.Option(help="Bids that wait for their answer at once.")] = 256,
    runs: Annotated[int, typer.Option(help="Rounds; the figure is their median.")] = 5,
    rows: Annotated[int, typer.Option(help="Of the tape.")] = 1_000_000,
    auctions: Annotated[int, typer.Option(help="That a server recovers.")] = 2_000,
    entries: Annotated[int, typer.Option(help="Of all their journals together.")] = 1_000_000,
    lots: Annotated[int, typer.Option(help="Hot lots at once; the limit is one.")] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes on one PostgreSQL; the limit is one.")] = 1,
    against: Annotated[str, typer.Option(help="naive, in place of the echo.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False,
) -> None:
    """Measure, beside the limit, in the same run."""
    import json

    from web import bench as benches

    options = benches.Options(
        database=database, in_flight=in_flight, runs=runs, rows=rows, auctions=auctions, entries=entries, lots=lots,
        nodes=nodes, against=against,
    )  # fmt: skip
    for one in [name] if name else sorted(benches.BENCHES):
        if one not in benches.BENCHES:
            raise fail(f"there is no bench {one}; there are {', '.join(sorted(benches.BENCHES))}.")
        figures = benches.BENCHES[one](options)
        say(json.dumps(figures) if as_json else f"{benches.table(figures)}\n")


# --- the keys that sign --------------------------------------------------------------------------------

keys_app = typer.Typer(help="The keys that sign receipts, checkpoints and the log.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")


@keys_app.command("list")
def keys_list() -> None:
    """Every public key with its validity, as it is published."""
    from storage import proof

    with opened() as database:
        rows = database.read(proof.keys)
    for row in rows:
        until = "in use" if row.valid_until is None else f"until {row.valid_until:%Y-%m-%d %H:%M:%S} UTC"
        say(f"{row.key_id}  {row.public_key.hex()}  from {row.valid_from:%Y-%m-%d %H:%M:%S} UTC, {until}")


@keys_app.command("rotate")
def keys_rotate() -> None:
    """Make a new signing key; the one before it signs for another day, and what it signed stays good."""
    import secrets
    from base64 import b64encode

    from web.proof import Signing
    from web.security import is_embedded, renew_signing_key

    chosen = settings()
    if chosen.signing_key.get_secret_value() or not is_embedded(chosen):
        say(f"CLEARLOT_SIGNING_KEY={b64encode(secrets.token_bytes(32)).decode()}")
        say("Give it to every node and worker, and restart all of them within a day: each publishes it at its start.")
        return
    with opened() as database:
        signing = Signing(renew_signing_key(chosen))
        signing.register(database)
    say(f"new key    {signing.signer.key_id}; restart the server within a day, then it signs")


@keys_app.command("retire")
def keys_retire(key: Annotated[str, typer.Argument(help="Its name, as `keys list` has it.")]) -> None:
    """End a key now, because somebody else may have it; nodes that have no other sign nothing more."""
    from market.errors import MarketError
    from storage import proof
    from web.render import utc_now

    with opened() as database:
        try:
            database.in_transaction(proof.retire_key, key, at=utc_now())
        except MarketError:
            raise fail(f"there is no key {key}.") from None
    say(f"retired    {key}")


def main() -> None:
    """The entry point of the command `clearlot`."""
    app()


if __name__ == "__main__":
    main()
