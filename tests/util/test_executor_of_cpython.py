"""CPython's own tests of ProcessPoolExecutor, out of the interpreter's `test` package, on ours.

Their classes are taken as they are, with `aioray.util.Executor` as the executor; each test has a
session of its own, which the executor starts and ends, under the eyes of CPython's checks for
threads and processes that are left. What does not apply is listed with the reason, and is run all
the same: a test that is on the list and passes, or that is no longer there, is an error.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import importlib
import importlib.util
import io
import multiprocessing
import re
import sys
import unittest
from unittest import mock

import pytest
from test import support
from test.support import script_helper

import aioray
from aioray.util import Executor

SUITE = "test.test_concurrent_futures"  # one module before 3.11.7, then a package

MAKE_THEIR_OWN = (
    "ProcessPoolShutdownTest.test_context_manager_shutdown",
    "ProcessPoolShutdownTest.test_del_shutdown",
    "ProcessPoolShutdownTest.test_shutdown_no_wait",
)
"""Tests that take no `executor_type` but name the class."""

MODULE_OF = {
    "AsCompletedTests": "test_as_completed",
    "ExecutorDeadlockTest": "test_deadlock",
    "FailingInitializerMixin": "test_init",
    "InitializerMixin": "test_init",
    "ProcessPoolExecutorTest": "test_process_pool",  # with all of ExecutorTest
    "ProcessPoolShutdownTest": "test_shutdown",  # with all of ExecutorShutdownTest
    "WaitTests": "test_wait",
}

PROCESSES = "looks into `_processes`: workers are the session's"
AUTHKEY = "passes on a proxy of a Manager, which only children of multiprocessing may connect to"
MANAGER = "looks into the manager thread and the queues of ProcessPoolExecutor: there are none"
UNPICKLING = "wants the pool to break; here what unpickling raises is the error of that call alone"
ALWAYS, SINCE_312 = (3, 11), (3, 12)

NOT_APPLICABLE = {
    "ExecutorDeadlockTest.test_error_at_task_unpickle": (UNPICKLING, ALWAYS),
    "ExecutorDeadlockTest.test_error_during_result_unpickle_in_result_handler": (
        UNPICKLING,
        ALWAYS,
    ),
    "ExecutorDeadlockTest.test_exit_at_task_unpickle": (UNPICKLING, ALWAYS),
    "ExecutorDeadlockTest.test_exit_during_result_unpickle_in_result_handler": (
        UNPICKLING,
        ALWAYS,
    ),
    "ExecutorDeadlockTest.test_shutdown_deadlock_pickle": (MANAGER, ALWAYS),
    "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": (PROCESSES, ALWAYS),
    "ProcessPoolExecutorTest.test_idle_process_reuse_one": (PROCESSES, ALWAYS),
    "ProcessPoolExecutorTest.test_killed_child": (
        f"{PROCESSES}; and wants the pool to break",
        ALWAYS,
    ),
    "ProcessPoolExecutorTest.test_max_tasks_per_child": (PROCESSES, ALWAYS),
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        "looks into `_mp_context`: workers are of no context",
        ALWAYS,
    ),
    "ProcessPoolExecutorTest.test_max_workers_too_large": ("skips itself but on Windows", ALWAYS),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "puts others in the place of the threads of ProcessPoolExecutor",
        SINCE_312,
    ),
    "ProcessPoolExecutorTest.test_ressources_gced_in_workers": (AUTHKEY, ALWAYS),
    "ProcessPoolExecutorTest.test_saturation": (PROCESSES, ALWAYS),
    "ProcessPoolExecutorTest.test_traceback": (
        "wants a private class of CPython's as the `__cause__`; ours has the same `tb`",
        ALWAYS,
    ),
    "ProcessPoolShutdownTest.test_context_manager_shutdown": (PROCESSES, ALWAYS),
    "ProcessPoolShutdownTest.test_del_shutdown": (PROCESSES, ALWAYS),
    "ProcessPoolShutdownTest.test_processes_terminate": (PROCESSES, ALWAYS),
    "ProcessPoolShutdownTest.test_shutdown_no_wait": (PROCESSES, ALWAYS),
}
"""Test: why it does not apply, and the version of Python with which it came."""


NEWEST_LISTED = (3, 13)
PRIVATE = re.compile(r"'Executor' object has no attribute '(_\w+)'")
PREFIX = re.compile(rb"\(\w+ pid=\d+\) ")  # of what workers print


@functools.cache
def suite():
    """Return the module or package of CPython's tests; None if the interpreter lacks it."""
    return importlib.import_module(SUITE) if importlib.util.find_spec(SUITE) else None


def part(name):
    """Return a module of the package, or the one module of old versions."""
    return importlib.import_module(f"{SUITE}.{name}") if hasattr(suite(), "__path__") else suite()


class Ours:
    executor_type = Executor

    def get_context(self):
        # There is no `ctx`: that says that there are queues of a context that children inherit.
        return multiprocessing.get_context("spawn")


class OursThatIsUp(Ours):
    def setUp(self):
        super().setUp()  # type: ignore[misc]  # of what it is mixed into
        self.executor.submit(int).result()  # these tests end before a worker could come up


@functools.cache
def on_ours(name):
    """Return a class of CPython's as a TestCase whose executor is ours."""
    cls = getattr(part(MODULE_OF[name]), name)
    mixin = part("util").ExecutorMixin
    bases = (cls,) if issubclass(cls, mixin) else (cls, mixin)
    ours = OursThatIsUp if name == "ProcessPoolShutdownTest" else Ours
    return type(name, (ours, *bases, part("util").BaseTestCase), {})


def names_of_tests():
    if suite() is None:
        return []
    names = unittest.TestLoader().getTestCaseNames
    return [f"{cls}.{each}" for cls in MODULE_OF for each in names(on_ours(cls))]


def listed():
    if suite() is None:
        return []
    return [name for name, (_, since) in NOT_APPLICABLE.items() if sys.version_info >= since]


def run(name):
    """Run one of CPython's tests; return why it has not passed, or an empty text."""
    cls, method = name.split(".")
    run_python = script_helper.assert_python_ok

    def run_with_ours(*arguments):
        """Run a script that imports an executor, which is to be ours."""
        *options, script = arguments
        script = script.replace("from concurrent.futures import", "from aioray.util import")
        code, out, err = run_python(*options, script)
        return code, PREFIX.sub(b"", out), err

    process_pool = Executor if name in MAKE_THEIR_OWN else concurrent.futures.ProcessPoolExecutor
    result = unittest.TestResult()
    with (
        mock.patch.object(part("test_shutdown"), "assert_python_ok", run_with_ours),
        mock.patch.object(concurrent.futures, "ProcessPoolExecutor", process_pool),
        contextlib.redirect_stdout(io.StringIO()),  # how long it took
    ):
        on_ours(cls)(method).run(result)
    return "\n".join(text for _, text in (*result.errors, *result.failures, *result.skipped))


@pytest.fixture(autouse=True)
def fresh():
    """Give each test a session of its own: the one that its executor starts."""
    aioray.shutdown()
    yield
    aioray.shutdown()


@pytest.mark.skipif(suite() is not None, reason="It ships the tests, which are run below.")
def test_interpreter_without_cpythons_tests_is_named():
    pytest.skip(
        f"{sys.executable} ships no {SUITE}, so CPython's own tests of executors were NOT run. "
        f"Take an interpreter that was installed with its `test` package; 3.11.7 and 3.12.1 lack "
        f"these tests by a mistake of their Makefile."
    )


@pytest.mark.parametrize("name", [name for name in names_of_tests() if name not in listed()])
def test_passes_what_cpython_tests(name):
    troubles = run(name)
    private = PRIVATE.search(troubles)
    if private and sys.version_info[:2] > NEWEST_LISTED:
        pytest.skip(f"{name} looks into `{private[1]}`, and is new: list it in NOT_APPLICABLE")
    assert not troubles
    gc.collect()  # executors that were not shut down
    for _ in support.sleeping_retry(support.SHORT_TIMEOUT, "the session has not ended"):
        if not aioray.is_initialized():
            break


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # they break off
@pytest.mark.parametrize("name", listed())
def test_what_does_not_apply_does_not_pass(name):
    assert name in names_of_tests(), "it is gone: take it off the list"
    assert run(name), "it passes: take it off the list"
