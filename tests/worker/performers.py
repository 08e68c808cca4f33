"""Classes that run in the worker of `test_actor_host`."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading

import aioray
from aioray.shared.actor_exit import ActorExit


class Counter:
    def __init__(self, count=0):
        self.count = count
        self.barrier = threading.Barrier(3)
        atexit.register(print, "left by the door")

    def __repr__(self):
        return f"Counter({self.count})"

    def __aioray_save__(self):
        if self.count < 0:
            raise ValueError("cannot be saved")
        return {"count": self.count}

    def __aioray_restore__(self, state):
        self.count += state["count"]

    def add(self, number=1):
        self.count += number
        return self.count

    def meet(self):
        self.barrier.wait()
        return threading.current_thread().name

    def fail(self):
        raise KeyError("mine")

    def leave(self, code):
        sys.exit(code)

    def leave_actor(self):
        raise ActorExit

    def wait_for_cancel(self):
        context = aioray.get_runtime_context()
        aioray.put("I have begun")
        while not context.is_canceled():
            pass
        return "cancelled"

    def hang(self):
        aioray.put("I have begun")
        threading.Event().wait()

    def count_to(self, number):
        yield from range(number)

    def put(self, value):
        self.barrier.wait()
        aioray.put(value)
        self.barrier.wait()
        aioray.put(value)

    def where(self):
        context = aioray.get_runtime_context()
        print("here I am")
        return (
            context.get_actor_id(),
            context.get_actor_name(),
            context.get_task_name(),
            context.get_task_function_name(),
            context.was_current_actor_reconstructed,
        )

    def hire(self):
        child = aioray.remote(Counter).options(name="child").remote(3)
        return child, child.add.remote(4)


class Service:
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.open = asyncio.Event()

    async def where(self):
        same = asyncio.get_running_loop() is self.loop
        return same, threading.current_thread().name

    async def enter(self):
        await self.open.wait()
        return "in"

    async def unlock(self):
        self.open.set()

    async def leave(self, code):
        sys.exit(code)

    async def wait_for_cancel(self):
        aioray.put("I have begun")
        await asyncio.Event().wait()

    async def shrug(self):
        aioray.put("I have begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "so what"

    def get(self, refs):
        return aioray.get(refs[0])

    async def fetch(self, refs):
        return await refs[0]

    async def count_to(self, number):
        for each in range(number):
            yield each

    def count_plainly_to(self, number):
        yield from range(number)

    def is_canceled(self):
        return aioray.get_runtime_context().is_canceled()
