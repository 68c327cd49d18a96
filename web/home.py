"""The first page, and the homes of the roles: what needs me now, what is live, where the money is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from storage import parties
from web.render import page
from web.security import make_link_token, requires
from web.words import main_role


async def landing(request: Request) -> Response:
    """What this is, what is live, and the ways in."""
    state = request.app.state
    people = []
    if state.settings.demo:
        for person in await request.state.db.read_in_thread(parties.demo_people):
            people.append((person, make_link_token(state.secrets.secret, person.person_id)))
    return page(request, "home/landing.html", {"people": people})


@requires()
async def home(request: Request) -> Response:
    """The home of the visitor's role."""
    return page(request, "home/home.html", {"role": main_role(request.user.roles)})


routes: list[BaseRoute] = [
    Route("/", landing),
    Route("/home", home),
]
