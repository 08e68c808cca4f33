"""`Engine`, for programs that hold their engine themselves.

Room: api. A face of `aioray.engine.engine.LocalEngine`: it shows what is meant for programs, and
its methods that do the same as functions of the module are those functions, called with this
engine.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from ..client.protocol import activate
from ..engine import engine
from . import actors, cluster, objects
from .notebook import attach

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self, Unpack

    from ..options.types import InitSettings

__all__ = ["Engine"]


def _with_engine(function: Callable[..., Any], *, on_refs: bool = False) -> Any:
    """Make a method that calls a function of the module with its engine: same arguments and text.

    on_refs: it is about refs or handles, which also tell of an engine that has ended.
    """

    @functools.wraps(function)
    def method(self: Engine, *args: Any, **kwargs: Any) -> Any:
        client = self._client
        if client.loop is None or (client.closed and not on_refs):
            raise RuntimeError(
                "This engine is not running. Use it inside its `async with` block, or between "
                "start() and shutdown()."
            )
        with activate(client):
            return function(*args, **kwargs)

    signature = inspect.signature(function)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    described: Any = method
    described.__signature__ = signature.replace(parameters=[itself, *signature.parameters.values()])
    described.__qualname__ = f"Engine.{function.__name__}"
    described.__module__ = __name__
    return described


class Engine:
    """Runs remote functions in worker processes, on the event loop that it is started on.

        async with aioray.Engine(num_cpus=4) as engine:
            value = await f.remote(1)

    Takes the keywords of `aioray.init`. Inside the block, and in tasks started from it, calls use
    this engine; code outside can be given it by `with engine.activate():`, and the first engine of
    a process serves everybody who has none. Several may be open at once. Leaving the block is
    `shutdown()`.

    `get`, `put`, `wait`, `cancel` and others are the functions of the module, for this engine
    wherever they are called.
    """

    if not TYPE_CHECKING:
        __slots__ = ("_client", "_engine")

    def __init__(self, address: str | None = None, **settings: Unpack[InitSettings]) -> None:
        """Check the settings; nothing is started yet. Raises what `aioray.init` raises."""
        given: Any = settings
        self._engine = engine.LocalEngine(address, **given)
        self._client = self._engine.client
        if self._engine.settings.local_mode:
            raise ValueError(
                "an Engine has worker processes: use init(local_mode=True) for tasks that run in "
                "this one"
            )
        if self._engine.settings.loop == "thread":
            raise ValueError(
                'an Engine lives on the event loop that it is started on: use init(loop="thread") '
                "for one with a thread of its own"
            )
        if TYPE_CHECKING:  # see below; this is how checkers know them with all overloads
            self.get = objects.get
            self.put = objects.put
            self.wait = objects.wait
            self.cancel = objects.cancel
            self.kill = actors.kill
            self.get_actor = actors.get_actor
            self.nodes = cluster.nodes
            self.cluster_resources = cluster.cluster_resources
            self.available_resources = cluster.available_resources
            self.timeline = cluster.timeline

    def start(self) -> None:
        """Start the engine on the running loop; workers come up in the background.

        Raises RuntimeError if there is no running loop or the engine was started before.
        """
        self._engine.start()
        attach(self._client)

    async def shutdown(self, drain: float = 0.0) -> None:
        """End the engine and all its processes. Idempotent.

        drain: seconds in which tasks may still finish, while new ones are refused; then running
        ones are interrupted, and a second later killed. Refs without an outcome raise
        EngineShutdownError.
        """
        await self._engine.shutdown(drain)

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        attach(self._client)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._engine.__aexit__(kind, error, traceback)

    def activate(self) -> AbstractContextManager[None]:
        """Let this engine serve the calls inside the `with` block."""
        return self._engine.activate()

    @property
    def session(self) -> str:
        """The name of the engine's session: for `aioray --session` and the state API."""
        return self._client.session

    @property
    def closed(self) -> bool:
        """Whether the engine can do nothing more: shut down, its loop closed, or copied by fork."""
        return self._client.closed

    def pids(self) -> list[int]:
        """Return the process ids of the template and of the workers, for monitoring."""
        return self._engine.pids()

    def health(self) -> dict[str, Any]:
        """Say how the engine is, at once: a dict for health endpoints. See `aioray.health`."""
        return self._client.health()

    if not TYPE_CHECKING:
        get = _with_engine(objects.get, on_refs=True)
        put = _with_engine(objects.put)
        wait = _with_engine(objects.wait, on_refs=True)
        cancel = _with_engine(objects.cancel, on_refs=True)
        kill = _with_engine(actors.kill, on_refs=True)
        get_actor = _with_engine(actors.get_actor)
        nodes = _with_engine(cluster.nodes)
        cluster_resources = _with_engine(cluster.cluster_resources)
        available_resources = _with_engine(cluster.available_resources)
        timeline = _with_engine(cluster.timeline)
