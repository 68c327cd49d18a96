"""What the offline verifier checks of a public journal, line by line: the bytes, the chain, time, and the rules.

`Check` does what all formats share. What a format has of its own is judged by one function for each format, in
`JUDGES`: another format adds its function there (docs/proof.md says what each must check).
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NoReturn, TypeAlias, get_args

from auctions.bidding import Auction, Bidder
from auctions.english import English
from auctions.formats import start
from auctions.journal import ZERO_HASH, commitment_of, facts_of
from auctions.merkle import includes, leaf_hash
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
from auctions.proof import canonical, public_line_of
from auctions.stage_checks import staged

LINE_LENGTH = 1_000_000  # characters; the first entry carries a whole ruleset
ENTRY = ["auction", "sequence", "at_ms", "events"]
OVERTAKEN = ["auction", "sequence", "at_ms", "arrived_ms", "events"]

# Judges the events of one entry that only its format has, and applies them; returns those that all formats share.
# Arguments: the check, the auction before the entry, its public events, when the command arrived, the entry's instant.
Judge: TypeAlias = Callable[["Check", Any, list[Event], int, int], list[Event]]


@dataclass(slots=True)
class Problem:
    """Something is wrong with line `line` (counted from 1; 0: not with the journal but with what was given beside it).

    `code` is stable.
    """

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
    opened: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # (sequence, fact): what was private
    notes: list[str] = field(default_factory=list)  # what was checked beside the journal, or could not be

    @property
    def good(self) -> bool:
        return not self.problems


class Broken(ValueError):
    """A line cannot be read."""


# What reading a hostile line, or judging events that contradict each other, may raise.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class Check:
    """The state of checking one journal: what the lines so far say, and what was wrong with them."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self.hashes: dict[int, str] = {}  # sequence -> hash of the entry, hex
        self.lines: dict[int, int] = {}  # sequence -> line
        self.at_ms = 0
        self.number = 0
        self.auction: Auction | None = None
        self.judge: Judge | None = None

    def problem(self, code: str, text: str, *, line: int | None = None) -> None:
        """Note that something is wrong, with the line at hand unless another is named."""
        self.verdict.problems.append(Problem(self.number if line is None else line, code, text))

    def need(self, holds: bool, code: str, text: str) -> None:
        """Note a problem unless it holds."""
        if not holds:
            self.problem(code, text)

    def line(self, number: int, line: str) -> bool:
        """Check one line, without its end; return whether it is any use to go on."""
        self.number = number
        verdict = self.verdict
        try:
            parts = _parts(line)
            entry = read_canonical(parts["public"])
            if not isinstance(entry, dict) or list(entry) not in (ENTRY, OVERTAKEN):
                raise Broken("names")
            sequence, at_ms = _whole(entry["sequence"]), _whole(entry["at_ms"])
            arrived_ms, auction_id = _whole(entry.get("arrived_ms", at_ms)), _whole(entry["auction"])
            events = [_event(one) for one in entry["events"]]
        except UNREADABLE as fault:
            self.problem("unreadable", f"The line cannot be read: {type(fault).__name__}.")
            return False
        commitment, stated = bytes.fromhex(parts["commitment"]), bytes.fromhex(parts["hash"])
        chained = sha256(verdict.hash + parts["public"].encode() + commitment).digest()
        self.need(chained == stated, "chain", "The hash is not that of this text and the entry before.")
        verdict.hash = stated
        self.hashes[sequence] = stated.hex()
        self.lines[sequence] = number
        self.need(sequence == verdict.sequence + 1, "sequence", f"Entry {sequence} follows {verdict.sequence}.")
        self.need(number == 1 or auction_id == verdict.auction_id, "auction", f"This is of auction {auction_id}.")
        overtaken = "arrived_ms" in entry
        in_order = at_ms >= self.at_ms and (not overtaken or 0 <= arrived_ms < at_ms == self.at_ms)
        self.need(in_order, "time", "Time runs backwards.")
        verdict.sequence, verdict.auction_id, self.at_ms = sequence, auction_id, max(at_ms, self.at_ms)
        try:
            facts = self._opened(parts, commitment)
            if self.auction is None:
                return self._create(events, auction_id, facts)
            self._events(self.auction, events, arrived_ms, at_ms)
        except UNREADABLE as fault:
            self.problem("unreadable", f"The events make no sense: {type(fault).__name__}.")
            return False
        return True

    def _opened(self, parts: dict[str, Any], commitment: bytes) -> list[dict[str, Any]]:
        """Check what was opened of the private part against the commitment; return the facts."""
        facts: list[dict[str, Any]] = []
        if "private" in parts:
            good = commitment_of(parts["private"]) == commitment
            self.need(good, "commitment", "The opened private part is not the one that was committed to.")
            facts += facts_of(parts["private"]) if good else []
        for one in parts.get("facts", []):
            path = [bytes.fromhex(each) for each in one["path"]]
            good = includes(leaf_hash(one["fact"].encode()), one["index"], one["of"], path, commitment)
            self.need(good, "commitment", "An opened fact is not one that was committed to.")
            facts += [read_canonical(one["fact"])["fact"]] if good else []
        self.verdict.opened += [(self.verdict.sequence, fact) for fact in facts]
        return facts

    def _create(self, events: list[Event], auction_id: int, facts: list[dict[str, Any]]) -> bool:
        if len(events) != 1 or not isinstance(events[0], Created):
            self.problem("not_created", "The first entry does not create the auction.")
            return False
        terms = events[0].terms
        self.need(terms.auction_id == auction_id, "auction", f"The terms are those of auction {terms.auction_id}.")
        self.judge = JUDGES.get(terms.ruleset.format)
        if self.judge is None:
            self.problem("unknown_format", f"This verifier does not know the format {terms.ruleset.format}.")
            return False
        self.auction = start(terms)
        for fact in facts:
            if fact["type"] == "reserve_set" and terms.reserve == "hidden":
                self.auction.reserve_minor = fact["reserve_minor"]
        self.auction.apply(events[0], self.at_ms)
        return True

    def _events(self, auction: Auction, events: list[Event], arrived_ms: int, at_ms: int) -> None:
        assert self.judge is not None
        if events:
            over = auction.stopped_for_good
            self.need(not over, "after_end", "Something happens after the auction has ended.")
        for event in self.judge(self, auction, events, arrived_ms, at_ms):
            match event:
                case Extended():
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
                    fits = stands and at_ms <= event.opens_at_ms < event.closes_at_ms
                    self.need(fits, "rescheduled", "It was rescheduled while open, or to times that make no sense.")
                case Withdrawn():
                    standing = auction.paused_at_ms is not None or at_ms < auction.closes_at_ms
                    self.need(standing, "withdrawn", "It was withdrawn after its end.")
                    self.verdict.withdrawn = True
                case Closed():
                    self._closed(auction, event, at_ms)
                case _:
                    self.problem("foreign_event", "An event stands here that is private, or not of this format.")
                    continue
            auction.apply(event, at_ms)

    def in_time(self, auction: Auction, events: list[Event], arrived_ms: int) -> None:
        """Check that a bidder's command was accepted while the auction was open."""
        self.need(auction.paused_at_ms is None, "paused", "A bid was accepted during a pause.")
        in_time = auction.opens_at_ms <= arrived_ms < auction.closes_at_ms
        self.need(in_time, "not_in_time", "A bid was accepted before the opening, at the end, or later.")
        opened = auction.opened or any(isinstance(each, Opened) for each in events)
        self.need(opened, "opened", "A bid was accepted before the auction was said to open.")

    def bidder(self, auction: Auction, number: int) -> Bidder | None:
        """Return an admitted bidder who is not barred; note a problem with any other."""
        if not 1 <= number <= len(auction.bidders):
            self.problem("bidder", f"Bidder {number} was not admitted.")
            return None
        bidder = auction.bidders[number - 1]
        self.need(not bidder.barred, "barred", f"Bidder {number} was barred.")
        return bidder

    def _disturbed(self, auction: Auction, event: Extended, arrived_ms: int) -> None:
        ruleset = auction.terms.ruleset
        least_ms = arrived_ms + ruleset.timing.resume_least_ms
        near = arrived_ms >= auction.closes_at_ms - ruleset.disturbed_window_ms
        if event.cause == "busy":
            fits = near and arrived_ms < auction.closes_at_ms < event.closes_at_ms == least_ms
        else:
            fits = event.cause == "outage" and near and ruleset.timing.outage == "extend"
            fits = fits and event.closes_at_ms >= max(least_ms, auction.closes_at_ms)
        self.need(fits and event.extensions == auction.extensions, "extension", "The end moved without a reason.")

    def _resumed(self, auction: Auction, event: Resumed, at_ms: int) -> None:
        if auction.paused_at_ms is None:
            self.problem("resumed", "It was not paused.")
            return
        timing = auction.terms.ruleset.timing
        left_ms = max(0, auction.closes_at_ms - max(auction.paused_at_ms, auction.opens_at_ms))
        if left_ms <= auction.terms.ruleset.disturbed_window_ms:
            left_ms = max(left_ms, timing.resume_least_ms)
        began = auction.opens_at_ms <= auction.paused_at_ms
        opens_at_ms = auction.opens_at_ms if began else max(auction.opens_at_ms, at_ms)
        fits = event.opens_at_ms == opens_at_ms and event.closes_at_ms == max(opens_at_ms, at_ms) + left_ms
        self.need(fits, "resumed", "The time that was left when it was paused is not what it went on with.")

    def _closed(self, auction: Auction, event: Closed, at_ms: int) -> None:
        self.verdict.closed = event
        decided = at_ms >= auction.closes_at_ms + auction.terms.ruleset.timing.grace_ms
        self.need(decided and auction.paused_at_ms is None, "closed_early", "It was closed before its end and grace.")
        right = auction.outcome()
        if auction.terms.reserve == "hidden" and auction.reserve_minor is None and right.bidder:
            right.result = event.result if event.result in ("sold", "reserve_not_met") else right.result
        self.need(event == right, "outcome", f"The outcome should be {right.text()}.")


# --- English --------------------------------------------------------------------------------------------------------


def english(check: Check, auction: English, events: list[Event], arrived_ms: int, at_ms: int) -> list[Event]:
    """Judge bids, automatic bids and the extension by a bid."""
    bids = [event for event in events if isinstance(event, Bid | AutoBid)]
    if not bids:
        return events
    extended = [event for event in events if isinstance(event, Extended)]
    check.in_time(auction, events, arrived_ms)
    due = _extension(auction, arrived_ms)
    check.need(extended == due, "extension", f"The end should have moved: {[each.text() for each in due]}.")
    _bids(check, auction, bids)
    for event in extended:
        auction.apply(event, at_ms)
    return [event for event in events if not isinstance(event, Bid | AutoBid | Extended)]


def _bids(check: Check, auction: English, bids: list[Bid | AutoBid]) -> None:
    """Check the amounts that one command brought: its own bid, and at most one automatic answer or predecessor."""
    rules = auction.terms.ruleset.bidding
    leader, price_minor = auction.leader, auction.price_minor
    own = [each for each in bids if isinstance(each, Bid)]
    automatic = [each for each in bids if isinstance(each, AutoBid)]
    if len(own) != 1 or len(automatic) > 1:
        check.problem("bids", "An entry holds one bid and at most one automatic one.")
        return
    bid = own[0]
    bidder = check.bidder(auction, bid.bidder)
    if bidder is None:
        return
    if automatic and not 1 <= automatic[0].bidder <= len(auction.bidders):
        check.problem("bidder", f"Bidder {automatic[0].bidder} was not admitted.")
        return
    if rules.increments.whole_steps and (step_minor := auction.terms.step_minor):
        for each in bids:
            on_step = (each.amount_minor - auction.terms.opening_minor) % step_minor == 0
            check.need(on_step, "not_a_step", f"{each.amount_minor} is not the opening plus whole steps.")
    if not automatic:
        _single(check, auction, bidder, bid.amount_minor)
        return
    auto_minor = automatic[0].amount_minor
    fits = rules.proxy != "off" and leader is not None and automatic[0].bidder == leader.number
    check.need(fits and bidder is not leader, "auto_bid", "An automatic bid can only be the former leader's.")
    check.need(bid.amount_minor >= auction.minimum_minor, "below_minimum", "The bid was below the minimum.")
    if isinstance(bids[0], Bid):  # the leader's maximum answered
        most_minor = bid.amount_minor + auction.terms.increment_minor(bid.amount_minor)
        check.need(bid.amount_minor <= auto_minor <= most_minor, "auto_bid", "The automatic bid has a wrong amount.")
    else:  # the leader's maximum was bid to its end, and beaten
        check.need(price_minor < auto_minor < bid.amount_minor, "auto_bid", "The automatic bid has a wrong amount.")
    for each in bids:
        auction.apply(each, 0)


def _single(check: Check, auction: English, bidder: Bidder, amount_minor: int) -> None:
    rules = auction.terms.ruleset.bidding
    leader = auction.leader
    least_minor = auction.minimum_minor
    if bidder is leader:
        if rules.proxy == "off":
            check.need(rules.leader_may_raise, "already_leading", "The leader bid against himself.")
        else:
            least_minor = auction.price_minor + 1  # he was held at his maximum, or bid openly
    elif leader and bidder.priority_rank is not None:
        goes_before = leader.priority_rank is None or bidder.priority_rank < leader.priority_rank
        least_minor = auction.price_minor if goes_before else least_minor
    check.need(amount_minor >= least_minor, "below_minimum", f"{amount_minor} is below the minimum, {least_minor}.")
    if rules.proxy == "always" and (auction.terms.reserve != "hidden" or auction.reserve_minor is not None):
        rival_minor = auction.rival_minor if bidder is leader else auction.price_minor
        most_minor = rival_minor + auction.terms.increment_minor(rival_minor) if rival_minor else 0
        most_minor = max(most_minor, auction.terms.opening_minor, auction.reserve_minor or 0)
        check.need(amount_minor <= most_minor, "above_needed", "The price rose by more than was needed.")
    auction.apply(Bid(bidder.number, amount_minor), 0)


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


JUDGES: dict[str, Judge] = {
    "english": english,
    "rounds": staged,
    "gong": staged,
    "dutch": staged,
    "hybrid": staged,
    "fixed_price": staged,
}


# --- Bytes ----------------------------------------------------------------------------------------------------------


def _parts(line: str) -> dict[str, Any]:
    """Read the parts of a line. Raises Broken, unless it is exactly what `proof.public_line` writes of them."""
    if len(line) > LINE_LENGTH:
        raise Broken("long")
    parts = json.loads(line)
    if not isinstance(parts, dict) or not {"public", "commitment", "hash"} <= parts.keys():
        raise Broken("names")
    facts = parts.get("facts", [])
    for one in facts:
        if list(one) != ["fact", "index", "of", "path"] or not isinstance(one["fact"], str):
            raise Broken("facts")
        if type(one["index"]) is not int or type(one["of"]) is not int:
            raise Broken("facts")
        for each in one["path"]:
            _hex(each)
        read_canonical(one["fact"])
    _hex(parts["commitment"])
    _hex(parts["hash"])
    for name in ("public", "private"):
        if not isinstance(parts.get(name, ""), str):
            raise Broken(name)
    if line != public_line_of(parts):  # one text for one content: no other byte passes
        raise Broken("bytes")
    return parts


def _hex(text: Any) -> None:
    if not isinstance(text, str) or len(text) != 64 or bytes.fromhex(text).hex() != text:
        raise Broken("hex")


def read_canonical(text: str) -> Any:
    """Read JSON that must be canonical, without fractions. Raises Broken or another ValueError."""
    data = json.loads(text, parse_float=_fraction, parse_constant=_fraction)
    if canonical(data) != text:
        raise Broken("bytes")
    return data


def _fraction(text: str) -> NoReturn:
    raise Broken(text)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise Broken("number")
    return value


def _event(data: dict[str, Any]) -> Event:
    """Make an event of its JSON object: every name in its place, every value of its type."""
    names = list(data)
    event = read_event(data)
    if not isinstance(event, Created):  # terms check their own
        fields = [each for each in dataclasses.fields(event) if each.name in names]
        if names != ["type", *[each.name for each in fields]]:
            raise Broken("names")
        for each in fields:
            if type(getattr(event, each.name)) not in (get_args(each.type) or (each.type,)):
                raise Broken(each.name)
    elif names != ["type", "terms"]:
        raise Broken("names")
    return event
