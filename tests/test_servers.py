"""The servers that tests run against are real, and fresh for every test."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from minio import Minio
from minio.error import S3Error

from tests import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from storage.database import Database
    from tests.conftest import S3


@pytest.mark.parametrize("visit", [1, 2])
def test_each_test_has_a_database_of_its_own(db: Database, visit: int) -> None:
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE visits (n INTEGER)")  # fails if the other visit's is still there
        connection.exec_driver_sql(f"INSERT INTO visits VALUES ({visit})")
        assert connection.exec_driver_sql("SELECT n FROM visits").scalar() == visit


def test_postgresql_answers_in_utc(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)


@pytest.mark.parametrize("visit", [1, 2])
def test_redis_is_empty_at_the_start(redis_url: str, visit: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("visit", visit)
        assert client.get("visit") == str(visit).encode()


def test_s3_keeps_bytes_and_checks_the_key(s3: S3) -> None:
    client = Minio(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, secure=False)
    client.put_object(bucket_name=s3.bucket, object_name="a/b", data=io.BytesIO(b"overdue"), length=7)
    answer = client.get_object(bucket_name=s3.bucket, object_name="a/b")
    assert answer.read() == b"overdue"
    stranger = Minio(endpoint=s3.endpoint, access_key=s3.access_key, secret_key="another", secure=False)
    with pytest.raises(S3Error):
        stranger.get_object(bucket_name=s3.bucket, object_name="a/b")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write("<!doctype html><title>拍卖</title><p style='font-family:sans-serif'>逾期账户".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_chromium_shows_a_page_with_real_chinese_glyphs(browser: Browser) -> None:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        assert page.title() == "拍卖"
        tools = page.context.new_cdp_session(page)
        for domain in ("DOM", "CSS"):
            tools.send(f"{domain}.enable")
        root = tools.send("DOM.getDocument")["root"]["nodeId"]
        node = tools.send("DOM.querySelector", {"nodeId": root, "selector": "p"})["nodeId"]
        fonts = tools.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
        assert [font["familyName"] for font in fonts] == ["Noto Sans SC"]
        page.close()
        server.shutdown()


def test_what_is_absent_is_said_and_in_ci_fails(tmp_path: Path) -> None:
    """A session without any server, in a process of its own."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\nfrom tests.conftest import *\n"
        "@pytest.fixture\ndef server():\n    lacking('the server S')\n"
        "def test_a(server): pass\ndef test_b(server): pass\n"
    )

    def run(**env: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", servers.FOLDER)}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest", str(tmp_path)]
        root = Path(__file__).resolve().parent.parent
        return subprocess.run(
            [*command, "--rootdir", str(tmp_path)],
            env={**kept, "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    loud = run()
    assert loud.returncode == 0
    assert "NOT TESTED" in loud.stdout
    assert "2 tests skipped: the server S" in loud.stdout
    assert run(CI="true").returncode == 1


def test_a_killed_session_leaves_no_server_behind(tmp_path: Path) -> None:
    program = (
        "import os; from tests import servers; guard = servers.begin_session()\n"
        "facts = servers.once('redis', servers.redis_server)\n"
        "print(guard.pid, os.environ[servers.FOLDER], facts['url'], flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE
    )  # returns when the guard, which holds the same output open, has ended too
    _, folder, url = killed.stdout.decode().split()
    assert not Path(folder).exists()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url).ping()
