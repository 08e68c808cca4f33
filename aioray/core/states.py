"""The state machines of the core: what states there are, and which moves between them are legal.

Room: core. One enum and one literal table for each kind of record; a state says what it means and
what ends it, a move says what brings it about. Whoever has a record's move to make asks the
`Story`, which looks into the table, and remembers what it has seen for the day when a move is none:
then `IllegalMove` names the record, both states, and the events and moves before. A task tells of
its usual moves itself, by its times; so those are not written down, and cost nothing.

`python -m aioray.core.states` draws the machines, for Mermaid.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "LEAVING",
    "MACHINES",
    "ActorStatus",
    "BreakerStatus",
    "CancelStatus",
    "GroupStatus",
    "IllegalMove",
    "Phase",
    "State",
    "Story",
    "TaskStatus",
    "Tracked",
    "WorkerStatus",
    "diagram",
]


class State(Enum):
    """A state; its value is what it means."""

    # Set from the tables below, as members are slow to look up.
    successors: tuple[State, ...]
    usual: State | None  # the first of them, where the record itself shows that it was there


class TaskStatus(State):
    """Where a task stands. The names are those of Ray's state API, except BACKOFF."""

    PENDING_ARGS_AVAIL = "waits in `dependents` of its arguments' tasks until the last is ready"
    PENDING_NODE_ASSIGNMENT = "stands in the queue of its scheduling class until a worker is free"
    BACKOFF = "stands in the timer heap until its delay is over; shown as PENDING_NODE_ASSIGNMENT"
    SUBMITTED_TO_WORKER = "stands in `in_flight` of one worker until answer, reclaim or death"
    FINISHED = "has its value, or had it (`lost`); held by refs and dependents only"
    FAILED = "has its failure; held by refs and dependents only"


class WorkerStatus(State):
    """Where a worker stands."""

    STARTING = "its process was ordered; takes no attempts yet"
    READY = "takes attempts; idle if `in_flight` is empty"
    RETIRING = "has got its last attempts; is stopped when they have ended"
    STOPPING = "was asked to end politely"
    KILLED = "was sent SIGKILL"
    DEAD = "its process has ended; WorkerExited will say how"


class ActorStatus(State):
    """Where an actor stands. The names are those of Ray's state API."""

    DEPENDENCIES_UNREADY = "arguments of its creation are missing"
    PENDING_CREATION = "its creation waits for a worker, or runs"
    ALIVE = "takes calls"
    RESTARTING = "its worker is dead, and its creation waits or runs once more"
    DEAD = "is no more; `death` says why"


class GroupStatus(State):
    """Where a group stands. The names are those of Ray's state API."""

    PENDING = "its reservation waits, as a task, in a scheduling class of its own"
    CREATED = "it holds its resources; ended by GroupRemoved only"
    REMOVED = "takes no tasks any more; holds its resources until its last worker is dead"


class CancelStatus(State):
    """How far the cancelling of a task has gone: the rungs of the ladder."""

    REQUESTED = "its worker is asked for what it has not claimed; or it has none, and fails at once"
    LOCATED = "it was claimed, and takes too long: where it is was asked for"
    INTERRUPTED = "it was claimed: SIGINT, repeated until delivered; or its method was told"
    KILLED = "its worker was sent SIGKILL"
    ENDED = "the task is done; `outcome` says what became of the request"


class BreakerStatus(State):
    """What a breaker lets through."""

    CLOSED = "every call; deaths are counted"
    OPEN = "no call, until its rest is over; then the next one is a trial"
    HALF_OPEN = "one call, the `trial`, or the next one if that never began"


class Phase(State):
    """How far the end of everything has come."""

    OPEN = "takes tasks"
    DRAINING = "what there is may finish, and what that submits"
    INTERRUPTING = "what has not begun has failed; what runs is interrupted"
    KILLING = "everything has failed; every worker is killed"
    STOPPED = "every worker is reaped"


LEAVING = (WorkerStatus.STOPPING, WorkerStatus.KILLED, WorkerStatus.DEAD)  # take nothing any more

Moves = dict[State, dict[State, str]]

_TASK: Moves = {
    TaskStatus.PENDING_ARGS_AVAIL: {
        TaskStatus.PENDING_NODE_ASSIGNMENT: "the last argument is there",
        TaskStatus.FAILED: "an argument failed, cancel, deadline, shutdown",
    },
    TaskStatus.PENDING_NODE_ASSIGNMENT: {
        TaskStatus.SUBMITTED_TO_WORKER: "a worker is free",
        TaskStatus.FAILED: "cancel, deadline, shutdown, no worker will come",
        TaskStatus.FINISHED: "its placement group has its resources, and needs no worker",
    },
    TaskStatus.BACKOFF: {
        TaskStatus.PENDING_NODE_ASSIGNMENT: "the delay is over",
        TaskStatus.FAILED: "cancel, deadline, shutdown",
    },
    TaskStatus.SUBMITTED_TO_WORKER: {
        TaskStatus.FINISHED: "a value",
        TaskStatus.FAILED: "an error that is not retried",
        TaskStatus.BACKOFF: "the attempt failed and a later one is due",
        TaskStatus.PENDING_NODE_ASSIGNMENT: "reclaimed, or retried at once",
        TaskStatus.PENDING_ARGS_AVAIL: "an argument was lost",
    },
    TaskStatus.FINISHED: {
        TaskStatus.PENDING_ARGS_AVAIL: "its value was lost, and is wanted",
        TaskStatus.PENDING_NODE_ASSIGNMENT: "it made an actor, which has died and is made again",
        TaskStatus.BACKOFF: "the same, after a while",
    },
    TaskStatus.FAILED: {},
}

_WORKER: Moves = {
    WorkerStatus.STARTING: {
        WorkerStatus.READY: "WorkerReady",
        WorkerStatus.KILLED: "nobody needs it any more",
        WorkerStatus.DEAD: "WorkerDied",
    },
    WorkerStatus.READY: {
        WorkerStatus.RETIRING: "max_calls is reached, its successor is ready, memory runs short",
        WorkerStatus.STOPPING: "idle too long, its actor is over, shutdown",
        WorkerStatus.KILLED: "cancel, time limit, memory, kill(), group removed, shutdown",
        WorkerStatus.DEAD: "WorkerDied",
    },
    WorkerStatus.RETIRING: {
        WorkerStatus.READY: "its last attempt was taken back",
        WorkerStatus.STOPPING: "its last attempts have ended",
        WorkerStatus.KILLED: "cancel, time limit, memory, group removed, shutdown",
        WorkerStatus.DEAD: "WorkerDied",
    },
    WorkerStatus.STOPPING: {WorkerStatus.KILLED: "it takes too long"},
    WorkerStatus.KILLED: {},
    WorkerStatus.DEAD: {},
}

_ACTOR: Moves = {
    ActorStatus.DEPENDENCIES_UNREADY: {
        ActorStatus.PENDING_CREATION: "the last argument is there",
        ActorStatus.DEAD: "an argument failed, kill(), no handle is left, shutdown",
    },
    ActorStatus.PENDING_CREATION: {
        ActorStatus.ALIVE: "its constructor has returned",
        ActorStatus.DEPENDENCIES_UNREADY: "an argument was lost",
        ActorStatus.RESTARTING: "its worker died in the constructor, or that took too long",
        ActorStatus.DEAD: "its constructor failed, kill(), no handle is left, shutdown",
    },
    ActorStatus.ALIVE: {
        ActorStatus.RESTARTING: "its worker died",
        ActorStatus.DEAD: "its worker died for good, exit_actor(), kill(), no handle, shutdown",
    },
    ActorStatus.RESTARTING: {
        ActorStatus.ALIVE: "its constructor has returned",
        ActorStatus.RESTARTING: "its worker died again",
        ActorStatus.DEAD: "no restart is left, kill(), no handle is left, shutdown",
    },
    ActorStatus.DEAD: {},
}

_GROUP: Moves = {
    GroupStatus.PENDING: {
        GroupStatus.CREATED: "there is room for all its bundles",
        GroupStatus.REMOVED: "GroupRemoved",
    },
    GroupStatus.CREATED: {GroupStatus.REMOVED: "GroupRemoved"},
    GroupStatus.REMOVED: {},
}

_CANCEL: Moves = {
    CancelStatus.REQUESTED: {
        CancelStatus.INTERRUPTED: "it is running",
        CancelStatus.LOCATED: "it is running, and has exceeded a time limit",
        CancelStatus.KILLED: "it is running, and force was asked for",
        CancelStatus.ENDED: "it had not begun, or was done first",
    },
    CancelStatus.LOCATED: {
        CancelStatus.INTERRUPTED: "where it is is known, or a cancel does not wait for that",
        CancelStatus.KILLED: "force was asked for",
        CancelStatus.ENDED: "it has answered, or its worker died",
    },
    CancelStatus.INTERRUPTED: {
        CancelStatus.KILLED: "the grace period is over",
        CancelStatus.ENDED: "it has answered, or its worker died",
    },
    CancelStatus.KILLED: {CancelStatus.ENDED: "its worker is reaped, or had its value before"},
    CancelStatus.ENDED: {},
}

_BREAKER: Moves = {
    BreakerStatus.CLOSED: {BreakerStatus.OPEN: "too many workers died within the period"},
    BreakerStatus.OPEN: {BreakerStatus.HALF_OPEN: "a call comes after the rest"},
    BreakerStatus.HALF_OPEN: {
        BreakerStatus.CLOSED: "the worker of the trial has survived it",
        BreakerStatus.OPEN: "the worker of the trial died",
    },
}

_PHASE: Moves = {
    Phase.OPEN: {
        Phase.DRAINING: "ShutdownRequested",
        Phase.KILLING: "ShutdownRequested without a drain",
    },
    Phase.DRAINING: {
        Phase.INTERRUPTING: "the drain is over",
        Phase.KILLING: "ShutdownRequested again, without a drain",
        Phase.STOPPED: "every task is done and every worker reaped",
    },
    Phase.INTERRUPTING: {
        Phase.KILLING: "the grace period is over",
        Phase.STOPPED: "every task is done and every worker reaped",
    },
    Phase.KILLING: {Phase.STOPPED: "every worker is reaped"},
    Phase.STOPPED: {},
}

MACHINES: dict[str, Moves] = {
    "task": _TASK,
    "worker": _WORKER,
    "actor": _ACTOR,
    "placement group": _GROUP,
    "cancelling": _CANCEL,
    "crash breaker": _BREAKER,
    "engine": _PHASE,
}

for _moves in MACHINES.values():
    for _state, _next in _moves.items():
        _state.successors = tuple(_next)
        _state.usual = next(iter(_next), None) if _moves is _TASK else None
TaskStatus.BACKOFF.usual = TaskStatus.FINISHED.usual = None  # its times do not show these
del _moves, _state, _next


class IllegalMove(RuntimeError):  # noqa: N818  # it names a bug, and nobody is to catch it
    """A record was to make a move that its table does not know: a bug in aioray."""


class Tracked:
    """What has a state."""

    __slots__ = ()

    if TYPE_CHECKING:
        state: Any

    @property
    def identity(self) -> str:
        """What the record is called in a story."""
        return repr(self)

    def account(self) -> str:
        """Tell of the record what its moves do not, as sentences, or nothing."""
        return ""


class Story:
    """The last events and moves, and the one place where states change."""

    __slots__ = ("events", "moves")

    def __init__(self) -> None:
        """Begin with no events and no moves."""
        self.events: deque[tuple[float, str, int | None]] = deque(maxlen=64)  # type, worker id
        self.moves: deque[tuple[float, str, State, State]] = deque(maxlen=64)

    def move(self, record: Tracked, state: State) -> None:
        """Let a record enter a state. Raises IllegalMove, and changes nothing, for a bug."""
        before = record.state
        if state is not before.usual:
            if state not in before.successors:
                raise IllegalMove(
                    f"{record!r} cannot become {state.name}: this is a bug in aioray. "
                    f"{record.account()}{self}"
                )
            now = self.events[-1][0] if self.events else 0.0
            self.moves.append((now, record.identity, before, state))
        record.state = state

    def __str__(self) -> str:
        events = ", ".join(
            f"{name} at {at:.6f}" + ("" if worker is None else f" (worker {worker})")
            for at, name, worker in list(self.events)[-8:]
        )
        moves = ", ".join(
            f"{identity} from {before.name} to {after.name} at {at:.6f}"
            for at, identity, before, after in list(self.moves)[-16:]
        )
        return f"The events before: {events or 'none'}. The moves before: {moves or 'none'}."


def diagram(moves: Mapping[State, Mapping[State, str]]) -> str:
    """Describe a state machine for Mermaid to draw."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(moves)).name}"]
    for before, following in moves.items():
        lines += [f"    {before.name} --> {after.name}: {why}" for after, why in following.items()]
        if not following:
            lines.append(f"    {before.name} --> [*]")
    return "\n".join(lines)


def main() -> None:
    """Print all machines, each under its name."""
    for name, moves in MACHINES.items():
        print(f"### {name[0].upper()}{name[1:]}\n\n```mermaid\n{diagram(moves)}\n```\n")  # noqa: T201


if __name__ == "__main__":
    main()
