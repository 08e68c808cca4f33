"""What libraries import from `ray._private.services`.

Room: api.
"""

from aioray.util import get_node_ip_address

__all__ = ["get_node_ip_address"]
