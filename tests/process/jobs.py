"""The functions that run in workers: imported there by name, and by tests to submit them.

They talk to the test through named pipes (see `support.Pipe`): `say` tells that a point in the
code was reached, `listen` blocks until the test wants the function to go on. Both are single
system calls on descriptors of this process, so they work in every state that a task can be in.

Each worker of each test imports this: what takes long to import is imported where it is used.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import os
import pickle
import re
import signal
import sys
import time

import aioray

FOREVER = 1_000.0  # seconds; a test that has to wait this out hangs


def say(path, text=""):
    """Tell the test something, in one line."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def listen(path):
    """Wait until the test says something; what it was."""
    fd = os.open(path, os.O_RDONLY)
    try:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(fd, 1)
        return line.decode().strip()
    finally:
        os.close(fd)


def note(path, text):
    """Append a line to a file, whole, whoever else appends at the same moment."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def notes(path):
    """The lines of such a file; none if nobody has written it."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


# ---------------------------------------------------------------- values


def add(a, b=0):
    return a + b


def value_of(where):
    """The value behind an id, or behind the id of a ref in a list."""
    identifier = where if isinstance(where, str) else where[0].hex()
    return aioray.get(aioray.ObjectRef.from_hex(identifier))


def same(value):
    return value


def pid():
    return os.getpid()


def several(count):
    return list(range(count))


def kind(value):
    return type(value).__name__


def inside(values):
    return [type(value).__name__ for value in values]


def first(values):
    return values[0]


def variable(name):
    return os.environ.get(name)


def writable(array):
    return array.flags.writeable


def context():
    where = aioray.get_runtime_context()
    return {
        "job": where.get_job_id(),
        "task": where.get_task_id(),
        "name": where.get_task_name(),
        "function": where.get_task_function_name(),
        "attempt": where.get_attempt_number(),
        "worker": where.get_worker_id(),
        "node": where.get_node_id(),
        "resources": where.get_assigned_resources(),
        "pid": where.worker_pid,
    }


def hold(started, gate):
    """Say the pid, wait for the test, return what it said."""
    say(started, os.getpid())
    return listen(gate)


# ---------------------------------------------------------------- errors


class CustomError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


class TwoArgumentsError(Exception):
    """Pickles, but cannot be unpickled: the common mistake."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class HoldsLockError(Exception):
    """Cannot be pickled."""

    def __init__(self, text):
        import threading

        super().__init__(text)
        self.lock = threading.Lock()


class HostileError(Exception):
    """Fails whatever is done with it."""

    def __reduce__(self):
        raise RuntimeError("no pickling")

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def fail(message="bad"):
    raise ValueError(message)


def fail_custom():
    raise CustomError(42, "answer")


def fail_two_arguments():
    raise TwoArgumentsError("left", "right")


def fail_with_lock():
    raise HoldsLockError("locked")


def fail_hostile():
    raise HostileError


def fail_chained():
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


def fail_group():
    raise ExceptionGroup("both", [ValueError("one"), TypeError("two")])


def fail_base():
    raise GeneratorExit("odd")


def stop():
    raise StopIteration("done")


def press_ctrl_c():
    raise KeyboardInterrupt("mine")


def return_lock(path):
    import threading

    note(path, "ran")
    return threading.Lock()


def return_note(path, value):
    note(path, "ran")
    return value


def fail_times(path, times, error=ValueError):
    """Fail so many attempts, then return how many there were."""
    note(path, "ran")
    attempts = len(notes(path))
    if attempts <= times:
        raise error(f"attempt {attempts}")
    return attempts


def ask_for_retry(path, times, delay=0.0):
    note(path, "ran")
    attempts = len(notes(path))
    if attempts <= times:
        raise aioray.RetryTask(delay)
    return attempts


def forbid_retry(path):
    note(path, "ran")
    raise aioray.DoNotRetry("never again")


def is_value_error(error):
    return isinstance(error, ValueError)


def broken_predicate(error):
    raise LookupError("the predicate is broken")


class Loads:
    """Fails to load in the worker."""

    def __reduce__(self):
        return (_refuse_to_load, ())


def _refuse_to_load():
    raise LookupError("not here")


class BlocksWhileLoading:
    """Its loading waits for the test."""

    def __init__(self, started, gate):
        self.pipes = (started, gate)

    def __setstate__(self, state):
        started, gate = state["pipes"]
        say(started)
        listen(gate)
        self.__dict__.update(state)


def note_argument(path, _value):
    note(path, "ran")
    return "ran"


# ---------------------------------------------------------------- deaths


def die(how, path=None, times=None):
    """End the worker, in the first `times` attempts; then return their number."""
    if path is not None:
        note(path, os.getpid())
        if times is not None and len(notes(path)) > times:
            return len(notes(path))
    if how == "exit 0":
        sys.exit(0)
    elif how == "exit 3":
        sys.exit(3)
    elif how == "_exit 42":
        os._exit(42)
    elif how == "segfault":
        dereference_null()
    elif how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.Signals[how])
    return None


def dereference_null():
    ctypes.string_at(0)


def complain_and_die():
    print("the last words", file=sys.stderr)
    sys.stderr.write("without a newline")
    os._exit(42)


def say_and_die(started, how):
    say(started, os.getpid())
    die(how)


def die_then_sleep(started, path):
    """Die in the first attempt; run for ever in the next one."""
    note(path, "ran")
    if len(notes(path)) == 1:
        os._exit(42)
    sleep(started)


def hold_the_gil(started):
    """Sleep in C, holding the GIL: no Python-level signal handler can run."""
    say(started, os.getpid())
    ctypes.PyDLL(None).sleep(int(FOREVER))


def count_in_c(started):
    """Work in C for ever, holding the GIL and without a look at signals."""
    say(started, os.getpid())
    sum(range(10**18))


def read_in_c(started, gate):
    """What read(2) returns, called as by a library that does not begin again after a signal."""
    fd = os.open(gate, os.O_RDONLY)
    say(started, os.getpid())
    try:
        return ctypes.CDLL(None).read(fd, ctypes.create_string_buffer(1), 1)
    finally:
        os.close(fd)


def backtrack(started):
    """A regular expression that takes longer than the universe."""
    say(started, os.getpid())
    re.match(r"(a+)+$", "a" * 60 + "b")


# ---------------------------------------------------------------- cancelling


def sleep(started, path=None):
    say(started, os.getpid())
    time.sleep(FOREVER)
    if path is not None:
        note(path, "ran to the end")


def spin(started):
    say(started, os.getpid())
    while True:
        pass


def partial_result(started):
    """Use the interrupt to hand back what there is."""
    try:
        say(started)
        time.sleep(FOREVER)
    except KeyboardInterrupt:
        return "partial"


def fail_on_interrupt(started):
    try:
        say(started)
        time.sleep(FOREVER)
    except KeyboardInterrupt:
        raise ValueError("instead") from None


def clean_up(started, path):
    try:
        say(started)
        time.sleep(FOREVER)
    finally:
        note(path, "cleaned up")


def swallow(started, swallowed):
    """Ignore interrupts, and say so."""
    path = started
    while True:
        try:
            say(path)
            time.sleep(FOREVER)
        except KeyboardInterrupt:
            path = swallowed


class _LosesInterrupts:
    """Its finalizer waits for a signal: the interrupt is raised inside `__del__` and lost there."""

    def __init__(self, started):
        self.started = started

    def __del__(self):
        say(self.started)
        time.sleep(FOREVER)


def lose_interrupt_in_del(started):
    thing = _LosesInterrupts(started)
    del thing
    say(started)
    time.sleep(FOREVER)


def run_coroutine(started, path):
    import asyncio

    async def main():
        try:
            say(started)
            await asyncio.sleep(FOREVER)
        finally:
            note(path, "cleaned up")

    asyncio.run(main())


def quick(path, number):
    """Short tasks of different kinds for a storm of cancels; notes what it has done."""
    which = number % 4
    if which == 0:
        time.sleep(0.0005)
    elif which == 1:
        sum(range(2_000))
    elif which == 2:
        for _ in range(300):
            pass
    note(path, number)
    return number


# ---------------------------------------------------------------- processes that tasks start


def start_descendants(started):
    """Leave one of each kind behind: plain, setsid, daemon, forked; say their pids; wait."""
    import subprocess

    argv = [sys.executable, "-S", "-c", f"import time; time.sleep({FOREVER})"]
    plain = subprocess.Popen(argv).pid
    session = subprocess.Popen(argv, start_new_session=True).pid
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            time.sleep(FOREVER)
        os.write(writer, str(daemon).encode())
        os._exit(0)
    daemon = int(os.read(reader, 20))
    forked = os.fork()
    if forked == 0:
        time.sleep(FOREVER)
    say(started, f"{os.getpid()} {os.getppid()} {plain} {session} {daemon} {forked}")
    time.sleep(FOREVER)


KINDS = ("plain", "setsid", "daemon", "daemon_setsid", "group", "deaf", "session", "stopped")
_SLEEP = [sys.executable, "-S", "-c", f"import time; time.sleep({FOREVER})"]
_DEAF = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def start_every_kind(started, lifeline):
    """Start a process of each of KINDS, and one that forks on and on; say the pids; wait.

    All have the named pipe `lifeline` open, whose reader so knows whether one is left.
    """
    import subprocess

    line = os.open(lifeline, os.O_WRONLY | os.O_NONBLOCK)
    os.write(line, b"begun")
    inherit = {"pass_fds": [line]}
    pids = [
        subprocess.Popen(_SLEEP, **inherit).pid,
        _forked(os.setsid),
        _forked(lambda: None, twice=True),
        _forked(os.setsid, twice=True),
        _forked(lambda: os.setpgid(0, 0)),
        _forked(lambda: [signal.signal(number, signal.SIG_IGN) for number in _DEAF]),
        subprocess.Popen(_SLEEP, start_new_session=True, **inherit).pid,
        _forked(lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    ]
    _forked(lambda: _fork_on(line))
    say(started, f"{os.getpid()} {os.getppid()} {' '.join(map(str, pids))}")
    time.sleep(FOREVER)


def _forked(prepare, *, twice=False):
    """A process that prepares itself and waits. twice: forked by one that ends."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        if twice and os.fork():
            os._exit(0)
        os.write(writer, str(os.getpid()).encode())
        prepare()
        time.sleep(FOREVER)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    if twice:
        os.wait()
    return pid


def _fork_on(line):
    """Live in one process after the other, each in a session of its own."""
    while True:
        try:
            os.write(line, b".")
        except BlockingIOError:
            pass
        except BrokenPipeError:
            os._exit(0)  # the test has failed
        if os.fork():
            os._exit(0)
        os.setsid()


def fork_and_die(started):
    """Die while a child lives that has inherited every pipe of the worker."""
    child = os.fork()
    if child == 0:
        time.sleep(FOREVER)
    say(started, child)
    os._exit(42)


def parent_and_self(started, gate):
    say(started, f"{os.getpid()} {os.getppid()}")
    return listen(gate)


# ---------------------------------------------------------------- output


def speak(text):
    print(text)


def speak_and_return(value):
    print("spoken")
    print("spoken", file=sys.stderr)
    return value


def print_lines(count, tag="line"):
    for number in range(count):
        print(f"{tag} {number}")
    print("the end, unfinished", end="")


def write_from_c(text):
    os.write(1, text.encode())


def write_to_stderr(text):
    print(text, file=sys.stderr)


def print_and_die(text):
    print(text, end="", flush=True)
    os._exit(42)


def big(size):
    return b"x" * size


def weigh(data):
    return len(data)


def unpickled(data):
    return pickle.loads(data)


def return_number(path, number):
    """A short task; one of the many is a deadly one."""
    note(path, number)
    if number == "crash":
        os._exit(42)
    return number


def crash_once(path, number):
    """Every twentieth of these dies at its first attempt."""
    note(path, number)
    if number % 20 == 0 and notes(path).count(str(number)) == 1:
        os._exit(42)
    return number


def swallow_everything(started):
    """Ignore every signal that can be ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say(started, os.getpid())
    while True:
        time.sleep(FOREVER)


# ---------------------------------------------------------------- large values


def numbers(count, start=0):
    """An array of 8 * count bytes."""
    import numpy as np

    return np.arange(start, start + count, dtype=float)


def noted_numbers(path, count, start=0):
    note(path, "ran")
    return numbers(count, start)


def noted_sum(path, *arrays, plus=0):
    """The element-wise sum of arrays."""
    note(path, "sum")
    return sum(arrays) + plus


def total(*arrays):
    return float(sum(array.sum() for array in arrays))


def large_and_small(path, count):
    note(path, "ran")
    return numbers(count), "small"


def three_numbers(path, count):
    note(path, "ran")
    return numbers(count), numbers(count, 1), numbers(count, 2)


def look_at(array):
    """Where an array lies in this process, and whether it can be written to."""
    address = array.ctypes.data
    try:
        array.setflags(write=True)
    except ValueError:
        refused = True
    else:
        refused = False
    return {
        "pid": os.getpid(),
        "address": address,
        "in_store": name_of_memory(address),
        "writeable": array.flags.writeable,
        "refused": refused,
    }


def name_of_memory(address):
    """What is mapped at an address, as the kernel calls it."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        for line in file:
            extent, _, rest = line.partition(" ")
            start, end = (int(number, 16) for number in extent.split("-"))
            if start <= address < end:
                return rest.split(maxsplit=4)[-1].strip()
    return None


def store_fd():
    """The descriptor of the shared memory in this process."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if "aioray-objects" in os.readlink(f"/proc/self/fd/{name}"):
                return int(name)
        except OSError:
            continue
    return None


def cut_the_store():
    """Try to change the size of the shared memory; what came of it."""
    fd = store_fd()
    size = os.fstat(fd).st_size
    errors = []
    for wanted in (0, size // 2, 2 * size):
        try:
            os.ftruncate(fd, wanted)
        except OSError as error:
            errors.append(type(error).__name__)
    return errors, os.fstat(fd).st_size == size


def overwrite(array):
    """Write to an array's memory, whatever its flags say."""
    ctypes.memset(array.ctypes.data, 0xFF, 8)


_kept = {}


remembered = []
"""What random programs keep in this process. Here, because functions that are decorated where they
are defined travel by value, each with globals of its own."""


def keep(key, value):
    """Keep a value beyond the end of the task."""
    _kept[key] = value
    return os.getpid()


def kept(key):
    """The sum of an array that was kept."""
    return float(_kept[key].sum())


def drop(key):
    del _kept[key]


class DiesWhenPickled:
    """Ends the worker while it serializes."""

    def __reduce__(self):
        os._exit(42)


def large_and_deadly(count):
    """Two values: one gets into the store, the other ends the worker."""
    return numbers(count), DiesWhenPickled()


def sum_inside(values):
    """Of the refs in a container, how many there are: nobody may look at them here."""
    return len(values)


def numbers_then(path, count, how, started=None, gate=None):
    """An array at the first run; at the next one, something else."""
    note(path, "ran")
    if len(notes(path)) == 1:
        return numbers(count)
    if how == "raise":
        raise ValueError("not again")
    if how == "raise once" and len(notes(path)) == 2:
        raise ValueError("not yet")
    if how == "crash once" and len(notes(path)) == 2:
        os._exit(42)
    if how == "crash":
        os._exit(42)
    if how == "wait":
        say(started, os.getpid())
        listen(gate)
    if how == "sleep":
        say(started, os.getpid())
        time.sleep(FOREVER)
    return numbers(count)


def several_then(count, how=None, started=None):
    """Yield so many numbers, and then end as it is said."""
    yield from range(count)
    if how == "raise":
        raise ValueError("no more")
    if how == "crash":
        os._exit(42)
    if how == "sleep":
        sleep(started)


def raise_cancelled():
    import asyncio

    raise asyncio.CancelledError("mine")


def wait_for_child(started, pipe):
    """Tell the id of a child that runs for ever, once it does."""
    ref = aioray.remote(num_cpus=0)(sleep).remote(pipe)
    listen(pipe)
    say(started, ref.task_id().hex())
    return aioray.get(ref)


def cancel_a_child():
    """Get what was cancelled in the queue."""
    ref = aioray.remote(num_cpus=8)(same).remote(1)
    aioray.cancel(ref)
    return aioray.get(ref)


def hold_argument(started, gate, array):
    """Say the pid, wait for the test, then use the argument."""
    say(started, os.getpid())
    listen(gate)
    return float(array.sum())


def hold_then_return(started, gate, count):
    """Say the pid, wait for the test, then return a large array."""
    say(started, os.getpid())
    listen(gate)
    return numbers(count)


def derive(count, start, *arrays):
    """An array that depends on the ends of others."""
    return numbers(count, derived(start, [(array[0], array[-1]) for array in arrays]))


def derived(start, ends):
    """Where it starts: a number that any order of computing gives exactly."""
    return (start + sum(3 * first + last for first, last in ends)) % 1_000_003


def where():
    """What a task knows of the GPUs and the placement group that it was given."""
    context = aioray.get_runtime_context()
    group = aioray.util.get_current_placement_group()
    return {
        "variable": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpus": aioray.get_gpu_ids(),
        "accelerators": context.get_accelerator_ids()["GPU"],
        "resources": context.get_assigned_resources(),
        "group": context.get_placement_group_id(),
        "current": None if group is None else group.id.hex(),
        "pid": os.getpid(),
    }


def bundles(group):
    return group.bundle_specs


def hold_gpus(started, gate):
    """Say which GPUs were given, and keep them until the test says something."""
    say(started, os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    return listen(gate)


class _LooksAtDevices:
    """Unpickles to the variable's value at that moment."""

    def __reduce__(self):
        return os.getenv, ("CUDA_VISIBLE_DEVICES",)


LOOKS_AT_DEVICES = _LooksAtDevices()


def rows(table, start, count):
    """Some rows of an Arrow table."""
    return table.slice(start, count)


def rows_one_by_one(table, count):
    """The first rows of an Arrow table, each as a table."""
    for number in range(count):
        yield table.slice(number, 1)


class KeepsRows:
    """Keeps some rows of an Arrow table, and saves them."""

    def __init__(self):
        self._rows = None

    def cut(self, table):
        self._rows = table.slice(5, 10)

    def __aioray_save__(self):
        return self._rows

    def __aioray_restore__(self, state):
        self._rows = state


seen = contextvars.ContextVar("seen", default="nothing")


def swap_seen(value):
    """Set a context variable; what it was before."""
    before = seen.get()
    seen.set(value)
    return before


async def swap_seen_in_coroutine(value):
    return swap_seen(value)


def swap_seen_in_generator(value):
    yield swap_seen(value)
    yield seen.get()


class SetsSeen:
    def __init__(self):
        seen.set("made")

    def swap(self, value):
        return swap_seen(value)


class SetsSeenAsync(SetsSeen):
    async def swap(self, value):
        return swap_seen(value)


def with_session(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("session", *args, **kwargs)

    return wrapper


@with_session
def in_session(session, x):
    return session, x


class Callable:
    """Counts its calls, and has an attribute that a remote function has too."""

    remote_calls = 0
    name = "mine"

    def __init__(self, by):
        self.by = by
        self.function = "mine too"

    def __call__(self, x):
        self.remote_calls += 1
        return x + self.by

    def predict(self, x):
        return x * self.by

    def several(self, count):
        yield from range(count)

    async def wait(self, x):
        return x + self.by

    @staticmethod
    def static(x):
        return -x

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x


class CallableGenerator:
    def __call__(self, count):
        yield from range(count)


class CallableCoroutine:
    async def __call__(self, x):
        return x


class WithCache:
    """An actor one of whose methods is a cache."""

    @functools.lru_cache  # noqa: B019 - one actor
    def cached(self, x):
        return [x]
