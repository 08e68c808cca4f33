"""What is said of memory: of who was killed for it, how much it was, and what to do about it.

Room: engine. Builds texts, decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...shared.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.outcomes import Excess, Shortage

__all__ = ["advice_on", "excess_text", "killed_text", "nobody_text", "size_text"]


def size_text(count: int) -> str:
    """Write a number of bytes for people: 1.5 GB is 1.5 * 1024**3."""
    for unit, power in (("GB", 3), ("MB", 2)):
        if abs(count) >= 1024**power:
            return f"{count / 1024**power:.1f} {unit}"
    return f"{count / 1024:.0f} kB"


def excess_text(excess: Excess) -> str:
    """Say in a few words why a worker was killed for its memory."""
    used = size_text(excess.used)
    if excess.shortage is None:
        assert excess.limit is not None
        return f"it used {used} of memory, more than its memory_limit of {size_text(excess.limit)}"
    return f"{_short(excess.shortage)}, and it had {used}, the most beyond what was asked for"


def killed_text(excess: Excess, pid: int | None, names: Sequence[str], threshold: float) -> str:
    """Say who is killed for the memory that it has, how much that is, and why."""
    what = ", ".join(map(printable, names[:3])) + (", …" if len(names) > 3 else "")
    doing = f"which runs {what}" if what else "which runs nothing"
    text = f"The worker with pid {pid}, {doing}, is killed: {excess_text(excess)}."
    return text if excess.shortage is None else f"{text} {_threshold_text(threshold)}"


def nobody_text(shortage: Shortage, threshold: float) -> str:
    """Say that memory runs short, and no worker has any to give back."""
    text = _short(shortage)
    return (
        f"{text[0].upper()}{text[1:]}, and no worker has much: something else uses it, the "
        f"program itself perhaps. Nothing is killed. {_threshold_text(threshold)}"
    )


def advice_on(excess: Excess) -> str:
    """Say what to do about an attempt that was killed for its memory."""
    if excess.shortage is None:
        return "Raise memory_limit, or let the task take less at once."
    return (
        "Let fewer tasks run at once (num_cpus=, or memory= to reserve some), let each take less, "
        "or give it a memory_limit. RAY_memory_usage_threshold sets how much may be in use, and "
        "RAY_memory_monitor_refresh_ms=0 turns this off."
    )


def _short(shortage: Shortage) -> str:
    used, total = size_text(shortage.used), size_text(shortage.total)
    return f"memory ran short ({used} of {total} in use, more than {size_text(shortage.allowed)})"


def _threshold_text(threshold: float) -> str:
    return (
        f"RAY_memory_usage_threshold ({threshold:g}) sets how much may be in use; "
        f"RAY_memory_monitor_refresh_ms=0 turns this off."
    )
