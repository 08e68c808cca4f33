"""A process pool with the interface of `multiprocessing.Pool`, whose items run as tasks.

Room: services. A chunk of items is one task. At most `processes` of them run at once: the session's
resources, or a limiter, see to that, and a few more are on their way, so that no process waits for
its next one. An environment variable of its own gives the pool processes of its own. One thread per
pool (`dispatch`) submits chunks, takes their results and calls callbacks; the engine's thread only
tells it what is ready, so callbacks may take their time. What happens in a worker is in `chunks`.
"""

from __future__ import annotations

import itertools
import logging
import operator
import os
import threading
import uuid
import weakref
from functools import cache
from multiprocessing import TimeoutError  # noqa: A004 - what multiprocessing.Pool raises
from typing import TYPE_CHECKING, Any, TypeVar

from aioray.api.objects import cancel, get
from aioray.api.session import client_for_call, init
from aioray.client.current import execution_context
from aioray.client.protocol import activate, refuse_to_block, registry
from aioray.client.signatures import name_of
from aioray.remote_function import remote
from aioray.shared.limiter import Limiter
from aioray.util import log_once
from aioray.util.multiprocessing.chunks import (
    Packed,
    prepare,
    run_chunk,
    with_arguments,
    with_item,
    with_items,
)
from aioray.util.multiprocessing.dispatch import PoolDispatcher, dump_or_explain, plain
from aioray.util.multiprocessing.results import CHUNKS_AHEAD, AsyncResult, IMapIterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from aioray.client.protocol import Client
    from aioray.remote_function import RemoteFunction
    from aioray.shared.options import TaskOptions
    from aioray.util.multiprocessing.dispatch import PoolChunk

__all__ = ["AsyncResult", "IMapIterator", "Pool", "TimeoutError"]

A = TypeVar("A")
T = TypeVar("T")
logger = logging.getLogger("aioray")

CHUNKS_PER_PROCESS = 4  # that `map` makes, as multiprocessing does
ENVIRONMENT_NAME = "AIORAY_POOL"  # the variable that sets a pool's processes apart
_OWN_OPTIONS = {
    "num_returns": "each item has one result",
    "max_calls": "maxtasksperchild is this",
    "retry_exceptions": "an item's exception is its result",
    "retry": "an item's exception is its result",
}


class Pool:
    """A pool of worker processes with the interface of `multiprocessing.Pool`.

    processes: chunks of items that run at once, at most; by default the CPUs of the session. If
    there is no session, one with so many CPUs is started. initializer(*initargs) runs in each of
    the pool's processes: it has run in all of them when the pool is there, and its error is raised
    here; on the event loop that the engine runs on, which may not wait, and in processes that take
    the place of others, it runs before their first item. maxtasksperchild: chunks after which a
    process is replaced; None: never. context: ignored, with one warning. ray_address: for
    `aioray.init`, if there is no session. ray_remote_args: options of the tasks, such as num_cpus
    or max_retries=0.

    The processes are the pool's own. Items run as tasks, which hold their CPUs while they run and
    take turns with the other tasks of the session; an idle pool holds none. A chunk whose process
    dies is run again, `max_retries` times (3), and then raises WorkerCrashedError. Exceptions
    arrive as what they are, with the worker's traceback as cause. Idle processes of a pool that has
    ended may stay, as idle workers do, while the session has no more workers than CPUs.

    Use it in a `with` block, which ends in `terminate()`. Callbacks run in a thread of the pool.
    Raises ValueError and TypeError for wrong arguments, and ValueError if the session has fewer
    CPUs than `processes` would use.
    Source: Python, multiprocessing.pool.Pool; Ray API reference, ray.util.multiprocessing.Pool.
    """

    _own_processes = True

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if processes is not None:
            processes = operator.index(processes)
            if processes < 1:
                raise ValueError(f"Processes in the pool must be > 0, got {processes}.")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, got {initializer!r}")
        if maxtasksperchild is not None and operator.index(maxtasksperchild) < 1:
            raise ValueError(
                f"maxtasksperchild must be a positive int or None, got {maxtasksperchild!r}"
            )
        if context is not None and log_once("multiprocessing.Pool.context"):
            logger.warning(
                "The 'context' argument of multiprocessing.Pool has no effect: processes come from "
                "the session."
            )
        name = uuid.uuid4().hex
        self._name = name
        self._options = self._task_options(name, ray_remote_args or {})
        self._runner = _chunk_runner(maxtasksperchild or 0)
        self._task_by_name: dict[str, Any] = {}
        self._task_for(run_chunk)  # says what is wrong with the options
        client = _session(processes, ray_address)
        most = _most_at_once(client, ray_remote_args or {})
        self._processes = _fitting(processes, most, client, _cpus_of(ray_remote_args or {}))
        self._limit_name = ""
        if self._own_processes and self._processes != most and "limiter" not in self._options:
            self._limit_name = _take_limit_name(self._processes)
            self._options["limiter"] = Limiter(self._limit_name, concurrency=self._processes)
            self._task_by_name.clear()
        self._lock = threading.Lock()
        self._running = True
        self._terminated = False
        self._calls = itertools.count(1)
        self._prepared: Any = b""  # the initializer, or a ref to it
        self._held: Any = None
        if initializer is not None:
            with activate(client):
                self._prepared, self._held = dump_or_explain(
                    (initializer, tuple(initargs or ())), "(initializer, initargs)"
                )
            if isinstance(self._prepared, bytes):
                self._prepared = Packed(self._prepared)
        if initializer is not None and self._own_processes:
            self._prepare(client, initializer)
        is_held = self._processes == most or bool(self._limit_name)
        self._dispatcher = PoolDispatcher(
            client, self._processes * (CHUNKS_AHEAD if is_held else 1)
        )
        self._finalizer = weakref.finalize(self, self._dispatcher.abort)
        self._finalizer.atexit = False  # the session ends by itself
        if self._limit_name:
            weakref.finalize(self, _limit_names.discard, self._limit_name).atexit = False

    def _prepare(self, client: Client, initializer: Callable[..., object]) -> None:
        """Start all processes and run the initializer in each. Raises its error."""
        if client.in_own_thread():
            return  # of the engine, whose loop may not wait: they start when there is work
        options = {
            **self._options,
            "name": name_of(initializer),
            "num_returns": "streaming",
            "_generator_backpressure_num_objects": 1,
        }
        with activate(client):
            start = remote(prepare).options(**options).remote
            started = [start(self._name, self._prepared) for _ in range(self._processes)]
            failure: BaseException | None = None
            try:
                for each in started:
                    get(next(each))  # all of them are there, before any may end
            except BaseException as error:  # noqa: BLE001 - raised below: with no other context
                failure = plain(error) if isinstance(error, Exception) else error
            if failure is not None:
                for each in started:
                    cancel(each, force=True)
                raise failure
            for each in started:
                for _ in each:
                    pass

    def _task_options(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Make the options of the pool's tasks. Raises ValueError for one that the pool sets."""
        for option in args.keys() & _OWN_OPTIONS:
            raise ValueError(f"ray_remote_args cannot have {option}: {_OWN_OPTIONS[option]}.")
        options = dict(args)
        if self._own_processes:
            env = dict(options.get("runtime_env") or {})
            env["env_vars"] = {**(env.get("env_vars") or {}), ENVIRONMENT_NAME: name}
            options["runtime_env"] = env
        return options

    def _task_for(self, function: Any) -> Any:
        """Return the task for chunks, named as what it calls: for `ps`, printed lines, errors."""
        name = name_of(function)
        task = self._task_by_name.get(name)
        if task is None:
            task = self._runner.options(**{"name": name, **self._options})
            self._task_by_name[name] = task
        return task

    def _options_for(self, function: Any) -> TaskOptions:
        """Return the options of the tasks that call a function."""
        options: TaskOptions = self._task_for(function)._call.options
        return options

    def _next_call(self) -> int:
        return next(self._calls)

    def _submit(self, chunks: list[PoolChunk]) -> None:
        self._dispatcher.submit(chunks)

    # -- one call

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> T:
        """Call `func(*args, **kwargs)` in the pool and wait for the result.

        kwds: the same as kwargs; the standard library calls it so, and Ray the other.
        """
        result: T = self.apply_async(func, args, kwargs, kwds=kwds).get()
        return result

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        kwds: Mapping[str, Any] | None = None,
    ) -> AsyncResult[T]:
        """Call `func(*args, **kwargs)` as `apply` does, without waiting; return the AsyncResult.

        callback is called with the value, error_callback with the exception, in a thread of the
        pool, before the result is ready.
        """
        item = (tuple(args or ()), {**(kwargs or {}), **(kwds or {})})
        return self._start(func, with_arguments, [item], 1, callback, error_callback, single=True)

    # -- many calls

    def map(
        self, func: Callable[[A], T], iterable: Iterable[A], chunksize: int | None = None
    ) -> list[T]:
        """Call `func` for all items, wait, and return the values in the order of the items.

        chunksize: items per task; by default so many that each process gets four tasks. The error
        of an item is raised when all chunks have ended; the rest of its own chunk is left out.
        """
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[A], T],
        iterable: Iterable[A],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """Do as `map` without waiting; return the AsyncResult. Callbacks: see `apply_async`."""
        return self._start(func, with_item, list(iterable), chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """Do as `map`, where each item is the list of the arguments: `func(*item)`."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """Do as `starmap` without waiting; return the AsyncResult. Callbacks: see `apply_async`."""
        return self._start(func, with_items, list(iterable), chunksize, callback, error_callback)

    def _start(
        self,
        func: Callable[..., Any],
        unpack: Callable[..., Any],
        items: list[Any],
        size: int | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        single: bool = False,
    ) -> AsyncResult[Any]:
        if size is None:
            size = max(1, -(-len(items) // (self._processes * CHUNKS_PER_PROCESS)))
        _check_chunksize(size)
        with self._lock:
            self._check_running()
            with activate(self._dispatcher.client):
                result: AsyncResult[Any] = AsyncResult(
                    self, func, unpack, callback, error_callback, single=single
                )
            result.start(items, size)
        return result

    def imap(
        self, func: Callable[[A], T], iterable: Iterable[A], chunksize: int = 1
    ) -> IMapIterator[T]:
        """Return an iterator over the values of `func`, in the order of the items.

        Items are taken from the iterable as the values are read, with a lead of four chunks per
        process, which grows when many were read; `join` takes the rest. chunksize: items that go to
        a process together, at least: of those that run for less than milliseconds more do. An
        item's error is raised at its place. The iterator has `next(timeout)`.
        """
        return self._start_iterator(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[A], T], iterable: Iterable[A], chunksize: int = 1
    ) -> IMapIterator[T]:
        """Do as `imap`, but yield the values in the order in which chunks are done."""
        return self._start_iterator(func, iterable, chunksize, ordered=False)

    def _start_iterator(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], size: int, *, ordered: bool
    ) -> IMapIterator[Any]:
        _check_chunksize(size)
        with self._lock:
            self._check_running()
            with activate(self._dispatcher.client):
                iterator: IMapIterator[Any] = IMapIterator(
                    self, func, iterable, size, ordered=ordered
                )
            self._dispatcher.feeding.add(iterator)
        iterator.feed()
        return iterator

    # -- life

    def _check_running(self) -> None:
        if not self._running:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Take no more calls; those that were made go on. Idempotent."""
        with self._lock:
            self._running = False
            self._dispatcher.close()

    def terminate(self) -> None:
        """End the pool at once: what runs is killed, and missing results are TaskCancelledErrors.

        Idempotent.
        """
        with self._lock:
            self._running = False
            self._terminated = True
            self._finalizer.detach()
            self._dispatcher.abort()
        thread, client = self._dispatcher.thread, self._dispatcher.client
        if threading.current_thread() is not thread and not client.in_own_thread():
            thread.join()

    def join(self) -> None:
        """Wait until everything is done, also what readers of `imap` have not asked for yet.

        Raises ValueError before `close` or `terminate`; RuntimeError on the event loop that the
        engine runs on.
        """
        if self._running:
            raise ValueError("Pool is still running")
        if not self._dispatcher.thread.is_alive():
            return
        refuse_to_block(self._dispatcher.client, "Pool.join()", "tasks that you can await")
        for iterator in list(self._dispatcher.feeding):
            iterator.finish()
        self._dispatcher.thread.join()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled; make one in the task"
        )

    def __repr__(self) -> str:
        state = "RUN" if self._running else "TERMINATE" if self._terminated else "CLOSE"
        return f"<aioray.util.multiprocessing.Pool state={state} pool_size={self._processes}>"


@cache
def _chunk_runner(max_calls: int) -> RemoteFunction[..., Any]:
    """Make one task for all pools, so that workers which serve several keep one function."""
    return remote(max_calls=max_calls)(run_chunk)


def _check_chunksize(size: int) -> None:
    if size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size:n}")


def _session(processes: int | None, address: str | None) -> Client:
    """Return the session to work in; a new one, with so many CPUs, if there is none."""
    if registry.current() is None and not execution_context.job:
        init(address, num_cpus=processes)
    return client_for_call()


def _most_at_once(client: Client, options: dict[str, Any]) -> int | None:
    """Return for how many tasks with these options the session has CPUs; None: they need none."""
    each = _cpus_of(options)
    return int(client.cluster_resources().get("CPU", 0.0) / each + 1e-9) if each else None


def _cpus_of(options: dict[str, Any]) -> float:
    each = options.get("num_cpus")
    return 1.0 if each is None else float(each)


def _fitting(processes: int | None, most: int | None, client: Client, each: float) -> int:
    """Return how many chunks may run at once; ValueError if the session has no room for so many.

    most: see `_most_at_once`. each: CPUs that one takes.
    """
    cpus = client.cluster_resources().get("CPU", 0.0)
    if processes is None:
        return max(1, int(cpus) if most is None else most)
    if most is not None and processes > most:
        share = int(100 * cpus / processes) / 100
        raise ValueError(
            f"Tried to start a pool with {processes} processes that use {each:g} CPUs each, but "
            f"the session has {cpus:g} CPUs. Ask for fewer processes, give init() more num_cpus, "
            f'or let them share: ray_remote_args={{"num_cpus": {share}}}.'
        )
    return processes


_limit_names: set[str] = set()  # of the limiters that pools use, whose names are used again


def _take_limit_name(processes: int) -> str:
    """Return a name for a limiter that nobody else uses, not even pools of other processes."""
    names = (f"pool-{os.getpid()}-{processes}-{number}" for number in itertools.count(1))
    name = next(name for name in names if name not in _limit_names)
    _limit_names.add(name)
    return name
