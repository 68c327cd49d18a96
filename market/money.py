"""Money: whole minor units with a currency; exact text in and out; the one place that rounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from market.errors import BadInput, Fault

# ISO 4217 minor units of the currencies that the platform knows; more are data, not code.
DECIMALS: dict[str, int] = {
    "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2,
    "HKD": 2, "HUF": 2, "INR": 2, "JPY": 0, "KRW": 0, "NOK": 2, "NZD": 2, "PLN": 2, "RON": 2,
    "RUB": 2, "SEK": 2, "SGD": 2, "TRY": 2, "TWD": 2, "UAH": 2, "USD": 2, "ZAR": 2, "KWD": 3,
}  # fmt: skip
_TEXT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,4})?", re.ASCII)
BP = 10_000  # basis points in one


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount of one currency, in minor units; may be negative."""

    amount_minor: int
    currency: str

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __str__(self) -> str:
        return f"{self.currency} {amount_text(self.amount_minor, self.currency)}"

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not add up")
        return other.amount_minor


def decimals(currency: str) -> int:
    """Return how many decimals `currency` has (ISO 4217); a currency that we do not know is bad input."""
    try:
        return DECIMALS[currency]
    except KeyError:
        fault = Fault("currency_unknown", "currency", currency[:20], "an ISO 4217 code that is listed here")
        raise BadInput([fault]) from None


def parse_amount(text: str, currency: str, *, field: str = "amount") -> int:
    """Read an amount typed by a person or a machine; return minor units.

    Only ASCII digits, at most one point, at most as many decimals as the currency has, at most 15
    digits before it; no sign, exponent, separator or space (promises.md, bad input 4).

    Raises: BadInput with the code `amount_format`.
    """
    places = decimals(currency)
    whole, _, fraction = text.partition(".")
    if not _TEXT.fullmatch(text) or len(fraction) > places:
        expected = f"digits with at most {places} decimals" if places else "digits without decimals"
        raise BadInput([Fault("amount_format", field, text[:40], expected)])
    return int(whole + fraction.ljust(places, "0"))


def amount_text(amount_minor: int, currency: str) -> str:
    """Exact decimal text of minor units, as JSON, CSV and files carry it: `-1234.50`."""
    places = decimals(currency)
    sign, digits = "-" if amount_minor < 0 else "", str(abs(amount_minor)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def round_minor(value: Decimal) -> int:
    """Round minor units half up, away from zero: the commercial rule of invoices and fees."""
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def to_minor(value: Decimal, currency: str) -> int:
    """A decimal amount to minor units, half to even: for tapes whose sums carry rounding dirt."""
    rounded: Decimal = value.scaleb(decimals(currency)).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return int(rounded)


def share_bp(amount_minor: int, rate_bp: int) -> int:
    """`rate_bp` basis points of an amount, rounded half up."""
    return round_minor(Decimal(amount_minor) * rate_bp / BP)


def ratio_bp(part: int, whole: int) -> int:
    """What part of `whole` is `part`, in basis points, rounded half up; 0 of nothing."""
    return round_minor(Decimal(part) * BP / whole) if whole else 0


def allocate(total_minor: int, weights: Sequence[int]) -> list[int]:
    """Share `total_minor` in proportion to `weights`, to the last cent.

    Shares are rounded down; the cents left over go to the largest remainders, the earlier weight
    first (Hamilton's method), so the same input always gives the same shares.

    Args:
        total_minor: minor units, not negative.
        weights: one per share, not negative, at least one positive.
    Returns: as many shares as weights, in their order; their sum is `total_minor`.
    Raises: ValueError, when something is negative or no weight is positive.
    """
    whole = sum(weights)
    if total_minor < 0 or whole <= 0 or min(weights) < 0:
        raise ValueError("shares need a total and weights that are not negative, one weight positive")
    shares = [total_minor * weight // whole for weight in weights]
    left = total_minor - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total_minor * weights[i] % whole), i))
    for i in by_remainder[:left]:
        shares[i] += 1
    return shares
