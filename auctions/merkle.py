"""The Merkle tree of RFC 6962 (RFC 9162, 2.1) over SHA-256: roots, inclusion and consistency proofs.

    leaf      SHA-256(0x00 + data)
    node      SHA-256(0x01 + left + right)
    tree      of n leaves: the node over the first k and the last n - k, k the largest power of two below n

Leaves count from 0. A complete subtree never changes when the tree grows; the one of 2**level leaves that begins at
leaf index * 2**level is called (level, index), so (0, i) is leaf i. Whoever keeps every complete subtree (twice as
many hashes as leaves) makes any proof of any size from at most 2 * log2(size) of them: `inclusion` and `consistency`
say which, as ranges of leaves, and `root_of_range` puts a range together.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeAlias

EMPTY_ROOT = sha256(b"").digest()

Place: TypeAlias = tuple[int, int]  # (level, index) of a complete subtree
Range: TypeAlias = tuple[int, int]  # leaves from the first on, up to and without the second


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


class Tree:
    """The right edge of a growing tree: its size and the largest complete subtrees, from left to right."""

    __slots__ = ("edge", "size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """`edge`: the hashes of `complete((0, size))`, in that order."""
        self.size = size
        self.edge = list(edge)

    def append(self, leaf: bytes) -> list[tuple[Place, bytes]]:
        """Append the hash of a leaf; return every subtree that is complete by it, the leaf itself first."""
        index, level, hash_ = self.size, 0, leaf
        made = [((0, index), leaf)]
        while index & 1:
            hash_ = node_hash(self.edge.pop(), hash_)
            index, level = index >> 1, level + 1
            made.append(((level, index), hash_))
        self.edge.append(hash_)
        self.size += 1
        return made

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        return folded(self.edge)


def folded(edge: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees that shrink from left to right; of none: that of the empty tree."""
    if not edge:
        return EMPTY_ROOT
    hash_ = edge[-1]
    for left in reversed(edge[:-1]):
        hash_ = node_hash(left, hash_)
    return hash_


def complete(leaves: Range) -> list[Place]:
    """Return the largest complete subtrees that make up a range of leaves which stands in a proof, left to right."""
    start, end = leaves
    places = []
    while start < end:
        level = (end - start).bit_length() - 1
        places.append((level, start >> level))
        start += 1 << level
    return places


def inclusion(index: int, size: int) -> list[Range]:
    """Return the ranges whose roots prove that leaf `index` is in the tree of `size` leaves, from the leaf upwards."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def consistency(first: int, size: int) -> list[Range]:
    """Return the ranges whose roots prove that the tree of `first` leaves is the beginning of that of `size`.

    Empty when both are the same.
    """
    if not 0 < first <= size:
        raise ValueError(f"a tree of {first} leaves is no beginning of one of {size}")
    path, start, end = [], 0, size
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    if start:  # where the old root is part of the new tree as it stands, whoever checks has it already
        path.append((start, end))
    return path[::-1]


def proof(ranges: Sequence[Range], fetch: Callable[[Sequence[Place]], dict[Place, bytes]]) -> list[bytes]:
    """Return the hashes of a proof. `fetch` gets all the complete subtrees that are needed, in one call."""
    places = [complete(leaves) for leaves in ranges]
    found = fetch([place for each in places for place in each])
    return [folded([found[place] for place in each]) for each in places]


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


# --- Checking: RFC 9162, 2.1.3.2 and 2.1.4.2 ------------------------------------------------------------------------


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether `path` proves that the leaf of this hash is number `index` of the tree with this root."""
    if not 0 <= index < size:
        return False
    at, last, hash_ = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            hash_ = node_hash(beside, hash_)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            hash_ = node_hash(hash_, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and hash_ == root


def extends(first: int, first_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Return whether `path` proves that the tree of `first` leaves is the beginning of that of `size` leaves."""
    if not 0 <= first <= size:
        return False
    if first == 0:
        return first_root == EMPTY_ROOT and not path
    if first == size:
        return first_root == root and not path
    hashes = list(path)
    if first & (first - 1) == 0:
        hashes.insert(0, first_root)
    if not hashes:
        return False
    at, last = first - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == root
