"""The session that executors share with each other if there is none, and the end of the program.

Room: api. An executor that finds no session starts one, in a thread of its own; when the last
executor that uses it is shut down, or gone, and has nothing left to do, the session ends. One that
somebody else has started is left alone. Before the program ends it waits for what executors have
been given, as it does for those of `concurrent.futures`.
"""

from __future__ import annotations

import _thread
import atexit
import concurrent.futures
import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from aioray.api.session import init, shutdown
from aioray.client.protocol import registry

if TYPE_CHECKING:
    from aioray.client.futures import RefFuture
    from aioray.client.protocol import Client

__all__ = ["Outstanding", "refuse_at_exit"]

ENDING = "aioray-executor-ends"  # name of the thread that ends the session

_lock = threading.RLock()  # a finalizer may come while the same thread has it


class _Shared:
    """The session that executors have started, while it is there."""

    client: Client | None = None
    users: set[Outstanding] = set()  # noqa: RUF012 - there is one such object
    waits_at_exit = False  # for the calls of executors
    is_over = False  # the program is ending
    names: set[str] = set()  # noqa: RUF012 - of limiters that executors use


_everyone: weakref.WeakSet[Outstanding] = weakref.WeakSet()


class Outstanding:
    """The calls of one executor that are not done, and its part in the session."""

    def __init__(self) -> None:
        """Begin with no calls and no session."""
        self.lock = threading.RLock()
        self.futures: set[RefFuture[Any]] = set()
        self.is_closed = False
        self.broken_by: BaseException | None = None  # the error of the initializer
        self._client: Client | None = None
        self._name = ""  # of the limiter that its calls have

    def enter(self, num_cpus: int | None) -> None:
        """Find the session for a call, or start one with so many CPUs.

        Raises RuntimeError if that of earlier calls has ended.
        """
        with _lock:
            current = registry.current()
            if current is None and self._client is not None:
                raise RuntimeError(
                    "cannot schedule new futures: the session of this Executor has ended. Make a "
                    "new one."
                )
            if current is None:
                settings: dict[str, Any] = {} if num_cpus is None else {"num_cpus": num_cpus}
                init(loop="thread", **settings)
                current = _Shared.client = registry.current()
            if current is _Shared.client:
                _Shared.users.add(self)
            self._client = current
            _everyone.add(self)
            if not _Shared.waits_at_exit:
                _Shared.waits_at_exit = True
                atexit.register(_wait_at_exit)  # after the session's own, so it comes first

    def take_name(self, concurrency: int) -> str:
        """Return a name for a limiter that no other executor uses as long as this does.

        Such names are used again, so that a session does not collect limiters.
        """
        with _lock:
            names = (f"executor-{concurrency}-{number}" for number in itertools.count(1))
            self._name = next(name for name in names if name not in _Shared.names)
            _Shared.names.add(self._name)
        return self._name

    def add(self, future: RefFuture[Any]) -> None:
        """Count a future until it is done."""
        with self.lock:
            self.futures.add(future)
        future.add_done_callback(self._discard)

    def _discard(self, future: Any) -> None:
        with self.lock:
            self.futures.discard(future)
            leaves = self.is_closed and not self.futures
        if leaves:
            self._leave()

    def close(self) -> None:
        """Take no more calls, and let go of the session when the last one is done."""
        with self.lock:
            self.is_closed = True
            leaves = not self.futures
        if leaves:
            self._leave()

    def _leave(self) -> None:
        """Have the shared session ended if this was the last to use it, in a thread of its own.

        This may be the thread of the engine, or a finalizer in the midst of anything: so it takes
        no lock that is held while somebody waits, not even those of `threading`.
        """
        client = self._client
        _Shared.names.discard(self._name)
        if client is not None and client is _Shared.client and not _Shared.is_over:
            _thread.start_new_thread(self._start_leaving, ())

    def _start_leaving(self) -> None:
        threading.Thread(target=self._leave_session, name=ENDING, daemon=True).start()

    def _leave_session(self) -> None:
        with _lock:
            _Shared.users.discard(self)
            client = _Shared.client
            if (
                client is not None
                and not _Shared.users
                and not client.closed
                and registry.default is client
            ):
                _Shared.client = None
                shutdown()

    def waiting(self) -> list[RefFuture[Any]]:
        """Return the futures whose calls have not begun; in workers, where nobody knows, all."""
        with self.lock:
            client, pending = self._client, list(self.futures)
        if client is None:
            return []
        begun = client.begun([future.entry for future in pending])
        return [future for future, runs in zip(pending, begun, strict=True) if not runs]

    def leave_at_once(self) -> None:
        """End the shared session, unless others use it, and return when that is done."""
        client = self._client
        if client is not None and client is _Shared.client and not client.in_own_thread():
            self._leave_session()


def refuse_at_exit() -> None:
    """Raise RuntimeError if the program is ending."""
    if _Shared.is_over:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")


def _wait_at_exit() -> None:
    """Wait for the calls of all executors, and let none make new ones."""
    _Shared.is_over = True
    for outstanding in list(_everyone):
        with outstanding.lock:
            waiting = [each for each in outstanding.futures if _comes_without_us(each)]
        concurrent.futures.wait(waiting)


def _comes_without_us(future: RefFuture[Any]) -> bool:
    """Tell whether a future can be waited for here: its engine is in another thread."""
    client = future.entry.client
    return client is not None and not client.in_own_thread()


def _note_exit() -> None:
    _Shared.is_over = True


def _after_fork_in_child() -> None:
    """Forget the session, which stays with the parent."""
    global _lock
    _lock = threading.RLock()  # a lost thread may have held it
    _Shared.client = None
    _Shared.users.clear()
    _everyone.clear()


atexit.register(_note_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
