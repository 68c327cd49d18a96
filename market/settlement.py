"""From an outcome to money: the plan of a settlement, its ledger entries, and the rules of spec/settlement.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from market import ledger
from market.errors import BadInput, Conflict, Fault
from market.fees import Fees
from market.ledger import Cause, LedgerEntry, Posting
from market.money import allocate, share_bp

# --- the life of a sale -----------------------------------------------------------------------------


class Status(StrEnum):
    """Where a sale is between the hammer and the close-out."""

    AWAITING_BALANCE = "awaiting_balance"
    PAID = "paid"
    CLOSED_OUT = "closed_out"
    DEFAULTED = "defaulted"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.AWAITING_BALANCE: frozenset({Status.PAID, Status.DEFAULTED}),  # in full and in time; or not
    Status.PAID: frozenset({Status.CLOSED_OUT, Status.AWAITING_BALANCE}),  # back: the bank took the payment back
    Status.CLOSED_OUT: frozenset(),
    Status.DEFAULTED: frozenset(),
}


def move(status: Status, to: Status) -> Status:
    """Return `to`, if a sale may go there. Raises: Conflict `sale_move`."""
    if to not in MOVES[status]:
        raise Conflict("sale_move", status=status.value, to=to.value)
    return to


REFUSAL_LEAST = 10  # characters that name the letter in which a buyer refused


def check_default(*, at: datetime, until: datetime, is_declared: bool, reason: str) -> None:
    """May a sale be defaulted at `at`? Before `until`, the end of the time to pay, only on a refusal in writing.

    Args:
        is_declared: by a person; else by rule, when the time has run out.
        reason: before `until`, names the buyer's letter.
    Raises: Conflict `not_due_yet`; BadInput `refusal_in_writing`.
    """
    if at >= until:
        return
    if not is_declared:
        raise Conflict("not_due_yet", until=until)
    if len(reason.strip()) < REFUSAL_LEAST:
        expected = f"the buyer's letter, in at least {REFUSAL_LEAST} characters"
        raise BadInput([Fault("refusal_in_writing", "reason", reason[:80], expected)])


# --- the plan ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows one hammer, in minor units. It adds up: see `balance_minor` and `proceeds_minor`."""

    hammer_minor: int
    premium_minor: int
    commission_minor: int
    deposit_minor: int  # of the winner's deposit, what counts toward the price
    deposit_back_minor: int  # what is left of it, when it was more than the price and the premium
    shares: tuple[int, ...]  # the hammer shared over the overdue accounts, in their order

    @property
    def balance_minor(self) -> int:
        """What the buyer still has to pay."""
        return self.hammer_minor + self.premium_minor - self.deposit_minor

    @property
    def proceeds_minor(self) -> int:
        """What the creditor gets (of collateral: before the debtor's account is looked at)."""
        return self.hammer_minor - self.commission_minor


def plan_settlement(hammer_minor: int, *, fees: Fees, deposit_minor: int, balances: Sequence[int]) -> Plan:
    """Plan the settlement of one sold lot.

    Args:
        deposit_minor: the winner's deposit, as held in the ledger.
        balances: of the overdue accounts sold, in minor units; none, when the lot is an item of collateral.
    Returns: a plan whose shares sum to the hammer: by balance, to the last cent; equal, when no balance is positive.
    """
    if hammer_minor <= 0 or deposit_minor < 0:
        raise ValueError("a sale has a hammer and a deposit that is not negative")
    premium_minor = fees.premium_minor(hammer_minor)
    used_minor = min(deposit_minor, hammer_minor + premium_minor)
    weights = [max(one, 0) for one in balances]
    if weights and not any(weights):
        weights = [1] * len(weights)
    return Plan(
        hammer_minor=hammer_minor,
        premium_minor=premium_minor,
        commission_minor=fees.commission_minor(hammer_minor),
        deposit_minor=used_minor,
        deposit_back_minor=deposit_minor - used_minor,
        shares=tuple(allocate(hammer_minor, weights)) if weights else (),
    )


# --- its ledger entries -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parties:
    """Who and what a sale is about: ids, and the currency of all its money."""

    sale_id: int
    auction_id: int
    lot_id: int
    buyer_id: int
    creditor_id: int
    currency: str

    @property
    def cause(self) -> Cause:
        return Cause("sale", self.sale_id)


def released(auction_id: int, party_id: int, amount_minor: int, currency: str, on: date) -> LedgerEntry:
    """A loser's deposit becomes payable to him; once for each auction and party."""
    return ledger.move(
        f"release:{auction_id}:{party_id}", on, Cause("auction", auction_id), amount_minor,
        debit=ledger.deposit(auction_id, party_id, currency), credit=ledger.payable(party_id, currency),
    )  # fmt: skip


def sold(sale: Parties, plan: Plan, on: date) -> list[LedgerEntry]:
    """The buyer owes price and premium; his deposit counts toward them; what is too much of it goes back."""
    held = ledger.deposit(sale.auction_id, sale.buyer_id, sale.currency)
    owed = ledger.buyer(sale.sale_id, sale.buyer_id, sale.currency)
    due_minor = plan.hammer_minor + plan.premium_minor
    entries = [
        LedgerEntry(
            sold_key(sale.sale_id), on, sale.currency, sale.cause,
            ledger.postings(
                (owed, due_minor), (ledger.escrow(sale.sale_id, sale.currency), -due_minor),
                (held, plan.deposit_minor), (owed, -plan.deposit_minor),
            ),
        )
    ]  # fmt: skip
    if plan.deposit_back_minor:
        entries.append(
            ledger.move(
                f"deposit_back:{sale.sale_id}", on, sale.cause, plan.deposit_back_minor,
                debit=held, credit=ledger.payable(sale.buyer_id, sale.currency),
            )
        )  # fmt: skip
    return entries


def deposit_taken_back(sale: Parties, amount_minor: int, line_id: int, on: date) -> LedgerEntry:
    """The bank took the buyer's deposit back: it no longer counts toward the price; a default reverses this, too."""
    return ledger.move(
        f"deposit_taken_back:{sale.sale_id}:{line_id}", on, sale.cause, amount_minor,
        debit=ledger.buyer(sale.sale_id, sale.buyer_id, sale.currency),
        credit=ledger.deposit(sale.auction_id, sale.buyer_id, sale.currency),
    )  # fmt: skip


def sold_key(sale_id: int) -> str:
    """The key of the entry that a default reverses."""
    return f"sold:{sale_id}"


def claims_key(sale_id: int) -> str:
    """The key of the entry that puts the accounts under contract; a default reverses it, too."""
    return f"claims:{sale_id}"


def claims_opened(sale: Parties, balance_minor: int, on: date) -> LedgerEntry:
    """The overdue accounts come under contract; storage spreads the first posting over them."""
    accounts = ledger.claims(sale.creditor_id, sale.currency)
    owner = ledger.claims_owner(sale.creditor_id, sale.currency)
    return ledger.move(
        claims_key(sale.sale_id), on, sale.cause, balance_minor,
        debit=accounts, credit=owner,
    )  # fmt: skip


def premium_earned(sale: Parties, premium_minor: int, on: date) -> list[LedgerEntry]:
    """The buyer's premium becomes the platform's own, when the sale is complete."""
    if not premium_minor:
        return []
    return [
        ledger.move(
            f"premium:{sale.sale_id}", on, sale.cause, premium_minor,
            debit=ledger.escrow(sale.sale_id, sale.currency), credit=ledger.premium(sale.currency),
        )
    ]  # fmt: skip


def closed_out(sale: Parties, *, hammer_minor: int, commission_minor: int, balance_minor: int, on: date) -> LedgerEntry:
    """The price leaves escrow for the creditor, and the accounts leave his books.

    Storage spreads the postings on `escrow` (by share of the price) and on `claims` (by balance) over the accounts, so
    that each of them ends at exactly zero and each cent of the price names its account.
    """
    return LedgerEntry(
        f"complete:{sale.sale_id}", on, sale.currency, sale.cause,
        ledger.postings(
            (ledger.escrow(sale.sale_id, sale.currency), hammer_minor),
            (ledger.payable(sale.creditor_id, sale.currency), commission_minor - hammer_minor),
            (ledger.commission(sale.currency), -commission_minor),
            (ledger.claims(sale.creditor_id, sale.currency), -balance_minor),
            (ledger.claims_owner(sale.creditor_id, sale.currency), balance_minor),
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recovery:
    """What collateral brought to the overdue account behind it, in minor units; all parts sum to the price."""

    costs_minor: int
    commission_minor: int
    fees_minor: int
    interest_minor: int
    principal_minor: int
    surplus_minor: int  # to the debtor
    deficiency_minor: int  # stays owed

    @property
    def to_creditor_minor(self) -> int:
        """What the account is paid down by."""
        return self.fees_minor + self.interest_minor + self.principal_minor


def recover(
    price_minor: int,
    *,
    costs_minor: int,
    commission_minor: int,
    fees_minor: int,
    interest_minor: int,
    principal_minor: int,
) -> Recovery:
    """Distribute the price of collateral: costs and commission, then the account by fees, interest, principal.

    The surplus is the debtor's; the deficiency stays a debt (spec/settlement.md 4.4, 4.5).
    """
    claims = (
        Claim(1, "costs", costs_minor),
        Claim(2, "commission", commission_minor),
        Claim(3, "fees", fees_minor),
        Claim(4, "interest", interest_minor),
        Claim(5, "principal", principal_minor),
    )
    result = waterfall(price_minor, claims)
    paid = {one.claim.name: one.paid_minor for one in result.paid}
    return Recovery(
        costs_minor=paid["costs"],
        commission_minor=paid["commission"],
        fees_minor=paid["fees"],
        interest_minor=paid["interest"],
        principal_minor=paid["principal"],
        surplus_minor=result.surplus_minor,
        deficiency_minor=sum(one.short_minor for one in result.paid if one.claim.rank >= 3),
    )


def recovered(sale: Parties, recovery: Recovery, loan_account_id: int, balance_minor: int, on: date) -> LedgerEntry:
    """The price of collateral leaves escrow by the waterfall, and the account behind it leaves the contract."""
    claims, owner = (
        ledger.claims(sale.creditor_id, sale.currency),
        ledger.claims_owner(sale.creditor_id, sale.currency),
    )
    price_minor = recovery.costs_minor + recovery.commission_minor + recovery.to_creditor_minor + recovery.surplus_minor
    lines = [
        Posting(ledger.escrow(sale.sale_id, sale.currency), price_minor, loan_account_id),
        *ledger.postings(
            (ledger.sale_costs(sale.currency), -recovery.costs_minor),
            (ledger.commission(sale.currency), -recovery.commission_minor),
            (ledger.payable(sale.creditor_id, sale.currency), -recovery.to_creditor_minor),
        ),
    ]
    if recovery.surplus_minor:
        debtor = ledger.surplus(loan_account_id, sale.currency)
        lines.append(Posting(debtor, -recovery.surplus_minor, loan_account_id))
    if balance_minor:
        lines += [Posting(claims, -balance_minor, loan_account_id), Posting(owner, balance_minor)]
    return LedgerEntry(f"complete:{sale.sale_id}", on, sale.currency, sale.cause, tuple(lines))


def deposit_forfeited(sale: Parties, deposit_minor: int, on: date) -> LedgerEntry:
    """The buyer did not pay: his deposit is kept apart until the ruleset's order can be applied to it."""
    return ledger.move(
        f"forfeit:{sale.sale_id}", on, sale.cause, deposit_minor,
        debit=ledger.deposit(sale.auction_id, sale.buyer_id, sale.currency),
        credit=ledger.forfeited(sale.sale_id, sale.currency),
    )  # fmt: skip


def part_payment_back(sale: Parties, paid_minor: int, on: date) -> LedgerEntry:
    """What a defaulted buyer had paid of the balance is not the deposit: it goes back to him."""
    return ledger.move(
        f"part_payment_back:{sale.sale_id}", on, sale.cause, paid_minor,
        debit=ledger.buyer(sale.sale_id, sale.buyer_id, sale.currency),
        credit=ledger.payable(sale.buyer_id, sale.currency),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Forfeiture:
    """How a deposit that is not returned was used: in the ruleset's order, then what became of the rest."""

    used: tuple[tuple[str, int], ...]  # (costs | shortfall | case_debts | asset_debts, minor units), in order
    remainder_minor: int
    remainder_to: str  # to_debtor_debt | to_creditor | return
    deficit_minor: int  # costs and shortfall beyond the deposit

    def used_for(self, what: str) -> int:
        return sum(amount for name, amount in self.used if name == what)


def forfeiture(deposit_minor: int, *, order: Sequence[str], needs: Mapping[str, int], remainder_to: str) -> Forfeiture:
    """Use a forfeited deposit in the ruleset's order (spec/rulesets.md 2.1.4).

    Args:
        order: from the ruleset, e.g. costs, shortfall, case_debts, asset_debts.
        needs: what is known to be owed of each, in minor units; what is not named needs nothing, so debts of the case
            whose size nobody stated are met by the remainder.
        remainder_to: the ruleset's `forfeit_remainder`.
    """
    left, used = deposit_minor, []
    for what in order:
        amount = min(left, max(needs.get(what, 0), 0))
        used.append((what, amount))
        left -= amount
    short = sum(max(needs.get(what, 0), 0) for what in order) - sum(amount for _, amount in used)
    return Forfeiture(tuple(used), left, remainder_to, short)


def forfeiture_applied(sale: Parties, use: Forfeiture, on: date) -> LedgerEntry:
    """The forfeited deposit is used: costs to the platform, the rest to the creditor or back to the buyer."""
    costs = use.used_for("costs")
    to_buyer = use.remainder_minor if use.remainder_to == "return" else 0
    total = sum(amount for _, amount in use.used) + use.remainder_minor
    return LedgerEntry(
        f"forfeiture:{sale.sale_id}", on, sale.currency, sale.cause,
        ledger.postings(
            (ledger.forfeited(sale.sale_id, sale.currency), total),
            (ledger.sale_costs(sale.currency), -costs),
            (ledger.payable(sale.creditor_id, sale.currency), costs + to_buyer - total),
            (ledger.payable(sale.buyer_id, sale.currency), -to_buyer),
        ),
    )  # fmt: skip


# --- the rules of spec/settlement.md ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Closing:
    """Cash at the closing of a portfolio sale, and how it comes about (4.1)."""

    base_minor: int
    removed_minor: int
    interim_minor: int  # net of servicing; the buyer's
    deposit_minor: int

    @property
    def cash_minor(self) -> int:
        """What the buyer still pays; negative: what he gets."""
        return self.base_minor - self.removed_minor - self.interim_minor - self.deposit_minor


def true_up(
    base_minor: int, *, removed_minor: int, interim_gross_minor: int, servicing_bp: int, deposit_minor: int
) -> Closing:
    """Correct the price for what happened between cut-off and closing.

    Args:
        removed_minor: the allocated price of accounts repaid, recalled or not eligible since the cut-off.
        interim_gross_minor: receipts on the sold accounts since the cut-off; the seller keeps `servicing_bp` of them.
    """
    net_minor = interim_gross_minor - share_bp(interim_gross_minor, servicing_bp)
    return Closing(base_minor, removed_minor, net_minor, deposit_minor)


def put_back_refund(allocated_minor: int, kept_minor: int) -> int:
    """What the seller pays for an account that comes back: its allocated price less what the buyer kept (4.3)."""
    return max(0, allocated_minor - kept_minor)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim on proceeds; claims of equal rank are met pro rata."""

    rank: int  # 1 goes first
    name: str
    amount_minor: int
    cap_minor: int | None = None  # the registered maximum, where there is one
    requires_demand: bool = False  # takes part only if a demand came before distribution (UCC 9-615)
    demanded: bool = False

    @property
    def asked_minor(self) -> int:
        """What takes part in the distribution."""
        if self.requires_demand and not self.demanded:
            return 0
        return self.amount_minor if self.cap_minor is None else min(self.amount_minor, self.cap_minor)


@dataclass(frozen=True, slots=True)
class Paid:
    """What one claim got."""

    claim: Claim
    paid_minor: int

    @property
    def short_minor(self) -> int:
        """What stays owed."""
        return self.claim.amount_minor - self.paid_minor


@dataclass(frozen=True, slots=True)
class Distribution:
    """The proceeds, all of them: what each claim got, by rank, and the surplus."""

    paid: tuple[Paid, ...]
    surplus_minor: int


def waterfall(proceeds_minor: int, claims: Sequence[Claim]) -> Distribution:
    """Distribute proceeds by rank; within a rank pro rata, to the last cent (4.4)."""
    if proceeds_minor < 0 or any(one.amount_minor < 0 for one in claims):
        raise ValueError("proceeds and claims are not negative")
    left, paid = proceeds_minor, []
    for rank in sorted({one.rank for one in claims}):
        group = [one for one in claims if one.rank == rank]
        asked = [one.asked_minor for one in group]
        whole = min(left, sum(asked))
        shares = allocate(whole, asked) if any(asked) else [0] * len(group)
        paid += [Paid(one, share) for one, share in zip(group, shares, strict=True)]
        left -= whole
    return Distribution(tuple(paid), left)


def least_useful_price(costs_minor: int, claims: Sequence[Claim], rank: int) -> int:
    """A sale asked for by the claim of `rank` is useless unless the price exceeds this (no-benefit check)."""
    return costs_minor + sum(one.asked_minor for one in claims if one.rank < rank)


# Payment allocation inside an account (4.5); which one applies is a matter of law and contract.
COSTS_FIRST = ("fees", "interest", "principal")  # Civil Code of China, art. 561
PENALTIES_FIRST = ("penalties", "fees", "interest", "principal")  # Fineract's default


def allocate_payment(
    amount_minor: int, owed: Mapping[str, int], *, order: Sequence[str] = COSTS_FIRST
) -> tuple[dict[str, int], int]:
    """Pay an account down in `order`; return what went to each part, and what was left over."""
    left, paid = amount_minor, {}
    for part in order:
        paid[part] = min(left, max(owed.get(part, 0), 0))
        left -= paid[part]
    return paid, left


def delay_interest_minor(owed_minor: int, days: int) -> int:
    """Doubled interest for late performance of a judgment: 0.0175 % a day of what is owed, rounded half up."""
    return (owed_minor * days * 175 + 500_000) // 1_000_000
