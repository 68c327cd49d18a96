"""What every page needs: templates, two languages, and the one way to write money, time, shares and counts.

English is the msgid.  Chinese stands in `web/locales/zh/SUBJECT.po`, one hand-written file per subject,
merged when the process starts.  The language of the request is in a context variable, so `_()` works in
handlers, tasks (`with speaking("zh")`) and templates alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import get_timezone_location
from babel.messages.pofile import read_po
from babel.numbers import get_currency_name
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from market.money import amount_text, decimals

WEB = Path(__file__).parent
LANGUAGES = {"zh": "简体中文", "en": "English"}
ZONE = ZoneInfo("Asia/Shanghai")  # of lots that name no other
ZONE_NAMES = {"Asia/Shanghai": ("Beijing time", "北京时间"), "UTC": ("UTC", "协调世界时")}  # others: by their city
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEKDAYS_ZH = "一二三四五六日"
ABSENT = "—"
MINUS = "\u2212"

_language: ContextVar[str] = ContextVar("language", default="en")


# --- languages -----------------------------------------------------------------------------------


def language() -> str:
    """The language that is spoken now: `zh` or `en`."""
    return _language.get()


def speak(code: str) -> None:
    """Speak `code` from here to the end of the request or task."""
    _language.set(code if code in LANGUAGES else "en")


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Speak `code` inside the block."""
    token = _language.set(code if code in LANGUAGES else "en")
    try:
        yield
    finally:
        _language.reset(token)


@cache
def catalogue() -> dict[str, str]:
    """Chinese by English sentence (the singular, where there is a plural), from every file in `locales/zh`."""
    sentences: dict[str, str] = {}
    for path in sorted((WEB / "locales" / "zh").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale="zh_Hans_CN"):
                if message.id and message.string:
                    msgid = message.id if isinstance(message.id, str) else message.id[0]
                    string = message.string if isinstance(message.string, str) else message.string[0]
                    sentences[msgid] = string
    return sentences


def _gettext(msgid: str) -> str:
    return catalogue().get(msgid, msgid) if language() == "zh" else msgid


def _ngettext(singular: str, plural: str, n: int) -> str:
    text = catalogue().get(singular, singular) if language() == "zh" else singular if n == 1 else plural
    return text.replace("%(num)s", count(n))  # here, for templates would write it without separators


def N_(msgid: str) -> str:  # noqa: N802  (gettext's own name)
    """Mark a sentence for the catalogue; `_()` translates it later."""
    return msgid


def _(msgid: str, **facts: object) -> str:
    """The sentence in the language of the request; `%(name)s` takes a fact, `%%` is a per cent sign."""
    return _gettext(msgid) % facts


def ngettext(singular: str, plural: str, num: int, **facts: object) -> str:
    """As `_`, by number; `%(num)s` is the number, grouped."""
    return _ngettext(singular, plural, num) % {"num": count(num), **facts}


# --- time ----------------------------------------------------------------------------------------


def utc_now() -> datetime:
    """The clock, for handlers; a turn reads the database's."""
    return datetime.now(UTC)


def instant_text(at: datetime, form: str = "full", zone: str = "Asia/Shanghai") -> str:
    """An instant in words, in the lot's zone.

    `form`: `full` (with seconds and the zone's name), `ms` (with milliseconds), `table`
    (`2026-11-22 16:30`), `minute` (full without seconds), `time` (`16:30:05.123`).
    """
    local = at.astimezone(ZoneInfo(zone))
    if form == "table":
        return f"{local:%Y-%m-%d %H:%M}"
    milliseconds = f".{local.microsecond // 1000:03d}"
    if form == "time":
        return f"{local:%H:%M:%S}{milliseconds}"
    clock = f"{local:%H:%M}" if form == "minute" else f"{local:%H:%M:%S}" + (milliseconds if form == "ms" else "")
    if language() == "zh":
        return f"{local.year}年{local.month}月{local.day}日 {clock}（{_zone_name(zone, 'zh_Hans')}）"
    return f"{local.day} {MONTHS[local.month - 1]} {local.year}, {clock} ({_zone_name(zone, 'en')})"


@cache
def _zone_name(zone: str, locale: str) -> str:
    if zone in ZONE_NAMES:
        return ZONE_NAMES[zone][locale != "en"]
    city = get_timezone_location(zone, locale=locale, return_city=True)
    return f"{city} time" if locale == "en" else f"{city}时间"


def instant(at: datetime | None, form: str = "full", zone: str = "Asia/Shanghai") -> Markup:
    """Filter: `<time>` with the exact instant; see `instant_text` for `form`."""
    if at is None:
        return Markup("—")
    exact = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(exact, instant_text(at, form, zone))


def day(on: date | None, form: str = "full") -> str:
    """Filter: a date without a time; `form`: `full` (with the weekday) or `table` (ISO)."""
    if on is None:
        return ABSENT
    if form == "table":
        return on.isoformat()
    if language() == "zh":
        return f"{on.year}年{on.month}月{on.day}日（周{WEEKDAYS_ZH[on.weekday()]}）"
    return f"{WEEKDAYS[on.weekday()]} {on.day} {MONTHS[on.month - 1]} {on.year}"


def countdown(closes_at: datetime | None, at: datetime) -> str:
    """Filter: what is left until `closes_at`, in whole seconds rounded up: `2 d 03:14:05`, `03:14:05`, `14:05`."""
    if closes_at is None:
        return ABSENT
    left = max(0, -int(-(closes_at - at).total_seconds() // 1))
    days, rest = divmod(left, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return (
            f"{days} 天 {hours:02}:{minutes:02}:{seconds:02}"
            if language() == "zh"
            else (f"{days} d {hours:02}:{minutes:02}:{seconds:02}")
        )
    return f"{hours:02}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


# --- figures -------------------------------------------------------------------------------------


def money(amount_minor: int | None, currency: str, form: str = "full", *, whole: bool = False) -> str:
    """Filter: the one way to write money.

    Args:
        amount_minor: minor units; None: absent.
        form: `full` (¥1,310,000.00 / CNY 1,310,000.00), `aid` (full, and the figure to read:
            （131 万元） / (1.31 million)), `table` (the figure alone; the head names the currency),
            `short` (the aid alone: plot axes, tiles with the full figure beneath).
        whole: no decimals, where the whole lot goes without and the amount has none.
    """
    if amount_minor is None:
        return ABSENT
    text = amount_text(abs(amount_minor), currency)
    head, point, places = text.partition(".")
    figure = f"{int(head):,}" + ("" if whole and not places.strip("0") else point + places)
    if amount_minor < 0:
        figure = MINUS + figure
    if form == "table":
        return figure
    full = f"¥{figure}" if currency == "CNY" and language() == "zh" else f"{currency} {figure}"
    if form == "full":
        return full
    aid = _aid(amount_minor, currency)
    if form == "short":
        return aid or full
    if not aid:
        return full
    return f"{full}（{aid}）" if language() == "zh" else f"{full} ({aid})"


def _aid(amount_minor: int, currency: str) -> str:
    """The figure to read: 1,234.57 万元, 1.23 billion; empty where it would not help."""
    amount = Decimal(abs(amount_minor)).scaleb(-decimals(currency))
    if amount < (10_000 if language() == "zh" else 10**6):
        return ""
    if language() == "zh":
        unit = "元" if currency == "CNY" else str(get_currency_name(currency, locale="zh_Hans_CN"))
        for size, name in ((Decimal(100_000_000), "亿"), (Decimal(10_000), "万")):
            if (value := _two(amount / size)) >= 1:
                exact = value * size == amount
                return ("" if exact else "约 ") + _sign(amount_minor) + _grouped(value) + f" {name}{unit}"
        return ""
    for size, name in ((Decimal(10**9), "billion"), (Decimal(10**6), "million")):
        value = amount / size
        if _two(value) < 1:
            continue
        if value == value.quantize(Decimal("0.001")):
            return _sign(amount_minor) + _grouped(value) + f" {name}"
        return "about " + _sign(amount_minor) + _grouped(_two(value)) + f" {name}"
    return ""


def _two(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)


def _sign(amount_minor: int) -> str:
    return MINUS if amount_minor < 0 else ""


def _grouped(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(rate_bp: int | None) -> str:
    """Filter: basis points as per cent, two decimals: `18.50%`."""
    if rate_bp is None:
        return ABSENT
    return f"{MINUS if rate_bp < 0 else ''}{abs(rate_bp) // 100:,}.{abs(rate_bp) % 100:02}%"


def count(number: int | None) -> str:
    """Filter: a whole number, grouped."""
    return ABSENT if number is None else f"{MINUS if number < 0 else ''}{abs(number):,}"


_CAPITALS = "零壹贰叁肆伍陆柒捌玖"


def capitals(amount_minor: int) -> str:
    """Renminbi in capitals, as contracts and invoices carry it: 人民币壹佰叁拾壹万元整."""
    yuan, cents = divmod(abs(amount_minor), 100)
    text = ""
    for power, unit in ((3, "万亿"), (2, "亿"), (1, "万"), (0, "")):
        group = yuan // 10 ** (4 * power) % 10_000
        if group:
            if text and (group < 1000 or text.endswith("零")):
                text = text.rstrip("零") + "零"
            text += _group_capitals(group) + unit
        elif text and not text.endswith("零") and yuan % 10 ** (4 * power):
            text += "零"
    text = (text or "零") + "元"
    if not cents:
        return ("人民币负" if amount_minor < 0 else "人民币") + text + "整"
    tenths, hundredths = divmod(cents, 10)
    text += f"{_CAPITALS[tenths]}角" if tenths else ("零" if hundredths else "")
    text += f"{_CAPITALS[hundredths]}分" if hundredths else "整"
    return ("人民币负" if amount_minor < 0 else "人民币") + text


def _group_capitals(group: int) -> str:
    text = ""
    for power, unit in ((3, "仟"), (2, "佰"), (1, "拾"), (0, "")):
        digit = group // 10**power % 10
        if digit:
            text += _CAPITALS[digit] + unit
        elif text and not text.endswith("零") and group % 10**power:
            text += "零"
    return text


# --- pages ---------------------------------------------------------------------------------------


@cache
def static(name: str) -> str:
    """The address of a file under /static/, with the beginning of its hash, so that it may be kept for ever."""
    path = WEB / "static" / name
    mark = hashlib.sha256(path.read_bytes()).hexdigest()[:10] if path.is_file() else "absent"
    return f"/static/{name}?v={mark}"


@pass_context
def _csrf_field(context: Context) -> Markup:
    """The hidden field that every posted form begins with (web/security.py looks for it first)."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(context["visitor"].csrf)


@pass_context
def _here(context: Context, **changes: object) -> str:
    """The address of this page with some of its query changed: a switch, a sort, a page."""
    request: Request = context["request"]
    return str(request.url.remove_query_params(list(changes)).include_query_params(**changes)).removeprefix(
        f"{request.url.scheme}://{request.url.netloc}"
    )


def _both(context: Context, thing: Any, field: str) -> str:
    """The text of `thing` in the reader's language, else in the other: `{{ lot | both("title") }}`."""
    of = thing.get if isinstance(thing, Mapping) else lambda name: getattr(thing, name)
    first, second = ("zh", "en") if language() == "zh" else ("en", "zh")
    return str(of(f"{field}_{first}") or of(f"{field}_{second}") or "")


@cache
def environment() -> Environment:
    """The templates, with the filters and functions that they may use."""
    env = Environment(
        loader=FileSystemLoader(WEB / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    env.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
    env.policies["ext.i18n.trimmed"] = True
    env.filters.update(
        money=money, instant=instant, instant_text=instant_text, day=day, countdown=countdown, share=share,
        count=count, capitals=capitals, both=pass_context(_both),
    )  # fmt: skip
    from web import errors, words

    env.globals.update(
        static=static, csrf_field=_csrf_field, here=_here, language=language, utc_now=utc_now, languages=LANGUAGES,
        say=words.say, state=words.state, role_name=words.role_name, links=words.links, is_under=words.is_under,
        action_name=words.action_name, fault_text=errors.fault_text,
    )  # fmt: skip
    return env


def part(template: str, context: Mapping[str, Any]) -> str:
    """A part of a page as text, for the socket: it reads no request, only its context."""
    return environment().get_template(template).render(context)


class _Values(dict[str, Any]):
    """What was typed into a form; a field that was not there is empty."""

    def __missing__(self, field: str) -> str:
        return ""


def page(
    request: Request, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """Answer with a page; in every template: `request`, `visitor`, `path`, `faults`, `values` (empty by default)."""
    everything = {
        "request": request,
        "values": {},
        "visitor": request.user,
        "path": request.url.path,
        "faults": [],
        **(context or {}),
    }
    # A file that came where text belongs is not shown again.
    typed = {name: value for name, value in everything["values"].items() if not isinstance(value, UploadFile)}
    everything["values"] = _Values(typed)
    headers = {"Cache-Control": "no-store"} if request.user.id is not None else {"Cache-Control": "no-cache"}
    headers["Vary"] = "Cookie, Accept-Language, HX-Request"
    return HTMLResponse(environment().get_template(template).render(everything), status, headers)


def page_or_part(
    request: Request, full: str, part: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """Answer htmx with the part alone, everybody else with the whole page that includes it."""
    wants_part = request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"
    return page(request, part if wants_part else full, context, status=status)


def redirect(request: Request, address: str) -> Response:
    """Answer a form that was done: 303 to `address`, a path of ours; htmx follows it with a whole page."""
    assert address.startswith("/"), "only to a page of ours"
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers={"HX-Redirect": address})
    return Response(status_code=303, headers={"Location": address})


__all__ = [
    "LANGUAGES", "N_", "_", "capitals", "count", "countdown", "day", "environment", "escape", "instant",
    "instant_text", "language", "money", "ngettext", "page", "page_or_part", "part", "redirect", "share", "speak",
    "speaking", "static", "utc_now",
]  # fmt: skip
