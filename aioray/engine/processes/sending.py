"""Sends what could not be sent at once: when a socket takes more, or the system has room again.

Room: engine. A worker to which nothing can be sent is given up.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ...core.events import AttemptsNotSent
from ...core.outcomes import Answer, Ended

if TYPE_CHECKING:
    import asyncio
    import functools
    from collections.abc import Callable

    from ...core.events import Event
    from ..requests.dispatcher import Requests
    from .handle import WorkerHandle

__all__ = ["REPORT_SECONDS", "SCARCE", "Sender"]

REPORT_SECONDS = 10.0  # that a death waits for the template's explanation, or for its death
GONE_SECONDS = 1.0  # in which the death of a worker that does not listen any more is heard of
SEND_TRIES = 10  # to send something for which the system has no room
SEND_PAUSE = 0.01, 0.5  # seconds after the first of them, which double, and the longest

# What a system says that has no descriptor, process or memory left. It may have some soon.
SCARCE = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ENOSPC,
        errno.ETOOMANYREFS,
    )
)
_NO_ROOM = SCARCE | {errno.EFBIG, errno.EDQUOT}  # for a large message, which needs a file
_GONE = frozenset((errno.EPIPE, errno.ECONNRESET))


class Sender:
    """Waits, for all workers of one engine, until more can be sent to them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event | functools.partial[None]], None],
        requests: Requests,
        discard: Callable[[WorkerHandle, str], None],
    ) -> None:
        """Wait for nothing. discard: kills a worker that cannot be worked with, and says why."""
        self._loop = loop
        self._feed = feed
        self._requests = requests
        self._discard = discard
        self._waiting: dict[int, int | asyncio.TimerHandle] = {}  # what each worker waits for

    def send_rest(self, handle: WorkerHandle) -> None:
        """See to it that what could not be sent to a worker yet will be."""
        if handle.is_waiting and handle.id not in self._waiting and not handle.discarded:
            error = handle.trouble
            if error is None:
                fd = self._waiting[handle.id] = handle.full
                self._loop.add_writer(fd, self._go_on, handle)
            elif error.errno in _GONE:  # its death, if that is why, will be heard of soon
                self._try_later(handle, GONE_SECONDS)
            else:
                first, longest = SEND_PAUSE
                self._try_later(handle, min(longest, first * 2 ** (handle.tries - 1)))

    def _try_later(self, handle: WorkerHandle, seconds: float) -> None:
        self._waiting[handle.id] = self._loop.call_later(seconds, self._try_again, handle)

    def _try_again(self, handle: WorkerHandle) -> None:
        """Send what could not be sent, give it up, or give the worker up."""
        error = handle.trouble
        if error is None:
            self._go_on(handle)
        elif error.errno in _GONE:
            self._discard(handle, "it has closed the socket on which it gets its tasks")
        elif error.errno not in _NO_ROOM:
            self._discard(handle, f"nothing can be sent to it: {error}")
        elif handle.tries <= SEND_TRIES:
            self._go_on(handle)
        else:
            self._give_up(handle, error)

    def _go_on(self, handle: WorkerHandle) -> None:
        self.stop(handle)
        handle.flush()
        self.send_rest(handle)

    def _give_up(self, handle: WorkerHandle, error: OSError) -> None:
        """Fail what the first message that waits was for: the system will have no room for it."""
        seqs = handle.drop_first()
        if not seqs:
            self._discard(handle, f"the system has no room for a message to it: {error}")
            return
        answers = [
            Answer(seq, Ended.RAISED, self._requests.not_sent(handle.id, seq, error), 0.0, 0.0)
            for seq in seqs
        ]
        self._feed(AttemptsNotSent(handle.id, answers))
        if not handle.closed:
            self._go_on(handle)

    def stop(self, handle: WorkerHandle) -> None:
        """Send no more to a worker than it has got, until it is given something else."""
        waits_for = self._waiting.pop(handle.id, None)
        if waits_for is None:
            return
        if not isinstance(waits_for, int):
            waits_for.cancel()
        elif not self._loop.is_closed():
            self._loop.remove_writer(waits_for)
