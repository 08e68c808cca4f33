"""What does `wait` cost when many refs are waited for, and one result is taken at a time?

Fixed: 2 workers; `f(i) -> i + 1`, all submitted before the first `wait(refs)`, whose ready ref is
dropped and whose others are waited for next; the clock runs from the first wait to the last. With
the cost of a call that does not depend on how many refs it gets, the time is proportional.
Unit: seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import aims_for, at_most

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "wait"
OWN = "aioray sync"
AIM_SECONDS_EACH = 3 / 100_000  # 100,000 refs in 3 s


def run(bench: Bench) -> None:
    most = bench.scale.waits

    def seconds(runner: Runner, count: int) -> float:
        taken: float = runner.ask("wait_one_by_one", count=count)
        return taken

    counts = [most // 10, most // 3, most]
    curves = bench.along((OWN, "ray"), counts, seconds, is_proportional=True)
    bench.table.add_curves(NAME, "taken one by one", "refs", "s", curves)
    samples = {name: points[most] for name, points in curves.items() if points.get(most)}
    aims = aims_for(samples, {OWN: AIM_SECONDS_EACH * most}, at_most)
    bench.table.add(NAME, f"{most:,} refs, one by one", "s", samples, aims, reference=OWN)
