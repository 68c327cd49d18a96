"""Double entry: ledger accounts, postings, and entries that balance or cannot be built.

The chart of accounts (a code is `kind of account:whose:currency`; debit is positive, credit negative):

    bank:BANK ACCOUNT:CUR          asset       money at the bank; equals the statements
    suspense:BANK ACCOUNT:CUR      liability   came in or went out, not matched yet
    deposit:AUCTION:PARTY:CUR      liability   a bidder's deposit, held for one auction
    buyer:SALE:CUR                 asset       what the buyer still owes of price and premium; after the close-out: the
                                               claim against him, when the bank took his payment back
    receivable:PARTY:CUR           asset       owed by a party: the bank took back money that was used or sent on since
    escrow:SALE:CUR                liability   price and premium between the hammer and the close-out
    forfeited:SALE:CUR             liability   a deposit that is not returned, until the ruleset's order is applied
    payable:PARTY:CUR              liability   owed to a party until the bank has sent it
    surplus:LOAN ACCOUNT:CUR       liability   owed to a debtor out of his collateral
    returns:CUR                    liability   to go back to a sender whom we do not know
    premium:CUR, commission:CUR    income      the platform's own
    sale_costs:CUR                 income      costs of a sale, taken back from a forfeited deposit or the proceeds
    own:CUR                        equity      the platform's own money: what stood at the bank before the first
                                               statement, and movements that are no business of the market
    claims:CREDITOR:CUR            asset       overdue accounts under a contract of sale, one posting for each account
    claims_owner:CREDITOR:CUR      liability   whose they are; the other side of `claims`

`claims` are opened when an auction is settled and end at exactly zero when the accounts are closed out,
or when the buyer defaults; the other accounts are real money, so that all of them together are what stands at the bank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from hashlib import sha256

from market.errors import Conflict
from market.money import decimals


class Kind(StrEnum):
    """What a ledger account is; its usual sign follows."""

    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    EQUITY = "equity"


# A deposit cannot be released twice, nor a payable paid twice: these never become a debit (promises 10, 12).
NEVER_DEBIT = frozenset({"deposit", "escrow", "forfeited", "payable", "surplus", "returns"})


@dataclass(frozen=True, slots=True)
class LedgerAccount:
    """A line of our books."""

    code: str
    kind: Kind
    currency: str
    party_id: int | None = None

    @property
    def never_debit(self) -> bool:
        """May its balance never rise above zero (credit is negative)?"""
        return self.code.partition(":")[0] in NEVER_DEBIT


def bank(bank_account_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"bank:{bank_account_id}:{currency}", Kind.ASSET, currency)


def suspense(bank_account_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"suspense:{bank_account_id}:{currency}", Kind.LIABILITY, currency)


def deposit(auction_id: int, party_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"deposit:{auction_id}:{party_id}:{currency}", Kind.LIABILITY, currency, party_id)


def buyer(sale_id: int, party_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"buyer:{sale_id}:{currency}", Kind.ASSET, currency, party_id)


def receivable(party_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"receivable:{party_id}:{currency}", Kind.ASSET, currency, party_id)


def escrow(sale_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"escrow:{sale_id}:{currency}", Kind.LIABILITY, currency)


def forfeited(sale_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"forfeited:{sale_id}:{currency}", Kind.LIABILITY, currency)


def payable(party_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"payable:{party_id}:{currency}", Kind.LIABILITY, currency, party_id)


def surplus(loan_account_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"surplus:{loan_account_id}:{currency}", Kind.LIABILITY, currency)


def returns(currency: str) -> LedgerAccount:
    return LedgerAccount(f"returns:{currency}", Kind.LIABILITY, currency)


def premium(currency: str) -> LedgerAccount:
    return LedgerAccount(f"premium:{currency}", Kind.INCOME, currency)


def commission(currency: str) -> LedgerAccount:
    return LedgerAccount(f"commission:{currency}", Kind.INCOME, currency)


def sale_costs(currency: str) -> LedgerAccount:
    return LedgerAccount(f"sale_costs:{currency}", Kind.INCOME, currency)


def own(currency: str) -> LedgerAccount:
    return LedgerAccount(f"own:{currency}", Kind.EQUITY, currency)


def claims(creditor_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"claims:{creditor_id}:{currency}", Kind.ASSET, currency, creditor_id)


def claims_owner(creditor_id: int, currency: str) -> LedgerAccount:
    return LedgerAccount(f"claims_owner:{creditor_id}:{currency}", Kind.LIABILITY, currency, creditor_id)


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of an entry: debit positive, credit negative, minor units, never zero."""

    account: LedgerAccount
    amount_minor: int
    loan_account_id: int | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an entry stands: a statement line, an auction, a sale, a bank account; and its id."""

    kind: str
    id: int


class Unbalanced(Exception):
    """An entry whose postings do not sum to zero: always our bug, never a person's doing."""

    def __init__(self, key: str, difference_minor: int) -> None:
        super().__init__(f"{key}: off by {difference_minor}")
        self.key = key
        self.difference_minor = difference_minor


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A balanced set of postings in one currency; one that does not balance cannot be built."""

    key: str  # the same key again: same content is a no-op, other content an error; never expires
    on: date
    currency: str  # ISO 4217
    cause: Cause
    postings: tuple[Posting, ...]
    text: str = ""

    def __post_init__(self) -> None:
        decimals(self.currency)
        if not self.key or not self.postings:
            raise ValueError(f"an entry needs a key and postings: {self.key!r}")
        for one in self.postings:
            if type(one.amount_minor) is not int or one.amount_minor == 0:
                raise ValueError(f"{self.key}: {one.amount_minor!r} is not an amount to post")
            if one.account.currency != self.currency:
                raise ValueError(f"{self.key}: {one.account.code} in an entry of {self.currency}")
        if difference_minor := sum(one.amount_minor for one in self.postings):
            raise Unbalanced(self.key, difference_minor)

    def content_hash(self) -> str:
        """SHA-256 of what the entry says; the order of postings is part of it."""
        lines = [f"{self.on}|{self.currency}|{self.cause.kind}|{self.cause.id}|{self.text}"]
        lines += [f"{one.account.code}|{one.amount_minor}|{one.loan_account_id or ''}" for one in self.postings]
        return sha256("\n".join(lines).encode()).hexdigest()


def postings(*amounts: tuple[LedgerAccount, int]) -> tuple[Posting, ...]:
    """Postings of these amounts, without those that are zero."""
    return tuple(Posting(account, amount_minor) for account, amount_minor in amounts if amount_minor)


def move(
    key: str, on: date, cause: Cause, amount_minor: int, *, debit: LedgerAccount, credit: LedgerAccount, text: str = ""
) -> LedgerEntry:
    """An entry of two postings: `amount_minor` to the debit of one account and the credit of another."""
    both = (Posting(debit, amount_minor), Posting(credit, -amount_minor))
    return LedgerEntry(key, on, debit.currency, cause, both, text)


def reversal_key(key: str) -> str:
    """The key of the one reversal that an entry may have; a reversal has none."""
    if key.startswith("reversal:"):
        raise Conflict("reversal_of_reversal", key=key)
    return f"reversal:{key}"


def reversal(entry: LedgerEntry, *, on: date, cause: Cause, text: str = "") -> LedgerEntry:
    """The entry that answers `entry`: the same postings with the other sign."""
    other = tuple(Posting(one.account, -one.amount_minor, one.loan_account_id) for one in entry.postings)
    return LedgerEntry(reversal_key(entry.key), on, entry.currency, cause, other, text)


def by_account(entries: Iterable[LedgerEntry]) -> dict[str, int]:
    """The sum of all postings of each ledger account, by code: what a trial balance shows."""
    sums: dict[str, int] = {}
    for entry in entries:
        for one in entry.postings:
            sums[one.account.code] = sums.get(one.account.code, 0) + one.amount_minor
    return sums
