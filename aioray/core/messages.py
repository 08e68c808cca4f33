"""What the shell tells the core (events) and what the core orders (commands).

Room: core. Frozen data only. An event is a fact, named in the past; a command is a request, named
as an order. The commands returned by one `handle` call are caused by exactly that event and are
carried out in the order given. Where ten thousand tasks pass by, one event or command speaks of a
whole batch, because creating an object per task is what would cost.

`Task` objects appear by reference; workers by their id, which is never reused. `seq` numbers one
attempt on one worker, is never reused either, and so tells late answers from current ones.
Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .actors import Actor
    from .groups import Group
    from .model import Demand, Environment, Task

__all__ = [
    "LOST_CANCELLED",
    "LOST_MAX_ATTEMPTS",
    "LOST_RETRIES_DISABLED",
    "ActorKilled",
    "ActorReleased",
    "Answer",
    "AnswersReceived",
    "AttemptRecord",
    "AttemptWaits",
    "AttemptsNotSent",
    "AttemptsReclaimed",
    "CancelCall",
    "CancelOutcome",
    "CancelRequested",
    "Command",
    "DiscardWorker",
    "Ended",
    "Event",
    "Failure",
    "FailureKind",
    "GroupRemoved",
    "Holding",
    "InterruptWorker",
    "KillWorker",
    "Passage",
    "PollWorker",
    "ReclaimAttempts",
    "ReportActor",
    "ReportCancel",
    "ReportInfeasible",
    "ReportOrphans",
    "ReportRetry",
    "ReportStarved",
    "ResolveFailure",
    "ResolveValues",
    "ResultLost",
    "ResultWanted",
    "Revive",
    "Revived",
    "SendAttempts",
    "ShutdownRequested",
    "StartWorker",
    "StopWorker",
    "Stopped",
    "TasksSubmitted",
    "TimerFired",
    "WorkerBlocked",
    "WorkerDied",
    "WorkerExited",
    "WorkerReady",
    "WorkerStartFailed",
    "WorkerUnblocked",
]


class Ended(Enum):
    """How an attempt ended, by the worker's own account."""

    RETURNED = "returned"  # the payload is the value
    RAISED = "raised"  # an application error that must not be retried
    RAISED_RETRYABLE = "raised, retryable"  # an application error that `retry_exceptions` allows
    ASKED_FOR_RETRY = "asked for a retry"  # the task raised RetryTask
    FORBADE_RETRY = "forbade a retry"  # the task raised DoNotRetry
    INTERRUPTED = "interrupted"  # KeyboardInterrupt left the function
    NOT_STARTED = "not started"  # the interrupt came before the function's first line
    ARGUMENT_LOST = "argument lost"  # a value that it needs is gone; it was never entered
    EXITED = "exited"  # a method has ended its actor, which wants no restart
    RAISED_CANCELLED = "raised a cancel"  # RAISED, and the error is that of a cancelled task
    RAISED_CANCELLED_RETRYABLE = "raised a cancel, retryable"  # RAISED_RETRYABLE, likewise


class Answer(NamedTuple):
    """What a worker says of one attempt."""

    seq: int
    ended: Ended
    payload: Any  # value or error, opaque here
    started_at: float
    duration: float  # seconds inside the user's function; 0.0: it was never entered
    delay: float | None = None  # seconds asked for by ASKED_FOR_RETRY
    partial: bool = False  # some of its values came before, and stand also if it has failed


class FailureKind(Enum):
    """Why a task, or one attempt of it, failed."""

    APPLICATION = "application error"
    WORKER_DIED = "worker died"
    CANCELLED = "cancelled"
    DEPENDENCY = "dependency failed"
    WORKER_STARTUP = "worker could not start"
    TOO_MANY_BLOCKED = "too many workers wait for other tasks"
    ENVIRONMENT = "environment could not be set up"
    GROUP_REMOVED = "placement group removed"
    UNSCHEDULABLE = "no place to run"  # `detail` is a text that says why
    ACTOR_DIED = "actor died"  # `detail` is an ActorDeath; so it is of the next
    ACTOR_UNAVAILABLE = "actor died, and starts again"  # what it was running may have had effects
    CIRCLE = "waits for itself"  # `detail` is a Circle
    OVERDUE = "actor did not start again in time"  # `detail` is an Overdue
    LOST = "result lost"  # and must not, or cannot, be computed again; `detail` says why
    SHUTDOWN = "engine shut down"


class CancelOutcome(Enum):
    """What became of a request to cancel.

    `NOT_STARTED`: the function was not running and never will. `INTERRUPTED`: KeyboardInterrupt
    ended it, or TaskCancelledError from a task that it waited for. `KILLED`: its worker was killed.
    `FINISHED_FIRST`: it had an outcome of its own before the request took hold; that outcome
    stands. What is cancelled already is so by whoever came first, and the later are told the same.
    So the ref raises TaskCancelledError if and only if it is not `FINISHED_FIRST`.
    """

    NOT_STARTED = "not started"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    FINISHED_FIRST = "finished first"


class Passage(NamedTuple):
    """What an attempt had behind it when it began to run."""

    created_at: float  # as `Task` has them
    ready_at: float
    sent_at: float
    seq: int

    @classmethod
    def of(cls, task: Task) -> Passage:
        """That of the current attempt, which is on a worker."""
        return cls(task.created_at, task.ready_at, task.sent_at, task.seq)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One failed attempt, kept for the error's history."""

    number: int  # from 0
    worker_id: int | None  # None: it never reached a worker
    started_at: float | None  # monotonic
    duration: float | None  # seconds
    kind: FailureKind
    detail: Any  # the worker's payload or the shell's death report, opaque here
    passage: Passage | None = field(default=None, compare=False)  # not in what tests make up


@dataclass(frozen=True, slots=True)
class Failure:
    """The final outcome of a task that has no value."""

    kind: FailureKind
    detail: Any = None  # error payload, death report, start-up report, `LOST_*`; opaque here
    upstream: Task | None = None  # DEPENDENCY: the argument's task
    attempts: tuple[AttemptRecord, ...] = ()


LOST_RETRIES_DISABLED = "RETRIES_DISABLED"
LOST_MAX_ATTEMPTS = "MAX_ATTEMPTS_EXCEEDED"
LOST_CANCELLED = "TASK_CANCELLED"
"""Why the scheduler forbids that a lost result be computed again. Ray's names."""


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class TasksSubmitted:
    """The callers of one loop tick want these tasks run."""

    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class AnswersReceived:
    """These answers were read from one worker, in the order it wrote them."""

    worker_id: int
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class AttemptsNotSent:
    """The system had no room for sending these attempts; each fails with the error that says so."""

    worker_id: int
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class AttemptsReclaimed:
    """The worker had not yet claimed these attempts, and now it never can."""

    worker_id: int
    seqs: Sequence[int]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has said that it can take attempts."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerStartFailed:
    """No process came up for this worker; nothing has to be reaped any more."""

    worker_id: int
    report: Any  # what is known of the reason, opaque here
    environment_failed: bool = False  # its environment is to blame: another would fail as well
    scarce: bool = False  # the system is: it has no descriptor, process or memory left for now


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker's process is dead: give it nothing more. WorkerExited will follow.

    Between the two come its last answers and AttemptsReclaimed with what it had not claimed.
    Without this news it would seem free, be given more, and seem to have died of that.
    """

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The worker's process has been reaped. What it had claimed and not answered died with it."""

    worker_id: int
    report: Any  # death report, opaque here
    started_at: float | None = None  # of the attempt that it was running, if known


@dataclass(frozen=True, slots=True)
class WorkerBlocked:
    """What the worker runs waits for other tasks, and needs no CPU meanwhile."""

    worker_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class WorkerUnblocked:
    """It goes on, whether CPUs are free for it or not."""

    worker_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class AttemptWaits:
    """An attempt cannot go on before these tasks have ended; none: it goes on.

    It waits in the thread that runs it, and without a limit.
    """

    worker_id: int
    seq: int
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the task to stop."""

    task: Task
    request_id: int
    force: bool = False  # kill the worker at once instead of interrupting it
    grace: float | None = None  # seconds between interrupt and kill; None: never kill
    recursive: bool = False  # and what it has submitted, and will submit


@dataclass(frozen=True, slots=True)
class ResultLost:
    """A value of this finished task is gone. Nothing is done about it until it is wanted."""

    task: Task


@dataclass(frozen=True, slots=True)
class ResultWanted:
    """Somebody waits for a value of this task that was lost."""

    task: Task


@dataclass(frozen=True, slots=True)
class Revived:
    """The answer to Revive: the task can run again once these others have given their values."""

    task: Task
    dependencies: Sequence[Task] = ()
    forbidden: Any = None  # not None: it cannot run again, and this says why; opaque here


@dataclass(frozen=True, slots=True)
class GroupRemoved:
    """Nobody wants this placement group any more: end what runs in it, fail what waits for it."""

    group: Group


@dataclass(frozen=True, slots=True)
class ActorReleased:
    """No handle to this actor is left, so nobody can call it any more."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class ActorKilled:
    """Somebody wants this actor to end at once."""

    actor: Actor
    no_restart: bool  # False: it is as if it had crashed


@dataclass(frozen=True, slots=True)
class TimerFired:
    """`next_deadline()` has passed."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """Take no more tasks, but those that others need to finish while they may; finish or give up
    what there is, then end every worker.
    """

    drain: float = 0.0  # seconds for the tasks to finish on their own
    grace: float = 1.0  # seconds between the interrupt after the drain and the kill


Event = (
    TasksSubmitted
    | AnswersReceived
    | AttemptsNotSent
    | AttemptsReclaimed
    | WorkerReady
    | WorkerStartFailed
    | WorkerDied
    | WorkerExited
    | WorkerBlocked
    | WorkerUnblocked
    | AttemptWaits
    | CancelRequested
    | ResultLost
    | ResultWanted
    | Revived
    | GroupRemoved
    | ActorReleased
    | ActorKilled
    | TimerFired
    | ShutdownRequested
)


# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process for this new worker id; answer WorkerReady or WorkerStartFailed."""

    worker_id: int
    environment: Environment


@dataclass(frozen=True, slots=True)
class SendAttempts:
    """Give these attempts to the worker, in this order. Each task's `seq` names its attempt."""

    worker_id: int
    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class ReclaimAttempts:
    """Take back at once what the worker has not claimed.

    Answer AttemptsReclaimed, also when empty, in the order of the orders and before any event from
    outside.
    """

    worker_id: int


@dataclass(frozen=True, slots=True)
class PollWorker:
    """Read the worker's answers now: it may be busy and unable to announce them."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class InterruptWorker:
    """SIGINT for this attempt only, unless the worker says that it was delivered already."""

    worker_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class CancelCall:
    """Tell an actor that this call, which it is running, is cancelled."""

    worker_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class DiscardWorker:
    """It has answered for an attempt that it does not have, so nothing it says can be trusted:
    SIGKILL, and its exit counts as a crash.
    """

    worker_id: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """SIGKILL; WorkerExited will follow."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Let the worker end politely; WorkerExited will follow."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class ResolveValues:
    """These tasks have their values."""

    results: Sequence[tuple[Task, Any]]


@dataclass(frozen=True, slots=True)
class ResolveFailure:
    """This task has failed for good."""

    task: Task
    failure: Failure


@dataclass(frozen=True, slots=True)
class Revive:
    """Make this task ready to run again, and find out which of its arguments are missing.

    Answer Revived; say ResultLost first of every finished task that has lost one of them.
    """

    task: Task


@dataclass(frozen=True, slots=True)
class ReportCancel:
    """Tell the caller of this cancel request what became of it."""

    request_id: int
    outcome: CancelOutcome


@dataclass(frozen=True, slots=True)
class ReportRetry:
    """Tell the user that an attempt failed and another will follow."""

    task: Task
    record: AttemptRecord
    retries_left: int  # before this retry; -1: unlimited
    delay: float  # seconds until the next attempt may start


@dataclass(frozen=True, slots=True)
class ReportOrphans:
    """The attempt that has submitted these, still unfinished, tasks died with its worker."""

    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True)
class ReportActor:
    """The state of this actor has changed."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class ReportInfeasible:
    """Tell the user that this task, or group, asks for more than there is and cannot run."""

    task: Task


class Holding(NamedTuple):
    """What somebody keeps that no end of a running task will free."""

    holder: Actor | Group | Task  # the last: it waits for others, of which none can run
    amounts: Demand  # by their plain names, also those of a bundle


@dataclass(frozen=True, slots=True)
class ReportStarved:
    """Tell the user that these, of one class, have waited long for what others keep."""

    waiting: Sequence[tuple[Task, int]]  # for each name: the first of them, and how many
    holdings: Sequence[Holding]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Every worker is reaped and every task resolved: the shell may close."""


Command = (
    StartWorker
    | SendAttempts
    | ReclaimAttempts
    | PollWorker
    | InterruptWorker
    | CancelCall
    | KillWorker
    | DiscardWorker
    | StopWorker
    | ResolveValues
    | ResolveFailure
    | Revive
    | ReportCancel
    | ReportRetry
    | ReportOrphans
    | ReportActor
    | ReportInfeasible
    | ReportStarved
    | Stopped
)
