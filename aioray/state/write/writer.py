"""The thread that writes the history and answers questions, so that the driver's loop does not.

Room: state. `HistoryWriter` takes what happens from the engine's thread, in deques that need no
lock, and writes it a moment later, many at a time. Whoever asks is given what is going on by the
engine, as soon as its loop comes to it, and everything else by the file, which is brought up to
date before the answer goes out. If the engine's loop is blocked, the answer says so, and where.

The thread starts with the session and ends with it; nothing waits for it but the end. It outlives
whatever goes wrong in what it does: that is told once, and the next thing is done. It polls with
`poll`, which needs no descriptor of its own, and begins when there are those that it needs.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import selectors
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ...shared.printable import LINES, printable
from ..folders import SHORTAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..folders import SessionFolder
    from .history import Batch, History
    from .server import StateServer

__all__ = ["HistoryListener", "HistoryWriter"]

logger = logging.getLogger("aioray")

BEGIN_SECONDS = 0.2  # after the start of the session, whose first tasks are not to wait for this
FLUSH_SECONDS = 0.5  # between the first fact and the writing of it
OUTPUT_WAITING = 64 * 1024 * 1024  # bytes of output that may wait to be written; more is not kept
CLOSE_SECONDS = 10.0  # that the end of a session waits for its history
IDLE_SECONDS = 5.0  # between two looks at what there is, as the doorbell may be broken
PAUSE_SECONDS = 0.5  # before something is tried again for which there were no descriptors


class HistoryListener(Protocol):
    """Somebody who wants to know what was just written. Called in the writer's thread."""

    def attempts(
        self,
        signatures: Mapping[int, dict[str, Any]],
        rows: Sequence[tuple[Any, ...]],
        retried: Sequence[tuple[Any, ...]],
    ) -> None:
        """Take attempts that have ended. Rows are as in `schema.ATTEMPT_COLUMNS`, times monotonic.

        rows: their tasks have ended with them. retried: these have failed, and others follow.
        """
        ...

    def entities(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """Take changes of entities. rows: as in `schema`, with attributes as they are."""
        ...

    def events(self, rows: Sequence[tuple[float, str, str, str]]) -> None:
        """Take events that the engine has told of. rows: as in `schema`."""
        ...


class HistoryWriter:
    """Writes one session's history and serves its state.

    The deques are filled by the engine's thread, which then calls `wake`.
    """

    def __init__(
        self,
        folder: SessionFolder | None,
        ask: Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], None],
        *,
        attempts_kept: int,
        unix_offset: float,
    ) -> None:
        """Prepare the deques and the thread, and start nothing yet.

        folder: where file and socket go; None: there are none. ask: has the engine answer a
        request, from any thread, and calls back with the answer on its own. attempts_kept,
        unix_offset: see `History`.
        """
        self.done: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)
        self.failed: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)
        self.retried: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)  # failed, not for good
        self.entities: deque[tuple[str, str, dict[str, Any]]] = deque()
        self.events: deque[tuple[float, str, str, str]] = deque()
        self.output: deque[tuple[int, int, int, float, bytes]] = deque()
        self.signatures: dict[int, dict[str, Any]] = {}  # those that rows may speak of
        self.meta: dict[str, Any] = {}  # changed as a whole
        self.listeners: list[HistoryListener] = []
        self.is_intact: Callable[[], bool] = lambda: True  # False: our descriptors are others'
        self.finish_row: Callable[[tuple[Any, ...]], tuple[Any, ...]] = lambda row: row
        self._folder = folder
        self._ask = ask
        self._attempts_kept = attempts_kept
        self._unix_offset = unix_offset
        self.awake = False  # whether it will write soon without being told
        self._closing = False
        self._hurried = False  # the end is near
        self._ended = False
        self._needed = threading.Event()
        self._ending = threading.Lock()
        self._asked_for_running = False
        self._running_changed = False  # something has happened since it was asked for
        self._output_given = self._output_taken = 0  # bytes; each is changed by one thread
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="aioray-state", daemon=True)
        self._jobs: deque[Callable[[], None]] = deque()  # for the thread
        self._new_signatures: deque[tuple[int, dict[str, Any]]] = deque()
        self._old_signatures = 0  # see `forget_signatures`
        self._forgotten_signatures = 0  # up to which that has been done
        self._meta_written: dict[str, Any] = {}
        self._history: History | None = None
        self._selector = selectors.PollSelector()
        self._due: float | None = None  # when to write
        self._server: StateServer | None = None
        self._serve_at = (
            None if folder is None else 0.0
        )  # when to try to listen; None: not any more
        self._is_swept = folder is None
        self._is_deaf = False  # the program has closed the doorbell
        self._stopping = threading.Event()
        self._told: set[tuple[str, type[BaseException]]] = set()  # what has gone wrong

    # ------------------------------------------------------------ for the engine

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have what the deques hold written soon."""
        if not (self.awake or self._closing):
            self.awake = True
            self._ring()

    def keep_output(self, row: tuple[int, int, int, float, bytes]) -> None:
        """Have output written soon, or drop it if the disk does not keep up."""
        self._output_given += len(row[-1])
        if self._output_given - self._output_taken > OUTPUT_WAITING:
            self._output_given -= len(row[-1])
            self.meta = {**self.meta, "output_dropped": True}
        else:
            self.output.append(row)
        self.wake()

    def add_signature(self, number: int, attributes: dict[str, Any]) -> None:
        """Note that there are attempts of this signature from now on, see `schema`."""
        self.signatures[number] = attributes
        self._new_signatures.append((number, attributes))

    def forget_signatures(self, newest: int) -> None:
        """Note that those up to this number have no attempts but those that are written already."""
        self._old_signatures = newest

    def hurry(self) -> None:
        """Begin now what may not have begun, for `close` is near, and have nobody ask any more."""
        self._hurried = True
        self._needed.set()

    def close(self) -> None:
        """Write what is left, and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self.hurry()
        self._stopping.set()
        self._ring()
        if self._thread.ident is not None:  # else there was no room for another thread
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("The session's history was not written in %g s.", CLOSE_SECONDS)
        else:
            with self._ending:
                self._ended = True
                with contextlib.suppress(OSError):
                    os.close(self._doorbell)

    def do(self, job: Callable[[], None]) -> None:
        """Have the thread do a job, or nobody if it has ended. From any thread."""
        with self._ending:
            if not self._ended:
                self._needed.set()
                self._jobs.append(job)
                self._ring()

    def _ring(self) -> None:
        # If the program has closed it, the thread looks by itself; or all is lost.
        with contextlib.suppress(OSError):
            if self.is_intact():
                os.eventfd_write(self._doorbell, 1)

    # ------------------------------------------------------------ in the thread

    def _stay(self) -> None:
        """Do nothing for ever: to leave would close numbers that are others' by now."""
        while True:
            threading.Event().wait()

    def _run(self) -> None:
        self._needed.wait(BEGIN_SECONDS)
        if not self.is_intact():
            self._stay()
        while not self._do_safely("begin", self._begin):
            if self._closing:
                return
            self._pause()
        self._do_safely("write", self._flush)
        while not self._closing:
            if not self._do_safely("wait for work", self._turn):
                self._pause()
        self._do_jobs()
        for step in (self._flush, self._history_of().finish, self._stop_serving):
            self._do_safely("end", step)

    def _do_safely(self, what: str, do: Callable[..., object], *args: Any) -> bool:
        """Do something, and tell once if that goes wrong; return whether it has gone well.

        Nothing may end the thread, not even a SystemExit that a class of the user's raises.
        """
        try:
            do(*args)
        except BaseException as error:  # noqa: BLE001 - see above
            if not self.is_intact():
                self._stay()  # in here, where all that it has opened is still held
            if (what, type(error)) not in self._told:
                self._told.add((what, type(error)))
                with contextlib.suppress(Exception):
                    _tell(what, error)
            return False
        return True

    def _pause(self) -> None:
        """Wait a little, unless the end has come."""
        self._stopping.wait(PAUSE_SECONDS)

    def _begin(self) -> None:
        """Import what the thread needs from now on, and open the file. Raises OSError."""
        if not self._hurried:  # all of these, so that they are there
            from .. import folders  # noqa: F401
            from ..read import stacks  # noqa: F401
            from . import server  # noqa: F401
        from .history import History

        folder = self._folder
        if self._hurried and folder is not None and not os.path.isdir(folder.path):
            folder = None  # a short program has removed its temporary folder before it ended
        self._history = History(
            None if folder is None else folder.path,
            attempts_kept=self._attempts_kept,
            unix_offset=self._unix_offset,
        )
        self._selector.register(self._doorbell, selectors.EVENT_READ, self._rung)

    def _history_of(self) -> History:
        assert self._history is not None
        return self._history

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        history, due = self._history_of(), self._due
        wait = IDLE_SECONDS if due is None else max(0.0, due - time.monotonic())
        if due is None and history.packed:
            wait = 0.0
        if self._hurried:
            self._serve_at = None
        if self._serve_at is not None:
            self._do_safely("listen", self._serve)
        if self._serve_at is not None:
            wait = min(wait, PAUSE_SECONDS)
        if self._is_deaf:
            wait = min(wait, FLUSH_SECONDS)
        if self._server is not None:
            wait = self._server.shortest_wait(wait)
        try:
            ready = self._selector.select(wait)
        except OSError:
            if self.is_intact():
                raise
            ready = []
        if not self.is_intact():
            self._stay()
        for key, _ in ready:
            if not self._do_safely("serve a caller", key.data):
                self._pause()  # it may be told again at once
        now = time.monotonic()
        if self._server is not None:
            self._do_safely("end what takes too long", self._server.time_out, now)
        self._do_jobs()
        if due is not None and now >= due:
            self._due = None
            self._do_safely("write", self._flush)
            self._do_safely("ask what is running", self._ask_for_running)
            if not self._is_swept:
                self._is_swept = True
                self._do_safely("remove old sessions", self._sweep)
        elif due is None and (self.awake or self._running_changed):
            self._due = now + FLUSH_SECONDS
        elif due is None:
            history.unpack(all_of_it=False)  # there is time for it

    def _do_jobs(self) -> None:
        while self._jobs:
            self._do_safely("answer", self._jobs.popleft())

    def _serve(self) -> None:
        """Listen to callers, or try again a little later if there is no descriptor for that."""
        from .server import StateServer

        assert self._folder is not None
        assert self._serve_at is not None
        now = time.monotonic()
        if now < self._serve_at:
            return
        try:
            self._server = StateServer(self._folder.path, self._selector, self._answer)
        except OSError as error:
            if error.errno in SHORTAGES:
                self._serve_at = now + PAUSE_SECONDS
                return
            logger.warning("This session cannot be asked for its state: %s.", error)
        self._serve_at = None

    def _stop_serving(self) -> None:
        if self._server is not None:
            self._server.close()
        self._selector.close()

    def _sweep(self) -> None:
        from ..folders import sweep

        assert self._folder is not None
        sweep(self._folder.root)

    def _rung(self) -> None:
        try:
            os.eventfd_read(self._doorbell)
        except BlockingIOError:
            pass
        except OSError:  # the program has closed it
            self._selector.unregister(self._doorbell)
            self._is_deaf = True

    def _flush(self) -> None:
        """Write what has come since the last time, and let listeners know."""
        from .history import Batch

        self._running_changed |= self.awake
        self.awake = False  # before looking: whatever comes from now on wakes again
        # Before the rows: what comes later does not speak of them.
        old_signatures = self._old_signatures
        done, events = _taken(self.done), _taken(self.events)
        retried = self._finished(_taken(self.retried))
        failed = self._finished(_taken(self.failed))
        entities, output = _taken(self.entities), _taken(self.output)
        self._output_taken += sum(len(row[-1]) for row in output)
        meta = self.meta
        batch = Batch(
            done=done,
            failed=[*retried, *failed],
            signatures=_taken(self._new_signatures),
            old_signatures=old_signatures,
            entities=entities,
            events=events,
            output=output,
            meta={} if meta is self._meta_written else meta,
        )
        if self._do_safely("write", self._write, batch):
            self._meta_written = meta
        for listener in tuple(self.listeners):
            if done or failed or retried:
                ended = [(*row[:-1], row[-2] + row[-1], None, None) for row in done]
                rows = [*ended, *failed]
                self._do_safely(
                    "tell a listener", listener.attempts, self.signatures, rows, retried
                )
            if entities:
                self._do_safely("tell a listener", listener.entities, entities)
            if events:
                self._do_safely("tell a listener", listener.events, events)
        if old_signatures > self._forgotten_signatures:
            self._forgotten_signatures = old_signatures
            for number in tuple(self.signatures):  # others may be added meanwhile
                if number <= old_signatures:
                    del self.signatures[number]

    def _finished(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Give the rows their texts; leave out one of which that cannot be made."""
        found: list[tuple[Any, ...]] = []
        for row in rows:
            self._do_safely("tell of an error", lambda row: found.append(self.finish_row(row)), row)
        return found

    def _write(self, batch: Batch) -> None:
        """Write a batch; what of it cannot be written does not take the rest along."""
        history = self._history_of()
        try:
            history.write(batch)
        except Exception:
            for part in batch.apart():
                with contextlib.suppress(Exception):
                    history.write(part)
            raise

    def _ask_for_running(self) -> None:
        """Have the history note what is running, in case the driver is killed."""

        def note(answer: dict[str, Any]) -> None:
            self._asked_for_running = False
            self._history_of().write_running(answer.get("running", ()))

        if not self._asked_for_running:
            self._running_changed = False
            self._ask({"want": ["running"]}, lambda answer: self.do(lambda: note(answer)))
            self._asked_for_running = True

    def _answer(self, request: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Answer a caller: with the engine's help, and then with the file up to date."""
        self._ask(request, lambda answer: self.complete(answer, reply))

    def complete(self, answer: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Bring the file up to date, or put the history into the answer; and reply, in the thread.

        From the engine's thread. If it has ended there is no reply.
        """

        def finish() -> None:
            try:
                self._complete(answer)
            except BaseException as bug:
                error = f"it has failed to answer, which is a bug in aioray: {bug!r}"
                reply({"error": error})
                raise
            reply(answer)

        self.do(finish)

    def _complete(self, answer: dict[str, Any]) -> None:
        from ..read.stacks import own_stacks

        if "stacks" in answer:  # here the loop is seen where it waits, and not in its answering
            answer["stacks"].append(own_stacks())
        self._flush()
        history = self._history_of()
        history.unpack()
        if history.path is None:
            answer["database"] = base64.b64encode(history.image()).decode()


def _tell(what: str, error: BaseException) -> None:
    """Say that something has gone wrong in the thread, which goes on."""
    text = printable(f"{type(error).__name__}: {error}", LINES)
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        logger.warning("The history's thread cannot %s yet: %s.", what, text)
    else:
        logger.error(
            "The history's thread has failed to %s, which is a bug in aioray. It goes on. %s",
            what,
            text,
            exc_info=error,
        )


def _taken(items: deque[Any]) -> list[Any]:
    """Take out what is in a deque now; others may append meanwhile."""
    return [items.popleft() for _ in range(len(items))]
