"""Which runtime environments are the same: the key by which workers are dedicated and reused.

Room: client, because tasks call remote functions too; runs in the caller's
thread, and is pure but for pickling. Environments are equal if their
fields are, after merging, and if their hooks have the same pickle. The core sees the key only as
something that can be compared; `WorkerProcesses` reads from it what a worker has to be told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..exceptions import RuntimeEnvSetupError
from ..shared.options import SETUP_TIMEOUT
from ..shared.serializability import explain
from ..shared.serialization import dump_function, dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WorkerEnvironment", "extend", "needs_setup", "setup_seconds"]

HOOK = "worker_process_setup_hook"
_NEEDS_SETUP = ("working_dir", "py_modules", HOOK)


class WorkerEnvironment(NamedTuple):
    """The environment of a worker: the key by which workers are reused, and what setup needs."""

    text: str = "{}"  # the whole environment as JSON, with sorted keys; a hook by its name
    hook: bytes = b""  # pickled; empty: there is none, or `text` has the name to import

    def fields(self) -> dict[str, Any]:
        """Return the fields of the environment as a new dict."""
        found: dict[str, Any] = json.loads(self.text)
        return found


def extend(base: WorkerEnvironment, given: Mapping[str, Any] | None) -> WorkerEnvironment:
    """Return the environment that a checked `runtime_env` makes on top of another one, `base`.

    Variables are merged by name, any other field takes the place of the one below.
    Raises RuntimeEnvSetupError if the hook cannot be serialized; ValueError if it holds a ref.
    Source: Ray documentation, "Runtime environment inheritance".
    """
    if not given:
        return base
    below = base.fields()
    merged = {**below, **given}
    if "env_vars" in given:
        merged["env_vars"] = {**below.get("env_vars", {}), **given["env_vars"]}
    hook, code = given.get(HOOK), base.hook
    if isinstance(hook, str):
        code = b""
    elif hook is not None:
        merged[HOOK], code = _name_of(hook), _pickled(hook)
    text = json.dumps({name: value for name, value in merged.items() if value}, sort_keys=True)
    return WorkerEnvironment(text, code)


def needs_setup(fields: Mapping[str, Any]) -> bool:
    """Tell whether a worker has setup to do, which can fail, before it is in this environment."""
    return any(name in fields for name in _NEEDS_SETUP)


def setup_seconds(fields: Mapping[str, Any]) -> float | None:
    """Return how many seconds the setup of this environment may take; None: no limit."""
    seconds: float = fields.get("config", {}).get("setup_timeout_seconds", SETUP_TIMEOUT)
    return None if seconds < 0 else seconds


def _pickled(hook: Any) -> bytes:
    try:
        code, captured = dump_function(hook)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(hook, _name_of(hook), dumps)
        raise RuntimeEnvSetupError(
            f"Could not serialize the {HOOK} {_name_of(hook)!r}:\n{report}"
        ) from error
    if captured:
        raise ValueError(
            f"The {HOOK} {_name_of(hook)!r} must not hold a ref: a worker that is being set up "
            f"cannot get its value. Let the hook capture the value itself."
        )
    return code


def _name_of(hook: Any) -> str:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    return f"{getattr(hook, '__module__', None) or type(hook).__module__}.{name}"
