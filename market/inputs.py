"""What people and machines type: one field after the other is read, and every fault is gathered.

Forms and JSON carry text; the same reader serves both, so that a page and the API refuse the same things
with the same codes (promises.md, bad input).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from market.errors import BadInput, Fault
from market.money import DECIMALS, parse_amount

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII
)
_ACCOUNT = re.compile(r"[A-Z0-9]{8,34}", re.ASCII)
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?", re.ASCII)
# Control, direction and zero-width characters make two texts look the same that are not (bad input 6).
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def has_hidden(text: str, allowed: str = "") -> bool:
    """Whether a text has control, direction or zero-width characters other than those in `allowed`."""
    return any(unicodedata.category(c) in _HIDDEN and c not in allowed for c in text)


def text_of(values: Mapping[str, Any], name: str) -> str:
    """The text of one member as it was typed; "" when there is none, or what no text can be: a file, a NUL in it."""
    value = values.get(name)
    return value if isinstance(value, str) and "\0" not in value else ""


class Reader:
    """Reads the members of a form or of a JSON object; `done` raises what was wrong, all of it at once."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values
        self.faults: list[Fault] = []

    def fault(self, code: str, field: str, found: object, expected: str) -> None:
        """Note that something is wrong with `field`."""
        self.faults.append(Fault(code, field, str(found)[:80], expected))

    def done(self) -> None:
        """Raise BadInput, if there was any fault."""
        if self.faults:
            raise BadInput(self.faults)

    def raw(self, field: str) -> str:
        """The text of a field without blanks at its ends; "" when it is absent; a fault when it is no text."""
        value = self.values.get(field, "")
        if value is None:
            return ""
        if not isinstance(value, str):
            self.fault("type", field, type(value).__name__, "text")
            return ""
        if "\0" in value:  # PostgreSQL keeps none
            self.fault("hidden_character", field, ascii(value), "no control, direction or zero-width characters")
            return ""
        return value.strip()

    def line(self, field: str, *, most: int, least: int = 1) -> str:
        """One line of text as people write it, at most `most` characters."""
        return self._text(field, most, least, allowed="")

    def prose(self, field: str, *, most: int, least: int = 0) -> str:
        """Text of several lines; line ends become `\\n`."""
        return self._text(field, most, least, allowed="\n")

    def _text(self, field: str, most: int, least: int, allowed: str) -> str:
        text = self.raw(field).replace("\r\n", "\n")
        if not text and least:
            self.fault("missing", field, "", f"1 to {most} characters")
        elif not least <= len(text) <= most:
            self.fault("length", field, len(text), f"{least} to {most} characters")
        elif has_hidden(text, allowed):
            self.fault("hidden_character", field, ascii(text), "no control, direction or zero-width characters")
        else:
            return text
        return ""

    def account(self, field: str) -> str:
        """The number of a bank account, IBAN or not, without blanks, in capitals."""
        number = self.raw(field).replace(" ", "").upper()
        if not _ACCOUNT.fullmatch(number):
            self.fault("iban_format", field, number, "8 to 34 letters and digits")
        return number

    def choice(self, field: str, choices: Collection[str]) -> str:
        """One of `choices`; "" and a fault otherwise."""
        text = self.raw(field)
        if text not in choices:
            self.fault("choice" if text else "missing", field, text, ", ".join(sorted(choices)))
            return ""
        return text

    def currency(self, field: str) -> str:
        """An ISO 4217 code that the platform knows; "" and a fault otherwise."""
        return self.choice(field, DECIMALS)

    def amount(self, field: str, currency: str, *, required: bool = True) -> int | None:
        """Money in minor units; None when it is absent or wrong. Without a known currency nothing is read."""
        text = self.raw(field)
        if not text:
            if required:
                self.fault("missing", field, "", "an amount")
            return None
        if currency not in DECIMALS:
            return None
        try:
            return parse_amount(text, currency, field=field)
        except BadInput as bad:
            self.faults += bad.faults
            return None

    def whole(self, field: str, *, least: int, most: int, required: bool = True) -> int | None:
        """A whole number in [least, most]."""
        text = self.raw(field)
        if not text and not required:
            return None
        expected = f"a whole number from {least} to {most}"
        if not _WHOLE.fullmatch(text):
            self.fault("whole_number" if text else "missing", field, text, expected)
        elif not least <= int(text) <= most:
            self.fault("range", field, text, expected)
        else:
            return int(text)
        return None

    def decimal(self, field: str, *, places: int, most: int, required: bool = True) -> Decimal | None:
        """A decimal number that is not negative, with at most `places` decimals."""
        text = self.raw(field)
        if not text and not required:
            return None
        if not re.fullmatch(rf"[0-9]{{1,15}}(\.[0-9]{{1,{places}}})?", text, re.ASCII) or Decimal(text) > most:
            self.fault("number" if text else "missing", field, text, f"digits, at most {places} decimals, up to {most}")
            return None
        return Decimal(text)

    def percent_bp(self, field: str, *, most_bp: int, required: bool = True) -> int | None:
        """A percentage with at most two decimals, as basis points."""
        text = self.raw(field)
        if not text and not required:
            return None
        expected = f"a percentage from 0 to {most_bp // 100}, at most two decimals"
        if not _PERCENT.fullmatch(text) or int(Decimal(text) * 100) > most_bp:
            self.fault("percent" if text else "missing", field, text, expected)
            return None
        return int(Decimal(text) * 100)

    def day(self, field: str, *, required: bool = True) -> date | None:
        """A calendar date, `2026-11-22`."""
        text = self.raw(field)
        if not text and not required:
            return None
        try:
            if not _DAY.fullmatch(text):
                raise ValueError
            return date.fromisoformat(text)
        except ValueError:
            self.fault("date" if text else "missing", field, text, "a date such as 2026-11-22")
            return None

    def instant(self, field: str, zone: ZoneInfo) -> datetime | None:
        """An instant, `2026-11-22T16:30` in `zone` unless it names its own offset; aware, in UTC."""
        text = self.raw(field)
        try:
            if not _INSTANT.fullmatch(text):
                raise ValueError
            instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
            return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fault("instant" if text else "missing", field, text, "a date and time such as 2026-11-22T16:30")
            return None

    def ticked(self, field: str) -> bool:
        """A box of a form, or a JSON boolean."""
        value = self.values.get(field)
        if value is None or isinstance(value, bool):
            return bool(value)
        if value not in ("on", "yes", "true", "1", "no", "false", "0", ""):
            self.fault("choice", field, value, "yes or no")
        return value in ("on", "yes", "true", "1")
