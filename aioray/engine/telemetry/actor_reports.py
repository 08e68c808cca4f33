"""What is known of the end of an actor, and the errors that its calls raise.

Room: engine. Builds texts and exceptions, decides nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...core.outcomes import DeathCause
from ...core.records import record
from ...exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    last_words,
)
from ...shared import ids
from ...shared.printable import printable
from ...shared.wire import HOOK_FAILED
from .reports import NODE_IP, DeathReport, WorkerName

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NO_GROUP", "ActorDescription", "ActorEnd", "Late", "Stuck", "forgotten_actor"]

_PROCESS_DIED = "The actor is dead because its worker process has died. Worker exit type:"
_ENDS = {
    DeathCause.EXITED: f"{_PROCESS_DIED} INTENDED_USER_EXIT Worker exit detail: Worker exits by an "
    f"user request. Worker exits with an exit code 0. It ended itself: exit_actor() or sys.exit(0) "
    f"was called in it.",
    DeathCause.KILLED: "The actor is dead because it was killed by `ray.kill`.",
    DeathCause.OUT_OF_SCOPE: "The actor is dead because all references to the actor were removed.",
    DeathCause.CREATION_FAILED: "The actor is dead because it could not be made.",
    DeathCause.GROUP_REMOVED: "The actor is dead because its placement group was removed.",
    DeathCause.SHUTDOWN: "The actor is dead because the session was shut down.",
}
NO_GROUP = "Could not create the actor because its associated placement group was removed."


@record(frozen=True, slots=True)
class ActorDescription:
    """What errors tell of an actor."""

    actor_id: str
    class_name: str
    name: str
    namespace: str


@record(frozen=True, slots=True)
class ActorEnd:
    """What is known of the end of an actor, or of one of its incarnations."""

    description: ActorDescription
    cause: DeathCause
    worker: WorkerName | None  # in which it lived
    report: DeathReport | None = None
    creation: Callable[[], BaseException] | None = None  # CREATION_FAILED: makes that error

    def one_line(self) -> str:
        """Return why the actor ended, in a sentence."""
        cause, report = self.cause, self.report
        if cause not in (DeathCause.WORKER_DIED, DeathCause.TOO_OFTEN):
            return _ENDS[cause]
        how = "worker died, nobody knows how" if report is None else report.one_line()
        text = f"{_PROCESS_DIED} SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly: {how}."
        if cause is DeathCause.TOO_OFTEN:
            text += " That was more often than its restart_policy tolerates."
        return text

    def text(self) -> str:
        """Return the text of the ActorDiedError of calls."""
        description = self.description
        lines = [
            "The actor died unexpectedly before finishing this task.",
            f"\tclass_name: {description.class_name}",
            f"\tactor_id: {description.actor_id}",
        ]
        if self.worker is not None:
            lines.append(f"\tpid: {self.worker.pid}")
        if description.name:
            lines.append(f"\tname: {description.name}")
        lines += [f"\tnamespace: {description.namespace}", f"\tip: {NODE_IP}", self.one_line()]
        if self.report is not None:
            lines += last_words(self.report.stderr_tail, self.report.python_stack)
        return "\n".join(lines)

    def notice(self) -> str:
        """Return what is logged of the end."""
        if self.creation is not None:
            return str(self.error())
        description = self.description
        name = printable(description.class_name)
        return f"Actor {name} ({description.actor_id}) has died. {self.one_line()}"

    @property
    def _how(self) -> dict[str, Any]:
        report = self.report
        if report is None:
            return {}
        return {"exit_code": report.exit_code, "signal": report.signal_name}

    def error(self) -> BaseException:
        """Return the error of calls of the dead actor."""
        description = self.description
        if self.creation is not None:
            failed = self.creation()
            if isinstance(failed, RayTaskError):  # also of an argument, whatever that lacked
                return ActorDiedError(failed, actor_id=description.actor_id)
            if isinstance(failed, RuntimeEnvSetupError) and HOOK_FAILED in str(failed):
                died = ActorDiedError(str(failed), actor_id=description.actor_id)
                died.__cause__ = failed.__cause__
                return died
            if isinstance(failed, TaskUnschedulableError):
                return ActorUnschedulableError(failed.error_message)
            if isinstance(failed, TaskPlacementGroupRemoved):
                return ActorUnschedulableError(NO_GROUP)
            return failed
        if self.cause is DeathCause.GROUP_REMOVED and self.worker is None:
            return ActorUnschedulableError(NO_GROUP)
        return ActorDiedError(self.text(), actor_id=description.actor_id, **self._how)

    def unavailable(self) -> ActorUnavailableError:
        """Return the error of a call that ran when an incarnation ended that has a successor."""
        how = "its worker has died" if self.report is None else self.report.one_line()
        return ActorUnavailableError(
            f"The actor {self.description.actor_id} is unavailable: The actor is temporarily "
            f"unavailable: {how}, and it is made again. The task may or may not have been executed "
            f"on the actor. Give the method max_task_retries to have it tried again.",
            self.description.actor_id,
            **self._how,
        )


@record(frozen=True, slots=True)
class Stuck:
    """A call of an actor waits for itself."""

    description: ActorDescription
    names: tuple[str, ...]  # see `Circle`; the call comes first

    def error(self) -> ActorUnavailableError:
        """Return the error of the call, which has not begun and never would."""
        call = self.names[0]
        steps = "".join(
            f"\t{one} waits for {other}\n" for one, other in pairwise((*self.names, call))
        )
        return ActorUnavailableError(
            f"The actor {self.description.actor_id} is unavailable: {call} can never begin, "
            f"because each of these waits for the next:\n{steps}What a constructor or a method "
            f"waits for must not need a later call of the same actor. Let its caller wait, or give "
            f"`get` a timeout, or make methods coroutines that `await`.",
            self.description.actor_id,
        )


@record(frozen=True, slots=True)
class Late:
    """An actor is being made again, and that takes too long for a call."""

    description: ActorDescription
    worker: WorkerName | None  # in which its constructor runs; None: it has not begun
    seconds: float

    def error(self) -> ActorUnavailableError:
        """Return the error of the call, which has not begun."""
        name = f"{self.description.class_name}.__init__"
        where = (
            f"{name} waits for a worker or for resources"
            if self.worker is None
            else f"{name} still runs in the process {self.worker.pid}: `aioray stack` shows where, "
            f"maybe it waits for a caller of this very actor"
        )
        return ActorUnavailableError(
            f"The actor {self.description.actor_id} is unavailable: it died, and was not made "
            f"again within the {self.seconds:g} seconds that calls wait for that. {where}. "
            f"RestartPolicy(patience=...) says how long calls wait.",
            self.description.actor_id,
        )


def forgotten_actor(ref: bytes) -> ActorDiedError:
    """Return the error of a call by a handle of an actor that is known no more."""
    actor_id = ref[8 : ids.TASK_ID_SIZE].hex()
    return ActorDiedError(
        f"The actor died unexpectedly before finishing this task.\n\tactor_id: {actor_id}\n"
        f"{_ENDS[DeathCause.OUT_OF_SCOPE]}",
        actor_id=actor_id,
    )
