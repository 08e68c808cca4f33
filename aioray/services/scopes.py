"""`scope`: tasks and actors that end, at the latest, when a block of code is left.

Room: services. A scope is to tasks in workers what a task group is to coroutines. It lives in a
cancel scope of anyio, which ends the block when a task fails; so it works the same below anyio's
cancel scopes and task groups, `asyncio.timeout` and `asyncio.TaskGroup`. No asyncio task is made.

Leaving stops what has no outcome, with all that it has submitted, and waits until no worker is at
it any more: shielded and bounded, see `client.stopping`. What the block then raises is

- the error of the block alone, if it is that of being cancelled, by whoever has done it;
- else an ExceptionGroup of what the tasks have raised and of what the block has raised. A failure
  that the block has met by awaiting the ref stands there once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ..actor import (
    ActorClass,
    ActorHandle,
    ActorMethod,
    BoundActorOptions,
    BoundMethodOptions,
)
from ..client.awaiting import get_running_loop
from ..client.entry import StoredFailure
from ..client.generators import ObjectRefGenerator
from ..client.refs import ObjectRef
from ..client.stopping import Signal, Stopping, checked_grace, shielded
from ..exceptions import RayError, TaskCancelledError
from ..remote_function import BoundOptions, RemoteFunction
from ..shared.options import ActorOptions
from .arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ..client.entry import ObjectEntry
    from .scope_types import ScopeCalls
else:
    ScopeCalls = object

__all__ = ["Scope", "scope"]

_BARE = (KeyboardInterrupt, SystemExit, GeneratorExit)  # that a block may raise: never in a group


def scope(
    *,
    on_exit: Literal["cancel", "wait"] = "cancel",
    cancel_on_failure: bool = True,
    grace: float | None = None,
) -> Scope:
    """Make a scope: tasks and actors submitted in it do not outlive its block.

        async with aioray.scope() as scope:
            ref = scope.submit(f, x)
            value = await ref

    Leaving the block, in whatever way, cancels what is left and waits for it: tasks are
    interrupted, killed `grace` seconds later (5 by default), and so is all that they have
    submitted; actors are killed. When the block has been left no worker is at any of it. To have
    the results instead, await them in the block, or `await scope.join()`, or say on_exit="wait":
    then leaving the block normally waits for all of its tasks first.

    The first task that fails cancels the others and the block, and comes out in an ExceptionGroup,
    with the user's own type inside, for `except* ValueError`. A cancelled task is no failure.
    cancel_on_failure=False: failures are left to those who await the refs.

    Scopes nest, and a scope whose surroundings are cancelled takes its tasks along, whether by
    anyio's cancel scopes, by `asyncio.timeout`, or by cancelling the asyncio task.
    Raises ValueError or TypeError for an argument that is none of these.
    """
    if on_exit not in ("cancel", "wait"):
        raise ValueError(f'on_exit is "cancel" or "wait", not {on_exit!r}')
    return Scope(
        waits=on_exit == "wait",
        cancel_on_failure=bool(cancel_on_failure),
        grace=checked_grace(grace),
    )


class Scope(ScopeCalls):
    """What `aioray.scope()` returns. For one `async with` block, of one event loop."""

    def __init__(self, *, waits: bool, cancel_on_failure: bool, grace: float) -> None:
        self._waits = waits
        self._cancel_on_failure = cancel_on_failure
        self._grace = grace
        self._state: Literal["new", "open", "cancelled", "left"] = "new"
        self._cancel_scope: anyio.CancelScope
        self._arrivals: Arrivals
        self._stopping: Stopping
        self._changed = Signal()
        self._joined: list[asyncio.Future[None]] = []
        self._actors: dict[ObjectEntry, None] = {}
        self._failures: list[BaseException] = []

    # ------------------------------------------------------------ in the block

    if not TYPE_CHECKING:  # what it takes and gives is said by ScopeCalls

        def submit(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
            """Submit `target.remote(*args, **kwargs)`, and return what that does.

            target: a remote function, an actor's method, an actor class, or one of these with
            `.options(...)`. The refs can be passed on, and outlive the block; what their tasks are
            not done with when it is left is cancelled. In a scope that is cancelled a task is
            cancelled before it begins.
            Raises what `.remote()` does; TypeError for what is not remote; ValueError for calls
            without a ref (num_returns=0), and for actors that others may have or that are to live
            on (get_if_exists, detached); RuntimeError outside of the block.
            """
            self._check_open("submit()")
            if not hasattr(target, "remote"):
                raise TypeError(_not_remote(target))
            _refuse_unscoped(target)
            given = target.remote(*args, **kwargs)
            self._take_in(given)
            return given

    def cancel(self) -> None:
        """Cancel all that the scope has submitted, and the block at its next `await`.

        The block is left without an error then. For the loop's own thread.
        """
        self._check_open("cancel()")
        self._cancel()

    async def join(self) -> None:
        """Wait until every task of the scope has ended, those submitted meanwhile included.

        Actors are not waited for, nor the items of generators beyond their task's end. If one
        fails, the block is cancelled, and so is this.
        """
        self._check_open("join()")
        while self._arrivals.watched:
            self._look()
            if self._arrivals.watched:
                future = get_running_loop().create_future()
                self._joined.append(future)
                await future

    # ------------------------------------------------------------ the block

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError("A scope is for one `async with` block: make another one.")
        loop = get_running_loop()
        self._arrivals = Arrivals(loop, self._look)
        self._stopping = Stopping(self._grace, self._changed.send)
        self._cancel_scope = anyio.CancelScope()
        self._cancel_scope.__enter__()
        self._state = "open"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        raised = error
        if error is None and self._waits:
            try:
                await self.join()
            except asyncio.CancelledError as cancelled:
                raised = cancelled
        self._state = "left"
        interrupted = await self._end()
        raised = raised or interrupted
        errors = self._failures
        if raised is not None and not isinstance(raised, (asyncio.CancelledError, *_BARE)):
            errors = [each for each in errors if not _is_same(each, raised)]
            errors.append(raised)
        if errors and not isinstance(raised, _BARE):
            raised = BaseExceptionGroup("errors in an aioray scope", errors)
            raised.__suppress_context__ = True
        swallowed = bool(
            self._cancel_scope.__exit__(
                None if raised is None else type(raised),
                raised,
                None if raised is None else raised.__traceback__,
            )
        )
        self._failures = []
        if swallowed or raised is None:
            return True
        if raised is error:
            return False
        try:
            raise raised
        finally:
            del raised, errors, interrupted  # with this frame they would be a circle

    # ------------------------------------------------------------ within

    def _check_open(self, what: str) -> None:
        if self._state in ("new", "left"):
            raise RuntimeError(
                f"{what} of a scope is for its block, `async with aioray.scope() as scope:`, "
                f"which {'was left' if self._state == 'left' else 'has not begun'}."
            )

    def _take_in(self, given: Any) -> None:
        if isinstance(given, ActorHandle):
            entries = [given._aioray_ref.entry]
            self._actors[entries[0]] = None
        else:
            refs: Sequence[Any] = given if isinstance(given, list) else [given]
            entries = [_ref_of(ref).entry for ref in refs]
            for entry in entries:
                self._arrivals.watch(entry)
        if self._state == "cancelled":
            for entry in entries:
                self._stopping.stop(entry)

    def _look(self) -> None:
        """See which tasks have ended, and end all others if one has failed."""
        for entry in self._arrivals.take():
            if type(entry.outcome) is StoredFailure and self._cancel_on_failure:
                error = entry.outcome.exception()
                if isinstance(error, TaskCancelledError):
                    continue
                if not any(_is_same(error, known) for known in self._failures):
                    self._failures.append(error)
        if self._failures and self._state == "open":
            self._cancel()
        joined, self._joined = self._joined, []
        for future in joined:
            if not future.done():
                future.set_result(None)
        self._changed.send()

    def _cancel(self) -> None:
        self._state = "cancelled"
        self._cancel_scope.cancel()
        self._stop_all()

    def _stop_all(self) -> None:
        for entry in [*self._arrivals.watched, *self._actors]:
            self._stopping.stop(entry)
        self._actors.clear()

    async def _end(self) -> asyncio.CancelledError | None:
        """Stop what is left, and wait for it; return the cancellation that came meanwhile."""
        self._look()
        self._stop_all()

        def is_over() -> bool:
            self._look()
            return not self._stopping.left and not self._arrivals.watched

        cancelled = await shielded(is_over, self._changed, self._stopping.seconds)
        self._stopping.give_up()
        self._arrivals.forget()
        return cancelled


def _ref_of(given: Any) -> ObjectRef[Any]:
    """Return the ref that is ready when a task has ended."""
    if isinstance(given, ObjectRefGenerator):
        return given.completed()
    if not isinstance(given, ObjectRef):
        raise TypeError(f"scope.submit() takes what gives refs when it is called, not {given!r}")
    return given


def _is_same(error: BaseException, other: BaseException) -> bool:
    """Tell whether two errors are of the same failed task: each who asks gets one of his own."""
    if error is other:
        return True
    if not isinstance(error, RayError) or type(error) is not type(other):
        return False
    attempts, others = error.attempts, other.attempts
    if attempts and others:
        return attempts == others
    # At least one of them is of a task that was never run, and failed as its argument has.
    return repr(getattr(error, "cause", error)) == repr(getattr(other, "cause", other))


def _not_remote(target: Any) -> str:
    if isinstance(target, ActorHandle):
        return (
            f"scope.submit() takes a method of an actor, as in scope.submit(handle.method, ...), "
            f"and not its handle {target!r}."
        )
    hint = (
        f" Decorate it with @aioray.remote, or submit aioray.remote({target.__name__})."
        if callable(target) and hasattr(target, "__name__")
        else ""
    )
    return (
        f"scope.submit() takes a remote function, an actor's method or an actor class, and its "
        f"arguments after it; not {target!r}.{hint}"
    )


def _refuse_unscoped(target: Any) -> None:
    """Raise ValueError for what could not end with a scope."""
    options: Any = None
    if isinstance(target, ActorClass):
        options = target._aioray_options
    elif isinstance(target, (RemoteFunction, BoundOptions, ActorMethod, BoundActorOptions)):
        options = target._call.options
    if isinstance(target, BoundMethodOptions):
        num_returns = target._given.get("num_returns")
    else:
        num_returns = getattr(options, "num_returns", None)
    if num_returns == 0:
        raise ValueError(
            "A call with num_returns=0 has no ref by which a scope could wait for it or cancel it: "
            "use num_returns=1."
        )
    if isinstance(options, ActorOptions) and (
        options.get_if_exists or options.lifetime == "detached"
    ):
        raise ValueError(
            "An actor of a scope is ended with it, so it can be neither detached nor one that "
            "others may have (get_if_exists): make it with .remote(), outside of the scope."
        )
