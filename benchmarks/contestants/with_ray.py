"""Ray on one machine, with the settings of its documentation and without the dashboard's server."""

from __future__ import annotations

import time

import ray

from benchmarks import tasks
from benchmarks.contestants.base import Contestant, wait_for_file

add_one = ray.remote(tasks.add_one)
burn_and_return = ray.remote(tasks.burn_and_return)
die = ray.remote(max_retries=0)(tasks.die)
die_once = ray.remote(max_retries=1)(tasks.die_once)
hold = ray.remote(tasks.hold)
hundred_ints = ray.remote(tasks.hundred_ints)
mark_and_loop = ray.remote(tasks.mark_and_loop)
mark_and_sleep = ray.remote(tasks.mark_and_sleep)


class Ray(Contestant):
    """`ray.init()` with its own processes."""

    def open(self) -> None:
        ray.init(
            address="local",
            num_cpus=self.workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=self.directory,
        )

    def version(self) -> str:
        return ray.__version__

    def close(self) -> None:
        ray.shutdown()

    def batch(self, count: int) -> float:
        start = time.perf_counter()
        values = ray.get([add_one.remote(i) for i in range(count)])
        seconds = time.perf_counter() - start
        assert values[-1] == count
        return seconds

    def payload(self, count: int) -> float:
        record = tasks.record_of_1kb()
        start = time.perf_counter()
        ray.get([hundred_ints.remote(record) for _ in range(count)])
        return time.perf_counter() - start

    def round_trips(self, count: int) -> list[float]:
        taken = []
        clock = time.perf_counter
        for i in range(count):
            start = clock()
            ray.get(add_one.remote(i))
            taken.append(clock() - start)
        return taken

    def burns(self, count: int, iterations: int) -> float:
        start = time.perf_counter()
        ray.get([burn_and_return.remote(iterations, i) for i in range(count)])
        return time.perf_counter() - start

    def chain(self, length: int) -> float:
        start = time.perf_counter()
        ref = add_one.remote(0)
        for _ in range(length - 1):
            ref = add_one.remote(ref)
        assert ray.get(ref) == length
        return time.perf_counter() - start

    def crash(self) -> dict[str, float]:
        path = self.fresh_path()
        try:
            ray.get(die.remote(path))
        except ray.exceptions.WorkerCrashedError:
            noticed = time.monotonic() - tasks.time_of_death(path)
        ray.get(add_one.remote(1))
        died = ray.get(die_once.remote(self.fresh_path()))
        return {"noticed": noticed, "retried": time.monotonic() - died}

    def cancel(self, *, loops: bool, force: bool) -> dict[str, float]:
        path = self.fresh_path()
        ref = (mark_and_loop if loops else mark_and_sleep).remote(path)
        following = add_one.remote(1)
        wait_for_file(path)
        start = time.perf_counter()
        ray.cancel(ref, force=force)
        try:
            ray.get(ref)
        except ray.exceptions.RayError:
            seen = time.perf_counter() - start
        ray.get(following)
        return {"seen": seen, "next": time.perf_counter() - start}

    def enqueue(self, count: int) -> None:
        path = self.fresh_path()
        self.kept += [hold.remote(path) for _ in range(self.workers)]
        self.kept += [add_one.remote(i) for i in range(count)]
        time.sleep(0.5)
