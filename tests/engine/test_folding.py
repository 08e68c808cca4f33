"""Equal lines of several workers, folded into one."""

from __future__ import annotations

import math
import re

import pytest

from aioray.engine.processes.folding import MOST_LINES, LineFolder

FOLDED = re.compile(r" \[repeated (\d+)x across cluster\](?: \(aioray folds .*\))?$")


class Terminal:
    """What is printed of lines, in virtual time."""

    def __init__(self, **environ):
        self.folder = LineFolder.from_environment(environ)
        self.now = 100.0

    def say(self, pid, *lines, to_stderr=False):
        """Return what is printed when this worker prints these lines now."""
        taken = self.folder.fold(pid, f"({pid}) ", lines, self.now, to_stderr=to_stderr)
        return [text[:-1] for text, _ in taken]

    def wait(self):
        """Let the time pass until the folder wants to print something; what that is."""
        deadline = self.folder.deadline()
        assert deadline is not None
        self.now = deadline
        return [text[:-1] for text, _ in self.folder.due(self.now)]


def test_equal_lines_of_other_processes_are_counted_until_the_window_ends():
    terminal = Terminal()
    assert terminal.say(1, "cache miss") == ["(1) cache miss"]
    assert terminal.say(2, "cache miss", "cache miss") == []
    terminal.now += 4.9
    assert terminal.say(3, "cache miss") == []
    assert terminal.folder.deadline() == 105.0
    (line,) = terminal.wait()
    assert line.startswith("(3) cache miss [repeated 3x across cluster]")
    assert terminal.folder.deadline() is None
    assert terminal.say(2, "cache miss") == ["(2) cache miss"]


def test_lines_of_the_same_process_are_never_folded():
    terminal = Terminal()
    assert terminal.say(1, *["again"] * 5) == ["(1) again"] * 5
    assert terminal.say(2, "again") == []
    assert terminal.say(1, "again") == ["(1) again"]


def test_line_that_came_once_more_is_printed_as_it_is():
    terminal = Terminal()
    terminal.say(1, "twice")
    terminal.say(2, "twice")
    assert terminal.wait() == ["(2) twice"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("step 1 of 10", "step 22 of 10"),
        ("at 0x7f3a00", "at 0x7FFe"),
        ("task 3d2fa1 done", "task 99 done"),
        ("took 1.5s", "took 12.25s"),
        ("item3", "item17"),
    ],
)
def test_lines_that_differ_in_numbers_are_equal(first, second):
    terminal = Terminal()
    terminal.say(1, first)
    assert terminal.say(2, second) == []
    assert terminal.wait() == [f"(2) {second}"]


@pytest.mark.parametrize(
    ("first", "second"), [("12345", "12345"), ("", ""), ("  7 8\t9", "  7 8\t9"), ("a", "b")]
)
def test_data_and_other_lines_are_printed(first, second):
    terminal = Terminal()
    assert terminal.say(1, first) == [f"(1) {first}"]
    assert terminal.say(2, second) == [f"(2) {second}"]


def test_streams_are_apart():
    terminal = Terminal()
    terminal.say(1, "careful")
    assert terminal.say(2, "careful", to_stderr=True) == ["(2) careful"]
    terminal.say(1, "careful", to_stderr=True)
    assert terminal.folder.due(math.inf) == [("(1) careful\n", True)]


def test_what_was_held_back_comes_before_later_lines():
    terminal = Terminal()
    terminal.say(1, "same")
    terminal.say(2, "same", "same")
    terminal.now += 60
    held, other = terminal.say(1, "other")
    assert FOLDED.search(held)
    assert other == "(1) other"


def test_how_to_turn_it_off_is_said_once():
    terminal = Terminal()
    said = []
    for text in ("one", "two"):
        for pid in (1, 2, 3):
            terminal.say(pid, text)
        said += terminal.wait()
    assert ["RAY_DEDUP_LOGS=0" in line for line in said] == [True, False]


@pytest.mark.parametrize("value", ["0", "false"])
def test_variable_turns_it_off(value):
    terminal = Terminal(RAY_DEDUP_LOGS=value)
    assert terminal.say(1, "same") + terminal.say(2, "same") == ["(1) same", "(2) same"]


def test_variables_for_lines_and_window():
    terminal = Terminal(
        RAY_DEDUP_LOGS_AGG_WINDOW_S="2",
        RAY_DEDUP_LOGS_ALLOW_REGEX="^ERROR",
        RAY_DEDUP_LOGS_SKIP_REGEX="heartbeat",
    )
    terminal.say(1, "same")
    assert terminal.say(2, "same", "a heartbeat", "ERROR 1") == ["(2) ERROR 1"]
    assert terminal.say(3, "ERROR 1") == ["(3) ERROR 1"]
    assert terminal.folder.deadline() == 102.0


@pytest.mark.parametrize(
    "name", ["AGG_WINDOW_S", "ALLOW_REGEX", "SKIP_REGEX"], ids=lambda name: name
)
def test_wrong_variables_are_named(name):
    with pytest.raises(ValueError, match=f"RAY_DEDUP_LOGS_{name}"):
        LineFolder.from_environment({f"RAY_DEDUP_LOGS_{name}": "("})


def test_memory_of_lines_is_bounded_and_loses_none():
    terminal = Terminal()
    terminal.say(1, "same")
    terminal.say(2, "same", "same")
    lines = [f"{'x' * number}" for number in range(1, MOST_LINES + 1)]
    printed = terminal.say(3, *lines)
    assert [line for line in printed if FOLDED.search(line)]
    assert len(printed) == MOST_LINES + 1
    assert len(terminal.folder._seen) == MOST_LINES


def test_every_line_is_printed_or_counted():
    terminal = Terminal()
    said = []
    for number in range(500):
        terminal.now += 0.13
        said += terminal.say(number % 7, "ab"[number % 2], "always")
    said += [text[:-1] for text, _ in terminal.folder.due(math.inf)]
    count = sum(int(found[1]) if (found := FOLDED.search(line)) else 1 for line in said)
    assert count == 1000
