"""Parts of the core, built without the scheduler: each with those below it, and nothing above.

What a part tells upward stays in `turn.facts`, what it orders in `turn.out`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from aioray.core.actors import ActorSupervisor
from aioray.core.attempts import Attempts
from aioray.core.backlog import Backlog
from aioray.core.call_queues import CallQueues
from aioray.core.calls import ActorCalls
from aioray.core.cancellation import Cancellations
from aioray.core.devices import UNIT
from aioray.core.dispatch import Dispatcher
from aioray.core.functions import CallTraits, Function
from aioray.core.memory import MemoryGuard
from aioray.core.model import SupervisedActor, Task, Worker
from aioray.core.permits import Permits
from aioray.core.placement import Placement
from aioray.core.pool import WorkerPool
from aioray.core.prefetch import Prefetch
from aioray.core.resources import Resources
from aioray.core.shutdown import Shutdown
from aioray.core.starts import Starts
from aioray.core.starvation import Starvation
from aioray.core.states import ActorStatus, TaskStatus, WorkerStatus
from aioray.core.tasks import TaskTable
from aioray.core.turn import Turn
from aioray.core.waits import Waits
from aioray.core.worker_news import WorkerNews

from .support import ONE_CPU, task_of

if TYPE_CHECKING:
    from aioray.core.devices import Demand
    from aioray.core.model import SchedulingClass

ORDER = {
    "turn": lambda p: Turn(),
    "resources": lambda p: Resources(p.totals),
    "backlog": lambda p: Backlog(),
    "call_queues": lambda p: CallQueues(),
    "permits": lambda p: Permits(p.turn, p.backlog, p.call_queues),
    "table": lambda p: TaskTable(p.turn, p.backlog, p.call_queues),
    "pool": lambda p: WorkerPool(p.turn, p.resources, kept=p.kept),
    "starts": lambda p: Starts(p.turn, p.resources, p.backlog, p.table, p.pool),
    "attempts": lambda p: Attempts(p.turn, p.table, p.call_queues, random.Random(0)),
    "prefetch": lambda p: Prefetch(p.turn, p.resources, p.backlog, p.pool, p.starts, p.attempts),
    "cancels": lambda p: Cancellations(p.turn, p.table, p.pool, p.prefetch),
    "memory": lambda p: MemoryGuard(p.turn, p.pool, p.attempts, p.prefetch),
    "waits": lambda p: Waits(p.turn, p.table, p.pool),
    "actors": lambda p: ActorSupervisor(
        p.turn, p.resources, p.call_queues, p.table, p.pool, p.attempts
    ),
    "calls": lambda p: ActorCalls(
        p.turn,
        p.resources,
        p.call_queues,
        p.permits,
        p.table,
        p.pool,
        p.starts,
        p.attempts,
        p.prefetch,
        p.actors,
    ),
    "placement": lambda p: Placement(p.turn, p.resources, p.backlog, p.table, p.pool, p.actors),
    "starvation": lambda p: Starvation(p.turn, p.resources, p.backlog, p.table, p.pool, p.actors),
    "dispatcher": lambda p: Dispatcher(
        p.turn,
        p.resources,
        p.backlog,
        p.call_queues,
        p.permits,
        p.pool,
        p.starts,
        p.attempts,
        p.prefetch,
        p.actors,
        p.calls,
        p.placement,
        p.starvation,
    ),
    "news": lambda p: WorkerNews(
        p.turn,
        p.resources,
        p.backlog,
        p.call_queues,
        p.table,
        p.pool,
        p.starts,
        p.attempts,
        p.prefetch,
        p.actors,
        p.calls,
        p.waits,
        p.cancels,
        p.memory,
        p.dispatcher,
    ),
    "shutdown": lambda p: Shutdown(p.turn, p.table, p.pool, p.prefetch, p.actors, p.waits),
}


class Parts:
    """A part, and what it needs: whatever is asked for is built, and what comes before it."""

    def __init__(self, cpus: int = 1, **others: int) -> None:
        self.totals = {"CPU": cpus * UNIT, **{name: n * UNIT for name, n in others.items()}}
        self.kept = max(1, cpus)
        self.function = Function(1, "f")
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        """Build a part when it is first asked for."""
        try:
            build = ORDER[name]
        except KeyError:
            raise AttributeError(name) from None
        part = build(self)
        setattr(self, name, part)
        return part

    def ordered(self) -> list[Any]:
        """What was ordered since somebody asked last, as if by one event."""
        if "actors" in vars(self):
            self.actors.reported.clear()
        return self.turn.end()

    def at(self, now: float) -> float:
        """Let it be that time."""
        self.turn.now = now
        return now

    def due(self, now: float) -> list[Any]:
        """The facts that timers bring until then."""
        return list(self.turn.timers.due(self.at(now)))

    def cls(self, demand: Demand = ONE_CPU, environment: Any = ()) -> SchedulingClass:
        return self.backlog.scheduling_class(demand, environment)

    def task(self, cls: SchedulingClass | None = None, **options: Any) -> Task:
        """A task that was not submitted."""
        self.count += 1
        cls = cls or self.cls()
        return task_of(self.count, f"t{self.count}", self.function, cls, **options)

    def queued(self, cls: SchedulingClass | None = None, **options: Any) -> Task:
        """A task that waits for a worker."""
        task = self.task(cls, **options)
        self.table.unfinished[task.number] = task
        self.table.enqueue(task)
        return task

    def worker(self, environment: Any = ()) -> Worker:
        """A worker that is idle."""
        self.pool.start(environment)
        worker = self.pool.workers[self.pool.last_id]
        self.pool.take_in(worker, self.turn.now)
        self.ordered()
        return worker

    def running(self, worker: Worker | None = None, **options: Any) -> Task:
        """A task that a worker runs, which was idle."""
        worker = worker or self.worker()
        task = self.queued(**options)
        self.pool.drop_idle(worker)
        if worker.lease is None:
            self.resources.acquire(worker, task.scheduling_class)
        self.backlog.remove(task)
        self.attempts.begin(task, worker, self.turn.now)
        self.ordered()
        return task

    def actor(self, **options: Any) -> SupervisedActor:
        """An actor whose creation was not submitted."""
        cls = self.backlog.scheduling_class(ONE_CPU, (), creates=True)
        creation = self.task(cls, max_retries=0)
        return SupervisedActor(f"a{self.count}", creation, (), **options)

    def alive(self, **options: Any) -> SupervisedActor:
        """An actor that takes calls."""
        actor = self.actor(**options)
        worker, creation = self.worker(), actor.creation
        self.table.unfinished[creation.number] = creation
        self.table.enqueue(creation)
        for fact in self.turn.facts:
            self.actors.note_waiting(fact)
        self.backlog.remove(creation)
        self.pool.drop_idle(worker)
        self.resources.acquire(worker, creation.scheduling_class)
        self.attempts.begin(creation, worker, self.turn.now)
        self.actors.placed(worker, creation)
        del worker.in_flight[creation.seq]
        self.turn.story.move(creation, TaskStatus.FINISHED)
        del self.table.unfinished[creation.number]
        creation.worker = None
        self.actors.created(actor, worker)
        assert actor.state is ActorStatus.ALIVE
        assert worker.state is WorkerStatus.READY
        self.ordered()
        self.turn.facts.clear()
        return actor

    def call(
        self, actor: SupervisedActor, concurrency_group: int = 0, caller: int = 0, **options: Any
    ) -> Task:
        """A call that is ready."""
        traits = options.pop("traits", CallTraits(interruptible=False, retries_errors=False))
        task = self.task(
            actor.concurrency_groups[concurrency_group],
            traits=traits,
            caller=caller,
            max_retries=0,
            **options,
        )
        self.table.unfinished[task.number] = task
        self.call_queues.submitted(task)
        self.table.enqueue(task)
        return task
