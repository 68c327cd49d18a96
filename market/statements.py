"""Bank statements in: camt.052/053/054 and MT940/942 to plain lines, and the checks that come before any booking.

Both readers are our own. XML goes through defusedxml (no document type, no entities, no network). MT94x: the
library `mt-940` folds all statements of a file into one, so that the balances between them are lost, and a chain of
balances that does not close cannot be seen; here each statement stays by itself.

Sources: ISO 20022 camt.05x.001.01 to .08, SWIFT MT940/942 (Category 9), and the ?20-?63 subfields and `EREF+` tags of
the German banking industry (DK, Geschäftsvorfallcodes).
"""

from __future__ import annotations

import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from market.errors import BadInput, Fault
from market.money import DECIMALS, amount_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST_BYTES = 20 * 1024 * 1024
MOST_LINES = 100_000  # of one file
MOST_DEPTH = 40  # elements within elements; camt needs about 15
TEXT_LENGTH = 1000  # characters of a remittance text that are kept
NAME_LENGTH = 140
MT_REFERENCE = 16  # characters of a reference in :61:


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement on a bank account."""

    amount_minor: int  # positive: came in
    currency: str
    booked_on: date
    value_on: date
    bank_reference: str = ""
    end_to_end_id: str = ""
    text: str = ""  # remittance text, as the payer wrote it
    other_name: str = ""
    other_iban: str = ""
    kind: str = ""  # the bank's transaction code, e.g. NTRF
    extra: str = ""  # MT94x: supplementary details
    is_reversal: bool = False  # the bank marks it as taking another movement back, or as a return


@dataclass(frozen=True, slots=True)
class Balance:
    """A balance with its sign."""

    amount_minor: int
    currency: str
    on: date


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of one account, as the bank stated it."""

    format: str  # camt.053.001.08, MT940 ...
    account: str  # IBAN, or the bank's own number
    currency: str
    number: str
    opening: Balance | None
    closing: Balance | None
    lines: tuple[StatementLine, ...]

    @property
    def computed_minor(self) -> int | None:
        """Opening plus lines, in minor units; None without an opening balance or with more than one currency."""
        if self.opening is None or any(one.currency != self.opening.currency for one in self.lines):
            return None
        return self.opening.amount_minor + sum(one.amount_minor for one in self.lines)

    @property
    def difference_minor(self) -> int | None:
        """Stated closing less what opening and lines give; None, when that cannot be said."""
        if self.closing is None or self.computed_minor is None or self.opening is None:
            return None
        if self.closing.currency != self.opening.currency:
            return None
        return self.closing.amount_minor - self.computed_minor

    @property
    def from_on(self) -> date:
        """The first day that it speaks of."""
        return min(self._days())

    @property
    def to_on(self) -> date:
        """The last day that it speaks of."""
        return max(self._days())

    def _days(self) -> list[date]:
        balances = [one.on for one in (self.opening, self.closing) if one is not None]
        return balances + [one.booked_on for one in self.lines] or [date.min]


def parse(data: bytes) -> list[Statement]:
    """Read a statement file; which kind it is shows in its first bytes.

    Returns: its statements, in the order of the file; each line's movements are split as far as the bank did.
    Raises: BadInput: `file_empty`, `file_too_large`, `format_unknown`, `xml_forbidden`, `xml_broken`, `field_format`.
    """
    if not data.strip():
        raise _bad("file_empty", "file", "", "a bank statement")
    if len(data) > MOST_BYTES:
        raise _bad("file_too_large", "file", str(len(data)), f"at most {MOST_BYTES} bytes")
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    statements = _camt(data) if start == b"<" else _mt94x(data)
    if sum(len(one.lines) for one in statements) > MOST_LINES:
        raise _bad("too_many_lines", "file", "", f"at most {MOST_LINES} lines")
    return statements


def check(statements: Sequence[Statement]) -> list[Fault]:
    """Faults that forbid booking, as far as the file alone tells: balances, currencies, and the chain within the file.

    What needs our books (account known, entry seen before, number skipped) is checked by storage/reconciliation.
    """
    faults = []
    for place, one in enumerate(statements, start=1):
        where = f"{one.account} · {one.number}"
        if one.opening is None or one.closing is None:
            faults.append(
                Fault("balance_missing", where, one.format, "opening and closing balance: camt.053 or MT940", place)
            )
            continue
        for line in one.lines:
            if line.currency != one.currency:
                faults.append(Fault("currency_differs", where, line.currency, one.currency, place))
                break
        if one.currency not in DECIMALS:
            expected = "an ISO 4217 code that is listed here"
            faults.append(Fault("currency_unknown", where, one.currency, expected, place))
        elif {one.opening.currency, one.closing.currency} != {one.currency}:
            found = f"{one.opening.currency}, {one.closing.currency}"
            faults.append(Fault("currency_differs", where, found, one.currency, place))
        elif one.difference_minor:
            computed = replace(one.closing, amount_minor=one.closing.amount_minor - one.difference_minor)
            faults.append(Fault("statement_balance", where, _shown(one.closing), _shown(computed), place))
    by_account: dict[str, list[Statement]] = {}
    for one in statements:
        by_account.setdefault(one.account, []).append(one)
    for account, several in by_account.items():
        for before, after in pairwise(several):
            if before.closing and after.opening and before.closing.amount_minor != after.opening.amount_minor:
                found, expected = _shown(after.opening), _shown(before.closing)
                faults.append(Fault("chain_broken", f"{account} · {after.number}", found, expected))
    return faults


def line_keys(account: str, lines: Iterable[StatementLine]) -> list[str]:
    """The bank's identity of each movement, so that none is booked twice.

    Lines that are equal in everything are told apart by their place among the equal ones of the statement: they are
    two payments, since the balances say so.
    """
    seen: dict[str, int] = {}
    keys = []
    for one in lines:
        parts = (
            account, one.booked_on.isoformat(), one.value_on.isoformat(), str(one.amount_minor), one.currency,
            one.bank_reference, one.end_to_end_id, one.text, one.other_iban, one.other_name,
        )  # fmt: skip
        digest = sha256("\x1f".join(parts).encode()).hexdigest()
        seen[digest] = seen.get(digest, 0) + 1
        keys.append(f"{digest[:40]}-{seen[digest]}")
    return keys


def _shown(balance: Balance) -> str:
    if balance.currency not in DECIMALS:
        return f"{balance.currency} {balance.amount_minor} / 100"
    return f"{balance.currency} {amount_text(balance.amount_minor, balance.currency)}"


def _bad(code: str, field: str, found: str, expected: str, row: int | None = None) -> BadInput:
    return BadInput([Fault(code, field, found[:80], expected, row)])


def _amount(text: str, currency: str, point: str, field: str, row: int | None) -> int:
    """A bank's amount: digits, one decimal mark, zeros beyond the currency's decimals allowed.

    A currency that we do not know is read with two decimals, so that the file can be shown; `check` refuses it.
    """
    places = DECIMALS.get(currency, 2)
    whole, _, fraction = text.partition(point)
    kept, rest = fraction[:places], fraction[places:]
    if not (whole + fraction).isascii() or not (whole + fraction).isdigit() or len(whole) > 15 or rest.strip("0"):
        raise _bad("amount_format", field, text, f"digits with at most {places} decimals", row)
    unit: int = 10**places
    return int(whole or "0") * unit + int(kept.ljust(places, "0") or "0")


def _clean(text: str, most: int = TEXT_LENGTH) -> str:
    """One line of a bank's text without what cannot be seen."""
    plain = "".join(one if unicodedata.category(one)[0] != "C" else " " for one in text)
    return re.sub(r"\s+", " ", plain).strip()[:most]


# --- camt -------------------------------------------------------------------------------------------

_ROOTS = {"BkToCstmrStmt": "Stmt", "BkToCstmrAcctRpt": "Rpt", "BkToCstmrDbtCdtNtfctn": "Ntfctn"}
_NAMESPACE = re.compile(r"\{urn:iso:std:iso:20022:tech:xsd:(camt\.05[234]\.001\.\d\d)\}Document")


def _camt(data: bytes) -> list[Statement]:
    try:
        root = fromstring(data, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException:
        raise _bad("xml_forbidden", "file", "", "XML without document type and entities") from None
    except (ParseError, ValueError, LookupError) as error:
        raise _bad("xml_broken", "file", str(error), "well-formed XML") from None
    named = _NAMESPACE.fullmatch(root.tag)
    if not named:
        raise _bad("format_unknown", "file", root.tag, "camt.052, camt.053 or camt.054, versions 01 to 08 or later")
    _strip(root)
    for body in root:
        if member := _ROOTS.get(body.tag.removesuffix("V01")):
            if statements := [_camt_statement(named[1], one) for one in body.findall(member)]:
                return statements
            raise _bad("field_missing", f"{body.tag}/{member}", "", "at least one statement")
    raise _bad("format_unknown", "Document", "", "one of " + ", ".join(_ROOTS))


def _strip(root: Element) -> None:
    """Take the namespace off all names: each version has its own and the paths are the same."""
    level = [root]
    for _ in range(MOST_DEPTH):
        if not level:
            return
        for one in level:
            one.tag = one.tag.rpartition("}")[2]
        level = [child for one in level for child in one]
    raise _bad("xml_too_deep", "file", "", f"at most {MOST_DEPTH} levels")


def _camt_statement(version: str, body: Element) -> Statement:
    account = _text(body, "Acct/Id/IBAN") or _text(body, "Acct/Id/Othr/Id") or _text(body, "Acct/Id/PrtryAcct/Id")
    balances = dict(_camt_balances(body))
    opening = balances.get("OPBD") or balances.get("PRCD")
    closing = balances.get("CLBD")
    if (currency := _text(body, "Acct/Ccy")) == "" and opening:
        currency = opening.currency
    lines = [
        line
        for number, entry in enumerate(body.findall("Ntry"), start=1)
        if (_text(entry, "Sts/Cd") or _text(entry, "Sts")) in ("BOOK", "")  # pending ones are not money yet
        for line in _camt_lines(entry, number, _text(body, "CreDtTm")[:10])
    ]
    return Statement(
        version, account, currency or (lines[0].currency if lines else ""),
        _text(body, "LglSeqNb") or _text(body, "ElctrncSeqNb") or _text(body, "Id"), opening, closing, tuple(lines),
    )  # fmt: skip


def _camt_balances(body: Element) -> Iterator[tuple[str, Balance]]:
    for one in body.findall("Bal"):
        code = _text(one, "Tp/CdOrPrtry/Cd")
        amount = one.find("Amt")
        if amount is None:
            raise _bad("field_missing", "Bal/Amt", "", "an amount")
        minor = _camt_amount(amount, "Bal/Amt", None)
        on = _camt_day(one, ("Dt",), "Bal/Dt", None)
        yield code, Balance(-minor if _text(one, "CdtDbtInd") == "DBIT" else minor, amount.get("Ccy", ""), on)


def _camt_lines(entry: Element, number: int, made_on: str) -> list[StatementLine]:
    """The movements of one entry; `made_on`: the statement's own day, for entries that name none (notifications)."""
    amount = entry.find("Amt")
    if amount is None:
        raise _bad("field_missing", "Ntry/Amt", "", "an amount", number)
    currency = amount.get("Ccy", "")
    sign = {"CRDT": 1, "DBIT": -1}.get(_text(entry, "CdtDbtInd"))
    if sign is None:
        raise _bad("field_format", "Ntry/CdtDbtInd", _text(entry, "CdtDbtInd"), "CRDT or DBIT", number)
    total = sign * _camt_amount(amount, "Ntry/Amt", number)
    whole = StatementLine(
        amount_minor=total,
        currency=currency,
        booked_on=_camt_day(entry, ("BookgDt", "ValDt"), "Ntry/BookgDt", number, made_on),
        value_on=_camt_day(entry, ("ValDt", "BookgDt"), "Ntry/ValDt", number, made_on),
        bank_reference=_clean(_text(entry, "AcctSvcrRef")),
        text=_clean(_text(entry, "AddtlNtryInf")),
        kind=_text(entry, "BkTxCd/Prtry/Cd") or _text(entry, "BkTxCd/Domn/Fmly/SubFmlyCd"),
        is_reversal=_text(entry, "RvslInd") in ("true", "1"),  # CdtDbtInd is the reversal's own sign all the same
    )
    details = entry.findall("NtryDtls/TxDtls")
    amounts = [_detail_amount(one, currency, sign, number) for one in details]
    known = [one for one in amounts if one is not None]
    if len(details) > 1 and len(known) == len(details) and sum(known) == total:
        return [
            replace(_camt_detail(whole, one, sign), amount_minor=part) for one, part in zip(details, known, strict=True)
        ]
    # One detail, or several whose amounts do not explain the entry: the entry is the movement.
    return [_camt_detail(whole, details[0], sign)] if details else [whole]


def _camt_detail(whole: StatementLine, detail: Element, sign: int) -> StatementLine:
    is_reversal = whole.is_reversal or detail.find("RtrInf") is not None
    # The parties of a reversal are those of the first movement, whose sign was the other one; some banks turn them.
    sides = ("Dbtr", "Cdtr") if (sign > 0) != is_reversal else ("Cdtr", "Dbtr")
    other = next((side for side in sides[: 1 + is_reversal] if _camt_party(detail, side) != ("", "")), sides[0])
    other_name, other_iban = _camt_party(detail, other)
    free = [one.text or "" for one in detail.findall("RmtInf/Ustrd")]
    structured = [_text(one, "CdtrRefInf/Ref") for one in detail.findall("RmtInf/Strd")]
    text = " ".join(one for one in (*free, *structured) if one)
    end_to_end = _text(detail, "Refs/EndToEndId")
    return replace(
        whole,
        bank_reference=_clean(_text(detail, "Refs/AcctSvcrRef")) or whole.bank_reference,
        end_to_end_id="" if end_to_end == "NOTPROVIDED" else _clean(end_to_end),
        text=_clean(text) or whole.text,
        other_name=other_name,
        other_iban=other_iban,
        is_reversal=is_reversal,
    )


def _camt_party(detail: Element, side: str) -> tuple[str, str]:
    """Name and account of the debtor or the creditor."""
    name = _text(detail, f"RltdPties/{side}/Nm") or _text(detail, f"RltdPties/{side}/Pty/Nm")
    account = f"RltdPties/{side}Acct/Id"
    return _clean(name, NAME_LENGTH), _text(detail, f"{account}/IBAN") or _text(detail, f"{account}/Othr/Id")


def _detail_amount(detail: Element, currency: str, sign: int, number: int) -> int | None:
    amount = detail.find("Amt")
    if amount is None:
        amount = detail.find("AmtDtls/TxAmt/Amt")
    if amount is None or amount.get("Ccy") != currency:
        return None
    own = {"CRDT": 1, "DBIT": -1}.get(_text(detail, "CdtDbtInd"), sign)
    return own * _camt_amount(amount, "TxDtls/Amt", number)


def _camt_amount(amount: Element, field: str, row: int | None) -> int:
    return _amount((amount.text or "").strip(), amount.get("Ccy", ""), ".", field, row)


def _camt_day(parent: Element, names: Sequence[str], field: str, row: int | None, otherwise: str = "") -> date:
    """The first date there is, or the date of an instant as the bank wrote it (its zone is the booking's)."""
    places = [f"{name}/{kind}" for name in names for kind in ("Dt", "DtTm")]
    text = next((found for place in places if (found := _text(parent, place))), otherwise)
    try:
        return datetime.fromisoformat(text).date() if "T" in text else date.fromisoformat(text[:10])
    except ValueError:
        raise _bad("date_format", field, text, "a date as 2026-11-22", row) from None


def _text(parent: Element, path: str) -> str:
    found = parent.find(path)
    return (found.text or "").strip() if found is not None and found.text else ""


# --- MT94x ------------------------------------------------------------------------------------------

_TAG = re.compile(r"^:(\d\d[A-Z]?):", re.MULTILINE)
_BROKEN_TAG = re.compile(r"\n:\n(\d\d[A-Z]?:)")  # files that were wrapped at a fixed width
_BALANCE = re.compile(r"([CD])(\d{6})([A-Z]{3})(\d[\d,]{0,15})\s*", re.ASCII)
_LINE = re.compile(
    r"(?P<value>\d{6})(?P<entry>\d{4})?(?P<mark>R?[CD])(?P<funds>[A-Za-z])?(?P<amount>\d[\d,]{0,15})"
    r"(?P<kind>[A-Z][A-Z0-9 ]{3})?(?P<own>[^\n/]*(?:/(?!/)[^\n/]*)*)(?://(?P<bank>[^\n]*))?(?:\n(?P<extra>.*))?",
    re.ASCII | re.DOTALL,
)
_SUBFIELD = re.compile(r"\?(\d\d)")
_SEPA = re.compile(r"(EREF|KREF|MREF|CRED|DEBT|SVWZ|ABWA|ABWE|IBAN|BIC|PURP)\+")


def _mt94x(data: bytes) -> list[Statement]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # what banks send otherwise; every byte has a meaning in it
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _BROKEN_TAG.sub(r"\n:\1", text)
    tags = list(_TAG.finditer(text))
    if not tags or not any(one[1].startswith(("20", "25", "60", "61")) for one in tags):
        raise _bad("format_unknown", "file", _clean(text, 40), "camt.052/053/054 XML, MT940 or MT942")
    fields = []
    for one, after in zip(tags, [*tags[1:], None], strict=True):
        body = text[one.end() : after.start() if after else len(text)]
        fields.append((one[1], _trailer(body)))
    return [_mt_statement(one, place) for place, one in enumerate(_statements(fields), start=1)]


def _trailer(body: str) -> str:
    """A field's text without the end of a message: a line `-`, `-}` or `-XXX`, and the next one's header."""
    return re.split(r"\n-(?:\}|XXX)?\s*(?:\n|$)|\n\{[1-5]:", body, maxsplit=1)[0].strip("\n")


def _statements(fields: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Each :20: begins a statement; a file without any is one."""
    current: list[tuple[str, str]] = []
    for tag, value in fields:
        if tag == "20" and current:
            yield current
            current = []
        current.append((tag, value))
    if current:
        yield current


def _mt_statement(fields: Sequence[tuple[str, str]], place: int) -> Statement:
    account = number = currency = ""
    opening = closing = None
    lines: list[StatementLine] = []
    kind = "MT940"
    of_line = False  # does an :86: speak of the last line, or of the whole statement?
    for tag, value in fields:
        if tag == "25":
            account = value.strip()
        elif tag in ("28", "28C"):
            number = value.strip()
        elif tag in ("60F", "60M"):
            opening = _mt_balance(value, tag, place)
        elif tag in ("62F", "62M"):
            closing = _mt_balance(value, tag, place)
        elif tag == "34F":
            kind, currency = "MT942", currency or value[:3]
        elif tag == "61":
            known = opening.currency if opening else currency
            lines.append(_mt_line(value, known, len(lines) + 1))
        elif tag == "86" and of_line:
            lines[-1] = _mt_details(lines[-1], value)
        of_line = tag == "61" or (of_line and tag == "86")
    currency = opening.currency if opening else currency
    return Statement(kind, account, currency, number, opening, closing, tuple(lines))


def _mt_balance(value: str, tag: str, place: int) -> Balance:
    found = _BALANCE.match(value)
    if not found:
        raise _bad("field_format", f":{tag}:", value, "C or D, YYMMDD, currency, amount with a comma", place)
    minor = _amount(found[4], found[3], ",", f":{tag}:", place)
    return Balance(-minor if found[1] == "D" else minor, found[3], _mt_day(found[2], f":{tag}:", place))


def _mt_day(text: str, field: str, row: int) -> date:
    try:
        year, month, day = 2000 + int(text[:2]), int(text[2:4]), int(text[4:])
        # Where interest counts 30 days a month, a value date can be 30 February: the month's last day.
        return date(year, month, min(day, monthrange(year, month)[1]) if day <= 31 else day)
    except ValueError:
        raise _bad("date_format", field, text, "YYMMDD", row) from None


def _mt_line(value: str, currency: str, row: int) -> StatementLine:
    found = _LINE.match(value) or _LINE.match(value.replace("\n", ""))
    if not found:
        expected = "YYMMDD, MMDD, C/D/RC/RD, amount with a comma, type, references"
        raise _bad("field_format", ":61:", value, expected, row)
    value_on = _mt_day(found["value"], ":61:", row)
    booked_on = value_on
    if found["entry"]:
        # The year of the entry date is the one that brings it nearest to the value date.
        candidates = []
        for year in (value_on.year - 1, value_on.year, value_on.year + 1):
            try:
                candidates.append(date(year, int(found["entry"][:2]), int(found["entry"][2:])))
            except ValueError:
                continue
        if not candidates:
            raise _bad("date_format", ":61:", found["entry"], "MMDD", row)
        booked_on = min(candidates, key=lambda one: abs(one - value_on))
    minor = _amount(found["amount"], currency, ",", ":61:", row)
    own, extra = found["own"], (found["extra"] or "").strip("\n")
    if len(own) > MT_REFERENCE and not extra:  # some banks write on after the reference's sixteen places
        own, extra = own[:MT_REFERENCE], own[MT_REFERENCE:]
    return StatementLine(
        # RC takes a credit back, RD a debit: the sign is the other one's.
        amount_minor=minor if found["mark"] in ("C", "RD") else -minor,
        currency=currency,
        booked_on=booked_on,
        value_on=value_on,
        bank_reference=(found["bank"] or "").strip(),
        end_to_end_id="" if own.strip() == "NONREF" else own.strip(),
        kind=(found["kind"] or "").strip(),
        extra=extra,
        is_reversal=found["mark"] in ("RC", "RD") or (found["kind"] or "").strip() == "NRTI",  # a returned item
    )


def _mt_details(line: StatementLine, value: str) -> StatementLine:
    """Field :86: by the DK's ?-subfields where a bank uses them, else as plain text."""
    joined = value.replace("\n", "")
    parts = _SUBFIELD.split(joined)
    if len(parts) < 3:
        return replace(line, text=_clean(f"{line.text} {value}"))
    fields: dict[str, str] = {}
    for code, text in zip(parts[1::2], parts[2::2], strict=True):
        fields[code] = fields.get(code, "") + text
    purpose = "".join(fields.get(str(code), "") for code in (*range(20, 30), *range(60, 64)))
    sepa = _SEPA.split(purpose)
    tags = dict(zip(sepa[1::2], sepa[2::2], strict=True))
    end_to_end = tags.get("EREF", "").strip()
    return replace(
        line,
        text=_clean(tags.get("SVWZ") or purpose or fields.get("00", "")),
        end_to_end_id=line.end_to_end_id if end_to_end in ("", "NOTPROVIDED") else _clean(end_to_end),
        other_name=_clean(fields.get("32", "") + fields.get("33", ""), NAME_LENGTH),
        other_iban=_clean(tags.get("IBAN") or fields.get("31", ""), 34),
    )
