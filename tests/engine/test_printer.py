"""Who has lines printed: in which context, and at once if somebody waits for them."""

from __future__ import annotations

import contextvars
import io
import sys
import threading

import pytest

from aioray.engine.processes import output

GUARD = 100.0  # seconds
cell = contextvars.ContextVar("cell", default="none")


class Stream(io.StringIO):
    """Notes in which cell something is written, as the streams of IPython's kernel do."""

    def write(self, text):
        return super().write(f"{cell.get()}: {text}")


@pytest.fixture
def printer(monkeypatch):
    monkeypatch.setattr(output, "_context", None)
    printer = output.Printer()
    yield printer
    printer.close()


def flush(printer):
    done = threading.Event()
    printer.flush(done.set)
    assert done.wait(GUARD)
    return sys.stdout.getvalue()


def begin(number):
    def set_it():
        cell.set(number)
        output.print_in(contextvars.copy_context())

    contextvars.copy_context().run(set_it)


def test_lines_are_printed_in_the_context_that_was_given_last(printer, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream())
    printer.write(1, "", ["before"], to_stderr=False)
    flush(printer)
    for number in ("first", "second"):
        begin(number)
        printer.write(1, "", ["text"], to_stderr=False)
        found = flush(printer)
    assert found == "none: before\nfirst: text\nsecond: text\n"


def test_flush_prints_what_is_held_back_in_the_same_context(printer, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream())
    begin("first")
    for pid in range(3):
        printer.write(pid, f"{pid} ", ["text"], to_stderr=False)
    found = flush(printer)
    begin("second")
    assert found.startswith("first: 0 text\nfirst: 2 text [repeated 2x across cluster]")
    assert flush(printer) == found


def test_flush_of_a_printer_that_has_printed_nothing_is_done_at_once(printer, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream())
    assert flush(printer) == ""
