"""The figure of the tape: a CSV of 30 columns to kept accounts, beside the database's own bulk copy of the same text.

Every round runs the limit first, into a table without an index on a database of its own: the \\copy of psql into 30
columns of the types that the tape has, or the import of the shell of sqlite. Then ours, in a process of its own, which
says how much memory it took at most: file to object store, every check, every row an account with its indexes, `kept`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
from sqlmodel import Session

from market.mappings import known
from storage.database import Database
from storage.objects import Folder
from storage.tables import Party, Person
from web.portfolios import import_tape
from web.render import utc_now

if TYPE_CHECKING:
    from web.bench import Options

CUTOFF_ON = date(2026, 10, 31)
COLUMNS = tuple(column.source for column in known()["clearlot"].columns)
MOST_MEMORY_MB = 1_500
TYPES = {"text": "text", "amount": "numeric(18,2)", "whole": "integer", "percent": "numeric(9,4)", "date": "date"}


def write_csv(path: Path, rows: int) -> None:
    """A tape in our own layout: all 30 columns filled, about 276 bytes a row, the same for the same `rows`."""
    n = pl.int_range(rows, eager=True)

    def cents(factor: int, most: int) -> pl.Series:
        minor = (n * factor) % most
        return pl.select((minor // 100).cast(pl.String) + "." + (minor % 100).cast(pl.String).str.zfill(2)).to_series()

    def days(factor: int, start: date) -> pl.Series:
        return pl.select(pl.lit(start) + pl.duration(days=pl.lit((n * factor) % 2_000))).to_series().cast(pl.String)

    def one_of(*words: str, factor: int = 7) -> pl.Series:
        return pl.Series(words)[((n * factor) % len(words)).to_list()]

    first = date(2018, 1, 1)
    frame = pl.DataFrame(
        {
            "loan_id": pl.select("CL-2026-" + n.cast(pl.String).str.zfill(9)).to_series(),
            "borrower_id": pl.select("B-" + (n // 2).cast(pl.String).str.zfill(9)).to_series(),
            "currency": one_of("CNY"),
            "principal": cents(7_919, 90_000_000),
            "interest_due": cents(104_729, 9_000_000),
            "fees_due": cents(1_299_709, 90_000),
            "legal_balance": pl.Series([None], dtype=pl.String).new_from_index(0, rows),
            "dpd": (n * 31) % 900 + 1,
            "product": one_of("consumer loan", "credit card", "car loan", "mortgage", "small business loan"),
            "region": one_of("Hebei", "Anhui", "Guangdong", "Sichuan", "Zhejiang", "Heilongjiang", "Shanghai"),
            "rate_percent": cents(13, 3_600),
            "originated_on": days(3, first),
            "loan_amount": cents(15_485_863, 99_000_000),
            "term_months": (n * 5) % 59 + 1,
            "matures_on": days(11, date(2024, 1, 1)),
            "instalment": cents(32_452_843, 2_000_000),
            "last_payment_on": days(17, first),
            "last_payment": cents(49_979_687, 2_000_000),
            "paid_total": cents(67_867_967, 80_000_000),
            "defaulted_on": days(19, first),
            "legal_stage": one_of("not sued", "in suit", "judged", "in enforcement", "terminated enforcement"),
            "legal_stage_on": days(23, first),
            "limitation_on": days(29, date(2026, 1, 1)),
            "forbearance": one_of("none", "extension", "rate cut"),
            "secured": one_of("yes", "no"),
            "collateral_kind": one_of("none", "vehicle", "property"),
            "appraisal": cents(86_028_121, 95_000_000),
            "guarantor": one_of("none", "spouse", "company"),
            "last_contact_on": days(31, first),
            "five_tier_class": one_of("substandard", "doubtful", "loss"),
        }
    )
    # A legal balance with penalty interest in it: at least the sum of its parts.
    total = sum(
        pl.col(name).str.replace(".", "", literal=True).cast(pl.Int64) for name in ("principal", "interest_due")
    )
    legal = total + pl.col("fees_due").str.replace(".", "", literal=True).cast(pl.Int64) + 12_345
    text = (legal // 100).cast(pl.String) + "." + (legal % 100).cast(pl.String).str.zfill(2)
    frame.with_columns(text.alias("legal_balance")).select(COLUMNS).write_csv(path)


def copy_postgresql(url: str, path: Path) -> float:
    """Seconds of psql's \\copy (or, without psql, of COPY through the driver: the same statement)."""
    plain = url.replace("+psycopg", "")
    names = ", ".join(f"{column.source} {TYPES[column.type]}" for column in known()["clearlot"].columns)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS limit_copy")
        connection.execute(f"CREATE TABLE limit_copy ({names})")  # names of ours only
    psql = shutil.which("psql")
    begun = time.perf_counter()
    if psql:
        command = f"\\copy limit_copy from '{path}' with (format csv, header)"
        subprocess.run([psql, plain, "-q", "-X", "-c", command], check=True)
    else:
        statement = "COPY limit_copy FROM STDIN (FORMAT csv, HEADER)"
        with (
            psycopg.connect(plain) as connection,
            connection.cursor() as cursor,
            path.open("rb") as file,
            cursor.copy(statement) as copy,
        ):
            while piece := file.read(1024 * 1024):
                copy.write(piece)
    took = time.perf_counter() - begun
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP TABLE limit_copy")
    return took


def import_sqlite(folder: Path, path: Path) -> float:
    """Seconds of the import of sqlite's own shell, with the durability that our database has.

    Raises: RuntimeError, when there is no sqlite3 shell: no other limit is the same thing.
    """
    shell = shutil.which("sqlite3")
    if not shell:
        raise RuntimeError("there is no sqlite3 shell on this machine, so there is nothing to compare with")
    file = folder / "limit.db"
    file.unlink(missing_ok=True)
    names = ", ".join(f"{name} TEXT" for name in COLUMNS)
    script = (
        f"PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\nCREATE TABLE t ({names});\n"
        f'.import --csv --skip 1 "{path}" t\n'
    )
    begun = time.perf_counter()
    subprocess.run([shell, str(file)], input=script, text=True, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - begun
    for one in folder.glob("limit.db*"):
        one.unlink()
    return took


def keep(url: str, objects: Path, path: Path, name: str) -> dict[str, Any]:
    """Import the file for a new creditor in this process; return rows, seconds and the most memory that it took."""
    db = Database(url)
    db.in_transaction(_creditor, name)
    store = Folder(objects)
    begun = time.perf_counter()
    tape, _faults = import_tape(db, store, path, creditor=name, cutoff_on=CUTOFF_ON, currency="CNY")
    took = time.perf_counter() - begun
    db.close()
    if tape.status != "kept":
        raise RuntimeError(f"the tape was not kept but {tape.status}: {tape.report}")
    return {"seconds": took, "rows": tape.rows, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def _creditor(session: Session, name: str) -> None:
    party = Party(kind="organisation", name=name, name_key=name, status="admitted", created_at=utc_now())
    session.add(party)
    session.flush()
    session.add(Person(party_id=party.id, email=name, email_key=name, name=name, created_at=utc_now()))


def run_tape(options: Options) -> dict[str, Any]:
    """Rows per second from a CSV to kept accounts; `limit` is the database's own copy of the same file."""
    from web.bench import compared, database  # which imports this module

    ours: list[float] = []
    limits: list[float] = []
    peaks: list[int] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clearlot-bench-")))
        path = folder / "tape.csv"
        write_csv(path, options.rows)
        for number in range(options.runs):
            with ExitStack() as round_:
                place = Path(round_.enter_context(tempfile.TemporaryDirectory(prefix="clearlot-bench-")))
                url = round_.enter_context(database(options.database, place))
                is_sqlite = url.startswith("sqlite")
                took = import_sqlite(place, path) if is_sqlite else copy_postgresql(url, path)
                limits.append(options.rows / took)
                command = [
                    sys.executable,
                    "-m",
                    "web.bench_tape",
                    url,
                    str(place / "objects"),
                    str(path),
                    f"bench {number}",
                ]
                home = {"PYTHONPATH": str(Path(__file__).parent.parent)}
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **home}, check=False)
                if done.returncode:
                    raise RuntimeError(done.stderr[-2000:])
                figures = json.loads(done.stdout.splitlines()[-1])
                ours.append(figures["rows"] / figures["seconds"])
                peaks.append(figures["peak_mb"])
        size = path.stat().st_size
    shell = "psql \\copy" if shutil.which("psql") else "COPY"
    return compared("tape", ours, limits, "rows/s", database=options.database) | {
        "rows": options.rows,
        "bytes_a_row": size // options.rows,
        "columns": len(COLUMNS),
        "limit_is": "sqlite3 .import" if options.database == "sqlite" else shell,
        "peak_mb": max(peaks),
        "peak_limit_mb": MOST_MEMORY_MB,
    }


if __name__ == "__main__":
    print(json.dumps(keep(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])))
