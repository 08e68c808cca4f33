"""Which rows are wanted: filters such as `state=FAILED`, and limits.

Room: state. A filter names a column, one of the two predicates `=` and `!=`, and a value; several
are joined by "and". Text compares without regard to case, whole numbers and truth values are read
from text. A row that has no value there matches neither predicate. Nothing here knows where values
come from: `matcher` makes a function that judges one value. Source: Ray API reference, State CLI.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...core.records import NamedTuple
from .columns import ID_SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .columns import Column, Resource

__all__ = [
    "DEFAULT_LIMIT",
    "Filter",
    "FilterFormatError",
    "QueryError",
    "UnknownKeyError",
    "check_filters",
    "check_id",
    "check_key",
    "check_limit",
    "contradiction",
    "matcher",
    "max_limit",
    "parse_filter",
]

DEFAULT_LIMIT = 100  # rows
PREDICATES = ("=", "!=")

_TRUE, _FALSE = ("true", "1"), ("false", "0")


class QueryError(ValueError):
    """A question that cannot be answered as it was asked: a bad key, value, id or limit."""


class UnknownKeyError(QueryError):
    """A filter names a column that the resource does not have."""


class FilterFormatError(QueryError):
    """A filter is not of the form `key=value` or `key!=value`."""


class Filter(NamedTuple):
    """One condition."""

    key: str
    predicate: str  # one of PREDICATES
    value: Any  # str from the command line; Python may give int, float and bool too


def parse_filter(text: str) -> Filter:
    """Read `key=value` or `key!=value`; the first predicate in it counts.

    Raises FilterFormatError if there is none, or nothing before or after it.
    """
    hint = "Please provide key=val or key!=val format string."
    before, sign, value = text.partition("=")
    if not sign:
        raise FilterFormatError(
            f"The format of a given filter {text} is invalid: Cannot find the predicate. {hint}"
        )
    key, predicate = (before[:-1], "!=") if before.endswith("!") else (before, "=")
    if not key or not value:
        raise FilterFormatError(
            f"The format of a given filter {text} is invalid: "
            f"Cannot identify key {key} or value, {value}. {hint}"
        )
    return Filter(key, predicate, value)


def check_key(resource: Resource, key: str) -> None:
    """Raise UnknownKeyError, which lists the columns, if `resource` has no column `key`."""
    if resource.column(key) is None:
        names = ", ".join(column.name for column in resource.columns)
        raise UnknownKeyError(
            f"Invalid filter key '{key}' for resource '{resource.name}'. "
            f"Available filter keys are: {names}"
        )


def check_filters(resource: Resource, filters: Iterable[Any]) -> list[Filter]:
    """Read filters, triples of key, predicate and value, with values as their columns have them.

    Raises FilterFormatError for what is no such triple; QueryError for a column that does not
    exist or cannot be filtered by, and for a value that no such column can have.
    """
    checked = []
    for item in filters:
        if isinstance(item, str) or len(item) != 3:
            raise FilterFormatError(
                f'A filter is a triple such as ("state", "=", "FAILED"), not {item!r}.'
            )
        key, predicate, value = item
        if predicate not in PREDICATES:
            raise FilterFormatError(
                f"Unsupported filter predicate {predicate} is given. "
                f"Available predicates: {', '.join(PREDICATES)}."
            )
        if not isinstance(value, str | bool | int | float):
            raise FilterFormatError(
                f"The value of a filter is a str, bool, int or float, not {value!r}."
            )
        column = resource.column(str(key))
        if column is None or not column.filterable:
            names = ", ".join(column.name for column in resource.columns if column.filterable)
            raise QueryError(
                f"The given filter column {key} is not supported. Enter filters with "
                f"--filter key=value or --filter key!=value. Supported filter columns: {names}"
            )
        checked.append(Filter(column.name, predicate, _converted(resource, column, value)))
    return checked


def _converted(resource: Resource, column: Column, value: Any) -> Any:
    given = f"Invalid filter `--filter {column.name} {value}` for"
    name = column.name
    if column.kind == "int":
        try:
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise ValueError
            return int(value)
        except ValueError:
            raise QueryError(
                f"{given} a int type column. Please provide an integer filter "
                f"`--filter {name} [int]`"
            ) from None
    if column.kind == "bool":
        text = str(value).lower()
        if text in _TRUE + _FALSE:
            return text in _TRUE
        raise QueryError(
            f"{given} a boolean type column. Please provide `--filter {name} [True|true|1]` for "
            f"True or `--filter {name} [False|false|0]` for False."
        )
    text = value if isinstance(value, str) else str(value)  # an id is a str of its digits
    if name in {"task_id", "actor_id", "job_id"} and resource.name in {"tasks", "actors"}:
        check_id(name, text)
    if resource.name == "actors" and name == "state" and text.upper() not in column.choices:
        raise QueryError(
            f"Invalid actor state for filtering: {text}. Use one of {', '.join(column.choices)}."
        )
    return text


def check_id(column: str, text: str) -> None:
    """Raise QueryError if `text` cannot be an id of this column; for some any text may be."""
    size = ID_SIZES.get(column)
    if size is None:
        return
    try:
        length = len(bytes.fromhex(text))
    except ValueError:
        raise QueryError(
            f"Non-hexadecimal digit found in {text!r}: an id has {2 * size} hexadecimal digits."
        ) from None
    if length != size:
        raise QueryError(f"ID string needs to have length {size}, got {length}")


def contradiction(filters: list[Filter]) -> str | None:
    """Explain that no row can match if two `=` want different values of a column; else None."""
    wanted: dict[str, Any] = {}
    for key, predicate, value in filters:
        if predicate != "=":
            continue
        first = wanted.setdefault(key, value)
        if _folded(first) != _folded(value):
            return (
                f"There are multiple '=' filters with the same key '{key}' but different values "
                f"'{first}' & '{value}'. Empty result set will be returned"
            )
    return None


def matcher(predicate: str, wanted: Any) -> Callable[[Any], bool]:
    """Make a function that tells whether a value of the column is what the filter wants."""
    folded = _folded(wanted)
    if predicate == "=":
        return lambda value: value is not None and _folded(value) == folded
    return lambda value: value is not None and _folded(value) != folded


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def check_limit(limit: int) -> None:
    """Raise QueryError for a limit below 0 or above what is allowed."""
    most = max_limit()
    if limit > most:
        raise QueryError(
            f"Given limit {limit} exceeds the supported limit {most}. Use a lower limit, or set "
            "the `RAY_MAX_LIMIT_FROM_API_SERVER` environment variable to a larger value."
        )
    if limit < 0:
        raise QueryError(f"Given limit {limit} is negative. Use 0 or more.")


def max_limit() -> int:
    """Return how many rows may be asked for: RAY_MAX_LIMIT_FROM_API_SERVER, 10,000 by default."""
    return int(os.environ.get("RAY_MAX_LIMIT_FROM_API_SERVER", "10000"))
