"""The log of checkpoints: one order whoever appends, proofs at every size, nothing changed; and keys that rotate."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from auctions.merkle import extends, includes, leaf_hash
from auctions.proof import Signer, key_name
from market.errors import Conflict, NotFound
from storage import proof, tables
from storage.database import Database
from tests.auctions.test_merkle import mth

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def key(seed: int) -> tuple[bytes, Signer]:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public, Signer(key_name(public), private.sign)


PUBLIC, SIGNER = key(1)


def begin(session: Session, auctions: int) -> None:
    """Auctions whose journals have one entry each; what is in them does not matter here."""
    party = tables.Party(kind="organisation", name="C", name_key="c", created_at=NOW)
    session.add(party)
    session.flush()
    person = tables.Person(party_id=party.id, email="c@example.com", email_key="c", name="C", created_at=NOW)
    session.add(person)
    session.flush()
    for number in range(1, auctions + 1):
        lot = tables.Lot(
            reference=f"L{number}", creditor_id=party.id, kind="vehicle", title_en="x", title_zh="x", currency="CNY",
            created_by=person.id, created_at=NOW,
        )  # fmt: skip
        session.add(lot)
        session.flush()
        session.add(
            tables.Auction(
                id=number, lot_id=lot.id, ruleset="x@1", currency="CNY", opens_at=NOW, closes_at=NOW, created_at=NOW
            )
        )
    session.flush()
    for number in range(1, auctions + 1):
        move(session, number)


def move(session: Session, auction_id: int) -> None:
    """Let an auction's journal grow by one entry."""
    auction = session.get_one(tables.Auction, auction_id)
    auction.sequence += 1
    made = bytes([auction_id, auction.sequence]) * 16
    session.add(auction)
    session.add(
        tables.Entry(
            auction_id=auction_id,
            sequence=auction.sequence,
            at_ms=auction.sequence,
            public="{}",
            private="{}",
            hash=made,
        )
    )


def execute(session: Session, statement: str) -> None:
    session.execute(text(statement))


def log(db: Database) -> list[bytes]:
    return [one.text().encode() for one in db.read(proof.leaves, first=0, limit=10_000)]


def test_the_log_grows_and_every_size_can_be_proved(db: Database) -> None:
    db.in_transaction(begin, 5)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW)
    assert db.read(proof.is_due, at=NOW)
    heads = []
    for round_ in range(6):
        for auction_id in range(1, 6):
            if round_ and (round_ + auction_id) % 2:
                db.in_transaction(move, auction_id)
        head = db.in_transaction(proof.advance, SIGNER, at=NOW + timedelta(seconds=round_))
        assert head is not None
        heads.append(head)
        assert not db.read(proof.is_due, at=NOW + timedelta(seconds=round_))
    leaves = log(db)
    sizes = [head.size for head in heads]
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 5
    assert sizes[-1] == len(leaves) == db.read(proof.log_size)
    roots = {}
    for head in heads:
        said = json.loads(head.text)
        assert said == {
            "type": "tree_head", "size": head.size, "root": mth(leaves[: head.size]).hex(),
            "signed_ms": proof.ms(head.signed_at), "key": SIGNER.key_id,
        }  # fmt: skip
        Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key().verify(head.signature, head.text.encode())
        roots[head.size] = bytes.fromhex(said["root"])
    last = sizes[-1]
    for auction_id in range(1, 6):
        for sequence in range(1, 3):
            found = db.read(proof.inclusion, auction_id, sequence)
            assert found is not None
            covering, included = found
            assert covering.auction_id == auction_id
            assert covering.sequence >= sequence
            path = [bytes.fromhex(each) for each in included["path"]]
            assert leaves[included["index"]].decode() == included["leaf"] == covering.text()
            assert includes(leaf_hash(leaves[included["index"]]), included["index"], last, path, roots[last])
    for first in sizes:
        for second in sizes:
            if first > second:
                with pytest.raises(NotFound):
                    db.read(proof.consistency, first, second)
                continue
            grown = db.read(proof.consistency, first, second)
            path = [bytes.fromhex(each) for each in grown["path"]]
            assert extends(first, roots[first], second, roots[second], path)
    with pytest.raises(NotFound):
        db.read(proof.consistency, 1, last)  # of that size no head was signed
    assert db.read(proof.inclusion, 1, 99) is None
    assert db.read(proof.inclusion, 99, 1) is None
    tasks = db.read(lambda session: session.exec(text("SELECT task FROM outbox")).all())  # type: ignore[call-overload]
    assert len(tasks) == len(heads)


def test_several_nodes_append_at_once_and_one_order_comes_out(db: Database) -> None:
    db.in_transaction(begin, 8)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW)

    def node(number: int) -> None:
        for step in range(6):
            db.in_transaction(move, number * 2 + 1 + step % 2)
            db.in_transaction(proof.advance, SIGNER, at=NOW + timedelta(seconds=step))

    with ThreadPoolExecutor(4) as nodes:
        list(nodes.map(node, range(4)))
    db.in_transaction(proof.advance, SIGNER, at=NOW + timedelta(minutes=1))
    leaves = log(db)
    assert len(leaves) == len(set(leaves))
    for head in db.read(proof.tree_heads, limit=100):
        assert json.loads(head.text)["root"] == mth(leaves[: head.size]).hex(), "every signed head is of one log"
    newest: dict[int, int] = {}
    for leaf in map(json.loads, leaves):
        assert newest.get(leaf["auction"], 0) < leaf["sequence"]
        newest[leaf["auction"]] = leaf["sequence"]
    assert newest == dict.fromkeys(range(1, 9), 4)


def test_the_log_is_append_only(db: Database) -> None:
    db.in_transaction(begin, 3)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW)
    db.in_transaction(proof.advance, SIGNER, at=NOW)
    for table in ("logleaf", "lognode", "treehead"):
        for statement in (
            f"UPDATE {table} SET {'size' if table == 'treehead' else 'number'} = 7",
            f"DELETE FROM {table}",
        ):
            with pytest.raises(DBAPIError, match="append-only"):
                db.in_transaction(execute, statement)


def test_a_log_that_does_not_grow_is_signed_each_hour(db: Database) -> None:
    assert db.in_transaction(proof.advance, SIGNER, at=NOW) is None
    assert not db.read(proof.is_due, at=NOW), "an empty log has no head"
    db.in_transaction(begin, 1)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW)
    first = db.in_transaction(proof.advance, SIGNER, at=NOW)
    assert first is not None
    assert db.in_transaction(proof.advance, SIGNER, at=NOW + timedelta(minutes=59)) is None
    later = NOW + timedelta(minutes=60)
    assert db.read(proof.is_due, at=later)
    again = db.in_transaction(proof.advance, SIGNER, at=later)
    assert again is not None
    assert (again.size, again.text == first.text) == (first.size, False)


def test_what_ended_long_ago_is_found_by_the_thorough_round(db: Database) -> None:
    db.in_transaction(begin, 2)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW)
    week = NOW + timedelta(days=7)
    assert not db.read(proof.is_due, at=week)
    assert db.read(proof.is_due, at=week, thorough=True)
    head = db.in_transaction(proof.advance, SIGNER, at=week, thorough=True)
    assert head is not None
    assert head.size == 2


def test_a_new_key_ends_the_one_before_it_after_a_day(db: Database) -> None:
    second, _ = key(2)
    assert db.in_transaction(proof.register_key, PUBLIC, at=NOW) == key_name(PUBLIC)
    assert db.in_transaction(proof.register_key, PUBLIC, at=NOW + timedelta(days=9)) == key_name(PUBLIC)
    db.in_transaction(proof.register_key, second, at=NOW + timedelta(days=10))
    one, two = db.read(proof.keys)
    assert (one.key_id, one.valid_from, one.valid_until) == (key_name(PUBLIC), NOW, NOW + timedelta(days=11))
    assert (two.key_id, two.valid_until) == (key_name(second), None)
    db.in_transaction(proof.register_key, PUBLIC, at=NOW + timedelta(days=10, hours=23))  # a node not restarted yet
    with pytest.raises(Conflict, match="key_retired"):
        db.in_transaction(proof.register_key, PUBLIC, at=NOW + timedelta(days=11))
    db.in_transaction(proof.retire_key, key_name(second), at=NOW + timedelta(days=12))
    with pytest.raises(Conflict):
        db.in_transaction(proof.register_key, second, at=NOW + timedelta(days=13))
    with pytest.raises(NotFound):
        db.in_transaction(proof.retire_key, "nothing", at=NOW)
