"""What libraries import from `ray._private.state`, or from `ray.state`, its old place.

Room: api. The public ways to the same are `nodes`, `cluster_resources`, `available_resources`
and the state API.
"""

from __future__ import annotations

from typing import Any

from aioray.api.cluster import available_resources, cluster_resources, nodes, timeline
from aioray.api.session import client_for_call

__all__ = [
    "GlobalState",
    "actors",
    "available_resources",
    "available_resources_per_node",
    "cluster_resources",
    "nodes",
    "state",
    "timeline",
    "total_resources_per_node",
]


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """Return what nobody holds, by the ids of nodes, of which there is one."""
    (node,) = nodes()
    return {node["NodeID"]: _with_node(node, available_resources())}


def total_resources_per_node() -> dict[str, dict[str, float]]:
    """Return all resources, by the ids of nodes, of which there is one."""
    (node,) = nodes()
    return {node["NodeID"]: _with_node(node, cluster_resources())}


def _with_node(node: dict[str, Any], resources: dict[str, float]) -> dict[str, float]:
    # Libraries look for the node's own resource, to learn its address.
    return {f"node:{node['NodeManagerAddress']}": 1.0, **resources}


def actors(
    actor_id: str | None = None, job_id: Any = None, actor_state_name: str | None = None
) -> dict[str, Any]:
    """Return the actors of the session by id, or the one with this id; {} if there is none.

    job_id: a JobID or its digits; actor_state_name: "ALIVE" and so on: only those.
    """
    from aioray.util.state import list_actors

    client_for_call()
    job = job_id.hex() if job_id is not None and not isinstance(job_id, str) else job_id
    rows = {
        row.actor_id: _described(row)
        for row in list_actors(detail=True, limit=10_000, raise_on_missing_output=False)
        if actor_id in (None, row.actor_id)
        and job in (None, row.job_id)
        and actor_state_name in (None, row.state)
    }
    return rows if actor_id is None else rows.get(actor_id, {})


def _described(row: Any) -> dict[str, Any]:
    address = {"IPAddress": "127.0.0.1", "Port": 0, "NodeID": row.node_id}
    return {
        "ActorID": row.actor_id,
        "ActorClassName": row.class_name,
        "IsDetached": bool(row.is_detached),
        "Name": row.name,
        "JobID": row.job_id,
        "Address": address,
        "OwnerAddress": address,
        "State": row.state,
        "NumRestarts": int(row.num_restarts or 0),
        "Pid": row.pid,
    }


class GlobalState:
    """The object that Ray keeps these functions on."""

    actor_table = staticmethod(actors)
    node_table = staticmethod(nodes)

    @staticmethod
    def placement_group_table(placement_group_id: Any = None) -> dict[str, Any]:
        """Tell what is known of a placement group, by its id, or of all."""
        from aioray.util.placement_group import PlacementGroup, placement_group_table

        if placement_group_id is None:
            return placement_group_table()
        return placement_group_table(PlacementGroup(placement_group_id))


state = GlobalState()
