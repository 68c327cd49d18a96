"""Registering, admission, signing in and out, settings: as the people do it."""

from __future__ import annotations

import re

import pytest
from sqlmodel import Session, select

from storage import parties
from storage.tables import AuditTrail, Party, Person, SignIn
from tests.web.conftest import Site, Visit
from web.parties import hash_password
from web.render import utc_now
from web.security import hash_token

FORM = {
    "kind": "organisation", "party_name": "Harbour Recoveries Ltd", "country": "GB", "iban": "GB29NWBK60161331926819",
    "role": "investor", "person_name": "Ann Li", "email": "Ann@Harbour.example.com",
    "password": "seven plain words are enough", "authority": "on", "funds": "on", "terms": "on",
}  # fmt: skip


def register(site: Site, **changes: str) -> Visit:
    visit = site.guest()
    answer = visit.post("/register", {**FORM, **changes})
    assert answer.status_code == 303, answer.text
    text = visit.get("/home").text
    visit.csrf = re.search(r'name="csrf" value="([^"]+)"', text).group(1)  # type: ignore[union-attr]
    return visit


def test_a_party_registers_waits_is_admitted_and_comes_back(site: Site) -> None:
    ann = register(site)
    assert "Waiting for admission" in ann.get("/home").text
    assert ann.get("/parties").status_code == 403

    operator = site.person("operator")
    listed = operator.get("/parties?status=registered").text
    assert "Harbour Recoveries Ltd" in listed
    address = re.search(r'href="(/parties/\d+)">Harbour', listed).group(1)  # type: ignore[union-attr]
    assert operator.post(f"{address}/decide", {"status": "admitted"}).status_code == 303
    record = operator.get(address).text.split("On record")[1]
    assert "Party registered" in record
    assert "Party admitted" in record
    assert "party." not in record
    before = ann.client.cookies["clearlot-session"]
    home = ann.get("/home")
    assert home.status_code == 200, "who is admitted goes on where he is"
    assert "Needs me now" in home.text
    assert ann.client.cookies["clearlot-session"] != before, "a rise in rights brings a new number"
    assert ann.post("/settings/language", {"language": "en"}).status_code == 303, "a form that was open stays good"
    other_tab = site.guest()
    other_tab.client.cookies.set("clearlot-session", before)
    assert other_tab.get("/home").status_code == 200, "what the browser sent before it had the new number"
    assert other_tab.client.cookies["clearlot-session"] == before, "is answered, and begins no third session"
    passed = utc_now() + parties.HANDOVER
    assert site.db.read(parties.signed_in, hash_token(before), at=passed) is None
    assert site.db.read(parties.signed_in, hash_token(ann.client.cookies["clearlot-session"]), at=passed) is not None

    again = site.guest()
    answer = again.post(
        "/sign-in", {"email": "ann@harbour.EXAMPLE.com", "password": FORM["password"], "next": "/settings"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    assert "Needs me now" in again.get("/home").text

    def trail(session: Session) -> list[str]:
        found = session.exec(select(AuditTrail.action).where(AuditTrail.subject == "party").order_by("id"))
        return list(found)

    assert site.db.read(trail) == ["party.register", "party.admitted"]


def test_refusing_needs_a_reason_which_the_party_reads(site: Site) -> None:
    ann = register(site)
    operator = site.person("operator")
    address = re.search(r'href="(/parties/\d+)">Harbour', operator.get("/parties").text).group(1)  # type: ignore[union-attr]
    refused = operator.post(f"{address}/decide", {"status": "refused", "reason": " "})
    assert refused.status_code == 422
    assert "Give the reason" in refused.text
    operator.post(f"{address}/decide", {"status": "refused", "reason": "The licence <b>ran out</b>."})
    back = site.guest()
    back.post("/sign-in", {"email": FORM["email"], "password": FORM["password"]})
    assert "The licence &lt;b&gt;ran out&lt;/b&gt;." in back.get("/home").text
    assert operator.post(f"{address}/decide", {"status": "suspended", "reason": "x"}).status_code == 409
    assert ann.get("/settings").status_code == 200, "it could do nothing before, so its session goes on"


def test_who_is_suspended_reads_why_where_he_is_sent(site: Site) -> None:
    ann = register(site)
    operator = site.person("operator")
    address = re.search(r'href="(/parties/\d+)">Harbour', operator.get("/parties").text).group(1)  # type: ignore[union-attr]
    operator.post(f"{address}/decide", {"status": "admitted"})
    assert ann.get("/home").status_code == 200
    assert "signed out" not in site.guest().get("/sign-in").text
    operator.post(f"{address}/decide", {"status": "suspended", "reason": "The licence <b>ran out</b>."})
    sent = ann.get("/bids")
    assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?next=/bids")
    text = ann.get("/sign-in?next=/bids").text
    assert "You have been signed out" in text
    assert "was suspended" in text
    assert "The licence &lt;b&gt;ran out&lt;/b&gt;." in text
    assert "您已退出登录" in ann.get("/sign-in?lang=zh").text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"party_name": "x"}, "length"),
        ({"party_name": "Har\u200bbour"}, "hidden_character"),
        ({"email": "no address"}, "email_format"),
        ({"password": "short"}, "password_short"),
        ({"password": "ann li is the password"}, "password_known"),
        ({"iban": "!!"}, "iban_format"),
        ({"role": "operator"}, "choice"),
        ({"country": "China"}, "country_format"),
        ({"terms": ""}, "declaration_missing"),
    ],
)
def test_a_bad_registration_says_what_is_wrong_and_changes_nothing(
    demo_site: Site, changes: dict[str, str], code: str
) -> None:
    from web.words import say

    answer = demo_site.guest().post("/register", {**FORM, **changes})
    assert answer.status_code == 422
    assert "<title>Error:" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert say(code).split("—")[0][:20].replace("'", "&#39;") in answer.text
    assert FORM["person_name"] in answer.text, "what was typed is still there"
    assert FORM["password"] not in answer.text
    assert demo_site.db.read(lambda session: session.exec(select(Person)).all()) == []


def test_names_that_look_the_same_are_the_same(site: Site) -> None:
    register(site)
    taken = site.guest().post(
        "/register", {**FORM, "party_name": "ＨＡＲＢＯＵＲ  recoveries ltd", "email": "b@example.com"}
    )
    assert taken.status_code == 422
    assert "registered already" in taken.text
    assert len(site.db.read(lambda session: session.exec(select(Party)).all())) == 1


async def give_password(site: Site, person_id: int, password: str) -> str:
    kept = await hash_password(password)

    def give(session: Session) -> str:
        person = session.get_one(Person, person_id)
        person.password_hash = kept
        session.add(person)
        return person.email

    return site.db.in_transaction(give)


async def test_unknown_and_wrong_get_the_same_answer(site: Site) -> None:
    email = await give_password(site, site.person("investor").person_id, "seven plain words are enough")
    answers = []
    for name in (email, "nobody@example.com"):
        answer = site.guest().post("/sign-in", {"email": name, "password": "wrong wrong wrong"})
        text = re.sub(r"(csrf|X-CSRF-Token|value|datetime|data-clock)[^>]*>|<time.*?</time>", "", answer.text)
        answers.append((answer.status_code, text.replace(name, "")))
    assert answers[0] == answers[1]


async def test_tries_are_slowed_and_a_stranger_locks_nobody_out(site: Site) -> None:
    email = await give_password(site, site.person("investor").person_id, "seven plain words are enough")
    stranger = site.guest()
    codes = [stranger.post("/sign-in", {"email": email, "password": f"guess {n}"}).status_code for n in range(7)]
    assert codes == [422] * 5 + [429, 429]
    owner = site.guest()
    owner.client._transport.client = ("192.0.2.7", 1)  # type: ignore[attr-defined]  # from elsewhere
    assert owner.post("/sign-in", {"email": email, "password": "seven plain words are enough"}).status_code == 303


async def test_signing_in_gives_a_new_token_and_signing_out_ends_it(site: Site) -> None:
    person = site.person("investor")
    email = await give_password(site, person.person_id, "seven plain words are enough")
    fixed = site.guest()
    fixed.client.cookies.set("clearlot-session", "a-token-that-an-attacker-knows")
    csrf = re.search(r'name="csrf" value="([^"]+)"', fixed.get("/sign-in").text).group(1)  # type: ignore[union-attr]
    fixed.csrf = csrf
    answer = fixed.post("/sign-in", {"email": email, "password": "seven plain words are enough"})
    token = re.search(r"clearlot-session=([^;]+)", answer.headers["set-cookie"]).group(1)  # type: ignore[union-attr]
    assert token != "a-token-that-an-attacker-knows"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert site.db.read(parties.signed_in, token, at=utc_now()) is None, "the token itself is not kept"
    assert site.db.read(parties.signed_in, hash_token(token), at=utc_now()) is not None

    thief = Visit(site)
    thief.client.cookies.set("clearlot-session", token)
    assert thief.get("/home").status_code == 200
    assert person.post("/sign-out").status_code == 303
    assert person.get("/home").status_code == 303


async def test_a_new_password_ends_the_other_sessions(site: Site) -> None:
    person = site.person("investor")
    await give_password(site, person.person_id, "seven plain words are enough")
    with_new = {"new_password": "eight other words that nobody knows", "again": "eight other words that nobody knows"}
    wrong = person.post("/settings/password", {"password": "not this", **with_new})
    assert wrong.status_code == 422
    assert "present password" in wrong.text
    before = site.db.read(lambda session: session.get_one(Person, person.person_id).password_hash)
    assert (
        person.post("/settings/password", {"password": "seven plain words are enough", **with_new}).status_code == 303
    )
    assert site.db.read(lambda session: session.get_one(Person, person.person_id).password_hash) != before
    assert person.get("/settings").status_code == 200
    assert len(site.db.read(lambda session: session.exec(select(SignIn)).all())) == 1


def test_a_key_works_within_its_scopes_until_it_is_revoked(site: Site) -> None:
    person = site.person("investor")
    made = person.post("/settings/keys", {"name": "desk", "scopes": ["read"]})
    key = re.search(r"<code>(clk_[^<]+)</code>", made.text).group(1)  # type: ignore[union-attr]
    assert key not in person.get("/settings").text
    program = Visit(site)
    headers = {"Authorization": f"Bearer {key}"}
    me = program.client.get("/api/v1/me", headers=headers).json()
    assert (me["party"], me["scopes"], me["roles"]) == (person.party_id, ["read"], ["investor"])
    refused = program.client.post("/api/v1/lots", headers=headers, json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    [kept] = site.db.read(parties.keys, person.person_id)
    other = site.person("investor")
    assert other.post(f"/settings/keys/{kept.id}/revoke").status_code == 404
    assert person.post(f"/settings/keys/{kept.id}/revoke").status_code == 303
    assert program.client.get("/api/v1/me", headers=headers).status_code == 401


def test_demo_links_work_once_here_and_nowhere_else(demo_site: Site, site: Site) -> None:
    assert "/demo/sign-in" not in site.guest().get("/").text
    demo_site.person("operator")
    visit = demo_site.guest()
    token = re.search(r'name="token" value="([^"]+)"', visit.get("/").text).group(1)  # type: ignore[union-attr]
    far = demo_site.guest()
    far.client._transport.client = ("192.0.2.7", 1)  # type: ignore[attr-defined]
    assert "/demo/sign-in" not in far.get("/").text
    assert far.post("/demo/sign-in", {"token": token}).status_code == 404
    assert visit.post("/demo/sign-in", {"token": token}).status_code == 303
    assert demo_site.guest().post("/demo/sign-in", {"token": token}).status_code == 409
    assert demo_site.guest().post("/demo/sign-in", {"token": "1.99999999999.x.y"}).status_code == 409
    assert site.guest().post("/demo/sign-in", {"token": token}).status_code == 404
