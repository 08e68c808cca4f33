"""What a no-op task costs in counts: limits that hold on any machine, however busy it is.

`python -m benchmarks counts` prints the figures, which are a little below their limits: who needs
more than a limit says why, and who needs less for good lowers it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import counts, sampling
from benchmarks.counts import (
    CALLS,
    INSTRUCTIONS,
    READS_AND_WRITES,
    SLEEPS,
    SYSTEM_CALLS,
)

ROOT = Path(__file__).parents[2]
GUARD_SECONDS = 250

LIMITS = {
    ("queued", "driver"): {READS_AND_WRITES: 0.3, SYSTEM_CALLS: 0.3, SLEEPS: 0.3, CALLS: 60},
    ("queued", "worker"): {READS_AND_WRITES: 2.4, SYSTEM_CALLS: 3.7, SLEEPS: 0.3, CALLS: 23},
    ("round trip", "driver"): {READS_AND_WRITES: 2.5, SYSTEM_CALLS: 4.8, SLEEPS: 2.5, CALLS: 142},
    ("round trip", "worker"): {READS_AND_WRITES: 2.5, SYSTEM_CALLS: 4.8, SLEEPS: 2.5, CALLS: 32},
}
"""For each task."""

INSTRUCTIONS_OF_A_CALL = 3_000
"""More than a call of a function takes, what it calls in C included: where instructions can be
counted too, they are held against so many times the limit of calls."""

SCRIPT = """
import json
import signal
from benchmarks import counts

print(json.dumps([[c.load, c.process, c.what, c.each] for c in counts.measure()]))
"""


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str], dict[str, float]]:
    """Counted in a process of its own, where no other test has left anything."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, check=False, capture_output=True, cwd=ROOT, text=True, timeout=GUARD_SECONDS
    )
    assert done.returncode == 0, done.stderr
    found: dict[tuple[str, str], dict[str, float]] = {}
    for load, process, what, each in json.loads(done.stdout):
        found.setdefault((load, process), {})[what] = each
    return found


@pytest.mark.parametrize("place", LIMITS, ids=lambda place: f"{place[0]}, {place[1]}")
def test_no_op_task_costs_no_more_than_its_limits(place, measured) -> None:
    found = measured[place]
    for what, limit in LIMITS[place].items():
        assert found[what] <= limit, f"{what}: {found[what]:.2f} a task"
    if INSTRUCTIONS not in found:
        print("instructions cannot be counted here: calls of functions were, in their place")
    else:
        assert found[INSTRUCTIONS] <= LIMITS[place][CALLS] * INSTRUCTIONS_OF_A_CALL


def test_what_waits_is_counted_for_the_driver_alone(measured) -> None:
    (place,) = [place for place in measured if place not in LIMITS]
    assert place == ("waiting", "driver")
    assert set(measured[place]) == {counts.TRACKED, counts.BYTES}
    assert all(each > 0 for each in measured[place].values())


def test_calls_are_counted_by_whether_they_enter_the_system() -> None:
    counts.start_calls()
    try:
        Path(__file__).exists()  # some functions of Python, and at least one call of `os.stat`
        len(())
    finally:
        functions, of_the_system = counts.stop_calls()
    assert functions >= 1
    assert 1 <= of_the_system <= functions


def test_table_of_counts_has_a_column_for_each_load_and_process() -> None:
    found = [
        counts.Count("queued", "driver", SLEEPS, 0.5),
        counts.Count("queued", "driver", CALLS, 1234.0),
        counts.Count("queued", "worker", SLEEPS, 1.0),
    ]
    assert counts.lines(found) == [
        "| for each task | queued, driver | queued, worker |",
        "| --- | --- | --- |",
        "| sleeps | 0.50 | 1.00 |",
        "| calls of Python functions | 1,234.00 | |",
    ]


# ------------------------------------------------------------ the profile of processor time


class Clocks:
    """The processor time of the process and of its main thread, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = self.others = 0.0
        monkeypatch.setattr(time, "thread_time", lambda: self.here)
        monkeypatch.setattr(time, "process_time", lambda: self.here + self.others)
        monkeypatch.setattr(signal, "setitimer", lambda *_: None)


def test_every_second_is_told_once_to_a_step_the_collector_or_other_threads(monkeypatch) -> None:
    clocks = Clocks(monkeypatch)
    sampler = sampling.Sampler({"tests": "the caller's code"})
    sampler.start()
    try:
        clocks.here += 1
        sampler._note_collection("start", {})
        clocks.here += 2
        sampler._note_collection("stop", {})
        clocks.here += 4
        sampler._sample(0, sys._getframe())
        sampler._sample(0, None)
        clocks.here += 8
        sampler._note_collection("start", {})
        clocks.here += 16
        sampler._sample(0, sys._getframe())  # a finalizer runs while the collector does
        sampler._note_collection("stop", {})
        clocks.others += 32
        clocks.here += 64
    finally:
        found = sampler.stop()
    assert found == {
        "steps": {
            sampling.COLLECTOR: 26,
            "the caller's code": 5,
            sampling.OTHER_THREADS: 32,
            sampling.UNASSIGNED: 64,
        },
        "seconds": 127,
        "samples": 3,
    }


def test_step_is_that_of_the_longest_name_and_tools_are_their_callers() -> None:
    steps = {"aioray": "rest", "aioray.engine": "engine"}
    assert sampling.step_of("aioray.engine.processes.pool", steps) == "engine"
    assert sampling.step_of("aioray.core.turn", steps) == "rest"
    assert sampling.step_of("aioray.shared.wire", steps) is None
    assert sampling.step_of("pickle", steps) is None
    assert sampling.step_of("aiorays", steps) is None


@pytest.mark.parametrize("steps", [sampling.DRIVER, sampling.WORKER], ids=["driver", "worker"])
def test_steps_name_modules_that_are_there(steps) -> None:
    for name in steps:
        path = ROOT.joinpath(*name.split("."))
        own = name.startswith(("aioray", "benchmarks"))
        assert not own or path.is_dir() or path.with_suffix(".py").exists(), name
