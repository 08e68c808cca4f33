"""What every actor can do, besides the methods of its class, and how it ends.

Room: shared by face, engine and worker, so light: the face takes the signatures of the special
methods from here, the worker runs them, and it recognises the exception that ends an actor.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["SHUTDOWN", "SPECIAL_METHODS", "ActorExit", "shutdown_seconds"]

SHUTDOWN = "__ray_shutdown__"
"""The hook of an actor's class that is called when the actor ends, unless it is killed or dies."""


def shutdown_seconds() -> float:
    """Return how long the hook SHUTDOWN may take: 30 seconds, or what Ray's variable says."""
    try:
        return float(os.environ.get("RAY_actor_graceful_shutdown_timeout_ms", "30000")) / 1000  # noqa: SIM112
    except ValueError:
        return 30.0


class ActorExit(SystemExit):
    """Ends the actor from inside one of its methods, as intended: there is no restart.

    It is a SystemExit with code 0, so that `finally` blocks run, and `except Exception` lets it by.
    Raised by `exit_actor()` and `__ray_terminate__`; it never reaches a caller.
    """

    def __init__(self) -> None:
        super().__init__(0)


def _ready(_actor: Any, /) -> bool:
    """Return True, as soon as the actor is made."""
    return True


def _terminate(_actor: Any, /) -> NoReturn:
    """End the actor, after the calls that were made before."""
    raise ActorExit


def _call(actor: Any, /, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `fn(actor, ...)` in the actor."""
    return fn(actor, *args, **kwargs)


SPECIAL_METHODS: dict[str, Callable[..., Any]] = {
    "__ray_call__": _call,
    "__ray_ready__": _ready,
    "__ray_terminate__": _terminate,
}
"""By the name under which every handle has them; the first argument is the actor."""
