"""Where every worker is right now, for `aioray stack`.

Room: engine. `collect` has all workers write their stacks at once, and looks for what they have
written until they are through or the time is over: faulthandler writes into a memory file, and a
file tells nobody that it has grown. A worker that is stuck in C code is seen too, by its signal
handler; one that is stopped or in the kernel is not, and that is said instead.

Wart: a system call that waits comes back with EINTR, as with any signal. Python's own begin again;
C code that does not, such as a bare sleep(3), is cut short by being looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...shared.wire import STACK_END
from ...state.read.stacks import parse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Container, Sequence

    from .handle import WorkerHandle

__all__ = ["collect", "gather"]

LOOK_SECONDS = 0.01  # between two looks at what was written
STILL_LOOKS = 10  # without anything new, after which an asynchronous actor tells of no calls
MOST_SECONDS = 2.0  # that a stack may take; then there is none

_BOTTOM = b'  File "<string>", line 1 in <module>\n'  # of a worker's main thread, the last one told
_CUT = b"  ...\n"  # instead, if it is very deep
_SILENT = "It does not answer: it is stopped, or waits in the kernel."
_TOO_EARLY = "It is starting, or has ended just now."


def collect(
    loop: asyncio.AbstractEventLoop,
    handles: Sequence[WorkerHandle],
    describe: Callable[[WorkerHandle], dict[str, Any]],
    done: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Hand `done` a row for each worker, on the loop's thread, within MOST_SECONDS.

    describe: what else is known of a worker, now; whether it is "asynchronous" in any case.
    """
    descriptions = {handle.id: describe(handle) for handle in handles}

    def tell(texts: dict[int, str | None]) -> None:
        rows = []
        for number, description in descriptions.items():
            text = texts[number]
            threads, calls = parse(text or "")
            problem = None if threads else _TOO_EARLY if text is None else _SILENT
            rows.append({**description, "threads": threads, "calls": calls, "problem": problem})
        done(rows)

    asynchronous = {number for number, each in descriptions.items() if each["asynchronous"]}
    gather(loop, handles, asynchronous, tell)


def gather(
    loop: asyncio.AbstractEventLoop,
    handles: Sequence[WorkerHandle],
    asynchronous: Container[int],
    done: Callable[[dict[int, str | None]], None],
) -> None:
    """Hand `done` what each worker has written, by its id, on the loop's thread, in MOST_SECONDS.

    None: it was not asked. asynchronous: ids of workers that tell of calls after their stacks.
    """
    waiting = [handle for handle in handles if handle.ask_stack()]
    told = {handle.id for handle in waiting}
    seen: dict[int, tuple[bytes, int]] = {}  # by worker: what it has written, unchanged how often
    looks = 0

    def is_whole(handle: WorkerHandle) -> bool:
        before, still = seen.get(handle.id, (b"", 0))
        text = b"" if handle.closed else handle.stacks.read()
        still = still + 1 if text == before else 0
        seen[handle.id] = text, still
        quick = text.endswith(_BOTTOM) and handle.id not in asynchronous
        is_through = text.endswith((_BOTTOM, _CUT)) and still >= (1 if quick else STILL_LOOKS)
        whole = is_through or text.endswith(STACK_END)
        if whole:
            handle.stacks.end()
        return whole or handle.closed

    def look() -> None:
        nonlocal looks, waiting
        looks += 1
        waiting = [handle for handle in waiting if not is_whole(handle)]
        if waiting and looks * LOOK_SECONDS < MOST_SECONDS:
            loop.call_later(LOOK_SECONDS, look)
            return
        texts = {
            handle.id: seen[handle.id][0].decode(errors="replace") if handle.id in told else None
            for handle in handles
        }
        done(texts)

    look()
