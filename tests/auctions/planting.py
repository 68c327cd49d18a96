"""Plant one fault into a copy of the core's source, for the tests that see whether it is noticed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import auctions

FOLDER = Path(auctions.__file__).parent
# Each imports only those before it (and what is never reloaded: messages, rulesets).
CHAIN = ("bidding", "stages", "english", "dutch", "gong", "hybrid", "rounds", "formats", "journal")

Fault = tuple[str, str, str]  # module, what stands there exactly once, what is planted


@contextmanager
def planted(fault: Fault) -> Iterator[ModuleType]:
    """Give the journal module of a core with that fault; afterwards the true modules are back."""
    true = {name: sys.modules[f"auctions.{name}"] for name in CHAIN}
    module, there, instead = fault
    try:
        for each in CHAIN[CHAIN.index(module) :]:
            source = (FOLDER / f"{each}.py").read_text("utf-8")
            if each == module:
                assert source.count(there) == 1, f"{module}.py has {source.count(there)} times: {there}"
                source = source.replace(there, instead)
            fresh = ModuleType(f"auctions.{each}")
            fresh.__file__ = str(FOLDER / f"{each}.py")
            sys.modules[f"auctions.{each}"] = fresh
            exec(compile(source, f"{each}.py with a fault", "exec"), fresh.__dict__)
        yield sys.modules["auctions.journal"]
    finally:
        for name, one in true.items():
            sys.modules[f"auctions.{name}"] = one
