"""The first page, and the homes of the roles: what needs me now, what is live, where the money is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from storage import home as homes
from storage import parties
from web.render import page, page_or_part, utc_now
from web.security import is_loopback, make_link_token, requires
from web.words import main_role


async def landing(request: Request) -> Response:
    """What this is, what is live, and the ways in."""
    state = request.app.state
    people: list[tuple[parties.DemoPerson, str]] = []
    if state.settings.demo and is_loopback(request.client.host if request.client else ""):
        for person in await request.state.db.read_in_thread(parties.demo_people):
            people.append((person, make_link_token(state.secrets.secret, person.person_id)))
    front = await request.state.db.read_in_thread(homes.front, at=utc_now())
    return page(request, "home/landing.html", {"people": people, "front": front})


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


routes: list[BaseRoute] = [
    Route("/", landing),
    Route("/home", home),
]
