"""After the close: deposits back, the sale, closing out, default. Each step in one transaction, once.

Everybody who moves a lot's money takes the lot's row first, so that settling, completing and defaulting wait for each
other; then the payments due in the order of ids, then the sale. A bank line takes no lot, only payments due and, after
them, pay-outs and a sale, so that reading a statement never waits for bids.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, func, insert, update
from sqlalchemy import select as select_rows
from sqlmodel import Session, col, select

from auctions.journal import private_parts
from auctions.messages import Admit, Bar
from auctions.rulesets import Default, Ruleset, read_ruleset
from market import accounts, calendars, ledger, lots
from market import settlement as rules
from market.errors import Conflict, NotFound
from market.fees import Fees
from market.reconciliation import IN, OUT, REFERENCE_SPACE, make_reference, references_in
from market.settlement import Parties, Plan, Status
from storage import ledger as books
from storage import notices, outbox
from storage.accounts import replace_later
from storage.parties import note
from storage.tables import (
    Auction,
    BankAccount,
    Collateral,
    Entry,
    LedgerAccount,
    LineShare,
    LoanAccount,
    Lot,
    Outbox,
    Participation,
    Party,
    PaymentDue,
    Payout,
    PortfolioAccount,
    Posting,
    Sale,
    SaleAccount,
    SaleStep,
    StatementLine,
)

GRACE_DAYS = 2  # business days after the due date in which a payment may still appear on a statement
RUNNING = ("upcoming", "open", "paused")  # phases of an auction in which its journal still takes bidders
SALES_AT_ONCE = 20  # defaults in one transaction of the beat


# --- deposits ---------------------------------------------------------------------------------------


def ask_deposit(
    session: Session,
    *,
    auction_id: int,
    party_id: int,
    amount_minor: int,
    currency: str,
    due_at: datetime,
    at: datetime,
) -> PaymentDue:
    """Expect a deposit from a party for one auction, under a reference of its own; asked again, the first one stands.

    When it has arrived in full, it is held for that auction and the party is admitted through the journal.
    """
    first = session.exec(
        select(PaymentDue).where(
            PaymentDue.auction_id == auction_id, PaymentDue.party_id == party_id, PaymentDue.kind == "deposit"
        )
    ).first()
    if first is not None:
        return first
    if amount_minor <= 0:
        raise ValueError("a deposit is more than nothing")
    return _expect(
        session, "deposit", auction_id=auction_id, party_id=party_id, sale_id=None, amount_minor=amount_minor,
        currency=currency, due_at=due_at, at=at,
    )  # fmt: skip


def _expect(
    session: Session, kind: str, *, auction_id: int, party_id: int, sale_id: int | None, amount_minor: int,
    currency: str, due_at: datetime, at: datetime,
) -> PaymentDue:  # fmt: skip
    due = PaymentDue(
        reference=_new_reference(session, IN), kind=kind, party_id=party_id, auction_id=auction_id, sale_id=sale_id,
        amount_minor=amount_minor, currency=currency, due_at=due_at, created_at=at,
    )  # fmt: skip
    session.add(due)
    session.flush()
    return due


def _new_reference(session: Session, prefix: str) -> str:
    """Drawn at random, so that nobody can count the others; one in 850 thousand million is hardly ever taken twice."""
    column = col(PaymentDue.reference) if prefix == IN else col(Payout.reference)
    while True:
        reference = make_reference(prefix, secrets.randbelow(REFERENCE_SPACE))
        if session.exec(select(func.count()).where(column == reference)).one() == 0:
            return reference


def deposit_arrived(session: Session, due: PaymentDue, *, at: datetime) -> None:
    """A deposit is there in full: leave its admission for the auction's sequencer."""
    participation = _participation(session, due.auction_id, due.party_id)
    if participation is None:
        return
    undone = (
        select(func.count())
        .select_from(LineShare)
        .where(LineShare.payment_due_id == due.id, col(LineShare.undone_at).is_not(None))
    )
    turn = f"-{count}" if (count := session.exec(undone).one()) else ""  # the bank took the first one back
    command = Admit(
        f"deposit-{due.id}{turn}", due.party_id, participation.limit_minor, participation.priority_rank, by=0
    )
    arguments = {"auction_id": due.auction_id, "command": json.loads(command.text())}
    outbox.put(session, "submit_command", f"{_admit_key(due)}{turn}", arguments, at=at)
    facts = {"amount_minor": due.amount_minor, "reference": due.reference}
    _tell(session, "deposit_received", due.id, _lot_of(session, due.auction_id), due.party_id, facts, at=at)


def _admit_key(due: PaymentDue) -> str:
    return f"admit:{due.auction_id}:{due.party_id}"


def held_deposits(session: Session, auction_id: int) -> dict[int, int]:
    """Deposits that the ledger holds for an auction, by party, in minor units; none that is zero."""
    lines = books.trial_balance(session, prefix=f"deposit:{auction_id}:")
    return {line.party_id: -line.balance_minor for line in lines if line.party_id and line.balance_minor}


def make_payout(
    session: Session, *, key: str, kind: str, account: ledger.LedgerAccount, amount_minor: int, at: datetime,
    party_id: int | None = None, auction_id: int | None = None, name: str = "", iban: str = "",
    statement_line_id: int | None = None,
) -> None:  # fmt: skip
    """Owe somebody a payment that clears `account`, once per key; the bank's line that sends it names its reference.

    Without a payee and his account (a debtor's surplus) it waits until an operator names them (`name_payee`).
    """
    if session.exec(select(Payout.id).where(Payout.key == key)).first() is not None:
        return
    session.add(
        Payout(
            key=key, reference=_new_reference(session, OUT), kind=kind, account_code=account.code, party_id=party_id,
            auction_id=auction_id, currency=account.currency, amount_minor=amount_minor, name=name, iban=iban,
            statement_line_id=statement_line_id, status="due" if name and iban else "needs_payee", created_at=at,
        )
    )  # fmt: skip


def name_payee(
    session: Session, payout_id: int, *, name: str, iban: str, reason: str, person_id: int, at: datetime
) -> None:
    """Say who gets a payment and where, and from what that is known; from then on it is due.

    Raises: NotFound; Conflict `payee_known`.
    """
    payout = session.exec(select(Payout).where(Payout.id == payout_id).with_for_update()).first()
    if payout is None:
        raise NotFound("payout", id=payout_id)
    if payout.status != "needs_payee":
        raise Conflict("payee_known", reference=payout.reference)
    payout.name, payout.iban, payout.status = name, iban, "due"
    session.add(payout)
    facts = {"name": name, "iban": iban, "reason": reason}
    note(session, person_id, "payout.payee", "payout", payout_id, facts, at=at)


def refund(session: Session, *, key: str, due: PaymentDue, amount_minor: int, at: datetime) -> None:
    """Owe a party its money back, to the account that it was paid from."""
    party = session.get_one(Party, due.party_id)
    paid_from = session.exec(
        select(StatementLine.other_iban, StatementLine.other_name)
        .join(LineShare, col(LineShare.line_id) == StatementLine.id)
        .where(LineShare.payment_due_id == due.id, col(LineShare.undone_at).is_(None), StatementLine.other_iban != "")
        .order_by(col(StatementLine.id).desc())
    ).first()
    iban, name = paid_from or (party.iban, party.name)
    make_payout(
        session, key=key, kind="refund", account=ledger.payable(due.party_id, due.currency), amount_minor=amount_minor,
        party_id=due.party_id, auction_id=due.auction_id, name=name or party.name, iban=iban, at=at,
    )  # fmt: skip


# --- settle -----------------------------------------------------------------------------------------


def settle(session: Session, auction_id: int, *, at: datetime) -> int | None:
    """Settle a closed or withdrawn auction: losers' deposits go back; if it was sold, the sale begins. Return its id.

    Unsold or withdrawn, the lot and its accounts are free again.

    Asked again, it finds its work done. Raises: NotFound; Conflict `auction_not_closed`, `accounts_not_listed`.
    """
    auction = session.get(Auction, auction_id)
    if auction is None:
        raise NotFound("auction", id=auction_id)
    lot = _lock_lot(session, auction.lot_id)
    session.refresh(auction)
    if auction.phase not in ("closed", "withdrawn"):
        raise Conflict("auction_not_closed", auction=auction_id, phase=auction.phase)
    first = session.exec(select(Sale).where(Sale.auction_id == auction_id)).first()
    if first is not None:
        return first.id
    dues = _lock_dues(session, auction_id)
    for due in dues:
        if due.status == "open" and due.kind == "deposit":  # a claim stays: its money is owed whoever won
            due.status = "cancelled"  # what still comes is recognised by its reference and goes back
            session.add(due)
    outcome = closing(session, auction_id) if auction.outcome == "sold" else None
    _release(session, auction_id, dues, but=outcome.buyer_id if outcome else None, at=at)
    _tell_others(session, auction, lot, dues, but=outcome.buyer_id if outcome else None, at=at)
    if outcome is not None:
        return _begin_sale(session, auction, lot, outcome, at=at)
    if auction.outcome != "withdrawn":
        _tell(session, "lot_unsold", auction_id, lot, lot.creditor_id, {"outcome": auction.outcome}, at=at)
    if lot.status == lots.Status.PUBLISHED and auction_id == _newest_auction(session, lot.id):
        if auction.outcome == "withdrawn":
            _withdraw(session, auction_id, lot, at=at)
        else:
            lot.status = lots.move(lot.status, lots.Status.UNSOLD).value
        session.add(lot)
        _move_accounts(session, accounts_of(lot), accounts.Status.LISTED, accounts.Status.OVERDUE)
        replace_later(session, lot.creditor_id, accounts_of(lot), f"auction:{auction_id}", at=at)
    return None


def _withdraw(session: Session, auction_id: int, lot: Lot, *, at: datetime) -> None:
    """Take a lot off sale for good: who did it and why stands in the journal."""
    entry, event = _event(session, auction_id, "withdrawn", of_public=True)
    lot.status, lot.decision = lots.move(lot.status, lots.Status.WITHDRAWN).value, event["reason"]
    by = private_parts(entry.private)[0].get("by") or None
    note(session, by, "lot.withdraw", "lot", lot.id, {"auction": auction_id, "reason": event["reason"]}, at=at)


@dataclass(frozen=True, slots=True)
class Closing:
    """What the journal says of the end: the winner and his price, and the entry that says so."""

    sequence: int
    hash: str  # of that entry, hex
    buyer_id: int
    bidder: int
    hammer_minor: int


def closing(session: Session, auction_id: int) -> Closing:
    """Read the outcome of a sold auction from its journal, which is the truth that the auction's row copies."""
    entry, event = _event(session, auction_id, "closed", of_public=True)
    _, limit = _event(session, auction_id, "limit_set", of_public=False, bidder=event["bidder"])
    return Closing(entry.sequence, entry.hash.hex(), limit["party_id"], event["bidder"], event["price_minor"])


def _event(
    session: Session, auction_id: int, kind: str, *, of_public: bool, bidder: int | None = None
) -> tuple[Entry, dict[str, Any]]:
    """The last event of a kind in the journal, and its entry."""
    text = col(Entry.public if of_public else Entry.private)
    entries = session.exec(
        select(Entry)
        .where(Entry.auction_id == auction_id, text.contains(f'"type":"{kind}"', autoescape=True))
        .order_by(col(Entry.sequence).desc())
        .execution_options(yield_per=100)
    )
    for entry in entries:
        events = json.loads(entry.public)["events"] if of_public else private_parts(entry.private)[1]
        for event in events:
            if event["type"] == kind and (bidder is None or event["bidder"] == bidder):
                return entry, event
    raise NotFound("journal_event", auction=auction_id, event=kind)


def _release(session: Session, auction_id: int, dues: Sequence[PaymentDue], *, but: int | None, at: datetime) -> None:
    """Give every deposit back that is held for the auction, but the winner's."""
    by_party = {due.party_id: due for due in dues if due.kind == "deposit"}
    for party_id, amount_minor in sorted(held_deposits(session, auction_id).items()):
        if party_id == but:
            continue
        due = by_party[party_id]
        on = calendars.local_date(at, calendars.of_currency(due.currency))
        books.post(session, [rules.released(auction_id, party_id, amount_minor, due.currency, on)], at=at)
        refund(session, key=f"release:{auction_id}:{party_id}", due=due, amount_minor=amount_minor, at=at)
        if participation := _participation(session, auction_id, party_id):
            participation.status = "released"
            session.add(participation)


def _begin_sale(session: Session, auction: Auction, lot: Lot, outcome: Closing, *, at: datetime) -> int:
    terms = lots.LotTerms.model_validate(lot.terms)
    fees = Fees(terms.premium_bp, terms.commission_bp)
    sold_accounts = accounts_of(lot)
    balances = session.execute(
        select_rows(col(LoanAccount.id), col(LoanAccount.balance_minor))
        .where(sold_accounts)
        .order_by(col(LoanAccount.id))
    ).all()
    held_minor = held_deposits(session, auction.id).get(outcome.buyer_id, 0)
    plan = rules.plan_settlement(
        outcome.hammer_minor, fees=fees, deposit_minor=held_minor, balances=[balance for _, balance in balances]
    )
    calendar = calendars.of_currency(lot.currency)
    due_at = calendars.due_at(auction.closes_at, terms.balance_due_days, calendar)
    sale = Sale(
        auction_id=auction.id, lot_id=lot.id, buyer_id=outcome.buyer_id, bidder=outcome.bidder, currency=lot.currency,
        hammer_minor=plan.hammer_minor, premium_minor=plan.premium_minor, commission_minor=plan.commission_minor,
        deposit_minor=plan.deposit_minor, due_at=due_at, created_at=at,
        plan={
            "entry": outcome.sequence, "entry_hash": outcome.hash, "accounts": len(balances), "calendar": calendar,
            "balance_minor": plan.balance_minor, "deposit_back_minor": plan.deposit_back_minor,
            "accounts_minor": sum(balance for _, balance in balances), "premium_bp": fees.premium_bp,
            "commission_bp": fees.commission_bp, "balance_due_days": terms.balance_due_days,
            "default_at": calendars.due_at(due_at, GRACE_DAYS, calendar).isoformat(),
            "costs_minor": 0, "creditor_id": lot.creditor_id, "zone": terms.zone,
        },
    )  # fmt: skip
    session.add(sale)
    session.flush()
    parties = _parties(sale, lot.creditor_id)
    on = calendars.local_date(at, calendar)
    books.post(session, rules.sold(parties, plan, on), at=at)
    _move_accounts(
        session, sold_accounts, accounts.Status.LISTED, accounts.Status.UNDER_CONTRACT, expected=len(balances)
    )
    _keep_accounts(session, parties, plan, balances, on=on, at=at)
    lot.status = lots.move(lot.status, lots.Status.SOLD).value
    session.add(lot)
    _mark(session, auction.id, outcome.buyer_id, "bought")
    facts = {"entry": outcome.sequence, "bidder": outcome.bidder, "hammer_minor": outcome.hammer_minor}
    step(session, sale.id, "sold", facts, at=at)
    if plan.deposit_back_minor:
        dues = _lock_dues(session, auction.id)
        deposit = next(one for one in dues if one.party_id == outcome.buyer_id and one.kind == "deposit")
        refund(session, key=f"deposit_back:{sale.id}", due=deposit, amount_minor=plan.deposit_back_minor, at=at)
    if plan.balance_minor:
        due = _expect(
            session, "balance", auction_id=auction.id, party_id=outcome.buyer_id, sale_id=sale.id,
            amount_minor=plan.balance_minor, currency=lot.currency, due_at=due_at, at=at,
        )  # fmt: skip
        step(session, sale.id, "invoiced", {"amount_minor": plan.balance_minor, "reference": due.reference}, at=at)
    won = {
        "sale_id": sale.id, "hammer_minor": plan.hammer_minor, "premium_minor": plan.premium_minor,
        "deposit_minor": plan.deposit_minor, "balance_minor": plan.balance_minor, "due_at": due_at,
        "reference": due.reference if plan.balance_minor else "",
    }  # fmt: skip
    _tell(session, "won", sale.id, lot, sale.buyer_id, won, at=at)
    sold_for = {"sale_id": sale.id, "hammer_minor": plan.hammer_minor, "due_at": due_at}
    _tell(session, "lot_sold", sale.id, lot, lot.creditor_id, sold_for, at=at)
    if not plan.balance_minor:
        balance_arrived(session, sale, at=at)
    return sale.id


def _keep_accounts(
    session: Session, parties: Parties, plan: Plan, balances: Sequence[Any], *, on: date, at: datetime
) -> None:
    """Keep each account's balance and share of the price, and open the accounts in the ledger."""
    if not balances:
        return
    session.execute(
        insert(SaleAccount),
        [
            {"sale_id": parties.sale_id, "account_id": account_id, "balance_minor": balance, "price_minor": share}
            for (account_id, balance), share in zip(balances, plan.shares, strict=True)
        ],
    )
    if total := sum(balance for _, balance in balances):
        claims = ledger.claims(parties.creditor_id, parties.currency).code
        rows = select_rows(col(SaleAccount.account_id), col(SaleAccount.balance_minor)).where(
            col(SaleAccount.sale_id) == parties.sale_id
        )
        books.post_spread(session, rules.claims_opened(parties, total, on), {claims: rows}, at=at)


# --- paid, and closed out -----------------------------------------------------------------------------


def balance_arrived(session: Session, sale: Sale, *, at: datetime) -> None:
    """The buyer has paid in full: leave the close-out as work of its own.

    Once the accounts are closed out it is the claim that is paid, which there is when the bank took a payment back.
    """
    step(session, sale.id, "paid", {}, at=at)
    if sale.status == Status.CLOSED_OUT:
        return
    sale.status = rules.move(Status(sale.status), Status.PAID).value
    sale.paid_at = at
    session.add(sale)
    session.flush()
    turns = session.exec(
        select(func.count()).select_from(SaleStep).where(SaleStep.sale_id == sale.id, SaleStep.step == "paid")
    ).one()
    turn = "" if turns == 1 else f":{turns}"
    outbox.put(session, "complete", f"complete:{sale.id}{turn}", {"sale_id": sale.id}, at=at)
    if paid_minor := sale.plan["balance_minor"]:
        facts = {"sale_id": sale.id, "amount_minor": paid_minor}
        _tell(session, "balance_received", sale.id, session.get_one(Lot, sale.lot_id), sale.buyer_id, facts, at=at)


def complete(session: Session, sale_id: int, *, at: datetime) -> bool:
    """Close out a paid sale: the price to the creditor, the accounts to the buyer, all ending at exactly zero.

    Return False, when that was done before, and while a waiting debit may take the payment back (`waiting_debit`):
    the decision about that line leaves it as work anew. Raises: NotFound; Conflict `sale_move`, when it is not paid.
    """
    sale, lot = _lock_sale(session, sale_id)
    if sale.status == Status.CLOSED_OUT or (sale.status == Status.PAID and waiting_debit(session, sale)):
        return False
    sale.status = rules.move(Status(sale.status), Status.CLOSED_OUT).value
    sale.closed_out_at = at
    session.add(sale)
    parties = _parties(sale, lot.creditor_id)
    on = calendars.local_date(at, calendars.of_currency(sale.currency))
    books.post(session, rules.premium_earned(parties, sale.premium_minor, on), at=at)
    if lot.portfolio_id is not None:
        proceeds = _close_out_portfolio(session, sale, parties, on=on, at=at)
    else:
        proceeds = _close_out_collateral(session, sale, lot, parties, on=on, at=at)
    _pay_creditor(session, sale, lot, proceeds, key=f"proceeds:{sale.id}", at=at)
    replace_later(session, lot.creditor_id, accounts_of(lot), f"closed_out:{sale.id}", at=at)
    lot.status = lots.move(lot.status, lots.Status.SETTLED).value
    session.add(lot)
    step(session, sale.id, "closed_out", {"accounts": sale.plan["accounts"], "proceeds_minor": proceeds}, at=at)
    _tell(session, "closed_out", sale.id, lot, sale.buyer_id, {"sale_id": sale.id}, at=at)
    paid_out = {"sale_id": sale.id, "proceeds_minor": proceeds}
    _tell(session, "proceeds", sale.id, lot, lot.creditor_id, paid_out, at=at)
    _use_forfeited(session, lot, on=on, at=at)
    return True


def _close_out_portfolio(session: Session, sale: Sale, parties: Parties, *, on: date, at: datetime) -> int:
    of_sale = col(SaleAccount.sale_id) == sale.id
    total = int(session.exec(select(func.coalesce(func.sum(SaleAccount.balance_minor), 0)).where(of_sale)).one())
    entry = rules.closed_out(
        parties, hammer_minor=sale.hammer_minor, commission_minor=sale.commission_minor, balance_minor=total, on=on
    )
    account = col(SaleAccount.account_id)
    spread = {
        ledger.escrow(sale.id, sale.currency).code: select_rows(account, col(SaleAccount.price_minor)).where(of_sale),
        ledger.claims(parties.creditor_id, sale.currency).code: select_rows(
            account, -col(SaleAccount.balance_minor)
        ).where(of_sale),
    }
    books.post_spread(session, entry, spread, at=at)
    session.execute(update(SaleAccount).where(of_sale).values(closed_out_at=at))
    mine = col(LoanAccount.id).in_(select(SaleAccount.account_id).where(of_sale))
    _move_accounts(
        session, mine, accounts.Status.UNDER_CONTRACT, accounts.Status.CLOSED_OUT, expected=sale.plan["accounts"],
        values={"owner_id": sale.buyer_id},
    )  # fmt: skip
    return sale.hammer_minor - sale.commission_minor


def _close_out_collateral(session: Session, sale: Sale, lot: Lot, parties: Parties, *, on: date, at: datetime) -> int:
    item = session.get_one(Collateral, lot.collateral_id)
    account = session.get(LoanAccount, item.account_id) if item.account_id else None
    if account is None:
        entry = rules.closed_out(
            parties, hammer_minor=sale.hammer_minor, commission_minor=sale.commission_minor, balance_minor=0, on=on
        )
        books.post(session, [entry], at=at)
        return sale.hammer_minor - sale.commission_minor
    recovery = rules.recover(
        sale.hammer_minor, costs_minor=sale.plan["costs_minor"], commission_minor=sale.commission_minor,
        fees_minor=account.fees_minor, interest_minor=account.interest_minor,
        principal_minor=account.balance_minor - account.fees_minor - account.interest_minor,
    )  # fmt: skip
    books.post(session, [rules.recovered(parties, recovery, account.id, account.balance_minor, on)], at=at)
    if recovery.surplus_minor:
        make_payout(
            session, key=f"surplus:{sale.id}", kind="surplus", account=ledger.surplus(account.id, sale.currency),
            amount_minor=recovery.surplus_minor, auction_id=sale.auction_id, at=at,
        )  # fmt: skip
    # The deficiency stays owed, so the account is overdue again with what is left of it; else it is closed out.
    to = accounts.Status.OVERDUE if recovery.deficiency_minor else accounts.Status.CLOSED_OUT
    accounts.check_move(accounts.Status(account.status), to)
    account.status = to.value
    account.fees_minor -= recovery.fees_minor
    account.interest_minor -= recovery.interest_minor
    account.principal_minor = max(account.principal_minor - recovery.principal_minor, 0)
    account.balance_minor = recovery.deficiency_minor
    session.add(account)
    session.execute(update(SaleAccount).where(col(SaleAccount.sale_id) == sale.id).values(closed_out_at=at))
    sale.plan = {
        **sale.plan,
        "recovery": {
            "costs_minor": recovery.costs_minor, "commission_minor": recovery.commission_minor,
            "fees_minor": recovery.fees_minor, "interest_minor": recovery.interest_minor,
            "principal_minor": recovery.principal_minor, "surplus_minor": recovery.surplus_minor,
            "deficiency_minor": recovery.deficiency_minor,
        },
    }  # fmt: skip
    return recovery.to_creditor_minor


def _pay_creditor(session: Session, sale: Sale, lot: Lot, amount_minor: int, *, key: str, at: datetime) -> None:
    if amount_minor <= 0:
        return
    creditor = session.get_one(Party, lot.creditor_id)
    make_payout(
        session, key=key, kind="proceeds", account=ledger.payable(creditor.id, sale.currency), party_id=creditor.id,
        amount_minor=amount_minor, auction_id=sale.auction_id, name=creditor.name, iban=creditor.iban, at=at,
    )  # fmt: skip


# --- money that the bank takes back -------------------------------------------------------------------


def waiting_debit(session: Session, sale: Sale) -> StatementLine | None:
    """A debit that waits for a person and may take back what the buyer paid: it names a reference of the sale.

    A debit that the bank marks as a reversal, of the amount of a line that paid, counts without a reference.
    """
    dues = session.exec(
        select(PaymentDue).where(PaymentDue.auction_id == sale.auction_id, PaymentDue.party_id == sale.buyer_id)
    ).all()
    references = {due.reference for due in dues}
    shares = select(LineShare.line_id).where(
        col(LineShare.payment_due_id).in_([due.id for due in dues]), col(LineShare.undone_at).is_(None)
    )
    paid = set(session.exec(select(StatementLine.amount_minor).where(col(StatementLine.id).in_(shares))))
    waiting = session.exec(
        select(StatementLine)
        .where(
            StatementLine.status == "waiting", StatementLine.amount_minor < 0, StatementLine.currency == sale.currency
        )
        .order_by(col(StatementLine.id))
    )
    for line in waiting:
        if references & set(references_in(line.end_to_end_id, line.text)):
            return line
        if line.is_reversal and -line.amount_minor in paid:
            return line
    return None


def debit_decided(session: Session, line: StatementLine, *, at: datetime) -> None:
    """A debit no longer waits: the sales that are paid may be closed out, if nothing else holds them."""
    paid = select(Sale.id).where(Sale.status == Status.PAID.value, Sale.currency == line.currency)
    for sale_id in session.exec(paid).all():
        key = f"complete:{sale_id}:line:{line.id}:{at:%Y%m%dT%H%M%S%f}"
        outbox.put(session, "complete", key, {"sale_id": sale_id}, at=at)


def balance_taken_back(
    session: Session, sale: Sale, due: PaymentDue, amount_minor: int, *, line_id: int, at: datetime
) -> None:
    """The bank took back what counted toward the balance, and `due` misses it: the sale waits for it again.

    The buyer has at least GRACE_DAYS from now. Once the accounts are closed out, they are his: what he owes again on
    the sale's ledger account is then a claim against him, shown to the operator.
    """
    facts = {"amount_minor": amount_minor, "reference": due.reference, "line": line_id, "was": sale.status}
    if sale.status == Status.PAID:
        sale.status = rules.move(Status(sale.status), Status.AWAITING_BALANCE).value
        sale.paid_at = None
        _drop_work(session, f"complete:{sale.id}", at=at)
    if sale.status == Status.AWAITING_BALANCE:
        until = datetime.fromisoformat(sale.plan["default_at"])
        more = calendars.due_at(at, GRACE_DAYS, calendars.of_currency(sale.currency))
        sale.plan = {**sale.plan, "default_at": max(until, more).isoformat()}
    session.add(sale)
    step(session, sale.id, "taken_back", facts, at=at)


def deposit_taken_back(
    session: Session, due: PaymentDue, amount_minor: int, *, line_id: int, at: datetime
) -> ledger.LedgerAccount | None:
    """The bank took a deposit back: undo what it did, as far as that can be undone, and expect it again.

    Before the end of the auction the bidder is barred in the journal until it has come again: what he has bid stands,
    since an accepted bid binds. Of the buyer it no longer counts toward the price, and his balance grows by it.

    Returns: the ledger account that the line which brought it is taken out of; None: the deposit was used or sent on.
    """
    sale = session.exec(
        select(Sale).where(Sale.auction_id == due.auction_id, Sale.buyer_id == due.party_id).with_for_update()
    ).first()
    held = ledger.deposit(due.auction_id, due.party_id, due.currency)
    if sale is None:
        if -books.balance(session, held.code) < amount_minor:
            return None
        _bar(session, due, line_id, at=at)
        return held
    if sale.status == Status.DEFAULTED:
        forfeited = ledger.forfeited(sale.id, sale.currency)
        return forfeited if -books.balance(session, forfeited.code) >= amount_minor else None
    if sale.deposit_minor < amount_minor:
        return None
    lot = session.get_one(Lot, sale.lot_id)
    on = calendars.local_date(at, calendars.of_currency(due.currency))
    entry = rules.deposit_taken_back(_parties(sale, lot.creditor_id), amount_minor, line_id, on)
    books.post(session, [entry], at=at)
    due.status = "cancelled"  # the balance asks for it now
    sale.deposit_minor -= amount_minor
    sale.plan = {
        **sale.plan, "balance_minor": sale.plan["balance_minor"] + amount_minor,
        "deposit_taken_back": [*sale.plan.get("deposit_taken_back", ()), entry.key],
    }  # fmt: skip
    balance = session.exec(select(PaymentDue).where(PaymentDue.sale_id == sale.id).with_for_update()).first()
    if balance is None:
        balance = _expect(
            session, "balance", auction_id=sale.auction_id, party_id=sale.buyer_id, sale_id=sale.id,
            amount_minor=amount_minor, currency=sale.currency, due_at=sale.due_at, at=at,
        )  # fmt: skip
    else:
        balance.amount_minor += amount_minor
        balance.status = "open"
    session.add_all((due, sale, balance))
    balance_taken_back(session, sale, balance, amount_minor, line_id=line_id, at=at)
    return held


def _bar(session: Session, due: PaymentDue, line_id: int, *, at: datetime) -> None:
    """Let a bidder whose deposit is gone bid no more, if he was, or is about to be, admitted for it."""
    participation = _participation(session, due.auction_id, due.party_id)
    auction = session.get_one(Auction, due.auction_id)
    if participation is None or due.status != "paid":
        return
    if participation.status == "admitted":
        participation.status = "awaiting_deposit"
        session.add(participation)
    _drop_work(session, _admit_key(due), at=at)
    if auction.phase in RUNNING:
        command = Bar(f"taken-back-{line_id}", due.party_id, "The bank took the deposit back.")
        arguments = {"auction_id": due.auction_id, "command": json.loads(command.text())}
        outbox.put(session, "submit_command", f"bar:{due.auction_id}:{due.party_id}:{line_id}", arguments, at=at)


def _drop_work(session: Session, key: str, *, at: datetime) -> None:
    """End work that nobody has begun; what is begun finds that it may not."""
    rows = session.exec(
        select(Outbox).where(
            (col(Outbox.key) == key) | col(Outbox.key).startswith(f"{key}:") | col(Outbox.key).startswith(f"{key}-"),
            col(Outbox.done_at).is_(None),
        )
    ).all()
    for row in rows:
        outbox.done(session, row.id, at=at)


def claim(session: Session, due: PaymentDue, amount_minor: int, *, at: datetime) -> ledger.LedgerAccount:
    """Claim from a party what the bank took back after it had been used or sent on; return the account of the claim."""
    _expect(
        session, "claim", auction_id=due.auction_id, party_id=due.party_id, sale_id=None, amount_minor=amount_minor,
        currency=due.currency, due_at=calendars.due_at(at, GRACE_DAYS, calendars.of_currency(due.currency)), at=at,
    )  # fmt: skip
    return ledger.receivable(due.party_id, due.currency)


# --- default ------------------------------------------------------------------------------------------


def default(session: Session, sale_id: int, *, at: datetime, person_id: int | None = None, reason: str = "") -> bool:
    """The buyer does not pay: his deposit is kept, the accounts are overdue again, the lot can be listed anew.

    Args:
        person_id, reason: an operator's decision; while the buyer still has time to pay, the reason names the letter
            in which he refused. Without a person, that time must have run out.
    Return False, when that was done before.
    Raises: NotFound; Conflict `sale_move`, `not_due_yet`; BadInput `refusal_in_writing`.
    """
    sale, lot = _lock_sale(session, sale_id)
    if sale.status == Status.DEFAULTED:
        return False
    to = rules.move(Status(sale.status), Status.DEFAULTED)
    until = datetime.fromisoformat(sale.plan["default_at"])
    rules.check_default(at=at, until=until, is_declared=person_id is not None, reason=reason)
    sale.status, sale.defaulted_at = to.value, at
    session.add(sale)
    parties = _parties(sale, lot.creditor_id)
    on = calendars.local_date(at, calendars.of_currency(sale.currency))
    paid_minor = _cancel_balance(session, sale)
    books.reverse(session, rules.sold_key(sale.id), on=on, cause=parties.cause, at=at, text="default")
    for key in sale.plan.get("deposit_taken_back", ()):
        books.reverse(session, key, on=on, cause=parties.cause, at=at, text="default")
    if sale.plan["accounts"] and sale.plan["accounts_minor"]:
        books.reverse(session, rules.claims_key(sale.id), on=on, cause=parties.cause, at=at, text="default")
    if paid_minor:
        books.post(session, [rules.part_payment_back(parties, paid_minor, on)], at=at)
        due = session.exec(select(PaymentDue).where(PaymentDue.sale_id == sale.id)).one()
        refund(session, key=f"part_payment_back:{sale.id}", due=due, amount_minor=paid_minor, at=at)
    if sale.deposit_minor:
        books.post(session, [rules.deposit_forfeited(parties, sale.deposit_minor, on)], at=at)
    of_sale = select(SaleAccount.account_id).where(SaleAccount.sale_id == sale.id)
    _move_accounts(
        session, col(LoanAccount.id).in_(of_sale), accounts.Status.UNDER_CONTRACT, accounts.Status.OVERDUE,
        expected=sale.plan["accounts"],
    )  # fmt: skip
    replace_later(session, lot.creditor_id, col(LoanAccount.id).in_(of_sale), f"default:{sale.id}", at=at)
    lot.status = lots.move(lot.status, lots.Status.DEFAULTED).value
    session.add(lot)
    _mark(session, sale.auction_id, sale.buyer_id, "forfeited")
    step(session, sale.id, "defaulted", {"deposit_minor": sale.deposit_minor, "reason": reason}, person_id, at=at)
    lost = {"sale_id": sale.id, "deposit_minor": sale.deposit_minor, "paid_minor": paid_minor}
    _tell(session, "defaulted", sale.id, lot, sale.buyer_id, lost, at=at)
    _tell(session, "sale_defaulted", sale.id, lot, lot.creditor_id, {"sale_id": sale.id}, at=at)
    return True


def default_overdue_sales(session: Session, *, at: datetime) -> list[int]:
    """Default every sale whose time for paying has run out, at most SALES_AT_ONCE; return their ids.

    Buyers who are late, but still have time, are told once.
    """
    late = session.exec(
        select(Sale)
        .where(Sale.status == Status.AWAITING_BALANCE.value, col(Sale.due_at) < at)
        .order_by(col(Sale.due_at))
    ).all()
    ripe = [sale.id for sale in late if datetime.fromisoformat(sale.plan["default_at"]) <= at][:SALES_AT_ONCE]
    for sale in late:
        if (default_at := datetime.fromisoformat(sale.plan["default_at"])) > at:
            due = session.exec(select(PaymentDue).where(PaymentDue.sale_id == sale.id)).one()
            facts = {
                "sale_id": sale.id, "missing_minor": due.amount_minor - due.paid_minor, "reference": due.reference,
                "due_at": sale.due_at, "default_at": default_at,
            }  # fmt: skip
            _tell(session, "payment_late", sale.id, session.get_one(Lot, sale.lot_id), sale.buyer_id, facts, at=at)
    return [sale_id for sale_id in ripe if default(session, sale_id, at=at)]


def is_barred(session: Session, lot_id: int, party_id: int) -> bool:
    """Has this party bought the lot before and not paid? It may then not bid for it again (rulesets 2.1.4)."""
    defaulted = select(Sale.id).where(
        Sale.lot_id == lot_id, Sale.buyer_id == party_id, Sale.status == Status.DEFAULTED.value
    )
    return session.exec(defaulted).first() is not None


def set_costs(session: Session, sale_id: int, costs_minor: int, *, person_id: int, at: datetime) -> None:
    """State what the sale has cost: a forfeited deposit, and the price of collateral, are used for that first."""
    sale, _ = _lock_sale(session, sale_id)
    used = books.balance(session, ledger.forfeited(sale.id, sale.currency).code) == 0
    if sale.status == Status.CLOSED_OUT or (sale.status == Status.DEFAULTED and used) or costs_minor < 0:
        raise Conflict("sale_move", status=sale.status, to="costs")
    sale.plan = {**sale.plan, "costs_minor": costs_minor}
    session.add(sale)
    step(session, sale_id, "costs", {"costs_minor": costs_minor}, person_id, at=at)


def _use_forfeited(session: Session, lot: Lot, *, on: date, at: datetime) -> None:
    """The lot is sold and paid at last: use the deposits of those who had not paid, in each ruleset's order.

    Each covers the fall from its own price to the hammer of the next sale, so that no loss is covered twice.
    """
    sales = session.exec(select(Sale).where(Sale.lot_id == lot.id).order_by(col(Sale.id))).all()
    for sale, after in pairwise(sales):
        held = -books.balance(session, ledger.forfeited(sale.id, sale.currency).code)
        if sale.status != Status.DEFAULTED or not held:
            continue
        order = _default_rules(session, sale.auction_id)
        needs = {"costs": sale.plan["costs_minor"], "shortfall": max(sale.hammer_minor - after.hammer_minor, 0)}
        use = rules.forfeiture(held, order=order.deposit_order, needs=needs, remainder_to=order.forfeit_remainder)
        parties = _parties(sale, lot.creditor_id)
        books.post(session, [rules.forfeiture_applied(parties, use, on)], at=at)
        to_buyer = use.remainder_minor if use.remainder_to == "return" else 0
        to_creditor = held - use.used_for("costs") - to_buyer
        _pay_creditor(session, sale, lot, to_creditor, key=f"forfeiture:{sale.id}", at=at)
        if to_buyer:
            buyer = session.get_one(Party, sale.buyer_id)
            make_payout(
                session, key=f"forfeiture_rest:{sale.id}", kind="refund", party_id=buyer.id, amount_minor=to_buyer,
                account=ledger.payable(buyer.id, sale.currency), auction_id=sale.auction_id, name=buyer.name,
                iban=buyer.iban, at=at,
            )  # fmt: skip
        facts = {
            "resale_minor": after.hammer_minor, **{f"{name}_minor": amount for name, amount in use.used},
            "remainder_minor": use.remainder_minor, "remainder_to": use.remainder_to,
            "deficit_minor": use.deficit_minor,
        }  # fmt: skip
        step(session, sale.id, "deposit_used", facts, at=at)


def _default_rules(session: Session, auction_id: int) -> Default:
    """What the ruleset of an auction says of a default."""
    return _ruleset(session, auction_id).listing.default


def _ruleset(session: Session, auction_id: int) -> Ruleset:
    """The ruleset of an auction: read from its journal, which carries ruleset and version."""
    return read_ruleset(_event(session, auction_id, "created", of_public=True)[1]["terms"]["ruleset"])


# --- notices --------------------------------------------------------------------------------------------


def _tell(
    session: Session, kind: str, key: object, lot: Lot, party_id: int, facts: Mapping[str, Any], *, at: datetime
) -> None:
    notices.put(session, kind, key, notices.lot_facts(lot) | dict(facts), party_id=party_id, at=at)


def _tell_others(
    session: Session, auction: Auction, lot: Lot, dues: Sequence[PaymentDue], *, but: int | None, at: datetime
) -> None:
    """Tell all who were admitted and did not win, or whose deposit came too late to be admitted, that it is over."""
    deposits = {due.party_id: due for due in dues if due.kind == "deposit" and due.paid_minor}
    admitted = select(Participation.party_id).where(
        Participation.auction_id == auction.id, col(Participation.bidder).is_not(None)
    )
    hours = _ruleset(session, auction.id).listing.deposit_return_hours
    back_at = None if hours is None else at + timedelta(hours=hours)
    for party_id in sorted({*session.exec(admitted), *deposits} - {but}):
        due = deposits.get(party_id)
        facts = {"outcome": auction.outcome, "deposit_minor": due.paid_minor if due else 0, "back_at": back_at}
        _tell(session, "not_won", f"{auction.id}:{party_id}", lot, party_id, facts, at=at)


def _lot_of(session: Session, auction_id: int) -> Lot:
    return session.exec(select(Lot).join(Auction, col(Auction.lot_id) == Lot.id).where(Auction.id == auction_id)).one()


# --- one step each --------------------------------------------------------------------------------------


def step(
    session: Session, sale_id: int, name: str, facts: Mapping[str, Any], person_id: int | None = None, *, at: datetime
) -> None:
    """Add to the timeline of a sale: what happened, when, by whom (None: by rule)."""
    session.add(SaleStep(sale_id=sale_id, at=at, step=name, person_id=person_id, facts=dict(facts)))


def _lock_lot(session: Session, lot_id: int) -> Lot:
    return session.exec(
        select(Lot).where(Lot.id == lot_id).with_for_update().execution_options(populate_existing=True)
    ).one()


def _lock_sale(session: Session, sale_id: int) -> tuple[Sale, Lot]:
    sale = session.get(Sale, sale_id)
    if sale is None:
        raise NotFound("sale", id=sale_id)
    lot = _lock_lot(session, sale.lot_id)
    _lock_dues(session, sale.auction_id)  # before the sale, as a bank line does
    session.refresh(sale, with_for_update=True)
    return sale, lot


def _lock_dues(session: Session, auction_id: int) -> Sequence[PaymentDue]:
    return session.exec(
        select(PaymentDue)
        .where(PaymentDue.auction_id == auction_id)
        .order_by(col(PaymentDue.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _cancel_balance(session: Session, sale: Sale) -> int:
    """Expect the balance no longer; return what of it has been paid."""
    due = session.exec(
        select(PaymentDue)
        .where(PaymentDue.sale_id == sale.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    due.status = "cancelled"
    session.add(due)
    return due.paid_minor


def _parties(sale: Sale, creditor_id: int) -> Parties:
    return Parties(sale.id, sale.auction_id, sale.lot_id, sale.buyer_id, creditor_id, sale.currency)


def _participation(session: Session, auction_id: int, party_id: int) -> Participation | None:
    return session.exec(
        select(Participation).where(Participation.auction_id == auction_id, Participation.party_id == party_id)
    ).first()


def _mark(session: Session, auction_id: int, party_id: int, status: str) -> None:
    if participation := _participation(session, auction_id, party_id):
        participation.status = status
        session.add(participation)


def _newest_auction(session: Session, lot_id: int) -> int | None:
    return session.exec(select(Auction.id).where(Auction.lot_id == lot_id).order_by(col(Auction.number).desc())).first()


def accounts_of(lot: Lot) -> ColumnElement[bool]:
    """The overdue accounts that a lot sells: a portfolio's, or the one behind an item of collateral."""
    if lot.portfolio_id is not None:
        members = select(PortfolioAccount.account_id).where(PortfolioAccount.portfolio_id == lot.portfolio_id)
        return col(LoanAccount.id).in_(members)
    secured = select(Collateral.account_id).where(
        Collateral.id == lot.collateral_id, col(Collateral.account_id).is_not(None)
    )
    return col(LoanAccount.id).in_(secured)


def _move_accounts(
    session: Session,
    which: ColumnElement[bool],
    before: accounts.Status,
    after: accounts.Status,
    *,
    expected: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> None:
    """Move overdue accounts by one statement, however many there are."""
    accounts.check_move(before, after)
    moved = session.execute(
        update(LoanAccount)
        .where(which, col(LoanAccount.status) == before.value)
        .values(status=after.value, **(values or {}))
        .execution_options(synchronize_session=False)
    )
    count = int(moved.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
    if expected is not None and count != expected:
        raise Conflict("accounts_not_" + before.value, expected=expected, found=count)


# --- reading --------------------------------------------------------------------------------------------


def winning_bid(session: Session, sale: Sale) -> tuple[int, int, str]:
    """The journal entry that made the buyer the winner: (sequence, minor units, hash in hex)."""
    entries = session.exec(
        select(Entry)
        .where(
            Entry.auction_id == sale.auction_id,
            Entry.sequence <= sale.plan["entry"],
            col(Entry.public).contains("bid", autoescape=True),
        )
        .order_by(col(Entry.sequence).desc())
        .execution_options(yield_per=100)
    )
    for entry in entries:
        for event in json.loads(entry.public)["events"]:
            if event["type"] in ("bid", "auto_bid") and event["bidder"] == sale.bidder:
                return entry.sequence, event["amount_minor"], entry.hash.hex()
    raise NotFound("journal_event", auction=sale.auction_id, event="bid")


@dataclass(frozen=True, slots=True)
class SaleLine:
    """A sale in a list."""

    sale: Sale
    lot: Lot
    buyer: str
    creditor: str
    due: PaymentDue | None


def sales(
    session: Session,
    *,
    creditor_id: int | None = None,
    buyer_id: int | None = None,
    status: str = "",
    limit: int = 100,
    after: int = 0,
) -> list[SaleLine]:
    """Sales that one may see, newest first; both ids None: all of them (operators). `after`: of which sale on."""
    query = select(Sale, Lot).join(Lot, col(Lot.id) == col(Sale.lot_id)).order_by(col(Sale.id).desc()).limit(limit)
    if creditor_id is not None and buyer_id is not None:
        query = query.where((Lot.creditor_id == creditor_id) | (Sale.buyer_id == buyer_id))
    elif creditor_id is not None:
        query = query.where(Lot.creditor_id == creditor_id)
    elif buyer_id is not None:
        query = query.where(Sale.buyer_id == buyer_id)
    if status:
        query = query.where(Sale.status == status)
    if after:
        query = query.where(Sale.id < after)
    rows = session.exec(query).all()
    names = _party_names(session, {one.buyer_id for one, _ in rows} | {lot.creditor_id for _, lot in rows})
    dues = {
        due.sale_id: due
        for due in session.exec(select(PaymentDue).where(col(PaymentDue.sale_id).in_([one.id for one, _ in rows])))
    }
    return [SaleLine(one, lot, names[one.buyer_id], names[lot.creditor_id], dues.get(one.id)) for one, lot in rows]


def _party_names(session: Session, ids: set[int]) -> dict[int, str]:
    return dict(session.execute(select_rows(col(Party.id), col(Party.name)).where(col(Party.id).in_(ids))).all())


@dataclass(frozen=True, slots=True)
class Shown:
    """All that the page of one sale needs."""

    line: SaleLine
    view: str  # creditor | buyer | operator
    steps: list[SaleStep]
    deposit: PaymentDue | None
    paid_by: list[StatementLine]
    payouts: list[Payout]
    accounts: list[tuple[SaleAccount, LoanAccount]]  # the first ACCOUNTS_SHOWN
    accounts_minor: int
    shares_minor: int
    bank: BankAccount | None
    deposit_rules: Default  # what a deposit that is not returned is used for
    forfeited_minor: int  # of it, what is still held
    again: Auction | None  # the auction of the lot that came next
    resale: Sale | None  # and the sale of it
    held_by: StatementLine | None  # the waiting debit for which a paid sale is not closed out yet


ACCOUNTS_SHOWN = 50


def show_sale(session: Session, sale_id: int, *, party_id: int | None, is_operator: bool, after: int = 0) -> Shown:
    """A sale as its creditor, its buyer or an operator may see it. Raises: NotFound for everybody else."""
    sale = session.get(Sale, sale_id)
    lot = session.get(Lot, sale.lot_id) if sale else None
    if sale is None or lot is None or not (is_operator or party_id in (sale.buyer_id, lot.creditor_id)):
        raise NotFound("sale", id=sale_id)
    view = "operator" if is_operator else "creditor" if party_id == lot.creditor_id else "buyer"
    names = _party_names(session, {sale.buyer_id, lot.creditor_id})
    dues = session.exec(
        select(PaymentDue).where(PaymentDue.auction_id == sale.auction_id, PaymentDue.party_id == sale.buyer_id)
    ).all()
    balance = next((one for one in dues if one.kind == "balance"), None)
    deposit = next((one for one in dues if one.kind == "deposit"), None)
    of_sale = col(SaleAccount.sale_id) == sale.id
    totals = session.execute(
        select_rows(
            func.coalesce(func.sum(SaleAccount.balance_minor), 0), func.coalesce(func.sum(SaleAccount.price_minor), 0)
        ).where(of_sale)
    ).one()
    shown_accounts = session.exec(
        select(SaleAccount, LoanAccount)
        .join(LoanAccount, col(LoanAccount.id) == col(SaleAccount.account_id))
        .where(of_sale, SaleAccount.account_id > after)
        .order_by(col(SaleAccount.account_id))
        .limit(ACCOUNTS_SHOWN)
    ).all()
    paid_by = session.exec(
        select(StatementLine)
        .where(
            col(StatementLine.id).in_(
                select(LineShare.line_id).where(
                    col(LineShare.payment_due_id).in_([one.id for one in dues]), col(LineShare.undone_at).is_(None)
                )
            )
        )
        .order_by(col(StatementLine.id))
    ).all()
    payouts = select(Payout).where(Payout.auction_id == sale.auction_id).order_by(col(Payout.id))
    if view == "creditor":
        payouts = payouts.where(Payout.party_id == lot.creditor_id)
    elif view == "buyer":
        payouts = payouts.where(Payout.party_id == sale.buyer_id)
    again = session.exec(
        select(Auction).where(Auction.lot_id == lot.id, Auction.id > sale.auction_id).order_by(col(Auction.id))
    ).first()
    resale = session.exec(select(Sale).where(Sale.lot_id == lot.id, Sale.id > sale.id).order_by(col(Sale.id))).first()
    return Shown(
        SaleLine(sale, lot, names[sale.buyer_id], names[lot.creditor_id], balance), view,
        list(session.exec(select(SaleStep).where(SaleStep.sale_id == sale.id).order_by(col(SaleStep.id)))), deposit,
        list(paid_by), list(session.exec(payouts)), list(shown_accounts), int(totals[0]), int(totals[1]),
        account_to_pay(session, sale.currency), _default_rules(session, sale.auction_id),
        -books.balance(session, ledger.forfeited(sale.id, sale.currency).code), again, resale,
        waiting_debit(session, sale) if sale.status == Status.PAID else None,
    )  # fmt: skip


def zone_of(sale: Sale, lot: Lot) -> str:
    """The zone in which everything of a sale is told: its lot's."""
    zone: str = sale.plan.get("zone") or lot.terms["zone"]
    return zone


def zones(session: Session, auction_ids: Collection[int]) -> dict[int, str]:
    """The zone of the lot of each auction."""
    rows = session.exec(
        select(Auction.id, Lot.terms).join(Lot, col(Lot.id) == Auction.lot_id).where(col(Auction.id).in_(auction_ids))
    )
    return {auction_id: terms["zone"] for auction_id, terms in rows}


@dataclass(frozen=True, slots=True)
class SoldAccount:
    """How one overdue account was sold: its sale, its share of the price, what the books still hold of it."""

    sale: Sale
    lot: Lot
    buyer: str
    share: SaleAccount
    remaining_minor: int


def sale_of_account(session: Session, account_id: int) -> SoldAccount | None:
    """The sale that an account is part of; None, when it is in none that stands."""
    row = session.exec(
        select(Sale, Lot, SaleAccount)
        .join(SaleAccount, col(SaleAccount.sale_id) == Sale.id)
        .join(Lot, col(Lot.id) == Sale.lot_id)
        .where(SaleAccount.account_id == account_id, Sale.status != Status.DEFAULTED.value)
        .order_by(col(Sale.id).desc())
    ).first()
    if row is None:
        return None
    sale, lot, share = row
    claims = ledger.claims(lot.creditor_id, sale.currency).code
    remaining = session.exec(
        select(func.coalesce(func.sum(Posting.amount_minor), 0))
        .join(LedgerAccount, col(LedgerAccount.id) == Posting.ledger_account_id)
        .where(Posting.loan_account_id == account_id, LedgerAccount.code == claims)
    ).one()
    return SoldAccount(sale, lot, _party_names(session, {sale.buyer_id})[sale.buyer_id], share, int(remaining))


def account_to_pay(session: Session, currency: str) -> BankAccount | None:
    """The platform's account that deposits and balances in `currency` are paid to."""
    found = select(BankAccount).where(BankAccount.currency == currency).order_by(col(BankAccount.id))
    return session.exec(found).first()


def payments_due(session: Session, *, party_id: int | None, limit: int = 100, after: int = 0) -> list[PaymentDue]:
    """Payments that a party is expected to make (None: of everybody), newest first."""
    query = select(PaymentDue).order_by(col(PaymentDue.id).desc()).limit(limit)
    if party_id is not None:
        query = query.where(PaymentDue.party_id == party_id)
    if after:
        query = query.where(PaymentDue.id < after)
    return list(session.exec(query))


def payouts(session: Session, *, status: str = "", limit: int = 200, after: int = 0) -> list[Payout]:
    """What is owed out, newest first."""
    query = select(Payout).order_by(col(Payout.id).desc()).limit(limit)
    if status:
        query = query.where(Payout.status == status)
    if after:
        query = query.where(Payout.id < after)
    return list(session.exec(query))
