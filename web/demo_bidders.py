"""How the demonstration's investors bid: what a lot is worth to each, when he moves, and by how much.

Pure, so that the seed (past auctions, all moves at once) and the engine (over the socket, in real time)
have the same people behave in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from auctions.bidding import Phase
from auctions.journal import SALT_DIGITS, Entry, Fold
from auctions.messages import PlaceBid, Tick
from auctions.rulesets import Ruleset

Style = Literal["early", "steady", "proxy", "late"]
STYLES: tuple[Style, ...] = ("early", "steady", "proxy", "late")
_LATE_SHARE = 0.12  # of the whole time: before that, a late bidder only watches
_MOVES = 400  # at most, of one past auction
_NO_SALT = "0" * SALT_DIGITS


@dataclass(frozen=True, slots=True)
class DemoBidder:
    """A party in one auction: the most that the lot is worth to it, and how it goes about it."""

    party_id: int
    worth_minor: int
    style: Style


@dataclass(frozen=True, slots=True)
class View:
    """What a bidder sees when he thinks about his next move."""

    minimum_minor: int
    step_minor: int  # of the listing; 100 (one unit) where a table sets the steps
    leads: bool
    has_maximum: bool
    time_left: float  # share of the listed time, 0 to 1


@dataclass(frozen=True, slots=True)
class Offer:
    """A bid, with or without a maximum behind it."""

    amount_minor: int
    maximum_minor: int | None = None


def bidder(random: Random, party_id: int, *, fair_minor: int, purse: int) -> DemoBidder:
    """Make up a bidder. `fair_minor`: what the lot is worth to the usual one; `purse`: this one's, in percent of it."""
    worth = fair_minor * purse * random.randint(82, 118) // 10_000
    return DemoBidder(party_id, worth, random.choices(STYLES, (25, 40, 20, 15))[0])


def next_offer(random: Random, who: DemoBidder, view: View, ruleset: Ruleset) -> Offer | None:
    """What `who` does now, or None: he leads, waits, or the lot has become too dear for him."""
    if view.leads or view.minimum_minor > who.worth_minor:
        return None
    if who.style == "late" and view.time_left > _LATE_SHARE:
        return None
    room = who.worth_minor - view.minimum_minor
    if ruleset.bidding.proxy == "always":
        share = 1.0 if who.style in ("proxy", "late") else random.uniform(0.1, 0.6)
        return Offer(view.minimum_minor + int(room * share) // 100 * 100)
    steps = room // view.step_minor
    if who.style == "proxy" and ruleset.bidding.proxy == "optional" and not view.has_maximum and steps:
        return Offer(view.minimum_minor, view.minimum_minor + steps * view.step_minor)
    jump = random.choices((0, 1, 2, 5), (70, 16, 9, 5) if who.style != "early" else (45, 25, 20, 10))[0]
    return Offer(view.minimum_minor + min(jump, steps) * view.step_minor)


def play(
    random: Random, fold: Fold, bidders: Sequence[DemoBidder], *, until_ms: int, key: str
) -> list[tuple[PlaceBid | Tick, int]]:
    """Bid on an auction from its opening to `until_ms` or its end, whichever is first, on a copy of `fold`.

    Returns: the commands with their instants in ms, in order; taken by the fold, they give the same answers again.
    """
    terms = fold.auction.terms
    scratch = copy.deepcopy(fold, {id(terms): terms, id(terms.ruleset): terms.ruleset})  # terms do not change
    moves: list[tuple[PlaceBid | Tick, int]] = []

    def take(command: PlaceBid | Tick | None, at_ms: int) -> None:
        if command and isinstance(scratch.take(command, at_ms, _NO_SALT), Entry):
            moves.append((command, at_ms))

    take(Tick(), terms.opens_at_ms)
    for at_ms in _instants(random, terms.opens_at_ms, min(until_ms, terms.closes_at_ms)):
        if len(moves) >= _MOVES:
            break
        take(_move(random, scratch, bidders, at_ms, f"{key}-{len(moves)}"), at_ms)
    # Whoever is outbid inside the extension window answers as long as it is worth it to him.
    at_ms = scratch.at_ms
    while len(moves) < _MOVES and scratch.auction.phase is Phase.OPEN:
        at_ms += random.randint(4_000, 40_000)
        if at_ms >= min(scratch.auction.closes_at_ms, until_ms):
            break
        if scratch.auction.closes_at_ms > terms.closes_at_ms:
            take(_move(random, scratch, bidders, at_ms, f"{key}-{len(moves)}"), at_ms)
    return moves


def _instants(random: Random, start_ms: int, end_ms: int) -> Iterator[int]:
    """When people look at a lot: now and then all the time, and more of them towards the end."""
    lasts = max(end_ms - start_ms, 2)
    spread = [random.randrange(1, lasts) for _ in range(random.randint(14, 34))]
    rush = [lasts - 1 - int(lasts * 0.08 * random.random() ** 2) for _ in range(random.randint(4, 12))]
    yield from (start_ms + offset for offset in sorted({*spread, *(one for one in rush if one > 0)}))


def _move(random: Random, scratch: Fold, bidders: Sequence[DemoBidder], at_ms: int, command_id: str) -> PlaceBid | None:
    auction = scratch.auction
    standing = auction.standing(scratch.sequence)
    lasts_ms = auction.terms.closes_at_ms - auction.terms.opens_at_ms
    who = random.choice(bidders)
    position = auction.position(who.party_id)
    if position is None:
        return None
    view = View(
        minimum_minor=standing.minimum_minor,
        step_minor=auction.terms.step_minor or 100,
        leads=position.state == "leading",
        has_maximum=position.maximum_minor is not None and position.maximum_minor > standing.minimum_minor,
        time_left=max(0.0, (standing.closes_at_ms - at_ms) / lasts_ms),
    )
    offer = next_offer(random, who, view, auction.terms.ruleset)
    return PlaceBid(command_id, who.party_id, offer.amount_minor, offer.maximum_minor) if offer else None
