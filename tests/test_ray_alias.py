"""`import ray` under `ray_alias`: one module, one class, under both names."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import aioray
from aioray import ray_alias
from aioray.exceptions import RayError, UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def test_ray_is_the_module_aioray() -> None:
    import ray

    assert ray is aioray is sys.modules["ray"]


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
@pytest.mark.parametrize("name", ["ray.data", "ray.tune", "ray.serve", "ray.client", "ray.tune.a"])
def test_module_that_needs_a_cluster_says_so(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ray\.\w+ \(Ray \w+\) needs a Ray cluster"):
        importlib.import_module(name)


@pytest.mark.usefixtures("alias")
def test_module_of_another_version_says_so() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ray\.dag .* not available in this version"):
        importlib.import_module("ray.dag")


@pytest.mark.usefixtures("alias")
def test_module_that_ray_has_not_either_is_an_ordinary_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ray\.nosuch'") as caught:
        importlib.import_module("ray.nosuch")
    assert caught.value.name == "ray.nosuch"


@pytest.mark.usefixtures("alias")
@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("from ray import tune", r"ray\.tune \(Ray Tune\) needs a Ray cluster"),
        ("from ray import dag", r"ray\.dag .* not available in this version"),
        ("from ray.util import dask", r"ray\.util\.dask .* needs a Ray cluster"),
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
        importlib.import_module("ray.tune.search")
    assert aliases() == before


@pytest.mark.usefixtures("alias")
def test_attribute_that_is_missing_is_an_attribute_error_with_the_reason() -> None:
    import ray

    assert not hasattr(ray, "dag")
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
        "import sys, importlib.machinery; before = set(sys.modules)\n"
        f"sys.path.insert(0, {str(aioray.__path__[0]) + '/..'!r})\n"
        "from aioray.ray_alias import install; install(); import ray\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250
    )
    assert done.stdout == "['__future__', 'aioray', 'aioray.ray_alias', 'ray']\n"
