"""Undoing what the journal did not take: a fold that went back is the one that never went forward."""

from __future__ import annotations

from random import Random

import pytest

from auctions import journal as module
from auctions.journal import Answer, Entry, Fold
from auctions.messages import Admit, Bar, Close, Command, Create, Pause, PlaceBid, Resume, SetProxy, StopProxy, Tick
from tests.auctions.game import OPENS, SALT, VARIANTS

PARTIES = (11, 12, 13, 14)


def commands(random: Random, count: int, turn: int) -> list[Command]:
    """A turn's work: bids of all kinds, now and then the platform's own commands, and ids used before."""
    made: list[Command] = []
    for number in range(count):
        id, party = f"c-{turn}-{number}", random.choice(PARTIES)
        amount = 1_000 + 50 * random.randrange(4 * turn + 8)
        made.append(
            random.choices(
                (
                    PlaceBid(id, party, amount, random.choice((None, amount + 50 * random.randrange(9)))),
                    SetProxy(id, party, amount), StopProxy(id, party), Admit(id, party, random.randrange(10**6)),
                    Bar(id, party, "a reason"), Pause(id, "a reason"), Resume(id), Close(),
                    PlaceBid(f"c-{turn - 1}-0", party, amount),
                ),
                (80, 10, 3, 4, 1, 1, 3, 1, 5),
            )[0]
        )  # fmt: skip
    return made


def begin(variant: str) -> tuple[Fold, int]:
    fold = Fold(7)
    opening: list[Command] = [
        Create("c", VARIANTS[variant]),
        *(Admit(f"a{one}", one, 10**5) for one in PARTIES),
        Tick(),
    ]
    for command in opening:
        assert isinstance(fold.take(command, OPENS, SALT), Entry)
    return fold, OPENS


def take(fold: Fold, wanted: list[Command], at_ms: int) -> list[Answer]:
    return [fold.take(command, at_ms + number, SALT) for number, command in enumerate(wanted)]


def state(fold: Fold) -> object:
    auction = fold.auction
    return (
        fold.sequence, fold.at_ms, fold.hash, auction.standing(fold.sequence), auction.due_at_ms(),
        [auction.position(party) for party in PARTIES],
    )  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("far", [3, 40])
def test_a_fold_that_went_back_is_the_one_that_never_went_forward(
    variant: str, far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAR", far)
    for seed in range(12):
        random = Random(f"{variant}-{far}-{seed}")
        (fold, at_ms), (plain, _) = begin(variant), begin(variant)
        for turn in range(12):
            at_ms += random.randrange(90_000)
            wanted = commands(random, random.randrange(1, 9), turn)
            if random.random() < 0.3:  # a turn under the lock: nothing is marked
                assert take(fold, wanted, at_ms) == take(plain, wanted, at_ms)
                continue
            fold.mark()
            before = state(fold)
            while random.random() < 0.5:
                lost = commands(random, random.randrange(1, 9), turn)
                fold.undo([one for one in take(fold, lost, at_ms + 1) if isinstance(one, Entry)])
                assert state(fold) == before
                fold.mark()
            answers = take(fold, wanted, at_ms)
            fold.keep([one for one in answers if isinstance(one, Entry)])
            assert answers == take(plain, wanted, at_ms)
            assert state(fold) == state(plain)


def test_undoing_forgets_the_ids() -> None:
    fold, at_ms = begin("optional")
    fold.mark()
    first = fold.take(PlaceBid("k", 11, 1_000), at_ms, SALT)
    assert isinstance(first, Entry)
    fold.undo([first])
    assert fold.answered(11, "k") is None
    again = fold.take(PlaceBid("k", 11, 1_050), at_ms, SALT)
    assert isinstance(again, Entry)
    assert again.sequence == first.sequence


def test_nothing_is_undone_without_a_mark() -> None:
    fold, at_ms = begin("optional")
    entry = fold.take(PlaceBid("k", 11, 1_000), at_ms, SALT)
    assert isinstance(entry, Entry)
    with pytest.raises(ValueError, match="marked"):
        fold.undo([entry])
