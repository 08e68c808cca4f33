"""The functions that workers run. Standard library only: every worker imports this.

numpy is loaded by those that make arrays, when they are called.

Times that cross processes are `time.monotonic()`, which is one clock for the whole machine.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_SECONDS = 0.005
CANCELLED_SECONDS = 3.0  # that tasks to be cancelled would take
FLOATS_PER_MEGABYTE = 125_000
FLOATS_PER_BLOCK = 25_000  # 200 kB


def add_one(i: int) -> int:
    return i + 1


class Adder:
    """An actor."""

    def add_one(self, i: int) -> int:
        return i + 1


def hundred_ints(record: dict[str, object]) -> list[int]:
    start = len(record)
    return list(range(start, start + 100))


def record_of_1kb() -> dict[str, object]:
    """Pickles to 1 kB: some numbers, some short strings, one longer text."""
    return {
        "id": 123456,
        "values": [n * 0.5 for n in range(50)],
        "names": [f"name-{n}" for n in range(20)],
        "text": "x" * 240,
    }


def burn(iterations: int) -> int:
    """Use the CPU for a fixed amount of work."""
    total = 0
    for n in range(iterations):
        total += n
    return total


def nap(seconds: float) -> None:
    time.sleep(seconds)


def hold(path: str) -> None:
    """Occupy a worker until there is a file of that name."""
    while not os.path.exists(path):
        time.sleep(POLL_SECONDS)


def mark_and_sleep(path: str) -> None:
    """Say that it runs, by a file, then sleep until somebody stops it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    time.sleep(CANCELLED_SECONDS)


def mark_and_loop(path: str) -> None:
    """The same, at work in Python."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    deadline = time.monotonic() + CANCELLED_SECONDS
    while time.monotonic() < deadline:
        pass


def exit_at_once() -> None:
    """End the worker."""
    os._exit(1)


def die(path: str) -> None:
    """Leave the time of death in a file, and die."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, repr(time.monotonic()).encode())
    os._exit(1)


def die_once(path: str) -> float:
    """Die as `die` does; on the next attempt return when that was."""
    if not os.path.exists(path):
        die(path)
    return time_of_death(path)


def time_of_death(path: str) -> float:
    with open(path) as file:
        return float(file.read())


def ones(megabytes: int) -> Any:
    """A new array of as many millions of bytes."""
    import numpy as np

    return np.ones(megabytes * FLOATS_PER_MEGABYTE)


def total(array: Any) -> float:
    return float(array.sum())


def sum_of_ends(array: Any) -> float:
    """Look at the first and the last float, and so at the first and the last page."""
    return float(array[0] + array[-1])


def numbered_block(number: int) -> Any:
    """A new array of 200 kB that can be told from others."""
    import numpy as np

    return np.full(FLOATS_PER_BLOCK, float(number))


def next_block(block: Any) -> Any:
    return block + 1.0


def blob(size: int) -> Any:
    """An array of so many bytes."""
    import numpy as np

    return np.ones(size, dtype=np.uint8)


def size_of(array: Any) -> int:
    return int(array.nbytes)


def frames(rows: int, groups: int) -> list[Any]:
    """The groups of a table that has three columns of floats."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(1)
    table = pd.DataFrame(generator.normal(size=(rows, 3)), columns=["a", "b", "c"])
    table["group"] = np.arange(rows) % groups
    return [group for _, group in table.groupby("group")]


def describe(frame: Any) -> Any:
    """What pandas says about a table, and a rolling mean of it."""
    described = frame.describe()
    described.loc["rolling"] = frame.rolling(50).mean().mean()
    return described


def regression(rows: int, features: int) -> tuple[Any, Any]:
    """Data, and a target that depends on it."""
    import numpy as np

    generator = np.random.default_rng(1)
    data = generator.normal(size=(rows, features))
    return data, data @ generator.normal(size=features) + generator.normal(size=rows)


def fit_and_score(data: Any, target: Any, fold: int, folds: int, penalty: float) -> float:
    """Fit a ridge regression without one part of the data, and tell its error on that part."""
    import numpy as np

    out = np.arange(len(target)) % folds == fold
    kept, known = data[~out], target[~out]
    weights = np.linalg.solve(kept.T @ kept + penalty * np.eye(data.shape[1]), kept.T @ known)
    return float(((data[out] @ weights - target[out]) ** 2).mean())


def count(items: int) -> Iterator[int]:
    for number in range(items):  # noqa: UP028 - Ray sends to what it iterates, which a range lacks
        yield number
