"""GPUs and placement groups, as tasks in real processes meet them."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

import aioray
from aioray.engine.requests import tasks as requests
from aioray.engine.tasks import groups
from aioray.exceptions import (
    ActorUnschedulableError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)
from aioray.util import placement_group, remove_placement_group
from aioray.util.placement_group import PlacementGroup, PlacementGroupID
from aioray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

from . import jobs, nested, yielding
from .support import GUARD, everywhere, on_both_loops

where = aioray.remote(jobs.where)
hold_gpus = aioray.remote(jobs.hold_gpus)
hold = aioray.remote(jobs.hold)
pid = aioray.remote(jobs.pid)
OTHER_NODE = "ab" * 28


def inside(group, index=-1, **options):
    """The options of a task that runs in a group."""
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, index), **options}


def available(*names):
    """What is free of these resources; 0 if nothing is."""
    free = aioray.available_resources()
    return tuple(free.get(name, 0) for name in names)


@pytest.fixture
def cuda(monkeypatch):
    """Sets CUDA_VISIBLE_DEVICES of the driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda value: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)


# ---------------------------------------------------------------- GPUs


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("amount", "variable", "ids"),
    [(1, "0", [0]), (2, "0,1", [0, 1]), (0.5, "0", [0]), (0, None, [])],
)
def test_task_sees_the_gpus_that_it_was_given(amount, variable, ids):
    with aioray.init(num_cpus=2, num_gpus=2):
        seen = aioray.get(where.options(num_gpus=amount).remote())
    assert (seen["variable"], seen["gpus"]) == (variable, ids)
    assert seen["accelerators"] == [str(number) for number in ids]
    assert seen["resources"] == {"CPU": 1.0, **({"GPU": amount} if amount else {})}


@pytest.mark.parametrize("amount", [1, 2])
def test_gpus_are_those_that_the_driver_may_use(cuda, amount):
    cuda("2,5")
    with aioray.init(num_cpus=2, num_gpus=2):
        seen, without = aioray.get([where.options(num_gpus=amount).remote(), where.remote()])
        assert aioray.get_gpu_ids() == []
    names = ["2", "5"][:amount]
    assert (seen["variable"], seen["gpus"], seen["accelerators"]) == (",".join(names), names, names)
    assert (without["variable"], without["gpus"]) == ("2,5", [])


@pytest.mark.usefixtures("cuda")
def test_process_sees_the_same_gpus_as_long_as_it_lives():
    keeps = aioray.remote(max_calls=0, num_gpus=1)(jobs.where)
    calls = [where, keeps, where, keeps]
    with aioray.init(num_cpus=1, num_gpus=1):
        seen = [aioray.get(call.remote()) for call in calls]
    assert [each["variable"] for each in seen] == [None, "0", None, "0"]
    assert seen[0]["pid"] == seen[2]["pid"] != seen[1]["pid"] == seen[3]["pid"]


@pytest.mark.usefixtures("cuda")
def test_process_that_had_a_gpu_serves_no_other_call_by_default():
    on_gpu = aioray.remote(num_gpus=1)(jobs.pid)
    with aioray.init(num_cpus=1, num_gpus=1):
        assert len(set(aioray.get([on_gpu.remote() for _ in range(3)]))) == 3


@pytest.mark.usefixtures("cuda")
def test_gpus_are_seen_before_anything_of_the_users_is_loaded():
    same = aioray.remote(jobs.same)
    with aioray.init(num_cpus=1, num_gpus=1):
        assert aioray.get(same.options(num_gpus=1).remote(jobs.LOOKS_AT_DEVICES)) == "0"


@pytest.mark.parametrize(
    ("variable", "amount", "seen"),
    [
        ("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", 1, "7,8"),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", 0, ""),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", 1, "7"),
    ],
)
def test_variables_of_ray_change_what_is_shown(cuda, monkeypatch, variable, amount, seen):
    cuda("7,8")
    monkeypatch.setenv(variable, "1")
    with aioray.init(num_cpus=1, num_gpus=2):
        assert aioray.get(where.options(num_gpus=amount).remote())["variable"] == seen


@pytest.mark.parametrize(
    ("env_vars", "amount", "variable", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "7,8"}, 0, "7,8", []),
        ({"CUDA_VISIBLE_DEVICES": "7,8"}, 1, "7", ["7"]),
        ({"CUDA_VISIBLE_DEVICES": "7,8"}, 2, "7,8", ["7", "8"]),
        ({"CUDA_VISIBLE_DEVICES": "7", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}, 0, "", []),
        ({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "true"}, 0, "", []),
        ({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}, 0, "3,4", []),
        ({"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "true"}, 1, "3,4", ["3"]),
        ({"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "0"}, 1, "3", ["3"]),
    ],
)
def test_variables_of_a_runtime_environment_count_as_in_ray(cuda, env_vars, amount, variable, gpus):
    cuda("3,4")
    with aioray.init(num_cpus=1, num_gpus=2):
        ref = where.options(num_gpus=amount, runtime_env={"env_vars": env_vars}).remote()
        seen = aioray.get(ref)
    assert (seen["variable"], seen["gpus"]) == (variable, gpus)


@everywhere(num_cpus=4, num_gpus=2)
async def test_fractions_share_a_device_and_whole_ones_share_none(cuda, started, gate):
    half, most = hold_gpus.options(num_gpus=0.5), hold_gpus.options(num_gpus=0.6)
    refs = [half.remote(started.path, gate.path)]
    assert await started.heard() == "0"
    refs.append(most.remote(started.path, gate.path))  # 1.5 are free, but not on the first
    assert await started.heard() == "1"
    refs.append(half.remote(started.path, gate.path))
    assert await started.heard() == "0"
    assert available("GPU") == (0.4,)
    whole = where.options(num_gpus=1).remote()
    for _ in refs:
        gate.tell()
    await asyncio.gather(*refs)
    assert (await whole)["variable"] in ("0", "1")
    assert available("GPU") == (2.0,)


# ---------------------------------------------------------------- placement groups


@everywhere(num_cpus=3, num_gpus=1)
async def test_group_reserves_resources_and_gives_them_back(cuda):
    total = aioray.cluster_resources()
    group = placement_group([{"CPU": 1}, {"CPU": 1, "GPU": 0.5}], name="pair")
    assert await group.ready() == group
    assert available("CPU", "GPU") == (1.0, 0.5)
    assert aioray.cluster_resources() == total
    assert aioray.util.placement_group_table(group)["state"] == "CREATED"
    seen = await where.options(**inside(group, 1, num_gpus=0.5)).remote()
    assert seen["group"] == seen["current"] == group.id.hex()
    assert seen["resources"] == {"CPU": 1.0, "GPU": 0.5}
    assert seen["gpus"] == [0]
    assert (await where.options(**inside(group)).remote())["gpus"] == []
    outside = await where.remote()
    assert outside["group"] is outside["current"] is None
    remove_placement_group(group)
    assert available("CPU", "GPU") == (3.0, 1.0)
    assert aioray.util.placement_group_table(group)["state"] == "REMOVED"
    remove_placement_group(group)


@everywhere(num_cpus=2)
async def test_tasks_of_a_group_draw_on_its_bundles_only(started, gate):
    group = placement_group([{"CPU": 1}])
    await group.ready()
    first = hold.options(**inside(group)).remote(started.path, gate.path)
    await started.heard()
    waiting = pid.options(**inside(group)).remote()
    await pid.remote()  # there is a CPU left for others
    assert await asyncio.wait([waiting], timeout=0) == (set(), {waiting})
    gate.tell()
    await asyncio.gather(first, waiting)


@everywhere(num_cpus=2)
async def test_removing_a_group_kills_what_runs_and_fails_what_waits_in_it(started, gate, watch):
    group = placement_group([{"CPU": 1}, {"CPU": 1}])
    await group.ready()
    options = inside(group, max_retries=-1)
    running = [hold.options(**options).remote(started.path, gate.path) for _ in range(2)]
    workers = watch(*[int(await started.heard()) for _ in range(2)])
    queued = pid.options(**options).remote()
    dependent = aioray.remote(jobs.same).remote(queued)
    outside = pid.remote()  # there is nothing left for others
    assert available("CPU") == (0,)
    remove_placement_group(group)
    for ref in (*running, queued):
        with pytest.raises(TaskPlacementGroupRemoved, match="has been removed"):
            await ref
    with pytest.raises(TaskPlacementGroupRemoved):
        await dependent
    await outside
    assert not workers.survivors()
    assert available("CPU") == (2.0,)
    with pytest.raises(TaskPlacementGroupRemoved):
        await pid.options(**inside(group)).remote()


@on_both_loops
async def test_group_waits_in_line_until_everything_fits(started, gate):
    async with aioray.Engine(num_cpus=2):
        running = hold.remote(started.path, gate.path)
        await started.heard()
        group = placement_group([{"CPU": 1}, {"CPU": 1}])
        task = where.options(**inside(group, num_cpus=0)).remote()
        assert aioray.util.placement_group_table(group)["state"] == "PENDING"
        done, _ = await asyncio.wait([group.ready(), task], timeout=0)
        assert not done
        gate.tell()
        await running
        assert (await task)["group"] == group.id.hex()


def test_script_can_wait_for_a_group_and_find_it_by_name():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}], name="mine")
        assert group.wait(GUARD)
        assert aioray.get(group.ready()) == group
        never = placement_group([{"CPU": 1}])
        assert not never.wait(0)
        assert aioray.util.get_placement_group("mine") == group
        assert aioray.util.get_placement_group("mine").bundle_specs == [{"CPU": 1.0}]
        with pytest.raises(ValueError, match="name 'mine' already"):
            placement_group([{"CPU": 1}], name="mine")
        remove_placement_group(group)
        assert never.wait(GUARD)
        remove_placement_group(never)
        with pytest.raises(TaskPlacementGroupRemoved):
            group.wait()
        with pytest.raises(ValueError, match="look up placement group with name: mine"):
            aioray.util.get_placement_group("mine")
        again = placement_group([{"CPU": 1}], name="mine")
        assert again.wait(GUARD)
        assert len(aioray.util.placement_group_table()) == 3


def test_ref_to_a_group_is_an_argument_like_any_other():
    count = aioray.remote(num_cpus=0)(jobs.bundles)
    with aioray.init(num_cpus=1):
        first = placement_group([{"CPU": 1}])
        second = placement_group([{"CPU": 0.5}, {"CPU": 0.5}])
        counts = [count.remote(group.ready()) for group in (first, second)]
        assert aioray.get(counts[0]) == [{"CPU": 1.0}]
        remove_placement_group(first)
        assert aioray.get(counts[1]) == [{"CPU": 0.5}, {"CPU": 0.5}]


def test_cancelling_the_ref_to_a_group_leaves_the_group_alone():
    with aioray.init(num_cpus=1):
        first, second = placement_group([{"CPU": 1}]), placement_group([{"CPU": 1}])
        outcome = aioray.cancel(second.ready()).result(GUARD)
        assert outcome is aioray.CancelOutcome.FINISHED_FIRST
        remove_placement_group(first)
        assert second.wait(GUARD)


@pytest.mark.parametrize(
    ("bundles", "strategy", "text"),
    [
        ([{"CPU": 2}, {"CPU": 1}], "PACK", "asks for {'CPU': 3.0} in its bundles together"),
        ([{"CPU": 1}, {"CPU": 1}], "STRICT_SPREAD", "has 2 bundles and the strategy STRICT_SPREAD"),
    ],
)
def test_group_that_can_never_be_placed_is_reported_and_ends_with_the_session(
    caplog, bundles, strategy, text
):
    caplog.set_level(logging.WARNING, "aioray")
    with aioray.init(num_cpus=2):
        group = placement_group(bundles, strategy, name="big")
        ready = group.ready()
        task = pid.options(**inside(group)).remote()
        aioray.get(pid.remote())  # others are not held up
        table = aioray.util.placement_group_table(group)
        assert (table["state"], table["stats"]["scheduling_state"]) == ("PENDING", "INFEASIBLE")
        (record,) = [record for record in caplog.records if "never be ready" in record.message]
        assert f"The placement_group big {text}" in record.message
    for ref in (ready, task):
        with pytest.raises(aioray.exceptions.EngineShutdownError):
            ref.future().result(GUARD)
    with pytest.raises(ValueError, match="is not known here"):
        group.ready()


def test_shares_that_fit_in_sum_but_on_no_gpu_are_reported(caplog):
    with aioray.init(num_cpus=1, num_gpus=2):
        group = placement_group([{"GPU": 0.6}] * 3)
        assert not group.wait(0)
        aioray.get(aioray.remote(jobs.pid).remote())  # by now the group was looked at
        (record,) = [record for record in caplog.records if "never be ready" in record.message]
    assert "asks for 0.6, 0.6, 0.6 of a GPU" in record.message
    assert "do not fit on the 2 that this machine has" in record.message


@pytest.mark.parametrize(
    ("options", "index", "text"),
    [
        ({"num_cpus": 2}, -1, r"request {'CPU': 2.0} cannot fit into any bundles .*'GPU': 1.0"),
        ({"num_gpus": 1}, 0, r"'GPU': 1.0} cannot fit into bundle 0 .*, {'CPU': 1.0}"),
        ({}, 2, "bundle index 2 is invalid. Valid placement group indexes: 0-1"),
    ],
)
def test_request_that_fits_no_bundle_is_an_error_of_the_call(options, index, text):
    with aioray.init(num_cpus=2, num_gpus=1):
        group = placement_group([{"CPU": 1}, {"CPU": 1, "GPU": 1}])
        with pytest.raises(ValueError, match=text):
            pid.options(**inside(group, index, **options)).remote()


@pytest.mark.filterwarnings("ignore:placement_group is deprecated:DeprecationWarning")
def test_group_can_be_named_by_the_older_options_too():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}])
        task = where.options(placement_group=group, placement_group_bundle_index=0)
        assert aioray.get(task.remote())["group"] == group.id.hex()
        with pytest.raises(ValueError, match="bundle index must be -1"):
            pid.options(placement_group_bundle_index=0).remote()
        with pytest.raises(ValueError, match=r"must be what aioray\.util\.placement_group"):
            pid.options(placement_group="mine").remote()
        empty = aioray.util.placement_group.PlacementGroup.empty()
        remove_placement_group(group)
        assert aioray.get(where.options(placement_group=empty).remote())["group"] is None


def test_group_of_another_session_is_not_known():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}])
    with aioray.init(num_cpus=1):
        for use in (
            group.ready,
            group.wait,
            lambda: remove_placement_group(group),
            pid.options(**inside(group)).remote,
        ):
            with pytest.raises(ValueError, match="is not known here"):
                use()
        assert aioray.util.placement_group_table(group) == {}


# ---------------------------------------------------------------- groups and tasks in tasks


@pytest.mark.parametrize("captures", [None, False, True])
def test_group_takes_children_along_if_it_is_told_to(captures):
    other = {"scheduling_strategy": "DEFAULT"}
    mine = {"placement_group_capture_child_tasks": True}
    not_mine = {"placement_group_capture_child_tasks": False}
    with aioray.init(num_cpus=3):
        group, elsewhere = placement_group([{"CPU": 1}] * 2), placement_group([{"CPU": 1}])
        options = [{}, other, mine, not_mine, inside(elsewhere)]
        # Outside of the groups no CPU is left.
        options = [{"num_cpus": 0, **each} for each in options]
        strategy = PlacementGroupSchedulingStrategy(
            group, 0, placement_group_capture_child_tasks=captures
        )
        parent = aioray.remote(nested.see_children).options(scheduling_strategy=strategy)
        found, seen = aioray.get(parent.remote(options))
    here = group.id.hex()
    assert found is bool(captures)
    assert seen == [here if captures else None, None, here, None, elsewhere.id.hex()]


def test_children_that_were_taken_along_take_theirs_along():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}])
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        parent = aioray.remote(nested.see_grandchild).options(scheduling_strategy=strategy)
        assert aioray.get(parent.remote()) == group.id.hex()


def test_same_call_in_a_task_goes_where_that_task_is():
    with aioray.init(num_cpus=2):
        group = placement_group([{"CPU": 1}])
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        call = aioray.remote(nested.group_of_child)
        for _ in range(3):
            assert aioray.get(call.remote()) is None
            assert aioray.get(call.options(scheduling_strategy=strategy).remote()) == group.id.hex()


def test_task_can_do_everything_with_groups_that_the_driver_can():
    with aioray.init(num_cpus=2):
        matches, left, state, says, removed, gone = aioray.get(
            aioray.remote(nested.use_group_of_its_own).remote()
        )
        assert (matches, left, state, removed, gone) == (True, 0, "CREATED", "REMOVED", True)
        assert says.startswith("There is a placement group with the name 'mine' already.")
        assert available("CPU") == (2.0,)


def test_group_that_a_task_has_made_is_one_of_the_session():
    with aioray.init(num_cpus=1):
        group, ready = aioray.get(aioray.remote(nested.make_group).remote())
        assert aioray.get(ready) == group
        assert aioray.get(where.options(**inside(group)).remote())["group"] == group.id.hex()
        remove_placement_group(group)
        assert available("CPU") == (1.0,)


def test_task_that_removes_its_own_group_ends_with_it():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}])
        remove = aioray.remote(max_retries=-1)(remove_placement_group)
        with pytest.raises(TaskPlacementGroupRemoved):
            aioray.get(remove.options(**inside(group)).remote(group))
        assert available("CPU") == (1.0,)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (lambda group: inside(group, num_cpus=2), r"call: Cannot schedule where .*'CPU': 2\.0"),
        (lambda group: inside(group, 1), "call: placement group bundle index 1 is invalid"),
        (lambda _: {"scheduling_strategy": "foo"}, "call: Invalid scheduling_strategy value foo"),
        (lambda _: {"placement_group": "mine"}, "call: placement_group must be what"),
        (
            lambda _: inside(PlacementGroup(PlacementGroupID(b"x" * 18))),
            "call: The placement group .* is not known here",
        ),
        (
            lambda _: {
                "scheduling_strategy": NodeAffinitySchedulingStrategy(OTHER_NODE, soft=False)
            },
            "get: TaskUnschedulableError: .*only node",
        ),
        (
            lambda _: {"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": In("a")})},
            "get: TaskUnschedulableError: .*zone",
        ),
        (
            lambda _: {"scheduling_strategy": NodeLabelSchedulingStrategy({"zone": In("b")})},
            "nothing",
        ),
    ],
)
def test_misplaced_call_in_a_task_is_refused_as_in_the_driver(options, text):
    with aioray.init(num_cpus=2, labels={"zone": "b"}):
        group = placement_group([{"CPU": 1}])
        says = aioray.get(aioray.remote(nested.call_misplaced).remote(options(group)))
        assert re.match(text, says, re.DOTALL), says


def test_child_in_a_removed_group_fails():
    with aioray.init(num_cpus=1):
        group = placement_group([{"CPU": 1}])
        remove_placement_group(group)
        says = aioray.get(aioray.remote(nested.call_misplaced).remote(inside(group)))
        assert says.startswith("get: TaskPlacementGroupRemoved:")


def test_child_in_a_group_that_was_forgotten_meanwhile_fails(monkeypatch):
    monkeypatch.setattr(groups, "REMOVED_KEPT", 1)
    monkeypatch.setattr(requests, "BINDINGS_KEPT", 0)
    with aioray.init(num_cpus=3):
        says = aioray.get(aioray.remote(nested.call_in_forgotten_group).remote())
    assert re.match("TaskUnschedulableError: .*is not known here", says), says


@everywhere(num_cpus=2)
async def test_task_that_waits_lends_its_bundle_to_its_children(started, gate):
    group = placement_group([{"CPU": 1}])
    other = hold.remote(started.path, gate.path)  # nothing is left outside
    await started.heard()
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    assert await nested.fib.options(scheduling_strategy=strategy).remote(4) == 3
    gate.tell()
    await other


# ---------------------------------------------------------------- strategies and nodes


@pytest.mark.parametrize(
    "strategy",
    [
        "DEFAULT",
        "SPREAD",
        NodeAffinitySchedulingStrategy(OTHER_NODE, soft=True),
        NodeLabelSchedulingStrategy(
            {"zone": In("a", "b"), "disk": DoesNotExist(), "kind": NotIn("x")}, soft={"y": In("z")}
        ),
        NodeLabelSchedulingStrategy({"zone": Exists()}),
        NodeLabelSchedulingStrategy({}, soft={"disk": Exists()}),
    ],
)
def test_strategy_that_this_node_meets_changes_nothing(strategy):
    with aioray.init(num_cpus=1, labels={"zone": "b"}):
        assert aioray.get(pid.options(scheduling_strategy=strategy).remote()) > 0


def test_task_can_ask_for_this_node():
    with aioray.init(num_cpus=1):
        (node,) = aioray.nodes()
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        assert aioray.get(pid.options(scheduling_strategy=strategy).remote()) > 0
        place = {"node:__internal_head__": 0.5, "node:127.0.0.1": 1}
        assert aioray.get(pid.options(resources=place).remote()) > 0


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (NodeAffinitySchedulingStrategy(OTHER_NODE, soft=False), f"node {OTHER_NODE} .*only node"),
        (NodeLabelSchedulingStrategy({"zone": In("a")}), r"condition zone: In\('a'\)"),
        (NodeLabelSchedulingStrategy({"zone": NotIn("b")}), r"zone: NotIn\('b'\)"),
        (NodeLabelSchedulingStrategy({"zone": DoesNotExist()}), "zone: DoesNotExist"),
        (NodeLabelSchedulingStrategy({"disk": Exists()}), "disk: Exists"),
    ],
)
def test_task_for_another_node_fails_and_those_that_need_it(strategy, text):
    with aioray.init(num_cpus=1, labels={"zone": "b"}):
        ref = pid.options(scheduling_strategy=strategy).remote()
        dependent = aioray.remote(jobs.same).remote(ref)
        with pytest.raises(TaskUnschedulableError, match=f"^The task is not schedulable: .*{text}"):
            aioray.get(ref)
        with pytest.raises(TaskUnschedulableError):
            aioray.get(dependent)


def test_unknown_strategy_is_an_error_of_the_call():
    with (
        aioray.init(num_cpus=1),
        pytest.raises(
            ValueError, match=r'Invalid scheduling_strategy value foo\. Valid .*"SPREAD"'
        ),
    ):
        pid.options(scheduling_strategy="foo").remote()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"num_cpus": 3}, "{'CPU': 3.0}"),
        ({"num_gpus": 1}, "{'CPU': 1.0, 'GPU': 1.0}"),
        ({"resources": {"slot": 1}}, "{'CPU': 1.0, 'slot': 1.0}"),
        ({"memory": 2_000}, "{'CPU': 1.0, 'memory': 2000.0}"),
    ],
)
def test_request_above_the_total_is_reported_once(caplog, options, asked):
    caplog.set_level(logging.WARNING, "aioray")
    with aioray.init(num_cpus=2, num_gpus=0, _memory=1_000):
        refs = [pid.options(**options).remote() for _ in range(2)]
        aioray.get(pid.remote())
        (record,) = [record for record in caplog.records if "will never run" in record.message]
        assert f"Task pid asks for {asked}, but this machine has " in record.message
        assert "node:" not in record.message
        assert aioray.wait(refs, num_returns=2, timeout=0) == ([], refs)


@everywhere(num_cpus=2, num_gpus=2, _memory=1_000, resources={"slot": 1.5})
async def test_what_is_available_is_exact_while_tasks_run(cuda, started, gate):
    names = ("CPU", "GPU", "memory", "slot", "node:127.0.0.1")
    everything = available(*names)
    assert everything == (2.0, 2.0, 1000.0, 1.5, 1.0)
    demand = {"num_cpus": 0.1, "num_gpus": 0.3, "memory": 999, "resources": {"slot": 0.7}}
    ref = hold.options(**demand).remote(started.path, gate.path)
    await started.heard()
    assert available(*names) == (1.9, 1.7, 1.0, 0.8, 1.0)
    gate.tell()
    await ref
    assert available(*names) == everything


def test_what_is_bound_to_a_node_that_is_too_small_fails_at_once(session):
    here = NodeAffinitySchedulingStrategy(aioray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 1_000, "scheduling_strategy": here}
    with pytest.raises(TaskUnschedulableError, match="infeasible"):
        aioray.get(aioray.remote(**options)(jobs.same).remote(1))
    actor = aioray.remote(**options)(yielding.Failing).remote()
    with pytest.raises(ActorUnschedulableError, match="infeasible"):
        aioray.get(actor.after.options(num_returns=1).remote(1))
