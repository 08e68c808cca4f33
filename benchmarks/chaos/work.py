"""Each kind of work: how it is asked for, and which values and errors are right.

A kind is a coroutine function of `(item, shop)` that returns in a few words what came of the item,
and raises `WrongError` for what may not be. Errors that the item did not ask for are handed to
`Shop.blame`: they are right only if the saboteur says later that it did that.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import aioray
from aioray import exceptions

from . import actors, jobs
from .claims import Claim, expect
from .garbage import GARBAGE, write_garbage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .plan import Item

VALUE = "right value"
SECTION = aioray.Limiter("section", concurrency=jobs.SEATS)
TIMEOUT = 0.2  # seconds, of what never ends by itself
LONG = 30.0  # seconds, of what has to be ended


@dataclass
class Shop:
    """What items share."""

    folder: str  # for notes of tasks
    claims: list[Claim] = field(default_factory=list)
    unmarked: dict[str, int] = field(default_factory=dict)  # notes that may not appear: their items

    def note(self, item: Item) -> str:
        """The path of a file for what this item has to remember."""
        return os.path.join(self.folder, f"{item.kind}-{item.number}")

    def blame(self, item: Item, error: BaseException, *kinds: type[BaseException]) -> str:
        """Enter that this error was the saboteur's doing, as it must be of one of these kinds."""
        expect(isinstance(error, (*kinds, exceptions.RayError)), error)
        self.claims.append(Claim.of(item.number, item.kind, error, time.time(), kinds))
        return f"{_name(error)}, by a blow"


def _name(error: BaseException) -> str:
    return type(error).__name__


async def settled(awaitable: Any) -> Any:
    """The value, or the error, which is then the value."""
    try:
        return await awaitable
    except exceptions.RayError as error:
        return error


async def _right(item: Item, shop: Shop, awaitable: Any, value: object) -> str:
    """Expect this value, or the want of something that the saboteur has taken away."""
    found = await settled(awaitable)
    if isinstance(found, exceptions.RayError):
        return shop.blame(item, found)
    expect(found == value, found)
    return VALUE


async def plain(item: Item, shop: Shop) -> str:
    chance = item.chance
    function = chance.choice((jobs.square, jobs.burn, jobs.square_later))
    n, seconds = chance.randrange(1_000_000), chance.choice((0.0, 0.001, 0.02, 0.3))
    ref = aioray.remote(max_retries=-1)(function).remote(n, seconds)
    return await _right(item, shop, ref, n * n)


async def fragile(item: Item, shop: Shop) -> str:
    n, seconds = item.chance.randrange(1_000_000), item.chance.choice((0.0, 0.02, 0.3))
    found = await settled(aioray.remote(max_retries=0)(jobs.square).remote(n, seconds))
    if isinstance(found, exceptions.RayError):
        expect(len(found.attempts) <= 1, found)
        return shop.blame(item, found, exceptions.WorkerCrashedError)
    expect(found == n * n, found)
    return VALUE


async def nested(item: Item, shop: Shop) -> str:
    depth, width, n = item.chance.choice((1, 2)), item.chance.randint(1, 4), item.number
    ref = aioray.remote(max_retries=-1)(jobs.tree).remote(depth, width, n)
    return await _right(item, shop, ref, n * width**depth)


async def chain(item: Item, shop: Shop) -> str:
    add = aioray.remote(max_retries=-1)(jobs.add)
    ref, length = add.remote(item.number, 0), item.chance.randint(2, 20)
    for _ in range(length):
        ref = add.remote(ref, 1)
    return await _right(item, shop, ref, item.number + length)


async def raises(item: Item, shop: Shop) -> str:
    fail = aioray.remote(max_retries=-1)(jobs.fail)
    ref = fail.remote(item.number, item.chance.choice((0.0, 0.1)))
    if item.chance.random() < 0.5:  # whoever needs the value is told of it too
        ref = aioray.remote(max_retries=-1)(jobs.add).remote(ref, 1)
    found = await settled(ref)
    if isinstance(found, jobs.PlannedError):
        expect(found.cause.args == (item.number,), found)  # type: ignore[attr-defined]
        return "its own error"
    return shop.blame(item, found)


async def flaky(item: Item, shop: Shop) -> str:
    options: dict[str, Any] = {"max_retries": -1, "retry_exceptions": [jobs.PlannedError]}
    if item.chance.random() < 0.5:
        options["retry"] = aioray.RetryPolicy(initial_delay=0.01, maximum_delay=0.1)
    failures = item.chance.randint(1, 4)
    ref = aioray.remote(**options)(jobs.flaky).remote(item.number, shop.note(item), failures)
    return await _right(item, shop, ref, item.number**2)


async def dies(item: Item, shop: Shop) -> str:
    way, retries = item.chance.choice(jobs.WAYS), item.chance.randint(0, 2)
    found = await settled(aioray.remote(max_retries=retries)(jobs.die).remote(way))
    expect(isinstance(found, exceptions.RayError), found)
    if not isinstance(found, exceptions.WorkerCrashedError):
        return shop.blame(item, found)
    expect(len(found.attempts) == retries + 1, found)
    own = f"code {jobs.EXIT_CODE}" if way == "exit" else way
    if own in found.attempts[-1].ended:
        return "died as planned"
    return shop.blame(item, found, exceptions.WorkerCrashedError)


async def large(item: Item, shop: Shop) -> str:
    n, readers = item.chance.randrange(1_000_000), item.chance.randint(1, 3)
    total = aioray.remote(max_retries=-1)(jobs.total)
    ref: Any = aioray.remote(max_retries=-1)(jobs.make).remote(n)
    if item.chance.random() < 0.3:
        ref, n = aioray.remote(max_retries=-1)(jobs.plus_one).remote(ref), n + 1
    totals = [await settled(total.remote(ref)) for _ in range(readers)]
    await asyncio.sleep(item.chance.choice((0.0, 1.0)))  # it may be spilled meanwhile
    found = await settled(ref)
    if isinstance(found, exceptions.RayError):
        return shop.blame(item, found)
    expect(found[0] == n and found[-1] == n + jobs.FLOATS - 1, found[:3])
    for each in totals:
        if isinstance(each, exceptions.RayError):
            return shop.blame(item, each)
        expect(each == jobs.true_total(n), each)
    return VALUE


async def stored(item: Item, shop: Shop) -> str:
    n = item.chance.randrange(1_000_000)
    try:
        ref = aioray.put(jobs.make(n))
    except (exceptions.RayError, OSError) as error:
        return shop.blame(item, error, OSError)
    await asyncio.sleep(item.chance.choice((0.0, 0.5, 2.0)))
    if item.chance.random() < 0.5:
        found = await settled(ref)
        if not isinstance(found, exceptions.RayError):
            found = float(found.sum())
    else:
        found = await settled(aioray.remote(max_retries=-1)(jobs.total).remote(ref))
    if isinstance(found, exceptions.RayError):
        return shop.blame(item, found)
    expect(found == jobs.true_total(n), found)
    return VALUE


async def stream(item: Item, shop: Shop) -> str:
    items, size = item.chance.randint(1, 30), item.chance.choice((0, 0, 0, 20_000))
    options = {"_generator_backpressure_num_objects": 3} if item.chance.random() < 0.5 else {}
    seen: list[int] = []
    try:
        async for ref in aioray.remote(max_retries=-1, **options)(jobs.count).remote(
            item.number, items, size
        ):
            found = await ref
            expect(np.ndim(found) == 0 or bool((found == found[0]).all()), found)
            seen.append(int(found[0] if size else found))
            if item.chance.random() < 0.02:
                return f"{VALUE}s, left early"
    except exceptions.RayError as error:
        return shop.blame(item, error)
    finally:
        expect(seen == list(range(item.number, item.number + len(seen))), seen)
    expect(len(seen) == items, seen)
    return VALUE


async def mapped(item: Item, shop: Shop) -> str:
    items, ordered = item.chance.randint(1, 300), item.chance.random() < 0.5
    seconds = item.chance.choice((0.0, 0.0, 0.002))
    squares = aioray.map(
        aioray.remote(max_retries=-1)(jobs.square),
        ((n, seconds) for n in range(items)),
        star=True,
        ordered=ordered,
    )
    try:
        found = [value async for value in squares]
    except exceptions.RayError as error:
        return shop.blame(item, error)
    right = [n * n for n in range(items)]
    expect((found if ordered else sorted(found)) == right, found)
    return VALUE


async def endless(item: Item, shop: Shop) -> str:
    way = item.chance.choice(("sleep", "spin", "deaf"))
    note = shop.note(item)
    shop.unmarked[note] = item.number
    hang = aioray.remote(max_retries=-1, timeout=TIMEOUT)(jobs.hang)
    found = await settled(hang.remote(note, LONG, way))
    if isinstance(found, exceptions.TaskTimeoutError):
        expect(found.limit == "timeout" and found.seconds == TIMEOUT, found)
        return "timed out"
    return shop.blame(item, found)


async def late(item: Item, shop: Shop) -> str:
    deadline, calls = item.chance.choice((0.05, 0.5, 2.0)), item.chance.randint(1, 30)
    square = aioray.remote(max_retries=-1, deadline=deadline)(jobs.square)
    refs = [square.remote(n, 0.01) for n in range(calls)]
    missed = 0
    for n, ref in enumerate(refs):
        found = await settled(ref)
        if isinstance(found, exceptions.TaskTimeoutError):
            expect(found.limit == "deadline", found)
            missed += 1
        elif isinstance(found, exceptions.RayError):
            return shop.blame(item, found)
        else:
            expect(found == n * n, found)
    return "past its deadline" if missed else VALUE


async def cancelled(item: Item, shop: Shop) -> str:
    chance, note = item.chance, shop.note(item)
    way, seconds = chance.choice(("sleep", "spin")), chance.choice((0.0, 0.1, LONG))
    ref = aioray.remote(max_retries=-1, priority=1)(jobs.hang).remote(note, seconds, way)
    if chance.random() < 0.7:
        while not (_is_there(f"{note}-begun") or ref.done()):  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.01)
    await asyncio.sleep(chance.choice((0.0, 0.0, 0.02, 0.1)))
    how: dict[str, Any] = {"force": True} if chance.random() < 0.3 else {"grace": 0.2}
    outcome = await aioray.cancel(ref, **how)
    found = await settled(ref)
    if outcome is aioray.CancelOutcome.FINISHED_FIRST:
        if isinstance(found, exceptions.RayError):
            return shop.blame(item, found)
        expect(found == "done", found)
        return "cancelled: FINISHED_FIRST"
    expect(isinstance(found, exceptions.TaskCancelledError), (outcome, found))
    if seconds == LONG or outcome is aioray.CancelOutcome.NOT_STARTED:
        shop.unmarked[note] = item.number
    return f"cancelled: {outcome.name}"


def _is_there(path: str) -> bool:
    return os.path.exists(path)


async def limited(item: Item, shop: Shop) -> str:
    calls, seconds = item.chance.randint(1, 6), item.chance.choice((0.0, 0.02))
    sit = aioray.remote(max_retries=-1, limiter=SECTION)(jobs.sit)
    refs = [sit.remote(shop.folder, n, seconds) for n in range(calls)]
    for n, ref in enumerate(refs):
        found = await settled(ref)
        if isinstance(found, exceptions.RayError):
            return shop.blame(item, found)
        expect(found == ("seated", n * n), found)
    return VALUE


async def recycled(item: Item, shop: Shop) -> str:
    calls = item.chance.randint(1, 10)
    square = aioray.remote(max_retries=-1, max_calls=3)(jobs.square)
    refs = [square.remote(n) for n in range(calls)]
    for n, ref in enumerate(refs):
        found = await settled(ref)
        if isinstance(found, exceptions.RayError):
            return shop.blame(item, found)
        expect(found == n * n, found)
    return VALUE


async def waits(item: Item, shop: Shop) -> str:
    square = aioray.remote(max_retries=-1)(jobs.square)
    refs = [square.remote(n, item.chance.choice((0.0, 0.1))) for n in range(5)]
    while True:
        if item.chance.random() < 0.5:
            done, rest = await asyncio.wait(refs, timeout=0.05)
        else:
            done, rest = await asyncio.to_thread(aioray.wait, refs, num_returns=5, timeout=0.05)
        expect({*done, *rest} == {*refs}, (done, rest))
        if not rest:
            break
    for n, ref in enumerate(refs):
        found = await settled(ref)
        if isinstance(found, exceptions.RayError):
            return shop.blame(item, found)
        expect(found == n * n, found)
    return VALUE


async def garbage(item: Item, shop: Shop) -> str:
    kind = item.chance.choice(list(GARBAGE))
    found = await settled(aioray.remote(max_retries=0)(write_garbage).remote(kind))
    expect(isinstance(found, exceptions.RayError), found)
    if isinstance(found, exceptions.WorkerCrashedError) and "answers pipe" in str(found):
        return "discarded as planned"
    return shop.blame(item, found)


KINDS: dict[str, Callable[[Item, Shop], Awaitable[str]]] = {
    "plain": plain,
    "fragile": fragile,
    "nested": nested,
    "chain": chain,
    "raises": raises,
    "flaky": flaky,
    "dies": dies,
    "large": large,
    "stored": stored,
    "stream": stream,
    "map": mapped,
    "endless": endless,
    "late": late,
    "cancelled": cancelled,
    "limited": limited,
    "recycled": recycled,
    "waits": waits,
    "garbage": garbage,
    "account": actors.account,
    "forgetful": actors.forgetful,
    "mortal": actors.mortal,
    "choir": actors.choir,
}
