"""Spans of tasks: who is whose child over processes, what they tell, and that off means off."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import aioray
from aioray.client.protocol import registry
from aioray.util import tracing

from . import jobs, spans
from .support import everywhere, on_both_loops


@pytest.fixture(scope="session")
def exporter():
    """Of this process, which can have one provider only."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


@pytest.fixture
def traced(exporter, monkeypatch, tmp_path):
    """Tracing is on; a function that gives the spans so far by name, of driver and workers."""
    file = tmp_path / "spans"
    file.touch()
    monkeypatch.setenv(spans.FILE, str(file))
    exporter.clear()
    tracing.enable()

    def read():
        found = {}
        for line in file.read_text().splitlines():
            span = json.loads(line)
            context, parent = span["context"], span["parent_id"]
            found[span["name"]] = (
                int(context["trace_id"], 16),
                int(context["span_id"], 16),
                None if parent is None else int(parent, 16),
            )
        for span in exporter.get_finished_spans():
            parent = None if span.parent is None else span.parent.span_id
            found[span.name] = (span.context.trace_id, span.context.span_id, parent)
        return found

    read.own = lambda: {span.name: span for span in exporter.get_finished_spans()}
    read.file = file
    yield read
    registry.traces = False


def family(found):
    """By name of each span the name of its parent; all are of one trace."""
    assert len({trace_id for trace_id, _, _ in found.values()}) == 1
    names = {span_id: name for name, (_, span_id, _) in found.items()}
    assert len(names) == len(found)
    return {name: parent and names[parent] for name, (_, _, parent) in found.items()}


def in_workers(**settings):
    """Settings of a session whose workers have a provider."""
    return {
        "num_cpus": 2,
        "runtime_env": {"worker_process_setup_hook": "tests.process.spans.provide"},
        **settings,
    }


@pytest.mark.parametrize(
    ("actor", "options"),
    [("Actor", {}), ("Actor", {"max_concurrency": 2}), ("AsyncActor", {})],
)
def test_trace_goes_from_driver_over_tasks_to_actors_and_into_user_code(traced, actor, options):
    aioray.init(**in_workers())
    with spans.own("root"):
        aioray.get(aioray.remote(spans.branch).remote(getattr(spans, actor), **options))
    aioray.shutdown()
    made = {"in __init__": f"{actor}.__init__"} if actor == "Actor" else {}
    assert family(traced()) == {
        "root": None,
        "branch": "root",
        "in branch": "branch",
        f"{actor}.__init__": "in branch",
        **made,
        f"{actor}.call": "in branch",
        "in call": f"{actor}.call",
        "leaf": "in branch",
        "in leaf": "leaf",
    }


@everywhere(**in_workers())
async def test_calls_that_run_side_by_side_have_their_own_spans(traced):
    actor = aioray.remote(spans.AsyncActor).remote()
    with spans.own("root"):
        refs = [
            actor.call_others.options(name=f"call {number}").remote(f"in {number}")
            for number in range(2)
        ]
    await asyncio.gather(*refs)
    found = traced()
    names = {span_id: name for name, (_, span_id, _) in found.items()}
    for number in range(2):
        assert names[found[f"call {number}"][2]] == "root"
        assert names[found[f"in {number}"][2]] == f"call {number}"
        assert found[f"below in {number}"][0] == found["root"][0]


@everywhere(**in_workers())
async def test_coroutines_and_generators_run_in_their_spans(traced):
    with spans.own("root"):
        one = aioray.remote(spans.leaf_coroutine).remote("in coroutine")
        items = aioray.remote(spans.leaves).remote("item", 2)
    await one
    assert [await ref async for ref in items] == [0, 1]
    await items.completed()
    found = family(traced())
    assert (found["in coroutine"], found["item 0"], found["item 1"]) == (
        "leaf_coroutine",
        "leaves",
        "leaves",
    )
    assert found["leaves"] == found["leaf_coroutine"] == "root"


@everywhere
async def test_span_tells_of_its_task_and_takes_its_time(traced):
    before = time.time_ns()
    pid = await aioray.remote(jobs.pid).options(name="who").remote()
    after = time.time_ns()
    span = traced.own()["who"]
    assert before <= span.start_time <= span.end_time <= after
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET
    facts = dict(span.attributes)
    assert len(facts.pop("aioray.task_id")) == 48
    assert facts.pop("aioray.seconds") >= 0
    assert facts == {
        "aioray.task_name": "who",
        "aioray.function": "pid",
        "aioray.attempt": 0,
        "aioray.worker_pid": pid,
    }
    (event,) = span.events
    assert event.name == "attempt"
    assert span.start_time <= event.timestamp <= span.end_time


@everywhere
async def test_retries_are_events(traced, notes):
    await aioray.remote(max_retries=3, retry_exceptions=True)(jobs.fail_times).remote(notes, 2)
    span = traced.own()["fail_times"]
    assert span.status.status_code is StatusCode.UNSET
    told = [(event.name, event.attributes["aioray.attempt"], event.attributes.get("error.type"),
             event.attributes.get("aioray.ended")) for event in span.events]  # fmt: skip
    assert [each[:3] for each in told] == [
        ("attempt", 0, "TASK_EXECUTION_EXCEPTION"),
        ("attempt", 1, "TASK_EXECUTION_EXCEPTION"),
        ("attempt", 2, None),
    ]
    assert told[0][3].startswith("raised ValueError")
    assert span.attributes["aioray.attempt"] == 2
    times = [event.timestamp for event in span.events]
    assert times == sorted(times)


@everywhere
async def test_errors_are_told_by_their_type(traced):
    failing = aioray.remote(jobs.fail).remote("boom")
    after = aioray.remote(jobs.same).remote(failing)
    dying = aioray.remote(max_retries=1)(jobs.die).remote("_exit 42")
    for ref in (failing, after, dying):
        with pytest.raises(aioray.exceptions.RayError):
            await ref
    own = traced.own()
    for name, kind in (("fail", "ValueError"), ("same", "ValueError")):
        assert own[name].attributes["error.type"] == kind
        assert own[name].status.status_code is StatusCode.ERROR
        assert own[name].status.description.startswith(f"{kind}: boom")
    crashed = own["die"]
    assert crashed.attributes["error.type"] == "WorkerCrashedError"
    assert [event.attributes.get("error.type") for event in crashed.events] == [
        "WORKER_DIED",
        "WORKER_DIED",
        None,
    ]
    assert crashed.events[-1].attributes["exception.type"] == "WorkerCrashedError"


@on_both_loops
async def test_shutdown_ends_all_spans(traced, started, gate):
    async with aioray.Engine(num_cpus=1):
        refs = [aioray.remote(jobs.hold).remote(started.path, gate.path) for _ in range(3)]
        await started.heard()
    del refs
    held = [span for span in traced.own().values() if span.name == "hold"]
    assert [span.attributes["error.type"] for span in held] == ["EngineShutdownError"]
    assert len(traced.own()) == 1


@everywhere
async def test_baggage_travels_too(traced):
    token = context.attach(baggage.set_baggage("customer", "7"))
    try:
        assert await aioray.remote(spans.carried).remote() == "7"
    finally:
        context.detach(token)
    assert await aioray.remote(spans.carried).remote() is None


class Refusing(SpanProcessor):
    def on_end(self, span):
        raise OSError("no room")


@everywhere
async def test_processor_that_raises_harms_no_task(traced, caplog):
    provider = trace.get_tracer_provider()
    processors = provider._active_span_processor
    processors._span_processors = (*processors._span_processors, Refusing())
    try:
        assert await aioray.remote(jobs.add).remote(1, 2) == 3
        with pytest.raises(ValueError, match="boom"):
            await aioray.remote(jobs.fail).remote("boom")
    finally:
        processors._span_processors = processors._span_processors[:-1]
    assert {record.message for record in caplog.records if record.name == "aioray"} == {
        "A span could not be made or ended."
    }


LOCAL = """
import sys
from opentelemetry import trace
from aioray.shared.startup_hook import run_startup_hook
from aioray.util.tracing import setup_local_tmp_tracing
setup_local_tmp_tracing.FOLDER = sys.argv[1]
for _ in range(2):
    run_startup_hook("ray.util.tracing.setup_local_tmp_tracing:setup_tracing")
trace.get_tracer("x").start_span("written").end()
"""


def test_hook_of_ray_writes_to_files(drive, tmp_path):
    driver = drive(LOCAL, tmp_path / "spans")
    assert driver.finish() == (0, "", "")
    assert json.loads((tmp_path / "spans" / f"{driver.pid}.txt").read_text())["name"] == "written"


def test_span_of_one_attempt_is_not_left_to_the_next(session, exporter):
    """Tracing that is turned on in a running session, and off again."""
    exporter.clear()
    current = aioray.remote(spans.current)
    assert set(aioray.get([current.remote() for _ in range(4)])) == {0}
    tracing.enable()
    try:
        seen = aioray.get([current.remote() for _ in range(4)])
    finally:
        registry.traces = False
        registry.current().submission.tracer = None
    assert sorted(seen) == sorted(span.context.span_id for span in exporter.get_finished_spans())
    assert set(aioray.get([current.remote() for _ in range(4)])) == {0}


HOOKED = """
import os, sys, aioray
from tests.process import spans
os.environ[spans.FILE] = sys.argv[1]
aioray.init(num_cpus=1, _tracing_startup_hook="tests.process.spans:provide")
with spans.own("root"):
    aioray.get(aioray.remote(spans.leaf).remote("in leaf"))
aioray.shutdown()
aioray.init(num_cpus=1, _tracing_startup_hook="tests.process.spans:provide")
"""


def test_startup_hook_runs_once_in_the_driver_and_in_each_worker(drive, tmp_path):
    driver = drive(HOOKED, tmp_path / "spans")
    assert driver.finish() == (0, "", "")
    found = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    by_name = {span["name"]: span for span in found}
    assert sorted(by_name) == ["in leaf", "leaf", "root"]
    assert by_name["in leaf"]["parent_id"] == by_name["leaf"]["context"]["span_id"]
    assert by_name["leaf"]["parent_id"] == by_name["root"]["context"]["span_id"]
    assert by_name["leaf"]["pid"] == by_name["root"]["pid"] == driver.pid
    assert by_name["in leaf"]["pid"] not in (driver.pid, os.getpid())


def test_startup_hook_that_fails_fails_init():
    with pytest.raises(LookupError, match="no collector"):
        aioray.init(num_cpus=1, _tracing_startup_hook="tests.process.spans:refuse")
    assert not aioray.is_initialized()


REFUSED = """
import os, aioray
from tests.process import spans
spans.refuse = lambda: None
aioray.init(num_cpus=1, _tracing_startup_hook="tests.process.spans:refuse")
try:
    aioray.get(aioray.remote(spans.leaf).remote("x"))
except aioray.exceptions.RuntimeEnvSetupError as error:
    print("no collector" in str(error))
"""


def test_startup_hook_that_fails_in_workers_fails_their_tasks(drive):
    status, out, _ = drive(REFUSED).finish()
    assert (status, out) == (0, "True\n")


@pytest.mark.parametrize(
    ("hook", "error"), [(7, TypeError), ("module", ValueError), (":function", ValueError)]
)
def test_wrong_startup_hook_is_refused(hook, error):
    with pytest.raises(error, match='must be a str like "module:function"'):
        aioray.init(_tracing_startup_hook=hook)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(tracing, "find_spec", lambda _name: None)
    with pytest.raises(ImportError, match=r"pip install 'aioray\[tracing\]'"):
        tracing.enable()
    assert not registry.traces
