"""Begins and ends sessions, `init` and `shutdown`, and finds the client that a call uses.

Room: api. Checks and translates; an engine does the rest. Three ways in, one engine: `init()` in
a plain script starts it on a thread of its own; in a running event loop it lives in that loop,
unless programs written for Ray, or people at a prompt, want to block there; `aioray.Engine` is for
programs that want to hold it themselves. Every call but a few starts a session if there is none, as
in Ray.

Imports little: asyncio and the engine come with the session, while its first process starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..client.current import execution_context
from ..client.protocol import registry
from ..compat import alias as ray_alias
from ..core.records import field, record
from ..shared import linux
from . import notebook
from .checks import check_seconds
from .ending import keep_quiet, keep_status_of_ctrl_c, refuse_when_over

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Awaitable, Generator, Iterator
    from types import TracebackType
    from typing import Self, Unpack

    from ..client.protocol import Client
    from ..engine.engine import LocalEngine
    from ..engine.processes.boot import TemplateLauncher
    from ..engine.thread import LoopThread
    from ..options.task import InitOptions
    from ..options.types import InitSettings

__all__ = [
    "RayContext",
    "client_for_call",
    "init",
    "is_initialized",
    "shutdown",
]

EXIT_SECONDS = 5.0  # that the end of the program waits for loops of daemon threads


class _Session:
    """The engine that this module has started, and the thread it runs on, if any."""

    def __init__(self) -> None:
        self.engine: LocalEngine | None = None
        self.thread: LoopThread | None = None
        self.lock = threading.RLock()
        self.has_ended = False  # by `shutdown`, and no other was started since


_session = _Session()


@record(eq=False)
class RayContext(Mapping[str, Any]):
    """What `init` returns: a mapping, of what stands in `address_info`.

    What only a cluster has is there too, and empty: the dashboard's address, for one. As a context
    manager it shuts the session down at the end.
    """

    dashboard_url: str | None = ""
    python_version: str = ""
    ray_version: str = ""
    ray_commit: str = ""
    address_info: dict[str, Any] = field(default_factory=dict, repr=False)

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

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

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
    local_mode=False: run tasks and actors in this process, in order, when they are submitted, for
    tests and debuggers, see `aioray.local`; asynchronous actors get a thread with a loop.
    ignore_reinit_error=False: keep the running session instead of complaining. _temp_dir: where the
    session's folder goes, by default RAY_TMPDIR or the system's folder for temporary files.
    _tracing_startup_hook: "module:function", run here and in workers, see `aioray.util.tracing`.
    Beyond Ray: context, a list of context variables whose values go along from who submits a task,
    or calls a method, to the task, and on to what that submits; forward_logging=False, True or a
    level: have the records that workers log from there on (True: INFO) in this process's logging,
    with the attributes task_name, task_id, attempt, worker_id, actor_id and actor_name; preload,
    names of modules that workers find imported; retry_seed, for reproducible jitter;
    history=100_000, how many attempts are remembered in that folder, 0 for none, and for no state
    API; redact_history=False, keep no texts of the program there, such as values of env_vars, lines
    of its source, messages of its errors and what it prints, by default as AIORAY_REDACT_HISTORY=1
    says; max_worker_rss, bytes that a worker may keep between attempts, and max_worker_age, seconds
    that it may live: then another one takes its place; max_pending, calls of the driver that may be
    unfinished, see `RemoteFunction.submit`. Ray's other keywords are accepted where they mean
    nothing on one machine.
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
                _logger().info("init() was called again: the running session is kept.")
                return _context(running)
            raise RuntimeError(
                "Maybe you called ray.init twice by accident? This error can be suppressed by "
                "passing in 'ignore_reinit_error=True', or by calling 'ray.shutdown()' before "
                "'ray.init()'."
            )
        _discard_dead_session()
        linux.check_platform()
        from ..engine.processes.boot import TemplateLauncher  # no worker needs it, nor the checks
        from ..options.task import parse_init_options

        checked = parse_init_options(address, settings)
        if (address or os.environ.get("RAY_ADDRESS")) == "auto":
            _warn_if_below_a_driver()
        if checked.local_mode:
            _set_log_level(checked)
            from ..local.engine import LocalModeEngine

            return _begun(LocalModeEngine.begun(checked))
        boot = TemplateLauncher(checked.env_vars, checked.preload)
        try:
            _set_log_level(checked)
            LocalEngine = _load_engine()  # noqa: N806 - while the template comes up
            engine = LocalEngine(checked)
            if _lives_in_running_loop(checked.loop):
                engine.start(boot)
            else:
                _start_in_thread(engine, boot)
        except BaseException:
            boot.abandon()
            raise
        return _begun(engine)


def _logger() -> logging.Logger:
    """Return the logger; imported here, so that the first process does not wait for `logging`."""
    from ..compat.ray_logger import own

    return own


def _set_log_level(settings: InitOptions) -> None:
    from ..compat.ray_logger import logger

    if settings.configure_logging:
        logger.setLevel(settings.logging_level)


def _begun(engine: LocalEngine) -> RayContext:
    """Make an engine that was started the session's."""
    _session.engine = engine
    _session.has_ended = False
    registry.default = engine.client
    if "IPython" in sys.modules:
        notebook.attach(engine.client)
    return _context(engine.client)


def _lives_in_running_loop(loop: str) -> bool:
    """Tell whether init(loop=loop) starts the engine on the loop that runs here."""
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
        _logger().warning(
            'init(address="auto") starts a session of its own: it shares no tasks, actors or '
            "objects with %s, that of the process %s, from which this one descends. Use tasks "
            "instead of processes to share them.",
            above[0].name,
            above[0].pid,
        )


def _load_engine() -> type[LocalEngine]:
    from . import actors, cluster, objects  # noqa: F401 - no descriptor may be left later

    try:
        from ..engine.engine import LocalEngine
    except RuntimeError:  # Python has begun to end, so concurrent.futures does not load
        raise RuntimeError(
            "Python is ending, so no aioray session can begin. Call init() before the program's "
            "last line, and not in an atexit handler."
        ) from None
    return LocalEngine


def _start_in_thread(engine: LocalEngine, boot: TemplateLauncher) -> None:
    from ..engine.thread import LoopThread

    async def start() -> None:
        engine.start(boot, owns_thread=True)

    thread = LoopThread(engine.loop_is_broken)
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
            "redis_address": None,
            "object_store_address": "",
            "raylet_socket_name": "",
            "webui_url": "",
            "session_dir": execution_context.folder
            if execution_context.job
            else client.questions.folder.path,
            "metrics_export_port": 0,
            "gcs_address": "local",
            "address": "local",
            "dashboard_agent_listen_port": 0,
            "node_id": client.node_id,
            "session_name": client.session,
        },
    )


def client_for_call() -> Client:
    """Return the client that serves a call made here; start a session if there is none."""
    client = registry.current()
    if client is None:
        refuse_when_over()
        with _session.lock:
            client = registry.current()
            if client is None:
                if _session.has_ended:
                    _logger().warning(
                        "A new session was started, with default settings, because something of "
                        "aioray was called after shutdown(). Call init() first if that is meant."
                    )
                init()
                client = registry.current()
    assert client is not None
    return client


def is_initialized() -> bool:
    """Tell whether there is a session."""
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
    drain = check_seconds("drain", drain)
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
    engine: LocalEngine, thread: LoopThread | None, drain: float, limit: float | None = None
) -> asyncio.Task[None] | None:
    """End an engine, or return the task that ends it.

    limit: seconds to wait for another thread's loop, which may be blocked.
    """
    if engine.lost:
        engine.forget_all()
        return None
    if engine.settings.local_mode:
        engine.end_here(drain)
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
    loaded = sys.modules.get("aioray.engine.engine")  # else there was none
    engines: list[LocalEngine] = [] if loaded is None else loaded.open_engines()
    if own is not None and own not in engines:
        engines.append(own)
    for engine in engines:
        with contextlib.suppress(KeyboardInterrupt):  # the template ends all that is left
            _end(engine, thread if engine is own else None, 0.0, EXIT_SECONDS)
    keep_status_of_ctrl_c()


def _after_fork_in_child() -> None:
    """Forget the session, which stays with the parent as its threads and its loop do."""
    _session.__init__()  # type: ignore[misc]  # a lock may have been held by a lost thread
    registry.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
