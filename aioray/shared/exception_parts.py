"""Takes exceptions apart that pickle would not bring over, for `failures` to send what it can.

Room: shared; loaded when the first exception needs it; imports exceptions alone.

pickle makes an exception again by calling its class with `args`, which fails, or does something
else, where an `__init__` takes other arguments than it hands on to `super().__init__`. It loses
slots, and one member that it cannot write costs the whole. `disassemble` gives instead something
that pickles as class, `args` and attributes, from which `assemble` makes the exception without
running any code of its class. What cannot be sent of them is left out, and told.

The same is done with exceptions inside: members of a group, those in `args` and in attributes.
"""

from __future__ import annotations

import copyreg
from contextlib import suppress
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any

from ..exceptions import RayTaskError, allocate, native_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["NotSent", "assemble", "disassemble", "has_arrived"]

_args: Any = BaseException.__dict__["args"]
_exceptions: Any = BaseExceptionGroup.__dict__["exceptions"]
_message: Any = BaseExceptionGroup.__dict__["message"]
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class written in Python
_LEFT_OUT = frozenset({"obj"})  # of an AttributeError; pickle leaves it out too: it may be huge


MAX_DEPTH = 4  # of lists in lists in which exceptions are looked for


class NotSent:
    """Stands in the `args` of an exception for a value that cannot be sent; prints like that."""

    __slots__ = ("_repr", "_str")

    def __init__(self, text: str, representation: str) -> None:
        self._str = text
        self._repr = representation

    def __str__(self) -> str:
        return self._str

    def __repr__(self) -> str:
        return self._repr

    def __reduce__(self) -> tuple[type[NotSent], tuple[str, str]]:
        return NotSent, (self._str, self._repr)


class _Made:
    """Pickles as what a call makes, for members that are not exceptions themselves."""

    __slots__ = ("_call",)

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


class _Unsendable(Exception):  # noqa: N818 - no failure, but an answer
    """Raised for a value that cannot be sent. Never leaves this module."""


def disassemble(error: BaseException, round_trip: Callable[[Any], Any]) -> tuple[Any, list[str]]:
    """Return what pickles as the exception, and what could not be sent of it, with the reasons.

    round_trip: pickles a value and gives it as it arrives. Raises what that raises if not even the
    class can be sent.
    """
    taking = _Taking(round_trip)
    return taking.apart(error), taking.lost


class _Taking:
    """One exception that is taken apart, with those inside."""

    def __init__(self, round_trip: Callable[[Any], Any]) -> None:
        self._round_trip = round_trip
        self._parts: dict[int, Any] = {}  # by id, of exceptions that hold each other or one twice
        self.lost: list[str] = []

    def apart(self, error: BaseException) -> Any:
        """Return what pickles as the exception. Raises _Unsendable if it holds itself."""
        kind = type(error)
        self._parts[id(error)] = None
        if any(each is RayTaskError for each in kind.__mro__):
            reduced: Any = error.__reduce__()
            function, args = reduced
            parts = _Made(function, *(self.value(each) for each in args))
        else:
            self._round_trip(kind)
            group = None
            if isinstance(error, BaseExceptionGroup):
                members = [self.value(each) for each in _exceptions.__get__(error)]
                group = _message.__get__(error), members
            parts = _Made(
                assemble,
                kind,
                [self.argument(each) for each in _args.__get__(error)],
                self.attributes(_state_of(error)),
                self.attributes(_natives_of(error)),
                group,
            )
        self._parts[id(error)] = parts
        return parts

    def argument(self, value: Any) -> Any:
        """Return what pickles as an argument, or a `NotSent` in its place."""
        try:
            return self.value(value)
        except Exception as problem:  # noqa: BLE001 - runs code of the user's
            self._lose("an argument", problem)
            return NotSent(_text_of(value, str), _text_of(value, repr))

    def attributes(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what pickles as the attributes, without those that cannot be sent."""
        sent = {}
        for name, value in values.items():
            try:
                sent[name] = self.value(value)
            except Exception as problem:  # noqa: BLE001 - runs code of the user's
                self._lose(name, problem)
        return sent

    def _lose(self, what: str, problem: Exception) -> None:
        reason = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, _Unsendable):
            reason = str(problem)
        self.lost.append(f"{what} ({reason})")

    def value(self, value: Any) -> Any:
        """Return the value, or what pickles as it. Raises whatever pickling raises."""
        if isinstance(value, BaseException):
            return self.exception(value)
        if _holds_exceptions(value):
            if type(value) is dict:
                return dict(zip(value, map(self.value, value.values()), strict=True))
            return type(value)([self.value(each) for each in value])
        self._round_trip(value)
        return value

    def exception(self, error: BaseException) -> Any:
        """Return the exception if it arrives as it is, else what pickles as it."""
        if id(error) in self._parts:
            parts = self._parts[id(error)]
            if parts is None:
                raise _Unsendable("it holds the exception that it is a part of")
            return parts
        with suppress(Exception):  # runs code of the user's
            if has_arrived(error, self._round_trip(error)):
                return error
        return self.apart(error)


def _state_of(error: BaseException) -> dict[str, Any]:
    state = getattr(error, "__dict__", None)
    return dict(state) if isinstance(state, dict) else {}


def _natives_of(error: BaseException) -> dict[str, Any]:
    """Return the values kept outside `__dict__`: members of builtin classes, and slots."""
    values: dict[str, Any] = {}
    for descriptor in native_attributes(type(error)):
        if descriptor.__name__ in _LEFT_OUT:
            continue
        with suppress(AttributeError):  # not set
            value = descriptor.__get__(error, type(error))
            # A builtin class says None for what is not set, and shows it if it is set to None.
            if value is not None or descriptor.__objclass__.__flags__ & _HEAP_TYPE:
                values.setdefault(descriptor.__name__, value)
    if isinstance(error, BaseExceptionGroup):  # given apart
        del values["message"], values["exceptions"]
    return values


def _items(value: Any) -> Iterable[Any]:
    """Return what is in a list, tuple or dict; nothing for others."""
    kind = type(value)
    return value if kind in (list, tuple) else value.values() if kind is dict else ()


def _holds_exceptions(value: Any, depth: int = MAX_DEPTH) -> bool:
    return depth > 0 and any(
        isinstance(each, BaseException) or _holds_exceptions(each, depth - 1)
        for each in _items(value)
    )


def _text_of(value: Any, show: Callable[[Any], str]) -> str:
    try:
        return show(value)[:1000]
    except Exception:  # noqa: BLE001 - runs code of the user's
        return f"<{type(value).__name__}>"


def assemble(
    kind: type[BaseException],
    args: list[Any],
    state: dict[str, Any],
    natives: dict[str, Any],
    group: tuple[str, list[BaseException]] | None,
) -> BaseException:
    """Make an exception of its parts, calling nothing of its class.

    natives: what is kept outside `__dict__`. group: message and members of a group.
    """
    error = allocate(kind, group or ())
    _args.__set__(error, tuple(args))
    for descriptor in native_attributes(kind):
        if descriptor.__name__ in natives:
            with suppress(AttributeError, TypeError, ValueError):  # read-only
                descriptor.__set__(error, natives[descriptor.__name__])
    error.__dict__.update(state)
    return error


def _is_pickled_as_usual(kind: type) -> bool:
    """Tell whether exceptions of a class are pickled by class, args and `__dict__` alone."""
    usual: Any = object.__reduce_ex__
    return (
        kind.__reduce_ex__ is usual
        and isinstance(kind.__reduce__, MethodDescriptorType)
        and kind not in copyreg.dispatch_table
    )


def has_arrived(error: BaseException, again: Any) -> bool:
    """Tell whether nothing that is to be seen of an exception was lost on the way.

    A class that says itself how it is pickled is believed.
    """
    kind = type(error)
    if type(again) is not kind:
        return False
    if not _is_pickled_as_usual(kind):
        return True
    natives, arrived = _natives_of(error), _natives_of(again)
    if any(arrived.get(name) is None for name, value in natives.items() if value is not None):
        return False
    if isinstance(error, BaseExceptionGroup):
        pairs: Any = zip(_exceptions.__get__(error), _exceptions.__get__(again), strict=True)
    elif len(_args.__get__(error)) == len(_args.__get__(again)):
        pairs = zip(_args.__get__(error), _args.__get__(again), strict=True)
    else:
        return False
    state, other = _state_of(error), _state_of(again)
    return (
        state.keys() <= other.keys()
        and all(_has_come(state[name], other[name]) for name in state)
        and all(_has_come(*pair) for pair in pairs)
        and _text_of(error, str) == _text_of(again, str)
    )


def _has_come(value: Any, again: Any) -> bool:
    """Tell whether the exceptions inside a value have arrived."""
    if isinstance(value, BaseException):
        return has_arrived(value, again)
    if not _holds_exceptions(value):
        return True
    return len(value) == len(again) and all(map(_has_come, _items(value), _items(again)))
