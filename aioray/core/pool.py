"""The workers: who is there, who is idle, who is to come and who is to go.

Room: core. `WorkerPool` orders processes, keeps as many idle ones as there are CPUs, and ends the
others. It does not know what they run but by their records, and who gets one is decided by the
dispatcher.

For a while after a worker has died at work, or was killed for a cancel, a spare one is kept of its
environment: what has happened once may happen again, and then there is no need to wait for a fork.

A worker that was shown some GPUs, or none, serves nothing else from then on: libraries look for
them once in a process. If there are no GPUs, nothing is kept apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .commands import DiscardWorker, KillWorker, StartWorker, StopWorker
from .facts import SpareLookDue, StopOverdue, SurplusLookDue
from .model import STOP_SECONDS, Worker
from .states import LEAVING, Phase, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .events import WorkerDied
    from .model import Environment, SchedulingClass, SupervisedActor, Task
    from .outcomes import Excess
    from .resources import Resources
    from .turn import Timer, Turn

__all__ = ["WorkerPool"]

IDLE_SECONDS = 1.0  # idle workers beyond the CPU count are stopped after this (as Ray does)
SPARE_SECONDS = 10.0  # that a spare worker is kept after the last loss
SPARE_PAUSE = 0.05  # seconds after a loss until it is started: what was lost comes first
MAX_WORKERS = 1_000  # guards the machine against tasks that ask for no CPU at all


class WorkerPool:
    """The workers of one engine."""

    __slots__ = (
        "_resources",
        "_stops",
        "_surplus_timer",
        "_turn",
        "housed",
        "idle",
        "idle_count",
        "kept",
        "last_id",
        "spares",
        "starting",
        "was_ready",
        "workers",
    )

    def __init__(
        self,
        turn: Turn,
        resources: Resources,
        *,
        kept: int,
    ) -> None:
        """Begin with no workers. kept: how many idle ones stay."""
        self._turn = turn
        self._resources = resources
        self.kept = kept
        self.workers: dict[int, Worker] = {}
        self.idle: dict[Environment, list[Worker]] = {}  # newest last
        self.idle_count = 0
        self.housed = 0  # workers in which an actor lives, is about to, or has lived
        # Workers on their way, and dead ones whose death is not explained yet.
        self.starting: dict[Environment, int] = {}
        self.spares: dict[Environment, float] = {}  # of which one is kept, and until when
        self._stops: dict[int, Timer] = {}  # by worker id: when it is killed if it has not ended
        self._surplus_timer = False  # a look at idle workers is in the timer heap
        self.last_id = 0
        self.was_ready = False  # at least one worker has come up, ever

    def _move(self, worker: Worker, state: WorkerStatus) -> None:
        self._turn.story.move(worker, state)

    def start(self, environment: Environment) -> Worker:
        """Order a process for an environment."""
        self.last_id += 1
        worker = Worker(self.last_id, environment)
        self.workers[worker.id] = worker
        self.starting[environment] = self.starting.get(environment, 0) + 1
        self._turn.out.append(StartWorker(worker.id, environment))
        return worker

    def room(self) -> int:
        """Count how many more workers there may be."""
        # An actor was asked for, and may live for ever: it must not take a task's place.
        actors = self.housed
        return MAX_WORKERS + self._resources.blocked_workers + actors - len(self.workers)

    def _find_idle(self, idle: Sequence[Worker], cls: SchedulingClass) -> Worker | None:
        """Find the idle worker for the next lease of this class; there must be room for that.

        It was shown the same devices before, or none yet: a library that has looked for devices
        once, or has found that there are none, stays with that for as long as its process lives.
        """
        shown = self._resources.shown_next(cls)
        for wanted in (shown, None):
            for worker in reversed(idle):
                if worker.shown == wanted:
                    return worker
        return None

    def take_idle(self, cls: SchedulingClass) -> Worker | None:
        """Take the idle worker that is to have the next lease of this class; None: none suits.

        There must be room for the lease, and an idle worker of the environment.
        """
        idle = self.idle[cls.environment]
        if not self._resources.apart:
            worker = idle.pop()
        elif (found := self._find_idle(idle, cls)) is not None:
            worker = found
            idle.remove(worker)
        else:
            return None
        self.idle_count -= 1
        return worker

    def has_idle(self, cls: SchedulingClass) -> bool:
        """Tell whether an idle worker could take this class, for which there is room."""
        idle = self.idle.get(cls.environment)
        if not idle:
            return False
        return not self._resources.apart or self._find_idle(idle, cls) is not None

    def count_call(self, worker: Worker, task: Task) -> None:
        """Count one call against max_calls; with the last one, prepare the successor."""
        key = task.kind.function.key
        calls = worker.calls[key] = worker.calls.get(key, 0) + 1
        if calls == task.kind.max_calls:
            self._move(worker, WorkerStatus.RETIRING)
            staying = sum(
                1
                for other in self.workers.values()
                if other.state in (WorkerStatus.READY, WorkerStatus.STARTING)
                and other.actor is None
                and self._resources.suits(other, task.kind.scheduling_class)
            )
            room = min(self.kept - staying, self.room())
            if room > 0 and self._turn.life.state is Phase.OPEN:
                self.start(worker.environment)

    def uncount_call(self, worker: Worker, task: Task) -> None:
        """Take back what `count_call` did: the attempt never ran."""
        if task.kind.max_calls:
            key = task.kind.function.key
            if worker.state is WorkerStatus.RETIRING and worker.calls[key] == task.kind.max_calls:
                self._move(worker, WorkerStatus.READY)  # this would have been its last
            worker.calls[key] -= 1

    # ------------------------------------------------------------ idle and leaving

    def make_idle(self, worker: Worker, now: float) -> None:
        """Take a worker among the idle ones: it has nothing in flight and holds nothing."""
        worker.idle_since = now
        self.idle.setdefault(worker.environment, []).append(worker)
        self.idle_count += 1
        self._watch_surplus(now)

    def _watch_surplus(self, now: float) -> None:
        if self.idle_count > self.kept + len(self.spares) and not self._surplus_timer:
            self._surplus_timer = True
            self._turn.timers.set(now + IDLE_SECONDS, SurplusLookDue())

    def drop_idle(self, worker: Worker) -> None:
        """Take a worker out of the idle ones, if it is one of them."""
        idle = self.idle.get(worker.environment)
        if idle and worker in idle:
            idle.remove(worker)
            self.idle_count -= 1

    def longest_idle(self) -> list[Worker]:
        """Return all idle workers, the one that is idle longest first."""
        return sorted(
            (worker for idle in self.idle.values() for worker in idle),
            key=lambda worker: (worker.idle_since, worker.id),
        )

    def stop_surplus(self, _fact: SurplusLookDue) -> None:
        """Stop the workers that were idle longest, down to the number that is kept."""
        now = self._turn.now
        self._surplus_timer = False
        surplus = max(0, self.idle_count - self.kept - len(self.spares))
        for worker in self.longest_idle()[:surplus]:
            due = worker.idle_since + IDLE_SECONDS
            if due > now:
                self._surplus_timer = True
                self._turn.timers.set(due, SurplusLookDue())
                return
            self.stop_idle(worker, now)

    def stop_idle(self, worker: Worker, now: float) -> None:
        """Ask an idle worker to end."""
        self.drop_idle(worker)
        self.stop(worker, now)

    def retire(self, worker: Worker, now: float) -> None:
        """Give a worker nothing more; it ends when what it has been given has ended."""
        if worker.in_flight:
            self._move(worker, WorkerStatus.RETIRING)
        else:
            self.stop_idle(worker, now)

    def stop(self, worker: Worker, now: float) -> None:
        """Ask a worker to end, and kill it if it takes too long."""
        self._move(worker, WorkerStatus.STOPPING)
        self._turn.out.append(StopWorker(worker.id))
        actor = worker.actor
        patience = STOP_SECONDS if actor is None else actor.stop_seconds
        self._stops[worker.id] = self._turn.timers.set(now + patience, StopOverdue(worker))

    def insist(self, fact: StopOverdue) -> None:
        """Kill a worker that was asked to end, and has not."""
        worker = fact.worker
        del self._stops[worker.id]
        self.kill(worker)

    def kill(self, worker: Worker, reason: str = "", excess: Excess | None = None) -> None:
        """Kill a worker, unless it is dead or killed already. The rest: see `KillWorker`."""
        if worker.state not in (WorkerStatus.KILLED, WorkerStatus.DEAD):
            if worker.state is WorkerStatus.STARTING:
                self.starting[worker.environment] -= 1
            self._move(worker, WorkerStatus.KILLED)
            self.drop_idle(worker)
            self._turn.out.append(KillWorker(worker.id, reason, excess))

    def is_lying(self, worker: Worker) -> bool:
        """Tell whether a worker lies, and if so order that it is discarded: nothing it says counts.

        It has answered for an attempt that it does not have, which no worker does; but a shutdown
        gives attempts up that run.
        """
        if self._turn.life.state is not Phase.OPEN or worker.state is not WorkerStatus.READY:
            return False
        self._turn.out.append(DiscardWorker(worker.id))
        return True

    # ------------------------------------------------------------ spares

    def want_spare(self, worker: Worker, now: float) -> None:
        """Keep a spare worker for a while: this one is lost, and was at work."""
        if worker.in_flight and worker.actor is None and self._turn.life.state is Phase.OPEN:
            self.spares[worker.environment] = now + SPARE_SECONDS
            for pause in (SPARE_PAUSE, SPARE_SECONDS):
                self._turn.timers.set(now + pause, SpareLookDue(worker.environment))

    def needs_spare(self, environment: Environment, now: float) -> bool:
        """Tell whether the spare worker of an environment is to be started; forget it in time."""
        until = self.spares.get(environment)
        if until is None:
            return False
        if until <= now or self._turn.life.state is not Phase.OPEN:
            del self.spares[environment]
            self._watch_surplus(now)
            return False
        wanted = 2 if self._resources.available.get("CPU") else 1  # one is for what comes next
        return (
            len(self.idle.get(environment, ())) < wanted
            and not self.starting.get(environment)
            and self.room() > 0
        )

    # ------------------------------------------------------------ news

    def take_death(self, event: WorkerDied, now: float) -> None:
        """Give nothing more to a worker that is dead."""
        worker = self.workers.get(event.worker_id)
        if worker is None or worker.state in LEAVING:
            return
        self.want_spare(worker, now)
        if worker.state is not WorkerStatus.STARTING:
            # Whether another may be started at once is known when this death is explained.
            environment = worker.environment
            self.starting[environment] = self.starting.get(environment, 0) + 1
        self._move(worker, WorkerStatus.DEAD)
        self.drop_idle(worker)

    def task_in_flight(self, worker_id: int, seq: int) -> Task | None:
        """Return the task whose attempt this is, if it has no outcome yet."""
        worker = self.workers.get(worker_id)
        return None if worker is None else worker.in_flight.get(seq)

    def submitter(self, worker_id: int, seq: int) -> Task | None:
        """Return the task that asks under a seq: 0 is a thread of an actor that belongs to no call.

        That has come with the actor's creation. None: a thread that a finished task has left.
        """
        worker = self.workers.get(worker_id)
        if worker is None:
            return None
        if seq == 0 and worker.actor is not None:
            return worker.actor.creation
        return worker.in_flight.get(seq)

    def tasks_in_flight(self, workers: Iterable[int]) -> list[Task]:
        """Return the tasks that these workers have been given."""
        found = [self.workers[worker] for worker in workers if worker in self.workers]
        return [task for worker in found for task in worker.in_flight.values()]

    def is_running(self) -> bool:
        """Tell whether any worker has been given something. For any thread."""
        return any(worker.in_flight for worker in tuple(self.workers.values()))

    def expects(self, worker_id: int, seq: int) -> bool:
        """Tell whether this worker may answer for this attempt."""
        worker = self.workers.get(worker_id)
        closing = self._turn.life.state is not Phase.OPEN
        return worker is None or closing or seq in worker.in_flight or seq in worker.given_up

    def take_in(self, worker: Worker, now: float) -> None:
        """Take a worker that has come up among the idle ones."""
        self.was_ready = True
        self.starting[worker.environment] -= 1
        self._move(worker, WorkerStatus.READY)
        self.make_idle(worker, now)

    def remove(self, worker_id: int) -> Worker | None:
        """Forget a worker whose process is reaped, or never was; None: it is not known."""
        worker = self.workers.pop(worker_id, None)
        if worker is not None:
            if worker.state in (WorkerStatus.STARTING, WorkerStatus.DEAD):
                self.starting[worker.environment] -= 1
            self.drop_idle(worker)
            stop = self._stops.pop(worker_id, None)
            if stop is not None:
                self._turn.timers.cancel(stop)
        return worker

    # ------------------------------------------------------------ actors

    def house(self, worker: Worker, actor: SupervisedActor) -> None:
        """Give a worker to an actor, for good."""
        actor.worker, worker.actor = worker, actor
        self.housed += 1

    def vacate(self, worker: Worker) -> None:
        """Take a worker back from an actor that was not made there: it is as any other again."""
        actor = worker.actor
        assert actor is not None
        actor.worker = worker.actor = None
        self.housed -= 1

    def lost_tenant(self, actor: SupervisedActor) -> None:
        """Count one less: the worker of this actor is reaped."""
        actor.worker = None
        self.housed -= 1
