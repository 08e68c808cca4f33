"""From a call to a task: what is prepared once per function and options, and what each call adds.

Room: shell. Runs in the caller's thread, before anything reaches the event loop: whatever is wrong
with a call is raised there. Knows the scheduler only as the giver of scheduling classes.
"""

from __future__ import annotations

import inspect
import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.model import Function, Task
from ..options import DEFAULT_MAX_RETRIES, default_max_retries
from ..refs import ObjectEntry, ObjectRef, StoredFailure
from ..serializability import explain
from ..serialization import ArgumentSlot, dump, dump_function, dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..client import Call, Client
    from ..core.model import Demand, Environment, SchedulingClass
    from ..core.retries import RetryPolicy
    from ..serialization import Pieces
    from .objects import Objects
    from .store import Stored

__all__ = ["Submission", "serialize", "values_of"]

# The dict behind os.environ. Looking there costs a twentieth of asking os.environ, which raises and
# catches for what is not set, and this is asked at every submission.
_environ: Mapping[bytes, bytes] = vars(os.environ)["_data"]


class Binding(NamedTuple):
    """What an engine has prepared for one function with one set of options."""

    function: Function
    name: str
    num_returns: int
    max_retries: int | None  # None: ask the environment at each submission
    max_calls: int
    policy: RetryPolicy | None
    scheduling_class: SchedulingClass
    static: tuple[Any, ...]  # of each attempt's message: see wire.Attempt, from `name`
    held: Any  # refs that the function has captured


class Submission:
    """Makes tasks for one engine. `make` may be called from any thread."""

    def __init__(
        self,
        client: Client,
        env_vars: Environment,
        scheduling_class: Callable[[Demand, Environment], SchedulingClass],
    ) -> None:
        self._client = client
        self._env_vars = env_vars
        self._scheduling_class = scheduling_class
        self.objects: Objects | None = None  # where large arguments go
        self._numbers = itertools.count(1)
        self._keys = itertools.count(1)
        self._lock = threading.Lock()
        # The function and the refs it captured, for as long as the remote function lives.
        self._functions: weakref.WeakKeyDictionary[Any, tuple[Function, Any]] = (
            weakref.WeakKeyDictionary()
        )

    def make(
        self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Task, Any]:
        """The task, and what `.remote()` returns: a ref, a list of refs, or None."""
        client = self._client
        binding: Binding = call.binding if call.client is client else self._bind(call)
        function, name, num_returns, retries, max_calls, policy, cls, static, held = binding
        payload: Any = b""
        entries: list[ObjectEntry] | None = None
        if args or kwargs:
            for value in (*args, *kwargs.values()) if kwargs else args:
                if type(value) is ObjectRef:
                    entries = []
                    args, kwargs = self._fill_slots(args, kwargs, entries)
                    break
            try:
                payload, refs = dump((args, kwargs))
            except Exception as error:  # whatever a foreign __reduce__ may raise
                report = _blame(call, args, kwargs)
                raise TypeError(
                    f"Could not serialize the arguments of {name}.remote():\n{report}"
                ) from error
            if type(payload) is not bytes:
                assert self.objects is not None
                payload = self.objects.keep(payload)
            if refs:
                held = (held, refs)
        if retries is None:
            if b"AIORAY_TASK_MAX_RETRIES" in _environ or b"RAY_TASK_MAX_RETRIES" in _environ:
                retries = default_max_retries(os.environ)
            else:
                retries = DEFAULT_MAX_RETRIES
        number = next(self._numbers)
        task = Task(
            number,
            name,
            function,
            cls,
            max_retries=retries,
            policy=policy,
            max_calls=max_calls,
            label=number,
            payload=(static, payload, entries, held),
        )
        if entries:
            task.dependencies = tuple(
                [
                    entry.task
                    for entry in entries
                    if entry.task is not None
                    and (entry.outcome is None or type(entry.outcome) is StoredFailure)
                ]
            )
        if num_returns == 1:
            entry = task.returns = ObjectEntry(client, number, 1, task)
            return task, ObjectRef(entry)
        task.returns = [
            ObjectEntry(client, number, index + 1, task) for index in range(num_returns)
        ]
        return task, [ObjectRef(entry) for entry in task.returns] or None

    def _bind(self, call: Call) -> Binding:
        options = call.options
        with self._lock:
            known = self._functions.get(call.code)
            if known is None:
                known = self._functions[call.code] = self._export(call)
            function, captured = known
            environment = tuple(sorted({**dict(self._env_vars), **dict(options.env_vars)}.items()))
            max_retries = options.max_retries
            if max_retries is None:
                variables = dict(environment)
                if "AIORAY_TASK_MAX_RETRIES" in variables or "RAY_TASK_MAX_RETRIES" in variables:
                    max_retries = default_max_retries(variables)
            rule: Any = options.retry_exceptions
            if not isinstance(rule, bool):
                rule = dump_function(rule)[0]
            name = options.name or call.code.name
            call.binding = Binding(
                function,
                name,
                options.num_returns,
                max_retries,
                options.max_calls,
                options.retry,
                self._scheduling_class(options.demand, environment),
                (name, options.num_returns, rule, options.demand),
                captured,
            )
            call.client = self._client
        binding: Binding = call.binding
        return binding

    def _export(self, call: Call) -> tuple[Function, Any]:
        target, name = call.code.function, call.code.name
        try:
            code, captured = dump_function(target)
        except Exception as error:  # whatever a foreign __reduce__ may raise
            report = explain(target, name, dumps)
            raise TypeError(f"Could not serialize the function {name!r}:\n{report}") from error
        return Function(next(self._keys), name, code), captured

    def _fill_slots(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], entries: list[ObjectEntry]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Replace top-level refs by slots, and collect their entries."""

        def slot(value: Any) -> Any:
            if type(value) is not ObjectRef:
                return value
            entry = value._entry
            if entry.owner() is not self._client:
                raise ValueError(
                    f"{value!r} belongs to another engine. Get its value there and pass that."
                )
            entries.append(entry)
            return ArgumentSlot(len(entries) - 1)

        return tuple([slot(item) for item in args]), {
            key: slot(item) for key, item in kwargs.items()
        }


def serialize(value: Any, root: str, what: str) -> tuple[bytes | Pieces, Sequence[Any]]:
    """`dump`, with a TypeError that names the member of `what`, called `root`, that is to blame."""
    try:
        return dump(value)
    except Exception as error:  # whatever a foreign __reduce__ may raise
        report = explain(value, root, dumps)
        raise TypeError(f"Could not serialize {what}:\n{report}") from error


def _blame(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Which parameter cannot be serialized, and what in it."""
    bound = inspect.signature(call.code.function).bind(*args, **kwargs).arguments
    for name, value in bound.items():
        try:
            dump(value)
        except Exception:  # noqa: BLE001 - whatever a foreign __reduce__ may raise
            return explain(value, name, dumps)
    return explain((args, dict(kwargs)), "arguments", dumps)


def values_of(entries: list[ObjectEntry]) -> list[bytes | Stored] | None:
    """The values of a task's arguments, as they are kept; None if one was lost meanwhile."""
    values: list[bytes | Stored] = []
    for entry in entries:
        outcome = entry.outcome
        if outcome is None or type(outcome) is StoredFailure:
            return None
        values.append(outcome)  # type: ignore[arg-type]
    return values
