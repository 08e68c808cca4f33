"""A program for Ray that tries the edges of its API for tasks, and writes what it saw as JSON.

Run by Ray 2.60.0 it wrote ray-2.60.0.json; run by `aioray run` it must see the same, but for the
differences that test_conformance.py names. Usage: python program.py OUTPUT.json
"""

import asyncio
import functools
import os
import sys
import tempfile
import threading
import time

import numpy as np
import ray
from asking import rec, write

ray.init(num_cpus=2, num_gpus=0, log_to_driver=False, include_dashboard=False)


@ray.remote
def add(a, b=2, *, c=0):
    return a + b + c


rec("add", lambda: ray.get(add.remote(1)))
rec("missing", lambda: add.remote())
rec("toomany", lambda: add.remote(1, 2, 3))
rec("unexpected", lambda: add.remote(1, d=3))
rec("direct", lambda: add(1), False)


@ray.remote
def boom(x):
    raise ValueError("bad", x)


rec("boom", lambda: ray.get(boom.remote(1)))
rec("dep", lambda: ray.get(add.remote(boom.remote(1))))
rec("depdep", lambda: ray.get(add.remote(add.remote(boom.remote(1)))))


class MyErr(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")
        self.code = a


@ray.remote
def myerr():
    raise MyErr(1, 2)


rec("myerr", lambda: ray.get(myerr.remote()), False)


class Ok(Exception):
    def __init__(self, msg, code=0):
        super().__init__(msg)
        self.code = code


@ray.remote
def okerr():
    raise Ok("m", 7)


def f():
    try:
        ray.get(okerr.remote())
    except Ok as e:
        return (
            e.code,
            type(e.cause).__name__,
            e.args[0].args,
            e.__cause__,
            isinstance(e, ray.exceptions.RayTaskError),
        )


rec("attrs", f)


@ray.remote
def chained():
    try:
        1 / 0
    except Exception as e:
        raise RuntimeError("outer") from e


rec("chained", lambda: ray.get(chained.remote()))


@ray.remote
def group():
    raise ExceptionGroup("g", [ValueError(1), TypeError(2)])


rec("group", lambda: ray.get(group.remote()), False)


@ray.remote(max_retries=0)
def ex(n):
    os._exit(n)


rec("exit", lambda: ray.get(ex.remote(1)), False)


@ray.remote(max_retries=0)
def sysex():
    sys.exit(0)


rec("sysexit", lambda: ray.get(sysex.remote()), False)
rec("depcrash", lambda: ray.get(add.remote(ex.remote(1))), False)


@ray.remote(num_returns=2)
def two(n):
    return tuple(range(n))


rec("two", lambda: ray.get(two.remote(2)))
rec("two3", lambda: [ray.get(x) for x in two.remote(3)])


@ray.remote(num_returns=2)
def two_int():
    return 5


rec("twoint", lambda: ray.get(two_int.remote()), False)


@ray.remote(num_returns=2)
def two_dict():
    return {"a": 1, "b": 2}


rec("twodict", lambda: ray.get(two_dict.remote()))


@ray.remote(num_returns=0)
def zero():
    return 1


rec("zero", lambda: zero.remote())


@ray.remote(num_returns=2)
def gen2():
    yield 1
    yield 2


rec("gen2", lambda: ray.get(gen2.remote()))


@ray.remote
def lock():
    return threading.Lock()


rec("unpickresult", lambda: ray.get(lock.remote()), False)
rec("unpickarg", lambda: add.remote(threading.Lock()), False)
rec("get_tuple", lambda: ray.get((add.remote(1),)), False)
rec("get_int", lambda: ray.get(3), False)
rec("get_nested", lambda: ray.get([[add.remote(1)]]), False)
rec("get_empty", lambda: ray.get([]))


@ray.remote
def slow(t):
    time.sleep(t)
    return t


rec("timeout", lambda: ray.get(slow.remote(1), timeout=0.1))
rec("timeout0", lambda: ray.get(slow.remote(1), timeout=0), False)
rec("getneg", lambda: ray.get(ray.put(1), timeout=-1))
rec("put_ref", lambda: ray.put(ray.put(1)), False)
rec("put_gen", lambda: ray.put(x for x in []), False)
r = add.remote(1)
rec("wait_single", lambda: ray.wait(r), False)
rec("wait_dup", lambda: ray.wait([r, r]), False)
rec("wait_0", lambda: ray.wait([r], num_returns=0), False)
rec("wait_2", lambda: ray.wait([r], num_returns=2), False)
rec("wait_neg", lambda: ray.wait([r], timeout=-1), False)
rec("wait_empty", lambda: ray.wait([]))
rec("wait_nonref", lambda: ray.wait([1]), False)


rec("iterref", lambda: list(r), False)
rec("boolref", lambda: bool(r))
rec(
    "lenhex",
    lambda: (
        len(r.hex()),
        len(r.binary()),
        len(r.task_id().hex()) if not isinstance(r.task_id(), str) else len(r.task_id()),
    ),
)


@ray.remote(max_retries=2, retry_exceptions=[ValueError])
def cnt(path, k, exc):
    n = int(open(path).read() or 0) + 1 if os.path.exists(path) else 1
    open(path, "w").write(str(n))
    if n <= k:
        if exc == "exit":
            os._exit(1)
        raise {
            "V": ValueError,
            "T": TypeError,
            "U": UnicodeError,
            "K": KeyboardInterrupt,
            "G": GeneratorExit,
        }[exc](n)
    return n


def c(k, exc, **o):
    p = tempfile.mktemp()
    fn = cnt.options(**o) if o else cnt
    try:
        out = ray.get(fn.remote(p, k, exc))
    except BaseException as e:
        out = type(e).__name__
    return out, int(open(p).read())


for k, exc, o in [
    (2, "V", {}),
    (3, "V", {}),
    (1, "T", {}),
    (2, "U", {}),
    (2, "exit", {}),
    (3, "exit", {}),
    (1, "T", {"retry_exceptions": True}),
    (1, "V", {"retry_exceptions": False}),
    (1, "V", {"retry_exceptions": []}),
    (1, "V", {"max_retries": 0}),
    (5, "V", {"max_retries": -1}),
    (1, "K", {"retry_exceptions": True}),
    (1, "G", {"retry_exceptions": True}),
    (1, "exit", {"max_retries": 0}),
]:
    rec(f"cnt{k}{exc}{sorted(o.items())}", lambda: c(k, exc, **o))


def bad(**o):
    def g():
        @ray.remote(**o)
        def f():
            pass

        return "made"

    return g


for o in [
    dict(max_retries=-2),
    dict(max_retries="a"),
    dict(max_retries=True),
    dict(retry_exceptions=ValueError),
    dict(retry_exceptions=None),
    dict(retry_exceptions=[1]),
    dict(retry_exceptions=[KeyboardInterrupt]),
    dict(num_cpus=-1),
    dict(num_cpus="1"),
    dict(num_cpus=0.00001),
    dict(resources={"CPU": 1}),
    dict(resources={"a": -1}),
    dict(num_returns=-1),
    dict(num_returns="x"),
    dict(name=1),
    dict(foo=1),
    dict(max_restarts=1),
    dict(runtime_env=1),
    dict(object_store_memory=1),
    dict(max_calls=-1),
    dict(max_calls="1"),
    dict(scheduling_strategy=1),
    dict(memory=-1),
]:
    rec("opt" + repr(o), bad(**o), False)
rec("opt_maxcalls", lambda: add.options(max_calls=1), False)
rec("remote_empty", lambda: ray.remote(), False)
rec("remote_pos", lambda: ray.remote(1, 2), False)
rec("remote_partial", lambda: ray.remote(functools.partial(print)), False)
rec("remote_builtin", lambda: ray.remote(len), False)


def asy():
    async def f():
        pass

    return ray.remote(f)


rec("remote_async", asy, False)
rec("cancel_list", lambda: ray.cancel([r]), False)
rec("cancel_put", lambda: bool(ray.cancel(ray.put(1))) and False)


@ray.remote
def kbi():
    raise KeyboardInterrupt


rec("kbi", lambda: ray.get(kbi.remote()), False)


@ray.remote
def stopit():
    raise StopIteration(3)


rec("stopiter", lambda: ray.get(stopit.remote()), False)


@ray.remote
def inner(x):
    return type(x).__name__, [type(y).__name__ for y in x]


rec("nestedref", lambda: ray.get(inner.remote([ray.put(1)])))


@ray.remote
def kw(*a, **k):
    return a, k


rec("kwref", lambda: ray.get(kw.remote(ray.put(1), z=ray.put(2))))


@ray.remote
def retref(x):
    return x[0]


rec("retref", lambda: ray.get(ray.get(retref.remote([ray.put(5)]))))


@ray.remote
def npw(a):
    return a.flags.writeable, a.sum()


rec(
    "np",
    lambda: (ray.get(npw.remote(np.arange(3))), ray.get(ray.put(np.arange(3))).flags.writeable),
)


@ray.remote
def ctx():
    c = ray.get_runtime_context()
    return (
        len(c.get_task_id()),
        c.get_task_name(),
        c.get_task_function_name(),
        c.get_actor_id(),
        len(c.get_node_id()),
        len(c.get_worker_id()),
        c.get_assigned_resources(),
        len(c.get_job_id()),
    )


rec("ctx", lambda: ray.get(ctx.remote()))


def dctx():
    c = ray.get_runtime_context()
    return (
        c.get_task_id(),
        c.get_actor_id(),
        len(c.get_node_id()),
        len(c.get_worker_id()),
        c.get_job_id(),
    )


rec("dctx", dctx)
rec("dctx_res", lambda: ray.get_runtime_context().get_assigned_resources(), False)
rec("init_twice", lambda: ray.init(), False)
rec("init_twice_ignore", lambda: bool(ray.init(ignore_reinit_error=True)))
rec("cluster", lambda: sorted(k for k in ray.cluster_resources() if not k.startswith("node:")))
rec("nodes", lambda: sorted(ray.nodes()[0]))


@ray.remote
def env():
    return os.environ.get("FOO"), os.environ.get("OMP_NUM_THREADS")


rec("env", lambda: ray.get(env.options(runtime_env={"env_vars": {"FOO": "1"}}).remote()))


@ray.remote(max_calls=2)
def pid():
    return os.getpid()


rec("max_calls", lambda: len(set(ray.get(pid.remote()) for _ in range(4))))
rec("ident", lambda: ray.get(ray.put([1])) is ray.get(ray.put([1])))


async def aw():
    x = add.remote(1)
    return await x, await asyncio.gather(x, x), await asyncio.wait_for(x, 5)


rec("await", lambda: asyncio.run(aw()))
rec("taskid", lambda: str(ray.ObjectRef.nil()))
# ---- large values


def large(value):
    got = ray.get(ray.put(value))
    return type(got).__name__, len(got) if hasattr(got, "__len__") else None, got is value


BIG = 1_000_000
rec("large_bytes", lambda: large(b"a" * BIG))
rec("large_bytearray", lambda: large(bytearray(BIG)))
rec("large_memoryview", lambda: large(memoryview(bytes(BIG))))
rec("large_array", lambda: large(np.zeros(BIG)))
rec("large_array_flags", lambda: ray.get(ray.put(np.zeros(BIG))).flags.writeable)
rec("large_nested_flags", lambda: ray.get(ray.put([{"a": np.zeros(BIG)}]))[0]["a"].flags.writeable)
rec("large_fortran", lambda: ray.get(ray.put(np.zeros((1000, 1000), order="F"))).flags.f_contiguous)
rec("large_sliced", lambda: float(ray.get(ray.put(np.arange(BIG)[::2])).sum()))
rec(
    "large_object_array",
    lambda: ray.get(ray.put(np.array([[1], None] * 100_000, dtype=object))).shape,
)
rec("large_shared", lambda: np.shares_memory(*[ray.get(r) for r in [ray.put(np.zeros(BIG))] * 2]))


@ray.remote
def writes(a):
    a[0] = 1
    return a


@ray.remote
def flags(a, b):
    return a.flags.writeable, b[0].flags.writeable, type(b).__name__


rec("large_write", lambda: ray.get(writes.remote(np.zeros(BIG))))
rec("large_write_ref", lambda: ray.get(writes.remote(ray.put(np.zeros(BIG)))))
rec("large_flags", lambda: ray.get(flags.remote(np.zeros(BIG), [np.zeros(BIG)])))


@ray.remote(num_returns=2)
def two_large():
    return np.zeros(BIG), b"x" * BIG


rec("large_two", lambda: [len(v) for v in ray.get(two_large.remote())])


class Odd:
    def __init__(self, x):
        self.x = x


@ray.remote
def odd(o):
    return type(o).__name__, o.x


def registered():
    ray.util.register_serializer(Odd, serializer=lambda o: o.x, deserializer=lambda x: Odd(x * 2))
    try:
        return ray.get(odd.remote(Odd(4))), ray.get(ray.put(Odd(5))).x
    finally:
        ray.util.deregister_serializer(Odd)


rec("registered", registered)
rec("deregistered", lambda: (ray.get(odd.remote(Odd(4))), ray.get(ray.put(Odd(5))).x))
rec("deregistered_twice", lambda: ray.util.deregister_serializer(Odd))
rec("ref_of_ref", lambda: type(ray.get(ray.put([ray.put(1)]))[0]).__name__)
rec("ref_by_hand", lambda: ray.get(__import__("pickle").loads(ray.cloudpickle.dumps(ray.put(7)))))
rec("get_mixed", lambda: [type(v).__name__ for v in ray.get([ray.put(1), ray.put(np.zeros(BIG))])])
ray.shutdown()
rec("is_init", lambda: ray.is_initialized())
rec("shutdown2", lambda: bool(ray.shutdown()) and False)
for a in [
    dict(address="auto"),
    dict(foo=1),
    dict(local_mode=True),
    dict(num_cpus=-1),
    dict(address="local", num_cpus="x"),
    dict(resources={"CPU": 1}),
]:

    def i(a=a):
        try:
            ray.init(**a)
            return "started"
        finally:
            ray.shutdown()

    rec("init" + repr(a), i, False)
write()
