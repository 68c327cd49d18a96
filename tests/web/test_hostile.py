"""Every door, walked by people who mean harm: what they send changes nothing, breaks nothing and tells them nothing.

The doors are found in the route table (tests/web/busy.py), so a new one is walked from its first day. What belongs to one
subject alone (the cells of a tape, the chain of a statement) stands in that subject's tests.
"""

# ruff: noqa: E501 - tables of hostile values
from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx2 import Response
from sqlmodel import Session

from storage import tables
from tests.web.busy import INSIDE, SECRETS, Busy, busy_site
from tests.web.conftest import ORIGIN, Visit
from tests.web.lot_world import DRAFT, ITEM, terms
from web.app import MAX_BODY_BYTES

STRANGERS = ("guest", "other creditor", "other investor", "registered", "servicer")
# What everybody may see of a published lot; of all else the ids in an address are nobody's business.
OPEN = re.compile(
    r"/lots/\d+|/lots/\d+/frozen.json|/auctions/\d+/(live|mine|journal.jsonl|checkpoint.json|calendar.ics)|/pictures/\d+/(small|full|x)"
    r"|/api/v1/(lots/\d+|auctions/\d+|auctions/\d+/entries)"
)
BIG = 10**30
TOO_BIG = b"x" * (MAX_BODY_BYTES + 1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def busy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    """One marketplace for this module; no test may change it, which is what is tested."""
    folder: Path = tmp_path_factory.mktemp("busy")
    with busy_site(folder, request.param) as made:
        yield made


def check(answer: Response, what: object) -> None:
    """Hold what every answer promises: no crash, nothing from the inside, the headers."""
    assert answer.status_code < 500, (what, answer.text[:2000])
    kind = answer.headers.get("content-type", "")
    text = "" if "/metrics" in str(what) or kind.startswith(("image/", "application/x-ndjson")) else answer.text
    for word in INSIDE:
        assert word not in text, (what, word, text[:3000])
    assert answer.headers["x-content-type-options"] == "nosniff", what
    assert "default-src" in answer.headers["content-security-policy"] or "sandbox" in answer.headers[
        "content-security-policy"], what  # fmt: skip
    assert answer.headers["x-request-id"], what
    if answer.status_code >= 400 and "/api/v1" in str(what):
        assert kind == "application/problem+json", (what, kind)


def changed(busy: Busy, before: dict[str, list[tuple[Any, ...]]]) -> set[str]:
    """The tables that are not as they were."""
    return {name for name, rows in busy.dump().items() if rows != before[name]}


def owner_of(busy: Busy, path: str) -> Visit:
    """Who is at home at an address."""
    path = path.removeprefix("/api/v1")
    if path.startswith(
        (
            "/lots/queue",
            "/parties",
            "/participations",
            "/statements",
            "/reconciliation",
            "/ledger",
            "/trace",
            "/outbox",
            "/jobs",
            "/payouts",
        )
    ):
        return busy.people["operator"]
    if "/control/" in path or path.endswith("/publish"):
        return busy.people["operator"]
    if path.startswith("/sales"):
        return busy.people["operator" if path.endswith(("/default", "/costs")) else "buyer"]
    if path.startswith(("/auctions", "/bids")):
        return busy.people["bidder 1"]
    if path.startswith(("/register", "/sign-in", "/demo")):
        return busy.site.guest()
    return busy.people["creditor"]


# --- GET changes nothing, and who may not see it sees nothing (rules 2, 16, 18) -----------------------


@pytest.mark.parametrize("who", ["guest", "creditor", "operator", "bidder 1", "buyer", "seller", "servicer"])
def test_reading_changes_nothing(busy: Busy, who: str) -> None:
    visit, before = busy.people[who], busy.dump()
    for _method, path, _size in busy.routes("GET"):
        for address in busy.fill(path):
            for more in (
                "",
                "?lang=zh",
                "?after=9&before=5&page=3&q=x&status=paid&step=terms&by=size&as=json&answer=3",
            ):
                answer = visit.get(address + more, headers={"HX-Request": "true"} if more else {})
                check(answer, (who, address + more))
    assert changed(busy, before) == set()


@pytest.mark.parametrize("who", STRANGERS)
def test_what_is_not_ones_own_is_not_there(busy: Busy, who: str) -> None:
    visit = busy.people[who]
    wrong = []
    for _method, path, _size in busy.routes("GET"):
        for address in busy.fill(path):
            answer = visit.get(address)
            check(answer, (who, address))
            for name in (*SECRETS, "Hidden portfolio", "Hidden draft"):
                assert name not in answer.text, (who, address, name)
            ids = "{" in path and not OPEN.fullmatch(address)
            turned_away = answer.status_code in (401, 403, 404) or "/sign-in" in answer.headers.get("location", "")
            if ids and not turned_away:
                wrong.append((address, answer.status_code))
    assert not wrong


def test_a_bidder_learns_no_other_name(busy: Busy) -> None:
    for who, own in (("bidder 1", SECRETS[0]), ("bidder 2", SECRETS[1])):
        for _method, path, _size in busy.routes("GET"):
            for address in busy.fill(path):
                answer = busy.people[who].get(address)
                for name in SECRETS:
                    known = own if name != "hidden.example" else "bidder0@" if own == SECRETS[0] else "bidder1@"
                    if name == own or address.startswith("/settings"):
                        continue
                    assert name not in answer.text, (who, address, known)


def test_a_seller_and_a_buyer_do_not_learn_their_names(busy: Busy) -> None:
    """The creditor of a sold lot knows his buyer as a number, until a deed must name him."""
    for address in ("/sales", f"/sales/{busy.sale_id}", f"/sales/{busy.sale_id}/invoice"):
        assert "Unknown payer" not in busy.people["seller"].get(address).text
        assert SECRETS[1] not in busy.people["buyer"].get(address).text


@pytest.mark.parametrize("who", ["operator", "creditor", "bidder 1", "guest"])
def test_an_id_of_any_size_is_an_answer(busy: Busy, who: str) -> None:
    for _method, path, _size in busy.routes("GET"):
        if "{" not in path:
            continue
        for number in (0, 2**31, 2**53, 2**63, BIG, "9" * 5000):
            address = re.sub(r"\{\w+(:int)?\}", str(number), path)
            answer = busy.people[who].get(address)
            check(answer, (who, path, str(number)[:40]))
            assert answer.status_code in (303, 401, 403, 404, 422), (path, str(number)[:40], answer.status_code)


ODD = (
    "\x00",
    "%",
    "'; --",
    "\u202e",
    "９",
    "٣",
    "1e9",
    "-1",
    "NaN",
    "9" * 400,
    "9" * 5000,
    str(BIG),
    "<script>",
    "é" * 300,
)


@pytest.mark.parametrize("who", ["operator", "creditor", "bidder 1", "guest"])
def test_a_query_of_any_kind_is_an_answer(busy: Busy, who: str) -> None:
    names = ("after", "before", "page", "q", "status", "step", "by", "as", "answer", "kind", "least", "most", "currency",
             "tape", "bucket", "product", "loan", "line", "lang", "theme", "next", "cursor", "limit", "state", "sort",
             "ruleset", "watched", "region")  # fmt: skip
    for _method, path, _size in busy.routes("GET"):
        address = busy.fill(path)[0]
        for odd in ODD:
            params = dict.fromkeys(names if len(odd) < 500 else ("after", "answer", "q"), odd)
            answer = busy.people[who].get(address, params=params)
            check(answer, (who, address, odd[:20]))
            assert (
                "<script>" not in re.sub(r"<script src=", "", answer.text) or "json" in answer.headers["content-type"]
            )


# --- who may not send (rules 16, 18) -------------------------------------------------------------------


def send(visit: Visit, address: str, values: dict[str, Any] | None = None, **more: Any) -> Response:
    """A form to a page, JSON to the API, as our own clients would."""
    if address.startswith("/api/v1"):
        return visit.api("POST", address.removeprefix("/api/v1"), json=values or {}, **more)
    return visit.post(address, values, **more)


def test_nothing_is_taken_from_another_page_or_without_its_token(busy: Busy) -> None:
    before = busy.dump()
    for _method, path, _size in busy.routes("POST"):
        for address in busy.fill(path):
            visit = owner_of(busy, address)
            for csrf, headers in (
                ("", {"Origin": ORIGIN}),
                ("x" * 43, {"Origin": ORIGIN}),
                (busy.people["other creditor"].csrf, {"Origin": ORIGIN}),
                (visit.csrf, {}),
                (visit.csrf, {"Origin": "https://evil.example"}),
                (visit.csrf, {"Origin": "null"}),
                (visit.csrf, {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}),
                (visit.csrf, {"Origin": ORIGIN + ".evil.example"}),
            ):
                answer = visit.client.post(address, data={"csrf": csrf}, headers=headers)
                check(answer, (address, headers))
                assert answer.status_code == 403, (address, headers, answer.status_code)
    assert changed(busy, before) == set()


# What everybody may send: it is his own.
OWN = ("/sign-in", "/sign-out", "/demo", "/register", "/settings", "/verify")


@pytest.mark.parametrize("who", ["other creditor", "other investor", "servicer", "registered"])
def test_nobody_sends_for_another(busy: Busy, who: str) -> None:
    """With every field right and only the person wrong: 403 for the wrong role, 404 for the wrong party."""
    visit, before = busy.people[who], busy.dump()
    wrong = []
    for _method, path, _size in busy.routes("POST"):
        if path.startswith(OWN) or "{" not in path:
            continue
        for address in busy.fill(path):
            if re.fullmatch(
                r"(/api/v1)?/auctions/\d+/participations|/auctions/\d+/(bids|proxy|confirm-from)|/lots/\d+/watch",
                address,
            ):
                continue  # an investor's own: tested with the rooms
            answer = send(visit, address, values_for(busy, address), **files_for(address))
            check(answer, (who, address))
            if address.startswith("/api/v1") and answer.status_code == 422:
                continue
            if answer.status_code not in (403, 404):
                wrong.append((address, answer.status_code))
    assert not wrong
    assert changed(busy, before) == set()


def test_a_guest_sends_nothing(busy: Busy) -> None:
    visit, before = busy.people["guest"], busy.dump()
    for _method, path, _size in busy.routes("POST"):
        if path.startswith(OWN) and not path.startswith("/settings"):
            continue
        for address in busy.fill(path):
            answer = send(visit, address, values_for(busy, address), **files_for(address))
            check(answer, ("guest", address))
            assert answer.status_code in (401, 403), (address, answer.status_code)
    assert changed(busy, before) == set()


# --- what may not be sent (rules 1-6) -------------------------------------------------------------------


def values_for(busy: Busy, address: str) -> dict[str, Any]:
    """A form as its page would send it."""
    path = re.sub(r"\d+", "#", address.removeprefix("/api/v1"))
    if path == "/lots":
        return {"kind": "vehicle", "content_id": str(busy.item_id), **DRAFT}
    if path == "/lots/#/edit/terms":
        return dict(terms())
    if path.startswith(("/lots/#/edit/texts", "/lots/#/edit/what")):
        return {"kind": "vehicle", **DRAFT}
    if path in ("/collateral", "/collateral/#"):
        return dict(ITEM)
    return {
        "/parties/#/decide": {"status": "suspended", "reason": "why"},
        "/lots/queue/#/send-back": {"reason": "why"},
        "/participations/#/refuse": {"reason": "why"},
        "/participations/#/approve": {"priority_rank": "1"},
        "/auctions/#/bids": {"command_id": "c1", "amount": "900000.00", "confirmed": "yes"},
        "/auctions/#/proxy": {"command_id": "c2", "maximum": "990000.00", "confirmed": "yes"},
        "/auctions/#/participations": {"agreed": "on", "agreement": "x", "limit": "1000000.00"},
        "/auctions/#/control/pause": {"reason": "why"},
        "/auctions/#/control/withdraw": {"reason": "why"},
        "/sales/#/default": {"reason": "the letter of today", "confirm": "yes"},
        "/sales/#/costs": {"costs": "1.00"},
        "/tapes": {"cutoff_on": "2026-10-31", "currency": "CNY", "mapping": ""},
        "/tapes/#/order": {"reason": "They are tests of ours."},
        "/tapes/#/mapping": {"name": "ours", "field-0": "loan_id", "field-1": "principal", "field-2": "dpd", "missing": "x"},
        "/portfolios": {"name": "A portfolio"},
        "/reconciliation/#/match": {"expected": "1"},
        "/reconciliation/#/not-ours": {"reason": "why"},
        "/collateral/#/pictures": {"caption_zh": "x", "caption_en": "x"},
        "/collateral/#/pictures/#": {"move": "first"},
        "/register": {"kind": "organisation", "party_name": "A Name", "country": "CN", "iban": "NL91ABNA0417164300",
                      "role": "investor", "person_name": "A Person", "email": "a@example.org",
                      "password": "correct horse battery", "authority": "on", "funds": "on", "terms": "on"},
        "/sign-in": {"email": "a@example.org", "password": "x", "next": "/home"},
        "/demo/sign-in": {"token": "x.y.z"},
        "/settings/language": {"language": "en"},
        "/settings/password": {"password": "x", "new_password": "correct horse battery", "again": "correct horse battery"},
        "/settings/keys": {"name": "k", "scopes": "read"},
        "/lots/#/watch": {"follow": "yes", "next": "/lots"},
        "/statements": {"gap_consent": "on"},
        "/verify": {"head": "1:" + "0" * 64},
    }.get(path, {})  # fmt: skip


def files_for(address: str) -> dict[str, Any]:
    """The file that a form takes, as an argument of `post`."""
    name = {"/tapes": "file", "/statements": "file", "/verify": "journal"}.get(address)
    if address.endswith("/pictures"):
        name = "picture"
    return {"files": {name: ("x", io.BytesIO(b"junk"), "text/plain")}} if name else {}


HIDDEN = ("\x00", "\u202e", "\u200b", "\u2066", "\ufeff", "\x1b[31m", "\ud7ff\U000e0041", "\x85", "a\rb", "a\x0bb")
LONG = "Ω" * 20_000
HOSTILE = (*(f"ab{one}cd" for one in HIDDEN), LONG, "9" * 5000, "٣", "-1", "1e5", "NaN", "Infinity", "+1", "1,000.00", "0x10",
           "1_0", " 1 0", "2026-02-30", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00+14:00", "true", "[]", "{}",
           "' OR 1=1 --", "${7*7}", "{{7*7}}", "../../etc/passwd", "")  # fmt: skip
# What was refused is kept nowhere.
KEPT_NOWHERE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2066\u202e\ufeff\U000e0041]|Ω{3000}")


def test_no_field_takes_what_is_not_for_it(busy: Busy) -> None:
    """Each field of each form, each hostile value: a refusal with a sentence, or it was harmless; never a crash."""
    for _method, path, _size in busy.routes("POST"):
        if path.startswith(
            ("/api/v1", "/sign-out", "/settings/sessions", "/lots/queue/", "/auctions/{id:int}/control")
        ):
            continue  # JSON has its own test; the others end what the next test needs
        address = busy.fill(path)[0]
        visit, values = owner_of(busy, address), values_for(busy, address)
        if path.endswith("/decide") or "/keys/" in path or path.startswith("/participations"):
            values.pop("priority_rank", None)
        for name in values:
            for value in HOSTILE:
                if (
                    address in ("/sign-in", "/settings/password", "/register")
                    and len(value) < 20
                    and not value.isascii()
                ):
                    continue  # each try hashes a password
                answer = visit.post(address, {**values, name: value}, **files_for(address))
                check(answer, (address, name, value[:20]))
    for table, rows in busy.dump().items():
        if table in ("entry", "outbox"):
            continue
        for row in rows:
            assert not KEPT_NOWHERE.search("\n".join(row)), (table, row)


def test_a_file_is_no_text_and_text_is_no_file(busy: Busy) -> None:
    for _method, path, _size in busy.routes("POST"):
        if path.startswith(("/api/v1", "/sign-out", "/settings/sessions", "/settings/keys/")):
            continue
        address = busy.fill(path)[-1]
        visit, values = owner_of(busy, address), values_for(busy, address)
        for name in [*values, *(files_for(address).get("files") or {})]:
            rest = {one: value for one, value in values.items() if one != name}
            answer = visit.post(address, rest, files={name: ("a.txt", b"junk", "text/plain")})
            check(answer, (address, name, "file"))
            check(visit.post(address, {**rest, name: "text"}), (address, name, "text"))


def test_a_body_is_bounded_before_it_is_read(busy: Busy) -> None:
    before = busy.dump()
    takes_files = ("/tapes", "/statements", "/verify", "/api/v1/tapes")
    for _method, path, _size in busy.routes("POST"):
        if path in takes_files or path.endswith("/pictures"):
            continue
        address = busy.fill(path)[0]
        visit = owner_of(busy, address)
        headers = {"Origin": ORIGIN, "X-CSRF-Token": visit.csrf, "Content-Type": "application/x-www-form-urlencoded"}
        if address.startswith("/api/v1"):
            headers["Content-Type"] = "application/json"
        if re.search(
            r"/(submit|publish|approve|return|revoke|end|try-again|read)$|/sign-out|/resume|/register|/demo", address
        ):
            continue  # their bodies are not read, or their role is another one
        answer = visit.client.post(address, content=TOO_BIG, headers=headers)
        check(answer, (address, "too big"))
        assert answer.status_code == 413, (address, answer.status_code)
        pieces = (TOO_BIG[:65536] for _ in range(len(TOO_BIG) // 65536 + 2))
        answer = visit.client.post(address, content=pieces, headers=headers)
        assert answer.status_code == 413, (address, "in pieces", answer.status_code)
    assert changed(busy, before) == set()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"), ("application/json", b"[]"), ("application/json", b'"x"'), ("application/json", b""),
        ("application/json", b'{"a": NaN}'), ("application/json", b'{"a": 1, "a": 2}'), ("application/json", b"\xff\xfe{}"),
        ("application/json", b'{"a":' + b"[" * 20 + b"]" * 20 + b"}"), ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":"\\ud800"}'), ("application/json", b'{"a": 1' + b"0" * 5000 + b"}"),
        ("application/json", b'{"a": 1e999}'), ("application/json", b"{" + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}"),
        ("text/plain", b"{}"), ("", b"{}"), ("application/x-www-form-urlencoded", b"a=1"), ("application/json; charset=utf-16", b"{\x00}\x00"),
        ("multipart/form-data; boundary=x", b"--x\r\n"), ("multipart/form-data", b"--x\r\n"), ("application/json", b'{"unknown": 1}'),
    ],
)  # fmt: skip
def test_json_is_one_object_as_the_rules_say(busy: Busy, kind: str, body: bytes) -> None:
    before = busy.dump()
    for _method, path, _size in busy.routes("POST"):
        if not path.startswith("/api/v1") or re.search(r"/(submit|publish|approve)$", path):
            continue
        address = busy.fill(path)[0]
        visit = owner_of(busy, address)
        headers = {"Origin": ORIGIN, "X-CSRF-Token": visit.csrf, "Idempotency-Key": uuid4().hex}
        if kind:
            headers["Content-Type"] = kind
        answer = visit.client.post(address, content=body, headers=headers)
        check(answer, (address, kind, body[:40]))
        assert answer.status_code in (400, 415, 422), (address, answer.status_code, answer.text[:500])
        assert answer.json()["code"], answer.text
    assert changed(busy, before) == set()


@pytest.mark.parametrize(
    "body",
    [b"%ff=%fe", b"a=%00", b"=&=&=", b"&" * 5000, b"a=1&" * 5000, b"csrf", b"\x00\x01\x02", b"a[]=1&a[0][b]=2", b"%"],
)
def test_a_form_of_any_bytes_is_an_answer(busy: Busy, body: bytes) -> None:
    before = busy.dump()
    for _method, path, _size in busy.routes("POST"):
        if path.startswith(("/api/v1", "/sign-out", "/settings/sessions", "/settings/keys/")) or re.search(
            r"return|resume|approve|put-away|submit|publish|watch|pictures/|edit/|notices/read|try-again|confirm-from",
            path + busy.fill(path)[0],
        ):
            continue  # what needs no field is done by an empty form
        address = busy.fill(path)[0]
        visit = owner_of(busy, address)
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "text/plain",
        ):
            headers = {"Origin": ORIGIN, "X-CSRF-Token": visit.csrf, "Content-Type": kind}
            answer = visit.client.post(address, content=body, headers=headers)
            check(answer, (address, kind, body[:20]))
            # Where a form is only looked at before it is confirmed, anything gets that look.
            reviews = ("/lots/queue/{id:int}/{decision}", "/sales/{id:int}/default")
            assert answer.status_code >= 400 or path in reviews, (address, kind, body[:20])
    assert changed(busy, before) <= {"signinfailure"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "LINK"])
def test_a_method_that_a_door_does_not_have(busy: Busy, method: str) -> None:
    operator = busy.people["operator"]
    for path in ("/", "/lots", "/api/v1/lots", "/api/v1/nothing", "/nothing", "/static/clearlot.css"):
        headers = {"Origin": ORIGIN, "X-CSRF-Token": operator.csrf}
        answer = operator.client.request(method, path, headers=headers)
        assert answer.status_code in (403, 404, 405, 501), (path, answer.status_code)


# --- names that look the same (rule 6) --------------------------------------------------------------------


def register(busy: Busy, **more: str) -> Response:
    return busy.site.guest().post(
        "/register", {**values_for(busy, "/register"), "email": f"{uuid4().hex}@example.org", **more}
    )


def test_two_parties_do_not_look_the_same(busy: Busy) -> None:
    assert register(busy, party_name="Lookalike Capital").status_code == 303
    for name in ("lookalike capital", "LOOKALIKE  CAPITAL", "Ｌｏｏｋａｌｉｋｅ Ｃａｐｉｔａｌ", "Lookalike\u00a0Capital",
                 "Lооkalike Capital"):  # the last has Cyrillic o  # fmt: skip
        answer = register(busy, party_name=name)
        assert answer.status_code == 422, name


# --- sessions (rule 17) -------------------------------------------------------------------------------------


def test_a_reader_locked_out_is_out_at_once(busy: Busy) -> None:
    """A person who is locked, or whose party is suspended, has no session and no role any more (rule 17)."""
    visit = busy.site.person("operator", name=f"Gone {uuid4().hex[:6]}")
    assert visit.get("/parties").status_code == 200

    def lock(session: Session) -> None:
        person = session.get_one(tables.Person, visit.person_id)
        person.locked = True
        session.add(person)

    busy.site.db.in_transaction(lock)
    assert visit.get("/parties").status_code == 303
