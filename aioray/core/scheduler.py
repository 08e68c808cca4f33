"""Decides which attempt runs where, what a failure means, and when everything is over.

Room: core. `Scheduler.handle(event, now)` takes one fact and returns the commands that follow;
`next_deadline()` says when it wants a `TimerFired`. The same events give the same commands.

How work flows. A task waits for its arguments, then queues in its scheduling class (same resources,
environment, depth). A worker that gets the first attempt of a class takes a *lease*: it holds the
class's resources until it has nothing in flight, and gets only attempts of that class meanwhile.
Functions known to be short are sent ahead, about `PREFETCH_SECONDS` of expected work per worker;
what is stuck behind an attempt that turned out long is reclaimed when somebody else could run it.

Who is served first. Classes by the rank of their head: when it was submitted, or when it came back
for a second retry or a later one, so that a task which always fails starves nobody; less what its
priority is worth, which no stream of more urgent tasks can outrun for ever. A lease is not topped
up while a longer waiting class needs what it holds; and for a class of which nothing runs, because
it asks for more than is free at any one time, resources are saved up after `PATIENCE_SECONDS`.

GPUs are handed out one by one, see `devices`. A worker that was shown some, or none, serves nothing
else from then on: libraries look for them once in a process. If there are no GPUs, nothing is kept
apart. The reservation of a placement group waits in line
like a task; then tasks of the group draw on its bundles, see `groups`. When it is removed, its
workers are killed, and the machine gets its resources back with the last of them.

Who wins when news cross. An answer always stands: a value that was written before a cancel, a kill
or the death of the worker took hold is the result. A reclaimed attempt never ran. What was claimed
and not answered when the worker died is the one attempt that the death harmed. A worker claims one
attempt after it has answered the one before; so of those that could not be reclaimed only the last
can be running, and only on its account may the worker be interrupted or killed.

What is lost. The shell says so (`ResultLost`), and when somebody wants it, or a task that is to run
needs it, its task runs again as one more attempt within the same budget. `Revive` asks the shell
for the arguments; what is missing there is wanted in turn, one task per event, however long the
chain. A task that finds an argument gone when it is about to run goes back to waiting, at no cost.

What tasks submit. It queues apart from what their like have submitted, with the rank of the task
that it comes from, so that parents do not pile up before their children; the deeper goes first. A
worker whose task waits for others gives its CPUs back (`WorkerBlocked`), those of a bundle to its
bundle, and has them again the moment it goes on: if they are in use by then, they are *owed* to it,
and the next ones to be freed pay for that. So `available` is never negative, and what runs can
exceed the total for a while, as in Ray.

What cannot be set up. If an environment is to blame for a failed start, what waits for it fails
with it, unless a worker that is there or on its way can still serve; for a short while the next
tasks do too, and then it is tried again. Starts that failed for another reason are counted and
repeated, see `RestartIntensity`.

Cancelling is a ladder per task: requested (its worker is asked for unclaimed attempts), interrupted
(SIGINT, repeated until delivered), killed; see `Cancellation`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .actors import ActorSupervisor
from .attempts import Attempts
from .backlog import Backlog
from .calls import ActorCalls
from .cancellation import Cancellations
from .commands import (
    Command,
    Holding,
    ReportInfeasible,
    ReportStarved,
    ResolveValues,
    SendAttempts,
    Stopped,
)
from .devices import UNIT
from .events import (
    ActorKilled,
    ActorReleased,
    AnswersReceived,
    AttemptsNotSent,
    AttemptsReclaimed,
    AttemptWaits,
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
from .facts import (
    BackoffEnded,
    CreationFailed,
    CreationWaits,
    DrainEnded,
    GraceEnded,
    InterruptUnanswered,
    PatienceEnded,
    PauseEnded,
    ProgressOverdue,
    ShutdownGraceEnded,
    StarvationLookDue,
    StopOverdue,
    SurplusLookDue,
)
from .invariants import check_actors, check_resources, queued_calls
from .lanes import Lanes
from .model import Cancellation, Function, SchedulingClass, Task, Worker
from .outcomes import (
    GROUP_IS_REMOVED,
    CancelOutcome,
    Ended,
    Failure,
    FailureKind,
)
from .pool import WorkerPool
from .prefetch import MAX_IN_FLIGHT, STALL_SECONDS, Prefetch
from .queues import rank
from .resources import Resources, kept_by
from .starts import Starts
from .states import (
    GroupState,
    Phase,
    TaskState,
    WorkerState,
)
from .tasks import TaskTable
from .turn import Turn
from .waits import Waits

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from .facts import Fact
    from .groups import Group

__all__ = ["Scheduler"]

MAX_BUNDLE = 64  # attempts per SendAttempts
MEAN_WEIGHT = 0.2  # of the newest run in a function's moving average
PATIENCE_SECONDS = 1.0  # after which resources are saved for a class that others overtake
STARVED_SECONDS = 10.0  # after which it is told who holds what a class waits for, if for life

_PENDING = TaskState.PENDING_NODE_ASSIGNMENT  # members are slow to look up
_RETURNED = Ended.RETURNED
_ARGUMENT_LOST = Ended.ARGUMENT_LOST
_TOO_LATE = CancelOutcome.FINISHED_FIRST


class Scheduler:
    """The state of one engine: every unfinished task, every worker, every resource."""

    # Python 3.11 reads attributes more slowly once an object without slots has more than thirty.
    __slots__ = (
        "_attempts",
        "_backlog",
        "_calls",
        "_cancels",
        "_drain_grace",
        "_facts",
        "_handlers",
        "_lanes",
        "_last_starved_look",
        "_move",
        "_placed",
        "_pool",
        "_prefetch",
        "_resources",
        "_stalled",
        "_starts",
        "_starved_timer",
        "_supervisor",
        "_table",
        "_tasks",
        "_turn",
        "_waits",
        "_workers",
        "demands",
        "expects",
        "reservation_class",
        "scheduling_class",
        "submitter",
        "task_in_flight",
        "tasks_in_flight",
    )

    def __init__(
        self,
        resources: Mapping[str, int],
        rng: random.Random,
        *,
        devices: Sequence[str] | None = None,
        start_intensity: tuple[int, float] = (3, 10.0),
    ) -> None:
        """Start with no workers.

        resources: totals in 1/10,000 units; "CPU" also sets how many idle workers are kept.
        devices: names of the GPUs, as many as there are of "GPU"; None: their numbers from 0.
        rng: source of jitter. start_intensity: failed starts tolerated, within how many seconds.
        """
        self._turn = turn = Turn()
        turn.tell = self._tell
        self._move = turn.story.move
        self._resources = Resources(resources, devices)
        self._backlog = backlog = Backlog()
        self.scheduling_class = backlog.scheduling_class
        self.reservation_class = backlog.reservation_class
        self.demands = backlog.demands
        self._lanes = Lanes()
        self._table = TaskTable(turn, backlog, self._lanes)
        self._tasks = self._table.unfinished
        self._pool = pool = WorkerPool(
            turn,
            self._resources,
            kept=max(1, -(-resources.get("CPU", 0) // UNIT)),
        )
        self._starts = Starts(
            turn,
            self._resources,
            backlog,
            self._table,
            pool,
            start_intensity=start_intensity,
        )
        self._workers = pool.workers
        self.task_in_flight = pool.task_in_flight
        self.submitter = pool.submitter
        self.tasks_in_flight = pool.tasks_in_flight
        self.expects = pool.expects
        self._attempts = Attempts(turn, self._table, self._lanes, rng)
        self._prefetch = Prefetch(
            turn, self._resources, backlog, pool, self._starts, self._attempts
        )
        self._stalled = self._prefetch.stalled
        self._supervisor = supervisor = ActorSupervisor(
            turn, self._resources, self._lanes, self._table, pool, self._attempts
        )
        self._calls = ActorCalls(
            turn,
            self._resources,
            self._lanes,
            self._table,
            pool,
            self._starts,
            self._attempts,
            self._prefetch,
            supervisor,
        )
        self._waits = Waits(turn, self._table, pool)
        self._cancels = Cancellations(turn, self._table, pool, self._prefetch)
        self._placed = False  # a group, during this dispatch
        self._starved_timer = False  # a look at what has starved is in the timer heap
        self._last_starved_look = -STARVED_SECONDS
        self._drain_grace = 1.0
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            TasksSubmitted: self._table.submit,
            AnswersReceived: self._on_answers,
            AttemptsNotSent: self._on_not_sent,
            AttemptsReclaimed: self._on_reclaimed,
            WorkerReady: self._starts.take_ready,
            WorkerStartFailed: self._starts.take_start_failure,
            WorkerDied: self._pool.take_death,
            WorkerExited: self._on_exited,
            WorkerBlocked: self._on_blocked,
            WorkerUnblocked: self._on_unblocked,
            AttemptWaits: self._waits.wait,
            CancelRequested: self._cancels.cancel,
            ResultLost: self._table.lose,
            ResultWanted: self._table.want,
            Revived: self._table.revive,
            GroupRemoved: self._on_group_removed,
            ActorReleased: self._supervisor.released,
            ActorKilled: self._supervisor.killed,
            TimerFired: self._on_timer,
            ShutdownRequested: self._on_shutdown,
        }

        self._facts: dict[type[Any], Callable[[Any], None]] = {
            CreationWaits: self._supervisor.note_waiting,
            CreationFailed: self._supervisor.creation_failed,
            BackoffEnded: self._attempts.end_backoff,
            GraceEnded: self._cancels.end_grace,
            InterruptUnanswered: self._cancels.repeat,
            StopOverdue: lambda fact: self._pool.insist(fact.worker),
            ProgressOverdue: self._prefetch.look,
            SurplusLookDue: lambda _: self._pool.stop_surplus(self._turn.now),
            PauseEnded: lambda _: self._mark_dirty(),
            StarvationLookDue: lambda _: self._look_for_starved(),
            PatienceEnded: self._supervisor.lose_patience,
            DrainEnded: lambda _: self._give_up(self._turn.now, kill=False),
            ShutdownGraceEnded: lambda _: self._give_up(self._turn.now, kill=True),
        }

    # ------------------------------------------------------------ entry

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one fact, and return what has to be done about it, in order."""
        turn = self._turn
        turn.begin(now, type(event).__name__, getattr(event, "worker_id", None))
        self._handlers[type(event)](event, now)
        if turn.dirty:
            self._dispatch(now)
        if turn.life.state is not Phase.OPEN and not self._tasks:
            self._end_workers(now)
        if self._supervisor.reported:
            self._supervisor.reported.clear()
        return turn.end()

    def _tell(self, fact: Fact) -> None:
        self._facts[type(fact)](fact)

    @property
    def total(self) -> Mapping[str, int]:
        """What there is, by name, in 1/10,000 of a unit."""
        return self._resources.total

    @property
    def available(self) -> Mapping[str, int]:
        """What of that is free."""
        return self._resources.available

    @property
    def owed(self) -> Mapping[str, int]:
        """What is in use beyond the total."""
        return self._resources.owed

    @property
    def blocked_workers(self) -> int:
        """How many workers have tasks that wait for others."""
        return self._resources.blocked_workers

    def next_deadline(self) -> float | None:
        """When the next TimerFired is wanted; None: never, as things stand."""
        return self._turn.timers.next()

    def unfinished_tasks(self) -> tuple[Task, ...]:
        """The tasks that have no outcome yet."""
        return tuple(self._tasks.values())

    # ------------------------------------------------------------ states

    # ------------------------------------------------------------ submission

    # ------------------------------------------------------------ dispatch

    def _dispatch(self, now: float) -> None:
        """Give queued tasks to workers, lowest rank first, and order what is missing."""
        self._turn.dirty = False
        waiting = self._backlog.waiting
        if self._lanes.calling:
            self._calls.dispatch(now)
        if waiting:
            for cls in self._backlog.in_order():
                self._dispatch_class(cls, now)
            self._resources.stop_reserving()
            if self._placed:
                self._placed = False
                self._dispatch(now)  # there are more classes now whose tasks can run
                return
        if self._stalled:
            self._prefetch.release_stalled(now)

    def _dispatch_class(self, cls: SchedulingClass, now: float) -> None:
        if cls.reserves is not None:
            self._place(cls, cls.reserves, now)
            return
        queue = cls.queue
        idle = self._pool.idle.get(cls.environment)
        free = self._resources.free_leases(cls)
        if self._stalled and queue and idle and free and self._prefetch.take_back_older(cls):
            return  # they come back at once, and then they are first
        while queue and idle and free:
            # Share what is queued between the workers that could take it.
            share = 1 if cls.creates else -(-len(queue) // min(len(idle), free))
            worker = self._pool.take_idle(cls)
            if worker is None:
                break
            self._resources.acquire(worker, cls)
            free -= 1
            head = queue[0]
            self._fill(worker, cls, share, now)
            if cls.creates:
                self._supervisor.placed(worker, head)
        if queue and free:
            self._starts.order(cls, min(len(queue), free), now)
        if queue and not cls.creates and not self._pool.starting.get(cls.environment):
            for worker in tuple(self._workers.values()):
                if worker.lease is cls:
                    self._top_up(worker, cls, now)
                    if not queue:
                        break
        if not queue:
            self._backlog.emptied(cls)
        elif not free:
            self._pass_over(cls, now)

    def _pass_over(self, cls: SchedulingClass, now: float) -> None:
        """Too little is free for this class: later ones may go ahead, but not for ever."""
        if self._resources.never_fits(cls):
            del self._backlog.waiting[
                cls
            ]  # nothing will ever make it fit, but the placing of its group
            if cls.group is None and not cls.reported_infeasible:
                cls.reported_infeasible = True
                self._turn.out.append(ReportInfeasible(cls.queue[0]))
        elif not cls.leases:
            if cls.passed_over_since is None:
                cls.passed_over_since = now
            elif now >= cls.passed_over_since + PATIENCE_SECONDS:
                some = self.blocked_workers or self._supervisor.living
                self._resources.reserve_for(cls, self._workers.values() if some else ())
            if not self._starved_timer and (
                self._resources.groups or self._supervisor.living or self.blocked_workers
            ):
                self._plan_starved_look(cls.passed_over_since)

    # ------------------------------------------------------------ starvation

    def _plan_starved_look(self, since: float) -> None:
        """Look in time whether what waits since then can ever be served; not all the time."""
        self._starved_timer = True
        due = since + STARVED_SECONDS
        if due <= self._last_starved_look:
            due = self._last_starved_look + STARVED_SECONDS
        self._turn.timers.set(due, StarvationLookDue())

    def _look_for_starved(self) -> None:
        """Tell of what waits for something that no task will free, and who holds that."""
        now = self._turn.now
        self._starved_timer = False
        self._last_starved_look = now
        waits = [
            (c, c.passed_over_since)
            for c in self._backlog.waiting
            if c.passed_over_since is not None
        ]
        due = [cls for cls, since in waits if since <= now - STARVED_SECONDS]
        workers = self._holders_for_life() if due else []
        for cls in due:
            self._report_starved(cls, workers)
        later = [since for _, since in waits if since > now - STARVED_SECONDS]
        if later:
            self._plan_starved_look(min(later))

    def _holders_for_life(self) -> list[Worker]:
        """The workers that keep what they hold however many tasks end.

        Those are the ones of actors. If no task can go on, it is also those whose tasks wait.
        """
        workers = self._workers.values()
        holders = [
            worker for worker in workers if worker.settled and worker.state is WorkerState.READY
        ]
        if any(
            worker.state is not WorkerState.READY or (worker.in_flight and not worker.blocked)
            for worker in workers
        ) or any(task.state is TaskState.BACKOFF for task in self._tasks.values()):
            return holders
        return holders + [each for each in workers if each.blocked and not each.settled]

    def _report_starved(self, cls: SchedulingClass, workers: Sequence[Worker]) -> None:
        groups = [
            each for each in self._resources.groups.values() if each.state is GroupState.CREATED
        ]
        short = self._resources.short_beside(cls, groups, workers)
        if not short:
            return
        holdings = {
            group.key: Holding(group, group.demand)
            for group in groups
            if not short.isdisjoint(dict(group.demand))
        }
        for worker in workers:
            held = kept_by(worker)
            if not short.isdisjoint(dict(held)):
                actor, lease = worker.actor, worker.lease
                task = next(iter(worker.in_flight.values())) if actor is None else actor.creation
                if lease is not None and lease.group is not None:
                    held = lease.group.plain(held)
                holdings[str(task.number)] = Holding(actor or task, held)
        holders = frozenset(holdings)
        if holders and holders not in cls.told_starved:
            cls.told_starved.add(holders)
            firsts: dict[str, Task] = {}
            counts: Counter[str] = Counter()
            for task in cls.queue:
                firsts.setdefault(task.name, task)
                counts[task.name] += 1
            waiting = tuple((task, counts[name]) for name, task in firsts.items())
            self._turn.out.append(ReportStarved(waiting, tuple(holdings.values())))

    def _on_blocked(self, event: WorkerBlocked, now: float) -> None:
        worker = self._workers.get(event.worker_id)
        if worker is None or worker.blocked or event.seq not in worker.in_flight:
            return
        actor = worker.actor
        if worker.lease is None or (actor is not None and not actor.ahead):
            return  # it holds nothing, or other calls use that
        self._resources.lend_cpus(worker)
        self._stalled.pop(worker, None)
        if len(worker.in_flight) > 1 and actor is None:
            self._prefetch.reclaim(worker)
        self._turn.dirty = True

    def _on_unblocked(self, event: WorkerUnblocked, _now: float) -> None:
        worker = self._workers.get(event.worker_id)
        if worker is None or not worker.blocked or event.seq not in worker.in_flight:
            return
        self._resources.take_cpus_back(worker)

    def _top_up(self, worker: Worker, cls: SchedulingClass, now: float) -> None:
        """Send a busy worker more, if what is next is short and its code is surely there."""
        if worker.state is not WorkerState.READY or worker.blocked:
            return
        if now >= worker.last_progress + STALL_SECONDS:
            return
        in_flight = len(worker.in_flight)
        head = cls.queue[0]
        target = self._prefetch.target(head.function)
        if in_flight * 2 > target or head.function.key not in worker.functions:
            return
        if len(self._backlog.waiting) > 1 and self._prefetch.outranked(cls, rank(head)):
            return  # let the lease end
        running = next(iter(worker.in_flight.values())).function
        if running is not head.function and self._prefetch.target(running) <= in_flight:
            return
        self._fill(worker, cls, target - in_flight, now)

    def _fill(self, worker: Worker, cls: SchedulingClass, limit: int, now: float) -> None:
        """Send up to `limit` attempts, at least one, from the head of the queue."""
        queue = cls.queue
        in_flight = worker.in_flight
        known = worker.functions
        bundle: list[Task] = []
        if not in_flight:
            worker.last_progress = now
        function: Function | None = None
        target = MAX_IN_FLIGHT
        limit = max(1, limit)
        while queue and limit:
            task = queue[0]
            if task.function is not function:
                function = task.function
                # The smallest so far: nothing goes behind what may run for long.
                target = min(target, self._prefetch.target(function))
            if in_flight and (
                len(in_flight) >= target or (not bundle and function.key not in known)
            ):
                break
            if task.max_calls:
                self._pool.count_call(worker, task)
            queue.popleft()
            limit -= 1
            self._attempts.begin(task, worker, now)
            bundle.append(task)
            if len(bundle) == MAX_BUNDLE:
                self._turn.out.append(SendAttempts(worker.id, bundle))
                bundle = []
            if worker.state is WorkerState.RETIRING:
                break
        if bundle:
            self._turn.out.append(SendAttempts(worker.id, bundle))
        self._prefetch.watch(worker)

    def _after_progress(self, worker: Worker, now: float) -> None:
        """A worker has answered or given back: keep it busy, or let go of what it holds."""
        if worker.actor is not None:
            self._calls.progressed(worker, now)
            return
        cls = worker.lease
        if cls is None:
            return  # late news only
        worker.last_progress = now
        self._stalled.pop(worker, None)
        if worker.in_flight:
            if cls.queue:
                self._top_up(worker, cls, now)
                if not cls.queue:
                    self._backlog.emptied(cls)
            self._prefetch.watch(worker)
            return
        self._resources.release(worker)
        if worker.state is WorkerState.READY:
            self._pool.make_idle(worker, now)
        elif worker.state is WorkerState.RETIRING:
            self._pool.stop(worker, now)

    # ------------------------------------------------------------ stalls

    def _on_reclaimed(self, event: AttemptsReclaimed, now: float) -> None:
        worker = self._workers.get(event.worker_id)
        if worker is None:
            return
        self._take_back(worker, event.seqs)
        in_flight = worker.in_flight
        newest = worker.reclaims.popleft() if worker.reclaims else self._attempts.last_seq
        if worker.state not in (WorkerState.KILLED, WorkerState.DEAD) and any(
            task.cancellation is not None for task in in_flight.values()
        ):
            self._cancels.escalate(worker, newest, now)
        if event.seqs and not in_flight:
            self._after_progress(worker, now)
        self._turn.dirty = True

    def _take_back(self, worker: Worker, seqs: Sequence[int]) -> None:
        """Put attempts that never ran where they came from."""
        for seq in sorted(seqs, reverse=True):
            task = worker.in_flight.pop(seq, None)
            if task is None:
                worker.given_up.discard(seq)
                continue  # a shutdown has given it up, or a circle
            self._pool.uncount_call(worker, task)
            if worker.actor is not None:
                self._supervisor.taken_back(task, worker)
            task.worker = None
            task.seq = 0
            if task.number not in self._tasks:
                continue  # it was to make an actor that nobody wants any more
            if task.cancellation is not None:
                self._table.fail_cancelled(task, CancelOutcome.NOT_STARTED)
            else:
                self._table.enqueue(task, front=True)

    # ------------------------------------------------------------ answers

    def _on_answers(self, event: AnswersReceived, now: float) -> None:
        worker = self._workers.get(event.worker_id)
        if worker is None:
            return
        if worker.actor is not None:
            self._calls.answers(worker, event, now)
            if worker.actor is None:
                self._after_progress(worker, now)
            if self._backlog.waiting or self._stalled or self._lanes.calling:
                self._turn.dirty = True
            return
        results: list[tuple[Task, Any]] = []
        unstarted: list[Task] = []
        in_flight = worker.in_flight
        for answer in event.answers:
            task = in_flight.pop(answer.seq, None)
            if task is None:
                if self._pool.is_lying(worker):
                    break
                continue
            if answer.ended is _ARGUMENT_LOST:
                self._pool.uncount_call(worker, task)
                unstarted.append(task)
                continue
            function = task.function
            worker.functions.add(function.key)
            duration = answer.duration
            if duration:
                mean = function.mean_seconds
                function.mean_seconds = (
                    duration if mean is None else mean + MEAN_WEIGHT * (duration - mean)
                )
            if answer.ended is _RETURNED:
                self._table.finish(task, answer, results)
            else:
                self._attempts.judge(task, worker, answer, now)
        if results:
            self._turn.out.append(ResolveValues(results))
        for task in unstarted:  # not before: what they lack may be among the results
            self._table.wait_for_lost(task)
        self._starts.has_served(worker)
        self._after_progress(worker, now)
        if self._backlog.waiting or self._stalled or self._lanes.calling:
            self._turn.dirty = True

    def _on_not_sent(self, event: AttemptsNotSent, now: float) -> None:
        worker = self._workers.get(event.worker_id)
        if worker is None:
            return
        if worker.actor is not None:
            self._calls.answers(worker, event, now)
            if worker.actor is None:
                self._after_progress(worker, now)
        else:
            for answer in event.answers:
                task = worker.in_flight.pop(answer.seq, None)
                if task is not None:  # else the shutdown has given it up
                    self._pool.uncount_call(worker, task)
                    self._attempts.judge(task, worker, answer, now)
            self._after_progress(worker, now)
        self._turn.dirty = True

    # ------------------------------------------------------------ retries

    # ------------------------------------------------------------ losses

    # ------------------------------------------------------------ workers

    def _on_exited(self, event: WorkerExited, now: float) -> None:
        worker = self._pool.remove(event.worker_id)
        if worker is None:
            return
        expected = worker.state in (WorkerState.STOPPING, WorkerState.KILLED)
        self._stalled.pop(worker, None)
        self._resources.release(worker)
        harmed = tuple(worker.in_flight.values())
        worker.in_flight.clear()
        self._waits.forget(harmed)
        if worker.actor is not None:
            self._supervisor.exited(worker, event, harmed, now)
        else:
            for task in harmed:
                self._attempts.crash(task, worker, event, now)
        if not (expected or harmed or worker.served):
            # It never did anything: as good as a failed start, and must not spin like one.
            self._starts.start_failed(worker.environment, event.report, now)
        self._turn.dirty = True

    # ------------------------------------------------------------ cancelling

    # ------------------------------------------------------------ placement groups

    def _place(self, cls: SchedulingClass, group: Group, now: float) -> None:
        """Reserve what a group needs, if there is room for all of it."""
        if not self._resources.take_for(cls, group, self._backlog.older_than(cls)):
            self._pass_over(cls, now)
            return
        task = cls.queue.popleft()
        self._backlog.emptied(cls)
        self._move(group, GroupState.CREATED)
        self._placed = True
        self._backlog.wake(group)
        self._move(task, TaskState.FINISHED)
        del self._tasks[task.number]
        self._turn.out.append(ResolveValues([(task, task.payload)]))
        self._table.finish_dependents(task)

    def _on_group_removed(self, event: GroupRemoved, now: float) -> None:
        group = event.group
        if group.state is GroupState.REMOVED:
            return
        self._move(group, GroupState.REMOVED)
        self._backlog.forget(group)
        self._supervisor.group_removed(group)  # before its creation fails, which would be the cause
        for task in tuple(self._tasks.values()):
            cls = task.scheduling_class
            concerned = cls.group is group or cls.reserves is group
            if concerned and task.worker is None and task.number in self._tasks:
                self._table.fail(
                    task, replace(GROUP_IS_REMOVED, attempts=tuple(task.failures or ()))
                )
        for worker in tuple(self._workers.values()):
            if worker.lease is not None and worker.lease.group is group:
                self._pool.kill(worker)
        self._resources.dissolve(group)
        self._turn.dirty = True

    # ------------------------------------------------------------ shutdown

    def _on_shutdown(self, event: ShutdownRequested, now: float) -> None:
        self._drain_grace = event.grace
        if event.drain <= 0.0:
            self._give_up(now, kill=True)
        else:
            if self._turn.life.state is Phase.OPEN:
                self._move(self._turn.life, Phase.DRAINING)
            self._turn.timers.set(now + event.drain, DrainEnded())

    def _give_up(self, now: float, *, kill: bool) -> None:
        """Fail what does not run; interrupt, and after the grace period kill, what runs."""
        phase = Phase.KILLING if kill else Phase.INTERRUPTING
        if phase in self._turn.life.state.successors:
            self._move(self._turn.life, phase)
        if kill:
            for worker in tuple(self._workers.values()):
                self._pool.kill(worker)
        for task in tuple(self._tasks.values()):
            if (kill or task.worker is None) and task.number in self._tasks:
                self._abandon(task)
        if kill:
            return
        for worker in tuple(self._workers.values()):
            if worker.in_flight:
                self._prefetch.reclaim(worker)
                for task in worker.in_flight.values():
                    if task.cancellation is None:
                        task.cancellation = Cancellation()
                        task.cancellation.by_shutdown = True
        self._turn.timers.set(now + self._drain_grace, ShutdownGraceEnded())

    def _abandon(self, task: Task) -> None:
        worker = task.worker
        if worker is not None:
            del worker.in_flight[task.seq]
            self._waits.forget((task,))
            if worker.actor is not None:
                self._supervisor.taken_back(task, worker)
                if task.number not in self._tasks:
                    return  # it was to make an actor that nobody wants any more
        if task.cancellation is not None:
            self._table.fail_cancelled(task, CancelOutcome.KILLED)
        else:
            failure = Failure(FailureKind.SHUTDOWN, attempts=tuple(task.failures or ()))
            self._table.fail(task, failure)

    def _end_workers(self, now: float) -> None:
        """Every task is resolved: end the workers, and say so when the last is reaped."""
        self._supervisor.end()
        if not self._workers:
            self._turn.timers.clear()
            if self._turn.life.state is not Phase.STOPPED:
                self._move(self._turn.life, Phase.STOPPED)
                self._turn.out.append(Stopped())
            return
        for worker in tuple(self._workers.values()):
            if worker.state is WorkerState.STARTING:
                self._pool.kill(worker)
            elif worker.state in (WorkerState.READY, WorkerState.RETIRING):
                self._pool.stop_idle(worker, now)

    # ------------------------------------------------------------ timers

    def _on_timer(self, event: TimerFired, now: float) -> None:
        for fact in self._turn.timers.due(now):
            self._tell(fact)
            if self._turn.dirty:
                self._dispatch(now)

    def _mark_dirty(self) -> None:
        self._turn.dirty = True

    # ------------------------------------------------------------ invariants

    def check(self) -> None:
        """Assert what must hold between two events. For tests; raises AssertionError."""
        in_flight: dict[int, Task] = {}
        for worker in self._workers.values():
            used = worker.lease is not None or worker.actor is not None
            assert bool(worker.in_flight) <= used, worker
            assert worker.settled <= (worker.lease is not None and worker.actor is not None), worker
            assert worker.blocked <= (worker.lease is not None), worker
            for seq, task in worker.in_flight.items():
                assert task.seq == seq, task
                assert task.worker is worker, task
                assert task.state is TaskState.SUBMITTED_TO_WORKER, task
                in_flight[task.number] = task
        check_resources(self._resources, tuple(self._workers.values()))
        queued = {task.number: task for cls in self._backlog.classes.values() for task in cls.queue}
        assert sum(len(cls.queue) for cls in self._backlog.classes.values()) == len(queued)
        check_actors(self._supervisor, self._pool, self._table)
        calls = queued_calls(self._table)
        queued |= {task.number: task for task in calls}
        assert len(calls) == len({task.number for task in calls})
        for cls in self._backlog.classes.values():
            assert (cls in self._backlog.waiting) == (
                bool(cls.queue) and not self._resources.never_fits(cls)
            ), cls
        idle = [worker for workers in self._pool.idle.values() for worker in workers]
        assert len(idle) == self._pool.idle_count
        for worker in idle:
            assert worker.state is WorkerState.READY, worker
            assert not worker.in_flight, worker
            assert worker.lease is None, worker
            assert self._workers.get(worker.id) is worker, worker
        starting = sum(self._pool.starting.values())
        assert starting == sum(
            worker.state in (WorkerState.STARTING, WorkerState.DEAD)
            for worker in self._workers.values()
        )
        for task in self._tasks.values():
            state = task.state
            assert state not in (TaskState.FINISHED, TaskState.FAILED), task
            assert (task.number in queued) == (state is _PENDING), task
            assert (task.number in in_flight) == (state is TaskState.SUBMITTED_TO_WORKER), task
            if task.actor is None:
                assert task.max_retries < 0 or task.attempt <= task.max_retries, task
        assert set(queued) | set(in_flight) <= set(self._tasks)
        for task in self._tasks.values():
            if task.parent is not None:
                assert (task.parent.children or {}).get(task.number) is task, task
            for child in (task.children or {}).values():
                assert child.number in self._tasks, child
