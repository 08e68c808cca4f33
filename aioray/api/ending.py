"""What becomes of a session, and of all that hangs on it, when the interpreter ends.

Room: api; stdlib only. `aioray/__init__.py` has `end_at_exit` of `api` called among the atexit
handlers, before those that were registered earlier than aioray was imported. Three rules hold from
then on, so that the last thing a program prints is its own:

- Every engine has ended, and an ended engine has no callbacks left that objects could trigger.
- Nothing starts a session any more: `refuse_when_over`.
- Modules, `sys` too, are taken apart while finalizers still run, so these use no globals that they
  could miss. A user's `__del__` may call the API all the same, at a time when not even imports
  work; what it then gets from aioray is nobody's news, and is not printed: `keep_quiet`. The same
  goes for a daemon thread that still waits for a ref.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["is_over", "keep_quiet", "keep_status_of_ctrl_c", "refuse_when_over"]


class _Interpreter:
    over = False  # the session has ended because the interpreter is about to


_interpreter = _Interpreter()


def refuse_when_over(_interpreter: _Interpreter = _interpreter) -> None:
    """Raise RuntimeError if the interpreter is ending and has ended the session."""
    if _interpreter.over:
        raise RuntimeError(
            "Python is ending, and so has the aioray session: nothing can be run or got any more. "
            "Do it before the program's last line, or in an atexit handler that is registered "
            "after aioray was imported."
        )


def is_over(_interpreter: _Interpreter = _interpreter) -> bool:
    """Tell whether the interpreter is ending and has ended the session."""
    return _interpreter.over


def keep_quiet() -> None:
    """Note that the interpreter ends: print no errors of aioray that nobody can catch any more."""
    if _interpreter.over:
        return
    _interpreter.over = True
    ours = os.path.dirname(os.path.dirname(__file__)) + os.sep
    is_finalizing = sys.is_finalizing
    print_unraisable, print_in_thread = sys.unraisablehook, threading.excepthook
    exceptions = sys.modules.get("aioray.exceptions")
    news = () if exceptions is None else (exceptions.RayTaskError,)  # what tasks have raised

    def is_ours(traceback: TracebackType | None) -> bool:
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename.startswith(ours):
                return True
            traceback = traceback.tb_next
        return False

    def unraisable_hook(unraisable: Any) -> None:
        if not (is_finalizing() and is_ours(unraisable.exc_traceback)):
            print_unraisable(unraisable)

    def thread_hook(arguments: Any) -> None:
        if isinstance(arguments.exc_value, news) or not is_ours(arguments.exc_traceback):
            print_in_thread(arguments)

    sys.unraisablehook, threading.excepthook = unraisable_hook, thread_hook


def keep_status_of_ctrl_c() -> None:
    """Have a program that Ctrl-C has ended die of SIGINT, as the shell that started it expects.

    The interpreter notes that KeyboardInterrupt has left the program, and forgets it as soon as
    any thread executes a text: a named tuple or a dataclass of a module that is imported while the
    session ends is enough, and the exit status is 1. So the note is made once more; not for an
    interrupt at a prompt, which has gone on since.
    """
    if not hasattr(sys, "ps1") and getattr(sys, "last_type", None) is KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")
