"""The first page, and the homes of the roles: what needs me now, what is live, where the money is."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from auctions.verify import read_lines, verify
from market.errors import Fault
from market.inputs import text_of
from storage import home as homes
from storage import parties
from web.render import N_, _, page, page_or_part, utc_now
from web.security import is_loopback, make_link_token, requires
from web.words import main_role


async def landing(request: Request) -> Response:
    """What this is, what is live, and the ways in."""
    state = request.app.state
    people: list[tuple[parties.DemoPerson, str]] = []
    if state.settings.demo and is_loopback(request.client.host if request.client else ""):
        for person in await request.state.db.read_in_thread(parties.demo_people):
            people.append((person, make_link_token(state.secrets.secret, person.person_id)))
    # One person of each role stands in front; the others are folded away.
    roles = [person.roles[0] for person, _ in people]
    first = [roles.index(role) for role in dict.fromkeys(roles)]
    front = await request.state.db.read_in_thread(homes.front, at=utc_now())
    return page(request, "home/landing.html", {"people": people, "first": first, "front": front})


@requires()
async def home(request: Request) -> Response:
    """The home of the visitor's role; while his party waits for admission, what happens next."""
    role, db, now = main_role(request.user.roles), request.state.db, utc_now()
    if role == "operator":
        found = await db.read_in_thread(homes.operator, at=now)
    elif role == "asset_manager":
        found = await db.read_in_thread(homes.asset_manager, request.user.party_id, at=now)
    elif role == "investor":
        found = await db.read_in_thread(homes.investor, request.user.party_id, at=now)
    else:
        party, _, _ = await db.read_in_thread(parties.party, request.user.party_id)
        return page(request, "home/waiting.html", {"party": party})
    return page_or_part(request, "home/home.html", "home/_home.html", {"role": role, "home": found})


VERIFY_BYTES = 32 * 1024 * 1024
PROBLEMS = {  # of auctions/verify.py; its other codes are breaches of the ruleset, told by the code
    "empty": N_("There is no entry."),
    "unreadable": N_("The line cannot be read."),
    "chain": N_("The hash does not fit the text and the entry before."),
    "commitment": N_("The opened private part is not the one that was committed to."),
    "sequence": N_("The numbers of the entries have a gap."),
    "time": N_("Time runs backwards."),
    "other_head": N_("The last entry is not the one given: cut off, or written anew."),
}
_HEAD = re.compile(r"[0-9]{1,12}:[0-9a-f]{64}", re.ASCII)


def problem_text(code: str) -> str:
    """What is wrong with a line of a journal, for a person."""
    return _(PROBLEMS.get(code, N_("This contradicts the rules of the auction, or what came before.")))


async def verify_page(request: Request) -> Response:
    """What a public journal proves, and how to check one without us."""
    return page(request, "home/verify.html", {"verdict": None, "problem_text": problem_text})


async def verify_journal(request: Request) -> Response:
    """Check an uploaded public journal as anybody can offline (auctions/verify.py); nothing is kept."""
    form = await request.form(max_files=1)
    file, head = form.get("journal"), text_of(form, "head").strip().lower()
    shown = {"verdict": None, "values": dict(form), "problem_text": problem_text}
    faults = []
    if not isinstance(file, UploadFile) or not file.filename:
        faults.append(Fault("missing", "journal", "", "a journal file"))
    if head and not _HEAD.fullmatch(head):
        faults.append(Fault("head_format", "head", head[:80], "SEQUENCE:HASH"))
    if faults or not isinstance(file, UploadFile):
        return page(request, "home/verify.html", shown | {"faults": faults}, status=422)
    content = await file.read()
    try:
        content.decode()
    except UnicodeDecodeError:
        faults = [Fault("not_text", "journal", "", "a journal file")]
        return page(request, "home/verify.html", shown | {"faults": faults}, status=422)
    sequence, _, stated = head.partition(":")
    verdict = await asyncio.to_thread(verify, read_lines(content), (int(sequence), stated) if head else None)
    return page(request, "home/verify.html", shown | {"verdict": verdict})


routes: list[BaseRoute] = [
    Route("/", landing),
    Route("/verify", verify_page, methods=["GET"]),
    Route("/verify", verify_journal, methods=["POST"], max_body_size=VERIFY_BYTES),
    Route("/home", home),
]
