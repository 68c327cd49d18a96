"""The offline verifier: a public journal in, its outcome out, and every place where it was altered.

    python -m auctions.verify JOURNAL [--head SEQUENCE:HASH] [--proof FILE]... [--keys FILE]
    clearlot journal verify   ...the same, and checks signatures

JOURNAL has one line for each entry, as `proof.public_line` writes them. From the public parts alone it recomputes the
chain of hashes, the numbers and instants, who might bid, every amount against the least that was then valid, the
order of equal amounts, every extension, and the outcome (auctions/checks.py). What depends on secrets (maxima and a
hidden reserve) is checked as far as the public amounts bound it. Without a head (of a receipt, checkpoint or tree
head), a journal cut off at its end, or written anew from some entry on, cannot be told from one that is short. A
private part that was opened is checked against its commitment.

`--proof` is any file that the platform gave: a receipt, a checkpoint, a tree head, a proof of the log. `--keys` are
the platform's public keys, from their own address. docs/proof.md describes every byte. Standard library only; who
can check Ed25519 passes that in.
"""

import json
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from auctions.checks import UNREADABLE, Broken, Check, Problem, Verdict, read_canonical
from auctions.merkle import extends, includes, leaf_hash
from auctions.proof import Checkpoint, key_name

FILE_BYTES = 1 << 30

IsSigned: TypeAlias = Callable[[bytes, bytes, bytes], bool]  # (public key, signature, text): whether it is good

__all__ = ["Problem", "Verdict", "main", "read_lines", "verify"]


def verify(
    lines: Iterable[str],
    head: tuple[int, str] | None = None,
    *,
    proofs: Sequence[Any] = (),
    keys: Any = None,
    is_signed: IsSigned | None = None,
) -> Verdict:
    """Check a public journal, and what was given beside it.

    Args:
        lines: without their ends.
        head: (sequence, hash in hex) of an entry that must be in it.
        proofs: documents of the platform, as plain data: what they say of this journal must be so.
        keys: the document of its public keys, as plain data; None: the keys are taken from `proofs` and only noted.
        is_signed: checks an Ed25519 signature; None: signatures are not checked, and that is noted.
    """
    check = Check()
    number = 0
    for number, line in enumerate(lines, 1):
        if not check.line(number, line):
            break  # what follows a line that cannot be read, or that creates nothing, says nothing
    if not number:
        check.problem("empty", "There is no entry.", line=1)
    if head:
        _head(check, *head)
    for document in proofs:
        _Proofs(check, keys, is_signed).document(document)
    return check.verdict


def read_lines(data: bytes) -> list[str]:
    """Return the lines of a journal file. What is not UTF-8 becomes a line that cannot be read, and so does a cut end.

    Only a line feed ends a line: a text may hold other characters that some call line ends.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        lines.append(rest + b"\n")  # the last line has no end: no line holds one within
    return [line.decode(errors="replace") if _is_text(line) else "\n" for line in lines]


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _head(check: Check, sequence: int, stated: str) -> None:
    if check.hashes.get(sequence) != stated:
        line = check.lines.get(sequence, len(check.lines) + 1)
        check.problem("other_head", f"Entry {sequence} has not the hash {stated}: cut off, or written anew.", line=line)


class _Proofs:
    """Checks documents of the platform against a journal that was read. What is wrong has line 0."""

    def __init__(self, check: Check, keys: Any, is_signed: IsSigned | None) -> None:
        self.check = check
        self.is_signed = is_signed
        self.keys: dict[str, dict[str, Any]] | None = None
        if keys is not None:
            try:
                self.keys = {str(one["key_id"]): one for one in keys["keys"]}
            except (TypeError, KeyError):
                self.problem("proof_unreadable", "The public keys cannot be read.")
                self.keys = {}

    def problem(self, code: str, text: str) -> None:
        """Note a problem with what was given beside the journal."""
        self.check.problem(code, text, line=0)

    def document(self, document: Any) -> None:
        """Check everything that a document says."""
        known = len(self.check.verdict.notes) + len(self.check.verdict.problems)
        try:
            if "text" in document:
                self.signed(document)
            if document.get("checkpoint"):
                self.signed(document["checkpoint"], "checkpoint")
            if document.get("log"):
                self.included(document["log"])
            if document.get("consistency"):
                self.grown(document["consistency"])
        except UNREADABLE as fault:
            self.problem("proof_unreadable", f"A proof cannot be read: {type(fault).__name__}.")
        if known == len(self.check.verdict.notes) + len(self.check.verdict.problems):
            self.problem("proof_unreadable", "A file that was given as a proof proves nothing.")

    def signed(self, document: Any, kind: str | None = None) -> dict[str, Any]:
        """Check a signed text, and what it says of this journal; return it as plain data."""
        text, key_id = document["text"], document["key_id"]
        said: dict[str, Any] = read_canonical(text)
        if said["key"] != key_id or kind not in (None, said["type"]):
            raise Broken("another kind of text, or another key")
        self._signature(text, key_id, said["signed_ms"], document)
        match said["type"]:
            case "receipt":
                self._of_journal(said)
                self._of_journal({**said["checkpoint"], "auction": said["auction"]})
            case "checkpoint":
                self._of_journal(said)
            case "tree_head":
                pass
            case _:
                raise Broken("kind")
        self.check.verdict.notes.append(f"{said['type']}: checked, key {key_id}")
        return said

    def _signature(self, text: str, key_id: str, signed_ms: int, document: Any) -> None:
        if self.keys is None:
            public_key = b64decode(document["public_key"], validate=True)
            if key_name(public_key) != key_id:
                self.problem("unknown_key", f"The key beside the signature is not {key_id}.")
        else:
            known = self.keys.get(key_id)
            if known is None:
                self.problem("unknown_key", f"Key {key_id} is not one of the public keys.")
                return
            public_key = b64decode(known["public_key"], validate=True)
            until_ms = known["until_ms"]
            if key_name(public_key) != key_id:
                self.problem("unknown_key", f"The public key that is called {key_id} is another one.")
            if signed_ms < known["from_ms"] or (until_ms is not None and signed_ms >= until_ms):
                self.problem("key_not_valid", f"Key {key_id} was not valid when this was signed.")
        if self.is_signed is None:
            self.check.verdict.notes.append("signatures: not checked, this program cannot")
        elif not self.is_signed(public_key, b64decode(document["signature"], validate=True), text.encode()):
            self.problem("signature", f"The signature by key {key_id} is not over this text.")

    def _of_journal(self, said: dict[str, Any]) -> None:
        if said["auction"] != self.check.verdict.auction_id:
            self.problem("auction", f"A proof is of auction {said['auction']}.")
            return
        _head(self.check, said["sequence"], said["hash"])

    def included(self, log: Any) -> None:
        """Check that a checkpoint of this journal is a leaf of the log under a signed tree head."""
        leaf, index = log["leaf"], log["index"]
        said = read_canonical(leaf)
        of_leaf = Checkpoint(said["auction"], said["sequence"], said["at_ms"], bytes.fromhex(said["hash"]))
        if of_leaf.text() != leaf:
            raise Broken("leaf")
        self._of_journal(said)
        tree = self.signed(log["tree_head"], "tree_head")
        path = [bytes.fromhex(each) for each in log["path"]]
        if not includes(leaf_hash(leaf.encode()), index, tree["size"], path, bytes.fromhex(tree["root"])):
            self.problem("inclusion", f"The checkpoint is not leaf {index} of the log of {tree['size']} leaves.")
        self.check.verdict.notes.append(f"log: checkpoint {said['sequence']} is leaf {index} of {tree['size']}")

    def grown(self, consistency: Any) -> None:
        """Check that the log under an earlier tree head is the beginning of that under a later one."""
        first = self.signed(consistency["first"], "tree_head")
        second = self.signed(consistency["second"], "tree_head")
        path = [bytes.fromhex(each) for each in consistency["path"]]
        roots = bytes.fromhex(first["root"]), bytes.fromhex(second["root"])
        if not extends(first["size"], roots[0], second["size"], roots[1], path):
            self.problem("consistency", f"The log of {first['size']} leaves is no beginning of {second['size']}.")
        self.check.verdict.notes.append(f"log: {first['size']} leaves are the beginning of {second['size']}")


USAGE = (
    "usage: clearlot journal verify JOURNAL [--head SEQUENCE:HASH] [--proof FILE]... [--keys FILE]\n"
    "       python -m auctions.verify, with the same arguments, checks no signatures\n"
)


def main(arguments: list[str], is_signed: IsSigned | None = None) -> int:
    """Verify a file; return the exit status: 0 good, 1 altered, 2 wrong arguments."""
    head: tuple[int, str] | None = None
    files: dict[str, list[str]] = {"": [], "--proof": [], "--keys": []}
    rest = list(arguments)
    while rest:
        one = rest.pop(0)
        if one == "--head" and rest and rest[0].partition(":")[0].isdecimal():
            at, _, stated = rest.pop(0).partition(":")
            head = (int(at), stated.lower())
        elif one in ("--proof", "--keys") and rest:
            files[one].append(rest.pop(0))
        elif one.startswith("--"):
            files[""].clear()
            break
        else:
            files[""].append(one)
    if len(files[""]) != 1 or len(files["--keys"]) > 1:
        sys.stderr.write(USAGE)
        return 2
    name = ""
    try:
        proofs = [json.loads(Path(name := each).read_bytes()) for each in files["--proof"]]
        keys = [json.loads(Path(name := each).read_bytes()) for each in files["--keys"]]
        lines = read_lines(Path(name := files[""][0]).read_bytes())
    except (OSError, ValueError) as fault:
        sys.stderr.write(f"{name}: cannot be read: {type(fault).__name__}\n")
        return 2
    verdict = verify(lines, head, proofs=proofs, keys=keys[0] if keys else None, is_signed=is_signed)
    for problem in verdict.problems:
        where = f"line {problem.line}" if problem.line else "proof"
        sys.stdout.write(f"{where}: {problem.code}: {problem.text}\n")
    for note in dict.fromkeys(verdict.notes):
        sys.stdout.write(f"{note}\n")
    if verdict.good:
        for sequence, fact in verdict.opened:
            sys.stdout.write(f"opened: entry {sequence}: {json.dumps(fact, ensure_ascii=False)}\n")
        outcome = verdict.closed.text() if verdict.closed else "withdrawn" if verdict.withdrawn else "not ended"
        sys.stdout.write(f"good: auction {verdict.auction_id}, {verdict.sequence} entries, {outcome}\n")
        sys.stdout.write(f"head {verdict.sequence}:{verdict.hash.hex()}\n")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
