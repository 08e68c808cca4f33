"""Makes the classes of events, commands and facts.

Room: core. `message` makes of a class what `record(frozen=True, slots=True)` would, but that only
type checkers keep it frozen: an instance takes a third of the time.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

from .records import make_record

__all__ = ["message"]

C = TypeVar("C", bound=type[Any])


@dataclass_transform(frozen_default=True)
def message(cls: C) -> C:
    """Make the class of a message, whose fields are what the body of `cls` annotates."""
    made: C = make_record(cls, frozen=True, slots=True)
    return made
