"""Verifier: a good journal is good, and every damage is found, with the line."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from auctions.messages import Admit, Close, PlaceBid, Tick
from auctions.proof import canonical, public_line
from auctions.verify import main, verify
from tests.auctions.game import OPENS, VARIANTS, Game, play

ROOT = Path(__file__).resolve().parent.parent.parent


def ended(name: str = "cn") -> Game:
    game = Game(VARIANTS[name])
    for party in (1, 2, 3):
        game.do(Admit(game.id(), party, 10**9), 5)
    game.do(Tick(), OPENS)
    step = game.terms.step_minor or 1
    for turn in range(6):
        game.do(PlaceBid(game.id(), 1 + turn % 3, 1_000 + turn * step), game.model.closes - 1_000)
    game.do(Close(), game.model.closes + 1_000)
    return game


def rewritten(lines: list[str], changes: dict[int, tuple[str, str]]) -> list[str]:
    """Change public texts and mend every hash after: what somebody does who has the whole database."""
    previous, mended = bytes(32), []
    for number, line in enumerate(lines, 1):
        data = json.loads(line)
        there, planted = changes.get(number, ("", ""))
        assert there in data["public"], data["public"]
        data["public"] = data["public"].replace(there, planted) if there else data["public"]
        previous = sha256(previous + data["public"].encode() + bytes.fromhex(data["commitment"])).digest()
        data["hash"] = previous.hex()
        mended.append(canonical(data))
    return mended


def test_a_good_journal() -> None:
    game = ended()
    lines = [public_line(entry) for entry in game.entries]
    last = game.entries[-1]
    verdict = verify(lines, (last.sequence, last.hash.hex()))
    assert verdict.good
    assert (verdict.auction_id, verdict.sequence, verdict.hash) == (7, last.sequence, last.hash)
    assert verdict.closed is not None
    assert (verdict.closed.result, verdict.closed.bidder, verdict.closed.price_minor) == ("sold", 3, 1_250)


def test_an_opened_private_part_is_checked() -> None:
    game = ended()
    lines = [public_line(entry, open_private=True) for entry in game.entries]
    assert verify(lines).good
    lines[5] = lines[5].replace("00112233", "00112234")
    assert [(problem.line, problem.code) for problem in verify(lines).problems] == [(6, "commitment")]


RULES_BROKEN = [
    ("cn", 7, '"amount_minor":1050', '"amount_minor":1049', "not_a_step"),
    ("cn", 7, '"amount_minor":1050', '"amount_minor":1000', "below_minimum"),
    ("cn", 7, '"bidder":2', '"bidder":4', "bidder"),
    ("cn", 7, '"extensions":2', '"extensions":3', "extension"),
    ("cn", 7, '"closes_at_ms":2', '"closes_at_ms":9', "extension"),
    ("cn", 7, '"at_ms":2', '"at_ms":9', "not_in_time"),
    ("cn", 7, '"at_ms":2', '"at_ms":1', "time"),
    ("cn", 7, '"sequence":7', '"sequence":8', "sequence"),
    ("cn", 7, '"auction":7', '"auction":8', "auction"),
    ("cn", 12, '"bidder":3', '"bidder":2', "outcome"),
    ("cn", 12, '"price_minor":1250', '"price_minor":1200', "outcome"),
    ("cn", 12, '"runner_up":2', '"runner_up":1', "outcome"),
    ("cn", 12, '"at_ms":', '"at_ms":0', "unreadable"),
    ("cn", 2, '"type":"admitted"', '"type":"promised"', "unreadable"),
    ("cn", 2, '"bidder":1', '"bidder":2', "bidder"),
    ("cn", 1, '"type":"created"', '"type":"opened"', "unreadable"),
    ("ebay", 7, '"amount_minor":1001', '"amount_minor":999', "auto_bid"),
    ("ebay", 6, '"amount_minor":99}', '"amount_minor":98}', "below_minimum"),
    ("ebay", 6, '"amount_minor":99}', '"amount_minor":150}', "above_needed"),
]  # (variant, line, what stands there, what is planted, code)


@pytest.mark.parametrize(("name", "line", "there", "planted", "code"), RULES_BROKEN)
def test_a_journal_written_anew_is_judged_by_the_rules(
    name: str, line: int, there: str, planted: str, code: str
) -> None:
    lines = rewritten([public_line(entry) for entry in ended(name).entries], {line: (there, planted)})
    codes = {problem.code for problem in verify(lines).problems if problem.line >= line}
    assert code in codes, verify(lines).problems


def test_a_journal_cut_at_its_end_needs_a_receipt_to_be_noticed() -> None:
    game = ended()
    lines = [public_line(entry) for entry in game.entries][:-2]
    assert verify(lines).good
    assert verify(lines).closed is None
    last = game.entries[-1]
    assert [one.code for one in verify(lines, (last.sequence, last.hash.hex())).problems] == ["other_head"]


def test_random_games_written_anew_do_not_crash_it() -> None:
    rng = Random(3)
    for seed in range(30):
        game = Game(VARIANTS[rng.choice(list(VARIANTS))])
        play(Random(seed), game, 30)
        lines = [public_line(entry) for entry in game.entries]
        number = rng.randrange(2, len(lines) + 1)
        digit = rng.choice("0123456789")
        for there in ('"bidder":', '"amount_minor":', '"closes_at_ms":', '"at_ms":'):
            if there in json.loads(lines[number - 1])["public"]:
                verify(rewritten(lines, {number: (there, there + digit)}))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    game = ended()
    good = tmp_path / "journal.jsonl"
    good.write_text("".join(public_line(entry) + "\n" for entry in game.entries), "utf-8")
    last = game.entries[-1]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
         "import runpy; runpy.run_module('auctions.verify', run_name='__main__')",
         str(good), "--head", f"{last.sequence}:{last.hash.hex()}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "good: auction 7, 12 entries" in run.stdout
    assert main([str(good), "--head", f"3:{last.hash.hex()}"]) == 1
    assert "other_head" in capsys.readouterr().out
    assert main([]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    (tmp_path / "empty").write_bytes(b"")
    assert main([str(tmp_path / "empty")]) == 1
