"""A worker's side of its channels to the driver: frames out, packets in, questions and replies.

Room: worker. Any thread of a task may ask the driver something; one frame is written at a time, and
one thread reads while the others wait for what it finds. There is no reader thread as long as
nobody waits in an event loop, because a hand-over between threads costs more than a small task.
Where an actor runs its calls in other threads, its main thread is the only one that reads
(`read_for_all`).

Interrupts are held off while frames are handled, and let through only while a thread sleeps
(`Interrupts.hold`, `release`): a frame is always whole, and a task that waits can be interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ..shared import packets
from ..shared.wire import (
    ANSWER,
    LONGEST_FRAME,
    NOTE_ASKED,
    NOTE_REFS,
    NOTE_RELEASED,
    NUMBER,
    SINGLE,
    ActorCallInfo,
    note_frame,
)
from .arrivals import die, die_of_loss, unpack_bundle, unpack_single

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..shared.asks import Ask
    from ..shared.wire import Attempt, WorkerFds
    from .interrupts import Interrupts

__all__ = ["Channel", "TimeIsOver"]

LOST_SECONDS = 10.0  # that an attempt is waited for which was sent before its claim
LOOK_MS = 100  # between two looks for it

_MAKES = ActorCallInfo._fields.index("creation")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_monotonic = time.monotonic
_write = os.write  # user code sees another, see `output`


class TimeIsOver(Exception):  # noqa: N818  # no error: the asker says what it means
    """No reply came in time."""


class Channel:
    """What one worker says and hears."""

    def __init__(self, fds: WorkerFds, interrupts: Interrupts) -> None:
        self.bundles = socket.socket(fileno=fds.bundles)
        self.queue: deque[Attempt] = deque()  # received, and not claimed yet
        self.code: dict[int, Any] = {}  # bytes until first use, by function key
        self.known: set[int] = set()  # keys of functions whose code was loaded
        self.unrung_bytes, self.unrung_since = 0, 0.0
        self.unload: Callable[[int], None] = self.known.discard  # forgets a function, by its key
        self.cancelled: set[int] = set()  # seqs of calls of which the driver has said so
        self.cancel: Callable[[int], None] | None = None  # called when it says so
        self.is_watched = False  # the driver looks at the answers: what was claimed is a single
        self.singles = fds.singles
        self._answers = fds.answers
        # Answers of this size together are announced: the pipe must not fill up.
        self._ring_bytes = fcntl.fcntl(fds.answers, fcntl.F_GETPIPE_SZ) // 2
        self._doorbell = fds.doorbell
        self._interrupts = interrupts
        self._poll = select.poll()
        self._poll.register(self.bundles, select.POLLIN)
        self._writing = threading.Lock()
        self._guard = threading.Lock()  # of what follows; never held for long, nor interrupted
        self._reading = False  # a thread reads packets
        self._reads_for_all = False  # and no other than the main thread will
        # What those threads wait for that do not read, and locks that wake them.
        self._waiting: list[tuple[Callable[[], bool], Any]] = []
        self._requests = itertools.count(1)
        self._replies: dict[int, Any] = {}  # by request; _OPEN until it comes
        self._watchers: dict[int, Callable[[int, Any], None]] = {}  # by request
        self._watching = False  # there is a thread that reads for them
        # Noted by finalizers, in any thread at any moment, and sent before whatever comes next.
        self._refs: deque[bytes] = deque()  # HELD or LET_GO, and the id
        self._released: deque[int] = deque()  # views
        self._later: deque[Callable[[], bytes]] = deque()  # each makes a frame, or nothing
        self._is_forked_copy = False  # this is a copy in a forked process

    def after_fork_in_child(self) -> None:
        """Be silent from now on, in a copy of this in a process that a task has forked."""
        self._is_forked_copy = True
        self._writing = threading.Lock()  # the other may be held by a thread that is not here

    # ------------------------------------------------------------ saying

    def write(self, frame: bytes) -> None:
        """Put a frame into the answers pipe, where it is safe; the doorbell comes later."""
        if self._is_forked_copy:
            raise RuntimeError(
                "A process that a task has forked cannot use aioray: it shares the channels of its "
                "parent. Submit a task instead, or start an interpreter of its own (spawn)."
            )
        with self._writing:
            if self._refs or self._released or self._later:
                self._write_news()
            self._write(frame)

    def note(self, kind: int, payload: bytes, seq: int = 0) -> None:
        """Tell the driver something that is no answer."""
        self.write(note_frame(kind, payload, seq))

    def ring(self) -> None:
        """Tell the driver that there is something to read, unless it sees that."""
        if not self.is_watched:
            self.unrung_bytes = 0
            os.eventfd_write(self._doorbell, 1)

    def _write(self, frame: bytes) -> None:
        size = len(frame)
        if self.unrung_bytes + size > self._ring_bytes:
            if size > LONGEST_FRAME:
                raise ValueError(
                    f"A message of {size:,} bytes cannot be sent to the driver, as the limit is "
                    f"{LONGEST_FRAME:,}. Values of more than 100 KB do not count: return, or pass, "
                    f"fewer and larger ones."
                )
            # The header first: a driver that has seen a part of a frame reads on without a ring.
            # Rung before anything was written, it could look, find nothing, and never look again.
            view = memoryview(frame)
            view = view[_write(self._answers, view[: ANSWER.size]) :]
            self.ring()
            while view:
                view = view[_write(self._answers, view) :]
        else:
            _write(self._answers, frame)
        if not self.unrung_bytes:
            self.unrung_since = _monotonic()
        self.unrung_bytes += size

    # ------------------------------------------------------------ refs and views

    def hold(self, identifier: bytes) -> None:
        """Note that a ref to this object was found, which the driver does not know of."""
        self._refs.append(identifier)

    def let_go(self, identifier: bytes) -> None:
        """Note that a ref to an object, found or made here, is gone. For finalizers."""
        self._refs.append(identifier)
        self.tell_soon()

    def release(self, number: int) -> None:
        """Note that a view that the driver was told of is gone. For finalizers."""
        self._released.append(number)
        self.tell_soon()

    def tell_later(self, ask: Ask) -> None:
        """Ask for something that gets no reply, with what is said next. For finalizers."""
        self.note_later(lambda: note_frame(NOTE_ASKED, _asks().pack(0, ask), 0))

    def note_later(self, make: Callable[[], bytes]) -> None:
        """Send the frame that `make` returns then, if any, before whatever is said next."""
        self._later.append(make)

    def tell_soon(self) -> None:
        """Tell the driver now what finalizers have noted, unless another thread is writing."""
        held = self._interrupts.hold()
        try:
            # If somebody writes, that one says it, or the next one.
            if not self._is_forked_copy and self._writing.acquire(blocking=False):
                try:
                    self._write_news()
                    self.ring()
                finally:
                    self._writing.release()
        finally:
            self._interrupts.release(held)

    def tell_news(self) -> None:
        """Tell the driver what finalizers have noted, if there is something."""
        if self._refs or self._released or self._later:
            with self._writing:
                self._write_news()

    def _write_news(self) -> None:
        refs, released = self._refs, self._released
        if refs:
            count = len(refs)
            self._write(note_frame(NOTE_REFS, b"".join([refs.popleft() for _ in range(count)]), 0))
        for _ in range(len(self._later)):  # one that has nothing to say now may come again
            frame = self._later.popleft()()
            if frame:
                self._write(frame)
        if released:
            count = len(released)
            numbers = [NUMBER.pack(released.popleft()) for _ in range(count)]
            self._write(note_frame(NOTE_RELEASED, b"".join(numbers), 0))

    # ------------------------------------------------------------ asking

    def send(self, seq: int, ask: Ask) -> None:
        """Ask for something that gets no reply."""
        held = self._interrupts.hold()
        try:
            self.note(NOTE_ASKED, _asks().pack(0, ask), seq)
        finally:
            self._interrupts.release(held)

    def begin(self, seq: int, ask: Ask, watcher: Any = None) -> int:
        """Ask for something, and go on; return the number of the request.

        watcher: called with the number and the reply, in whatever thread; None: `finish` takes it.
        """
        held = self._interrupts.hold()
        try:
            request = next(self._requests)
            if watcher is None:
                self._replies[request] = _OPEN
            else:
                self._watchers[request] = watcher
            self.note(NOTE_ASKED, _asks().pack(request, ask), seq)
            self.ring()
            if watcher is not None:
                self._watch()
        finally:
            self._interrupts.release(held)
        return request

    def finish(
        self,
        seq: int,
        request: int,
        deadline: float | None = None,
        take: Callable[[int, Any], None] | None = None,
    ) -> Any:
        """Wait for the reply to a request. Raises TimeIsOver: then it can be waited for again.

        take: called with the number and the reply, before anything can interrupt.
        """
        held = self._interrupts.hold()
        try:
            if not self._pump(lambda: self._replies.get(request) is not _OPEN, deadline, held):
                raise TimeIsOver
            body = self._replies.pop(request)
            if take is not None:
                take(request, body)
        except TimeIsOver:
            raise
        except BaseException:
            self.forget(seq, request)
            raise
        else:
            return body
        finally:
            self._interrupts.release(held)

    def ask(self, seq: int, ask: Ask) -> Any:
        """Ask for something and wait for the reply."""
        return self.finish(seq, self.begin(seq, ask))

    def forget(self, seq: int, request: int) -> None:
        """Forget a request: its reply is not wanted any more."""
        waited_for = self._replies.pop(request, None) is not None
        if waited_for or self._watchers.pop(request, None) is not None:
            self.send(seq, _asks().Forget(request))
            self.ring()
        # Else its watcher is being called, and says what it has got: that must stand.

    def ignore(self, request: int) -> None:
        """Drop the reply of a request when it comes. For finalizers."""
        self._replies.pop(request, None)

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """Hold off interrupts, so that several steps are one."""
        held = self._interrupts.hold()
        try:
            yield
        finally:
            self._interrupts.release(held)

    def _watch(self) -> None:
        """See to it that somebody reads while nobody waits in `finish`."""
        with self._guard:
            if self._watching or self._reads_for_all:
                return
            self._watching = True
        threading.Thread(target=self._keep_watch, name="aioray-replies", daemon=True).start()

    def _keep_watch(self) -> None:
        while True:
            self._pump(lambda: not self._watchers, None, 0)
            with self._guard:
                if not self._watchers:
                    self._watching = False
                    return

    # ------------------------------------------------------------ hearing

    def take_single(self) -> Attempt | None:
        """Claim the attempt that was sent alone; None if the driver has taken it back."""
        try:
            packet = os.read(self.singles, SINGLE)
        except BlockingIOError:
            packet = b""
        if not packet:  # as at the end
            return None
        codes, attempt = unpack_single(packet)
        self.unrung_bytes = 0  # the driver has begun to look
        self.is_watched = True
        self._take(codes)
        key, role = attempt.function, attempt.role
        has_code = role is None or role[_MAKES] is not None
        if has_code and key not in self.known and key not in self.code:
            self.drain_socket()  # its code came with attempts that were taken back
        return attempt

    def take_attempt(self, seq: int) -> Attempt:
        """Return the attempt with this number. What stands before it was reclaimed by the driver.

        If there is none the process ends: somebody else has written to the claims, or has read what
        belongs to them.
        """
        queue = self.queue
        deadline = 0.0
        self.is_watched = False
        while True:
            while queue:
                attempt = queue.popleft()
                if attempt.seq == seq:
                    return attempt
            # It was sent before its number: it is there, unless another thread has just read it.
            if self.read_if_free():
                continue
            now = _monotonic()
            deadline = deadline or now + LOST_SECONDS
            if now > deadline:
                die(f"attempt {seq} was claimed, and never came")
            if self._reads_for_all:
                self._poll.poll(LOOK_MS)
            else:
                self._pump(lambda: bool(queue), deadline, 0)

    def _pump(self, done: Callable[[], bool], deadline: float | None, held: int) -> bool:
        """Read packets, or let another thread do it, until `done`; return False if time is over.

        held: what may be interrupted while this thread sleeps, see `Interrupts.hold`.
        """
        while not done():
            left = None
            if deadline is not None:
                left = min(deadline - _monotonic(), 1e6)  # seconds; poll cannot count many more
                if left <= 0:
                    return False
            self._read_or_wait(done, left, held)
        return True

    def _read_or_wait(self, done: Callable[[], bool], left: float | None, held: int) -> None:
        turn, readable = None, False
        with self._guard:
            if done():
                return
            if self._reading or self._reads_for_all:
                turn = threading.Lock()
                turn.acquire()
                self._waiting.append((done, turn))
            else:
                self._reading = True
        try:
            try:
                self._interrupts.release(held)
                if turn is not None:
                    turn.acquire(timeout=-1 if left is None else left)
                else:
                    readable = bool(self._poll.poll(None if left is None else left * 1000))
            finally:
                self._interrupts.hold()
            if readable:
                self._receive()
        finally:
            if turn is None:
                self._stop_reading()

    def read_if_free(self) -> bool:
        """Read a packet if there is one, unless another thread is about to; tell if one was read.

        Never blocks: that thread may have read what was there, and have ended, just now.
        """
        with self._guard:
            if self._reading:
                return False
            self._reading = True
        try:
            self._receive(_DONTWAIT)
        except BlockingIOError:
            return False
        finally:
            self._stop_reading()
        return True

    def read_for_all(self, *, begin: bool = True) -> None:
        """Promise that this thread calls `read_if_free` whenever there is something to read.

        Then other threads wait until it has. One that reads already reads one more packet.
        begin: False ends that.
        """
        with self._guard:
            self._reads_for_all = begin

    def has_cancelled(self, seq: int) -> bool:
        """Return whether the driver has said so far that this call, which runs, is cancelled."""
        if not self._reads_for_all:
            self.drain_socket()
        return seq in self.cancelled

    def drain_socket(self) -> None:
        """Read all packets that are there, unless another thread is about to."""
        with self.uninterrupted():
            while self.read_if_free():
                pass

    def _stop_reading(self) -> None:
        woken: list[tuple[Callable[[], bool], Any]] = []
        with self._guard:
            self._reading = False
            if self._reads_for_all:
                still: list[tuple[Callable[[], bool], Any]] = []
                for each in self._waiting:
                    (woken if each[0]() else still).append(each)
                self._waiting = still
            else:  # one of them has to go on reading
                woken, self._waiting = self._waiting, []
        for _, turn in woken:
            turn.release()

    def _receive(self, flags: int = 0) -> None:
        """Read one message: a bundle or a reply. If it is lost the process ends."""
        try:
            message, _, area = packets.receive(self.bundles, 0, flags)
            if message is None:
                os._exit(0)  # the driver is gone
            if len(message) == 1:
                self._take_news(message[0])
                return
            first, second = message
            if type(first) is not int:
                self._bundle(first, second, area)
                return
        except BlockingIOError:
            raise
        except Exception as error:  # noqa: BLE001 - nobody else would ever say that it was lost
            die_of_loss("a message to this worker", error)
        self._reply(first, second)

    def _take_news(self, news: list[int] | int) -> None:
        """Forget functions that are not needed any more, or note that a call is cancelled."""
        if isinstance(news, int):
            self.cancelled.add(news)
            if self.cancel is not None:
                self.cancel(news)
            return
        for key in news:
            self.code.pop(key, None)
            self.unload(key)

    def _reply(self, request: int, body: Any) -> None:
        watcher = self._watchers.pop(request, None)
        if watcher is not None:
            watcher(request, body)
        elif request in self._replies:  # else it came too late
            self._replies[request] = body

    def _bundle(self, codes: Any, attempts: Any, area: memoryview | None) -> None:
        codes, unpacked = unpack_bundle(codes, attempts, area)
        self._take(codes)
        self.queue.extend(unpacked)

    def _take(self, codes: Any) -> None:
        self.code.update(each for each in codes if each[0] not in self.known)


_OPEN = object()  # stands where a reply will


@functools.cache
def _asks() -> Any:
    """Load what can be asked: the template does that when it has time, few workers before."""
    from ..shared import asks

    return asks
