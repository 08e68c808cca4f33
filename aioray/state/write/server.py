"""The socket on which a session tells what is going on.

Room: state. A Unix socket in the session's folder, which nobody else may enter; the kernel is asked
who calls all the same. A caller sends one line of JSON, a request, and gets one line of JSON, after
which the connection is closed. There is nothing that a caller could change.

Callers are limited: in number, in what they may send, in the time that they may take, and in what
waits for them. Only a few are answered at a time, and none while many bytes of answers have not
been taken, so that what they cost the session is bounded. While descriptors are short, nobody is
accepted, and those who are there are served.

Not asyncio: it lives in the writer's thread, beside the loop of the engine, which may be blocked.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import selectors
import socket
import stat
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ..folders import SOCKET, check_ours
from ..read.stacks import own_stacks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StateServer", "connect"]

REQUEST_BYTES = 64 * 1024
CALLERS = 32  # at a time; others wait to be accepted
ANSWERED_AT_ONCE = 4
UNTAKEN_BYTES = 64 * 1024 * 1024  # of answers, while there are which nobody else is answered
CALLER_SECONDS = 30.0  # for a caller to ask, or to take the answer
SILENT_SECONDS = 1.0  # for a caller to ask while there are as many as there may be
BYTES_PER_SECOND = 1024 * 1024  # that a caller takes at least of a long one
LOOP_SECONDS = 5.0  # for the engine's loop to come to a request, unless the caller gives more
LONGEST_PATIENCE = 3600.0  # seconds
PAUSE_SECONDS = 0.5  # without accepting anybody, when there are no descriptors
WANTED = frozenset({"objects", "running", "stacks", "tasks"})
_CREDENTIALS = struct.Struct("3i")

Answer = dict[str, Any]


class _RequestError(Exception):
    """What a caller has sent is no request. The text says why."""


class _Caller:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.request: Answer | None = None  # what it asks
        self.asked = False  # the engine knows of it
        self.unsent = memoryview(b"")
        self.since = time.monotonic()
        self.due = self.since + CALLER_SECONDS


class StateServer:
    """The listening socket of one session and its callers. For one thread."""

    def __init__(
        self,
        folder: str,
        selector: selectors.BaseSelector,
        answer: Callable[[Answer, Callable[[Answer], None]], None],
    ) -> None:
        """Listen for callers. Raises OSError.

        answer: takes a request and calls back once, in this thread, whatever happens.
        """
        self._path = os.path.join(folder, SOCKET)
        self._selector = selector
        self._answer = answer
        self._callers: set[_Caller] = set()
        self._waiting: deque[_Caller] = deque()  # to be asked for
        self._asked = 0  # requests that the engine has not answered
        self._paused_until: float | None = None  # nobody is accepted
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        new = f"{self._path}.new"
        try:
            with _short(new) as path:
                self._listener.bind(path)
            os.chmod(new, 0o600)
            self._listener.listen(64)
            self._listener.setblocking(False)
            os.replace(new, self._path)  # whoever finds it is heard
        except BaseException:
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        self._listens = False
        self._listen()

    def shortest_wait(self, wait: float) -> float:
        """Return the seconds to the next time-out, but at most `wait`."""
        moments = [self._due(caller) for caller in self._callers]
        if self._paused_until is not None:
            moments.append(self._paused_until)
        if not moments:
            return wait
        return min(wait, max(0.0, min(moments) - time.monotonic()))

    def time_out(self, now: float) -> None:
        """Refuse or drop callers who take too long, and accept others again after a pause."""
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._listen()
        for caller in [caller for caller in self._callers if self._due(caller) <= now]:
            if caller.request is None or caller.unsent:
                self._drop(caller)
            elif caller.asked or self._asked >= ANSWERED_AT_ONCE:
                self._reply(caller, {"error": "blocked", "threads": own_stacks()["threads"]})
            else:
                self._reply(caller, {"error": "too many others ask and do not take their answers"})

    def _due(self, caller: _Caller) -> float:
        """Tell when a caller's time is over: sooner if it says nothing, and keeps others out."""
        if caller.request is None and len(self._callers) >= CALLERS:
            return min(caller.due, caller.since + SILENT_SECONDS)
        return caller.due

    def close(self) -> None:
        """Drop the callers that are left, and stop listening."""
        for caller in tuple(self._callers):
            self._drop(caller)
        self._deafen()
        self._paused_until = None
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    # ------------------------------------------------------------ accepting

    def _listen(self) -> None:
        if not self._listens and self._paused_until is None and len(self._callers) < CALLERS:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
            self._listens = True

    def _deafen(self) -> None:
        if self._listens:
            self._selector.unregister(self._listener)
            self._listens = False

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):  # gone again
            return
        except (
            OSError
        ):  # there are no descriptors left, most of all: it would be told at once again
            self._deafen()
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            return
        try:
            connection.setblocking(False)
            if _uid_behind(connection) not in (os.getuid(), 0):
                connection.close()
                return
            caller = _Caller(connection)
            self._selector.register(
                connection, selectors.EVENT_READ, lambda: self._guard(caller, self._receive)
            )
        except BaseException:
            connection.close()
            raise
        self._callers.add(caller)
        if len(self._callers) >= CALLERS:
            self._deafen()

    # ------------------------------------------------------------ requests

    def _guard(self, caller: _Caller, serve: Callable[[_Caller], None]) -> None:
        """Serve a caller, and drop it if something goes wrong."""
        try:
            serve(caller)
        except BaseException:
            self._drop(caller)
            raise

    def _receive(self, caller: _Caller) -> None:
        try:
            data = caller.connection.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        caller.received += data
        if not data or len(caller.received) > REQUEST_BYTES:
            self._drop(caller)
        elif b"\n" in caller.received:
            line, caller.received = caller.received.partition(b"\n")[0], b""
            self._take(caller, line)

    def _take(self, caller: _Caller, line: bytes) -> None:
        try:
            request, patience = _read(line)
        except _RequestError as error:
            caller.request = {}
            self._reply(caller, {"error": f"not a request: {error}"})
            return
        self._forget(caller)  # it has nothing more to say
        caller.request = request
        caller.due = time.monotonic() + patience
        self._waiting.append(caller)
        self._ask_next()

    def _ask_next(self) -> None:
        """Have the engine answer the callers whose turn it is."""
        while self._waiting and self._asked < ANSWERED_AT_ONCE:
            if sum(len(each.unsent) for each in self._callers) >= UNTAKEN_BYTES:
                return
            caller = self._waiting.popleft()
            if caller not in self._callers or caller.unsent or caller.request is None:
                continue  # it is gone, or has been told that it takes too long
            caller.asked = True
            self._asked += 1
            try:
                self._answer(caller.request, functools.partial(self._finish, caller))
            except BaseException:
                self._asked -= 1
                self._drop(caller)
                raise

    def _finish(self, caller: _Caller, answer: Answer) -> None:
        self._asked -= 1
        try:
            self._guard(caller, lambda caller: self._reply(caller, answer))
        finally:
            self._ask_next()

    def _reply(self, caller: _Caller, answer: Answer) -> None:
        if caller not in self._callers or caller.unsent:
            return  # it came too late
        try:
            data = json.dumps(answer).encode() + b"\n"
        except (ValueError, TypeError, RecursionError) as bug:
            error = f"its answer cannot be sent, which is a bug in aioray: {bug!r}"
            data = json.dumps({"error": error}).encode() + b"\n"
        caller.due = time.monotonic() + CALLER_SECONDS + len(data) / BYTES_PER_SECOND
        caller.unsent = memoryview(data)
        self._forget(caller)
        self._selector.register(
            caller.connection,
            selectors.EVENT_WRITE,
            lambda: self._guard(caller, self._send),
        )
        self._send(caller)

    def _send(self, caller: _Caller) -> None:
        try:
            sent = caller.connection.send(caller.unsent)
        except BlockingIOError:
            return
        except OSError:
            self._drop(caller)
            return
        caller.unsent = caller.unsent[sent:]
        if not caller.unsent:
            self._drop(caller)

    def _forget(self, caller: _Caller) -> None:
        with contextlib.suppress(KeyError, ValueError):  # not registered, or closed
            self._selector.unregister(caller.connection)

    def _drop(self, caller: _Caller) -> None:
        if caller not in self._callers:
            return
        self._callers.discard(caller)
        self._forget(caller)
        caller.unsent = memoryview(b"")
        with contextlib.suppress(OSError):  # the program may have closed it
            caller.connection.close()
        self._paused_until = None  # there is a descriptor again
        self._listen()
        self._ask_next()


def _read(line: bytes) -> tuple[Answer, float]:
    """Read a request from a line, and how many seconds the caller has for it.

    Raises _RequestError.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise _RequestError("it is no line of JSON") from None
    if not isinstance(request, dict):
        raise _RequestError("it is no object")
    if unknown := request.keys() - {"want", "patience"}:
        raise _RequestError(f"unknown: {ascii(min(unknown))[:100]}")
    want, patience = request.get("want", []), request.get("patience", LOOP_SECONDS)
    if not (isinstance(want, list) and all(isinstance(each, str) for each in want)):
        raise _RequestError("'want' is a list of strings")
    if not WANTED.issuperset(want):
        raise _RequestError(f"'want' may have {', '.join(sorted(WANTED))}")
    if isinstance(patience, bool) or not isinstance(patience, int | float) or patience != patience:  # noqa: PLR0124 - NaN
        raise _RequestError("'patience' is a number of seconds")
    return {"want": want}, min(max(patience, 0.0), LONGEST_PATIENCE)


def _uid_behind(connection: socket.socket) -> int:
    """Return the uid of who has connected, or was listening when this was connected to it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(uid)


def connect(folder: str, request: Answer, timeout: float) -> Answer:
    """Ask the session in this folder, and return its answer.

    Raises OSError if nobody answers: FileNotFoundError or ConnectionError if it has ended,
    TimeoutError after `timeout` seconds, PermissionError if it is somebody else's; ValueError for
    an answer that is none.
    """
    deadline = time.monotonic() + timeout
    check_ours(folder, stat.S_IFDIR)
    check_ours(os.path.join(folder, SOCKET), stat.S_IFSOCK)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        with _short(os.path.join(folder, SOCKET)) as path:
            connection.connect(path)
        if _uid_behind(connection) != os.getuid():
            raise PermissionError(errno.EPERM, "somebody else answers there", folder)
        connection.sendall(json.dumps(request).encode() + b"\n")
        chunks = []
        while chunk := connection.recv(1024 * 1024):
            chunks.append(chunk)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("it takes too long")
            connection.settimeout(left)
    if not chunks:
        raise ConnectionResetError("the session has ended")
    try:
        answer = json.loads(b"".join(chunks))
    except RecursionError:
        answer = None
    if not isinstance(answer, dict):
        raise ValueError("its answer is no object")
    return answer


@contextlib.contextmanager
def _short(path: str) -> Any:
    """Yield the same path in few characters: the address of a socket may have 107."""
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)
