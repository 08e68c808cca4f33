"""The socket on which a session tells what is going on.

Room: state. A Unix socket in the session's folder, which nobody else may enter; the kernel is asked
who calls all the same. A caller sends one line of JSON, a request, and gets one line of JSON, after
which the connection is closed. There is nothing that a caller could change.

Not asyncio: it lives in the keeper's thread, beside the loop of the engine, which may be blocked.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from .folders import SOCKET
from .stacks import own_stacks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Server", "connect"]

REQUEST_BYTES = 64 * 1024
CALLER_SECONDS = 30.0  # for a caller to ask, or to take the answer
LOOP_SECONDS = 5.0  # for the engine's loop to come to a request, unless the caller gives more
_CREDENTIALS = struct.Struct("3i")

Answer = dict[str, Any]


class _Caller:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.unsent = memoryview(b"")
        self.due = time.monotonic() + CALLER_SECONDS
        self.waits_for_engine = False


class Server:
    """The listening socket of one session and its callers. For one thread."""

    def __init__(
        self,
        folder: str,
        selector: selectors.BaseSelector,
        answer: Callable[[Answer, Callable[[Answer], None]], None],
    ) -> None:
        """Listen. Raises OSError.

        answer: takes a request and calls back, in this thread.
        """
        self._path = os.path.join(folder, SOCKET)
        self._selector = selector
        self._answer = answer
        self._callers: set[_Caller] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        new = f"{self._path}.new"
        try:
            with _short(new) as path:
                self._listener.bind(path)
            os.chmod(new, 0o600)
            self._listener.listen(64)
            self._listener.setblocking(False)
            os.replace(new, self._path)  # whoever finds it is heard
        except OSError:
            self._listener.close()
            raise
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def shortest_wait(self, wait: float | None) -> float | None:
        """The seconds to the next time-out, if that comes before `wait` seconds."""
        if not self._callers:
            return wait
        first = max(0.0, min(caller.due for caller in self._callers) - time.monotonic())
        return first if wait is None else min(wait, first)

    def time_out(self, now: float) -> None:
        """End what takes too long."""
        for caller in [caller for caller in self._callers if caller.due <= now]:
            if caller.waits_for_engine:
                self._reply(caller, {"error": "blocked", "threads": own_stacks()["threads"]})
            else:
                self._drop(caller)

    def close(self) -> None:
        """Give the answers that are ready, and stop."""
        for caller in tuple(self._callers):
            self._drop(caller)
        self._selector.unregister(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again, or there are no descriptors left
            return
        connection.setblocking(False)
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in (os.getuid(), 0):
            connection.close()
            return
        caller = _Caller(connection)
        self._callers.add(caller)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(caller))

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
            self._take(caller, caller.received.partition(b"\n")[0])

    def _take(self, caller: _Caller, line: bytes) -> None:
        try:
            request = json.loads(line)
            patience = float(request.get("patience", LOOP_SECONDS))
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._reply(caller, {"error": "not a request"})
            return
        self._selector.unregister(caller.connection)
        caller.waits_for_engine = True
        caller.due = time.monotonic() + min(max(patience, 0.0), 3600.0)
        self._answer(request, lambda answer: self._reply(caller, answer))

    def _reply(self, caller: _Caller, answer: Answer) -> None:
        if caller not in self._callers or caller.unsent:
            return  # it came too late
        caller.waits_for_engine = False
        caller.due = time.monotonic() + CALLER_SECONDS
        caller.unsent = memoryview(json.dumps(answer).encode() + b"\n")
        with contextlib.suppress(KeyError):
            self._selector.unregister(caller.connection)
        self._selector.register(
            caller.connection, selectors.EVENT_WRITE, lambda: self._send(caller)
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
        caller.due = time.monotonic() + CALLER_SECONDS
        caller.unsent = caller.unsent[sent:]
        if not caller.unsent:
            self._drop(caller)

    def _drop(self, caller: _Caller) -> None:
        self._callers.discard(caller)
        with contextlib.suppress(KeyError):
            self._selector.unregister(caller.connection)
        caller.connection.close()


def connect(folder: str, request: Answer, timeout: float) -> Answer:
    """Ask the session in this folder.

    Raises OSError if nobody answers: FileNotFoundError or ConnectionError if it has ended,
    TimeoutError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        with _short(os.path.join(folder, SOCKET)) as path:
            connection.connect(path)
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
    answer: Answer = json.loads(b"".join(chunks))
    return answer


@contextlib.contextmanager
def _short(path: str) -> Any:
    """The same path in few characters: the address of a socket may have 107."""
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)
