"""One loan is one account that counts, whatever its creditor's tapes say again."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, col, select, update

from market.accounts import Status
from market.errors import Conflict
from storage import accounts, portfolios
from storage.database import Database
from storage.objects import Folder
from storage.tables import LoanAccount, Outbox, Party, Person

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HEADER = "loan_id,borrower_id,principal,interest_due,dpd,product,region\n"
FEBRUARY, MARCH = date(2018, 2, 28), date(2018, 3, 31)


class Creditor:
    """Who sends tapes."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db, self.objects = db, Folder(folder)
        self.id = db.in_transaction(self._make)

    def _make(self, session: Session) -> int:
        party = Party(kind="organisation", name="Northbank", name_key=str(self.objects), created_at=NOW)
        session.add(party)
        session.flush()
        session.add(Person(party_id=party.id, email="n", email_key=str(self.objects), name="N", created_at=NOW))
        return party.id

    def send(self, cutoff_on: date, *loans: str, mark: str = "") -> int:
        """A tape of these loans, kept; what it leaves for tasks is done."""
        text = HEADER + "".join(f"{loan},B1,100.50,1.00,45,{mark or cutoff_on},Hebei\n" for loan in loans)
        kept = self.objects.put(io.BytesIO(text.encode()), limit_bytes=10**6)
        tape_id = self.db.in_transaction(
            portfolios.receive_tape, self.id, self.id, filename="t.csv", digest=kept.digest, size=kept.size_bytes,
            cutoff_on=cutoff_on, currency="USD", at=NOW,
        )  # fmt: skip
        assert portfolios.read_tape(self.db, self.objects, tape_id, now=lambda: NOW) == "kept"
        self.do()
        return tape_id

    def do(self) -> None:
        for row in self.db.read(lambda s: s.exec(select(Outbox).where(Outbox.task == "replace_accounts")).all()):
            accounts.replace_outdone(self.db, row.arguments["tape_id"], now=lambda: NOW)

    def states(self, tape_id: int) -> dict[str, str]:
        found = select(LoanAccount.loan_id, LoanAccount.status).where(LoanAccount.tape_id == tape_id)
        return dict(self.db.read(lambda session: session.exec(found).all()))

    def move(self, tape_id: int, loan: str, status: Status) -> None:
        of = (LoanAccount.tape_id == tape_id, LoanAccount.loan_id == loan)
        self.db.in_transaction(lambda s: s.execute(update(LoanAccount).where(*of).values(status=status.value)))  # type: ignore[arg-type]


@pytest.fixture
def creditor(db: Database, tmp_path: Path) -> Creditor:
    return Creditor(db, tmp_path / "objects")


def test_a_newer_tape_replaces_what_it_tells_of_again(creditor: Creditor) -> None:
    first = creditor.send(FEBRUARY, "L1", "L2", "L3")
    second = creditor.send(MARCH, "L2", "L3", "L4")
    assert creditor.states(first) == {"L1": "overdue", "L2": "replaced", "L3": "replaced"}
    assert set(creditor.states(second).values()) == {"overdue"}


def test_a_late_tape_of_an_older_day_replaces_nothing(creditor: Creditor) -> None:
    march = creditor.send(MARCH, "L1")
    february = creditor.send(FEBRUARY, "L1", "L2")
    assert (creditor.states(march), creditor.states(february)) == (
        {"L1": "overdue"}, {"L1": "replaced", "L2": "overdue"},
    )  # fmt: skip


def test_of_two_tapes_of_one_day_the_later_one_counts(creditor: Creditor) -> None:
    wrong = creditor.send(MARCH, "L1")
    right = creditor.send(MARCH, "L1", mark="vans")
    assert (creditor.states(wrong), creditor.states(right)) == ({"L1": "replaced"}, {"L1": "overdue"})


def test_an_account_that_is_for_sale_stays_as_it_is(creditor: Creditor) -> None:
    first = creditor.send(FEBRUARY, "L1", "L2", "L3")
    for loan, status in (("L1", Status.LISTED), ("L2", Status.UNDER_CONTRACT), ("L3", Status.CLOSED_OUT)):
        creditor.move(first, loan, status)
    second = creditor.send(MARCH, "L1", "L2", "L3")
    assert creditor.states(first) == {"L1": "listed", "L2": "under_contract", "L3": "closed_out"}
    # What was sold is owed to somebody else now, whatever the creditor's tape says.
    assert creditor.states(second) == {"L1": "overdue", "L2": "overdue", "L3": "replaced"}


def test_when_a_lot_comes_back_its_older_accounts_are_replaced(creditor: Creditor) -> None:
    first = creditor.send(FEBRUARY, "L1")
    creditor.move(first, "L1", Status.LISTED)
    second = creditor.send(MARCH, "L1")
    creditor.move(first, "L1", Status.OVERDUE)  # unsold
    which = col(LoanAccount.tape_id) == first
    for _ in range(2):  # asking twice is asking once
        creditor.db.in_transaction(accounts.replace_later, creditor.id, which, "auction:7", at=NOW)
    creditor.do()
    assert (creditor.states(first), creditor.states(second)) == ({"L1": "replaced"}, {"L1": "overdue"})


def test_a_loan_is_never_listed_twice(creditor: Creditor) -> None:
    first = creditor.send(FEBRUARY, "L1", "L2")
    creditor.move(first, "L1", Status.LISTED)
    second = creditor.send(MARCH, "L1", "L2", "L3")
    which = col(LoanAccount.tape_id) == second
    with pytest.raises(Conflict) as conflict:
        creditor.db.in_transaction(accounts.check_free, creditor.id, which, expected=3)
    assert (conflict.value.code, conflict.value.facts) == ("accounts_not_free", {"expected": 3, "free": 2})
    creditor.move(first, "L1", Status.REPLACED)
    creditor.db.in_transaction(accounts.check_free, creditor.id, which, expected=3)


def test_the_loans_of_another_creditor_are_others(db: Database, tmp_path: Path) -> None:
    one, other = Creditor(db, tmp_path / "one"), Creditor(db, tmp_path / "other")
    mine = one.send(FEBRUARY, "L1")
    one.send(FEBRUARY, "L2")
    other.send(MARCH, "L1")
    other.send(MARCH, "L2")
    assert one.states(mine) == {"L1": "overdue"}


def test_more_than_a_batch_is_replaced(creditor: Creditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "BATCH_ROWS", 3)
    first = creditor.send(FEBRUARY, *(f"L{number}" for number in range(10)))
    creditor.send(MARCH, *(f"L{number}" for number in range(8)))
    assert sorted(creditor.states(first).values()) == ["overdue"] * 2 + ["replaced"] * 8
