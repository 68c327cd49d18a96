"""The application behind a real uvicorn on a free port, for browsers and for the Python client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from httpx2 import Response

from tests.servers import PATIENCE_S
from tests.web.conftest import Site, Visit, settings_for
from web.app import create_app
from web.live_protocol import LiveProtocol


class WebVisit(Visit):
    """A browser-like client over the network."""

    def __init__(self, site: ServedSite, *, csrf: str = "", person_id: int = 0, party_id: int = 0) -> None:
        self.url = site.url
        self.client = httpx2.Client(base_url=site.url, timeout=PATIENCE_S)  # type: ignore[assignment]
        self.csrf, self.person_id, self.party_id = csrf, person_id, party_id

    def post(self, address: str, data: Mapping[str, Any] | None = None, **more: Any) -> Response:
        return super().post(address, data, headers={"Origin": self.url, **more.pop("headers", {})}, **more)


class ServedSite(Site):
    """A site at `url`; people's cookies can be given to a browser."""

    def __init__(self, app: Any, url: str) -> None:
        self.app, self.url, self.db = app, url, app.state.db

    def visit(self, **more: Any) -> Visit:
        return WebVisit(self, **more)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call something of the running application, in its own thread."""
        self.app.state.jobs._loop.call_soon_threadsafe(function, *args)


@contextmanager
def serve(folder: Path, database_url: str, **more: Any) -> Iterator[ServedSite]:
    """Run the application until the block ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    app = create_app(settings_for(folder, database_url=database_url, base_url=url, **more))
    config = uvicorn.Config(app, host="127.0.0.1", port=port, ws=LiveProtocol, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < end
        time.sleep(0.01)
    try:
        yield ServedSite(app, url)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
