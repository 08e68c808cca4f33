"""The one place that talks to the Linux kernel beyond what the os module wraps portably.

Room: shared; stdlib only. Another platform needs replacements for what is here
and for the descriptors named in `wire`: parent-death signal (prctl), sub-reaper (prctl), the list
of own children (/proc), pidfds, eventfds, memory files that can be sealed, mapped and given back in
part, SOCK_SEQPACKET, pipes of packets, the out-of-memory counters, and the size of the memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import resource
import signal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Container

__all__ = [
    "MADV_POPULATE_WRITE",
    "addresses_left",
    "become_subreaper",
    "check_platform",
    "children",
    "die_with_parent",
    "end_children",
    "fill_standard_descriptors",
    "give_pages_back",
    "kill_children",
    "largest_file",
    "map_readable",
    "memory_size",
    "no_core_dumps",
    "oom_kills",
    "packet_pipe",
    "sealed_memory_file",
    "unmap",
]

KILL_AGAIN_SECONDS: Final = 0.01  # that processes which were killed have until they are looked for

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x1 | 0x2 | 0x4  # no more seals, no shrinking, no growing

_PROT_READ: Final = 1
_MAP_SHARED: Final = 0x1
_MAP_NORESERVE: Final = 0x4000
MADV_POPULATE_WRITE: Final = 23  # not in the mmap module; since Linux 5.14
_PUNCH_HOLE: Final = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE


def check_platform() -> None:
    """Raise OSError, saying what is missing, where workers cannot be supervised.

    That this is Linux was seen when the package was imported; but it may be an old one, or a Python
    that was built on one.
    """
    missing = [
        name
        for name in ("pidfd_open", "memfd_create", "eventfd", "posix_spawn")
        if not hasattr(os, name)
    ]
    if missing:
        raise OSError(
            f"aioray supervises workers with what this Python does not have: os."
            f"{', os.'.join(missing)}. Run it with a Python that was built on Linux 5.4 or later."
        )


def packet_pipe() -> tuple[int, int]:
    """Return the ends of a pipe in which writes of up to PIPE_BUF bytes stay apart, not blocking.

    Where there are no such pipes, as in gVisor, they are sockets, which take a little longer.
    """
    try:
        return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    import socket  # seldom needed

    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (reader, writer):
        end.setblocking(False)
    return reader.detach(), writer.detach()


def fill_standard_descriptors() -> None:
    """Open /dev/null as those of the descriptors 0, 1 and 2 that are closed, and leave it there.

    Whatever is opened next would be one of them, read and written by everybody who means the
    standard streams; so the C library does it in programs that change their user, and daemons do.
    Raises OSError if there is none.
    """
    while True:
        try:
            for fd in range(3):
                os.fstat(fd)
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if fd > 2:  # another thread was faster
                os.close(fd)
                continue
            os.set_inheritable(fd, True)  # as a standard stream is
        else:
            return


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes  # here and below: a session has begun before the driver needs it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return libc


def _raise_errno(what: str) -> NoReturn:
    import ctypes

    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        _raise_errno(f"prctl({option})")


def die_with_parent(number: int, parent: int) -> bool:
    """Ask for this signal when the parent dies; False if `parent` is gone already. 0: for none."""
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """Return the pids of this process's children; only for single-threaded processes."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or no /proc
        return _children_of_all()


def _children_of_all() -> list[int]:
    """Find the pids of this process's children among all processes."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    # The name of the program is in parentheses, and may contain some.
                    if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                        found.append(int(name))
    return found


def kill_children(spare: Container[int] = ()) -> int:
    """Kill the children of this process, each with its group; return how many were signalled.

    A whole group is killed at once: none of it can escape by forking meanwhile. What such a child
    leaves behind comes to this process if it is a sub-reaper: call again when a child has ended.
    spare: children that live on, and lead groups that do.
    """
    count = 0
    for pid in children():
        if pid not in spare:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)  # a child that is not reaped: its numbers are its own
                if group not in spare and group != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has become root
                os.kill(pid, signal.SIGKILL)
                count += 1
    return count


def end_children() -> dict[int, int]:
    """Kill and reap all below this process, a sub-reaper; return by pid how its children ended.

    For a process that does nothing else from now on. What may not be killed is left.
    """
    statuses: dict[int, int] = {}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        are_left = kill_children() > 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return statuses
            if pid == 0:
                break
            statuses[pid] = status
            are_left = True
        if not are_left:
            return statuses
        # An orphan that comes here alive is not announced.
        signal.sigtimedwait([signal.SIGCHLD], KILL_AGAIN_SECONDS)


def no_core_dumps() -> None:
    """Switch core dumps off: writing one delays the news of a death by 0.1 seconds and more."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def oom_kills() -> int:
    """Count the processes that the kernel's out-of-memory killer has ended here so far.

    Of this cgroup, if it counts them; else of the whole machine; 0 if nobody counts.
    """
    for path, key in (*_cgroup_files(), ("/proc/vmstat", "oom_kill")):
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == key:
                        return int(value)
        except (OSError, ValueError):
            continue
    return 0


def _cgroup_files() -> list[tuple[str, str]]:
    return [
        (f"{folder}/memory.events", "oom_kill")
        if unified
        else (f"{folder}/memory.oom_control", "oom_kill")
        for folder, unified in _memory_cgroups()
    ]


def _memory_cgroups() -> list[tuple[str, bool]]:
    """Return the folders of the cgroups that count this process's memory; True: version 2."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:
            found.append((f"/sys/fs/cgroup{path}".rstrip("/"), True))
        elif controllers == "memory":
            found.append((f"/sys/fs/cgroup/memory{path}".rstrip("/"), False))
    return found


def memory_size() -> int:
    """Return how many bytes of memory this process may use: the machine's, or a cgroup's limit."""
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder, unified in _memory_cgroups():
        # A container often sees its own limit at the root of what is mounted there.
        root = "/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory"
        name = "memory.max" if unified else "memory.limit_in_bytes"
        for path in (folder, root):
            try:
                with open(f"{path}/{name}", encoding="ascii") as file:
                    text = file.read().strip()
            except OSError:
                continue
            if text.isdigit():  # not "max"
                size = min(size, int(text))
    return size


# ---------------------------------------------------------------- shared memory


def addresses_left() -> int | None:
    """Return how many bytes this process may still map; None: no limit is set (ulimit -v)."""
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses == resource.RLIM_INFINITY:
        return None
    used = 0
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    return max(0, addresses - used)


def largest_file() -> int | None:
    """Return how many bytes a memory file of this process may have; None: no limit is set.

    Programs, libraries and threads are to have room beside it, in the driver and in its workers.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    addresses = addresses_left()
    limits = []
    if files != resource.RLIM_INFINITY:
        limits.append(files)
    if addresses is not None:
        limits.append(addresses // 4)
    return min(limits, default=None)


def sealed_memory_file(name: str, size: int) -> int:
    """Make a memory file, sparse, of a size that nobody can change; return its descriptor.

    So no access to it can meet its end (SIGBUS). It is gone with the last process that has it.
    Raises OSError.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def map_readable(fd: int, start: int, size: int) -> int:
    """Map a part of a file for reading; return its address. start: a multiple of the page size.

    Not by the mmap module: objects of that duplicate the descriptor, and cannot serve as the base
    of views that end one by one. Raises OSError.
    """
    import ctypes

    address = _libc().mmap(None, size, _PROT_READ, _MAP_SHARED | _MAP_NORESERVE, fd, start)
    if address is None or address == ctypes.c_void_p(-1).value:
        _raise_errno("mmap")
    return int(address)


def unmap(address: int, size: int) -> None:
    """Take a mapping away. Nothing may refer to it any more."""
    if _libc().munmap(address, size) != 0:
        _raise_errno("munmap")


def give_pages_back(fd: int, offset: int, length: int) -> None:
    """Return the memory of a part of a file to the system; it reads as zeros then."""
    if _libc().fallocate(fd, _PUNCH_HOLE, offset, length) != 0:
        _raise_errno("fallocate")
