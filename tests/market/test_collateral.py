"""VINs, facts by field, and photographs from anybody."""

from __future__ import annotations

import csv
import gzip
import io
import struct
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from market.collateral import read_item, read_photograph, read_vin, vin_model_years
from market.errors import BadInput
from tests.web.lot_world import ITEM, photograph

TODAY = date(2026, 11, 22)


def test_every_vin_of_real_sales_holds(shared_data: Path) -> None:
    with gzip.open(shared_data / "vehicle_auction_sales" / "sales.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 6000
    right = sum(int(row["year"]) in vin_model_years(read_vin(row["vin"])) for row in rows)
    assert right / len(rows) > 0.99


@pytest.mark.parametrize(
    ("vin", "code"),
    [
        ("1HGCM82633A004353", "vin_check_digit"), ("1HGCM82643A004352", "vin_check_digit"), ("1HGCM8263", "vin_format"),
        ("1HGCM82633A00435O", "vin_format"), ("1HGCM82633A0043５2", "vin_format"), ("", "vin_format"),
    ],
)  # fmt: skip
def test_a_wrong_vin(vin: str, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_vin(vin)
    assert refused.value.faults[0].code == code


def test_where_the_check_digit_is_not_mandatory_it_is_not_asked_for() -> None:
    assert read_vin("wvwzzz1jz3w386752") == "WVWZZZ1JZ3W386752"


def test_an_item_and_its_liens() -> None:
    item = read_item({**ITEM, "liens": "2; B; 5\n1; 甲银行; 200000.00\n"}, on=TODAY)
    assert [(lien.rank, lien.holder, lien.amount_minor) for lien in item.liens] == [
        (1, "甲银行", 20_000_000),
        (2, "B", 500),
    ]
    assert item.appraisal_minor == 100_000_000


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({"appraisal": "1,000"}, {("amount_format", "appraisal")}),
        (
            {"appraisal_on": "2026-11-23", "odometer_km": "82k"},
            {("range", "appraisal_on"), ("whole_number", "odometer_km")},
        ),
        ({"model_year": "2010"}, {("vin_model_year", "model_year")}),
        ({"title_en": "a\u202eb"}, {("hidden_character", "title_en")}),
        ({"title_zh": "", "kind": "boat"}, {("missing", "title_zh"), ("choice", "kind")}),
        ({"liens": "1; x"}, {("lien_format", "liens")}),
        ({"currency": "XXX"}, {("choice", "currency")}),
    ],
)
def test_every_fault_by_its_field(change: dict[str, str], faults: set[tuple[str, str]]) -> None:
    with pytest.raises(BadInput) as refused:
        read_item({**ITEM, **change}, on=TODAY)
    assert {(fault.code, fault.field) for fault in refused.value.faults} == faults


def test_property() -> None:
    values = {**ITEM, "kind": "property", "address": "Wensan Rd 1", "use": "residential", "area_m2": "89.5",
              "title_no": "浙1", "occupancy": "let", "lease_until_on": "2027-01-01"}  # fmt: skip
    assert read_item(values, on=TODAY).facts["area_m2"] == "89.50"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photograph_is_written_anew(kind: str) -> None:
    data = photograph(2400, 1600, kind)
    assert b"secret place" in data
    made = read_photograph(data)
    assert b"secret place" not in made.full + made.thumbnail
    assert (made.width, made.height) == (1600, 1067)
    with Image.open(io.BytesIO(made.full)) as image:
        assert image.format == "WEBP"
        assert not image.getexif()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is huge and has nothing in it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = [(13, chunk), (len(data) - 4, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", size) + one + struct.pack(">I", zlib.crc32(one)) for size, one in chunks
    )


def bad_pictures() -> list[Any]:
    return [
        pytest.param(png_header(40_000, 40_000), "picture_pixels", id="bomb"),
        pytest.param(png_header(8_000, 8_000), "picture_pixels", id="large in pixels"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "picture_format", id="svg"),
        pytest.param(b"<html>", "picture_format", id="html"),
        pytest.param(b"GIF89a" + bytes(100), "picture_format", id="gif"),
        pytest.param(photograph()[:2000], "picture_broken", id="cut"),
        pytest.param(b"", "picture_size", id="empty"),
        pytest.param(bytes(20 * 1024 * 1024 + 1), "picture_size", id="large"),
    ]


@pytest.mark.parametrize(("data", "code"), bad_pictures())
def test_what_is_no_picture(data: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_photograph(data)
    assert refused.value.faults[0].code == code
