"""Outcomes as a worker has them: what the replies of the driver become for user code.

Room: worker. A value that was looked at where it lies, the failure of a task, and what a cancel
that was asked for has done.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from ..client.entry import NotInMemory, StoredFailure
from ..client.results import CancelRequest
from ..shared.serialization import load
from .channel import TimeIsOver

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..core.outcomes import CancelOutcome
    from .channel import Channel

__all__ = ["AskedCancel", "Got", "failure"]


class Got:
    """A large value that a reply has given; at hand once, and while something looks at it."""

    __slots__ = ("_view", "_weak")

    def __init__(self, view: Any) -> None:
        self._view = view
        self._weak = None if isinstance(view, memoryview) else weakref.ref(view)

    @property
    def in_memory(self) -> bool:
        """Whether `view` gives the value."""
        return self._view is not None or (self._weak is not None and self._weak() is not None)

    def view(self, *, from_disk: bool = False) -> memoryview:
        """Return the serialized value. Raises NotInMemory if it has to be asked for again."""
        del from_disk  # if it is there, the driver has read it from there
        view, self._view = self._view, None
        if view is None and self._weak is not None:
            view = self._weak()
        if view is None:
            raise NotInMemory
        return memoryview(view).cast("B").toreadonly()


class AskedCancel(CancelRequest):
    """A request to cancel that a task has made; the driver knows what becomes of it."""

    def __init__(self, channel: Channel, seq: int, request: int) -> None:
        self._channel = channel
        self._seq = seq
        self._request = request
        self._outcome: CancelOutcome | None = None

    def __await__(self) -> Generator[Any, None, CancelOutcome]:
        import asyncio

        return asyncio.to_thread(self.result).__await__()

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome. See `CancelRequest`."""
        if self._outcome is None:
            from ..core.outcomes import CancelOutcome

            deadline = None if timeout is None else time.monotonic() + timeout
            try:
                name = self._channel.finish(self._seq, self._request, deadline)
            except TimeIsOver:
                raise TimeoutError from None
            self._outcome = CancelOutcome[name]
        return self._outcome

    def __del__(self) -> None:
        self._channel.ignore(self._request)


def failure(pickled: bytes) -> StoredFailure:
    """Wrap the error of a task, of which a reply has told."""
    found = StoredFailure(lambda: load(pickled))
    found.seen = True  # the driver minds those that nobody looks at
    return found
