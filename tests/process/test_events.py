"""However a task ends, everybody is told the same: the cancel's outcome, the ref, the row, counts.

Each way of ending is a function that brings about one end, and says whose end it was. What it must
look like stands beside it, once: by the error that the ref raises, all else follows.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

import aioray
from aioray import CancelOutcome
from aioray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    EngineShutdownError,
    RayTaskError,
    RuntimeEnvSetupError,
    StreamingGeneratorReplayInconsistentError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    WorkerCrashedError,
)
from aioray.state.read.queries import list_rows, summarize
from aioray.state.read.sessions import find_session
from aioray.state.read.timeline import trace
from aioray.state.write.metering import Metering
from aioray.util import placement_group, remove_placement_group
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from . import hooks, jobs, troupe, yielding
from .support import GUARD

OUTCOMES = {CancelOutcome.NOT_STARTED, CancelOutcome.INTERRUPTED, CancelOutcome.KILLED}

APPLICATION = "TASK_EXECUTION_EXCEPTION"
CANCELLED = "TASK_CANCELLED"


@dataclasses.dataclass
class End:
    """What became of one task."""

    ref: Any
    outcome: CancelOutcome | None = None  # of a request to cancel it


class Stage:
    """What the ways of ending have at hand."""

    def __init__(self, pipes, path):
        self._pipes = pipes
        self._path = path
        self._count = 0

    def pipe(self):
        return self._pipes()

    def note(self):
        self._count += 1
        return str(self._path / f"note-{self._count}")

    async def running(self, function, *arguments, **options):
        """A task that has said that it runs."""
        pipe = self.pipe()
        ref = aioray.remote(function).options(**options).remote(pipe.path, *arguments)
        await pipe.heard()
        return ref

    async def busy(self):
        """Have the only CPU taken until the test ends."""
        return await self.running(jobs.sleep)


# ------------------------------------------------------------ tasks


async def returns(stage):
    return End(aioray.remote(jobs.same).remote(1))


async def returns_several(stage):
    first, *_ = aioray.remote(num_returns=3)(jobs.several).remote(3)
    return End(first)


async def raises(stage):
    return End(aioray.remote(jobs.fail).remote("why"))


async def raises_cancelled_error_of_asyncio(stage):
    return End(aioray.remote(jobs.raise_cancelled).remote())


async def raises_then_returns(stage):
    function = aioray.remote(retry_exceptions=True, max_retries=2)(jobs.fail_times)
    return End(function.remote(stage.note(), 1))


async def raises_until_it_may_not_any_more(stage):
    function = aioray.remote(retry_exceptions=True, max_retries=2)(jobs.fail_times)
    return End(function.remote(stage.note(), 9))


async def returns_what_cannot_be_pickled(stage):
    return End(aioray.remote(jobs.return_lock).remote(stage.note()))


async def returns_too_few(stage):
    first, _ = aioray.remote(num_returns=2)(jobs.several).remote(1)
    return End(first)


async def crashes(stage):
    return End(aioray.remote(max_retries=0)(jobs.die).remote("SIGKILL"))


async def crashes_then_returns(stage):
    return End(aioray.remote(max_retries=2)(jobs.die).remote("_exit 42", stage.note(), 1))


async def crashes_until_it_may_not_any_more(stage):
    return End(aioray.remote(max_retries=1)(jobs.die).remote("SIGKILL", stage.note()))


async def is_cancelled_in_the_queue(stage):
    await stage.busy()
    ref = aioray.remote(jobs.same).remote(1)
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_before_its_arguments(stage):
    ref = aioray.remote(jobs.same).remote(await stage.busy())
    return End(ref, await aioray.cancel(ref))


async def is_interrupted(stage):
    ref = await stage.running(jobs.sleep)
    return End(ref, await aioray.cancel(ref))


async def is_killed_by_force(stage):
    ref = await stage.running(jobs.hold_the_gil)
    return End(ref, await aioray.cancel(ref, force=True))


async def is_killed_after_the_grace(stage):
    ref = await stage.running(jobs.swallow_everything)
    return End(ref, await aioray.cancel(ref, grace=0.01))


async def is_cancelled_and_returns(stage):
    ref = await stage.running(jobs.partial_result)
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_and_raises(stage):
    ref = await stage.running(jobs.fail_on_interrupt)
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_when_it_has_ended(stage):
    ref = aioray.remote(jobs.same).remote(1)
    await ref
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_when_it_has_failed(stage):
    ref = aioray.remote(jobs.fail).remote()
    await _ended(ref)
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_between_two_attempts(stage):
    policy = aioray.RetryPolicy(initial_delay=1_000.0, maximum_delay=1_000.0, jitter=False)
    note = stage.note()
    function = aioray.remote(retry_exceptions=True, retry=policy)(jobs.fail_times)
    ref = function.remote(note, 1)
    await _until_row(_task_id(ref))
    return End(ref, await aioray.cancel(ref))


async def is_interrupted_in_its_second_attempt(stage):
    pipe = stage.pipe()
    ref = aioray.remote(max_retries=1)(jobs.die_then_sleep).remote(pipe.path, stage.note())
    await pipe.heard()
    return End(ref, await aioray.cancel(ref))


async def is_cancelled_with_its_parent(stage):
    pipe, inner = stage.pipe(), stage.pipe()
    parent = aioray.remote(num_cpus=0)(jobs.wait_for_child).remote(pipe.path, inner.path)
    child = await pipe.heard()
    outcome = await aioray.cancel(parent, recursive=True)
    await _ended(parent)
    await _until_row(child)
    rows = [row for row in await _rows() if row["task_id"] == child]
    assert [(row["state"], row["error_type"]) for row in rows] == [("FAILED", CANCELLED)]
    return End(parent, outcome)


async def gets_what_was_cancelled(stage):
    """Its child was cancelled, and not it itself."""
    return End(aioray.remote(num_cpus=0)(jobs.cancel_a_child).remote())


async def has_an_argument_that_failed(stage):
    return End(aioray.remote(jobs.same).remote(aioray.remote(jobs.fail).remote("why")))


async def has_an_argument_that_crashed(stage):
    crash = aioray.remote(max_retries=0)(jobs.die).remote("SIGKILL")
    return End(aioray.remote(jobs.same).remote(crash))


async def has_an_argument_that_was_cancelled(stage):
    await stage.busy()
    first = aioray.remote(jobs.same).remote(1)
    second = aioray.remote(jobs.same).remote(first)
    await aioray.cancel(first)
    return End(second)


async def has_no_environment(stage):
    env = {"worker_process_setup_hook": hooks.refuse}
    return End(aioray.remote(runtime_env=env)(jobs.same).remote(1))


async def loses_its_placement_group(stage):
    group = placement_group([{"CPU": 1}])
    await group.ready()
    strategy = PlacementGroupSchedulingStrategy(placement_group=group)
    pipe = stage.pipe()
    ref = aioray.remote(scheduling_strategy=strategy, max_retries=0)(jobs.sleep).remote(pipe.path)
    await pipe.heard()
    remove_placement_group(group)
    return End(ref)


# ------------------------------------------------------------ streams


async def yields(stage):
    return End(aioray.remote(jobs.several_then).remote(2))


async def yields_and_raises(stage):
    return End(aioray.remote(jobs.several_then).remote(2, "raise"))


async def yields_and_crashes(stage):
    return End(aioray.remote(max_retries=0)(jobs.several_then).remote(2, "crash"))


async def yields_and_is_interrupted(stage):
    pipe = stage.pipe()
    stream = aioray.remote(jobs.several_then).remote(2, "sleep", pipe.path)
    await pipe.heard()
    return End(stream, await aioray.cancel(stream))


async def yields_and_is_killed(stage):
    pipe = stage.pipe()
    stream = aioray.remote(jobs.several_then).remote(2, "sleep", pipe.path)
    await pipe.heard()
    return End(stream, await aioray.cancel(stream, force=True))


async def yields_less_the_second_time(stage):
    return End(aioray.remote(max_retries=1)(yielding.fewer_each_time).remote(stage.note(), 5))


async def is_a_stream_cancelled_in_the_queue(stage):
    await stage.busy()
    stream = aioray.remote(jobs.several_then).remote(2)
    return End(stream, await aioray.cancel(stream))


# ------------------------------------------------------------ actors


def player(*arguments, **options):
    return aioray.remote(num_cpus=0, **options)(troupe.Player).remote(*arguments)


def chorus(**options):
    return aioray.remote(num_cpus=0, **options)(troupe.Chorus).remote()


async def method_returns(stage):
    actor = player()
    return End(actor.pid.remote()), actor


async def method_raises(stage):
    actor = player()
    return End(actor.fail.remote("why")), actor


async def method_raises_then_returns(stage):
    actor = player()
    method = actor.fail_times.options(max_task_retries=2, retry_exceptions=True)
    return End(method.remote(stage.note(), 1)), actor


async def method_crashes(stage):
    actor = player()
    return End(actor.end.remote("SIGKILL")), actor


async def method_crashes_in_an_actor_that_is_made_again(stage):
    actor = player(max_restarts=1)
    return End(actor.end.remote("SIGKILL")), actor


async def method_crashes_then_returns(stage):
    actor = player(max_restarts=1, max_task_retries=1)
    return End(actor.end.remote("SIGKILL", stage.note(), 1)), actor


async def method_ends_its_actor(stage):
    actor = player()
    return End(actor.end.remote("exit_actor")), actor


async def method_waits_when_its_actor_is_killed(stage):
    actor, started, gate = player(), stage.pipe(), stage.pipe()
    actor.hold.remote(started.path, gate.path)
    await started.heard()
    waiting = actor.pid.remote()
    aioray.kill(actor)
    return End(waiting), actor


async def method_runs_when_its_actor_is_killed(stage):
    actor, started, gate = player(), stage.pipe(), stage.pipe()
    ref = actor.hold.remote(started.path, gate.path)
    await started.heard()
    aioray.kill(actor)
    return End(ref), actor


async def method_is_called_on_a_dead_actor(stage):
    actor = player()
    await actor.pid.remote()
    aioray.kill(actor)
    await _ended(actor.pid.remote())
    return End(actor.pid.remote()), actor


async def method_is_cancelled_in_the_queue(stage):
    actor, started, gate = player(), stage.pipe(), stage.pipe()
    actor.hold.remote(started.path, gate.path)
    await started.heard()
    waiting = actor.pid.remote()
    return End(waiting, await aioray.cancel(waiting)), actor


async def method_is_cancelled_on_a_loop(stage):
    actor, started = chorus(), stage.pipe()
    ref = actor.wait_for_cancel.remote(started.path, stage.note())
    await started.heard()
    return End(ref, await aioray.cancel(ref)), actor


async def method_has_an_actor_that_cannot_be_made(stage):
    actor = player(None, "raise")
    return End(actor.pid.remote()), actor


async def method_has_an_actor_that_crashes_when_it_is_made(stage):
    actor = player(None, "SIGKILL")
    return End(actor.pid.remote()), actor


async def method_has_an_actor_without_an_environment(stage):
    actor = player(runtime_env={"worker_process_setup_hook": hooks.refuse})
    return End(actor.pid.remote()), actor


# ------------------------------------------------------------ what they look like

VALUE = None
WAYS: dict[Any, tuple[type[BaseException] | None, list[str | None]]] = {
    # the error of the ref; the error types of the attempts, in order
    returns: (VALUE, [None]),
    returns_several: (VALUE, [None]),
    raises: (ValueError, [APPLICATION]),
    raises_cancelled_error_of_asyncio: (BaseException, [APPLICATION]),
    raises_then_returns: (VALUE, [APPLICATION, None]),
    raises_until_it_may_not_any_more: (ValueError, [APPLICATION] * 3),
    returns_what_cannot_be_pickled: (RayTaskError, [APPLICATION]),
    returns_too_few: (ValueError, [APPLICATION]),
    crashes: (WorkerCrashedError, ["WORKER_DIED"]),
    crashes_then_returns: (VALUE, ["WORKER_DIED", None]),
    crashes_until_it_may_not_any_more: (WorkerCrashedError, ["WORKER_DIED"] * 2),
    is_cancelled_in_the_queue: (TaskCancelledError, [CANCELLED]),
    is_cancelled_before_its_arguments: (TaskCancelledError, [CANCELLED]),
    is_interrupted: (TaskCancelledError, [CANCELLED]),
    is_killed_by_force: (TaskCancelledError, [CANCELLED]),
    is_killed_after_the_grace: (TaskCancelledError, [CANCELLED]),
    is_cancelled_and_returns: (VALUE, [None]),
    is_cancelled_and_raises: (ValueError, [APPLICATION]),
    is_cancelled_when_it_has_ended: (VALUE, [None]),
    is_cancelled_when_it_has_failed: (ValueError, [APPLICATION]),
    is_cancelled_between_two_attempts: (TaskCancelledError, [APPLICATION, CANCELLED]),
    is_interrupted_in_its_second_attempt: (TaskCancelledError, ["WORKER_DIED", CANCELLED]),
    is_cancelled_with_its_parent: (TaskCancelledError, [CANCELLED]),
    gets_what_was_cancelled: (TaskCancelledError, [APPLICATION]),
    has_an_argument_that_failed: (ValueError, [APPLICATION]),
    has_an_argument_that_crashed: (RayTaskError, [APPLICATION]),
    has_an_argument_that_was_cancelled: (RayTaskError, [APPLICATION]),
    has_no_environment: (RuntimeEnvSetupError, ["RUNTIME_ENV_SETUP_FAILED"]),
    loses_its_placement_group: (TaskPlacementGroupRemoved, ["TASK_PLACEMENT_GROUP_REMOVED"]),
    yields: (VALUE, [None]),
    yields_and_raises: (ValueError, [APPLICATION]),
    yields_and_crashes: (WorkerCrashedError, ["WORKER_DIED"]),
    yields_and_is_interrupted: (TaskCancelledError, [CANCELLED]),
    yields_and_is_killed: (TaskCancelledError, [CANCELLED]),
    yields_less_the_second_time: (
        StreamingGeneratorReplayInconsistentError,
        ["WORKER_DIED", APPLICATION],
    ),
    is_a_stream_cancelled_in_the_queue: (TaskCancelledError, [CANCELLED]),
    method_returns: (VALUE, [None]),
    method_raises: (ValueError, [APPLICATION]),
    method_raises_then_returns: (VALUE, [APPLICATION, None]),
    method_crashes: (ActorDiedError, ["ACTOR_DIED"]),
    method_crashes_in_an_actor_that_is_made_again: (ActorUnavailableError, ["ACTOR_UNAVAILABLE"]),
    method_crashes_then_returns: (VALUE, ["ACTOR_UNAVAILABLE", None]),
    method_ends_its_actor: (ActorDiedError, [None]),  # it has done what it was to do, as in Ray
    method_waits_when_its_actor_is_killed: (ActorDiedError, ["ACTOR_DIED"]),
    method_runs_when_its_actor_is_killed: (ActorDiedError, ["ACTOR_DIED"]),
    method_is_called_on_a_dead_actor: (ActorDiedError, ["ACTOR_DIED"]),
    method_is_cancelled_in_the_queue: (TaskCancelledError, [CANCELLED]),
    method_is_cancelled_on_a_loop: (TaskCancelledError, [CANCELLED]),
    method_has_an_actor_that_cannot_be_made: (ActorDiedError, ["ACTOR_DIED"]),
    method_has_an_actor_that_crashes_when_it_is_made: (ActorDiedError, ["ACTOR_DIED"]),
    method_has_an_actor_without_an_environment: (ActorDiedError, ["ACTOR_DIED"]),
}


async def _value(ref):
    """The value, or what the stream has yielded."""
    if isinstance(ref, aioray.ObjectRef):
        return await ref
    return [await item async for item in ref]


async def _ended(ref):
    async with asyncio.timeout(GUARD):
        try:
            await _value(ref)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the subject
            return error
    return None


def _task_id(ref):
    ref = ref if isinstance(ref, aioray.ObjectRef) else ref.completed()
    return ref.task_id().hex()


def _look(view):
    return list_rows(view, "tasks", detail=True, limit=1_000).rows


async def _rows():
    session = aioray.client.protocol.registry.current().own_session()
    with session.view() as view:
        return _look(view)


async def _until_row(task_id):
    """Wait until an attempt of this task has ended, which nobody but the history tells."""
    async with asyncio.timeout(GUARD):
        while not any(  # noqa: ASYNC110
            row["task_id"] == task_id and row["state"] in ("FINISHED", "FAILED")
            for row in await _rows()
        ):
            await asyncio.sleep(0)


def _same_error(message, error):
    """Whether the text of a row is that of an error."""
    return message.removeprefix("User exception:\n") == str(error)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_all_who_tell_of_an_end_tell_the_same(way, pipes, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    kind, error_types = WAYS[way]
    metering = Metering()
    async with aioray.Engine(num_cpus=1) as engine:
        engine._client.listen(metering)
        made = await way(Stage(pipes, tmp_path))
        end, _actor = made if isinstance(made, tuple) else (made, None)
        error = await _ended(end.ref)
        # The ref.
        assert isinstance(error, kind) if kind else error is None, error
        # The cancel.
        if end.outcome is not None:
            assert (end.outcome in OUTCOMES) == isinstance(error, TaskCancelledError)
        with engine._client.own_session().view() as view:
            everything, events, summary = _look(view), trace(view), summarize(view, "tasks")
        rows = [row for row in everything if row["task_id"] == _task_id(end.ref)]
        # The rows.
        assert [row["error_type"] for row in rows] == error_types
        assert [row["attempt_number"] for row in rows] == list(range(len(rows)))
        for row in rows:
            assert row["state"] == ("FAILED" if row["error_type"] else "FINISHED")
            assert row["events"][-1]["state"] == row["state"]
            assert (row["error_message"] is None) == (row["error_type"] is None)
        if rows[-1]["error_type"] is not None:
            assert _same_error(rows[-1]["error_message"], error), (rows[-1], str(error))
        # The attempts that the error tells of.
        told = [attempt.error_type for attempt in getattr(error, "attempts", ())]
        assert told in (error_types[: len(told)], error_types[-1:] * len(told))
        # The timeline.
        columns = ("attempt_number", "state", "error_type", "error_message")
        slices = [
            tuple(event["args"].get(column) for column in columns)
            for event in events
            if event["ph"] == "X" and event["args"]["task_id"] == _task_id(end.ref)
        ]
        ran = [row for row in rows if row["start_time_ms"] is not None]
        assert sorted(slices) == [tuple(row[column] for column in columns) for row in ran]
        # The summary.
        counts: dict[str, dict[str, int]] = {}
        for row in everything:
            of = counts.setdefault(row["name"], {})
            of[row["state"]] = of.get(row["state"], 0) + 1
        assert {name: group["state_counts"] for name, group in summary["summary"].items()} == counts
    # The metrics, of everything that has ended here.
    with find_session().view() as view:
        everything = _look(view)
    counted: dict[tuple[str, str | None], float] = {}
    for reading in metering.board.read():
        if reading.name in ("aioray_tasks_finished", "aioray_tasks_failed", "aioray_task_retries"):
            for tags, count in reading.values.items():
                key = (dict(tags)["function"], dict(tags).get("error_type"))
                counted[key] = counted.get(key, 0) + count
    told_of: dict[tuple[str, str | None], float] = {}
    for row in everything:
        key = (row["func_or_class_name"], row["error_type"])
        told_of[key] = told_of.get(key, 0) + 1
    assert counted == told_of
    # And nothing has changed since: what had ended then is told of in the same way now.
    after = [row for row in everything if row["task_id"] == _task_id(end.ref)]
    assert after == rows


async def test_shutdown_is_told_of_in_the_same_way_by_refs_and_rows(pipes, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    stage = Stage(pipes, tmp_path)
    metering = Metering()
    async with aioray.Engine(num_cpus=1) as engine:
        engine._client.listen(metering)
        done = aioray.remote(jobs.same).remote(1)
        await done
        actor, started, gate = player(), stage.pipe(), stage.pipe()
        refs = [await stage.busy(), aioray.remote(jobs.same).remote(1)]
        refs.append(aioray.remote(jobs.same).remote(refs[0]))
        refs.append(actor.hold.remote(started.path, gate.path))
        await started.heard()
        refs += [actor.pid.remote(), aioray.remote(jobs.several_then).remote(2)]
        await engine.shutdown()
        errors = [await _ended(ref) for ref in refs]
    assert await _ended(done) is None
    with find_session().view() as view:
        rows = {row["task_id"]: row for row in _look(view)}
        counts = summarize(view, "tasks")
    assert rows[_task_id(done)]["state"] == "FINISHED"
    for ref, error in zip(refs, errors, strict=True):
        row = rows[_task_id(ref)]
        assert isinstance(error, EngineShutdownError), error
        depends = isinstance(error, RayTaskError)  # on what was shut down
        assert row["state"] == "FAILED"
        assert row["error_type"] == (APPLICATION if depends else "LOCAL_RAYLET_DIED")
        assert _same_error(row["error_message"], error)
    states = [group["state_counts"] for group in counts["summary"].values()]
    assert sum(state.get("FAILED", 0) for state in states) == len(refs)
    failed = next(each for each in metering.board.read() if each.name == "aioray_tasks_failed")
    assert sum(failed.values.values()) == len(refs)
