"""What a long `wait` leaves: a list of refs that are not ready, cheap to wait for again.

Room: client. A program that takes results as they come passes the second list of `wait` to the next
`wait`, thousands of times. To copy thousands of refs each time, and to check and look at every one,
would cost more than the tasks. So a long rest is a `Rest`: a list whose refs lie in blocks, which
it shares with the list that it came from, but for the changed ones. It fills itself, and is a list
like any other, as soon as somebody looks into it. What is known of the refs goes from one rest to
the next: that they are refs, each there once, of one client; and the `CompletionQueue`, which has
the places of those that have become ready since.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .refs import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .entry import ObjectEntry
    from .protocol import Client

__all__ = ["LONG_REST", "CompletionQueue", "PlainCompletions", "Rest"]

T = TypeVar("T")

LONG_REST = 128  # refs from which on a rest costs less than a plain list
BLOCK = 256  # refs; of n refs, a wait copies one block, and n / BLOCK references to blocks
FIRST = 64  # refs of which it is asked first whether enough are ready
SPARSE = 16  # places for each ref that is left, with which they are numbered anew


def _entries(refs: Iterable[ObjectRef[Any]]) -> set[ObjectEntry]:
    return {ref.entry for ref in refs}


class CompletionQueue(Protocol):
    """Knows the places of those of many refs that are ready and were not taken."""

    def wait(self, num_returns: int, timeout: float | None) -> list[int]:
        """Block as `Client.wait`, then take the first `num_returns` that are ready, or all if less.

        Return their places, in order.
        """
        ...

    def add(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Give these the places that follow; False: one has a place, and nothing was done."""
        ...


class PlainCompletions:
    """The completions of a client that has to ask for every ref whenever it waits.

    Most are ready in about their order: if enough of the first are, it asks for no more.
    """

    def __init__(self, client: Client, refs: Sequence[ObjectRef[Any]]) -> None:
        self._client = client
        self._refs: list[ObjectRef[Any] | None] = list(refs)  # None: it was taken
        self._first = 0  # place of the first that was not
        self._asks_first = True  # the first had enough the last time

    def wait(self, num_returns: int, timeout: float | None) -> list[int]:
        """Wait for those that are left. See `CompletionQueue.wait`."""
        left = self._left()
        if self._asks_first and num_returns <= FIRST:
            some = dict(itertools.islice(left, FIRST))
            places = self._ask(some, min(num_returns, len(some)), 0.0)
            if len(places) == num_returns:
                return self._take(places)
            some.update(left)
        else:
            some = dict(left)
        places = self._ask(some, num_returns, timeout)
        last = next(itertools.islice(some, FIRST - 1, None), len(self._refs))
        self._asks_first = bool(places) and places[-1] <= last
        return self._take(places)

    def _left(self) -> Iterator[tuple[int, ObjectRef[Any]]]:
        """Yield the refs that were not taken, with their places."""
        refs = self._refs
        while self._first < len(refs) and refs[self._first] is None:
            self._first += 1
        for place in range(self._first, len(refs)):
            ref = refs[place]
            if ref is not None:
                yield place, ref

    def _ask(
        self, refs: dict[int, ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> list[int]:
        found = self._client.wait(list(refs.values()), num_returns, timeout)
        return list(itertools.islice(itertools.compress(refs, found), num_returns))

    def _take(self, places: list[int]) -> list[int]:
        for place in places:
            self._refs[place] = None
        return places

    def add(self, refs: Sequence[ObjectRef[Any]]) -> bool:
        """Take more refs. See `CompletionQueue.add`."""
        if not _entries(filter(None, self._refs)).isdisjoint(_entries(refs)):
            return False
        self._refs.extend(refs)
        return True


class _Known:
    """The refs of a rest, each there once, all of one client. It never changes."""

    __slots__ = ("blocks", "completions", "places", "size")

    def __init__(
        self,
        blocks: list[list[Any]],
        places: int,
        size: int,
        completions: list[CompletionQueue | None],
    ) -> None:
        self.blocks = blocks  # None in the place of a ref that was taken; empty: all 256 were
        self.places = places  # with those of refs that were taken
        self.size = size  # refs
        # What to wait with; None: yet to be made. Empty as soon as somebody waits with it.
        self.completions = completions

    @classmethod
    def of(cls, refs: list[Any]) -> _Known:
        blocks = [[*refs[at : at + BLOCK]] for at in range(0, len(refs), BLOCK)]
        return cls(blocks, len(refs), len(refs), [None])

    def refs(self) -> list[Any]:
        return [*filter(None, itertools.chain.from_iterable(self.blocks))]

    def take(self, places: list[int], completions: CompletionQueue) -> tuple[list[Any], _Known]:
        """Return the refs at these places, and the others, which these completions know."""
        taken: list[Any] = []
        blocks = self.blocks.copy()
        copied = -1
        for place in places:
            number, index = divmod(place, BLOCK)
            if number != copied:
                copied, blocks[number] = number, blocks[number].copy()
            block = blocks[number]
            taken.append(block[index])
            block[index] = None
            if index == BLOCK - 1 and not any(block):
                blocks[number] = []  # mostly they are taken from the front
        return taken, _Known(blocks, self.places, self.size - len(taken), [completions])

    def add(self, refs: list[Any], completions: CompletionQueue) -> _Known | None:
        """Return all of these and some more, if that can be known of them."""
        owner = next(filter(None, itertools.chain.from_iterable(self.blocks))).entry.client
        for ref in refs:
            if type(ref) is not ObjectRef or ref.entry.client is not owner:
                return None
        if len(_entries(refs)) != len(refs) or not completions.add(refs):
            return None
        blocks = self.blocks.copy()
        places = self.places
        if places % BLOCK:
            blocks[-1] = blocks[-1].copy()
        for place, ref in enumerate(refs, places):
            if place % BLOCK == 0:
                blocks.append([])
            blocks[-1].append(ref)
        return _Known(blocks, places + len(refs), self.size + len(refs), [completions])


class Rest(list[T]):
    """A list of refs that were not ready. It fills itself when somebody looks into it."""

    __slots__ = ("_appended", "_is_filled", "_known")

    _known: _Known | None  # None: the list was changed, otherwise than by `append`
    _appended: list[T]  # after what is known
    _is_filled: bool  # all of it is in the list itself, too

    @classmethod
    def of(cls, refs: list[T]) -> Rest[T]:
        """Make a rest of many refs, each there once, all of one client."""
        return cls._of(_Known.of(refs))

    @classmethod
    def _of(cls, known: _Known) -> Rest[T]:
        rest: Rest[T] = cls.__new__(cls)
        rest._known, rest._appended, rest._is_filled = known, [], False
        return rest

    def wait(self, num_returns: int, timeout: float | None) -> tuple[list[T], list[T]] | None:
        """Wait as `aioray.wait`; None: nothing is known of what is in the list now."""
        known = self._known
        try:
            completions = known.completions.pop()  # type: ignore[union-attr]
        except (AttributeError, IndexError):  # changed; or somebody else has taken some of them
            return None
        assert known is not None
        appended = self._appended
        if completions is None or known.places > SPARSE * known.size:
            known = _Known.of(known.refs())
            refs = known.refs()
            completions = refs[0].entry.owner().completions(refs)
        if appended:
            more = known.add(appended, completions)
            if more is None:
                return None
            known = more
        known.completions.clear()  # if this is interrupted, nobody goes on with them
        places = completions.wait(num_returns, timeout)
        if places:
            taken, known = known.take(places, completions)
            return taken, known.refs() if known.size < LONG_REST else self._of(known)
        known.completions.append(completions)
        if self._appended is appended:
            self._known, self._appended = known, []
        return [], self._of(known)

    def append(self, ref: T) -> None:
        """Append a ref, which becomes known with the next wait."""
        if self._known is None:
            super().append(ref)
            return
        self._appended.append(ref)
        if self._is_filled:
            super().append(ref)

    def _fill(self) -> None:
        """Have everything in the list itself."""
        if not self._is_filled:
            self._is_filled = True
            assert self._known is not None
            super().extend(self._known.refs())
            super().extend(self._appended)

    def _change(self) -> None:
        """Have everything in the list itself alone: it will not be what is known."""
        self._fill()
        self._known, self._appended = None, []

    def __len__(self) -> int:
        if self._is_filled or self._known is None:
            return super().__len__()
        return self._known.size + len(self._appended)

    def __radd__(self, _other: Any) -> Any:
        self._fill()
        return NotImplemented  # list's own, which looks straight into both, goes on

    def __reduce_ex__(self, _protocol: Any) -> tuple[type[list[T]], tuple[list[T]]]:
        return list, ([*self],)


def _prepared(name: str, prepare: Callable[[Rest[Any]], None]) -> Callable[..., Any]:
    """Make list's method of a name, to be called after this."""
    method = getattr(list, name)

    def prepared(self: Rest[Any], *args: Any, **kwargs: Any) -> Any:
        prepare(self)
        return method(self, *args, **kwargs)

    prepared.__name__ = name
    prepared.__doc__ = method.__doc__
    return prepared


_LOOK = "add contains eq ge getitem gt iter le lt mul ne repr reversed rmul"
_CHANGE = "delitem iadd imul setitem"
_METHODS = {
    Rest._fill: [*(f"__{name}__" for name in _LOOK.split()), "copy", "count", "index"],
    Rest._change: [
        *(f"__{name}__" for name in _CHANGE.split()),
        *("clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
    ],
}
for _prepare, _names in _METHODS.items():
    for _name in _names:
        setattr(Rest, _name, _prepared(_name, _prepare))
