"""The shape and the digits of ids."""

from __future__ import annotations

import pytest

from aioray.shared import ids

JOB = ids.job_id(1)


@pytest.mark.parametrize(
    ("counter", "expected"),
    [
        (1, "a67dc375e60ddd1affffffffffffffffffffffff01000000"),
        (2, "63964fa4841d4a2effffffffffffffffffffffff01000000"),
        (3, "69a6825d641b4613ffffffffffffffffffffffff01000000"),
    ],
)
def test_task_ids_are_those_of_rays_for_normal_task(counter: int, expected: str) -> None:
    """Recorded from Ray 2.60.0: TaskID.for_normal_task(job, TaskID.for_driver_task(job), n)."""
    assert ids.task_id(JOB, counter).hex() == expected


def test_driver_is_forty_f_and_its_job() -> None:
    assert ids.driver_task_id(JOB).hex() == "f" * 40 + "01000000"


def test_object_id_is_its_task_and_an_index_from_one() -> None:
    task = ids.task_id(JOB, 1)
    identifier = ids.object_id(task, 2)
    assert identifier.hex() == task.hex() + "02000000"
    assert len(identifier) == ids.OBJECT_ID_SIZE
    assert ids.job_of(identifier) == JOB


def test_actor_of_its_creation_and_of_its_calls() -> None:
    actor = bytes(range(12)) + JOB
    for task in (b"\xff" * 8 + actor, b"12345678" + actor):
        assert ids.actor_of(task) == actor
        assert ids.actor_of(ids.object_id(task, 3)) == actor


def test_other_tasks_belong_to_no_actor() -> None:
    call = b"12345678" + bytes(12) + JOB
    for task in (ids.task_id(JOB, 1), ids.driver_task_id(JOB), ids.child_task_id(call, 1)):
        assert ids.actor_of(ids.object_id(task, 1)) is None


def test_random_ids_differ_and_have_the_size_asked_for() -> None:
    assert len(ids.random_id()) == ids.NODE_ID_SIZE
    assert ids.random_id(8) != ids.random_id(8)
