"""The log of checkpoints over all auctions (RFC 6962), its tree heads, and the public keys that sign.

Leaves and complete subtrees are rows that are only ever inserted, so a proof at any size is one query of at most
2 * log2(size) rows.  Whoever appends holds a lock of the whole log: several nodes may try at once, one order comes out.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, insert, or_, text
from sqlmodel import Session, col, select

from auctions import merkle, proof
from auctions.merkle import Place
from auctions.proof import Checkpoint, Signer
from market.errors import Conflict, NotFound
from storage import outbox
from storage.journal import instant
from storage.tables import Auction, Entry, LogLeaf, LogNode, SigningKey, TreeHead

APPENDED_AT_ONCE = 2_000  # checkpoints in one transaction, about 50 ms
SIGNED_AGAIN_AFTER = timedelta(hours=1)  # a log that has not grown is signed anew, so that everybody sees that it lives
OVERLAP = timedelta(days=1)  # for which a key still signs after a new one came: time to restart every node
LIVELY = timedelta(days=1)  # an auction that ended longer ago is looked at by the slow round only
LOG_LOCK = 6962  # PostgreSQL's advisory lock


# --- keys ----------------------------------------------------------------------------------------------


def keys(session: Session) -> list[SigningKey]:
    """Return every public key that ever signed, the oldest first."""
    return list(session.exec(select(SigningKey).order_by(col(SigningKey.valid_from), col(SigningKey.key_id))))


def register_key(session: Session, public_key: bytes, *, at: datetime) -> str:
    """Publish the key that a node signs with from now on; return its name.

    A new key ends the ones before it, OVERLAP from now: until then nodes that were not restarted go on with theirs.

    Raises: Conflict `key_retired`, when this key may not sign any more.
    """
    key_id = proof.key_name(public_key)
    _lock(session)
    known = session.get(SigningKey, key_id)
    if known is None:
        for other in session.exec(select(SigningKey).where(col(SigningKey.valid_until).is_(None))):
            other.valid_until = at + OVERLAP
            session.add(other)
        session.add(SigningKey(key_id=key_id, public_key=public_key, valid_from=at))
    elif known.valid_until is not None and known.valid_until <= at:
        raise Conflict("key_retired", key=key_id)
    return key_id


def check_key(session: Session, key_id: str, *, at: datetime) -> None:
    """See that a key may sign. Raises: Conflict `key_retired`."""
    until = session.exec(select(SigningKey.valid_until).where(SigningKey.key_id == key_id)).first()
    if until is not None and until <= at:
        raise Conflict("key_retired", key=key_id)


def retire_key(session: Session, key_id: str, *, at: datetime) -> None:
    """End a key now; what it signed before stays good. Raises: NotFound."""
    known = session.get(SigningKey, key_id)
    if known is None:
        raise NotFound("signing_key", key=key_id)
    known.valid_until = at if known.valid_until is None else min(known.valid_until, at)
    session.add(known)


# --- the log -------------------------------------------------------------------------------------------


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":  # a writer of SQLite is alone from its first statement on
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOG_LOCK})


def log_size(session: Session) -> int:
    """Return how many leaves the log has."""
    last = session.exec(select(func.max(LogLeaf.number))).one()
    return 0 if last is None else last + 1


def nodes(session: Session, places: Sequence[Place]) -> dict[Place, bytes]:
    """Return the hashes of complete subtrees, all of which must be there."""
    if not places:
        return {}
    by_level: dict[int, list[int]] = {}
    for level, number in places:
        by_level.setdefault(level, []).append(number)
    # Not (level, number) IN (...): SQLite would read every row for that.
    wanted = [
        and_(col(LogNode.level) == level, col(LogNode.number).in_(numbers)) for level, numbers in by_level.items()
    ]
    rows = session.exec(select(LogNode.level, LogNode.number, LogNode.hash).where(or_(*wanted)))
    return {(level, number): hash_ for level, number, hash_ in rows}


def root_at(session: Session, size: int) -> bytes:
    """Return the root of the log's first `size` leaves."""
    places = merkle.complete((0, size))
    found = nodes(session, places)
    return merkle.folded([found[place] for place in places])


def _waiting(*, lively_since: datetime | None) -> Any:
    """The heads that are no leaf yet: (auction, sequence, at_ms, hash)."""
    moved = (
        select(Auction.id, Auction.sequence, Entry.at_ms, Entry.hash)
        .join(Entry, and_(col(Entry.auction_id) == Auction.id, col(Entry.sequence) == Auction.sequence))
        .outerjoin(LogLeaf, and_(col(LogLeaf.auction_id) == Auction.id, col(LogLeaf.sequence) == Auction.sequence))
        .where(col(LogLeaf.number).is_(None))
        .order_by(col(Auction.id))
        .limit(APPENDED_AT_ONCE)
    )
    if lively_since is not None:
        moved = moved.where(or_(col(Auction.closes_at) > lively_since, col(Auction.phase) == "paused"))
    return moved


def is_due(session: Session, *, at: datetime, thorough: bool = False) -> bool:
    """Return whether `advance` would find something to do."""
    if session.exec(_waiting(lively_since=None if thorough else at - LIVELY).limit(1)).first() is not None:
        return True
    last = _last_head(session)
    if last is None:
        return log_size(session) > 0
    return last.signed_at <= at - SIGNED_AGAIN_AFTER or last.size < log_size(session)


def _last_head(session: Session) -> TreeHead | None:
    return session.exec(select(TreeHead).order_by(col(TreeHead.id).desc()).limit(1)).first()


def advance(session: Session, signer: Signer, *, at: datetime, thorough: bool = False) -> TreeHead | None:
    """Append the heads of auctions that have moved, at most APPENDED_AT_ONCE, and sign the log as it is then.

    Leaves the work of keeping the tree head elsewhere behind (task `keep_tree_head`).

    Args:
        thorough: look at auctions that ended long ago, too.
    Returns: the new tree head; None, when the log has not grown and was signed a short time ago.
    """
    _lock(session)
    size = log_size(session)
    places = merkle.complete((0, size))
    found = nodes(session, places)
    tree = merkle.Tree(size, [found[place] for place in places])
    leaves, made = [], []
    for auction_id, sequence, at_ms, hash_ in session.exec(_waiting(lively_since=None if thorough else at - LIVELY)):
        leaf = Checkpoint(auction_id, sequence, at_ms, hash_)
        leaves.append(
            {"number": tree.size, "auction_id": auction_id, "sequence": sequence, "at_ms": at_ms, "hash": hash_}
        )
        made += tree.append(merkle.leaf_hash(leaf.text().encode()))
    if leaves:
        session.execute(insert(LogLeaf), leaves)
        session.execute(
            insert(LogNode), [{"level": level, "number": number, "hash": hash_} for (level, number), hash_ in made]
        )
    last = _last_head(session)
    if not tree.size or (last and last.size == tree.size and last.signed_at > at - SIGNED_AGAIN_AFTER):
        return None
    signed = proof.signed(proof.tree_head(tree.size, tree.root()), signer, at_ms=ms(at))
    head = TreeHead(size=tree.size, signed_at=at, text=signed.text, key_id=signed.key_id, signature=signed.signature)
    session.add(head)
    session.flush()
    outbox.put(session, "keep_tree_head", f"tree_head:{head.id}", {"tree_head_id": head.id}, at=at)
    return head


def ms(at: datetime) -> int:
    """Return an instant as milliseconds since the Unix epoch."""
    return (at - instant(0)) // timedelta(milliseconds=1)


# --- reading -------------------------------------------------------------------------------------------


def tree_head(session: Session, tree_head_id: int) -> TreeHead:
    """Return one tree head. Raises: NotFound."""
    found = session.get(TreeHead, tree_head_id)
    if found is None:
        raise NotFound("tree_head")
    return found


def tree_heads(session: Session, *, before: int | None = None, limit: int) -> list[TreeHead]:
    """Return tree heads, the newest first, from below the number `before`."""
    query = select(TreeHead).order_by(col(TreeHead.id).desc()).limit(limit)
    return list(session.exec(query if before is None else query.where(TreeHead.id < before)))


def leaves(session: Session, *, first: int, limit: int) -> list[Checkpoint]:
    """Return leaves of the log in order."""
    rows = session.exec(
        select(LogLeaf).where(LogLeaf.number >= first).order_by(col(LogLeaf.number)).limit(limit)
    )  # fmt: skip
    return [_checkpoint(row) for row in rows]


def _checkpoint(row: LogLeaf) -> Checkpoint:
    return Checkpoint(row.auction_id, row.sequence, row.at_ms, row.hash)


def inclusion(session: Session, auction_id: int, sequence: int) -> tuple[Checkpoint, dict[str, Any]] | None:
    """Return the first checkpoint in the log that covers an entry, and the proof that it is in it.

    The proof is {"leaf", "index", "path", "tree_head"}: text, number, hex hashes, and the newest signed head that
    has the leaf. None: no signed log covers the entry yet.
    """
    leaf = session.exec(
        select(LogLeaf)
        .where(LogLeaf.auction_id == auction_id, LogLeaf.sequence >= sequence)
        .order_by(col(LogLeaf.sequence))
        .limit(1)
    ).first()
    head = _last_head(session)
    if leaf is None or head is None or leaf.number >= head.size:
        return None
    path = merkle.proof(merkle.inclusion(leaf.number, head.size), lambda places: nodes(session, places))
    covering = _checkpoint(leaf)
    return covering, {
        "leaf": covering.text(), "index": leaf.number, "path": [each.hex() for each in path],
        "tree_head": shown(session, head),
    }  # fmt: skip


def newest_inclusion(session: Session, auction_id: int) -> dict[str, Any] | None:
    """Return the proof of `inclusion` for the newest checkpoint of an auction in the log; None: there is none yet."""
    last = session.exec(select(func.max(LogLeaf.sequence)).where(LogLeaf.auction_id == auction_id)).one()
    found = None if last is None else inclusion(session, auction_id, last)
    return None if found is None else found[1]


def consistency(session: Session, first: int, second: int) -> dict[str, Any]:
    """Return {"first", "second", "path"}: two signed tree heads of these sizes, and that one grew from the other.

    Raises: NotFound, when no tree head of that size was ever signed, or `first` is above `second`.
    """
    heads = {}
    for size in (first, second):
        found = session.exec(select(TreeHead).where(TreeHead.size == size).order_by(col(TreeHead.id)).limit(1)).first()
        if found is None or first > second:
            raise NotFound("tree_head")
        heads[size] = found
    path = merkle.proof(merkle.consistency(first, second), lambda places: nodes(session, places))
    return {
        "first": shown(session, heads[first]), "second": shown(session, heads[second]),
        "path": [each.hex() for each in path],
    }  # fmt: skip


def shown(session: Session, head: TreeHead) -> dict[str, str]:
    """Return a tree head as a signed document."""
    key = session.get_one(SigningKey, head.key_id)
    return document(proof.Signed(head.text, head.key_id, head.signature), key.public_key)


def document(signed: proof.Signed, public_key: bytes) -> dict[str, str]:
    """Return a signed text as it is given out: text, the key's name, signature and public key in base64."""
    return {
        "text": signed.text, "key_id": signed.key_id, "signature": b64encode(signed.signature).decode(),
        "public_key": b64encode(public_key).decode(),
    }  # fmt: skip
