"""Money, time, shares and counts as looks.md 2 writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from web.render import capitals, count, countdown, day, environment, instant, instant_text, money, share, speaking

AT = datetime(2026, 11, 22, 8, 30, 5, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minor", "currency", "form", "zh", "en"),
    [
        (1234567800, "CNY", "full", "¥12,345,678.00", "CNY 12,345,678.00"),
        (1234567800, "CNY", "aid", "¥12,345,678.00（约 1,234.57 万元）", "CNY 12,345,678.00 (about 12.35 million)"),
        (8400000, "CNY", "aid", "¥84,000.00（8.4 万元）", "CNY 84,000.00"),
        (123456789000, "CNY", "aid", "¥1,234,567,890.00（约 12.35 亿元）", "CNY 1,234,567,890.00 (about 1.23 billion)"),
        (152600000, "EUR", "aid", "EUR 1,526,000.00（152.6 万欧元）", "EUR 1,526,000.00 (1.526 million)"),
        (-3700000, "CNY", "table", "−37,000.00", "−37,000.00"),
        (0, "CNY", "table", "0.00", "0.00"),
        (None, "CNY", "full", "—", "—"),
        (999999, "CNY", "aid", "¥9,999.99", "CNY 9,999.99"),
        (1000000, "CNY", "aid", "¥10,000.00（1 万元）", "CNY 10,000.00"),
        (9999999999, "CNY", "aid", "¥99,999,999.99（约 1 亿元）", "CNY 99,999,999.99 (about 100 million)"),
        (131, "JPY", "full", "JPY 131", "JPY 131"),
        (131000000, "CNY", "short", "131 万元", "1.31 million"),
    ],
)
def test_money(minor: int | None, currency: str, form: str, zh: str, en: str) -> None:
    with speaking("zh"):
        assert money(minor, currency, form) == zh
    with speaking("en"):
        assert money(minor, currency, form) == en


def test_whole_money_has_no_decimals_but_never_loses_any() -> None:
    assert money(131000000, "CNY", whole=True) == "CNY 1,310,000"
    assert money(131000050, "CNY", whole=True) == "CNY 1,310,000.50"


@pytest.mark.parametrize(
    ("minor", "text"),
    [
        (131000000, "人民币壹佰叁拾壹万元整"),
        (148000000, "人民币壹佰肆拾捌万元整"),
        (10, "人民币零元壹角整"),
        (100105, "人民币壹仟零壹元零伍分"),
        (1000000000100, "人民币壹佰亿零壹元整"),
        (2030000, "人民币贰万零叁佰元整"),
        (123456789012, "人民币壹拾贰亿叁仟肆佰伍拾陆万柒仟捌佰玖拾元壹角贰分"),
        (0, "人民币零元整"),
    ],
)
def test_capitals(minor: int, text: str) -> None:
    assert capitals(minor) == text


def test_instants_and_days() -> None:
    with speaking("zh"):
        assert instant_text(AT) == "2026年11月22日 16:30:05（北京时间）"
        assert day(date(2026, 12, 4)) == "2026年12月4日（周五）"
    with speaking("en"):
        assert instant_text(AT) == "22 Nov 2026, 16:30:05 (Beijing time)"
        assert instant_text(AT, "table") == "2026-11-22 16:30"
        assert instant_text(AT, "time") == "16:30:05.123"
        assert day(date(2026, 12, 4)) == "Fri 4 Dec 2026"
        assert instant(AT, "table") == '<time datetime="2026-11-22T08:30:05.123Z">2026-11-22 16:30</time>'
        assert instant(None) == day(None) == "—"


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(seconds=0.001), "00:01"),
        (timedelta(seconds=271), "04:31"),
        (timedelta(hours=3, seconds=1), "03:00:01"),
        (timedelta(days=2, hours=3, minutes=14, seconds=5), "2 d 03:14:05"),
        (timedelta(seconds=-5), "00:00"),
    ],
)
def test_countdown_is_never_zero_while_a_bid_can_be_in_time(left: timedelta, text: str) -> None:
    assert countdown(AT + left, AT) == text


def test_shares_and_counts() -> None:
    assert share(1850) == "18.50%"
    assert share(-5) == "−0.05%"
    assert share(None) == "—"
    assert count(79141) == "79,141"


def test_a_zone_is_named_by_its_city() -> None:
    at = datetime(2026, 11, 22, 8, 30, 5, tzinfo=UTC)
    assert instant_text(at, "minute", "America/New_York") == "22 Nov 2026, 03:30 (New York time)"
    with speaking("zh"):
        assert instant_text(at, "minute", "America/New_York") == "2026年11月22日 03:30（纽约时间）"
        assert instant_text(at, "minute") == "2026年11月22日 16:30（北京时间）"


def test_numbers_in_sentences_are_grouped() -> None:
    bids = environment().from_string('{{ ngettext("%(num)s bid", "%(num)s bids", n) }}')
    assert bids.render(n=1320) == "1,320 bids"
    assert bids.render(n=1) == "1 bid"
    with speaking("zh"):
        assert "1,320" in bids.render(n=1320)
