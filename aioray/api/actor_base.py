"""`Actor`, a base of classes whose actors' handles type checkers know. Also reached as
`aioray.actor.Actor`.

Room: api: a class that is loaded in a worker takes it along, so it stands alone.
"""

from __future__ import annotations

# Type checkers take it to be true. The one of `typing` would load that module in every worker.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from .actor_types import Actor
else:

    class Actor:
        """A base for classes that become actor classes, which tells type checkers of it.

            @aioray.remote
            class Counter(aioray.actor.Actor):
                def __init__(self, start: int) -> None: ...

                @aioray.method
                def add(self, by: int) -> int: ...

        It does nothing when a program runs. To a type checker the class has `remote` and `options`,
        and what `Counter.remote(5)` gives has the methods that are decorated with
        `@aioray.method`, with their arguments and results: `counter.add.remote(2)` is an
        ObjectRef[int], and of "2" in that place it complains. mypy, which does not look at what
        decorators make of classes (python/mypy#3135), then knows decorated classes as well.
        Beyond Ray.
        """

        __slots__ = ()


__all__ = ["Actor"]
