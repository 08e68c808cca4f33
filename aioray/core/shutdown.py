"""The end of everything: drain, interrupt, kill, and a last word when every worker is reaped.

Room: core. See `Phase`. What is submitted meanwhile fails, but what a task submits that may still
finish; `TaskTable` looks at the phase for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cancels import Cancellation
from .commands import Stopped
from .facts import DrainEnded, ShutdownGraceEnded
from .outcomes import CancelOutcome, Failure, FailureKind
from .states import Phase, WorkerStatus

if TYPE_CHECKING:
    from .actors import ActorSupervisor
    from .events import ShutdownRequested
    from .model import Task
    from .pool import WorkerPool
    from .prefetch import Prefetch
    from .tasks import TaskTable
    from .turn import Turn
    from .waits import Waits

__all__ = ["Shutdown"]


class Shutdown:
    """The one who ends everything."""

    __slots__ = (
        "_grace",
        "_move",
        "_pool",
        "_prefetch",
        "_supervisor",
        "_table",
        "_turn",
        "_waits",
    )

    def __init__(
        self,
        turn: Turn,
        table: TaskTable,
        pool: WorkerPool,
        prefetch: Prefetch,
        supervisor: ActorSupervisor,
        waits: Waits,
    ) -> None:
        """Take the parts below; nobody has asked for the end yet."""
        self._turn = turn
        self._move = turn.story.move
        self._table = table
        self._pool = pool
        self._prefetch = prefetch
        self._supervisor = supervisor
        self._waits = waits
        self._grace = 1.0  # seconds between the interrupt after the drain and the kill

    def request(self, event: ShutdownRequested, now: float) -> None:
        """Begin to end everything."""
        self._grace = event.grace
        if event.drain <= 0.0:
            self._give_up(now, kill=True)
        else:
            if self._turn.life.state is Phase.OPEN:
                self._move(self._turn.life, Phase.DRAINING)
            self._turn.timers.set(now + event.drain, DrainEnded())

    def end_drain(self, _fact: DrainEnded) -> None:
        """Interrupt what has not finished on its own."""
        self._give_up(self._turn.now, kill=False)

    def end_grace(self, _fact: ShutdownGraceEnded) -> None:
        """Kill what the interrupt has not ended."""
        self._give_up(self._turn.now, kill=True)

    def _give_up(self, now: float, *, kill: bool) -> None:
        """Fail what does not run; interrupt, and after the grace period kill, what runs."""
        phase = Phase.KILLING if kill else Phase.INTERRUPTING
        if phase in self._turn.life.state.successors:
            self._move(self._turn.life, phase)
        if kill:
            for worker in tuple(self._pool.workers.values()):
                self._pool.kill(worker)
        for task in tuple(self._table.unfinished.values()):
            if (kill or task.worker is None) and task.number in self._table.unfinished:
                self._abandon(task)
        if kill:
            return
        for worker in tuple(self._pool.workers.values()):
            if worker.in_flight:
                self._prefetch.reclaim(worker)
                for task in worker.in_flight.values():
                    if task.cancellation is None:
                        task.cancellation = Cancellation()
                        task.cancellation.by_shutdown = True
                    elif task.cancellation.overrun is not None:
                        task.cancellation.overrun = None  # another attempt there is none
                        task.cancellation.by_shutdown = True
        self._turn.timers.set(now + self._grace, ShutdownGraceEnded())

    def _abandon(self, task: Task) -> None:
        worker = task.worker
        if worker is not None:
            del worker.in_flight[task.seq]
            self._waits.forget((task,))
            if worker.actor is not None:
                self._supervisor.taken_back(task, worker)
                if task.number not in self._table.unfinished:
                    return  # it was to make an actor that nobody wants any more
        if task.cancellation is not None:
            self._table.fail_cancelled(task, CancelOutcome.KILLED)
        else:
            failure = Failure(FailureKind.SHUTDOWN, attempts=tuple(task.failures or ()))
            self._table.fail(task, failure)

    def end_workers(self, now: float) -> None:
        """End the workers, as every task is resolved, and say so when the last is reaped."""
        self._supervisor.end()
        if not self._pool.workers:
            self._turn.timers.clear()
            if self._turn.life.state is not Phase.STOPPED:
                self._move(self._turn.life, Phase.STOPPED)
                self._turn.out.append(Stopped())
            return
        for worker in tuple(self._pool.workers.values()):
            if worker.state is WorkerStatus.STARTING:
                self._pool.kill(worker)
            elif worker.state in (WorkerStatus.READY, WorkerStatus.RETIRING):
                self._pool.stop_idle(worker, now)
