"""However a script ends, with whatever it still holds: stderr is what it would be without aioray.

Each script is run twice: as it is, and with all that it does with aioray replaced by empty lines.
The last words, all of them, and the exit status have to be the same.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .support import GUARD, ROOT

HEAD = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import numpy, aioray as ray
from aioray.util import ActorPool, Executor, placement_group
from aioray.util.multiprocessing import Pool
from aioray.util.queue import Queue

@ray.remote
class Counter:
    def count(self):
        return 1
    def fail(self):
        raise KeyError("of a method")

@ray.remote
def same(value):
    return value

@ray.remote
def fail():
    raise KeyError("of a task")

@ray.remote
def numbers():
    yield from range(100)

@ray.remote
def for_ever():
    import time
    time.sleep(1_000_000)

class Finalized:
    def __init__(self, finalizer):
        self.actor, self.ref, self.running = Counter.remote(), same.remote(1), for_ever.remote()
        self.finalizer = finalizer
    def __del__(self):
        self.finalizer(self)
"""

# What is alive at the end: the body of `make`, which returns it.
THINGS = {
    "actors and refs": """
    actors = [Counter.remote() for _ in range(2)]
    failed = [actors[0].fail.remote(), fail.remote()]
    ray.wait(failed, num_returns=2)
    seen = fail.remote()
    try:
        ray.get(seen)
    except KeyError:
        pass
    array = ray.put(numpy.zeros(100_000))
    generator = numbers.remote()
    read = next(generator)
    futures = [same.remote(1).future(), for_ever.remote().future(), ray.cancel(for_ever.remote())]
    return locals(), ray.get(array), ray.get(actors[1].count.remote())
    """,
    "tools": """
    queue, pool, executor = Queue(), Pool(2), Executor()
    queue.put(1)
    items = pool.imap(abs, range(1000))
    next(items)
    results = pool.map_async(abs, range(10))
    submitted = executor.submit(abs, -1)
    actors = ActorPool([Counter.remote()])
    actors.submit(lambda actor, _: actor.count.remote(), 1)
    group = placement_group([{"CPU": 1}])
    bar = iter(ray.progress([same.remote(1), same.remote(2)], disable=True))
    return locals(), next(bar), group.ready(), ray.experimental.tqdm_ray.tqdm(range(3), desc="x")
    """,
    "finalizers that use the API": """
    return [
        Finalized(finalizer)
        for finalizer in (
            lambda self: ray.kill(self.actor),
            lambda self: ray.cancel(self.running),
            lambda self: ray.get(self.ref),
            lambda self: ray.get(self.actor.count.remote()),
            lambda self: ray.wait([self.running]),
            lambda self: self.actor.count.options(name="x").remote(),
            lambda self: same.options(name="x").remote(2),
            lambda self: next(numbers.remote()),
            lambda self: ray.put(1),
            lambda self: Counter.remote(),
            lambda self: ray.get_actor("nobody"),
            lambda self: ray.cluster_resources(),
            lambda self: ray.get_runtime_context().get_job_id(),
            lambda self: ray.timeline(),
            lambda self: ray.is_initialized(),
            lambda self: ray.init(),
            lambda self: ray.shutdown(),
            lambda self: ray.util.list_named_actors(),
            lambda self: ray.testing.lose(self.ref),
            lambda self: Queue(1),
            lambda self: Pool(1),
            lambda self: repr((self.ref, self.actor)),
        )
    ]
    """,
}

FAIL = """
def main():
    things = make()
    raise ValueError("a bug in the script")
main()
"""
ENDS = {
    "an error in a function": FAIL,
    "an error at the top": 'things = make()\nraise ValueError("a bug in the script")',
    "an error with a cause": """
def main():
    things = make()
    try:
        raise KeyError(1)
    except KeyError as error:
        raise ValueError("a bug in the script") from error
main()
""",
    "the last line": "things = make()",
    "an exit status": "import sys\nthings = make()\nsys.exit(3)",
    "an exit with a text": 'import sys\nthings = make()\nsys.exit("no more")',
    "an exit at once": "import os\nthings = make()\nos._exit(4)",
    "Ctrl-C": """
import signal
def main():
    things = make()
    signal.raise_signal(signal.SIGINT)
main()
""",
    "an error in a thread": """
import threading
def main():
    things = make()
    raise ValueError("a bug in the thread")
import os; os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # refs may go before the end
thread = threading.Thread(target=main, name="mine")
thread.start()
thread.join()
""",
    "an error in a daemon thread": """
import threading
def main():
    things = make()
    raise ValueError("a bug in the thread")
import os; os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
thread = threading.Thread(target=main, name="mine", daemon=True)
thread.start()
thread.join()
""",
    "an error in a forked child": """
import os
things = make()
child = os.fork()
if child == 0:
    raise ValueError("a bug in the child")
os.waitpid(child, 0)
""",
    "an error in a finalizer": """
class Mine:
    def __del__(self):
        raise ValueError("a bug in the finalizer")
def main():
    things, mine = make(), Mine()
    raise ValueError("a bug in the script")
main()
""",
    "things that modules hold": """
import builtins, signal, sys
builtins.things = sys.things = things = make()
signal.signal(signal.SIGTERM, lambda *_: None)
sys.excepthook = lambda *error: sys.__excepthook__(*error)
raise ValueError("a bug in the script")
""",
}
AIORAY_RUN = ("-m", "aioray", "run")
CASES = [
    *[(things, end, ()) for things in THINGS for end in list(ENDS)[:4]],
    *[(things, "an error in a function", AIORAY_RUN) for things in THINGS],
    *[("actors and refs", end, ()) for end in list(ENDS)[4:]],
    ("finalizers that use the API", "things that modules hold", ()),
]

ASYNC = {
    "an error beside a session": """
import asyncio
async def main():
    things = await begin()
    raise ValueError("a bug in the script")
asyncio.run(main())
""",
    "an error in an async generator": """
import asyncio
import os; os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # asyncio.run closes it before the end
async def items():
    things = await begin()
    try:
        yield 1
        yield 2
    finally:
        pass
async def main():
    async for item in items():
        raise ValueError("a bug in the script")
asyncio.run(main())
""",
    "a loop that was left": """
import asyncio
loop = asyncio.new_event_loop()
things = loop.run_until_complete(begin())
""",
    "a loop that was closed": """
import asyncio
loop = asyncio.new_event_loop()
things = loop.run_until_complete(begin())
loop.close()
""",
    "a loop in a daemon thread": """
import asyncio, threading
begun = threading.Event()
async def main():
    things = await begin()
    begun.set()
    await asyncio.sleep(1_000_000)
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
begun.wait()
""",
}
ASYNC_THINGS = """
    actor, failed = Counter.remote(), fail.remote()
    await asyncio.wait([failed])
    progress = aiter(ray.progress([same.remote(number) for number in range(3)], disable=True))
    await anext(progress)
    array = ray.put(numpy.zeros(100_000))
    generator = numbers.remote()
    read = await anext(generator)
    futures = [same.remote(1).future(), for_ever.remote().as_future()]
    futures.append(ray.cancel(for_ever.remote()))
    return locals(), await array, await actor.count.remote()
"""
STARTS = {
    "init": "ray.init(num_cpus=2)",
    "an Engine": "engine = ray.Engine(num_cpus=2); engine.start()",
}


def blank(code):
    """As many lines, which do nothing."""
    return "\n" * code.count("\n")


def run(folder, code, *launcher):
    """What a script leaves: exit status, stdout, stderr."""
    (folder / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, *launcher, "script.py"],
        cwd=folder,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of a fork beside threads
            "RAY_TMPDIR": str(folder),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * GUARD,
    )
    return done.returncode, done.stdout, re.sub("0x[0-9a-f]+", "0x", done.stderr)


def check(folder, used, plain, end, *launcher):
    """`used` and `plain` have as many lines and define what `end` needs."""
    assert used.count("\n") == plain.count("\n")
    expected = run(folder, plain + end)
    assert run(folder, used + end, *launcher) == expected


@pytest.mark.parametrize(("things", "end", "launcher"), CASES)
def test_last_words_are_the_scripts_own(things, end, launcher, tmp_path):
    body = THINGS[things]
    used = f"{HEAD}\nray.init(num_cpus=2)\ndef make():{body}\n"
    plain = f"{blank(HEAD)}\n\n{blank(body)}def make(): pass\n"
    check(tmp_path, used, plain, ENDS[end], *launcher)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("end", ASYNC)
def test_last_words_on_an_event_loop_are_the_scripts_own(end, start, tmp_path):
    used = f"{HEAD}\nasync def begin():\n    {STARTS[start]}{ASYNC_THINGS}\n"
    plain = f"{blank(HEAD)}\n\n{blank(ASYNC_THINGS)}async def begin(): pass\n"
    check(tmp_path, used, plain, ASYNC[end])


def test_threads_that_wait_say_nothing_when_the_script_ends(tmp_path):
    end = """
import threading
begun = [threading.Event() for _ in range(4)]
def wait_for_ever(begun):
    work(begun.set)
    begun.set()
for event in begun:
    threading.Thread(target=wait_for_ever, args=[event], daemon=True).start()
for event in begun:
    event.wait()
"""
    used = """
def work(begin):
    while True:
        ray.get(same.remote(1))
        begin()
        threading.current_thread() is threads[0] and ray.get(for_ever.remote())
"""
    used = used.replace("threads[0]", "threading.enumerate()[-1]")
    check(tmp_path, HEAD + used, f"{blank(HEAD)}{blank(used)[1:]}def work(begin): pass\n", end)


def test_exit_handlers_of_the_script_have_the_session(tmp_path):
    used = """
import atexit, weakref
class Mine:
    pass
mine = Mine()
atexit.register(lambda: print(ray.get(same.remote(1))))
weakref.finalize(mine, lambda: print(ray.get(same.remote(2))))
"""
    status, out, err = run(tmp_path, f"{HEAD}{used}print(ray.get(same.remote(3)))\n")
    assert (status, out, err) == (0, "3\n2\n1\n", "")


def test_what_is_asked_too_late_is_refused_with_a_sentence(tmp_path):
    early = "import atexit\natexit.register(lambda: ray.get(same.remote(1)))\n"
    status, out, err = run(tmp_path, f"{early}{HEAD}ray.init()\n")
    assert (status, out) == (0, "")
    assert "RuntimeError: Python is ending, and so has the aioray session" in err
    assert "During handling" not in err


def test_session_that_would_begin_too_late_is_refused_with_a_sentence(tmp_path):
    used = "import atexit, threading, aioray\natexit.register(lambda: aioray.put(1))\n"
    status, out, err = run(tmp_path, used)
    assert (status, out) == (0, "")
    assert "RuntimeError: Python is ending, so no aioray session can begin" in err
    assert "During handling" not in err


def test_temporary_folder_that_goes_before_the_session_is_not_missed(tmp_path):
    used = """
import tempfile
folder = tempfile.TemporaryDirectory()
ray.init(num_cpus=1, _temp_dir=folder.name)
ray.get(same.remote(1))
"""
    assert run(tmp_path, HEAD + used) == (0, "", "")


def test_objects_that_a_worker_ends_with_are_quiet_too(tmp_path):
    used = """
class Mine:
    def __init__(self, finalizer):
        self.actor, self.ref = Counter.remote(), same.remote(1)
        ray.get(self.ref)
        self.finalizer = finalizer
    def __del__(self):
        self.finalizer(self)
finalizers = [
    lambda self: ray.get(self.ref),
    lambda self: ray.get(same.remote(1)),
    lambda self: ray.get(self.actor.count.remote()),
    lambda self: ray.kill(self.actor),
    lambda self: ray.put(1),
    lambda self: ray.init(),
    lambda self: Queue(1),
]
def hold():
    import builtins
    global kept
    kept = [Mine(finalizer) for finalizer in finalizers]
    builtins.kept = [Mine(finalizer) for finalizer in finalizers]
@ray.remote(max_calls=1)
def keep():
    hold()
    return os.getpid()
@ray.remote
class Keeper:
    def __init__(self):
        hold()
    def pid(self):
        return os.getpid()
    def leave(self):
        ray.actor.exit_actor()
import os
ray.init(num_cpus=2)
keeper = Keeper.remote()
pids = ray.get([keep.remote(), keep.remote(), keeper.pid.remote()])
try:
    ray.get(keeper.leave.remote())
except ray.exceptions.ActorDiedError:
    print("left")
while any(map(os.path.exists, map("/proc/{}".format, pids))):
    pass  # they end by themselves
print("ended")
"""
    assert run(tmp_path, HEAD + used) == (0, "left\nended\n", "")


def test_interrupt_while_the_session_ends_is_quiet_and_leaves_nothing(tmp_path):
    """As by somebody who presses Ctrl-C twice."""
    used = """
import atexit, concurrent.futures
def interrupted(self, timeout=None):
    print("interrupted")
    raise KeyboardInterrupt
ray.init(num_cpus=1)
running = for_ever.remote()
ray.get(same.options(num_cpus=0).remote(1))
atexit.register(setattr, concurrent.futures.Future, "result", interrupted)
"""
    assert run(tmp_path, HEAD + used) == (0, "interrupted\n", "")
