"""The guard: whose request it is, and whether it may come in."""

from __future__ import annotations

import base64
import inspect
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.web.conftest import ORIGIN, SECRET, SIGNING_KEY, Site, settings_for
from web import parties
from web.app import create_app
from web.security import (
    BadSettings,
    Limits,
    accepted_language,
    check_settings,
    cookie_name,
    load_secrets,
    make_link_token,
    read_link_token,
)


def test_a_form_without_its_token_changes_nothing(site: Site) -> None:
    person, other = site.person("investor"), site.person("investor")
    for csrf in ("", "wrong", other.csrf, site.guest().csrf):
        person_csrf, person.csrf = person.csrf, csrf
        answer = person.post("/settings/language", {"language": "zh"})
        person.csrf = person_csrf
        assert (answer.status_code, "csrf" in answer.text) == (403, True)
    assert person.post("/settings/language", {"language": "zh"}).status_code == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ORIGIN}, 303),
        ({"Origin": "http://localhost:8000"}, 303),
        ({"Origin": "http://127.0.0.1:8001"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({}, 403),
    ],
)
def test_a_form_comes_from_our_own_pages(demo_site: Site, headers: dict[str, str], status: int) -> None:
    person = demo_site.person("investor")
    data = {"csrf": person.csrf, "language": "zh"}
    assert person.client.post("/settings/language", data=data, headers=headers).status_code == status


def test_the_token_is_found_at_the_head_of_a_file_form_and_nowhere_else(demo_site: Site) -> None:
    person = demo_site.person("investor")

    def send(body: bytes) -> int:
        headers = {"Origin": ORIGIN, "Content-Type": "multipart/form-data; boundary=b"}
        return person.client.post("/settings/language", content=body, headers=headers).status_code

    field = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    csrf, language = field % (b"csrf", person.csrf.encode()), field % (b"language", b"zh")
    assert send(csrf + language + b"--b--\r\n") == 303
    assert send(language + csrf + b"--b--\r\n") == 403
    assert send(language + b"--b--\r\n") == 403
    assert send(b"") == 403


def test_the_api_takes_a_session_only_with_its_token(demo_site: Site) -> None:
    person = demo_site.person("asset_manager")
    address = "/api/v1/lots"
    refused = person.client.post(address, json={}, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf")
    assert person.api("POST", "/lots", json={}).status_code != 403


def test_a_wrong_key_is_nobody_even_beside_a_good_session(demo_site: Site) -> None:
    person = demo_site.person("operator")
    answer = person.get("/api/v1/me", headers={"Authorization": "Bearer clk_00000000_" + "x" * 43})
    assert (answer.status_code, answer.json()["code"]) == (401, "key_unknown")


def test_another_host_name_is_refused_but_health_is_told(demo_site: Site) -> None:
    guest = demo_site.guest()
    assert guest.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert guest.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_floods_are_slowed_and_say_until_when(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.security.REQUESTS_PER_SECOND", 0.01)
    monkeypatch.setattr("web.security.REQUESTS_BURST", 5)
    app = create_app(settings_for(tmp_path / "data", database_url=sqlite_url))
    with TestClient(app, base_url=ORIGIN) as first:
        site = Site(app, first)
        guest = site.guest()  # one of the five
        answers = [guest.get("/sign-in") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert site.person("investor").get("/settings").status_code == 200, "others are not slowed"


def test_a_bucket_refills_and_is_bounded() -> None:
    limits = Limits(per_second=2, burst=3)
    assert [limits.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limits.wait_s("a", 0.5) == 0
    assert limits.wait_s("b", 0.5) == 0


@pytest.mark.parametrize(
    "address", ["//evil.example", "/\\evil.example", "https://evil.example", "/ok\nSet-Cookie: a=b", "x"]
)
def test_after_signing_in_one_stays_here(address: str) -> None:
    assert parties._local(address) == ""


def test_a_guest_comes_back_to_where_he_was(demo_site: Site) -> None:
    answer = demo_site.guest().get("/parties?status=admitted")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/parties%3Fstatus%3Dadmitted")


def test_unknown_people_are_checked_against_a_hash_too() -> None:
    # Same time by construction: one verification on either path, with the same parameters.
    source = inspect.getsource(parties.sign_in)
    assert source.count("verify(") == 1
    assert parties.NOBODY.split("$")[3] == parties.HASHER.hash("x").split("$")[3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "http://clearlot.example"}, "https"),
        ({"base_url": "clearlot.example"}, "origin"),
        ({"demo": True, "host": "0.0.0.0"}, "DEMO"),
        ({"demo": True, "base_url": "https://clearlot.example"}, "DEMO"),
        ({"database_url": "postgresql+psycopg://x/y", "secret": ""}, "SECRET is missing"),
        ({"redis_url": "redis://x", "secret": "change-me-change-me-change-me-change-me"}, "example"),
        ({"redis_url": "redis://x", "secret": "a" * 64}, "example"),
        ({"secret": "too short"}, "too short"),
        ({"redis_url": "redis://x", "signing_key": ""}, "SIGNING_KEY is missing"),
        ({"signing_key": "not base64"}, "SIGNING_KEY must be"),
        ({"signing_key": base64.b64encode(bytes(32)).decode()}, "example"),
    ],
)
def test_a_start_that_is_not_safe_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadSettings, match=words) as refused:
        check_settings(settings_for(tmp_path, **changes))
    assert SECRET not in str(refused.value)
    assert SIGNING_KEY not in str(refused.value)


def test_the_embedded_default_makes_its_own_secrets_once(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", secret="", signing_key="")
    check_settings(settings)
    first = load_secrets(settings)
    assert load_secrets(settings) == first
    assert first.secret != first.signing_key
    assert load_secrets(settings_for(tmp_path / "other", secret="", signing_key="")).secret != first.secret
    for name in ("secret.key", "signing.key"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600


def test_cookies_are_bound_to_the_host_behind_https(tmp_path: Path) -> None:
    assert cookie_name(settings_for(tmp_path)) == "clearlot-session"
    assert cookie_name(settings_for(tmp_path, base_url="https://clearlot.example")) == "__Host-clearlot-session"


def test_a_link_is_signed_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_link_token(b"s" * 32, 7)
    assert read_link_token(b"s" * 32, token) == 7
    assert read_link_token(b"t" * 32, token) is None
    assert read_link_token(b"s" * 32, "8" + token[1:]) is None
    assert read_link_token(b"s" * 32, "") is None
    monkeypatch.setattr("web.security.time.time", lambda: 4_000_000_000.0)
    assert read_link_token(b"s" * 32, token) is None


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-TW;q=0.3, en;q=0.9", "en"),
        ("zh;q=x", "en"),
        ("fr, zh-Hans;q=0.2", "zh"),
        (",,,", "en"),
    ],
)
def test_the_accepted_language(header: str, language: str) -> None:
    assert accepted_language(header) == language
