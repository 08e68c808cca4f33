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

__all__ = ["NotInMemory", "ObjectEntry", "PlainEntry", "StoredFailure"]

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
    """The state of one object, shared by all refs to it; where it is kept, subclasses say."""

    if not TYPE_CHECKING:
        __slots__ = ()
    else:
        client: Client | None  # None: it belongs to a driver that this process cannot reach
        task_key: Any  # see ids.task_id; 0 for objects of the driver's `put`
        outcome: bytes | StoredValue | StoredFailure | None
        missing: bool  # there was a value; there will be one again if somebody waits for it
        # Engine's thread only. A tuple may be shared by many entries: all that one `get` awaits.
        waiters: tuple[Callable[[], None], ...] | list[Callable[[], None]] | None
        contains: Any  # entries whose refs lie inside the value
        identifier: bytes | None  # see `binary`
        index: int  # of the return value, from 1, or of the object put
        task: Any  # the engine's; None for objects of `put`

    def binary(self) -> bytes:
        """Return the id of the object, made at the first call."""
        if self.identifier is None:
            job = self.owner().job
            task = ids.task_id(job, self.task_key) if self.task_key else ids.driver_task_id(job)
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
        """Call back when the outcome is at hand, at once if it is. Engine's thread only.

        What has a method `failed` gets that called instead for an entry that has failed.
        """
        self.add_waiters((callback,))

    def add_waiters(self, callbacks: tuple[Callable[[], None], ...]) -> None:
        """Call these back, as `add_waiter` does; the entries that are given one tuple share it."""
        waiters = self.waiters
        if waiters is None:
            self.waiters = callbacks
        elif type(waiters) is list:
            waiters += callbacks
        else:
            self.waiters = [*waiters, *callbacks]
        if self.outcome is not None or self.missing:
            if self.in_memory:
                self.wake_waiters()
            else:
                self.owner().fetch(self)

    def wake_waiters(self) -> None:
        """Call those who wait for the outcome, which is at hand. Engine's thread only."""
        waiters = self.waiters
        if waiters is not None:
            self.waiters = None
            failed = type(self.outcome) is StoredFailure
            for waiter in waiters:
                if failed:
                    getattr(waiter, "failed", waiter)()
                else:
                    waiter()

    def drop_waiter(self, callback: Callable[[], None]) -> None:
        """Take a callback of `add_waiter` back, if it is still there. Engine's thread only."""
        waiters = self.waiters
        if waiters is not None and callback in waiters:
            left = list(waiters)
            left.remove(callback)
            self.waiters = left or None

    def error(self) -> BaseException | None:
        """Return the exception that `value` would raise, or None."""
        outcome = self.outcome
        return outcome.exception() if isinstance(outcome, StoredFailure) else None


class PlainEntry(ObjectEntry):
    """An entry that is nothing else."""

    __slots__ = (
        "__weakref__",
        "client",
        "contains",
        "identifier",
        "index",
        "missing",
        "outcome",
        "task",
        "task_key",
        "waiters",
    )

    def __init__(
        self, client: Client | None, task_key: ids.TaskKey, index: int, task: Any = None
    ) -> None:
        """Begin without an outcome."""
        self.task_key = task_key
        self.index = index
        self.task = task
        self.outcome = None
        self.missing = False
        self.waiters = None
        self.contains = None
        self.identifier = None
        self.client = client  # last: now it is found among all entries
