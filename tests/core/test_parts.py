"""The parts of the core: small, in an order, and none of them in another's pockets."""

from __future__ import annotations

import ast
import random
import typing
from pathlib import Path

import pytest

import aioray.core
from aioray.core.events import Event
from aioray.core.facts import Fact
from aioray.core.functions import Function
from aioray.core.prefetch import Prefetch
from aioray.core.scheduler import Scheduler
from aioray.core.turn import Turn

ROOT = Path(aioray.core.__file__).parent
MODULES = {path.stem: path for path in sorted(ROOT.glob("*.py")) if path.stem != "__init__"}
ORDER = (
    # words and records
    "records",
    "states",
    "devices",
    "functions",
    "message",
    "outcomes",
    "queues",
    "retries",
    "intensity",
    "limits",
    "limiters",
    "groups",
    "cancels",
    "model",
    "events",
    "commands",
    "facts",
    "turn",
    "alarms",
    "breakers",
    "circles",
    # parts
    "resources",
    "backlog",
    "call_queues",
    "permits",
    "tasks",
    "pool",
    "starts",
    "attempts",
    "prefetch",
    "cancellation",
    "overruns",
    "memory",
    "waits",
    "actors",
    "calls",
    "placement",
    "starvation",
    "dispatch",
    "worker_news",
    "shutdown",
    "scheduler",
    "invariants",
)
MOST_LINES = 400
MOST_LINES_OF_SCHEDULER = 200


def tree_of(name):
    return ast.parse(MODULES[name].read_text())


def siblings(tree):
    """The modules of the core that a module imports, for types and inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


def foreign(tree):
    """Private attributes of others than `self` that no class of the module has."""
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_self(node.value)
    }
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_self(node.value):
            private = node.attr.startswith("_") and not node.attr.endswith("__")
            if private and node.attr not in own:
                yield node.attr


def is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


def targets(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from target.elts if isinstance(target, ast.Tuple) else [target]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            yield node.target


def assigned_to_parts(tree):
    """Fields of other parts that a module assigns. Everybody may mark the turn."""
    for target in targets(tree):
        if not isinstance(target, ast.Attribute):
            continue
        owner = target.value
        if not isinstance(owner, ast.Attribute) or not owner.attr.startswith("_"):
            continue
        if is_self(owner.value) and owner.attr != "_turn":
            yield f"{owner.attr}.{target.attr}"


def assigned_states(tree):
    """Assignments to `state` that are no constructor's."""
    initial = {
        id(target)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for target in targets(function)
    }
    for target in targets(tree):
        state = isinstance(target, ast.Attribute) and target.attr == "state"
        if state and id(target) not in initial:
            yield ast.unparse(target)


def test_order_names_every_module_once():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", ORDER)
def test_module_imports_only_what_comes_before_it(name):
    before = ORDER[: ORDER.index(name)]
    late = [each for each in siblings(tree_of(name)) if each not in before]
    assert late == []


@pytest.mark.parametrize("name", ORDER)
def test_module_is_small(name):
    most = MOST_LINES_OF_SCHEDULER if name == "scheduler" else MOST_LINES
    assert len(MODULES[name].read_text().splitlines()) <= most


@pytest.mark.parametrize("name", ORDER)
def test_module_touches_no_private_field_of_another(name):
    assert list(foreign(tree_of(name))) == []


@pytest.mark.parametrize("name", ORDER)
def test_module_assigns_no_field_of_another_part(name):
    assert list(assigned_to_parts(tree_of(name))) == []


@pytest.mark.parametrize("name", ORDER)
def test_states_change_by_move_only(name):
    found = list(assigned_states(tree_of(name)))
    assert found == (["record.state"] if name == "states" else [])


@pytest.mark.parametrize(
    ("check", "source", "found"),
    [
        (siblings, "from .model import Task", ["model"]),
        (siblings, "from . import circles, model", ["circles", "model"]),
        (siblings, "def f():\n    from .model import Task", ["model"]),
        (foreign, "core._tasks", ["_tasks"]),
        (foreign, "self._pool._idle", ["_idle"]),
        (foreign, "self._idle\nother._idle\nother.__class__", []),
        (assigned_to_parts, "self._pool.idle = 1", ["_pool.idle"]),
        (assigned_to_parts, "self._pool.count += 1", ["_pool.count"]),
        (assigned_to_parts, "x, self._pool.count = 1, 2", ["_pool.count"]),
        (assigned_to_parts, "self._turn.dirty = True\nself.x = 1\ntask.seq = 1", []),
        (assigned_states, "task.state = x", ["task.state"]),
        (assigned_states, "class A:\n    def __init__(self):\n        self.state = 1", []),
    ],
)
def test_checks_find_what_is_forbidden(check, source, found):
    assert list(check(ast.parse(source))) == found


def test_every_event_and_every_fact_is_routed():
    core = Scheduler({}, random.Random(0))
    assert list(core._events) == list(typing.get_args(Event))
    assert set(core._facts) == set(typing.get_args(Fact))


def test_turn_collects_facts_until_somebody_hears_them():
    turn = Turn()
    turn.announce("fact")
    assert turn.facts == ["fact"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, 1), (0.001, 4), (0.003, 2), (0.005, 2), (0.1, 2), (0.101, 1)],
)
def test_the_next_attempt_of_all_functions_but_the_longest_is_sent_ahead(seconds, expected):
    function = Function(1, "f")
    function.mean_seconds = seconds
    nobody: typing.Any = None
    prefetch = Prefetch(nobody, nobody, nobody, nobody, nobody, nobody)
    assert prefetch.target(function) == expected
