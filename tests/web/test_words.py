"""Every sentence in both languages, every code with a sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from auctions.messages import REFUSALS
from market.parties import MOVES
from web.render import LANGUAGES, speaking
from web.words import ACTIONS, SENTENCES, say

ROOT = Path(__file__).resolve().parent.parent.parent
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}
TEMPLATES = ROOT / "web" / "templates"
SOURCES = sorted([*(ROOT / "web").glob("*.py"), *TEMPLATES.rglob("*.html"), *TEMPLATES.rglob("*.txt")])
PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|(.))")
CALLS = {"Fault", "Conflict", "NotAllowed", "MarketError", "Unavailable", "TooManyTries", "StoreUnavailable", "refuse"}


def messages(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    method = "python" if path.suffix == ".py" else "jinja2.ext:babel_extract"
    options = {"trimmed": "true", "encoding": "utf-8", "silent": "false"}
    with path.open("rb") as file:
        for line, message, _comments, _context in extract(method, file, keywords=KEYWORDS, options=options):
            assert message
            yield line, (message,) if isinstance(message, str) else tuple(part for part in message if part)


def chinese() -> dict[str, str]:
    """Every Chinese sentence by its msgid; the same msgid in two files has the same Chinese."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "web" / "locales" / "zh").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale="zh_Hans_CN", abort_invalid=True):
                if not message.id:
                    continue
                msgid = message.id if isinstance(message.id, str) else message.id[0]
                string = message.string if isinstance(message.string, str) else (message.string or [""])[0]
                assert string, f"{path.name}: {msgid!r} has no Chinese"
                assert found.setdefault(msgid, string) == string, f"{path.name}: {msgid!r} has other Chinese elsewhere"
    return found


def placeholders(text: str) -> set[str]:
    for name, other in PLACEHOLDER.findall(text):
        assert name or other == "%", f"a lone per cent sign in {text!r}"
    return {name for name, _other in PLACEHOLDER.findall(text) if name}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "web")))
def test_every_sentence_has_its_chinese(path: Path) -> None:
    known = chinese()
    missing = [f"{line}: {parts[0]!r}" for line, parts in messages(path) if parts[0] not in known]
    assert missing == []
    for _line, parts in messages(path):
        wanted = set.union(*(placeholders(part) for part in parts))
        assert placeholders(known[parts[0]]) <= wanted, parts[0]
        assert placeholders(known[parts[0]]) >= wanted - {"num"}, parts[0]


def codes(path: Path) -> Iterator[tuple[int, str]]:
    """The codes that a file gives to faults and errors, where they stand as plain text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = {"fault": 0, "refuse": 2}.get(name, 0)
        if (name in CALLS or (name == "fault" and isinstance(node.func, ast.Attribute))) and len(node.args) > first:
            code = node.args[first]
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield node.lineno, code.value


def test_every_code_has_a_sentence() -> None:
    lacking = {
        f"{path.relative_to(ROOT)}:{line}": code
        for ring in ("market", "storage", "web")
        for path in sorted((ROOT / ring).glob("*.py"))
        if not path.name.startswith("live")  # the socket's errors go to programs (docs/live-protocol.md)
        for line, code in codes(path)
        if re.fullmatch(r"[a-z_]+", code) and code not in SENTENCES
    }
    assert lacking == {}
    assert sorted(set(REFUSALS) - set(SENTENCES)) == []
    protocol = (ROOT / "docs" / "live-protocol.md").read_text()
    errors = re.findall(r"(?m)^\| `(\w+)` \|", protocol.split("## Errors")[1].split("## Refusals")[0])
    assert len(errors) > 10
    assert sorted(set(errors) - set(SENTENCES)) == [], "`clearlot bid` and `watch` say them"


def actions(path: Path) -> Iterator[str]:
    """What a file writes into the audit trail; of a name with a part that is worked out, all that fit."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or len(node.args) < 5:
            continue
        if getattr(node.func, "attr", getattr(node.func, "id", "")) != "note":
            continue
        action = node.args[2]
        if isinstance(action, ast.Constant) and isinstance(action.value, str):
            yield action.value
        elif isinstance(action, ast.JoinedStr) and isinstance(action.values[0], ast.Constant):
            yield str(action.values[0].value) + "*"


def test_every_action_on_record_has_its_words() -> None:
    written = {one for ring in ("storage", "web") for path in (ROOT / ring).glob("*.py") for one in actions(path)}
    assert len(written) > 20
    assert {one for one in written if not one.endswith("*")} <= set(ACTIONS)
    assert {one for one in written if one.endswith("*")} == {"party.*"}
    assert {f"party.{status}" for moves in MOVES.values() for status in moves} <= set(ACTIONS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sentence_never_fails_for_want_of_a_fact(language: str) -> None:
    with speaking(language):
        for code in SENTENCES:
            assert say(code)
        assert "nonsense" in say("nonsense")


def test_facts_are_written_for_people() -> None:
    facts = {"amount_minor": 130_500_000, "minimum_minor": 131_000_000, "currency": "CNY"}
    assert say("below_minimum", facts) == "CNY 1,305,000 is below the minimum, now CNY 1,310,000. The bid was refused."
