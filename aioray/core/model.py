"""The records that the core keeps: tasks, workers, actors, scheduling classes.

Room: core. Data; the decisions are in `scheduler`. A `Task` is one object from submission to its
last ref: the shell hangs its own data on fields that are called the shell's, which the core never
looks into. States change only by `Story.move`, see `states`.

Resource amounts are integers in 1/10,000 of a unit, so that fractions add up exactly.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from .devices import UNIT
from .functions import OfKind
from .intensity import RestartIntensity, RestartPolicy
from .outcomes import CancelOutcome
from .records import field, record
from .states import ActorStatus, TaskStatus, Tracked, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cancels import Cancellation
    from .devices import Demand, Shares
    from .functions import Function
    from .groups import Group
    from .limiters import StartLimiter
    from .limits import TaskLimits
    from .outcomes import ActorDeath, AttemptRecord, Excess, Failure
    from .queues import RankedQueue
    from .retries import RetryPolicy

__all__ = [
    "Environment",
    "Kind",
    "SchedulingClass",
    "SupervisedActor",
    "Task",
    "Worker",
]

STOP_SECONDS = 5.0  # a polite stop that takes longer ends in a kill (as Ray does)
_class_numbers = itertools.count(1)

Environment = Hashable  # what a worker is made for, opaque here: it runs tasks of an equal one


@record(slots=True, eq=False)
class Kind:
    """What tasks have in common, one object for all calls: it is not changed but replaced."""

    name: str
    function: Function
    scheduling_class: SchedulingClass
    policy: RetryPolicy | None = None  # delays between attempts; None: the default ones
    max_calls: int = 0  # 0: unlimited
    limits: TaskLimits | None = None  # None: it has none
    traits: Any = None  # `CallTraits` of calls of an actor
    spec: Any = None  # the shell's: what is said to workers


class Task(Tracked):
    """What the user submitted, from submission to the last ref."""

    __slots__ = (
        "__weakref__",
        "actor",
        "arguments",
        "attempt",
        "caller",
        "cancellation",
        "children",
        "created_at",
        "dependencies",
        "dependents",
        "failures",
        "held",
        "kind",
        "lost",
        "max_retries",
        "number",
        "parent_key",
        "payload",
        "priority",
        "queued_at",
        "rank",
        "ready_at",
        "retries_left",
        "returns",
        "seconds",
        "sent_at",
        "sent_to",
        "seq",
        "started_at",
        "state",
        "stream",
        "submitter",
        "task_key",
        "unready_dependencies",
        "worker",
    )

    # What it has in common with others.
    name: OfKind[str] = OfKind("name")
    function: OfKind[Function] = OfKind("function")
    scheduling_class: OfKind[SchedulingClass] = OfKind("scheduling_class")
    policy: OfKind[RetryPolicy | None] = OfKind("policy")
    max_calls: OfKind[int] = OfKind("max_calls")
    limits: OfKind[TaskLimits | None] = OfKind("limits")
    traits: OfKind[Any] = OfKind("traits")
    spec: OfKind[Any] = OfKind("spec")

    def __init__(
        self,
        number: int,
        kind: Kind,
        *,
        dependencies: tuple[Task, ...] = (),
        max_retries: int = 3,
        parent: Task | None = None,
        task_key: Any = None,
        priority: float = 0.0,
        payload: Any = None,
        arguments: Any = None,
        held: Any = None,
        caller: int = 0,
    ) -> None:
        self.actor: SupervisedActor | None = None  # which it makes
        self.kind = kind
        self.caller = caller  # of a call of an actor: the worker that made it; 0: the driver
        self.task_key = task_key  # the shell's: what the task's id is made of
        self.number = number  # submission counter of the engine; never reused
        # What a task submits has its place, or those that wait for it would pile up.
        self.rank: int = number if parent is None else parent.rank  # at equal `queued_at`
        self.queued_at = 0.0  # when it was submitted, or was last put behind all others
        # See `queues.rank`; of what a task submits that of the task, unless it has one of its own.
        self.priority: float = priority or (0.0 if parent is None else parent.priority)
        # Not kept: one that has ended may be all that holds its value, and has no say any more.
        self.submitter = None if parent is None else weakref.ref(parent)  # None: the driver
        self.parent_key: Any = None if parent is None else parent.task_key
        self.children: dict[int, Task] | None = None  # those that it submitted, while unfinished
        self.dependencies = dependencies  # until it is submitted; then `dependents` of these
        self.max_retries = max_retries  # -1: unlimited
        self.payload = payload  # the shell's: the arguments, serialized
        self.arguments = arguments  # the shell's: those that are refs
        self.held = held  # the shell's: what must live as long as the arguments
        self.returns: Any = None  # the shell's: where the outcome goes
        self.stream: Any = None  # the shell's: where the items of a generator go
        self.state = TaskStatus.PENDING_ARGS_AVAIL
        self.lost = False  # finished, and a value that it had is gone
        self.attempt = 0  # number of the current attempt
        self.retries_left = max_retries
        self.unready_dependencies = 0
        self.dependents: list[Task] | None = None
        self.worker: Worker | None = None
        # Of the current attempt, for who tells what happened.
        self.seq = 0  # 0: it was not sent yet, or has come back
        self.created_at = 0.0  # submitted, or the attempt before had ended
        self.ready_at = 0.0  # its arguments were there; less than `created_at`: they are not
        self.sent_at = 0.0
        self.sent_to = 0  # id of the worker
        self.started_at = 0.0  # of a finished one: when the function was entered
        self.seconds = 0.0  # and how long it ran
        self.failures: list[AttemptRecord] | None = None
        self.cancellation: Cancellation | None = None

    def drop_arguments(self) -> None:
        """Let go of the arguments: no attempt will need them."""
        self.payload = self.arguments = self.held = None

    @property
    def parent(self) -> Task | None:
        """The task that submitted it, if it is still there; None: that is gone, or the driver."""
        return None if self.submitter is None else self.submitter()

    @property
    def identity(self) -> str:
        """What the task is called in a story."""
        return f"task {self.number}"

    def account(self) -> str:
        """Tell of the usual moves of the task, which `Story` does not write down."""
        return (
            f"It was submitted, or tried again, at {self.created_at:.6f}, ready at "
            f"{self.ready_at:.6f}, sent to worker {self.sent_to} as {self.seq} at "
            f"{self.sent_at:.6f}, entered at {self.started_at:.6f} for {self.seconds:.6f} seconds. "
        )

    @property
    def cancel_outcome(self) -> CancelOutcome:
        """What those are told who ask to cancel the task when it is done."""
        cancellation = self.cancellation
        return CancelOutcome.FINISHED_FIRST if cancellation is None else cancellation.outcome

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.name} attempt {self.attempt} {self.state.name}>"


class SchedulingClass:
    """Tasks that need the same resources and environment, and so queue behind one another.

    Those of another depth queue elsewhere: what a task waits for must not stand behind its like.
    One kind has no workers: its one task is the reservation of a placement group (`reserves`), and
    is finished when there is room for that. One makes actors (`creates`): each task gets a worker
    to itself, for good. And one is a concurrency group: calls of one `actor`, all that they need.
    """

    __slots__ = (
        "actor",
        "base",
        "creates",
        "demand",
        "demands",
        "depth",
        "devices_wanted",
        "environment",
        "forbidden",
        "group",
        "leases",
        "limit",
        "limiter",
        "number",
        "passed_over_since",
        "queue",
        "reported_infeasible",
        "reserves",
        "told_starved",
    )

    def __init__(
        self,
        demand: Demand,
        environment: Environment,
        depth: int = 0,
        *,
        demands: tuple[Demand, ...] | None = None,
        group: Group | None = None,
        reserves: Group | None = None,
        creates: bool = False,
        actor: SupervisedActor | None = None,
        limit: int = 0,
        limiter: StartLimiter | None = None,
        base: SchedulingClass | None = None,
    ) -> None:
        self.demand = demand  # as it was asked for
        self.demands = (demand,) if demands is None else demands  # one of these is what it takes
        self.devices_wanted = -(-dict(demand).get("GPU", 0) // UNIT)  # how many of its own it sees
        self.environment = environment
        self.depth = depth  # of the tasks that have submitted these; 0: the driver
        self.group = group  # on whose bundles it draws
        self.reserves = reserves
        self.creates = creates
        self.actor = actor  # see `actors`
        self.limit = limit  # how many calls of it run at once
        self.limiter = limiter  # whose permits all of its tasks need
        self.base = base  # the concurrency group whose limit it shares; None: it is none of those
        self.forbidden: Failure | None = None  # how its tasks fail instead of being queued
        self.queue: deque[Task] | RankedQueue = deque()  # the latter if priorities differ
        self.leases = 0  # workers that hold its resources; of a concurrency group: calls in flight
        self.passed_over_since: float | None = None  # it has no lease, and too little was free
        self.reported_infeasible = False
        self.told_starved: set[frozenset[str]] = set()  # who were told to hold what it needs
        self.number = next(_class_numbers)  # tells it from all others, also from those gone


@record(slots=True, eq=False, repr=False)
class Worker(Tracked):
    """One worker process, from the order to start it until it is reaped."""

    id: int
    environment: Environment
    actor: SupervisedActor | None = None  # which lives in it, or is about to
    settled: bool = False  # it holds its resources for as long as the actor lives
    state: WorkerStatus = WorkerStatus.STARTING
    in_flight: dict[int, Task] = field(default_factory=dict)  # task by seq, in the order sent
    lease: SchedulingClass | None = None  # whose resources it holds while busy
    held: Demand = ()  # which these are
    shares: Shares = ()  # of which devices, and how much of each
    devices: tuple[str, ...] = ()  # their names
    shown: tuple[str, ...] | None = None  # to its first attempt, and so to all; None: nothing yet
    functions: set[int] = field(default_factory=set)  # keys of those whose code it surely has
    calls: dict[int, int] = field(default_factory=dict)  # given, by key of function with max_calls
    given_up: set[int] = field(default_factory=set)  # seqs of failed calls that it may yet answer
    reclaims: deque[int] = field(default_factory=deque)  # newest seq at each, until it is answered
    idle_since: float = 0.0
    last_progress: float = 0.0
    stall_check: float | None = None  # when it is looked at whether it has stalled
    served: bool = False  # has answered or claimed at least one attempt
    blocked: bool = False  # what it runs waits for others, and has given its CPUs back
    excess: Excess | None = None  # it is condemned for its memory, see `memory`
    replaces: Worker | None = None  # whose place it takes as soon as it is ready

    @property
    def identity(self) -> str:
        """What the worker is called in a story."""
        return f"worker {self.id}"

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.name} {len(self.in_flight)} in flight>"


class SupervisedActor(Tracked):
    """One actor, from the call that asks for it until the last of its calls has failed."""

    __slots__ = (
        "__weakref__",
        "ahead",
        "asynchronous",
        "concurrency_groups",
        "counts_calls",
        "creation",
        "death",
        "done",
        "held",
        "intensity",
        "keeps_cpus",
        "key",
        "lines",
        "loss",
        "max_restarts",
        "num_restarts",
        "ordered",
        "patience",
        "payload",
        "released",
        "restarts_left",
        "state",
        "stop_seconds",
        "worker",
    )

    def __init__(
        self,
        key: Any,
        creation: Task,
        environment: Environment,
        *,
        concurrency_groups: Sequence[int] = (1,),
        ordered: bool = True,
        asynchronous: bool = False,
        keeps_cpus: bool = False,
        counts_calls: bool = True,
        max_restarts: int = 0,
        policy: RestartPolicy | None = None,
        payload: Any = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """Begin with an actor that is not made yet.

        key: what the shell knows it by. creation: its `scheduling_class` must be one that creates.
        concurrency_groups: how many calls may run at once in each, the default one first. ordered:
        calls of one caller keep their order; for one concurrency group of 1 only. keeps_cpus: it
        holds also the CPUs that its creation took as long as it lives. counts_calls: `done` is
        wanted. stop_seconds: how long its worker may take to end once it was asked to leave.
        """
        self.key = key
        self.creation = creation
        creation.actor = self
        self.concurrency_groups = tuple(
            SchedulingClass((), environment, actor=self, limit=each) for each in concurrency_groups
        )
        self.ordered = ordered
        self.asynchronous = asynchronous
        self.ahead = not asynchronous and tuple(concurrency_groups) == (1,)
        assert self.ahead or not ordered
        self.keeps_cpus = keeps_cpus
        self.counts_calls = counts_calls
        self.stop_seconds = stop_seconds
        self.max_restarts = max_restarts  # -1: unlimited
        self.restarts_left = max_restarts
        self.num_restarts = 0
        policy = policy or RestartPolicy()
        self.intensity = RestartIntensity.of(policy)
        self.patience = policy.patience  # seconds that calls wait for a restart
        self.payload = payload  # the shell's
        self.state = ActorStatus.DEPENDENCIES_UNREADY
        self.death: ActorDeath | None = None
        self.worker: Worker | None = None  # from the sending of its creation on
        self.loss: Any = None  # death report of the worker that it lost last; opaque here
        self.released = False  # no handle is left
        self.done: dict[int, int] = {}  # by caller: calls that have an outcome
        self.lines: dict[int, deque[Task]] = {}  # by caller, those whose first call is not ready
        self.held: set[int] = set()  # numbers of all calls that stand in lines

    @property
    def identity(self) -> str:
        """What the actor is called in a story."""
        return f"the actor of task {self.creation.number}"

    def __repr__(self) -> str:
        return f"<Actor {self.key!r} {self.state.name}>"
