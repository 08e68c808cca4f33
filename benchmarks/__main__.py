"""The command `python -m benchmarks`; `--help` has its options."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .bench import FULL, QUICK, Bench
from .questions import QUESTIONS
from .report import Table
from .runner import Runners

if TYPE_CHECKING:
    from pathlib import Path


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Fewer tasks and rounds, under 40 s without Ray.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(QUESTIONS)),
    help="Ask this question; may be given several times.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True),
    help="Write all numbers there.",
)
@click.option(
    "--ray-python",
    type=click.Path(exists=True, dir_okay=False),
    help="The interpreter of an environment that has Ray. Without: this one, if Ray is in it.",
)
def main(
    *, quick: bool, only: tuple[str, ...], json_file: Path | None, ray_python: str | None
) -> None:
    """Measure aioray and other libraries side by side.

    Prints one table: median, smallest and largest round, the ratio to aioray, and where there is an
    aim, whether it was reached. A library that cannot be imported is left out with a note. Exits
    with 1 if aioray itself failed at something; an aim that was not reached is no failure.
    """
    scale = QUICK if quick else FULL
    table = Table()
    runners = Runners(ray_python, _note)
    interrupted = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # children are closed, then, too
    start = time.monotonic()
    with contextlib.closing(runners):
        bench = Bench(scale, runners, table)
        try:
            for name, ask in QUESTIONS.items():
                if not only or name in only:
                    _note(f"{name}, after {time.monotonic() - start:.0f} s")
                    ask(bench)
        except KeyboardInterrupt:
            _note("interrupted: the table has what was measured before")
            interrupted = True
    machine = {
        "cpus": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    print(f"{machine['cpus']} CPUs, Python {machine['python']}, {machine['system']}")
    print(", ".join(f"{name} {version}" for name, version in runners.versions.items()))
    print(table.text())
    print(f"{'quick' if quick else 'full'} run, {time.monotonic() - start:.0f} s")
    if json_file is not None:
        raw = {
            "machine": machine,
            "versions": runners.versions,
            "scale": asdict(scale),
            "rows": table.raw(),
            "failures": runners.failures,
        }
        with open(json_file, "w") as file:
            json.dump(raw, file, indent=1)
    if interrupted:
        sys.exit(128 + signal.SIGINT)
    if any(name.startswith("aioray") for name in runners.failures):
        sys.exit(1)


if __name__ == "__main__":
    main()
