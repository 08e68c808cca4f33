"""Iterating over results in the order in which they come.

Room: api. Written with `wait` and `get` alone, so it works wherever these do.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from aioray.api.objects import get, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aioray.api.call_types import Remote
    from aioray.client.refs import ObjectRef

__all__ = ["as_completed", "map_unordered"]

A = TypeVar("A")
T = TypeVar("T")


@overload
def as_completed(
    refs: Sequence[ObjectRef[T]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: Literal[False] = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[T]: ...
@overload
def as_completed(
    refs: Sequence[ObjectRef[T]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: Literal[True],
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[ObjectRef[T]]: ...
@overload
def as_completed(
    refs: Sequence[ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]: ...


def as_completed(
    refs: Sequence[ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Yield the values of `refs`, a list, as they become ready.

    A task's error is raised at its place, and ends the iteration; with yield_obj_refs the refs are
    yielded instead, those of failed tasks too. chunk_size: how many to wait for at a time; with 1
    each value comes as soon as it is there, with more the waiting costs less where refs are many.
    timeout: seconds after which such a wait is content with fewer than chunk_size; it is no limit
    for the whole and never raises. options: others of `wait`, such as fetch_local.
    Raises, at the first `next`, ValueError for a chunk_size below 1, for num_returns and for
    duplicates; TypeError for what is no list of refs.
    Source: Ray API reference, ray.util.as_completed. Unlike Ray's, values that stand before an
    error in one chunk are yielded before it is raised.
    """
    _check_chunk_size(chunk_size, options)
    pending: Any = refs  # `wait` says what is wrong with them
    while len(pending):
        done, pending = _wait_for_some(pending, chunk_size, timeout, options)
        yield from done if yield_obj_refs else (get(ref) for ref in done)


@overload
def map_unordered(
    fn: Remote[Callable[[A], object], ObjectRef[T]],
    items: Iterable[A] | Iterable[ObjectRef[A]],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: Literal[False] = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[T]: ...
@overload
def map_unordered(
    fn: Remote[Callable[[A], object], ObjectRef[T]],
    items: Iterable[A] | Iterable[ObjectRef[A]],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: Literal[True],
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[ObjectRef[T]]: ...
@overload
def map_unordered(
    fn: Remote[Callable[[A], object], ObjectRef[Any]],
    items: Iterable[A] | Iterable[ObjectRef[A]],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]: ...


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Yield `fn.remote(item)`'s value for each of `items`, as they become ready.

    fn: a remote function, or one with `.options(...)`. backpressure_size: tasks that are submitted
    and not yielded yet, at most; None: all at once. Items are taken from the iterable as room
    arises, so it may be endless. The rest is as in `as_completed`; a chunk is never larger than
    backpressure_size.
    Raises, at the first `next`, ValueError for a backpressure_size or chunk_size below 1.
    Source: Ray API reference, ray.util.map_unordered.
    """
    if backpressure_size is not None and backpressure_size <= 0:
        raise ValueError("backpressure_size must be positive.")
    _check_chunk_size(chunk_size, options)
    rest = iter(items)
    pending: list[Any] = []
    while True:
        room = None if backpressure_size is None else backpressure_size - len(pending)
        for item in islice(rest, room):
            pending.append(fn.remote(item))  # noqa: PERF401 - what `wait` left is best appended to
        if not pending:
            return
        done, pending = _wait_for_some(pending, chunk_size, timeout, options)
        yield from done if yield_obj_refs else (get(ref) for ref in done)


def _check_chunk_size(chunk_size: int, options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
    if "num_returns" in options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")


def _wait_for_some(
    refs: list[Any], chunk_size: int, timeout: float | None, options: dict[str, Any]
) -> tuple[list[Any], list[Any]]:
    """Wait for a chunk, or after a time-out for one ref; return those ready, and the rest."""
    count = min(int(chunk_size), len(refs))
    done, pending = wait(refs, num_returns=count, timeout=timeout, **options)
    return (done, pending) if done else wait(pending, num_returns=1, **options)
