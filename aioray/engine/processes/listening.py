"""Takes in what workers say: when they ring, when they need not, and now and then unasked.

Room: engine.
"""

from __future__ import annotations

import functools
import itertools
import logging
from typing import TYPE_CHECKING

from ...core.events import AnswersReceived, WorkerOutgrown
from ...core.outcomes import Answer
from .inbound import Outgrown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from ...core.events import Event
    from ..requests.dispatcher import Requests
    from .handle import WorkerHandle
    from .inbound import Item, News

__all__ = ["Listener", "wrote_garbage"]

logger = logging.getLogger("aioray")

LOOK_SECONDS = 1.0  # between two looks at what workers that are busy have not announced


class Listener:
    """Reads, for all workers of one engine, what they have answered and asked."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event | functools.partial[None]], None],
        requests: Requests,
        workers: Mapping[int, WorkerHandle],
        greeted: Callable[[WorkerHandle, News], None],
        discard: Callable[[WorkerHandle, str], None],
    ) -> None:
        """Listen to nobody yet. workers: those there are. greeted: takes the first word of each.

        discard: kills a worker that cannot be worked with, and says why.
        """
        self._loop = loop
        self._feed = feed
        self._requests = requests
        self._workers = workers
        self._greeted = greeted
        self._discard = discard
        self._look: asyncio.TimerHandle | None = None
        # Does what the loop calls for, see `Mailbox.in_pass`.
        self.in_pass: Callable[..., None] = lambda action, *args: action(*args)

    def add(self, handle: WorkerHandle) -> None:
        """Listen to a worker from now on."""
        self._loop.add_reader(handle.inbound.doorbell, self._doorbell_rang, handle)

    def remove(self, handle: WorkerHandle) -> None:
        """Listen to a worker no more; what it has said can still be read."""
        handle.inbound.is_watched = False
        if not self._loop.is_closed():
            for fd in (handle.inbound.doorbell, handle.inbound.answers):
                self._loop.remove_reader(fd)

    def attend(self, handle: WorkerHandle) -> None:
        """Look at a worker's answers themselves as long as what comes comes without a ring."""
        inbound = handle.inbound
        needed = inbound.needs_watch
        if needed != inbound.is_watched:
            inbound.is_watched = needed
            if needed:
                self._loop.add_reader(inbound.answers, self._answers_came, handle)
            else:
                self._loop.remove_reader(inbound.answers)

    def look_soon(self) -> None:
        """Look before long at what workers say that they do not announce: one was given work."""
        if self._look is None:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_around)

    def close(self) -> None:
        """Look no more at what workers do not announce."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _doorbell_rang(self, handle: WorkerHandle) -> None:
        handle.inbound.silence_doorbell()
        self._answers_came(handle)

    def _answers_came(self, handle: WorkerHandle) -> None:
        self.in_pass(self.read, handle)

    def read(self, handle: WorkerHandle) -> None:
        """Take in what a worker has said until now."""
        if handle.closed:
            return
        inbound = handle.inbound
        items = inbound.read()
        self.attend(handle)
        if not handle.ready and items:
            self._greeted(handle, items.pop(0))
        # Each kind in one go, and all in their order: what an answer contains may be let go next.
        for kind, some in itertools.groupby(items, type):
            if inbound.deaf and not inbound.fault:
                break  # what came before was garbage
            if kind is Answer:
                answers: list[Answer] = list(some)  # type: ignore[arg-type]
                if handle.watch is not None:
                    handle.watch.answered(handle, answers)
                self._feed(AnswersReceived(handle.id, answers))
            elif kind is Outgrown:
                self._feed(WorkerOutgrown(handle.id))
            else:
                asked = functools.partial(self._ask, handle, list(some))  # type: ignore[arg-type]
                self._feed(asked)
        if inbound.fault:
            self._discard(handle, wrote_garbage(inbound.fault))

    def _ask(self, handle: WorkerHandle, items: list[Item]) -> None:
        try:
            self._requests.handle(handle, items)
        except Exception as error:
            logger.warning("A worker's question could not be handled.", exc_info=True)
            handle.inbound.deaf = True
            self._discard(handle, wrote_garbage(f"the answers pipe: a question ({error!r})"))

    def _look_around(self) -> None:
        """Read what workers in the midst of an attempt have not announced: they may be blocked.

        Not by what aioray writes, which it announces in time.
        """
        self._look = None
        for handle in tuple(self._workers.values()):
            if not handle.closed and handle.page.running() is not None:
                self.read(handle)
                self.look_soon()


def wrote_garbage(where: str) -> str:
    """Say why a worker is killed that has written something into a pipe that is not its own."""
    return (
        f"it wrote something that is not aioray's into {where}. A task must leave alone "
        f"descriptors that it has not opened"
    )
