"""Finds out which member of an object cannot be serialized, for error messages.

Room: shared, but it imports the standard library only, and the pickler is an argument. It reads
objects and never changes them; it knows nothing about tasks.

How it works: breadth first, so that the shortest path to a culprit is found. An object that
`dumps` refuses is split into members (items, attributes, closure variables, globals of a function,
what its __reduce__ returns); the members that are refused are split in turn. One whose members are
all fine is a culprit. Members are tried in halves, so one bad item in a long list costs few calls.

The objects are the user's and may be hostile: anything they raise is caught (KeyboardInterrupt is
not, it is the user at the terminal), their __repr__, __iter__ and __getattr__ are never called,
and depth, number of calls and number of findings are bounded. Only what `dumps` itself would run,
__reduce_ex__ and its helpers, is run.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import itertools
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..core.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MAX_DEPTH", "Culprit", "explain", "find", "largest"]

MAX_DEPTH: Final = 8  # members of members; deeper paths help nobody
MAX_DUMPS: Final = 500  # calls of `dumps` in one explanation
MAX_FINDINGS: Final = 5  # culprits reported
MAX_ITEMS: Final = 100_000  # items taken from one iterator, which may be endless
MAX_REASON: Final = 200  # characters of an error's text
MAX_KEY: Final = 40  # characters of a dict key


class _Member(NamedTuple):
    path: str
    value: Any
    note: str = ""  # what kind of member it is, where the path does not say so


class Culprit(NamedTuple):
    """A member that cannot be serialized although its own members can be."""

    path: str  # from the name of the whole, "args[0]['lock'].inner"
    value: Any
    parent: Any  # what it was found in; None for the whole itself
    reason: str
    note: str  # what kind of member it is, or ""


class _OutOfCallsError(Exception):
    """Raised when MAX_DUMPS is used up, and caught here only."""


def explain(obj: Any, name: str, dumps: Callable[[Any], bytes]) -> str:
    """Say which members of `obj` cannot be serialized by `dumps`, one line each.

    A line is a path that starts with `name`, and the reason: "args[0]['lock'].inner: cannot
    pickle '_thread.lock' object". A last line in parentheses says so if the search was cut short.
    If `dumps` accepts the object, the text says that.

    Never raises, except KeyboardInterrupt. Calls `dumps` up to MAX_DUMPS times, so it is for the
    way to an error message, not for every call.
    Source: Ray's inspect_serializability, which prints a report of the same kind.
    """
    try:
        culprits, cut = find(obj, name, dumps)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  user code may raise anything
        return f"{name}: cannot be serialized, and looking for the cause failed: {_reason(error)}"
    lines = [_line(culprit) for culprit in culprits] or [f"{name}: can be serialized"]
    return "\n".join([*lines, cut] if cut else lines)


def find(
    obj: Any, name: str, dumps: Callable[[Any], bytes], max_depth: int = MAX_DEPTH
) -> tuple[list[Culprit], str]:
    """Return the members that are to blame if `dumps` refuses `obj`, and a note.

    No members: it does not refuse. The note is "", or says in parentheses why the search was cut
    short. max_depth: how many levels below `obj` are looked at; what is refused there is a culprit
    without being split.
    """
    return _Search(dumps, max_depth).run(_Member(name, obj))


def largest(obj: Any, name: str, dumps: Callable[[Any], bytes]) -> list[tuple[str, int]]:
    """Return the members that make `obj` large, and their sizes in bytes, the largest first."""
    found: list[tuple[str, int]] = []
    for member in itertools.islice(_members(Culprit(name, obj, None, "", "")), MAX_DUMPS):
        try:
            found.append((member.path, len(dumps(member.value))))
        except Exception:  # noqa: BLE001, S112 - this one cannot be told
            continue
    return sorted(found, key=lambda one: -one[1])[:MAX_FINDINGS]


class _Search:
    """One search: what was seen, and how many calls are left."""

    def __init__(self, dumps: Callable[[Any], bytes], max_depth: int) -> None:
        self._dumps = dumps
        self._max_depth = max_depth
        self._calls_left = MAX_DUMPS
        # Id -> the object itself, since ids of temporaries from __reduce__ would be used again.
        self._seen: dict[int, Any] = {}

    def run(self, root: _Member) -> tuple[list[Culprit], str]:
        root_reason = self._refusal(root.value)
        if root_reason is None:
            return [], ""
        culprits: list[Culprit] = []
        cut = ""
        self._seen[id(root.value)] = root.value
        whole = current = Culprit(root.path, root.value, None, root_reason, root.note)
        queue = deque([(whole, 0)])
        try:
            while queue and not cut:
                current, depth = queue.popleft()
                refused: list[tuple[_Member, str]] = []
                if depth < self._max_depth:
                    refused = list(self._refused(_members(current)))
                if not refused:
                    culprits.append(current)
                for child, reason in refused:
                    if id(child.value) not in self._seen:
                        self._seen[id(child.value)] = child.value
                        found = Culprit(child.path, child.value, current.value, reason, child.note)
                        queue.append((found, depth + 1))
                if depth == self._max_depth:
                    cut = f"(the search went no deeper than {self._max_depth} levels)"
                elif len(culprits) == MAX_FINDINGS and queue:
                    cut = f"(the search stopped after {MAX_FINDINGS} findings)"
        except _OutOfCallsError:
            culprits = culprits or [current]
            cut = f"(the search stopped after trying {MAX_DUMPS} parts)"
        # No culprit: the refused members only refer to each other, so blame the whole.
        return culprits or [whole], cut

    def _refused(self, members: Iterable[_Member]) -> Iterator[tuple[_Member, str]]:
        """Yield the members that `dumps` refuses, with the reason, in order."""
        pending = [list(members)]
        while pending:
            group = pending.pop()
            if not group:
                continue
            reason = self._refusal(
                group[0].value if len(group) == 1 else [member.value for member in group]
            )
            if reason is None:
                continue
            if len(group) == 1:
                yield group[0], reason
                continue
            half = len(group) // 2
            pending += [group[half:], group[:half]]

    def _refusal(self, value: Any) -> str | None:
        """Return why `dumps` refuses `value`, or None if it does not."""
        if self._calls_left == 0:
            raise _OutOfCallsError
        self._calls_left -= 1
        try:
            self._dumps(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  user code may raise anything
            return _reason(error)
        return None


# --- members of an object -------------------------------------------------------------------


def _members(owner: Culprit) -> list[_Member]:
    """Return what pickling `owner` would pickle in turn, as far as that can be found out."""
    members: list[_Member] = []
    try:
        members.extend(_split(owner.path, owner.value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110  user code may raise anything; keep what we have
        pass
    return members


def _split(path: str, value: Any) -> Iterator[_Member]:
    # type() and issubclass instead of isinstance: __class__ may be a property that raises.
    kind = type(value)
    if kind is list or kind is tuple:
        yield from _items(path, value)
    elif kind is dict:
        yield from _entries(path, value.items())
    elif kind is set or kind is frozenset:
        yield from (_Member(f"{path}.<element>", item) for item in value)
    elif kind is types.FunctionType:
        yield from _function_members(path, value)
    elif kind is types.MethodType:
        yield _Member(f"{path}.__self__", value.__self__, "the object of the bound method")
        yield _Member(f"{path}.__func__", value.__func__)
    elif kind is functools.partial:
        yield _Member(f"{path}.func", value.func)
        yield from _items(f"{path}.args", value.args)
        yield from _entries(f"{path}.keywords", value.keywords.items())
    elif kind is property:
        for part in ("fget", "fset", "fdel"):
            yield _Member(f"{path}.{part}", getattr(value, part))
    elif kind is staticmethod or kind is classmethod:
        yield _Member(f"{path}.__func__", value.__func__)
    elif kind is types.CellType:
        yield _Member(f"{path}.cell_contents", value.cell_contents)
    elif kind is types.MappingProxyType:
        yield from _entries(path, value.items())
    elif issubclass(kind, type):
        yield from _class_members(path, value)
    else:
        yield from _reduced_members(path, value)


def _items(path: str, items: Iterable[Any]) -> Iterator[_Member]:
    for index, item in enumerate(itertools.islice(items, MAX_ITEMS)):
        yield _Member(f"{path}[{index}]", item)


def _entries(path: str, entries: Iterable[tuple[Any, Any]]) -> Iterator[_Member]:
    for key, item in itertools.islice(entries, MAX_ITEMS):
        shown = _key(key)
        yield _Member(f"{path}[{shown}]", item)
        yield _Member(f"{path}.<key {shown}>", key)


def _function_members(path: str, function: types.FunctionType) -> Iterator[_Member]:
    """Yield closure variables, used globals, defaults and attributes, as cloudpickle sends them."""
    label = f"of function {_shorten(function.__qualname__, MAX_KEY)}"
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            contents = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        yield _Member(f"{path}.__closure__[{name!r}]", contents, f"closure variable {label}")
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            found = function.__globals__[name]
            yield _Member(f"{path}.__globals__[{name!r}]", found, f"global {label}")
    yield from _items(f"{path}.__defaults__", function.__defaults__ or ())
    yield from _entries(f"{path}.__kwdefaults__", (function.__kwdefaults__ or {}).items())
    yield from _attributes(path, function.__dict__)


def _global_names(code: types.CodeType) -> list[str]:
    """Return the names of the globals that `code` and the code inside it use, in order."""
    names: dict[str, None] = {}
    pending = [code]
    while pending:
        current = pending.pop()
        for instruction in dis.get_instructions(current):
            if instruction.opname in {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"}:
                names[instruction.argval] = None
        pending += [const for const in current.co_consts if type(const) is types.CodeType]
    return list(names)


def _class_members(path: str, cls: type) -> Iterator[_Member]:
    # Past the metaclass, which may hide or fake both.
    namespace = type.__dict__["__dict__"].__get__(cls)
    for name, member in namespace.items():
        if name not in {"__dict__", "__weakref__", "__slots__"} and type(member) not in {
            types.MemberDescriptorType,
            types.GetSetDescriptorType,
        }:
            yield _Member(f"{path}.{name}", member, f"attribute of class {_class_name(cls)}")
    yield from _items(f"{path}.__bases__", type.__dict__["__bases__"].__get__(cls))


def _reduced_members(path: str, value: Any) -> Iterator[_Member]:
    """Yield what the object's own __reduce_ex__ hands to the pickler."""
    kind = type(value)
    reducer = copyreg.dispatch_table.get(kind)
    reduced = reducer(value) if reducer is not None else value.__reduce_ex__(5)
    if type(reduced) is not tuple or not 2 <= len(reduced) <= 6:
        return
    callee, args, state, items, entries, _ = reduced + (None,) * (6 - len(reduced))
    if issubclass(kind, tuple):  # named tuples: by position instead of as arguments of __new__
        yield from _items(path, tuple.__iter__(value))
    elif type(args) is tuple:
        for index, argument in enumerate(args):
            if argument is kind:
                yield _Member(f"type({path})", argument)
            else:
                yield _Member(f"{path}.__reduce__()[1][{index}]", argument)
    yield _Member(f"{path}.__reduce__()[0]", callee)
    yield from _state_members(path, kind, state)
    if items is not None:
        yield from _items(path, items)
    if entries is not None:
        yield from _entries(path, entries)


def _state_members(path: str, kind: type, state: Any) -> Iterator[_Member]:
    # A tuple of two is what copyreg makes of __slots__: the __dict__ (or None) and the slots.
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    if all(part is None or type(part) is dict for part in parts):
        for part in parts:
            yield from _attributes(path, part or {})
        return
    fields = list(getattr(kind, "__dataclass_fields__", ()))
    if type(state) is list and len(state) == len(fields):  # a frozen dataclass with slots
        yield from _attributes(path, dict(zip(fields, state, strict=True)))
        return
    yield _Member(f"{path}.__getstate__()", state)


def _attributes(path: str, namespace: dict[Any, Any]) -> Iterator[_Member]:
    for name, item in namespace.items():
        plain = type(name) is str and name.isidentifier()
        yield _Member(f"{path}.{name}" if plain else f"{path}.__dict__[{_key(name)}]", item)


# --- text -------------------------------------------------------------------------------------


def _line(culprit: Culprit) -> str:
    return f"{culprit.path}: {culprit.reason}" + (f" ({culprit.note})" if culprit.note else "")


def _reason(error: BaseException) -> str:
    """Return the text of `error` on one line, with its type if that says something."""
    kind = _class_name(type(error))
    try:
        text = " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a hostile __str__
        text = ""
    if not text:
        return f"pickling it raises {kind}"
    text = _shorten(text, MAX_REASON)
    return text if kind in {"TypeError", "PicklingError"} else f"{kind}: {text}"


def _key(key: Any) -> str:
    """Return `key` as it would stand in brackets; only the type of one whose repr is not ours."""
    if type(key) in {str, bytes}:
        return _shorten(repr(key[:MAX_KEY]), MAX_KEY) if len(key) > MAX_KEY else repr(key)
    if type(key) in {int, float, complex, bool, type(None)}:
        try:
            return repr(key)
        except ValueError:  # an int with more digits than Python prints
            return "<int>"
    return f"<{_class_name(type(key))}>"


def _class_name(cls: type) -> str:
    # Past the metaclass, whose __name__ may be a property that raises.
    return _shorten(str(type.__dict__["__qualname__"].__get__(cls)), MAX_KEY)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
