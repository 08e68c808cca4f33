"""Small helpers under the names they have in `ray.util`.

Room: api. Only what needs no session and no engine stands here; larger tools get modules of
their own below this package, so that importing one does not load the others. A name that Ray has
here and aioray has not is an AttributeError that says so, as on the face.

This file must not import `annotations` from `__future__`: the module of that name is `annotations`
below this package, and the name here would hide it.
"""

__all__ = [
    "ActorPool",
    "Executor",
    "Queue",
    "actor_pool",
    "annotations",
    "as_completed",
    "check_serialize",
    "deregister_serializer",
    "get_current_placement_group",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "joblib",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "metrics",
    "multiprocessing",
    "placement_group",
    "placement_group_table",
    "queue",
    "register_serializer",
    "remove_placement_group",
    "scheduling_strategies",
    "state",
    "tracing",
]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from aioray.util import (
        actor_pool,
        annotations,
        check_serialize,
        joblib,
        metrics,
        multiprocessing,
        queue,
        scheduling_strategies,
        state,
        tracing,
    )
    from aioray.util._helpers import as_completed, map_unordered
    from aioray.util._named_actors import list_named_actors
    from aioray.util.actor_pool import ActorPool
    from aioray.util.check_serialize import inspect_serializability
    from aioray.util.executor import Executor
    from aioray.util.placement_group import (
        get_current_placement_group,
        get_placement_group,
        placement_group,
        placement_group_table,
        remove_placement_group,
    )
    from aioray.util.queue import Queue
    from aioray.util.serialization import deregister_serializer, register_serializer
else:
    _MODULE_BY_NAME = {
        "ActorPool": "actor_pool",
        "Executor": "executor",
        "Queue": "queue",
        "as_completed": "_helpers",
        "deregister_serializer": "serialization",
        "get_current_placement_group": "placement_group",
        "get_placement_group": "placement_group",
        "inspect_serializability": "check_serialize",
        "list_named_actors": "_named_actors",
        "map_unordered": "_helpers",
        "placement_group_table": "placement_group",
        "register_serializer": "serialization",
        "remove_placement_group": "placement_group",
    }
    _SUBMODULES = frozenset(
        {
            "actor_pool",
            "annotations",
            "check_serialize",
            "joblib",
            "metrics",
            "multiprocessing",
            "placement_group",
            "queue",
            "scheduling_strategies",
            "state",
            "tracing",
        }
    )

    # Hidden from type checkers, which would otherwise accept any name at all on this module.
    def __getattr__(name):
        module_name = _MODULE_BY_NAME.get(name)
        if module_name is None and name not in _SUBMODULES:
            from aioray.compat.names import look_up

            return look_up("aioray.util", name)
        from importlib import import_module

        module = import_module(f"aioray.util.{module_name or name}")
        return module if module_name is None else getattr(module, name)


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet, and no others."""
    return sorted(__all__)


_first_caller_by_key: dict[str, object] = {}
_log_once_disabled = False


def get_node_ip_address(address: str = "8.8.8.8:53") -> str:
    """Return the address of this node, which is always "127.0.0.1".

    `address` is accepted and ignored: Ray looks which interface leads there, aioray has one
    machine and no ports. Source: ray.util.get_node_ip_address.
    """
    return "127.0.0.1"


def log_once(key: str) -> bool:
    """Return True at the first call with `key` in this process, then False.

    Meant for `if log_once("slow"): logger.warning(...)`. Safe to call from several threads: one of
    them gets True. Source: ray.util.log_once.
    """
    if _log_once_disabled:
        return False
    caller = object()
    return _first_caller_by_key.setdefault(key, caller) is caller


def disable_log_once_globally() -> None:
    """Let `log_once` return False from now on. Source: ray.util.disable_log_once_globally."""
    global _log_once_disabled
    _log_once_disabled = True


def enable_periodic_logging() -> None:
    """Let `log_once` return True again the next time, for every key, and undo `disable`.

    Source: ray.util.enable_periodic_logging, where that comes again every minute.
    """
    global _log_once_disabled
    _log_once_disabled = False
    _first_caller_by_key.clear()
