"""Ray on one machine, with the settings of its documentation and without the dashboard's server."""

from __future__ import annotations

import ray

from benchmarks.contestants.ray_like import STORE_BYTES, RayLike, RemoteFunctions


class Ray(RayLike):
    """`ray.init()` with its own processes."""

    ray = ray
    do = RemoteFunctions(ray)

    def open(self) -> None:
        ray.init(
            address="local",
            num_cpus=self.workers,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=self.directory,
        )
