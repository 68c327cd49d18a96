"""Make all locks anew from pyproject.toml, requirements/*.in and package.json: `make lock`, `make lock ARGS=-U`.

uv does it, since pip-tools writes the machine's index addresses into what it makes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tools.assets import ROOT, npm

COMPILE = ["pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
SOURCES = {
    "uv": ["requirements/uv.in"],
    "node": ["requirements/node.in"],
    "run": ["pyproject.toml"],
    "dev": ["pyproject.toml", "--group", "dev"],
}


def lock_python(options: list[str]) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    for kind, source in SOURCES.items():
        target = ["--no-header", "--quiet", "-o", f"requirements/{kind}.txt"]
        subprocess.run([uv, *COMPILE, *source, *target, *options], cwd=ROOT, check=True)


def lock_npm(folder: Path) -> None:
    command, env = npm()
    subprocess.run(
        [*command, "install", "--package-lock-only", "--no-audit", "--no-fund"], cwd=folder, env=env, check=True
    )
    # Addresses where authors ask for money are no part of what is locked.
    path = folder / "package-lock.json"
    lock = json.loads(path.read_text())
    for package in lock["packages"].values():
        package.pop("funding", None)
    path.write_text(json.dumps(lock, indent=2) + "\n")


if __name__ == "__main__":
    lock_python(sys.argv[1:])
    lock_npm(ROOT)
    lock_npm(ROOT / "tests" / "browser")
