"""What attempts that run side by side have in the store, each for itself."""

from __future__ import annotations

import contextlib
import os

import pytest

from aioray.shared.serialization import Pieces
from aioray.shared.wire import IN_MEMORY, NOTE_KEPT, PAIR
from aioray.worker.objects import AttemptHandles, LocalObjects


class Channel:
    """Remembers what it was told."""

    def __init__(self):
        self.notes = []
        self.released = []

    def note(self, kind, payload, seq=0):
        self.notes.append((kind, seq, [offset for offset, _ in PAIR.iter_unpack(payload)]))

    def release(self, number):
        self.released.append(number)

    @contextlib.contextmanager
    def uninterrupted(self):
        yield


@pytest.fixture
def objects():
    fd = os.memfd_create("arena")
    os.truncate(fd, 1 << 16)
    rooms = iter([(IN_MEMORY, offset, 64) for offset in (0, 4096, 8192)])
    yield LocalObjects(fd, Channel(), lambda _size: [next(rooms)])
    os.close(fd)


def test_views_are_told_with_the_attempt_that_got_them(objects):
    first, second = AttemptHandles(), AttemptHandles()
    views = [
        objects.open((IN_MEMORY, 0, 64), first),
        objects.open((IN_MEMORY, 4096, 64), second),
        objects.open((IN_MEMORY, 0, 64), second),
    ]
    objects.tell_kept(1, first)
    objects.tell_kept(2, second)
    assert objects._channel.notes == [(NOTE_KEPT, 1, [0]), (NOTE_KEPT, 2, [4096, 0])]
    assert objects._channel.released == []
    views.clear()
    assert len(objects._channel.released) == 2


def test_attempt_that_fails_gives_back_its_own_room_only(objects):
    first, second = AttemptHandles(), AttemptHandles()
    pieces = Pieces((b"x" * 64,), 64)
    objects.keep_result(pieces, first)
    objects.keep_result(pieces, second)
    objects.failed(second)
    assert objects.spare == [(IN_MEMORY, 4096, 64)]
    assert first.written == [(IN_MEMORY, 0, 64)]
    objects.keep_result(pieces, second)  # in the room that it has given back
    assert second.written == [(IN_MEMORY, 4096, 64)]
    assert objects.spare == []
