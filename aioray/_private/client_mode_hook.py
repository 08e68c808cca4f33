"""What libraries import from `ray._private.client_mode_hook`: Ray Client is never in use.

Room: api.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["client_mode_should_convert", "client_mode_wrap", "is_client_mode_enabled"]

F = TypeVar("F")

is_client_mode_enabled = False


def client_mode_should_convert() -> bool:
    """Tell whether calls go by way of Ray Client: no."""
    return False


def client_mode_wrap(func: F) -> F:
    """Return the function: it runs where the cluster is already."""
    return func
