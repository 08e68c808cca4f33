"""Ends a worker that is wanted no more: does for user code what the interpreter would, and no more.

Room: worker. The interpreter's own end takes apart every module and class that the worker shares
with the template, and so copies nearly all of their pages: that costs as much as a worker's start
and its task. What user code can see of that end is done here instead, in the same order: threads
are waited for, `atexit` hooks run, what user code's modules and functions hold is finalized, files
and streams are flushed, and the C library runs what was registered with it.

A process with somebody's extension modules ends as the interpreter does it: they may rely on more,
for example on MPI's end being called, or on no thread that waits for the GIL.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import io
import os
import sys
import threading
import weakref
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from . import output

if TYPE_CHECKING:
    from .loop import WorkerLoop

__all__ = ["end", "end_template", "note_own_modules"]

_own: frozenset[str] = frozenset()  # modules that were loaded before any of the user's
_OWN_PACKAGES = sys.stdlib_module_names | {"aioray"}
_EXTENSIONS = tuple(EXTENSION_SUFFIXES)


def note_own_modules() -> None:
    """Note which modules are there before any of the user's. Called by the template."""
    global _own
    _own = frozenset(sys.modules)


def end(server: WorkerLoop, reason: SystemExit) -> NoReturn:
    """Leave the process for `reason`. Raises it where the interpreter is to do the rest."""
    modules = _users_modules()
    if modules is None:
        raise reason
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends its processes
    atexit._run_exitfuncs()
    status = _status(reason)
    reason.code = None
    server.execution.functions.clear()
    _flush_files()  # now, as the collector may close a file before what still writes to it
    _finalize(modules)
    _flush_files()
    output.flush()
    faulthandler.disable()
    ctypes.pythonapi.exit(status)  # keeps the GIL: no other thread goes on beside the handlers
    raise AssertionError("exit has returned")


def end_template() -> None:
    """End the template, if no user code was loaded there, without taking its modules apart.

    The driver waits for this. Where there was a preload, the interpreter ends as usual.
    """
    if _users_modules() == {}:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _users_modules() -> dict[str, ModuleType] | None:
    """Find the modules that user code has loaded; None: not all of them are Python."""
    modules: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        if name in _own or _is_own(name):
            continue
        if not isinstance(module, ModuleType):
            return None
        # Looked up past the module's own __getattr__, which may import more.
        spec: Any = module.__dict__.get("__spec__")
        if _is_own(str(module.__dict__.get("__name__"))):
            continue  # under another name: `ray`, `six.moves.queue`
        if str(getattr(spec, "origin", None)).endswith(_EXTENSIONS):
            return None
        modules[name] = module
    return modules


def _is_own(name: str) -> bool:
    return name.partition(".")[0] in _OWN_PACKAGES


def _status(reason: SystemExit) -> int:
    """Find the exit status as the interpreter does; write what is no number to stderr."""
    code: Any = reason.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _finalize(modules: dict[str, ModuleType]) -> None:
    """Let go of what these modules hold, for finalizers; empty those that somebody keeps."""
    main = sys.modules.get("__main__")
    found = [weakref.ref(module) for module in modules.values()]
    for name in modules:
        sys.modules.pop(name, None)
    modules.clear()
    gc.collect()
    left = [module for module in (each() for each in found) if module is not None]
    for module in [*left, *([] if main is None else [main])]:
        _empty(module.__dict__)
    gc.collect()


def _empty(names: dict[str, Any]) -> None:
    """Let go of a module's values in the interpreter's order: first names with one underscore."""
    for is_first in (True, False):
        for name in list(names):
            is_private = name.startswith("_") and not name.startswith("__")
            if name != "__builtins__" and is_private is is_first:
                names[name] = None


def _flush_files() -> None:
    """Write what somebody has left in an open file that nothing has closed."""
    for each in gc.get_objects():  # without those that the template had frozen
        if issubclass(type(each), io.IOBase):
            try:
                if not each.closed:
                    each.flush()
            except Exception:  # noqa: BLE001, S112 - as the interpreter, which closes them all
                continue
