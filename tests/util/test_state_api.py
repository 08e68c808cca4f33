"""`aioray.util.state`: Ray's functions, from a driver, from its tasks and without a session."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aioray
from aioray.exceptions import RayTaskError
from aioray.util import state
from aioray.util.state import (
    StateApiClient,
    common,
    exception,
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_tasks,
)
from aioray.util.state.common import (
    GetApiOptions,
    ListApiOptions,
    StateResource,
    SummaryResource,
    TaskState,
)
from aioray.util.state.exception import RayStateApiException, ServerUnavailable

ROOT = Path(aioray.__file__).parent.parent
GUARD_SECONDS = 250


@aioray.remote
def fails() -> None:
    raise ValueError("the real error")


@aioray.remote(max_retries=1, retry_exceptions=True)
def fails_always() -> None:
    raise KeyError("again")


@aioray.remote
def looks() -> list[tuple[str, str, bool]]:
    rows = list_tasks(filters=[("name", "=", "looks")])
    return [(row.name, row.state, row.worker_pid == os.getpid()) for row in rows]


@aioray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def looks(self) -> list[str]:
        return [row["class_name"] for row in list_actors()]


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    aioray.init(num_cpus=2, namespace="here")
    yield
    aioray.shutdown()


def test_names_and_parameters_are_rays() -> None:
    for name in state.__all__:
        assert hasattr(state, name)
    common_names = ["address", "timeout", "_explain"]
    for name in state.__all__:
        if name in {"get_log", "list_logs"}:  # see test_get_log
            continue
        if name.startswith("list_"):
            assert list(inspect.signature(getattr(state, name)).parameters) == [
                "address", "filters", "limit", "timeout", "detail", "raise_on_missing_output",
                "_explain",
            ]  # fmt: skip
        elif name.startswith("get_"):
            assert list(inspect.signature(getattr(state, name)).parameters) == [
                "id",
                *common_names,
            ]
    assert issubclass(ServerUnavailable, RayStateApiException)
    assert issubclass(exception.DataSourceUnavailable, Exception)
    assert dataclasses.is_dataclass(common.TaskState)


@pytest.mark.usefixtures("session")
def test_failed_task_is_told_as_soon_as_its_error_is_there() -> None:
    ref = fails.remote()
    with pytest.raises(RayTaskError):
        aioray.get(ref)
    row = get_task(ref)
    assert isinstance(row, TaskState)
    assert (row.task_id, row.state, row.error_type) == (
        ref.task_id().hex(),
        "FAILED",
        "TASK_EXECUTION_EXCEPTION",
    )
    assert "the real error" in (row.error_message or "")
    assert [event["state"] for event in row.events or ()] == [
        "PENDING_ARGS_AVAIL",
        "PENDING_NODE_ASSIGNMENT",
        "SUBMITTED_TO_WORKER",
        "RUNNING",
        "FAILED",
    ]
    assert get_task(ref.task_id().hex().upper()) == row
    (listed,) = list_tasks(filters=[("STATE", "=", "failed")])
    assert (listed.task_id, listed.events, listed.error_message) == (row.task_id, None, None)


@pytest.mark.usefixtures("session")
def test_retried_task_is_a_list_of_its_attempts() -> None:
    ref = fails_always.remote()
    aioray.wait([ref])
    rows = get_task(ref)
    assert isinstance(rows, list)
    assert [(row.attempt_number, row["state"]) for row in rows] == [(0, "FAILED"), (1, "FAILED")]


@pytest.mark.usefixtures("session")
def test_task_and_actor_can_look_too() -> None:
    assert aioray.get(looks.remote()) == [("looks", "RUNNING", True)]
    counter = Counter.options(name="c").remote()
    assert aioray.get(counter.looks.remote()) == ["Counter"]


@pytest.mark.usefixtures("session")
def test_actor_is_told_from_birth_to_death() -> None:
    counter = Counter.options(name="c").remote()
    aioray.get(counter.add.remote())
    (row,) = list_actors()
    assert (row.class_name, row.state, row.name, row.ray_namespace) == (
        "Counter",
        "ALIVE",
        "c",
        "here",
    )
    made = get_actor(row.actor_id)
    assert made is not None
    assert made.num_restarts == 0
    types = {task.type for task in list_tasks(filters=[("actor_id", "=", row.actor_id)])}
    assert types == {"ACTOR_CREATION_TASK", "ACTOR_TASK"}
    assert summarize_actors()["cluster"]["summary"]["Counter"]["state_counts"] == {"ALIVE": 1}
    assert get_worker("ab" * 28) is None
    assert {worker.worker_type for worker in list_workers()} == {"DRIVER", "WORKER"}


@pytest.mark.usefixtures("session")
def test_summary_and_timeline(tmp_path) -> None:
    aioray.wait([fails.remote(), fails_always.remote()], num_returns=2)
    cluster = summarize_tasks()["cluster"]
    assert cluster["summary"]["fails_always"]["state_counts"] == {"FAILED": 2}
    assert (cluster["total_tasks"], cluster["summary_by"]) == (3, "func_name")
    events = aioray.timeline()
    assert events is not None
    ran = sorted(event["name"] for event in events if event["ph"] == "X")
    assert ran == ["fails", "fails_always", "fails_always (attempt 1)"]
    assert aioray.timeline(str(tmp_path / "trace.json")) is None
    written = json.loads((tmp_path / "trace.json").read_text())
    assert [e["name"] for e in written if e["ph"] == "X"] != []


@pytest.mark.usefixtures("session")
def test_node_and_job_are_this_machine_and_this_program() -> None:
    (node,), (job,) = list_nodes(), list_jobs()
    assert node.node_id == aioray.get_runtime_context().get_node_id()
    assert job.job_id == aioray.get_runtime_context().get_job_id()
    assert get_node(node.node_id).is_head_node
    assert get_job(job.job_id).status == "RUNNING"
    assert get_placement_group("ab") is None
    assert (get_objects("ab"), list_objects()) == ([], [])


@pytest.mark.usefixtures("session")
def test_wrong_questions_raise_rays_error() -> None:
    for wrong in (
        {"filters": [("nosuch", "=", "1")]},
        {"filters": [("attempt_number", "=", "x")]},
        {"filters": [("task_id", "=", "abcd")]},
        {"limit": 10_001},
        {"limit": -1},
    ):
        with pytest.raises(RayStateApiException):
            list_tasks(**wrong)
    with pytest.raises(RayStateApiException, match="length 24, got 1"):
        get_task("ab")
    for mistaken in ({"filters": ["state=FAILED"]}, {"limit": 2.5}, {"limit": None}):
        with pytest.raises(ValueError, match=r"triple|whole number"):
            list_tasks(**mistaken)
    with pytest.raises(ConnectionError, match="There is no session nowhere"):
        list_tasks("nowhere")


@pytest.mark.usefixtures("session")
def test_what_is_left_out_is_warned_of_where_it_was_asked() -> None:
    aioray.wait([fails.remote(), fails.remote()], num_returns=2)
    with pytest.warns(UserWarning, match=r"Limit last 1 entries \(Total 2\)") as caught:
        assert len(list_tasks(limit=1)) == 1
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="multiple '=' filters"):
        assert list_tasks(filters=[("name", "=", "a"), ("name", "=", "b")]) == []


@pytest.mark.usefixtures("session")
def test_client_lists_the_driver_too_if_asked() -> None:
    client = StateApiClient()
    rows = client.list(StateResource.TASKS, ListApiOptions(exclude_driver=False))
    assert [row.type for row in rows] == ["DRIVER_TASK"]
    (found,) = [client.get(StateResource.TASKS, rows[0].task_id, GetApiOptions())]
    assert found.worker_pid == os.getpid()
    assert client.summary(SummaryResource.TASKS)["cluster"]["total_tasks"] == 0


async def test_loop_of_the_engine_can_ask_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    async with aioray.Engine(num_cpus=1):
        with pytest.raises(RayTaskError):
            await fails.remote()
        assert [(row.name, row.state) for row in list_tasks()] == [("fails", "FAILED")]


def test_process_without_a_session_sees_the_newest(tmp_path) -> None:
    program = (
        "from aioray.util.state import list_tasks, list_jobs\n"
        "from aioray.util.state.exception import ServerUnavailable\n"
        "try: print([row.name for row in list_tasks()], list_jobs()[0].status)\n"
        "except ServerUnavailable as error: print(isinstance(error, ConnectionError))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(tmp_path)}

    def look() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env=environment,
            text=True,
            timeout=GUARD_SECONDS,
        )
        return done.stdout.strip()

    assert look() == "True"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(tmp_path))
        aioray.init(num_cpus=1)
        try:
            aioray.wait([fails.remote()])
            assert look() == "['fails'] RUNNING"
        finally:
            aioray.shutdown()
    assert look() == "['fails'] SUCCEEDED"


def test_old_name_is_the_same_thing() -> None:
    from aioray.experimental.state import api
    from aioray.experimental.state.common import TaskState as Old

    assert api.list_tasks is list_tasks
    assert Old is TaskState
