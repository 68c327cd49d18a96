"""Business days: public holidays of a country, and the weekend days on which China works for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from market.errors import BadInput, Fault

if TYPE_CHECKING:
    from holidays import HolidayBase

PAY_BY = time(17)  # banks' cut-off: what is due on a day is due at five in the afternoon
MOST_DAYS = 366  # business days in one count

# Calendar by name -> its zone. "ECB": the days on which TARGET settles euro payments.
ZONES = {
    "CN": "Asia/Shanghai", "HK": "Asia/Hong_Kong", "SG": "Asia/Singapore", "JP": "Asia/Tokyo", "KR": "Asia/Seoul",
    "GB": "Europe/London", "ECB": "Europe/Berlin", "DE": "Europe/Berlin", "NL": "Europe/Amsterdam", "UA": "Europe/Kyiv",
    "US": "America/New_York", "AU": "Australia/Sydney", "CA": "America/Toronto", "CH": "Europe/Zurich",
}  # fmt: skip
BY_CURRENCY = {
    "CNY": "CN", "HKD": "HK", "SGD": "SG", "JPY": "JP", "KRW": "KR", "GBP": "GB", "EUR": "ECB", "UAH": "UA",
    "USD": "US", "AUD": "AU", "CAD": "CA", "CHF": "CH",
}  # fmt: skip


def of_currency(currency: str) -> str:
    """The calendar in whose days payments of `currency` are counted; "ECB" for those without one of their own."""
    return BY_CURRENCY.get(currency, "ECB")


def zone(calendar: str) -> ZoneInfo:
    """The zone in which the days of `calendar` begin and end."""
    try:
        return ZoneInfo(ZONES[calendar])
    except KeyError:
        known = ", ".join(sorted(ZONES))
        raise BadInput([Fault("calendar_unknown", "calendar", calendar[:20], f"one of {known}")]) from None


@lru_cache(maxsize=64)
def _days(calendar: str) -> HolidayBase:
    import holidays  # a third of a second, which no start of a server should take

    zone(calendar)  # refuses an unknown name
    if calendar == "ECB":
        return holidays.financial_holidays("ECB")
    return holidays.country_holidays(calendar)


def is_business_day(on: date, calendar: str) -> bool:
    """Do banks work on that day? In China also on the weekend days that make up for a holiday (调休).

    Make-up days are announced each November for the next year; a year that the `holidays` library does not have yet
    counts by its weekends and fixed holidays alone.
    """
    return bool(_days(calendar).is_working_day(on))


def add_business_days(on: date, days: int, calendar: str) -> date:
    """The `days`-th business day after `on`; with 0, `on` itself or the next business day.

    Raises: ValueError, when `days` is negative or above MOST_DAYS.
    """
    if not 0 <= days <= MOST_DAYS:
        raise ValueError(f"{days} business days")
    if days == 0:
        while not is_business_day(on, calendar):
            on += timedelta(1)
    while days:
        on += timedelta(1)
        days -= is_business_day(on, calendar)
    return on


def business_days_between(start: date, end: date, calendar: str) -> int:
    """Business days after `start` up to and including `end`; negative when `end` is earlier."""
    if end < start:
        return -business_days_between(end, start, calendar)
    return sum(is_business_day(start + timedelta(n), calendar) for n in range(1, (end - start).days + 1))


def local_date(at: datetime, calendar: str) -> date:
    """The day that it is at an instant where `calendar` counts."""
    return at.astimezone(zone(calendar)).date()


def due_at(hammer_at: datetime, days: int, calendar: str) -> datetime:
    """The instant by which a balance must have arrived: PAY_BY on the `days`-th business day after the hammer.

    The day of the hammer is a local date of the calendar's zone and does not count.
    """
    here = zone(calendar)
    on = add_business_days(local_date(hammer_at, calendar), days, calendar)
    return datetime.combine(on, PAY_BY, here).astimezone(UTC)
