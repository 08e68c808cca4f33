"""A small key-value store that all tasks, actors and the driver of a session share.

Room: api. Ray keeps it in its control service and calls it internal, yet libraries use it; here it
lives in the driver as long as the session. Keys and values are bytes, or str, which is encoded.
"""

from __future__ import annotations

from typing import Any

from aioray.api.session import client_for_call, is_initialized

__all__ = [
    "_internal_kv_del",
    "_internal_kv_exists",
    "_internal_kv_get",
    "_internal_kv_initialized",
    "_internal_kv_list",
    "_internal_kv_put",
]


def _internal_kv_initialized() -> bool:
    """Tell whether there is a session, and so a store."""
    return is_initialized()


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """Return the value of `key`, or None. AssertionError for a key neither bytes nor str."""
    found: bytes | None = _ask("get", namespace, key)
    return found


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Tell whether `key` has a value."""
    return _ask("get", namespace, key) is not None


def _internal_kv_put(
    key: str | bytes,
    value: str | bytes,
    overwrite: bool = True,
    *,
    namespace: str | bytes | None = None,
) -> bool:
    """Set the value of `key`, and say whether it had one; that stays if not `overwrite`."""
    existed: bool = _ask("put", namespace, key, _in_bytes(value, "value"), overwrite)
    return existed


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Delete `key`, or all keys that begin with it, and say how many."""
    deleted: int = _ask("delete", namespace, key, b"", del_by_prefix)
    return deleted


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """List the keys that begin with `prefix`."""
    found: list[bytes] = _ask("list", namespace, prefix)
    return found


def _ask(verb: str, namespace: str | bytes | None, key: object, *rest: Any) -> Any:
    space = b"" if namespace is None else _in_bytes(namespace, "namespace")
    return client_for_call().key_values(verb, space, _in_bytes(key, "key"), *rest)


def _in_bytes(text: object, what: str) -> bytes:
    assert isinstance(text, str | bytes), (
        f"A {what} of the key-value store must be bytes or str, got {type(text).__name__}."
    )
    return text.encode() if isinstance(text, str) else text
