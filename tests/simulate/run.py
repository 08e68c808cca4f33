"""Runs many simulated sessions, and makes one that fails as small as it can be.

Each session has a seed of its own, so that it can be played again alone. What fails is shrunk: by
halves and then one by one, items, deeds and faulty acts are left out as long as it fails in the
same way.
"""

from __future__ import annotations

import dataclasses
import random
import traceback
from typing import TYPE_CHECKING

from .plan import FAULTS, Act, Plan, draw
from .session import SimSession, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SESSION", "Found", "look", "play", "seeds_of", "shrink", "told"]

SESSION = 1_000  # tasks, about
TRIES = 400  # sessions that are played to make one smaller
STORY = 60  # lines that are shown, the last ones


def play(seed: int, tasks: int = SESSION, faults: Sequence[str] = FAULTS) -> SimSession:
    """Play the session of a seed."""
    chance = random.Random(seed)
    return simulate(draw(chance, tasks, faults), chance)


def seeds_of(seed: int, tasks: int) -> Iterator[tuple[int, int]]:
    """Yield a seed and a number of tasks for each of the sessions that have so many together."""
    while tasks > 0:
        yield seed, min(tasks, SESSION)
        tasks -= SESSION
        seed += 1


@dataclasses.dataclass
class Found:
    """A session that has failed, and the smallest like it."""

    seed: int
    tasks: int
    faults: Sequence[str]
    session: SimSession
    smallest: SimSession | None = None


def look(
    seed: int,
    tasks: int,
    faults: Sequence[str] = FAULTS,
    *,
    smaller: bool = True,
    after: Callable[[SimSession], None] = lambda _session: None,
) -> Found | None:
    """Play sessions until one fails. after: is given each that does not."""
    for one, count in seeds_of(seed, tasks):
        session = play(one, count, faults)
        if session.failed is None:
            after(session)
            continue
        found = Found(one, count, faults, session)
        if smaller:
            found.smallest = shrink(one, count, faults)
        return found
    return None


def _kind(session: SimSession) -> str | None:
    """Return what tells one failure from others: where it was found."""
    error = session.failed
    if error is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} {frames[-1].name if frames else ''}"


def shrink(seed: int, tasks: int, faults: Sequence[str] = FAULTS, tries: int = TRIES) -> SimSession:
    """Return the smallest session that was found to fail as this one does."""
    chance = random.Random(seed)
    plan = draw(chance, tasks, faults)
    state = chance.getstate()

    def again(smaller: Plan) -> SimSession:
        after = random.Random()
        after.setstate(state)
        return simulate(smaller, after)

    best = again(plan)
    kind = _kind(best)
    left = tries

    def fails(smaller: Plan) -> bool:
        nonlocal best, plan, left
        if left <= 0:
            return False
        left -= 1
        session = again(smaller)
        if _kind(session) != kind:
            return False
        best, plan = session, smaller
        return True

    changed = True
    while changed and left > 0:
        changed = False
        for what in ("items", "deeds"):
            size = max(1, len(getattr(plan, what)) // 2)
            while size:
                at = 0
                while at < len(getattr(plan, what)):
                    some = getattr(plan, what)[at : at + size]
                    if what == "items":
                        smaller = plan.without({item.number for item in some}, set())
                    else:
                        smaller = plan.without(set(), set(range(at, at + size)))
                    if fails(smaller):
                        changed = True
                    else:
                        at += size
                    if left <= 0:
                        return best
                size //= 2
        for index, item in enumerate(plan.items):
            calm = [Act(act.seconds, items=act.items) for act in item.acts]
            for simpler in (
                {"acts": calm}, {"options": {}}, {"needs": ()}, {"size": 0}, {"weight": 0},
                {"foreign": False},
            ):  # fmt: skip
                name, value = next(iter(simpler.items()))
                if getattr(item, name) == value or (name == "options" and item.kind != "task"):
                    continue
                other = dataclasses.replace(plan.items[index], **simpler)
                items = [*plan.items[:index], other, *plan.items[index + 1 :]]
                changed |= fails(dataclasses.replace(plan, items=items))
    return best


def told(found: Found) -> str:
    """Tell of a failure: how to have it again, what is left of it, and what happened."""
    session = found.smallest or found.session
    lines = [
        f"Session {found.seed} has failed. Have it again with",
        f"  python -m tests.simulate --seed {found.seed} --tasks {found.tasks}"
        + ("" if found.faults == FAULTS else f" --faults {','.join(found.faults)}"),
    ]
    error = found.session.failed
    lines += ["", *traceback.format_exception(error)]
    if found.smallest is not None:
        plan = session.plan
        lines += [
            f"The smallest like it has {len(plan.items)} items and {len(plan.deeds)} deeds:",
            *(f"  {item}" for item in plan.items[:STORY]),
            *(f"  {deed}" for deed in plan.deeds[:STORY]),
            f"  {session.failed!r:.500}",
            "",
        ]
    begun = session.trace[0][0] if session.trace else 0.0
    lines.append("What happened last, in virtual seconds:")
    for at, what, *rest in session.trace[-STORY:]:
        lines.append(f"  {at - begun:12.6f} {what:<14} {' '.join(map(str, rest))}")
    return "\n".join(lines)
