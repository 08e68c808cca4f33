"""Short words for the tests of the scheduler: a core with its check, tasks, actors, answers."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from aioray.core.devices import UNIT
from aioray.core.events import (
    ActorKilled,
    ActorReleased,
    AnswersReceived,
    AttemptsReclaimed,
    CancelRequested,
    Event,
    TasksSubmitted,
    TimerFired,
    WorkerDied,
    WorkerExited,
    WorkerReady,
)
from aioray.core.functions import CallTraits, Function
from aioray.core.invariants import check
from aioray.core.model import Kind, SupervisedActor, Task
from aioray.core.outcomes import Answer, AttemptRecord, Ended, FailureKind
from aioray.core.scheduler import Scheduler
from aioray.core.states import ActorStatus

if TYPE_CHECKING:
    from aioray.core.commands import Command
    from aioray.core.devices import Demand
    from aioray.core.groups import Group
    from aioray.core.model import Environment, SchedulingClass

ONE_CPU: Demand = (("CPU", UNIT),)
HALF_CPU: Demand = (("CPU", UNIT // 2),)
TWO_CPUS: Demand = (("CPU", 2 * UNIT),)
ONE_GPU: Demand = (("CPU", UNIT), ("GPU", UNIT))

SHORT = 1e-6  # seconds: a function of this mean is prefetched up to the limit
LONG = 1.0  # seconds: one of this mean is not


OF_KIND = {field.name for field in fields(Kind)}


def task_of(
    number: int, name: str, function: Function, cls: SchedulingClass, **options: Any
) -> Task:
    """A task of a kind of its own."""
    own = {key: options.pop(key) for key in OF_KIND & options.keys()}
    return Task(number, Kind(name, function, cls, **own), **options)


class Core:
    """A scheduler whose invariants are checked after every event."""

    def __init__(self, cpus: int = 1, *, seed: int = 0, **others: int) -> None:
        totals = {"CPU": cpus * UNIT, **{name: n * UNIT for name, n in others.items()}}
        self.scheduler = Scheduler(totals, random.Random(seed))
        self.functions: dict[str, Function] = {}
        self.count = 0

    def __call__(self, event: Event, now: float = 0.0) -> list[Command]:
        commands = self.scheduler.handle(event, now)
        check(self.scheduler)
        return commands

    @property
    def deadline(self) -> float | None:
        return self.scheduler.next_deadline()

    def function(self, name: str, mean_seconds: float | None = None) -> Function:
        """The function of this name; a mean makes it known how long it runs."""
        function = self.functions.setdefault(name, Function(len(self.functions) + 1, name))
        if mean_seconds is not None:
            function.mean_seconds = mean_seconds
        return function

    def task(
        self,
        *dependencies: Task,
        function: str = "f",
        demand: Demand = ONE_CPU,
        environment: Environment = (),
        **options: Any,
    ) -> Task:
        self.count += 1
        return task_of(
            self.count,
            f"t{self.count}",
            self.function(function),
            self.scheduler.scheduling_class(demand, environment),
            dependencies=dependencies,
            **options,
        )

    def tasks(self, count: int, **options: Any) -> list[Task]:
        return [self.task(**options) for _ in range(count)]

    def submit(self, *tasks: Task, now: float = 0.0) -> list[Command]:
        return self(TasksSubmitted(tasks), now)

    def ready(self, *worker_ids: int, now: float = 0.0) -> list[Command]:
        return [command for w in worker_ids for command in self(WorkerReady(w), now)]

    def running(self, **options: Any) -> Task:
        """A task of its own that the next worker runs."""
        task = self.task(**options)
        self.submit(task)
        self.ready(self.scheduler.pool.last_id)
        assert task.worker is not None
        return task

    def actor(
        self,
        *dependencies: Task,
        demand: Demand = ONE_CPU,
        environment: Environment = (),
        group: Group | None = None,
        parent: Task | None = None,
        **options: Any,
    ) -> SupervisedActor:
        """An actor whose creation was not submitted yet."""
        self.count += 1
        cls = self.scheduler.scheduling_class(demand, environment, group=group, creates=True)
        creation = task_of(
            self.count,
            f"t{self.count}",
            self.function("A"),
            cls,
            dependencies=dependencies,
            max_retries=0,
            parent=parent,
        )
        return SupervisedActor(f"a{self.count}", creation, environment, **options)

    def making(self, **options: Any) -> SupervisedActor:
        """An actor whose creation the next worker runs."""
        actor = self.actor(**options)
        self.submit(actor.creation)
        self.place(actor)
        return actor

    def place(self, actor: SupervisedActor, now: float = 0.0) -> None:
        """Let a worker come up, if there is none, for the creation of an actor."""
        if actor.worker is None:
            self.ready(self.scheduler.pool.last_id, now=now)
        assert actor.creation.worker is actor.worker is not None

    def live(self, actor: SupervisedActor, now: float = 0.0) -> list[Command]:
        """Let it be made, for the first time or once more."""
        self.place(actor, now)
        assert actor.worker is not None
        commands = self.answer(actor.worker.id, answer(actor.creation), now=now)
        assert actor.state is ActorStatus.ALIVE
        return commands

    def alive(self, **options: Any) -> SupervisedActor:
        """An actor that takes calls."""
        actor = self.making(**options)
        self.live(actor)
        return actor

    def call(
        self,
        actor: SupervisedActor,
        *dependencies: Task,
        concurrency_group: int = 0,
        caller: int = 0,
        interruptible: bool = False,
        retries_errors: bool = False,
        max_retries: int = 0,
        **options: Any,
    ) -> Task:
        self.count += 1
        return task_of(
            self.count,
            f"t{self.count}",
            self.function("A.m"),
            actor.concurrency_groups[concurrency_group],
            dependencies=dependencies,
            max_retries=max_retries,
            traits=CallTraits(interruptible, retries_errors),
            caller=caller,
            **options,
        )

    def calls(self, actor: SupervisedActor, count: int, **options: Any) -> list[Task]:
        return [self.call(actor, **options) for _ in range(count)]

    def called(self, actor: SupervisedActor, count: int = 1, **options: Any) -> list[Task]:
        """Calls that were made."""
        calls = self.calls(actor, count, **options)
        self.submit(*calls)
        return calls

    def kill(
        self, actor: SupervisedActor, *, no_restart: bool = True, now: float = 0.0
    ) -> list[Command]:
        return self(ActorKilled(actor, no_restart), now)

    def release(self, actor: SupervisedActor, now: float = 0.0) -> list[Command]:
        return self(ActorReleased(actor), now)

    def crash(self, actor: SupervisedActor, *unclaimed: Task, now: float = 0.0) -> list[Command]:
        """The end of the worker of an actor."""
        assert actor.worker is not None
        return self.exited(actor.worker.id, *unclaimed, now=now)

    def answer(self, worker_id: int, *answers: Answer, now: float = 0.0) -> list[Command]:
        return self(AnswersReceived(worker_id, answers), now)

    def reclaimed(self, worker_id: int, *tasks: Task, now: float = 0.0) -> list[Command]:
        return self(AttemptsReclaimed(worker_id, [task.seq for task in tasks]), now)

    def cancel(
        self, task: Task, request_id: int = 1, now: float = 0.0, **options: Any
    ) -> list[Command]:
        return self(CancelRequested(task, request_id, **options), now)

    def exited(
        self,
        worker_id: int,
        *unclaimed: Task,
        report: Any = "died",
        started_at: float | None = None,
        now: float = 0.0,
    ) -> list[Command]:
        """The end of a worker as the shell tells it: dead, this it had not claimed, reaped."""
        return [
            *self(WorkerDied(worker_id), now),
            *self.reclaimed(worker_id, *unclaimed, now=now),
            *self(WorkerExited(worker_id, report, started_at), now),
        ]

    def timer(self, now: float) -> list[Command]:
        return self(TimerFired(), now)

    def tick(self) -> tuple[float, list[Command]]:
        """Let the next timer fire: its time, and what follows."""
        now = self.deadline
        assert now is not None
        return now, self.timer(now)


def answer(
    task: Task,
    ended: Ended = Ended.RETURNED,
    payload: Any = "value",
    *,
    started_at: float = 0.0,
    duration: float = LONG,
    delay: float | None = None,
) -> Answer:
    """What a worker says of the attempt that the task is at."""
    return Answer(task.seq, ended, payload, started_at, duration, delay)


def record(
    number: int,
    worker_id: int,
    kind: FailureKind = FailureKind.APPLICATION,
    detail: Any = "value",
    *,
    started_at: float = 0.0,
    duration: float = LONG,
) -> AttemptRecord:
    return AttemptRecord(number, worker_id, started_at, duration, kind, detail)
