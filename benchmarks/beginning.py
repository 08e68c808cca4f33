"""Where the first milliseconds go: `python -m benchmarks beginning` prints tables in Markdown.

Question: what does a program of one task wait for, from its start to the shell's prompt, and what
do its processes load and hold? Each run is a fresh interpreter with its compiled modules on disk.
Times are the least of all runs, in milliseconds: of the clock, and of the driver's processor. On a
machine that does other things too only the latter mean something. Memory is the share of each
process (PSS), and what is its alone and was written to (private dirty), in MB.
"""

from __future__ import annotations

import itertools
import json
import marshal
import os
import subprocess
import sys
import time
from typing import Any

import click

# What is timed is what the parts of an ordinary script do; it says when each of them was over.
PROGRAM = """
import time
points = [(time.monotonic(), time.process_time())]
def over():
    points.append((time.monotonic(), time.process_time()))
import sys
bare = len(sys.modules)
import aioray
aioray.remote, aioray.get
over()
modules = [len(sys.modules) - bare]
@aioray.remote
def f():
    import sys
    return len(sys.modules)
over()
ref = f.remote()
over()
in_worker = aioray.get(ref)
over()
modules += [len(sys.modules) - bare, in_worker - bare]
aioray.shutdown()
over()
import marshal, os
os.write({fd}, marshal.dumps([points, modules]))
"""
PARTS = (
    "start of the interpreter",
    "`import aioray`",
    "`@aioray.remote`",
    "`f.remote()`: start of the session",
    "`aioray.get()`: first result",
    "end of the session",
    "end of the interpreter",
)
TEMPLATE = """
import gc, time
gc.disable()  # as what starts it does
start, bare = time.process_time(), len(__import__("sys").modules)
import aioray.worker.template, sys
print(1e3 * (time.process_time() - start), len(sys.modules) - bare)
"""
IDLE = """
import json, time, aioray
from benchmarks.beginning import memory
@aioray.remote
def f():
    time.sleep(0.2)
aioray.init(num_cpus=2)
aioray.get([f.remote(), f.remote()])
time.sleep(1)
print(json.dumps(memory()))
"""


def _environment() -> dict[str, str]:
    """Return this environment, but that compiled modules are written and found again."""
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    return given


def _printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=_environment(),
        text=True,
    )
    return done.stdout


def one_run() -> tuple[list[float], list[float], float, list[int]]:
    """Run the program once: milliseconds of each part, by clock and processor, all, modules.

    All: the processor time of all its processes.
    """
    reader, writer = os.pipe()
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(fd=writer)], env=_environment(), pass_fds=(writer,)
    )
    os.close(writer)
    with open(reader, "rb") as file:
        points, modules = marshal.loads(file.read())
    _, status, usage = os.wait4(process.pid, 0)
    end = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    clock = [begin, *(point[0] for point in points), end]
    used = [0.0, *(point[1] for point in points)]
    return (
        [1e3 * (after - before) for before, after in itertools.pairwise(clock)],
        [1e3 * (after - before) for before, after in itertools.pairwise(used)],
        1e3 * (usage.ru_utime + usage.ru_stime),
        modules,
    )


def memory() -> list[tuple[str, float, float]]:
    """Return name, PSS and private dirty memory, in MB, of this process and all below it."""
    found = []
    for pid in (os.getpid(), *_below(os.getpid())):
        with open(f"/proc/{pid}/cmdline") as file:
            name = file.read().partition("\0")[0] if found else "driver"
        sizes = {}
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                words = line.split()
                if len(words) == 3:
                    sizes[words[0]] = int(words[1]) / 1024
        found.append((name, sizes["Pss:"], sizes["Private_Dirty:"]))
    return found


def _below(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            for child in map(int, file.read().split()):
                found += [child, *_below(child)]
    return found


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "".join(f"| {' | '.join(_shown(cell) for cell in line)} |\n" for line in lines)


def _shown(cell: Any) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


@click.command()
@click.option("--runs", default=15, show_default=True, help="Fresh processes of each kind.")
def beginning(runs: int) -> None:
    """Tell where the first milliseconds of a program go, and what its processes load and hold."""
    """Print where the first milliseconds of a program go."""
    one_run()  # compiles
    results = [one_run() for _ in range(runs)]
    clock = [min(result[0][part] for result in results) for part in range(len(PARTS))]
    used: list[Any] = [min(result[1][part] for result in results) for part in range(len(PARTS) - 1)]
    every = min(result[2] for result in results)
    at_import, at_end, in_worker = results[0][3]
    loaded = [tuple(map(float, _printed(TEMPLATE).split())) for _ in range(min(runs, 5))]
    rows = [*zip(PARTS, clock, [*used, ""], strict=True)]
    whole = min(sum(result[0]) for result in results)
    rows.append(("whole script", whole, f"{every:.1f} in all processes"))
    click.echo(_table(("part", "ms", "of the driver's processor, ms"), rows))
    click.echo(
        _table(
            ("process", "modules beyond the interpreter's", "processor, ms"),
            [
                ("driver after `import aioray`", at_import, used[1]),
                ("driver after the first result", at_end, sum(used[1:5])),
                ("template", int(loaded[0][1]), min(each[0] for each in loaded)),
                ("worker", in_worker, "forked"),
            ],
        )
    )
    idle = json.loads(_printed(IDLE))
    total = ("all", sum(each[1] for each in idle), sum(each[2] for each in idle))
    click.echo(_table(("idle process", "PSS, MB", "private dirty, MB"), [*idle, total]))
