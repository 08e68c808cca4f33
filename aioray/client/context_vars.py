"""Carries the values of chosen context variables from who submits a task to the task.

Room: client, used by the engine and by workers, and loaded only where `init(context=[...])` was
given. A variable is known by the module and the name it stands under, for that is how it is the
same one in another process; one of a script, `__main__`, is made anew in workers. Values travel
pickled with the attempt, where a span would be named (`wire.Attempt.trace`), also to what tasks
submit in turn; so a retry has the values of the submission.
"""

from __future__ import annotations

import copyreg
import sys
from contextvars import ContextVar, copy_context
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..shared.serialization import dumps, load
from ..shared.wire import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Key = tuple[str, str, str]  # module, attribute there, the variable's own name

__all__ = ["Carrier", "carried", "enter_context", "keys_of"]

_made: dict[Key, ContextVar[Any]] = {}  # of scripts, which cannot be imported in workers


def keys_of(variables: Sequence[ContextVar[Any]]) -> tuple[Key, ...]:
    """Return the keys of variables. Raises ValueError for one that no module holds by a name."""
    keys = tuple(map(_key_of, variables))
    _made.update(zip(keys, variables, strict=True))
    copyreg.pickle(ContextVar, _reduce)
    return keys


def _key_of(variable: ContextVar[Any]) -> Key:
    found: Key | None = None
    for module, content in list(sys.modules.items()):
        for name, value in list(getattr(content, "__dict__", {}).items()):
            if value is variable:
                found = module, name, variable.name
                if getattr(value, "__module__", module) == module and module != "__main__":
                    return found
    if found is None:
        raise ValueError(
            f"context: the variable {variable.name!r} is not the value of a name of any module, by "
            f"which workers could find it: define it at the top of a module."
        )
    return found


def _reduce(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Pickle a variable that is carried, by its key; functions of scripts may use it."""
    for key, known in _made.items():
        if known is variable:
            return _find, (key,)
    raise TypeError(
        f"cannot pickle the context variable {variable.name!r}: name it in init(context=[...])"
    )


def _find(key: Key) -> ContextVar[Any]:
    """Return the variable of a key; import its module if need be."""
    known = _made.get(key)
    if known is None:
        module, attribute, name = key
        if module == "__main__":
            known = ContextVar(name)
        else:
            known = getattr(import_module(module), attribute)
        known = _made.setdefault(key, known)
    return known


class Carrier:
    """Notes the values that the variables have where it is asked."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """Carry the variables of these keys."""
        self._keys = tuple(keys)

    def now(self) -> tuple[str, bytes]:
        """Return what `wire.Attempt.trace` says of the values here and now.

        Raises TypeError if a value cannot be pickled.
        """
        context = copy_context()
        values = {}
        for key in self._keys:
            variable = _made.get(key)
            if variable is None and key[0] in sys.modules and key[0] != "__main__":
                variable = _find(key)
            if variable is not None and variable in context:
                values[key] = context[variable]
        try:
            return CONTEXT, bytes(dumps((self._keys, values)))
        except Exception as error:
            names = ", ".join(key[1] for key in values)
            raise TypeError(
                f"A context variable that tasks are to see has a value that cannot be pickled "
                f"(of {names}): {error}"
            ) from error


def carried(trace: Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """Return what of a trace says what values of context variables there are."""
    return tuple(pair for pair in trace if pair[0] == CONTEXT)


def enter_context(
    function: Callable[..., Any], trace: Iterable[tuple[str, Any]], arm: Callable[[Carrier], None]
) -> Callable[..., Any]:
    """Return a function that sets the variables that a trace says, and then is the one given.

    arm: told, before that, how what it submits in turn gets its values.
    """
    said = carried(trace)
    if not said:
        return function

    def entered(*args: Any, **kwargs: Any) -> Any:
        keys, values = load(said[0][1])
        arm(Carrier(keys))
        for key, value in values.items():
            _find(key).set(value)
        return function(*args, **kwargs)

    return entered
