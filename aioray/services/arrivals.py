"""What becomes ready among many refs, told to one event loop: once for all of one turn.

Room: services. The engine wakes a callback of each entry; no asyncio task is made, and for each
ref there is one small object until it is ready.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

from ..client.refs import wake_elsewhere

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ..client.entry import ObjectEntry

__all__ = ["Arrivals"]


class Arrivals:
    """Watches entries, and remembers in which order they became ready."""

    __slots__ = ("_called", "_loop", "_notify", "_ready", "watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, notify: Callable[[], None]) -> None:
        """Watch nothing yet. notify: called on `loop`, soon after something became ready."""
        self._loop = loop
        self._notify = notify
        self._ready: deque[ObjectEntry] = deque()
        self._called = False  # `notify` will be
        self.watched: dict[ObjectEntry, Callable[[], None]] = {}

    def watch(self, entry: ObjectEntry) -> None:
        """Watch an entry; one that is ready counts as one that has become so."""
        if entry in self.watched:
            return
        arrival = self.watched[entry] = functools.partial(self._arrive, entry)
        if entry.outcome is not None:  # were it on disk, who is called back has it read
            arrival()
            return
        client = entry.owner()
        if client.loop is self._loop:
            entry.add_waiter(arrival)
        else:
            client.when_ready(entry, arrival)

    def _arrive(self, entry: ObjectEntry) -> None:
        """Take in an entry that is ready, on the engine's thread."""
        self._ready.append(entry)
        if not self._called:
            self._called = True
            wake_elsewhere(self._loop, self._tell)

    def _tell(self) -> None:
        self._called = False  # before looking: what comes from now on calls again
        self._notify()

    def take(self) -> list[ObjectEntry]:
        """Return those of the watched that became ready since the last time."""
        found = []
        while self._ready:
            entry = self._ready.popleft()
            if self.watched.pop(entry, None) is not None:
                found.append(entry)
        return found

    def forget(self) -> None:
        """Watch nothing any more."""
        watched, self.watched = self.watched, {}
        for entry, arrival in watched.items():
            client = entry.client
            if client is not None and entry.outcome is None:
                client.forget(entry, arrival)
        self._ready.clear()
