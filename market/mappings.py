"""Which column of a table means what: the formats known by name, and the mappings that a creditor saves.

A mapping is data (`market/formats/*.toml`, or what the mapping page saved): source column -> our field, with its type,
its format and unit, the source's own status words, and the sums that must agree.  How balances follow from the columns
is one of the rules of market/tape.py, by name.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from market.errors import BadInput, Fault
from market.money import DECIMALS

# Fields of an overdue account; any other field is kept beside them, among its facts, under the mapping's name for it.
FIELDS: dict[str, str] = {
    "loan_id": "text",
    "borrower_id": "text",
    "source_status": "status",
    "principal": "amount",
    "interest_due": "amount",
    "fees_due": "amount",
    "legal_balance": "amount",
    "dpd": "whole",
    "product": "text",
    "region": "text",
    "rate": "percent",
    "originated_on": "date",
    "currency": "text",
}
TYPES = ("text", "amount", "whole", "percent", "fraction", "date", "status")
DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%b-%y")
RULES = ("days_past_due", "balance_given", "outcome_36_months", "prosper")
MOST_DPD = 20_000
MOST_FACTS = 100


@dataclass(frozen=True, slots=True)
class Column:
    """One source column and the field that it becomes."""

    source: str
    field: str
    type: str
    must: bool = False  # its absence is a fault, else it only lowers completeness
    format: str = ""  # of a date
    least: int = 0  # of a whole number
    most: int = 999_999_999
    rounds: bool = False  # an amount may carry more decimals than the currency has; rounded half to even, once
    bare: bool = False  # an amount may begin with its point: .50
    signed: bool = False  # an amount may be negative


@dataclass(frozen=True, slots=True)
class Standing:
    """What a source's status word says: our status and bucket, and the days past due as a range.

    Both ends None: not given.  Equal: exact.  `to` None beside a `start`: that many or more.
    """

    status: str
    bucket: str
    start: int | None = None
    to: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Fields that must add up in each row: `total` = the sum of `parts`, within `tolerance_minor`."""

    total: str
    parts: tuple[str, ...]
    tolerance_minor: int = 0
    except_statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TapeMapping:
    """A way to read one layout of table."""

    name: str
    title: str
    currency: str  # "": the tape says
    rule: str
    columns: tuple[Column, ...]
    missing: tuple[str, ...] = ()  # texts that stand for "not given", beside the empty cell
    statuses: Mapping[str, Standing] = field(default_factory=dict)
    identities: tuple[Identity, ...] = ()

    def column(self, field: str) -> Column | None:
        """The column that becomes `field`."""
        return next((column for column in self.columns if column.field == field), None)

    @property
    def required(self) -> frozenset[str]:
        """The source columns, normalised, without which a table is not of this layout."""
        return frozenset(normal(column.source) for column in self.columns if column.must)


def normal(name: str) -> str:
    """A column's name as names are compared (promises.md, bad input 6): NFKC, without case and outer blanks."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


@cache
def known() -> dict[str, TapeMapping]:
    """The formats known by name."""
    found = {}
    for file in sorted(files("market").joinpath("formats").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            mapping = read(tomllib.loads(file.read_text("utf-8")))
            found[mapping.name] = mapping
    return found


def recognise(header: Sequence[str], saved: Iterable[TapeMapping] = ()) -> TapeMapping | None:
    """Return the mapping for a table with this header, or None.

    All columns that a mapping must have are there; of several, the one that uses the most columns wins, a saved one
    before one known by name.
    """
    names = {normal(name) for name in header}
    best: tuple[int, TapeMapping] | None = None
    for mapping in (*saved, *known().values()):
        if mapping.required <= names:
            used = sum(normal(column.source) in names for column in mapping.columns)
            if best is None or used > best[0]:
                best = (used, mapping)
    return best[1] if best else None


def read(data: Mapping[str, Any]) -> TapeMapping:
    """Build a mapping from TOML or from what `write` gave; it is checked as a form is.

    Raises: BadInput, every fault: `mapping_field` (two columns for one field, or an unknown type), `mapping_missing`
    (no loan number, principal or standing), `mapping_rule`, `mapping_format`.
    """
    faults: list[Fault] = []
    columns = tuple(Column(**one) for one in data["columns"])
    mapping = TapeMapping(
        name=data["name"],
        title=data["title"],
        currency=data.get("currency", ""),
        rule=data.get("rule", "days_past_due"),
        columns=columns,
        missing=tuple(data.get("missing", ())),
        statuses={word: _standing(one) for word, one in data.get("statuses", {}).items()},
        identities=tuple(
            Identity(
                one["total"],
                tuple(one["parts"]),
                one.get("tolerance_minor", 0),
                tuple(one.get("except_statuses", ())),
            )
            for one in data.get("identities", ())
        ),
    )
    taken: set[str] = set()
    for column in columns:
        wanted = FIELDS.get(column.field)
        fits = column.type == wanted or (wanted == "percent" and column.type == "fraction")
        if column.field in taken or column.type not in TYPES or (wanted and not fits):
            faults.append(Fault("mapping_field", column.source, column.field, "each field once, with its own type"))
        if column.type == "date" and column.format not in DATE_FORMATS:
            faults.append(Fault("mapping_format", column.source, column.format, ", ".join(DATE_FORMATS)))
        taken.add(column.field)
    if len(columns) > MOST_FACTS:
        faults.append(Fault("mapping_field", "columns", str(len(columns)), f"at most {MOST_FACTS} columns"))
    for name in ("loan_id", *NEEDS.get(mapping.rule, ())):
        if name not in taken:
            faults.append(Fault("mapping_missing", name, "", "a column for this field"))
    if mapping.rule not in RULES:
        faults.append(Fault("mapping_rule", "rule", mapping.rule, ", ".join(RULES)))
    if mapping.currency and mapping.currency not in DECIMALS:
        faults.append(Fault("currency_unknown", "currency", mapping.currency[:20], "an ISO 4217 code"))
    if faults:
        raise BadInput(faults)
    return mapping


def write(mapping: TapeMapping) -> dict[str, Any]:
    """A mapping as plain values, for a JSON column; `read` gives it back."""
    values = asdict(mapping)
    values["statuses"] = {
        word: {"status": one.status, "bucket": one.bucket, "from": one.start, "to": one.to}
        for word, one in mapping.statuses.items()
    }
    return values


# What each rule of market/tape.py reads; the fields of a known format are checked with it when it is loaded.
NEEDS: dict[str, tuple[str, ...]] = {
    "days_past_due": ("principal", "dpd"),
    "balance_given": ("principal", "source_status"),
    "outcome_36_months": ("source_status", "instalment", "rate", "paid_principal"),
    "prosper": ("source_status", "dpd", "loan_amount", "paid_principal", "net_principal_loss"),
}


def _standing(one: Mapping[str, Any]) -> Standing:
    return Standing(one["status"], one["bucket"], one.get("from"), one.get("to"))
