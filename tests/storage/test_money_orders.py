"""Anything in any order: deposits, lines, matches, settlements, defaults, pay-outs; the books agree after each step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

import pytest
from sqlmodel import Session, select

from market.errors import Conflict
from storage import ledger as books
from storage import reconciliation, settlement, tables
from storage.database import Database
from tests.bank import Paid
from tests.storage.sales import AT, DEPOSIT, OPENING, STEP, World, world

STEPS = 60


class Chance:
    """Does what comes into its head, with what there is; a `Conflict` is an answer like another."""

    def __init__(self, w: World, random: Random) -> None:
        self.w, self.random = w, random
        self.now = AT
        self.done: list[str] = []

    def step(self) -> None:
        acts: list[Callable[[], None]] = [
            *[self.publish] * 2, *[self.ask] * 4, *[self.pay_due] * 3, self.pay_wrong, *[self.match] * 2,
            self.give_back, self.close, *[self.settle] * 2, *[self.complete] * 2, self.default, self.send, self.later,
        ]  # fmt: skip
        act = self.random.choice(acts)
        before = self.w.db.read(books.trial_balance)
        try:
            act()
            self.done.append(act.__name__)
        except Conflict as conflict:
            self.done.append(f"{act.__name__}: {conflict.code}")
            assert self.w.db.read(books.trial_balance) == before  # what was refused changed nothing
        assert self.w.agrees(), self.done

    def _lot(self) -> tables.Lot:
        return self.w.db.read(lambda session: session.get_one(tables.Lot, self.w.lot))

    def _auction(self) -> tables.Auction:
        return self.w.db.read(lambda session: session.get_one(tables.Auction, self.w.auction))

    def publish(self) -> None:
        if self._lot().status in ("unsold", "defaulted"):
            self.w.publish(premium_bp=self.random.choice((0, 150)), commission_bp=self.random.choice((0, 333)))

    def ask(self) -> None:
        party = self.random.choice(self.w.bidders)
        if self._auction().phase != "closed" and not self._participates(party):
            self.w.ask(party)

    def _participates(self, party: int) -> bool:
        query = select(tables.Participation).where(
            tables.Participation.auction_id == self.w.auction, tables.Participation.party_id == party
        )
        return self.w.db.read(lambda session: session.exec(query).first()) is not None

    def _dues(self) -> list[tables.PaymentDue]:
        return self.w.db.read(lambda session: list(session.exec(select(tables.PaymentDue))))

    def pay_due(self) -> None:
        """Exactly, or a little off; in time, or long after."""
        if dues := self._dues():
            still_open = [due for due in dues if due.status == "open"]
            due = self.random.choice(still_open if still_open and self.random.random() < 0.8 else dues)
            off = self.random.choice((0, 0, 0, 0, 0, -1_00, 1_00))
            self.w.pay(Paid(due.amount_minor + off, due.reference, "Bidder", f"NL{due.party_id:04}"), at=self.now)

    def pay_wrong(self) -> None:
        text = self.random.choice(("", "rent", "CL22-2222-222"))
        amount = self.random.choice((DEPOSIT, 1, -5))
        self.w.pay(Paid(amount, text), Paid(3, text), at=self.now)

    def match(self) -> None:
        lines = self.w.db.read(reconciliation.waiting_lines)
        if lines:
            line = self.random.choice(lines)
            targets = self._dues() if line.amount_minor > 0 else []
            if targets:
                due = self.random.choice(targets)
                by = {"person_id": self.w.person, "at": self.now}
                self.w.db.in_transaction(reconciliation.match_by_hand, line.id, due.id, **by)  # type: ignore[arg-type]

    def give_back(self) -> None:
        if lines := self.w.db.read(reconciliation.waiting_lines):
            line, person = self.random.choice(lines), self.w.person
            if line.amount_minor > 0:
                self.w.db.in_transaction(reconciliation.return_to_sender, line.id, person_id=person, at=self.now)
            else:
                self.w.db.in_transaction(reconciliation.not_ours, line.id, "x", person_id=person, at=self.now)

    def close(self) -> None:
        if self._auction().phase != "closed" and self.random.random() < 0.6:
            bids = [(party, OPENING + STEP * n) for n, party in enumerate(self.random.sample(self.w.bidders, k=3))]
            self.w.play(bids)

    def settle(self) -> None:
        self.w.settle(at=self.now)

    def _sales(self) -> list[int]:
        return self.w.db.read(lambda session: list(session.exec(select(tables.Sale.id))))

    def complete(self) -> None:
        for sale_id in self._sales():
            if self.w.sale(sale_id).status == "paid" or self.random.random() < 0.2:
                self.w.db.in_transaction(settlement.complete, sale_id, at=self.now)

    def default(self) -> None:
        if (sales := self._sales()) and self.random.random() < 0.5:
            person = self.random.choice((None, self.w.person))
            self.w.db.in_transaction(
                settlement.default, self.random.choice(sales), at=self.now, person_id=person, reason="letter of today"
            )

    def send(self) -> None:
        def owed(session: Session) -> list[tables.Payout]:
            return list(session.exec(select(tables.Payout).where(tables.Payout.status == "due")))

        for payout in self.w.db.read(owed)[:2]:
            self.w.pay(Paid(-payout.amount_minor, payout.reference, payout.name, payout.iban), at=self.now)

    def later(self) -> None:
        self.now += timedelta(days=self.random.choice((1, 1, 3, 20)))
        self.w.db.in_transaction(settlement.default_overdue_sales, at=self.now)


@pytest.mark.parametrize("seed", range(4))
def test_the_books_agree_after_anything_in_any_order(db: Database, seed: int) -> None:
    w = world(db, (50_000_00, 30_000_01, 0, 7), car=seed % 2 == 1)
    w.publish()
    chance = Chance(w, Random(seed))
    for _ in range(STEPS):
        chance.step()
    assert chance.now >= AT
    assert isinstance(chance.now, datetime)
    assert len(chance.done) == STEPS
