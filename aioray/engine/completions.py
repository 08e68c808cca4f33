"""Which of many objects have become ready, for who waits for them again and again.

Room: engine. Each entry gets one waiter, once, that notes its place; so a wait costs as much as
what it takes, however many go on waiting. Places are noted on the engine's thread, and taken in the
thread that waits, of which there is one at a time.
"""

from __future__ import annotations

import functools
import time
import weakref
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client.entry import ObjectEntry
    from ..client.refs import ObjectRef

__all__ = ["EntryCompletions", "drop_ended"]

FEW_WAITERS = 8  # of one entry; where there are more, some may be of those who wait no more


class Place:
    """The waiter of one entry: notes that it is ready, if somebody still wants to know."""

    __slots__ = ("_completions", "_place")

    def __init__(self, completions: weakref.ref[EntryCompletions], place: int) -> None:
        self._completions = completions
        self._place = place

    def __call__(self) -> None:
        """Note the place."""
        completions = self._completions()
        if completions is not None:
            completions.arrive(self._place)

    @property
    def has_ended(self) -> bool:
        """Whether nobody wants to know any more."""
        return self._completions() is None


def drop_ended(entry: ObjectEntry) -> None:
    """Drop waiters of those who wait no more, if there may be any. Engine's thread only."""
    waiters = entry.waiters
    if waiters is not None and len(waiters) >= FEW_WAITERS:
        entry.waiters = [each for each in waiters if not getattr(each, "has_ended", False)]


class EntryCompletions:
    """The completions of a client whose entries have their outcomes here. See `client.rest`."""

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_block",
        "_entries",
        "_members",
        "_post",
        "_ready",
        "wake",
    )

    def __init__(
        self,
        refs: Sequence[ObjectRef[Any]],
        post: Callable[[Callable[[], None]], None],
        block: Callable[[EntryCompletions, int, float | None], None],
    ) -> None:
        """Begin to watch the entries of these refs.

        post: has something done on the engine's thread, soon. block: returns as soon as so many are
        ready, or the time is over; called for each wait.
        """
        self._post = post
        self._block = block
        self.wake: Callable[[], None] | None = None  # called on the engine's thread for each place
        self._entries: list[ObjectEntry | None] = [ref.entry for ref in refs]  # None: it was taken
        self._arrived: deque[int] = deque()  # places that nobody has looked at yet
        self._ready: list[int] = []  # the others, as a heap
        self._members: set[ObjectEntry] | None = None  # made when some are added
        self._look(0)

    def add(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Watch more of them. See `client.rest.CompletionQueue`."""
        if self._members is None:
            self._members = set(self.left())
        entries = [ref.entry for ref in refs]
        if not self._members.isdisjoint(entries):
            return False
        self._members.update(entries)
        first = len(self._entries)
        self._entries.extend(entries)
        self._look(first)
        return True

    def _look(self, first: int) -> None:
        """Sort the places from `first` on into those of ready entries and those to be watched."""
        pending: list[int] = []
        for place in range(first, len(self._entries)):
            entry = self._entries[place]
            if entry is not None and entry.outcome is None:
                pending.append(place)
            else:
                self._ready.append(place)  # after all that are there, as in a heap
        self._watch(pending)

    def _watch(self, places: list[int]) -> None:
        """Have the entries at these places watched."""
        if places:
            self._post(functools.partial(self._begin, places))

    def _begin(self, places: list[int]) -> None:
        """Give these entries their waiters, on the engine's thread."""
        reference = weakref.ref(self)
        for place in places:
            entry = self._entries[place]
            assert entry is not None
            if entry.outcome is not None:
                self.arrive(place)
                continue
            drop_ended(entry)
            entry.add_waiter(Place(reference, place))

    def arrive(self, place: int) -> None:
        """Note that an entry is ready, on the engine's thread."""
        self._arrived.append(place)
        if self.wake is not None:
            self.wake()

    def left(self) -> list[ObjectEntry]:
        """Return the entries that were not taken."""
        return [entry for entry in self._entries if entry is not None]

    def count(self) -> int:
        """Count those that are ready and were not taken."""
        while self._arrived:
            heappush(self._ready, self._arrived.popleft())
        return len(self._ready)

    def wait(self, num_returns: int, timeout: float | None) -> list[int]:
        """Wait, and take what is ready. See `client.rest.CompletionQueue`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while True:
            self._block(self, num_returns, left)
            places, lost = self._first(num_returns)
            if lost:
                self._watch(lost)
                if deadline is not None:
                    left = max(0.0, deadline - time.monotonic())
                if len(places) < num_returns and left != 0:
                    self._ready.extend(places)  # in order, and the heap is empty
                    continue
            for place in places:
                if self._members is not None:
                    self._members.discard(self._entries[place])
                self._entries[place] = None
            return places

    def _first(self, count: int) -> tuple[list[int], list[int]]:
        """Return the first places of those noted, and of those where a value was lost since."""
        places: list[int] = []
        lost: list[int] = []
        while len(places) < count and self.count():
            place = heappop(self._ready)
            entry = self._entries[place]
            assert entry is not None
            (lost if entry.outcome is None else places).append(place)
        return places, lost
