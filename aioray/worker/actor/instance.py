"""What a worker that is an actor does beyond running tasks: make it, find its methods, save it.

Room: worker; loaded by the first attempt that makes an actor. The functions here serve one
`WorkerLoop`, whose `instance` is the actor; where its calls run side by side, its `host` runs them.

Some methods are every actor's, unless its class has its own: they are Ray's, and few know them.
"""

from __future__ import annotations

import faulthandler
import functools
import sys
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ...client.current import ThisActor, execution_context
from ...shared import ids
from ...shared.actor_exit import SHUTDOWN, SPECIAL_METHODS, shutdown_seconds
from ...shared.printable import printable
from ...shared.serialization import Pieces
from ...shared.wire import ActorCallInfo, Creation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...shared.wire import Attempt
    from ..loop import WorkerLoop
    from ..objects import AttemptHandles

__all__ = [
    "SavedState",
    "become",
    "become_host",
    "end",
    "find",
    "is_due",
    "made_by",
    "save",
]


class SavedState:
    """The state of an actor after a call, to be sent along with the answer; or why not."""

    __slots__ = ("error", "payload", "refs")

    def __init__(
        self, payload: bytes = b"", refs: Sequence[Any] = (), error: BaseException | None = None
    ) -> None:
        self.payload = payload
        self.refs = refs  # inside the state; they must live until it is sent
        self.error = error


# ---------------------------------------------------------------- making

LET_GO_LOOKS = 200  # a millisecond apart, until threads let go of an actor, for its `__del__`


def made_by(attempt: Attempt, is_cancelled: Callable[[int], bool]) -> ThisActor:
    """Describe the actor that an attempt is to make. is_cancelled: see `ThisActor`."""
    creation = Creation._make(attempt.role[ActorCallInfo._fields.index("creation")])
    return ThisActor(
        creation.actor_id,
        creation.name,
        creation.class_name,
        ids.object_id(ids.task_id(execution_context.job, attempt.task_key), 1),
        creation.class_name,
        creation.meta,
        is_cancelled,
        asynchronous=creation.asynchronous,
        restarted=attempt.attempt > 0,
    )


def become(server: WorkerLoop, attempt: Attempt) -> bool:
    """Make this process an actor from now on; tell whether a thread with a loop makes it."""
    creation = Creation._make(attempt.role[ActorCallInfo._fields.index("creation")])
    execution_context.actor = made_by(attempt, server.channel.has_cancelled)
    server.idle = creation.class_name
    if not creation.asynchronous:
        return False
    from .loops import Loops

    server.host = Loops(server, creation.concurrency_groups)
    server.tell_calls_too()
    server.host.start(attempt)
    return True


def become_host(server: WorkerLoop, attempt: Attempt) -> None:
    """Let threads run the calls from now on, if the actor was made and allows several at once."""
    groups = Creation._make(
        attempt.role[ActorCallInfo._fields.index("creation")]
    ).concurrency_groups
    if server.instance is not None and (len(groups) > 1 or groups[0][1] > 1):
        from .threads import Threads

        server.host = Threads(server, groups)


def find(server: WorkerLoop, attempt: Attempt, use: AttemptHandles) -> Callable[..., Any]:
    """Find what the attempt calls: a method, which is remembered, or what makes the actor."""
    role = ActorCallInfo._make(attempt.role)
    if role.creation is not None:
        return _maker(server, attempt, Creation._make(role.creation), use)
    method = server.execution.functions[attempt.function] = _method(server.instance, role.method)
    return method


def _maker(
    server: WorkerLoop, attempt: Attempt, creation: Creation, use: AttemptHandles
) -> Callable[..., object]:
    cls: Any = server.execution.load_code(attempt.function)
    state = server.execution.load(attempt.arguments[-1], use) if creation.restores else None
    actor = execution_context.actor
    assert actor is not None
    actor.cls = cls
    actor.path = f"{cls.__module__}.{cls.__qualname__}"

    def make(*args: Any, **kwargs: Any) -> object:
        nonlocal state
        instance = cls(*args, **kwargs)
        if creation.restores:
            restoring = instance.__aioray_restore__(state)
            state = None
            if type(restoring) is CoroutineType:
                return _restored(instance, restoring)
        return _made(instance)

    async def _restored(instance: Any, restoring: CoroutineType[Any, Any, Any]) -> str:
        await restoring
        return _made(instance)

    def _made(instance: Any) -> str:
        """Keep the instance; return what it calls itself for the state API, empty: as its class."""
        shown = actor.shown = _shown(instance, creation.class_name)
        server.saves_every = creation.saves_every
        server.instance = instance
        return "" if shown == creation.class_name else shown

    return make


def _shown(instance: Any, class_name: str) -> str:
    """Return what stands before the lines that the actor prints."""
    cls: Any = type(instance)
    if cls.__repr__ is object.__repr__:
        return class_name
    try:
        text = repr(instance)
    except Exception:  # noqa: BLE001 - user code may raise anything
        return class_name
    return printable(" ".join(text.split())) or class_name


# ---------------------------------------------------------------- methods


def _method(instance: Any, name: str) -> Callable[..., Any]:
    """Bind the method of the class, whatever the instance itself has under that name, as in Ray.

    An instance of a class that makes methods up, by `__getattr__`, is asked for it.
    """
    cls = type(instance)
    general = SPECIAL_METHODS.get(name)
    if general is not None and not hasattr(cls, name):
        return functools.partial(general, instance)
    if name in getattr(instance, "__dict__", ()):
        for base in cls.__mro__:
            if name in base.__dict__:
                found = base.__dict__[name]
                return found.__get__(instance, cls) if hasattr(found, "__get__") else found  # type: ignore[no-any-return]
    method: Callable[..., Any] = getattr(instance, name)
    return method


# ---------------------------------------------------------------- ending


def end(server: WorkerLoop) -> None:
    """Run the hook that the class may have for the end, and let go of the actor, for `__del__`.

    The hook runs between attempts, in the main thread, a coroutine on the actor's loop. If it
    raises, that is told, and the actor ends all the same. If it takes too long, faulthandler writes
    where it is and ends the process, also if it is stuck in C code.
    """
    if server.host is None:
        execution_context.attempt = execution_context.function = None
    instance, server.instance = server.instance, None
    server.execution.functions.clear()  # methods
    faulthandler.dump_traceback_later(shutdown_seconds(), exit=True)
    try:
        hook = getattr(instance, SHUTDOWN, None)
        value = hook() if callable(hook) else None
        if type(value) is CoroutineType:
            if server.host is None:
                from .. import coroutines

                coroutines.run(value, server.interrupts)
            else:
                server.host.run_hook(value)
    except SystemExit:
        pass  # it ends anyway
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        _tell(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    hook = value = None
    # A thread whose call was answered may still be about to let go of the method.
    # Looks, not seconds: a machine that stands still for a while is no chance for that thread.
    looks = LET_GO_LOOKS if server.host else 0
    while looks and sys.getrefcount(instance) > 2:
        time.sleep(0.001)
        looks -= 1


def _tell(error: BaseException) -> None:
    import traceback

    from ...shared.failures import release

    assert execution_context.actor is not None
    lines = traceback.format_exception(error)
    sys.stderr.write(
        f"The hook {SHUTDOWN} of {execution_context.actor.class_name} has failed. The actor ends "
        f"all the same."
        f"\n{''.join(lines)}"
    )
    release(error)


# ---------------------------------------------------------------- state


def is_due(server: WorkerLoop, attempt: Attempt, error: BaseException | None) -> bool:
    """Count a call that ends now, maybe with an error; tell whether to save the state then."""
    creation = attempt.role[ActorCallInfo._fields.index("creation")]
    if creation is not None or isinstance(error, (KeyboardInterrupt, SystemExit)):
        return False
    server.unsaved += 1
    return server.unsaved >= server.saves_every


def save(server: WorkerLoop) -> SavedState:
    """Get the state from the hook that the class has for that. Raises nothing."""
    from ...client.arguments import serialize  # few actors do, and it needs more than they

    try:
        value = server.instance.__aioray_save__()
        if type(value) is CoroutineType:
            from .. import coroutines

            value = coroutines.run(value, server.interrupts)
        data, refs = serialize(value, "state", "the state that __aioray_save__ has returned")
        payload = server.objects.keep(data) if isinstance(data, Pieces) else data
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        error.add_note(
            "aioray: the call itself had ended; this comes from __aioray_save__, which saves the "
            "actor's state after it. What the call did counts as not done if the actor restarts."
        )
        return SavedState(error=error)
    server.unsaved = 0
    return SavedState(payload, refs)
