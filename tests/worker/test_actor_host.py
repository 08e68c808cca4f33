"""A worker that is an actor, driven by hand: a real process, but no engine."""

from __future__ import annotations

import marshal
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
from itertools import count
from typing import Any, NamedTuple

import pytest

from aioray.shared import asks, ids
from aioray.shared.failures import rebuild
from aioray.shared.serialization import dump, dump_function, dumps, load
from aioray.shared.wire import (
    ANSWER,
    CLAIM,
    CREATION,
    NOTE_ASKED,
    NOTE_SAVED,
    NOTE_YIELDED,
    NUMBER,
    PAGE,
    PAGE_INTERRUPT,
    PAGE_SIZE,
    STREAMING,
    ActorCallInfo,
    Attempt,
    Creation,
    Status,
    WorkerFds,
)

from . import performers

JOB = ids.job_id(1)
ACTOR = ids.actor_task_id(ids.driver_task_id(JOB), 1)
CLASS_KEY = 1
PROGRAM = """
import sys
from aioray.shared.wire import WorkerFds
from aioray.worker.main import main
settings = {"job": "01000000", "node_id": "", "session": "", "namespace": "", "folder": ""}
settings.update(sets_threads=False, max_worker_rss=None)
main(WorkerFds(*map(int, sys.argv[1:])), settings, "ab" * 28, {}, b"")
"""


class Frame(NamedTuple):
    seq: int
    status: int
    payload: bytes

    @property
    def asked(self) -> tuple[int, asks.Ask]:
        """Number of the request, and the question."""
        assert self.status == NOTE_ASKED
        return asks.unpack(self.payload)


class Driver:
    """The other end of one worker."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        claims, self.claims = os.pipe()
        os.set_blocking(claims, False)
        singles, self.singles = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        self.answers, answers = os.pipe()
        self.bell = os.eventfd(0)
        page, arena = os.memfd_create("page"), os.memfd_create("arena")
        self.output = os.memfd_create("output")
        os.truncate(page, PAGE_SIZE)
        os.truncate(arena, 1 << 20)
        fds = WorkerFds(
            theirs.fileno(), claims, answers, self.bell, page, arena, os.dup(self.output),
            os.dup(self.output), os.memfd_create("stacks"), singles,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.page = mmap.mmap(page, PAGE_SIZE)
        for fd in fds[1:3] + fds[4:]:
            os.close(fd)
        self.data = b""
        self.frames: list[Frame] = []  # seen, and not asked for
        self.seqs = count(1)
        self.functions = {}
        self.creation: Creation

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.page.close()
        for fd in (self.claims, self.singles, self.answers, self.bell, self.output):
            if fd >= 0:
                os.close(fd)

    # -- saying

    def make(
        self,
        cls: type,
        *args: Any,
        concurrency_groups=(("", 1),),
        saves_every=0,
        state=None,
        attempt=0,
    ) -> Frame:
        self.creation = Creation(
            ACTOR[8:].hex(),
            "nick",
            cls.__name__,
            asynchronous=cls is performers.Service,
            concurrency_groups=concurrency_groups,
            saves_every=saves_every,
            restores=state is not None,
            meta=b"",
        )
        role = ActorCallInfo(CREATION, "", interruptible=False, creation=tuple(self.creation))
        made = self.attempt(CLASS_KEY, role, args, task_key=ACTOR, attempt=attempt)
        if state is not None:
            made = made._replace(arguments=[dumps(state)])
        self.send([made], [(CLASS_KEY, dump_function(cls)[0])])
        return self.answer(made.seq)

    def attempt(self, key, role, args=(), num_returns=1, backpressure=0, task_key=None, attempt=0):
        seq = next(self.seqs)
        if task_key is None:
            task_key = (seq, ACTOR)
        payload = dump((args, {}))[0] if args else b""
        return Attempt(
            seq, key, task_key, attempt, (), f"{self.creation.class_name}.{role.method}",
            num_returns, backpressure, False, (), "", False, tuple(role), None, payload, [],
        )  # fmt: skip

    def call(
        self,
        method: str,
        *args: Any,
        concurrency_group="",
        interruptible=False,
        num_returns=1,
        backpressure=0,
    ) -> int:
        """Send a call; its seq."""
        key = self.functions.setdefault(method, 100 + len(self.functions))
        made = self.attempt(
            key,
            ActorCallInfo(method, concurrency_group, interruptible),
            args,
            num_returns,
            backpressure,
        )
        self.send([made])
        return made.seq

    def send(self, attempts: list[Attempt], codes=()) -> None:
        self.socket.send(marshal.dumps((list(codes), [tuple(each) for each in attempts])))
        for each in attempts:
            os.write(self.claims, CLAIM.pack(each.seq))

    def cancel(self, seq: int) -> None:
        self.socket.send(marshal.dumps((seq,)))

    def interrupt(self, seq: int) -> None:
        PAGE.pack_into(self.page, PAGE_INTERRUPT, seq)
        self.process.send_signal(signal.SIGINT)

    def reply(self, request: int, body: Any) -> None:
        self.socket.send(marshal.dumps((request, body)))

    # -- hearing

    def read(self) -> Frame | None:
        """The next frame; None when the worker has closed its end."""
        while True:
            if len(self.data) >= ANSWER.size:
                size, seq, status, *_ = ANSWER.unpack_from(self.data)
                if len(self.data) >= ANSWER.size + size:
                    payload = self.data[ANSWER.size : ANSWER.size + size]
                    self.data = self.data[ANSWER.size + size :]
                    return Frame(seq, status, payload)
            data = os.read(self.answers, 65536)
            if not data:
                return None
            self.data += data

    def find(self, wanted) -> Frame:
        """The first frame that is wanted; those before it are kept."""
        for at, frame in enumerate(self.frames):
            if wanted(frame):
                return self.frames.pop(at)
        while (read := self.read()) is not None:
            if wanted(read):
                return read
            self.frames.append(read)
        raise EOFError(self.frames, self.said())

    def answer(self, seq: int) -> Frame:
        return self.find(lambda frame: frame.seq == seq and frame.status < NOTE_ASKED)

    def value(self, seq: int) -> Any:
        frame = self.answer(seq)
        assert frame.status == Status.RETURNED, rebuilt(frame)
        return load(frame.payload)

    def ask(self, kind: type[asks.Ask], seq: int | None = None) -> tuple[int, Any]:
        """The next question of this kind, and its number."""
        frame = self.find(
            lambda frame: (
                frame.status == NOTE_ASKED
                and type(frame.asked[1]) is kind
                and (seq is None or frame.seq == seq)
            )
        )
        return frame.asked

    def rest(self) -> list[Frame]:
        """All that comes until the worker has ended."""
        while (frame := self.read()) is not None:
            self.frames.append(frame)
        frames, self.frames = self.frames, []
        return frames

    def said(self) -> str:
        return os.pread(self.output, 100_000, 0).decode()


def rebuilt(frame: Frame) -> BaseException:
    error: Any = rebuild(frame.payload)
    return error.cause


@pytest.fixture
def driver():
    found = Driver()
    try:
        first = found.answer(0)
        assert pickle.loads(first.payload) == found.process.pid
        yield found
    finally:
        found.close()


def answers(frames: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.seq, frame.status) for frame in frames if frame.status < NOTE_ASKED]


GROUPS = (("", 3), ("io", 2))


# ---------------------------------------------------------------- synchronous


def test_calls_of_a_synchronous_actor_share_its_state_and_run_in_order(driver):
    assert load(driver.make(performers.Counter, 5).payload) == "Counter(5)"
    seqs = [driver.call("add", number) for number in (1, 2, 3)]
    assert [driver.value(seq) for seq in seqs] == [6, 8, 11]
    assert isinstance(rebuilt(driver.answer(driver.call("fail"))), KeyError)
    assert isinstance(rebuilt(driver.answer(driver.call("no_such_method"))), AttributeError)
    assert driver.value(driver.call("add")) == 12


def test_error_in_init_is_answered(driver):
    frame = driver.make(performers.Counter, 1, 2, 3)
    assert frame.status == Status.RAISED
    assert isinstance(rebuilt(frame), TypeError)


def test_special_methods_work_on_every_actor(driver):
    driver.make(performers.Counter, 5)
    assert driver.value(driver.call("__ray_ready__")) is True
    assert driver.value(driver.call("__ray_call__", performers.Counter.add, 3)) == 8
    seq = driver.call("__ray_terminate__")
    assert answers(driver.rest()) == [(seq, Status.EXITED)]


@pytest.mark.parametrize("concurrency_groups", [(("", 1),), GROUPS])
@pytest.mark.parametrize(("method", "args"), [("leave", (0,)), ("leave_actor", ())])
def test_wished_exit_is_answered_and_runs_exit_hooks(driver, concurrency_groups, method, args):
    driver.make(performers.Counter, concurrency_groups=concurrency_groups)
    seq = driver.call(method, *args)
    assert driver.rest() == [Frame(seq, Status.EXITED, b"")]
    assert driver.process.wait() == 0
    assert "left by the door" in driver.said()


@pytest.mark.parametrize("concurrency_groups", [(("", 1),), GROUPS])
@pytest.mark.parametrize(("code", "status"), [(3, 3), (None, 0)])
def test_other_exits_are_crashes(driver, concurrency_groups, code, status):
    driver.make(performers.Counter, concurrency_groups=concurrency_groups)
    driver.call("leave", code)
    assert answers(driver.rest()) == []
    assert driver.process.wait() == status


def test_actor_knows_who_it_is_and_prints_under_its_own_name(driver):
    driver.make(performers.Counter, 7, attempt=1)
    assert driver.value(driver.call("where")) == (
        ACTOR[8:].hex(),
        "nick",
        "Counter.where",
        "tests.worker.performers.Counter.where",
        True,
    )
    assert ";Counter(7)\x1b\\here I am\n" in driver.said()


def test_cancelled_call_of_a_synchronous_actor_sees_a_flag_of_its_own(driver):
    driver.make(performers.Counter)
    seqs = []
    for _ in range(2):
        seq = driver.call("wait_for_cancel")
        driver.ask(asks.Put, seq)
        driver.cancel(seq)
        seqs.append(seq)
    assert [driver.value(seq) for seq in seqs] == ["cancelled"] * 2


def test_interrupt_does_not_reach_calls_that_are_not_interruptible(driver):
    driver.make(performers.Counter)
    seq = driver.call("wait_for_cancel")
    driver.ask(asks.Put, seq)
    driver.interrupt(seq)
    driver.cancel(seq)
    assert driver.value(seq) == "cancelled"


def test_interrupt_ends_a_call_that_is_interruptible_and_no_more(driver):
    driver.make(performers.Counter, 1)
    seq = driver.call("hang", interruptible=True)
    driver.ask(asks.Put, seq)
    driver.interrupt(seq)
    assert driver.answer(seq).status == Status.INTERRUPTED
    assert driver.value(driver.call("add")) == 2


def test_items_of_a_generator_are_sent_as_they_come(driver):
    driver.make(performers.Counter, concurrency_groups=GROUPS)
    seq = driver.call("count_to", 3, num_returns=STREAMING)
    assert driver.value(seq) is None
    assert [frame for frame in driver.frames if frame.status == NOTE_YIELDED] == [
        *[Frame(seq, NOTE_YIELDED, NUMBER.pack(at) + dumps(at)) for at in range(3)],
        Frame(seq, NOTE_YIELDED, NUMBER.pack(3)),
    ]


# ---------------------------------------------------------------- saved state


def test_state_is_told_right_before_the_answer_of_every_nth_call(driver):
    driver.make(performers.Counter, saves_every=2)
    seqs = [driver.call(method) for method in ("add", "fail", "add", "add", "add")]
    driver.value(seqs[-1])
    frames = driver.frames
    saved = [at for at, frame in enumerate(frames) if frame.status == NOTE_SAVED]
    assert [frames[at].seq for at in saved] == [seqs[1], seqs[3]]
    assert [frames[at + 1].seq for at in saved] == [seqs[1], seqs[3]]
    assert [load(frames[at].payload) for at in saved] == [{"count": 1}, {"count": 3}]


def test_call_after_which_the_state_cannot_be_saved_fails(driver):
    driver.make(performers.Counter, saves_every=1)
    frame = driver.answer(driver.call("add", -5))
    assert frame.status == Status.RAISED
    error = rebuilt(frame)
    assert isinstance(error, ValueError)
    assert "__aioray_save__" in error.__notes__[0]
    assert driver.value(driver.call("add", 6)) == 1
    assert [load(frame.payload) for frame in driver.frames] == [{"count": 1}]


def test_saved_state_is_restored_after_init(driver):
    driver.make(performers.Counter, 1, state={"count": 41})
    assert driver.value(driver.call("add", 0)) == 42


# ---------------------------------------------------------------- threads


def test_calls_of_a_threaded_actor_run_side_by_side_in_their_groups(driver):
    driver.make(performers.Counter, concurrency_groups=(("", 1), ("io", 2)))
    seqs = [driver.call("meet"), *[driver.call("meet", concurrency_group="io") for _ in range(2)]]
    names = [driver.value(seq) for seq in seqs]
    assert sorted(names) == ["aioray-default-1", "aioray-io-1", "aioray-io-2"]


def test_cancel_reaches_one_call_of_a_threaded_actor(driver):
    driver.make(performers.Counter, concurrency_groups=GROUPS)
    seqs = [driver.call("wait_for_cancel") for _ in range(2)]
    for seq in seqs:
        driver.ask(asks.Put, seq)
    driver.cancel(seqs[1])
    assert driver.value(seqs[1]) == "cancelled"
    driver.cancel(seqs[0])
    assert driver.value(seqs[0]) == "cancelled"


def test_exit_is_the_last_answer_whatever_else_runs(driver):
    driver.make(performers.Counter, concurrency_groups=GROUPS)
    driver.ask(asks.Put, driver.call("hang"))
    seq = driver.call("leave", 0)
    assert answers(driver.rest()) == [(seq, Status.EXITED)]
    assert driver.process.wait() == 0
    assert "left by the door" in driver.said()


def test_concurrent_calls_count_what_they_put_each_for_itself(driver):
    driver.make(performers.Counter, concurrency_groups=GROUPS)
    seqs = [driver.call("put", number) for number in range(3)]
    for number, seq in enumerate(seqs):
        assert driver.value(seq) is None
        task = ids.task_id(JOB, (seq, ACTOR))
        for index in (1, 2):
            _, (identifier, value, _) = driver.ask(asks.Put, seq)
            assert identifier == ids.object_id(task, ids.PUT_INDEX + index)
            assert load(value) == number


# ---------------------------------------------------------------- event loops


def test_async_actor_is_made_on_its_loop_and_groups_have_loops_of_their_own(driver):
    assert driver.make(performers.Service, concurrency_groups=GROUPS).status == Status.RETURNED
    assert driver.value(driver.call("where")) == (True, "aioray-loop-default")
    assert driver.value(driver.call("where", concurrency_group="io")) == (False, "aioray-loop-io")


def test_coroutines_of_an_async_actor_wait_side_by_side(driver):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    waiting = [driver.call("enter") for _ in range(2)]
    driver.value(driver.call("unlock"))
    assert [driver.value(seq) for seq in waiting] == ["in", "in"]


def test_cancel_of_a_coroutine_is_a_cancelled_error(driver):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    seq = driver.call("wait_for_cancel")
    driver.ask(asks.Put, seq)
    driver.cancel(seq)
    assert driver.answer(seq).status == Status.INTERRUPTED
    seq = driver.call("shrug")
    driver.ask(asks.Put, seq)
    driver.cancel(seq)
    assert driver.value(seq) == "so what"


def test_coroutine_that_is_cancelled_before_its_first_step_does_not_start(driver):
    """1. A method holds the loop up, with a question. 2. Another call is sent, and cancelled.
    3. The question is answered: packets are read in order."""
    driver.make(performers.Service, concurrency_groups=GROUPS)
    ref = ids.object_id(ids.child_task_id(ids.driver_task_id(JOB), 1), 1)
    holding = driver.call("get", [Ref(ref)])
    request, (wanted, _, holds) = driver.ask(asks.Get, holding)
    assert (wanted, holds) == ([ref], True)
    seq = driver.call("wait_for_cancel")
    driver.cancel(seq)
    driver.reply(request, [dumps("value")])
    assert driver.value(holding) == "value"
    assert driver.answer(seq) == Frame(seq, Status.NOT_STARTED, b"")


def test_awaiting_a_ref_leaves_the_loop_to_others(driver):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    ref = ids.object_id(ids.child_task_id(ids.driver_task_id(JOB), 1), 1)
    seq = driver.call("fetch", [Ref(ref)])
    request, _ = driver.ask(asks.Get, seq)
    driver.value(driver.call("unlock"))
    driver.reply(request, [dumps("value")])
    assert driver.value(seq) == "value"


@pytest.mark.parametrize("method", ["count_to", "count_plainly_to"])
def test_generator_that_waits_for_room_leaves_the_loop_to_others(driver, method):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    seq = driver.call(method, 2, num_returns=STREAMING, backpressure=1)
    for number in (1, 2):
        request, arguments = driver.ask(asks.MayYield, seq)
        assert arguments == (number,)
        driver.value(driver.call("unlock"))
        driver.reply(request, None)
    assert driver.value(seq) is None
    items = [frame.payload for frame in driver.frames if frame.status == NOTE_YIELDED]
    assert items == [*[NUMBER.pack(at) + dumps(at) for at in range(2)], NUMBER.pack(2)]


def test_generator_that_waits_for_room_can_be_cancelled(driver):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    seq = driver.call("count_to", 2, num_returns=STREAMING, backpressure=1)
    request, _ = driver.ask(asks.MayYield, seq)
    driver.cancel(seq)
    assert driver.answer(seq).status == Status.INTERRUPTED
    assert driver.ask(asks.Forget, seq)[1] == (request,)


@pytest.mark.parametrize("code", [0, 3])
def test_async_actor_can_leave_while_others_wait(driver, code):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    driver.call("enter")
    seq = driver.call("leave", code)
    assert answers(driver.rest()) == ([] if code else [(seq, Status.EXITED)])
    assert driver.process.wait() == code
    assert driver.said() == ""


def test_async_actor_is_not_asked_whether_it_is_cancelled(driver):
    driver.make(performers.Service, concurrency_groups=GROUPS)
    assert isinstance(rebuilt(driver.answer(driver.call("is_canceled"))), RuntimeError)


# ---------------------------------------------------------------- ends, and actors of actors


@pytest.mark.parametrize("cls", [performers.Counter, performers.Service])
def test_closed_claims_pipe_ends_an_actor(driver, cls):
    driver.make(cls, concurrency_groups=GROUPS)
    os.close(driver.claims)
    driver.claims = -1
    assert answers(driver.rest()) == []
    assert driver.process.wait() == 0


@pytest.mark.parametrize("concurrency_groups", [(("", 1),), GROUPS])
def test_actor_makes_an_actor_and_calls_it(driver, concurrency_groups):
    driver.make(performers.Counter, concurrency_groups=concurrency_groups)
    seq = driver.call("hire")
    request, (key, packed, child, payload, refs, *_) = driver.ask(asks.CreateActor, seq)
    parent = ids.task_id(JOB, (seq, ACTOR))
    assert child == ids.actor_task_id(parent, 1)
    assert load(payload) == ((3,), {})
    assert refs == []
    assert pickle.loads(packed).name == "child"
    _, function = driver.ask(asks.DefineFunction, seq)
    assert (function.key, load(function.code)) == (key, performers.Counter)
    driver.reply(request, None)
    request, (actor, packed, task_key, payload, refs, *_) = driver.ask(asks.CallActor, seq)
    assert request == 0
    assert actor == ids.object_id(child, 1)
    assert task_key == ids.actor_call_id(ids.child_task_id(parent, 2), child)
    assert load(payload) == ((4,), {})
    assert pickle.loads(packed).method == "add"
    assert driver.answer(seq).status == Status.RETURNED


class Ref:
    """Becomes a ref on the other side."""

    def __init__(self, identifier: bytes) -> None:
        self.identifier = identifier

    def __reduce__(self):
        from aioray.client.refs import _rebuild

        return _rebuild, (self.identifier,)
