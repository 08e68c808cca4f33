"""Options of actors, methods and their calls: what is accepted, what it becomes, what not."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aioray import RestartPolicy, RetryPolicy
from aioray.exceptions import UnsupportedFeatureError
from aioray.options.actor import (
    MAX_RESTARTS,
    parse_actor_options,
    parse_method_options,
)
from aioray.options.task import parse_task_options
from aioray.shared.options import (
    ActorOptions,
    MethodOptions,
    concurrency_groups_of,
    is_ordered,
    resolve_call,
    resolve_method,
)
from aioray.shared.wire import DYNAMIC, STREAMING
from aioray.util.annotations import RayDeprecationWarning

POLICY = RestartPolicy(intensity=2)


def decorated(*, asynchronous: bool = False, saves: bool = False, **given: Any) -> ActorOptions:
    return parse_actor_options(given, base=None, asynchronous=asynchronous, saves=saves)


def changed(base: ActorOptions, **given: Any) -> ActorOptions:
    return parse_actor_options(given, base=base, asynchronous=False, saves=False)


def of_method(*, is_generator: bool = False, **given: Any) -> MethodOptions:
    return parse_method_options(given, where="method", is_generator=is_generator)


def of_call(*, is_generator: bool = False, **given: Any) -> MethodOptions:
    return parse_method_options(given, where="call", is_generator=is_generator)


# --- classes -----------------------------------------------------------------------------------


def test_defaults() -> None:
    options = decorated()
    assert options == ActorOptions()
    assert (options.max_restarts, options.max_task_retries, options.max_pending_calls) == (0, 0, -1)
    assert (options.demand, options.keeps_cpus) == ((("CPU", 10_000),), False)


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("max_restarts", -1, -1),
        ("max_restarts", None, 0),
        ("max_restarts", True, 1),
        ("max_restarts", 2**70, MAX_RESTARTS),
        ("restart_policy", POLICY, POLICY),
        ("restart_policy", None, None),
        ("max_task_retries", -1, -1),
        ("max_task_retries", None, 0),
        ("max_concurrency", 0, 0),
        ("max_concurrency", 7, 7),
        ("max_concurrency", None, None),
        ("max_pending_calls", -1, -1),
        ("max_pending_calls", 5, 5),
        ("max_pending_calls", None, -1),
        ("concurrency_groups", {"io": 2}, {"io": 2}),
        ("concurrency_groups", [], {}),
        ("concurrency_groups", None, {}),
        ("lifetime", "detached", "detached"),
        ("lifetime", "non_detached", "non_detached"),
        ("lifetime", None, None),
        ("name", "keeper", "keeper"),
        ("name", None, None),
        ("namespace", "mine", "mine"),
        ("namespace", None, None),
        ("allow_out_of_order_execution", True, True),
        ("allow_out_of_order_execution", None, None),
        ("interruptible", True, True),
        ("checkpoint_every", 0, 0),
        ("checkpoint_every", 10, 10),
        ("priority", 2, 2.0),
        ("num_cpus", None, None),
        ("num_cpus", 0, 0),
        ("num_gpus", 0.5, 0.5),
        ("memory", None, 0.0),
        ("resources", {"disk": 1}, {"disk": 1}),
        ("runtime_env", {"env_vars": {"A": "1"}}, {"env_vars": {"A": "1"}}),
        ("enable_task_events", False, False),
        ("scheduling_strategy", "SPREAD", "SPREAD"),
        ("placement_group", None, "default"),
        ("accelerator_type", "A100", "A100"),
        ("_labels", {"a": "b"}, {"a": "b"}),
        ("_actor_generator_backpressure_num_objects", -1, -1),
        ("_actor_generator_backpressure_num_objects", 3, 3),
    ],
)
def test_accepted_value_is_kept_as(option: str, value: Any, kept: Any) -> None:
    found = getattr(decorated(**{option: value}), option.removeprefix("_"))
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_restarts", -2, ValueError),
        ("max_restarts", "a", TypeError),
        ("restart_policy", RetryPolicy(), TypeError),
        ("max_task_retries", -2, ValueError),
        ("max_task_retries", 1.5, TypeError),
        ("max_concurrency", -1, ValueError),
        ("max_concurrency", "a", TypeError),
        ("max_pending_calls", -2, ValueError),
        ("concurrency_groups", 5, TypeError),
        ("concurrency_groups", ["io"], TypeError),
        ("concurrency_groups", {"io": 0}, ValueError),
        ("concurrency_groups", {"io": "two"}, TypeError),
        ("concurrency_groups", {5: 1}, TypeError),
        ("concurrency_groups", {"": 1}, ValueError),
        ("lifetime", "x", ValueError),
        ("lifetime", 5, TypeError),
        ("name", 5, TypeError),
        ("namespace", "", ValueError),
        ("namespace", 5, TypeError),
        ("get_if_exists", True, ValueError),
        ("get_if_exists", 5, TypeError),
        ("get_if_exists", None, TypeError),
        ("allow_out_of_order_execution", 5, TypeError),
        ("interruptible", None, TypeError),
        ("checkpoint_every", -1, ValueError),
        ("checkpoint_every", None, TypeError),
        ("priority", float("inf"), ValueError),
        ("num_cpus", -1, ValueError),
        ("resources", {"CPU": 1}, ValueError),
        ("enable_task_events", None, TypeError),
        ("scheduling_strategy", 5, TypeError),
        ("enable_tensor_transport", 5, TypeError),
        ("_actor_generator_backpressure_num_objects", 0, ValueError),
        ("_actor_generator_backpressure_num_objects", -2, ValueError),
        ("_actor_generator_backpressure_num_objects", "a", TypeError),
    ],
)
def test_bad_value_is_refused(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"(?i){option}"):
        decorated(**{option: value})


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("max_retries", "use max_restarts for the actor and max_task_retries for its calls"),
        ("num_returns", r"@method\(num_returns=...\)"),
        ("retry_exceptions", r"@method\(retry_exceptions=...\)"),
        ("retry", "restart_policy"),
        ("max_calls", "exit_actor"),
        ("_generator_backpressure_num_objects", "@method"),
    ],
)
def test_option_of_tasks_is_refused_with_what_to_use_instead(option: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"{option}' is an option of tasks, not of actors.*{hint}"):
        decorated(**{option: 1})


def test_unknown_option_is_refused_with_a_guess() -> None:
    with pytest.raises(ValueError, match=r"no option of actors. Did you mean 'max_restarts'\?"):
        decorated(max_restart=1)


@pytest.mark.parametrize("option", ["max_restarts", "concurrency_groups", "lifetime", "namespace"])
def test_option_of_actors_is_refused_for_tasks(option: str) -> None:
    with pytest.raises(ValueError, match="an option of actors, not of remote functions"):
        parse_task_options({option: None}, base=None, is_generator=False)


def test_concurrency_groups_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match=r"'concurrency_groups' is not supported in '.options\(\)"):
        changed(decorated(), concurrency_groups={"io": 1})


def test_group_beside_strategy_is_refused() -> None:
    assert (
        decorated(placement_group=None, scheduling_strategy="SPREAD").placement_group == "default"
    )
    with pytest.raises(ValueError, match="cannot be combined"):
        decorated(placement_group="other", scheduling_strategy="SPREAD")


def test_store_memory_of_an_actor_warns_and_does_nothing() -> None:
    with pytest.warns(DeprecationWarning, match="no effect for actors"):
        assert decorated(object_store_memory=5) == decorated()
    assert decorated(object_store_memory=None) == decorated()


def test_tensor_transport_of_an_actor_is_unsupported() -> None:
    assert decorated(enable_tensor_transport=False) == decorated()
    with pytest.raises(UnsupportedFeatureError, match="enable_tensor_transport"):
        decorated(enable_tensor_transport=True)


def test_changed_options_replace_and_keep_the_rest() -> None:
    base = decorated(
        max_restarts=3, max_task_retries=2, concurrency_groups={"io": 1}, resources={"disk": 1}
    )
    found = changed(base, max_restarts=1, resources={"tape": 1}, max_task_retries=None)
    assert (found.max_restarts, found.max_task_retries) == (1, 2)
    assert (found.resources, found.concurrency_groups) == ({"tape": 1}, {"io": 1})
    assert changed(base) == base


def test_get_if_exists_takes_the_name_of_the_decorator() -> None:
    assert changed(decorated(name="keeper"), get_if_exists=True).get_if_exists
    with pytest.raises(ValueError, match="name must be specified"):
        changed(decorated(), get_if_exists=True)
    with pytest.raises(ValueError, match="name must be specified"):
        changed(decorated(), name="", get_if_exists=True)


@pytest.mark.parametrize(
    ("given", "demand", "keeps_cpus"),
    [
        ({}, {"CPU": 10_000}, False),
        ({"num_cpus": 0}, {}, True),
        ({"num_cpus": 2}, {"CPU": 20_000}, True),
        ({"num_gpus": 1}, {"CPU": 10_000, "GPU": 10_000}, True),
        ({"num_gpus": 0}, {"CPU": 10_000}, True),
        ({"memory": 5}, {"CPU": 10_000, "memory": 50_000}, False),
        ({"resources": {"disk": 0.5}, "num_cpus": 0}, {"disk": 5_000}, True),
    ],
)
def test_actor_holds_what_it_names_and_one_cpu_beside_it(given, demand, keeps_cpus) -> None:
    options = decorated(**given)
    assert (dict(options.demand), options.keeps_cpus) == (demand, keeps_cpus)


SIDE_BY_SIDE = [{"asynchronous": True}, {"max_concurrency": 2}, {"concurrency_groups": {"io": 1}}]


@pytest.mark.parametrize("how", SIDE_BY_SIDE)
def test_interruptible_needs_calls_one_after_the_other(how: dict[str, Any]) -> None:
    assert decorated(interruptible=True, max_concurrency=1).interruptible
    with pytest.raises(ValueError, match=r"interruptible=True needs.*is_canceled"):
        decorated(interruptible=True, **how)


@pytest.mark.parametrize("how", SIDE_BY_SIDE)
def test_hooks_need_calls_one_after_the_other(how: dict[str, Any]) -> None:
    assert decorated(saves=True, max_concurrency=1) == decorated(max_concurrency=1)
    with pytest.raises(ValueError, match="__aioray_save__ and __aioray_restore__ need"):
        decorated(saves=True, **how)


def test_options_may_not_make_an_interruptible_actor_threaded() -> None:
    with pytest.raises(ValueError, match="interruptible=True needs"):
        changed(decorated(interruptible=True), max_concurrency=2)


@pytest.mark.parametrize(
    ("given", "asynchronous", "concurrency_groups"),
    [
        ({}, False, (("", 1),)),
        ({}, True, (("", 1000),)),
        ({"max_concurrency": 0}, True, (("", 1000),)),
        ({"max_concurrency": 3}, True, (("", 3),)),
        ({"max_concurrency": 3}, False, (("", 3),)),
        ({"concurrency_groups": {"io": 2, "b": 1}}, False, (("", 1), ("io", 2), ("b", 1))),
    ],
)
def test_concurrency_groups(
    given: dict[str, Any], asynchronous: bool, concurrency_groups: Any
) -> None:
    options = decorated(asynchronous=asynchronous, **given)
    assert concurrency_groups_of(options, asynchronous=asynchronous) == concurrency_groups


@pytest.mark.parametrize(
    ("given", "asynchronous", "ordered"),
    [
        ({}, False, True),
        ({"allow_out_of_order_execution": False}, False, True),
        ({"allow_out_of_order_execution": True}, False, False),
        ({}, True, False),
        ({"max_concurrency": 1}, True, False),
        ({"max_concurrency": 2}, False, False),
        ({"concurrency_groups": {"io": 1}}, False, False),
    ],
)
def test_order(given: dict[str, Any], asynchronous: bool, ordered: bool) -> None:
    options = decorated(asynchronous=asynchronous, **given)
    assert is_ordered(options, asynchronous=asynchronous) is ordered


@pytest.mark.parametrize(
    ("given", "asynchronous", "kind"),
    [({}, True, "async"), ({"max_concurrency": 2}, False, "multi-threaded")],
)
def test_order_is_refused_where_it_cannot_be(given: Any, asynchronous: bool, kind: str) -> None:
    options = decorated(asynchronous=asynchronous, allow_out_of_order_execution=False, **given)
    with pytest.raises(ValueError, match=f"using {kind} actors"):
        is_ordered(options, asynchronous=asynchronous)


def test_options_survive_pickling() -> None:
    options = decorated(max_restarts=1, restart_policy=POLICY, resources={"disk": 1})
    copy = pickle.loads(pickle.dumps(options))
    assert (copy, copy.demand, copy.keeps_cpus) == (options, options.demand, True)


# --- methods and calls -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("num_returns", None, None),
        ("num_returns", 0, 0),
        ("num_returns", 2, 2),
        ("concurrency_group", "io", "io"),
        ("max_task_retries", -1, -1),
        ("retry_exceptions", True, True),
        ("retry_exceptions", [OSError], (OSError,)),
        ("retry_exceptions", None, None),
        ("interruptible", True, True),
        ("enable_task_events", False, False),
        ("tensor_transport", "object_store", "object_store"),
        ("_generator_backpressure_num_objects", 2, 2),
        ("_num_objects_per_yield", 3, 3),
    ],
)
def test_accepted_option_of_a_method_is_kept_as(option: str, value: Any, kept: Any) -> None:
    for found in (of_method(**{option: value}), of_call(**{option: value})):
        assert getattr(found, option.removeprefix("_")) == kept


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("num_returns", -1, ValueError),
        ("num_returns", "a", TypeError),
        ("num_returns", "streaming", ValueError),
        ("concurrency_group", 5, TypeError),
        ("max_task_retries", -2, ValueError),
        ("max_task_retries", "a", TypeError),
        ("retry_exceptions", 5, TypeError),
        ("retry_exceptions", [5], ValueError),
        ("retry_exceptions", ValueError, TypeError),
        ("interruptible", 1, TypeError),
        ("enable_task_events", 5, TypeError),
        ("tensor_transport", "nccl", ValueError),
        ("tensor_transport", 5, TypeError),
        ("_generator_backpressure_num_objects", 0, ValueError),
        ("_num_objects_per_yield", 0, ValueError),
    ],
)
def test_bad_option_of_a_method_is_refused(option: str, value: Any, error: Any) -> None:
    for parse in (of_method, of_call):
        with pytest.raises(error, match=f"{option}|tensor transport"):
            parse(**{option: value})


def test_name_and_labels_are_options_of_calls_alone() -> None:
    assert of_call(name="step", _labels={"a": "b"}) == MethodOptions(name="step", labels={"a": "b"})
    for option in ("name", "_labels"):
        with pytest.raises(AssertionError, match=f"argument to @method: '{option}'"):
            of_method(**{option: None})


def test_unknown_option_is_an_assertion_error_of_methods_and_a_type_error_of_calls() -> None:
    with pytest.raises(AssertionError, match=r"'num_return'. Did you mean 'num_returns'\?"):
        of_method(num_return=1)
    with pytest.raises(TypeError, match=r"'num_return'. Did you mean 'num_returns'\?"):
        of_call(num_return=1)


def test_generator_methods_stream_unless_they_say_more() -> None:
    assert of_method(is_generator=True, num_returns="streaming").num_returns == STREAMING
    assert of_method(is_generator=True, num_returns=3).num_returns == 3
    with pytest.warns(RayDeprecationWarning):
        assert of_method(is_generator=True, num_returns="dynamic").num_returns == DYNAMIC
    nothing = MethodOptions()
    for is_generator, expected in ((True, STREAMING), (False, 1)):
        found = resolve_method(nothing, ActorOptions(), is_generator=is_generator)
        assert found.num_returns == expected


@pytest.mark.parametrize(
    ("decorator", "creation", "of_the_method", "of_the_call", "expected"),
    [
        (None, None, None, None, 0),
        (1, None, None, None, 1),
        (1, 2, None, None, 2),
        (1, 0, None, None, 0),
        (1, 2, 3, None, 3),
        (1, 2, 0, None, 0),
        (1, 2, 3, 4, 4),
        (1, 2, 3, 0, 0),
        (None, None, None, -1, -1),
    ],
)
def test_who_decides_how_often_a_call_is_retried(
    decorator, creation, of_the_method, of_the_call, expected
) -> None:
    cls = changed(decorated(max_task_retries=decorator), max_task_retries=creation)
    method = resolve_method(of_method(max_task_retries=of_the_method), cls, is_generator=False)
    call = resolve_call(of_call(max_task_retries=of_the_call), method)
    assert call.max_task_retries == expected


def test_resolved_options_leave_nothing_open_but_the_name() -> None:
    found = resolve_method(MethodOptions(), decorated(interruptible=True), is_generator=False)
    fields = {field: getattr(found, field) for field in MethodOptions.__dataclass_fields__}
    assert [field for field, value in fields.items() if value is None] == ["name"]
    assert found.interruptible is True
    assert (found.concurrency_group, found.retry_exceptions) == ("", False)
