"""The folders of sessions: made, locked while the session lives, found again, swept.

Room: state; stdlib only. `TEMP/aioray-UID/SESSION`, both 0700. TEMP is what `_temp_dir` or
RAY_TMPDIR say, else the system's folder for temporary files. A session's name ends with the pid of
its driver, and its `lock` is held while it lives, which decides where pids mean nothing, in other
containers. What a session leaves is its history; what it needs only while it lives goes with it,
or is swept by the next one if everything was killed.

TEMP is everybody's, so somebody else may have made what stands there. Whoever opens, reads or
removes anything asks `check_ours` first: the driver, the template, readers and commands.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "OBJECTS",
    "SHORTAGES",
    "SOCKET",
    "Found",
    "SessionFolder",
    "check_ours",
    "clear",
    "found_sessions",
    "is_alive",
    "make_folder",
    "root_folder",
    "sessions_above",
    "sweep",
]

SOCKET = "state.sock"
OBJECTS = "objects"  # values that did not fit into memory
KEPT_BYTES = 1024 * 1024 * 1024  # of all ended sessions together
KEPT_SESSIONS = 100  # ended ones
NEW_SECONDS = 10.0  # for which a folder without a lock may become that of a session
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # which pass
_LOCK = "lock"
_NAME = re.compile(r"[A-Za-z0-9_.:-]*_[0-9]{1,10}", re.ASCII)
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFREG: "plain file", stat.S_IFSOCK: "socket"}


def check_ours(path: str, kind: int) -> os.stat_result:
    """Raise unless `path` is a `stat.S_IFDIR`, `S_IFREG` or `S_IFSOCK` of this user's alone.

    No link is followed. Returns what is known of it. Raises FileNotFoundError if it is not there,
    and PermissionError, which says what to do, if it is something else, belongs to somebody else,
    or others may write to it.
    """
    return _checked(os.lstat(path), path, kind)


def _checked(found: os.stat_result, path: str, kind: int) -> os.stat_result:
    if stat.S_IFMT(found.st_mode) != kind:
        why = f"it is no {_KINDS[kind]}"
    elif found.st_uid != os.getuid():
        why = f"it belongs to somebody else (uid {found.st_uid})"
    elif found.st_mode & 0o022:
        why = "somebody else could write there"
    else:
        return found
    raise PermissionError(errno.EPERM, f"{why}: remove it, or use another folder", path)


def root_folder(temp_dir: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Return the folder in which the sessions of this user have theirs."""
    environ = os.environ if environ is None else environ
    parent = temp_dir or environ.get("RAY_TMPDIR") or _system_folder()
    return os.path.join(parent, f"aioray-{os.getuid()}")


def _system_folder() -> str:
    """Return what `tempfile.gettempdir()` does, which writes a file, and loads for a while."""
    chosen = getattr(sys.modules.get("tempfile"), "tempdir", None)  # by the program, or found
    if chosen is None:
        first = next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), "/tmp")  # noqa: S108
        if os.path.isabs(first) and os.path.isdir(first) and os.access(first, os.W_OK | os.X_OK):
            return os.path.normpath(first)
    import tempfile

    return tempfile.gettempdir()


def new_name() -> str:
    """Make up a name for a session of this process, in the form of Ray's."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    day = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(seconds))
    return f"session_{day}_{nanoseconds // 1000:06}_{os.getpid()}"


class SessionFolder:
    """The folder of a session of this process. All methods may be called from any thread."""

    def __init__(self, root: str, name: str) -> None:
        """Note which folder in `root` is meant, and make nothing yet."""
        self.root = root
        self.path = os.path.join(root, name)
        self._lock_fd: int | None = None
        self._closed = False
        self._mutex = threading.Lock()

    def make(self) -> None:
        """Make the folder and lock it, unless that was done before.

        Raises OSError; PermissionError if somebody else could write to the folder above.
        """
        with self._mutex:
            if self._closed:
                raise RuntimeError("This engine is shut down. Start another one.")
            if self._lock_fd is not None:
                return
            for folder in (self.root, self.path):
                make_folder(folder)
            fd = _open_lock(self.path, os.O_CREAT)
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._lock_fd = fd

    def close(self) -> None:
        """Remove what of the session is not to stay, and the folder too if nothing does."""
        with self._mutex:
            self._closed = True
            fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            clear(self.path)
            os.close(fd)
            with contextlib.suppress(OSError):  # others have sessions, or it is not ours alone
                os.rmdir(self.root)

    def after_fork_in_child(self) -> None:
        """Let go of the folder, in a copy of this in a forked process: it is the parent's."""
        self._closed = True
        self._lock_fd = None
        self._mutex = threading.Lock()  # the other may be held by a thread that is not here


class Found(NamedTuple):
    """A session that was found."""

    name: str
    path: str
    alive: bool

    @property
    def pid(self) -> int:
        """The pid of the session's driver."""
        return int(self.name.rpartition("_")[2])


def make_folder(path: str) -> None:
    """Make a folder of this user's own, unless it is there. Raises what `check_ours` does.

    Folders above that are missing are made too, in which nobody else may write, whatever the umask.
    """
    missing, above = [(path, 0o700)], os.path.dirname(path)
    while above and not os.path.isdir(above):
        missing.append((above, 0o755))
        above = os.path.dirname(above)
    for folder, mode in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode)
    check_ours(path, stat.S_IFDIR)


def found_sessions(root: str) -> list[Found]:
    """List the sessions in this folder, the newest first.

    Raises PermissionError if it is not this user's alone. What is not in it is no session.
    """
    try:
        check_ours(root, stat.S_IFDIR)
        names = os.listdir(root)
    except PermissionError:
        raise
    except OSError:
        return []
    # The name begins with the time, and ends with the pid, which is no time.
    names = sorted((name for name in names if _is_session(name)), reverse=True)
    return [
        Found(name, path, alive)
        for name in names
        if (alive := is_alive(path := os.path.join(root, name))) is not None
    ]


def sessions_above() -> list[Found]:
    """List the living sessions of the processes that this one descends from, nearest first.

    They are found by the locks that those processes hold, wherever the folders are.
    """
    found: list[Found] = []
    pid = os.getppid()
    while pid > 1:
        found += _held_by(pid)
        pid = _parent_of(pid)
    return found


def _held_by(pid: int) -> list[Found]:
    paths = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                path, name = os.path.split(os.readlink(entry.path))
                # A process that was forked from the driver has its descriptors, but not its pid.
                if name == _LOCK and os.path.basename(path).endswith(f"_{pid}"):
                    paths.add(path)
    newest_first = sorted(paths, key=os.path.basename, reverse=True)
    return [Found(os.path.basename(path), path, True) for path in newest_first if is_alive(path)]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def sweep(root: str) -> None:
    """Remove what sessions have left that were killed, and the oldest of those that ended.

    Raises PermissionError if the folder is not this user's alone.
    """
    kept, size = 0, 0
    for found in found_sessions(root):
        if found.alive or _may_be_new(found):
            continue
        with contextlib.suppress(OSError):
            fd = _open_lock(found.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                size += _size(found.path)
                kept += 1
                if size > KEPT_BYTES or kept > KEPT_SESSIONS:
                    import shutil  # seldom, and it takes as long to load as all of this room

                    shutil.rmtree(found.path, ignore_errors=True)
                else:
                    clear(found.path)
            finally:
                os.close(fd)


def _may_be_new(found: Found) -> bool:
    """Tell whether a session may be about to be made: its folder is there before its lock."""
    if not os.path.exists(f"/proc/{found.pid}"):
        return False
    with contextlib.suppress(OSError):
        return time.time() - os.stat(found.path).st_mtime < NEW_SECONDS
    return True


def clear(path: str) -> None:
    """Remove what is of no use when the session is over, and the folder if that was all.

    Nothing is touched in a folder that is not this user's alone.
    """
    try:
        check_ours(path, stat.S_IFDIR)
    except OSError:
        return
    objects = os.path.join(path, OBJECTS)
    if os.path.isdir(objects) and not os.path.islink(objects):  # a fifo would be waited for
        import shutil

        shutil.rmtree(objects, ignore_errors=True)
    for name in (OBJECTS, SOCKET):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(path, name))
    with contextlib.suppress(OSError):  # somebody has cleaned up before, or may write here
        if set(os.listdir(path)) <= {_LOCK}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, _LOCK))
            os.rmdir(path)


def _is_session(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_alive(path: str) -> bool | None:
    """Tell whether somebody holds the lock of this session; None if this user has no such one."""
    try:
        check_ours(path, stat.S_IFDIR)
        fd = _open_lock(path)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _size(path: str) -> int:
    with os.scandir(path) as entries:  # no link is followed: some lead nowhere
        plain = (each for each in entries if each.is_file(follow_symlinks=False))
        return sum(each.stat(follow_symlinks=False).st_size for each in plain)


def _open_lock(folder: str, flags: int = 0) -> int:
    """Open the lock's file. Raises OSError, as `check_ours` does; waits for nobody."""
    path = os.path.join(folder, _LOCK)
    flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        _checked(os.fstat(fd), path, stat.S_IFREG)
    except PermissionError:
        os.close(fd)
        raise
    return fd
