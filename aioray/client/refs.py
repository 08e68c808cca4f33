"""`ObjectRef`, the handle to a value that may not exist yet.

Room: client, also imported by workers (refs travel inside values), so light. A ref is a face of its
`entry`, which has the value, see `client.entry`.

A ref can be awaited on any loop and taken by `asyncio.wait`, `gather`, `as_completed`, `wait_for`
and `timeout`. It is deliberately no asyncio future: `gather` and `wait_for` cancel the futures they
are given, and one awaiter's time-out must not reach the others, nor the task.
"""

from __future__ import annotations

import functools
import logging
import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ..shared import ids
from ..shared.serialization import load, note_ref
from .entry import NotInMemory, ObjectEntry, PlainEntry, StoredFailure
from .protocol import registry

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from ..shared.id_classes import JobID, TaskID
    from .awaiting import ValueFuture

__all__ = [
    "ObjectRef",
    "binding",
    "resolve_into",
    "wake_elsewhere",
]

# Seconds of grace for the task of a ref whose awaiter is cancelled; None: it is left alone.
binding: ContextVar[float | None] = ContextVar("aioray_binding", default=None)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
logger = logging.getLogger("aioray")

_awaiting: Any = None  # the module: a worker can do without asyncio as long as nobody awaits


def _load_awaiting() -> Any:
    global _awaiting
    from . import awaiting

    _awaiting = awaiting
    return awaiting


def _stopping() -> Any:
    from . import stopping  # seldom: where what is awaited goes with who awaits it

    return stopping


def wake_elsewhere(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call back on another loop, if that is still there."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        logger.debug("A loop that waited for a ref was closed before it was ready.")


class ObjectRef(Generic[T_co]):
    """A handle to the value of a task or of `put`; generic in the type of that value.

    `await ref` and `aioray.get(ref)` give the value or raise the task's error, any number of times.
    Equality and hash are by id. Pass it to a task as an argument and the task gets the value.
    Source: Ray API reference, ray.ObjectRef; where asyncio's functions accept it, ray#31606.
    """

    __slots__ = ("__weakref__", "_callbacks", "entry")

    def __init__(self, id: ObjectEntry | bytes) -> None:  # noqa: A002 - Ray's name
        """Take the 28 bytes of an id, as `binary` gives them; aioray itself gives the entry.

        Its value can be had as long as there is another ref to it. Raises TypeError or ValueError
        for what is no id.
        """
        self.entry = id if isinstance(id, ObjectEntry) else _entry_of(_checked_id(id))
        self._callbacks: dict[Callable[[ObjectRef[Any]], object], Callable[[], None]] | None = None

    # -- identity

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """Return the ref to no object: every bit of its id is set."""
        return cls(b"\xff" * ids.OBJECT_ID_SIZE)

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """Return a ref with a random id, to nothing."""
        return cls(ids.random_id(ids.OBJECT_ID_SIZE))

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> ObjectRef[Any]:
        """Return the ref with this id, as `ObjectRef(id_bytes)`."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str | bytes) -> ObjectRef[Any]:
        """Return the ref with the id of these hexadecimal digits."""
        return cls(bytes.fromhex(hex_id if isinstance(hex_id, str) else hex_id.decode()))

    @staticmethod
    def size() -> int:
        """Return the length of an id in bytes."""
        return ids.OBJECT_ID_SIZE

    def binary(self) -> bytes:
        """Return the id as 28 bytes, of which `ObjectRef` makes a ref to the same object."""
        entry = self.entry
        if entry.client is not None:
            entry.client.export_entry(entry)
        return entry.binary()

    def hex(self) -> str:
        """Return the id as 56 hexadecimal digits; of them `ObjectRef.from_hex` makes such a ref."""
        return self.binary().hex()

    def is_nil(self) -> bool:
        """Tell whether this is the ref to no object."""
        return self.entry.identifier == b"\xff" * ids.OBJECT_ID_SIZE

    def task_id(self) -> TaskID:
        """Return the id of the task whose value this is."""
        from ..shared.id_classes import TaskID

        return TaskID(self.entry.binary()[: ids.TASK_ID_SIZE])

    def job_id(self) -> JobID:
        """Return the id of the job that this ref belongs to."""
        from ..shared.id_classes import JobID

        return JobID(ids.job_of(self.entry.binary()))

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __hash__(self) -> int:
        entry = self.entry
        return hash(entry if entry.index else entry.identifier)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectRef):
            return NotImplemented
        mine, theirs = self.entry, other.entry
        if mine is theirs:
            return True
        # What this process has made has one entry, which `binary` tells of; of other things it may
        # have several, that know nothing but the id.
        if mine.index or theirs.index or mine.client is not theirs.client:
            return False
        return mine.identifier is not None and mine.identifier == theirs.identifier

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "An ObjectRef is not iterable. Use `await ref` or aioray.get(ref) for its value; for "
            "several return values use @aioray.remote(num_returns=n)."
        )

    def __reduce__(self) -> tuple[Callable[[bytes], ObjectRef[Any]], tuple[bytes]]:
        entry = self.entry
        noted = note_ref(self)
        client = entry.client
        if client is not None:
            client.export_entry(entry)
            if not noted:
                _check_out_of_band(self)
                client.pin(entry)
        return _rebuild, (entry.binary(),)

    # -- awaiting

    def __await__(self) -> Generator[Any, None, T_co]:
        entry = self.entry
        while True:
            if entry.outcome is None or not entry.in_memory:
                client = entry.client or entry.owner()  # which raises an error
                awaiting = _awaiting or _load_awaiting()
                loop = awaiting.running_loop() or awaiting.get_running_loop()
                if client.loop is loop:
                    awaiter = awaiting.Awaiter(loop, client.call_back)
                    wake: Callable[[], None] = awaiter.wake
                    entry.add_waiters((wake,))
                else:
                    awaiter = awaiting.Awaiter(loop)
                    wake = functools.partial(wake_elsewhere, loop, awaiter.wake)
                    client.when_ready(entry, wake)
                try:
                    yield from awaiter
                except BaseException as error:
                    client.forget(entry, wake)
                    grace = binding.get()
                    if grace is not None and type(error) is not GeneratorExit:
                        yield from _stopping().stop_bound([entry], grace).__await__()
                    raise
            try:
                value: T_co = entry.value()
            except NotInMemory:
                continue
            return value

    def bound(self, *, grace: float | None = None) -> Coroutine[Any, Any, T_co]:
        """Await the value, `await ref.bound()`; who is cancelled meanwhile takes the task along.

        A time-out, a cancel scope or a task group that ends this wait then ends the task too, and
        all that it has submitted: they are interrupted, and killed `grace` seconds later, 5 by
        default. CancelledError goes on when no worker is at them any more; the wait for that is
        shielded, and bounded. An actor is not killed for one of its calls: a method that does not
        listen runs on, with a warning, when the grace period is over.

        It is the task that is cancelled: whoever else waits for it gets TaskCancelledError. A task
        that several share is awaited without this.
        Raises the task's error; TypeError and ValueError for a grace that is no number of seconds.
        """
        stopping = _stopping()
        return stopping.await_bound(self, stopping.checked_grace(grace))  # type: ignore[no-any-return]

    def future(self) -> concurrent.futures.Future[T_co]:
        """Return a concurrent.futures.Future of the value. Cancelling it does not cancel the task.

        On the engine's own event loop it can be awaited with asyncio.wrap_future, and waiting for
        it raises RuntimeError.
        """
        from .futures import RefFuture

        future: RefFuture[T_co] = RefFuture(self.entry)
        resolve_into(future, self.entry)
        return future

    def as_future(self) -> asyncio.Future[T_co]:
        """Return an asyncio future of the value, on the running loop or the one set for the thread.

        A loop that is set has to run later. Cancelling the future does not cancel the task. Raises
        RuntimeError if there is no such loop.
        """
        awaiting = _awaiting or _load_awaiting()
        loop = awaiting.current_loop()
        entry = self.entry
        future: ValueFuture[T_co] = awaiting.ValueFuture(loop=loop)
        future.entry = entry
        if entry.outcome is not None and entry.in_memory:
            future.resolve()
        else:
            future.wait(loop)
        return future

    # -- what asyncio.wait asks of its members

    def done(self) -> bool:
        """Tell whether the value, or the failure, is there; the value may be on disk."""
        entry = self.entry
        return entry.outcome is not None or (
            entry.client is not None and entry.client.check_ready(entry)
        )

    def cancelled(self) -> bool:
        """Return False, always: a cancelled task has an exception, TaskCancelledError."""
        return False

    def result(self) -> T_co:
        """Return the value if it is there; raise the task's error, or asyncio.InvalidStateError."""
        return _value_now(self)

    def exception(self) -> BaseException | None:
        """Return the task's error, or None; asyncio.InvalidStateError if there is no outcome."""
        if not self.done():
            raise _not_ready(self)
        return self.entry.error()

    def add_done_callback(
        self, callback: Callable[[ObjectRef[Any]], object], *, context: Context | None = None
    ) -> None:
        """Call `callback(ref)` soon on the running loop once the ref is ready."""
        loop = (_awaiting or _load_awaiting()).get_running_loop()
        entry = self.entry

        def announce() -> None:
            try:
                loop.call_soon_threadsafe(deliver, context=context)
            except RuntimeError:
                logger.debug("A loop that waited for a ref was closed before it was ready.")

        def deliver() -> None:
            if self._callbacks is not None and self._callbacks.pop(callback, None) is not None:
                callback(self)

        if self._callbacks is None:
            self._callbacks = {}
        self._callbacks[callback] = announce
        if entry.in_memory:
            announce()
        else:
            entry.owner().when_ready(entry, announce)

    def remove_done_callback(self, callback: Callable[[ObjectRef[Any]], object]) -> int:
        """Remove a callback, and return how many were removed: 0 or 1."""
        announce = None if self._callbacks is None else self._callbacks.pop(callback, None)
        if announce is None:
            return 0
        if not self.entry.in_memory:
            self.entry.owner().forget(self.entry, announce)
        return 1


def _not_ready(ref: ObjectRef[Any]) -> Exception:
    from asyncio import InvalidStateError

    return InvalidStateError(f"{ref!r} is not ready.")


def _value_now(ref: ObjectRef[T]) -> T:
    """Return the value of a ref, or raise its error, waiting for nothing but the disk.

    Raises asyncio.InvalidStateError if there is no outcome.
    """
    entry = ref.entry
    value: T
    try:
        outcome = entry.outcome
        if outcome is None or outcome.__class__ in (bytes, StoredFailure):
            value = entry.value()
        else:
            value = load(outcome.view(from_disk=True))  # type: ignore[union-attr]
    except NotInMemory:
        client = entry.owner()
        if not client.check_ready(entry):
            raise _not_ready(ref) from None
    else:
        return value
    client.get([ref], None, in_memory=True)
    value = entry.value()
    return value


def resolve_into(future: concurrent.futures.Future[Any], entry: ObjectEntry) -> None:
    """Give `future` the value or the error of `entry` as soon as there is one."""

    def resolve() -> None:
        if future.done() or not (future.running() or future.set_running_or_notify_cancel()):
            return
        try:
            future.set_result(entry.value())
        except NotInMemory:
            entry.owner().when_ready(entry, resolve)
        except BaseException as error:  # noqa: BLE001 - the caller's, whatever it is
            future.set_exception(error)

    if entry.in_memory:
        resolve()
    else:
        entry.owner().when_ready(entry, resolve)


def _check_out_of_band(ref: ObjectRef[Any]) -> None:
    if os.environ.get("RAY_allow_out_of_band_object_ref_serialization") == "0":  # noqa: SIM112
        from ..exceptions import OufOfBandObjectRefSerializationException

        raise OufOfBandObjectRefSerializationException(
            f"{ref!r} is being pickled by hand, which would keep its value for the whole session. "
            f"Pass refs as arguments, or inside values, of tasks; or set "
            f"RAY_allow_out_of_band_object_ref_serialization=1 to have it pinned."
        )


def _rebuild(identifier: bytes) -> ObjectRef[Any]:
    """Return the ref with this id, that comes from a pickle."""
    return ObjectRef(_entry_of(identifier))


def _entry_of(identifier: bytes) -> ObjectEntry:
    """Return the entry with this id: as it was, if its owner is in this process."""
    client = registry.of_job(ids.job_of(identifier))
    if client is not None:
        return client.entry_of(identifier)
    entry = PlainEntry(None, 0, 0)
    entry.identifier = identifier
    return entry


def _checked_id(identifier: object) -> bytes:
    if not isinstance(identifier, bytes):
        raise TypeError(
            f"An ObjectRef is made by `f.remote()`, by `aioray.put()`, or of the id, in bytes, of "
            f"another ref; not of {type(identifier).__name__}."
        )
    if len(identifier) != ids.OBJECT_ID_SIZE:
        raise ValueError(
            f"The id of an object has {ids.OBJECT_ID_SIZE} bytes; {len(identifier)} were given."
        )
    return identifier
