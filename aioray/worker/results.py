"""Packs what user code has returned, or yielded, for the answer or ahead of it.

Room: worker. A value that is large goes to the store, and its place into the answer.
"""

from __future__ import annotations

import marshal
import math
import sys
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any

from ..client.current import execution_context
from ..client.protocol import registry
from ..shared import ids
from ..shared.serialization import Pieces, dump, dumps
from ..shared.wire import LONGEST_FRAME, NOTE_YIELDED, NUMBER, STREAMING

if TYPE_CHECKING:
    from ..shared.wire import Attempt
    from .channel import Channel
    from .interrupts import Interrupts
    from .objects import AttemptHandles, LocalObjects

__all__ = ["Results", "pack_returns"]


class Collected:
    """What a generator has yielded for the return values of its attempt, serialized."""

    __slots__ = ("failure", "packed", "refs")

    def __init__(self) -> None:
        self.packed: list[bytes] = []
        self.refs: list[Any] = []  # inside these; they must live until the driver knows of them
        self.failure: Exception | None = None  # why the next one could not be serialized


def pack_returns(
    value: Any, attempt: Attempt, objects: LocalObjects, use: AttemptHandles, refs: list[Any]
) -> bytes:
    """Serialize what a function returned. Raises what the caller is to see if it does not fit.

    objects, use: where that is stored which is large. refs: gets the refs inside the values, which
    must live until the driver knows that they are in there.
    """
    count = attempt.num_returns
    collected = type(value) is Collected
    if count < 0 or (count == 1 and not collected):
        return pack(value, attempt, "result", objects, use, refs)
    if count == 0:
        return b""
    if collected:
        if value.failure is not None:
            raise value.failure
        refs += value.refs
    try:
        given = len(value.packed if collected else value)
    except TypeError:
        raise TypeError(
            f"Task returned 1 object, of type {type(value).__name__}, but num_returns={count}. "
            f"Return a list or tuple of {count} values, or change num_returns."
        ) from None
    if given != count:
        raise ValueError(
            f"Task returned {given} objects, but num_returns={count}. Return a sequence of "
            f"{count} values, or change num_returns."
        )
    packed = (
        value.packed
        if collected
        else [
            pack(item, attempt, f"result[{at}]", objects, use, refs)
            for at, item in enumerate(value)
        ]
    )
    if count == 1:
        return packed[0]
    data = marshal.dumps(packed)
    if len(data) > LONGEST_FRAME:
        raise ValueError(
            f"The {count} results have {len(data):,} bytes without those of more than 100 KB each, "
            f"and the limit is {LONGEST_FRAME:,}. Return fewer and larger ones."
        )
    return data


def pack(
    value: Any,
    attempt: Attempt,
    label: str,
    objects: LocalObjects,
    use: AttemptHandles,
    refs: list[Any],
) -> bytes:
    """Serialize one result. An error keeps its type, and is told which member is to blame."""
    try:
        data, found = dump(value)
    except Exception as error:
        from ..shared.serializability import explain

        report = explain(value, label, dumps)
        error.add_note(f"The result of {attempt.name} cannot be serialized:\n{report}")
        raise
    refs.extend(found)
    if not isinstance(data, Pieces):
        return data
    try:
        return objects.keep_result(data, use)
    except Exception as error:
        error.add_note(f"The result of {attempt.name} could not be stored.")
        raise


class Results:
    """Takes from generators what they yield, and sends it or keeps it for the answer."""

    def __init__(self, channel: Channel, objects: LocalObjects, interrupts: Interrupts) -> None:
        self._channel = channel
        self._objects = objects
        self._interrupts = interrupts

    def collect(self, generator: Any, attempt: Attempt, use: AttemptHandles) -> Collected:
        """Fill the return values of the attempt with what a generator yields, one after the other.

        Runs as user code. If the generator raises, what it has yielded before is in `use.items`;
        what it yields, or raises, when all are filled is told, and changes nothing. As in Ray.
        """
        found: Collected = Collected()
        use.items = found
        count = attempt.num_returns
        try:
            for item in generator:
                self._beat()
                if len(found.packed) < count:
                    label = f"result[{len(found.packed)}]"
                    try:
                        found.packed.append(
                            pack(item, attempt, label, self._objects, use, found.refs)
                        )
                    except Exception as failure:  # noqa: BLE001 - user code may raise anything
                        found.failure = failure
                        break
                elif count:
                    sys.stderr.write(
                        f"{attempt.name} has yielded more than num_returns={count} values. The "
                        f"first {count} are its results, and the generator was closed.\n"
                    )
                    break
        except Exception as error:
            if len(found.packed) < count or not count:
                raise
            import traceback

            sys.stderr.write(
                f"{attempt.name} has raised an error after all its {count} results were yielded. "
                f"They stand.\n{''.join(traceback.format_exception(error))}"
            )
        finally:
            generator.close()
        return found

    def send_collected(
        self, items: Collected | None, attempt: Attempt, use: AttemptHandles
    ) -> None:
        """Send what a generator has yielded that fails now: those results stand."""
        if items is None or not items.packed:
            return
        for number, payload in enumerate(items.packed):
            self._channel.note(NOTE_YIELDED, NUMBER.pack(number) + payload, attempt.seq)
        use.written = []  # one whose writing has failed is not among them
        self._channel.ring()

    def produce(self, items: Any, attempt: Attempt, use: AttemptHandles) -> Any:
        """Send what a generator yields, as it yields it; the value of the task after that.

        Runs as user code, but for the sending: it can be interrupted. What runs in an actor, where
        a cancel is a flag, ends with the item after which that is seen.
        """
        count = 0
        actor = execution_context.actor
        if type(items) is AsyncGeneratorType:
            from . import coroutines  # few tasks have any

            items = coroutines.iterate(items, self._interrupts)
        try:
            for item in items:
                self.send_item(item, count, attempt, use)
                del item
                count += 1
                self._beat()
                if attempt.backpressure and attempt.num_returns == STREAMING:
                    from ..shared.asks import MayYield

                    self._beat(math.inf)
                    try:
                        self._channel.ask(attempt.seq, MayYield(count))
                    finally:
                        self._beat()
                if actor is not None and actor.is_cancelled(attempt.seq):
                    raise KeyboardInterrupt
        finally:
            items.close()
        return self.end_items(count, attempt)

    async def produce_on_loop(self, items: Any, attempt: Attempt, use: AttemptHandles) -> Any:
        """Do the same on an event loop: others run while it waits for room, or between items."""
        import asyncio

        count = 0
        try:
            if type(items) is AsyncGeneratorType:
                async for item in items:
                    self.send_item(item, count, attempt, use)
                    del item
                    count += 1
                    await self._wait_for_room(attempt, count)
            else:
                for item in items:
                    self.send_item(item, count, attempt, use)
                    del item
                    count += 1
                    await asyncio.sleep(0)
                    await self._wait_for_room(attempt, count)
        finally:
            if type(items) is AsyncGeneratorType:
                await items.aclose()
            else:
                items.close()
        return self.end_items(count, attempt)

    async def _wait_for_room(self, attempt: Attempt, count: int) -> None:
        self._beat()
        if not attempt.backpressure or attempt.num_returns != STREAMING:
            return
        import asyncio

        from ..shared.asks import MayYield

        loop = asyncio.get_running_loop()
        there_is = asyncio.Event()

        def found(_request: int, _body: Any) -> None:
            loop.call_soon_threadsafe(there_is.set)

        request = self._channel.begin(attempt.seq, MayYield(count), watcher=found)
        self._beat(math.inf)
        try:
            await there_is.wait()
        except BaseException:
            self._channel.forget(attempt.seq, request)
            raise
        finally:
            self._beat()

    @staticmethod
    def _beat(at: float | None = None) -> None:
        """Count an item as a heartbeat, and no time until somebody reads: at is inf then."""
        beat = execution_context.beat
        if beat is not None:
            beat(at)

    def send_item(self, item: Any, number: int, attempt: Attempt, use: AttemptHandles) -> None:
        """Send one item of a generator; numbers are from 0. Raises what `pack` raises."""
        channel = self._channel
        refs: list[Any] = []
        payload = pack(item, attempt, f"item {number}", self._objects, use, refs)
        with channel.uninterrupted():
            channel.note(NOTE_YIELDED, NUMBER.pack(number) + payload, attempt.seq)
            use.written = []
            channel.ring()

    def end_items(self, count: int, attempt: Attempt) -> Any:
        """Say how many items there were; the value of the task after that."""
        self._channel.note(NOTE_YIELDED, NUMBER.pack(count), attempt.seq)
        if attempt.num_returns == STREAMING:
            return None
        from ..client.generators import DynamicObjectRefGenerator
        from ..client.refs import ObjectRef

        client = registry.current()
        assert client is not None
        task = ids.task_id(execution_context.job, attempt.task_key)
        return DynamicObjectRefGenerator(
            [
                ObjectRef(client.entry_of(ids.object_id(task, ids.FIRST_ITEM + number)))
                for number in range(count)
            ]
        )
