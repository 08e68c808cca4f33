"""The thread of a pool: starts chunks of items as tasks, and tells their jobs what came of them.

Room: services. A `Job` is one call of a pool's method. Its `PoolChunk`s wait in the
`PoolDispatcher` until one of the pool's places is free. The engine's thread only puts a note into
the inbox when a task is done; values are loaded, and callbacks called, in the dispatcher's own
thread.
"""

from __future__ import annotations

import collections
import queue
import threading
from functools import partial
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # not in typeshed
from typing import TYPE_CHECKING, Any

from aioray.api.objects import cancel, get
from aioray.api.session import client_for_call
from aioray.client.protocol import activate
from aioray.exceptions import RayTaskError, TaskCancelledError, is_control_flow
from aioray.shared.failures import rebuild
from aioray.shared.serializability import explain
from aioray.shared.serialization import Pieces, Private, dump, dumps
from aioray.util.multiprocessing.chunks import Failed, Packed, own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aioray.client.protocol import Client
    from aioray.client.refs import ObjectRef
    from aioray.util.multiprocessing.pool import Pool
    from aioray.util.multiprocessing.results import IMapIterator

__all__ = ["Job", "PoolChunk", "PoolDispatcher", "Raised", "dump_or_explain"]


class PoolChunk:
    """Some items of one call, which travel and run together."""

    __slots__ = ("index", "items", "job")

    def __init__(self, job: Job, index: int, items: list[Any]) -> None:
        self.job = job
        self.index = index  # from 0
        self.items = items


class Job:
    """One call of a pool's method: what its chunks have in common, and who hears of them."""

    def __init__(
        self, pool: Pool, function: Callable[..., Any], unpack: Callable[..., Any]
    ) -> None:
        self.pool = pool  # kept alive: it ends when nobody needs it
        data, self.held = dump_or_explain(function, "func")
        self.task = pool._task_for(function)
        # What all chunks carry, before and after their items.
        code = Packed(data) if isinstance(data, bytes) else data
        self.before = (pool._name, pool._prepared, pool._next_call(), code)
        self.unpack = unpack

    def arguments(self, chunk: PoolChunk) -> tuple[Any, ...]:
        """Return the arguments of the task that runs a chunk."""
        return (*self.before, own(chunk.items), self.unpack)

    def done(self, index: int, outcomes: list[Any]) -> None:
        """Take the outcomes of a chunk. Called in the dispatcher's thread."""
        raise NotImplementedError

    def failed(self, chunk: PoolChunk, error: Exception) -> None:
        """Take the error of a chunk that has no outcomes. Called in the dispatcher's thread."""
        raise NotImplementedError


class Raised:
    """An error in the place of a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def dump_or_explain(value: Any, name: str) -> tuple[Any, Any]:
    """Return the bytes of `value`, or the ref to them if many, and what to keep meanwhile.

    Raises TypeError if it cannot be serialized.
    """
    try:
        data, refs = dump(Private(value))
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(value, name, dumps)
        raise TypeError(f"Could not serialize {name} for the pool:\n{report}") from error
    if isinstance(data, Pieces):
        return client_for_call().put(data.join()), refs
    return data, refs


def plain(error: Exception) -> Exception:
    """Return the user's own exception, with the traceback of the worker as its cause.

    The error as it is where that would end an iteration of the reader's.
    """
    cause = error.cause if isinstance(error, RayTaskError) else None
    if not isinstance(error, RayTaskError) or not isinstance(cause, Exception):
        return error
    if is_control_flow(cause):
        return error
    cause.__cause__ = RemoteTraceback(f'\n"""\n{error.traceback_str}\n"""')
    return cause


class PoolDispatcher:
    """Submits chunks, at most `width` at once, and tells their jobs what became of them.

    It knows no pool, so that a pool nobody holds any more can end it.
    """

    def __init__(self, client: Client, width: int) -> None:
        self.client = client
        self.width = width
        self.closing = False
        self._aborted = False
        self._ended = False
        self._end = threading.Lock()  # nothing is submitted to a thread that has ended
        self.feeding: set[IMapIterator[Any]] = set()  # that have not handed out all items
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: collections.deque[PoolChunk] = collections.deque()
        self._running: dict[PoolChunk, ObjectRef[list[Any]]] = {}
        self.thread = threading.Thread(target=self._run, name="aioray-pool", daemon=True)
        self.thread.start()

    # -- from any thread

    def submit(self, chunks: Iterable[PoolChunk]) -> None:
        """Run chunks after those that wait already."""
        with self._end:
            if not self._ended:
                self._inbox.put(partial(self._waiting.extend, chunks))
                return
        _fail(chunks)

    def fed(self, iterator: IMapIterator[Any]) -> None:
        """Note that an iterator has nothing more to hand out, or to wait for."""
        self.feeding.discard(iterator)
        self._inbox.put(_look_again)

    def close(self) -> None:
        """End the thread once everything is done."""
        self.closing = True
        self._inbox.put(_look_again)

    def abort(self) -> None:
        """End the thread soon: what waits fails, and what runs is killed."""
        self._inbox.put(self._abort)

    # -- in the thread

    def _run(self) -> None:
        with activate(self.client):
            while not self._is_over():
                self._inbox.get()()
                self._fill()
                if self._aborted:
                    self._give_up()

    def _is_over(self) -> bool:
        with self._end:
            if self.closing and not self.feeding and self._inbox.empty():
                self._ended = not self._waiting and not self._running
            return self._ended

    def _fill(self) -> None:
        while not self._aborted and self._waiting and len(self._running) < self.width:
            chunk = self._waiting.popleft()
            try:
                ref = chunk.job.task.remote(*chunk.job.arguments(chunk))
            except Exception as error:  # noqa: BLE001 - items of the user's, or an engine that ended
                chunk.job.failed(chunk, error)
                continue
            self._running[chunk] = ref
            entry = ref.entry
            entry.owner().when_ready(entry, partial(self._inbox.put, partial(self._finish, chunk)))

    def _finish(self, chunk: PoolChunk) -> None:
        ref = self._running.pop(chunk)
        self._fill()  # before callbacks, which take their time
        try:
            outcomes = get(ref)
        except Exception as error:  # noqa: BLE001 - the task's
            chunk.job.failed(chunk, plain(error))
        else:
            if outcomes and type(outcomes[-1]) is Failed:  # an error ends the chunk
                outcomes[-1] = Raised(plain(rebuild(outcomes[-1].data)))
            chunk.job.done(chunk.index, outcomes)

    def _abort(self) -> None:
        if not self._aborted:
            self.closing = self._aborted = True
            for ref in self._running.values():
                cancel(ref, force=True)

    def _give_up(self) -> None:
        for iterator in list(self.feeding):
            iterator.stop()
            self.feeding.discard(iterator)
        waiting = list(self._waiting)
        self._waiting.clear()
        _fail(waiting)


def _fail(chunks: Iterable[PoolChunk]) -> None:
    for chunk in chunks:
        chunk.job.failed(chunk, TaskCancelledError(None, "The pool was terminated."))


def _look_again() -> None:
    """Do nothing, in the thread, which then looks whether it is over."""
