"""Files under the hash of their content, in a folder and on a real S3 server."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import IO
from urllib.parse import quote

import pytest
from minio import Minio

from market.errors import BadInput, NotFound
from storage.objects import CHUNK_BYTES, Folder, Objects, StoreUnavailable, open_objects
from tests import servers
from tests.conftest import S3

NOTHING = hashlib.sha256().hexdigest()


def address(s3: S3) -> str:
    return f"s3://{quote(s3.access_key)}:{quote(s3.secret_key)}@{s3.endpoint}/{s3.bucket}"


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(f"file://{tmp_path}/with%20space")
    return open_objects(address(request.getfixturevalue("s3")))


def content(objects: Objects, digest: str) -> bytes:
    with objects.get(digest) as file:
        return file.read()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_what_is_put_comes_out(objects: Objects, size: int) -> None:
    data = os.urandom(size)
    objects.check()
    kept = objects.put(io.BytesIO(data), limit_bytes=size)
    assert (kept.digest, kept.size_bytes) == (hashlib.sha256(data).hexdigest(), size)
    assert objects.exists(kept.digest)
    assert content(objects, kept.digest) == data


def test_a_large_file_goes_in_parts(objects: Objects) -> None:
    data = os.urandom(1024) * 1024 * 11  # over the 5 MiB from which S3 takes a file in parts
    kept = objects.put(io.BytesIO(data), limit_bytes=len(data))
    assert content(objects, kept.digest) == data


def test_the_same_content_is_kept_once_also_when_put_at_once(objects: Objects) -> None:
    data = os.urandom(100_000)
    digests: list[str] = []

    def put() -> None:
        digests.append(objects.put(io.BytesIO(data), limit_bytes=len(data)).digest)

    threads = [Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [hashlib.sha256(data).hexdigest()] * 8
    assert content(objects, digests[0]) == data


def test_one_byte_too_many_is_refused_and_not_kept(objects: Objects) -> None:
    data = os.urandom(CHUNK_BYTES + 1)
    with pytest.raises(BadInput) as refused:
        objects.put(io.BytesIO(data), limit_bytes=len(data) - 1)
    assert [fault.code for fault in refused.value.faults] == ["too_large"]
    assert not objects.exists(hashlib.sha256(data).hexdigest())


def test_no_more_is_read_than_the_limit_asks_for(objects: Objects) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return bytes(size)

    endless = Endless()
    stream: IO[bytes] = endless  # type: ignore[assignment]  # all that `put` uses is `read`
    with pytest.raises(BadInput):
        objects.put(stream, limit_bytes=10 * CHUNK_BYTES)
    assert endless.given == 11 * CHUNK_BYTES


def test_what_was_never_put_is_not_found(objects: Objects) -> None:
    assert not objects.exists(NOTHING)
    with pytest.raises(NotFound), objects.get(NOTHING):
        pass


def test_a_digest_is_never_a_path(objects: Objects) -> None:
    with pytest.raises(AssertionError):
        objects.exists("../" * 21 + "x")


def test_a_damaged_file_is_not_given_out_of_a_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    digest = folder.put(io.BytesIO(b"deed"), limit_bytes=4).digest
    (tmp_path / digest[:2] / digest[2:]).write_bytes(b"dead")
    with pytest.raises(StoreUnavailable) as damaged, folder.get(digest):
        pass
    assert damaged.value.code == "object_damaged"


def test_a_damaged_file_is_not_given_out_of_a_bucket(s3: S3) -> None:
    client = Minio(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, secure=False)
    client.put_object(bucket_name=s3.bucket, object_name=NOTHING, data=io.BytesIO(b"dead"), length=4)
    with pytest.raises(StoreUnavailable) as damaged, open_objects(address(s3)).get(NOTHING):
        pass
    assert damaged.value.code == "object_damaged"


def test_a_folder_keeps_nothing_of_what_was_refused_or_given_up(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(BadInput):
        folder.put(io.BytesIO(b"four"), limit_bytes=3)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    given_up, received = tmp_path / "waiting" / "a", tmp_path / "waiting" / "b"
    now = datetime.now(UTC)
    for file, at in ((given_up, now - timedelta(days=2)), (received, now)):
        file.touch()
        os.utime(file, (at.timestamp(), at.timestamp()))
    assert folder.clear_abandoned(now - timedelta(days=1)) == 1
    assert (given_up.exists(), received.exists()) == (False, True)


def test_a_server_that_is_down_or_refuses_is_one_kind_of_error(s3: S3) -> None:
    down = open_objects(f"s3://a:b@127.0.0.1:{servers.free_port()}/bucket")
    refused = open_objects(address(s3).replace(quote(s3.secret_key), "another"))
    no_bucket = open_objects(f"{address(s3)}-is-not-there")
    for objects in (down, refused, no_bucket):
        with pytest.raises(StoreUnavailable):
            objects.check()
        with pytest.raises(StoreUnavailable):
            objects.put(io.BytesIO(b"x"), limit_bytes=1)


def test_a_folder_that_cannot_be_written_is_the_same_kind_of_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "waiting").rmdir()
    with pytest.raises(StoreUnavailable):
        folder.check()
    with pytest.raises(StoreUnavailable):
        folder.put(io.BytesIO(b"x"), limit_bytes=1)


@pytest.mark.parametrize("url", ["", "http://host/bucket", "s3://host/bucket", "s3://a:b@host:9000/", "/folder"])
def test_a_wrong_address_is_refused_without_repeating_its_secret(url: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        open_objects(url)
    assert "a:b" not in str(refused.value)
