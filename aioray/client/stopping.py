"""Ending tasks because whoever has waited for them was cancelled, and waiting until that is done.

Room: client; loaded when somebody binds a task to what awaits it. The wait is *shielded*: who is
cancelled once more meanwhile hears of it when the wait is over; and it is *bounded*: tasks are
interrupted, killed when their grace period is over, and given up a little later, with a warning.

asyncio cancels a task with an exception that is raised once. anyio raises it again and again, for
as long as its cancel scope lasts, unless there is one with a shield in between. anyio is not
imported for that: where nobody else has, none of its scopes can be around.

`binding` makes a plain `await ref` do the same, in one context: see `aioray.asgi`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from ..shared import ids
from .awaiting import get_running_loop
from .refs import binding, wake_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .entry import ObjectEntry
    from .refs import ObjectRef

__all__ = [
    "Signal",
    "Stopping",
    "await_bound",
    "checked_grace",
    "shielded",
    "stop_bound",
]

T = TypeVar("T")
logger = logging.getLogger("aioray")

GRACE_SECONDS = 5.0  # between interrupt and kill, where nobody has said anything else
KILL_SECONDS = 10.0  # that a killed process may take to be gone


def checked_grace(grace: float | None) -> float:
    """Return the seconds of a grace period. Raises TypeError or ValueError for what is none."""
    if grace is None:
        return GRACE_SECONDS
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"grace is a number of seconds, not {grace!r}")
    if not 0 <= grace < math.inf:
        raise ValueError(f"grace is a number of seconds, 0 or more, not {grace!r}")
    return float(grace)


class Stopping:
    """What is being stopped, on one loop."""

    def __init__(self, grace: float, on_change: Callable[[], None]) -> None:
        """Begin with nothing. on_change: called on the running loop when something has ended.

        grace: seconds between interrupt and kill.
        """
        self.left: dict[ObjectEntry, None] = {}
        self._loop = get_running_loop()
        self._grace = grace
        self._on_change = on_change

    def stop(self, entry: ObjectEntry) -> None:
        """Begin to end the task, or the actor, of an entry, with all that it has submitted."""
        if entry in self.left:
            return
        self.left[entry] = None

        def done() -> None:
            wake_elsewhere(self._loop, ended)

        def ended() -> None:
            self.left.pop(entry, None)
            self._on_change()

        entry.owner().stop(entry, self._grace, done)

    @property
    def seconds(self) -> float:
        """How long it may take from now on until nothing is left."""
        return self._grace + KILL_SECONDS

    def give_up(self) -> None:
        """Warn of what has not ended in time."""
        for entry in self.left:
            identifier = entry.binary()
            text = (
                "its process is stuck in the kernel"
                if ids.actor_of(identifier) is None or ids.is_actor(identifier)
                else "an actor is not killed for one call: make the method a coroutine function, "
                "or interruptible, or have it look at get_runtime_context().is_canceled()"
            )
            logger.warning(
                "A cancelled call (task %s) still runs after %g seconds, and nobody waits for it "
                "any longer; %s.",
                identifier[: ids.TASK_ID_SIZE].hex(),
                self.seconds,
                text,
            )
        self.left.clear()


class Signal:
    """Wakes one coroutine, as often as that waits."""

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def send(self) -> None:
        """Wake the coroutine, if it waits. On its loop's thread."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """Return what to wait for."""
        self._future = asyncio.get_running_loop().create_future()
        return self._future


async def shielded(
    is_over: Callable[[], bool], changed: Signal, seconds: float
) -> asyncio.CancelledError | None:
    """Wait until `is_over()`, looking at each signal that something has changed, or so long.

    Returns the cancellation that was asked for meanwhile, for the caller to raise.
    """
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    with _anyio_shield():
        while not is_over():
            try:
                done, _ = await asyncio.wait([changed.next()], timeout=deadline - loop.time())
            except asyncio.CancelledError as error:
                cancelled = error
                continue
            if not done:
                break
    return cancelled


def _anyio_shield() -> contextlib.AbstractContextManager[Any]:
    anyio = sys.modules.get("anyio")
    if anyio is None or not hasattr(anyio, "CancelScope"):  # the latter: it is being imported
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = anyio.CancelScope(shield=True)
    return scope


async def stop_bound(entries: Iterable[ObjectEntry], grace: float) -> None:
    """Stop the tasks of those entries that have no outcome, and wait until they have ended.

    Raises the CancelledError of who was cancelled once more meanwhile.
    """
    changed = Signal()
    stopping = Stopping(grace, changed.send)
    for entry in entries:
        if entry.outcome is None:
            stopping.stop(entry)
    cancelled = await shielded(lambda: not stopping.left, changed, stopping.seconds)
    stopping.give_up()
    if cancelled is not None:
        raise cancelled


async def await_bound(ref: ObjectRef[T], grace: float) -> T:
    """Await a ref; who is cancelled meanwhile takes the task along. See `ObjectRef.bound`."""
    try:
        return await ref
    except asyncio.CancelledError:
        if binding.get() is None:  # else it was done
            await stop_bound([ref.entry], grace)
        raise
