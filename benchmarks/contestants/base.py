"""What contestants can be asked, and what is the same for all of them.

Every operation takes plain data and returns it, or a coroutine of it; times are in seconds. A
contestant has those operations that its library can do: the questions know who takes part.
"""

from __future__ import annotations

import itertools
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

WARM_UP_TASKS = 300
MARK_SECONDS = 20.0  # a task that has not begun by then never will


class Contestant(ABC):
    """Holds the number of workers and a directory for files by which tasks tell of themselves."""

    def __init__(self, workers: int, directory: str) -> None:
        self.workers = workers
        self.directory = directory
        self._numbers = itertools.count()
        self.kept: list[object] = []  # what the driver holds for tasks that stay queued

    def run(self, dialogue: Coroutine[Any, Any, None]) -> None:
        """Run the dialogue with the asking side, here without a loop: it never has to wait."""
        try:
            dialogue.send(None)
        except StopIteration:
            return
        raise RuntimeError("an operation waits for a loop, and there is none")

    @abstractmethod
    def open(self) -> Any:
        """Start the workers."""

    @abstractmethod
    def close(self) -> Any:
        """End the workers."""

    @abstractmethod
    def version(self) -> str:
        """Of the library."""

    @abstractmethod
    def batch(self, count: int) -> Any:
        """Seconds from the first call to the last result of `add_one`, `count` at once."""

    def warm_up(self) -> Any:
        """Have all code loaded."""
        return self.batch(WARM_UP_TASKS)

    def idle(self, seconds: float) -> Any:
        """Do nothing, as a driver does that waits."""
        time.sleep(seconds)

    def fresh_path(self) -> str:
        """The name of a file that does not exist."""
        return os.path.join(self.directory, str(next(self._numbers)))


def wait_for_file(path: str) -> None:
    """Block until a task has made its mark, and a little longer, so that it is at its work."""
    deadline = time.monotonic() + MARK_SECONDS
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError("the task did not begin")
        time.sleep(0.001)
    time.sleep(0.005)
