"""`aioray.progress`: values of tasks as they come, and a bar that says how far it is."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
from types import ModuleType, SimpleNamespace

import pytest

import aioray
from aioray.api import progress as progress_bar
from aioray.exceptions import RayTaskError
from tests.api.test_progress import Terminal

from . import jobs, util_jobs, yielding
from .support import GUARD, ROOT, everywhere, on_both_loops

same = aioray.remote(jobs.same)
fail = aioray.remote(jobs.fail)
hold = aioray.remote(jobs.hold)


@pytest.fixture
def shown(monkeypatch):
    """The bars that are drawn, at every change."""
    bars = []
    monkeypatch.setattr("aioray.shared.terminal.display.update", bars.append)
    monkeypatch.setattr(progress_bar, "INTERVAL", 0.0)
    monkeypatch.setattr(progress_bar, "LOOK_SHARE", 0)
    return bars


@pytest.fixture
def gates(pipes):
    return pipes(2)


# ---------------------------------------------------------------- on a loop


@everywhere
async def test_values_come_as_they_become_ready(shown, gates, pipes):
    """1. Two tasks run. 2. The second may end, and then the first."""
    started = pipes(2)
    refs = [hold.remote(a.path, b.path) for a, b in zip(started, gates, strict=True)]
    for pipe in started:
        await pipe.heard()
    gates[1].tell("second")
    values = []
    async for value in aioray.progress(refs, desc="both", unit="job"):
        values.append(value)
        gates[0].tell("first")
    assert values == ["second", "first"]
    last = shown[-1]
    assert (last.n, last.total, last.desc, last.unit, last.closed, last.postfix) == (
        2,
        2,
        "both",
        "job",
        True,
        "",
    )
    assert "1 running" in {bar.postfix for bar in shown if bar.n == 1 and not bar.closed}


@everywhere
async def test_awaiting_gives_all_values_in_the_order_of_the_refs(shown):
    refs = [same.remote(number) for number in range(20)]
    assert await aioray.progress(refs) == list(range(20))
    assert await aioray.progress(refs) == list(range(20))  # all are ready
    assert await aioray.progress([refs[0], refs[0]]) == [0, 0]
    assert await aioray.progress([]) == []
    assert await aioray.progress(refs, yield_obj_refs=True) == refs
    assert [bar.n for bar in shown if bar.closed] == [20, 20, 2, 0, 20]


@everywhere
async def test_error_ends_the_waiting_unless_it_is_wanted(shown, started, gate):
    running = hold.remote(started.path, gate.path)
    await started.heard()
    refs = [running, fail.remote()]
    with pytest.raises(RayTaskError, match="bad"):
        await aioray.progress(refs)
    with pytest.raises(RayTaskError, match="bad"):
        async for _ in aioray.progress(refs):
            pass
    assert [(bar.n, bar.postfix) for bar in shown if bar.closed] == [(1, "1 failed")] * 2
    gate.tell("unharmed")
    value, error = await aioray.progress(refs, return_exceptions=True)
    assert value == "unharmed"
    assert isinstance(error, ValueError)
    found = [ref async for ref in aioray.progress(refs, yield_obj_refs=True)]
    assert set(found) == set(refs)


@on_both_loops
async def test_breaking_off_leaves_nobody_waiting(shown, started, gate):
    async with aioray.Engine(num_cpus=2):
        refs = [same.remote(1), hold.remote(started.path, gate.path)]
        iterator = aiter(aioray.progress(refs))
        assert await anext(iterator) == 1
        assert refs[1].entry.waiters
        await iterator.aclose()
        assert not refs[1].entry.waiters
        assert shown[-1].closed
        gate.tell("unharmed")
        assert await refs[1] == "unharmed"


@on_both_loops
async def test_failed_and_retried_attempts_are_counted(shown, notes, tmp_path):
    async with aioray.Engine(num_cpus=1):
        flaky = aioray.remote(jobs.ask_for_retry)
        refs = [flaky.remote(notes, 2), flaky.remote(str(tmp_path / "more"), 1), fail.remote()]
        await aioray.progress(refs, return_exceptions=True)
    assert shown[-1].postfix == "1 failed, 3 retried"


@on_both_loops
async def test_items_of_a_generator_are_counted_as_they_come(shown):
    async with aioray.Engine(num_cpus=1):
        count = aioray.remote(yielding.count)
        assert [item async for item in aioray.progress(count.remote(3))] == [0, 1, 2]
        assert await aioray.progress(count.remote(3), total=3) == [0, 1, 2]
    assert [(bar.n, bar.total) for bar in shown if bar.closed] == [(3, None), (3, 3)]


@on_both_loops
async def test_iterating_without_async_on_the_loop_of_the_engine_is_refused(shown, started, gate):
    async with aioray.Engine(num_cpus=1):
        ref = hold.remote(started.path, gate.path)
        for refs in [ref], aioray.remote(yielding.count).remote(1):
            with pytest.raises(RuntimeError, match="async for"):
                next(iter(aioray.progress(refs)))
        await started.heard()
        gate.tell()
        await ref


# ---------------------------------------------------------------- without a loop


def test_values_come_as_they_become_ready_in_a_script(session, shown, gates, pipes):
    started = pipes(2)
    refs = [hold.remote(a.path, b.path) for a, b in zip(started, gates, strict=True)]
    for pipe in started:
        pipe.hear()
    gates[1].tell("second")
    values = []
    for value in aioray.progress(refs):
        values.append(value)
        gates[0].tell("first")
    assert values == ["second", "first"]
    assert "1 running" in {bar.postfix for bar in shown if bar.n == 1 and not bar.closed}
    assert (shown[-1].n, shown[-1].closed) == (2, True)
    assert list(aioray.progress(iter(refs), yield_obj_refs=True)) == refs
    assert list(aioray.progress([refs[0], refs[0]])) == ["first", "first"]


def test_error_ends_the_iteration_unless_it_is_wanted_in_a_script(session, shown, started, gate):
    refs = [hold.remote(started.path, gate.path), fail.remote()]
    iterator = iter(aioray.progress(refs))
    with pytest.raises(RayTaskError, match="bad"):
        next(iterator)
    assert (shown[-1].closed, shown[-1].n) == (True, 1)
    assert list(iterator) == []
    gate.tell("unharmed")
    found = set(aioray.progress(refs, return_exceptions=True))
    (error,) = found - {"unharmed"}
    assert isinstance(error, ValueError)


def test_breaking_off_leaves_nobody_waiting_in_a_script(session, shown, started, gate):
    refs = [same.remote(1), hold.remote(started.path, gate.path)]
    iterator = iter(aioray.progress(refs))
    assert next(iterator) == 1
    iterator.close()
    assert shown[-1].closed
    gate.tell()
    aioray.get(refs)
    assert not refs[1].entry.waiters


def test_items_of_a_generator_in_a_script(session, shown):
    generator = aioray.remote(yielding.count).remote(3)
    assert list(aioray.progress(generator)) == [0, 1, 2]
    assert shown[-1].n == 3


def test_disabled_bar_is_not_drawn(session, shown):
    assert list(aioray.progress([same.remote(1)], disable=True)) == [1]
    assert shown == []


@pytest.mark.parametrize("refs", [[1], ["ref"], [[]]])
def test_what_is_no_ref_is_refused(refs):
    with pytest.raises(TypeError, match="ObjectRefs"):
        aioray.progress(refs)


def test_single_ref_is_refused(session):
    with pytest.raises(TypeError, match=r"progress\(\[ref\]\)"):
        aioray.progress(same.remote(1))


# ---------------------------------------------------------------- in tasks


@everywhere
async def test_tasks_and_actors_can_watch_what_they_have_submitted():
    watch = aioray.remote(util_jobs.watch)
    assert await watch.remote(8) == sum(range(8))
    watcher = aioray.remote(util_jobs.Watcher).remote()
    assert await watcher.watch.remote(8) == list(range(8))


# ---------------------------------------------------------------- where it is drawn


def test_notebook_gets_one_output_that_is_updated(session, monkeypatch):
    outputs = []

    class Handle:
        def update(self, data, *, raw):
            assert raw
            outputs[-1].append(data["text/plain"])

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        outputs.append([data["text/plain"]])
        return Handle()

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    assert list(aioray.progress([same.remote(1)], desc="cell")) == [1]
    ((first, *_, last),) = outputs
    assert first.startswith("cell:   0%|")
    assert last.startswith("cell: 100%|")


def test_terminal_of_ipython_is_no_notebook(session, monkeypatch, shown):
    ipython = ModuleType("IPython")
    ipython.get_ipython = SimpleNamespace
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert list(aioray.progress([same.remote(1)])) == [1]
    assert shown[-1].closed


def test_file_gets_one_plain_line_at_the_end(drive):
    script = """
import aioray
from tests.process import jobs
aioray.init(num_cpus=2)
refs = [aioray.remote(jobs.same).remote(n) for n in range(3)]
refs.append(aioray.remote(jobs.fail).remote())
print(len(list(aioray.progress(refs, desc="all", return_exceptions=True))))
"""
    status, out, err = drive(script).finish()
    assert (status, out) == (0, "4\n")
    assert re.fullmatch(r"all: 100%\|█{20}\| 4/4 \[00:0\d<00:00, [\d.]+task/s, 1 failed\]\n", err)


def on_terminal(body, while_running=lambda _fd, _received: None):
    """Run a script on a pseudo terminal: its status, and the lines that are left there."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["NO_COLOR"] = "1"
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{body}"
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", code])
    received = b""
    try:
        while select.select([fd], [], [], GUARD)[0]:
            received += os.read(fd, 65536)
            while_running(fd, received)
    except OSError:  # how Linux tells that the other end is closed
        pass
    finally:
        os.close(fd)
        _, status = os.waitpid(pid, 0)
    terminal = Terminal()
    terminal.write(received.decode())
    return os.waitstatus_to_exitcode(status), terminal.lines


def test_terminal_shows_lines_of_tasks_above_the_bar(tmp_path):
    status, lines = on_terminal(f"""
import aioray
from tests.process import jobs
aioray.init(num_cpus=2)
refs = [aioray.remote(jobs.speak).remote("of a task")]
refs += [aioray.remote(jobs.ask_for_retry).remote({str(tmp_path / "notes")!r}, 1)]
for _ in aioray.progress(refs, desc="both"): pass
aioray.shutdown()
""")
    assert status == 0, lines
    texts = [re.sub(r"^\(\w+ pid=\d+\) ", "", line) for line in lines]
    assert "of a task" in texts
    (bar,) = [line for line in texts if line.startswith("both:")]
    assert bar.startswith("both: 100%|")
    assert bar.endswith(", 1 retried]")
    assert any(line.startswith("Task ask_for_retry failed.") for line in texts)


def test_ctrl_c_ends_the_bar_and_the_program(started, gate):
    pressed = []

    def press(fd, received):
        if not pressed and b"held:   0%" in received and started._line() is not None:
            pressed.append(os.write(fd, b"\x03"))

    status, lines = on_terminal(
        f"""
import aioray
from tests.process import jobs
aioray.init(num_cpus=1)
ref = aioray.remote(jobs.hold).remote({started.path!r}, {gate.path!r})
try:
    for _ in aioray.progress([ref], desc="held"): pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
    aioray.shutdown()
    sys.exit(7)
""",
        press,
    )
    assert pressed
    assert status == 7, lines
    text = [re.sub(r"^\^C", "", line) for line in lines]
    assert text[-1] == "interrupted"
    assert any(line.startswith("held:   0%|") for line in text)
