"""Progress bars of tasks, drawn by the driver between everybody's lines."""

from __future__ import annotations

import os
import pty
import re
import select
import sys

import pytest

from tests.api.test_progress import Terminal

from .support import GUARD, ROOT

SCRIPT = """
import sys, aioray
from aioray.experimental import tqdm_ray
from tests.process import jobs, util_jobs
aioray.init(num_cpus=2, log_to_driver=sys.argv[1] == "True")
def run(job, *arguments, **options):
    try:
        return aioray.get(aioray.remote(max_retries=0)(job).remote(*arguments, **options))
    except aioray.exceptions.WorkerCrashedError:
        return None
"""


def output(drive, body, log_to_driver=True):
    status, out, err = drive(SCRIPT + body, log_to_driver).finish()
    assert status == 0, err
    return out, err


def test_bar_of_a_task_is_a_line_of_the_drivers_stderr_and_tears_no_line(drive):
    out, err = output(drive, "run(util_jobs.draw, 30)")
    lines = [line.partition(") ") for line in out.splitlines()]
    assert [line for _, _, line in lines] == [f"<{step}>" for step in range(30)]
    assert re.fullmatch(
        r"\(draw pid=\d+\) work: 100%\|█{20}\| 30/30 \[00:0\d<00:00, [\d.]+it/s\]\n", err
    )


@pytest.mark.parametrize("how", ["close=False", "close=False, die=True"])
def test_bar_of_a_task_that_ends_without_closing_it_is_closed_at_once(drive, how):
    _, err = output(drive, f"run(util_jobs.draw, 3, {how}); run(jobs.write_to_stderr, 'later')")
    assert [re.split(r"\) |%", line)[1] for line in err.splitlines()] == ["work: 100", "later"]


def test_task_that_prints_nothing_else_is_named_too(drive):
    _, err = output(drive, "run(jobs.speak, 'x'); run(util_jobs.count_quietly, 3)")
    assert re.fullmatch(r"\(count_quietly pid=\d+\) 100%\|█{20}\| 3/3 .*\n", err)


def test_task_that_has_closed_its_stdout_runs_on_without_a_bar(drive):
    out, err = output(drive, "print(run(util_jobs.count_quietly, 3, close_stdout=True))")
    assert (out, err) == ("3\n", "")


def test_bars_of_the_driver_and_of_tasks_are_told_apart(drive):
    body = """
for _ in tqdm_ray.tqdm(range(4), desc="mine", unit="step"): pass
run(util_jobs.draw, 2)
"""
    _, err = output(drive, body)
    mine, task = err.splitlines()
    assert mine.startswith("mine: 100%|")
    assert re.match(r"\(draw pid=\d+\) work: 100%", task)


def test_log_to_driver_false_shows_no_bars_of_tasks(drive):
    assert output(drive, "run(util_jobs.draw, 3)", log_to_driver=False) == ("", "")


def test_user_who_prints_the_mark_breaks_nothing(drive):
    body = r"""
run(jobs.speak, "a\x1b_aioray;progress;{\x1b\\b")
run(jobs.speak, "\x1b_aioray;progress;never ended")
"""
    out, err = output(drive, body)
    assert re.findall(r"\) (.*)", out)[0] == "ab"
    assert "never ended" in out
    assert err == ""


def test_terminal_shows_lines_above_and_the_bar_below(started, gate):
    """The whole way on a pseudo terminal: what it would show is put together from the bytes.

    1. A task opens a bar and waits. 2. Another prints a line, and the driver one. 3. The bar ends.
    """
    body = f"""
import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ["", "True"]
{SCRIPT}
ref = aioray.remote(util_jobs.hold_with_bar).remote({started.path!r}, {gate.path!r})
jobs.listen({started.path!r})
run(jobs.speak, "of a task")
tqdm_ray.safe_print("of the driver")
jobs.say({gate.path!r}, "go on")
aioray.get(ref)
aioray.shutdown()
"""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["NO_COLOR"] = "1"
        os.execv(sys.executable, [sys.executable, "-c", body])
    received = b""
    try:
        while select.select([fd], [], [], GUARD)[0]:
            data = os.read(fd, 65536)
            received += data
    except OSError:  # how Linux tells that the other end is closed
        pass
    finally:
        os.close(fd)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, received
    terminal = Terminal()
    terminal.write(received.decode())
    lines = [re.sub(r"^\(\w+ pid=\d+\) ", "", line) for line in terminal.lines]
    assert sorted(lines[:2]) == ["of a task", "of the driver"]
    assert len(lines) == 3
    assert lines[2].startswith("held: 100%|")
    assert received.index(b"held:   0%") < received.index(b"of a task")
