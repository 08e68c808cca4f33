"""What one worker has asked for and not been told yet, and the refs that it holds.

Room: engine. While a worker holds a ref its object lives. A session ends with its worker.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ...client.refs import ObjectRef
from ...exceptions import RaySystemError
from ...shared import ids
from ...shared.serialization import contained_ids, dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...client.call_sites import Site
    from ...client.entry import ObjectEntry
    from ...core.functions import Function
    from ..client import DriverClient
    from ..objects.stored import Stored
    from ..processes.handle import WorkerHandle
    from ..tasks.submission import Binding

__all__ = ["OpenQuestion", "WorkerSession", "check_task_key", "checked_site", "pickled"]


class OpenQuestion:
    """Something that a worker waits for, as it cannot be answered yet."""

    __slots__ = ("blocks", "entries", "hits", "holds", "left", "request", "seq", "wants_values")

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
        self.wants_values = wants_values  # it is a Get
        self.holds = holds  # the attempt cannot go on before all of them are ready
        self.blocks = False  # the scheduler knows that
        self.hits: list[tuple[ObjectEntry, Callable[[], None]]] = []  # waiters, to be dropped

    def stop(self) -> None:
        """Let nothing that was waited for answer the question any more."""
        for entry, hit in self.hits:
            entry.drop_waiter(hit)
        self.hits.clear()


class WorkerSession:
    """What the driver knows of one worker as a client."""

    def __init__(
        self,
        handle: WorkerHandle,
        client: DriverClient,
        wait_for_socket: Callable[[WorkerHandle], None],
    ) -> None:
        """Begin with no requests. wait_for_socket: has what could not be sent yet sent later."""
        self.handle = handle
        self._client = client
        self.wait_for_socket = wait_for_socket
        self.refs: dict[bytes, list[Any]] = {}  # by id: the entry, and how often it is held
        self.functions: dict[int, tuple[Function, Any]] = {}  # by its key: and captured refs
        self.bindings: OrderedDict[tuple[int, bytes, int], Binding] = OrderedDict()
        self.streams: set[bytes] = set()  # ids of generator tasks that it reads
        self.open: dict[int, OpenQuestion] = {}  # by request
        self.blocking: dict[int, set[int]] = {}  # by seq: requests that have to wait

    def reply(self, request: int, body: Any) -> None:
        """Answer a question of the worker, if it lives. body: what marshal takes."""
        if not self.handle.closed:
            self.handle.reply(request, body)
            self.wait_for_socket(self.handle)

    def entry(self, identifier: bytes) -> ObjectEntry:
        """Return the entry of an object that the worker names."""
        held = self.refs.get(identifier)
        entry: ObjectEntry = self._client.entry_of(identifier) if held is None else held[0]
        return entry

    def contained(self, value: bytes | Stored) -> list[ObjectRef[Any]]:
        """Return refs to what a serialized value contains refs to."""
        found = contained_ids(value) if isinstance(value, bytes) else value.contained_ids()
        return [ObjectRef(self._client.entry_of(each)) for each in found]

    def hold(self, identifier: bytes, entry: ObjectEntry) -> None:
        """Note that the worker has one ref more to this object."""
        held = self.refs.get(identifier)
        if held is None:
            self.refs[identifier] = [entry, 1]
        else:
            held[1] += 1

    def adopt(self, entry: ObjectEntry) -> None:
        """Take in an object that the worker has made, and holds.

        Raises ValueError if there is another with that id, which is somebody else's.
        """
        identifier = entry.binary()
        if not self._client.export_new(entry):
            raise ValueError(f"an object with the id of another, {identifier.hex()}")
        self.hold(identifier, entry)

    def let_go(self, identifier: bytes) -> None:
        """Note that the worker has one ref less to this object."""
        held = self.refs.get(identifier)
        if held is not None:
            held[1] -= 1
            if not held[1]:
                del self.refs[identifier]


def check_task_key(task_key: bytes) -> None:
    """Raise ValueError for what cannot be the id of a task that a worker submits."""
    if len(task_key) != ids.TASK_ID_SIZE:
        raise ValueError(f"a task with the id {task_key.hex():.100}")


def checked_site(site: tuple[Any, ...]) -> Site:
    """Return where a call stands in the program. Raises ValueError for what is no such place."""
    if [*map(type, site)] != [str, str]:
        raise ValueError("a call that stands nowhere")
    return site


def pickled(error: BaseException) -> bytes:
    """Pickle an error, or one that says why it cannot be."""
    try:
        return dumps(error)
    except Exception as problem:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
        text = f"The error of a task could not be sent to another one ({problem!r}): {error!r}"
        return dumps(RaySystemError(text))
