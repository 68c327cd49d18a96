"""Reading tapes: the real ones as their READMEs say, hostile ones refused with code and place, and what is written."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import IO, Any

import openpyxl
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import mappings
from market.accounts import MOVES, RANGES, Status, bucket, check_move
from market.errors import BadInput, Conflict, Fault
from market.mappings import Column, TapeMapping
from market.money import to_minor
from market.sheets import MOST_COLUMNS, MOST_UNPACKED_BYTES, open_table, safe_cell
from market.tape import ACCOUNT_COLUMNS, Checker, LoanRecord, annotated, fault_lines, records, write

CUTOFF = date(2026, 10, 31)


def read(
    source: IO[bytes] | bytes, *, cutoff: date = CUTOFF, mapping: TapeMapping | None = None
) -> tuple[Checker, list[Fault], pl.DataFrame]:
    """Read a whole tape: the checker with its sums, every fault, the good rows."""
    table = open_table(io.BytesIO(source) if isinstance(source, bytes) else source)
    found = mapping or mappings.recognise(table.header)
    assert found is not None, table.header
    checker = Checker(
        table.header, found, cutoff_on=cutoff, currency=found.currency or "USD", is_workbook=table.is_workbook
    )
    checked = [checker.check(block) for block in table.blocks()]
    return checker, [fault for one in checked for fault in one.faults], pl.concat([one.good for one in checked])


def refused(source: IO[bytes] | bytes) -> list[Fault]:
    """What is wrong with a file that cannot be read at all."""
    with pytest.raises(BadInput) as bad:
        read(source)
    return bad.value.faults


# --- the real ones -------------------------------------------------------------------------------


def test_the_snapshot_of_2018(shared_data: Path) -> None:
    with (shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz").open("rb") as file:
        checker, faults, good = read(file, cutoff=date(2018, 4, 1))
    assert (checker.mapping.name, checker.rows, faults) == ("lendingclub_2018_snapshot", 6_627, [])
    assert checker.kept.by_bucket == {
        "current": [6_200, 9_369_531_634], "1-15": [41, 72_446_134], "16-30": [26, 42_990_771],
        "31-120": [49, 96_398_915], "charged_off": [5, 0], "none": [306, 0],
    }  # fmt: skip
    ranges = good.select("bucket", "dpd", "dpd_to").unique().sort("bucket").rows()
    assert ranges == [
        ("1-15", 1, 15), ("16-30", 16, 30), ("31-120", 31, 120), ("charged_off", None, None), ("current", 0, 0),
        ("none", 0, 0),
    ]  # fmt: skip
    assert checker.report()["doubts"] == {"overdue_nothing_owed": 5}


def test_the_outcomes_of_2015(shared_data: Path) -> None:
    with (shared_data / "lendingclub_2015" / "loans.csv.gz").open("rb") as file:
        checker, faults, good = read(file, cutoff=date(2018, 9, 30))
    assert (checker.mapping.name, checker.rows, faults) == ("lendingclub_2015", 79_141, [])
    assert {name: sums[0] for name, sums in checker.kept.by_bucket.items()} == {"charged_off": 11_790, "none": 67_351}

    def fact(name: str) -> pl.Expr:
        return pl.col("facts").str.json_path_match(f"$['{checker.fact_names.index(name)}']").cast(pl.Int64)

    facts = good.with_columns(
        fact("loan_amount_minor").alias("lent"),
        fact("paid_principal_minor").alias("repaid"),
        fact("paid_total_minor").alias("paid"),
    )
    # The README: the amount from the instalment equals the principal repaid in 99.9 % of the fully paid loans.
    paid = facts.filter(pl.col("status") == "repaid")
    assert paid.filter(pl.col("lent") != pl.col("repaid")).height == 104
    lost = facts.filter(pl.col("status") == "overdue")
    assert (lost["balance_minor"] == lost["lent"] - lost["repaid"]).all()
    assert (lost["balance_minor"] > 0).all()
    dirty = facts.filter(pl.col("loan_id") == "59481599")  # 5864.9505117095 in the file
    assert dirty["paid"].to_list() == [586_495]


def test_prosper(shared_data: Path) -> None:
    with (shared_data / "prosper_sample" / "loans.csv.gz").open("rb") as file:
        checker, faults, good = read(file, cutoff=date(2014, 3, 31))
    assert (checker.mapping.name, checker.rows, faults) == ("prosper", 1_875, [])
    counts = {name: sums[0] for name, sums in checker.kept.by_bucket.items()}
    assert counts == {
        "current": 977, "1-15": 11, "16-30": 6, "31-60": 7, "61-90": 5, "91-120": 5, "121+": 262, "none": 602,
    }  # fmt: skip
    late = good.filter(pl.col("status") == "overdue")
    assert (late["dpd"] == late["dpd_to"]).all()
    assert [bucket(dpd) for dpd in late["dpd"]] == late["bucket"].to_list()


def test_a_days_past_due_outside_the_words_of_its_status_is_a_fault(shared_data: Path) -> None:
    content = gzip.decompress((shared_data / "prosper_sample" / "loans.csv.gz").read_bytes())
    lines = content.splitlines()
    header = lines[0].split(b",")
    at = next(number for number, line in enumerate(lines) if b"Past Due (1-15 days)" in line)
    cells = lines[at].split(b",")
    shift = len(cells) - len(header)  # a quoted comma in the income's range stands before the days
    cells[header.index(b"LoanCurrentDaysDelinquent") + shift] = b"16"
    lines[at] = b",".join(cells)
    _, faults, _ = read(b"\n".join(lines), cutoff=date(2014, 3, 31))
    assert [(fault.row, fault.field, fault.found, fault.code) for fault in faults] == [
        (at, "LoanCurrentDaysDelinquent", "16", "dpd_outside_status")
    ]


def test_the_same_snapshot_as_a_workbook(shared_data: Path) -> None:
    content = gzip.decompress((shared_data / "lendingclub_2018_snapshot" / "loans.csv.gz").read_bytes()).decode()
    lines = [line.split(",") for line in content.splitlines()[:500]]
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    amounts = {lines[0].index(name) for name in ("balance", "paid_total", "loan_amount", "installment")}
    for number, line in enumerate(lines):
        sheet.append([float(cell) if number and i in amounts else cell for i, cell in enumerate(line)])
    file = io.BytesIO()
    book.save(file)
    _, from_book_faults, from_book = read(file.getvalue(), cutoff=date(2018, 4, 1))
    _, _, from_text = read("\n".join(",".join(line) for line in lines).encode(), cutoff=date(2018, 4, 1))
    assert from_book_faults == []
    assert from_book.equals(from_text)


# --- what is written is read ---------------------------------------------------------------------

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12
)  # letters, marks, figures, signs: also quotes, commas, formulas
_MINOR = st.integers(0, 10**11)


@st.composite
def loans(draw: Any) -> list[LoanRecord]:
    """Records as our own layout can hold them."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        principal, interest, fees = draw(_MINOR), draw(_MINOR), draw(_MINOR)
        balance = principal + interest + fees + draw(st.sampled_from([0, 0, 1, 10**6]))
        dpd = draw(st.integers(0, 20_000))
        owed = Status.PERFORMING if dpd == 0 else Status.OVERDUE
        found.append(
            LoanRecord(
                loan_id=f"{draw(_TEXT)}{number}",
                borrower_id=draw(st.just("") | _TEXT),
                status=owed if balance else Status.REPAID,
                principal_minor=principal,
                interest_minor=interest,
                fees_minor=fees,
                balance_minor=balance,
                dpd=dpd,
                dpd_to=dpd,
                bucket=bucket(dpd) if balance else "none",
                product=draw(st.just("") | _TEXT),
                region=draw(st.just("") | _TEXT),
                rate_bp=draw(st.integers(0, 100_000)),
                originated_on=draw(st.none() | st.dates(date(1900, 1, 1), CUTOFF)),
            )
        )
    return found


@given(loans(), st.sampled_from(["utf-8", "gb18030", "gzip"]))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(found: list[LoanRecord], form: str) -> None:
    content = write(found, "USD")
    if form == "gb18030":
        content = content.decode().encode("gb18030")
    _, faults, good = read(gzip.compress(content) if form == "gzip" else content)
    if form == "gb18030" and faults == []:
        # A few words in GB18030 can be good UTF-8, too; nothing in the bytes tells then.
        try:
            content.decode()
        except UnicodeDecodeError:
            assert records(good) == found
        return
    assert faults == []
    assert records(good) == found


ROUNDED = (
    Column("loan_id", "loan_id", "text"),
    Column("principal", "principal", "amount", rounds=True),
    Column("dpd", "dpd", "whole"),
)


@given(st.decimals(0, 10**9, places=6), st.sampled_from(["USD", "JPY", "KWD"]))
@settings(max_examples=200, deadline=None)
def test_amounts_are_rounded_once_half_to_even(value: Decimal, currency: str) -> None:
    columns = tuple(
        Column(name, name, kind, rounds=True) for name, kind in (("loan_id", "text"), ("principal", "amount"))
    )
    mapping = TapeMapping("x", "x", currency, "days_past_due", (*columns, Column("dpd", "dpd", "whole")))
    _, faults, good = read(f"loan_id,principal,dpd\n1,{value:f},5\n".encode(), mapping=mapping)
    assert faults == []
    assert good["principal_minor"].to_list() == [to_minor(value, currency)]


def test_half_goes_to_even() -> None:
    mapping = TapeMapping("x", "x", "USD", "days_past_due", ROUNDED)
    texts = ["0.005", "0.015", "0.025", "0.0250001", "5864.9505117095", "9999999999.994999999999999"]
    rows = "\n".join(f"{number},{text},5" for number, text in enumerate(texts))
    _, _, good = read(f"loan_id,principal,dpd\n{rows}\n".encode(), mapping=mapping)
    expected = [int((Decimal(t) * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)) for t in texts]
    assert good["principal_minor"].to_list() == expected == [0, 2, 2, 3, 586_495, 999_999_999_999]


# --- cells ---------------------------------------------------------------------------------------

HEADER = "loan_id,borrower_id,principal,interest_due,dpd,product,region,rate_percent,originated_on,legal_balance\n"


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        *(("principal", text, "amount_format") for text in (
            "NaN", "Infinity", "1e5", "--1", "+1.00", "1,5", " 1.00", "1.00 ", "1_000", "1.", ".5", "0x10", "１２.00",
            "1.005", "-1.005", "٣.00", "1 000", "1'000", "$5",
        )),
        ("principal", "", "missing"),
        ("principal", "999999999999.99", "amount_range"),
        ("principal", "1234567890123456", "amount_range"),
        ("principal", "9" * 59, "amount_range"),
        ("principal", "-1.00", "amount_negative"),
        ("rate_percent", "9" * 40, "rate_range"),
        *(("dpd", text, "whole_number") for text in (
            "thirty", "-1", "1.0", "20001", "1e2", "٣", "99999999999999999999",
        )),
        ("dpd", "", "missing"),
        *(("originated_on", text, "date") for text in (
            "2026-02-30", "2026-2-3", "03.02.2026", "+2026-01-01", "20260101", "yesterday", "2026-01-01 ",
        )),
        ("originated_on", "2026-11-01", "date_range"),
        ("originated_on", "0001-01-01", "date_range"),
        ("loan_id", "", "missing"),
        ("loan_id", " L", "blank_ends"),
        ("loan_id", "L\u200b1", "hidden_character"),
        ("loan_id", "L\u202e1", "hidden_character"),
        ("product", "ca\u0007rs", "hidden_character"),
        ("product", "ca\trs", "hidden_character"),
        ("product", "x" * 201, "too_long"),
        ("rate_percent", "1000.01", "rate_range"),
        ("rate_percent", "5%", "amount_format"),
        ("legal_balance", "0.50", "balance_identity"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_found_by_row_and_column(column: str, cell: str, code: str) -> None:
    names = HEADER.strip().split(",")
    rows = [["L1", "B1", "1.00", "0.00", "5", "cars", "Hebei", "5.00", "2020-01-31", "1.00"] for _ in range(3)]
    for number, row in enumerate(rows):
        row[0] = f"L{number}"
    rows[1][names.index(column)] = f'"{cell}"' if "," in cell else cell
    content = HEADER + "\n".join(",".join(row) for row in rows)
    checker, faults, good = read(content.encode())
    assert [(fault.row, fault.field, fault.code) for fault in faults] == [(2, column, code)]
    assert good.height == 2
    assert (checker.faulty_rows, checker.rows) == (1, 3)


def test_each_fault_of_an_amount_says_what_was_expected() -> None:
    rows = [f"L{n},B1,{cell},0.00,5,cars,Hebei,5.00,2020-01-31," for n, cell in enumerate(("-1", "9" * 30, "x"))]
    _, faults, _ = read((HEADER + "\n".join(rows)).encode())
    assert [fault.expected for fault in faults] == [
        "not negative", "at most 10,000,000,000.00", "digits with at most 2 decimals",
    ]  # fmt: skip


def test_a_file_that_is_no_table_is_named_by_its_kind() -> None:
    with pytest.raises(BadInput) as refused:
        open_table(io.BytesIO(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"))
    assert refused.value.faults[0].found == "a file of another kind (PNG)"


def test_every_fault_of_a_row_is_found() -> None:
    _, faults, good = read(HEADER.encode() + b"L1,B1,x,y,z,cars,Hebei,q,never,1.00\nL1,B,1.00,,5,,,,,\n")
    assert [(fault.row, fault.field) for fault in faults] == [
        (1, "principal"), (1, "interest_due"), (1, "dpd"), (1, "rate_percent"), (1, "originated_on"), (2, "loan_id"),
    ]  # fmt: skip
    assert good.is_empty()
    assert good.columns == list(ACCOUNT_COLUMNS)


def test_one_wrong_cell_in_row_70000_of_several_blocks() -> None:
    lines = [f"L{n},B,{n}.00,0.00,5,{'x' * 120},Hebei,5.00,2020-01-31," for n in range(1, 90_001)]
    lines[69_999] = lines[69_999].replace("70000.00", "7e4")
    _, faults, good = read((HEADER + "\n".join(lines)).encode())
    assert [(fault.row, fault.field, fault.found) for fault in faults] == [(70_000, "principal", "7e4")]
    assert good.height == 89_999
    assert good["row"].to_list() == [n for n in range(1, 90_001) if n != 70_000]


def test_rows_of_another_length_are_named_also_when_they_make_up_for_one_another() -> None:
    rows = [f"L{n},B,1.00,0.00,5,cars,Hebei,5.00,2020-01-31,1.00" for n in range(1, 6)]
    rows[1] += ",extra"
    rows[3] = rows[3].removesuffix(",1.00")
    _, faults, good = read((HEADER + "\n".join(rows) + "\n\n\n").encode())
    assert [(fault.row, fault.code, fault.found) for fault in faults] == [
        (2, "ragged", "11 cells"),
        (4, "ragged", "9 cells"),
    ]
    assert good["row"].to_list() == [1, 3, 5]


def test_a_header_that_comes_again_is_a_fault() -> None:
    row = "L1,B,1.00,0.00,5,cars,Hebei,5.00,2020-01-31,1.00\n"
    _, faults, good = read((HEADER + row + HEADER + row.replace("L1", "L2")).encode())
    assert [(fault.row, fault.code) for fault in faults] == [(2, "header_repeated")]
    assert good["row"].to_list() == [1, 3]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_quotes_and_line_ends(separator: str) -> None:
    row = ["L1", "B", "1.00", "0.00", "5", '"big ""red"" cars"', "He, bei", "5.00", "2020-01-31", "1.00"]
    content = HEADER.strip().replace(",", separator) + "\r\n" + separator.join(row) + "\r\n"
    _, faults, good = read(b"\xef\xbb\xbf" + content.encode())
    assert faults == []
    assert good.select("product", "region").rows() == [('big "red" cars', "He, bei")]


# --- files ---------------------------------------------------------------------------------------


def bomb(line: bytes, repeat: int) -> bytes:
    """A gzip file that unpacks to `repeat` lines."""
    packer = zlib.compressobj(9, wbits=31)
    piece = line * 10_000
    return (
        packer.compress(HEADER.encode())
        + b"".join(packer.compress(piece) for _ in range(repeat // 10_000))
        + packer.flush()
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (HEADER.encode(), "no_rows"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), "not_a_table"),
        (HEADER.encode("utf-16-be"), "not_a_table"),
        (b"%PDF-1.7 ...", "not_a_table"),
        (b"PAR1....", "not_a_table"),
        (b"a,b\n1,\xff\xff\n", "encoding"),
        (HEADER.encode() + "L1,张三李四王五,1.00".encode() + b"\xe5\xbc\n", "encoding"),
        (",".join(f"c{n}" for n in range(16_000)).encode() + b"\n" + b"," * 15_999 + b"\n", "too_many_columns"),
        (b"a,b,A\n1,2,3\n", "header_duplicate"),
        ("a,ａ\n1,2\n".encode(), "header_duplicate"),
        ("loan\u200b_id,b\n1,2\n".encode(), "header_character"),
        ("loan\u202e_id,b\n1,2\n".encode(), "header_character"),
        (b"a,,c\n1,2,3\n", "header_empty"),
        (b"a," + b"n" * 200 + b"\n1,2\n", "header_length"),
        (HEADER.encode() + b'L1,"B' + b"x" * 50 + b"\n" * 20, "quote_open"),
        (HEADER.encode() + b'L1,"B"b,1.00,0.00,5,cars,Hebei,5.00,2020-01-31,1.00\n', "quote"),
        (HEADER.encode() + b"x" * 3_000_000, "record_too_long"),
        (b"\x1f\x8b\x08\x00garbage", "archive_broken"),
        (gzip.compress(HEADER.encode() * 100)[:-9], "archive_broken"),
        (b"PK\x03\x04garbage", "archive_broken"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(content: bytes, code: str) -> None:
    assert refused(content)[0].code == code


def test_a_gzip_bomb_is_let_go_early() -> None:
    content = bomb(b"0" * 1_000 + b"\n", 400_000)
    assert len(content) < 3_000_000
    fault = refused(content)[0]
    assert fault.code == "too_large"
    assert int(fault.found.split()[2]) < MOST_UNPACKED_BYTES / 2


def test_too_many_rows_are_not_read() -> None:
    assert refused(bomb(b"1\n", 2_100_000))[0].code in ("too_many_rows", "too_large")


def test_all_faults_of_a_header_at_once() -> None:
    faults = refused("a,b,a,\u200bc,\n1,2,3,4,5\n".encode())
    assert [fault.code for fault in faults] == ["header_duplicate", "header_character", "header_empty"]
    assert {fault.row for fault in faults} == {0}


# --- workbooks -----------------------------------------------------------------------------------


def workbook(rows: list[list[Any]], change: Callable[[dict[str, bytes]], None] | None = None) -> bytes:
    """An XLSX file with one sheet; `change` may alter its parts."""
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    if change is None:
        return file.getvalue()
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


ROWS: list[list[Any]] = [["loan_id", "principal", "dpd"], ["L1", 100.5, 45], ["L2", 2000, 0]]
SHEET = "xl/worksheets/sheet1.xml"


def test_a_workbook_is_read() -> None:
    _, faults, good = read(workbook(ROWS))
    assert faults == []
    assert good.select("loan_id", "principal_minor", "dpd").rows() == [("L1", 10_050, 45), ("L2", 200_000, 0)]


def test_dates_of_a_workbook() -> None:
    rows = [[*ROWS[0], "originated_on"], ["L1", 100.5, 45, date(2020, 1, 31)], ["L2", 1, 2, "2020-02-01"]]
    _, faults, good = read(workbook(rows))
    assert faults == []
    assert good["originated_on"].to_list() == [date(2020, 1, 31), date(2020, 2, 1)]


def _in_sheet(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        assert old in parts[SHEET]
        parts[SHEET] = parts[SHEET].replace(old, new)

    return change


def _with(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda parts: parts.update({name: content})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_with("xl/vbaProject.bin", b"x"), "macros"),
        (_with("xl/externalLinks/externalLink1.xml", b"<x/>"), "outside_links"),
        (
            _with("xl/worksheets/_rels/sheet1.xml.rels", b'<R><Relationship TargetMode="External" Target="x"/></R>'),
            "outside_links",
        ),
        (_with("../../evil.xml", b"<x/>"), "archive_names"),
        (_with("/evil.xml", b"<x/>"), "archive_names"),
        (_with("xl/bomb.xml", b"<x>" + b"0" * 100_000_000), "too_large"),
        (_in_sheet(b"<worksheet", b'<!DOCTYPE x [<!ENTITY a "b">]><worksheet'), "xml_entities"),
        (_in_sheet(b'r="B2"', b'r="XFD1048576"'), "too_many_columns"),
        (_in_sheet(b'r="B2"', b'r="B9000000"'), "too_many_rows"),
        (_in_sheet(b'<c r="B2"', b"<c r='B2'"), "sheet_form"),
        (_in_sheet(b'<c r="B2"', b'<c r="&#66;2"'), "sheet_form"),
        (lambda parts: parts.pop("xl/workbook.xml"), "archive_broken"),
    ],
)
def test_a_hostile_workbook_is_refused(change: Callable[[dict[str, bytes]], None], code: str) -> None:
    assert refused(workbook(ROWS, change))[0].code == code


def test_formulas_and_errors_are_named_by_cell() -> None:
    faults = refused(workbook([*ROWS, ["L3", "=1+1", 3], ["L4", 5, "=A1"]]))
    assert [(fault.code, fault.field, fault.row) for fault in faults] == [("formula", "B", 3), ("formula", "C", 4)]


def test_parts_that_overlap_or_repeat_are_refused() -> None:
    content = workbook(ROWS)
    out = io.BytesIO(content)
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(SHEET, b"<x/>")
    assert refused(out.getvalue())[0].code == "archive_entries"
    # Two entries of the directory that point at the same bytes.
    end = content.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", content[end + 10 : end + 20])
    directory = content[start : start + size]
    twin = directory[: 46 + struct.unpack("<H", directory[28:30])[0] + sum(struct.unpack("<HH", directory[30:34]))]
    twin = twin.replace(b"docProps/app.xml", b"docProps/apq.xml")
    tail = struct.pack("<HHII", count + 1, count + 1, size + len(twin), start)
    both = content[:start] + directory + twin + content[end : end + 8] + tail + content[end + 20 :]
    assert refused(both)[0].code in ("archive_entries", "archive_broken")


def test_two_sheets_with_data_are_refused() -> None:
    book = openpyxl.Workbook()
    for title in ("one", "two"):
        book.create_sheet(title).append(["a", "b"])
    file = io.BytesIO()
    book.save(file)
    assert refused(file.getvalue())[0].code == "several_sheets"


# --- mappings, exports, moves --------------------------------------------------------------------


def test_known_formats_survive_being_saved() -> None:
    for mapping in mappings.known().values():
        assert mappings.read(mappings.write(mapping)) == mapping


def test_a_mapping_says_all_that_is_wrong_with_it() -> None:
    columns = [{"source": "a", "field": "loan_id", "type": "amount"}, {"source": "b", "field": "x", "type": "date"}]
    with pytest.raises(BadInput) as bad:
        mappings.read({"name": "n", "title": "t", "currency": "XXX", "columns": columns})
    codes = [fault.code for fault in bad.value.faults]
    assert codes == ["mapping_field", "mapping_format", "mapping_missing", "mapping_missing", "currency_unknown"]


def test_faults_as_a_file_and_the_own_file_with_a_fault_column() -> None:
    fault = Fault("ragged", "=cmd", "-1+2", "@x", 2)
    assert fault_lines([fault]) == b"2,'=cmd,'-1+2,'@x,ragged\n"
    table = open_table(io.BytesIO(b"a,b\n=1,-5\n2\n3,\xef\xbc\x9d1\n"))
    content = b"".join(annotated(table.header, table.blocks(), {2: "short"}))
    assert content.decode().splitlines() == ["a,b,fault", "'=1,-5,", "2,,short", "3,'＝1,"]


@pytest.mark.parametrize("text", ["=1", "+x", "-x", "@a", "\tx", "\rx", "＝1", "＋1", "－x", "＠a"])
def test_what_would_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-1.50", "+3", "plain", "", "1=1"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert safe_cell(text) == text


def test_buckets_leave_no_day_out_and_overlap_nowhere() -> None:
    for dpd in range(20_001):
        assert sum(dpd >= first and (last is None or dpd <= last) for _, first, last in RANGES) == 1


def every_move() -> Iterator[tuple[Status, Status]]:
    return ((before, after) for before in Status for after in Status)


@pytest.mark.parametrize(("before", "after"), list(every_move()))
def test_moves_are_the_table(before: Status, after: Status) -> None:
    if after in MOVES[before]:
        check_move(before, after)
    else:
        with pytest.raises(Conflict):
            check_move(before, after)
    if before in (Status.CLOSED_OUT, Status.REPAID):
        assert not MOVES[before]


def test_no_file_may_have_more_columns_than_the_limit() -> None:
    names = [f"c{number}" for number in range(MOST_COLUMNS)]
    assert (
        len(open_table(io.BytesIO(",".join(names).encode() + b"\n" + b"," * (MOST_COLUMNS - 1))).header) == MOST_COLUMNS
    )
