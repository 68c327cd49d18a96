"""The socket under `/live`: uvicorn's websockets-sansio protocol, with a way past ASGI for accepted sockets.

The handshake stays ordinary ASGI: session, Origin and subprotocol are checked by the app.  After `accept` the endpoint
takes the socket over (`scope["extensions"]["live.take"]`) and returns; from then on whole text messages go
straight to a function and ready frames straight to the transport.  This doubles what a core can echo and deliver
(live-recipe.md 1).  Every doubt is left to the library's parser; `tests/web/test_live_protocol.py` compares the
answers with those of a bare `websockets` server, byte by byte.  Use: `uvicorn --ws web.live_protocol:LiveProtocol`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, apply_mask  # type: ignore[attr-defined]
from websockets.http11 import Request
from websockets.protocol import State

TAKE = "live.take"  # the name of the scope's extension
MESSAGE_BYTES = 65_536
SEND_BUFFER_BYTES = 65_536  # the kernel's; its default keeps megabytes of stale frames for one who does not read
CLOSE_TIMEOUT_S = 2.0  # for the peer's half of the closing handshake


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class _Nowhere(asyncio.Queue[Any]):
    """In place of the event queue of a socket that nobody reads through ASGI any more."""

    def put_nowait(self, item: Any) -> None:
        """Forget `item`."""


class LiveProtocol(WebSocketsSansIOProtocol):
    """A websocket that an endpoint may take over. Not taken, it is uvicorn's own."""

    behind = False  # more than 64 KiB wait in user space
    is_open = True  # neither side has begun to close

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = CLOSE_TIMEOUT_S
        self._on_text: Callable[[str], None] | None = None
        self._on_close: Callable[[], None] | None = None
        self._on_drained: Callable[[], None] | None = None

    # --- for the taker --------------------------------------------------------------------------

    def take(
        self, on_text: Callable[[str], None], on_close: Callable[[], None], on_drained: Callable[[], None]
    ) -> LiveProtocol:
        """Give every text message from here on to `on_text`, what came since `accept` at once.

        `on_close` is called once, when the socket is gone; `on_drained`, when one that was `behind` no longer is.
        """
        self._on_text, self._on_close, self._on_drained = on_text, on_close, on_drained
        early = self.queue
        self.queue = _Nowhere()
        self.scope = self.request = self.response = None  # type: ignore[assignment]
        self.conn.max_message_size = MESSAGE_BYTES
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        while not early.empty():
            message: Any = early.get_nowait()
            if message["type"] == "websocket.receive":
                if (text := message.get("text")) is None:
                    self.fail(1003, "text only")
                    break
                on_text(text)
        if self.read_paused:  # uvicorn stops reading after each message until the app has read it
            self.read_paused = False
            self.transport.resume_reading()
        if self.disconnected:
            self._gone()
        return self

    def tell(self, payload: bytes) -> None:
        """Send one text message; never blocks. Nothing, once the socket is closing."""
        if self.is_open:
            self.transport.write(text_frame(payload))

    def tell_all(self, payloads: list[bytes]) -> None:
        """Send several text messages in one write."""
        if self.is_open:
            self.transport.write(b"".join([text_frame(payload) for payload in payloads]))

    def tell_frame(self, frame: bytes, payload: bytes) -> None:
        """Send what `text_frame` made once for many; `payload` is what is in it, for sockets that frame themselves."""
        if self.is_open:
            self.transport.write(frame)

    def fail(self, code: int, reason: str) -> None:
        """Close with `code`, read what still comes to nowhere, and cut the line after a while."""
        if self.close_sent or self.conn.state is not State.OPEN:
            return
        self.stop_keepalive()
        self.conn.fail(code, reason)
        self._half_close()

    def waiting_bytes(self) -> int:
        """How much waits in user space to be sent."""
        return self.transport.get_write_buffer_size()

    # --- uvicorn's hooks --------------------------------------------------------------------------

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: Any = self.scope["extensions"]
            extensions[TAKE] = self.take

    async def run_asgi(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        else:
            if not self.handshake_complete:
                self.logger.error("ASGI callable returned without completing handshake.")
                self.send_500_response()
        if self._on_text is None and self.close_timer is None:
            self.transport.close()  # the end of the endpoint is the end of a socket that was not taken

    def data_received(self, data: bytes) -> None:
        conn = self.conn
        if self.close_sent and conn.parser_exc is not None:
            return  # failed: read to nowhere
        if self._on_text is None:
            super().data_received(data)
            return
        start, end = 0, len(data)
        if not conn.reader.buffer and conn.current_size is None:  # between two messages
            limit = conn.max_message_size or MESSAGE_BYTES
            while end - start >= 6 and data[start] == 0x81 and self.is_open:  # whole, plain text
                size, mask_at = data[start + 1] - 128, start + 2
                if size == 126:
                    if end - start < 8:
                        break
                    size, mask_at = data[mask_at] << 8 | data[mask_at + 1], mask_at + 2
                elif not 0 <= size < 126:
                    break  # unmasked or huge: the library's business
                text_at = mask_at + 4
                if end < text_at + size or size > limit:
                    break  # cut or too big: the library's, too
                start = text_at + size
                self._deliver(apply_mask(data[text_at:start], data[mask_at:text_at]))
        if start < end and not conn.eof_sent:
            super().data_received(data[start:] if start else data)

    def send_receive_event_to_app(self) -> None:
        if self._on_text is None:
            super().send_receive_event_to_app()
            return
        payload = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.fail(1003, "text only")
        else:
            self._deliver(payload)

    def _deliver(self, payload: bytes | bytearray) -> None:
        try:
            text = str(payload, "utf-8")
        except UnicodeDecodeError as fault:
            self.fail(1007, f"{fault.reason} at position {fault.start}")
            return
        assert self._on_text is not None
        self._on_text(text)

    def handle_parser_exception(self) -> None:
        self.stop_keepalive()
        self._half_close()

    def _half_close(self) -> None:
        # uvicorn closes at once: with unread bytes in the kernel that is a reset, and the peer never sees the code.
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent, self.is_open = True, False
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def pause_writing(self) -> None:
        self.behind = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.behind = False
        super().resume_writing()
        if self._on_drained is not None:
            self._on_drained()

    def handle_close(self, event: Frame) -> None:
        self.is_open = False
        super().handle_close(event)

    def keepalive_timeout(self) -> None:
        self.is_open = False
        super().keepalive_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        super().connection_lost(exc)
        self._gone()

    def _gone(self) -> None:
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    def shutdown(self) -> None:
        if self._on_text is None:
            super().shutdown()
            return
        self.stop_keepalive()
        if self.close_sent or self.conn.state is not State.OPEN:
            self.transport.close()
            return
        self.conn.send_close(1012, "restart")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent, self.is_open = True, False
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
