"""What the methods of a pool return: a result to come, or an iterator over results.

Room: api. Both are jobs of the pool's dispatcher, which tells them the outcomes of their chunks
in its own thread. An iterator keeps a bounded number of chunks ahead of whoever reads it, and reads
its own input in the reader's thread.
"""

from __future__ import annotations

import collections
import itertools
import logging
import threading
import time
from multiprocessing import TimeoutError  # noqa: A004 - what multiprocessing.Pool raises
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aioray.client.protocol import refuse_to_block
from aioray.util.multiprocessing.chunks import with_item
from aioray.util.multiprocessing.dispatch import Job, PoolChunk, Raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from aioray.util.multiprocessing.pool import Pool

__all__ = ["AsyncResult", "IMapIterator"]

T = TypeVar("T")
logger = logging.getLogger("aioray")

CHUNKS_AHEAD = 4  # per process, that an iterator keeps ahead of its reader


class AsyncResult(Job, Generic[T]):
    """The result of `apply_async`, `map_async` or `starmap_async`, once there is one.

    Source: Python, multiprocessing.pool.AsyncResult.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        unpack: Callable[..., Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        single: bool = False,
    ) -> None:
        super().__init__(pool, function, unpack)
        self._callback = callback
        self._error_callback = error_callback
        self._single = single
        self._parts: list[Any] = []
        self._missing = 0
        self._error: BaseException | None = None
        self._value: Any = None
        self._event = threading.Event()

    def start(self, items: list[Any], size: int) -> None:
        """Submit the items in chunks."""
        chunks = [
            PoolChunk(self, index, items[at : at + size])
            for index, at in enumerate(range(0, len(items), size))
        ]
        self._missing = len(chunks)
        self._parts = [()] * len(chunks)
        if chunks:
            self.pool._submit(chunks)
        else:
            self._value = []
            self._event.set()

    def done(self, index: int, outcomes: list[Any]) -> None:
        """Take the outcomes of a chunk."""
        self._parts[index] = outcomes
        if self._error is None and outcomes and type(outcomes[-1]) is Raised:
            self._error = outcomes[-1].error
        self._one_less()

    def failed(self, chunk: PoolChunk, error: Exception) -> None:
        """Take the error of a chunk that has no outcomes."""
        if self._error is None:
            self._error = error
        self._one_less()

    def _one_less(self) -> None:
        self._missing -= 1
        if self._missing:
            return
        try:
            if self._error is not None:
                if self._error_callback is not None:
                    self._error_callback(self._error)
            else:
                self._value = [value for part in self._parts for value in part]
                if self._single:
                    (self._value,) = self._value
                if self._callback is not None:
                    self._callback(self._value)
        except Exception:
            logger.exception("A callback of a multiprocessing.Pool has raised.")
        finally:
            self._parts.clear()
            self._event.set()

    def get(self, timeout: float | None = None) -> T:
        """Return the value, or raise the error of the call; of several the first that came.

        Raises multiprocessing.TimeoutError after `timeout` seconds; RuntimeError on the event loop
        that the engine runs on.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is a result, or `timeout` seconds have passed."""
        if not self._event.is_set():
            client = self.pool._dispatcher.client
            refuse_to_block(client, "AsyncResult.wait()", "a callback, or tasks that you can await")
            self._event.wait(timeout)

    def ready(self) -> bool:
        """Tell whether there is a result, or an error."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Tell whether the call has raised nothing. Raises ValueError if there is no result yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None


class IMapIterator(Job, Generic[T]):
    """What `imap` and `imap_unordered` return: yields results, with a bounded lead on its reader.

    An item's exception is raised at its place, and the iteration can go on after it.
    Source: Python, multiprocessing.pool.Pool.imap; that has no bound.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        items: Iterable[Any],
        size: int,
        *,
        ordered: bool,
    ) -> None:
        super().__init__(pool, function, with_item)
        self.one_by_one = True
        self._rest = iter(items)
        self._size = size
        self._ordered = ordered
        self._lead = CHUNKS_AHEAD * pool._processes  # chunks
        self._input = threading.Lock()  # held while the input is read
        self._state = threading.Condition()  # guards what follows
        self._handed_out = 0  # chunks
        self._taken = 0  # chunks that the reader has got
        self._exhausted = False
        self._ready: dict[int, list[Any]] = {}  # by index, in the order of their arrival
        self._current: collections.deque[Any] = collections.deque()

    def feed(self, lead: float) -> None:
        """Hand out chunks until so many are ahead of the reader."""
        with self._input:
            while not self._exhausted and self._handed_out - self._taken < lead:
                try:
                    items = list(itertools.islice(self._rest, self._size))
                except Exception as error:  # noqa: BLE001 - the user's iterator: raised at its place
                    items = []
                    with self._state:
                        self._ready[self._handed_out] = [Raised(error)]
                        self._handed_out += 1
                        self._state.notify_all()
                if items:
                    chunk = PoolChunk(self, self._handed_out, items)
                    with self._state:
                        self._handed_out += 1
                    self.pool._submit([chunk])
                else:
                    self._end_of_input()

    def _end_of_input(self) -> None:
        with self._state:
            self._exhausted = True
            self._state.notify_all()
        self.pool._dispatcher.fed(self)

    def done(self, index: int, outcomes: list[Any]) -> None:
        """Take the outcomes of a chunk."""
        with self._state:
            self._ready[index] = outcomes
            self._state.notify_all()

    def failed(self, chunk: PoolChunk, error: Exception) -> None:
        """Take the error of a chunk that has no outcomes: each of its items gets this error."""
        self.done(chunk.index, [Raised(error)] * len(chunk.items))

    def stop(self) -> None:
        """Hand out no more chunks."""
        with self._state:
            self._exhausted = True
            self._state.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result, or raise the error in its place.

        Raises StopIteration at the end; multiprocessing.TimeoutError after `timeout` seconds;
        RuntimeError on the event loop that the engine runs on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.feed(self._lead)
        with self._state:
            while not self._current:
                self._take_chunk(deadline)
            outcome: T | Raised = self._current.popleft()
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome

    def _take_chunk(self, deadline: float | None) -> None:
        """Move a chunk that is ready to the reader, or wait for news."""
        index: int | None = self._taken if self._ordered else next(iter(self._ready), None)
        if index in self._ready:
            self._current.extend(self._ready.pop(index))
            self._taken += 1
            return
        if self._exhausted and self._taken == self._handed_out:
            raise StopIteration
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        client = self.pool._dispatcher.client
        refuse_to_block(client, "An iterator of imap()", "tasks that you can await")
        self._state.wait(left)
