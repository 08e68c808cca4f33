"""Carries the exception of a task from the worker to the driver, with its traceback as text.

Room: shared; imports exceptions and serialization. The pickler of the worker comes
from outside as `dumps` and `loads`. Decides nothing: what is retried is known elsewhere.

`capture` runs in the worker: the exception is the user's, so its `__str__`, `__reduce__` and
`__init__` may do anything, and yet the worker must answer. Hence every touch of it is guarded
against BaseException, and whatever fails is replaced: a text by a placeholder, a cause that does
not survive pickling by its parts (`exception_parts`), and where not even its class survives, by
UnserializableException. `rebuild` runs in the driver. The bytes between
them are the pickle of a `_Record`, whose members are plain data; the cause is in it as bytes, so
that the text can be read without running any code of the user's. `release` lets go of what an
exception that was captured would keep alive.

Wart: a SystemExit or KeyboardInterrupt raised by an exception's own `__str__` is swallowed here.
The worker must hold back real interrupts while it handles frames, as it does anyway.
"""

from __future__ import annotations

import gc
import pickle
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from aioray.exceptions import (
    AttemptInfo,
    RaySystemError,
    RayTaskError,
    TaskCancelledError,
    UnserializableException,
)
from aioray.shared.serialization import load

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

__all__ = [
    "MAX_SUMMARY_CHARS",
    "MAX_TEXT_CHARS",
    "capture",
    "dependency_error",
    "rebuild",
    "release",
    "summary",
]

MAX_TEXT_CHARS = 64_000  # of a traceback or message; a message can be of any size, and is repeated
MAX_SUMMARY_CHARS = 300  # one line of a log
_MAX_NOTES = 100
_MAX_NESTED = 100  # RayTaskErrors within each other; more is a cycle

_DEPENDENCY_LINE = "At least one of the input arguments for this task could not be computed:"
_SUSPENDABLE = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR of inspect
_traceback, _cause, _context = (
    BaseException.__dict__[name] for name in ("__traceback__", "__cause__", "__context__")
)
_members: Any = BaseExceptionGroup.__dict__["exceptions"]

_OWN_MODULE = "aioray.exceptions."
_SHOWN_MODULE = "ray.exceptions."  # the name programs and Ray's users know


class _Record(NamedTuple):
    """The description of an exception, from worker to driver, pickled as a plain tuple."""

    function_name: str
    proctitle: str
    pid: int | None
    ip: str | None
    summary: str  # one line, "ValueError: bad"
    traceback_str: str
    type_name: str  # of the cause, for the stand-in
    module: str
    message: str
    notes: tuple[str, ...]
    cause: bytes | None  # the pickled cause; None: it did not survive pickling
    reason: str  # why not, or what parts of it did not


_N = type(None)
_TYPES: Any = (str, str, (int, _N), (str, _N), str, str, str, str, str, tuple, (bytes, _N), str)

_T = TypeVar("_T")


# --------------------------------------------------------------------------- in the worker


def capture(
    exc: BaseException,
    *,
    function_name: str,
    proctitle: str,
    pid: int | None,
    ip: str | None,
    dumps: Callable[[BaseException], bytes],
    loads: Callable[[bytes], object],
    hide_files: frozenset[str] = frozenset(),
    task_id: str | None = None,
    actor: tuple[str, str] | None = None,
) -> bytes:
    """Turn an exception that left the function of a task into bytes for `rebuild`.

    function_name, proctitle ("ray::f"), pid and ip stand in the header of the text. `dumps` and
    `loads` pickle and unpickle the cause. Frames of the files in `hide_files`, compared with
    `co_filename`, are left out of the traceback. KeyboardInterrupt means cancelled: the cause is
    then TaskCancelledError with `task_id`. The cause of a RayTaskError that escapes from an inner
    `get` is carried on as it is. actor: id and repr of the actor whose method it was. Never raises,
    whatever the exception does.
    Source: RayTaskError as Ray shows it; there a header is coloured, here it is plain text.
    """
    header = _header(proctitle or f"ray::{function_name}", pid, ip, actor)
    try:
        if _is_a(exc, KeyboardInterrupt):
            exc = _cancelled(exc, task_id)
        text = _remote_traceback(exc, header, hide_files)
        cause = _original(exc)
        type_name, module = _type_of(cause)
        message = _safe_str(cause)
        pickled, reason = _pickle(cause, dumps, loads)
        record = _Record(
            function_name,
            proctitle,
            pid,
            ip,
            _one_line(type_name, message),
            text,
            type_name,
            module,
            message,
            _notes(cause),
            pickled,
            reason,
        )
        return _pack(record)
    except BaseException as problem:  # noqa: BLE001 - the worker must answer
        reason = _one_line(*_name_and_text(problem))
        type_name, module = _type_of(exc)
        note = f"(The exception could not be described: {reason})"
        text = f"{header}\n{type_name}: {note}"
        return _pack(
            _Record(
                *(function_name, proctitle, pid, ip, type_name, text),
                *(type_name, module, note, (), None, reason),
            )
        )


def _pack(record: _Record) -> bytes:
    return pickle.dumps(tuple(record), protocol=5)


def _cancelled(interrupt: BaseException, task_id: str | None) -> TaskCancelledError:
    which = f"Task: {task_id} was cancelled." if task_id else "The task was cancelled."
    cancelled = TaskCancelledError(task_id, which)
    cancelled.__context__ = interrupt  # so that the text shows where it was interrupted
    return cancelled


def _original(exc: BaseException) -> BaseException:
    """Return what `exc` carries, if it is the error of another task, else itself."""
    for _ in range(_MAX_NESTED):
        cause = exc.cause if _is_a(exc, RayTaskError) else None
        if not isinstance(cause, BaseException):
            return exc
        exc = cause
    return exc


def _pickle(
    cause: BaseException, dumps: Callable[[BaseException], bytes], loads: Callable[[bytes], object]
) -> tuple[bytes | None, str]:
    """Return the pickled cause and what of it is missing, or None and why it cannot be sent."""
    from . import exception_parts

    try:
        data = _bytes(dumps(cause))
        if exception_parts.has_arrived(cause, loads(data)):
            return data, ""
    except BaseException as problem:  # noqa: BLE001 - runs code of the user's exception
        reason = _one_line(*_name_and_text(problem))
    else:
        reason = "it unpickles as something else"
    try:
        parts, lost = exception_parts.disassemble(cause, lambda value: loads(_bytes(dumps(value))))
        data = _bytes(dumps(parts))
        again = loads(data)
    except BaseException:  # noqa: BLE001 - the same
        return None, reason
    if not _is_a(again, type(cause)):
        return None, reason
    return data, "; ".join(lost)[:MAX_SUMMARY_CHARS]


def _bytes(data: Any) -> bytes:
    return data if type(data) is bytes else bytes(data)


def release(error: BaseException) -> None:
    """Empty the frames that an exception keeps, and those that led to it, and forget them.

    What was local to them would live until the cyclic collector comes: a frame that has its own
    exception in a variable is held by it. And an exception that somebody keeps, to raise it again,
    would hold the frames of every attempt. Frames that still run, or wait, are left alone.
    """
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        chain += (_cause.__get__(each), _context.__get__(each))
        if isinstance(each, BaseExceptionGroup):
            chain += _members.__get__(each)
        entry: TracebackType | None = _traceback.__get__(each)
        _traceback.__set__(each, None)
        while entry is not None:
            if not _waits(entry.tb_frame):
                with suppress(RuntimeError):  # it runs
                    entry.tb_frame.clear()
            entry = entry.tb_next


def _waits(frame: FrameType) -> bool:
    """Tell whether a generator or coroutine would go on in this frame, which `clear` would end.

    From Python 3.13 on `clear` itself refuses. Before, only the frame of one that has ended owns
    what it refers to, its code for one.
    """
    code = frame.f_code
    return (
        sys.version_info < (3, 13)
        and bool(code.co_flags & _SUSPENDABLE)
        and all(each is not code for each in gc.get_referents(frame))
    )


# --------------------------------------------------------------------------- in the driver


def rebuild(data: bytes, attempts: tuple[AttemptInfo, ...] = ()) -> RayTaskError:
    """Make the error that `capture` described, a fresh instance at each call.

    If the cause cannot be unpickled here, `cause` is an UnserializableException that keeps its
    type name, message, notes and traceback. The result is the plain RayTaskError; raise its
    `as_instanceof_cause()`.
    """
    record = _record_of(data)
    cause = _load_cause(record)
    text = record.traceback_str
    if isinstance(cause, UnserializableException):
        text = f"{text}\n{cause.explanation}"
    elif record.reason:
        text = f"{text}\n(These parts of the exception could not be sent: {record.reason})"
    error = RayTaskError(
        record.function_name,
        text,
        cause,
        proctitle=record.proctitle,
        pid=record.pid,
        ip=record.ip,
    )
    if attempts:
        error.attempts = attempts
    return error


def _load_cause(record: _Record) -> BaseException:
    reason = record.reason
    if record.cause is not None:
        try:
            cause = load(record.cause)
            if isinstance(cause, BaseException):
                _restore_notes(cause, record.notes)
                return cause
            reason = f"it unpickles as {_type_of(cause)[0]}"
        except KeyboardInterrupt:
            raise  # the user's Ctrl-C: the cause was unpickled once in the worker, without this
        except BaseException as problem:  # noqa: BLE001 - runs code of the user's exception
            reason = _one_line(*_name_and_text(problem))
    return UnserializableException(
        record.type_name,
        record.module,
        record.message,
        record.notes,
        record.traceback_str,
        reason,
    )


def _restore_notes(cause: BaseException, notes: tuple[str, ...]) -> None:
    """Add the notes again if a `__reduce__` of the user's has dropped them."""
    if notes and "__notes__" not in cause.__dict__:
        with suppress(Exception):  # better the cause without them than no cause
            for note in notes:
                BaseException.add_note(cause, note)


def summary(data: bytes) -> str:
    """Return one line such as "ValueError: bad", without unpickling the cause."""
    return _record_of(data).summary


def _record_of(data: bytes) -> _Record:
    """Return what `capture` said; for what it never says, that it is none: workers may write it."""
    try:
        record = _Record(*pickle.loads(data))
        fits = all(isinstance(each, kind) for each, kind in zip(record, _TYPES, strict=True))
        if fits and all(type(note) is str for note in record.notes):
            return record
        why = "other parts than those of an error"
    except Exception as problem:  # noqa: BLE001 - garbage can be of any kind
        why = repr(problem)
    text = (
        f"What a worker has written as the error of this task is none ({why:.200}): something that "
        f"is not aioray has written to its channels."
    )
    error = RaySystemError(text)
    whole = _one_line("RaySystemError", text), text, "RaySystemError", _OWN_MODULE[:-1], text, ()
    return _Record("", "", None, None, *whole, pickle.dumps(error, 5), "")


def dependency_error(
    upstream: BaseException, *, function_name: str, pid: int | None, ip: str | None
) -> RayTaskError:
    """Make the error of a task that did not run because `upstream` is one of its arguments.

    Its text is that of `upstream` below a line that says so, once per level. Its cause is the
    original exception, carried on through all levels; an error that is not a RayTaskError, such
    as WorkerCrashedError, is the cause itself. Raise its `as_instanceof_cause()`.
    """
    if _is_a(upstream, RayTaskError):
        shown = f"{_SHOWN_MODULE}RayTaskError"
    else:
        shown = _shown_type(upstream)
    message = _safe_str(upstream)
    proctitle = f"ray::{function_name}"
    lines = [
        _header(proctitle, pid, ip),
        f"  {_DEPENDENCY_LINE}",
        f"{shown}: {message}" if message else shown,
    ]
    return RayTaskError(
        function_name,
        _bounded("\n".join(lines)),
        _original(upstream),
        proctitle=proctitle,
        pid=pid,
        ip=ip,
    )


# --------------------------------------------------------------------------- text


def _header(
    proctitle: str, pid: int | None, ip: str | None, actor: tuple[str, str] | None = None
) -> str:
    actor_id, actor_repr = actor or (None, None)
    facts = (("pid", pid), ("ip", ip), ("actor_id", actor_id), ("repr", actor_repr))
    known = [f"{name}={value}" for name, value in facts if value is not None]
    return f"{proctitle}() ({', '.join(known)})" if known else f"{proctitle}()"


def _remote_traceback(exc: BaseException, header: str, hide_files: frozenset[str]) -> str:
    try:
        tree = traceback.TracebackException(
            type(exc), exc, exc.__traceback__, compact=True, lookup_lines=False
        )
        return _bounded("\n".join(_chain_lines(tree, header, hide_files)))
    except BaseException as problem:  # noqa: BLE001 - __notes__, __cause__ and the like may be anything
        why = _one_line(*_name_and_text(problem))
        return _bounded(
            f"{header}\n{_shown_type(exc)}: {_safe_str(exc)}\n"
            f"(The traceback could not be formatted: {why})"
        )


def _chain_lines(
    newest: traceback.TracebackException, header: str, hide_files: frozenset[str]
) -> Iterator[str]:
    """Yield the lines of an exception and of those that led to it, oldest first.

    As `TracebackException.format` does it, but only here can a header be told from a line of a
    message that looks like one: messages often quote tracebacks.
    """
    chain: list[tuple[traceback.TracebackException, str | None]] = []
    sentence: str | None = None
    step: traceback.TracebackException | None = newest
    while step is not None:
        chain.append((step, sentence))
        if step.__cause__ is not None:
            sentence = "The above exception was the direct cause of the following exception:"
            step = step.__cause__
        elif step.__context__ is not None and not step.__suppress_context__:
            sentence = "During handling of the above exception, another exception occurred:"
            step = step.__context__
        else:
            step = None
    for each, joined_by in reversed(chain):
        yield header
        yield from _own_lines(each, header, hide_files)
        if joined_by is not None:
            yield from ("", joined_by, "")


def _own_lines(
    tree: traceback.TracebackException, header: str, hide_files: frozenset[str]
) -> Iterator[str]:
    frames = traceback.StackSummary.from_list(
        [frame for frame in tree.stack if frame.filename not in hide_files]
    )
    stack = _split(frames.format())
    # The line that begins with the class: for a SyntaxError lines about its place come first.
    ending = [
        _SHOWN_MODULE + line.removeprefix(_OWN_MODULE) if line.startswith(_OWN_MODULE) else line
        for line in _split(list(tree.format_exception_only()))
    ]
    if tree.exceptions is None:
        yield from stack
        yield from ending
        return
    for line in (*stack, *ending):
        yield f"  | {line}"
    for number, member in enumerate(tree.exceptions, 1):
        yield f"  {'+-' if number == 1 else '  '}+---------------- {number} ----------------"
        for line in _chain_lines(member, header, hide_files):
            yield f"    | {line}"
    yield "    +------------------------------------"


def _split(chunks: list[str]) -> list[str]:
    return "".join(chunks).removesuffix("\n").split("\n") if chunks else []


def _bounded(text: str) -> str:
    """Cut the middle out of a text that is too long; the end, with the error, is kept longer."""
    excess = len(text) - MAX_TEXT_CHARS
    if excess <= 0:
        return text
    head = MAX_TEXT_CHARS // 4
    tail = MAX_TEXT_CHARS - head
    return f"{text[:head]}\n... {excess} characters left out ...\n{text[-tail:]}"


def _one_line(type_name: str, message: str) -> str:
    name = type_name.rpartition(".")[2]
    words = " ".join(message[: 4 * MAX_SUMMARY_CHARS].split())
    line = f"{name}: {words}" if words else name
    return line if len(line) <= MAX_SUMMARY_CHARS else line[: MAX_SUMMARY_CHARS - 3] + "..."


def _safe_str(exc: BaseException) -> str:
    try:
        return _bounded(str.__str__(str(exc)))  # str.__str__ makes a plain str of a subclass
    except BaseException:  # noqa: BLE001 - runs code of the user's exception
        return "<exception str() failed>"


def _name_and_text(problem: BaseException) -> tuple[str, str]:
    return _type_of(problem)[0], _safe_str(problem)


def _is_a(value: object, kind: type[_T]) -> TypeGuard[_T]:
    """Do as isinstance, without asking the value or its metaclass, which may lie or raise."""
    return any(each is kind for each in type(value).__mro__)


def _type_of(value: object) -> tuple[str, str]:
    """Return qualified name and module of the class of `value`, as plain strings."""
    try:
        kind = type(value)
        return str.__str__(kind.__qualname__), str.__str__(str(kind.__module__))
    except BaseException:  # noqa: BLE001 - a metaclass may answer anything
        return "<unknown exception>", ""


def _shown_type(exc: BaseException) -> str:
    name, module = _type_of(exc)
    if module in ("", "builtins", "__main__"):
        return name
    full = f"{module}.{name}"
    return _SHOWN_MODULE + full.removeprefix(_OWN_MODULE) if full.startswith(_OWN_MODULE) else full


def _notes(exc: BaseException) -> tuple[str, ...]:
    try:
        notes = getattr(exc, "__notes__", None)
        if not isinstance(notes, (list, tuple)):
            return ()
        return tuple(_bounded(str.__str__(str(note))) for note in notes[:_MAX_NOTES])
    except BaseException:  # noqa: BLE001 - runs code of the user's exception
        return ()
