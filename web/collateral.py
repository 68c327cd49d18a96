"""Vehicles and property of a creditor, and their photographs: pages and JSON."""

from __future__ import annotations

from asyncio import to_thread
from collections import defaultdict
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.collateral import (
    BODIES,
    FUELS,
    OCCUPANCIES,
    PICTURE_BYTES,
    USES,
    Kind,
    Photograph,
    read_item,
    read_photograph,
)
from market.errors import BadInput, Fault
from market.inputs import Reader, text_of
from market.money import amount_text
from storage import collateral
from storage.objects import Objects
from storage.tables import Collateral
from web.render import N_, page, redirect, utc_now
from web.security import requires

ZONE = ZoneInfo("Asia/Shanghai")  # an appraisal's day is a day there
FORM_BYTES = PICTURE_BYTES + 64 * 1024

LABELS = {
    "kind": N_("Kind"), "title_zh": N_("Title in Chinese"), "title_en": N_("Title in English"), "place": N_("Place"),
    "currency": N_("Currency"), "appraisal": N_("Appraisal"), "appraisal_on": N_("Day of the appraisal"),
    "vin": N_("VIN"), "make": N_("Make"), "model": N_("Model"), "model_year": N_("Model year"),
    "odometer_km": N_("Odometer (km)"), "body": N_("Body"), "fuel": N_("Fuel"), "color": N_("Colour"),
    "keys": N_("Number of keys"), "runs": N_("Runs"), "address": N_("Address"), "use": N_("Use"),
    "area_m2": N_("Area (m²)"),
    "built_year": N_("Year built"), "title_no": N_("Title number"), "occupancy": N_("Occupancy"),
    "lease_until_on": N_("Lease until"), "encumbrances": N_("Encumbrances"), "liens": N_("Liens"),
    "loan_id": N_("Number of the overdue account"), "picture": N_("Photograph"), "caption_zh": N_("Caption in Chinese"),
    "caption_en": N_("Caption in English"),
}  # fmt: skip
WORDS = {
    "vehicle": N_("vehicle"), "property": N_("property"), "sedan": N_("sedan"), "suv": N_("SUV"), "van": N_("van"),
    "pickup": N_("pickup"), "truck": N_("truck"), "bus": N_("bus"), "motorcycle": N_("motorcycle"),
    "other": N_("other"), "petrol": N_("petrol"), "diesel": N_("diesel"),
    "hybrid": N_("hybrid drive"), "electric": N_("electric"),
    "residential": N_("residential"), "commercial": N_("commercial"), "industrial": N_("industrial"),
    "land": N_("land"),
    "parking": N_("parking space"), "vacant": N_("vacant"), "owner": N_("lived in by the owner"), "let": N_("let"),
    "unknown": N_("not known"), "portfolio": N_("portfolio"),
}  # fmt: skip
CHOICES = {"body": BODIES, "fuel": FUELS, "use": USES, "occupancy": OCCUPANCIES}


def values_of(item: Collateral, loan_id: str) -> dict[str, Any]:
    """What the form of an item shows: its facts as a person would type them."""
    values: dict[str, Any] = {name: "" if value is None else value for name, value in item.facts.items()}
    values["liens"] = "\n".join(
        f"{lien['rank']}; {lien['holder']}; {amount_text(lien['amount_minor'], item.currency)}"
        for lien in item.facts.get("liens", [])
    )
    return values | {
        "kind": item.kind,
        "title_en": item.title_en,
        "title_zh": item.title_zh,
        "place": item.place,
        "currency": item.currency,
        "appraisal": amount_text(item.appraisal_minor, item.currency),
        "appraisal_on": item.appraisal_on.isoformat(),
        "loan_id": loan_id,
    }


@requires("asset_manager")
async def index(request: Request) -> Response:
    """The creditor's items."""
    rows = await request.state.db.read_in_thread(collateral.items, request.user.party_id)
    return page(request, "collateral/index.html", {"rows": rows, "words": WORDS})


def _form(
    request: Request, values: dict[str, Any], faults: list[Fault], *, item_id: int | None, status: int
) -> Response:
    context = {
        "values": defaultdict(str, values), "faults": faults, "labels": LABELS, "words": WORDS, "choices": CHOICES,
        "item_id": item_id,
        "kind": text_of(values, "kind") or "vehicle",
    }  # fmt: skip
    return page(request, "collateral/form.html", context, status=status)


@requires("asset_manager")
async def new(request: Request) -> Response:
    """A form for an item of one kind."""
    kind = request.query_params.get("kind", "vehicle")
    kind = kind if kind in list(Kind) else "vehicle"
    return _form(request, {"kind": kind, "currency": "CNY"}, [], item_id=None, status=200)


@requires("asset_manager")
async def create(request: Request) -> Response:
    """Keep a new item."""
    values = dict(await request.form())
    visitor, now = request.user, utc_now()
    try:
        item = read_item(values, on=now.astimezone(ZONE).date())
        made = await request.state.db.in_thread(
            collateral.create_item, visitor.party_id, item, loan_id=text_of(values, "loan_id").strip(),
            person_id=visitor.id, at=now,
        )  # fmt: skip
    except BadInput as bad:
        return _form(request, values, bad.faults, item_id=None, status=422)
    return redirect(request, f"/collateral/{made}")


@requires("asset_manager")
async def show(request: Request) -> Response:
    """One item with its photographs."""
    return await _show(request, [], 200)


async def _show(request: Request, faults: list[Fault], status: int) -> Response:
    item, pictures, loan_id = await request.state.db.read_in_thread(
        collateral.item, request.user.party_id, request.path_params["id"]
    )
    context = {
        "item": item, "pictures": pictures, "loan_id": loan_id, "labels": LABELS, "words": WORDS, "faults": faults,
        "limit_mb": PICTURE_BYTES // 1024**2,
    }  # fmt: skip
    return page(request, "collateral/show.html", context, status=status)


@requires("asset_manager")
async def edit(request: Request) -> Response:
    """The form of an item."""
    item, _, loan_id = await request.state.db.read_in_thread(
        collateral.item, request.user.party_id, request.path_params["id"]
    )
    return _form(request, values_of(item, loan_id), [], item_id=item.id, status=200)


@requires("asset_manager")
async def change(request: Request) -> Response:
    """Keep an item's changes."""
    values, item_id = dict(await request.form()), request.path_params["id"]
    visitor, now = request.user, utc_now()
    try:
        item = read_item(values, on=now.astimezone(ZONE).date())
        await request.state.db.in_thread(
            collateral.edit_item, visitor.party_id, item_id, item, loan_id=text_of(values, "loan_id").strip(),
            person_id=visitor.id, at=now,
        )  # fmt: skip
    except BadInput as bad:
        return _form(request, values, bad.faults, item_id=item_id, status=422)
    return redirect(request, f"/collateral/{item_id}")


@requires("asset_manager")
async def add_picture(request: Request) -> Response:
    """Take a photograph: decoded, written anew, kept under its hash."""
    form = await request.form(max_files=1, max_fields=8)
    upload = form.get("picture")
    try:
        if not isinstance(upload, UploadFile):
            raise BadInput([Fault("missing", "picture", "", "a file")])
        photograph = await to_thread(read_photograph, await upload.read(PICTURE_BYTES + 1))
        reader = Reader(form)
        captions = (reader.line("caption_zh", most=80, least=0), reader.line("caption_en", most=120, least=0))
        reader.done()
        digest, thumbnail = await to_thread(_keep, request.app.state.objects, photograph)
        await request.state.db.in_thread(
            collateral.add_picture, request.user.party_id, request.path_params["id"], digest=digest,
            thumbnail_digest=thumbnail, size=(photograph.width, photograph.height), captions=captions,
            person_id=request.user.id, at=utc_now(),
        )  # fmt: skip
    except BadInput as bad:
        return await _show(request, bad.faults, 422)
    return redirect(request, f"/collateral/{request.path_params['id']}")


def _keep(objects: Objects, photograph: Photograph) -> tuple[str, str]:
    full = objects.put(BytesIO(photograph.full), limit_bytes=PICTURE_BYTES)
    return full.digest, objects.put(BytesIO(photograph.thumbnail), limit_bytes=PICTURE_BYTES).digest


@requires("asset_manager")
async def arrange_picture(request: Request) -> Response:
    """Make a photograph the first, or remove it."""
    form = await request.form()
    move = "remove" if form.get("move") == "remove" else "first"
    item_id = request.path_params["id"]
    await request.state.db.in_thread(
        collateral.arrange_picture, request.user.party_id, item_id, request.path_params["picture"], move,
        person_id=request.user.id, at=utc_now(),
    )  # fmt: skip
    return redirect(request, f"/collateral/{item_id}")


async def picture(request: Request) -> Response:
    """A photograph, for who may see it; written by us, so it is what it says it is."""
    visitor = request.user
    found = await request.state.db.read_in_thread(
        collateral.picture_to_show, request.path_params["picture"], party_id=visitor.party_id,
        is_operator=visitor.has("operator"),
    )  # fmt: skip
    digest = found.thumbnail_digest if request.path_params["size"] == "small" else found.digest
    headers = {
        "ETag": f'"{digest[:32]}"', "Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }  # fmt: skip
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = await to_thread(_content, request.app.state.objects, digest)
    return Response(content, media_type="image/webp", headers=headers)


def _content(objects: Objects, digest: str) -> bytes:
    with objects.get(digest) as file:
        return file.read(PICTURE_BYTES)


routes: list[BaseRoute] = [
    Route("/collateral", index),
    Route("/collateral", create, methods=["POST"]),
    Route("/collateral/new", new),
    Route("/collateral/{id:int}", show),
    Route("/collateral/{id:int}/edit", edit),
    Route("/collateral/{id:int}", change, methods=["POST"]),
    Route("/collateral/{id:int}/pictures", add_picture, methods=["POST"], max_body_size=FORM_BYTES),
    Route("/collateral/{id:int}/pictures/{picture:int}", arrange_picture, methods=["POST"]),
    Route("/pictures/{picture:int}/{size}", picture),
]
