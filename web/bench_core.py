"""`clearlot bench decide`: what the pure core can order, without sockets and without a database."""

from __future__ import annotations

import gc
import secrets
import statistics
import time
from collections.abc import Sequence
from typing import Any

from auctions.journal import SALT_DIGITS, Entry, Fold
from auctions.messages import Admit, Command, Create, PlaceBid, Tick
from auctions.rulesets import Terms, packaged
from web.bench import Options
from web.live import quiet_collector

BIDS = 100_000
BIDDERS = 64
STEP_MINOR, OPENING_MINOR = 100, 10_000
WANTED = 150_000.0  # bids per second of CPU


def run_decide(options: Options) -> dict[str, Any]:
    """Bids per second of CPU on one lot: decided, numbered, written as bytes, hashed. English with proxies.

    Every fourth bid leaves an automatic limit, which answers the next ones; all are accepted.
    """
    quiet_collector()
    rates = []
    for _ in range(options.runs):
        fold, bids = _begun(), _bids()
        salts = secrets.token_hex(SALT_DIGITS // 2 * len(bids))
        rates.append(len(bids) / _take_all(fold, bids, salts))
        gc.collect()
    ours = statistics.median(rates)
    return {
        "bench": "decide",
        "ours": round(ours),
        "limit": round(WANTED),
        "ratio": round(ours / WANTED, 3),
        "unit": "bids/s of CPU",
        "runs": options.runs,
        "range": [round(min(rates)), round(max(rates))],
        "bids": BIDS,
        "bidders": BIDDERS,
        "ruleset": fold.auction.terms.ruleset.name,
    }


def _begun() -> Fold:
    terms = Terms(
        auction_id=1, currency="CNY", lot_sha256="0" * 64, ruleset=packaged("english-proxy-soft-close"),
        opening_minor=OPENING_MINOR, opens_at_ms=0, closes_at_ms=10**8, step_minor=STEP_MINOR,
    )  # fmt: skip
    fold = Fold(1)
    opening: Sequence[Command] = (
        Create("create", terms),
        *(Admit(f"admit-{party}", party, 10**15) for party in range(1, BIDDERS + 1)),
        Tick(),
    )
    for command in opening:
        if not isinstance(fold.take(command, 0, "0" * SALT_DIGITS), Entry):
            raise RuntimeError("the auction did not begin")
    return fold


def _bids() -> list[PlaceBid]:
    bids = []
    for at in range(BIDS):
        minor = OPENING_MINOR + 2 * STEP_MINOR * at
        bids.append(
            PlaceBid(f"bench-{at:08d}", 1 + at % BIDDERS, minor, minor + 5 * STEP_MINOR if at % 4 == 0 else None)
        )
    return bids


def _take_all(fold: Fold, bids: Sequence[PlaceBid], salts: str) -> float:
    """Seconds of CPU."""
    take = fold.take
    at = 0
    started = time.process_time()
    for bid in bids:
        take(bid, 1_000, salts[at : at + SALT_DIGITS])
        at += SALT_DIGITS
    return time.process_time() - started
