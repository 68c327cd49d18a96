"""A state of an auction to come back to, when what was decided on it was not kept.

The turn "at once" (storage/journal.py) decides before it knows whether another node was first. If one was, its entries
are undone: the state of a while ago, and on it the entries since then that were kept.
"""

import dataclasses
import io
import pickle
from typing import Any

from auctions.bidding import Auction


class Snapshot:
    """A copy of an auction's state, of any format, made in some ten microseconds. The terms are not copied."""

    __slots__ = ("_bytes", "_fixed")

    def __init__(self, auction: Auction) -> None:
        self._fixed: dict[int, object] = {}  # id -> what never changes, and is shared
        self._fix(auction.terms)
        written = io.BytesIO()
        pickler: Any = pickle.Pickler(written, protocol=5)
        pickler.persistent_id = self._number_of
        pickler.dump(auction)
        self._bytes = written.getvalue()

    def restore(self) -> Auction:
        """Return the state as it was."""
        unpickler: Any = pickle.Unpickler(io.BytesIO(self._bytes))  # noqa: S301 - what this object wrote itself
        unpickler.persistent_load = self._fixed.__getitem__
        restored: Auction = unpickler.load()
        return restored

    def _fix(self, value: object) -> None:
        if dataclasses.is_dataclass(value):
            self._fixed[id(value)] = value
            for each in dataclasses.fields(value):
                self._fix(getattr(value, each.name))

    def _number_of(self, value: object) -> int | None:
        number = id(value)
        return number if number in self._fixed else None
