"""The actors of process tests: plain classes, which tests make remote with options of their own."""

from __future__ import annotations

import atexit
import os
import sys
import threading

import aioray

from .jobs import die, listen, note, say


class Player:
    """Remembers what it was called with."""

    def __init__(self, path=None, fate=None, times=None):
        """Note each making of it; fate: what happens then, in the first `times` of them."""
        self.heard = []
        if path is not None:
            note(path, "made")
        if fate is not None:
            self.meet(fate, None if path is None else path + "-fate", times)

    @staticmethod
    def meet(fate, path=None, times=None):
        if fate == "raise":
            raise ValueError("cannot be made")
        if fate == "exit_actor":
            aioray.exit_actor()
        if fate == "sys.exit(0)":
            sys.exit(0)
        if fate == "sys.exit(3)":
            sys.exit(3)
        die(fate, path, times)

    def hear(self, word):
        self.heard.append(word)
        return list(self.heard)

    def pid(self):
        return os.getpid()

    def end(self, fate, path=None, times=None):
        self.meet(fate, path, times)
        return os.getpid()

    def fail(self, message="bad"):
        raise ValueError(message)

    def hold(self, started, gate):
        """Run until the test says so."""
        say(started, os.getpid())
        return listen(gate)

    def at_exit(self, path):
        atexit.register(note, path, "left")
        return os.getpid()

    def several(self, count):
        yield from range(count)

    def ones(self, count):
        import numpy as np

        return np.ones(count)

    def variable(self, name):
        return os.environ.get(name)

    def total(self, *arrays):
        return sum(float(array.sum()) for array in arrays)

    def fail_times(self, path, times):
        note(path, "tried")
        with open(path, encoding="utf-8") as file:
            tries = file.read().splitlines().count("tried")
        if tries <= times:
            raise ConnectionError(tries)
        return tries

    def spin(self, started):
        """Run until the flag of a cancel is seen."""
        say(started, os.getpid())
        context = aioray.get_runtime_context()
        while not context.is_canceled():
            pass
        return "seen"

    def sleep(self, started):
        """Run until it is interrupted."""
        say(started, os.getpid())
        listen(started + "-never")

    def myself(self):
        return aioray.get_runtime_context().current_actor

    def make_another(self, path=None):
        return aioray.remote(Player).remote(path)

    def ask(self, other, word):
        return aioray.get(other.hear.remote(word))


class Keeper(Player):
    """Its state survives."""

    def __init__(self, path, size=0):
        super().__init__(path)
        self.path = path
        self.more = bytes(size)

    def __aioray_save__(self):
        if self.heard and self.heard[-1] == "deadly":
            die("SIGKILL", self.path + "-saving", 1)
        return {"heard": self.heard, "more": self.more}

    def __aioray_restore__(self, state):
        note(self.path, "restored")
        self.heard, self.more = state["heard"], state["more"]

    def size(self):
        return len(self.more)

    def hear_and_die(self, word, path):
        """Die once between the change and the answer."""
        self.heard.append(word)
        die("SIGKILL", path, 1)
        return list(self.heard)


class Adder(aioray.actor.Actor):
    """Of the base that tells type checkers of its methods."""

    def __init__(self, start: int) -> None:
        self.value = start

    @aioray.method
    def add(self, by: int) -> int:
        self.value += by
        return self.value

    @aioray.method(num_returns=2)
    def both(self) -> tuple[int, str]:
        return self.add(1), type(self).__name__


class Chorus:
    """Asynchronous."""

    def __init__(self):
        import asyncio

        self.inside = 0
        self.all_in = asyncio.Event()

    async def meet(self, count):
        """Return when so many calls are here at once."""
        self.inside += 1
        if self.inside == count:
            self.all_in.set()
        await self.all_in.wait()
        return threading.get_ident()

    async def wait_for_cancel(self, started, path):
        import asyncio

        try:
            say(started, os.getpid())
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note(path, "cancelled")
            raise

    async def hear(self, ref):
        return await ref[0]

    async def count(self, number):
        for each in range(number):
            yield each

    def plain(self):
        import asyncio

        return asyncio.get_running_loop() is not None

    async def pid(self):
        return os.getpid()

    async def end(self, fate):
        Player.meet(fate)


class Crowd:
    """Its methods run in threads, in groups."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count)

    def meet(self):
        self.barrier.wait(100)
        return threading.get_ident()

    @aioray.method(concurrency_group="aside")
    def aside(self):
        return threading.get_ident()

    def hold(self, started, gate):
        say(started, os.getpid())
        return listen(gate)

    def spin(self, started):
        say(started, os.getpid())
        context = aioray.get_runtime_context()
        while not context.is_canceled():
            pass
        return "seen"


class Releasing:
    """Notes how it ends."""

    def __init__(self, path, how=None, other=None):
        self.path, self.how, self.other = path, how, other
        atexit.register(note, path, "left")

    def pid(self):
        return os.getpid()

    def end(self, fate):
        Player.meet(fate)

    def hear(self, word):
        return word

    def __ray_shutdown__(self):
        note(self.path, "shut down")
        print("goodbye")
        if self.how == "raise":
            raise ValueError("cannot be released")
        if self.how == "exit":
            sys.exit(5)
        if self.how == "hang":
            listen(self.path + "-never")
        if self.how == "ask":
            ref = aioray.put([self.other.hear.remote("asked")])
            note(self.path, aioray.get(aioray.get(ref)[0]))

    def __del__(self):
        note(self.path, "deleted")


class ReleasingAsync(Releasing):
    async def pid(self):
        import asyncio

        self.loop = asyncio.get_running_loop()
        return os.getpid()

    async def __ray_shutdown__(self):
        import asyncio

        await asyncio.sleep(0)
        same = self.loop is asyncio.get_running_loop()
        note(self.path, "shut down" if same else "shut down elsewhere")
