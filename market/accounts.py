"""An overdue account: its buckets by days past due, and the moves that its status allows."""

from __future__ import annotations

from enum import StrEnum

from market.errors import Conflict


class Status(StrEnum):
    """Where an account is on its way; `performing` ones are on a tape beside the overdue ones, and are not for sale."""

    PERFORMING = "performing"
    OVERDUE = "overdue"
    LISTED = "listed"
    UNDER_CONTRACT = "under_contract"
    CLOSED_OUT = "closed_out"
    REPAID = "repaid"
    REPLACED = "replaced"  # by the same loan's account of a newer tape, or because that one was sold


MOVES: dict[Status, frozenset[Status]] = {
    Status.PERFORMING: frozenset({Status.OVERDUE, Status.REPAID, Status.REPLACED}),
    Status.OVERDUE: frozenset({Status.PERFORMING, Status.LISTED, Status.REPAID, Status.REPLACED}),
    Status.LISTED: frozenset({Status.OVERDUE, Status.UNDER_CONTRACT}),  # withdrawn or unsold; sold
    Status.UNDER_CONTRACT: frozenset({Status.OVERDUE, Status.CLOSED_OUT}),  # the buyer defaulted; paid
    Status.REPAID: frozenset(),
    Status.REPLACED: frozenset(),
    Status.CLOSED_OUT: frozenset(),
}

# Days past due, both ends included; the last is open (spec/collections.md 5.2: no overlap, none left out).
RANGES: tuple[tuple[str, int, int | None], ...] = (
    ("current", 0, 0),
    ("1-15", 1, 15),
    ("16-30", 16, 30),
    ("31-60", 31, 60),
    ("61-90", 61, 90),
    ("91-120", 91, 120),
    ("121+", 121, None),
)
# In the order in which pages show them.  `31-120` is as fine as LendingClub's statuses are; `charged_off`: written
# off, with no days given; `none`: nothing is owed.
BUCKETS = ("current", "1-15", "16-30", "31-60", "31-120", "61-90", "91-120", "121+", "charged_off", "none")


def bucket(dpd: int) -> str:
    """The bucket of a number of days past due, not negative."""
    return next(name for name, first, last in RANGES if dpd >= first and (last is None or dpd <= last))


def check_move(before: Status, after: Status) -> None:
    """Raises: Conflict `account_move`, when an account may not go from `before` to `after`."""
    if after not in MOVES[before]:
        raise Conflict("account_move", status=str(before), wanted=str(after))
