"""Which actors have names.

Room: api. Asks the client of the call; to get one of them is `aioray.get_actor`.
"""

from __future__ import annotations

from aioray.api.session import client_for_call

__all__ = ["list_named_actors"]


def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """List the names of the living actors that have one, in the namespace of the session.

    all_namespaces: for each a dict of "name" and "namespace" instead, wherever it is.
    Source: Ray API reference, ray.util.list_named_actors.
    """
    client = client_for_call()
    found = client.named_actors()
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in found]
    return [name for namespace, name in found if namespace == client.namespace]
