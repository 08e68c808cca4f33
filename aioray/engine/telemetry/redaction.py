"""What the history keeps if the texts of the program are not to be in it, see init()'s
`redact_history`.

Room: engine. What stays is what aioray says by itself: names, times, states, kinds of errors, and
places, as file, line and function. What goes is what the program has written or was given: values
of environment variables, lines of its source, messages of its errors, the `repr` of its actors.
Everything that is recorded passes through here; `Recorder` keeps no output then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ...core.outcomes import FailureKind
from ...exceptions import RayTaskError
from ...shared.failures import rebuild, summary
from . import reports
from .actor_reports import ActorEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.outcomes import AttemptRecord

__all__ = ["attributes", "describe", "text_of", "text_of_error"]

REDACTED = "<redacted>"
_PLACE = re.compile(r' *File "([^"\n]*)", line (\d+),? in ([\w.<>]+)$')


def attributes(found: dict[str, Any]) -> dict[str, Any]:
    """Return what may be kept of the attributes of a signature or an entity, see `schema`."""
    return {key: _KEPT[key](value) if key in _KEPT else value for key, value in found.items()}


def _environment(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    if not fields or "env_vars" not in fields:
        return fields
    return {**fields, "env_vars": dict.fromkeys(fields["env_vars"], REDACTED)}


def _places(text: str | None) -> str | None:
    """Return of a text only the places that it names, as a traceback does, one to a line."""
    if text is None:
        return None
    found = map(_PLACE.match, text.splitlines())
    return "\n".join('  File "{}", line {}, in {}'.format(*each.groups()) for each in found if each)


def _message(text: str | None) -> str | None:
    return text and f"{REDACTED}\n{_places(text)}".rstrip()


_KEPT: dict[str, Callable[[Any], Any]] = {
    "call_site": _places,
    "error_message": _message,
    "repr_name": lambda _: "",
    "runtime_env": _environment,
    "serialized_runtime_env": _environment,
}


def describe(record: AttemptRecord) -> str:
    """Return how one attempt ended, in one line, as `reports.describe` does."""
    if record.kind is FailureKind.APPLICATION and isinstance(record.detail, bytes):
        return f"raised {summary(record.detail).partition(':')[0]}"
    return reports.describe(record)


def text_of(record: AttemptRecord) -> str:
    """Return the text of a failed attempt."""
    if record.kind is FailureKind.APPLICATION and isinstance(record.detail, bytes):
        return _shown(rebuild(record.detail))
    if isinstance(record.detail, ActorEnd):
        return record.detail.one_line()
    return reports.describe(record)


def text_of_error(build: Callable[[], BaseException]) -> str:
    """Return the text of the error that `build` makes."""
    return _shown(build())


def _shown(error: BaseException) -> str:
    raised, text = error, None
    if isinstance(error, RayTaskError):
        raised, text = error.cause or error, error.traceback_str
    return f"{type(raised).__name__}: {REDACTED}\n{_places(text or str(error))}".rstrip()
