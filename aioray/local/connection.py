"""What connects a worker that is no process with its engine: plain calls, where pipes would be.

Room: local. Each class plays a part that `aioray.worker.execution` knows from a process.
"""

from __future__ import annotations

import contextlib
import itertools
import marshal
from typing import TYPE_CHECKING, Any

from ..engine.processes.inbound import Yielded
from ..shared.wire import (
    IN_MEMORY,
    LOCATION_MARK,
    NOTE_YIELDED,
    NUMBER,
    PACKED_LOCATION,
)
from ..worker.answers import Answers
from ..worker.execution import Execution
from ..worker.objects import ArgumentLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.objects.stored import Stored
    from ..shared.serialization import Pieces
    from ..worker.actor.instance import SavedState
    from ..worker.objects import AttemptHandles
    from .worker import InProcessWorker
    from .workers import InProcessWorkers

__all__ = ["DirectAnswers", "DirectChannel", "DirectExecution", "DirectObjects", "NoSignals"]

_MARK = bytes((LOCATION_MARK,))
_MARSHALLED = (b"[", b"\xdb")  # how a list begins that marshal has written


class NoSignals:
    """What a worker's `Interrupts` are, without signals."""

    def __init__(self) -> None:
        self.current = 0
        self.instead: Callable[[], object] | None = None
        self.wanted: set[int] = set()  # seqs that are to be interrupted

    def requested(self, seq: int) -> bool:
        """Tell whether somebody wants this attempt interrupted."""
        return seq in self.wanted

    def hold(self) -> int:
        """Return nothing to release: nothing comes between."""
        return 0

    def release(self, held: int) -> None:
        """Do nothing, see `hold`."""

    def restore(self) -> None:
        """Do nothing: signals are the driver's."""


class DirectChannel:
    """What a worker's `Channel` is, to an engine in the same process."""

    def __init__(self, worker: InProcessWorker) -> None:
        self._worker = worker
        self.code: dict[int, bytes] = {}
        self.known: set[int] = set()
        self.cancelled: set[int] = set()
        self.queue: tuple[()] = ()
        self.unload: Callable[[int], None] = lambda _key: None

    def write(self, frame: bytes) -> None:
        """Take no frames: see `DirectAnswers`."""
        raise NotImplementedError

    def uninterrupted(self) -> contextlib.AbstractContextManager[None]:
        """Return a block that nothing interrupts, as nothing does anyway."""
        return contextlib.nullcontext()

    def ring(self) -> None:
        """Do nothing: what was said is known."""

    def has_cancelled(self, seq: int) -> bool:
        """Tell whether this call, which runs, is cancelled."""
        return seq in self.cancelled

    def note(self, kind: int, payload: bytes, seq: int = 0) -> None:
        """Take what a generator has yielded."""
        assert kind == NOTE_YIELDED
        (number,) = NUMBER.unpack_from(payload)
        rest = payload[NUMBER.size :]
        value = self._worker.objects.value(rest) if rest else None
        self._worker.say(Yielded(seq, number, value), seq)

    def ask(self, seq: int, ask: Any) -> None:
        """Wait until a generator may go on, which is all that is asked here."""
        self._worker.workers.wait_for_room(self._worker.calls[seq], ask.yielded)

    def begin(self, seq: int, ask: Any, watcher: Callable[[int, Any], None]) -> int:
        """Call back when a generator may go on."""
        call = self._worker.calls[seq]
        self._worker.workers.when_room(call, ask.yielded, lambda: watcher(0, None))
        return 0

    def forget(self, seq: int, request: int) -> None:
        """Do nothing: whoever is called back in vain does not mind."""


class DirectObjects:
    """What a worker's `LocalObjects` are: large values are handed over as they are stored."""

    def __init__(self, workers: InProcessWorkers) -> None:
        self._table = workers.objects
        self._stored: dict[int, Stored] = {}  # by number, until it is told
        self._numbers = itertools.count(1)
        self.spare: list[Any] = []

    def open(self, _place: Any, _use: AttemptHandles) -> memoryview:
        """Raise ArgumentLost: values come opened."""
        raise ArgumentLost

    def tell_kept(self, seq: int, use: AttemptHandles) -> None:
        """Do nothing: views hold their memory themselves."""

    def keep_result(self, pieces: Pieces, use: AttemptHandles) -> bytes:
        """Store a large result; return what stands for it in an answer."""
        data, number = self._keep(pieces)
        use.written.append((IN_MEMORY, number, pieces.size))
        return data

    def keep(self, pieces: Pieces) -> bytes:
        """Store a large value; return what stands for it."""
        return self._keep(pieces)[0]

    def _keep(self, pieces: Pieces) -> tuple[bytes, int]:
        stored = self._table.keep(pieces)
        number = next(self._numbers)
        assert not isinstance(stored, bytes)
        self._stored[number] = stored
        return PACKED_LOCATION.pack(LOCATION_MARK, IN_MEMORY, number, pieces.size), number

    def failed(self, use: AttemptHandles) -> None:
        """Forget what a failed attempt has stored."""
        for _, number, _ in use.written:
            self._stored.pop(number, None)  # type: ignore[arg-type]
        use.written = []

    def value(self, payload: bytes) -> bytes | Stored:
        """Return the value that stands in an answer, or is stored and named there."""
        if payload[:1] != _MARK:
            return payload
        return self._stored.pop(PACKED_LOCATION.unpack(payload)[2])

    def result(self, payload: bytes) -> Any:
        """Return the value or values of an answer."""
        if payload[:1] not in _MARSHALLED or not self._stored:
            return self.value(payload)
        return [self.value(value) for value in marshal.loads(payload)]


class DirectAnswers(Answers):
    """Hands answers to the engine."""

    def __init__(self, worker: InProcessWorker) -> None:
        channel: Any = worker.channel
        objects: Any = worker.objects
        super().__init__(channel, objects, lambda: worker.instance)
        self._worker = worker

    def answer(
        self,
        seq: int,
        status: int,
        payload: bytes,
        started: float,
        duration: float,
        use: AttemptHandles,
        delay: float = 0.0,
        state: SavedState | None = None,
    ) -> None:
        """Take an answer. See `Answers.answer`."""
        self._worker.answer(seq, status, payload, started, duration, delay, state)


class DirectExecution(Execution):
    """Calls the functions and classes themselves, and no copies of them."""

    def __init__(self, worker: InProcessWorker) -> None:
        server: Any = worker
        super().__init__(server, DirectAnswers(worker))
        self._targets = worker.workers.targets

    def load_code(self, key: int) -> Callable[..., Any]:
        """Find a function, or a class."""
        code = self.channel.code.pop(key)
        self.channel.known.add(key)
        return self._targets.find(code)
