"""The offline verifier: a public journal in, its outcome out, and every place where it was altered.

    python -m auctions.verify JOURNAL [--head SEQUENCE:HASH]

JOURNAL has one line for each entry, as `proof.public_line` writes them. From the public parts alone it recomputes the
chain of hashes, the numbers and instants, who might bid, every amount against the least that was then valid, the
order of equal amounts, every extension, and the outcome. What depends on secrets (maxima and a hidden reserve) is
checked as far as the public amounts bound it. `--head` is what a receipt or checkpoint says: without it, a journal
cut off at its end, or written anew from some entry on, cannot be told from one that is short. A private part that was
opened is checked against its commitment. Standard library only.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from auctions.bidding import Bidder
from auctions.english import English
from auctions.formats import start
from auctions.journal import ZERO_HASH
from auctions.messages import (
    Admitted,
    AutoBid,
    Barred,
    Bid,
    Closed,
    Created,
    Event,
    Extended,
    Opened,
    Paused,
    Rescheduled,
    Resumed,
    Withdrawn,
    read_event,
)

LINE_LENGTH = 1_000_000  # characters; the first entry carries a whole ruleset


@dataclass(slots=True)
class Problem:
    """Something is wrong with line `line` (counted from 1); `code` is stable."""

    line: int
    code: str
    text: str


@dataclass(slots=True)
class Verdict:
    """What the journal says, up to its last good line, and what is wrong with it. `closed` is None while it is open."""

    problems: list[Problem] = field(default_factory=list)
    auction_id: int = 0
    sequence: int = 0
    hash: bytes = ZERO_HASH
    closed: Closed | None = None
    withdrawn: bool = False

    @property
    def good(self) -> bool:
        return not self.problems


def verify(lines: Iterable[str], head: tuple[int, str] | None = None) -> Verdict:
    """Check a public journal. `head`: (sequence, hash in hex) of an entry that must be in it, from a receipt or
    checkpoint.
    """
    check = _Check()
    number = 0
    for number, line in enumerate(lines, 1):
        if not check.line(number, line):
            break  # what follows a line that cannot be read, or that creates nothing, says nothing
    verdict = check.verdict
    if not number:
        check.problem("empty", "There is no entry.")
    if head and check.hashes.get(head[0]) != head[1]:
        check.problem("other_head", f"Entry {head[0]} has not the hash {head[1]}: cut off, or written anew.")
    return verdict


class _Broken(Exception):
    """A line cannot be read."""


class _Check:
    def __init__(self) -> None:
        self.verdict = Verdict()
        self.hashes: dict[int, str] = {}
        self.at_ms = 0
        self.number = 0
        self.auction: English | None = None

    def problem(self, code: str, text: str) -> None:
        self.verdict.problems.append(Problem(self.number, code, text))

    def need(self, holds: bool, code: str, text: str) -> None:
        if not holds:
            self.problem(code, text)

    def line(self, number: int, line: str) -> bool:
        """Check one line; return whether it is any use to go on."""
        self.number = number
        verdict = self.verdict
        try:
            public, commitment, stated, private = _fields(line)
            entry = json.loads(public)
            events = [read_event(one) for one in entry["events"]]
            sequence, at_ms = int(entry["sequence"]), int(entry["at_ms"])
            arrived_ms, auction_id = int(entry.get("arrived_ms", at_ms)), int(entry["auction"])
        except (_Broken, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
            self.problem("unreadable", f"The line cannot be read: {type(fault).__name__}.")
            return False
        chained = sha256(verdict.hash + public.encode() + commitment).digest()
        self.need(chained == stated, "chain", "The hash is not that of this text and the entry before.")
        if private is not None:
            opened = sha256(private.encode()).digest() == commitment
            self.need(opened, "commitment", "The opened private part is not the one that was committed to.")
        verdict.hash = stated
        self.hashes[sequence] = stated.hex()
        self.need(sequence == verdict.sequence + 1, "sequence", f"Entry {sequence} follows {verdict.sequence}.")
        self.need(number == 1 or auction_id == verdict.auction_id, "auction", f"This is of auction {auction_id}.")
        self.need(at_ms >= self.at_ms and arrived_ms <= at_ms, "time", "Time runs backwards.")
        verdict.sequence, verdict.auction_id, self.at_ms = sequence, auction_id, max(at_ms, self.at_ms)
        if self.auction is None:
            return self._create(events, auction_id)
        try:
            self._events(self.auction, events, arrived_ms, at_ms)
        except (IndexError, TypeError, ValueError) as fault:
            self.problem("unreadable", f"The events make no sense: {type(fault).__name__}.")
            return False
        return True

    def _create(self, events: list[Event], auction_id: int) -> bool:
        if len(events) != 1 or not isinstance(events[0], Created):
            self.problem("not_created", "The first entry does not create the auction.")
            return False
        terms = events[0].terms
        self.need(terms.auction_id == auction_id, "auction", f"The terms are those of auction {terms.auction_id}.")
        auction = start(terms)
        if not isinstance(auction, English):
            self.problem("unknown_format", f"This verifier does not know the format {terms.ruleset.format}.")
            return False
        self.auction = auction
        return True

    def _events(self, auction: English, events: list[Event], arrived_ms: int, at_ms: int) -> None:
        if events:
            over = auction.stopped_for_good
            self.need(not over, "after_end", "Something happens after the auction has ended.")
        bids = [event for event in events if isinstance(event, Bid | AutoBid)]
        extended = [event for event in events if isinstance(event, Extended)]
        if bids:
            self._in_time(auction, arrived_ms)
            opened = auction.opened or any(isinstance(each, Opened) for each in events)
            self.need(opened, "opened", "A bid was accepted before the auction was said to open.")
            due = _extension(auction, arrived_ms)
            self.need(extended == due, "extension", f"The end should have moved: {[each.text() for each in due]}.")
            self._bids(auction, bids)
        for event in events:
            match event:
                case Bid() | AutoBid():
                    pass
                case Extended():
                    if not bids:
                        self._disturbed(auction, event, arrived_ms)
                case Admitted():
                    self.need(1 <= event.bidder <= len(auction.bidders) + 1, "bidder", "The bidder's number is wrong.")
                case Barred():
                    self.need(1 <= event.bidder <= len(auction.bidders), "bidder", "There is no such bidder.")
                case Opened():
                    early = auction.opened or max(arrived_ms, at_ms) < auction.opens_at_ms
                    self.need(not early, "opened", "It opened at a wrong instant, or twice.")
                case Paused():
                    self.need(auction.paused_at_ms is None, "paused", "It was paused already.")
                case Resumed():
                    self._resumed(auction, event, at_ms)
                case Rescheduled():
                    stands = auction.paused_at_ms is not None or not auction.opened
                    self.need(stands and event.opens_at_ms >= at_ms, "rescheduled", "It was rescheduled while open.")
                case Withdrawn():
                    standing = auction.paused_at_ms is not None or at_ms < auction.closes_at_ms
                    self.need(standing, "withdrawn", "It was withdrawn after its end.")
                    self.verdict.withdrawn = True
                case Closed():
                    self._closed(auction, event, at_ms)
                case _:
                    self.problem("private_event", "A private event stands in the public part.")
                    continue
            auction.apply(event, at_ms)

    def _in_time(self, auction: English, arrived_ms: int) -> None:
        self.need(auction.paused_at_ms is None, "paused", "A bid was accepted during a pause.")
        in_time = auction.opens_at_ms <= arrived_ms < auction.closes_at_ms
        self.need(in_time, "not_in_time", "A bid was accepted before the opening, at the end, or later.")

    def _bids(self, auction: English, bids: list[Bid | AutoBid]) -> None:
        """Check the amounts that one command brought: its own bid, and at most one automatic answer or predecessor."""
        rules = auction.terms.ruleset.bidding
        leader, price_minor = auction.leader, auction.price_minor
        own = [each for each in bids if isinstance(each, Bid)]
        automatic = [each for each in bids if isinstance(each, AutoBid)]
        if len(own) != 1 or len(automatic) > 1:
            self.problem("bids", "An entry holds one bid and at most one automatic one.")
            return
        bid = own[0]
        for each in bids:
            self.need(1 <= each.bidder <= len(auction.bidders), "bidder", f"Bidder {each.bidder} was not admitted.")
        bidder = auction.bidders[bid.bidder - 1]
        self.need(not bidder.barred, "barred", f"Bidder {bid.bidder} was barred.")
        if rules.increments.whole_steps and (step_minor := auction.terms.step_minor):
            for each in bids:
                on_step = (each.amount_minor - auction.terms.opening_minor) % step_minor == 0
                self.need(on_step, "not_a_step", f"{each.amount_minor} is not the opening plus whole steps.")
        if not automatic:
            self._single(auction, bidder, bid.amount_minor)
            return
        auto_minor = automatic[0].amount_minor
        fits = rules.proxy != "off" and leader is not None and automatic[0].bidder == leader.number
        self.need(fits and bidder is not leader, "auto_bid", "An automatic bid can only be the former leader's.")
        if isinstance(bids[0], Bid):  # the leader's maximum answered
            most_minor = bid.amount_minor + auction.terms.increment_minor(bid.amount_minor)
            self.need(bid.amount_minor >= auction.minimum_minor, "below_minimum", "The bid was below the minimum.")
            self.need(bid.amount_minor <= auto_minor <= most_minor, "auto_bid", "The automatic bid has a wrong amount.")
        else:  # the leader's maximum was bid to its end, and beaten
            self.need(price_minor < auto_minor < bid.amount_minor, "auto_bid", "The automatic bid has a wrong amount.")
            self.need(bid.amount_minor >= auction.minimum_minor, "below_minimum", "The bid was below the minimum.")
        for each in bids:
            auction.apply(each, 0)

    def _single(self, auction: English, bidder: Bidder, amount_minor: int) -> None:
        rules = auction.terms.ruleset.bidding
        leader = auction.leader
        least_minor = auction.minimum_minor
        if bidder is leader:
            if rules.proxy == "off":
                self.need(rules.leader_may_raise, "already_leading", "The leader bid against himself.")
            else:
                least_minor = auction.price_minor + 1  # he was held at his maximum, or bid openly
        elif leader and bidder.priority_rank is not None:
            goes_before = leader.priority_rank is None or bidder.priority_rank < leader.priority_rank
            least_minor = auction.price_minor if goes_before else least_minor
        self.need(amount_minor >= least_minor, "below_minimum", f"{amount_minor} is below the minimum, {least_minor}.")
        if rules.proxy == "always" and auction.terms.reserve != "hidden":
            rival_minor = auction.rival_minor if bidder is leader else auction.price_minor
            most_minor = rival_minor + auction.terms.increment_minor(rival_minor) if rival_minor else 0
            most_minor = max(most_minor, auction.terms.opening_minor, auction.terms.reserve_minor or 0)
            self.need(amount_minor <= most_minor, "above_needed", "The price rose by more than was needed.")
        auction.apply(Bid(bidder.number, amount_minor), 0)

    def _disturbed(self, auction: English, event: Extended, arrived_ms: int) -> None:
        ruleset = auction.terms.ruleset
        least_ms = arrived_ms + ruleset.timing.resume_least_ms
        near = arrived_ms >= auction.closes_at_ms - ruleset.disturbed_window_ms
        if event.cause == "busy":
            fits = near and arrived_ms < auction.closes_at_ms < event.closes_at_ms == least_ms
        else:
            fits = event.cause == "outage" and near and ruleset.timing.outage == "extend"
            fits = fits and event.closes_at_ms >= max(least_ms, auction.closes_at_ms)
        self.need(fits and event.extensions == auction.extensions, "extension", "The end moved without a reason.")

    def _resumed(self, auction: English, event: Resumed, at_ms: int) -> None:
        if auction.paused_at_ms is None:
            self.problem("resumed", "It was not paused.")
            return
        timing = auction.terms.ruleset.timing
        left_ms = max(0, auction.closes_at_ms - max(auction.paused_at_ms, auction.opens_at_ms))
        if left_ms <= auction.terms.ruleset.disturbed_window_ms:
            left_ms = max(left_ms, timing.resume_least_ms)
        fits = event.closes_at_ms == max(event.opens_at_ms, at_ms) + left_ms
        self.need(fits, "resumed", "The time that was left when it was paused is not what it went on with.")

    def _closed(self, auction: English, event: Closed, at_ms: int) -> None:
        self.verdict.closed = event
        decided = at_ms >= auction.closes_at_ms + auction.terms.ruleset.timing.grace_ms
        self.need(decided and auction.paused_at_ms is None, "closed_early", "It was closed before its end and grace.")
        right = auction.outcome()
        if auction.terms.reserve == "hidden" and event.result in ("sold", "reserve_not_met") and right.bidder:
            right.result = event.result  # whether a secret amount was reached shows when it is opened
        self.need(event == right, "outcome", f"The outcome should be {right.text()}.")


def _extension(auction: English, arrived_ms: int) -> list[Extended]:
    """Return how a bid must move the end, written once more and not taken from the core."""
    ruleset = auction.terms.ruleset
    if ruleset.timing.countdown_ms is not None and auction.leader is None:
        return [Extended(arrived_ms + ruleset.timing.countdown_ms, 0, "first_bid")]
    rule = ruleset.soft_close
    if rule is None or auction.closes_at_ms - arrived_ms > rule.window_ms:
        return []
    end_ms = {"from_bid": arrived_ms, "from_end": auction.closes_at_ms}[rule.anchor] + rule.extension_ms
    if rule.most_extensions is not None and auction.extensions + 1 > rule.most_extensions:
        return []
    if auction.hard_end_ms is not None and end_ms > auction.hard_end_ms:
        end_ms = auction.hard_end_ms
    return [Extended(end_ms, auction.extensions + 1, "bid")] if end_ms > auction.closes_at_ms else []


def _fields(line: str) -> tuple[str, bytes, bytes, str | None]:
    if len(line) > LINE_LENGTH:
        raise _Broken
    data: Any = json.loads(line)
    if not isinstance(data, dict) or not data.keys() <= {"public", "commitment", "hash", "private"}:
        raise _Broken
    commitment, stated = bytes.fromhex(data["commitment"]), bytes.fromhex(data["hash"])
    if len(commitment) != 32 or len(stated) != 32 or not isinstance(data["public"], str):
        raise _Broken
    private = data.get("private")
    if private is not None and not isinstance(private, str):
        raise _Broken
    return data["public"], commitment, stated, private


def main(arguments: list[str]) -> int:
    """Verify a file; return the exit status: 0 good, 1 altered, 2 wrong arguments."""
    head: tuple[int, str] | None = None
    if len(arguments) == 3 and arguments[1] == "--head" and arguments[2].partition(":")[0].isdecimal():
        sequence, _, stated = arguments[2].partition(":")
        head = int(sequence), stated.lower()
        del arguments[1:]
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m auctions.verify JOURNAL [--head SEQUENCE:HASH]\n")
        return 2
    try:
        # Not splitlines: a text may hold other characters that some call line ends.
        lines = Path(arguments[0]).read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as fault:
        sys.stderr.write(f"{arguments[0]}: cannot be read: {type(fault).__name__}\n")
        return 2
    verdict = verify(lines, head)
    for problem in verdict.problems:
        sys.stdout.write(f"line {problem.line}: {problem.code}: {problem.text}\n")
    if verdict.good:
        outcome = verdict.closed.text() if verdict.closed else "withdrawn" if verdict.withdrawn else "not ended"
        sys.stdout.write(f"good: auction {verdict.auction_id}, {verdict.sequence} entries, {outcome}\n")
        sys.stdout.write(f"head {verdict.sequence}:{verdict.hash.hex()}\n")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
