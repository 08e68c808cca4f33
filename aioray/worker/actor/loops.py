"""Runs calls of an asynchronous actor on event loops, one for each of its concurrency groups.

Room: worker. A loop runs in a thread of its own. What is not a coroutine runs on the loop too, and
holds it up as long as it takes, as in Ray; so does storing a large result. The actor is made on the
loop of the default group. A cancel arrives in the coroutine as CancelledError. A loop that is the
only one claims what was sent alone itself: a hand-over costs more than a small call.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ...client.current import Running, running
from ...shared.wire import PAGE, PAGE_BEGUN, PAGE_GROUPS, ActorCallInfo, Status
from ..execution import OnLoop
from ..objects import AttemptHandles
from .host import Host

if TYPE_CHECKING:
    from types import CoroutineType, FrameType

    from ...shared.wire import Attempt
    from ..loop import WorkerLoop

__all__ = ["Loops", "frames_of"]

_MAKES = ActorCallInfo._fields.index("creation")
IDLE_SECONDS = 1e-3  # without a call, until the title says so
MOST_FRAMES = 100  # of one call in `stacks`


class Loops(Host):
    """The calls of an asynchronous actor."""

    _made = 0  # groups

    def __init__(self, server: WorkerLoop, limits: tuple[tuple[str, int], ...]) -> None:
        """Make a loop for each concurrency group, see `Host`."""
        super().__init__(server, limits)
        self.takes_singles = len(limits) == 1
        self._rests = False  # soon, see `rest`

    def make_group(self, name: str, limit: int) -> _GroupLoop:
        """Return the loop of a concurrency group."""
        del limit  # the driver minds it
        self._made += 1
        return _GroupLoop(self, name or "default", self._made - 1)

    def cancel(self, seq: int) -> None:
        """Cancel the call where it runs, too."""
        if not self.takes_singles:
            super().cancel(seq)
        for group in self.groups.values():
            assert isinstance(group, _GroupLoop)
            group.cancel(seq)

    def run_hook(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        """Run it on the loop of the default group, to which belongs what the actor has made."""
        group = self.groups[""]
        assert isinstance(group, _GroupLoop)
        group.run(coroutine)

    def rest(self) -> None:
        """Show that no call runs, if none has begun a moment later."""
        if not self._rests:
            self._rests = True
            asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        self._rests = False
        if not self.runs_any:
            super().rest()

    def stacks(self) -> str:
        """See `Host.stacks`. What is running has its stack in the thread of its loop."""
        lines: list[str] = []
        for group in self.groups.values():
            assert isinstance(group, _GroupLoop)
            for seq, call in group.calls():
                lines.append(f"Call {seq} (most recent call first):")
                lines += [
                    f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in '
                    f"{frame.f_code.co_name}"
                    for frame in reversed(frames_of(call.task.get_coro()))
                ]
        return "".join(f"{line}\n" for line in lines)


def frames_of(waiting: Any) -> list[FrameType]:
    """Return the frames of a coroutine and of what it awaits, outermost first."""
    frames: list[FrameType] = []
    while waiting is not None and len(frames) < MOST_FRAMES:
        kind = next((k for k in ("cr", "gi", "ag") if hasattr(waiting, f"{k}_frame")), None)
        if kind is None:
            break
        frame = getattr(waiting, f"{kind}_frame")
        if frame is not None:
            frames.append(frame)
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return frames


class _Call(OnLoop):
    """A call that runs on a loop."""

    __slots__ = ("reason", "task")

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self.reason: BaseException | None = None  # to end the process
        self.task: asyncio.Task[None]


class _GroupLoop:
    """One event loop."""

    def __init__(self, host: Loops, name: str, index: int) -> None:
        self._host = host
        self._cell = PAGE_BEGUN + index * PAGE.size if index < PAGE_GROUPS else None
        self._server = host.server
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None  # until the first call
        self._inbox: deque[Attempt] = deque()
        self._woken = False  # the loop will look into it
        self._calls: dict[int, _Call] = {}  # by seq
        self._rings = False  # soon

    # -- the main thread

    def start(self, attempt: Attempt) -> None:
        """Have a call begin on the loop."""
        if self._loop is None:
            self._loop = asyncio.SelectorEventLoop()
            name = f"aioray-loop-{self._name}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._inbox.append(attempt)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._begin)

    def calls(self) -> list[tuple[int, _Call]]:
        """List the calls that run, by seq; for any thread."""
        return list(self._calls.copy().items())

    def cancel(self, seq: int) -> None:
        """Cancel the call with this seq, if it is here and runs by then."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, seq)

    def run(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        """Run a coroutine of no call, and wait for its end."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # -- the loop's thread

    def _work(self) -> None:
        loop = self._loop
        assert loop is not None
        if self._host.takes_singles:
            loop.add_reader(self._server.channel.singles, self._take_single)
        while True:
            try:
                loop.run_forever()  # again, if user code has stopped it
            except KeyboardInterrupt:
                continue  # raised by a task of the user's, which has kept it
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self._host.leave(error)
                return

    def _begin(self) -> None:
        self._woken = False
        if self._host.takes_singles:
            self._take_single()  # it came before
        while self._inbox:
            self._begin_call(self._inbox.popleft())

    def _take_single(self) -> None:
        """Begin the call that was sent alone, unless the driver has taken it back."""
        assert self._loop is not None
        if self._host.is_leaving:
            self._loop.remove_reader(self._server.channel.singles)
            return
        attempt = self._server.channel.take_single()
        if attempt is not None:
            self._host.begin(attempt)
            self._begin_call(attempt)

    def _begin_call(self, attempt: Attempt) -> None:
        assert self._loop is not None
        call = _Call(attempt)
        role = attempt.role
        makes = role is not None and role[_MAKES] is not None
        context = self._host.context if makes else self._host.context.copy()
        context.run(running.set, Running(attempt))
        self._calls[attempt.seq] = call
        call.task = self._loop.create_task(self._execute(call), context=context)
        call.task.add_done_callback(functools.partial(self._ended, call))

    def _cancel(self, seq: int) -> None:
        if self._host.takes_singles:
            self._begin()  # which may be that call
            Host.cancel(self._host, seq)
        call = self._calls.get(seq)
        if call is not None and call.inside:
            call.task.cancel()

    def _ended(self, call: _Call, task: asyncio.Task[None]) -> None:
        attempt, server = call.attempt, self._server
        del self._calls[attempt.seq]
        if task.cancelled():  # by user code that cancels whatever it finds
            now = time.monotonic()
            server.answers.answer_error(
                attempt, KeyboardInterrupt(), Status.INTERRUPTED, now, AttemptHandles()
            )
        self._host.ended(attempt)
        if call.reason is not None:
            self._host.leave(call.reason)
        if not (self._rings or server.channel.is_watched):
            self._rings = True
            asyncio.get_running_loop().call_soon(self._ring)

    def _ring(self) -> None:
        self._rings = False
        self._server.channel.ring()

    async def _execute(self, call: _Call) -> None:
        """Run one call and answer."""
        use = AttemptHandles()
        if self._cell is not None:  # they begin in the order in which they were sent
            PAGE.pack_into(self._server.page, self._cell, call.attempt.seq)
        try:
            found = self._host.prepare(call.attempt, use)
            if found is not None:
                await self._server.execution.call_on_loop(call, *found, use)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            call.reason = error
