"""Ray's tasks and actors on this machine's processes, with an asyncio engine below.

    import aioray as ray

    @ray.remote
    def double(x):
        return 2 * x

    ray.get([double.remote(i) for i in range(4)])   # [0, 2, 4, 6]

Room: api.
"""

# Every process of aioray runs this file first, workers included, so it loads nothing: a public name
# is imported from its module when it is first asked for (PEP 562) and kept from then on. The table
# below says where each name lives; the block under TYPE_CHECKING says the same to type checkers,
# and a test compares the two. What the names do is written in their own modules.
#
# A name that Ray has and aioray has not is an AttributeError that says so. It is raised, and not
# left out silently, because `module has no attribute 'tune'` would read like a typing mistake.
#
# `aioray.remote` is the decorator, so its module is called `remote_function`. No module may ever
# take the name of a public function: importing it would replace the function.
#
# Where descriptors 0 to 2 are closed (`>&-`, old daemons), an import fills them with /dev/null:
# what is opened next, event loops too, would be given these numbers, be written to by whoever
# prints, and abort libuv when it is closed. `sys.stdout` and the others stay what they are.
#
# Elsewhere than on Linux the import says so at once, in one sentence: else it would be some module
# below that is missing, in the middle of a program. `linux.check_platform` looks for the rest.

from atexit import register as _register
from sys import modules as _modules
from sys import platform as _platform

__all__ = [
    "CancelOutcome",
    "CrashBreaker",
    "DoNotRetry",
    "DynamicObjectRefGenerator",
    "Engine",
    "Limiter",
    "LoggingConfig",
    "ObjectRef",
    "ObjectRefGenerator",
    "RemoteFunction",
    "RestartPolicy",
    "RetryPolicy",
    "RetryTask",
    "RuntimeContext",
    "__version__",
    "actor",
    "as_completed",
    "asgi",
    "available_resources",
    "cancel",
    "cloudpickle",
    "cluster_resources",
    "exceptions",
    "exit_actor",
    "experimental",
    "gather",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "health",
    "heartbeat",
    "init",
    "is_initialized",
    "kill",
    "map",
    "method",
    "nodes",
    "progress",
    "put",
    "remote",
    "runtime_context",
    "runtime_env",
    "scope",
    "shutdown",
    "testing",
    "timeline",
    "util",
    "wait",
]

__version__ = "0.1.0"

if _platform != "linux":
    raise ImportError(
        f"aioray supervises processes with what only Linux offers, and this is {_platform}: run it "
        f"on Linux 5.4 or later, for which WSL 2 or a container will do."
    )


@_register
def _end_session() -> None:
    """End the session when the program ends.

    Registered here, so that handlers of the program still have it.
    """
    api = _modules.get("aioray.api.session")
    if api is not None:
        api.end_at_exit()


# Type checkers take it to be true. The one of `typing` would load that module in every worker.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from aioray import (
        actor,
        asgi,
        cloudpickle,
        exceptions,
        experimental,
        runtime_context,
        runtime_env,
        testing,
        util,
    )
    from aioray.actor import exit_actor, method
    from aioray.api.actors import get_actor, kill
    from aioray.api.cluster import available_resources, cluster_resources, health, nodes, timeline
    from aioray.api.engines import Engine
    from aioray.api.heartbeat import heartbeat
    from aioray.api.objects import cancel, get, put, wait
    from aioray.api.progress import progress
    from aioray.api.session import init, is_initialized, shutdown
    from aioray.client.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from aioray.client.refs import ObjectRef
    from aioray.core.intensity import RestartPolicy
    from aioray.core.outcomes import CancelOutcome
    from aioray.exceptions import DoNotRetry, RetryTask
    from aioray.options.logging_config import LoggingConfig
    from aioray.remote_function import RemoteFunction, remote
    from aioray.retry import RetryPolicy
    from aioray.runtime_context import RuntimeContext, get_gpu_ids, get_runtime_context
    from aioray.services.gathering import as_completed, gather
    from aioray.services.maps import map  # noqa: A004 - as Python has one
    from aioray.services.scopes import scope
    from aioray.shared.crash_breaker import CrashBreaker
    from aioray.shared.limiter import Limiter
else:
    _MODULE_BY_NAME = {
        "CancelOutcome": "core.outcomes",
        "CrashBreaker": "shared.crash_breaker",
        "DoNotRetry": "exceptions",
        "Engine": "api.engines",
        "DynamicObjectRefGenerator": "client.generators",
        "Limiter": "shared.limiter",
        "LoggingConfig": "options.logging_config",
        "ObjectRef": "client.refs",
        "ObjectRefGenerator": "client.generators",
        "RemoteFunction": "remote_function",
        "RestartPolicy": "core.intensity",
        "RetryPolicy": "retry",
        "RetryTask": "exceptions",
        "RuntimeContext": "runtime_context",
        "as_completed": "services.gathering",
        "available_resources": "api.cluster",
        "cancel": "api.objects",
        "cluster_resources": "api.cluster",
        "exit_actor": "actor",
        "gather": "services.gathering",
        "get": "api.objects",
        "get_actor": "api.actors",
        "get_gpu_ids": "runtime_context",
        "get_runtime_context": "runtime_context",
        "health": "api.cluster",
        "heartbeat": "api.heartbeat",
        "init": "api.session",
        "is_initialized": "api.session",
        "kill": "api.actors",
        "map": "services.maps",
        "method": "actor",
        "nodes": "api.cluster",
        "progress": "api.progress",
        "put": "api.objects",
        "remote": "remote_function",
        "scope": "services.scopes",
        "shutdown": "api.session",
        "timeline": "api.cluster",
        "wait": "api.objects",
    }
    _SUBMODULES = frozenset(
        {
            "actor",
            "asgi",
            "cloudpickle",
            "exceptions",
            "experimental",
            "runtime_context",
            "runtime_env",
            "testing",
            "util",
        }
    )

    # Not for programs to use every day, and so in no list: what `%load_ext aioray` asks for, and
    # the module that does the same.
    _UNLISTED = {
        "load_ipython_extension": "api.notebook",
        "ray_alias": None,
        "unload_ipython_extension": "api.notebook",
    }

    def _fill_standard_descriptors():
        import sys

        if None in (sys.__stdin__, sys.__stdout__, sys.__stderr__):  # Python found one closed
            import contextlib

            from aioray.shared.linux import fill_standard_descriptors

            with contextlib.suppress(OSError):  # the start of an engine will say why
                fill_standard_descriptors()

    _fill_standard_descriptors()

    # Hidden from type checkers, which would otherwise accept any name at all on this module.
    def __getattr__(name):
        module_name = _MODULE_BY_NAME.get(name) or _UNLISTED.get(name)
        if module_name is None and name not in _SUBMODULES and name not in _UNLISTED:
            from aioray.compat.names import look_up

            return look_up("aioray", name)
        from importlib import import_module

        if module_name is None:
            return import_module(f"aioray.{name}")  # the import itself sets the attribute
        value = getattr(import_module(f"aioray.{module_name}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet, and no others."""
    return sorted(__all__)
