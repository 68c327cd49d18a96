"""Sales from the hammer to the close-out: one page with three views, invoices, the tasks that settle; JSON beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market import calendars
from market.errors import BadInput, Fault, NotFound
from market.inputs import Reader
from market.lots import TERMS_OPEN
from market.money import amount_text, decimals
from market.settlement import Status, check_default, forfeiture, move
from storage import settlement
from storage.database import Database
from storage.settlement import SaleLine, Shown
from storage.tables import PaymentDue, SaleStep
from web.api import PROBLEMS, allowed
from web.render import N_, _, money, ngettext, page, page_or_part, redirect, utc_now
from web.security import Visitor, requires
from web.tasks import TaskContext, beat, task

REASON_MOST = 500
LABELS = {"reason": N_("Reason"), "costs": N_("Costs of the sale")}
USES = {
    "costs": N_("Costs of the sale"), "shortfall": N_("Shortfall of the price when sold again"),
    "case_debts": N_("Debts of the debtor in this case"), "asset_debts": N_("Debts of the debtor tied to the asset"),
}  # fmt: skip
RESTS = {
    "to_debtor_debt": N_("Rest, to the creditor for the debtor's debts"), "to_creditor": N_("Rest, to the creditor"),
    "return": N_("Rest, back to the buyer"),
}  # fmt: skip
PAYOUT_STATES = ("needs_payee", "due", "sent")
SEES = ("asset_manager", "investor", "operator")


# --- tasks ------------------------------------------------------------------------------------------


@task("settle")
def settle(context: TaskContext, auction_id: int) -> None:
    """An auction has closed."""
    context.db.in_transaction(settlement.settle, auction_id, at=utc_now())


@task("complete")
def complete(context: TaskContext, sale_id: int) -> None:
    """A sale is paid."""
    context.db.in_transaction(settlement.complete, sale_id, at=utc_now())


@beat("default_overdue_sales", every=timedelta(minutes=1))
def default_overdue_sales(context: TaskContext) -> None:
    """The time for paying has run out somewhere."""
    context.db.in_transaction(settlement.default_overdue_sales, at=utc_now())


# --- pages ------------------------------------------------------------------------------------------


def _whose(visitor: Visitor) -> dict[str, int | None]:
    """Whose sales a visitor may see: an operator's are all of them; a party's, those it sells or buys."""
    if visitor.has("operator"):
        return {"creditor_id": None, "buyer_id": None}
    return {"creditor_id": visitor.party_id, "buyer_id": visitor.party_id}


@requires(*SEES)
async def index(request: Request) -> Response:
    """Sales, newest first; an investor's are purchases."""
    status = request.query_params.get("status", "")
    status = status if status in set(Status) else ""
    lines = await request.state.db.read_in_thread(settlement.sales, status=status, **_whose(request.user))
    view = "operator" if request.user.has("operator") else "creditor" if request.user.has("asset_manager") else "buyer"
    context = {
        "lines": lines, "status": status, "statuses": [one.value for one in Status], "view": view,
        "zone_of": settlement.zone_of,
    }  # fmt: skip
    return page(request, "settlement/index.html", context)


async def _shown(request: Request) -> Shown:
    after = request.query_params.get("after", "0")
    shown: Shown = await request.state.db.read_in_thread(
        settlement.show_sale, request.path_params["id"], party_id=request.user.party_id,
        is_operator=request.user.has("operator"), after=int(after) if after.isdecimal() and len(after) < 18 else 0,
    )  # fmt: skip
    return shown


def _context(shown: Shown) -> dict[str, Any]:
    sale = shown.line.sale
    default_at = datetime.fromisoformat(sale.plan["default_at"])
    now = utc_now()
    return {
        "shown": shown, "sale": sale, "lot": shown.line.lot, "due": shown.line.due, "default_at": default_at,
        "is_late": sale.status == Status.AWAITING_BALANCE and now > sale.due_at,
        "business_days": calendars.business_days_between(
            calendars.local_date(now, sale.plan["calendar"]), calendars.local_date(sale.due_at, sale.plan["calendar"]),
            sale.plan["calendar"],
        ),
        "zone": settlement.zone_of(sale, shown.line.lot), "timeline": timeline(shown),
        "paid_minor": shown.line.due.paid_minor if shown.line.due else 0, "labels": LABELS,
        "places": decimals(sale.currency), "has_time": now < default_at, "use": deposit_use(shown),
        "uses": USES, "rests": RESTS,
        "to_creditor_minor": sum(one.amount_minor for one in shown.payouts if one.kind == "proceeds"),
        "is_listable": shown.line.lot.status in TERMS_OPEN,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class DepositUse:
    """What a deposit that is not returned is used for, by rank; None: not known before the lot is sold again."""

    rows: list[tuple[str, int | None]]  # of USES; debts of the debtor stand only where something went to them
    rest_minor: int | None
    rest_to: str  # of RESTS
    short_minor: int  # costs and shortfall that the deposit does not cover
    is_done: bool


def deposit_use(shown: Shown) -> DepositUse:
    """As it was used; before that, the part that is known: the costs, and the shortfall once there is a new price."""
    sale, order = shown.line.sale, shown.deposit_rules.deposit_order
    done = next((one.facts for one in shown.steps if one.step == "deposit_used"), None)
    if done is not None:
        rows = [(name, done.get(f"{name}_minor", 0)) for name in order]
        return DepositUse(
            [(name, minor) for name, minor in rows if minor or not name.endswith("debts")], done["remainder_minor"],
            done["remainder_to"], done["deficit_minor"], is_done=True,
        )  # fmt: skip
    needs = {"costs": sale.plan["costs_minor"]}
    if shown.resale is not None:
        needs["shortfall"] = max(sale.hammer_minor - shown.resale.hammer_minor, 0)
    use = forfeiture(sale.deposit_minor, order=order, needs=needs, remainder_to=shown.deposit_rules.forfeit_remainder)
    return DepositUse(
        [(name, minor if name in needs else None) for name, minor in use.used if not name.endswith("debts")],
        use.remainder_minor if shown.resale else None, use.remainder_to, use.deficit_minor, is_done=False,
    )  # fmt: skip


@requires(*SEES)
async def show(request: Request) -> Response:
    """One sale, as its creditor, its buyer or an operator sees it."""
    return page_or_part(request, "settlement/show.html", "settlement/_sale.html", _context(await _shown(request)))


@requires(*SEES)
async def invoice(request: Request) -> Response:
    """What to pay, by when, to which reference: a page that prints as a document."""
    shown = await _shown(request)
    if shown.line.due is None:
        raise NotFound("invoice")
    return page(request, "settlement/invoice.html", _context(shown))


@requires("investor", "operator")
async def payments(request: Request) -> Response:
    """The payments that a party is expected to make: deposits and balances, with their references."""
    party_id = None if request.user.has("operator") else request.user.party_id
    db: Database = request.state.db
    dues = await db.read_in_thread(settlement.payments_due, party_id=party_id)
    currencies = {due.currency for due in dues}
    banks = {one: await db.read_in_thread(settlement.account_to_pay, one) for one in currencies}
    zones = await db.read_in_thread(settlement.zones, {due.auction_id for due in dues})
    return page(request, "settlement/payments.html", {"dues": dues, "banks": banks, "zones": zones})


@requires("operator")
async def payouts(request: Request) -> Response:
    """What is owed out: refunds, proceeds, surpluses, returns."""
    return await _payouts(request, {}, [], 200)


async def _payouts(request: Request, values: dict[str, Any], faults: Sequence[Fault], status: int) -> Response:
    state = request.query_params.get("status", "")
    state = state if state in PAYOUT_STATES else ""
    found = await request.state.db.read_in_thread(settlement.payouts, status=state)
    context = {"payouts": found, "status": state, "states": PAYOUT_STATES, "values": values, "faults": faults}
    return page(request, "settlement/payouts.html", context, status=status)


@requires("operator")
async def name_payee(request: Request) -> Response:
    """Who gets a payment, where, and from what the operator knows it."""
    values = dict(await request.form())
    reader = Reader(values)
    name, iban = reader.line("name", most=120, least=2), reader.account("iban")
    reason = reader.line("reason", most=REASON_MOST, least=10)
    try:
        reader.done()
    except BadInput as bad:
        values["payout"] = request.path_params["id"]
        return await _payouts(request, values, bad.faults, 422)
    await request.state.db.in_thread(
        settlement.name_payee, request.path_params["id"], name=name, iban=iban, reason=reason,
        person_id=request.user.id, at=utc_now(),
    )  # fmt: skip
    return redirect(request, "/payouts")


@requires("operator")
async def declare_default(request: Request) -> Response:
    """The buyer does not pay: first what happens then, to be confirmed; on confirmation it is done."""
    values, sale_id, now = dict(await request.form()), request.path_params["id"], utc_now()
    shown = await _shown(request)
    context = _context(shown)
    if shown.line.sale.status == Status.DEFAULTED:
        return redirect(request, f"/sales/{sale_id}")
    move(Status(shown.line.sale.status), Status.DEFAULTED)
    reader = Reader(values)
    try:
        reason = reader.line("reason", most=REASON_MOST, least=0)
        reader.done()
        check_default(at=now, until=context["default_at"], is_declared=True, reason=reason)
        if values.get("confirm") != "yes":
            order = [_(USES[one]) for one in shown.deposit_rules.deposit_order]
            order.append(_(RESTS[shown.deposit_rules.forfeit_remainder]))
            more = {"reason": reason, "order": _("; ").join(order)}
            return page(request, "settlement/default.html", {**context, **more})
        await request.state.db.in_thread(settlement.default, sale_id, reason=reason, person_id=request.user.id, at=now)
    except BadInput as bad:
        return page(request, "settlement/show.html", {**context, "faults": bad.faults, "values": values}, status=422)
    return redirect(request, f"/sales/{sale_id}")


@requires("operator")
async def set_costs(request: Request) -> Response:
    """What the sale has cost: the figure stands beside the form, in the timeline and in the use of a deposit."""
    values, sale_id = dict(await request.form()), request.path_params["id"]
    shown = await _shown(request)
    reader = Reader(values)
    costs_minor = reader.amount("costs", shown.line.sale.currency)
    try:
        reader.done()
    except BadInput as bad:
        context = {**_context(shown), "faults": bad.faults, "values": values}
        return page(request, "settlement/show.html", context, status=422)
    await request.state.db.in_thread(
        settlement.set_costs, sale_id, costs_minor, person_id=request.user.id, at=utc_now()
    )
    return redirect(request, f"/sales/{sale_id}#costs")


STEP_WORDS = {
    "sold": N_("Sold"), "invoiced": N_("Balance invoiced"), "paid": N_("Paid in full"),
    "closed_out": N_("Accounts closed out"), "defaulted": N_("Buyer defaulted"), "costs": N_("Costs stated"),
    "deposit_used": N_("Forfeited deposit used"), "taken_back": N_("Payment taken back by the bank"),
}  # fmt: skip


def timeline(shown: Shown) -> list[dict[str, Any]]:
    """The steps of a sale: done, now, to come."""
    sale = shown.line.sale
    steps = [
        {"state": "done", "title": _(STEP_WORDS[one.step]), "at": one.at, "text": _step_text(one, sale.currency),
         "address": "", "words": ""}
        for one in shown.steps
    ]  # fmt: skip
    if sale.status == Status.AWAITING_BALANCE:
        steps.append(
            {"state": "now", "title": _("Waiting for the balance"), "at": sale.due_at, "text": "", "address": "",
             "words": ""}
        )  # fmt: skip
    if sale.status == Status.PAID:
        steps.append(_to_come(_("Accounts being closed out"), "now"))
    elif sale.status == Status.AWAITING_BALANCE:
        steps += [_to_come(_("Paid in full"), "next"), _to_come(_("Accounts closed out"), "next")]
    elif sale.status == Status.DEFAULTED:
        steps.append(_to_come(_("Accounts closed out"), "off"))
    return steps


def _to_come(title: str, state: str) -> dict[str, Any]:
    return {"state": state, "title": title, "at": None, "text": "", "address": "", "words": ""}


def _step_text(step: SaleStep, currency: str) -> str:
    facts = step.facts
    match step.step:
        case "sold":
            return _(
                "To Bidder %(bidder)s at %(amount)s, entry %(entry)s of the journal", bidder=facts["bidder"],
                amount=money(facts["hammer_minor"], currency), entry=facts["entry"],
            )  # fmt: skip
        case "invoiced":
            return _("%(amount)s, reference %(reference)s", amount=money(facts["amount_minor"], currency),
                     reference=facts["reference"])  # fmt: skip
        case "taken_back":
            return _("%(amount)s, reference %(reference)s", amount=money(facts["amount_minor"], currency),
                     reference=facts["reference"])  # fmt: skip
        case "closed_out":
            accounts = ngettext("%(num)s account", "%(num)s accounts", facts["accounts"])
            return _("%(accounts)s; %(amount)s to the creditor", accounts=accounts,
                     amount=money(facts["proceeds_minor"], currency))  # fmt: skip
        case "defaulted":
            text = _("Deposit of %(amount)s not returned", amount=money(facts["deposit_minor"], currency))
            return f"{text} · {facts['reason']}" if facts.get("reason") else text
        case "costs":
            return money(facts["costs_minor"], currency)
        case "deposit_used":
            words = _(
                "Costs %(costs)s, shortfall %(shortfall)s, rest %(rest)s",
                costs=money(facts.get("costs_minor", 0), currency),
                shortfall=money(facts.get("shortfall_minor", 0), currency),
                rest=money(facts["remainder_minor"], currency),
            )
            again = _("sold again at %(amount)s", amount=money(facts["resale_minor"], currency))
            return f"{again} · {words}"
    return ""


routes: list[BaseRoute] = [
    Route("/sales", index),
    Route("/sales/{id:int}", show),
    Route("/sales/{id:int}/invoice", invoice),
    Route("/sales/{id:int}/default", declare_default, methods=["POST"]),
    Route("/sales/{id:int}/costs", set_costs, methods=["POST"]),
    Route("/payments", payments),
    Route("/payouts", payouts),
    Route("/payouts/{id:int}/payee", name_payee, methods=["POST"]),
]


# --- JSON -------------------------------------------------------------------------------------------

api = APIRouter(tags=["settlements"])
LIMIT = Query(ge=1, le=200)
Id = Annotated[int, Path(ge=1, le=2**53)]
AFTER = Query(ge=0, le=2**62, description="id of the last one of the page before")


@api.get("/settlements", responses=PROBLEMS)
async def list_settlements(
    request: Request, visitor: Annotated[Visitor, allowed(*SEES)], limit: Annotated[int, LIMIT] = 50,
    after: Annotated[int, AFTER] = 0,
) -> dict[str, Any]:  # fmt: skip
    """Sales that the caller sells or buys (an operator: all), newest first."""
    lines = await request.app.state.db.read_in_thread(settlement.sales, limit=limit, after=after, **_whose(visitor))
    return {"settlements": [_sale_json(line) for line in lines], "next": lines[-1].sale.id if lines else None}


@api.get("/settlements/{sale_id}", responses=PROBLEMS)
async def get_settlement(
    request: Request, visitor: Annotated[Visitor, allowed(*SEES)], sale_id: Id, after: Annotated[int, AFTER] = 0
) -> dict[str, Any]:
    """One sale with its timeline, payments and accounts, as the caller may see it; `after` pages the accounts."""
    shown: Shown = await request.app.state.db.read_in_thread(
        settlement.show_sale, sale_id, party_id=visitor.party_id, is_operator=visitor.has("operator"), after=after
    )
    currency = shown.line.sale.currency
    return {
        **_sale_json(shown.line),
        "view": shown.view,
        "steps": [{"step": one.step, "at": one.at.isoformat()} for one in shown.steps],
        "accounts": [
            {
                "id": account.id, "loan_id": account.loan_id, "status": account.status,
                "balance": amount_text(share.balance_minor, currency),
                "price": amount_text(share.price_minor, currency),
            }
            for share, account in shown.accounts
        ],
        "accounts_balance": amount_text(shown.accounts_minor, currency),
        "accounts_price": amount_text(shown.shares_minor, currency),
        "payouts": [
            {
                "reference": one.reference, "kind": one.kind, "status": one.status,
                "amount": amount_text(one.amount_minor, one.currency), "currency": one.currency,
            }
            for one in shown.payouts
        ],
    }  # fmt: skip


@api.get("/payments-due", responses=PROBLEMS)
async def list_payments_due(
    request: Request, visitor: Annotated[Visitor, allowed("investor", "operator")], limit: Annotated[int, LIMIT] = 50,
    after: Annotated[int, AFTER] = 0,
) -> dict[str, Any]:  # fmt: skip
    """Deposits and balances that the caller is expected to pay (an operator: everybody), newest first."""
    party_id = None if visitor.has("operator") else visitor.party_id
    dues = await request.app.state.db.read_in_thread(
        settlement.payments_due, party_id=party_id, limit=limit, after=after
    )
    return {"payments": [_due_json(due) for due in dues], "next": dues[-1].id if dues else None}


def _sale_json(line: SaleLine) -> dict[str, Any]:
    sale = line.sale

    def text(minor: int) -> str:
        return amount_text(minor, sale.currency)

    return {
        "id": sale.id,
        "lot": sale.lot_id,
        "lot_reference": line.lot.reference,
        "auction": sale.auction_id,
        "bidder": sale.bidder,
        "status": sale.status,
        "currency": sale.currency,
        "hammer": text(sale.hammer_minor),
        "premium": text(sale.premium_minor),
        "commission": text(sale.commission_minor),
        "deposit": text(sale.deposit_minor),
        "balance": text(sale.hammer_minor + sale.premium_minor - sale.deposit_minor),
        "due_at": sale.due_at.isoformat(),
        "payment": _due_json(line.due) if line.due else None,
    }


def _due_json(due: PaymentDue) -> dict[str, Any]:
    return {
        "id": due.id,
        "reference": due.reference,
        "kind": due.kind,
        "auction": due.auction_id,
        "currency": due.currency,
        "amount": amount_text(due.amount_minor, due.currency),
        "paid": amount_text(due.paid_minor, due.currency),
        "due_at": due.due_at.isoformat(),
        "status": due.status,
    }
