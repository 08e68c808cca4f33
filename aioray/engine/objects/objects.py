"""The objects of one engine: stored, fetched from disk, lost and computed again.

Room: engine. Connects entries with the store, and both with the scheduler, which decides whether a
lost result may be computed again. Everything here happens on the engine's thread but `keep` and
what is handed to the store's background thread.
"""

from __future__ import annotations

import contextlib
import pickle
import weakref
from typing import TYPE_CHECKING, Any

from ...client.entry import ObjectEntry, StoredFailure
from ...core.events import ResultLost, ResultWanted, Revived
from ...shared.arena import is_whole
from ..processes.descriptors import Sentinel
from ..telemetry.errors import unreconstructable
from .lineage import EVICTED, PUT, Ledger, Lineage, entries_of
from .store import Store
from .stored import Stored, shut_down

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

    from ...client.protocol import Client
    from ...core.events import Event
    from ...core.model import Task
    from ...options.task import InitOptions
    from ...shared.serialization import Pieces
    from ..processes.handle import WorkerHandle
    from .spill import SpillFolder

__all__ = ["ObjectTable"]

TRIM_SECONDS = 60.0  # without new values, after which free memory is returned to the system
AHEAD_BYTES = 4 * 1024 * 1024  # room granted to a worker beyond what it asked for
TRIM_PAUSE = 0.01  # seconds between two steps of that


class ObjectTable:
    """All that one engine knows of objects beyond their entries."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: InitOptions,
        folder: SpillFolder,
        client: Client,
        feed: Callable[[Event], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        """Create the store. Raises OSError.

        feed: takes what the scheduler is to know. post: has something done on the engine's thread.
        """
        self.store = Store(settings.object_store_memory, folder, self._notify)
        self.sentinel = Sentinel(self.store.arena.fd)  # for all that the engine has opened
        self._loop = loop
        self._client = client
        self._feed = feed
        self._post = post
        self._ledger = Ledger(settings.max_lineage_bytes)
        self._fetching: dict[Stored, ObjectEntry] = {}
        self._trim_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def close(self) -> None:
        """Free all memory and remove all files."""
        self._closed = True
        if self._trim_timer is not None:
            self._trim_timer.cancel()
            self._trim_timer = None
        self.store.close()
        for entry in tuple(self._fetching.values()):
            entry.wake_waiters()  # they find that the store is closed
        self._fetching.clear()

    def after_fork_in_child(self) -> None:
        """Leave alone what belongs to the parent: this table is a copy in a forked process."""
        self._closed = True
        self.store.after_fork_in_child()

    # ------------------------------------------------------------ keeping

    def keep(self, data: bytes | Pieces) -> bytes | Stored:
        """Store a value if it is large. For any thread. Raises what `Store.keep` raises."""
        return data if isinstance(data, bytes) else self.store.keep(data)

    def finished(self, task: Task, *, recoverable: bool) -> None:
        """Keep of a finished task what is still needed. recoverable: a result could be lost."""
        if not recoverable:
            task.returns = None  # the entries hold the task, and not the other way round any more
            task.drop_arguments()  # not before: refs inside a value may have lived in them
            return
        returns = task.returns
        if type(returns) is not tuple:  # it is that of a task which was submitted by another
            entries = [returns] if isinstance(returns, ObjectEntry) else returns
            task.returns = tuple(map(weakref.ref, entries))
        if task.max_retries == 0:
            task.drop_arguments()
            return
        if isinstance(task.payload, Stored):
            self.store.set_expendable(task.payload, expendable=True)
        self._ledger.keep(task)

    def give_room(
        self,
        handle: WorkerHandle,
        request: int,
        size: int,
        more: int,
        wait_for_socket: Callable[[WorkerHandle], None],
    ) -> None:
        """Grant a worker room for a value, as soon as there is some.

        more: how many attempts wait for the same worker. They get room in advance, as far as there
        is plenty, because asking costs more than writing a result of some hundred kilobytes.
        wait_for_socket: to be called when something was sent.
        """
        store = self.store
        rooms = store.allocate_several(size, 1 + min(more, AHEAD_BYTES // size))
        if rooms:
            handle.reply(request, handle.loans.grant(rooms, size))
            wait_for_socket(handle)
            return

        def find() -> Any:
            return store.allocate_by_spilling(size) or store.reserve_file(size)

        def found(future: Future[Any]) -> None:
            if handle.closed or future.cancelled():
                return
            error = future.exception()
            if error is None:
                handle.reply(request, handle.loans.grant([future.result()], size))
            else:
                handle.reply(request, pickle.dumps(error))
            wait_for_socket(handle)

        future = store.in_background(find)
        future.add_done_callback(lambda done: self._on_thread(found, done))

    def _on_thread(self, action: Callable[..., None], *args: Any) -> None:
        if not self._closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._post(lambda: action(*args))

    # ------------------------------------------------------------ housekeeping

    def _notify(self) -> None:
        """Have the store look at notes soon: memory was freed, or runs short. For finalizers."""
        if not self._closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed: soon all will be freed
                self._post(self._process_notes)

    def _process_notes(self) -> None:
        if self._closed:
            return
        self.store.process_notes()
        if self.store.warm and self._trim_timer is None:
            self._trim_later(TRIM_SECONDS)

    def _trim_later(self, seconds: float) -> None:
        changes = self.store.changes

        def trim() -> None:
            self._trim_timer = None
            self.store.expect_look(soon=False)  # before looking: what goes from now on tells
            if self.store.changes != changes:
                self._trim_later(TRIM_SECONDS)
            elif self.store.trim():
                self._trim_later(TRIM_PAUSE)

        self._trim_timer = self._loop.call_later(seconds, trim)
        self.store.expect_look(soon=True)

    # ------------------------------------------------------------ fetching

    def fetch(self, entry: ObjectEntry) -> None:
        """Bring a value back from disk, or have it computed again; its waiters are called then."""
        stored = entry.outcome
        if self._closed:
            if stored is None:
                entry.outcome = StoredFailure(shut_down)
            entry.wake_waiters()
        elif stored is None:
            if entry.task is not None:
                self._feed(ResultWanted(entry.task))
        elif isinstance(stored, Stored) and stored not in self._fetching:
            self._fetching[stored] = entry
            future = self.store.in_background(self.store.restore, stored)
            future.add_done_callback(
                lambda done: self._on_thread(self._fetched, entry, stored, done)
            )

    def _fetched(self, entry: ObjectEntry, stored: Stored, future: Future[bool]) -> None:
        self._fetching.pop(stored, None)
        if future.cancelled():
            return
        if entry.outcome is stored and not future.result():
            self.lose(entry)
        if entry.in_memory:
            entry.wake_waiters()
        elif entry.waiters:
            self.fetch(entry)

    # ------------------------------------------------------------ losing

    def throw_away(self, entry: ObjectEntry) -> str | None:
        """Lose a value on purpose, or say why that cannot be."""
        outcome = entry.outcome
        if outcome is None:
            return "it has no value" if not entry.missing else "it is lost already"
        if isinstance(outcome, StoredFailure):
            return "its task has failed"
        if isinstance(outcome, bytes):
            return "it is not larger than 100 KB, so the driver holds it and it is never lost"
        self.lose(entry)
        return None

    def lose(self, entry: ObjectEntry) -> None:
        """Mark an entry whose stored value is gone as lost, or failed if it cannot come back."""
        if not isinstance(entry.outcome, Stored):
            return
        entry.contains = None
        task = entry.task
        if task is None or isinstance(task.returns, StoredFailure):
            failed = unreconstructable(entry.binary().hex(), PUT) if task is None else task.returns
            entry.outcome = failed
            entry.wake_waiters()
        else:
            entry.missing = True
            entry.outcome = None
            self._feed(ResultLost(task))

    def has_value(self, entry: ObjectEntry) -> bool:
        """Tell whether an entry's value is where it should be; if not, note it as lost."""
        stored = entry.outcome
        if isinstance(stored, Stored) and not _is_there(stored):
            self.lose(entry)
        return entry.outcome is not None

    def revive(self, task: Task) -> None:
        """Make a task ready to run again, and say which arguments have to come first."""
        lost: list[Task] = []
        if type(task.payload) is Lineage:
            if task.payload.given_up:
                self._feed(Revived(task, forbidden=EVICTED))
                return
            task.payload.revive(task, self._client, lost.append)
            entries = entries_of(task, self._client)
            task.returns = entries[0] if task.spec.num_returns == 1 else entries
        for other in lost:
            self._feed(ResultLost(other))
        if isinstance(task.payload, Stored):
            self.store.set_expendable(task.payload, expendable=False)
            if not _is_there(task.payload):
                self._feed(Revived(task, forbidden=EVICTED))
                return
        dependencies = []
        for entry in task.arguments or ():
            if self.has_value(entry) and not isinstance(entry.outcome, StoredFailure):
                continue
            if entry.task is None or (entry.outcome is not None and not _has_failed(entry.task)):
                self._feed(Revived(task, forbidden=entry.outcome))
                return
            dependencies.append(entry.task)
        self._feed(Revived(task, dependencies))


def _has_failed(task: Task) -> bool:
    return isinstance(task.returns, StoredFailure)


def _is_there(stored: Stored) -> bool:
    if stored.extent is not None:
        return True
    return stored.path is not None and is_whole(stored.path, stored.size)
