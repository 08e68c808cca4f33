"""What feeds the core of one engine: the inbox of all threads, and the backoff coroutine.

Room: engine. All state changes on one thread, that of the event loop, without locks. Other threads
`post` tasks and calls in one deque and wake the loop once for many; the tasks of one wake-up become
one event. A task that comes on that thread when there is no other is handled at once. `feed` hands
an event to the core and carries out what that orders, one event after the other: what an order
makes happen at once is handled after it. Who waits for what came of that is called back at the end.

The core names the next time at which it wants to be called, and the *backoff coroutine* sleeps
until then and feeds it: so a retry waits for the end of its backoff, and what is cancelled for the
next rung of its ladder. One coroutine and one timer serve all of them, however many wait.

A bug, or what a signal's handler raises into all this, leaves things half done: then every task
gets an error and everything ends, so that nobody waits for ever. The same if somebody has closed
the engine's descriptors, see `processes.descriptors`. Knows neither workers nor refs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ..core.commands import ResolveFailure, ResolveValues
from ..core.events import TasksSubmitted, TimerFired
from ..core.model import Task
from .processes.descriptors import TEXT, DescriptorsClosedError, park

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ..core.commands import Command
    from ..core.events import Event
    from .processes.descriptors import Sentinel

__all__ = ["Core", "Mailbox"]

logger = logging.getLogger("aioray")

LOSS_SECONDS = 5.0  # that a thread waits for the engine's to tell everybody of a loss
TIMER_STEP = 0.001  # seconds; uvloop fires anything shorter at once


class Core(Protocol):
    """What decides, as seen by the mailbox: see `aioray.core.scheduler.Scheduler`."""

    next_deadline: Callable[[], float | None]

    @property
    def unfinished(self) -> Collection[Any]:
        """Those tasks of which something is left to be done."""
        ...

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """Take one fact, and return what has to be done about it, in order."""
        ...

    def unfinished_tasks(self) -> Iterable[Task]:
        """Return the tasks that have no outcome yet."""
        ...


class Mailbox:
    """The way into one engine, and how far its end has come."""

    def __init__(
        self,
        core: Core,
        clock: Callable[[], float],
        *,
        fail: Callable[[Task, str], None],
        close: Callable[[], None],
        let_go: Callable[[], None],
    ) -> None:
        """Take in what is posted; nothing is handled before there is a loop.

        clock: in monotonic seconds. fail: gives a task an error with this text; close: ends the
        engine; let_go: does so without touching a descriptor. All three once everything has failed.
        """
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread_id = 0  # of the loop's thread
        self.owns_thread = False  # it serves nobody else
        self.orders: dict[type[Any], Callable[[Any], None]] = {}  # by command: what carries it out
        self.after_tasks: Callable[[], None] | None = None  # called when some were submitted
        self.ended = False
        self.sentinel: Sentinel | None = None  # tells whether our descriptors are still ours
        self.is_lost = False  # they are not
        self.forgotten = False  # whoever has made the engine knows that it is lost
        self._core = core
        self._clock = clock
        self._fail = fail
        self._close = close
        self._let_go = let_go
        self._loss_is_told = threading.Event()
        self._inbox: deque[Task | Callable[[], None]] = deque()
        self._awake = False
        # What has happened and is to be handled; or something to be done between two such things.
        self._events: deque[Event | functools.partial[None]] = deque()
        self._feeding = False
        self._called_back: deque[Callable[[], None]] = deque()  # soon
        self._calls_back = False  # in this pass of the loop
        self._in_pass = False  # something is done that the loop has called for
        self.backoff: asyncio.Task[None] | None = None  # the coroutine, as soon as there is a loop
        self._alarm: asyncio.Future[None] | None = None  # what it sleeps on
        self._timer: asyncio.TimerHandle | None = None  # what will wake it
        self._timer_at = 0.0

    def begin(self, loop: asyncio.AbstractEventLoop, *, owns_thread: bool) -> None:
        """Handle on this loop, which runs here, what is posted.

        owns_thread: its thread serves nobody else.
        """
        self.loop = loop
        self.thread_id = threading.get_ident()
        self.owns_thread = owns_thread
        self._start_backoff(loop)

    def feed(self, event: Event | functools.partial[None]) -> None:
        """Hand an event to the core and carry out what it orders, and what follows from that.

        A partial is called when what came before it has been handled.
        """
        if self.is_lost:
            return
        events = self._events
        events.append(event)
        if self._feeding:
            return
        self._feeding = True
        commands: Sequence[Command] = ()
        try:
            handle, do, clock = self._core.handle, self.orders, self._clock
            while events:
                event = events[0]
                if type(event) is functools.partial:
                    event()
                else:
                    commands = handle(event, clock())  # type: ignore[arg-type]
                    for command in commands:
                        do[type(command)](command)
                events.popleft()
        except BaseException as error:
            # A bug here, or an interrupt that has left things half done: nobody may wait for ever.
            if self.fail_everything(error, commands):
                return
            raise
        finally:
            self._feeding = False
        if self.owns_thread and self.sentinel is not None and not self.sentinel.is_intact():
            self._park_if_lost()
        deadline = self._core.next_deadline()
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            self._set_timer(deadline)

    def fail_everything(self, error: BaseException, commands: Sequence[Command] = ()) -> bool:
        """Give every ref an error and every process its end: the engine itself has failed.

        commands: those that were being carried out; some were not. Returns False if it was
        interrupted, and the error is somebody else's.
        """
        if self.lost:
            error = DescriptorsClosedError()  # whatever it looks like
        is_loss = isinstance(error, DescriptorsClosedError)
        is_bug = isinstance(error, Exception) and not _is_of_a_signal(error)
        if is_loss:
            text = TEXT
            logger.critical("%s", text)
        elif is_bug:
            text = f"The engine has failed internally, which is a bug in aioray: {error!r}"
            logger.critical("aioray has failed internally and ends this session.", exc_info=error)
        else:
            text = _interrupted(error)
            logger.error("%s", text)
        tasks = list(self._core.unfinished_tasks())
        for command in commands:
            if type(command) is ResolveFailure:
                tasks.append(command.task)
            elif type(command) is ResolveValues:
                tasks.extend(task for task, _ in command.results)
        for event in self._events:
            if type(event) is TasksSubmitted:
                tasks.extend(event.tasks)
        tasks.extend(item for item in self._inbox if isinstance(item, Task))
        self._events.clear()
        if not is_loss:
            self._inbox.clear()
        for task in tasks:
            self._fail(task, text)
        if is_loss:
            self._let_go()
            if self.owns_thread and threading.get_ident() == self.thread_id:
                self._call_back()
                park()  # its loop would abort the process
        else:
            self._close()
        return is_bug

    def abandon(self) -> None:
        """Take nothing more, having lost everything, and let nobody wait for what was asked."""
        self.ended = self.is_lost = True
        self._timer = None
        later = [item for item in self._inbox if not isinstance(item, Task)]
        self._inbox.clear()
        for item in later:  # somebody may wait for it to be done
            with contextlib.suppress(Exception):
                item()
        self._loss_is_told.set()

    def end(self) -> None:
        """Take nothing more; what came too late is still handled, and gets its error."""
        self.drain()
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.backoff is not None and self.loop is not None and not self.loop.is_closed():
            self.backoff.cancel()

    def _set_timer(self, deadline: float) -> None:
        """Have the backoff coroutine wake at the deadline, and not before."""
        if self._timer is not None:
            self._timer.cancel()
        if self.loop is not None and not self.loop.is_closed():
            self._timer_at = deadline
            delay = max(0.0, deadline - self._clock()) + TIMER_STEP
            self._timer = self.loop.call_later(delay, self._wake, self.loop)

    def _start_backoff(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the backoff coroutine begin to sleep."""
        self._alarm = loop.create_future()
        self.backoff = loop.create_task(self._back_off(loop, self._alarm), name="aioray-backoff")
        self.backoff.add_done_callback(_report)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the sleep of the backoff coroutine."""
        self._timer = None
        if self.ended:  # this was set by what came after the end
            return
        if self.backoff is None or self.backoff.done():  # ended from outside, as by Ctrl-C
            self._start_backoff(loop)
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def _back_off(self, loop: asyncio.AbstractEventLoop, alarm: asyncio.Future[None]) -> None:
        """Sleep until a backoff is over, or the core wants to be called otherwise, and feed it.

        What it sleeps until may be moved meanwhile, without waking it: see `_set_timer`.
        """
        while not self.ended:
            await alarm
            alarm = self._alarm = loop.create_future()
            if self._timer is not None:
                self._timer.cancel()  # set since the alarm
                self._timer = None
            self.feed(TimerFired())

    def post(self, item: Task | Callable[[], None]) -> None:
        """Have a task submitted or a function called on the engine's thread, in order."""
        if self.is_lost:
            raise DescriptorsClosedError
        loop = self.loop
        if loop is None:
            raise RuntimeError("The engine is not started.")
        self._inbox.append(item)
        if not self._awake:
            if self.sentinel is not None and not self.sentinel.is_intact():
                self.refuse_lost()
            is_own = threading.get_ident() == self.thread_id
            if (
                is_own
                and isinstance(item, Task)
                and not self._feeding
                and not self._core.unfinished
            ):
                self.drain()  # as the loop would next, if it has nothing else to do
                return
            self._awake = True
            try:
                if is_own:
                    loop.call_soon(self.drain)
                else:
                    loop.call_soon_threadsafe(self.drain)
            except RuntimeError:
                self._awake = False
                raise RuntimeError("The engine's event loop is closed.") from None

    def drain(self) -> None:
        """Handle what was posted until now, in order."""
        self._awake = False  # before looking: whatever comes from now on wakes again
        inbox = self._inbox
        tasks: list[Task] = []
        while inbox:
            item = inbox.popleft()
            if isinstance(item, Task):
                tasks.append(item)
                continue
            if tasks:
                self.feed(TasksSubmitted(tasks))
                tasks = []
            try:
                item()  # the rest are callables
            except BaseException as error:
                if self.ended or not self.fail_everything(error):
                    raise
                return
        if tasks:
            self.feed(TasksSubmitted(tasks))
            if self.after_tasks is not None:
                self.after_tasks()
        elif self.owns_thread and self.sentinel is not None and not self.sentinel.is_intact():
            self._park_if_lost()

    def in_pass(self, action: Callable[..., object], *args: Any) -> None:
        """Do what the loop has called for, then call back whoever has waited for what it gives."""
        self._calls_back = self._in_pass = True
        try:
            action(*args)
        finally:
            self._calls_back = self._in_pass = False
            if self._called_back:
                self._call_back()

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call back when the loop is about to sleep, or at once if it has not called for this.

        A thread that is woken in between only waits for the interpreter.
        """
        if self._in_pass:
            self._called_back.append(callback)
        else:
            callback()

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call back when what is in hand was handled. See `aioray.client.protocol.Client`."""
        self._called_back.append(callback)
        if not self._calls_back and len(self._called_back) == 1:
            self._call_back_soon()

    def _call_back_soon(self) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        called_back = self._called_back
        self._calls_back = True
        try:
            for _ in range(len(called_back)):
                called_back.popleft()()
        finally:  # user code runs there, which may raise SystemExit, or make others go on
            self._calls_back = False
            if called_back:
                self._call_back_soon()

    def do_now(self, action: Callable[[], Any]) -> Any:
        """Have something done on the engine's thread, after what was asked for before."""
        if threading.get_ident() == self.thread_id:
            self.drain()
            return action()
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def act() -> None:
            try:
                done.set_result(action())
            except BaseException as bug:
                done.set_exception(bug)  # the caller must not wait for ever
                raise

        self.post(act)
        return done.result()

    def on_thread(self, action: Callable[[], None]) -> None:
        """Do something now if this is the engine's thread, else soon, in order."""
        if threading.get_ident() == self.thread_id:
            action()
        else:
            self.post(action)

    def in_own_thread(self) -> bool:
        """Tell whether this is the engine's thread, and the engine has not ended."""
        return threading.get_ident() == self.thread_id and not self.ended

    def between_runs(self) -> bool:
        """Tell whether this thread could run the loop, which nobody runs now."""
        loop = self.loop
        if loop is None or not self.in_own_thread() or loop.is_running() or loop.is_closed():
            return False
        return asyncio._get_running_loop() is None

    @property
    def closed(self) -> bool:
        """Whether the engine can do nothing more: shut down, its loop closed, or a fork's copy."""
        if self.is_lost and not self.forgotten:
            return False  # it still tells every caller why
        return self.ended or (self.loop is not None and self.loop.is_closed())

    @property
    def lost(self) -> bool:
        """Whether somebody has closed the engine's descriptors: then `forget_all` is its end."""
        if self.is_lost:
            return True
        return not (self.ended or self.sentinel is None or self.sentinel.is_intact())

    def _park_if_lost(self) -> None:
        """Fail everything, if descriptors are lost, before libuv is in control again and aborts.

        The canary comes only when the loop sleeps.
        """
        if self.lost:
            self.fail_everything(DescriptorsClosedError())

    def refuse_ended(self) -> None:
        """Raise RuntimeError if the engine has ended."""
        if self.ended:
            self.refuse_lost()
            raise RuntimeError("This engine is shut down. Start another one.")

    def refuse_lost(self) -> None:
        """Raise DescriptorsClosedError if everything is lost, and see to it that all are told."""
        if not self.lost:
            return
        if threading.get_ident() == self.thread_id or self.is_lost:
            if not self.ended:
                self.fail_everything(DescriptorsClosedError())
        else:  # the canary has told the engine's thread, or is about to
            self._loss_is_told.wait(LOSS_SECONDS)
            self.is_lost = True
        raise DescriptorsClosedError


def _report(task: asyncio.Task[None]) -> None:
    """Report what has ended a coroutine as the loop reports what a callback raises."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        message = f"{error!r} was raised into {task.get_name()}"
        task.get_loop().call_exception_handler(
            {"message": message, "exception": error, "task": task}
        )


def _is_of_a_signal(error: BaseException) -> bool:
    """Tell whether a handler of a signal has raised an error, in the midst of whatever went on."""
    handlers = {signal.getsignal(number) for number in signal.valid_signals()}
    codes = {getattr(getattr(each, "__func__", each), "__code__", None) for each in handlers}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _interrupted(error: BaseException) -> str:
    """Say why everything has ended after what a handler of a signal has raised."""
    return (
        f"This session has ended: {error!r} was raised into the engine while it worked, as by a "
        f"handler of a signal, and what it did is half done. Let such handlers raise nothing in "
        f"the thread of the event loop: add them with loop.add_signal_handler(), or use init() in "
        f"a plain script, where the engine has a thread of its own."
    )
