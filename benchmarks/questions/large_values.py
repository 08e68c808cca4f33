"""What the questions about large values have in common.

Values are numpy arrays of float64; a contestant whose interpreter has no numpy is left out. A round
before the first does not count: after it workers have loaded numpy and stores have warm pages. Ray
frees memory up to a second after the last ref is gone, so it rests before each of its turns.
"""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING

from benchmarks.contestants import BATCHING, PEERS
from benchmarks.report import at_most, paired_ratio
from benchmarks.runner import same_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from benchmarks.bench import Bench
    from benchmarks.report import Aim
    from benchmarks.runner import Runner

OWN = ("aioray", "aioray sync")
COPYING = ("ProcessPoolExecutor", "loky")  # they send arrays through pipes, which takes seconds
REST_SECONDS = 1.2


def those_with_numpy(bench: Bench, names: Iterable[str], module: str = "numpy") -> list[str]:
    """The names without those that cannot take part; so for another module."""
    wanted = []
    for name in names:
        if _has(bench.runners.python(name), module):
            wanted.append(name)
        else:
            bench.runners.note(f"{name} left out: no {module}")
    return wanted


def rounds(
    bench: Bench, names: Iterable[str], turn: Callable[[Runner], float], module: str = "numpy"
) -> dict[str, list[float]]:
    """What the turns returned, without the first round."""

    def turn_after_rest(runner: Runner) -> float:
        runner.ask("idle", seconds=REST_SECONDS)
        return turn(runner)

    turns = same_turn(those_with_numpy(bench, names, module), turn)
    if "ray" in turns:
        turns["ray"] = turn_after_rest
    taken = bench.runners.rounds(
        1 + bench.scale.rounds,
        turns,
        fewer=dict.fromkeys((*PEERS, BATCHING, "ray"), 1 + bench.scale.slow_rounds),
    )
    return {name: samples[1:] for name, samples in taken.items() if samples[1:]}


def at_most_times(
    samples: Mapping[str, Sequence[float]], name: str, other: str, times: float
) -> list[Aim]:
    """The aim for the ratio of two contestants; nothing if one of them took no part."""
    ratio = paired_ratio(samples.get(name, ()), samples.get(other, ()))
    if ratio is None:
        return []
    return [at_most(ratio, times, f"<= {times:g} x {other}, is {ratio:.2f} x")]


@functools.cache
def _has(python: str, module: str) -> bool:
    look = f"import sys, importlib.util as u; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", look], check=False).returncode == 0
