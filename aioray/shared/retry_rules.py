"""What `retry_exceptions` says of an error, where it is no plain yes or no.

Room: shared. Runs code of the user's: a predicate. Of errors of functions a worker asks, of those
that a function has not raised itself, the driver.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import RayTaskError

__all__ = ["allows"]


def allows(rule: Any, error: BaseException) -> bool:
    """Tell whether another attempt may follow this error. Raises what a predicate raises.

    rule: classes, which may name RayTaskError or what a child raised; or a predicate.
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(rule, tuple):
        return isinstance(error, rule) or isinstance(cause, rule)
    return bool(rule(cause))
