"""The back end itself: joblib's own machinery for pools, over a pool of ours.

Room: services. Imported by `register_ray` only, because it needs joblib. The pool's tasks have no
processes of their own: the session's workers serve one `Parallel` after the other, and keep what
they have imported.
"""

from __future__ import annotations

from typing import Any

from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase, PoolManagerMixin

from aioray.api.cluster import cluster_resources
from aioray.api.session import client_for_call
from aioray.client.protocol import refuse_to_block
from aioray.util.multiprocessing.pool import Pool

__all__ = ["RayBackend"]


class _SharedPool(Pool):
    """A pool in the session's common processes."""

    _own_processes = False


class RayBackend(PoolManagerMixin, AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches as tasks. Source: joblib, ParallelBackendBase."""

    supports_retrieve_callback = True
    supports_return_generator = True

    def __init__(self, *, ray_remote_args: dict[str, Any] | None = None, **settings: Any) -> None:
        """Make a backend. ray_remote_args: options of the tasks, such as max_retries=0."""
        super().__init__(**settings)
        self._ray_remote_args = ray_remote_args

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at once: n_jobs, at most as many as the session has CPUs.

        -1: all CPUs, -2: all but one, and so on; None: one.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        cpus = max(1, int(cluster_resources().get("CPU", 1.0)))
        return max(1, cpus + 1 + n_jobs) if n_jobs < 0 else min(n_jobs, cpus)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        **_settings: Any,
    ) -> int:
        """Prepare for one `Parallel`."""
        del prefer, require
        n_jobs = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        if n_jobs == 1:
            from joblib._parallel_backends import FallbackToBackend, SequentialBackend

            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        # joblib itself waits, in ways that cannot be stopped later.
        refuse_to_block(client_for_call(), "joblib.Parallel", "tasks that you can await")
        self._pool = _SharedPool(n_jobs, ray_remote_args=self._ray_remote_args)
        return n_jobs

    def terminate(self) -> None:
        """End the pool, and forget what was learnt about the batches."""
        super().terminate()
        self.reset_batch_stats()
