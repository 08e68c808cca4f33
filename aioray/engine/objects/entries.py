"""The objects of one engine by their ids: put, named in pickles, given what their refs will have.

Room: engine. A ref is a future of its value, and an `ObjectEntry` is what stands behind all refs to
one object; see `aioray.client.refs`. Here entries are made for values that the driver or a task has
put, found again by the ids that come out of pickles, kept if their refs were pickled by hand, and
given their outcomes. `put`, `entry_of`, `export_entry` and `pin` are for any thread, and so is what
readers of generators say; `store` and `fetch` are for the engine's.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...client.arguments import serialize
from ...client.entry import ObjectEntry, PlainEntry, StoredFailure
from ...client.refs import ObjectRef
from ...exceptions import RaySystemError, ReferenceCountingAssertionError
from ...shared import ids
from ...shared.serialization import contained_ids
from .stored import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...client.protocol import Client
    from ..mailbox import Mailbox
    from .objects import ObjectTable
    from .streams import Stream

__all__ = ["Entries", "no_value"]

SWEPT_SIZE = 1_000  # ids of entries that are gone, at least, before anybody looks for them


class Entries:
    """The entries of one engine."""

    def __init__(self, client: Client, mailbox: Mailbox, streams: Mapping[bytes, Stream]) -> None:
        """Begin with no entries. client: whose they are. streams: of generator tasks, by id."""
        self.objects: ObjectTable | None = None  # as soon as the engine is started
        self.pinned: set[ObjectEntry] = set()
        self._client = client
        self._mailbox = mailbox
        self._streams = streams
        self._put_numbers = itertools.count(ids.PUT_INDEX + 1)
        # By id. Those that are gone are swept out now and then: a WeakValueDictionary would make an
        # object for each, and call four functions.
        self._exported: dict[bytes, weakref.ref[ObjectEntry]] = {}
        self._sweep_size = SWEPT_SIZE
        self._lock = threading.RLock()  # a finalizer may pickle a ref

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value. See `aioray.api.objects.put`."""
        if self.objects is None or self._mailbox.ended:
            self._mailbox.refuse_lost()
            raise RuntimeError("This engine is not running. Start another one.")
        data, refs = serialize(value, "value", "the value given to put()")
        entry = PlainEntry(self._client, 0, next(self._put_numbers))
        entry.contains = refs
        entry.outcome = self.objects.keep(data)
        return ObjectRef(entry)

    def has_signal(self, entry: ObjectEntry) -> bool:
        """Tell whether a signal has come; of other objects the outcome would be in the entry."""
        if entry.index < ids.SIGNAL_INDEX:
            return False
        stream = self._streams.get(entry.binary()[: ids.TASK_ID_SIZE])
        return stream is not None and stream.has(entry.index - ids.SIGNAL_INDEX)

    def fetch(self, entry: ObjectEntry) -> None:
        """Bring a value back from disk, or have it computed again."""
        if self.objects is not None:
            self.objects.fetch(entry)

    def lose(self, entry: ObjectEntry) -> str | None:
        """Throw away a stored value, or say why not. See `aioray.testing.lose`."""
        objects = self.objects
        if objects is None:
            return None
        why: str | None = self._mailbox.do_now(lambda: objects.throw_away(entry))
        return why

    def export_entry(self, entry: ObjectEntry) -> None:
        """Remember the entry by its id: its ref is being pickled."""
        with self._lock:
            self._exported[entry.identifier or entry.binary()] = weakref.ref(entry)
            if len(self._exported) > self._sweep_size:
                self._sweep()

    def export_new(self, entry: ObjectEntry) -> bool:
        """Remember the entry by its id; False if there is another one with that id."""
        known = self._exported.get(entry.binary())
        other = None if known is None else known()
        if other is not None and other is not entry:
            return False
        self.export_entry(entry)
        return True

    def _sweep(self) -> None:
        """Forget the ids of entries that are gone. With the lock."""
        for identifier, ref in tuple(self._exported.items()):
            if ref() is None:
                del self._exported[identifier]
        self._sweep_size = 2 * len(self._exported) + SWEPT_SIZE

    def pin(self, entry: ObjectEntry) -> None:
        """Keep the object for the session."""
        self.pinned.add(entry)

    def entry_of(self, identifier: bytes) -> ObjectEntry:
        """Return the entry behind an id; one that nobody has exported has failed."""
        ref = self._exported.get(identifier)
        entry = None if ref is None else ref()
        if entry is None and ids.index_of(identifier) >= ids.SIGNAL_INDEX:
            entry = self._new_signal(identifier)
        if entry is None:
            failure = StoredFailure(lambda: ReferenceCountingAssertionError(identifier.hex()))
            failure.seen = True  # nobody has lost anything yet
            entry = PlainEntry(self._client, 0, 0)
            entry.identifier = identifier
            entry.outcome = failure
        return entry

    def _new_signal(self, identifier: bytes) -> ObjectEntry | None:
        """Make the object that says whether a generator has yielded an item, see `streams`."""
        stream = self._streams.get(identifier[: ids.TASK_ID_SIZE])
        if stream is None:
            return None
        number = ids.index_of(identifier) - ids.SIGNAL_INDEX
        entry = PlainEntry(self._client, 0, ids.SIGNAL_INDEX + number)
        entry.identifier = identifier
        self.export_entry(entry)
        self._mailbox.on_thread(lambda: stream.signal(number, entry))
        return entry

    def consume(self, task: bytes, count: int) -> None:
        """Let a generator task know how many of its items have been read."""
        stream = self._streams.get(task)
        if stream is not None:
            self._mailbox.on_thread(lambda: stream.consume(count))

    def abandon(self, task: bytes) -> None:
        """Let a generator task know that nobody reads its items any more. For finalizers too."""
        stream = self._streams.get(task)
        if stream is not None and not self._mailbox.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._mailbox.post(stream.abandon)

    def new_entry(self, identifier: bytes, value: bytes | Stored) -> ObjectEntry:
        """Make the entry of an object that a task has put, to be exported."""
        entry = PlainEntry(self._client, 0, 0)
        entry.identifier = identifier
        entry.outcome = value
        return entry

    def store(self, entry: ObjectEntry, outcome: bytes | Stored | StoredFailure) -> None:
        """Give an entry its outcome, unless it has one that was not lost."""
        if entry.missing:
            entry.missing = False
        elif entry.outcome is not None:
            return  # of a task that ran again because another value of it was lost
        try:
            if type(outcome) is bytes:
                if outcome[0] == 1:
                    entry.contains = [self.entry_of(found) for found in contained_ids(outcome)]
            elif type(outcome) is Stored:
                entry.contains = [self.entry_of(found) for found in outcome.contained_ids()]
        except Exception as error:  # noqa: BLE001 - whoever wrote it may have written anything
            outcome = StoredFailure(functools.partial(no_value, error))
        entry.outcome = outcome
        if entry.waiters is not None:
            entry.wake_waiters()


def no_value(error: Exception) -> RaySystemError:
    """Build the error of an object whose value could not be made out."""
    return RaySystemError(
        f"What a worker has written as the value of this object is none ({error!r}): something "
        f"that is not aioray has written to its channels."
    )
