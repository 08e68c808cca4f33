"""Graphs of calls that are made later: `f.bind(...)` instead of `f.remote(...)`, then `execute`.

    with InputNode() as given:
        graph = add.bind(double.bind(given), 1)
    aioray.get(graph.execute(20))   # 41

Room: api. `bind` notes what is to be called and with what; nodes among the arguments, also inside
lists, tuples and dicts, stand for their values. `execute` submits each node once, what others need
first, and returns what the last call returns. Actors that are part of a graph, `A.bind(...)`, are
made anew for each execution. Ray can compile a graph of actors' methods too; aioray cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from aioray.exceptions import UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    Values = Mapping["DAGNode", Any]

__all__ = [
    "ClassMethodNode",
    "ClassNode",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        from aioray.compat.names import look_up

        return look_up("aioray.dag", name)


class DAGNode:
    """A call that `execute` will make, or something else that stands for a value in a graph."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._bound_args = tuple(args)
        self._bound_kwargs = dict(kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Make the calls of the graph that ends here, and return the last one's ref or refs.

        The arguments are what an InputNode stands for. Raises what `.remote()` raises for each of
        the calls.
        Source: Ray API reference, ray.dag.DAGNode.execute.
        """
        given = DAGInputData(args, kwargs)
        values: dict[DAGNode, Any] = {}
        for node in self._in_order():
            values[node] = node._value(values, given)
        return values[self]

    def _in_order(self) -> Iterator[DAGNode]:
        """Yield all nodes of the graph, each once, after those that it needs."""
        seen: set[DAGNode] = set()
        stack: list[tuple[DAGNode, Iterator[DAGNode]]] = [(self, self._needs())]
        while stack:
            node, needs = stack[-1]
            needed = next((other for other in needs if other not in seen), None)
            if needed is not None:
                stack.append((needed, needed._needs()))
                continue
            stack.pop()
            if node not in seen:
                seen.add(node)
                yield node

    def _needs(self) -> Iterator[DAGNode]:
        yield from _nodes_in((self._bound_args, self._bound_kwargs))

    def _value(self, values: Values, given: DAGInputData) -> Any:
        """Return what the node stands for, given the values of the nodes that it needs."""
        raise NotImplementedError

    def get_args(self) -> tuple[Any, ...]:
        """Return the positional arguments that were bound."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """Return a copy of the keyword arguments that were bound."""
        return self._bound_kwargs.copy()

    @property
    def remote(self) -> NoReturn:
        """Refuse: a node is executed."""
        raise AttributeError(
            f".remote() cannot be used on {type(self).__name__}s. Use .execute() to make the calls "
            f"of the graph that ends here, or .bind() to add another call of a method."
        )

    def experimental_compile(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise UnsupportedFeatureError: compiled graphs are not part of aioray."""
        raise UnsupportedFeatureError(
            "experimental_compile() makes a compiled graph, which aioray does not have.",
            "Call .execute() for each run.",
        )


class _Call(DAGNode):
    """A node that calls something."""

    def __init__(
        self, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        super().__init__(args, kwargs)
        self._call = call

    def _value(self, values: Values, given: DAGInputData) -> Any:
        del given
        args, kwargs = _filled((self._bound_args, self._bound_kwargs), values)
        return self._call(*args, **kwargs)


class FunctionNode(_Call):
    """A call of a remote function. Made by `f.bind(...)`."""


class ClassNode(_Call):
    """An actor. Made by `A.bind(...)`; its methods have `bind` too, and are called in that order.

    Executing it makes the actor and returns its handle.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        methods: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__(call, args, kwargs)
        self._methods = methods
        self._last: ClassMethodNode | None = None  # of the calls bound so far

    def __getattr__(self, name: str) -> _UnboundMethod:
        if name.startswith("__") or name not in self.__dict__.get("_methods", ()):
            raise AttributeError(f"the class of this ClassNode has no method {name!r}")
        return _UnboundMethod(self, name, {})


class _UnboundMethod:
    """A method of an actor of the graph, to be bound."""

    def __init__(self, actor: ClassNode, name: str, options: Mapping[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def options(self, **options: Any) -> _UnboundMethod:
        """Return the method with some options changed, as those of a handle."""
        return _UnboundMethod(self._actor, self._name, options)

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """Note a call of the method."""
        node = ClassMethodNode(None, args, kwargs)
        node._actor, node._name, node._options = self._actor, self._name, self._options
        node._before, self._actor._last = self._actor._last, node
        return node

    @property
    def remote(self) -> NoReturn:
        """Refuse: there is no actor yet."""
        raise AttributeError(
            ".remote() cannot be used on methods of a ClassNode. Use .bind() to note a call, and "
            ".execute() on that."
        )


class ClassMethodNode(DAGNode):
    """A call of an actor. Made by `bind` of a method, of a handle or of a ClassNode."""

    _actor: ClassNode | None = None
    _name = ""
    _options: Mapping[str, Any] = {}
    _before: ClassMethodNode | None = None

    def __init__(
        self, call: Callable[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        super().__init__(args, kwargs)
        self._call = call  # None: of an actor of the graph

    def _needs(self) -> Iterator[DAGNode]:
        if self._actor is not None:
            yield self._actor
        if self._before is not None:
            yield self._before
        yield from super()._needs()

    def _value(self, values: Values, given: DAGInputData) -> Any:
        del given
        call = self._call
        if call is None:
            assert self._actor is not None
            method = getattr(values[self._actor], self._name)
            call = (method.options(**self._options) if self._options else method).remote
        args, kwargs = _filled((self._bound_args, self._bound_kwargs), values)
        return call(*args, **kwargs)


class MultiOutputNode(DAGNode):
    """Several nodes at the end of a graph; executing it returns a list of what they return."""

    def __init__(self, args: Sequence[DAGNode]) -> None:
        if isinstance(args, DAGNode) or not all(isinstance(node, DAGNode) for node in args):
            raise ValueError(f"A MultiOutputNode is made of a list of nodes, not of {args!r}.")
        super().__init__(args, {})

    def _value(self, values: Values, given: DAGInputData) -> Any:
        del given
        return [values[node] for node in self._bound_args]


# --- what is given to execute -------------------------------------------------------------------


class DAGInputData:
    """The arguments of `execute`, where there are several; what an InputNode stands for then."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._args = args
        self._kwargs = dict(kwargs)

    def __getitem__(self, key: int | str) -> Any:
        """Return a positional argument by its number, or one by its keyword."""
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError(f"Arguments of execute() are found by int or str, not by {key!r}.")


class InputNode(DAGNode):
    """What `execute` will be given. `with InputNode() as given:` builds a graph with it.

    It stands for the argument of `execute`; if that gets several, `given[0]` stands for one, and
    `given["x"]` or `given.x` for one by keyword. Of a single argument these are its items and
    attributes.
    Source: Ray API reference, ray.dag.InputNode.
    """

    def __init__(self) -> None:
        super().__init__((), {})
        self._is_entered = False

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def __getattr__(self, name: str) -> InputAttributeNode:
        if name.startswith("_"):
            raise AttributeError(f"'InputNode' object has no attribute {name!r}")
        return InputAttributeNode(self, name, is_item=False)

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        return InputAttributeNode(self, key, is_item=True)

    def _value(self, values: Values, given: DAGInputData) -> Any:
        del values
        assert self._is_entered, (
            "An InputNode is made by `with InputNode() as given:`, inside which the graph is built."
        )
        alone = len(given._args) == 1 and not given._kwargs
        return given._args[0] if alone else given


class InputAttributeNode(DAGNode):
    """One argument of `execute`, or an item or attribute of the only one."""

    def __init__(self, node: InputNode, key: int | str, *, is_item: bool) -> None:
        if not isinstance(key, int | str):
            raise ValueError(f"Arguments of execute() are found by int or str, not by {key!r}.")
        super().__init__((node,), {})
        self._key = key
        self._is_item = is_item

    def _value(self, values: Values, given: DAGInputData) -> Any:
        del given
        found = values[self._bound_args[0]]
        if self._is_item or isinstance(found, DAGInputData):
            return found[self._key]
        return getattr(found, str(self._key))


# --- nodes among arguments ----------------------------------------------------------------------


def _nodes_in(value: Any) -> Iterator[DAGNode]:
    """Yield the nodes in an argument, in their order."""
    if isinstance(value, DAGNode):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _nodes_in(item)


def _filled(value: Any, values: Values) -> Any:
    """Return the argument with what its nodes stand for; itself if it has none."""
    if isinstance(value, DAGNode):
        return values[value]
    if next(_nodes_in(value), None) is None:
        return value
    if isinstance(value, dict):
        copy = value.copy()  # of its own class
        copy.update((key, _filled(item, values)) for key, item in value.items())
        return copy
    filled = [_filled(item, values) for item in value]
    if hasattr(value, "_fields"):  # a namedtuple
        return type(value)(*filled)
    return type(value)(filled)
