"""Serializes what a call takes along: its code and its arguments, and says who is to blame if not.

Room: client, because tasks call remote functions too. Runs in the caller's
thread: whatever is wrong with a call is raised there. Imported by every worker that makes an actor
or submits, and so knows nothing of options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shared.serializability import explain, largest
from ..shared.serialization import ArgumentSlot, dump, dump_function, dumps
from .refs import ObjectRef
from .signatures import signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..shared.serialization import Pieces
    from .entry import ObjectEntry
    from .protocol import Call, Client

__all__ = ["serialize", "serialize_call", "serialize_function"]

MAX_CODE = 95 * 1024 * 1024  # bytes of a function, or a class, with what it has captured; as in Ray


def serialize_function(call: Call) -> tuple[bytes, Sequence[Any]]:
    """Serialize the function or class of a call: its code, and the refs that it has captured.

    Raises TypeError if something cannot be serialized, ValueError if it is as large as only data
    can be: every process that runs it would have a copy.
    """
    target, name = call.code.function, call.code.name
    kind = "class" if isinstance(target, type) else "function"
    try:
        code, refs = dump_function(target)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(target, name, dumps)
        raise TypeError(f"Could not serialize the {kind} {name!r}:\n{report}") from error
    if len(code) > MAX_CODE:
        raise ValueError(_too_large(target, name, kind, len(code)))
    return code, refs


def _too_large(target: Any, name: str, kind: str, size: int) -> str:
    what = f"actor {name}" if kind == "class" else f"remote function {target.__module__}.{name}"
    found = "".join(f"\n  {path}: {n >> 20} MiB" for path, n in largest(target, name, dumps))
    return (
        f"The {what} is too large ({size >> 20} MiB > FUNCTION_SIZE_ERROR_THRESHOLD="
        f"{MAX_CODE >> 20} MiB). Check that its definition is not implicitly capturing a large "
        f"array or other object in scope. Tip: use aioray.put() to put large objects in the "
        f"object store, and pass the refs as arguments. It has captured:{found}"
    )


def serialize_call(
    call: Call, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], client: Client
) -> tuple[bytes | Pieces, list[ObjectEntry] | None, Sequence[Any]]:
    """Serialize arguments: the bytes, the entries of top-level refs, the refs inside values.

    Raises TypeError if something cannot be serialized, ValueError for another client's ref.
    """
    entries: list[ObjectEntry] | None = None
    if not args and not kwargs:
        return b"", None, ()
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) is ObjectRef:
            entries = []
            args, kwargs = _fill_slots(args, kwargs, entries, client)
            break
    try:
        payload, refs = dump((args, kwargs))
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = _blame(call, args, kwargs)
        raise TypeError(
            f"Could not serialize the arguments of {name}.remote():\n{report}"
        ) from error
    return payload, entries, refs


def _fill_slots(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    entries: list[ObjectEntry],
    client: Client,
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Replace top-level refs by slots, and collect their entries."""

    def slot(value: Any) -> Any:
        if type(value) is not ObjectRef:
            return value
        entry = value.entry
        if entry.owner() is not client:
            raise ValueError(
                f"{value!r} belongs to another engine. Get its value there and pass that."
            )
        entries.append(entry)
        return ArgumentSlot(len(entries) - 1)

    return tuple([slot(item) for item in args]), {key: slot(item) for key, item in kwargs.items()}


def serialize(value: Any, root: str, what: str) -> tuple[bytes | Pieces, Sequence[Any]]:
    """Serialize a value as `dump`; a TypeError says what in `what`, called `root`, is to blame."""
    try:
        return dump(value)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(value, root, dumps)
        raise TypeError(f"Could not serialize {what}:\n{report}") from error


def _blame(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Say which argument cannot be serialized, and what in it."""
    bound = signature_of(call.code.function).bind(*args, **kwargs).arguments
    for name, value in bound.items():
        try:
            dump(value)
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            return explain(value, name, dumps)
    return explain((args, dict(kwargs)), "arguments", dumps)
