"""Runs coroutines and asynchronous generators of tasks, on an event loop of the attempt's own.

Room: worker; loaded by the first task that needs it, because asyncio takes long to load. A cancel
arrives in the coroutine as CancelledError, as it would in any asyncio program; if that leaves it,
the attempt was interrupted. One that nobody has asked for is an error like others. What it has left
running ends with the attempt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

    from .interrupts import Interrupts

__all__ = ["iterate", "run"]


def run(coroutine: Coroutine[Any, Any, Any], interrupts: Interrupts) -> Any:
    """Run a coroutine to its end. Raises KeyboardInterrupt if a cancel has ended it."""
    try:
        with asyncio.Runner() as runner:
            return _step(runner, coroutine, interrupts)
    finally:
        coroutine.close()  # if an interrupt came before it had begun


def iterate(items: AsyncGenerator[Any, None], interrupts: Interrupts) -> Iterator[Any]:
    """Yield what an asynchronous generator yields, as a plain generator."""
    with asyncio.Runner() as runner:
        try:
            while True:
                try:
                    item = _step(runner, anext(items), interrupts)
                except StopAsyncIteration:
                    return
                yield item
                del item
        finally:
            runner.get_loop().run_until_complete(items.aclose())


def _step(runner: asyncio.Runner, awaitable: Any, interrupts: Interrupts) -> Any:
    loop = runner.get_loop()
    task = asyncio.ensure_future(_wait_for(awaitable), loop=loop)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        loop.call_soon_threadsafe(task.cancel)

    interrupts.instead = interrupt
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError as error:
        if not interrupted:
            raise
        raise KeyboardInterrupt().with_traceback(error.__traceback__) from None
    finally:
        interrupts.instead = None


async def _wait_for(awaitable: Any) -> Any:
    return await awaitable
