"""The ways in which a coroutine can be cancelled by what surrounds it."""

from __future__ import annotations

import asyncio
import contextlib

import anyio

from .support import GUARD

WAYS = ["move_on_after", "fail_after", "timeout", "wait_for", "task", "task group", "anyio"]


async def cancelled_by(how, work):
    """Run `work(began)`, and cancel it in one of the ways there are, once it has set `began`."""
    began = asyncio.Event()
    if how in ("move_on_after", "fail_after"):
        scope = getattr(anyio, how)(GUARD)
        try:
            with scope as cancel_scope:
                async with anyio.create_task_group() as group:

                    async def expire():
                        await began.wait()
                        cancel_scope.deadline = anyio.current_time()

                    group.start_soon(expire)
                    await work(began)
        except TimeoutError:
            assert how == "fail_after"
        assert cancel_scope.cancelled_caught
        return
    if how == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(work, began)
            await began.wait()
            group.cancel_scope.cancel()
        return
    if how == "timeout":
        try:
            async with asyncio.timeout(GUARD) as timeout:

                async def expire():
                    await began.wait()
                    timeout.reschedule(0)

                expiring = asyncio.create_task(expire())
                await work(began)
        except TimeoutError:
            await expiring
            return
        raise AssertionError("no TimeoutError")
    if how == "task group":
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work(began))
                await began.wait()
                raise LookupError
        return
    if how == "wait_for":

        async def expire():
            await began.wait()
            waiting.cancel()

        waiting = asyncio.create_task(asyncio.wait_for(work(began), GUARD))
        expiring = asyncio.create_task(expire())
        assert await asyncio.gather(waiting, return_exceptions=True) != [None]
        await expiring
        return
    task = asyncio.create_task(work(began))
    await began.wait()
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
