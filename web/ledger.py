"""The books for operators: trial balance, accounts, entries, the three-way report, and traces; JSON beside."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.errors import NotFound
from market.money import amount_text
from storage import ledger, reconciliation, trace
from storage.database import Database
from storage.trace import Card
from web.api import PROBLEMS, allowed
from web.render import N_, page, utc_now
from web.security import Visitor, requires

PAGE = 100
PROOF_WORDS = {
    "bank": N_("Bank account in the ledger = last statement"),
    "suspense": N_("Suspense = lines that wait"),
    "deposits": N_("Deposits held = deposits paid and neither used nor returned"),
    "owed": N_("Payables = pay-outs due"),
    "buyers": N_("Owed by buyers = balances not paid yet"),
    "claims": N_("Accounts under contract in the ledger = overdue accounts under contract"),
    "receivable": N_("Claims in the ledger = claims not paid yet"),
    "debit_credit": N_("Debits = credits"),
}
CARD_WORDS = {
    "posting": N_("Posting"), "ledger_entry": N_("Ledger entry"), "statement_line": N_("Statement line"),
    "statement": N_("Bank statement"), "payment_due": N_("Payment due"), "sale": N_("Sale"),
    "auction_entry": N_("Journal entry"), "loan_account": N_("Overdue account"), "payout": N_("Pay-out"),
}  # fmt: skip
TIE_WORDS = {
    "start": N_("starts here"), "booked_by": N_("booked by"), "closes": N_("closes"), "reverses": N_("reverses"),
    "because_of": N_("because of"), "sent": N_("sends"), "pays": N_("pays"), "for": N_("for"),
    "paid_by": N_("paid by"), "sold_by": N_("sold by the bid"), "closed_by": N_("closed by"),
    "posted": N_("posted as"), "sold_in": N_("sold in"), "answers": N_("answers"), "owed_by": N_("owed by"),
    "sent_by": N_("sent by"), "takes_back": N_("takes back"), "taken_back_by": N_("taken back by"),
}  # fmt: skip


@requires("operator")
async def index(request: Request) -> Response:
    """The trial balance, and the proof that ledger, bank and accounts agree."""
    db = request.state.db
    lines = await db.read_in_thread(ledger.trial_balance)
    proof = await db.read_in_thread(reconciliation.three_way)
    currencies = sorted({line.currency for line in lines})
    context = {"lines": lines, "proof": proof, "currencies": currencies, "proof_words": PROOF_WORDS, "at": utc_now()}
    return page(request, "ledger/index.html", context)


@requires("operator")
async def account(request: Request) -> Response:
    """The postings of one ledger account, newest first."""
    code = request.path_params["code"]
    lines = await request.state.db.read_in_thread(
        ledger.postings_of, code, before=_number(request, "before"), limit=PAGE
    )
    if not lines:
        raise NotFound("ledger_account", code=code)
    balance = await request.state.db.read_in_thread(ledger.balance, code)
    context = {"code": code, "lines": lines, "balance": balance, "account": lines[0].account, "page_size": PAGE}
    return page(request, "ledger/account.html", context)


@requires("operator")
async def entries(request: Request) -> Response:
    """Ledger entries, newest first."""
    rows = await request.state.db.read_in_thread(ledger.entries, before=_number(request, "before"), limit=PAGE)
    return page(request, "ledger/entries.html", {"rows": rows, "page_size": PAGE})


@requires("operator")
async def entry(request: Request) -> Response:
    """One entry: debits, credits, cause, key, reversal."""
    db, entry_id = request.state.db, request.path_params["id"]
    found, lines = await db.read_in_thread(ledger.show_entry, entry_id)
    reversed_by = await db.read_in_thread(ledger.reversal_of, entry_id)
    return page(request, "ledger/entry.html", {"entry": found, "lines": lines, "reversed_by": reversed_by})


@requires("operator")
async def chain(request: Request) -> Response:
    """From one thing to everything tied to it, as a chain of cards."""
    kind, subject_id = request.path_params["kind"], request.path_params["id"]
    cards = await request.state.db.read_in_thread(trace.trace, kind, subject_id)
    context = {"cards": cards, "card_words": CARD_WORDS, "tie_words": TIE_WORDS, "address": address_of}
    return page(request, "ledger/trace.html", context)


def address_of(card: Card) -> str:
    """The page of what a card shows; "" where it has none of its own."""
    match card.kind:
        case "ledger_entry":
            return f"/ledger/entries/{card.id}"
        case "sale":
            return f"/sales/{card.id}"
        case "posting":
            return f"/ledger/accounts/{card.facts['account']}"
        case "auction_entry":
            return ""
        case kind if kind in trace.KINDS:
            return f"/trace/{kind}/{card.id}"
    return ""


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 18 else 0


routes: list[BaseRoute] = [
    Route("/ledger", index),
    Route("/ledger/entries", entries),
    Route("/ledger/entries/{id:int}", entry),
    Route("/ledger/accounts/{code:path}", account),
    Route("/trace/{kind}/{id:int}", chain),
]

# --- JSON and the command -------------------------------------------------------------------------------

api = APIRouter(tags=["ledger"])


@api.get("/ledger/trace/{kind}/{subject_id}", responses=PROBLEMS)
async def get_trace(
    request: Request, visitor: Annotated[Visitor, allowed("operator")], kind: str, subject_id: int
) -> dict[str, Any]:
    """The chain that begins at a posting, a ledger entry, a statement line, an overdue account, a sale or a pay-out."""
    if not 0 < subject_id < 2**62:
        raise NotFound(kind, id=subject_id)
    cards = await request.app.state.db.read_in_thread(trace.trace, kind, subject_id)
    return {"cards": [{"kind": one.kind, "id": one.id, "tie": one.tie, "facts": plain(one)} for one in cards]}


def plain(card: Card) -> dict[str, Any]:
    """A card's facts as JSON has them: money as exact text, days and instants in ISO form."""
    currency = str(card.facts.get("currency", "CNY"))
    facts: dict[str, Any] = {}
    for name, value in card.facts.items():
        if name.endswith("_minor"):
            facts[name.removesuffix("_minor")] = amount_text(value, currency)
        elif isinstance(value, date | datetime):
            facts[name] = value.isoformat()
        else:
            facts[name] = value
    return facts


def trace_lines(db: Database, kind: str, subject_id: int) -> list[str]:
    """What `clearlot trace` prints: one line for each card. Raises: NotFound."""
    lines = []
    for card in db.read(trace.trace, kind, subject_id):
        facts = "  ".join(f"{name}={value}" for name, value in plain(card).items() if value not in ("", None))
        lines.append(f"{TIE_WORDS[card.tie]:>16}  {card.kind} {card.id}  {facts}")
    return lines
