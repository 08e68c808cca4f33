"""How long does it take to put a large array, and is its memory free again afterwards?

Fixed: an array of 100 MB in the driver. Cold: the first put of a fresh session. Warm: another one
in the same session, when the first is deleted; Ray gets a second's rest between, after which its
memory is free. The same twice for memcpy into anonymous shared memory: new pages, then the same
pages. A round is a fresh process of each. Memory returned: one session puts and deletes one array
after the other, ten times as much as its limit of 2 GB, and is asked at once what is in use.
Unit: milliseconds, MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import at_most, median_of
from benchmarks.runner import ContestantError, same_turn

from .large_values import OWN, REST_SECONDS, those_with_numpy

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "objects_put"
WARM_PUTS = 3  # in each session; the median counts


def run(bench: Bench) -> None:
    megabytes = bench.scale.megabytes
    names = those_with_numpy(bench, ("floor", *OWN, "ray"))
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    for number in range(bench.scale.rounds):
        for name in tuple(names):
            if name == "ray" and number >= bench.scale.slow_rounds:
                continue
            runner = bench.runners.fresh(name)
            if runner is None:
                names.remove(name)
                continue
            shown = "memcpy" if name == "floor" else name
            try:
                first, *others = _puts(runner, megabytes)
            except ContestantError as failed:
                bench.runners.failed(name, str(failed))
                names.remove(name)
            else:
                cold.setdefault(shown, []).append(first)
                warm.setdefault(shown, []).append(sorted(others)[len(others) // 2])
            finally:
                runner.close()
    bench.table.add(NAME, f"first put of {megabytes} MB in a session (cold)", "ms", cold)
    bench.table.add(NAME, f"another put of {megabytes} MB (warm)", "ms", warm)
    _memory_returned(bench)


def _puts(runner: Runner, megabytes: int) -> list[float]:
    """Milliseconds of one put after the other."""
    if runner.name == "ray":
        runner.settle()
    taken = []
    for _ in range(1 + WARM_PUTS):
        taken.append(1000 * runner.ask("put_one", megabytes=megabytes))
        if runner.name == "ray":
            runner.ask("idle", seconds=REST_SECONDS)
    return taken


def _memory_returned(bench: Bench) -> None:
    megabytes, times = bench.scale.megabytes, bench.scale.fillings

    def turn(runner: Runner) -> float:
        used: float = runner.ask("fill_and_empty", megabytes=megabytes, times=times)
        return used / 1e6

    in_use = bench.runners.rounds(1, same_turn(those_with_numpy(bench, OWN), turn))
    aims = {name: [at_most(median_of(in_use, name), 0)] for name in in_use}
    what = f"in use after put and delete of {times} x the limit"
    bench.table.add(NAME, what, "MB", in_use, aims)
