"""`Idempotency-Key` on the JSON API: the same call again gets the first answer and has no second effect.

Bids have their own way: there the key is the id of the command, and the journal keeps it for ever.  An upload is known
by the SHA-256 of its file.  Every other call that changes something may carry a key.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from market.errors import Conflict
from storage import calls
from web.errors import on_lost_database, refuse
from web.render import utc_now
from web.security import SAFE
from web.tasks import TaskContext, beat, log

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# What makes somebody owe, pay or receive: its keys never expire (promises.md 8). Those of all other calls do.
_MONEY = re.compile(r"/(auctions/\d+/participations|participations|settlements|sales|payouts|statements)(/|$)")

DESCRIPTION = (
    "Every call that changes something takes an `Idempotency-Key` (1 to 64 of `A-Z a-z 0-9 _ . -`), good for the "
    "caller: the same key with the same call gets the first answer again, marked `Idempotent-Replayed: true`, and has "
    "no second effect; with another call it is refused, 409 `key_reused`; while the first call runs, 409 `key_in_use`; "
    "if it failed on our side or its answer was lost with a server, 409 `answer_unknown`: look before you ask again. "
    "Keys of bids are the ids of their commands, and keys of taking part in auctions, settlements and payments move "
    f"money: they never expire. All others are kept for {calls.KEPT.days} days. An upload needs no key: its file is "
    "known by its SHA-256."
)


class IdempotencyKeys:
    """Between the API's handlers and whoever calls them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        key = headers.get("idempotency-key")
        is_upload = headers.get("content-type", "").lower().startswith("multipart/")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if (
            key is None or scope["method"] in SAFE or is_upload or path.endswith("/bids")
            or not scope["user"].is_authenticated
        ):  # fmt: skip
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if not _KEY.fullmatch(key):
            await refuse(request, 422, "idempotency_key")(scope, receive, send)
            return
        try:
            await self._answer(request, key, path, send)
        except Conflict as conflict:
            await refuse(request, 409, conflict.code)(scope, receive, send)
        except (OperationalError, InterfaceError) as error:
            await (await on_lost_database(request, error))(scope, receive, send)

    async def _answer(self, request: Request, key: str, path: str, send: Send) -> None:
        scope, db = request.scope, request.state.db
        body = await request.body()
        digest = hashlib.sha256(scope["query_string"] + b"\0" + body).hexdigest()
        asked = {
            "method": scope["method"], "path": path, "body_hash": digest,
            "moves_money": _MONEY.match(path) is not None, "at": utc_now(),
        }  # fmt: skip
        try:
            call = await db.in_thread(calls.begin, request.user.id, key, **asked)
        except IntegrityError:  # somebody took it at the same instant
            call = await db.in_thread(calls.begin, request.user.id, key, **asked)
        if call.status is not None:
            again = Response(call.answer, call.status, {"Idempotent-Replayed": "true"}, call.media_type or None)
            await again(scope, request.receive, send)
            return
        messages: list[Message] = []

        async def keeping(message: Message) -> None:
            messages.append(message)

        await self.app(scope, _replayed(body), keeping)
        start = messages[0]
        if start["status"] < 500:  # else nobody knows whether it was committed, so the key stays taken
            answer = b"".join(message.get("body", b"") for message in messages[1:])
            media_type = Headers(raw=start["headers"]).get("content-type", "")
            await db.in_thread(
                calls.finish, call.id, status=start["status"], media_type=media_type, answer=answer.decode()
            )
        for message in messages:
            await send(message)


def _replayed(body: bytes) -> Receive:
    """The body that was read, again."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive


@beat("clear_old_calls", every=timedelta(days=1))
def clear_old_calls(context: TaskContext) -> None:
    """Remove the answers whose keys have expired; those that move money stay."""
    if count := context.db.in_transaction(calls.clear_old, at=utc_now()):
        log.info("old keys removed", calls=count)
