"""Lines of bank statements and what we expect: certain matches, and suggestions with reasons for a person.

A payment reference is nine characters behind CL (money in) or CP (money out), the last one a check character, from an
alphabet without look-alikes (no 0 O 1 I L): 31 characters, a prime, so that every single wrong character and every
swap of two neighbours is noticed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from market.money import amount_text

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_VALUE = {one: number for number, one in enumerate(ALPHABET)}
IN, OUT = "CL", "CP"
REFERENCE_SPACE: int = len(ALPHABET) ** 8  # how many references there are of each kind
_CANDIDATE = re.compile(rf"(?=(C[LP][{ALPHABET}]{{9}}))")
MOST_SUGGESTIONS = 9  # keys 1 to 9 take one
LEAST_SCORE = 20


def make_reference(prefix: str, number: int) -> str:
    """The reference `CLxx-xxxx-xxx` of a number below REFERENCE_SPACE (drawn at random, unique in the tables)."""
    if prefix not in (IN, OUT) or not 0 <= number < REFERENCE_SPACE:
        raise ValueError(f"no reference for {prefix} {number}")
    body = ""
    for _ in range(8):
        number, digit = divmod(number, len(ALPHABET))
        body = ALPHABET[digit] + body
    body += _check_character(prefix + body)
    return f"{prefix}{body[:2]}-{body[2:6]}-{body[6:]}"


def _check_character(text: str) -> str:
    """Makes the sum of weights times values divisible by 31; the prefix counts through its second letter."""
    total = {"L": 0, "P": 1}[text[1]]
    total += sum(weight * _VALUE[one] for weight, one in enumerate(text[2:], start=2))
    # Its own weight is 1: every weight is different and none is a multiple of 31.
    return ALPHABET[-total % len(ALPHABET)]


def references_in(*texts: str) -> list[str]:
    """Every valid reference in a bank's texts, whatever blanks, hyphens, line ends or cases are in between."""
    found: list[str] = []
    for text in texts:
        plain = re.sub(r"[^A-Z0-9]", "", unicodedata.normalize("NFKC", text).upper())
        for candidate in _CANDIDATE.findall(plain):
            body = candidate[2:]
            if _check_character(candidate[:-1]) == candidate[-1]:
                found.append(f"{candidate[:2]}{body[:2]}-{body[2:6]}-{body[6:]}")
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Line:
    """A movement that has no match yet."""

    amount_minor: int  # positive: came in
    currency: str
    booked_on: date
    text: str = ""
    end_to_end_id: str = ""
    other_name: str = ""
    other_iban: str = ""
    bank_reference: str = ""
    is_reversal: bool = False  # the bank's mark

    @property
    def references(self) -> list[str]:
        """The references of ours that it names."""
        return references_in(self.end_to_end_id, self.text)


@dataclass(frozen=True, slots=True)
class Expected:
    """One payment that we expect (money in) or have to send (money out)."""

    id: int
    reference: str
    amount_minor: int  # what is still missing; positive also for money out
    currency: str
    name: str
    iban: str
    due_on: date
    is_open: bool = True  # False: cancelled or paid, so that what comes late is recognised, not taken


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A possible match: for a person, with what speaks for it and against it."""

    expected_id: int
    score: int  # 0 to 100
    reasons: tuple[tuple[str, str], ...]  # (code, what was compared), strongest first
    certain: bool = False


def match(line: Line, expected: Iterable[Expected]) -> list[Suggestion]:
    """Compare a line with what is expected; best first, at most MOST_SUGGESTIONS.

    Certain, and therefore alone: exactly one reference of ours, found, open, of the same currency, with exactly the
    amount still missing. Everything else is for a person. Only payments of the line's currency are compared.
    """
    named = line.references
    suggestions = []
    for one in expected:
        if one.currency != line.currency:
            continue
        score, reasons = _compare(line, one, named)
        if one.reference in named and one.is_open and abs(line.amount_minor) == one.amount_minor and len(named) == 1:
            return [Suggestion(one.id, 100, tuple(reasons), certain=True)]
        if one.is_open and score >= LEAST_SCORE:
            suggestions.append(Suggestion(one.id, score, tuple(reasons)))
    suggestions.sort(key=lambda one: (-one.score, one.expected_id))
    return suggestions[:MOST_SUGGESTIONS]


def match_reversal(line: Line, earlier: Iterable[tuple[int, Line]]) -> list[Suggestion]:
    """Compare a line with earlier ones (id, line) of the same bank account that it may take back; best first.

    Only lines of exactly the same amount with the other sign. Certain, and therefore alone: the bank marks it as a
    reversal, and exactly one earlier line has its reference: ours, the payer's end-to-end id, or the bank's own.
    A reversal without the mark is for a person, however much it resembles: it may be a payment of our own.
    """
    named = line.references
    suggestions, proven = [], []
    for line_id, one in earlier:
        if one.currency != line.currency or one.amount_minor != -line.amount_minor or one.booked_on > line.booked_on:
            continue
        score, reasons, is_named = _compare_reversal(line, one, named)
        if len(reasons) == 1 or score < LEAST_SCORE:  # the amount alone
            continue
        suggestion = Suggestion(line_id, min(score, 100), tuple(reasons), certain=line.is_reversal and is_named)
        suggestions.append(suggestion)
        if suggestion.certain:
            proven.append(suggestion)
    if len(proven) == 1:
        return proven
    suggestions.sort(key=lambda one: (-one.score, -one.expected_id))
    return [replace(one, certain=False) for one in suggestions[:MOST_SUGGESTIONS]]


def _compare_reversal(line: Line, one: Line, named: Sequence[str]) -> tuple[int, list[tuple[str, str]], bool]:
    score, is_named = 25, False
    reasons: list[tuple[str, str]] = []
    if line.is_reversal:
        score += 20
        reasons.append(("reversal_mark", ""))
    theirs = one.references
    if common := [reference for reference in named if reference in theirs]:
        score, is_named = score + 35, True
        reasons.append(("reference_equal", common[0]))
    for code, mine, other in (
        ("end_to_end_equal", line.end_to_end_id, one.end_to_end_id),
        ("bank_reference_equal", line.bank_reference, one.bank_reference),
    ):
        if mine and mine == other:
            score, is_named = score + 15, True
            reasons.append((code, mine[:40]))
    reasons.append(("amount_equal", amount_text(abs(one.amount_minor), one.currency)))
    if one.other_iban and _plain(one.other_iban) == _plain(line.other_iban):
        score += 10
        reasons.append(("iban_equal", one.other_iban[-4:]))
    if share := _name_share(one.other_name, line.other_name):
        score += 5 * share // 100
        reasons.append(("name_equal" if share == 100 else "name_similar", f"{share}%"))
    if named and not common:
        score -= 20
        reasons.append(("other_reference", named[0]))
        is_named = False
    return score, reasons, is_named


def _compare(line: Line, one: Expected, named: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    score = 0
    reasons: list[tuple[str, str]] = []
    short_minor = one.amount_minor - abs(line.amount_minor)
    if one.reference in named:
        score += 60
        reasons.append(("reference_equal", one.reference))
    if short_minor == 0:
        score += 25
        reasons.append(("amount_equal", amount_text(one.amount_minor, one.currency)))
    elif one.reference in named:
        code = "amount_short" if short_minor > 0 else "amount_over"
        reasons.append((code, amount_text(abs(short_minor), one.currency)))
    if one.iban and _plain(one.iban) == _plain(line.other_iban):
        score += 10
        reasons.append(("iban_equal", one.iban[-4:]))
    if share := _name_share(one.name, line.other_name):
        score += 10 * share // 100
        reasons.append(("name_equal" if share == 100 else "name_similar", f"{share}%"))
    if one.reference not in named and named:
        score -= 20
        reasons.append(("other_reference", named[0]))
    if reasons and line.booked_on > one.due_on:
        reasons.append(("late", str((line.booked_on - one.due_on).days)))
    return max(score, 0), reasons


def _plain(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "", unicodedata.normalize("NFKC", text).casefold())


def _name_share(ours: str, theirs: str) -> int:
    """How much two names have in common, in percent, by pairs of neighbouring characters (Dice); below 60: nothing."""
    one, other = (_pairs(unicodedata.normalize("NFKC", name).casefold()) for name in (ours, theirs))
    if not one or not other:
        return 0
    share = 200 * len(one & other) // (len(one) + len(other))
    return share if share >= 60 else 0


def _pairs(name: str) -> set[str]:
    plain = "".join(one for one in name if one.isalnum())
    return {plain[at : at + 2] for at in range(len(plain) - 1)}
