"""What workers print is kept for each attempt: exactly what it wrote, and nothing of others."""

from __future__ import annotations

import collections

import pytest

import aioray
from aioray.engine.processes import pool as crew
from aioray.engine.processes.output import LineReader

from . import printing


class Kept:
    """All that readers have handed over."""

    def __init__(self):
        self.data = collections.defaultdict(bytes)  # by pid, stream, seq

    def of(self, stream):
        """What the attempts have written that wrote something, in order of worker and seq."""
        pids = list(dict.fromkeys(pid for pid, _, _ in self.data))
        found = {key: data for key, data in self.data.items() if key[1] == stream}
        return [found[key] for key in sorted(found, key=lambda key: (pids.index(key[0]), key[2]))]


@pytest.fixture
def kept(monkeypatch):
    kept = Kept()

    class Reader(LineReader):
        def __init__(self, loop, fd, pid, printer, keep=None, **options):
            def keep_too(seq, stream, data):
                kept.data[pid, stream, seq] += data
                if keep is not None:
                    keep(seq, stream, data)

            super().__init__(loop, fd, pid, printer, keep_too, **options)

    monkeypatch.setattr(crew, "LineReader", Reader)
    return kept


@pytest.fixture
def one(kept):
    """What a session with one worker at a time keeps; it is complete when the session has ended."""
    aioray.init(num_cpus=1, log_to_driver=False)
    yield kept
    aioray.shutdown()


def run(job, *arguments, **options):
    return aioray.get(aioray.remote(max_retries=0, **options)(job).remote(*arguments))


def test_each_attempt_has_its_own_output(one):
    for number in range(3):
        run(printing.say, f"task {number}")
        run(printing.complain, f"task {number}")
    aioray.shutdown()
    assert one.of(1) == [b"task 0\n", b"task 1\n", b"task 2\n"]
    assert one.of(2) == [b"task 0\n", b"task 1\n", b"task 2\n"]


WRITERS = [
    printing.run_shell,
    printing.run_program,
    printing.run_after_fork,
    printing.spawn,
    printing.fork,
]


@pytest.mark.parametrize("job", WRITERS)
def test_output_past_pythons_streams_is_the_attempts_that_has_caused_it(one, job):
    remote = aioray.remote(job)
    for _ in range(2):  # to make the function known to be short is not possible: processes last
        aioray.get(remote.remote("one"))
        run(printing.say, "x")
        run(printing.complain, "x")
    aioray.shutdown()
    assert one.of(1) == [b"one", b"x\n"] * 2
    assert one.of(2) == [b"one!", b"x\n"] * 2


def test_os_write_is_the_attempts_also_of_a_function_that_is_known_to_be_short(one):
    write = aioray.remote(printing.write)
    aioray.get([write.remote(b"%d" % number) for number in range(50)])
    aioray.shutdown()
    assert one.of(1) == [b"%d" % number for number in range(50)]
    assert one.of(2) == [b"%d!" % number for number in range(50)]


def test_c_code_of_a_function_that_is_not_known_to_be_short(one):
    run(printing.say, "before")
    run(printing.print_from_c, b"from C\n")
    aioray.shutdown()
    assert one.of(1) == [b"before\n", b"from C\n"]


def test_child_that_is_left_behind_prints_as_who_has_forked_it(one, pipes):
    pipe, told = pipes(2)
    run(printing.fork_and_leave, "left behind", pipe.path)
    later = aioray.remote(printing.tell_and_wait_for_text).remote(pipe.path, "text", told.path)
    while one.of(2) != [b"left behind!"]:  # its stderr comes last
        aioray.wait([later], timeout=0.01)
    told.tell()
    aioray.get(later)
    aioray.shutdown()
    assert one.of(1) == [b"left behind", b"before\nafter\n"]


def test_attempts_of_one_task(one):
    aioray.get(aioray.remote(retry_exceptions=True)(printing.fail_twice).remote("try"))
    aioray.shutdown()
    assert one.of(1) == [b"try 0\n", b"try 1\n", b"try 2\n"]


def test_crash_in_the_middle_of_a_line(one):
    aioray.get(aioray.remote(max_retries=1)(printing.run_twice_and_die).remote("try"))
    aioray.shutdown()
    assert one.of(1) == [b"try 0", b"try 1 done\n"]


@pytest.mark.parametrize(
    "data", [b"no end", b"\xff\x00\xfe\x1b\x1b_aioray;\x1b", b"x" * 300_000, b"\n\n\r\n"]
)
def test_bytes_are_kept_as_they_are(one, data):
    run(printing.write_bytes, data)
    run(printing.write, data)
    run(printing.say, "next")
    aioray.shutdown()
    assert one.of(1) == [data, data, b"next\n"]


def test_file_that_user_code_puts_in_place_gets_no_marks(one, tmp_path):
    path = tmp_path / "file"
    run(printing.put_file_in_place, str(path))
    aioray.shutdown()
    assert path.read_text() == "into the file\nthis too\n"
    assert one.of(1) == [b"into the pipe\n"]


def test_thread_of_a_task_prints_as_the_task(one):
    run(printing.say, "before")
    run(printing.thread_that_prints, 200)
    run(printing.say, "after")
    aioray.shutdown()
    before, both, after = one.of(1)
    assert (before, after) == (b"before\n", b"after\n")
    assert sorted(both.split()) == sorted(
        word.encode()
        for number in range(200)
        for word in ("thread", str(number), "attempt", str(number))
    )


def test_task_that_waits_for_another(kept):
    aioray.init(num_cpus=2, log_to_driver=False)
    run(printing.ask_inside, "ask")
    aioray.shutdown()
    assert sorted(kept.of(1)) == [b"ask before\nask after\n", b"ask\n"] or sorted(kept.of(1)) == [
        b"ask\n",
        b"ask before\nask after\n",
    ]


# ---------------------------------------------------------------- actors


def test_calls_of_an_actor(one):
    actor = aioray.remote(max_restarts=1)(printing.Plain).remote("it")
    aioray.get([actor.say.remote(f"call {number}") for number in range(3)])
    with pytest.raises(aioray.exceptions.RayActorError):
        aioray.get(actor.die.remote())
    aioray.get(actor.say.options(max_task_retries=-1).remote("again"))
    aioray.shutdown()
    assert one.of(1) == [
        b"made it\n",
        b"call 0\n",
        b"call 1\n",
        b"call 2\n",
        b"dying",
        b"made it\n",
        b"again\n",
    ]


def in_turns(tag, rounds):
    return b"".join(b"%b %d\n" % (tag, number) for number in range(rounds)) + tag


def test_unfinished_lines_of_calls_in_threads_are_not_mixed(one):
    actor = aioray.remote(max_concurrency=2)(printing.Threaded).remote()
    aioray.get([actor.print_in_turns.remote(tag, 20) for tag in "ab"])
    aioray.shutdown()
    assert one.of(1) == [b"made\n", in_turns(b"a", 20), in_turns(b"b", 20)]
    assert one.of(2) == [b"a!\n" * 20, b"b!\n" * 20]


def test_large_output_of_calls_in_threads_is_not_mixed(one):
    actor = aioray.remote(max_concurrency=2)(printing.Threaded).remote()
    aioray.get([actor.print_long.remote(tag, 50_000) for tag in "ab"])
    aioray.shutdown()
    assert one.of(1) == [b"made\n", *(b"%b\n%b%b" % ((tag * 50_000,) * 3) for tag in (b"a", b"b"))]


def test_program_that_a_call_starts_while_others_print(one):
    actor = aioray.remote(max_concurrency=2)(printing.Threaded).remote()
    aioray.get([actor.run_program.remote(), actor.print_beside.remote()])
    aioray.shutdown()
    assert one.of(1) == [b"made\n", b"one\ntwo\n", b"beside\n"]


def test_thread_that_a_call_in_a_thread_has_started_belongs_to_no_call(one):
    actor = aioray.remote(max_concurrency=2)(printing.Threaded).remote()
    aioray.get(actor.start_thread.remote())
    aioray.shutdown()
    assert [(seq, data) for (_, _, seq), data in sorted(one.data.items())][:1] == [
        (0, b"from nobody\n")
    ]


def test_unfinished_lines_of_coroutines_are_not_mixed(one):
    actor = aioray.remote(printing.Asynchronous).remote()
    aioray.get([actor.print_in_turns.remote(tag, 20) for tag in "ab"])
    aioray.shutdown()
    assert one.of(1) == [
        b"made\n",
        *(
            b"".join(b"%b %d\n%b in a thread\n" % (tag, number, tag) for number in range(20)) + tag
            for tag in (b"a", b"b")
        ),
    ]
