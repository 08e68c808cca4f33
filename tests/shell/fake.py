"""An engine without processes, on a loop whose clock jumps to the next timer when nothing is ready.

A test's remote functions return what their attempt shall do (`Return`, `Raise`, `Die`, `Hang`);
the fake worker calls them in this process, and plays that. It keeps the promises of real ones:
attempts are claimed in the order sent, what is not claimed can be reclaimed, what was answered is
told before a death.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from dataclasses import dataclass
from typing import Any

from aioray.core.commands import (
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    SendAttempts,
    StartWorker,
    StopWorker,
)
from aioray.core.events import (
    AnswersReceived,
    AttemptsReclaimed,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from aioray.core.outcomes import Answer, Ended
from aioray.engine.engine import LocalEngine
from aioray.engine.telemetry.reports import DeathReport, StartReport, WorkerName
from aioray.exceptions import DoNotRetry, RetryTask
from aioray.shared import serialization
from aioray.shared.failures import capture


@dataclass
class Return:
    value: Any
    after: float = 0.0


@dataclass
class Raise:
    error: Exception
    after: float = 0.0


@dataclass
class Die:
    status: int = 9  # as from waitpid: killed by SIGKILL
    after: float = 0.0


@dataclass
class Hang:
    """Runs for ever; ends only by an interrupt, or not even by that."""

    ignores_interrupts: bool = False


acts: dict[int, list[Any]] = {}
"""What remote functions still have to play, by key. Their code is pickled, this is not."""


def next_act(key: int) -> Any:
    """The next act; the last one is played for ever."""
    left = acts[key]
    return left.pop(0) if len(left) > 1 else left[0]


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait: moves the loop's clock instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("Deadlock: nothing is ready and no timer is set.")
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in which an hour passes as soon as nobody has anything to do."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        self.now = 1000.0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now


class _FakeWorker:
    def __init__(self, worker_id: int) -> None:
        self.id = worker_id
        self.queue: list[Any] = []  # sent and not claimed
        self.running: Any = None
        self.hangs: Hang | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.stopping = False


class FakeProcesses:
    """Plays the part of aioray.engine.processes.pool.WorkerProcesses."""

    start_failures = 0  # how many of the next starts fail

    def __init__(
        self,
        loop: Any,
        feed: Any,
        settings: Any,
        identity: Any,
        objects: Any,
        requests: Any,
        boot: Any,
    ) -> None:
        self.loop = loop
        self.feed = feed
        self.names: dict[int, WorkerName] = {}
        self.workers: dict[int, _FakeWorker] = {}
        self.log: list[tuple[float, str, int]] = []  # when, what, which worker
        self.closed = False
        self.orders = {
            StartWorker: self._start,
            SendAttempts: self._send,
            ReclaimAttempts: self._reclaim,
            PollWorker: lambda command: None,
            InterruptWorker: self._interrupt,
            KillWorker: self._kill,
            StopWorker: self._stop,
        }

    def pids(self) -> list[int]:
        return []

    def unload(self, key: int) -> None:
        pass

    async def leave(self) -> None:
        assert not self.workers

    def close(self) -> None:
        self.closed = True
        for worker in self.workers.values():
            if worker.timer is not None:
                worker.timer.cancel()

    def _note(self, what: str, worker_id: int) -> None:
        self.log.append((self.loop.time(), what, worker_id))

    def _later(self, seconds: float, action: Any, *args: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, action, *args)

    def _start(self, command: StartWorker) -> None:
        self._note("start", command.worker_id)
        if FakeProcesses.start_failures:
            FakeProcesses.start_failures -= 1
            report = StartReport("no room", "its last words")
            self._later(0.0, self.feed, WorkerStartFailed(command.worker_id, report))
            return
        self.workers[command.worker_id] = _FakeWorker(command.worker_id)
        self.names[command.worker_id] = WorkerName(f"{command.worker_id:056x}", command.worker_id)
        self._later(0.0, self._ready, command.worker_id)

    def _ready(self, worker_id: int) -> None:
        if worker_id in self.workers:
            self.feed(WorkerReady(worker_id))

    def _send(self, command: SendAttempts) -> None:
        worker = self.workers[command.worker_id]
        worker.queue.extend(command.tasks)
        self._next(worker)

    def _next(self, worker: _FakeWorker) -> None:
        if worker.running is not None or not worker.queue:
            if worker.stopping and worker.running is None:
                self._later(0.0, self._exit, worker.id, 0)
            return
        task = worker.running = worker.queue.pop(0)
        self._note("run", worker.id)
        args, kwargs = serialization.load(task.payload) if task.payload else ((), {})
        values = [serialization.load(entry.outcome) for entry in task.arguments or ()]
        args = tuple(
            values[item.index] if isinstance(item, serialization.ArgumentSlot) else item
            for item in args
        )
        act = serialization.load(task.function.code)(*args, **kwargs)
        if isinstance(act, Hang):
            worker.hangs = act
        elif isinstance(act, Die):
            worker.timer = self._later(act.after, self._exit, worker.id, act.status)
        elif isinstance(act, Raise):
            answer = self._failed(task, act)
            worker.timer = self._later(act.after, self._answer, worker, answer)
        else:
            value = serialization.dump(act.value)[0]
            answer = Answer(task.seq, Ended.RETURNED, value, self.loop.time(), act.after)
            worker.timer = self._later(act.after, self._answer, worker, answer)

    def _failed(self, task: Any, act: Raise) -> Answer:
        rule = task.spec.retry_rule
        delay = None
        if isinstance(act.error, RetryTask):
            ended, delay = Ended.ASKED_FOR_RETRY, act.error.delay
        elif isinstance(act.error, DoNotRetry):
            ended = Ended.FORBADE_RETRY
        elif rule is True:
            ended = Ended.RAISED_RETRYABLE
        else:
            ended = Ended.RAISED
        return Answer(
            task.seq, ended, _captured(act.error, task.name), self.loop.time(), act.after, delay
        )

    def _answer(self, worker: _FakeWorker, answer: Answer) -> None:
        worker.running = worker.hangs = worker.timer = None
        self.feed(AnswersReceived(worker.id, [answer]))
        self._next(worker)

    def _reclaim(self, command: ReclaimAttempts) -> None:
        worker = self.workers.get(command.worker_id)
        seqs = [] if worker is None else [task.seq for task in worker.queue]
        if worker is not None:
            worker.queue.clear()
        self.feed(AttemptsReclaimed(command.worker_id, seqs))

    def _interrupt(self, command: InterruptWorker) -> None:
        self._note("interrupt", command.worker_id)
        worker = self.workers.get(command.worker_id)
        if worker is None or worker.running is None or worker.running.seq != command.seq:
            return
        if worker.hangs is not None and worker.hangs.ignores_interrupts:
            return
        if worker.timer is not None:
            worker.timer.cancel()
        payload = _captured(KeyboardInterrupt(), worker.running.name)
        answer = Answer(command.seq, Ended.INTERRUPTED, payload, self.loop.time(), 0.0)
        worker.timer = self._later(0.0, self._answer, worker, answer)

    def _kill(self, command: KillWorker) -> None:
        self._note("kill", command.worker_id)
        self._later(0.0, self._exit, command.worker_id, 9)

    def _stop(self, command: StopWorker) -> None:
        self._note("stop", command.worker_id)
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.stopping = True
            self._next(worker)

    def _exit(self, worker_id: int, status: int) -> None:
        worker = self.workers.pop(worker_id, None)
        if worker is None or self.closed:
            return
        if worker.timer is not None:
            worker.timer.cancel()
        self._note("exit", worker_id)
        self.feed(AttemptsReclaimed(worker_id, [task.seq for task in worker.queue]))
        report = DeathReport(self.names[worker_id], status)
        self.feed(WorkerExited(worker_id, report))


def _captured(error: BaseException, name: str) -> bytes:
    return capture(
        error,
        function_name=name,
        proctitle=f"ray::{name}",
        pid=os.getpid(),
        ip="127.0.0.1",
        dumps=serialization.dumps,
        loads=serialization.load,
    )


class FakeEngine(LocalEngine):
    """An engine with fake workers, on the clock of its loop."""

    processes_class = FakeProcesses  # type: ignore[assignment]

    def clock(self) -> float:
        assert self.loop is not None
        return self.loop.time()

    @property
    def processes(self) -> FakeProcesses:
        assert isinstance(self._processes, FakeProcesses)
        return self._processes
