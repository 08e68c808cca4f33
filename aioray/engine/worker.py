"""One worker process as the driver holds it: its descriptors, and what can be done with them.

Room: shell. No policy: whoever calls decides. The driver's side of the channels described in
`aioray.wire`; reading never blocks, and what cannot be written at once waits in an outbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import mmap
import os
import signal
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from ..core.messages import Answer, Ended
from ..wire import (
    ANSWER,
    MAX_PACKET,
    PAGE,
    PAGE_DELIVERED,
    PAGE_INTERRUPT,
    PAGE_RUNNING,
    PAGE_SIZE,
    PAGE_STARTED,
    WorkerFds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.model import Task
    from .output import LineReader

__all__ = ["WorkerHandle"]

READ_SIZE = 64 * 1024  # bytes; larger reads would be allocated by mmap each time
ANSWERS_PIPE = 256 * 1024  # bytes; wished for, not needed
STACK_LIMIT = 64 * 1024  # bytes of a dying worker's stack that are read
ALIGN = 64  # bytes, of what lies in a memory file

_ENDED = tuple(Ended)  # in the order of wire.Status
_ASKED = Ended.ASKED_FOR_RETRY
_DOUBLE = struct.Struct("<d")


class WorkerHandle:
    """The driver's end of one worker, from before the fork until after the reaping."""

    def __init__(self, worker_id: int, hex_id: str) -> None:
        """Open all channels. Raises OSError, and leaves nothing open, if one cannot be had."""
        self.id = worker_id
        self.hex_id = hex_id
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.kill_ordered = False
        self.ready = False
        self.readers: list[LineReader] = []
        self._outbox: deque[tuple[bytes, int | None, list[int]]] = deque()
        self._chunks: list[bytes] = []  # of a frame that is not whole yet
        self._have = 0
        self._need = ANSWER.size
        with contextlib.ExitStack() as stack:

            def own(fd: int) -> int:
                stack.callback(os.close, fd)
                return fd

            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            stack.callback(theirs.close)
            ours.setblocking(False)
            claims_reader, claims_writer = map(own, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
            answers_reader, answers_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stdout_reader, stdout_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stderr_reader, stderr_writer = map(own, os.pipe2(os.O_CLOEXEC))
            for fd in (answers_reader, stdout_reader, stderr_reader):
                os.set_blocking(fd, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(answers_reader, fcntl.F_SETPIPE_SZ, ANSWERS_PIPE)
            bell = own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            page_fd = own(os.memfd_create("aioray-page"))
            os.ftruncate(page_fd, PAGE_SIZE)
            self.page = mmap.mmap(page_fd, PAGE_SIZE)
            stack.pop_all()
        self.bundles = ours
        self.claims_reader = claims_reader
        self.claims_writer: int | None = claims_writer
        self.answers = answers_reader
        self.bell = bell
        self.page_fd = page_fd
        self.stdout = stdout_reader
        self.stderr = stderr_reader
        self._theirs: socket.socket | None = theirs
        self._lent = (answers_writer, stdout_writer, stderr_writer)
        self.child_fds = WorkerFds(
            theirs.fileno(),
            claims_reader,
            answers_writer,
            bell,
            page_fd,
            stdout_writer,
            stderr_writer,
        )

    def release_child_fds(self) -> None:
        """Close what only the worker should have; called when the fork was asked for."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
            for fd in self._lent:
                os.close(fd)

    def close(self) -> None:
        """Close everything; the process is gone."""
        self.release_child_fds()
        self.bundles.close()
        for fd in (self.claims_reader, self.answers, self.bell, self.page_fd):
            os.close(fd)
        for fd in (self.stdout, self.stderr):
            os.close(fd)
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        for _, fd_or_none, _ in self._outbox:
            if fd_or_none is not None:
                os.close(fd_or_none)
        self._outbox.clear()
        self.page.close()

    # ------------------------------------------------------------ giving and taking back

    def send(self, tasks: Sequence[Task], values_of: Callable[[Any], list[bytes]]) -> bool:
        """Give attempts to the worker; False if a part has to wait until the socket takes more.

        values_of: the serialized values of a task's top-level refs.
        """
        codes: list[tuple[int, bytes]] = []
        known: set[int] = set()
        attempts: list[tuple[Any, ...]] = []
        seqs: list[int] = []
        size = 0
        for task in tasks:
            static, args, arguments, _ = task.payload
            values = values_of(arguments) if arguments else ()
            function = task.function
            weight = len(args) + 64
            for value in values:
                weight += len(value)
            code = None
            if function.key not in task.worker.functions and function.key not in known:  # type: ignore[union-attr]
                code = function.code
                weight += len(code)
            if attempts and size + weight > MAX_PACKET:
                self._post(marshal.dumps((codes, attempts)), None, seqs)
                codes, attempts, seqs, size = [], [], [], 0
            if code is not None:
                codes.append((function.key, code))
                known.add(function.key)
            head = (task.seq, function.key, task.number, task.attempt)
            if weight > MAX_PACKET:
                self._post(*_in_memory_file(codes, (*head, *static), args, values), [task.seq])
                codes, size = [], 0
                continue
            attempts.append((*head, *static, args, values))
            seqs.append(task.seq)
            size += weight
        if attempts:
            self._post(marshal.dumps((codes, attempts)), None, seqs)
        return not self._outbox

    def _post(self, packet: bytes, fd: int | None, seqs: list[int]) -> None:
        self._outbox.append((packet, fd, seqs))
        if len(self._outbox) == 1:
            self.flush()

    def flush(self) -> bool:
        """Send what waits; True if nothing is left."""
        outbox = self._outbox
        while outbox:
            packet, fd, seqs = outbox[0]
            try:
                if fd is None:
                    self.bundles.send(packet)
                else:
                    socket.send_fds(self.bundles, [packet], [fd])
                    os.close(fd)
            except OSError:
                # Full, or the worker is gone: its death will take these back.
                return False
            outbox.popleft()
            assert self.claims_writer is not None
            os.write(self.claims_writer, struct.pack(f"<{len(seqs)}Q", *seqs))
        return True

    def reclaim(self) -> list[int]:
        """Take back every attempt that the worker has not claimed. The kernel decides."""
        seqs: list[int] = []
        while True:
            try:
                data = os.read(self.claims_reader, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                break
            seqs.extend(struct.unpack(f"<{len(data) // 8}Q", data))
        for _, fd, waiting in self._outbox:
            seqs.extend(waiting)
            if fd is not None:
                os.close(fd)
        self._outbox.clear()
        return seqs

    # ------------------------------------------------------------ answers

    def silence_bell(self) -> None:
        """Take note of the bell."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def read_answers(self) -> list[Answer]:
        """What the worker has answered since the last call."""
        answers: list[Answer] = []
        while True:
            try:
                data = os.read(self.answers, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                break
            self._take(data, answers)
            if len(data) < READ_SIZE and not self._have:
                break
        return answers

    @property
    def in_mid_frame(self) -> bool:
        """Whether an answer has arrived in part: the rest will come without a bell."""
        return self._have > 0

    def _take(self, data: bytes, answers: list[Answer]) -> None:
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._have = 0
        position, end, header = 0, len(data), ANSWER.size
        while end - position >= header:
            length, seq, status, started, duration, delay = ANSWER.unpack_from(data, position)
            start = position + header
            if end - start < length:
                break
            position = start + length
            ended = _ENDED[status]
            answers.append(
                Answer(
                    seq,
                    ended,
                    data[start:position],
                    started,
                    duration,
                    delay if ended is _ASKED else None,
                )
            )
        if position < end:
            rest = data[position:]
            self._chunks.append(rest)
            self._have = len(rest)
            self._need = header
            if len(rest) >= header:
                self._need += ANSWER.unpack_from(rest)[0]

    # ------------------------------------------------------------ signals

    def interrupt(self, seq: int) -> None:
        """SIGINT for this attempt, unless its function has got it already."""
        if PAGE.unpack_from(self.page, PAGE_DELIVERED)[0] != seq:
            PAGE.pack_into(self.page, PAGE_INTERRUPT, seq)
            self._signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; if the process is not forked yet, as soon as it is."""
        self.kill_ordered = True
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let the worker come to its end: there will be no more claims."""
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None

    def kill_group(self) -> None:
        """Kill what the worker has started, when there is no template to do it."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    # ------------------------------------------------------------ what the page tells

    def running(self) -> tuple[int, float] | None:
        """The attempt that it works on and since when, or None."""
        seq: int = PAGE.unpack_from(self.page, PAGE_RUNNING)[0]
        started: float = _DOUBLE.unpack_from(self.page, PAGE_STARTED)[0]
        return (seq, started) if seq else None

    def python_stack(self) -> str:
        """What faulthandler wrote when a fatal signal came; empty if none did."""
        try:
            return os.pread(self.page_fd, STACK_LIMIT, PAGE_SIZE).decode(errors="replace").strip()
        except OSError:
            return ""


def _in_memory_file(
    codes: list[tuple[int, bytes]],
    head: tuple[Any, ...],
    args: bytes,
    values: Sequence[bytes],
) -> tuple[bytes, int]:
    """A bundle of one large attempt: the packet, and the memory file with its long strings."""
    fd = os.memfd_create("aioray-bundle")
    try:
        position = 0

        def lay(data: bytes) -> tuple[int, int]:
            nonlocal position
            position += -position % ALIGN
            start = position
            view = memoryview(data)
            while view:
                written = os.pwrite(fd, view, position)
                position += written
                view = view[written:]
            return start, len(data)

        places = [(key, lay(code)) for key, code in codes]
        attempt = (*head, lay(args) if args else b"", [lay(value) for value in values])
        return marshal.dumps((places, [attempt])), fd
    except BaseException:
        os.close(fd)
        raise
