"""One worker process as the driver holds it: its descriptors, and what can be done with them.

Room: engine. No policy: whoever calls decides. The driver's side of the channels described in
`aioray.shared.wire`; reading never blocks, and what cannot be written at once waits in an outbox.

It holds the parts of the store that its process may look at, until that has answered and let go of
its views, or is dead; and those it may write a result to, until the answer says what was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import math
import mmap
import os
import signal
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.outcomes import Answer, Ended
from ...shared import linux
from ...shared.packets import MAX_PACKET, Enclosure, pack, send
from ...shared.wire import (
    ANSWER,
    CLAIM,
    GOT,
    HELD,
    IN_FILE,
    IN_MEMORY,
    LET_GO,
    LONGEST_FRAME,
    NOTE_ASKED,
    NOTE_KEPT,
    NOTE_MEASURED,
    NOTE_REFS,
    NOTE_RELEASED,
    NOTE_SAVED,
    NOTE_UNUSED,
    NOTE_YIELDED,
    NUMBER,
    PAGE,
    PAGE_DELIVERED,
    PAGE_INTERRUPT,
    PAGE_RUNNING,
    PAGE_SIZE,
    PAGE_STARTED,
    PAIR,
    PLACE,
    PLACE_MARK,
    REF_CHANGE,
    STACK_SIGNAL,
    Status,
    WorkerFds,
)
from ..objects.store import Extent, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.model import Task
    from ...shared.wire import Place
    from ..objects.store import SpillFile, Store
    from .output import LineReader

__all__ = ["Asked", "Item", "RefsChanged", "WorkerHandle", "Yielded"]

READ_SIZE = 64 * 1024  # bytes; larger reads would be allocated by mmap each time
ANSWERS_PIPE = 256 * 1024  # bytes; wished for, not needed
STACK_LIMIT = 64 * 1024  # bytes of a dying worker's stack that are read

_ENDED = tuple(Ended)[: len(Status)]  # in the order of wire.Status
_ASKED = Ended.ASKED_FOR_RETRY
_NOTES = range(NOTE_ASKED, NOTE_MEASURED + 1)
_DOUBLE = struct.Struct("<d")
_MARK = bytes((PLACE_MARK,))
_MARSHALLED = (b"[", b"\xdb")  # how a marshalled list begins; no value does
_PLAIN = 0x80  # how nearly all values begin, see `aioray.shared.serialization`
_VALUES = (b"\x80", b"\x01", b"\x02")  # how any value begins that was sent


class Asked(NamedTuple):
    """A worker has asked something."""

    seq: int  # of the attempt on whose behalf; 0: none
    request: int  # number of the reply; 0: none is wanted
    verb: int  # an `Ask`
    arguments: tuple[Any, ...]


class RefsChanged(NamedTuple):
    """A worker holds refs that it did not hold, or no longer."""

    changes: bytes  # see NOTE_REFS


class Yielded(NamedTuple):
    """A generator has yielded an item, or come to its end."""

    seq: int
    number: int  # of the item, from 0; at the end, how many there were
    value: Any  # bytes or Stored; None: the end


class Saved(NamedTuple):
    """An actor has saved its state; the answer of the call follows."""

    seq: int
    value: Any  # bytes or Stored


class _Garbage(Exception):  # noqa: N818  # no error of ours: somebody else has written there
    """What was read is not what a worker writes."""


Item = Asked | RefsChanged | Yielded | Saved
"""What a worker says besides its answers, and in order with them."""


class WorkerHandle:
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

    # ------------------------------------------------------------ answers

    def silence_bell(self) -> None:
        """Take note of the bell."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def read_answers(self) -> list[Answer | Item]:
        """What the worker has answered, and asked, since the last call."""
        answers: list[Answer | Item] = []
        while not self.deaf:
            try:
                data = os.read(self.answers, READ_SIZE)
            except BlockingIOError:
                break
            if not data:
                self._ended = True
                break
            try:
                self._take(data, answers)
            except Exception as error:  # noqa: BLE001 - garbage can be of any kind
                self._chunks.clear()
                self._have = 0
                why = str(error) if isinstance(error, _Garbage) else repr(error)
                self.fault = f"the answers pipe: {why}"
                self.deaf = True
                break
            if len(data) < READ_SIZE and not self._have:
                break
        return answers

    @property
    def in_mid_frame(self) -> bool:
        """Whether an answer has arrived in part: the rest will come without a bell."""
        return self._have > 0 and not self._ended

    def _take(self, data: bytes, answers: list[Answer | Item]) -> None:
        """Take frames apart. Raises _Garbage, or whatever parsing raises."""
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
            if status >= NOTE_ASKED:
                if started or duration or delay:
                    raise _Garbage(f"a note of the kind {status} with times")
                self._note(status, seq, data[start:position], answers)
                continue
            payload: Any = data[start:position]
            ended = _ENDED[status]
            if not status and length and data[start] != _PLAIN:
                payload = self.find_stored(payload)
            if self._loans:
                self._end_loan(seq)
            if self._saved and seq in self._saved:
                answers.append(Saved(seq, self._saved.pop(seq)))
            answer = Answer(
                seq, ended, payload, started, duration, delay if ended is _ASKED else None
            )
            if self._yielded and seq in self._yielded:
                self._yielded.discard(seq)
                answer = answer._replace(partial=True)
            answers.append(answer)
        if position < end:
            rest = data[position:]
            self._chunks.append(rest)
            self._have = len(rest)
            self._need = header
            if len(rest) >= header:
                self._need += self._check_begun(*ANSWER.unpack_from(rest))

    def _check_begun(
        self, length: int, seq: int, status: int, started: float, duration: float, delay: float
    ) -> int:
        """Return the length of a frame of which the rest is to come, if it is worth waiting for."""
        if status in _NOTES:
            plausible = not (started or duration or delay)
        else:
            plausible = status < len(_ENDED) and (self.expects(seq) if self.ready else not seq)
        if length > LONGEST_FRAME or not plausible:
            raise _Garbage(f"a frame of {length} bytes and the kind {status}, for attempt {seq}")
        return length

    def _note(self, kind: int, seq: int, payload: bytes, answers: list[Answer | Item]) -> None:
        """Take in a frame that is no answer. Raises as `_take` does."""
        if kind == NOTE_ASKED:
            request, verb, arguments = marshal.loads(payload)
            if type(request) is not int or type(verb) is not int or type(arguments) is not tuple:
                raise _Garbage("a question that is none")
            answers.append(Asked(seq, request, verb, arguments))
        elif kind == NOTE_REFS:
            marks = payload[::REF_CHANGE]
            if len(payload) % REF_CHANGE or marks.strip(HELD + LET_GO):
                raise _Garbage("changes of refs that are none")
            answers.append(RefsChanged(payload))
        elif kind == NOTE_UNUSED:
            for key in PAIR.iter_unpack(payload):
                del self._room[key]
        elif kind == NOTE_KEPT:
            lent = {extent.offset: extent for extent in self._loans.get(seq, ())}
            for offset, number in PAIR.iter_unpack(payload):
                if number not in self._kept:
                    extent = self._kept[number] = lent[offset]
                    extent.lent += 1
            if seq & GOT:
                self._end_loan(seq)
        elif kind == NOTE_SAVED:
            if not self.expects(seq):
                raise _Garbage(f"a state saved by attempt {seq}, which it does not have")
            self._saved[seq] = self.find_value(payload)
        elif kind == NOTE_YIELDED:
            (number,) = NUMBER.unpack_from(payload)
            rest = payload[NUMBER.size :]
            self._yielded.add(seq)
            answers.append(Yielded(seq, number, self.find_value(rest) if rest else None))
        elif kind == NOTE_RELEASED:
            for (number,) in NUMBER.iter_unpack(payload):
                self._end_view(number)
        elif kind == NOTE_MEASURED:
            from ...shared.meters import board

            self._measures = True
            board.merge(payload, self.hex_id)
        else:
            raise _Garbage(f"a frame of the kind {kind}, which there is not")

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

    def abort(self) -> None:
        """SIGABRT, at which it writes where it is; no death that can be relied on."""
        self._signal(signal.SIGABRT)

    def ask_stack(self) -> bool:
        """Have it write its stacks; False if it cannot, as it has not begun yet or is dead."""
        if self.pidfd is None or self.closed or not os.fstat(self.stacks_fd).st_size:
            return False
        if not self._stack_is_due:  # else what was asked for before has not come yet
            self._stack_is_due = True
            os.ftruncate(self.stacks_fd, 1)
            self._signal(STACK_SIGNAL)
        return True

    def read_stack(self) -> bytes:
        """What it has written of that so far."""
        return b"" if self.closed else os.pread(self.stacks_fd, 16 * STACK_LIMIT, 1)

    def took_stack(self) -> None:
        """It was whole."""
        self._stack_is_due = False

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

    def _signal(self, number: int) -> None:
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    # ------------------------------------------------------------ what the page tells

    def running(self) -> tuple[int, float] | None:
        """The attempt that it works on and since when, or None."""
        seq: int = PAGE.unpack_from(self.page, PAGE_RUNNING)[0]
        started: float = _DOUBLE.unpack_from(self.page, PAGE_STARTED)[0]
        # User code might have written there.
        return (seq, started) if seq and math.isfinite(started) else None

    def python_stack(self) -> str:
        """What faulthandler wrote when a fatal signal came; empty if none did."""
        try:
            found = os.pread(self.page_fd, STACK_LIMIT, PAGE_SIZE)
        except OSError:
            return ""
        return found.partition(b"\0")[0].decode(errors="replace").strip()


def _seqs_in(claims: bytes) -> tuple[int, ...]:
    return struct.unpack_from(f"<{len(claims) // CLAIM.size}Q", claims)
