"""What tests of pages share: the application on a new database, and people who are signed in.

def test_x(site: Site) -> None:
    li = site.person("operator")
    assert li.get("/parties").status_code == 200
    li.post("/parties/7/admit", {"reason": "..."})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from sqlmodel import Session
from starlette.applications import Starlette
from starlette.testclient import TestClient

from market.parties import name_key
from storage import parties
from storage.database import Database
from storage.tables import Party, Person
from tests.servers import PATIENCE_S
from web.app import create_app
from web.render import utc_now
from web.security import hash_token, new_token
from web.settings import Settings

ORIGIN = "http://127.0.0.1:8000"
SECRET = "7f3a91c2e05d4b8896aa13f0c4d27be15" * 2
SIGNING_KEY = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="  # RFC 8032, 7.1, test 1


class Visit:
    """One browser: its cookies, and the CSRF token and Origin that a browser would send."""

    def __init__(self, site: Site, *, csrf: str = "", person_id: int = 0, party_id: int = 0) -> None:
        self.client = TestClient(site.app, base_url=ORIGIN, follow_redirects=False, client=("127.0.0.1", 50000))
        self.client.portal = site.first.portal  # the loop of the running application
        self.csrf, self.person_id, self.party_id = csrf, person_id, party_id

    def get(self, address: str, **more: Any) -> Response:
        """Read a page."""
        return self.client.get(address, **more)

    def post(self, address: str, data: Mapping[str, Any] | None = None, **more: Any) -> Response:
        """Send a form as our own page would."""
        headers = {"Origin": ORIGIN, **more.pop("headers", {})}
        return self.client.post(address, data={"csrf": self.csrf, **(data or {})}, headers=headers, **more)

    def api(self, method: str, address: str, **more: Any) -> Response:
        """Call the JSON API with the session."""
        headers = {"Origin": ORIGIN, "X-CSRF-Token": self.csrf, **more.pop("headers", {})}
        return self.client.request(method, f"/api/v1{address}", headers=headers, **more)


class Site:
    """The running application."""

    def __init__(self, app: Starlette, first: TestClient) -> None:
        self.app, self.first = app, first
        self.db: Database = app.state.db

    def visit(self, **more: Any) -> Visit:
        """A browser of somebody."""
        return Visit(self, **more)

    def guest(self) -> Visit:
        """Somebody who is not signed in, after a look at the sign-in page."""
        visit = self.visit()
        text = visit.get("/sign-in").text
        visit.csrf = text.split('name="csrf" value="', 1)[1].split('"', 1)[0]
        return visit

    def person(self, *roles: str, name: str = "", status: str = "admitted", party_id: int | None = None) -> Visit:
        """A new person with these roles, signed in; of a new party, unless one is named."""
        token, csrf = new_token(), new_token()

        def make(session: Session) -> tuple[int, int]:
            now, own = utc_now(), party_id
            word = name or f"Party {new_token()[:8]}"
            if own is None:
                party = Party(kind="organisation", name=word, name_key=name_key(word), status=status, created_at=now)
                session.add(party)
                session.flush()
                own = party.id
            email = f"{new_token()[:10]}@example.com"
            person = Person(
                party_id=own,
                email=email,
                email_key=name_key(email),
                name=f"{word} person",
                roles=list(roles),
                created_at=now,
            )
            session.add(person)
            session.flush()
            parties.open_sign_in(
                session, person.id, token_hash=hash_token(token), csrf=csrf, old_token_hash=None, at=now
            )
            return person.id, own

        person_id, of_party = self.db.in_transaction(make)
        visit = self.visit(csrf=csrf, person_id=person_id, party_id=of_party)
        visit.client.cookies.set("clearlot-session", token)
        return visit


def settings_for(data: Path, **more: Any) -> Settings:
    """Settings of a test's application."""
    given: dict[str, Any] = {
        "data": data, "base_url": ORIGIN, "secret": SECRET, "signing_key": SIGNING_KEY, "log_level": "ERROR",
        "outage_s": PATIENCE_S,  # a machine that is busy with other things is not an outage
        **more,
    }  # fmt: skip
    return Settings(**given)


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    """The application on a new database: the test runs once on SQLite, once on PostgreSQL."""
    app = create_app(settings_for(tmp_path / "data", database_url=database_url))
    with TestClient(app, base_url=ORIGIN) as first:
        yield Site(app, first)


@pytest.fixture
def demo_site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """The application in demo mode, on SQLite."""
    app = create_app(settings_for(tmp_path / "data", database_url=sqlite_url, demo=True))
    with TestClient(app, base_url=ORIGIN) as first:
        yield Site(app, first)
