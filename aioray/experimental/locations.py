"""Tells where objects lie, which on one machine is there, and how large they are.

Room: api. Source: Ray API, ray.experimental.get_object_locations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioray.client.refs import ObjectRef

__all__ = ["get_local_object_locations", "get_object_locations"]


def get_object_locations(
    obj_refs: Sequence[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """Tell where the values of refs lie, by ref.

    Each has "node_ids", which is empty while there is no value; "object_size", its bytes when it is
    serialized, or None; and "did_spill", whether it has gone to disk. timeout_ms: at most so long
    the session may take to answer; -1: the usual time.
    Raises TypeError for what is no list of refs, TimeoutError.
    """
    from aioray.api.session import client_for_call
    from aioray.client.refs import ObjectRef

    if not isinstance(obj_refs, list | tuple | set):
        raise TypeError(f"get_object_locations() takes a list of refs, got {obj_refs!r}")
    for ref in obj_refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"get_object_locations() takes refs, got {ref!r} in the list")
    client: Any = client_for_call()
    patience = 30.0 if timeout_ms < 0 else timeout_ms / 1000
    rows = client.own_session().ask("objects", patience)
    known = {row["object_id"]: row for row in rows if row["object_size"] >= 0}
    return {ref: _location(known.get(ref.hex()), client.node_id) for ref in obj_refs}


get_local_object_locations = get_object_locations  # all of it is local


def _location(row: dict[str, Any] | None, node: str) -> dict[str, Any]:
    if row is None:
        return {"node_ids": [], "object_size": None, "did_spill": False}
    spilled = row["location"] == "disk"
    return {"node_ids": [node], "object_size": row["object_size"], "did_spill": spilled}
