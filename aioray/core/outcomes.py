"""What becomes of attempts, tasks, cancels and actors, in words that all of the core shares.

Room: core. Frozen data only, and no imports of the core: what an outcome is about (`Task`, `Actor`)
is carried along by reference and not looked into, but for its times; nor is what the shell puts in
as `payload`, `detail` or `report`. Times are monotonic seconds.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from .records import NamedTuple, field, record

__all__ = [
    "GROUP_IS_REMOVED",
    "LOST_CANCELLED",
    "LOST_MAX_ATTEMPTS",
    "LOST_RETRIES_DISABLED",
    "ActorDeath",
    "Answer",
    "AttemptRecord",
    "AttemptTimes",
    "CancelOutcome",
    "Circle",
    "DeathCause",
    "Ended",
    "Excess",
    "Failure",
    "FailureKind",
    "OpenCircuit",
    "Overdue",
    "Overrun",
    "Shortage",
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
    TIMEOUT = "time limit exceeded"  # `detail` is an Overrun
    CIRCUIT_OPEN = "circuit open"  # `detail` is an OpenCircuit
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
    OUT_OF_MEMORY = "out of memory"  # `detail` is the death report of the worker that was killed
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


class AttemptTimes(NamedTuple):
    """What an attempt had behind it when it began to run."""

    created_at: float  # as `Task` has them
    ready_at: float
    sent_at: float
    seq: int

    @classmethod
    def of(cls, task: Any) -> AttemptTimes:
        """Copy the times of the current attempt of a `Task`, which is on a worker."""
        return cls(task.created_at, task.ready_at, task.sent_at, task.seq)


@record(frozen=True, slots=True)
class AttemptRecord:
    """One failed attempt, kept for the error's history."""

    number: int  # from 0
    worker_id: int | None  # None: it never reached a worker
    started_at: float | None  # monotonic
    duration: float | None  # seconds
    kind: FailureKind
    detail: Any  # the worker's payload or the shell's death report, opaque here
    passage: AttemptTimes | None = field(default=None, compare=False)  # not in what tests make up


@record(frozen=True, slots=True)
class Failure:
    """The final outcome of a task that has no value."""

    kind: FailureKind
    detail: Any = None  # error payload, death report, start-up report, `LOST_*`; opaque here
    upstream: Any = None  # DEPENDENCY: the argument's `Task`
    attempts: tuple[AttemptRecord, ...] = ()


_DEADLINE = "deadline"


@record(frozen=True, slots=True)
class Overrun:
    """What took too long: the detail of the failure of a task, or of an attempt."""

    option: str  # which limit it has exceeded
    seconds: float  # that allows
    after: float  # seconds that it had taken by then
    report: Any = None  # the shell's: where the attempt was; None: not known, or it had not begun
    retries: bool = False  # whoever has submitted it wants another attempt after this error
    payload: Any = None  # what its worker has answered to the interrupt

    @classmethod
    def of_deadline(cls, seconds: float, after: float) -> Overrun:
        """Make that of a task whose deadline has passed."""
        return cls(_DEADLINE, seconds, after)

    @property
    def is_final(self) -> bool:
        """Whether no other attempt may follow."""
        return self.option == _DEADLINE

    def text(self, name: str) -> str:
        """Say what happened, of a task of this name."""
        return f"{name} has exceeded its {self.option} of {self.seconds:g} s"


@record(frozen=True, slots=True)
class OpenCircuit:
    """A function has killed too many workers: the detail of the failure of calls."""

    name: str  # of the breaker
    deaths: tuple[
        tuple[str, AttemptRecord], ...
    ]  # the last ones: names of tasks, and how they died
    period: float  # seconds within which that was too many
    rest: float  # seconds until a call is let through


GROUP_IS_REMOVED = Failure(FailureKind.GROUP_REMOVED)

LOST_RETRIES_DISABLED = "RETRIES_DISABLED"
LOST_MAX_ATTEMPTS = "MAX_ATTEMPTS_EXCEEDED"
LOST_CANCELLED = "TASK_CANCELLED"
"""Why the scheduler forbids that a lost result be computed again. Ray's names."""


class DeathCause(Enum):
    """Why an actor is no more."""

    WORKER_DIED = "its worker died, and no restarts were left"
    TOO_OFTEN = "its worker died more often than its RestartPolicy tolerates"
    EXITED = "it ended itself"
    KILLED = "kill()"
    OUT_OF_SCOPE = "all handles are gone"
    CREATION_FAILED = "it could not be made"  # `detail` is the Failure of its creation
    GROUP_REMOVED = "its placement group was removed"
    SHUTDOWN = "the engine was shut down"


@record(frozen=True, slots=True)
class ActorDeath:
    """How an actor ended: the detail of failures of its calls."""

    actor: Any  # the `Actor`; so in the next two
    cause: DeathCause
    detail: Any = None  # death report of its worker, if that has died; opaque here


@record(frozen=True, slots=True)
class Circle:
    """Who waits for whom: the detail of the failure of a call that can never begin."""

    actor: Any  # that was called
    names: tuple[str, ...]  # of tasks, the call first: each waits for the next, the last for it


@record(frozen=True, slots=True)
class Shortage:
    """The machine, or the container, has little memory left."""

    used: int  # bytes
    total: int  # bytes
    allowed: int  # bytes that may be in use
    alone: bool = False  # nobody else was running who could have needed it


@record(frozen=True, slots=True)
class Excess:
    """Too much memory was in use: why a worker is killed."""

    seq: int  # the attempt that is to blame; 0: whatever runs there, or nothing does
    used: int  # bytes
    limit: int | None  # bytes that were allowed; None: it has no limit of its own
    shortage: Shortage | None = None  # None: it is its own limit


@record(frozen=True, slots=True)
class Overdue:
    """A call has waited too long for a restart: the detail of its failure."""

    actor: Any
    seconds: float
