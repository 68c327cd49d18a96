"""Overdue accounts chosen to be sold together: the choice, its strata, concentration and the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import polars as pl

from market.accounts import BUCKETS, Status
from market.inputs import Reader
from market.money import amount_text, decimals, ratio_bp

# What is sold, field by field in this order: what the content's hash is taken over.
CONTENT = (
    "loan_id", "borrower_id", "principal_minor", "interest_minor", "fees_minor", "balance_minor", "dpd", "dpd_to",
    "bucket", "product", "region", "rate_bp", "originated_on",
)  # fmt: skip
DIMENSIONS = ("bucket", "product", "region", "size")
MOST_STRATA = 15  # of one dimension; the smallest are summed under ""
SIZES = (1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000)  # upper ends, in units of the currency
TOPS = (1, 5, 10)
CURVE_POINTS = 20
MOST_CHOICES = 60
OTHER = "\x01other"  # names the stratum that sums the smallest; no tape can hold it, and JSON can


@dataclass(frozen=True, slots=True)
class Selection:
    """Which accounts: every field that is not empty narrows the choice; within a field any value serves."""

    tape_id: int | None = None
    buckets: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    currency: str = ""
    least_minor: int | None = None
    most_minor: int | None = None
    loan: str = ""  # the beginning of a loan number

    @classmethod
    def read(cls, values: Mapping[str, Sequence[str]]) -> Selection:
        """Read a query: `bucket=16-30&bucket=31-120&least=1000.00&currency=USD`.

        Raises: BadInput, every fault; a balance range needs a currency.
        """
        first = Reader({name: texts[0] for name, texts in values.items() if texts})
        currency = first.currency("currency") if first.raw("currency") else ""
        if not currency and (first.raw("least") or first.raw("most")):
            first.fault("missing", "currency", "", "the currency of the balances")
        selection = cls(
            tape_id=first.whole("tape", least=1, most=10**15, required=False),
            buckets=_several(first, values, "bucket", BUCKETS),
            statuses=_several(first, values, "status", tuple(status.value for status in Status)),
            products=_several(first, values, "product"),
            regions=_several(first, values, "region"),
            currency=currency,
            least_minor=first.amount("least", currency, required=False),
            most_minor=first.amount("most", currency, required=False),
            loan=first.line("loan", most=200, least=0),
        )
        first.done()
        return selection

    def query(self) -> list[tuple[str, str]]:
        """The query that `read` reads."""
        pairs = [("tape", str(self.tape_id))] if self.tape_id else []
        for name, texts in (("bucket", self.buckets), ("status", self.statuses)):
            pairs += [(name, text) for text in texts]
        for name, texts in (("product", self.products), ("region", self.regions)):
            pairs += [(name, text) for text in texts]
        pairs += [("currency", self.currency)] if self.currency else []
        for name, minor in (("least", self.least_minor), ("most", self.most_minor)):
            pairs += [(name, amount_text(minor, self.currency))] if minor is not None else []
        return pairs + ([("loan", self.loan)] if self.loan else [])

    def values(self) -> dict[str, Any]:
        """The narrowing fields as plain values."""
        return {name: value for name, value in asdict(self).items() if value not in ((), None, "")}

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows the choice."""
        return all(getattr(self, one.name) == one.default for one in fields(self))


def _several(
    reader: Reader, values: Mapping[str, Sequence[str]], field: str, known: Sequence[str] = ()
) -> tuple[str, ...]:
    texts = tuple(dict.fromkeys(values.get(field, ())))
    if len(texts) > MOST_CHOICES:
        reader.fault("choice", field, f"{len(texts)} values", f"at most {MOST_CHOICES} values")
        return ()
    for text in texts:
        if (known and text not in known) or len(text) > 200:
            reader.fault("choice", field, text, ", ".join(known) or "at most 200 characters")
            return ()
    return texts


@dataclass(frozen=True, slots=True)
class Assembled:
    """A portfolio's figures."""

    accounts: int
    borrowers: int
    principal_minor: int
    balance_minor: int
    strata: dict[str, Any]
    content_hash: str


class Assembly:
    """Sums up a portfolio from its accounts in batches, so that a million of them need no memory of their own.

    What is sold, in its order, is hashed as it comes (`content_hash`).  Who owes how much is not kept here: the
    caller ranks the borrowers (`done`), since there may be as many as accounts.
    """

    def __init__(self, currency: str) -> None:
        self.accounts = self.principal_minor = self.balance_minor = 0
        self._size = _size(currency)
        self._strata: dict[str, dict[str, list[int]]] = {name: {} for name in DIMENSIONS}
        self._weight = self._least = self._most = 0  # of the accounts for which days are given
        self._is_open = False  # the days of some have no upper end
        self._names_borrowers = False  # the tape says of some who owes them
        self._digest = hashlib.sha256()

    def add(self, accounts: pl.DataFrame) -> None:
        """Count the next accounts: CONTENT, in the order in which they are sold."""
        accounts = accounts.with_columns(self._size.alias("size"))
        self.accounts += accounts.height
        self.principal_minor += int(accounts["principal_minor"].sum())
        self.balance_minor += int(accounts["balance_minor"].sum())
        for name, found in self._strata.items():
            sums = accounts.group_by(name).agg(pl.len(), pl.col("principal_minor").sum(), pl.col("balance_minor").sum())
            for value, *amounts in sums.iter_rows():
                found[value] = [a + b for a, b in zip(found.get(value, (0, 0, 0)), amounts, strict=True)]
        self._add_days(accounts)
        self._names_borrowers = self._names_borrowers or bool((accounts["borrower_id"] != "").any())
        lines = accounts.select(pl.struct(CONTENT).struct.json_encode()).to_series()
        self._digest.update("".join(line + "\n" for line in lines).encode())

    def _add_days(self, accounts: pl.DataFrame) -> None:
        given = accounts.filter(pl.col("dpd").is_not_null())
        weights = given["principal_minor"].cast(pl.Int128) + given["interest_minor"].cast(pl.Int128)
        self._weight += int(weights.sum() or 0)
        self._least += int((weights * given["dpd"].cast(pl.Int128)).sum() or 0)
        self._most += int((weights * given["dpd_to"].cast(pl.Int128)).sum() or 0)
        self._is_open = self._is_open or given["dpd_to"].null_count() > 0

    @property
    def content_hash(self) -> str:
        """SHA-256, in hex, over the accounts in order: each one JSON object of CONTENT on a line of its own.

        UTF-8, no blanks, `null` for what is not given, dates as `2026-01-31`; anyone can make it again from a list.
        """
        return self._digest.hexdigest()

    def done(self, borrowers: int, owed: Mapping[int, int]) -> Assembled:
        """The figures of all that was added; at least one account.

        Args:
            borrowers: how many there are (the loan itself where no borrower is named).
            owed: for each of `ranks(borrowers)`, what so many of the largest borrowers owe together.
        Returns: strata by each of DIMENSIONS as rows `[name, accounts, principal_minor, balance_minor]`, the buckets
            and sizes in their order, the others by falling balance; `top`: `[n, balance_minor]` of the n largest
            borrowers; `curve`: `[share of borrowers, share of balance]` in basis points, the largest first;
            `weighted_dpd`: average days past due in hundredths of a day, the weight being principal and interest
            (spec/data-standards.md 3.3), as a range, since some tapes give only ranges; `to` is None when one is open;
            `dpd_known_minor` is the weight of the accounts for which days are given at all; `names_borrowers`: False,
            when no account has a borrower number, so that `top` and `curve` are of accounts.
        """
        strata: dict[str, Any] = {name: _strata(name, found) for name, found in self._strata.items()}
        strata["top"] = [[n, owed[n]] for n in TOPS if n <= borrowers]
        strata["curve"] = _curve(borrowers, owed)
        strata["weighted_dpd"] = self._weighted_dpd()
        strata["names_borrowers"] = self._names_borrowers
        return Assembled(
            accounts=self.accounts, borrowers=borrowers, principal_minor=self.principal_minor,
            balance_minor=self.balance_minor, strata=strata, content_hash=self.content_hash,
        )  # fmt: skip

    def _weighted_dpd(self) -> dict[str, int | None]:
        if not self._weight:
            return {"from": None, "to": None, "dpd_known_minor": 0}
        return {
            "from": _nearest(self._least * 100, self._weight),
            "to": None if self._is_open else _nearest(self._most * 100, self._weight),
            "dpd_known_minor": self._weight,
        }


def ranks(borrowers: int) -> list[int]:
    """Of how many of the largest borrowers a portfolio tells the sum: TOPS, and the points of its curve."""
    steps = (_borrowers_at(step, borrowers) for step in range(1, CURVE_POINTS + 1))
    return sorted({n for n in (*TOPS, *steps) if n <= borrowers})


def _borrowers_at(step: int, borrowers: int) -> int:
    return -(-borrowers * step // CURVE_POINTS)


def size_bounds(currency: str) -> list[int]:
    """The upper ends of the size classes in minor units; the last class is open."""
    return [bound * 10 ** decimals(currency) for bound in SIZES]


def _size(currency: str) -> pl.Expr:
    chain: Any = pl
    for number, bound in enumerate(size_bounds(currency)):
        chain = chain.when(pl.col("balance_minor") < bound).then(pl.lit(str(number)))
    result: pl.Expr = chain.otherwise(pl.lit(str(len(SIZES))))
    return result


def _strata(by: str, found: Mapping[str, Sequence[int]]) -> list[list[Any]]:
    rows: list[list[Any]] = [[name, *sums] for name, sums in found.items()]
    if by == "bucket":
        return sorted(rows, key=lambda row: BUCKETS.index(row[0]))
    if by == "size":
        return sorted(rows, key=lambda row: int(row[0]))
    rows.sort(key=lambda row: (-row[3], row[0]))
    if len(rows) > MOST_STRATA:
        rest = rows[MOST_STRATA - 1 :]
        rows = [*rows[: MOST_STRATA - 1], [OTHER, *(sum(row[i] for row in rest) for i in (1, 2, 3))]]
    return rows


def _curve(borrowers: int, owed: Mapping[int, int]) -> list[list[int]]:
    total = owed[borrowers]
    if not total:
        return []
    points = [[0, 0]]
    for step in range(1, CURVE_POINTS + 1):
        count = _borrowers_at(step, borrowers)
        point = [ratio_bp(count, borrowers), ratio_bp(owed[count], total)]
        if point != points[-1]:
            points.append(point)
    return points


def _nearest(value: int, by: int) -> int:
    return (2 * value + by) // (2 * by)
