"""Virtual workers: coroutines run on the test's loop, all other functions in fibers.

Room: api. The workers of a `VirtualEngine`, made of those of `aioray.local`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from typing import TYPE_CHECKING, Any

from ..local.workers import InProcessWorkers
from ..worker.actor.loops import frames_of
from .fibers import Fiber

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..local.worker import InProcessCall, InProcessWorker

__all__ = ["VirtualWorkers"]

TURNS = 3  # of the loop, in which what was cancelled ends


class VirtualWorkers(InProcessWorkers):
    """The workers of an engine in virtual time."""

    unserializable = logging.DEBUG  # tests let functions note what happens, and lend them engines

    def __init__(self, *args: Any) -> None:
        """Take what `InProcessWorkers` takes."""
        super().__init__(*args)
        self.idle: list[Fiber] = []
        self._fibers: list[Fiber] = []
        self._tasks: set[asyncio.Task[None]] = set()  # calls that run on the loop

    # ------------------------------------------------------------ what runs

    def look_at(self, worker: InProcessWorker) -> None:
        """See `InProcessWorkers`: attempts begin in the next turn of the loop."""
        self.loop.call_soon(self._begin, worker)

    def _begin(self, worker: InProcessWorker) -> None:
        """Begin what a worker can begin now."""
        while worker.queue and not worker.gone:
            task = worker.queue[0]
            actor = task.actor or task.scheduling_class.actor
            if worker.calls and (actor is None or actor.ahead):
                return
            call = worker.prepare(worker.queue.popleft())
            if call is None:
                continue
            if (actor is not None and actor.asynchronous) or self._is_coroutine(call):
                self._run_on_loop(call)
            else:
                self._run_in_fiber(call)
        if worker.stopping and not (worker.gone or worker.calls or worker.queue):
            worker.stopping = False
            self._keep(self.loop.create_task(self._end(worker)))

    def _is_coroutine(self, call: InProcessCall) -> bool:
        code = call.task.function.code
        target = None if code is None else self.targets.find(code)
        target = inspect.unwrap(target) if target is not None else None
        return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)

    def _run_in_fiber(self, call: InProcessCall) -> None:
        if self.idle:
            fiber = self.idle.pop()
        else:
            fiber = Fiber(self, len(self._fibers) + 1)
            self._fibers.append(fiber)
        fiber.run(call)

    def _run_on_loop(self, call: InProcessCall) -> None:
        async def execute() -> None:
            try:
                await call.worker.execute_on_loop(call)
            finally:
                self.ended(call)

        context = call.worker.context_for(call)
        call.runner = self.loop.create_task(execute(), context=context)
        self._keep(call.runner)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, worker: InProcessWorker) -> None:
        """End a worker that was asked to."""
        if worker.instance is not None:
            await worker.end_actor()
        self.bury(worker, 0)

    def ended(self, call: InProcessCall) -> None:
        """Note that a call has ended, and whether its worker has with it."""
        if self.outlived(call):
            self._begin(call.worker)

    def close(self) -> None:
        """End all workers, and all that they run."""
        super().close()
        for fiber in self._fibers:
            fiber.unwind()
        for fiber in self._fibers:
            fiber.end()
        for task in self._tasks:
            task.cancel()

    async def leave(self) -> None:
        """Wait for what was cancelled."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    # ------------------------------------------------------------ what reaches a call

    def frames(self, call: InProcessCall) -> list[FrameType]:
        """See `InProcessWorkers`."""
        runner = call.runner
        if isinstance(runner, Fiber):
            return runner.frames()
        return frames_of(runner.get_coro())[::-1] if runner is not None else []

    def reach(self, call: InProcessCall) -> None:
        """See `InProcessWorkers`."""
        if isinstance(call.runner, Fiber):
            if not self.closed:
                call.runner.wake()
        elif call.runner is not None:
            call.worker.channel.cancelled.add(call.attempt.seq)
            call.runner.cancel()

    def cancel(self, call: InProcessCall) -> None:
        """See `InProcessWorkers`."""
        if call.runner is not None and not isinstance(call.runner, Fiber) and call.inside:
            call.runner.cancel()

    def times(self, call: InProcessCall, started: float, duration: float) -> tuple[float, float]:
        """See `InProcessWorkers`."""
        return call.began, self.clock() - call.began

    def hang(self, call: InProcessCall) -> Any:
        """See `InProcessWorkers`."""
        if isinstance(call.runner, Fiber):
            call.runner.hang()
        return self._hang_on_loop(call.worker)

    async def _hang_on_loop(self, worker: InProcessWorker) -> None:
        worker.hangs = True
        while not worker.gone:
            with contextlib.suppress(asyncio.CancelledError):
                await self.loop.create_future()

    def wait_for_room(self, call: InProcessCall, count: int) -> None:
        """See `InProcessWorkers`."""
        stream = call.task.stream
        if stream is not None and not stream.may_yield(count):
            call.runner.pause(lambda go_on: stream.pause(count, go_on))

    def when_room(self, call: InProcessCall, count: int, go_on: Callable[[], None]) -> None:
        """See `InProcessWorkers`."""
        stream = call.task.stream
        if stream is None or stream.may_yield(count):
            go_on()
        else:
            stream.pause(count, go_on)
