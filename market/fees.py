"""What the platform takes: the buyer's premium, the seller's commission, and caps by band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from market.money import BP, share_bp


@dataclass(frozen=True, slots=True)
class Fees:
    """The fees of one lot, as its terms state them."""

    premium_bp: int = 0  # added to the hammer, paid by the buyer
    commission_bp: int = 0  # taken from the proceeds, paid by the creditor

    def __post_init__(self) -> None:
        if not (0 <= self.premium_bp <= BP and 0 <= self.commission_bp <= BP):
            raise ValueError("a fee is between nothing and all of the price")

    def premium_minor(self, hammer_minor: int) -> int:
        """The buyer's premium, rounded half up."""
        return share_bp(hammer_minor, self.premium_bp)

    def commission_minor(self, hammer_minor: int) -> int:
        """The seller's commission, rounded half up."""
        return share_bp(hammer_minor, self.commission_bp)


# The most that an auction house may take for a judicial sale: (up to, in yuan cents; share of that band).
# Provisions on auctions in enforcement, 2020, art. 29.
JUDICIAL_CAP: tuple[tuple[int | None, int], ...] = (
    (2_000_000_00, 500),
    (10_000_000_00, 300),
    (50_000_000_00, 200),
    (100_000_000_00, 100),
    (None, 50),
)


def banded_minor(amount_minor: int, bands: Sequence[tuple[int | None, int]]) -> int:
    """The sum over bands of each band's share of the part of `amount_minor` that lies in it.

    `bands`: (upper end in minor units, None for the last; basis points), rising.
    """
    total, start = 0, 0
    for end, rate_bp in bands:
        upper = amount_minor if end is None else min(amount_minor, end)
        if upper <= start:
            break
        total += share_bp(upper - start, rate_bp)
        start = upper
    return total
