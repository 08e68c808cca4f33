"""How a failed task is told: from the core's record to the exception that `get` raises.

Room: engine. Builds exceptions, decides nothing.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...client.entry import StoredFailure
from ...core.outcomes import Failure, FailureKind
from ...exceptions import (
    AttemptInfo,
    EngineShutdownError,
    ObjectReconstructionFailedError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
    WorkerStartupError,
)
from ...shared import ids
from ...shared.failures import dependency_error, rebuild
from .actor_reports import ActorEnd, Late, Stuck
from .reports import NODE_IP, DeathReport, StartReport, describe, error_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...core.outcomes import AttemptRecord
    from .reports import WorkerName

__all__ = ["exception_builder", "unreconstructable"]

_UNRECONSTRUCTABLE = {
    "MAX_ATTEMPTS_EXCEEDED": "Its task has used up max_retries, which counts lost results too.",
    "RETRIES_DISABLED": "Its task has max_retries=0, which forbids to run it again.",
    "TASK_CANCELLED": "Its task was cancelled, and is not run again.",
    "LINEAGE_EVICTED": "The arguments of its task were given up, because there was no room for "
    "them in memory, or in RAY_max_lineage_bytes.",
    "PUT": "It was made by put(), so no task can compute it again.",
    "REF_NOT_FOUND": "The last ref to it is gone, and with it what is known of its task.",
}
_NO_ACTOR = "f" * 24  # in the ids of tasks that are no actor's


def unreconstructable(object_id: str, reason: str) -> StoredFailure:
    """Return what stands for an object that is lost and must not, or cannot, be computed again."""
    return StoredFailure(functools.partial(_lost, object_id, reason))


def _lost(object_id: str, reason: str) -> ObjectReconstructionFailedError:
    return ObjectReconstructionFailedError(
        object_id,
        reason=f"OBJECT_UNRECONSTRUCTABLE_{reason}",
        reason_message=_UNRECONSTRUCTABLE[reason],
    )


def exception_builder(
    task: Task,
    failure: Failure,
    *,
    index: int,
    job: bytes,
    workers: Sequence[WorkerName | None],
    unix_offset: float,
) -> Callable[[], BaseException]:
    """Return a function that makes a new instance of the task's error at each call.

    index: of the return value in question, from 1.
    workers: the names of the workers of `failure.attempts`, in the same order.
    unix_offset: what turns monotonic seconds into Unix seconds.
    """
    attempts = tuple(
        _attempt_info(record, worker, unix_offset)
        for record, worker in zip(failure.attempts, workers, strict=True)
    )
    upstream = None if failure.upstream is None else failure.upstream.returns
    kind, detail = failure.kind, failure.detail
    if kind is FailureKind.LOST and isinstance(detail, StoredFailure):
        kind, upstream = FailureKind.DEPENDENCY, detail  # an argument that cannot be had again
    facts = _Facts(task.name, task.label, index, kind, detail, job, upstream)
    return _Builder(facts, attempts)


def _attempt_info(
    record: AttemptRecord, worker: WorkerName | None, unix_offset: float
) -> AttemptInfo:
    started = record.started_at
    return AttemptInfo(
        number=record.number,
        worker_id=None if worker is None else worker.hex_id,
        pid=None if worker is None else worker.pid,
        started_at=None if started is None else started + unix_offset,
        duration=record.duration,
        error_type=error_type(record.kind),
        ended=describe(record),
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an error is made of; holds no task, so that an old error keeps nothing alive."""

    name: str
    label: ids.Label
    index: int
    kind: FailureKind
    detail: Any
    job: bytes
    upstream: Any  # StoredFailure of the argument

    @property
    def task_id(self) -> str:
        return ids.task_id(self.job, self.label).hex()


class _Builder:
    """Makes a task's error anew at each call."""

    __slots__ = ("attempts", "facts")

    def __init__(self, facts: _Facts, attempts: tuple[AttemptInfo, ...]) -> None:
        self.facts = facts
        self.attempts = attempts

    def __call__(self) -> BaseException:
        # From the first cause on, one after the other: a chain of failed tasks may be long.
        chain = [self]
        while chain[-1].facts.kind is FailureKind.DEPENDENCY:
            upstream = chain[-1].facts.upstream.build
            if not isinstance(upstream, _Builder):
                break
            chain.append(upstream)
        first = chain[-1]
        if first.facts.kind is FailureKind.DEPENDENCY:
            error: BaseException = first.facts.upstream.exception()
        else:
            error = _build(first.facts, first.attempts)
            chain.pop()
        for each in reversed(chain):
            dependent = dependency_error(
                error, function_name=each.facts.name, pid=os.getpid(), ip=NODE_IP
            )
            dependent.attempts = each.attempts
            error = dependent.as_instanceof_cause()
        return error


def _build(facts: _Facts, attempts: tuple[AttemptInfo, ...]) -> BaseException:
    """Return the error of a task that has failed by itself."""
    detail = facts.detail
    error: RayError
    if facts.kind is FailureKind.LOST:
        task_id = ids.task_id(facts.job, facts.label)
        error = _lost(ids.object_id(task_id, facts.index).hex(), detail)
    elif facts.kind is FailureKind.SHUTDOWN:
        # Also for a task that the shutdown has interrupted: that was nobody's wish to cancel.
        error = EngineShutdownError(
            f"The session was shut down before task {facts.name} had finished."
        )
    elif isinstance(detail, ActorEnd):
        dead = facts.kind is FailureKind.ACTOR_DIED
        error = detail.error() if dead else detail.unavailable()  # type: ignore[assignment]
    elif isinstance(detail, (Stuck, Late)):
        error = detail.error()
    elif facts.kind is FailureKind.GROUP_REMOVED:
        error = TaskPlacementGroupRemoved()
    elif facts.kind is FailureKind.UNSCHEDULABLE:
        error = TaskUnschedulableError(detail)
    elif isinstance(detail, bytes) and detail:
        error = rebuild(detail, attempts)
    elif facts.kind is FailureKind.WORKER_DIED:
        error = _crash(facts, detail, attempts)
    elif facts.kind is FailureKind.CANCELLED:
        killed = bool(attempts) and attempts[-1].ended.startswith(f"{facts.kind.value}: ")
        message = f"Task {facts.name} was cancelled: its worker was killed." if killed else None
        actor_id = facts.task_id[16:]  # see `ids`
        if not killed and not actor_id.startswith(_NO_ACTOR):
            message = (
                f"The task {facts.task_id} is canceled from an actor {actor_id} before it executes."
            )
        error = TaskCancelledError(facts.task_id, message)
    elif facts.kind is FailureKind.TOO_MANY_BLOCKED:
        error = WorkerStartupError(
            f"No worker process was started for task {facts.name}: too many tasks wait for tasks "
            f"that they have submitted, each in a process of its own. A recursion without an end?",
            "",
        )
    elif facts.kind is FailureKind.ENVIRONMENT:
        error = _not_set_up(facts, detail)
    else:
        reason = detail.reason if isinstance(detail, StartReport) else detail.one_line()
        output = detail.output if isinstance(detail, StartReport) else detail.stderr_tail
        error = WorkerStartupError(
            f"No worker process could be started for task {facts.name}: {reason}", output
        )
    error.attempts = attempts
    return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error


def _not_set_up(facts: _Facts, report: StartReport) -> RuntimeEnvSetupError:
    lines = [f"Task {facts.name} has no worker. {report.reason}"]
    cause: BaseException | None = None
    if report.error:
        raised = rebuild(report.error)
        lines.append(str(raised))
        cause = raised.cause
    if report.output:
        lines += ["It wrote to stderr:", report.output]
    error = RuntimeEnvSetupError("\n".join(lines))
    error.__cause__ = cause
    return error


def _crash(
    facts: _Facts, report: DeathReport, attempts: tuple[AttemptInfo, ...]
) -> WorkerCrashedError:
    last = attempts[-1] if attempts else None
    message = report.template_death or None
    if report.discarded:
        message = f"The worker was killed while executing this task: {report.discarded}."
    return WorkerCrashedError(
        message,
        exit_code=report.exit_code,
        signal=report.signal_name,
        pid=report.worker.pid,
        worker_id=report.worker.hex_id,
        task_name=facts.name,
        task_id=facts.task_id,
        attempt=None if last is None else last.number,
        seconds=None if last is None else last.duration,
        oom_killed=report.oom_killed,
        stderr_tail=report.stderr_tail,
        python_stack=report.python_stack,
    )
