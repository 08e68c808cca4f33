"""`concurrent.futures.Executor` on tasks: for code that takes an executor, such as asyncio's.

Room: api. Each call is an ordinary task of the session, with the task's retries; what it raises is
what `ProcessPoolExecutor` would raise, see `_call_futures`. The executor remembers its futures, to
wait for them or to cancel them, and has a session started where there is none, see
`_executor_session`.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import logging
import operator
import sys
import time
import weakref
from collections import deque
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aioray.client.protocol import registry
from aioray.client.refs import ObjectRef, resolve_into
from aioray.client.signatures import name_of
from aioray.remote_function import RemoteFunction, remote
from aioray.shared.limiter import Limiter
from aioray.shared.serialization import dump_function, private

from ..core.records import replace
from ._call_futures import CallFuture, broken
from ._calls import KeptCalls, PreparedCalls, call, call_each
from ._executor_session import Outstanding, refuse_at_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aioray.api.call_types import Calls

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")

MAX_NAMES = 256  # of functions, whose options are kept ready
MAX_KEPT = 64 * 1024  # bytes of a function that stays in workers; a larger one goes with each call
TERMINATE_SECONDS = 1.0  # from the interrupt of a call to the kill, by `terminate_workers`
NOT_USABLE = "A process initializer failed, the executor is not usable any more."

_logger = logging.getLogger("concurrent.futures")  # where ProcessPoolExecutor's workers say it


class Executor(concurrent.futures.Executor):
    """Runs calls as tasks: `executor.submit(f, x)`, `loop.run_in_executor(executor, f, x)`.

    A drop-in for `concurrent.futures.ProcessPoolExecutor` that a crash does not break: the call
    whose process died is retried as tasks are (`max_retries`), or fails alone, with
    BrokenProcessPool; all others go on. `submit` takes any callable that can be serialized. An
    argument that is an ObjectRef reaches it as its value.

    max_workers: calls that run at once. If there is no session, one is started with so many CPUs,
    and ends with the last executor that uses it. In one that is there, calls take turns with its
    other tasks, and no more run at once than its CPUs allow. initializer(*initargs) is called in
    each worker before its first call; if it raises, that breaks the executor: all its calls fail
    with BrokenProcessPool. max_tasks_per_child: calls after which a worker is replaced. mp_context:
    for none but "spawn" and "forkserver", whose rules are those of workers; "fork" is refused.
    task_options: what `@aioray.remote` takes, such as max_retries=0 or num_cpus=2; num_returns is
    not among them, because a future has one value.

    `future.cancel()` works until there is a result: a task that runs is interrupted, and then the
    future does not tell how it ended. On the event loop that the engine runs on, what would wait
    for a future raises RuntimeError. Callbacks of a future run in the thread of the engine, and
    must be short. Beyond Ray. Source: Python, concurrent.futures.ProcessPoolExecutor, of 3.14.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        **task_options: Any,
    ) -> None:
        if max_workers is not None and operator.index(max_workers) < 1:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers}")
        if mp_context is not None:
            _check_context(mp_context)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child < 1:
                raise ValueError("max_tasks_per_child must be >= 1")
            if "max_calls" in task_options:
                raise TypeError("Give either max_tasks_per_child or max_calls: they are the same.")
            task_options["max_calls"] = max_tasks_per_child
        _check_options(task_options)
        code: Any = call if initializer is None else PreparedCalls(initializer, initargs)
        self._max_workers = max_workers
        self._call: RemoteFunction[..., Any, ObjectRef[Any]]
        self._call = remote(**task_options)(code) if task_options else remote(code)
        # An error that is retried has to end the task, and so the chunk.
        self._keeps_values = not task_options.get("retry_exceptions")
        self._named = functools.lru_cache(MAX_NAMES)(self._name_call)
        self._kept = functools.lru_cache(MAX_NAMES)(self._keep)
        self._is_limited = "limiter" in task_options  # or it was looked at whether it has to be
        self._outstanding = Outstanding()
        weakref.finalize(self, self._outstanding.close).atexit = False

    def _limit(self, max_workers: int) -> None:
        """Let no more calls run at once than that, if the session's CPUs allow more."""
        self._is_limited = True
        client, options = registry.current(), self._call.options_given
        if client is None or max_workers * options.num_cpus >= client.cluster_resources()["CPU"]:
            return
        limiter = Limiter(self._outstanding.take_name(max_workers), concurrency=max_workers)
        self._call = RemoteFunction(self._call.function, replace(options, limiter=limiter))
        self._named.cache_clear()
        self._kept.cache_clear()

    @property
    def _broken(self) -> str | bool:
        """What has broken the executor, where ProcessPoolExecutor has it; False: nothing has."""
        return NOT_USABLE if self._outstanding.broken_by is not None else False

    def _name_call(self, name: str) -> Calls[..., ObjectRef[Any]]:
        """Return the remote function under the name of what it calls, or that of the options."""
        if self._call.options_given.name:
            return self._call
        named: Calls[..., ObjectRef[Any]] = self._call.options(name=name)
        return named

    def _keep(
        self, name: str, fn: Callable[..., Any]
    ) -> RemoteFunction[..., Any, ObjectRef[Any]] | None:
        """Return the remote function that calls one which its module has under its name.

        None for one that has to go with each call.
        """
        options = self._call.options_given
        module = sys.modules.get(fn.__module__)
        if options.max_calls or getattr(module, fn.__qualname__, None) is not fn:
            return None  # calls of all functions count; or it may hold what changes between calls
        try:
            if len(dump_function(fn)[0]) > MAX_KEPT:
                return None
        except Exception:  # noqa: BLE001 - the call will tell
            return None
        named = replace(options, name=options.name or name)
        return RemoteFunction(KeptCalls(self._call.function, fn), named)

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Start `fn(*args, **kwargs)` as a task, and return its future.

        What cannot be serialized is an error of the future. Raises RuntimeError after `shutdown`,
        and when the program is ending; BrokenProcessPool if the initializer has failed.
        """
        return self._submit(name_of(fn), fn, args, kwargs)

    def _submit(
        self, name: str, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> concurrent.futures.Future[T]:
        refuse_at_exit()
        outstanding = self._outstanding
        with outstanding.lock:
            if outstanding.broken_by is not None:
                raise broken(NOT_USABLE, outstanding.broken_by)
            if outstanding.is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
        outstanding.enter(self._max_workers)
        if self._max_workers is not None and not self._is_limited:
            self._limit(self._max_workers)
        kept = self._kept(name, fn) if type(fn) is FunctionType else None
        given = [_private(each) for each in args]
        named = {name: _private(each) for name, each in kwargs.items()}
        try:
            ref: ObjectRef[T]
            if kept is not None:
                ref = kept.remote(*given, **named)
            else:
                ref = self._named(name).remote(_private(fn), *given, **named)
        except TypeError as error:
            return _unserialized(error)
        future: CallFuture[T] = CallFuture(ref, self._break)
        outstanding.add(future)
        resolve_into(future, ref.entry)
        return future

    def _break(self, future: CallFuture[Any], error: BaseException) -> BaseException:
        """Fail all calls, now and later: the initializer has raised in the worker of this one.

        Return its error.
        """
        outstanding = self._outstanding
        with outstanding.lock:
            others: list[Any] = []
            if outstanding.broken_by is None:
                outstanding.broken_by = error
                others.extend(outstanding.futures)
                _logger.critical("Exception in initializer:\n%s", error)
        for other in others:
            if other is not future:
                other.end(broken(NOT_USABLE, error), TERMINATE_SECONDS)
        return broken(NOT_USABLE, error)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator of `fn` of the items, in their order, which are computed meanwhile.

        timeout: seconds from now until a value has to be there, else TimeoutError. chunksize: items
        to a task; a crash repeats all of one. buffersize: tasks whose values are not asked for yet;
        None: all items are read, and submitted, now. What raises is raised in its place, and ends
        the iteration; that, a timeout, and the closing of the iterator cancel what is left.
        Raises ValueError and TypeError for sizes that are none, and what `submit` raises.
        Source: Python, concurrent.futures.Executor.map, of 3.14.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else timeout + time.monotonic()
        rows = zip(*iterables, strict=False)
        name = name_of(fn)
        itself = weakref.ref(self)
        calls: Iterator[tuple[Any, tuple[Any, ...], dict[str, Any]]]
        if chunksize == 1:
            calls = ((fn, row, {}) for row in rows)
        else:
            chunks = iter(lambda: tuple(itertools.islice(rows, chunksize)), ())
            keep = {"keep": self._keeps_values}
            calls = ((call_each, (fn, chunk), keep) for chunk in chunks)
        pending = deque(self._submit(name, *each) for each in itertools.islice(calls, buffersize))

        def submit_next() -> None:
            executor = itself()
            if executor is not None:
                pending.extend(executor._submit(name, *each) for each in itertools.islice(calls, 1))

        following = None if buffersize is None else submit_next
        return _values_of(pending, following, end, chunked=chunksize > 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Idempotent; a session that was there before goes on.

        wait: until all futures are done. cancel_futures: cancel those whose calls have not begun;
        in workers, where that is not known, all. To end the others see `terminate_workers`.
        Raises RuntimeError if it would have to wait on the event loop that the engine itself runs
        on. Source: Python, concurrent.futures.Executor.shutdown.
        """
        outstanding = self._outstanding
        with outstanding.lock:
            pending = list(outstanding.futures)
        outstanding.close()
        if cancel_futures:
            for future in outstanding.waiting():
                future.cancel()
        pending = [future for future in pending if not future.done()]
        if wait:
            if pending:
                pending[0].refuse_to_block("shutdown(wait=True)")
                concurrent.futures.wait(pending)
            outstanding.leave_at_once()

    def terminate_workers(self) -> None:
        """End what runs: interrupt it, and kill after a second the workers of what does not heed.

        What has not begun is cancelled, the futures of what runs raise BrokenProcessPool. Then as
        `shutdown(wait=False)`. Other tasks of the session go on.
        Source: Python 3.14, ProcessPoolExecutor.terminate_workers, which sends SIGTERM.
        """
        self._end_running(TERMINATE_SECONDS, "terminate_workers()")

    def kill_workers(self) -> None:
        """Kill the workers of what runs; otherwise as `terminate_workers`.

        Source: Python 3.14, ProcessPoolExecutor.kill_workers.
        """
        self._end_running(None, "kill_workers()")

    def _end_running(self, grace: float | None, what: str) -> None:
        with self._outstanding.lock:
            pending: list[Any] = list(self._outstanding.futures)
        self.shutdown(wait=False, cancel_futures=True)
        for future in pending:
            if not future.done():
                future.end(broken(f"The call was ended by {what} of its executor."), grace)


def _check_context(mp_context: Any) -> None:
    method = mp_context.get_start_method()
    if method not in ("spawn", "forkserver"):
        raise ValueError(
            f"Executor() cannot do what the context {method!r} stands for: workers are clean "
            f"processes, which find nothing of this one but what they are given. Leave mp_context "
            f"out, or use one of 'spawn' or 'forkserver'."
        )


def _check_options(task_options: dict[str, Any]) -> None:
    if "thread_name_prefix" in task_options:
        raise TypeError("Executor() takes no thread_name_prefix: calls run in processes.")
    if task_options.get("num_returns", 1) != 1:
        raise ValueError(
            "Executor() takes no num_returns: a future has one value. Return a tuple instead."
        )


def _unserialized(error: TypeError) -> concurrent.futures.Future[Any]:
    """Return the future of a call whose arguments could not be serialized; else raise the error."""
    cause = error.__cause__
    if cause is None or not str(error).startswith("Could not serialize the arguments"):
        raise error
    if not isinstance(cause, TypeError):  # the class is the user's matter, the text is ours
        cause.add_note(str(error))
        error = cause  # type: ignore[assignment]
    failed: concurrent.futures.Future[Any] = concurrent.futures.Future()
    failed.set_running_or_notify_cancel()
    failed.set_exception(error)
    return failed


def _values_of(
    pending: deque[concurrent.futures.Future[Any]],
    submit_next: Callable[[], None] | None,
    end: float | None,
    *,
    chunked: bool,
) -> Iterator[Any]:
    """Yield the values of tasks in their order, and cancel what is left when that ends.

    submit_next: adds another task for each whose value was asked for. No reference to a value that
    was yielded is kept.
    """
    try:
        while pending:
            if submit_next is not None:
                submit_next()
            if not chunked:
                yield _take(pending.popleft(), end)
                continue
            values, error = _take(pending.popleft(), end)
            values.reverse()
            while values:
                yield values.pop()
            if error is not None:
                raise error
    finally:
        for future in pending:
            future.cancel()


def _take(future: concurrent.futures.Future[Any], end: float | None) -> Any:
    """Return the value of a future, or cancel it."""
    try:
        return future.result(None if end is None else end - time.monotonic())
    finally:
        future.cancel()
        del future


def _private(argument: Any) -> Any:
    """Wrap an argument, so that its arrays can be written to as with other executors.

    Arrays behind a ref cannot.
    """
    return argument if isinstance(argument, ObjectRef) else private(argument)
