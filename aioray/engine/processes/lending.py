"""What of the store one worker may look at, and where it may write.

Room: engine. A worker may look at the parts of the store that it was lent, until it has answered
and let go of its views, or is dead; and write a result to those that it was granted, until the
answer says what was written. Bytes that come from a worker are taken for nothing but what they say:
what no worker says raises `Garbage`, or whatever taking it apart raises.
"""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any

from ...shared.wire import GOT, IN_FILE, IN_MEMORY, LOCATION_MARK, NUMBER, PACKED_LOCATION, PAIR
from ..objects.stored import Extent, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...shared.wire import Location
    from ..objects.store import Store
    from ..objects.stored import SpillFile

__all__ = ["Garbage", "Loans"]

_MARK = bytes((LOCATION_MARK,))
_MARSHALLED = (b"[", b"\xdb")  # how a marshalled list begins; no value does
_VALUES = (b"\x80", b"\x01", b"\x02")  # how any value begins that was sent


class Garbage(Exception):  # noqa: N818  # no error of ours: somebody else has written there
    """What was read is not what a worker writes."""


class Loans:
    """What one worker was lent and granted, and has not given back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.by_seq: dict[int, list[Extent]] = {}  # what an attempt, or a reply, may look at
        self._views: dict[int, Extent] = {}  # by number: what views of the worker look at
        self._granted: dict[tuple[int, int], Extent | SpillFile] = {}  # by kind and number

    def extents(self) -> list[Extent]:
        """Return the parts of the store that the worker may look at, each once."""
        extents = [extent for loan in self.by_seq.values() for extent in loan]
        return list(dict.fromkeys((*extents, *self._views.values())))

    def close(self) -> None:
        """Take everything back; the process is gone."""
        for seq in tuple(self.by_seq):
            self.end(seq)
        for number in tuple(self._views):
            self._end_view(number)
        self._granted.clear()

    # ------------------------------------------------------------ looking

    def lend(self, seq: int, values: Sequence[bytes | Stored]) -> list[bytes | Location]:
        """Say where stored values lie, and keep them there until the attempt has ended."""
        locations: list[bytes | Location] = []
        for value in values:
            if isinstance(value, Stored):
                self._store.touch(value)
                extent, path = value.extent, value.path
                if extent is not None:
                    extent.lent += 1
                    self.by_seq.setdefault(seq, []).append(extent)
                    locations.append((IN_MEMORY, extent.offset, value.size))
                    continue
                assert path is not None
                locations.append((IN_FILE, path, value.size))
            else:
                locations.append(value)
        return locations

    def end(self, seq: int) -> None:
        """Take back what this attempt was lent, but for what views of it look at."""
        for extent in self.by_seq.pop(seq, ()):
            extent.lent -= 1

    def lend_to_reply(self, request: int, value: Stored) -> Location:
        """Say where a value lies that a reply gives, and keep it there until it is looked at."""
        return self.lend(GOT | request, (value,))[0]  # type: ignore[return-value]

    def end_reply(self, request: int) -> None:
        """Take back what a reply gives, or would: the worker does not look at it."""
        self.end(GOT | request)

    def keep_views(self, seq: int, told: bytes) -> None:
        """Keep what views of the worker look at beyond the attempt, or reply. told: NOTE_KEPT."""
        lent = {extent.offset: extent for extent in self.by_seq.get(seq, ())}
        for offset, number in PAIR.iter_unpack(told):
            if number not in self._views:
                extent = self._views[number] = lent[offset]
                extent.lent += 1
        if seq & GOT:
            self.end(seq)

    def end_views(self, told: bytes) -> None:
        """Take back what views looked at that are gone. told: NOTE_RELEASED."""
        for (number,) in NUMBER.iter_unpack(told):
            self._end_view(number)

    def _end_view(self, number: int) -> None:
        extent = self._views.pop(number, None)
        if extent is not None:
            extent.lent -= 1

    # ------------------------------------------------------------ writing

    def grant(self, rooms: Sequence[Extent | SpillFile], size: int) -> list[Location]:
        """Let the worker write one value of `size` bytes to each of `rooms`; say where they lie."""
        locations: list[Location] = []
        for room in rooms:
            if isinstance(room, Extent):
                self._granted[IN_MEMORY, room.offset] = room
                locations.append((IN_MEMORY, room.offset, size))
            else:
                self._granted[IN_FILE, int(os.path.basename(room.path))] = room
                locations.append((IN_FILE, room.path, size))
        return locations

    def take_back(self, told: bytes) -> None:
        """Take back what was granted and is not needed. told: NOTE_UNUSED."""
        for key in PAIR.iter_unpack(told):
            del self._granted[key]

    def result(self, payload: bytes) -> Any:
        """Return a result, with a `Stored` for each value that was written where it was granted.

        Raises Garbage if it is none.
        """
        if payload[:1] not in _MARSHALLED:
            return self.value(payload)
        values = marshal.loads(payload)
        if type(values) is not list or not all(type(value) is bytes for value in values):
            raise Garbage("values that are none")
        if self._granted and any(value[:1] == _MARK for value in values):
            return [self.value(value) for value in values]
        return payload

    def value(self, payload: bytes) -> bytes | Stored:
        """Return a result as `result` does, where it can be one value only, or none."""
        mark = payload[:1]
        if mark == _MARK:
            return self._stored(payload)
        if mark and mark not in _VALUES:
            raise Garbage(f"a value that begins with {mark!r}")
        return payload

    def _stored(self, location: bytes) -> Stored:
        _, kind, number, size = PACKED_LOCATION.unpack(location)
        room = self._granted.pop((kind, number), None)
        if isinstance(room, Extent):
            if size > room.size:
                raise Garbage("a value that is larger than the room for it")
            return self._store.take_over(size, room)
        if room is None:
            raise Garbage("a value in a location that was not granted")
        return self._store.adopt_file(size, room)
