"""What the shell tells the core.

Room: core. Frozen data only. An event is a fact, named in the past. Where ten thousand tasks pass
by, one event speaks of a whole batch, because creating an object per task is what would cost.

`Task` objects appear by reference; workers by their id, which is never reused. `seq` numbers one
attempt on one worker, is never reused either, and so tells late answers from current ones.
Times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .message import message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .groups import Group
    from .model import Environment, SupervisedActor, Task
    from .outcomes import Answer

__all__ = [
    "ActorKilled",
    "ActorReleased",
    "AnswersReceived",
    "AttemptLocated",
    "AttemptSeen",
    "AttemptWaits",
    "AttemptsNotSent",
    "AttemptsReclaimed",
    "CancelRequested",
    "Event",
    "GroupRemoved",
    "MemoryMeasured",
    "MemoryRanShort",
    "ResultLost",
    "ResultWanted",
    "Revived",
    "ShutdownRequested",
    "TasksSubmitted",
    "TimerFired",
    "WorkerBlocked",
    "WorkerDied",
    "WorkerExited",
    "WorkerOutgrown",
    "WorkerReady",
    "WorkerStartFailed",
    "WorkerUnblocked",
    "WorkerWanted",
]


@message
class TasksSubmitted:
    """The callers of one loop tick want these tasks run."""

    tasks: Sequence[Task]


@message
class AnswersReceived:
    """These answers were read from one worker, in the order it wrote them."""

    worker_id: int
    answers: Sequence[Answer]


@message
class AttemptsNotSent:
    """The system had no room for sending these attempts; each fails with the error that says so."""

    worker_id: int
    answers: Sequence[Answer]


@message
class AttemptsReclaimed:
    """The worker had not yet claimed these attempts, and now it never can."""

    worker_id: int
    seqs: Sequence[int]


@message
class WorkerReady:
    """The worker has said that it can take attempts."""

    worker_id: int


@message
class WorkerStartFailed:
    """No process came up for this worker; nothing has to be reaped any more."""

    worker_id: int
    report: Any  # what is known of the reason, opaque here
    environment_failed: bool = False  # its environment is to blame: another would fail as well
    scarce: bool = False  # the system is: it has no descriptor, process or memory left for now


@message
class WorkerDied:
    """The worker's process is dead: give it nothing more. WorkerExited will follow.

    Between the two come its last answers and AttemptsReclaimed with what it had not claimed.
    Without this news it would seem free, be given more, and seem to have died of that.
    """

    worker_id: int


@message
class WorkerExited:
    """The worker's process has been reaped. What it had begun and not answered died with it."""

    worker_id: int
    report: Any  # death report, opaque here
    started_at: float | None = None  # of the attempt that it was running, if known
    # Of an asynchronous actor, by concurrency group: the last call that it had begun. All that are
    # newer had waited for its loop. Of groups that are left out everything was begun.
    begun: Sequence[int] = ()


@message
class WorkerOutgrown:
    """The worker keeps more memory than it may, now that it runs nothing. It says so repeatedly."""

    worker_id: int


@message
class WorkerBlocked:
    """What the worker runs waits for other tasks, and needs no CPU meanwhile."""

    worker_id: int
    seq: int


@message
class WorkerUnblocked:
    """What the worker runs goes on, whether CPUs are free for it or not."""

    worker_id: int
    seq: int


@message
class AttemptWaits:
    """An attempt cannot go on before these tasks have ended; none: it goes on.

    It waits in the thread that runs it, and without a limit.
    """

    worker_id: int
    seq: int
    tasks: Sequence[Task]


@message
class AttemptSeen:
    """How long an attempt has run, as its worker has noted it."""

    worker_id: int
    seq: int
    entered_at: float | None  # None: it was not entered
    beat_at: float = 0.0  # when it told last that it gets on; inf: it waits, and need not


@message
class AttemptLocated:
    """Where an attempt is, as far as it could be found out."""

    worker_id: int
    seq: int
    report: Any  # opaque here, but that it is not None
    retries: bool = False  # whoever has submitted it wants another attempt after this error


@message
class CancelRequested:
    """Somebody wants the task to stop."""

    task: Task
    request_id: int
    force: bool = False  # kill the worker at once instead of interrupting it
    grace: float | None = None  # seconds between interrupt and kill; None: never kill
    recursive: bool = False  # and what it has submitted, and will submit


@message
class MemoryMeasured:
    """This attempt was seen to use so much memory beyond what its worker had before.

    That of making an actor may be measured for as long as the actor lives.
    """

    worker_id: int
    seq: int
    used: int  # bytes


@message
class MemoryRanShort:
    """More of the machine's, or the container's, memory is in use than may be."""

    used: int  # bytes
    total: int  # bytes
    allowed: int  # bytes that may be in use
    measures: Sequence[tuple[int, int]]  # workers, and the bytes that each has for itself


@message
class ResultLost:
    """A value of this finished task is gone. Nothing is done about it until it is wanted."""

    task: Task


@message
class ResultWanted:
    """Somebody waits for a value of this task that was lost."""

    task: Task


@message
class Revived:
    """The answer to Revive: the task can run again once these others have given their values."""

    task: Task
    dependencies: Sequence[Task] = ()
    forbidden: Any = None  # not None: it cannot run again, and this says why; opaque here


@message
class GroupRemoved:
    """Nobody wants this placement group any more: end what runs in it, fail what waits for it."""

    group: Group


@message
class ActorReleased:
    """No handle to this actor is left, so nobody can call it any more."""

    actor: SupervisedActor


@message
class ActorKilled:
    """Somebody wants this actor to end at once."""

    actor: SupervisedActor
    no_restart: bool  # False: it is as if it had crashed


@message
class WorkerWanted:
    """Somebody wants to know that workers come up, before there is anything for them to do."""

    environment: Environment


@message
class TimerFired:
    """`next_deadline()` has passed."""


@message
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
    | WorkerOutgrown
    | WorkerBlocked
    | WorkerUnblocked
    | AttemptWaits
    | AttemptSeen
    | AttemptLocated
    | CancelRequested
    | ResultLost
    | ResultWanted
    | Revived
    | MemoryMeasured
    | MemoryRanShort
    | GroupRemoved
    | ActorReleased
    | ActorKilled
    | WorkerWanted
    | TimerFired
    | ShutdownRequested
)
