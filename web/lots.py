"""The catalogue, the lot wizard, the operator's queue of lots: pages, and JSON under /api/v1/lots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from fastapi import Request as ApiRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from auctions.rulesets import Ruleset
from market.errors import BadInput, Conflict, Fault, NotFound
from market.inputs import Reader, text_of
from market.lots import KINDS, TERMS_OPEN, LotTerms, canonical, read_draft, read_terms_of, rules_in_words
from market.money import DECIMALS, amount_text
from storage import lots
from storage.lots import Card, Filters, Shown
from storage.tables import Lot
from web.api import PROBLEMS, Strict, allowed, body_of, json_body
from web.portfolios import spark
from web.render import N_, _, language, page, page_or_part, redirect, share, utc_now
from web.security import Visitor, requires

KIND_WORDS = {"portfolio": N_("Portfolio"), "vehicle": N_("Vehicle"), "property": N_("Property")}
SORT_WORDS = {
    "closing": N_("Closing soonest"), "newest": N_("Newest"), "price": N_("Price, lowest first"),
    "price_down": N_("Price, highest first"),
}  # fmt: skip
LABELS = {
    "kind": N_("Kind"), "content_id": N_("What is sold"), "title_zh": N_("Title in Chinese"),
    "title_en": N_("Title in English"), "text_zh": N_("Description in Chinese"),
    "text_en": N_("Description in English"),
    "place": N_("Place"), "ruleset": N_("Ruleset"), "opening": N_("Opening"), "step": N_("Increment"),
    "reserve": N_("Reserve"), "reserve_amount": N_("Amount of the reserve"), "deposit": N_("Deposit"),
    "opens_at": N_("Bidding opens"), "closes_at": N_("Bidding closes"),
    "balance_due_days": N_("Business days to pay the balance"), "premium": N_("Buyer's premium (%%)"),
    "commission": N_("Seller's commission (%%)"), "appraisal": N_("Appraisal"),
    "appraisal_on": N_("Day of the appraisal"), "limit_per_deposit": N_("Limit, as a multiple of the deposit"),
    "zone": N_("Time zone"), "reason": N_("Reason"), "terms": N_("Terms"),
}  # fmt: skip
STEPS = (
    ("what", N_("What is sold")), ("terms", N_("Ruleset, price, dates")), ("texts", N_("Texts")),
    ("submit", N_("Preview and submit")),
)  # fmt: skip
REASON_MOST = 500


def title_of(ruleset: Ruleset) -> str:
    """What a ruleset is called, in the reader's language."""
    return ruleset.title["zh" if language() == "zh" else "en"]


def ruleset_title(name: str) -> str:
    """As `title_of`, by the name that an auction keeps (`name` or `name@version`)."""
    found = lots.rulesets().get(name.partition("@")[0])
    return title_of(found) if found else name


# --- the catalogue ----------------------------------------------------------------------------------


def read_filters(request: Request) -> Filters:
    """What the address asks for; what is not understood is left out, since an address may be old."""
    query = request.query_params
    several = {name: tuple(dict.fromkeys(query.getlist(name)))[:10] for name in ("kind", "ruleset", "state")}
    reader = Reader({name: query.get(name, "") for name in ("least", "most", "page", "q")})
    currency = query.get("currency", "")
    currency = currency if currency in DECIMALS else ""
    number = reader.whole("page", least=1, most=10_000, required=False)
    return Filters(
        kinds=tuple(one for one in several["kind"] if one in KINDS),
        rulesets=tuple(one for one in several["ruleset"] if one in lots.rulesets()),
        states=tuple(one for one in several["state"] if one in lots.STATES),
        currency=currency,
        least_minor=reader.amount("least", currency or "CNY", required=False),
        most_minor=reader.amount("most", currency or "CNY", required=False),
        text=reader.line("q", most=60, least=0),
        watched_by=request.user.id if query.get("watched") else None,
        sort=query.get("sort", "") if query.get("sort", "") in lots.SORTS else "closing",
        page=number or 1,
    )


async def catalogue(request: Request) -> Response:
    """The published lots, by facets; live on one socket for what is in view."""
    filters = read_filters(request)
    found = await request.state.db.read_in_thread(lots.catalogue, filters, person_id=request.user.id)
    context = {
        "found": found, "filters": filters, "kinds": KIND_WORDS, "sorts": SORT_WORDS, "states": lots.STATES,
        "ruleset_title": ruleset_title, "currencies": ("CNY", "USD", "EUR", "HKD", "BRL"),
        "spark": spark,
    }  # fmt: skip
    return page_or_part(request, "lots/catalogue.html", "lots/_cards.html", context)


@requires()
async def watch(request: Request) -> Response:
    """Follow a lot, or stop."""
    form = await request.form()
    lot_id = request.path_params["id"]
    follow = form.get("follow") == "yes"
    await request.state.db.in_thread(lots.watch, request.user.id, lot_id, follow=follow)
    if request.headers.get("hx-request") == "true":
        return page(request, "lots/_watch.html", {"lot_id": lot_id, "watched": follow})
    after = text_of(form, "next")
    return redirect(request, after if after == "/lots" or after.startswith("/lots?") else f"/lots/{lot_id}")


async def rules(request: Request) -> Response:
    """The rulesets in words."""
    return page(request, "lots/rules.html", {"rulesets": lots.rulesets().values(), "title_of": title_of})


# --- the creditor -----------------------------------------------------------------------------------


@requires("asset_manager")
async def mine(request: Request) -> Response:
    """The creditor's lots."""
    cards = await request.state.db.read_in_thread(lots.own_lots, request.user.party_id)
    return page(request, "lots/mine.html", {"cards": cards, "kinds": KIND_WORDS, "ruleset_title": ruleset_title})


@requires("asset_manager")
async def wall(request: Request) -> Response:
    """All running lots of the creditor at once."""
    cards = await request.state.db.read_in_thread(lots.own_lots, request.user.party_id)
    running = [card for card in cards if card.state in ("open", "paused", "upcoming")][:40]
    return page(request, "lots/wall.html", {"cards": sorted(running, key=lambda card: card.lot.closes_at or utc_now())})


async def _wizard(
    request: Request, step: str, lot: Lot | None, values: Mapping[str, Any], faults: list[Fault], status: int = 200
) -> Response:
    db, visitor = request.state.db, request.user
    choices = await db.read_in_thread(lots.choices, visitor.party_id)
    checks = await db.read_in_thread(lots.listing_checks, lot, at=utc_now()) if lot else []
    if lot is not None and (mine := lot.portfolio_id or lot.collateral_id):
        choices.setdefault(lot.kind, []).insert(0, (mine, lot.title_en, lot.title_zh))
    rulesets = lots.rulesets()
    context = {
        "stepped": ", ".join(title_of(one) for one in rulesets.values() if one.bidding.increments.kind == "listing"),
        "deposit_rules": " ".join(_deposit_rule(one) for one in rulesets.values() if one.listing.deposit_least_bp),
        "step": step, "steps": STEPS, "lot": lot, "values": defaultdict(str, values), "faults": faults,
        "labels": {name: _(words) for name, words in LABELS.items()}, "choices": choices, "kinds": KIND_WORDS,
        "rulesets": rulesets, "title_of": title_of, "checks": checks,
        "terms": LotTerms.model_validate(lot.terms) if lot and lot.terms else None, "words": rules_in_words,
    }  # fmt: skip
    return page(request, "lots/wizard.html", context, status=status)


def _deposit_rule(ruleset: Ruleset) -> str:
    listing = ruleset.listing
    least, most = share(listing.deposit_least_bp or 0), share(listing.deposit_most_bp or 10_000)
    return _("%(ruleset)s: %(least)s to %(most)s of the opening.", ruleset=title_of(ruleset), least=least, most=most)


def _described(lot: Lot) -> dict[str, Any]:
    names = ("kind", "title_en", "title_zh", "text_en", "text_zh", "place")
    return {name: getattr(lot, name) for name in names} | {"content_id": str(lot.portfolio_id or lot.collateral_id)}


def _terms_typed(lot: Lot) -> dict[str, Any]:
    """The terms as a person would type them; a ruleset and what usually goes with it, when there are none yet."""
    if not lot.terms:
        return {"ruleset": "english-proxy-soft-close", "balance_due_days": "10", "zone": "Asia/Shanghai"}
    terms = LotTerms.model_validate(lot.terms)
    zone = ZoneInfo(terms.zone)
    typed: dict[str, Any] = {
        "ruleset": terms.ruleset, "reserve": terms.reserve, "balance_due_days": str(terms.balance_due_days),
        "premium": f"{terms.premium_bp / 100:g}", "commission": f"{terms.commission_bp / 100:g}", "zone": terms.zone,
        "opens_at": f"{terms.opens_at.astimezone(zone):%Y-%m-%dT%H:%M}",
        "closes_at": f"{terms.closes_at.astimezone(zone):%Y-%m-%dT%H:%M}",
        "appraisal_on": terms.appraisal_on.isoformat() if terms.appraisal_on else "",
        "limit_per_deposit": f"{terms.limit_per_deposit_bp / 10_000:g}" if terms.limit_per_deposit_bp else "",
    }  # fmt: skip
    amounts = {
        "opening": terms.opening_minor, "step": terms.step_minor, "reserve_amount": terms.reserve_minor,
        "deposit": terms.deposit_minor, "appraisal": terms.appraisal_minor,
    }  # fmt: skip
    return typed | {name: amount_text(one, lot.currency) for name, one in amounts.items() if one is not None}


@requires("asset_manager")
async def new(request: Request) -> Response:
    """The wizard's first step."""
    return await _wizard(request, "what", None, dict(request.query_params), [])


@requires("asset_manager")
async def create(request: Request) -> Response:
    """Keep a new draft, then go on to its terms."""
    values = dict(await request.form())
    try:
        made = await request.state.db.in_thread(
            lots.create_lot, request.user.party_id, read_draft(values), person_id=request.user.id, at=utc_now()
        )
    except BadInput as bad:
        return await _wizard(request, "what", None, values, bad.faults, 422)
    return redirect(request, f"/lots/{made}/edit?step=terms")


@requires("asset_manager")
async def edit(request: Request) -> Response:
    """A step of the wizard for a lot that is there."""
    lot = await request.state.db.read_in_thread(lots.own_lot, request.user.party_id, request.path_params["id"])
    if lot.status not in TERMS_OPEN:
        return redirect(request, f"/lots/{lot.id}")
    step = request.query_params.get("step", "what")
    step = step if step in dict(STEPS) else "what"
    return await _wizard(request, step, lot, _terms_typed(lot) if step == "terms" else _described(lot), [])


@requires("asset_manager")
async def save(request: Request) -> Response:
    """Keep a step of the wizard and go to the next."""
    values, step = dict(await request.form()), request.path_params["step"]
    db, visitor, lot_id = request.state.db, request.user, request.path_params["id"]
    lot = await db.read_in_thread(lots.own_lot, visitor.party_id, lot_id)
    by = {"person_id": visitor.id, "at": utc_now()}
    after = {"what": "terms", "terms": "texts", "texts": "submit"}
    try:
        if step == "terms":
            terms = read_terms_of(values, lot.currency, lots.rulesets())
            await db.in_thread(lots.set_terms, visitor.party_id, lot_id, terms, **by)
        elif step in ("what", "texts"):
            draft = read_draft({**_described(lot), **values})
            await db.in_thread(lots.edit_lot, visitor.party_id, lot_id, draft, **by)
        elif step == "submit":
            await db.in_thread(lots.submit, visitor.party_id, lot_id, **by)
            return redirect(request, f"/lots/{lot_id}")
        elif step == "put-away":
            await db.in_thread(lots.delete_draft, visitor.party_id, lot_id, **by)
            return redirect(request, "/lots/mine")
        else:
            raise NotFound("step")
    except BadInput as bad:
        return await _wizard(request, step, lot, values, bad.faults, 422)
    return redirect(request, f"/lots/{lot_id}/edit?step={after[step]}")


# --- the operator -----------------------------------------------------------------------------------


def _terms_of(lot: Lot) -> LotTerms:
    return LotTerms.model_validate(lot.terms)


@requires("operator")
async def queue(request: Request) -> Response:
    """The lots that wait for a decision."""
    rows = await request.state.db.read_in_thread(lots.queue)
    return page(request, "lots/queue.html", {"rows": rows, "kinds": KIND_WORDS, "terms_of": _terms_of})


@requires("operator")
async def review(request: Request) -> Response:
    """One lot, everything that its bidders will see, its checks, and the decision."""
    return await _review(request, [], 200)


async def _review(request: Request, faults: list[Fault], status: int) -> Response:
    db, visitor = request.state.db, request.user
    shown: Shown = await db.read_in_thread(
        lots.lot_to_show, request.path_params["id"], party_id=visitor.party_id, person_id=visitor.id, is_operator=True
    )
    checks = await db.read_in_thread(lots.listing_checks, shown.lot, at=utc_now())
    context = {
        "shown": shown, "lot": shown.lot, "checks": checks, "faults": faults, "kinds": KIND_WORDS,
        "terms": LotTerms.model_validate(shown.lot.terms) if shown.lot.terms else None, "title_of": ruleset_title,
    }  # fmt: skip
    return page(request, "lots/review.html", context, status=status)


def read_reason(values: Mapping[str, object]) -> str:
    """The reason of a decision, which the party reads. Raises BadInput `reason_missing`."""
    reader = Reader(values)
    reason = reader.prose("reason", most=REASON_MOST, least=1)
    if any(fault.code == "missing" for fault in reader.faults):
        raise BadInput([Fault("reason_missing", "reason", "", f"1 to {REASON_MOST} characters")])
    reader.done()
    return reason


@requires("operator")
async def decide(request: Request) -> Response:
    """Approve and publish a lot, or send it back with a reason."""
    values, lot_id = dict(await request.form()), request.path_params["id"]
    db, visitor = request.state.db, request.user
    try:
        if request.path_params["decision"] == "send-back":
            await db.in_thread(lots.send_back, lot_id, read_reason(values), person_id=visitor.id, at=utc_now())
        else:
            await approve_and_publish(request, lot_id, visitor)
    except BadInput as bad:
        return await _review(request, bad.faults, 422)
    return redirect(request, "/lots/queue")


async def approve_and_publish(request: Request | ApiRequest, lot_id: int, visitor: Visitor) -> int:
    """Approve a lot, if it is not yet, and publish it; return its auction. What it sells is hashed before the lock."""
    db, now = request.state.db, utc_now()
    content = await db.read_in_thread(lots.content_of, lot_id)
    auction_id: int = await db.in_thread(_approve_and_publish, lot_id, content, person_id=visitor.id, at=now)
    return auction_id


def _approve_and_publish(session: Any, lot_id: int, content: Mapping[str, Any], **by: Any) -> int:
    lots.approve(session, lot_id, **by)
    return lots.publish(session, lot_id, content, **by)


async def frozen(request: Request) -> Response:
    """What was hashed when the lot was published, byte for byte: SHA-256 of this file is the lot's hash."""
    visitor = request.user
    shown = await request.state.db.read_in_thread(
        lots.lot_to_show, request.path_params["id"], party_id=visitor.party_id, person_id=visitor.id,
        is_operator=visitor.has("operator"),
    )  # fmt: skip
    if shown.lot.frozen is None or shown.lot.published_at is None:
        raise NotFound("lot")
    headers = {"Content-Disposition": f'attachment; filename="lot-{shown.lot.reference}.json"'}
    return Response(canonical(shown.lot.frozen), media_type="application/json", headers=headers)


routes: list[BaseRoute] = [
    Route("/lots", catalogue),
    Route("/lots", create, methods=["POST"]),
    Route("/lots/new", new),
    Route("/lots/mine", mine),
    Route("/lots/wall", wall),
    Route("/lots/queue", queue),
    Route("/lots/queue/{id:int}", review),
    Route("/lots/queue/{id:int}/{decision}", decide, methods=["POST"]),
    Route("/lots/{id:int}/edit", edit),
    Route("/lots/{id:int}/edit/{step}", save, methods=["POST"]),
    Route("/lots/{id:int}/watch", watch, methods=["POST"]),
    Route("/lots/{id:int}/frozen.json", frozen),
    Route("/rules", rules),
]


# --- JSON ---------------------------------------------------------------------------------------------

api = APIRouter(tags=["lots"])
MOST_AT_ONCE = 100


def lot_json(card: Card | Shown) -> dict[str, Any]:
    """A lot with its newest auction, as programs get it: amounts as exact text, instants in UTC."""
    lot, auction = card.lot, card.auction
    terms = dict((lot.frozen or {}).get("terms") or lot.terms)
    amounts = {
        name.removesuffix("_minor"): amount_text(terms.pop(name), lot.currency)
        for name in list(terms)
        if name.endswith("_minor")
    }
    return {
        "id": lot.id,
        "reference": lot.reference,
        "kind": lot.kind,
        "status": lot.status,
        "currency": lot.currency,
        "title": {"en": lot.title_en, "zh": lot.title_zh},
        "place": lot.place,
        "terms": terms | amounts,
        "hash": lot.frozen_hash or None,
        "published_at": lot.published_at.isoformat() if lot.published_at else None,
        "auction": auction
        and {
            "id": auction.id,
            "number": auction.number,
            "ruleset": auction.ruleset,
            "phase": auction.phase,
            "price": None if auction.price_minor is None else amount_text(auction.price_minor, lot.currency),
            "bids": auction.bids,
            "opens_at": auction.opens_at.isoformat(),
            "closes_at": auction.closes_at.isoformat(),
            "outcome": auction.outcome,
        },
    }


@api.get("/lots", responses=PROBLEMS)
async def list_lots(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed()],
    cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_AT_ONCE)] = 50,
    state: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """Published lots in the order of their ids, after `cursor`."""
    if state and state not in lots.STATES:
        raise BadInput([Fault("choice", "state", state[:40], ", ".join(lots.STATES))])
    if kind and kind not in KINDS:
        raise BadInput([Fault("choice", "kind", kind[:40], ", ".join(KINDS))])
    cards = await request.state.db.read_in_thread(lots.after, cursor, limit=limit, state=state, kind=kind)
    return {
        "lots": [lot_json(card) for card in cards],
        "next": cards[-1].lot.id if len(cards) == limit else None,
    }


@api.get("/lots/{lot_id}", responses=PROBLEMS)
async def get_lot(request: ApiRequest, visitor: Annotated[Visitor, allowed()], lot_id: int) -> dict[str, Any]:
    """One lot that the caller may see."""
    shown = await _shown(request, visitor, lot_id)
    return lot_json(shown) | {"text": {"en": shown.lot.text_en, "zh": shown.lot.text_zh}, "frozen": shown.lot.frozen}


async def _shown(request: ApiRequest, visitor: Visitor, lot_id: int) -> Shown:
    shown: Shown = await request.state.db.read_in_thread(
        lots.lot_to_show, _id(lot_id), party_id=visitor.party_id, person_id=visitor.id,
        is_operator=visitor.has("operator"),
    )  # fmt: skip
    return shown


def _id(number: int) -> int:
    if not 0 < number < 2**53:
        raise NotFound("lot")
    return number


class LotBody(Strict):
    """A new lot with its terms; amounts are exact text, percentages have at most two decimals, both as text."""

    kind: str
    content_id: int
    title_en: str
    title_zh: str
    text_en: str = ""
    text_zh: str = ""
    place: str = ""
    ruleset: str
    opening: str
    step: str = ""
    reserve: str = ""
    reserve_amount: str = ""
    deposit: str
    opens_at: str
    closes_at: str
    balance_due_days: int
    premium: str = ""
    commission: str = ""
    appraisal: str = ""
    appraisal_on: str = ""
    limit_per_deposit: str = ""
    zone: str = "UTC"


@api.post("/lots", status_code=201, responses=PROBLEMS, openapi_extra=body_of(LotBody))
async def post_lot(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed("asset_manager")],
    body: Annotated[LotBody, json_body(LotBody)],
) -> JSONResponse:
    """Make a draft with its terms."""
    values = {name: str(value) for name, value in body.model_dump().items()}
    draft = read_draft(values)
    lot_id = await request.state.db.in_thread(_create, visitor, draft, values)
    shown = await _shown(request, visitor, lot_id)
    return JSONResponse(lot_json(shown), 201, headers={"Location": f"/api/v1/lots/{lot_id}"})


def _create(session: Any, visitor: Visitor, draft: Any, values: Mapping[str, str]) -> int:
    by: dict[str, Any] = {"person_id": visitor.id, "at": utc_now()}
    assert visitor.party_id is not None
    lot_id = lots.create_lot(session, visitor.party_id, draft, **by)
    currency = lots.own_lot(session, visitor.party_id, lot_id).currency
    lots.set_terms(session, visitor.party_id, lot_id, read_terms_of(values, currency, lots.rulesets()), **by)
    return lot_id


@api.post("/lots/{lot_id}/submit", responses=PROBLEMS)
async def submit_lot(
    request: ApiRequest, visitor: Annotated[Visitor, allowed("asset_manager")], lot_id: int
) -> dict[str, Any]:
    """Hand a draft to the operator; 422 names every rule of the ruleset that does not hold."""
    await request.state.db.in_thread(lots.submit, visitor.party_id, _id(lot_id), person_id=visitor.id, at=utc_now())
    return lot_json(await _shown(request, visitor, lot_id))


@api.post("/lots/{lot_id}/publish", responses=PROBLEMS)
async def publish_lot(
    request: ApiRequest, visitor: Annotated[Visitor, allowed("operator")], lot_id: int
) -> dict[str, Any]:
    """Approve a submitted lot and publish it."""
    if (await _shown(request, visitor, lot_id)).lot.status != "submitted":
        raise Conflict("lot_status", to="published")
    await approve_and_publish(request, lot_id, visitor)
    return lot_json(await _shown(request, visitor, lot_id))
