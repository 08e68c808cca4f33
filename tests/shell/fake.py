"""An engine on virtual workers whose functions play acts, and which note what they are ordered.

A test's remote functions return what their attempt shall do (`Return`, `Raise`, `Die`, `Hang`), and
the virtual worker does that instead, in the time that it takes.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioray.core.events import WorkerStartFailed
from aioray.engine.telemetry.reports import StartReport
from aioray.local.targets import Targets
from aioray.local.worker import WorkerGone, running_call
from aioray.testing import VirtualClock, takes
from aioray.testing.virtual import CoreInVirtualTime
from aioray.testing.virtual_workers import VirtualWorkers

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioray.local.worker import InProcessCall, InProcessWorker


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
"""What remote functions still have to play, by key."""


def next_act(key: int) -> Any:
    """The next act; the last one is played for ever."""
    left = acts[key]
    return left.pop(0) if len(left) > 1 else left[0]


def perform(act: Any) -> Any:
    """Do what an act says, in virtual time."""
    if isinstance(act, Hang):
        while True:
            try:
                takes(float("inf"))
            except KeyboardInterrupt:
                if not act.ignores_interrupts:
                    raise
    if act.after:
        takes(act.after)
    if isinstance(act, Raise):
        raise act.error
    if isinstance(act, Die):
        call = running_call.get()
        assert call is not None
        call.worker.fate = act.status
        raise WorkerGone
    return act.value


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in which an hour passes as soon as nobody has anything to do."""

    def __init__(self) -> None:
        super().__init__()
        VirtualClock().take_over(self)


class _Acting(Targets):
    """Functions that play what they return."""

    def find(self, code: bytes) -> Callable[..., Any]:
        function = super().find(code)

        @functools.wraps(function)
        def play(*args: Any, **kwargs: Any) -> Any:
            return perform(function(*args, **kwargs))

        return play


class FakeProcesses(VirtualWorkers):
    """Virtual workers that note what happens to them."""

    start_failures = 0  # how many of the next starts fail

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.targets = _Acting(self.unserializable)
        self.log: list[tuple[float, str, int]] = []  # when, what, which worker

    def _note(self, what: str, worker_id: int) -> None:
        self.log.append((self.loop.time(), what, worker_id))

    def _start(self, command: Any) -> None:
        self._note("start", command.worker_id)
        if FakeProcesses.start_failures:
            FakeProcesses.start_failures -= 1
            report = StartReport("no room", "its last words")
            self.feed(WorkerStartFailed(command.worker_id, report))
        else:
            super()._start(command)

    def _run_in_fiber(self, call: InProcessCall) -> None:
        self._note("run", call.worker.id)
        super()._run_in_fiber(call)

    def _interrupt(self, command: Any) -> None:
        self._note("interrupt", command.worker_id)
        super()._interrupt(command)

    def _kill(self, command: Any) -> None:
        self._note("kill", command.worker_id)
        super()._kill(command)

    def _stop(self, command: Any) -> None:
        self._note("stop", command.worker_id)
        super()._stop(command)

    def bury(self, worker: InProcessWorker, status: int) -> None:
        self._note("exit", worker.id)
        super().bury(worker, status)


class FakeEngine(CoreInVirtualTime):
    """An engine with such workers, on the clock of its loop."""

    processes_class: Any = FakeProcesses

    @property
    def processes(self) -> FakeProcesses:
        found: Any = self._processes
        assert isinstance(found, FakeProcesses)
        return found
