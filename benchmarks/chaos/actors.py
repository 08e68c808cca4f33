"""The kinds of work with actors; otherwise as `work`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aioray
from aioray import RestartPolicy, exceptions

from . import jobs
from .claims import expect

if TYPE_CHECKING:
    from .plan import Item
    from .work import Shop

SOON = RestartPolicy(initial_delay=0.01, maximum_delay=0.2)


async def account(item: Item, shop: Shop) -> str:
    """Every call counts once, however often the process dies."""
    options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1, "restart_policy": SOON}
    actor = aioray.remote(**options)(jobs.Account).remote()
    calls, window = item.chance.randint(5, 60), item.chance.choice((1, 10))
    amount, done, refs = item.number, 0, []
    while done < calls:
        while len(refs) < min(window, calls - done):
            refs.append(actor.add.remote(amount))
        try:
            found = await refs.pop(0)
        except exceptions.RayError as error:
            return shop.blame(item, error)
        done += 1
        expect(found == (done, done * amount), (done, found))
    return "right value"


async def forgetful(item: Item, shop: Shop) -> str:
    """A count begins anew with each process; calls that were running are lost, and say so."""
    options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": 0, "restart_policy": SOON}
    actor = aioray.remote(**options)(jobs.Counter).remote()
    pid = count = lost = 0
    for _ in range(item.chance.randint(5, 60)):
        try:
            now, found = await actor.next.remote()
        except exceptions.RayError as error:
            shop.blame(item, error, exceptions.ActorUnavailableError)
            lost += 1
            pid = 0
            continue
        expect(found == (count + 1 if now == pid else 1) or not pid, (pid, count, now, found))
        pid, count = now, found
    return "right values, calls lost by blows" if lost else "right value"


async def mortal(item: Item, shop: Shop) -> str:
    """One process, whose end is the actor's."""
    actor = aioray.remote(jobs.Counter).remote()
    refs = [actor.next.remote() for _ in range(item.chance.randint(5, 60))]
    pids = set[int]()
    died: exceptions.RayError | None = None
    for number, ref in enumerate(refs, 1):
        try:
            pid, found = await ref
        except exceptions.RayError as error:
            died = error
            continue
        pids.add(pid)
        expect(died is None and found == number and len(pids) == 1, (number, pids, found, died))
    if died is not None:
        return shop.blame(item, died, exceptions.ActorDiedError)
    return "right value"


async def choir(item: Item, shop: Shop) -> str:
    """Many calls at a time."""
    cls = item.chance.choice((jobs.Choir, jobs.Threads))
    options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1, "restart_policy": SOON}
    actor = aioray.remote(max_concurrency=8, **options)(cls).remote()
    refs = [
        actor.square.remote(n, item.chance.choice((0.0, 0.02)))
        for n in range(item.chance.randint(5, 60))
    ]
    for n, ref in enumerate(refs):
        try:
            found = await ref
        except exceptions.RayError as error:
            return shop.blame(item, error)
        expect(found == n * n, (n, found))
    return "right value"
