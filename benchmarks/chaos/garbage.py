"""What is no message: written into pipes by workers, and by the saboteur in their place."""

from __future__ import annotations

import fcntl
import os

GARBAGE = {
    "a line": b"hello, world\n" * 10,
    "zeros": bytes(4096),
    "text": b"garbage " * 1_000,
    "ones": b"\xff" * 4096,
}


def pipes(pid: int | str, flags: int) -> list[str]:
    """The pipes above the standard streams that a process has open in this way."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        if int(name) > 2 and os.readlink(path).startswith("pipe:"):
            with open(f"/proc/{pid}/fdinfo/{name}") as file:
                mode = int(file.read().split("flags:")[1].split()[0], 8) & os.O_ACCMODE
            if mode == flags:
                found.append(path)
    return sorted(found, key=lambda path: int(path.rpartition("/")[2]))


def write_garbage(kind: str) -> None:
    """Write into the own answers pipe, as a task that closes or guesses descriptors may."""
    for number in range(3, 100):  # without listing them: there may be no descriptor for that
        try:
            is_pipe = os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            continue
        if is_pipe and mode == os.O_WRONLY:
            os.write(number, GARBAGE[kind])
            return
