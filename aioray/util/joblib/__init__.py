"""joblib's back end "ray": `joblib.Parallel` on the session's tasks.

Room: services. joblib is imported when the back end is registered, and not before.
"""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Make `with joblib.parallel_backend("ray"):` run joblib's work as tasks. Idempotent.

    scikit-learn and others that use joblib then do too. n_jobs=-1 means the session's CPUs; more
    than these never run at once. What a task runs in parallel itself uses threads.
    Raises ImportError if joblib is not installed.
    Source: Ray API reference, ray.util.joblib.register_ray.
    """
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError(
            "aioray.util.joblib needs joblib, which is not installed: pip install joblib"
        ) from error
    from aioray.util.joblib.ray_backend import RayBackend

    register_parallel_backend("ray", RayBackend)
