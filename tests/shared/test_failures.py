"""An exception on its way from worker to driver: its text, its type, every way to be hostile."""

# ruff: noqa: N818 - the names say what is hostile

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from typing import Any

import cloudpickle
import pytest

from aioray.exceptions import (
    AttemptInfo,
    RayError,
    RaySystemError,
    RayTaskError,
    TaskCancelledError,
    UnserializableException,
    WorkerCrashedError,
)
from aioray.shared import failures
from aioray.shared.failures import (
    MAX_SUMMARY_CHARS,
    MAX_TEXT_CHARS,
    capture,
    dependency_error,
    rebuild,
    release,
    summary,
)

HEADER = "ray::f() (pid=71867, ip=127.0.0.1)"
# Plays the worker: its frames are hidden.
RUNNER = "/worker/execution.py"
_space = {}
exec(
    compile(
        textwrap.dedent(
            """
            def run(function, *args):
                try:
                    call(function, *args)
                except BaseException as error:
                    return error
                raise AssertionError("nothing was raised")

            def call(function, *args):
                function(*args)
            """
        ),
        RUNNER,
        "exec",
    ),
    _space,
)
run = _space["run"]


def task(source):
    """Return the function f that `source` defines, in a file of its own, with lines to show."""
    import linecache

    source = textwrap.dedent(source).strip() + "\n"
    name = f"errors{next(_numbers)}.py"
    # An entry without modification time is one that linecache never checks against the disk.
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), space)
    return space["f"]


_numbers = iter(range(1_000_000))


def captured(exc, *, dumps=cloudpickle.dumps, loads=pickle.loads, hide=(RUNNER,), task_id=None):
    data = capture(
        exc,
        function_name="f",
        proctitle="ray::f",
        pid=71867,
        ip="127.0.0.1",
        dumps=dumps,
        loads=loads,
        hide_files=frozenset(hide),
        task_id=task_id,
    )
    assert type(data) is bytes
    return data


def brought_over(exc, **given):
    """Return what the caller of the task is to see for `exc`."""
    return rebuild(captured(exc, **given)).as_instanceof_cause()


def lines_of(error):
    """Return the text with file names made equal, without caret lines: versions differ in them."""
    return [
        line.split('"')[0] + '"errors.py"' + line.split('"')[2]
        if line.lstrip(" |").startswith('File "errors')
        else line
        for line in str(error).splitlines()
        if not is_caret_line(line)
    ]


def is_caret_line(line):
    return bool(marks := line.strip(" |")) and set(marks) <= {"~", "^"}


class CustomError(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class MismatchedError(Exception):
    """The common mistake: pickles, but does not unpickle."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


# --------------------------------------------------------------------------- text


def test_text_is_header_frames_of_the_user_and_the_error():
    f = task(
        """
        def f():
            raise Exception("the real error")
        """
    )
    error = brought_over(run(f))
    assert lines_of(error) == [
        HEADER,
        '  File "errors.py", line 2, in f',
        '    raise Exception("the real error")',
        "Exception: the real error",
    ]


def test_caret_lines_of_the_user_stay():
    f = task(
        """
        def f():
            x = 1 + int("x")
        """
    )
    lines = str(brought_over(run(f))).splitlines()
    assert lines[2] == '    x = 1 + int("x")'
    assert is_caret_line(lines[3])


def test_frames_of_hidden_files_go_with_their_lines():
    f = task(
        """
        def f():
            raise ValueError("bad")
        """
    )
    exc = run(f)
    assert "execution.py" not in str(brought_over(exc))
    assert "execution.py" in str(brought_over(exc, hide=()))


def test_an_error_with_hidden_frames_only_still_has_header_and_ending():
    exc = run(int, "x")
    assert str(brought_over(exc)) == (
        f"{HEADER}\nValueError: invalid literal for int() with base 10: 'x'"
    )


def test_an_exception_that_was_never_raised_has_header_and_ending():
    assert str(brought_over(ValueError("bad"))) == f"{HEADER}\nValueError: bad"


def test_chained_exceptions_have_the_joining_sentence_and_a_header_each():
    f = task(
        """
        def f():
            try:
                raise ValueError("first")
            except ValueError as error:
                raise TypeError("second") from error
        """
    )
    assert lines_of(brought_over(run(f))) == [
        HEADER,
        '  File "errors.py", line 3, in f',
        '    raise ValueError("first")',
        "ValueError: first",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        HEADER,
        '  File "errors.py", line 5, in f',
        '    raise TypeError("second") from error',
        "TypeError: second",
    ]


def test_an_exception_raised_while_handling_another_shows_both():
    f = task(
        """
        def f():
            try:
                raise ValueError("first")
            except ValueError:
                raise TypeError("second")
        """
    )
    text = str(brought_over(run(f)))
    assert "During handling of the above exception, another exception occurred:" in text
    assert text.count(HEADER) == 2


def test_a_suppressed_context_is_not_shown():
    f = task(
        """
        def f():
            try:
                raise ValueError("first")
            except ValueError:
                raise TypeError("second") from None
        """
    )
    text = str(brought_over(run(f)))
    assert "first" not in text
    assert text.count(HEADER) == 1


def test_a_traceback_quoted_in_a_message_or_note_is_left_alone():
    quoted = "Traceback (most recent call last):\n  File somewhere\nKeyError: 1"
    exc = RuntimeError(f"remote:\n{quoted}")
    exc.add_note(quoted)
    text = str(brought_over(exc))
    assert text.count("Traceback (most recent call last):") == 2
    assert text.count(HEADER) == 1


def test_an_exception_group_shows_every_member():
    f = task(
        """
        def g():
            raise ValueError("one")

        def f():
            try:
                g()
            except ValueError as error:
                inner = ExceptionGroup("inner", [KeyError(3)])
                raise ExceptionGroup("outer", [error, TypeError("two"), inner]) from None
        """
    )
    error = brought_over(run(f))
    assert isinstance(error, ExceptionGroup)
    assert lines_of(error) == [
        HEADER,
        '  |   File "errors.py", line 9, in f',
        '  |     raise ExceptionGroup("outer", [error, TypeError("two"), inner]) from None',
        "  | ExceptionGroup: outer (3 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
        f"    | {HEADER}",
        '    |   File "errors.py", line 6, in f',
        "    |     g()",
        '    |   File "errors.py", line 2, in g',
        '    |     raise ValueError("one")',
        "    | ValueError: one",
        "    +---------------- 2 ----------------",
        f"    | {HEADER}",
        "    | TypeError: two",
        "    +---------------- 3 ----------------",
        f"    | {HEADER}",
        "    |   | ExceptionGroup: inner (1 sub-exception)",
        "    |   +-+---------------- 1 ----------------",
        f"    |     | {HEADER}",
        "    |     | KeyError: 3",
        "    |     +------------------------------------",
        "    +------------------------------------",
    ]


def test_notes_are_shown_and_kept():
    exc = ValueError("bad")
    exc.add_note("look\nhere")
    error = brought_over(exc)
    assert str(error) == f"{HEADER}\nValueError: bad\nlook\nhere"
    assert error.cause.__notes__ == ["look\nhere"]


def test_a_syntax_error_shows_its_place():
    exc = run(compile, "a b c\n", "<given>", "exec")
    error = brought_over(exc)
    assert isinstance(error, SyntaxError)
    assert (error.lineno, error.filename) == (1, "<given>")
    assert str(error).splitlines()[:3] == [HEADER, '  File "<given>", line 1', "    a b c"]
    assert str(error).endswith("SyntaxError: invalid syntax")


def test_deep_recursion_is_folded():
    f = task(
        """
        def f():
            f()
        """
    )
    error = brought_over(run(f))
    assert isinstance(error, RecursionError)
    assert "[Previous line repeated" in str(error)


def test_there_are_no_colour_codes_even_where_colour_is_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("PYTHON_COLORS", "1")
    assert "\x1b" not in str(brought_over(run(int, "x")))


def test_own_classes_are_shown_under_the_name_programs_know():
    text = str(brought_over(WorkerCrashedError("gone")))
    assert text == f"{HEADER}\nray.exceptions.WorkerCrashedError: gone"


def test_a_huge_message_is_cut_in_the_text_but_whole_in_the_cause():
    error = brought_over(ValueError("x" * 10_000_000))
    assert len(str(error)) < MAX_TEXT_CHARS + 100
    assert "characters left out" in str(error)
    assert str(error).startswith(HEADER)
    assert len(error.cause.args[0]) == 10_000_000


# --------------------------------------------------------------------------- type and attributes


def test_cause_attributes_and_facts_of_the_task_come_over():
    error: Any = brought_over(CustomError(7, {"key": [1]}))
    assert type(error).__name__ == "RayTaskError(CustomError)"
    assert issubclass(type(error), CustomError)
    assert (error.code, error.cause.detail) == (7, {"key": [1]})
    assert (error.function_name, error.proctitle) == ("f", "ray::f")
    assert (error.pid, error.ip) == (71867, "127.0.0.1")


def test_rebuild_gives_a_fresh_instance_with_the_attempts_given():
    attempts = (AttemptInfo(0, "ab", 1, 2.0, 3.0, "TASK_EXECUTION_EXCEPTION", "raised"),)
    data = captured(ValueError("bad"))
    first, second = rebuild(data, attempts), rebuild(data)
    assert first is not second
    assert first.cause is not second.cause
    assert (first.attempts, second.attempts) == (attempts, ())
    assert first.as_instanceof_cause().attempts == attempts


def test_classes_of_main_come_over_by_value():
    f = task(
        """
        class LocalError(Exception):
            pass

        def f():
            raise LocalError("bad")
        """
    )
    exc = run(f)
    assert isinstance(brought_over(exc), type(exc))


@pytest.mark.parametrize("exc", [StopIteration(5), GeneratorExit("g"), SystemExit(3)])
def test_exceptions_that_mean_something_to_python_are_carried_as_causes(exc):
    error = brought_over(exc)
    assert type(error) is RayTaskError
    assert type(error.cause) is type(exc)
    assert error.cause.args == exc.args


def test_a_keyboard_interrupt_means_cancelled_and_shows_where():
    f = task(
        """
        def f():
            raise KeyboardInterrupt
        """
    )
    error = brought_over(run(f), task_id="c8ef")
    assert type(error).__name__ == "RayTaskError(TaskCancelledError)"
    assert isinstance(error, TaskCancelledError)
    assert not isinstance(error, KeyboardInterrupt)
    assert error.task_id == "c8ef"
    assert lines_of(error) == [
        HEADER,
        '  File "errors.py", line 2, in f',
        "    raise KeyboardInterrupt",
        "KeyboardInterrupt",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        HEADER,
        "ray.exceptions.TaskCancelledError: Task: c8ef was cancelled.",
    ]


def test_notes_that_a_reduce_drops_are_kept():
    exc = DropsState("bad")
    exc.add_note("look here")
    assert brought_over(exc).cause.__notes__ == ["look here"]


class DropsState(Exception):
    def __reduce__(self):
        return (DropsState, self.args)


# --------------------------------------------------------------------------- errors of other tasks


def test_an_error_escaping_from_an_inner_get_is_carried_on_by_its_cause():
    inner = brought_over(CustomError(7, "d"))

    def g():
        raise inner

    outer = brought_over(run(g))
    assert type(outer).__name__ == "RayTaskError(CustomError)"
    assert type(outer.cause) is CustomError
    assert outer.code == 7
    assert summary(captured(run(g))) == "CustomError: (7, 'd')"
    name = "ray.exceptions.RayTaskError(CustomError)"
    assert f"{name}: {HEADER}\n{__name__}.CustomError: (7, 'd')" in str(outer)


def test_an_error_without_a_cause_is_carried_itself():
    error = brought_over(RayTaskError("g", "text", None))
    assert type(error) is RayTaskError
    assert type(error.cause) is RayTaskError


def test_a_cycle_of_task_errors_ends():
    first = RayTaskError("g", "text", None)
    first.cause = first
    assert isinstance(brought_over(first), RayTaskError)


def test_text_of_a_dependent_is_that_of_the_upstream_below_a_line_per_level():
    f = task(
        """
        def f():
            raise Exception("the real error")
        """
    )
    upstream = brought_over(run(f))
    error = dependency_error(upstream, function_name="g", pid=73085, ip="10.0.0.1")
    assert lines_of(error) == [
        "ray::g() (pid=73085, ip=10.0.0.1)",
        "  At least one of the input arguments for this task could not be computed:",
        f"ray.exceptions.RayTaskError: {HEADER}",
        '  File "errors.py", line 2, in f',
        '    raise Exception("the real error")',
        "Exception: the real error",
    ]
    last = dependency_error(error, function_name="h", pid=None, ip=None)
    assert str(last).startswith(
        "ray::h()\n  At least one of the input arguments for this task could not be computed:\n"
        "ray.exceptions.RayTaskError: ray::g() (pid=73085"
    )
    assert str(last).count("At least one of the input arguments") == 2
    assert last.cause is upstream.cause


@pytest.mark.parametrize(
    ("upstream", "line"),
    [
        (WorkerCrashedError("gone"), "ray.exceptions.WorkerCrashedError: gone"),
        (TaskCancelledError("c8ef"), "ray.exceptions.TaskCancelledError"),
        (ValueError("bad"), "ValueError: bad"),
    ],
)
def test_a_dependent_of_another_error_carries_that_error(upstream, line):
    error = dependency_error(upstream, function_name="g", pid=1, ip="x").as_instanceof_cause()
    assert type(error).__name__ == f"RayTaskError({type(upstream).__name__})"
    assert isinstance(error, type(upstream))
    assert error.cause is upstream
    assert str(error).splitlines()[2] == line


def test_text_of_a_long_chain_of_dependents_is_bounded_and_keeps_the_real_error():
    error = rebuild(captured(ValueError("the real error")))
    for _ in range(2_000):
        error = dependency_error(error, function_name="g", pid=1, ip="x")
    assert len(str(error)) < MAX_TEXT_CHARS + 100
    assert str(error).startswith("ray::g() (pid=1, ip=x)\n  At least one")
    assert str(error).endswith(f"{HEADER}\nValueError: the real error")
    assert type(error.cause) is ValueError


# --------------------------------------------------------------------------- summaries


@pytest.mark.parametrize(
    ("exc", "line"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (CustomError(1, 2), "CustomError: (1, 2)"),
        (ValueError("two\nlines\t here "), "ValueError: two lines here"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
)
def test_summary_is_one_line(exc, line):
    assert summary(captured(exc)) == line


def test_summary_of_a_huge_message_is_short():
    line = summary(captured(ValueError("x" * 1_000_000)))
    assert len(line) == MAX_SUMMARY_CHARS
    assert line.endswith("...")


def test_reading_the_summary_runs_no_code_of_the_exception(monkeypatch):
    data = captured(TellsWhenLoaded("bad"))
    monkeypatch.setattr(sys.modules[__name__], "told", [])
    assert summary(data) == "TellsWhenLoaded: bad"
    assert told == []
    rebuild(data)
    assert told == ["bad"]


told = []


class TellsWhenLoaded(Exception):
    def __init__(self, text):
        super().__init__(text)
        told.append(text)


# --------------------------------------------------------------------------- hostile exceptions


class RaisingStr(Exception):
    def __str__(self):
        raise ValueError("no text")


class ExitingStr(Exception):
    def __str__(self):
        raise SystemExit(3)


class StrOfWrongType(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307 - the point


class RaisingRepr(Exception):
    def __repr__(self):
        raise ValueError("no text")


class StrSubclass(str):
    __slots__ = ()

    def __reduce__(self):
        raise ValueError("not this one")

    def __str__(self):
        raise ValueError("nor this way")


class ReturnsStrSubclass(Exception):
    def __str__(self):
        return StrSubclass("odd text")


class RaisingReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("do not pickle me")


class InterruptingReduce(Exception):
    def __reduce__(self):
        raise KeyboardInterrupt


class RecursiveReduce(Exception):
    def __reduce__(self):
        return (RecursiveReduce, (RecursiveReduce("again"),))


class ReducesToAnother(Exception):
    def __reduce__(self):
        return (ValueError, ("another",))


class ReducesToNoException(Exception):
    def __reduce__(self):
        return (dict, ())


class RaisingGetattribute(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"{name} is private")


class RaisingGetattr(Exception):
    def __getattr__(self, name):
        raise RuntimeError(f"there is no {name}")


class LyingClass(Exception):
    @property  # type: ignore[misc]  # it lies
    def __class__(self):
        raise RuntimeError("no class")


class HostileMeta(type):
    def __getattribute__(cls, name):
        if name in {"__qualname__", "__name__", "__module__"}:
            raise RuntimeError("nameless")
        return super().__getattribute__(name)


class HostileMetaclass(Exception, metaclass=HostileMeta):
    pass


class HostileNotes(Exception):
    @property
    def __notes__(self):  # type: ignore[override]  # it is hostile
        raise RuntimeError("no notes")


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class SlottedMismatched(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__()
        self.code = code


class HoldsLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class RefusesSubclasses(Exception):
    def __init_subclass__(cls):
        raise TypeError("final")


class OddNotes(Exception):
    __notes__ = 5  # type: ignore[assignment]  # they are odd


class HostileNote:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def with_notes(notes):
    exc = ValueError("bad")
    exc.__notes__ = notes
    return exc


def cause_cycle():
    first, second = ValueError("first"), TypeError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def self_context():
    exc = ValueError("bad")
    exc.__context__ = TypeError("other")
    exc.__context__.__context__ = exc
    return exc


def long_chain():
    exc = ValueError("0")
    for number in range(5_000):
        newer = ValueError(str(number))
        newer.__cause__ = exc
        exc = newer
    return exc


def deep_group():
    exc: Exception = ValueError("deepest")
    for _ in range(3_000):
        exc = ExceptionGroup("group", [exc])
    return exc


def deep_argument():
    value = []
    for _ in range(100_000):
        value = [value]
    return ValueError("bad", value)


def holding_itself():
    exc = ValueError("bad")
    exc.args = (exc,)
    return exc


def odd_syntax_error():
    exc: Any = SyntaxError("bad")
    exc.lineno, exc.offset, exc.text, exc.filename = object(), "x", 5, HostileNote()
    return exc


def kept_type(name, make):
    return pytest.param(make, True, id=name)


def stands_in(name, make):
    return pytest.param(make, False, id=name)


HOSTILE = [
    kept_type("str raises", lambda: RaisingStr("x")),
    kept_type("str raises SystemExit", lambda: ExitingStr("x")),
    kept_type("str returns an int", lambda: StrOfWrongType("x")),
    kept_type("repr raises", lambda: RaisingRepr("x")),
    kept_type("str returns a subclass", lambda: ReturnsStrSubclass("x")),
    kept_type("reduce raises", lambda: RaisingReduce("x")),
    kept_type("reduce raises KeyboardInterrupt", lambda: InterruptingReduce("x")),
    kept_type("reduce recurses", lambda: RecursiveReduce("x")),
    kept_type("reduces to another exception", lambda: ReducesToAnother("x")),
    kept_type("reduces to no exception", lambda: ReducesToNoException("x")),
    kept_type("init mismatched", lambda: MismatchedError(1, 2)),
    stands_in("getattribute raises", lambda: RaisingGetattribute("x")),
    stands_in("class raises", lambda: LyingClass("x")),
    kept_type("notes raise", lambda: HostileNotes("x")),
    kept_type("slots", lambda: Slotted(5)),
    kept_type("slots, init mismatched", lambda: SlottedMismatched(5)),
    kept_type("unpicklable member", lambda: HoldsLock("x")),
    kept_type("unpicklable argument", lambda: ValueError(threading.Lock())),
    kept_type("deep argument", deep_argument),
    kept_type("no subclasses", lambda: RefusesSubclasses("x")),
    kept_type("notes are an int", lambda: OddNotes("x")),
    kept_type("note is bytes", lambda: with_notes([b"note", 5])),
    kept_type("note is hostile and unpicklable", lambda: with_notes([threading.Lock()])),
    kept_type("note has no text", lambda: with_notes([HostileNote()])),
    kept_type("cycle of causes", cause_cycle),
    kept_type("cycle of contexts", self_context),
    kept_type("long chain", long_chain),
    stands_in("deep group", deep_group),
    kept_type("odd SyntaxError", odd_syntax_error),
    kept_type("surrogates", lambda: ValueError("\udcff\ud800")),
    kept_type("control characters", lambda: ValueError("\x00\x1b[31m\r")),
    kept_type("wide group", lambda: ExceptionGroup("g", [ValueError(i) for i in range(2_000)])),
    kept_type("empty message", ValueError),
]


@pytest.mark.parametrize(("make", "keeps_type"), HOSTILE)
def test_a_hostile_exception_is_brought_over(make, keeps_type):
    exc = make()

    def f():
        raise exc

    raised = run(f)
    error = rebuild(captured(raised))

    assert type(error) is RayTaskError
    name = type(raised).__name__
    assert str(error).startswith((HEADER, "ray::f()"))
    assert name in str(error)
    found = type(error.cause)  # an assertion that fails prints its operands: only harmless ones
    assert found is (type(raised) if keeps_type else UnserializableException)
    if not keeps_type:
        assert error.cause.type_name == name
        assert error.cause.module == type(raised).__module__
        assert str(error) == f"{error.cause.traceback_str}\n{error.cause.explanation}"
        assert error.cause.reason
    assert "\n" not in summary(captured(raised))
    # What the caller sees can itself be handed on.
    assert isinstance(error.as_instanceof_cause(), RayTaskError)


def test_an_exception_with_a_getattr_that_raises_is_brought_over():
    error = rebuild(captured(RaisingGetattr("x")))
    assert "RaisingGetattr" in str(error)


def test_an_exception_whose_class_has_no_name_is_brought_over():
    error = rebuild(captured(HostileMetaclass("x")))
    assert str(error).startswith(HEADER)
    assert "<unknown exception>" in summary(captured(HostileMetaclass("x")))


def test_a_holder_of_itself_is_brought_over():
    exc = holding_itself()
    try:
        assert isinstance(rebuild(captured(exc)), RayTaskError)
    finally:
        exc.args = ()


def test_the_stand_in_keeps_type_message_notes_and_traceback():
    f = task(
        """
        import threading

        class Local(Exception):
            lock = threading.Lock()

        def f():
            error = Local("the message", 5)
            error.add_note("a note")
            raise error
        """
    )
    error = brought_over(run(f))
    assert type(error).__name__ == "RayTaskError(UnserializableException)"
    cause = error.cause
    assert (cause.type_name, cause.module, cause.notes) == ("Local", "__main__", ("a note",))
    assert "the message" in cause.message
    assert str(cause).startswith("Local: ('the message'")
    assert "isn't serializable: TypeError: cannot pickle '_thread.lock' object" in str(cause)
    assert str(error) == f"{cause.traceback_str}\n{cause.explanation}"
    assert "    raise error\n" in cause.traceback_str
    assert isinstance(error, RayError)


def test_a_cause_that_unpickles_in_the_worker_only_becomes_a_stand_in(monkeypatch):
    data = captured(CustomError(1, 2), dumps=pickle.dumps)
    monkeypatch.delattr(sys.modules[__name__], "CustomError")
    error = rebuild(data)
    assert type(error.cause) is UnserializableException
    assert error.cause.type_name == "CustomError"
    assert error.cause.message == "(1, 2)"
    assert "AttributeError" in error.cause.reason
    assert str(error) == f"{HEADER}\n{__name__}.CustomError: (1, 2)\n{error.cause.explanation}"
    assert "`except CustomError` does not catch" in str(error)


class LoadsOnlyIn(Exception):
    """Unpickles in the process it was made in; elsewhere it raises what it was given."""

    def __init__(self, pid, elsewhere):
        super().__init__(pid, elsewhere)
        if pid != os.getpid():
            raise elsewhere


@pytest.mark.parametrize("elsewhere", [SystemExit(3), GeneratorExit(), ValueError("no")])
def test_a_cause_that_raises_at_the_driver_becomes_a_stand_in(elsewhere, monkeypatch):
    data = captured(LoadsOnlyIn(os.getpid(), elsewhere), dumps=pickle.dumps)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert rebuild(data).cause.type_name == "LoadsOnlyIn"


def test_control_c_while_the_driver_unpickles_is_not_swallowed(monkeypatch):
    data = captured(LoadsOnlyIn(os.getpid(), KeyboardInterrupt()), dumps=pickle.dumps)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(KeyboardInterrupt):
        rebuild(data)


@pytest.mark.parametrize("problem", [MemoryError(), SystemExit(1), RecursionError("deep")])
def test_a_pickler_that_fails_costs_the_cause_and_not_the_text(problem):
    def dumps(value):
        raise problem

    error = rebuild(captured(ValueError("bad"), dumps=dumps))
    assert error.cause.type_name == "ValueError"
    assert type(problem).__name__ in error.cause.reason
    assert str(error) == f"{HEADER}\nValueError: bad\n{error.cause.explanation}"


def test_a_pickler_that_answers_with_another_buffer_is_fine():
    error = rebuild(captured(ValueError("bad"), dumps=lambda e: bytearray(pickle.dumps(e))))
    assert type(error.cause) is ValueError


def test_a_traceback_that_cannot_be_formatted_leaves_header_and_message(monkeypatch):
    def fail(*args, **given):
        raise RuntimeError("broken")

    monkeypatch.setattr(traceback, "TracebackException", fail)
    assert str(brought_over(ValueError("bad"))) == (
        f"{HEADER}\nValueError: bad\n(The traceback could not be formatted: RuntimeError: broken)"
    )


def test_an_error_captured_in_one_process_is_rebuilt_in_another():
    script = """
        import os, pickle, sys
        from aioray.shared.failures import capture

        def f():
            raise FileNotFoundError(2, "no such file", "name")

        try:
            f()
        except OSError as error:
            data = capture(
                error, function_name="f", proctitle="ray::f", pid=os.getpid(), ip="127.0.0.1",
                dumps=pickle.dumps, loads=pickle.loads,
            )
        sys.stdout.buffer.write(data)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=True
    )
    error: Any = rebuild(done.stdout).as_instanceof_cause()
    with pytest.raises(FileNotFoundError) as caught:
        raise error
    assert (caught.value.errno, caught.value.filename) == (2, "name")
    assert error.pid not in (None, os.getpid())


# --------------------------------------------------------------------------- by its parts


class KeywordOnly(Exception):
    def __init__(self, *, status):
        super().__init__(f"HTTP {status}")
        self.status = status


class TwoArguments(Exception):
    def __init__(self, message, argv):
        super().__init__(message)
        self.argv = argv


class Wraps(Exception):
    """pickle makes it again without an error, and wraps the text twice."""

    def __init__(self, text):
        super().__init__(f"<{text}>")


class OfSystem(OSError):
    def __init__(self, path):
        super().__init__(2, "gone", path)
        self.path = path


class Decoding(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 0, 1, "not text")


class Missing(KeyError):
    def __init__(self, key, *, table):
        super().__init__(key)
        self.table = table


class NoModule(ImportError):
    def __init__(self, name):
        super().__init__(f"no {name}", name=name, path="/nowhere")


class Exits(SystemExit):
    def __init__(self, code, why):
        super().__init__(code)
        self.why = why


class BySlots(Exception):
    __slots__ = ("__hidden", "code")

    def __init__(self, text, code):
        super().__init__(text)
        self.code = code
        self.__hidden = -code

    def hidden(self):
        return self.__hidden


class WithState(Exception):
    """As those of HTTP libraries: what it holds can be sent, or not."""

    def __init__(self, text, *, response=None, request=None):
        super().__init__(text)
        self.response = response
        self.request = request


class Many(ExceptionGroup):
    def __new__(cls, errors, code):
        return super().__new__(cls, f"{len(errors)} errors", errors)

    def __init__(self, errors, code):
        self.code = code

    def derive(self, errors):
        return Many(errors, self.code)


def traced(error):
    try:
        raise error
    except type(error) as caught:
        return caught


PARTED = [
    KeywordOnly(status=503),
    TwoArguments("failed", ["-i"]),
    Wraps("text"),
    OfSystem("/gone"),
    Decoding(b"\xff"),
    Missing("key", table=[1]),
    NoModule("nothing"),
    Exits(3, "enough"),
    BySlots("text", 7),
    WithState("text", response={"status": 1}),
]


def shown(error):
    """What there is to see of an exception, of one in a group too."""
    names = [name for name in dir(error) if not name.startswith("__")]
    values = [(name, getattr(error, name, None)) for name in names]
    plain = [(name, value) for name, value in values if not callable(value)]
    return type(error), str(error), error.args, repr(plain)


@pytest.mark.parametrize("exc", PARTED, ids=lambda exc: type(exc).__name__)
def test_an_exception_with_an_init_of_its_own_comes_over_as_it_is(exc):
    error = rebuild(captured(exc))
    assert shown(error.cause) == shown(exc)
    assert "could not be sent" not in str(error)
    if not isinstance(exc, SystemExit):
        raised = error.as_instanceof_cause()
        assert isinstance(raised, type(exc))
        assert vars(raised).items() >= vars(exc).items()
        assert shown(pickle.loads(captured_again(raised)).cause) == shown(exc)


def captured_again(error):
    """As if it left the task that has waited for the first."""
    return pickle.dumps(_Loads(captured(error)))


class _Loads:
    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return rebuild, (self.data,)


def test_slots_come_over_with_their_private_names():
    assert rebuild(captured(BySlots("text", 7))).cause.hidden() == -7


@pytest.mark.parametrize("exc", PARTED, ids=lambda exc: type(exc).__name__)
@pytest.mark.parametrize(
    "hold",
    [
        lambda exc: BaseExceptionGroup("g", [exc, ValueError("v")]),
        lambda exc: BaseExceptionGroup("g", [BaseExceptionGroup("inner", [exc])]),
        lambda exc: RuntimeError("bad", exc),
        lambda exc: WithState("bad", response=[exc]),
        lambda exc: WithState("bad", response={"first": (exc, 1)}),
    ],
    ids=["group", "nested group", "args", "list", "dict"],
)
def test_exceptions_inside_of_others_come_over_as_they_are(hold, exc):
    def inside(holder):
        if isinstance(holder, BaseExceptionGroup):
            inner = holder.exceptions[0]
            return inside(inner) if isinstance(inner, BaseExceptionGroup) else inner
        if type(holder) is RuntimeError:
            return holder.args[1]
        held = holder.response
        return held["first"][0] if type(held) is dict else held[0]

    found = inside(rebuild(captured(hold(exc))).cause)
    assert shown(found) == shown(exc)


def test_an_error_of_an_inner_task_inside_of_another_exception_comes_over():
    inner = rebuild(captured(KeywordOnly(status=1))).as_instanceof_cause()
    error = rebuild(captured(ExceptionGroup("g", [inner]))).cause
    (member,) = error.exceptions
    assert isinstance(member, RayTaskError)
    assert isinstance(member, KeywordOnly)
    assert (member.status, member.cause.status, str(member)) == (1, 1, str(inner))


def test_what_cannot_be_sent_is_left_out_and_told():
    exc = WithState("text", response=threading.Lock(), request={"url": "u"})
    error = rebuild(captured(exc))
    assert type(error.cause) is WithState
    assert vars(error.cause) == {"request": {"url": "u"}}
    assert str(error.cause) == "text"
    assert str(error).endswith(
        "(These parts of the exception could not be sent: response (TypeError: cannot pickle "
        "'_thread.lock' object))"
    )


@pytest.mark.parametrize("more", [(), (1, "x")], ids=["alone", "of several"])
def test_an_argument_that_cannot_be_sent_leaves_its_text(more):
    exc = ValueError(threading.Lock(), *more)
    cause = rebuild(captured(exc)).cause
    assert type(cause) is ValueError
    assert str(cause) == str(exc)
    assert repr(cause) == repr(exc)
    assert cause.args[1:] == more
    assert str(rebuild(captured(cause)).cause) == str(exc)  # the stand-in can be sent on


def test_an_exception_that_holds_its_traceback_comes_over():
    exc = traced(WithState("text", request=5))
    exc.response = exc.__traceback__
    cause = rebuild(captured(exc)).cause
    assert (str(cause), vars(cause)) == ("text", {"request": 5})


def test_exceptions_that_hold_each_other_come_over():
    first, second = WithState("first"), WithState("second")
    first.response, second.response = second, first
    cause = rebuild(captured(first)).cause
    assert type(cause.response) is WithState
    assert str(cause.response) == "second"


def test_a_group_with_an_init_of_its_own_can_be_split():
    group = Many([KeywordOnly(status=1), ValueError("v")], code=5)
    error = rebuild(captured(group)).as_instanceof_cause()
    assert isinstance(error, Many)
    (found,), (rest,) = matched(error, KeywordOnly)
    assert (found.status, str(rest)) == (1, "v")
    part = error.subgroup(ValueError)
    assert (type(part), part.code, str(part)) == (Many, 5, "1 errors (1 sub-exception)")


def test_an_exception_of_a_script_with_an_init_of_its_own_comes_over():
    f = task(
        """
        class Refused(Exception):
            def __init__(self, *, status):
                super().__init__(f"HTTP {status}")
                self.status = status

        def f():
            raise Refused(status=503) from ValueError("first")
        """
    )
    error = brought_over(run(f))
    assert type(error).__name__ == "RayTaskError(Refused)"
    assert (error.status, str(error.cause)) == (503, "HTTP 503")


def test_names_that_pickle_forgets_come_over():
    with pytest.raises(NameError) as caught:
        exec("nowhere")
    assert rebuild(captured(caught.value)).cause.name == "nowhere"


# --------------------------------------------------------------------------- groups of all kinds


def matched(error, kind):
    """The members that `except*` gives for a class, and those that are left."""
    found: tuple = ()
    rest: tuple = ()
    try:
        try:
            raise error
        except* kind as group:
            found = group.exceptions
    except BaseExceptionGroup as left:
        rest = left.exceptions
    return found, rest


@pytest.mark.parametrize(
    "other", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("c")]
)
def test_except_star_finds_the_failures_beside_what_is_none(other):
    group = BaseExceptionGroup("both", [ValueError("v"), other])
    error = brought_over(group)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, BaseExceptionGroup)
    (found,), (rest,) = matched(error, ValueError)
    assert str(found) == "v"
    assert type(rest) is RayTaskError
    assert type(rest.cause) is type(other)
    assert [type(each) for each in error.cause.exceptions] == [ValueError, type(other)]
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, BaseExceptionGroup)
    assert again.message == "both"


def test_except_star_looks_into_nested_groups():
    inner = BaseExceptionGroup("inner", [SystemExit(1), OSError("o")])
    error = brought_over(BaseExceptionGroup("outer", [inner, KeyError("k")]))
    (found,), rest = matched(error, OSError)
    assert [str(each) for each in found.exceptions] == ["o"]
    assert len(rest) == 2


class OnlyBase(BaseExceptionGroup):
    def derive(self, errors):
        return OnlyBase(self.message, errors)


def test_except_star_looks_into_groups_that_are_no_exceptions():
    inner = OnlyBase("inner", [ValueError("v")])
    error = brought_over(BaseExceptionGroup("outer", [inner]))
    (found,), rest = matched(error, ValueError)
    assert [str(each) for each in found.exceptions] == ["v"]
    assert not rest
    assert matched(brought_over(inner), ValueError)[0][0].args == ("v",)


# --------------------------------------------------------------------------- what is let go


class Thing:
    pass


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def failed(function):
    """The exception of a function, and a weak reference to what was in a variable of it."""
    thing = Thing()
    weak = weakref.ref(thing)
    try:
        function(thing)
    except BaseException as error:  # noqa: BLE001 - of whatever class
        return error, weak
    raise AssertionError


def holds_its_error(thing):
    error = ValueError(len([thing]))
    raise error


def holds_its_traceback(thing):
    try:
        raise ValueError(len([thing]))
    except ValueError:
        held = sys.exc_info()  # noqa: F841
        raise


def has_a_cause(thing):
    try:
        holds_its_error(thing)
    except ValueError as error:
        cause = error  # noqa: F841
        raise KeyError from error


def has_a_group(thing):
    errors = []
    for fail in (holds_its_error, has_a_cause):
        try:
            fail(thing)
        except Exception as error:  # noqa: BLE001 - of whatever class
            errors.append(error)
    raise BaseExceptionGroup("both", [KeyboardInterrupt(), ExceptionGroup("inner", errors)])


def is_caught_in_a_circle(thing):
    first, second = ValueError(len([thing])), KeyError()
    first.__cause__, second.__cause__ = second, first
    raise first


def hides_its_traceback(thing):
    class Hidden(Exception):
        kept = thing

        @property
        def __traceback__(self):  # type: ignore[override]  # which is the point
            raise AttributeError

    error = Hidden()
    Hidden.kept = None
    raise error


@pytest.mark.parametrize(
    "function",
    [
        holds_its_error,
        holds_its_traceback,
        has_a_cause,
        has_a_group,
        is_caught_in_a_circle,
        hides_its_traceback,
    ],
)
def test_released_error_holds_nothing_of_the_frames_that_it_has_left(function, no_collector):
    error, weak = failed(function)
    assert weak() is not None
    release(error)
    assert BaseException.__traceback__.__get__(error) is None
    assert weak() is None


def test_release_leaves_generators_alone_that_can_go_on(no_collector):
    def generator():
        mine = Thing()
        try:
            raise ValueError
        except ValueError as error:
            yield error
        yield mine

    items = generator()
    release(next(items))
    assert isinstance(next(items), Thing)


def test_release_leaves_frames_alone_that_run(no_collector):
    thing = Thing()
    try:
        raise ValueError
    except ValueError as error:
        release(error)
    assert isinstance(thing, Thing)


def test_error_that_is_raised_again_after_its_release_tells_where_anew():
    kept = ValueError("kept")

    def raises():
        raise kept

    lengths = []
    for _ in range(3):
        try:
            raises()
        except ValueError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
            release(error)
    assert lengths == [2, 2, 2]


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", pickle.dumps(None), pickle.dumps("right"), pickle.dumps((1,) * 12)],
)
def test_error_that_is_none_is_told_as_such(data):
    error = failures.rebuild(data)
    assert isinstance(error.cause, RaySystemError)
    assert "has written as the error of this task is none" in str(error.cause)
    assert failures.summary(data).startswith("RaySystemError: What a worker has written")
