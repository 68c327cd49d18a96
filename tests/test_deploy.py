"""What production runs with: compose.yaml; the proxy before two nodes and the bucket, both real."""

from __future__ import annotations

import io
import os
import re
import ssl
import string
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
import typer
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from minio.error import S3Error

from storage.buckets import Bucket
from storage.objects import open_objects
from tests import servers
from tests.conftest import S3, lacking
from tools.bucket import make_bucket
from web.cli import app as cli
from web.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


# --- compose.yaml --------------------------------------------------------------------------------


def test_every_setting_that_compose_gives_is_one_that_is_read() -> None:
    given = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    given = {name.removeprefix("CLEARLOT_").lower() for name in given if name.startswith("CLEARLOT_")}
    assert given
    assert given <= set(Settings.model_fields)


def test_every_command_in_compose_is_one_of_ours() -> None:
    known = typer.main.get_group(cli).commands
    used = [service["command"] for service in COMPOSE["services"].values() if service.get("image") == "clearlot"]
    assert {command[0] for command in used if command} == {"serve", "worker", "migrate"}
    assert {command[0] for command in used if command} <= set(known)


def test_compose_has_no_default_for_a_secret() -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    secrets = [(name, default) for name, default in used if re.search("SECRET|PASSWORD|KEY$|TLS|BASE_URL", name)]
    assert len(secrets) > 8
    assert [pair for pair in secrets if pair[1] != ":?"] == []


def test_compose_has_every_part() -> None:
    services = COMPOSE["services"]
    assert {"proxy", "web-1", "web-2", "worker", "beat", "postgresql", "valkey", "s3", "mail"} <= set(services)
    assert services["s3"]["image"] == "${S3_IMAGE:?}"
    open_to_all = [
        port for service in services.values() for port in service.get("ports", []) if "127.0.0.1" not in port
    ]
    assert open_to_all == ["80:80", "443:443"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


# --- the proxy -----------------------------------------------------------------------------------


class Node(BaseHTTPRequestHandler):
    """A node that answers with its port and what it was told of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = [self.headers.get(name, "") for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Upgrade", "Host")]
        body = " ".join([str(self.connection.getsockname()[1]), *said]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def node() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def certify(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "fullchain.pem").write_bytes(pem)
    (folder / "privkey.pem").write_bytes(private)


class Proxy:
    def __init__(self, http: int, https: int) -> None:
        self.http, self.https = http, https

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, str]:
        context = ssl._create_unverified_context()  # our own certificate, made a moment ago
        connection = HTTPSConnection("127.0.0.1", self.https, context=context, timeout=servers.PATIENCE_S)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read().decode()


@contextmanager
def proxy(nginx: str, folder: Path, web_1: int, web_2: int) -> Iterator[Proxy]:
    """The proxy of production, in front of two ports of this machine."""
    certify(folder)
    running = Proxy(servers.free_port(), servers.free_port())
    values = {
        "WEB_1": f"127.0.0.1:{web_1}",
        "WEB_2": f"127.0.0.1:{web_2}",
        "TLS": str(folder),
        "LISTEN_HTTP": f"127.0.0.1:{running.http}",
        "LISTEN_HTTPS": f"127.0.0.1:{running.https}",
    }
    # As the image's start does it: only these names are replaced; nginx's own variables stay.
    site = string.Template((ROOT / "deploy" / "nginx.conf.template").read_text()).safe_substitute(values)
    (folder / "site.conf").write_text(site)
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in paths)
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.getuid() == 0 else ''}\ndaemon off; worker_processes 1; pid {folder}/nginx-own.pid;\n"
        f"error_log stderr warn; events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; {temporary} include {folder}/site.conf; }}\n"
    )
    command = [nginx, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    process = servers.start("nginx", command, folder, lambda: running.get("/healthz"))
    try:
        yield running
    finally:
        process.terminate()
        process.wait(servers.PATIENCE_S)


def test_both_nodes_serve_and_one_may_go(nginx: str, tmp_path: Path) -> None:
    with node() as staying:
        with node() as leaving, proxy(nginx, tmp_path, staying, leaving) as site:
            answers = {site.get("/")[1].split()[0] for _ in range(10)}
            assert answers == {str(staying), str(leaving)}
        # The proxy went with its block; a new one finds one node of two.
        with proxy(nginx, tmp_path, staying, leaving) as site:
            answered = [site.get("/") for _ in range(10)]
            assert {answer.status for answer, _ in answered} == {200}
            assert {body.split()[0] for _, body in answered} == {str(staying)}


def test_the_proxy_says_who_asked_and_believes_no_claim(nginx: str, tmp_path: Path) -> None:
    with node() as one, node() as two, proxy(nginx, tmp_path, one, two) as site:
        _, body = site.get("/", X_Forwarded_For="203.0.113.9", X_Forwarded_Proto="http", Host="clearlot.example")
        assert body.split()[1:] == ["127.0.0.1", "https", "clearlot.example"]
        _, body = site.get("/live", Upgrade="websocket", Connection="upgrade", Host="clearlot.example")
        assert body.split()[1:] == ["127.0.0.1", "https", "websocket", "clearlot.example"]
        assert site.get("/metrics")[0].status == 404
        plain = HTTPConnection("127.0.0.1", site.http, timeout=servers.PATIENCE_S)
        plain.request("GET", "/lots?page=2", headers={"Host": "clearlot.example"})
        moved = plain.getresponse()
        assert (moved.status, moved.headers["Location"]) == (308, "https://clearlot.example/lots?page=2")


# --- the bucket ----------------------------------------------------------------------------------


def test_what_is_in_the_bucket_cannot_be_removed(s3: S3) -> None:
    if not s3.has_object_lock:
        lacking("an S3 server with object lock (MinIO or radosgw)")
    keys = f"{quote(s3.access_key)}:{quote(s3.secret_key)}"
    store = open_objects(f"s3://{keys}@{s3.endpoint}/{s3.bucket}-locked")
    assert isinstance(store, Bucket)
    assert make_bucket(store, keep_days=1)
    assert not make_bucket(store, keep_days=1)
    digest = store.put(io.BytesIO(b"deed"), limit_bytes=4).digest
    version = store.client.stat_object(bucket_name=store.bucket, object_name=digest).version_id
    with pytest.raises(S3Error) as refused:
        store.client.remove_object(bucket_name=store.bucket, object_name=digest, version_id=version)
    assert refused.value.code == "AccessDenied"
    with store.get(digest) as file:
        assert file.read() == b"deed"


def test_ci_calls_what_people_call() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make test")
    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
