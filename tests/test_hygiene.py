"""Nothing is committed that only holds on one machine, that is not ours, or that cannot be checked by its hash."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 512 * 1024
# Each written so that this file does not match itself.
HOSTS = re.compile(r"resol[v]ed\"|index-ur[l]|find-link[s]")
PATHS = re.compile(r"/wor[k]/(main|shared)|/hom[e]/[a-z]+/|/roo[t]/|/farm[/]")
LOCKS = ("uv", "run", "dev", "node")


def committed() -> list[Path]:
    """Every committed file that is still there; in a copy without git, there is nothing to look at."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    # Whoever owns the folder: tests may run as another user than the one who cloned.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for file in committed():
        text = file.read_bytes().decode(errors="replace")
        found += [
            f"{file.relative_to(ROOT)}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()}"
            for hit in pattern.finditer(text)
        ]
    return found


def test_no_file_names_a_registry() -> None:
    assert lines_with(HOSTS) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(PATHS) == []


def test_no_file_is_large() -> None:
    assert [str(file) for file in committed() if file.stat().st_size > LIMIT_BYTES] == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_wheel_has_its_hash(name: str) -> None:
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    pinned = re.split(r"\n(?=\S)", lock.strip())
    assert pinned
    assert [entry.split()[0] for entry in pinned if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in lock


@pytest.mark.parametrize("folder", [".", "tests/browser"])
def test_every_npm_package_has_its_hash_and_no_host(folder: str) -> None:
    lock = (ROOT / folder / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(lock)["packages"].items() if name}
    assert packages
    assert [name for name, entry in packages.items() if not entry.get("integrity")] == []
    assert "://" not in lock


def test_only_what_a_lock_names_is_declared_exactly() -> None:
    for folder in (".", "tests/browser"):
        wanted = json.loads((ROOT / folder / "package.json").read_text())["dependencies"]
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values()), wanted
