"""How many items a second go through a map, and through the maps of a pool?

Fixed: 2 workers; `f(i) -> i + 1` over a range, values read one by one. The pools get each of
several sizes of a chunk, and the best counts; `aioray.map` finds its own. Single is one task for
each item, all at once. Growth: how much the process grows over many items, by the peak of its
resident memory. Without a size: the methods of a pool as they are called most often, `imap` and
`imap_unordered` with chunks of one.
Unit: items per second; megabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import Aim, aims_for, at_least, at_most, median_of, times_the_best

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.runner import Runner

NAME = "map"
OWN, POOL, STDLIB = "aioray sync", "aioray Pool", "multiprocessing.Pool"
EXECUTOR = "ProcessPoolExecutor"
CHUNK_SIZES = (1_000, 4_000, 16_000, 64_000)
SINGLE_SHARE = 50  # single tasks get so many times fewer items: their rate does not depend on it
MANY_SHARE = 10  # the memory is measured over so many times more items
AIM_SINGLE = 10  # times
AIM_MEGABYTES = 32


def run(bench: Bench) -> None:
    _in_chunks(bench)
    for how in ("map", "imap", "imap_unordered"):
        _without_size(bench, how)


def _in_chunks(bench: Bench) -> None:
    count = bench.scale.items

    def mapped(how: str) -> Callable[[Runner], float]:
        return lambda runner: count / runner.ask("mapped", count=count, how=how, chunk=None)

    def best(how: str) -> Callable[[Runner], float]:
        def turn(runner: Runner) -> float:
            taken = [runner.ask("mapped", count=count, how=how, chunk=size) for size in CHUNK_SIZES]
            return count / min(taken)

        return turn

    def everything(runner: Runner) -> tuple[float, float, float]:
        few = count // SINGLE_SHARE
        return (
            mapped("map")(runner),
            mapped("unordered")(runner),
            few / runner.ask("batch", count=few),
        )

    taken = bench.runners.rounds(
        bench.scale.rounds,
        {OWN: everything, POOL: best("imap"), STDLIB: best("imap"), EXECUTOR: best("map")},
    )
    own = taken.pop(OWN, [])
    rates = {
        "aioray": [one[0] for one in own],
        "aioray unordered": [one[1] for one in own],
        "aioray single": [one[2] for one in own],
        **taken,
    }
    rates = {name: samples for name, samples in rates.items() if samples}
    aims: dict[str, list[Aim]] = {
        "aioray": times_the_best(rates, "aioray", (STDLIB, EXECUTOR), 1, more_is_better=True)
    }
    if own:
        ratio = median_of(rates, "aioray") / median_of(rates, "aioray single")
        text = f"aioray >= {AIM_SINGLE} x, is {ratio:.2f} x"
        aims["aioray single"] = [at_least(ratio, AIM_SINGLE, text)]
    bench.table.add(NAME, f"no-op over {count:,} items", "items/s", rates, aims)

    many = MANY_SHARE * count

    def growth(runner: Runner) -> float:
        megabytes: float = runner.ask("growth_of_map", count=many)
        return megabytes

    grown = bench.runners.rounds(1, {OWN: growth})
    aims = aims_for(grown, {OWN: AIM_MEGABYTES}, at_most)
    bench.table.add(
        NAME, f"growth of the process over {many:,} items", "MB", grown, aims, reference=OWN
    )


def _without_size(bench: Bench, how: str) -> None:
    count = bench.scale.singles

    def turn(runner: Runner) -> float:
        return count / runner.ask("mapped", count=count, how=how, chunk=None)

    rates = bench.runners.rounds(bench.scale.rounds, dict.fromkeys((POOL, STDLIB), turn))
    aims = {POOL: times_the_best(rates, POOL, (STDLIB,), 1, more_is_better=True)}
    what = f"`Pool.{how}` over {count:,} items, no size given"
    bench.table.add(NAME, what, "items/s", rates, aims, reference=POOL)
