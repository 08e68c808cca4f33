"""What one part of the core tells those above it, and what a timer is to bring back.

Room: core. Frozen data only. A fact is named in the past. A part that must be heard by parts which
it does not know says `turn.announce(fact)`, and `Scheduler` routes that at once, by one table; a
timer carries the fact that is told when it is due. Whatever can be a plain call downward is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .message import message

if TYPE_CHECKING:
    from .cancels import Cancellation
    from .limiters import StartLimiter
    from .model import Environment, SupervisedActor, Task, Worker
    from .outcomes import Failure

__all__ = [
    "AlarmDue",
    "BackoffEnded",
    "CreationFailed",
    "CreationWaits",
    "DrainEnded",
    "Fact",
    "GraceEnded",
    "InterruptUnanswered",
    "OverrunGraceEnded",
    "PatienceEnded",
    "PauseEnded",
    "PermitsDue",
    "ProgressOverdue",
    "ShutdownGraceEnded",
    "SpareLookDue",
    "StarvationLookDue",
    "StopOverdue",
    "SurplusLookDue",
    "WorkerAged",
]


@message
class CreationWaits:
    """The creation of this actor waits for arguments, or for a worker."""

    actor: SupervisedActor


@message
class CreationFailed:
    """This actor cannot be made."""

    actor: SupervisedActor
    failure: Failure


# ---------------------------------------------------------------- of timers


@message
class BackoffEnded:
    """The next attempt of this task is due, if it still waits for that."""

    task: Task


@message
class GraceEnded:
    """An interrupt of this task has had its time: kill it, if it still runs."""

    task: Task


@message
class AlarmDue:
    """A task may have taken too long."""


@message
class OverrunGraceEnded:
    """What was interrupted because it takes too long has had its time, if it still runs."""

    task: Task
    cancellation: Cancellation  # which may not be the present one of the task


@message
class InterruptUnanswered:
    """The interrupt may have vanished: repeat it, if the task is still in this worker."""

    task: Task
    worker: Worker


@message
class StopOverdue:
    """This worker was asked to end some time ago."""

    worker: Worker


@message
class ProgressOverdue:
    """This worker may have stalled, unless an earlier look was planned, and taken."""

    worker: Worker
    planned: float


@message
class SpareLookDue:
    """It may be time to start, or to give up, the spare worker of this environment."""

    environment: Environment


@message
class SurplusLookDue:
    """Some idle workers may have been idle for long."""


@message
class WorkerAged:
    """This worker has lived for as long as one may."""

    worker: Worker


@message
class PauseEnded:
    """Workers of some environment may be started again."""


@message
class PermitsDue:
    """This limiter allows more starts again."""

    limiter: StartLimiter


@message
class StarvationLookDue:
    """Something may have waited for long."""


@message
class PatienceEnded:
    """Calls may have waited too long for this restart of an actor."""

    actor: SupervisedActor
    restart: int  # which one
    since: float  # when it began


@message
class DrainEnded:
    """What may finish on its own has had its time."""


@message
class ShutdownGraceEnded:
    """What the shutdown has interrupted has had its time."""


Fact = (
    CreationWaits
    | CreationFailed
    | BackoffEnded
    | GraceEnded
    | AlarmDue
    | OverrunGraceEnded
    | InterruptUnanswered
    | StopOverdue
    | ProgressOverdue
    | SpareLookDue
    | SurplusLookDue
    | WorkerAged
    | PauseEnded
    | PermitsDue
    | StarvationLookDue
    | PatienceEnded
    | DrainEnded
    | ShutdownGraceEnded
)
