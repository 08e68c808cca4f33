"""What workers run for an `Executor`: a call, or a chunk of calls, of whatever they are given.

Room: api, but loaded by workers, and so as light as they are.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

from aioray.shared.serialization import private

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Exited", "InitializerError", "KeptCalls", "PreparedCalls", "call", "call_each"]

_prepared: set[bytes] = set()  # of which executors the initializer has run in this process


class Exited:
    """Stands for the value of a call that has raised SystemExit, which ends no worker here."""

    def __init__(self, code: Any) -> None:
        self.code = code


class InitializerError(Exception):
    """The initializer of an executor has raised in a worker. Never leaves the executor."""


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call the function in the worker. It is an argument, so nothing of it stays there."""
    try:
        return private(function(*args, **kwargs))
    except SystemExit as error:
        return private(Exited(error.code))


class KeptCalls:
    """Calls of one function, which goes to each worker once."""

    def __init__(self, run: Callable[..., Any], function: Callable[..., Any]) -> None:
        """Take `call`, or the `PreparedCalls` of an executor, and what it calls."""
        self._run = run
        self._function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function in the worker."""
        return self._run(self._function, *args, **kwargs)


class PreparedCalls:
    """`call` in workers in which the initializer has run. Each worker has copies of its own."""

    def __init__(self, initializer: Callable[..., object], initargs: tuple[Any, ...]) -> None:
        self._initializer = initializer
        self._initargs = initargs
        self._own = os.urandom(8)  # no other executor's calls are taken for these

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call the function, after the initializer if this worker has not run it yet."""
        if self._own not in _prepared:
            try:
                self._initializer(*self._initargs)
            except BaseException as error:
                raise InitializerError(f"{type(error).__name__}: {error}") from error
            _prepared.add(self._own)
        return call(function, *args, **kwargs)


def call_each(
    function: Callable[..., Any], rows: Sequence[tuple[Any, ...]], *, keep: bool
) -> tuple[list[Any], BaseException | None]:
    """Call the function for each row; return the values, and the error that has ended that.

    keep: an error does not take along the values before it. It is raised all the same if there are
    none, or if it cannot be pickled.
    """
    values: list[Any] = []
    for row in rows:
        try:
            values.append(function(*row))
        except (Exception, SystemExit) as error:
            if not (keep and values and _survives(error)):
                raise
            return values, error
    return values, None


def _survives(error: BaseException) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # noqa: BLE001 - whatever the class may raise
        return False
