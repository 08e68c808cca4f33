"""How a worker, or an attempt, has ended, in a few words.

Room: engine. Builds texts, decides nothing. What a dead worker left behind is gathered in a
`DeathReport` while it can still be read.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from ...core.outcomes import FailureKind, Overrun
from ...core.records import record
from ...shared.failures import summary
from .memory_texts import excess_text

if TYPE_CHECKING:
    from ...core.outcomes import AttemptRecord, Excess

__all__ = [
    "NODE_IP",
    "DeathReport",
    "StartReport",
    "Whereabouts",
    "WorkerName",
    "describe",
    "error_type",
]

NODE_IP = "127.0.0.1"
_ERROR_TYPES = {
    FailureKind.APPLICATION: "TASK_EXECUTION_EXCEPTION",
    FailureKind.WORKER_DIED: "WORKER_DIED",
    FailureKind.CANCELLED: "TASK_CANCELLED",
    FailureKind.TIMEOUT: "TASK_TIMEOUT",
    FailureKind.CIRCUIT_OPEN: "CIRCUIT_OPEN",
    FailureKind.DEPENDENCY: "TASK_EXECUTION_EXCEPTION",
    FailureKind.WORKER_STARTUP: "WORKER_STARTUP_FAILED",
    FailureKind.TOO_MANY_BLOCKED: "WORKER_STARTUP_FAILED",
    FailureKind.ENVIRONMENT: "RUNTIME_ENV_SETUP_FAILED",
    FailureKind.GROUP_REMOVED: "TASK_PLACEMENT_GROUP_REMOVED",
    FailureKind.UNSCHEDULABLE: "TASK_UNSCHEDULABLE_ERROR",
    FailureKind.ACTOR_DIED: "ACTOR_DIED",
    FailureKind.ACTOR_UNAVAILABLE: "ACTOR_UNAVAILABLE",
    FailureKind.CIRCLE: "ACTOR_UNAVAILABLE",
    FailureKind.OVERDUE: "ACTOR_UNAVAILABLE",
    FailureKind.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    FailureKind.LOST: "OBJECT_LOST",
    FailureKind.SHUTDOWN: "LOCAL_RAYLET_DIED",
}


_OF_DEATH = (
    FailureKind.WORKER_DIED,
    FailureKind.OUT_OF_MEMORY,
    FailureKind.ACTOR_DIED,
    FailureKind.ACTOR_UNAVAILABLE,
)


@record(frozen=True, slots=True)
class WorkerName:
    """How a worker is called outside."""

    hex_id: str
    pid: int | None


@record(frozen=True, slots=True)
class Whereabouts:
    """Where an attempt was that took too long."""

    worker: WorkerName | None
    attempt: int
    python_stack: str = ""


@record(frozen=True, slots=True)
class StartReport:
    """Why a worker did not come up."""

    reason: str
    output: str = ""  # what the starting process printed
    error: bytes = b""  # the exception that ended its set-up, for `aioray.shared.failures.rebuild`


@record(frozen=True, slots=True)
class DeathReport:
    """What is known of a worker's end."""

    worker: WorkerName
    status: int | None  # as from waitpid; None: nobody could tell
    oom_killed: bool = False
    stderr_tail: str = ""
    python_stack: str = ""
    template_death: str = ""  # if it died because the template did
    discarded: str = ""  # why it was killed, if it could not be worked with
    excess: Excess | None = None  # why it was killed, if it had too much memory

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, or None if a signal has killed the worker."""
        if self.status is None or not os.WIFEXITED(self.status):
            return None
        return os.WEXITSTATUS(self.status)

    @property
    def signal_name(self) -> str | None:
        """Return the signal that has killed the worker, or None."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        number = os.WTERMSIG(self.status)
        try:
            return signal.Signals(number).name
        except ValueError:  # a real-time signal
            return f"signal {number}"

    def one_line(self) -> str:
        """Return how the worker ended, in a few words."""
        if self.discarded:
            return f"worker was killed: {self.discarded}"
        if self.excess is not None:
            return f"worker was killed: {excess_text(self.excess)}"
        if self.oom_killed:
            return "worker died: out of memory, killed by the kernel"
        if self.template_death:
            return "worker died with its template process"
        if self.signal_name is not None:
            return f"worker died of {self.signal_name}"
        if self.exit_code is not None:
            return f"worker exited with code {self.exit_code}"
        return "worker died, nobody knows how"


def describe(record: AttemptRecord) -> str:
    """Return how one attempt ended, in one line."""
    kind, detail = record.kind, record.detail
    if isinstance(detail, Overrun):
        return f"exceeded its {detail.option} of {detail.seconds:g} s"
    if isinstance(detail, bytes) and detail:
        if kind is FailureKind.APPLICATION:
            return f"raised {summary(detail)}"
        return "cancelled while it ran"
    if isinstance(detail, DeathReport):
        how = detail.one_line()
        return how if kind in _OF_DEATH else f"{kind.value}: {how}"
    return kind.value


def error_type(kind: FailureKind) -> str:
    """Return what Ray calls a failure of this kind."""
    return _ERROR_TYPES[kind]
