"""The workers of local mode: attempts run in the thread that submits them, one inside another.

Room: local. An asynchronous actor is the exception: its calls run on an event loop in a thread of
its own, as they may wait for each other. A thread that runs an event loop runs tasks as if it did
not, so that they may run loops of their own, as in a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..worker.actor.loops import frames_of
from .workers import InProcessWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from .mailbox import InlineMailbox
    from .worker import InProcessCall, InProcessWorker

__all__ = ["InlineWorkers"]

JOIN_SECONDS = 5.0  # that the end of a session waits for the thread of an actor
_tasks: Any = asyncio.tasks


class InlineWorkers(InProcessWorkers):
    """The workers of an engine in local mode."""

    mailbox: InlineMailbox  # by whoever puts the engine together

    def __init__(self, *args: Any) -> None:
        """Take what `InProcessWorkers` takes."""
        super().__init__(*args)
        self._ready: deque[InProcessWorker] = deque()
        self._loops: dict[int, _LoopThread] = {}  # by worker: of asynchronous actors
        self._ending: list[_LoopThread] = []

    def threads(self) -> list[_LoopThread]:
        """Return the threads there are, or were a moment ago, to be waited for."""
        return [*self._loops.values(), *self._ending]

    # ------------------------------------------------------------ what is ready

    def look_at(self, worker: InProcessWorker) -> None:
        """See `InProcessWorkers`."""
        if worker.gone:
            return
        loop = self._loop_for(worker)
        if loop is None:
            self._ready.append(worker)
            return
        while worker.queue:
            call = worker.prepare(worker.queue.popleft())
            if call is not None:
                loop.start(call)
        if worker.stopping and not worker.calls:
            self._ready.append(worker)

    def _loop_for(self, worker: InProcessWorker) -> _LoopThread | None:
        """Return the loop on which a worker runs its calls, if it is an asynchronous actor."""
        loop = self._loops.get(worker.id)
        if loop is None and worker.queue:
            task = worker.queue[0]
            actor = task.actor or task.scheduling_class.actor
            if actor is not None and actor.asynchronous:
                loop = self._loops[worker.id] = _LoopThread(self, worker)
        return loop

    def run_ready(self) -> bool:
        """Run one attempt, or end one worker; False if there is nothing to do."""
        with self.mailbox.changed:
            found = self._take()
        if found is None:
            return False
        found()
        return True

    def _take(self) -> Callable[[], None] | None:
        while self._ready:
            worker = self._ready.popleft()
            if worker.gone or (worker.calls and worker.id not in self._loops):
                continue  # it is looked at again when that call has ended
            while worker.queue and worker.id not in self._loops:
                call = worker.prepare(worker.queue.popleft())
                if call is not None:
                    return lambda call=call: self._run(call)  # type: ignore[misc]
            if worker.stopping and not worker.calls:
                worker.stopping = False
                loop = self._loops.get(worker.id)
                if loop is None:
                    return lambda worker=worker: self._end(worker)  # type: ignore[misc]
                loop.leave(worker)
        return None

    def _run(self, call: InProcessCall) -> None:
        worker = call.worker
        context = worker.context_for(call)
        try:
            with outside_of_loop():
                context.run(worker.execute, call)
        finally:
            self.ended(call)
        if call.stray:
            raise KeyboardInterrupt  # it was the user's, who wants the program to stop

    def ended(self, call: InProcessCall) -> None:
        """Note that a call has ended, and whether its worker has with it."""
        with self.mailbox.changed:
            if self.outlived(call):
                self.look_at(call.worker)

    def _end(self, worker: InProcessWorker) -> None:
        """End a worker that was asked to."""
        if worker.instance is not None:
            with outside_of_loop():
                asyncio.run(worker.end_actor())
        self.ended_politely(worker)

    def ended_politely(self, worker: InProcessWorker) -> None:
        """Note that a worker has done all that there was for it to do."""
        with self.mailbox.changed:
            self.bury(worker, 0)

    # ------------------------------------------------------------ what reaches a call

    def frames(self, call: InProcessCall) -> list[FrameType]:
        """See `InProcessWorkers`: of a call on a loop; another runs in the thread that asks."""
        return [] if call.runner is None else frames_of(call.runner.get_coro())[::-1]

    def reach(self, call: InProcessCall) -> None:
        """See `InProcessWorkers`: a call in a thread finds it when it comes to aioray."""
        loop = self._loops.get(call.worker.id)
        if loop is not None:
            loop.cancel(call, always=True)

    def cancel(self, call: InProcessCall) -> None:
        """See `InProcessWorkers`."""
        loop = self._loops.get(call.worker.id)
        if loop is not None:
            loop.cancel(call)

    def abandon(self, worker: InProcessWorker) -> None:
        """See `InProcessWorkers`."""
        super().abandon(worker)
        loop = self._loops.pop(worker.id, None)
        if loop is not None:
            self._ending = [each for each in self._ending if each.is_alive()] + [loop]
            loop.end()

    def times(self, call: InProcessCall, started: float, duration: float) -> tuple[float, float]:
        """See `InProcessWorkers`."""
        return started + self.mailbox.skipped, duration


@contextlib.contextmanager
def outside_of_loop() -> Iterator[None]:
    """Let code in this thread see no running event loop, and run one of its own if it likes."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        _tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if task is not None:
            _tasks._enter_task(loop, task)


class _LoopThread:
    """The event loop of one asynchronous actor, and its thread."""

    def __init__(self, workers: InlineWorkers, worker: InProcessWorker) -> None:
        self._workers = workers
        self._worker = worker
        self._limits: dict[int, asyncio.Semaphore] = {}
        self.loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._work, name="aioray-local-actor", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            with contextlib.suppress(Exception):
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def start(self, call: InProcessCall) -> None:
        """Have a call begin on the loop."""
        self.loop.call_soon_threadsafe(self._begin, call)

    def _begin(self, call: InProcessCall) -> None:
        context = call.worker.context_for(call)
        call.runner = self.loop.create_task(self._execute(call), context=context)

    async def _execute(self, call: InProcessCall) -> None:
        try:
            await call.worker.execute_on_loop(call)
        finally:
            self._workers.ended(call)
            self._workers.mailbox.work()

    def leave(self, worker: InProcessWorker) -> None:
        """Have a worker end on its loop, where it may have a hook for that."""

        async def leave() -> None:
            await worker.end_actor()
            self._workers.ended_politely(worker)
            self._workers.mailbox.work()

        def begin() -> None:
            self._leaving = self.loop.create_task(leave())

        self.loop.call_soon_threadsafe(begin)

    def cancel(self, call: InProcessCall, *, always: bool = False) -> None:
        """Cancel a call where it waits. always: also outside of user code."""

        def cancel() -> None:
            if call.runner is not None and (always or call.inside):
                call.runner.cancel()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(cancel)

    def end(self) -> None:
        """Cancel what is left on the loop, and end it."""

        async def leave() -> None:
            rest = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.wait(rest, timeout=1.0)
            self.loop.stop()

        def begin() -> None:
            self._ending = self.loop.create_task(leave())

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(begin)

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of the thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_SECONDS)
