"""How a failed task is told: from the core's record to the exception that `get` raises.

Room: engine. Builds exceptions, decides nothing.
"""

from __future__ import annotations

import functools
import os
import textwrap
from typing import TYPE_CHECKING, Any

from ...client.entry import StoredFailure
from ...core.outcomes import Failure, FailureKind, OpenCircuit, Overrun
from ...core.records import record
from ...exceptions import (
    AttemptInfo,
    CircuitOpenError,
    EngineShutdownError,
    ObjectReconstructionFailedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskTimeoutError,
    TaskUnschedulableError,
    WorkerCrashedError,
    WorkerStartupError,
)
from ...shared import ids
from ...shared.failures import dependency_error, rebuild
from .actor_reports import ActorEnd, Late, Stuck
from .memory_texts import advice_on, excess_text
from .reports import NODE_IP, DeathReport, StartReport, Whereabouts, describe, error_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...core.outcomes import AttemptRecord
    from .reports import WorkerName

__all__ = ["Refusal", "exception_builder", "refusal", "timed_out", "unreconstructable"]

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
    failed = _FailedTask(task.name, task.task_key, index, kind, detail, job, upstream)
    return _Builder(failed, attempts)


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


@record(frozen=True, slots=True)
class _FailedTask:
    """What an error is made of; holds no task, so that an old error keeps nothing alive."""

    name: str
    task_key: ids.TaskKey
    index: int
    kind: FailureKind
    detail: Any
    job: bytes
    upstream: Any  # StoredFailure of the argument

    @property
    def task_id(self) -> str:
        return ids.task_id(self.job, self.task_key).hex()


class _Builder:
    """Makes a task's error anew at each call."""

    __slots__ = ("attempts", "failed")

    def __init__(self, failed: _FailedTask, attempts: tuple[AttemptInfo, ...]) -> None:
        self.failed = failed
        self.attempts = attempts

    def __call__(self) -> BaseException:
        # From the first cause on, one after the other: a chain of failed tasks may be long.
        chain = [self]
        while chain[-1].failed.kind is FailureKind.DEPENDENCY:
            upstream = chain[-1].failed.upstream.build
            if not isinstance(upstream, _Builder):
                break
            chain.append(upstream)
        first = chain[-1]
        if first.failed.kind is FailureKind.DEPENDENCY:
            error: BaseException = first.failed.upstream.exception()
        else:
            error = _build(first.failed, first.attempts)
            chain.pop()
        for each in reversed(chain):
            dependent = dependency_error(
                error, function_name=each.failed.name, pid=os.getpid(), ip=NODE_IP
            )
            dependent.attempts = each.attempts
            error = dependent.as_instanceof_cause()
        return error


def _build(failed: _FailedTask, attempts: tuple[AttemptInfo, ...]) -> BaseException:
    """Return the error of a task that has failed by itself."""
    detail = failed.detail
    error: RayError
    if failed.kind is FailureKind.LOST:
        task_id = ids.task_id(failed.job, failed.task_key)
        error = _lost(ids.object_id(task_id, failed.index).hex(), detail)
    elif failed.kind is FailureKind.SHUTDOWN:
        # Also for a task that the shutdown has interrupted: that was nobody's wish to cancel.
        error = EngineShutdownError(
            f"The session was shut down before task {failed.name} had finished."
        )
    elif isinstance(detail, ActorEnd):
        dead = failed.kind is FailureKind.ACTOR_DIED
        error = detail.error() if dead else detail.unavailable()  # type: ignore[assignment]
    elif isinstance(detail, Refusal):
        error = CircuitOpenError(
            detail.name,
            detail.deaths,
            names=detail.names,
            task_name=failed.name,
            task_id=failed.task_id,
            period=detail.period,
            retry_after=detail.rest,
        )
    elif isinstance(detail, Overrun):
        error = timed_out(failed.name, failed.task_id, detail)
    elif isinstance(detail, (Stuck, Late)):
        error = detail.error()
    elif failed.kind is FailureKind.GROUP_REMOVED:
        error = TaskPlacementGroupRemoved()
    elif failed.kind is FailureKind.UNSCHEDULABLE:
        error = TaskUnschedulableError(detail)
    elif isinstance(detail, bytes) and detail:
        error = rebuild(detail, attempts)
    elif failed.kind is FailureKind.OUT_OF_MEMORY:
        error = _out_of_memory(failed, detail, attempts)
    elif failed.kind is FailureKind.WORKER_DIED:
        error = _crash(failed, detail, attempts)
    elif failed.kind is FailureKind.CANCELLED:
        killed = bool(attempts) and attempts[-1].ended.startswith(f"{failed.kind.value}: ")
        message = f"Task {failed.name} was cancelled: its worker was killed." if killed else None
        actor_id = failed.task_id[16:]  # see `ids`
        if not killed and not actor_id.startswith(_NO_ACTOR):
            before = f"from an actor {actor_id} before it executes."
            message = f"The task {failed.task_id} is canceled {before}"
        error = TaskCancelledError(failed.task_id, message)
    elif failed.kind is FailureKind.TOO_MANY_BLOCKED:
        error = WorkerStartupError(
            f"No worker process was started for task {failed.name}: too many tasks wait for tasks "
            f"that they have submitted, each in a process of its own. A recursion without an end?",
            "",
        )
    elif failed.kind is FailureKind.ENVIRONMENT:
        error = _not_set_up(failed, detail)
    else:
        reason = detail.reason if isinstance(detail, StartReport) else detail.one_line()
        output = detail.output if isinstance(detail, StartReport) else detail.stderr_tail
        error = WorkerStartupError(
            f"No worker process could be started for task {failed.name}: {reason}", output
        )
    error.attempts = attempts
    return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error


def timed_out(name: str, task_id: str, overrun: Overrun) -> TaskTimeoutError:
    """Return the error of a task, or of an attempt of it, that took too long."""
    report: Whereabouts | None = overrun.report
    stack = "" if report is None else report.python_stack
    if not stack and overrun.payload:  # a coroutine is in no stack while it waits
        traced = rebuild(overrun.payload).traceback_str.partition("\nKeyboardInterrupt")[0]
        stack = textwrap.dedent(traced.partition("\n")[2])  # without a head that says which task
    worker = None if report is None else report.worker
    return TaskTimeoutError(
        overrun.option,
        overrun.seconds,
        task_name=name,
        task_id=task_id,
        attempt=None if report is None else report.attempt,
        pid=None if worker is None else worker.pid,
        worker_id=None if worker is None else worker.hex_id,
        after=overrun.after,
        python_stack=stack,
    )


@record(frozen=True, slots=True)
class Refusal:
    """Why a breaker lets nothing through, in words that leave the engine."""

    name: str
    names: tuple[str, ...]  # of the tasks of `deaths`
    deaths: tuple[AttemptInfo, ...]
    period: float
    rest: float


def refusal(
    circuit: OpenCircuit, name_of: Callable[[int], WorkerName | None], unix_offset: float
) -> Refusal:
    """Return what is told of an open circuit. name_of: see `DriverClient`."""
    deaths = tuple(
        _attempt_info(
            record, None if record.worker_id is None else name_of(record.worker_id), unix_offset
        )
        for _, record in circuit.deaths
    )
    names = tuple(name for name, _ in circuit.deaths)
    return Refusal(circuit.name, names, deaths, circuit.period, circuit.rest)


def _not_set_up(failed: _FailedTask, report: StartReport) -> RuntimeEnvSetupError:
    lines = [f"Task {failed.name} has no worker. {report.reason}"]
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
    failed: _FailedTask, report: DeathReport, attempts: tuple[AttemptInfo, ...]
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
        task_name=failed.name,
        task_id=failed.task_id,
        attempt=None if last is None else last.number,
        seconds=None if last is None else last.duration,
        oom_killed=report.oom_killed,
        stderr_tail=report.stderr_tail,
        python_stack=report.python_stack,
    )


def _out_of_memory(
    failed: _FailedTask, report: DeathReport, attempts: tuple[AttemptInfo, ...]
) -> OutOfMemoryError:
    last, excess = attempts[-1] if attempts else None, report.excess
    assert excess is not None
    shortage = excess.shortage
    return OutOfMemoryError(
        f"The worker was killed while executing this task: {excess_text(excess)}.",
        advice_on(excess),
        peak=excess.used,
        limit=excess.limit,
        machine_used=None if shortage is None else shortage.used,
        machine_total=None if shortage is None else shortage.total,
        pid=report.worker.pid,
        worker_id=report.worker.hex_id,
        task_name=failed.name,
        task_id=failed.task_id,
        attempt=None if last is None else last.number,
        seconds=None if last is None else last.duration,
    )
