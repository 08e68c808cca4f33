"""`ray.logger`: the logger that libraries share with Ray.

Room: facade. aioray's own is "aioray".
"""

import logging

__all__ = ["logger"]

logger = logging.getLogger("ray")
