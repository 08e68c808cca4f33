"""What a simulated session is asked for, and what goes wrong in it: drawn from one generator.

A `Plan` is data. Its items are tasks, actors, calls of these, values that are put, streams and
placement groups; each says what its attempts do, one `Act` after the other. Its deeds are what the
driver does besides, and what happens to workers, to memory and to the disk. So a plan can be made
smaller, and played again: what is left does what it did.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aioray import CrashBreaker, Limiter, RetryPolicy

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

__all__ = ["FAULTS", "FEATURES", "Act", "Deed", "Item", "Plan", "draw"]

FEATURES = (
    "large", "nested", "streams", "actors", "groups", "limits", "limiters", "retries", "cancels",
)  # fmt: skip
FAULTS = (
    "raises", "crashes", "hangs", "kills", "starts", "template", "losses", "disk", "memory",
    "garbage", "slow", "shutdown",
)  # fmt: skip
MB = 1024 * 1024
HASTE = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)  # seconds that attempts take, about
HASTE_WEIGHTS = (30, 20, 25, 15, 8, 2)
LARGE = (2_100, 6_000, 20_000, 70_000)  # bytes; from 2,048 on they go to the store here
SPREAD = 0.004  # seconds between two items, about


@dataclass(slots=True)
class Act:
    """What one attempt does."""

    seconds: float = 0.0  # inside the function, beside what it waits for
    end: str = "return"  # see `workers.Playing`
    waits: bool = True  # for the values of what it has submitted
    stubborn: bool = False  # no interrupt ends it
    items: int = 0  # that a stream yields before its end
    keeps: float = 0.0  # seconds for which it looks at its arguments beyond its end

    @property
    def is_fault(self) -> bool:
        """Whether it is not what a user would wish for."""
        return self.end != "return" or self.stubborn


@dataclass(slots=True)
class Item:
    """Something that is asked for."""

    number: int
    kind: str  # "task", "stream", "actor", "call", "put" or "group"
    at: float  # when the driver asks for it
    needs: tuple[int, ...] = ()  # items whose values are its arguments
    parent: int | None = None  # the task that asks for it; None: the driver
    actor: int | None = None  # of a call
    group: int | None = None  # in which it runs
    options: dict[str, Any] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)  # by attempt; the last is for all that follow
    size: int = 0  # bytes of its value beyond a few
    weight: int = 0  # bytes of its arguments beyond a few
    returns: int = 1
    reader: str = "callback"  # how the driver looks at it; or "await", "impatient", "drops"
    foreign: bool = False  # whether another thread than the loop's asks for it

    def act(self, attempt: int) -> Act:
        """Return what this attempt does."""
        return self.acts[min(attempt, len(self.acts) - 1)]

    def wants(self) -> set[int]:
        """Return the items that must be there for this one."""
        found = set(self.needs)
        found.update(each for each in (self.parent, self.actor, self.group) if each is not None)
        return found


@dataclass(slots=True)
class Deed:
    """Something that happens at a time."""

    at: float
    what: str
    item: int | None = None
    detail: Any = None


@dataclass(slots=True)
class Plan:
    """A session."""

    settings: dict[str, Any]
    items: list[Item]
    deeds: list[Deed]
    slowness: float = 1.0  # of messages
    partial: float = 0.0  # how often a part of what a worker has written is read
    lost_interrupts: float = 0.0
    failed_starts: float = 0.0
    end: float = 0.0  # when the driver gives up what still runs

    @property
    def faults(self) -> int:
        """How many there are."""
        acts = sum(act.is_fault for item in self.items for act in item.acts)
        return acts + sum(deed.what not in ("drop", "collect") for deed in self.deeds)

    def without(self, items: set[int], deeds: set[int]) -> Plan:
        """Return it without these items, and what cannot be without them, and these deeds."""
        gone = set(items)
        left: list[Item] = []
        for item in self.items:
            if (
                item.number in gone
                or {each for each in (item.parent, item.actor) if each is not None} & gone
            ):
                gone.add(item.number)
                continue
            needs = tuple(each for each in item.needs if each not in gone)
            group = None if item.group in gone else item.group
            left.append(dataclasses.replace(item, needs=needs, group=group))
        kept = [
            deed
            for index, deed in enumerate(self.deeds)
            if index not in deeds and (deed.item is None or deed.item not in gone)
        ]
        return dataclasses.replace(self, items=left, deeds=kept)


def _options(chance: random.Random, features: set[str], limiters: Sequence[Limiter]) -> Any:
    """Draw the options of a function."""
    options: dict[str, Any] = {}
    draw = chance.random()
    if draw < 0.3:
        options["num_cpus"] = chance.choice((0.5, 2, 0, 0.25))
    if "retries" in features:
        options["max_retries"] = chance.choice((0, 1, 2, 3, -1))
        if chance.random() < 0.6:
            options["retry_exceptions"] = chance.choice((True, True, False))
        if chance.random() < 0.3:
            options["retry"] = chance.choice(
                (RetryPolicy(0.05), RetryPolicy(0.02, jitter=False, time_budget=0.3))
            )
    if "limits" in features and chance.random() < 0.25:
        name, seconds = chance.choice(
            (("timeout", 0.05), ("timeout", 1.0), ("deadline", 0.2), ("deadline", 5.0),
             ("stall_timeout", 0.1))
        )  # fmt: skip
        options[name] = seconds
    if "limits" in features and chance.random() < 0.08:
        options["breaker"] = CrashBreaker(2, 5.0, 0.5, "b")
    if limiters and chance.random() < 0.2:
        options["limiter"] = chance.choice(limiters)
    if "memory" in features and chance.random() < 0.1:
        options["memory_limit"] = 64 * MB
    if chance.random() < 0.1:
        options["priority"] = chance.choice((1, -1))
    if chance.random() < 0.05:
        options["max_calls"] = chance.choice((1, 3))
    return options


class _Draft:
    """A plan that is being drawn."""

    def __init__(self, chance: random.Random, features: set[str], fault: float) -> None:
        self.chance = chance
        self.features = features
        self.fault = fault  # how often an attempt goes wrong
        self.items: list[Item] = []
        self.deeds: list[Deed] = []
        self.now = 0.0
        limited = "limiters" in features
        self.limiters = (
            [Limiter("two", concurrency=2), Limiter("often", rate=20, per=0.1)] if limited else []
        )
        self.variants = [_options(chance, features, self.limiters) for _ in range(8)]
        self.actors: list[Item] = []
        self.groups: list[Item] = []

    # ------------------------------------------------------------ what attempts do

    def seconds(self) -> float:
        """Draw how long an attempt takes."""
        chance = self.chance
        return chance.choices(HASTE, HASTE_WEIGHTS)[0] * (0.5 + chance.random())

    def acts(self, options: dict[str, Any], *, may_hang: bool = True) -> list[Act]:
        """Draw what the attempts of a task do; the last of them is no fault, as a rule."""
        chance, features = self.chance, self.features
        acts = []
        while chance.random() < self.fault and len(acts) < 4:
            ends = []
            if "raises" in features:
                ends += ["raise", "raise", "ask for retry", "forbid retry"]
            if "crashes" in features:
                ends += ["die", "die", "die after answer", "exit"]
            if "hangs" in features and may_hang:
                ends += ["hang"]
            if "garbage" in features and chance.random() < 0.2:
                ends += ["garbage", "lie"]
            if "memory" in features and "memory_limit" in options:
                ends += ["outgrow"] * 3
            if not ends:
                break
            acts.append(Act(self.seconds(), chance.choice(ends)))
        last = Act(self.seconds())
        if "hangs" in features and chance.random() < self.fault / 4:
            last.stubborn = True
        if chance.random() < 0.1:
            last.keeps = self.seconds()
        return [*acts, last]

    # ------------------------------------------------------------ items

    def add(self, kind: str, **fields: Any) -> Item:
        """Add an item."""
        item = Item(len(self.items) + 1, kind, self.now, **fields)
        self.items.append(item)
        return item

    def needs(self) -> tuple[int, ...]:
        """Draw which values an item needs."""
        chance = self.chance
        count = chance.choice((0, 0, 0, 1, 1, 2))
        known = [
            item for item in self.items[-40:]
            if item.kind in ("task", "put", "call") and item.parent is None and item.returns == 1
        ]  # fmt: skip
        return tuple(chance.choice(known).number for _ in range(count)) if known else ()

    def size(self) -> int:
        """Draw how large a value is."""
        if "large" in self.features and self.chance.random() < 0.12:
            return self.chance.choice(LARGE)
        return 0

    def task(self, parent: Item | None = None, depth: int = 0) -> Item:
        """Draw a task, and what it submits."""
        chance = self.chance
        options = dict(chance.choice(self.variants))
        if parent is not None:
            options.pop("deadline", None)
        item = self.add(
            "task",
            needs=() if parent else self.needs(),
            parent=None if parent is None else parent.number,
            options=options,
            acts=self.acts(options),
            size=self.size(),
            weight=0 if parent else self.size(),
            returns=1 if parent or chance.random() < 0.95 else chance.choice((2, 3)),
            reader=chance.choices(
                ("callback", "await", "impatient", "drops"), (60, 15, 5, 5)
            )[0],
            foreign=chance.random() < 0.4,
        )  # fmt: skip
        if "groups" in self.features and self.groups and not parent and chance.random() < 0.3:
            options["num_cpus"] = chance.choice((0.5, 1))
            item.group = chance.choice(self.groups).number
        if "nested" in self.features and depth < 2 and chance.random() < 0.12:
            for _ in range(chance.choice((1, 2, 4))):
                self.task(item, depth + 1)
            for act in item.acts:
                act.waits = chance.random() < 0.8
        return item

    def stream(self) -> Item:
        """Draw a generator task."""
        chance = self.chance
        options = {"num_returns": "streaming", **chance.choice(self.variants)}
        if chance.random() < 0.5:
            options["_generator_backpressure_num_objects"] = chance.choice((1, 2, 5))
        acts = self.acts(options)
        count = chance.randrange(6)
        for act in acts[:-1]:
            returns = act.end == "die after answer"  # what it yields then must be the same
            act.items = count if returns else chance.randrange(count + 1)
        acts[-1].items = count
        reader = chance.choice(("read", "read", "read", "abandon"))
        return self.add(
            "stream", options=options, acts=acts, size=self.size(), needs=self.needs(),
            reader=reader,
        )  # fmt: skip

    def actor(self) -> Item:
        """Draw an actor, which is let go of later."""
        chance = self.chance
        options = {
            "max_restarts": chance.choice((0, 1, 3, -1)),
            "max_task_retries": chance.choice((0, 0, 1, -1)),
        }
        if chance.random() < 0.3:
            options["max_concurrency"] = chance.choice((2, 4))
        acts = self.acts({}, may_hang=False)
        if chance.random() < 0.7:
            acts = acts[-1:]
        item = self.add(
            "actor", options=options, acts=acts, needs=self.needs() if chance.random() < 0.3 else ()
        )
        self.actors.append(item)
        life = chance.choice((0.05, 0.3, 2.0)) * (0.5 + chance.random())
        what = chance.choice(("drop", "drop", "kill actor"))
        self.deeds.append(Deed(self.now + life, what, item.number, chance.random() < 0.7))
        return item

    def call(self) -> Item:
        """Draw a call of an actor."""
        chance = self.chance
        actor = chance.choice(self.actors[-4:])
        item = self.add(
            "call",
            actor=actor.number,
            needs=self.needs() if chance.random() < 0.3 else (),
            acts=self.acts({}),
            size=self.size(),
            reader=chance.choice(("callback", "await", "drops")),
            foreign=chance.random() < 0.3,
        )
        if chance.random() < 0.5:
            item.options["retry_exceptions"] = chance.choice((True, False))
        return item

    def group(self) -> Item:
        """Draw a placement group, which is removed later."""
        chance = self.chance
        item = self.add("group", options={"bundles": [{"CPU": 1.0}] * chance.choice((1, 1, 2))})
        self.groups = [*self.groups[-2:], item]
        life = 0.02 + chance.random()
        self.deeds.append(Deed(self.now + life, "remove group", item.number))
        return item

    def next(self) -> None:
        """Draw what is asked for next."""
        chance, features = self.chance, self.features
        draw = chance.random()
        if "actors" in features and draw < 0.02:
            self.actor()
        elif self.actors and draw < 0.2:
            self.call()
        elif "groups" in features and draw < 0.21:
            self.group()
        elif "streams" in features and draw < 0.26:
            self.stream()
        elif draw < 0.32:
            self.add("put", size=self.size(), reader=chance.choice(("callback", "drops")))
        else:
            self.task()


def draw(chance: random.Random, tasks: int, faults: Sequence[str] = FAULTS) -> Plan:
    """Draw a session of about so many tasks."""
    features = {each for each in FEATURES if chance.random() < 0.75}
    features |= {each for each in faults if chance.random() < 0.6}
    draft = _Draft(chance, features, chance.choice((0.02, 0.1, 0.1, 0.3)))
    pace = SPREAD * chance.choice((0.1, 1.0, 1.0, 3.0))
    together = 0
    while len(draft.items) < tasks:
        if together:
            together -= 1
        else:
            draft.now += chance.expovariate(1 / pace)
            if chance.random() < 0.03:
                together = chance.choice((5, 30))
                draft.now += together * pace
        draft.next()
    span = draft.now
    deeds = draft.deeds

    def some(what: str, count: float, detail: Any = None) -> None:
        whole = int(count) + (chance.random() < count % 1)
        for _ in range(whole):
            told = detail() if callable(detail) else detail
            deeds.append(Deed(chance.random() * span, what, None, told))

    if "cancels" in features:
        for item in draft.items:
            if item.kind in ("task", "stream", "call") and chance.random() < 0.08:
                when = item.at + chance.choice((0.0, 0.001, 0.02, 0.5)) * chance.random()
                how = (
                    chance.random() < 0.3,
                    chance.random() < 0.5,
                    chance.choice((None, None, 0.0, 0.1)),
                )
                deeds.append(Deed(when, "cancel", item.number, how))
    for item in draft.items:
        if "losses" in features and item.size and chance.random() < 0.3:
            deeds.append(Deed(item.at + chance.random(), "lose", item.number))
        if item.kind in ("task", "put", "call") and item.parent is None and chance.random() < 0.6:
            deeds.append(Deed(item.at + chance.random(), "drop", item.number))
    thousands = tasks / 1000
    if "kills" in features:
        some("kill worker", 20 * thousands, chance.random)
    if "template" in features:
        some("template dies", 1.5 * thousands)
    if "memory" in features:
        some("memory short", 10 * thousands, chance.random)
        some("worker outgrown", 5 * thousands, chance.random)
    if "disk" in features:
        some("disk full", 2 * thousands, lambda: chance.random() * 0.2)
        some("damage file", 5 * thousands, chance.random)
    some("collect", thousands)
    if "shutdown" in features and chance.random() < 0.3:
        drain = chance.choice((0.0, 0.0, 0.05, 1.0))
        deeds.append(Deed(span * (0.5 + chance.random() / 2), "shutdown", None, drain))
    deeds.sort(key=lambda deed: deed.at)
    return Plan(
        settings={
            "num_cpus": chance.choice((2, 2, 3, 4, 8)),
            "object_store_memory": MB,
            "retry_seed": chance.randrange(2**32),
            "task_oom_retries": chance.choice((None, 0, 2)),
            "max_worker_age": chance.choice((None, None, 0.5)),
            "max_lineage_bytes": chance.choice((MB, 1000 * MB)),
        },
        items=draft.items,
        deeds=deeds,
        slowness=chance.choice((0.1, 1.0, 10.0)),
        partial=chance.choice((0.0, 0.1)),
        lost_interrupts=0.2 if "slow" in features else 0.0,
        failed_starts=chance.choice((0.05, 0.3)) if "starts" in features else 0.0,
        end=span + 20.0,
    )
