"""What every actor can do, besides the methods of its class.

Room: shared by face and worker, so light: the face takes the signatures of the special methods from
here, the worker runs them, and it recognises the exception that ends an actor.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["SPECIAL_METHODS", "ActorExit"]


class ActorExit(SystemExit):
    """Ends the actor from inside one of its methods, as intended: there is no restart.

    It is a SystemExit with code 0, so that `finally` blocks run, and `except Exception` lets it by.
    Raised by `exit_actor()` and `__ray_terminate__`; it never reaches a caller.
    """

    def __init__(self) -> None:
        super().__init__(0)


def _ready(_actor: Any, /) -> bool:
    """True, as soon as the actor is made."""
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
