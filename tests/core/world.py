"""A shell and workers without processes, in virtual time, that hold the scheduler to its word.

`World` carries out what the scheduler orders as the engine does: commands in their order, and what
follows from them queues up and is handled before any other news. A `FakeWorker` behaves as
`aioray.wire` describes: it claims attempts in the order sent, one after it has answered the one
before; what it has not claimed can be taken back; answers lie in a pipe until somebody reads them,
also when it is dead. Between any two commands the workers may get on (`_meddle`).

After every event `World` checks what must always hold; `finish` brings everything to its end and
checks what must hold then.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aioray.core import scheduler as scheduler_module
from aioray.core.messages import (
    Answer,
    AnswersReceived,
    AttemptRecord,
    AttemptsReclaimed,
    CancelOutcome,
    CancelRequested,
    Ended,
    Event,
    Failure,
    FailureKind,
    InterruptWorker,
    KillWorker,
    PollWorker,
    ReclaimAttempts,
    ReportCancel,
    ReportInfeasible,
    ReportRetry,
    ResolveFailure,
    ResolveValues,
    SendAttempts,
    ShutdownRequested,
    StartWorker,
    Stopped,
    StopWorker,
    TasksSubmitted,
    TimerFired,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from aioray.core.model import Function, Task, TaskState
from aioray.core.scheduler import Scheduler

if TYPE_CHECKING:
    from aioray.core.model import Demand, Environment
    from aioray.core.retries import RetryPolicy

CPU = 10_000
TOTAL = {"CPU": 3 * CPU, "GPU": CPU}
KEPT = 3  # idle workers that are kept: one for each CPU
MAX_WORKERS = 3  # in a world, so that environments compete for workers as well
SHORT = 1e-5  # seconds inside a function that is worth prefetching
LONG = 0.5


@dataclass
class Order:
    """What a test wants submitted."""

    demand: Demand = (("CPU", CPU),)
    environment: Environment = ()
    function: int = 1
    dependencies: tuple[int, ...] = ()  # numbers of tasks
    max_retries: int = 3
    max_calls: int = 0
    policy: RetryPolicy | None = None


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
    stubborn: bool = False  # neither an interrupt nor a polite request moves it
    answers: list[Answer] = field(default_factory=list)  # written and not yet read
    interrupt: int = 0  # the seq that is to be interrupted
    calls: Counter[int] = field(default_factory=Counter)  # claimed, by function


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
    )


class World:
    """One scheduler, the fake shell around it, and the book-keeping of an incorruptible witness."""

    def __init__(self, seed: int = 0, *, meddling: float = 0.0) -> None:
        self.chance = random.Random(seed)
        self.meddling = meddling  # how often workers get on between two commands
        self.now = 0.0
        self.scheduler = Scheduler(TOTAL, random.Random(seed))
        self.functions = {key: Function(key, f"f{key}") for key in (1, 2, 3)}
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
        self._cancelled: set[int] = set()  # tasks that somebody has asked to cancel
        self._never_again: set[int] = set()  # tasks whose cancel was reported as NOT_STARTED
        self._started: Counter[int] = Counter()  # attempts entered or claimed, by task
        self._last_answer: dict[int, Answer] = {}  # by task
        self._lost: set[tuple[int, int, int]] = set()  # running when their worker died
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
            ReportCancel: self._do_report_cancel,
            ReportRetry: lambda command: self._check_record(command.task, command.record),
            ReportInfeasible: lambda command: self.infeasible.add(command.task.number),
            Stopped: self._do_stopped,
        }

    # ------------------------------------------------------------ the shell

    def feed(self, event: Event) -> None:
        """Hand an event to the scheduler and carry out what it orders, and what follows."""
        self._events.append(event)
        while self._events:
            event = self._events.popleft()
            self.history.append((self.now, event))
            commands = self.scheduler.handle(event, self.now)
            self.log.append(repr(commands))
            self.scheduler.check()
            for command in commands:
                self._meddle()
                self._do[type(command)](command)
        self._check_workers()

    def _do_start(self, command: StartWorker) -> None:
        assert command.worker_id not in self.workers
        self.workers[command.worker_id] = FakeWorker(
            command.worker_id, command.environment, stubborn=self.chance.random() < 0.5
        )
        assert len(self.workers) <= scheduler_module.MAX_WORKERS

    def _do_send(self, command: SendAttempts) -> None:
        worker = self.workers[command.worker_id]
        assert worker.up
        assert not worker.stop_ordered
        assert not worker.known_dead
        assert 0 < len(command.tasks) <= scheduler_module.MAX_BUNDLE
        for task in command.tasks:
            assert task.scheduling_class.environment == worker.environment
            assert task.number not in self._cancelled
            worker.claims.append((task.seq, task))
        assert len(worker.claims) <= scheduler_module.MAX_IN_FLIGHT

    def _do_reclaim(self, command: ReclaimAttempts) -> None:
        worker = self.workers[command.worker_id]
        seqs = [seq for seq, _ in worker.claims]
        worker.claims.clear()
        self._events.append(AttemptsReclaimed(worker.id, seqs))

    def _do_interrupt(self, command: InterruptWorker) -> None:
        self.workers[command.worker_id].interrupt = command.seq

    def _do_kill(self, command: KillWorker) -> None:
        worker = self.workers[command.worker_id]
        assert not worker.kill_ordered
        worker.kill_ordered = True
        if worker.running is not None and not self.closing:
            cancellation = worker.running[1].cancellation
            assert cancellation is not None, "a bystander is killed"
            assert cancellation.force

    def _do_stop(self, command: StopWorker) -> None:
        worker = self.workers[command.worker_id]
        assert not worker.stop_ordered
        assert not worker.claims
        assert worker.running is None
        worker.stop_ordered = True

    def _do_resolve_values(self, command: ResolveValues) -> None:
        for task, value in command.results:
            assert task.number not in self.outcomes
            assert task.state is TaskState.FINISHED
            assert self._last_answer[task.number].ended is Ended.RETURNED
            assert self._last_answer[task.number].payload == value
            self.outcomes[task.number] = value

    def _do_resolve_failure(self, command: ResolveFailure) -> None:
        task, failure = command.task, command.failure
        assert task.number not in self.outcomes
        assert task.state is TaskState.FAILED
        if failure.kind is FailureKind.DEPENDENCY:
            assert failure.upstream is not None
            assert isinstance(self.outcomes[failure.upstream.number], Failure)
        if failure.kind is FailureKind.WORKER_STARTUP:
            environment = task.scheduling_class.environment
            assert not any(
                worker.up and worker.environment == environment for worker in self.workers.values()
            )
        for record in failure.attempts:
            self._check_record(task, record)
        if task.max_retries >= 0:
            assert len(failure.attempts) <= task.max_retries + 1
        self.outcomes[task.number] = failure

    def _check_record(self, task: Task, record: AttemptRecord) -> None:
        if record.kind is FailureKind.WORKER_DIED:
            # Only what was running when the worker died was harmed by that.
            assert (task.number, record.number, record.worker_id) in self._lost

    def _do_report_cancel(self, command: ReportCancel) -> None:
        assert command.request_id in self.cancels
        assert command.request_id not in self.reports
        self.reports[command.request_id] = command.outcome
        number = self.cancels[command.request_id].task.number
        if command.outcome is CancelOutcome.NOT_STARTED:
            self._never_again.add(number)
            assert not any(
                worker.running and worker.running[1].number == number
                for worker in self.workers.values()
                if not worker.kill_ordered
            )
        elif command.outcome is CancelOutcome.INTERRUPTED:
            assert self._last_answer[number].ended is Ended.INTERRUPTED

    def _do_stopped(self, _command: Stopped) -> None:
        self.stopped += 1
        assert not self.workers

    def _read(self, worker: FakeWorker) -> None:
        if worker.answers:
            self._events.append(AnswersReceived(worker.id, tuple(worker.answers)))
            worker.answers.clear()

    def _check_workers(self) -> None:
        held: Counter[str] = Counter()
        for worker in self.workers.values():
            if worker.running is not None:
                held.update(dict(worker.running[1].scheduling_class.demand))
        assert all(held[name] <= TOTAL[name] for name in held), held

    def unfinished(self) -> list[Task]:
        """The tasks without an outcome."""
        return [task for task in self.tasks.values() if task.number not in self.outcomes]

    def _check_nothing_is_stuck(self) -> None:
        """Nobody is idle while work waits behind an attempt that turned out long."""
        free = self.scheduler.available
        for stuck in self.workers.values():
            if not stuck.running or not stuck.claims or stuck.dead or stuck.kill_ordered:
                continue
            if self.now - stuck.running_since > 2 * scheduler_module.LONGEST_STALL_CHECK:
                demand = stuck.running[1].scheduling_class.demand
                assert any(amount > free[name] for name, amount in demand) or not any(
                    is_idle(worker) and worker.environment == stuck.environment
                    for worker in self.workers.values()
                ), stuck

    def claimed(self) -> list[Task]:
        """The tasks that run or have run, as far as their answer was not read yet."""
        return [
            task
            for worker in self.workers.values()
            for task in (
                *(self.tasks[int(answer.payload.split(".")[0])] for answer in worker.answers),
                *((worker.running[1],) if worker.running else ()),
            )
        ]

    # ------------------------------------------------------------ what workers do

    def _meddle(self) -> None:
        while self.workers and self.chance.random() < self.meddling:
            worker = self.chance.choice(list(self.workers.values()))
            step = self.chance.choices((self.claim, self.end, self.die), (10, 10, 1))[0]
            step(worker)

    def claim(self, worker: FakeWorker) -> None:
        """It takes the next attempt and begins to run it."""
        if worker.dead or worker.running is not None or not worker.claims:
            return
        seq, task = worker.claims.popleft()
        if not worker.kill_ordered:
            assert task.number not in self.outcomes
            assert task.number not in self._never_again
        assert not any(
            other.running is not None and other.running[1] is task
            for other in self.workers.values()
            if not other.dead
        ), "two attempts of one task run at the same time"
        worker.calls[task.function.key] += 1
        assert not task.max_calls or worker.calls[task.function.key] <= task.max_calls
        self._started[task.number] += 1
        if task.max_retries >= 0:
            assert self._started[task.number] <= task.max_retries + 1
        worker.running = (seq, task)
        worker.running_since = self.now

    def end(self, worker: FakeWorker, ended: Ended | None = None) -> None:
        """What it runs comes to an end, by chance if not told how; the answer lies in the pipe."""
        if worker.dead or worker.running is None:
            return
        seq, task = worker.running
        if ended is None:
            ended = self.chance.choice(
                (Ended.RETURNED, Ended.RETURNED, Ended.RAISED_RETRYABLE, *Ended)
            )
        if worker.interrupt != seq and ended is Ended.NOT_STARTED:
            ended = Ended.RETURNED  # INTERRUPTED stays: a function may raise that itself
        short = task.function.key != 2
        seconds = 0.0 if ended is Ended.NOT_STARTED else SHORT if short else LONG
        delay = self.chance.choice((0.0, 0.01)) if ended is Ended.ASKED_FOR_RETRY else None
        payload = f"{task.number}.{task.attempt} {ended.value}"
        answer = Answer(seq, ended, payload, self.now, seconds, delay)
        worker.running = None
        worker.answers.append(answer)
        self._last_answer[task.number] = answer

    def die(self, worker: FakeWorker) -> None:
        """The process is over, and nobody knows yet."""
        if worker.up and not worker.dead:
            worker.dead = True
            if worker.running is not None:
                _, task = worker.running
                self._lost.add((task.number, task.attempt, worker.id))
                worker.running = None

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

    # ------------------------------------------------------------ what callers do

    def submit(self, orders: list[Order]) -> list[Task]:
        """Submit tasks in one go."""
        tasks = []
        for order in orders:
            number = len(self.tasks) + 1
            cls = self.scheduler.scheduling_class(order.demand, order.environment)
            task = self.tasks[number] = Task(
                number,
                f"t{number}",
                self.functions[order.function],
                cls,
                dependencies=tuple(self.tasks[n] for n in order.dependencies),
                max_retries=order.max_retries,
                max_calls=order.max_calls,
                policy=order.policy,
            )
            self.orders[number] = order
            tasks.append(task)
        self.feed(TasksSubmitted(tasks))
        return tasks

    def cancel(self, task: Task, *, force: bool = False, grace: float | None = None) -> int:
        """Ask for a cancel."""
        request_id = len(self.cancels) + 1
        event = self.cancels[request_id] = CancelRequested(task, request_id, force, grace)
        self._cancelled.add(task.number)
        self.feed(event)
        return request_id

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
        for _ in range(10_000):
            before = len(self.history)
            for worker in tuple(self.workers.values()):
                self.come_up(worker)
                while (worker.claims or worker.running) and not worker.dead:
                    self.claim(worker)
                    if worker.stubborn and worker.running and self._has_to_be_killed(worker):
                        break
                    self.end(worker, Ended.RETURNED)
                    self.read(worker)
                self.read(worker)
                self.reap(worker)
                if worker.id in self.workers and (worker.kill_ordered or not worker.stubborn):
                    self.obey(worker)
            if before == len(self.history):
                due = self.scheduler.next_deadline()
                if due is None:
                    return
                self.now = max(self.now, due)
                self.feed(TimerFired())
        raise AssertionError("it goes on for ever")

    def _has_to_be_killed(self, worker: FakeWorker) -> bool:
        assert worker.running is not None
        number = worker.running[1].number
        return self.closing or any(
            (event.force or event.grace is not None) and event.task.number == number
            for event in self.cancels.values()
        )

    def finish(self) -> None:
        """Work everything off, shut down in the midst of more, and see that nothing is left."""
        self.settle()
        assert self.waits_for_nothing()
        if not self.closing:
            assert sum(map(is_idle, self.workers.values())) <= KEPT
            self.submit([Order()] * 10)
            for worker in tuple(self.workers.values()):
                self.come_up(worker)
                self.claim(worker)
            self.shut_down(self.chance.choice((0.0, 0.5)))
        self.settle()
        assert self.outcomes.keys() == self.tasks.keys()
        assert self.reports.keys() == self.cancels.keys()
        assert self.scheduler.available == self.scheduler.total
        assert not self.workers
        assert self.stopped == 1
        assert self.scheduler.next_deadline() is None

    def waits_for_nothing(self) -> bool:
        """Whether every task that could run has its outcome."""
        return all(
            task.number in self.outcomes or self._waits_for_more_than_there_is(task)
            for task in self.tasks.values()
        )

    def _waits_for_more_than_there_is(self, task: Task) -> bool:
        """Whether it, or what it depends on, asks for more than the machine has."""
        work = [task]
        while work:
            task = work.pop()
            if any(amount > TOTAL.get(name, 0) for name, amount in task.scheduling_class.demand):
                return True
            work += [
                self.tasks[number]
                for number in self.orders[task.number].dependencies
                if number not in self.outcomes
            ]
        return False


def replay(world: World, seed: int) -> list[str]:
    """The commands of a new scheduler for the events that the given world has seen."""
    scheduler = Scheduler(TOTAL, random.Random(seed))
    functions = {key: Function(key, f.name) for key, f in world.functions.items()}
    tasks: dict[int, Task] = {}
    log: list[str] = []
    for now, seen in world.history:
        event = seen
        if isinstance(seen, TasksSubmitted):
            for task in seen.tasks:
                cls = task.scheduling_class
                tasks[task.number] = Task(
                    task.number,
                    task.name,
                    functions[task.function.key],
                    scheduler.scheduling_class(cls.demand, cls.environment),
                    dependencies=tuple(tasks[n] for n in world.orders[task.number].dependencies),
                    max_retries=task.max_retries,
                    max_calls=task.max_calls,
                    policy=task.policy,
                )
            event = TasksSubmitted([tasks[task.number] for task in seen.tasks])
        elif isinstance(seen, CancelRequested):
            twin = tasks[seen.task.number]
            event = CancelRequested(twin, seen.request_id, seen.force, seen.grace)
        log.append(repr(scheduler.handle(event, now)))
    return log
