"""What a worker can ask of the driver: one type for each question, with its arguments.

Room: shared; stdlib only. `aioray.worker` makes them, `aioray.engine.requests` answers them. One
travels as the payload of NOTE_ASKED, marshal of (request, verb, arguments): the verb is the place
of its type in `ASKS`, the arguments are its fields, as a plain tuple, because marshal takes no
other. The request is the number of the reply; it is 0 for a question that gets none.

Objects are named by their ids. Values travel as in answers: as bytes, or as a PACKED_LOCATION. A
reply that is an error is a list, of that error pickled.
"""

from __future__ import annotations

import functools
import marshal
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ASKS",
    "AbandonStream",
    "AddGroup",
    "Allocate",
    "AnswerNow",
    "Ask",
    "CallActor",
    "Cancel",
    "CheckPlacement",
    "CreateActor",
    "DefineFunction",
    "Forget",
    "Get",
    "GetActor",
    "GroupReady",
    "Info",
    "ItemsRead",
    "KillActor",
    "Log",
    "Lose",
    "MayYield",
    "PendingCalls",
    "Pin",
    "Put",
    "RemoveGroup",
    "Stop",
    "Submit",
    "TellOfMap",
    "UnloadFunction",
    "Wait",
    "pack",
    "unpack",
]

# ---------------------------------------------------------------- tasks


class DefineFunction(NamedTuple):
    """Name a function, or class, that will be submitted. No reply."""

    key: int
    name: str
    code: bytes
    captured: list[bytes]  # ids of refs that the code contains


class UnloadFunction(NamedTuple):
    """Say that a function is submitted no more. No reply."""

    key: int


class Submit(NamedTuple):
    """Call a remote function. No reply: the ids of its values follow from the task_key."""

    key: int  # of the function
    definition: bytes  # pickled Definition
    task_key: bytes
    max_retries: int
    payload: bytes  # value of (args, kwargs)
    arguments: list[bytes]  # ids of top-level refs
    trace: list[tuple[str, str]] | tuple[()] = ()  # the span that surrounds the call, see wire
    site: tuple[Any, ...] | None = None  # where the call stands in the program


class Cancel(NamedTuple):
    """Cancel a task. Reply: the name of the CancelOutcome."""

    identifier: bytes  # of one of its values
    force: bool
    recursive: bool
    grace: float | None  # seconds


class TellOfMap(NamedTuple):
    """Let the history know how far a map has come, see `client.protocol`. No reply."""

    task: bytes
    state: str
    counts: list[int]
    error: list[str]


class Stop(NamedTuple):
    """End a task and what it has submitted, or an actor. Reply, when that has happened: None."""

    identifier: bytes  # of one of its values, or of the actor's ref
    grace: float  # seconds


class Log(NamedTuple):
    """Hand over a log record. No reply."""

    facts: dict[str, Any]  # what it has, as `logging.makeLogRecord` takes it


class CheckPlacement(NamedTuple):
    """Ask whether a call can run anywhere. Reply: None, or the error if it cannot."""

    definition: bytes  # pickled Definition


class Info(NamedTuple):
    """Ask what there is. Reply: it."""

    what: str  # the name of a method of the driver's client, without arguments


class UseKeyValues(NamedTuple):
    """Ask, or change, the session's key-value store. Reply: what its `__call__` returns."""

    verb: str  # and so on, see `aioray.client.protocol.Client.key_values`
    namespace: bytes
    key: bytes
    value: bytes
    decides: bool


# ---------------------------------------------------------------- objects


class Allocate(NamedTuple):
    """Ask for room in the store for a result. Reply: a list of places, or the pickled error."""

    size: int  # bytes
    more: int  # attempts that wait, whose results may be as large


class Put(NamedTuple):
    """Store a value. No reply."""

    identifier: bytes
    payload: bytes
    site: tuple[Any, ...] | None = None


class Pin(NamedTuple):
    """Keep an object for the session. No reply."""

    identifier: bytes


class Lose(NamedTuple):
    """Throw away a stored value, for tests. Reply: None, or why that cannot be."""

    identifier: bytes


class Get(NamedTuple):
    """Ask for values. Reply, when all are there or one has failed: a list of what stands for each.

    That is the value, its place, the error, or None if there is nothing yet.
    """

    identifiers: list[bytes]
    at_once: bool  # reply now, whatever there is
    holds: bool = False  # the attempt cannot go on before all are ready


class Wait(NamedTuple):
    """Wait until so many objects are ready. Reply: for each whether it is."""

    identifiers: list[bytes]
    num_returns: int
    at_once: bool
    holds: bool = False


class AnswerNow(NamedTuple):
    """Have an open Get or Wait answered as things stand. No reply of its own."""

    request: int


class Forget(NamedTuple):
    """Want no reply any more, and look at nothing that one has given. No reply."""

    request: int


# ---------------------------------------------------------------- generators


class MayYield(NamedTuple):
    """Ask whether a generator may go on. Reply: None, when it may."""

    yielded: int  # items so far


class ItemsRead(NamedTuple):
    """Say how many items of a generator task have been read. No reply."""

    task: bytes
    number: int


class AbandonStream(NamedTuple):
    """Say that nobody reads a generator task any more. No reply."""

    task: bytes


# ---------------------------------------------------------------- placement groups


class AddGroup(NamedTuple):
    """Make a placement group. Reply: None, or the error."""

    identifier: bytes
    bundles: list[Any]  # of each the demand, as pairs of a resource and an amount
    strategy: str
    name: str
    value: bytes  # of the ref that is ready when it is placed


class RemoveGroup(NamedTuple):
    """Remove a placement group. Reply: None when that is done, or the error."""

    identifier: bytes


class GroupReady(NamedTuple):
    """Ask for the ref that is ready with a group. Reply: its id, now held; or the error."""

    identifier: bytes


# ---------------------------------------------------------------- actors


class CreateActor(NamedTuple):
    """Make an actor. Reply, if it has a name: None, or the error."""

    key: int  # of the class
    definition: bytes  # pickled ActorDefinition
    task_key: bytes
    payload: bytes
    arguments: list[bytes]
    trace: list[tuple[str, str]] | tuple[()] = ()
    site: tuple[Any, ...] | None = None


class CallActor(NamedTuple):
    """Call a method of an actor. No reply."""

    actor: bytes  # id of its ref
    definition: bytes  # pickled MethodDefinition
    task_key: bytes
    payload: bytes
    arguments: list[bytes]
    trace: list[tuple[str, str]] | tuple[()] = ()
    site: tuple[Any, ...] | None = None


class KillActor(NamedTuple):
    """End an actor at once. Reply: None, or the error."""

    actor: bytes
    no_restart: bool


class GetActor(NamedTuple):
    """Find an actor by its name. Reply: the id of its ref, now held, and its meta; or None."""

    name: str
    namespace: str | None


class PendingCalls(NamedTuple):
    """Ask how many calls of an actor this worker has made and not seen end. Reply: that."""

    actor: bytes


Ask = tuple[Any, ...]
"""One of `ASKS`."""

ASKS: tuple[type[Ask], ...] = (
    Submit,
    Get,
    Put,
    Wait,
    CallActor,
    CreateActor,
    DefineFunction,
    UnloadFunction,
    Cancel,
    CheckPlacement,
    Info,
    UseKeyValues,
    Allocate,
    Pin,
    Lose,
    AnswerNow,
    Forget,
    MayYield,
    ItemsRead,
    AbandonStream,
    AddGroup,
    RemoveGroup,
    GroupReady,
    KillActor,
    GetActor,
    PendingCalls,
    Stop,
    Log,
    TellOfMap,
)
_VERBS = {kind: verb for verb, kind in enumerate(ASKS)}
_last_right: dict[int, list[type]] = {}  # by verb: of the last arguments that were right, the types


def pack(request: int, ask: Ask) -> bytes:
    """Pack a question for NOTE_ASKED."""
    return marshal.dumps((request, _VERBS[type(ask)], tuple(ask)))


def unpack(payload: bytes) -> tuple[int, Ask]:
    """Return the number of a packed question, and the question.

    Raises ValueError, TypeError or EOFError for what `pack` has not made, or not of arguments of
    the types that they are declared to have.
    """
    request, verb, arguments = marshal.loads(payload)
    if type(request) is not int or type(verb) is not int or type(arguments) is not tuple:
        raise ValueError("a question that is none")
    kind, make, types = _form(verb)
    exact = [*map(type, arguments)]
    if exact != _last_right.get(verb):  # nearly all of a kind are alike, which is soon compared
        if len(arguments) != len(types) or not all(map(isinstance, arguments, types)):
            raise ValueError(f"a question of the kind {kind} with {arguments!r:.200}")
        _last_right[verb] = exact
    return request, make(arguments)


@functools.cache
def _form(verb: int) -> tuple[str, Callable[[tuple[Any, ...]], Ask], tuple[Any, ...]]:
    """Return the name of a kind of question, what makes one, and the types of its arguments."""
    if not 0 <= verb < len(ASKS):
        raise ValueError(f"a question of the kind {verb}, which there is not")
    kind = ASKS[verb]
    make = functools.partial(tuple.__new__, kind)  # `_make` would count the arguments again
    return kind.__name__, make, tuple(map(_type_of, get_type_hints(kind).values()))


def _type_of(hint: Any) -> Any:
    """Return what `isinstance` is to be asked for a value that is declared as `hint`."""
    if hint is float:
        return (float, int)
    if get_origin(hint) is UnionType:
        return tuple(map(_type_of, get_args(hint)))  # it may be nested
    return get_origin(hint) or hint
