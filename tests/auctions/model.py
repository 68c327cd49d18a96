"""The rules of an English auction said again, over plain lists, with no thought of speed: too simple to be wrong.

The price is computed anew from every bid ever accepted each time that somebody asks. Nothing of `auctions` is used
but the terms and the commands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from auctions.messages import (
    Admit,
    Bar,
    Close,
    Command,
    Disturbed,
    Pause,
    PlaceBid,
    Reschedule,
    Resume,
    SetProxy,
    StopProxy,
    Tick,
    Withdraw,
)
from auctions.rulesets import Terms


@dataclass
class Party:
    number: int
    limit: int
    rank: int | None
    barred: bool = False
    maximum: int = 0
    since: int = 0  # when the maximum was set
    shown: int = 0  # highest amount that everybody has seen
    led: int = 0  # when he last led at that amount


@dataclass
class Model:
    terms: Terms
    parties: dict[int, Party] = field(default_factory=dict)
    # proxy off: (-amount, rank or 999, when, party)
    bids: list[tuple[int, int, int, int]] = field(default_factory=list)
    openly: int = 0  # most that was bid openly
    turn: int = 0
    opened: bool = False
    paused_at: int | None = None
    withdrawn: bool = False
    result: tuple[Any, ...] | None = None
    extensions: int = 0

    def __post_init__(self) -> None:
        self.opens, self.closes = self.terms.opens_at_ms, self.terms.closes_at_ms
        rule = self.terms.ruleset.soft_close
        self.hard_end = self.closes + rule.hard_end_ms if rule and rule.hard_end_ms is not None else None

    # --- what it is now

    def increment(self, price: int) -> int:
        increments = self.terms.ruleset.bidding.increments
        if increments.kind == "listing":
            return self.terms.step_minor or 0
        if increments.kind == "share":
            share = price * (increments.share_bp or 0)
            return share // 10_000 + (1 if share % 10_000 else 0)
        return [by for start, by in increments.table if price >= start][-1]

    def leader(self) -> int | None:
        if self.bids:
            return min(self.bids)[3]
        have = [party for party in self.parties if self.parties[party].maximum]
        return min(have, key=lambda party: (-self.parties[party].maximum, self.parties[party].since), default=None)

    def price(self) -> int | None:
        leader = self.leader()
        if leader is None:
            return None
        if self.bids:
            return -min(self.bids)[0]
        reserve = self.terms.reserve_minor or 0
        first = self.parties[leader].maximum
        second = max([other.maximum for party, other in self.parties.items() if party != leader], default=0)
        price = min(first, second + self.increment(second)) if second else min(first, reserve)
        if first >= reserve:
            price = max(price, reserve)
        return max(price, self.terms.opening_minor, self.openly)

    def minimum(self) -> int:
        price = self.price()
        return self.terms.opening_minor if price is None else price + self.increment(price)

    # --- what a command does: "ok", "nothing", or the code of the refusal

    def answer(self, command: Command, arrived: int, at: int) -> str:
        self.turn += 1
        before = (self.price(), self.leader())
        match command:
            case PlaceBid() | SetProxy() | StopProxy():
                said = self.bidder_command(command, arrived)
                if said == "ok" and (self.price(), self.leader()) != before:
                    self.extend(arrived, first=before[1] is None)
                    self.see(before)
                return said
            case Admit():
                return self.admit(command)
            case Bar():
                return self.bar(command)
            case Pause():
                if refused := self.ended(at) or ("paused" if self.paused_at is not None else ""):
                    return refused
                self.paused_at = at
                return "ok"
            case Withdraw():
                if refused := self.ended(at):
                    return refused
                self.withdrawn = True
                return "ok"
            case Resume():
                return self.resume(at)
            case Reschedule():
                return self.reschedule(command, at)
            case Tick():
                if self.stopped() or self.opened or at < self.opens:
                    return "nothing"
                self.opened = True
                return "ok"
            case Close():
                return self.close(command, at)
            case Disturbed():
                return self.disturbed(command, arrived, at)
        raise AssertionError(command)

    def stopped(self) -> bool:
        return self.withdrawn or self.result is not None or self.paused_at is not None

    def ended(self, at: int) -> str:
        if self.withdrawn:
            return "withdrawn"
        if self.result is not None or (self.paused_at is None and at >= self.closes):
            return "too_late"
        return ""

    def bidder_command(self, command: PlaceBid | SetProxy | StopProxy, arrived: int) -> str:
        me = self.parties.get(command.party_id)
        if me is None:
            return "not_admitted"
        if me.barred:
            return "barred"
        if self.withdrawn:
            return "withdrawn"
        if self.result is not None:
            return "too_late"
        if self.paused_at is not None:
            return "paused"
        if arrived < self.opens:
            return "not_open_yet"
        if arrived >= self.closes:
            return "too_late"
        self.opened = True
        rules, leads = self.terms.ruleset.bidding, self.leader() == command.party_id
        price = self.price() or 0
        asks_proxy = not isinstance(command, PlaceBid) or command.maximum_minor is not None
        if asks_proxy and rules.proxy == "off":
            return "proxy_off"
        if isinstance(command, StopProxy):
            if rules.proxy == "always":
                return "proxy_binding"
            if not leads or me.maximum == price:
                return "no_proxy"
            me.maximum = price
            return "ok"
        if isinstance(command, SetProxy):
            openly, most = None, command.maximum_minor
        else:
            openly = command.amount_minor
            most = openly if command.maximum_minor is None else command.maximum_minor
            if most < openly:
                return "maximum_below_amount"
            if rules.proxy == "always":
                openly = None
        asked = most if openly is None else openly
        if not leads:
            least = self.minimum()
            holder = self.parties[self.leader() or 0] if self.leader() else None
            if holder and me.rank is not None and (holder.rank is None or me.rank < holder.rank):
                least = price
        elif openly is not None:
            if not rules.leader_may_raise:
                return "already_leading"
            least = self.minimum()
        else:
            if most == me.maximum or (rules.proxy == "always" and most < me.maximum):
                return "not_above_maximum"
            least = price
        if asked < least:
            return "below_minimum"
        if rules.increments.whole_steps:
            step, opening = self.terms.step_minor or 1, self.terms.opening_minor
            if (asked - opening) % step or (most - opening) % step:
                return "not_a_step"
        if most > me.limit:
            return "above_limit"
        if rules.proxy == "off":
            self.bids.append((-most, 999 if me.rank is None else me.rank, self.turn, command.party_id))
            return "ok"
        if openly is not None:
            self.openly = max(self.openly, openly)
        if leads and openly == most:
            most = max(most, me.maximum)
        if most != me.maximum:
            me.maximum, me.since = most, self.turn
        return "ok"

    def see(self, before: tuple[int | None, int | None]) -> None:
        """Keep what everybody has seen of each: the leader stands at the price, a beaten maximum was bid to its end."""
        leader, price = self.leader(), self.price()
        assert leader is not None
        assert price is not None
        for party, one in self.parties.items():
            if party != leader and one.maximum > one.shown:
                one.shown, one.led = one.maximum, self.turn
        if before[1] not in (None, leader) and self.parties[before[1] or 0].shown < (before[0] or 0):
            self.parties[before[1] or 0].shown = before[0] or 0
        self.parties[leader].shown, self.parties[leader].led = price, self.turn

    def extend(self, arrived: int, *, first: bool) -> None:
        countdown, rule = self.terms.ruleset.timing.countdown_ms, self.terms.ruleset.soft_close
        if first and countdown is not None:
            self.move(arrived + countdown)
        elif rule and self.closes - rule.window_ms <= arrived:
            end = (arrived if rule.anchor == "from_bid" else self.closes) + rule.extension_ms
            if self.hard_end is not None:
                end = min(end, self.hard_end)
            if end > self.closes and (rule.most_extensions is None or self.extensions < rule.most_extensions):
                self.closes = end
                self.extensions += 1

    def move(self, closes: int) -> None:
        if self.hard_end is not None:
            self.hard_end += closes - self.closes
        self.closes = closes

    def admit(self, command: Admit) -> str:
        if self.withdrawn:
            return "withdrawn"
        if self.result is not None:
            return "closed"
        if command.priority_rank is not None and not self.terms.ruleset.bidding.priority_buyers:
            return "no_priority"
        if not 0 <= command.limit_minor <= 10**17:
            return "limit_out_of_range"
        known = self.parties.get(command.party_id)
        if known is None:
            self.parties[command.party_id] = Party(len(self.parties) + 1, command.limit_minor, command.priority_rank)
            return "ok"
        if known.rank != command.priority_rank and (
            known.maximum or any(bid[3] == command.party_id for bid in self.bids)
        ):
            return "rank_fixed"
        if self.leader() == command.party_id and command.limit_minor < max(known.maximum, self.price() or 0):
            return "limit_in_use"
        known.limit, known.rank, known.barred = command.limit_minor, command.priority_rank, False
        return "ok"

    def bar(self, command: Bar) -> str:
        if self.withdrawn or self.result is not None:
            return "withdrawn" if self.withdrawn else "closed"
        known = self.parties.get(command.party_id)
        if known is None:
            return "not_admitted"
        if known.barred:
            return "barred"
        known.barred = True
        if self.leader() == command.party_id and known.maximum:
            known.maximum = self.price() or 0
        return "ok"

    def resume(self, at: int) -> str:
        if self.paused_at is None or self.withdrawn or self.result is not None:
            return "not_paused"
        rule, timing = self.terms.ruleset.soft_close, self.terms.ruleset.timing
        if self.paused_at < self.opens:  # it had not opened: the whole of it is left
            left, self.opens = self.closes - self.opens, max(self.opens, at)
            start = self.opens
        else:
            left, start = self.closes - self.paused_at, at
        left = max(left, 0)
        if left <= (rule.window_ms if rule else timing.resume_least_ms):
            left = max(left, timing.resume_least_ms)
        self.move(start + left)
        self.paused_at = None
        return "ok"

    def reschedule(self, command: Reschedule, at: int) -> str:
        if self.withdrawn:
            return "withdrawn"
        if self.result is not None:
            return "closed"
        if self.paused_at is None and (self.opened or at >= self.opens):
            return "not_paused"
        if not at <= command.opens_at_ms < command.closes_at_ms:
            return "bad_times"
        self.opens, self.opened, self.paused_at = command.opens_at_ms, False, None
        self.move(command.closes_at_ms)
        return "ok"

    def close(self, command: Close, at: int) -> str:
        timing = self.terms.ruleset.timing
        if self.stopped() or at < self.closes + timing.grace_ms:
            return "nothing"
        if command.down_since_ms is None:  # nobody knows of an outage: only the delay speaks
            was_down = at - self.closes > timing.grace_ms + timing.outage_after_ms
        else:
            was_down = command.down_since_ms < self.closes
        if was_down and timing.outage != "close_as_of":
            self.outage(command.down_since_ms, at)
            return "ok"
        leader, price = self.leader(), self.price()
        self.opened = True
        if leader is None or price is None:
            self.result = ("unsold", None, None, None, None)
            return "ok"
        sold = "sold" if price >= (self.terms.reserve_minor or 0) else "reserve_not_met"
        second = self.second(leader)
        self.result = (sold, self.parties[leader].number, price, *second)
        return "ok"

    def second(self, leader: int) -> tuple[int | None, int | None]:
        if self.terms.ruleset.bidding.proxy == "off":
            others = [bid for bid in self.bids if bid[3] != leader and not self.parties[bid[3]].barred]
            return (self.parties[min(others)[3]].number, -min(others)[0]) if others else (None, None)
        seen = [one for party, one in self.parties.items() if party != leader and one.shown and not one.barred]
        if not seen:
            return None, None
        most = max(one.shown for one in seen)
        # Equal maxima: the earlier one had the better right.
        best = min((one for one in seen if one.shown == most), key=lambda one: one.since)
        return best.number, most

    def outage(self, since: int | None, at: int) -> None:
        timing = self.terms.ruleset.timing
        if timing.outage == "reschedule":
            self.paused_at = at
            return
        self.opened = True
        lost = 0 if since is None else max(0, at - max(since, self.opens))
        self.move(max(self.closes + lost, at + timing.resume_least_ms))

    def disturbed(self, command: Disturbed, arrived: int, at: int) -> str:
        rule, timing = self.terms.ruleset.soft_close, self.terms.ruleset.timing
        near = rule.window_ms if rule else timing.resume_least_ms
        if self.stopped() or not self.opened or arrived < self.closes - near or arrived >= self.closes:
            return "nothing"
        if command.cause == "outage":
            if timing.outage == "close_as_of":
                return "nothing"
            self.outage(command.since_ms, arrived)
            self.paused_at = at if self.paused_at is not None else None
            return "ok"
        if arrived + timing.resume_least_ms <= self.closes:
            return "nothing"
        self.move(arrived + timing.resume_least_ms)
        return "ok"
