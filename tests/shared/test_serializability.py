"""explain(): names the member that cannot be pickled, whatever the object does."""

import collections
import dataclasses
import functools
import pickle
import re
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle
import pytest

from aioray.shared.serializability import MAX_DEPTH, MAX_DUMPS, MAX_FINDINGS, explain

LOCK = threading.Lock()
REFUSED = "cannot pickle '_thread.lock' object"


class Holder:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def method(self) -> None:
        pass


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    number: int
    inner: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class MyList(list[Any]):
    pass


def closure() -> Callable[[], Any]:
    lock = LOCK
    return lambda: lock


def using_global() -> Callable[[], Any]:
    # Of a module that cannot be imported, so that cloudpickle takes it by value.
    namespace: dict[str, Any] = {"LOCK": LOCK, "__name__": "__main__"}
    exec("def f():\n    def g():\n        return LOCK\n    return g", namespace)
    function: Callable[[], Any] = namespace["f"]
    return function


def local_class() -> type:
    class Local:
        shared = LOCK

    return Local


def class_with(member: Callable[[Any], Any]) -> type:
    lock = LOCK

    def function(self: Any = None) -> Any:
        return lock

    return type("Made", (), {"member": member(function), "__module__": "__main__"})


def default() -> Callable[..., Any]:
    return lambda a=LOCK, *, b=LOCK: (a, b)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "x"),
        ([1, LOCK], "x[1]"),
        ((LOCK,), "x[0]"),
        ({"lock": Holder(LOCK)}, "x['lock'].inner"),
        ([{"lock": Holder(LOCK)}], "x[0]['lock'].inner"),
        ({3: LOCK}, "x[3]"),
        ({Pair(1, 2): LOCK}, "x[<Pair>]"),
        ({LOCK: 1}, "x.<key <lock>>"),
        ({LOCK}, "x.<element>"),
        (frozenset({LOCK}), "x.<element>"),
        (Holder(LOCK).method, "x.__self__.inner"),
        (Slotted(LOCK), "x.inner"),
        (FrozenSlotted(1, LOCK), "x.inner"),
        (Pair(1, LOCK), "x[1]"),
        (MyList([0, LOCK]), "x[1]"),
        (collections.deque([0, LOCK]), "x[1]"),
        (collections.OrderedDict(a=LOCK), "x['a']"),
        (collections.defaultdict(threading.Lock, a=LOCK), "x['a']"),
        (types.SimpleNamespace(a=LOCK), "x.a"),
        (types.MappingProxyType({"a": LOCK}), "x['a']"),
        (functools.partial(print, 1, LOCK), "x.args[1]"),
        (functools.partial(print, sep=LOCK), "x.keywords['sep']"),
        (closure(), "x.__closure__['lock']"),
        (using_global(), "x.__globals__['LOCK']"),
        (local_class(), "x.shared"),
        (local_class()(), "type(x).shared"),
        (class_with(property), "x.member.fget.__closure__['lock']"),
        (class_with(staticmethod), "x.member.__func__.__closure__['lock']"),
        (class_with(classmethod), "x.member.__func__.__closure__['lock']"),
        (types.CellType(LOCK), "x.cell_contents"),
        (ValueError("bad", LOCK), "x.__reduce__()[1][1]"),
    ],
)
def test_path_names_the_member(value: Any, path: str) -> None:
    first = explain(value, "x", cloudpickle.dumps).splitlines()[0]
    assert first.startswith(f"{path}: {REFUSED}")


def test_notes_say_where_a_function_found_it() -> None:
    assert explain(closure(), "f", cloudpickle.dumps).endswith(
        "(closure variable of function closure.<locals>.<lambda>)"
    )
    assert explain(using_global(), "f", cloudpickle.dumps).endswith("(global of function f)")


def test_positional_and_keyword_defaults_are_members() -> None:
    functions = default()
    functions.__defaults__ = (threading.Lock(),)  # two locks, since one is reported once
    assert explain(functions, "f", cloudpickle.dumps).splitlines() == [
        f"f.__defaults__[0]: {REFUSED}",
        f"f.__kwdefaults__['b']: {REFUSED}",
    ]


def test_serializable_object_is_said_to_be() -> None:
    assert explain([1, "a"], "args[0]", pickle.dumps) == "args[0]: can be serialized"


def test_several_culprits_have_a_line_each_in_order() -> None:
    value = {"a": threading.Lock(), "b": 1, "c": Holder(threading.Lock())}
    assert explain(value, "x", cloudpickle.dumps) == f"x['a']: {REFUSED}\nx['c'].inner: {REFUSED}"


def test_shared_culprit_is_reported_once_by_its_shortest_path() -> None:
    assert explain([[[LOCK]], LOCK], "x", cloudpickle.dumps) == f"x[1]: {REFUSED}"


def test_findings_are_limited() -> None:
    text = explain([threading.Lock() for _ in range(20)], "x", cloudpickle.dumps).splitlines()
    assert len(text) == MAX_FINDINGS + 1
    assert text[-1] == f"(the search stopped after {MAX_FINDINGS} findings)"


def test_depth_is_limited() -> None:
    value: Any = LOCK
    for _ in range(MAX_DEPTH + 5):
        value = [value]
    first, last = explain(value, "x", cloudpickle.dumps).splitlines()
    assert first == f"x{'[0]' * MAX_DEPTH}: {REFUSED}"
    assert last == f"(the search went no deeper than {MAX_DEPTH} levels)"


def test_one_bad_item_in_a_long_list_costs_few_calls() -> None:
    calls = 0

    def dumps(value: Any) -> bytes:
        nonlocal calls
        calls += 1
        return cloudpickle.dumps(value)

    value: list[Any] = list(range(10_000))
    value[8_765] = LOCK
    assert explain(value, "x", dumps) == f"x[8765]: {REFUSED}"
    assert calls < 40


def test_number_of_calls_is_limited() -> None:
    calls = 0

    def refuse(_: Any) -> bytes:
        nonlocal calls
        calls += 1
        raise TypeError("no")

    text = explain([list(range(1000))] * 3, "x", refuse)
    assert calls == MAX_DUMPS
    assert text.endswith(f"(the search stopped after trying {MAX_DUMPS} parts)")
    assert text.startswith("x")


def test_cycle_ends_at_the_culprit() -> None:
    parent, child = Holder(None), Holder(None)
    parent.inner, child.inner = [child, LOCK], parent
    assert explain(parent, "x", cloudpickle.dumps) == f"x.inner[1]: {REFUSED}"


def test_cycle_without_a_culprit_blames_the_whole() -> None:
    value: list[Any] = []
    value.append(value)

    def refuse(_: Any) -> bytes:
        raise TypeError("too round")

    assert explain(value, "x", refuse) == "x: too round"


def test_deep_recursion_is_explained_not_raised() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert re.match(r"x(\[0\])+: RecursionError: ", explain(value, "x", pickle.dumps))


def test_getstate_that_drops_the_lock_is_believed() -> None:
    class Careful:
        def __init__(self, lock: Any, other: Any) -> None:
            self.lock, self.other = lock, other

        def __getstate__(self) -> dict[str, Any]:
            return {"other": self.other}

    careful = Careful(LOCK, threading.Lock())
    assert explain(careful, "x", cloudpickle.dumps) == f"x.other: {REFUSED}"


# --- hostile objects ---------------------------------------------------------------------------


class HostileMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__dataclass_fields__", "__mro__", "__qualname__"}:
            raise RuntimeError("no attributes")
        return super().__getattribute__(name)


class Hostile(metaclass=HostileMeta):
    """Raises wherever it is touched."""

    error: BaseException = ValueError("never")

    def __getattribute__(self, name: str) -> Any:
        if name in {"__reduce_ex__", "__class__"}:  # what cloudpickle asks for
            return super().__getattribute__(name)
        raise RuntimeError(f"do not touch {name}")

    def __reduce_ex__(self, _: Any) -> Any:
        raise type(self).error

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no eq")

    def __hash__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        raise RuntimeError("no bool")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


def raising(error: BaseException) -> Hostile:
    return type("Raising", (Hostile,), {"error": error})()


@pytest.mark.parametrize("place", [lambda h: [h], lambda h: {"k": h}, lambda h: {h: 1}, Holder])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("never"), "ValueError: never"),
        (TypeError("never"), "never"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (ValueError("long" * 1000), "ValueError: longlong"),
        (ValueError(), "pickling it raises ValueError"),
        (HostileError(), "pickling it raises HostileError"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "pickling it raises GeneratorExit"),
        (RecursionError("deep"), "Could not pickle object as excessively deep recursion"),
    ],
)
def test_hostile_object_is_explained(
    place: Callable[[Hostile], Any], error: BaseException, reason: str
) -> None:
    (line,) = explain(place(raising(error)), "x", cloudpickle.dumps).splitlines()
    assert line.split(": ", 1)[1].startswith(reason)
    assert len(line) < 300


@pytest.mark.parametrize(
    "reduced", [None, 3, "name", (), (1,), (int, None), (int, (), 1, 2, 3, 4), (int, (), "state")]
)
def test_nonsense_from_reduce_is_explained(reduced: Any) -> None:
    class Nonsense:
        def __reduce_ex__(self, _: Any) -> Any:
            return reduced

    def refuse(_: Any) -> bytes:
        raise TypeError("no")

    assert explain(Nonsense(), "x", refuse).startswith("x")


def test_object_that_makes_new_objects_for_ever_ends() -> None:
    class Endless:
        def __reduce_ex__(self, _: Any) -> Any:
            return (list, ([Endless(), LOCK],))

    text = explain(Endless(), "x", cloudpickle.dumps)
    assert text.startswith("x")
    assert len(text.splitlines()) <= MAX_FINDINGS + 1


def test_endless_iterator_of_items_ends() -> None:
    class Endless:
        def __reduce_ex__(self, _: Any) -> Any:
            return (list, (), None, iter(int, 1))

    def refuse(value: Any) -> bytes:
        if type(value) is Endless:
            raise TypeError("no")
        return b""

    assert explain(Endless(), "x", refuse) == "x: no"


def test_keyboard_interrupt_passes() -> None:
    def interrupt(_: Any) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(1, "x", interrupt)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a" * 100, "'" + "a" * 36 + "..."),
        (b"k", "b'k'"),
        pytest.param(10**5000, "<int>", id="huge"),
        (None, "None"),
        (3.5, "3.5"),
    ],
)
def test_keys_are_shown_short_and_without_user_code(key: Any, shown: str) -> None:
    def refuse_dict_and_lock(value: Any) -> bytes:
        parts = value if type(value) is list else [value]
        if any(part is LOCK or type(part) is dict for part in parts):
            raise TypeError("no")
        return b""

    assert explain({key: LOCK}, "x", refuse_dict_and_lock) == f"x[{shown}]: no"


def test_key_of_a_hostile_class_is_shown_by_its_type() -> None:
    text = explain({raising(ValueError("no")): 1, "b": 2}, "x", cloudpickle.dumps)
    assert text == "x.<key <Raising>>: ValueError: no"


def test_closure_variable_that_is_not_bound_is_passed_over() -> None:
    lock = LOCK

    def function() -> Any:
        return later, lock

    assert explain(function, "f", cloudpickle.dumps).startswith("f.__closure__['lock']: ")
    later = 1
