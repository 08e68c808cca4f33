"""The benchmarks run and report; how fast anything was is not asked here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import QUICK, Bench
from benchmarks.questions import QUESTIONS, large_values
from benchmarks.report import Table, at_least, at_most
from benchmarks.runner import Runners

ROOT = Path(__file__).parents[2]
GUARD_SECONDS = 250


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


def test_large_values_are_measured_beside_their_floor_and_all_memory_is_free_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "numbers.json"
    questions = ("objects_put_once", "objects_put", "objects_recovery")
    only = [word for name in questions for word in ("--only", name)]
    done = run("--quick", *only, "--json", str(file))
    assert done.returncode == 0, done.stderr
    direct = done.stdout[done.stdout.index("10 MB passed directly to 10 tasks") :]
    assert re.search(r"^  aioray sync +\d.* s .*<= 1.3 x floor, is ", direct, re.MULTILINE)
    raw = json.loads(file.read_text())
    assert {row["question"] for row in raw["rows"]} == set(questions)
    for name in ("aioray", "aioray sync"):
        rows = {row["measure"]: row for row in raw["rows"] if row["contestant"] == name}
        assert len(rows) == 7
        assert rows["in use after put and delete of 1 x the limit"]["samples"] == [0.0]
        assert len(rows["a lost result of 1 MB"]["samples"]) == raw["scale"]["rounds"]
    assert sum(row["contestant"] == "memcpy" for row in raw["rows"]) == 2
    assert raw["failures"] == []


class FakeRunners(Runners):
    """Contestants of whom each answers with the number of times it was asked."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(None, notes.append)

    def python(self, name: str) -> str:
        """An interpreter, or for one of them something that says that it has no numpy."""
        return "false" if name == "loky" else sys.executable

    def get(self, name: str, workers: int = 2):
        return FakeRunner(name)


class FakeRunner:
    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []

    def ask(self, operation: str, **arguments: float) -> int:
        self.asked.append(operation)
        return self.asked.count("turn")


def test_first_round_with_large_values_does_not_count_and_who_has_no_numpy_is_left_out() -> None:
    notes: list[str] = []
    bench = Bench(QUICK, FakeRunners(notes), Table())
    players: dict[str, FakeRunner] = {}

    def turn(runner: FakeRunner) -> int:
        players[runner.name] = runner
        return runner.ask("turn")

    taken = large_values.rounds(bench, ("aioray", "loky", "ray"), turn)
    assert taken == {"aioray": [2, 3], "ray": [2]}
    assert notes == ["loky left out: no numpy"]
    assert players["ray"].asked == ["idle", "turn"] * 2  # what it has deleted is free by then
    assert players["aioray"].asked == ["turn"] * 3


def test_aim_against_another_contestant_is_left_out_with_it() -> None:
    samples = {"aioray": [2.0, 3.0], "floor": [1.0, 2.0]}
    (aim,) = large_values.at_most_times(samples, "aioray", "floor", 1.8)
    assert str(aim) == "<= 1.8 x floor, is 1.75 x: reached"
    assert large_values.at_most_times(samples, "aioray", "ray", 1.0) == []


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
