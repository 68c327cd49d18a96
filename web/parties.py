"""Signing in and out, registering, the settings of a person, and the operator's admission of parties."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.errors import Conflict, Fault, MarketError, NotFound
from market.parties import name_key
from storage import parties
from web.render import page, redirect, utc_now
from web.security import (
    begin_session,
    end_session,
    hash_token,
    is_loopback,
    read_link_token,
)

# RFC 9106 leaves the choice; OWASP's second one: 19 MiB, 2 passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
NOBODY = HASHER.hash("nobody has this password")  # checked for unknown people, so that both take the same time
_hashing = ThreadPoolExecutor(2, thread_name_prefix="argon2")  # 19 MiB each

FORGET_AFTER = timedelta(minutes=15)
FREE_TRIES = 5  # from one address for one account; then pauses that double
LONGEST_PAUSE_S = 300
FREE_TRIES_OF_ADDRESS = 50
SLOW_FROM = 10  # tries for one account from anywhere: answers slow down, but are never refused for that
SLOWEST_S = 3.0


class TooManyTries(MarketError):
    """Somebody tries passwords."""

    status = 429


async def sign_in_page(request: Request) -> Response:
    """Two fields."""
    if request.user.is_authenticated:
        return redirect(request, "/home")
    return page(request, "parties/sign_in.html", {"next": _local(request.query_params.get("next", ""))})


async def sign_in(request: Request) -> Response:
    """Check name and password: the same answer, in the same time, for unknown and wrong."""
    form = await request.form()
    email, password = str(form.get("email", ""))[:254], str(form.get("password", ""))[:200]
    after = _local(str(form.get("next", "")))
    db, now = request.state.db, utc_now()
    address = request.client.host if request.client else ""
    keys = [_failure_key(name_key(email), address), _failure_key(name_key(email)), _failure_key("", address)]
    counts = await db.read_in_thread(parties.failures, keys, since=now - FORGET_AFTER)
    (here, here_at), (account, _), (at_address, address_at) = counts
    for count, last, free in ((here, here_at, FREE_TRIES), (at_address, address_at, FREE_TRIES_OF_ADDRESS)):
        if count >= free and last is not None:
            pause = min(2.0 ** (count - free + 1), LONGEST_PAUSE_S)
            left = pause - (now - last).total_seconds()
            if left > 0:
                raise TooManyTries("sign_in_slowed", seconds=int(left) + 1)
    if account >= SLOW_FROM:
        await asyncio.sleep(min(0.25 * (account - SLOW_FROM + 1), SLOWEST_S))
    known = await db.read_in_thread(parties.credentials, email)
    right = await verify(known.password_hash if known else NOBODY, password)
    if known is None or not right:
        await db.in_thread(parties.note_failures, keys, at=now, keep_since=now - FORGET_AFTER)
        context = {"next": after, "values": {"email": email}, "faults": [Fault("sign_in_failed", "", "", "")]}
        return page(request, "parties/sign_in.html", context, status=422)
    await db.in_thread(parties.forget_failures, keys[0])
    response = redirect(request, after or "/home")
    await begin_session(request, response, known.person_id)
    return response


def _failure_key(account: str, address: str = "") -> str:
    return hashlib.sha256(f"{account}\n{address}".encode()).hexdigest()


async def verify(password_hash: str, password: str) -> bool:
    """Whether the password is right; the time does not depend on the answer."""
    return await asyncio.get_running_loop().run_in_executor(_hashing, _verify, password_hash, password)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


async def hash_password(password: str) -> str:
    """What is kept of a password (argon2id)."""
    return await asyncio.get_running_loop().run_in_executor(_hashing, HASHER.hash, password)


def _local(address: str) -> str:
    """An address of ours to go on to, or nothing."""
    ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address[:2000] if ours and "\\" not in address else ""


async def sign_out(request: Request) -> Response:
    """End the session on the server."""
    response = redirect(request, "/")
    await end_session(request, response)
    return response


async def demo_sign_in(request: Request) -> Response:
    """Sign in with a one-time token of the first page; only in demo mode, and only for this machine."""
    settings = request.app.state.settings
    if not settings.demo or not is_loopback(request.client.host if request.client else ""):
        raise NotFound("page")
    token = str((await request.form()).get("token", ""))
    person_id = read_link_token(request.app.state.secrets.secret, token)
    if person_id is None:
        raise Conflict("link_used")
    await request.state.db.in_thread(parties.use_link, person_id, token_hash=hash_token(token), at=utc_now())
    response = redirect(request, "/home")
    await begin_session(request, response, person_id)
    return response


routes: list[BaseRoute] = [
    Route("/sign-in", sign_in_page, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/demo/sign-in", demo_sign_in, methods=["POST"]),
]
