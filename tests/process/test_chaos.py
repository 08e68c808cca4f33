"""Work of all kinds while a saboteur strikes; and the judge, who has to find what is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import pytest

import aioray
from aioray.exceptions import TaskTimeoutError, WorkerCrashedError
from benchmarks.chaos import ledger, plan
from benchmarks.chaos.claims import Claim, WrongError
from benchmarks.chaos.judge import Verdict, explained, prove
from benchmarks.chaos.saboteur import Strike
from benchmarks.chaos.work import KINDS, Shop

from . import jobs
from .support import everywhere
from .test_errors import error_of

SECONDS = 12.0  # of sabotage


def test_nothing_is_lost_wrong_or_left_under_sabotage():
    """All kinds of work begin at once, however slow the machine is; of blows there is a choice."""
    verdict = prove(seed=16, seconds=SECONDS)
    faults = {"wrong": verdict.wrong, "hung": verdict.hung, "left": verdict.left}
    assert faults == {"wrong": [], "hung": [], "left": []}, verdict.log
    assert verdict.lost == 0
    assert {work for work, _, _ in verdict.ledger} == {*plan.WORK} == {*KINDS}
    assert verdict.strikes
    assert verdict.is_right


# ---------------------------------------------------------------- the judge


def claim(**changes):
    made = Claim(
        item=1,
        work="fragile",
        error="WorkerCrashedError",
        is_death=True,
        pids=(7,),
        ended=("worker died of SIGSEGV",),
        at=100.0,
        text="",
    )
    return {**asdict(made), **changes}


def strike(kind="signal a worker", pid=7, ended=("SIGSEGV",), **more):
    at = more.pop("at", 99.0)
    return Strike(1, kind, at, at, pid, "", ended, **more)


@pytest.mark.parametrize(
    ("said", "done", "is_right"),
    [
        ({}, [strike()], True),
        ({}, [], False),
        ({}, [strike(pid=8)], False),  # another worker was struck
        ({}, [strike(ended=("SIGKILL",))], False),  # it died of something else
        ({}, [strike("interrupt a worker", ended=())], False),  # nobody dies of that
        ({"is_death": False}, [strike()], False),  # it was to be tried again
        ({"pids": (7, 8), "ended": ("SIGSEGV",) * 2}, [strike()], False),  # one of two deaths
        ({"ended": ("worker died, nobody knows how",)}, [strike()], True),
        ({"work": "dies", "pids": (6, 7), "ended": ("of itself", "SIGSEGV")}, [strike()], True),
        ({"work": "dies", "pids": (7, 6), "ended": ("SIGSEGV", "of itself")}, [strike()], False),
        ({"ended": ("worker died, nobody knows how",)}, [strike(pid=8)], False),
        (
            {"pids": (9,), "ended": ("worker died of SIGKILL",)},
            [strike("kill the template", 2, ("SIGKILL",), others=(7, 9))],
            True,
        ),
        (
            {"is_death": False, "error": "RaySystemError", "text": "Too many open files"},
            [strike("take the driver's descriptors", 2, ())],
            True,
        ),
        (
            {"is_death": False, "error": "RaySystemError", "text": "Too many open files"},
            [strike()],
            False,
        ),
        (
            {"is_death": False, "error": "OutOfDiskError"},
            [
                strike("fill the disk", ended=(), at=1.0),
                strike("fill the disk", ended=(), at=500.0),
            ],
            False,  # one was long before, and one after it
        ),
    ],
)
def test_error_is_right_only_if_a_blow_explains_it(said, done, is_right):
    assert explained(claim(**said), done) is is_right


@everywhere
async def test_claim_tells_who_died_and_of_what(tmp_path):
    error = await error_of(aioray.remote(max_retries=1)(jobs.die).remote("SIGKILL"))
    made = Claim.of(1, "fragile", error, 0.0, (WorkerCrashedError,))
    assert (made.is_death, len(made.pids)) == (True, 2)
    assert all("SIGKILL" in ended for ended in made.ended)
    assert not Claim.of(1, "plain", error, 0.0, ()).is_death


@everywhere
async def test_wrong_value_and_unexpected_error_are_found(tmp_path, monkeypatch):
    shop = Shop(str(tmp_path))
    item = plan.Item(3, "recycled", plan.item(1, 3).chance)
    monkeypatch.setattr("benchmarks.chaos.jobs.square", lambda n: n * n + 1)
    with pytest.raises(WrongError):
        await asyncio.wait_for(KINDS["recycled"](item, shop), 100)
    limit = TaskTimeoutError("timeout", 1.0)
    assert not explained(asdict(Claim.of(1, "plain", limit, 100.0, ())), [strike()])


def test_verdict_is_bad_if_anything_is_lost_wrong_hung_or_left():
    good = {"begun": 2, "ended": 2}
    assert Verdict(1, 1.0, **good).is_right
    assert not Verdict(1, 1.0, begun=2, ended=1).is_right
    assert not Verdict(1, 1.0, **good, wrong=[{}]).is_right
    assert not Verdict(1, 1.0, **good, hung=[{}]).is_right
    assert not Verdict(1, 1.0, **good, left=["a file"]).is_right
    assert not Verdict(1, 1.0).is_right  # nothing was done


def test_plan_is_the_seed_and_each_kind_comes_before_any_comes_twice():
    numbers = range(len(plan.WORK))
    assert {plan.item(5, number).kind for number in numbers} == {*plan.WORK}
    assert {plan.blow(5, number).kind for number in range(len(plan.BLOWS))} == {*plan.BLOWS}
    for number in (0, 3, 1000):
        one, other = plan.blow(5, number), plan.blow(5, number)
        assert (one.kind, one.pause, one.victim) == (other.kind, other.pause, other.victim)
        assert plan.item(5, number).chance.random() == plan.item(5, number).chance.random()
        assert plan.item(5, number).chance.random() != plan.item(6, number).chance.random()


def test_memory_that_grows_is_told_from_memory_that_warms_up():
    rising = [(n, 20_000.0 + 100 * n) for n in range(100)]
    warming = [(n, min(30_000.0, 20_000.0 + 1_000 * n)) for n in range(100)]
    assert ledger.growth(Verdict(1, 100.0, memory=rising))[0] > ledger.GROWTH_KB // 2
    assert ledger.growth(Verdict(1, 100.0, memory=warming))[0] == 0
    assert ledger.growth(Verdict(1, 100.0))[0] == 0
