"""The one place that talks to the Linux kernel beyond what the os module wraps portably.

Room: shared by driver and worker; stdlib only. Another platform needs replacements for what is here
and for the descriptors named in `wire`: parent-death signal (prctl), sub-reaper (prctl), the list
of own children (/proc), pidfds, eventfds, memory files, SOCK_SEQPACKET, and the out-of-memory
counters.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Final

__all__ = [
    "become_subreaper",
    "check_platform",
    "children",
    "die_with_parent",
    "no_core_dumps",
    "oom_kills",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def check_platform() -> None:
    """Raise OSError, saying what is missing, where workers cannot be supervised."""
    missing = [
        name
        for name in ("pidfd_open", "memfd_create", "eventfd", "posix_spawn")
        if not hasattr(os, name)
    ]
    if sys.platform != "linux" or missing:
        raise OSError(
            f"aioray supervises workers with Linux kernel features; this is {sys.platform}"
            + (f", without os.{', os.'.join(missing)}" if missing else "")
            + ". Run it on Linux 5.4 or later (also in WSL 2 or a container)."
        )


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def die_with_parent(signal: int, parent: int) -> bool:
    """Ask for `signal` when the parent dies; False if `parent` is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal)
    return os.getppid() == parent


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """The pids of this process's children; only for single-threaded processes."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # kernel without CONFIG_PROC_CHILDREN, or no /proc
        return []


def no_core_dumps() -> None:
    """Writing a core delays the news of a death by a tenth of a second and more."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def oom_kills() -> int:
    """How many processes the kernel's out-of-memory killer has ended here so far.

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
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:
            found.append((f"/sys/fs/cgroup{path}/memory.events", "oom_kill"))
        elif controllers == "memory":
            found.append((f"/sys/fs/cgroup/memory{path}/memory.oom_control", "oom_kill"))
    return found
