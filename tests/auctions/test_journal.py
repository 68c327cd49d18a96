"""Journal: canonical bytes, the chain, ids, and what a crash leaves behind."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from auctions.journal import (
    ZERO_HASH,
    Answered,
    Entry,
    Fold,
    JournalBroken,
    KeyReused,
    NoAuction,
    private_parts,
    read_entry,
)
from auctions.messages import Admit, Bid, Command, Create, Pause, PlaceBid, Refused, Tick
from auctions.rulesets import RulesetFault, Terms
from tests.auctions.game import EBAY, LOT, OPENS, SALT, VARIANTS, Game, play

TERMS = VARIANTS["optional"]


def entry(fold: Fold, command: Command, at: int = OPENS) -> Entry:
    taken = fold.take(command, at, SALT)
    assert isinstance(taken, Entry)
    return taken


def begun() -> tuple[Fold, list[Entry]]:
    fold = Fold(7)
    commands: list[Command] = [Create("c", TERMS), Admit("a1", 11, 5_000), Admit("a2", 22, 9_000), Tick()]
    return fold, [entry(fold, command) for command in commands]


def test_the_bytes_of_an_entry() -> None:
    fold, before = begun()
    made = entry(fold, PlaceBid("my-bid.1", 11, 1_000, 1_500), OPENS + 5)
    assert made.public == (
        '{"auction":7,"sequence":5,"at_ms":1000005,"events":[{"type":"bid","bidder":1,"amount_minor":1000}]}'
    )
    salts = [sha256(f"{SALT}:{number}".encode()).hexdigest()[:32] for number in (0, 1)]
    facts = [
        f'{{"salt":"{salts[0]}",'
        '"command":{"type":"place_bid","id":"my-bid.1","party_id":11,"amount_minor":1000,"maximum_minor":1500}}',
        f'{{"salt":"{salts[1]}","fact":{{"type":"maximum_set","bidder":1,"maximum_minor":1500}}}}',
    ]
    assert made.private == "\n".join(facts)
    leaves = [sha256(b"\x00" + fact.encode()).digest() for fact in facts]
    commitment = sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert made.commitment() == commitment
    assert made.hash == sha256(before[-1].hash + made.public.encode() + commitment).digest()
    alone = entry(fold, PlaceBid("k", 22, 1_550), OPENS + 6)
    assert alone.private == (
        '{"salt":"00112233445566778899aabbccddeeff",'
        '"command":{"type":"place_bid","id":"k","party_id":22,"amount_minor":1550,"maximum_minor":null}}'
    )
    assert alone.commitment() == sha256(b"\x00" + alone.private.encode()).digest()
    assert before[0].previous == ZERO_HASH


def test_every_text_is_canonical_json() -> None:
    game = Game(VARIANTS["optional raise"])
    play(Random(5), game, 60)
    for one in game.entries:
        for text in (one.public, *one.private.split("\n")):
            assert json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) == text
        assert read_entry(one.public, one.private, one.previous, one.hash) == one


def test_what_others_may_not_see_is_not_in_the_public_part() -> None:
    fold, _ = begun()
    made = [entry(fold, PlaceBid("secret-id", 11, 1_000, 4_321 - 21)), entry(fold, PlaceBid("x", 22, 9_050))]
    refused = made[1].events[0]
    assert isinstance(refused, Refused)
    assert made[1].public.endswith('"events":[]}')  # that somebody was refused, for what, and who: nobody's business
    for one in made:
        for secret in ("secret-id", "4300", "9050", "party", "11", "22", "limit", "refused"):
            assert secret not in one.public.replace("1000000", "")


def test_the_same_id_gets_the_first_answer_also_after_a_crash() -> None:
    fold, made = begun()
    made.append(entry(fold, PlaceBid("k", 11, 1_000)))
    made.append(entry(fold, PlaceBid("k", 22, 1_050)))  # another party's space
    again = Fold(7)
    for one in made:
        again.follow(read_entry(one.public, one.private, one.previous, one.hash))
    for each in (fold, again):
        assert each.take(PlaceBid("k", 11, 1_000), OPENS + 9, SALT) == Answered(5)
        assert each.take(PlaceBid("k", 11, 1_001), OPENS + 9, SALT) == KeyReused(5)
        assert each.take(PlaceBid("k", 11, 1_000, 1_000), OPENS + 9, SALT) == KeyReused(5)
        assert each.take(PlaceBid("k", 22, 1_050), OPENS + 9, SALT) == Answered(6)
        assert (each.answered(11, "k"), each.answered(22, "k"), each.answered(33, "k")) == (5, 6, None)
        assert each.sequence == 6
    assert again.hash == fold.hash
    assert again.auction.standing(6) == fold.auction.standing(6)
    entry(fold, PlaceBid("low", 11, 1))
    assert (fold.sequence, fold.auction.standing(7).bid_sequence) == (7, 6)


def test_an_operators_ids_are_his_own() -> None:
    fold, _ = begun()
    first = entry(fold, Pause("p", "fault", by=1))
    assert fold.take(Pause("p", "fault", by=1), OPENS, SALT) == Answered(first.sequence)
    assert entry(fold, Pause("p", "fault", by=2)).sequence == first.sequence + 1
    assert entry(fold, PlaceBid("p", 11, 1_000)).sequence == first.sequence + 2


@pytest.mark.parametrize("bad", ["", "a" * 65, 'a"b', "a b", "ａ", "a\n", "a/b"])
def test_an_id_that_is_not_one_never_gets_in(bad: str) -> None:
    fold, _ = begun()
    with pytest.raises(ValueError):
        fold.take(PlaceBid(bad, 11, 1_000), OPENS, SALT)
    assert fold.sequence == 4


def test_nothing_before_the_creation_and_only_one() -> None:
    with pytest.raises(NoAuction):
        Fold(7).take(Tick(), 0, SALT)
    with pytest.raises(ValueError):
        Fold(8).take(Create("c", TERMS), 0, SALT)
    fold, _ = begun()
    second = entry(fold, Create("c2", TERMS))
    assert second.events == (Refused(None, "already_created", {}),)
    hidden = Terms(7, "USD", LOT, EBAY, 100, 0, 10, reserve="hidden")
    with pytest.raises(RulesetFault):
        Fold(7).take(Create("c", hidden), 0, SALT)


def test_a_hidden_reserve_is_kept_in_the_private_part() -> None:
    game = Game(VARIANTS["ebay hidden"])
    created = game.entries[0]
    assert "1234" not in created.public
    assert '"reserve":"hidden"' in created.public
    assert '{"type":"reserve_set","reserve_minor":1234}' in created.private
    game.replay()


@pytest.mark.parametrize("name", ["cn", "ebay-hidden", "optional-raise"])
def test_journals_of_format_1_are_followed_and_go_on_in_format_2(name: str) -> None:
    text = (Path(__file__).parent / "journals" / f"format-1-{name}.jsonl").read_text("utf-8")
    fold, previous, texts = Fold(7), ZERO_HASH, []
    for line in text.removesuffix("\n").split("\n"):  # its texts hold other line ends
        kept = json.loads(line)
        texts.append((kept["public"], kept["private"], previous, bytes.fromhex(kept["hash"])))
        one = read_entry(*texts[-1])
        assert one.commitment() == sha256(kept["private"].encode()).digest()
        fold.follow(one)
        previous = one.hash
        command, events = private_parts(one.private)
        assert json.loads(one.private)["command"] == command
        assert json.loads(one.private)["events"] == events
    assert fold.auction.closed
    assert fold.sequence == len(texts)
    last = entry(fold, PlaceBid("later", 1, 10**6), fold.at_ms)
    assert len(last.private.split("\n")) == 2, "refused: the command and why"
    assert followed([*texts, (last.public, last.private, previous, last.hash)]).hash == last.hash


def test_what_is_said_of_a_party_and_of_its_limit_are_two_facts() -> None:
    _, made = begun()
    facts = [json.loads(fact) for fact in made[1].private.split("\n")]
    assert [fact.get("fact") for fact in facts] == [
        None,
        {"type": "party", "bidder": 1, "party_id": 11},
        {"type": "limit_set", "bidder": 1, "limit_minor": 5_000},
    ]
    assert len({fact["salt"] for fact in facts} | {SALT}) == 4, "no salt gives another one away"
    command, events = private_parts(made[1].private)
    assert command == facts[0]["command"]
    assert events == [{"type": "limit_set", "bidder": 1, "party_id": 11, "limit_minor": 5_000}]


@pytest.mark.parametrize("damage", ["skip", "swap", "public", "private", "hash", "other"])
def test_a_damaged_journal_is_not_followed(damage: str) -> None:
    fold, made = begun()
    made += [entry(fold, PlaceBid(f"k{n}", 11 + 11 * (n % 2), 1_000 + 50 * n)) for n in range(4)]
    texts = [(one.public, one.private, one.previous, one.hash) for one in made]
    public, private, previous, stated = texts[5]
    if damage == "skip":
        del texts[5]
    elif damage == "swap":
        texts[5], texts[6] = texts[6], texts[5]
    elif damage == "public":
        texts[5] = (public.replace("1050", "1100"), private, previous, stated)
    elif damage == "private":
        texts[5] = (public, private.replace(SALT, SALT[::-1]), previous, stated)
    elif damage == "hash":
        texts[5] = (public, private, previous, bytes(32))
    else:
        texts[5] = (public.replace('"auction":7', '"auction":8'), private, previous, stated)
    with pytest.raises(JournalBroken):
        followed(texts)


def followed(texts: list[tuple[str, str, bytes, bytes]]) -> Fold:
    fold = Fold(7)
    for text in texts:
        fold.follow(read_entry(*text))
    return fold


def test_vector_14_crash_between_append_and_broadcast() -> None:
    """The journal has the entry, nobody was told: after the rebuild the state is the same and the same id gets it."""
    fold, made = begun()
    made.append(entry(fold, PlaceBid("k", 11, 1_000)))
    rebuilt = Fold(7)
    for one in made:
        rebuilt.follow(one)
    assert rebuilt.auction.standing(5) == fold.auction.standing(5)
    assert rebuilt.take(PlaceBid("k", 11, 1_000), OPENS + 1, SALT) == Answered(5)
    assert made[4].events == (Bid(1, 1_000),)
