"""The classes of events, commands and facts behave as frozen dataclasses do, where that matters."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from aioray.core import commands, events, facts
from aioray.core.message import message


@message
class Order:
    """One with everything."""

    number: int
    words: tuple[str, ...] = ()
    force: bool = False

    @property
    def twice(self) -> int:
        """A property."""
        return 2 * self.number


@message
class Nothing:
    """One without fields."""


@message
class Other:
    """One with the same fields as Order."""

    number: int
    words: tuple[str, ...] = ()
    force: bool = False


CLASSES = [
    each
    for module in (commands, events, facts)
    for each in vars(module).values()
    if isinstance(each, type) and each.__module__ == module.__name__ and each.__doc__
]


def test_fields_are_given_by_place_or_name_and_have_defaults() -> None:
    order = Order(1, force=True)
    assert (order.number, order.words, order.force, order.twice) == (1, (), True, 2)
    assert Order.__doc__ == "One with everything."
    assert Order.__slots__ == Order.__match_args__ == ("number", "words", "force")  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [(), (1, (), False, 2)], ids=len)
def test_wrong_number_of_fields_is_refused(given: Any) -> None:
    with pytest.raises(TypeError):
        Order(*given)


def test_no_other_attribute_can_be_set() -> None:
    with pytest.raises(AttributeError):
        Nothing().number = 1  # type: ignore[attr-defined]


def test_equal_are_those_of_one_class_with_equal_fields() -> None:
    assert Order(1) == Order(1, (), False) != Order(2)
    assert Nothing() == Nothing()
    assert Order(1) != Other(1)
    assert {Order(1), Order(1), Other(1), Nothing()} == {Order(1), Other(1), Nothing()}


def test_it_shows_its_fields() -> None:
    assert repr(Order(1, ("a",))) == "Order(number=1, words=('a',), force=False)"
    assert repr(Nothing()) == "Nothing()"


def test_it_is_matched_copied_and_pickled() -> None:
    match Order(1, force=True):
        case Order(number, _, force=True):
            assert number == 1
        case _:
            pytest.fail("it does not match")
    for same in (copy.copy(Order(1)), pickle.loads(pickle.dumps(Order(1)))):
        assert same == Order(1)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_message_has_its_annotated_fields_and_no_others(cls: type[Any]) -> None:
    assert tuple(cls.__annotations__) == (cls._fields if hasattr(cls, "_fields") else cls.__slots__)
