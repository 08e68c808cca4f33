"""The benchmarks run and report; how fast anything was is not asked here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.questions import QUESTIONS
from benchmarks.report import Table, at_least, at_most

ROOT = Path(__file__).parent.parent
GUARD_SECONDS = 50


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=GUARD_SECONDS,
    )


def test_quick_run_reports_aioray_beside_a_peer_as_text_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    done = run("--quick", "--only", "chain", "--only", "efficiency", "--json", str(file))
    assert done.returncode == 0, done.stderr
    chain = done.stdout[done.stdout.index("chain: 100 dependent tasks") :]
    assert re.search(r"^  aioray +\d.* s +.*(reached|NOT reached)$", chain, re.MULTILINE)
    assert re.search(r"^  ProcessPoolExecutor \(by hand\) +\d.* s +\d", chain, re.MULTILINE)
    raw = json.loads(file.read_text())
    rows = {(row["question"], row["contestant"]): row for row in raw["rows"]}
    for name in ("aioray", "aioray sync", "ProcessPoolExecutor"):
        row = rows["efficiency", name]
        assert len(row["samples"]) == raw["scale"]["rounds"]
        assert row["unit"] == "%"
        assert (row["ratio"] is None) == (name == "aioray")
    assert raw["failures"] == []


def test_unknown_question_is_refused_with_the_list_of_those_that_exist() -> None:
    done = run("--only", "weather")
    assert done.returncode == 2
    for name in QUESTIONS:
        assert name in done.stderr


@pytest.mark.parametrize("question", QUESTIONS)
def test_question_states_what_is_fixed_and_its_unit(question: str) -> None:
    docstring = sys.modules[f"benchmarks.questions.{question}"].__doc__
    assert docstring is not None
    assert docstring.splitlines()[0].endswith("?")
    assert "\nFixed: " in docstring
    assert "\nUnit: " in docstring


def test_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    table = Table()
    table.add("q", "m", "s", {"aioray": [1.0, 10.0, 100.0], "peer": [2.0, 30.0]})
    own, peer = table.rows
    assert (own.ratio, own.median) == (None, 10.0)
    assert peer.ratio == 2.5  # of 2 and 3; the last round was aioray's alone


def test_aim_is_reached_at_its_value_and_missed_without_a_figure() -> None:
    assert at_least(5, 5).reached
    assert at_most(5, 5).reached
    assert not at_least(4.9, 5).reached
    assert not at_most(float("nan"), 5).reached
    table = Table()
    table.add("q", "m", "s", {"aioray": [4.0]}, {"aioray": [at_most(4, 3)]})
    assert "<= 3.00: NOT reached" in table.text()
    assert table.text().endswith("aims reached: 0 of 1")
