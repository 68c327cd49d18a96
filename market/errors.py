"""What cannot be done: MarketError and its few subclasses, each with a stable code.

A refusal is a value and bad input is a list of faults; an error here means that the request was
understood and the state of things forbids it.  `web/errors.py` maps the classes to statuses and the
codes to sentences in both languages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


class MarketError(Exception):
    """Something that cannot be done now; carries its facts for the sentence that a person reads."""

    status: ClassVar[int] = 409

    def __init__(self, code: str, /, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self.facts.items())
        return f"{self.code}({facts})"


class NotFound(MarketError):
    """It does not exist, or this person may not know that it does."""

    status = 404

    def __init__(self, kind: str, /, **facts: object) -> None:
        super().__init__("not_found", kind=kind, **facts)


class NotAllowed(MarketError):
    """The person is known and may see it, but may not do this."""

    status = 403


class Conflict(MarketError):
    """The state of things forbids it: a move that its table does not have, a key reused, a lot gone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: where, what was found, what was expected.

    `field` names a form's or message's member; in a table it is the column as the file names it, and
    `row` counts data rows from 1 (the header is row 0; None: the fault is not of one row).
    """

    code: str
    field: str
    found: str
    expected: str
    row: int | None = None


@dataclass(slots=True)
class BadInput(Exception):
    """Input that was refused whole: every fault found, in the order of the input."""

    faults: list[Fault] = field(default_factory=list)
    code: str = "bad_input"

    def __str__(self) -> str:
        return f"{self.code}: {len(self.faults)} fault(s)"
