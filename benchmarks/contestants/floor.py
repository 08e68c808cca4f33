"""What the machine itself takes, without any engine: processes, socket pairs and pickle."""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import socket
import time
from typing import TYPE_CHECKING

from benchmarks import tasks
from benchmarks.contestants.base import Contestant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGE = b"x" * 100  # bytes; about what a small task and its result take
CALIBRATION_RUNS = 50
BUNDLE = 32  # tasks in one message of `batch`
MESSAGE_SIZE = 64 * 1024  # bytes; more than a bundle takes


class Floor(Contestant):
    """Has a process at the other end of a socket pair that sends back what it gets."""

    def open(self) -> None:
        self._stack = contextlib.ExitStack()
        self._near = self._stack.enter_context(_peer(_send_back))

    def version(self) -> str:
        return platform.python_version()

    def batch(self, count: int) -> float:
        """Bundles of pickled arguments there, of pickled results back; one bundle ahead."""
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(_peer(_run_bundles)) for _ in range(self.workers)]
            for peer in peers:
                peer.recv(1)  # it is ready
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

        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(_peer(compute)) for _ in range(self.workers)]
            for peer in peers:
                peer.recv(1)  # it is ready
            start = time.perf_counter()
            for peer in peers:
                peer.send(b"g")
            for peer in peers:
                peer.recv(1)  # it is done
            return time.perf_counter() - start


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
