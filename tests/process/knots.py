"""Actors and tasks that wait for each other."""

from __future__ import annotations

import os
import threading

import aioray
from aioray.exceptions import ActorUnavailableError, GetTimeoutError

from .jobs import listen, note, notes, say


def call(actor):
    return aioray.get(actor.ping.remote())


def first_item(actor):
    return aioray.get(next(actor.items.remote()))


def same(value):
    return value


class Knot:
    def __init__(self, path=None, name=None, asks_from=0):
        """Wait for a task that calls it, but not in the first makings; note what comes of it."""
        if path is None:
            return
        note(path, "made")
        if len(notes(path)) > asks_from:
            myself = aioray.get_runtime_context().current_actor
            if name is not None:
                myself = aioray.get_actor(name)
            try:
                aioray.get(aioray.remote(call).remote(myself))
            except ActorUnavailableError as error:
                note(path, str(error.cause).splitlines()[0])

    @property
    def myself(self):
        return aioray.get_runtime_context().current_actor

    def ping(self):
        return "pong"

    def items(self):
        yield "item"

    def pid(self):
        return os.getpid()

    def ask_itself(self):
        return call(self.myself)

    def wait_for_itself(self):
        ready, _ = aioray.wait([self.myself.ping.remote()])
        return aioray.get(ready[0])

    def ask_a_task(self):
        return aioray.get(aioray.remote(call).remote(self.myself))

    def ask_for_an_argument(self):
        return aioray.get(aioray.remote(same).remote(self.myself.ping.remote()))

    def ask_for_a_stream(self):
        return first_item(self.myself)

    def ask_another(self, other):
        return aioray.get(other.ask.remote(self.myself))

    def ask(self, other):
        return call(other)

    def ask_with_a_limit(self):
        try:
            aioray.get(self.myself.ping.remote(), timeout=0.01)
        except GetTimeoutError:
            return "went on"
        return "pong"

    def ask_in_a_thread(self, started, gate):
        """Another thread waits, and the method ends before that."""
        threading.Thread(target=call, args=(self.myself,), daemon=True).start()
        say(started)
        return listen(gate)


class Loop:
    async def ping(self):
        return "pong"

    async def ask_itself(self):
        return call(aioray.get_runtime_context().current_actor)

    async def await_itself(self):
        return await aioray.get_runtime_context().current_actor.ping.remote()


class Late:
    """Its second making takes as long as the test wants."""

    def __init__(self, path, gate):
        note(path, "made")
        if len(notes(path)) > 1:
            listen(gate)

    def ping(self):
        return "pong"
