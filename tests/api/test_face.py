"""The package itself: what importing it costs, and what its names resolve to."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aioray
import aioray.actor
import aioray.util
from aioray.compat import features as ray_features
from aioray.compat.unsupported import UnsupportedAttributeError
from aioray.exceptions import UnsupportedFeatureError
from aioray.util import annotations as markers

MISSING = [
    *ray_features.NEEDS_CLUSTER,
    *ray_features.COMES_WITH_RAY,
    *ray_features.NOT_IN_THIS_VERSION,
]


def in_fresh_process(code: str) -> str:
    root = str(Path(aioray.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    return done.stdout


def test_import_loads_no_other_module_of_any_weight() -> None:
    added = in_fresh_process(
        "before = set(sys.modules); import aioray; print(*set(sys.modules) - before)"
    )
    assert set(added.split()) <= {"aioray", "atexit"}  # the latter is part of the interpreter


UNIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios", "tty")
ELSEWHERE = {"darwin": (), "win32": UNIX_ONLY, "emscripten": (*UNIX_ONLY, "_multiprocessing")}


@pytest.mark.parametrize("system", ELSEWHERE)
@pytest.mark.parametrize("how", ["import aioray", "from aioray.cli import main"])
def test_another_system_gets_one_clear_sentence_at_import(system: str, how: str) -> None:
    said = in_fresh_process(f"""
sys.platform = {system!r}
for name in {ELSEWHERE[system]!r}:
    sys.modules[name] = None
import os
for name in ("pidfd_open", "memfd_create", "eventfd"):
    delattr(os, name)
try:
    {how}
except ImportError as error:
    print(error)
""")
    assert said.startswith("aioray supervises processes with what only Linux offers, and this is ")
    assert f"this is {system}: run it on Linux 5.4 or later" in said
    assert said.count("\n") == 1


def test_a_python_without_the_calls_is_told_so_before_anything_starts() -> None:
    said = in_fresh_process("""
import os, aioray
del os.pidfd_open
for begin in (aioray.init, aioray.Engine):
    try:
        begin()
    except OSError as error:
        print(error)
""")
    sentence = (
        "aioray supervises workers with what this Python does not have: os.pidfd_open. Run it with "
        "a Python that was built on Linux 5.4 or later."
    )
    assert said.splitlines() == [sentence, sentence]


@pytest.mark.parametrize(
    "module",
    [
        "api.actor_base",
        "shared.actor_exit",
        "exceptions",
        "experimental",
        "retry",
        "util",
        "util.annotations",
        "util.joblib",
    ],
)
def test_light_module_loads_no_heavy_one(module: str) -> None:
    loaded = in_fresh_process(f"import aioray.{module}; print(*sys.modules)").split()
    heavy = {"asyncio", "uvloop", "click", "cloudpickle", "numpy", "multiprocessing", "subprocess"}
    assert f"aioray.{module}" in loaded
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("name", aioray.__all__)
def test_public_name_resolves_in_a_fresh_process(name: str) -> None:
    assert in_fresh_process(f"import aioray; print(aioray.{name} is not None)") == "True\n"


@pytest.mark.parametrize("name", aioray.__all__)
def test_public_name_stays_the_same_object(name: str) -> None:
    assert getattr(aioray, name) is getattr(aioray, name)
    assert name in vars(aioray)


@pytest.mark.parametrize("module", ["util", "util.multiprocessing", "experimental"])
def test_public_names_below_the_face_resolve_in_a_fresh_process(module: str) -> None:
    code = (
        f"import aioray; m = aioray.{module}\nfor n in m.__all__: print(getattr(m, n) is not None)"
    )
    assert set(in_fresh_process(code).split()) == {"True"}


def test_remote_is_the_decorator_whatever_is_imported() -> None:
    importlib.import_module("aioray.remote_function")
    assert callable(aioray.remote)
    assert not inspect.ismodule(aioray.remote)


def test_no_module_has_the_name_of_a_public_function() -> None:
    modules = {path.stem for path in Path(aioray.__file__).parent.iterdir()}
    functions = {name for name in aioray.__all__ if not inspect.ismodule(getattr(aioray, name))}
    assert modules & functions == set()


def test_types_seen_by_checkers_come_from_the_modules_used_at_run_time() -> None:
    tree = ast.parse(Path(aioray.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name)  # TYPE_CHECKING
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: f"{node.module}" for node in imports for alias in node.names}
    used = {name: f"aioray.{module}" for name, module in aioray._MODULE_BY_NAME.items()}
    assert typed == used | dict.fromkeys(aioray._SUBMODULES, "aioray")
    assert set(aioray.__all__) == {*typed, "__version__"}


LAZY = ["aioray", "aioray.experimental", "aioray.util", "aioray.util.multiprocessing"]


@pytest.mark.parametrize("module", LAZY)
def test_dir_lists_the_public_names_and_no_others_whatever_was_used(module: str) -> None:
    code = (
        f"import importlib; m = importlib.import_module({module!r}); print(*dir(m))\n"
        f"for n in m.__all__: getattr(m, n)\nprint(*dir(m)); print(*sorted(m.__all__))"
    )
    before, after, public = in_fresh_process(code).splitlines()
    assert before == after == public


def test_names_for_ipython_are_found_and_listed_nowhere() -> None:
    code = (
        "import aioray; print(callable(aioray.load_ipython_extension),"
        "callable(aioray.unload_ipython_extension), callable(aioray.ray_alias.install))"
    )
    assert in_fresh_process(code) == "True True True\n"
    assert not {"load_ipython_extension", "ray_alias"} & set(dir(aioray))


def test_all_is_sorted() -> None:
    assert aioray.__all__ == sorted(aioray.__all__)


def documented(section: str) -> set[str]:
    """The names that `help(aioray)` has something to say of in one section."""
    text = pydoc.render_doc(aioray, renderer=pydoc.plaintext)
    body = text.partition(f"\n{section}\n")[2]
    body = re.split(r"\n(?=[A-Z]+\n)", body)[0]
    return set(re.findall(r"^    (?:class )?(\w+)\(", body, re.MULTILINE))


def test_help_tells_of_the_public_functions_and_classes_alone() -> None:
    public = {name: getattr(aioray, name) for name in aioray.__all__}
    classes = {name for name, value in public.items() if inspect.isclass(value)}
    assert documented("CLASSES") == classes
    assert documented("FUNCTIONS") == {n for n, value in public.items() if inspect.isroutine(value)}
    text = pydoc.render_doc(aioray, renderer=pydoc.plaintext)
    assert "\nDATA\n" not in text
    assert "subscripts" not in text.partition("\nCLASSES\n")[2]


# `shutdown` of an engine is a coroutine, and `health` also tells of one that does not run.
ON_ENGINES = sorted({*vars(aioray.Engine)} & {*aioray.__all__} - {"shutdown", "health"})


def test_engine_has_the_functions_that_are_about_a_session() -> None:
    about_sessions = {"available_resources", "cancel", "cluster_resources", "get", "get_actor"}
    assert {*ON_ENGINES} == about_sessions | {"kill", "nodes", "put", "timeline", "wait"}


@pytest.mark.parametrize("name", ON_ENGINES)
def test_engine_takes_what_the_function_takes(name: str) -> None:
    function, method = getattr(aioray, name), getattr(aioray.Engine(num_cpus=1), name)
    assert inspect.signature(method) == inspect.signature(function)
    assert inspect.getdoc(method) == inspect.getdoc(function)
    assert method.__name__ == name


def test_engine_takes_what_init_takes() -> None:
    assert list(inspect.signature(aioray.Engine).parameters.values()) == list(
        inspect.signature(aioray.init).parameters.values()
    )


def test_engine_shows_what_is_meant_for_programs() -> None:
    shown = {name for name in dir(aioray.Engine) if not name.startswith("_")}
    life = {"activate", "closed", "health", "pids", "session", "shutdown", "start"}
    assert shown == {*ON_ENGINES} | life
    assert all(inspect.getdoc(getattr(aioray.Engine, name)) for name in shown)


@pytest.mark.parametrize("name", ON_ENGINES)
def test_engine_that_was_not_started_says_so(name: str) -> None:
    with pytest.raises(RuntimeError, match="not running"):
        getattr(aioray.Engine(num_cpus=1), name)()


@pytest.mark.parametrize(
    "generic",
    [
        aioray.ObjectRef,
        aioray.ObjectRefGenerator,
        aioray.RemoteFunction,
        aioray.actor.ActorClass,
        aioray.actor.ActorHandle,
        aioray.util.ActorPool,
        aioray.util.Queue,
    ],
)
def test_generic_class_can_be_subscripted_at_run_time(generic: Any) -> None:
    assert generic[int].__origin__ is generic


def test_remote_function_takes_the_type_arguments_of_a_callable() -> None:
    assert aioray.RemoteFunction[[int], str].__args__ == ([int], str)


@pytest.mark.parametrize("name", MISSING)
def test_missing_feature_of_ray_is_named_in_the_error(name: str) -> None:
    parent, _, last = f"aioray.{name}".rpartition(".")
    module = importlib.import_module(parent)
    assert last not in getattr(module, "__all__", ())
    error = ray_features.missing_attribute(parent, last)
    assert isinstance(error, UnsupportedAttributeError)
    assert f"ray.{name} " in str(error)


@pytest.mark.parametrize("name", ray_features.NOT_IN_THIS_VERSION)
def test_feature_that_has_arrived_is_not_called_missing(name: str) -> None:
    assert importlib.util.find_spec(f"aioray.{name}") is None
    parent, _, last = f"aioray.{name}".rpartition(".")
    assert not hasattr(importlib.import_module(parent), last)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tune", "comes with Ray itself"),
        ("cluster_utils", "needs a Ray cluster"),
        ("Language", "not available in this version"),
    ],
)
def test_missing_feature_is_both_kinds_of_error(name: str, reason: str) -> None:
    assert not hasattr(aioray, name)
    assert getattr(aioray, name, 7) == 7
    with pytest.raises(AttributeError, match=reason) as caught:
        getattr(aioray, name)
    assert isinstance(caught.value, UnsupportedFeatureError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (UnsupportedAttributeError, str(caught.value))


@pytest.mark.parametrize("module", ["aioray", "aioray.util"])
@pytest.mark.parametrize("name", ["nosuch", "__wrapped__", "_", "datas"])
def test_unknown_name_is_a_plain_attribute_error(module: str, name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute '{name}'") as e:
        getattr(importlib.import_module(module), name)
    assert type(e.value) is AttributeError


def test_misspelt_name_gets_a_suggestion() -> None:
    code = "import aioray\ntry: aioray.get_runtime_contxt\nexcept AttributeError:"
    code += " sys.stderr = sys.stdout; sys.excepthook(*sys.exc_info())"
    said = in_fresh_process(code)
    assert re.search(r"Did you mean:? '\.?get_runtime_context'", said), said  # 3.15 has the dot


def test_annotations_is_a_module_before_anyone_imports_it() -> None:
    code = "import aioray; print(aioray.util.annotations.PublicAPI.__module__)"
    assert in_fresh_process(code) == "aioray.util.annotations\n"


def test_log_once_is_true_once_per_key() -> None:
    keys = ["test_face.a", "test_face.b", "test_face.a", "test_face.a", "test_face.b"]
    assert [aioray.util.log_once(key) for key in keys] == [True, True, False, False, False]


def test_node_address_is_this_machine() -> None:
    assert aioray.util.get_node_ip_address() == "127.0.0.1"
    assert aioray.util.get_node_ip_address("10.0.0.1:6379") == "127.0.0.1"


@pytest.mark.parametrize(
    ("marker", "arguments"),
    [
        (markers.PublicAPI, {"stability": "beta", "api_group": "Others"}),
        (markers.DeveloperAPI, {}),
        (markers.Deprecated, {"message": "use g", "warning": True}),
    ],
)
def test_annotations_return_what_they_mark(marker, arguments: dict[str, object]) -> None:
    def f() -> None:
        """Say nothing."""

    assert marker(f) is f
    assert marker()(f) is f
    assert marker(**arguments)(f) is f
    assert f.__doc__ == "Say nothing."


def test_package_says_that_it_is_typed() -> None:
    assert (Path(aioray.__file__).parent / "py.typed").is_file()
