"""Metrics of tasks and actors, and of the engine: in the driver, and as Prometheus reads them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import aioray
from aioray.client.protocol import registry as clients
from aioray.shared.meters import COUNTER, WORKER_TAG, Distribution, board
from aioray.util import _prometheus as prometheus
from aioray.util.metrics import Counter, collect, export

from . import jobs, measuring
from .support import GUARD, everywhere

count = aioray.remote(measuring.count)


@pytest.fixture(autouse=True)
def clean_board():
    board.clear()
    yield
    board.clear()


@pytest.fixture
def merged(monkeypatch):
    """Set whenever the driver has taken in what a worker has measured."""
    event = threading.Event()
    merge = board.merge

    def merge_and_tell(*arguments):
        merge(*arguments)
        event.set()

    monkeypatch.setattr(board, "merge", merge_and_tell)
    return event


@pytest.fixture
def scrape(monkeypatch):
    """Exports to a registry of its own; a function that reads what that shows."""
    metering = prometheus.Metering()
    monkeypatch.setattr(prometheus, "_metering", metering)
    monkeypatch.setattr(prometheus, "_collector", prometheus.Collector(metering))
    monkeypatch.setattr(prometheus, "_listening", [])
    monkeypatch.setattr(clients, "listeners", [])
    shown = CollectorRegistry()
    export(shown)
    export(shown)  # changes nothing

    def read():
        text = generate_latest(shown).decode()
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    return read


def values(name):
    return {reading.name: reading.values for reading in collect()}.get(name)


@everywhere
async def test_what_a_task_has_measured_is_there_when_its_value_is():
    for times in range(1, 6):
        await count.remote("a", times)
        assert values("jobs") == {(("kind", "a"),): times * (times + 1) / 2}
    assert values("size") == {(): Distribution((1.0, 10.0), (1, 4, 0), 15.0)}


@everywhere
async def test_counters_of_driver_and_workers_add_up():
    Counter("jobs", tag_keys=("kind",)).inc(100, {"kind": "a"})
    await asyncio.gather(*[count.remote("ab"[at % 2], 10) for at in range(20)])
    assert values("jobs") == {(("kind", "a"),): 200.0, (("kind", "b"),): 100.0}


def test_gauge_of_a_worker_has_its_id_and_goes_with_it(session, monkeypatch):
    dropped = threading.Event()
    drop = board.drop
    monkeypatch.setattr(board, "drop", lambda worker: (drop(worker), dropped.set()))
    pid = aioray.get(aioray.remote(measuring.show_depth).remote(7))
    (((tag, worker),),) = values("depth")
    assert (tag, len(worker), values("depth")[(tag, worker),]) == (WORKER_TAG, 56, 7.0)
    os.kill(pid, signal.SIGKILL)
    assert dropped.wait(GUARD)
    assert values("depth") is None


@pytest.mark.parametrize("cls", [measuring.Till, measuring.AsyncTill])
@everywhere
async def test_actors_measure(cls):
    till = aioray.remote(cls).remote()
    await asyncio.gather(*[till.sell.remote(2) for _ in range(10)])
    assert values("sales") == {(("till", "one"),): 20.0}


@everywhere
async def test_threaded_actor_measures(merged):
    till = aioray.remote(max_concurrency=4)(measuring.Till).remote()
    await asyncio.gather(*[till.sell.remote(2) for _ in range(40)])
    # What another thread was about to take in comes with the next frame, or soon.
    while values("sales") != {(("till", "one"),): 80.0}:
        merged.clear()
        if values("sales") != {(("till", "one"),): 80.0}:
            assert await asyncio.to_thread(merged.wait, GUARD)


@everywhere
async def test_pickled_metric_counts_where_it_arrives():
    counter = Counter("sent")

    @aioray.remote
    def use():
        counter.inc()

    await asyncio.gather(*[use.remote() for _ in range(5)])
    assert values("sent") == {(): 5.0}


def test_attempt_that_says_nothing_is_heard_while_it_runs(session, merged, started, gate):
    ref = aioray.remote(measuring.count_and_wait).remote(started.path, gate.path)
    started.hear()
    assert merged.wait(GUARD)
    assert values("waiting") == {(): 1.0}
    gate.tell()
    aioray.get(ref)
    assert values("waiting") == {(): 1.0}


def test_crash_loses_only_what_was_not_sent(session):
    for job, heard in ((measuring.count_and_die, None), (measuring.put_and_die, {(): 3.0})):
        with pytest.raises(aioray.exceptions.WorkerCrashedError):
            aioray.get(aioray.remote(max_retries=0)(job).remote())
        assert values("deaths") in (heard, {(): 3.0})
    assert aioray.get(count.remote("a")) == 1
    assert values("jobs") == {(("kind", "a"),): 1.0}


def test_metrics_outlive_the_session():
    aioray.init(num_cpus=1)
    aioray.get(count.remote("a"))
    aioray.shutdown()
    assert values("jobs") == {(("kind", "a"),): 1.0}


def test_worker_is_sent_to_the_driver_to_collect(session):
    with pytest.raises(RuntimeError, match=r"gathered in the driver: call collect\(\) there"):
        aioray.get(aioray.remote(measuring.collect_here).remote())


# ---------------------------------------------------------------- Prometheus


def test_text_for_prometheus_is_exact(session, scrape):
    shown = CollectorRegistry()
    shown.register(prometheus._collector)
    aioray.get([count.remote("a", 2), count.remote('b"\n', 20)])
    lines = [line for line in generate_latest(shown).decode().splitlines() if "ray_" in line]
    assert [line for line in lines if "aioray_" not in line] == [
        "# HELP ray_jobs_total Jobs done.",
        "# TYPE ray_jobs_total counter",
        'ray_jobs_total{kind="a"} 2.0',
        'ray_jobs_total{kind="b\\"\\n"} 20.0',
        "# HELP ray_size Sizes.",
        "# TYPE ray_size histogram",
        'ray_size_bucket{le="1.0"} 0.0',
        'ray_size_bucket{le="10.0"} 1.0',
        'ray_size_bucket{le="+Inf"} 2.0',
        "ray_size_count 2.0",
        "ray_size_sum 22.0",
    ]


def test_counter_whose_name_says_total_has_one_total(scrape):
    Counter("seen_total").inc()
    assert scrape()["ray_seen_total",] == 1.0


def test_engine_counts_its_tasks(scrape, notes):
    aioray.init(num_cpus=2)
    aioray.get([count.options(name=f"name-{at}").remote("a") for at in range(10)])
    flaky = aioray.remote(retry_exceptions=True)(jobs.fail_times)
    aioray.get(flaky.remote(notes, 2))
    for job, error in (
        (jobs.fail, aioray.exceptions.RayTaskError),
        (measuring.count_and_die, aioray.exceptions.WorkerCrashedError),
    ):
        with pytest.raises(error):
            aioray.get(aioray.remote(max_retries=1)(job).remote())
    till = aioray.remote(measuring.Till).remote()
    aioray.get(till.sell.remote(1))
    aioray.shutdown()
    found = scrape()
    expected: dict[Any, float] = {
        **{
            ("aioray_tasks_finished_total", ("function", function)): times
            for function, times in (
                ("count", 10), ("fail_times", 1), ("Till.__init__", 1), ("Till.sell", 1),
            )
        },
        ("aioray_tasks_failed_total", ("error_type", "TASK_EXECUTION_EXCEPTION"),
         ("function", "fail")): 1.0,
        ("aioray_tasks_failed_total", ("error_type", "WORKER_DIED"),
         ("function", "count_and_die")): 1.0,
        ("aioray_task_retries_total", ("error_type", "TASK_EXECUTION_EXCEPTION"),
         ("function", "fail_times")): 2.0,
        ("aioray_task_retries_total", ("error_type", "WORKER_DIED"),
         ("function", "count_and_die")): 1.0,
        ("aioray_worker_crashes_total", ("cause", "exited with code 42")): 2.0,
        ("ray_jobs_total", ("kind", "a")): 10.0,
        ("ray_sales_total", ("till", "one")): 1.0,
    }  # fmt: skip
    assert {key: value for key, value in found.items() if key[0].endswith("_total")} == expected
    for name in ("run", "queue"):
        assert found[f"aioray_task_{name}_seconds_count", ("function", "fail_times")] == 3.0
        assert found[f"aioray_task_{name}_seconds_count", ("function", "count")] == 10.0
        assert 0 < found[f"aioray_task_{name}_seconds_sum", ("function", "count")] < GUARD
    assert not any(key[0] in ("aioray_workers", "aioray_tasks") for key in found)


@everywhere
async def test_scrape_tells_what_is_going_on(scrape, started, gate):
    """From the engine's own loop, and from another thread."""
    till = aioray.remote(num_cpus=0)(measuring.Till).remote()
    await till.sell.remote(1)
    busy = aioray.remote(jobs.hold)
    refs = [busy.options(num_cpus=2).remote(started.path, gate.path) for _ in range(2)]
    blocked = aioray.remote(jobs.same).remote(refs[0])
    await started.heard()
    for found in (scrape(), await asyncio.to_thread(scrape)):
        tasks = {key[1:]: value for key, value in found.items() if key[0] == "aioray_tasks"}
        assert tasks == {
            (("function", "hold"), ("state", "RUNNING")): 1.0,
            (("function", "hold"), ("state", "PENDING_NODE_ASSIGNMENT")): 1.0,
            (("function", "same"), ("state", "PENDING_ARGS_AVAIL")): 1.0,
        }
        assert found["aioray_actors", ("class", "Till"), ("state", "ALIVE")] == 1.0
        assert found["aioray_workers", ("state", "BUSY")] == 1.0
        assert found["aioray_resources", ("kind", "total"), ("resource", "CPU")] == 2.0
        assert found["aioray_resources", ("kind", "free"), ("resource", "CPU")] == 0.0
        assert found["aioray_object_store_bytes", ("kind", "used")] == 0.0
    gate.tell()
    gate.tell()
    await asyncio.gather(*refs, blocked)


def test_session_that_runs_already_is_counted_from_the_export_on(session, scrape, monkeypatch):
    monkeypatch.setattr(prometheus, "_listening", [])
    monkeypatch.setattr(prometheus, "_metering", prometheus.Metering())
    late = prometheus.Collector(prometheus._metering)
    monkeypatch.setattr(prometheus, "_collector", late)
    export(CollectorRegistry())
    aioray.get([count.remote("a") for _ in range(3)])
    aioray.shutdown()
    readings = {reading.name: reading.values for reading in late._metering.board.read()}
    assert readings["aioray_tasks_finished"] == {(("function", "count"),): 3.0}


def test_missing_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"pip install 'aioray\[metrics\]'"):
        export(None)


QUIET = """
import sys, aioray
aioray.init(num_cpus=1)
late = ("prometheus_client", "opentelemetry", "aioray.shared.meters", "aioray.worker.metering")

@aioray.remote
def loaded():
    return [name for name in late if name in __import__("sys").modules]

print(aioray.get(loaded.remote()), [name for name in late if name in sys.modules])
"""


def test_program_without_metrics_and_tracing_loads_nothing_of_them(drive):
    assert drive(QUIET).finish() == (0, "[] []\n", "")


def test_board_of_a_meter_that_is_a_counter_in_two_places_is_one():
    assert board.meter("x", COUNTER) is board.meter("x", COUNTER)
