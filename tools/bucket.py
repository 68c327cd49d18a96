"""Make the bucket of CLEARLOT_OBJECTS_URL where it is not there yet: versioned, and locked for KEEP_DAYS days.

`KEEP_DAYS=3650 python tools/bucket.py`. The lock is the bucket's own default, so whoever holds the application's key
can neither change nor remove a deed or a journal before that; the application itself never does.
"""

from __future__ import annotations

import os

from minio.commonconfig import GOVERNANCE
from minio.objectlockconfig import DAYS, ObjectLockConfig

from storage.buckets import Bucket
from storage.objects import open_objects


def make_bucket(store: Bucket, keep_days: int) -> bool:
    """Make the bucket of `store`; return False where it was there already. `keep_days`: at least 1."""
    if store.client.bucket_exists(bucket_name=store.bucket):
        return False
    store.client.make_bucket(bucket_name=store.bucket, object_lock=True)
    config = ObjectLockConfig(GOVERNANCE, keep_days, DAYS)
    store.client.set_object_lock_config(bucket_name=store.bucket, config=config)
    return True


if __name__ == "__main__":
    objects = open_objects(os.environ["CLEARLOT_OBJECTS_URL"])
    if isinstance(objects, Bucket) and make_bucket(objects, int(os.environ["KEEP_DAYS"])):
        print(f"made bucket {objects.bucket}")
