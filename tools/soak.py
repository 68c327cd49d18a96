"""Run the tests that draw their input again and again, each round from another seed: `make soak`, `make soak ARGS=600`.
With them 10,000 random damages of public journals a round, which both verifiers must find.

Ends at the first failure, with the command that repeats it, or after so many seconds (without a number: never).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from secrets import randbelow

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/auctions", "tests/market")
DAMAGES = "tests/auctions/test_second_writing.py"


def drawn() -> list[str]:
    """Return the test files below TESTS that draw with Hypothesis; of the others one round says all."""
    files = [file for folder in TESTS for file in sorted((ROOT / folder).glob("test_*.py"))]
    return [str(file.relative_to(ROOT)) for file in files if "hypothesis" in file.read_text()]


def main(seconds: float) -> int:
    files, began, rounds = [*drawn(), DAMAGES], time.monotonic(), 0
    print(f"soak: {' '.join(files)}", flush=True)
    while time.monotonic() - began < seconds:
        seed = str(randbelow(2**32))
        command = [sys.executable, "-m", "pytest", "-q", "-x", f"--hypothesis-seed={seed}", *files]
        more = {"CLEARLOT_SEED": seed, "CLEARLOT_DAMAGES": "10000"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **more})
        rounds += 1
        if done.returncode:
            again = " ".join([*(f"{name}={value}" for name, value in more.items()), *command])
            print(f"{done.stdout}{done.stderr}\nround {rounds} failed; again: {again}")
            return 1
        minutes = (time.monotonic() - began) / 60
        print(f"round {rounds}, {minutes:.1f} min: {done.stdout.rstrip().splitlines()[-1]}", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2 or not all(argument.isdecimal() for argument in sys.argv[1:]):
        sys.exit("usage: python tools/soak.py [SECONDS]")
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else float("inf")))
