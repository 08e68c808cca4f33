"""What the core orders of the shell.

Room: core. Frozen data only. A command is a request, named as an order. The commands returned by
one `handle` call are caused by exactly that event and are carried out in the order given. Workers
are named by their id, attempts by their `seq`, as in `events`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .message import message
from .records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .devices import Demand
    from .groups import Group
    from .model import Environment, SupervisedActor, Task
    from .outcomes import (
        AttemptRecord,
        CancelOutcome,
        Excess,
        Failure,
        OpenCircuit,
        Overrun,
        Shortage,
    )
    from .states import BreakerStatus

__all__ = [
    "CancelCall",
    "Command",
    "DiscardWorker",
    "Holding",
    "InterruptWorker",
    "KillWorker",
    "LocateAttempt",
    "LookAtAttempt",
    "PollWorker",
    "ReclaimAttempts",
    "ReportActor",
    "ReportBreaker",
    "ReportCancel",
    "ReportInfeasible",
    "ReportMemoryShort",
    "ReportOrphans",
    "ReportRetry",
    "ReportStarved",
    "ResolveFailure",
    "ResolveValues",
    "Revive",
    "SendAttempts",
    "StartWorker",
    "StopWorker",
    "Stopped",
]


@message
class StartWorker:
    """Start a process for this new worker id; answer WorkerReady or WorkerStartFailed."""

    worker_id: int
    environment: Environment


@message
class SendAttempts:
    """Give these attempts to the worker, in this order. Each task's `seq` names its attempt."""

    worker_id: int
    tasks: Sequence[Task]


@message
class ReclaimAttempts:
    """Take back at once what the worker has not claimed.

    Answer AttemptsReclaimed, also when empty, in the order of the orders and before any event from
    outside.
    """

    worker_id: int


@message
class PollWorker:
    """Read the worker's answers now: it may be busy and unable to announce them."""

    worker_id: int


@message
class LookAtAttempt:
    """Find out how long this attempt has run; answer AttemptSeen at once, unless it is over."""

    worker_id: int
    seq: int


@message
class LocateAttempt:
    """Find out where this attempt is, which takes too long, and whether it may be retried.

    Answer AttemptLocated before long, whatever was found.
    """

    worker_id: int
    task: Task
    overrun: Overrun


@message
class InterruptWorker:
    """SIGINT for this attempt only, unless the worker says that it was delivered already."""

    worker_id: int
    seq: int


@message
class CancelCall:
    """Tell an actor that this call, which it is running, is cancelled."""

    worker_id: int
    seq: int


@message
class DiscardWorker:
    """The worker has answered for an attempt that it does not have, so it cannot be trusted:
    SIGKILL, and its exit counts as a crash.
    """

    worker_id: int


@message
class KillWorker:
    """SIGKILL; WorkerExited will follow."""

    worker_id: int
    reason: str = ""  # of who is told that the worker is dead; empty: somebody's wish
    excess: Excess | None = None  # the reason, if that is memory


@message
class StopWorker:
    """Let the worker end politely; WorkerExited will follow."""

    worker_id: int


@message
class ResolveValues:
    """These tasks have their values."""

    results: Sequence[tuple[Task, Any]]


@message
class ResolveFailure:
    """This task has failed for good."""

    task: Task
    failure: Failure


@message
class Revive:
    """Make this task ready to run again, and find out which of its arguments are missing.

    Answer Revived; say ResultLost first of every finished task that has lost one of them.
    """

    task: Task


@message
class ReportCancel:
    """Tell the caller of this cancel request what became of it."""

    request_id: int
    outcome: CancelOutcome


@message
class ReportRetry:
    """Tell the user that an attempt failed and another will follow."""

    task: Task
    record: AttemptRecord
    retries_left: int  # before this retry; -1: unlimited
    delay: float  # seconds until the next attempt may start


@message
class ReportOrphans:
    """The attempt that has submitted these, still unfinished, tasks died with its worker."""

    tasks: Sequence[Task]


@message
class ReportActor:
    """The state of this actor has changed."""

    actor: SupervisedActor


@message
class ReportBreaker:
    """Tell the user what a breaker lets through from now on."""

    state: BreakerStatus
    circuit: OpenCircuit


@message
class ReportInfeasible:
    """Tell the user that this task, or group, asks for more than there is and cannot run."""

    task: Task


class Holding(NamedTuple):
    """What somebody keeps that no end of a running task will free."""

    holder: SupervisedActor | Group | Task  # the last: it waits for others, of which none can run
    amounts: Demand  # by their plain names, also those of a bundle


@message
class ReportStarved:
    """Tell the user that these, of one class, have waited long for what others keep."""

    waiting: Sequence[tuple[Task, int]]  # for each name: the first of them, and how many
    holdings: Sequence[Holding]


@message
class ReportMemoryShort:
    """Tell the user that memory runs short, and no worker has any that it could give back."""

    shortage: Shortage


@message
class Stopped:
    """Every worker is reaped and every task resolved: the shell may close."""


Command = (
    StartWorker
    | SendAttempts
    | ReclaimAttempts
    | PollWorker
    | LookAtAttempt
    | LocateAttempt
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
    | ReportBreaker
    | ReportInfeasible
    | ReportStarved
    | ReportMemoryShort
    | Stopped
)
