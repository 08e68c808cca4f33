"""Priorities between tasks that wait, where real workers run them."""

from __future__ import annotations

import asyncio

import aioray

from . import jobs, nested
from .support import everywhere

hold = aioray.remote(jobs.hold)
note = aioray.remote(jobs.return_number)
urgent = aioray.remote(priority=2)(jobs.return_number)


@everywhere(num_cpus=1)
async def test_urgent_tasks_overtake_those_that_wait(started, gate, notes):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    refs = [
        note.remote(notes, 0),
        note.options(priority=-1).remote(notes, 1),
        urgent.remote(notes, 2),
        urgent.options(priority=7.5).remote(notes, 3),
        note.remote(notes, 4),
    ]
    gate.tell()
    await asyncio.gather(running, *refs)
    assert jobs.notes(notes) == ["3", "2", "0", "4", "1"]


@everywhere(num_cpus=1)
async def test_children_have_priorities_too_and_else_that_of_their_parent(notes):
    submit = aioray.remote(nested.submit_in_order)
    await submit.options(priority=1).remote(notes, [0.5, 0, 7.5, 2])
    assert jobs.notes(notes) == ["7.5", "2", "0", "0.5"]
