"""What a class of actors is, and what handles of its actors are made of.

Room: client. An `ActorCode` is a class that was decorated, looked into; `ActorMeta`, packed, is
what handles know of it, wherever they are.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.records import record
from ..exceptions import ActorHandleNotFoundError
from ..shared.actor_exit import SHUTDOWN, SPECIAL_METHODS
from ..shared.options import MethodOptions, concurrency_groups_of, is_ordered, resolve_method
from ..shared.serialization import dump_function
from .signatures import positional_range, signature_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..shared.options import ActorOptions
    from .protocol import Client
    from .refs import ObjectRef

__all__ = [
    "GIVEN",
    "ActorCode",
    "ActorMeta",
    "MethodMeta",
    "check_call_options",
    "check_interruptible",
    "client_of",
    "unpack_meta",
]

SAVE, RESTORE = "__aioray_save__", "__aioray_restore__"
GIVEN = "__aioray_method__"  # attribute of a method: what `@method` says, as plain values


@record(eq=False, slots=True)
class MethodMeta:
    """One method, as far as its callers have to know it: the code of its calls, see `protocol`."""

    name: str  # as it is shown, "A.m"
    method: str  # the attribute
    __signature__: inspect.Signature  # without annotations; defaults stand as None
    is_generator: bool
    options: MethodOptions  # of calls that say nothing themselves, see `resolve_method`
    arity: tuple[int, float] | None

    @property
    def function(self) -> Callable[..., Any]:
        """The description itself, which has the signature of the method."""
        return self

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raise TypeError: a description is callable for `inspect.signature` only."""
        raise TypeError(f"{self.name} runs in its actor only.")


@record(frozen=True, slots=True)
class ActorMeta:
    """What the handles of an actor know of their actor. Picklable."""

    class_name: str
    methods: Mapping[str, MethodMeta]
    max_pending_calls: int  # of one caller; not above 0: unlimited
    concurrency_groups: tuple[
        tuple[str, int], ...
    ]  # how many calls of each concurrency group run at once
    asynchronous: bool


@functools.lru_cache(maxsize=256)
def unpack_meta(packed: bytes) -> ActorMeta:
    """Unpack what `ActorCode.meta_of` has packed; the same object for the same bytes."""
    meta: ActorMeta = pickle.loads(packed)
    return meta


class ActorCode:
    """A class of actors, see `protocol`. Looked into when somebody has to know.

    Not before: a class that refers to itself is unpickled before it is complete.
    """

    def __init__(self, cls: type[Any]) -> None:
        self.function = cls
        self.name = cls.__name__
        self.arity: tuple[int, float] | None = None
        self._packed: dict[tuple[Any, ...], tuple[bytes, Sequence[Any]]] = {}

    @functools.cached_property
    def methods(self) -> dict[str, Callable[..., Any]]:
        """The functions behind the methods of the class by name, inherited ones too."""
        found = inspect.getmembers(self.function, _is_method)
        return {name: member for name, member in found if name not in _NOT_CALLED}

    @functools.cached_property
    def asynchronous(self) -> bool:
        """Whether one of the methods is a coroutine function or an asynchronous generator."""
        return any(
            inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
            for member in self.methods.values()
        )

    @functools.cached_property
    def saves(self) -> bool:
        """Whether the class has the hooks that save its state. Raises ValueError for one alone."""
        has = [callable(getattr(self.function, hook, None)) for hook in (SAVE, RESTORE)]
        if has[0] != has[1]:
            there, missing = (SAVE, RESTORE) if has[0] else (RESTORE, SAVE)
            raise ValueError(
                f"{self.name} has {there} but not {missing}: define both, one to return the "
                f"actor's state and one to take it back, or none"
            )
        return all(has)

    @functools.cached_property
    def shuts_down(self) -> bool:
        """Whether the class has the hook that is called when an actor ends."""
        return callable(getattr(self.function, SHUTDOWN, None))

    def meta_of(self, options: ActorOptions) -> bytes:
        """Return the packed `ActorMeta` of actors that are made with these options.

        Raises AssertionError, as Ray, for a method of a concurrency group that the class does not
        declare, what `is_ordered` raises, and ValueError for an interruptible method where calls
        run side by side.
        """
        deciding = (
            options.max_task_retries,
            options.max_pending_calls,
            options.max_concurrency,
            options.interruptible,
            options.enable_task_events,
            options.allow_out_of_order_execution,
        )
        known = self._packed.get(deciding)  # concurrency groups are the same for all
        if known is None:
            known = self._packed[deciding] = dump_function(self._describe(options))
        return known[0]

    def _describe(self, options: ActorOptions) -> ActorMeta:
        given = {
            name: MethodOptions(**getattr(member, GIVEN, {}))
            for name, member in self.methods.items()
        }
        for name, said in given.items():
            group = said.concurrency_group
            if group and group not in options.concurrency_groups:
                raise AssertionError(
                    f"{self.name}.{name} is in the concurrency group {group!r}, which the class "
                    f"does not declare: add it, @remote(concurrency_groups={{{group!r}: 1, ...}})"
                )
        concurrency_groups = concurrency_groups_of(options, asynchronous=self.asynchronous)
        is_ordered(options, asynchronous=self.asynchronous)  # it may raise
        methods = {
            name: _describe_method(
                f"{self.name}.{name}",
                name,
                member,
                _signature_in(self.function, name, member),
                given[name],
                options,
            )
            for name, member in self.methods.items()
        }
        methods |= {
            name: _describe_method(
                f"{self.name}.{name}",
                name,
                member,
                _without_first(signature_of(member)),
                MethodOptions(),
                options,
            )
            for name, member in SPECIAL_METHODS.items()
        }
        meta = ActorMeta(
            self.name, methods, options.max_pending_calls, concurrency_groups, self.asynchronous
        )
        for described in methods.values():
            check_interruptible(described.name, described.options, meta)
        return meta


_NOT_CALLED = frozenset(
    {"__init__", "__new__", "__init_subclass__", "__class_getitem__", SAVE, RESTORE}
)


def _is_method(member: Any) -> bool:
    is_cache = hasattr(member, "cache_parameters") and hasattr(member, "__wrapped__")
    return inspect.isfunction(member) or inspect.ismethod(member) or is_cache


def _signature_in(cls: type[Any], name: str, member: Callable[..., Any]) -> inspect.Signature:
    signature = signature_of(member)
    bound = inspect.ismethod(member) or isinstance(
        inspect.getattr_static(cls, name, None), staticmethod
    )
    return signature if bound else _without_first(signature)


def _without_first(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature without `self`, unless a `*args` takes that in."""
    parameters = list(signature.parameters.values())
    first = parameters[0] if parameters else None
    if first is not None and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        del parameters[0]
    return signature.replace(parameters=parameters)


def _describe_method(
    name: str,
    attribute: str,
    member: Callable[..., Any],
    signature: inspect.Signature,
    given: MethodOptions,
    options: ActorOptions,
) -> MethodMeta:
    is_generator = inspect.isgeneratorfunction(member) or inspect.isasyncgenfunction(member)
    # Annotations and defaults may be anything, and are not needed to check a call.
    bare = inspect.Signature(
        [
            each.replace(
                annotation=each.empty, default=each.empty if each.default is each.empty else None
            )
            for each in signature.parameters.values()
        ]
    )
    resolved = resolve_method(given, options, is_generator=is_generator)
    return MethodMeta(name, attribute, bare, is_generator, resolved, positional_range(bare))


def check_call_options(name: str, options: MethodOptions, meta: ActorMeta) -> None:
    """Raise ValueError for a concurrency group that the class does not declare.

    And what `check_interruptible` raises.
    """
    groups = [group for group, _ in meta.concurrency_groups]
    if options.concurrency_group not in groups:
        declared = ", ".join(map(repr, groups[1:])) or "none"
        raise ValueError(
            f"{name}: the concurrency group {options.concurrency_group!r} is not declared by the "
            f"class. It declares {declared}; add it, @remote(concurrency_groups=...)"
        )
    check_interruptible(name, options, meta)


def check_interruptible(name: str, options: MethodOptions, meta: ActorMeta) -> None:
    """Raise ValueError for an interruptible method where calls run side by side."""
    if options.interruptible and (meta.asynchronous or meta.concurrency_groups != (("", 1),)):
        raise ValueError(
            f"interruptible=True of {name} needs calls that run one after the other, but this "
            f"actor has coroutine methods, max_concurrency > 1 or concurrency_groups: leave it "
            f"out, and look at get_runtime_context().is_canceled()"
        )


def client_of(ref: ObjectRef[Any]) -> Client:
    """Return the client of an actor. Raises ActorHandleNotFoundError if the client has ended."""
    client = ref.entry.client
    if client is None or client.closed:
        raise ActorHandleNotFoundError(
            "ActorHandle objects are not valid across sessions: the session in which this actor "
            "was made has ended. Please create a new actor handle in the current session."
        )
    return client
