"""What the driver says of errors that it did not ask for, until the saboteur has been heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioray.exceptions import RayActorError, WorkerCrashedError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEATHS = (WorkerCrashedError, RayActorError)
TEXT = 3_000  # characters of an error that are kept


class WrongError(Exception):
    """Something came out that may not be."""


def expect(is_right: object, found: object) -> None:
    """Raise WrongError with what was found, unless it is right."""
    if not is_right:
        text = f"{type(found).__name__}: {found}" if isinstance(found, Exception) else repr(found)
        raise WrongError(text[:TEXT]) from (found if isinstance(found, BaseException) else None)


@dataclass(frozen=True, slots=True)
class Claim:
    """An error that is right only if the saboteur has done something."""

    item: int
    work: str
    error: str  # the name of its class
    is_death: bool  # of the last attempt, whose retries were at an end
    pids: tuple[int, ...]  # of attempts that died
    ended: tuple[str, ...]  # how, for each of them
    at: float  # Unix seconds
    text: str

    @classmethod
    def of(
        cls,
        number: int,
        work: str,
        error: BaseException,
        at: float,
        deaths: Sequence[type[BaseException]],
    ) -> Claim:
        """Read an error. deaths: kinds by which this item may have died."""
        attempts: list[Any] = [
            attempt
            for attempt in getattr(error, "attempts", ())
            if attempt.error_type in ("WORKER_DIED", "ACTOR_DIED", "ACTOR_UNAVAILABLE")
        ]
        return cls(
            number,
            work,
            type(error).__name__,
            isinstance(error, DEATHS) and isinstance(error, tuple(deaths)),
            tuple(attempt.pid or 0 for attempt in attempts),
            tuple(attempt.ended for attempt in attempts),
            at,
            str(error)[:TEXT],
        )
