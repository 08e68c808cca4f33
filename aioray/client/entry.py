"""What stands behind a ref: the entry of one object, and the failures that stand for values.

Room: client, also imported by workers, so light. An `ObjectEntry` is the state of one object in the
driver: pending, a small value's bytes, a large value's place in the store, or a failure. Refs,
tasks that need it and values that contain its ref hold it by ordinary references; when the last is
gone, so is the value. Entries change on the engine's thread only; reading `outcome` is safe from
anywhere. It is assigned when all else is in place, and becomes None again if a stored value is
lost; then whoever waits for it has it computed again.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from ..shared import ids
from ..shared.printable import LINES, printable
from ..shared.serialization import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Client, StoredValue

__all__ = ["NotInMemory", "ObjectEntry", "StoredFailure"]

logger = logging.getLogger("aioray")


class NotInMemory(Exception):  # noqa: N818  # no error: the answer is to wait
    """A value is not in memory: it is on disk, or lost. Wait for it again. Never leaves aioray."""


class StoredFailure:
    """The failure that stands where a value should: makes a new exception each time."""

    __slots__ = ("build", "seen")
    in_memory = True

    def __init__(self, build: Callable[[], BaseException]) -> None:
        self.build = build
        self.seen = False

    def exception(self) -> BaseException:
        """Build a new instance of the error; the failure counts as seen."""
        self.seen = True
        return self.build()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.seen or _is_finalizing():
            return
        if os.environ.get("RAY_IGNORE_UNHANDLED_ERRORS", "0") in ("", "0"):
            logger.error(
                "Unhandled error (suppress with RAY_IGNORE_UNHANDLED_ERRORS=1): %s",
                printable(str(self.build()), LINES),
            )


class ObjectEntry:
    """The state of one object, shared by all refs to it."""

    __slots__ = (
        "__weakref__",
        "client",
        "contains",
        "identifier",
        "index",
        "label",
        "lost",
        "outcome",
        "task",
        "waiters",
    )

    def __init__(
        self, client: Client | None, label: ids.Label, index: int, task: Any = None
    ) -> None:
        self.client = client  # None: it belongs to a driver that this process cannot reach
        self.label = label  # of its task, see ids.task_id; 0 for objects of the driver's `put`
        self.index = index  # of the return value, from 1, or of the object put
        self.task = task  # the engine's; None for objects of `put`
        self.outcome: bytes | StoredValue | StoredFailure | None = None
        self.lost = False  # there was a value; there will be one again if somebody waits for it
        self.waiters: list[Callable[[], None]] | None = None  # engine's thread only
        self.contains: Any = None  # entries whose refs lie inside the value
        self.identifier: bytes | None = None

    def binary(self) -> bytes:
        """Return the id of the object, made at the first call."""
        if self.identifier is None:
            job = self.owner().job
            task = ids.task_id(job, self.label) if self.label else ids.driver_task_id(job)
            self.identifier = ids.object_id(task, self.index)
        return self.identifier

    def owner(self) -> Client:
        """Return the client that this object belongs to. Raises ValueError if that is gone."""
        client = self.client
        if client is None:
            raise ValueError(
                "This ObjectRef has an unknown owner: it belongs to a session that has ended, or "
                "was made in another process. Refs are valid from init() to shutdown()."
            )
        return client

    @property
    def in_memory(self) -> bool:
        """Whether there is an outcome that needs no waiting, not even for the disk."""
        outcome = self.outcome
        return type(outcome) is bytes or (outcome is not None and outcome.in_memory)  # type: ignore[union-attr]

    def value(self) -> Any:
        """Return the value, deserialized anew, or raise the task's error.

        Raises NotInMemory if there is none, or it went to disk: wait for it again.
        """
        outcome = self.outcome
        if type(outcome) is bytes:
            return load(outcome)
        if outcome is None:
            raise NotInMemory
        if isinstance(outcome, StoredFailure):
            raise outcome.exception()
        return load(outcome.view())  # type: ignore[union-attr]

    def add_waiter(self, callback: Callable[[], None]) -> None:
        """Call back when the outcome is at hand, at once if it is. Engine's thread only."""
        if self.outcome is not None and self.in_memory:
            callback()
            return
        if self.waiters is None:
            self.waiters = [callback]
        else:
            self.waiters.append(callback)
        if self.lost or self.outcome is not None:
            self.owner().fetch(self)

    def wake_waiters(self) -> None:
        """Call those who wait for the outcome, which is at hand. Engine's thread only."""
        waiters = self.waiters
        if waiters is not None:
            self.waiters = None
            for waiter in waiters:
                waiter()

    def drop_waiter(self, callback: Callable[[], None]) -> None:
        """Take a callback of `add_waiter` back, if it is still there. Engine's thread only."""
        if self.waiters is not None and callback in self.waiters:
            self.waiters.remove(callback)

    def error(self) -> BaseException | None:
        """Return the exception that `value` would raise, or None."""
        outcome = self.outcome
        return outcome.exception() if isinstance(outcome, StoredFailure) else None
