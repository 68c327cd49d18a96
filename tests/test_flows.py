"""The walks of style.md 3, end to end: a real tape, a real server, real sockets, bank files, and kill -9 in between.

Everything goes in where people and programs go in: the JSON API, the page that takes statements, the socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlmodel import Session, col, func, select

from market.lots import LotTerms, agreement_hash, canonical
from market.parties import Registration
from storage import lots, parties, reconciliation, settlement
from storage.database import Database
from storage.ledger import unbalanced
from storage.tables import LedgerAccount, LoanAccount, Payout, Posting, SaleAccount, StatementFile
from tests import servers
from tests.bank import IBAN, Bank, Paid
from tests.conftest import ROOT
from tests.servers import PATIENCE_S
from web.client import ApiError, Client
from web.security import hash_token, new_key, new_token

pytestmark = pytest.mark.slow

START_S = 3.0  # of the server, on a quiet machine
SECRET = "5e0c1f7a9b3d42688cf1a7d2e6904b31" * 2
SIGNING_KEY = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="  # RFC 8032, 7.1, test 1
LATE = {"bucket": ["16-30", "31-120"], "status": ["overdue"]}


async def until(holds: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask again until the answer is not empty; what jobs and clocks do takes its time."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(httpx2.TransportError):
            if found := await holds():
                return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


class Somebody:
    """A person with an API key and a session."""

    def __init__(self, house: House, role: str, name: str) -> None:
        now = datetime.now(UTC)
        asked = Registration("organisation", name, "US", "9999900000000000001", role, f"{name} (test)",
                             f"{name.lower().replace(' ', '.')}@example.com", "en")  # fmt: skip
        self.house, self.name = house, name
        self.id = house.db.in_transaction(parties.register, asked, password_hash="", at=now)
        self.party_id = house.db.in_transaction(parties.person, self.id).party_id
        house.db.in_transaction(
            parties.decide, self.party_id, status="admitted", reason="test", person_id=self.id, at=now
        )
        key, prefix, secret_hash = new_key()
        house.db.in_transaction(
            parties.make_key, self.id, name="test", scopes=("bid", "read", "write"), prefix=prefix,
            secret_hash=secret_hash, at=now,
        )  # fmt: skip
        self.client = Client(house.base_url, key=key)

    async def asks(self, method: str, path: str, **more: Any) -> Any:
        """Ask the JSON API."""
        return await self.client.request(method, path, **more)

    async def has_the_bank_file(self, name: str, data: bytes) -> None:
        """Upload a statement at the page, as an operator does, and wait until it is read."""
        token, csrf = new_token(), new_token()
        self.house.db.in_transaction(
            parties.open_sign_in, self.id, token_hash=hash_token(token), csrf=csrf, old_token_hash=None,
            at=datetime.now(UTC),
        )  # fmt: skip
        async with httpx2.AsyncClient(
            base_url=self.house.base_url, cookies={"clearlot-session": token}, timeout=PATIENCE_S
        ) as http:
            headers = {"Origin": self.house.base_url, "X-CSRF-Token": csrf}
            answer = await http.post("/statements", files={"file": (name, data)}, headers=headers)
            assert answer.status_code == 303, answer.text

            file_id = int(answer.headers["location"].rsplit("/", 1)[1])

            async def read() -> StatementFile | None:
                file = self.house.db.read(lambda session: session.get_one(StatementFile, file_id))
                return None if file.status == "received" else file

            file = await until(read, f"{name} is read")
            assert file.status == "kept", file.faults


class House:
    """A server on a database, which can be killed and started again."""

    def __init__(self, database_url: str, data: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.db = Database(database_url)
        self.environment = os.environ | {
            "CLEARLOT_DATABASE_URL": database_url, "CLEARLOT_DATA": str(data), "CLEARLOT_SECRET": SECRET,
            "CLEARLOT_SIGNING_KEY": SIGNING_KEY, "CLEARLOT_BASE_URL": self.base_url, "CLEARLOT_PORT": str(self.port),
            "CLEARLOT_LOG_LEVEL": "ERROR", "CLEARLOT_OUTAGE_S": str(PATIENCE_S), "PYTHONPATH": str(ROOT),
            "CLEARLOT_OBJECTS_URL": (data / "objects").as_uri(),
        }  # fmt: skip
        self.log = data / "server.log"
        data.mkdir(parents=True, exist_ok=True)
        self.pid = servers.session_folder() / f"flows-{self.port}.pid"  # for tests/guard.py
        self.process: subprocess.Popen[bytes] | None = None
        self.people: list[Somebody] = []
        # Auctions end by the clock, so a slow machine gets longer ones: in multiples of what a start takes elsewhere.
        self.pace = 1.0

    async def opens(self) -> None:
        """Start the server and wait until it is ready."""
        started = time.monotonic()
        self._start()
        async with httpx2.AsyncClient(base_url=self.base_url, timeout=PATIENCE_S) as http:

            async def ready() -> bool:
                assert self.process is not None
                assert self.process.poll() is None, self.log.read_text()
                return bool((await http.get("/readyz")).status_code == 200)

            try:
                await until(ready, "the server is ready")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None
        self.pace = max(self.pace, (time.monotonic() - started) / START_S)

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.cli", "serve"], env=self.environment, stdout=log, stderr=log, cwd=ROOT
            )
        self.pid.write_text(str(self.process.pid))

    def is_killed(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.pid.unlink(missing_ok=True)

    def somebody(self, role: str, name: str) -> Somebody:
        """A person whom the operator has admitted."""
        person = Somebody(self, role, name)
        self.people.append(person)
        return person

    async def closes(self) -> None:
        """Stop everything."""
        for person in self.people:
            await person.client.close()
        self.is_killed()
        self.db.close()


@pytest_asyncio.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """The real server, on SQLite and on PostgreSQL."""
    house = House(database_url, tmp_path / "data")
    await house.opens()
    yield house
    await house.closes()


def in_future(seconds: float) -> datetime:
    """An instant from now, to the second."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)


def in_(seconds: float) -> str:
    """The same, as the API takes it."""
    return in_future(seconds).isoformat().replace("+00:00", "Z")


def instant(text: str) -> datetime:
    """An instant as the socket and the API write it."""
    return datetime.fromisoformat(text)


class Trade:
    """What the people do with each other, one sentence each."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.manager = house.somebody("asset_manager", "First Lender")
        self.operator = house.somebody("operator", "The Platform")
        self.investors = [house.somebody("investor", f"Investor {n}") for n in (1, 2, 3)]
        self.bank = Bank(currency="USD", on=datetime.now(UTC).date())
        house.db.in_transaction(
            reconciliation.open_bank_account, name="Clients", iban=IBAN, currency="USD", person_id=self.operator.id,
            at=datetime.now(UTC),
        )  # fmt: skip

    async def tape_is_kept(self, file: Path) -> dict[str, Any]:
        with file.open("rb") as data:
            tape = await self.manager.asks(
                "POST", "/tapes", files={"file": (file.name, data)}, data={"cutoff_on": "2018-06-30"}
            )

        async def kept() -> dict[str, Any] | None:
            found: dict[str, Any] = await self.manager.asks("GET", f"/tapes/{tape['id']}")
            return found if found["status"] not in ("received", "reading") else None

        found: dict[str, Any] = await until(kept, "the tape is read")
        return found

    async def portfolio_of(self, selection: dict[str, list[str]]) -> dict[str, Any]:
        made: dict[str, Any] = await self.manager.asks(
            "POST", "/portfolios", json={"name": "Late accounts", "selection": selection}
        )
        return made

    async def lot_is_published(
        self, portfolio: dict[str, Any], *, ruleset: str, opens_in: float, lasts: float
    ) -> dict[str, Any]:
        """Draft, submit, approve, publish; return the lot.  Seconds are those of a quiet machine."""
        pace = self.house.pace
        draft = {
            "kind": "portfolio", "content_id": portfolio["id"], "title_en": "Late accounts", "title_zh": "逾期债权",
            "ruleset": ruleset, "opening": "300000.00", "step": "" if ruleset == "ebay-proxy" else "5000.00",
            "deposit": "30000.00", "opens_at": in_(opens_in * pace), "closes_at": in_((opens_in + lasts) * pace),
            "balance_due_days": 5, "premium": "1.5", "commission": "2", "limit_per_deposit": "20",
        }  # fmt: skip
        lot = await self.manager.asks("POST", "/lots", json=draft)
        await self.manager.asks("POST", f"/lots/{lot['id']}/submit")
        published: dict[str, Any] = await self.operator.asks("POST", f"/lots/{lot['id']}/publish")
        return published

    async def investor_asks(self, investor: Somebody, lot: dict[str, Any]) -> str:
        """Agree and ask; the operator approves; return the payment reference of the deposit."""
        asked = await investor.asks(
            "POST", f"/auctions/{lot['auction']['id']}/participations", json={"agreement": agreement_hash(lot["hash"])}
        )
        approved = await self.operator.asks("POST", f"/participations/{asked['id']}/approve")
        reference: str = approved["reference"]
        return reference

    async def is_admitted(self, investor: Somebody, lot: dict[str, Any]) -> None:
        async def admitted() -> bool:
            return (await investor.client.position(lot["auction"]["id"])).bidder is not None

        await until(admitted, f"{investor.name} is admitted")

    async def deposits_arrive(self, lot: dict[str, Any]) -> None:
        """Three references; two deposits come on a camt.053, one on an MT940."""
        first, second, third = [await self.investor_asks(one, lot) for one in self.investors]
        paid = [
            Paid(3_000_000, f"Deposit {reference}", one.name, f"NL{20 + n}TEST0000000{n:03}", reference)
            for n, (one, reference) in enumerate(zip(self.investors, (first, second, third), strict=True))
        ]
        await self.operator.has_the_bank_file("a.camt.xml", self.bank.camt053(paid[0], paid[1]))
        await self.operator.has_the_bank_file("b.sta", self.bank.mt940(paid[2]))
        for investor in self.investors:
            await self.is_admitted(investor, lot)

    async def is_listed_again(self, lot: dict[str, Any]) -> dict[str, Any]:
        """New terms for a lot that was not paid for; return it with its new auction."""
        db, owner, at = self.house.db, self.manager.party_id, datetime.now(UTC)
        terms = LotTerms.model_validate(db.read(lots.own_lot, owner, lot["id"]).terms)
        terms = terms.model_copy(update={"opens_at": in_future(60), "closes_at": in_future(600)})
        db.in_transaction(lots.set_terms, owner, lot["id"], terms, person_id=self.manager.id, at=at)
        await self.manager.asks("POST", f"/lots/{lot['id']}/submit")
        published: dict[str, Any] = await self.operator.asks("POST", f"/lots/{lot['id']}/publish")
        return published

    async def standing(self, lot: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = await self.operator.asks("GET", f"/auctions/{lot['auction']['id']}")
        return found

    async def opens(self, lot: dict[str, Any]) -> None:
        async def opened() -> bool:
            return bool((await self.operator.asks("GET", f"/auctions/{lot['auction']['id']}"))["phase"] == "open")

        await until(opened, "the auction opens")

    async def closes(self, lot: dict[str, Any]) -> dict[str, Any]:
        async def closed() -> dict[str, Any] | None:
            standing: dict[str, Any] = await self.operator.asks("GET", f"/auctions/{lot['auction']['id']}")
            return standing if standing["phase"] == "closed" else None

        found: dict[str, Any] = await until(closed, "the auction closes by itself")
        return found

    async def sale_of(self, lot: dict[str, Any], status: str) -> dict[str, Any]:
        """The sale, once it has that status."""

        async def there() -> dict[str, Any] | None:
            for sale in (await self.operator.asks("GET", "/settlements"))["settlements"]:
                if sale["auction"] == lot["auction"]["id"] and sale["status"] == status:
                    found: dict[str, Any] = sale
                    return found
            return None

        found: dict[str, Any] = await until(there, f"the sale is {status}")
        return found

    def books_agree(self) -> None:
        proof = self.house.db.read(reconciliation.three_way)
        assert proof.agrees, [one for one in proof.proofs if one.difference_minor]
        assert self.house.db.read(unbalanced) == []

    def account_states(self) -> dict[str, int]:
        """How many accounts are in which state."""

        def count(session: Session) -> dict[str, int]:
            return dict(session.exec(select(LoanAccount.status, func.count()).group_by(LoanAccount.status)).all())

        return self.house.db.read(count)


async def test_from_the_tape_to_accounts_closed_out(house: House, shared_data: Path) -> None:
    """One lot from the creditor's file to the last cent; the server is killed before the balance comes."""
    trade = Trade(house)
    one, two, three = trade.investors

    # Tape to lot.
    tape = await trade.tape_is_kept(shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz")
    assert (tape["status"], tape["faults"], tape["rows"]) == ("kept", 0, 6_627)
    portfolio = await trade.portfolio_of(LATE)
    assert (portfolio["accounts"], portfolio["balance"]) == (75, "1393896.86")
    lot = await trade.lot_is_published(portfolio, ruleset="ebay-proxy", opens_in=12, lasts=20)
    frozen = (await trade.operator.asks("GET", f"/lots/{lot['id']}"))["frozen"]
    assert hashlib.sha256(canonical(frozen)).hexdigest() == lot["hash"]
    assert trade.account_states()["listed"] == 75

    # Statement: deposits, and admission with a limit of twenty deposits.
    await trade.deposits_arrive(lot)
    auction = lot["auction"]["id"]
    assert (await one.client.position(auction)).limit == "600000.00"
    trade.books_agree()

    # Bid.
    await trade.opens(lot)
    async with two.client.watch(auction, since=0) as watch:
        first = await one.client.bid(auction, "300000.00")
        assert first.is_accepted
        assert first.leading
        assert (await two.client.bid(auction, "380000.00")).is_accepted  # a maximum: the system bids up to it
        outbid = await one.client.position(auction)
        assert outbid.state == "outbid"
        refused = await three.client.bid(auction, "300000.00")
        assert (refused.outcome, refused.code) == ("refused", "below_minimum")
        beyond = await three.client.bid(auction, "700000.00")
        assert beyond.code == "above_limit"

        last = await three.client.bid(auction, "400000.00")
        assert last.is_accepted
        assert (watch.sequence or 0) <= last.sequence

    # Close to documents.
    standing = await trade.closes(lot)
    assert standing["outcome"] == "sold"
    sale = await trade.sale_of(lot, "awaiting_balance")
    hammer = sale["hammer"]
    assert hammer == standing["price"]
    assert trade.account_states()["under_contract"] == 75
    refunds = house.db.read(lambda session: list(session.exec(select(Payout).where(Payout.kind == "refund"))))
    assert sorted(refund.amount_minor for refund in refunds) == [3_000_000, 3_000_000]
    trade.books_agree()

    # Statement: the balance comes in and the refunds go out, and the server was killed before.
    house.is_killed()
    await house.opens()
    due = sale["payment"]
    back = [Paid(-one.amount_minor, f"Refund {one.reference}", one.name, one.iban) for one in refunds]
    balance = Paid(minor(due["amount"]), f"Balance {due['reference']}", "Investor", "NL22TEST0000000002")
    await trade.operator.has_the_bank_file("c.camt.xml", trade.bank.camt053(balance, *back))
    sale = await trade.sale_of(lot, "closed_out")
    assert trade.account_states()["closed_out"] == 75
    shares = house.db.read(shares_of, sale["id"])
    assert sum(share.price_minor for share in shares) == minor(hammer)
    assert sum(share.balance_minor for share in shares) == 139_389_686
    for share in shares[:5]:
        assert house.db.read(claims_left, share.account_id) == 0
    trade.books_agree()

    # Trace: from the account's cents to the bid, the bank line and the account.
    chain = await trade.operator.asks("GET", f"/ledger/trace/loan_account/{shares[0].account_id}")
    assert {"loan_account", "sale", "auction_entry", "statement_line"} <= {card["kind"] for card in chain["cards"]}


def minor(text: str) -> int:
    """Exact text with two decimals as minor units."""
    return int(text.replace(".", ""))


def shares_of(session: Session, sale_id: int) -> list[SaleAccount]:
    """The accounts of a sale with their shares of the price."""
    return list(session.exec(select(SaleAccount).where(SaleAccount.sale_id == sale_id)))


def claims_left(session: Session, account_id: int) -> int:
    """What the books still hold against an overdue account: its claims, not its share of the price."""
    query = (
        select(func.coalesce(func.sum(Posting.amount_minor), 0))
        .join(LedgerAccount, col(LedgerAccount.id) == col(Posting.ledger_account_id))
        .where(Posting.loan_account_id == account_id, col(LedgerAccount.code).startswith("claims:"))
    )
    return int(session.exec(query).one())


async def test_a_buyer_who_does_not_pay(house: House, shared_data: Path) -> None:
    """The deposit is kept, the accounts are overdue again, the lot is listed anew and the buyer barred."""
    trade = Trade(house)
    one, two, _ = trade.investors
    await trade.tape_is_kept(shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz")
    before = trade.account_states()
    portfolio = await trade.portfolio_of(LATE)
    lot = await trade.lot_is_published(portfolio, ruleset="ebay-proxy", opens_in=12, lasts=20)
    await trade.deposits_arrive(lot)
    await trade.opens(lot)
    auction = lot["auction"]["id"]
    assert (await one.client.bid(auction, "350000.00")).is_accepted
    assert (await two.client.bid(auction, "340000.00")).is_accepted

    await trade.closes(lot)
    sale = await trade.sale_of(lot, "awaiting_balance")
    house.db.in_transaction(
        settlement.default, sale["id"], person_id=trade.operator.id, reason="letter of today", at=datetime.now(UTC)
    )
    assert trade.account_states() == before
    assert house.db.read(settlement.is_barred, lot["id"], one.party_id)
    trade.books_agree()

    # Listed again under new terms: the old buyer may not come back, the others may.
    again = await trade.is_listed_again(lot)
    assert again["hash"] != lot["hash"]
    with pytest.raises(ApiError, match="defaulted_buyer"):
        await trade.investor_asks(one, again)
    assert await trade.investor_asks(two, again)


async def test_a_late_bid_moves_the_end(house: House, shared_data: Path) -> None:
    """Inside the last minute each bid moves the end to a minute after itself, also when the server died in between."""
    trade = Trade(house)
    one, two, _ = trade.investors
    await trade.tape_is_kept(shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz")
    portfolio = await trade.portfolio_of(LATE)
    lot = await trade.lot_is_published(portfolio, ruleset="english-proxy-soft-close", opens_in=12, lasts=20)
    await trade.deposits_arrive(lot)
    await trade.opens(lot)
    auction = lot["auction"]["id"]
    first = await one.client.bid(auction, "300000.00", maximum="350000.00")
    ends = await trade.standing(lot)
    assert ends["extensions"] == 1
    assert instant(ends["closes_at"]) - instant(first.at) == timedelta(seconds=60)
    house.is_killed()
    await house.opens()
    again = await one.client.bid(auction, "300000.00", maximum="350000.00", id=first.id)
    assert (again.sequence, again.hash) == (first.sequence, first.hash)  # what was accepted is there, once
    second = await two.client.bid(auction, "305000.00")
    assert second.is_accepted
    assert second.leading is False  # the first one's maximum answers at once
    ends = await trade.standing(lot)
    assert ends["extensions"] == 2
    assert instant(ends["closes_at"]) - instant(second.at) == timedelta(seconds=60)
    assert ends["price"] == "310000.00"
