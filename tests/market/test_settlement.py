"""The worked examples of spec/settlement.md and spec/rulesets.md 2.1.4, and what must hold for every plan."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import calendars, ledger
from market.errors import BadInput, Conflict
from market.fees import JUDICIAL_CAP, Fees, banded_minor
from market.ledger import Cause, LedgerEntry, Posting, Unbalanced
from market.money import share_bp
from market.settlement import (
    PENALTIES_FIRST,
    Claim,
    Parties,
    Status,
    allocate_payment,
    closed_out,
    delay_interest_minor,
    forfeiture,
    forfeiture_applied,
    least_useful_price,
    move,
    plan_settlement,
    put_back_refund,
    recover,
    recovered,
    sold,
    true_up,
    waterfall,
)

SALE = Parties(1, 2, 3, 4, 5, "CNY")
ON = date(2026, 11, 3)


def test_4_1_cash_at_closing() -> None:
    base = share_bp(10_000_000_00, 1_850)
    removed = share_bp(200_000_00, 1_850)
    closing = true_up(
        base, removed_minor=removed, interim_gross_minor=120_000_00, servicing_bp=1_500, deposit_minor=185_000_00
    )
    assert (closing.base_minor, closing.removed_minor, closing.interim_minor) == (1_850_000_00, 37_000_00, 102_000_00)
    assert closing.cash_minor == 1_526_000_00


def test_4_3_put_back() -> None:
    assert put_back_refund(share_bp(50_000_00, 1_850), 1_200_00) == 8_050_00
    assert put_back_refund(100, 101) == 0


def test_4_4_waterfall_and_no_benefit() -> None:
    claims = (
        Claim(1, "costs", 24_000_00),
        Claim(2, "senior", 400_000_00),
        Claim(3, "junior", 120_000_00),
        Claim(4, "ordinary 1", 40_000_00),
        Claim(4, "ordinary 2", 60_000_00),
    )
    result = waterfall(600_000_00, claims)
    assert [one.paid_minor for one in result.paid] == [24_000_00, 400_000_00, 120_000_00, 22_400_00, 33_600_00]
    assert [one.short_minor for one in result.paid[3:]] == [17_600_00, 26_400_00]
    assert result.surplus_minor == 0
    assert least_useful_price(24_000_00, claims[1:], 3) == 424_000_00


def test_a_claim_without_its_demand_takes_no_part() -> None:
    late = Claim(1, "subordinate", 100, requires_demand=True)
    assert waterfall(500, (late,)).surplus_minor == 500
    assert waterfall(500, (Claim(1, "capped", 400, cap_minor=300),)).surplus_minor == 200


def test_4_5_payment_inside_an_account() -> None:
    owed = {"fees": 800_00, "interest": 3_150_00, "principal": 50_000_00}
    paid, left = allocate_payment(10_000_00, owed)
    assert (paid, left) == ({"fees": 800_00, "interest": 3_150_00, "principal": 6_050_00}, 0)
    assert owed["principal"] - paid["principal"] == 43_950_00
    assert delay_interest_minor(50_000_00, 200) == 1_750_00
    assert allocate_payment(10, {"penalties": 4, "fees": 3}, order=PENALTIES_FIRST)[1] == 3


def test_2_1_4_default() -> None:
    order = ("costs", "shortfall", "case_debts", "asset_debts")
    use = forfeiture(
        84_000_00, order=order, needs={"costs": 6_000_00, "shortfall": 50_000_00}, remainder_to="to_debtor_debt"
    )
    assert (use.used_for("costs"), use.used_for("shortfall"), use.remainder_minor) == (6_000_00, 50_000_00, 28_000_00)
    assert use.deficit_minor == 0
    short = forfeiture(
        84_000_00, order=order, needs={"costs": 6_000_00, "shortfall": 100_000_00}, remainder_to="return"
    )
    assert (short.remainder_minor, short.deficit_minor) == (0, 22_000_00)


def test_commission_cap_of_judicial_sales() -> None:
    assert banded_minor(12_000_000_00, JUDICIAL_CAP) == 380_000_00  # rulesets.md 2.1.1
    with pytest.raises(ValueError):
        Fees(premium_bp=-1)


def test_moves() -> None:
    assert move(Status.AWAITING_BALANCE, Status.PAID) is Status.PAID
    for one in (Status.CLOSED_OUT, Status.DEFAULTED):
        with pytest.raises(Conflict, match="sale_move"):
            move(one, Status.PAID)


# --- what must hold for every plan ----------------------------------------------------------------

amounts = st.integers(1, 10**15)


@given(
    hammer=amounts, premium=st.integers(0, 3000), commission=st.integers(0, 3000), deposit=st.integers(0, 10**15),
    balances=st.lists(st.integers(-5, 10**12), max_size=30),
)  # fmt: skip
def test_a_plan_adds_up(hammer: int, premium: int, commission: int, deposit: int, balances: list[int]) -> None:
    plan = plan_settlement(hammer, fees=Fees(premium, commission), deposit_minor=deposit, balances=balances)
    assert sum(plan.shares) == (hammer if balances else 0)
    assert min(plan.shares, default=0) >= 0
    assert plan.deposit_minor + plan.deposit_back_minor == deposit
    assert plan.balance_minor >= 0
    entries = sold(SALE, plan, ON)
    assert sum(ledger.by_account(entries).values()) == 0
    whole = closed_out(
        SALE, hammer_minor=hammer, commission_minor=plan.commission_minor, balance_minor=sum(balances), on=ON
    )
    assert sum(one.amount_minor for one in whole.postings) == 0


@given(price=amounts, costs=st.integers(0, 10**13), parts=st.lists(st.integers(0, 10**14), min_size=3, max_size=3))
def test_collateral_is_distributed_whole(price: int, costs: int, parts: list[int]) -> None:
    fees, interest, principal = parts
    found = recover(
        price, costs_minor=costs, commission_minor=price // 50, fees_minor=fees, interest_minor=interest,
        principal_minor=principal,
    )  # fmt: skip
    assert found.costs_minor + found.commission_minor + found.to_creditor_minor + found.surplus_minor == price
    assert found.to_creditor_minor + found.deficiency_minor == sum(parts)
    assert not (found.surplus_minor and found.deficiency_minor)
    entry = recovered(SALE, found, 7, sum(parts), ON)
    assert sum(one.amount_minor for one in entry.postings) == 0


@given(
    proceeds=st.integers(0, 10**12),
    claims=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 10**11)), max_size=12),
)
def test_a_waterfall_gives_away_all_and_no_more(proceeds: int, claims: list[tuple[int, int]]) -> None:
    asked = [Claim(rank, str(n), amount) for n, (rank, amount) in enumerate(claims)]
    result = waterfall(proceeds, asked)
    assert sum(one.paid_minor for one in result.paid) + result.surplus_minor == proceeds
    for one in result.paid:
        assert 0 <= one.paid_minor <= one.claim.amount_minor
        if one.short_minor:  # nothing for those behind
            assert all(other.paid_minor == 0 for other in result.paid if other.claim.rank > one.claim.rank)
            assert result.surplus_minor == 0


@given(
    deposit=amounts,
    costs=st.integers(0, 10**15),
    shortfall=st.integers(0, 10**15),
    to=st.sampled_from(["to_creditor", "return"]),
)
def test_a_forfeited_deposit_is_used_whole(deposit: int, costs: int, shortfall: int, to: str) -> None:
    use = forfeiture(
        deposit, order=("costs", "shortfall"), needs={"costs": costs, "shortfall": shortfall}, remainder_to=to
    )
    assert sum(amount for _, amount in use.used) + use.remainder_minor == deposit
    assert sum(one.amount_minor for one in forfeiture_applied(SALE, use, ON).postings) == 0


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=6))
def test_what_does_not_balance_cannot_be_built(amounts_minor: list[int]) -> None:
    account = ledger.own("CNY")
    lines = tuple(Posting(account, one) for one in amounts_minor)
    if 0 in amounts_minor:
        with pytest.raises(ValueError):
            LedgerEntry("k", ON, "CNY", Cause("test", 1), lines)
    elif sum(amounts_minor):
        with pytest.raises(Unbalanced):
            LedgerEntry("k", ON, "CNY", Cause("test", 1), lines)
    else:
        entry = LedgerEntry("k", ON, "CNY", Cause("test", 1), lines)
        back = ledger.reversal(entry, on=ON, cause=entry.cause)
        assert ledger.by_account([entry, back]) == {account.code: 0}


def test_an_entry_has_one_currency_and_whole_cents() -> None:
    with pytest.raises(ValueError):
        ledger.move("k", ON, Cause("t", 1), 5, debit=ledger.own("CNY"), credit=ledger.own("EUR"))
    with pytest.raises(ValueError):
        LedgerEntry("k", ON, "CNY", Cause("t", 1), (Posting(ledger.own("CNY"), True), Posting(ledger.own("CNY"), -1)))
    with pytest.raises(BadInput):
        ledger.move("k", ON, Cause("t", 1), 5, debit=ledger.own("XXX"), credit=ledger.own("XXX"))


# --- business days ----------------------------------------------------------------------------------


def test_china_works_on_make_up_days() -> None:
    assert calendars.is_business_day(date(2026, 2, 14), "CN")  # a Saturday, for the Spring Festival
    assert not calendars.is_business_day(date(2026, 2, 16), "CN")
    assert calendars.add_business_days(date(2026, 2, 13), 1, "CN") == date(2026, 2, 14)
    assert calendars.add_business_days(date(2026, 9, 30), 1, "CN") == date(2026, 10, 8)
    assert calendars.add_business_days(date(2026, 10, 1), 0, "CN") == date(2026, 10, 8)


def test_due_at_five_local_time_on_the_tenth_business_day() -> None:
    hammer = datetime(2026, 11, 20, 2, 3, 12, tzinfo=UTC)
    assert calendars.due_at(hammer, 10, "CN") == datetime(2026, 12, 4, 9, tzinfo=UTC)
    assert calendars.due_at(hammer, 0, "CN") == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert not calendars.is_business_day(date(2026, 12, 25), "ECB")
    assert not calendars.is_business_day(date(2026, 11, 26), "US")
    with pytest.raises(BadInput):
        calendars.zone("XX")


@given(st.dates(date(2025, 1, 1), date(2026, 6, 1)), st.integers(0, 30))
def test_counting_business_days_there_and_back(on: date, days: int) -> None:
    later = calendars.add_business_days(on, days, "CN")
    assert calendars.is_business_day(later, "CN")
    if days:
        assert calendars.business_days_between(on, later, "CN") == days
        assert calendars.business_days_between(later, on, "CN") == -days
