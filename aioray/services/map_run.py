"""Carries out a map: sends chunks, reads what becomes of their items, makes errors of failures.

Room: services. What is decided is in `map_plan`. Nothing here waits, and there is no task, thread
or callback of its own: whoever iterates lends its thread, or its loop, see `maps`. So there is
nothing that could go on when nobody iterates any more.

Works on any client: in the driver, and in a task, whose items are then its children.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..client.entry import NotInMemory
from ..client.protocol import Call
from ..client.refs import ObjectRef
from ..exceptions import (
    AttemptInfo,
    CircuitOpenError,
    EngineShutdownError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    TaskTimeoutError,
    TaskUnschedulableError,
    WorkerCrashedError,
    WorkerStartupError,
)
from ..shared.chunks import PICKLES, RAISED, RAN, VALUES, Unloadable, values_of
from ..shared.failures import rebuild, summary
from ..shared.printable import printable
from ..shared.serialization import dump, load
from ..shared.wire import Status
from .map_plan import ChunkEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ..client.generators import ObjectRefGenerator
    from ..client.protocol import Client
    from ..shared.options import TaskOptions
    from .map_plan import FailedAttempt, FailedItem, MapPlan, Piece

__all__ = ["LATEST_BEGIN", "MapRun"]

TELL_SECONDS = 0.25  # between two notes in the history
LONGEST_TEXT = 1000  # characters of an error there
LATEST_BEGIN = 0.02  # seconds after the begin of a chunk; what has not begun then is given back

logger = logging.getLogger("aioray")

_CRASHES = (WorkerCrashedError, OutOfMemoryError)
_OF_ALL = (  # what no other way to send the items would change
    CircuitOpenError,
    EngineShutdownError,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerStartupError,
)


class _Chunk:
    """A chunk that is with the engine."""

    __slots__ = ("end", "news")

    def __init__(self, news: ObjectRefGenerator[Any]) -> None:
        self.news = news
        self.end: ChunkEnd | None = None  # what its last news has said


class MapRun:
    """One map that is being iterated."""

    def __init__(
        self, client: Client, call: Call, name: str, options: TaskOptions, plan: MapPlan
    ) -> None:
        """Begin with no chunks.

        call: of an ItemFunction. name, options: of the user's function.
        """
        self.client = client
        self.plan = plan
        self.closed = False
        self.stopped = False  # nothing more is sent
        self.requests: list[Any] = []  # to cancel, when it was closed
        self.on_close: tuple[Callable[[], None], ...] = ()
        self.reading: list[Any] = []  # values that are being handed out
        self._call = call
        self._name = name
        self._options = options
        self._first = b""  # id of the task of the first chunk, by which the history knows the map
        self._told = 0.0  # when that was told how far it has come
        self._keys = itertools.count(1)
        self._chunks: dict[int, _Chunk] = {}
        self._is_driver = client.loop is not None

    # ------------------------------------------------------------ sending

    def send(self) -> None:
        """Send what is to be sent now. Raises EngineShutdownError and its like."""
        plan = self.plan
        now = time.monotonic()
        while not self.stopped and (piece := plan.next_piece(now)) is not None:
            self._send(piece, now)
        for each in plan.retried:
            left = "infinite" if each.retries_left < 0 else each.retries_left
            logger.warning(
                "Item %s of the map over %s failed. There are %s retries remaining, so it will be "
                "tried again%s. Error: %s",
                each.number,
                printable(self._name),
                left,
                f" in {each.delay:.3g} s" if each.delay else "",
                printable(_how_it_ended(each.failure)),
            )
        plan.retried.clear()

    def _send(self, piece: Piece, now: float) -> None:
        items, plan = piece.items, self.plan
        several = len(items) > 1
        packed: Any = None
        try:
            data, refs = dump(items)
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            if several:
                plan.refused(piece, None)
                return
        else:
            if several and refs and any(type(item) is ObjectRef for item in items):
                plan.refused(piece, None)  # one that is not ready must not hold up the others
                return
            if isinstance(data, bytes):
                plan.sizes.measured(len(items), len(data))
                if not refs:
                    packed = data
            else:
                plan.sizes.measured(len(items), data.size)
        arguments = (None, *items) if packed is None else (packed,)
        try:
            news = self.client.submit(self._call_of(piece, now), arguments, {})
        except (TypeError, ValueError) as error:
            plan.refused(piece, error)
            return
        key = next(self._keys)
        self._chunks[key] = _Chunk(news)
        plan.sent(key, piece, now)
        if not self._first:
            self._first = news._task
            self.tell()

    def _call_of(self, piece: Piece, now: float) -> Call:
        """Return the call to send a piece with: one that was sent before may have less time."""
        call, left = self._call, self.plan.time_left(piece, now)
        return call if left is None else Call(call.code, replace(call.options, deadline=left))

    # ------------------------------------------------------------ the history

    def tell(self, state: str = "RUNNING", error: BaseException | None = None) -> None:
        """Let the history know how far this has come, at most so often while it runs."""
        now = time.monotonic()
        if not self._first or (state == "RUNNING" and now - self._told < TELL_SECONDS):
            return
        self._told = now
        what: list[str] = []
        if state == "FAILED":
            cause = getattr(error, "cause", None)
            kind = "TASK_CANCELLED" if error is None else "TASK_EXECUTION_EXCEPTION"
            text = "It was closed before all its values were read."
            if error is not None:
                kind = "WORKER_DIED" if isinstance(error, _CRASHES) else kind
                text = f"{type(cause or error).__name__}: {cause or error}"
            what = [kind, text[:LONGEST_TEXT]]
        self.client.tell_of_map(self._first, state, self.plan.counts, what)

    # ------------------------------------------------------------ reading

    def signals(self) -> dict[int, ObjectRef[bool]]:
        """Return what to wait for: each is ready when there is more to read of its chunk."""
        return {key: chunk.news._next_signal() for key, chunk in self._chunks.items()}

    def look(self) -> Iterator[int]:
        """Yield the chunks of which there is more to read, if that can be told at once."""
        if self._is_driver:
            for key, chunk in tuple(self._chunks.items()):
                if chunk.news._next_signal().done():
                    yield key

    def read(self, key: int) -> Generator[ObjectRef[Any], None, None]:
        """Read what a chunk has told, whose signal is there; yield what has to be waited for."""
        plan, chunk = self.plan, self._chunks[key]
        news = chunk.news
        while not self.closed:
            signal = news._next_signal()
            if not signal.entry.in_memory:
                if not (self._is_driver and signal.done()):
                    return
                yield signal
            self.tell()
            ref = news._take(is_there=signal.entry.value())
            now = time.monotonic()
            if ref is None:
                del self._chunks[key]
                plan.ended(key, chunk.end, now)
                return
            try:
                told = yield from _value_of(ref)
            except Exception as error:  # noqa: BLE001 - of the task, whatever it is
                chunk.end = self._end_of(error)
                continue
            for each in map(load, told) if type(told) is list else (told,):
                self._take(key, each, now)

    def _end_of(self, error: Exception) -> ChunkEnd:
        """Say what the error of a chunk means for its items."""
        is_for_all = isinstance(error, _OF_ALL)
        if not isinstance(error, TaskTimeoutError):
            return ChunkEnd(isinstance(error, _CRASHES), not is_for_all, error)
        error = self._of_item(error)
        rule = self._options.retry_exceptions
        try:
            if isinstance(rule, bool):
                again = rule
            else:
                again = isinstance(error, rule) if isinstance(rule, tuple) else bool(rule(error))
        except Exception as broken:  # noqa: BLE001 - a predicate of the user's
            error.add_note(
                f"aioray: not retried, because retry_exceptions itself failed: {broken!r}"
            )
            again = False
        is_final = error.limit == "deadline"  # it is over for all items of the chunk
        return ChunkEnd(again and not is_final, not is_final, error)

    def _of_item(self, error: TaskTimeoutError) -> TaskTimeoutError:
        """Make the error of an item that exceeded a limit, which its chunk has more of."""
        seconds = getattr(self._options, error.limit, None)
        return TaskTimeoutError(
            error.limit,
            error.seconds if seconds is None else seconds,
            task_name=self._name,
            task_id=error.task_id,
            pid=error.pid,
            worker_id=error.worker_id,
            after=error.after,
            python_stack=error.python_stack,
        )

    def _take(self, key: int, news: tuple[Any, ...], now: float) -> None:
        """Take in what a chunk has told once."""
        plan = self.plan
        if news[0] != RAN:
            plan.told(key, news, now)
            return
        _, first, kind, count, data, seconds = news
        values = values_of(kind, count, data)
        if kind == PICKLES:
            for at, value in enumerate(values):
                if type(value) is Unloadable:
                    plan.told(key, (RAN, first, values[:at], seconds), now)
                    failed = (RAISED, first + at, Status.FORBADE_RETRY, value.error, 0.0, None, 0.0)
                    plan.told(key, failed, now)
                    values, first, seconds = values[at + 1 :], first + at + 1, 0.0
                    rest = (RAN, first, VALUES, len(values), values, 0.0)
                    self._take(key, rest, now)
                    return
        plan.told(key, (RAN, first, values, seconds), now)

    # ------------------------------------------------------------ ending

    def stop(self) -> None:
        """Send nothing more, and kill what is in flight: who waits for news gets some."""
        self.stopped = True
        self._cancel(tuple(self._chunks.values()), force=True)

    def _cancel(self, chunks: Iterable[_Chunk], *, force: bool) -> None:
        for chunk in chunks:
            with contextlib.suppress(RuntimeError, RayError):  # the engine ends just now
                entry = chunk.news._completed.entry
                request = self.client.cancel(entry, force=force, recursive=True, grace=None)
                self.requests.append(request)

    def close(self) -> None:
        """Cancel what is in flight, and forget the rest."""
        if self.closed:
            return
        self.closed = True
        if not self.client.closed:
            with contextlib.suppress(RuntimeError, RayError):  # the engine ends just now
                error = sys.exc_info()[1]
                if isinstance(error, GeneratorExit):
                    error = None
                self.tell("FINISHED" if self.plan.finished else "FAILED", error)
        self.plan.forget()
        self.reading.clear()
        chunks, self._chunks = self._chunks, {}
        for stop in self.on_close:
            stop()
        if self.client.closed:
            return
        self._cancel(chunks.values(), force=False)

    def error(self, failed: FailedItem) -> BaseException:
        """Make the error of an item that has failed for good."""
        offset = time.time() - time.monotonic()
        attempts = tuple(_attempt_info(each, offset) for each in failed.failures)
        detail = failed.failures[-1].detail
        if isinstance(detail, BaseException):
            if isinstance(detail, RayError):
                detail.attempts = attempts
            if isinstance(detail, (WorkerCrashedError, TaskTimeoutError)):
                detail.attempt = failed.failures[-1].number
            return detail
        _, payload = detail
        if isinstance(payload, BaseException):  # the value could not be loaded here
            return payload
        error: RayTaskError = rebuild(payload, attempts)
        return error.as_instanceof_cause()


def _value_of(ref: ObjectRef[Any]) -> Generator[ObjectRef[Any], None, Any]:
    """Return the value of a ref; yield it first as often as it has to be waited for."""
    while True:
        try:
            return ref.entry.value()
        except NotInMemory:
            yield ref


def _attempt_info(failure: FailedAttempt, unix_offset: float) -> AttemptInfo:
    """Tell of an attempt as the errors of tasks do."""
    detail, started = failure.detail, failure.started
    crash = detail if isinstance(detail, (WorkerCrashedError, TaskTimeoutError)) else None
    kind = "TASK_EXECUTION_EXCEPTION"
    if isinstance(detail, _CRASHES):
        kind = "OUT_OF_MEMORY" if isinstance(detail, OutOfMemoryError) else "WORKER_DIED"
    elif isinstance(detail, TaskTimeoutError):
        kind = "TASK_TIMEOUT"
    return AttemptInfo(
        failure.number,
        None if crash is None else crash.worker_id,
        None if crash is None else crash.pid,
        None if started is None else started + unix_offset,
        failure.seconds,
        kind,
        _how_it_ended(failure),
    )


def _how_it_ended(failure: FailedAttempt) -> str:
    """Tell in one line how an attempt has failed."""
    detail = failure.detail
    if not isinstance(detail, BaseException) and isinstance(detail[1], BaseException):
        detail = detail[1]
    if not isinstance(detail, BaseException):
        return f"raised {summary(detail[1])}"
    if isinstance(detail, WorkerCrashedError):
        if detail.signal is not None:
            return f"worker died of {detail.signal}"
        if detail.exit_code is not None:
            return f"worker exited with code {detail.exit_code}"
    return str(detail).partition("\n")[0]
