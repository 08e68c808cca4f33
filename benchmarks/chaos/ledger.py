"""The command `chaos`, and how a verdict is printed: by work and outcome, by blow, and what is bad.

On a terminal with lines and colours, plain where the output is piped.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from . import plan

if TYPE_CHECKING:
    from .judge import Verdict

SHOWN = 10  # items of a kind of fault that are printed in full
WARM = 0.3  # share of a run after which memory is compared
GROWTH_KB = 6_000  # of the driver from then on: more is not flat
SHORT = 60.0  # seconds; of a shorter run the memory is not judged


def show(verdict: Verdict, console: Console) -> None:
    """Print the ledger."""
    style = box.SIMPLE if console.is_terminal else None
    ledger = Table("WORK", box=style, pad_edge=False, show_edge=False)
    for name in ("OUTCOME", "ITEMS"):
        ledger.add_column(name, justify="right" if name == "ITEMS" else "left", no_wrap=True)
    last = ""
    for work, outcome, count in sorted(verdict.ledger):
        bad = "bold red" if outcome in {"WRONG", "HUNG"} else ""
        ledger.add_row(work if work != last else "", outcome, str(count), style=bad)
        last = work
    console.print(ledger)
    blows = Table("BLOW", box=style, pad_edge=False, show_edge=False)
    blows.add_column("STRUCK", justify="right")
    for kind, count in Counter(strike.kind for strike in verdict.strikes).most_common():
        blows.add_row(kind, str(count))
    console.print()
    console.print(blows)
    console.print()
    console.print(f"blows that met nobody: {verdict.missed}", highlight=False)
    for line in memory_lines(verdict):
        console.print(line, highlight=False)
    _show_faults(verdict, console)
    counts = (
        f"items: {verdict.begun}, lost: {verdict.lost}, wrong: {len(verdict.wrong)}, "
        f"hung: {len(verdict.hung)}, left over: {len(verdict.left)}"
    )
    console.print(counts, style="green" if verdict.is_right else "bold red", highlight=False)


def memory_lines(verdict: Verdict) -> list[str]:
    """Say what became of the driver's own memory."""
    grown, start, end = growth(verdict)
    if not verdict.memory:
        return []
    return [
        f"memory of the driver, kB: {start:.0f} when warm, {end:.0f} at the end ({grown:+.0f})"
        + ("" if verdict.seconds >= SHORT else "; too short a run to judge it")
    ]


def growth(verdict: Verdict) -> tuple[float, float, float]:
    """How much the driver's memory has grown since it was warm, from what to what, in kB."""
    rows = verdict.memory[int(len(verdict.memory) * WARM) :]
    if not rows:
        return 0.0, 0.0, 0.0
    tenth = max(1, len(rows) // 10)
    start = max(kb for _, kb in rows[:tenth])
    end = min(kb for _, kb in rows[-tenth:])
    return end - start, start, end


def _show_faults(verdict: Verdict, console: Console) -> None:
    """Print what is bad, each item with its plan, and the blows that were near."""
    shown = defaultdict[str, int](int)
    for fault in [*verdict.wrong, *verdict.hung]:
        kind = "wrong" if "wrong" in fault else "hung"
        shown[kind] += 1
        if shown[kind] <= SHOWN:
            what = fault.get("found") or f"waits in {fault['where']}"
            line = f"{kind}: item {fault[kind]} ({fault['work']}) of seed {verdict.seed}: {what}"
            console.print(line, style="red", markup=False, highlight=False)
    for kind, count in shown.items():
        if count > SHOWN:
            console.print(f"... and {count - SHOWN} more that are {kind}")
    for each in verdict.left:
        console.print(f"left over: {each}", style="red", markup=False, highlight=False)
    if not verdict.is_right:
        console.print("The last of what was struck:")
        for strike in verdict.strikes[-SHOWN:]:
            console.print(f"  {strike}", markup=False, highlight=False)
        console.print("The driver's last words:")
        console.print(verdict.log, markup=False, highlight=False)


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="How long the saboteur strikes.")
@click.option("--seed", type=int, help="Of a run that is to be repeated.")
@click.option(
    "--work",
    multiple=True,
    metavar="KIND",
    type=click.Choice(tuple(plan.WORK)),
    help="Only work of this kind; may be given several times.",
)
@click.option(
    "--blow",
    "blows",
    multiple=True,
    metavar="KIND",
    type=click.Choice(tuple(plan.BLOWS)),
    help='Only blows of this kind, such as "kill a worker"; may be given several times.',
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all of it there, with each blow.",
)
def chaos(
    *,
    minutes: float,
    seed: int | None,
    work: tuple[str, ...],
    blows: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Prove that nothing is lost, wrong or left, whatever happens to the processes.

    Work of all kinds is done while a saboteur kills, stops, signals and starves workers, template,
    guardian and driver, spoils and fills the disk, takes descriptors away and writes garbage into
    pipes. Prints a ledger: what became of each item of work. Each error that an item did not ask
    for has to be of the saboteur's making. Exits with 1 if an item was lost, wrong or hung, if
    anything was left at the end, or if the driver's memory grew.
    """
    from .judge import prove

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is stopped goes on, then, too
    seed = random.randrange(1_000_000) if seed is None else seed
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"{minutes:g} minutes, --seed {seed}", highlight=False)
    verdict = prove(seed, minutes * 60, work, blows)
    grown, _, _ = growth(verdict)
    if verdict.seconds >= SHORT and grown > GROWTH_KB:
        verdict.left.append(f"memory of the driver: {grown:.0f} kB more than when it was warm")
    if json_file is not None:
        json_file.write_text(json.dumps(verdict.as_json(), indent=1), encoding="utf-8")
    show(verdict, console)
    if not verdict.is_right:
        sys.exit(1)
