"""What the machine itself takes, without any engine: processes, socket pairs, pickle and memcpy.

Arrays go through anonymous memory that is shared with forked processes, and warm: before the clock
starts, everybody who uses it has it mapped, and all its pages exist.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import platform
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.contestants.base import Contestant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGE = b"x" * 100  # bytes; about what a small task and its result take
CALIBRATION_RUNS = 50
BUNDLE = 32  # tasks in one message of `batch`
MESSAGE_SIZE = 64 * 1024  # bytes; more than a bundle takes
_TOTAL = struct.Struct("d")


class Floor(Contestant):
    """Has a process at the other end of a socket pair that sends back what it gets."""

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        self._near = self._stack.enter_context(_peer(_send_back))
        self._memory: mmap.mmap | None = None
        self._fresh_memory: mmap.mmap | None = None

    def version(self) -> str:
        return platform.python_version()

    def batch(self, count: int) -> float:
        """Bundles of pickled arguments there, of pickled results back; one bundle ahead."""
        with self._peers(_run_bundles) as peers:
            start = time.perf_counter()
            results: list[int] = []
            waiting: list[socket.socket] = []
            for number, first in enumerate(range(0, count, BUNDLE)):
                peer = peers[number % self.workers]
                peer.send(pickle.dumps(list(range(first, min(first + BUNDLE, count)))))
                waiting.append(peer)
                if len(waiting) > 2 * self.workers:
                    results += pickle.loads(waiting.pop(0).recv(MESSAGE_SIZE))
            for peer in waiting:
                results += pickle.loads(peer.recv(MESSAGE_SIZE))
            seconds = time.perf_counter() - start
        assert results[-1] == count
        return seconds

    def warm_up(self) -> None:
        self.round_trips(100)

    def close(self) -> None:
        self._stack.close()

    def round_trips(self, count: int) -> list[float]:
        """There and back, on the processors that the kernel chooses."""
        return _there_and_back(self._near, count)

    def round_trips_apart(self, count: int) -> list[float]:
        """The same with the two processes held on different processors."""
        allowed = os.sched_getaffinity(0)
        here, *elsewhere = sorted(allowed)

        def send_back_elsewhere(far: socket.socket) -> None:
            os.sched_setaffinity(0, elsewhere or allowed)
            _send_back(far)

        os.sched_setaffinity(0, {here})
        try:
            with _peer(send_back_elsewhere) as near:
                return _there_and_back(near, count)
        finally:
            os.sched_setaffinity(0, allowed)

    def calibrate(self, milliseconds: float) -> int:
        """How many iterations of `burn` take this long, now, at best."""
        iterations = 1000
        best = min(_timed(iterations) for _ in range(CALIBRATION_RUNS))
        return max(1, round(iterations * milliseconds / 1000 / best))

    def burns(self, count: int, iterations: int) -> float:
        """The work of `count` tasks, shared evenly among processes that do nothing else."""
        share = count // self.workers

        def compute(far: socket.socket) -> None:
            far.send(b"r")
            far.recv(1)
            for _ in range(share):
                tasks.burn(iterations)
            far.send(b"d")

        with self._peers(compute) as peers:
            start = time.perf_counter()
            for peer in peers:
                peer.send(b"g")
            for peer in peers:
                peer.recv(1)  # it is done
            return time.perf_counter() - start

    def share(self, megabytes: int, count: int) -> float:
        """One copy of an array, which processes sum so many times."""
        return self._copy_and_sum(megabytes, count, copies=1)

    def pass_directly(self, megabytes: int, count: int) -> float:
        """A copy of the array for each sum, in a place of its own."""
        return self._copy_and_sum(megabytes, count, copies=count)

    def _copy_and_sum(self, megabytes: int, count: int, *, copies: int) -> float:
        array = tasks.ones(megabytes)
        places = self._places(copies, array.size)

        def add_up(far: socket.socket) -> None:
            places.sum()
            far.send(b"r")
            while message := far.recv(1):
                far.send(_TOTAL.pack(tasks.total(places[message[0]])))

        with self._peers(add_up) as peers:
            start = time.perf_counter()
            for i in range(count):
                if i < copies:
                    places[i] = array
                peers[i % self.workers].send(bytes([i % copies]))
            answers = [peers[i % self.workers].recv(_TOTAL.size) for i in range(count)]
            seconds = time.perf_counter() - start
        assert b"".join(answers) == count * _TOTAL.pack(array.size)
        return seconds

    def return_arrays(self, megabytes: int, count: int) -> float:
        """Processes make arrays and copy each to where this one looks at its ends."""
        places = self._places(count, tasks.ones(megabytes).size)

        def make(far: socket.socket) -> None:
            places[:] = 0
            far.send(b"r")
            while message := far.recv(1):
                places[message[0]] = tasks.ones(megabytes)
                far.send(message)

        with self._peers(make) as peers:
            start = time.perf_counter()
            for i in range(count):
                peers[i % self.workers].send(bytes([i]))
            made = [peers[i % self.workers].recv(1)[0] for i in range(count)]
            ends = [tasks.sum_of_ends(places[i]) for i in made]
            seconds = time.perf_counter() - start
        assert ends == [2] * count
        return seconds

    def put_and_get_many(self, count: int) -> float:
        """This process copies a block to so many places, one after the other."""
        block = tasks.numbered_block(0)
        places = self._places(count, block.size)
        start = time.perf_counter()
        for i in range(count):
            block[0] = i
            places[i] = block
            assert places[i][0] == i
        return time.perf_counter() - start

    def return_many(self, count: int) -> float:
        """The same: whoever makes the blocks, these are the bytes that have to be moved."""
        return self.put_and_get_many(count)

    def put_one(self, megabytes: int) -> float:
        """Copy an array to new memory; from the second time on, to the same place."""
        import numpy as np

        array = tasks.ones(megabytes)
        if self._fresh_memory is None:
            self._fresh_memory = mmap.mmap(-1, array.nbytes)
        place = np.frombuffer(self._fresh_memory)
        start = time.perf_counter()
        place[:] = array
        seconds = time.perf_counter() - start
        assert tasks.sum_of_ends(place) == 2
        return seconds

    def _places(self, count: int, size: int) -> Any:
        """Shared memory for so many arrays of so many floats, all of it mapped here and cleared."""
        import numpy as np

        total = count * size * 8
        if self._memory is None or len(self._memory) < total:
            self._memory = mmap.mmap(-1, total)
        places = np.frombuffer(self._memory, count=count * size).reshape(count, size)
        places[:] = 0
        return places

    @contextlib.contextmanager
    def _peers(self, work: Callable[[socket.socket], None]) -> Iterator[list[socket.socket]]:
        """A process for each worker, all of which have said that they are ready."""
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(_peer(work)) for _ in range(self.workers)]
            for peer in peers:
                peer.recv(1)
            yield peers


@contextlib.contextmanager
def _peer(work: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A process that works at the other end of a socket pair, and ends when ours is closed."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        near.close()
        _exit_after(lambda: work(far))
    far.close()
    try:
        yield near
    finally:
        near.close()
        os.waitpid(pid, 0)


def _run_bundles(far: socket.socket) -> None:
    far.send(b"r")
    while bundle := far.recv(MESSAGE_SIZE):
        far.send(pickle.dumps([tasks.add_one(i) for i in pickle.loads(bundle)]))


def _exit_after(work: Callable[[], None]) -> None:
    """End of a forked child: nothing of the parent's clean-up may run in it."""
    try:
        work()
    finally:
        os._exit(0)


def _there_and_back(near: socket.socket, count: int) -> list[float]:
    taken = []
    clock = time.perf_counter
    for _ in range(count):
        start = clock()
        near.send(MESSAGE)
        near.recv(len(MESSAGE))
        taken.append(clock() - start)
    return taken


def _send_back(far: socket.socket) -> None:
    while message := far.recv(len(MESSAGE)):
        far.send(message)


def _timed(iterations: int) -> float:
    start = time.perf_counter()
    tasks.burn(iterations)
    return time.perf_counter() - start
