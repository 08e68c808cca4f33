"""Answers what tasks ask of placement groups, and where something can run at all.

Room: engine.
"""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING

from .session import pickled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.events import Event
    from ...core.model import Task
    from ...shared.asks import AddGroup, CheckPlacement, GroupReady, RemoveGroup
    from ..client import DriverClient
    from ..processes.inbound import Asked
    from ..tasks.submission import Submission
    from .session import WorkerSession

__all__ = ["GroupRequests"]


class GroupRequests:
    """Reserves and removes placement groups, and tells where nothing can run."""

    def __init__(
        self,
        client: DriverClient,
        submission: Submission,
        feed: Callable[[Event | functools.partial[None]], None],
        submitter: Callable[[int, int], Task | None],
    ) -> None:
        self._client = client
        self._submission = submission
        self._feed = feed
        self._submitter = submitter

    def check_placement(self, session: WorkerSession, ask: CheckPlacement, asked: Asked) -> None:
        """Reply with the error, if what is to be submitted can run nowhere."""
        parent = self._submitter(session.handle.id, asked.seq)
        depth = 0 if parent is None else parent.scheduling_class.depth + 1
        try:
            self._submission.class_for(pickle.loads(ask.definition), depth, None)
        except Exception as error:  # noqa: BLE001 - whatever a foreign strategy may raise
            session.reply(asked.request, [pickled(error)])
        else:
            session.reply(asked.request, None)

    def add(self, session: WorkerSession, ask: AddGroup, asked: Asked) -> None:
        """Make a placement group."""
        for name, amount in (demand for bundle in ask.bundles for demand in bundle):
            if not isinstance(name, str) or not isinstance(amount, int) or amount < 0:
                raise ValueError(f"a bundle of {amount!r} {name!r}")
        try:
            self._client.create_placement_group(*ask)
        except (RuntimeError, ValueError) as error:
            session.reply(asked.request, [pickled(error)])
        else:
            session.reply(asked.request, None)

    def remove(self, session: WorkerSession, ask: RemoveGroup, asked: Asked) -> None:
        """Remove a placement group, and reply after what that means for others."""
        try:
            self._client.remove_placement_group(ask.identifier)
        except ValueError as error:
            session.reply(asked.request, [pickled(error)])
        else:
            self._feed(functools.partial(session.reply, asked.request, None))

    def ready(self, session: WorkerSession, ask: GroupReady, asked: Asked) -> None:
        """Reply with the ref that is ready when a group is placed; its worker holds it."""
        try:
            ref = self._client.placement_group_ready(ask.identifier)
        except ValueError as error:
            session.reply(asked.request, [pickled(error)])
            return
        self._client.export_entry(ref.entry)
        session.hold(ref.binary(), ref.entry)
        session.reply(asked.request, ref.binary())
