"""How long until a fresh program has its first result, and until there is one more worker?

Fixed: 2 workers for the first result; a script that imports the library, starts it and has one
`f(41) -> 42` done, from the start of its interpreter to the value; byte code is written and in the
page cache, by a round before the first. The whole script: to the end of its process, as a shell
sees it. The floor is an interpreter that does nothing. Import alone
is measured inside a fresh interpreter, around the statement; for aioray it includes the names that
the script uses, which are loaded on first use. New workers come from the running template, for
tasks whose environment variables no worker has, up to the values of these tasks.
Unit: milliseconds.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

from benchmarks.report import aims_for, at_most, median_of
from benchmarks.runner import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from benchmarks.runner import Runner, Runners

T = TypeVar("T")

NAME = "start_up"
SCRIPT_SECONDS = 90
AIM_FIRST, AIM_SCRIPT, AIM_IMPORT = 100, 150, 25  # ms

_SCRIPT = """\
import time
{imports}

def f(i):
    return i + 1

def main():
{body}
    print(time.monotonic(), value)

if __name__ == "__main__":
    main()
"""

_INIT = "    lib.init(num_cpus=2{more})\n    value = lib.get(lib.remote(f).remote(41))"
_POOL = "    pool = {pool}\n    value = pool.submit(f, 41).result()"
SCRIPTS = {
    "python alone": ("", "    value = 42"),
    "aioray": ("import aioray as lib", _INIT.format(more="")),
    "aioray in asyncio": (
        "import asyncio, aioray",
        (
            "    async def first():\n"
            "        async with aioray.Engine(num_cpus=2):\n"
            "            value = await aioray.remote(f).remote(41)\n"
            "            print(time.monotonic(), value, flush=True)\n"
            "        return value\n"
            "    value = asyncio.run(first())"
        ),
    ),
    "ProcessPoolExecutor": (
        "from concurrent.futures import ProcessPoolExecutor",
        _POOL.format(pool="ProcessPoolExecutor(2)"),
    ),
    "pebble": (
        "import pebble",
        "    pool = pebble.ProcessPool(2)\n    value = pool.schedule(f, args=(41,)).result()",
    ),
    "loky": ("import loky", _POOL.format(pool="loky.ProcessPoolExecutor(2)")),
    "ray": (
        "import ray as lib",
        _INIT.format(
            more=", address='local', include_dashboard=False, log_to_driver=False, "
            "logging_level='error'"
        ),
    ),
}

_IMPORT = """\
import time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
IMPORTS = {
    "aioray": "import aioray; aioray.init, aioray.remote, aioray.get",
    "ProcessPoolExecutor": "from concurrent.futures import ProcessPoolExecutor",
    "pebble": "import pebble",
    "loky": "import loky",
    "ray": "import ray",
}


def run(bench: Bench) -> None:
    first = {
        name: _first_result(bench.runners.python(name), script) for name, script in SCRIPTS.items()
    }
    taken = _take_turns(bench, first)
    for measure, index, aim in (
        ("fresh process -> first result", 0, AIM_FIRST),
        ("a whole hello-world script", 1, AIM_SCRIPT),
    ):
        samples = {name: [one[index] for one in both] for name, both in taken.items()}
        own = dict.fromkeys(("aioray", "aioray in asyncio"), aim)
        bench.table.add(NAME, measure, "ms", samples, aims_for(samples, own, at_most))

    samples = _take_turns(
        bench,
        {name: _import(bench.runners.python(name), code) for name, code in IMPORTS.items()},
    )
    aims = aims_for(samples, {"aioray": AIM_IMPORT}, at_most)
    bench.table.add(NAME, "import alone", "ms", samples, aims)

    for count, aim in ((1, 10), (8, 50)):
        _new_workers(bench, count, aim)


def _new_workers(bench: Bench, count: int, aim: float) -> None:
    def turn(runner: Runner) -> float:
        return 1000 * runner.ask("new_workers", count=count)

    samples = bench.runners.rounds(bench.scale.starts, {"aioray": turn}, workers=count)
    if samples:
        aims = {"aioray": [at_most(median_of(samples, "aioray"), aim)]}
        many = "new worker" if count == 1 else f"{count} new workers at once"
        bench.table.add(NAME, f"{many} -> value", "ms", samples, aims)


def _take_turns(bench: Bench, turns: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Rounds of fresh processes; those that this machine cannot run are left out."""
    rounds = bench.scale.starts
    limits = {"ray": min(rounds, bench.scale.slow_rounds)}
    wanted = [name for name in turns if _present(bench.runners, name)]
    samples: dict[str, list[T]] = {name: [] for name in wanted}
    for number in range(-1, rounds):  # the one before the first writes byte code, fills caches
        for name in tuple(wanted):
            if number < limits.get(name, rounds):
                try:
                    taken = turns[name]()
                except subprocess.SubprocessError as error:
                    said = (getattr(error, "stderr", None) or "").strip().splitlines()
                    bench.runners.failed(name, f"{error} {said[-1] if said else ''}")
                    wanted.remove(name)
                else:
                    samples[name] += [taken] if number >= 0 else []
    return {name: taken for name, taken in samples.items() if taken}


def _present(runners: Runners, name: str) -> bool:
    if name not in ("pebble", "loky", "ray"):
        return True
    look = f"import sys, importlib.util as u; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([runners.python(name), "-c", look], check=False).returncode == 0


def _first_result(python: str, script: tuple[str, str]) -> Callable[[], tuple[float, float]]:
    imports, body = script
    path = _SCRIPT.format(imports=imports, body=body)

    def measure() -> tuple[float, float]:
        """Milliseconds to the value, and to the end of the process."""
        start = time.monotonic()
        printed = _python(python, path).stdout.split()
        end = time.monotonic()
        assert int(printed[1]) == 42
        return 1000 * (float(printed[0]) - start), 1000 * (end - start)

    return measure


def _import(python: str, statement: str) -> Callable[[], float]:
    script = _IMPORT.format(statement=statement)

    def measure() -> float:
        return 1000 * float(_python(python, script).stdout)

    return measure


def _python(python: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=SCRIPT_SECONDS,
    )
