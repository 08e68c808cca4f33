"""What of the store one worker may look at, and where it may write.

Room: engine. Its process may look at the parts of the store that it was lent, until that has
answered and let go of its views, or is dead; and those it may write a result to, until the answer
says what was written.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any

from ...shared.wire import IN_FILE, IN_MEMORY, PLACE, PLACE_MARK
from ..objects.store import Extent, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...shared.wire import Place
    from ..objects.store import SpillFile, Store

__all__ = ["Lending"]

_MARK = bytes((PLACE_MARK,))
_MARSHALLED = (b"[", b"\xdb")  # how a marshalled list begins; no value does
_VALUES = (b"\x80", b"\x01", b"\x02")  # how any value begins that was sent


class _Garbage(Exception):  # noqa: N818  # no error of ours: somebody else has written there
    """What was read is not what a worker writes."""


class Lending:
    """The part of a handle that lends and grants."""

    _store: Store
    _room: dict[tuple[int, int], Extent | SpillFile]
    _loans: dict[int, list[Extent]]
    _kept: dict[int, Extent]

    def _lend(self, seq: int, values: Sequence[bytes | Stored]) -> list[bytes | Place]:
        """Say where stored values lie, and keep them there until the attempt has ended."""
        places: list[bytes | Place] = []
        for value in values:
            if isinstance(value, Stored):
                self._store.touch(value)
                extent, path = value.extent, value.path
                if extent is not None:
                    extent.lent += 1
                    self._loans.setdefault(seq, []).append(extent)
                    places.append((IN_MEMORY, extent.offset, value.size))
                    continue
                assert path is not None
                places.append((IN_FILE, path, value.size))
            else:
                places.append(value)
        return places

    def looks_at(self) -> list[Extent]:
        """The parts of the store that its process may look at, each once."""
        extents = [extent for loan in self._loans.values() for extent in loan]
        return list(dict.fromkeys((*extents, *self._kept.values())))

    def _end_loan(self, seq: int) -> None:
        for extent in self._loans.pop(seq, ()):
            extent.lent -= 1

    def _end_view(self, number: int) -> None:
        extent = self._kept.pop(number, None)
        if extent is not None:
            extent.lent -= 1

    def find_stored(self, payload: bytes) -> Any:
        """A result, with the values that were written to room granted before in their places.

        Raises _Garbage if it is none.
        """
        if payload[:1] not in _MARSHALLED:
            return self.find_value(payload)
        values = marshal.loads(payload)
        if type(values) is not list or not all(type(value) is bytes for value in values):
            raise _Garbage("values that are none")
        if self._room and any(value[:1] == _MARK for value in values):
            return [self.find_value(value) for value in values]
        return payload

    def find_value(self, payload: bytes) -> bytes | Stored:
        """The same where it can be one value only, or none."""
        mark = payload[:1]
        if mark == _MARK:
            return self._stored(payload)
        if mark and mark not in _VALUES:
            raise _Garbage(f"a value that begins with {mark!r}")
        return payload

    def _stored(self, place: bytes) -> Stored:
        _, kind, number, size = PLACE.unpack(place)
        room = self._room.pop((kind, number), None)
        if isinstance(room, Extent):
            if size > room.size:
                raise _Garbage("a value that is larger than the room for it")
            return self._store.adopt(size, room)
        if room is None:
            raise _Garbage("a value in a place that was not granted")
        return self._store.adopt_file(size, room)
