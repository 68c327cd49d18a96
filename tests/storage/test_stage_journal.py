"""An auction with stages through the turns of both databases: what is sealed, taken and closed, on two nodes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlmodel import select

from auctions.journal import Answer, Busy, Entry, Fold
from auctions.messages import Admit, Close, Closed, Command, OfferSealed, PlaceBid, Refused, Revealed, Take, Tick
from auctions.sequencer import Turned, Waiting, Work
from storage import journal, tables
from storage.database import Database
from web.bench_world import Sale, make_auctions, make_people
from web.render import utc_now


def sold(db: Database, sale: Sale) -> tuple[int, list[int], int]:
    """Make an auction an hour ago; return it, its bidders' parties and a person."""
    at = utc_now() - timedelta(hours=1)
    creditor_id, person_id, investors = db.in_transaction(make_people, 2, at=at)
    [auction_id] = db.in_transaction(make_auctions, creditor_id, person_id, 1, sale, at=at)
    return auction_id, [investor.party_id for investor in investors], person_id


async def take(node: journal.Journal, fold: Fold, at_ms: int, *wanted: Command) -> Turned:
    """Take a turn for what arrived at `at_ms`, which has passed: it has waited since."""
    waited_s = utc_now().timestamp() - at_ms / 1000
    arrived = asyncio.get_running_loop().time() - waited_s
    waiting = [Waiting(fold.auction_id, each, arrived, lambda _: None) for each in wanted]
    [turned] = await node.turn([Work(fold.auction_id, fold, waiting)])
    return turned


def code(answer: Answer) -> str:
    assert isinstance(answer, Entry), answer
    last = answer.events[-1]
    return last.code if isinstance(last, Refused) else "ok"


async def test_a_price_is_taken_once_and_settled_once(db: Database) -> None:
    sale = Sale("fixed-price", opening_minor=500_000, step_minor=None, opens_in=timedelta(minutes=30),
                lasts=timedelta(hours=1))  # fmt: skip
    auction_id, parties, person_id = sold(db, sale)
    one, other = journal.journal_of(db), journal.journal_of(db)
    fold, fold_2 = Fold(auction_id), Fold(auction_id)
    admits = [Admit(f"a{party}", party, 10**9, by=person_id) for party in parties]
    opens_ms = db.read(journal.load_fold, auction_id).auction.opens_at_ms
    taken_ms = opens_ms + 60_000
    await take(one, fold, opens_ms, *admits)
    first = await take(one, fold, taken_ms, Take("t1", parties[0], 0, 500_000))
    assert [code(answer) for answer in first.answers] == ["ok"]
    # It arrived a second before, on a node that was slower: the number decides who was first.
    second = await take(other, fold_2, taken_ms - 1_000, Take("t2", parties[1], 0, 500_000))
    assert [code(answer) for answer in second.answers] == ["taken"]
    row = db.read(lambda s: s.get_one(tables.Auction, auction_id))
    assert (row.price_minor, row.leader, row.phase) == (500_000, 1, "open")
    assert row.closes_at == journal.instant(first.standing.closes_at_ms)
    assert row.due_at == row.closes_at + timedelta(seconds=1)
    ended = await take(other, fold_2, first.standing.closes_at_ms + 2_000, Close())
    assert isinstance(ended.entries[-1].events[-1], Closed)
    assert (ended.standing.result, ended.standing.leader) == ("sold", 1)
    again = await take(one, fold, taken_ms + 5_000, Close(), Take("t3", parties[1], 0, 500_000))
    assert code(again.answers[1]) == "too_late"
    keys = db.read(lambda s: list(s.exec(select(tables.Outbox.key))))
    assert keys.count(f"settle:{auction_id}") == 1
    for node in (one, other):
        await node.close()


async def test_first_offers_are_sealed_until_the_opening(db: Database) -> None:
    sale = Sale("prozorro-english-3", opening_minor=100_000, step_minor=10_000, opens_in=timedelta(minutes=30),
                lasts=timedelta(hours=2))  # fmt: skip
    auction_id, parties, person_id = sold(db, sale)
    node = journal.journal_of(db)
    fold = db.read(journal.load_fold, auction_id)
    opens_ms = fold.auction.opens_at_ms
    await take(node, fold, opens_ms - 9_000, *[Admit(f"a{party}", party, 10**9, by=person_id) for party in parties])
    offers = [PlaceBid(f"o{party}", party, 100_000 + 10_000 * place) for place, party in enumerate(parties)]
    early = await take(node, fold, opens_ms - 5_000, *offers)
    assert [code(answer) for answer in early.answers] == ["ok", "ok"]
    for entry in early.entries:
        assert isinstance(entry.events[-1], OfferSealed)
        assert "amount" not in entry.public
    assert early.standing.price_minor is None
    opened = await take(node, fold, opens_ms + 2_000, Tick())
    revealed = [event for entry in opened.entries for event in entry.events if isinstance(event, Revealed)]
    assert [(event.bidder, event.amount_minor) for event in revealed] == [(1, 100_000), (2, 110_000)]
    row = db.read(lambda s: s.get_one(tables.Auction, auction_id))
    assert (row.price_minor, row.leader) == (110_000, 2)
    assert row.closes_at == journal.instant(fold.auction.closes_at_ms)
    late = await take(node, fold, opens_ms - 1_000, PlaceBid("late", parties[0], 150_000))
    assert late.answers == [Busy()]  # the offers are public: it may send it again, and is told what holds now
    again = db.read(journal.load_fold, auction_id)
    assert (again.hash, again.auction.standing(1)) == (fold.hash, fold.auction.standing(1))
    await node.close()
