"""Rulesets: numbers, tables and switches under a name and a version; and the terms of one auction under one of them.

A ruleset is read from TOML text (`parse_ruleset`); docs are the comments in rulesets/*.toml. It is checked when it is
built: what the format cannot honour (`HONOURED`) is refused with a code and a sentence. The terms of an auction carry
the whole ruleset as data into the first entry of its journal, so a later change of the file changes no auction that
has begun. For that, whatever is added here is optional and None: what was written before keeps its bytes and hashes.
"""

import dataclasses
import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib import resources
from types import MappingProxyType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
CURRENCY = re.compile(r"[A-Z]{3}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MINUTE_MS = 60_000
DAY_MS = 86_400_000
LARGEST_MINOR = 10**17  # fifteen digits before the point and two after it; fits 64 bits with room for sums
LONGEST_MS = 3_660 * DAY_MS


class RulesetFault(ValueError):
    """A ruleset, or the terms of an auction, cannot be honoured. `code` is stable; the text is a sentence for
    people.
    """

    def __init__(self, code: str, where: str, sentence: str) -> None:
        super().__init__(f"{where}: {sentence}")
        self.code = code
        self.where = where
        self.sentence = sentence


@dataclass(frozen=True)
class Increments:
    """By how much a bid must rise over a price.

    kind: "listing": the creditor (the court) sets one step for the lot. "table": by the band in which the price lies;
    rows are (from this price on, increment), both minor units, the first from 0. "share": `share_bp` of the price,
    rounded up. "none": prices do not rise (a fixed price, a falling one by its own table, sealed bids). whole_steps:
    a bid must be the opening plus a whole multiple of the step.
    """

    kind: Literal["listing", "table", "share", "none"]
    table: tuple[tuple[int, int], ...] = ()
    share_bp: int | None = None
    whole_steps: bool = False

    def __post_init__(self) -> None:
        def fault(code: str, sentence: str) -> RulesetFault:
            return RulesetFault(code, "bidding.increments", sentence)

        if (self.kind == "table") != bool(self.table):
            raise fault("table_missing", 'A table belongs to kind = "table", and to no other kind.')
        if (self.kind == "share") != (self.share_bp is not None):
            raise fault("share_missing", 'share_bp belongs to kind = "share", and to no other kind.')
        if self.share_bp is not None and not 0 < self.share_bp <= 10_000:
            raise fault("out_of_range", "share_bp must be from 1 to 10000 basis points.")
        starts = [start for start, _ in self.table]
        if self.table and (starts[0] != 0 or starts != sorted(set(starts)) or min(by for _, by in self.table) < 1):
            raise fault("table_order", "The table must begin at 0, rise from row to row, and add at least 1 each time.")
        if self.whole_steps and self.kind != "listing":
            raise fault("steps_vary", 'Whole multiples of a step need one step for the lot: kind = "listing".')


@dataclass(frozen=True)
class Bidding:
    """Switches of bidding; which of them a format has, says `HONOURED`.

    proxy: "off"; "optional": a bid is as it is, and a maximum may stand beside it; "always": every bid is a maximum
    (eBay). reserve: what the creditor may choose: "none", "open", "hidden", or "opening": the reserve is the opening
    price itself. leader_may_raise: may the leader bid against himself (a higher maximum is always allowed).
    """

    increments: Increments = field(default_factory=lambda: Increments("none"))
    proxy: Literal["off", "optional", "always"] = "off"
    reserve: tuple[Literal["none", "open", "hidden", "opening"], ...] = ("none",)
    leader_may_raise: bool = False
    priority_buyers: bool = False

    def __post_init__(self) -> None:
        if self.priority_buyers and self.proxy != "off":
            raise RulesetFault(
                "priority_with_proxy",
                "bidding",
                "Priority buyers match a price in person; the rule does not say who leads when a maximum is matched. "
                'Set proxy = "off" or priority_buyers = false.',
            )
        if not self.reserve:
            raise RulesetFault("reserve_missing", "bidding.reserve", 'Name at least one kind of reserve, or "none".')


@dataclass(frozen=True)
class SoftClose:
    """A bid in the last `window_ms` moves the end.

    anchor: "from_bid": to the bid's arrival plus `extension_ms`; "from_end": to the old end plus `extension_ms`.
    Never back. At most `most_extensions` times, and not past the first end plus `hard_end_ms` (None: no cap).
    """

    window_ms: int
    extension_ms: int
    anchor: Literal["from_bid", "from_end"] = "from_bid"
    most_extensions: int | None = None
    hard_end_ms: int | None = None

    def __post_init__(self) -> None:
        for name in ("window_ms", "extension_ms"):
            if not 1 <= getattr(self, name) <= DAY_MS:
                raise RulesetFault("out_of_range", f"soft_close.{name}", "It must be from 1 ms to one day.")
        if self.most_extensions is not None and self.hard_end_ms is not None:
            raise RulesetFault(
                "two_caps", "soft_close", "Cap the extensions by a number or by a hard end, not by both."
            )


@dataclass(frozen=True)
class Timing:
    """grace_ms: a close is decided this long after the end, so that what arrived in time is decided before it.

    resume_least_ms: left at least when a pause inside the extension window ends, and after a disturbance near the end.
    outage: what happens when the platform was down as the auction should have closed. "extend": the end moves to the
    return plus resume_least_ms; "reschedule": the auction stands paused until the operator gives new times;
    "close_as_of": it closes as of its end. Down is what a node has seen, however short; where nobody has seen it, a
    close that comes more than outage_after_ms late shows an outage.
    countdown_ms: the first bid starts a clock of this length; until then the auction is open to its listed end.
    """

    grace_ms: int = 1_000
    resume_least_ms: int = 5 * MINUTE_MS
    outage: Literal["extend", "reschedule", "close_as_of"] = "extend"
    outage_after_ms: int = 10_000
    countdown_ms: int | None = None

    def __post_init__(self) -> None:
        if not 1_000 <= self.grace_ms <= MINUTE_MS:
            raise RulesetFault(
                "out_of_range", "timing.grace_ms", "The grace covers the queue's bound: 1000 to 60000 ms."
            )
        if self.outage_after_ms < 1_000:
            raise RulesetFault("out_of_range", "timing.outage_after_ms", "A close may always be a second late.")


@dataclass(frozen=True)
class Rounds:
    """Format "rounds": every bidder has his turn in each round, the leader last (Prozorro, spec/rulesets.md 2.2.2).

    Instants: `first_pause_ms` from the opening, then `rounds` rounds of one turn of `turn_ms` a bidder, `pause_ms`
    between two rounds. award_steps: among several bidders the award needs the opening plus so many steps; a single
    one wins at the opening.
    """

    first_pause_ms: int
    rounds: int
    turn_ms: int
    pause_ms: int
    award_steps: int = 1

    def __post_init__(self) -> None:
        _check_lengths(self, "rounds", ("first_pause_ms", "turn_ms", "pause_ms"))
        if not 1 <= self.rounds <= 20:
            raise RulesetFault("out_of_range", "rounds.rounds", "There must be 1 to 20 rounds.")
        if self.award_steps > 1_000:
            raise RulesetFault("out_of_range", "rounds.award_steps", "It must be at most 1000 steps.")


@dataclass(frozen=True)
class Gong:
    """Format "gong": each round has one price, whoever takes it (or more) first ends the round (spec/rulesets.md
    2.2.3).

    After the opening and after each round a pause of `pause_ms`; a round lasts at most `round_ms`; the close of the
    terms is the hard end.
    """

    pause_ms: int
    round_ms: int

    def __post_init__(self) -> None:
        _check_lengths(self, "gong", ("pause_ms", "round_ms"))


@dataclass(frozen=True, kw_only=True)
class Dutch:
    """Format "dutch": the price falls by steps until somebody takes it.

    `first_pause_ms` after the opening comes the opening price, then `steps` lower ones, each for `step_ms`. The step is
    `step_bp` of the opening, each price rounded half up; without it, the listing's.
    """

    first_pause_ms: int
    step_ms: int
    steps: int
    step_bp: int | None = None

    table: ClassVar[str] = "dutch"

    def __post_init__(self) -> None:
        _check_lengths(self, self.table, ("first_pause_ms", "step_ms"))
        if not 1 <= self.steps <= 1_000:
            raise RulesetFault("out_of_range", f"{self.table}.steps", "The price must fall 1 to 1000 times.")
        if self.step_bp is not None and not 0 < self.step_bp * self.steps < 10_000:
            raise RulesetFault("out_of_range", f"{self.table}.step_bp", "All steps together must stay below 100 %.")


@dataclass(frozen=True, kw_only=True)
class Hybrid(Dutch):
    """Format "hybrid": a Dutch clock, then sealed bids of all others above its price, then a best bid of the one who
    stopped it (Prozorro insider, spec/rulesets.md 2.2.4).

    The clock's times are planned from the opening and kept, also when the price was taken early: `pause_ms` after the
    last step the sealed bids for `sealed_ms`, `pause_ms` later the best bid for `best_ms`, which must be the best
    sealed bid plus `best_bp` of the opening (rounded up).
    """

    pause_ms: int
    sealed_ms: int
    best_ms: int
    best_bp: int

    table: ClassVar[str] = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_lengths(self, self.table, ("pause_ms", "sealed_ms", "best_ms"))
        if not 0 < self.best_bp <= 10_000:
            raise RulesetFault("out_of_range", "hybrid.best_bp", "It must be from 1 to 10000 basis points.")


def _check_lengths(table: object, where: str, names: tuple[str, ...]) -> None:
    """Raise RulesetFault for a length of time that is shorter than a decision takes, or longer than a day."""
    for name in names:
        if not 5_000 <= getattr(table, name) <= DAY_MS:
            raise RulesetFault("out_of_range", f"{where}.{name}", "It must be from 5 seconds to one day.")


@dataclass(frozen=True)
class SecondAuction:
    """After the first auction failed: on the same platform `within_days`, opening cut by at most `cut_most_bp`."""

    within_days: int
    cut_most_bp: int
    notice_days: Mapping[str, int]

    def least_opening_minor(self, previous_minor: int) -> int:
        """Return the lowest opening price after one of `previous_minor`; a part of a minor unit counts as a whole
        one.
        """
        return -(-previous_minor * (10_000 - self.cut_most_bp) // 10_000)


@dataclass(frozen=True)
class SellOff:
    """After the second failure: at the failed opening price, for `period_days`; the first bid starts
    `countdown_hours`.
    """

    notice_within_days: int
    period_days: int
    countdown_hours: int
    notice_days: Mapping[str, int]


@dataclass(frozen=True)
class Default:
    """A buyer who does not pay: what his deposit is used for, in this order, and what becomes of the rest."""

    deposit_order: tuple[Literal["costs", "shortfall", "case_debts", "asset_debts"], ...] = ("costs", "shortfall")
    forfeit_remainder: Literal["to_debtor_debt", "to_creditor", "return"] = "return"
    buyer_barred: bool = True


@dataclass(frozen=True)
class Listing:
    """What the ruleset asks of a lot before and after the bidding; carried here, checked by `market`. None: no rule.

    Shares are basis points: the deposit's of the opening, the opening's of the appraisal. Notice days by kind of
    collateral: "movable", "real_estate", "other_right".
    """

    least_duration_ms: int | None = None
    deposit_least_bp: int | None = None
    deposit_most_bp: int | None = None
    opening_least_bp: int | None = None
    notice_days: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    notice_to_parties_days: int | None = None
    second_auction: SecondAuction | None = None
    sell_off: SellOff | None = None
    default: Default = field(default_factory=Default)
    deposit_return_hours: int | None = None
    resume_within_days: int | None = None
    retention_years: int | None = None
    runner_up_award: bool = False

    def least_opening_minor(self, appraisal_minor: int) -> int:
        """Return the lowest opening price for an appraisal of `appraisal_minor`; a part of a minor unit counts as a
        whole.
        """
        return -(-appraisal_minor * (self.opening_least_bp or 0) // 10_000)


@dataclass(frozen=True)
class Honours:
    """What a format can honour; a ruleset that asks it for more is refused.

    increments: the kinds of steps it knows. whole_steps: it needs them (True), cannot have them (False), or either
    (None). table: the table of its own parameters, which must be there and must not be with any other format.
    """

    increments: tuple[str, ...]
    whole_steps: bool | None = False
    reserve: tuple[str, ...] = ("none",)
    table: str | None = None
    proxy: bool = False
    priority_buyers: bool = False
    leader_may_raise: bool = False
    soft_close: bool = False
    countdown: bool = False


HONOURED: dict[str, Honours] = {
    "english": Honours(
        ("listing", "table", "share"),
        whole_steps=None,
        reserve=("none", "open", "hidden", "opening"),
        proxy=True,
        priority_buyers=True,
        leader_may_raise=True,
        soft_close=True,
        countdown=True,
    ),
    "rounds": Honours(("listing",), table="rounds"),
    "gong": Honours(("listing",), whole_steps=True, table="gong"),
    "dutch": Honours(("listing", "none"), reserve=("none", "open", "hidden"), table="dutch"),
    "hybrid": Honours(("none",), table="hybrid"),
    "fixed_price": Honours(("none",)),
}


@dataclass(frozen=True)
class Ruleset:
    """One set of rules, under a name and a version. The tables of the formats stand at the end."""

    name: str
    version: int
    format: Literal["english", "rounds", "gong", "dutch", "hybrid", "fixed_price"]
    title: Mapping[str, str]  # by language: "en", "zh"
    bidding: Bidding = field(default_factory=Bidding)
    timing: Timing = field(default_factory=Timing)
    soft_close: SoftClose | None = None
    listing: Listing = field(default_factory=Listing)
    rounds: Rounds | None = None
    gong: Gong | None = None
    dutch: Dutch | None = None
    hybrid: Hybrid | None = None
    opens: tuple[Literal["winner", "reserve", "maxima"], ...] | None = None  # private facts that open with the outcome

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RulesetFault("name_format", "name", "Use small letters, digits and hyphens, at most 64 characters.")
        if self.version < 1:
            raise RulesetFault("out_of_range", "version", "Versions count from 1.")
        if not self.title.keys() >= {"en", "zh"}:
            raise RulesetFault("title_missing", "title", "Give the title in English (en) and in Chinese (zh).")
        self._check_honoured(HONOURED[self.format])

    def _check_honoured(self, can: Honours) -> None:
        """Raise RulesetFault for what the format cannot honour, and for a table that is not its own."""
        kind, bidding = self.format, self.bidding

        def need(holds: bool, code: str, where: str, sentence: str) -> None:
            if not holds:
                raise RulesetFault(code, where, f"The format {kind} {sentence}")

        for table in sorted({each.table for each in HONOURED.values() if each.table}):
            given = getattr(self, table) is not None
            if table == can.table:
                need(given, "format_table_missing", table, f"needs its table [{table}].")
            else:
                need(not given, "format_table_foreign", table, f"does not use the table [{table}].")
        steps = bidding.increments
        if steps.kind == "none" and "none" not in can.increments:
            raise RulesetFault("missing", "bidding.increments", f"The format {kind} needs increments.")
        words = ", ".join(can.increments)
        need(steps.kind in can.increments, "format_increments", "bidding.increments.kind", f"knows only: {words}.")
        if can.whole_steps is not None:
            sentence = "counts in whole steps." if can.whole_steps else "does not ask for whole steps."
            fits = steps.whole_steps is can.whole_steps
            need(fits, "format_whole_steps", "bidding.increments.whole_steps", sentence)
        for each in bidding.reserve:
            need(each in can.reserve, "format_reserve", "bidding.reserve", f"cannot honour the reserve {each}.")
        need(can.proxy or bidding.proxy == "off", "format_proxy", "bidding.proxy", "has no automatic bids.")
        fits = can.priority_buyers or not bidding.priority_buyers
        need(fits, "format_priority", "bidding.priority_buyers", "cannot honour priority buyers.")
        fits = can.leader_may_raise or not bidding.leader_may_raise
        need(fits, "format_leader", "bidding.leader_may_raise", "says itself when a leader may bid.")
        fits = can.soft_close or self.soft_close is None
        need(fits, "format_soft_close", "soft_close", "has a clock of its own, which no bid extends.")
        fits = can.countdown or self.timing.countdown_ms is None
        need(fits, "format_countdown", "timing.countdown_ms", "has no countdown from the first bid.")
        falls = self.dutch or self.hybrid
        if falls is not None and (falls.step_bp is None) != (steps.kind == "listing"):
            sentence = 'falls by step_bp of the opening or by the listing\'s step (kind = "listing"): name one of them.'
            raise RulesetFault("format_step", f"{falls.table}.step_bp", f"The format {kind} {sentence}")

    @property
    def disturbed_window_ms(self) -> int:
        """The last part of an auction, in which a disturbance extends it: the extension window, where there is one."""
        return self.soft_close.window_ms if self.soft_close else self.timing.resume_least_ms

    def falling_minor(self, opening_minor: int, step_minor: int | None = None, floor_minor: int = 0) -> tuple[int, ...]:
        """Return the prices of a Dutch clock, highest first; none, when the format has no such clock.

        The k-th is the opening less k steps (the listing's, or a share of the opening, then the price is rounded half
        up; spec/rulesets.md 2.2.4). The clock stops falling at `floor_minor`, which is its last price then.
        """
        falls = self.dutch or self.hybrid
        prices: list[int] = []
        for number in range(falls.steps + 1 if falls else 0):
            if falls is None or falls.step_bp is None:
                price_minor = opening_minor - number * (step_minor or 0)
            else:
                price_minor = (opening_minor * (10_000 - number * falls.step_bp) + 5_000) // 10_000
            prices.append(max(price_minor, floor_minor))
            if price_minor <= floor_minor:
                break
        return tuple(prices)

    def planned_ms(self, opening_minor: int, step_minor: int | None = None, floor_minor: int = 0) -> int | None:
        """Return how long an auction lasts whose clock is planned from the opening; None: the listing says."""
        falls = self.dutch or self.hybrid
        if falls is None:
            return None
        prices = self.falling_minor(opening_minor, step_minor, floor_minor)
        clock_ms = falls.first_pause_ms + len(prices) * falls.step_ms
        if hybrid := self.hybrid:
            clock_ms += 2 * hybrid.pause_ms + hybrid.sealed_ms + hybrid.best_ms
        return clock_ms

    def data(self) -> dict[str, Any]:
        """Return the ruleset as plain data, of the same shape as the TOML; `read_ruleset` makes it again."""
        data: dict[str, Any] = _plain(self)
        return data


def parse_ruleset(text: str) -> Ruleset:
    """Read a ruleset from TOML text. Raises RulesetFault, which says where and why."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise RulesetFault("not_toml", "file", f"This is not TOML: {fault}.") from None
    return read_ruleset(data)


def read_ruleset(data: Mapping[str, Any]) -> Ruleset:
    """Make a ruleset of plain data (see `Ruleset.data`). Raises RulesetFault."""
    return _read(Ruleset, data, "")


def packaged(name: str) -> Ruleset:
    """Return a ruleset that comes with Clearlot, by name. Raises KeyError."""
    if name not in PACKAGED:
        raise KeyError(name)
    return parse_ruleset(resources.files("auctions").joinpath("rulesets", f"{name}.toml").read_text("utf-8"))


# Those that pages, socket and client can show: a lot may be listed under these.
SHOWN = ("cn-judicial-2017", "ebay-proxy", "english-proxy-soft-close", "countdown-110")
# All that come with Clearlot, each with its vectors as tests. Once its pages are there, a ruleset moves up.
PACKAGED = (
    *SHOWN,
    "prozorro-english-3",
    "prozorro-gong",
    "prozorro-insider",
    "dutch-clock",
    "cn-sell-off",
    "fixed-price",
)


@dataclass(frozen=True)
class Terms:
    """What is fixed about one auction when it is created.

    closes_at_ms: the end as it is announced. Of a Dutch clock (and what follows it) it is the opening plus
    `planned_ms`; of a gong the hard end; in rounds the latest, since only the opening shows how many take turns.
    step_minor: for rulesets whose increments the listing sets. reserve: "none", "open" or "hidden"; a hidden reserve's
    amount is not part of the public terms, so there `reserve_minor` is None when they are read back.
    lot_sha256: hash of the frozen lot, hex.
    """

    auction_id: int
    currency: str
    lot_sha256: str
    ruleset: Ruleset
    opening_minor: int
    opens_at_ms: int
    closes_at_ms: int
    step_minor: int | None = None
    reserve: Literal["none", "open", "hidden"] = "none"
    reserve_minor: int | None = None
    deposit_minor: int | None = None

    def __post_init__(self) -> None:
        rules = self.ruleset.bidding

        def need(holds: bool, code: str, where: str, sentence: str) -> None:
            if not holds:
                raise RulesetFault(code, where, sentence)

        need(self.auction_id > 0, "out_of_range", "auction_id", "It counts from 1.")
        need(
            bool(CURRENCY.fullmatch(self.currency)), "currency_format", "currency", "Use the three letters of ISO 4217."
        )
        need(bool(SHA256.fullmatch(self.lot_sha256)), "hash_format", "lot_sha256", "Use 64 small hex digits.")
        need(self.opening_minor > 0, "out_of_range", "opening_minor", "The opening price must be above zero.")
        most_minor = max(self.opening_minor, self.step_minor or 0, self.reserve_minor or 0, self.deposit_minor or 0)
        need(most_minor <= LARGEST_MINOR, "out_of_range", "opening_minor", "An amount is beyond all bounds.")
        need(
            0 <= self.opens_at_ms < self.closes_at_ms < 2**53 and self.closes_at_ms - self.opens_at_ms <= LONGEST_MS,
            "bad_times",
            "closes_at_ms",
            "The auction must close after it opens, and within ten years.",
        )
        least_ms = self.ruleset.listing.least_duration_ms
        need(
            least_ms is None or self.closes_at_ms - self.opens_at_ms >= least_ms,
            "too_short",
            "closes_at_ms",
            f"Under {self.ruleset.name} bidding lasts at least {(least_ms or 0) / 3_600_000:g} hours.",
        )
        if rules.increments.kind == "listing":
            need(
                self.step_minor is not None and self.step_minor > 0,
                "step_missing",
                "step_minor",
                "Set a step above zero.",
            )
        else:
            need(self.step_minor is None, "step_given", "step_minor", "The ruleset's own table sets the increments.")
        if self.reserve == "none":
            need(self.reserve_minor is None, "reserve_kind", "reserve", "There is an amount, but no kind of reserve.")
        elif self.reserve == "open":
            need(self.reserve_minor is not None, "reserve_missing", "reserve_minor", "An open reserve needs an amount.")
        gong = self.ruleset.gong
        fits = gong is None or self.closes_at_ms - self.opens_at_ms > gong.pause_ms
        need(fits, "too_short", "closes_at_ms", "The first pause leaves no time for a round.")
        falls = self.ruleset.dutch or self.ruleset.hybrid
        if self.reserve_minor is not None and falls:
            fits = 0 < self.reserve_minor <= self.opening_minor
            need(fits, "reserve_high", "reserve_minor", "The price falls from the opening, so it cannot lie above it.")
        elif self.reserve_minor is not None:
            need(self.reserve_minor >= self.opening_minor, "reserve_low", "reserve_minor", "It lies below the opening.")
        if falls:
            lowest_minor = self.opening_minor - falls.steps * (self.step_minor or 0)
            need(lowest_minor > 0, "floor", "step_minor", "The last step would take the price to nothing.")
            fits = self.closes_at_ms - self.opens_at_ms == self.planned_ms
            sentence = f"The clock is planned for {(self.planned_ms or 0) / 1_000:g} seconds from the opening."
            need(fits, "planned_length", "closes_at_ms", sentence)
        if rules.increments.whole_steps and self.reserve_minor is not None and self.step_minor:
            on_a_step = (self.reserve_minor - self.opening_minor) % self.step_minor == 0
            need(on_a_step, "not_a_step", "reserve_minor", "It must be the opening plus a whole multiple of the step.")
        if "opening" in rules.reserve:
            fits = self.reserve == "none" or (self.reserve == "open" and self.reserve_minor == self.opening_minor)
            need(fits, "reserve_kind", "reserve", f"Under {self.ruleset.name} the opening price is the reserve.")
        else:
            need(self.reserve in rules.reserve, "reserve_kind", "reserve", f"{self.ruleset.name} has no such reserve.")
        deposit = self.deposit_minor
        need(deposit is None or deposit >= 0, "out_of_range", "deposit_minor", "A deposit is not below zero.")

    def text(self) -> str:
        """Return the public terms as canonical JSON."""
        data = _plain(self)
        if self.reserve == "hidden":
            data.pop("reserve_minor", None)
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    def sha256(self) -> str:
        """Return the hash of all terms, a hidden reserve included, hex."""
        return sha256(f"{self.text()}{self.reserve_minor}".encode()).hexdigest()

    @cached_property
    def falling_minor(self) -> tuple[int, ...]:
        """The prices of a Dutch clock, highest first; none, when the format has no such clock."""
        return self.ruleset.falling_minor(self.opening_minor, self.step_minor, self._floor_minor)

    @cached_property
    def planned_ms(self) -> int | None:
        """How long an auction lasts whose clock is planned from the opening; None: the listing says."""
        return self.ruleset.planned_ms(self.opening_minor, self.step_minor, self._floor_minor)

    @property
    def _floor_minor(self) -> int:
        return (self.reserve_minor or 0) if self.reserve == "open" else 0

    @cached_property
    def _bands(self) -> list[int]:
        return [start for start, _ in self.ruleset.bidding.increments.table]

    def increment_minor(self, price_minor: int) -> int:
        """Return by how much the next bid must be above `price_minor`."""
        if self.step_minor is not None:
            return self.step_minor
        increments = self.ruleset.bidding.increments
        if increments.share_bp is not None:
            return -(-price_minor * increments.share_bp // 10_000)
        return increments.table[bisect_right(self._bands, price_minor) - 1][1]


def read_terms(data: Any) -> Terms:
    """Make terms of plain data, as `Terms.text` wrote them. Raises RulesetFault."""
    return _read(Terms, data, "")


# --- Plain data -----------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Dataclasses to dictionaries in the order of their fields, without what is None."""
    if dataclasses.is_dataclass(value):
        items = ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
        return {name: _plain(one) for name, one in items if one is not None}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _read(kind: type[T], data: Any, where: str) -> T:
    """Build a dataclass of plain data: every name known, every type exact, nothing required missing."""
    if not isinstance(data, Mapping):
        raise RulesetFault("wrong_type", where or "file", "Expected a table of names and values.")
    hints = get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]  # always a dataclass
    for name in data:
        if name not in fields:
            raise RulesetFault("unknown_name", _join(where, name), f"Expected one of: {', '.join(fields)}.")
    for name, each in fields.items():
        if name not in data and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise RulesetFault("missing", _join(where, name), "This must be given.")
    return kind(**{name: _value(hints[name], one, _join(where, name)) for name, one in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # only ever `X | None`, and None is written by leaving the name out
        return _value(args[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _read(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if not isinstance(value, str) or value not in args:
            raise RulesetFault("not_a_choice", where, f"Expected one of: {', '.join(args)}.")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise RulesetFault("wrong_type", where, "Expected a list.")
        if args[-1] is Ellipsis:
            return tuple(_value(args[0], one, f"{where}[{index}]") for index, one in enumerate(value))
        if len(value) != len(args):
            raise RulesetFault("wrong_type", where, f"Expected {len(args)} values.")
        return tuple(_value(each, one, where) for each, one in zip(args, value, strict=True))
    if hint in (int, bool, str):
        if type(value) is not hint or (hint is int and value < 0):
            words = {int: "a whole number, not negative", bool: "true or false", str: "text in quotes"}
            raise RulesetFault("wrong_type", where, f"Expected {words[hint]}.")
        return value
    if not isinstance(value, Mapping):  # what is left: Mapping[str, int] and Mapping[str, str]
        raise RulesetFault("wrong_type", where, "Expected a table of names and values.")
    return MappingProxyType({str(name): _value(args[1], one, _join(where, str(name))) for name, one in value.items()})


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
