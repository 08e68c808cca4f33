"""The table of names that libraries use: each row gives what it says, or says what is missing."""

from __future__ import annotations

import importlib
import pickle
import typing
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aioray
from aioray.compat import alias as ray_alias
from aioray.compat import features as ray_features
from aioray.compat import names as ray_names
from aioray.exceptions import UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def alias() -> Iterator[None]:
    ray_alias.install()
    yield
    ray_alias.uninstall()


@pytest.mark.parametrize("name", ray_names.NAMES)
def test_name_gives_what_its_row_says(name: str) -> None:
    row = ray_names.NAMES[name]
    parent, _, last = f"ray.{name}".rpartition(".")
    found = getattr(importlib.import_module(parent), last)
    assert found is ray_names.find(name)
    assert row.needed_by
    namespace: dict[str, object] = {}
    exec(f"from {parent} import {last}", namespace)
    assert namespace[last] is found
    if ":" not in row.gives:
        assert importlib.import_module(f"ray.{name}") is found


def test_every_private_module_stands_in_the_table() -> None:
    root = Path(aioray.__file__).parent
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for package in ("_private", "_common")
        for path in root.joinpath(package).rglob("*.py")
    }
    above = {f"{row}." for row in ray_names.NAMES if row != "_private"}
    listed = set(ray_names.NAMES)
    assert {
        name for name in modules if name not in listed and not name.startswith(tuple(above))
    } == (set())


@pytest.mark.parametrize("name", ["state", "worker"])
def test_old_places_are_not_the_packages_of_aioray_of_that_name(name: str) -> None:
    import ray

    ours = importlib.import_module(f"aioray.{name}")
    assert getattr(ray, name) is importlib.import_module(f"aioray._private.{name}")
    assert importlib.import_module(f"ray.{name}") is getattr(ray, name)
    assert getattr(aioray, name) is ours is importlib.import_module(f"aioray.{name}")


def test_names_are_attributes_of_aioray_too_but_not_public_there() -> None:
    assert aioray.ObjectID is aioray.ObjectRef
    assert aioray.WORKER_MODE == 1
    assert {"ObjectID", "WORKER_MODE", "logger"}.isdisjoint(dir(aioray))


# --- what aioray does not have ------------------------------------------------------------------


@pytest.mark.parametrize("name", ray_names.PLACEHOLDERS)
def test_placeholders_can_be_imported_and_say_what_is_missing(name: str) -> None:
    module = importlib.import_module(f"ray.{name}")
    deeper = importlib.import_module(f"ray.{name}.some.where")
    for stand_in, path in ((module.Thing, name), (deeper.Thing, f"{name}.some.where")):
        assert callable(stand_in)
        with pytest.raises(UnsupportedFeatureError) as caught:
            stand_in(1, two=3)
        assert str(caught.value) == ray_features.explain(f"{path}.Thing")
        with pytest.raises(AttributeError, match=rf"ray\.{path}\.Thing\.method "):
            _ = stand_in.method
    assert ray_names.PLACEHOLDERS[name]


def test_part_of_ray_is_an_attribute_before_it_is_imported_where_it_is_in_ray() -> None:
    import ray

    with pytest.raises(UnsupportedFeatureError, match=r"ray\.data\.range \(Ray Data\)"):
        ray.data.range(3)
    assert not hasattr(ray, "tune")
    from ray import tune

    assert ray.tune is tune


def test_placeholders_serve_at_the_top_of_a_module() -> None:
    from ray.train import Checkpoint
    from ray.tune import Callback, ResultGrid, TuneError

    class Watch(Callback):
        pass

    class Both(Callback, ABC):
        @abstractmethod
        def f(self) -> None: ...

    def annotated(one: Checkpoint | None, two: ResultGrid[int]) -> typing.Optional[Checkpoint]:  # noqa: UP045
        return one

    assert not isinstance(3, Callback)
    with pytest.raises(UnsupportedFeatureError, match=r"ray\.tune\.Callback \(Ray Tune\)"):
        Watch()
    with pytest.raises(UnsupportedFeatureError, match=r"ray\.tune\.Callback"):
        Both()
    with pytest.raises(ValueError, match="mine"):
        try:
            raise ValueError("mine")
        except TuneError:
            pass
    assert annotated(None, 1) is None
    assert "Checkpoint" in repr(Checkpoint)


def test_library_that_does_without_is_told_that_there_is_nothing() -> None:
    importlib.import_module("ray.tune.search")  # somebody else's
    for statement in (
        "import ray.tune.schedulers",
        "import ray.train",
        "from ray.tune import uniform",
        "from ray.tune.search import sample",
        "from ray import air",
    ):
        with pytest.raises(ImportError):
            exec(statement, {"__name__": "flaml.tune.space"})
    namespace: dict[str, object] = {"__name__": "flamlike"}
    exec("from ray.tune import uniform, uniform as same", namespace)
    assert namespace["uniform"] is namespace["same"]


def test_cluster_is_named_as_the_reason_only_where_it_is_one() -> None:
    for name in ray_features.NEEDS_CLUSTER:
        assert "needs a Ray cluster" in str(ray_features.explain(name))
    for name in (*ray_features.COMES_WITH_RAY, *ray_features.NOT_IN_THIS_VERSION):
        assert "cluster" not in str(ray_features.explain(name))


# --- ids ----------------------------------------------------------------------------------------

KINDS = ["ActorClassID", "ActorID", "FunctionID", "JobID", "NodeID", "PlacementGroupID", "TaskID"]


@pytest.mark.parametrize("name", [*KINDS, "UniqueID", "WorkerID"])
def test_id_is_a_value_of_its_class(name: str) -> None:
    kind = getattr(aioray, name)
    data = bytes(range(kind.size()))
    one = kind(data)
    assert (
        one == kind.from_binary(data) == kind.from_hex(one.hex()) == pickle.loads(pickle.dumps(one))
    )
    assert hash(one) == hash(kind(data))
    assert {one: 1}[data.hex()] == 1
    assert f"{one}" == repr(one)
    assert (one.binary(), one.hex(), one.is_nil()) == (data, data.hex(), False)
    assert repr(one) == str(one) == f"{name}({data.hex()})"
    assert kind.nil().is_nil()
    assert kind.nil() != one
    with pytest.raises(ValueError, match=f"needs to have length {kind.size()}, got 3"):
        kind(b"abc")
    with pytest.raises(TypeError, match="expected bytes"):
        kind(data.hex())


def test_ids_of_different_kinds_are_never_equal() -> None:
    data = bytes(28)
    assert aioray.NodeID(data) != aioray.WorkerID(data)
    assert aioray.NodeID.from_random() != aioray.NodeID.from_random()
    assert isinstance(aioray.NodeID(data), aioray.UniqueID)


def test_ids_tell_what_they_belong_to() -> None:
    job = aioray.JobID.from_int(7)
    assert (job.int(), job.hex()) == (7, "07000000")
    actor = aioray.ActorID(bytes(12) + job.binary())
    call = aioray.TaskID(bytes(8) + actor.binary())
    assert actor.job_id() == call.job_id() == job
    assert call.actor_id() == actor
    assert aioray.TaskID.for_driver_task(job).actor_id().is_nil()
    assert aioray.PlacementGroupID.of(job).binary()[-4:] == job.binary()


# --- the rest -----------------------------------------------------------------------------------


def test_cloudpickle_has_the_names_of_rays_copy() -> None:
    import ray

    assert ray.cloudpickle.pickle is pickle
    assert ray.cloudpickle.loads(ray.cloudpickle.dumps(3)) == 3
    assert ray.cloudpickle.subimport("pickle") is pickle
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = ray.cloudpickle.nosuch


def test_log_once_can_be_turned_off_and_on_again() -> None:
    from ray import util

    assert util.log_once("test_ray_names")
    assert not util.log_once("test_ray_names")
    util.disable_log_once_globally()
    assert not util.log_once("test_ray_names.other")
    util.enable_periodic_logging()
    assert util.log_once("test_ray_names")


def test_free_takes_refs_only() -> None:
    import ray

    with pytest.raises(TypeError, match="no ObjectRef"):
        ray.internal.free([1])
    ray.internal.free([])
