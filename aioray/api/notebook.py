"""What makes cells of a notebook work as programs do, and prompts too.

Room: api. IPython is never imported here: who runs in it finds it loaded. An engine that is
attached prints what workers print into the cell that runs when it comes, and all of it before the
cell ends. `%load_ext aioray` makes `import ray` mean aioray.

Why cells need that: their code runs inside a running event loop, and front ends drop what comes
after a cell's end. Which cell a line belongs to, IPython's kernel takes from the context of whoever
prints, so the thread that prints borrows that of the cell.
"""

from __future__ import annotations

import contextvars
import sys
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine.client import DriverClient

__all__ = [
    "at_prompt",
    "attach",
    "kernel_shell",
    "load_ipython_extension",
    "unload_ipython_extension",
]

_attached: weakref.WeakSet[DriverClient] = weakref.WeakSet()
_shells: weakref.WeakSet[Any] = weakref.WeakSet()  # that call the hooks below


def load_ipython_extension(_shell: Any) -> None:
    """Let `import ray` give aioray, as `%load_ext aioray` asks."""
    from ..compat import alias as ray_alias

    ray_alias.install()


def unload_ipython_extension(_shell: Any) -> None:
    """Let `import ray` no longer give aioray, as `%unload_ext aioray` asks. Sessions go on."""
    from ..compat import alias as ray_alias

    ray_alias.uninstall()


def at_prompt() -> bool:
    """Tell whether this process runs what somebody types, or the cells of a notebook.

    So it is in IPython and its kernels, in `python -m asyncio` and in any console that has set
    `sys.ps1`, as Python documents it.
    """
    if hasattr(sys, "ps1") or _shell() is not None:
        return True
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "asyncio.__main__"


def kernel_shell() -> Any:
    """Return the shell of IPython if this process is the kernel of a notebook, else None."""
    shell = _shell()
    return shell if hasattr(shell, "kernel") else None


def _shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def attach(client: DriverClient) -> None:
    """Let cells have what the workers of an engine print. Does nothing outside of notebooks."""
    shell = kernel_shell()
    if shell is None:
        return
    _attached.add(client)
    _cell_begins()
    if shell not in _shells:
        _shells.add(shell)
        shell.events.register("pre_run_cell", _cell_begins)
        shell.events.register("post_run_cell", _cell_ends)


def _cell_begins(*_about: Any) -> None:
    from ..engine.processes import output

    output.print_in(contextvars.copy_context())


def _cell_ends(*_result: Any) -> None:
    for client in list(_attached):
        if client.closed:
            _attached.discard(client)
        else:
            client.flush_output()
