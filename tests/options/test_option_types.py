"""The keywords that type checkers know are those that are checked at run time."""

from __future__ import annotations

from typing import Any

import pytest

from aioray.options import actor as actor_options
from aioray.options import task as options
from aioray.options import types as option_types

NUM_RETURNS = {"num_returns"}  # stands apart: what is returned depends on it
NOT_CHANGED = {"max_calls", "_num_objects_per_yield"}  # by `.options()` of a function


@pytest.mark.parametrize(
    ("typed", "checked"),
    [
        (option_types.FunctionOptions, {*options._TASK_OPTIONS} - NUM_RETURNS),
        (option_types.CallOptions, {*options._TASK_OPTIONS} - NUM_RETURNS - NOT_CHANGED),
        (option_types.ActorClassOptions, {*actor_options._ACTOR_OPTIONS}),
        (option_types.ActorKeywords, {*actor_options._ACTOR_OPTIONS} - {"concurrency_groups"}),
        (option_types.MethodKeywords, {*actor_options._METHOD_OPTIONS} - NUM_RETURNS),
        (option_types.ActorCallOptions, {*actor_options._CALL_OPTIONS} - NUM_RETURNS),
        (option_types.InitSettings, {*options._INIT_OPTIONS, *options._INIT_IGNORED}),
    ],
)
def test_type_checkers_know_the_options_that_are_checked(typed: Any, checked: set[str]) -> None:
    assert typed.__optional_keys__ == checked


def test_options_of_both_are_those_of_functions_and_of_classes() -> None:
    of_functions = {*options._TASK_OPTIONS}
    assert option_types.CommonOptions.__optional_keys__ == (
        of_functions & {*actor_options._ACTOR_OPTIONS}
    )
