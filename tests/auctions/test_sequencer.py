"""Sequencer: order, answers after the commit, turns that fail, the bound on waiting. The journal here is a list in
memory behind a lock that yields, so turns may fail before or after they were kept; nothing sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from auctions import sequencer as module
from auctions.journal import Answered, Busy, Entry, Fold
from auctions.messages import Admit, Command, Create, PlaceBid, Tick
from auctions.sequencer import Sequencer, Told, Turned, TurnFailed, Unknown, Waiting, Work
from tests.auctions.game import OPENS, SALT, VARIANTS
from tests.servers import PATIENCE_S

TERMS = VARIANTS["cn"]


class Store:
    """A journal in memory, and a turn over it. `fails` says how the coming turns go: "before" or "after" the commit."""

    def __init__(self) -> None:
        self.entries: dict[int, list[Entry]] = {}
        self.fails: list[str] = []
        self.turns: list[int] = []
        self.now = OPENS

    async def turn(self, work: Sequence[Work]) -> list[Turned]:
        assert [each.auction_id for each in work] == sorted({each.auction_id for each in work})
        self.turns.append(sum(len(each.waiting) for each in work))
        await asyncio.sleep(0)
        turned, new = [], []
        for each in work:
            kept = self.entries.setdefault(each.auction_id, [])
            followed = kept[each.fold.sequence :]
            for entry in followed:
                each.fold.follow(entry)
            answers = [each.fold.take(one.command, self.now, SALT) for one in each.waiting]
            made = [answer for answer in answers if isinstance(answer, Entry)]
            new.append((kept, made))
            auction = each.fold.auction
            standing = auction.standing(each.fold.sequence)
            done = Turned(each.auction_id, answers, followed + made, standing, None, auction.due_at_ms(), {})
            turned.append(done)
        fails = self.fails.pop(0) if self.fails else ""
        if fails == "before":
            raise TurnFailed
        for kept, entries in new:
            kept += entries
        if fails == "after":
            raise TurnFailed
        await asyncio.sleep(0)
        return turned

    async def load(self, auction_id: int) -> Fold:
        fold = Fold(auction_id)
        for entry in self.entries.get(auction_id, []):
            fold.follow(entry)
        return fold

    def prepare(self) -> None:
        fold = Fold(7)
        commands: list[Command] = [
            Create("c", TERMS),
            *(Admit(f"a{party}", party, 10**9) for party in (1, 2, 3)),
            Tick(),
        ]
        for command in commands:
            entry = fold.take(command, OPENS, SALT)
            assert isinstance(entry, Entry)
            self.entries.setdefault(7, []).append(entry)


class Node:
    """A sequencer over a store, with what it told and showed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shown: list[Entry] = []
        self.sequencer = Sequencer(store.turn, store.load, self.publish)

    def publish(self, turned: Turned) -> None:
        kept = self.store.entries[turned.auction_id]
        assert all(kept[entry.sequence - 1] is entry for entry in turned.entries), "shown before it was kept"
        self.shown += turned.entries


@pytest.fixture
def store() -> Store:
    made = Store()
    made.prepare()
    return made


async def bids(node: Node, count: int) -> list[Told]:
    asked = [
        asyncio.ensure_future(node.sequencer.ask(7, PlaceBid(f"k{number}", 1 + number % 3, 1_000 + 50 * number)))
        for number in range(count)
    ]
    await asyncio.sleep(0)
    running = asyncio.ensure_future(node.sequencer.run())
    answers = await asyncio.gather(*asked)
    node.sequencer.stop()
    await running
    return list(answers)


async def test_all_that_waits_goes_in_turns_in_order(store: Store) -> None:
    node = Node(store)
    answers = await bids(node, 600)
    assert store.turns == [256, 256, 88]
    assert [answer.sequence for answer in answers if isinstance(answer, Entry)] == list(range(6, 606))
    assert node.shown == store.entries[7]
    assert node.sequencer.folds[7].sequence == 605


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_a_turn_that_fails_once_is_taken_again_from_the_journal(store: Store, fails: str) -> None:
    """Whether it was kept or not: every bid has one entry, and everybody gets that one."""
    node = Node(store)
    store.fails = [fails]
    answers = await bids(node, 5)
    assert [entry.sequence for entry in store.entries[7]] == list(range(1, 11))
    kind = Entry if fails == "before" else Answered
    assert [(type(answer), getattr(answer, "sequence", 0)) for answer in answers] == [
        (kind, sequence) for sequence in range(6, 11)
    ]


async def test_a_turn_that_fails_twice_is_unknown_and_what_comes_later_begins_anew(store: Store) -> None:
    node = Node(store)
    store.fails = ["before", "after"]
    told: list[Told] = []
    node.sequencer.submit(7, PlaceBid("k", 1, 1_000), told.append)
    node.sequencer.stop()
    await node.sequencer.run()
    assert (told, node.shown, node.sequencer.folds) == ([Unknown()], [], {})
    assert await run_one(node, PlaceBid("k", 1, 1_000)) == Answered(6)  # it had been kept, and is found


async def test_what_another_node_wrote_is_followed_first(store: Store) -> None:
    here, there = Node(store), Node(store)
    await bids(here, 3)
    answers = [await asyncio.wait_for(run_one(there, PlaceBid("other", 3, 9_000)), PATIENCE_S)]
    assert isinstance(answers[0], Entry)
    assert answers[0].sequence == 9
    again = Node(store)
    assert await run_one(again, PlaceBid("k1", 2, 1_050)) == Answered(7)


async def run_one(node: Node, command: PlaceBid) -> Told:
    running = asyncio.ensure_future(node.sequencer.run())
    answer = await node.sequencer.ask(7, command)
    node.sequencer.stop()
    await running
    return answer


async def test_beyond_the_bound_the_answer_is_busy_and_the_end_moves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 4)
    store.now = TERMS.closes_at_ms - 5
    node = Node(store)
    answers = await bids(node, 6)
    assert [isinstance(answer, Busy) for answer in answers] == [False] * 4 + [True] * 2
    extended = [entry for entry in store.entries[7] if '"cause":"busy"' in entry.public]
    assert len(extended) <= 1  # the bids had moved the end by as much already
    assert node.sequencer.folds[7].auction.closes_at_ms == store.now + 300_000
    assert await run_one(Node(store), PlaceBid("k5", 3, 1_250)) != Busy()  # under the same id


async def test_who_waited_longer_than_the_bound_is_answered_busy(store: Store) -> None:
    node = Node(store)
    told: list[Told] = []
    now = time.monotonic()
    store.now = TERMS.closes_at_ms - 5
    node.sequencer._queue.append(Waiting(7, PlaceBid("old", 1, 1_000), now - 1.5, told.append))
    running = asyncio.ensure_future(node.sequencer.run())
    while len(store.entries[7]) == 5:  # noqa: ASYNC110 - turns of the event loop, not of time
        await asyncio.sleep(0)
    node.sequencer.stop()
    await running
    assert told == [Busy()]
    assert '"cause":"busy"' in store.entries[7][5].public


async def test_answers_are_told_while_the_next_turn_is_on_its_way(store: Store) -> None:
    node = Node(store)
    seen: list[tuple[int, int]] = []

    def teller(number: int) -> Any:
        return lambda answer: seen.append((number, len(store.turns)))

    for number in range(300):
        node.sequencer.submit(7, PlaceBid(f"k{number}", 1 + number % 3, 1_000 + 50 * number), teller(number))
    node.sequencer.stop()
    await node.sequencer.run()
    assert [number for number, _ in seen] == list(range(300))
    assert {turns for _, turns in seen} == {2}  # the first 256 when the second turn had begun, the rest at its end


async def test_several_auctions_share_a_turn(store: Store) -> None:
    node = Node(store)
    asked = [
        asyncio.ensure_future(node.sequencer.ask(each, Create("c", replace(TERMS, auction_id=each))))
        for each in (9, 3, 5)
    ]
    await asyncio.sleep(0)
    node.sequencer.stop()
    await node.sequencer.run()
    answers = await asyncio.gather(*asked)
    assert [answer.auction_id for answer in answers if isinstance(answer, Entry)] == [9, 3, 5]
    assert store.turns == [3]
