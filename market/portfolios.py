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


def assemble(accounts: pl.DataFrame, currency: str) -> Assembled:
    """Sum up the accounts of a portfolio.

    Args:
        accounts: CONTENT, in the order in which they are sold; at least one row.
    Returns: strata by each of DIMENSIONS as rows `[name, accounts, principal_minor, balance_minor]`, the buckets and
        sizes in their order, the others by falling balance; `top`: `[n, balance_minor]` of the n largest borrowers (the
        loan itself where no borrower is named); `curve`: `[share of borrowers, share of balance]` in basis points, the
        largest first; `weighted_dpd`: average days past due in hundredths of a day, the weight being principal and
        interest (spec/data-standards.md 3.3), as a range, since some tapes give only ranges; `to` is None when one is
        open; `dpd_known_minor` is the weight of the accounts for which days are given at all.
    """
    who = pl.when(pl.col("borrower_id") == "").then("loan:" + pl.col("loan_id")).otherwise("b:" + pl.col("borrower_id"))
    accounts = accounts.with_columns(who.alias("who"), _size(currency).alias("size"))
    owed = accounts.group_by("who").agg(pl.col("balance_minor").sum())["balance_minor"].sort(descending=True)
    strata: dict[str, Any] = {name: _strata(accounts, name) for name in DIMENSIONS}
    strata["top"] = [[n, int(owed.head(n).sum())] for n in TOPS if n <= len(owed)]
    strata["curve"] = _curve(owed)
    strata["weighted_dpd"] = _weighted_dpd(accounts)
    return Assembled(
        accounts=accounts.height,
        borrowers=len(owed),
        principal_minor=int(accounts["principal_minor"].sum()),
        balance_minor=int(accounts["balance_minor"].sum()),
        strata=strata,
        content_hash=content_hash(accounts),
    )


def content_hash(accounts: pl.DataFrame) -> str:
    """SHA-256, in hex, over the accounts in order: each one JSON object of CONTENT on a line of its own.

    UTF-8, no blanks, `null` for what is not given, dates as `2026-01-31`; anyone can make it again from a list.
    """
    lines = accounts.select(pl.struct(CONTENT).struct.json_encode()).to_series()
    digest = hashlib.sha256()
    for start in range(0, len(lines), 10_000):
        digest.update("".join(line + "\n" for line in lines.slice(start, 10_000)).encode())
    return digest.hexdigest()


def size_bounds(currency: str) -> list[int]:
    """The upper ends of the size classes in minor units; the last class is open."""
    return [bound * 10 ** decimals(currency) for bound in SIZES]


def _size(currency: str) -> pl.Expr:
    chain: Any = pl
    for number, bound in enumerate(size_bounds(currency)):
        chain = chain.when(pl.col("balance_minor") < bound).then(pl.lit(str(number)))
    result: pl.Expr = chain.otherwise(pl.lit(str(len(SIZES))))
    return result


def _strata(accounts: pl.DataFrame, by: str) -> list[list[Any]]:
    sums = accounts.group_by(by).agg(pl.len(), pl.col("principal_minor").sum(), pl.col("balance_minor").sum())
    rows = [list(row) for row in sums.iter_rows()]
    if by == "bucket":
        return sorted(rows, key=lambda row: BUCKETS.index(row[0]))
    if by == "size":
        return sorted(rows, key=lambda row: int(row[0]))
    rows.sort(key=lambda row: (-row[3], row[0]))
    if len(rows) > MOST_STRATA:
        rest = rows[MOST_STRATA - 1 :]
        rows = [*rows[: MOST_STRATA - 1], [OTHER, *(sum(row[i] for row in rest) for i in (1, 2, 3))]]
    return rows


def _curve(owed: pl.Series) -> list[list[int]]:
    total, number = int(owed.sum()), len(owed)
    if not total:
        return []
    sums = owed.cum_sum()
    points = [[0, 0]]
    for step in range(1, CURVE_POINTS + 1):
        count = -(-number * step // CURVE_POINTS)
        point = [ratio_bp(count, number), ratio_bp(int(sums[count - 1]), total)]
        if point != points[-1]:
            points.append(point)
    return points


def _weighted_dpd(accounts: pl.DataFrame) -> dict[str, int | None]:
    given = accounts.filter(pl.col("dpd").is_not_null())
    weights = given["principal_minor"].cast(pl.Int128) + given["interest_minor"].cast(pl.Int128)
    weight = int(weights.sum() or 0)
    if not weight:
        return {"from": None, "to": None, "dpd_known_minor": 0}
    least = int((weights * given["dpd"].cast(pl.Int128)).sum())
    most = None if given["dpd_to"].null_count() else int((weights * given["dpd_to"].cast(pl.Int128)).sum())
    return {
        "from": _nearest(least * 100, weight),
        "to": None if most is None else _nearest(most * 100, weight),
        "dpd_known_minor": weight,
    }


def _nearest(value: int, by: int) -> int:
    return (2 * value + by) // (2 * by)
