"""What this worker is doing now: read by the runtime context and by the output streams.

Room: client. Written by the loop of a worker and by the hosts of actors only. Where one thing runs
at a time, `execution_context` is plain attributes. In an actor whose calls run side by side,
`share` makes it look up the call to which the asking thread or asyncio task belongs; a thread that
a call has started belongs to none. Where tasks run in the driver itself, in local mode and in
virtual time, each is in a `scope` of its own, and everything outside of these is the driver.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shared.wire import Attempt

__all__ = [
    "ExecutionContext",
    "Running",
    "ThisActor",
    "execution_context",
    "function_name",
    "in_worker_process",
    "running",
    "scope",
    "share",
    "use_scopes",
]


class Running:
    """A call of an actor that runs beside others. Made in the thread that runs it."""

    __slots__ = ("asker", "attempt", "thread")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.thread = threading.get_ident()
        self.asker: Any = None  # what the client counts for it


running: ContextVar[Running | None] = ContextVar("aioray_running", default=None)


class ThisActor:
    """The actor that this process is."""

    __slots__ = (
        "actor_id",
        "asynchronous",
        "class_name",
        "cls",
        "is_cancelled",
        "meta",
        "name",
        "path",
        "ref",
        "restarted",
        "shown",
    )

    def __init__(
        self,
        actor_id: str,
        name: str,
        class_name: str,
        ref: bytes,
        path: str,
        meta: bytes,
        is_cancelled: Callable[[int], bool],
        *,
        asynchronous: bool,
        restarted: bool,
    ) -> None:
        self.actor_id = actor_id  # in hexadecimal
        self.name = name  # empty: none
        self.class_name = class_name
        self.cls: type[Any] | None = None  # not loaded yet
        self.ref = ref  # the id of the ref that its handles hold
        self.meta = meta  # what handles are made of
        self.path = path  # module and qualified name of the class
        self.is_cancelled = is_cancelled  # whether the call with this seq, which runs, is
        self.asynchronous = asynchronous  # its methods run on event loops
        self.restarted = restarted  # another process was this actor before
        self.shown = class_name  # before each line of its output


class ExecutionContext:
    """Where user code in this process runs."""

    __slots__ = (
        "actor",
        "attempt",
        "beat",
        "env",
        "folder",
        "function",
        "hook",
        "job",
        "namespace",
        "node_id",
        "session",
        "visible_devices",
        "worker_id",
    )

    def __init__(self) -> None:
        self.actor: ThisActor | None = None  # None: this process runs tasks
        self.attempt: Attempt | None = None  # None: between attempts
        self.function: Any = None  # what runs; None: between attempts
        # Takes when what runs got on, None: now, inf: it may wait. None: not a worker.
        self.beat: Callable[[float | None], None] | None = None
        self.job = b""  # empty: not a worker
        self.node_id = ""
        self.namespace = ""
        self.session = ""
        self.folder = ""  # of the session
        self.visible_devices: str | None = None  # CUDA_VISIBLE_DEVICES as the worker found it
        self.worker_id = ""
        self.env: dict[str, Any] = {}  # the runtime environment
        self.hook = b""  # of that, pickled


class _SharedContext(ExecutionContext):
    """An `ExecutionContext` with an attempt for each thread or asyncio task that asks."""

    __slots__ = ()

    @property
    def attempt(self) -> Attempt | None:  # type: ignore[override]
        """The attempt of the call that asks; None: the thread belongs to no call."""
        call = running.get()
        return None if call is None else call.attempt


class _ScopedContext(ExecutionContext):
    """An `ExecutionContext` that is, inside a scope, that of the scope."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        inner = scope.get()
        return object.__getattribute__(self if inner is None else inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = scope.get()
        object.__setattr__(self if inner is None else inner, name, value)


execution_context = ExecutionContext()
scope: ContextVar[ExecutionContext | None] = ContextVar("aioray_scope", default=None)
"""Where the code that asks runs, if that is no process of its own."""


def in_worker_process() -> bool:
    """Tell whether this process is a worker's: not a driver, nor one that runs a task itself."""
    return bool(execution_context.job) and scope.get() is None


def use_scopes() -> None:
    """Let `execution_context` be that of the `scope`, where there is one, from now on."""
    execution_context.__class__ = _ScopedContext


def share() -> None:
    """Let calls run side by side from now on, each in a context in which `running` is set."""
    execution_context.attempt = execution_context.function = None
    execution_context.__class__ = _SharedContext


def function_name() -> str | None:
    """Return module and name of what runs, as Ray writes them; None: nothing runs."""
    attempt = execution_context.attempt
    if attempt is None:
        return None
    actor = execution_context.actor
    if actor is not None:
        where = "" if actor.cls is None else f"{_module_of(actor.cls)}."
        return f"{where}{actor.class_name}.{attempt.role[0]}"
    from .signatures import name_of  # it loads more than a worker needs that is not asked

    return f"{_module_of(execution_context.function)}.{name_of(execution_context.function)}"


def _module_of(code: Any) -> str:
    """Return the module of a function or class; for a script, the name it would have as one."""
    name: str = getattr(code, "__module__", None) or type(code).__module__
    if name != "__main__":
        return name
    for member in (code, *vars(code).values()) if isinstance(code, type) else (code,):
        compiled = getattr(member, "__code__", None)
        if compiled is not None:
            stem, suffix = os.path.splitext(os.path.basename(compiled.co_filename))
            return stem if suffix == ".py" else name
    return name
