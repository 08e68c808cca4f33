"""What the state API answers: values of columns, order, and what is left when a driver is gone."""

from __future__ import annotations

import pytest

from aioray.shared import ids
from aioray.state.read.filters import QueryError
from aioray.state.read.queries import get_rows, list_rows, summarize
from tests.cli.cases import RETRIED, ended
from tests.state.history import JOB, NODE, T0, History, a_session, actor_id, creation, worker_id

MS = round(T0 * 1000)


def tasks(history: History, **wanted: object) -> list[dict]:
    filters = [(key, "=", value) for key, value in wanted.items()]
    return list_rows(history.view(), "tasks", filters, detail=True).rows


def test_tasks_are_ordered_by_id_then_attempt() -> None:
    rows = tasks(a_session())
    keys = [(row["task_id"], row["attempt_number"]) for row in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 10


def test_attempts_of_one_task_keep_their_own_errors_and_workers() -> None:
    first, second = get_rows(a_session().view(), "tasks", RETRIED)
    assert (first["attempt_number"], first["state"], first["error_type"]) == (
        0,
        "FAILED",
        "WORKER_DIED",
    )
    assert (second["attempt_number"], second["state"], second["error_type"]) == (
        1,
        "FINISHED",
        None,
    )
    assert (first["worker_pid"], second["worker_pid"]) == (1002, 1001)


def test_ids_are_those_that_the_program_sees() -> None:
    (called,) = tasks(a_session(), name="Counter.add")
    expected = ids.task_id(JOB, (5, creation(1)))
    assert (called["task_id"], called["actor_id"]) == (expected.hex(), actor_id(1))
    (made,) = tasks(a_session(), type="actor_creation_task")
    assert (made["task_id"], made["actor_id"]) == (creation(1).hex(), actor_id(1))
    (child,) = tasks(a_session(), state="RUNNING")
    assert child["parent_task_id"] == ids.task_id(JOB, 4).hex()
    (waiting, _) = tasks(a_session(), name="wait")
    assert waiting["parent_task_id"] == ids.driver_task_id(JOB).hex()


def test_times_are_milliseconds_since_the_epoch_and_follow_the_states() -> None:
    (row,) = tasks(a_session(), name="setup")
    assert [(e["state"], e["created_ms"] - MS) for e in row["events"]] == [
        ("PENDING_ARGS_AVAIL", 3000),
        ("PENDING_NODE_ASSIGNMENT", 3000),
        ("SUBMITTED_TO_WORKER", 3000),
        ("RUNNING", 3000),
        ("FINISHED", 3500),
    ]
    assert row["creation_time_ms"] == row["start_time_ms"] == MS + 3000
    assert row["end_time_ms"] == MS + 3500
    assert all(type(row[key]) is int for key in row if key.endswith("_ms"))


def test_call_of_an_actor_waits_in_its_process_before_it_runs() -> None:
    (row,) = tasks(a_session(), name="Counter.add")
    states = [event["state"] for event in row["events"]]
    assert states[2:5] == [
        "SUBMITTED_TO_WORKER",
        "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
        "RUNNING",
    ]


def test_attempt_that_was_never_sent_has_no_worker_and_no_node() -> None:
    rows = tasks(a_session(), name="wait")
    assert [row["state"] for row in rows] == ["PENDING_NODE_ASSIGNMENT", "PENDING_ARGS_AVAIL"]
    for row in rows:
        assert row["node_id"] is row["worker_id"] is row["worker_pid"] is row["end_time_ms"] is None
        assert row["required_resources"] == {"CPU": 4.0}


def test_output_of_an_attempt_is_told_by_where_it_stands() -> None:
    history = a_session()
    history.output(1, 1, 2, b"oops")
    history.output(1, 1, 1, b"more")
    (row,) = tasks(history, worker_pid=1001, error_type="TASK_EXECUTION_EXCEPTION", name="f")
    log = row["task_log_info"]
    assert (log["stdout_start"], log["stdout_end"]) == (
        len(b"hello\n"),
        len(b"hello\nfrom f\nmore"),
    )
    assert (log["stderr_start"], log["stderr_end"]) == (0, 4)
    assert log["stdout_file"] == f"worker-{worker_id(1)}-{JOB.hex()}-1001.out"
    (silent,) = tasks(history, name="setup")
    assert silent["task_log_info"] is None


def test_row_of_the_driver_comes_only_when_asked_for() -> None:
    view = a_session().view()
    assert list_rows(view, "tasks", [("type", "=", "DRIVER_TASK")]).rows == []
    everything = list_rows(view, "tasks", exclude_driver=False)
    assert (everything.total, everything.rows[-1]["type"]) == (11, "DRIVER_TASK")
    (row,) = get_rows(view, "tasks", ids.driver_task_id(JOB).hex())
    assert (row["type"], row["state"], row["worker_pid"]) == ("DRIVER_TASK", "RUNNING", 1000)
    cut = list_rows(view, "tasks", exclude_driver=False, limit=10)
    assert (len(cut.rows), cut.total, len(cut.warnings)) == (10, 11, 1)


def test_id_in_capitals_is_found_and_a_short_one_refused() -> None:
    view = a_session().view()
    assert len(get_rows(view, "tasks", RETRIED.upper())) == 2
    assert get_rows(view, "tasks", "ab" * 24) == []
    assert get_rows(view, "workers", "ab") == []
    for resource, size in (("tasks", 24), ("actors", 16), ("nodes", 28)):
        with pytest.raises(QueryError, match=f"length {size}, got 1"):
            get_rows(view, resource, "ab")


def test_objects_are_told_while_the_session_lives() -> None:
    history = a_session()
    sizes = [row["object_size"] for row in list_rows(history.view(), "objects").rows]
    assert sorted(sizes) == [-1, 266, 8_000_266]
    assert list_rows(ended().view(), "objects").rows == []


def test_nothing_outlives_a_driver_that_was_killed() -> None:
    view = ended().view()
    assert {row["is_alive"] for row in list_rows(view, "workers").rows} == {False}
    actors = list_rows(view, "actors", detail=True).rows
    assert {row["state"] for row in actors} == {"DEAD"}
    causes = {row["class_name"]: row["death_cause"]["actor_died_error_context"] for row in actors}
    assert causes["Broken"]["error_message"] == "It called exit_actor()."
    assert causes["Counter"]["reason"] == causes["Later"]["reason"] == "OWNER_DIED"
    assert (causes["Counter"]["never_started"], causes["Later"]["never_started"]) == (False, True)
    (job,), (node,) = (list_rows(view, name).rows for name in ("jobs", "nodes"))
    assert (job["status"], node["state"]) == ("FAILED", "DEAD")
    assert job["message"] == "The driver was killed, or it crashed."


def test_death_of_an_actor_is_told_in_rays_form() -> None:
    history = a_session()
    error = "RuntimeError: init failed"
    history.actor(
        4, "Bad", "DEAD", death_cause={"reason": "ACTOR_CREATION_FAILED", "error_message": error}
    )
    rows = {row["class_name"]: row for row in list_rows(history.view(), "actors", detail=True).rows}
    exited = rows["Broken"]["death_cause"]["actor_died_error_context"]
    assert exited["reason"] == "WORKER_DIED"
    assert (exited["owner_id"], exited["pid"], exited["name"]) == (worker_id(0), 1004, "")
    assert rows["Bad"]["death_cause"] == {
        "creation_task_failure_context": {
            "formatted_exception_string": error,
            "actor_id": actor_id(4),
        }
    }
    assert rows["Counter"]["death_cause"] is None
    assert rows["Counter"]["serialized_runtime_env"] == "{}"
    assert rows["Broken"]["serialized_runtime_env"] == '{"env_vars": {"FOO": "bar"}}'


def test_job_that_ended_in_order_has_succeeded() -> None:
    history = a_session()
    history.end(9.0)
    (job,) = list_rows(history.view(), "jobs", detail=True).rows
    assert (job["status"], job["message"], job["end_time"]) == ("SUCCEEDED", None, MS + 9000)


def test_runtime_env_is_told_once_with_its_error() -> None:
    history = a_session()
    again = history.signature("other", runtime_env={"env_vars": {"FOO": "bar"}})
    history.attempt(
        again, 20, created=1.0, ended=2.0, error_type="RUNTIME_ENV_SETUP_FAILED", error_message="no"
    )
    history.attempt(again, 21, created=1.0, state="PENDING_NODE_ASSIGNMENT")
    (row,) = list_rows(history.view(), "runtime_envs", detail=True).rows
    assert row == {
        "runtime_env": {"env_vars": {"FOO": "bar"}},
        "success": False,
        "creation_time_ms": None,
        "node_id": NODE,
        "ref_cnt": 1,
        "error": "no",
    }


def test_summaries_count_what_the_lists_tell() -> None:
    view = a_session().view()
    counted = summarize(view, "tasks")
    rows = list_rows(view, "tasks").rows
    assert sum(sum(g["state_counts"].values()) for g in counted["summary"].values()) == len(rows)
    assert counted["summary"]["potentially_fail"]["state_counts"] == {"FAILED": 1, "FINISHED": 1}
    assert (counted["total_tasks"], counted["total_actor_tasks"]) == (8, 1)
    assert counted["total_actor_scheduled"] == 1
    assert summarize(view, "actors")["total_actors"] == 3
    objects = summarize(view, "objects")
    assert objects["total_objects"] == objects["summary"]["disabled"]["total_objects"] == 3
    assert objects["total_size_mb"] == pytest.approx((8_000_266 + 266) / 2**20)


def test_events_keep_their_ids_and_order() -> None:
    view = a_session().view()
    first, second = list_rows(view, "cluster_events").rows
    assert first["time"] < second["time"]
    assert get_rows(view, "cluster_events", first["event_id"])[0]["message"] == "Worker 1002 died."


def test_attempt_whose_argument_failed_has_ended_in_the_driver() -> None:
    history = a_session()
    signature = history.signature("takes")
    failed = {"error_type": "TASK_EXECUTION_EXCEPTION", "created": 1.0, "ended": 1.5}
    history.attempt(signature, 30, **failed)
    history.attempt(signature, 31, **{**failed, "error_type": "TASK_CANCELLED"})
    first, second = sorted(tasks(history, name="takes"), key=lambda row: row["error_type"])
    assert (first["worker_id"], first["worker_pid"]) == (None, None)
    assert first["node_id"] is None
    assert (second["worker_id"], second["worker_pid"]) == (worker_id(0), 1000)
    assert second["node_id"] == NODE
