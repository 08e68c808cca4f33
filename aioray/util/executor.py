"""`concurrent.futures.Executor` on tasks: for code that takes an executor, such as asyncio's.

Room: api. Each call is an ordinary task of the session, with the task's retries and errors; the
executor only remembers its futures, to wait for them or to cancel them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import operator
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aioray.api.objects import cancel
from aioray.api.session import init
from aioray.client.futures import RefFuture
from aioray.client.protocol import registry
from aioray.client.refs import ObjectRef, resolve_into
from aioray.client.signatures import name_of
from aioray.remote_function import remote
from aioray.shared.serialization import Private

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioray.api.call_types import Calls

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")

_INSTEAD = {
    "mp_context": "workers are the session's",
    "thread_name_prefix": "calls run in processes",
    "initializer": "use the option runtime_env, with a worker_process_setup_hook",
    "initargs": "use the option runtime_env, with a worker_process_setup_hook",
    "max_tasks_per_child": "use the option max_calls",
}
MAX_NAMES = 256  # of functions, whose options are kept ready


class _TaskFuture(RefFuture[T]):
    """The future of a task; cancelling it cancels the task."""

    def __init__(self, ref: ObjectRef[T]) -> None:
        super().__init__(ref.entry)
        self._ref = [ref]

    def cancel(self) -> bool:
        """Cancel the future, if it is not done, and interrupt the task, or keep it from running."""
        if not super().cancel():
            return False
        with contextlib.suppress(IndexError):  # cancelled before
            ref = self._ref.pop()
            self.set_running_or_notify_cancel()  # wakes those who wait
            cancel(ref)
        return True


class Executor(concurrent.futures.Executor):
    """Runs calls as tasks: `executor.submit(f, x)`, `loop.run_in_executor(executor, f, x)`.

    max_workers: CPUs of the session that is started if there is none. In one that is there, calls
    take turns with its other tasks, and how many run at once is said by its CPUs alone.
    task_options: what `@aioray.remote` takes, such as max_retries=0 or num_cpus=2; num_returns is
    not among them, because a future has one value. `submit` takes any callable that can be
    serialized. An argument that is an ObjectRef reaches it as its value.

    `future.cancel()` works until there is a result: a task that runs is interrupted, and then the
    future does not tell how it ended. On the event loop that the engine runs on, what would wait
    for a future raises RuntimeError. Errors are those of `aioray.get`: instances of the user's
    own exception class too. Callbacks of a future run in the thread of the engine, and must be
    short. Beyond Ray.
    """

    def __init__(self, max_workers: int | None = None, **task_options: Any) -> None:
        for name in task_options.keys() & _INSTEAD:
            raise TypeError(f"Executor() takes no {name}: {_INSTEAD[name]}.")
        if max_workers is not None:
            if operator.index(max_workers) < 1:
                raise ValueError(f"max_workers must be greater than 0, got {max_workers}")
            if registry.current() is None:
                init(num_cpus=max_workers)
        if task_options.get("num_returns", 1) != 1:
            raise ValueError(
                "Executor() takes no num_returns: a future has one value. Return a tuple instead."
            )
        self._call = remote(**task_options)(_call) if task_options else remote(_call)
        self._named = functools.lru_cache(MAX_NAMES)(self._name_call)
        self._lock = threading.Lock()
        self._pending: set[RefFuture[Any]] = set()
        self._is_shut_down = False

    def _name_call(self, name: str) -> Calls[..., ObjectRef[Any]]:
        """Return the remote function under the name of what it calls, or that of the options."""
        return self._call if self._call.options_given.name else self._call.options(name=name)

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Start `fn(*args, **kwargs)` as a task, and return its future.

        Raises RuntimeError after `shutdown`; TypeError if fn or an argument cannot be serialized.
        """
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("This Executor is shut down. Make a new one.")
        ref: ObjectRef[T] = self._named(name_of(fn)).remote(
            _private(fn),
            *[_private(each) for each in args],
            **{name: _private(each) for name, each in kwargs.items()},
        )
        future: _TaskFuture[T] = _TaskFuture(ref)
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._forget)
        resolve_into(future, ref.entry)
        return future

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Idempotent; the session goes on.

        wait: until all futures are done. cancel_futures: cancel those that are not, also the
        running ones. Raises RuntimeError if it would have to wait on the event loop that the
        engine itself runs on.
        Source: Python, concurrent.futures.Executor.shutdown, which leaves running calls alone.
        """
        with self._lock:
            self._is_shut_down = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        pending = [future for future in pending if not future.done()]
        if wait and pending:
            pending[0].refuse_to_block("shutdown(wait=True)")
            concurrent.futures.wait(pending)


def _private(argument: Any) -> Any:
    """Wrap an argument, so that its arrays can be written to as with other executors.

    Arrays behind a ref cannot.
    """
    return argument if isinstance(argument, (ObjectRef, int, str)) else Private(argument)


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Private:
    """Call the function in the worker. It is an argument, so nothing of it stays there."""
    return Private(function(*args, **kwargs))
