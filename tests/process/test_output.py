"""What workers print: on the driver's own streams, line by line, whole."""

from __future__ import annotations

import os
import re

import pytest

SCRIPT = """
import os, sys, aioray
from tests.process import jobs
aioray.init(num_cpus=1, **eval(sys.argv[1]))
def run(job, *arguments, **options):
    try:
        return aioray.get(aioray.remote(**{"max_retries": 0, **options})(job).remote(*arguments))
    except aioray.exceptions.WorkerCrashedError:
        return None
"""
PREFIX = re.compile(r"^\((\w+) pid=(\d+)\) ")


def output(drive, body, settings=None, **options):
    status, out, err = drive(SCRIPT + body, repr(settings or {}), **options).finish()
    assert status == 0, err
    return out, err


def lines(text):
    """Name of the printing task and what it printed, line by line."""
    found = []
    for line in text.splitlines():
        match = PREFIX.match(line)
        assert match, f"no prefix: {line!r}"
        found.append((match[1], line[match.end() :]))
    return found


def test_lines_have_the_name_of_the_task_and_go_to_the_same_stream(drive):
    out, err = output(
        drive,
        "run(jobs.speak, 'hello'); run(jobs.write_to_stderr, 'oh'); run(jobs.speak, 'x', name='n')",
    )
    assert lines(out) == [("speak", "hello"), ("n", "x")]
    assert lines(err) == [("write_to_stderr", "oh")]


def test_ten_thousand_lines_arrive_whole_and_in_order_with_the_unfinished_last(drive):
    out, err = output(drive, "run(jobs.print_lines, 10_000)")
    expected = [f"line {number}" for number in range(10_000)] + ["the end, unfinished"]
    assert [line for _, line in lines(out)] == expected
    assert err == ""


def test_lines_of_several_workers_are_never_mixed(drive):
    body = """
aioray.shutdown(); aioray.init(num_cpus=3)
tags = ["red", "green", "blue"]
aioray.get([aioray.remote(jobs.print_lines).options(name=tag).remote(3000, tag) for tag in tags])
"""
    out, _ = output(drive, body, env={**os.environ, "RAY_DEDUP_LOGS": "0"})
    found = lines(out)
    for tag in ("red", "green", "blue"):
        mine = [line for name, line in found if name == tag]
        assert mine == [f"{tag} {number}" for number in range(3000)] + ["the end, unfinished"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("jobs.write_from_c, 'from C'", "from C"),
        ("jobs.write_from_c, 'two\\nlines'", "two\nlines"),
        ("jobs.print_and_die, 'last words'", "last words"),
        ("jobs.speak, 'ünïcode ✓'", "ünïcode ✓"),
        ("jobs.speak, 'a\\x1bb'", "a\x1bb"),
        ("jobs.write_from_c, 'x' * 200_000", "x" * 200_000),
    ],
)
def test_nothing_is_lost(drive, call, text):
    out, _ = output(drive, f"run({call})")
    assert "\n".join(line for _, line in lines(out)) == text


def test_names_steer_no_terminal_in_prefixes_and_in_what_the_engine_says(drive, tmp_path):
    body = """
import logging
from aioray.util import placement_group
evil = "a\\x1b[2J\\x07\\r\\n\\x9b\\u202eb"
class Evil:
    def __repr__(self): return "r" + evil
    def speak(self, text): print(text)
    def die(self): os._exit(42)
Evil.__name__ = Evil.__qualname__ = "C" + evil
class Plain(Evil):
    __repr__ = object.__repr__
Plain.__name__ = Plain.__qualname__ = "P" + evil
run(jobs.speak, "mine \\x1b[31m", name=evil)
run(jobs.fail_times, sys.argv[2], 1, name=evil, max_retries=1, retry_exceptions=True)
actor = aioray.remote(max_restarts=1, name=evil)(Evil).remote()
aioray.get(actor.speak.remote("hers"))
for _ in range(2):
    try: aioray.get(actor.die.remote())
    except aioray.exceptions.RayActorError: pass
plain = aioray.remote(Plain).remote()
aioray.get(plain.speak.remote("his"))
aioray.remote(jobs.same).options(name=evil, num_cpus=99).remote(1)
aioray.remote(jobs.fail).options(name=evil).remote(evil)
aioray.get(aioray.remote(jobs.same).remote(1))
"""
    status, out, err = drive(SCRIPT + body, "{}", tmp_path / "note").finish()
    assert status == 0, err
    shown = r"a\x1b[2J\x07\r\n\x9b\u202eb"
    first, second, third = out.splitlines()
    assert re.fullmatch(rf"\({re.escape(shown)} pid=\d+\) mine \x1b\[31m", first)
    assert re.fullmatch(r"\(ra\\x1b\[2J\\x07 \\x9b\\u202eb pid=\d+\) hers", second)
    assert re.fullmatch(rf"\(P{re.escape(shown)} pid=\d+\) his", third)
    assert not {c for c in err if not c.isprintable()} - {"\n", "\t"}
    assert f"Task {shown} failed. There are 1 retries remaining" in err
    assert f"Actor C{shown} (" in err
    assert f"Task {shown} asks for" in err


def test_log_to_driver_false_prints_nothing(drive):
    out, err = output(
        drive,
        "run(jobs.speak, 'hello'); run(jobs.write_to_stderr, 'oh'); run(jobs.print_lines, 5000)",
        {"log_to_driver": False},
    )
    assert (out, err) == ("", "")


def test_ray_disable_worker_log_prefix(drive):
    body = "import os; os.environ['RAY_DISABLE_WORKER_LOG_PREFIX'] = '1'; run(jobs.speak, 'plain')"
    assert output(drive, body)[0] == "plain\n"


def test_output_of_a_program_that_a_task_starts(drive):
    body = """
def shell():
    import subprocess
    subprocess.run(["echo", "from a program"], check=True)
run(shell)
"""
    assert [line for _, line in lines(output(drive, body)[0])] == ["from a program"]


def test_driver_whose_stdout_is_closed_goes_on(drive):
    body = """
sys.stdout.close(); os.close(1); os.open("/dev/null", os.O_WRONLY)
run(jobs.speak, 'into the void'); assert run(jobs.add, 1, 2) == 3
"""
    assert output(drive, body)[1] == ""


def test_equal_lines_of_several_workers_are_folded_into_one(drive):
    body = """
@aioray.remote(num_cpus=0)
class Shard:
    def look(self):
        print("cache miss")
shards = [Shard.remote() for _ in range(3)]
aioray.get([shard.look.remote() for shard in shards])
"""
    out, err = output(drive, body)
    (_, first), (_, folded) = lines(out)
    assert first == "cache miss"
    assert folded.startswith("cache miss [repeated 2x across cluster] (aioray folds")
    assert err == ""


def test_line_without_an_end_is_printed_while_the_program_goes_on(drive):
    reading, writing = os.pipe()
    body = "run(jobs.write_from_c, '...'); os.read(int(sys.argv[2]), 1)"
    driver = drive(SCRIPT + body, "{}", reading, pass_fds=[reading])
    try:
        assert PREFIX.sub("", driver.process.stdout.readline().decode()) == "...\n"
    finally:
        os.close(writing)
        os.close(reading)
    assert driver.finish()[0] == 0
