"""Task and session options: what is accepted, what it becomes, and what is refused how."""

import logging
import math
import os
import pickle
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aioray.exceptions import UnsupportedFeatureError
from aioray.options import task as options_module
from aioray.options.task import (
    InitOptions,
    parse_bundle,
    parse_init_options,
    parse_task_options,
)
from aioray.retry import RetryPolicy
from aioray.shared import linux
from aioray.shared.options import TaskOptions, default_max_retries
from aioray.shared.wire import DYNAMIC, STREAMING
from aioray.util.annotations import RayDeprecationWarning


def decorated(**given: Any) -> TaskOptions:
    return parse_task_options(given, base=None, is_generator=False)


def changed(base: TaskOptions, **given: Any) -> TaskOptions:
    return parse_task_options(given, base=base, is_generator=False)


def started(
    address: Any = None, environ: Mapping[str, str] | None = None, **given: Any
) -> InitOptions:
    return parse_init_options(address, given, environ=environ or {})


def predicate(error: BaseException) -> bool:
    return "again" in str(error)


async def async_predicate(error: BaseException) -> bool:
    return True


class CallableObject:
    def __call__(self, error: BaseException) -> bool:
        return True


class NodeAffinitySchedulingStrategy:
    pass


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


CALLABLE = CallableObject()
STRATEGY = NodeAffinitySchedulingStrategy()
POLICY = RetryPolicy(1.0)


# --- tasks -------------------------------------------------------------------------------------


def test_defaults() -> None:
    options = decorated()
    assert options == TaskOptions()
    assert (options.num_returns, options.max_retries, options.retry_exceptions) == (1, None, False)
    assert (options.max_calls, options.num_cpus, options.demand) == (0, 1.0, (("CPU", 10_000),))
    assert (options.retry, options.name, options.runtime_env) == (None, None, None)
    assert options.enable_task_events is True


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("num_returns", None, 1),
        ("num_returns", 0, 0),
        ("num_returns", 3, 3),
        ("max_retries", -1, -1),
        ("max_retries", 0, 0),
        ("max_retries", True, 1),
        ("max_retries", None, None),
        ("retry_exceptions", True, True),
        ("retry_exceptions", False, False),
        ("retry_exceptions", [], ()),
        ("retry_exceptions", [ValueError, OSError], (ValueError, OSError)),
        ("retry_exceptions", (Exception,), (Exception,)),
        ("retry_exceptions", predicate, predicate),
        ("retry_exceptions", CALLABLE, CALLABLE),
        ("retry", POLICY, POLICY),
        ("retry", None, None),
        ("priority", 5, 5.0),
        ("priority", -0.5, -0.5),
        ("priority", None, 0.0),
        ("max_calls", 0, 0),
        ("max_calls", 5, 5),
        ("max_calls", None, 0),
        ("num_cpus", None, 1.0),
        ("num_cpus", 0, 0),
        ("num_cpus", 0.0001, 0.0001),
        ("num_cpus", True, 1),
        ("num_gpus", None, 0.0),
        ("num_gpus", 0.5, 0.5),
        ("num_gpus", 2.0, 2.0),
        ("memory", None, 0.0),
        ("memory", 10**9, 10**9),
        ("resources", None, {}),
        ("resources", {"disk": 1.5}, {"disk": 1.5}),
        ("name", "step", "step"),
        ("name", None, None),
        ("name", "", ""),
        ("runtime_env", None, None),
        ("runtime_env", {}, {}),
        ("runtime_env", {"env_vars": None}, {}),
        ("runtime_env", {"pip": None}, {}),
        ("runtime_env", {"env_vars": {"A": "1"}}, {"env_vars": {"A": "1"}}),
        ("enable_task_events", False, False),
        ("scheduling_strategy", None, None),
        ("scheduling_strategy", "SPREAD", "SPREAD"),
        ("scheduling_strategy", "anything", "anything"),
        ("scheduling_strategy", STRATEGY, STRATEGY),
        ("placement_group", None, "default"),
        ("placement_group", "default", "default"),
        ("placement_group_bundle_index", 2, 2),
        ("placement_group_capture_child_tasks", True, True),
        ("accelerator_type", "A100", "A100"),
        ("label_selector", {"zone": "a"}, {"zone": "a"}),
        ("fallback_strategy", [{"label_selector": {"a": "b"}}], [{"label_selector": {"a": "b"}}]),
        ("_labels", {"a": "b"}, {"a": "b"}),
        ("_generator_backpressure_num_objects", -1, -1),
        ("_generator_backpressure_num_objects", None, None),
        ("_num_objects_per_yield", 2, 2),
    ],
)
def test_accepted_value_is_kept_as(option: str, value: Any, kept: Any) -> None:
    found = getattr(decorated(**{option: value}), option.removeprefix("_"))
    assert found == kept
    assert type(found) is type(kept)


def test_object_store_memory_none_is_accepted() -> None:
    assert decorated(object_store_memory=None) == TaskOptions()


@pytest.mark.parametrize("in_options", [False, True])
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("num_returns", -1, ValueError),
        ("num_returns", "many", TypeError),
        ("num_returns", "streaming", ValueError),
        ("num_returns", "dynamic", ValueError),
        ("num_returns", 1.0, TypeError),
        ("num_returns", [1], TypeError),
        ("max_retries", -2, ValueError),
        ("max_retries", "3", TypeError),
        ("max_retries", 3.0, TypeError),
        ("retry_exceptions", None, TypeError),
        ("retry_exceptions", ValueError, TypeError),
        ("retry_exceptions", int, TypeError),
        ("retry_exceptions", "ValueError", TypeError),
        ("retry_exceptions", 1, TypeError),
        ("retry_exceptions", {ValueError}, TypeError),
        ("retry_exceptions", async_predicate, TypeError),
        ("retry_exceptions", [KeyboardInterrupt], ValueError),
        ("retry_exceptions", [BaseException], ValueError),
        ("retry_exceptions", [ValueError, int], ValueError),
        ("retry_exceptions", [ValueError()], ValueError),
        ("retry_exceptions", ["ValueError"], ValueError),
        ("retry_exceptions", (predicate,), ValueError),
        ("retry", 3, TypeError),
        ("retry", RetryPolicy, TypeError),
        ("priority", "high", TypeError),
        ("priority", True, TypeError),
        ("priority", math.inf, ValueError),
        ("priority", math.nan, ValueError),
        ("priority", 10**400, ValueError),
        ("num_cpus", -1, ValueError),
        ("num_cpus", 0.00005, ValueError),
        ("num_cpus", "1", TypeError),
        ("num_cpus", math.nan, ValueError),
        ("num_cpus", math.inf, ValueError),
        ("num_cpus", 1j, TypeError),
        ("num_gpus", 1.5, ValueError),
        ("num_gpus", -0.5, ValueError),
        ("num_gpus", 1e-9, ValueError),
        ("num_gpus", "1", TypeError),
        ("memory", -1, ValueError),
        ("memory", 0.00001, ValueError),
        ("memory", "1GB", TypeError),
        ("memory", 10**400, ValueError),
        ("memory", 1e308, ValueError),
        ("resources", ["disk"], TypeError),
        ("resources", {"CPU": 1}, ValueError),
        ("resources", {"GPU": 1}, ValueError),
        ("resources", {"memory": 1}, ValueError),
        ("resources", {"object_store_memory": 1}, ValueError),
        ("resources", {"disk": -1}, ValueError),
        ("resources", {"disk": 0.00001}, ValueError),
        ("resources", {"disk": "1"}, TypeError),
        ("resources", {"disk": None}, TypeError),
        ("resources", {1: 1}, TypeError),
        ("object_store_memory", 1, ValueError),
        ("object_store_memory", 0, ValueError),
        ("name", 1, TypeError),
        ("name", b"f", TypeError),
        ("runtime_env", "env", TypeError),
        ("runtime_env", [], TypeError),
        ("enable_task_events", None, TypeError),
        ("enable_task_events", 1, TypeError),
        ("scheduling_strategy", 1, TypeError),
        ("scheduling_strategy", object(), TypeError),
        ("placement_group_bundle_index", "0", TypeError),
        ("placement_group_bundle_index", None, TypeError),
        ("placement_group_bundle_index", -2, ValueError),
        ("placement_group_capture_child_tasks", 1, TypeError),
        ("accelerator_type", 1, TypeError),
        ("label_selector", "zone=a", TypeError),
        ("label_selector", {"zone": 1}, ValueError),
        ("label_selector", {1: "zone"}, ValueError),
        ("fallback_strategy", {"label_selector": {}}, TypeError),
        ("fallback_strategy", [1], ValueError),
        ("fallback_strategy", [{"other": {}}], ValueError),
        ("fallback_strategy", [{"label_selector": {"a": 1}}], ValueError),
        ("_labels", [], TypeError),
        ("_labels", {"a": 1}, ValueError),
        ("_generator_backpressure_num_objects", 0, ValueError),
        ("_generator_backpressure_num_objects", "1", TypeError),
        ("name", BadRepr(), TypeError),
        ("num_returns", -(10**5000), ValueError),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_value_is_refused_by_option_name(
    option: str, value: Any, error: type[Exception], in_options: bool
) -> None:
    base = TaskOptions() if in_options else None
    with pytest.raises(error, match=option) as info:
        parse_task_options({option: value}, base=base, is_generator=False)
    assert type(info.value) is error


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_calls", -1, ValueError),
        ("max_calls", 1.5, TypeError),
        ("max_calls", "1", TypeError),
        ("_num_objects_per_yield", 0, ValueError),
        ("_num_objects_per_yield", None, TypeError),
    ],
)
def test_bad_value_of_a_decorator_only_option(
    option: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{option} must be an int >= "):
        decorated(**{option: value})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"num_cpus": "1"},
            "num_cpus must be a number: 0, or 0.0001 to 1e+15, got '1' of type str",
        ),
        ({"max_retries": "x"}, "max_retries must be an int >= -1 (-1 means unlimited) or None, "),
        ({"retry_exceptions": ValueError}, "got the class ValueError: put it into a list"),
        ({"resources": {"CPU": 1}}, "must not have the key 'CPU': use num_cpus instead"),
        ({"resources": {"d": "1"}}, "resources['d'] must be a number"),
        ({"name": BadRepr()}, "an instance of BadRepr of type BadRepr"),
        ({"name": ["long" * 100]}, "..."),
    ],
)
def test_message_says_what_was_expected_and_found(given: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(text)) as info:
        decorated(**given)
    assert len(str(info.value)) < 300


@pytest.mark.parametrize("base", [None, TaskOptions()])
@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("num_cpu", "no option of"),
        ("max_restarts", "an option of actors, not of"),
        ("lifetime", "an option of actors, not of"),
        ("concurrency_groups", "an option of actors, not of"),
        ("labels", "no option of"),
    ],
)
def test_unknown_option_lists_the_valid_ones(
    option: str, text: str, base: TaskOptions | None
) -> None:
    with pytest.raises(ValueError, match=f"'{option}' is {text} remote functions") as info:
        parse_task_options({option: 1}, base=base, is_generator=False)
    assert "max_retries, memory, memory_limit, name, num_cpus" in str(info.value)


@pytest.mark.parametrize("value", [None, 0, 5])
@pytest.mark.parametrize("option", ["max_calls", "_num_objects_per_yield"])
def test_options_cannot_change(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{option} cannot be changed by \.options\(\)"):
        changed(TaskOptions(), **{option: value})


@pytest.mark.parametrize(
    ("given", "max_calls"),
    [
        ({"num_gpus": 1}, 1),
        ({"num_gpus": 0.1, "max_calls": None}, 1),
        ({"num_gpus": 1, "max_calls": 0}, 0),
        ({"num_gpus": 1, "max_calls": 7}, 7),
        ({"num_gpus": 0}, 0),
    ],
)
def test_gpu_functions_leave_after_each_call_by_default(
    given: dict[str, Any], max_calls: int
) -> None:
    assert decorated(**given).max_calls == max_calls


def test_options_keep_max_calls_of_the_decorator() -> None:
    assert changed(decorated(max_calls=4), num_gpus=1).max_calls == 4
    assert changed(decorated(), num_gpus=1).max_calls == 0


def test_options_replace_given_keys_and_keep_the_others() -> None:
    base = decorated(max_retries=5, retry_exceptions=[OSError], num_cpus=2, resources={"a": 1})
    derived = changed(base, retry_exceptions=[ValueError], resources={"b": 2})
    assert derived.retry_exceptions == (ValueError,)
    assert derived.max_retries == 5
    assert derived.demand == (("CPU", 20_000), ("b", 20_000))
    assert base.retry_exceptions == (OSError,)
    assert base.demand == (("CPU", 20_000), ("a", 10_000))


def test_none_in_options_goes_back_to_the_default() -> None:
    base = decorated(max_retries=5, num_returns=2, num_cpus=4, name="x", resources={"a": 1})
    derived = changed(
        base, max_retries=None, num_returns=None, num_cpus=None, name=None, resources=None
    )
    assert derived == TaskOptions()
    assert derived.demand == (("CPU", 10_000),)


def test_runtime_env_of_options_replaces_that_of_the_decorator() -> None:
    base = decorated(runtime_env={"env_vars": {"B": "2", "A": "1"}})
    other = {"env_vars": {"C": "3"}}
    assert changed(base, runtime_env=other).runtime_env == other
    assert changed(base, name="x").runtime_env == base.runtime_env


@pytest.mark.parametrize("group", [object(), "other"])
def test_placement_group_beside_a_strategy_is_refused(group: Any) -> None:
    with pytest.raises(ValueError, match="cannot be combined"):
        decorated(placement_group=group, scheduling_strategy="SPREAD")
    with pytest.warns(DeprecationWarning, match="PlacementGroupSchedulingStrategy"):
        assert decorated(placement_group=group).placement_group is group
    assert decorated(placement_group="default", scheduling_strategy="SPREAD") == TaskOptions(
        scheduling_strategy="SPREAD"
    )


@pytest.mark.parametrize("num_returns", [None, "streaming"])
@pytest.mark.parametrize("base", [None, TaskOptions(num_returns=3)])
def test_generator_function_streams(num_returns: Any, base: TaskOptions | None) -> None:
    given = {"num_returns": num_returns}
    assert parse_task_options(given, base=base, is_generator=True).num_returns == STREAMING
    assert parse_task_options({}, base=None, is_generator=True).num_returns == STREAMING


def test_option_placement_group_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="PlacementGroupSchedulingStrategy"):
        parse_task_options({"placement_group": "group"}, base=None, is_generator=False)
    parse_task_options({"placement_group": None}, base=None, is_generator=False)


def test_dynamic_generator_is_deprecated() -> None:
    with pytest.warns(RayDeprecationWarning, match="leave num_returns out"):
        found = parse_task_options({"num_returns": "dynamic"}, base=None, is_generator=True)
    assert found.num_returns == DYNAMIC


def test_generator_function_with_a_number_of_returns_is_taken() -> None:
    base = parse_task_options({"num_returns": 3}, base=None, is_generator=True)
    assert base.num_returns == 3
    assert parse_task_options({"name": "g"}, base=base, is_generator=True).num_returns == 3


def test_bad_option_of_a_generator_function_is_named_first() -> None:
    with pytest.raises(ValueError, match="num_returns"):
        parse_task_options({"num_returns": -1}, base=None, is_generator=True)


# --- amounts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "demand"),
    [
        ({"num_cpus": 0}, ()),
        ({"num_cpus": 0.5}, (("CPU", 5_000),)),
        ({"num_cpus": 0.0003}, (("CPU", 3),)),
        ({"num_cpus": 0.29}, (("CPU", 2_900),)),
        ({"num_cpus": 1 / 3}, (("CPU", 3_333),)),
        ({"num_cpus": 1 / 6}, (("CPU", 1_666),)),
        ({"num_cpus": 0, "memory": 10**12}, (("memory", 10**16),)),
        ({"resources": {"a": 0}}, (("CPU", 10_000),)),
        (
            {"resources": {"z": 2, "A": 1}, "num_gpus": 1, "memory": 1},
            (("A", 10_000), ("CPU", 10_000), ("GPU", 10_000), ("memory", 10_000), ("z", 20_000)),
        ),
    ],
)
def test_demand_is_in_sorted_units_without_zeros(given: dict[str, Any], demand: Any) -> None:
    assert decorated(**given).demand == demand


@pytest.mark.parametrize("parts", range(1, 200))
def test_equal_parts_of_one_cpu_fit_into_it(parts: int) -> None:
    ((_, units),) = decorated(num_cpus=1 / parts).demand
    assert units * parts <= 10_000


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_decimal_fractions_are_exact(hundredths: int) -> None:
    assert decorated(num_cpus=hundredths / 100).demand == (("CPU", hundredths * 100),)


# --- frozen ------------------------------------------------------------------------------------


def test_options_do_not_change_with_what_the_user_gave() -> None:
    variables = {"A": "1"}
    given: dict[str, Any] = {"resources": {"a": 1}, "runtime_env": {"env_vars": variables}}
    options = decorated(**given)
    given["resources"]["a"] = 2
    variables["A"] = "2"
    assert options.resources == {"a": 1}
    assert options.runtime_env == {"env_vars": {"A": "1"}}


def test_task_options_are_frozen_hashable_and_survive_pickling() -> None:
    options = decorated(
        resources={"a": 1}, runtime_env={"env_vars": {"A": "1"}}, retry=POLICY, num_returns=2
    )
    copy = pickle.loads(pickle.dumps(options))
    assert copy == options
    assert hash(copy) == hash(options)
    assert copy.demand == options.demand
    with pytest.raises(AttributeError):
        options.max_retries = 1  # type: ignore[misc]


# --- default_max_retries -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "retries"),
    [
        ({}, 3),
        ({"RAY_TASK_MAX_RETRIES": "0"}, 0),
        ({"RAY_TASK_MAX_RETRIES": "-1"}, -1),
        ({"AIORAY_TASK_MAX_RETRIES": "7"}, 7),
        ({"AIORAY_TASK_MAX_RETRIES": "7", "RAY_TASK_MAX_RETRIES": "1"}, 7),
        ({"AIORAY_TASK_MAX_RETRIES": "", "RAY_TASK_MAX_RETRIES": "1"}, 1),
        ({"RAY_TASK_MAX_RETRIES": ""}, 3),
    ],
)
def test_default_max_retries(environ: dict[str, str], retries: int) -> None:
    assert default_max_retries(environ) == retries


@pytest.mark.parametrize("variable", ["AIORAY_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"])
@pytest.mark.parametrize("text", ["many", "-2", "1.5", " ", "0x1"])
def test_malformed_default_max_retries_names_the_variable(variable: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"variable {variable} must .* got '{text}'"):
        default_max_retries({variable: text})


# --- sessions ----------------------------------------------------------------------------------


def test_init_defaults() -> None:
    options = started()
    assert options.num_cpus == len(os.sched_getaffinity(0))
    assert 0 < options.memory < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert options == InitOptions(
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        memory=options.memory,
        object_store_memory=options.object_store_memory,
    )
    assert options.object_store_memory == pytest.approx(options.memory * 3 / 7, abs=2)
    assert (options.log_to_driver, options.logging_level) == (True, logging.INFO)
    assert (options.preload, options.retry_seed, options.env_vars) == ((), None, ())


@pytest.mark.parametrize(
    ("given", "environ", "temp", "spill"),
    [
        ({}, {}, None, None),
        ({}, {"RAY_TMPDIR": "/c"}, "/c", None),
        ({"_temp_dir": "/b"}, {"RAY_TMPDIR": "/c"}, "/b", None),
        ({"_temp_dir": "/b", "object_spilling_directory": Path("/a")}, {}, "/b", "/a"),
        ({"object_spilling_directory": "here"}, {}, None, os.path.abspath("here")),
    ],
)
def test_place_of_sessions_and_of_spilled_values(given, environ, temp, spill) -> None:
    options = parse_init_options(None, given, environ=environ)
    assert (options.temp_dir, options.spill_directory) == (temp, spill)


@pytest.mark.parametrize(
    ("given", "environ", "count"),
    [
        ({}, {}, 100_000),
        ({}, {"RAY_task_events_max_num_task_in_gcs": "500"}, 500),
        ({"history": 7}, {"RAY_task_events_max_num_task_in_gcs": "500"}, 7),
        ({"history": 0}, {}, 0),
    ],
)
def test_how_many_attempts_are_remembered(given, environ, count) -> None:
    assert parse_init_options(None, given, environ=environ).history == count


@pytest.mark.parametrize("wrong", [-1, 1.5, "many"])
def test_history_is_a_number(wrong) -> None:
    with pytest.raises((TypeError, ValueError), match="history"):
        parse_init_options(None, {"history": wrong}, environ={})


@pytest.mark.parametrize(
    ("limits", "largest"),
    [
        ({}, None),
        ({resource.RLIMIT_FSIZE: 4_000_000}, 4_000_000),
        ({resource.RLIMIT_AS: 1 << 60}, (1 << 58, 1 << 57)),
        ({resource.RLIMIT_AS: 1 << 60, resource.RLIMIT_FSIZE: 1_000_000}, 1_000_000),
        ({resource.RLIMIT_AS: 4_000_000}, 0),  # less than is in use
    ],
)
def test_largest_file_is_what_ulimit_allows(monkeypatch, limits, largest) -> None:
    def getrlimit(which: int) -> tuple[int, int]:
        return limits.get(which, resource.RLIM_INFINITY), resource.RLIM_INFINITY

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    found = linux.largest_file()
    if isinstance(largest, tuple):  # a quarter of what is left
        most, least = largest
        assert found is not None
        assert least < found < most
    else:
        assert found == largest


@pytest.mark.parametrize(
    ("largest", "memory"), [(40_000_000, 10_000_000), (4, options_module.MIN_STORE_MEMORY)]
)
def test_store_is_not_larger_than_ulimit_allows(monkeypatch, largest, memory) -> None:
    monkeypatch.setattr(linux, "largest_file", lambda: largest)
    assert started().object_store_memory == memory
    assert started(object_store_memory=50_000_000).object_store_memory == 50_000_000


def test_limits_from_the_environment() -> None:
    environ = {"RAY_max_lineage_bytes": "1000", "RAY_local_fs_capacity_threshold": "0.5"}
    options = parse_init_options(None, {}, environ=environ)
    assert (options.max_lineage_bytes, options.disk_capacity_threshold) == (1000, 0.5)


def test_the_watch_over_memory_is_set_as_in_ray() -> None:
    options = parse_init_options(None, {}, environ={})
    assert (options.memory_monitor_period, options.memory_usage_threshold) == (0.25, 0.95)
    assert (options.min_memory_free, options.task_oom_retries) == (-1, None)
    environ = {
        "RAY_memory_monitor_refresh_ms": "100",
        "RAY_memory_usage_threshold": "0.5",
        "RAY_min_memory_free_bytes": "1000",
        "RAY_task_oom_retries": "-1",
    }
    options = parse_init_options(None, {}, environ=environ)
    assert (options.memory_monitor_period, options.memory_usage_threshold) == (0.1, 0.5)
    assert (options.min_memory_free, options.task_oom_retries) == (1000, -1)
    config = {"memory_usage_threshold": 0.7, "task_oom_retries": 2}
    options = parse_init_options(None, {"_system_config": config}, environ=environ)
    assert (options.memory_usage_threshold, options.task_oom_retries) == (0.7, 2)
    assert options.memory_monitor_period == 0.1


@pytest.mark.parametrize("variable", ["RAY_max_lineage_bytes", "RAY_local_fs_capacity_threshold"])
@pytest.mark.parametrize("text", ["much", "-1", "inf", "nan"])
def test_malformed_limit_names_the_variable(variable: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"variable {variable} must .* got '{text}'"):
        parse_init_options(None, {}, environ={variable: text})


def test_init_capacity_is_in_sorted_units_without_zeros() -> None:
    options = started(num_cpus=4, num_gpus=0, _memory=100, resources={"slot": 0.5})
    assert options.capacity == (("CPU", 40_000), ("memory", 1_000_000), ("slot", 5_000))


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("num_cpus", 0, 0),
        ("num_gpus", 2, 2),
        ("_memory", 0, 0),
        ("resources", {"a": 1}, {"a": 1}),
        ("labels", {"a": "b"}, {"a": "b"}),
        ("object_store_memory", 10**9, 10**9),
        ("namespace", "mine", "mine"),
        ("runtime_env", {"env_vars": {"A": "1"}}, {"env_vars": {"A": "1"}}),
        ("log_to_driver", False, False),
        ("configure_logging", False, False),
        ("logging_level", "debug", logging.DEBUG),
        ("logging_level", logging.ERROR, logging.ERROR),
        ("logging_format", "%(message)s", "%(message)s"),
        ("ignore_reinit_error", True, True),
        ("preload", ["numpy", "os.path"], ("numpy", "os.path")),
        ("retry_seed", 0, 0),
        ("max_worker_rss", 1e9, 10**9),
        ("max_worker_age", 60, 60.0),
    ],
)
def test_init_keeps(option: str, value: Any, kept: Any) -> None:
    found = getattr(started(**{option: value}), option.removeprefix("_"))
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize("option", sorted(options_module._INIT_OPTIONS))
def test_none_is_the_default_of_every_init_option(option: str) -> None:
    assert started(**{option: None}) == started()


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("num_cpus", -1, ValueError),
        ("num_cpus", 1.5, TypeError),
        ("num_cpus", "2", TypeError),
        ("num_gpus", -1, ValueError),
        ("num_gpus", 0.5, TypeError),
        ("_memory", -1, ValueError),
        ("_memory", "1GB", TypeError),
        ("object_store_memory", -1, ValueError),
        ("object_store_memory", 2**20 - 1, ValueError),
        ("object_spilling_directory", 1, TypeError),
        ("_temp_dir", 1, TypeError),
        ("object_store_memory", 1e9, TypeError),
        ("resources", {"CPU": 1}, ValueError),
        ("resources", {"GPU": 1}, ValueError),
        ("resources", {"a": -1}, ValueError),
        ("resources", [("a", 1)], TypeError),
        ("loop", True, TypeError),
        ("loop", "main", ValueError),
        ("labels", {"a": 1}, ValueError),
        ("labels", "a", TypeError),
        ("namespace", "", ValueError),
        ("namespace", 1, TypeError),
        ("runtime_env", "x", TypeError),
        ("log_to_driver", 1, TypeError),
        ("configure_logging", "yes", TypeError),
        ("logging_level", "loud", ValueError),
        ("logging_level", 1.5, TypeError),
        ("logging_format", 1, TypeError),
        ("ignore_reinit_error", 1, TypeError),
        ("preload", "numpy", TypeError),
        ("preload", {"numpy"}, TypeError),
        ("preload", [math], TypeError),
        ("preload", ["no-module"], ValueError),
        ("preload", ["a..b"], ValueError),
        ("preload", [""], ValueError),
        ("retry_seed", "1", TypeError),
        ("max_worker_rss", "1GB", TypeError),
        ("max_worker_rss", True, TypeError),
        ("max_worker_rss", 0, ValueError),
        ("max_worker_rss", math.inf, ValueError),
        ("max_worker_age", "1", TypeError),
        ("max_worker_age", 0, ValueError),
        ("retry_seed", True, TypeError),
        ("retry_seed", 1.0, TypeError),
    ],
)
def test_bad_init_value_is_refused_by_name(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        started(**{option: value})


@pytest.mark.parametrize(
    "option",
    [
        "include_dashboard",
        "dashboard_host",
        "dashboard_port",
        "enable_resource_isolation",
        "cgroup_path",
        "system_reserved_cpu",
        "system_reserved_memory",
        "proxy_server_url",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_plasma_directory",
        "_system_config",
    ],
)
def test_keyword_without_meaning_is_ignored(option: str) -> None:
    given: dict[str, Any] = {option: object()}
    assert started(**given) == started()


def test_unknown_init_keywords_are_all_named() -> None:
    with pytest.raises(RuntimeError, match=r"Unknown keyword argument\(s\): 'num_cpu', 'oops'\. "):
        started(num_cpu=1, num_cpus=1, oops=2)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"storage": "/tmp/x"}, RuntimeError, "storage is no longer"),
        ({"storage": None}, RuntimeError, "storage is no longer"),
        ({"job_config": {}}, UnsupportedFeatureError, "job_config is not supported"),
    ],
)
def test_refused_init_keyword(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        started(**given)


def test_local_mode_false_and_job_config_none_are_fine() -> None:
    assert started(local_mode=False, job_config=None) == started()
    assert started(local_mode=True).local_mode


@pytest.mark.parametrize(
    ("address", "environ"),
    [
        (None, {}),
        ("", {}),
        ("local", {}),
        (None, {"RAY_ADDRESS": ""}),
        (None, {"RAY_ADDRESS": "local"}),
        ("local", {"RAY_ADDRESS": "10.0.0.1:6379"}),
    ],
)
def test_local_address(address: str | None, environ: dict[str, str]) -> None:
    assert started(address, environ, num_cpus=2).num_cpus == 2


@pytest.mark.parametrize(
    ("address", "environ", "error", "text"),
    [
        ("ray://h:1", {}, UnsupportedFeatureError, "^address is 'ray://h:1'"),
        ("10.0.0.1:6379", {}, UnsupportedFeatureError, "cannot connect to a cluster"),
        (None, {"RAY_ADDRESS": "h:1"}, UnsupportedFeatureError, "RAY_ADDRESS is 'h:1'"),
        (8265, {}, TypeError, "address must be a str"),
        (b"local", {}, TypeError, "address must be a str"),
    ],
)
def test_other_address(
    address: Any, environ: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        started(address, environ)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("0", False), ("False", False), ("off", False), ("", True)],
)
def test_log_to_driver_defaults_to_the_variable(text: str, value: bool) -> None:
    environ = {"RAY_LOG_TO_DRIVER": text}
    assert started(None, environ).log_to_driver is value
    explicit = parse_init_options(None, {"log_to_driver": not value}, environ=environ)
    assert explicit.log_to_driver is not value


def test_malformed_log_to_driver_names_the_variable() -> None:
    with pytest.raises(ValueError, match="variable RAY_LOG_TO_DRIVER must be 1 or 0, got 'maybe'"):
        started(None, {"RAY_LOG_TO_DRIVER": "maybe"})


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    with pytest.raises(UnsupportedFeatureError, match="RAY_ADDRESS is 'somewhere:1'"):
        parse_init_options(None, {})


@pytest.mark.parametrize(
    ("shown", "gpus"),
    [(None, 3), ("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("0,-1,2", 1), ("0,1,2,3,4", 3)],
)
def test_gpus_are_those_that_cuda_may_use(
    monkeypatch: pytest.MonkeyPatch, shown: str | None, gpus: int
) -> None:
    names = ["null", "nvidia0", "nvidia1", "nvidia-uvm", "nvidiactl", "nvidia12", "xnvidia3"]
    monkeypatch.setattr("aioray.options.task.os.listdir", lambda _path: names)
    environ = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    assert started(None, environ).num_gpus == gpus


@pytest.mark.parametrize("shown", [None, "0,1"])
def test_machine_without_nvidia_devices_has_no_gpus(
    monkeypatch: pytest.MonkeyPatch, shown: str | None
) -> None:
    monkeypatch.setattr("aioray.options.task.os.listdir", lambda _path: ["null", "nvidiactl"])
    environ = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    assert started(None, environ).num_gpus == 0


@pytest.mark.parametrize(
    ("shown", "devices"),
    [(None, None), ("2,3", ("2", "3")), ("GPU-a, GPU-b,GPU-c", ("GPU-a", "GPU-b"))],
)
def test_gpus_are_called_as_cuda_calls_them(
    shown: str | None, devices: tuple[str, ...] | None
) -> None:
    environ = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    assert started(None, environ, num_gpus=2).devices == devices


@pytest.mark.parametrize("shown", ["", "-1", "0", "0,-1,2"])
def test_no_more_gpus_are_promised_than_cuda_may_use(shown: str) -> None:
    with pytest.raises(ValueError, match="num_gpus is 2, but CUDA_VISIBLE_DEVICES shows"):
        started(None, {"CUDA_VISIBLE_DEVICES": shown}, num_gpus=2)


@pytest.mark.parametrize(
    ("bundle", "units"),
    [
        ({"CPU": 1, "GPU": 0.5, "zero": 0}, (("CPU", 10_000), ("GPU", 5_000))),
        ({"memory": 0.5}, (("memory", 5_000),)),
        ({"CPU": 0}, ()),
    ],
)
def test_bundle_is_counted_in_units(
    bundle: dict[str, float], units: tuple[tuple[str, int], ...]
) -> None:
    assert parse_bundle(bundle) == units


@pytest.mark.parametrize(
    ("bundle", "error"),
    [({"CPU": -1}, ValueError), ({"GPU": 1.5}, ValueError), ({"x": "1"}, TypeError)],
)
def test_bad_bundle_is_refused_by_name(bundle: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{next(iter(bundle))} of a bundle must be"):
        parse_bundle(bundle)
