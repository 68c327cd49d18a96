"""A busy little marketplace for hostile tests: one of everything, owned by somebody, and strangers who look on.

Everything that a route can name by an id is there once, so a test can walk the route table: `Busy.fill(path)` puts the
ids in, `Busy.people` has one visitor of each kind.
"""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import inspect
from sqlmodel import Session, col, select
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from storage import tables
from storage.database import Database
from tests import servers
from tests.bank import Paid
from tests.conftest import _postgresql_template, _sqlite_template, lacking
from tests.servers import PATIENCE_S
from tests.storage import sales
from tests.web.conftest import ORIGIN, Site, Visit, settings_for
from tests.web.lot_world import World
from tests.web.test_portfolios import CSV, send, wait
from web.app import create_app
from web.render import utc_now
from web.security import new_key

# What only its owner and an operator may read.
SECRETS = ("Zephyrine Hidden Capital", "Quixotic Hidden Partners", "Absconded Hidden Trust", "hidden.example")
# What no answer holds, whoever asks: the inside of the program and of the machine.
INSIDE = ("Traceback", "sqlalchemy", "psycopg", "sqlite3", "SELECT ", "INSERT ", "site-packages", "/work/", "/tmp/",
          "pydantic", "starlette", "fastapi", "msgspec", "polars", "fastexcel", "UploadFile(")  # fmt: skip


class Busy:
    """The world: ids by the name of a route's parameter and its path, people by what they are."""

    def __init__(self, site: Site, sold: sales.World, sale_id: int) -> None:
        self.site, self.sold, self.sale_id = site, sold, sale_id
        self.world = World(site)
        self.people: dict[str, Visit] = {
            "guest": site.guest(),
            "creditor": self.world.creditor,
            "operator": self.world.operator,
            "other creditor": site.person("asset_manager", name="Stranger Bank"),
            "other investor": site.person("investor", name="Stranger Fund"),
            "registered": site.person("investor", name="Newcomer", status="registered"),
            "servicer": site.person("servicer", name="Servicer"),
            "seller": site.person("asset_manager", party_id=sold.creditor),
            "buyer": site.person("investor", party_id=sold.bidders[0]),
        }
        self._fill()

    def _fill(self) -> None:
        world, creditor = self.world, self.world.creditor
        self.item_id = world.item(pictures=1)
        self.lot_id, self.auction_id = world.published(self.item_id, opens=timedelta(seconds=3))
        self.draft_id = self._draft(world.item())
        self.submitted_id = world.submitted(world.item(), opens=timedelta(hours=3))
        world.opened(self.auction_id)
        for number, name in enumerate(SECRETS[:2]):
            bidder = world.bidder(self.auction_id, name=name)
            bidder.party_name = name  # type: ignore[attr-defined]
            self._mail(bidder, f"bidder{number}@hidden.example")
            self.people[f"bidder {number + 1}"] = bidder
            self.bid(bidder, 840_000 + 5_000 * number)
        waiting = world.bidder(self.auction_id, name=SECRETS[2], admit=False)
        self.asked_id, self.waiting_id = world.asked(self.auction_id, waiting).id, waiting.party_id
        self.tape_id = int(send(creditor, CSV).rsplit("/", 1)[1])
        bad = send(creditor, CSV.replace(b"400.00", b"4e2"))
        wait(creditor, bad)
        self.bad_tape_id = int(bad.rsplit("/", 1)[1])
        unknown = send(creditor, "合同号,本金,逾期天数\nA1,1000.00,45\n".encode())
        self.unknown_tape_id = int(unknown.rsplit("/", 1)[1])
        made = creditor.post("/portfolios?bucket=31-60&status=overdue", {"name": "Hidden portfolio"})
        assert made.status_code == 303, made.text
        self.portfolio_id = int(made.headers["location"].rsplit("/", 1)[1])
        account = creditor.api("GET", "/accounts?bucket=16-30").json()["accounts"][0]
        self.account_id = int(account["id"])
        refused = self.people["operator"].post("/statements", files={"file": ("junk.xml", io.BytesIO(b"<junk/>"))})
        assert refused.status_code == 303, refused.text
        world.until(lambda: self.idle())
        self.key_id = self._key(creditor)

    def _draft(self, item_id: int) -> int:
        answer = self.world.creditor.post(
            "/lots", {"kind": "vehicle", "content_id": item_id, "title_zh": "草稿", "title_en": "Hidden draft",
                      "text_zh": "x", "text_en": "x", "place": "x"},
        )  # fmt: skip
        assert answer.status_code == 303, answer.text
        return int(answer.headers["location"].split("/")[2])

    def _mail(self, visit: Visit, email: str) -> None:
        def change(session: Session) -> None:
            person = session.get_one(tables.Person, visit.person_id)
            person.email = person.email_key = email
            session.add(person)

        self.site.db.in_transaction(change)

    def _key(self, visit: Visit) -> int:
        answer = visit.post("/settings/keys", {"name": "k", "scopes": "read"})
        assert answer.status_code in (200, 303), answer.text
        return self.site.db.read(
            lambda session: session.exec(
                select(tables.ApiKey.id).where(tables.ApiKey.person_id == visit.person_id)
            ).one()
        )

    def api_key(self, visit: Visit) -> str:
        """A key of this person with every scope."""
        text, prefix, secret_hash = new_key()

        def make(session: Session) -> None:
            session.add(
                tables.ApiKey(
                    person_id=visit.person_id, name=prefix, prefix=prefix, secret_hash=secret_hash,
                    scopes=["read", "write", "bid"], created_at=utc_now(),
                )
            )  # fmt: skip

        self.site.db.in_transaction(make)
        return text

    def bid(self, bidder: Visit, amount: int) -> None:
        """Bid by form, confirmed."""
        answer = bidder.post(
            f"/auctions/{self.auction_id}/bids",
            {"command_id": uuid4().hex, "amount": f"{amount}.00", "confirmed": "yes"},
        )
        assert answer.status_code == 303, answer.text

    def idle(self) -> bool:
        """Whether no work waits in the outbox but mail, which may come later."""
        waiting = select(tables.Outbox.id).where(
            col(tables.Outbox.done_at).is_(None), tables.Outbox.task != "send_mail"
        )
        return self.site.db.read(lambda session: session.exec(waiting).first() is None)

    # --- the route table --------------------------------------------------------------------------

    def routes(self, *methods: str) -> list[tuple[str, str, int | None]]:
        """Every (method, path, largest body) of the route table, pages and JSON."""
        found: list[tuple[str, str, int | None]] = []
        for route in self.site.app.routes:
            if isinstance(route, Route):
                found += [(one, route.path, _size(route)) for one in sorted(route.methods or ()) if one in methods]
            elif isinstance(route, Mount) and route.path == "/api/v1":
                for inner in _api_routes(route.routes):
                    found += [
                        (one, f"/api/v1{inner.path}", _size(inner)) for one in inner.methods or () if one in methods
                    ]
                if "GET" in methods:
                    found.append(("GET", "/api/v1/openapi.json", None))
        assert len(found) > 20
        return found

    def fill(self, path: str) -> list[str]:
        """The addresses that a route's path stands for: ids that exist. A new kind of id must be named here."""
        for pattern, values in self.ids().items():
            if re.match(pattern, path):
                return [_put(path, one) for one in values]
        assert "{" not in path, f"tests/web/busy.py does not know the ids of {path}"
        return [path]

    def ids(self) -> dict[str, list[dict[str, Any]]]:
        """Ids by the beginning of a path; the first that fits."""
        picture = self.site.db.read(lambda session: session.exec(select(tables.Picture.id)).first())
        line = self.site.db.read(
            lambda session: session.exec(
                select(tables.StatementLine.id).order_by(col(tables.StatementLine.id).desc())
            ).first()
        )
        lots = [{"id": one, "lot_id": one} for one in (self.lot_id, self.draft_id, self.submitted_id)]
        return {
            r"/lots/queue/\{id:int\}/\{decision\}": [
                {"id": self.submitted_id, "decision": one} for one in ("publish", "send-back", "nonsense")
            ],
            r"/lots/queue/": [{"id": self.submitted_id}],
            r"/lots/\{id:int\}/edit/": [
                {"id": self.draft_id, "step": one} for one in ("what", "terms", "texts", "submit", "put-away", "x")
            ],
            r"(/api/v1)?/lots/\{": lots,
            r"/auctions/\{id:int\}/control": [
                {"id": self.auction_id, "what": one} for one in ("pause", "resume", "withdraw", "x")
            ],
            r"/auctions/\{id:int\}/receipts": [
                {"id": self.auction_id, "sequence": one} for one in range(1, 9)
            ],
            r"(/api/v1)?/auctions/\{": [{"id": self.auction_id, "auction_id": self.auction_id}],
            r"/participations/\{id:int\}/": [
                {"id": self.asked_id, "decision": one} for one in ("approve", "refuse", "x")
            ],
            r"/api/v1/participations/": [{"participation_id": self.asked_id}],
            r"/collateral/\{": [{"id": self.item_id, "picture": picture}],
            r"/pictures/": [{"picture": picture, "size": one} for one in ("small", "full", "x")],
            r"(/api/v1)?/tapes/\{": [
                {"id": one, "tape_id": one} for one in (self.tape_id, self.bad_tape_id, self.unknown_tape_id)
            ],
            r"(/api/v1)?/accounts/\{": [{"id": self.account_id, "account_id": self.account_id}],
            r"(/api/v1)?/portfolios/\{": [{"id": self.portfolio_id, "portfolio_id": self.portfolio_id}],
            r"/sales/\{": [{"id": self.sale_id}],
            r"/payouts/\{": [{"id": 1}, {"id": 10**9}],
            r"/api/v1/settlements/\{": [{"sale_id": self.sale_id}],
            r"/statements/\{": [{"id": 1}, {"id": 2}],
            r"/reconciliation/\{": [
                {"id": line, "act": one} for one in ("match", "split", "return", "not-ours", "undo", "x")
            ],
            r"/ledger/entries/\{": [{"id": 1}],
            r"/ledger/accounts/": [{"code": f"escrow:{self.sale_id}:CNY"}, {"code": "nothing"}],
            r"/trace/": [{"kind": "sale", "id": self.sale_id}, {"kind": "x", "id": 1}],
            r"/api/v1/ledger/trace/": [{"kind": "sale", "subject_id": self.sale_id}, {"kind": "x", "subject_id": 1}],
            r"/parties/\{": [{"id": self.waiting_id}],
            r"/outbox/\{": [{"id": 1}, {"id": 10**9}],
            r"/jobs/\{": [{"id": 10**9}],
            r"/settings/keys/\{": [{"id": self.key_id}],
        }  # fmt: skip

    # --- looking --------------------------------------------------------------------------------------

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, but for what use leaves behind: when a session, a key, a node was last seen."""
        until = time.monotonic() + PATIENCE_S
        while self.site.db.read(_works) and time.monotonic() < until:
            time.sleep(0.05)  # what an earlier request left to the jobs is not what this one changes
        return self.site.db.read(_dump)


def _works(session: Session) -> bool:
    """Whether a job is under way, or due for the first time."""
    first = (
        col(tables.Outbox.done_at).is_(None),
        tables.Outbox.due_at <= utc_now() + timedelta(seconds=15),
        tables.Outbox.attempts < 2,
    )
    return session.exec(select(tables.Outbox.id).where(*first)).first() is not None


UNSEEN = {
    "outbox": {"attempts", "due_at", "done_at", "error", "claimed_by"},
    "signin": {"seen_at"},
    "apikey": {"used_at"},
    "heartbeat": None,
    "logleaf": None,  # checkpoints come by themselves
    "lognode": None,
    "treehead": None,
    "mail": None,
    "apicall": None,
}  # None: all of it


def _dump(session: Session) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table in inspect(session.connection()).get_table_names():
        hidden = UNSEEN.get(table, set())
        if hidden is None:
            continue
        rows = session.connection().exec_driver_sql(f'SELECT * FROM "{table}"').mappings()
        found[table] = sorted(
            tuple(str(value) for name, value in row.items() if name not in hidden)
            for row in rows
            if row.get("task") not in ("send_mail", "keep_tree_head")
        )
    return found


def _done(session: Session, lot_id: int) -> None:
    """What the played past left to do was played, too, and its lot is frozen as a published one is."""
    lot = session.get_one(tables.Lot, lot_id)
    lot.frozen, lot.frozen_hash, lot.published_at = {"terms": lot.terms}, "0" * 64, lot.created_at
    for row in session.exec(select(tables.Outbox)):
        row.done_at = utc_now()


def _put(path: str, values: dict[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        return str(values[match.group(1)])

    return re.sub(r"\{(\w+)(?::\w+)?\}", value, path)


def _size(route: Any) -> int | None:
    return getattr(route, "max_body_size", None)


def _api_routes(routes: Any) -> list[APIRoute]:
    found: list[APIRoute] = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append(route)
        elif hasattr(route, "original_router"):
            found += _api_routes(route.original_router.routes)
        elif hasattr(route, "routes"):
            found += _api_routes(route.routes or [])
    return found


@contextmanager
def busy_site(folder: Path, kind: str) -> Iterator[Busy]:
    """The world on a new database of `kind`, until the block ends; its limits of requests are out of the way."""
    database_url, drop = _database(folder, kind)
    db = Database(database_url)
    sold = sales.world(db)
    sold.publish()
    first, second = (sold.ask(party_id) for party_id in sold.bidders[:2])
    sold.pay(
        Paid(first.amount_minor, first.reference, SECRETS[0]), Paid(second.amount_minor, second.reference, SECRETS[1]),
        Paid(12_34, "whose is this", "Unknown payer"),
    )  # fmt: skip
    sold.play([(sold.bidders[0], 1_000_000_00)])
    sale_id = sold.settle(at=utc_now())
    assert sale_id is not None
    db.in_transaction(_done, sold.lot)
    db.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("web.security.REQUESTS_BURST", 10**9)
        app = create_app(settings_for(folder / "data", database_url=database_url))
        with TestClient(app, base_url=ORIGIN) as client:
            site = Site(app, client)
            sold.db = site.db
            yield Busy(site, sold, sale_id)
    drop()


def _database(folder: Path, kind: str) -> tuple[str, Any]:
    if kind == "sqlite":
        path = folder / "clearlot.db"
        shutil.copyfile(servers.once("sqlite", _sqlite_template)["path"], path)
        return f"sqlite:///{path}", lambda: None
    try:
        template = servers.once("postgresql-template", _postgresql_template)
    except servers.Absent as absent:
        lacking(str(absent))
        raise
    url, name = template["url"], f"clearlot_{uuid4().hex[:12]}"
    servers.postgresql_do(url, f"CREATE DATABASE {name} TEMPLATE {template['name']}")
    return f"{url}/{name}", lambda: servers.postgresql_do(url, f"DROP DATABASE {name} WITH (FORCE)")
