"""The Merkle tree against the vectors of certificate-transparency and against RFC 6962 written down as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from random import Random

import pytest

from auctions import merkle
from auctions.merkle import Place, consistency, extends, includes, inclusion, leaf_hash, proof

# The eight leaves of certificate-transparency's own tests (merkle_tree_test), and the root after each.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# (leaf, size, path) and (first, size, path) of the same tests.
INCLUSION = [
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip


# --- RFC 6962, 2.1, word for word -----------------------------------------------------------------------------------


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    if not d:
        return sha256(b"").digest()
    if len(d) == 1:
        return sha256(b"\x00" + d[0]).digest()
    k = largest_power_below(len(d))
    return sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = largest_power_below(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = largest_power_below(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


# --- Ours -----------------------------------------------------------------------------------------------------------


class Kept:
    """Every complete subtree, as the database keeps it."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.nodes: dict[Place, bytes] = {}
        self.fetched = 0
        tree = merkle.Tree()
        for leaf in leaves:
            self.nodes.update(tree.append(leaf_hash(leaf)))

    def __call__(self, places: Sequence[Place]) -> dict[Place, bytes]:
        self.fetched = len(places)
        return {place: self.nodes[place] for place in places}


def test_the_known_roots() -> None:
    assert merkle.EMPTY_ROOT.hex() == EMPTY == mth([]).hex()
    for count, known in enumerate(ROOTS, 1):
        assert merkle.root([leaf_hash(leaf) for leaf in LEAVES[:count]]).hex() == known
        assert mth(LEAVES[:count]).hex() == known


def test_the_known_proofs() -> None:
    kept = Kept(LEAVES)
    for index, size, known in INCLUSION:
        made = proof(inclusion(index, size), kept)
        assert [each.hex() for each in made] == known
        assert includes(leaf_hash(LEAVES[index]), index, size, made, bytes.fromhex(ROOTS[size - 1]))
    for first, size, known in CONSISTENCY:
        made = proof(consistency(first, size), kept)
        assert [each.hex() for each in made] == known
        assert extends(first, bytes.fromhex(ROOTS[first - 1]), size, bytes.fromhex(ROOTS[size - 1]), made)


def test_every_proof_of_every_size_is_that_of_the_rfc() -> None:
    leaves = [b"leaf %d" % number for number in range(70)]
    kept = Kept(leaves)
    roots = [mth(leaves[:size]) for size in range(71)]
    for size in range(1, 71):
        assert merkle.folded([kept.nodes[place] for place in merkle.complete((0, size))]) == roots[size]
        for number in range(size):
            made = proof(inclusion(number, size), kept)
            assert made == path(number, leaves[:size])
            assert includes(leaf_hash(leaves[number]), number, size, made, roots[size])
            made = proof(consistency(number + 1, size), kept)
            assert made == subproof(number + 1, leaves[:size], True)
            assert extends(number + 1, roots[number + 1], size, roots[size], made)
        assert extends(0, roots[0], size, roots[size], [])


def included(leaf: bytes, index: int, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    return includes(leaf, index, size, path, root)


def test_no_other_leaf_place_size_or_path_is_proved() -> None:
    rng = Random(6962)
    leaves = [b"leaf %d" % number for number in range(40)]
    kept = Kept(leaves)
    roots = {size: mth(leaves[:size]) for size in range(41)}
    for _ in range(3_000):
        size = rng.randint(1, 40)
        index, first = rng.randrange(size), rng.randint(1, size)
        leaf, made = leaf_hash(leaves[index]), proof(inclusion(index, size), kept)
        grown = proof(consistency(first, size), kept)
        kind = rng.choice(["leaf", "bit", "drop", "more", "swap", "root", "place"])
        if kind == "place":  # the root does not hold the number of leaves: that one is signed beside it
            other = rng.randrange(size)
            assert includes(leaf, other, size, made, roots[size]) == (other == index)
            other = rng.randint(1, size)
            assert extends(other, roots[first], size, roots[size], grown) == (other == first)
            continue
        if kind == "leaf":
            assert not includes(leaf_hash(b"other"), index, size, made, roots[size])
            assert not extends(first, leaf, size, roots[size], grown) or (first == 1 and index == 0)
            continue
        if kind == "root":
            assert not includes(leaf, index, size, made, leaf_hash(b"other"))
            assert not extends(first, roots[first], size, leaf_hash(b"other"), grown)
            continue
        for proven, check in (
            (made, partial(included, leaf, index, size, roots[size])),
            (grown, partial(extends, first, roots[first], size, roots[size])),
        ):
            assert check(proven)
            if kind == "more":
                assert not check([*proven, leaf])
            elif proven and kind == "drop":
                at = rng.randrange(len(proven))
                assert not check(proven[:at] + proven[at + 1 :])
            elif proven and kind == "bit":
                at, bit = rng.randrange(len(proven)), rng.randrange(256)
                flipped = (int.from_bytes(proven[at], "big") ^ 1 << bit).to_bytes(32, "big")
                assert not check([*proven[:at], flipped, *proven[at + 1 :]])
            elif len(proven) > 1 and kind == "swap":
                assert not check([proven[1], proven[0], *proven[2:]])


def test_a_proof_of_a_million_leaves_needs_few_hashes() -> None:
    for size in (2**20, 2**20 - 1, 1_000_000):
        for index in (0, 1, size // 3, size - 1):
            assert sum(len(merkle.complete(each)) for each in inclusion(index, size)) <= 40
            assert sum(len(merkle.complete(each)) for each in consistency(index + 1, size)) <= 41


def test_what_cannot_be_proved() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError):
            inclusion(index, size)
        assert not includes(leaf_hash(b""), index, size, [], bytes.fromhex(ROOTS[0]))
    for first, size in ((0, 3), (4, 3)):
        with pytest.raises(ValueError):
            consistency(first, size)
    assert not extends(4, merkle.EMPTY_ROOT, 3, merkle.EMPTY_ROOT, [])
    assert not extends(3, merkle.EMPTY_ROOT, 4, merkle.EMPTY_ROOT, [])
