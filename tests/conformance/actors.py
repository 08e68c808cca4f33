"""A program for Ray that tries the edges of its API for actors: see program.py.

Run by Ray 2.60.0 it wrote ray-2.60.0-actors.json. Usage: python actors.py OUTPUT.json [QUESTIONS]
(QUESTIONS is a regular expression: only questions with such names are asked.)
"""

import abc
import asyncio
import atexit
import contextlib
import copy
import gc
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings

import ray
from asking import rec, write
from ray.exceptions import RayActorError, RayTaskError

warnings.simplefilter("ignore")
ray.init(
    num_cpus=2,
    log_to_driver=False,
    include_dashboard=False,
    logging_level="CRITICAL",
    namespace="here",
)

GUARD = 60
"""Seconds to wait for what will happen."""
SHORT = 0.2
"""Seconds to wait for what will not happen."""


def get(refs, timeout=GUARD):
    return ray.get(refs, timeout=timeout)


def name_of(fn):
    """What `fn` returns, or the name of the error it raises."""
    try:
        return fn()
    except Exception as e:
        return type(e).__name__


def end(ref):
    return name_of(lambda: get(ref))


def ends(*refs):
    return [end(ref) for ref in refs]


def says(fn, *fragments):
    """The type of the error, and whether its text has each of the fragments."""
    try:
        return fn()
    except Exception as e:
        return type(e).__name__, [part in str(e) for part in fragments]


def fields(ref):
    """What an error of an actor tells besides its text."""
    try:
        return get(ref)
    except RayActorError as e:
        return type(e).__name__, len(e.actor_id), e.actor_init_failed, e.preempted


def fresh():
    return tempfile.mktemp()


def touch(path):
    open(path, "w").close()


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def content(path):
    return open(path).read() if os.path.exists(path) else ""


def until(happened, what="it", guard=GUARD):
    """Wait until `happened()`, or until there is a file of that name."""
    last = time.time() + guard
    while not (os.path.exists(happened) if isinstance(happened, str) else happened()):
        if time.time() > last:
            raise RuntimeError(f"{what} never happened")
        time.sleep(0.005)
    return True


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):  # dead, and not reaped yet
        return " Z " in open(f"/proc/{pid}/stat").read()
    return True


def pid_of(handle):
    return get(handle.__ray_call__.remote(lambda self: os.getpid()))


def kill(handle):
    """Kill an actor, and wait for the end of its process, which Ray does not."""
    pid = pid_of(handle)
    ray.kill(handle)
    return until(lambda: gone(pid))


def question(fn):
    """Ask what `fn` returns, under its name."""
    rec(fn.__name__, fn)
    return fn


class Plain:
    """Does what it is told."""

    color = "red"

    def __init__(self, value=0):
        self.value = value

    def get(self):
        return self.value

    def add(self, n=1, *, times=1):
        self.value += n * times
        return self.value

    def echo(self, x=None):
        return x

    def log(self, x):
        self.value = [*(self.value or []), x]
        return self.value

    def do(self, fn, *args):
        return fn(*args)

    def hold(self, path):
        touch(path + ".started")
        until(path)
        return "held"

    def boom(self, x=1):
        raise ValueError("bad", x)

    def leave(self, how="exit_actor", *args):
        return ways[how](*args)

    def __hidden(self):
        return "mangled"

    def _private(self):
        return "private"

    @property
    def prop(self):
        return 1

    @staticmethod
    def static(x):
        return x

    @classmethod
    def of_class(cls):
        return cls.__name__

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


ways = {
    "exit_actor": ray.actor.exit_actor,
    "sys": sys.exit,
    "os": os._exit,
    "signal": lambda n: (os.kill(os.getpid(), getattr(signal, n)), time.sleep(GUARD)),
}


@ray.remote
class A(Plain):
    pass


class Aio:
    def __init__(self):
        self.event = asyncio.Event()
        self.seen = []

    async def wait(self, path=None):
        if path:
            touch(path + ".started")
        try:
            await asyncio.wait_for(self.event.wait(), GUARD)
        except asyncio.CancelledError:
            if path:
                touch(path + ".cancelled")
            raise
        return "waited"

    async def set(self):
        self.event.set()
        return "set"

    async def log(self, x):
        self.seen.append(x)
        return list(self.seen)

    async def echo(self, x):
        return x

    async def boom(self):
        raise ValueError("bad", 1)

    async def leave(self, how, *args):
        return ways[how](*args)

    async def do(self, fn, *args):
        result = fn(*args)
        return await result if asyncio.iscoroutine(result) else result

    def sync(self):
        return (
            threading.current_thread() is threading.main_thread(),
            asyncio.get_running_loop().is_running(),
        )


B = ray.remote(Aio)


@ray.remote
def same(x=0):
    return x


@ray.remote
def boom(x=1):
    raise KeyError("bad", x)


@ray.remote(max_retries=0)
def crash():
    os._exit(3)


@ray.remote(num_cpus=0)
def late(path, x):
    until(path)
    return x


@ray.remote(num_cpus=0)
def do(fn, *args):
    return fn(*args)


# ---- options

OPTIONS = [
    {"max_restarts": -2},
    {"max_restarts": "a"},
    {"max_restarts": 1.5},
    {"max_restarts": True},
    {"max_restarts": None},
    {"max_restarts": -1},
    {"max_task_retries": -2},
    {"max_task_retries": "a"},
    {"max_concurrency": 0},
    {"max_concurrency": -1},
    {"max_concurrency": "a"},
    {"max_concurrency": None},
    {"max_pending_calls": 0},
    {"max_pending_calls": -2},
    {"max_pending_calls": "a"},
    {"concurrency_groups": {"io": 2}},
    {"concurrency_groups": [{"name": "io", "max_concurrency": 2, "methods": []}]},
    {"concurrency_groups": 1},
    {"lifetime": "forever"},
    {"lifetime": 1},
    {"lifetime": "non_detached"},
    {"name": ""},
    {"name": 1},
    {"namespace": ""},
    {"namespace": 1},
    {"get_if_exists": True},
    {"get_if_exists": "a"},
    {"allow_out_of_order_execution": 1},
    {"num_cpus": -1},
    {"num_cpus": "1"},
    {"resources": {"CPU": 1}},
    {"memory": -1},
    {"num_returns": 2},
    {"max_retries": 1},
    {"max_calls": 1},
    {"retry_exceptions": True},
    {"foo": 1},
    {"scheduling_strategy": 1},
    {"runtime_env": 1},
    {"enable_task_events": None},
    {"object_store_memory": 1},
]


def created(cls=A, method="get", **options):
    handle = cls.options(**options).remote()
    return type(get(getattr(handle, method).remote())).__name__


OOO = "allow_out_of_order_execution"

METHOD_OPTIONS = [
    {},
    {"num_returns": 2},
    {"num_returns": -1},
    {"num_returns": "streaming"},
    {"num_returns": "many"},
    {"max_task_retries": 1},
    {"max_task_retries": "a"},
    {"retry_exceptions": True},
    {"retry_exceptions": ValueError},
    {"retry_exceptions": [ValueError]},
    {"retry_exceptions": [1]},
    {"concurrency_group": "io"},
    {"enable_task_events": False},
    {"name": "mine"},
    {"num_cpus": 1},
    {"foo": 1},
]


def method_of(options):
    class C:
        def m(self):
            return 1

    C.m = ray.method(**options)(C.m)
    return C


kept = A.remote(5)


def bare():
    class C:
        @ray.method
        def m(self):
            return 1

    return C


for options in OPTIONS:
    rec(f"decorate{options}", lambda: bool(ray.remote(**options)(Plain)), False)
    rec(f"options{options}", lambda: bool(A.options(**options)), False)
rec("create_max_concurrency_0", lambda: created(max_concurrency=0), False)
rec("create_if_exists_without_name", lambda: created(get_if_exists=True), False)
rec("create_empty_name", lambda: created(name=""), False)
rec("create_empty_namespace", lambda: created(name="x", namespace=""), False)
rec("create_int_name", lambda: created(name=1), False)
rec("create_none_restarts", lambda: created(max_restarts=None), False)
rec("create_true_restarts", lambda: created(max_restarts=True), False)
rec("create_pending_0", lambda: created(max_pending_calls=0), False)
rec("create_ordered_threads", lambda: created(max_concurrency=2, **{OOO: False}), False)
rec("create_ordered_async", lambda: created(B, "sync", **{OOO: False}), False)
rec("create_unordered_async", lambda: created(B, "sync", **{OOO: True}), False)
rec("create_ordered", lambda: created(**{OOO: False}))
rec("options_twice", lambda: A.options(num_cpus=0).options(num_cpus=0), False)
rec(
    "options_keep",
    lambda: get(ray.remote(max_restarts=1)(Plain).options(num_cpus=0).remote(4).get.remote()),
)
rec("remote_empty", lambda: ray.remote()(Plain), False)
for options in METHOD_OPTIONS:
    rec(f"method{options}", lambda: bool(method_of(options)), False)
    rec(f"method_create{options}", lambda: bool(ray.remote(method_of(options)).remote()), False)
    if "concurrency_group" not in options:
        rec(f"call{options}", lambda: bool(kept.get.options(**options).remote()), False)
rec("method_bare", lambda: get(ray.remote(bare()).remote().m.remote()))
rec("method_positional", lambda: ray.method(1, 2), False)

# ---- the class


def inherits():
    class C(A):
        pass

    return C


@ray.remote
class Derived(Plain):
    def __init__(self, value):
        super().__init__(value * 2)
        self.more = 1

    def get(self):
        return super().get() + self.more

    def is_plain(self):
        return isinstance(self, Plain), type(self).__name__, type(self).__mro__[1].__name__


class Abstract(abc.ABC):
    @abc.abstractmethod
    def m(self):
        pass


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = 1

    def m(self):
        return self.x


class Called:
    def __call__(self, x):
        return x

    def __len__(self):
        return 3

    def __repr__(self):
        return "called"

    def name(self):
        return ray.get_runtime_context().get_task_name()


class Empty:
    pass


def called_twice():
    def make(n):
        class C:
            def m(self):
                return n

        return ray.remote(C)

    return get([make(1).remote().m.remote(), make(2).remote().m.remote()])


rec("class_call", lambda: A(), False)
rec("class_type", lambda: isinstance(A, ray.actor.ActorClass))
rec("class_name", lambda: A.__name__)
rec("class_doc", lambda: ray.remote(Plain).__doc__)
rec("class_module", lambda: ray.remote(Plain).__module__ == Plain.__module__)
rec("class_repr", lambda: repr(A))
rec("class_method_call", lambda: A.get(None), False)
rec("class_method", lambda: type(A.get).__name__)
rec("class_attribute", lambda: A.color)
rec("class_missing", lambda: A.missing, False)
rec(
    "class_bases",
    lambda: [c.__name__ for c in type(A).__mro__ if c.__name__ in ("Plain", "ActorClass")],
)
rec("class_isinstance", lambda: isinstance(kept, A), False)
rec("class_pickled", lambda: get(get(do.remote(lambda: A.remote(3).get.remote()))))
rec("class_of_builtin", lambda: get(ray.remote(dict).remote(a=1).keys.remote()), False)
rec("inherit_actor_class", inherits)
rec(
    "inherit_actor_class_is",
    lambda: issubclass(ray.actor.ActorClassInheritanceException, TypeError),
)
rec("derived", lambda: get(Derived.remote(4).get.remote()))
rec("derived_inherited", lambda: get(Derived.remote(4).add.remote(2)))
rec("derived_is", lambda: get(Derived.remote(4).is_plain.remote()))
rec("abstract", lambda: says(lambda: get(ray.remote(Abstract).remote().m.remote()), "abstract"))
rec("slots", lambda: get(ray.remote(Slotted).remote().m.remote()))
rec("dunder_call", lambda: get(ray.remote(Called).remote().__call__.remote(4)))
rec("dunder_len", lambda: get(ray.remote(Called).remote().__len__.remote()))
rec("len_of_handle", lambda: len(ray.remote(Called).remote()), False)
rec("call_of_handle", lambda: ray.remote(Called).remote()(1), False)
rec("empty_class", lambda: get(ray.remote(Empty).remote().__ray_ready__.remote()))
rec("empty_class_arguments", lambda: ray.remote(Empty).remote(1), False)
rec("classes_of_one_name", called_twice)

# ---- handles

other = A.remote(6)


def copied(handle):
    return ray.cloudpickle.loads(ray.cloudpickle.dumps(handle))


def task_name():
    return ray.get_runtime_context().get_task_name()


rec("handle_type", lambda: isinstance(kept, ray.actor.ActorHandle))
rec("handle_repr", lambda: repr(kept))
rec("handle_str", lambda: str(kept))
rec("handle_equal", lambda: (kept == kept, kept == other, kept != other, kept == 1, kept is None))
rec("handle_equal_copy", lambda: (kept == copied(kept), hash(kept) == hash(copied(kept))))
rec("handle_in_dict", lambda: ({kept: 1}.get(copied(kept)), {kept: 1}.get(other)))
rec("handle_bool", lambda: bool(kept))
rec("handle_pickle", lambda: get(pickle.loads(pickle.dumps(kept)).get.remote()))
rec("handle_copy", lambda: copy.copy(kept) == kept)
rec("handle_deepcopy", lambda: copy.deepcopy(kept) == kept)
rec("handle_order", lambda: kept < other, False)
rec("handle_iter", lambda: iter(kept), False)
rec("handle_dir", lambda: sorted(n for n in dir(kept) if not n.startswith("__") and n != "bind"))
rec(
    "handle_hasattr",
    lambda: [hasattr(kept, n) for n in ("get", "missing", "color", "prop", "value")],
)
rec("handle_missing", lambda: kept.missing, False)
rec("handle_missing_text", lambda: says(lambda: kept.missing, "missing"))
rec("handle_class_attribute", lambda: kept.color, False)
rec("handle_attribute", lambda: kept.value, False)
rec("handle_property", lambda: type(kept.prop).__name__, False)
rec("handle_static", lambda: get(kept.static.remote(3)))
rec("handle_class_method", lambda: get(kept.of_class.remote()))
rec("handle_private", lambda: get(kept._private.remote()))
rec("handle_mangled", lambda: get(kept._Plain__hidden.remote()))
rec("handle_init", lambda: type(kept.__init__).__name__)
rec("handle_method_type", lambda: type(kept.get).__name__)
rec("handle_method_class", lambda: isinstance(kept.get, ray.actor.ActorMethod))
rec("handle_method_call", lambda: kept.get(), False)
rec("handle_method_call_text", lambda: says(lambda: kept.get(), ".remote()", "get"))
rec("handle_method_kept", lambda: get((lambda m: [m.remote(), m.remote()])(kept.get)))
rec("handle_method_of_temporary", lambda: get(A.remote(8).get.remote()))
rec(
    "handle_as_key_in_task",
    lambda: get(do.remote(lambda h: h == h and hash(h) == hash(copied(h)), kept)),
)
rec("handle_compare_across", lambda: kept == get(do.remote(lambda h: h, kept)))
rec("handle_options_name", lambda: get(kept.do.options(name="mine").remote(task_name)))
rec(
    "handle_pickle_method",
    lambda: get(ray.cloudpickle.loads(ray.cloudpickle.dumps(kept.get)).remote()),
    False,
)

# ---- signatures


rec("init_missing", lambda: Derived.remote(), False)
rec("init_too_many", lambda: A.remote(1, 2), False)
rec("init_unexpected", lambda: A.remote(other=1), False)
rec(
    "init_missing_text",
    lambda: says(lambda: Derived.remote(), "missing a required argument: 'value'"),
)
rec("init_keyword", lambda: get(A.remote(value=3).get.remote()))
rec("call_too_many", lambda: kept.get.remote(1), False)
rec("call_too_many_text", lambda: says(lambda: kept.get.remote(1), "too many positional arguments"))
rec("call_missing", lambda: kept.log.remote(), False)
rec(
    "call_missing_text", lambda: says(lambda: kept.log.remote(), "missing a required argument: 'x'")
)
rec("call_unexpected", lambda: kept.get.remote(y=1), False)
rec("call_defaults", lambda: get(A.remote().add.remote()))
rec("call_keywords", lambda: get(A.remote(1).add.remote(n=2, times=3)))
rec("call_kw_only", lambda: kept.add.remote(1, 2), False)
rec("call_self", lambda: kept.get.remote(self=1), False)
rec("call_unpicklable", lambda: kept.echo.remote(threading.Lock()), False)
rec("init_unpicklable", lambda: A.remote(threading.Lock()), False)
rec(
    "call_in_task_too_many",
    lambda: get(do.remote(lambda h: name_of(lambda: h.get.remote(1)), kept)),
)

# ---- arguments and results


def mutated():
    handle, value = A.remote(), [1]
    ref = handle.echo.remote(value)
    value.append(2)
    return get(ref)


@ray.remote
class Returns:
    @ray.method(num_returns=2)
    def two(self):
        return 1, 2

    @ray.method(num_returns=0)
    def none(self):
        return None

    @ray.method(num_returns=2)
    def two_yielded(self):
        yield 1
        yield 2


returns = Returns.remote()


rec("init_ref", lambda: get(A.remote(same.remote(3)).get.remote()))
rec("init_ref_keyword", lambda: get(A.remote(value=same.remote(3)).get.remote()))
rec("init_nested_ref", lambda: type(get(A.remote([same.remote(3)]).get.remote())[0]).__name__)
rec("init_failed_ref", lambda: fields(A.remote(boom.remote()).get.remote()))
rec(
    "init_failed_ref_text",
    lambda: says(
        lambda: get(A.remote(boom.remote()).get.remote()),
        "creation task",
        "At least one of the input arguments",
        "KeyError: ('bad', 1)",
    ),
)
rec("init_crashed_ref", lambda: fields(A.remote(crash.remote()).get.remote()))
rec("call_ref", lambda: get(kept.echo.remote(same.remote(3))))
rec("call_nested_ref", lambda: get(get(kept.echo.remote([same.remote(3)]))[0]))
rec("call_failed_ref", lambda: get(kept.echo.remote(boom.remote())), False)
rec("call_crashed_ref", lambda: get(kept.echo.remote(crash.remote())), False)
rec("call_of_call", lambda: get(kept.echo.remote(other.echo.remote(kept.echo.remote(1)))))
rec("task_of_call", lambda: get(same.remote(kept.get.remote())))
rec("call_own_result", lambda: get((lambda a: a.add.remote(a.add.remote(2)))(A.remote(1))))
rec("result_ref", lambda: get(get(kept.do.remote(lambda: ray.put(4)))))
rec("result_unpicklable", lambda: get(kept.do.remote(threading.Lock)), False)
rec(
    "result_self",
    lambda: name_of(
        lambda: get(kept.do.remote(lambda: ray.get_runtime_context().current_actor)) == kept
    ),
)
rec("returns_0", lambda: kept.get.options(num_returns=0).remote())
rec("returns_2", lambda: get(kept.echo.options(num_returns=2).remote((1, 2))))
rec("returns_2_of_3", lambda: get(kept.echo.options(num_returns=2).remote((1, 2, 3))), False)
rec("returns_2_of_int", lambda: get(kept.echo.options(num_returns=2).remote(1)), False)
rec("returns_2_failed", lambda: ends(*kept.boom.options(num_returns=2).remote()))
rec("state", lambda: (lambda a: get([a.add.remote(n) for n in (1, 2, 3)]))(A.remote()))
rec("state_is_not_shared", lambda: get([a.add.remote() for a in (A.remote(1), A.remote(1))]))
rec(
    "result_is_copy",
    lambda: (lambda a: (get(a.log.remote(1)).append(9), get(a.get.remote())))(A.remote()),
)
rec("argument_is_copy", mutated)
rec("method_returns_2", lambda: get(returns.two.remote()))
rec("method_returns_1", lambda: get(returns.two.options(num_returns=1).remote()))
rec("method_returns_0", lambda: returns.none.remote())
rec("method_returns_yielded", lambda: get(returns.two_yielded.remote()))
rec("method_returns_in_task", lambda: get(do.remote(lambda h: get(h.two.remote()), returns)))
rec("method_returns_copied", lambda: get(copied(returns).two.remote()))

# ---- errors


class Own(Exception):
    def __init__(self, message, code=0):
        super().__init__(message)
        self.code = code


def throw(e):
    raise e


def look(ref):
    try:
        return get(ref)
    except Exception as e:
        return (
            type(e).__name__,
            isinstance(e, RayTaskError),
            isinstance(e, RayActorError),
            type(getattr(e, "cause", None)).__name__,
            getattr(e, "code", None),
            e.__cause__,
        )


class Bad:
    def __init__(self, fn, *args):
        fn(*args)

    def m(self):
        return 1


bad = ray.remote(Bad)


def bad_ones(fn, *args, **options):
    handle = bad.options(**options).remote(fn, *args)
    return fields(handle.m.remote()), fields(handle.m.remote())


def constructions(fn, *args, times=1, **options):
    """How often __init__ runs that leaves by `fn` for the first so many times."""
    path = fresh()

    def init():
        append(path, "i")
        if len(content(path)) <= times:
            fn(*args)

    handle = bad.options(**options).remote(init)
    return end(handle.m.remote()), content(path)


rec("error", lambda: get(kept.boom.remote()), False)
rec("error_look", lambda: look(kept.boom.remote()))
rec("error_own", lambda: look(kept.do.remote(throw, Own("m", 7))))
rec(
    "error_text",
    lambda: says(
        lambda: get(kept.boom.remote()),
        "ray::A.boom()",
        "actor_id=",
        "repr=",
        "pid=",
        "in boom",
        "ValueError: ('bad', 1)",
    ),
)
rec("error_group", lambda: look(kept.do.remote(throw, ExceptionGroup("g", [ValueError(1)]))))
rec("error_lives_on", lambda: (lambda a: ends(a.boom.remote(), a.add.remote(2)))(A.remote(1)))
rec("error_interrupt", lambda: look(kept.do.remote(throw, KeyboardInterrupt())))
rec("error_generator_exit", lambda: look(kept.do.remote(throw, GeneratorExit())))
rec("error_stop", lambda: look(kept.do.remote(throw, StopIteration(3))))
rec(
    "error_repr",
    lambda: says(
        lambda: get(ray.remote(Called).remote().__call__.options(num_returns=2).remote(1)),
        "repr=called",
    ),
)
rec("error_async", lambda: look(B.remote().boom.remote()))
rec("error_argument_of_task", lambda: look(same.remote(kept.boom.remote())))
rec("error_nested", lambda: look(kept.do.remote(lambda h: get(h.boom.remote()), other)))
rec("init_raises", lambda: bad_ones(throw, ValueError("init")))
rec("init_raises_type", lambda: get(bad.remote(throw, ValueError("init")).m.remote()), False)
rec(
    "init_raises_text",
    lambda: says(
        lambda: get(bad.remote(throw, ValueError("init")).m.remote()),
        "The actor died because of an error raised in its creation task, ",
        "ray::Bad.__init__()",
        "ValueError: init",
        "actor_id=",
        "in throw",
    ),
)
rec(
    "init_raises_ready",
    lambda: fields(bad.remote(throw, ValueError("init")).__ray_ready__.remote()),
)
rec("init_interrupt", lambda: bad_ones(throw, KeyboardInterrupt()))
rec("init_exit_actor", lambda: bad_ones(ray.actor.exit_actor))
rec("init_sys_exit_0", lambda: bad_ones(sys.exit, 0))
rec("init_sys_exit_3", lambda: bad_ones(sys.exit, 3))
rec("init_os_exit", lambda: bad_ones(os._exit, 1))
for name, fn, args in [
    ("raise", throw, (ValueError(1),)),
    ("exit_actor", ray.actor.exit_actor, ()),
    ("sys_0", sys.exit, (0,)),
    ("sys_none", sys.exit, ()),
    ("sys_3", sys.exit, (3,)),
    ("os", os._exit, (0,)),
]:
    rec(f"init_restart_{name}", lambda: constructions(fn, *args, max_restarts=2))
rec("init_restart_used_up", lambda: constructions(os._exit, 1, times=9, max_restarts=2))

# ---- order


def ordered(cls, waits, **options):
    """In which order a call with a late argument, and one after it, come to an actor.

    waits: whether the second call has to wait for the first.
    """
    handle, path = cls.options(**options).remote(), fresh()
    get(handle.__ray_ready__.remote())
    first = handle.log.remote(late.remote(path, "late"))
    second = handle.log.remote("soon")
    ready, _ = ray.wait([second], timeout=SHORT if waits else GUARD)
    touch(path)
    get([first, second])
    return len(ready), get(handle.log.remote("end"))


def order_of_failed():
    handle, path = A.remote(), fresh()
    first = handle.log.remote(do.remote(lambda: until(path) and throw(ValueError(1))))
    second = handle.log.remote("second")
    touch(path)
    return ends(first, second)


def other_caller():
    handle, path = A.remote(), fresh()
    first = handle.log.remote(late.remote(path, "late"))
    answer = get(do.remote(lambda h: get(h.log.remote("other")), handle))
    touch(path)
    return answer, get(first)


def order_in_init():
    path = fresh()
    handle = A.remote(late.remote(path, ["init"]))
    refs = [handle.log.remote(1), handle.log.remote(2)]
    touch(path)
    return get(refs)


rec("order_sync", lambda: ordered(A, True))
rec("order_unordered", lambda: ordered(A, False, allow_out_of_order_execution=True))
rec("order_threads", lambda: ordered(A, False, max_concurrency=2))
rec("order_async", lambda: ordered(B, False))
rec("order_failed_argument", order_of_failed)
rec(
    "order_many",
    lambda: (lambda a: get([a.log.remote(n) for n in range(50)])[-1] == list(range(50)))(
        A.remote()
    ),
)
rec("order_of_other_caller", lambda: other_caller())
rec("order_behind_init", order_in_init)

# ---- concurrency


def together(n, **options):
    """n calls that need each other."""
    handle, path = A.options(**options).remote(), fresh()
    refs = [handle.hold.remote(path + str(i)) for i in range(n)]
    for i in range(n):
        until(f"{path}{i}.started")
    for i in range(n):
        touch(path + str(i))
    return get(refs)


def one_more(n, **options):
    """Whether a call starts while n others run."""
    handle, path = A.options(**options).remote(), fresh()
    refs = [handle.hold.remote(path + str(i)) for i in range(n)]
    for i in range(n):
        until(f"{path}{i}.started")
    more = handle.get.remote()
    ready, _ = ray.wait([more], timeout=SHORT)
    for i in range(n):
        touch(path + str(i))
    return len(ready), get([*refs, more])


def async_together():
    handle = B.remote()
    refs = [handle.wait.remote() for _ in range(20)]
    return get(handle.set.remote()), set(get(refs))


def async_limited():
    handle, path = B.options(max_concurrency=2).remote(), fresh()
    waits = [handle.wait.remote(path), handle.wait.remote(path + "2")]
    until(path + ".started")
    until(path + "2.started")
    blocked = handle.set.remote()
    before = len(ray.wait([blocked], timeout=SHORT)[0])
    ray.cancel(waits[0])
    return before, ends(*waits, blocked)


async def gathered():
    return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))


async def awaited(handle):
    one, two = await asyncio.gather(handle.get.remote(), handle.echo.remote(2))
    try:
        await handle.boom.remote()
    except ValueError as e:
        return one, two, await handle.get.remote(), type(e).__name__


class LoopAtInit:
    def __init__(self):
        self.loop = name_of(asyncio.get_running_loop)
        self.thread = threading.current_thread()

    async def loops(self):
        return (
            self.loop if isinstance(self.loop, str) else self.loop is asyncio.get_running_loop(),
            self.thread is threading.current_thread(),
        )


class Grouped:
    def __init__(self):
        self.names = []

    @ray.method(concurrency_group="io")
    def hold(self, path):
        touch(path + ".started")
        until(path)
        return "held"

    def get(self):
        return "default"

    def thread(self):
        return threading.get_ident()


class AioGrouped:
    @ray.method(concurrency_group="io")
    async def hold(self, path):
        touch(path + ".started")
        await asyncio.to_thread(until, path)
        return threading.get_ident()

    async def get(self):
        return threading.get_ident()


def groups(cls):
    handle, path = ray.remote(concurrency_groups={"io": 2, "other": 1})(cls).remote(), fresh()
    refs = [handle.hold.remote(path), handle.hold.remote(path + "2")]
    until(path + ".started")
    until(path + "2.started")
    get(handle.get.remote())
    third = handle.hold.remote(path + "3")
    before = len(ray.wait([third], timeout=SHORT)[0]), os.path.exists(path + "3.started")
    by_call = get(handle.get.options(concurrency_group="other").remote())
    for suffix in ("", "2", "3"):
        touch(path + suffix)
    threads = [*get(refs), get(third), by_call, get(handle.get.remote())]
    return before, [threads.index(t) for t in threads]


def undeclared_call():
    handle = ray.remote(concurrency_groups={"io": 1})(Grouped).remote()
    return get(handle.get.options(concurrency_group="nobody").remote(), timeout=10)


def grouped_default_is_one():
    handle, path = ray.remote(concurrency_groups={"io": 1})(Plain).remote(), fresh()
    refs = [handle.hold.remote(path), handle.get.remote()]
    until(path + ".started")
    ready, _ = ray.wait(refs[1:], timeout=SHORT)
    io = get(handle.get.options(concurrency_group="io").remote())
    touch(path)
    return len(ready), io, get(refs)


rec(
    "sync_thread",
    lambda: get(kept.do.remote(lambda: threading.current_thread() is threading.main_thread())),
)
rec(
    "threads_thread",
    lambda: get(
        A.options(max_concurrency=2)
        .remote()
        .do.remote(lambda: threading.current_thread() is threading.main_thread())
    ),
)
rec("threads_together", lambda: together(3, max_concurrency=3))
rec("threads_one_more", lambda: one_more(2, max_concurrency=2))
rec("sync_one_more", lambda: one_more(1))
rec("async_thread", lambda: get(B.remote().sync.remote()))
rec("async_together", async_together)
rec("async_limited", async_limited)
rec("async_gather", lambda: get(B.remote().do.remote(gathered)))
rec("async_await_ref", lambda: get(B.remote().do.remote(awaited, kept)))
rec("async_get_blocks", lambda: get(B.remote().do.remote(lambda h: get(h.get.remote()), kept)))
rec("async_context", lambda: get(B.remote().do.remote(task_name)))
rec(
    "async_is_canceled",
    lambda: get(B.remote().do.remote(lambda: ray.get_runtime_context().is_canceled())),
    False,
)
rec("async_is_loop_of_init", lambda: get(ray.remote(LoopAtInit).remote().loops.remote()))
rec("driver_is_canceled", lambda: ray.get_runtime_context().is_canceled(), False)
rec("groups", lambda: groups(Grouped)[0])
rec("groups_async", lambda: groups(AioGrouped))
rec("groups_undeclared", lambda: ray.remote(Grouped).remote(), False)
rec("groups_undeclared_decorated", lambda: bool(ray.remote(Grouped)), False)
rec(
    "groups_undeclared_other",
    lambda: ray.remote(concurrency_groups={"x": 1})(Grouped).remote(),
    False,
)
rec("groups_undeclared_call", lambda: undeclared_call(), False)
rec(
    "groups_none_declared_call",
    lambda: get(A.remote().get.options(concurrency_group="nobody").remote(), timeout=10),
    False,
)
rec("groups_default_is_one", grouped_default_is_one)

# ---- max_pending_calls


def pending(limit, calls):
    handle, path = A.options(max_pending_calls=limit).remote(), fresh()
    get(handle.get.remote())
    refs = [handle.hold.remote(path)]
    until(path + ".started")
    made = 0
    try:
        for _ in range(calls):
            refs.append(handle.get.remote())
            made += 1
    except Exception as e:
        outcome = (
            type(e).__name__,
            [p in str(e) for p in ("get", repr(handle), f"more than {limit} tasks")],
        )
    else:
        outcome = "all"
    touch(path)
    get(refs)
    return made, outcome, get(handle.get.remote())


def pending_per_caller():
    handle, path = A.options(max_pending_calls=2).remote(), fresh()
    get(handle.get.remote())
    refs = [handle.hold.remote(path), handle.get.remote()]
    until(path + ".started")
    mine = name_of(lambda: type(handle.get.remote()).__name__)
    theirs = do.remote(
        lambda h: [name_of(lambda: type(h.get.remote()).__name__) for _ in range(3)], handle
    )
    found = mine, get(theirs)
    touch(path)
    get(refs)
    return found


rec("pending_1", lambda: pending(1, 5))
rec("pending_3", lambda: pending(3, 5))
rec("pending_none", lambda: pending(-1, 5))
rec("pending_5_of_4", lambda: pending(5, 4))
rec("pending_per_caller", pending_per_caller)

# ---- names


def named(fn):
    """`fn` of a name and of a handle of an actor that has it."""
    name = f"name{len(os.listdir(tempfile.gettempdir()))}{time.time()}"
    return fn(name, A.options(name=name).remote(7))


def free(name, **kwargs):
    """Wait until nobody has that name."""

    def look():
        try:
            ray.get_actor(name, **kwargs)
        except ValueError:
            return True
        return False

    return until(look, f"the end of {name}")


def failed_name():
    first = bad.options(name="bad").remote(throw, ValueError(1))
    found = name_of_dead("bad", first.m.remote())
    del first
    gc.collect()
    return found, free("bad"), end(bad.options(name="bad").remote(len, "").m.remote())


def name_of_dead(name, last):
    """The end of the call that ended it, and what its name is good for then."""
    return (
        end(last),
        name_of(lambda: end(ray.get_actor(name).__ray_ready__.remote())),
        name_of(lambda: type(A.options(name=name).remote()).__name__),
        name in ray.util.list_named_actors(),
    )


def name_of_dropped():
    handle = A.options(name="gone").remote()
    end(handle.leave.remote())
    del handle
    gc.collect()
    return free("gone"), end(A.options(name="gone").remote(8).get.remote())


def if_exists_in_tasks():
    def make():
        handle = A.options(name="many", get_if_exists=True, lifetime="detached").remote()
        return get(handle.do.remote(os.getpid))

    found = len(set(get([do.remote(make) for _ in range(3)])))
    ray.kill(ray.get_actor("many"))
    return found


def namespaces():
    one = A.options(name="twin", namespace="one").remote(1)
    two = A.options(name="twin", namespace="two").remote(2)
    mine = A.options(name="twin").remote(3)
    found = [
        get(ray.get_actor("twin", namespace=n).get.remote()) for n in ("one", "two", "here", None)
    ]
    inner = get(one.do.remote(lambda: ray.get_runtime_context().namespace))
    return found, inner, len({one, two, mine})


def listed():
    mine = A.options(name="listed").remote()
    far = A.options(name="listed_far", namespace="far").remote()
    nameless = A.remote()
    get([h.get.remote() for h in (mine, far, nameless)])
    here = [n for n in ray.util.list_named_actors() if n.startswith("listed")]
    every = [
        a for a in ray.util.list_named_actors(all_namespaces=True) if a["name"].startswith("listed")
    ]
    ray.kill(mine)
    free("listed")
    return here, sorted(every, key=lambda a: a["name"]), "listed" in ray.util.list_named_actors()


def detached():
    pid = pid_of(A.options(name="free", lifetime="detached").remote(3))
    gc.collect()
    handle = ray.get_actor("free")
    found = pid_of(handle) == pid, get(handle.get.remote())
    ray.kill(handle)
    free("free")
    return found


def detached_by_task():
    def make():
        return get(A.options(name="left", lifetime="detached").remote(4).get.remote())

    found = get(do.remote(make)), get(ray.get_actor("left").get.remote())
    ray.kill(ray.get_actor("left"))
    return found


rec(
    "name_get",
    lambda: named(lambda n, h: (get(ray.get_actor(n).get.remote()), ray.get_actor(n) == h)),
)
rec(
    "name_get_in_task",
    lambda: named(lambda n, h: get(do.remote(lambda: get(ray.get_actor(n).get.remote())))),
)
rec("name_missing", lambda: ray.get_actor("nobody"))
rec(
    "name_missing_namespace",
    lambda: named(lambda n, h: ray.get_actor(n, namespace="elsewhere")),
    False,
)
rec("name_own_namespace", lambda: named(lambda n, h: ray.get_actor(n, "here") == h))
rec("name_empty", lambda: ray.get_actor(""))
rec("name_int", lambda: ray.get_actor(1), False)
rec("name_none", lambda: ray.get_actor(None), False)
rec("name_namespace_empty", lambda: named(lambda n, h: ray.get_actor(n, namespace="")), False)
rec("name_taken", lambda: named(lambda n, h: A.options(name=n).remote()), False)
rec(
    "name_taken_is",
    lambda: named(
        lambda n, h: says(
            lambda: A.options(name=n).remote(),
            f"The name {n} (namespace=None) is already taken",
            "get_actor",
        )
    ),
)
rec("name_taken_other_class", lambda: named(lambda n, h: B.options(name=n).remote()), False)
rec(
    "name_taken_in_task",
    lambda: named(lambda n, h: get(do.remote(lambda: name_of(lambda: A.options(name=n).remote())))),
)


@question
def name_of_killed():
    handle = A.options(name="killed").remote(7)
    kill(handle)
    return free("killed"), end(A.options(name="killed").remote(8).get.remote())


rec("name_of_exited", lambda: named(lambda n, h: name_of_dead(n, h.leave.remote())))
rec("name_of_crashed", lambda: named(lambda n, h: name_of_dead(n, h.leave.remote("os", 1))))
rec("name_of_exited_dropped", name_of_dropped)
rec("name_of_failed_init", lambda: failed_name())
rec(
    "name_if_exists",
    lambda: named(
        lambda n, h: (lambda b: (b == h, get(b.get.remote())))(
            A.options(name=n, get_if_exists=True).remote(8)
        )
    ),
)
rec(
    "name_if_exists_new",
    lambda: get(A.options(name="new", get_if_exists=True).remote(8).get.remote()),
)
rec(
    "name_if_exists_options",
    lambda: named(
        lambda n, h: A.options(name=n, get_if_exists=True, num_cpus=2, max_restarts=5).remote() == h
    ),
)
rec(
    "name_if_exists_wrong_arguments",
    lambda: named(lambda n, h: A.options(name=n, get_if_exists=True).remote(1, 2)),
    False,
)
rec(
    "name_if_exists_other_class",
    lambda: named(lambda n, h: get(B.options(name=n, get_if_exists=True).remote().get.remote())),
    False,
)
rec("name_if_exists_in_tasks", lambda: if_exists_in_tasks())
rec(
    "name_context",
    lambda: named(
        lambda n, h: get(h.do.remote(lambda: ray.get_runtime_context().get_actor_name())) == n
    ),
)
rec(
    "name_error_text",
    lambda: named(
        lambda n, h: says(
            lambda: get(h.leave.remote("os", 1)), f"\tname: {n}\n", "\tnamespace: here\n"
        )
    ),
)
rec("namespaces", namespaces)
rec("list_named", listed)
rec("detached", detached)
rec("detached_by_task", detached_by_task)
rec("detached_nameless", lambda: get(A.options(lifetime="detached").remote(2).get.remote()))

# ---- kill


def killed(**options):
    """The ends of a running, a queued and a later call of a killed actor, and its process."""
    handle, path = A.remote(), fresh()
    pid = pid_of(handle)
    refs = [handle.hold.remote(path), handle.get.remote()]
    until(path + ".started")
    ray.kill(handle, **options)
    found = ends(*refs)
    until(lambda: gone(pid))
    touch(path)
    return found, end(handle.get.remote())


def at_exit(leave):
    handle, path = A.remote(), fresh()
    get(handle.do.remote(lambda: atexit.register(touch, path) and None))
    pid = pid_of(handle)
    leave(handle)
    until(lambda: gone(pid))
    return os.path.exists(path)


rec("kill", killed)
rec("kill_restart_none_left", lambda: killed(no_restart=False))
rec("kill_ref", lambda: ray.kill(kept.get.remote()), False)
rec("kill_class", lambda: ray.kill(A), False)
rec("kill_none", lambda: ray.kill(None), False)
rec("kill_name", lambda: ray.kill("x"), False)
rec("kill_positional", lambda: ray.kill(A.remote(), False), False)


@question
def kill_text():
    handle = A.remote()
    kill(handle)
    return says(
        lambda: get(handle.get.remote()),
        "The actor died unexpectedly before finishing this task.",
        "\tclass_name: A\n",
        "\tactor_id: ",
        "\tpid: ",
        "\tnamespace: here\n",
        "\tip: ",
        "\tname: ",
        "The actor is dead because it was killed by `ray.kill`.",
    )


@question
def kill_fields():
    handle = A.remote()
    kill(handle)
    return fields(handle.get.remote())


@question
def kill_twice():
    handle = A.remote()
    return kill(handle), ray.kill(handle), end(handle.get.remote())


@question
def kill_at_once():
    handle = A.remote()
    return ray.kill(handle), end(handle.get.remote())


@question
def kill_before_call():
    handle = A.remote()
    ref = handle.hold.remote(fresh())
    return ray.kill(handle), end(ref)


@question
def kill_waiting():
    path = fresh()
    handle = A.remote(late.remote(path, 1))
    ref = handle.get.remote()
    ray.kill(handle)
    found = end(ref)
    touch(path)
    return found


@question
def kill_by_copy():
    handle = A.remote()
    return kill(copied(handle)), end(handle.get.remote())


@question
def kill_in_task():
    handle = A.remote()
    return get(do.remote(kill, handle)), end(handle.get.remote())


@question
def kill_itself():
    def suicide():
        ray.kill(ray.get_runtime_context().current_actor)
        time.sleep(GUARD)

    handle = A.remote()
    return end(handle.do.remote(suicide)), end(handle.get.remote())


@question
def argument_of_killed():
    handle = A.remote()
    kill(handle)
    return look(kept.echo.remote(handle.get.remote()))


@question
def finished_before_kill():
    handle = A.remote(3)
    ref = handle.get.remote()
    ray.wait([ref], timeout=GUARD)
    kill(handle)
    return get(ref), end(handle.get.remote())


@question
def dead_handle():
    handle = A.remote()
    shown = repr(handle)
    kill(handle)
    return (
        repr(handle) == shown,
        handle == copied(handle),
        type(handle.get.remote()).__name__,
        name_of(lambda: handle.missing),
        name_of(lambda: handle.get.remote(1)),
        get(do.remote(lambda h: end(h.get.remote()), handle)),
    )


rec("kill_no_atexit", lambda: at_exit(lambda a: ray.kill(a)))

# ---- other ends


def left(*how, cls=A, **options):
    """The ends of a call that leaves, of the next, and of one more."""
    handle = cls.options(**options).remote()
    first = end(handle.leave.remote(*how))
    return first, end(handle.echo.remote("alive")), end(handle.echo.remote("alive"))


async def hold_async(path):
    touch(path + ".started")
    await asyncio.to_thread(until, path)
    return "held"


def exit_beside(handle, first, path, *how):
    """The ends of a call that leaves, of one that runs beside it, and of a later one."""
    until(path + ".started")
    found = end(handle.leave.remote(*how))
    touch(path)
    return found, end(first), end(handle.echo.remote("alive"))


def threads_exit_beside(*how):
    handle, path = A.options(max_concurrency=2).remote(), fresh()
    return exit_beside(handle, handle.hold.remote(path), path, *how)


def async_exit_beside(*how):
    handle, path = B.remote(), fresh()
    return exit_beside(handle, handle.do.remote(hold_async, path), path, *how)


def texts(*how):
    handle = A.remote()
    get(handle.get.remote())
    return says(
        lambda: get(handle.leave.remote(*how)),
        "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n\tactor_id: ",
        "The actor is dead because its worker process has died.",
        "Worker exit type: SYSTEM_ERROR",
        "Worker exit type: INTENDED_USER_EXIT",
        "Worker exits by an user request. Worker exits with an exit code 0.",
        "exit_actor() is called.",
        "exit code 3",
        "exit code None",
        "SIGTERM",
    )


def caught_exit():
    """What exit_actor() raises, seen by a method that catches it, and what comes of that."""
    path = fresh()

    def leaves():
        try:
            ray.actor.exit_actor()
        except BaseException as e:
            append(path, f"{isinstance(e, SystemExit)} {isinstance(e, Exception)}")
        return "returned"

    handle = A.remote()
    return end(handle.do.remote(leaves)), end(handle.echo.remote("alive")), content(path)


for how in [
    ("exit_actor",),
    ("sys", 0),
    ("sys",),
    ("sys", None),
    ("sys", 3),
    ("sys", "text"),
    ("os", 0),
    ("os", 1),
    ("signal", "SIGKILL"),
    ("signal", "SIGTERM"),
    ("signal", "SIGSEGV"),
]:
    rec(f"leave{how}", lambda: left(*how))
    rec(f"leave_restarts{how}", lambda: left(*how, max_restarts=1))
for how in [
    ("exit_actor",),
    ("sys", 0),
    ("sys",),
    ("sys", 3),
    ("os", 1),
    ("signal", "SIGTERM"),
]:
    rec(f"leave_text{how}", lambda: texts(*how))
rec("leave_fields", lambda: fields(A.remote().leave.remote("os", 1)))
rec("unavailable_fields", lambda: fields(A.options(max_restarts=1).remote().leave.remote("os", 1)))
rec(
    "unavailable_text",
    lambda: says(
        lambda: get(A.options(max_restarts=1).remote().leave.remote("os", 1)),
        "is unavailable: The actor is temporarily unavailable: ",
        "The task may or may not have been executed on the actor.",
    ),
)
rec(
    "terminate",
    lambda: (lambda a: ends(a.add.remote(), a.__ray_terminate__.remote(), a.add.remote()))(
        A.remote()
    ),
)
rec(
    "terminate_restarts",
    lambda: (lambda a: ends(a.__ray_terminate__.remote(), a.add.remote()))(
        A.options(max_restarts=1).remote()
    ),
)
rec("terminate_atexit", lambda: at_exit(lambda a: end(a.__ray_terminate__.remote())))
rec("exit_actor_atexit", lambda: at_exit(lambda a: end(a.leave.remote())))
rec("sys_exit_atexit", lambda: at_exit(lambda a: end(a.leave.remote("sys", 0))))
rec("os_exit_atexit", lambda: at_exit(lambda a: end(a.leave.remote("os", 0))))
rec("exit_actor_outside", ray.actor.exit_actor, False)
rec("exit_actor_in_task", lambda: get(do.remote(ray.actor.exit_actor)), False)
rec("exit_actor_caught", lambda: caught_exit())
rec("exit_actor_text_outside", lambda: says(ray.actor.exit_actor, "non-actor worker"))
rec(
    "exit_in_nested_function",
    lambda: end(A.remote().do.remote(lambda: [ray.actor.exit_actor() for _ in "a"])),
)
rec("ready", lambda: get(A.remote().__ray_ready__.remote()))
rec(
    "ray_call",
    lambda: get(A.remote(3).__ray_call__.remote(lambda self, a, b=0: (self.value, a, b), 1, b=2)),
)
rec(
    "ray_call_writes",
    lambda: (
        lambda a: (
            get(a.__ray_call__.remote(lambda self: setattr(self, "value", 9))),
            get(a.get.remote()),
        )
    )(A.remote()),
)
rec("ray_call_raises", lambda: look(kept.__ray_call__.remote(lambda self: 1 / 0)))
rec(
    "ray_call_returns_2",
    lambda: get(kept.__ray_call__.options(num_returns=2).remote(lambda self: (1, 2))),
)
rec("ray_call_async", lambda: get(B.remote().__ray_call__.remote(lambda self: type(self).__name__)))
rec("async_exit_actor", lambda: left("exit_actor", cls=B))
rec("async_os_exit", lambda: left("os", 1, cls=B))
rec("async_sys_exit", lambda: end(B.remote().leave.remote("sys", 0)))


@question
def async_terminate():
    handle = B.remote()
    return end(handle.__ray_terminate__.remote()), end(handle.echo.remote(1))


for how in [("exit_actor",), ("sys", 0), ("sys", 3), ("os", 1)]:
    rec(f"threads_beside{how}", lambda: threads_exit_beside(*how))
    if how[0] != "sys":  # then Ray's loop is dead, and the other calls wait for ever
        rec(f"async_beside{how}", lambda: async_exit_beside(*how))
rec("threads_exit_actor", lambda: left("exit_actor", max_concurrency=2))
rec("threads_os_exit", lambda: left("os", 1, max_concurrency=2))
rec("threads_sys_exit_0", lambda: left("sys", 0, max_concurrency=2))
rec("threads_sys_exit_3", lambda: left("sys", 3, max_concurrency=2))

# ---- restarts and retries


class Counting(Plain):
    """Leaves so many times by os._exit, and writes down each construction and call."""

    def __init__(self, path, *args):
        append(path, "i" + "".join(map(str, args)))
        self.path = path
        self.value = 0

    def crash(self, times):
        append(self.path, "c")
        if content(self.path).count("c") <= times:
            os._exit(1)
        return "done"

    def hold_and_crash(self, path, times):
        self.hold(path)
        return self.crash(times)

    def fail(self, times, error=ValueError):
        append(self.path, "f")
        if content(self.path).count("f") <= times:
            raise error("again")
        return "done"

    def ok(self):
        append(self.path, "o")
        return "ok"


counting = ray.remote(Counting)


def crashes(times, calls=(), **options):
    path = fresh()
    handle = counting.options(**options).remote(path)
    get(handle.get.remote())
    method = handle.crash.options(**dict(calls)) if calls else handle.crash
    return end(method.remote(times)), end(handle.get.remote()), content(path)


def fails(times, *args, calls=(), **options):
    path = fresh()
    handle = counting.options(**options).remote(path)
    method = handle.fail.options(**dict(calls)) if calls else handle.fail
    return end(method.remote(times, *args)), content(path)


class Stubborn(Counting):
    @ray.method(max_task_retries=2, retry_exceptions=[ValueError])
    def fail(self, times):
        return super().fail(times)

    @ray.method(max_task_retries=1)
    def crash(self, times):
        return super().crash(times)


stubborn = ray.remote(max_task_retries=5)(Stubborn)


def decorated_fails(times, options=(), calls=()):
    path = fresh()
    handle = stubborn.options(**dict(options)).remote(path) if options else stubborn.remote(path)
    method = handle.fail.options(**dict(calls)) if calls else handle.fail
    return end(method.remote(times)), content(path)


def options_over_class():
    path = fresh()
    handle = ray.remote(max_task_retries=0)(Counting).options(max_task_retries=1).remote(path)
    return end(handle.fail.options(retry_exceptions=True).remote(1)), content(path)


class AioFails:
    def __init__(self):
        self.calls = 0

    async def fail(self, times):
        self.calls += 1
        if self.calls <= times:
            raise ValueError("again")
        return self.calls


def async_retry():
    handle = ray.remote(max_task_retries=2)(AioFails).remote()
    return handle.fail.options(retry_exceptions=True).remote(2)


def fails_state():
    handle = ray.remote(max_task_retries=2)(Counting).remote(fresh())

    def once(self):
        self.value += 1
        if self.value < 3:
            raise ValueError("again")
        return self.value

    return get(handle.__ray_call__.options(retry_exceptions=True).remote(once))


def restarted():
    """Construction with the same arguments, and what the second incarnation knows."""
    path = fresh()
    handle = counting.options(max_restarts=1).remote(path, "a", same.remote("b"))
    before = get([handle.add.remote(5), handle.reconstructed.remote()])
    pid = pid_of(handle)
    crashed = end(handle.crash.remote(1))
    after = get([handle.get.remote(), handle.reconstructed.remote()])
    return before, crashed, after, pid_of(handle) != pid, content(path)


def running_and_queued(**options):
    """The ends of calls that were sent before the actor died, and of one after."""
    path = fresh()
    handle = counting.options(**options).remote(path)
    refs = [handle.hold_and_crash.remote(path + "go", 1), handle.ok.remote()]
    until(path + "go.started")
    touch(path + "go")
    return ends(*refs), end(handle.ok.remote())


def late_argument_over_restart():
    path = fresh()
    handle = counting.options(max_restarts=1).remote(path)
    crashed = handle.crash.remote(1)
    waits = handle.echo.remote(late.remote(path + "late", "late"))
    found = end(crashed)
    touch(path + "late")
    return found, end(waits)


def killed_and_restarted():
    path = fresh()
    handle = counting.options(max_restarts=1).remote(path)
    pid = pid_of(handle)
    ray.kill(handle, no_restart=False)
    until(lambda: gone(pid))
    until(lambda: content(path) == "ii")
    again = until(lambda: end(handle.reconstructed.remote()) is True)
    pid = pid_of(handle)
    ray.kill(handle, no_restart=False)
    until(lambda: gone(pid))
    return again, end(handle.get.remote()), content(path)


def killed_for_good():
    handle = A.options(max_restarts=5).remote()
    return kill(handle), end(handle.get.remote())


def killed_from_outside(**options):
    handle = A.options(**options).remote(3)
    pid = pid_of(handle)
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    return until(lambda: end(handle.reconstructed.remote()) is True), pid_of(handle) != pid


def named_over_restart():
    handle = A.options(name="phoenix", max_restarts=1).remote()
    crashed = end(handle.leave.remote("os", 1))
    return crashed, get(ray.get_actor("phoenix").reconstructed.remote())


def for_ever():
    path = fresh()
    handle = counting.options(max_restarts=-1).remote(path)
    found = []
    for n in range(1, 4):
        found += [end(handle.crash.remote(n)), get(handle.get.remote())]
    return found, content(path)


def retried_in_order():
    """Calls behind one that is retried after a crash."""
    path = fresh()
    handle = counting.options(max_restarts=1, max_task_retries=2).remote(path)
    refs = [handle.crash.remote(1), handle.ok.remote(), handle.crash.remote(1), handle.ok.remote()]
    return ends(*refs)


def init_fails_at_restart():
    path = fresh()

    def init():
        append(path, "i")
        if content(path) != "i":
            raise ValueError("second")

    handle = bad.options(max_restarts=3).remote(init)
    get(handle.m.remote())
    crashed = end(handle.__ray_call__.remote(lambda self: os._exit(1)))
    return crashed, fields(handle.m.remote()), content(path)


def async_restart():
    handle = B.options(max_restarts=1).remote()
    get(handle.log.remote(1))
    crashed = end(handle.leave.remote("os", 1))
    return crashed, get(handle.log.remote(2))


for times, options, calls in [
    (1, {}, {}),
    (1, {"max_restarts": 1}, {}),
    (1, {"max_restarts": 1, "max_task_retries": 1}, {}),
    (2, {"max_restarts": 1, "max_task_retries": 1}, {}),
    (2, {"max_restarts": 2, "max_task_retries": 1}, {}),
    (2, {"max_restarts": -1, "max_task_retries": -1}, {}),
    (1, {"max_task_retries": 5}, {}),
    (1, {"max_restarts": 1, "max_task_retries": 1}, {"max_task_retries": 0}),
    (2, {"max_restarts": 2, "max_task_retries": 0}, {"max_task_retries": -1}),
]:
    rec(f"crash{times}{options}{calls}", lambda: crashes(times, calls.items(), **options))
for times, options, calls in [
    (1, {}, {}),
    (1, {"max_task_retries": 1}, {}),
    (1, {}, {"retry_exceptions": True}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": True}),
    (2, {"max_task_retries": 1}, {"retry_exceptions": True}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": [ValueError]}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": [Exception]}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": [TypeError]}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": []}),
    (2, {"max_task_retries": -1}, {"retry_exceptions": True}),
    (1, {}, {"retry_exceptions": True, "max_task_retries": 1}),
    (1, {"max_task_retries": 1}, {"retry_exceptions": True, "max_task_retries": 0}),
]:
    rec(f"fail{times}{options}{calls}", lambda: fails(times, calls=calls.items(), **options))
rec("method_retries", lambda: decorated_fails(2))
rec("method_retries_used_up", lambda: decorated_fails(3))
rec("method_retries_over_actor", lambda: decorated_fails(3, {"max_task_retries": 9}))
rec("method_retries_under_call", lambda: decorated_fails(3, calls={"max_task_retries": 3}))
rec("method_retries_call_0", lambda: decorated_fails(1, calls={"max_task_retries": 0}))
rec("method_retries_call_exceptions", lambda: decorated_fails(1, calls={"retry_exceptions": False}))
rec("options_retries_over_class", lambda: options_over_class())
rec("retry_async", lambda: get(async_retry()))
rec(
    "retry_threads",
    lambda: fails(
        1, calls={"retry_exceptions": True}.items(), max_task_retries=1, max_concurrency=2
    ),
)
rec("retry_keeps_state", lambda: fails_state())
rec("restart", restarted)
rec("restart_calls", lambda: running_and_queued(max_restarts=1))
rec("restart_calls_none_left", running_and_queued)
rec("restart_calls_retried", lambda: running_and_queued(max_restarts=1, max_task_retries=1))
rec("restart_late_argument", late_argument_over_restart)
rec("restart_by_kill", killed_and_restarted)
rec("restart_not_by_kill", killed_for_good)
rec("restart_by_signal", lambda: killed_from_outside(max_restarts=1))
rec("restart_named", named_over_restart)
rec("restart_for_ever", for_ever)
rec("restart_in_order", retried_in_order)
rec("restart_init_fails", lambda: init_fails_at_restart())
rec("restart_async", lambda: async_restart())

# ---- cancelling


def watch(path, result="normal"):
    touch(path + ".started")
    until(lambda: ray.get_runtime_context().is_canceled())
    touch(path + ".saw")
    return result


def cancel_running(**options):
    handle, path = A.options(**options).remote(), fresh()
    before = get(handle.do.remote(lambda: ray.get_runtime_context().is_canceled()))
    ref = handle.do.remote(watch, path)
    until(path + ".started")
    ray.cancel(ref)
    return before, look(ref)[:2], os.path.exists(path + ".saw"), end(handle.get.remote())


def cancel_that_raises():
    handle, path = A.remote(), fresh()
    ref = handle.do.remote(lambda: (watch(path), throw(ValueError(1))))
    until(path + ".started")
    ray.cancel(ref)
    return look(ref)[:2]


def cancel_queued():
    """A call behind a running one. Ray may run it all the same, and throw its result away."""
    handle, path = A.remote(), fresh()
    first = handle.hold.remote(path)
    until(path + ".started")
    ref = handle.log.remote("cancelled")
    ray.cancel(ref)
    touch(path)
    return end(first), look(ref)[:2]


def cancel_waiting():
    handle, path = A.remote(), fresh()
    ref = handle.log.remote(late.remote(path, "late"))
    behind = handle.log.remote("behind")
    ray.cancel(ref)
    found = look(ref)[:2], end(behind)
    touch(path)
    return found


def cancel_async(swallow=False):
    handle, path = B.remote(), fresh()

    async def swallows():
        touch(path + ".started")
        try:
            await asyncio.sleep(GUARD)
        except asyncio.CancelledError:
            touch(path + ".cancelled")
            return "swallowed"

    ref = handle.do.remote(swallows) if swallow else handle.wait.remote(path)
    until(path + ".started")
    ray.cancel(ref)
    return look(ref)[:4], until(path + ".cancelled"), end(handle.echo.remote(1))


def cancel_async_queued():
    handle, path = B.options(max_concurrency=1).remote(), fresh()
    first = handle.wait.remote(path)
    until(path + ".started")
    ref = handle.log.remote("never")
    ray.cancel(ref)
    ray.cancel(first)
    return ends(ref, first)


def cancel_force():
    handle, path = A.remote(), fresh()
    ref = handle.hold.remote(path)
    until(path + ".started")
    found = says(lambda: ray.cancel(ref, force=True), "force=True is not supported for actor tasks")
    touch(path)
    return found, get(ref)


def cancel_children(recursive):
    """A call's child task, after the call was cancelled."""
    handle, path = A.remote(), fresh()

    def parent():
        child = do.remote(child_task)
        touch(path + ".ref")
        return end(child)

    def child_task():
        touch(path + ".started")
        try:
            until(path)
        except KeyboardInterrupt:
            touch(path + ".interrupted")
            raise
        return "went on"

    ref = handle.do.remote(parent)
    until(path + ".started")
    ray.cancel(ref, recursive=recursive)
    if recursive:
        until(path + ".interrupted")
    else:
        touch(path)
    return end(ref), os.path.exists(path + ".interrupted")


def cancel_by_parent():
    """A task's call of an actor, after the task was cancelled."""
    handle, path = A.remote(), fresh()
    ref = do.remote(lambda h: get(h.do.remote(watch, path)), handle)
    until(path + ".started")
    ray.cancel(ref)
    until(path + ".saw")
    return end(ref), end(handle.get.remote())


def cancel_by_other():
    handle, path = A.remote(), fresh()
    ref = handle.do.remote(watch, path)
    until(path + ".started")
    get(do.remote(lambda refs: ray.cancel(refs[0]), [ref]))
    return end(ref)


def cancel_retries():
    handle, path = A.options(max_task_retries=3).remote(), fresh()

    def fn():
        append(path + ".runs", "r")
        watch(path)
        raise ValueError(1)

    ref = handle.do.options(retry_exceptions=True).remote(fn)
    until(path + ".started")
    ray.cancel(ref)
    return look(ref)[:2], end(handle.get.remote()), content(path + ".runs")


def flag_not_kept():
    handle, path = A.remote(), fresh()
    ref = handle.do.remote(watch, path)
    until(path + ".started")
    ray.cancel(ref)
    end(ref)
    return get(handle.do.remote(lambda: ray.get_runtime_context().is_canceled()))


rec("cancel_running", cancel_running)
rec("cancel_running_threads", lambda: cancel_running(max_concurrency=2))
rec("cancel_that_raises", cancel_that_raises)
rec("cancel_queued", cancel_queued)
rec("cancel_waiting", cancel_waiting)
rec("cancel_async", cancel_async)
rec("cancel_async_swallowed", lambda: cancel_async(swallow=True))
rec("cancel_async_queued", cancel_async_queued)
rec("cancel_force", cancel_force)
rec(
    "cancel_force_finished",
    lambda: (lambda r: (get(r), ray.cancel(r, force=True), get(r)))(kept.get.remote()),
    False,
)
rec("cancel_finished", lambda: (lambda r: (get(r), ray.cancel(r), get(r)))(kept.get.remote()))
rec("cancel_handle", lambda: ray.cancel(kept), False)
rec("cancel_recursive", lambda: cancel_children(True))
rec("cancel_alone", lambda: cancel_children(False))
rec("cancel_by_parent", cancel_by_parent)
rec("cancel_by_other", cancel_by_other)
rec(
    "cancel_of_dead",
    lambda: (lambda a: (lambda r: (end(r), ray.cancel(r), end(r)))(a.leave.remote()))(A.remote()),
)
rec("cancel_not_retried", lambda: cancel_retries())
rec("flag_not_kept", lambda: flag_not_kept())

# ---- generators


@ray.remote
class Gens:
    def count(self, n, fail=None):
        for number in range(n):
            yield number
        if fail == "raise":
            raise ValueError("after", n)
        if fail == "exit":
            time.sleep(0.5)  # or Ray may lose items
            os._exit(1)

    @ray.method(num_returns=3)
    def fixed(self):
        yield 0
        yield 1
        yield 2

    def plain(self):
        return [1, 2]

    def as_generator(self):
        return (x for x in [1, 2])

    def endless(self, path):
        touch(path + ".started")
        while True:
            yield 1
            until(path)


@ray.remote
class AioGens:
    async def count(self, n, fail=None):
        for number in range(n):
            await asyncio.sleep(0)
            yield number
        if fail == "raise":
            raise ValueError("after", n)

    async def echo(self, x):
        return x


gens, aio_gens = Gens.remote(), AioGens.remote()


async def consume(generator):
    return [await ref async for ref in generator]


async def consume_of(handle):
    return await consume(handle.count.remote(3))


def gen_cancel():
    handle, path = Gens.remote(), fresh()
    generator = handle.endless.remote(path)
    first = get(next(generator))
    ray.cancel(generator)
    touch(path)
    errors = [e for e in ends(*generator) if e != 1]
    return first, errors, get(handle.fixed.remote())


rec("gen_type", lambda: type(gens.count.remote(1)).__name__)
rec("gen", lambda: [get(r) for r in gens.count.remote(3)])
rec("gen_async_for", lambda: asyncio.run(consume(gens.count.remote(3))))
rec("gen_raise", lambda: ends(*gens.count.remote(2, "raise")))
rec(
    "gen_raise_completed",
    lambda: (lambda g: (len(list(g)), get(g.completed())))(gens.count.remote(2, "raise")),
)
rec("gen_exit", lambda: ends(*Gens.remote().count.remote(2, "exit")))
rec("gen_empty", lambda: list(gens.count.remote(0)))
rec("gen_fixed", lambda: get(gens.fixed.remote()))
rec("gen_returns_2", lambda: get(gens.count.options(num_returns=2).remote(2)))
rec("gen_returns_1", lambda: type(get(gens.count.options(num_returns=1).remote(2))).__name__)
rec("gen_streaming_plain", lambda: ends(*gens.plain.options(num_returns="streaming").remote()))
rec(
    "gen_streaming_returned",
    lambda: [get(r) for r in gens.as_generator.options(num_returns="streaming").remote()],
)
rec("gen_returned", lambda: type(get(gens.as_generator.remote())).__name__)
rec(
    "gen_dynamic",
    lambda: [get(r) for r in get(gens.count.options(num_returns="dynamic").remote(2))],
)
rec("gen_in_task", lambda: get(do.remote(lambda h: [get(r) for r in h.count.remote(2)], gens)))
rec(
    "gen_two_in_order",
    lambda: (lambda a, b: [[get(r) for r in g] for g in (b, a)])(
        gens.count.remote(2), gens.count.remote(1)
    ),
)
rec("gen_wait", lambda: [len(x) for x in ray.wait([gens.count.remote(2)])])
rec(
    "gen_backpressure",
    lambda: [get(r) for r in gens.count.options(_generator_backpressure_num_objects=1).remote(3)],
)


@question
def gen_of_dead():
    handle = Gens.remote()
    kill(handle)
    return ends(*handle.count.remote(2))


rec("gen_of_failed_argument", lambda: ends(*gens.count.remote(boom.remote())))
rec("gen_cancel", lambda: gen_cancel())
rec("aio_gen", lambda: [get(r) for r in aio_gens.count.remote(3)])
rec("aio_gen_async_for", lambda: asyncio.run(consume(aio_gens.count.remote(3))))
rec("aio_gen_raise", lambda: ends(*aio_gens.count.remote(2, "raise")))
rec("aio_gen_consumed_inside", lambda: get(B.remote().do.remote(consume_of, gens)))
rec(
    "aio_gen_backpressure",
    lambda: ends(*aio_gens.count.options(_generator_backpressure_num_objects=1).remote(3)),
)

# ---- handles that travel


async def calls_itself():
    return await ray.get_runtime_context().current_actor.echo.remote("self")


def defines():
    @ray.remote
    class Inner:
        def m(self):
            return "inner"

    return get(Inner.remote().m.remote())


def kept_in_actor():
    keeper = A.remote()
    pid = get(
        keeper.__ray_call__.remote(lambda self: setattr(self, "h", A.remote(5)) or pid_of(self.h))
    )
    again = get(keeper.__ray_call__.remote(lambda self: pid_of(self.h)))
    get(keeper.__ray_call__.remote(lambda self: delattr(self, "h")))
    return pid == again, until(lambda: gone(pid))


def actor_returns_actor():
    maker = A.remote()
    handle = get(maker.do.remote(lambda: A.remote(2)))
    return get([handle.add.remote(1), handle.add.remote(1)])


def actor_of_dead_actor():
    maker = A.remote()
    handle = get(maker.do.remote(lambda: A.remote(2)))
    pid = pid_of(handle)
    ray.kill(maker)
    until(lambda: gone(pid), guard=3)
    return end(handle.get.remote()), says(lambda: get(handle.get.remote()), "its owner has died")


rec("handle_in_task", lambda: get(do.remote(lambda h: get(h.get.remote()), kept)))
rec(
    "handle_in_list",
    lambda: get(do.remote(lambda hs: get([h.get.remote() for h in hs]), [kept, other])),
)
rec("handle_in_closure", lambda: get(do.remote(lambda: get(kept.get.remote()))))
rec("handle_in_put", lambda: get(get(ray.put({"h": kept}))["h"].get.remote()))
rec("handle_put_itself", lambda: get(get(ray.put(kept)).get.remote()))
rec("handle_returned", lambda: get(get(do.remote(lambda: A.remote(2))).add.remote()))
rec("handle_to_actor", lambda: get(kept.do.remote(lambda h: get(h.get.remote()), other)))
rec("handle_kept_in_actor", lambda: kept_in_actor())
rec(
    "handle_ref_of_call",
    lambda: get(do.remote(lambda refs: get(refs), [kept.get.remote(), other.get.remote()])),
)
rec(
    "handle_of_task_used_by_all",
    lambda: get([do.remote(lambda h: get(h.add.remote(0)), kept) for _ in range(4)]),
)
rec("actor_makes_actor", lambda: get(A.remote().do.remote(lambda: get(A.remote(4).get.remote()))))
rec("actor_returns_actor", lambda: actor_returns_actor())
rec("actor_of_dead_actor", lambda: actor_of_dead_actor())
rec(
    "actor_calls_itself",
    lambda: get(
        get(kept.do.remote(lambda: ray.get_runtime_context().current_actor.echo.remote("self")))
    ),
)
rec("actor_calls_itself_async", lambda: get(B.remote().do.remote(calls_itself)))
rec(
    "current_actor_equal",
    lambda: get(kept.do.remote(lambda h: ray.get_runtime_context().current_actor == h, kept)),
)
rec("task_in_actor", lambda: get(kept.do.remote(lambda: get(same.remote(5)))))
rec("class_in_actor", lambda: get(kept.do.remote(defines)))

# ---- how long an actor lives


def dropped(cls=A, **options):
    handle, path = cls.options(**options).remote(), fresh()
    pid = pid_of(handle)
    refs = [handle.hold.remote(path), handle.add.remote(5)]
    until(path + ".started")
    del handle
    gc.collect()
    touch(path)
    return get(refs), until(lambda: gone(pid))


def dropped_at_once():
    path = fresh()
    ref = A.remote(7).do.remote(append, path, "ran")
    return get(ref), content(path)


def dropped_waiting():
    """The only handle is dropped while its actor waits for an argument."""
    path = fresh()
    refs = A.remote(late.remote(path, 5)).get.remote()
    gc.collect()
    touch(path)
    return get(refs)


def dropped_named():
    handle = A.options(name="short").remote()
    pid = pid_of(handle)
    del handle
    gc.collect()
    return until(lambda: gone(pid)), free("short")


def dropped_but_named():
    """Only a handle that get_actor gave is left."""
    handle = A.options(name="counted").remote()
    pid = pid_of(handle)
    found = ray.get_actor("counted")
    del handle
    gc.collect()
    until(lambda: gone(pid), guard=3)
    return end(found.get.remote()), says(
        lambda: get(found.get.remote()), "all references to the actor were removed"
    )


def dropped_copy():
    handle = A.remote()
    box = ray.put([handle])
    pid = pid_of(handle)
    del handle
    gc.collect()
    again = get(box)[0]
    same_process = pid_of(again) == pid
    del again, box
    gc.collect()
    return same_process, until(lambda: gone(pid))


def dropped_in_argument():
    """The only handle is in the arguments of a task that has not run."""
    path = fresh()
    ref = do.remote(lambda go, h: get(h.get.remote()), late.remote(path, 1), A.remote(6))
    gc.collect()
    touch(path)
    return get(ref)


def dropped_atexit():
    handle, path = A.remote(), fresh()
    get(handle.do.remote(lambda: atexit.register(touch, path) and None))
    pid = pid_of(handle)
    del handle
    gc.collect()
    return until(lambda: gone(pid)), os.path.exists(path)


def method_keeps():
    method = A.remote(3).get
    gc.collect()
    return get(method.remote())


def owned_by_dead():
    """What becomes of an object that an actor put, when it is dead."""
    handle = A.remote()
    ref = get(handle.do.remote(lambda: [ray.put("kept")]))[0]
    kill(handle)
    last = time.time() + 2  # Ray takes a second to notice
    while end(ref) == "kept" and time.time() < last:
        time.sleep(0.1)
    return end(ref)


def result_of_dead():
    handle = A.remote("result")
    ref = handle.get.remote()
    ray.wait([ref], timeout=GUARD)
    kill(handle)
    return get(ref)


def large_result_of_dead():
    handle = A.remote()
    ref = handle.do.remote(bytes, 1_000_000)
    ray.wait([ref], timeout=GUARD)
    kill(handle)
    return len(get(ref))


rec("dropped", dropped)
rec("dropped_threads", lambda: dropped(max_concurrency=2))
rec("dropped_at_once", dropped_at_once)
rec("dropped_waiting", dropped_waiting)
rec("dropped_named", dropped_named)
rec("dropped_but_named", dropped_but_named)
rec("dropped_copy", dropped_copy)
rec("dropped_in_argument", dropped_in_argument)
rec("dropped_atexit", dropped_atexit)
rec("method_keeps_actor", method_keeps)
rec("put_of_dead", owned_by_dead)
rec("result_of_dead", result_of_dead)
rec("large_result_of_dead", large_result_of_dead)

# ---- the context


def about():
    c = ray.get_runtime_context()
    return {
        "actor": len(c.get_actor_id()),
        "task": len(c.get_task_id()),
        "of_actor": c.get_actor_id() in c.get_task_id(),
        "name": c.get_task_name(),
        "actor_name": c.get_actor_name(),
        "function": c.get_task_function_name().split(".", 1)[1],
        "resources": c.get_assigned_resources(),
        "namespace": c.namespace,
        "reconstructed": c.was_current_actor_reconstructed,
        "worker": len(c.get_worker_id()),
        "job": c.get_job_id(),
    }


@ray.remote
class Knows:
    def __init__(self):
        self.at_init = about()

    def init(self):
        return self.at_init

    def now(self):
        return about()


rec("context_init", lambda: get(Knows.remote().init.remote()))
rec("context_init_named", lambda: get(Knows.options(name="knows").remote().init.remote()))
rec("context_now", lambda: get(Knows.remote().now.remote()))
rec("context_named", lambda: get(Knows.options(name="knows2").remote().now.remote()))
rec("context_call_name", lambda: get(Knows.remote().now.options(name="mine").remote())["name"])
rec("context_cpus", lambda: get(Knows.options(num_cpus=1).remote().now.remote())["resources"])
rec("context_no_cpus", lambda: get(Knows.options(num_cpus=0).remote().now.remote())["resources"])
rec("context_memory", lambda: get(Knows.options(memory=1000).remote().now.remote())["resources"])
rec("context_async", lambda: get(B.remote().do.remote(about))["name"])
rec("context_repr_name", lambda: get(ray.remote(Called).remote().name.remote()))
rec("context_inherited_name", lambda: get(Derived.remote(1).do.remote(task_name)))
rec("context_ray_call_name", lambda: get(kept.__ray_call__.remote(lambda self: task_name())))
rec(
    "context_id_of_handle",
    lambda: get(kept.do.remote(lambda: ray.get_runtime_context().get_actor_id())) in repr(kept),
)
rec(
    "context_task_id_of_ref",
    lambda: (lambda r: get(r) == r.task_id().hex())(
        kept.do.remote(lambda: ray.get_runtime_context().get_task_id())
    ),
)
rec("context_driver_actor", lambda: ray.get_runtime_context().current_actor, False)
rec("context_driver_actor_id", lambda: ray.get_runtime_context().get_actor_id())
rec("context_driver_actor_name", lambda: ray.get_runtime_context().get_actor_name())
rec(
    "context_driver_reconstructed",
    lambda: ray.get_runtime_context().was_current_actor_reconstructed,
    False,
)
rec(
    "context_task_actor",
    lambda: get(do.remote(lambda: ray.get_runtime_context().current_actor)),
    False,
)
rec(
    "context_task_reconstructed",
    lambda: get(do.remote(lambda: ray.get_runtime_context().was_current_actor_reconstructed)),
    False,
)
rec(
    "context_env",
    lambda: get(
        A.options(runtime_env={"env_vars": {"FOO": "1"}}).remote().do.remote(os.getenv, "FOO")
    ),
)
rec(
    "context_env_inherited",
    lambda: get(
        A.options(runtime_env={"env_vars": {"FOO": "1"}})
        .remote()
        .do.remote(lambda: get(do.remote(os.getenv, "FOO")))
    ),
)
rec("context_omp", lambda: get(kept.do.remote(os.getenv, "OMP_NUM_THREADS")))

# ---- resources


def available(cpus):
    return until(lambda: ray.available_resources().get("CPU", 0) == cpus, f"{cpus} CPUs available")


del kept, other, returns, gens, aio_gens

gc.collect()


def while_alive(cpus, **options):
    available(2)
    handle = A.options(**options).remote()
    get(handle.get.remote())
    return available(cpus)


def more_than_cpus():
    handles = [A.remote(n) for n in range(4)]
    return get([h.get.remote() for h in handles]), available(2)


def third_waits():
    available(2)
    handles = {n: A.options(num_cpus=1).remote(n) for n in range(3)}
    ready, (waits,) = ray.wait(
        [h.get.remote() for h in handles.values()], num_returns=2, timeout=GUARD
    )
    before = len(ray.wait([waits], timeout=SHORT)[0])
    running = get(ready)
    ray.kill(handles[running[0]])
    return before, sorted([*running, get(waits)])


def default_needs_one():
    """A default actor, and one without CPUs, while others hold all CPUs."""
    available(2)
    full = [A.options(num_cpus=1).remote() for _ in range(2)]
    get([h.get.remote() for h in full])
    zero = get(A.options(num_cpus=0).remote(1).get.remote())
    default = A.remote(2)
    ref = default.get.remote()
    before = len(ray.wait([ref], timeout=SHORT)[0])
    ray.kill(full[0])
    return zero, before, get(ref)


def task_beside():
    """A task with all CPUs, beside default actors that hold none."""
    available(2)
    handles = [A.remote() for _ in range(3)]
    get([h.get.remote() for h in handles])
    return get(same.options(num_cpus=2).remote(4))


def task_waits():
    available(2)
    handle = A.options(num_cpus=1).remote()
    get(handle.get.remote())
    ref = same.options(num_cpus=2).remote(4)
    before = len(ray.wait([ref], timeout=SHORT)[0])
    ray.kill(handle)
    return before, get(ref)


def impossible():
    handle = A.options(num_cpus=100).remote()
    return len(ray.wait([handle.get.remote()], timeout=SHORT)[0])


def last_session():
    handle = A.remote()
    get(handle.get.remote())
    ray.shutdown()
    ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False, logging_level="CRITICAL")
    found = name_of(lambda: ray.kill(handle)), name_of(lambda: get(handle.get.remote(), timeout=10))
    return found, get(A.remote(4).get.remote())


rec("cpus_default", lambda: while_alive(2))
rec("cpus_1", lambda: while_alive(1, num_cpus=1))
rec("cpus_half", lambda: while_alive(1.5, num_cpus=0.5))
rec("cpus_0", lambda: while_alive(2, num_cpus=0))
rec("cpus_with_memory", lambda: while_alive(2, memory=1000))
rec("cpus_more_actors", more_than_cpus)
rec("cpus_third_waits", third_waits)
rec("cpus_default_needs_one", default_needs_one)
rec("cpus_task_beside", task_beside)
rec("cpus_task_waits", task_waits)
rec("cpus_impossible", impossible)
rec("last_session", last_session)
ray.shutdown()
write()
