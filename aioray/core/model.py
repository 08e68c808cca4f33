"""The records that the core keeps: tasks, workers, actors, scheduling classes.

Room: core. Data; the decisions are in `scheduler`. A `Task` is one object from submission to its
last ref: the shell hangs its own data on fields that are called the shell's, which the core never
looks into.
States change only by `Story.move`, see `states`.

Resource amounts are integers in 1/10,000 of a unit, so that fractions add up exactly.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .devices import UNIT
from .intensity import RestartIntensity, RestartPolicy
from .outcomes import CancelOutcome
from .states import ActorStatus, CancelStatus, TaskStatus, Tracked, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .devices import Demand, Shares
    from .functions import CallTraits, Function
    from .groups import Group
    from .outcomes import ActorDeath, AttemptRecord, Failure
    from .queues import RankedQueue
    from .retries import RetryPolicy

__all__ = [
    "Cancellation",
    "Environment",
    "SchedulingClass",
    "SupervisedActor",
    "Task",
    "Worker",
]

STOP_SECONDS = 5.0  # a polite stop that takes longer ends in a kill (as Ray does)

_class_numbers = itertools.count(1)

Environment = Hashable
"""What a worker process is made for, opaque here: only tasks of an equal one run in it."""


@dataclass(slots=True, eq=False)
class Cancellation(Tracked):
    """What was asked of one task that is to be cancelled, and how far that has gone."""

    state: CancelStatus = CancelStatus.REQUESTED
    request_ids: list[int] = field(default_factory=list)
    recursive: bool = False  # what the task submits from now on is cancelled too
    by_shutdown: bool = False  # nobody asked, but the engine has to end
    force: bool = False  # kill instead of interrupting: as asked, or the grace period is over
    outcome: CancelOutcome = CancelOutcome.FINISHED_FIRST  # of the failed task: how it came

    @property
    def identity(self) -> str:
        """What the cancellation is called in a story."""
        return "a cancel"


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
        "function",
        "held",
        "label",
        "lost",
        "max_calls",
        "max_retries",
        "name",
        "number",
        "parent",
        "payload",
        "policy",
        "priority",
        "queued_at",
        "rank",
        "ready_at",
        "retries_left",
        "returns",
        "scheduling_class",
        "seconds",
        "sent_at",
        "sent_to",
        "seq",
        "spec",
        "started_at",
        "state",
        "stream",
        "traits",
        "unready_dependencies",
        "worker",
    )

    def __init__(
        self,
        number: int,
        name: str,
        function: Function,
        scheduling_class: SchedulingClass,
        *,
        dependencies: tuple[Task, ...] = (),
        max_retries: int = 3,
        policy: RetryPolicy | None = None,
        max_calls: int = 0,
        parent: Task | None = None,
        label: Any = None,
        priority: float = 0.0,
        spec: Any = None,
        payload: Any = None,
        arguments: Any = None,
        held: Any = None,
        traits: CallTraits | None = None,
        caller: int = 0,
    ) -> None:
        self.actor: SupervisedActor | None = None  # which it makes
        self.traits: Any = traits  # of a call of an actor
        self.caller = caller  # of such a call: the worker that made it; 0: the driver
        self.label = label  # the shell's: what the task's id is made of
        self.number = number  # submission counter of the engine; never reused
        # What a task submits has its place, or those that wait for it would pile up.
        self.rank: int = number if parent is None else parent.rank  # at equal `queued_at`
        self.queued_at = 0.0  # when it was submitted, or was last put behind all others
        # See `queues.rank`; of what a task submits that of the task, unless it has one of its own.
        self.priority: float = priority or (0.0 if parent is None else parent.priority)
        self.parent = parent  # the task that submitted it; None: the driver
        self.children: dict[int, Task] | None = None  # those that it submitted, while unfinished
        self.name = name
        self.function = function
        self.scheduling_class = scheduling_class
        self.dependencies = dependencies  # until it is submitted; then `dependents` of these
        self.max_retries = max_retries  # -1: unlimited
        self.policy = policy  # delays between attempts; None: the default ones
        self.max_calls = max_calls  # 0: unlimited
        self.spec = spec  # the shell's: what is said to workers, the same for all such calls
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
        if self.cancellation is None:
            return CancelOutcome.FINISHED_FIRST
        return self.cancellation.outcome

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.name} attempt {self.attempt} {self.state.name}>"


class SchedulingClass:
    """Tasks that need the same resources and environment, and so queue behind one another.

    Those of another depth queue elsewhere: what a task waits for must not stand behind its like.
    One kind has no workers: its one task is the reservation of a placement group (`reserves`), and
    is finished when there is room for that. One makes actors (`creates`): each task gets a worker
    to itself, for good. And one is for calls of one `actor`, which need nothing but that: a lane.
    """

    __slots__ = (
        "actor",
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
        self.forbidden: Failure | None = None  # how its tasks fail instead of being queued
        self.queue: deque[Task] | RankedQueue = deque()  # the latter if priorities differ
        self.leases = 0  # workers that hold its resources; of a lane: calls in flight
        self.passed_over_since: float | None = None  # it has no lease, and too little was free
        self.reported_infeasible = False
        self.told_starved: set[frozenset[str]] = set()  # who were told to hold what it needs
        self.number = next(_class_numbers)  # tells it from all others, also from those gone


@dataclass(slots=True, eq=False, repr=False)
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
    # Of the first attempts that it was given, and so of all; None: it was given none yet, or there
    # are no devices.
    shown: tuple[str, ...] | None = None
    functions: set[int] = field(default_factory=set)  # keys of those whose code it surely has
    calls: dict[int, int] = field(default_factory=dict)  # given, by key of function with max_calls
    given_up: set[int] = field(default_factory=set)  # seqs of failed calls that it may yet answer
    reclaims: deque[int] = field(default_factory=deque)  # newest seq at each, until it is answered
    idle_since: float = 0.0
    last_progress: float = 0.0
    stall_check: float | None = None  # when it is looked at whether it has stalled
    served: bool = False  # has answered or claimed at least one attempt
    blocked: bool = False  # what it runs waits for others, and has given its CPUs back

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
        "counts_calls",
        "creation",
        "death",
        "done",
        "held",
        "intensity",
        "keeps_cpus",
        "key",
        "lanes",
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
        lanes: Sequence[int] = (1,),
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
        lanes: how many calls may run at once in each concurrency group, the default one first.
        ordered: calls of one caller keep their order; for one lane of 1 only. keeps_cpus: it holds
        also the CPUs that its creation took as long as it lives. counts_calls: `done` is wanted.
        stop_seconds: how long its worker may take to end once it was asked to leave.
        """
        self.key = key
        self.creation = creation
        creation.actor = self
        self.lanes = tuple(
            SchedulingClass((), environment, actor=self, limit=limit) for limit in lanes
        )
        self.ordered = ordered
        self.asynchronous = asynchronous
        self.ahead = not asynchronous and tuple(lanes) == (1,)
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
