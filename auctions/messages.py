"""What may be asked of an auction (commands) and what then happens (events).

Everywhere in `auctions`: instants are whole milliseconds since the Unix epoch, in UTC, named `_ms`; money is whole
minor units of the auction's currency, named `_minor`. `party_id` is a positive number of the marketplace and private;
`bidder` is the number 1, 2, 3 ... that a party got in this auction when it was admitted, and the only name that
others see.

Each command and event can write itself as JSON text (`text`). The values on the way of a bid are numbers, checked ids
and fixed words, which need no escaping, so an f-string is enough and fast; free text goes through `json.dumps`. None
of the classes is frozen: they are made hundreds of thousands of times a second, and a frozen one costs three times as
much. Nobody changes one after it was made.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from auctions.rulesets import Terms, read_terms

ID = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
REASON_LENGTH = 500  # characters

Facts: TypeAlias = dict[str, int]

# --- Commands -------------------------------------------------------------------------------------------------------
#
# A command with an `id` is answered once: the same id with the same content gets the first answer. Ids of parties
# live in a space of their own for each party (`scope` is the party id); ids of the platform's own people and jobs in
# one for each `by` (`scope` is its negative), so nobody can use up the id of somebody else.


@dataclass(slots=True)
class PlaceBid:
    """Bid `amount_minor`, and, where the ruleset has proxies, let the system bid on up to `maximum_minor`.

    Under `proxy = "always"` (eBay) the amount itself is the maximum. A priority buyer uses it to bid the standing
    amount, too.
    """

    id: str
    party_id: int
    amount_minor: int
    maximum_minor: int | None = None

    @property
    def scope(self) -> int:
        return self.party_id

    def text(self) -> str:
        maximum = "null" if self.maximum_minor is None else self.maximum_minor
        return (
            f'{{"type":"place_bid","id":"{self.id}","party_id":{self.party_id},'
            f'"amount_minor":{self.amount_minor},"maximum_minor":{maximum}}}'
        )


@dataclass(slots=True)
class SetProxy:
    """Let the system bid up to `maximum_minor`, no more than is needed. Again: a new maximum."""

    id: str
    party_id: int
    maximum_minor: int

    @property
    def scope(self) -> int:
        return self.party_id

    def text(self) -> str:
        return (
            f'{{"type":"set_proxy","id":"{self.id}","party_id":{self.party_id},"maximum_minor":{self.maximum_minor}}}'
        )


@dataclass(slots=True)
class StopProxy:
    """No further automatic bids for this party; what it has bid so far stands."""

    id: str
    party_id: int

    @property
    def scope(self) -> int:
        return self.party_id

    def text(self) -> str:
        return f'{{"type":"stop_proxy","id":"{self.id}","party_id":{self.party_id}}}'


@dataclass(slots=True)
class Take:
    """Take the price that the clock (or the seller) asks. `step` is the one that the party saw, counted from 0.

    When the clock has moved on by the time that it arrives, it is refused: nobody buys at a price he did not see.
    """

    id: str
    party_id: int
    step: int
    amount_minor: int

    @property
    def scope(self) -> int:
        return self.party_id

    def text(self) -> str:
        return (
            f'{{"type":"take","id":"{self.id}","party_id":{self.party_id},"step":{self.step},'
            f'"amount_minor":{self.amount_minor}}}'
        )


@dataclass(slots=True)
class Retract:
    """Take back what this party has handed in under seal and what nobody has seen yet."""

    id: str
    party_id: int

    @property
    def scope(self) -> int:
        return self.party_id

    def text(self) -> str:
        return f'{{"type":"retract","id":"{self.id}","party_id":{self.party_id}}}'


@dataclass(slots=True)
class Create:
    """Begin an auction. The first entry of every journal, and only that."""

    id: str
    terms: Terms
    by: int = 0

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return f'{{"type":"create","id":"{self.id}","by":{self.by},"terms_sha256":"{self.terms.sha256()}"}}'


@dataclass(slots=True)
class Admit:
    """Let a party bid up to `limit_minor`; again: a new limit and rank, and the end of a bar.

    Bidders are numbered in the order of their first admission. `priority_rank` (1 goes first) makes a priority buyer.
    """

    id: str
    party_id: int
    limit_minor: int
    priority_rank: int | None = None
    by: int = 0

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        rank = "null" if self.priority_rank is None else self.priority_rank
        return (
            f'{{"type":"admit","id":"{self.id}","by":{self.by},"party_id":{self.party_id},'
            f'"limit_minor":{self.limit_minor},"priority_rank":{rank}}}'
        )


@dataclass(slots=True)
class Bar:
    """Let a party bid no more. What it has bid stands: an accepted bid binds, and others have acted on it."""

    id: str
    party_id: int
    reason: str
    by: int = 0

    def __post_init__(self) -> None:
        _check_reason(self.reason)

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return (
            f'{{"type":"bar","id":"{self.id}","by":{self.by},"party_id":{self.party_id},'
            f'"reason":{_quoted(self.reason)}}}'
        )


@dataclass(slots=True)
class Pause:
    """Stop time for a cause that is published."""

    id: str
    reason: str
    by: int = 0

    def __post_init__(self) -> None:
        _check_reason(self.reason)

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return f'{{"type":"pause","id":"{self.id}","by":{self.by},"reason":{_quoted(self.reason)}}}'


@dataclass(slots=True)
class Resume:
    """Let time go on, with what was left of it, and not less than the ruleset's least inside the extension window."""

    id: str
    by: int = 0

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return f'{{"type":"resume","id":"{self.id}","by":{self.by}}}'


@dataclass(slots=True)
class Reschedule:
    """Give a paused or upcoming auction new times and, if it was paused, let it go on at the new opening instant."""

    id: str
    opens_at_ms: int
    closes_at_ms: int
    reason: str
    by: int = 0

    def __post_init__(self) -> None:
        _check_reason(self.reason)

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return (
            f'{{"type":"reschedule","id":"{self.id}","by":{self.by},"opens_at_ms":{self.opens_at_ms},'
            f'"closes_at_ms":{self.closes_at_ms},"reason":{_quoted(self.reason)}}}'
        )


@dataclass(slots=True)
class Withdraw:
    """Take the lot off sale before its end, for a cause that is published."""

    id: str
    reason: str
    by: int = 0

    def __post_init__(self) -> None:
        _check_reason(self.reason)

    @property
    def scope(self) -> int:
        return -self.by

    def text(self) -> str:
        return f'{{"type":"withdraw","id":"{self.id}","by":{self.by},"reason":{_quoted(self.reason)}}}'


@dataclass(slots=True)
class Tick:
    """Do what is due at this instant (open, end a stage). Needs no id: a second one finds nothing to do."""

    id: ClassVar[str] = ""
    scope: ClassVar[int] = 0

    def text(self) -> str:
        return '{"type":"tick"}'


@dataclass(slots=True)
class Close:
    """End the auction, or the stage of one that has stages, if its end and the grace have come, as of that end; or,
    if no node was up as the end came, apply the outage rule.

    `down_since_ms`: since when no node was up, where one saw an outage that lasted beyond the end. None: nobody did;
    then only a close that is far too late shows one.
    """

    id: ClassVar[str] = ""
    scope: ClassVar[int] = 0
    down_since_ms: int | None = None

    def text(self) -> str:
        since = "null" if self.down_since_ms is None else self.down_since_ms
        return f'{{"type":"close","down_since_ms":{since}}}'


@dataclass(slots=True)
class Disturbed:
    """Bidders could not reach us, and the end is near: extend it.

    `cause` is "busy" (somebody was answered so) or "outage" (no node was up since `since_ms`, and the end has not
    come yet; then the ruleset's outage rule decides). Asks for nothing when the end is not near.
    """

    id: ClassVar[str] = ""
    scope: ClassVar[int] = 0
    cause: Literal["busy", "outage"]
    since_ms: int | None = None

    def text(self) -> str:
        since = "null" if self.since_ms is None else self.since_ms
        return f'{{"type":"disturbed","cause":"{self.cause}","since_ms":{since}}}'


BIDDER_COMMANDS = (PlaceBid, SetProxy, StopProxy, Take, Retract)
TIMER_COMMANDS = (Tick, Close, Disturbed)
BidderCommand: TypeAlias = PlaceBid | SetProxy | StopProxy | Take | Retract
PlatformCommand: TypeAlias = Create | Admit | Bar | Pause | Resume | Reschedule | Withdraw
TimerCommand: TypeAlias = Tick | Close | Disturbed
Command: TypeAlias = BidderCommand | PlatformCommand | TimerCommand


# --- Events ---------------------------------------------------------------------------------------------------------
#
# An event is public or private as a whole. The public ones of an entry, applied alone, already give everything that
# everybody may see; the private ones add limits, maxima, who is who, and what was refused to whom.


@dataclass(slots=True)
class Created:
    public: ClassVar[bool] = True
    terms: Terms

    def text(self) -> str:
        return f'{{"type":"created","terms":{self.terms.text()}}}'


@dataclass(slots=True)
class Admitted:
    """A bidder is admitted (the next free number), or admitted again with another rank or after a bar."""

    public: ClassVar[bool] = True
    bidder: int
    priority_rank: int | None

    def text(self) -> str:
        rank = "null" if self.priority_rank is None else self.priority_rank
        return f'{{"type":"admitted","bidder":{self.bidder},"priority_rank":{rank}}}'


@dataclass(slots=True)
class Barred:
    public: ClassVar[bool] = True
    bidder: int

    def text(self) -> str:
        return f'{{"type":"barred","bidder":{self.bidder}}}'


@dataclass(slots=True)
class Opened:
    public: ClassVar[bool] = True

    def text(self) -> str:
        return '{"type":"opened"}'


@dataclass(slots=True)
class Bid:
    """`bidder` bid `amount_minor`. The last `Bid` or `AutoBid` of an entry is the standing after it: amount and
    leader.
    """

    public: ClassVar[bool] = True
    bidder: int
    amount_minor: int

    def text(self) -> str:
        return f'{{"type":"bid","bidder":{self.bidder},"amount_minor":{self.amount_minor}}}'


@dataclass(slots=True)
class AutoBid:
    """The system bid for `bidder`, by his maximum, in answer to the command of the same entry."""

    public: ClassVar[bool] = True
    bidder: int
    amount_minor: int

    def text(self) -> str:
        return f'{{"type":"auto_bid","bidder":{self.bidder},"amount_minor":{self.amount_minor}}}'


@dataclass(slots=True)
class Revealed:
    """What `bidder` had handed in under seal is public now: `amount_minor`, the `place`-th offer of the auction.

    At equal amounts the lower place has the better right.
    """

    public: ClassVar[bool] = True
    bidder: int
    amount_minor: int
    place: int

    def text(self) -> str:
        return f'{{"type":"revealed","bidder":{self.bidder},"amount_minor":{self.amount_minor},"place":{self.place}}}'


@dataclass(slots=True)
class Kept:
    """The turn of `bidder` has ended, and he left his offer as it was."""

    public: ClassVar[bool] = True
    bidder: int

    def text(self) -> str:
        return f'{{"type":"kept","bidder":{self.bidder}}}'


@dataclass(slots=True)
class Staged:
    """A stage that only the events so far decide: `stage` number `number` begins at `starts_at_ms`, and as things
    stand the auction ends at `closes_at_ms`.

    "taken": the price of step `number` was taken, bidding ended with it. "round": a gong's next round. "rounds": the
    first turn of rounds with `number` bidders.
    """

    public: ClassVar[bool] = True
    stage: str
    number: int
    starts_at_ms: int
    closes_at_ms: int

    def text(self) -> str:
        return (
            f'{{"type":"staged","stage":"{self.stage}","number":{self.number},'
            f'"starts_at_ms":{self.starts_at_ms},"closes_at_ms":{self.closes_at_ms}}}'
        )


@dataclass(slots=True)
class Extended:
    """The end moved to `closes_at_ms`, and of an auction with stages all later ones with it.

    `cause`: "bid" (counted by `extensions`), "first_bid", "busy" or "outage".
    """

    public: ClassVar[bool] = True
    closes_at_ms: int
    extensions: int
    cause: str

    def text(self) -> str:
        return (
            f'{{"type":"extended","closes_at_ms":{self.closes_at_ms},'
            f'"extensions":{self.extensions},"cause":"{self.cause}"}}'
        )


@dataclass(slots=True)
class Paused:
    public: ClassVar[bool] = True
    reason: str

    def text(self) -> str:
        return f'{{"type":"paused","reason":{_quoted(self.reason)}}}'


@dataclass(slots=True)
class Resumed:
    public: ClassVar[bool] = True
    opens_at_ms: int
    closes_at_ms: int

    def text(self) -> str:
        return f'{{"type":"resumed","opens_at_ms":{self.opens_at_ms},"closes_at_ms":{self.closes_at_ms}}}'


@dataclass(slots=True)
class Rescheduled:
    public: ClassVar[bool] = True
    opens_at_ms: int
    closes_at_ms: int
    reason: str

    def text(self) -> str:
        return (
            f'{{"type":"rescheduled","opens_at_ms":{self.opens_at_ms},"closes_at_ms":{self.closes_at_ms},'
            f'"reason":{_quoted(self.reason)}}}'
        )


@dataclass(slots=True)
class Withdrawn:
    public: ClassVar[bool] = True
    reason: str

    def text(self) -> str:
        return f'{{"type":"withdrawn","reason":{_quoted(self.reason)}}}'


@dataclass(slots=True)
class Closed:
    """The outcome, for ever. `result`: "sold", "unsold" (nobody bid) or "reserve_not_met".

    `closed_at_ms` is the end of bidding as it was announced, not the later instant at which it was decided. `bidder`
    and `price_minor` are the standing at the end (None when nobody bid); only when `result` is "sold" is that the
    hammer. `runner_up` has bid `runner_up_minor`, the most of all others who are not barred.
    """

    public: ClassVar[bool] = True
    result: str
    closed_at_ms: int
    bidder: int | None
    price_minor: int | None
    runner_up: int | None
    runner_up_minor: int | None

    def text(self) -> str:
        return json.dumps(
            {
                "type": "closed",
                "result": self.result,
                "closed_at_ms": self.closed_at_ms,
                "bidder": self.bidder,
                "price_minor": self.price_minor,
                "runner_up": self.runner_up,
                "runner_up_minor": self.runner_up_minor,
            },
            separators=(",", ":"),
        )


@dataclass(slots=True)
class ReserveSet:
    """The hidden reserve."""

    public: ClassVar[bool] = False
    reserve_minor: int

    def text(self) -> str:
        return f'{{"type":"reserve_set","reserve_minor":{self.reserve_minor}}}'


@dataclass(slots=True)
class LimitSet:
    """Which party is `bidder`, and up to what it may bid."""

    public: ClassVar[bool] = False
    bidder: int
    party_id: int
    limit_minor: int

    def text(self) -> str:
        return (
            f'{{"type":"limit_set","bidder":{self.bidder},"party_id":{self.party_id},"limit_minor":{self.limit_minor}}}'
        )


@dataclass(slots=True)
class MaximumSet:
    """The most that the system may bid for `bidder`."""

    public: ClassVar[bool] = False
    bidder: int
    maximum_minor: int

    def text(self) -> str:
        return f'{{"type":"maximum_set","bidder":{self.bidder},"maximum_minor":{self.maximum_minor}}}'


@dataclass(slots=True)
class OfferSealed:
    """What `bidder` has handed in and nobody is to see yet; None: he took it back. The last one counts."""

    public: ClassVar[bool] = False
    bidder: int
    amount_minor: int | None

    def text(self) -> str:
        amount = "null" if self.amount_minor is None else self.amount_minor
        return f'{{"type":"offer_sealed","bidder":{self.bidder},"amount_minor":{amount}}}'


@dataclass(slots=True)
class Refused:
    """The command did nothing else. `bidder` is None when the party is not one. `facts`: what a sentence needs.

    Codes and their facts are listed in `REFUSALS`.
    """

    public: ClassVar[bool] = False
    bidder: int | None
    code: str
    facts: Facts

    def text(self) -> str:
        bidder = "null" if self.bidder is None else self.bidder
        facts = ",".join([f'"{name}":{value}' for name, value in self.facts.items()])
        return f'{{"type":"refused","bidder":{bidder},"code":"{self.code}","facts":{{{facts}}}}}'


Event: TypeAlias = (
    Created
    | Admitted
    | Barred
    | Opened
    | Bid
    | AutoBid
    | Revealed
    | Kept
    | Staged
    | Extended
    | Paused
    | Resumed
    | Rescheduled
    | Withdrawn
    | Closed
    | ReserveSet
    | LimitSet
    | MaximumSet
    | OfferSealed
    | Refused
)

# Every code with the facts that it brings, all whole numbers. `amount_minor` is what was asked for (the maximum, when
# that was the fault).
REFUSALS: dict[str, tuple[str, ...]] = {
    "not_admitted": (),
    "barred": (),
    "withdrawn": (),
    "paused": ("paused_at_ms",),
    "not_open_yet": ("opens_at_ms", "arrived_at_ms"),
    "too_late": ("closed_at_ms", "arrived_at_ms"),
    "already_leading": ("price_minor",),  # the ruleset lets nobody bid against himself
    "proxy_off": (),  # the ruleset has no automatic bids
    "proxy_binding": ("maximum_minor",),  # the ruleset lets nobody take back a maximum
    "no_proxy": (),  # nothing to stop
    "below_minimum": ("amount_minor", "minimum_minor"),
    "not_a_step": (
        "amount_minor",
        "opening_minor",
        "step_minor",
        "lower_minor",
        "upper_minor",
    ),  # two nearest that would do
    "maximum_below_amount": ("amount_minor", "maximum_minor"),
    "not_above_maximum": ("amount_minor", "maximum_minor"),  # his own, while he leads
    "above_limit": ("amount_minor", "limit_minor"),
    "wrong_action": (),  # the format knows no such bid
    "wait_for_stage": ("starts_at_ms",),  # a pause: nobody may bid before that
    "not_in_stage": (),  # not this, or not he, in the present stage
    "not_your_turn": ("turn_at_ms",),  # his next turn
    "no_turn_left": (),
    "no_offer": (),  # he handed in no offer before the opening, so he has no turns
    "round_taken": ("starts_at_ms", "price_minor"),  # somebody was first in this round: the next one
    "step_moved": ("step", "current_step", "price_minor"),  # the clock has gone on, to this price
    "not_the_price": ("amount_minor", "price_minor"),
    "taken": ("price_minor",),  # somebody was first
    "nothing_sealed": (),
    # to the platform's own commands:
    "already_created": (),
    "limit_in_use": ("limit_minor", "maximum_minor"),  # he leads with more than the new limit
    "no_priority": (),  # the ruleset knows no priority buyers
    "limit_out_of_range": ("limit_minor",),
    "rank_fixed": (),  # he has bid already, and others under that order
    "not_paused": (),
    "closed": (),
    "bad_times": ("opens_at_ms", "closes_at_ms"),
}


def _check_reason(reason: str) -> None:
    """Raise ValueError for a reason that is empty, too long, or not text that can be written."""
    if not 1 <= len(reason) <= REASON_LENGTH:
        raise ValueError(f"a reason has 1 to {REASON_LENGTH} characters")
    reason.encode()  # no half of a surrogate pair


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


EVENTS: dict[str, Callable[..., Event]] = {
    "admitted": Admitted,
    "barred": Barred,
    "opened": Opened,
    "bid": Bid,
    "auto_bid": AutoBid,
    "revealed": Revealed,
    "kept": Kept,
    "staged": Staged,
    "extended": Extended,
    "paused": Paused,
    "resumed": Resumed,
    "rescheduled": Rescheduled,
    "withdrawn": Withdrawn,
    "closed": Closed,
    "reserve_set": ReserveSet,
    "limit_set": LimitSet,
    "maximum_set": MaximumSet,
    "offer_sealed": OfferSealed,
    "refused": Refused,
}


def read_event(data: dict[str, Any]) -> Event:
    """Make an event of its JSON object, as `text` wrote it. Raises ValueError for a type that this release does not
    know.
    """
    kind = data.pop("type")
    if kind == "created":
        return Created(read_terms(data["terms"]))
    if make := EVENTS.get(str(kind)):
        return make(**data)
    raise ValueError(f"unknown event {kind!r}: the journal was written by a later release")
