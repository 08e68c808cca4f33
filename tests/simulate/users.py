"""What the driver does: it submits, waits, cancels, lets go, and breaks things, as the plan says.

Some of it comes from other threads than the loop's, as the mailbox sees it: they are played too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import aioray
from aioray.client.entry import StoredFailure
from aioray.core.events import ActorKilled
from aioray.exceptions import RayError
from aioray.util import placement_group, remove_placement_group
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plan import Deed, Item
    from .session import SimSession

__all__ = ["Users"]

LONG = 1_000.0  # virtual seconds, in which everything ends if nothing hangs
HANGS = ("hang", "garbage", "lie", "outgrow")


def work(number: int, weight: bytes, *values: Any) -> Any:
    """Stand for all functions."""


def produce(number: int, weight: bytes, *values: Any) -> Iterator[Any]:
    """Stand for all generators."""
    yield number


class Server:
    """Stands for all classes."""

    def __init__(self, number: int, weight: bytes, *values: Any) -> None:
        """Do nothing: who plays it does nothing either."""

    def serve(self, number: int, weight: bytes, *values: Any) -> Any:
        """Stand for all methods."""


class Users:
    """All users of one session."""

    def __init__(self, session: SimSession) -> None:
        self.session = session
        self.refs: dict[int, list[Any]] = {}  # by item: those that somebody holds
        self.actors: dict[int, Any] = {}
        self.groups: dict[int, Any] = {}
        self.calls: dict[int, int] = {}  # how often somebody was called back, by item
        self.expected: set[int] = set()  # items whose refs nobody has let go of
        self.left = 0  # deeds and submissions that are to come
        self.tasks: set[asyncio.Task[Any]] = set()
        self.was_shut_down = False
        self._functions: dict[Any, Any] = {}
        self._open: dict[int, int] = {}  # callbacks to come, by item

    # ------------------------------------------------------------ what is to happen

    def begin(self) -> None:
        """Plan everything."""
        session = self.session
        loop, plan = session.loop, session.plan
        begun = loop.time()
        coming: list[tuple[float, Any, Any]] = [
            (begun + item.at, self._submit, item) for item in plan.items if item.parent is None
        ]
        coming += [(begun + deed.at, self._do, deed) for deed in plan.deeds]
        end = begun + plan.end + (0.0 if session.may_hang else LONG)
        coming += [(end + more, self._give_up, None) for more in (0.0, 5.0)]
        coming.sort(key=lambda each: each[0])
        self.left = len(coming)
        self._go_on(deque(coming))

    def _go_on(self, coming: deque[Any]) -> None:
        """Do what is due, and wait for what comes next."""
        loop = self.session.loop
        while coming and coming[0][0] <= loop.time():
            _, action, subject = coming.popleft()
            self.left -= 1
            if self.session.failed is None:
                action(subject)
        if coming:
            loop.call_at(coming[0][0], self._go_on, coming)
        else:
            self._look()

    def _at(self, when: float, action: Any, *args: Any) -> None:
        self.left += 1

        def act() -> None:
            self.left -= 1
            if self.session.failed is None:
                action(*args)
            self._look()

        self.session.loop.call_at(when, act)

    def _look(self) -> None:
        """End when all that was to happen has happened."""
        session = self.session
        if not (self.left or self._open or self.tasks or session.engine._core.unfinished):
            if not session.over.done():
                session.over.set_result(None)
        elif not self.left:
            session.loop.call_later(5.0, self._look)

    def waiting(self) -> list[int]:
        """Return the items for which somebody waits."""
        return list(self._open)

    # ------------------------------------------------------------ submitting

    def function(self, item: Item) -> Any:
        """Return the remote function of an item."""
        options = dict(item.options)
        if item.returns != 1:
            options["num_returns"] = item.returns
        key = (item.kind, item.group, repr(sorted(options.items(), key=lambda pair: pair[0])))
        found = self._functions.get(key)
        if found is None:
            if item.group is not None:
                group = self.groups[item.group]
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
            target: Any = {"task": work, "stream": produce, "actor": Server}[item.kind]
            found = self._functions[key] = (
                aioray.remote(**options)(target) if options else aioray.remote(target)
            )
        return found

    @contextlib.contextmanager
    def _thread(self, *, foreign: bool) -> Iterator[None]:
        """Be another thread than the loop's."""
        mailbox = self.session.engine._mailbox
        ident = mailbox.thread_id
        if foreign:
            mailbox.thread_id = -1
        try:
            yield
        finally:
            mailbox.thread_id = ident

    def _submit(self, item: Item) -> None:
        session = self.session
        if session.closing:
            return
        needed = [each for each in item.needs if self.refs.get(each)]
        session.given[item.number] = needed
        args = (item.number, b"w" * item.weight, *[self.refs[each][0] for each in needed])
        if item.kind == "group":
            self._group(item)
            return
        if item.kind == "call" and item.actor not in self.actors:
            return
        if item.group is not None and item.group not in self.groups:
            return
        found: Any
        session.witness.submitting = item
        try:
            with self._thread(foreign=item.foreign and not item.weight):
                if item.kind == "put":
                    from .playing import value_of

                    found = aioray.put(value_of(item.number, 0, item.size))
                elif item.kind == "actor":
                    self.actors[item.number] = self.function(item).remote(*args)
                    return
                elif item.actor is not None:
                    method = self.actors[item.actor].serve
                    if item.options:
                        method = method.options(**item.options)
                    found = method.remote(*args)
                else:
                    found = self.function(item).remote(*args)
        except RayError:
            # The store, or the disk, had no room for what it takes along.
            session.story("refused", item.number)
            assert item.weight or item.size, item
            return
        finally:
            session.witness.submitting = None
        if item.kind == "stream":
            self._read(item, found)
            return
        refs = found if isinstance(found, list) else [found]
        if item.reader == "drops":
            return
        self.refs[item.number] = refs
        if item.reader == "callback":
            for index, ref in enumerate(refs):
                self._watch(item, ref, index)
        else:
            self._keep(self._wait(item, refs[0]))
        self.expected.add(item.number)

    def _watch(self, item: Item, ref: Any, index: int) -> None:
        """Wait for a ref by a callback, which comes once."""
        session, entry = self.session, ref.entry
        self._open[item.number] = self._open.get(item.number, 0) + 1
        called = 0

        def ready() -> None:
            nonlocal called
            called += 1
            assert called == 1, f"item {item.number} was called back twice"
            self._closed(item.number)
            session.witness.check_outcome(item, entry, index)

        with self._thread(foreign=item.foreign):
            session.client.when_ready(entry, ready)

    def _closed(self, number: int) -> None:
        self._open[number] -= 1
        if not self._open[number]:
            del self._open[number]

    def _keep(self, coroutine: Any) -> None:
        task = self.session.loop.create_task(self._guarded(coroutine))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _guarded(self, coroutine: Any) -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is what was to be found
            self.session.fail(error)

    async def _wait(self, item: Item, ref: Any) -> None:
        """Wait for a ref as a coroutine; who has no patience leaves, and that is all."""
        witness = self.session.witness
        try:
            if item.reader == "impatient":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ref, 0.001)
            value = await ref
        except (RayError, TimeoutError) as error:
            witness.check_error(item, error)
        else:
            witness.check_value(item, value)

    def _read(self, item: Item, generator: Any) -> None:
        """Read a stream, or leave it."""
        self.refs[item.number] = [generator.completed()]
        if item.reader == "abandon":
            return
        self._keep(self._read_all(item, generator))

    async def _read_all(self, item: Item, generator: Any) -> None:
        witness = self.session.witness
        number = 0
        try:
            async for ref in generator:
                try:
                    value = await ref
                except RayError as error:
                    witness.check_error(item, error)
                else:
                    witness.check_value(item, value, number)
                number += 1
        except RayError as error:  # all is over
            witness.check_error(item, error)

    def _group(self, item: Item) -> None:
        self.session.witness.submitting = item
        self.groups[item.number] = placement_group(item.options["bundles"])
        self.session.witness.submitting = None

    # ------------------------------------------------------------ deeds

    def _do(self, deed: Deed) -> None:
        session = self.session
        if session.closing:
            return
        session.story("deed", deed.what, deed.item)
        workers = session.workers
        found = {
            "kill worker": workers.kill_some,
            "memory short": workers.memory_short,
            "worker outgrown": workers.outgrown,
        }.get(deed.what)
        if found is not None:
            found(deed.detail)
        else:
            getattr(self, "_do_" + deed.what.replace(" ", "_"))(deed)

    def _do_template_dies(self, _deed: Deed) -> None:
        self.session.witness.counts["template"] += 1
        self.session.workers.template_dies()

    def _do_collect(self, _deed: Deed) -> None:
        gc.collect()

    def _do_disk_full(self, deed: Deed) -> None:
        self.session.disk_full_until = self.session.now() + deed.detail

    def _do_damage_file(self, deed: Deed) -> None:
        path = self.session.engine._objects.store._folder.path
        with contextlib.suppress(OSError):
            files = sorted(os.listdir(path), key=int)
            if files:
                os.truncate(os.path.join(path, files[int(deed.detail * len(files))]), 10)

    def _do_drop(self, deed: Deed) -> None:
        assert deed.item is not None
        self.expected.discard(deed.item)
        if deed.item in self.actors:
            self.actors.pop(deed.item)
        elif not self._open.get(deed.item):
            self.refs.pop(deed.item, None)

    def _do_kill_actor(self, deed: Deed) -> None:
        assert deed.item is not None
        handle = self.actors.get(deed.item)
        if handle is not None:
            aioray.kill(handle, no_restart=deed.detail)
            if not deed.detail:
                loop = self.session.loop
                self._at(loop.time() + 0.5, self.actors.pop, deed.item, None)
            else:
                self.actors.pop(deed.item)

    def _do_remove_group(self, deed: Deed) -> None:
        assert deed.item is not None
        group = self.groups.pop(deed.item, None)
        if group is not None:
            remove_placement_group(group)

    def _do_lose(self, deed: Deed) -> None:
        assert deed.item is not None
        item = self.session.by_number[deed.item]
        for index, ref in enumerate(self.refs.get(deed.item, ())):
            entry = ref.entry
            outcome = entry.outcome
            if outcome is None or isinstance(outcome, bytes | StoredFailure):
                continue
            self.session.story("lose", deed.item)
            self.session.client.lose_now(entry)
            if item.kind != "stream":
                self._watch(item, ref, index)

    def _do_cancel(self, deed: Deed) -> None:
        assert deed.item is not None
        force, recursive, grace = deed.detail
        refs = self.refs.get(deed.item)
        item = self.session.by_number[deed.item]
        if refs:
            self._cancel(item, refs[0].entry, force=force, recursive=recursive, grace=grace)

    def _cancel(self, item: Item, entry: Any, *, force: bool, recursive: bool, grace: Any) -> None:
        session = self.session
        if item.kind == "call":
            force = False
        facts = session.witness.facts[entry.task.number]
        session.witness.cancel_asked(facts, recursive=recursive)
        with self._thread(foreign=item.foreign):
            request = session.client.cancel(entry, force=force, recursive=recursive, grace=grace)
        request.when_known(functools.partial(session.witness.cancel_known, facts))

    def _do_shutdown(self, deed: Deed) -> None:
        self.session.closing = self.was_shut_down = True
        self._keep(self.session.engine.shutdown(deed.detail))

    def _give_up(self, _nothing: Any = None) -> None:
        """End what would run for ever: the driver has had enough."""
        session = self.session
        if session.closing:
            return
        if not session.may_hang:
            left = session.engine._core.unfinished_tasks()
            may = not left or any(map(session.may_wait_for_ever, left))
            assert may, f"a deadlock: {left[:5]!r} are not done, and nothing hangs"
        for actor in tuple(self.actors):
            aioray.kill(self.actors.pop(actor))
        for group in tuple(self.groups):
            remove_placement_group(self.groups.pop(group))
        for task in session.engine._core.unfinished_tasks():
            facts = session.witness.facts[task.number]
            actor = task.scheduling_class.actor
            if actor is not None:  # no handle may be left, but this call that does not end
                session.feed(ActorKilled(actor, no_restart=True))
            elif facts.item.kind in ("task", "stream"):
                session.witness.cancel_asked(facts, recursive=True)
                request = session.client.cancels.of_task(
                    task, force=True, recursive=True, grace=0.0
                )
                request.when_known(functools.partial(session.witness.cancel_known, facts))

    # ------------------------------------------------------------ the end

    def drop_all(self) -> None:
        """Let go of everything."""
        self.refs.clear()
        self.actors.clear()
        self.groups.clear()
        self._functions.clear()
        self.session._definitions.clear()

    def leave(self) -> None:
        """Wait for nothing any more."""
        for task in self.tasks:
            task.cancel()

    def check_end(self) -> None:
        """Check that whoever has waited was called back."""
        if not self.was_shut_down:
            assert not self._open, f"nobody was called back for {list(self._open)[:5]}"
