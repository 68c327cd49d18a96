"""What travels over the socket (docs/live-protocol.md): typed messages, strict reading, exact writing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from auctions.bidding import Position
from auctions.bidding import Standing as CoreStanding
from auctions.journal import Entry
from auctions.messages import ID, AutoBid, Bid
from market.money import amount_text

SUBPROTOCOL = "clearlot.v1"
LARGEST_NUMBER = 2**53 - 1  # exact in every JSON reader
DEPTH = 16
is_id = ID.fullmatch

Id: TypeAlias = str  # what `is_id` says; as a pattern of the decoder it would cost as much as all the rest of reading
Number: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
Sequence: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
Want: TypeAlias = Literal["entries", "standing", "page"]
Language: TypeAlias = Literal["en", "zh"]


# --- from the client --------------------------------------------------------------------------------


class Watch(Struct, tag="watch", tag_field="type", forbid_unknown_fields=True, kw_only=True):
    auction: Number | UnsetType = UNSET
    lot: Number | UnsetType = UNSET
    since: Sequence | UnsetType = UNSET
    want: Want | UnsetType = UNSET
    language: Language | UnsetType = UNSET


class Unwatch(Struct, tag="unwatch", tag_field="type", forbid_unknown_fields=True):
    auction: Number


class PlaceBid(Struct, tag="bid", tag_field="type", forbid_unknown_fields=True, gc=False):
    id: Id
    auction: Number
    amount: str
    maximum: str | UnsetType = UNSET


class SetProxy(Struct, tag="set_proxy", tag_field="type", forbid_unknown_fields=True, gc=False):
    id: Id
    auction: Number
    maximum: str


class StopProxy(Struct, tag="stop_proxy", tag_field="type", forbid_unknown_fields=True, gc=False):
    id: Id
    auction: Number


class Get(Struct, tag="get", tag_field="type", forbid_unknown_fields=True):
    auction: Number


class Ping(Struct, tag="ping", tag_field="type", forbid_unknown_fields=True):
    id: Id | UnsetType = UNSET


FromClient: TypeAlias = Watch | Unwatch | PlaceBid | SetProxy | StopProxy | Get | Ping
_decoder: msgspec.json.Decoder[FromClient] = msgspec.json.Decoder(FromClient)
_TYPES: dict[str, type[Struct]] = {
    kind.__struct_config__.tag: kind  # type: ignore[misc]
    for kind in (Watch, Unwatch, PlaceBid, SetProxy, StopProxy, Get, Ping)
}
# How many quotation marks a message has in which no name stands twice: two for each name and each string.
# Another number (an escape, a name twice, a name that may be left out) is looked at slowly.
_WITH_ID = frozenset(kind for kind in _TYPES.values() if "id" in kind.__struct_fields__)
_QUOTES: dict[type[Struct], int] = {PlaceBid: 14, SetProxy: 14, StopProxy: 10, Ping: 8}


class Fault(Exception):
    """A message that changes nothing: a stable code, and where it applies the field, what was found and expected."""

    def __init__(self, code: str, field: str = "", found: str = "", expected: str = "", id: str = "") -> None:
        super().__init__(code)
        self.code, self.field, self.found, self.expected, self.id = code, field, found, expected, id


def read(text: str) -> FromClient:
    """Read one message of a client, strictly. Raises Fault."""
    try:
        message: FromClient = _decoder.decode(text)
    except msgspec.MsgspecError:
        raise diagnose(text) from None
    except RecursionError:
        raise Fault("message_format", expected=f"nested at most {DEPTH} deep") from None
    kind: type[Any] = type(message)
    if kind in _WITH_ID and type(id := message.id) is str and not is_id(id):  # type: ignore[union-attr]
        raise diagnose(text)
    if text.count('"') == _QUOTES.get(kind) and (kind is not Ping or message.id):  # type: ignore[union-attr]
        return message
    try:
        json.loads(text, object_pairs_hook=_no_name_twice)
    except Fault as fault:
        fault.id = getattr(message, "id", "") or ""
        raise
    return message


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault("name_twice", twice[:40], expected="every name once")
    return made


def _no_constant(text: str) -> object:
    raise ValueError(text)


def diagnose(text: str) -> Fault:
    """Say what is wrong with a message that cannot be read. Slow and thorough (docs/live-protocol.md, Errors)."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    if deepest > DEPTH:
        return Fault("message_format", expected=f"nested at most {DEPTH} deep")
    try:
        message = json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_no_constant)
    except Fault as fault:
        return fault
    except (ValueError, RecursionError):
        return Fault("message_format", expected="one JSON object")
    if not isinstance(message, dict):
        return Fault("message_format", expected="one JSON object")
    found = _diagnose_object(message)
    if isinstance(given := message.get("id"), str) and is_id(given):
        found.id = given
    return found


def _diagnose_object(message: dict[str, object]) -> Fault:
    if "type" not in message:
        return Fault("type_missing", "type", expected="one of: " + ", ".join(_TYPES))
    kind = message["type"]
    if not isinstance(kind, str):
        return Fault("field_type", "type", _shown(kind), "text")
    if kind not in _TYPES:
        return Fault("type_unknown", "type", kind[:40], "one of: " + ", ".join(_TYPES))
    fields = {field.name: field for field in msgspec.structs.fields(_TYPES[kind])}
    for name in message:
        if name != "type" and name not in fields:
            return Fault("field_unknown", name[:40], expected="one of: " + ", ".join(fields))
    for name, field in fields.items():
        if name not in message:
            if field.required:
                return Fault("field_missing", name, expected=_expected(name))
            continue
        value = message[name]
        if not (isinstance(value, int) and not isinstance(value, bool) if name in _NUMBERS else isinstance(value, str)):
            return Fault("field_type", name, _shown(value), _expected(name))
        if name == "id" and not is_id(str(value)):
            return Fault("field_value", name, _shown(value), _expected(name))
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError:
            return Fault("field_value", name, _shown(value), _expected(name))
    return Fault("message_format", expected="text without lone surrogates")


_NUMBERS = ("auction", "lot", "since")


def _expected(name: str) -> str:
    match name:
        case "auction" | "lot":
            return f"a whole number from 1 to {LARGEST_NUMBER}"
        case "since":
            return f"a whole number from 0 to {LARGEST_NUMBER}"
        case "id":
            return "text: 1 to 64 of A-Z a-z 0-9 _ . -"
        case "want":
            return "one of: entries, standing, page"
        case "language":
            return "one of: en, zh"
        case _:
            return 'an amount as text, such as "1250.00"'


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)[:40]


# --- to the client ----------------------------------------------------------------------------------

encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4096)  # the bids of one turn share a few of them
def instant(ms: int) -> str:
    """Milliseconds since the Unix epoch as the protocol writes an instant: `2026-11-22T14:00:00.000Z`."""
    seconds, ms = divmod(ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def outside(value: Any, currency: str) -> Any:
    """Write a journal's value as people and programs outside see it.

    `..._minor` becomes an amount under the name without the suffix, `..._at_ms` an instant named `..._at`; other
    values stay. A ruleset's increment table is a list of pairs of minor units, both of which become amounts.
    """
    if isinstance(value, Mapping):
        made: dict[str, Any] = {}
        for name, one in value.items():
            if name.endswith("_minor") and (one is None or type(one) is int):
                made[name[:-6]] = None if one is None else amount_text(one, currency)
            elif name.endswith("_at_ms") and (one is None or type(one) is int):
                made[name[:-3]] = None if one is None else instant(one)
            elif name == "table" and isinstance(one, list):
                made[name] = [[amount_text(part, currency) for part in row] for row in one]
            else:
                made[name] = outside(one, currency)
        return made
    if isinstance(value, list):
        return [outside(one, currency) for one in value]
    return value


def facts_text(facts: Mapping[str, int | str], currency: str) -> str:
    """The facts of a refusal as JSON text: the same as `outside`, faster."""
    texts = []
    for name, value in facts.items():
        if name.endswith("_minor") and type(value) is int:
            texts.append(f'"{name[:-6]}":"{amount_text(value, currency)}"')
        elif name.endswith("_at_ms") and type(value) is int:
            texts.append(f'"{name[:-3]}":"{instant(value)}"')
        else:
            texts.append(encode({name: value}).decode()[1:-1])
    return "{" + ",".join(texts) + "}"


def entry_text(entry: Entry, currency: str) -> str:
    """One entry as `entries` carries it; JSON text."""
    events = []
    for event in entry.events:
        if not event.public:
            continue
        if type(event) is Bid:
            amount = amount_text(event.amount_minor, currency)
            events.append(f'{{"type":"bid","bidder":{event.bidder},"amount":"{amount}"}}')
        elif type(event) is AutoBid:
            amount = amount_text(event.amount_minor, currency)
            events.append(f'{{"type":"auto_bid","bidder":{event.bidder},"amount":"{amount}"}}')
        else:
            events.append(encode(outside(json.loads(event.text()), currency)).decode())
    return (
        f'{{"sequence":{entry.sequence},"at":"{instant(entry.at_ms)}","hash":"{entry.hash.hex()}",'
        f'"events":[{",".join(events)}]}}'
    )


def standing_facts(standing: CoreStanding, auction_id: int, currency: str) -> dict[str, Any]:
    """What a room shows, as `standing` carries it."""
    price, reason = standing.price_minor, standing.reason
    return {
        "auction": auction_id,
        "sequence": standing.sequence,
        "currency": currency,
        "phase": standing.phase.value,
        "price": None if price is None else amount_text(price, currency),
        "leader": standing.leader,
        "minimum": amount_text(standing.minimum_minor, currency),
        "bids": standing.bids,
        "bidders": standing.bidders,
        "extensions": standing.extensions,
        "reserve_met": standing.reserve_met,
        "opens_at": instant(standing.opens_at_ms),
        "closes_at": instant(standing.closes_at_ms),
        "paused_at": None if standing.paused_at_ms is None else instant(standing.paused_at_ms),
        "reason": reason,
        "outcome": "withdrawn" if standing.phase == "withdrawn" else standing.result or "",
    }


def position_facts(position: Position | None, auction_id: int, sequence: int, currency: str) -> dict[str, Any]:
    """What one party may see about itself, as `position` carries it."""
    facts: dict[str, Any] = {"auction": auction_id, "sequence": sequence, "bidder": None}
    if position is not None:
        maximum = position.maximum_minor
        facts |= {
            "bidder": position.bidder,
            "state": position.state,
            "barred": position.barred,
            "minimum": amount_text(position.minimum_minor, currency),
            "maximum": None if maximum is None else amount_text(maximum, currency),
            "limit": amount_text(position.limit_minor, currency),
            "priority_rank": position.priority_rank,
        }
    return facts
