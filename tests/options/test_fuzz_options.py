"""Any object is an option's value, or the error names the option: never another error."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from aioray import CrashBreaker, Limiter, RestartPolicy, RetryPolicy
from aioray.exceptions import UnsupportedFeatureError
from aioray.options.actor import (
    _ACTOR_OPTIONS,
    _CALL_OPTIONS,
    _METHOD_OPTIONS,
    parse_actor_options,
    parse_method_options,
)
from aioray.options.logging_config import LoggingConfig
from aioray.options.runtime_env import _CONFIG, _FIELDS, _UNSUPPORTED, RuntimeEnv, RuntimeEnvConfig
from aioray.options.task import _INIT_OPTIONS, _TASK_OPTIONS, parse_init_options, parse_task_options
from aioray.util import scheduling_strategies as strategies
from tests.shared.fuzzing import anything, fuzzed, odd_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFUSALS = (TypeError, ValueError, UnsupportedFeatureError)
ENVIRON = (
    "RAY_max_lineage_bytes",
    "RAY_memory_usage_threshold",
    "RAY_LOG_TO_DRIVER",
    "RAY_ADDRESS",
)


def accepts(make: Callable[[], Any], *names: str) -> Any:
    """Make something of odd values; return None if it is refused by one of these names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make()
        except REFUSALS as error:
            said = str(error)
            assert any(name in said for name in names), f"{error!r} names none of {names}"  # noqa: PT017
            assert len(said) < 2_000, said
            return None


def options_of(valid: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(valid)), values, min_size=1, max_size=3)


environments = st.dictionaries(
    st.one_of(st.sampled_from(sorted({*_FIELDS, *_UNSUPPORTED, "config"})), odd_text),
    anything,
    max_size=3,
) | st.fixed_dictionaries(
    {},
    optional={
        "env_vars": st.dictionaries(odd_text, odd_text, max_size=3),
        "working_dir": odd_text,
        "py_modules": st.lists(odd_text, max_size=2),
        "worker_process_setup_hook": odd_text,
        "config": st.dictionaries(st.sampled_from(sorted(_CONFIG)), anything),
    },
)
values = anything | environments | st.dictionaries(odd_text, st.floats(), max_size=2)


@fuzzed(60)
@given(options_of(_TASK_OPTIONS), st.booleans(), st.booleans())
def test_tasks(given_: dict[str, Any], is_generator: bool, again: bool) -> None:
    base = parse_task_options({}, base=None, is_generator=is_generator) if again else None
    options = accepts(
        lambda: parse_task_options(given_, base=base, is_generator=is_generator), *given_
    )
    if options is not None:
        hash(options)


@fuzzed(60)
@given(options_of(_ACTOR_OPTIONS), st.booleans(), st.booleans(), st.booleans())
def test_actors(given_: dict[str, Any], asynchronous: bool, saves: bool, again: bool) -> None:
    kind = {"asynchronous": asynchronous, "saves": saves and not asynchronous}
    base = parse_actor_options({}, base=None, **kind) if again else None
    accepts(lambda: parse_actor_options(given_, base=base, **kind), *given_, "__aioray_save__")


@fuzzed(40)
@given(st.data(), st.sampled_from(("method", "call")), st.booleans())
def test_methods(data: st.DataObject, where: str, is_generator: bool) -> None:
    given_ = data.draw(options_of(_METHOD_OPTIONS if where == "method" else _CALL_OPTIONS))
    accepts(lambda: parse_method_options(given_, where=where, is_generator=is_generator), *given_)


@fuzzed(60)
@given(
    st.none() | st.just("local") | anything,
    options_of(_INIT_OPTIONS),
    st.dictionaries(st.sampled_from(ENVIRON), odd_text, max_size=2),
)
def test_sessions(address: Any, given_: dict[str, Any], environ: dict[str, str]) -> None:
    accepts(
        lambda: parse_init_options(address, given_, environ=environ),
        *given_,
        *environ,
        "address",
    )


@fuzzed(60)
@given(environments)
def test_environments(fields: dict[str, Any]) -> None:
    accepts(lambda: RuntimeEnv(**fields), *fields, "runtime_env")
    if isinstance(config := fields.get("config"), dict) and _CONFIG.keys() >= config.keys():
        accepts(lambda: RuntimeEnvConfig(**config), *config)


MADE: dict[Callable[..., Any], tuple[str, ...]] = {
    Limiter: ("name", "concurrency", "rate", "per"),
    CrashBreaker: ("crashes", "period", "rest", "name"),
    **{kind: tuple(signature(kind).parameters) for kind in (RetryPolicy, RestartPolicy)},
    LoggingConfig: ("encoding", "log_level", "additional_log_standard_attrs"),
    strategies.NodeAffinitySchedulingStrategy: ("node_id", "soft"),
    strategies.NodeLabelSchedulingStrategy: ("hard", "soft"),
    strategies.PlacementGroupSchedulingStrategy: (
        "placement_group",
        "placement_group_bundle_index",
        "placement_group_capture_child_tasks",
    ),
}


@fuzzed(40)
@given(st.sampled_from(list(MADE)), st.data())
def test_what_options_are_made_of(make: Callable[..., Any], data: st.DataObject) -> None:
    given_ = data.draw(st.dictionaries(st.sampled_from(MADE[make]), anything))
    accepts(lambda: make(**given_), *MADE[make], "argument", "encoding", "attribute", "limit")
