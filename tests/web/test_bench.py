"""The benches measure what they say: rising bids, whole rounds, the naive way as slow as it is but right."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from storage.database import Database
from web import bench, bench_core, bench_naive
from web.bench import Bids, Line, client_frame


def unmasked(frame: bytes) -> dict[str, object]:
    message: dict[str, object] = json.loads(frame[6:])
    return message


def options(**more: Any) -> bench.Options:
    usual: dict[str, Any] = {"database": "sqlite", "in_flight": 8, "runs": 1, "rows": 1, "auctions": 1, "entries": 1}
    return bench.Options(**usual | more)


def test_bids_rise_whichever_socket_sends_next() -> None:
    lines = [Line(socket=None) for _ in range(3)]  # type: ignore[arg-type]  # nothing is sent
    bids = Bids([7, 8])
    bids.load(lines, 6, lots=2)
    supply = lines[0].supply
    assert all(line.supply is supply for line in lines)
    made = [unmasked(frame) for frame in supply.frames]
    assert [one["auction"] for one in made] == [7, 8, 7, 8, 7, 8]
    assert [one["amount"] for one in made] == ["101.00", "102.00", "103.00", "104.00", "105.00", "106.00"]
    bids.load(lines, 1)
    assert unmasked(lines[2].supply.frames[0])["id"] == "bench-00000007"


def test_the_core_accepts_every_bid_of_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_core, "BIDS", 500)
    monkeypatch.setattr(bench_core, "quiet_collector", lambda: None)  # it would outlive this test
    figures = bench_core.run_decide(options())
    assert (figures["bench"], figures["bids"], figures["unit"]) == ("decide", 500, "bids/s of CPU")
    fold, wanted = bench_core._begun(), bench_core._bids()
    bench_core._take_all(fold, wanted, "0" * 32 * len(wanted))
    standing = fold.auction.standing(fold.sequence)
    assert standing.bids > len(wanted)  # each one, and the automatic ones that answered


@pytest.mark.parametrize("lots", [1, 2])
def test_a_round_over_real_sockets(lots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SECONDS", 0.3)
    monkeypatch.setattr(bench, "WARM_UP_S", 0.1)
    monkeypatch.setattr(bench, "BIDDERS", 4)
    monkeypatch.setattr(bench, "START_S", 180.0)
    monkeypatch.setattr(bench, "cores_of_ours", lambda: (None, None))  # this process goes on with other tests
    figures = bench.run_bids(options(lots=lots))
    assert (figures["failed"], figures["lots"], figures["limit_is"]) == (
        0, lots, bench.LIMITS["lots" if lots > 1 else "echo"],
    )  # fmt: skip
    assert figures["ours"] > 0
    assert figures["ratio"] > 0


def test_the_naive_way_keeps_the_order_too(db: Database) -> None:
    app = bench_naive.App()
    app._start(db.url)
    assert app.db is not None
    naive = app.db

    def bids(which: int) -> None:
        for at in range(10):
            naive.in_transaction(bench_naive.place, 1, f"{which}-{at}", 100 * at + which)

    threads = [threading.Thread(target=bids, args=(which,)) for which in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    def look(session: Session) -> tuple[list[int], bench_naive.NaiveLot]:
        amounts = session.exec(select(bench_naive.NaiveBid.amount_minor).order_by(bench_naive.NaiveBid.id))  # type: ignore[arg-type]
        return list(amounts), session.get_one(bench_naive.NaiveLot, 1)

    amounts, lot = naive.read(look)
    naive.close()
    assert amounts == sorted(set(amounts))
    assert (lot.bids, lot.price_minor) == (len(amounts), amounts[-1])


def test_frames_are_masked_as_clients_must() -> None:
    assert client_frame(b"x" * 10)[:2] == b"\x81\x8a"
    assert client_frame(b"x" * 200)[:4] == b"\x81\xfe\x00\xc8"


def test_an_unknown_combination_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="postgresql"):
        bench.run_bids(options(nodes=2))
