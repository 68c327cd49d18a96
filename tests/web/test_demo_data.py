"""The demonstration's generator: the same seed gives the same data, and the data are what real ones would be."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from random import Random

import pytest
from PIL import Image

from market.collateral import Item, read_item
from web import demo_data, demo_pictures

ON = date(2026, 11, 20)


def test_same_seed_same_data() -> None:
    assert demo_data.tape_csv(Random(5), rows=50, prefix="LT", year=2025) == demo_data.tape_csv(
        Random(5), rows=50, prefix="LT", year=2025
    )
    assert demo_data.vehicle(Random(5), on=ON) == demo_data.vehicle(Random(5), on=ON)
    assert demo_data.property_(Random(6), on=ON) == demo_data.property_(Random(6), on=ON)
    assert demo_data.vehicle(Random(5), on=ON) != demo_data.vehicle(Random(6), on=ON)


def test_tape_adds_up() -> None:
    text = demo_data.tape_csv(Random(1), rows=400, prefix="LT", year=2025).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len({row["row_id"] for row in rows}) == 400
    for row in rows:
        amount = {name: Decimal(row[name]) for name in (*demo_data.TAPE_COLUMNS[-5:], "loan_amount")}
        assert amount["paid_total"] == amount["paid_principal"] + amount["paid_interest"] + amount["paid_late_fees"]
        if row["loan_status"] != "Charged Off":
            assert amount["balance"] == amount["loan_amount"] - amount["paid_principal"]
    late = [row for row in rows if row["loan_status"].startswith("Late")]
    assert len(late) > 200, "an overdue book is mostly late"


@pytest.mark.parametrize("make", [demo_data.vehicle, demo_data.property_])
def test_collateral_is_taken_by_its_own_form(make: Callable[..., demo_data.DemoItem]) -> None:
    for seed in range(40):
        made = make(Random(seed), on=ON)
        item: Item = read_item(made.form, on=ON)
        assert item.appraisal_minor >= 1_000_000
        assert "演示" in made.text_zh


def test_pictures_are_small_jpegs_and_differ() -> None:
    drawn = [
        *demo_data.pictures(demo_data.vehicle(Random(1), on=ON)),
        *demo_data.pictures(demo_data.property_(Random(1), on=ON)),
    ]
    assert len({one.data for one in drawn}) == len(drawn) == 9
    for one in drawn:
        with Image.open(io.BytesIO(one.data)) as image:
            assert (image.format, image.size) == ("JPEG", (1200, 800))
        assert len(one.data) < 120_000
        assert one.caption_en
        assert one.caption_zh


@pytest.mark.parametrize("body", demo_pictures.BODIES)
@pytest.mark.parametrize("kind", demo_pictures.PROPERTY_KINDS[:1])
def test_every_body_can_be_drawn(body: str, kind: str) -> None:
    assert len(demo_pictures.vehicle(Random(2), body=body, colour="blue", odometer_km=5)) == 5
    assert len(demo_pictures.property_(Random(2), kind=kind, area_m2=70, floors=3)) == 4
