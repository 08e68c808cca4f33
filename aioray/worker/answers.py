"""Answers for attempts: with what came of them, or with how they failed and what that means.

Room: worker. An answer goes into the pipe, where it is safe whatever becomes of this process. Where
calls run side by side, whoever has executed one answers, and the host takes care of the order.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle

from ..client.current import execution_context
from ..shared import ids
from ..shared.serialization import dumps, load
from ..shared.wire import ANSWER, NOTE_SAVED, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shared.wire import Attempt
    from .actor.instance import SavedState
    from .channel import Channel
    from .objects import AttemptHandles, LocalObjects

__all__ = ["Answers", "hidden_files"]


class Answers:
    """Puts the answers of one worker into its pipe."""

    def __init__(self, channel: Channel, objects: LocalObjects, actor: Callable[[], Any]) -> None:
        """Prepare to answer. actor: returns the instance that this process is, or None."""
        self.write = channel.write  # puts them into the pipe
        self._objects = objects
        self._actor = actor
        self._rules: dict[bytes, Any] = {}  # unpickled

    def answer(
        self,
        seq: int,
        status: int,
        payload: bytes,
        started: float,
        duration: float,
        use: AttemptHandles,
        delay: float = 0.0,
        state: SavedState | None = None,
    ) -> None:
        """Put an answer into the pipe, where it is safe; the doorbell comes later.

        state: of the actor after the call; it goes in the same piece.
        """
        if use.opened:
            self._objects.tell_kept(seq, use)
        frame = ANSWER.pack(len(payload), seq, status, started, duration, delay) + payload
        if state is not None:
            saved = ANSWER.pack(len(state.payload), seq, NOTE_SAVED, 0.0, 0.0, 0.0)
            frame = saved + state.payload + frame
        self.write(frame)

    def answer_error(
        self,
        attempt: Attempt,
        error: BaseException,
        status: int,
        started: float,
        use: AttemptHandles,
        duration: float = 0.0,
        delay: float = 0.0,
        state: SavedState | None = None,
    ) -> None:
        """Write how the attempt failed, and let nothing of it live on. state: see `answer`."""
        from ..shared.failures import release

        payload = self.describe(error, attempt)
        release(error)
        self.answer(attempt.seq, status, payload, started, duration, use, delay, state)

    def describe(self, error: BaseException, attempt: Attempt) -> bytes:
        """Serialize an error that an attempt has raised, with its traceback."""
        from ..shared.failures import capture

        return capture(
            error,
            function_name=attempt.name,
            proctitle=f"ray::{attempt.name}",
            pid=os.getpid(),
            ip="127.0.0.1",
            dumps=dumps,
            loads=load,
            hide_files=hidden_files(),
            task_id=ids.task_id(execution_context.job, attempt.task_key).hex(),
            actor=self.this_actor(),
        )

    def this_actor(self) -> tuple[str, str] | None:
        """Return the id and the repr of the actor that this process is; None: it is none."""
        actor = execution_context.actor
        if actor is None:
            return None
        try:
            instance = self._actor()
            shown = f"<{actor.path} object>" if instance is None else repr(instance)
        except Exception:  # noqa: BLE001 - user code may raise anything
            shown = f"<{actor.path} object>"
        return actor.actor_id, shown

    def judge(self, error: BaseException, attempt: Attempt) -> tuple[Status, float]:
        """Judge what the error means for retrying, and which delay it asks for."""
        from ..exceptions import DoNotRetry, RayTaskError, RetryTask, TaskCancelledError

        if isinstance(error, KeyboardInterrupt):
            return Status.INTERRUPTED, 0.0
        if isinstance(error, RetryTask):
            return Status.ASKED_FOR_RETRY, error.delay
        if isinstance(error, DoNotRetry):
            return Status.FORBADE_RETRY, 0.0
        retryable = self.may_retry(error, attempt)
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, TaskCancelledError):  # of a task that this one has waited for
            cancelled = Status.RAISED_CANCELLED_RETRYABLE, Status.RAISED_CANCELLED
            return cancelled[not retryable], 0.0
        return (Status.RAISED_RETRYABLE if retryable else Status.RAISED), 0.0

    def may_retry(self, error: BaseException, attempt: Attempt) -> bool:
        """Tell whether `retry_exceptions` allows another attempt after this error."""
        rule = attempt.retry_rule
        if isinstance(rule, bool):
            return rule
        from ..shared.retry_rules import allows

        try:
            allowed = self._rules.get(rule)
            if allowed is None:
                allowed = self._rules[rule] = load(rule)
            return allows(allowed, error)
        except Exception as broken:  # noqa: BLE001 - user code may raise anything
            error.add_note(
                f"aioray: not retried, because retry_exceptions itself failed: {broken!r}"
            )
        return False


def hidden_files() -> frozenset[str]:
    """List the files whose frames users need not see in a traceback: aioray's, and what it runs."""
    files = {cloudpickle.cloudpickle.__file__}
    for name, module in tuple(sys.modules.items()):
        if name.startswith("aioray.") and not name.startswith("aioray.examples"):
            files.add(getattr(module, "__file__", None) or "")
    if "aioray.worker.coroutines" in sys.modules:
        files.add(sys.modules["asyncio.base_events"].__file__ or "")
    return frozenset(files)
