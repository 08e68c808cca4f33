"""What `runtime_env` may say, wherever it is given, and which environments are the same."""

from __future__ import annotations

import copy
import functools
import importlib.machinery
import json
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

import aioray
from aioray.client.environments import WorkerEnvironment, extend, needs_setup, setup_seconds
from aioray.core.model import Environment
from aioray.exceptions import RuntimeEnvSetupError, UnsupportedFeatureError
from aioray.options import runtime_env as module
from aioray.options.runtime_env import RuntimeEnv, RuntimeEnvConfig
from aioray.options.task import parse_init_options, parse_task_options
from aioray.shared import serialization

PARSERS = {
    "task": lambda env: (
        parse_task_options({"runtime_env": env}, base=None, is_generator=False).runtime_env
    ),
    "init": lambda env: parse_init_options(None, {"runtime_env": env}, environ={}).runtime_env,
    "class": lambda env: RuntimeEnv(**env),
}


@pytest.fixture(params=PARSERS)
def parse(request) -> Any:
    return PARSERS[request.param]


def hook() -> None:
    """Do nothing."""


async def coroutine_hook() -> None:
    """Do nothing, later."""


class Hook:
    """Is called."""

    def __call__(self) -> None: ...


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with a package, a module, a wheel and others in it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "single.py").write_text("NAME = 'single'\n")
    (tmp_path / "data.zip").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "broken.whl").touch()
    for name, content in (("pure", "pure.py"), ("compiled", "fast.cpython-311-x86_64.so")):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(content, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- fields ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("working_dir", ".", "."),
        ("working_dir", "package", "package"),
        ("working_dir", Path("package/..//package"), "package"),
        ("py_modules", [], []),
        ("py_modules", ["package", Path("single.py")], ["package", "single.py"]),
        ("py_modules", (".", "pure.whl"), [".", "pure.whl"]),
    ],
)
def test_paths_become_absolute(place, parse: Any, name: str, value: Any, kept: Any) -> None:
    def absolute(path: str) -> str:
        return os.path.normpath(place / path)

    expected = absolute(kept) if isinstance(kept, str) else list(map(absolute, kept))
    assert parse({name: value}) == {name: expected}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env_vars", {}),
        ("env_vars", {"A": "1"}),
        ("env_vars", {"A": "\udcff"}),  # a byte that is no UTF-8
        ("worker_process_setup_hook", hook),
        ("worker_process_setup_hook", Hook()),
        ("worker_process_setup_hook", functools.partial(hook)),
        ("worker_process_setup_hook", "package.module.function"),
        ("excludes", []),
        ("excludes", ["*.log", "data/"]),
        ("config", {}),
        ("config", {"setup_timeout_seconds": 5}),
        ("config", {"setup_timeout_seconds": 0.5, "eager_install": False}),
        ("config", {"setup_timeout_seconds": -1, "log_files": ["x"]}),
        ("config", RuntimeEnvConfig(7)),
    ],
)
def test_field_is_kept(parse: Any, name: str, value: Any) -> None:
    assert parse({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("working_dir", 1, TypeError),
        ("working_dir", b"package", TypeError),
        ("working_dir", types, TypeError),
        ("working_dir", "", ValueError),
        ("working_dir", "missing", ValueError),
        ("working_dir", "a\0b", ValueError),
        ("working_dir", "notes.txt", ValueError),
        ("working_dir", "pure.whl", ValueError),
        ("working_dir", "data.zip", UnsupportedFeatureError),
        ("working_dir", "missing.zip", UnsupportedFeatureError),
        ("working_dir", "s3://bucket/package.zip", UnsupportedFeatureError),
        ("working_dir", "https://example.com/package.zip", UnsupportedFeatureError),
        ("working_dir", "gcs://package", UnsupportedFeatureError),
        ("py_modules", "package", TypeError),
        ("py_modules", {"package": 1}, TypeError),
        ("py_modules", [1], TypeError),
        ("py_modules", [None], TypeError),
        ("py_modules", [""], ValueError),
        ("py_modules", ["missing"], ValueError),
        ("py_modules", ["missing.py"], ValueError),
        ("py_modules", ["notes.txt"], ValueError),
        ("py_modules", ["missing.whl"], ValueError),
        ("py_modules", ["broken.whl"], ValueError),
        ("py_modules", [sys], ValueError),  # built in
        ("py_modules", ["compiled.whl"], UnsupportedFeatureError),
        ("py_modules", ["data.zip"], UnsupportedFeatureError),
        ("py_modules", ["package", "s3://bucket/package.zip"], UnsupportedFeatureError),
        ("env_vars", [("A", "1")], TypeError),
        ("env_vars", "A=1", TypeError),
        ("env_vars", {"A": 1}, TypeError),
        ("env_vars", {"A": None}, TypeError),
        ("env_vars", {1: "A"}, TypeError),
        ("env_vars", {b"A": "1"}, TypeError),
        ("env_vars", {"": "1"}, ValueError),
        ("env_vars", {"A=B": "1"}, ValueError),
        ("env_vars", {"A\0": "1"}, ValueError),
        ("env_vars", {"A": "1\0"}, ValueError),
        ("env_vars", {"A": "\ud800"}, ValueError),
        ("worker_process_setup_hook", 1, TypeError),
        ("worker_process_setup_hook", coroutine_hook, TypeError),
        ("worker_process_setup_hook", "function", ValueError),
        ("worker_process_setup_hook", "module.", ValueError),
        ("worker_process_setup_hook", "module:function", ValueError),
        ("excludes", "*.log", TypeError),
        ("excludes", [1], TypeError),
        ("config", 5, TypeError),
        ("config", {"setup_timeout": 5}, ValueError),
        ("config", {"setup_timeout_seconds": "5"}, TypeError),
        ("config", {"setup_timeout_seconds": True}, TypeError),
        ("config", {"setup_timeout_seconds": 0}, ValueError),
        ("config", {"setup_timeout_seconds": -2}, ValueError),
        ("config", {"setup_timeout_seconds": float("inf")}, ValueError),
        ("config", {"setup_timeout_seconds": float("nan")}, ValueError),
        ("config", {"eager_install": 1}, TypeError),
        ("config", {"log_files": "x"}, TypeError),
    ],
)
def test_bad_field_is_refused(
    place, parse: Any, name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{name} of runtime_env") as caught:
        parse({name: value})
    assert type(caught.value) is error


@pytest.mark.parametrize("name", sorted(module._UNSUPPORTED))
def test_field_that_needs_more_than_this_machine_gives_advice(parse: Any, name: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"field '{name}' of runtime_env .* Leave"):
        parse({name: "x"})


def test_empty_field_counts_as_asked_for(parse: Any) -> None:
    with pytest.raises(UnsupportedFeatureError, match="field 'pip' of runtime_env"):
        parse({"pip": []})


@pytest.mark.parametrize("name", [*module._FIELDS, *module._UNSUPPORTED])
def test_none_is_as_good_as_left_out(parse: Any, name: str) -> None:
    assert parse({name: None}) == {}


@pytest.mark.parametrize("name", ["env_var", ""])
def test_unknown_field_lists_the_known(parse: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"no field {name!r}. Known fields are: .*env_vars"):
        parse({name: None})


def test_fields_do_not_change_with_what_the_user_gave(place, parse: Any) -> None:
    given: dict[str, Any] = {
        "env_vars": {"A": "1"},
        "py_modules": ["package"],
        "excludes": ["x"],
        "config": {"setup_timeout_seconds": 5},
    }
    checked = parse(given)
    before = copy.deepcopy(checked)
    for value in given.values():
        value.clear()
    assert checked == before


def test_module_is_the_directory_of_its_package_or_its_file(parse: Any) -> None:
    here = os.path.dirname(__file__)
    checked = parse({"py_modules": [sys.modules[__name__], sys.modules["tests.options"]]})
    assert checked == {"py_modules": [__file__, here]}
    assert parse(checked) == checked


def test_package_that_lies_in_several_places_is_refused(place, parse: Any) -> None:
    spread = types.ModuleType("spread")
    spread.__path__ = [str(place), str(place / "package")]
    with pytest.raises(ValueError, match="'spread', which lies in 2 directories"):
        parse({"py_modules": [spread]})


def test_module_that_was_compiled_is_taken_where_it_lies(place, parse: Any) -> None:
    path = place / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    path.touch()
    assert parse({"py_modules": [path]}) == {"py_modules": [str(path)]}


# --- RuntimeEnv --------------------------------------------------------------------------------


def test_runtime_env_is_a_dict_and_accepted_as_one(place) -> None:
    env = RuntimeEnv(working_dir="package", env_vars={"A": "1"}, config=RuntimeEnvConfig(7))
    assert isinstance(env, dict)
    assert PARSERS["task"](env) == PARSERS["init"](env) == env.to_dict()
    assert type(env.to_dict()) is dict
    assert aioray.runtime_env.RuntimeEnv is RuntimeEnv


def test_runtime_env_tells_its_fields(place) -> None:
    env = RuntimeEnv(working_dir="package", env_vars={"A": "1"}, py_modules=["single.py"])
    assert env.working_dir() == str(place / "package")
    assert env.py_modules() == [str(place / "single.py")]
    assert env.env_vars() == {"A": "1"}
    nothing = RuntimeEnv()
    assert (nothing.working_dir(), nothing.py_modules(), nothing.env_vars()) == (None, None, {})
    assert nothing == {}


def test_runtime_env_survives_pickling(place) -> None:
    env = RuntimeEnv(working_dir="package", config=RuntimeEnvConfig(7))
    copied = pickle.loads(pickle.dumps(env))
    assert (type(copied), copied) == (RuntimeEnv, env)
    assert copied.working_dir() == env.working_dir()


def test_config_has_the_defaults_of_ray() -> None:
    assert RuntimeEnvConfig() == {
        "setup_timeout_seconds": 600,
        "eager_install": True,
        "log_files": [],
    }
    with pytest.raises(ValueError, match="setup_timeout_seconds in config of runtime_env must"):
        RuntimeEnvConfig(setup_timeout_seconds=0)


# --- which are the same ------------------------------------------------------------------------


def environment(env: dict[str, Any]) -> WorkerEnvironment:
    return extend(WorkerEnvironment(), env)


def test_merging_is_by_key_for_variables_and_by_field_for_the_rest() -> None:
    session = environment(
        {
            "env_vars": {"A": "1", "B": "1"},
            "working_dir": "/a",
            "py_modules": ["x"],
            "excludes": ["y"],
        }
    )
    task = {"env_vars": {"B": "2", "C": "2"}, "working_dir": "/b", "py_modules": []}
    assert extend(session, task).fields() == {
        "env_vars": {"A": "1", "B": "2", "C": "2"},
        "working_dir": "/b",
        "excludes": ["y"],
    }


@pytest.mark.parametrize("nothing", [None, {}, {"env_vars": {}}, {"config": {}, "excludes": []}])
def test_nothing_on_top_changes_nothing(nothing: Any) -> None:
    below = environment({"env_vars": {"A": "1"}, "worker_process_setup_hook": hook})
    assert extend(below, nothing) == below
    assert environment(nothing) == WorkerEnvironment()


def test_order_makes_no_difference() -> None:
    first = environment({"env_vars": {"A": "1", "B": "2"}, "working_dir": "/a"})
    second = environment({"working_dir": "/a", "env_vars": {"B": "2", "A": "1"}})
    assert first == second
    assert hash(first) == hash(second)
    assert isinstance(first, Environment)


def test_hook_is_inherited_and_replaced_like_other_fields() -> None:
    below = environment({"worker_process_setup_hook": hook})
    inherited = extend(below, {"env_vars": {"A": "1"}})
    assert (inherited.hook, inherited.fields()) == (
        below.hook,
        {"env_vars": {"A": "1"}, "worker_process_setup_hook": f"{__name__}.hook"},
    )
    by_name = {"worker_process_setup_hook": f"{__name__}.hook"}
    assert extend(below, by_name) == (below.text, b"")
    other = {"worker_process_setup_hook": Hook()}
    assert extend(below, other) == environment(other)


DIFFERENT: list[dict[str, Any]] = [
    {},
    {"env_vars": {"A": "1"}},
    {"env_vars": {"A": "2"}},
    {"working_dir": "/a"},
    {"working_dir": "/b"},
    {"py_modules": ["/a", "/b"]},
    {"py_modules": ["/b", "/a"]},
    {"excludes": ["x"]},
    {"config": {"setup_timeout_seconds": 5}},
    {"worker_process_setup_hook": "a.b"},
    {"worker_process_setup_hook": hook},
    {"worker_process_setup_hook": lambda: None},
    {"worker_process_setup_hook": lambda: 1},
]


def test_different_environments_have_different_keys() -> None:
    assert len(set(map(environment, DIFFERENT))) == len(DIFFERENT)


@pytest.mark.parametrize("env", DIFFERENT)
def test_equal_environments_have_equal_keys(env: dict[str, Any]) -> None:
    assert environment(env) == environment(copy.deepcopy(env))


def test_key_tells_all_but_the_code_of_the_hook() -> None:
    env = {"env_vars": {"A": "\udcff"}, "worker_process_setup_hook": Hook(), "working_dir": "/a"}
    key = environment(env)
    assert key.fields() == {**env, "worker_process_setup_hook": f"{__name__}.Hook"}
    assert json.loads(key.text) == key.fields()
    assert isinstance(serialization.load(key.hook), Hook)


def test_hook_that_cannot_be_pickled_is_a_type_error_that_says_why() -> None:
    frame = sys._getframe()

    def bad() -> object:
        return frame

    with pytest.raises(
        RuntimeEnvSetupError, match="Could not serialize the worker_process_setup_hook 'tests"
    ):
        environment({"worker_process_setup_hook": bad})


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, 600),
        ({"config": {}}, 600),
        ({"config": {"eager_install": True}}, 600),
        ({"config": {"setup_timeout_seconds": 5}}, 5),
        ({"config": {"setup_timeout_seconds": -1}}, None),
    ],
)
def test_set_up_may_take_as_long_as_configured(env: dict[str, Any], seconds: float | None) -> None:
    assert setup_seconds(env) == seconds


@pytest.mark.parametrize("env", DIFFERENT)
def test_only_what_is_more_than_variables_needs_a_set_up(env: dict[str, Any]) -> None:
    harmless = env.keys() <= {"env_vars", "excludes", "config"}
    assert needs_setup(env) is not harmless
