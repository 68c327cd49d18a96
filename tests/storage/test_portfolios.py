"""Tapes into accounts into portfolios, on both databases, with the real tapes."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from sqlmodel import Session, col, func, select

import market.portfolios
from market.errors import BadInput, Conflict, NotFound
from market.portfolios import Selection
from storage import outbox, portfolios
from storage.database import Database
from storage.objects import Folder
from storage.tables import AuditTrail, LoanAccount, Outbox, Party, Person, Portfolio, PortfolioAccount, Tape

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HEADER = b"loan_id,borrower_id,principal,interest_due,dpd,product,region\n"


@pytest.fixture
def objects(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "objects")


@pytest.fixture
def creditor(db: Database) -> int:
    return db.in_transaction(_creditor, "Northbank")


def _creditor(session: Session, name: str) -> int:
    party = Party(kind="organisation", name=name, name_key=name.casefold(), created_at=NOW)
    session.add(party)
    session.flush()
    session.add(Person(party_id=party.id, email=name, email_key=name, name=name, created_at=NOW))
    return party.id


def _receive(
    db: Database, objects: Folder, creditor: int, content: bytes, *, mapping: str = "", cutoff: date = date(2018, 4, 1)
) -> int:
    kept = objects.put(io.BytesIO(content), limit_bytes=10**9)
    return db.in_transaction(
        portfolios.receive_tape, creditor, creditor, filename="tape.csv", digest=kept.digest, size=kept.size_bytes,
        cutoff_on=cutoff, currency="USD", mapping=mapping, at=NOW,
    )  # fmt: skip


def _read(db: Database, objects: Folder, tape_id: int) -> str:
    return portfolios.read_tape(db, objects, tape_id, now=lambda: NOW)


def _count(session: Session) -> int:
    return session.exec(select(func.count()).select_from(LoanAccount)).one()


def _rows(count: int, *, wrong: dict[int, bytes] | None = None, product: bytes = b"cars") -> bytes:
    lines = [b"L%d,B%d,%d.50,1.00,%d,%s,Hebei" % (i, i % 7, 100 + i, i % 130, product) for i in range(1, count + 1)]
    for row, line in (wrong or {}).items():
        lines[row - 1] = line
    return HEADER + b"\n".join(lines) + b"\n"


def test_the_snapshot_of_2018_is_kept_as_its_readme_says(
    db: Database, objects: Folder, creditor: int, shared_data: Path
) -> None:
    content = (shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz").read_bytes()
    tape_id = _receive(db, objects, creditor, content)
    assert _read(db, objects, tape_id) == "kept"
    tape, faults = db.read(portfolios.tape, creditor, tape_id)
    assert (tape.rows, tape.faults, faults, tape.report["name"]) == (6_627, 0, [], "lendingclub_2018_snapshot")
    late = Selection(buckets=("16-30", "31-120"))
    (sums,) = db.read(portfolios.sums, creditor, late)
    assert (sums.accounts, sums.balance_minor) == (26 + 49, 42_990_771 + 96_398_915)
    some = db.read(portfolios.accounts, creditor, Selection(buckets=("31-120",)), limit=10)
    assert {(account.dpd, account.dpd_to, account.status) for account in some} == {(31, 120, "overdue")}

    made = portfolios.make_portfolio(db, creditor, creditor, name="Late 2018", selection=late, at=NOW)
    portfolio = db.read(portfolios.portfolio, creditor, made)
    assert (portfolio.accounts, portfolio.balance_minor, portfolio.currency) == (75, 139_389_686, "USD")
    assert [row[:2] for row in portfolio.strata["bucket"]] == [["16-30", 26], ["31-120", 49]]
    assert sum(row[3] for row in portfolio.strata["size"]) == portfolio.balance_minor
    first = db.read(portfolios.members, creditor, made, limit=50)
    second = db.read(portfolios.members, creditor, made, after=first[-1].id, limit=50)
    assert len({account.id for account in first + second}) == 75
    with pytest.raises(BadInput) as bad:
        portfolios.make_portfolio(db, creditor, creditor, name="All", selection=Selection(tape_id=tape_id), at=NOW)
    assert [fault.code for fault in bad.value.faults] == ["not_overdue"]


def test_the_outcomes_of_2015_are_kept(db: Database, objects: Folder, creditor: int, shared_data: Path) -> None:
    content = (shared_data / "lendingclub_2015" / "loans.csv.gz").read_bytes()
    tape_id = _receive(db, objects, creditor, content, cutoff=date(2018, 9, 30))
    assert _read(db, objects, tape_id) == "kept"
    (sums,) = db.read(portfolios.sums, creditor, Selection(buckets=("charged_off",)))
    assert (sums.accounts, sums.balance_minor) == (11_790, 8_608_052_362)
    assert db.read(_count) == 79_141


def test_one_wrong_cell_refuses_the_tape_until_the_creditor_orders_otherwise(
    db: Database, objects: Folder, creditor: int
) -> None:
    wrong = {7_000: b"L7000,B1,1e5,1.00,3,cars,Hebei", 7_001: b"L7001,B1,5.00,1.00,thirty,cars"}
    tape_id = _receive(db, objects, creditor, _rows(7_500, wrong=wrong))
    assert _read(db, objects, tape_id) == "faulty"
    assert db.read(_count) == 0
    tape, faults = db.read(portfolios.tape, creditor, tape_id)
    assert [(fault.row, fault.field, fault.code) for fault in faults] == [
        (7_000, "principal", "amount_format"), (7_001, "", "ragged"),
    ]  # fmt: skip
    assert tape.faulty_rows == 2
    with objects.get(tape.faults_digest) as file:
        assert len(file.read().splitlines()) == 3
    with pytest.raises(BadInput):
        db.in_transaction(portfolios.take_without_faulty_rows, creditor, tape_id, creditor, reason="", at=NOW)
    reason = "Both rows are test records of ours."
    db.in_transaction(portfolios.take_without_faulty_rows, creditor, tape_id, creditor, reason=reason, at=NOW)
    assert _read(db, objects, tape_id) == "kept"
    assert db.read(_count) == 7_498
    note = db.read(lambda s: s.exec(select(AuditTrail).where(AuditTrail.action == "tape_without_faulty_rows")).one())
    assert note.facts["reason"] == reason
    assert note.facts["after"]["rows"] == 7_498


def test_an_unknown_layout_asks_for_a_mapping_which_then_serves_the_next_tape(
    db: Database, objects: Folder, creditor: int
) -> None:
    content = "合同号,本金,逾期天数,地区\nA1,1000.00,45,河北\nA2,2000.50,0,河北\n".encode("gb18030")
    tape_id = _receive(db, objects, creditor, content)
    assert _read(db, objects, tape_id) == "needs_mapping"
    tape, _ = db.read(portfolios.tape, creditor, tape_id)
    assert tape.report["header"] == ["合同号", "本金", "逾期天数", "地区"]
    columns = [
        {"source": "合同号", "field": "loan_id", "type": "text", "must": True},
        {"source": "本金", "field": "principal", "type": "amount", "must": True},
        {"source": "逾期天数", "field": "dpd", "type": "whole", "must": True},
        {"source": "地区", "field": "region", "type": "text"},
    ]
    values = {"name": "ours", "title": "Ours", "columns": columns}
    with pytest.raises(BadInput) as bad:
        db.in_transaction(
            portfolios.use_mapping, creditor, tape_id, creditor, values=values | {"columns": columns[:1]}, at=NOW
        )
    assert [fault.code for fault in bad.value.faults] == ["mapping_missing", "mapping_missing"]
    db.in_transaction(portfolios.use_mapping, creditor, tape_id, creditor, values=values, at=NOW)
    assert _read(db, objects, tape_id) == "kept"
    account = db.read(portfolios.accounts, creditor, Selection(buckets=("31-60",)))[0]
    assert (account.loan_id, account.region, account.balance_minor, account.dpd) == ("A1", "河北", 100_000, 45)
    again = _receive(db, objects, creditor, content.replace(b"A1", b"A3"))
    assert _read(db, objects, again) == "kept"
    assert [row.version for row in db.read(portfolios.saved_mappings, creditor)] == [1]


def test_nothing_is_anybody_elses(db: Database, objects: Folder, creditor: int) -> None:
    tape_id = _receive(db, objects, creditor, _rows(10))
    _read(db, objects, tape_id)
    other = db.in_transaction(_creditor, "Southbank")
    assert db.read(portfolios.accounts, other, Selection()) == []
    mine = db.read(portfolios.accounts, creditor, Selection())[0]
    for look in (portfolios.tape, portfolios.portfolio, portfolios.account):
        with pytest.raises(NotFound):
            db.read(look, other, mine.id if look is portfolios.account else tape_id)
    with pytest.raises(Conflict):
        _receive(db, objects, creditor, _rows(10))
    _receive(db, objects, other, _rows(10))  # another's file is another's


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("at_row", [1, 80_000])
def test_a_reader_killed_in_the_middle_is_followed_by_another(
    db: Database, objects: Folder, creditor: int, at_row: int
) -> None:
    tape_id = _receive(db, objects, creditor, _rows(80_000, product=b"x" * 150))  # two blocks

    def told(done: int, rows: int) -> None:
        if done >= at_row:
            raise Killed

    with pytest.raises(Killed):
        portfolios.read_tape(db, objects, tape_id, now=lambda: NOW, told=told)
    assert db.read(_count) > 0
    assert db.read(portfolios.accounts, creditor, Selection()) == []
    assert db.read(portfolios.sums, creditor, Selection()) == []
    # The outbox row comes back when the dead reader's hold runs out.
    row = db.in_transaction(lambda s: s.exec(select(Outbox)).one())
    assert db.read(outbox.due, at=NOW + timedelta(minutes=2), limit=9)[0].id == row.id
    assert _read(db, objects, tape_id) == "kept"
    (sums,) = db.read(portfolios.sums, creditor, Selection())
    assert (sums.accounts, db.read(_count)) == (80_000, 80_000)
    assert _read(db, objects, tape_id) == "kept"  # asked once more: nothing happens
    assert db.read(_count) == 80_000


def test_an_older_reader_that_wakes_up_writes_nothing(db: Database, objects: Folder, creditor: int) -> None:
    tape_id = _receive(db, objects, creditor, _rows(20_000))
    seen: list[str] = []

    def told(done: int, rows: int) -> None:
        if not seen:
            seen.append("")
            seen.append(_read(db, objects, tape_id))  # the other reader, from start to end

    assert portfolios.read_tape(db, objects, tape_id, now=lambda: NOW, told=told) == "kept"
    assert seen[1] == "kept"
    assert db.read(_count) == 20_000


def test_what_could_be_taken_for_a_mark_of_the_database_is_text(db: Database, objects: Folder, creditor: int) -> None:
    content = HEADER + b'"L\\1",\\N,5.00,,3,"a ""b"" \\t \\\\",\\.\n'
    tape_id = _receive(db, objects, creditor, content)
    assert _read(db, objects, tape_id) == "kept"
    found = db.read(portfolios.accounts, creditor, Selection())[0]
    assert (found.loan_id, found.borrower_id, found.product, found.region) == ("L\\1", "\\N", 'a "b" \\t \\\\', "\\.")


def test_the_other_facts_of_a_row_come_back_by_name(db: Database, objects: Folder, creditor: int) -> None:
    content = (
        b'loan_id,principal,dpd,guarantor,appraisal,matures_on\nL1,5.00,3,"He said ""yes"" \\ no",7.50,2027-01-31\n'
    )
    assert _read(db, objects, _receive(db, objects, creditor, content)) == "kept"
    mine = db.read(portfolios.accounts, creditor, Selection())[0]
    _, facts = db.read(portfolios.account, creditor, mine.id)
    assert facts == {"matures_on": "2027-01-31", "appraisal_minor": 750, "guarantor": 'He said "yes" \\ no'}


def test_accounts_by_pages_and_filters(db: Database, objects: Folder, creditor: int) -> None:
    _read(db, objects, _receive(db, objects, creditor, _rows(500)))
    selection = Selection(buckets=("1-15", "16-30"), currency="USD", least_minor=20_000, most_minor=30_000)

    def all_pages() -> Iterator[LoanAccount]:
        after = 0
        while page := db.read(portfolios.accounts, creditor, selection, after=after, limit=7):
            yield from page
            after = page[-1].id

    found = list(all_pages())
    everything = db.read(portfolios.accounts, creditor, Selection(), limit=1000)
    expected = [
        account.id
        for account in everything
        if account.dpd and account.dpd <= 30 and 20_000 <= account.balance_minor <= 30_000
    ]
    assert [account.id for account in found] == expected
    (sums,) = db.read(portfolios.sums, creditor, selection)
    assert (sums.accounts, sums.balance_minor) == (len(found), sum(account.balance_minor for account in found))
    assert len(db.read(portfolios.accounts, creditor, Selection(loan="L49"), limit=99)) == 11
    assert db.read(portfolios.accounts, creditor, Selection(loan="L%"), limit=99) == []


def test_a_filter_counts_what_it_would_select(db: Database, objects: Folder, creditor: int) -> None:
    content = HEADER + b"".join(
        b"L%d,B%d,100.00,0.00,%d,%s,%s\n"
        % (i, i, 10 if i % 2 else 20, b"cars" if i % 3 else b"cards", b"Hebei" if i < 9 else b"Anhui")
        for i in range(1, 13)
    )
    _read(db, objects, _receive(db, objects, creditor, content))
    assert db.read(portfolios.facets, creditor, Selection()) == {
        "bucket": {"1-15": 6, "16-30": 6}, "product": {"cars": 8, "cards": 4}, "region": {"Hebei": 8, "Anhui": 4},
    }  # fmt: skip
    chosen = Selection(buckets=("1-15",), products=("cars",))
    found = db.read(portfolios.facets, creditor, chosen)
    assert found == {
        "bucket": {"1-15": 4, "16-30": 4},  # of the cars
        "product": {"cars": 4, "cards": 2},  # of the bucket
        "region": {"Hebei": 3, "Anhui": 1},  # of both: what the page shows
    }
    for region, count in found["region"].items():
        (sums,) = db.read(portfolios.sums, creditor, replace(chosen, regions=(region,)))
        assert sums.accounts == count


def test_a_portfolio_is_the_same_in_however_many_batches(
    db: Database, objects: Folder, creditor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = {5: b"L5,,105.50,1.00,5,cars,Hebei", 6: b"L6,,106.50,1.00,6,boats,"}
    _read(db, objects, _receive(db, objects, creditor, _rows(100, wrong=nobody)))
    heights: list[int] = []

    class Counted(market.portfolios.Assembly):
        def add(self, accounts: pl.DataFrame) -> None:
            heights.append(accounts.height)
            super().add(accounts)

    monkeypatch.setattr(portfolios, "Assembly", Counted)

    def made() -> Portfolio:
        selection = Selection(statuses=("overdue",))
        made = portfolios.make_portfolio(db, creditor, creditor, name="All", selection=selection, at=NOW)
        return db.read(portfolios.portfolio, creditor, made)

    whole = made()
    monkeypatch.setattr(portfolios, "PORTFOLIO_BATCH_ROWS", 7)
    parts = made()
    assert heights == [whole.accounts, *[7] * (whole.accounts // 7), whole.accounts % 7]
    assert (parts.content_hash, parts.strata) == (whole.content_hash, whole.strata)
    everybody = db.read(portfolios.members, creditor, parts.id, limit=1000)
    assert len(everybody) == whole.accounts == sum(row[1] for row in whole.strata["product"])
    owed: dict[str, int] = {}
    for account in everybody:
        who = account.borrower_id or account.loan_id
        owed[who] = owed.get(who, 0) + account.balance_minor
    largest = sorted(owed.values(), reverse=True)
    assert whole.borrowers == len(owed) == 9, "seven borrowers, and two loans of nobody"
    assert whole.strata["top"] == [[1, largest[0]], [5, sum(largest[:5])]]
    assert whole.strata["curve"][-1] == [10_000, 10_000]


def test_a_loan_on_sale_under_one_tape_is_not_sold_under_another(db: Database, objects: Folder, creditor: int) -> None:
    first = _receive(db, objects, creditor, _rows(5))
    second = _receive(db, objects, creditor, gzip.compress(_rows(5)))
    for tape_id in (first, second):
        assert _read(db, objects, tape_id) == "kept"

    def listed(session: Session) -> None:
        account = session.exec(select(LoanAccount).where(LoanAccount.tape_id == first, col(LoanAccount.row) == 3)).one()
        account.status = "listed"
        session.add(account)

    db.in_transaction(listed)
    with pytest.raises(BadInput) as bad:
        portfolios.make_portfolio(db, creditor, creditor, name="Again", selection=Selection(tape_id=second), at=NOW)
    assert [(fault.code, fault.found) for fault in bad.value.faults] == [("not_overdue", "L3")]
    assert db.read(lambda s: s.get_one(Tape, second).status) == "kept"


def test_bids_come_between_while_a_portfolio_is_made(
    db: Database, objects: Folder, creditor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches another transaction writes, and sees nothing of the portfolio; what changes refuses it."""
    _read(db, objects, _receive(db, objects, creditor, _rows(40)))
    monkeypatch.setattr(portfolios, "SQLITE_BATCH_ROWS", 7)
    monkeypatch.setattr(portfolios, "POSTGRESQL_BATCH_ROWS", 7)
    heard: list[tuple[int, int]] = []
    other = Database(db.engine.url.render_as_string(hide_password=False))

    def bid(session: Session) -> None:
        session.add(AuditTrail(at=NOW, action="bid", subject="lot", subject_id=len(heard)))

    def between(done: int, total: int) -> None:
        heard.append((done, total))
        other.in_transaction(bid)
        assert other.read(portfolios.portfolios, creditor) == []

    def replaced(done: int, total: int) -> None:
        def replace_one(session: Session) -> None:
            account = session.exec(select(LoanAccount).where(LoanAccount.row == 3)).one()
            account.status = "replaced"
            session.add(account)

        if done == total:
            other.in_transaction(replace_one)

    made = portfolios.make_portfolio(db, creditor, creditor, name="All", selection=Selection(), at=NOW, told=between)
    assert heard == [(7, 40), (14, 40), (21, 40), (28, 40), (35, 40), (40, 40)]
    assert [one.id for one in db.read(portfolios.portfolios, creditor)] == [made]
    assert len(db.read(portfolios.members, creditor, made, limit=100)) == 40
    with pytest.raises(BadInput) as bad:
        portfolios.make_portfolio(db, creditor, creditor, name="Two", selection=Selection(), at=NOW, told=replaced)
    assert [(one.code, one.found) for one in bad.value.faults] == [("selection_changed", "1 accounts")]

    def rows(session: Session) -> tuple[int, int]:
        portfolios_, members = (select(func.count()).select_from(one) for one in (Portfolio, PortfolioAccount))
        return session.exec(portfolios_).one(), session.exec(members).one()

    assert db.read(rows) == (1, 40)
    other.close()


def test_what_a_dead_process_left_of_a_portfolio_is_never_shown_and_removed(
    db: Database, objects: Folder, creditor: int
) -> None:
    _read(db, objects, _receive(db, objects, creditor, _rows(5)))

    def die(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        portfolios.make_portfolio(db, creditor, creditor, name="One", selection=Selection(), at=NOW, told=die)
    assert db.read(portfolios.portfolios, creditor) == []
    later = NOW + timedelta(days=1)
    made = portfolios.make_portfolio(db, creditor, creditor, name="Two", selection=Selection(), at=later)
    assert db.read(lambda session: list(session.exec(select(Portfolio.id)))) == [made]
