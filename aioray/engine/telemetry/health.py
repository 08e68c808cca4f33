"""How an engine is, in a plain dict that JSON takes: for health endpoints, which ask often.

Room: engine. Only looks at what there is: it asks nobody and waits for nothing, so it may be called
on the event loop, and from any thread; what it says of several things need not be of one moment.
Costs no more than there are workers and kinds of tasks that wait, however many tasks there are.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from ...core.events import WorkerWanted
from ...core.states import LEAVING, Phase, WorkerStatus

if TYPE_CHECKING:
    from ...core.scheduler import Scheduler
    from ..client import DriverClient
    from ..mailbox import Mailbox
    from ..objects.store import Store

__all__ = ["Health", "no_engine"]

STARVED_SECONDS = 1.0  # that tasks are passed over before it is told
STARVED_TOLD = 10  # kinds of tasks


def no_engine(status: str, session: str | None = None) -> dict[str, Any]:
    """Say how an engine is that is not there, or no more."""
    return {
        "status": status,
        "ready": False,
        "session": session,
        "workers": {"starting": 0, "idle": 0, "busy": 0, "actors": 0, "ending": 0},
        "tasks": {"unfinished": 0, "waiting": 0, "on_workers": 0, "infeasible": 0},
        "starved": [],
        "object_store": {"used": 0, "limit": 0, "spilled": 0},
        "loop_lag": None,
    }


class Health:
    """Tells how one engine is."""

    def __init__(self, core: Scheduler, mailbox: Mailbox, client: DriverClient) -> None:
        """Look at these parts of the engine of `client`."""
        self._core = core
        self._mailbox = mailbox
        self._client = client
        self._session = client.session
        self._asked_at: float | None = None  # of a look at the loop that was not taken yet
        self._lag: float | None = None

    def tell(self, store: Store | None) -> dict[str, Any]:
        """Say how the engine is. store: of its objects, as soon as it is started.

        ready: tasks are taken, and a worker has come up. A worker that is lost later is replaced,
        which makes nobody less ready. Workers come with work; whoever asks before there is any has
        the first one come up. loop_lag: seconds that the event loop took to get to what it
        was given when this was last asked, or has taken until now; None: it was not asked before.
        """
        if self._client.runs_inline:
            return {**no_engine("ready", self._session), "ready": not self._client.closed}
        if self._mailbox.loop is None:
            return no_engine("not started", self._session)
        if self._mailbox.closed or store is None:
            return no_engine("ended", self._session)
        phase = self._core.turn.life.state
        found = no_engine("", self._session)
        found["workers"] = self._workers()
        ready = phase is Phase.OPEN and self._core.pool.was_ready
        if phase is Phase.OPEN and not any(found["workers"].values()):
            self._warm_up()
        found["status"] = (
            "ready" if ready else "starting" if phase is Phase.OPEN else "shutting down"
        )
        found["ready"] = ready
        found["tasks"], found["starved"] = self._tasks()
        found["object_store"] = {
            "used": store.used,
            "limit": store.limit,
            "spilled": store.spilled,
        }
        found["loop_lag"] = self._look_at_loop()
        return found

    def _warm_up(self) -> None:
        """Have a worker come up, soon: a service that gets no work before it is ready needs one."""
        event = WorkerWanted(self._client.submission.environment)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._mailbox.post(lambda: self._mailbox.feed(event))

    def _workers(self) -> dict[str, int]:
        counted = {"starting": 0, "idle": 0, "busy": 0, "actors": 0, "ending": 0}
        for worker in list(self._core.pool.workers.values()):
            if worker.state is WorkerStatus.STARTING:
                counted["starting"] += 1
                continue
            if worker.state in LEAVING:
                counted["ending"] += 1
            elif worker.actor is not None:
                counted["actors"] += 1
            else:
                counted["busy" if worker.in_flight else "idle"] += 1
        return counted

    def _tasks(self) -> tuple[dict[str, int], list[dict[str, Any]]]:
        unfinished = len(self._core.table.unfinished)
        on_workers = sum(len(each.in_flight) for each in list(self._core.pool.workers.values()))
        infeasible = 0
        starved: list[dict[str, Any]] = []
        now = time.monotonic()
        for cls in list(self._core.backlog.waiting):
            since, queue = cls.passed_over_since, cls.queue
            if since is None or now - since < STARVED_SECONDS:
                continue
            name = next((task.name for task in tuple(queue)[:1]), "")
            starved.append({"task": name, "tasks": len(queue), "seconds": round(now - since, 3)})
        for cls in list(self._core.backlog.classes.values()):
            if cls.reported_infeasible:
                infeasible += len(cls.queue)
        starved.sort(key=lambda each: -each["seconds"])
        counted = {
            "unfinished": unfinished,
            "waiting": max(0, unfinished - on_workers),
            "on_workers": on_workers,
            "infeasible": infeasible,
        }
        return counted, starved[:STARVED_TOLD]

    def _look_at_loop(self) -> float | None:
        """Return how late the loop is, and have it looked at once more."""
        now = time.monotonic()
        asked_at = self._asked_at
        if asked_at is not None:
            return max(now - asked_at, self._lag or 0.0)
        self._asked_at = now

        def taken() -> None:
            self._lag, self._asked_at = time.monotonic() - now, None

        loop = self._mailbox.loop
        assert loop is not None
        try:
            loop.call_soon_threadsafe(taken)
        except RuntimeError:  # it was closed just now
            self._asked_at = None
        return self._lag
