"""What the API stands on: the operations of an engine, whoever carries them out.

Room: client. `Client` is implemented by the engine in the driver, and in
a worker by the connection to it, which is made when it is first asked for. Several clients may be
open in one process: each has a job of its own, and refs find theirs by the job id inside them.

Which client a call uses: the one activated in this context (`activate`), else the process's
default, else a new one, started by `aioray.init()`.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..shared.options import ActorOptions, MethodOptions, TaskOptions
    from ..state.read.sessions import Session
    from .admission import Gate
    from .context_vars import Carrier
    from .entry import ObjectEntry
    from .refs import ObjectRef
    from .rest import CompletionQueue

    Demand = tuple[tuple[str, int], ...]

__all__ = [
    "Call",
    "Client",
    "Registry",
    "RemoteCode",
    "StoredValue",
    "activate",
    "refuse_to_block",
    "registry",
]


class RemoteCode(Protocol):
    """A function, a class or a method that can be called, as far as a client looks into it."""

    name: str

    @property
    def function(self) -> Callable[..., Any]:
        """The function or class that runs; of a method: something that has its signature."""
        ...


class Call:
    """A function, class or method, with one set of options, and what a client has prepared."""

    __slots__ = ("actor", "binding", "client", "code", "options")

    def __init__(
        self,
        code: RemoteCode,
        options: TaskOptions | ActorOptions | MethodOptions,
        actor: ObjectRef[Any] | None = None,
    ) -> None:
        self.code = code
        self.options: Any = options
        self.actor = actor  # whose method it is; None: it is a function, or a class
        self.client: Client | None = None  # whose `binding` this is
        self.binding: Any = None


class StoredValue(Protocol):
    """A value that lies in the store, as seen by refs."""

    @property
    def in_memory(self) -> bool:
        """Whether `view` need not wait for the disk."""
        ...

    def view(self, *, from_disk: bool = False) -> memoryview:
        """Return the serialized value; raise entry.NotInMemory if it has to be waited for again.

        from_disk: read the value from there if need be.
        """
        ...


class Client(Protocol):
    """An engine, as seen by refs and the API. All methods may be called from any thread."""

    job: bytes
    node_id: str  # of this machine in the session, in hexadecimal
    namespace: str
    loop: asyncio.AbstractEventLoop | None  # the engine's own
    gate: Gate | None  # through which all calls that are made in this process have to go

    @property
    def closed(self) -> bool:
        """Whether the engine has ended, or can do nothing more because its loop has."""
        ...

    def in_own_thread(self) -> bool:
        """Tell whether the engine lives in this thread, so that nobody may wait here for it."""
        ...

    def between_runs(self) -> bool:
        """Tell whether the engine lives in this thread and nobody runs its loop now.

        Whoever waits may run the loop then.
        """
        ...

    def begun(self, entries: Sequence[ObjectEntry]) -> list[bool]:
        """Tell of each entry whether its task is in a worker that has nothing to do before it.

        All that was submitted before is taken up first. In a worker, which does not hear what
        becomes of its tasks, nothing has begun.
        """
        ...

    def submit(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Submit a task, and return what `.remote()` does: see `results.returned`."""
        ...

    def create_actor(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ObjectRef[Any]:
        """Create an actor, and return its ref, which every handle holds; without it the actor ends.

        call: its code is an ActorCode. Raises ActorAlreadyExistsError.
        """
        ...

    def get_actor(self, name: str, namespace: str | None) -> tuple[ObjectRef[Any], bytes] | None:
        """Return the ref and the `meta` of the living actor of this name; None: there is none.

        namespace: None: that of the session.
        """
        ...

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        """End an actor at once; do nothing if it has ended. Raises ActorHandleNotFoundError."""
        ...

    def named_actors(self) -> list[tuple[str, str]]:
        """List namespace and name of every living actor that has a name."""
        ...

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        """Count the calls of an actor that this process has made and that have not ended.

        They are counted for actors with `max_pending_calls` only.
        """
        ...

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value, and return the ref to it."""
        ...

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, *, in_memory: bool = False
    ) -> None:
        """Block until all refs have an outcome, or one has failed; GetTimeoutError after `timeout`.

        in_memory: and have come from the disk.
        """
        ...

    def wait(
        self, refs: Sequence[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[bool]:
        """Block until so many refs are ready or the time is over; return for each whether it is."""
        ...

    def completions(self, refs: Sequence[ObjectRef[Any]]) -> CompletionQueue:
        """Return what knows which of these are ready, to wait for them again and again."""
        ...

    def check_ready(self, entry: ObjectEntry) -> bool:
        """Tell whether an entry that has no outcome here has one by now."""
        ...

    def cancel(
        self, entry: ObjectEntry, *, force: bool, recursive: bool, grace: float | None
    ) -> Any:
        """Ask to cancel the task of an entry, and return an awaitable of the outcome."""
        ...

    def stop(self, entry: ObjectEntry, grace: float, done: Callable[[], None]) -> None:
        """End the task of an entry, and what that has submitted; or the actor of its ref.

        grace: seconds between interrupt and kill; an actor is killed at once, and none for a call.
        done: called, in some thread, when all of it has ended and no worker is at it any more.
        """
        ...

    def when_ready(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Have `callback` called, on the engine's thread, as soon as the entry has its outcome."""
        ...

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call back when the engine is through with what it has in hand, on its thread.

        In the same pass of its loop, if that is where it was called from. For the engine's thread.
        """
        ...

    def forget(self, entry: ObjectEntry, callback: Callable[[], None]) -> None:
        """Call `callback` no more for this entry; harmless if it was called already."""
        ...

    def fetch(self, entry: ObjectEntry) -> None:
        """See to it that the value comes from the disk, or is computed again if it is lost.

        On the engine's thread. The entry's waiters are called then.
        """
        ...

    def lose(self, entry: ObjectEntry) -> str | None:
        """Throw away a stored value, as if the place where it lies were gone, or say why not."""
        ...

    def consume(self, task: bytes, count: int) -> None:
        """Say how many items of a generator task were read; refs keep them from now on."""
        ...

    def abandon(self, task: bytes) -> None:
        """Say that nobody reads the items of this generator task any more. For finalizers too."""
        ...

    def tell_of_map(
        self, task: bytes, state: str, counts: Sequence[int], error: Sequence[str]
    ) -> None:
        """Let the history know how far a map has come.

        task: id of its first chunk. state: Ray's name. counts: in the order of `MAP_COUNTS`. error:
        its type as Ray has it, and its text; empty: none.
        """
        ...

    def entry_of(self, identifier: bytes) -> ObjectEntry:
        """Return the entry behind an id that came back from a pickle."""
        ...

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for the session: its ref was pickled by hand."""
        ...

    def export_entry(self, entry: ObjectEntry) -> None:
        """Remember the entry by its id: its ref is being pickled."""
        ...

    def after_fork_in_child(self) -> None:
        """Become closed without ending anything: this is a copy in a forked process."""
        ...

    def create_placement_group(
        self, identifier: bytes, bundles: Sequence[Demand], strategy: str, name: str, value: bytes
    ) -> None:
        """Create a placement group; ValueError if its name, which may be empty, is in use.

        bundles: in the form of `TaskOptions.demand`. value: serialized, what its `ready` ref gives.
        """
        ...

    def remove_placement_group(self, identifier: bytes) -> None:
        """Remove a placement group; ValueError if it is not known."""
        ...

    def placement_group_ready(self, identifier: bytes) -> ObjectRef[Any]:
        """Return the ref that is ready when the group is placed; ValueError if it is not known."""
        ...

    def placement_group_table(self) -> dict[str, dict[str, Any]]:
        """Return the placement groups by id in hexadecimal, as Ray describes them."""
        ...

    def own_session(self) -> Session:
        """Return the session that the client belongs to, to be looked at."""
        ...

    def key_values(
        self, verb: str, namespace: bytes, key: bytes, value: bytes = b"", decides: bool = False
    ) -> Any:
        """Ask, or change, the session's key-value store, see `engine.key_values`."""
        ...

    def cluster_resources(self) -> dict[str, float]:
        """Return the total amounts of the resources by name."""
        ...

    def available_resources(self) -> dict[str, float]:
        """Return the free amounts of the resources by name."""
        ...

    def nodes(self) -> list[dict[str, Any]]:
        """List the nodes, as Ray describes them."""
        ...


class Registry:
    """The clients of this process."""

    def __init__(self) -> None:
        self.active: ContextVar[Client | None] = ContextVar("aioray_client", default=None)
        self.by_job: dict[bytes, Client] = {}
        self.default: Client | None = None
        self.connect: Callable[[], Client] | None = None  # in a worker: makes its client
        self.measure: Callable[[], None] | None = None  # in a worker: sends what its board takes in
        self.listeners: list[Any] = []  # of what engines record, see `aioray.state.write.writer`
        self.opened: list[Callable[[Client], None]] = []  # called with each client that opens
        self.traces = False  # tasks get spans, see `aioray.util.tracing`
        self.carrier: Carrier | None = None  # in a worker: of the values that its attempt has got
        self._lock = threading.Lock()

    def current(self) -> Client | None:
        """Return the client that a call in this context should use; None: none is open."""
        client = self.active.get()
        if client is None or client.closed:
            client = self.default or self._connected()
            if client is None or client.closed:
                return None
        return client

    def of_job(self, job: bytes) -> Client | None:
        """Return the client of this job; None: it is not open."""
        return self.by_job.get(job) or (self._connected() and self.by_job.get(job))

    def _connected(self) -> Client | None:
        """Return the default client; in a worker make it if it was not made before."""
        if self.connect is not None:
            with self._lock:
                if self.connect is not None:
                    self.open(self.connect())
                    self.connect = None
        return self.default

    def open(self, client: Client) -> None:
        """Add a client that has begun, and make it the default if there is no open one."""
        self.by_job[client.job] = client
        for listener in self.opened:
            listener(client)
        if self.default is None or self.default.closed:
            self.default = client

    def close(self, client: Client) -> None:
        """Remove a client that has ended."""
        if self.by_job.get(client.job) is client:
            del self.by_job[client.job]
        if self.default is client:
            self.default = None

    def after_fork_in_child(self) -> None:
        """Forget the clients: this process is a fork of the one that they live in."""
        for client in self.by_job.values():
            client.after_fork_in_child()
        self.by_job.clear()
        self.default = self.connect = self.measure = None

    def free_job_number(self) -> int:
        """Return the lowest job number that no open client has."""
        taken = {int.from_bytes(job, "little") for job in self.by_job}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)


registry = Registry()


def refuse_to_block(client: Client, what: str, instead: str, *, runs_loop: bool = False) -> None:
    """Raise RuntimeError where the engine runs: `what` would wait there for ever.

    All that waits for an engine asks this first. instead: what async code does. runs_loop: whether
    `what` runs the engine's loop itself while nobody else does.
    """
    if client.in_own_thread() and not (runs_loop and client.between_runs()):
        raise RuntimeError(
            f"{what} would block the event loop that the engine itself runs on, for ever. "
            f"In async code use {instead}, or give the engine a thread of its own: "
            f'aioray.init(loop="thread").'
        )


@contextlib.contextmanager
def activate(client: Client) -> Iterator[None]:
    """Let this client serve the calls made in this context and in tasks started from it."""
    token = registry.active.set(client)
    try:
        yield
    finally:
        registry.active.reset(token)
