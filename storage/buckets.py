"""Files in a bucket of an S3 server; their interface, and a folder for them, stand in storage/objects.py."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, ClassVar

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from market.errors import NotFound
from storage.objects import CHUNK_BYTES, Kept, StoreUnavailable, checked, copy_hashed, verify

CONNECT_SECONDS = 2
READ_SECONDS = 30


class Bucket:
    """A bucket of an S3 server; a file's key is its digest."""

    # A few tries for what a restart of the server breaks; a person waits behind this.
    RETRIES: ClassVar = urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))

    def __init__(
        self, *, endpoint: str, access_key: str, secret_key: str, bucket: str, is_secure: bool, region: str
    ) -> None:
        self.bucket = bucket
        self.client = Minio(
            endpoint=endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=is_secure,
            region=region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS), retries=self.RETRIES, maxsize=10
            ),
        )

    def put(self, stream: IO[bytes], *, limit_bytes: int) -> Kept:
        # The name is known only when all has been read, so it is received here first.
        with _answers(), tempfile.TemporaryFile() as file:
            kept = copy_hashed(stream, file, limit_bytes)
            file.seek(0)
            if not self.exists(kept.digest):
                self.client.put_object(
                    bucket_name=self.bucket, object_name=kept.digest, data=file, length=kept.size_bytes
                )
        return kept

    @contextmanager
    def get(self, digest: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile() as file:
            try:
                with _answers():
                    answer = self.client.get_object(bucket_name=self.bucket, object_name=checked(digest))
                    try:
                        shutil.copyfileobj(answer, file, CHUNK_BYTES)
                    finally:
                        answer.close()
                        answer.release_conn()
            except S3Error as error:
                raise NotFound("file", digest=digest) from error
            file.seek(0)
            verify(file, digest)
            yield file

    def exists(self, digest: str) -> bool:
        try:
            with _answers():
                self.client.stat_object(bucket_name=self.bucket, object_name=checked(digest))
        except S3Error:
            return False
        return True

    def check(self) -> None:
        with _answers():
            if not self.client.bucket_exists(bucket_name=self.bucket):
                raise StoreUnavailable("objects_down")

    def clear_abandoned(self, before: datetime) -> int:
        return 0  # a file that is received has no name here; an upload in parts that broke off is the server's to end


@contextmanager
def _answers() -> Iterator[None]:
    """Let only "there is no such object" through as S3Error; all else is the server's trouble."""
    try:
        yield
    except S3Error as error:
        if error.code in ("NoSuchKey", "NoSuchObject"):
            raise
        raise StoreUnavailable("objects_down") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreUnavailable("objects_down") from error
