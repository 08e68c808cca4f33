"""Answers what generator tasks, and those who read their items, ask.

Room: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..objects.lineage import entries_of
from .session import Guest, Wait
from .waits import WaitRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.model import Task
    from ..processes.handle import WorkerHandle
    from ..processes.inbound import Yielded

__all__ = ["StreamRequests"]


class StreamRequests(WaitRequests):
    """Items of generators."""

    _guests: dict[int, Guest]
    _running: Callable[[int, int], Task | None]

    def _yielded(self, guest: Guest, item: Yielded) -> None:
        task = self._running(guest.handle.id, item.seq)
        if task is None:
            return  # it was given up
        if task.stream is None:
            entries = entries_of(task, self._engine)
            if item.value is None or not 0 <= item.number < len(entries):
                raise ValueError(f"item {item.number} of {task.name}, which has no such result")
            self._engine.store(entries[item.number], item.value)
        elif item.value is None:
            task.stream.last_count = item.number
        else:
            task.stream.add(item.number, lambda entry: self._engine.store(entry, item.value))

    def _more(self, guest: Guest, seq: int, request: int, count: int) -> None:
        task = self._running(guest.handle.id, seq)
        if task is None or task.stream is None or task.stream.may_yield(count):
            self._reply(guest, request, None)
            return
        wait = Wait(seq, request, [], 1, wants_values=False)
        self._begin(guest, wait, [])

        def go_on() -> None:
            if guest.waits.get(request) is wait:
                self._finish(guest, wait, look=False)

        task.stream.pause(count, go_on)

    def let_yield(self, handle: WorkerHandle, seq: int) -> None:
        """Let a generator go on that waits to be read: it is to find that it is cancelled."""
        guest = self._guests.get(handle.id)
        for wait in () if guest is None else tuple(guest.waits.values()):
            if wait.seq == seq and not wait.entries:  # it is no GET, nor WAIT
                self._finish(guest, wait, look=False)  # type: ignore[arg-type]

    def _consumed(self, _guest: Guest, _seq: int, _request: int, task: bytes, count: int) -> None:
        self._engine.consume(task, count)

    def _abandon(self, guest: Guest, _seq: int, _request: int, task: bytes) -> None:
        guest.streams.discard(task)
        self._engine.abandon(task)
