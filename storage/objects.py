"""Files, each under the SHA-256 of its content: a folder, or an S3 server.

The same content is kept once, and what was kept never changes nor goes: there is no delete (personal data is erased
by destroying its key, keys.py). A file is checked against its name whenever it is taken out. Its type, its name and
who may see it are the caller's rows.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from market.errors import BadInput, Fault, MarketError, NotFound

CHUNK_BYTES = 256 * 1024
REGION = "us-east-1"  # S3 servers of one's own call their only region so


class StoreUnavailable(MarketError):
    """The object store does not answer, or a file in it is not what was put there; bidding goes on without."""

    status = 503


@dataclass(frozen=True, slots=True)
class Kept:
    """What `put` kept: the SHA-256 of the content in lower-case hex, and its length."""

    digest: str
    size_bytes: int


class Objects(Protocol):
    """A place for files; `open_objects` makes one."""

    def put(self, stream: IO[bytes], *, limit_bytes: int) -> Kept:
        """Keep what `stream` holds from here on; when this returns, it is on disk.

        Raises: BadInput `too_large`, as soon as `limit_bytes` is passed; StoreUnavailable. Nothing is kept then.
        """

    @contextmanager
    def get(self, digest: str) -> Iterator[IO[bytes]]:
        """Open a file for reading from its first byte; all of it was checked against `digest` before.

        Raises: NotFound, StoreUnavailable (`object_damaged`, when the content is another one).
        """

    def exists(self, digest: str) -> bool:
        """Whether a file is kept under `digest`."""

    def check(self) -> None:
        """Raises: StoreUnavailable, when nothing could be put now."""

    def clear_abandoned(self, before: datetime) -> int:
        """Remove what was still being received when its process died, before that instant; return how many files."""


def open_objects(url: str) -> Objects:
    """Return the store at `url`: `file:///folder` or `s3://key:secret@host:port/bucket[?secure=1&region=NAME]`.

    The folder is made; the bucket must be there, with the versioning and object lock that its owner wants.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.username and parts.password and parts.hostname and parts.path.strip("/"):
        from storage.buckets import Bucket  # its client is slow to load, and a folder needs none

        options = parse_qs(parts.query)
        return Bucket(
            endpoint=parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}",
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password),
            bucket=parts.path.strip("/"),
            is_secure=options.get("secure", ["0"])[-1] == "1",
            region=options.get("region", [REGION])[-1],
        )
    # Not the URL itself: it may hold the secret.
    raise ValueError("an object store's address begins with file:/// or is s3://key:secret@host:port/bucket")


class Folder:
    """A folder: FIRST-TWO/REST of the digest, and `waiting/` for what is still being received."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._waiting = root / "waiting"
        self._waiting.mkdir(parents=True, exist_ok=True)

    def put(self, stream: IO[bytes], *, limit_bytes: int) -> Kept:
        part = None
        try:
            handle, name = tempfile.mkstemp(dir=self._waiting)
            part = Path(name)
            with open(handle, "wb") as file:  # noqa: PTH123 - a handle, not a path
                kept = copy_hashed(stream, file, limit_bytes)
                file.flush()
                os.fsync(file.fileno())
            target = self._path(kept.digest)
            target.parent.mkdir(exist_ok=True)
            part.replace(target)
            # The name, too, is on disk only when its folder is, and the folder's in its own.
            for folder in (target.parent, self.root):
                _sync(folder)
        except OSError as error:
            raise StoreUnavailable("objects_down") from error
        finally:
            if part:
                part.unlink(missing_ok=True)
        return kept

    @contextmanager
    def get(self, digest: str) -> Iterator[IO[bytes]]:
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError as error:
            raise NotFound("file", digest=digest) from error
        except OSError as error:
            raise StoreUnavailable("objects_down") from error
        with file:
            verify(file, digest)
            yield file

    def exists(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def check(self) -> None:
        if not os.access(self._waiting, os.W_OK):
            raise StoreUnavailable("objects_down")

    def clear_abandoned(self, before: datetime) -> int:
        abandoned = [part for part in self._waiting.iterdir() if part.stat().st_mtime < before.timestamp()]
        for part in abandoned:
            part.unlink(missing_ok=True)
        return len(abandoned)

    def _path(self, digest: str) -> Path:
        return self.root / checked(digest)[:2] / digest[2:]


def copy_hashed(stream: IO[bytes], target: IO[bytes], limit_bytes: int) -> Kept:
    """Copy a file and hash it on the way. Raises: BadInput `too_large`."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BadInput([Fault("too_large", "file", f"> {limit_bytes} bytes", f"at most {limit_bytes} bytes")])
        digest.update(chunk)
        target.write(chunk)
    return Kept(digest.hexdigest(), size_bytes)


def verify(file: IO[bytes], digest: str) -> None:
    """Read a whole file, and go back to its first byte. Raises: StoreUnavailable `object_damaged`."""
    found = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
    if found.hexdigest() != digest:
        raise StoreUnavailable("object_damaged", digest=digest)
    file.seek(0)


def checked(digest: str) -> str:
    """The digest becomes part of a path; every one was made here, so another is a bug."""
    assert len(digest) == 64, digest
    assert set(digest) <= set("0123456789abcdef"), digest
    return digest


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
