"""Context variables, and the tasks and actors that look at them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextvars import ContextVar

import aioray

request_id: ContextVar[str] = ContextVar("request_id", default="none")
tenant: ContextVar[str] = ContextVar("tenant")


def seen():
    return request_id.get(), tenant.get("nobody")


async def seen_in_coroutine():
    await asyncio.sleep(0)
    return seen()


def seen_below(depth=1):
    if depth == 0:
        return [seen()]
    return [seen(), *aioray.get(aioray.remote(num_cpus=0)(seen_below).remote(depth - 1))]


def seen_in_generator():
    yield seen()
    yield seen()


def seen_by_another_request():
    request_id.set("changed")
    return [seen(), aioray.get(aioray.remote(num_cpus=0)(seen).remote())]


def seen_the_second_time(path):
    with open(path, "a", encoding="utf-8") as file:
        file.write("x")
    if os.path.getsize(path) == 1:
        os._exit(1)
    return seen()


class Sees:
    def __init__(self):
        self.made_with = seen()

    def look(self):
        return seen()

    def made(self):
        return self.made_with


class SeesAsync:
    async def look(self):
        await asyncio.sleep(0)
        return seen()


def log(logger, text, level=logging.WARNING):
    logging.getLogger(logger).log(level, text)


def log_exception(logger):
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger(logger).exception("it went wrong", extra={"order": 7, "thing": {1}})


def log_and_die_once(logger, path):
    logging.getLogger(logger).error("here")
    with open(path, "a", encoding="utf-8") as file:
        file.write("x")
    if os.path.getsize(path) == 1:
        os._exit(1)


def log_many(logger, count):
    for number in range(count):
        logging.getLogger(logger).warning("%s", number)


def pause():
    time.sleep(0.1)  # room for some records


class Talks:
    async def talk(self, logger):
        logging.getLogger(logger).warning("from an actor")
