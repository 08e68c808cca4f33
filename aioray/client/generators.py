"""`ObjectRefGenerator`, the handle to what a generator task yields, and its deprecated relative.

Room: client, also used by tasks in workers. Stands on the client of the ref that it is made with
and on ordinary refs: for each item there is a signal, an object whose value says whether there is
such an item, so that waiting for the next one is waiting for a ref. Not thread-safe: one reader.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ..shared import ids
from .refs import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["DynamicObjectRefGenerator", "ObjectRefGenerator"]

T = TypeVar("T")


class ObjectRefGenerator(Generic[T]):
    """An iterator of refs to what a generator task yields, as it yields it.

    `for ref in generator` and `next` block, `async for ref in generator` does not; either may be
    used, by one reader. If the function raises, the error is the last ref's, and the iteration ends
    after it. Dropping the generator frees what was not read and lets the task run on; leaving an
    `async with` block, or `aclose()`, cancels the task.
    Source: Ray API reference, ray.ObjectRefGenerator; closing is aioray's own, ray#63310.
    """

    def __init__(self, completed: ObjectRef[None]) -> None:
        if not isinstance(completed, ObjectRef):
            raise TypeError("ObjectRefGenerators are made by calling remote generator functions.")
        self._completed = completed
        self._client = completed.entry.owner()
        self._task = completed.entry.binary()[: ids.TASK_ID_SIZE]
        self._read = 0  # items read
        self._signal: ObjectRef[bool] | None = None  # of the next one
        self._ended = False  # and all items were read

    def _next_signal(self) -> ObjectRef[bool]:
        if self._signal is None:
            self._signal = self._ref(ids.SIGNAL_INDEX + self._read)
        return self._signal

    def _ref(self, index: int) -> ObjectRef[Any]:
        return ObjectRef(self._client.entry_of(ids.object_id(self._task, index)))

    def _take(self, *, is_there: bool) -> ObjectRef[T] | None:
        """Return the ref to the next item, whose signal has come; None if the items have ended."""
        self._signal = None
        if not is_there:
            self._ended = True
            return None
        ref = self._ref(ids.FIRST_ITEM + self._read)
        self._read += 1
        self._client.consume(self._task, self._read)
        return ref

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObjectRef[T]:
        if not self._ended:
            signal = self._next_signal()
            self._client.get([signal], None, in_memory=True)
            ref = self._take(is_there=signal.entry.value())
            if ref is not None:
                return ref
        raise StopIteration

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[T]:
        """Return what `next` does, or the nil ref after `timeout_s` seconds; Ray's name for it."""
        from ..exceptions import GetTimeoutError  # most programs do without

        if not self._ended:
            try:
                self._client.get([self._next_signal()], timeout_s, in_memory=True)
            except GetTimeoutError:
                return ObjectRef.nil()
        return next(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        if not self._ended:
            ref = self._take(is_there=await self._next_signal())
            if ref is not None:
                return ref
        raise StopAsyncIteration

    def completed(self) -> ObjectRef[None]:
        """Return a ref that is ready when the task has ended.

        Its value is None, also if the function has raised: that is the last item's error. It raises
        if the task was cancelled or its worker died.
        """
        return self._completed

    def next_ready(self) -> bool:
        """Tell whether `next` would return an item at once. False when all were read."""
        return self._is_known() and not self.is_finished()

    def _is_known(self) -> bool:
        """Tell whether it is known by now if there is a next item."""
        return self._ended or self._next_signal().done()

    def is_finished(self) -> bool:
        """Tell whether all items were read."""
        return self._ended or (self._is_known() and not self._next_signal().result())

    async def aclose(self) -> None:
        """Cancel the task, wait until that has taken hold, and free what was not read."""
        entry = self._completed.entry
        await self._client.cancel(entry, force=False, recursive=True, grace=None)
        self._ended = True
        self._signal = None
        self._client.abandon(self._task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._ended:
            await self.aclose()

    def __del__(self) -> None:
        client = getattr(self, "_client", None)
        if client is not None and not client.closed:
            client.abandon(self._task)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "An ObjectRefGenerator cannot be pickled, so it is no argument or result of a task. "
            "Pass the refs that it yields."
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._completed.hex()})"

    def send(self, value: Any) -> NoReturn:
        """Raise NotImplementedError: what is sent could not reach the task."""
        raise NotImplementedError(_ONE_WAY)

    def throw(self, value: Any) -> NoReturn:
        """Raise NotImplementedError; use `aioray.cancel(generator)`."""
        raise NotImplementedError(_ONE_WAY)

    def close(self) -> NoReturn:
        """Raise NotImplementedError, because closing has to wait.

        Use `aioray.cancel(generator)`, or `await aclose()`.
        """
        raise NotImplementedError(_ONE_WAY)

    async def asend(self, value: Any) -> NoReturn:
        """Raise NotImplementedError: what is sent could not reach the task."""
        raise NotImplementedError(_ONE_WAY)

    async def athrow(self, value: Any) -> NoReturn:
        """Raise NotImplementedError; use `aioray.cancel(generator)`."""
        raise NotImplementedError(_ONE_WAY)


_ONE_WAY = (
    "The generator runs in another process, and only its items come here. Use "
    "aioray.cancel(generator), or `await generator.aclose()`, to end it."
)


class DynamicObjectRefGenerator(Generic[T]):
    """The value of a task with num_returns="dynamic": the refs to its items, in order.

    Iterating over it uses it up, so that an item that was read can be freed; its length is that of
    the rest. Deprecated, as in Ray: leave num_returns out and iterate over the ObjectRefGenerator.
    """

    def __init__(self, refs: Iterable[ObjectRef[T]]) -> None:
        self._refs = deque(refs)

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        while self._refs:
            yield self._refs.popleft()

    def __len__(self) -> int:
        return len(self._refs)
