"""Systems without room: for descriptors, files or addresses. What waits, fails, and is told."""

from __future__ import annotations

import asyncio
import errno
import os
import resource

import pytest

import aioray
from aioray.engine.processes.pool import WorkerProcesses
from aioray.exceptions import WorkerStartupError

from . import jobs, mischief
from .support import LOOPS, everywhere, on_both_loops
from .test_errors import error_of

same = aioray.remote(max_retries=-1)(jobs.same)


def refusing(monkeypatch, name, times):
    """Let a function of os fail so many times for want of descriptors; how often it will yet."""
    left = list(range(times))
    function = getattr(os, name)

    def refuse(*args, **kwargs):
        if left:
            left.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return function(*args, **kwargs)

    monkeypatch.setattr(os, name, refuse)
    return left


@everywhere(num_cpus=4)
async def test_start_of_workers_without_descriptors_is_tried_again(monkeypatch):
    left = refusing(monkeypatch, "eventfd", 30)
    assert await asyncio.gather(*[same.remote(number) for number in range(100)]) == list(range(100))
    assert not left


@everywhere
async def test_tasks_wait_for_a_replacement_while_other_workers_live(monkeypatch, started, gate):
    held = aioray.remote(jobs.hold).remote(started.path, gate.path)
    await started.heard()
    await aioray.remote(jobs.pid).remote()
    left = refusing(monkeypatch, "eventfd", 15)
    dies = aioray.remote(max_retries=0)(jobs.die).remote("SIGKILL")
    refs = [same.remote(number) for number in range(20)]
    await asyncio.wait([dies])
    assert await asyncio.gather(*refs) == list(range(20))
    assert not left
    gate.tell("done")
    assert await held == "done"


@everywhere
async def test_worker_that_never_gets_its_descriptors_is_an_error_that_says_so(monkeypatch):
    refusing(monkeypatch, "eventfd", 1_000_000)
    error = await error_of(same.remote(1))
    assert isinstance(error, WorkerStartupError)
    assert "Too many open files" in str(error)


@everywhere
async def test_template_without_descriptors_fails_starts_that_are_tried_again(monkeypatch):
    pid = await aioray.remote(mischief.parent).remote()
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    failures = []
    start_failed = WorkerProcesses._start_failed

    def tell(crew, worker_id, report, *, scarce=False):
        failures.append((report.reason, scarce))
        if len(failures) == 4:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        start_failed(crew, worker_id, report, scarce=scarce)

    monkeypatch.setattr(WorkerProcesses, "_start_failed", tell)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 4, limits[1]))
    large = same.options(runtime_env={"env_vars": {"A": "x" * 300_000}}).remote(1)
    small = same.options(runtime_env={"env_vars": {"B": "b"}}).remote(2)
    assert await asyncio.gather(large, small) == [1, 2]
    assert len(failures) >= 4
    assert all(scarce and "Too many open files" in reason for reason, scarce in failures)
    assert await aioray.remote(mischief.parent).remote() == pid


@on_both_loops
async def test_template_that_cannot_import_when_it_has_time_goes_on(started):
    """Bug: it died of that, and all its workers with it."""
    env = {"env_vars": {"TRIED": started.path}}
    modules = ["tests.process.scarce"]
    async with aioray.Engine(num_cpus=1, preload=modules, runtime_env=env) as engine:
        assert await same.remote(1) == 1
        template = int(await started.heard())
        assert await same.options(runtime_env={"env_vars": {"A": "a"}}).remote(2) == 2
        assert engine.pids()[0] == template


STARTS = r"""
import asyncio, gc, os, resource, sys, threading
import aioray, uvloop

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    return found

def init(limit):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        aioray.init(num_cpus=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

async def inside(limit):
    init(limit)
    await aioray.shutdown()

def start(limit):
    how = sys.argv[1]
    if how == "script":
        init(limit)
        aioray.shutdown()
    else:
        factory = uvloop.new_event_loop if how == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(inside(limit))

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
start(soft)
before = descriptors()
failed = 0
for limit in range(len(before) - 1, len(before) + 40):
    try:
        start(limit)
    except OSError as error:
        failed += 1
    gc.collect()
    left = {fd: path for fd, path in descriptors().items() if fd not in before}
    left = {fd: path for fd, path in left.items() if "/proc/" not in path}
    assert not left, (limit, left)
    assert threading.active_count() == 1, threading.enumerate()
start(soft)
print("failed", failed > 8)
"""


@pytest.mark.parametrize("how", [*LOOPS, "script"])
def test_start_that_fails_for_want_of_descriptors_leaves_none_open(drive, how):
    assert drive(STARTS, how).finish()[:2] == (0, "failed True\n")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("threading", "Thread.start"),
        ("aioray.engine.objects.store", "Store.__init__"),
        ("aioray.engine.processes.pool", "WorkerProcesses.__init__"),
        ("aioray.engine.processes.template", "TemplateProcess.__init__"),
        ("aioray.state.write.writer", "HistoryWriter.__init__"),
        ("aioray.state.write.writer", "HistoryWriter.start"),
        ("aioray.engine.telemetry.snapshot", "Snapshot.__init__"),
        ("aioray.engine.telemetry.recorder", "Recorder.begin"),
        ("aioray.engine.processes.boot", "TemplateLauncher.__init__"),
    ],
)
def test_start_that_fails_at_any_step_leaves_nothing(monkeypatch, module, name):
    """A fixture looks for what is left: descriptors, threads, processes."""
    import importlib

    cls, method = name.split(".")

    def fail(*_args, **_kwargs):
        raise OSError(errno.ENOMEM, "no room")

    monkeypatch.setattr(getattr(importlib.import_module(module), cls), method, fail)
    with pytest.raises(OSError, match="no room"):
        aioray.init(num_cpus=1)
    monkeypatch.undo()
    assert not aioray.is_initialized()
    aioray.init(num_cpus=1)
    assert aioray.get(same.remote(1)) == 1
    aioray.shutdown()


VALUES = r"""
import sys
import aioray

SIZES = (10, 200_000, 3_000_000, 20_000_000)

@aioray.remote
def make(size):
    return bytes(size)

@aioray.remote
def measure(value):
    return len(value)

@aioray.remote
def nested(size):
    return len(aioray.get(make.remote(size))), len(aioray.get(aioray.put(bytes(size))))

settings = {"object_store_memory": int(sys.argv[1])} if len(sys.argv) > 1 else {}
with aioray.init(num_cpus=2, **settings):
    for _ in range(3):
        for size in SIZES:
            assert len(aioray.get(make.remote(size))) == size
            ref = aioray.put(bytes(size))
            assert len(aioray.get(ref)) == size
            assert aioray.get(measure.remote(ref)) == size
            assert aioray.get(measure.remote(make.remote(size))) == size
            assert aioray.get(nested.remote(size)) == (size, size)
    print("all", aioray.cluster_resources()["object_store_memory"] < 1_500_000_000)
"""


@pytest.mark.parametrize("store", [[], [100_000_000], [1_400_000_000]])
def test_values_of_any_size_are_stored_where_addresses_are_limited(drive, store):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))

    status, out, err = drive(VALUES, *store, preexec_fn=limit).finish()
    assert (status, out) == (0, "all True\n"), err


@pytest.mark.parametrize("store", [[], [100_000_000]])
def test_values_of_any_size_are_stored_where_the_size_of_files_is_limited(drive, store):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000_000, 200_000_000))

    status, out, err = drive(VALUES, *store, preexec_fn=limit).finish()
    assert (status, out) == (0, "all True\n"), err


def test_store_that_is_larger_than_files_may_be_is_refused_with_a_hint(drive):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))

    status, _, err = drive(VALUES, 100_000_000, preexec_fn=limit).finish()
    assert status == 1
    assert "ulimit -f" in err.splitlines()[-1]
    assert "object_store_memory" in err.splitlines()[-1]
