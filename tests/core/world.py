"""A shell and workers without processes, in virtual time, that hold the scheduler to its word.

`World` carries out what the scheduler orders as the engine does: commands in their order, and what
follows from them queues up and is handled before any other news. A `FakeWorker` behaves as
`aioray.shared.wire` describes: it claims attempts in the order sent, one after it has answered the
one before; what it has not claimed can be taken back; answers lie in a pipe until somebody reads
them, also when it is dead. Between any two commands the workers may get on (`_meddle`).

Values get lost, with or without anybody noticing (`lose`, `_slip`). An attempt that is claimed
while an argument is gone ends with ARGUMENT_LOST. The shell answers `Revive` as that asks for: it
says which results are lost before what the task waits for; and it may take its time (`revive`).

A task may submit others while it runs (`spawn`), and wait for them or not (`block`, `unblock`).

Placement groups come and go (`request_group`, `remove_group`). The witness counts by itself what
groups and running tasks hold, GPU by GPU, and who could still be given something.

Actors are made (`submit` of an order that `makes` one), called, killed and let go of. A worker
that claims a creation is that actor's: if it is `ahead`, it claims its calls one by one, else it
runs at once whatever it claims. The witness keeps books of who runs what where, in which order, and
of who may come back.

Tasks and actors have time limits (`limits` of an order). The shell looks at an attempt at once, and
finds out where it is when it comes to that (`locate`).

After every event `World` checks what must always hold; `finish` brings everything to its end and
checks what must hold then.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aioray.core import dispatch, prefetch
from aioray.core import pool as pool_module
from aioray.core.call_queues import limited_group
from aioray.core.commands import (
    CancelCall,
    InterruptWorker,
    KillWorker,
    LocateAttempt,
    LookAtAttempt,
    PollWorker,
    ReclaimAttempts,
    ReportActor,
    ReportBreaker,
    ReportCancel,
    ReportInfeasible,
    ReportOrphans,
    ReportRetry,
    ReportStarved,
    ResolveFailure,
    ResolveValues,
    Revive,
    SendAttempts,
    StartWorker,
    Stopped,
    StopWorker,
)
from aioray.core.devices import Devices
from aioray.core.events import (
    ActorKilled,
    ActorReleased,
    AnswersReceived,
    AttemptLocated,
    AttemptSeen,
    AttemptsReclaimed,
    CancelRequested,
    Event,
    GroupRemoved,
    ResultLost,
    ResultWanted,
    Revived,
    ShutdownRequested,
    TasksSubmitted,
    TimerFired,
    WorkerBlocked,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
    WorkerUnblocked,
)
from aioray.core.functions import CallTraits, Function
from aioray.core.groups import Group
from aioray.core.invariants import check
from aioray.core.limiters import StartLimiter
from aioray.core.limits import TaskLimits
from aioray.core.model import SupervisedActor, Task
from aioray.core.outcomes import (
    LOST_CANCELLED,
    LOST_MAX_ATTEMPTS,
    LOST_RETRIES_DISABLED,
    ActorDeath,
    Answer,
    AttemptRecord,
    CancelOutcome,
    DeathCause,
    Ended,
    Failure,
    FailureKind,
    Overrun,
)
from aioray.core.scheduler import Scheduler
from aioray.core.states import ActorStatus, GroupStatus, TaskStatus

from .support import task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioray.core.devices import Demand
    from aioray.core.intensity import RestartPolicy
    from aioray.core.model import Environment, SchedulingClass
    from aioray.core.retries import RetryPolicy

CPU = 10_000
LIMITERS = ((1, None, 1.0), (2, 3, 0.3), (None, 2, 1.1))  # concurrency, rate, per
TOTAL = {"CPU": 3 * CPU, "GPU": 2 * CPU}
KEPT = 3  # idle workers that are kept: one for each CPU
HOUR = 3600.0  # seconds
MAX_WORKERS = 3  # in a world, so that environments compete for workers as well
SHORT = 1e-5  # seconds inside a function that is worth prefetching
LONG = 0.5
OF_CANCEL = (Ended.RAISED_CANCELLED, Ended.RAISED_CANCELLED_RETRYABLE)
GONE = "its code is gone"  # why the shell, now and then, forbids that a task runs again


@dataclass(frozen=True)
class Making:
    """What kind of an actor a task makes."""

    concurrency_groups: tuple[int, ...] = (1,)
    ordered: bool = True
    asynchronous: bool = False
    keeps_cpus: bool = False
    max_restarts: int = 0
    policy: RestartPolicy | None = None


@dataclass
class Order:
    """What a test wants submitted."""

    demand: Demand = (("CPU", CPU),)
    environment: Environment = ()
    function: int = 1
    dependencies: tuple[int, ...] = ()  # numbers of tasks
    parent: int | None = None  # number of the task that submits it
    max_retries: int = 3
    max_calls: int = 0
    policy: RetryPolicy | None = None
    priority: float = 0.0
    group: int | None = None  # key of a placement group, if it has a bundle for this demand
    bundle: int | None = None
    makes: Making | None = None
    calls: int | None = None  # key of the actor whose method it is
    concurrency_group: int = 0
    traits: CallTraits | None = None
    caller: int = 0
    limiter: int | None = None  # index in LIMITERS
    limits: TaskLimits | None = None


def make_limiters() -> list[StartLimiter]:
    return [StartLimiter(str(index), *figures) for index, figures in enumerate(LIMITERS)]


def limits_of(order: Order, limiters: Sequence[StartLimiter]) -> TaskLimits | None:
    """The limits of an order, with its limiter among them."""
    if order.limiter is None:
        return order.limits
    return replace(order.limits or TaskLimits(), limiter=limiters[order.limiter])


def group_of(
    order: Order, actors: Sequence[SupervisedActor], limiters: Sequence[StartLimiter]
) -> SchedulingClass:
    """The queue of a call."""
    assert order.calls is not None
    group = actors[order.calls].concurrency_groups[order.concurrency_group]
    return group if order.limiter is None else limited_group(group, limiters[order.limiter])


@dataclass
class FakeWorker:
    id: int
    environment: Environment
    up: bool = False  # the process runs and has said so
    dead: bool = False  # it is over, and waits to be reaped
    known_dead: bool = False  # and the scheduler has been told so
    kill_ordered: bool = False
    stop_ordered: bool = False
    claims: deque[tuple[int, Task]] = field(default_factory=deque)
    running: tuple[int, Task] | None = None
    running_since: float = 0.0
    since: dict[int, float] = field(default_factory=dict)  # so it has run what is in `several`
    beat: float = 0.0
    lacking: bool = False  # an argument of what it runs was gone when it claimed that
    blocked: bool = False  # what it runs waits for others
    stubborn: bool = False  # neither an interrupt nor a polite request moves it
    answers: list[Answer] = field(default_factory=list)  # written and not yet read
    interrupt: int = 0  # the seq that is to be interrupted
    calls: Counter[int] = field(default_factory=Counter)  # claimed, by function
    actor: SupervisedActor | None = None  # whose creation it has claimed
    made: bool = False  # that has returned
    exiting: bool = False  # a method has ended the actor
    several: dict[int, tuple[Task, bool]] = field(default_factory=dict)  # calls it runs at once,
    # and whether an argument was gone; only if its actor is not one that is sent calls ahead
    flagged: set[int] = field(default_factory=set)  # seqs of running calls that are cancelled
    shown: tuple[str, ...] | None = None  # the GPUs that it sees; None: nobody has looked yet

    def runs(self) -> list[tuple[int, Task]]:
        """Whatever it runs."""
        running = [] if self.running is None else [self.running]
        return running + [(seq, task) for seq, (task, _) in self.several.items()]


def is_call(task: Task) -> bool:
    """Whether it is a method of an actor."""
    return task.scheduling_class.actor is not None


def actor_of(task: Task) -> SupervisedActor:
    """Whose method it is."""
    assert task.scheduling_class.actor is not None
    return task.scheduling_class.actor


def is_leaving(worker: FakeWorker) -> bool:
    """Whether the scheduler knows that it takes nothing any more."""
    return worker.known_dead or worker.kill_ordered or worker.stop_ordered


def is_idle(worker: FakeWorker) -> bool:
    """Whether it has nothing to do, and the scheduler knows it."""
    return (
        worker.up
        and not worker.dead
        and not worker.running
        and not worker.claims
        and not worker.answers
        and not worker.stop_ordered
        and not worker.kill_ordered
        and worker.actor is None
    )


class World:
    """One scheduler, the fake shell around it, and the book-keeping of an incorruptible witness."""

    def __init__(self, seed: int = 0, *, meddling: float = 0.0) -> None:
        self.chance = random.Random(seed)
        self.meddling = meddling  # how often workers get on between two commands
        self.now = 0.0
        self.scheduler = Scheduler(TOTAL, random.Random(seed))
        self.functions = {key: Function(key, f"f{key}") for key in (1, 2, 3)}
        self.limiters = make_limiters()
        self._limits_some = seed % 4 == 3  # in the other walks functions crash often enough
        self.starts: dict[int, list[float]] = {}  # by limiter
        self.workers: dict[int, FakeWorker] = {}
        self.tasks: dict[int, Task] = {}
        self.orders: dict[int, Order] = {}  # by number of the task
        self.history: list[tuple[float, Event]] = []
        self.log: list[str] = []  # the commands, as text
        self.outcomes: dict[int, Failure | str] = {}
        self.stopped = 0
        self.closing = False
        self.cancels: dict[int, CancelRequested] = {}
        self.reports: dict[int, CancelOutcome] = {}
        self.infeasible: set[int] = set()
        self._events: deque[Event] = deque()
        self._children: dict[int, list[int]] = {}  # numbers, by number of the parent
        self._families: set[int] = set()  # tasks that were cancelled with what they submit
        self._cancelled: set[int] = set()  # tasks that somebody has asked to cancel in time
        self._condemned: set[int] = set()  # of these: to be killed if nothing else helps
        self._late: set[int] = set()  # requests to cancel what was done already
        self.cancel_events: Counter[str] = Counter()  # what came of cancels, likewise
        self._told: list[int] = []  # reports of cancels that are to be compared with what is there
        self._never_again: set[int] = set()  # tasks whose cancel was reported as NOT_STARTED
        self._started: Counter[int] = Counter()  # attempts entered or claimed, by task
        self._last_answer: dict[int, Answer] = {}  # by task
        self._died: set[tuple[int, int, int]] = set()  # running when their worker died
        self.values: dict[int, None] = {}  # numbers of tasks whose values are there, newest last
        self.gone: dict[int, None] = {}  # of those whose values were lost, newest last
        self.wanted: set[int] = set()  # tasks whose values were lost and asked for since
        self.revivals: deque[Task] = deque()  # Revive was ordered and is not answered yet
        self._forbidden: set[int] = set()  # tasks that the shell could not have run again
        self.locations: deque[LocateAttempt] = deque()  # ordered and not answered yet
        self.submitted: dict[int, float] = {}  # when, by number
        self.overruns: Counter[str] = Counter()  # what came of them, likewise
        self.groups: list[Group] = []
        self.actors: list[SupervisedActor] = []  # by key
        self.actor_events: Counter[str] = Counter()  # what came of them, to see that all of it came
        self.deaths: Counter[int] = Counter()  # of workers of actors, by key
        self.killed: set[int] = set()  # keys of actors that somebody has asked to kill
        self._for_good: set[int] = set()  # of these, and others: they must not come back
        self._dropped: dict[int, None] = {}  # nobody holds a handle, but unfinished calls may
        self._released: set[int] = set()
        self._dead: set[int] = set()  # keys of actors
        self.restarts: Counter[int] = Counter()  # by key of the actor
        self.makings: list[Making] = []  # by key of the actor
        self._ever: set[int] = set()  # tasks that have had a value
        self.group_events: Counter[str] = Counter()  # what came of them, likewise
        self.losses: Counter[str] = Counter()  # what came of them, to see that all of it came
        self._do: dict[type[Any], Any] = {
            StartWorker: self._do_start,
            SendAttempts: self._do_send,
            ReclaimAttempts: self._do_reclaim,
            PollWorker: lambda command: self._read(self.workers[command.worker_id]),
            InterruptWorker: self._do_interrupt,
            KillWorker: self._do_kill,
            StopWorker: self._do_stop,
            ResolveValues: self._do_resolve_values,
            ResolveFailure: self._do_resolve_failure,
            Revive: self._do_revive,
            ReportCancel: self._do_report_cancel,
            ReportRetry: self._do_report_retry,
            LookAtAttempt: self._do_look,
            LocateAttempt: self.locations.append,
            ReportInfeasible: lambda command: self.infeasible.add(command.task.number),
            ReportStarved: self._do_report_starved,
            ReportOrphans: self._do_report_orphans,
            CancelCall: self._do_cancel_call,
            ReportActor: self._do_report_actor,
            ReportBreaker: self._do_report_breaker,
            Stopped: self._do_stopped,
        }

    # ------------------------------------------------------------ the shell

    def feed(self, event: Event) -> None:
        """Hand an event to the scheduler and carry out what it orders, and what follows."""
        self._events.append(event)
        while self._events:
            event = self._events.popleft()
            if isinstance(event, ResultLost):
                assert event.task.number not in self.values
            self.history.append((self.now, event))
            commands = self.scheduler.handle(event, self.now)
            self.log.append(repr(commands))
            check(self.scheduler)
            for command in commands:
                self._meddle()
                self._do[type(command)](command)
        self._check_workers()
        self._check_cancels()
        for key in tuple(self._dropped):
            if key in self._dropped and not self._is_called(key):
                del self._dropped[key]
                self._released.add(key)
                self.feed(ActorReleased(self.actors[key]))

    def _is_called(self, key: int) -> bool:
        """Whether a call of this actor has no outcome yet."""
        actor = self.actors[key]
        return any(task.scheduling_class.actor is actor for task in self.unfinished())

    def _do_start(self, command: StartWorker) -> None:
        assert command.worker_id not in self.workers
        self.workers[command.worker_id] = FakeWorker(
            command.worker_id, command.environment, stubborn=self.chance.random() < 0.5
        )
        most = pool_module.MAX_WORKERS + self.scheduler.blocked_workers
        most += self.scheduler.pool.housed
        assert len(self.workers) <= most

    def _do_send(self, command: SendAttempts) -> None:
        worker = self.workers[command.worker_id]
        assert worker.up
        assert not worker.stop_ordered
        assert not worker.known_dead
        assert 0 < len(command.tasks) <= dispatch.MAX_BUNDLE
        for task in command.tasks:
            assert task.scheduling_class.environment == worker.environment
            assert task.number not in self._cancelled
            assert not self.is_past_deadline(task)
            self._check_permit(task)
            if is_call(task):
                self._check_call(worker, task)
            else:
                assert worker.actor is None
                assert not any(other.actor for _, other in worker.claims)
                self._check_devices(task)
            assert task.worker is not None
            assert worker.shown in (None, task.worker.devices), "other devices than before"
            worker.shown = task.worker.devices
            worker.claims.append((task.seq, task))
        assert len(worker.claims) <= prefetch.MAX_IN_FLIGHT

    def _check_permit(self, task: Task) -> None:
        """No more run at once, and have started within the time, than its limiter allows."""
        limiter = self.orders[task.number].limiter
        if limiter is None:
            return
        concurrency, rate, per = LIMITERS[limiter]
        starts = self.starts.setdefault(limiter, [])
        starts.append(self.now)
        assert rate is None or sum(at + per > self.now for at in starts) <= rate
        running = [
            other
            for each in self.scheduler.pool.workers.values()
            for other in each.in_flight.values()
            if self.orders[other.number].limiter == limiter
        ]
        assert task in running
        assert concurrency is None or len(running) <= concurrency

    def _check_call(self, worker: FakeWorker, task: Task) -> None:
        """It goes where its actor lives, and what has to run before it is there already."""
        actor = actor_of(task)
        assert worker.actor is actor
        assert worker.made
        assert not worker.exiting or self._unread(worker)  # it may not be known yet
        here = [other for _, other in worker.claims]
        here += [other for _, other in worker.runs()]
        here += [self.tasks[int(answer.payload.split(".")[0])] for answer in self._unread(worker)]
        if not actor.ahead:
            same = [other for other in here if other.scheduling_class is task.scheduling_class]
            assert len(same) < task.scheduling_class.limit
            return
        assert not any(other.traits.retries_errors for other in here if is_call(other))
        if actor.ordered:
            for other in self.tasks.values():
                if (
                    other.number < task.number
                    and other.scheduling_class.actor is actor
                    and other.caller == task.caller
                    and other.number not in self.outcomes
                    and other.number not in self._ever  # has run, and runs again when it may
                ):
                    died = (other.number, other.attempt, worker.id) in self._died
                    assert other in here or died, (task, other)

    def _unread(self, worker: FakeWorker) -> list[Answer]:
        """What it has answered and the scheduler was not told yet."""
        on_the_way = [
            answer
            for event in self._events
            if isinstance(event, AnswersReceived) and event.worker_id == worker.id
            for answer in event.answers
        ]
        return on_the_way + worker.answers

    def _do_report_starved(self, command: ReportStarved) -> None:
        """What is told to be held is held for life, and leaves no room for what waits."""
        held: Counter[str] = Counter()
        for holder, amounts in command.holdings:
            if isinstance(holder, Group):
                assert holder.state is GroupStatus.CREATED
                held.update(dict(amounts))
                continue
            if isinstance(holder, SupervisedActor):
                assert holder.state is ActorStatus.ALIVE
            else:
                assert holder.worker is not None
                assert holder.worker.blocked
            task = holder.creation if isinstance(holder, SupervisedActor) else holder
            if task.scheduling_class.group is None:
                held.update(dict(amounts))
        for task, count in command.waiting:
            cls = task.scheduling_class
            assert count == sum(each.name == task.name for each in cls.queue)
            assert cls.group is not None or any(
                # Halves of GPUs that are free on two do not make one.
                amount > TOTAL[name] - held[name] or name == "GPU"
                for name, amount in cls.demand
            )
            self.group_events["starved"] += 1

    def _do_cancel_call(self, command: CancelCall) -> None:
        worker = self.workers[command.worker_id]
        assert worker.actor is not None
        assert command.seq not in [seq for seq, _ in worker.claims], "it could be taken back"
        worker.flagged.add(command.seq)

    def _do_report_actor(self, command: ReportActor) -> None:
        actor, key = command.actor, command.actor.key
        assert key not in self._dead
        self.actor_events[actor.state.name] += 1
        if actor.num_restarts > self.restarts[key]:
            assert not self.closing or self.unfinished(), "nobody needs it"
            # It may count kills before it was made, or have failed for good.
            had = self.outcomes.get(actor.creation.number)
            if actor.state is not ActorStatus.ALIVE and not isinstance(had, Failure):
                self.outcomes.pop(actor.creation.number, None)
            self.restarts[key] = actor.num_restarts
            assert actor.num_restarts <= self.deaths[key]
            assert actor.max_restarts < 0 or self.restarts[key] <= actor.max_restarts
            if actor.state is not ActorStatus.DEAD:  # else kills of one that restarts are in it
                assert key not in self._for_good
                assert key not in self._released
        if actor.state is ActorStatus.DEAD:
            self._dead.add(key)
            assert actor.death is not None
            self.actor_events[actor.death.cause.name] += 1
            self._check_death(actor, actor.death)
        elif actor.state is ActorStatus.ALIVE:
            assert self._last_answer[actor.creation.number].ended is Ended.RETURNED

    def _check_death(self, actor: SupervisedActor, death: ActorDeath) -> None:
        key, cause = actor.key, death.cause
        assert death.actor is actor
        if cause is DeathCause.WORKER_DIED:
            assert self.deaths[key] == actor.max_restarts + 1
        elif cause is DeathCause.TOO_OFTEN:
            assert self.deaths[key] > (_intensity(self.makings[key]))
        elif cause is DeathCause.EXITED:
            assert key in self._for_good
        elif cause is DeathCause.KILLED:
            assert key in self._for_good & self.killed
        elif cause is DeathCause.OUT_OF_SCOPE:
            assert key in self._released
        elif cause is DeathCause.GROUP_REMOVED:
            assert self._group_is_gone(actor.creation)
        elif cause is DeathCause.SHUTDOWN:
            assert self.closing

    def _do_reclaim(self, command: ReclaimAttempts) -> None:
        worker = self.workers[command.worker_id]
        seqs = [seq for seq, _ in worker.claims]
        worker.claims.clear()
        self._events.append(AttemptsReclaimed(worker.id, seqs))

    def _do_interrupt(self, command: InterruptWorker) -> None:
        self.workers[command.worker_id].interrupt = command.seq

    def _do_report_retry(self, command: ReportRetry) -> None:
        self._check_record(command.task, command.record)
        if command.record.kind is FailureKind.TIMEOUT:
            assert command.record.detail.retries
            self.overruns["retried"] += 1

    def _do_report_breaker(self, command: ReportBreaker) -> None:
        self.overruns[command.state.name] += 1

    def _do_look(self, command: LookAtAttempt) -> None:
        worker = self.workers[command.worker_id]
        entered = worker.since.get(command.seq) if command.seq in worker.several else None
        if worker.running is not None and worker.running[0] == command.seq:
            entered = worker.running_since
        self._events.append(AttemptSeen(worker.id, command.seq, entered, worker.beat))

    def locate(self) -> None:
        """Answer the oldest LocateAttempt."""
        command = self.locations.popleft()
        task, retries = command.task, self.chance.random() < 0.5
        self.feed(AttemptLocated(command.worker_id, task.seq, "here", retries))

    def is_past_deadline(self, task: Task) -> bool:
        """Whether it has a deadline that has passed, and had never been finished before."""
        limits = self.orders[task.number].limits
        if limits is None or limits.deadline is None or task.number in self._ever:
            return False
        if task.actor is not None and self._last_answer.get(task.number) is not None:
            return False  # it may have been made once
        return self.now >= self.submitted[task.number] + limits.deadline

    def _check_overrun(self, task: Task, overrun: Overrun) -> None:
        limits = self.orders[task.number].limits
        assert limits is not None
        assert overrun.seconds == getattr(limits, overrun.option)
        self.overruns[overrun.option] += 1
        if overrun.is_final:
            assert self.is_past_deadline(task)
        else:
            assert self.now >= task.sent_at + overrun.seconds

    def _do_kill(self, command: KillWorker) -> None:
        worker = self.workers[command.worker_id]
        assert not worker.kill_ordered
        worker.kill_ordered = True
        if worker.actor is not None:
            killed = worker.actor.key in self.killed or self._group_is_gone(worker.actor.creation)
            ended = worker.exiting or worker.stop_ordered or worker.dead
            late = [task for _, task in worker.runs()] + [worker.actor.creation]
            # It may have answered after the scheduler had looked.
            late += [self.tasks[int(each.payload.split(".")[0])] for each in self._unread(worker)]
            late = [t for t in late if t.cancellation is not None and self.orders[t.number].limits]
            if late:
                self.overruns["actor killed"] += 1
                return
            assert killed or self.closing or ended, "an actor is killed"
            return
        if worker.running is not None and not self.closing:
            cancellation = worker.running[1].cancellation
            if self._group_is_gone(worker.running[1]):
                self.group_events["killed"] += 1
                return
            assert cancellation is not None, "a bystander is killed"
            assert cancellation.force
            if cancellation.overrun is not None:
                self.overruns["killed"] += 1

    def _do_stop(self, command: StopWorker) -> None:
        worker = self.workers[command.worker_id]
        assert not worker.stop_ordered
        assert not worker.claims or worker.exiting
        assert not worker.runs() or worker.exiting
        worker.stop_ordered = True

    def _do_resolve_values(self, command: ResolveValues) -> None:
        for task, value in command.results:
            assert task.number not in self.outcomes
            assert task.state is TaskStatus.FINISHED
            group = task.scheduling_class.reserves
            if group is not None:
                assert group.state is GroupStatus.CREATED
                self.group_events["placed"] += 1
                self.outcomes[task.number] = value
                continue
            assert self._last_answer[task.number].ended is Ended.RETURNED
            assert self._last_answer[task.number].payload == value
            self.outcomes[task.number] = value
            if task.actor is not None:
                continue  # nobody can lose that
            self._ever.add(task.number)
            self.values[task.number] = None
            self.gone.pop(task.number, None)

    def _do_resolve_failure(self, command: ResolveFailure) -> None:
        task, failure = command.task, command.failure
        had = self.outcomes.get(task.number)
        assert not isinstance(had, Failure)
        assert task.state is TaskStatus.FAILED
        assert task.number not in self.values
        if had is not None:
            assert failure.kind in (
                FailureKind.LOST,
                FailureKind.SHUTDOWN,
                FailureKind.GROUP_REMOVED,
                FailureKind.TIMEOUT,
                FailureKind.CIRCUIT_OPEN,
            )
        if failure.kind is FailureKind.TIMEOUT:
            self._check_overrun(task, failure.detail)
            assert had is None or not failure.detail.is_final
        if failure.kind is FailureKind.CIRCUIT_OPEN:
            limits = self.orders[task.number].limits
            assert limits is not None
            assert limits.breaker is not None
            assert len(failure.detail.deaths) == limits.breaker.crashes
            self.overruns["refused"] += 1
        if failure.kind is FailureKind.LOST:
            self._check_loss(task, failure)
        self.gone.pop(task.number, None)
        if failure.kind is FailureKind.GROUP_REMOVED:
            self.group_events["failed"] += 1
            assert self._group_is_gone(task)
        if failure.kind is FailureKind.SHUTDOWN:
            assert self.closing
        if failure.kind is FailureKind.ACTOR_DIED:
            assert failure.detail is (task.actor or actor_of(task)).death is not None
        if failure.kind is FailureKind.ACTOR_UNAVAILABLE:
            assert failure.detail.actor is actor_of(task)
            assert failure.attempts[-1].kind is failure.kind
        if failure.kind is FailureKind.DEPENDENCY:
            assert failure.upstream is not None
            assert isinstance(self.outcomes[failure.upstream.number], Failure)
        if failure.kind in (FailureKind.WORKER_STARTUP, FailureKind.ENVIRONMENT):
            environment = task.scheduling_class.environment
            known = self.scheduler.pool.workers
            staying = [
                worker
                for worker in self.workers.values()
                if worker.up and worker.id in known and not known[worker.id].blocked
                if known[worker.id].actor is None
                if self._could_show(worker, task)
            ]
            if failure.kind is FailureKind.ENVIRONMENT:
                staying = [worker for worker in staying if not is_leaving(worker)]
            assert environment not in [worker.environment for worker in staying]
        for record in failure.attempts:
            self._check_record(task, record)
        if task.actor is not None:
            assert len(failure.attempts) <= task.actor.num_restarts + 1
        elif task.max_retries >= 0:
            assert len(failure.attempts) <= task.max_retries + 1
        self.outcomes[task.number] = failure

    def _check_loss(self, task: Task, failure: Failure) -> None:
        self.losses[failure.detail] += 1
        if failure.detail == GONE:
            assert task.number in self._forbidden
            return
        assert isinstance(self.outcomes[task.number], str)
        if failure.detail == LOST_CANCELLED:
            assert task.number in self._cancelled
            return
        assert self._started[task.number] == task.max_retries + 1
        kind = LOST_MAX_ATTEMPTS if task.max_retries else LOST_RETRIES_DISABLED
        assert failure.detail == kind

    def _do_revive(self, command: Revive) -> None:
        task = command.task
        assert task.state is TaskStatus.PENDING_ARGS_AVAIL
        assert task not in self.revivals
        assert task.number not in self.values
        had = self.outcomes.pop(task.number, None)
        if had is None:
            assert self._last_answer[task.number].ended is Ended.ARGUMENT_LOST
        else:
            assert isinstance(had, str)
            assert self._last_answer[task.number].ended is Ended.RETURNED
            assert task.number not in self._cancelled
        self.losses["argument" if had is None else "revived"] += 1
        self.revivals.append(task)
        if self.chance.random() < 0.7:
            self._events.extend(self._revived(task))

    def _revived(self, task: Task) -> list[Event]:
        """The answer to Revive, and before it what is found out on the way."""
        self.revivals.remove(task)
        if self.chance.random() < 0.03:
            self._forbidden.add(task.number)
            return [Revived(task, (), GONE)]
        dependencies = [self.tasks[n] for n in self.orders[task.number].dependencies]
        gone = [upstream for upstream in dependencies if not self._has_value(upstream.number)]
        lost: list[Event] = [
            ResultLost(upstream) for upstream in gone if upstream.state is TaskStatus.FINISHED
        ]
        return [*lost, Revived(task, self.chance.choice((gone, dependencies)))]

    def _check_record(self, task: Task, record: AttemptRecord) -> None:
        if record.kind in (
            FailureKind.WORKER_DIED,
            FailureKind.ACTOR_DIED,
            FailureKind.ACTOR_UNAVAILABLE,
        ):
            # Only what was running when the worker died was harmed by that.
            assert (task.number, record.number, record.worker_id) in self._died
        if record.kind is FailureKind.GROUP_REMOVED:
            assert self._group_is_gone(task)

    def _do_report_cancel(self, command: ReportCancel) -> None:
        assert command.request_id in self.cancels
        assert command.request_id not in self.reports
        self.reports[command.request_id] = command.outcome
        self._told.append(command.request_id)
        number = self.cancels[command.request_id].task.number
        if command.outcome is CancelOutcome.NOT_STARTED:
            self._never_again.add(number)
            assert not any(
                task.number == number
                for worker in self.workers.values()
                for _, task in worker.runs()
                if not worker.kill_ordered
            )
        elif command.outcome is CancelOutcome.INTERRUPTED:
            last = self._last_answer[number]
            flagged = [seq for worker in self.workers.values() for seq in worker.flagged]
            ends = (Ended.INTERRUPTED, *OF_CANCEL)
            assert last.ended in ends or last.seq in flagged or command.request_id in self._late

    def _check_cancels(self) -> None:
        """Who has asked for a cancel was told what the ref says."""
        told, self._told = self._told, []
        for request_id in told:
            task, outcome = self.cancels[request_id].task, self.reports[request_id]
            if task.scheduling_class.reserves is not None or task.actor is not None:
                continue  # it is no work that could be cancelled
            found = self.outcomes.get(task.number)
            if found is None:  # its value was lost since, and it runs again
                assert task.number in self._ever
            cancelled = isinstance(found, Failure) and self._is_of_cancel(task, found)
            assert (outcome is not CancelOutcome.FINISHED_FIRST) == cancelled, (task, found)
            self.cancel_events[outcome.name] += 1
            if request_id in self._late:
                self.cancel_events[f"{outcome.name} before"] += 1

    def _is_of_cancel(self, task: Task, failure: Failure) -> bool:
        """Whether awaiting the task raises TaskCancelledError."""
        if failure.kind is FailureKind.DEPENDENCY:
            upstream = failure.upstream
            assert upstream is not None
            error = self.outcomes[upstream.number]
            return isinstance(error, Failure) and self._is_of_cancel(upstream, error)
        if failure.kind is FailureKind.APPLICATION:
            return self._last_answer[task.number].ended in OF_CANCEL
        return failure.kind is FailureKind.CANCELLED

    def _do_report_orphans(self, command: ReportOrphans) -> None:
        for task in command.tasks:
            assert task.number not in self.outcomes
            assert task.parent is not None
            died = {number for number, _, _ in self._died}
            assert (
                task.parent.number in died
                or self.closing
                or task.parent.cancellation
                or self.orders[task.parent.number].limits is not None
                or self._group_is_gone(task.parent)
            )

    def _do_stopped(self, _command: Stopped) -> None:
        self.stopped += 1
        assert not self.workers

    def _read(self, worker: FakeWorker) -> None:
        if worker.answers:
            self._events.append(AnswersReceived(worker.id, tuple(worker.answers)))
            worker.answers.clear()

    def _check_workers(self) -> None:
        held: Counter[str] = Counter()
        oversubscribed = self.scheduler.oversubscribed
        for name, amount in oversubscribed.items():
            assert not amount or name.startswith("CPU"), oversubscribed
        for group in self.groups:
            if self._is_placed(group):
                held.update(dict(group.demand))
                bundles: Counter[str] = Counter()
                for worker in self.workers.values():
                    cls = self._class_used(worker)
                    if cls is not None and cls.group is group:
                        bundles.update(self._held_by(worker))
                for name in bundles:
                    names = [f"{name}_group_{i}_{group.key}" for i in range(len(group.bundles))]
                    beyond = sum(oversubscribed.get(each, 0) for each in names)
                    assert bundles[name] <= dict(group.demand)[name] + beyond
        for worker in self.workers.values():
            cls = self._class_used(worker)
            if cls is not None and cls.group is None:
                held.update(self._held_by(worker))
        assert all(held[name] <= TOTAL[name] + oversubscribed[name] for name in held), held
        for number in range(TOTAL["GPU"] // CPU):
            assert self._used(str(number), in_groups=False) <= CPU
            assert self._used(str(number), in_groups=True) <= CPU

    def _class_used(self, worker: FakeWorker) -> SchedulingClass | None:
        """What it uses resources for, if for anything."""
        if worker.actor is None:
            return None if worker.running is None else worker.running[1].scheduling_class
        creation = worker.actor.creation
        creating = worker.running is not None and worker.running[1] is creation
        keeps = worker.made and not worker.dead and self.makings[worker.actor.key].keeps_cpus
        return creation.scheduling_class if creating or keeps else None

    def _held_by(self, worker: FakeWorker) -> dict[str, int]:
        """What it uses of the machine, or of a bundle: no CPU if what it runs waits for others."""
        cls = self._class_used(worker)
        assert cls is not None
        demand = dict(cls.demand)
        if worker.blocked or (worker.made and self.scheduler.pool.workers[worker.id].blocked):
            demand.pop("CPU", None)  # the latter: it has not heard yet that the call has ended
        return demand

    def _used(self, device: str, *, in_groups: bool) -> int:
        """How much of a GPU running tasks hold, and the groups or the tasks in these."""
        shares = [
            self.scheduler.pool.workers[worker.id].shares
            for worker in self.workers.values()
            if not worker.dead
            and (cls := self._class_used(worker)) is not None
            and (in_groups or cls.group is None)
        ]
        if not in_groups:
            shares += [share for g in self.groups if self._is_placed(g) for share in g.shares]
        return sum(amount for share in shares for name, amount in share if name == device)

    def _check_devices(self, task: Task) -> None:
        """It was given as many GPUs as it asked for, whole ones if it asked for whole ones."""
        assert task.worker is not None
        shares = task.worker.shares
        wanted = dict(task.scheduling_class.demand).get("GPU", 0)
        assert sum(amount for _, amount in shares) == wanted
        assert len({device for device, _ in shares}) == max(wanted > 0, wanted // CPU)
        group = task.scheduling_class.group
        if group is not None:
            assert {name for name, _ in shares} <= {n for share in group.shares for n, _ in share}

    def _could_show(self, worker: FakeWorker, task: Task) -> bool:
        """Whether what its process has seen can be what the task is given."""
        if not worker.shown:
            return worker.shown is None or not dict(task.scheduling_class.demand).get("GPU", 0)
        wanted = dict(task.scheduling_class.demand).get("GPU", 0)
        group = task.scheduling_class.group
        shares = [] if group is None else [{name for name, _ in share} for share in group.shares]
        if shares and (bundle := self.orders[task.number].bundle) is not None:
            shares = [shares[bundle]]
        return len(worker.shown) == -(-wanted // CPU) and (
            group is None or any(share.issuperset(worker.shown) for share in shares)
        )

    def _is_placed(self, group: Group) -> bool:
        """Whether it holds its resources, perhaps only because its workers are not dead yet."""
        return group.state is GroupStatus.CREATED or bool(group.leases)

    def _group_is_gone(self, task: Task) -> bool:
        cls = task.scheduling_class
        group = cls.group or cls.reserves
        return group is not None and group.state is GroupStatus.REMOVED

    def _has_value(self, number: int) -> bool:
        """Whether the value is there; that of a reservation or a creation cannot be lost."""
        task = self.tasks[number]
        if task.scheduling_class.reserves is not None or task.actor is not None:
            return isinstance(self.outcomes.get(number), str)
        return number in self.values

    def unfinished(self) -> list[Task]:
        """The tasks without an outcome."""
        return [task for task in self.tasks.values() if task.number not in self.outcomes]

    def _check_nothing_is_stuck(self) -> None:
        """Nobody is idle while work waits behind an attempt that turned out long."""
        for stuck in self.workers.values():
            if not stuck.running or not stuck.claims or stuck.dead or stuck.kill_ordered:
                continue
            if stuck.actor is not None:
                continue  # nobody else could run that
            assert not stuck.blocked
            if self.now - stuck.running_since > 2 * prefetch.LONGEST_STALL_CHECK:
                cls = stuck.running[1].scheduling_class
                assert not self.scheduler.resources.free_leases(cls) or not any(
                    is_idle(worker)
                    and worker.environment == stuck.environment
                    and worker.shown in (None, () if stuck.shown == () else None)
                    for worker in self.workers.values()
                ), stuck

    def was_stopped(self, task: Task) -> bool:
        """Whether a cancel has ended it while it ran."""
        stops = (CancelOutcome.INTERRUPTED, CancelOutcome.KILLED)
        return any(
            outcome in stops and self.cancels[request_id].task is task
            for request_id, outcome in self.reports.items()
        )

    def claimed(self) -> list[Task]:
        """The tasks that run or have run, as far as their answer was not read yet."""
        return [
            task
            for worker in self.workers.values()
            for task in (
                *(self.tasks[int(answer.payload.split(".")[0])] for answer in worker.answers),
                *(task for _, task in worker.runs()),
            )
        ]

    # ------------------------------------------------------------ what workers do

    def _meddle(self) -> None:
        while self.workers and self.chance.random() < self.meddling:
            worker = self.chance.choice(list(self.workers.values()))
            steps = (self.claim, self.end, self.die, self._slip)
            step = self.chance.choices(steps, (20, 20, 2, 1))[0]
            step(worker)

    def _slip(self, _worker: FakeWorker) -> None:
        """A value goes, and nobody notices."""
        if self.values:
            self._drop(self.one_of(self.values))

    def _drop(self, task: Task) -> None:
        if task.number in self.values:
            del self.values[task.number]
            self.gone[task.number] = None
            self.wanted.discard(task.number)

    def one_of(self, numbers: dict[int, None]) -> Task:
        """One of the newest of these tasks: others may well depend on it."""
        back = self.chance.randrange(min(10, len(numbers)))
        return self.tasks[next(itertools.islice(reversed(numbers), back, None))]

    def claim(self, worker: FakeWorker) -> None:
        """It takes the next attempt and begins to run it."""
        if worker.dead or worker.running is not None or not worker.claims or worker.exiting:
            return
        seq, task = worker.claims.popleft()
        if not worker.kill_ordered:
            assert task.number not in self.outcomes
            assert task.number not in self._never_again
        assert not any(
            running is task
            for other in self.workers.values()
            for _, running in other.runs()
            if not other.dead
        ), "two attempts of one task run at the same time"
        worker.calls[task.function.key] += 1
        assert not task.max_calls or worker.calls[task.function.key] <= task.max_calls
        self._started[task.number] += 1
        if not worker.kill_ordered:
            assert self._started[task.number] <= task.attempt + 1, "it runs again unaccounted"
        dependencies = self.orders[task.number].dependencies
        lacking = not all(map(self._has_value, dependencies))
        if task.actor is not None:
            most = task.actor.max_restarts
            worker.actor = task.actor
        else:
            most = task.max_retries
        assert most < 0 or self._started[task.number] <= most + 1
        if is_call(task):
            actor = actor_of(task)
            assert worker.actor is actor
            assert worker.made
            if not actor.ahead:
                worker.several[seq] = task, lacking
                worker.since[seq] = self.now
                concurrency_group = task.scheduling_class
                running = [other for other, _ in worker.several.values()]
                assert (
                    sum(other.scheduling_class is concurrency_group for other in running)
                    <= concurrency_group.limit
                )
                return
        worker.running = (seq, task)
        worker.blocked = False
        worker.running_since = self.now
        worker.lacking = lacking

    def end(self, worker: FakeWorker, ended: Ended | None = None) -> None:
        """What it runs comes to an end, by chance if not told how; the answer lies in the pipe."""
        if worker.dead:
            return
        if worker.several:
            seq = self.chance.choice(list(worker.several))
            task, lacking = worker.several[seq]
        elif worker.running is not None:
            seq, task = worker.running
            lacking = worker.lacking
        else:
            return
        if ended is None:
            ended = self.chance.choice(
                (Ended.RETURNED, Ended.RETURNED, Ended.RAISED_RETRYABLE, *Ended)
            )
            rarely = task.actor is not None or ended is Ended.EXITED  # or no actor lives for long
            if rarely and self.chance.random() < 0.8:
                ended = Ended.RETURNED
        if worker.interrupt != seq and ended is Ended.NOT_STARTED:
            ended = Ended.RETURNED  # INTERRUPTED stays: a function may raise that itself
        ended = self._possible(task, ended)
        if ended is not Ended.NOT_STARTED:
            ended = self._look_for_arguments(task, ended, lacking=lacking)
        if ended is Ended.ARGUMENT_LOST:  # never entered: no call, and no run
            worker.calls[task.function.key] -= 1
            self._started[task.number] -= 1
        entered = ended not in (Ended.NOT_STARTED, Ended.ARGUMENT_LOST)
        short = task.function.key != 2
        seconds = 0.0 if not entered else SHORT if short else LONG
        delay = self.chance.choice((0.0, 0.01)) if ended is Ended.ASKED_FOR_RETRY else None
        payload = f"{task.number}.{task.attempt} {ended.value}"
        answer = Answer(seq, ended, payload, self.now, seconds, delay)
        if seq in worker.several:
            del worker.several[seq]
        else:
            worker.running = None
            worker.blocked = False
        if task.actor is not None:
            worker.made = ended is Ended.RETURNED
            if ended is Ended.ARGUMENT_LOST:
                worker.actor = None
        if ended is Ended.EXITED:
            assert worker.actor is not None
            worker.exiting = True
            self._for_good.add(worker.actor.key)
        worker.answers.append(answer)
        self._last_answer[task.number] = answer

    @staticmethod
    def _possible(task: Task, ended: Ended) -> Ended:
        """An end that an attempt of this task can come to: this one, or else another."""
        retryable = ended in (
            Ended.RAISED_RETRYABLE,
            Ended.RAISED_CANCELLED_RETRYABLE,
            Ended.ASKED_FOR_RETRY,
        )
        if task.actor is not None:
            return Ended.RAISED if retryable or ended is Ended.FORBADE_RETRY else ended
        if not is_call(task):
            return Ended.RAISED if ended is Ended.EXITED else ended
        if retryable and not task.traits.retries_errors and actor_of(task).ordered:
            return Ended.RAISED
        return ended

    def _look_for_arguments(self, task: Task, ended: Ended, *, lacking: bool) -> Ended:
        """How a task ends, given that an argument may be gone, or has to be to end so."""
        dependencies = self.orders[task.number].dependencies
        if lacking:
            return Ended.ARGUMENT_LOST
        if ended is not Ended.ARGUMENT_LOST:
            return ended
        if not dependencies or self.tasks[dependencies[0]].scheduling_class.reserves is not None:
            return Ended.RETURNED
        self._drop(self.tasks[dependencies[0]])
        return ended

    def die(self, worker: FakeWorker) -> None:
        """The process is over, and nobody knows yet."""
        if worker.up and not worker.dead:
            worker.dead = True
            for _, task in worker.runs():
                self._died.add((task.number, task.attempt, worker.id))
            worker.running = None
            worker.several.clear()
            worker.blocked = False

    # ------------------------------------------------------------ what the shell hears of

    def come_up(self, worker: FakeWorker) -> None:
        """The process has said that it is ready."""
        if not worker.up:
            worker.up = True
            self.feed(WorkerReady(worker.id))

    def fail_start(self, worker: FakeWorker) -> None:
        """No process came up."""
        if not worker.up:
            del self.workers[worker.id]
            self.feed(WorkerStartFailed(worker.id, "no process"))

    def fail_set_up(self, worker: FakeWorker, *, noticed: bool) -> None:
        """Its environment could not be set up, and its process is reaped."""
        if not worker.up:
            if noticed:
                self.feed(WorkerDied(worker.id))
            del self.workers[worker.id]
            self.feed(WorkerStartFailed(worker.id, "no such place", environment_failed=True))

    def read(self, worker: FakeWorker) -> None:
        """It has rung its bell."""
        if worker.answers:
            answers = tuple(worker.answers)
            worker.answers.clear()
            self.feed(AnswersReceived(worker.id, answers))

    def notice(self, worker: FakeWorker) -> None:
        """The end of the process is noticed, and not yet explained."""
        if worker.dead:
            worker.known_dead = True
            self.feed(WorkerDied(worker.id))

    def reap(self, worker: FakeWorker) -> None:
        """The end of the process is explained."""
        if not worker.dead:
            return
        self.notice(worker)
        self.read(worker)
        unclaimed = [seq for seq, _ in worker.claims]
        worker.claims.clear()
        if worker.actor is not None:
            self.deaths[worker.actor.key] += 1
        self.feed(AttemptsReclaimed(worker.id, unclaimed))
        del self.workers[worker.id]
        self.feed(WorkerExited(worker.id, "died"))

    def obey(self, worker: FakeWorker) -> None:
        """It does what it was told: end."""
        if worker.kill_ordered and not worker.up:
            self.feed(WorkerDied(worker.id))
            del self.workers[worker.id]
            self.feed(WorkerExited(worker.id, "killed before it came up"))
        elif worker.kill_ordered or worker.stop_ordered:
            self.die(worker)
            self.reap(worker)

    def lose(self, task: Task) -> None:
        """A value goes, and the shell notices."""
        if task.number in self.values:
            self._drop(task)
            self.feed(ResultLost(task))

    def want(self, task: Task) -> None:
        """Somebody waits for a value, which may be there, gone, on its way or never to come."""
        if task.state is TaskStatus.FINISHED and not self._has_value(task.number):
            self.wanted.add(task.number)
            self.feed(ResultLost(task))
        self.feed(ResultWanted(task))

    def revive(self) -> None:
        """The answer to a Revive that was not answered at once."""
        for event in self._revived(self.revivals[0]):
            self.feed(event)

    # ------------------------------------------------------------ what callers do

    def submit(self, orders: list[Order]) -> list[Task]:
        """Submit tasks in one go."""
        tasks = []
        for order in orders:
            number = len(self.tasks) + 1
            # None that tasks submit: what waits for others keeps its permit, and may wait for them.
            if self._limits_some and number % 5 == 0 and order.parent is order.makes is None:
                order = replace(order, limiter=number // 5 % 3)  # noqa: PLW2901
            parent = None if order.parent is None else self.tasks[order.parent]
            depth = 0 if parent is None else parent.scheduling_class.depth + 1
            cls = self._class_for(order, depth)
            arguments = [n for n in order.dependencies if self.tasks[n].actor is None]
            order = replace(order, dependencies=tuple(arguments))  # noqa: PLW2901
            task = self.tasks[number] = task_of(
                number,
                f"t{number}",
                self.functions[order.function],
                cls,
                dependencies=tuple(self.tasks[n] for n in order.dependencies),
                max_retries=order.max_retries,
                max_calls=order.max_calls,
                policy=order.policy,
                parent=parent,
                priority=order.priority,
                traits=order.traits,
                caller=order.caller,
                limits=limits_of(order, self.limiters),
            )
            self.orders[number] = order
            self.submitted[number] = self.now
            if order.makes is not None:
                self.makings.append(order.makes)
                self.actors.append(make_actor(len(self.actors), task, order))
            tasks.append(task)
            if order.parent is not None:
                self._children.setdefault(order.parent, []).append(number)
                if order.parent in self._families and order.makes is None:
                    self._families.add(number)
                    self._cancelled.add(number)
        self.feed(TasksSubmitted(tasks))
        return tasks

    def _class_for(self, order: Order, depth: int) -> SchedulingClass:
        if order.calls is not None:
            return group_of(order, self.actors, self.limiters)
        creates = order.makes is not None
        limiter = None if order.limiter is None else self.limiters[order.limiter]
        group = None if order.group is None else self.groups[order.group]
        if group is None or not group.demands(order.demand, order.bundle):
            return self.scheduler.scheduling_class(
                order.demand, order.environment, depth, creates=creates, limiter=limiter
            )
        return self.scheduler.scheduling_class(
            order.demand,
            order.environment,
            depth,
            group=group,
            bundle=order.bundle,
            creates=creates,
            limiter=limiter,
        )

    def callable_actors(self) -> list[SupervisedActor]:
        """Those to which somebody holds a handle; they may be dead."""
        gone = self._released | self._dropped.keys()
        return [actor for actor in self.actors if actor.key not in gone]

    def let_go(self, actor: SupervisedActor) -> None:
        """The last handle goes that is not held by a call."""
        if actor.key not in self._released:
            self._dropped[actor.key] = None
            if not self._is_called(actor.key):
                del self._dropped[actor.key]
                self._released.add(actor.key)
                self.feed(ActorReleased(actor))

    def kill(self, actor: SupervisedActor, *, no_restart: bool) -> None:
        """Somebody who has a handle kills it."""
        self.killed.add(actor.key)
        if no_restart:
            self._for_good.add(actor.key)
        elif actor.worker is None and actor.state is not ActorStatus.DEAD:
            self.deaths[actor.key] += 1  # it counts as one, although no process dies of it
            if self.deaths[actor.key] > actor.max_restarts >= 0:
                self._for_good.add(actor.key)
        self.feed(ActorKilled(actor, no_restart))

    def request_group(self, bundles: tuple[Demand, ...], nodes_wanted: int = 1) -> Task:
        """Ask for a placement group: the task that is its reservation."""
        group = Group(str(len(self.groups)), bundles, nodes_wanted)
        self.groups.append(group)
        number = len(self.tasks) + 1
        cls = self.scheduler.reservation_class(group)
        task = task_of(number, "group", self.functions[1], cls, payload=f"group {group.key}")
        self.tasks[number] = task
        self.orders[number] = Order(demand=group.demand)
        self.feed(TasksSubmitted([task]))
        return task

    def remove_group(self, group: Group) -> None:
        """Remove a placement group: whatever waits in it has failed at once."""
        again = group.state is GroupStatus.REMOVED
        self.feed(GroupRemoved(group))
        for task in () if again else self.tasks.values():
            cls = task.scheduling_class
            if group in (cls.group, cls.reserves) and task.worker is None:
                assert task.number in self.outcomes

    def cancel(
        self,
        task: Task,
        *,
        force: bool = False,
        grace: float | None = None,
        recursive: bool = False,
    ) -> int:
        """Ask for a cancel."""
        request_id = len(self.cancels) + 1
        event = CancelRequested(task, request_id, force, grace, recursive)
        self.cancels[request_id] = event
        if task.number in self.outcomes:
            self._late.add(request_id)
        is_work = task.scheduling_class.reserves is None and task.actor is None
        family = [task.number] if is_work else []
        for member in family:
            if member in self.outcomes:
                continue  # what has finished is not touched by it, nor is what it has submitted
            self._cancelled.add(member)
            if (force or grace is not None) and not is_call(self.tasks[member]):
                self._condemned.add(member)
            if recursive:
                self._families.add(member)
                children = self._children.get(member, ())
                family += [n for n in children if self.tasks[n].actor is None]
        self.feed(event)
        return request_id

    def spawn(self, worker: FakeWorker, orders: list[Order]) -> None:
        """What it runs submits tasks."""
        if worker.running is None or worker.dead or worker.lacking:
            return
        self.read(worker)  # what it has answered before was written before
        if worker.running is not None:
            number = worker.running[1].number
            self.submit([replace(order, parent=number, caller=worker.id) for order in orders])

    def block(self, worker: FakeWorker) -> None:
        """What it runs waits for other tasks."""
        if worker.running is None or worker.dead or worker.lacking or worker.blocked:
            return
        self.read(worker)
        if worker.running is not None:
            worker.blocked = True
            self.feed(WorkerBlocked(worker.id, worker.running[0]))

    def unblock(self, worker: FakeWorker) -> None:
        """What it runs goes on."""
        if worker.running is not None and worker.blocked and not worker.dead:
            worker.blocked = False
            self.feed(WorkerUnblocked(worker.id, worker.running[0]))

    def advance(self, seconds: float) -> None:
        """Let time pass, with every timer on the way."""
        end = self.now + seconds
        while (due := self.scheduler.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.feed(TimerFired())
        self.now = end
        self._check_nothing_is_stuck()

    def shut_down(self, drain: float = 0.0, grace: float = 1.0) -> None:
        """Ask for the end."""
        self.closing = True
        self.feed(ShutdownRequested(drain, grace))

    # ------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let workers work, and timers fire, until nothing is left to happen.

        Attempts end, except those that are to be killed and run in a stubborn worker, and, while
        shutting down, all of that.
        """
        self.meddling = 0.0
        looks = 0  # at calls that wait for a restart, one after the other, and nothing else
        for _ in range(10_000):
            before = len(self.history)
            while self.revivals:
                self.revive()
            while self.locations:
                self.locate()
            for worker in tuple(self.workers.values()):
                self.come_up(worker)
                while (worker.claims or worker.runs()) and not (worker.dead or worker.exiting):
                    self.claim(worker)
                    if self._waits_for_children(worker):
                        break
                    self.unblock(worker)
                    if worker.stubborn and worker.running and self._has_to_be_killed(worker):
                        break
                    self.end(worker, Ended.RETURNED)
                    self.read(worker)
                if worker.exiting:
                    self.die(worker)
                self.read(worker)
                self.reap(worker)
                if worker.id in self.workers and (worker.kill_ordered or not worker.stubborn):
                    self.obey(worker)
            if before == len(self.history):
                due = self.scheduler.next_deadline()
                looks += due is not None and due > self.now + HOUR / 4
                if due is None or looks > 2:
                    blocked = [worker for worker in self.workers.values() if worker.blocked]
                    if not blocked:
                        return
                    self._check_deadlock()
                    for worker in blocked:
                        self.unblock(worker)
                    continue
                self.now = max(self.now, due)
                self.feed(TimerFired())
                looks *= self.log[-1] == "[]"
            else:
                looks = 0
        raise AssertionError("it goes on for ever")

    def _waits_for_children(self, worker: FakeWorker) -> bool:
        """Whether it is blocked, and rightly so; an interrupt or a kill gets through."""
        if worker.running is None or not worker.blocked or self.closing:
            return False
        seq, task = worker.running
        children = self._children.get(task.number, ())
        if worker.kill_ordered or worker.interrupt == seq:
            return False
        return any(number not in self.outcomes for number in children)

    def _check_deadlock(self) -> None:
        """Nothing will happen any more: then nothing must wait that could run."""
        for task in self.unfinished():
            cls = task.scheduling_class
            alone = cls.reserves is None or cls.reserves.nodes_wanted == 1
            if cls.actor is not None:
                worker = cls.actor.worker
                alive = cls.actor.state is ActorStatus.ALIVE
                busy = worker is not None and bool(worker.in_flight)
                assert not alive or busy or task.number in cls.actor.held, task
                continue
            if task.state is TaskStatus.PENDING_NODE_ASSIGNMENT and alone:
                assert self._lacks_something(cls), task

    def _is_short(self, demand: Demand) -> bool:
        available = self.scheduler.available
        return any(amount > available.get(name, 0) for name, amount in demand)

    def _lacks_something(self, cls: SchedulingClass) -> bool:
        """Whether too little is free of something, or not on the same GPU."""
        wanted = [dict(cls.demand).get("GPU", 0)]
        if cls.reserves is not None:
            wanted = cls.reserves.devices_wanted
        pools = self.scheduler.resources.devices
        return all(
            self._is_short(demand)
            or any(
                Devices(pools[name].free).allocate_all(wanted) is None
                for name, _ in demand
                if name in pools
            )
            for demand in cls.demands
        )

    def _has_to_be_killed(self, worker: FakeWorker) -> bool:
        assert worker.running is not None
        cancellation = worker.running[1].cancellation
        late = cancellation is not None and cancellation.overrun is not None
        return self.closing or late or worker.running[1].number in self._condemned

    def finish(self) -> None:
        """Work everything off, shut down in the midst of more, and see that nothing is left."""
        self.settle()
        assert self.waits_for_nothing()
        self._check_resources_at_rest()
        for group in self.groups:
            self.remove_group(group)
            self.settle()
            assert self.waits_for_nothing()
        for actor in self.callable_actors():
            self.let_go(actor)
            self.settle()
            assert self.waits_for_nothing()
        self._check_resources_at_rest()
        if not self._dropped:  # a call that cannot run keeps its actor, which keeps what it has
            assert all(not self.waits_for_room(task) for task in self.tasks.values())
        if not self.closing:
            assert sum(map(is_idle, self.workers.values())) <= KEPT
            self.lose_and_want()
            self.settle()
            assert self.waits_for_nothing()
            self.submit([Order()] * 10)
            key = len(self.actors)
            self.submit([Order(makes=Making(max_restarts=-1))])
            self.submit([Order(calls=key, traits=CallTraits(False, False))] * 3)
            self.lose_and_want()
            for worker in tuple(self.workers.values()):
                self.come_up(worker)
                self.claim(worker)
            self.shut_down(self.chance.choice((0.0, 0.5)))
        self.settle()
        assert self.outcomes.keys() == self.tasks.keys()
        assert all(actor.state is ActorStatus.DEAD for actor in self.actors)
        assert self._dead == set(range(len(self.actors)))
        self._check_counts()
        assert self.reports.keys() == self.cancels.keys()
        assert self.scheduler.available == self.scheduler.total
        assert not any(self.scheduler.oversubscribed.values())
        assert not self.workers
        assert self.stopped == 1
        assert self.scheduler.next_deadline() is None
        for number in self.wanted:
            assert number in self.values or isinstance(self.outcomes[number], Failure)
        assert not self.scheduler.unfinished_tasks()

    def _check_counts(self) -> None:
        """Every call has been counted once for its caller."""
        done = Counter((actor_of(t), t.caller) for t in self.tasks.values() if is_call(t))
        for actor in self.actors:
            for caller, count in actor.done.items():
                assert done.pop((actor, caller), 0) == count
        assert not done

    def _check_resources_at_rest(self) -> None:
        """Nothing runs: what is not free is with groups, and with actors that keep it."""
        assert not any(worker.runs() for worker in self.workers.values())
        held: Counter[str] = Counter()
        for group in self.groups:
            if self._is_placed(group):
                held.update(dict(group.demand))
        for worker in self.workers.values():
            cls = self._class_used(worker)
            if cls is not None and cls.group is None:
                held.update(dict(cls.demand))
        for name, total in TOTAL.items():
            # It can be owed to an actor for long, if another got its CPUs while it waited.
            free = self.scheduler.available[name] - self.scheduler.oversubscribed[name]
            assert free == total - held[name], name

    def lose_and_want(self) -> None:
        """Lose half of what is new, and ask for half of that."""
        for number in range(max(1, len(self.tasks) - 20), len(self.tasks) + 1):
            if self.chance.random() < 0.5:
                self.lose(self.tasks[number])
            if self.chance.random() < 0.5:
                self.want(self.tasks[number])

    def waits_for_nothing(self) -> bool:
        """Whether every task that could run has its outcome, and what was asked for is there."""
        return all(
            number in self.values or self._waits_for(number, self.waits_for_room)
            if number not in self.outcomes
            else number in self.values or isinstance(self.outcomes[number], Failure)
            for number in self.wanted
        ) and all(
            number in self.outcomes
            or self._waits_for(number, self.asks_for_too_much)
            or self._waits_for(number, self.waits_for_room)
            for number in self.tasks
        )

    def asks_for_too_much(self, task: Task) -> bool:
        """Whether it asks for more than the machine has."""
        cls = task.scheduling_class
        if cls.group is not None:
            return False
        return (cls.reserves is not None and cls.reserves.nodes_wanted > 1) or any(
            amount > TOTAL.get(name, 0) for name, amount in cls.demand
        )

    def waits_for_room(self, task: Task) -> bool:
        """Whether it waits, while no task runs, for what groups hold, or for one to be placed."""
        cls = task.scheduling_class
        if task.number in self.outcomes or self.asks_for_too_much(task):
            return False
        kept = [
            (worker.id, used)
            for worker in self.workers.values()
            if worker.made and (used := self._class_used(worker)) is not None
        ]
        if cls.group is not None:
            inside = any(used.group is cls.group for _, used in kept)
            pending = cls.group.state is GroupStatus.PENDING
            return pending or (inside and self._lacks_something(cls))
        placed = [group for group in self.groups if self._is_placed(group)]
        cpus = TOTAL["CPU"] - sum(dict(group.demand).get("CPU", 0) for group in placed)
        free = {str(number): CPU for number in range(TOTAL["GPU"] // CPU)}
        for group in placed:
            for share in group.shares:
                for device, amount in share:
                    free[device] -= amount
        for worker_id, used in kept:
            if used.group is None:
                cpus -= dict(used.demand).get("CPU", 0)
                for device, amount in self.scheduler.pool.workers[worker_id].shares:
                    free[device] -= amount
        demand = dict(cls.demand)
        wanted = [demand.get("GPU", 0)] if cls.reserves is None else cls.reserves.devices_wanted
        return demand.get("CPU", 0) > cpus or Devices(free).allocate_all(wanted) is None

    def _waits_for(self, number: int, condition: Callable[[Task], bool]) -> bool:
        """Whether this holds for the task, or for one that it depends on."""
        work = [self.tasks[number]]
        seen: set[int] = set()
        while work:
            task = work.pop()
            if task.number in seen:
                continue
            seen.add(task.number)
            if condition(task):
                return True
            work += [
                self.tasks[number]
                for number in self.orders[task.number].dependencies
                if number not in self.outcomes
            ]
            if is_call(task):
                actor = actor_of(task)
                if actor.creation.number not in self.outcomes:
                    work.append(actor.creation)
                work += [
                    other
                    for other in self.unfinished()
                    if actor.ordered
                    and other.scheduling_class.actor is actor
                    and other.caller == task.caller
                    and other.number < task.number
                ]
        return False


def _intensity(making: Making) -> int:
    assert making.policy is not None
    assert making.policy.intensity is not None
    return making.policy.intensity


def with_other(event: Any, **fields: Any) -> Any:
    """The same event about another record."""
    values = {name: getattr(event, name) for name in type(event).__slots__}
    return type(event)(**(values | fields))


def make_actor(key: int, creation: Task, order: Order) -> SupervisedActor:
    """The actor that is ordered."""
    making = order.makes
    assert making is not None
    return SupervisedActor(
        key,
        creation,
        order.environment,
        concurrency_groups=making.concurrency_groups,
        ordered=making.ordered,
        asynchronous=making.asynchronous,
        keeps_cpus=making.keeps_cpus,
        max_restarts=making.max_restarts,
        policy=making.policy,
    )


def replay(world: World, seed: int) -> list[str]:
    """The commands of a new scheduler for the events that the given world has seen."""
    scheduler = Scheduler(TOTAL, random.Random(seed))
    groups = {
        group.key: Group(group.key, group.bundles, group.nodes_wanted) for group in world.groups
    }
    functions = {key: Function(key, f.name) for key, f in world.functions.items()}
    tasks: dict[int, Task] = {}
    actors: list[SupervisedActor] = []
    limiters = make_limiters()
    log: list[str] = []
    for now, seen in world.history:
        event = seen
        if isinstance(seen, TasksSubmitted):
            for task in seen.tasks:
                cls = task.scheduling_class
                order = world.orders[task.number]
                demand, environment, depth = cls.demand, cls.environment, cls.depth
                creates = cls.creates
                limiter = None if order.limiter is None else limiters[order.limiter]
                if order.calls is not None:
                    twin = group_of(order, actors, limiters)
                elif cls.reserves is not None:
                    twin = scheduler.reservation_class(groups[cls.reserves.key])
                elif cls.group is not None:
                    twin = scheduler.scheduling_class(
                        demand,
                        environment,
                        depth,
                        group=groups[cls.group.key],
                        bundle=order.bundle,
                        creates=creates,
                        limiter=limiter,
                    )
                else:
                    twin = scheduler.scheduling_class(
                        demand, environment, depth, creates=creates, limiter=limiter
                    )
                tasks[task.number] = task_of(
                    task.number,
                    task.name,
                    functions[task.function.key],
                    twin,
                    parent=None if order.parent is None else tasks[order.parent],
                    dependencies=tuple(tasks[n] for n in order.dependencies),
                    max_retries=task.max_retries,
                    max_calls=task.max_calls,
                    policy=task.policy,
                    priority=task.priority,
                    payload=task.payload,
                    traits=task.traits,
                    caller=task.caller,
                    limits=limits_of(order, limiters),
                )
                if order.makes is not None:
                    actors.append(make_actor(len(actors), tasks[task.number], order))
            event = TasksSubmitted([tasks[task.number] for task in seen.tasks])
        elif isinstance(seen, CancelRequested):
            event = with_other(seen, task=tasks[seen.task.number])
        elif isinstance(seen, GroupRemoved):
            event = GroupRemoved(groups[seen.group.key])
        elif isinstance(seen, ActorReleased | ActorKilled):
            event = with_other(seen, actor=actors[seen.actor.key])
        elif isinstance(seen, Revived):
            upstream = [tasks[task.number] for task in seen.dependencies]
            event = Revived(tasks[seen.task.number], upstream, seen.forbidden)
        elif isinstance(seen, ResultLost | ResultWanted):
            event = type(seen)(tasks[seen.task.number])
        log.append(repr(scheduler.handle(event, now)))
    return log
