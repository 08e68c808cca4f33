"""What one worker has asked for and not been told yet, and the refs that it holds.

Room: engine. While a worker holds a ref its object lives. A session ends with its worker.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectEntry, ObjectRef
from ...exceptions import RaySystemError
from ...shared.serialization import contained_ids, dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.functions import Function
    from ..engine import Engine
    from ..objects.store import Stored
    from ..processes.handle import WorkerHandle
    from ..tasks.submission import Binding

__all__ = ["Guest", "SessionRequests", "Wait", "pickled", "stop_waiting"]


class Wait:
    """A question that cannot be answered yet."""

    __slots__ = ("entries", "hits", "holds", "left", "request", "seq", "told", "wants_values")

    def __init__(
        self,
        seq: int,
        request: int,
        entries: list[ObjectEntry],
        left: int,
        *,
        wants_values: bool,
        holds: bool = False,
    ) -> None:
        self.seq = seq
        self.request = request
        self.entries = entries
        self.left = left  # how many more have to get ready
        self.wants_values = wants_values  # GET; False: WAIT
        self.holds = holds  # the attempt cannot go on before all of them are ready
        self.told = False  # the scheduler knows that
        self.hits: list[tuple[ObjectEntry, Callable[[], None]]] = []  # waiters, to be dropped


class Guest:
    """One worker, as somebody who asks."""

    def __init__(self, handle: WorkerHandle) -> None:
        self.handle = handle
        self.refs: dict[bytes, list[Any]] = {}  # by id: the entry, and how often it is held
        self.functions: dict[int, tuple[Function, Any]] = {}  # by its key: and captured refs
        self.bindings: OrderedDict[tuple[int, bytes, int], Binding] = OrderedDict()
        self.streams: set[bytes] = set()  # ids of generator tasks that it reads
        self.waits: dict[int, Wait] = {}  # by request
        self.blocking: dict[int, set[int]] = {}  # by seq: requests that have to wait

    def hold(self, identifier: bytes, entry: ObjectEntry) -> None:
        """It has a ref to this."""
        held = self.refs.get(identifier)
        if held is None:
            self.refs[identifier] = [entry, 1]
        else:
            held[1] += 1

    def let_go(self, identifier: bytes) -> None:
        """It has one ref less to this."""
        held = self.refs.get(identifier)
        if held is not None:
            held[1] -= 1
            if not held[1]:
                del self.refs[identifier]


class SessionRequests:
    """What all questions need."""

    _engine: Engine
    wait_for_socket: Callable[[WorkerHandle], None]

    def _reply(self, guest: Guest, request: int, body: Any) -> None:
        if not guest.handle.closed:
            guest.handle.reply(request, body)
            self.wait_for_socket(guest.handle)

    def _entry(self, guest: Guest, identifier: bytes) -> ObjectEntry:
        held = guest.refs.get(identifier)
        entry: ObjectEntry = self._engine.adopt(identifier) if held is None else held[0]
        return entry

    def _contained(self, value: bytes | Stored) -> list[ObjectRef[Any]]:
        """Refs to what a serialized value contains refs to."""
        found = contained_ids(value) if isinstance(value, bytes) else value.contained_ids()
        return [ObjectRef(self._engine.adopt(each)) for each in found]


def pickled(error: BaseException) -> bytes:
    """Pickle an error, or one that says why it cannot be."""
    try:
        return dumps(error)
    except Exception as problem:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
        text = f"The error of a task could not be sent to another one ({problem!r}): {error!r}"
        return dumps(RaySystemError(text))


def stop_waiting(wait: Wait) -> None:
    """Let nothing that was waited for end this wait."""
    for entry, hit in wait.hits:
        entry.drop_waiter(hit)
    wait.hits.clear()
