"""`aioray run` against `python` itself: the same program must behave the same under both."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import aioray

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# The children use the aioray that is under test, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(aioray.__file__).parent.parent)}
AIORAY = (sys.executable, "-m", "aioray")
GUARD_SECONDS = 250


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=GUARD_SECONDS,
        )

    return run


@pytest.fixture
def both(run: Run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program by python and by aioray, compare all that can be seen, return the latter."""

    def both(*arguments: str, stderr: bool = True) -> subprocess.CompletedProcess[str]:
        expected = run(sys.executable, *arguments)
        found = run(*AIORAY, "run", *arguments)
        assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
        if stderr:
            assert found.stderr == expected.stderr
        return found

    return both


def start(*command: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


PROBE = """
    import sys
    print(sorted(globals()))
    print(__name__, __file__, __package__, globals().get("__cached__"), __doc__)
    print(type(__builtins__))
    print(type(__loader__), __spec__ and (__spec__.name, __spec__.origin))
    print(sys.argv)
    print([place for place in sys.path if not place.endswith("alias_path")])
    print(sys.modules["__main__"].__dict__ is globals())
"""


def test_script_sees_the_same_globals_argv_and_path(tmp_path: Path, both) -> None:
    write(tmp_path / "sub" / "probe.py", PROBE)
    assert "['sub/probe.py', 'a', 'b c']" in both("sub/probe.py", "a", "b c").stdout


def test_linked_script_has_the_folder_of_its_target_on_the_path(tmp_path: Path, both) -> None:
    target = write(tmp_path / "real" / "probe.py", PROBE)
    (tmp_path / "link.py").symlink_to(target)
    assert f"[{str(tmp_path / 'real')!r}" in both("link.py").stdout


@pytest.mark.parametrize(
    "arguments",
    [("-m", "x"), ("--help",), ("--version",), ("--", "-h"), ("-c", "--m=1", "-"), ("",)],
    ids=" ".join,
)
def test_whatever_follows_the_script_belongs_to_it(tmp_path: Path, both, arguments) -> None:
    write(tmp_path / "probe.py", PROBE)
    assert str(["probe.py", *arguments]) in both("probe.py", *arguments).stdout


def test_module_option_sees_the_same_globals_argv_and_path(tmp_path: Path, both) -> None:
    write(tmp_path / "pkg" / "__init__.py", "")
    write(tmp_path / "pkg" / "probe.py", PROBE)
    output = both("-m", "pkg.probe", "-m", "--help").stdout
    assert str([str(tmp_path / "pkg" / "probe.py"), "-m", "--help"]) in output


def test_module_option_runs_the_main_of_a_package(tmp_path: Path, both) -> None:
    write(tmp_path / "pkg" / "__init__.py", "")
    write(tmp_path / "pkg" / "__main__.py", PROBE)
    assert "pkg.__main__" in both("-m", "pkg").stdout


def test_directory_runs_its_main(tmp_path: Path, both) -> None:
    write(tmp_path / "app" / "__main__.py", PROBE)
    assert "['app', 'x']" in both("app", "x").stdout


def test_archive_runs_its_main(tmp_path: Path, both) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", textwrap.dedent(PROBE))
    assert "zipimporter" in both("app.zip").stdout


def test_compiled_script_runs(tmp_path: Path, both, run) -> None:
    write(tmp_path / "probe.py", PROBE)
    run(sys.executable, "-c", "import py_compile as p; p.compile('probe.py', 'compiled.pyc')")
    assert "compiled.pyc" in both("compiled.pyc").stdout


def test_module_beside_the_script_is_imported(tmp_path: Path, both) -> None:
    write(tmp_path / "sub" / "beside.py", "VALUE = 42")
    write(tmp_path / "sub" / "main.py", "import beside; print(beside.VALUE)")
    assert both("sub/main.py").stdout == "42\n"


def test_console_script_does_not_leave_its_own_folder_on_the_path(tmp_path: Path, run) -> None:
    write(tmp_path / "bin" / "aioray", "from aioray.cli import main\nmain()\n")
    write(tmp_path / "probe.py", PROBE)
    found = run(sys.executable, "bin/aioray", "run", "probe.py")
    assert found.stdout == run(sys.executable, "probe.py").stdout


def test_safe_path_is_respected(tmp_path: Path, run) -> None:
    write(tmp_path / "sub" / "probe.py", PROBE)
    command = ("sub/probe.py",)
    found = run(sys.executable, "-P", "-m", "aioray", "run", *command)
    assert found.stdout == run(sys.executable, "-P", *command).stdout


ENDINGS = {
    "last line": (0, "print('done')"),
    "sys.exit()": (0, "import sys; sys.exit()"),
    "sys.exit(3)": (3, "import sys; sys.exit(3)"),
    "sys.exit(text)": (1, "import sys; sys.exit('no luck')"),
    "sys.exit(object)": (1, "import sys; sys.exit((1, 2))"),
    "raise SystemExit": (5, "raise SystemExit(5)"),
    "os._exit": (42, "import os; os._exit(42)"),
    "exception": (1, "def f():\n    return 1 / 0\n\nf()\n"),
    "chained": (
        1,
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('x') from e",
    ),
    "group": (1, "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])"),
    "base exception": (1, "raise BaseException('odd')"),
    "notes": (1, "e = ValueError('x'); e.add_note('look here'); raise e"),
    "keyboard interrupt": (-signal.SIGINT, "raise KeyboardInterrupt"),
    "end of file": (1, "input()"),
    "syntax error": (1, "x = 1\nfoo(\n"),
    "misspelt name": (1, "import math\nmath.sqroot(2)"),
    "failing import": (1, "import nosuchmodule"),
    "atexit after a failure": (1, "import atexit; atexit.register(print, 'bye')\nraise ValueError"),
    "atexit after an interrupt": (
        -signal.SIGINT,
        "import atexit; atexit.register(print, 'bye')\nraise KeyboardInterrupt",
    ),
    "thread outlives the script": (
        0,
        """
        import sys, threading
        main = threading.main_thread()
        def late():
            main.join(); print(sys.modules['__main__'].late.__name__)
        threading.Thread(target=late).start()
        """,
    ),
    "own hook": (1, "import sys\nsys.excepthook = lambda *a: print('hook', a[1])\n1 / 0"),
    "traceback in own hook": (
        1,
        """
        import sys, traceback
        sys.excepthook = lambda kind, error, tb: traceback.print_exception(kind, error, tb)
        1 / 0
        """,
    ),
    "last_value at exit": (
        1,
        "import atexit, sys\natexit.register(lambda: print(repr(sys.last_value)))\n1 / 0",
    ),
}


@pytest.mark.parametrize(("status", "source"), ENDINGS.values(), ids=ENDINGS.keys())
def test_script_ends_as_under_python(tmp_path: Path, both, status: int, source: str) -> None:
    write(tmp_path / "script.py", source)
    assert both("script.py").returncode == status


@pytest.mark.parametrize(
    "source", ["1 / 0", "foo(\n", "import nosuchmodule"], ids=["raise", "syntax", "import"]
)
def test_module_option_prints_only_frames_of_the_program(tmp_path: Path, both, source: str) -> None:
    write(tmp_path / "script.py", source)
    found = both("-m", "script", stderr=False)
    assert found.returncode == 1
    frames = [line for line in found.stderr.splitlines() if line.startswith("  File ")]
    assert len(frames) == 1
    assert frames[0].startswith(f'  File "{tmp_path / "script.py"}", line 1')


def test_package_that_fails_above_the_module_shows_its_own_traceback(tmp_path: Path, both) -> None:
    init = write(tmp_path / "pkg" / "__init__.py", "import nosuchmodule")
    write(tmp_path / "pkg" / "script.py", "")
    assert both("-m", "pkg.script", stderr=False).stderr == textwrap.dedent(f"""\
        Traceback (most recent call last):
          File "{init}", line 1, in <module>
            import nosuchmodule
        ModuleNotFoundError: No module named 'nosuchmodule'
        """)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nosuch.py",), "can't open file '{0}/nosuch.py': [Errno 2] No such file or directory"),
        (("empty",), "can't find '__main__' module in '{0}/empty'"),
        (("-m", "nosuch"), "No module named nosuch"),
        (("-m", "nosuch.below"), "No module named nosuch.below"),
        (("-m", "json.nosuch"), "No module named json.nosuch"),
        (("-m", ".relative"), "Relative module names not supported"),
        (
            ("-m", "email"),
            "No module named email.__main__; 'email' is a package and cannot be directly executed",
        ),
        (("-m", "sys"), "No code object available for sys"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_nothing_to_run_is_one_line_and_pythons_status(
    tmp_path: Path, both, run, arguments: tuple[str, ...], text: str
) -> None:
    (tmp_path / "empty").mkdir()
    found = both(*arguments, stderr=False)
    assert found.returncode == (2 if arguments == ("nosuch.py",) else 1)
    if arguments[-1] == "nosuch.below":  # Python words this one differently
        assert found.stderr == f"aioray run: {text}\n"
        return
    said_by_python = run(sys.executable, *arguments).stderr
    assert found.stderr == f"aioray run: {text.format(tmp_path)}\n"
    assert said_by_python == f"{sys.executable}: {text.format(tmp_path)}\n"


def test_interrupt_from_outside_is_one_traceback_and_death_by_sigint(tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py",
        """\
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("started", flush=True)
        signal.pause()
        """,
    )
    with start(*AIORAY, "run", str(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.endswith("\nKeyboardInterrupt\n")
    assert "aioray" not in errors


def test_closed_pipe_ends_the_script_as_under_python(tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "while True:\n    print('x' * 1000, flush=True)\n")
    outcomes = []
    for command in ((sys.executable,), (*AIORAY, "run")):
        with start(*command, str(script)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            errors = process.stderr.read()
            outcomes.append((process.wait(GUARD_SECONDS), errors))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != 0


def test_ray_is_aioray_in_the_script(tmp_path: Path, run) -> None:
    write(
        tmp_path / "script.py",
        """
        import ray, aioray, ray.exceptions
        from ray.exceptions import RayError
        assert ray.get is aioray.get
        assert RayError is aioray.exceptions.RayError is ray.exceptions.RayError
        print("same")
        """,
    )
    assert run(*AIORAY, "run", "script.py").stdout == "same\n"


def test_installed_ray_is_not_looked_at(tmp_path: Path, run) -> None:
    write(tmp_path / "ray" / "__init__.py", "raise SystemExit('the other one')")
    write(tmp_path / "ray" / "exceptions.py", "raise SystemExit('the other one')")
    write(tmp_path / "script.py", "import ray.exceptions; print(ray.__name__)")
    found = run(*AIORAY, "run", "script.py")
    assert (found.stdout, found.stderr) == ("ray\n", "")


def test_missing_feature_is_named_under_the_scripts_own_line(tmp_path: Path, run) -> None:
    script = write(tmp_path / "script.py", "from ray import rllib\n")
    found = run(*AIORAY, "run", "script.py")
    assert found.returncode == 1
    assert f'File "{script}", line 1' in found.stderr
    reason = "ModuleNotFoundError: ray.rllib (Ray RLlib) comes with Ray itself"
    assert found.stderr.splitlines()[-1].startswith(reason)


def test_functions_of_the_script_are_pickled_by_value(tmp_path: Path, run) -> None:
    write(
        tmp_path / "script.py",
        """
        import cloudpickle, sys
        FACTOR = 3
        def triple(x):
            return FACTOR * x
        sys.stdout.write(cloudpickle.dumps(triple).hex())
        """,
    )
    pickled = run(*AIORAY, "run", "script.py").stdout
    code = f"import pickle; print(pickle.loads(bytes.fromhex({pickled!r}))(14))"
    assert run(sys.executable, "-c", code).stdout == "42\n"


def test_script_leaves_no_compiled_file_behind(tmp_path: Path, run) -> None:
    write(tmp_path / "script.py", "print('ran')")
    assert run(*AIORAY, "run", "script.py").stdout == "ran\n"
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_version_is_that_of_the_package(run) -> None:
    assert run(*AIORAY, "--version").stdout == f"aioray {aioray.__version__}\n"


@pytest.mark.parametrize("arguments", [("run",), ("run", "--nosuch", "x.py"), ("nosuch",)])
def test_wrong_command_line_is_explained_with_status_2(run, arguments: tuple[str, ...]) -> None:
    found = run(*AIORAY, *arguments)
    assert found.returncode == 2
    assert "Usage: " in found.stderr
    assert "Traceback" not in found.stderr


def test_no_command_at_all_shows_the_help(run) -> None:
    found = run(*AIORAY)
    assert found.returncode in (0, 2)  # before click 8.2, and since
    assert found.stdout + found.stderr == run(*AIORAY, "--help").stdout


def test_help_lists_the_commands(run) -> None:
    found = run(*AIORAY, "--help")
    assert found.returncode == 0
    assert "  run  " in found.stdout


# --- programs given as text ---------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("x",), ("-c", "--", "-"), ("--help",)], ids=" ".join)
def test_code_sees_the_same_globals_argv_and_path(both, arguments) -> None:
    probe = textwrap.dedent(PROBE).replace("__file__, ", "")
    assert str(["-c", *arguments]) in both("-c", probe, *arguments).stdout


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import sys; sys.exit('bye')", "1/0", "x =", ""]
)
def test_code_ends_as_under_python(both, code: str) -> None:
    both("-c", code, stderr=sys.version_info < (3, 13))  # since then Python shows the source line


def test_standard_input_is_a_program(tmp_path: Path) -> None:
    probe = textwrap.dedent(PROBE) + "def f(): pass\nprint(f.__code__.co_filename)\n"
    found = [
        subprocess.run(
            [*command, "-", "a", "-b"],
            capture_output=True,
            check=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
            input=probe,
            text=True,
            timeout=GUARD_SECONDS,
        )
        for command in ((sys.executable,), (*AIORAY, "run"))
    ]
    assert found[0].stdout == found[1].stdout
    assert "['-', 'a', '-b']" in found[0].stdout


def test_functions_of_code_can_be_tasks(run) -> None:
    code = "import ray\n@ray.remote\ndef f(): return ray.__name__\nprint(ray.get(f.remote()))"
    assert run(*AIORAY, "run", "-c", code).stdout == "ray\n"


def test_code_and_module_together_are_refused(run) -> None:
    found = run(*AIORAY, "run", "-m", "-c", "1")
    assert found.returncode == 2
    assert "give one" in found.stderr


# --- Ray's commands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("start", "--head", "--port=6379"), "needs a Ray cluster; .* begins in the program"),
        (("job", "submit", "--", "python", "x.py"), "needs a Ray cluster"),
        (("up", "-y", "cluster.yaml", "--help"), "needs a Ray cluster"),
        (("serve", "deploy"), "comes with Ray itself"),
    ],
)
def test_command_of_ray_says_why_it_is_not_there(run, arguments, text: str) -> None:
    found = run(*AIORAY, *arguments)
    assert (found.returncode, found.stdout) == (1, "")
    assert re.match(rf"Error: `.*aioray {arguments[0]}` \(.*\) {text}", found.stderr)


def test_there_is_nothing_to_stop_and_that_is_no_error(run) -> None:
    found = run(*AIORAY, "stop", "--force")
    assert found.returncode == 0
    assert "nothing to stop" in found.stderr


# --- the alias of an environment ----------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A Python environment of its own, in which the aioray that is tested can be imported."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    needed = [str(Path(importlib.util.find_spec(name).origin).parent.parent) for name in NEEDED]
    (packages / "needed.pth").write_text("\n".join([ENVIRONMENT["PYTHONPATH"], *needed]))
    return folder


NEEDED = ("click", "cloudpickle", "setproctitle", "uvloop")


def test_alias_is_installed_for_an_environment_and_removed(environment: Path) -> None:
    def run(*command: str, **told: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin" / command[0], *command[1:]],
            capture_output=True,
            check=False,
            cwd=environment,
            env={**os.environ, **told},
            text=True,
            timeout=GUARD_SECONDS,
        )

    def files() -> set[Path]:
        return {path for path in environment.rglob("*") if "__pycache__" not in path.parts}

    alias = ("python", "-m", "aioray", "alias")
    before = files()
    assert "not installed" in run(*alias, "uninstall").stdout
    for _ in range(2):
        assert "from now on" in run(*alias, "install").stdout
    code = "import ray, importlib.metadata as m; print(ray.get.__module__, m.version('ray'))"
    assert run("python", "-c", code).stdout == "aioray.api.objects 2.60.0\n"
    assert run("ray", "--version").stdout == "ray, version 2.60.0\n"
    assert "`ray start`" in run("ray", "start").stderr
    run(*alias, "install", AIORAY_RAY_VERSION="2.58.0")
    assert [path.name for path in files() if path.name.startswith("ray-")] == [
        "ray-2.58.0.dist-info"
    ]
    told = f"{code}; print(ray.__version__)"
    assert run("python", "-c", told).stdout == "aioray.api.objects 2.58.0\n2.58.0\n"
    unaware = "import importlib.metadata as m; print(m.version('ray'))"
    assert run("python", "-c", unaware).stdout == "2.58.0\n"
    assert "was removed" in run(*alias, "uninstall").stdout
    assert files() == before

    other = next(environment.glob("lib/python*/site-packages")) / "ray"
    for path, content in ((environment / "bin" / "ray", "mine"), (other / "__init__.py", "")):
        write(path, content)
        refused = run(*alias, "install")
        assert refused.returncode == 1
        assert "another ray in this environment" in refused.stderr
        assert path.read_text() == content
        path.unlink()
