"""The command `python -m benchmarks`; `--help` has its options."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from . import guide, pictures
from .beginning import beginning
from .bench import FULL, QUICK, Bench, Scale
from .chaos.ledger import chaos
from .contestants import OTHERS
from .questions import QUESTIONS
from .report import Table
from .runner import Runners
from .soak import soak

PROFILE_SECONDS = 5.0


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _sizes(_ctx: click.Context, _param: click.Parameter, settings: tuple[str, ...]) -> object:
    try:
        QUICK.changed(settings)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return settings


_WRITTEN = (
    click.option(
        "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write tables there."
    ),
    click.option(
        "--pictures",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Draw the curves as SVG into this folder.",
    ),
    click.option(
        "--write-guide",
        is_flag=True,
        help="Write tables and pictures into the chapter of the guide on performance.",
    ),
)


def _written(command: Any) -> Any:
    for option in reversed(_WRITTEN):
        command = option(command)
    return command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Fewer tasks and rounds, some minutes in all.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(tuple(QUESTIONS)),
    help="Ask this question; may be given several times.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(OTHERS),
    help="Measure aioray beside this library, and beside no others but those named so.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_sizes,
    help="Another size than that of the run, such as rounds=3; may be given several times.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all numbers there.",
)
@click.option(
    "--ray-python",
    type=click.Path(exists=True, dir_okay=False),
    help="The interpreter of an environment that has Ray. Without: this one, if Ray is in it.",
)
@_written
@click.pass_context
def main(
    context: click.Context,
    *,
    quick: bool,
    only: tuple[str, ...],
    peers: tuple[str, ...],
    settings: tuple[str, ...],
    json_file: Path | None,
    ray_python: str | None,
    markdown: Path | None,
    folder: Path | None,
    write_guide: bool,
) -> None:
    """Measure aioray and other libraries side by side.

    Prints one table: median, smallest and largest round, the ratio to aioray, and where there is an
    aim, whether it was reached. A library that cannot be imported is left out with a note. Exits
    with 1 if aioray itself failed at something; an aim that was not reached is no failure.
    """
    if context.invoked_subcommand is not None:
        return
    scale = (QUICK if quick else FULL).changed(settings)
    start = time.monotonic()
    run, table, interrupted = _measure(scale, only or tuple(QUESTIONS), ray_python, peers)
    print(_head(run))
    print(table.text())
    print(f"{'quick' if quick else 'full'} run, {time.monotonic() - start:.0f} s")
    if write_guide and not interrupted:
        run["parts"] = _parts()
    if json_file is not None:
        json_file.write_text(json.dumps({**run, **table.raw()}, indent=1), encoding="utf-8")
    _write(run, table, markdown, folder, write_guide=write_guide and not interrupted)
    if interrupted:
        sys.exit(128 + signal.SIGINT)
    if any(name.startswith("aioray") for name in run["failures"]):
        sys.exit(1)


def _measure(
    scale: Scale, names: tuple[str, ...], ray_python: str | None, peers: tuple[str, ...]
) -> tuple[dict[str, Any], Table, bool]:
    """Ask the questions; what is known of the run, the figures, and whether it was interrupted."""
    table = Table()
    runners = Runners(ray_python, _note, peers)
    interrupted = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # children are closed, then, too
    start = time.monotonic()
    bench = Bench(scale, runners, table)
    try:
        for name, ask in QUESTIONS.items():
            if name in names:
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
    run = {
        "machine": machine,
        "versions": runners.versions,
        "scale": asdict(scale),
        "failures": runners.failures,
    }
    return run, table, interrupted


def _head(run: dict[str, Any]) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    where = f"{machine['cpus']} CPUs, Python {machine['python']}, {machine['system']}"
    return f"{where}\n{versions or '-'}"


def _write(
    run: dict[str, Any],
    table: Table,
    markdown: Path | None,
    folder: Path | None,
    *,
    write_guide: bool,
) -> None:
    if markdown is not None:
        markdown.write_text(f"{_head(run)}\n\n{table.markdown()}", encoding="utf-8")
    if folder is not None:
        print("pictures:", ", ".join(pictures.draw(table, str(folder))))
    if write_guide:
        parts = run.get("parts", {})
        print("written:", ", ".join(guide.write(table, run, parts, guide.CHAPTER)))


def _parts() -> dict[str, list[str]]:
    """The sections of the guide that are no answers to questions."""
    from . import counts, profile

    return {
        "profile": profile.lines(profile.measure(PROFILE_SECONDS)),
        "counts": counts.lines(counts.measure()),
    }


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_written
def report(*, file: Path, markdown: Path | None, folder: Path | None, write_guide: bool) -> None:
    """Print, write and draw again what a run has left in FILE by --json."""
    run = json.loads(file.read_text(encoding="utf-8"))
    table = Table.read(run)
    print(_head(run))
    print(table.text())
    _write(run, table, markdown, folder, write_guide=write_guide)


@main.command()
@click.option(
    "--seconds",
    default=PROFILE_SECONDS,
    show_default=True,
    help="Of the driver's processor time, for each of the two loads.",
)
def profile(*, seconds: float) -> None:
    """Tell where the processor time of a no-op task goes.

    Prints microseconds by step, for the driver and for a worker, of tasks that are queued and of
    round trips. Exits with 1 if less than 90 % is known to belong to a step.
    """
    from .profile import AIM_SHARE, lines, measure

    profiles = measure(seconds)
    print("\n".join(lines(profiles)))
    if any(each.accounted < AIM_SHARE for each in profiles):
        sys.exit(1)


main.add_command(beginning)
main.add_command(chaos)
main.add_command(soak)


@main.command()
def counts() -> None:
    """Count what a no-op task costs: calls of the system and of functions, objects, bytes."""
    from .counts import lines, measure

    print("\n".join(lines(measure())))


@main.command()
@click.option("--clients", default=200, show_default=True, help="How many ask at the same time.")
@click.option(
    "--seconds", default=20.0, show_default=True, help="How long, before the server has to end."
)
@click.option("--seed", type=int, help="Of a run that is to be repeated.")
def service(*, clients: int, seconds: float, seed: int | None) -> None:
    """Prove that a FastAPI service under load answers everything.

    One call in ten crashes its worker, others crash each time or hang past their timeout, clients
    leave, and SIGTERM comes while all of that goes on. Prints what became of the requests, and how
    late the service's loop was. Exits with 1 if one hung, or was answered wrongly or not at all, or
    if a process remains.
    """
    from .service.load import describe, prove

    seed = random.randrange(1_000_000) if seed is None else seed
    print(f"{clients} clients, {seconds:g} s, --seed {seed}", flush=True)
    ledger, lag = prove(clients, seconds, seed)
    print(describe(ledger, lag))
    if ledger.faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
