"""Losing values on purpose.

Room: api. Acts through the client of the ref that it is given.
"""

from __future__ import annotations

from typing import Any

from ..client.refs import ObjectRef

__all__ = ["lose"]


def lose(ref: ObjectRef[Any]) -> None:
    """Throw the value of a ref away, as if the memory or the file where it lies were gone.

    Whoever asks for it then has its task run again, by the rules of recovery: as one more attempt
    within max_retries, its arguments first. The value of `put` cannot be had again, and
    `aioray.get(ref)` raises ObjectReconstructionFailedError.
    Raises TypeError for what is no ref; ValueError if there is no value yet, the task has failed,
    or the value is not larger than 100 KB: such values live in the driver and cannot be lost alone.
    """
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"lose() takes an ObjectRef, got {ref!r} of type {type(ref).__name__}.")
    why = ref.entry.owner().lose(ref.entry)
    if why is not None:
        raise ValueError(f"{ref!r} cannot be lost: {why}.")
