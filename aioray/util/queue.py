"""A queue that the driver, tasks and actors share.

Room: api. An asyncio.Queue inside an asynchronous actor, and a face that calls it. Pickling the
face pickles the actor's handle, so every copy means the same queue, which ends with the last one.

Wart: everybody who waits in `put` or `get` holds one of the actor's calls, of which 1000 can run
at once. When 1000 wait in `get`, a `put` does not get in, and nobody goes on. For more, pass
actor_options={"max_concurrency": …}.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
from typing import TYPE_CHECKING, Any

from aioray.api.actors import kill
from aioray.api.objects import cancel, get, wait
from aioray.exceptions import RayError
from aioray.remote_function import remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Generic

    from aioray.actor import ActorHandle
    from aioray.api.call_types import Item
    from aioray.client.refs import ObjectRef
else:
    from aioray.shared.subscripts import Erased, subscriptable

    Generic, Item = Erased, None

__all__ = ["Empty", "Full", "Queue"]


class Empty(queue.Empty):
    """There is no item to get, or none has come in time. Not raised for a queue that has ended."""


class Full(queue.Full):
    """There is no room for an item, or none has come in time. Take some out, or wait longer."""


class _QueueActor:
    """What is behind a Queue; all its methods run on one loop, so each is one step until it waits.

    They have the names of Ray's, for programs that call `queue.actor` themselves. They raise Empty
    and Full, where Ray's `get_nowait` and `put_nowait` raise asyncio's QueueEmpty and QueueFull.
    Libraries derive from it, and put their class in its place.
    """

    def __init__(self, maxsize: int) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.queue.qsize()

    async def empty(self) -> bool:
        return self.queue.empty()

    async def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None = None) -> None:  # noqa: ASYNC109 - callers are afar
        try:
            async with asyncio.timeout(timeout):  # with 0 it still puts what needs no waiting
                await self.queue.put(item)
        except TimeoutError:
            raise Full from None

    async def get(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - callers are afar
        try:
            async with asyncio.timeout(timeout):
                return await self.queue.get()
        except TimeoutError:
            raise Empty from None

    async def put_nowait(self, item: Any) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            raise Full from None

    async def get_nowait(self) -> Any:
        try:
            return self.queue.get_nowait()
        except asyncio.QueueEmpty:
            raise Empty from None

    async def put_nowait_batch(self, items: list[Any]) -> None:
        size, maxsize = self.queue.qsize(), self.queue.maxsize
        if maxsize > 0 and size + len(items) > maxsize:
            raise Full(
                f"Cannot add {len(items)} items to queue of size {size} and maxsize {maxsize}."
            )
        for item in items:
            self.queue.put_nowait(item)

    async def get_nowait_batch(self, num_items: int) -> list[Any]:
        size = self.queue.qsize()
        if num_items > size:
            raise Empty(f"Cannot get {num_items} items from queue of size {size}.")
        return [self.queue.get_nowait() for _ in range(num_items)]


_actor_class = functools.lru_cache(remote)


class Queue(Generic[Item]):
    """A first-in, first-out queue, with the methods of queue.Queue, for all processes of a session.

    maxsize: how many items it holds; 0 or less: any number. actor_options: of the actor behind it,
    what `@aioray.remote` takes, such as num_cpus=1 or name="work". Pass the queue to tasks and
    actors as an argument, or inside one. Each item goes to one consumer, and is lost if that dies
    once it has got it; all are lost if the actor dies.

    Synchronous methods wait for the answer of the actor, so on an event loop that the engine runs
    on use put_async and get_async (block=False does not wait for room or items), or await what the
    actor says: `await queue.actor.qsize.remote()`.
    Raises TypeError for a maxsize that is no int, and what `.options` raises for actor_options.
    After `shutdown`, or when the actor has died, all methods raise ActorDiedError.
    Source: Ray API reference, ray.util.queue.Queue. Unlike Ray's, timeout=0 takes what is there and
    puts where there is room; Full and Empty always come without the traceback of the actor; any
    iterable can be put as a batch; cancelling `get_async` or `put_async` gives up the place in the
    queue; and who waits when the queue is shut down gets an error, forced or not.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = subscriptable

    def __init__(self, maxsize: int = 0, actor_options: Mapping[str, Any] | None = None) -> None:
        if not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an int, got {maxsize!r}; 0 means no limit")
        self.maxsize = maxsize
        actor_class = _actor_class(_QueueActor)
        self._handle: ActorHandle[_QueueActor] = actor_class.options(
            **(actor_options or {})
        ).remote(maxsize)
        self._is_shut_down = False

    @property
    def actor(self) -> ActorHandle[_QueueActor]:
        """The actor behind the queue; None after `shutdown`."""
        return None if self._is_shut_down else self._handle  # type: ignore[return-value]

    @actor.setter
    def actor(self, handle: ActorHandle[_QueueActor]) -> None:
        self._handle, self._is_shut_down = handle, False

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Return how many items there are."""
        size: int = get(self._handle.qsize.remote())
        return size

    def qsize(self) -> int:
        """Return how many items there are."""
        return self.size()

    def empty(self) -> bool:
        """Tell whether there are no items."""
        empty: bool = get(self._handle.empty.remote())
        return empty

    def full(self) -> bool:
        """Tell whether there are maxsize items."""
        full: bool = get(self._handle.full.remote())
        return full

    def put(
        self, item: Item | ObjectRef[Item], block: bool = True, timeout: float | None = None
    ) -> None:
        """Put an item at the end, waiting for room if need be.

        item: a ref is put as its value, refs inside it as refs. block=False: do not wait, and
        ignore `timeout`. timeout: seconds; None waits for ever.
        Raises Full if there was no room in time, ValueError for a negative timeout.
        """
        _answer(self._put(item, block, timeout))

    async def put_async(
        self,
        item: Item | ObjectRef[Item],
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> None:
        """Do as `put`, for async code.

        When it is cancelled while it waits, the item is not put. It may be if room comes at that
        moment; with `timeout` it is always known.
        """
        await _answer_async(self._put(item, block, timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take the first item, waiting for one if need be.

        block=False: do not wait, and ignore `timeout`. timeout: seconds; None waits for ever.
        Raises Empty if no item came in time, ValueError for a negative timeout.
        """
        item: Item = _answer(self._get(block, timeout))
        return item

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> Item:
        """Do as `get`, for async code.

        When it is cancelled while it waits, it takes no item. One that comes at that moment may be
        lost; with `timeout` none is.
        """
        item: Item = await _answer_async(self._get(block, timeout))
        return item

    def put_nowait(self, item: Item | ObjectRef[Item]) -> None:
        """Put an item. Raises Full if there is no room."""
        self.put(item, block=False)

    def get_nowait(self) -> Item:
        """Take the first item. Raises Empty if there is none."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Item | ObjectRef[Item]]) -> None:
        """Put all of `items` in one step, or none.

        Raises Full if there is not room for all, TypeError for what is not iterable.
        """
        try:
            batch = list(items)
        except TypeError as error:
            raise TypeError("Argument 'items' must be an Iterable") from error
        _answer(self._handle.put_nowait_batch.remote(batch))

    def get_nowait_batch(self, num_items: int) -> list[Item]:
        """Take the first `num_items` items in one step, or none.

        Raises Empty if there are fewer, TypeError for what is no int, ValueError below 0.
        """
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        items: list[Item] = _answer(self._handle.get_nowait_batch.remote(num_items))
        return items

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor of the queue, for everybody. The items are dropped. Again does nothing.

        force: at once, else after the calls that came before, and at once after `grace_period_s`
        seconds. Those who wait in `put` or `get` then get ActorDiedError.
        """
        self._is_shut_down = True
        if not force:
            ended, _ = wait([self._handle.__ray_terminate__.remote()], timeout=grace_period_s)
            if ended:
                return
        kill(self._handle, no_restart=True)

    def _put(self, item: Any, block: bool, timeout: float | None) -> ObjectRef[None]:
        ref: ObjectRef[None]
        if block:
            _check_timeout(timeout)
            ref = self._handle.put.remote(item, timeout)
        else:
            ref = self._handle.put_nowait.remote(item)
        return ref

    def _get(self, block: bool, timeout: float | None) -> ObjectRef[Any]:
        ref: ObjectRef[Any]
        if block:
            _check_timeout(timeout)
            ref = self._handle.get.remote(timeout)
        else:
            ref = self._handle.get_nowait.remote()
        return ref


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


def _answer(ref: ObjectRef[Any]) -> Any:
    try:
        return get(ref)
    except (Empty, Full) as error:
        raise _plain(error) from None


async def _answer_async(ref: ObjectRef[Any]) -> Any:
    try:
        return await ref
    except (Empty, Full) as error:
        raise _plain(error) from None
    except asyncio.CancelledError:
        with contextlib.suppress(RayError):  # the session may have ended meanwhile
            cancel(ref)
        raise


def _plain(error: Any) -> Empty | Full:
    """Return what the actor raised, from the error that also tells where."""
    cause: Empty | Full = error.cause
    return cause.with_traceback(None)
