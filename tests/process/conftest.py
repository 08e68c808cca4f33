"""Nothing may be left over after any process test: one fixture looks, and fails who leaked."""

from __future__ import annotations

import contextlib
import gc
import os
import threading

import psutil
import pytest

from .support import LOOPS, Driver, Lifeline, Pipe, Watch


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of this very listing
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture(autouse=True, scope="session")
def loops_and_a_session_have_run_once():
    """libuv keeps a pipe of its own from its first loop on, and a session what it has imported."""
    import aioray

    for new_loop in LOOPS.values():
        new_loop().close()
    aioray.init(num_cpus=1)
    aioray.get(aioray.remote(os.getpid).remote())
    aioray.shutdown()
    gc.collect()
    gc.freeze()  # the collections before and after each test then look at little


@pytest.fixture(autouse=True)
def nothing_is_left_over():
    gc.collect()
    descriptors = _descriptors()
    threads = set(threading.enumerate())
    yield
    gc.collect()
    children = psutil.Process().children(recursive=True)
    left = [f"process {child}" for child in children]
    left += [f"thread {thread}" for thread in set(threading.enumerate()) - threads]
    now = _descriptors()
    left += [f"descriptor {fd}: {now[fd]}" for fd in sorted(now.keys() - descriptors.keys())]
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    assert not left, "left over:\n" + "\n".join(left)


@pytest.fixture
def pipes(tmp_path):
    """Makes named pipes."""
    made = []

    def make(count=1):
        pipes = [Pipe(tmp_path / f"pipe-{len(made) + index}") for index in range(count)]
        made.extend(pipes)
        return pipes[0] if count == 1 else pipes

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture
def started(pipes):
    """The pipe on which a task says that it runs."""
    return pipes()


@pytest.fixture
def gate(pipes):
    """The pipe on which a task waits for the test."""
    return pipes()


@pytest.fixture
def lifeline(tmp_path):
    """The pipe that processes keep open as long as they live."""
    line = Lifeline(tmp_path / "lifeline")
    yield line
    line.close()


@pytest.fixture
def notes(tmp_path):
    """A file for what tasks have done."""
    return str(tmp_path / "notes")


@pytest.fixture
def drive():
    """Starts scripts in processes of their own."""
    drivers = []

    def start(script, *arguments, **options):
        drivers.append(Driver(script, *arguments, **options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


@pytest.fixture
def watch():
    """Holds processes by pidfd, and kills at the end who should have been dead."""
    watches = []

    def start(*pids):
        watches.append(Watch(pids))
        return watches[-1]

    yield start
    for found in watches:
        found.close()


@pytest.fixture
def session():
    """The session of a plain script: `aioray.get` in this thread, the engine in another."""
    import aioray

    aioray.init(num_cpus=2)
    yield
    aioray.shutdown()
