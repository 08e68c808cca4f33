"""What may be said of a placement group and of a strategy; no session is started for any of it."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aioray
from aioray.util.placement_group import (
    PlacementGroup,
    PlacementGroupID,
    get_current_placement_group,
    get_placement_group,
    placement_group_table,
    remove_placement_group,
)
from aioray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

NODE = "ab" * 28
GROUP = PlacementGroup(PlacementGroupID(b"g" * 18), [{"CPU": 1.0}])


@pytest.mark.parametrize(
    ("bundles", "text"),
    [
        (None, "bundles must be a list, got <class 'NoneType'>"),
        ({"CPU": 1}, "bundles must be a list, got <class 'dict'>"),
        (({"CPU": 1},), "bundles must be a list, got <class 'tuple'>"),
        ([], "non-empty list of resource dictionaries.*Got empty list"),
        (["CPU"], "list of resource dictionaries.*Got 'CPU'"),
        ([{"CPU": "1"}], "list of resource dictionaries"),
        ([{1: 1}], "list of resource dictionaries"),
        ([{"CPU": 1}, {}], "cannot be an empty dictionary or resources with only 0 values"),
        ([{"CPU": 0}], "only 0 values"),
        ([{"CPU": -1}], "CPU of a bundle must be"),
        ([{"": 1}], "resource of a bundle has no name"),
        ([{"GPU": 1.5}], "GPU of a bundle must be a whole number"),
    ],
)
def test_malformed_bundles_are_refused(bundles: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        aioray.util.placement_group(bundles)
    assert not aioray.is_initialized()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"strategy": "LOOSE"}, ValueError, "Invalid placement group strategy LOOSE. Supported"),
        ({"strategy": None}, ValueError, "Invalid placement group strategy None"),
        ({"lifetime": "long"}, ValueError, "either `None` or 'detached'. Got long"),
        ({"name": 3}, TypeError, "name must be a str, got 3"),
        ({"bundle_label_selector": [{}, {}]}, ValueError, "should equal the length of `bundles`"),
    ],
)
def test_malformed_settings_of_a_group_are_refused(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        aioray.util.placement_group([{"CPU": 1}], **given)
    assert not aioray.is_initialized()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PlacementGroupSchedulingStrategy("g"), "needs to be an instance"),
        (lambda: PlacementGroupSchedulingStrategy(GROUP, -2), "must be the index of a bundle"),
        (lambda: PlacementGroupSchedulingStrategy(GROUP, "0"), "must be the index of a bundle"),
        (lambda: NodeAffinitySchedulingStrategy("zz", soft=False), "Invalid node_id 'zz'"),
        (lambda: NodeAffinitySchedulingStrategy("ab", soft=False), "Invalid node_id 'ab'"),
        (lambda: NodeAffinitySchedulingStrategy(None, soft=False), "Invalid node_id None"),
        (
            lambda: NodeAffinitySchedulingStrategy(NODE, soft=False, _spill_on_unavailable=True),
            "_spill_on_unavailable cannot be set when soft is False",
        ),
        (
            lambda: NodeAffinitySchedulingStrategy(NODE, soft=True, _fail_on_unavailable=True),
            "_fail_on_unavailable cannot be set when soft is True",
        ),
        (lambda: NodeLabelSchedulingStrategy(None), "cannot both be empty"),
        (lambda: NodeLabelSchedulingStrategy({}, soft={}), "cannot both be empty"),
        (lambda: NodeLabelSchedulingStrategy("x"), "hard parameter must be a map"),
        (lambda: NodeLabelSchedulingStrategy({}, soft=[1]), "soft parameter must be a map"),
        (lambda: NodeLabelSchedulingStrategy({1: Exists()}), "must be of type str .* but got 1"),  # type: ignore[dict-item]
        (lambda: NodeLabelSchedulingStrategy({"a": "b"}), "value for key a .* but got 'b'"),  # type: ignore[dict-item]
        (In, "In operator must be a non-empty tuple"),
        (lambda: NotIn("a", 1), "position 1 for the NotIn operator must be str"),
    ],
)
def test_malformed_strategy_is_refused_when_it_is_made(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("condition", "label", "holds"),
    [
        (In("a", "b"), "b", True),
        (In("a", "b"), "c", False),
        (In("a", "b"), None, False),
        (NotIn("a"), "a", False),
        (NotIn("a"), None, True),
        (Exists(), "", True),
        (Exists(), None, False),
        (DoesNotExist(), None, True),
        (DoesNotExist(), "a", False),
    ],
    ids=repr,
)
def test_condition_holds_for_labels(condition: Any, label: str | None, holds: bool) -> None:
    assert condition.holds_for(label) is holds


def test_handle_is_a_value() -> None:
    copy = pickle.loads(pickle.dumps(GROUP))
    assert copy == GROUP
    assert hash(copy) == hash(GROUP)
    assert copy != PlacementGroup.empty()
    assert (copy.bundle_specs, copy.bundle_count) == ([{"CPU": 1.0}], 1)
    assert repr(copy.id) == f"PlacementGroupID({'67' * 18})"
    assert PlacementGroup.empty().is_empty
    with pytest.raises(ValueError, match="needs to have length 18"):
        PlacementGroupID(b"short")


def test_handle_of_no_session_is_not_known() -> None:
    for use in (GROUP.ready, lambda: remove_placement_group(GROUP)):
        with pytest.raises(ValueError, match="is not known here: its session has ended"):
            use()
    with pytest.raises(TypeError, match="is what placement_group\\(\\) returns, got 'x'"):
        remove_placement_group("x")
    with pytest.raises(TypeError, match="got 3 of type int"):
        placement_group_table(3)
    with pytest.raises(ValueError, match="non-empty value"):
        get_placement_group("")
    assert get_current_placement_group() is None
    assert not aioray.is_initialized()


def test_module_of_the_name_of_its_function_can_be_called_whoever_imported_what() -> None:
    code = """
from aioray import ray_alias
ray_alias.install()
from ray.util.placement_group import placement_group, PlacementGroup
import ray.util.placement_group
import ray.util
for call in (placement_group, ray.util.placement_group):
    try:
        call([])
    except ValueError as error:
        print(str(error)[:7])
from ray.util import placement_group as third, remove_placement_group, placement_group_table
print(third is ray.util.placement_group, PlacementGroup.empty().is_empty)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
print(PlacementGroupSchedulingStrategy.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(aioray.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    assert done.stdout.split() == [
        "Bundles",
        "Bundles",
        "True",
        "True",
        "aioray.util.scheduling_strategies",
    ]


def test_names_of_the_package_are_those_of_the_module() -> None:
    module = importlib.import_module("aioray.util.placement_group")
    for name in ("get_placement_group", "placement_group_table", "remove_placement_group"):
        assert getattr(aioray.util, name) is getattr(module, name)
    assert callable(aioray.util.placement_group)


def test_a_resource_named_bundle_is_refused():
    with pytest.raises(aioray.exceptions.RaySystemError, match="system reserved resource"):
        aioray.util.placement_group([{"bundle": 1}])
