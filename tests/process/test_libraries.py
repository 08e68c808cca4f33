"""What libraries written for Ray ask of a session, by whatever name."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

import aioray
from aioray import _private
from aioray.experimental import internal_kv as kv
from aioray.util import ActorPool
from aioray.util.annotations import RayDeprecationWarning
from aioray.util.queue import Queue, _QueueActor
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from aioray.util.state import list_tasks

from . import jobs
from .support import GUARD, ROOT

same = aioray.remote(jobs.same)


@aioray.remote
class Adder:
    def __init__(self, start=0):
        self.start = start

    def add(self, x):
        return self.start + x

    def ask(self, x):
        return x, _ids_of_context()


def _ids_of_context():
    context = aioray.get_runtime_context()
    with pytest.warns(RayDeprecationWarning, match="get_xxx_id"):
        found = context.get()
    return {
        **{name: str(value) for name, value in found.items()},
        "function": context.get_task_function_name(),
        "mode": context.worker.mode,
        "task_matches": context.get_task_id() == found["task_id"].hex(),
    }


# --- the runtime context ------------------------------------------------------------------------


def test_context_starts_a_session(request):
    request.addfinalizer(aioray.shutdown)
    assert not aioray.is_initialized()
    context = aioray.get_runtime_context()
    assert aioray.is_initialized()
    with pytest.warns(RayDeprecationWarning):
        assert sorted(context.get()) == ["job_id", "namespace", "node_id"]


@pytest.mark.usefixtures("session")
def test_context_gives_ids_by_their_old_names():
    def make():
        @aioray.remote
        def nested():
            return _ids_of_context()

        return nested

    found = aioray.get(make().remote())
    assert found.pop("function") == "test_libraries.nested".replace("test_", "tests.process.test_")
    assert (found.pop("mode"), found.pop("task_matches")) == (aioray.WORKER_MODE, True)
    assert sorted(found) == ["job_id", "namespace", "node_id", "task_id"]
    assert found["job_id"].startswith("JobID(")
    assert found["node_id"] == f"NodeID({aioray.get_runtime_context().get_node_id()})"

    actor = Adder.remote()
    _, found = aioray.get(actor.ask.remote(1))
    assert found["actor_id"] == str(actor._actor_id)
    assert found["function"] == "tests.process.test_libraries.Adder.ask"


@pytest.mark.usefixtures("session")
def test_init_tells_the_address_that_the_context_tells():
    told = aioray.init(ignore_reinit_error=True).address_info
    assert told["gcs_address"] == aioray.get_runtime_context().gcs_address


RAYS_KEYS = {
    "address",
    "dashboard_agent_listen_port",
    "gcs_address",
    "metrics_export_port",
    "node_id",
    "node_ip_address",
    "object_store_address",
    "raylet_socket_name",
    "redis_address",
    "session_dir",
    "webui_url",
}


def test_what_init_returns_is_a_mapping_with_the_keys_of_ray():
    with aioray.init(num_cpus=1) as told:
        assert dict(told) == told.address_info
        assert told.keys() >= RAYS_KEYS
        assert (told["redis_address"], told.get("nothing", 5), len(told)) == (None, 5, len([*told]))
        assert told["node_id"] == aioray.get_runtime_context().get_node_id()
        assert os.path.dirname(told["session_dir"]) == aioray.get_runtime_context().get_temp_dir()
        assert os.path.isdir(told["session_dir"])
        assert (told.dashboard_url, told["webui_url"]) == ("", "")
        assert "address_info" not in repr(told)
        with pytest.raises(KeyError):
            told["dashboard_url"]
        again = aioray.remote(lambda: dict(aioray.init(ignore_reinit_error=True)))
        assert aioray.get(again.remote()) == dict(told)
    assert not aioray.is_initialized()


@pytest.mark.usefixtures("session")
def test_driver_and_workers_share_a_key_value_store():
    def work():
        found = kv._internal_kv_get("from the driver"), kv._internal_kv_initialized()
        return *found, kv._internal_kv_put("from a worker", b"2")

    assert kv._internal_kv_put("from the driver", "1") is False
    assert aioray.get(aioray.remote(work).remote()) == (b"1", True, False)
    assert kv._internal_kv_get(b"from a worker") == b"2"
    assert (kv._internal_kv_exists("from a worker"), kv._internal_kv_exists("x")) == (True, False)
    assert sorted(kv._internal_kv_list("from")) == [b"from a worker", b"from the driver"]
    assert kv._internal_kv_put("from a worker", "3", overwrite=False) is True
    assert kv._internal_kv_get("from a worker") == b"2"
    assert kv._internal_kv_put("from a worker", "3") is True
    assert kv._internal_kv_get("from a worker") == b"3"
    assert kv._internal_kv_get("from a worker", namespace="mine") is None
    assert kv._internal_kv_put("from", "4", namespace=b"mine") is False
    assert kv._internal_kv_list("", namespace="mine") == [b"from"]
    assert kv._internal_kv_del("from") == 0
    assert kv._internal_kv_del("from a worker") == 1
    assert kv._internal_kv_put("from a worker", "") is False
    assert kv._internal_kv_del("from", del_by_prefix=True) == 2
    assert kv._internal_kv_list("") == []
    big = b"x" * 3_000_000
    aioray.get(aioray.remote(lambda: kv._internal_kv_put("big", big)).remote())
    assert aioray.get(aioray.remote(lambda: kv._internal_kv_get("big") == big).remote())


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("wrong", [1, None])
def test_keys_and_values_that_are_no_text_are_refused(wrong):
    for call in (kv._internal_kv_get, kv._internal_kv_exists, kv._internal_kv_del):
        with pytest.raises(AssertionError, match=r"key .* must be bytes or str"):
            call(wrong)
    with pytest.raises(AssertionError, match=r"value .* must be bytes or str"):
        kv._internal_kv_put("a", wrong)


@pytest.mark.usefixtures("session")
def test_context_of_the_driver_has_no_task():
    context = aioray.get_runtime_context()
    assert context.worker.mode == aioray.SCRIPT_MODE == _private.worker.global_worker.mode
    with pytest.warns(RayDeprecationWarning, match="get_node_id"):
        assert context.node_id.hex() == context.get_node_id()
    with pytest.warns(RayDeprecationWarning, match="get_job_id"):
        assert context.job_id.hex() == context.get_job_id()
    with pytest.warns(RayDeprecationWarning), pytest.raises(AssertionError):
        _ = context.task_id
    with pytest.warns(RayDeprecationWarning), pytest.raises(AssertionError):
        _ = context.actor_id
    assert context.get_node_labels() == aioray.nodes()[0]["Labels"]
    assert context.get_node_labels()["ray.io/node-id"] == context.get_node_id()
    assert context.current_placement_group_id.is_nil()
    assert os.path.isdir(context.get_temp_dir())


SCRIPT = """
import ray
def make():
    @ray.remote
    def inner():
        return ray.get_runtime_context().get_task_function_name()
    class Plain:
        def method(self):
            return ray.get_runtime_context().get_task_function_name()
    return inner, ray.remote(Plain)
inner, Plain = make()
print(ray.get([inner.remote(), Plain.remote().method.remote()]))
"""


def test_functions_of_a_script_are_of_a_module_called_as_the_script(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    assert run(str(script)) == "['my_script.inner', 'my_script.Plain.method']\n"
    assert run("-c", SCRIPT) == "['__main__.inner', '__main__.Plain.method']\n"


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aioray", "run", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        timeout=GUARD * 2,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- other ways to call -------------------------------------------------------------------------


@aioray.remote
def step(self, x=0, *, call=None, args=(), kwargs=()):
    return self, x, call, args, kwargs


@aioray.remote
class Agents:
    def take(this, self):  # noqa: N805 - the parameter called self is the second one
        return self

    def __call__(this, *, self, options):  # noqa: N805
        return self, options


@pytest.mark.usefixtures("session")
def test_parameters_may_have_any_name():
    given = {"self": "agent", "call": 1, "args": 2, "kwargs": 3}
    assert aioray.get(step.remote(**given)) == ("agent", 0, 1, 2, 3)
    assert aioray.get(step.options(num_cpus=1).remote(**given)) == ("agent", 0, 1, 2, 3)
    agents = Agents.remote()
    assert aioray.get(agents.take.remote(self=4)) == 4
    assert aioray.get(agents.take.options(name="n").remote(self=5)) == 5
    assert aioray.get(agents.__call__.remote(self=6, options=7)) == (6, 7)


@pytest.mark.usefixtures("session")
def test_rays_private_ways_to_call():
    assert step._function("here") == ("here", 0, None, (), ())
    assert step._function_name.endswith(".step")
    assert aioray.get(same._remote(args=(1,))) == 1
    assert aioray.get(same._remote((), {"value": 2}, num_cpus=1, name="other")) == 2
    adder = Adder._remote(args=(4,), num_cpus=0)
    assert aioray.get(adder.add._remote((1,))) == 5
    assert aioray.get(adder.add._remote(kwargs={"x": 2}, name="n")) == 6
    assert aioray.get(Adder._remote().add.remote(3)) == 3
    metadata = Adder.__ray_metadata__
    assert (metadata.class_name, metadata.modified_class(2).add(1)) == ("Adder", 3)
    assert {"add", "ask", "remote", "options"} <= set(dir(Adder))


@pytest.mark.usefixtures("session")
def test_placement_in_no_group_is_anywhere():
    strategy = PlacementGroupSchedulingStrategy(aioray.util.get_current_placement_group())
    assert aioray.get(same.options(scheduling_strategy=strategy).remote(1)) == 1
    assert aioray.get(Adder.options(scheduling_strategy=strategy).remote().add.remote(1)) == 1
    with pytest.raises(ValueError, match="bundle index must be -1"):
        same.options(scheduling_strategy=PlacementGroupSchedulingStrategy(None, 0)).remote(1)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("name", [None, ""])
def test_actor_without_a_name_cannot_be_looked_up(name):
    with pytest.raises(ValueError, match="non-empty"):
        aioray.get_actor(name)


@pytest.mark.usefixtures("session")
def test_function_that_is_as_large_as_data_is_refused_and_told_why():
    blob = bytes(96 << 20)
    with pytest.raises(ValueError, match=r"too large \(96 MiB > .*=95 MiB\)(.|\n)*blob.*96 MiB"):
        aioray.remote(lambda: len(blob)).remote()

    class Large:
        data = blob

    with pytest.raises(ValueError, match=r"The actor Large is too large(.|\n)*data.*96 MiB"):
        aioray.remote(Large).remote()


# --- pools and queues ---------------------------------------------------------------------------


@pytest.mark.usefixtures("session")
def test_actor_pool_has_the_attributes_of_rays():
    pool = ActorPool([Adder.remote()])
    assert len(pool._idle_actors) == 1
    assert (pool._future_to_actor, pool._pending_submits) == ({}, [])
    for number in (1, 2):
        pool.submit(lambda actor, x: actor.add.remote(x), number)
    ((index, _),) = pool._future_to_actor.values()
    assert (index, pool._next_task_index, len(pool._pending_submits)) == (0, 1, 1)
    assert pool._index_to_future[0] in pool._future_to_actor
    assert (pool.get_next(), pool._next_return_index) == (1, 1)
    assert pool.get_next() == 2
    pool._return_actor(pool.pop_idle())
    assert pool.has_free()


class OwnPool(ActorPool):
    """Keeps something of its own with each call, as Flower's does."""

    _future_to_actor: dict[Any, Any]

    def submit(self, fn: Any, value: Any) -> None:
        actor = self._idle_actors.pop()
        self._future_to_actor[fn(actor, value)] = (self._next_task_index, actor, f"cid {value}")
        self._next_task_index += 1

    def later(self, fn: Any, value: Any) -> None:
        self._pending_submits.append((fn, value))

    def process(self) -> tuple[Any, str]:
        (future,), _ = aioray.wait(list(self._future_to_actor))
        _, actor, cid = self._future_to_actor.pop(future)
        self._return_actor(actor)
        return aioray.get(future), cid


@pytest.mark.usefixtures("session")
def test_derived_pool_submits_in_its_own_way_what_has_waited_too():
    pool = OwnPool([Adder.remote()])
    pool.submit(lambda actor, x: actor.add.remote(x), 1)
    pool.later(lambda actor, x: actor.add.remote(x), 2)
    assert pool.process() == (1, "cid 1")
    assert pool.has_next()
    assert pool.process() == (2, "cid 2")
    assert not pool.has_next()


@pytest.mark.usefixtures("session")
def test_queue_forgets_its_actor_when_it_is_shut_down():
    queue = Queue()
    queue.put(1)
    assert queue.actor is not None
    queue.shutdown()
    assert queue.actor is None
    queue.shutdown()


class _Counting(_QueueActor):
    async def index(self):
        return self.queue.qsize()


@pytest.mark.usefixtures("session")
def test_queue_uses_the_class_that_was_put_in_its_place(monkeypatch):
    monkeypatch.setattr("aioray.util.queue._QueueActor", _Counting)
    queue = Queue()
    queue.put("item")
    assert aioray.get(queue.actor.index.remote()) == 1


# --- objects and state --------------------------------------------------------------------------


@aioray.remote
def locate(refs):
    return list(aioray.experimental.get_object_locations(refs).values())


def test_objects_lie_on_the_node_with_their_sizes(session, gate):
    large, small = aioray.put(b"x" * 200_000), aioray.put(1)
    waits = aioray.remote(jobs.listen).remote(gate.path)
    node = [aioray.get_runtime_context().get_node_id()]
    found = list(aioray.experimental.get_object_locations([large, small, waits]).values())
    assert [each["node_ids"] for each in found] == [node, node, []]
    assert found[0]["object_size"] >= 200_000
    assert found[2] == {"node_ids": [], "object_size": None, "did_spill": False}
    assert aioray.get(locate.remote([large, small])) == found[:2]
    gate.tell()
    for wrong in (large, [1]):
        with pytest.raises(TypeError, match="get_object_locations"):
            aioray.experimental.get_object_locations(wrong)


@pytest.mark.usefixtures("session")
def test_state_by_its_private_names():
    node = aioray.get_runtime_context().get_node_id()
    per_node = _private.state.total_resources_per_node()
    assert per_node[node]["CPU"] == aioray.cluster_resources()["CPU"]
    assert "node:127.0.0.1" in _private.state.available_resources_per_node()[node]
    adder = Adder.options(name="the adder").remote()
    aioray.get(adder.add.remote(1))
    (row,) = _private.state.actors().values()
    assert (row["Name"], row["State"]) == ("the adder", "ALIVE")
    assert row["ActorClassName"].endswith("Adder")
    assert _private.state.actors(actor_id=adder._actor_id.hex()) == row
    assert _private.state.actors(actor_id="00" * 16) == {}
    (task,) = list_tasks(filters=[("task_id", "=", adder.add.remote(2).task_id())])
    assert (task.name, task.actor_id) == ("Adder.add", adder._actor_id)
    group = aioray.util.placement_group([{"CPU": 1}])
    aioray.get(group.ready())
    table = _private.state.state.placement_group_table(group.id)
    assert table["placement_group_id"] == group.id.hex()


# --- the session of the driver above ------------------------------------------------------------

ASKS = """
import aioray
from aioray.util.state import list_tasks
print([row.name for row in list_tasks(filters=[("state", "=", "FINISHED")])])
"""


@aioray.remote
def ask_in_a_child():
    return subprocess.run(
        [sys.executable, "-c", ASKS], capture_output=True, check=True, cwd=ROOT, text=True
    ).stdout


def test_children_of_a_driver_look_at_its_session(tmp_path):
    aioray.init(num_cpus=1, _temp_dir=str(tmp_path))  # where they would not look
    try:
        aioray.get(same.options(name="seen").remote(1))
        assert aioray.get(ask_in_a_child.options(name="asks").remote()) == "['seen']\n"
        child = subprocess.run(
            [sys.executable, "-m", "aioray", "list", "tasks", "--format", "json"],
            capture_output=True,
            check=True,
            cwd=ROOT,
            text=True,
        )
        assert {row["name"] for row in json.loads(child.stdout)} == {"seen", "asks"}
        assert child.stderr == ""
    finally:
        aioray.shutdown()


def test_session_of_a_child_is_its_own_and_it_is_told_so(session):
    code = """
import aioray
print(aioray.init(address="auto", num_cpus=1)["session_name"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, text=True
    )
    mine = aioray.get_runtime_context().get_session_name()
    assert done.stdout.strip() not in ("", mine)
    assert f"shares no tasks, actors or objects with {mine}" in done.stderr


# --- logging ------------------------------------------------------------------------------------

LOGS = """
import logging, sys
import ray
config = ray.LoggingConfig(
    encoding=sys.argv[1], log_level="info", additional_log_standard_attrs=["name"]
)
ray.init(num_cpus=1, logging_config=config)
logging.getLogger("mine").info("from the %s", "driver", extra={"key": 3})
ray.logger.info("by ray's logger")
ray.logger.debug("not shown")
@ray.remote
class A:
    def go(self):
        print("printed")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("mine").exception("from the worker")
ray.get(A.remote().go.remote())
"""


def logs(encoding: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "aioray", "run", "-c", LOGS, encoding],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=GUARD * 2,
    )
    assert done.stdout == "printed\n"
    return done.stdout, done.stderr.splitlines()


def test_records_are_objects_of_json_if_the_configuration_says_so():
    driver, ray, worker = map(json.loads, logs("JSON")[1])
    assert (driver["message"], driver["levelname"], driver["name"], driver["key"]) == (
        "from the driver",
        "INFO",
        "mine",
        3,
    )
    assert {"asctime", "filename", "lineno", "process", "timestamp_ns"} <= set(driver)
    assert "task_id" not in driver
    assert ray["name"] == "ray"
    assert worker["task_func_name"] == "__main__.A.go"
    assert worker["actor_id"] in worker["task_id"]
    assert (worker["job_id"], worker["node_id"]) == (driver["job_id"], driver["node_id"])
    assert worker["exc_text"].endswith("ZeroDivisionError: division by zero")


def test_records_are_lines_of_text_otherwise():
    lines = logs("TEXT")[1]
    first = lines[0].split(" -- ")
    assert first[0].split("\t")[1].startswith("INFO <string>:")
    assert first[1].startswith("from the driver name=mine key=3 job_id=")
    assert lines[2].endswith("ERROR <string>:18 -- from the worker")
    assert lines[-1].startswith("ZeroDivisionError: division by zero name=mine job_id=")
    assert " task_name=A.go " in lines[-1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"encoding": "XML"}, "Invalid encoding type: XML"),
        ({"additional_log_standard_attrs": ["nosuch"]}, "standard attribute: nosuch"),
    ],
)
def test_configuration_of_logging_is_checked_when_it_is_made(given, text):
    with pytest.raises(ValueError, match=text):
        aioray.LoggingConfig(**given)


def test_configuration_of_logging_is_checked_by_init():
    with pytest.raises(TypeError, match="must be a LoggingConfig"):
        aioray.init(logging_config={"encoding": "JSON"})
    with pytest.raises(ValueError, match="log_level of the LoggingConfig"):
        aioray.init(logging_config=aioray.LoggingConfig(log_level="loud"))
    assert not aioray.is_initialized()
    assert logging.getLogger("ray").propagate


def test_what_is_done_to_rays_logger_applies_to_aiorays():
    ray_logger, own, records = logging.getLogger("ray"), logging.getLogger("aioray"), []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment]  # a short handler
    ray_logger.addHandler(handler)
    try:
        aioray.init(num_cpus=1, logging_level="INFO")
        assert (ray_logger.level, own.level) == (logging.INFO, logging.NOTSET)
        aioray.init(ignore_reinit_error=True)
        ray_logger.setLevel(logging.ERROR)
        aioray.init(ignore_reinit_error=True)
        assert [record.name for record in records] == ["aioray"]
        own.setLevel(logging.INFO)
        aioray.init(ignore_reinit_error=True)
        assert len(records) == 2
    finally:
        aioray.shutdown()
        ray_logger.removeHandler(handler)
        own.setLevel(logging.NOTSET)
        ray_logger.setLevel(logging.NOTSET)


def test_output_of_workers_can_be_silenced(capfd, session):
    say = aioray.remote(lambda text: print(text, flush=True))
    dispatcher = _private.ray_logging.global_worker_stdstream_dispatcher
    dispatcher.remove_handler("another")
    aioray.get(say.remote("heard"))
    dispatcher.remove_handler("ray_print_logs")
    aioray.get(say.remote("unheard"))
    aioray.shutdown()
    assert "unheard" not in capfd.readouterr().out


def test_niceness_of_workers_is_what_the_variable_says():
    code = "import ray, os; print(ray.get(ray.remote(lambda: os.nice(0)).remote()) - os.nice(0))"
    assert run("-c", code, RAY_worker_niceness="7") == "7\n"
    assert run("-c", code) == "0\n"


class _Trio:
    """trio, as far as it is asked whether it runs."""

    class lowlevel:  # noqa: N801
        @staticmethod
        def in_trio_run():
            return True


def test_who_awaits_in_trio_is_told_how_to_wait(session, gate, monkeypatch):
    ref = aioray.remote(jobs.listen).remote(gate.path)
    with pytest.raises(RuntimeError, match="no running event loop"):
        ref.__await__().send(None)
    monkeypatch.setitem(sys.modules, "trio", _Trio)
    for wait in (ref.__await__().send, aioray.Engine(num_cpus=1).__aenter__().send):
        with pytest.raises(RuntimeError, match="this is trio's: wait in a thread, `await trio"):
            wait(None)
    gate.tell()


def test_session_works_where_os_environ_was_replaced():
    code = """
import os
os.environ = dict(os.environ)  # as Modin's tests do, before anything else is imported
import ray
print(ray.get(ray.remote(lambda: 1).remote()))
"""
    assert run("-c", code) == "1\n"
