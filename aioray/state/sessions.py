"""Sessions as a reader sees them: which there are, and what each one can tell.

Room: state. A living session is asked over its socket for what is going on; everything else, of
the living and of the ended, is read from its history.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from .folders import found_sessions, is_alive, root_folder
from .history import FILE, open_file, open_image, version_of
from .schema import VERSION
from .server import connect
from .view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BlockedSessionError",
    "NoSessionError",
    "Session",
    "SessionError",
    "find_session",
    "meta_of",
    "open_view",
    "sessions",
]

BEGIN_SECONDS = 1.0  # between the making of a session's folder and that of its socket


class SessionError(Exception):
    """A session cannot be looked at. The text says why, and what to do."""


class NoSessionError(SessionError):
    """There is no such session."""


class BlockedSessionError(SessionError):
    """The session's event loop is blocked. `threads`: where its threads are, see `stacks`."""

    def __init__(self, message: str, threads: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.threads = threads


class Session:
    """One session, living or ended."""

    def __init__(
        self,
        name: str,
        folder: str,
        *,
        alive: bool,
        pid: int,
        ask: Callable[[dict[str, Any], float], dict[str, Any]] | None = None,
    ) -> None:
        """pid: of its driver. ask: answers a request within so many seconds; None: by the socket.

        The former raises what `connect` raises.
        """
        self._ask_engine = ask or (lambda request, timeout: connect(folder, request, timeout))
        self.name = name
        self.folder = folder
        self.alive = alive
        self.pid = pid
        self.others = 0  # sessions that run too, if this was found as the newest one

    def __repr__(self) -> str:
        return f"<Session {self.name} {'alive' if self.alive else 'ended'}>"

    @contextlib.contextmanager
    def view(self, want: tuple[str, ...] = (), timeout: float = 30.0) -> Iterator[View]:
        """What it can tell.

        want: of what is going on, more than its tasks: "objects". timeout: seconds to wait for a
        session that is busy. Raises SessionError.
        """
        live: dict[str, Any] = {}
        if self.alive:
            live = self._ask({"want": list(want), "patience": timeout}, timeout + 5.0)
        with contextlib.closing(self._open(live.pop("database", None))) as connection:
            try:
                yield View(self, connection, live)
            except sqlite3.DatabaseError as error:
                raise SessionError(
                    f"The history of {self.name} cannot be read: {error} "
                    f"({os.path.join(self.folder, FILE)}). Remove the file if it is damaged."
                ) from error

    def ask(self, what: str, timeout: float = 30.0) -> Any:
        """One thing that only a living session can tell, such as "stacks". Raises SessionError."""
        if not self.alive:
            raise NoSessionError(f"The session {self.name} has ended.")
        return self._ask({"want": [what], "patience": timeout}, timeout + 5.0).get(what)

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        try:
            answer = self._answer(request, timeout)
        except TimeoutError:
            raise SessionError(
                f"The session {self.name} (pid {self.pid}) does not answer; is it stopped?"
            ) from None
        except (FileNotFoundError, ConnectionError):  # it has ended this moment, or never listened
            self.alive = False
            return {}
        except OSError as error:
            raise SessionError(f"The session {self.name} cannot be asked: {error}.") from None
        if answer.get("error") == "blocked":
            raise BlockedSessionError(
                f"The event loop of session {self.name} (pid {self.pid}) is blocked: something "
                f"in it does not return to the loop. `aioray stack` shows where it is.",
                answer["threads"],
            )
        if "error" in answer:
            raise SessionError(f"The session {self.name} has refused: {answer['error']}.")
        return answer

    def _answer(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """What the engine answers; if the session is just beginning, as soon as it can."""
        begun = time.monotonic()
        while True:
            try:
                return self._ask_engine(request, timeout)
            except (FileNotFoundError, ConnectionError):
                if not is_alive(self.folder) or time.monotonic() > begun + BEGIN_SECONDS:
                    raise
                time.sleep(BEGIN_SECONDS / 50)

    def _open(self, image: str | None) -> sqlite3.Connection:
        path = os.path.join(self.folder, FILE)
        if image is None and not os.path.exists(path):
            raise NoSessionError(
                f"The session {self.name} has no history: it was started with history=0, or could "
                f"not write it."
            )
        try:
            if image is not None:
                connection = open_image(base64.b64decode(image))
            else:
                connection = open_file(path, ended=not self.alive)
            with contextlib.ExitStack() as stack:
                stack.callback(connection.close)
                if version_of(connection) != VERSION:
                    raise SessionError(
                        f"The history of {self.name} was written by another version of aioray."
                    )
                stack.pop_all()
        except sqlite3.Error as error:
            raise SessionError(
                f"The history of {self.name} cannot be read: {error} ({path}). "
                f"Remove the file if it is damaged."
            ) from error
        return connection


def sessions(temp_dir: str | None = None) -> list[Session]:
    """All sessions of this user, the newest first.

    temp_dir: what the programs gave to init as `_temp_dir`; None: RAY_TMPDIR, or the system's
    folder for temporary files.
    """
    return [
        Session(found.name, found.path, alive=found.alive, pid=found.pid)
        for found in found_sessions(root_folder(temp_dir))
    ]


def find_session(name: str | None = None, temp_dir: str | None = None) -> Session:
    """The session of this name, or with these last digits; None: the newest one.

    Raises NoSessionError.
    """
    found = sessions(temp_dir)
    root = root_folder(temp_dir)
    if not found:
        raise NoSessionError(
            f"There is no session in {root}. Start one with aioray.init(), or name the folder that "
            f"the program has given as _temp_dir with --temp-dir."
        )
    if name in (None, "auto", "local"):
        newest, *older = found
        newest.others = sum(session.alive for session in older)
        return newest
    fitting = [session for session in found if name in (session.name, str(session.pid))]
    if not fitting:
        raise NoSessionError(
            f"There is no session {name} in {root}. `aioray sessions` lists those there are."
        )
    return fitting[0]


@contextlib.contextmanager
def open_view(
    session: Session | None = None, *, want: tuple[str, ...] = (), timeout: float = 30.0
) -> Iterator[View]:
    """What a session can tell; None: the newest one. Raises SessionError."""
    with (session or find_session()).view(want, timeout) as view:
        yield view


def meta_of(session: Session) -> dict[str, Any]:
    """What the history says of a session as a whole; empty if it cannot be read."""
    path = os.path.join(session.folder, FILE)
    if not os.path.exists(path):
        return {}
    with (
        contextlib.suppress(sqlite3.Error, ValueError),
        contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection,
    ):
        connection.execute("PRAGMA query_only = ON")
        rows = connection.execute("SELECT key, value FROM meta")
        return {key: json.loads(value) for key, value in rows}
    return {}
