"""The process that has the engine: does items of work until it is told to end, and reports.

`python -m benchmarks.chaos.driver SETTINGS` with a JSON object. A line on stdin ends it: what was
begun is seen to its end. It writes JSON lines to descriptor REPORT: one when it is ready, one for
each item that went wrong, and the last one with all the rest. It opens nothing while it works,
since the saboteur takes descriptors and disk away, and counts time by its own beats, since the
saboteur stops it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import asdict
from typing import Any

import aioray

from . import plan
from .claims import WrongError
from .work import KINDS, Shop

REPORT = 3  # descriptor
WIDTH = 24  # items at a time
WORKERS = 4
STORE = 16_000_000  # bytes of shared memory, three large values: more are spilled
BEAT = 0.25  # seconds
PATIENCE = 100.0  # seconds of beats after which what has not ended hangs
PAGE_KB = os.sysconf("SC_PAGESIZE") // 1024


class Driver:
    """One run."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.seed: int = settings["seed"]
        self.kinds: dict[str, int] = {
            kind: plan.WORK[kind] for kind in settings["work"] or plan.WORK
        }
        self.shop = Shop(settings["notes"])
        self.spill: str = settings["spill"]
        self.ledger: Counter[tuple[str, str]] = Counter()
        self.running: dict[int, tuple[plan.Item, asyncio.Task[None]]] = {}
        self.begun = self.ended = 0
        self.memory: list[tuple[int, float]] = []  # items that have ended, kB
        self.report = os.fdopen(REPORT, "w", buffering=1)
        self.statm = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115 - see above
        self.told_to_end = asyncio.Event()

    def say(self, **message: object) -> None:
        self.report.write(json.dumps(message) + "\n")

    async def run(self) -> None:
        """Work, see to the end, and report what is left."""
        before = descriptors()
        leftovers: list[str] = []
        async with aioray.Engine(
            num_cpus=WORKERS,
            object_store_memory=STORE,
            object_spilling_directory=self.spill,
            preload=["benchmarks.chaos.work"],
            log_to_driver=False,
        ) as engine:
            loop = asyncio.get_running_loop()
            loop.add_reader(0, self._hear, loop)
            watch = asyncio.create_task(self._watch())
            self.say(ready=engine.pids())
            await self._work()
            hung = await self._see_to_the_end()
            watch.cancel()
            if not hung:
                leftovers += await self._unreturned()
            rows = self.memory
        gc.collect()
        left = descriptors()
        leftovers += [f"descriptor {left[fd]}" for fd in left.keys() - before.keys()]
        leftovers += [
            f"thread {each.name}"
            for each in threading.enumerate()
            if each is not threading.main_thread() and not each.name.startswith("asyncio_")
        ]
        others = asyncio.all_tasks() - {asyncio.current_task(), watch}
        leftovers += [f"asyncio task {each}" for each in others if not each.done()]
        marks = set(os.listdir(self.shop.folder))
        for note, number in self.shop.unmarked.items():
            if os.path.basename(note) in marks:
                self.say(wrong=number, work="-", found="it ran to its end after it was cancelled")
        self.say(
            ledger=[[*key, count] for key, count in sorted(self.ledger.items())],
            begun=self.begun,
            ended=self.ended,
            claims=[asdict(claim) for claim in self.shop.claims],
            leftovers=leftovers,
            memory=rows,
        )

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        os.read(0, 100)
        loop.remove_reader(0)
        self.told_to_end.set()

    async def _work(self) -> None:
        """Begin items, so many at a time, until told to end."""
        room = asyncio.Semaphore(WIDTH)
        end = asyncio.ensure_future(self.told_to_end.wait())
        while not end.done():
            acquired = asyncio.ensure_future(room.acquire())
            await asyncio.wait([acquired, end], return_when=asyncio.FIRST_COMPLETED)
            if not acquired.done():
                acquired.cancel()
                break
            item = plan.item(self.seed, self.begun, self.kinds)
            self.begun += 1
            task = asyncio.create_task(self._do(item, room), name=f"{item.kind} {item.number}")
            self.running[item.number] = item, task

    async def _do(self, item: plan.Item, room: asyncio.Semaphore) -> None:
        try:
            outcome = await KINDS[item.kind](item, self.shop)
        except WrongError as error:
            outcome = "WRONG"
            self.say(wrong=item.number, work=item.kind, found=str(error))
        except Exception:  # noqa: BLE001 - what nobody has thought of is wrong, too
            outcome = "WRONG"
            self.say(wrong=item.number, work=item.kind, found=traceback.format_exc())
        self.ledger[item.kind, outcome] += 1
        self.ended += 1
        del self.running[item.number]
        room.release()

    async def _see_to_the_end(self) -> bool:
        """Wait for what was begun; whether something hangs."""
        left = PATIENCE
        ended = self.ended
        while self.running and left > 0:
            await asyncio.wait([task for _, task in self.running.values()], timeout=BEAT)
            left = left - BEAT if ended == self.ended else PATIENCE
            ended = self.ended
        for item, task in list(self.running.values()):
            where = [f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in task.get_stack()]
            self.ledger[item.kind, "HUNG"] += 1
            self.say(hung=item.number, work=item.kind, where=where)
        if self.running:
            from aioray.util.state import list_tasks

            faulthandler.dump_traceback()
            states = await asyncio.to_thread(
                list_tasks, filters=[("state", "!=", "FINISHED")], limit=1000, detail=True
            )
            for row in states:
                if row.state != "FAILED":
                    print(row, file=sys.stderr)
            for _, task in list(self.running.values()):
                task.cancel()
            return True
        return False

    async def _watch(self) -> None:
        """Look at the memory of this process now and then."""
        while True:
            await asyncio.sleep(BEAT)
            os.lseek(self.statm.fileno(), 0, os.SEEK_SET)
            _, resident, shared, *_ = self.statm.read().split()
            self.memory.append((self.ended, (int(resident) - int(shared)) * PAGE_KB))

    async def _unreturned(self) -> list[str]:
        """What is not as it was when nothing runs any more, after some time for it."""
        for _ in range(int(PATIENCE / BEAT)):
            gc.collect()
            whole, free = aioray.cluster_resources(), aioray.available_resources()
            left = {name: free.get(name, 0.0) for name in whole if free.get(name) != whole[name]}
            files = spilled(self.spill)
            if not left and not files:
                return []
            await asyncio.sleep(BEAT)
            await asyncio.gather(*[aioray.remote(max_retries=-1)(abs).remote(1) for _ in "1234"])
        return [f"{name}: only {left[name]} of {whole[name]} came back" for name in left] + [
            f"spill file {name}" for name in files
        ]


def spilled(folder: str) -> list[str]:
    """The files of values below a folder."""
    return [
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if os.path.basename(where) == "objects"
    ]


def descriptors() -> dict[int, str]:
    """What this process has open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of this listing
    return found


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    driver = Driver(json.loads(sys.argv[1]))
    start = time.monotonic()
    asyncio.run(driver.run())
    print(f"ended after {time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
