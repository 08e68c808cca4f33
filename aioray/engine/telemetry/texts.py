"""Turns the errors of failed attempts into texts for the history, in the writer's thread.

Room: engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.outcomes import FailureKind
from ...shared.failures import rebuild
from .actor_reports import ActorEnd
from .reports import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.outcomes import AttemptRecord

__all__ = ["describe", "text_of", "text_of_error", "with_text"]

LONGEST_TEXT = 1_000_000  # characters of an error that are kept


def with_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the row of a failed attempt, with its error as text. In the writer's thread."""
    *rest, tell = row
    try:
        text = tell()
    except BaseException as error:  # noqa: BLE001 - a class of the user's may raise anything
        text = f"{type(error).__name__} while the error was shown"
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT} characters more)"
    return (*rest, text)


def text_of(record: AttemptRecord) -> str:
    """Return the text of a failed attempt."""
    if record.kind is FailureKind.APPLICATION and isinstance(record.detail, bytes):
        return _shown(rebuild(record.detail))
    if isinstance(record.detail, ActorEnd):
        return record.detail.text()
    return describe(record)


def text_of_error(build: Callable[[], BaseException]) -> str:
    """Return the text of the error that `build` makes."""
    return _shown(build())


def _shown(error: BaseException) -> str:
    from ...exceptions import RayTaskError

    text = str(error)
    return f"User exception:\n{text}" if isinstance(error, RayTaskError) else text
