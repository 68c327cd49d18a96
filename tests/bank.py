"""A bank for tests: statements of one account as camt.053 or MT940, numbered, with balances that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from xml.sax.saxutils import escape

from market.money import amount_text

IBAN = "NL91ABNA0417164300"


@dataclass(frozen=True)
class Paid:
    """One movement: positive came in."""

    amount_minor: int
    text: str = ""
    name: str = ""
    iban: str = ""
    end_to_end_id: str = ""
    reference: str = ""
    is_reversal: bool = False  # marked by the bank: it takes another movement back, with its own sign


@dataclass
class Bank:
    """An account that goes on from statement to statement."""

    currency: str = "CNY"
    iban: str = IBAN
    balance_minor: int = 0
    number: int = 0
    on: date = field(default_factory=lambda: date(2026, 11, 2))
    moved: int = 0

    def camt053(self, *movements: Paid) -> bytes:
        """The next statement as camt.053.001.08."""
        opening, closing = self._next(movements)
        entries = "".join(
            f"<Ntry><Amt Ccy='{self.currency}'>{self._text(abs(one.amount_minor))}</Amt>"
            f"<CdtDbtInd>{'CRDT' if one.amount_minor > 0 else 'DBIT'}</CdtDbtInd>"
            f"{'<RvslInd>true</RvslInd>' if one.is_reversal else ''}<Sts><Cd>BOOK</Cd></Sts>"
            f"<BookgDt><Dt>{self.on}</Dt></BookgDt><ValDt><Dt>{self.on}</Dt></ValDt>"
            f"<AcctSvcrRef>{reference}</AcctSvcrRef><NtryDtls><TxDtls>"
            f"<Refs><EndToEndId>{escape(one.end_to_end_id) or 'NOTPROVIDED'}</EndToEndId></Refs>"
            f"<RltdPties><{side}><Pty><Nm>{escape(one.name)}</Nm></Pty></{side}>"
            f"<{side}Acct><Id><IBAN>{one.iban}</IBAN></Id></{side}Acct></RltdPties>"
            f"<RmtInf><Ustrd>{escape(one.text)}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
            for one in movements
            for side in ["Dbtr" if one.amount_minor > 0 else "Cdtr"]
            for reference in [one.reference or self._reference()]
        )
        return (
            "<?xml version='1.0' encoding='UTF-8'?><Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'>"
            f"<BkToCstmrStmt><GrpHdr><MsgId>M{self.number}</MsgId></GrpHdr><Stmt><Id>S{self.number}</Id>"
            f"<LglSeqNb>{self.number}</LglSeqNb><Acct><Id><IBAN>{self.iban}</IBAN></Id><Ccy>{self.currency}</Ccy></Acct>"
            f"{self._balance('OPBD', opening)}{self._balance('CLBD', closing)}{entries}"
            "</Stmt></BkToCstmrStmt></Document>"
        ).encode()

    def mt940(self, *movements: Paid) -> bytes:
        """The next statement as MT940 with the subfields of German banks."""
        opening, closing = self._next(movements)
        day = self.on.strftime("%y%m%d")

        def balance(minor: int) -> str:
            return f"{'C' if minor >= 0 else 'D'}{day}{self.currency}{self._comma(abs(minor))}"

        lines = [":20:STATEMENT", f":25:{self.iban}", f":28C:{self.number}/1", f":60F:{balance(opening)}"]
        for one in movements:
            mark = ("RD" if one.is_reversal else "C") if one.amount_minor > 0 else ("RC" if one.is_reversal else "D")
            reference = one.reference or self._reference()
            lines.append(f":61:{day}{day[2:]}{mark}{self._comma(abs(one.amount_minor))}NTRFNONREF//{reference}")
            purpose = (f"EREF+{one.end_to_end_id}" if one.end_to_end_id else "") + f"SVWZ+{one.text}"
            parts = [f"?{20 + n}{purpose[at : at + 27]}" for n, at in enumerate(range(0, len(purpose), 27))]
            lines.append(f":86:166?00TRANSFER{''.join(parts)}?31{one.iban}?32{one.name[:27]}")
        lines += [f":62F:{balance(closing)}", "-", ""]
        return "\r\n".join(lines).encode()

    def _next(self, movements: Sequence[Paid]) -> tuple[int, int]:
        self.number += 1
        opening = self.balance_minor
        self.balance_minor += sum(one.amount_minor for one in movements)
        return opening, self.balance_minor

    def _reference(self) -> str:
        self.moved += 1
        return f"B{self.moved:09}"

    def _text(self, minor: int) -> str:
        return amount_text(minor, self.currency)

    def _comma(self, minor: int) -> str:
        text = self._text(minor).replace(".", ",")
        return text if "," in text else text + ","

    def _balance(self, code: str, minor: int) -> str:
        amount = f"<Amt Ccy='{self.currency}'>{self._text(abs(minor))}</Amt>"
        return (
            f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>{amount}"
            f"<CdtDbtInd>{'CRDT' if minor >= 0 else 'DBIT'}</CdtDbtInd><Dt><Dt>{self.on}</Dt></Dt></Bal>"
        )
