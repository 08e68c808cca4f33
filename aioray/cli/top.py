"""`aioray top`: a running session, drawn again and again.

Room: cli. `Frame` makes one picture out of a View and of what the frame before has seen, which
rates and CPU shares need. Numbers of processes are read from /proc.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aioray.shared.printable import printable

from .common import answering, session_options
from .figures import session_name, size, span, store_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from aioray.state.read.sessions import Session
    from aioray.state.read.view import View

    from .common import Target

__all__ = ["Frame", "Process", "command", "read_process"]

PLAIN_COLUMNS = 160  # where there is no terminal
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIN_LINES = 2  # that a table has, however small the screen is

_Lines = list[tuple[str, ...]]


@dataclass(frozen=True)
class Process:
    """What /proc tells of a process."""

    cpu_seconds: float
    age: float  # seconds since it was started
    rss: int  # bytes


def read_process(pid: int) -> Process | None:
    """Read what /proc tells of a process; None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, IndexError):
        return None
    user, system, started = int(fields[11]), int(fields[12]), int(fields[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / _TICKS
    return Process((user + system) / _TICKS, age, pages * _PAGE)


@dataclass
class _Function:
    """Attempts of one function or method, by state."""

    counts: Counter[str] = field(default_factory=Counter)
    retried: int = 0


class Frame:
    """Makes the pictures, one after the other."""

    def __init__(self, read: Callable[[int], Process | None] = read_process) -> None:
        """Begin with nothing measured. read: looks at a process."""
        self._read = read
        self._cpu: dict[int, float] = {}  # by pid, at the frame before
        self._done: dict[str, _Function] = defaultdict(_Function)  # what has ended, by function
        self._mark = 0  # up to which that is counted
        self._ended: dict[str, int] = {}  # by function, at the frame before
        self._at: float | None = None  # monotonic, of the frame before

    def draw(self, view: View, now: float, *, rows: int | None = None) -> RenderableType:
        """Draw the picture of this moment. now: monotonic. rows: of the screen; None: no limit."""
        seconds = None if self._at is None else max(1e-6, now - self._at)
        glance = view.glance(self._mark)
        self._mark = glance.mark
        for (signature, failed, repeated), count in glance.ended.items():
            of = self._done[view.signatures[signature]["name"]]
            of.counts["FAILED" if failed else "FINISHED"] += count
            of.retried += count if repeated else 0
        functions = defaultdict(_Function)
        for name, of in self._done.items():
            functions[name] = _Function(of.counts.copy(), of.retried)
        pending: Counter[str] = Counter()
        running: dict[int, list[Any]] = defaultdict(list)
        for record in glance.unfinished:
            attributes = view.signatures[record.signature]
            of = functions[attributes["name"]]
            runs = record.state.startswith("RUNNING")
            of.counts["RUNNING" if runs else "waiting"] += 1
            of.retried += record.attempt > 0
            if attributes["actor_id"]:
                pending[attributes["actor_id"]] += 1
            if runs and record.worker is not None:
                running[record.worker].append(record)
        tables = [self._workers(view, running, seconds), self._functions(functions, seconds)]
        if view.actors:
            tables.append(self._actors(view, pending))
        head = self._head(view)
        lengths = [len(lines) for _, lines in tables]
        if rows is not None:
            taken = len(head.plain.splitlines()) + 2 * len(tables) + 1  # blank lines and names
            lengths = _shared_out(lengths, rows - taken)
        parts: list[RenderableType] = [head]
        for (table, lines), room in zip(tables, lengths, strict=True):
            _fill(table, lines, room)
            parts += [Text(), table]
        self._at = now
        return Group(*parts)

    def _head(self, view: View) -> Text:
        live, meta = view.live, view.meta
        total, free = live["resources"]["total"], live["resources"]["available"]
        used = ", ".join(
            f"{round(amount - free.get(name, 0.0), 4):g}/{amount:g} {name}"
            for name, amount in sorted(total.items())
            if not name.startswith("node:") and name not in ("memory", "object_store_memory")
        )
        store = store_use(view)
        on_disk = f", {size(store.on_disk)} on disk" if store.on_disk else ""
        waiting = sum(count for _, count in live.get("demands", []))
        up = span(live["now"] - (meta["started_at"] or live["now"]))
        lines = (
            f"{session_name(view)}  up {up}  driver pid {meta['pid']}",
            f"Resources: {used or 'none'}; {waiting} requests wait",
            f"Object store: {size(store.used)}/{size(store.capacity)}{on_disk}",
        )
        return Text("\n".join(map(printable, lines)))

    def _workers(
        self, view: View, running: dict[int, list[Any]], seconds: float | None
    ) -> tuple[Table, _Lines]:
        table = _table("PID", "CPU %", "RSS", "FOR", "RUNS", right=3)
        cpu: dict[int, float] = {}
        found = []
        for number, attributes in view.workers.items():
            process = (
                self._read(attributes["pid"])
                if attributes["is_alive"] and attributes["pid"]
                else None
            )
            if process is None:
                continue
            pid = attributes["pid"]
            cpu[pid] = process.cpu_seconds
            if seconds is None or pid not in self._cpu:
                share = process.cpu_seconds / max(process.age, 1 / _TICKS)
            else:
                share = (process.cpu_seconds - self._cpu[pid]) / seconds
            records = running.get(number, [])
            begin = min((each.started for each in records if each.started), default=None)
            names = Counter(view.signatures[each.signature]["name"] for each in records)
            what = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in names.items())
            if attributes["worker_type"] == "DRIVER":
                what = "(driver)"
            since = "" if begin is None else span(view.live["now"] - begin)
            row = (str(pid), f"{100 * share:.0f}", size(process.rss), since, what or "idle")
            found.append(((not records, -share, pid), row))
        self._cpu = cpu
        return table, [row for _, row in sorted(found)]

    def _functions(
        self, functions: dict[str, _Function], seconds: float | None
    ) -> tuple[Table, _Lines]:
        table = _table(
            "WAITING", "RUNNING", "FINISHED", "FAILED", "RETRIED", "PER S", "FUNCTION", right=6
        )
        ended: dict[str, int] = {}
        found = []
        for name, of in functions.items():
            counts = of.counts
            retried = min(of.retried, counts["FAILED"])
            ended[name] = counts["FINISHED"] + counts["FAILED"]
            rate = ""
            if seconds is not None:
                rate = f"{max(0, ended[name] - self._ended.get(name, 0)) / seconds:.1f}"
            numbers = [counts["waiting"], counts["RUNNING"], counts["FINISHED"]]
            numbers += [counts["FAILED"] - retried, retried]
            row = (*map(str, numbers), rate, name)
            found.append(((-counts["RUNNING"], -counts["waiting"], -ended[name], name), row))
        self._ended = ended
        return table, [row for _, row in sorted(found)]

    def _actors(self, view: View, pending: Counter[str]) -> tuple[Table, _Lines]:
        table = _table("PID", "PENDING", "RESTARTS", "STATE", "ACTOR", right=3)
        found = []
        for actor in view.actors:
            if actor["state"] == "DEAD":
                continue
            calls = pending[actor["actor_id"]]
            name = f"{actor['class_name']} {actor.get('name') or ''}".rstrip()
            row = (
                str(actor.get("pid") or ""),
                str(calls),
                str(actor.get("num_restarts") or 0),
                actor["state"],
                f"{name} {actor['actor_id']}",
            )
            found.append(((-calls, actor["actor_id"]), row))
        return table, [row for _, row in sorted(found)]


def _table(*names: str, right: int) -> Table:
    """Make a table whose first `right` columns are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="reverse")
    for at, name in enumerate(names):
        table.add_column(
            name, justify="right" if at < right else "left", no_wrap=True, overflow="ellipsis"
        )
    return table


def _shared_out(wanted: list[int], room: int) -> list[int]:
    """Share lines out to tables: to each what it wants, or an equal part of what is left."""
    shares = [0] * len(wanted)
    left = max(0, room)
    for count, at in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[at] = max(MIN_LINES, min(wanted[at], left // (len(wanted) - count)))
        left -= shares[at]
    return shares


def _fill(table: Table, rows: _Lines, room: int) -> None:
    shown = rows if len(rows) <= room else rows[: room - 1]
    for row in shown:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if len(shown) < len(rows):
        *blank, _ = table.columns
        table.add_row(*("" for _ in blank), Text(f"({len(rows) - len(shown)} more)"))


@click.command(name="top")
@click.option(
    "-n",
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    help="Seconds between two pictures; by default 1.",
)
@click.option("--once", is_flag=True, help="Print one picture and end, as without a terminal.")
@session_options
def command(target: Target, *, interval: float, once: bool) -> None:
    """Watch a running session: workers, tasks, actors, object store. Ends with q or Ctrl-C."""
    frame = Frame()
    console = Console(highlight=False)
    session = target.session()  # once: another that begins later is another matter
    if once or not (console.is_terminal and sys.stdin.isatty()):
        with answering(), session.view(timeout=target.timeout) as view:
            _demand_life(view)
            if not console.is_terminal:
                console.width = max(console.width, PLAIN_COLUMNS)
            console.print(frame.draw(view, time.monotonic()))
        return
    with contextlib.suppress(KeyboardInterrupt), _keys() as pressed, answering():
        _watch(session, target.timeout, frame, console, interval, pressed)


def _watch(
    session: Session,
    timeout: float,
    frame: Frame,
    console: Console,
    interval: float,
    pressed: Callable[[float], str],
) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            with session.view(timeout=timeout) as view:
                if not view.alive:
                    break
                live.update(frame.draw(view, time.monotonic(), rows=console.height), refresh=True)
            took = time.monotonic() - began  # long histories must not keep a CPU busy
            if pressed(max(interval, 2 * took) - took) in ("q", "Q"):
                return
    click.echo(f"The session {printable(session.name)} has ended.")


def _demand_life(view: View) -> None:
    if not view.alive:
        raise click.ClickException(
            f"The session {session_name(view)} has ended: nothing runs. `aioray status` and "
            f"`aioray summary tasks` tell what it has done."
        )


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Have keys told at once, without an echo; yield a function that waits for one."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        return os.read(fd, 1).decode(errors="replace") if ready else ""

    tty.setcbreak(fd)
    try:
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
