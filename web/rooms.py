"""The lot page with its bidding room: the standing in parts, bids by form, taking part, proofs; and its JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeAlias
from uuid import uuid4

from fastapi import APIRouter, Header, Query
from fastapi import Request as ApiRequest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from auctions import proof
from auctions.bidding import Phase, Position, Standing
from auctions.journal import Entry, Fold, private_parts
from auctions.messages import ID, AutoBid, Bid, Command, Pause, PlaceBid, Refused, Resume, SetProxy, StopProxy, Withdraw
from auctions.rulesets import Terms
from market.errors import BadInput, Conflict, Fault, NotAllowed, NotFound
from market.inputs import Reader, text_of
from market.lots import AGREEMENT, UNLIMITED_MINOR, LotTerms, agreement_hash, from_ms, rules_in_words
from market.money import decimals, share_bp
from storage import journal, lots, participations
from storage.database import Database
from storage.lots import RoomFacts, Shown
from storage.tables import Participation
from web import proof as proofs
from web.api import PROBLEMS, Strict, allowed, body_of, json_body
from web.collateral import LABELS as ITEM_LABELS
from web.collateral import WORDS
from web.live import Unavailable
from web.live_messages import outside, position_facts, standing_facts
from web.lots import KIND_WORDS, read_reason, title_of
from web.render import N_, _gettext, language, page, page_or_part, part, redirect, speaking, utc_now
from web.security import Visitor, cookie_name, requires, set_cookie

BIDS_SHOWN = 400
JOURNAL_AT_ONCE = 500
OPENS_KEPT = 64  # auctions that ended, of which a node remembers what stands open
CONFIRM_STEPS = 10  # a bid that is more steps over the minimum is confirmed

Opens: TypeAlias = Callable[[dict[str, Any]], bool]  # Auction.opens

# What static/room.js says; it fills in the facts.
SCRIPT_WORDS = {
    "live": N_("live"),
    "polled": N_("not live, asked every 5 s"),
    "lost": N_("Not live: last heard %(time)s. Bidding by form still works."),
    "back": N_("Live again. Missed: %(bids)s bids."),
    "back_one": N_("Live again. Missed: 1 bid."),
    "back_none": N_("Live again. No bid was missed."),
    "back_outbid": N_("You were outbid meanwhile."),
    "back_leading": N_("You still lead."),
    "sent": N_("Sent %(time)s, waiting for the answer"),
    "checking": N_("No answer yet; checking under the same key"),
    "bidder": N_("Bidder %(number)s"),
    "bid": N_("bid"),
    "auto_bid": N_("automatic"),
    "extended": N_("extended"),
    "moved": N_("The end moved to %(time)s."),
    "outbid": N_("You are outbid. Minimum %(minimum)s."),
    "leading": N_("You lead at %(price)s."),
    "price": N_("Price"),
    "reserve": N_("reserve"),
    "you": N_("you"),
    "as_of": N_("as of %(time)s"),
    "keys": N_("Keys"),
    "sound_on": N_("Sound on outbid: on"),
    "sound_off": N_("Sound on outbid: off"),
    "keys_on": N_("Letter keys: on"),
    "keys_off": N_("Letter keys: off"),
    "next_end": N_("A bid now moves the end to %(time)s."),
    "more": N_("More"),
    "less": N_("Fold away"),
}


# --- parts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """A standing with what a page shows beside it; instants aware, amounts in minor units."""

    facts: RoomFacts
    standing: Standing
    opens_at: datetime
    closes_at: datetime
    paused_at: datetime | None
    jumps: tuple[int, ...]  # the minimum, then two that lie above it

    @property
    def terms(self) -> Terms:
        return self.facts.terms

    @property
    def places(self) -> int:
        """Decimals: none, where opening and step are whole units."""
        unit = 10 ** decimals(self.facts.currency)
        step = self.terms.step_minor or self.jumps[1] - self.jumps[0]
        return 0 if self.terms.opening_minor % unit == 0 and step % unit == 0 else decimals(self.facts.currency)

    @property
    def whole(self) -> bool:
        """Whether figures go without decimals, a choice for the whole lot."""
        return self.places == 0

    @property
    def decimals(self) -> int:
        """Decimals of the currency."""
        return decimals(self.facts.currency)

    @property
    def is_maximum(self) -> bool:
        """Whether every bid is a maximum."""
        return self.terms.ruleset.bidding.proxy == "always"

    @property
    def step_minor(self) -> int:
        """The least rise over the standing now."""
        price = self.standing.price_minor
        return self.terms.increment_minor(self.terms.opening_minor if price is None else price)


def view_of(facts: RoomFacts, standing: Standing) -> View:
    """Put a standing beside what never changes."""
    paused_at = None if standing.paused_at_ms is None else from_ms(standing.paused_at_ms)
    first = standing.minimum_minor
    second = first + facts.terms.increment_minor(first)
    third = second
    for _number in range(4):
        third += facts.terms.increment_minor(third)
    return View(
        facts, standing, from_ms(standing.opens_at_ms), from_ms(standing.closes_at_ms), paused_at,
        (first, second, third),
    )  # fmt: skip


class Parts:
    """The public parts of rooms: rendered once for each standing and language, whoever watches."""

    KEPT = 512

    def __init__(self, db: Database) -> None:
        self.db = db
        self._facts: dict[int, RoomFacts] = {}

    def facts(self, auction_id: int) -> RoomFacts:
        """What never changes about an auction; read once. The read is one row and takes less than a turn."""
        found = self._facts.get(auction_id)
        if found is None:
            found = self.db.read(lots.room_facts, auction_id)
            if len(self._facts) >= self.KEPT:
                self._facts.clear()
            self._facts[auction_id] = found
        return found

    def render(self, auction_id: int, lot_id: int, currency: str, standing: Standing, language: str) -> str:
        """The standing as parts of a page; every root element has an id (for the gateway)."""
        with speaking(language):
            return part("rooms/_live.html", {"view": view_of(self.facts(auction_id), standing)})


async def _facts(request: Request | ApiRequest, auction_id: int) -> RoomFacts:
    if not 0 < auction_id < 2**53:
        raise NotFound("auction")
    facts: RoomFacts = await request.state.db.read_in_thread(lots.room_facts, auction_id)
    return facts


# --- the lot page -----------------------------------------------------------------------------------


def bids_as(visitor: Visitor) -> int | None:
    """The party that this visitor bids for; None for who does not bid."""
    return visitor.party_id if visitor.has("investor") else None


async def show(request: Request) -> Response:
    """A lot with its room; before publication, the page as its bidders will see it."""
    visitor: Visitor = request.user
    shown: Shown = await request.state.db.read_in_thread(
        lots.lot_to_show, request.path_params["id"], party_id=visitor.party_id, person_id=visitor.id,
        is_operator=visitor.has("operator"),
    )  # fmt: skip
    context: dict[str, Any] = {"view": None, "faults": []}
    if shown.auction is not None:
        context = await _room(request, shown)
        context["answer"] = await _answer(request, shown.auction.id, request.query_params.get("answer", ""))
    return page(request, "rooms/show.html", context | _page_facts(shown))


def _page_facts(shown: Shown) -> dict[str, Any]:
    terms = LotTerms.model_validate(shown.lot.terms) if shown.lot.terms else None
    if shown.lot.frozen:
        terms = LotTerms.model_validate({**shown.lot.terms, **shown.lot.frozen["terms"]})
    ruleset = lots.rulesets().get(terms.ruleset) if terms else None
    words = rules_in_words(ruleset, terms, shown.lot.currency) if ruleset and terms else []
    return {
        "script_words": {name: _gettext(words) for name, words in SCRIPT_WORDS.items()},
        "shown": shown, "lot": shown.lot, "terms": terms, "ruleset": ruleset, "rules": words, "kinds": KIND_WORDS,
        "labels": ITEM_LABELS, "words": WORDS, "title_of": title_of,
    }  # fmt: skip


async def _room(request: Request, shown: Shown) -> dict[str, Any]:
    assert shown.auction is not None
    visitor: Visitor = request.user
    facts = await _facts(request, shown.auction.id)
    party_id = bids_as(visitor)
    standing, position = await request.app.state.gateway.look(shown.auction.id, party_id)
    rows = await request.state.db.read_in_thread(lots.bids, shown.auction.id, limit=BIDS_SHOWN)
    head = await _head(request, facts.auction_id, standing.sequence)
    proven = {"head": head, "checkpoint": await proofs.signed_checkpoint(request, head)}
    return _mine_context(request, facts, standing, position, shown) | {"bids": rows} | proven


async def _head(request: Request, auction_id: int, sequence: int) -> Entry:
    found = await request.state.db.read_in_thread(journal.entries_after, auction_id, sequence - 1, limit=1)
    entry: Entry = found[0]
    return entry


def _mine_context(
    request: Request, facts: RoomFacts, standing: Standing, position: Position | None, shown: Shown
) -> dict[str, Any]:
    """What the private parts of a room need: who is asking, where he stands, and a new key for the next command."""
    asked = shown.participation
    return {
        "view": view_of(facts, standing), "position": position, "asked": asked, "deposit": shown.deposit,
        "sale": shown.sale, "balance": shown.balance, "bank": shown.bank, "may_bid": bids_as(request.user) is not None,
        "conflict": shown.conflict, "out_of_reach": is_out_of_reach(position),
        "command_id": uuid4().hex, "agreement": AGREEMENT[language()], "lot": shown.lot, "answer": None,
        "agreement_hash": agreement_hash(shown.lot.frozen_hash), "unlimited": UNLIMITED_MINOR, "confirm": None,
        "limit_minor": position.limit_minor if position else asked.limit_minor if asked else None, "faults": [],
        "typed": "", "unknown": "", "command": None, "is_first": False,
        "confirm_from_minor": _confirm_from(request, facts.auction_id),
    }  # fmt: skip


async def _private(request: Request, auction_id: int) -> dict[str, Any]:
    """As for the whole page, for the private parts alone."""
    facts = await _facts(request, auction_id)
    visitor: Visitor = request.user
    shown = await request.state.db.read_in_thread(
        lots.lot_to_show, facts.lot_id, party_id=visitor.party_id, person_id=visitor.id,
        is_operator=visitor.has("operator"),
    )  # fmt: skip
    standing, position = await request.app.state.gateway.look(auction_id, bids_as(visitor))
    return _mine_context(request, facts, standing, position, shown)


async def live_part(request: Request) -> Response:
    """The public parts: for who has no socket."""
    auction_id = request.path_params["id"]
    facts = await _facts(request, auction_id)
    standing, _ = await request.app.state.gateway.look(auction_id)
    return page(request, "rooms/_live.html", {"view": view_of(facts, standing)})


@requires("investor")
async def mine_part(request: Request) -> Response:
    """The private parts: position, controls, and, with `answer`, what became of one's command."""
    context = await _private(request, request.path_params["id"])
    context["answer"] = await _answer(request, request.path_params["id"], request.query_params.get("answer", ""))
    return page(request, "rooms/_mine.html", context)


async def _answer(request: Request, auction_id: int, number: str) -> dict[str, Any] | None:
    """What became of this party's command at one place of the journal; None for anything that is not its own."""
    if not number.isascii() or not number.isdigit() or len(number) > 15 or number == "0":
        return None
    found = await request.state.db.read_in_thread(journal.entries_after, auction_id, int(number) - 1, limit=1)
    return answer_of(found[0], request.user.party_id) if found else None


def answer_of(entry: Entry, party_id: int | None) -> dict[str, Any] | None:
    """The answer to the command of an entry, for the party that gave it; None for all others."""
    command = private_parts(entry.private)[0]
    if party_id is None or command.get("party_id") != party_id or command["type"] in ("admit", "bar"):
        return None
    last = entry.events[-1] if entry.events else None
    bids = [event for event in entry.events if isinstance(event, Bid | AutoBid)]
    own = [event for event in bids if isinstance(event, Bid)]
    return {
        "command": command, "sequence": entry.sequence, "at": from_ms(entry.at_ms), "hash": entry.hash.hex(),
        "refused": last if isinstance(last, Refused) else None,
        "leads": bool(bids) and bids[-1] in own, "price_minor": bids[-1].amount_minor if bids else None,
    }  # fmt: skip


# --- bidding ----------------------------------------------------------------------------------------


def _command_id(reader: Reader) -> str:
    command_id = reader.raw("command_id")
    if not ID.fullmatch(command_id):
        reader.fault("choice", "command_id", command_id, "1 to 64 of A-Z a-z 0-9 _ . -")
    return command_id


@requires("investor")
async def post_bid(request: Request) -> Response:
    """Bid by form: asked to confirm where that is due, then journaled; the same `command_id` has one effect."""
    form = dict(await request.form())
    auction_id, visitor = request.path_params["id"], request.user
    context = await _private(request, auction_id)
    view: View = context["view"]
    currency = view.facts.currency
    reader = Reader(form)
    command_id = _command_id(reader)
    amount = reader.amount("amount", currency)
    try:
        reader.done()
    except BadInput as bad:
        return _panel(request, context | {"faults": bad.faults, "typed": text_of(form, "amount")[:40]}, 422)
    assert amount is not None
    position: Position | None = context["position"]
    context |= {"typed": str(form["amount"]), "command_id": command_id}
    command = PlaceBid(command_id, visitor.party_id, amount)
    # Who sends a bid again whose answer was lost is told what became of it, not asked about a further one.
    again = request.app.state.gateway.sequencer.knows(auction_id, command.scope, command_id)
    asks = _needs_confirm(view, position, amount, form, context["confirm_from_minor"])
    if asks and form.get("confirmed") != "yes" and not again:
        # Where even the minimum is above the limit there is nothing to confirm: the part says so.
        confirm = None if is_out_of_reach(position) else confirm_of(view, amount, "bid", position)
        return _panel(request, context | {"confirm": confirm}, 200)
    return await _submit(request, context, command)


def _needs_confirm(
    view: View, position: Position | None, amount_minor: int, form: Mapping[str, Any], own_minor: int | None
) -> bool:
    """The first bid on a lot, one far over the minimum, one against oneself, and what was typed are confirmed.

    `own_minor`: from which amount on the bidder himself wants to be asked.
    """
    if position is None or amount_minor > position.limit_minor:
        return False  # refused anyway, with the reason
    first = position.maximum_minor is None
    far = amount_minor > view.standing.minimum_minor + CONFIRM_STEPS * view.step_minor
    large = own_minor is not None and amount_minor >= own_minor
    return first or far or large or position.state == "leading" or form.get("step") == "review"


def is_out_of_reach(position: Position | None) -> bool:
    """Whether nothing that would be enough is within the bidder's limit any more."""
    if position is None or position.state == "leading":
        return False
    return position.minimum_minor > position.limit_minor


def confirm_of(view: View, amount_minor: int, kind: str, position: Position | None) -> dict[str, Any]:
    """What is confirmed: the amount, what comes on top, and what it would come to. `kind`: bid or proxy.

    A bid that the standing has passed (`passed_minor`) turns into the new minimum; a maximum stays what it was.
    """
    least = position.minimum_minor if position else view.standing.minimum_minor
    passed_minor = amount_minor if amount_minor < least else None
    if kind == "bid":
        amount_minor = max(amount_minor, least)
    premium = share_bp(amount_minor, view.facts.lot_terms.premium_bp)
    return {
        "kind": kind, "amount_minor": amount_minor, "premium_minor": premium, "total_minor": amount_minor + premium,
        "passed_minor": passed_minor,
    }  # fmt: skip


def _confirm_from(request: Request, auction_id: int) -> int | None:
    """From which amount on a bidder wants every bid confirmed: kept in the browser, for it decides nothing."""
    value = request.cookies.get(cookie_name(request.app.state.settings, f"confirm-{auction_id}"), "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 15 else None


@requires("investor")
async def post_confirm_from(request: Request) -> Response:
    """Keep from which amount on this bidder wants to be asked; nothing: by the room's own rules alone."""
    auction_id = request.path_params["id"]
    facts = await _facts(request, auction_id)
    reader = Reader(dict(await request.form()))
    amount = reader.amount("confirm_from", facts.currency, required=False)
    try:
        reader.done()
    except BadInput as bad:
        return _panel(request, await _private(request, auction_id) | {"faults": bad.faults}, 422)
    response = redirect(request, f"/lots/{facts.lot_id}#mine")
    value = "" if amount is None else str(amount)
    set_cookie(response, request.app.state.settings, f"confirm-{auction_id}", value, days=30)
    return response


@requires("investor")
async def post_proxy(request: Request) -> Response:
    """Let the system bid up to a maximum, always after a confirmation; or stop it."""
    form = dict(await request.form())
    context = await _private(request, request.path_params["id"])
    view: View = context["view"]
    reader = Reader(form)
    command_id = _command_id(reader)
    stop = bool(form.get("stop"))
    maximum = None if stop else reader.amount("maximum", view.facts.currency)
    try:
        reader.done()
    except BadInput as bad:
        return _panel(request, context | {"faults": bad.faults}, 422)
    if stop:
        return await _submit(request, context, StopProxy(command_id, request.user.party_id))
    assert maximum is not None
    position: Position | None = context["position"]
    is_refused = position is not None and maximum > position.limit_minor  # with the reason
    if form.get("confirmed") != "yes" and not is_refused:
        context |= {"command_id": command_id, "confirm": confirm_of(view, maximum, "proxy", position)}
        return _panel(request, context, 200)
    return await _submit(request, context, SetProxy(command_id, request.user.party_id, maximum))


async def _submit(request: Request, context: dict[str, Any], command: Command) -> Response:
    """Journal a bidder's command; answer with its part, or go to the page that shows it."""
    view: View = context["view"]
    try:
        entry = await request.app.state.gateway.submit(view.facts.auction_id, command)
    except Conflict as conflict:
        if conflict.code != "key_reused":
            raise
        first = await _answer(request, view.facts.auction_id, str(conflict.facts["sequence"]))
        return _panel(request, context | {"command_id": uuid4().hex, "answer": first, "is_first": True}, 409)
    except Unavailable as unavailable:
        # The outcome may be unknown: the form comes again under the same key, so that pressing it asks, not bids.
        again = {"command_id": command.id, "unknown": unavailable.code, "command": json.loads(command.text())}
        return _panel(request, context | again, 503)
    assert isinstance(entry, Entry)
    address = f"/lots/{view.facts.lot_id}?answer={entry.sequence}#mine"
    if request.headers.get("hx-request") != "true":
        return redirect(request, address)
    fresh = await _private(request, view.facts.auction_id)
    fresh["answer"] = answer_of(entry, request.user.party_id)
    return page(
        request, "rooms/_mine.html", fresh, status=409 if fresh["answer"] and fresh["answer"]["refused"] else 200
    )


def _panel(request: Request, context: dict[str, Any], status: int) -> Response:
    return page_or_part(request, "rooms/panel.html", "rooms/_mine.html", context, status=status)


# --- taking part --------------------------------------------------------------------------------------


@requires("investor")
async def ask(request: Request) -> Response:
    """Ask to take part: the agreement is accepted on record."""
    form = dict(await request.form())
    auction_id, visitor = request.path_params["id"], request.user
    facts = await _facts(request, auction_id)
    reader = Reader(form)
    if not reader.ticked("agreed"):
        reader.fault("declaration_missing", "agreed", "", "yes")
    limit = reader.amount("limit", facts.currency, required=False)
    try:
        reader.done()
        await request.state.db.in_thread(
            participations.ask, auction_id, visitor.party_id, agreed=reader.raw("agreement"), limit_minor=limit or 0,
            person_id=visitor.id, at=utc_now(),
        )  # fmt: skip
    except BadInput as bad:
        context = await _private(request, auction_id)
        return _panel(request, context | {"faults": bad.faults}, 422)
    return redirect(request, f"/lots/{facts.lot_id}")


@requires("operator")
async def admissions(request: Request) -> Response:
    """The parties that wait to be let into an auction."""
    return await _admissions(request, [], 200)


async def _admissions(request: Request, faults: list[Fault], status: int) -> Response:
    rows = await request.state.db.read_in_thread(participations.queue)
    return page(request, "rooms/admissions.html", {"rows": rows, "faults": faults}, status=status)


@requires("operator")
async def decide(request: Request) -> Response:
    """Let a party in, or refuse it with a reason."""
    values, asked_id = dict(await request.form()), request.path_params["id"]
    db, by = request.state.db, {"person_id": request.user.id, "at": utc_now()}
    try:
        if request.path_params["decision"] == "refuse":
            await db.in_thread(participations.refuse, asked_id, read_reason(values), **by)
        else:
            reader = Reader(values)
            rank = reader.whole("priority_rank", least=1, most=99, required=False)
            reader.done()
            await db.in_thread(participations.approve, asked_id, priority_rank=rank, **by)
    except BadInput as bad:
        return await _admissions(request, bad.faults, 422)
    request.app.state.poke()
    return redirect(request, "/participations")


@requires("investor")
async def my_bids(request: Request) -> Response:
    """Every auction that the party takes part in: deposit, position, receipts."""
    rows = await request.state.db.read_in_thread(participations.of_party, request.user.party_id)
    held: dict[str, tuple[int, int]] = {}  # currency -> auctions, minor units
    for row in rows:
        if row.deposit and row.deposit.paid_minor and row.auction.phase in participations.RUNNING:
            auctions, minor = held.get(row.auction.currency, (0, 0))
            held[row.auction.currency] = (auctions + 1, minor + row.deposit.paid_minor)
    return page(request, "rooms/mine.html", {"rows": rows, "unlimited": UNLIMITED_MINOR, "held": held})


# --- the operator -------------------------------------------------------------------------------------


@requires("operator")
async def floor(request: Request) -> Response:
    """What is on sale, by its end, with pause, resume and withdraw."""
    rows = await request.state.db.read_in_thread(lots.live_auctions)
    gateway = request.app.state.gateway
    return page(request, "rooms/floor.html", {"rows": rows, "figures": gateway.figures()})


@requires("operator")
async def control(request: Request) -> Response:
    """Pause, resume or withdraw an auction; the reason is published."""
    values, auction_id = dict(await request.form()), request.path_params["id"]
    what, visitor = request.path_params["what"], request.user
    command_id = f"{what}-{uuid4().hex}"
    reason = "" if what == "resume" else read_reason(values)
    command: Command
    match what:
        case "pause":
            command = Pause(command_id, reason, by=visitor.id)
        case "resume":
            command = Resume(command_id, by=visitor.id)
        case "withdraw":
            command = Withdraw(command_id, reason, by=visitor.id)
        case _:
            raise NotFound("auction")
    facts = await _facts(request, auction_id)
    entry = await request.app.state.gateway.submit(auction_id, command)
    if isinstance(entry, Entry) and entry.events and isinstance(refused := entry.events[-1], Refused):
        raise NotAllowed(refused.code, **refused.facts)
    if what == "withdraw":
        request.app.state.poke()  # the journal has left the rest as work: lot, accounts and deposits
    after = "/floor" if values.get("next") == "floor" else f"/lots/{facts.lot_id}"
    return redirect(request, after)


# --- proof --------------------------------------------------------------------------------------------


async def download(request: Request) -> Response:
    """The public journal, one line an entry (auctions/proof.public_line): whoever has it can check it offline."""
    auction_id = request.path_params["id"]
    facts = await _facts(request, auction_id)
    headers = {"Content-Disposition": f'attachment; filename="journal-{facts.reference}-{facts.number}.jsonl"'}
    lines = _public_lines(request.state.db, auction_id, await _opens(request, auction_id))
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


async def _opens(request: Request | ApiRequest, auction_id: int) -> Opens | None:
    """Which private facts of a journal stand open now; None: nothing does, as long as it has not ended."""
    kept: dict[int, Opens] = request.app.state.opens
    if found := kept.get(auction_id):
        return found
    standing, _ = await request.app.state.gateway.look(auction_id)
    if standing.result is None:
        return None
    fold: Fold = await request.state.db.read_in_thread(journal.load_fold, auction_id)
    if len(kept) >= OPENS_KEPT:
        kept.clear()
    kept[auction_id] = fold.auction.opens  # nothing about it changes after the end
    return kept[auction_id]


async def _public_lines(db: Database, auction_id: int, opens: Opens | None) -> AsyncIterator[str]:
    sequence = 0
    while entries := await db.read_in_thread(journal.entries_after, auction_id, sequence, limit=JOURNAL_AT_ONCE):
        sequence = entries[-1].sequence
        yield "".join(proof.public_line(entry, opens=opens) + "\n" for entry in entries)


async def checkpoint(request: Request) -> Response:
    """The newest hash of a journal under the platform's signature: fixes everything up to that entry."""
    facts = await _facts(request, request.path_params["id"])
    standing, _ = await request.app.state.gateway.look(facts.auction_id)
    head = await _head(request, facts.auction_id, standing.sequence)
    signed = await proofs.checkpoint_of(request, head)
    name = f"checkpoint-{facts.reference}-{facts.number}-{head.sequence}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(json.dumps(signed, indent=1), media_type="application/json", headers=headers)


async def calendar(request: Request) -> Response:
    """The opening and the end of an auction as a calendar file (RFC 5545), each with an alarm before."""
    facts = await _facts(request, request.path_params["id"])
    standing, _ = await request.app.state.gateway.look(facts.auction_id)
    name = facts.title_zh if language() == "zh" else facts.title_en
    address = f"{request.app.state.settings.base_url}/lots/{facts.lot_id}"
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Clearlot//EN"]
    for what, words, at_ms in (
        ("opens", _gettext("Bidding opens"), standing.opens_at_ms),
        ("closes", _gettext("Bidding ends, if it is not extended"), standing.closes_at_ms),
    ):
        at = f"{from_ms(at_ms):%Y%m%dT%H%M%SZ}"
        lines += [
            "BEGIN:VEVENT", f"UID:{what}-{facts.auction_id}@clearlot", f"DTSTAMP:{utc_now():%Y%m%dT%H%M%SZ}",
            f"DTSTART:{at}", f"DTEND:{at}", f"SUMMARY:{_ics(f'{words}: {name} ({facts.reference})')}", f"URL:{address}",
            "BEGIN:VALARM", "ACTION:DISPLAY", "TRIGGER:-PT15M", f"DESCRIPTION:{_ics(name)}", "END:VALARM", "END:VEVENT",
        ]  # fmt: skip
    text = "".join(_folded(line) + "\r\n" for line in [*lines, "END:VCALENDAR"])
    headers = {"Content-Disposition": f'attachment; filename="{facts.reference}-{facts.number}.ics"'}
    return Response(text, media_type="text/calendar; charset=utf-8", headers=headers)


def _ics(text: str) -> str:
    """Text as a calendar file has it."""
    text = " ".join(text.split())
    for mark in ("\\", ";", ","):
        text = text.replace(mark, "\\" + mark)
    return text


def _folded(line: str) -> str:
    """A line in pieces of at most 75 bytes, none of which splits a character."""
    pieces, size = [""], 0
    for character in line:
        size += len(character.encode())
        if size > 73:
            pieces, size = [*pieces, ""], len(character.encode())
        pieces[-1] += character
    return "\r\n ".join(pieces)


@requires("investor")
async def receipt(request: Request) -> Response:
    """The receipt of one's own command, as a page or as the signed text."""
    auction_id, number = request.path_params["id"], request.path_params["sequence"]
    facts = await _facts(request, auction_id)
    found = await request.state.db.read_in_thread(journal.entries_after, auction_id, number - 1, limit=1)
    answer = answer_of(found[0], request.user.party_id) if found else None
    if answer is None:
        raise NotFound("receipt")
    signed = await proofs.receipt_of(request, found[0])
    if request.query_params.get("as") == "json":
        headers = {"Content-Disposition": f'attachment; filename="receipt-{facts.reference}-{number}.json"'}
        return Response(json.dumps(signed, indent=1), media_type="application/json", headers=headers)
    context = {
        "facts": facts,
        "answer": answer,
        "signed": signed,
        "entry": found[0],
        "covering": json.loads(signed["text"])["checkpoint"]["sequence"],
    }
    return page(request, "rooms/receipt.html", context)


routes: list[BaseRoute] = [
    Route("/lots/{id:int}", show),
    Route("/auctions/{id:int}/live", live_part),
    Route("/auctions/{id:int}/mine", mine_part),
    Route("/auctions/{id:int}/bids", post_bid, methods=["POST"]),
    Route("/auctions/{id:int}/proxy", post_proxy, methods=["POST"]),
    Route("/auctions/{id:int}/confirm-from", post_confirm_from, methods=["POST"]),
    Route("/auctions/{id:int}/participations", ask, methods=["POST"]),
    Route("/auctions/{id:int}/control/{what}", control, methods=["POST"]),
    Route("/auctions/{id:int}/journal.jsonl", download),
    Route("/auctions/{id:int}/checkpoint.json", checkpoint),
    Route("/auctions/{id:int}/calendar.ics", calendar),
    Route("/auctions/{id:int}/receipts/{sequence:int}", receipt),
    Route("/participations", admissions),
    Route("/participations/{id:int}/{decision}", decide, methods=["POST"]),
    Route("/bids", my_bids),
    Route("/floor", floor),
]


# --- JSON ---------------------------------------------------------------------------------------------

api = APIRouter(tags=["auctions"])


@api.get("/auctions/{auction_id}", responses=PROBLEMS)
async def get_standing(request: ApiRequest, visitor: Annotated[Visitor, allowed()], auction_id: int) -> dict[str, Any]:
    """The standing, and for a bidder where he stands, as the live protocol has them."""
    facts = await _facts(request, auction_id)
    standing, position = await request.app.state.gateway.look(auction_id, bids_as(visitor))
    answer = standing_facts(standing, auction_id, facts.currency) | {"lot": facts.lot_id, "currency": facts.currency}
    if position is not None:
        answer["position"] = position_facts(position, auction_id, standing.sequence, facts.currency)
    return answer


@api.get("/auctions/{auction_id}/entries", responses=PROBLEMS)
async def get_entries(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed()],
    auction_id: int,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=JOURNAL_AT_ONCE)] = 100,
) -> dict[str, Any]:
    """The public journal after a sequence: exact texts, commitments and hashes."""
    await _facts(request, auction_id)
    found = await request.state.db.read_in_thread(journal.entries_after, auction_id, after, limit=limit)
    opens = await _opens(request, auction_id)
    lines = [json.loads(proof.public_line(entry, opens=opens)) for entry in found]
    return {"auction": auction_id, "entries": lines, "next": found[-1].sequence if len(found) == limit else None}


class BidBody(Strict):
    """A bid: exact text in the auction's currency; `maximum` where the ruleset has proxies."""

    amount: str
    maximum: str | None = None


@api.post("/auctions/{auction_id}/bids", responses=PROBLEMS, openapi_extra=body_of(BidBody))
async def api_bid(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed("investor")],
    auction_id: int,
    body: Annotated[BidBody, json_body(BidBody)],
    idempotency_key: Annotated[str, Header(pattern=r"^[A-Za-z0-9_.-]{1,64}$")],
) -> dict[str, Any]:
    """Bid; the same Idempotency-Key has one effect and gets the first answer. A refusal is an answer, too."""
    facts = await _facts(request, auction_id)
    reader = Reader({"amount": body.amount, "maximum": body.maximum})
    amount = reader.amount("amount", facts.currency)
    maximum = reader.amount("maximum", facts.currency, required=False)
    reader.done()
    assert amount is not None
    assert visitor.party_id is not None
    command = PlaceBid(idempotency_key, visitor.party_id, amount, maximum)
    entry = await request.app.state.gateway.submit(auction_id, command)
    answer = answer_of(entry, visitor.party_id)
    assert answer is not None
    refused = answer["refused"]
    return {
        "id": idempotency_key, "auction": auction_id, "outcome": "refused" if refused else "accepted",
        "code": refused.code if refused else None, "facts": outside(refused.facts, facts.currency) if refused else {},
        "sequence": entry.sequence, "at": answer["at"].isoformat(timespec="milliseconds"), "hash": answer["hash"],
        "leading": None if refused else answer["leads"],
    }  # fmt: skip


class AskBody(Strict):
    """To take part: the hash of the agreement (as the lot page shows it) and one's own limit."""

    agreement: str
    limit: str | None = None


def _participation_json(asked: Participation, currency: str) -> dict[str, Any]:
    limit: dict[str, Any] = outside({"limit_minor": asked.limit_minor}, currency)
    return limit | {
        "id": asked.id, "auction": asked.auction_id, "status": asked.status, "bidder": asked.bidder,
        "agreement": asked.agreement_hash, "priority_rank": asked.priority_rank, "decision": asked.decision,
    }  # fmt: skip


@api.post("/auctions/{auction_id}/participations", status_code=201, responses=PROBLEMS, openapi_extra=body_of(AskBody))
async def api_ask(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed("investor")],
    auction_id: int,
    body: Annotated[AskBody, json_body(AskBody)],
) -> dict[str, Any]:
    """Ask to take part in an auction."""
    facts = await _facts(request, auction_id)
    reader = Reader({"limit": body.limit})
    limit = reader.amount("limit", facts.currency, required=False)
    reader.done()
    await request.state.db.in_thread(
        participations.ask, auction_id, visitor.party_id, agreed=body.agreement, limit_minor=limit or 0,
        person_id=visitor.id, at=utc_now(),
    )  # fmt: skip
    asked = await request.state.db.read_in_thread(participations.participation, auction_id, visitor.party_id)
    assert asked is not None
    return _participation_json(asked, facts.currency)


@api.get("/auctions/{auction_id}/participation", responses=PROBLEMS)
async def api_participation(
    request: ApiRequest, visitor: Annotated[Visitor, allowed("investor")], auction_id: int
) -> dict[str, Any]:
    """The caller's own participation."""
    facts = await _facts(request, auction_id)
    asked = await request.state.db.read_in_thread(participations.participation, auction_id, visitor.party_id)
    if asked is None:
        raise NotFound("participation")
    return _participation_json(asked, facts.currency)


@api.post("/participations/{participation_id}/approve", responses=PROBLEMS)
async def api_approve(
    request: ApiRequest,
    visitor: Annotated[Visitor, allowed("operator")],
    participation_id: int,
    priority_rank: Annotated[int | None, Query(ge=1, le=99)] = None,
) -> dict[str, Any]:
    """Let a party in; answers with the payment reference of its deposit (null where none is asked)."""
    if not 0 < participation_id < 2**53:
        raise NotFound("participation")
    due = await request.state.db.in_thread(
        participations.approve, participation_id, priority_rank=priority_rank, person_id=visitor.id, at=utc_now()
    )
    request.app.state.poke()
    return {"id": participation_id, "reference": due.reference if due else None}


__all__ = ["Parts", "Phase", "api", "routes"]
