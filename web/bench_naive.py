"""What `clearlot bench bids --against naive` compares with: the way in which most would write it.

One transaction for each bid, through SQLModel, in a thread: SELECT FOR UPDATE of the lot, look whether the amount is
enough, insert the bid, move the lot, commit, answer. Same database, same durability, same sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from sqlmodel import Field, Session, SQLModel, select

from market.money import parse_amount
from storage.database import Database


class NaiveLot(SQLModel, table=True):
    """A lot and its standing."""

    __tablename__ = "naive_lot"
    id: int = Field(primary_key=True)
    price_minor: int = 0
    bids: int = 0


class NaiveBid(SQLModel, table=True):
    """A bid."""

    __tablename__ = "naive_bid"
    id: int | None = Field(default=None, primary_key=True)
    lot_id: int
    command_id: str
    amount_minor: int


TABLES = [NaiveLot.__table__, NaiveBid.__table__]  # type: ignore[attr-defined]
for table in TABLES:
    SQLModel.metadata.remove(table)  # no table of the product


def place(session: Session, lot_id: int, command_id: str, amount_minor: int) -> str:
    """Take one bid, as the body of one transaction."""
    lot = session.exec(select(NaiveLot).where(NaiveLot.id == lot_id).with_for_update()).one()
    if amount_minor <= lot.price_minor:
        return "refused"
    session.add(NaiveBid(lot_id=lot_id, command_id=command_id, amount_minor=amount_minor))
    lot.price_minor = amount_minor
    lot.bids += 1
    session.add(lot)
    return "accepted"


class App:
    """Raw ASGI, as the echo."""

    def __init__(self) -> None:
        self.db: Database | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._start(os.environ["NAIVE_DATABASE_URL"])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            tasks = set()
            while (message := await receive())["type"] == "websocket.receive":
                task = asyncio.create_task(self._answer(message["text"], send))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    def _start(self, url: str) -> None:
        self.db = Database(url)
        for table in TABLES:
            table.create(self.db.engine, checkfirst=True)
        self.db.in_transaction(lambda session: [session.merge(NaiveLot(id=id)) for id in range(1, 1_001)])

    async def _answer(self, text: str, send: Callable[..., Any]) -> None:
        assert self.db is not None
        bid = json.loads(text)
        outcome = await self.db.in_thread(place, bid["auction"], bid["id"], parse_amount(bid["amount"], "CNY"))
        answer = {"type": "ack", "id": bid["id"], "auction": bid["auction"], "outcome": outcome}
        await send({"type": "websocket.send", "text": json.dumps(answer, separators=(",", ":"))})


app = App()
