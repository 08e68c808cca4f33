"""Puts values of the user's into the text of an error.

Room: options. Nothing else belongs here than what more than one module of checks needs. A value may
do anything in its `__repr__`, and the message must be built all the same.
"""

from __future__ import annotations

from typing import Any

__all__ = ["show", "show_typed"]


def show(value: Any) -> str:
    """Return a short repr for an error message."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  the value is the user's, and the message must be built
        return f"an instance of {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."


def show_typed(value: Any) -> str:
    """Return a short repr with the type, for an error message about a wrong one."""
    return f"{show(value)} of type {type(value).__name__}"
