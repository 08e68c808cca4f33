"""What libraries import from `ray.internal`.

Room: api.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioray.client.refs import ObjectRef

__all__ = ["free"]


def free(object_refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Check that the arguments are refs, and leave them as they are.

    A value is let go, at once, with the last ref to it; while there is one, it can be got. Raises
    TypeError for anything but refs.
    """
    from aioray.client.refs import ObjectRef

    del local_only
    refs = [object_refs] if isinstance(object_refs, ObjectRef) else object_refs
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"Attempting to call `free` on the value {ref!r}, which is no ObjectRef."
            )
