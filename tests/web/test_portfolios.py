"""Tapes, accounts and portfolios as an asset manager uses them: pages, downloads, JSON."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.servers import PATIENCE_S
from tests.web.conftest import Site, Visit
from web.cli import app as cli

CSV = (
    b"loan_id,borrower_id,principal,interest_due,dpd,product,region\n"
    b"L1,B1,1000.00,10.00,45,cars,Hebei\n"
    b"L2,B1,2000.00,20.50,20,cars,Hebei\n"
    b"L3,B2,3000.00,0.00,0,cards,Anhui\n"
    b"L4,B3,400.00,1.00,200,cards,Anhui\n"
)


def send(visit: Visit, content: bytes, *, name: str = "tape.csv", **fields: str) -> str:
    """Send a tape as the page does, wait until it is read, and return the address of its page."""
    answer = visit.post(
        "/tapes",
        {"cutoff_on": "2026-10-31", "currency": "USD", "mapping": "", **fields},
        files={"file": (name, content, "text/csv")},
    )
    assert answer.status_code == 303, answer.text
    address = answer.headers["location"]
    wait(visit, address)
    return address


def wait(visit: Visit, address: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        tape: dict[str, Any] = visit.api("GET", address).json()
        if tape["status"] not in ("received", "reading"):
            return tape
        time.sleep(0.05)
    raise AssertionError("the tape was not read")


def test_from_a_tape_to_a_portfolio(site: Site) -> None:
    ann = site.person("asset_manager")
    assert "No tapes yet" in ann.get("/tapes").text
    address = send(ann, CSV)
    page = ann.get(address).text
    assert "Recognised as Clearlot, loan by loan" in page
    assert "6,431.50" in page  # all rows
    accounts = ann.get("/accounts?bucket=16-30&bucket=31-60").text
    assert "2 accounts selected" in accounts
    assert "3,030.50" in accounts  # the sum of the selection
    assert "L4" not in accounts
    assert 'href="/accounts?' in accounts
    assert ">cars · 2</a>" in accounts
    assert ">cards · " not in accounts, "the counts are of the selection, not of the tape"
    assert ">cards · 2</a>" in ann.get("/accounts?status=any").text
    made = ann.post("/portfolios?bucket=16-30&bucket=31-60&status=overdue", {"name": "Cars, October"})
    assert made.status_code == 303, made.text
    shown = ann.get(made.headers["location"]).text
    for words in ("Cars, October", "3,030.50", "16–30 days", "SHA-256", "<rect"):
        assert words in shown
    for by in ("product", "region", "size"):
        assert ann.get(f"{made.headers['location']}?by={by}").status_code == 200
    assert "Cars, October" in ann.get("/portfolios").text
    account = ann.api("GET", "/accounts?bucket=31-60").json()["accounts"][0]
    assert "1,010.00" in ann.get(f"/accounts/{account['id']}").text


def test_a_tape_that_names_no_borrowers_is_said_to(site: Site) -> None:
    ann = site.person("asset_manager")
    for content, named in ((CSV, True), (re.sub(rb"(?m)^([^,]+),[^,]+", rb"\1", CSV), False)):
        send(ann, content.replace(b"L", b"M") if named else content)
        chosen = "M" if named else "L"
        made = ann.post(f"/portfolios?status=overdue&loan={chosen}", {"name": "All of them"})
        assert made.status_code == 303, made.text
        page = ann.get(made.headers["location"]).text
        assert ("2 borrowers" in page, "Largest borrowers" in page) == (named, named)
        assert ("the tape names no borrowers" in page, "Largest accounts" in page) == (not named, not named)


def test_the_command_says_where_a_tape_is_wrong_and_which_creditor_is_not_there(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = site.person("asset_manager", name="First Bank")
    monkeypatch.setenv("CLEARLOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLEARLOT_DATABASE_URL", site.app.state.settings.database)
    file = tmp_path / "tape.csv"
    file.write_bytes(CSV + b"L5,B4,1.00\n")
    arguments = ["tape", "import", str(file), "--cutoff", "2026-10-31", "--creditor"]
    unknown = CliRunner().invoke(cli, [*arguments, "Second Bank"])
    assert unknown.exit_code == 1
    assert "There is no party “Second Bank” with a person" in unknown.stderr
    faulty = CliRunner().invoke(cli, [*arguments, str(ann.party_id)])
    assert faulty.exit_code == 1
    assert "fault      row 5: found '3 cells', expected 7 cells" in faulty.stdout


def test_a_picture_sent_as_a_tape_is_named_in_words(site: Site) -> None:
    ann = site.person("asset_manager")
    page = ann.get(
        send(ann, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", name="tape.png") + "?lang=zh", follow_redirects=True
    ).text
    assert "其他类型的文件（PNG）" in page
    assert "IHDR" not in page


def test_every_page_in_chinese(site: Site) -> None:
    ann = site.person("asset_manager")
    address = send(ann, CSV)
    bad = send(ann, CSV.replace(b"400.00", b"4e2"))
    for page in ("/tapes", address, bad, "/accounts", "/portfolios"):
        text = ann.get(f"{page}?lang=zh").text
        assert "逾期" in text or "数据" in text, page
    assert "数字，最多 2 位小数" in ann.get(f"{bad}?lang=zh").text


def test_a_faulty_tape_shows_every_fault_and_is_taken_only_by_order(site: Site) -> None:
    ann = site.person("asset_manager")
    bad = CSV.replace(b"400.00", b"=4e2").replace(b"L2,", b"L1,")
    address = send(ann, bad)
    page = ann.get(address).text
    assert "Not kept: 2 faults in 2 of 4 rows." in page
    report = ann.api("GET", address).json()
    assert (report["all"]["rows"], report["kept"]["rows"]) == (3, 2)  # a row whose amount is wrong has no balance
    faults = ann.api("GET", f"{address}/faults").json()
    assert [(one["row"], one["column"], one["found"], one["code"]) for one in faults["faults"]] == [
        (2, "loan_id", "L1", "repeated"), (4, "principal", "=4e2", "amount_format"),
    ]  # fmt: skip
    lines = list(csv.reader(io.StringIO(ann.get(f"{address}/faults.csv").text)))
    assert lines[2] == ["4", "principal", "'=4e2", "digits with at most 2 decimals", "amount_format"]
    answer = ann.get(f"{address}/with-faults.csv")
    assert answer.headers["content-disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [bool(row["fault"]) for row in rows] == [False, True, False, True]
    assert rows[3]["principal"] == "'=4e2"
    assert ann.post(f"{address}/order", {"reason": "no"}).status_code == 422
    assert ann.post(f"{address}/order", {"reason": "Both rows are tests of ours."}).status_code == 303
    assert wait(ann, address)["kept"]["rows"] == 2
    assert "Both rows are tests of ours." in ann.get(address).text


def test_an_unknown_table_is_mapped_once(site: Site) -> None:
    ann = site.person("asset_manager")
    content = "合同号,本金,逾期天数,bank_balance\nA1,1000.00,45,7.00\n".encode("gb18030")
    address = send(ann, content)
    page = ann.get(f"{address}/mapping").text
    assert re.findall(r'value="(\w+)" selected', page).count("principal") == 1  # not the borrower's bank balance, too
    assert "合同号" in page
    assert "1000.00" in page
    fields = {"name": "ours", "field-0": "loan_id", "field-1": "", "field-2": "dpd"}
    refused = ann.post(f"{address}/mapping", fields)
    assert refused.status_code == 422
    assert "No column was named for this field" in refused.text
    assert ann.post(f"{address}/mapping", {**fields, "field-1": "principal"}).status_code == 303
    assert wait(ann, address)["status"] == "kept"
    assert "ours" in ann.get("/tapes").text


@pytest.mark.parametrize(
    ("fields", "content", "status", "words"),
    [
        ({"cutoff_on": "2099-01-01"}, CSV, 422, "not in the future"),
        ({"cutoff_on": "yesterday"}, CSV, 422, "cutoff_on"),
        ({"currency": "XXX"}, CSV, 422, "currency"),
        ({"mapping": "nonsense"}, CSV, 422, "format is not known"),
        ({"mapping": "saved:1"}, CSV, 422, "format is not known"),
    ],
)
def test_what_comes_with_a_file_is_checked(
    site: Site, fields: dict[str, str], content: bytes, status: int, words: str
) -> None:
    ann = site.person("asset_manager")
    data = {"cutoff_on": "2026-10-31", "currency": "USD", "mapping": "", **fields}
    answer = ann.post("/tapes", data, files={"file": ("a.csv", content, "text/csv")})
    assert answer.status_code == status
    assert words in answer.text
    assert ann.api("GET", "/tapes").json()["tapes"] == []


def test_the_same_file_twice_is_one_tape(site: Site) -> None:
    ann = site.person("asset_manager")
    send(ann, CSV)
    answer = ann.post("/tapes", {"cutoff_on": "2026-10-31"}, files={"file": ("b.csv", CSV, "text/csv")})
    assert answer.status_code == 409
    assert "received before" in answer.text


def test_nobody_sees_what_is_not_his(site: Site) -> None:
    ann, eve, ivy = site.person("asset_manager"), site.person("asset_manager"), site.person("investor")
    address = send(ann, CSV.replace(b"400.00", b"x"))
    for page in (address, f"{address}/progress", f"{address}/faults.csv", f"{address}/with-faults.csv"):
        assert eve.get(page).status_code == 404, page
        assert ivy.get(page).status_code == 403, page
    assert eve.api("GET", address).status_code == 404
    assert eve.post(f"{address}/order", {"reason": "I want it for myself"}).status_code == 404
    assert eve.api("GET", "/accounts").json()["accounts"] == []


def test_the_json_api_does_what_the_pages_do(site: Site) -> None:
    ann = site.person("asset_manager")
    sent = ann.api("POST", "/tapes", data={"cutoff_on": "2026-10-31"}, files={"file": ("t.csv", CSV, "text/csv")})
    assert sent.status_code == 202, sent.text
    address = sent.headers["location"].removeprefix("/api/v1")
    tape = wait(ann, address)
    assert (tape["status"], tape["kept"]["balance"], tape["format"]) == ("kept", "6431.50", "clearlot")
    first = ann.api("GET", "/accounts?status=overdue&limit=2").json()
    second = ann.api("GET", f"/accounts?status=overdue&limit=2&cursor={first['next']}").json()
    assert [one["loan_id"] for one in first["accounts"] + second["accounts"]] == ["L1", "L2", "L4"]
    assert second["next"] is None
    assert first["sums"] == [{"currency": "USD", "accounts": 3, "principal": "3400.00", "balance": "3431.50"}]
    assert ann.api("GET", "/accounts?bucket=never").status_code == 422
    body = {"name": "By program", "selection": {"status": ["overdue"]}}
    made = ann.api("POST", "/portfolios", json=body)
    assert made.status_code == 201, made.text
    strata = ann.api("GET", made.headers["location"].removeprefix("/api/v1") + "/strata").json()
    assert strata["product"] == [
        {"name": "cars", "accounts": 2, "principal": "3000.00", "balance": "3030.50"},
        {"name": "cards", "accounts": 1, "principal": "400.00", "balance": "401.00"},
    ]
    assert strata["top"][0] == {"borrowers": 1, "balance": "3030.50"}
    refused = ann.api("POST", "/portfolios", json={"name": "x", "selection": {"status": ["performing"]}})
    assert refused.status_code == 422
    assert {fault["code"] for fault in refused.json()["faults"]} == {"name", "not_overdue"}


def test_a_real_tape_from_the_page(site: Site, shared_data: Path) -> None:
    ann = site.person("asset_manager")
    content = (shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz").read_bytes()
    address = send(ann, content, name="loans.csv.gz", cutoff_on="2018-04-01")
    page = ann.get(address).text
    assert "LendingClub, live snapshot (2018)" in page
    assert "963,989.15" in page
    late = ann.get("/accounts?bucket=16-30&bucket=31-120").text
    assert "75 accounts selected" in late
    assert "1,393,896.86" in late
    assert "31–120" in late
    made = ann.post("/portfolios?bucket=16-30&bucket=31-120", {"name": "Late"}).headers["location"]
    strata = ann.get(made).text
    assert "30.84%" in strata
    assert "69.16%" in strata  # the shares shown add up to the whole
