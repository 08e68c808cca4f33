"""What a task may take, asked for by whoever calls it: one record for all calls of equal options.

Room: core. Data only. Such options are rare, so a `Task` has one slot for all of them, which is
None for a task without any. What becomes of one that exceeds them is decided elsewhere: of time, in
`overruns`, of deaths, in `breakers`.
"""

from __future__ import annotations

from typing import Any, Protocol

from .records import record

__all__ = ["BreakerPolicy", "TaskLimits"]


class BreakerPolicy(Protocol):
    """After how many deaths of workers a function is not called any more; `CrashBreaker` is one."""

    @property
    def crashes(self) -> int:
        """How many deaths are too many, at least 1."""

    @property
    def period(self) -> float:
        """Within how many seconds."""

    @property
    def rest(self) -> float:
        """How many seconds it is not called then."""

    @property
    def name(self) -> str:
        """What tells it from others."""


@record(frozen=True, slots=True)
class TaskLimits:
    """The limits of a task. Each field has the name of its option; None is no limit."""

    timeout: float | None = None  # seconds of one attempt, from its entry on
    deadline: float | None = None  # seconds from the submission on, whatever happens meanwhile
    stall_timeout: float | None = None  # seconds from a heartbeat, or the entry, to the next
    breaker: BreakerPolicy | None = None  # how many workers its function may kill
    memory_limit: int | None = None  # bytes of an attempt, and of all processes below its worker
    limiter: Any = None  # a `StartLimiter`; on its way to the engine, what the user made

    @property
    def are_of_time(self) -> bool:
        """Whether what runs may be interrupted because it takes too long."""
        return self.deadline is not None or self.shortest is not None

    @property
    def shortest(self) -> float | None:
        """The seconds before which no attempt can exceed a limit of its own; None: it has none."""
        timeout, stall_timeout = self.timeout, self.stall_timeout
        if timeout is None or stall_timeout is None:
            return stall_timeout if timeout is None else timeout
        return min(timeout, stall_timeout)

    @property
    def alone(self) -> bool:
        """Whether nothing else may be in a worker meanwhile: it is the worker that is measured."""
        return self.memory_limit is not None
