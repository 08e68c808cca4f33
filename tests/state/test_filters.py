"""Filters and limits, against a model that says in one line what a filter means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioray.state.read.columns import RESOURCES
from aioray.state.read.filters import (
    Filter,
    FilterFormatError,
    QueryError,
    UnknownKeyError,
    check_filters,
    check_key,
    check_limit,
    contradiction,
    matcher,
    parse_filter,
)
from aioray.state.read.queries import list_rows
from tests.state.history import JOB, History, a_session

TASKS, WORKERS, ACTORS = (RESOURCES[name] for name in ("tasks", "workers", "actors"))
HEX = "16310a0f0a45af5cffffffffffffffffffffffff01000000"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("state=FAILED", ("state", "=", "FAILED")),
        ("state!=FAILED", ("state", "!=", "FAILED")),
        ("state==FAILED", ("state", "=", "=FAILED")),
        ("state!=FAILED=x", ("state", "!=", "FAILED=x")),
        ("name=a!=b", ("name", "=", "a!=b")),
        ("state =x", ("state ", "=", "x")),
    ],
)
def test_first_predicate_of_the_text_counts(text: str, parsed: tuple[str, str, str]) -> None:
    assert parse_filter(text) == parsed


@pytest.mark.parametrize("text", ["", "state", "=", "!=", "=FAILED", "state=", "state!=", "a>1"])
def test_text_that_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterFormatError, match="Please provide key=val or key!=val"):
        parse_filter(text)


words = st.text(st.characters(exclude_characters="=!"), min_size=1)


@given(words, st.sampled_from(["=", "!="]), st.text(min_size=1))
def test_what_is_put_together_is_taken_apart(key: str, predicate: str, value: str) -> None:
    assert parse_filter(f"{key}{predicate}{value}") == (key, predicate, value)


def test_unknown_key_is_told_with_those_there_are() -> None:
    check_key(TASKS, "STATE")
    with pytest.raises(UnknownKeyError, match=r"'nosuch' for resource 'tasks'.* task_id, attempt"):
        check_key(TASKS, "nosuch")


@pytest.mark.parametrize(
    ("resource", "given_filter", "value"),
    [
        (TASKS, ("attempt_number", "=", "1"), 1),
        (TASKS, ("ATTEMPT_NUMBER", "!=", 1), 1),
        (WORKERS, ("is_alive", "=", "True"), True),
        (WORKERS, ("is_alive", "=", "0"), False),
        (WORKERS, ("is_alive", "=", False), False),
        (WORKERS, ("is_alive", "=", 1), True),
        (TASKS, ("name", "=", 5), "5"),
        (ACTORS, ("state", "=", "alive"), "alive"),
        (TASKS, ("state", "=", "FOO"), "FOO"),
        (TASKS, ("task_id", "=", HEX), HEX),
        (TASKS, ("node_id", "=", "ab"), "ab"),
    ],
)
def test_values_are_read_as_their_columns_have_them(resource, given_filter, value) -> None:
    (checked,) = check_filters(resource, [given_filter])
    assert type(checked.value) is type(value)
    assert checked == (given_filter[0].lower(), given_filter[1], value)


@pytest.mark.parametrize(
    ("resource", "given_filter", "text"),
    [
        (TASKS, ("nosuch", "=", "1"), "The given filter column nosuch is not supported"),
        (TASKS, ("events", "=", "1"), "Supported filter columns: task_id, attempt_number"),
        (TASKS, ("attempt_number", "=", "x"), r"`--filter attempt_number \[int\]`"),
        (TASKS, ("attempt_number", "=", True), "int type column"),
        (TASKS, ("attempt_number", "=", 1.0), "int type column"),
        (WORKERS, ("is_alive", "=", "junk"), r"boolean type column.*\[True\|true\|1\]"),
        (TASKS, ("task_id", "=", "abcd"), "needs to have length 24, got 2"),
        (TASKS, ("task_id", "!=", "abcd"), "needs to have length 24, got 2"),
        (TASKS, ("job_id", "=", "01"), "needs to have length 4, got 1"),
        (TASKS, ("actor_id", "=", "None"), "Non-hexadecimal digit found"),
        (ACTORS, ("actor_id", "=", "12"), "needs to have length 16, got 1"),
        (ACTORS, ("state", "=", "FOO"), "Invalid actor state for filtering: FOO"),
    ],
)
def test_filter_that_cannot_be_meant_is_refused(resource, given_filter, text: str) -> None:
    with pytest.raises(QueryError, match=text):
        check_filters(resource, [given_filter])


@pytest.mark.parametrize(
    "given_filter",
    ["state=FAILED", ("state", "="), ("state", ">", "1"), ("state", "==", "1"),
     ("state", "=", None), ("state", "=", ["FAILED", "RUNNING"])],
)  # fmt: skip
def test_what_is_no_filter_is_a_value_error_of_its_own(given_filter: Any) -> None:
    with pytest.raises(FilterFormatError):
        check_filters(TASKS, [given_filter])


def test_two_values_wanted_of_one_column_contradict() -> None:
    two = [Filter("state", "=", "FAILED"), Filter("state", "=", "FINISHED")]
    assert "'state' but different values 'FAILED' & 'FINISHED'" in (contradiction(two) or "")
    assert contradiction([two[0], Filter("state", "=", "failed")]) is None
    assert contradiction([two[0], Filter("state", "!=", "FINISHED")]) is None
    answer = list_rows(a_session().view(), "tasks", two)
    assert (answer.rows, answer.total, len(answer.warnings)) == ([], 0, 1)


@pytest.mark.parametrize("limit", [0, 1, 10_000])
def test_limit_within_bounds_is_accepted(limit: int) -> None:
    check_limit(limit)


def test_limit_out_of_bounds_is_refused(monkeypatch) -> None:
    with pytest.raises(QueryError, match=r"10001 exceeds.*10000.*RAY_MAX_LIMIT_FROM_API_SERVER"):
        check_limit(10_001)
    with pytest.raises(QueryError, match="-1 is negative"):
        check_limit(-1)
    monkeypatch.setenv("RAY_MAX_LIMIT_FROM_API_SERVER", "7")
    check_limit(7)
    with pytest.raises(QueryError, match="8 exceeds the supported limit 7"):
        check_limit(8)


values = st.one_of(st.none(), st.sampled_from(["a", "A", "b", "ß", ""]), st.integers(0, 2))


@given(values, st.sampled_from(["a", "B", "", 0, 1]))
def test_predicates_are_opposites_where_there_is_a_value(value, wanted) -> None:
    equal, different = matcher("=", wanted)(value), matcher("!=", wanted)(value)
    assert (equal, different) == (False, False) if value is None else equal is not different


# ------------------------------------------------------------ a whole list against a model

NAMES, STATES = ("f", "F", "g"), ("FINISHED", "FAILED")
attempts = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(STATES), st.integers(0, 2)), max_size=8
)
conditions = st.lists(
    st.one_of(
        st.tuples(st.just("name"), st.sampled_from(["=", "!="]), st.sampled_from(["f", "G", "h"])),
        st.tuples(
            st.just("error_type"), st.sampled_from(["=", "!="]), st.sampled_from(["worker_died"])
        ),
        st.tuples(
            st.just("attempt_number"), st.sampled_from(["=", "!="]), st.sampled_from(["0", 1])
        ),
    ),
    max_size=3,
)


def fits(row: dict[str, Any], condition: tuple[str, str, Any]) -> bool:
    key, predicate, value = condition
    found = row[key]
    if found is None:
        return False
    return (str(found).lower() == str(value).lower()) is (predicate == "=")


@given(attempts, conditions, st.integers(0, 9))
def test_list_is_what_fits_in_order_and_no_more_than_the_limit(made, wanted, limit: int) -> None:
    history = History()
    signatures = {name: history.signature(name) for name in NAMES}
    for label, (name, state, attempt) in enumerate(made, 1):
        error = "WORKER_DIED" if state == "FAILED" else None
        history.attempt(signatures[name], label, attempt, created=0.0, ended=1.0, error_type=error)
    view = history.view()
    everything = list_rows(view, "tasks").rows
    assert len(everything) == len(made)
    assert everything == sorted(everything, key=lambda r: (r["task_id"], r["attempt_number"]))
    answer = list_rows(view, "tasks", wanted, limit=limit)
    expected = [row for row in everything if all(fits(row, one) for one in wanted)]
    assert answer.rows == expected[:limit]
    if contradiction(check_filters(TASKS, wanted)) is None:
        assert answer.total == len(expected)
        assert bool(answer.warnings) is (len(expected) > limit)
    assert {row["job_id"] for row in everything} <= {JOB.hex()}
