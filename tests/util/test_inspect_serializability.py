"""What cannot be serialized, told to a person and to a program."""

from __future__ import annotations

import io
import threading

import pytest

import aioray.util
from aioray.util.check_serialize import FailureTuple, inspect_serializability

lock = threading.Lock()


class Holder:
    def __init__(self, **members):
        self.__dict__.update(members)


def inspect(obj, **options):
    report = io.StringIO()
    ok, failures = inspect_serializability(obj, print_file=report, **options)
    return ok, {(each.name, each.path) for each in failures}, report.getvalue(), failures


@pytest.mark.parametrize("obj", [1, "text", inspect, Holder(a=[1])])
def test_serializable_object_has_no_failures(obj):
    ok, failures, report, _ = inspect(obj, name="it")
    assert (ok, failures) == (True, set())
    assert "Checking serializability of it\nIt can be serialized." in report


def test_closure_attribute_and_item_are_named():
    own = threading.Lock()
    cases = [
        (lambda: own, ("own", ("it", "own"))),
        (Holder(inner=own), ("inner", ("it", "inner"))),
        (Holder(inner={"key": own}), ("key", ("it", "inner", "key"))),
        ([1, [own]], ("[0]", ("it", "[1]", "[0]"))),
    ]
    for obj, expected in cases:
        ok, failures, report, _ = inspect(obj, name="it")
        assert (ok, failures) == (False, {expected})
        assert "cannot pickle '_thread.lock' object" in report


def test_failure_holds_the_object_and_where_it_was_found():
    inner = {"key": lock}
    (failure,) = inspect(Holder(inner=inner), name="it")[3]
    assert isinstance(failure, FailureTuple)
    assert failure.obj is lock
    assert failure.parent is inner
    assert repr(failure).startswith("FailTuple(key [path=it -> inner -> key, obj=<unlocked")


def test_whole_that_is_itself_to_blame_has_no_name_and_no_parent():
    (failure,) = inspect(lock)[3]
    assert (failure.name, failure.path, failure.parent) == ("unknown", (), None)


@pytest.mark.parametrize(
    ("depth", "name"), [(0, "unknown"), (1, "a"), (2, "b"), (3, "c"), (9, "c")]
)
def test_depth_bounds_how_far_the_search_goes(depth, name):
    ok, failures, report, _ = inspect(Holder(a={"b": {"c": lock}}), name="it", depth=depth)
    assert not ok
    assert {found for found, _ in failures} == {name}
    assert (f"no deeper than {depth} levels" in report) is (depth < 4)


def test_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth"):
        inspect_serializability(1, depth=-1)


def test_report_goes_to_stdout_and_shows_the_repr_without_a_name(capsys):
    assert aioray.util.inspect_serializability([1, 2]) == (True, set())
    assert "Checking serializability of [1, 2]\n" in capsys.readouterr().out
