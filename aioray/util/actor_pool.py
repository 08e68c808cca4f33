"""A pool of actors that values are handed out to.

Room: api. Written with `wait` and `get` alone. There is no thread behind it: what the pool does,
it does inside the calls of its methods, so a value that found no free actor is sent when a result
is taken, not when an actor becomes free.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from aioray.api.objects import get, wait
from aioray.exceptions import ActorDiedError, RayTaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Generic

    from aioray.api.call_types import OfPool, Result
    from aioray.client.refs import ObjectRef
else:
    from aioray.shared.subscripts import Erased, subscriptable

    Generic, OfPool = Erased, None

__all__ = ["ActorPool"]

V = TypeVar("V")


class ActorPool(Generic[OfPool]):
    """Hands out values to the actors of a pool, each of which has one at a time.

    actors: handles of the actors, which have nothing else to do. In the methods, `fn` is called
    with an actor and a value and returns the ref of a call: `lambda a, v: a.double.remote(v)`.

    Errors of calls are raised where their results are taken, and the pool goes on. An actor that
    has died leaves the pool, one that is restarted stays. A value for which `fn` raises is left
    out; that may happen while another result is taken, which is then lost. For one thread only.
    Source: Ray API reference, ray.util.ActorPool. Unlike Ray's, an actor stays in the pool if `fn`
    raises, or if one of its methods does because another actor has died; `get_next_unordered` can
    ignore what did not come in time; and the refs of a method with several results can be waited
    for with a timeout and in any order.
    """

    if not TYPE_CHECKING:
        __class_getitem__ = subscriptable

    def __init__(self, actors: Iterable[OfPool]) -> None:
        # These have the names of Ray's: libraries that derive from the pool work with them.
        self._idle_actors = list(actors)
        self._future_to_actor: dict[Any, tuple[int, OfPool]] = {}  # number of the call, actor
        self._index_to_future: dict[int, Any] = {}  # by number; several results are a tuple
        self._next_task_index = 0  # the number of the next call
        self._next_return_index = 0  # the number that get_next waits for
        self._pending_submits: list[tuple[Callable[[OfPool, Any], Any], Any]] = []

    def map(
        self,
        fn: Callable[[OfPool, V], ObjectRef[Result] | Sequence[ObjectRef[Any]]],
        values: Iterable[V],
    ) -> Iterator[Result]:
        """Call `fn` for each of `values`, and yield the results in that order.

        The values are taken at once. Results that nobody has taken yet are dropped; their calls run
        to the end first. Raises what such a call has raised, if it has ended.
        """
        return self._map(fn, values, self.get_next)

    def map_unordered(
        self,
        fn: Callable[[OfPool, V], ObjectRef[Result] | Sequence[ObjectRef[Any]]],
        values: Iterable[V],
    ) -> Iterator[Result]:
        """Do as `map`, but yield the results in the order in which they come."""
        return self._map(fn, values, self.get_next_unordered)

    def submit(self, fn: Callable[[OfPool, V], Any], value: V) -> None:
        """Call `fn(actor, value)` with an idle actor, or keep both until one is idle."""
        self._pending_submits.append((fn, value))
        self._send()

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Wait for the result of the next call in the order of `submit`, and return it.

        timeout: seconds until TimeoutError; None waits for ever, 0 looks once. ignore_if_timedout:
        drop the result then, and give the actor its next value, to be begun after this one.
        Raises what the call raised; StopIteration if there is none; ValueError if
        `get_next_unordered` has taken the result of the last one already, ValueError for a negative
        timeout.
        """
        self._check_next()
        number = self._next_return_index
        if number not in self._index_to_future:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        future = self._index_to_future[number]
        if timeout is not None and not wait([_watched(future)], timeout=timeout)[0]:
            self._time_out(number, ignore=ignore_if_timedout)
        return self._take(number)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Wait until any call is done, and return its result.

        `get_next` then knows only the calls after that one, so use either the one or the other.
        timeout, ignore_if_timedout, errors: as in `get_next`; the call that is ignored is the
        earliest.
        """
        self._check_next()
        number_by_ref = {
            _watched(future): number for number, future in self._index_to_future.items()
        }
        ready, _ = wait(list(number_by_ref), timeout=timeout)
        if not ready:
            self._time_out(min(self._index_to_future), ignore=ignore_if_timedout)
        return self._take(number_by_ref[ready[0]])

    def has_next(self) -> bool:
        """Tell whether there is a result to take, now or later."""
        return bool(self._future_to_actor or (self._pending_submits and self._idle_actors))

    def has_free(self) -> bool:
        """Tell whether an actor has no call with a result still to be taken, and no value waits."""
        return bool(self._idle_actors and not self._pending_submits)

    def pop_idle(self) -> OfPool | None:
        """Take an idle actor out of the pool and return it; None if `has_free` is False."""
        return self._idle_actors.pop() if self.has_free() else None

    def push(self, actor: OfPool) -> None:
        """Add an actor to the pool. Raises ValueError if the actor is there already."""
        busy = [other for _, other in self._future_to_actor.values()]
        if actor in self._idle_actors or actor in busy:
            raise ValueError("Actor already belongs to current ActorPool")
        self._return_actor(actor)

    def _return_actor(self, actor: OfPool) -> None:
        """Give an actor that has nothing to do the next value that waits, if there is one."""
        self._idle_actors.append(actor)
        self._send()

    def _send(self) -> None:
        # A derived class may submit in a way of its own, and then does so with what has waited too.
        start = self._start if type(self).submit is ActorPool.submit else self.submit
        while self._idle_actors and self._pending_submits:
            start(*self._pending_submits.pop(0))

    def _start(self, fn: Callable[[OfPool, Any], Any], value: Any) -> None:
        future = fn(self._idle_actors[-1], value)
        key = tuple(future) if isinstance(future, list) else future
        number, self._next_task_index = self._next_task_index, self._next_task_index + 1
        self._index_to_future[number] = key
        self._future_to_actor[key] = number, self._idle_actors.pop()

    def _map(
        self,
        fn: Callable[[OfPool, V], Any],
        values: Iterable[V],
        next_result: Callable[[], Any],
    ) -> Iterator[Any]:
        while self.has_next():
            with contextlib.suppress(TimeoutError):
                self.get_next_unordered(timeout=0, ignore_if_timedout=True)
        for value in values:
            self.submit(fn, value)
        return self._results(next_result)

    def _results(self, next_result: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield next_result()

    def _check_next(self) -> None:
        self._send()  # some values may have been left when `fn` raised
        if not self._future_to_actor:
            raise StopIteration("No more results to get")

    def _time_out(self, number: int, *, ignore: bool) -> NoReturn:
        if not ignore:
            raise TimeoutError("Timed out waiting for result")
        future = self._index_to_future[number]
        self._finish(number)
        raise TimeoutError(f"Timed out waiting for result. The task {future} has been ignored.")

    def _take(self, number: int) -> Any:
        future = self._index_to_future[number]
        try:
            value = get(list(future) if isinstance(future, tuple) else future)
        except Exception as error:  # not KeyboardInterrupt, after which one may try again
            # A RayTaskError of this class comes from a method that met another actor's death.
            died = isinstance(error, ActorDiedError) and not isinstance(error, RayTaskError)
            self._finish(number, alive=not died)
            raise
        self._finish(number)
        return value

    def _finish(self, number: int, *, alive: bool = True) -> None:
        _, actor = self._future_to_actor.pop(self._index_to_future.pop(number))
        self._next_return_index = max(self._next_return_index, number + 1)
        if alive:
            self._return_actor(actor)


def _watched(future: Any) -> Any:
    """Return the ref that tells when a call is done. Several results of a call come together."""
    return future[-1] if isinstance(future, tuple) else future
