"""What the methods of a pool return: a result to come, or an iterator over results.

Room: services. A result to come is a job of the pool's dispatcher, which tells it the outcomes of
its chunks in its own thread. An iterator keeps a bounded number of items ahead of whoever reads it:
it is a map, see `services.maps`, that lives in the reader's thread.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from multiprocessing import TimeoutError  # noqa: A004 - what multiprocessing.Pool raises
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from aioray.client.protocol import refuse_to_block
from aioray.client.signatures import name_of
from aioray.exceptions import TaskCancelledError
from aioray.services.map_plan import MOST_ITEMS, FailedItem, MapPlan
from aioray.services.map_run import MapRun
from aioray.services.map_values import LOOK_SECONDS, ItemCode, retry_rules
from aioray.services.map_waiting import Input, poll, wait
from aioray.services.maps import mapped_call
from aioray.shared.serialization import private
from aioray.util.multiprocessing.chunks import PoolItem
from aioray.util.multiprocessing.dispatch import (
    Job,
    PoolChunk,
    Raised,
    dump_or_explain,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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


class IMapIterator(Generic[T]):
    """What `imap` and `imap_unordered` return: yields results, with a bounded lead on its reader.

    An item's exception is raised at its place, and the iteration can go on after it. The items
    travel as those of `aioray.map`: the quicker they are, the more go together.
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
        """Begin with no items; `feed` hands out the first. size: items in a chunk, at least."""
        self.pool = pool  # kept alive: it ends when nobody needs it
        data, self.held = dump_or_explain(function, "func")
        options = pool._options_for(function)
        name = options.name or name_of(function)
        item = PoolItem(pool._name, pool._prepared, data)
        code = ItemCode(item, name, star=False)
        mapped = mapped_call(code, name, options)
        plan = MapPlan(
            retry_rules(options),
            slots=pool._processes,
            ordered=ordered,
            most=size * options.max_calls or MOST_ITEMS,
            least=size,
            ahead=CHUNKS_AHEAD,
            is_bounded=True,
        )
        self._run = MapRun(pool._dispatcher.client, mapped.call, name, options, plan)
        self._source = Input(self._read(iter(items)), size)
        self._input_error: Exception | None = None
        self._lock = threading.RLock()  # held by whoever hands out items, or waits for results
        self._current: collections.deque[Any] = collections.deque()  # results for the reader
        self._reading = 0  # items that these were at first
        self._looked = 0.0  # when it was looked for news last

    def _read(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items, which arrive as copies of the worker's own; stop where they raise."""
        try:
            for item in items:
                yield private(item)
        except Exception as error:  # noqa: BLE001 - the user's iterator: raised at its place
            self._input_error = error

    def feed(self) -> None:
        """Hand out as many items as may be ahead of the reader."""
        with self._lock:
            self._source.fill(self._run)

    def finish(self) -> None:
        """Hand out all items, and wait until all of them have their results."""
        plan = self._run.plan
        with self._lock:
            plan.take_all()
        while not (plan.is_idle or self._run.stopped):
            with self._lock:
                self._source.fill(self._run)
                if not plan.is_idle:
                    wait(self._run, block=not plan.room())
        self.pool._dispatcher.fed(self)

    def stop(self) -> None:
        """Hand out nothing more: the pool is terminated. Waits for nobody."""
        self._run.stop()

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
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        try:
            while not self._current:
                self._get_some(deadline)
            outcome: T | Raised = self._current.popleft()
        finally:
            self._lock.release()
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome

    def _get_some(self, deadline: float | None) -> None:
        """Move results that are ready to the reader, or wait for news."""
        run, plan = self._run, self._run.plan
        if self._reading:
            plan.read(self._reading)
            self._reading = 0
        if run.stopped and not plan.out:
            self._give_up()
            return
        if not plan.out or self._source.is_quick:
            self._source.fill(run)
        if not plan.out:
            self._wait(deadline)
            return
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            poll(run)
        found = plan.out.popleft()
        if isinstance(found, FailedItem):
            error = run.error(found)
            self._current.append(Raised(plain(error) if isinstance(error, Exception) else error))
            self._reading = 1
        else:
            self._current.extend(found)
            self._reading = len(found)

    def _wait(self, deadline: float | None) -> None:
        """Wait until there is something to be done, or no more will come."""
        run, plan = self._run, self._run.plan
        if plan.finished:
            self._end()
        poll(run)
        if plan.out or run.stopped:
            return
        if deadline is not None and deadline <= time.monotonic():
            raise TimeoutError
        refuse_to_block(run.client, "An iterator of imap()", "tasks that you can await")
        wait(run, block=not plan.room(), until=deadline)

    def _give_up(self) -> None:
        """Have an error for each item whose result will not come, or end."""
        left = self._run.plan.unread
        self._run.close()
        if not left:
            self._end()
        error = TaskCancelledError(None, "The pool was terminated.")
        self._current.extend([Raised(error)] * left)
        self._reading = left

    def _end(self) -> NoReturn:
        """Raise what the input has raised, if it has, once; then StopIteration."""
        if not self._run.closed:
            self._run.close()
        self.pool._dispatcher.fed(self)
        error, self._input_error = self._input_error, None
        if error is not None:
            raise error
        raise StopIteration
