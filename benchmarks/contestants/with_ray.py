"""Ray on one machine, with the settings of its documentation and without the dashboard's server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ray

from benchmarks.contestants.asynchronous import serve
from benchmarks.contestants.ray_like import STORE_BYTES, RayLike, RemoteFunctions

if TYPE_CHECKING:
    from collections.abc import Callable


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

    def service(self, clients: int, seconds: float, iterations: int) -> dict[str, Any]:
        async def call(function: Callable[..., Any], *args: Any) -> Any:
            return await self.do.of(function)(*args)

        return asyncio.run(serve(call, clients, seconds, iterations))
