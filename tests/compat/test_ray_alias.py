"""`import ray` under `ray_alias`: one module, one class, under both names."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from unittest import mock

import cloudpickle
import pytest

import aioray
from aioray.compat import alias as ray_alias
from aioray.exceptions import RayError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def alias() -> Iterator[None]:
    ray_alias.install()
    yield
    ray_alias.uninstall()


def finders() -> list[object]:
    return [finder for finder in sys.meta_path if type(finder).__module__ == ray_alias.__name__]


def aliases() -> list[str]:
    return [name for name in sys.modules if name == "ray" or name.startswith("ray.")]


@pytest.mark.usefixtures("alias")
def test_ray_says_what_it_is_and_aioray_too() -> None:
    import ray

    assert sys.modules["ray"] is ray is not aioray
    assert (ray.__name__, ray.__package__, ray.__spec__.name) == ("ray", "ray", "ray")
    assert str(ray).startswith("<module 'ray' from ")
    assert (ray.__version__, ray.__commit__) == ("2.60.0", f"aioray-{aioray.__version__}")
    assert (ray.__file__, list(ray.__path__)) == (aioray.__file__, list(aioray.__path__))
    assert str(aioray).startswith("<module 'aioray' from ")
    assert aioray.__version__ != ray.__version__
    assert inspect.ismodule(ray)


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize("name", [name for name in aioray.__all__ if name != "__version__"])
def test_public_name_is_the_same_object_under_both_names(name: str) -> None:
    import ray

    assert getattr(ray, name) is getattr(aioray, name)
    assert name in dir(ray)


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize("target", ["ray.put", "aioray.put"])
def test_patch_of_one_name_is_seen_under_both_until_it_is_undone(target: str) -> None:
    import ray

    before = ray.put
    for _ in range(2):  # what was looked up in between must not stay either
        with mock.patch(target, return_value=7):
            assert (ray.put(1), aioray.put(1)) == (7, 7)
        assert ray.put is before is aioray.put


@pytest.mark.usefixtures("alias")
def test_patches_of_pytest_and_by_hand_are_seen_under_both_names() -> None:
    import ray

    before = ray.wait
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray.wait", 1)
        assert (ray.wait, aioray.wait) == (1, 1)
        patch.setattr(ray, "__version__", "1.0")
        assert (ray.__version__, aioray.__version__) == ("1.0", aioray_version())
    assert ray.wait is before is aioray.wait
    assert ray.__version__ == "2.60.0"
    del ray.wait  # it comes back, as it would from nowhere but its module
    assert ray.wait is before is aioray.wait
    with pytest.raises(AttributeError, match="module 'ray' has no attribute 'nosuch'"):
        del ray.nosuch


def aioray_version() -> str:
    return vars(aioray)["__version__"]


@pytest.mark.usefixtures("alias")
def test_reload_brings_back_what_was_replaced() -> None:
    import ray

    before = ray.get
    ray.get = None
    assert importlib.reload(ray) is ray
    assert ray.get is before is aioray.get


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_both_modules_can_be_pickled(dumps: Callable[[object], bytes]) -> None:
    import ray

    assert pickle.loads(dumps(ray)) is ray
    assert pickle.loads(dumps(aioray)) is aioray


def test_pickled_ray_is_loaded_where_the_alias_is_not_installed() -> None:
    ray_alias.install()
    data = pickle.dumps(sys.modules["ray"])
    ray_alias.uninstall()
    try:
        assert pickle.loads(data).get is aioray.get
        assert ray_alias.installed()
    finally:
        ray_alias.uninstall()


@pytest.mark.usefixtures("alias")
def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from ray import *", namespace)
    assert {name for name in namespace if name != "__builtins__"} == set(aioray.__all__)


@pytest.mark.usefixtures("alias")
def test_modules_of_aioray_alone_are_none_of_ray() -> None:
    import ray

    importlib.import_module("aioray.engine")
    assert not hasattr(ray, "engine")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ray\.engine'"):
        importlib.import_module("ray.engine")


@pytest.mark.usefixtures("alias")
def test_metadata_finds_a_distribution_of_the_spoken_version() -> None:
    import ray

    assert metadata.version("ray") == ray.__version__ == ray_alias.RAY_VERSION
    assert metadata.distribution("ray").metadata["Name"] == "ray"
    assert "ray" in metadata.packages_distributions()
    assert find_spec("ray").origin == aioray.__file__


def test_metadata_finds_none_without_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    without = [place for place in sys.path if not Path(place, "ray").is_dir()]
    monkeypatch.setattr(sys, "path", without)
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("ray")
    assert find_spec("ray") is None


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize(
    "name",
    [
        "exceptions",
        "experimental",
        "experimental.tqdm_ray",
        "runtime_context",
        "types",
        "util",
        "util.actor_pool",
        "util.annotations",
        "util.check_serialize",
        "util.joblib",
        "util.multiprocessing",
        "util.multiprocessing.pool",
        "util.queue",
    ],
)
def test_submodule_is_the_same_object_under_both_names(name: str) -> None:
    under_ray = importlib.import_module(f"ray.{name}")
    assert under_ray is importlib.import_module(f"aioray.{name}")
    assert under_ray is sys.modules[f"ray.{name}"]


@pytest.mark.usefixtures("alias")
def test_module_keeps_the_spec_it_was_made_with() -> None:
    import ray.exceptions

    assert ray.exceptions.__name__ == "aioray.exceptions"
    assert ray.exceptions.__spec__ is not None
    assert ray.exceptions.__spec__.name == "aioray.exceptions"


@pytest.mark.usefixtures("alias")
def test_submodule_is_reached_as_attribute_of_ray_alone() -> None:
    import ray

    assert ray.exceptions.RayError is RayError
    assert ray.util.log_once is aioray.util.log_once


@pytest.mark.usefixtures("alias")
def test_error_of_aioray_is_caught_under_its_ray_name() -> None:
    from ray.exceptions import RayError as CaughtError

    with pytest.raises(CaughtError):
        raise RayError("from aioray")


@pytest.mark.usefixtures("alias")
def test_class_met_under_the_alias_unpickles_without_it() -> None:
    from ray.exceptions import RayError as UnderRay

    data = pickle.dumps(UnderRay)
    ray_alias.uninstall()
    assert pickle.loads(data) is RayError


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ray.client", r"ray\.client \(Ray Client\) needs a Ray cluster"),
        ("ray.util.spark", r"ray\.util\.spark \(Spark on Ray\) needs a Ray cluster"),
        ("ray.rllib", r"ray\.rllib \(Ray RLlib\) comes with Ray itself"),
        ("ray._private.nosuch", r"\(Ray's own internals\) comes with Ray itself"),
        ("ray.experimental.channel", r"ray\.\S+ .* not available in this version"),
    ],
)
def test_module_that_is_not_there_says_why(name: str, text: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=text):
        importlib.import_module(name)


@pytest.mark.usefixtures("alias")
def test_module_that_ray_has_not_either_is_an_ordinary_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ray\.nosuch'") as caught:
        importlib.import_module("ray.nosuch")
    assert caught.value.name == "ray.nosuch"


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("from ray import rllib", r"ray\.rllib \(Ray RLlib\) comes with Ray itself"),
        ("from ray.util import spark", r"ray\.util\.spark .* needs a Ray cluster"),
        ("from ray._private import gcs_utils", r"ray\._private\.gcs_utils .* comes with Ray"),
        ("from ray.util import rpdb", r"ray\.util\.rpdb .* not available in this version"),
        ("from ray import nosuch", "cannot import name 'nosuch'"),
    ],
)
def test_from_import_of_a_missing_name_gives_the_reason(statement: str, text: str) -> None:
    with pytest.raises(ImportError, match=text):
        exec(statement)


@pytest.mark.usefixtures("alias")
def test_failed_import_leaves_nothing_in_sys_modules() -> None:
    before = aliases()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ray.rllib.algorithms")
    assert aliases() == before


@pytest.mark.usefixtures("alias")
def test_attribute_that_is_missing_is_an_attribute_error_with_the_reason() -> None:
    import ray

    assert not hasattr(ray, "serve")
    with pytest.raises(UnsupportedFeatureError, match=r"ray\.client \(Ray Client\)"):
        _ = ray.client  # aioray has a package of that name
    assert getattr(ray, "tune", None) is None
    with pytest.raises(AttributeError, match=r"ray\.tune \(Ray Tune\)") as caught:
        _ = ray.tune
    assert isinstance(caught.value, UnsupportedFeatureError)


@pytest.mark.usefixtures("alias")
def test_install_again_changes_nothing() -> None:
    import ray.exceptions

    before = ray.exceptions
    ray_alias.install()
    import ray.exceptions

    assert ray.exceptions is before
    assert len(finders()) == 1


@pytest.mark.usefixtures("alias")
def test_install_again_comes_to_the_front_again() -> None:
    class Late:
        def find_spec(self, *_: object) -> None:
            return None

    late = Late()
    sys.meta_path.insert(0, late)
    try:
        ray_alias.install()
        assert [sys.meta_path[0]] == finders()
    finally:
        sys.meta_path.remove(late)


def test_uninstall_leaves_nothing() -> None:
    before = list(sys.meta_path)
    ray_alias.install()
    importlib.import_module("ray.exceptions")
    ray_alias.uninstall()
    assert sys.meta_path == before
    assert aliases() == []
    assert sys.modules["aioray.exceptions"].RayError is RayError
    ray_alias.uninstall()  # again, with nothing to undo


def test_another_ray_that_is_already_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("ray")
    other.__file__ = "/somewhere/ray/__init__.py"
    monkeypatch.setitem(sys.modules, "ray", other)
    with pytest.raises(RuntimeError, match=r"/somewhere/ray/__init__\.py"):
        ray_alias.install()
    assert finders() == []
    assert sys.modules["ray"] is other


@pytest.mark.usefixtures("alias")
def test_other_modules_are_left_to_other_finders() -> None:
    (finder,) = finders()
    for name in ("rayon", "raylib.core", "aiorayon", "json", "aioray"):
        assert finder.find_spec(name, None) is None


def test_alias_loads_nothing_but_itself_in_a_fresh_process() -> None:
    code = (
        "import sys\n"
        "import atexit\n"
        "from importlib.machinery import ModuleSpec  # loads more on some versions\n"
        "before = set(sys.modules)\n"
        f"sys.path.insert(0, {str(aioray.__path__[0]) + '/..'!r})\n"
        "from aioray.ray_alias import install; install(); import ray\n"
        "print(sorted(set(sys.modules) - before))"
    )
    own = ["aioray", "aioray.compat", "aioray.compat.alias", "aioray.ray_alias"]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250
    )
    assert done.stdout == f"{['__future__', *own, 'ray']}\n"


# --- children -----------------------------------------------------------------------------------

ASKS = "import ray.util, importlib.metadata as m; print(ray.__name__, ray.get.__module__, "
ASKS += "m.version('ray'))"
SAME = "ray aioray.api.objects 2.60.0\n"


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a program would that knows nothing of the alias."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        text=True,
        timeout=250,
    )


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of the aioray that is tested, in PYTHONPATH: installed or not."""
    root = str(Path(aioray.__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", root)
    return root


@pytest.mark.usefixtures("importable", "alias")
def test_child_process_finds_the_same_ray() -> None:
    assert child("-c", ASKS).stdout == SAME


@pytest.mark.usefixtures("importable", "alias")
def test_programs_are_told_the_version_that_the_environment_says() -> None:
    code = "import importlib.metadata as m, ray; print(ray.__version__, m.version('ray'))"
    again = f"import subprocess, sys; {code}; sys.stdout.flush(); "
    again += f"subprocess.run([sys.executable, '-c', {code!r}])"
    told = child("-c", again, AIORAY_RAY_VERSION="2.58.0")
    assert told.stdout == "2.58.0 2.58.0\n" * 2
    assert child("-c", code, AIORAY_RAY_VERSION="").stdout == "2.60.0 2.60.0\n"


@pytest.mark.usefixtures("importable", "alias")
def test_grandchild_finds_the_same_ray_if_the_child_never_asks() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASKS!r}])"
    assert child("-c", code).stdout == SAME


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_process_of_multiprocessing_finds_the_same_ray(
    tmp_path: Path, importable: str, method: str
) -> None:
    (tmp_path / "asking.py").write_text(f"def ask():\n    {ASKS}\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, asking\n"
        "if __name__ == '__main__':\n"
        f"    process = multiprocessing.get_context({method!r}).Process(target=asking.ask)\n"
        "    process.start(); process.join(); print(process.exitcode)\n"
    )
    done = child("-m", "aioray", "run", str(script))
    assert (done.stdout, done.stderr) == (f"{SAME}0\n", "")


def test_child_finds_aioray_where_ray_is_installed_too(tmp_path: Path, importable: str) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("raise SystemExit('the other one')")
    (tmp_path / "ray-1.0.dist-info").mkdir()
    (tmp_path / "ray-1.0.dist-info" / "METADATA").write_text("Name: ray\nVersion: 1.0\n")
    script = tmp_path / "scripts" / "script.py"
    script.parent.mkdir()
    script.write_text(
        f"import subprocess, sys; {ASKS}\n"
        f"sys.stdout.flush(); subprocess.run([sys.executable, '-c', {ASKS!r}])\n"
    )
    path = os.pathsep.join([str(tmp_path), importable])
    done = child("-m", "aioray", "run", str(script), PYTHONPATH=path)
    assert (done.stdout, done.stderr) == (SAME * 2, "")


def test_alias_is_not_handed_on_if_a_variable_says_so(tmp_path: Path, importable: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, subprocess, sys; {ASKS}; print(os.environ['PYTHONPATH'], flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import ray'])\n"
    )
    done = child("-m", "aioray", "run", str(script), AIORAY_INHERIT_ALIAS="0")
    assert done.stdout == f"{SAME}{importable}\n"
    assert "No module named 'ray'" in done.stderr


def test_environment_is_as_it_was_after_uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "/some/folder"):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONPATH", before)
        path = list(sys.path)
        ray_alias.install()
        assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == ray_alias.PATH in sys.path
        ray_alias.install(inherit=False)
        assert (os.environ.get("PYTHONPATH"), sys.path) == (before, path)
        ray_alias.install()
        ray_alias.uninstall()
        assert (os.environ.get("PYTHONPATH"), sys.path) == (before, path)


def test_interpreter_without_aioray_gets_the_ray_it_has(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("from ray.part import NAME")
    (tmp_path / "ray" / "part.py").write_text("NAME = 'the other one'")
    path = os.pathsep.join([ray_alias.PATH, str(tmp_path)])
    code = "import ray, ray.part; print(ray.NAME, ray.part.NAME)"
    assert child("-SP", "-c", code, PYTHONPATH=path).stdout == "the other one the other one\n"


def test_interpreter_without_aioray_and_without_ray_is_told_why() -> None:
    done = child("-SP", "-c", "import ray", PYTHONPATH=ray_alias.PATH)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: No module named 'ray': ")
    assert "which aioray" not in last
    assert "PYTHONPATH" in last


def test_shipped_metadata_is_of_the_spoken_version() -> None:
    (info,) = Path(ray_alias.PATH).glob("*.dist-info")
    assert info.name == f"ray-{ray_alias.RAY_VERSION}.dist-info"
    assert f"\nVersion: {ray_alias.RAY_VERSION}\n" in (info / "METADATA").read_text()
