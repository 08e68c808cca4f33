"""Takes in what workers say: when they ring, when a frame is half there, and now and then unasked.

Room: engine.
"""

from __future__ import annotations

import functools
import itertools
import logging
from typing import TYPE_CHECKING

from ...core.events import (
    AnswersReceived,
    WorkerReady,
)
from ...core.outcomes import Answer, Ended

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ...core.events import Event
    from ..requests.dispatcher import Requests
    from ..telemetry.recorder import Recorder
    from .handle import WorkerHandle
    from .inbound import Item
    from .setup import Setup

__all__ = ["LOOK_SECONDS", "Listening", "wrote_garbage"]

logger = logging.getLogger("aioray")

LOOK_SECONDS = 1.0  # between two looks at what workers that are busy have not announced


class Listening:
    """The part of a crew that reads."""

    loop: asyncio.AbstractEventLoop
    recorder: Recorder | None
    _feed: Callable[[Event | functools.partial[None]], None]
    _requests: Requests
    _workers: dict[int, WorkerHandle]
    _setups: dict[int, Setup]
    _look: asyncio.TimerHandle | None
    _discard: Callable[[WorkerHandle, str], None]

    def _doorbell_rang(self, handle: WorkerHandle) -> None:
        handle.inbound.silence_doorbell()
        self._read_answers(handle)

    def _read_answers(self, handle: WorkerHandle) -> None:
        if handle.closed:
            return
        inbound = handle.inbound
        was_in_mid_frame = inbound.in_mid_frame
        items = inbound.read()
        if inbound.in_mid_frame != was_in_mid_frame:
            if was_in_mid_frame:
                self.loop.remove_reader(inbound.answers)
            else:
                self.loop.add_reader(inbound.answers, self._read_answers, handle)
        if not handle.ready and items:
            self._take_hello(handle, items.pop(0))
        # Each kind in one go, and all in their order: what an answer contains may be let go next.
        for kind, some in itertools.groupby(items, type):
            if inbound.deaf and not inbound.fault:
                break  # what came before was garbage
            if kind is Answer:
                self._feed(AnswersReceived(handle.id, list(some)))  # type: ignore[arg-type]
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
                self._read_answers(handle)
                if self._look is None:
                    self._look = self.loop.call_later(LOOK_SECONDS, self._look_around)

    def _take_hello(self, handle: WorkerHandle, hello: Answer | Item) -> None:
        if not isinstance(hello, Answer) or hello.seq:
            self._discard(handle, wrote_garbage("the answers pipe: no greeting"))
            return
        setup = self._setups.get(handle.id)
        if setup is not None:
            if hello.ended is not Ended.RETURNED:
                setup.error = hello.payload
            if setup.failed:
                handle.kill()  # `_exited` will report it
                return
            setup.end()
            del self._setups[handle.id]
        handle.ready = True
        handle.inbound.expects = functools.partial(self._requests.expects, handle.id)
        if self.recorder is not None:
            self.recorder.ready(handle.id)
        self._feed(WorkerReady(handle.id))


def wrote_garbage(where: str) -> str:
    """Say why a worker is killed that has written something into a pipe that is not its own."""
    return (
        f"it wrote something that is not aioray's into {where}. A task must leave alone "
        f"descriptors that it has not opened"
    )
