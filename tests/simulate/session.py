"""One simulated session: the real engine on workers that play, in virtual time, from one generator.

What is real: the public API and the client, the mailbox and its backoff coroutine, the core, what
resolves refs, the object table with store, allocator, lineage and files, what answers questions of
workers, the listener, the loans, the recorder and the history's database. What is played: workers
and their processes, threads of users, the thread that works with the disk, the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import logging
import os
import pickle
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from aioray.client.definitions import define, max_retries_now
from aioray.client.protocol import activate, registry
from aioray.core.commands import (
    ReportMemoryShort,
    ReportOrphans,
    ResolveFailure,
    ResolveValues,
    Revive,
)
from aioray.core.invariants import check
from aioray.core.records import replace
from aioray.engine.engine import LocalEngine
from aioray.engine.telemetry.recording import begin_recording
from aioray.exceptions import OutOfDiskError
from aioray.local.history import InlineWriter
from aioray.options.task import InitOptions, parse_init_options
from aioray.shared import serialization
from aioray.shared.serialization import dump_function, dumps
from aioray.testing import VirtualClock

from .users import HANGS, Users
from .witness import Witness
from .workers import SimWorkers

if TYPE_CHECKING:
    import random

    from .plan import Item, Plan

__all__ = ["SimSession", "simulate"]

SMALL = 2_048  # bytes up to which values are part of messages, here
PATIENCE = 3_000.0  # virtual seconds, after which what has not ended never will


class SimEngine(LocalEngine):
    """The engine of a simulated session."""

    simulated: SimSession

    def clock(self) -> float:
        assert self.loop is not None
        return self.loop.time()

    def _assemble(self, loop: asyncio.AbstractEventLoop, boot: Any) -> None:
        super()._assemble(loop, boot)
        self.simulated.assembled(self)

    def _record(self, objects: Any, requests: Any) -> None:
        client, processes = self.client, self._processes
        assert processes is not None
        client.unix_offset = time.time() - self.clock()
        writer = InlineWriter(
            None,
            client.ask_state,
            attempts_kept=self.settings.history,
            unix_offset=client.unix_offset,
        )
        begin_recording(
            client, self._mailbox, self._core, self.settings, processes, objects, requests, writer
        )


class SimSession:
    """A session that plays a plan."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self.plan = plan
        self.chance = chance
        self.trace: list[tuple[Any, ...]] = []
        self.by_number = {item.number: item for item in plan.items}
        self.children: dict[int, list[Item]] = {}
        for item in plan.items:
            if item.parent is not None:
                self.children.setdefault(item.parent, []).append(item)
        self.given: dict[int, list[int]] = {}  # items that were given as arguments, by item
        self.keys: dict[Any, int] = {}  # number of the task by its key in the history
        self.closing = False
        self.has_losses = (
            any(
                deed.what in ("lose", "damage file", "template dies", "kill worker")
                for deed in plan.deeds
            )
            or plan.settings["max_lineage_bytes"] < 10**8
        )
        acts = [act for item in plan.items for act in item.acts]
        self.may_hang = any(act.stubborn or act.end in HANGS for act in acts)
        self._parents = {item.parent for item in plan.items}
        self.disk_full_until = 0.0
        self.witness = Witness(self)
        self.loop: Any = None
        self.client: Any = None
        self.engine: Any = None
        self.workers: Any = None
        self.feed: Any = None
        self.failed: BaseException | None = None
        self.over: asyncio.Future[None]
        self._definitions: dict[int, tuple[int, str, bytes, bytes, int]] = {}
        self._codes: dict[int, Any] = {}

    def may_wait_for_ever(self, task: Any) -> bool:
        """Tell whether a task may keep a permit that those need for whom it waits.

        The guide warns of that.
        """
        item = self.witness.facts[task.number].item
        return "limiter" in item.options and item.number in self._parents

    # ------------------------------------------------------------ what all of them need

    def now(self) -> float:
        """Return the time."""
        return self.loop.time()

    def latency(self) -> float:
        """Draw how long a message takes."""
        chance = self.chance
        slow = 100.0 if chance.random() < 0.01 else 1.0
        return 1e-4 * self.plan.slowness * slow * chance.random()

    def story(self, *what: Any) -> None:
        """Note what happens."""
        self.trace.append((self.loop.time(), *what))

    def digest(self) -> str:
        """Return what tells this history from any other."""
        begun = self.trace[0][0] if self.trace else 0.0
        told = [(round(at - begun, 9), *what) for at, *what in self.trace]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    # ------------------------------------------------------------ what it is made of

    def assembled(self, engine: SimEngine) -> None:
        """Step between the parts of an engine that was just put together."""
        self.client = client = engine.client
        self.workers = engine._processes
        self.feed = engine._mailbox.feed
        self._watch_orders(engine._mailbox.orders)
        submission = client.submission
        create = submission.create_task

        def create_task(binding: Any, number: int, task_key: Any, *args: Any, **kwargs: Any) -> Any:
            self.witness.submitted(number, task_key)
            self.keys[task_key[0] if type(task_key) is tuple else task_key] = number
            return create(binding, number, task_key, *args, **kwargs)

        submission.create_task = create_task
        store = engine._objects.store
        store.in_background = self._in_background
        folder = store._folder
        capacity = folder._check_capacity

        def check_capacity(size: int) -> None:
            if self.now() < self.disk_full_until:
                raise OutOfDiskError("the simulator's disk is full")
            capacity(size)

        folder._check_capacity = check_capacity

    def _watch_orders(self, orders: Any) -> None:
        """Let the witness know what the engine orders, before that is carried out."""
        witness = self.witness
        resolve, fail = orders[ResolveValues], orders[ResolveFailure]
        revive, orphans = orders[Revive], orders[ReportOrphans]

        def values(command: Any) -> None:
            for task, _ in command.results:
                witness.has_value(task)
            resolve(command)

        def failure(command: Any) -> None:
            witness.has_failed(command.task, command.failure)
            fail(command)

        def again(command: Any) -> None:
            witness.runs_again(command.task)
            revive(command)

        def orphaned(command: Any) -> None:
            for task in command.tasks:
                witness.cancel_asked(witness.facts[task.number], recursive=True)
            orphans(command)

        orders[ReportMemoryShort] = lambda _command: self.story("memory short")
        orders[ResolveValues], orders[ResolveFailure] = values, failure
        orders[Revive], orders[ReportOrphans] = again, orphaned

    def _in_background(self, action: Any, *args: Any) -> Future[Any]:
        """Do something after a while, as the thread that works with the disk would."""
        future: Future[Any] = Future()

        def do() -> None:
            if future.cancelled():
                return
            try:
                result = action(*args)
            except BaseException as error:  # noqa: BLE001 - it is whoever asked's
                future.set_exception(error)
            else:
                future.set_result(result)

        self.loop.call_later(self.latency(), do)
        return future

    def definition_of(self, item: Item) -> tuple[int, str, bytes, bytes, int]:
        """Return what a worker says of the function of an item that it submits."""
        found = self._definitions.get(item.number)
        if found is None:
            function = self.users.function(item)
            call = function._call
            definition = define(call, self.client.submission.environment)
            known = self._codes.get(id(call.code))
            if known is None:
                code, _ = dump_function(call.code.function)
                known = self._codes[id(call.code)] = len(self._codes) + 1, code
            retries = definition.max_retries
            found = self._definitions[item.number] = (
                known[0],
                definition.name,
                known[1],
                pickle.dumps(definition, 5),
                max_retries_now() if retries is None else retries,
            )
        return found

    def payload_of(self, item: Item) -> bytes:
        """Return the arguments of a task that a worker submits."""
        return dumps(((item.number, b""), {}))

    # ------------------------------------------------------------ its life

    async def run(self) -> None:
        """Play the plan, and check what comes of it."""
        self.loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broken)
        self.over = loop.create_future()
        engine = self.engine = SimEngine(self._settings())
        engine.simulated = self
        workers: Any = functools.partial(SimWorkers, self)
        engine.processes_class = workers
        engine.start()
        fatal = engine._mailbox.fail_everything

        def fail_everything(error: BaseException, commands: Any = ()) -> bool:
            self.fail(error)
            return fatal(error, commands)

        engine._mailbox.fail_everything = fail_everything
        try:
            with activate(self.client):
                self.users = users = Users(self)
                users.begin()
                deadline = loop.call_later(PATIENCE, self._stuck)
                await self.over
                deadline.cancel()
                if self.failed is not None:
                    raise self.failed
                if not self.closing:
                    await self._check_idle()
                self.closing = True
                users.leave()
                rows = self._history()
                await engine.shutdown()
        finally:
            self.closing = True
            if not engine.closed:
                engine.abort()
        if self.failed is not None:
            raise self.failed
        self.witness.check_end()
        users.check_end()
        if not users.was_shut_down:
            self.witness.check_history(rows)
        self._check_leaks()

    def _settings(self) -> InitOptions:
        """Return the settings; some can be given by variables only."""
        given: dict[str, Any] = {"history": 1_000_000, "num_gpus": 0, **self.plan.settings}
        hidden = {name: given.pop(name) for name in ("task_oom_retries", "max_lineage_bytes")}
        return replace(parse_init_options(None, given, environ={}), **hidden)

    def fail(self, error: BaseException) -> None:
        """Note the first thing that is wrong, and end."""
        if self.failed is None:
            self.failed = error
        if not self.over.done():
            self.over.set_result(None)

    def _broken(self, _loop: Any, context: Any) -> None:
        self.fail(context.get("exception") or AssertionError(context["message"]))

    def _stuck(self) -> None:
        left = [repr(task) for task in self.engine._core.unfinished_tasks()][:5]
        waiting = self.users.waiting()[:5]
        self.fail(AssertionError(f"a deadlock: {left} are not done, users wait for {waiting}"))

    async def _check_idle(self) -> None:
        """Check that nothing is held once nobody wants anything any more."""
        self.users.drop_all()
        for _ in range(6):
            gc.collect()
            await asyncio.sleep(2.0)
            if not self._held():
                break
        held = self._held()
        assert not held, f"still held: {held}"
        check(self.engine._core)

    def _held(self) -> dict[str, Any]:
        """Return what is still held."""
        core, client, objects = self.engine._core, self.client, self.engine._objects
        objects.store.process_notes()
        held: dict[str, Any] = {
            "tasks": len(core.unfinished),
            "memory": objects.store.used,
            "files": objects.store.spilled,
            "streams": len(client.submission.streams),
            "lineage": objects._ledger.size,
            "permits": [each for each in client.limiters.all() if each.holders()],
            "resources": {
                name: (core.available.get(name), amount)
                for name, amount in core.total.items()
                if core.available.get(name) != amount
            },
            "questions": [
                each.id for each in self.workers.workers.values()
                if (known := self.engine._requests._sessions.get(each.id))
                and (known.open or known.refs)
            ],
            "loans": [each.id for each in self.workers.workers.values() if each.loans.extents()],
        }  # fmt: skip
        return {name: amount for name, amount in held.items() if amount}

    def _history(self) -> list[tuple[Any, ...]]:
        """Return what the history tells of attempts."""
        writer = self.client.recorder.writer
        writer.do(writer._flush)
        history = writer._history_of()
        history.unpack()
        return list(
            history._connection.execute(
                "SELECT task_key, attempt, worker, seq, error_type FROM attempts"
            )
        )

    def _check_leaks(self) -> None:
        assert not self.workers.workers
        assert not self.engine._core.unfinished
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


def descriptors() -> int:
    """Count the open descriptors."""
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def _as_in_the_simulator() -> Any:
    """Let smaller values go to the store, nobody log, and the collector wait to be asked."""
    limit, serialization.INLINE_LIMIT = serialization.INLINE_LIMIT, SMALL
    logger = logging.getLogger("aioray")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what was there before need not be looked at again and again
    gc.disable()
    try:
        yield
    finally:
        serialization.INLINE_LIMIT = limit
        logger.setLevel(level)
        gc.unfreeze()
        if enabled:
            gc.enable()


def simulate(plan: Plan, chance: random.Random) -> SimSession:
    """Play a plan; what is wrong is in `failed` afterwards."""
    session = SimSession(plan, chance)
    with _as_in_the_simulator():
        before = descriptors()
        loop = asyncio.SelectorEventLoop()
        clock = VirtualClock()
        clock.take_over(loop)
        try:
            loop.run_until_complete(session.run())
        except Exception as error:  # noqa: BLE001 - whatever is wrong
            session.failed = session.failed or error
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            clock.give_back()
            loop.close()
            if session.client is not None:
                registry.close(session.client)  # a broken engine has not ended
        if session.failed is None and descriptors() > before:
            session.failed = AssertionError(f"{descriptors() - before} descriptors are left")
    return session
