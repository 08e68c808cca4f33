"""What the core's orders that concern results and reports mean: outcomes of refs, and log lines.

Room: engine. A `Resolver` gives the refs of a task that has ended their values or its error, tells
the history and the spans of it, and logs what somebody has to know: retries, what can run nowhere,
what starves. On the engine's thread.
"""

from __future__ import annotations

import functools
import logging
import marshal
import pickle
import weakref
from typing import TYPE_CHECKING, Any

from ..client.entry import ObjectEntry, StoredFailure
from ..client.generators import DynamicObjectRefGenerator
from ..client.refs import ObjectRef
from ..core.commands import (
    ReportActor,
    ReportBreaker,
    ReportInfeasible,
    ReportOrphans,
    ReportRetry,
    ReportStarved,
    ResolveFailure,
    ResolveValues,
    Revive,
)
from ..core.events import ResultLost, ResultWanted
from ..core.outcomes import (
    ActorDeath,
    AttemptRecord,
    AttemptTimes,
    Circle,
    Failure,
    FailureKind,
    OpenCircuit,
    Overdue,
)
from ..core.records import replace
from ..core.states import BreakerStatus
from ..exceptions import RaySystemError
from ..shared.printable import printable
from ..shared.serialization import dump, load
from .objects.entries import no_value
from .objects.lineage import entries_of
from .objects.stored import Stored
from .tasks.actors import WISHED, ActorRecord
from .tasks.owned import OwnedTask
from .telemetry.errors import exception_builder, refusal
from .telemetry.questions import in_whole_units
from .telemetry.reports import describe
from .telemetry.shortages import infeasible, starved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.events import Event
    from ..core.model import Task
    from .client import DriverClient
    from .objects.objects import ObjectTable
    from .objects.streams import Stream
    from .requests.dispatcher import Requests

__all__ = ["Resolver"]

logger = logging.getLogger("aioray")

NONE = pickle.dumps(None, 5)


class Resolver:
    """Gives what one engine's tasks have come to to those who wait for it, or want to know."""

    def __init__(
        self,
        client: DriverClient,
        feed: Callable[[Event], None],
        objects: ObjectTable,
        requests: Requests,
        capacity: Sequence[tuple[str, int]],
    ) -> None:
        """Resolve refs of `client`.

        feed: takes what the core is to know. requests: those of tasks. capacity: what a task can
        ask for at most, by resource.
        """
        self._client = client
        self._store = client.entries.store
        self._feed = feed
        self._objects = objects
        self._requests = requests
        self._capacity = capacity
        self.orders: dict[type[Any], Callable[[Any], None]] = {
            ResolveValues: self._do_resolve_values,
            ResolveFailure: self._do_resolve_failure,
            Revive: self._do_revive,
            ReportRetry: self._do_report_retry,
            ReportOrphans: self._do_report_orphans,
            ReportActor: self._do_report_actor,
            ReportBreaker: self._do_report_breaker,
            ReportInfeasible: self._do_report_infeasible,
            ReportStarved: self._do_report_starved,
        }

    def _do_report_actor(self, command: ReportActor) -> None:
        """Let handles, and the history, know that the state of an actor has changed."""
        self._client.actors.changed(command.actor)
        if self._client.recorder is not None:
            self._client.recorder.actor_changed(command.actor)

    def _do_report_breaker(self, command: ReportBreaker) -> None:
        """Tell that a breaker has opened, or lets everything through again."""
        state, circuit = command.state, command.circuit
        if state is BreakerStatus.OPEN:
            died = ", ".join(f"{name} ({describe(record)})" for name, record in circuit.deaths)
            self._warn(
                f"The breaker {printable(circuit.name)} is open: workers died of "
                f"{printable(died)}. Calls raise CircuitOpenError, until one is let through in "
                f"{circuit.rest:g} s."
            )
        elif state is BreakerStatus.CLOSED:
            self._warn(f"The breaker {printable(circuit.name)} is closed again: a worker survived.")

    def _do_resolve_values(self, command: ResolveValues) -> None:
        """Give the refs of tasks that have returned their values."""
        results = command.results
        short = {task for task, _ in results if task.stream is not None and task.stream.is_short}
        good = [each for each in results if each[0] not in short] if short else results
        watchers = [
            each
            for each in (self._client.recorder, self._client.submission.tracer)
            if each is not None
        ]
        for watcher in watchers:
            watcher.finished(good)
        for task, payload in results:
            if task.actor is not None:
                known: ActorRecord = task.actor.payload
                known.repr_name = _text(payload)
                continue  # it lives, and nobody waits for a value of that
            if type(payload) is bytes and isinstance(task.returns, ObjectEntry):
                self._store(task.returns, payload)
                task.returns = task.payload = task.arguments = task.held = None
                continue
            if task.stream is not None:
                failure = self._finish_stream(task, payload)
                if failure is not None:
                    for watcher in watchers:
                        watcher.failed(task, _too_short(task), failure)
                continue
            if isinstance(task.returns, ObjectEntry):
                self._store(task.returns, payload)
                recoverable = type(payload) is Stored
                if recoverable and type(task) is OwnedTask:
                    task = self._part(task)  # noqa: PLW2901
                self._objects.finished(task, recoverable=recoverable)
            else:
                self._store_values(task, payload)

    def _part(self, task: OwnedTask) -> Task:
        """Take a task that has ended apart from the value that may be lost."""
        recipe = task.part()
        self._client.submission.sites.note_again(task, recipe)
        return recipe

    def _store_values(self, task: Task, payload: Any) -> None:
        """Give each entry of a task its value. One that a task has submitted may have none left."""
        returns = task.returns
        values = payload
        if type(payload) is bytes:
            values = _split(payload) if len(returns) > 1 else [payload][: len(returns)]
        elif type(payload) is Stored:
            values = [payload]
        if len(values) != len(returns):
            error = ValueError(f"{len(values)} values instead of {len(returns)}")
            values = [StoredFailure(functools.partial(no_value, error))] * len(returns)
        # Those that a task has submitted are held by whoever wants them, if anybody does.
        entries = [ref() for ref in returns] if type(returns) is tuple else returns
        recoverable = False
        for entry, value in zip(entries, values, strict=True):
            if entry is not None:
                self._store(entry, value)
                # Of the entry, not of the payload: another run may have had a smaller result.
                recoverable |= type(entry.outcome) is Stored
        self._objects.finished(task, recoverable=recoverable)

    def _finish_stream(self, task: Task, payload: bytes | Stored) -> StoredFailure | None:
        """End the stream of a generator task, whose items have come before; return its error."""
        stream: Stream = task.stream
        failure = stream.finish()
        completed, *_ = task.returns
        if not isinstance(completed, ObjectEntry):
            completed = completed()
        if completed is not None:
            self._store(completed, payload if failure is None else failure)
        items = [entry for entry in (completed, *stream.items.values()) if entry is not None]
        recoverable = any(type(entry.outcome) is Stored for entry in items)
        task.returns = tuple(map(weakref.ref, items))
        lost = [entry for entry in items if entry.missing]  # while the task went on to others
        self._objects.finished(task, recoverable=recoverable or bool(lost))
        if lost:
            self._feed(ResultLost(task))
        if any(entry.waiters for entry in lost):
            self._feed(ResultWanted(task))
        return failure

    def _do_revive(self, command: Revive) -> None:
        """Make a finished task ready to run again, because a value of it was lost."""
        self._objects.revive(command.task)

    def _do_resolve_failure(self, command: ResolveFailure) -> None:
        """Give the refs of a task that has failed for good their error."""
        task, failure = command.task, command.failure
        death = failure.detail if isinstance(failure.detail, ActorDeath) else None
        if isinstance(failure.detail, (ActorDeath, Circle, Overdue)):
            failure = replace(failure, detail=self._client.actors.report_of(failure.detail))
        if isinstance(failure.detail, OpenCircuit):
            told = refusal(failure.detail, self._client.name_of, self._client.unix_offset)
            failure = replace(failure, detail=told)
        names = [
            None if record.worker_id is None else self._client.name_of(record.worker_id)
            for record in failure.attempts
        ]
        entries = [] if task.actor is not None else entries_of(task, self._client)
        stored = StoredFailure(
            exception_builder(
                task,
                failure,
                index=next((entry.index for entry in entries if entry.outcome is None), 1),
                job=self._client.job,
                workers=names,
                unix_offset=self._client.unix_offset,
            )
        )
        if self._client.recorder is not None:
            self._client.recorder.failed(task, failure, stored)
        if self._client.submission.tracer is not None:
            self._client.submission.tracer.failed(task, failure, stored)
        if task.actor is not None:
            stored.seen = True  # its calls will tell
            return
        # A cancel, a removal or a shutdown is somebody's wish: no log line has to tell of it.
        stored.seen = failure.kind in (
            FailureKind.CANCELLED,
            FailureKind.GROUP_REMOVED,
            FailureKind.SHUTDOWN,
        )
        if death is not None:
            stored.seen = death.cause in WISHED
        if failure.upstream is not None:
            failure.upstream.returns.seen = True  # it lives on in this one
        if task.stream is not None:
            raised = failure.kind is FailureKind.APPLICATION
            items = task.stream.fail(stored, raised=raised)
            if items:
                self._store(entries[0], _dynamic(items))
            elif raised and not task.stream.dynamic:
                self._store(entries[0], NONE)  # the error is the last item's
        self._store_failure(task, entries, stored)

    def _store_failure(self, task: Task, entries: list[ObjectEntry], stored: StoredFailure) -> None:
        """Give the entries of a task, and those who will ask for it, its error."""
        task.returns = stored  # dependents submitted later build upon it
        task.drop_arguments()
        task.failures = None
        for entry in entries:
            self._store(entry, stored)

    def _do_report_retry(self, command: ReportRetry) -> None:
        """Tell of a failure that a retry follows; the backoff coroutine waits for its time."""
        if self._client.recorder is not None:
            self._client.recorder.retried(command.task, command.record)
        left = "infinite" if command.retries_left < 0 else command.retries_left
        after = f" in {command.delay:.3g} s" if command.delay else ""
        logger.warning(
            "Task %s failed. There are %s retries remaining, so the task will be retried%s. "
            "Error: %s",
            printable(command.task.name),
            left,
            after,
            printable(describe(command.record)),
        )

    def _do_report_orphans(self, command: ReportOrphans) -> None:
        """Cancel the tasks of an attempt that died, if nobody can get their values."""
        self._requests.cancel_orphans(command.tasks)

    def _do_report_infeasible(self, command: ReportInfeasible) -> None:
        """Warn of a task that asks for more than there is."""
        text = infeasible(
            command.task,
            in_whole_units(dict(command.task.scheduling_class.demand)),
            in_whole_units(dict(self._capacity)),
        )
        self._warn(text)

    def _do_report_starved(self, command: ReportStarved) -> None:
        """Warn of tasks that wait for long while others run."""
        self._warn(starved(command, self._client.groups.title))

    def _warn(self, text: str) -> None:
        """Log a warning, and note it in the history."""
        logger.warning("%s", text)
        if self._client.recorder is not None:
            self._client.recorder.event("WARNING", "TASK", text)

    def fail(self, task: Task, text: str) -> None:
        """Give a task that has no outcome this error: the engine itself has failed."""
        if task.actor is None and not isinstance(task.returns, StoredFailure | None):
            stored = StoredFailure(functools.partial(RaySystemError, text))
            self._store_failure(task, entries_of(task, self._client), stored)


def _split(payload: bytes) -> list[Any]:
    """Return the values of a task that has several, none if the payload is not made of them."""
    try:
        values = marshal.loads(payload)
    except (EOFError, TypeError, ValueError):
        return []
    return values if isinstance(values, list) else []


def _dynamic(items: Sequence[ObjectEntry]) -> bytes:
    """Build the value of a task with num_returns="dynamic" that has raised.

    The last item of it is the error.
    """
    value: DynamicObjectRefGenerator[Any] = DynamicObjectRefGenerator(
        [ObjectRef(entry) for entry in items]
    )
    data, _ = dump(value)
    assert isinstance(data, bytes)  # refs have no buffers
    return data


def _text(payload: Any) -> str:
    """Return the repr of an actor, as far as it is one."""
    try:
        return str(load(payload))
    except Exception:  # noqa: BLE001 - a worker may have written anything
        return ""


def _too_short(task: Task) -> Failure:
    """Say how a generator failed that yielded less than before; for the core it has not."""
    kind = FailureKind.APPLICATION
    record = AttemptRecord(
        task.attempt, task.sent_to, task.started_at, task.seconds, kind, None, AttemptTimes.of(task)
    )
    return Failure(kind, attempts=(record,))
