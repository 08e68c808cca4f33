"""The functions of the API about actors that exist: kill, get_actor.

Room: api. Checks and translates; the client of the call does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .ending import is_over, refuse_when_over
from .session import client_for_call

if TYPE_CHECKING:
    from ..actor import Actor, ActorHandle

__all__ = ["get_actor", "kill"]


def kill(actor: ActorHandle[Any] | Actor, *, no_restart: bool = True) -> None:
    """End an actor at once. Its running call and those that wait raise ActorDiedError.

    No `finally` blocks and no `atexit` handlers run. no_restart=False: it is made again, if its
    max_restarts allow that. An actor that has ended is left as it is.
    Raises ValueError for anything but a handle, ActorHandleNotFoundError if its session has ended.
    Source: Ray API reference, ray.kill.
    """
    if is_over():
        return  # all have ended
    from ..actor import ActorHandle
    from ..client.actor_meta import client_of

    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"kill() only supported for actors. For tasks, try cancel(). Got: {type(actor)}."
        )
    ref = actor._aioray_ref
    client_of(ref).kill_actor(ref, no_restart=bool(no_restart))


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return a handle to the living actor of this name.

    namespace: None is that of the session.
    Raises ValueError if there is none, and for an empty name or namespace; TypeError for anything
    but text.
    Source: Ray API reference, ray.get_actor.
    """
    refuse_when_over()
    from ..actor import ActorHandle

    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    if not isinstance(name, str):
        raise TypeError(f"the name of an actor must be a str, got {name!r}")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if namespace == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    found = client_for_call().get_actor(name, namespace)
    if found is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. No such actor was made, or it has died, "
            f"or it is in another namespace: then pass that, get_actor(name, namespace)."
        )
    return ActorHandle(*found)
