"""What an engine tells to whoever looks at it: what is queued, runs, is held, is used, and where.

Room: engine. It only looks. What takes long is told in slices, so that the loop can do other things
between them; what goes wrong here is the answer, and harms nobody else. What has ended is not told
here, but by the history.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ...core.devices import UNIT
from ..processes.stacks import collect
from .inventory import list_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from ...client.entry import ObjectEntry
    from ...core.limiters import StartLimiter
    from ...core.scheduler import Scheduler
    from ..client import DriverClient
    from ..objects.store import Store
    from ..processes.handle import WorkerHandle
    from ..processes.pool import WorkerProcesses
    from ..requests.dispatcher import Requests
    from .recorder import Recorder
    from .sites import Sites

    Answer = dict[str, Any]

__all__ = ["Snapshot"]

logger = logging.getLogger("aioray")


class Snapshot:
    """One engine, seen from outside. On the engine's thread."""

    def __init__(
        self,
        client: DriverClient,
        core: Scheduler,
        processes: WorkerProcesses,
        recorder: Recorder,
        store: Store,
        requests: Requests,
        pinned: Collection[ObjectEntry],
        sites: Sites,
        capacity: int,
    ) -> None:
        """Look at these parts. pinned: kept for the session. capacity: bytes of the store."""
        self._client = client
        self._core = core
        self._processes = processes
        self._recorder = recorder
        self._store = store
        self._requests = requests
        self._pinned = pinned
        self._sites = sites
        self._capacity = capacity

    def answer(
        self, request: Answer, done: Callable[[Answer], None], *, at_once: bool = False
    ) -> None:
        """Answer a question, see `Questions.ask_state`.

        at_once: before this returns, however long the loop has to wait.
        """
        want = request.get("want") or []
        try:
            if "running" in want:
                running = self._processes.running()
                tasks = self._core.tasks_in_flight(running)
                done({"running": self._recorder.live.running(tasks, running)})
            elif "stacks" in want:
                self._tell_stacks(done, at_once=at_once)
            else:
                answer: Answer = {}
                steps = self._tell_state(answer, with_objects="objects" in want)
                if at_once:
                    deque(steps, 0)
                self._go_on(steps, answer, done)
        except Exception as bug:  # noqa: BLE001 - to look must harm nobody
            _give_up(bug, done)

    def _go_on(self, steps: Iterator[None], answer: Answer, done: Callable[[Answer], None]) -> None:
        """Take one step, and the next ones after whatever else the loop has to do."""
        try:
            for _ in steps:
                assert self._client.loop is not None
                self._client.loop.call_soon(self._go_on, steps, answer, done)
                return
        except Exception as bug:  # noqa: BLE001 - the same
            _give_up(bug, done)
        else:
            done(answer)

    def _tell_state(self, answer: Answer, *, with_objects: bool) -> Iterator[None]:
        client, core = self._client, self._core
        running = self._processes.running()
        self._processes.take_output()
        unfinished = core.unfinished_tasks()
        answer |= {
            "now": time.time(),
            "tasks": [],
            "running": {str(worker): seq for worker, (seq, _) in running.items()},
            "resources": {
                "total": client.cluster_resources(),
                "available": client.available_resources(),
            },
            "store": {"used": self._store.used, "capacity": self._capacity},
            "demands": [
                [{name: amount / UNIT for name, amount in cls.demand}, count]
                for cls, count in core.demands()
            ],
            "breakers": [
                [breaker.policy.name, breaker.state.name, len(breaker.deaths)]
                for breaker in core.breakers.known.values()
            ],
            "limiters": [_limiter(each) for each in client.limiters.all()],
        }
        yield from self._recorder.live.unfinished(unfinished, running, answer["tasks"])
        if with_objects:
            answer["objects"] = []
            sessions = [self._requests.session(handle) for handle in self._processes.handles()]
            unfinished = core.unfinished_tasks()
            for some in list_objects(
                client, unfinished, sessions, self._pinned, self._sites.call_site
            ):
                answer["objects"] += some
                yield

    def _tell_stacks(self, done: Callable[[Answer], None], *, at_once: bool) -> None:
        """Tell what each worker runs, and its stacks, see `stacks`."""
        if at_once:
            done({"error": "the stacks of workers come only while the loop runs"})
            return
        running = self._processes.running()

        def describe(handle: WorkerHandle) -> dict[str, Any]:
            tasks = self._core.tasks_in_flight([handle.id])
            actors = [task.scheduling_class.actor for task in tasks]
            return {
                "worker_type": "WORKER",
                "pid": handle.pid,
                "worker_id": handle.hex_id,
                "number": handle.id,
                "asynchronous": any(actor is not None and actor.asynchronous for actor in actors),
                "running": self._recorder.live.running_tasks(tasks, running),
            }

        assert self._client.loop is not None
        collect(
            self._client.loop,
            self._processes.handles(),
            describe,
            lambda rows: done({"stacks": rows}),
        )

    def figures(self) -> dict[str, Mapping[tuple[str, ...], float]]:
        """Return what `aioray.state.write.metering` says of now."""
        client, store = self._client, self._store
        found = self._recorder.live.figures(
            self._core.unfinished_tasks(), self._processes.running()
        )
        total, free = client.cluster_resources(), client.available_resources()
        resources: dict[tuple[str, ...], float] = {
            (name, kind): amounts.get(name, 0.0)
            for name in total
            if not name.startswith("node:")
            for kind, amounts in (("total", total), ("free", free))
        }
        return {
            **found,
            "resources": resources,
            "object_store_bytes": {
                ("used",): store.used,
                ("capacity",): store.limit,
                ("spilled",): store.spilled,
            },
        }


def _give_up(bug: Exception, done: Callable[[Answer], None]) -> None:
    logger.error("What goes on could not be told, which is a bug in aioray.", exc_info=bug)
    done({"error": f"it has failed to look, which is a bug in aioray: {bug!r}"})


def _limiter(limiter: StartLimiter) -> dict[str, Any]:
    """Return what a limiter allows, and how much of that is in use."""
    return {
        "name": limiter.name,
        "running": len(limiter.holders()),
        "concurrency": limiter.concurrency,
        "started": limiter.started(time.monotonic()),
        "rate": limiter.rate,
        "per": limiter.per,
        "waiting": limiter.waiting(),
    }
