"""The taken socket answers every byte sequence as a bare `websockets` server does, whole and cut byte by byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.servers import PATIENCE_S
from web.live_protocol import MESSAGE_BYTES, TAKE, LiveProtocol, text_frame

HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def text(data: bytes, **more: Any) -> bytes:
    return frame(Opcode.TEXT, data, **more)


def cont(data: bytes, *, fin: bool = True) -> bytes:
    return frame(Opcode.CONT, data, fin=fin)


CLOSE = frame(Opcode.CLOSE, b"\x03\xe8")
SEQUENCES = {
    "nothing": CLOSE,
    "empty": text(b"") + CLOSE,
    "one": text(b"hello") + CLOSE,
    "three at once": text(b"a") + text(b"b") + text(b"c") + CLOSE,
    "125": text(b"x" * 125) + CLOSE,
    "126": text(b"x" * 126) + CLOSE,
    "chinese": text("出价".encode()) + CLOSE,
    "fragments": text(b"he", fin=False) + cont(b"l", fin=False) + cont(b"lo") + text(b"after") + CLOSE,
    "fragments with a ping": text(b"he", fin=False) + frame(Opcode.PING, b"p") + cont(b"llo") + CLOSE,
    "utf-8 cut by a fragment": text("出".encode()[:1], fin=False) + cont("出".encode()[1:]) + CLOSE,
    "ping": frame(Opcode.PING, b"are you there") + text(b"x") + CLOSE,
    "pong": frame(Opcode.PONG, b"unasked") + text(b"x") + CLOSE,
    "close with a reason": frame(Opcode.CLOSE, b"\x03\xe9bye"),
    "close without a code": frame(Opcode.CLOSE, b""),
    "not utf-8": text(b"\xff\xfe") + text(b"never"),
    "not masked": text(b"x", mask=False),
    "continuation of nothing": cont(b"x"),
    "text inside of fragments": text(b"x", fin=False) + text(b"y"),
    "reserved bit": bytes((0xC1, 0x80, 0, 0, 0, 0)),
    "unknown opcode": bytes((0x83, 0x80, 0, 0, 0, 0)),
    "fragmented ping": bytes((0x09, 0x81, 0, 0, 0, 0, 0x78)),
    "close of one byte": bytes((0x88, 0x81, 0, 0, 0, 0, 3)),
    "a code that nobody may send": frame(Opcode.CLOSE, b"\x03\xed"),
}
LONG = {
    "65535": text(b"x" * 65_535) + CLOSE,
    "65536": text(b"x" * 65_536) + CLOSE,
    "65537": text(b"x" * 65_537),
    "too much in fragments": text(b"x" * 40_000, fin=False) + cont(b"x" * 40_000),
}


@asynccontextmanager
async def ours() -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        take = scope["extensions"][TAKE]
        taken: LiveProtocol = take.__self__
        take(lambda message: taken.tell(message.encode()), lambda: None, lambda: None)

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ws=LiveProtocol,
            lifespan="off",
            log_level="critical",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
    )
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0)
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving


@asynccontextmanager
async def bare() -> AsyncIterator[int]:
    async def echo(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass

    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=MESSAGE_BYTES, ping_interval=None) as server:
        yield next(iter(server.sockets)).getsockname()[1]


async def answer(port: int, data: bytes, *, cut: bool) -> bytes:
    """Send `data` after the handshake; return everything that comes until the server closes, headers left out.

    A close at its end is sent when all messages before it were answered: the library answers none after a close.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    body = data.removesuffix(CLOSE)
    try:
        for piece in [body[at : at + 1] for at in range(len(body))] if cut else [body]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            if body != data:
                while sum(opcode == Opcode.TEXT for opcode, _ in frames_of(got)) < messages_in(body):
                    got += await reader.read(65_536)
                writer.write(CLOSE)
            return got + await reader.read()
    finally:
        writer.close()


def messages_in(body: bytes) -> int:
    """How many whole text messages: frames that end one."""
    count = 0
    while body:
        final, opcode, size, at = body[0] & 0x80, body[0] & 15, body[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(body[2 : 2 + width], "big"), 2 + width
        count += bool(final) and opcode in (Opcode.TEXT, Opcode.CONT)
        body = body[at + 4 + size :]
    return count


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Opcodes and payloads; of a close only its code: the reason's words are the library's."""
    found = []
    while len(data) >= 2:
        opcode, size, at = data[0] & 15, data[1], 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + size:
            break  # more is on its way
        payload, data = data[at : at + size], data[at + size :]
        found.append((opcode, payload[:2] if opcode == Opcode.CLOSE else payload))
    return found


@pytest.mark.parametrize("cut", [False, True])
async def test_every_byte_sequence_is_answered_as_by_the_library(cut: bool) -> None:
    async with ours() as our_port, bare() as bare_port:
        for name, data in SEQUENCES.items() if cut else (SEQUENCES | LONG).items():
            got, wanted = await asyncio.gather(answer(our_port, data, cut=cut), answer(bare_port, data, cut=cut))
            assert frames_of(got) == frames_of(wanted), name


async def test_binary_is_refused() -> None:
    async with ours() as port:
        assert frames_of(await answer(port, frame(Opcode.BINARY, b"x"), cut=False)) == [(8, b"\x03\xeb")]


async def test_a_restart_says_so_also_to_one_who_is_silent() -> None:
    async with ours() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert frames_of(await reader.read())[0] == (8, (1012).to_bytes(2, "big"))
    writer.close()


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_the_librarys(size: int) -> None:
    assert text_frame(b"x" * size) == text(b"x" * size, mask=False)
