"""`multiprocessing.Pool` on tasks, under the name that Ray's has.

Room: services. The names are those of `ray.util.multiprocessing`. Workers import `chunks`, below
this package, and not the pool, so the names resolve on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from multiprocessing import JoinableQueue, TimeoutError  # noqa: A004 - multiprocessing's name

    from aioray.util.multiprocessing.pool import Pool
else:

    def __getattr__(name):
        if name == "Pool":
            from aioray.util.multiprocessing.pool import Pool

            return Pool
        if name in __all__:
            import multiprocessing

            return getattr(multiprocessing, name)
        from aioray.compat.names import look_up

        return look_up("aioray.util.multiprocessing", name)


__all__ = ["JoinableQueue", "Pool", "TimeoutError"]


def __dir__() -> list[str]:
    """List the public names, also those that nobody has asked for yet, and no others."""
    return sorted(__all__)
