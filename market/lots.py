"""Lots: what one auction sells, under which terms; what a ruleset asks of a listing; the freeze at publication.

`live` is not a state of a lot here: whether bidding is open is the phase of its auction, and the journal has the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from auctions.rulesets import LARGEST_MINOR, Listing, Ruleset, RulesetFault, Terms
from market.errors import Conflict, Fault
from market.inputs import Reader
from market.money import BP, amount_text


class Status(StrEnum):
    """Where a lot is on its way from a draft to the money."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    PUBLISHED = "published"
    SOLD = "sold"
    UNSOLD = "unsold"
    DEFAULTED = "defaulted"
    SETTLED = "settled"
    WITHDRAWN = "withdrawn"


MOVES: dict[Status, set[Status]] = {
    Status.DRAFT: {Status.SUBMITTED, Status.WITHDRAWN},
    Status.SUBMITTED: {Status.APPROVED, Status.DRAFT},  # approved; sent back with a reason
    Status.APPROVED: {Status.PUBLISHED, Status.DRAFT},
    Status.PUBLISHED: {Status.SOLD, Status.UNSOLD, Status.WITHDRAWN},
    Status.SOLD: {Status.SETTLED, Status.DEFAULTED},
    Status.UNSOLD: {Status.SUBMITTED, Status.WITHDRAWN},  # offered again, under new terms
    Status.DEFAULTED: {Status.SUBMITTED, Status.WITHDRAWN},
    Status.SETTLED: set(),
    Status.WITHDRAWN: set(),
}
# What a lot in one of these sells may not be changed.
BOUND = (
    Status.SUBMITTED,
    Status.APPROVED,
    Status.PUBLISHED,
    Status.SOLD,
    Status.UNSOLD,
    Status.DEFAULTED,
    Status.SETTLED,
)
TERMS_OPEN = (Status.DRAFT, Status.UNSOLD, Status.DEFAULTED)  # in these the terms of the next auction may be set


def move(status: str, to: Status) -> Status:
    """Return `to`, if a lot may go there from `status`. Raises Conflict `lot_status`."""
    if to not in MOVES[Status(status)]:
        raise Conflict("lot_status", status=status, to=to.value)
    return to


KINDS = {"portfolio": "other_right", "vehicle": "movable", "property": "real_estate"}  # lot -> the rulesets' word
UNLIMITED_MINOR = LARGEST_MINOR  # the limit of an admission where the terms set none
FEE_MOST_BP = 3_000
FREEZE_FORMAT = "clearlot-lot-1"


class LotTerms(BaseModel):
    """The terms of a lot's next auction, as kept in `lot.terms`; checked against a ruleset by `checks`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    ruleset: str
    opening_minor: int = Field(gt=0, lt=LARGEST_MINOR)
    step_minor: int | None = Field(default=None, gt=0, lt=LARGEST_MINOR)
    reserve: Literal["none", "open", "hidden"] = "none"
    reserve_minor: int | None = Field(default=None, gt=0, lt=LARGEST_MINOR)
    deposit_minor: int = Field(ge=0, lt=LARGEST_MINOR)
    opens_at: datetime
    closes_at: datetime
    balance_due_days: int = Field(ge=1, le=180)  # business days after the close
    premium_bp: int = Field(default=0, ge=0, le=FEE_MOST_BP)  # buyer's, on the hammer
    commission_bp: int = Field(default=0, ge=0, le=FEE_MOST_BP)  # creditor's, of the hammer
    appraisal_minor: int | None = Field(default=None, gt=0, lt=LARGEST_MINOR)
    appraisal_on: date | None = None
    limit_per_deposit_bp: int | None = Field(default=None, ge=BP, le=1000 * BP)  # most that the deposit covers
    zone: str = "Asia/Shanghai"

    def kept(self) -> dict[str, Any]:
        """Plain JSON; `LotTerms.model_validate` makes it again."""
        return self.model_dump(mode="json", exclude_none=True)

    def limit_minor(self, declared_minor: int) -> int:
        """The most that a party admitted under these terms may bid; `declared_minor`: its own limit, 0 for none."""
        covered = UNLIMITED_MINOR
        if self.limit_per_deposit_bp is not None:
            covered = self.deposit_minor * self.limit_per_deposit_bp // BP
        return min(covered, declared_minor or UNLIMITED_MINOR)


@dataclass(frozen=True, slots=True)
class LotDraft:
    """What a lot sells and how it is described; `terms` may come later, in the wizard's next steps."""

    kind: str
    content_id: int  # portfolio or collateral, by `kind`
    title_en: str
    title_zh: str
    text_en: str
    text_zh: str
    place: str


def read_draft(values: Mapping[str, object]) -> LotDraft:
    """Read the description of a lot from a form or JSON. Raises BadInput with every fault, by field."""
    reader = Reader(values)
    kind = reader.choice("kind", KINDS)
    content_id = reader.whole("content_id", least=1, most=2**53)
    title_en, title_zh = reader.line("title_en", most=120), reader.line("title_zh", most=60)
    text_en, text_zh = reader.prose("text_en", most=8000), reader.prose("text_zh", most=8000)
    place = reader.line("place", most=80, least=0)
    reader.done()
    assert content_id is not None
    return LotDraft(kind, content_id, title_en, title_zh, text_en, text_zh, place)


def read_terms_of(values: Mapping[str, object], currency: str, rulesets: Mapping[str, Ruleset]) -> LotTerms:
    """Read terms from a form or JSON: money as exact text, percentages, instants in the lot's zone.

    Raises: BadInput with every fault, by field; a deposit that the ruleset does not allow is one. What else the ruleset
    asks is said by `checks`, which needs the whole.
    """
    reader = Reader(values)
    ruleset = rulesets.get(reader.choice("ruleset", rulesets))
    opening = reader.amount("opening", currency)
    listed_step = ruleset is None or ruleset.bidding.increments.kind == "listing"
    step = reader.amount("step", currency) if listed_step else None
    kinds = ruleset.bidding.reserve if ruleset else ()
    reserve, reserve_minor = "none", None
    if "opening" in kinds:
        reserve, reserve_minor = "open", opening
    elif reader.raw("reserve") not in ("", "none"):
        reserve = reader.choice("reserve", [kind for kind in kinds if kind != "opening"])
        reserve_minor = reader.amount("reserve_amount", currency)
        if reserve_minor is not None and opening is not None and reserve_minor < opening:
            reader.fault("reserve_low", "reserve_amount", reader.raw("reserve_amount"), "not below the opening")
    deposit = reader.amount("deposit", currency)
    if ruleset and opening and deposit is not None:
        holds, found, expected = _deposit_share(ruleset.listing, opening, deposit)
        if not holds:
            reader.fault("deposit_share", "deposit", found, expected)
    for field, amount in (("opening", opening), ("step", step), ("appraisal", None)):
        if amount == 0:
            reader.fault("range", field, "0", "more than zero")
    zone = reader.raw("zone") or "Asia/Shanghai"
    if zone not in ("Asia/Shanghai", "UTC"):
        reader.fault("choice", "zone", zone, "Asia/Shanghai, UTC")
        zone = "UTC"
    opens_at, closes_at = (reader.instant(field, ZoneInfo(zone)) for field in ("opens_at", "closes_at"))
    if opens_at and closes_at and closes_at <= opens_at:
        reader.fault("bad_times", "closes_at", reader.raw("closes_at"), "after the opening")
    due_days = reader.whole("balance_due_days", least=1, most=180)
    premium = reader.percent_bp("premium", most_bp=FEE_MOST_BP, required=False)
    commission = reader.percent_bp("commission", most_bp=FEE_MOST_BP, required=False)
    appraisal = reader.amount("appraisal", currency, required=False)
    appraisal_on = reader.day("appraisal_on", required=False)
    covers = reader.whole("limit_per_deposit", least=1, most=1000, required=False)
    reader.done()
    return LotTerms.model_validate(
        {
            "ruleset": reader.raw("ruleset"), "opening_minor": opening, "step_minor": step, "reserve": reserve,
            "reserve_minor": reserve_minor, "deposit_minor": deposit, "opens_at": opens_at, "closes_at": closes_at,
            "balance_due_days": due_days, "premium_bp": premium or 0, "commission_bp": commission or 0,
            "appraisal_minor": appraisal or None, "appraisal_on": appraisal_on,
            "limit_per_deposit_bp": covers and covers * BP, "zone": zone,
        }
    )  # fmt: skip


# --- what a ruleset asks of a listing -----------------------------------------------------------------

# Where a rule stands in the law, by ruleset; the numbers themselves are the ruleset's data.
ARTICLES: dict[str, dict[str, str]] = {
    "cn-judicial-2017": {
        "opening": "10", "reserve": "10", "deposit": "17", "notice": "12", "duration": "20", "second_opening": "26",
        "second_notice": "26", "second_within": "26",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Previous:
    """The auction of the same lot before this one."""

    number: int
    outcome: str  # unsold | defaulted
    opening_minor: int
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the ruleset asks of a listing, and whether it holds. `code` has a sentence; `facts` fill it."""

    code: str
    field: str
    holds: bool
    facts: dict[str, Any]
    article: str = ""

    def fault(self) -> Fault:
        """The check as a fault, for the API and for the field of a form."""
        found, expected = str(self.facts["found"]), str(self.facts["expected"])
        return Fault(self.code, self.field, found, expected + (f" (art. {self.article})" if self.article else ""))


def checks(
    terms: LotTerms, ruleset: Ruleset, *, kind: str, currency: str, at: datetime, previous: Previous | None = None
) -> list[Check]:
    """Return what `ruleset` asks of a lot of `kind` that would be published at `at`, in the wizard's order."""
    listing, second = ruleset.listing, ruleset.listing.second_auction
    articles = ARTICLES.get(ruleset.name, {})
    is_second = previous is not None and previous.outcome == "unsold" and second is not None
    found: list[Check] = []

    def check(code: str, field: str, holds: bool, rule: str, **facts: Any) -> None:
        found.append(Check(code, field, holds, {"currency": currency, **facts}, articles.get(rule, "")))

    if is_second:
        assert second is not None
        assert previous is not None
        least = second.least_opening_minor(previous.opening_minor)
        check(
            "second_opening_low", "opening", terms.opening_minor >= least, "second_opening",
            found=amount_text(terms.opening_minor, currency), expected=amount_text(least, currency),
            found_minor=terms.opening_minor, expected_minor=least, cut_bp=second.cut_most_bp,
        )  # fmt: skip
        last_day = previous.closed_at + timedelta(days=second.within_days)
        check(
            "second_too_late", "opens_at", terms.opens_at <= last_day, "second_within",
            found=f"{terms.opens_at:%Y-%m-%d}", expected=f"{last_day:%Y-%m-%d}", days=second.within_days,
        )  # fmt: skip
    elif listing.opening_least_bp is not None:
        _check_opening(check, terms, listing.opening_least_bp, currency, previous)
    if terms.deposit_minor or listing.deposit_least_bp:
        holds, share, allowed = _deposit_share(listing, terms.opening_minor, terms.deposit_minor)
        check("deposit_share", "deposit", holds, "deposit", found=share, expected=allowed)
    notice_days = dict(second.notice_days if is_second and second else listing.notice_days)
    if days := notice_days.get(KINDS[kind]):
        first = at + timedelta(days=days)
        given = max(timedelta(0), terms.opens_at - at)
        check(
            "notice_short", "opens_at", terms.opens_at >= first, "second_notice" if is_second else "notice",
            found=str(given.days), expected=str(days),
        )  # fmt: skip
    elif terms.opens_at <= at:
        opens_at = terms.opens_at.astimezone(ZoneInfo(terms.zone))  # as it was typed
        check("opens_in_past", "opens_at", False, "", found=f"{opens_at:%Y-%m-%d %H:%M}", expected="")
    if listing.least_duration_ms is not None:
        hours = listing.least_duration_ms / 3_600_000
        lasts = (terms.closes_at - terms.opens_at) / timedelta(hours=1)
        check(
            "too_short", "closes_at", lasts >= hours, "duration",
            found=f"{lasts:g}", expected=f"{hours:g}",
        )  # fmt: skip
    if "opening" in ruleset.bidding.reserve:
        check(
            "reserve_is_opening", "reserve", terms.reserve_minor == terms.opening_minor, "reserve",
            found=amount_text(terms.reserve_minor or 0, currency), expected=amount_text(terms.opening_minor, currency),
            expected_minor=terms.opening_minor,
        )  # fmt: skip
    return found


def _check_opening(check: Any, terms: LotTerms, least_bp: int, currency: str, previous: Previous | None) -> None:
    appraisal = terms.appraisal_minor
    if appraisal is None:
        check("appraisal_missing", "appraisal", False, "opening", found="", expected="")
        return
    least = -(-appraisal * least_bp // BP)
    if previous is not None:  # a re-auction after a default: not dearer by rule than the auction that failed to be paid
        least = min(least, previous.opening_minor)
    check(
        "opening_low", "opening", terms.opening_minor >= least, "opening",
        found=_share_text(terms.opening_minor, appraisal),
        expected=f"{least_bp / 100:g}%", least_minor=least,
    )  # fmt: skip


def _deposit_share(listing: Listing, opening_minor: int, deposit_minor: int) -> tuple[bool, str, str]:
    """Whether a deposit is allowed for an opening, its share, and what is allowed."""
    least_bp, most_bp = listing.deposit_least_bp or 0, listing.deposit_most_bp or BP
    low, high = -(-opening_minor * least_bp // BP), opening_minor * most_bp // BP
    allowed = f"{least_bp / 100:g}%–{most_bp / 100:g}%"
    return low <= deposit_minor <= high, _share_text(deposit_minor, opening_minor), allowed


def _share_text(part_minor: int, whole_minor: int) -> str:
    """A share with two decimals, cut, so that what is short of a limit never reads as having reached it."""
    bp = part_minor * BP // whole_minor
    return f"{bp // 100}.{bp % 100:02}%"


def auction_terms(terms: LotTerms, ruleset: Ruleset, *, auction_id: int, currency: str, lot_sha256: str) -> Terms:
    """The terms under which the auction's journal begins. Raises Conflict, when the ruleset cannot honour them."""
    try:
        return Terms(
            auction_id=auction_id,
            currency=currency,
            lot_sha256=lot_sha256,
            ruleset=ruleset,
            opening_minor=terms.opening_minor,
            opens_at_ms=to_ms(terms.opens_at),
            closes_at_ms=to_ms(terms.closes_at),
            step_minor=terms.step_minor,
            reserve=terms.reserve,
            reserve_minor=terms.reserve_minor,
            deposit_minor=terms.deposit_minor,
        )
    except RulesetFault as fault:
        raise Conflict("ruleset_fault", where=fault.where, sentence=fault.sentence, rule=fault.code) from None


def to_ms(at: datetime) -> int:
    """An instant as whole milliseconds since the Unix epoch, as `auctions` has it."""
    return round(at.timestamp() * 1000)


def from_ms(at_ms: int) -> datetime:
    """The instant of `auctions`' milliseconds."""
    return datetime.fromtimestamp(at_ms // 1000, UTC) + timedelta(milliseconds=at_ms % 1000)


# --- the freeze -----------------------------------------------------------------------------------------


def freeze(
    draft: LotDraft,
    terms: LotTerms,
    ruleset: Ruleset,
    *,
    reference: str,
    currency: str,
    creditor: str,
    content: Mapping[str, Any],
) -> tuple[dict[str, Any], str]:
    """Return what bidders price, as plain data, and its SHA-256 in hex.

    `content`: what is sold - for a portfolio its sums and the hash of its accounts, for collateral its facts and the
    digests of its pictures. A hidden reserve is not in it: the journal's first entry commits to that.
    """
    kept = terms.kept()
    if terms.reserve == "hidden":
        del kept["reserve_minor"]
    frozen = {
        "format": FREEZE_FORMAT,
        "reference": reference,
        "kind": draft.kind,
        "creditor": creditor,
        "title": {"en": draft.title_en, "zh": draft.title_zh},
        "text": {"en": draft.text_en, "zh": draft.text_zh},
        "place": draft.place,
        "currency": currency,
        "terms": kept,
        "ruleset": ruleset.data(),
        "content": dict(content),
    }
    return frozen, hashlib.sha256(canonical(frozen)).hexdigest()


def canonical(data: Mapping[str, Any]) -> bytes:
    """The one way in which frozen content becomes bytes: JSON, names sorted, no blanks, UTF-8."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


# --- taking part ------------------------------------------------------------------------------------------

AGREEMENT = {
    "en": (
        "I take part under the rules, terms and content of this lot as frozen under the hash below. A bid that is "
        "accepted binds me and cannot be withdrawn. If I win, I pay the balance by its due time; if I do not, my "
        "deposit is used as the rules say and I may not bid on this lot again. The price includes everything known "
        "and unknown about what is sold. I have no conflict of interest in this lot."
    ),
    "zh": (
        "本人（单位）按下列哈希值所固定的标的内容、条件和竞价规则参加竞买。出价一经接受即具约束力，不可撤回。"
        "如竞得，将按期支付剩余价款；悔拍的，保证金按规则使用，且不得再次参加本标的竞买。"
        "成交价已包含标的一切已知和未知的情况。本人（单位）与本标的不存在利害关系。"
    ),
}


def agreement_hash(frozen_hash: str) -> str:
    """What a party agrees to, as one SHA-256 in hex: the text in both languages, and the frozen lot."""
    return hashlib.sha256(canonical({"agreement": AGREEMENT, "lot_sha256": frozen_hash})).hexdigest()


# --- rules in words ---------------------------------------------------------------------------------------


def rules_in_words(ruleset: Ruleset, terms: LotTerms, currency: str) -> list[tuple[str, dict[str, Any]]]:
    """The ruleset as a list of (code, facts), for people: each code has a sentence in both languages."""
    bidding, soft, timing, listing = ruleset.bidding, ruleset.soft_close, ruleset.timing, ruleset.listing
    words: list[tuple[str, dict[str, Any]]] = []

    def add(code: str, **facts: Any) -> None:
        words.append((code, {"currency": currency, **facts}))

    if terms.step_minor is not None:
        code = "rule_whole_steps" if bidding.increments.whole_steps else "rule_step"
        add(code, opening_minor=terms.opening_minor, step_minor=terms.step_minor)
    elif bidding.increments.kind == "table":
        add("rule_step_table", rows=len(bidding.increments.table))
    else:
        add("rule_step_share", share_bp=bidding.increments.share_bp)
    add(f"rule_proxy_{bidding.proxy}")
    add("rule_reserve_opening" if "opening" in bidding.reserve else f"rule_reserve_{terms.reserve}")
    if bidding.priority_buyers:
        add("rule_priority")
    add("rule_leader_may_raise" if bidding.leader_may_raise else "rule_leader_may_not_raise")
    if soft is not None:
        add(f"rule_extension_{soft.anchor}", window=_minutes(soft.window_ms), extension=_minutes(soft.extension_ms))
        if soft.most_extensions is not None:
            add("rule_extension_cap", most=soft.most_extensions)
        if soft.hard_end_ms is not None:
            add("rule_hard_end", after=_minutes(soft.hard_end_ms))
    else:
        add("rule_no_extension")
    if timing.countdown_ms is not None:
        add("rule_countdown", seconds=timing.countdown_ms // 1000)
    add("rule_arrival", seconds=f"{timing.grace_ms / 1000:g}")
    add("rule_pause", minutes=_minutes(timing.resume_least_ms))
    add(f"rule_outage_{timing.outage}")
    if listing.deposit_return_hours is not None:
        add("rule_deposit_back", hours=listing.deposit_return_hours)
    add("rule_default_" + listing.default.forfeit_remainder)
    add("rule_runner_up" if listing.runner_up_award else "rule_reauction")
    return words


def _minutes(ms: int) -> str:
    return f"{ms / 60_000:g}"
