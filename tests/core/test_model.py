"""The table of legal moves, and what the records say of themselves."""

from __future__ import annotations

import itertools
import random

import pytest

from aioray.core.model import SUCCESSORS, TaskState, Worker
from aioray.core.scheduler import IllegalMove

from .support import Core, Scheduler

LEGAL = {
    ("PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT"),
    ("PENDING_ARGS_AVAIL", "FAILED"),
    ("PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER"),
    ("PENDING_NODE_ASSIGNMENT", "FAILED"),
    ("PENDING_NODE_ASSIGNMENT", "FINISHED"),
    ("BACKOFF", "PENDING_NODE_ASSIGNMENT"),
    ("BACKOFF", "FAILED"),
    ("SUBMITTED_TO_WORKER", "FINISHED"),
    ("SUBMITTED_TO_WORKER", "FAILED"),
    ("SUBMITTED_TO_WORKER", "BACKOFF"),
    ("SUBMITTED_TO_WORKER", "PENDING_NODE_ASSIGNMENT"),
    ("SUBMITTED_TO_WORKER", "PENDING_ARGS_AVAIL"),
    ("FINISHED", "PENDING_ARGS_AVAIL"),
    ("FINISHED", "PENDING_NODE_ASSIGNMENT"),
    ("FINISHED", "BACKOFF"),
}
PAIRS = list(itertools.product(TaskState, TaskState))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda state: state.name)
def test_task_makes_the_legal_moves_and_no_others(before, after):
    scheduler = Scheduler({}, random.Random(0))
    task = Core().task()
    task.state = before
    if (before.name, after.name) in LEGAL:
        scheduler._move(task, after)
        assert task.state is after
    else:
        with pytest.raises(IllegalMove, match=f"{before.name}> cannot become {after.name}"):
            scheduler._move(task, after)
        assert task.state is before


def test_table_knows_every_state():
    assert list(SUCCESSORS) == list(TaskState)
    assert all(state.successors == SUCCESSORS[state] for state in TaskState)


def test_failure_is_final():
    assert [state.name for state in TaskState if not state.successors] == ["FAILED"]


def test_value_is_computed_again_by_the_way_of_the_first_attempt():
    """FINISHED is entered from a worker, or from the queue where a placement group is reserved."""
    before = [state.name for state in TaskState if TaskState.FINISHED in state.successors]
    assert before == ["PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER"]


def test_every_state_can_be_reached_and_left_towards_either_end():
    reachable = {TaskState.PENDING_ARGS_AVAIL}
    for _ in TaskState:
        reachable |= {after for state in reachable for after in state.successors}
    assert reachable == set(TaskState)
    for state in TaskState:
        ways = {state}
        for _ in TaskState:
            ways |= {after for state in ways for after in state.successors}
        assert TaskState.FAILED in ways
        assert TaskState.FINISHED in ways or state is TaskState.FAILED


def test_records_show_what_matters():
    core = Core()
    task = core.running()
    assert repr(task) == "<Task 1 t1 attempt 0 SUBMITTED_TO_WORKER>"
    assert repr(task.worker) == "<Worker 1 READY 1 in flight>"
    assert repr(Worker(7, ())) == "<Worker 7 STARTING 0 in flight>"
