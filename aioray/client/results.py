"""What callers get, and what they wait for, as far as it is the same in the driver and in workers.

Room: client. How one waits differs: the driver has the outcomes, a worker asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import GetTimeoutError
from ..shared import ids
from ..shared.wire import CHUNK, STREAMING
from .entry import StoredFailure
from .generators import ObjectRefGenerator

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from ..core.outcomes import CancelOutcome
    from .entry import ObjectEntry
    from .refs import ObjectRef

__all__ = [
    "CancelRequest",
    "are_ready",
    "entries_to_get",
    "get_is_over",
    "get_timed_out",
    "has_failed",
    "returned",
]


class CancelRequest(Protocol):
    """A request to cancel; await it for what became of it, a `CancelOutcome`."""

    def __await__(self) -> Generator[Any, None, CancelOutcome]: ...

    def result(self, timeout: float | None = None) -> CancelOutcome:
        """Block for the outcome, up to `timeout` seconds; TimeoutError after that.

        Raises RuntimeError on the engine's own loop: there `await` it.
        """
        ...

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # elsewhere it is what Ray's cancel returns


def returned(refs: list[ObjectRef[Any]], num_returns: int) -> Any:
    """Give what `.remote()` returns: a ref, a list of refs, None, or a generator of refs."""
    if num_returns in (STREAMING, CHUNK):
        return ObjectRefGenerator(refs[0])
    return refs[0] if len(refs) == 1 else refs or None


def entries_to_get(refs: Sequence[ObjectRef[Any]], *, in_memory: bool) -> list[ObjectEntry]:
    """List each entry once that `get` has to wait for.

    in_memory: also those whose value has to come from the disk, or from the driver, first.
    """
    if in_memory:
        return list({ref.entry: None for ref in refs if not ref.entry.in_memory})
    return list({ref.entry: None for ref in refs if ref.entry.outcome is None})


def has_failed(entries: Iterable[ObjectEntry]) -> bool:
    """Tell whether an entry has an error, which `get` raises without waiting for the others."""
    return any(isinstance(entry.outcome, StoredFailure) for entry in entries)


def are_ready(
    entries: Sequence[ObjectEntry], has_signal: Callable[[ObjectEntry], bool]
) -> list[bool]:
    """Tell of each entry whether it counts as ready for `wait`: it has an outcome, or a signal.

    has_signal: tells whether the signal of a generator's item has come, which has no outcome yet.
    """
    return [
        entry.outcome is not None or (entry.index >= ids.SIGNAL_INDEX and has_signal(entry))
        for entry in entries
    ]


def get_is_over(entries: Sequence[ObjectEntry], *, in_memory: bool) -> bool:
    """Tell whether a `get` that waits for these can go on: all are there, or one has failed."""
    return has_failed(entries) or all(
        entry.in_memory if in_memory else entry.outcome is not None for entry in entries
    )


def get_timed_out() -> GetTimeoutError:
    """Make the error of a `get` whose time is over."""
    return GetTimeoutError("Get timed out: some object(s) not ready.")
