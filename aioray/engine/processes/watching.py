"""How attempts with time limits get on, and where they are when they have exceeded one.

Room: engine. Decides nothing about time: the core says when to look. What a worker has noted of an
attempt stands on its control page, so looking costs nothing and needs no help from the worker; its
stack it writes at a signal, also if it is stuck in C code (see `stacks`). Whether another attempt
was asked for is found out here too, since the one that took too long can be asked nothing any more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...core.commands import LocateAttempt, LookAtAttempt
from ...core.events import AttemptLocated, AttemptSeen
from ...core.records import replace
from ...shared import ids
from ...shared.printable import printable
from ...shared.retry_rules import allows
from ...shared.serialization import load
from ...state.read import stacks as stack_texts
from ..telemetry.errors import timed_out
from ..telemetry.reports import Whereabouts, WorkerName
from . import stacks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from ...core.events import Event
    from ...core.model import Task
    from ...core.outcomes import Overrun
    from .handle import WorkerHandle

__all__ = ["Watcher", "asks_for_retry"]

logger = logging.getLogger("aioray")


class Watcher:
    """Looks at the attempts of one engine's workers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        feed: Callable[[Event], None],
        workers: Mapping[int, WorkerHandle],
        job: bytes,
    ) -> None:
        """Look at nothing yet. feed: takes what was seen."""
        self._loop = loop
        self._feed = feed
        self._workers = workers
        self._job = job
        self.orders: dict[type[Any], Callable[[Any], None]] = {
            LookAtAttempt: self._look,
            LocateAttempt: self._locate,
        }

    def _look(self, command: LookAtAttempt) -> None:
        """Tell when an attempt was entered, and how it gets on."""
        handle = self._workers.get(command.worker_id)
        if handle is not None:
            entered, beat = handle.page.progress(command.seq)
            self._feed(AttemptSeen(handle.id, command.seq, entered, beat))

    def _locate(self, command: LocateAttempt) -> None:
        """Find out where an attempt is."""
        handle, task, seq = self._workers.get(command.worker_id), command.task, command.task.seq
        if handle is None:
            return  # it is dead, and so is the attempt
        name = WorkerName(handle.hex_id, handle.pid)
        number = task.attempt
        thread = handle.page.thread(seq)

        def tell(texts: dict[int, str | None]) -> None:
            frames = stack_texts.find(texts[handle.id] or "", seq, thread)
            lines = [
                f'File "{file}", line {line}, in {function}' for file, line, function in frames
            ]
            report = Whereabouts(name, number, "\n".join(lines))
            retries = task.seq == seq and asks_for_retry(self._job, task, command.overrun, report)
            self._feed(AttemptLocated(handle.id, seq, report, retries))

        actor = task.actor or task.scheduling_class.actor
        asynchronous = () if actor is None or not actor.asynchronous else (handle.id,)
        stacks.gather(self._loop, [handle], asynchronous, tell)


def asks_for_retry(job: bytes, task: Task, overrun: Overrun, report: Whereabouts) -> bool:
    """Tell whether the `retry_exceptions` of a task allows another attempt after this."""
    rule = task.spec.retry_rule
    if isinstance(rule, bool):
        return rule
    error = timed_out(
        task.name,
        ids.task_id(job, task.task_key).hex(),
        replace(overrun, report=report),
    )
    try:
        return allows(load(rule), error)
    except Exception as broken:  # noqa: BLE001 - user code may raise anything
        logger.warning(
            "Task %s is not retried, because its retry_exceptions itself failed: %s",
            printable(task.name),
            printable(repr(broken)),
        )
    return False
