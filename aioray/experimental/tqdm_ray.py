"""Progress bars for tasks and for the driver: `tqdm_ray.tqdm`, a small part of tqdm's interface.

Room: api, also used in workers, where a bar sends its state to the driver and draws nothing. The
driver draws all bars together, see `aioray.shared.terminal`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aioray.client.current import in_worker_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["safe_print", "tqdm"]

T = TypeVar("T")

MAX_DESC = 200  # characters; with MAX_UNIT, so that a state is less than a pipe takes at once
MAX_UNIT = 20
_keys = itertools.count()


class tqdm(Generic[T]):  # noqa: N801 - the name that it has everywhere
    """A progress bar, in the driver or in a task: `for item in tqdm(items): ...`.

    iterable: what to iterate over; leave it out to call `update` yourself. desc: text before the
    bar. total: how many there will be, by default the iterable's length; None: not known. unit:
    what they are called, "it". position: place among the bars of this process, from the top; by
    default they stand in the order of their making. flush_interval_s: seconds between two times
    that changes are shown, 1.0.

    Shown on the driver's stderr: bars below all other lines on a terminal, else a plain line, at
    most every 5 seconds and at the end. A task's bar has its `(name pid=…)` before it, and is not
    shown in a session with log_to_driver=False. `n` and `total` may be assigned; `refresh` shows
    them.
    Source: Ray, ray.experimental.tqdm_ray. Beyond it, a bar closes itself at the end of iterating,
    of a `with` block and of its own life.
    """

    DEFAULT_FLUSH_INTERVAL_SECONDS = 1.0

    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        self._closed = True  # until everything is in place
        self._iterable = iterable
        self._desc = desc or ""
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        number = next(_keys)
        self.total = total
        self.n: float = 0
        self._unit = unit or "it"
        self._key = str(number)
        self._position = number if position is None else position
        self._interval = (
            self.DEFAULT_FLUSH_INTERVAL_SECONDS if flush_interval_s is None else flush_interval_s
        )
        self._began = time.monotonic()
        self._shown = 0.0
        self._closed = False
        self._show(force=True)

    def set_description(self, desc: str) -> None:
        """Change the text before the bar."""
        self._desc = desc
        self._show()

    def update(self, n: float = 1) -> None:
        """Count `n` more."""
        self.n += n
        self._show()

    def refresh(self) -> None:
        """Show the bar as it is now, at once."""
        self._show(force=True)

    def close(self) -> None:
        """Show the bar for the last time. Idempotent."""
        if not self._closed:
            self._closed = True
            self._show(force=True)

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and (self._closed or now - self._shown < self._interval):
            return
        self._shown = now
        state: dict[str, Any] = {
            "key": self._key,
            "n": _plain(self.n),
            "total": None if self.total is None else _plain(self.total),
            "desc": str(self._desc)[:MAX_DESC],
            "unit": str(self._unit)[:MAX_UNIT],
            "elapsed": now - self._began,
            "position": self._position,
            "closed": self._closed,
        }
        show(state)

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise ValueError("No iterable provided: give tqdm() one, or call update().")
        try:
            for item in self._iterable:
                yield item
                self.update(1)
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not getattr(self, "_closed", True) and not _is_finalizing():
            self.close()


def show(state: dict[str, Any]) -> None:
    """Have a bar drawn, in this process or by the driver. state: fields of its `Bar`."""
    if in_worker_process():
        from aioray.worker.output import send_progress

        send_progress(json.dumps(state).encode())
    else:
        from aioray.shared.terminal import Bar, display

        display.update(Bar(**state))


def _plain(number: Any) -> float:
    """Return a number as Python's own int or float; numpy's are not JSON."""
    return number if type(number) in (int, float) else float(number)


def safe_print(*args: Any, **kwargs: Any) -> None:
    """Do as `print`, above the bars if any are on the screen.

    Source: Ray, ray.experimental.tqdm_ray.safe_print.
    """
    if in_worker_process():
        print(*args, **kwargs)  # noqa: T201 - what it is for
        return
    from aioray.shared.terminal import display

    with display.hidden():
        print(*args, **{"flush": True, **kwargs})  # noqa: T201
