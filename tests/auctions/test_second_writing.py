"""Two verifiers that were written apart say the same of every journal, good and damaged; and no damage escapes them."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auctions import merkle, proof
from auctions.checks import Problem
from auctions.journal import Entry
from auctions.proof import Checkpoint, Signer, canonical, public_line
from tests.auctions.game import VARIANTS, Game, play
from tests.auctions.second import Second
from tests.auctions.test_verify import RULES_BROKEN, ended, rewritten
from web.signatures import is_signed

DAMAGES = int(os.environ.get("CLEARLOT_DAMAGES", "1500"))  # `make soak`: 10000
SEED = int(os.environ.get("CLEARLOT_SEED", "10000"))
ALL: tuple[Literal["winner", "reserve", "maxima"], ...] = ("winner", "reserve", "maxima")


@pytest.fixture(scope="module")
def second() -> Iterator[Second]:
    made = Second()
    yield made
    made.close()


def opening(name: str) -> Game:
    """A game whose ruleset opens everything that can be opened with the outcome."""
    terms = VARIANTS[name]
    return Game(replace(terms, ruleset=replace(terms.ruleset, opens=ALL)))


def file_of(entries: list[Entry], **more: Any) -> bytes:
    return "".join(public_line(entry, **more) + "\n" for entry in entries).encode()


def played(name: str, seed: int, steps: int = 40, *, opens: bool = False) -> tuple[Game, bytes]:
    game = opening(name) if opens else Game(VARIANTS[name])
    play(Random(seed), game, steps)
    return game, file_of(game.entries, opens=game.auction.opens)


def test_both_find_every_good_journal_good(second: Second) -> None:
    opened: set[str] = set()
    for seed in range(6):
        for name in VARIANTS:
            for opens in (False, True):
                game, journal = played(name, seed, opens=opens)
                last = game.entries[-1]
                verdict = second.both(journal, head=(last.sequence, last.hash.hex()))
                assert verdict.good
                assert verdict.closed == game.auction.closed
                opened |= {fact["type"] for _, fact in verdict.opened}
                if not opens:
                    assert not verdict.opened
                assert second.both(file_of(game.entries, open_private=True)).good
    assert opened == {"party", "reserve_set", "maximum_set"}


def test_both_find_journals_of_format_1_good(second: Second) -> None:
    for path in sorted((Path(__file__).parent / "journals").glob("format-1-*.jsonl")):
        kept = [json.loads(line) for line in path.read_text("utf-8").removesuffix("\n").split("\n")]
        for private in ({}, {"private": None}):
            lines = []
            for one in kept:
                commitment = sha256(one["private"].encode()).hexdigest()
                line = {"public": one["public"], "commitment": commitment, "hash": one["hash"]}
                lines.append(canonical(line | ({"private": one["private"]} if private else {})))
            verdict = second.both("".join(f"{line}\n" for line in lines).encode())
            assert verdict.good
            assert bool(verdict.opened) == bool(private)


def damaged(rng: Random, good: bytes) -> tuple[str, bytes]:
    """One damage: another file than `good`."""
    lines = (
        good.splitlines(keepends=True) if b"\xe2\x80\xa8" not in good else [x + b"\n" for x in good[:-1].split(b"\n")]
    )
    kind = rng.choice(["flip", "flip", "flip", "drop", "swap", "double", "cut", "cut line", "byte", "more"])
    place, at = rng.randrange(len(lines)), rng.randrange(len(good))
    match kind:
        case "flip":
            return kind, good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :]
        case "drop":
            return kind, b"".join(lines[:place] + lines[place + 1 :])
        case "swap":
            other = rng.choice([number for number in range(len(lines)) if number != place])
            lines[place], lines[other] = lines[other], lines[place]
            return kind, b"".join(lines)
        case "double":
            return kind, b"".join([*lines[: place + 1], *lines[place:]])
        case "cut":
            return kind, good[:at]
        case "cut line":
            return kind, b"".join(lines[:place])
        case "byte":
            return kind, good[:at] + good[at + 1 :]
    return kind, good[:at] + bytes([rng.randrange(256)]) + good[at:]


def test_no_damage_escapes(second: Second) -> None:
    """Flipped bits, dropped, swapped, doubled and cut entries, lost and added bytes: of any kind of journal."""
    rng = Random(SEED)
    files = []
    for name, opens in (("cn", False), ("ebay hidden", True), ("optional raise", True), ("countdown", False)):
        seed = next(seed for seed in range(99) if played(name, seed, 14, opens=opens)[0].auction.closed)
        game, journal = played(name, seed, 14, opens=opens)
        files.append((game, journal))
        files.append((game, file_of(game.entries, open_private=True)))
    escaped: list[tuple[int, str]] = []
    found: dict[str, int] = {}
    for number in range(DAMAGES):
        game, good = rng.choice(files)
        kind, bad = damaged(rng, good)
        if bad == good:
            continue  # a byte beside its like was doubled or lost: the same file
        last = game.entries[-1]
        if second.both(bad, head=(last.sequence, last.hash.hex())).good:
            escaped.append((number, kind))
        found[kind] = found.get(kind, 0) + 1
    assert not escaped
    assert sum(found.values()) > DAMAGES * 0.98
    print(found)


@pytest.mark.parametrize(("name", "line", "there", "planted", "code"), RULES_BROKEN)
def test_both_judge_by_the_rules_what_was_written_anew(
    second: Second, name: str, line: int, there: str, planted: str, code: str
) -> None:
    lines = rewritten([public_line(entry) for entry in ended(name).entries], {line: (there, planted)})
    journal = "".join(f"{one}\n" for one in lines).encode()
    ours = second.both(journal)
    theirs = second.verify(journal)
    assert code in {problem.code for problem in ours.problems}
    assert [[problem.line, problem.code] for problem in ours.problems] == theirs["problems"]


def test_both_agree_about_games_written_anew_at_random(second: Second) -> None:
    rng = Random(4)
    bad = 0
    for seed in range(60):
        game = Game(VARIANTS[rng.choice(list(VARIANTS))])
        play(Random(seed), game, 30)
        lines = [public_line(entry) for entry in game.entries]
        number = rng.randrange(2, len(lines) + 1)
        for there in ('"bidder":', '"amount_minor":', '"closes_at_ms":', '"at_ms":', '"sequence":'):
            if there in json.loads(lines[number - 1])["public"]:
                changed = rewritten(lines, {number: (there, there + rng.choice("123456789"))})
                bad += not second.both("".join(f"{one}\n" for one in changed).encode()).good
    assert bad > 60


# --- receipts, checkpoints, tree heads ------------------------------------------------------------------------------


def signer(seed: int) -> tuple[bytes, Signer]:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public, Signer(proof.key_name(public), private.sign)


def document(text: str, seed: int = 1, at_ms: int = 5_000_000) -> dict[str, Any]:
    public, key = signer(seed)
    made = proof.signed(text, key, at_ms=at_ms)
    return {
        "text": made.text, "key_id": made.key_id, "signature": b64encode(made.signature).decode(),
        "public_key": b64encode(public).decode(),
    }  # fmt: skip


def keys(until_ms: int | None = None) -> dict[str, Any]:
    public, key = signer(1)
    known = {"key_id": key.key_id, "public_key": b64encode(public).decode(), "from_ms": 1_000, "until_ms": until_ms}
    return {"type": "clearlot-keys", "algorithm": "Ed25519", "keys": [known]}


def log_of(game: Game, others: int = 11) -> tuple[list[str], dict[merkle.Place, bytes]]:
    """A log with checkpoints of this auction among others."""
    texts = [Checkpoint(900 + number, 5, 6, bytes([number]) * 32).text() for number in range(others)]
    texts[3] = proof.checkpoint_of(game.entries[6]).text()
    texts[9] = proof.checkpoint_of(game.entries[-1]).text()
    nodes: dict[merkle.Place, bytes] = {}
    tree = merkle.Tree()
    for text in texts:
        nodes.update(tree.append(merkle.leaf_hash(text.encode())))
    return texts, nodes


def tree_head(nodes: dict[merkle.Place, bytes], size: int) -> dict[str, Any]:
    return document(proof.tree_head(size, merkle.folded([nodes[place] for place in merkle.complete((0, size))])))


def everything() -> tuple[bytes, list[dict[str, Any]]]:
    """A journal with a receipt, a checkpoint, its place in the log, and that the log grew."""
    game = ended()
    texts, nodes = log_of(game)

    def made(ranges: list[merkle.Range]) -> list[str]:
        return [each.hex() for each in merkle.proof(ranges, lambda places: {place: nodes[place] for place in places})]

    log = {"leaf": texts[9], "index": 9, "path": made(merkle.inclusion(9, 11)), "tree_head": tree_head(nodes, 11)}
    last = proof.checkpoint_of(game.entries[-1])
    receipt = document(proof.receipt(game.entries[7], last)) | {"checkpoint": document(last.text()), "log": log}
    grown = {"first": tree_head(nodes, 6), "second": tree_head(nodes, 11), "path": made(merkle.consistency(6, 11))}
    return file_of(game.entries), [receipt, document(last.text()) | {"log": log}, {"consistency": grown}]


def test_proofs_that_hold(second: Second) -> None:
    journal, proofs = everything()
    verdict = second.both(journal, proofs=proofs, keys=keys(), is_signed=is_signed)
    assert verdict.good, verdict.problems
    assert "log: checkpoint 12 is leaf 9 of 11" in verdict.notes
    assert "log: 6 leaves are the beginning of 11" in verdict.notes
    assert second.both(journal, proofs=proofs, is_signed=is_signed).good, "keys stand beside the signatures"


def test_a_key_is_good_for_its_time(second: Second) -> None:
    journal, proofs = everything()
    assert second.both(journal, proofs=proofs, keys=keys(5_000_001), is_signed=is_signed).good, "an old receipt stays"
    ended_before = second.both(journal, proofs=proofs, keys=keys(5_000_000), is_signed=is_signed)
    assert {problem.code for problem in ended_before.problems} == {"key_not_valid"}
    other = second.both(journal, proofs=[document('{"type":"tree_head"}', 2)], keys=keys(), is_signed=is_signed)
    assert {problem.code for problem in other.problems} == {"unknown_key"}
    without = {**proofs[0], "public_key": proofs[0]["signature"][:43] + "="}
    assert not second.both(journal, proofs=[without], is_signed=is_signed).good


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p[0].update(signature=p[1]["signature"]), "signature"),
        (lambda p: p[0].update(text=p[0]["text"].replace('"sequence":8', '"sequence":7')), "other_head"),
        (lambda p: p[0].update(key_id="0" * 16), "proof_unreadable"),
        (lambda p: p[0]["log"].update(index=8), "inclusion"),
        (lambda p: p[0]["log"].update(path=p[0]["log"]["path"][1:]), "inclusion"),
        (lambda p: p[0]["log"].update(leaf=p[0]["log"]["leaf"].replace('"at_ms":', '"at_ms":1')), "inclusion"),
        (lambda p: p[0]["log"].update(tree_head=p[2]["consistency"]["first"]), "inclusion"),
        (lambda p: p[2]["consistency"].update(path=p[2]["consistency"]["path"][::-1]), "consistency"),
        (lambda p: p[2]["consistency"].update(second=p[2]["consistency"]["first"]), "consistency"),
        (lambda p: p.append({"hello": 1}), "proof_unreadable"),
        (lambda p: p.append(document(proof.checkpoint_of(ended("ebay").entries[6]).text())), "other_head"),
        (lambda p: p.append(document(Checkpoint(8, 3, 4, bytes(32)).text())), "auction"),
    ],
)
def test_proofs_that_do_not_hold(second: Second, change: Any, code: str) -> None:
    journal, proofs = everything()
    proofs = json.loads(json.dumps(proofs))
    change(proofs)
    verdict = second.both(journal, proofs=proofs, keys=keys(), is_signed=is_signed)
    assert code in {problem.code for problem in verdict.problems}, verdict.problems
    theirs = second.verify(journal, proofs=proofs, keys=keys())
    assert [[problem.line, problem.code] for problem in verdict.problems] == theirs["problems"]


def test_a_flipped_bit_in_a_signed_text_is_found(second: Second) -> None:
    rng = Random(5)
    journal, proofs = everything()
    signed = document(json.loads(proofs[1]["text"]) and proof.checkpoint_of(ended().entries[-1]).text())
    for _ in range(200):
        name = rng.choice(["text", "signature", "key_id"])
        raw = bytearray(b64decode(signed[name]) if name == "signature" else signed[name].encode())
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(7)
        value = b64encode(bytes(raw)).decode() if name == "signature" else raw.decode()
        assert not second.both(journal, proofs=[signed | {name: value}], keys=keys(), is_signed=is_signed).good


def test_without_ed25519_it_says_so() -> None:
    from auctions.verify import read_lines, verify

    journal, proofs = everything()
    verdict = verify(read_lines(journal), proofs=proofs, keys=keys())
    assert verdict.good
    assert "signatures: not checked, this program cannot" in verdict.notes
    damaged = verify(read_lines(journal[:-40]), proofs=proofs)
    assert Problem(12, "unreadable", "The line cannot be read: JSONDecodeError.") in damaged.problems
