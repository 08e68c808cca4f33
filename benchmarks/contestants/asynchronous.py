"""Contestants that live on an event loop: their operations are coroutines of one task."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from benchmarks.contestants.base import MARK_SECONDS, Contestant

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class AsyncContestant(Contestant):
    """The whole dialogue is one `asyncio.run`."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def run(self, dialogue: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(dialogue)

    async def idle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def file_appears(path: str) -> None:
    """What `wait_for_file` is, without blocking."""
    async with asyncio.timeout(MARK_SECONDS):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240  # another process makes it
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.005)
