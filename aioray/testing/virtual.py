"""`VirtualEngine`: the real core and the user's functions, on virtual workers in virtual time.

Room: api. Made of a `LocalEngine` on the test's own loop, which gets a `VirtualClock`, and of
`virtual_workers`. Only one thing happens at a time, in the same order each time, and a function
takes the time that it sleeps and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from ..client.protocol import activate
from ..core.events import TimerFired
from ..engine.engine import LocalEngine
from ..engine.mailbox import Mailbox
from ..engine.telemetry.recording import begin_recording
from ..local.history import InlineWriter
from .clock import VirtualClock
from .fibers import replace_sleep
from .virtual_waits import VirtualWaits
from .virtual_workers import VirtualWorkers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType
    from typing import Self, Unpack

    from ..engine.objects.objects import ObjectTable
    from ..engine.requests.dispatcher import Requests
    from ..options.types import InitSettings

__all__ = ["CoreInVirtualTime", "VirtualEngine"]


class _ExactMailbox(Mailbox):
    """A mailbox whose timers fire when they are due, and not a moment later."""

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.loop is not None and not self.loop.is_closed():
            self._timer_at = deadline
            self._timer = self.loop.call_at(max(deadline, self.loop.time()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self.ended:
            self.feed(TimerFired())


class _Loop:
    """The engine's loop, as somebody else's: so whoever awaits a ref asks the client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class CoreInVirtualTime(LocalEngine):
    """The engine inside of a VirtualEngine."""

    processes_class: Any = VirtualWorkers
    mailbox_class = _ExactMailbox

    def clock(self) -> float:
        """Return the time of the loop."""
        assert self.loop is not None
        return self.loop.time()

    def _assemble(self, loop: asyncio.AbstractEventLoop, boot: Any) -> None:
        super()._assemble(loop, boot)
        workers: Any = self._processes
        workers.attach(self.client, self.clock)
        waits = VirtualWaits(self)
        self.client.get, self.client.wait = waits.get, waits.wait
        self.client.completions = waits.completions
        self.client.when_ready, self.client.forget = waits.when_ready, waits.forget
        outer: Any = _Loop(loop)
        self.client.loop = outer

    def _record(self, objects: ObjectTable, requests: Requests) -> None:
        assert self._processes is not None
        client = self.client
        client.unix_offset = time.time() - self.clock()
        writer = InlineWriter(
            None,
            client.ask_state,
            attempts_kept=self.settings.history,
            unix_offset=client.unix_offset,
        )
        begin_recording(
            client, self._mailbox, self._core, self.settings, self._processes, objects, requests,
            writer,
        )  # fmt: skip


class _Passed:
    """What `advance` returns: await it, where a loop runs."""

    def __init__(self, waits_for: Awaitable[None] | None) -> None:
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, None]:
        if self._waits_for is not None:
            yield from self._waits_for.__await__()


class VirtualEngine:
    """Runs remote functions in this process, in virtual time: for tests.

        async with VirtualEngine(seed=0) as engine:
            value = await f.remote(1)  # with a minute of backoff, in no time
            assert engine.clock.elapsed == 60

    The test's own event loop gets the clock: `asyncio.sleep`, time-outs and timers are virtual too.
    In a plain `with` block it has a loop of its own, which runs while `aioray.get` waits.
    A function takes the time that it sleeps, by `time.sleep` or `takes`, and no other. It runs
    itself, not a copy, so that patches and mocks reach it; values are copied as between processes.
    """

    def __init__(
        self,
        *,
        seed: int | None = 0,
        autojump: bool = True,
        **settings: Unpack[InitSettings],
    ) -> None:
        """Prepare; nothing is started yet.

        seed: of the jitter of retries. autojump: time passes whenever everybody waits for it, else
        by `advance` only. settings: as in `aioray.init`, but that num_cpus is 2 unless it is given;
        those that concern processes have no effect. Raises what `aioray.init` raises.
        """
        if settings.get("local_mode"):
            raise ValueError("VirtualEngine is one thing, and local_mode=True another: choose one")
        given: Any = {"retry_seed": seed, "num_cpus": 2, "num_gpus": 0, **settings}
        self.seed = seed
        self.clock = VirtualClock(autojump=autojump)
        self._engine = CoreInVirtualTime(None, **given)
        self._activation: Any = None
        self._own_loop: asyncio.AbstractEventLoop | None = None

    @property
    def workers(self) -> VirtualWorkers:
        """The virtual workers."""
        found: Any = self._engine._processes
        assert isinstance(found, VirtualWorkers), "This engine is not started."
        return found

    @property
    def closed(self) -> bool:
        """Whether the engine has ended."""
        return self._engine.closed

    def advance(self, seconds: float) -> Awaitable[None]:
        """Let so many seconds pass, and all that is due in them happen.

        Await the result in a coroutine; in a plain `with` block they have passed at once.
        """
        self.clock.allow(seconds)
        if self._own_loop is not None and not self._own_loop.is_running():
            self._own_loop.run_until_complete(asyncio.sleep(seconds))
            return _Passed(None)
        return _Passed(asyncio.sleep(seconds))

    # ------------------------------------------------------------ life

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.clock.take_over(loop)
        try:
            self._engine.start()
        except BaseException:
            self.clock.give_back()
            raise
        replace_sleep(+1)
        self._activation = activate(self._engine.client)
        self._activation.__enter__()

    async def _end(self) -> None:
        activation, self._activation = self._activation, None
        with contextlib.suppress(ValueError):  # left in another context than entered
            activation.__exit__(None, None, None)
        try:
            self.clock.allow(float("inf"))
            await self._engine.shutdown()
        finally:
            replace_sleep(-1)
            self.clock.give_back()

    async def __aenter__(self) -> Self:
        self._begin(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    def __enter__(self) -> Self:
        loop = self._own_loop = asyncio.SelectorEventLoop()

        async def begin() -> None:
            self._engine.start()

        self.clock.take_over(loop)
        try:
            loop.run_until_complete(begin())
        except BaseException:
            self.clock.give_back()
            loop.close()
            raise
        replace_sleep(+1)
        self._activation = activate(self._engine.client)
        self._activation.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = self._own_loop
        assert loop is not None
        try:
            loop.run_until_complete(self._end())
        finally:
            loop.close()
