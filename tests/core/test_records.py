"""Records behave as dataclasses do, and are taken for them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import signal
import subprocess
import sys
import typing
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from aioray.core.records import NamedTuple, field, record, replace


@record(frozen=True, slots=True)
class Plan:
    """One with everything."""

    name: str
    steps: int = 1
    notes: dict[str, Any] = field(default_factory=dict, hash=False)
    at: float = field(default=0.0, compare=False)
    total: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `total`."""
        object.__setattr__(self, "total", 2 * self.steps)


@dataclasses.dataclass(frozen=True, slots=True)
class SamePlan:
    """The same, as the standard library makes it."""

    name: str
    steps: int = 1
    notes: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    at: float = dataclasses.field(default=0.0, compare=False)
    total: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `total`."""
        object.__setattr__(self, "total", 2 * self.steps)


@record(slots=True, eq=False)
class Worker:
    """One that changes, and is equal to itself alone."""

    id: int
    queue: list[int] = field(default_factory=list)


@record
class Note:
    """One without slots."""

    text: str = ""

    def __repr__(self) -> str:
        return "a note"


@pytest.mark.parametrize("kind", [Plan, SamePlan])
def test_a_record_does_what_a_dataclass_does(kind: Any) -> None:
    plan = kind("a", 2)
    assert (plan.name, plan.steps, plan.notes, plan.at, plan.total) == ("a", 2, {}, 0.0, 4)
    assert plan == kind("a", 2, at=9.0) != kind("a", 2, {"b": 1})
    assert plan != kind("b", 2)
    assert hash(plan) == hash(kind("a", 2, {"b": 1}))
    assert repr(plan) == f"{kind.__name__}(name='a', steps=2, notes={{}}, at=0.0)"
    assert kind.__match_args__ == ("name", "steps", "notes", "at")
    assert kind.__slots__ == ("name", "steps", "notes", "at", "total")
    assert kind("a").notes is not kind("a").notes
    assert plan != SamePlan("a", 2) if kind is Plan else plan != Plan("a", 2)
    for wrong in ({}, {"name": "a", "total": 1}, {"name": "a", "more": 1}):
        with pytest.raises(TypeError):
            kind(**wrong)


@pytest.mark.parametrize("kind", [Plan, SamePlan])
def test_a_frozen_record_refuses_changes(kind: Any) -> None:
    plan = kind("a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        plan.name = "b"
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del plan.name


@pytest.mark.parametrize("plan", [Plan("a", 2, {"b": 1}), SamePlan("a", 2, {"b": 1})])
def test_a_record_is_copied_and_pickled(plan: Any) -> None:
    for same in (copy.copy(plan), copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert same == plan
        assert same.total == 4


CHANGES = [replace, dataclasses.replace, lambda given, **new: given.__replace__(**new)]


@pytest.mark.parametrize("change", CHANGES, ids=["own", "of dataclasses", "of copy"])
def test_a_record_is_replaced(change: Any) -> None:
    changed = change(Plan("a", 2, at=1.0), steps=3)
    assert (changed.steps, changed.at, changed.total) == (3, 1.0, 6)
    with pytest.raises(TypeError):
        change(Plan("a"), more=1)


def test_dataclasses_takes_records_for_its_own() -> None:
    assert dataclasses.is_dataclass(Plan)
    assert dataclasses.is_dataclass(Note())
    of_record, of_dataclass = dataclasses.fields(Plan), dataclasses.fields(SamePlan)
    assert [(each.name, each.type, each.init, each.repr, each.compare) for each in of_record] == [
        (each.name, each.type, each.init, each.repr, each.compare) for each in of_dataclass
    ]
    assert dataclasses.asdict(Plan("a")) == dataclasses.asdict(SamePlan("a"))


def test_a_record_that_changes_has_no_hash_unless_it_is_equal_to_itself_alone() -> None:
    worker = Worker(1)
    worker.id = 2
    assert hash(worker) == hash(worker)
    assert worker != Worker(2)
    assert Note.__hash__ is None
    assert Note("a") == Note("a")


def test_what_the_class_defines_itself_stays() -> None:
    note = Note("a")
    note.text = "b"
    assert repr(note) == "a note"
    assert Note.text == ""


@record
class Described:
    """One that has fields which are no arguments, and one that tools look for."""

    __signature__: str
    count: int = field(default=3, init=False)
    seen: list[int] = field(default_factory=list, init=False)


def test_a_field_that_is_no_argument_has_its_default() -> None:
    first, second = Described("()"), Described("()")
    assert (first.count, first.seen, first.__signature__) == (3, [], "()")
    assert first.seen is not second.seen
    with pytest.raises(TypeError):
        Described("()", 4)  # type: ignore[call-arg]


def test_a_class_below_a_record_is_one_too() -> None:
    class Title(Note):
        pass

    assert Title("a") == Title("a")
    assert Title("a") != Note("a")
    assert Title("a").text == "a"


def test_records_that_hold_each_other_can_be_shown() -> None:
    worker: Any = Worker(1)
    worker.queue.append(worker)
    assert repr(worker) == "Worker(id=1, queue=[...])"


@pytest.mark.parametrize("made", [False, True], ids=["before", "after the first"])
def test_a_record_shows_its_signature(made: bool) -> None:

    @record(frozen=True)
    class Told:
        """One with everything."""

        name: str
        steps: int = 1
        total: int = field(init=False)

    if made:
        Told("a")
    assert str(inspect.signature(Told)) == "(name: 'str', steps: 'int' = 1) -> None"


def test_a_record_needs_no_dataclasses() -> None:
    code = "import sys; import aioray.core.outcomes; print('dataclasses' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


class Point(NamedTuple):
    """One with everything."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        """A property."""
        return self.x + self.y

    @classmethod
    def origin(cls) -> Point:
        """Make another."""
        return cls(0, 0)


class SamePoint(typing.NamedTuple):
    """The same, as the standard library makes it."""

    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        """A property."""
        return self.x + self.y

    @classmethod
    def origin(cls) -> SamePoint:
        """Make another."""
        return cls(0, 0)


class Alone(NamedTuple):
    """One with one field."""

    of: int


@pytest.mark.parametrize("kind", [Point, SamePoint])
def test_a_named_tuple_does_what_that_of_typing_does(kind: Any) -> None:
    point: Any = kind(1)
    assert (point, point.x, point.y, point.sum, len(point)) == ((1, 2), 1, 2, 3, 2)
    assert issubclass(kind, tuple)
    assert repr(point) == f"{kind.__name__}(x=1, y=2)"
    assert (kind._fields, kind.__match_args__, kind._field_defaults) == (
        ("x", "y"),
        ("x", "y"),
        {"y": 2},
    )
    assert typing.get_type_hints(kind) == {"x": int, "y": int}
    assert (point._replace(y=5), point._asdict()) == (kind(1, 5), {"x": 1, "y": 2})
    if kind is Point or hasattr(copy, "replace"):  # Python 3.13
        assert point.__replace__(y=5) == kind(1, 5)
    assert kind._make([3, 4]) == kind(x=3, y=4)
    assert (kind.origin(), type(kind.origin())) == (kind(0, 0), kind)
    same: Any
    for same in (copy.copy(point), pickle.loads(pickle.dumps(point))):
        assert (same, type(same)) == (point, kind)
    match point:
        case kind(1, y):
            assert y == 2
        case _:
            pytest.fail("it does not match")


@pytest.mark.parametrize("kind", [Point, SamePoint])
def test_a_named_tuple_refuses_what_it_does_not_know(kind: Any) -> None:
    for _ in range(2):  # the first makes way for another
        for given, named in (((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})):
            with pytest.raises(TypeError):
                kind(*given, **named)
    with pytest.raises(TypeError):
        kind._make([1])
    with pytest.raises((TypeError, ValueError), match="z"):  # the latter until Python 3.12
        kind(1)._replace(z=1)
    with pytest.raises(AttributeError):
        kind(1).z = 1
    with pytest.raises(AttributeError):
        kind(1).x = 2


def test_a_named_tuple_of_one_field_is_a_tuple() -> None:
    assert Alone(1) == (1,)


@pytest.mark.parametrize("kind", ["Record", "Tuple"])
def test_the_first_of_a_kind_at_the_end_leaves_the_status_of_ctrl_c(kind: str) -> None:
    code = f"""
import atexit
from aioray.core.records import NamedTuple, record

@record
class Record:
    x: int = 1

class Tuple(NamedTuple):
    x: int = 1

atexit.register({kind})
raise KeyboardInterrupt
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert run.returncode == -signal.SIGINT
