"""What tests of every ring share: both databases, real servers (tests/servers.py), a browser, the shared data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest

from tests import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from storage.database import Database

ROOT = Path(__file__).resolve().parent.parent
ABSENT = "ABSENT "  # begins the reason of every skip for want of a server or of data
# No test fails for having taken long: the machine may be doing something else.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
guard_key = pytest.StashKey[Popen[bytes]]()


# --- the session ---------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # not in a worker of pytest-xdist: those inherit the folder
        config.stash[guard_key] = servers.begin_session()


def pytest_unconfigure(config: pytest.Config) -> None:
    if guard := config.stash.get(guard_key, None):
        servers.end_session(guard)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is slow: the last test of a run, for which one worker waits, must not take two minutes.

    pytest-xdist hands out what stands together to one worker, so a file's cluster is built once.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # the order of all else stays


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    absent = [reason.partition(ABSENT)[2] for reason in reasons if ABSENT in reason]
    if absent:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for what in sorted(set(absent)):
            terminalreporter.line(f"{absent.count(what):4} tests skipped: {what}", red=True, bold=True)


def lacking(what: str) -> None:
    """Skip the test, loudly; with CI set, fail: there everything must be had."""
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and this is absent: {what}", pytrace=False)
    pytest.skip(ABSENT + what)


# --- data ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real tapes, bid histories and statements, which is not ours to publish."""
    named = os.environ.get("CLEARLOT_SHARED_DATA", "")
    if named == "none":
        lacking("the shared data: CLEARLOT_SHARED_DATA says that there is none")
    folder = Path(named or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        lacking("the shared data: not in ../shared/data, and CLEARLOT_SHARED_DATA names no folder")
    return folder


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product's client waits as long for an answer as a test does."""
    monkeypatch.setattr("web.client.ANSWER_S", servers.PATIENCE_S)


# --- databases -----------------------------------------------------------------------------------


def _sqlite_template(folder: Path) -> servers.Facts:
    path = folder / "template.db"
    _upgrade(f"sqlite:///{path}")
    return {"path": str(path)}


def _postgresql_template(folder: Path) -> servers.Facts:
    url = servers.once("postgresql", servers.postgresql)["url"]
    name = f"clearlot_template_{uuid4().hex[:8]}"
    servers.postgresql_do(url, f"CREATE DATABASE {name}")
    _upgrade(f"{url}/{name}")
    return {"url": url, "name": name}


def _upgrade(url: str) -> None:
    from storage.database import Database

    database = Database(url)
    database.upgrade()
    database.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A new SQLite database with every table."""
    path = tmp_path / "clearlot.db"
    shutil.copyfile(servers.once("sqlite", _sqlite_template)["path"], path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """A new PostgreSQL database with every table, dropped after the test."""
    try:
        template = servers.once("postgresql-template", _postgresql_template)
    except servers.Absent as absent:
        lacking(str(absent))
        raise
    url, name = template["url"], f"clearlot_{uuid4().hex[:12]}"
    servers.postgresql_do(url, f"CREATE DATABASE {name} TEMPLATE {template['name']}")
    yield f"{url}/{name}"
    servers.postgresql_do(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new database with every table: the test runs once on SQLite, once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A new database with every table: the test runs once on SQLite, once on PostgreSQL."""
    from storage.database import Database

    database = Database(database_url)
    yield database
    database.close()


# --- other servers -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> str:
    # One per worker: the channels of Redis are common to all of its databases.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    try:
        return servers.once(f"redis{worker}", servers.redis_server)["url"]
    except servers.Absent as absent:
        lacking(str(absent))
        raise


@pytest.fixture
def redis_url(_redis: str) -> str:
    """A real Redis or Valkey, empty at the start of the test."""
    import redis

    with redis.Redis.from_url(_redis) as client:
        client.flushall()
    return _redis


@dataclass(frozen=True)
class S3:
    """A real S3 server over plain HTTP on loopback."""

    endpoint: str  # host:port
    access_key: str
    secret_key: str
    bucket: str  # new for this test, empty
    has_object_lock: bool


@pytest.fixture
def s3() -> S3:
    """A real S3 server with a new bucket."""
    return new_bucket()


def new_bucket() -> S3:
    """The same, for fixtures that live longer than a test."""
    from minio import Minio

    try:
        facts = servers.once("s3", servers.s3_server)
    except servers.Absent as absent:
        lacking(str(absent))
        raise
    endpoint, access_key, secret_key = facts["endpoint"], facts["access_key"], facts["secret_key"]
    bucket = f"clearlot-{uuid4().hex[:12]}"
    client = Minio(endpoint=endpoint, access_key=access_key, secret_key=secret_key, secure=False, region="us-east-1")
    client.make_bucket(bucket_name=bucket)
    return S3(endpoint, access_key, secret_key, bucket=bucket, has_object_lock=bool(facts["locks"]))


@pytest.fixture(scope="session")
def nginx() -> str:
    """The path of nginx."""
    try:
        return servers.nginx()
    except servers.Absent as absent:
        lacking(str(absent))
        raise


# One per module, not per session: while Playwright's loop is there, no other loop runs in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for tests that are not coroutines; Chinese is shown in Noto Sans SC."""
    from playwright.sync_api import sync_playwright

    try:
        facts = servers.once("chromium", servers.chromium)
    except servers.Absent as absent:
        lacking(str(absent))
        raise
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=facts["path"], args=arguments, env={**os.environ, "FONTCONFIG_FILE": facts["fonts"]}
        )
        yield chromium
        chromium.close()
