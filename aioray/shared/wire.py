"""What driver, template and worker say to each other, and how it is framed.

Room: shared; stdlib only, imports nothing of either.

A worker has these descriptors (`WorkerFds`):

- *bundles*, a SOCK_SEQPACKET socket, driver to worker: what attempts consist of. One message of
  `packets` is one bundle, (codes, attempts); of one large attempt the long byte strings lie in the
  message's memory file, and an (offset, size) pair stands where each was. A value that is kept in
  the store is not sent: its `Location` is. A message can also be a reply to something that the
  worker has asked, (request, body); or name functions that are not needed any more, a tuple of one
  list, of their keys; or tell an actor that a call of it is cancelled, a tuple of one number, the
  seq.
- *arena*, the memory file of large values, see `aioray.shared.arena`. A worker writes only where it
  was granted room.
- *claims*, a pipe, driver to worker: one 8-byte number per attempt. A worker may run an attempt
  only after it has read its number here. The driver keeps the reading end too: whatever number it
  reads first itself, the worker can no longer run; 0 is no attempt, but says that the socket is
  full, of bundles that were taken back: read them. The kernel gives each number to one reader, so
  taking work back is free of races, and needs no help from a worker that is stuck.
- *singles*, a pipe of packets, driver to worker: what is sent to a worker that has nothing else,
  (codes, attempt), bundle and claim in one. Whoever reads the packet has claimed the attempt; the
  driver keeps the reading end here too. It comes before whatever is claimed later.
- *answers*, a pipe, worker to driver: `ANSWER` frames, written as soon as there is a result. They
  are safe there when the worker dies a moment later. Frames whose status is a `NOTE_` are no
  answers: the worker asks something (`asks`), maybe on behalf of the task that it runs; it does not
  need room that it was granted; it keeps looking at a value after the attempt that had it as an
  argument (said before the answer), or which it got by asking; it has let go of such views; it
  holds refs, or has let go of them; its actor has saved its state; user code has measured
  something; the process keeps too much memory. Their order is that in which
  things happened: a ref that was found inside a value is said to be held before whatever kept it
  alive until then ends.
- *doorbell*, an eventfd, worker to driver: "read my answers". Rung once for many answers, because
  waking the driver is what costs. Not rung from the moment a single is claimed until something
  else is: until that is answered the driver watches the answers themselves.
- *page*, a shared memory file: `PAGE_*` cells, and after `PAGE_SIZE` the stack that faulthandler
  writes when the process dies of a signal.
- *stacks*, a memory file: the worker writes one line break when it takes `STACK_SIGNAL`; at each
  of these signals faulthandler appends all its stacks, also if the interpreter is stuck. In an
  asynchronous actor the interpreter then appends, when it comes to that, where calls wait, and
  `STACK_END`.
- *stdout*, *stderr*: the user's own, see `OUTPUT_MARK`.

The bundle is always sent before the claims, so a worker that has claimed a number can find it.
"""

from __future__ import annotations

import signal
import struct
from enum import IntEnum
from typing import Any

from ..core.records import NamedTuple

__all__ = [
    "ANSWER",
    "CHUNK",
    "CLAIM",
    "CREATION",
    "DYNAMIC",
    "FAULT",
    "GOT",
    "HELD",
    "IN_FILE",
    "IN_MEMORY",
    "LET_GO",
    "LOCATION_MARK",
    "LONGEST_FRAME",
    "LONGEST_MARK",
    "LONGEST_NAME",
    "NOTE_ASKED",
    "NOTE_ITEMS",
    "NOTE_KEPT",
    "NOTE_MEASURED",
    "NOTE_OUTGROWN",
    "NOTE_REFS",
    "NOTE_RELEASED",
    "NOTE_SAVED",
    "NOTE_UNUSED",
    "NOTE_YIELDED",
    "NUMBER",
    "OUTPUT_MARK",
    "OUTPUT_MARK_BACK",
    "OUTPUT_MARK_END",
    "PACKED_LOCATION",
    "PAGE",
    "PAGE_BASE",
    "PAGE_BEAT",
    "PAGE_BEATS",
    "PAGE_BEGUN",
    "PAGE_CALLS",
    "PAGE_DELIVERED",
    "PAGE_ENTERED",
    "PAGE_FILL",
    "PAGE_GROUPS",
    "PAGE_INTERRUPT",
    "PAGE_KIND",
    "PAGE_RUNNING",
    "PAGE_SEQS",
    "PAGE_SIZE",
    "PAGE_STARTED",
    "PAGE_THREADS",
    "PAGE_UNLISTED",
    "PAGE_VALID",
    "PAGE_VALUES",
    "PAIR",
    "PROGRESS",
    "REF_CHANGE",
    "SINGLE",
    "STACK_END",
    "STACK_SIGNAL",
    "STREAMING",
    "ActorCallInfo",
    "Attempt",
    "Creation",
    "Location",
    "Status",
    "TaskSpec",
    "WorkerFds",
    "note_frame",
]

CLAIM = struct.Struct("<Q")
SINGLE = 4096  # bytes at most; PIPE_BUF, so that it is one packet
ANSWER = struct.Struct("<QQBddd")  # payload length, seq, status, started, seconds run, delay
LONGEST_FRAME = 4 * 1024**3  # bytes of a payload; values of more than 100 KB are not part of it

NOTE_ASKED = 16  # payload: see `asks`; seq is that of the attempt that asks
NOTE_UNUSED = 17  # payload: PAIR for each room, kind, and offset or name of the file
NOTE_KEPT = 18  # payload: PAIR for each view, offset and number; seq is that of the attempt
NOTE_RELEASED = 19  # payload: NUMBER for each view
NOTE_REFS = 20  # payload: for each object that is held from now on or no longer, HELD or LET_GO, id
HELD = b"+"
LET_GO = b"-"
REF_CHANGE = 1 + 28  # bytes of HELD or LET_GO, and the id
NOTE_SAVED = 22  # payload: the state of the actor after the call `seq`; counts if that is answered
NOTE_YIELDED = 21  # payload: NUMBER, an item's index from 0, and its value; last how many, alone
NOTE_MEASURED = 23  # payload: what user code has measured since the last such note, see `meters`
NOTE_OUTGROWN = 24  # payload: NUMBER, bytes that the process keeps, which are too many
NOTE_ITEMS = 25  # payload: what has become of items of a chunk, see `chunks`; one value more
GOT = 1 << 63  # added to a request's number, the seq of NOTE_KEPT for what a reply has given
STREAMING = -1  # instead of a number of returns: an ObjectRefGenerator
DYNAMIC = -2  # one ref, to a DynamicObjectRefGenerator
CHUNK = -3  # an ObjectRefGenerator of what becomes of the items of a chunk, see `chunks`
NUMBER = struct.Struct("<Q")
PAIR = struct.Struct("<QQ")

IN_MEMORY = 0
IN_FILE = 1
Location = tuple[int, int | str, int]
"""Where a value lies that is not sent: (IN_MEMORY, offset, size) or (IN_FILE, path, size)."""

PACKED_LOCATION = struct.Struct("<B3xIQQ")  # LOCATION_MARK, kind, offset or name of the file, size
LOCATION_MARK = 3  # instead of a value's first byte: it lies where room was granted for it

PAGE_SIZE = 4096 + 4 * 8 * 4096 + 8 * 4096
PAGE = struct.Struct("<Q")
PAGE_INTERRUPT = 0  # driver: the seq that is to be interrupted
PAGE_DELIVERED = 8  # worker: the seq whose function has got its KeyboardInterrupt
PAGE_RUNNING = 16  # worker: the seq it works on, 0 between attempts
PAGE_STARTED = 24  # worker: when that began, monotonic seconds, as a double
PAGE_BEAT = 32  # worker: when user code said last that it gets on, a double; inf: it may wait
PAGE_UNLISTED = 40  # worker: how many timed calls of an actor run for which there was no row
PAGE_BEGUN = 48  # worker: of an asynchronous actor, by concurrency group, the call begun last
PAGE_GROUPS = 64  # of which that is noted
# Worker: a table of the timed calls of an actor that run side by side, column by column. SEQS: 0 in
# a free row. ENTERED, BEATS: doubles, as PAGE_STARTED and PAGE_BEAT. THREADS: what runs it.
PAGE_CALLS = 4096  # rows
PAGE_SEQS = 4096
PAGE_ENTERED = PAGE_SEQS + 8 * PAGE_CALLS
PAGE_BEATS = PAGE_ENTERED + 8 * PAGE_CALLS
PAGE_THREADS = PAGE_BEATS + 8 * PAGE_CALLS
PAGE_FILL = 64  # worker: of a chunk, what PAGE_VALUES holds where no number is yet, see `chunks`
PAGE_BASE = 72  # worker: position of the first item of the burst that runs
PAGE_KIND = 80  # worker: of what kind their values are, see `chunks`; 0: no burst runs
PAGE_VALID = 88  # worker: bytes of PAGE_VALUES that are used, of pickles
# Worker: up to PAGE_SIZE, the values of the burst, which may not have been told.
PAGE_VALUES = PAGE_THREADS + 8 * PAGE_CALLS

STACK_SIGNAL = int(signal.SIGRTMAX) - 2  # hardly anybody uses it
STACK_END = b"Stacks end.\n"

OUTPUT_MARK = b"\x1b_aioray;"
"""Begins an invisible (APC) sequence in a worker's output, `ESC _ aioray;SEQ;NAME ESC \\`: what
follows was written by this attempt, until another mark says otherwise. With `+SEQ` only what comes
before the next OUTPUT_MARK_BACK was."""
OUTPUT_MARK_BACK = OUTPUT_MARK + b"-;\x1b\\"
OUTPUT_MARK_END = b"\x1b\\"
LONGEST_MARK = 4096  # bytes; PIPE_BUF, so that a pipe takes a mark whole
LONGEST_NAME = 1000  # bytes
PROGRESS = b"progress"
"""Instead of SEQ: no other attempt, but the state of a progress bar, as JSON in place of NAME."""


HOOK_FAILED = "Failed to execute the setup hook method"
"""In the error of a worker whose hook has raised; Ray's words, which programs look for."""


class Status(IntEnum):
    """How an attempt ended; the same order as `aioray.core.outcomes.Ended`."""

    RETURNED = 0
    RAISED = 1
    RAISED_RETRYABLE = 2
    ASKED_FOR_RETRY = 3
    FORBADE_RETRY = 4
    INTERRUPTED = 5
    NOT_STARTED = 6
    ARGUMENT_LOST = 7
    EXITED = 8
    RAISED_CANCELLED = 9
    RAISED_CANCELLED_RETRYABLE = 10


class TaskSpec(NamedTuple):
    """What all attempts of all calls of a function with the same options have in common."""

    name: str
    num_returns: int = 1  # or STREAMING, DYNAMIC, CHUNK
    backpressure: int = 0  # items of a generator that may wait to be read; 0: any number
    retry_rule: bytes | bool = False  # which exceptions are retryable: pickled rule, or none / all
    resources: tuple[tuple[str, int], ...] = ()
    group: str = ""  # id of the placement group that it runs in, in hexadecimal; or empty
    captures: bool = False  # whether what it submits runs in that group too
    role: Any = None  # of calls of actors, an ActorCallInfo as a plain tuple; None: a task
    # What OpenTelemetry's propagators say of its span, pairs of str; None: no tracing. It is added
    # to a copy for each task.
    trace: Any = None


class Attempt(NamedTuple):
    """One attempt as it travels in a bundle: its head, the TaskSpec, and the arguments."""

    seq: int
    function: int  # key of the function's code
    task_key: Any  # of the task, see ids.TaskKey
    attempt: int  # from 0
    devices: tuple[str, ...]  # the GPUs that it may use, as CUDA_VISIBLE_DEVICES names them
    name: str  # from here on see TaskSpec
    num_returns: int
    backpressure: int
    retry_rule: bytes | bool
    resources: tuple[tuple[str, int], ...]
    group: str
    captures: bool
    role: Any
    trace: Any
    payload: Any  # bytes of (args, kwargs), or their Place; empty: no arguments
    arguments: Any  # the values of top-level refs, each as bytes or as a Place


class ActorCallInfo(NamedTuple):
    """What an attempt is to an actor, as it travels in `Attempt.role`."""

    method: str  # CREATION: make the actor
    concurrency_group: str  # concurrency group; empty: the default one
    interruptible: bool  # KeyboardInterrupt may end it, in the main thread; else a cancel is a flag
    creation: Any = None  # of a Creation, the plain tuple
    timed: bool = False  # it has time limits, so the driver wants to know how it gets on


class Creation(NamedTuple):
    """What a worker must know to become an actor."""

    actor_id: str  # in hexadecimal
    name: str  # as given; empty: none
    class_name: str
    asynchronous: bool  # its methods run on event loops
    concurrency_groups: tuple[
        tuple[str, int], ...
    ]  # how many calls of each concurrency group run at once
    saves_every: int  # calls after which its state is saved; 0: it has no such hooks
    restores: bool  # the last of the attempt's arguments is its saved state
    meta: bytes  # what handles are made of, see `client.actor_meta`


CREATION = "__init__"
CONTEXT = "aioray-context"
"""In `Attempt.trace` beside what names a span: context variables, see `client.context_vars`."""

FAULT = "aioray-fault"
"""In `Attempt.trace` beside what names a span: what is to go wrong, see `aioray.worker.faults`."""


class WorkerFds(NamedTuple):
    """The worker's ends, in the order in which they travel to the template."""

    bundles: int
    claims: int
    answers: int
    doorbell: int
    page: int
    arena: int
    stdout: int
    stderr: int
    stacks: int
    singles: int


def note_frame(kind: int, payload: bytes, seq: int) -> bytes:
    """Return a frame that is no answer."""
    return ANSWER.pack(len(payload), seq, kind, 0.0, 0.0, 0.0) + payload
