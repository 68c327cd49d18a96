"""Who is asking, and whether the request may come in at all: sessions, keys, CSRF, origins, limits, headers.

`Guard` stands in front of every handler.  It knows four kinds of visitor: a person with a session cookie,
a program with an API key, a guest, and a request that is turned away before any work is done for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from functools import wraps
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import unquote_plus, urlsplit

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import Counter, Histogram
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from market.errors import NotAllowed
from storage import parties
from storage.database import Database
from web.render import LANGUAGES, speak, utc_now
from web.settings import Settings

log = structlog.get_logger("web")

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_TO_ANY_HOST = ("/healthz", "/readyz", "/metrics")
PEEK_BYTES = 4096  # the CSRF field stands first in a form; this much of a body is looked at for it
SECRET_LEAST_BYTES = 32
REFUSED_SECRETS = ("change-me", "changeme", "secret", "clearlot", "password", "insecure", "example", "default")
DAY_S = 86_400

# Published in the API's description and in docs; for one person or, without one, one address, and one node.
REQUESTS_PER_SECOND = 40
REQUESTS_BURST = 400
BUCKETS = 50_000  # remembered at most

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

REQUESTS = Counter("clearlot_requests_total", "Requests answered", ["method", "status"])
SECONDS = Histogram(
    "clearlot_request_seconds", "Time to answer", buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is asking.  A guest has no id, no party and no roles."""

    id: int | None = None
    party_id: int | None = None
    name: str = ""
    party_name: str = ""
    party_status: str = ""
    roles: frozenset[str] = frozenset()
    language: str = ""
    csrf: str = ""
    scopes: frozenset[str] | None = None  # None: not a key, so no scope limits it
    token_hash: str | None = None  # of the session, to look at it again
    unread: int = 0  # notices
    renew: bool = False  # rights rose since the session began

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in (Starlette asks this)."""
        return self.id is not None

    def has(self, *roles: str) -> bool:
        """Whether the visitor has one of `roles`."""
        return bool(self.roles.intersection(roles))

    def may(self, scope: str) -> bool:
        """Whether the key, if one was used, has the scope: `read`, `write` or `bid`."""
        return self.scopes is None or scope in self.scopes


# --- secrets and settings ------------------------------------------------------------------------


class BadSettings(Exception):
    """The settings do not allow a start; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What signs: `secret` for tokens of guests and links, `signing_key` (32 bytes) for checkpoints (Ed25519)."""

    secret: bytes
    signing_key: bytes


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or address without port, is this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_embedded(settings: Settings) -> bool:
    """Whether this is the embedded default: everything in one process and one folder."""
    return not (settings.database_url or settings.objects_url or settings.redis_url)


def check_settings(settings: Settings) -> None:
    """Refuse a start that would not be safe.

    Raises: BadSettings.
    """
    base = urlsplit(settings.base_url)
    if base.scheme not in ("http", "https") or not base.hostname or base.path.strip("/"):
        raise BadSettings("CLEARLOT_BASE_URL must be an origin, such as https://clearlot.example.")
    if base.scheme == "http" and not is_loopback(base.hostname):
        raise BadSettings("CLEARLOT_BASE_URL must be https: sign-in cookies do not travel over plain http.")
    if settings.demo and not is_loopback(settings.host):
        raise BadSettings(
            f"CLEARLOT_DEMO signs people in without a password, so it is refused on {settings.host}: "
            "use a loopback address (127.0.0.1), or leave demo mode off."
        )
    if settings.demo and not is_loopback(base.hostname):
        raise BadSettings("CLEARLOT_DEMO is refused behind a public CLEARLOT_BASE_URL.")
    secret = settings.secret.get_secret_value()
    if secret or not is_embedded(settings):
        if not secret:
            raise BadSettings("CLEARLOT_SECRET is missing: give at least 32 random bytes, for example 64 hex digits.")
        if len(secret.encode()) < SECRET_LEAST_BYTES:
            raise BadSettings(f"CLEARLOT_SECRET is too short: at least {SECRET_LEAST_BYTES} bytes.")
        if len(set(secret)) < 10 or any(word in secret.lower() for word in REFUSED_SECRETS):
            raise BadSettings("CLEARLOT_SECRET looks like an example: give random bytes of your own.")
    if settings.signing_key.get_secret_value():
        _signing_key(settings.signing_key.get_secret_value())
    elif not is_embedded(settings):
        raise BadSettings("CLEARLOT_SIGNING_KEY is missing: give an Ed25519 seed, 32 bytes in base64.")


def _signing_key(text: str) -> bytes:
    try:
        seed = base64.b64decode(text, validate=True)
        Ed25519PrivateKey.from_private_bytes(seed)
    except ValueError:
        raise BadSettings("CLEARLOT_SIGNING_KEY must be an Ed25519 seed: 32 bytes in base64.") from None
    if len(set(seed)) < 8:
        raise BadSettings("CLEARLOT_SIGNING_KEY looks like an example: make one of your own.")
    return seed


def load_secrets(settings: Settings) -> Secrets:
    """The secrets of the settings; the embedded default makes its own once and keeps them (mode 600)."""
    secret = settings.secret.get_secret_value().encode() or _own(settings, "secret.key")
    text = settings.signing_key.get_secret_value()
    return Secrets(secret, _signing_key(text) if text else _own(settings, "signing.key"))


def _own(settings: Settings, name: str) -> bytes:
    path = settings.data / name
    settings.data.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        made = secrets.token_bytes(32)
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    return made


def renew_signing_key(settings: Settings) -> bytes:
    """Put a new Ed25519 seed in the place of the embedded default's own; return it. The old one is gone."""
    name = "signing.key"
    part = settings.data / f"{name}.new"
    part.unlink(missing_ok=True)
    seed = _own(settings, part.name)
    part.replace(settings.data / name)
    return seed


# --- tokens and cookies --------------------------------------------------------------------------


def new_token() -> str:
    """A random token of 256 bits, fit for a cookie."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is kept of a token: a look at the database gives nobody a session."""
    return hashlib.sha256(token.encode()).hexdigest()


def cookie_name(settings: Settings, kind: str = "session") -> str:
    """`__Host-` binds a cookie to this very host and to https; plain http on loopback has the plain name."""
    prefix = "__Host-" if settings.base_url.startswith("https:") else ""
    return f"{prefix}clearlot-{kind}"


def set_cookie(response: Response, settings: Settings, kind: str, value: str, *, days: int | None = None) -> None:
    """Set one of our cookies; without `days` it ends with the browser."""
    response.set_cookie(
        cookie_name(settings, kind), value, max_age=days * DAY_S if days else None, path="/",
        secure=settings.base_url.startswith("https:"), httponly=kind != "theme", samesite="lax",
    )  # fmt: skip


async def begin_session(request: Request, response: Response, person_id: int) -> None:
    """Sign a person in on this browser, under a new token; the session that it came with ends."""
    settings: Settings = request.app.state.settings
    token = new_token()
    await request.state.db.in_thread(
        parties.open_sign_in, person_id, token_hash=hash_token(token), csrf=new_token(),
        old_token_hash=request.user.token_hash, at=utc_now(),
    )  # fmt: skip
    set_cookie(response, settings, "session", token)


async def end_session(request: Request, response: Response) -> None:
    """Sign out: the session ends on the server, and its sockets with it."""
    if request.user.token_hash is not None:
        await request.state.db.in_thread(parties.end_sign_in, request.user.token_hash)
        if request.app.state.gateway is not None:
            request.app.state.gateway.end_session(request.user.token_hash)
    response.delete_cookie(cookie_name(request.app.state.settings), path="/")


def guest_csrf(secret: bytes, guest: str) -> str:
    """The CSRF token of a guest: bound to a cookie of its own, since there is no session yet."""
    return hmac.new(secret, b"csrf:" + guest.encode(), hashlib.sha256).hexdigest()


LINK_SECONDS = 3600


def make_link_token(secret: bytes, person_id: int) -> str:
    """A one-time sign-in token for a demo person; used ones are remembered (storage/parties.use_link)."""
    text = f"{person_id}.{int(time.time()) + LINK_SECONDS}.{secrets.token_urlsafe(12)}"
    return f"{text}.{_link_mac(secret, text)}"


def read_link_token(secret: bytes, token: str) -> int | None:
    """The person of a link's token; None, when it is not ours or too old."""
    text, _, mac = token.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _link_mac(secret, text).encode()):
        return None
    person, until, _nonce = text.split(".", 2)
    return int(person) if int(until) > time.time() else None


def _link_mac(secret: bytes, text: str) -> str:
    return hmac.new(secret, b"link:" + text.encode(), hashlib.sha256).hexdigest()


# --- who is it -----------------------------------------------------------------------------------


async def visitor_of(db: Database, settings: Settings, connection: HTTPConnection) -> Visitor:
    """Look up who is asking, from the cookie or the key of a request or socket handshake.

    A key, if there is one, is all that counts: a wrong one makes a guest with no scopes.
    """
    authorization = connection.headers.get("authorization", "")
    if authorization:
        found = None
        if match := _KEY.fullmatch(authorization):
            prefix, secret = match.groups()
            found = await db.read_in_thread(parties.key_owner, prefix, hash_token(secret))
            if found is not None:
                await _note_use(db, prefix)
        return _visitor(found, None) if found else Visitor(scopes=frozenset())
    token = connection.cookies.get(cookie_name(settings))
    if not token:
        return Visitor()
    token_hash = hash_token(token)
    found = await db.read_in_thread(parties.signed_in, token_hash, at=utc_now())
    if found is None:
        return Visitor()
    if found.stale:
        await db.in_thread(parties.touch, token_hash, at=utc_now())
    return _visitor(found, token_hash)


_KEY = re.compile(r"[Bb]earer clk_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{20,80})", re.ASCII)
_key_noted: dict[str, float] = {}


def key_prefix(authorization: str) -> str:
    """The public part of an API key in an Authorization header; empty, when there is none."""
    match = _KEY.fullmatch(authorization)
    return match.group(1) if match else ""


async def _note_use(db: Database, prefix: str) -> None:
    now = time.monotonic()
    if now - _key_noted.get(prefix, -1e9) > parties.TOUCH_EVERY.total_seconds():
        _key_noted[prefix] = now
        await db.in_thread(parties.use_key, prefix, at=utc_now())


def _visitor(found: parties.SignedIn, token_hash: str | None) -> Visitor:
    return Visitor(
        found.person_id, found.party_id, found.name, found.party_name, found.party_status, found.roles,
        found.language, found.csrf, found.scopes, token_hash, found.unread, found.renew,
    )  # fmt: skip


def new_key() -> tuple[str, str, str]:
    """Make an API key: its text (shown once), its prefix, and the hash of its secret."""
    prefix = secrets.token_hex(4)
    secret = secrets.token_urlsafe(32)
    return f"clk_{prefix}_{secret}", prefix, hash_token(secret)


def origins(settings: Settings) -> frozenset[str]:
    """The origins that are ours: the base address; on loopback under each of its names."""
    base = urlsplit(settings.base_url)
    port = f":{base.port}" if base.port else ""
    if is_loopback(base.hostname or ""):
        return frozenset(f"{base.scheme}://{name}{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
    return frozenset({f"{base.scheme}://{base.netloc}"})


Handler = Callable[..., Awaitable[Response]]
H = TypeVar("H", bound=Handler)


def requires(*roles: str) -> Callable[[Handler], Handler]:
    """Let a page's handler run only for signed-in people with one of `roles` (none given: any role or none).

    A guest who reads is sent to the sign-in page and comes back afterwards.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            from web.errors import sign_in_first

            if not request.user.is_authenticated:
                return sign_in_first(request)
            if roles and not request.user.has(*roles):
                raise NotAllowed("not_allowed")
            return await handler(request)

        return guarded

    return decorate


# --- limits --------------------------------------------------------------------------------------


class Id(IntegerConvertor):
    """`{id:int}` in a path: longer digits are nothing's id, so such an address is not there."""

    regex = "[0-9]{1,15}"


register_url_convertor("int", Id())  # before any subject's route is made: each imports this module


class Limits:
    """Token buckets by person or address, in this process."""

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, as of when

    def wait_s(self, key: str, now: float) -> float:
        """Take one; return 0, or in how many seconds there will be one again."""
        left, since = self._buckets.pop(key, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_second)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now)  # the newest last
        if len(self._buckets) > BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if allowed else (1 - left) / self.per_second


# --- the guard -----------------------------------------------------------------------------------


class Guard:
    """In front of every handler; see the module's text."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.origins = origins(settings)
        self.hosts = frozenset(urlsplit(origin).netloc for origin in self.origins)
        self.limits = Limits(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self.headers = dict(HEADERS)
        if settings.base_url.startswith("https:"):
            self.headers["Strict-Transport-Security"] = f"max-age={365 * DAY_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            # What a socket may do is decided in web/live.py: here it only learns who is asking.
            state = scope["app"].state
            scope.setdefault("state", {})["db"] = state.db
            scope["user"] = await visitor_of(state.db, self.settings, HTTPConnection(scope))
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        from web.errors import refuse

        started = time.perf_counter()
        state = scope["app"].state
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {}).update(db=state.db, request_id=request_id, settings=self.settings)
        scope["user"] = Visitor()
        request = Request(scope, receive)
        cookies: dict[str, str | None] = {}  # kind -> value to set; None: to delete
        status = 500
        begun = too_large = False

        async def sending(message: Message) -> None:
            nonlocal status, begun, too_large
            if message["type"] == "http.response.start" and message["status"] == 413 and not begun:
                # The framework's own answer is bare text; ours has a code and a sentence.
                too_large = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
            if too_large:
                return
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
                self._cookies(headers, cookies)
            await send(message)

        try:
            answer, receive = await self._admit(request, receive, cookies)
            await (answer or self.app)(scope, receive, sending)
            if too_large:
                too_large = False
                await refuse(request, 413, "too_large")(scope, receive, sending)
        except Exception:
            # A 500 is always our bug: the log has it all, the answer nothing but the id to find it by.
            log.exception("failed", request=request_id, method=request.method, path=scope["path"])
            if not begun:
                await refuse(request, 500, "internal")(scope, receive, sending)
        finally:
            took = time.perf_counter() - started
            REQUESTS.labels(request.method if request.method in METHODS else "OTHER", status).inc()
            SECONDS.observe(took)
            if not scope["path"].startswith(("/static/", "/healthz", "/metrics")):
                log.info(
                    "request", request=request_id, method=request.method, path=scope["path"], status=status,
                    ms=round(took * 1000, 1),
                )  # fmt: skip

    def _cookies(self, headers: MutableHeaders, cookies: MutableMapping[str, str | None]) -> None:
        response = Response()
        for kind, value in cookies.items():
            if value is None:
                response.delete_cookie(cookie_name(self.settings, kind), path="/")
            else:
                set_cookie(response, self.settings, kind, value, days=None if kind in ("guest", "session") else 365)
        for name, line in response.raw_headers:
            if name == b"set-cookie":
                headers.append("set-cookie", line.decode("latin-1"))

    async def _admit(
        self, request: Request, receive: Receive, cookies: dict[str, str | None]
    ) -> tuple[Response | None, Receive]:
        """Find out who is asking; return the answer that turns the request away, or None."""
        from web.errors import refuse

        path = request.scope["path"]
        self._language(request, Visitor(), cookies)
        if path.startswith("/static/"):
            return None, receive
        if path in OPEN_TO_ANY_HOST:
            return None, receive
        if request.headers.get("host") not in self.hosts:
            return refuse(request, 400, "host"), receive
        if "\0" in path or b"%00" in request.scope["query_string"]:
            return refuse(request, 400, "bad_input"), receive  # no name has it, and PostgreSQL keeps none
        visitor = await visitor_of(request.state.db, self.settings, request)
        settings, secret = self.settings, request.scope["app"].state.secrets.secret
        if visitor.id is None and visitor.scopes is None and not path.startswith("/api/"):
            guest = request.cookies.get(cookie_name(settings, "guest")) or ""
            if not guest:
                guest = cookies["guest"] = new_token()
            visitor = replace(visitor, csrf=guest_csrf(secret, guest))
        language = self._language(request, visitor, cookies)
        request.scope["user"] = visitor = replace(visitor, language=language)
        address = request.client.host if request.client else ""
        key = f"p{visitor.id}" if visitor.id is not None else f"a{address}"
        if wait_s := self.limits.wait_s(key, time.monotonic()):
            seconds = max(1, round(wait_s + 0.5))
            answer = refuse(request, 429, "too_many_requests", seconds=seconds)
            answer.headers["Retry-After"] = str(seconds)
            return answer, receive
        if visitor.scopes is not None:
            return self._key(request, visitor), receive
        if request.method in SAFE:
            if visitor.renew and request.method == "GET" and not path.startswith("/api/"):
                await self._renew(request, visitor, cookies)
            return None, receive
        return await self._form(request, receive, visitor)

    async def _renew(self, request: Request, visitor: Visitor, cookies: dict[str, str | None]) -> None:
        """Give a session whose rights rose its new number (promises.md, bad input 17), and let the person go on."""
        token = new_token()
        renewed = await request.state.db.in_thread(
            parties.renew_sign_in, visitor.token_hash, new_token_hash=hash_token(token), at=utc_now()
        )
        if renewed:
            cookies["session"] = token
            request.scope["user"] = replace(visitor, token_hash=hash_token(token))

    def _language(self, request: Request, visitor: Visitor, cookies: dict[str, str | None]) -> str:
        asked = request.query_params.get("lang", "")
        kept = request.cookies.get(cookie_name(self.settings, "language"), "")
        if asked in LANGUAGES:
            language = asked
            if kept != asked:
                cookies["language"] = asked
        elif kept in LANGUAGES:
            language = kept
        else:
            language = visitor.language or accepted_language(request.headers.get("accept-language", ""))
        theme = request.query_params.get("theme", "")
        if theme in ("light", "dark", "auto"):
            cookies["theme"] = theme
        kept_theme = theme or request.cookies.get(cookie_name(self.settings, "theme"), "")
        request.state.theme = kept_theme if kept_theme in ("light", "dark") else ""
        speak(language)
        return language

    def _key(self, request: Request, visitor: Visitor) -> Response | None:
        from web.errors import refuse

        if visitor.id is None:
            return refuse(request, 401, "key_unknown")
        scope = "read" if request.method in SAFE else "bid" if request.scope["path"].endswith("/bids") else "write"
        return None if visitor.may(scope) else refuse(request, 403, "scope_missing", scope=scope)

    async def _form(self, request: Request, receive: Receive, visitor: Visitor) -> tuple[Response | None, Receive]:
        """Everything that changes something: from our own pages only, with the session's token."""
        from web.errors import refuse

        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if (origin is None and site is None) or (origin is not None and origin not in self.origins):
            return refuse(request, 403, "origin"), receive
        if site not in (None, "same-origin", "none"):
            return refuse(request, 403, "origin"), receive
        token = request.headers.get("x-csrf-token")
        if token is None:
            token, receive = await _token_in_form(request.headers, receive)
        if not token or not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
            return refuse(request, 403, "csrf"), receive
        return None, receive


METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_URLENCODED = re.compile(rb"(?:^|&)csrf=([^&]*)")
_MULTIPART = re.compile(rb'\A--[^\r\n]*\r\n[Cc]ontent-[Dd]isposition: form-data; name="csrf"\r\n\r\n([^\r\n]*)\r\n--')


async def _token_in_form(headers: Headers, receive: Receive) -> tuple[str | None, Receive]:
    """Find the CSRF field, which stands first in a form, in the body's beginning; give the body back whole."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    pattern = {"application/x-www-form-urlencoded": _URLENCODED, "multipart/form-data": _MULTIPART}.get(kind)
    if pattern is None:
        return None, receive
    seen: list[Message] = []
    start = b""
    while len(start) < PEEK_BYTES:
        message = await receive()
        seen.append(message)
        if message["type"] != "http.request":
            break
        start += message.get("body", b"")[:PEEK_BYTES]
        if not message.get("more_body"):
            break

    async def again() -> Message:
        return seen.pop(0) if seen else await receive()

    match = pattern.search(start)
    return (unquote_plus(match.group(1).decode("latin-1")) if match else None), again


def accepted_language(header: str) -> str:
    """The language that a browser asks for (RFC 9110, 12.5.4), of those that we speak; else English."""
    best, language = 0.0, "en"
    for item in header.split(",")[:20]:
        name, _, quality = item.strip().partition(";q=")
        primary = name.partition("-")[0].strip().lower()
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if primary in LANGUAGES and weight > best:
            best, language = weight, primary
    return language


def state_of(request: HTTPConnection) -> Any:
    """The application's state: settings, db, objects, gateway, secrets, clock."""
    return request.app.state
