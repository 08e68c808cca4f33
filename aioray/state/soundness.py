"""What stored attributes look like, so that a damaged history shows what is whole, no more.

Room: state; stdlib only. A file may have been changed by a bad disk, a full one, or an editor. Who
reads attributes has them checked here once and can trust them afterwards: a field that is not what
it should be gets what stands for "unknown"; an entity without what it is known by is left out.
Columns of tables are checked by SQLite itself, with the conditions below, which costs next to
nothing.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ..shared import ids
from .schema import MAP_COUNTS, MAP_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Any], bool]
    Fields = Mapping[str, tuple[Check, Any]]

__all__ = [
    "ATTEMPT_IS_SOUND",
    "EVENT_IS_SOUND",
    "FIELDS",
    "OUTPUT_IS_SOUND",
    "RUNNING_IS_SOUND",
    "checked",
    "parsed",
]

EARLIEST, LATEST = -1e10, 1e11  # Unix seconds; the years 1653 and 5138
_INTEGERS = 2**63
_REQUIRED: Any = object()  # without it the thing is unknown


def parsed(text: Any) -> Any:
    """Return what a JSON text says; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def checked(attributes: Any, fields: Fields) -> tuple[dict[str, Any] | None, bool]:
    """Return the attributes with all `fields`, or None if useless; and whether all was whole.

    What may be missing gets its default, and that is no damage.
    """
    if not isinstance(attributes, dict):
        return None, False
    whole = True
    found = dict(attributes)
    for name, (check, default) in fields.items():
        if name in attributes and check(attributes[name]):
            continue
        if default is _REQUIRED:
            return None, False
        whole = whole and name not in attributes
        found[name] = default
    return found, whole


# ------------------------------------------------------------ values


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INTEGERS


def _number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _INTEGERS
    return isinstance(value, float) and math.isfinite(value)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and len(value) == len(MAP_COUNTS) and all(map(_count, value))


def _moment(value: Any) -> bool:
    return _number(value) and EARLIEST <= value <= LATEST


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _any(value: Any) -> bool:
    return True


def _death(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("reason", "error_message")
    )


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _id(size: int) -> Check:
    digits = frozenset("0123456789abcdef")
    return lambda value: (
        isinstance(value, str) and len(value) == 2 * size and digits.issuperset(value)
    )


def _one_of(*choices: str) -> Check:
    return lambda value: isinstance(value, str) and value in choices


# ------------------------------------------------------------ entities

_maybe_text, _maybe_moment = (_maybe(_text), None), (_maybe(_moment), None)
_maybe_mapping = (_maybe(_mapping), None)

FIELDS: dict[str, Fields] = {
    "meta": {
        "job": (_id(ids.JOB_ID_SIZE), _REQUIRED),
        "node_id": (_text, ""),
        "pid": (_maybe(_count), None),
        "ip": _maybe_text,
        "session": (_text, ""),
        "namespace": (_text, ""),
        "entrypoint": (_text, ""),
        "started_at": _maybe_moment,
        "ended_at": _maybe_moment,
        "total": (_amounts, {}),
        "labels": (_mapping, {}),
        "metadata": (_mapping, {}),
        "runtime_env": (_mapping, {}),
    },
    "signature": {
        "name": (_text, _REQUIRED),
        "type": (_one_of("NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK"), "NORMAL_TASK"),
        "func_or_class_name": (_text, ""),
        "actor_id": (_maybe(_id(ids.TASK_ID_SIZE - 8)), None),
        "creation": (_maybe(_id(ids.TASK_ID_SIZE)), None),
        "required_resources": (_maybe(_amounts), None),
        "placement_group_id": _maybe_text,
        "runtime_env": _maybe_mapping,
        "label_selector": _maybe_mapping,
        "call_site": _maybe_text,
        "fallback_strategy": _maybe_mapping,
    },
    "map": {
        "task_id": (_id(ids.TASK_ID_SIZE), _REQUIRED),
        "signature": (_count, _REQUIRED),
        "parent": (_maybe(_id(ids.TASK_ID_SIZE)), None),
        "state": (_one_of(*MAP_STATES), _REQUIRED),
        "counts": (_counts, _REQUIRED),
        "created": (_moment, _REQUIRED),
        "ended": _maybe_moment,
        "error_type": _maybe_text,
        "error_message": _maybe_text,
    },
    "worker": {
        "number": (_count, _REQUIRED),
        "worker_id": (_text, _REQUIRED),
        "pid": (_maybe(_count), None),
        "is_alive": (_flag, False),
        "worker_type": (_one_of("WORKER", "DRIVER"), "WORKER"),
        "exit_type": _maybe_text,
        "exit_detail": _maybe_text,
        "launched": _maybe_moment,
        "forked": _maybe_moment,
        "ready": _maybe_moment,
        "ended": _maybe_moment,
        "actor_id": _maybe_text,
    },
    "actor": {
        "actor_id": (_id(ids.TASK_ID_SIZE - 8), _REQUIRED),
        "class_name": (_text, _REQUIRED),
        "state": (_text, _REQUIRED),
        "job_id": (_text, ""),
        "name": (_maybe(_text), ""),
        "node_id": _maybe_text,
        "pid": (_maybe(_count), None),
        "ray_namespace": _maybe_text,
        "serialized_runtime_env": _maybe_mapping,
        "required_resources": (_maybe(_amounts), None),
        "death_cause": (_maybe(_death), None),
        "is_detached": (_maybe(_flag), None),
        "placement_group_id": _maybe_text,
        "repr_name": (_maybe(_text), ""),
        "num_restarts": (_count, 0),
        "num_restarts_due_to_lineage_reconstruction": (_count, 0),
        "num_restarts_due_to_node_preemption": (_count, 0),
        "call_site": _maybe_text,
        "label_selector": _maybe_mapping,
        "fallback_strategy": (_any, None),
        "worker": (_maybe(_count), None),
        "created": _maybe_moment,
        "ended": _maybe_moment,
    },
    "placement_group": {
        "placement_group_id": (_text, _REQUIRED),
        "name": (_text, ""),
        "creator_job_id": (_text, ""),
        "state": (_text, _REQUIRED),
        "bundles": (_maybe(_list), None),
        "is_detached": (_maybe(_flag), None),
        "stats": _maybe_mapping,
        "topology_strategy": _maybe_mapping,
        "topology_assignments": _maybe_mapping,
        "ended": _maybe_moment,
    },
}
"""What is known of each kind of entity: how to check a field, and what stands for a bad one."""

# ------------------------------------------------------------ columns


def _is_moment(column: str) -> str:
    kind = f"typeof({column}) IN ('real', 'integer')"
    return f"({kind} AND {column} BETWEEN {EARLIEST:.0f} AND {LATEST:.0f})"


def _is_null_or(condition: str, column: str) -> str:
    return f"({column} IS NULL OR {condition})"


def _is(kind: str, column: str) -> str:
    return f"typeof({column}) = '{kind}'"


def _is_id(column: str) -> str:
    return f"(typeof({column}) = 'blob' AND length({column}) = {ids.TASK_ID_SIZE})"


_IS_NUMBER = "typeof({0}) = 'integer' AND {0} >= 0"
_BEGUN = " AND ".join(
    (
        _IS_NUMBER.format("signature"),
        f"({_IS_NUMBER.format('task_key')} OR {_is_id('task_key')})",
        _IS_NUMBER.format("attempt") + " AND attempt <= 4294967295",
        _is_null_or(_is_id("parent"), "parent"),
        *(_is_null_or(f"({_IS_NUMBER.format(name)})", name) for name in ("worker", "seq")),
        _is_moment("created"),
        *(_is_null_or(_is_moment(name), name) for name in ("ready", "sent", "started")),
    )
)
ATTEMPT_IS_SOUND = " AND ".join(
    (
        _BEGUN,
        _is_moment("ended"),
        *(_is_null_or(_is("text", name), name) for name in ("error_type", "error_message")),
    )
)
"""A condition on rows of `attempts`."""
RUNNING_IS_SOUND = _BEGUN
"""A condition on rows of `running`."""
EVENT_IS_SOUND = " AND ".join(
    (_is_moment("at"), *(_is("text", name) for name in ("severity", "source", "message")))
)
"""A condition on rows of `events`."""
OUTPUT_IS_SOUND = f"{_is('blob', 'data')} AND {_is_moment('at')}"
"""A condition on rows of `output`."""
