"""What must hold of every auction, whatever its format: said over its journal alone, after random games of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from auctions.journal import ZERO_HASH, Entry, Fold, NothingToDo, commitment_of, read_entry
from auctions.messages import (
    AutoBid,
    Bid,
    Close,
    Closed,
    Extended,
    LimitSet,
    MaximumSet,
    OfferSealed,
    Refused,
    ReserveSet,
    Revealed,
    Tick,
)
from auctions.rulesets import Terms
from tests.auctions import game, stage_game
from tests.auctions.game import SALT, VARIANTS
from tests.auctions.stage_game import STAGE_VARIANTS

ALL = {**{f"english {name}": terms for name, terms in VARIANTS.items()}, **STAGE_VARIANTS}


def played(name: str, seed: int) -> tuple[list[Any], Fold]:
    """A random game of a variant: its entries, and the fold that made them."""
    rng, terms = Random(f"invariants {name} {seed}"), ALL[name]
    if terms.ruleset.format == "english":
        english = game.Game(terms)
        game.play(rng, english, 30)
        return english.entries, english.fold
    staged = stage_game.StageGame(terms)
    stage_game.play(rng, staged, 30)
    return staged.entries, staged.fold


def check_order(entries: Sequence[Entry]) -> None:
    """Numbers without a gap, time that never runs backwards, every entry chained to the one before."""
    previous, at_ms = ZERO_HASH, 0
    for number, entry in enumerate(entries, 1):
        assert entry.sequence == number
        assert entry.previous == previous
        assert entry.arrived_ms <= entry.at_ms
        assert at_ms <= entry.at_ms
        assert len(entry.commitment()) == 32
        assert entry.commitment() == commitment_of(entry.private)
        previous, at_ms = entry.hash, entry.at_ms


def check_secrets(entries: Sequence[Entry], terms: Terms) -> None:
    """No private event in a public text; no sealed amount beside its bidder before it is opened."""
    private = {each.__name__ for each in (LimitSet, MaximumSet, OfferSealed, Refused, ReserveSet)}
    sealed: dict[int, int] = {}
    for entry in entries:
        shown = json.loads(entry.public)["events"]
        assert [event.public for event in entry.events] == sorted(
            [event.public for event in entry.events], reverse=True
        )
        assert len(shown) == sum(event.public for event in entry.events)
        assert "party_id" not in entry.public
        assert "limit_minor" not in entry.public
        for event in entry.events:
            assert event.public == (type(event).__name__ not in private)
            if isinstance(event, Revealed):
                assert sealed.pop(event.bidder) == event.amount_minor, "it was revealed with another amount"
            if isinstance(event, OfferSealed):
                sealed.pop(event.bidder, None)
                if event.amount_minor is not None:
                    sealed[event.bidder] = event.amount_minor
        pairs = {(each.get("bidder"), each.get("amount_minor")) for each in shown}
        assert not pairs & set(sealed.items()), "a sealed amount is public"
    if terms.reserve == "hidden":
        assert f'"reserve_minor":{terms.reserve_minor}' not in entries[0].public


def check_outcome(entries: Sequence[Entry], terms: Terms) -> None:
    """At most one outcome, by the timer, and nothing after it; the winner is the best offer and reaches the reserve."""
    offers: dict[int, int] = {}
    limits: dict[int, int] = {}
    closed: Closed | None = None
    for entry in entries:
        for event in entry.events:
            assert closed is None or not event.public, "something public happens after the outcome"
            if isinstance(event, Closed):
                closed = event
                assert entry.command_id == "", "an auction is closed by the timer alone"
                assert entry.at_ms >= event.closed_at_ms + terms.ruleset.timing.grace_ms
            if isinstance(event, LimitSet):
                limits[event.bidder] = event.limit_minor
            if isinstance(event, Bid | AutoBid | Revealed):
                assert event.amount_minor <= limits[event.bidder], "somebody is bound above his limit"
                offers[event.bidder] = event.amount_minor
    if closed is None:
        return
    assert (closed.bidder is None) == (closed.result == "unsold") == (not offers)
    if closed.bidder is not None:
        best = max(offers.values())
        assert offers[closed.bidder] == closed.price_minor == best
        assert closed.runner_up != closed.bidder
        if closed.result == "sold":
            assert best >= (terms.reserve_minor or 0)
        if closed.runner_up is not None:
            assert offers[closed.runner_up] == closed.runner_up_minor


def check_refusals(entries: Sequence[Entry]) -> None:
    """Who is refused changed nothing: the same fold without that entry shows the same."""
    fold = Fold(entries[0].auction_id)
    for entry in entries:
        before = fold.auction.standing(0, entry.at_ms) if fold.sequence else None
        fold.follow(read_entry(entry.public, entry.private, entry.previous, entry.hash))
        if isinstance(entry.events[-1], Refused) and len(entry.events) == 1:
            assert fold.auction.standing(0, entry.at_ms) == before
        if any(isinstance(event, Extended) for event in entry.events):
            assert before is not None
            first = json.loads(entry.public)["events"]
            moved = next(each for each in first if each["type"] == "extended")
            assert fold.auction.closes_at_ms == moved["closes_at_ms"]


def check_timer(fold: Fold) -> None:
    """After the timer has done all that is due, nothing is due in the past, and to ask again does nothing."""
    now_ms = fold.at_ms
    for _ in range(200):
        opened = fold.auction.opened
        if isinstance(answer := fold.take(Close() if opened else Tick(), now_ms, SALT), NothingToDo):
            assert answer.due_at_ms is None or answer.due_at_ms > now_ms
            assert fold.auction.due_at_ms() == answer.due_at_ms
            return
    pytest.fail("the timer never comes to an end")


def check_answers(entries: Sequence[Entry], fold: Fold) -> None:
    """Every id is answered by its entry, for ever."""
    for entry in entries:
        if entry.command_id:
            assert fold.answered(entry.scope, entry.command_id) == entry.sequence


@pytest.mark.parametrize("name", ALL)
def test_what_holds_of_every_auction(name: str) -> None:
    for seed in range(25):
        entries, fold = played(name, seed)
        check_order(entries)
        check_secrets(entries, ALL[name])
        check_outcome(entries, ALL[name])
        check_refusals(entries)
        check_answers(entries, fold)
        check_timer(fold)
