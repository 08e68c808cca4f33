"""What is called: functions, and what the scheduler has to know of an actor's methods.

Room: core.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .records import NamedTuple, replace

__all__ = ["CallTraits", "Function", "OfKind"]

T = TypeVar("T")


class Function:
    """One remote function as the scheduler sees it: how long it usually runs."""

    __slots__ = ("__weakref__", "code", "key", "mean_seconds", "name")

    def __init__(self, key: int, name: str, code: Any = None) -> None:
        self.key = key
        self.name = name
        self.code = code  # the shell's: what a worker needs to load it
        self.mean_seconds: float | None = None  # moving average; None: never ran yet


class CallTraits(NamedTuple):
    """What calls of one method have in common."""

    interruptible: bool  # a cancel is an interrupt
    retries_errors: bool  # an error of the method may be followed by another attempt


class OfKind(property, Generic[T]):
    """A field of the kind of a task; to set it gives the task a kind of its own."""

    def __init__(self, name: str) -> None:
        def give_own(task: Any, value: Any) -> None:
            task.kind = replace(task.kind, **{name: value})

        super().__init__(attrgetter(f"kind.{name}"), give_own)

    if TYPE_CHECKING:

        def __get__(self, task: Any, owner: Any = None) -> T: ...  # type: ignore[override]

        def __set__(self, task: Any, value: T) -> None: ...
