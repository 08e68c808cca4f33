"""What can go wrong with a task, in a program written for Ray: run it with `aioray run`.

A worker crashes and its task is run again; an error reaches whoever asked for a result that depends
on it, as the exception it was; a task that takes too long is cancelled.

Room: api. Nothing imports it, and it uses aioray as any program would, by Ray's name.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, D101, D103, N818, T201

import os
import signal
import time

import ray

ray.init(num_cpus=2)

print("A worker crashes:")


@ray.remote(max_retries=1)
def fragile():
    attempt = ray.get_runtime_context().get_attempt_number()
    if attempt == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    return f"attempt {attempt} has succeeded"


print(" ", ray.get(fragile.remote()))

print("A function raises, and another needs its result:")


class OutOfStock(Exception):
    def __init__(self, item):
        super().__init__(item)
        self.item = item


@ray.remote
def reserve(item):
    raise OutOfStock(item)


@ray.remote
def ship(reservation):
    return f"shipped {reservation}"


try:
    ray.get(ship.remote(reserve.remote("teapot")))
except OutOfStock as error:
    print(f"  no {error.item} left. In full:")
    print(error)

print("A task takes too long:")


@ray.remote
def slow():
    time.sleep(3600)


ref = slow.remote()
ready, pending = ray.wait([ref], timeout=0.5)
if pending:
    ray.cancel(ref)
try:
    ray.get(ref)
except ray.exceptions.TaskCancelledError:
    print("  cancelled, and its worker is free:", ray.get(fragile.options(name="next").remote()))
