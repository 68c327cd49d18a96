"""English ascending auction: whole steps or an increment table, proxies, reserve, priority buyers, soft close.

The price is at every moment a function of the two highest maxima m1 (the leader's) and m2 (the highest of all others):
min(m1, m2 + increment(m2)), not below the opening, and not below the reserve once m1 reaches it; nor ever below an
amount that the leader bid openly (spec/rulesets.md 2.3, 2.4). A bid without a proxy is a maximum that was bid openly.

Everybody sees one `Bid` or `AutoBid` for each amount that is reached: of two maxima the lower one has then been bid
in full, and the standing, which is the last of them, is the answer of the higher one.
"""

from auctions.bidding import Auction, Bidder, Events, Position, Standing
from auctions.messages import (
    AutoBid,
    Bid,
    BidderCommand,
    Closed,
    Event,
    Extended,
    MaximumSet,
    PlaceBid,
    Refused,
    SetProxy,
    StopProxy,
)
from auctions.rulesets import Terms


class English(Auction):
    """Besides what `Auction` has: `leader`, `price_minor` (0 before the first bid), `rival_minor` (m2; 0: no other
    bid).
    """

    __slots__ = ("_rules", "_step_minor", "bids", "leader", "minimum_minor", "price_minor", "rival_minor")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._rules = terms.ruleset.bidding
        self._step_minor = terms.step_minor if self._rules.increments.whole_steps else None
        self.leader: Bidder | None = None
        self.price_minor = 0
        self.rival_minor = 0
        self.minimum_minor = terms.opening_minor
        self.bids = 0

    # --- Deciding -----------------------------------------------------------------------------------------------

    def decide_bid(self, bidder: Bidder, command: BidderCommand, arrived_ms: int) -> Events:
        """Return what a bidder's command causes, who is admitted and in time."""
        proxy = self._rules.proxy
        amount_minor: int | None  # bid openly
        if isinstance(command, PlaceBid):
            amount_minor = command.amount_minor
            if command.maximum_minor is None:
                maximum_minor = amount_minor
            elif proxy == "off":
                return (Refused(bidder.number, "proxy_off", {}),)
            elif (maximum_minor := command.maximum_minor) < amount_minor:
                facts = {"amount_minor": amount_minor, "maximum_minor": maximum_minor}
                return (Refused(bidder.number, "maximum_below_amount", facts),)
            if proxy == "always":
                amount_minor = None
        elif not isinstance(command, SetProxy | StopProxy):
            return (Refused(bidder.number, "wrong_action", {}),)
        elif proxy == "off":
            return (Refused(bidder.number, "proxy_off", {}),)
        elif isinstance(command, StopProxy):
            return self._decide_stop(bidder)
        else:
            amount_minor, maximum_minor = None, command.maximum_minor
        if refused := self._refusal(bidder, amount_minor, maximum_minor):
            return (refused,)
        if bidder is self.leader:
            return self._raise_own(bidder, amount_minor, maximum_minor, arrived_ms)
        return self._meet_leader(bidder, amount_minor, maximum_minor, arrived_ms)

    def _refusal(self, bidder: Bidder, amount_minor: int | None, maximum_minor: int) -> Refused | None:
        """Return why an amount bid openly (None: none is) and a maximum will not do, or None."""
        asked_minor = maximum_minor if amount_minor is None else amount_minor
        minimum_minor = self.minimum_minor
        if bidder is not self.leader:
            if bidder.priority_rank is not None:
                minimum_minor = self._least_minor(bidder)
        elif amount_minor is None:
            own_minor = bidder.maximum_minor
            if maximum_minor == own_minor or (maximum_minor < own_minor and self._rules.proxy == "always"):
                facts = {"amount_minor": maximum_minor, "maximum_minor": own_minor}
                return Refused(bidder.number, "not_above_maximum", facts)
            minimum_minor = self.price_minor  # he may take back what was not needed yet
        elif not self._rules.leader_may_raise:
            return Refused(bidder.number, "already_leading", {"price_minor": self.price_minor})
        if asked_minor < minimum_minor:
            facts = {"amount_minor": asked_minor, "minimum_minor": minimum_minor}
            return Refused(bidder.number, "below_minimum", facts)
        if step_minor := self._step_minor:
            opening_minor = self.terms.opening_minor
            for wanted_minor in (asked_minor, maximum_minor):
                if over_minor := (wanted_minor - opening_minor) % step_minor:
                    lower_minor = wanted_minor - over_minor
                    facts = {
                        "amount_minor": wanted_minor,
                        "opening_minor": opening_minor,
                        "step_minor": step_minor,
                        "lower_minor": lower_minor,
                        "upper_minor": lower_minor + step_minor,
                    }
                    return Refused(bidder.number, "not_a_step", facts)
        if maximum_minor > bidder.limit_minor:
            facts = {"amount_minor": maximum_minor, "limit_minor": bidder.limit_minor}
            return Refused(bidder.number, "above_limit", facts)
        return None

    def _least_minor(self, bidder: Bidder) -> int:
        """Return the least next bid of one who does not lead: a priority buyer may equal whom he goes before (art.
        21).
        """
        leader, rank = self.leader, bidder.priority_rank
        if leader and rank is not None and (leader.priority_rank is None or rank < leader.priority_rank):
            return self.price_minor
        return self.minimum_minor

    def _meet_leader(self, bidder: Bidder, amount_minor: int | None, maximum_minor: int, arrived_ms: int) -> Events:
        """Return the bids that follow when somebody else than the leader bids: he leads, or the leader's proxy
        answers.
        """
        leader = self.leader
        extended = self._extension(arrived_ms)
        if leader and maximum_minor <= leader.maximum_minor and self._rules.proxy != "off":
            answer_minor = self._price(leader.maximum_minor, maximum_minor, 0)  # of equal maxima the earlier one leads
            return (Bid(bidder.number, maximum_minor), AutoBid(leader.number, answer_minor), *extended)
        if amount_minor == maximum_minor:
            price_minor = amount_minor
        else:
            price_minor = self._price(maximum_minor, leader.maximum_minor if leader else 0, amount_minor or 0)
        events: Events = (Bid(bidder.number, price_minor), *extended)
        if leader and leader.maximum_minor > self.price_minor:
            events = (AutoBid(leader.number, leader.maximum_minor), *events)  # his proxy went to its end
        if maximum_minor > price_minor:
            events = (*events, MaximumSet(bidder.number, maximum_minor))
        return events

    def _raise_own(self, bidder: Bidder, amount_minor: int | None, maximum_minor: int, arrived_ms: int) -> Events:
        """Return what follows when the leader bids: a new maximum moves the price only if he was held at his old
        one.
        """
        events: Events = ()
        if amount_minor == maximum_minor:  # an open bid leaves a higher maximum as it is
            maximum_minor = max(maximum_minor, bidder.maximum_minor)
        floor_minor = max(amount_minor or 0, self.price_minor)
        price_minor = self._price(maximum_minor, self.rival_minor, floor_minor)
        if price_minor > self.price_minor:
            events = (Bid(bidder.number, price_minor), *self._extension(arrived_ms))
        if maximum_minor != max(bidder.maximum_minor, price_minor):
            events = (*events, MaximumSet(bidder.number, maximum_minor))
        return events

    def _price(self, maximum_minor: int, rival_minor: int, floor_minor: int) -> int:
        """Return the price between two maxima, the leader's and that of all others (0: nobody else has bid)."""
        opening_minor, reserve_minor = self.terms.opening_minor, self.reserve_minor or 0
        if rival_minor:
            price_minor = min(maximum_minor, rival_minor + self.terms.increment_minor(rival_minor))
        else:
            price_minor = min(maximum_minor, reserve_minor)
        if maximum_minor >= reserve_minor:
            price_minor = max(price_minor, reserve_minor)
        return max(price_minor, opening_minor, floor_minor)

    def _extension(self, arrived_ms: int) -> tuple[Extended, ...]:
        """Return how a bid that changed the standing moves the end: not at all, or once."""
        countdown_ms = self.terms.ruleset.timing.countdown_ms
        if countdown_ms is not None and self.leader is None:
            return (Extended(arrived_ms + countdown_ms, 0, "first_bid"),)
        soft_close = self.terms.ruleset.soft_close
        if soft_close is None or arrived_ms < self.closes_at_ms - soft_close.window_ms:
            return ()
        if soft_close.most_extensions is not None and self.extensions >= soft_close.most_extensions:
            return ()
        start_ms = arrived_ms if soft_close.anchor == "from_bid" else self.closes_at_ms
        closes_at_ms = start_ms + soft_close.extension_ms
        if self.hard_end_ms is not None:
            closes_at_ms = min(closes_at_ms, self.hard_end_ms)
        if closes_at_ms <= self.closes_at_ms:
            return ()
        return (Extended(closes_at_ms, self.extensions + 1, "bid"),)

    def _decide_stop(self, bidder: Bidder) -> Events:
        if self._rules.proxy == "always":
            return (Refused(bidder.number, "proxy_binding", {"maximum_minor": bidder.maximum_minor}),)
        return self.stop_proxy(bidder) or (Refused(bidder.number, "no_proxy", {}),)

    def stop_proxy(self, bidder: Bidder) -> Events:
        """Return what ends a bidder's automatic bids; nothing, when he has none. Only a leader's maximum is not used
        up.
        """
        if bidder is self.leader and bidder.maximum_minor > self.price_minor:
            return (MaximumSet(bidder.number, self.price_minor),)
        return ()

    def bound_minor(self, bidder: Bidder) -> int:
        """Return the leader's maximum; nobody else is bound by anything."""
        return bidder.maximum_minor if bidder is self.leader else 0

    def outcome(self) -> Closed:
        """Return how the auction ends as it stands."""
        leader = self.leader
        if leader is None:
            return Closed("unsold", self.closes_at_ms, None, None, None, None)
        others = [each for each in self.bidders if each is not leader and each.offered_order and not each.barred]
        # One tie rule everywhere: at equal amounts the later bid was accepted because it had the better right.
        second = max(others, key=lambda each: (each.offered_minor, each.offered_order), default=None)
        return Closed(
            "sold" if self.price_minor >= (self.reserve_minor or 0) else "reserve_not_met",
            self.closes_at_ms,
            leader.number,
            self.price_minor,
            second.number if second else None,
            second.offered_minor if second else None,
        )

    # --- Applying -----------------------------------------------------------------------------------------------

    def apply(self, event: Event, at_ms: int) -> None:
        """Change the state by `event` of an entry at `at_ms`."""
        if type(event) is not Bid and type(event) is not AutoBid:
            super().apply(event, at_ms)
            return
        bidder = self.bidders[event.bidder - 1]
        amount_minor = event.amount_minor
        if bidder is not self.leader:
            self.rival_minor = self.price_minor  # the beaten maximum has been bid in full by now; 0 at the first bid
            self.leader = bidder
        self.bids += 1
        self.bid_sequence = self.sequence
        self.price_minor = bidder.offered_minor = amount_minor
        bidder.offered_order = self.bids
        if amount_minor > bidder.maximum_minor:
            bidder.maximum_minor = amount_minor
        self.minimum_minor = amount_minor + self.terms.increment_minor(amount_minor)

    # --- Reading ------------------------------------------------------------------------------------------------

    def standing(self, sequence: int, at_ms: int | None = None) -> Standing:
        """Return what everybody may see; `sequence` is the number of the last entry."""
        has_reserve = self.terms.reserve != "none"
        return Standing(
            sequence=sequence,
            phase=self.phase,
            price_minor=self.price_minor or None,
            leader=self.leader.number if self.leader else None,
            bid_sequence=self.bid_sequence,
            minimum_minor=self.minimum_minor,
            bids=self.bids,
            bidders=len(self.bidders),
            extensions=self.extensions,
            opens_at_ms=self.opens_at_ms,
            closes_at_ms=self.closes_at_ms,
            paused_at_ms=self.paused_at_ms,
            reason=self.reason,
            reserve_met=self.price_minor >= (self.reserve_minor or 0) and self.leader is not None
            if has_reserve
            else None,
            result=self.closed.result if self.closed else None,
        )

    def position(self, party_id: int, at_ms: int | None = None) -> Position | None:
        """Return where a party stands, or None, when it was not admitted."""
        bidder = self.by_party.get(party_id)
        if bidder is None:
            return None
        leads = bidder is self.leader
        if not bidder.offered_order:
            state = "none"
        elif self.closed:
            state = "won" if leads and self.closed.result == "sold" else "lost"
        else:
            state = "leading" if leads else "outbid"
        if not leads:
            minimum_minor = self._least_minor(bidder)
        elif self._rules.leader_may_raise and self._rules.proxy == "off":
            minimum_minor = self.minimum_minor
        else:
            minimum_minor = bidder.maximum_minor + (self._step_minor or 1)
        actions: tuple[str, ...] = ()
        if not self.stopped and self.opened and not bidder.barred:
            actions = ("bid",) if self._rules.proxy == "off" else ("bid", "proxy")
        return Position(
            bidder=bidder.number,
            state=state,
            barred=bidder.barred,
            minimum_minor=minimum_minor,
            maximum_minor=bidder.maximum_minor or None,
            limit_minor=bidder.limit_minor,
            priority_rank=bidder.priority_rank,
            actions=actions,
        )
