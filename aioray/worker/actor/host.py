"""Runs calls of an actor side by side: the main thread's part of it, whoever executes them.

Room: worker. The driver sends no more calls to a concurrency group than may run at once there, so
what is claimed starts at once. The main thread claims, hands over, and is the only one that reads
messages; it runs no user code. Where there is only one event loop, that claims what is sent alone.
Answers are written by whoever has executed the call. When one of them wants to exit, its answer is
the last; the main thread then leaves, and the threads with it: they are daemons.
"""

from __future__ import annotations

import os
import select
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from ...client.current import execution_context, running, share
from ...shared.wire import ANSWER, CLAIM, NOTE_UNUSED, ActorCallInfo, Status
from .. import output
from ..orphans import family

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CoroutineType

    from ...shared.wire import Attempt
    from ..loop import WorkerLoop
    from ..objects import AttemptHandles
    from .timed import TimedCalls

__all__ = ["ConcurrencyGroup", "Host"]

_BATCH = 64  # claims that are read at once
_GROUP = ActorCallInfo._fields.index("concurrency_group")
_TIMED = ActorCallInfo._fields.index("timed")


class ConcurrencyGroup(Protocol):
    """Where the calls of one concurrency group run."""

    def start(self, attempt: Attempt) -> None:
        """Have a call executed now, elsewhere."""
        ...


class Host:
    """The calls of one actor that run now."""

    def __init__(self, server: WorkerLoop, limits: tuple[tuple[str, int], ...]) -> None:
        """Make the concurrency groups, and let only the main thread read packets.

        limits: how many calls of each group run at once, see `wire.Creation`.
        """
        self.server = server
        # Of the actor, with what its `__init__` has set: each call runs in a copy.
        self.context = copy_context()
        self.groups: dict[str, ConcurrencyGroup] = {
            name: self.make_group(name, limit) for name, limit in limits
        }
        self._running: set[int] = set()  # seqs
        self._timed: TimedCalls | None = None  # those of them that have time limits
        self._answering = threading.Lock()
        self._has_left = False  # no answer may follow
        self._reason: BaseException | None = None  # to leave
        self.takes_singles = False  # a loop claims what is sent alone
        self._wake = os.eventfd(0)  # says that there is one, or that a process was started
        family.wake = self._look
        server.answers.write = self._write
        server.channel.read_for_all()
        server.channel.cancel = self.cancel
        execution_context.beat = self.beat
        share()
        output.share()

    def make_group(self, name: str, limit: int) -> ConcurrencyGroup:
        """Make what runs the calls of this group, of which `limit` run at once."""
        raise NotImplementedError

    # -- the main thread

    def run(self) -> None:
        """Hand calls over until the driver closes the claims pipe. Raises SystemExit."""
        server, channel = self.server, self.server.channel
        singles, bundles = channel.singles, channel.bundles.fileno()
        poll = select.poll()
        # In this order, so that a single is seen if what was sent after it is.
        for fd in (server.claims, bundles, self._wake):
            poll.register(fd, select.POLLIN)
        if not self.takes_singles:
            poll.register(singles, select.POLLIN)
        may_claim = False
        while self._reason is None:
            if not may_claim:
                ready = self._wait(poll)
                may_claim = server.claims in ready
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if singles in ready:
                    single = channel.take_single()
                    if single is not None:
                        self.start(single)
                if bundles in ready:
                    channel.read_if_free()
                continue
            try:
                claims = os.read(server.claims, _BATCH * CLAIM.size)
            except BlockingIOError:
                may_claim = False
                continue
            if not claims:
                break
            for (seq,) in CLAIM.iter_unpack(claims):
                if seq:
                    self.start(channel.take_attempt(seq))
        while self._has_left and self._reason is None:
            os.eventfd_read(
                self._wake
            )  # who has is about to say so, and holds the actor until then
        channel.read_for_all(begin=False)  # hooks that run at exit may ask
        if self._reason is not None:
            raise self._reason

    def _wait(self, poll: select.poll) -> set[int]:
        """Say what is left to say, and sleep until there is something to do: where."""
        channel = self.server.channel
        channel.tell_news()
        if channel.unrung_bytes:
            channel.ring()
        pause = family.reap()
        return {fd for fd, _ in poll.poll(None if pause is None else pause * 1000)}

    def start(self, attempt: Attempt) -> None:
        """Have a call executed in its concurrency group."""
        self.begin(attempt)
        self.groups[attempt.role[_GROUP]].start(attempt)

    def begin(self, attempt: Attempt) -> None:
        """Note that a call runs from now on."""
        self._running.add(attempt.seq)
        if self._timed is None and attempt.role[_TIMED]:
            self._expect_timed()
        self.server.show(attempt.name)

    def _expect_timed(self) -> None:
        from .timed import TimedCalls

        with self._answering:  # only one thread may make it
            if self._timed is None:
                self._timed = TimedCalls(self.server.page)

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

    def beat(self, at: float | None = None) -> None:
        """Note that the call which this code belongs to gets on; if it belongs to none, all do."""
        call = running.get()
        if call is None:
            self.server.beat(at)
        elif self._timed is not None:
            self._timed.beat(call.attempt.seq, at)

    def prepare(
        self, attempt: Attempt, use: AttemptHandles
    ) -> tuple[Callable[..., Any], list[Any]] | None:
        """Find what to call, and with what; None: that was cancelled or failed, and answered."""
        server = self.server
        started = time.monotonic()
        if self._timed is not None and attempt.role[_TIMED]:
            self._timed.enter(attempt.seq)
        if attempt.seq in server.channel.cancelled:
            server.answers.answer(attempt.seq, Status.NOT_STARTED, b"", started, 0.0, use)
            return None
        return server.execution.prepare(attempt, use, started)

    def ended(self, attempt: Attempt) -> None:
        """Note that a call was answered."""
        server = self.server
        self._running.discard(attempt.seq)
        if self._timed is not None:
            self._timed.leave(attempt.seq)
        server.channel.cancelled.discard(attempt.seq)
        if not self._running:
            self.rest()
            if server.objects.spare:
                server.channel.note(NOTE_UNUSED, server.objects.take_unused())

    def rest(self) -> None:
        """Show that no call runs."""
        self.server.show(self.server.idle)

    @property
    def runs_any(self) -> bool:
        """Whether a call runs."""
        return bool(self._running)

    @property
    def is_leaving(self) -> bool:
        """Whether no call may begin any more."""
        return self._has_left or self._reason is not None

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
