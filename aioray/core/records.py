"""Makes the classes of records: a hundred, for which every program waits.

Room: core. `record` makes of a class what `dataclasses.dataclass` would: type checkers take it for
that, and `fields`, `replace` and `is_dataclass` take its classes for that. It takes a tenth of the
time, because it compiles nothing but `__init__`, and that when an instance is made: most programs
make none of most. The other methods are the same for all, and `dataclasses` comes to work where
somebody asks it. It knows no order, no inherited and no keyword-only fields. In the same way
`NamedTuple` is that of `typing`, without evaluating annotations.
"""

from __future__ import annotations

from collections import namedtuple
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NamedTuple", "field", "make_record", "record", "replace"]

_ABSENT: Any = object()


class Field:
    """What a class says of a field, see `dataclasses.field`."""

    __slots__ = ("compare", "default", "default_factory", "hash", "init", "repr")

    def __init__(
        self,
        *,
        default: Any = _ABSENT,
        default_factory: Any = _ABSENT,
        init: bool = True,
        repr: bool = True,  # noqa: A002 - so `dataclasses` calls them
        hash: bool | None = None,  # noqa: A002
        compare: bool = True,
    ) -> None:
        """Note it. hash: None is the same as `compare`."""
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.hash = compare if hash is None else hash
        self.compare = compare


class Shape:
    """What a class of records consists of; all methods that its body does not define go by it.

    It is also the attribute by which `dataclasses` knows its classes, and then gives their fields.
    """

    __slots__ = ("_compared", "_fields", "_hashed", "ends", "given", "guarded", "names", "owner")

    def __init__(self, names: tuple[str, ...], given: dict[str, Any]) -> None:
        """Note the fields. given: defaults, and instances of Field."""
        self.names = names
        self.given = given
        self.guarded = False  # assignments are refused
        self.ends = False  # it has a `__post_init__`
        self.owner: Any = None  # the class
        self._fields: Any = None
        self._compared: Any = None
        self._hashed: Any = None

    def fields(self) -> dict[str, Field]:
        """Return what is said of each field."""
        found = {}
        for name in self.names:
            given = self.given.get(name, _ABSENT)
            found[name] = given if type(given) is Field else Field(default=given)
        return found

    @property
    def arguments(self) -> tuple[str, ...]:
        """The fields that `__init__` takes."""
        return tuple(name for name, field in self.fields().items() if field.init)

    @property
    def compared(self) -> Any:
        """A function that makes of a record what it is compared by."""
        if self._compared is None:
            self._compared = _getter_of(n for n, field in self.fields().items() if field.compare)
        return self._compared

    @property
    def hashed(self) -> Any:
        """A function that makes of a record what it is hashed by."""
        if self._hashed is None:
            self._hashed = _getter_of(n for n, field in self.fields().items() if field.hash)
        return self._hashed

    def __get__(self, instance: object, owner: type) -> Any:
        if self._fields is None:
            import dataclasses

            body: dict[str, Any] = {"__annotations__": dict(self.owner.__annotations__)}
            for name, field in self.fields().items():
                said = {each: getattr(field, each) for each in Field.__slots__}
                given = {each: value for each, value in said.items() if value is not _ABSENT}
                body[name] = dataclasses.field(**given)
            cls: Any = dataclasses.dataclass(type(self.owner.__name__, (), body))
            self._fields = cls.__dataclass_fields__
        return self._fields

    def compile_init(self) -> Any:
        """Compile `__init__`; that of guarded records goes around their guard."""
        scope: dict[str, Any] = {"_set": object.__setattr__, "_ABSENT": _ABSENT}
        parameters, steps = ["self"], []
        for name, field in self.fields().items():
            value, default = name, ""
            if field.default_factory is not _ABSENT:
                scope[f"_new_{name}"] = field.default_factory
                default = "=_ABSENT"
                new = f"_new_{name}()"
                value = f"{new} if {name} is _ABSENT else {name}" if field.init else new
            elif field.default is not _ABSENT:
                scope[f"_default_{name}"] = field.default
                default = f"=_default_{name}"
                value = name if field.init else f"_default_{name}"
            elif not field.init:
                continue  # `__post_init__` has it
            if field.init:
                parameters.append(name + default)
            steps.append(
                f"_set(self, {name!r}, {value})" if self.guarded else f"self.{name} = {value}"
            )
        if self.ends:
            steps.append("self.__post_init__()")
        return _compiled(f"__init__({', '.join(parameters)}): {'; '.join(steps) or 'pass'}", scope)


def _getter_of(names: Iterable[str]) -> Any:
    found = tuple(names)
    return attrgetter(*found) if found else lambda _: ()


class _Signature:
    """The signature of a class whose `__init__` may not be there yet."""

    __slots__ = ()

    def __get__(self, instance: object, owner: type) -> Any:
        import inspect

        shape = _shape_of(owner)
        signature = inspect.signature(shape.compile_init())
        given = shape.owner.__annotations__
        parameters = [
            each.replace(annotation=given[name])
            for name, each in signature.parameters.items()
            if name in given
        ]
        return signature.replace(parameters=parameters, return_annotation=None)


_signature = _Signature()


def make_record(
    cls: Any,
    *,
    frozen: bool = False,
    guarded: bool = False,
    slots: bool = False,
    eq: bool = True,
    repr: bool = True,  # noqa: A002
) -> Any:
    """Make the class of a record, whose fields are what the body of `cls` annotates.

    frozen: it has a hash if it has equality. guarded: assignments are refused.
    """
    names: tuple[str, ...] = tuple(cls.__annotations__)
    body = dict(vars(cls))
    shape = Shape(names, {name: body.pop(name) for name in names if name in body})
    shape.guarded, shape.ends = guarded, "__post_init__" in body
    methods: dict[str, Any] = {}
    if repr:
        methods["__repr__"] = _represent
    if eq:
        methods["__eq__"] = _are_equal
        methods["__hash__"] = _hash if frozen else None
    if guarded:
        methods["__setattr__"] = methods["__delattr__"] = _refuse
        if slots:
            methods["__getstate__"] = _state
            methods["__setstate__"] = _set_state
    methods = {name: method for name, method in methods.items() if name not in body}
    if "__signature__" not in names:
        methods["__signature__"] = _signature
    special = any(type(given) is Field for given in shape.given.values())
    methods["__match_args__"] = shape.arguments if special else names
    methods["__dataclass_fields__"] = shape
    methods["__init__"] = _first_init
    methods["__replace__"] = _replace  # for `copy.replace`
    if slots:
        body.pop("__dict__", None)
        body.pop("__weakref__", None)
        body |= methods
        body["__slots__"] = names
        shape.owner = type(cls)(cls.__name__, cls.__bases__, body)
        return shape.owner
    for name, field in shape.fields().items():
        if field.default is not _ABSENT:
            setattr(cls, name, field.default)
        elif name in shape.given:
            delattr(cls, name)
    for name, method in methods.items():
        setattr(cls, name, method)
    shape.owner = cls
    return cls


def _shape_of(cls: type) -> Shape:
    found = (each.__dict__.get("__dataclass_fields__") for each in cls.__mro__)
    return next(shape for shape in found if type(shape) is Shape)


def _first_init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    """Compile the `__init__` of the class, and make way for it."""
    shape = _shape_of(type(self))
    shape.owner.__init__ = init = shape.compile_init()
    init(self, *args, **kwargs)


def _compiled(text: str, scope: dict[str, Any]) -> Any:
    """Make a function of its text after `def`.

    Not by `exec` of the text: that lets the interpreter forget that Ctrl-C has ended the program,
    which is to be its exit status, and the session's end makes records of new kinds.
    """
    name = text.partition("(")[0]
    exec(compile(f"def {text}", "<a record>", "exec"), scope)
    return scope[name]


def _are_equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    key = _shape_of(type(self)).compared
    return key(self) == key(other)


def _hash(self: Any) -> int:
    return hash(_shape_of(type(self)).hashed(self))


@recursive_repr("...")
def _represent(self: Any) -> str:
    every = _shape_of(type(self)).fields().items()
    fields = ", ".join([f"{name}={getattr(self, name)!r}" for name, field in every if field.repr])
    return f"{type(self).__qualname__}({fields})"


def _refuse(self: Any, name: str, value: Any = _ABSENT) -> None:
    from dataclasses import FrozenInstanceError

    deed = "delete" if value is _ABSENT else "assign to"
    raise FrozenInstanceError(f"cannot {deed} field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in _shape_of(type(self)).names]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(_shape_of(type(self)).names, state, strict=True):
        object.__setattr__(self, name, value)


def _record(
    cls: Any = None,
    /,
    *,
    frozen: bool = False,
    slots: bool = False,
    eq: bool = True,
    repr: bool = True,  # noqa: A002
) -> Any:
    """Make a class a record, with the arguments of `dataclasses.dataclass`."""

    def make(cls: Any) -> Any:
        return make_record(cls, frozen=frozen, guarded=frozen, slots=slots, eq=eq, repr=repr)

    return make if cls is None else make(cls)


def _replace(given: Any, /, **changes: Any) -> Any:
    """Copy a record with other values for some of its fields, as `dataclasses.replace` does."""
    same = {name: getattr(given, name) for name in given.__match_args__ if name not in changes}
    return type(given)(**same, **changes)


# ---------------------------------------------------------------- tuples

_example: Any = namedtuple("_example", "x")  # noqa: PYI024 - nothing is faster than its getter
_getter: Any = type(_example.x)


class _Tuple(tuple[Any, ...]):
    """What all classes of named tuples have from here, as those of `collections` have it."""

    __slots__ = ()
    if TYPE_CHECKING:  # an annotation here would be one of a field to `get_type_hints`
        _fields: tuple[str, ...] = ()

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        """Compile the `__new__` of the class, and make way for it."""
        owner: Any = next(each for each in cls.__mro__ if "_fields" in each.__dict__)
        new = _tuple_initializer(owner._fields, vars(owner)["_field_defaults"])
        owner.__new__ = staticmethod(new)
        return new(cls, *args, **kwargs)

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Any:
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes: Any) -> Any:
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise TypeError(f"Got unexpected field names: {list(changes)!r}")
        return made

    __replace__ = _replace

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        fields = zip(self._fields, self, strict=True)
        return (
            f"{type(self).__name__}({', '.join([f'{name}={value!r}' for name, value in fields])})"
        )


class _TupleMaker(type):
    """Makes of a class that names `NamedTuple` as its base one of tuples."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        """Make it."""
        if not bases:
            return super().__new__(cls, name, bases, body)
        names = tuple(body.get("__annotations__", ()))
        body["_field_defaults"] = {each: body[each] for each in names if each in body}
        for place, each in enumerate(names):
            body[each] = _getter(place, each)
        body["_fields"] = body["__match_args__"] = names
        body["__slots__"] = ()
        return type(name, (_Tuple,), body)


class _NamedTuple(metaclass=_TupleMaker):
    """The base of classes of tuples."""


def _tuple_initializer(names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    scope: dict[str, Any] = {"_new": tuple.__new__, "_defaults": defaults}
    parameters = [f"{n}=_defaults[{n!r}]" if n in defaults else n for n in names]
    values = "".join([f"{name}, " for name in names])
    head = ", ".join(["_cls", *parameters])
    return _compiled(f"__new__({head}): return _new(_cls, ({values}))", scope)


if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from dataclasses import field, replace
    from typing import NamedTuple
else:
    NamedTuple, field, record, replace = _NamedTuple, Field, _record, _replace
