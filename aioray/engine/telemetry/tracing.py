"""Spans of tasks, for OpenTelemetry: one for each, from the call to the outcome.

Room: engine; loaded when tracing is turned on, and then told by `submission` of each task, and by
`engine` of each outcome before anybody else can know it. A span begins in the caller's context. The
name under which workers know it travels in the attempts' message, so that what is done there has it
as its parent. Spans end on the engine's thread: a processor that exports at once, instead of in a
thread of its own like BatchSpanProcessor, holds up the engine.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from ...core.outcomes import FailureKind
from ...exceptions import RayTaskError
from ...shared import ids
from ...shared.failures import summary
from .guard import log_instead_of_raising
from .reports import describe, error_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.trace import Span

    from ...client.entry import StoredFailure
    from ...core.model import Task
    from ...core.outcomes import AttemptRecord, Failure
    from .reports import WorkerName

__all__ = ["Tracer"]

_log_instead_of_raising = log_instead_of_raising(
    logging.WARNING, "A span could not be made or ended."
)
"""A span that fails, by a processor or propagator of the user's, is no reason to fail."""


class Tracer:
    """The open spans of one engine. Its methods raise nothing."""

    def __init__(
        self,
        job: bytes,
        unix_offset: float,
        name_of: Callable[[int], WorkerName | None],
    ) -> None:
        """Begin with no spans. unix_offset: turns monotonic seconds into Unix seconds.

        name_of: what a worker is called outside.
        """
        self._job = job
        self._unix_offset = unix_offset
        self._name_of = name_of
        self._tracer = trace.get_tracer("aioray")
        self._spans: dict[int, Span] = {}  # by number of the task

    @_log_instead_of_raising
    def begin(self, task: Task) -> None:
        """Begin the span of a task that the driver calls now, in this thread and context."""
        self._begin(task, None)

    @_log_instead_of_raising
    def begin_for_worker(self, task: Task, surroundings: Iterable[tuple[str, str]]) -> None:
        """Begin the span of a task that a worker calls. surroundings: see `wire.Attempt.trace`."""
        self._begin(task, propagate.extract(dict(surroundings), Context()))

    def _begin(self, task: Task, context: Context | None) -> None:
        attributes = {
            "aioray.task_id": ids.task_id(self._job, task.task_key).hex(),
            "aioray.task_name": task.name,
            "aioray.function": task.function.name,
        }
        span = self._tracer.start_span(task.name, context, attributes=attributes)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span, context))
        task.spec = task.spec._replace(trace=tuple(carrier.items()))
        self._spans[task.number] = span

    @_log_instead_of_raising
    def finished(self, results: Sequence[tuple[Task, Any]]) -> None:
        """End the spans of tasks that have their values."""
        for task, _ in results:
            span = self._spans.pop(task.number, None)
            if span is not None:
                self._tell(span, task.failures or ())
                attributes = self._attributes(task.attempt, task.sent_to, task.seconds)
                span.set_attributes(attributes)
                span.add_event("attempt", attributes, self._unix_ns(task.started_at))
                span.end()

    @_log_instead_of_raising
    def failed(self, task: Task, failure: Failure, stored: StoredFailure) -> None:
        """End the span of a task that has failed. stored: makes its error."""
        span = self._spans.pop(task.number, None)
        if span is None:
            return
        self._tell(span, failure.attempts)
        if failure.kind is FailureKind.APPLICATION and failure.detail:
            kind, _, message = summary(failure.detail).partition(": ")
        else:
            error = stored.build()
            cause = error.cause if isinstance(error, RayTaskError) else error
            kind, message = type(cause).__name__, str(cause)
        span.add_event("exception", {"exception.type": kind, "exception.message": message})
        span.set_attribute("error.type", kind)
        span.set_status(trace.StatusCode.ERROR, f"{kind}: {message}" if message else kind)
        span.end()

    @_log_instead_of_raising
    def close(self) -> None:
        """End the open spans as failed: their tasks were not submitted before the engine ended."""
        while self._spans:
            _, span = self._spans.popitem()
            span.set_status(trace.StatusCode.ERROR, "the session was shut down")
            span.end()

    def _tell(self, span: Span, records: Iterable[AttemptRecord]) -> None:
        """Add attempts that have failed to a span."""
        for record in records:
            attributes = self._attributes(record.number, record.worker_id, record.duration)
            span.set_attributes(attributes)
            attributes["error.type"] = error_type(record.kind)
            attributes["aioray.ended"] = describe(record)
            span.add_event("attempt", attributes, self._unix_ns(record.started_at))

    def _attributes(
        self, number: int, worker_id: int | None, seconds: float | None
    ) -> dict[str, str | int | float]:
        """Return what is told of an attempt, and of the last one by the attributes of its span."""
        attributes: dict[str, str | int | float] = {"aioray.attempt": number}
        worker = None if worker_id is None else self._name_of(worker_id)
        if worker is not None and worker.pid is not None:
            attributes["aioray.worker_pid"] = worker.pid
        if seconds is not None:
            attributes["aioray.seconds"] = seconds
        return attributes

    def _unix_ns(self, monotonic: float | None) -> int:
        """Return the Unix time, in ns, of an attempt that began then; None, or 0: it never did."""
        return int((monotonic + self._unix_offset if monotonic else time.time()) * 1e9)
