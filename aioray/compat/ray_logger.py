"""`ray.logger`: the logger that libraries share with Ray, and which programs set up to hear it.

Room: compat. aioray's own, "aioray", is its child: what a program does to "ray" applies to both,
unless it says otherwise of "aioray".
"""

import logging

__all__ = ["logger", "own"]

logger = logging.getLogger("ray")
own = logging.getLogger("aioray")
own.parent = logger
