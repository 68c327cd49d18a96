"""A node with nothing but the live part, in the test's own event loop: real uvicorn, real sockets, a real database."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from storage.database import Database
from tests import servers
from tests.servers import PATIENCE_S
from web import live
from web.bench import product_env
from web.client import Client
from web.security import Guard
from web.settings import Settings

SECRET = "7f3a91c2e05d4b8896aa13f0c4d27be1597c"


class Node:
    """One running node."""

    def __init__(self, port: int, gateway: live.Gateway) -> None:
        self.port, self.gateway = port, gateway
        self.url = f"http://127.0.0.1:{port}"

    async def socket(self, key: str = "", **headers: str) -> Talk:
        """Open a plain socket; the `hello` is read already."""
        given = {"Authorization": f"Bearer {key}"} if key else {}
        opened = await connect(
            f"ws://127.0.0.1:{self.port}/live",
            subprotocols=[Subprotocol("clearlot.v1")],
            additional_headers={**given, **headers},
            compression=None,
            max_size=None,
        )
        talk = Talk(opened)
        assert (await talk.next())["type"] == "hello"
        return talk

    def client(self, key: str) -> Client:
        """The product's client."""
        return Client(self.url, key=key)


class Talk:
    """A socket that speaks JSON and sorts what comes by type."""

    def __init__(self, opened: ClientConnection) -> None:
        self.opened = opened
        self.seen: list[dict[str, Any]] = []

    async def say(self, **message: Any) -> None:
        await self.opened.send(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self.opened.recv())
        self.seen.append(message)
        return message

    async def until(self, *kinds: str, **facts: Any) -> dict[str, Any]:
        """Read on to the next message of one of these types with these facts."""
        while True:
            message = await self.next()
            if message["type"] in kinds and facts.items() <= message.items():
                return message

    async def ask(self, *kinds: str, **message: Any) -> dict[str, Any]:
        """Say it and wait for an answer of one of these types."""
        await self.say(**message)
        return await self.until(*kinds)

    def sequences(self) -> list[int]:
        """The sequences of all entries that came so far."""
        return [entry["sequence"] for one in self.seen if one["type"] == "entries" for entry in one["entries"]]

    async def __aenter__(self) -> Talk:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.opened.close()


@asynccontextmanager
async def node(
    db: Database, folder: Path, *, protocol: str = "web.live_protocol:LiveProtocol", **settings: Any
) -> AsyncIterator[Node]:
    """Run a node; `protocol`: another websocket class shows that the gateway works on any ASGI server."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    given = Settings.model_validate(
        {
            "data": folder,
            "database_url": db.url,
            "base_url": f"http://127.0.0.1:{port}",
            "secret": SECRET,
            "signing_key": base64.b64encode(bytes(range(7, 39))).decode(),
            **settings,
        }
    )
    gateway = live.Gateway(given, db)
    app = Starlette(routes=live.routes, middleware=[Middleware(Guard, settings=given)])
    app.state.db, app.state.gateway, app.state.settings = db, gateway, given
    await gateway.start()
    server = uvicorn.Server(
        uvicorn.Config(app, ws=protocol, log_level="critical", lifespan="off", ws_per_message_deflate=False)
    )
    serving = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield Node(port, gateway)
    finally:
        server.should_exit = True
        await serving
        await gateway.stop()


class Product:
    """`clearlot serve` as a process of its own, to be killed and started again on the same port."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = product_env(folder, database_url, self.port)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "serve.out"
        self.pid = servers.session_folder() / f"product-{self.port}.pid"  # for tests/guard.py

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "web.cli", "serve"], env={**os.environ, **self.env}, stdout=out, stderr=out
            )
        self.pid.write_text(str(self.process.pid))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.pid.unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)
            self.pid.unlink(missing_ok=True)
