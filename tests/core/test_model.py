"""The tables of legal moves, and what the records say of themselves."""

from __future__ import annotations

import itertools

import pytest

from aioray.core.cancels import Cancellation
from aioray.core.functions import Function
from aioray.core.groups import Group
from aioray.core.limits import TaskLimits
from aioray.core.model import Kind, SchedulingClass, Task, Worker
from aioray.core.states import (
    MACHINES,
    ActorStatus,
    BreakerStatus,
    CancelStatus,
    GroupStatus,
    IllegalMove,
    Phase,
    State,
    Story,
    TaskStatus,
    Tracked,
    WorkerStatus,
    diagram,
    main,
)

from .support import Core

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
KINDS = (TaskStatus, WorkerStatus, ActorStatus, GroupStatus, CancelStatus, BreakerStatus, Phase)
TABLES = dict(zip(KINDS, MACHINES.values(), strict=True))
PAIRS = [pair for kind in KINDS for pair in itertools.product(kind, kind)]


class Anything:
    """A record of any kind."""

    identity = "it"

    def __init__(self, state):
        self.state = state

    def __repr__(self):
        return f"<Anything {self.state.name}>"

    def account(self):
        return "It is young. "


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=lambda state: state.name)
def test_record_makes_the_legal_moves_and_no_others(before, after):
    record, story = Anything(before), Story()
    if after in TABLES[type(before)][before]:
        story.move(record, after)
        assert record.state is after
    else:
        with pytest.raises(IllegalMove, match=f"{before.name}> cannot become {after.name}"):
            story.move(record, after)
        assert record.state is before


def test_moves_of_tasks_are_these():
    table = TABLES[TaskStatus]
    assert {(a.name, b.name) for a, following in table.items() for b in following} == LEGAL


@pytest.mark.parametrize("kind", KINDS)
def test_table_knows_every_state(kind):
    table = TABLES[kind]
    assert list(table) == list(kind)
    assert all(state.successors == tuple(table[state]) for state in kind)
    first, *others = kind
    reached = {first} | {after for following in table.values() for after in following}
    assert reached >= set(others)
    # It comes to an end; a breaker does not.
    assert any(not state.successors for state in kind) is (kind is not BreakerStatus)


def test_illegal_move_tells_the_story():
    story = Story()
    story.events.append((1.0, "WorkerDied", 7))
    story.move(Anything(GroupStatus.PENDING), GroupStatus.REMOVED)
    with pytest.raises(IllegalMove) as caught:
        story.move(Anything(GroupStatus.REMOVED), GroupStatus.CREATED)
    assert str(caught.value) == (
        "<Anything REMOVED> cannot become CREATED: this is a bug in aioray. It is young. The "
        "events before: WorkerDied at 1.000000 (worker 7). The moves before: it from PENDING to "
        "REMOVED at 1.000000."
    )


def test_every_record_has_a_name_in_stories():
    core = Core()
    actor = core.alive()
    told = {identity for _, identity, _, _ in core.scheduler.turn.story.moves}
    assert told == {"worker 1", f"the actor of task {actor.creation.number}"}
    life = core.scheduler.turn.life
    records = (actor, actor.worker, actor.creation, life)
    assert [record.account() != "" for record in records] == [False, False, True, False]


def test_records_that_move_seldom_have_names_too():
    life = Core().scheduler.turn.life
    assert (life.identity, repr(life)) == ("the engine", "<Engine OPEN>")
    assert Group("ab", ()).identity == "placement group ab"
    assert Cancellation().identity == "a cancel"
    plain = Tracked()
    assert (plain.identity, plain.account()) == (repr(plain), "")


def test_usual_moves_of_tasks_are_not_written_down():
    core = Core()
    task = core.running()
    core.answer(1, *[])
    assert core.scheduler.turn.story.moves[-1][1] == "worker 1"
    assert "sent to worker 1 as 1 at 0.000000" in task.account()


def test_diagrams_show_every_move(capsys):
    main()
    printed = capsys.readouterr().out
    assert printed.count("```mermaid") == len(MACHINES)
    for moves in MACHINES.values():
        text = diagram(moves)
        assert text in printed
        assert text.startswith("stateDiagram-v2\n    [*] --> ")
        for before, following in moves.items():
            for after, why in following.items():
                assert f"    {before.name} --> {after.name}: {why}" in text.splitlines()


def test_failure_is_final():
    assert [state.name for state in TaskStatus if not state.successors] == ["FAILED"]


def test_value_is_computed_again_by_the_way_of_the_first_attempt():
    """FINISHED is entered from a worker, or from the queue where a placement group is reserved."""
    before = [state.name for state in TaskStatus if TaskStatus.FINISHED in state.successors]
    assert before == ["PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER"]


def test_every_state_can_be_reached_and_left_towards_either_end():
    reachable: set[State] = {TaskStatus.PENDING_ARGS_AVAIL}
    for _ in TaskStatus:
        reachable |= {after for state in reachable for after in state.successors}
    assert reachable == set(TaskStatus)
    for state in TaskStatus:
        ways: set[State] = {state}
        for _ in TaskStatus:
            ways |= {after for state in ways for after in state.successors}
        assert TaskStatus.FAILED in ways
        assert TaskStatus.FINISHED in ways or state is TaskStatus.FAILED


def test_records_show_what_matters():
    core = Core()
    task = core.running()
    assert repr(task) == "<Task 1 t1 attempt 0 SUBMITTED_TO_WORKER>"
    assert repr(task.worker) == "<Worker 1 READY 1 in flight>"
    assert repr(Worker(7, ())) == "<Worker 7 STARTING 0 in flight>"


def test_dropped_arguments_are_let_go_with_what_is_held_for_them():
    task = Core().task()
    task.payload, task.arguments, task.held = b"payload", [object()], object()
    task.drop_arguments()
    assert (task.payload, task.arguments, task.held) == (None, None, None)


def test_what_is_set_of_a_kind_is_the_tasks_own():
    kind = Kind("f", Function(1, "f"), SchedulingClass((), ()))
    one, other = Task(1, kind), Task(2, kind)
    one.limits = limits = TaskLimits(deadline=1.0)
    assert (one.limits, one.name, one.kind.limits) == (limits, "f", limits)
    assert (other.limits, other.kind, kind.limits) == (None, kind, None)
