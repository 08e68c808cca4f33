"""The fixtures for pytest, as programs have them: each test runs pytest on a file of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

import aioray

PLUGIN = ("-p", "no:aioray", "-p", "aioray.testing.plugin")  # also where it is not installed
HEAD = """
import asyncio
import subprocess
import sys
import time

import anyio
import pytest

import aioray

@aioray.remote
def double(x):
    return 2 * x

@aioray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds
"""


def run(folder: Path, source: str, *options: str, ini: str = "") -> tuple[str, dict[str, int]]:
    """Run pytest on a file with this source; what it has said, and the counts of outcomes."""
    (folder / "test_it.py").write_text(HEAD + textwrap.dedent(source))
    (folder / "pytest.ini").write_text(f"[pytest]\n{textwrap.dedent(ini)}")
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *PLUGIN, *options)
    shown_whole = ("CI", "BUILD_NUMBER")  # there the summary repeats what was said above it
    apart = ("PYTEST_", "COV_")
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in shown_whole and not name.startswith(apart)
    }
    environ["PYTHONPATH"] = str(Path(aioray.__file__).parent.parent)
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environ, check=False
    )
    output = done.stdout + done.stderr
    last = [line for line in done.stdout.splitlines() if " in " in line][-1:]
    counts = {
        what.rstrip("s"): int(count) for count, what in re.findall(r"(\d+) ([a-z]+)", "".join(last))
    }
    return output, counts


def check(folder: Path, source: str, *options: str, ini: str = "", **expected: int) -> str:
    output, counts = run(folder, source, *options, ini=ini)
    assert {what: counts.get(what, 0) for what in expected} == expected, output
    return output


def test_the_engine_is_real_and_ends_with_the_test(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        import os

        @aioray.remote
        def pid():
            return os.getpid()

        sessions = []

        def test_blocking(aioray_engine):
            assert aioray.get(pid.remote()) in aioray_engine.pids()
            sessions.append(aioray_engine.session)

        @pytest.mark.asyncio
        async def test_awaiting(aioray_engine):
            assert await double.remote(2) == 4
            sessions.append(aioray_engine.session)

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_with_anyio(aioray_engine, anyio_backend):
            assert await double.remote(2) == 4

        @pytest.mark.aioray(num_cpus=7)
        def test_settings(aioray_engine):
            assert aioray.cluster_resources()["CPU"] == 7

        def test_each_has_its_own():
            assert len(set(sessions)) == 2
            assert not aioray.is_initialized()
        """,
        passed=5,
        failed=0,
        error=0,
    )


@pytest.mark.parametrize("how", ["marker", "ini"])
def test_one_engine_may_serve_all_tests(tmp_path: Path, how: str) -> None:
    mark = '@pytest.mark.aioray(scope="session")' if how == "marker" else ""
    check(
        tmp_path,
        f"""
        sessions = []

        {mark}
        def test_one(aioray_engine):
            sessions.append(aioray_engine.session)

        {mark}
        def test_two(aioray_engine):
            sessions.append(aioray_engine.session)
            assert len(set(sessions)) == 1

        def test_local_between(aioray_local):
            assert aioray.get(double.remote(1)) == 2
            assert aioray_local.pids() == []

        {mark}
        def test_three(aioray_engine):
            assert aioray.get(double.remote(1)) == 2
        """,
        ini="aioray_engine_scope = session" if how == "ini" else "",
        passed=4,
        failed=0,
        error=0,
    )


def test_virtual_time_under_both_plugins_and_without(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        def test_plain(aioray_virtual):
            assert aioray.get(nap.remote(3600)) == 3600
            assert aioray_virtual.clock.elapsed == 3600

        @pytest.mark.asyncio
        async def test_asyncio(aioray_virtual):
            await asyncio.sleep(100)
            assert await nap.remote(3600) == 3600
            assert aioray_virtual.clock.elapsed == 3700

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_anyio(aioray_virtual, anyio_backend):
            with anyio.move_on_after(5) as scope:
                await nap.remote(3600)
            assert scope.cancelled_caught
            assert aioray_virtual.clock.elapsed == 5

        class TestClass:
            @pytest.mark.asyncio
            @pytest.mark.aioray(num_cpus=1, seed=3)
            async def test_method(self, aioray_virtual):
                await asyncio.gather(nap.remote(5), nap.remote(5))
                assert aioray_virtual.clock.elapsed == 10
                assert aioray_virtual.seed == 3

        @pytest.mark.asyncio
        async def test_failing(aioray_virtual):
            assert await double.remote(1) == 3
        """,
        passed=4,
        failed=1,
        error=0,
    )


def test_faults_tell_their_seed_and_take_one(tmp_path: Path) -> None:
    source = """
        def test_it(aioray_virtual, aioray_faults):
            aioray_faults(crash_at=0.5)
            aioray_faults(refuse_start=1, seed=5)
            aioray.get([double.options(max_retries=-1).remote(i) for i in range(9)])
            assert False, "as ordered"
        """
    output = check(tmp_path, source, failed=1, error=0)
    assert "aioray faults" in output
    assert "with seed=5" in output
    (seed,) = set(re.findall(r"with seed=(\d+)", output)) - {"5"}
    crashes = re.findall("crash_at: .*", output)
    assert crashes
    again = check(tmp_path, source, f"--aioray-seed={seed}", failed=1)
    assert re.findall("crash_at: .*", again) == crashes


@pytest.mark.parametrize("fixture", ["aioray_engine", "aioray_local", "aioray_virtual"])
def test_refs_that_are_left_fail_the_test_and_are_named(tmp_path: Path, fixture: str) -> None:
    output = check(
        tmp_path,
        """
        class Keeper:
            pass

        keeper = Keeper()
        kept = []

        @aioray.remote
        class Shop:
            pass

        def test_leaving(FIXTURE):
            keeper.ref = double.remote(1)
            aioray.get(keeper.ref)

        def test_keeping_a_handle(FIXTURE):
            kept.append(Shop.remote())

        @pytest.mark.asyncio
        async def test_leaving_in_a_coroutine(FIXTURE):
            kept.append(double.remote(1))
            await kept[-1]

        @pytest.mark.aioray(leak_check=False)
        def test_that_may(FIXTURE):
            kept.append(aioray.put(1))

        def test_leaving_nothing(FIXTURE):
            ref = double.remote(1)
            assert aioray.get(ref) == 2

        def test_failing(FIXTURE):
            ref = double.remote(1)
            assert aioray.get(ref) == 3
        """.replace("FIXTURE", fixture),
        passed=5,
        failed=1,
        error=3,
    )
    assert output.count("has left things of aioray behind") == 3
    assert "a result of double" in output
    assert "a handle of the actor Shop" in output


def test_processes_and_tasks_that_are_left_are_named(tmp_path: Path) -> None:
    output = check(
        tmp_path,
        """
        def test_leaving_a_process(aioray_engine):
            aioray.get(double.remote(1))
            global child
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

        def test_the_process_ends():
            child.kill()
            child.wait()

        @pytest.mark.aioray(scope="session")
        def test_leaving_a_task(aioray_engine):
            nap.remote(600)
        """,
        passed=3,
        error=2,
    )
    assert "time.sleep(600)" in output
    assert "task nap has not ended" in output


def test_wrong_markers_and_sessions_are_told(tmp_path: Path) -> None:
    output = check(
        tmp_path,
        """
        @pytest.mark.aioray(scope="module")
        def test_scope(aioray_engine):
            pass

        @pytest.mark.aioray("session")
        def test_positional(aioray_engine):
            pass

        @pytest.mark.aioray(num_cpu=1)
        def test_setting(aioray_engine):
            pass

        def test_two(aioray_engine, aioray_local):
            pass
        """,
        passed=0,
        error=4,
    )
    assert "not 'module'" in output
    assert "takes keywords only" in output
    assert "num_cpu" in output
    assert "An aioray session runs already" in output


def test_it_works_under_xdist(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        @pytest.mark.parametrize("n", range(4))
        @pytest.mark.aioray(scope="session")
        def test_it(aioray_engine, n):
            assert aioray.get(double.remote(n)) == 2 * n
        """,
        "-n2",
        passed=4,
        failed=0,
        error=0,
    )


def test_it_loads_nothing_unless_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n"
        "def test_light():\n"
        "    loaded = {name for name in sys.modules if name.startswith('aioray')}\n"
        "    assert loaded == {'aioray', 'aioray.testing', 'aioray.testing.plugin'}\n"
        "    assert not {'cloudpickle', 'rich', 'click', 'sqlite3'} & set(sys.modules)\n"
    )
    done: Any = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN, "test_light.py"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(aioray.__file__).parent.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_pytest_finds_it_by_its_entry_point() -> None:
    project = tomllib.loads((Path(aioray.__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"aioray": "aioray.testing.plugin"}


def test_modules_of_aioray_are_loaded_as_they_are(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        from importlib.machinery import SourceFileLoader

        def test_loaders():
            ours = [sys.modules[name] for name in sys.modules if f"{name}.".startswith("aioray.")]
            assert len(ours) > 5
            before = ("aioray", "aioray.testing", "aioray.testing.plugin")  # they say so
            late = [each for each in ours if each.__name__ not in before]
            assert {type(each.__spec__.loader) for each in late} == {SourceFileLoader}
        """,
        passed=1,
        failed=0,
    )
