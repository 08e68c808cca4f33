"""The thread that writes the history and answers questions, so that the driver's loop does not.

Room: state. `Keeper` takes facts from the engine's thread, in deques that need no lock, and writes
them a moment later, many at a time. Whoever asks is given what is going on by the engine, as soon
as its loop comes to it, and everything else by the file, which is brought up to date before the
answer goes out. If the engine's loop is blocked, the answer says so, and where.

The thread starts with the session and ends with it; nothing waits for it but the end.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .folders import SessionFolder
    from .history import History

__all__ = ["Keeper", "Listener"]

logger = logging.getLogger("aioray")

BEGIN_SECONDS = 0.2  # after the start of the session, whose first tasks are not to wait for this
FLUSH_SECONDS = 0.5  # between the first fact and the writing of it
OUTPUT_WAITING = 64 * 1024 * 1024  # bytes of output that may wait to be written; more is not kept
CLOSE_SECONDS = 10.0  # that the end of a session waits for its history


class Listener(Protocol):
    """Somebody who wants to know what was just written. Called in the keeper's thread."""

    def attempts(
        self,
        kinds: Mapping[int, dict[str, Any]],
        rows: Sequence[tuple[Any, ...]],
        retried: Sequence[tuple[Any, ...]],
    ) -> None:
        """These attempts have ended. Rows are as in `schema.ATTEMPT_COLUMNS`, times monotonic.

        rows: with them their tasks have. retried: these have failed, and others follow.
        """
        ...

    def things(self, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        """This has changed. rows: as in `schema`, with facts as they are."""
        ...

    def events(self, rows: Sequence[tuple[float, str, str, str]]) -> None:
        """This was told of."""
        ...


class Keeper:
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
        """Nothing is started yet.

        folder: where file and socket go; None: there are none. ask: has the engine answer a
        request, from any thread, and calls back with the answer on its own. attempts_kept,
        unix_offset: see `History`.
        """
        self.done: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)
        self.failed: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)
        self.retried: deque[tuple[Any, ...]] = deque(maxlen=attempts_kept)  # failed, not for good
        self.things: deque[tuple[str, str, dict[str, Any]]] = deque()
        self.events: deque[tuple[float, str, str, str]] = deque()
        self.output: deque[tuple[int, int, int, float, bytes]] = deque()
        self.kinds: dict[int, dict[str, Any]] = {}  # those that rows may speak of
        self.meta: dict[str, Any] = {}  # changed as a whole
        self.listeners: list[Listener] = []
        self.finish_row: Callable[[tuple[Any, ...]], tuple[Any, ...]] = lambda row: row
        self._folder = folder
        self._ask = ask
        self._attempts_kept = attempts_kept
        self._unix_offset = unix_offset
        self.awake = False  # whether it will write soon without being told
        self._closing = False
        self._ended = False
        self._needed = threading.Event()
        self._ending = threading.Lock()
        self._asked_for_running = False
        self._running_changed = False  # something has happened since it was asked for
        self._output_given = self._output_taken = 0  # bytes; each is changed by one thread
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="aioray-state", daemon=True)
        self._jobs: deque[Callable[[], None]] = deque()  # for the thread
        self._new_kinds: deque[tuple[int, dict[str, Any]]] = deque()
        self._old_kinds = 0  # see `forget_kinds`
        self._forgotten_kinds = 0  # up to which that has been done
        self._meta_written: dict[str, Any] = {}
        self._history: History | None = None

    # ------------------------------------------------------------ for the engine

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Have what the deques hold written soon."""
        if not (self.awake or self._closing):
            self.awake = True
            os.eventfd_write(self._bell, 1)

    def keep_output(self, row: tuple[int, int, int, float, bytes]) -> None:
        """Have output written soon, or drop it if the disk does not keep up."""
        self._output_given += len(row[-1])
        if self._output_given - self._output_taken > OUTPUT_WAITING:
            self._output_given -= len(row[-1])
            self.meta = {**self.meta, "output_dropped": True}
        else:
            self.output.append(row)
        self.wake()

    def add_kind(self, number: int, facts: dict[str, Any]) -> None:
        """There are attempts of this kind from now on, see `schema`."""
        self.kinds[number] = facts
        self._new_kinds.append((number, facts))

    def forget_kinds(self, newest: int) -> None:
        """Kinds up to this number have no attempts but those that are written already."""
        self._old_kinds = newest

    def close(self) -> None:
        """Write what is left, and end the thread. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._needed.set()
        os.eventfd_write(self._bell, 1)
        if self._thread.ident is not None:  # else there was no room for another thread
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("The session's history was not written in %g s.", CLOSE_SECONDS)
        else:
            with self._ending:
                self._ended = True
                os.close(self._bell)

    def do(self, job: Callable[[], None]) -> None:
        """Have something done by the thread, or not at all if it has ended. From any thread."""
        with self._ending:
            if not self._ended:
                self._needed.set()
                self._jobs.append(job)
                os.eventfd_write(self._bell, 1)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        self._needed.wait(BEGIN_SECONDS)
        from .folders import sweep
        from .history import History
        from .server import Server

        selector = selectors.DefaultSelector()
        selector.register(self._bell, selectors.EVENT_READ, self._rung)
        server: Server | None = None
        folder = self._folder
        self._history = history = History(
            None if folder is None else folder.path,
            attempts_kept=self._attempts_kept,
            unix_offset=self._unix_offset,
        )
        self._flush()
        if folder is not None:
            try:
                server = Server(folder.path, selector, self._answer)
            except OSError as error:
                logger.warning("This session cannot be asked for its state: %s.", error)
        due: float | None = None
        swept = folder is None
        while not self._closing:
            wait = None if due is None else max(0.0, due - time.monotonic())
            if due is None and history.packed:
                wait = 0.0
            if server is not None:
                wait = server.shortest_wait(wait)
            for key, _ in selector.select(wait):
                key.data()
            now = time.monotonic()
            if server is not None:
                server.time_out(now)
            while self._jobs:
                self._jobs.popleft()()
            if due is not None and now >= due:
                due = None
                self._flush()
                self._ask_for_running()
                if not swept and folder is not None:
                    swept = True
                    sweep(folder.root)
            elif due is None and (self.awake or self._running_changed):
                due = now + FLUSH_SECONDS
            elif due is None:
                history.unpack(all_of_it=False)  # there is time for it
        while self._jobs:
            self._jobs.popleft()()
        self._flush()
        history.unpack()
        history.write_running(())
        history.close()
        if server is not None:
            server.close()
        selector.close()

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _flush(self) -> None:
        """Write what has come since the last time."""
        self._running_changed |= self.awake
        self.awake = False  # before looking: whatever comes from now on wakes again
        try:
            self._write()
        except Exception:
            logger.exception("A part of the history was not written, which is a bug in aioray.")

    def _write(self) -> None:
        from .history import Batch

        assert self._history is not None
        old_kinds = self._old_kinds  # before the rows: what comes later does not speak of them
        done, events = _taken(self.done), _taken(self.events)
        retried = [self.finish_row(row) for row in _taken(self.retried)]
        failed = [self.finish_row(row) for row in _taken(self.failed)]
        things, output = _taken(self.things), _taken(self.output)
        self._output_taken += sum(len(row[-1]) for row in output)
        meta, known = self.meta, self._meta_written
        self._meta_written = meta
        self._history.write(
            Batch(
                done=done,
                failed=[*retried, *failed],
                kinds=_taken(self._new_kinds),
                old_kinds=old_kinds,
                things=things,
                events=events,
                output=output,
                meta={} if meta is known else meta,
            )
        )
        for listener in self.listeners:
            if done or failed or retried:
                ended = ((*row[:-1], row[-2] + row[-1], None, None) for row in done)
                listener.attempts(self.kinds, [*ended, *failed], retried)
            if things:
                listener.things(things)
            if events:
                listener.events(events)
        if old_kinds > self._forgotten_kinds:
            self._forgotten_kinds = old_kinds
            for number in tuple(self.kinds):  # others may be added meanwhile
                if number <= old_kinds:
                    del self.kinds[number]

    def _ask_for_running(self) -> None:
        """Note what is running, in case that the driver is killed."""

        def note(answer: dict[str, Any]) -> None:
            self._asked_for_running = False
            assert self._history is not None
            self._history.write_running(answer.get("running", ()))

        if not self._asked_for_running:
            self._asked_for_running = True
            self._running_changed = False
            self._ask({"want": ["running"]}, lambda answer: self.do(lambda: note(answer)))

    def _answer(self, request: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Answer a caller: with the engine's help, and then with the file up to date."""
        self._ask(request, lambda answer: self.complete(answer, reply))

    def complete(self, answer: dict[str, Any], reply: Callable[[dict[str, Any]], None]) -> None:
        """Bring the file up to date, or put the history into the answer; and reply, in the thread.

        From the engine's thread. If it has ended there is no reply.
        """

        def finish() -> None:
            if "stacks" in answer:  # here the loop is seen where it waits, and not in its answering
                from .stacks import own_stacks

                answer["stacks"].append(own_stacks())
            self._flush()
            assert self._history is not None
            self._history.unpack()
            if self._history.path is None:
                answer["database"] = base64.b64encode(self._history.image()).decode()
            reply(answer)

        self.do(finish)


def _taken(items: deque[Any]) -> list[Any]:
    """What is in there now, taken out; others may append meanwhile."""
    return [items.popleft() for _ in range(len(items))]
