"""What runs in workers with a runtime environment: hooks, and tasks that look around.

Like `jobs`, imported there by name.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys

import aioray

from .jobs import FOREVER, listen, note, notes, say, time

MARKS = []  # what hooks have seen in this process


class OutOfOrderError(Exception):
    """What a hook raises."""


def mark():
    MARKS.append((os.getpid(), os.getcwd(), sys.path[0], os.environ.get("AIORAY_TEST_A")))


def marks():
    return MARKS


def note_pid(path):
    note(path, os.getpid())


def speak():
    print("the hook speaks")


def ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def set_threads():
    os.environ["OMP_NUM_THREADS"] = "7"


def fail(path, message="no database"):
    note(path, os.getpid())
    print("about to fail", file=sys.stderr)
    raise OutOfOrderError(message)


def refuse():
    raise OutOfOrderError("no database")


def fail_once(path):
    """In the first worker only."""
    note(path, os.getpid())
    if len(notes(path)) == 1:
        raise OutOfOrderError


def end(how):
    print("about to end", file=sys.stderr)
    if how == "sys.exit":
        sys.exit(3)
    elif how == "_exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def hang(started):
    say(started, os.getpid())
    time.sleep(FOREVER)


def hang_stubbornly(started):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    hang(started)


def wait(started, gate):
    say(started, os.getpid())
    listen(gate)


def where():
    """The current directory, the first places for imports, and what an interpreter finds there."""
    code = "import sys; print(sys.path[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return os.getcwd(), sys.path[:3], done.stdout.strip()


def value_of(module):
    return importlib.import_module(module).VALUE


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def environment():
    context = aioray.get_runtime_context()
    return context.runtime_env, context.get_runtime_env_string()


def threads():
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


def replace_threads(value):
    os.environ["OMP_NUM_THREADS"] = value
