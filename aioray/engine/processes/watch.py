"""Watches what memory attempts use, and how much the machine has left; the core decides about it.

Room: engine. All looking is done in a thread of its own, as the kernel may take milliseconds for an
answer. There is none before something is to be looked at, and it sleeps while nothing runs. Only
the memory that a worker has before an attempt with a limit is asked for on the loop, when the
attempt is sent, and what it has at the end, when it has answered: later there could be another.

What counts is what the attempt adds, in its worker and all processes below it: what others have
left behind in the worker is nobody's fault now. An attempt is looked at every `PERIOD`, and more
often at its beginning and when it grows so fast that it would reach its limit before.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from ...core.events import MemoryMeasured, MemoryRanShort
from ..telemetry.memory_texts import killed_text, nobody_text
from .cgroups import MemoryCgroups
from .readings import MachineMemory, MemoryUse, family_of, own_memory, shares_of_own_memory

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from ...core.commands import ReportMemoryShort
    from ...core.events import Event
    from ...core.model import Task
    from ...core.outcomes import Answer, Excess
    from ...options.task import InitOptions
    from .handle import WorkerHandle

__all__ = ["MemoryWatch"]

logger = logging.getLogger("aioray")

PERIOD = 0.25  # seconds between two looks at an attempt, at most
SHORTEST = 0.005  # and at least
JOIN_SECONDS = 5.0  # that the thread may take to end; it is in the middle of a look at most


class Measure:
    """What is known of the memory of one attempt with a limit."""

    __slots__ = ("at", "began", "due", "handle", "held", "lasts", "limit", "peak", "seq", "used")

    def __init__(
        self, handle: WorkerHandle, seq: int, limit: int, held: int, now: float, *, lasts: bool
    ) -> None:
        """Begin with nothing used. lasts: it makes an actor, whose limit it is from then on."""
        self.handle = handle
        self.seq = seq
        self.limit = limit
        self.held = held  # bytes that the worker has had before
        self.lasts = lasts
        self.began = now
        self.due = now + SHORTEST
        self.used = 0  # bytes, at the last look
        self.at = now  # when that was
        self.peak = 0

    def note(self, used: int, now: float) -> None:
        """Note what was seen, and plan the next look."""
        pause = min(PERIOD, max(SHORTEST, now - self.began))
        growth = (used - self.used) / max(now - self.at, 1e-6)
        if growth > 0:
            pause = min(pause, max(SHORTEST, (self.limit - used) / growth / 2))
        self.used, self.at = used, now
        self.peak = max(self.peak, used)
        self.due = math.inf if used > self.limit else now + pause


class MemoryWatch:
    """What looks after the memory of one engine's workers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event], None],
        post: Callable[[Callable[[], None]], None],
        settings: InitOptions,
        handles: Callable[[], Sequence[WorkerHandle]],
        is_busy: Callable[[], bool],
        tasks_of: Callable[[Iterable[int]], list[Task]],
        machine: Callable[[], Sequence[MemoryUse]] | None = None,
    ) -> None:
        """Watch nobody yet.

        feed: takes what the core is to know; post: calls something on the loop, from any thread.
        handles: the workers that there are. is_busy: whether any of them runs something, for the
        thread. tasks_of: what those run that have these ids. machine: looks at it; None: in /proc.
        """
        self._loop = loop
        self._feed = feed
        self._post = post
        self._handles = handles
        self._is_busy = is_busy
        self._tasks_of = tasks_of
        self._machine = machine
        self._period = settings.memory_monitor_period  # seconds; 0: the machine is not looked at
        self._threshold = settings.memory_usage_threshold
        self._min_free = settings.min_memory_free
        self._measures: dict[int, Measure] = {}  # by seq
        self._cgroups = MemoryCgroups(settings.object_store_memory)
        self._is_told = False  # of a shortage, and the core has not dealt with it yet
        self._due = 0.0  # when the machine is looked at again
        self._thread: threading.Thread | None = None
        self._start: asyncio.TimerHandle | None = None
        self._wake = threading.Event()
        self._asleep = False
        self._ended = False

    # ------------------------------------------------------------ on the loop

    def sent(self, handle: WorkerHandle, tasks: Sequence[Task]) -> None:
        """Look after attempts that are about to be sent."""
        limits = tasks[0].kind.limits
        if limits is not None and limits.memory_limit is not None:
            self._forget_what_never_ran(handle)
            for each in tasks:
                self._begin(handle, each)
        elif self._thread is None and self._start is None and self._period:
            self._start = self._loop.call_later(self._period, self._run)
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def _begin(self, handle: WorkerHandle, task: Task) -> None:
        limits = task.limits
        if limits is None or limits.memory_limit is None or handle.pid is None:
            return
        held = sum(map(own_memory, family_of(handle.pid)))
        lasts = task.actor is not None
        self._measures[task.seq] = Measure(
            handle, task.seq, limits.memory_limit, held, time.monotonic(), lasts=lasts
        )
        self._cgroups.hold(handle.id, handle.pid, limits.memory_limit)
        handle.watch = self
        self._run()
        self._wake.set()

    def _forget_what_never_ran(self, handle: WorkerHandle) -> None:
        """Forget attempts that were taken back from a worker, as by a cancel."""
        if handle.watch is not None:
            there = {task.seq for task in self._tasks_of([handle.id])}
            for seq, each in tuple(self._measures.items()):
                if each.handle is handle and not each.lasts and seq not in there:
                    del self._measures[seq]

    def answered(self, handle: WorkerHandle, answers: Iterable[Answer]) -> None:
        """Look for the last time at attempts that have answered, before the core hears of that."""
        for answer in answers:
            measure = self._measures.get(answer.seq)
            if measure is None:
                continue
            if not measure.lasts:
                del self._measures[answer.seq]
                self._cgroups.release(handle.id)
            used = _used(measure, is_quick=True)
            if used > measure.limit:
                self._feed(MemoryMeasured(handle.id, answer.seq, used))

    def dies(self, handle: WorkerHandle) -> None:
        """Tell the core of a worker that the kernel has killed for its limit, before it is dead."""
        if self._cgroups.has_killed(handle.id):
            for seq, measure in tuple(self._measures.items()):
                if measure.handle is handle:
                    used = max(measure.peak, measure.limit + 1)
                    self._feed(MemoryMeasured(handle.id, seq, used))

    def gone(self, handle: WorkerHandle) -> None:
        """Forget a worker that is dead."""
        if handle.watch is not None:
            self._cgroups.remove(handle.id)
            for seq in [seq for seq, each in self._measures.items() if each.handle is handle]:
                del self._measures[seq]

    def condemned(self, handle: WorkerHandle, excess: Excess) -> None:
        """Note why a worker is killed, for its memory, and say so in the log."""
        handle.excess = excess
        tasks = self._tasks_of([handle.id])
        names = [task.name for task in tasks if excess.seq in (0, task.seq)]
        logger.warning("%s", killed_text(excess, handle.pid, names, self._threshold))

    def tell_of_nobody(self, command: ReportMemoryShort) -> None:
        """Say in the log that memory runs short, and no worker is to blame."""
        logger.warning("%s", nobody_text(command.shortage, self._threshold))

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._wake.set()
        if self._start is not None:
            self._start.cancel()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
            self._thread = None

    def _run(self) -> None:
        """Start the thread, unless it is there."""
        if self._start is not None:
            self._start.cancel()
            self._start = None
        if self._thread is None and not self._ended:
            thread = threading.Thread(target=self._keep_on, name="aioray-memory", daemon=True)
            # There may be no room for one, then the next task tries again, or Python is ending.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    # ------------------------------------------------------------ in the thread

    def _keep_on(self) -> None:
        if self._machine is None and self._period:
            self._machine = MachineMemory().look
        while not self._ended:
            try:
                pause = self._look(time.monotonic())
            except Exception:
                logger.exception("A look at the memory has failed; the next one is later.")
                pause = PERIOD
            self._wake.wait(pause)
            self._wake.clear()

    def _look(self, now: float) -> float | None:
        """Look at what is due; return the seconds until the next look, None: until woken."""
        if not self._is_running():
            return None
        for measure in tuple(self._measures.values()):
            if measure.due <= now:
                used = _used(measure)
                measure.note(used, time.monotonic())
                if used > measure.limit:
                    self._say(MemoryMeasured(measure.handle.id, measure.seq, used))
        due = [each.due for each in tuple(self._measures.values())]
        if self._period:
            if self._due <= now:
                self._due = now + self._period
                self._look_at_machine()
            due.append(self._due)
        soonest = min(due, default=math.inf)
        return None if soonest == math.inf else max(0.0, soonest - time.monotonic())

    def _is_running(self) -> bool:
        """Tell whether anything runs; if not, `sent` is to wake us."""
        if self._is_busy():
            return True
        self._asleep = True
        if not self._is_busy():
            return False
        self._asleep = False  # it was sent just now
        return True

    def _look_at_machine(self) -> None:
        if self._shortage() is None or self._is_told:
            return
        measures = [
            (handle.id, sum(map(own_memory, family_of(pid))))
            for handle in self._handles()
            if (pid := handle.pid) is not None
        ]
        short = self._shortage()  # still
        if short is not None:
            use, allowed = short
            self._is_told = True
            self._say(MemoryRanShort(use.used, use.total, allowed, measures))

    def _shortage(self) -> tuple[MemoryUse, int] | None:
        """Return who has less left than is wanted: the machine, or a container; None: nobody."""
        assert self._machine is not None
        found = []
        for use in self._machine():
            allowed = use.allowed(self._threshold, self._min_free)
            if use.used > allowed:
                found.append((use, allowed))
        return max(found, key=lambda each: each[0].used / each[0].total, default=None)

    def _say(self, event: Event) -> None:
        with contextlib.suppress(Exception):  # the engine has ended
            self._post(functools.partial(self._take, event))

    def _take(self, event: Any) -> None:
        self._is_told = False
        if not self._ended:
            self._feed(event)


def _used(measure: Measure, *, is_quick: bool = False) -> int:
    """Return the bytes that an attempt has added; is_quick: too few rather than slowly."""
    handle = measure.handle
    if handle.pid is None or handle.closed:
        return 0
    family = family_of(handle.pid)
    own = own_memory(handle.pid)
    if len(family) > 1 and own - measure.held <= measure.limit:
        total = own + sum(map(own_memory, family[1:]))
        if total - measure.held > measure.limit:
            # Pages of a fork are in it twice. Now each once; but before they were counted in full.
            total = own if is_quick else max(own, shares_of_own_memory(family))
        own = total
    return own - measure.held
