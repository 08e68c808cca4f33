"""How a failure is told: from the core's record to the exception that `get` raises.

Room: engine. Builds texts and exceptions, decides nothing. What a dead worker left behind is
gathered in a `DeathReport` while it can still be read.
"""

from __future__ import annotations

import functools
import os
import signal
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...client.refs import StoredFailure
from ...core.devices import UNIT
from ...core.groups import Group
from ...core.model import Actor
from ...core.outcomes import DeathCause, Failure, FailureKind
from ...exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    AttemptInfo,
    EngineShutdownError,
    ObjectReconstructionFailedError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
    WorkerStartupError,
    last_words,
)
from ...shared import ids
from ...shared.failures import dependency_error, rebuild, summary
from ...shared.printable import printable
from ...shared.wire import HOOK_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...core.commands import ReportStarved
    from ...core.devices import Demand
    from ...core.model import Task
    from ...core.outcomes import AttemptRecord

__all__ = [
    "ActorEnd",
    "ActorFacts",
    "DeathReport",
    "StartReport",
    "WorkerName",
    "describe",
    "error_type",
    "exception_builder",
    "forgotten_actor",
    "infeasible",
    "starved",
    "unreconstructable",
]

NODE_IP = "127.0.0.1"
SHOWN = 5  # at most, of those that wait for what others keep, and of those others

_ERROR_TYPES = {
    FailureKind.APPLICATION: "TASK_EXECUTION_EXCEPTION",
    FailureKind.WORKER_DIED: "WORKER_DIED",
    FailureKind.CANCELLED: "TASK_CANCELLED",
    FailureKind.DEPENDENCY: "TASK_EXECUTION_EXCEPTION",
    FailureKind.WORKER_STARTUP: "WORKER_STARTUP_FAILED",
    FailureKind.TOO_MANY_BLOCKED: "WORKER_STARTUP_FAILED",
    FailureKind.ENVIRONMENT: "RUNTIME_ENV_SETUP_FAILED",
    FailureKind.GROUP_REMOVED: "TASK_PLACEMENT_GROUP_REMOVED",
    FailureKind.UNSCHEDULABLE: "TASK_UNSCHEDULABLE_ERROR",
    FailureKind.ACTOR_DIED: "ACTOR_DIED",
    FailureKind.ACTOR_UNAVAILABLE: "ACTOR_UNAVAILABLE",
    FailureKind.CIRCLE: "ACTOR_UNAVAILABLE",
    FailureKind.OVERDUE: "ACTOR_UNAVAILABLE",
    FailureKind.LOST: "OBJECT_LOST",
    FailureKind.SHUTDOWN: "LOCAL_RAYLET_DIED",
}

_UNRECONSTRUCTABLE = {
    "MAX_ATTEMPTS_EXCEEDED": "Its task has used up max_retries, which counts lost results too.",
    "RETRIES_DISABLED": "Its task has max_retries=0, which forbids to run it again.",
    "TASK_CANCELLED": "Its task was cancelled, and is not run again.",
    "LINEAGE_EVICTED": "The arguments of its task were given up, because there was no room for "
    "them in memory, or in RAY_max_lineage_bytes.",
    "PUT": "It was made by put(), so no task can compute it again.",
    "REF_NOT_FOUND": "The last ref to it is gone, and with it what is known of its task.",
}


@dataclass(frozen=True, slots=True)
class WorkerName:
    """How a worker is called outside."""

    hex_id: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class StartReport:
    """Why a worker did not come up."""

    reason: str
    output: str = ""  # what the starting process printed
    error: bytes = b""  # the exception that ended its set-up, for `aioray.shared.failures.rebuild`


@dataclass(frozen=True, slots=True)
class DeathReport:
    """What is known of a worker's end."""

    worker: WorkerName
    status: int | None  # as from waitpid; None: nobody could tell
    oom_killed: bool = False
    stderr_tail: str = ""
    python_stack: str = ""
    template_death: str = ""  # if it died because the template did
    discarded: str = ""  # why it was killed, if it could not be worked with

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None if it was killed by a signal."""
        if self.status is None or not os.WIFEXITED(self.status):
            return None
        return os.WEXITSTATUS(self.status)

    @property
    def signal_name(self) -> str | None:
        """The signal that killed it, or None."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        number = os.WTERMSIG(self.status)
        try:
            return signal.Signals(number).name
        except ValueError:  # a real-time signal
            return f"signal {number}"

    def one_line(self) -> str:
        """How it ended, in a few words."""
        if self.discarded:
            return f"worker was killed: {self.discarded}"
        if self.oom_killed:
            return "worker died: out of memory, killed by the kernel"
        if self.template_death:
            return "worker died with its template process"
        if self.signal_name is not None:
            return f"worker died of {self.signal_name}"
        if self.exit_code is not None:
            return f"worker exited with code {self.exit_code}"
        return "worker died, nobody knows how"


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What errors tell of an actor."""

    actor_id: str
    class_name: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class ActorEnd:
    """What is known of the end of an actor, or of one of its incarnations."""

    facts: ActorFacts
    cause: DeathCause
    worker: WorkerName | None  # in which it lived
    report: DeathReport | None = None
    creation: Callable[[], BaseException] | None = None  # CREATION_FAILED: makes that error

    def one_line(self) -> str:
        """Why it ended, in a sentence."""
        cause, report = self.cause, self.report
        if cause not in (DeathCause.WORKER_DIED, DeathCause.TOO_OFTEN):
            return _ENDS[cause]
        how = "worker died, nobody knows how" if report is None else report.one_line()
        text = f"{_PROCESS_DIED} SYSTEM_ERROR Worker exit detail: Worker exits unexpectedly: {how}."
        if cause is DeathCause.TOO_OFTEN:
            text += " That was more often than its restart_policy tolerates."
        return text

    def text(self) -> str:
        """The text of the ActorDiedError of calls."""
        facts = self.facts
        lines = [
            "The actor died unexpectedly before finishing this task.",
            f"\tclass_name: {facts.class_name}",
            f"\tactor_id: {facts.actor_id}",
        ]
        if self.worker is not None:
            lines.append(f"\tpid: {self.worker.pid}")
        if facts.name:
            lines.append(f"\tname: {facts.name}")
        lines += [f"\tnamespace: {facts.namespace}", f"\tip: {NODE_IP}", self.one_line()]
        if self.report is not None:
            lines += last_words(self.report.stderr_tail, self.report.python_stack)
        return "\n".join(lines)

    def notice(self) -> str:
        """What is logged of it."""
        if self.creation is not None:
            return str(self.error())
        facts = self.facts
        name = printable(facts.class_name)
        return f"Actor {name} ({facts.actor_id}) has died. {self.one_line()}"

    @property
    def _how(self) -> dict[str, Any]:
        report = self.report
        if report is None:
            return {}
        return {"exit_code": report.exit_code, "signal": report.signal_name}

    def error(self) -> BaseException:
        """The error of calls of the dead actor."""
        facts = self.facts
        if self.creation is not None:
            failed = self.creation()
            if isinstance(failed, RuntimeEnvSetupError) and HOOK_FAILED in str(failed):
                died = ActorDiedError(str(failed), actor_id=facts.actor_id)
                died.__cause__ = failed.__cause__
                return died
            if isinstance(failed, TaskUnschedulableError):
                return ActorUnschedulableError(failed.error_message)
            if isinstance(failed, TaskPlacementGroupRemoved):
                return ActorUnschedulableError(_NO_GROUP)
            if not isinstance(failed, RayTaskError):
                return failed
            return ActorDiedError(failed, actor_id=facts.actor_id)
        if self.cause is DeathCause.GROUP_REMOVED and self.worker is None:
            return ActorUnschedulableError(_NO_GROUP)
        return ActorDiedError(self.text(), actor_id=facts.actor_id, **self._how)

    def unavailable(self) -> ActorUnavailableError:
        """The error of a call that was running when an incarnation ended that has a successor."""
        how = "its worker has died" if self.report is None else self.report.one_line()
        return ActorUnavailableError(
            f"The actor {self.facts.actor_id} is unavailable: The actor is temporarily "
            f"unavailable: {how}, and it is made again. The task may or may not have been executed "
            f"on the actor. Give the method max_task_retries to have it tried again.",
            self.facts.actor_id,
            **self._how,
        )


@dataclass(frozen=True, slots=True)
class Stuck:
    """A call of an actor waits for itself."""

    facts: ActorFacts
    names: tuple[str, ...]  # see `Circle`; the call comes first

    def error(self) -> ActorUnavailableError:
        """The error of the call, which has not begun and never would."""
        call = self.names[0]
        steps = "".join(
            f"\t{one} waits for {other}\n" for one, other in pairwise((*self.names, call))
        )
        return ActorUnavailableError(
            f"The actor {self.facts.actor_id} is unavailable: {call} can never begin, because each "
            f"of these waits for the next:\n{steps}What a constructor or a method waits for must "
            f"not need a later call of the same actor. Let its caller wait, or give `get` a "
            f"timeout, or make methods coroutines that `await`.",
            self.facts.actor_id,
        )


@dataclass(frozen=True, slots=True)
class Late:
    """An actor is being made again, and that takes too long for a call."""

    facts: ActorFacts
    worker: WorkerName | None  # in which its constructor runs; None: it has not begun
    seconds: float

    def error(self) -> ActorUnavailableError:
        """The error of the call, which has not begun."""
        name = f"{self.facts.class_name}.__init__"
        where = (
            f"{name} waits for a worker or for resources"
            if self.worker is None
            else f"{name} still runs in the process {self.worker.pid}: `aioray stack` shows where, "
            f"maybe it waits for a caller of this very actor"
        )
        return ActorUnavailableError(
            f"The actor {self.facts.actor_id} is unavailable: it died, and was not made again "
            f"within the {self.seconds:g} seconds that calls wait for that. {where}. "
            f"RestartPolicy(patience=...) says how long calls wait.",
            self.facts.actor_id,
        )


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


def forgotten_actor(ref: bytes) -> ActorDiedError:
    """The error of a call by a handle of an actor that is known no more."""
    actor_id = ref[8 : ids.TASK_ID_SIZE].hex()
    return ActorDiedError(
        f"The actor died unexpectedly before finishing this task.\n\tactor_id: {actor_id}\n"
        f"{_ENDS[DeathCause.OUT_OF_SCOPE]}",
        actor_id=actor_id,
    )


def infeasible(task: Task, needs: Mapping[str, float], total: Mapping[str, float]) -> str:
    """Why a task, or the reservation of a placement group, will wait for ever."""
    group, name = task.scheduling_class.reserves, printable(task.name)
    if group is None:
        return (
            f"Task {name} asks for {needs}, but this machine has {total} in total: it will "
            f"never run. Give init() more num_cpus, num_gpus or resources, or ask for less."
        )
    if group.nodes_wanted > 1:
        return (
            f"The {name} has {group.nodes_wanted} bundles and the strategy STRICT_SPREAD, "
            f"which needs as many machines, and there is one: it will never be ready. Use another "
            f"strategy."
        )
    if all(amount <= total.get(name, 0.0) for name, amount in needs.items()):
        shares = ", ".join(f"{amount / UNIT:g}" for amount in group.devices_wanted if amount)
        return (
            f"The {name} asks for {shares} of a GPU in its bundles, and these do not fit on "
            f"the {total['GPU']:g} that this machine has, as a share is of one GPU: it will never "
            f"be ready. Give init() more num_gpus, or ask for other shares."
        )
    return (
        f"The {name} asks for {needs} in its bundles together, but this machine has {total} "
        f"in total: it will never be ready. Give init() more num_cpus, num_gpus or resources, or "
        f"ask for less."
    )


_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # of init()


def starved(command: ReportStarved, title: Callable[[Group], str]) -> str:
    """Who waits for what, who holds it for life, and what to do. title: what a group is called."""
    first, count = command.waiting[0][0], sum(count for _, count in command.waiting)
    cls = first.scheduling_class
    waiting = ", ".join(_some([_waiting(task, count) for task, count in command.waiting]))
    one = count == 1
    lines = Counter(
        f"{_holder(holding.holder, title)} holds {_amounts(holding.amounts)}"
        for holding in command.holdings
    )
    holders = _some([line if n == 1 else f"{line} ({n} times)" for line, n in lines.items()])
    kinds = {type(holding.holder) for holding in command.holdings}
    advice: list[str] = []
    if Actor in kinds:
        advice.append("end an actor that is no longer needed, by kill() or with its last handle")
    if Group in kinds:
        advice.append("remove a placement group with remove_placement_group()")
    if kinds - {Actor, Group}:
        advice.append(
            "ask for it only in tasks that use it, as one that waits for others gives back nothing "
            "but its CPUs"
        )
    if cls.group is None:
        options = [_OPTIONS.get(name, "resources") for name, _ in cls.demand]
        advice.append(f"give init() more {' and '.join(dict.fromkeys(options))}")
    else:
        advice.append(f"make the {title(cls.group)} with larger bundles")
    return (
        f"{waiting[0].upper()}{waiting[1:]} {'waits' if one else 'wait'} for "
        f"{_amounts(cls.demand)}{'' if one else ' each'}, and no task that ends will free that: "
        f"{'; '.join(holders)}. What to do: {', or '.join(advice)}."
    )


def _some(texts: list[str]) -> list[str]:
    return texts if len(texts) <= SHOWN else [*texts[:SHOWN], f"and {len(texts) - SHOWN} others"]


def _waiting(task: Task, count: int) -> str:
    if task.scheduling_class.reserves is not None:
        return printable(task.name)
    kind, name = "task", printable(task.name)
    if task.actor is not None:
        kind, name = "actor", _actor_name(task.actor)
    return f"{kind} {name}" if count == 1 else f"{count} {kind}s {name}"


def _holder(holder: Actor | Group | Task, title: Callable[[Group], str]) -> str:
    if isinstance(holder, Actor):
        return f"actor {_actor_name(holder)}"
    if isinstance(holder, Group):
        return title(holder)
    return f"task {printable(holder.name)}, which waits for others,"


def _actor_name(actor: Actor) -> str:
    facts = actor.payload.facts
    name = printable(facts.class_name)
    return f"{name} named {printable(facts.name)}" if facts.name else name


def _amounts(demand: Demand) -> str:
    return str({name: amount / UNIT for name, amount in demand})


def describe(record: AttemptRecord) -> str:
    """How one attempt ended, in one line."""
    kind, detail = record.kind, record.detail
    if isinstance(detail, bytes) and detail:
        if kind is FailureKind.APPLICATION:
            return f"raised {summary(detail)}"
        return "cancelled while it ran"
    if isinstance(detail, DeathReport):
        how = detail.one_line()
        died = (FailureKind.WORKER_DIED, FailureKind.ACTOR_DIED, FailureKind.ACTOR_UNAVAILABLE)
        return how if kind in died else f"{kind.value}: {how}"
    return kind.value


def error_type(kind: FailureKind) -> str:
    """What Ray calls a failure of this kind."""
    return _ERROR_TYPES[kind]


def _attempt_info(
    record: AttemptRecord, worker: WorkerName | None, unix_offset: float
) -> AttemptInfo:
    started = record.started_at
    return AttemptInfo(
        number=record.number,
        worker_id=None if worker is None else worker.hex_id,
        pid=None if worker is None else worker.pid,
        started_at=None if started is None else started + unix_offset,
        duration=record.duration,
        error_type=error_type(record.kind),
        ended=describe(record),
    )


def unreconstructable(object_id: str, reason: str) -> StoredFailure:
    """What stands for an object that is lost and must not, or cannot, be computed again."""
    return StoredFailure(functools.partial(_lost, object_id, reason))


def _lost(object_id: str, reason: str) -> ObjectReconstructionFailedError:
    return ObjectReconstructionFailedError(
        object_id,
        reason=f"OBJECT_UNRECONSTRUCTABLE_{reason}",
        reason_message=_UNRECONSTRUCTABLE[reason],
    )


def exception_builder(
    task: Task,
    failure: Failure,
    *,
    index: int,
    job: bytes,
    workers: Sequence[WorkerName | None],
    unix_offset: float,
) -> Callable[[], BaseException]:
    """A function that makes a new instance of the task's error at each call.

    index: of the return value in question, from 1.
    workers: the names of the workers of `failure.attempts`, in the same order.
    unix_offset: what turns monotonic seconds into Unix seconds.
    """
    attempts = tuple(
        _attempt_info(record, worker, unix_offset)
        for record, worker in zip(failure.attempts, workers, strict=True)
    )
    upstream = None if failure.upstream is None else failure.upstream.returns
    kind, detail = failure.kind, failure.detail
    if kind is FailureKind.LOST and isinstance(detail, StoredFailure):
        kind, upstream = FailureKind.DEPENDENCY, detail  # an argument that cannot be had again
    facts = _Facts(task.name, task.label, index, kind, detail, job, upstream)
    return _Builder(facts, attempts)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an error is made of; holds no task, so that an old error keeps nothing alive."""

    name: str
    label: ids.Label
    index: int
    kind: FailureKind
    detail: Any
    job: bytes
    upstream: Any  # StoredFailure of the argument

    @property
    def task_id(self) -> str:
        return ids.task_id(self.job, self.label).hex()


class _Builder:
    """Makes a task's error anew at each call."""

    __slots__ = ("attempts", "facts")

    def __init__(self, facts: _Facts, attempts: tuple[AttemptInfo, ...]) -> None:
        self.facts = facts
        self.attempts = attempts

    def __call__(self) -> BaseException:
        # From the first cause on, one after the other: a chain of failed tasks may be long.
        chain = [self]
        while chain[-1].facts.kind is FailureKind.DEPENDENCY:
            upstream = chain[-1].facts.upstream.build
            if not isinstance(upstream, _Builder):
                break
            chain.append(upstream)
        first = chain[-1]
        if first.facts.kind is FailureKind.DEPENDENCY:
            error: BaseException = first.facts.upstream.exception()
        else:
            error = _build(first.facts, first.attempts)
            chain.pop()
        for each in reversed(chain):
            dependent = dependency_error(
                error, function_name=each.facts.name, pid=os.getpid(), ip=NODE_IP
            )
            dependent.attempts = each.attempts
            error = dependent.as_instanceof_cause()
        return error


_NO_GROUP = "Could not create the actor because its associated placement group was removed."
_NO_ACTOR = "f" * 24  # in the ids of tasks that are no actor's


def _build(facts: _Facts, attempts: tuple[AttemptInfo, ...]) -> BaseException:
    """The error of a task that has failed by itself."""
    detail = facts.detail
    error: RayError
    if facts.kind is FailureKind.LOST:
        task_id = ids.task_id(facts.job, facts.label)
        error = _lost(ids.object_id(task_id, facts.index).hex(), detail)
    elif facts.kind is FailureKind.SHUTDOWN:
        # Also for a task that the shutdown has interrupted: that was nobody's wish to cancel.
        error = EngineShutdownError(
            f"The session was shut down before task {facts.name} had finished."
        )
    elif isinstance(detail, ActorEnd):
        dead = facts.kind is FailureKind.ACTOR_DIED
        error = detail.error() if dead else detail.unavailable()  # type: ignore[assignment]
    elif isinstance(detail, (Stuck, Late)):
        error = detail.error()
    elif facts.kind is FailureKind.GROUP_REMOVED:
        error = TaskPlacementGroupRemoved()
    elif facts.kind is FailureKind.UNSCHEDULABLE:
        error = TaskUnschedulableError(detail)
    elif isinstance(detail, bytes) and detail:
        error = rebuild(detail, attempts)
    elif facts.kind is FailureKind.WORKER_DIED:
        error = _crash(facts, detail, attempts)
    elif facts.kind is FailureKind.CANCELLED:
        killed = bool(attempts) and attempts[-1].ended.startswith(f"{facts.kind.value}: ")
        message = f"Task {facts.name} was cancelled: its worker was killed." if killed else None
        actor_id = facts.task_id[16:]  # see `ids`
        if not killed and not actor_id.startswith(_NO_ACTOR):
            message = (
                f"The task {facts.task_id} is canceled from an actor {actor_id} before it executes."
            )
        error = TaskCancelledError(facts.task_id, message)
    elif facts.kind is FailureKind.TOO_MANY_BLOCKED:
        error = WorkerStartupError(
            f"No worker process was started for task {facts.name}: too many tasks wait for tasks "
            f"that they have submitted, each in a process of its own. A recursion without an end?",
            "",
        )
    elif facts.kind is FailureKind.ENVIRONMENT:
        error = _not_set_up(facts, detail)
    else:
        reason = detail.reason if isinstance(detail, StartReport) else detail.one_line()
        output = detail.output if isinstance(detail, StartReport) else detail.stderr_tail
        error = WorkerStartupError(
            f"No worker process could be started for task {facts.name}: {reason}", output
        )
    error.attempts = attempts
    return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error


def _not_set_up(facts: _Facts, report: StartReport) -> RuntimeEnvSetupError:
    lines = [f"Task {facts.name} has no worker. {report.reason}"]
    cause: BaseException | None = None
    if report.error:
        raised = rebuild(report.error)
        lines.append(str(raised))
        cause = raised.cause
    if report.output:
        lines += ["It wrote to stderr:", report.output]
    error = RuntimeEnvSetupError("\n".join(lines))
    error.__cause__ = cause
    return error


def _crash(
    facts: _Facts, report: DeathReport, attempts: tuple[AttemptInfo, ...]
) -> WorkerCrashedError:
    last = attempts[-1] if attempts else None
    message = report.template_death or None
    if report.discarded:
        message = f"The worker was killed while executing this task: {report.discarded}."
    return WorkerCrashedError(
        message,
        exit_code=report.exit_code,
        signal=report.signal_name,
        pid=report.worker.pid,
        worker_id=report.worker.hex_id,
        task_name=facts.name,
        task_id=facts.task_id,
        attempt=None if last is None else last.number,
        seconds=None if last is None else last.duration,
        oom_killed=report.oom_killed,
        stderr_tail=report.stderr_tail,
        python_stack=report.python_stack,
    )
