"""Puts a new worker into its runtime environment, before its first task.

Room: worker. What to do was checked in the driver (`aioray.runtime_env`), but the file system may
have changed since, and the hook is user code. Whatever goes wrong is raised as it is: `loop` tells
the driver, and ends the process. The environment variables are in force already, see `template`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ..shared.serialization import load
from ..shared.wire import HOOK_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["set_up"]


def set_up(fields: dict[str, Any], hook: bytes, tracing_hook: str | None = None) -> None:
    """Change directory, extend sys.path, and run the hooks.

    fields: the whole environment. hook: pickled; empty: there is none, or `fields` has its name.
    tracing_hook: see `aioray.shared.startup_hook`.
    """
    places: dict[str, None] = {}
    working_dir = fields.get("working_dir")
    if working_dir is not None:
        try:
            os.chdir(working_dir)
        except OSError as error:
            raise _gone("working_dir", error) from None
        places[working_dir] = None
    for path in fields.get("py_modules", ()):
        try:
            os.stat(path)
        except OSError as error:
            raise _gone("py_modules", error) from None
        places[path if path.endswith(".whl") else os.path.dirname(path)] = None
    if places:
        sys.path[:0] = places
        inherited = os.environ.get("PYTHONPATH")
        # For the interpreters that tasks start; as in Ray.
        os.environ["PYTHONPATH"] = os.pathsep.join([*places, *filter(None, [inherited])])
    if tracing_hook is not None:
        from ..shared.startup_hook import run_startup_hook

        run_startup_hook(tracing_hook)
    name = fields.get("worker_process_setup_hook")
    if name is not None:
        try:
            run: Callable[[], object] = load(hook) if hook else _find(name)
            run()
        except BaseException as error:
            error.add_note(f"{HOOK_FAILED}: {name}")
            raise


def _gone(field: str, error: OSError) -> OSError:
    return OSError(error.errno, f"{field} cannot be used: {error.strerror}", error.filename)


def _find(name: str) -> Callable[[], object]:
    module, _, function = name.rpartition(".")
    found: Callable[[], object] = getattr(importlib.import_module(module), function)
    return found
