"""What a program loads before its first result, in each of its processes, counted in modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from aioray.engine.processes.boot import TemplateLauncher

LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.__stdout__)"
IMPORT = "import aioray; aioray.remote, aioray.get\n"
DECORATED = IMPORT + "f = aioray.remote(num_cpus=1)(lambda: 1)\n"
# Without a history, as its thread begins after a while, and loads more.
FIRST_RESULT = DECORATED + "aioray.init(num_cpus=1, history=0)\naioray.get(f.remote())\n"
TEMPLATE = "import aioray.worker.template\n"
IN_WORKER = FIRST_RESULT + (
    "loaded = aioray.remote(lambda: sorted(__import__('sys').modules))\n"
    "import json; print(json.dumps(aioray.get(loaded.remote())))"
)


def printed(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def bare() -> set[str]:
    """What an interpreter has loaded that has nothing to do."""
    return printed(LOADED)


# What the driver of a program with one task has no use for, and what takes long to load. What it
# does need of this, it loads while the template comes up.
BEFORE_THE_TEMPLATE = {
    "asyncio",
    "cloudpickle",
    "ctypes",
    "dataclasses",
    "difflib",
    "inspect",
    "logging",
    "traceback",
}
UNUSED = {
    "aioray.local",
    "aioray.services",
    "aioray.shared.terminal",
    "aioray.util",
    "bz2",
    "datetime",
    "difflib",
    "lzma",
    "multiprocessing",
    "shutil",
    "sqlite3",
    "tempfile",
    "unicodedata",
}


@pytest.mark.parametrize(
    ("code", "without", "at_most"),
    [
        (IMPORT, BEFORE_THE_TEMPLATE | UNUSED | {"socket", "subprocess"}, 72),
        (DECORATED, BEFORE_THE_TEMPLATE | UNUSED | {"socket", "subprocess"}, 95),
        (FIRST_RESULT, UNUSED, 335),
    ],
    ids=["import", "decorator", "first result"],
)
def test_driver_loads_no_more_than_it_needs(
    code: str, without: set[str], at_most: int, bare: set[str]
) -> None:
    loaded = printed(code + LOADED) - bare
    assert loaded & without == set()
    assert len(loaded) <= at_most, sorted(loaded)


def test_template_loads_no_more_than_workers_need(bare: set[str]) -> None:
    loaded = printed(TEMPLATE + LOADED) - bare
    assert loaded & {"asyncio", "hashlib", "ssl", "subprocess", "tempfile"} == set()
    assert len(loaded) <= 125, sorted(loaded)


def test_fresh_worker_loads_nothing_that_the_template_has_not() -> None:
    """A module that is loaded after the fork costs a megabyte: so much of its pages is copied."""
    of_the_fork = {"_posixsubprocess"}
    assert printed(IN_WORKER) - printed(TEMPLATE + LOADED) <= of_the_fork


DATACLASSES = """
import collections, dataclasses, typing
made = []
of_dataclasses, of_tuples = dataclasses._process_class, collections.namedtuple
def process(cls, *args, **kwargs):
    made.append(cls.__module__)
    return of_dataclasses(cls, *args, **kwargs)
def name(*args, module=None, **kwargs):
    made.append(module or "")
    return of_tuples(*args, module=module, **kwargs)
dataclasses._process_class, collections.namedtuple = process, name
"""


def test_no_class_is_made_before_the_first_result_in_ways_that_take_long() -> None:
    """`core.records` makes them in a tenth of the time."""
    counted = f"print({json.dumps('[]')} if not [m for m in made if m[:6] == 'aioray'] else made)"
    assert printed(DATACLASSES + FIRST_RESULT + counted) == set()


def test_template_prepares_before_there_is_an_engine(started) -> None:
    boot = TemplateLauncher((("PRELOADED", started.path),), ("tests.process.preloaded",))
    try:
        assert started.hear() == "preloaded"
    finally:
        boot.abandon()


def test_temporary_folder_is_found_without_writing_there(tmp_path) -> None:
    code = "import sys; before = 'tempfile' in sys.modules  # by a .pth file\n"
    code += "from aioray.state.folders import root_folder; print(root_folder())"
    environ = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
    environ |= {"TMPDIR": str(tmp_path), "TEMP": "", "TMP": ""}
    code += "; print(not before and 'tempfile' in sys.modules)"
    found = subprocess.check_output([sys.executable, "-c", code], env=environ, text=True)
    assert found.split() == [f"{tmp_path}/aioray-{os.getuid()}", "False"]


def test_temporary_folder_that_is_not_there_is_not_taken(tmp_path) -> None:
    code = "import tempfile; from aioray.state.folders import root_folder; print(root_folder())"
    environ = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
    environ |= {"TMPDIR": str(tmp_path / "no"), "TEMP": "", "TMP": ""}
    found = subprocess.check_output([sys.executable, "-c", code], env=environ, text=True)
    assert found.strip() == f"{tempfile.gettempdir()}/aioray-{os.getuid()}"
