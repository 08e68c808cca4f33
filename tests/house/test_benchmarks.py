"""The benchmarks run and report; how fast anything was is not asked here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import guide, pictures, runner
from benchmarks.bench import QUICK, Bench
from benchmarks.questions import QUESTIONS, large_values
from benchmarks.questions.efficiency import LENGTHS
from benchmarks.report import Table, at_least, at_most, times_the_best
from benchmarks.runner import ContestantError, Runners
from benchmarks.soak import WHO, Sample, Soak, judge, slope

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


def test_quick_run_reports_aioray_beside_a_peer_as_text_markdown_and_json(tmp_path: Path) -> None:
    file, markdown = tmp_path / "numbers.json", tmp_path / "tables.md"
    done = run(
        *("--quick", "--only", "chain", "--only", "efficiency", "--set", "burn_seconds=0.01"),
        *("--json", str(file), "--markdown", str(markdown)),
    )
    assert done.returncode == 0, done.stderr
    chain = done.stdout[done.stdout.index("chain: 100 dependent tasks") :]
    assert re.search(r"^  aioray +\d.* s +.*(reached|NOT reached)$", chain, re.MULTILINE)
    assert re.search(r"^  ProcessPoolExecutor \(by hand\) +\d.* s +\d", chain, re.MULTILINE)
    assert "| ProcessPoolExecutor (by hand) |" in markdown.read_text()
    raw = json.loads(file.read_text())
    rows = {
        (row["question"], row["contestant"]): row
        for row in raw["rows"]
        if row["question"] == "chain" or " of 100 ms CPU" in row["measure"]
    }
    for name in ("aioray", "aioray sync", "ProcessPoolExecutor"):
        row = rows["efficiency", name]
        assert len(row["samples"]) == raw["scale"]["rounds"]
        assert row["unit"] == "%"
        assert row["more_is_better"]
        assert (row["ratio"] is None) == (name == "aioray")
    curves = {curve["contestant"]: curve for curve in raw["curves"]}
    assert [x for x, _ in curves["aioray"]["points"]] == list(LENGTHS)
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


def test_profile_accounts_for_nine_tenths_of_the_time_of_driver_and_worker() -> None:
    done = run("profile", "--seconds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for process in ("driver", "worker"):
        table = done.stdout[done.stdout.index(f"| {process}, µs of processor time a task |") :]
        assert re.search(r"^\| (core|loop).* \| \d+\.\d\d \| \d+\.\d\d \|$", table, re.MULTILINE)
        shares = re.search(r"^\| accounted for \| (\d+) % \| (\d+) % \|$", table, re.MULTILINE)
        assert all(90 <= int(share) <= 101 for share in shares.groups())


def test_soak_loses_nothing_in_its_crashes_and_tells_slopes() -> None:
    done = run("soak", "--tasks", "20000", "--crash-every", "4000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("20,000 no-ops, 5 crashes, ")
    for who in WHO:
        assert re.search(rf"^{who} +\d+ +\d+ +-?\d+\.\d ", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("verdict: flat\n")


def test_actors_are_made_and_dropped_and_their_cost_is_told_by_process() -> None:
    done = run("soak", "--actors", "20")
    assert done.returncode == 0, done.stderr
    assert re.match(r"20 actors made, called and dropped: \d+ a second", done.stdout)
    assert re.search(r"^processor time of one: workers +\d+\.\d\d ms$", done.stdout, re.MULTILINE)


def sampled(**growing: int) -> Soak:
    """A soak of which something grows with each sample."""
    samples = []
    for number in range(50):
        kb = 20_000.0 + growing.get("kb", 0) * number
        open_now, threads = (
            10 + growing.get(what, 0) * number for what in ("descriptors", "threads")
        )
        history = 10_000_000 + growing.get("history", 0) * number
        memory = dict.fromkeys(WHO, kb)
        counts = dict.fromkeys(WHO, open_now), dict.fromkeys(WHO, threads)
        samples.append(Sample(number * 100_000, memory, memory, *counts, history))
    return Soak(5_000_000, 1_000, "", samples, seconds=1.0)


@pytest.mark.parametrize("what", ["kb", "descriptors", "threads", "history"])
def test_soak_finds_what_grows(what: str) -> None:
    assert judge(sampled())[1] == []
    assert judge(sampled(**{what: 1_000_000 if what == "history" else 200}))[1] != []


def test_slope_is_that_of_the_straight_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 5), (1, 5)]) == 0
    assert slope([(1, 1)]) == 0


class FakeRunners(Runners):
    """Contestants of whom each answers with the number of times it was asked, or as it is told."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(None, notes.append)
        self.started: list[FakeRunner] = []

    def python(self, name: str) -> str:
        """An interpreter, or for one of them something that says that it has no numpy."""
        return "false" if name == "loky" else sys.executable

    def fresh(self, name: str, workers: int = 2):
        self.started.append(FakeRunner(name))
        return self.started[-1]


class FakeRunner:
    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.is_closed = False

    def ask(self, operation: str, **arguments: float) -> int:
        self.asked.append(operation)
        return self.asked.count("turn")

    def settle(self) -> None:
        """It has no daemons."""

    def close(self) -> None:
        self.is_closed = True


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


def test_contestants_are_fresh_for_each_measurement_and_closed_after_it() -> None:
    runners = FakeRunners([])
    for _ in range(2):
        runners.rounds(2, dict.fromkeys(("aioray", "pebble"), lambda runner: runner.ask("turn")))
    names = [runner.name for runner in runners.started]
    assert names == ["aioray", "pebble"] * 2
    assert all(runner.is_closed for runner in runners.started)
    assert all(runner.asked == ["turn"] * 2 for runner in runners.started)


def test_libraries_that_were_not_asked_for_are_not_even_started(monkeypatch) -> None:
    started: list[str] = []

    def start(name: str, workers: int, python: str):
        started.append(name)
        raise ContestantError("that is enough")

    monkeypatch.setattr(runner, "Runner", start)
    for peers, wanted in (((), ["aioray", "pebble", "ray"]), (("pebble",), ["aioray", "pebble"])):
        runners = Runners(None, lambda _: None, peers)
        assert [runners.fresh(name) for name in ("aioray", "pebble", "ray")] == [None] * 3
        assert started == wanted
        started.clear()


def test_contestant_that_fails_is_noted_closed_and_takes_part_no_more() -> None:
    notes: list[str] = []
    runners = FakeRunners(notes)

    def turn(runner: FakeRunner) -> int:
        if runner.name == "pebble" and runner.asked:
            raise ContestantError("batch: it broke")
        return runner.ask("turn")

    taken = runners.rounds(3, dict.fromkeys(("aioray", "pebble"), turn))
    assert taken == {"aioray": [1, 2, 3], "pebble": [1]}
    assert runners.failures == ["pebble"]
    assert notes == ["pebble failed: batch: it broke"]
    assert all(runner.is_closed for runner in runners.started)


def test_curve_goes_up_within_each_turn_and_stops_where_the_next_point_would_take_too_long() -> (
    None
):
    bench = Bench(QUICK.changed(["curve_seconds=1000", "peer_rounds=2"]), FakeRunners([]), Table())
    asked: list[tuple[str, int]] = []

    def measure(runner: FakeRunner, depth: int) -> float:
        asked.append((runner.name, depth))
        return depth / 2

    found = bench.along(("aioray", "pebble"), (1, 10), measure)
    way = {1: [0.5] * 2, 10: [5.0] * 2}
    assert found == {"aioray": way, "pebble": way}
    assert asked == [(name, n) for _ in range(2) for name in ("aioray", "pebble") for n in (1, 10)]
    hasty = Bench(QUICK.changed(["curve_seconds=0"]), FakeRunners([]), Table())
    assert hasty.along(("aioray",), (1, 10), measure) == {"aioray": {1: [0.5] * 2, 10: []}}


def test_sizes_can_be_set_by_name_and_others_are_refused_with_those_that_exist() -> None:
    changed = QUICK.changed(["rounds=7", "burn_seconds=0.5"])
    assert (changed.rounds, changed.burn_seconds, changed.tasks) == (7, 0.5, QUICK.tasks)
    done = run("--set", "weather=1")
    assert done.returncode == 2
    assert "burn_seconds" in done.stderr


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


def test_aim_to_be_better_than_the_best_peer_counts_as_many_times_better_in_both_directions() -> (
    None
):
    samples = {"aioray": [4.0], "slow": [8.0], "fast": [2.0]}
    for more, text in ((True, ">= 1 x slow, is 0.50 x"), (False, ">= 1 x fast, is 0.50 x")):
        (aim,) = times_the_best(samples, "aioray", ("slow", "fast"), 1, more_is_better=more)
        assert (aim.text, aim.reached) == (text, False)
    assert times_the_best(samples, "aioray", ("absent",), 1, more_is_better=True) == []


def a_table() -> Table:
    table = Table()
    rates = {"aioray": [40.0, 50.0], "aioray sync": [60.0], "pebble": [9.0], "loky": [20.0]}
    table.add("throughput", "no-ops", "tasks/s", rates | {"ray": [1.0], "floor": [900.0]})
    seconds = {"aioray": [0.1], "ProcessPoolExecutor (by hand)": [0.2], "pebble (by hand)": [0.1]}
    table.add("chain", "dependent tasks", "s", seconds, {"aioray": [at_most(0.1, 1)]})
    curves = {"aioray": {1: [5.0], 1000: [7.0, 9.0]}, "pebble": {1: [4.0], 1000: []}}
    table.add_curves("depth", "no-op tasks at once", "tasks queued", "tasks/s", curves)
    return table


def test_table_comes_back_whole_from_json_and_is_written_as_text_and_markdown() -> None:
    table = a_table()
    read = Table.read(json.loads(json.dumps(table.raw())))
    assert read.rows == table.rows
    assert read.curves == table.curves
    assert "depth: no-op tasks at once, tasks/s by tasks queued\n" in table.text()
    assert re.search(r"^  aioray +5\.00 +8\.00$", table.text(), re.MULTILINE)
    markdown = table.markdown()
    assert "## throughput\n\n### no-ops\n\n| | median | min - max |" in markdown
    assert "| aioray | 45.0 | 40.0 - 50.0 | tasks/s | | |" in markdown
    assert "| pebble | 4.00 | |" in markdown


KNOWN = {
    "machine": {"cpus": 2, "python": "3.11.7", "system": "Linux"},
    "versions": {"aioray": "1", "pebble": "5.2"},
    "scale": {"rounds": 5},
}
SECTION = "<!-- benchmarks: {} -->\n\nold\n\n<!-- /benchmarks -->\n"


def test_guide_has_a_line_for_each_measure_with_the_best_peer_and_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide, "TABLES", {"tasks": ("throughput", "chain")})
    chapter = tmp_path / "performance.md"
    names = ("tasks", "machine", "depth", "profile", "weather")
    chapter.write_text("# P\n\n" + "".join(map(SECTION.format, names)))
    parts = {"profile": ["a profile"]}
    assert guide.write(a_table(), KNOWN, parts, chapter) == ["tasks", "machine", "depth", "profile"]
    text = chapter.read_text()
    assert text.startswith("# P\n\n<!-- benchmarks: tasks -->\n| | aioray |")
    assert text.endswith(SECTION.format("weather"))
    assert text.count("old") == 1
    assert "| no-ops, tasks/s | 45.0; 60.0 | 900 | 20.0 (loky) | 1.00 |" in text
    assert "| dependent tasks, s | 0.10 | | 0.10 (pebble, by hand) | |" in text
    assert "Beside aioray: pebble 5.2." in text
    assert "\n![Throughput over queue depth](pictures/depth.svg)\n" in text
    assert (tmp_path / "pictures" / "depth.svg").exists()
    guide.write(a_table(), KNOWN, parts, chapter)
    assert chapter.read_text() == text


def test_section_of_the_guide_stays_where_a_run_has_asked_only_a_part_of_it(tmp_path: Path) -> None:
    chapter = tmp_path / "performance.md"
    chapter.write_text("".join(map(SECTION.format, ("tasks", "machine"))))
    before = chapter.read_text()
    table = a_table()
    table.curves.clear()
    assert guide.write(table, KNOWN, {}, chapter) == []
    assert chapter.read_text() == before


def test_every_question_has_a_place_in_the_guide_and_every_place_in_the_chapter() -> None:
    told = {name for questions in guide.TABLES.values() for name in questions}
    drawn = {name for picture in pictures.PICTURES.values() for name in picture.questions}
    assert told | drawn == set(QUESTIONS)
    text = guide.CHAPTER.read_text(encoding="utf-8")
    for name in ("machine", "profile", "counts", *guide.TABLES, *pictures.PICTURES):
        assert text.count(f"<!-- benchmarks: {name} -->\n") == 1, name


def test_pictures_are_the_same_bytes_for_the_same_figures_and_small(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert pictures.draw(a_table(), str(folder)) == ["depth"]
    text = (first / "depth.svg").read_text()
    assert text == (second / "depth.svg").read_text()
    assert "pebble" in text  # text is text
    assert len(text) < pictures.MOST_BYTES


def test_pictures_of_the_guide_are_shown_and_small() -> None:
    text = guide.CHAPTER.read_text(encoding="utf-8")
    folder = guide.CHAPTER.parent / guide.FOLDER
    shown = set(re.findall(rf"!\[[^\]]+\]\({guide.FOLDER}/([a-z_]+\.svg)\)", text))
    assert shown == {path.name for path in folder.glob("*")}
    for name in shown:
        assert (folder / name).stat().st_size < pictures.MOST_BYTES
