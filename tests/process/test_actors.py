"""Actors: their state, their order, and every way in which they end, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

import aioray
from aioray import CancelOutcome, RestartPolicy
from aioray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    EngineShutdownError,
    ObjectReconstructionFailedError,
    RayTaskError,
    TaskCancelledError,
)
from aioray.testing import lose
from aioray.util import placement_group, remove_placement_group
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from .jobs import notes as noted
from .support import everywhere
from .test_errors import error_of
from .troupe import Adder, Chorus, Crowd, Keeper, Player

CRASHES = ["SIGKILL", "segfault", "_exit 42", "sys.exit(3)"]
WISHES = ["exit_actor", "sys.exit(0)"]


def actor(cls=Player, **options):
    """The class as actors with these options."""
    return aioray.remote(**options)(cls) if options else aioray.remote(cls)


async def survivors(found):
    """Who is alive of those that are watched; the engine's loop goes on meanwhile."""
    return await asyncio.to_thread(found.survivors)


@aioray.remote
def tell(player, word):
    return aioray.get(player.hear.remote(word))


# ---------------------------------------------------------------- state and order


@everywhere
async def test_state_stays_and_calls_of_one_caller_run_in_their_order():
    player = actor().remote()
    heard = await asyncio.gather(*[player.hear.remote(number) for number in range(300)])
    assert heard == [list(range(number + 1)) for number in range(300)]


@everywhere
async def test_class_of_the_typed_base_is_a_class_of_actors_like_any_other():
    adder = actor(Adder).remote(aioray.put(1))
    named = actor(Adder).options(name="adder").remote(start=10)
    assert await adder.add.remote(aioray.put(2)) == 3
    assert await asyncio.gather(*adder.both.remote()) == [4, "Adder"]
    assert await aioray.get_actor("adder").add.remote(by=5) == await named.add.remote(0) == 15


@everywhere
async def test_late_argument_holds_up_its_successors_and_no_other_callers(started, gate):
    holder, player = actor().remote(), actor().remote()
    late = player.hear.remote(holder.hold.remote(started.path, gate.path))
    after = player.hear.remote("after")
    await started.heard()
    assert await tell.remote(player, "other") == ["other"]
    gate.tell("late")
    assert await late == ["other", "late"]
    assert await after == ["other", "late", "after"]


@everywhere
async def test_error_of_a_method_is_the_users_and_the_actor_lives_on():
    player = actor().remote()
    error = await error_of(player.fail.remote("a word"))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert "Player.fail" in str(error)
    assert await player.hear.remote(1) == [1]


@everywhere(num_cpus=1)
async def test_actors_that_name_no_resources_hold_no_cpu():
    players = [actor().remote() for _ in range(5)]
    pids = await asyncio.gather(*[player.pid.remote() for player in players])
    assert len(set(pids)) == 5
    assert aioray.available_resources()["CPU"] == 1.0


@everywhere(num_cpus=1)
async def test_actor_that_names_a_cpu_holds_it_until_it_ends(watch):
    player = actor(num_cpus=1).remote()
    pid = await player.pid.remote()
    assert "CPU" not in aioray.available_resources()
    other = actor().remote()
    waiting = other.pid.remote()
    assert not waiting.done()
    found = watch(pid)
    aioray.kill(player)
    assert await survivors(found) == []
    assert await waiting != pid


@everywhere
async def test_handles_travel_and_mean_the_same_actor():
    player = actor().remote()
    assert await tell.remote(player, 1) == [1]
    friend = actor().remote()
    assert await friend.ask.remote(player, 2) == [1, 2]
    kept = aioray.put({"players": [player]})
    found = (await kept)["players"][0]
    assert found == player
    assert hash(found) == hash(player)
    assert await found.hear.remote(3) == [1, 2, 3]
    assert await player.myself.remote() == player


@everywhere
async def test_actor_made_by_an_actor_outlives_it(watch):
    maker = actor().remote()
    player = await maker.make_another.remote()
    assert await player.hear.remote(1) == [1]
    found = watch(await maker.pid.remote())
    aioray.kill(maker)
    assert await survivors(found) == []
    assert await player.hear.remote(2) == [1, 2]


@everywhere
async def test_large_arguments_and_results_go_through_the_store():
    player = actor().remote()
    array = np.ones(1_000_000)
    assert await player.total.remote(array, aioray.put(array)) == 2_000_000.0


@everywhere
async def test_methods_stream():
    player, chorus = actor().remote(), actor(Chorus).remote()
    assert [await ref async for ref in player.several.remote(5)] == list(range(5))
    assert [await ref async for ref in chorus.count.remote(5)] == list(range(5))


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize("how", CRASHES)
@everywhere
async def test_crash_ends_an_actor_and_says_how(how):
    player = actor().remote()
    pid = await player.pid.remote()
    refs = [player.end.remote(how), player.hear.remote("behind")]
    for ref in (*refs, player.hear.remote("later")):
        error = await error_of(ref)
        assert type(error) is ActorDiedError
        assert f"\tpid: {pid}\n" in str(error)
        assert "\tclass_name: Player\n" in str(error)
        assert error.actor_id == player._actor_id.hex()
        assert not error.actor_init_failed
        wanted = {"_exit 42": 42, "sys.exit(3)": 3, "segfault": "SIGSEGV"}.get(how, how)
        assert wanted in (error.exit_code, error.signal)
        assert str(wanted) in str(error)


@everywhere
async def test_actor_killed_from_outside_is_made_again(notes, watch):
    player = actor(max_restarts=1).remote(notes)
    await player.hear.remote("before")
    pid = await player.pid.remote()
    found = watch(pid)
    os.kill(pid, signal.SIGKILL)
    assert await survivors(found) == []
    assert await player.hear.remote("after") == ["after"]
    assert noted(notes) == ["made", "made"]
    assert await player.pid.remote() != pid


@pytest.mark.parametrize("how", CRASHES)
@everywhere
async def test_running_call_is_harmed_and_what_waits_is_not(how):
    player = actor(max_restarts=1).remote()
    harmed, waiting = player.end.remote(how), player.hear.remote("behind")
    error = await error_of(harmed)
    assert type(error) is ActorUnavailableError
    assert "may or may not have been executed" in str(error)
    assert await waiting == ["behind"]
    assert type(await error_of(player.end.remote(how))) is ActorDiedError


@everywhere
async def test_call_is_tried_again_as_often_as_it_may(notes):
    player = actor(max_restarts=-1, max_task_retries=2).remote()
    assert isinstance(await player.end.remote("SIGKILL", notes, 2), int)
    assert len(noted(notes)) == 3
    patient = actor(max_restarts=-1, max_task_retries=1).remote()
    assert type(await error_of(patient.end.remote("SIGKILL", notes, 100))) is ActorUnavailableError
    assert len(noted(notes)) == 5
    call = patient.end.options(max_task_retries=-1)
    assert isinstance(await call.remote("SIGKILL", notes, 8), int)
    assert len(noted(notes)) == 9


@everywhere
async def test_errors_are_retried_in_order_if_they_may_be(notes):
    player = actor().remote()
    call = player.fail_times.options(max_task_retries=2, retry_exceptions=[ConnectionError])
    tried, after = call.remote(notes, 2), player.hear.remote("after")
    assert await tried == 3
    assert await after == ["after"]
    assert isinstance(await error_of(call.remote(notes + "-2", 3)), ConnectionError)
    assert len(noted(notes + "-2")) == 3


@everywhere
async def test_actor_that_dies_too_often_stays_dead(notes):
    policy = RestartPolicy(intensity=2, period=1_000.0, initial_delay=0.0)
    player = actor(max_restarts=-1, restart_policy=policy).remote(notes)
    for _ in range(2):
        assert type(await error_of(player.end.remote("SIGKILL"))) is ActorUnavailableError
    error = await error_of(player.end.remote("SIGKILL"))
    assert type(error) is ActorDiedError
    assert "restart_policy" in str(error)
    assert noted(notes) == ["made"] * 3


@everywhere
async def test_crash_while_it_is_made_uses_up_a_restart(notes):
    player = actor(max_restarts=2).remote(notes, "SIGKILL", 2)
    assert await player.hear.remote(1) == [1]
    assert noted(notes) == ["made"] * 3
    doomed = actor(max_restarts=1).remote(notes + "-2", "SIGKILL")
    assert type(await error_of(doomed.hear.remote(1))) is ActorDiedError
    assert noted(notes + "-2") == ["made"] * 2


@everywhere
async def test_what_raises_in_init_is_told_and_never_tried_again(notes, caplog):
    player = actor(max_restarts=3).remote(notes, "raise")
    for _ in range(2):
        error = await error_of(player.hear.remote(1))
        assert type(error) is ActorDiedError
        assert error.actor_init_failed
        assert "ValueError: cannot be made" in str(error)
        assert "Player.__init__" in str(error)
    assert noted(notes) == ["made"]
    assert "cannot be made" in caplog.text


@everywhere
async def test_failed_argument_of_init_is_told():
    player = actor().remote(tell.remote(None, 1))
    error = await error_of(player.hear.remote(1))
    assert type(error) is ActorDiedError
    assert error.actor_init_failed
    assert "AttributeError" in str(error)


@everywhere
async def test_actors_survive_the_template(watch):
    crew = aioray.client.protocol.registry.current().processes
    player = actor(max_restarts=1, max_task_retries=1).remote()
    await player.hear.remote("before")
    template = crew.pids()[0]
    found = watch(template)
    os.kill(template, signal.SIGKILL)
    assert await survivors(found) == []
    assert await player.hear.remote("after") in (["after"], ["before", "after"])
    pid = await player.pid.remote()
    assert pid in crew.pids()


# ---------------------------------------------------------------- wanted ends


@pytest.mark.parametrize("how", WISHES)
@everywhere
async def test_actor_that_ends_itself_is_not_made_again(how, notes, watch):
    player = actor(max_restarts=3).remote(notes)
    found = watch(await player.at_exit.remote(notes))
    refs = [player.end.remote(how), player.hear.remote("behind")]
    for ref in refs:
        error = await error_of(ref)
        assert type(error) is ActorDiedError
        assert "ended itself" in str(error)
    assert await survivors(found) == []
    assert noted(notes) == ["made", "left"]


@everywhere
async def test_terminate_waits_for_earlier_calls(watch):
    player = actor().remote()
    found = watch(await player.pid.remote())
    heard = player.hear.remote(1)
    assert type(await error_of(player.__ray_terminate__.remote())) is ActorDiedError
    assert await heard == [1]
    assert await survivors(found) == []


@everywhere
async def test_kill_is_immediate_and_final(started, gate, notes, watch):
    player = actor(max_restarts=3).remote(notes)
    await player.at_exit.remote(notes)
    running = player.hold.remote(started.path, gate.path)
    found = watch(int(await started.heard()))
    waiting = player.hear.remote(1)
    aioray.kill(player)
    aioray.kill(player)
    for ref in (running, waiting, player.hear.remote(2)):
        error = await error_of(ref)
        assert type(error) is ActorDiedError
        assert "The actor is dead because it was killed by `ray.kill`." in str(error)
    assert await survivors(found) == []
    assert noted(notes) == ["made"]


@everywhere
async def test_kill_that_allows_a_restart_is_a_crash(started, gate):
    player = actor(max_restarts=1).remote()
    running = player.hold.remote(started.path, gate.path)
    await started.heard()
    aioray.kill(player, no_restart=False)
    assert type(await error_of(running)) is ActorUnavailableError
    assert await player.hear.remote(1) == [1]
    aioray.kill(player, no_restart=False)
    assert type(await error_of(player.hold.remote(started.path, gate.path))) is ActorDiedError


@everywhere(num_cpus=1)
async def test_kill_of_an_actor_that_waits_for_resources():
    first, second = actor(num_cpus=1).remote(), actor(num_cpus=1).remote()
    await first.pid.remote()
    waiting = second.pid.remote()
    aioray.kill(second)
    assert type(await error_of(waiting)) is ActorDiedError
    assert await first.hear.remote(1) == [1]


@everywhere
async def test_actor_leaves_when_its_last_handle_is_gone(started, gate, notes, watch):
    player = actor().remote()
    pid = await player.at_exit.remote(notes)
    found = watch(pid)
    running, last = player.hold.remote(started.path, gate.path), player.hear.remote("last")
    del player
    gc.collect()
    await started.heard()
    gate.tell("done")
    assert await running == "done"
    assert await last == ["last"]
    assert await survivors(found) == []
    assert noted(notes) == ["left"]


@everywhere
async def test_call_of_a_handle_that_nobody_keeps_runs():
    assert await actor().remote().hear.remote(1) == [1]


@everywhere
async def test_handle_inside_a_value_keeps_an_actor(watch):
    player = actor().remote()
    found = watch(await player.pid.remote())
    value = aioray.put([player])
    del player
    gc.collect()
    assert await (await value)[0].hear.remote(1) == [1]
    del value
    gc.collect()
    assert await survivors(found) == []


@everywhere(namespace="here")
async def test_named_actors_are_found_as_long_as_they_live(watch):
    player = actor().options(name="p").remote()
    found = watch(await player.pid.remote())
    assert aioray.get_actor("p") == player
    assert aioray.util.list_named_actors() == ["p"]
    with pytest.raises(aioray.exceptions.ActorAlreadyExistsError, match="already taken"):
        actor().options(name="p").remote()
    other = actor().options(name="p", namespace="there").remote()
    assert aioray.get_actor("p", namespace="there") == other
    assert actor().options(name="p", get_if_exists=True).remote() == player
    aioray.kill(player)
    with pytest.raises(ValueError, match="Failed to look up actor"):
        aioray.get_actor("p")
    again = actor().options(name="p").remote()
    assert await again.hear.remote(1) == [1]
    assert await survivors(found) == []


@everywhere
async def test_detached_actor_needs_no_handle():
    pid = await actor(lifetime="detached", name="d").remote().pid.remote()
    gc.collect()
    player = aioray.get_actor("d")
    assert await player.pid.remote() == pid


def test_shutdown_ends_all_actors_and_tells_callers(watch, started, gate):
    aioray.init(num_cpus=2)
    player = actor(lifetime="detached").remote()
    running = player.hold.remote(started.path, gate.path)
    found = watch(int(started.hear()))
    aioray.shutdown()
    with pytest.raises(EngineShutdownError):
        aioray.get(running)
    assert found.survivors() == []
    with pytest.raises(aioray.exceptions.ActorHandleNotFoundError):
        player.pid.remote()


def test_actors_die_with_a_driver_that_is_killed(drive, watch):
    driver = drive(
        "import aioray, time\n"
        "from tests.process.troupe import Player\n"
        "aioray.init(num_cpus=1)\n"
        "players = [aioray.remote(Player).remote() for _ in range(3)]\n"
        "print(*aioray.get([p.pid.remote() for p in players]), flush=True)\n"
        "time.sleep(1000)\n"
    )
    found = watch(*map(int, driver.process.stdout.readline().split()))
    driver.signal(signal.SIGKILL)
    assert found.survivors() == []


# ---------------------------------------------------------------- saved state


@everywhere
async def test_saved_state_survives_and_is_restored_once(notes):
    keeper = actor(Keeper, max_restarts=2).remote(notes)
    for word in "abc":
        await keeper.hear.remote(word)
    assert type(await error_of(keeper.end.remote("SIGKILL"))) is ActorUnavailableError
    assert await keeper.hear.remote("d") == ["a", "b", "c", "d"]
    assert noted(notes) == ["made", "made", "restored"]


@everywhere
async def test_call_and_the_state_after_it_count_together(notes):
    keeper = actor(Keeper, max_restarts=1, max_task_retries=1).remote(notes)
    await keeper.hear.remote("a")
    assert await keeper.hear_and_die.remote("b", notes + "-once") == ["a", "b"]
    assert await keeper.hear.remote("c") == ["a", "b", "c"]


@everywhere
async def test_large_state_is_saved_in_the_store(notes):
    keeper = actor(Keeper, max_restarts=1).remote(notes, 1_000_000)
    await keeper.hear.remote("a")
    await error_of(keeper.end.remote("SIGKILL"))
    assert await keeper.size.remote() == 1_000_000


@everywhere
async def test_worker_that_dies_while_it_saves_has_not_made_the_call(notes):
    keeper = actor(Keeper, max_restarts=1, max_task_retries=1).remote(notes)
    await keeper.hear.remote("a")
    assert await keeper.hear.remote("deadly") == ["a", "deadly"]
    assert noted(notes) == ["made", "made", "restored"]


@pytest.mark.parametrize("seed", range(4))
@everywhere
async def test_every_call_counts_once_however_often_the_actor_is_killed(seed, notes):
    """Kills at any moment: before a call, within it, while it saves, answers, or is made again."""
    chance = random.Random(seed)
    policy = RestartPolicy(initial_delay=0.0)
    keeper = actor(Keeper, max_restarts=-1, max_task_retries=-1, restart_policy=policy).remote(
        notes, chance.choice((0, 300_000))
    )
    refs = [keeper.hear.remote(number) for number in range(120)]
    for number in sorted(chance.sample(range(120), 6)):
        await refs[number]
        await asyncio.sleep(chance.random() * 0.003)
        for pid in pids_of_actors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for number, ref in enumerate(refs):
        assert await ref == list(range(number + 1))


def pids_of_actors():
    """The processes of all actors, also of those that are being made."""
    found = []
    for pid in aioray.client.protocol.registry.current().processes.pids()[1:]:
        with contextlib.suppress(OSError):  # it has ended
            title = Path(f"/proc/{pid}/cmdline").read_text()
            found += [pid] * ("Keeper" in title)
    return found


# ---------------------------------------------------------------- results, environments, groups


@everywhere
async def test_lost_result_of_a_call_is_computed_again_if_it_may_be():
    player = actor(max_task_retries=1).remote()
    ref = player.ones.remote(1_000_000)
    await ref
    lose(ref)
    assert (await ref).sum() == 1_000_000
    lose(ref)
    with pytest.raises(ObjectReconstructionFailedError):
        await ref


@everywhere
async def test_actor_has_an_environment_of_its_own_and_keeps_it():
    env = {"env_vars": {"SPEAKS": "loudly"}}
    player = actor(runtime_env=env, max_restarts=1, max_task_retries=1).remote()
    assert await player.variable.remote("SPEAKS") == "loudly"
    aioray.kill(player, no_restart=False)
    assert await player.variable.remote("SPEAKS") == "loudly"


@everywhere
async def test_environment_that_fails_is_told_to_callers(caplog):
    def refuse():
        raise OSError("no such thing")

    player = actor(runtime_env={"worker_process_setup_hook": refuse}).remote()
    error = await error_of(player.hear.remote(1))
    assert isinstance(error, ActorDiedError)  # as in Ray
    assert "Failed to execute the setup hook method" in str(error)
    assert "no such thing" in str(error)


@everywhere(num_cpus=2)
async def test_actor_in_a_placement_group_ends_with_it(watch):
    group = placement_group([{"CPU": 1}])
    await group.ready()
    where = PlacementGroupSchedulingStrategy(group)
    player = actor(scheduling_strategy=where, num_cpus=1, max_restarts=3).remote()
    found = watch(await player.pid.remote())
    remove_placement_group(group)
    error = await error_of(player.hear.remote(1))
    assert isinstance(error, ActorDiedError)  # as in Ray
    assert "its placement group was removed" in str(error)
    assert await survivors(found) == []
    assert await tell.options(num_cpus=2).remote(actor().remote(), 1) == [1]


@everywhere(num_cpus=1)
async def test_actor_that_never_began_in_a_placement_group_could_not_be_made():
    group = placement_group([{"CPU": 1}])
    await group.ready()
    where = PlacementGroupSchedulingStrategy(group)
    first = actor(scheduling_strategy=where, num_cpus=1).remote()
    await first.pid.remote()
    waiting = actor(scheduling_strategy=where, num_cpus=1).remote()
    call = waiting.pid.remote()
    remove_placement_group(group)
    late = actor(scheduling_strategy=where).remote()
    for ref in (call, late.pid.remote()):
        with pytest.raises(ActorUnschedulableError, match="placement group was removed"):
            await ref


@everywhere
async def test_actor_that_waits_for_a_task_lends_its_cpu():
    player, other = actor(num_cpus=2).remote(), actor().remote()
    ask = player.__ray_call__.remote(lambda _self, whom: aioray.get(tell.remote(whom, 1)), other)
    assert await ask == [1]


# ---------------------------------------------------------------- cancelling


@everywhere
async def test_cancel_of_a_queued_call_removes_it(started, gate):
    player = actor().remote()
    running, queued = player.hold.remote(started.path, gate.path), player.hear.remote("never")
    await started.heard()
    assert await aioray.cancel(queued) is CancelOutcome.NOT_STARTED
    error = await error_of(queued)
    assert isinstance(error, TaskCancelledError)
    assert queued.task_id().hex() in str(error)  # programs look for it
    gate.tell()
    await running
    assert await player.hear.remote("next") == ["next"]


@everywhere
async def test_cancel_of_a_running_call_sets_a_flag(started):
    for made in (actor().remote(), actor(Crowd, concurrency_groups={"aside": 1}).remote(1)):
        running = made.spin.remote(started.path)
        await started.heard()
        assert await aioray.cancel(running) is CancelOutcome.INTERRUPTED
        error = await error_of(running)
        assert isinstance(error, TaskCancelledError)
        assert running.task_id().hex() in str(error)
        assert await made.__ray_ready__.remote()


@everywhere
async def test_cancel_interrupts_a_method_that_wants_it(started):
    player = actor(interruptible=True).remote()
    os.mkfifo(started.path + "-never")
    running = player.sleep.remote(started.path)
    pid = int(await started.heard())
    assert await aioray.cancel(running) is CancelOutcome.INTERRUPTED
    assert isinstance(await error_of(running), TaskCancelledError)
    assert await player.pid.remote() == pid


@everywhere
async def test_cancel_arrives_in_a_coroutine(started, notes):
    chorus = actor(Chorus).remote()
    running = chorus.wait_for_cancel.remote(started.path, notes)
    pid = int(await started.heard())
    await aioray.cancel(running)
    assert isinstance(await error_of(running), TaskCancelledError)
    assert noted(notes) == ["cancelled"]
    assert await chorus.pid.remote() == pid


@everywhere
async def test_an_actor_is_not_killed_for_one_call(started, gate):
    player = actor().remote()
    running = player.hold.remote(started.path, gate.path)
    await started.heard()
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        aioray.cancel(running, force=True)
    gate.tell("done")
    assert await running == "done"


# ---------------------------------------------------------------- side by side


@everywhere
async def test_coroutines_run_side_by_side_on_one_loop():
    chorus = actor(Chorus).remote()
    threads = await asyncio.gather(*[chorus.meet.remote(100) for _ in range(100)])
    assert len(set(threads)) == 1
    assert await chorus.plain.remote()


@everywhere
async def test_coroutines_await_refs_of_others(started, gate):
    chorus, player = actor(Chorus).remote(), actor().remote()
    waiting = chorus.hear.remote([player.hold.remote(started.path, gate.path)])
    await started.heard()
    assert await chorus.plain.remote()
    gate.tell("word")
    assert await waiting == "word"


@everywhere
async def test_threads_and_groups_run_side_by_side(started, pipes):
    crowd = actor(Crowd, max_concurrency=3, concurrency_groups={"aside": 1}).remote(3)
    threads = await asyncio.gather(*[crowd.meet.remote() for _ in range(3)])
    assert len(set(threads)) == 3
    gates = pipes(3)
    held = [crowd.hold.remote(started.path, gate.path) for gate in gates]
    for _ in held:
        await started.heard()
    assert await crowd.aside.remote() not in threads
    for gate in gates:
        gate.tell("done")
    assert await asyncio.gather(*held) == ["done"] * 3


@everywhere
async def test_concurrent_actors_end_and_crash_like_others():
    for how, text in (("exit_actor", "ended itself"), ("SIGKILL", "SIGKILL")):
        chorus = actor(Chorus).remote()
        others = [chorus.meet.remote(100) for _ in range(3)]
        assert text in str(await error_of(chorus.end.remote(how)))
        for ref in others:
            assert type(await error_of(ref)) is ActorDiedError


def test_many_threads_of_the_driver_use_one_actor(session):
    player = actor().remote()

    def work(number):
        for _ in range(50):
            aioray.get(player.hear.remote(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = aioray.get(player.hear.remote(4))
    assert sorted(heard) == sorted([*range(4)] * 50 + [4])


class Account:
    """Keeps a figure under the name of a method, and more names besides."""

    def __init__(self):
        vars(self).update(balance=100, kind="none", name="none")

    def balance(self):
        return self.balance

    def deposit(self, amount):
        self.balance += amount

    @staticmethod
    def kind():
        return "static"

    @classmethod
    def name(cls):
        return cls.__name__

    def __getattr__(self, name):
        if name == "dynamic":
            return lambda: "made up"
        raise AttributeError(name)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_method_of_the_class_is_called_whatever_the_instance_has_under_its_name(
    session, concurrency
):
    account = aioray.remote(Account).options(max_concurrency=concurrency).remote()
    account.deposit.remote(5)
    assert aioray.get(account.balance.remote()) == 105
    assert aioray.get([account.kind.remote(), account.name.remote()]) == ["static", "Account"]
