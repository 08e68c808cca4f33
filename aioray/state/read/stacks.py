"""What a Python stack looks like where it is told: of workers, and of all threads of this process.

Room: state; stdlib only. Plain data, as it travels: a thread is a dict of its `name`, `frames` and
`all_frames`, which are [file, line, function], the most recent first; `frames` are without what
every process of aioray has below and above the user's code.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from typing import Any

__all__ = ["Frame", "find", "own_stacks", "parse", "trim"]

Frame = list[Any]
"""[file, line, function]; JSON knows no tuples."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_LIBRARY = os.path.dirname(os.path.abspath(threading.__file__))
_HEADER = re.compile(
    r"(?:(?:Current thread|Thread) (?P<thread>0x[0-9a-f]+)(?: \[(?P<name>.*)\])?"
    r"|Call (?P<seq>\d+)) \(most recent call first\):$"
)
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')


def parse(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read threads and waiting calls from what a worker has written."""
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
    if threads:  # the oldest is told last; from Python 3.14 on with its system's name, our title
        threads[-1]["name"] = "MainThread"
        of_main = threads[-1]["all_frames"]
        if of_main and of_main[-1][0] == "<string>":  # how workers are started
            of_main.pop()
    for item in (*threads, *calls):
        item["frames"] = trim(item["all_frames"])
    return threads, calls


def find(text: str, seq: int, thread: int) -> list[Frame]:
    """Read where one attempt is from what its worker has written: frames without aioray's own.

    seq: of a call that may be in no thread. thread: which runs it; 0: the main one.
    """
    by_thread: dict[int, list[Frame]] = {}
    frames: list[Frame] = []
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header is not None:
            frames = []
            if header["seq"] is None:
                by_thread[int(header["thread"], 16) if header["thread"] else 0] = frames
            elif int(header["seq"]) == seq:
                by_thread[-1] = frames
        elif frame := _FRAME.match(line):
            number = frame["line"]
            frames.append(
                [frame["file"], int(number) if number.isdigit() else 0, frame["function"]]
            )
    waiting = trim(by_thread.pop(-1, []))
    of_main = list(by_thread.values())[-1] if by_thread else []  # the oldest is told last
    if of_main and of_main[-1][0] == "<string>":  # how workers are started
        of_main.pop()
    return waiting or trim(by_thread.get(thread, of_main if not thread else []))


def own_stacks() -> dict[str, Any]:
    """Make a row for this process. For any thread; the asking one is left out."""
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
    """Leave out what lies below the user's code, and above it but for what that has called.

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
    """Tell whether a frame belongs to what runs threads and loops."""
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
