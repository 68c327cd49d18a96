"""Messages: what a command refuses to be made of, and that every event comes back from its text."""

from __future__ import annotations

import json

import pytest

from auctions.messages import (
    EVENTS,
    REASON_LENGTH,
    REFUSALS,
    Bar,
    Pause,
    Refused,
    Reschedule,
    Withdraw,
    Withdrawn,
    read_event,
)


@pytest.mark.parametrize("reason", ["", "x" * (REASON_LENGTH + 1), "\ud800"])
def test_a_reason_is_some_text(reason: str) -> None:
    for make in (
        lambda: Pause("p", reason),
        lambda: Withdraw("w", reason),
        lambda: Bar("b", 1, reason),
        lambda: Reschedule("r", 1, 2, reason),
    ):
        with pytest.raises(ValueError):
            make()
    assert Pause("p", "x" * REASON_LENGTH).reason


@pytest.mark.parametrize("reason", ['"', "\\", "\n\x1e\x00", "网络故障", "\u2028", "</script>"])
def test_free_text_is_escaped(reason: str) -> None:
    for text in (Pause("p", reason).text(), Withdraw("w", reason).text(), Bar("b", 1, reason).text()):
        assert json.loads(text)["reason"] == reason
        assert "\x1e" not in text
    assert read_event(json.loads(Withdrawn(reason).text())) == Withdrawn(reason)


def test_an_event_of_a_later_release_is_not_guessed() -> None:
    with pytest.raises(ValueError):
        read_event({"type": "buy_now", "bidder": 1})


def test_a_refusal_comes_back_with_its_facts() -> None:
    for code, names in REFUSALS.items():
        refused = Refused(3, code, {name: 10**17 + place for place, name in enumerate(names)})
        assert read_event(json.loads(refused.text())) == refused
    assert len(EVENTS) == 19
