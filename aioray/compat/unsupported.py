"""The error for a name that Ray has and aioray has not.

Room: compat. It stands apart from the other exceptions and from `features`, so that the face
can be asked for any name while `aioray.exceptions` is still being imported.
"""

from __future__ import annotations

from aioray.exceptions import UnsupportedFeatureError

__all__ = ["UnsupportedAttributeError"]


class UnsupportedAttributeError(UnsupportedFeatureError, AttributeError):
    """A name was read that Ray has and aioray has not.

    It is an AttributeError too, so that `hasattr` and `getattr` with a default work. It is not
    raised for a name that Ray does not have either: that is a plain AttributeError.
    """
