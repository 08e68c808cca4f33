"""Sessions as a reader sees them: which there are, and what each one can tell.

Room: state. A living session is asked over its socket for what is going on; everything else, of
the living and of the ended, is read from its history.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ...shared.printable import printable
from ..folders import check_ours, found_sessions, is_alive, root_folder, sessions_above
from ..schema import VERSION
from ..write.history import DAMAGE, FILE, open_file, open_image, version_of
from ..write.server import connect
from .view import View

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from ..folders import Found

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

logger = logging.getLogger("aioray")

LONGEST_PATIENCE = 1e6  # seconds; more would be too much for a socket
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
        """Describe a session, and look at nothing of it yet.

        pid: of its driver. ask: answers a request within so many seconds, and raises what `connect`
        raises; None: the session is asked by its socket.
        """
        self._ask_engine = ask or (lambda request, timeout: connect(folder, request, timeout))
        self.name = name
        self.folder = folder
        self.alive = alive
        self.pid = pid
        self.others = 0  # sessions that run too, if this was found as the newest of them
        self._damage_is_told = False

    def __repr__(self) -> str:
        return f"<Session {self.name} {'alive' if self.alive else 'ended'}>"

    @contextlib.contextmanager
    def view(self, want: tuple[str, ...] = (), timeout: float = 30.0) -> Iterator[View]:
        """Open a view of what the session can tell.

        want: of what is going on, more than its tasks: "objects". timeout: seconds to wait for a
        session that is busy. Raises SessionError.
        """
        live: dict[str, Any] = {}
        if self.alive:
            live = self._ask(list(want), timeout)
        with contextlib.closing(self._open(live.pop("database", None))) as connection:
            view = View(self, connection, live)
            try:
                yield view
            except DAMAGE as error:
                raise self._unreadable(error) from error
        if view.damaged and not self._damage_is_told:
            self._damage_is_told = True
            logger.warning(
                "A part of the history of %s is damaged and is left out (%s).",
                printable(self.name),
                printable(os.path.join(self.folder, FILE)),
            )

    def _unreadable(self, error: BaseException) -> SessionError:
        return SessionError(
            f"The history of {self.name} cannot be read: {error} "
            f"({os.path.join(self.folder, FILE)}). Remove the file if it is damaged."
        )

    def ask(self, what: str, timeout: float = 30.0) -> Any:
        """Ask for what only a living session can tell, such as "stacks". Raises SessionError."""
        if not self.alive:
            raise NoSessionError(f"The session {self.name} has ended.")
        return self._ask([what], timeout).get(what)

    def _ask(self, want: list[str], patience: float) -> dict[str, Any]:
        patience = max(0.0, min(patience, LONGEST_PATIENCE))  # in this order it bounds NaN too
        try:
            answer = self._answer({"want": want, "patience": patience}, patience + 5.0)
        except TimeoutError:
            raise SessionError(
                f"The session {self.name} (pid {self.pid}) does not answer; is it stopped?"
            ) from None
        except (FileNotFoundError, ConnectionError):  # it has ended this moment, or never listened
            self.alive = False
            return {}
        except (OSError, ValueError) as error:
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
        """Return the engine's answer; wait a moment for a session that is just beginning."""
        begun = time.monotonic()
        while True:
            try:
                return self._ask_engine(request, timeout)
            except (FileNotFoundError, ConnectionError):
                if not is_alive(self.folder) or time.monotonic() > begun + BEGIN_SECONDS:
                    raise
                time.sleep(BEGIN_SECONDS / 50)

    def _open(self, image: str | None) -> sqlite3.Connection:
        try:
            if image is not None:
                connection = open_image(base64.b64decode(image))
            else:
                check_ours(self.folder, stat.S_IFDIR)
                connection = open_file(os.path.join(self.folder, FILE), ended=not self.alive)
            with contextlib.ExitStack() as stack:
                stack.callback(connection.close)
                if version_of(connection) != VERSION:
                    raise SessionError(
                        f"The history of {self.name} was written by another version of aioray."
                    )
                stack.pop_all()
        except FileNotFoundError:
            raise NoSessionError(
                f"The session {self.name} has no history: it was started with history=0, or could "
                f"not write it."
            ) from None
        except (*DAMAGE, OSError) as error:
            raise self._unreadable(error) from error
        return connection


def sessions(temp_dir: str | None = None) -> list[Session]:
    """List all sessions of this user, the newest first.

    temp_dir: what the programs gave to init as `_temp_dir`; None: RAY_TMPDIR, or the system's
    folder for temporary files. Raises SessionError if that is not this user's alone.
    """
    root = root_folder(temp_dir)
    try:
        found = found_sessions(root)
    except PermissionError as error:
        raise SessionError(
            f"The folder of sessions is not looked into: {error.strerror} ({root})."
        ) from error
    return [_session_of(one) for one in found]


def _session_of(found: Found) -> Session:
    return Session(found.name, found.path, alive=found.alive, pid=found.pid)


def find_session(name: str | None = None, temp_dir: str | None = None) -> Session:
    """Find the session of this name, or of the driver with this pid.

    None: that of the driver from which this process descends; else the newest that is alive; else
    the newest. Raises NoSessionError, and what `sessions` does.
    """
    root = root_folder(temp_dir)
    if name in (None, "auto", "local"):
        above = [
            found
            for found in sessions_above()
            if temp_dir is None or os.path.dirname(found.path) == root
        ]
        if above:
            chosen = _session_of(above[0])
            chosen.others = sum(found.pid == chosen.pid for found in above) - 1
            return chosen
    found = sessions(temp_dir)
    if not found:
        raise NoSessionError(
            f"There is no session in {root}. Start one with aioray.init(), or name the folder that "
            f"the program has given as _temp_dir with --temp-dir."
        )
    if name in (None, "auto", "local"):
        alive = [session for session in found if session.alive]
        chosen = (alive or found)[0]
        chosen.others = max(0, len(alive) - 1)
        return chosen
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
    """Open a view of what a session can tell; None: see `find_session`. Raises SessionError."""
    with (session or find_session()).view(want, timeout) as view:
        yield view


def meta_of(session: Session) -> dict[str, Any]:
    """Return what the history says of a session as a whole; empty if it cannot be read."""
    path = os.path.join(session.folder, FILE)
    with (
        contextlib.suppress(*DAMAGE, OSError),
        contextlib.closing(open_file(path, ended=False)) as connection,
    ):
        return View(session, connection, {}).meta
    return {}
