"""Runtime environments: what workers find in them, who shares them, and how they fail."""

from __future__ import annotations

import functools
import importlib
import json
import os
import select
import signal
import sys
import threading
import zipfile

import psutil
import pytest

import aioray
from aioray.core import starts as starts_module
from aioray.engine.processes import setup as setting_up  # pytest has its own meaning of `setup`
from aioray.exceptions import ActorDiedError, RayTaskError, RuntimeEnvSetupError, WorkerCrashedError
from aioray.options.runtime_env import RuntimeEnv

from . import hooks, jobs, yielding
from .support import GUARD, everywhere
from .test_errors import error_of

where = aioray.remote(hooks.where)
value_of = aioray.remote(hooks.value_of)
marks = aioray.remote(hooks.marks)
environment = aioray.remote(hooks.environment)
threads = aioray.remote(hooks.threads)
pid = aioray.remote(jobs.pid)
same = aioray.remote(jobs.same)

LOCK = threading.Lock()  # cannot be pickled


def in_env(function, config=None, **fields):
    """The function in a runtime environment of these fields."""
    if config is not None:
        fields["config"] = config
    return function.options(runtime_env=fields)


def hooked(function, hook, *args, **fields):
    """The function in workers that have run this hook."""
    run = functools.partial(hook, *args) if args else hook
    return in_env(function, worker_process_setup_hook=run, **fields)


@pytest.fixture
def no_pause(monkeypatch):
    """An environment that has failed is tried again at once."""
    monkeypatch.setattr(starts_module, "BROKEN_SECONDS", 0.0)


# --- working_dir -------------------------------------------------------------------------------


@everywhere
async def test_working_dir_is_the_current_directory_and_first_on_the_path(tmp_path):
    before = os.getcwd()
    found = await in_env(where, working_dir=tmp_path).remote()
    assert (found[0], found[1][0], found[2]) == (str(tmp_path), str(tmp_path), str(tmp_path))
    assert (await where.remote())[0] == before
    assert os.getcwd() == before


@everywhere
async def test_working_dir_is_used_in_place(tmp_path):
    (tmp_path / "inplace.py").write_text("VALUE = 'from there'")
    assert await in_env(value_of, working_dir=tmp_path).remote("inplace") == "from there"
    await in_env(aioray.remote(hooks.write), working_dir=tmp_path).remote("result.txt", "42")
    assert (tmp_path / "result.txt").read_text() == "42"


def test_working_dir_of_the_session_holds_unless_a_task_has_its_own(tmp_path):
    (tmp_path / "own").mkdir()
    aioray.init(num_cpus=2, runtime_env={"working_dir": str(tmp_path), "env_vars": {"A": "1"}})
    try:
        assert aioray.get(where.remote())[0] == str(tmp_path)
        own = in_env(where, working_dir=tmp_path / "own")
        assert aioray.get(own.remote())[0] == str(tmp_path / "own")
        variable = in_env(aioray.remote(jobs.variable), working_dir=tmp_path / "own")
        assert aioray.get(variable.remote("A")) == "1"
    finally:
        aioray.shutdown()


def test_relative_place_for_imports_is_the_drivers_in_any_working_dir(drive, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "besides.py").write_text("VALUE = 'found'")
    (tmp_path / "elsewhere").mkdir()
    driver = drive(
        "import os, sys; os.chdir(sys.argv[1]); sys.path.append('src')\n"
        "import aioray\n"
        "@aioray.remote(runtime_env={'working_dir': 'elsewhere'})\n"
        "def value(): import besides; return besides.VALUE, 'src' in sys.path\n"
        "print(aioray.get(value.remote()))",
        tmp_path,
    )
    assert driver.finish() == (0, "('found', False)\n", "")


# --- py_modules --------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path):
    """A package, a module and a wheel, of which no process knows."""
    (tmp_path / "a" / "pack").mkdir(parents=True)
    (tmp_path / "a" / "pack" / "__init__.py").write_text("VALUE = 'a package'")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "lonely.py").write_text("VALUE = 'a module'")
    with zipfile.ZipFile(tmp_path / "wheel-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wheeled/__init__.py", "VALUE = 'a wheel'")
    return [
        str(tmp_path / "a" / "pack"),
        str(tmp_path / "b" / "lonely.py"),
        str(tmp_path / "wheel-1-py3-none-any.whl"),
    ]


@everywhere
async def test_py_modules_can_be_imported(modules):
    there = in_env(value_of, py_modules=modules)
    assert await there.remote("pack") == "a package"
    assert await there.remote("lonely") == "a module"
    assert await there.remote("wheeled") == "a wheel"
    assert isinstance(await error_of(value_of.remote("pack")), ModuleNotFoundError)


@everywhere
async def test_working_dir_comes_before_py_modules_and_those_in_order(modules, tmp_path):
    both = in_env(where, py_modules=modules[:2], working_dir=tmp_path)
    _, places, of_an_interpreter = await both.remote()
    assert places == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "b")]
    assert of_an_interpreter == str(tmp_path)


@everywhere
async def test_imported_module_can_be_imported_in_workers(modules, monkeypatch):
    """The driver finds it by what it has put on its path after the workers' was settled."""
    monkeypatch.syspath_prepend(os.path.dirname(modules[0]))
    pack = importlib.import_module("pack")
    try:
        assert await in_env(value_of, py_modules=[pack]).remote("pack") == "a package"
    finally:
        del sys.modules["pack"]


# --- worker_process_setup_hook -----------------------------------------------------------------


@everywhere
async def test_hook_runs_once_in_the_environment_before_the_first_task(tmp_path):
    settings = {"working_dir": tmp_path, "env_vars": {"AIORAY_TEST_A": "a"}}
    there = hooked(marks, hooks.mark, **settings)
    (first,) = await there.remote()
    assert first[1:] == (str(tmp_path), str(tmp_path), "a")
    assert await there.remote() == [first]
    assert await hooked(pid, hooks.mark, **settings).remote() == first[0]
    assert await marks.remote() == []


@everywhere(runtime_env={"worker_process_setup_hook": "tests.process.hooks.mark"})
async def test_hook_of_the_session_by_name_runs_in_every_worker():
    (here,) = await marks.remote()
    (there,) = await in_env(marks, env_vars={"AIORAY_TEST_A": "task"}).remote()
    assert here[0] != there[0]
    assert (here[3], there[3]) == (None, "task")


def test_hook_may_be_defined_in_the_script(drive):
    driver = drive(
        "import aioray, os\n"
        "def helper(): os.environ['FROM_HOOK'] = 'yes'\n"
        "def hook(): helper()\n"
        "@aioray.remote\n"
        "def look(): return os.environ['FROM_HOOK']\n"
        "aioray.init(num_cpus=1, runtime_env={'worker_process_setup_hook': hook})\n"
        "print(aioray.get(look.remote()))"
    )
    assert driver.finish() == (0, "yes\n", "")


def test_hook_is_heard_when_it_prints(drive):
    driver = drive(
        "import aioray\n"
        "from tests.process import hooks, jobs\n"
        "env = {'worker_process_setup_hook': hooks.speak}\n"
        "aioray.get(aioray.remote(runtime_env=env)(jobs.pid).remote())\n"
        "aioray.shutdown()"
    )
    status, out, err = driver.finish()
    assert (status, err) == (0, "")
    assert out.endswith(") the hook speaks\n")


@everywhere
async def test_hook_cannot_take_the_interrupt_away(started):
    ref = hooked(aioray.remote(jobs.sleep), hooks.ignore_interrupts).remote(started.path)
    await started.heard()
    assert await aioray.cancel(ref) is aioray.CancelOutcome.INTERRUPTED


@everywhere
async def test_hook_that_holds_a_ref_is_refused_at_the_call():
    ref = aioray.put(1)
    with pytest.raises(ValueError, match="must not hold a ref"):
        hooked(same, lambda: ref).remote(1)


# --- who shares --------------------------------------------------------------------------------


@everywhere
async def test_equal_environments_share_a_worker_and_others_do_not(tmp_path):
    first = await in_env(pid, working_dir=tmp_path, env_vars={"A": "1", "B": "2"}).remote()
    equal = RuntimeEnv(env_vars={"B": "2", "A": "1"}, working_dir=str(tmp_path))
    assert await pid.options(runtime_env=equal).remote() == first
    others = [
        in_env(pid, working_dir=tmp_path),
        in_env(pid, env_vars={"A": "1", "B": "2"}),
        in_env(pid, working_dir=tmp_path, env_vars={"A": "1", "B": "2"}, excludes=["x"]),
        hooked(pid, hooks.mark, working_dir=tmp_path, env_vars={"A": "1", "B": "2"}),
        pid,
    ]
    pids = [await other.remote() for other in others]
    assert len({first, *pids}) == len(others) + 1


def test_idle_workers_of_unneeded_environments_are_stopped(session, watch):
    # One after the other, so that the last are idle last.
    pids = [aioray.get(in_env(pid, env_vars={"N": str(n)}).remote()) for n in range(6)]
    workers = watch(*pids)
    poll = select.poll()
    for fd in workers.fds.values():
        poll.register(fd, select.POLLIN)
    for _ in range(len(workers.fds) - 2):  # as many as there are CPUs are kept
        ((fd, _), *_) = poll.poll(1000 * GUARD)
        poll.unregister(fd)
    kept = aioray.get([in_env(pid, env_vars={"N": str(n)}).remote() for n in (4, 5)])
    assert kept == pids[4:]


# --- what is told ------------------------------------------------------------------------------


@everywhere(runtime_env={"env_vars": {"AIORAY_TEST_A": "1"}, "config": {"eager_install": False}})
async def test_runtime_context_tells_the_whole_environment(tmp_path):
    session = {"env_vars": {"AIORAY_TEST_A": "1"}, "config": {"eager_install": False}}
    assert hooks.environment() == (session, json.dumps(session, sort_keys=True))
    assert await environment.remote() == hooks.environment()
    asked = {"working_dir": tmp_path, "excludes": ["x"], "env_vars": {"AIORAY_TEST_B": "2"}}
    env, text = await hooked(environment, hooks.mark, **asked).remote()
    assert type(env) is RuntimeEnv
    assert env == {
        **session,
        "env_vars": {"AIORAY_TEST_A": "1", "AIORAY_TEST_B": "2"},
        "excludes": ["x"],
        "worker_process_setup_hook": "tests.process.hooks.mark",
        "working_dir": str(tmp_path),
    }
    assert json.loads(text) == env


@everywhere
async def test_runtime_context_tells_an_empty_environment():
    assert await environment.remote() == hooks.environment() == ({}, "{}")


# --- what fails --------------------------------------------------------------------------------


@everywhere
async def test_directory_that_has_vanished_fails_tasks_until_it_is_back(tmp_path, no_pause):
    place = tmp_path / "place"
    place.mkdir()
    there = in_env(where, working_dir=place)
    place.rmdir()
    for _ in range(2):
        error = await error_of(there.remote())
        assert type(error) is RuntimeEnvSetupError
        assert f"working_dir cannot be used: No such file or directory: '{place}'" in str(error)
        assert type(error.__cause__) is FileNotFoundError
        assert (error.attempts, error.__cause__.filename) == ((), str(place))
    place.mkdir()
    assert (await there.remote())[0] == str(place)


@everywhere
async def test_module_that_has_vanished_fails_tasks(modules):
    there = in_env(value_of, py_modules=modules[:2])
    os.unlink(modules[1])
    error = await error_of(there.remote("pack"))
    assert f"py_modules cannot be used: No such file or directory: '{modules[1]}'" in str(error)


@everywhere
async def test_hook_that_raises_ends_an_actor(notes):
    actor = hooked(aioray.remote(yielding.Failing), hooks.fail, notes).remote()
    error = await error_of(actor.__ray_ready__.remote())
    assert type(error) is ActorDiedError
    assert "Failed to execute the setup hook method" in str(error)
    assert type(error.__cause__) is hooks.OutOfOrderError


@everywhere
async def test_hook_that_raises_fails_every_dependent_and_is_not_run_again(notes):
    broken = hooked(same, hooks.fail, notes)
    ref = broken.remote(1)
    dependent = same.remote(ref)
    later = same.remote(dependent)
    error = await error_of(ref)
    assert type(error) is RuntimeEnvSetupError
    assert type(error.__cause__) is hooks.OutOfOrderError
    assert str(error.__cause__) == "no database"
    for text in ("Task same has no worker", "hooks.py", "in fail", "OutOfOrderError: no database"):
        assert text in str(error)
    assert "Failed to execute the setup hook method" in str(error)
    assert str(error).endswith("It wrote to stderr:\nabout to fail")
    for each in (dependent, later):
        error = await error_of(each)
        assert isinstance(error, RuntimeEnvSetupError)
        assert isinstance(error, RayTaskError)
    assert await same.remote(2) == 2
    assert await in_env(same, env_vars={"A": "1"}).remote(3) == 3
    assert isinstance(await error_of(broken.remote(4)), RuntimeEnvSetupError)
    assert len(jobs.notes(notes)) == 1  # the last one came within the pause


@everywhere
async def test_hook_that_works_again_is_found_out(notes, no_pause):
    flaky = hooked(same, hooks.fail_once, notes)
    assert isinstance(await error_of(flaky.remote(1)), RuntimeEnvSetupError)
    assert await flaky.remote(2) == 2
    assert len(jobs.notes(notes)) == 2


@everywhere
async def test_hook_of_unknown_name_fails_tasks():
    for name, cause in (("nowhere.f", ModuleNotFoundError), ("os.f", AttributeError)):
        error = await error_of(in_env(same, worker_process_setup_hook=name).remote(1))
        assert type(error) is RuntimeEnvSetupError
        assert type(error.__cause__) is cause


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("sys.exit", "SystemExit: 3"),
        ("_exit", "The set-up did not end: the worker exited with code 3."),
        ("SIGKILL", "The set-up did not end: the worker died of SIGKILL."),
    ],
)
@everywhere
async def test_hook_that_ends_the_process_fails_tasks(how, told):
    error = await error_of(hooked(same, hooks.end, how).remote(1))
    assert type(error) is RuntimeEnvSetupError
    assert told in str(error)
    assert str(error).endswith("It wrote to stderr:\nabout to end")
    assert await same.remote(2) == 2


@everywhere
async def test_hook_that_takes_too_long_fails_tasks_and_tells_where_it_was(started, watch):
    ref = hooked(same, hooks.hang, started.path, config={"setup_timeout_seconds": 4}).remote(1)
    worker = watch(int(await started.heard()))
    error = await error_of(ref)
    assert type(error) is RuntimeEnvSetupError
    assert "had not ended after 4 seconds" in str(error)
    assert "in hang" in str(error)
    assert worker.survivors() == []
    assert await same.remote(2) == 2


@everywhere
async def test_hook_that_does_not_listen_is_killed(started, monkeypatch):
    monkeypatch.setattr(setting_up, "ABORT_SECONDS", 0.05)
    config = {"setup_timeout_seconds": 4}
    ref = hooked(same, hooks.hang_stubbornly, started.path, config=config).remote(1)
    await started.heard()
    assert "had not ended after 4 seconds" in str(await error_of(ref))


@everywhere
async def test_hook_may_take_its_time(started, gate):
    config = {"setup_timeout_seconds": -1}
    ref = hooked(same, hooks.wait, started.path, gate.path, config=config).remote(1)
    await started.heard()
    assert await same.remote(2) == 2  # meanwhile
    gate.tell()
    assert await ref == 1


@everywhere
async def test_death_of_the_template_is_not_the_environments_fault(started, gate):
    """1. The hook waits. 2. The template is killed, and with it the worker. 3. Another begins."""
    ref = hooked(same, hooks.wait, started.path, gate.path).remote(1)
    worker = int(await started.heard())
    os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
    assert int(await started.heard()) != worker
    gate.tell()
    assert await ref == 1


@everywhere
async def test_crash_after_the_set_up_is_not_the_environments_fault(notes):
    victim = hooked(aioray.remote(max_retries=1)(jobs.die), hooks.mark)
    error = await error_of(victim.remote("_exit 42", notes))
    assert type(error) is WorkerCrashedError
    assert len(jobs.notes(notes)) == 2


@everywhere
async def test_shutdown_does_not_wait_for_a_hook(started):
    hooked(same, hooks.hang, started.path).remote(1)
    await started.heard()
    # Here the session ends; the fixture looks who is left.


@pytest.mark.parametrize(
    ("env", "error", "told"),
    [
        ({"working_dir": "/no/such/place"}, ValueError, "must be an existing directory"),
        ({"py_modules": ["/no/such/place"]}, ValueError, "must hold existing"),
        (
            {"worker_process_setup_hook": lambda: LOCK},
            RuntimeEnvSetupError,
            "Could not serialize .*hook",
        ),
    ],
)
def test_bad_environment_of_a_session_is_refused_by_init(env, error, told):
    with pytest.raises(error, match=told):
        aioray.init(num_cpus=1, runtime_env=env)
    assert not aioray.is_initialized()
    with pytest.raises(error, match=told):
        aioray.Engine(num_cpus=1, runtime_env=env)


# --- OMP_NUM_THREADS ---------------------------------------------------------------------------


@pytest.fixture
def threads_unset(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_threads_are_the_cpus_that_each_task_has_reserved(threads_unset, drive):
    """In a process of its own, in which no library has read or set the variable."""
    driver = drive(
        "import os, aioray\n"
        "from tests.process import hooks\n"
        "os.environ.pop('OMP_NUM_THREADS', None)\n"
        "aioray.init(num_cpus=4)\n"
        "threads = aioray.remote(hooks.threads)\n"
        "for cpus in (1, 3, 2.5, 0.5, 0, 4, 1):\n"
        "    print(aioray.get(threads.options(num_cpus=cpus).remote())[1], end=' ')\n"
        "print(os.environ.get('OMP_NUM_THREADS'))"
    )
    assert driver.finish() == (0, "1 3 2 1 1 4 1 None\n", "")


@pytest.mark.parametrize("where_set", ["driver", "session", "task"])
def test_threads_that_the_user_has_set_stay(where_set, threads_unset, monkeypatch):
    env = {"env_vars": {"OMP_NUM_THREADS": "5"}}
    if where_set == "driver":
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
    aioray.init(num_cpus=4, runtime_env=env if where_set == "session" else None)
    try:
        given = threads.options(num_cpus=2, runtime_env=env if where_set == "task" else None)
        assert aioray.get(given.remote())[1] == "5"
    finally:
        aioray.shutdown()


def test_threads_that_a_hook_or_a_task_has_set_stay_in_that_worker(threads_unset):
    aioray.init(num_cpus=2)
    try:
        given = hooked(threads, hooks.set_threads, env_vars={"A": "1"})
        assert aioray.get(given.remote())[1] == "7"
        aioray.get(aioray.remote(hooks.replace_threads).remote("6"))
        worker, number = aioray.get(threads.options(num_cpus=2).remote())
        assert number == "6"
        assert aioray.get(pid.remote()) == worker
    finally:
        aioray.shutdown()
