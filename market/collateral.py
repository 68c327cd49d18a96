"""Vehicles and property, seized or pledged: their facts, their liens, their photographs.

The facts of an item are what a bidder prices, so they are checked when they enter and frozen with the lot.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from io import BytesIO
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from market.errors import BadInput, Fault
from market.inputs import Reader

# --- vehicles ---------------------------------------------------------------------------------------

# ISO 3779:2009 forbids I, O and Q; the values and weights of the check digit are those of 49 CFR 565.15 (c), the
# same in GB 16735-2019, 4.3.
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}", re.ASCII)
_VIN_VALUES = {
    **{str(n): n for n in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    "P": 7, "R": 9,
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}  # fmt: skip
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_CHECKED_REGIONS = "12345L"  # North America and China demand the check digit; elsewhere position 9 is free
_YEAR_CODES = "ABCDEFGHJKLMNPRSTVWXY123456789"  # position 10, 1980 onwards, again after 30 years


def vin_check_digit(vin: str) -> str:
    """The check digit (0-9 or X) that position 9 of a 17-character VIN should hold. `vin`: upper case."""
    remainder = sum(_VIN_VALUES[c] * w for c, w in zip(vin, _VIN_WEIGHTS, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def read_vin(text: str) -> str:
    """Return a VIN in upper case. Raises BadInput: `vin_format`, or `vin_check_digit` where the digit is mandatory."""
    vin = text.strip().upper()
    if not _VIN.fullmatch(vin):
        raise BadInput([Fault("vin_format", "vin", text[:40], "17 letters and digits without I, O and Q")])
    if vin[0] in _CHECKED_REGIONS and vin[8] != (digit := vin_check_digit(vin)):
        raise BadInput([Fault("vin_check_digit", "vin", vin, f"{digit} at position 9")])
    return vin


def vin_model_years(vin: str) -> list[int]:
    """The model years that position 10 of a VIN may mean, oldest first; empty when the maker does not code it."""
    if vin[9] not in _YEAR_CODES:
        return []
    first = 1980 + _YEAR_CODES.index(vin[9])
    return [first, first + 30]


# --- facts ------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What an item of collateral is; property counts as real estate for notice periods."""

    VEHICLE = "vehicle"
    PROPERTY = "property"


BODIES = ("sedan", "suv", "van", "pickup", "truck", "bus", "motorcycle", "other")
FUELS = ("petrol", "diesel", "hybrid", "electric", "other")
USES = ("residential", "commercial", "industrial", "land", "parking")
OCCUPANCIES = ("vacant", "owner", "let", "unknown")
LIENS = 20  # at most, on one item


@dataclass(frozen=True, slots=True)
class Lien:
    """A claim on the item and its place in line; rank 1 is paid first."""

    rank: int
    holder: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Item:
    """An item of collateral as its creditor describes it. `facts`: names and values of its kind, all text or whole."""

    kind: Kind
    title_en: str
    title_zh: str
    place: str
    currency: str
    appraisal_minor: int
    appraisal_on: date
    facts: dict[str, Any]
    liens: tuple[Lien, ...] = ()

    def kept_facts(self) -> dict[str, Any]:
        """`facts` with the liens, as one JSON object."""
        return {**self.facts, "liens": [asdict(lien) for lien in self.liens]}


def read_item(values: Mapping[str, object], *, on: date) -> Item:
    """Read an item from a form or a JSON object. `on`: today where the item is, which an appraisal may not be after.

    Raises: BadInput with every fault, by field.
    """
    reader = Reader(values)
    kind = reader.choice("kind", [k.value for k in Kind])
    currency = reader.currency("currency")
    title_en, title_zh = reader.line("title_en", most=120), reader.line("title_zh", most=60)
    place = reader.line("place", most=80)
    appraisal = reader.amount("appraisal", currency)
    if appraisal == 0:
        reader.fault("range", "appraisal", "0", "more than zero")
    appraisal_on = reader.day("appraisal_on")
    if appraisal_on and appraisal_on > on:
        reader.fault("range", "appraisal_on", appraisal_on, f"not after {on}")
    facts: dict[str, Any] = {}
    if kind == Kind.VEHICLE:
        facts = _vehicle(reader, on)
    elif kind == Kind.PROPERTY:
        facts = _property(reader, on)
    liens = _liens(reader, currency)
    reader.done()
    assert appraisal is not None
    assert appraisal_on is not None
    return Item(Kind(kind), title_en, title_zh, place, currency, appraisal, appraisal_on, facts, liens)


def _vehicle(reader: Reader, on: date) -> dict[str, Any]:
    vin = reader.line("vin", most=40)
    year = reader.whole("model_year", least=1950, most=on.year + 1)
    if vin:
        try:
            vin = read_vin(vin)
            years = vin_model_years(vin)
            if year and vin[0] in _CHECKED_REGIONS and years and year not in years:
                reader.fault("vin_model_year", "model_year", year, " or ".join(map(str, years)) + ", by the VIN")
        except BadInput as bad:
            reader.faults += bad.faults
    return {
        "vin": vin,
        "make": reader.line("make", most=40),
        "model": reader.line("model", most=60),
        "model_year": year,
        "odometer_km": reader.whole("odometer_km", least=0, most=3_000_000),
        "body": reader.choice("body", BODIES),
        "fuel": reader.choice("fuel", FUELS),
        "color": reader.line("color", most=30, least=0),
        "keys": reader.whole("keys", least=0, most=9),
        "runs": reader.ticked("runs"),
    }


def _property(reader: Reader, on: date) -> dict[str, Any]:
    area = reader.decimal("area_m2", places=2, most=10_000_000)
    if area is not None and area == 0:
        reader.fault("range", "area_m2", "0", "more than zero")
    lease_until = reader.day("lease_until_on", required=False)
    return {
        "address": reader.line("address", most=160),
        "use": reader.choice("use", USES),
        "area_m2": f"{area:.2f}" if area is not None else "",
        "built_year": reader.whole("built_year", least=1700, most=on.year + 5, required=False),
        "title_no": reader.line("title_no", most=60),
        "occupancy": reader.choice("occupancy", OCCUPANCIES),
        "lease_until_on": lease_until.isoformat() if lease_until else "",
        "encumbrances": reader.prose("encumbrances", most=2000),
    }


def _liens(reader: Reader, currency: str) -> tuple[Lien, ...]:
    """Lines of `rank; holder; amount`, one lien each, as a person types them."""
    liens: list[Lien] = []
    for number, line in enumerate(filter(None, map(str.strip, reader.prose("liens", most=4000).split("\n"))), start=1):
        parts = [part.strip() for part in line.replace("；", ";").split(";")]
        one = Reader(dict(zip(("liens_rank", "liens_holder", "liens_amount"), parts, strict=False)))
        rank, holder = one.whole("liens_rank", least=1, most=99), one.line("liens_holder", most=120)
        amount = one.amount("liens_amount", currency)
        if len(parts) != 3 or one.faults or number > LIENS:
            reader.fault("lien_format", "liens", line, f"rank; holder; amount - one lien a line, at most {LIENS}")
        elif rank is not None and amount is not None:
            liens.append(Lien(rank, holder, amount))
    return tuple(sorted(liens, key=lambda lien: lien.rank))


# --- photographs ------------------------------------------------------------------------------------

PICTURE_BYTES = 20 * 1024 * 1024
PICTURE_PIXELS = 50_000_000
PICTURE_SIDE, THUMBNAIL_SIDE = 1600, 400  # pixels, the longer side of what is kept
PICTURES = 24  # at most, of one item
_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph written anew, as WebP without any of what the file carried beside its pixels."""

    full: bytes
    thumbnail: bytes
    width: int
    height: int

    @property
    def digest(self) -> str:
        """SHA-256 of `full`, hexadecimal; frozen with the lot."""
        return hashlib.sha256(self.full).hexdigest()


def read_photograph(data: bytes) -> Photograph:
    """Decode a picture by its content and write it anew: places, comments and anything hidden are gone.

    The number of pixels is read from the header and checked before anything is decoded.

    Raises: BadInput with `picture_size`, `picture_format`, `picture_pixels` or `picture_broken`.
    """
    if not 0 < len(data) <= PICTURE_BYTES:
        raise _picture_fault("picture_size", str(len(data)), f"at most {PICTURE_BYTES} bytes")
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > PICTURE_PIXELS:
                raise _picture_fault("picture_pixels", f"{width} x {height}", f"at most {PICTURE_PIXELS} pixels")
            # A JPEG is decoded straight to about the size that is kept, which saves most of the time and memory.
            image.draft("RGB", (PICTURE_SIDE, PICTURE_SIDE))
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
            ImageOps.exif_transpose(image, in_place=True)
            full = image.convert("RGB")
    except Image.DecompressionBombError:
        raise _picture_fault("picture_pixels", "", f"at most {PICTURE_PIXELS} pixels") from None
    except (OSError, ValueError, SyntaxError) as error:
        code = "picture_format" if isinstance(error, UnidentifiedImageError) else "picture_broken"
        raise _picture_fault(code, "", "a whole JPEG, PNG or WebP picture") from None
    full.info = {}
    thumbnail = full.copy()
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return Photograph(_webp(full), _webp(thumbnail), *full.size)


def _webp(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "WEBP", quality=82, method=3)
    return out.getvalue()


def _picture_fault(code: str, found: str, expected: str) -> BadInput:
    return BadInput([Fault(code, "picture", found, expected)])
