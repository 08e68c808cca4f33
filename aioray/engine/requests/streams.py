"""Answers what generator tasks, and those who read their items, ask.

Room: engine.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from ...shared.wire import CHUNK
from ..objects.lineage import entries_of
from ..processes.inbound import ChunkNews
from .session import OpenQuestion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...shared.asks import AbandonStream, ItemsRead, MayYield
    from ..client import DriverClient
    from ..processes.inbound import Asked, Yielded
    from .session import WorkerSession
    from .waits import WaitRequests

__all__ = ["StreamRequests"]


class StreamRequests:
    """Takes in what generators yield, and holds them up as long as nobody reads that."""

    def __init__(
        self, client: DriverClient, waits: WaitRequests, running: Callable[[int, int], Task | None]
    ) -> None:
        self._client = client
        self._waits = waits
        self._running = running

    def yielded(self, session: WorkerSession, item: Yielded) -> None:
        """Store an item of a generator, or note how many there were."""
        task = self._running(session.handle.id, item.seq)
        if task is None:
            return  # it was given up
        if task.stream is None:
            entries = entries_of(task, self._client)
            if item.value is None or not 0 <= item.number < len(entries):
                raise ValueError(f"item {item.number} of {task.name}, which has no such result")
            self._client.store(entries[item.number], item.value)
        elif item.number > task.stream.produced and not task.stream.ended:
            raise ValueError(f"item {item.number} of {task.name}, after {task.stream.produced}")
        elif item.value is None:
            task.stream.last_count = item.number
        else:
            task.stream.add(item.number, lambda entry: self._client.store(entry, item.value))

    def told(self, session: WorkerSession, item: ChunkNews) -> None:
        """Store what a chunk has told of its items."""
        task = self._running(session.handle.id, item.seq)
        if task is None:
            return  # it was given up
        if task.spec.num_returns != CHUNK:
            raise ValueError(f"news of items of {task.name}, which has none")
        value = pickle.dumps(item.value, 5) if type(item.value) is list else item.value
        task.stream.tell(lambda entry: self._client.store(entry, value))

    def told_last(self, session: WorkerSession, seq: int, news: Sequence[Any]) -> None:
        """Store what a chunk had no time to tell; anybody may have written that into the page."""
        task = self._running(session.handle.id, seq)
        if task is not None and task.spec.num_returns == CHUNK:
            self.told(session, ChunkNews(seq, [pickle.dumps(each, 5) for each in news]))

    def may_yield(self, session: WorkerSession, ask: MayYield, asked: Asked) -> None:
        """Reply when a generator may go on: it is to be ahead of its readers by so much only."""
        task = self._running(session.handle.id, asked.seq)
        if task is None or task.stream is None or task.stream.may_yield(ask.yielded):
            session.reply(asked.request, None)
            return
        question = OpenQuestion(asked.seq, asked.request, [], 1, wants_values=False)
        self._waits.begin(session, question, [])

        def go_on() -> None:
            if session.open.get(asked.request) is question:
                self._waits.finish(session, question, at_once=False)

        task.stream.pause(ask.yielded, go_on)

    def let_yield(self, session: WorkerSession, seq: int) -> None:
        """Let a generator go on that waits to be read: it is to find that it is cancelled."""
        for question in tuple(session.open.values()):
            if question.seq == seq and not question.entries:  # it is no Get, nor Wait
                self._waits.finish(session, question, at_once=False)

    def items_read(self, _session: WorkerSession, ask: ItemsRead, _asked: Asked) -> None:
        """Note how many items of a generator task have been read."""
        self._client.consume(ask.task, ask.number)

    def abandon(self, session: WorkerSession, ask: AbandonStream, _asked: Asked) -> None:
        """Note that nobody reads a generator task any more."""
        session.streams.discard(ask.task)
        self._client.abandon(ask.task)
