"""Runs calls of an actor in threads: as many at once as its concurrency groups allow.

Room: worker. Each group has threads of its own, made when they are needed and kept. Executors of
the standard library do not do: the interpreter waits for their threads when it ends, and a call
that never returns would keep an actor that wants to exit.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from ...client.current import Running, running
from ..objects import AttemptHandles
from .host import Host

if TYPE_CHECKING:
    from ...shared.wire import Attempt

__all__ = ["Threads"]


class Threads(Host):
    """The calls of a threaded actor."""

    def make_group(self, name: str, limit: int) -> _GroupThreads:
        """Make a concurrency group of up to `limit` threads for a concurrency group."""
        return _GroupThreads(self, name or "default", limit)

    def execute(self, attempt: Attempt) -> BaseException | None:
        """Run one call in a context of its own and answer; return why to end the process."""
        server = self.server
        running.set(Running(attempt))
        use = AttemptHandles()
        try:
            found = self.prepare(attempt, use)
            if found is not None:
                server.execution.call(attempt, *found, use)
            self.ended(attempt)
            server.channel.ring()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            return error
        return None


class _GroupThreads:
    """The threads of one concurrency group."""

    def __init__(self, host: Threads, name: str, limit: int) -> None:
        self._host = host
        self._name = name
        self._limit = limit
        self._attempts: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
        self._count = 0
        self._idle = threading.Semaphore(0)  # threads that wait for an attempt

    def start(self, attempt: Attempt) -> None:
        """Have a thread run the attempt: one that waits, a new one, or the next that is through."""
        self._attempts.put(attempt)
        if not self._idle.acquire(blocking=False) and self._count < self._limit:
            self._count += 1
            name = f"aioray-{self._name}-{self._count}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            attempt = self._attempts.get()
            reason = self._host.context.copy().run(self._host.execute, attempt)
            del attempt
            if reason is not None:  # and this thread holds nothing of the actor any more
                self._host.leave(reason)
                return
            self._idle.release()
