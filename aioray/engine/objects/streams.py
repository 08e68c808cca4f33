"""What generator tasks have yielded: items on their way from a worker to whoever iterates.

Room: engine. A `Stream` belongs to one generator task, from its submission on.
Items are numbered from 0 and keep their entries, whatever attempt has yielded them: when a broken
stream is run again, what was there already is skipped. Items nobody has read yet are held here;
those that were read live as long as their refs.

Readers wait for *signals*: objects that exist for no other purpose, one for each item, whose value
says whether there is such an item or the end has come before it. So waiting for the next item is
like waiting for any object, on any loop, in any thread, and in any worker.
"""

from __future__ import annotations

import functools
import pickle
import weakref
from typing import TYPE_CHECKING

from ...client.entry import ObjectEntry, PlainEntry, StoredFailure
from ...exceptions import StreamingGeneratorReplayInconsistentError
from ...shared import ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...client.protocol import Client
    from ...core.model import Task

__all__ = ["END", "ITEM", "Stream"]

ITEM = pickle.dumps(True, 5)  # value of a signal: the item is there
END = pickle.dumps(False, 5)  # it will never be


class Stream:
    """The items of one generator task."""

    def __init__(self, client: Client, task: Task, backpressure: int, *, dynamic: bool) -> None:
        """Begin with no items. backpressure: how many may wait to be read; 0: any number.

        dynamic: its items are read only when it has ended, from its value.
        """
        self._client = client
        self._task = weakref.ref(task)
        self.task_key = task.task_key
        self.backpressure = backpressure
        self.dynamic = dynamic
        self.produced = 0  # items there have been, in all attempts
        self.consumed = 0  # items read
        self.last_count = 0  # items of the attempt that came to its end last
        self.ended = False  # there will be no more
        self.abandoned = False  # nobody reads it any more
        self.items: weakref.WeakValueDictionary[int, ObjectEntry] = weakref.WeakValueDictionary()
        self._unread: dict[int, ObjectEntry] = {}
        self._signals: dict[int, ObjectEntry] = {}  # that were asked for too early
        self._paused: Callable[[], None] | None = None  # lets the producer go on

    @property
    def task(self) -> Task | None:
        """The task that yields; None: it is gone."""
        return self._task()

    def has(self, number: int) -> bool:
        """Tell whether it is known by now if there is such an item."""
        return number < self.produced or self.ended

    def add(self, number: int, store: Callable[[ObjectEntry], None]) -> None:
        """Take in an item that was yielded. store: gives its entry the value, if that has none."""
        if number < self.produced:
            entry = self.items.get(number)
            if entry is not None:  # one that was lost, or has its value from an earlier attempt
                store(entry)
            return
        if self.ended:
            return  # more than in the run before: nobody waits for those
        entry = self.new_entry(number)
        store(entry)
        self._append(entry)

    def tell(self, store: Callable[[ObjectEntry], None]) -> None:
        """Take in what a chunk has told: it runs once, and tells as much as it likes."""
        self.add(self.produced, store)
        self.last_count = self.produced

    def new_entry(self, number: int) -> ObjectEntry:
        """Make an entry for an item."""
        entry = PlainEntry(self._client, self.task_key, ids.FIRST_ITEM + number, self._task())
        self.items[number] = entry
        self._client.export_entry(entry)
        return entry

    def _append(self, entry: ObjectEntry) -> None:
        number = self.produced
        self.produced += 1
        if not self.abandoned:
            self._unread[number] = entry
        signal = self._signals.pop(number, None)
        if signal is not None:
            _resolve(signal, ITEM)

    @property
    def is_short(self) -> bool:
        """Whether `finish` will return an error, because of too few items."""
        return self.last_count < self.produced and not self.ended

    def finish(self) -> StoredFailure | None:
        """Take the end of an attempt; return an error if it has yielded too few items."""
        if self.last_count >= self.produced:
            self._end()
            return None
        failure = StoredFailure(functools.partial(_inconsistent, self.last_count, self.produced))
        for number, entry in tuple(self.items.items()):
            if number >= self.last_count and entry.missing:  # it will not come again
                entry.missing = False
                _resolve(entry, failure)
        if self.ended:
            return None
        self.fail(failure)
        return failure

    def fail(self, failure: StoredFailure, *, raised: bool = False) -> list[ObjectEntry]:
        """End with the failure of the task as the last item; return all items if it is dynamic.

        raised: by the function. Else it is no item of a dynamic one, but the value of the task.
        """
        items: list[ObjectEntry] = []
        if self.ended:
            return items
        if raised or not self.dynamic:
            entry = self.new_entry(self.produced)
            entry.outcome = failure
            self._append(entry)
        if raised and self.dynamic:
            items = [self._unread[number] for number in range(self.produced)]
        self._end()
        return items

    def _end(self) -> None:
        self.ended = True
        signals, self._signals = self._signals, {}
        for signal in signals.values():
            _resolve(signal, END)
        if self.dynamic:
            self._unread.clear()  # its value holds them now, if it has one

    def signal(self, number: int, entry: ObjectEntry) -> None:
        """Resolve the entry that signals whether there is this item, as soon as that is known."""
        if number < self.produced:
            _resolve(entry, ITEM)
        elif self.ended:
            _resolve(entry, END)
        else:
            self._signals[number] = entry

    def consume(self, count: int) -> None:
        """Count items as read, `count` in all; refs to them keep them from now on."""
        count = min(count, self.produced)
        for number in range(self.consumed, count):
            self._unread.pop(number, None)
        self.consumed = max(self.consumed, count)
        self._go_on()

    def abandon(self) -> None:
        """Free what is unread, and hold the producer no more: nobody will read."""
        self.abandoned = True
        self._unread.clear()
        self._go_on()

    def may_yield(self, count: int) -> bool:
        """Tell whether the attempt that has yielded so many items may yield another one."""
        if not self.backpressure or self.abandoned or self.dynamic:
            return True
        return count < self.consumed + self.backpressure or count < self.produced

    def pause(self, count: int, go_on: Callable[[], None]) -> None:
        """Call back when the attempt that has yielded so many items may yield another one."""
        self._paused = lambda: go_on() if self.may_yield(count) else self.pause(count, go_on)

    def _go_on(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused()


def _resolve(entry: ObjectEntry, value: bytes | StoredFailure) -> None:
    if entry.outcome is None:
        entry.outcome = value
        entry.wake_waiters()


def _inconsistent(count: int, produced: int) -> StreamingGeneratorReplayInconsistentError:
    return StreamingGeneratorReplayInconsistentError(
        f"A generator task was run again and yielded {count} items, after it had yielded "
        f"{produced} before. What it yields must follow from its arguments alone; else give it "
        f"max_retries=0."
    )
