"""The frame: what every answer has, and what the machines that watch us are told."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.web.conftest import Site


def test_every_answer_is_guarded(site: Site) -> None:
    visit = site.person("investor")
    for address in ("/", "/home", "/nothing-here", "/static/clearlot.css", "/api/v1/me", "/healthz"):
        headers = visit.get(address).headers
        assert "default-src 'self'" in headers["content-security-policy"], address
        assert headers["x-content-type-options"] == "nosniff"
        assert len(headers["x-request-id"]) == 16


def test_pages_carry_no_inline_script_or_style(site: Site) -> None:
    visit = site.person("operator")
    for address in ("/", "/home", "/sign-in", "/nothing-here"):
        text = visit.get(address).text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert "<script>" not in text


@pytest.mark.parametrize(
    ("asked", "html"), [("zh-CN,zh;q=0.9,en;q=0.5", "zh-Hans"), ("de,en;q=0.3", "en"), ("fr", "en")]
)
def test_the_browser_chooses_the_language(site: Site, asked: str, html: str) -> None:
    assert f'<html lang="{html}"' in site.guest().get("/", headers={"Accept-Language": asked}).text


def test_the_switch_keeps_the_language(site: Site) -> None:
    visit = site.guest()
    visit.get("/?lang=zh")
    assert '<html lang="zh-Hans"' in visit.get("/").text
    assert "/lots?lang=en" not in visit.get("/?x=1").text
    assert "/?x=1&amp;lang=en" in visit.get("/?x=1").text


def test_health(site: Site) -> None:
    visit = site.guest()
    assert visit.get("/healthz").json() == {"status": "ok"}
    assert visit.get("/readyz").json()["parts"] == {"database": "ok", "objects": "ok", "redis": "in process"}
    assert "clearlot_requests_total" in visit.get("/metrics").text


@pytest.mark.parametrize(
    ("version", "state", "status"), [("0001", "behind", 503), ("v9999", "ahead", 200), (None, "behind", 503)]
)
def test_readyz_says_how_the_tables_stand(site: Site, version: str | None, state: str, status: int) -> None:
    with site.db.engine.begin() as connection:
        kept = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("DELETE FROM alembic_version"))
        if version is not None:
            connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
    answer = site.guest().get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["database"]) == (status, state)
    with site.db.engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": kept})


def test_a_failure_says_nothing_of_the_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = site.guest()
    site.db.engine.dispose()
    with monkeypatch.context() as patched:
        # A handler that fails for a reason that nobody foresaw.
        patched.setattr("web.home.page", lambda *_args, **_more: 1 / 0)
        answer = visit.get("/")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] in answer.text


def test_too_large_a_body_is_refused_before_it_is_read(site: Site) -> None:
    answer = site.guest().post("/sign-in", {"email": "a" * (1024 * 1024 + 1)})
    assert answer.status_code == 413
    assert "too_large" in answer.text


def test_a_public_journal_is_checked_and_a_bad_one_says_why(demo_site: Site) -> None:
    guest = demo_site.guest()

    def send(content: bytes, head: str = "") -> str:
        answer = guest.post("/verify", {"head": head}, files={"journal": ("j.jsonl", content)})
        assert answer.status_code in (200, 422)
        return str(answer.text)

    assert "Not good" in send(b"{}\n")
    assert "it is not UTF-8 text" in send(b"\xff\xfe")
    assert "a colon and its hash" in send(b"{}\n", head="nonsense")
    assert "This is needed" in guest.post("/verify", files={"journal": ("", b"")}).text
