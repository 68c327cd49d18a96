"""The migrations make exactly the tables of storage/tables.py, and can be taken back, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

import storage.tables  # noqa: F401  (fills the metadata)
from storage.database import Database
from tests import servers
from tests.conftest import ROOT
from tests.web.conftest import SECRET, SIGNING_KEY


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    request.getfixturevalue("postgresql_url")  # skips where there is no server
    server = servers.once("postgresql", servers.postgresql)["url"]
    name = f"clearlot_{uuid4().hex[:12]}"
    servers.postgresql_do(server, f"CREATE DATABASE {name}")
    yield f"{server}/{name}"
    servers.postgresql_do(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


def test_the_migrations_make_the_tables_as_they_are_described(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    assert db.tables_are() == "ok"


# Whoever runs Clearlot has these behind him: a database made yesterday gets no change that is made in them today, and
# nothing would tell. Tables change by a new file. (SHA-256; a new landing adds its own line.)
FROZEN = {
    "v0001_initial.py": "853c6bc11d867b9fc3bb3665a1f3934e3f551aaf6ca9bf5c7d25bd667b5eccb3",
    "v0002_append_only.py": "3b79a59cd7a4764b1ebbb16beeb6de9682d63e630429ced13af913e6ba5f91fc",
    "v0003_ended_sessions_and_shares.py": "9e22dd3e2b5da81f82fffafd701ae1658aa6528f62d80f86a9dca1a1e7747556",
    "v0004_taken_back.py": "c2f805d5e4682916e4b8a1d11e8fabed63a6944fe62b3d03dcef1b7ab370cc08",
    "v0005_proof.py": "3cf0e4ca676bce549386dba87e7db7ee535f891ba9772590a1778634e1f7b935",
}


def test_what_has_landed_does_not_change() -> None:
    versions = ROOT / "storage" / "migrations" / "versions"
    assert {name: sha256((versions / name).read_bytes()).hexdigest() for name in FROZEN} == FROZEN


def test_tables_of_a_newer_version_are_known_as_such(db: Database) -> None:
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9999'")
    assert db.tables_are() == "ahead"


def test_up_down_and_up_again(empty: Database) -> None:
    assert empty.tables_are() == "behind"
    empty.upgrade()
    tables = set(inspect(empty.engine).get_table_names())
    assert set(SQLModel.metadata.tables) | {"alembic_version"} == tables
    command.downgrade(empty.migrations(), "base")
    assert set(inspect(empty.engine).get_table_names()) == {"alembic_version"}
    if not empty.is_sqlite:
        with empty.engine.connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM pg_proc WHERE proname = 'clearlot_append_only'"))
            assert left.scalar_one() == 0
    assert empty.tables_are() == "behind"
    empty.upgrade()
    assert set(inspect(empty.engine).get_table_names()) == tables


def clearlot(tmp_path: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLEARLOT_")}
    given = {"DATABASE_URL": url, "DATA": str(tmp_path / "data"), "SECRET": SECRET, "SIGNING_KEY": SIGNING_KEY,
             "REDIS_URL": "redis://127.0.0.1:1/0", "PORT": str(servers.free_port())}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "web.cli", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=servers.PATIENCE_S, env=env | {f"CLEARLOT_{name}": value for name, value in given.items()},
    )  # fmt: skip


@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_a_node_refuses_a_database_that_is_not_migrated_and_says_what_to_do(empty_url: str, tmp_path: Path) -> None:
    for arguments in (["serve"], ["worker"]):
        refused = clearlot(tmp_path, empty_url, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1] == (
            "clearlot: the database's tables are not those of this version; run `clearlot migrate` first."
        )
        assert "Traceback" not in refused.stderr
    with ThreadPoolExecutor(2) as both:  # at once: the second finds it done
        made = list(both.map(lambda _: clearlot(tmp_path, empty_url, "migrate"), range(2)))
    assert [one.returncode for one in made] == [0, 0], made
    assert {one.stdout for one in made} == {"tables are up to date\n"}
    database = Database(empty_url)
    assert database.tables_are() == "ok"
    database.close()


def test_a_database_that_does_not_answer_is_said_without_its_address(tmp_path: Path) -> None:
    url = "postgresql+psycopg://clearlot:hunter2@127.0.0.1:1/clearlot"
    for arguments in (["serve"], ["migrate"]):
        refused = clearlot(tmp_path, url, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("clearlot: the database does not answer")
        assert "hunter2" not in refused.stderr
