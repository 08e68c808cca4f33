"""Stacks: what faulthandler has written is taken apart, and users see their own frames."""

from __future__ import annotations

import os
import threading

import pytest

import aioray
from aioray.state.read.stacks import own_stacks, parse, trim

PACKAGE = os.path.dirname(aioray.__file__)
LIBRARY = os.path.dirname(threading.__file__)


def own(name, line=1):
    return [f"{PACKAGE}/{name}", line, "own"]


def library(name):
    return [f"{LIBRARY}/{name}", 2, "library"]


def user(name):
    return ["/home/me/program.py", 3, name]


WRITTEN = f"""\
Thread 0x00007f8a1c7ff640 [pool-1] (most recent call first):
  File "{LIBRARY}/threading.py", line 320 in wait
  File "{LIBRARY}/threading.py", line 1002 in _bootstrap

Thread 0x00007f8a1cfff640 (most recent call first):
  File "/home/me/a b.py", line 7 in <lambda>
  File "/home/me/a b.py", line ??? in odd
  File "{LIBRARY}/threading.py", line 1002 in _bootstrap

Current thread 0x00007f8a2d4f9740 (most recent call first):
  File "/home/me/program.py", line 12 in work
  File "{PACKAGE}/worker/loop.py", line 254 in call
  File "<string>", line 1 in <module>
Call 17 (most recent call first):
  File "/home/me/program.py", line 9 in inner
  File "{PACKAGE}/worker/actor/loops.py", line 197 in _call
Stacks end.
"""


def test_threads_and_calls_are_told_apart():
    threads, calls = parse(WRITTEN)
    assert [(each["name"], each["frames"]) for each in threads] == [
        ("pool-1", []),
        (None, [["/home/me/a b.py", 7, "<lambda>"], ["/home/me/a b.py", 0, "odd"]]),
        ("MainThread", [["/home/me/program.py", 12, "work"]]),
    ]
    assert [(each["seq"], each["frames"]) for each in calls] == [
        (17, [["/home/me/program.py", 9, "inner"]])
    ]
    assert threads[2]["all_frames"][-1] == [f"{PACKAGE}/worker/loop.py", 254, "call"]


def test_main_thread_has_no_other_name_where_python_writes_the_one_of_the_system():
    """From Python 3.14 on, where it is the title of the process."""
    written = (
        "Thread 0x00007f0000000001 [another] (most recent call first):\n"
        '  File "/home/me/program.py", line 3 in wait\n\n'
        "Current thread 0x00007f0000000002 [ray::work] (most recent call first):\n"
        '  File "/home/me/program.py", line 12 in work\n'
    )
    threads, _ = parse(written)
    assert [thread["name"] for thread in threads] == ["another", "MainThread"]


@pytest.mark.parametrize("size", range(0, len(WRITTEN), 37))
def test_part_of_a_stack_is_no_error(size):
    threads, calls = parse(WRITTEN[:size])
    whole, _ = parse(WRITTEN)
    assert len(threads) <= len(whole)
    assert len(calls) <= 1


@pytest.mark.parametrize(
    ("frames", "left"),
    [
        ([], []),
        ([own("worker/loop.py"), own("worker/template.py")], []),
        ([library("selectors.py"), library("asyncio/base_events.py"), library("threading.py")], []),
        ([user("f"), own("worker/loop.py")], [user("f")]),
        (  # of aioray only what the user has called
            [
                library("threading.py"),
                own("engine/engine.py"),
                own("api/session.py", 9),
                user("main"),
            ],
            [own("api/session.py", 9), user("main")],
        ),
        ([library("queue.py"), user("main")], [library("queue.py"), user("main")]),
        (  # a callback that aioray has called, somewhere in between
            [user("callback"), own("util/pool.py"), user("main")],
            [user("callback"), own("util/pool.py"), user("main")],
        ),
        ([own("examples/tour.py"), own("worker/loop.py")], [own("examples/tour.py")]),
    ],
)
def test_users_see_their_own_frames(frames, left):
    assert trim(frames) == left


def test_own_stacks_show_every_thread_but_the_asking_one():
    gate, found = threading.Event(), []

    def waiter():
        gate.wait()

    waiting = threading.Thread(target=waiter, name="waiter")
    waiting.start()
    asking = threading.Thread(target=lambda: found.append(own_stacks()), name="asking")
    asking.start()
    asking.join()
    gate.set()
    waiting.join()
    (row,) = found
    functions = {each["name"]: [name for *_, name in each["frames"]] for each in row["threads"]}
    assert "waiter" in functions["waiter"]
    assert "test_own_stacks_show_every_thread_but_the_asking_one" in functions["MainThread"]
    assert "asking" not in functions
    assert (row["worker_type"], row["pid"]) == ("DRIVER", os.getpid())
