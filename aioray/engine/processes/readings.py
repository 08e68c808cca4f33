"""Reads how much memory processes and the machine use, from the files in which the kernel tells.

Room: engine. Decides nothing. Each function can be given another root of those files. What is
gone, or may not be read, counts as nothing.

A process's own memory is what no file stands behind and nobody shares: anonymous pages, and what of
them is swapped out. Two numbers tell of it. The quick one (`own_memory`) is kept by the kernel, and
counts a page that several processes have from a fork in each of them; it may be asked anywhere. The
exact one (`shares_of_own_memory`) divides such pages, so that a sum over all those processes has
each once; the kernel looks at every page for it, which can take milliseconds: never on the loop.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ...core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "MachineMemory",
    "MemoryUse",
    "family_of",
    "own_memory",
    "shares_of_own_memory",
]

_KB = 1024
_OWN = (b"RssAnon", b"VmSwap")
_SHARES = (b"Pss_Anon", b"SwapPss")


# --------------------------------------------------------------------------- processes


def own_memory(pid: int, proc: str = "/proc") -> int:
    """Return the bytes that are a process's own, quickly; too many if it has forked, or was."""
    return _sum_of(f"{proc}/{pid}/status", _OWN)


def shares_of_own_memory(pids: Iterable[int], proc: str = "/proc") -> int:
    """Return the bytes that are these processes' own, each page once. May take its time."""
    return sum(_sum_of(f"{proc}/{pid}/smaps_rollup", _SHARES) for pid in pids)


def family_of(pid: int, proc: str = "/proc") -> list[int]:
    """Return a process and all below it, whichever process group they are in."""
    family = [pid]
    for member in family:  # it grows meanwhile
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"{proc}/{member}/task"):
                family += _children_of(f"{proc}/{member}/task/{thread}/children")
    return family


def _children_of(path: str) -> list[int]:
    try:
        with open(path, "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # the thread has ended
        return []


def _sum_of(path: str, names: tuple[bytes, ...]) -> int:
    """Sum up these lines of a file, such as `RssAnon:  116 kB`; 0 if there is none."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:  # the process has ended
        return 0
    split = (line.partition(b":") for line in lines)
    return sum(int(rest.split()[0]) for name, _, rest in split if name in names) * _KB


# --------------------------------------------------------------------------- the machine


class MemoryUse(NamedTuple):
    """How much memory of the machine, or of a container, is in use."""

    used: int  # bytes, without those that the kernel can give back at once, as its file cache
    total: int  # bytes

    def allowed(self, threshold: float, min_free: int) -> int:
        """Return how many bytes may be in use. Source: Ray, `memory_usage_threshold`.

        threshold: a share of all there is; or all but `min_free` bytes, if that is more. -1: no.
        """
        share = int(self.total * threshold)
        return share if min_free < 0 else max(share, self.total - min_free)


class _Cgroup(NamedTuple):
    """A cgroup that counts memory, and how its files are called."""

    folder: str
    limit: str
    current: str
    cache: tuple[bytes, ...]  # lines of memory.stat


class MachineMemory:
    """Tells how much memory is in use: of the machine, and of each container that we are in."""

    def __init__(self, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> None:
        """Find out which cgroups count this process's memory: its own, and those above it."""
        self._proc = proc
        self._cgroups = tuple(_memory_cgroups(proc, cgroups))

    def look(self) -> list[MemoryUse]:
        """Return how much is in use now, of the machine first. May take milliseconds."""
        total, available = _machine(self._proc)
        found = [MemoryUse(total - available, total)] if total else []
        for cgroup in self._cgroups:
            limit = _number(f"{cgroup.folder}/{cgroup.limit}")
            current = _number(f"{cgroup.folder}/{cgroup.current}")
            if limit and current is not None and (not total or limit < total):
                cache = _lines(f"{cgroup.folder}/memory.stat")
                files = sum(cache.get(name, 0) for name in cgroup.cache)
                found.append(MemoryUse(max(0, current - files), limit))
        return found


def _machine(proc: str) -> tuple[int, int]:
    """Return the bytes of memory that the machine has, and those that could be had at once."""
    lines = _lines(f"{proc}/meminfo")
    return lines.get(b"MemTotal", 0) * _KB, lines.get(b"MemAvailable", 0) * _KB


def _memory_cgroups(proc: str, root: str) -> Iterator[_Cgroup]:
    """Find the cgroups whose memory this process's counts as, of both versions."""
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:
            base, limit, current = root, "memory.max", "memory.current"
            cache: tuple[bytes, ...] = (b"inactive_file", b"active_file")
        elif controllers == "memory":
            base, limit, current = (
                f"{root}/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
            cache = (b"total_inactive_file", b"total_active_file")
        else:
            continue
        # A container often sees its own cgroup at the root of what is mounted there.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([base, *parts[:depth]])
            if os.path.exists(f"{folder}/{limit}"):
                yield _Cgroup(folder, limit, current, cache)


def _number(path: str) -> int | None:
    """Return the number in a file; None: there is none, or it says "max"."""
    try:
        with open(path, "rb") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _lines(path: str) -> Mapping[bytes, int]:
    """Return the numbers in a file of lines such as `MemTotal:  1024 kB` or `anon 4096`."""
    try:
        with open(path, "rb") as file:
            split = [line.split() for line in file.read().splitlines()]
    except OSError:
        return {}
    return {
        parts[0].rstrip(b":"): int(parts[1])
        for parts in split
        if len(parts) > 1 and parts[1].isdigit()
    }
