"""What feeds the core of an engine without a loop: whoever calls does the work, before it returns.

Room: local. What is posted is handled at once, under a lock, by the thread that posts it, which
then runs what has become ready: so a task has run when `.remote()` returns. User code runs without
the lock. Nobody sleeps through a backoff: when nothing is left to run, the clock is put forward to
the end of the next one, and the delays of a RetryPolicy are kept, but take no time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from ..core.events import AttemptWaits, TimerFired, WorkerBlocked, WorkerUnblocked
from ..core.facts import (
    BackoffEnded,
    PauseEnded,
    ProgressOverdue,
    SpareLookDue,
    StarvationLookDue,
    StopOverdue,
    SurplusLookDue,
    WorkerAged,
)
from ..core.states import TaskStatus
from ..engine.mailbox import Mailbox
from ..shared.printable import printable
from .worker import running_call

if TYPE_CHECKING:
    import functools
    from collections.abc import Callable, Iterator, Sequence

    from ..core.events import Event
    from ..core.model import Task
    from ..core.scheduler import Scheduler
    from .worker import InProcessCall

__all__ = ["InlineMailbox"]

# What starts no task, and ends none.
_IDLE = ProgressOverdue, StarvationLookDue, SpareLookDue, StopOverdue, SurplusLookDue, WorkerAged
LONGEST_WAIT = 3600.0  # seconds; whoever waits looks again then


class InlineMailbox(Mailbox):
    """The way into an engine that has no thread of its own."""

    _core: Scheduler

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Take what `Mailbox` takes."""
        self._is_open = False
        super().__init__(*args, **settings)
        self.skipped = 0.0  # seconds by which the clock was put forward
        self.changed = threading.Condition(threading.RLock())
        self.run_ready: Callable[[], bool] = lambda: False  # runs one thing that is ready, if any
        self._feeder = 0  # the thread that feeds the core now

    @property
    def thread_id(self) -> int:
        """The thread in which the engine works: any that asks."""
        return threading.get_ident()

    @thread_id.setter
    def thread_id(self, _ident: int) -> None:
        pass

    def open(self) -> None:
        """Take what is posted from now on."""
        self._is_open = True

    def feed(self, event: Event | functools.partial[None]) -> None:
        """See `Mailbox.feed`."""
        with self.changed:
            before, self._feeder = self._feeder, threading.get_ident()
            try:
                super().feed(event)
            finally:
                self._feeder = before
                self.changed.notify_all()

    def _set_timer(self, deadline: float) -> None:
        """Set none: whoever calls, or waits, looks at the time."""

    def post(self, item: Task | Callable[[], None]) -> None:
        """Have a task submitted or a function called now, and what follows from it done."""
        if not self._is_open:
            raise RuntimeError("The engine is not started.")
        self._inbox.append(item)
        if self._feeder == threading.get_ident():
            return  # a finalizer has come between; whoever feeds will see to it
        here = running_call.get()
        with self.holding(here):
            self.work()
        if here is not None:
            here.check()

    @contextlib.contextmanager
    def holding(self, call: InProcessCall | None, waits_for: Sequence[Task] = ()) -> Iterator[None]:
        """Let others have the CPUs of a call that has come to aioray, until it goes on.

        waits_for: without which it never will.
        """
        if call is None or call.worker.gone:
            yield
            return
        worker_id, seq = call.worker.id, call.attempt.seq
        self.feed(WorkerBlocked(worker_id, seq))
        if waits_for:
            self.feed(AttemptWaits(worker_id, seq, waits_for))
        try:
            yield
        finally:
            if waits_for:
                self.feed(AttemptWaits(worker_id, seq, ()))
            self.feed(WorkerUnblocked(worker_id, seq))

    def work(self) -> None:
        """Handle what was posted, and run what is ready, until nothing is left to do."""
        while True:
            with self.changed:
                before, self._feeder = self._feeder, threading.get_ident()
                try:
                    super().drain()
                finally:
                    self._feeder = before
                    self.changed.notify_all()
                self._fire()
            if self.run_ready() or self._inbox:
                continue
            if not self._skip():
                return

    def drain(self) -> None:
        """Handle what was posted until now, and what follows from it."""
        if self._feeder != threading.get_ident():
            self.work()

    def _fire(self) -> None:
        """Let the core know of timers that are due."""
        deadline = self._core.next_deadline()
        if deadline is not None and deadline <= self._clock() and not self.ended:
            self.feed(TimerFired())

    def _skip(self) -> bool:
        """Put the clock forward to the end of the next backoff; False: there is none."""
        with self.changed:
            if self._core.next_deadline() is None or self.ended:
                return False
            for timer in self._core.turn.timers:
                fact = timer.fact
                if isinstance(fact, PauseEnded) or (
                    isinstance(fact, BackoffEnded) and fact.task.state is TaskStatus.BACKOFF
                ):
                    self.skipped += max(0.0, timer.when - self._clock())
                    self.feed(TimerFired())
                    return True
        return False

    def wait_until(
        self,
        is_over: Callable[[], bool],
        timeout: float | None,
        tasks: Sequence[Task] = (),
    ) -> bool:
        """Block until something is over; False if the time is over before.

        tasks: for which is waited. Raises RuntimeError if nobody is there who could end the wait.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        here = running_call.get()
        with self.holding(here, tasks if timeout is None else ()):
            while True:
                self.work()
                with self.changed:
                    if is_over():
                        break
                    if self._inbox:
                        continue
                    left = LONGEST_WAIT
                    if deadline is not None:
                        left = min(left, deadline - time.monotonic())
                        if left <= 0:
                            return False
                    if deadline is None and self._is_alone():
                        raise RuntimeError(_for_ever(tasks))
                    due = self._core.next_deadline()
                    if due is not None:
                        left = min(left, max(0.0, due - self._clock()) + 0.001)
                    self.changed.wait(left)
        if here is not None:
            here.check()
        return True

    def _is_alone(self) -> bool:
        """Tell whether no other thread, and no timer, can change what this one waits for."""
        return threading.active_count() == 1 and all(
            isinstance(timer.fact, _IDLE) for timer in self._core.turn.timers
        )

    def do_now(self, action: Callable[[], Any]) -> Any:
        """Do something after what was asked for before, and what follows from it."""
        self.drain()
        with self.changed:
            result = action()
        self.drain()
        return result

    def on_thread(self, action: Callable[[], None]) -> None:
        """Do something now."""
        with self.changed:
            action()
        self.drain()

    def in_own_thread(self) -> bool:
        """Return False: no thread is the engine's, so everybody may wait for it."""
        return False

    def between_runs(self) -> bool:
        """Return False: there is no loop."""
        return False


def _for_ever(tasks: Sequence[Task]) -> str:
    """Say that a wait would have no end."""
    names = ", ".join(sorted({printable(task.name) for task in tasks})) or "what is waited for"
    return (
        f"This would wait for ever: nothing runs in local mode that could finish {names}. It asks "
        f"for more than there is, or it waits for whoever waits here. Give get() a timeout to have "
        f"GetTimeoutError instead."
    )
