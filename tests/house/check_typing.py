"""Compares what mypy and pyright say of `typing_errors.py` with the lines that are marked there.

Run from the root of the project; exits with 1 and says which lines differ.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("typing_errors.py")
MARK = re.compile(r"# error$")


def marked() -> set[int]:
    """The lines that are marked."""
    lines = PROGRAM.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if MARK.search(line)}


def output_of(*command: str) -> str:
    """What a checker prints; it exits with 1 if it has found something."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command[0]} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def found_by_mypy() -> dict[int, str]:
    """The lines that mypy complains of, with the first message of each."""
    found: dict[int, str] = {}
    outside = ("--strict", "--config-file=", "--follow-imports=silent", "--python-version=3.11")
    for line in output_of("mypy", *outside, "--output=json", str(PROGRAM)).splitlines():
        message = json.loads(line)
        if message["severity"] == "error":
            found.setdefault(message["line"], message["message"])
    return found


def found_by_pyright() -> dict[int, str]:
    """The lines that pyright complains of, with the first message of each."""
    found: dict[int, str] = {}
    for message in json.loads(output_of("pyright", "--outputjson", str(PROGRAM)))[
        "generalDiagnostics"
    ]:
        if message["severity"] == "error":
            found.setdefault(message["range"]["start"]["line"] + 1, message["message"])
    return found


def main() -> int:
    """Print what differs; the exit status."""
    expected = marked()
    status = 0
    for checker, found in (("mypy", found_by_mypy()), ("pyright", found_by_pyright())):
        for line in sorted(expected - set(found)):
            print(f"{PROGRAM.name}:{line}: {checker} finds no error here")
            status = 1
        for line in sorted(set(found) - expected):
            print(f"{PROGRAM.name}:{line}: {checker} objects: {found[line]}")
            status = 1
    if not status:
        print(f"mypy and pyright object to the {len(expected)} lines that are marked.")
    return status


if __name__ == "__main__":
    sys.exit(main())
