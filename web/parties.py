"""Signing in and out, registering, the settings of a person, and the operator's admission of parties."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from market.errors import BadInput, Conflict, Fault, MarketError, NotFound
from market.inputs import Reader, text_of
from market.parties import DECLARATIONS, MOVES, SCOPES, name_key, read_key, read_new_password, read_registration
from storage import parties
from web.render import LANGUAGES, page, redirect, utc_now
from web.security import (
    begin_session,
    cookie_name,
    end_session,
    hash_token,
    is_loopback,
    new_key,
    read_link_token,
    requires,
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
    context: dict[str, object] = {"next": _local(request.query_params.get("next", "")), "ended": ("", "")}
    if token := request.cookies.get(cookie_name(request.app.state.settings)):
        # A session that is over: whoever was sent here by surprise reads why.
        ended = await request.state.db.read_in_thread(parties.why_ended, hash_token(token), at=utc_now())
        context["ended"] = ended
    return page(request, "parties/sign_in.html", context)


async def sign_in(request: Request) -> Response:
    """Check name and password: the same answer, in the same time, for unknown and wrong."""
    form = await request.form()
    email, password = text_of(form, "email")[:254], text_of(form, "password")[:200]
    after = _local(text_of(form, "next"))
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
        faults = [Fault("sign_in_failed", "", "", "")]
        context = {"next": after, "values": {"email": email}, "faults": faults, "ended": ("", "")}
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
    token = text_of(await request.form(), "token")
    person_id = read_link_token(request.app.state.secrets.secret, token)
    if person_id is None:
        raise Conflict("link_used")
    await request.state.db.in_thread(parties.use_link, person_id, token_hash=hash_token(token), at=utc_now())
    response = redirect(request, "/home")
    await begin_session(request, response, person_id)
    return response


# --- registering ---------------------------------------------------------------------------------


async def register_page(request: Request) -> Response:
    """The form of a party and its first person."""
    return page(request, "parties/register.html", {"declarations": DECLARATIONS})


async def register(request: Request) -> Response:
    """Keep a party that waits for admission, and sign its person in."""
    form = dict(await request.form())
    try:
        asked, password = read_registration(form, language=request.user.language)
        person_id = await request.state.db.in_thread(
            parties.register, asked, password_hash=await hash_password(password), at=utc_now()
        )
    except BadInput as bad:
        context = {"declarations": DECLARATIONS, "values": form, "faults": bad.faults}
        return page(request, "parties/register.html", context, status=422)
    response = redirect(request, "/home")
    await begin_session(request, response, person_id)
    return response


# --- the operator's parties ----------------------------------------------------------------------

STATUSES = ("registered", "admitted", "refused", "suspended")
PAGE = 50


@requires("operator")
async def index(request: Request) -> Response:
    """All parties, or those of one status; the longest waiting first."""
    status = request.query_params.get("status", "")
    after = request.query_params.get("after", "0")
    lines, total = await request.state.db.read_in_thread(
        parties.parties, status=status if status in STATUSES else "",
        after=int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0, limit=PAGE,
    )  # fmt: skip
    context = {"lines": lines, "total": total, "status": status, "statuses": STATUSES, "first": after == "0"}
    return page(request, "parties/index.html", {**context, "more": lines[-1].id if len(lines) == PAGE else None})


@requires("operator")
async def show(request: Request) -> Response:
    """One party with its people, what was done with it, and the decision to take."""
    return await _show(request)


async def _show(request: Request, faults: Sequence[Fault] = (), values: Mapping[str, object] | None = None) -> Response:
    party, people, trail = await request.state.db.read_in_thread(parties.party, request.path_params["id"])
    context = {
        "party": party, "people": people, "trail": trail, "moves": sorted(MOVES[party.status]), "faults": list(faults),
        "values": dict(values or {}),
    }  # fmt: skip
    return page(request, "parties/show.html", context, status=422 if faults else 200)


@requires("operator")
async def decide(request: Request) -> Response:
    """Admit, refuse or suspend; the party reads the reason. What it says no to, it says why."""
    form = Reader(dict(await request.form()))
    status = form.choice("status", tuple(MOVES))
    reason = form.prose("reason", most=500)
    if status in ("refused", "suspended") and not reason and not form.faults:
        form.fault("reason_missing", "reason", "", "a reason")
    if form.faults:
        return await _show(request, form.faults, form.values)
    ended = await request.state.db.in_thread(
        parties.decide, request.path_params["id"], status=status, reason=reason, person_id=request.user.id, at=utc_now()
    )
    _end_sockets(request, ended)
    return redirect(request, f"/parties/{request.path_params['id']}")


def _end_sockets(request: Request, token_hashes: Collection[str]) -> None:
    gateway = request.app.state.gateway
    for token_hash in token_hashes if gateway is not None else ():
        gateway.end_session(token_hash)


# --- settings ------------------------------------------------------------------------------------


@requires()
async def settings_page(request: Request) -> Response:
    """One form a card; each is saved alone."""
    return await _settings(request)


async def _settings(request: Request, faults: Sequence[Fault] = (), **more: object) -> Response:
    me, db = request.user, request.state.db
    person = await db.read_in_thread(parties.person, me.id)
    context = {
        "person": person, "keys": await db.read_in_thread(parties.keys, me.id), "scopes": SCOPES,
        "sessions": await db.read_in_thread(parties.sign_ins, me.id, at=utc_now()), "faults": list(faults),
        "new_key": "", **more,
    }  # fmt: skip
    return page(request, "parties/settings.html", context, status=422 if faults else 200)


@requires()
async def set_language(request: Request) -> Response:
    """Keep the language; it is spoken at once."""
    language = Reader(dict(await request.form())).choice("language", LANGUAGES)
    if not language:
        return await _settings(request, [Fault("choice", "language", "", ", ".join(LANGUAGES))])
    await request.state.db.in_thread(parties.set_language, request.user.id, language)
    return redirect(request, f"/settings?lang={language}")


@requires()
async def set_password(request: Request) -> Response:
    """A new password ends every other session."""
    form = dict(await request.form())
    person = await request.state.db.read_in_thread(parties.person, request.user.id)
    try:
        password = read_new_password(form, (person.email.partition("@")[0], person.name))
        if person.password_hash and not await verify(person.password_hash, text_of(form, "password")[:200]):
            raise BadInput([Fault("password_wrong", "password", "", "the present password")])
    except BadInput as bad:
        return await _settings(request, bad.faults)
    ended = await request.state.db.in_thread(
        parties.set_password, person.id, await hash_password(password), but=request.user.token_hash, at=utc_now()
    )
    _end_sockets(request, ended)
    return redirect(request, "/settings")


@requires()
async def make_key(request: Request) -> Response:
    """A new API key; its text is on this one answer and nowhere else."""
    form = await request.form()
    try:
        name, scopes = read_key(dict(form), [str(scope) for scope in form.getlist("scopes")])
    except BadInput as bad:
        return await _settings(request, bad.faults, values=dict(form))
    text, prefix, secret_hash = new_key()
    await request.state.db.in_thread(
        parties.make_key, request.user.id, name=name, scopes=scopes, prefix=prefix, secret_hash=secret_hash,
        at=utc_now(),
    )  # fmt: skip
    return await _settings(request, new_key=text)


@requires()
async def revoke_key(request: Request) -> Response:
    """A revoked key opens nothing from now on."""
    prefix = await request.state.db.in_thread(
        parties.revoke_key, request.user.id, request.path_params["id"], at=utc_now()
    )
    _end_sockets(request, [f"key:{prefix}"])
    return redirect(request, "/settings")


@requires()
async def end_sessions(request: Request) -> Response:
    """Sign out everywhere else."""
    ended = await request.state.db.in_thread(
        parties.end_sign_ins, [request.user.id], why="elsewhere", but=request.user.token_hash
    )
    _end_sockets(request, ended)
    return redirect(request, "/settings")


routes: list[BaseRoute] = [
    Route("/sign-in", sign_in_page, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/demo/sign-in", demo_sign_in, methods=["POST"]),
    Route("/register", register_page, methods=["GET"]),
    Route("/register", register, methods=["POST"]),
    Route("/parties", index),
    Route("/parties/{id:int}", show, methods=["GET"]),
    Route("/parties/{id:int}/decide", decide, methods=["POST"]),
    Route("/settings", settings_page),
    Route("/settings/language", set_language, methods=["POST"]),
    Route("/settings/password", set_password, methods=["POST"]),
    Route("/settings/keys", make_key, methods=["POST"]),
    Route("/settings/keys/{id:int}/revoke", revoke_key, methods=["POST"]),
    Route("/settings/sessions/end", end_sessions, methods=["POST"]),
]
