"""One attempt on a simulated worker: what it does is in the plan, what it says are real frames.

It checks what it is given: the values of its arguments and of what it asks for have to be right. A
generator plays it: it yields seconds to pass, or a question whose reply it wants.
"""

from __future__ import annotations

import marshal
import math
import pickle
from typing import TYPE_CHECKING, Any

from aioray.core.events import MemoryMeasured
from aioray.shared import asks, failures, ids
from aioray.shared.arena import write_file
from aioray.shared.serialization import Pieces, dump, dumps, load
from aioray.shared.wire import (
    ANSWER,
    IN_MEMORY,
    LOCATION_MARK,
    NOTE_ASKED,
    NOTE_KEPT,
    NOTE_YIELDED,
    NUMBER,
    PACKED_LOCATION,
    PAIR,
    STREAMING,
    Attempt,
    Status,
    note_frame,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import GeneratorType

    from .workers import SimWorker

__all__ = ["Playing", "SimError", "value_of"]

FOREVER = math.inf
MB = 1024 * 1024


class SimError(Exception):
    """What a function raises here."""

    def __init__(self, item: int, attempt: int) -> None:
        super().__init__(item, attempt)
        self.item = item
        self.attempt = attempt


def value_of(item: int, index: int, size: int) -> Any:
    """Return the value that an item has."""
    return (item, index, b"x" * size) if size else (item, index)


def _error(name: str, cause: BaseException) -> bytes:
    """Describe what a function has raised, as `failures.capture` would."""
    kind, text = type(cause).__name__, str(cause)
    return failures._pack(
        failures._Record(
            name, f"ray::{name}", 1, "127.0.0.1", f"{kind}: {text}", f"{kind}: {text}", kind,
            "", text, (), dumps(cause), "",
        )
    )  # fmt: skip


class Refused(Exception):  # noqa: N818 - it is what became of a question
    """There was no room for a result."""


class Playing:
    """An attempt that a worker has claimed."""

    def __init__(self, worker: SimWorker, seq: int, attempt: Attempt, task: int) -> None:
        self.worker = worker
        self.session = worker.session
        self.seq = seq
        self.attempt = attempt
        self.task = task  # number
        self.item = self.session.witness.item_of(task)
        self.act = self.item.act(attempt.attempt)
        self.began = self.session.now()
        self.entered: float | None = None
        self.beat = 0.0
        self.request = 0  # the question whose reply it waits for
        self.refs: list[bytes] = []  # that it holds
        self.children = 0
        self._wrote_for: int | None = None  # the question for room, while it is open
        self._got = 0  # the question that was answered last
        self._values: list[Any] = []
        self._flagged = False
        self._interrupted = False
        self._pause = 0  # number of the time it waits now
        self._play: GeneratorType[Any, Any, Any] | None = None
        self.over = False

    # ------------------------------------------------------------ what reaches it

    def start(self) -> None:
        """Begin: look at the arguments, then enter the function."""
        session = self.session
        values = self._open()
        if values is None:
            self._answer(Status.ARGUMENT_LOST, b"")
            return
        if self.attempt.role is not None and self.attempt.role[3] is not None:
            self.worker.one_by_one = self.item.options.get("max_concurrency", 1) == 1
        self._values = values
        if session.chance.random() < 0.1:
            session.loop.call_later(session.latency(), self._enter)
        else:
            self._enter()

    def _enter(self) -> None:
        if self.over:
            return
        if self._interrupted or self._flagged or self.worker.wanted == self.seq:
            self.not_started()
            return
        self.entered = self.beat = self.session.now()
        self.session.witness.entered(self)
        self.session.witness.check_arguments(self, self._values)
        play: Any = self._run()
        self._play = play
        self._step(None)

    def _open(self) -> list[Any] | None:
        values = []
        for value in (self.attempt.payload, *self.attempt.arguments):
            data = value
            if isinstance(value, tuple):
                data = self.worker.read(value)
                if data is None:
                    return None
            values.append(load(data) if data else ((), {}))
        return values

    def interrupt(self) -> None:
        """Take a KeyboardInterrupt."""
        if self._play is None:
            self._interrupted = True
        elif not self.act.stubborn and not self.over:
            self._throw(KeyboardInterrupt())

    def flag(self) -> None:
        """Take note of a cancel: a coroutine ends, a function goes on."""
        self._flagged = True
        if self._play is not None and not self.act.stubborn and self.seq % 2:
            self._throw(KeyboardInterrupt())

    def go_on(self, request: int, reply: Any) -> None:
        """Take the reply that it waits for."""
        self._got = request
        self.beat = self.session.now()
        if self._interrupted and isinstance(reply, list) and self._wrote_for is not None:
            self.worker.spare += reply  # it was not to be interrupted while it asked for room
            self._wrote_for = None
            self._throw(KeyboardInterrupt())
        else:
            self._step(reply)

    def dies(self) -> None:
        """End with the process."""
        self.over = True
        if self._play is not None and not self._play.gi_running:
            self._play.close()

    # ------------------------------------------------------------ how it goes on

    def _wake(self, pause: int) -> None:
        if not self.over and pause == self._pause:
            self._step(None)

    def _step(self, reply: Any) -> None:
        assert self._play is not None
        self._follow(lambda play: play.send(reply))

    def _throw(self, error: BaseException) -> None:
        if self.request and self._wrote_for == self.request:
            self._interrupted = True  # later: it is about to write a value
            return
        if self.request:
            self.forget(self.request)
            self.request = 0
        self._follow(lambda play: play.throw(error))

    def _follow(self, move: Any) -> None:
        self._pause += 1
        name = self.attempt.name
        try:
            wanted = move(self._play)
        except StopIteration as end:
            if not self.over:
                self._answer(*end.value)
            return
        except KeyboardInterrupt:
            if not self.over:
                self._answer(Status.INTERRUPTED, b"")
            return
        except Refused as refused:
            if not self.over:
                self._answer(Status.RAISED, _error(name, refused.args[0]))
            return
        if self.over:
            return
        if not isinstance(wanted, asks.Allocate | asks.Get | asks.MayYield):
            if wanted != FOREVER:
                self.session.loop.call_later(wanted, self._wake, self._pause)
            return
        self.request = self.worker.ask(self, wanted, type(wanted).__name__)
        if isinstance(wanted, asks.Get | asks.MayYield):
            self.beat = math.inf
        else:
            self._wrote_for = self.request
        self._say(wanted, self.request)

    def _say(self, ask: Any, request: int = 0) -> None:
        frame = note_frame(NOTE_ASKED, asks.pack(request, ask), self.seq)
        self.worker.write(frame)

    def forget(self, request: int) -> None:
        """Let go of what a reply has given that nobody waits for any more."""
        self._say(asks.Forget(request))

    # ------------------------------------------------------------ its end

    def not_started(self) -> None:
        """Answer that the function was not entered."""
        self._answer(Status.NOT_STARTED, b"")

    def _answer(self, status: Status, payload: bytes, delay: float = 0.0) -> None:
        self.over = True
        worker, act = self.worker, self.act
        now = self.session.now()
        seconds = 0.0 if self.entered is None else now - self.entered
        if status is Status.RETURNED and act.keeps and self.attempt.arguments:
            self._keep_views(act.keeps)
        frame = ANSWER.pack(len(payload), self.seq, status, self.began, seconds, delay) + payload
        self.session.witness.answered(self, status)
        worker.write(frame)
        if act.end == "die after answer" and status is Status.RETURNED:
            worker.workers.dies(worker, 9)
            return
        worker.ended(self)

    def _keep_views(self, seconds: float) -> None:
        pairs, numbers, kept = [], [], []
        for value in self.attempt.arguments:
            if isinstance(value, tuple) and value[0] == IN_MEMORY:
                self.worker.last_view += 1
                pairs.append(PAIR.pack(value[1], self.worker.last_view))
                numbers.append(self.worker.last_view)
                kept.append((value, self.worker.read(value)))
        if pairs:
            self.worker.write(note_frame(NOTE_KEPT, b"".join(pairs), self.seq))
            self.session.loop.call_later(seconds, self._release, numbers, kept)

    def _release(self, numbers: list[int], kept: list[Any]) -> None:
        if self.worker.alive:
            for location, before in kept:
                assert self.worker.read(location) == before, "memory was used again too early"
            self.worker.release(numbers)

    # ------------------------------------------------------------ what it does

    def _run(self) -> Generator[Any, Any, Any]:
        session, item, act, worker = self.session, self.item, self.act, self.worker
        end = act.end
        attempt = self.attempt
        if act.seconds:
            yield act.seconds / 2
        children = session.children.get(item.number, ())
        if children:
            names = [self._submit(child) for child in children]
            if act.waits:
                body = yield asks.Get(names, False, True)
                self._check(children, body)
        for number in range(act.items):
            value = value_of(item.number, number, item.size)
            packed = yield from self._pack(value)
            worker.write(note_frame(NOTE_YIELDED, NUMBER.pack(number) + packed, self.seq))
            self.beat = session.now()
            if attempt.backpressure and attempt.num_returns == STREAMING:
                yield asks.MayYield(number + 1)
            yield act.seconds / 4
        if act.seconds:
            yield act.seconds / 2
        if end in ("die", "exit", "garbage", "lie", "outgrow", "hang"):
            yield from self._misbehave(end)
        if end == "raise":
            may = Status.RAISED_RETRYABLE if attempt.retry_rule is True else Status.RAISED
            return may, _error(attempt.name, SimError(item.number, attempt.attempt))
        if end == "ask for retry":
            error = _error(attempt.name, SimError(item.number, attempt.attempt))
            return Status.ASKED_FOR_RETRY, error, 0.01
        if end == "forbid retry":
            return Status.FORBADE_RETRY, _error(
                attempt.name, SimError(item.number, attempt.attempt)
            )
        if attempt.num_returns == STREAMING:
            worker.write(note_frame(NOTE_YIELDED, NUMBER.pack(act.items), self.seq))
            return Status.RETURNED, pickle.dumps(None, 5)
        if item.kind == "actor":
            return Status.RETURNED, pickle.dumps("", 5)
        results = []
        for index in range(item.returns):
            one = yield from self._pack(value_of(item.number, index, item.size))
            results.append(one)
        return Status.RETURNED, results[0] if item.returns == 1 else marshal.dumps(results)

    def _misbehave(self, end: str) -> Generator[Any, Any, Any]:
        worker, session = self.worker, self.session
        if end in ("die", "exit"):
            session.loop.call_soon(worker.workers.dies, worker, 9 if end == "die" else 3 << 8)
        elif end == "garbage":
            worker.write(session.chance.randbytes(40))
        elif end == "lie":
            payload = pickle.dumps("a lie", 5)
            worker.write(ANSWER.pack(len(payload), 10**9, 0, 0.0, 0.0, 0.0) + payload)
        elif end == "outgrow":
            used = 100 * MB
            session.loop.call_later(
                session.latency(), session.feed, MemoryMeasured(worker.id, self.seq, used)
            )
        yield FOREVER

    def _pack(self, value: Any) -> Generator[Any, Any, bytes]:
        """Serialize a value, and write it to the store if it is large."""
        data, _ = dump(value)
        if not isinstance(data, Pieces):
            return data
        worker, size = self.worker, data.size
        for at, (kind, _, room) in enumerate(worker.spare):
            if size <= room <= 2 * size and kind == IN_MEMORY:
                where = worker.spare.pop(at)[1]
                break
        else:
            granted = yield asks.Allocate(size, len(worker.claims))
            if isinstance(granted, bytes):
                raise Refused(pickle.loads(granted))
            (kind, where, _), *rest = granted
            worker.spare += rest
        if kind == IN_MEMORY:
            worker.workers.objects.store.arena.write(where, data.buffers)
            number = where
        else:
            try:
                write_file(where, data.buffers, size)
            except Exception as error:
                raise Refused(error) from error
            number = int(where.rpartition("/")[2])
        return PACKED_LOCATION.pack(LOCATION_MARK, kind, number, size)

    def _submit(self, child: Any) -> bytes:
        """Submit a task; return the id of its value."""
        session, worker, attempt = self.session, self.worker, self.attempt
        key, name, code, packed, retries = session.definition_of(child)
        if key not in worker.functions:
            worker.functions.add(key)
            self._say(asks.DefineFunction(key, name, code, []))
        self.children += 1
        parent = ids.task_id(worker.workers.job, attempt.task_key)
        task_key = ids.child_task_id(parent, self.children, attempt.attempt)
        session.witness.by_key[task_key] = child, self
        self._say(asks.Submit(key, packed, task_key, retries, session.payload_of(child), []))
        identifier = ids.object_id(task_key, 1)
        self.refs.append(identifier)
        return identifier

    def _check(self, children: Any, body: Any) -> None:
        """Look at the values of what it has submitted, or at the error of one."""
        failed = any(isinstance(each, list) for each in body)
        for child, each in zip(children, body, strict=True):
            if isinstance(each, list):
                self.session.witness.check_error(child, pickle.loads(each[0]))
                continue
            data = each
            if each is None:
                assert failed, "a reply without a value"
                continue
            if isinstance(each, tuple):
                data = self.worker.read(each)
            if data is not None:
                assert load(data) == value_of(child.number, 0, child.size), (child, "wrong value")
        self._say(asks.Forget(self._got))
