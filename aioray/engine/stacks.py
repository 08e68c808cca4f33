"""Where every process is right now, for `aioray stack`.

Room: shell. `collect` has all workers write their stacks at once, and looks for what they have
written until they are through or the time is over: faulthandler writes into a memory file, and a
file tells nobody that it has grown. A worker that is stuck in C code is seen too, by its signal
handler; one that is stopped or in the kernel is not, and that is said instead.

`own_stacks` tells the same of this process, from whatever thread: also if the engine's loop is held
up by what runs on it, which is then to be seen.

The rows of both are plain data: `frames` are [file, line, function], the most recent first, without
what every process of aioray has below and above the user's code; `all_frames` are all.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from ..wire import STACK_END

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from .worker import WorkerHandle

__all__ = ["Frame", "collect", "own_stacks", "parse", "trim"]

LOOK_SECONDS = 0.01  # between two looks at what was written
STILL_LOOKS = 10  # after so many without anything new, the last frame ends it
MOST_SECONDS = 2.0

Frame = list[Any]
"""[file, line, function]; JSON knows no tuples."""

_SILENT = "It does not answer: it is stopped, or waits in the kernel."
_TOO_EARLY = "It is starting, or has ended just now."

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARY = os.path.dirname(os.path.abspath(threading.__file__))
_HEADER = re.compile(
    r"(?:(?:Current thread|Thread) (?P<thread>0x[0-9a-f]+)(?: \[(?P<name>.*)\])?"
    r"|Call (?P<seq>\d+)) \(most recent call first\):$"
)
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
_BOTTOM = b'  File "<string>", line 1 in <module>\n'  # of a worker's main thread, the last one told


def collect(
    loop: asyncio.AbstractEventLoop,
    handles: Sequence[WorkerHandle],
    describe: Callable[[WorkerHandle], dict[str, Any]],
    done: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Hand `done` a row for each worker, on the loop's thread, within MOST_SECONDS.

    describe: what else is known of a worker, now.
    """
    facts = {handle.id: describe(handle) for handle in handles}
    waiting = [handle for handle in handles if handle.ask_stack()]
    told = {handle.id for handle in waiting}
    seen: dict[int, tuple[bytes, int]] = {}  # by worker: what it has written, unchanged how often
    looks = 0

    def is_whole(handle: WorkerHandle) -> bool:
        before, still = seen.get(handle.id, (b"", 0))
        text = handle.read_stack()
        still = still + 1 if text == before else 0
        seen[handle.id] = text, still
        whole = text.endswith(STACK_END) or (still >= STILL_LOOKS and text.endswith(_BOTTOM))
        if whole:
            handle.took_stack()
        return whole or handle.closed

    def look() -> None:
        nonlocal looks, waiting
        looks += 1
        waiting = [handle for handle in waiting if not is_whole(handle)]
        if waiting and looks * LOOK_SECONDS < MOST_SECONDS:
            loop.call_later(LOOK_SECONDS, look)
            return
        rows = []
        for number, fact in facts.items():
            text = seen.get(number, (b"", 0))[0].decode(errors="replace")
            threads, calls = parse(text)
            problem = None if threads else _SILENT if number in told else _TOO_EARLY
            rows.append({**fact, "threads": threads, "calls": calls, "problem": problem})
        done(rows)

    look()


def parse(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Threads and waiting calls in what a worker has written."""
    threads: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    frames: list[Frame] = []
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header is not None:
            frames = []
            if header["seq"] is None:
                threads.append({"name": header["name"], "all_frames": frames})
            else:
                calls.append({"seq": int(header["seq"]), "all_frames": frames})
        elif frame := _FRAME.match(line):
            number = frame["line"]
            frames.append(
                [frame["file"], int(number) if number.isdigit() else 0, frame["function"]]
            )
    if threads:  # the oldest is told last
        threads[-1]["name"] = threads[-1]["name"] or "MainThread"
        of_main = threads[-1]["all_frames"]
        if of_main and of_main[-1][0] == "<string>":  # how workers are started
            of_main.pop()
    for item in (*threads, *calls):
        item["frames"] = trim(item["all_frames"])
    return threads, calls


def own_stacks() -> dict[str, Any]:
    """A row for this process. For any thread; the asking one is left out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = []
    for ident, frame in sys._current_frames().items():
        if ident == threading.get_ident():
            continue
        frames = [
            [each.f_code.co_filename, line, each.f_code.co_name]
            for each, line in traceback.walk_stack(frame)
        ]
        threads.append({"name": names.get(ident), "all_frames": frames, "frames": trim(frames)})
    return {
        "worker_type": "DRIVER",
        "pid": os.getpid(),
        "running": [],
        "threads": threads,
        "calls": [],
        "problem": None,
    }


def trim(frames: list[Frame]) -> list[Frame]:
    """Without what lies below the user's code, and above it but for what that has called.

    Nothing is left of a thread or call that runs no code of the user's.
    """
    end = len(frames)
    while end and (_is_own(frames[end - 1]) or _is_scaffold(frames[end - 1])):
        end -= 1
    begin = 0
    for at, frame in enumerate(frames[:end]):
        if _is_own(frame):
            begin = at
        elif not _is_scaffold(frame):
            break
    return frames[begin:end]


def _is_own(frame: Frame) -> bool:
    file: str = frame[0]
    return file.startswith(f"{_PACKAGE}/") and not file.startswith(f"{_PACKAGE}/examples/")


def _is_scaffold(frame: Frame) -> bool:
    """Whether it belongs to what runs threads and loops."""
    file: str = frame[0]
    if not file.startswith(f"{_LIBRARY}/"):
        return False
    inside = file[len(_LIBRARY) + 1 :]
    return inside.startswith(("asyncio/", "concurrent/futures/")) or inside in (
        "threading.py",
        "selectors.py",
        "queue.py",
        "contextlib.py",
        "contextvars.py",
    )
