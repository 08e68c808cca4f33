"""Where a task, an actor or a value was made, for those who ask for it by Ray's two variables.

Room: client. `RAY_record_task_actor_creation_sites` gives the rows of tasks
and actors the stack of the call, `RAY_record_ref_creation_sites` those of objects its last frames.
Each process looks at its own environment once, when it starts to make such things; what has asked
for nothing pays nothing. Shown is the user's code: no frame of this package, and nothing from
further out than where the program or the worker was started.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

__all__ = ["Site", "recorder"]

Site = tuple[str, str]
"""The stack, as a traceback shows it, and the last frames in one line; "": not asked for."""

STACKS = "RAY_record_task_actor_creation_sites"
PLACES = "RAY_record_ref_creation_sites"
DEEPEST = 50  # frames of a stack, the inner ones
PLACE_FRAMES = 3  # of a place, as in Ray

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LAUNCHERS = (_PACKAGE + "cli" + os.sep, _PACKAGE + "worker" + os.sep)
_RUNPY = "<frozen runpy>"


def recorder(environ: Mapping[str, str]) -> Callable[[str], Site] | None:
    """Return a function from what a call makes to its site; None if nobody asks for sites."""
    stacks, places = (
        environ.get(variable, "").strip().lower() in ("1", "true") for variable in (STACKS, PLACES)
    )
    if not (stacks or places):
        return None

    def site(kind: str) -> Site:
        frames = _frames()
        return _stack(frames) if stacks else "", _place(kind, frames) if places else ""

    return site


def _frames() -> list[FrameType]:
    """Return the frames of the user's code, the innermost first."""
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None and len(found) < DEEPEST:
        filename = frame.f_code.co_filename
        if not filename.startswith(_PACKAGE):
            if filename == _RUNPY:
                break
            found.append(frame)
        elif found and filename.startswith(_LAUNCHERS):
            break
        frame = frame.f_back
    return found


def _stack(frames: list[FrameType]) -> str:
    from traceback import StackSummary

    lines = ((frame, frame.f_lineno) for frame in reversed(frames))
    return "".join(StackSummary.extract(lines).format())


def _place(kind: str, frames: list[FrameType]) -> str:
    shown = [
        f"{frame.f_code.co_filename}:{frame.f_code.co_name}:{frame.f_lineno}"
        for frame in frames[:PLACE_FRAMES]
    ]
    return " | ".join([f"({kind}) ", *shown])
