"""What /proc tells of a process and its descendants: memory, CPU time, who they are."""

from __future__ import annotations

import contextlib
import os
import signal


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields and fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def pss_kb(*pids: int) -> float:
    """Proportional set size: shared pages count for each process by its share."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    total += float(line.split()[1])
    return total


def cpu_seconds(*pids: int) -> float:
    """CPU time that their threads have used so far, by the scheduler's exact clock."""
    nanoseconds = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    nanoseconds += int(file.read().split()[0])
    return nanoseconds / 1e9


def kill_tree(pid: int) -> None:
    """Kill a process that we have started, and what it has started."""
    for member in tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the state on; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
