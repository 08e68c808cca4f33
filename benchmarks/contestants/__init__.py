"""The contestants by name. Each is imported in its own process only: see `benchmarks.child`."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "aioray": ("with_aioray", "AsyncAioray", {}),
    "aioray gather(refs)": ("with_aioray", "AsyncAioray", {"as_futures": False}),
    "aioray std loop": ("with_aioray", "AsyncAioray", {"use_uvloop": False}),
    "aioray sync": ("with_aioray", "SyncAioray", {}),
    "aioray, no history": ("with_aioray", "AsyncAioray", {"history": False}),
    "aioray sync, no history": ("with_aioray", "SyncAioray", {"history": False}),
    "aioray Pool": ("with_pools", "AiorayPool", {}),
    "aioray joblib": ("with_joblib", "AiorayJoblib", {}),
    "ProcessPoolExecutor": ("with_futures", "Stdlib", {}),
    "multiprocessing.Pool": ("with_pools", "Stdlib", {}),
    "pebble": ("with_pebble", "Pebble", {}),
    "loky": ("with_loky", "Loky", {}),
    "joblib": ("with_joblib", "Joblib", {}),
    "mpire": ("with_mpire", "Mpire", {}),
    "aiomultiprocess": ("with_aiomultiprocess", "Aiomultiprocess", {}),
    "anyio": ("with_anyio", "Anyio", {}),
    "ray": ("with_ray", "Ray", {}),
    "floor": ("floor", "Floor", {}),
}

PEERS = (
    "ProcessPoolExecutor",
    "multiprocessing.Pool",
    "pebble",
    "loky",
    "mpire",
    "aiomultiprocess",
    "anyio",
)
"""The other libraries, without Ray, which is slower by so much that it gets fewer rounds."""

BATCHING = "joblib"
"""Puts several calls into one message where they are short, and has no single results: it is shown
beside the others, but held against its own kind only."""

OTHERS = (*PEERS, BATCHING, "ray")


def load(name: str) -> Callable[[int, str], Any]:
    """What makes the contestant, given workers and a directory. Raises ImportError."""
    module, kind, settings = _PLACES[name]
    return partial(getattr(import_module(f"benchmarks.contestants.{module}"), kind), **settings)
