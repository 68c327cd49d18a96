"""What must be right before a server starts, and what a person at the terminal is told."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from alembic import command
from typer.testing import CliRunner

from storage.database import Database
from tests.conftest import ROOT
from web import cli
from web.logs import configure_logs
from web.serving import CannotStart, bring_up
from web.settings import Settings


@pytest.fixture
def chosen(tmp_path: Path, sqlite_url: str) -> Settings:
    """The settings of a folder with an empty database of this version."""
    assert sqlite_url == f"sqlite:///{tmp_path / 'clearlot.db'}"
    return Settings(data=tmp_path)


def change(chosen: Settings, statement: str) -> None:
    database = Database(chosen.database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    database.close()


def test_an_earlier_versions_folder_is_upgraded(tmp_path: Path) -> None:
    chosen = Settings(data=tmp_path)
    database = Database(chosen.database)
    command.upgrade(database.migrations(), "0002")
    assert database.tables_are() == "behind"
    said: list[str] = []
    bring_up(chosen, said.append)
    assert said == ["upgrading  the tables of an earlier version"]
    assert database.tables_are() == "ok"
    database.close()
    bring_up(chosen, said.append)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE alembic_version SET version_num = 'v9999'", "a newer version"),
        ("ALTER TABLE outbox DROP COLUMN error", "no outbox.error"),
        ("DROP TABLE alembic_version", "already exists"),
    ],
)
def test_a_folder_that_cannot_be_used_is_left_as_it_is_and_said(chosen: Settings, statement: str, why: str) -> None:
    change(chosen, statement)
    before = (chosen.data / "clearlot.db").read_bytes()
    with pytest.raises(CannotStart, match=why) as refused:
        bring_up(chosen, print)
    assert "--data" in str(refused.value)
    assert (chosen.data / "clearlot.db").read_bytes() == before


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "clearlot.db").write_bytes(b"not a database" * 100)
    with pytest.raises(CannotStart, match="not a database"):
        bring_up(Settings(data=tmp_path), print)


def test_the_terminal_gets_a_line_for_a_problem_and_the_file_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clearlot.log"
    configure_logs("INFO", file)
    ours, theirs = structlog.get_logger("web"), logging.getLogger("a library")
    ours.info("request", path="/")
    ours.warning("redis", reason="away\nand more")
    theirs.info("chatter")
    for log in (ours, theirs):
        try:
            raise ValueError("not so")
        except ValueError:
            log.exception("task failed")
    assert capsys.readouterr().err.splitlines() == [
        "warning    redis reason=away and more",
        "error      task failed ValueError: not so",
        "error      task failed ValueError: not so",
    ]
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["event"] for one in kept] == ["request", "redis", "task failed", "task failed"]
    assert all("Traceback" in one["exception"] for one in kept[2:])
    configure_logs("ERROR")  # the file goes with the test


@pytest.mark.parametrize(
    ("imported", "spared"),
    [
        ("web.cli", {"web.app", "web.client", "sqlalchemy", "pydantic", "asyncio", "rich"}),
        ("web.client", {"web.app", "sqlalchemy", "pydantic", "starlette"}),
        ("web.app", {"web.demo", "web.demo_seed", "web.bench", "holidays", "redis", "minio"}),
    ],
)
def test_a_command_loads_only_what_it_works_with(imported: str, spared: set[str]) -> None:
    program = f"import sys, {imported}; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not spared & set(answer.stdout.split())


def test_an_address_that_is_taken_is_said(chosen: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = subprocess.run(
            [sys.executable, "-m", "web.cli", "run", "--no-demo", "--port", port], cwd=ROOT, capture_output=True,
            text=True, check=False, env={**os.environ, "CLEARLOT_DATA": str(chosen.data)},
        )  # fmt: skip
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1].startswith(f"clearlot: nothing can listen on 127.0.0.1:{port}; is it in use?")


@pytest.mark.parametrize("arguments", [["trace", "sale", "1"], ["replay", "1"], ["journal", "export", "1"]])
def test_a_command_on_tables_of_another_version_says_so(tmp_path: Path, arguments: list[str]) -> None:
    told = CliRunner().invoke(cli.app, arguments, env={"CLEARLOT_DATA": str(tmp_path)})
    assert told.exit_code == 1
    assert "its tables are not those of this version" in told.stderr


def test_a_trace_of_nothing_names_what_there_is(chosen: Settings) -> None:
    told = CliRunner().invoke(cli.app, ["trace", "sale", "7"], env={"CLEARLOT_DATA": str(chosen.data)})
    assert told.exit_code == 1
    assert told.stderr.startswith("clearlot: there is no sale 7; a trace begins at one of: posting,")
