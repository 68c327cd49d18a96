"""Proof for everybody: signed receipts, checkpoints and tree heads, the log's proofs, and the public keys."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter, Query
from fastapi import Request as ApiRequest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from auctions import proof
from auctions.journal import Entry
from auctions.proof import Signer
from market.errors import Conflict, NotFound
from storage import journal
from storage import proof as kept
from storage.database import Database
from storage.tables import SigningKey, TreeHead
from web.api import PROBLEMS
from web.render import page, utc_now
from web.tasks import TaskContext, beat, task

log = structlog.get_logger("proof")

CHECKPOINTS_EVERY = timedelta(seconds=10)
THOROUGH_EVERY = timedelta(hours=1)
SEEN_FOR = timedelta(minutes=1)
HEADS_SHOWN = 50
LEAVES_AT_ONCE = 1_000
HEAD_BYTES = 4_096
KEYS_ADDRESS = "/.well-known/clearlot-keys.json"


# --- the key that signs ----------------------------------------------------------------------------------


class Signing:
    """This node's key. It is published when the node starts; one that was retired signs no more."""

    def __init__(self, seed: bytes) -> None:
        key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.signer = Signer(proof.key_name(self.public_key), key.sign)
        self._seen_at = datetime.min.replace(tzinfo=UTC)

    def register(self, db: Database) -> None:
        """Publish the key, or see that it may still sign. Raises: Conflict `key_retired`."""
        db.in_transaction(kept.register_key, self.public_key, at=utc_now())

    async def documents(self, db: Database, *texts: str) -> list[dict[str, str]]:
        """Texts, signed now. Raises: Conflict `key_retired`, up to SEEN_FOR after it was."""
        now = utc_now()
        if now - self._seen_at > SEEN_FOR:
            await db.read_in_thread(kept.check_key, self.signer.key_id, at=now)
            self._seen_at = now
        signed = [proof.signed(text, self.signer, at_ms=kept.ms(now)) for text in texts]
        return [kept.document(one, self.public_key) for one in signed]


# --- jobs ------------------------------------------------------------------------------------------------


@beat("checkpoints", every=CHECKPOINTS_EVERY)
def make_checkpoints(context: TaskContext) -> None:
    """Put the heads of auctions that have moved into the log, and sign it."""
    _advance(context, thorough=False)


@beat("all_checkpoints", every=THOROUGH_EVERY)
def make_all_checkpoints(context: TaskContext) -> None:
    """The same for auctions that ended long ago."""
    _advance(context, thorough=True)


def _advance(context: TaskContext, *, thorough: bool) -> None:
    # Looking takes no writer's lock: mostly nothing has moved.
    if not context.db.read(kept.is_due, at=utc_now(), thorough=thorough):
        return
    signing = Signing(context.signing_key)
    signing.register(context.db)
    context.db.in_transaction(kept.advance, signing.signer, at=utc_now(), thorough=thorough)


@task("keep_tree_head")
def keep_tree_head(context: TaskContext, tree_head_id: int) -> None:
    """Keep a signed tree head in the object store, too: under its hash, where nobody changes it."""
    head, document = context.db.read(_tree_head, tree_head_id)
    found = context.objects.put(io.BytesIO(stored_bytes(document)), limit_bytes=HEAD_BYTES)
    log.info("tree head kept", size=head.size, digest=found.digest)


def _tree_head(session: Any, tree_head_id: int) -> tuple[TreeHead, dict[str, str]]:
    head = kept.tree_head(session, tree_head_id)
    return head, kept.shown(session, head)


def stored_bytes(document: dict[str, str]) -> bytes:
    """A signed document as the object store has it."""
    return proof.canonical(document).encode()


# --- documents -------------------------------------------------------------------------------------------


def _download(document: dict[str, Any], name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(json.dumps(document, indent=1), media_type="application/json", headers=headers)


async def entry_at(db: Database, auction_id: int, sequence: int) -> Entry | None:
    """One entry of a journal; None: it is not there."""
    if sequence < 1:
        return None
    found = await db.read_in_thread(journal.entries_after, auction_id, sequence - 1, limit=1)
    return found[0] if found else None


async def receipt_of(request: Request, entry: Entry) -> dict[str, Any]:
    """The signed receipt of an entry, with the checkpoint that covers it.

    {"text", "key_id", "signature", "public_key", "checkpoint", "log"}: `log` proves that the checkpoint is in the log;
    null for some seconds after the entry, and the checkpoint is then one of the entry itself.
    """
    signing: Signing = request.app.state.signing
    db: Database = request.state.db
    covered = await db.read_in_thread(kept.inclusion, entry.auction_id, entry.sequence)
    covering, included = covered or (proof.checkpoint_of(entry), None)
    signed, checkpoint = await signing.documents(db, proof.receipt(entry, covering), covering.text())
    return signed | {"checkpoint": checkpoint, "log": included}


async def checkpoint_of(request: Request, head: Entry) -> dict[str, Any]:
    """A signed checkpoint of a journal's newest entry, and the newest one of this auction in the log (or null)."""
    signing: Signing = request.app.state.signing
    included = await request.state.db.read_in_thread(kept.newest_inclusion, head.auction_id)
    [signed] = await signing.documents(request.state.db, proof.checkpoint_of(head).text())
    return signed | {"log": included}


async def signed_checkpoint(request: Request, head: Entry) -> dict[str, str] | None:
    """A signed checkpoint alone, for the page of a room; None, when this node's key was retired: bidding goes on."""
    signing: Signing = request.app.state.signing
    try:
        [signed] = await signing.documents(request.state.db, proof.checkpoint_of(head).text())
    except Conflict:
        return None
    return signed


def keys_document(rows: list[SigningKey]) -> dict[str, Any]:
    """The public keys as they are published, and as the verifier takes them."""
    return {
        "type": "clearlot-keys", "algorithm": "Ed25519",
        "keys": [
            {
                "key_id": row.key_id, "public_key": b64encode(row.public_key).decode(),
                "from_ms": kept.ms(row.valid_from),
                "until_ms": None if row.valid_until is None else kept.ms(row.valid_until),
            }
            for row in rows
        ],
    }  # fmt: skip


async def keys_json(request: Request) -> Response:
    """Every public key that ever signed, at an address that stays."""
    rows = await request.state.db.read_in_thread(kept.keys)
    return Response(json.dumps(keys_document(rows), indent=1), media_type="application/json")


async def log_page(request: Request) -> Response:
    """The log of checkpoints and the public keys, for people."""
    db: Database = request.state.db
    rows = await db.read_in_thread(kept.tree_heads, limit=HEADS_SHOWN)
    heads = [(row, json.loads(row.text)["root"]) for row in rows]
    context = {"heads": heads, "keys": await db.read_in_thread(kept.keys), "now": utc_now(), "address": KEYS_ADDRESS}
    return page(request, "proof/log.html", context)


async def tree_head_json(request: Request) -> Response:
    """The newest tree head."""
    return _download(await _newest(request.state.db), "tree-head.json")


async def _newest(db: Database) -> dict[str, str]:
    def newest(session: Any) -> dict[str, str]:
        rows = kept.tree_heads(session, limit=1)
        if not rows:
            raise NotFound("tree_head")
        return kept.shown(session, rows[0])

    return await db.read_in_thread(newest)


routes: list[BaseRoute] = [
    Route(KEYS_ADDRESS, keys_json),
    Route("/log", log_page),
    Route("/log/tree-head.json", tree_head_json),
]


# --- JSON ------------------------------------------------------------------------------------------------

api = APIRouter(tags=["proof"])
Size = Annotated[int, Query(ge=1, le=2**53)]


@api.get("/keys", responses=PROBLEMS)
async def get_keys(request: ApiRequest) -> dict[str, Any]:
    """Every public key that ever signed, with its validity. Needs no key of your own, nor do the other proofs."""
    return keys_document(await request.state.db.read_in_thread(kept.keys))


@api.get("/log", responses=PROBLEMS)
async def get_tree_head(request: ApiRequest) -> dict[str, str]:
    """The newest signed tree head of the log of checkpoints."""
    return await _newest(request.state.db)


@api.get("/log/heads", responses=PROBLEMS)
async def get_tree_heads(
    request: ApiRequest,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=HEADS_SHOWN)] = HEADS_SHOWN,
) -> dict[str, Any]:
    """Signed tree heads, the newest first."""

    def read(session: Any) -> dict[str, Any]:
        rows = kept.tree_heads(session, before=before, limit=limit)
        shown = [kept.shown(session, row) for row in rows]
        return {"heads": shown, "next": rows[-1].id if len(rows) == limit else None}

    found: dict[str, Any] = await request.state.db.read_in_thread(read)
    return found


@api.get("/log/leaves", responses=PROBLEMS)
async def get_leaves(
    request: ApiRequest,
    first: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=LEAVES_AT_ONCE)] = 100,
) -> dict[str, Any]:
    """Leaves of the log, the exact texts, from number `first` on: who has all of them can build every root."""
    found = await request.state.db.read_in_thread(kept.leaves, first=first, limit=limit)
    return {"leaves": [one.text() for one in found], "next": first + limit if len(found) == limit else None}


@api.get("/log/inclusion", responses=PROBLEMS)
async def get_inclusion(request: ApiRequest, auction: Size, sequence: Size) -> dict[str, Any]:
    """The first checkpoint in the log that covers an entry of an auction, with its path to the newest tree head."""
    found = await request.state.db.read_in_thread(kept.inclusion, auction, sequence)
    if found is None:
        raise NotFound("checkpoint")
    return {"log": found[1]}


@api.get("/log/consistency", responses=PROBLEMS)
async def get_consistency(request: ApiRequest, first: Size, second: Size) -> dict[str, Any]:
    """That the log of `first` leaves is the beginning of that of `second`: two signed sizes and the path."""
    found: dict[str, Any] = await request.state.db.read_in_thread(kept.consistency, first, second)
    return {"consistency": found}


__all__ = ["Signing", "api", "routes"]
