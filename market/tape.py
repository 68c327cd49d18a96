"""A tape: a creditor's file becomes loan records, and faults by row and column.

`Checker` reads blocks of text (market/sheets.py) through a mapping (market/mappings.py): every cell is tested as text
first, then becomes a value; every fault of every row is found in one pass, in whole columns at a time.

How balances follow from the columns, by the mapping's rule; what the file does not say is never guessed:

- `days_past_due`: principal, interest and fees as given; the legal balance, when given, is at least their sum, else it
  is their sum; the bucket follows from the days past due.
- `balance_given` (LendingClub, snapshot of 2018): the outstanding principal as given, and nothing else owed: the file
  has no accrued interest.  A status gives a range of days (In Grace Period 1-15, Late 16-30, Late 31-120): the range is
  kept.  Charged-off loans have balance 0 and no days in the file: kept so; what was written off is among the facts.
- `outcome_36_months` (LendingClub of 2015): the amount lent is not in the file; it is the present value of 36
  instalments at the loan's monthly rate, rounded to 25, which equals the principal repaid in 99.9 % of the fully paid
  loans.  Fully paid: nothing is owed.  Charged off: amount lent less principal received.  Recoveries stand beside it
  among the facts, not netted: the file does not say against which part of the debt they were booked.  No days past
  due are given.
- `prosper`: days past due as given, inside the range of the status's words.  Current and past due: amount lent less
  principal paid.  Charged off and defaulted: the net principal loss, which the publisher defines as what remains
  uncollected after recoveries; one that is negative (more came back than was owed) leaves nothing owed.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import polars as pl

from market.accounts import BUCKETS, RANGES, Status
from market.errors import BadInput, Fault
from market.mappings import MOST_DPD, Column, TapeMapping, known, normal
from market.money import amount_text, decimals
from market.sheets import Block, safe_cell

MOST_MINOR = 10**12  # of one amount: the sum of a million such rows stays inside 64 bits
MOST_TEXT_CHARACTERS = 200
MOST_RATE_BP = 100_000  # 1,000 % a year
EARLIEST = date(1900, 1, 1)
HIGH_RATE_BP = 6_000  # believable up to 60 % a year
DAYS_OF_YEARS = 366 * 40  # believable age of a loan
SHOWN_FAULTS = 100
MOST_NAMES = 60  # of products and regions in the report
MOST_COUNTED = 5_000  # of them while reading
MOST_FAULTS = 500_000  # kept one by one; beyond that the tape is refused and reading stops

# What every checked frame has, in this order.
ACCOUNT_COLUMNS = (
    "row", "loan_id", "borrower_id", "status", "principal_minor", "interest_minor", "fees_minor", "balance_minor",
    "dpd", "dpd_to", "bucket", "product", "region", "rate_bp", "originated_on", "facts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoanRecord:
    """One row of a tape as it is understood; money in minor units of the tape's currency."""

    loan_id: str
    borrower_id: str
    status: Status
    principal_minor: int
    interest_minor: int
    fees_minor: int
    balance_minor: int  # all that is owed in law
    dpd: int | None  # days past due: the least that is known; None: not given
    dpd_to: int | None  # the most: equal to `dpd` when exact; None: not given, or open
    bucket: str
    product: str
    region: str
    rate_bp: int
    originated_on: date | None


@dataclass(slots=True)
class Totals:
    """Sums over rows: what the sender compares with his control totals."""

    rows: int = 0
    principal_minor: int = 0
    balance_minor: int = 0
    by_bucket: dict[str, list[int]] = field(default_factory=dict)  # bucket -> [accounts, balance]
    by_status: dict[str, list[int]] = field(default_factory=dict)
    by_product: dict[str, list[int]] = field(default_factory=dict)
    by_region: dict[str, list[int]] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame) -> None:
        """Count the rows of a checked frame in."""
        self.rows += frame.height
        self.principal_minor += int(frame["principal_minor"].sum())
        self.balance_minor += int(frame["balance_minor"].sum())
        for into, by in self._tables():
            counted = frame.group_by(by).agg(pl.len(), pl.col("balance_minor").sum())
            _count_in(into, counted.iter_rows())

    def join(self, other: Totals) -> None:
        """Count in what was summed apart."""
        self.rows += other.rows
        self.principal_minor += other.principal_minor
        self.balance_minor += other.balance_minor
        for (into, _), (sums, _) in zip(self._tables(), other._tables(), strict=True):
            _count_in(into, ((name, rows, balance) for name, (rows, balance) in sums.items()))

    def _tables(self) -> tuple[tuple[dict[str, list[int]], str], ...]:
        return (
            (self.by_bucket, "bucket"),
            (self.by_status, "status"),
            (self.by_product, "product"),
            (self.by_region, "region"),
        )

    def values(self) -> dict[str, Any]:
        """As plain values, the buckets in their order."""
        return {
            "rows": self.rows,
            "principal_minor": self.principal_minor,
            "balance_minor": self.balance_minor,
            "by_bucket": {name: self.by_bucket[name] for name in BUCKETS if name in self.by_bucket},
            "by_status": dict(sorted(self.by_status.items())),
            "by_product": _largest(self.by_product),
            "by_region": _largest(self.by_region),
        }


def _count_in(into: dict[str, list[int]], counted: Iterable[tuple[str, int, int]]) -> None:
    for name, rows, balance in counted:
        if name not in into and len(into) >= MOST_COUNTED:
            continue
        sums = into.setdefault(name, [0, 0])
        sums[0] += rows
        sums[1] += int(balance)


def _largest(sums: dict[str, list[int]]) -> dict[str, list[int]]:
    return dict(sorted(sums.items(), key=lambda one: (-one[1][0], one[0]))[:MOST_NAMES])


@dataclass(slots=True)
class Checked:
    """A block through the mapping: the good rows, and what is wrong with the others."""

    good: pl.DataFrame  # ACCOUNT_COLUMNS
    faults: list[Fault]
    odd: list[tuple[int, list[str]]]
    rows: int


@dataclass(frozen=True, slots=True)
class _Check:
    code: str
    column: str  # of the source
    wrong: str  # the frame's column that is true where this is wrong
    found: str  # the frame's column that shows what stands there
    expected: str


class Checker:
    """Reads the blocks of one tape in their order.

    Args:
        header: as the file has it.
        mapping: its required columns are in `header`.
        cutoff_on: the day on which the balances hold.
        currency: ISO 4217, for amounts.
        is_workbook: the cells come from a workbook, which has binary numbers and dates with a midnight behind them.
    """

    def __init__(
        self, header: Sequence[str], mapping: TapeMapping, *, cutoff_on: date, currency: str, is_workbook: bool = False
    ) -> None:
        places = {normal(name): f"c{number}" for number, name in enumerate(header)}
        self.mapping, self.cutoff_on, self.currency = mapping, cutoff_on, currency
        self.decimals = decimals(currency)
        self.is_workbook = is_workbook
        self.columns = [
            (replace(column, source=header[int(places[normal(column.source)][1:])]), places[normal(column.source)])
            for column in mapping.columns
            if normal(column.source) in places
        ]
        self.has = {column.field for column, _ in self.columns}
        self.all = Totals()  # every row that could be read at all
        self.kept = Totals()  # the good rows
        self.rows = self.faulty_rows = self.fault_count = 0
        self.kinds: Counter[tuple[str, str]] = Counter()  # (code, column) -> faults
        self.missing: Counter[str] = Counter()  # column -> cells not given
        self.doubts: Counter[str] = Counter()
        self.doubtful_rows = 0
        self._loans: set[str] = set()
        self.fact_names: list[str] = []
        self._plans = {plain: self._plan(is_plain=plain) for plain in (True, False)}

    def check(self, block: Block) -> Checked:
        """Read one block; what it adds to the sums stands in the attributes."""
        values, checks = self._plans[block.is_plain]
        frame = block.frame.lazy().with_columns(values[0])
        for step in values[1:]:
            frame = frame.with_columns(step)
        read = self._with_repeated(frame.collect())
        faults = sorted([*block.faults, *self._faults(read, checks)], key=lambda fault: fault.row or 0)
        rows = block.frame.height + len(block.odd)
        good = read.filter(pl.col("is_good"))
        self._count(read, good, rows, faults)
        return Checked(good.select(ACCOUNT_COLUMNS), faults, block.odd, rows)

    def report(self) -> dict[str, Any]:
        """Scores and sums so far, as plain values.

        `completeness_bp`: mapped cells that are given; `plausibility_bp`: good rows without a doubt; both in basis
        points, rounded down.
        """
        cells = self.rows * len(self.columns)
        return {
            "completeness_bp": (cells - sum(self.missing.values())) * 10_000 // cells if cells else 0,
            "plausibility_bp": (self.kept.rows - self.doubtful_rows) * 10_000 // self.kept.rows
            if self.kept.rows
            else 0,
            "missing": {name: number for name, number in self.missing.items() if number},
            "doubts": {name: number for name, number in sorted(self.doubts.items()) if number},
            "kinds": [[code, column, number] for (code, column), number in sorted(self.kinds.items())],
            "facts": self.fact_names,
            "all": self.all.values(),
            "kept": self.kept.values(),
        }

    # --- how a block is read ---------------------------------------------------------------------

    def _plan(self, *, is_plain: bool) -> tuple[list[list[pl.Expr]], list[_Check]]:
        """The expressions, step by step, and the checks that read their results."""
        checks: list[_Check] = []
        raw, wrong, value = [], [], []
        for column, place in self.columns:
            raw.append(self._given(column, place).alias(f"r_{column.field}"))
            for number, (code, is_wrong, expected) in enumerate(self._tests(column, is_plain=is_plain)):
                name = f"w_{column.field}_{number}"
                wrong.append(is_wrong.fill_null(value=False).alias(name))
                checks.append(_Check(code, column.source, name, place, expected))
        for column, _ in self.columns:
            names = [check.wrong for check in checks if check.wrong.startswith(f"w_{column.field}_")]
            sound = pl.when(~pl.any_horizontal(names)) if names else pl.when(pl.lit(value=True))
            value.append(sound.then(self._value(column)).alias(f"v_{column.field}"))
        balances, extra = self._rule()
        after: list[pl.Expr] = []
        for code, source, shown, is_wrong, expected in extra:
            name = f"x_{len(after)}"
            after.append(is_wrong.fill_null(value=False).alias(name))
            checks.append(_Check(code, source, name, shown, expected))
        is_good = ~pl.any_horizontal([check.wrong for check in checks])
        return [raw, wrong, value, *balances, after, [is_good.alias("is_good"), self._facts()]], checks

    def _given(self, column: Column, place: str) -> pl.Expr:
        raw = pl.col(place)
        if self.mapping.missing:
            raw = pl.when(~raw.is_in(self.mapping.missing)).then(raw)
        if self.is_workbook and column.type == "date" and "%H" not in column.format:
            raw = raw.str.strip_suffix(" 00:00:00")
        return raw

    def _tests(self, column: Column, *, is_plain: bool) -> Iterator[tuple[str, pl.Expr, str]]:
        """What may be wrong with one cell: code, where it is so, what was expected instead."""
        raw = pl.col(f"r_{column.field}")
        if column.must:
            yield "missing", raw.is_null(), "a value"
        if column.type == "text":
            yield "too_long", raw.str.len_bytes() > MOST_TEXT_CHARACTERS, f"at most {MOST_TEXT_CHARACTERS} characters"
            if not is_plain:
                hidden = raw.str.contains(r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]")
                yield "hidden_character", hidden, "no control, direction or zero-width characters"
            if column.field in ("loan_id", "borrower_id"):
                yield "blank_ends", raw.str.contains(r"^\s|\s$"), "no blanks at its ends"
            if column.field == "currency":
                yield "currency", raw != self.currency, f"{self.currency}, the tape's currency"
        elif column.type == "status":
            yield "choice", ~raw.is_in(list(self.mapping.statuses)), "one of " + ", ".join(self.mapping.statuses)
        elif column.type == "whole":
            expected = f"a whole number from {column.least} to {column.most}"
            number = raw.str.slice(0, 10).str.to_integer(strict=False, dtype=pl.Int64)
            is_number = raw.str.contains(r"^[0-9]{1,9}$")
            yield "whole_number", ~(is_number & number.is_between(column.least, column.most)), expected
        elif column.type in ("amount", "percent", "fraction"):
            places = self.decimals if column.type == "amount" and not column.rounds and not self.is_workbook else 20
            pattern = rf"[0-9]{{1,60}}(\.[0-9]{{1,{places}}})?" if places else "[0-9]{1,60}"
            pattern = rf"({pattern}|\.[0-9]{{1,{places}}})" if column.bare and places else pattern
            is_number = raw.str.contains(f"^-?{pattern}$")
            if not column.signed:
                yield "amount_negative", is_number & raw.str.starts_with("-"), "not negative"
            yield (
                "amount_format",
                ~is_number,
                "digits, with or without decimals"
                if places == 20
                else f"digits with at most {places} decimals"
                if places
                else "digits without decimals",
            )
            number = self._number(column)
            is_huge = is_number & number.is_null()  # more digits than an amount can have
            if column.type == "amount":
                whole, point, rest = amount_text(MOST_MINOR, self.currency).partition(".")
                is_too_large = is_huge | (is_number & (number.abs() > MOST_MINOR))
                yield "amount_range", is_too_large, f"at most {int(whole):,}{point}{rest}"
            else:
                is_too_large = is_huge | (is_number & (number > MOST_RATE_BP))
                yield "rate_range", is_too_large, f"at most {MOST_RATE_BP // 100} per cent"
        else:
            day = self._day(column)
            yield (
                "date",
                raw.is_not_null() & day.is_null(),
                f"a date such as {date(2026, 1, 31).strftime(column.format)}",
            )
            if column.field == "originated_on":
                expected = f"a date from {EARLIEST} to the cut-off date, {self.cutoff_on}"
                yield "date_range", ~day.is_between(EARLIEST, self.cutoff_on), expected
            else:
                yield (
                    "date_range",
                    ~day.is_between(EARLIEST, date(2199, 12, 31)),
                    f"a date from {EARLIEST} to 2199-12-31",
                )

    def _number(self, column: Column) -> pl.Expr:
        """Minor units of an amount, basis points of a rate: exact decimals, rounded half to even, once."""
        scale = {"amount": self.decimals, "percent": 2, "fraction": 4}[column.type]
        exact = pl.col(f"r_{column.field}").cast(pl.Decimal(38, scale), strict=False)
        return exact.to_physical().cast(pl.Int64, strict=False)

    def _day(self, column: Column) -> pl.Expr:
        """A date; its text, written again, must be the text: strptime alone takes more than it says."""
        raw, form = pl.col(f"r_{column.field}"), column.format
        if "%d" not in form:
            raw, form = "01-" + raw, "%d-" + form
        if "%H" in form:
            instant = raw.str.to_datetime(form, strict=False)
            return pl.when(instant.dt.to_string(form) == raw).then(instant.dt.date())
        day = raw.str.to_date(form, strict=False)
        return pl.when(day.dt.to_string(form) == raw).then(day)

    def _value(self, column: Column) -> pl.Expr:
        raw = pl.col(f"r_{column.field}")
        if column.type in ("amount", "percent", "fraction"):
            return self._number(column)
        if column.type == "whole":
            return raw.str.to_integer(strict=False, dtype=pl.Int64)
        return self._day(column) if column.type == "date" else raw

    # --- balances --------------------------------------------------------------------------------

    def _rule(self) -> tuple[list[list[pl.Expr]], list[tuple[str, str, str, pl.Expr, str]]]:
        """Expressions for status, days, bucket and balances, and the checks across columns.

        A check: code, source column, the column that shows what was found, where it is wrong, what was expected.
        """
        rule = self.mapping.rule
        zero = pl.lit(0, pl.Int64)
        nothing = pl.lit(None, pl.Int64)
        extra: list[tuple[str, str, str, pl.Expr, str]] = []
        if rule == "days_past_due":
            first = [pl.col("v_principal"), self._amount("interest_due"), self._amount("fees_due")]
            owed = pl.col("principal_minor") + pl.col("interest_minor") + pl.col("fees_minor")
            legal = pl.col("v_legal_balance").fill_null(owed) if "legal_balance" in self.has else owed
            is_nothing = pl.col("balance_minor") == 0
            steps = [
                [
                    first[0].alias("principal_minor"),
                    first[1].alias("interest_minor"),
                    first[2].alias("fees_minor"),
                    pl.col("v_dpd").alias("dpd"),
                    pl.col("v_dpd").alias("dpd_to"),
                    _bucket(pl.col("v_dpd")).alias("bucket"),
                ],
                [legal.alias("balance_minor")],
                [
                    pl.when(is_nothing).then(pl.lit(Status.REPAID.value))
                    .when(pl.col("dpd") == 0).then(pl.lit(Status.PERFORMING.value))
                    .otherwise(pl.lit(Status.OVERDUE.value)).alias("status"),
                    pl.when(is_nothing).then(pl.lit("none")).otherwise(pl.col("bucket")).alias("bucket"),
                ],
            ]  # fmt: skip
            if "legal_balance" in self.has:
                source, place = self._source("legal_balance")
                expected = "at least principal, interest and fees together"
                extra.append(("balance_identity", source, place, pl.col("v_legal_balance") < owed, expected))
        else:
            principal = {
                "balance_given": pl.col("v_principal") if "principal" in self.has else zero,
                "outcome_36_months": pl.when(pl.col("status") == Status.REPAID.value)
                .then(zero)
                .otherwise(pl.col("amount_minor") - pl.col("v_paid_principal")),
                "prosper": pl.when(pl.col("status") == Status.REPAID.value)
                .then(zero)
                .when(pl.col("r_source_status").is_in(["Chargedoff", "Defaulted"]))
                .then(pl.col("v_net_principal_loss").clip(0))
                .otherwise(pl.col("v_loan_amount") - pl.col("v_paid_principal")),
            }[rule]
            exact = rule == "prosper"
            steps = [
                [
                    self._standing("status", pl.String).alias("status"),
                    self._standing("bucket", pl.String).alias("bucket"),
                    (pl.col("v_dpd") if exact else self._standing("start", pl.Int64)).alias("dpd"),
                    (pl.col("v_dpd") if exact else self._standing("to", pl.Int64)).alias("dpd_to"),
                    (_amount_of_36_months() if rule == "outcome_36_months" else nothing).alias("amount_minor"),
                ],
                [principal.alias("principal_minor"), zero.alias("interest_minor"), zero.alias("fees_minor")],
                [pl.col("principal_minor").alias("balance_minor")],
            ]
            source, place = self._source("loan_amount" if rule == "prosper" else "source_status")
            negative = pl.col("principal_minor") < 0
            extra.append(("balance_negative", source, place, negative, "a loan of which not more was repaid than lent"))
            if exact:
                source, place = self._source("dpd")
                outside = (pl.col("dpd") < self._standing("start", pl.Int64)) | (
                    pl.col("dpd") > self._standing("to", pl.Int64)
                )
                # A completed or cancelled loan's days mean nothing; only what is owed is late.
                late = outside & (pl.col("status") != Status.REPAID.value)
                extra.append(("dpd_outside_status", source, place, late, "days inside the range of the status"))
        for identity in self.mapping.identities:
            if {identity.total, *identity.parts} <= self.has:
                parts = sum((pl.col(f"v_{part}") for part in identity.parts), zero)
                apart = (pl.col(f"v_{identity.total}") - parts).abs() > identity.tolerance_minor
                if identity.except_statuses:
                    apart &= ~pl.col("r_source_status").is_in(identity.except_statuses)
                source, place = self._source(identity.total)
                names = " + ".join(self._source(part)[0] for part in identity.parts)
                extra.append(("identity", source, place, apart, f"the sum of {names}"))
        return steps, extra

    def _source(self, field: str) -> tuple[str, str]:
        return next((column.source, place) for column, place in self.columns if column.field == field)

    def _amount(self, field: str) -> pl.Expr:
        """An amount that is nothing where the cell is empty, and unknown where it is wrong."""
        zero = pl.lit(0, pl.Int64)
        return (
            pl.when(pl.col(f"r_{field}").is_null()).then(zero).otherwise(pl.col(f"v_{field}"))
            if field in self.has
            else zero
        )

    def _standing(self, what: str, kind: type[pl.DataType]) -> pl.Expr:
        words = list(self.mapping.statuses)
        values = [getattr(self.mapping.statuses[word], what) for word in words]
        return pl.col("r_source_status").replace_strict(words, values, default=None, return_dtype=kind)

    def _facts(self) -> pl.Expr:
        """The other mapped fields as one JSON object: an amount is `name_minor`, a rate `name_bp`.

        Its members are called `0`, `1` ... and `fact_names`, kept once with the tape, has their names: repeated in each
        of a million rows they would be a third of what the database has to take in.
        """
        endings = {"amount": "_minor", "percent": "_bp", "fraction": "_bp"}
        taken = {"loan_id", "borrower_id", "principal", "interest_due", "fees_due", "dpd", "product", "region", "rate"}
        taken |= {"originated_on", "currency", "legal_balance"}
        fields = {
            column.field + endings.get(column.type, ""): pl.col(f"v_{column.field}")
            for column, _ in self.columns
            if column.field not in taken
        }
        if self.mapping.rule == "outcome_36_months":
            fields["loan_amount_minor"] = pl.col("amount_minor")
        if self.mapping.rule == "balance_given" and {"loan_amount", "paid_principal"} <= self.has:
            lost = pl.col("v_loan_amount") - pl.col("v_paid_principal")
            fields["written_off_minor"] = pl.when(pl.col("bucket") == "charged_off").then(lost)
        self.fact_names = list(fields)
        values = [value.alias(str(number)) for number, value in enumerate(fields.values())]
        return (pl.struct(values).struct.json_encode() if values else pl.lit("{}")).alias("facts")

    # --- what came of it -------------------------------------------------------------------------

    def _with_repeated(self, read: pl.DataFrame) -> pl.DataFrame:
        """Find loan numbers that an earlier row has, and name the columns as accounts have them."""
        loans = read["v_loan_id"]
        given = loans.drop_nulls().to_list()
        fresh = set(given)
        if len(fresh) == len(given) and self._loans.isdisjoint(fresh):
            repeated = pl.Series("w_repeated", [False], pl.Boolean).new_from_index(0, read.height)
            self._loans |= fresh
        else:
            marks = []
            for loan in loans:
                marks.append(loan is not None and loan in self._loans)
                if loan is not None:
                    self._loans.add(loan)
            repeated = pl.Series("w_repeated", marks, pl.Boolean)
        return read.with_columns(
            repeated.alias("w_repeated"),
            pl.col("v_loan_id").alias("loan_id"),
            *((self._text(name)).alias(name) for name in ("borrower_id", "product", "region")),
            (pl.col("v_rate").fill_null(0) if "rate" in self.has else pl.lit(0, pl.Int64)).alias("rate_bp"),
            (pl.col("v_originated_on") if "originated_on" in self.has else pl.lit(None, pl.Date)).alias(
                "originated_on"
            ),
            (pl.col("is_good") & ~repeated).alias("is_good"),
        )

    def _text(self, field: str) -> pl.Expr:
        return pl.col(f"v_{field}").fill_null("") if field in self.has else pl.lit("")

    def _faults(self, read: pl.DataFrame, checks: Sequence[_Check]) -> list[Fault]:
        """Every fault of the rows, by row, in one row by column."""
        checks = [*checks, _Check("repeated", *self._repeated_column(), "a number that no other row has")]
        if read["is_good"].all():
            return []
        wrong = read.select([pl.col(check.wrong).any() for check in checks]).row(0)
        order = {source: number for number, (source, _) in enumerate((c.source, p) for c, p in self.columns)}
        found: list[tuple[int, int, Fault]] = []
        for check, is_found in zip(checks, wrong, strict=True):
            if is_found:
                rows = read.filter(pl.col(check.wrong)).select("row", check.found)
                for row, text in rows.iter_rows():
                    fault = Fault(check.code, check.column, (text or "")[:80], check.expected, row)
                    found.append((row, order.get(check.column, 0), fault))
        found.sort(key=lambda one: one[:2])
        return [fault for _, _, fault in found]

    def _repeated_column(self) -> tuple[str, str, str]:
        source, place = self._source("loan_id")
        return source, "w_repeated", place

    def _count(self, read: pl.DataFrame, good: pl.DataFrame, rows: int, faults: Sequence[Fault]) -> None:
        self.rows += rows
        self.fault_count += len(faults)
        self.faulty_rows += rows - good.height
        self.kinds.update((fault.code, fault.field) for fault in faults)
        empty = read.select(pl.col(f"r_{column.field}").is_null().sum() for column, _ in self.columns).row(0)
        for (column, _), number in zip(self.columns, empty, strict=True):
            self.missing[column.source] += number
        readable = read.filter(pl.col("balance_minor").is_not_null() & pl.col("bucket").is_not_null())
        if readable.height == good.height:
            sums = Totals()
            sums.add(good)
            self.all.join(sums)
            self.kept.join(sums)
        else:
            self.all.add(readable.with_columns(pl.col("principal_minor").fill_null(0)))
            self.kept.add(good)
        doubts = self._doubts()
        if good.height:
            marks = good.select(mark.fill_null(value=False).alias(name) for name, mark in doubts.items())
            for name in doubts:
                self.doubts[name] += int(marks[name].sum())
            self.doubtful_rows += int(marks.select(pl.any_horizontal(pl.all()).sum()).item())

    def _doubts(self) -> dict[str, pl.Expr]:
        """What is allowed and hard to believe; each lowers plausibility and refuses nothing."""
        doubts = {
            "rate_high": pl.col("rate_bp") > HIGH_RATE_BP,
            "interest_above_principal": pl.col("interest_minor") > 3 * pl.col("principal_minor"),
            "overdue_nothing_owed": (pl.col("status") == Status.OVERDUE.value) & (pl.col("balance_minor") == 0),
            "very_old": pl.col("originated_on") < pl.lit(self.cutoff_on) - pl.duration(days=DAYS_OF_YEARS),
            "late_before_it_began": pl.col("dpd") > (pl.lit(self.cutoff_on) - pl.col("originated_on")).dt.total_days(),
        }
        if "loan_amount" in self.has:
            doubts["principal_above_loan"] = pl.col("principal_minor") > pl.col("v_loan_amount")
        if "net_principal_loss" in self.has:
            doubts["overpaid"] = pl.col("v_net_principal_loss") < 0
        return doubts


def _bucket(dpd: pl.Expr) -> pl.Expr:
    chain: Any = pl
    for name, first, last in RANGES:
        chain = chain.when((dpd >= first) & (dpd <= (MOST_DPD if last is None else last))).then(pl.lit(name))
    result: pl.Expr = chain.otherwise(None)
    return result


def _amount_of_36_months() -> pl.Expr:
    """The amount lent in minor units: the present value of 36 instalments, to the nearest 25 (README of the tape).

    Binary numbers serve here: what is wanted is the nearest multiple of 25.
    """
    rate = pl.col("v_rate") / 120_000
    value = pl.col("v_instalment") * (1 - (1 + rate) ** -36) / rate
    return ((value / 2_500).round() * 2_500).cast(pl.Int64)


# --- records -------------------------------------------------------------------------------------


def records(frame: pl.DataFrame) -> list[LoanRecord]:
    """The rows of a checked frame as values."""
    names = ACCOUNT_COLUMNS[1:-1]
    return [LoanRecord(row[0], row[1], Status(row[2]), *row[3:]) for row in frame.select(names).iter_rows()]


WRITTEN = (
    "loan_id", "borrower_id", "currency", "principal", "interest_due", "fees_due", "legal_balance", "dpd", "product",
    "region", "rate_percent", "originated_on",
)  # fmt: skip


def write(loans: Iterable[LoanRecord], currency: str) -> bytes:
    """Records in our own layout (`clearlot`), as CSV; reading it gives the same records.

    Their days past due are exact, as that layout has no ranges; others raise ValueError.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(WRITTEN)
    for loan in loans:
        if loan.dpd is None or loan.dpd != loan.dpd_to:
            raise ValueError(f"{loan.loan_id}: the days past due are not exact")
        owed = [loan.principal_minor, loan.interest_minor, loan.fees_minor, loan.balance_minor]
        amounts = [amount_text(minor, currency) for minor in owed]
        rate = amount_text(loan.rate_bp, "USD")  # per cent with two decimals
        rest = [loan.dpd, loan.product, loan.region, rate, loan.originated_on or ""]
        writer.writerow([loan.loan_id, loan.borrower_id, currency, *amounts, *rest])
    return text.getvalue().encode()


def fault_lines(faults: Iterable[Fault]) -> bytes:
    """Faults as lines of CSV, `row,column,found,expected,code`, safe to open in a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for fault in faults:
        row = "" if fault.row is None else fault.row
        writer.writerow([row, *(safe_cell(cell) for cell in (fault.field, fault.found, fault.expected, fault.code))])
    return text.getvalue().encode()


FAULT_HEADER = b"row,column,found,expected,code\n"


def annotated(header: Sequence[str], blocks: Iterable[Block], notes: dict[int, str]) -> Iterator[bytes]:
    """The creditor's own table as CSV with a last column `fault`, safe to open in a spreadsheet.

    Args:
        notes: what is wrong, by row.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*map(safe_cell, header), "fault"])
    for block in blocks:
        order = ["row", *(f"c{number}" for number in range(len(header)))]
        rows = [(row[0], list(row[1:])) for row in block.frame.select(order).iter_rows()]
        for number, cells in sorted([*rows, *block.odd], key=lambda one: one[0]):
            filled = [safe_cell(cell or "") for cell in cells]
            filled += [""] * (len(header) - len(filled))
            writer.writerow([*filled, safe_cell(notes.get(number, ""))])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def mapping_for(name: str) -> TapeMapping:
    """The format known by name. Raises: BadInput `mapping_unknown`."""
    try:
        return known()[name]
    except KeyError:
        raise BadInput([Fault("mapping_unknown", "mapping", name[:80], ", ".join(known()))]) from None
