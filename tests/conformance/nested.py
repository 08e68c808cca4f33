"""A program for Ray whose tasks use tasks and generators: see program.py.

Run by Ray 2.60.0 it wrote ray-2.60.0-nested.json. Usage: python nested.py OUTPUT.json
"""

import asyncio
import os
import pickle
import sys
import tempfile
import threading
import time
import warnings

import ray
from asking import rec, told, write
from ray.exceptions import GetTimeoutError, RayTaskError, TaskCancelledError, WorkerCrashedError

warnings.simplefilter("ignore")
GUARD = 60  # seconds; whoever waits longer has failed, on any machine
ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)


@ray.remote
def call(fn, text):
    return told(fn, text)


def inside(name, fn, text=True):
    """Ask in a task: of a pair, as that the task returns."""
    rec(name, lambda: ray.get(call.remote(fn, text), timeout=GUARD))


def escaping(fn, **options):
    """Let what `fn` raises in a task come here."""
    task = ray.remote(fn)
    return ray.get((task.options(**options) if options else task).remote(), timeout=GUARD)


@ray.remote
def same(x=0):
    return x


@ray.remote
def boom(x=1):
    raise ValueError("bad", x)


@ray.remote(max_retries=0)
def crash():
    os._exit(3)


@ray.remote
def slow(t):
    time.sleep(t)
    return t


@ray.remote
def never(path=None):
    if path is not None:
        open(path, "w").close()
    while True:
        time.sleep(0.01)


@ray.remote
def unpicklable():
    return threading.Lock()


@ray.remote(max_retries=0)
def leave():
    sys.exit(0)


@ray.remote
def interrupted():
    raise KeyboardInterrupt


def until(path):
    end = time.time() + GUARD
    while not os.path.exists(path):
        if time.time() > end:
            raise RuntimeError(f"nobody has made {path}")
        time.sleep(0.01)


def running():
    """A task that runs for ever, and does."""
    path = tempfile.mktemp()
    ref = never.remote(path)
    until(path)
    return ref


def cancelled():
    ref = running()
    ray.cancel(ref)
    return ref


# ---- get, wait and put in a task

inside("get", lambda: ray.get(same.remote(1)))
inside("get_list", lambda: ray.get([same.remote(1), same.remote(2)]))
inside("get_twice", lambda: (lambda r: ray.get([r, r]))(same.remote(1)))
inside("get_tuple", lambda: ray.get((same.remote(1),)), False)
inside("get_int", lambda: ray.get(3), False)
inside("get_none", lambda: ray.get(None), False)
inside("get_nested", lambda: ray.get([[same.remote(1)]]), False)
inside("get_empty", lambda: ray.get([]))
inside("get_positional", lambda: ray.get(same.remote(1), 1), False)
inside("timeout", lambda: ray.get(slow.remote(1), timeout=0.1))
inside("timeout0", lambda: ray.get(slow.remote(1), timeout=0))
inside("timeout_minus_1", lambda: ray.get(same.remote(1), timeout=-1))
inside("timeout_of_many", lambda: ray.get([same.remote(1), slow.remote(1)], timeout=0.1))
inside("error_before_the_others", lambda: ray.get([slow.remote(3), boom.remote()]), False)
inside("put", lambda: ray.get(ray.put([1])))
inside("put_ref", lambda: ray.put(ray.put(1)), False)
inside("put_list_of_refs", lambda: ray.get(ray.get(ray.put([ray.put(1)]))))
inside("put_generator", lambda: ray.put(x for x in []), False)
inside("put_lock", lambda: ray.put(threading.Lock()), False)
inside("put_owner", lambda: ray.put(1, _owner=None), False)
inside("wait_single", lambda: ray.wait(same.remote(1)), False)
inside("wait_dup", lambda: (lambda r: ray.wait([r, r]))(same.remote(1)), False)
inside("wait_0", lambda: ray.wait([same.remote(1)], num_returns=0), False)
inside("wait_2", lambda: ray.wait([same.remote(1)], num_returns=2), False)
inside("wait_neg", lambda: ray.wait([same.remote(1)], timeout=-1), False)
inside("wait_empty", lambda: ray.wait([]))
inside("wait_nonref", lambda: ray.wait([1]), False)


def wait_order():
    refs = [slow.remote(30), *[same.remote(n) for n in range(3)]]
    ray.get(refs[1:])
    ready, pending = ray.wait(refs, num_returns=3)
    found = [refs.index(r) for r in ready], [refs.index(r) for r in pending]
    ray.cancel(refs[0], force=True)
    return found


inside("wait_order", wait_order)
inside("wait_failed", lambda: [len(x) for x in ray.wait([boom.remote()])])
inside("wait_crashed", lambda: [len(x) for x in ray.wait([crash.remote()])])
inside("wait_timeout", lambda: [len(x) for x in ray.wait([slow.remote(1)], timeout=0.1)])
inside("wait_poll", lambda: [len(x) for x in ray.wait([slow.remote(1)], timeout=0)])
inside("direct", lambda: same(1), False)
inside("toomany", lambda: same.remote(1, 2), False)
inside("unexpected", lambda: same.remote(y=1), False)
inside("unpicklable_argument", lambda: same.remote(threading.Lock()), False)
inside("bad_option", lambda: same.options(foo=1), False)
inside("iterate_ref", lambda: list(same.remote(1)), False)
inside("cancel_list", lambda: ray.cancel([same.remote(1)]), False)
inside("cancel_put", lambda: ray.cancel(ray.put(1)) and None)
inside(
    "cancel_finished",
    lambda: (lambda r: (ray.get(r), ray.cancel(r), ray.get(r))[2])(same.remote(5)),
)


async def awaited():
    r = same.remote(1)
    return await r, await asyncio.gather(r, same.remote(2)), await asyncio.wait_for(r, 5)


inside("await", lambda: asyncio.run(awaited()))
inside("future", lambda: same.remote(4).future().result(10))

# ---- the session, seen from a task

inside("init", lambda: ray.init(), False)
inside("init_ignore", lambda: bool(ray.init(ignore_reinit_error=True)))
inside("init_cpus", lambda: ray.init(num_cpus=3), False)
inside("is_initialized", lambda: ray.is_initialized())
inside("cluster", lambda: ray.cluster_resources()["CPU"])
inside("nodes", lambda: len(ray.nodes()))


@ray.remote
def about():
    c = ray.get_runtime_context()
    return {
        "task": c.get_task_id(),
        "worker": c.get_worker_id(),
        "node": c.get_node_id(),
        "job": c.get_job_id(),
        "resources": c.get_assigned_resources(),
        "namespace": c.namespace,
        "name": c.get_task_name(),
    }


def context(what):
    mine = ray.get_runtime_context()
    ref = about.remote()
    child = ray.get(ref)
    return {
        "task": lambda: (child["task"] == ref.task_id().hex(), child["task"] == mine.get_task_id()),
        "worker": lambda: child["worker"] == mine.get_worker_id(),
        "node": lambda: child["node"] == mine.get_node_id(),
        "job": lambda: (child["job"] == mine.get_job_id(), child["job"], child["task"][-8:]),
        "namespace": lambda: child["namespace"] == mine.namespace,
        "resources": lambda: (child["resources"], mine.get_assigned_resources()),
        "put": lambda: ray.put(1).task_id().hex() == mine.get_task_id(),
    }[what]()


for what in ["task", "worker", "node", "job", "namespace", "resources", "put"]:
    inside(f"context_{what}", lambda: context(what))
inside("context_half", lambda: ray.get(about.options(num_cpus=0.5).remote())["resources"])
inside("context_zero", lambda: ray.get(about.options(num_cpus=0).remote())["resources"])
inside("context_name", lambda: ray.get(about.options(name="mine").remote())["name"])


@ray.remote
def variables():
    return os.environ.get("OUTER"), os.environ.get("INNER")


def env(inner):
    task = variables.options(runtime_env={"env_vars": inner}) if inner else variables
    return ray.get(task.remote())


outer = {"runtime_env": {"env_vars": {"OUTER": "1"}}}
rec("env_inherited", lambda: escaping(lambda: env({}), **outer))
rec("env_merged", lambda: escaping(lambda: env({"INNER": "2"}), **outer))
rec("env_replaced", lambda: escaping(lambda: env({"OUTER": "3"}), **outer))

# ---- errors of children


class Own(Exception):
    def __init__(self, message, code=0):
        super().__init__(message)
        self.code = code


@ray.remote
def own():
    raise Own("mine", 7)


@ray.remote
def group():
    raise ExceptionGroup("g", [ValueError(1), TypeError(2)])


def caught(ref):
    try:
        ray.get(ref)
    except Exception as e:
        return e
    return None


def look(make):
    e = caught(make())
    return (
        type(e).__name__,
        isinstance(e, RayTaskError),
        type(getattr(e, "cause", None)).__name__,
        getattr(e, "code", None),
        e.__cause__,
        [type(a).__name__ for a in e.args],
    )


inside("error_value", lambda: look(boom.remote))
inside("error_own", lambda: look(own.remote))
inside("error_group", lambda: look(group.remote))
inside("error_result", lambda: look(unpicklable.remote))
inside("error_leave", lambda: look(leave.remote)[:2])
inside("error_crash", lambda: look(crash.remote)[:2])
inside("error_interrupt", lambda: look(interrupted.remote)[:2])
inside("error_cancelled", lambda: look(cancelled)[:2])
inside("error_argument", lambda: look(lambda: same.remote(boom.remote())))
inside("error_argument_crash", lambda: look(lambda: same.remote(crash.remote()))[:2])
inside("error_num_returns", lambda: look(lambda: same.options(num_returns=2).remote([1])[0])[:3])
inside("error_except_own", lambda: isinstance(caught(own.remote()), Own))
rec("escape_value", lambda: escaping(lambda: ray.get(boom.remote())), False)
rec("escape_own", lambda: escaping(lambda: ray.get(own.remote())), False)
rec("escape_crash", lambda: escaping(lambda: ray.get(crash.remote())), False)
rec("escape_cancelled", lambda: escaping(lambda: ray.get(cancelled())), False)
rec("escape_timeout", lambda: escaping(lambda: ray.get(slow.remote(1), timeout=0)), False)
rec("escape_group", lambda: escaping(lambda: ray.get(group.remote())), False)
rec("escape_interrupt", lambda: escaping(lambda: ray.get(interrupted.remote())), False)


def deep(n):
    return ray.get(boom.remote() if n == 0 else ray.remote(deep).remote(n - 1))


rec("escape_deep", lambda: escaping(lambda: deep(3)), False)


def cause_after_escape():
    try:
        escaping(lambda: deep(2))
    except ValueError as e:
        return (
            type(e.cause).__name__,
            type(getattr(e.cause, "cause", None)).__name__,
            e.args[0].args,
        )


rec("escape_cause", cause_after_escape)


def text_after_escape():
    try:
        escaping(lambda: deep(1))
    except ValueError as e:
        lines = str(e).splitlines()
        return (
            lines[-1],
            sum("ray::" in line for line in lines),
            sum("deep" in line for line in lines),
        )


rec("escape_text", text_after_escape)


def wrap():
    try:
        ray.get(boom.remote())
    except ValueError as e:
        raise RuntimeError("wrapped") from e


rec("escape_wrapped", lambda: escaping(wrap), False)
rec("escape_cause_raised", lambda: escaping(lambda: raised(caught(boom.remote()).cause)), False)


def raised(e):
    raise e


rec("returned_error", lambda: type(escaping(lambda: caught(boom.remote()))).__name__)
rec("returned_own_error", lambda: escaping(lambda: caught(own.remote()).cause).code)
inside("put_error", lambda: type(ray.get(ray.put(caught(boom.remote())))).__name__)
rec("error_as_argument", lambda: ray.get(same.remote(caught(boom.remote()))) is not None)


def attempts(fn, **options):
    path = tempfile.mktemp()

    def counted():
        with open(path, "a") as file:
            file.write("x")
        return fn()

    try:
        outcome = escaping(counted, **options)
    except Exception as e:
        outcome = type(e).__name__
    return outcome, os.path.getsize(path)


for name, fn, allowed in [
    ("cause", lambda: ray.get(boom.remote()), [ValueError]),
    ("base", lambda: ray.get(boom.remote()), [Exception]),
    ("other", lambda: ray.get(boom.remote()), [TypeError]),
    ("task_error", lambda: ray.get(boom.remote()), [RayTaskError]),
    ("own", lambda: ray.get(own.remote()), [Own]),
    ("crash", lambda: ray.get(crash.remote()), [WorkerCrashedError]),
    ("crash_any", lambda: ray.get(crash.remote()), True),
    ("cancelled", lambda: ray.get(cancelled()), [TaskCancelledError]),
    ("cancelled_any", lambda: ray.get(cancelled()), True),
    ("timeout", lambda: ray.get(slow.remote(1), timeout=0), [GetTimeoutError]),
    ("deep", lambda: deep(1), [ValueError]),
    ("wrapped", wrap, [ValueError]),
]:
    rec(f"retry_{name}", lambda: attempts(fn, max_retries=1, retry_exceptions=allowed))
rec("no_retry", lambda: attempts(lambda: ray.get(boom.remote()), max_retries=1))

# ---- refs that travel

rec("return_ref", lambda: ray.get(escaping(lambda: same.remote(1))))
rec("return_refs", lambda: ray.get(escaping(lambda: [same.remote(n) for n in range(3)])))
rec("return_dict", lambda: ray.get(escaping(lambda: {"a": ray.put(1)})["a"]))
rec("return_failed_ref", lambda: ray.get(escaping(lambda: boom.remote())), False)
rec("return_deep", lambda: ray.get(ray.get(escaping(lambda: ray.put([ray.put(1)])))[0]))
rec("return_function", lambda: ray.get(escaping(lambda: same).remote(3)))
rec("return_two", lambda: ray.get(escaping(lambda: same.options(num_returns=2).remote((1, 2)))))
rec("return_unfinished", lambda: ray.get(escaping(lambda: slow.remote(0.3))))
given = ray.put("given")
inside("borrow", lambda: ray.get(given))


@ray.remote
def equal(refs, hexed):
    (r,) = refs
    return r.hex() == hexed, r == pickle.loads(ray.cloudpickle.dumps(r)), r in {r: 1}


rec("ref_equal", lambda: ray.get(equal.remote([given], given.hex())))
rec("ref_round_trip", lambda: ray.get(same.remote([given]))[0] == given)


@ray.remote
def read(refs):
    return [ray.get(r) for r in refs]


rec("nested_argument", lambda: ray.get(read.remote([same.remote(1), ray.put(2)])))
inside("nested_in_task", lambda: ray.get(read.remote([same.remote(1), given])))
inside("argument_resolved", lambda: ray.get(same.remote(same.remote(1))))
inside("pass_on", lambda: ray.get(ray.get(same.remote([same.remote(1)]))))
rec("function_argument", lambda: ray.get(ray.remote(lambda f: ray.get(f.remote(2))).remote(same)))
rec("wait_borrowed", lambda: escaping(lambda: [len(x) for x in ray.wait([given])]))
rec("kept_error", lambda: type(caught(escaping(lambda: [boom.remote()])[0])).__name__)

# ---- cancelling


@ray.remote(max_retries=0)
def holds(path):
    open(path + ".started", "w").close()
    try:
        for _ in range(300):
            time.sleep(0.01)
            if os.path.exists(path + ".go"):
                return "went on"
        return "too late"
    except KeyboardInterrupt:
        open(path + ".cancelled", "w").close()
        raise


@ray.remote(max_retries=0)
def parent(path, how):
    refs = [holds.remote(path)]
    try:
        if how == "wait":
            return ray.wait(refs)
        return ray.get(refs)
    except KeyboardInterrupt:
        if how == "catch":
            return "caught"
        if how == "other":
            raise TypeError("other") from None
        raise


def cancel_family(how="get", **options):
    path = tempfile.mktemp()
    ref = parent.remote(path, how)
    until(path + ".started")
    time.sleep(0.3)
    ray.cancel(ref, **options)
    error = told(lambda: ray.get(ref, timeout=GUARD), False)
    if options.get("recursive", True) and not options.get("force"):
        until(path + ".cancelled")
    else:
        open(path + ".go", "w").close()
    return error, os.path.exists(path + ".cancelled")


rec("cancel_parent_in_get", cancel_family)
rec("cancel_parent_in_wait", lambda: cancel_family("wait"))
rec("cancel_parent_alone", lambda: cancel_family(recursive=False))
rec("cancel_parent_by_force", lambda: cancel_family(force=True)[0])
rec("cancel_parent_that_catches", lambda: cancel_family("catch"))
rec("cancel_parent_that_raises", lambda: cancel_family("other"))


def cancel_queued():
    refs = [never.options(num_cpus=2).remote(), same.options(num_cpus=2).remote()]
    for ref in reversed(refs):
        ray.cancel(ref, force=True)
    return [type(caught(ref)).__name__ for ref in refs]


inside("cancel_queued", cancel_queued)
inside("cancel_child", lambda: isinstance(caught(cancelled()), TaskCancelledError))


def cancel_borrowed():
    ref = running()
    ray.get(ray.remote(lambda refs: ray.cancel(refs[0]) and None).remote([ref]))
    return ray.get(ref, timeout=GUARD)


rec("cancel_borrowed", cancel_borrowed, False)

# ---- generators


@ray.remote
def count(n, fail=None):
    for number in range(n):
        yield number
    if fail == "raise":
        raise ValueError("after", n)
    if fail == "exit":
        time.sleep(0.5)  # or Ray may lose items
        os._exit(3)
    if fail == "stop":
        raise StopIteration
    if fail == "interrupt":
        raise KeyboardInterrupt
    if fail == "never":
        while True:
            time.sleep(0.01)
    return "lost"


def values(generator):
    return [seen(ref) for ref in generator]


def seen(ref):
    try:
        return ray.get(ref)
    except Exception as e:
        return type(e).__name__


def ended(generator):
    found = values(generator)
    return found, seen(generator.completed()), generator.is_finished(), generator.next_ready()


rec("gen_type", lambda: type(count.remote(1)).__name__)
rec("gen_values", lambda: values(count.remote(3)))
rec("gen_empty", lambda: ended(count.remote(0)))
rec("gen_ended", lambda: ended(count.remote(2)))
rec("gen_twice", lambda: (lambda g: (values(g), values(g)))(count.remote(2)))
rec("gen_next_after_end", lambda: (lambda g: (list(g), next(g)))(count.remote(1)), False)
rec("gen_iter", lambda: (lambda g: iter(g) is g)(count.remote(1)))
rec("gen_aiter", lambda: (lambda g: g.__aiter__() is g)(count.remote(1)))
rec("gen_bool", lambda: bool(count.remote(0)))
rec("gen_hash", lambda: (lambda g: (len({g, g}), g == g, g == count.remote(1)))(count.remote(1)))
rec("gen_len", lambda: len(count.remote(1)), False)
rec("gen_index", lambda: count.remote(1)[0], False)
rec("gen_is_ref", lambda: isinstance(count.remote(1), ray.ObjectRef))
rec("gen_isinstance", lambda: isinstance(count.remote(1), ray.ObjectRefGenerator))
rec("gen_made_by_hand", lambda: ray.ObjectRefGenerator(), False)
rec(
    "gen_task_id", lambda: (lambda g: next(g).task_id() == g.completed().task_id())(count.remote(1))
)
rec("gen_indices", lambda: [int.from_bytes(r.binary()[24:], "little") for r in count.remote(3)])
rec(
    "gen_completed_index",
    lambda: int.from_bytes(count.remote(1).completed().binary()[24:], "little"),
)
rec("gen_completed_twice", lambda: (lambda g: g.completed() == g.completed())(count.remote(1)))
for fail in ["raise", "exit", "stop", "interrupt"]:
    rec(f"gen_{fail}", lambda: ended(count.options(max_retries=0).remote(2, fail)))
    inside(f"gen_{fail}_in_task", lambda: ended(count.options(max_retries=0).remote(2, fail)))
rec("gen_error_first", lambda: ended(count.remote(0, "raise")))
rec("gen_argument_failed", lambda: ended(count.remote(boom.remote())))
rec("gen_argument_crashed", lambda: ended(count.remote(crash.remote())))
rec("gen_wrong_call", lambda: count.remote(), False)
rec("gen_unpicklable_argument", lambda: count.remote(threading.Lock()), False)
for how in ["send", "throw", "close"]:
    args = [] if how == "close" else [ValueError()]
    rec(f"gen_{how}", lambda: getattr(count.remote(1), how)(*args), False)
for how in ["asend", "athrow"]:
    rec(f"gen_{how}", lambda: asyncio.run(getattr(count.remote(1), how)(ValueError())), False)
rec("gen_aclose", lambda: asyncio.run(count.remote(1).aclose()), False)
rec("gen_pickle", lambda: pickle.dumps(count.remote(1)), False)
rec("gen_argument", lambda: same.remote(count.remote(1)), False)
rec("gen_put", lambda: ray.put(count.remote(1)), False)
rec("gen_result", lambda: escaping(lambda: count.remote(1)), False)
rec("gen_get", lambda: (lambda g: ray.get(g) is g)(count.remote(1)))
rec("gen_get_list", lambda: ray.get([count.remote(1)]), False)
rec("gen_await", lambda: asyncio.run(awaits(count.remote(1))), False)


async def awaits(x):
    return await x


# -- generators and wait


def parts(refs, **options):
    ready, pending = ray.wait(refs, **options)
    return [refs.index(r) for r in ready], [refs.index(r) for r in pending]


def waits(make, **options):
    refs = make()
    ray.wait(refs, num_returns=len(refs), timeout=GUARD)
    return parts(refs, **options)


def waits_in_vain(generator):
    found = parts([generator], timeout=0), parts([generator], timeout=0.2)
    ray.cancel(generator, force=True)
    return found


rec("wait_gen", lambda: parts([count.remote(1)]))
rec("wait_gen_ended", lambda: (lambda g: (list(g), parts([g], timeout=GUARD))[1])(count.remote(1)))
rec("wait_gen_empty", lambda: parts([count.remote(0)], timeout=GUARD))
rec("wait_gen_never", lambda: waits_in_vain(count.remote(0, "never")))
rec("wait_gen_mixed", lambda: waits(lambda: [count.remote(1), same.remote(1)], num_returns=2))
rec("wait_gen_many", lambda: waits(lambda: [count.remote(3), same.remote(1)]))
rec("wait_gen_dup", lambda: (lambda g: parts([g, g]))(count.remote(1)), False)
rec("wait_gen_failed", lambda: parts([count.remote(0, "raise")], timeout=GUARD))
rec("wait_gen_single", lambda: ray.wait(count.remote(1)), False)
rec("wait_gen_twice", lambda: (lambda g: (parts([g]), parts([g]), values(g)))(count.remote(2)))
inside("wait_gen_in_task", lambda: parts([count.remote(1)]))


def read_with_wait():
    left, found = [count.remote(3), count.remote(2)], []
    while left:
        (generator,), _ = ray.wait(left)
        try:
            found.append(ray.get(next(generator)))
        except StopIteration:
            left.remove(generator)
    return sorted(found)


rec("wait_gen_loop", read_with_wait)
inside("wait_gen_loop_in_task", read_with_wait)


def readiness():
    g = count.remote(1, "never")
    ray.wait([g])
    before = g.next_ready(), g.is_finished()
    next(g)
    after = g.next_ready(), g.is_finished(), ray.wait([g.completed()], timeout=0)[0]
    ray.cancel(g, force=True)
    return before, after


rec("gen_readiness", readiness)


def drain():
    g = count.remote(3)
    ray.get(g.completed())
    found = []
    while g.next_ready():
        found.append(ray.get(next(g)))
    return found, g.is_finished(), g.next_ready()


rec("gen_drain", drain)
inside("gen_drain_in_task", drain)

# -- generators asynchronously


async def read_async(generator):
    return [await ref async for ref in generator]


async def read_failing(generator):
    found = []
    async for ref in generator:
        try:
            found.append(await ref)
        except Exception as e:
            found.append(type(e).__name__)
    return found


async def after_the_end(generator):
    [ref async for ref in generator]
    await generator.__anext__()


async def at_once():
    return await asyncio.gather(*[read_async(count.remote(n)) for n in range(3)])


async def next_in_time(generator):
    try:
        return await asyncio.wait_for(generator.__anext__(), 0.2)
    finally:
        ray.cancel(generator, force=True)


rec("gen_async", lambda: asyncio.run(read_async(count.remote(3))))
rec("gen_async_failing", lambda: asyncio.run(read_failing(count.remote(2, "raise"))))
rec("gen_async_after_end", lambda: asyncio.run(after_the_end(count.remote(1))), False)
rec("gen_async_gather", lambda: asyncio.run(at_once()))
rec("gen_async_timeout", lambda: asyncio.run(next_in_time(count.remote(0, "never"))), False)
inside("gen_async_in_task", lambda: asyncio.run(read_async(count.remote(3))))

# -- generators: what they yield, and options


@ray.remote
def yields(what):
    if what == "none":
        yield None
    elif what == "ref":
        yield ray.put(1)
    elif what == "child":
        yield same.remote(2)
    elif what == "lock":
        yield 1
        yield threading.Lock()
        yield 2
    elif what == "generator":
        yield (x for x in [])
    elif what == "error":
        yield ValueError("as a value")
    elif what == "relay":
        yield from (ray.get(ref) * 10 for ref in count.remote(3))
    elif what == "refs":
        yield from count.remote(3)


rec("yield_none", lambda: values(yields.remote("none")))
rec("yield_ref", lambda: ray.get(ray.get(next(yields.remote("ref")))))
rec("yield_child", lambda: ray.get(ray.get(next(yields.remote("child")))))
rec("yield_lock", lambda: values(yields.remote("lock")))
rec("yield_generator", lambda: values(yields.remote("generator")))
rec("yield_error", lambda: values(yields.remote("error")))
rec("yield_relay", lambda: values(yields.remote("relay")))
rec("yield_refs", lambda: [seen(r) for r in values(yields.remote("refs"))][-1])
rec("gen_item_twice", lambda: (lambda r: (ray.get(r), ray.get(r)))(next(count.remote(1))))
rec("gen_item_argument", lambda: [ray.get(same.remote(r)) for r in count.remote(2)])
rec("gen_items_outlive_it", lambda: ray.get(list(count.remote(3))))
for n, returns in [(2, 2), (3, 2), (1, 2), (1, 1), (0, 0), (2, 1)]:
    rec(f"gen_{n}_as_{returns}", lambda: returned(n, returns))


def returned(n, returns):
    refs = count.options(num_returns=returns).remote(n)
    if refs is None:
        return None
    found = values(refs if isinstance(refs, list) else [refs])
    return [x if isinstance(x, int | str) else type(x).__name__ for x in found]


rec("gen_streaming", lambda: values(count.options(num_returns="streaming").remote(2)))
rec("gen_none", lambda: values(count.options(num_returns=None).remote(2)))
rec("fn_streaming", lambda: values(same.options(num_returns="streaming").remote(2)), False)
rec("fn_dynamic", lambda: ray.get(same.options(num_returns="dynamic").remote(2)), False)
rec("opt_backpressure_0", lambda: count.options(_generator_backpressure_num_objects=0), False)
rec(
    "opt_backpressure_of_function",
    lambda: ray.get(same.options(_generator_backpressure_num_objects=2).remote(2)),
)
rec("opt_num_objects_per_yield", lambda: count.options(_num_objects_per_yield=2), False)
rec(
    "gen_backpressure",
    lambda: values(count.options(_generator_backpressure_num_objects=1).remote(5)),
)
rec("gen_name", lambda: values(count.options(name="mine").remote(1)))
rec("gen_lambda", lambda: values(ray.remote(lambda: (yield 1)).remote()))


def plain_iterator():
    return iter([1, 2])


rec("fn_that_returns_an_iterator", lambda: ray.get(ray.remote(plain_iterator).remote()), False)


def produced(backpressure, read):
    path = tempfile.mktemp()
    open(path, "w").close()

    @ray.remote(_generator_backpressure_num_objects=backpressure)
    def noting():
        for number in range(8):
            with open(path, "a") as file:
                file.write("x")
            yield number

    generator = noting.remote()
    for _ in range(read):
        next(generator)
    until(path)
    size = -1
    while size < (size := os.path.getsize(path)):
        time.sleep(1.0)  # until no more comes
    return size


rec("backpressure_unread", lambda: produced(2, 0))
rec("backpressure_one_read", lambda: produced(2, 1))
rec("backpressure_off", lambda: produced(-1, 0))


rec("put_owner_of_none", lambda: ray.get(ray.put(1, _owner=None)))
rec(
    "ref_ids",
    lambda: (lambda r: (r.task_id().hex() == r.hex()[:48], r.job_id().hex()))(same.remote()),
)
rec("ref_id_bytes", lambda: (lambda r: r.task_id().binary() == r.binary()[:24])(same.remote()))


def dynamic(n, fail=None):
    return ray.get(count.options(num_returns="dynamic", max_retries=0).remote(n, fail))


rec("dynamic_type", lambda: type(dynamic(2)).__name__)
rec("dynamic_len", lambda: len(dynamic(2)))
rec("dynamic_values", lambda: values(dynamic(2)))
rec("dynamic_empty", lambda: values(dynamic(0)))
rec("dynamic_twice", lambda: (lambda d: (len(values(d)), len(values(d))))(dynamic(2)))
rec("dynamic_raise", lambda: values(dynamic(2, "raise")), False)
rec("dynamic_exit", lambda: dynamic(2, "exit"), False)
rec("dynamic_next", lambda: next(dynamic(2)), False)
rec("dynamic_ref", lambda: type(count.options(num_returns="dynamic").remote(1)).__name__)
rec(
    "dynamic_argument",
    lambda: ray.get(
        ray.remote(lambda d: [ray.get(r) for r in d]).remote(
            count.options(num_returns="dynamic").remote(2)
        )
    ),
)
inside("dynamic_in_task", lambda: values(dynamic(2)))

# -- generators: retries, cancelling, dropping


def broken(how, **options):
    path = tempfile.mktemp()
    open(path, "w").close()

    @ray.remote(**options)
    def break_once():
        with open(path, "a") as file:
            file.write("x")
        attempt = os.path.getsize(path)
        for number in range(4):
            if number == 2 and attempt == 1:
                time.sleep(0.5)
                if how == "exit":
                    os._exit(3)
                raise ValueError("broken")
            yield number, attempt

    return ended(break_once.remote())


rec("gen_retry_crash", lambda: broken("exit", max_retries=1))
rec("gen_retry_crash_not", lambda: broken("exit", max_retries=0))
rec("gen_retry_error", lambda: broken("raise", retry_exceptions=[ValueError]))
rec("gen_retry_error_not", lambda: broken("raise", max_retries=1))


def cancel_generator(force=False):
    generator = count.options(max_retries=0).remote(2, "never")
    for _ in range(2):
        ray.get(next(generator))  # it runs
    ray.cancel(generator, force=force)
    found = values(generator)
    completed = seen(generator.completed())
    return [x for x in found if isinstance(x, str)], completed


rec("gen_cancel", cancel_generator)
rec("gen_cancel_by_force", lambda: cancel_generator(force=True))


def cancel_queued_generator():
    blocks = [running() for _ in range(2)]
    generator = count.remote(2)
    ray.cancel(generator)
    found = values(generator), seen(generator.completed())
    for ref in blocks:
        ray.cancel(ref, force=True)
    return found


rec("gen_cancel_queued", cancel_queued_generator)
rec(
    "gen_cancel_ended",
    lambda: (lambda g: (list(g), ray.cancel(g), seen(g.completed()))[2])(count.remote(1)),
)
inside("gen_cancel_in_task", cancel_generator)


def dropped():
    path = tempfile.mktemp()

    @ray.remote(_generator_backpressure_num_objects=1)
    def runs_on():
        for number in range(5):
            yield number
        open(path, "w").close()

    next(runs_on.remote())
    until(path)
    return "ran on"


rec("gen_dropped", dropped)
inside("gen_dropped_in_task", dropped)


def not_gone():
    ref = next(count.remote(3))
    time.sleep(0.2)
    return ray.get(ref)


rec("gen_dropped_item", not_gone)

# ---- coroutines


async def coroutine():
    return 1


async def agen():
    yield 1


rec("coroutine", lambda: ray.get(ray.remote(coroutine).remote()), False)
rec("async_generator", lambda: values(ray.remote(agen).remote()))
inside("coroutine_in_task", lambda: ray.get(ray.remote(coroutine).remote()), False)
ray.shutdown()
write()
