"""Makes `import ray` mean aioray: the public home of `install` and `uninstall`.

Room: api. The functions are in `aioray.compat.alias`.
"""

from __future__ import annotations

from aioray.compat.alias import PATH, install, installed, uninstall

__all__ = ["PATH", "install", "installed", "uninstall"]
