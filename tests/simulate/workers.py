"""Workers that are no processes: they claim, run and answer as the plan says, in frames.

`SimWorkers` stands where `WorkerProcesses` does, and does to the engine what that does: what
workers write is read by the real `AnswerReader` and `Listener`, what they may see of the store is
in the real `Loans`. A `SimWorker` is both ends: the driver's handle, and the process. What the one
says reaches the other after a while, in order; what is in a pipe when a process dies can be read.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Any

from aioray.core.commands import (
    CancelCall,
    DiscardWorker,
    InterruptWorker,
    KillWorker,
    LocateAttempt,
    LookAtAttempt,
    PollWorker,
    ReclaimAttempts,
    SendAttempts,
    StartWorker,
    StopWorker,
)
from aioray.core.events import (
    AnswersReceived,
    AttemptLocated,
    AttemptSeen,
    AttemptsReclaimed,
    MemoryRanShort,
    WorkerDied,
    WorkerExited,
    WorkerReady,
    WorkerStartFailed,
)
from aioray.core.outcomes import Answer, Ended
from aioray.engine.processes.departures import Departures
from aioray.engine.processes.inbound import AnswerReader
from aioray.engine.processes.lending import Garbage, Loans
from aioray.engine.processes.listening import Listener, wrote_garbage
from aioray.engine.processes.watching import asks_for_retry
from aioray.engine.tasks.submission import values_of
from aioray.engine.telemetry.reports import DeathReport, StartReport, Whereabouts, WorkerName
from aioray.shared.arena import read_file
from aioray.shared.wire import (
    IN_FILE,
    LET_GO,
    NOTE_OUTGROWN,
    NOTE_REFS,
    NOTE_RELEASED,
    NOTE_UNUSED,
    NUMBER,
    PAIR,
    Attempt,
    note_frame,
)

from .playing import Playing

if TYPE_CHECKING:
    from .session import SimSession

__all__ = ["SimWorker", "SimWorkers"]

KILLED = 9  # as from waitpid
MB = 1024 * 1024


class _NoFiles:
    """The loop as the listener sees it: nothing is rung, whoever writes has it read."""

    def __init__(self, loop: Any) -> None:
        self.call_later = loop.call_later
        self.is_closed = loop.is_closed

    def add_reader(self, *_args: Any) -> None:
        pass

    remove_reader = add_reader


class SimReader(AnswerReader):
    """Reads what a worker has written to its answers pipe, which is a buffer here."""

    def __init__(self, loans: Loans, hex_id: str) -> None:
        super().__init__(-1, -1, loans, hex_id)
        self.pipe = bytearray()
        self.share = 1.0  # of it that is read at once

    def read(self) -> list[Any]:
        answers: list[Any] = []
        if self.deaf or not self.pipe:
            return answers
        count = max(1, int(len(self.pipe) * self.share))
        self.share = 1.0
        data = bytes(self.pipe[:count])
        del self.pipe[:count]
        try:
            self._take(data, answers)
        except Exception as error:  # noqa: BLE001 - as in the real one
            self._chunks.clear()
            self._have = 0
            why = str(error) if isinstance(error, Garbage) else repr(error)
            self.fault = f"the answers pipe: {why}"
            self.deaf = True
        return answers

    def silence_doorbell(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Page:
    """What a worker has noted of what it runs."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def running(self) -> tuple[int, float] | None:
        for seq, playing in self._worker.playing.items():
            return seq, playing.began
        return None


class SimWorker:
    """One worker: the driver's handle, and the process."""

    def __init__(self, workers: SimWorkers, worker_id: int, hex_id: str) -> None:
        self.workers = workers
        self.session = workers.session
        # The handle.
        self.id = worker_id
        self.hex_id = hex_id
        self.pid = 100_000 + worker_id
        self.closed = False
        self.ready = False
        self.discarded = ""
        self.kill_ordered = False
        self.killed_for = ""
        self.excess: Any = None
        self.watch = None
        self.claims_writer: int | None = 1
        self.loans = Loans(workers.objects.store)
        self.inbound = SimReader(self.loans, hex_id)
        self.page = _Page(self)
        # The process.
        self.alive = True
        self.up = False
        self.status: int | None = None
        self.killed_by = ""  # the template's death
        self.claims: deque[tuple[int, Attempt, Any]] = deque()
        self.playing: dict[int, Playing] = {}  # by seq
        self.one_by_one = True
        self.wanted = 0  # the seq that is to be interrupted
        self.stopping = False
        self.is_reading = False  # somebody is about to read what it has written
        self.is_looking = False  # it is about to look at its claims
        self.arrives_at = 0.0  # when what was sent to it last does
        self.requests: dict[int, tuple[Playing, str]] = {}
        self.last_request = 0
        self.functions: set[int] = set()  # that it has told of
        self.spare: list[Any] = []  # room that it was granted and has not used
        self.last_view = 0

    # ------------------------------------------------------------ the driver's end

    def reply(self, request: int, body: Any) -> None:
        """Send a reply."""
        self.to_worker(self._replied, request, body)

    def to_worker(self, action: Any, *args: Any) -> None:
        """Have something arrive at the process, after what was sent before."""
        session = self.session
        self.arrives_at = max(self.arrives_at, session.now() + session.latency())
        session.loop.call_at(self.arrives_at, self._arrived, action, args)

    def _arrived(self, action: Any, args: Any) -> None:
        if self.alive:
            action(*args)

    # ------------------------------------------------------------ the process

    def write(self, frame: bytes) -> None:
        """Write to the pipe of answers, and have it read before long."""
        self.inbound.pipe += frame
        if not self.is_reading and not self.closed:
            self.is_reading = True
            session = self.session
            session.loop.call_later(session.latency(), self._is_read)

    def _is_read(self) -> None:
        self.is_reading = False
        session = self.session
        if self.closed or not self.ready:
            return
        if session.plan.partial and session.chance.random() < session.plan.partial:
            self.inbound.share = session.chance.random()
            self.is_reading = True
            session.loop.call_later(session.latency(), self._is_read)
        self.workers.listener._answers_came(self)

    def look(self) -> None:
        """Look at the claims."""
        self.is_looking = False
        if not self.alive or not self.up:
            return
        while self.claims and not (self.one_by_one and self.playing):
            seq, attempt, task = self.claims.popleft()
            self.playing[seq] = playing = Playing(self, seq, attempt, task)
            playing.start()
            if not self.alive:
                return
        if self.stopping and not self.playing:
            self.workers.dies(self, 0)
        elif not self.playing and self.spare:
            unused = b"".join(
                PAIR.pack(kind, _number(kind, where)) for kind, where, _ in self.spare
            )
            self.spare.clear()
            self.write(note_frame(NOTE_UNUSED, unused, 0))

    def ended(self, playing: Playing) -> None:
        """Go on after what has ended."""
        self.playing.pop(playing.seq, None)
        if playing.refs:
            self.write(note_frame(NOTE_REFS, b"".join(LET_GO + each for each in playing.refs), 0))
        self.look()

    def release(self, numbers: list[int]) -> None:
        """Let go of views."""
        if self.alive:
            self.write(note_frame(NOTE_RELEASED, b"".join(map(NUMBER.pack, numbers)), 0))

    def interrupt(self, seq: int) -> None:
        """Take a SIGINT."""
        self.wanted = seq
        playing = self.playing.get(seq)
        if playing is not None:
            playing.interrupt()

    def cancel_call(self, seq: int) -> None:
        """Take note that a call is cancelled."""
        playing = self.playing.get(seq)
        if playing is not None:
            playing.flag()
            return
        for claim in tuple(self.claims):
            if claim[0] == seq:
                self.claims.remove(claim)
                claim_playing = Playing(self, *claim)
                claim_playing.not_started()

    def stop(self) -> None:
        """End when nothing is left to do."""
        self.stopping = True
        self.look()

    def ask(self, playing: Playing, packed: Any, what: str) -> int:
        """Note a question; return its number."""
        self.last_request += 1
        self.requests[self.last_request] = playing, what
        return self.last_request

    def _replied(self, request: int, body: Any) -> None:
        playing, what = self.requests.pop(request)
        wanted = playing.request == request and self.playing.get(playing.seq) is playing
        if wanted:
            playing.request = 0
            playing.go_on(request, body)
        elif what == "Allocate" and isinstance(body, list):
            self.spare += body
            self.look()
        elif what == "Get" and isinstance(body, list):
            playing.forget(request)

    def read(self, location: Any) -> bytes | None:
        """Read a value where it lies; None: it is gone."""
        kind, where, size = location
        if kind == IN_FILE:
            found = read_file(where, size)
            return None if found is None else bytes(found)
        return self.workers.objects.store.arena.read(where, size)


def _number(kind: int, where: Any) -> int:
    return int(where.rpartition("/")[2]) if kind == IN_FILE else where


class SimWorkers:
    """All workers of a simulated session."""

    def __init__(
        self,
        session: SimSession,
        loop: Any,
        feed: Any,
        settings: Any,
        identity: Any,
        objects: Any,
        requests: Any,
        _boot: Any = None,
    ) -> None:
        self.session = session
        self.loop = loop
        self.feed = feed
        self.objects = objects
        self.requests = requests
        self.job = bytes.fromhex(identity["job"])
        self.recorder: Any = None
        self.names: dict[int, WorkerName] = {}
        self.workers: dict[int, SimWorker] = {}
        self.departures = Departures(self.workers)
        quiet: Any = _NoFiles(loop)
        known: Any = self.workers
        self.listener = Listener(quiet, feed, requests, known, self._greeted, self.discard)
        self.started = 0
        self.orders: dict[type[Any], Any] = {
            StartWorker: self._start,
            SendAttempts: self._send,
            ReclaimAttempts: self._reclaim,
            PollWorker: self._poll,
            InterruptWorker: self._interrupt,
            CancelCall: self._cancel_call,
            KillWorker: self._kill,
            DiscardWorker: self._lied,
            StopWorker: self._stop,
            LookAtAttempt: self._look_at,
            LocateAttempt: self._locate,
        }

    # ------------------------------------------------------------ what an engine asks

    def silence(self) -> None:
        pass

    take_output = after_fork_in_child = silence

    def pids(self) -> list[int]:
        return []

    def handles(self) -> list[Any]:
        return []

    def running(self) -> dict[int, tuple[int, float]]:
        found = {each.id: each.page.running() for each in self.workers.values()}
        return {key: value for key, value in found.items() if value is not None}

    def flush_output(self, done: Any) -> None:
        done()

    def unload(self, key: int) -> None:
        """Let workers forget a function: these know none."""

    async def leave(self) -> None:
        pass

    def close(self) -> None:
        """End what is left."""
        self.listener.close()
        for worker in tuple(self.workers.values()):
            if worker.alive:
                self.process_ends(worker, KILLED)
            self._let_go(worker)
        self.workers.clear()
        self.departures.tell_all()

    # ------------------------------------------------------------ orders

    def _start(self, command: StartWorker) -> None:
        worker_id = command.worker_id
        session = self.session
        self.started += 1
        session.story("start", worker_id)
        hex_id = f"{worker_id:056x}"
        worker = self.workers[worker_id] = SimWorker(self, worker_id, hex_id)
        if self.recorder is not None:
            self.recorder.launched(worker_id, hex_id)
        seconds = 0.005 * (0.2 + session.chance.random()) + session.latency()
        fails = session.chance.random() < session.plan.failed_starts
        self.loop.call_later(seconds, self._comes_up, worker, fails)

    def _comes_up(self, worker: SimWorker, fails: bool) -> None:
        if not worker.alive or worker.closed:
            return
        self.names[worker.id] = WorkerName(worker.hex_id, worker.pid)
        if self.recorder is not None:
            self.recorder.forked(worker.id, worker.pid)
        if fails and self.session.chance.random() < 0.5:
            self.dies(worker, KILLED)
            return
        if fails:
            self._start_failed(worker, StartReport("the simulator has refused it"))
            return
        worker.ready = worker.up = True
        worker.inbound.expects = functools.partial(self.requests.expects, worker.id)
        if self.recorder is not None:
            self.recorder.ready(worker.id)
        self.feed(WorkerReady(worker.id))

    def _start_failed(self, worker: SimWorker, report: StartReport) -> None:
        if self.workers.pop(worker.id, None) is None:
            return
        worker.alive = False
        self.session.story("start fails", worker.id)
        self._let_go(worker)
        if self.recorder is not None:
            self.recorder.start_failed(worker.id, report)
        self.feed(WorkerStartFailed(worker.id, report))

    def _greeted(self, handle: Any, hello: Any) -> None:
        raise AssertionError("it greets by itself")

    def _send(self, command: SendAttempts) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is None:
            return
        missing: list[Answer] = []
        for task in command.tasks:
            args, arguments, values = task.payload, task.arguments, []
            if arguments or type(args) is not bytes:
                found = values_of(arguments) if arguments else []
                if found is None:
                    missing.append(Answer(task.seq, Ended.ARGUMENT_LOST, b"", 0.0, 0.0))
                    continue
                args, *values = worker.loans.lend(task.seq, (args, *found))
            head = (task.seq, task.function.key, task.task_key, task.attempt, task.worker.devices)
            attempt = Attempt._make((*head, *task.kind.spec, args, values))
            worker.claims.append((task.seq, attempt, task.number))
        if not worker.is_looking:
            worker.is_looking = True
            worker.to_worker(worker.look)
        self.listener.look_soon()
        if missing:
            self.feed(AnswersReceived(worker.id, missing))

    def _reclaim(self, command: ReclaimAttempts) -> None:
        worker = self.workers.get(command.worker_id)
        seqs: list[int] = [] if worker is None else self._take_back(worker)
        self.feed(AttemptsReclaimed(command.worker_id, seqs))

    def _take_back(self, worker: SimWorker) -> list[int]:
        seqs = [seq for seq, _, _ in worker.claims]
        worker.claims.clear()
        for seq in seqs:
            worker.loans.end(seq)
        return seqs

    def _poll(self, command: PollWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            self.listener.read(worker)

    def _interrupt(self, command: InterruptWorker) -> None:
        worker = self.workers.get(command.worker_id)
        session = self.session
        if worker is not None and session.chance.random() >= session.plan.lost_interrupts:
            worker.to_worker(worker.interrupt, command.seq)

    def _cancel_call(self, command: CancelCall) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.to_worker(worker.cancel_call, command.seq)
            self.requests.let_yield(worker, command.seq)

    def _kill(self, command: KillWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.killed_for = command.reason
            worker.excess = command.excess
            self.kill(worker)

    def kill(self, worker: SimWorker) -> None:
        """Send SIGKILL."""
        worker.kill_ordered = True
        self.loop.call_later(self.session.latency(), self.dies, worker, KILLED)

    def discard(self, handle: Any, reason: str) -> None:
        """Kill a worker that cannot be worked with."""
        if handle.discarded or handle.closed:
            return
        handle.discarded = reason
        self.listener.remove(handle)
        self.feed(WorkerDied(handle.id))
        self.kill(handle)

    def _lied(self, command: DiscardWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.inbound.deaf = True
            self.discard(worker, wrote_garbage("the answers pipe: an answer that it does not have"))

    def _stop(self, command: StopWorker) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            worker.claims_writer = None
            worker.to_worker(worker.stop)

    def _look_at(self, command: LookAtAttempt) -> None:
        worker = self.workers.get(command.worker_id)
        if worker is not None:
            playing = worker.playing.get(command.seq)
            entered = None if playing is None else playing.entered
            beat = 0.0 if playing is None else playing.beat
            self.feed(AttemptSeen(worker.id, command.seq, entered, beat))

    def _locate(self, command: LocateAttempt) -> None:
        worker, task, seq = self.workers.get(command.worker_id), command.task, command.task.seq
        if worker is None:
            return
        number = task.attempt

        def tell() -> None:
            report = Whereabouts(self.names.get(worker.id), number, "here")
            retries = task.seq == seq and asks_for_retry(self.job, task, command.overrun, report)
            self.feed(AttemptLocated(worker.id, seq, report, retries))

        self.loop.call_later(self.session.latency(), tell)

    # ------------------------------------------------------------ deaths

    def process_ends(self, worker: SimWorker, status: int | None) -> None:
        """End the process, and what it runs."""
        worker.alive = False
        worker.status = status
        for playing in worker.playing.values():
            playing.dies()
        self.session.witness.worker_died(worker)

    def dies(self, worker: SimWorker, status: int) -> None:
        """End a process; the driver hears of it a little later."""
        if not worker.alive:
            return
        self.session.story("dies", worker.id, status)
        self.process_ends(worker, status)
        session = self.session
        heard = session.latency()
        self.loop.call_later(heard, self._heard, worker)
        self.loop.call_later(heard + session.latency(), self._exited, worker)

    def _heard(self, worker: SimWorker) -> None:
        if not worker.closed:
            self.feed(WorkerDied(worker.id))

    def _exited(self, worker: SimWorker) -> None:
        if self.workers.get(worker.id) is not worker:
            return
        running = worker.page.running()
        self.feed(WorkerDied(worker.id))
        self.listener.read(worker)
        self.feed(AttemptsReclaimed(worker.id, self._take_back(worker)))
        del self.workers[worker.id]
        report = DeathReport(
            WorkerName(worker.hex_id, worker.pid),
            worker.status,
            template_death=worker.killed_by,
            discarded=worker.discarded or worker.killed_for,
            excess=worker.excess,
        )
        if self.recorder is not None:
            handle: Any = worker
            self.recorder.exited(handle, report)
        self._let_go(worker)
        self.feed(functools.partial(self.requests.gone, worker.id))
        started = None if running is None else running[1]
        self.feed(WorkerExited(worker.id, report, started))
        self.departures.tell(worker.id)

    def _let_go(self, worker: SimWorker) -> None:
        self.listener.remove(worker)
        worker.closed = True
        worker.loans.close()

    # ------------------------------------------------------------ faults from outside

    def _some(self, where: float, *, up: bool = True) -> SimWorker | None:
        living = [each for each in self.workers.values() if each.alive and (each.up or not up)]
        return living[int(where * len(living))] if living else None

    def kill_some(self, where: float) -> None:
        """Have a worker die that nobody wanted to."""
        worker = self._some(where, up=False)
        if worker is not None:
            self.dies(worker, (KILLED, 11, 256, 0)[int(where * 1000) % 4])

    def template_dies(self) -> None:
        """Have all workers die at once."""
        self.session.story("template dies")
        all_of_them = tuple(self.workers.values())
        for worker in all_of_them:
            if worker.alive:
                worker.killed_by = "the template was killed by SIGKILL"
                self.process_ends(worker, None)

        def heard() -> None:
            for worker in all_of_them:
                if self.workers.get(worker.id) is not worker:
                    continue
                if worker.ready:
                    self._exited(worker)
                else:
                    self._start_failed(worker, StartReport("its template died"))

        self.loop.call_later(self.session.latency(), heard)

    def memory_short(self, where: float) -> None:
        """Have the machine run short of memory."""
        chance = self.session.chance
        measures = [(each.id, chance.randrange(200) * MB) for each in self.workers.values()]
        self.feed(MemoryRanShort(950 * MB, 1000 * MB, 900 * MB, measures))

    def outgrown(self, where: float) -> None:
        """Have a worker that runs nothing say that it keeps too much memory."""
        worker = self._some(where)
        if worker is not None and not worker.playing:
            worker.write(note_frame(NOTE_OUTGROWN, NUMBER.pack(500 * MB), 0))
