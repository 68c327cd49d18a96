"""The verifier on formats with stages: good journals are good, and what was written anew against the rules is found."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from auctions.journal import commitment_of
from auctions.proof import canonical, public_line
from auctions.verify import verify
from tests.auctions.stage_game import STAGE_VARIANTS, StageGame, play
from tests.auctions.test_verify import rewritten

SEEDS = 20
# What the rules fix. What else can be altered (a reason, an outage's length) is fixed by the hash only.
CHECKED = {
    "bid": ("bidder", "amount_minor"),
    "revealed": ("bidder", "amount_minor"),
    "kept": ("bidder",),
    "staged": ("number", "starts_at_ms", "closes_at_ms"),
    "closed": ("closed_at_ms", "bidder", "price_minor", "runner_up", "runner_up_minor"),
    "resumed": ("opens_at_ms", "closes_at_ms"),
}


def lines_of(name: str, seed: int) -> tuple[StageGame, list[str]]:
    game = StageGame(STAGE_VARIANTS[name])
    play(Random(seed), game, 30)
    return game, [public_line(entry, opens=game.fold.auction.opens) for entry in game.entries]


@pytest.mark.parametrize("name", STAGE_VARIANTS)
def test_a_good_journal_is_good_and_its_offers_are_opened(name: str) -> None:
    opened = 0
    for seed in range(SEEDS):
        game, lines = lines_of(name, seed)
        verdict = verify(lines)
        assert verdict.problems == []
        assert verdict.closed == game.fold.auction.closed
        facts = [fact for _, fact in verdict.opened]
        assert {fact["type"] for fact in facts} <= {"offer_sealed"}
        revealed = [event for entry in game.entries for event in json.loads(entry.public)["events"]]
        shown = {(each["bidder"], each["amount_minor"]) for each in revealed if each["type"] == "revealed"}
        assert {(fact["bidder"], fact["amount_minor"]) for fact in facts} == (shown if verdict.closed else set())
        opened += len(facts)
    assert bool(opened) == name.startswith(("rounds", "insider"))


@pytest.mark.parametrize("name", STAGE_VARIANTS)
def test_what_was_written_anew_is_judged_by_the_rules(name: str) -> None:
    rng = Random(7)
    escaped: list[Any] = []
    tried = 0
    for seed in range(SEEDS):
        game, lines = lines_of(name, seed)
        for number, entry in enumerate(game.entries, 1):
            data = json.loads(entry.public)
            for event in data["events"]:
                for field in CHECKED.get(event["type"], ()):
                    if event[field] is None or rng.random() < 0.05:
                        continue
                    # Before the outcome names the winner and opens the offers, another might have done the same.
                    if event["type"] in ("bid", "revealed") and not game.fold.auction.closed:
                        continue
                    changed = {**event, field: event[field] + rng.choice([-1, 1])}
                    tried += 1
                    if verify(rewritten(lines, {number: (canonical(event), canonical(changed))})).good:
                        escaped.append((seed, number, event, field))
    assert tried > 2
    assert not escaped


def test_events_that_contradict_each_other_are_told_and_not_tripped_over() -> None:
    """An opening without its first round leaves nobody a turn; a private part may be nested without end."""
    terms = STAGE_VARIANTS["rounds"]
    game = StageGame(terms)
    create = public_line(game.entries[0])
    ended_ms = terms.closes_at_ms + 100_000
    closed = {
        "type": "closed", "result": "unsold", "closed_at_ms": terms.closes_at_ms, "bidder": None, "price_minor": None,
        "runner_up": None, "runner_up_minor": None,
    }  # fmt: skip
    later = [
        line_of(f'{{"auction":7,"sequence":{number},"at_ms":{at_ms},"events":[{canonical(event)}]}}')
        for number, at_ms, event in ((2, terms.opens_at_ms + 2_000, {"type": "opened"}), (3, ended_ms, closed))
    ]
    codes = [problem.code for problem in verify(rewritten([create, *later], {})).problems]
    assert codes[-1] == "unreadable"
    nested = "[" * 100_000 + "]" * 100_000
    private = f'{{"salt":"00","command":{nested}}}\n{{"salt":"00","fact":{nested}}}'
    codes = [problem.code for problem in verify(rewritten([line_of(game.entries[0].public, private)], {})).problems]
    assert codes == ["unreadable"]


def line_of(public: str, private: str = "") -> str:
    """A line that anybody could write; `rewritten` gives it its hash."""
    parts = {"public": public, "commitment": commitment_of(private).hex(), "hash": ""}
    return canonical(parts | ({"private": private} if private else {}))
