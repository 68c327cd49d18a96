"""Make `.venv` hold exactly what a lock says: `python3 tools/bootstrap.py run|dev`. Standard library only.

Every file is checked against the hash in the lock, whoever serves it. A second call finds the stamp and does nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
KINDS = ("run", "dev")


def locks(kind: str) -> list[Path]:
    """Return the locks of `kind`; Node comes from a wheel only where npm is missing."""
    names = [kind] if shutil.which("npm") else [kind, "node"]
    return [ROOT / "requirements" / f"{name}.txt" for name in names]


def fingerprint(files: list[Path]) -> str:
    """Return the SHA-256 of the interpreter's version and the locks, in order."""
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def install(files: list[Path]) -> None:
    """Install `files` into `.venv`: with uv, else with pip, which is slower but reads pip's configuration."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    uv = VENV / "bin" / "uv"
    lists = [argument for file in files for argument in ("-r", str(file))]
    if subprocess.run([*pip, "-r", str(ROOT / "requirements" / "uv.txt")]).returncode == 0:
        # The machine's certificates, as pip does: a network may have a proxy with its own.
        sync = [str(uv), "pip", "sync", "--system-certs", "--quiet", "--require-hashes", "--python", str(PYTHON)]
        if subprocess.run([*sync, *map(str, files)]).returncode == 0:
            return
        print("uv did not succeed; trying pip", file=sys.stderr)
    subprocess.run([*pip, *lists], check=True)


def main(kind: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python is given first
        sys.exit(f"Clearlot needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    files = locks(kind)
    stamp = VENV / "installed"
    wanted = fingerprint(files)
    # A dev set holds the run set too, so `make run` after `make test` installs nothing.
    known = [f"{name} {fingerprint(locks(name))}" for name in ([kind, "dev"] if kind == "run" else [kind])]
    if stamp.exists() and stamp.read_text() in known:
        return
    if not PYTHON.exists():
        print("making .venv", flush=True)
        venv.create(VENV, with_pip=True, symlinks=True)
    stamp.unlink(missing_ok=True)
    print(f"installing requirements/{kind}.txt", flush=True)
    install(files)
    stamp.write_text(f"{kind} {wanted}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python3 tools/bootstrap.py {'|'.join(KINDS)}")
    main(sys.argv[1])
