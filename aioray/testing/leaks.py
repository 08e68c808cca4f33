"""What a test has left behind: refs that are still held, tasks that run, processes that live.

Room: api. Looks; ends nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import Any

from ..client.protocol import registry
from ..client.refs import ObjectRef

__all__ = ["Belongings"]

MOST_SHOWN = 10
PATIENCE = 1.0  # seconds in which tasks may still end that nobody has waited for
POLL_SECONDS = 0.01
LONGEST_HOLDER = 60  # characters


class Belongings:
    """What there was at some time, to be compared with what there is later."""

    def __init__(self) -> None:
        """Note what there is now."""
        self._refs = {id(ref) for ref in _refs()}
        self._tasks = set(_unfinished())
        self._processes = _children()
        self.found: list[str] = []  # by the latest look, in words

    def look(self, *, tasks: bool = False) -> None:
        """Find what is new and should have gone, while its engine is still open.

        tasks: also those that run on, for whoever has the engine next.
        """
        self.found = [*(self._new_tasks() if tasks else ()), *self._new_refs()]

    def _new_tasks(self) -> list[str]:
        patience = time.monotonic() + PATIENCE
        while True:
            new = [text for key, text in _unfinished().items() if key not in self._tasks]
            if not new or time.monotonic() > patience:
                return _shortened([f"{text} has not ended" for text in new])
            time.sleep(POLL_SECONDS)

    def _new_refs(self) -> list[str]:
        if all(id(ref) in self._refs for ref in _refs()):
            return []
        gc.collect()
        return _shortened([_describe(ref) for ref in _refs() if id(ref) not in self._refs])

    def new_processes(self) -> list[str]:
        """Describe the processes that are new, and should have gone with their engine."""
        new = sorted(_children() - self._processes)
        return _shortened([f"process {pid}: {_command(pid)}" for pid in new])


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_SHOWN:
        return lines
    return [*lines[:MOST_SHOWN], f"and {len(lines) - MOST_SHOWN} more"]


def _refs() -> list[ObjectRef[Any]]:
    """List the refs that are held in this process and belong to an open engine."""
    return [
        each
        for each in gc.get_objects()
        if type(each) is ObjectRef
        and each.entry.client is not None
        and not each.entry.client.closed
    ]


def _unfinished() -> dict[Any, str]:
    """Describe the tasks that have no outcome yet, by engine and number."""
    found: dict[Any, str] = {}
    for client in tuple(registry.by_job.values()):
        for number, name in getattr(client, "unfinished", dict)().items():
            found[client.job, number] = f"task {name}"
    return found


def _describe(ref: ObjectRef[Any]) -> str:
    """Say what a ref is of, and who holds it as far as that can be seen."""
    task = ref.entry.task
    actors: Any = getattr(ref.entry.client, "actors", None)
    actor = None if actors is None else actors.find(ref.binary())
    if task is not None:
        of = f"a result of {task.name}"
    elif actor is not None:
        of = f"of a handle of the actor {actor.description.class_name}"
    else:
        of = "a value of put()"
    holders = [_holder(each) for each in gc.get_referrers(ref)]
    named = [holder for holder in holders if holder]
    held = f", held by {named[0]}" if named else ""
    return f"{ref!r}, {of}{held}"


def _holder(holder: Any) -> str:
    """Name what holds a ref, if a name helps to find it."""
    if isinstance(holder, dict):
        if "__name__" in holder and "__builtins__" in holder:
            return f"the module {holder['__name__']}"
        return ""
    if isinstance(holder, list | tuple | set):
        return ""
    kind = type(holder)
    if kind.__module__.startswith(("aioray.testing", "builtins", "_pytest")):
        return ""
    return f"{kind.__module__}.{kind.__qualname__}"[:LONGEST_HOLDER]


def _children() -> set[int]:
    """List the child processes of this one."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/self/task/{thread}/children", encoding="ascii") as file,
        ):
            found.update(map(int, file.read().split()))
    return found


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "it has just ended"
    return words or "a zombie"
