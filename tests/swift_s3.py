"""OpenStack Swift as an S3 server on loopback, from its wheel: `python swift_s3.py FOLDER PORT`. Ready in 2 s.

S3_ACCESS_KEY (account:user) and S3_SECRET_KEY are in the environment. It checks signatures, but accepts a lock
header and still deletes, so what needs object lock is tested on MinIO or radosgw.
"""

import eventlet

eventlet.monkey_patch()

import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from eventlet import wsgi  # noqa: E402

FOLDER, PORT = Path(sys.argv[1]).resolve(), int(sys.argv[2])
ETC, DEVICES = FOLDER / "etc", FOLDER / "d"
SECRET = os.environ["S3_SECRET_KEY"]
ACCOUNT, USER = os.environ["S3_ACCESS_KEY"].split(":")

ETC.mkdir(parents=True, exist_ok=True)
(DEVICES / "sdb1").mkdir(parents=True, exist_ok=True)
(ETC / "swift.conf").write_text(
    "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
    "[storage-policy:0]\nname = default\ndefault = yes\n"
    "[swift-constraints]\nmax_header_size = 32768\n"
)

from swift.common import utils  # noqa: E402

utils.set_swift_dir(str(ETC))  # before anything reads the default folder

from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402


def serve(listener: Any, conf: str) -> None:
    app = loadapp(str(ETC / conf), global_conf={"log_name": conf})
    with Path(os.devnull).open("w") as log:
        wsgi.server(listener, app, log, protocol=SwiftHttpProtocol, capitalize_response_headers=False)


def ring(kind: str, port: int) -> None:
    """One copy of everything, on one device."""
    builder = RingBuilder(4, 1, 0)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "sdb1", "weight": 1.0, "meta": ""}
    builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(str(ETC / f"{kind}.ring.gz"))


listeners = {}
for kind in ("object", "container", "account"):
    listeners[kind] = eventlet.listen(("127.0.0.1", 0))
    ring(kind, listeners[kind].getsockname()[1])
    (ETC / f"{kind}.conf").write_text(
        f"[DEFAULT]\ndevices = {DEVICES}\nmount_check = false\nswift_dir = {ETC}\nfallocate_reserve = 0\n"
        f"log_level = WARNING\n[pipeline:main]\npipeline = {kind}-server\n"
        f"[app:{kind}-server]\nuse = egg:swift#{kind}\nallow_versions = true\n"
    )

FILTERS = {
    "catch_errors": "",
    "gatekeeper": "",
    "listing_formats": "",
    "bulk": "",
    "s3api": "location = us-east-1",
    "tempauth": f"user_{ACCOUNT}_{USER} = {SECRET} .admin",
    "copy": "",
    "slo": "",
    "dlo": "",
    "versioned_writes": "allow_versioned_writes = true\nallow_object_versioning = true",
    "symlink": "",
}
(ETC / "proxy.conf").write_text(
    f"[DEFAULT]\nswift_dir = {ETC}\nlog_level = WARNING\n"
    f"[pipeline:main]\npipeline = {' '.join(FILTERS)} proxy-server\n"
    "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
    + "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n{options}\n" for name, options in FILTERS.items())
)
for kind, listener in listeners.items():
    eventlet.spawn(serve, listener, f"{kind}.conf")
serve(eventlet.listen(("127.0.0.1", PORT)), "proxy.conf")
