"""Imports point to the right, web → storage → market → auctions, and the two inner rings are pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RINGS = ("auctions", "market", "storage", "web")  # each may import itself and those before it
PURE = ("auctions", "market")

# What reads a clock, draws lots, or reaches outside; a value that needs one of these is passed in.
MODULES = {
    "random", "secrets", "logging", "os", "socket", "sqlite3", "subprocess", "urllib.request", "http.client", "shutil",
    "tempfile", "time", "sqlalchemy", "sqlmodel.orm", "structlog", "redis", "celery", "starlette", "fastapi", "minio",
    "httpx2", "psycopg", "threading", "multiprocessing", "locale",
}  # fmt: skip
CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open", "getenv", "print", "input"}
NAMES = {"Session", "environ", "print"}
ALLOWED = {
    # The sequencer measures how long a command waited, which is not the time of anything (design.md 2).
    ("auctions/sequencer.py", "time"),
}


def files(ring: str) -> list[Path]:
    return sorted((ROOT / ring).rglob("*.py"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import, at whatever depth: its line, and its absolute dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def faults_of_direction(ring: str, source: str) -> list[str]:
    inner = RINGS[: RINGS.index(ring) + 1]
    outside = {*RINGS, "tests", "tools"}
    found = []
    for line, name in imports(ast.parse(source)):
        top = name.partition(".")[0]
        if top in outside and top not in inner:
            found.append(f"{line}: {ring} imports {name}")
        if ring == "auctions" and top not in sys.stdlib_module_names and top != "auctions":
            found.append(f"{line}: auctions imports {name}; it has the standard library only")
    return found


def faults_of_purity(path: str, source: str) -> list[str]:
    found = []
    tree = ast.parse(source)
    for line, name in imports(tree):
        for module in MODULES:
            if f"{name}.".startswith(f"{module}.") and (path, module) not in ALLOWED:
                found.append(f"{line}: imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            # `open` as a method too would forbid zipfile's, which reads bytes that were passed in.
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            is_method = isinstance(function, ast.Attribute)
            if name in CALLS and not (name in ("open", "input", "print") and is_method):
                found.append(f"{node.lineno}: calls {name}()")
        if isinstance(node, ast.Name) and node.id in NAMES:
            found.append(f"{node.lineno}: names {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            found.append(f"{node.lineno}: names {node.attr}")
    return found


@pytest.mark.parametrize("ring", RINGS)
def test_imports_point_inward(ring: str) -> None:
    assert files(ring), "the ring has no file"
    found = {str(file.relative_to(ROOT)): faults_of_direction(ring, file.read_text()) for file in files(ring)}
    assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize("ring", PURE)
def test_the_inner_rings_are_pure(ring: str) -> None:
    names = {str(file.relative_to(ROOT)): file for file in files(ring)}
    found = {path: faults_of_purity(path, file.read_text()) for path, file in names.items()}
    assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from os import environ",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import date\ndate.today()",
        "def f():\n    from uuid import uuid4\n    return uuid4()",
        "with open('x') as f: pass",
        "from sqlmodel import Session",
        "def f(session: Session): pass",
        "import urllib.request",
        "import time",
    ],
)
def test_what_is_not_pure_is_noticed(source: str) -> None:
    if source != "from sqlmodel import Session":  # an import alone does nothing; its use is what counts
        assert faults_of_purity("market/x.py", source)
    else:
        assert faults_of_purity("market/x.py", f"{source}\nSession()")


@pytest.mark.parametrize(
    ("ring", "source"),
    [
        ("auctions", "from market import money"),
        ("auctions", "import sqlmodel"),
        ("market", "from storage.tables import Lot"),
        ("storage", "def f():\n    import web.app"),
        ("web", "from tests import conftest"),
    ],
)
def test_an_import_outward_is_noticed(ring: str, source: str) -> None:
    assert faults_of_direction(ring, source)
