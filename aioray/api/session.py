"""The functions of the API: init, get, put, wait, cancel, kill, shutdown, what tells of a session.

Room: api. Checks and translates; an engine does the rest. Three ways in, one engine: `init()` in
a plain script starts it on a thread of its own; in a running event loop it lives in that loop,
unless programs written for Ray, or people at a prompt, want to block there; `aioray.Engine` is for
programs that want to hold it themselves. Every call but a few starts a session if there is none, as
in Ray.

Imports little: asyncio and the engine come with the session, while its first process starts.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import operator
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..client.protocol import registry
from ..compat import alias as ray_alias
from ..compat.ray_logger import logger as ray_logger
from ..engine.processes.boot import Boot
from ..options.task import parse_init_options
from ..shared import ids, linux
from . import notebook
from .ending import is_over, keep_quiet, refuse_when_over

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Generator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from typing_extensions import TypeIs

    from ..actor import Actor, ActorHandle
    from ..client.generators import ObjectRefGenerator
    from ..client.protocol import Client
    from ..client.refs import ObjectRef
    from ..engine.engine import CancelRequest, Engine
    from ..engine.thread import LoopThread
    from ..options.types import InitSettings

__all__ = [
    "RayContext",
    "available_resources",
    "cancel",
    "client_for_call",
    "cluster_resources",
    "get",
    "get_actor",
    "init",
    "is_initialized",
    "kill",
    "nodes",
    "put",
    "shutdown",
    "timeline",
    "wait",
]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")
logger = logging.getLogger("aioray")

EXIT_SECONDS = 5.0  # that the end of the program waits for loops of daemon threads


class _Session:
    """The engine that this module has started, and the thread it runs on, if any."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.thread: LoopThread | None = None
        self.lock = threading.RLock()
        self.has_ended = False  # by `shutdown`, and no other was started since


_session = _Session()


@dataclass
class RayContext:
    """What `init` returns. As a context manager it shuts the session down at the end."""

    dashboard_url: str | None = None
    python_version: str = ""
    ray_version: str = ""
    ray_commit: str = ""
    address_info: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutdown()

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def disconnect(self) -> None:
        """End the session."""
        shutdown()


def init(address: str | None = None, **settings: Unpack[InitSettings]) -> RayContext:
    """Start a session.

    Returns before the first worker is up. loop: where the engine lives. "thread": in a thread of
    its own, so that `get` and all else that blocks works in coroutines and in cells of a notebook
    too; "running": in the event loop that runs here, where it takes no signals and blocks nothing;
    "auto": in that loop if one runs, and in a thread elsewhere, at prompts and in notebooks, and
    in programs written for Ray, those that `import ray`, as under `aioray run`.

    address: None, "local" or "auto", which are the same: a session is part of the program that
    starts it. num_cpus: tasks at once, by default the CPUs this process may use. num_gpus: GPUs to
    hand out to tasks, by default those that the machine has and CUDA_VISIBLE_DEVICES shows.
    resources: counters that tasks can reserve. object_store_memory:
    bytes of shared memory for large values, by default 30 % of the machine's or the container's
    memory; object_spilling_directory: where they go when that is full. runtime_env: what all
    workers find, a dict or RuntimeEnv, see there; what tasks ask for comes on top. namespace;
    log_to_driver=True: print what workers print; logging_level="info";
    logging_config, a LoggingConfig, for the loggers of this process and of workers.
    ignore_reinit_error=False: keep the running session instead of complaining. _temp_dir: where the
    session's folder goes, by default RAY_TMPDIR or the system's folder for temporary files.
    _tracing_startup_hook: "module:function", run here and in workers, see `aioray.util.tracing`.
    Beyond Ray: preload, names of modules that workers find imported; retry_seed, for reproducible
    jitter; history=100_000, how many attempts are remembered in that folder, 0 for none, and for no
    state API. Ray's other keywords are accepted where they mean nothing on one machine.
    Raises RuntimeError for an unknown keyword, if a session is running, or if loop is "running" and
    none runs;
    UnsupportedFeatureError for the address of a cluster; ValueError and TypeError for settings that
    are out of range.
    Source: Ray API reference, ray.init.
    """
    refuse_when_over()
    with _session.lock:
        running = registry.current()
        if running is not None:
            if settings.get("ignore_reinit_error"):
                logger.info("init() was called again: the running session is kept.")
                return _context(running)
            raise RuntimeError(
                "Maybe you called ray.init twice by accident? This error can be suppressed by "
                "passing in 'ignore_reinit_error=True', or by calling 'ray.shutdown()' before "
                "'ray.init()'."
            )
        _discard_dead_session()
        linux.check_platform()
        checked = parse_init_options(address, settings)
        if (address or os.environ.get("RAY_ADDRESS")) == "auto":
            _warn_if_below_a_driver()
        if checked.configure_logging:
            ray_logger.setLevel(checked.logging_level)
        boot = Boot(checked.env_vars)
        try:
            Engine = _load_engine()  # noqa: N806 - while the template comes up
            engine = Engine(checked)
            if _lives_in_running_loop(checked.loop):
                engine.start(boot)
            else:
                _start_in_thread(engine, boot)
        except BaseException:
            boot.abandon()
            raise
        _session.engine = engine
        _session.has_ended = False
        registry.default = engine
        if "IPython" in sys.modules:
            notebook.attach(engine)
        return _context(engine)


def _lives_in_running_loop(loop: str) -> bool:
    """Whether init(loop=loop) starts the engine on the loop that runs here."""
    if loop == "thread":
        return False
    running = _running_loop() is not None
    if loop == "running":
        if not running:
            raise RuntimeError(
                'init(loop="running") was called where no event loop runs. Call it in a coroutine, '
                "or leave `loop` out: then the engine gets a thread of its own."
            )
        return True
    return running and not notebook.at_prompt() and not ray_alias.installed()


def _warn_if_below_a_driver() -> None:
    """Say that the session of the driver above is not joined, which "auto" would mean in Ray."""
    from ..state.folders import sessions_above

    above = sessions_above()
    if above:
        logger.warning(
            'init(address="auto") starts a session of its own: it shares no tasks, actors or '
            "objects with %s, that of the process %s, from which this one descends. Use tasks "
            "instead of processes to share them.",
            above[0].name,
            above[0].pid,
        )


def _load_engine() -> type[Engine]:
    try:
        from ..engine.engine import Engine
    except RuntimeError:  # Python has begun to end, so concurrent.futures does not load
        raise RuntimeError(
            "Python is ending, so no aioray session can begin. Call init() before the program's "
            "last line, and not in an atexit handler."
        ) from None
    return Engine


def _start_in_thread(engine: Engine, boot: Boot) -> None:
    from ..engine.thread import LoopThread

    async def start() -> None:
        engine.start(boot)

    thread = LoopThread(engine.loop_is_broken)
    engine.owns_thread = True
    try:
        thread.run(start())
    except BaseException:
        thread.close()
        raise
    _session.thread = thread


def _discard_dead_session() -> None:
    """Forget a session that can do nothing more, such as one whose loop was closed."""
    engine, thread = _session.engine, _session.thread
    _session.engine = _session.thread = None
    if engine is not None:
        _end(engine, thread, 0.0)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    if "asyncio" not in sys.modules:
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _context(client: Any) -> RayContext:
    import platform

    from .. import __version__

    return RayContext(
        python_version=platform.python_version(),
        ray_version=ray_alias.RAY_VERSION,
        ray_commit=f"aioray-{__version__}",
        address_info={
            "node_ip_address": "127.0.0.1",
            "address": "local",
            "gcs_address": "local",
            "node_id": client.node_id,
            "session_name": client.session,
        },
    )


def client_for_call() -> Client:
    """The client that serves a call made here; starts a session if there is none."""
    client = registry.current()
    if client is None:
        refuse_when_over()
        with _session.lock:
            client = registry.current()
            if client is None:
                if _session.has_ended:
                    logger.warning(
                        "A new session was started, with default settings, because something of "
                        "aioray was called after shutdown(). Call init() first if that is meant."
                    )
                init()
                client = registry.current()
    assert client is not None
    return client


def is_initialized() -> bool:
    """Whether there is a session."""
    return registry.current() is not None


class _ShutdownDone:
    """What `shutdown` returns in async code: await it for the end.

    At a prompt, where a loop may run too, it shows nothing.
    """

    def __init__(self, waits_for: asyncio.Task[None] | None = None) -> None:
        self._task = waits_for

    def __await__(self) -> Generator[Any, None, None]:
        if self._task is not None:
            import asyncio

            yield from asyncio.shield(self._task).__await__()

    def __repr__(self) -> str:
        return ""

    def _ipython_display_(self) -> None:
        """Show nothing as the result of a cell."""


def shutdown(*, drain: float = 0.0, wait_for_processes: bool = False) -> Awaitable[None]:
    """End the session and every process of it. Idempotent; also done at the program's end.

    drain: seconds that tasks may use to finish; new ones are refused meanwhile. Then, or at once
    with 0, what runs is interrupted (without drain: killed), and refs without a value raise
    EngineShutdownError. wait_for_processes: accepted, since all processes are always waited for.
    In a plain script it returns None, when everything has ended. On the engine's own event loop it
    cannot wait: there `await aioray.shutdown(...)`; without `await`, and without drain, everything
    is killed before it returns.
    Source: Ray API reference, ray.shutdown; drain is aioray's own.
    """
    del wait_for_processes
    drain = _seconds("drain", drain)
    with _session.lock:
        engine, thread = _session.engine, _session.thread
        _session.engine = _session.thread = None
        if engine is not None:
            _session.has_ended = True
        task = None if engine is None else _end(engine, thread, drain)
    if _running_loop() is None:
        nothing: Any = None  # as in Ray; nobody can await here
        return nothing  # type: ignore[no-any-return]
    return _ShutdownDone(task)


def _end(
    engine: Engine, thread: LoopThread | None, drain: float, limit: float | None = None
) -> asyncio.Task[None] | None:
    """End an engine, or return the task that does.

    limit: seconds to wait for another thread's loop, which may be blocked.
    """
    if engine.lost:
        engine.forget_all()
        return None
    if thread is not None:
        thread.run(engine.shutdown(drain))
        thread.close()
        return None
    import asyncio

    loop = engine.loop
    assert loop is not None
    if loop.is_closed():
        engine.abort()
    elif _running_loop() is loop:
        if drain:
            return loop.create_task(engine.shutdown(drain), name="aioray-shutdown")
        engine.abort()
    elif loop.is_running():
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(engine.shutdown(drain), loop).result(limit)
    elif drain and engine.between_runs():
        loop.run_until_complete(engine.shutdown(drain))
    else:
        engine.abort()
    return None


def end_at_exit() -> None:
    """End every engine of this process. See `ending`; `aioray/__init__.py` has this called."""
    keep_quiet()
    own, thread = _session.engine, _session.thread
    _session.engine = _session.thread = None
    engines: list[Any] = [client for client in registry.by_job.values() if client.loop is not None]
    if own is not None and own not in engines:
        engines.append(own)
    for engine in engines:
        _end(engine, thread if engine is own else None, 0.0, EXIT_SECONDS)


def _after_fork_in_child() -> None:
    """The session stays with the parent: its threads and its loop did not come along."""
    _session.__init__()  # type: ignore[misc]  # a lock may have been held by a lost thread
    registry.disown()


os.register_at_fork(after_in_child=_after_fork_in_child)


@overload
def get(object_refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
@overload
def get(
    object_refs: tuple[ObjectRef[A], ObjectRef[B]], *, timeout: float | None = None
) -> list[A | B]: ...
@overload
def get(
    object_refs: tuple[ObjectRef[A], ObjectRef[B], ObjectRef[C]], *, timeout: float | None = None
) -> list[A | B | C]: ...
@overload
def get(object_refs: Sequence[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
@overload
def get(object_refs: Sequence[ObjectRef[Any]], *, timeout: float | None = None) -> list[Any]: ...
@overload
def get(
    object_refs: ObjectRefGenerator[T], *, timeout: float | None = None
) -> ObjectRefGenerator[T]: ...


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for a ref, or a list of refs, and return the value, or the list of values.

    A task's error is raised, of several the first known. timeout: seconds to wait; None or -1: for
    ever; 0: look once. The tasks go on after a time-out. Values are deserialized anew by each call.
    Raises the task's error; GetTimeoutError; ValueError for what is neither a ref nor a list or for
    a negative timeout; TypeError for a list with something else in it; RuntimeError on the event
    loop that the engine runs on, where only `await ref` can work.
    Source: Ray API reference, ray.get.
    """
    refuse_when_over()
    from ..client.refs import ObjectRef
    from ..exceptions import RayError

    if _is_generator(object_refs):
        return object_refs  # as in Ray: iterate over it
    if timeout is not None:
        timeout = _seconds("timeout", timeout, minus_one=True)
    if isinstance(object_refs, ObjectRef):
        refs = [object_refs]
        single = True
    elif isinstance(object_refs, list):
        refs = object_refs
        single = False
        _check_refs(refs)
    else:
        raise ValueError(
            f"Invalid type of object refs: {type(object_refs).__name__}. `get` takes an ObjectRef "
            f"or a list of ObjectRefs."
        )
    try:
        values = _values_of(refs, None if timeout is None else time.monotonic() + timeout)
    except RayError as error:
        # Who keeps the error, and so this frame, does not keep the values of the others.
        del object_refs, refs
        raise error.with_traceback(None)  # noqa: B904 - it is the same
    return values[0] if single else values


def _check_refs(refs: list[Any]) -> None:
    from ..client.refs import ObjectRef

    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"Attempting to call `get` on the value {ref!r}, which is not an ray.ObjectRef."
            )


def _values_of(refs: Sequence[ObjectRef[Any]], deadline: float | None) -> list[Any]:
    from ..client.refs import NotAtHand, StoredFailure

    _wait_for(refs, deadline)
    entries = [ref._entry for ref in refs]
    if any(entry.outcome is None for entry in entries):
        # One may have failed: raise that, whatever stands before it in the list.
        for entry in entries:
            if isinstance(entry.outcome, StoredFailure):
                entry.value()
    values: list[Any] = []
    while len(values) < len(entries):
        try:
            for entry in entries[len(values) :]:
                values.append(entry.value())  # noqa: PERF401 - it may stop, and go on from there
        except NotAtHand:  # on disk, or lost again
            late = refs[len(values)]
            late._entry.owner().get([late], _left(deadline), at_hand=True)
    return values


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _wait_for(refs: Sequence[ObjectRef[Any]], deadline: float | None) -> None:
    """Block until every ref is ready or one has failed, whichever engines they belong to."""
    clients = {ref._entry.client for ref in refs}
    if not refs:
        client_for_call()
    for client in clients:
        mine = refs if len(clients) == 1 else [ref for ref in refs if ref._entry.client is client]
        if client is None:
            mine[0]._entry.owner()  # raises
            continue
        client.get(mine, _left(deadline))


@overload
def wait(
    object_refs: Sequence[ObjectRef[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[T]], list[ObjectRef[T]]]: ...
@overload
def wait(
    object_refs: Sequence[ObjectRefGenerator[T]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRefGenerator[T]], list[ObjectRefGenerator[T]]]: ...
@overload
def wait(
    object_refs: Sequence[ObjectRef[Any] | ObjectRefGenerator[Any]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]: ...


def wait(
    object_refs: Sequence[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Wait until `num_returns` of the refs are ready or `timeout` seconds have passed.

    Returns (ready, not ready): two lists that together hold each ref once, in the order given; the
    first has at most num_returns. A failed task counts as ready. timeout: None waits, 0 looks once.
    fetch_local: no effect on one machine.
    Raises TypeError for anything but a list of refs; ValueError for duplicates, a num_returns that
    is not in 1..len, or a negative timeout.
    Source: Ray API reference, ray.wait.
    """
    refuse_when_over()
    from ..client.refs import ObjectRef

    del fetch_local
    if not isinstance(object_refs, list):
        raise TypeError(
            f"wait() expected a list of ray.ObjectRef, got {type(object_refs).__name__}"
        )
    if set(map(type, object_refs)) <= {ObjectRef}:  # as nearly always, and there may be many
        waited_for: list[ObjectRef[Any]] = object_refs
    else:
        either: list[Any] = list(object_refs)
        for ref in either:
            if not isinstance(ref, ObjectRef) and not _is_generator(ref):
                raise TypeError(f"wait() expected a list of ray.ObjectRef, got {ref!r} in the list")
        waited_for = [ref if isinstance(ref, ObjectRef) else ref._next_signal() for ref in either]
    if not object_refs:
        return [], []
    if len({ref._entry for ref in waited_for}) != len(waited_for):
        raise ValueError("wait() requires a list of unique object refs.")
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be an int, got {num_returns!r}")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}: it must be >= 1.")
    if num_returns > len(object_refs):
        raise ValueError(
            f"num_returns cannot be greater than the number of object refs provided to wait(): "
            f"{num_returns} > {len(object_refs)}"
        )
    limit = None if timeout is None else _seconds("timeout", timeout)
    owners = {ref._entry.client for ref in waited_for}
    if None in owners or len(owners) > 1:
        for ref in waited_for:
            ref._entry.owner()  # raises if it has none
        raise ValueError("wait() takes refs of one engine at a time.")
    found = waited_for[0]._entry.owner().wait(waited_for, num_returns, limit)
    # Where refs are waited for one by one, most of this is for those that go on waiting: no loop.
    places = itertools.compress(itertools.count(1), found)
    end = next(itertools.islice(places, num_returns - 1, None), len(found))
    looked_at = object_refs[:end]
    ready = list(itertools.compress(looked_at, found))
    pending = list(itertools.compress(looked_at, map(operator.not_, found)))
    return ready, pending + object_refs[end:]


def put(value: T, *, _owner: None = None) -> ObjectRef[T]:
    """Store a value and return a ref to it, at once. Pass the ref to tasks instead of the value.

    Raises TypeError for a ref, a generator or anything else that cannot be serialized.
    Source: Ray API reference, ray.put.
    """
    refuse_when_over()
    from ..client.refs import ObjectRef

    if _owner is not None:
        raise ValueError("put() no longer takes _owner: the process that puts is the owner.")
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ray.ObjectRef is not allowed. Use the ref itself, or put a list "
            "that contains it."
        )
    ref: ObjectRef[T] = client_for_call().put(value)
    return ref


def cancel(
    object_ref: ObjectRef[Any] | ObjectRefGenerator[Any],
    *,
    force: bool = False,
    recursive: bool = True,
    grace: float | None = None,
) -> CancelRequest:
    """Ask that a task stop. Returns at once; `await` the result for what became of it.

    A task that waits never runs: its ref raises TaskCancelledError. In a running one
    KeyboardInterrupt is raised, by a real SIGINT, once; what it then returns or raises is its
    outcome, and it is never retried. force: kill its worker instead. grace: seconds after which a
    task that was interrupted and still runs is killed; None: never. recursive: also the tasks that
    it has submitted, and those that it submits from now on. A finished task, or an object of `put`,
    is left as it is. Tasks that wait for the cancelled one fail with TaskCancelledError.

    Calls of actors differ. One that waits never runs. In a running one of an asynchronous actor
    asyncio.CancelledError is raised, once; elsewhere `get_runtime_context().is_canceled()` is True
    from then on, and TaskCancelledError is the outcome whatever the method returns; if it is
    `interruptible`, it is interrupted as a task is. force and grace would kill the actor: use
    `kill` for that.
    Raises TypeError for anything but a ref, ValueError for a negative grace, and for force and
    grace with calls of actors.
    Source: Ray API reference, ray.cancel; grace and the outcome are aioray's own.
    """
    if is_over():
        target: Any = getattr(object_ref, "_completed", object_ref)
        entry = target._entry
        ended: CancelRequest = entry.owner().cancel(entry, force=False, recursive=True, grace=None)
        return ended
    from ..client.refs import ObjectRef

    if _is_generator(object_ref):
        object_ref = object_ref.completed()
    if not isinstance(object_ref, ObjectRef):
        raise TypeError(
            f"cancel() only supports object refs. Got {object_ref!r} of type "
            f"{type(object_ref).__name__}. Cancel the members of a list one by one; for actors use "
            f"kill()."
        )
    if grace is not None:
        grace = _seconds("grace", grace)
    entry = object_ref._entry
    if (force or grace is not None) and _is_actor_call(entry.binary()):
        what = "force=True" if force else "grace"
        raise ValueError(
            f"{what} is not supported for actor tasks. Leave it out, or end the actor with kill()."
        )
    request: CancelRequest = entry.owner().cancel(
        entry, force=bool(force), recursive=bool(recursive), grace=grace
    )
    return request


def _is_actor_call(identifier: bytes) -> bool:
    """Whether it is a value of an actor's call, and not something that such a call has put."""
    return ids.actor_of(identifier) is not None and ids.index_of(identifier) < ids.PUT_INDEX


def kill(actor: ActorHandle[Any] | Actor, *, no_restart: bool = True) -> None:
    """End an actor at once. Its running call and those that wait raise ActorDiedError.

    No `finally` blocks and no `atexit` handlers run. no_restart=False: it is made again, if its
    max_restarts allow that. An actor that has ended is left as it is.
    Raises ValueError for anything but a handle, ActorHandleNotFoundError if its session has ended.
    Source: Ray API reference, ray.kill.
    """
    if is_over():
        return  # all have ended
    from ..actor import ActorHandle, client_of

    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"kill() only supported for actors. For tasks, try cancel(). Got: {type(actor)}."
        )
    ref = actor._aioray_ref
    client_of(ref).kill_actor(ref, no_restart=bool(no_restart))


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """A handle to the living actor of this name.

    namespace: None is that of the session.
    Raises ValueError if there is none, and for an empty name or namespace; TypeError for anything
    but text.
    Source: Ray API reference, ray.get_actor.
    """
    refuse_when_over()
    from ..actor import ActorHandle

    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    if not isinstance(name, str):
        raise TypeError(f"the name of an actor must be a str, got {name!r}")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    found = client_for_call().get_actor(name, namespace)
    if found is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. No such actor was made, or it has died, "
            f"or it is in another namespace: then pass that, get_actor(name, namespace)."
        )
    return ActorHandle(*found)


def _is_generator(value: Any) -> TypeIs[ObjectRefGenerator[Any]]:
    """Whether it is an ObjectRefGenerator, whose module may not even be loaded."""
    module = sys.modules.get("aioray.client.generators")
    return module is not None and isinstance(value, module.ObjectRefGenerator)


def _seconds(name: str, value: Any, *, minus_one: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, got {value!r}")
    if minus_one and value == -1:
        return None
    if not value >= 0:
        raise ValueError(f"{name} must be a number of seconds >= 0 or None, got {value!r}")
    return float(value)


def nodes() -> list[dict[str, Any]]:
    """The nodes: this machine. Source: Ray API reference, ray.nodes."""
    return client_for_call().nodes()


def cluster_resources() -> dict[str, float]:
    """All resources of the session, by name. Source: Ray API reference, ray.cluster_resources."""
    return client_for_call().cluster_resources()


def available_resources() -> dict[str, float]:
    """Resources that no running task holds; what is used up is missing.

    Source: Ray API reference, ray.available_resources.
    """
    return client_for_call().available_resources()


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Tell what ran when, as events for https://ui.perfetto.dev and chrome://tracing.

    filename: a file to write them to, as JSON; the result is None then. Without it the events are
    returned, a list of dicts, with times in microseconds.
    Source: Ray API reference, ray.timeline; Trace Event Format.
    """
    from aioray.state.read.timeline import trace

    with client_for_call().own_session().view() as view:
        events = trace(view)
    if filename is None:
        return events
    import json

    with open(filename, "w", encoding="utf-8") as file:
        file.write(json.dumps(events))  # `dump` takes ten times as long
    return None
