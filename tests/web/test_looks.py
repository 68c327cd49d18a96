"""The stylesheet keeps the contrasts of looks.md 2, by the WCAG 2 formula, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CSS = (ROOT / "web" / "static" / "clearlot.css").read_text()
MEANINGS = ("lead", "outbid", "closing", "paid", "overdue", "disputed", "info", "waiting")


def tokens(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z0-9-]+):\s*(#[0-9A-Fa-f]{6})", block))


def blocks() -> dict[str, dict[str, str]]:
    light = re.search(r":root \{(.*?)\n\}", CSS, re.DOTALL)
    system = re.search(r':root:not\(\[data-theme="light"\]\) \{(.*?)\n  \}', CSS, re.DOTALL)
    chosen = re.search(r':root\[data-theme="dark"\] \{(.*?)\n\}', CSS, re.DOTALL)
    assert light
    assert system
    assert chosen
    return {"light": tokens(light[1]), "system": tokens(system[1]), "dark": tokens(chosen[1])}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_both_dark_themes_are_the_same() -> None:
    assert blocks()["system"] == blocks()["dark"]
    assert set(blocks()["dark"]) == set(blocks()["light"])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    t = blocks()[theme]
    wanted = [(ink, ground, 4.5) for ink in ("text", "muted") for ground in ("surface", "page", "sunken")]
    wanted += [("action", "surface", 4.5), ("action", "page", 4.5), ("action-label", "action", 4.5)]
    wanted += [("action-label", "action-hover", 4.5), ("edge", "surface", 3), ("edge", "sunken", 3)]
    wanted += [("focus", "surface", 3), ("focus", "page", 3)]
    for meaning in MEANINGS:
        wanted += [(meaning, "surface", 4.5), (meaning, f"{meaning}-tint", 4.5), ("text", f"{meaning}-tint", 4.5)]
    wanted += [(f"plot-{n}", "surface", 4.5) for n in range(1, 5)]
    low = {(ink, ground): round(contrast(t[ink], t[ground]), 2) for ink, ground, least in wanted
           if contrast(t[ink], t[ground]) < least}  # fmt: skip
    assert low == {}


def test_no_colour_is_written_outside_the_tokens() -> None:
    rules = CSS.split("/* --- ground")[1].split("@media print")[0]
    assert re.findall(r"#[0-9A-Fa-f]{3,8}\b(?!\s*\{)", rules) == []
