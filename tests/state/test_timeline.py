"""The timeline is a trace that Perfetto can draw: slices nest, pairs close, rows have names."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aioray.state.read.timeline import trace
from tests.state.history import T0, History, a_session

US = 1_000_000


def slices(events: list[dict]) -> dict[tuple[int, int], list[tuple[float, float]]]:
    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            spans = rows.setdefault((event["pid"], event["tid"]), [])
            spans.append((event["ts"], event["ts"] + event["dur"]))
    return {row: sorted(spans) for row, spans in rows.items()}


def check(events: list[dict]) -> None:
    json.dumps(events, allow_nan=False)
    assert {event["ph"] for event in events} <= {"X", "M", "b", "e", "i"}
    for event in events:
        assert type(event["pid"]) is type(event["tid"]) is int
        assert event["ph"] == "M" or event["ts"] >= 0
        assert event.get("dur", 0) >= 0
    for spans in slices(events).values():
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert named == set(slices(events))
    open_pairs: Counter[tuple[int | None, str]] = Counter()
    ends: dict[tuple[int | None, str], float] = {}
    for event in events:
        key = (event.get("id"), event["name"])
        if event["ph"] == "b":
            open_pairs[key] += 1
            ends[key] = event["ts"]
        elif event["ph"] == "e":
            open_pairs[key] -= 1
            assert event["ts"] >= ends[key]
    assert set(open_pairs.values()) <= {0}


def test_session_with_something_of_everything_is_a_valid_trace() -> None:
    check(trace(a_session().view()))


def test_empty_session_is_a_valid_trace() -> None:
    check(trace(History().view()))


def test_attempt_is_a_slice_in_the_row_of_its_worker() -> None:
    events = trace(a_session().view())
    (slice_,) = [e for e in events if e["ph"] == "X" and e["cat"] == "task::setup"]
    assert (slice_["ts"], slice_["dur"]) == ((T0 + 3.0) * US, 0.5 * US)
    assert slice_["args"]["state"] == "FINISHED"
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[slice_["pid"], slice_["tid"]] == "pid 1001"
    assert "pid 1003, actor Counter" in names.values()


def test_failure_is_red_and_marked_and_a_retry_says_its_number() -> None:
    events = trace(a_session().view())
    tried = [e for e in events if e["ph"] == "X" and e["cat"] == "task::potentially_fail"]
    assert [e["name"] for e in tried] == ["potentially_fail (attempt 1)", "potentially_fail"]
    assert [e["cname"] for e in tried] == ["good", "terrible"]
    marks = [e for e in events if e["ph"] == "i" and e["name"] == "WORKER_DIED"]
    assert [(e["ts"], e["tid"]) for e in marks] == [((T0 + 2.5) * US, tried[1]["tid"])]


def test_attempt_that_runs_ends_at_the_moment_of_asking() -> None:
    history = a_session()
    history.live["now"] = T0 + 10.0
    (running,) = [
        e for e in trace(history.view()) if e["ph"] == "X" and e["args"]["state"] == "RUNNING"
    ]
    assert running["ts"] + running["dur"] == (T0 + 10.0) * US


times = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=12)


@given(times)
def test_calls_side_by_side_get_rows_of_their_own(spans) -> None:
    history = History()
    history.worker(1, launched=0.0, forked=0.0, ready=0.0)
    history.live["now"] = T0 + 50.0
    signature = history.signature("f")
    for label, (start, length, running) in enumerate(spans, 1):
        moments = {"created": 0.0, "ready": 0.0, "sent": 0.0, "started": float(start)}
        if running:
            history.attempt(signature, label, worker=1, seq=label, state="RUNNING", **moments)
        else:
            history.attempt(
                signature, label, worker=1, seq=label, ended=float(start + length), **moments
            )
    events = trace(history.view())
    check(events)
    assert sum(len(found) for found in slices(events).values()) == len(spans)


def test_waiting_is_told_with_its_phases_where_there_are_several() -> None:
    history = History()
    signature = history.signature("f")
    history.attempt(signature, 1, created=0.0, ready=0.0, sent=0.0, started=0.0, ended=1.0)
    history.attempt(signature, 2, created=0.0, ready=0.0, sent=2.0, started=2.0, ended=3.0)
    history.attempt(signature, 3, created=0.0, ready=1.0, sent=2.0, started=4.0, ended=5.0)
    history.attempt(signature, 4, created=0.0, ended=7.0, error_type="TASK_CANCELLED")
    events = trace(history.view())
    check(events)
    begun = [e for e in events if e["ph"] == "b"]
    ended = {(e["id"], e["name"]): e["ts"] for e in events if e["ph"] == "e"}
    told = [
        (e["id"], e["name"], (ended[e["id"], e["name"]] - e["ts"]) / US, e["args"].get("reason"))
        for e in begun
    ]
    assert told == [
        (1, "f", 2.0, "waits for a worker"),
        (2, "f", 4.0, None),
        (2, "waits for arguments", 1.0, None),
        (2, "waits for a worker", 1.0, None),
        (2, "waits in the worker", 2.0, None),
        (3, "f", 7.0, "waits for arguments"),
    ]
