"""What holds for all tests: folders of sessions apart from those of whoever runs them, and no
limits that depend on how busy the machine is."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

# All runs of the tests see the same examples. `--hypothesis-profile=long` takes many, and others
# each time: see `tests.shared.fuzzing`.
hypothesis.settings.register_profile(
    "aioray",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "long",
    hypothesis.settings.get_profile("aioray"),
    derandomize=False,
    max_examples=2_000,
    print_blob=True,
)
hypothesis.settings.load_profile("aioray")

HERE = Path(__file__).parent
SLOW = [
    HERE / name
    for name in (
        "conformance",
        "core/test_simulation.py",
        "process",
        "cli/test_commands.py",
        "house/test_benchmarks.py",
        "cli/test_run.py",
        "house/test_programs.py",
        "house/test_snippets.py",
        "simulate",
        "util/test_executor_of_cpython.py",
    )
]
"""What `--fast` leaves out: whole programs, most of whose time is that of their processes."""

_VARIABLE = "RAY_TMPDIR"
_made = pytest.StashKey[str]()


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="leave out tests that run whole programs")


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("--fast") and collection_path in SLOW else None


def pytest_configure(config):
    moved = [str(path) for path in SLOW if not path.exists()]
    if moved:
        raise pytest.UsageError(f"SLOW in {__file__} names what is not there: {moved}")
    # A runner in the background, or below `nohup`, ignores Ctrl-C; so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Before tests are imported, some of which note the environment. Those who run tests beside
    # this process are started by it, and have the variable from here.
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = config.stash[_made] = tempfile.mkdtemp(prefix="aioray-tests-")


def pytest_collection_finish():
    # What was loaded stays; tests that run the collector then need not wait until it has seen that.
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    folder = config.stash.get(_made, None)
    if folder is not None:
        del os.environ[_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)
