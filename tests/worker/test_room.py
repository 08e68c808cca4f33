"""How much room for results a worker asks for, and when it gives back what it does not need."""

from __future__ import annotations

import mmap
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from aioray.client.current import execution_context
from aioray.shared.wire import ANSWER, IN_MEMORY, NOTE_UNUSED, PAGE_SIZE, PAIR, WorkerFds
from aioray.worker import loop as loop_module
from aioray.worker import orphans
from aioray.worker.loop import AHEAD, SOON_SECONDS, WorkerLoop

if TYPE_CHECKING:
    from aioray.shared.asks import Allocate

SIZE = 200_000


class Ends:
    """The driver's ends of a worker that is in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, page: mmap.mmap) -> None:
        monkeypatch.setattr(execution_context, "beat", None)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        claims, self.claims = os.pipe2(os.O_NONBLOCK)
        singles, self.singles = os.pipe2(os.O_NONBLOCK)
        self.answers, answers = os.pipe2(os.O_NONBLOCK)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        arena = os.memfd_create("arena")
        os.truncate(arena, 1 << 20)
        fds = WorkerFds(theirs.detach(), claims, answers, self.bell, -1, arena, -1, -1, -1, singles)
        self.worker = WorkerLoop(fds, page)
        self.worker.title = self.worker.idle
        self.poll = select.poll()
        self.poll.register(singles, select.POLLIN)
        self.asked: list[int] = []
        monkeypatch.setattr(self.worker.channel, "ask", self._asked)
        monkeypatch.setattr(orphans.family, "reap", lambda: 0.0)  # look again at once
        self._fds = (claims, self.claims, singles, self.singles, self.answers, answers, arena)

    def _asked(self, _seq: int, ask: Allocate) -> list[tuple[int, int, int]]:
        self.asked.append(ask.more)
        return [(IN_MEMORY, 0, ask.size)]

    def close(self) -> None:
        self.socket.close()
        self.worker.channel.bundles.close()
        for fd in (*self._fds, self.bell):
            os.close(fd)


@pytest.fixture
def ends(monkeypatch):
    with mmap.mmap(-1, PAGE_SIZE) as page:
        ends = Ends(monkeypatch, page)
        yield ends
        ends.close()


def test_who_asks_for_room_again_soon_asks_for_more(ends, monkeypatch):
    times = iter([100.0, 100.0 + SOON_SECONDS / 2, 100.0 + 3 * SOON_SECONDS])
    monkeypatch.setattr(loop_module, "_monotonic", lambda: next(times))
    for _ in range(3):
        ends.worker.want_room(SIZE)
    assert ends.asked == [0, AHEAD, 0]


def test_room_ahead_is_kept_while_there_is_work_and_given_back_after(ends):
    ends.worker.objects.spare = [(IN_MEMORY, 4096, SIZE)]
    os.write(ends.singles, b"an attempt")
    assert ends.worker._wait(ends.poll)
    assert ends.worker.objects.spare == [(IN_MEMORY, 4096, SIZE)]
    os.read(ends.worker.channel.singles, 100)
    assert not ends.worker._wait(ends.poll)
    assert ends.worker.objects.spare == []
    frame = os.read(ends.answers, 1000)
    length, _, kind, *_ = ANSWER.unpack_from(frame)
    assert (kind, frame[ANSWER.size :]) == (NOTE_UNUSED, PAIR.pack(IN_MEMORY, 4096))
    assert length == PAIR.size
    assert os.eventfd_read(ends.bell) == 1
