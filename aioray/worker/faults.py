"""Faults that a test has ordered for an attempt: its worker crashes, or hangs.

Room: worker; loaded by the first attempt that has one, see `aioray.testing.faults`. The order comes
with the attempt, where a span would be named, so that workers without any know nothing of it.
"""

from __future__ import annotations

import os
import signal
import time
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NoReturn

from ..client.protocol import registry
from ..shared.wire import CONTEXT, FAULT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ..client.context_vars import Carrier

__all__ = ["CRASH_AFTER", "CRASH_BEFORE", "HANG", "has_span", "spoil"]

CRASH_BEFORE = "crash before"  # the function is entered
CRASH_AFTER = "crash after"  # it has returned, and before that is told
HANG = "hang"  # instead of entering the function: only a kill ends it


def has_span(trace: Sequence[tuple[str, str]]) -> bool:
    """Tell whether what came with an attempt names a span, and not only what else may come so."""
    return any(name not in (FAULT, CONTEXT) for name, _ in trace)


def _arm(carrier: Carrier) -> None:
    registry.carrier = carrier


def spoil(
    function: Callable[..., Any], trace: Sequence[tuple[str, str]], server: Any
) -> Callable[..., Any]:
    """Return the function with the fault that came with its attempt, if one did.

    server: the worker; it may have other ways than a process to `crash` and to `hang`.
    """
    said = dict(trace)
    if CONTEXT in said:
        from ..client.context_vars import enter_context

        function = enter_context(function, trace, _arm)
    fault = said.get(FAULT)
    if fault is None:
        return function
    crash: Callable[[], Any] = getattr(server, "crash", _crash)
    hang: Callable[[], Any] = getattr(server, "hang", _hang)

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        if fault == CRASH_BEFORE:
            crash()
        elif fault == HANG:
            return hang()
        value = function(*args, **kwargs)
        if type(value) is CoroutineType:
            return awaited(value)
        if type(value) is GeneratorType:
            return iterated(value)
        if type(value) is AsyncGeneratorType:
            return async_iterated(value)
        return crash()

    async def awaited(coroutine: CoroutineType[Any, Any, Any]) -> None:
        await coroutine
        crash()

    def iterated(items: GeneratorType[Any, Any, Any]) -> Iterator[Any]:
        yield from items
        crash()

    async def async_iterated(items: AsyncGeneratorType[Any, Any]) -> AsyncIterator[Any]:
        async for item in items:
            yield item
        crash()

    return spoiled


def _crash() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it lives")


def _hang() -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    while True:
        time.sleep(3600)
