"""The category of warnings about what is deprecated in Ray, for those who warn and who filter.

Room: shared. Its public home is `aioray.util.annotations`.
"""

__all__ = ["RayDeprecationWarning"]


class RayDeprecationWarning(DeprecationWarning):
    """The category of Ray's deprecation warnings, for programs that filter it."""
