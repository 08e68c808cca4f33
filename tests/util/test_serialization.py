"""Serializers for classes that one cannot change."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import aioray
from aioray.shared import serialization
from aioray.shared.serialization import dumps, load
from aioray.util import deregister_serializer, register_serializer


class Connection:
    """Cannot be pickled."""

    def __init__(self, address, made_by="the test"):
        self.address = address
        self.made_by = made_by
        self.lock = threading.Lock()


class Special(Connection):
    """A subclass, which nobody registers."""


class Plain:
    """Can be pickled."""

    def __init__(self, number):
        self.number = number


def makes(what: str) -> Any:
    """Return a deserializer that makes something of another class."""
    return lambda n: (what, n)


def address_of(connection):
    return connection.address


def connect(address):
    return Connection(address, "the deserializer")


@pytest.fixture(autouse=True)
def clean_table():
    """Every test leaves the table as it was: empty."""
    assert serialization.custom_reducers == {}
    yield
    serialization.custom_reducers.clear()


def test_instances_go_through_the_serializer_and_come_from_the_deserializer():
    register_serializer(Connection, serializer=address_of, deserializer=connect)
    one = Connection("one")
    got = load(dumps([one, {"again": one}, Connection("two")]))
    assert [type(got[0]), got[0].address, got[0].made_by] == [Connection, "one", "the deserializer"]
    assert got[1]["again"] is got[0]
    assert got[2].address == "two"


def test_lambdas_and_closures_will_do():
    suffix = "!"
    register_serializer(
        Connection,
        serializer=lambda connection: {"where": connection.address},
        deserializer=lambda found: Connection(found["where"] + suffix, "a lambda"),
    )
    data = dumps(Connection("here"))
    deregister_serializer(Connection)
    got = load(data)  # the deserializer has travelled with the value
    assert (got.address, got.made_by) == ("here!", "a lambda")


def test_classes_that_can_be_pickled_are_taken_over_too():
    register_serializer(Plain, serializer=lambda plain: plain.number, deserializer=lambda n: -n)
    assert load(dumps([Plain(5)])) == [-5]


def test_subclasses_are_not_affected():
    register_serializer(Plain, serializer=lambda plain: None, deserializer=makes("wrong"))

    class Child(Plain):
        pass

    got = load(dumps(Child(3)))
    assert type(got).__name__ == "Child"
    assert got.number == 3
    register_serializer(Connection, serializer=address_of, deserializer=connect)
    with pytest.raises(TypeError, match="lock"):
        dumps(Special("here"))


def test_last_registration_counts():
    register_serializer(Plain, serializer=lambda p: 1, deserializer=makes("first"))
    register_serializer(Plain, serializer=lambda p: 2, deserializer=makes("second"))
    assert load(dumps(Plain(0))) == ("second", 2)


def test_deregistered_class_is_serialized_as_usual():
    register_serializer(Connection, serializer=address_of, deserializer=connect)
    register_serializer(Plain, serializer=lambda plain: None, deserializer=makes("wrong"))
    dumps(Connection("here"))
    deregister_serializer(Connection)
    deregister_serializer(Plain)
    with pytest.raises(TypeError, match="lock"):
        dumps(Connection("here"))
    assert load(dumps(Plain(7))).number == 7


def test_deregistering_what_was_never_registered_does_nothing():
    deregister_serializer(Connection)
    deregister_serializer(int)
    assert serialization.custom_reducers == {}


@pytest.mark.parametrize("cls", [Plain(1), "Plain", None, 3, address_of])
def test_what_is_no_class_is_refused(cls):
    with pytest.raises(TypeError, match="takes a class"):
        register_serializer(cls, serializer=address_of, deserializer=connect)
    assert serialization.custom_reducers == {}


@pytest.mark.parametrize("name", ["serializer", "deserializer"])
@pytest.mark.parametrize("bad", [None, 3, "connect"])
def test_what_cannot_be_called_is_refused_by_name(name, bad):
    functions = {"serializer": address_of, "deserializer": connect, name: bad}
    with pytest.raises(TypeError, match=rf"^{name} must be a function"):
        register_serializer(Connection, **functions)
    assert serialization.custom_reducers == {}


def test_arguments_must_be_named():
    register: Any = register_serializer
    with pytest.raises(TypeError):
        register(Connection, address_of, connect)


def test_error_in_the_serializer_reaches_the_caller():
    def refuse(connection):
        raise ValueError(f"not {connection.address}")

    register_serializer(Connection, serializer=refuse, deserializer=connect)
    with pytest.raises(ValueError, match="not here"):
        dumps(Connection("here"))


def test_builtin_types_are_refused_or_serialized_as_told():
    try:
        register_serializer(set, serializer=list, deserializer=frozenset)
    except (TypeError, ValueError):
        return
    assert type(load(dumps({1, 2}))) is frozenset


def test_arguments_puts_and_results_of_tasks():
    @aioray.remote
    def look(connection):
        return type(connection).__name__, connection.address, connection.made_by

    @aioray.remote
    def make(address):
        register_serializer(Connection, serializer=address_of, deserializer=connect)
        return [Connection(address, "the worker")]

    aioray.init(num_cpus=1)
    try:
        register_serializer(Connection, serializer=address_of, deserializer=connect)
        expected = ("Connection", "here", "the deserializer")
        assert aioray.get(look.remote(Connection("here"))) == expected
        assert aioray.get(look.remote(aioray.put(Connection("here")))) == expected
        large = "x" * 200_000
        assert aioray.get(look.remote(connection=Connection(large)))[1] == large
        deregister_serializer(Connection)
        with pytest.raises(TypeError, match="connection"):
            look.remote(Connection("here"))
        (got,) = aioray.get(make.remote("there"))  # nothing is registered here
        assert (got.address, got.made_by) == ("there", "the deserializer")
    finally:
        aioray.shutdown()
