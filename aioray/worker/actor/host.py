"""Runs calls of an actor side by side: the main thread's part of it, whoever executes them.

Room: worker. The driver sends no more calls to a lane than may run at once there, so what is
claimed starts at once. The main thread claims, hands over, and is the only one that reads packets;
it runs no user code. Answers are written by whoever has executed the call. When one of them wants
to exit, its answer is the last; the main thread then leaves, and the threads with it: they are
daemons.
"""

from __future__ import annotations

import os
import select
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from ...client.current import share
from ...shared.wire import ANSWER, CLAIM, NOTE_UNUSED, ActorCallInfo, Status
from .. import output
from ..orphans import family

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CoroutineType

    from ...shared.wire import Attempt
    from ..loop import WorkerLoop
    from ..objects import AttemptHandles

__all__ = ["Host", "Lane"]

_BATCH = 64  # claims that are read at once
_LANE = ActorCallInfo._fields.index("lane")


class Lane(Protocol):
    """Where the calls of one concurrency group run."""

    def start(self, attempt: Attempt) -> None:
        """Have a call executed now, elsewhere."""
        ...


class Host:
    """The calls of one actor that run now."""

    def __init__(self, server: WorkerLoop, lanes: tuple[tuple[str, int], ...]) -> None:
        """Make the lanes, and let only the main thread read packets. lanes: see `wire.Creation`."""
        self.server = server
        # Of the actor, with what its `__init__` has set: each call runs in a copy.
        self.context = copy_context()
        self.lanes: dict[str, Lane] = {name: self.make_lane(name, limit) for name, limit in lanes}
        self._running: set[int] = set()  # seqs
        self._answering = threading.Lock()
        self._has_left = False  # no answer may follow
        self._reason: BaseException | None = None  # to leave
        self._wake = os.eventfd(0)  # says that there is one, or that a process was started
        family.wake = self._look
        server.answers.write = self._write
        server.channel.read_for_all()
        server.channel.cancel = self.cancel
        share()
        output.share()

    def make_lane(self, name: str, limit: int) -> Lane:
        """Make a lane for calls of this group, of which `limit` run at once."""
        raise NotImplementedError

    # -- the main thread

    def run(self) -> None:
        """Hand calls over until the driver closes the claims pipe. Raises SystemExit."""
        server, channel = self.server, self.server.channel
        poll = select.poll()
        for fd in (server.claims, channel.bundles.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        while self._reason is None:
            try:
                claims = os.read(server.claims, _BATCH * CLAIM.size)
            except BlockingIOError:
                channel.tell_news()
                if channel.unrung_bytes:
                    channel.ring()
                pause = family.look()
                ready = [fd for fd, _ in poll.poll(None if pause is None else pause * 1000)]
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if channel.bundles.fileno() in ready:
                    channel.read_if_free()
                continue
            if not claims:
                break
            for (seq,) in CLAIM.iter_unpack(claims):
                if seq:
                    self.start(channel.take(seq))
        while self._has_left and self._reason is None:
            os.eventfd_read(
                self._wake
            )  # who has is about to say so, and holds the actor until then
        channel.read_for_all(begin=False)  # hooks that run at exit may ask
        if self._reason is not None:
            raise self._reason

    def start(self, attempt: Attempt) -> None:
        """Have a call executed on its lane."""
        self._running.add(attempt.seq)
        self.server.show(attempt.name)
        self.lanes[attempt.role[_LANE]].start(attempt)

    def run_hook(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        """Run the coroutine that a hook of the actor has returned, when all else has ended."""
        from .. import coroutines

        coroutines.run(coroutine, self.server.interrupts)

    def stacks(self) -> str:
        """Tell where calls wait that are in no thread, as faulthandler would write it."""
        return ""

    def cancel(self, seq: int) -> None:
        """Act on a cancel that the channel has noted: forget that of a call that has just ended."""
        channel = self.server.channel
        if seq not in self._running and all(each.seq != seq for each in channel.queue):
            channel.cancelled.discard(seq)  # it has just ended

    # -- other threads

    def prepare(
        self, attempt: Attempt, use: AttemptHandles
    ) -> tuple[Callable[..., Any], list[Any]] | None:
        """Find what to call, and with what; None: that was cancelled or failed, and answered."""
        server = self.server
        started = time.monotonic()
        if attempt.seq in server.channel.cancelled:
            server.answers.answer(attempt.seq, Status.NOT_STARTED, b"", started, 0.0, use)
            return None
        return server.execution.prepare(attempt, use, started)

    def ended(self, attempt: Attempt) -> None:
        """Note that a call was answered."""
        server = self.server
        self._running.discard(attempt.seq)
        server.channel.cancelled.discard(attempt.seq)
        if not self._running:
            server.show(server.idle)
            if server.objects.spare:
                server.channel.note(NOTE_UNUSED, server.objects.take_unused())

    def leave(self, reason: BaseException) -> None:
        """Have the main thread end the process: a call has exited, or something is wrong."""
        self._reason = reason
        self._look()

    def _look(self) -> None:
        """Wake the main thread: to leave, or to look for orphans."""
        os.eventfd_write(self._wake, 1)

    def _write(self, frame: bytes) -> None:
        with self._answering:
            if not self._has_left:
                self._has_left = ANSWER.unpack_from(frame)[2] == Status.EXITED
                self.server.channel.write(frame)
