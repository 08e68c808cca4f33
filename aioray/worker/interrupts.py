"""SIGINT in a worker: KeyboardInterrupt for one attempt, while its function runs, and nothing else.

Room: worker. The driver writes the number of the attempt into the page and then sends the signal.
The handler raises only if that attempt is inside user code at that moment; otherwise the signal is
late, or early, and does nothing: early ones are found at the boundary by `requested`.

`current` is the one switch: assigned on the way into user code and on the way out, also when user
code calls aioray and comes back from there (`hold`, `release`). An exception
that the handler raises may still vanish, inside `__del__` or a callback, where Python only reports
it; `_unraisable` then takes the note of delivery back, and the driver sends the signal again.
aioray's own finalizers are not interrupted (`protected`): what they have to say must be said.
Source: CPython, signal module, "Note on Signal Handlers and Exceptions".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ..shared.wire import PAGE, PAGE_DELIVERED, PAGE_INTERRUPT

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["Interrupts", "protected"]

_SIGINT = int(signal.SIGINT)
# signal.getsignal without the conversion to an enum, which takes ten times as long and is asked
# after every call.
_getsignal = _signal.getsignal


_PROTECTED: set[CodeType] = set()
_DEPTH = 4  # frames that a signal handler looks at for protected ones

F = TypeVar("F", bound="Callable[..., Any]")


def protected(function: F) -> F:
    """Mark a finalizer that must run to its end: the driver will send the signal again."""
    _PROTECTED.add(function.__code__)
    return function


class Interrupts:
    """The child's side of cancelling."""

    __slots__ = ("_handler", "_main", "current", "instead", "page")

    def __init__(self, page: mmap.mmap) -> None:
        self.page = page
        self._handler = self.handle  # one bound method, made once
        self._main = threading.get_ident()  # where signal handlers run
        self.instead: Callable[[], object] | None = None  # of raising KeyboardInterrupt
        self.current = 0  # seq of the attempt inside user code; 0: none

    def install(self) -> None:
        """Take SIGINT, also if the driver was started with it ignored."""
        signal.signal(signal.SIGINT, self._handler)
        sys.unraisablehook = self._unraisable

    def handle(self, _signum: int, frame: FrameType | None) -> None:
        """Handle the signal: interrupt the attempt inside user code, if that is wanted."""
        current = self.current
        if current:
            for _ in range(_DEPTH):
                if frame is None:
                    break
                if frame.f_code in _PROTECTED:
                    return
                frame = frame.f_back
            self._deliver(current)

    def _deliver(self, seq: int) -> None:
        """Interrupt this attempt, if that is wanted, once: `release` may come before the signal."""
        delivered: int = PAGE.unpack_from(self.page, PAGE_DELIVERED)[0]
        if delivered == seq or not self.requested(seq):
            return
        PAGE.pack_into(self.page, PAGE_DELIVERED, seq)
        if self.instead is None:
            raise KeyboardInterrupt
        self.instead()

    def hold(self) -> int:
        """Let nothing be interrupted in this thread; return what to `release` afterwards."""
        if threading.get_ident() != self._main:
            return 0
        held = self.current
        self.current = 0
        return held

    def release(self, held: int) -> None:
        """Let this thread be interrupted again, at once if that was wanted meanwhile."""
        if held:
            self.current = held
            self._deliver(held)

    def requested(self, seq: int) -> bool:
        """Tell whether the driver wants this attempt interrupted."""
        wanted: int = PAGE.unpack_from(self.page, PAGE_INTERRUPT)[0]
        return wanted == seq

    def restore(self) -> None:
        """Take SIGINT again if user code has taken it; do nothing outside of the main thread."""
        if _getsignal(_SIGINT) != self._handler and threading.get_ident() == self._main:
            signal.signal(signal.SIGINT, self._handler)

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            PAGE.pack_into(self.page, PAGE_DELIVERED, 0)
        else:
            sys.__unraisablehook__(unraisable)
