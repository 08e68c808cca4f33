"""What the GPUs of a worker are called in its own environment.

Room: engine.
"""

from __future__ import annotations

__all__ = ["gpu_names"]


def gpu_names(
    own: tuple[str, ...], known: tuple[str, ...] | None, devices: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what a runtime environment that sets CUDA_VISIBLE_DEVICES calls these GPUs; as in Ray.

    own: the names that it gives, in order. known: those of all GPUs; None: their numbers.
    """
    numbers = [int(name) if known is None else known.index(name) for name in devices]
    return tuple(own[number] for number in numbers if number < len(own)) or own
