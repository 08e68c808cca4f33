"""What a caller sees of an error: names, bases, text, attributes, and that pickling keeps them."""

# ruff: noqa: N818 - the names say what is odd about them

import asyncio
import concurrent.futures
import copy
import gc
import inspect
import logging
import math
import pickle
import subprocess
import sys
import weakref
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from aioray import exceptions
from aioray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    AttemptInfo,
    CircuitOpenError,
    DoNotRetry,
    EngineShutdownError,
    GetTimeoutError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    RetryTask,
    RpcError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskTimeoutError,
    UnserializableException,
    UnsupportedFeatureError,
    WorkerCrashedError,
    WorkerStartupError,
)

ATTEMPTS = (
    AttemptInfo(0, "ab" * 28, 4711, 1_700_000_000.5, 0.25, "WORKER_DIED", "worker died of SIGSEGV"),
    AttemptInfo(1, None, None, None, None, "WORKER_STARTUP_FAILED", "no worker"),
)
TEXT = "ray::f() (pid=1, ip=127.0.0.1)\nValueError: bad"

# With every argument given; a class that is not here is made from one text.
FULL = {
    ActorDiedError: lambda: ActorDiedError(RayTaskError("A.__init__", TEXT, ValueError("bad"))),
    ActorUnavailableError: lambda: ActorUnavailableError("away", "0a0b"),
    CircuitOpenError: lambda: CircuitOpenError(
        "poison",
        ATTEMPTS,
        names=("f", "g"),
        task_name="f",
        task_id="c8ef",
        period=60.0,
        retry_after=12.5,
    ),
    DoNotRetry: lambda: DoNotRetry("hopeless"),
    ObjectLostError: lambda: ObjectLostError("00ff", b"owner", "x.py:1"),
    ObjectReconstructionFailedError: lambda: ObjectReconstructionFailedError(
        "00ff", b"owner", "x.py:1", reason="OBJECT_UNRECONSTRUCTABLE_PUT", reason_message="put"
    ),
    RayActorError: lambda: RayActorError("gone", actor_id="0a0b", preempted=True),
    RaySystemError: lambda: RaySystemError("broken", "Traceback"),
    RayTaskError: lambda: RayTaskError(
        "f", TEXT, ValueError("bad"), "ray::f", 1, "127.0.0.1", "A(1)", "0a0b"
    ),
    RetryTask: lambda: RetryTask(2.5, "busy"),
    RpcError: lambda: RpcError("no answer", 14),
    TaskCancelledError: lambda: TaskCancelledError("c8ef", "Task: c8ef was cancelled."),
    TaskTimeoutError: lambda: TaskTimeoutError(
        "stall_timeout",
        2.5,
        task_name="f",
        task_id="c8ef",
        attempt=2,
        pid=1,
        worker_id="ab",
        after=2.51,
        python_stack="stack",
    ),
    UnserializableException: lambda: UnserializableException(
        "Bad", "mod", "message", ("note",), TEXT, "TypeError: no"
    ),
    UnsupportedFeatureError: lambda: UnsupportedFeatureError("Feature.", "Do this."),
    WorkerCrashedError: lambda: WorkerCrashedError(
        "gone",
        exit_code=3,
        signal="SIGSEGV",
        pid=1,
        worker_id="ab",
        task_name="f",
        task_id="c8ef",
        attempt=2,
        seconds=1.5,
        oom_killed=True,
        stderr_tail="stderr",
        python_stack="stack",
    ),
    WorkerStartupError: lambda: WorkerStartupError("cannot start", "ImportError", 3),
}
CLASSES = [
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and kind.__module__ == exceptions.__name__
]


def roundtrips():
    yield "pickle 0", lambda error: pickle.loads(pickle.dumps(error, 0))
    yield "pickle 5", lambda error: pickle.loads(pickle.dumps(error, 5))
    yield "cloudpickle", lambda error: pickle.loads(cloudpickle.dumps(error))
    yield "copy", copy.copy
    yield "deepcopy", copy.deepcopy


every_roundtrip = pytest.mark.parametrize(
    "roundtrip", [pytest.param(do, id=name) for name, do in roundtrips()]
)


def plain(value):
    """Return something that compares by content: exceptions do not."""
    return repr(value) if isinstance(value, BaseException) else value


@every_roundtrip
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_survives_pickling_and_copying(kind, roundtrip):
    error = FULL.get(kind, lambda: kind("something"))()
    error.add_note("a note")
    error.extra = {"key": [1, 2]}
    if isinstance(error, RayError):
        error.attempts = ATTEMPTS

    again = roundtrip(error)

    assert type(again) is kind
    assert again is not error
    assert str(again) == str(error)
    assert list(map(plain, again.args)) == list(map(plain, error.args))
    assert {k: plain(v) for k, v in vars(again).items()} == {
        k: plain(v) for k, v in vars(error).items()
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_public_documented_and_has_no_colour_codes(kind):
    assert kind.__name__.startswith("_") or kind.__name__ in exceptions.__all__
    assert inspect.getdoc(kind)
    assert "\x1b" not in str(FULL.get(kind, lambda: kind("something"))())


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("RayTaskError", (RayError,)),
        ("WorkerCrashedError", (RayError,)),
        ("TaskCancelledError", (RayError,)),
        ("OutOfMemoryError", (RayError,)),
        ("NodeDiedError", (RayError,)),
        ("LocalRayletDiedError", (RayError,)),
        ("RaySystemError", (RayError,)),
        ("GetTimeoutError", (RayError, TimeoutError)),
        ("RayActorError", (RayError,)),
        ("ActorDiedError", (RayActorError,)),
        ("ActorUnavailableError", (RayActorError,)),
        ("ActorUnschedulableError", (RayError,)),
        ("TaskUnschedulableError", (RayError,)),
        ("ActorPlacementGroupRemoved", (RayError,)),
        ("TaskPlacementGroupRemoved", (RayError,)),
        ("PendingCallsLimitExceeded", (RayError,)),
        ("AsyncioActorExit", (RayError,)),
        ("ActorAlreadyExistsError", (ValueError, RayError)),
        ("ActorHandleNotFoundError", (ValueError, RayError)),
        ("ObjectLostError", (RayError,)),
        ("ObjectReconstructionFailedError", (ObjectLostError,)),
        ("OwnerDiedError", (ObjectLostError,)),
        ("ObjectFetchTimedOutError", (ObjectLostError,)),
        ("ObjectFreedError", (ObjectLostError,)),
        ("ReferenceCountingAssertionError", (ObjectLostError, AssertionError)),
        ("ObjectStoreFullError", (RayError,)),
        ("OutOfDiskError", (RayError,)),
        ("RuntimeEnvSetupError", (RayError,)),
        ("StreamingGeneratorReplayInconsistentError", (RaySystemError,)),
        ("ObjectRefStreamEndOfStreamError", (RayError,)),
        ("UnserializableException", (RayError,)),
        ("UserCodeException", (RayError,)),
        ("CrossLanguageError", (RayError,)),
        ("RpcError", (RayError,)),
        ("AuthenticationError", (RayError,)),
        ("PlasmaObjectNotAvailable", (RayError,)),
        ("OufOfBandObjectRefSerializationException", (RayError,)),
        ("RayChannelError", (RayError,)),
        ("RayChannelTimeoutError", (RayError, TimeoutError)),
        ("RayCgraphCapacityExceeded", (RayError,)),
        ("RayDirectTransportError", (RayError,)),
    ],
)
def test_names_and_bases_are_those_of_ray(name, bases):
    assert name in exceptions.__all__
    assert all(issubclass(getattr(exceptions, name), base) for base in bases)


def test_orders_of_a_task_are_not_ray_errors():
    assert not issubclass(RetryTask, RayError)
    assert not issubclass(DoNotRetry, RayError)


def test_importing_the_module_loads_neither_asyncio_nor_cloudpickle_nor_logging():
    script = (
        "import sys; import aioray.exceptions; "
        "print([m for m in ('asyncio', 'cloudpickle', 'logging') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_attempt_info_is_frozen():
    with pytest.raises(FrozenInstanceError):
        ATTEMPTS[0].number = 5  # type: ignore[misc]  # which is refused


# --------------------------------------------------------------------------- RayTaskError


class Native(Exception):
    """Has a default in its class, an attribute of its own, a slot and a property."""

    __slots__ = ("slotted",)
    code = 0

    def __init__(self, code, slotted):
        super().__init__(code, slotted)
        self.code = code
        self.slotted = slotted

    @property
    def twice(self):
        return 2 * self.code


class Needy(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


class RefusesSubclasses(Exception):
    def __init_subclass__(cls):
        raise TypeError("final")


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class Meta(type):
    pass


class WithMetaclass(Exception, metaclass=Meta):
    pass


class Clashing(Exception):
    """Defines as properties what RayTaskError keeps in the instance."""

    @property
    def cause(self):
        raise RuntimeError("must not be asked")

    @property
    def pid(self):
        raise RuntimeError("must not be asked")

    @property
    def traceback_str(self):
        raise RuntimeError("must not be asked")


def pair(cause, **given):
    return RayTaskError(
        "f", TEXT, cause, "ray::f", 4711, "127.0.0.1", **given
    ).as_instanceof_cause()


def unicode_error():
    try:
        b"\xff".decode("ascii")
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


CAUSES = [
    ValueError("bad"),
    KeyError("k"),
    OSError(2, "no such file", "name"),
    FileNotFoundError(2, "no such file", "name"),
    unicode_error(),
    SyntaxError("invalid", ("f.py", 1, 2, "a b", 1, 3)),
    concurrent.futures.CancelledError("of a future"),
    ImportError("no", name="n", path="p"),
    ExceptionGroup("group", [ValueError(1), TypeError(2)]),
    Native(5, "s"),
    Needy(1, 2),
    FrozenError(3),
    WithMetaclass("m"),
    Clashing("c"),
    TaskCancelledError("c8ef", "Task: c8ef was cancelled."),
    WorkerCrashedError(signal="SIGSEGV", pid=5),
    GetTimeoutError("Get timed out"),
    UnserializableException("T", "m", "text"),
]
every_cause = pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)


@every_cause
def test_the_pair_is_an_instance_of_both_and_has_all_attributes(cause):
    error = pair(cause)
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert isinstance(error, RayTaskError)
    assert isinstance(error, type(cause))
    assert error.cause is cause
    assert error.args == (cause,)
    assert str(error) == TEXT
    assert error.__cause__ is None
    assert (error.function_name, error.proctitle) == ("f", "ray::f")
    assert (error.pid, error.ip, error.traceback_str) == (4711, "127.0.0.1", TEXT)
    assert error.attempts == ()


@pytest.mark.parametrize(
    "cause",
    [cause for cause in CAUSES if not isinstance(cause, FrozenError)],  # does not pickle by itself
    ids=lambda cause: type(cause).__name__,
)
@every_roundtrip
def test_the_pair_survives_pickling_and_copying(cause, roundtrip):
    error = pair(cause)
    error.attempts = ATTEMPTS
    error.add_note("a note of the driver")

    again = roundtrip(error)

    assert type(again) is type(error)
    assert again is not error
    assert type(again.cause) is type(cause)
    assert again.args == (again.cause,)
    assert again.attempts == ATTEMPTS
    assert again.__notes__ == ["a note of the driver"]
    assert (str(again), again.pid, again.function_name) == (TEXT, 4711, "f")


@every_cause
def test_the_pair_can_be_raised_and_caught_by_the_class_of_the_cause(cause):
    with pytest.raises(type(cause)) as caught:
        raise pair(cause)
    assert caught.value.cause is cause


def test_the_pair_answers_for_the_attributes_of_the_cause():
    error = pair(Native(5, "s"))
    assert (error.code, error.slotted, error.twice) == (5, "s", 10)
    assert pair(OSError(2, "no such file", "name")).errno == 2
    assert pair(ImportError("no", name="n")).name == "n"
    assert pair(unicode_error()).object == b"\xff"
    assert pair(FrozenError(3)).code == 3
    assert pair(WorkerCrashedError(signal="SIGSEGV", pid=5)).signal == "SIGSEGV"


def test_a_plain_error_answers_for_the_attributes_of_its_cause_too():
    cause: Any = Exception("x")
    cause.code = 7
    error = pair(cause)
    assert type(error) is RayTaskError
    assert error.code == 7


@pytest.mark.parametrize("cause", [ValueError("bad"), None])
def test_an_unknown_attribute_is_an_attribute_error(cause):
    with pytest.raises(AttributeError, match="nowhere"):
        _ = pair(cause).nowhere


def test_notes_of_the_cause_are_not_shown_again_by_the_pair():
    cause = ValueError("bad")
    cause.add_note("from the worker")
    error = pair(cause)
    assert not hasattr(error, "__notes__")
    error.add_note("from the driver")
    assert cause.__notes__ == ["from the worker"]


def test_attempts_of_the_cause_are_not_taken_for_those_of_the_task():
    cause = WorkerCrashedError()
    cause.attempts = ATTEMPTS
    assert pair(cause).attempts == ()


def test_the_class_of_the_pair_is_cached_and_freed_with_the_class_of_the_cause():
    class Local(Exception):
        pass

    error = pair(Local(1))
    assert type(pair(Local(2))) is type(error)

    freed = weakref.ref(Local)
    del error, Local
    gc.collect()  # frees the pair, and with it the entry in the cache
    gc.collect()  # frees the class
    assert freed() is None


@pytest.mark.parametrize("cause", [None, Exception("x"), BaseException("x"), RayError("x")])
def test_no_pair_is_made_where_the_class_of_the_cause_is_a_base_already(cause, caplog):
    error = RayTaskError("f", TEXT, cause)
    assert error.as_instanceof_cause() is error
    assert not caplog.records


class Exhausted(StopIteration):
    pass


class Stopped(asyncio.CancelledError):
    pass


@pytest.mark.parametrize(
    "cause",
    [
        StopIteration(7),
        Exhausted(7),
        StopAsyncIteration(),
        GeneratorExit(),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError("x"),
        Stopped("x"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_no_pair_is_made_of_what_would_not_be_taken_for_an_error(cause, caplog):
    error = RayTaskError("f", TEXT, cause).as_instanceof_cause()
    assert type(error) is RayTaskError
    assert error.cause is cause
    assert error.args == (cause,)
    assert getattr(error, "value", 7) == 7
    assert not caplog.records
    again = pickle.loads(pickle.dumps(error))
    assert type(again.cause) is type(cause)


def test_making_a_pair_of_a_pair_changes_nothing():
    error = pair(ValueError("bad"))
    assert error.as_instanceof_cause() is error


def test_a_cause_that_cannot_be_paired_gives_a_plain_error_and_one_warning(caplog):
    cause = RefusesSubclasses("x")
    error = pair(cause)
    assert type(error) is RayTaskError
    assert error.cause is cause
    assert [(r.name, r.levelno) for r in caplog.records] == [("aioray", logging.WARNING)]
    assert type(cause).__name__ in caplog.text


def test_an_exception_group_works_with_except_star():
    caught = []
    try:
        try:
            raise pair(ExceptionGroup("group", [ValueError(1), TypeError(2)]))
        except* ValueError as group:
            caught.extend(group.exceptions)
    except ExceptionGroup as rest:
        caught.extend(rest.exceptions)
    assert [type(each) for each in caught] == [ValueError, TypeError]


# --------------------------------------------------------------------------- texts


def test_text_of_a_cancel_is_the_message_alone():
    assert str(TaskCancelledError()) == ""
    assert str(TaskCancelledError("c8ef")) == ""
    assert str(TaskCancelledError("c8ef", "Task: c8ef was cancelled.")) == (
        "Task: c8ef was cancelled."
    )
    assert TaskCancelledError("c8ef").task_id == "c8ef"


def test_text_of_a_crash_without_facts_is_fixed():
    assert str(WorkerCrashedError()) == (
        "The worker died unexpectedly while executing this task. How it ended is not known."
    )


def test_text_of_a_crash_tells_every_fact():
    error = WorkerCrashedError(
        signal="SIGSEGV",
        pid=4711,
        worker_id="abcd",
        task_name="f",
        task_id="c8ef",
        attempt=0,
        seconds=1.25,
        stderr_tail="first\nlast\n",
        python_stack='File "x.py", line 3 in f\n',
    )
    first, *rest = str(error).splitlines()
    assert first == (
        "The worker died unexpectedly while executing this task: "
        "it was killed by SIGSEGV (segmentation fault in C code)."
    )
    assert rest == [
        "  task f, task id c8ef, attempt 0, pid 4711, worker abcd, after 1.25 s",
        "  Last lines of its stderr:",
        "    first",
        "    last",
        "  Its Python stack when it died:",
        '    File "x.py", line 3 in f',
    ]


def test_text_of_a_crash_shows_the_stack_without_the_frames_of_the_worker():
    inside = f"{Path(exceptions.__file__).parent}/worker/loop.py"
    stack = (
        "Fatal Python error: Segmentation fault\n\n"
        "Current thread 0x00007f (most recent call first):\n"
        '  File "x.py", line 3 in f\n'
        f'  File "{inside}", line 183 in call\n'
        '  File "<string>", line 1 in <module>\n\n'
        "Extension modules: setproctitle._setproctitle (total: 1)\n"
    )
    error = WorkerCrashedError(python_stack=stack)
    assert str(error).splitlines()[1:] == [
        "  Its Python stack when it died:",
        "    Fatal Python error: Segmentation fault",
        "    Current thread 0x00007f (most recent call first):",
        '      File "x.py", line 3 in f',
    ]
    assert error.python_stack == stack


@pytest.mark.parametrize(
    ("facts", "fragment"),
    [
        ({"exit_code": 0}, "exited with code 0 (sys.exit"),
        ({"exit_code": 42}, "exited with code 42 (sys.exit"),
        ({"signal": "SIGUSR2"}, "killed by SIGUSR2."),
        ({"signal": "SIGKILL", "oom_killed": True}, "out-of-memory killer ended it"),
        ({"message": "Own words.", "exit_code": 3}, "Own words."),
    ],
)
def test_text_of_a_crash_names_how_it_ended(facts, fragment):
    assert fragment in str(WorkerCrashedError(**facts))


def test_text_of_a_time_limit_tells_what_is_known():
    assert str(FULL[TaskTimeoutError]()).splitlines() == [
        "Task f has exceeded its stall_timeout of 2.5 s.",
        "  task id c8ef, attempt 2, pid 1, worker ab, after 2.51 s",
        "  Its Python stack then:",
        "    stack",
    ]
    assert str(TaskTimeoutError("deadline", 1.0, task_name="f")) == (
        "Task f has exceeded its deadline of 1 s. It was not running then."
    )


def test_text_of_an_open_circuit_lists_the_deaths():
    reason = "  Too many workers died of its calls within 60 s. The next call is let through in"
    assert str(FULL[CircuitOpenError]()).splitlines() == [
        "Task f was not started: the breaker poison is open.",
        f"{reason} 12.5 s. The last deaths:",
        "    f, attempt 0, pid 4711: worker died of SIGSEGV",
        "    g, attempt 1, pid None: no worker",
    ]


def test_other_texts():
    assert str(WorkerStartupError("No worker.", "ImportError: x\n", 3)) == (
        "No worker. (tried 3 times)\n  It wrote to stderr:\n    ImportError: x"
    )
    assert "shut down" in str(EngineShutdownError())
    assert str(UnsupportedFeatureError("No X here.", "Use Y.")) == "No X here. Use Y."
    assert str(UnsupportedFeatureError("No X here.")) == "No X here."
    assert str(RuntimeEnvSetupError("no such file")).endswith("\nno such file")
    assert str(RaySystemError("broken", "tb")) == "System error: broken\ntraceback: tb"
    assert str(GetTimeoutError("Get timed out: x")) == "Get timed out: x"
    assert "[OBJECT_UNRECONSTRUCTABLE_PUT]" in str(FULL[ObjectReconstructionFailedError]())
    assert "isn't serializable: TypeError: no" in str(FULL[UnserializableException]())
    assert str(FULL[UnserializableException]()).startswith("mod.Bad: message\nnote\n")
    assert str(exceptions.TaskPlacementGroupRemoved("own")) == "own"
    assert "removed" in str(exceptions.TaskPlacementGroupRemoved())


def test_a_failed_init_of_an_actor_is_told_in_its_error():
    error = ActorDiedError(RayTaskError("A.__init__", TEXT, ValueError("bad"), actor_id="0a0b"))
    assert error.actor_init_failed
    assert error.actor_id == "0a0b"
    assert "raised in its creation task" in str(error)
    assert TEXT in str(error)
    assert not ActorDiedError().actor_init_failed


# --------------------------------------------------------------------------- raised by a task


@pytest.mark.parametrize("delay", [-1, -0.001, math.inf, math.nan])
def test_retry_task_refuses_a_delay_that_is_negative_or_not_finite(delay):
    with pytest.raises(ValueError, match="finite number of seconds >= 0"):
        RetryTask(delay)


@pytest.mark.parametrize("delay", ["1", None, True, 1j])
def test_retry_task_refuses_a_delay_that_is_no_number(delay):
    with pytest.raises(TypeError, match="expected a number of seconds"):
        RetryTask(delay)


def test_orders_of_a_task_say_what_they_ask():
    assert (RetryTask().delay, str(RetryTask())) == (0.0, "The task asked to be run again at once.")
    assert str(RetryTask(1.5)) == "The task asked to be run again after 1.5 s."
    assert str(RetryTask(1, "busy")) == "busy"
    assert str(DoNotRetry()) == "The task asked not to be run again."
    assert str(DoNotRetry("hopeless")) == "hopeless"


FATAL = """Fatal Python error: Segmentation fault

Current thread 0x00007f985ab5d200 [ray::read] (most recent call first):
  File "script.py", line 10 in read
  File "<string>", line 1 in <module>

Current thread's C stack trace (most recent call first):
{frames}

Extension modules: numpy (total: 1)
"""
OF_INTERPRETER = """  Binary file "ray::read", at _Py_DumpStack+0x4a [0x49b2f9]
  Binary file "/usr/lib/libpython3.14.so.1.0", at +0x1 [0x1]
  Binary file "/usr/bin/python3.14", at _start+0x1 [0x1]"""
OF_LIBRARIES = """  Binary file "/usr/lib/libc.so.6", at +0x406b0 [0x7f985ab9e6b0]
  Binary file "/usr/lib/_ctypes.cpython-314-x86_64-linux-gnu.so", at +0xe4ad [0x7f985a56d4ad]"""


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        (f"{OF_INTERPRETER}\n{OF_LIBRARIES}\n{OF_INTERPRETER}", OF_LIBRARIES.splitlines()),
        (f"{OF_LIBRARIES}\n{OF_INTERPRETER}\n{OF_LIBRARIES}", OF_LIBRARIES.splitlines()),
        (OF_INTERPRETER, []),
    ],
)
def test_of_the_c_stack_what_lies_above_the_interpreter_is_shown(frames, shown):
    header = ["Current thread's C stack trace (most recent call first):"] if shown else []
    assert exceptions.last_words("", FATAL.format(frames=frames)) == [
        "  Its Python stack when it died:",
        "    Fatal Python error: Segmentation fault",
        "    Current thread 0x00007f985ab5d200 [ray::read] (most recent call first):",
        '      File "script.py", line 10 in read',
        *(f"    {line}" for line in [*header, *shown]),
    ]
