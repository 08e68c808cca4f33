"""One worker process as the driver holds it: its descriptors, and what can be done with them.

Room: engine. No policy: whoever calls decides. The driver's side of the channels described in
`aioray.shared.wire`; reading never blocks, and what cannot be written at once waits in an outbox.

It holds the parts of the store that its process may look at, until that has answered and let go of
its views, or is dead; and those it may write a result to, until the answer says what was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from ...shared import linux
from ...shared.packets import MAX_PACKET, Enclosure, pack, send
from ...shared.wire import (
    ANSWER,
    CLAIM,
    GOT,
    IN_FILE,
    IN_MEMORY,
    PAGE_SIZE,
    WorkerFds,
)
from ..objects.store import Extent, Stored
from .control import STACK_LIMIT, Control
from .inbound import READ_SIZE, Inbound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...shared.wire import Place
    from ..objects.store import SpillFile, Store
    from .output import LineReader

__all__ = ["WorkerHandle"]

ANSWERS_PIPE = 256 * 1024  # bytes; wished for, not needed


class WorkerHandle(Inbound, Control):
    """The driver's end of one worker, from before the fork until after the reaping."""

    def __init__(self, worker_id: int, hex_id: str, store: Store) -> None:
        """Open all channels. Raises OSError, and leaves nothing open, if one cannot be had."""
        self.id = worker_id
        self.hex_id = hex_id
        self.closed = False
        # What CUDA_VISIBLE_DEVICES of its own environment calls the GPUs, if that sets it.
        self.gpu_names: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None
        self._codes: set[int] = set()  # keys of functions whose code was sent
        self._store = store
        self._room: dict[tuple[int, int], Extent | SpillFile] = {}  # granted; by kind and number
        self._loans: dict[int, list[Extent]] = {}  # by seq: what the attempt may look at
        self._kept: dict[int, Extent] = {}  # by number: what views of the worker look at
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.kill_ordered = False
        self.ready = False
        self.discarded = ""  # why it was killed: it cannot be worked with
        self.expects: Callable[[int], bool] = bool  # whether an attempt has no answer yet
        self._nudged = False  # the worker was told to read, as its socket is full
        self._measures = False  # user code in it has done so
        self._yielded: set[int] = set()  # seqs of attempts that have told of values before the end
        self._saved: dict[int, Any] = {}  # by seq: states of an actor, until the call is answered
        self.readers: list[LineReader] = []
        self._outbox: deque[tuple[bytes, Enclosure | None, list[int]]] = deque()
        self._claims = b""  # of what was sent, for which the pipe had no room
        self.trouble: OSError | None = None  # why the first in the outbox could not be sent
        self.tries = 0  # of that
        self._troubled: Any = None  # the one that was tried
        self.fault = ""  # what there was in a pipe that no worker writes
        self.deaf = False  # answers cannot be told from garbage any more
        self._ended = False  # the answers pipe has no writer
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
            ours.shutdown(socket.SHUT_RD)  # who writes there gets an error, and does not wait
            claims_reader, claims_writer = map(own, os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK))
            answers_reader, answers_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stdout_reader, stdout_writer = map(own, os.pipe2(os.O_CLOEXEC))
            stderr_reader, stderr_writer = map(own, os.pipe2(os.O_CLOEXEC))
            for fd in (answers_reader, stdout_reader, stderr_reader):
                os.set_blocking(fd, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(answers_reader, fcntl.F_SETPIPE_SZ, ANSWERS_PIPE)
            bell = own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            # Of a fixed size: the driver would die of looking at a page that was cut off.
            page_fd = own(linux.sealed_memory_file("aioray-page", PAGE_SIZE + STACK_LIMIT))
            stacks_fd = own(os.memfd_create("aioray-stacks"))
            fcntl.fcntl(stacks_fd, fcntl.F_SETFL, os.O_APPEND)  # the worker's end is the same file
            self.page = mmap.mmap(page_fd, PAGE_SIZE)
            stack.pop_all()
        self.bundles = ours
        self.claims_reader = claims_reader
        self.claims_writer: int | None = claims_writer
        self.answers = answers_reader
        self.bell = bell
        self.page_fd = page_fd
        self.stacks_fd = stacks_fd
        self._stack_is_due = False  # asked for, and not seen whole
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
            store.arena.fd,
            stdout_writer,
            stderr_writer,
            stacks_fd,
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
        self.closed = True
        for seq in tuple(self._loans):
            self._end_loan(seq)
        for number in tuple(self._kept):
            self._end_view(number)
        self._room.clear()
        self.release_child_fds()
        self.bundles.close()
        for fd in (self.claims_reader, self.answers, self.bell, self.page_fd, self.stacks_fd):
            os.close(fd)
        for fd in (self.stdout, self.stderr):
            os.close(fd)
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        for _, enclosure, _ in self._outbox:
            if enclosure is not None:
                enclosure.close()
        self._outbox.clear()
        self._troubled = None
        self.page.close()
        if self._measures:
            from ...shared.meters import board

            board.drop(self.hex_id)

    # ------------------------------------------------------------ giving and taking back

    def send(
        self, tasks: Sequence[Task], values_of: Callable[[Any], list[bytes | Stored] | None]
    ) -> list[Task]:
        """Give attempts to the worker, and return those for which a value is missing.

        values_of: the values of a task's top-level refs; None if one is lost. If a part has to wait
        until the socket takes more, `is_waiting` is true afterwards.
        """
        codes: list[tuple[int, bytes]] = []
        known: set[int] = set()
        attempts: list[tuple[Any, ...]] = []
        seqs: list[int] = []
        missing: list[Task] = []
        size = 0
        worker = tasks[0].worker
        assert worker is not None
        devices, functions = worker.devices, worker.functions
        if devices and self.gpu_names is not None:
            devices = self.gpu_names(devices)
        for task in tasks:
            args, arguments = task.payload, task.arguments
            values: Sequence[Any] = ()
            weight = 64
            if arguments or type(args) is not bytes:
                found = values_of(arguments) if arguments else []
                if found is None:
                    missing.append(task)
                    continue
                args, *values = self._lend(task.seq, (args, *found))
                weight += sum(len(value) + 8 for value in values if type(value) is bytes)
            if type(args) is bytes:
                weight += len(args)
            function = task.function
            code = None
            if function.key not in functions and function.key not in known:
                code = function.code
                if code is not None:  # else it is a method, which the actor has
                    weight += len(code)
            if attempts and size + weight > MAX_PACKET:
                self._post((codes, attempts), seqs)
                codes, attempts, seqs, size = [], [], [], 0
            if code is not None:
                codes.append((function.key, code))
                self._codes.add(function.key)
                known.add(function.key)
            head = (task.seq, function.key, task.label, task.attempt, devices)
            if weight > MAX_PACKET:
                enclosure = Enclosure()
                place = enclosure.place
                attempt = head + task.spec + (place(args), [place(value) for value in values])
                message = [(key, place(code)) for key, code in codes], [attempt]
                self._post(message, [task.seq], enclosure)
                codes, size = [], 0
                continue
            attempts.append(head + task.spec + (args, values))
            seqs.append(task.seq)
            size += weight
        if attempts:
            self._post((codes, attempts), seqs)
        return missing

    def unload(self, key: int) -> None:
        """Let the worker forget a function that nobody can call any more."""
        if key in self._codes:
            self._codes.discard(key)
            self._post(([key],), [])

    def cancel_call(self, seq: int) -> None:
        """Tell an actor that this call is cancelled."""
        self._post((seq,), [])

    @property
    def is_waiting(self) -> bool:
        """Whether something waits: for `full`, or for better times if there is `trouble`."""
        return bool(self._outbox or self._claims)

    @property
    def full(self) -> int:
        """The descriptor that takes no more now."""
        if self._claims:
            assert self.claims_writer is not None
            return self.claims_writer
        return self.bundles.fileno()

    def grant(self, request: int, rooms: Sequence[Extent | SpillFile], size: int) -> None:
        """Let the worker write values there; it waits for the first."""
        places: list[Place] = []
        for room in rooms:
            if isinstance(room, Extent):
                self._room[IN_MEMORY, room.offset] = room
                places.append((IN_MEMORY, room.offset, size))
            else:
                self._room[IN_FILE, int(os.path.basename(room.path))] = room
                places.append((IN_FILE, room.path, size))
        self.reply(request, places)

    def reply(self, request: int, body: Any) -> None:
        """Answer what the worker has asked. body: what marshal takes."""
        self._post((request, body), [])

    def place_of(self, request: int, value: Stored) -> Place:
        """Where a stored value lies that a reply gives; it stays there until that was looked at."""
        return self._lend(GOT | request, (value,))[0]  # type: ignore[return-value]

    def end_reply(self, request: int) -> None:
        """What a reply has given, or will, is not looked at."""
        self._end_loan(GOT | request)

    def _post(self, message: Any, seqs: list[int], enclosure: Enclosure | None = None) -> None:
        self._outbox.append((*pack(message, enclosure), seqs))
        if len(self._outbox) == 1 and not self._claims:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as possible: `is_waiting` says whether something is left."""
        outbox = self._outbox
        self.trouble = None
        try:
            if self._claims:
                self._claim(self._claims)
            while outbox and not self._claims:
                packet, enclosure, seqs = outbox[0]
                send(self.bundles, packet, enclosure)
                self._nudged = False
                outbox.popleft()
                if seqs:
                    self._claim(struct.pack(f"<{len(seqs)}Q", *seqs))
        except BlockingIOError:
            self._nudge()
        except OSError as error:
            first = outbox[0] if outbox else None
            self.tries = self.tries + 1 if self._troubled is first else 1
            self.trouble, self._troubled = error, first

    def _claim(self, claims: bytes) -> None:
        assert self.claims_writer is not None
        try:
            written = os.write(self.claims_writer, claims)
        except BlockingIOError:
            written = 0
        self._claims = claims[written:]

    def drop_first(self) -> list[int]:
        """Give up what could not be sent, if that is attempts: which; else none, and it stays."""
        if not self._outbox or not self._outbox[0][2]:
            return []
        _, enclosure, seqs = self._outbox.popleft()
        if enclosure is not None:
            enclosure.close()
        for seq in seqs:
            self._end_loan(seq)
        return seqs

    def _nudge(self) -> None:
        """Have an idle worker read its packets: it looks at claims only, and gets none now."""
        if not self._nudged and self.claims_writer is not None:
            self._nudged = True
            with contextlib.suppress(BlockingIOError):  # full of claims: it is not idle
                os.write(self.claims_writer, CLAIM.pack(0))

    def reclaim(self) -> list[int]:
        """Take back every attempt that the worker has not claimed. The kernel decides.

        What is no claim there is a `fault`.
        """
        seqs: list[int] = []
        while True:
            try:
                data = os.read(self.claims_reader, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                break
            if len(data) % CLAIM.size:
                self.fault = "the claims pipe: bytes that are no claim"
            seqs.extend(_seqs_in(data))
        seqs.extend(_seqs_in(self._claims))
        self._claims = b""
        grants = []
        for packet, enclosure, waiting in self._outbox:
            if not waiting:
                grants.append((packet, enclosure, waiting))
            elif enclosure is not None:
                enclosure.close()
            seqs.extend(waiting)
        self._outbox.clear()
        self._outbox.extend(grants)
        if 0 in seqs:
            seqs = [seq for seq in seqs if seq]
            self._nudged = False
            if grants:
                self._nudge()
        for seq in seqs:
            self._end_loan(seq)
        return seqs

    def stop(self) -> None:
        """Let the worker come to its end: there will be no more claims."""
        if self.claims_writer is not None:
            os.close(self.claims_writer)
            self.claims_writer = None


def _seqs_in(claims: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{len(claims) // CLAIM.size}Q", claims)
