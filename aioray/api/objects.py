"""The functions of the API about refs: get, put, wait, cancel.

Room: api. Checks and translates; the client of the call does the rest.
"""

from __future__ import annotations

import itertools
import operator
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..exceptions import RayError
from ..shared import ids
from .checks import check_seconds
from .ending import is_over, refuse_when_over
from .session import client_for_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import TypeIs

    from ..client.generators import ObjectRefGenerator
    from ..client.protocol import Client
    from ..client.refs import ObjectRef
    from ..client.results import CancelRequest

__all__ = ["cancel", "get", "put", "wait"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")

_getting: Any = None  # the module: `aioray.get` is looked up before there is a session to wait for


def _load_getting() -> Any:
    global _getting
    from . import getting

    _getting = getting
    return getting


@overload
def get(object_refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
@overload
def get(
    object_refs: tuple[ObjectRef[A], ObjectRef[B]], *, timeout: float | None = None
) -> list[A | B]: ...
@overload
def get(
    object_refs: tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C]], *, timeout: float | None = None
) -> list[A | B | C]: ...
@overload
def get(object_refs: Sequence[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
@overload
def get(object_refs: Sequence[ObjectRef[Any]], *, timeout: float | None = None) -> list[Any]: ...
@overload
def get(
    object_refs: ObjectRefGenerator[T], *, timeout: float | None = None
) -> ObjectRefGenerator[T]: ...


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for a ref, or a list of refs, and return the value, or the list of values.

    A task's error is raised, of several the first known. timeout: seconds to wait; None or -1: for
    ever; 0: look once. The tasks go on after a time-out. Values are deserialized anew by each call.
    Raises the task's error; GetTimeoutError; ValueError for what is neither a ref nor a list or for
    a negative timeout; TypeError for a list with something else in it; RuntimeError on the event
    loop that the engine runs on, where only `await ref` can work.
    Source: Ray API reference, ray.get.
    """
    refuse_when_over()
    getting = _getting or _load_getting()
    single = isinstance(object_refs, getting.ObjectRef)
    if single:
        refs = [object_refs]
    elif isinstance(object_refs, list):
        refs = object_refs
        getting.check_refs(refs)
    elif _is_generator(object_refs):
        return object_refs  # as in Ray: iterate over it
    else:
        raise ValueError(
            f"Invalid type of object refs: {type(object_refs).__name__}. `get` takes an ObjectRef "
            f"or a list of ObjectRefs."
        )
    deadline = None
    if timeout is not None:
        timeout = check_seconds("timeout", timeout, minus_one=True)
        if timeout is not None:
            deadline = time.monotonic() + timeout
    try:
        values = getting.values_of(refs, deadline)
    except RayError as error:
        # Who keeps the error, and so this frame, does not keep the values of the others.
        del object_refs, refs
        raise error.with_traceback(None)  # noqa: B904 - it is the same
    return values[0] if single else values


@overload
def wait(
    object_refs: Sequence[ObjectRef[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]: ...
@overload
def wait(
    object_refs: Sequence[ObjectRefGenerator[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRefGenerator[T]], list[ObjectRefGenerator[T]]]: ...
@overload
def wait(
    object_refs: Sequence[ObjectRef[Any] | ObjectRefGenerator[Any]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]: ...


def wait(
    object_refs: Sequence[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Wait until `num_returns` of the refs are ready or `timeout` seconds have passed.

    Returns (ready, not ready): two lists that together hold each ref once, in the order given; the
    first has at most num_returns. To wait for the second one again is cheap, as long as it is not
    changed. A failed task counts as ready. timeout: None waits, 0 looks once.
    fetch_local: no effect on one machine.
    Raises TypeError for anything but a list of refs; ValueError for duplicates, a num_returns that
    is not in 1..len, or a negative timeout.
    Source: Ray API reference, ray.wait.
    """
    refuse_when_over()
    del fetch_local
    if not isinstance(object_refs, list):
        raise TypeError(
            f"wait() expected a list of ray.ObjectRef, got {type(object_refs).__name__}"
        )
    from ..client.rest import LONG_REST, Rest

    rest = object_refs if isinstance(object_refs, Rest) else None
    if rest is None:
        waited_for = _each_once(object_refs)
    if not object_refs:
        return [], []
    _check_count(num_returns, len(object_refs))
    limit = None if timeout is None else check_seconds("timeout", timeout)
    if rest is not None:
        known = rest.wait(num_returns, limit)
        if known is not None:
            return known
        waited_for = _each_once(object_refs)
    found = _owner_of(waited_for).wait(waited_for, num_returns, limit)
    # Where refs are waited for one by one, most of this is for those that go on waiting: no loop.
    places = itertools.compress(itertools.count(1), found)
    end = next(itertools.islice(places, num_returns - 1, None), len(found))
    looked_at = object_refs[:end]
    ready = list(itertools.compress(looked_at, found))
    pending = list(itertools.compress(looked_at, map(operator.not_, found)))
    pending += object_refs[end:]
    if len(pending) >= LONG_REST and waited_for is object_refs:
        return ready, Rest.of(pending)
    return ready, pending


def _each_once(object_refs: list[Any]) -> list[ObjectRef[Any]]:
    """Return refs to what is to be waited for: refs, or of a generator its next signal.

    Raises TypeError for anything else, ValueError for duplicates.
    """
    from ..client.refs import ObjectRef

    refs = object_refs
    if not set(map(type, object_refs)) <= {ObjectRef}:
        for ref in object_refs:
            if not isinstance(ref, ObjectRef) and not _is_generator(ref):
                raise TypeError(f"wait() expected a list of ray.ObjectRef, got {ref!r} in the list")
        refs = [ref if isinstance(ref, ObjectRef) else ref._next_signal() for ref in object_refs]
    if len({ref.entry for ref in refs}) != len(refs):
        raise ValueError("wait() requires a list of unique object refs.")
    return refs


def _check_count(num_returns: object, most: int) -> None:
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be an int, got {num_returns!r}")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}: it must be >= 1.")
    if num_returns > most:
        raise ValueError(
            f"num_returns cannot be greater than the number of object refs provided to wait(): "
            f"{num_returns} > {most}"
        )


def _owner_of(refs: list[ObjectRef[Any]]) -> Client:
    """Return the one client of all these refs. Raises ValueError if there is not one."""
    owners = {ref.entry.client for ref in refs}
    if None in owners or len(owners) > 1:
        for ref in refs:
            ref.entry.owner()  # raises if it has none
        raise ValueError("wait() takes refs of one engine at a time.")
    return refs[0].entry.owner()


def put(value: T, *, _owner: None = None) -> ObjectRef[T]:
    """Store a value and return a ref to it, at once. Pass the ref to tasks instead of the value.

    Raises TypeError for a ref, a generator or anything else that cannot be serialized.
    Source: Ray API reference, ray.put.
    """
    refuse_when_over()
    from ..client.refs import ObjectRef

    if _owner is not None:
        raise ValueError("put() no longer takes _owner: the process that puts is the owner.")
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ray.ObjectRef is not allowed. Use the ref itself, or put a list "
            "that contains it."
        )
    ref: ObjectRef[T] = client_for_call().put(value)
    return ref


def cancel(
    object_ref: ObjectRef[Any] | ObjectRefGenerator[Any],
    *,
    force: bool = False,
    recursive: bool = True,
    grace: float | None = None,
) -> CancelRequest:
    """Ask that a task stop. Returns at once; `await` the result for what became of it.

    A task that waits never runs: its ref raises TaskCancelledError. In a running one
    KeyboardInterrupt is raised, by a real SIGINT, once; what it then returns or raises is its
    outcome, and it is never retried. force: kill its worker instead. grace: seconds after which a
    task that was interrupted and still runs is killed; None: never. recursive: also the tasks that
    it has submitted, and those that it submits from now on. A finished task, or an object of `put`,
    is left as it is. Tasks that wait for the cancelled one fail with TaskCancelledError.

    Calls of actors differ. One that waits never runs. In a running one of an asynchronous actor
    asyncio.CancelledError is raised, once; elsewhere `get_runtime_context().is_canceled()` is True
    from then on, and TaskCancelledError is the outcome whatever the method returns; if it is
    `interruptible`, it is interrupted as a task is. force and grace would kill the actor: use
    `kill` for that.
    Raises TypeError for anything but a ref, ValueError for a negative grace, and for force and
    grace with calls of actors.
    Source: Ray API reference, ray.cancel; grace and the outcome are aioray's own.
    """
    if is_over():
        target: Any = getattr(object_ref, "_completed", object_ref)
        entry = target.entry
        ended: CancelRequest = entry.owner().cancel(entry, force=False, recursive=True, grace=None)
        return ended
    from ..client.refs import ObjectRef

    if _is_generator(object_ref):
        object_ref = object_ref.completed()
    if not isinstance(object_ref, ObjectRef):
        raise TypeError(
            f"cancel() only supports object refs. Got {object_ref!r} of type "
            f"{type(object_ref).__name__}. Cancel the members of a list one by one; for actors use "
            f"kill()."
        )
    if grace is not None:
        grace = check_seconds("grace", grace)
    entry = object_ref.entry
    if (force or grace is not None) and _is_actor_call(entry.binary()):
        what = "force=True" if force else "grace"
        raise ValueError(
            f"{what} is not supported for actor tasks. Leave it out, or end the actor with kill()."
        )
    request: CancelRequest = entry.owner().cancel(
        entry, force=bool(force), recursive=bool(recursive), grace=grace
    )
    return request


def _is_actor_call(identifier: bytes) -> bool:
    """Tell whether an id is of a value of an actor's call, not of something it has put."""
    return ids.actor_of(identifier) is not None and ids.index_of(identifier) < ids.PUT_INDEX


def _is_generator(value: Any) -> TypeIs[ObjectRefGenerator[Any]]:
    """Tell whether a value is an ObjectRefGenerator, whose module may not even be loaded."""
    module = sys.modules.get("aioray.client.generators")
    return module is not None and isinstance(value, module.ObjectRefGenerator)
