"""Questions about one engine: what goes on, what there is, what was recorded.

Room: engine. For any thread: the mailbox brings a question to the engine's, where an `Snapshot`
answers it, see `snapshot`; what happened before is asked of the history.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any

from ...core.devices import UNIT
from ...state.folders import SessionFolder, root_folder
from .health import Health
from .reports import NODE_IP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...core.scheduler import Scheduler
    from ...options.task import InitOptions
    from ...state.read.sessions import Session
    from ...state.write.writer import HistoryListener
    from ..client import DriverClient
    from ..mailbox import Mailbox
    from ..objects.objects import ObjectTable
    from .snapshot import Snapshot

__all__ = ["Questions", "in_whole_units"]

FIGURES_SECONDS = 2.0  # that whoever asks for them from another thread waits


class Questions:
    """What may be asked of one engine."""

    def __init__(
        self,
        client: DriverClient,
        mailbox: Mailbox,
        core: Scheduler,
        settings: InitOptions,
        totals: Mapping[str, int],
    ) -> None:
        """Answer for the engine of `client`. totals: of resources, see `Scheduler`."""
        self.folder = SessionFolder(root_folder(settings.temp_dir), client.session)
        self.objects: ObjectTable | None = None  # as soon as the engine is started
        self.snapshot: Snapshot | None = None  # then too, if there is a history
        self._client = client
        self._mailbox = mailbox
        self._core = core
        self._settings = settings
        self._totals = totals
        self._health = Health(core, mailbox, client)

    # ------------------------------------------------------------ what goes on

    def health(self) -> dict[str, Any]:
        """Say how the engine is, at once, from any thread. See `Health.tell`."""
        return self._health.tell(None if self.objects is None else self.objects.store)

    def ask_state(self, request: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        """Answer a question about what is going on, from any thread.

        request: "want" names what more than tasks and resources: "objects"; or "running" alone, or
        "stacks".
        done: called with the answer, made of what JSON has, on the engine's thread.
        """
        try:
            self._mailbox.post(lambda: self._tell(request, done))
        except RuntimeError:  # the loop is closed
            done({"error": "ended"})

    def _tell(
        self,
        request: dict[str, Any],
        done: Callable[[dict[str, Any]], None],
        *,
        at_once: bool = False,
    ) -> None:
        """Answer a question on the engine's thread. at_once: before this returns."""
        if self.snapshot is None or self._mailbox.ended:
            done({"error": "ended"})
        else:
            self.snapshot.answer(request, done, at_once=at_once)

    def own_session(self) -> Session:
        """Return this session, to be looked at, from any thread."""
        from ...state.read.sessions import Session  # it takes sqlite3 along, which few need here

        return Session(
            self._client.session,
            self.folder.path,
            alive=not self._client.closed and self._client.recorder is not None,
            pid=os.getpid(),
            ask=self._ask_here,
        )

    def _ask_here(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Answer a question of this process, and wait for that. Raises TimeoutError."""
        answered: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()

        def complete(answer: dict[str, Any]) -> None:
            if self._client.recorder is None or self._mailbox.is_lost:
                answered.set_result(answer)
            else:
                self._client.recorder.writer.complete(answer, answered.set_result)

        if threading.get_ident() == self._mailbox.thread_id:
            self._mailbox.drain()
            self._tell(request, complete, at_once=True)
        else:
            self.ask_state(request, complete)
        return answered.result(timeout)

    def ask_figures(self) -> dict[str, Mapping[tuple[str, ...], float]]:
        """Return what `aioray.state.write.metering` says of now, from any thread.

        It is empty if the engine has ended, or its loop is blocked.
        """
        snapshot = self.snapshot
        if self._client.closed or snapshot is None:
            return {}
        if threading.get_ident() == self._mailbox.thread_id:
            return snapshot.figures()
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def tell() -> None:
            try:
                answer.set_result({} if self._mailbox.ended else snapshot.figures())
            except Exception as error:  # noqa: BLE001 - whoever asks is told, not the session
                answer.set_exception(error)

        try:
            self._mailbox.post(tell)
            found: dict[str, Mapping[tuple[str, ...], float]] = answer.result(FIGURES_SECONDS)
        except (RuntimeError, TimeoutError):
            return {}
        return found

    def listen(self, listener: HistoryListener) -> None:
        """Let somebody know what is recorded from now on; nothing is if `history` is 0."""
        if self._client.recorder is not None:
            self._client.recorder.writer.listeners.append(listener)

    # ------------------------------------------------------------ what there is

    def cluster_resources(self) -> dict[str, float]:
        """Return the totals by name."""
        memory = {"object_store_memory": float(self._settings.object_store_memory)}
        return {**in_whole_units(self._totals), **memory}

    def available_resources(self) -> dict[str, float]:
        """Return what nobody holds or has reserved, by name; what is used up is left out."""
        used = 0 if self.objects is None else self.objects.store.used
        left = self._settings.object_store_memory - used
        memory = {"object_store_memory": float(left)} if left > 0 else {}
        available = dict(self._core.available)  # at once: it may be changing
        free = {name: amount for name, amount in available.items() if name in self._totals}
        return {**in_whole_units(free), **memory}

    def nodes(self) -> list[dict[str, Any]]:
        """Return this machine, as Ray describes a node."""
        return [
            {
                "NodeID": self._client.node_id,
                "Alive": not self._client.closed,
                "NodeManagerAddress": NODE_IP,
                "NodeManagerHostname": os.uname().nodename,
                "NodeManagerPort": 0,
                "ObjectManagerPort": 0,
                "ObjectStoreSocketName": "",
                "RayletSocketName": "",
                "MetricsExportPort": 0,
                "MetricsAgentPort": 0,
                "DashboardAgentListenPort": 0,
                "NodeName": NODE_IP,
                "RuntimeEnvAgentPort": 0,
                "DeathReason": 0,
                "DeathReasonMessage": "",
                "alive": not self._client.closed,
                "Resources": self.cluster_resources(),
                "Labels": {
                    "ray.io/node-id": self._client.node_id,
                    **(self._settings.labels or {}),
                },
            }
        ]


def in_whole_units(amounts: Mapping[str, int]) -> dict[str, float]:
    """Return amounts of resources as users count them, without what is none."""
    return {name: amount / UNIT for name, amount in amounts.items() if amount}
