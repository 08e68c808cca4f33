"""What becomes of everything when the driver dies, is interrupted, or runs out of descriptors."""

from __future__ import annotations

import ast
import asyncio
import os
import selectors
import signal
import subprocess
import sys
import threading

import psutil
import pytest

import aioray

from . import jobs
from .support import GUARD, ROOT

INIT = """
import asyncio, os, sys, time, aioray
from tests.process import jobs
aioray.init(num_cpus=2)
"""
ASYNC = """
import asyncio, os, sys, time, aioray, uvloop
from tests.process import jobs
async def main():
    async with aioray.Engine(num_cpus=2) as engine:
        await body(engine)
with asyncio.Runner(loop_factory={loop}) as runner:
    runner.run(main())
"""
LOOPS = ["asyncio.new_event_loop", "uvloop.new_event_loop"]
PLAIN = INIT + "aioray.get(aioray.remote(jobs.{job}).remote(sys.argv[1]))\n"


def script(kind, job):
    if kind == "script":
        return PLAIN.format(job=job)
    return (
        "async def body(engine):\n"
        f"    await aioray.remote(jobs.{job}).remote(sys.argv[1])\n" + ASYNC.format(loop=kind)
    )


@pytest.mark.parametrize("kind", ["script", *LOOPS])
def test_kill_9_of_the_driver_leaves_nobody(kind, drive, watch, started):
    """Worker, template, plain child, setsid child, double-forked daemon, child with the pipes."""
    driver = drive(script(kind, "start_descendants"), started.path)
    family = watch(*map(int, started.hear().split()))
    assert len(family.fds) == 6
    driver.signal(signal.SIGKILL)
    assert family.survivors() == []


STOP, CONT, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL
WAYS_TO_END = {
    "the driver": [("driver", KILL)],
    "the template": [("template", KILL)],
    "the guardian": [("guardian", KILL)],
    "the worker": [("worker", KILL)],
    "driver, then template": [("driver", KILL), ("template", KILL)],
    "template, then driver": [("template", KILL), ("driver", KILL)],
    "driver and guardian": [("driver", KILL), ("guardian", KILL)],
    "driver and worker": [("worker", KILL), ("driver", KILL)],
    "the driver, with a stopped template": [("template", STOP), ("driver", KILL)],
    "the driver, with a stopped guardian": [("guardian", STOP), ("driver", KILL)],
    "the driver, with a stopped worker": [("worker", STOP), ("driver", KILL)],
    "the guardian of a stopped template": [("template", STOP), ("guardian", KILL)],
    "the template of a stopped guardian": [("guardian", STOP), ("template", KILL)],
    "the worker, politely": [("worker", signal.SIGTERM)],
    "the template, politely": [("template", signal.SIGTERM)],
}
START_EVERY_KIND = "aioray.remote(max_retries=0)(jobs.start_every_kind).remote(*sys.argv[1:])"


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_nothing_that_a_task_has_started_outlives(way, drive, watch, started, lifeline):
    """Whatever a process has done to live on, and whoever is killed: eight kinds, and one that
    forks on and on, in a session of its own each time."""
    body = INIT + f"ref = {START_EVERY_KIND}\n"
    body += "aioray.wait([ref])\ntime.sleep(jobs.FOREVER)\n"
    driver = drive(body, started.path, lifeline.path)
    worker, template, *pids = map(int, started.hear().split())
    assert len(pids) == len(jobs.KINDS)
    guardian = psutil.Process(template).ppid()
    victims = {"driver": driver.pid, "worker": worker, "template": template, "guardian": guardian}
    family = watch(worker, *pids)
    rest = watch(*{template, guardian} if ("driver", KILL) in WAYS_TO_END[way] else {})
    for victim, number in WAYS_TO_END[way]:
        os.kill(victims[victim], number)
    names = dict(zip([worker, *pids], ["worker", *jobs.KINDS], strict=True))
    assert [names[pid] for pid in family.survivors()] == []
    assert rest.survivors() == []
    assert lifeline.is_let_go()


@pytest.mark.parametrize("job", ["hold_the_gil", "swallow_everything"])
def test_kill_9_of_the_driver_ends_workers_that_are_stuck(job, drive, watch, started):
    driver = drive(script("script", job), started.path)
    worker = watch(int(started.hear()))
    driver.signal(signal.SIGKILL)
    assert worker.survivors() == []


TREE = """
tree = aioray.remote(family.tree)
refs = [tree.remote(sys.argv[1], 2), family.held_stream.remote(sys.argv[1])]
refs.append(aioray.remote(family.read_stream).remote(sys.argv[1]))
aioray.get(refs[0])
"""


def start_family(drive, started, watch):
    """A driver in get() of a tree of tasks, with a producer that is held, and a reader of one."""
    driver = drive(INIT + "from tests.process import family\n" + TREE, started.path)
    # The tree's 1 + 2 + 4 tasks, the held one; a reader and whom it reads.
    pids = {int(started.hear()) for _ in range(1 + 2 + 4 + 1 + 2)}
    return driver, watch(*pids)


def test_kill_9_of_the_driver_ends_trees_and_streams(drive, started, watch):
    driver, family = start_family(drive, started, watch)
    driver.signal(signal.SIGKILL)
    assert family.survivors() == []


def test_ctrl_c_in_the_middle_of_trees_and_streams_prints_one_traceback(drive, started, watch):
    driver, family = start_family(drive, started, watch)
    os.killpg(driver.pid, signal.SIGINT)
    status, out, err = driver.finish()
    assert (status, out) == (-signal.SIGINT, ""), err
    assert err.splitlines().count("KeyboardInterrupt") == 1, err
    assert err.count("Traceback") == 1, err
    assert family.survivors() == []


def test_status_is_that_of_ctrl_c_though_a_text_is_executed_at_the_end(drive, started):
    """The interpreter itself forgets it then; here as an import of a dataclass would have it."""
    body = """
import atexit
atexit.register(exec, "import dataclasses; dataclasses.make_dataclass('Late', ['x'])", {})
ref = aioray.remote(jobs.sleep).remote(sys.argv[1])
aioray.get(ref)
"""
    driver = drive(INIT + body, started.path)
    started.hear()
    os.killpg(driver.pid, signal.SIGINT)
    status, out, err = driver.finish()
    assert (status, out) == (-signal.SIGINT, ""), err


@pytest.mark.parametrize("kind", ["script", *LOOPS])
@pytest.mark.parametrize("job", ["start_descendants", "hold_the_gil"])
def test_ctrl_c_prints_one_traceback_and_leaves_nobody(kind, job, drive, watch, started):
    driver = drive(script(kind, job), started.path)
    family = watch(*map(int, started.hear().split()))
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    status, out, err = driver.finish()
    assert status == -signal.SIGINT
    assert out == ""
    # One, and the one that asyncio chains to it.
    assert err.splitlines().count("KeyboardInterrupt") == 1, err
    assert err.count("Traceback") == (1 if kind == "script" else 2), err
    assert family.survivors() == []


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise ValueError('the end')", "os._exit(3)"])
def test_driver_that_ends_without_shutdown_leaves_nobody(how, drive, watch, started, gate):
    body = f"""
ref = aioray.remote(jobs.start_descendants).remote(sys.argv[1])
jobs.listen(sys.argv[2])
{how}
"""
    driver = drive(INIT + body, started.path, gate.path)
    family = watch(*map(int, started.hear().split()))
    gate.tell()
    status, _, err = driver.finish()
    assert status == (1 if "raise" in how else 3)
    assert err.count("Traceback") == (1 if "raise" in how else 0), err
    assert family.survivors() == []


def test_worker_of_a_driver_with_sigint_ignored_can_be_interrupted(drive, started):
    body = """
ref = aioray.remote(jobs.sleep).remote(sys.argv[1])
jobs.listen(sys.argv[2])
print(aioray.cancel(ref, grace=100).result(100).name)
"""
    pipe = started.path + "-gate"
    os.mkfifo(pipe)
    driver = drive(
        INIT + body,
        started.path,
        pipe,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    started.hear()
    jobs.say(pipe)
    assert driver.finish()[:2] == (0, "INTERRUPTED\n")


CLOSED = """
def targets(pid="self"):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
streams = [sys.stdin is None, sys.stdout is None, sys.stderr is None]
def look(kind, value):
    (child,) = psutil.Process().children()
    jobs.note(sys.argv[1], repr((kind, value, targets(), targets(child.pid)[0])))
async def use():
    async with aioray.Engine(num_cpus=1):
        value = await aioray.remote(jobs.speak_and_return).remote(3)
        look(type(asyncio.get_running_loop()).__module__.split(".")[0], value)
for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(use())
for fd, is_closed in enumerate(streams):
    if is_closed:
        os.close(fd)  # what was filled at the import
aioray.init(num_cpus=1)
(value,) = aioray.progress([aioray.remote(jobs.speak_and_return).remote(3)])
look("script", value)
print("a line")
aioray.shutdown()
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "02", "12", "012"])
def test_closed_standard_descriptors_are_filled(closed, drive, notes):
    """In the driver, and so in the processes below it; nothing of aioray's may be given one."""
    fds = [int(fd) for fd in closed]
    before = "import asyncio, os, psutil, uvloop, aioray\nfrom tests.process import jobs\n"
    driver = drive(before + CLOSED, notes, preexec_fn=lambda: [os.close(fd) for fd in fds])
    status, out, err = driver.finish()
    assert status == 0, err
    assert "Error" not in err
    lines = [ast.literal_eval(line) for line in jobs.notes(notes)]
    assert [line[:2] for line in lines] == [("asyncio", 3), ("uvloop", 3), ("script", 3)]
    for _, _, targets, childs_stdin in lines:
        assert [targets[fd] for fd in fds] == ["/dev/null"] * len(fds)
        assert childs_stdin == "/dev/null"
    assert ("a line" in out) == (1 not in fds)


@pytest.mark.parametrize("command", ["list tasks", "status", "logs", "sessions", "nonsense"])
def test_commands_need_no_standard_streams(command, tmp_path):
    """They end as with streams that nobody reads."""
    argv = [sys.executable, "-m", "aioray", *command.split()]
    environ = {**os.environ, "RAY_TMPDIR": str(tmp_path)}
    given = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    usual = subprocess.run(argv, env=environ, timeout=GUARD, check=False, **given)
    closed = subprocess.run(
        argv,
        env=environ,
        timeout=GUARD,
        check=False,
        preexec_fn=lambda: os.closerange(0, 3),
    )
    assert closed.returncode == usual.returncode


LOST = """
import re, threading
from tests.process import parents
held = aioray.remote(jobs.hold).remote(sys.argv[1], sys.argv[2])
jobs.listen(sys.argv[3])
ended = aioray.remote(jobs.add).remote(1, 2)
actor = aioray.remote(parents.Parent).remote()
print(aioray.get([ended, actor.pid.remote()])[0])
def told(call):
    try:
        return call()
    except aioray.exceptions.RaySystemError as error:
        return "os.closerange" in str(error) and "before init()" in str(error)
waiting = threading.Thread(target=lambda: print("waiter", told(lambda: aioray.get(held))))
waiting.start()
aioray.timeline()  # the history's thread has begun
def switches():
    others = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
    texts = [open(f"/proc/self/task/{thread}/status").read() for thread in sorted(others)]
    return [re.findall("voluntary_ctxt_switches:.*", text) for text in texts]
while switches() != (time.sleep(0.1), switches())[1]:
    pass  # until all other threads sleep
os.closerange(3, 100_000)
taken = [open(os.path.join(sys.argv[4], str(number)), "w+") for number in range(100)]
waiting.join()
for call in (
    lambda: aioray.get(held), lambda: aioray.put(1), lambda: aioray.get(ended),
    lambda: aioray.remote(jobs.add).remote(1, 2), actor.pid.remote,
    lambda: aioray.remote(parents.Parent).remote(), lambda: aioray.kill(actor),
):
    print(told(call))
del actor, held
for number, file in enumerate(taken):
    file.write(str(number))
    file.flush()
"""


@pytest.mark.parametrize("end", ["", "aioray.shutdown(); aioray.init(); print('again')"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_descriptors_that_the_program_closes_are_missed_by_name(
    loop, end, drive, pipes, watch, tmp_path
):
    """Who waits and who calls are told so, workers end, and nothing is written to or closed that
    has the numbers now."""
    started, gate, heard = pipes(3)
    before = "sys.modules['uvloop'] = None\n" if loop == "asyncio" else ""
    driver = drive(
        INIT + LOST + end + "\n", started.path, gate.path, heard.path, tmp_path, before=before
    )
    family = watch(int(started.hear()))
    heard.tell()
    status, out, err = driver.finish()
    assert status == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["3", "waiter True"]
    assert lines[2:9] == ["True", "True", "3", "True", "True", "True", "True"]
    assert lines[9:] == (["again"] if end else [])
    assert err.count("os.closerange()") == 1
    assert len(err.splitlines()) == 1
    assert [(tmp_path / str(number)).read_text() for number in range(100)] == [
        str(number) for number in range(100)
    ]
    assert family.survivors() == []


def test_descriptors_that_a_forked_child_closes_are_not_missed(drive):
    body = """
import warnings
ref = aioray.remote(jobs.add).remote(1, 2)
print(aioray.get(ref), flush=True)
warnings.simplefilter("ignore")  # of threads beside a fork
pid = os.fork()
if pid == 0:
    os.closerange(3, 1000)
    sys.exit(7)
print(os.waitpid(pid, 0) == (pid, 7 << 8), aioray.get(aioray.remote(jobs.add).remote(3, 4)))
aioray.shutdown()
"""
    status, out, err = drive(INIT + body).finish()
    assert (status, out, err) == (0, "3\nTrue 7\n", "")


def test_no_descriptors_left_is_a_clear_error_or_waits_and_does_not_spin(drive):
    """With every descriptor taken a task fails and says why; once some are free, the next runs."""
    body = """
import resource, selectors
turns, select = [], selectors.EpollSelector.select
def counted(*arguments):
    turns.append(1)
    return select(*arguments)
async def body(engine):
    add, failed = aioray.remote(jobs.add), aioray.exceptions.WorkerStartupError
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # all modules are imported
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    selectors.EpollSelector.select = counted
    try:
        print(await asyncio.wait_for(add.remote(1, 2), 100))
    except failed as error:
        print(type(error).__name__, "Too many open files" in str(error))
    found = len(turns)
    for fd in taken:
        os.close(fd)
    print(await asyncio.wait_for(add.remote(1, 2), 100))
    print(found < 1000 or found)  # a loop that spins turns as often within a blink
"""
    status, out, err = drive(body + ASYNC.format(loop=LOOPS[0])).finish()
    assert status == 0, err
    first, *rest = out.splitlines()
    assert first in ("3", "WorkerStartupError True")
    assert rest == ["3", "True"]


class Sleepers:
    """Who waits with nothing to do: nothing is ready, and no timer goes off for a while."""

    def __init__(self, monkeypatch):
        self.awake = {}
        self.all_asleep = threading.Condition()
        for kind in (selectors.EpollSelector, selectors.PollSelector):
            monkeypatch.setattr(kind, "select", self.watched(kind.select))

    def watched(self, select):
        def watch(selector, timeout=None):
            ready = select(selector, 0)
            at_once = ready or timeout == 0
            self.note(selector, awake=at_once or (timeout is not None and timeout < 2))
            return ready if at_once else select(selector, timeout)

        return watch

    def note(self, selector, *, awake):
        with self.all_asleep:
            self.awake[selector] = awake
            self.all_asleep.notify_all()

    def wait(self, count):
        with self.all_asleep:
            return self.all_asleep.wait_for(
                lambda: len(self.awake) == count and not any(self.awake.values()), GUARD
            )


def test_idle_engine_sleeps(monkeypatch):
    sleepers = Sleepers(monkeypatch)

    async def work():
        async with aioray.Engine(num_cpus=2):
            assert await aioray.remote(jobs.add).remote(1, 2) == 3
            # The loop, and the thread that writes the history.
            assert await asyncio.to_thread(sleepers.wait, 2)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work())


def test_functions_of_the_main_module_travel_by_value(drive):
    body = """
class Point:
    def __init__(self, x): self.x = x
class Oops(Exception): pass
@aioray.remote
def move(point): return Point(point.x + OFFSET)
@aioray.remote
def fail(): raise Oops("own")
OFFSET = 10
print(aioray.get(move.remote(Point(1))).x)
try:
    aioray.get(fail.remote())
except Oops as error:
    print(type(error).__name__)
"""
    assert drive(INIT + body).finish()[:2] == (0, "11\nRayTaskError(Oops)\n")


def test_exceptions_of_the_main_module_are_known_in_all_generations(drive):
    body = """
class Oops(Exception):
    def __init__(self, text, code):
        super().__init__(text, code)
        self.code = code
@aioray.remote
def child(code):
    raise Oops("own", code)
@aioray.remote
def parent(code):
    try:
        aioray.get(child.remote(code))
    except Oops as error:
        if code == 1:
            return error.code, type(error.cause) is Oops
        raise
print(aioray.get(parent.remote(1)))
try:
    aioray.get(parent.remote(2))
except Oops as error:
    print(error.code, type(error.cause) is Oops)
"""
    status, out, err = drive(INIT + body).finish()
    assert (status, out) == (0, "(1, True)\n2 True\n"), err


def test_typo_in_a_task_of_a_task_is_told_with_the_way_to_it(drive):
    body = """
@aioray.remote
def inner(): return valu
@aioray.remote
def outer(): return aioray.get(inner.remote())
aioray.get(outer.remote())
"""
    status, _, err = drive(INIT + body).finish()
    assert status == 1
    lines = err.splitlines()
    assert lines[-1] == "NameError: name 'valu' is not defined"
    assert err.count("Traceback") == 1
    assert sum("in outer" in line or "in inner" in line for line in lines) == 2, err
    theirs = err.partition("ray::outer()")[2]
    assert "aioray/" not in theirs  # no frames but the user's


def test_modules_beside_the_script_are_found(tmp_path):
    (tmp_path / "beside.py").write_text("def f(): return 'found'\n")
    (tmp_path / "main.py").write_text(
        "import sys; sys.path.append(sys.argv[1])\nimport aioray, beside\n"
        "print(aioray.get(aioray.remote(beside.f).remote()))\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py", ROOT],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("found\n", "")
