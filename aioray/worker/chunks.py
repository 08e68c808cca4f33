"""Runs the items of a chunk, one after the other, and tells what becomes of each.

Room: worker. A chunk is one attempt for the driver, and each of its items is one for the user, see
`aioray.shared.chunks`. The page says at which item the worker is, so that the one that kills it can
be told from those that have not run.

Items run in bursts, between which nothing is looked at, and the values of a burst go into the
answers pipe together: the quicker items are, the more are in one. Until then they stand in the
page, where the driver finds them if the process dies: what has run has its answer. Numbers are
stored there as they are, for that costs next to nothing; other values are pickled, at once, before
the next item may change them. What is large goes to the store, and is told by itself. A place for a
number that is not there yet holds FILL; so the page tells by itself which item runs.

A burst that comes upon a slow item is helped out by another thread, the `ChunkWatcher`: it sends
what is finished, and gives back the items that nobody has begun. Main thread and watcher take items
from one iterator, the watcher all that are left at once, so that each goes to one of them.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from operator import length_hint
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..shared.chunks import (
    BOOLS,
    FLOATS,
    GIVEN_BACK,
    INTS,
    LENGTH,
    NONES,
    PICKLES,
    RAISED,
    RAN,
    STOPPED,
    VALUES,
    filled,
)
from ..shared.serialization import dump
from ..shared.wire import NOTE_ITEMS, PAGE_FILL, PAGE_SIZE, PAGE_VALID, PAGE_VALUES
from .results import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shared.chunks import Chunk
    from ..shared.wire import Attempt
    from .execution import Execution
    from .objects import AttemptHandles

__all__ = ["run"]

BURST_SECONDS = 500e-6  # that items run before their values are written
BURST_ITEMS = (PAGE_SIZE - PAGE_VALUES) // 8  # at most in a burst
RING_SECONDS = 3e-3  # that a value may wait in the pipe while others follow
SLOW_SECONDS = 1e-3  # a burst that takes longer is announced at once
CHUNK_SECONDS = 20e-3  # after which the rest of a chunk is given back
WATCH_SECONDS = 20e-3  # between two looks of the watcher
WATCH_IDLE = 50  # looks without a chunk after which its thread ends

_KINDS: dict[type, int] = {type(None): NONES, int: INTS, float: FLOATS, bool: BOOLS}
_ROOM = PAGE_SIZE - PAGE_VALUES
_FILL, _BASE, _KIND, _VALID = range(4)  # cells of the page, from PAGE_FILL on
FILL = os.urandom(8)  # none that user code would return
_POSITIONS = list(range(BURST_ITEMS))
_INT_LIMIT = 1 << 63
_FILL_NUMBER = int.from_bytes(FILL, "little", signed=True)
_monotonic = time.monotonic


def run(execution: Execution, chunk: Chunk, attempt: Attempt, use: AttemptHandles) -> None:
    """Run the items of a chunk, as user code."""
    runner = ChunkRunner(execution, chunk, attempt, use)
    watched = len(chunk.items) > 1
    if watched:
        _watcher.watch(runner)
    try:
        while runner.run_burst():
            pass
    finally:
        held = execution.interrupts.hold()
        try:
            if watched:
                _watcher.watch(None)
            runner.end()
        finally:
            execution.interrupts.release(held)


class _Alone(NamedTuple):
    """A value that is told by itself: it lies in the store, or contains refs."""

    payload: bytes  # of the note
    refs: list[Any]  # they must live until the driver knows of them


class ChunkRunner:
    """What one worker does with one chunk."""

    def __init__(
        self, execution: Execution, chunk: Chunk, attempt: Attempt, use: AttemptHandles
    ) -> None:
        self._execution = execution
        self._channel = execution.channel
        self._gate = execution.interrupts
        self._attempt = attempt
        self._use = use
        self._function = _starred(chunk.function) if chunk.star else chunk.function
        self._source = iter(chunk.items)
        page = memoryview(execution.interrupts.page)
        self._cells = page[PAGE_FILL : PAGE_VALID + 8].cast("q")
        self._room = page[PAGE_VALUES:PAGE_SIZE]
        integers = self._room.cast("q")
        self._slots: dict[type, memoryview[Any]] = {
            int: integers,
            bool: integers,
            float: self._room.cast("d"),
        }
        self._cells[_FILL] = _FILL_NUMBER
        self._began = _monotonic()
        self._size = 1  # of the next burst
        self._type: type | None = _types.get(attempt.function, int)  # None: values are pickled
        self._lock = threading.Lock()  # of what follows
        self._base = 0  # position of the first item of the burst
        self._told = 0  # position of the first whose value was not told
        self._kind = 0  # of the values of the burst
        self._stored = (0, 0)  # items of the burst whose pickles are in the page, and their end
        self._ended = False

    def end(self) -> None:
        """Say nothing more, and leave nothing in the page."""
        with self._lock:
            self._ended = True
        self._cells[_KIND] = 0
        for view in (self._slots[int], self._slots[float], self._room, self._cells):
            view.release()

    # ------------------------------------------------------------ running

    def run_burst(self) -> bool:
        """Run some items, and tell what has become of them; False if there were no more.

        Raises what ends the attempt, or the process: KeyboardInterrupt, SystemExit.
        """
        size = min(self._size, length_hint(self._source))
        if not size:
            return False
        function, wanted = self._function, self._type
        source = zip(_POSITIONS[:size], self._source)  # noqa: B905 - the watcher may take the rest
        self._begin(PICKLES if wanted is None else _KINDS[wanted], size)
        at = -1  # number in the burst of the item that was begun last
        value: Any = None
        odd: bytes | _Alone | None = None  # its value, if that has no place in the burst
        error: BaseException | None = None
        started = _monotonic()
        try:
            if wanted is None:
                for at, item in source:
                    value = function(item)
                    odd = self._store(value, at)
                    if odd is not None:
                        break
            elif wanted is type(None):
                slots = self._slots[int]
                for at, item in source:
                    value = function(item)
                    if value is not None:
                        odd = self._serialize(value, at)
                        break
                    slots[at] = 0
            else:
                slots = self._slots[wanted]
                for at, item in source:
                    value = function(item)
                    if type(value) is not wanted:
                        odd = self._serialize(value, at)
                        break
                    slots[at] = value
        except BaseException as raised:  # noqa: BLE001 - user code may raise anything
            error = raised
        item = None
        held = self._gate.hold()
        try:
            seconds = _monotonic() - started
            if odd is not None:
                self._adapt(type(value), at)
            elif error is None:
                at += 1
            elif (
                type(error) is ValueError
                and type(value) is int
                and not -_INT_LIMIT <= value < _INT_LIMIT
            ):
                error = None  # of storing it, for any one before it has ended its burst
                odd = pickle.dumps(value, 5)
                self._type = None
            self._tell_burst(at, seconds, odd)
            if error is not None:
                self._tell_error(error, at, started, seconds)
            return self._go_on(at, started, seconds)
        finally:
            error = value = None
            self._gate.release(held)

    def _begin(self, kind: int, size: int) -> None:
        """Begin a burst. The page says last that there is one: until then nothing in it counts."""
        with self._lock:
            cells = self._cells
            cells[_KIND] = 0
            self._base = cells[_BASE] = self._told
            self._stored = (0, 0)
            self._kind = kind
            cells[_VALID] = 0
            if kind != PICKLES:
                end = min(size + 1, BURST_ITEMS)  # one more, which is never taken
                self._room[: 8 * end] = FILL * end
            cells[_KIND] = kind

    def _adapt(self, found: type, at: int) -> None:
        """Choose the type of the values to come, after one that is none of those before."""
        if self._type is None:
            return
        first = self._base + at == 0
        self._type = found if first and found in _KINDS else None
        _types[self._attempt.function] = self._type

    def _go_on(self, count: int, started: float, seconds: float) -> bool:
        """Prepare for the next burst, after one of so many items."""
        if seconds * 4 <= BURST_SECONDS:
            self._size = min(4 * self._size, BURST_ITEMS)
        else:
            self._size = max(1, min(BURST_ITEMS, int(max(1, count) * BURST_SECONDS / seconds)))
        channel, now = self._channel, started + seconds
        if channel.unrung_bytes and (
            seconds > SLOW_SECONDS or now - channel.unrung_since > RING_SECONDS
        ):
            channel.ring()
        if now - self._began > CHUNK_SECONDS:
            with self._lock:
                self._give_back()
        return True

    # ------------------------------------------------------------ values

    def _serialize(self, value: Any, at: int) -> bytes | _Alone:
        """Serialize a value, as user code. Raises what that raises."""
        if type(value) is CoroutineType:
            from . import coroutines  # few functions are any

            value = coroutines.run(value, self._gate)
        attempt, use, objects = self._attempt, self._use, self._execution.objects
        try:
            data, refs = dump(value)
        except Exception:
            pack(value, attempt, "result", objects, use, [])  # says what is wrong
            raise
        if isinstance(data, bytes) and not refs:
            return data
        news = (RAN, self._base + at, VALUES, 1, [value], 0.0)
        found: list[Any] = []
        return _Alone(pack(news, attempt, "result", objects, use, found), found)

    def _store(self, value: Any, at: int) -> bytes | _Alone | None:
        """Put a value into the page, as user code; return it if it does not fit there."""
        data = self._serialize(value, at)
        if type(data) is not bytes:
            return data
        start = self._stored[1]
        end = start + LENGTH.size + len(data)
        if end > _ROOM:
            return data
        LENGTH.pack_into(self._room, start, len(data))
        self._room[start + LENGTH.size : end] = data
        self._stored = (at + 1, end)
        self._cells[_VALID] = end
        return None

    # ------------------------------------------------------------ telling

    def _tell_burst(self, count: int, seconds: float, odd: bytes | _Alone | None) -> None:
        """Tell the values of `count` items of the burst, and the one after them that is odd."""
        with self._lock:
            self._tell_values(count, seconds)
            if odd is None:
                return
            position = self._base + count
            if count:
                seconds = 0.0  # that was told
            if isinstance(odd, _Alone):
                self._channel.note(NOTE_ITEMS, odd.payload, self._attempt.seq)
                self._use.written = []
                self._tell((RAN, position + 1, NONES, 0, b"", seconds))
            else:
                self._tell((RAN, position, PICKLES, 1, LENGTH.pack(len(odd)) + odd, seconds))
            self._told = position + 1

    def _tell_values(self, count: int, seconds: float) -> None:
        """Tell the values of the first `count` items of the burst, but what was told. Locked."""
        kind, first, data = self._kind, self._told, b""
        if kind == PICKLES:
            first = self._base  # who reads leaves out what was told
            count, end = self._stored
            data = bytes(self._room[:end])
        elif kind != NONES:
            data = bytes(self._room[8 * (first - self._base) : 8 * count])
        if self._base + count > self._told:
            self._told = self._base + count
            self._tell((RAN, first, kind, self._told - first, data, seconds))

    def _tell_error(self, error: BaseException, at: int, started: float, seconds: float) -> None:
        """Tell of an item that has raised, and let nothing of its error live on.

        Raises the error if it ends the attempt.
        """
        position = self._base + at
        if isinstance(error, KeyboardInterrupt):
            self._tell((STOPPED, position))
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        from ..shared.failures import release

        answers = self._execution.answers
        self._execution.objects.failed(self._use)  # its value may have been written in part
        status, delay = answers.judge(error, self._attempt)
        payload = answers.describe(error, self._attempt)
        release(error)
        with self._lock:
            self._told = position + 1
            self._tell((RAISED, position, int(status), payload, delay, started, seconds))

    def _give_back(self) -> None:
        """Leave the items that were not begun to others. Locked."""
        count = len(list(self._source))
        if count:
            self._tell((GIVEN_BACK, count))
            self._channel.ring()

    def _tell(self, news: tuple[Any, ...]) -> None:
        self._channel.note(NOTE_ITEMS, pickle.dumps(news, 5), self._attempt.seq)

    def look(self) -> None:
        """Help out if the main thread does not come to it. In the watcher's thread."""
        with self._lock:
            if self._ended or not self._kind:
                return
            if _monotonic() - self._began > CHUNK_SECONDS:
                self._give_back()
            self._tell_values(filled(self._slots[int], _FILL_NUMBER), 0.0)
            if self._channel.unrung_bytes:
                self._channel.ring()


_types: dict[int, type | None] = {}
"""By key of a function, the type of the values of its last chunk, to begin the next one with."""


class ChunkWatcher:
    """Looks at the chunk that runs from time to time, in a thread of its own."""

    def __init__(self) -> None:
        self._runner: ChunkRunner | None = None
        self._lock = threading.Lock()
        self._is_running = False

    def watch(self, runner: ChunkRunner | None) -> None:
        """Look at this one from now on; None: at none."""
        self._runner = runner
        if runner is not None and not self._is_running:
            with self._lock:
                if not self._is_running:
                    self._is_running = True
                    threading.Thread(target=self._run, name="aioray-chunks", daemon=True).start()

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(WATCH_SECONDS)
            runner = self._runner
            if runner is not None:
                idle = 0
                runner.look()
                del runner
                continue
            idle += 1
            if idle > WATCH_IDLE:
                with self._lock:
                    if self._runner is None:
                        self._is_running = False
                        return


_watcher = ChunkWatcher()


def _starred(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda item: function(*item)
