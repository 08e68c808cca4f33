"""Progress bars: what they say, and how they share a terminal with everybody's lines."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from aioray.compat import ray_logger  # noqa: F401 - sets who is whose parent
from aioray.experimental import tqdm_ray
from aioray.experimental.tqdm_ray import tqdm
from aioray.shared.terminal import Bar, Display, display, parse


class Terminal(io.StringIO):
    """Draws what is written to it, as far as bars and lines need it: CR, LF, up, erase below."""

    def __init__(self):
        super().__init__()
        self.rows = [""]
        self.row = self.column = 0

    def isatty(self):
        return True

    def write(self, text):
        for part in re.findall(r"\x1b\[(?:\d*A|J)|.", text, re.DOTALL):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row, self.column = self.row + 1, 0
                if self.row == len(self.rows):
                    self.rows.append("")
            elif part.endswith("A") and part[0] == "\x1b":
                self.row -= int(part[2:-1])
            elif part == "\x1b[J":
                self.rows[self.row :] = [self.rows[self.row][: self.column]]
            else:
                line = self.rows[self.row]
                self.rows[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1
        return len(text)

    @property
    def lines(self):
        return [line for line in self.rows if line]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def on_terminal(terminal):
    return Display(lambda: terminal, Clock())


def bar(key="a", n=1, total=4, **more):
    return Bar(key, n, total, **{"elapsed": 2.0, "desc": key, **more})


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (bar(), "a:  25%|█████               | 1/4 [00:02<00:06, 0.50it/s]"),
        (bar(n=4), "a: 100%|████████████████████| 4/4 [00:02<00:00, 2.00it/s]"),
        (bar(n=0, elapsed=0.0), "a:   0%|                    | 0/4 [00:00<?, ?it/s]"),
        (bar(n=5), "a: 5it [00:02, 2.50it/s]"),
        (bar(total=None, unit="B"), "a: 1B [00:02, 0.50B/s]"),
        (bar(desc="", prefix="(f pid=7) ", total=0, n=0), "(f pid=7) 0it [00:02, ?it/s]"),
        (bar(total=None, elapsed=3700.0), "a: 1it [1:01:40, 0.00it/s]"),
        (
            bar(postfix="1 failed"),
            "a:  25%|█████               | 1/4 [00:02<00:06, 0.50it/s, 1 failed]",
        ),
        (bar(total=None, desc="x\ny\x1b[J"), r"x\ny\x1b[J: 1it [00:02, 0.50it/s]"),
    ],
)
def test_line_of_a_bar(given, text):
    assert given.text(100) == text


@pytest.mark.parametrize("columns", [20, 30, 40, 60])
def test_line_is_never_wider_than_the_terminal(columns):
    assert len(bar(desc="d" * 100).text(columns)) <= columns
    assert len(bar(desc="漢" * 100).text(columns)) <= columns // 2
    assert len(bar(desc="d").text(columns)) <= columns


def test_description_of_a_bar_survives_the_way_from_a_worker():
    state = {"key": "3", "n": 1, "total": None, "desc": "d", "unit": "u", "elapsed": 1.5}
    state |= {"position": 2, "closed": False, "postfix": "more"}
    assert parse(json.dumps(state).encode(), owner=7, prefix="p ") == Bar(
        "3", 1, None, "d", "u", 1.5, 2, closed=False, owner=7, prefix="p ", postfix="more"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"key":1,"n":"x","total":1,"desc":1,"unit":1,"elapsed":1,"position":1,"closed":1}',
        b'{"key":1,"n":1,"total":1,"desc":1,"unit":1,"elapsed":1,"position":1}',
        b'{"key":1,"n":NaN,"total":1,"desc":1,"unit":1,"elapsed":1,"position":1,"closed":1}',
    ],
)
def test_anything_else_is_ignored(data):
    assert parse(data, owner=1, prefix="") is None


# ---------------------------------------------------------------- on a terminal


def test_bars_stand_below_all_lines(on_terminal, terminal):
    for step in range(1, 4):
        on_terminal.update(bar("a", step))
        on_terminal.update(bar("b", step, owner=2))
        with on_terminal.hidden():
            terminal.write(f"line {step}\nwith a second\n")
    texts = [line.partition(":")[0] for line in terminal.lines]
    lines = ["line 1", "with a second", "line 2", "with a second", "line 3", "with a second"]
    assert texts == [*lines, "a", "b"]
    assert terminal.lines[-1] == bar("b", 3).text(79)


def test_closed_bar_becomes_a_line_above_the_others(on_terminal, terminal):
    on_terminal.update(bar("a", 1))
    on_terminal.update(bar("b", 1))
    on_terminal.update(bar("a", 4, closed=True))
    on_terminal.update(bar("b", 2))
    assert terminal.lines == [bar("a", 4).text(79), bar("b", 2).text(79)]
    on_terminal.update(bar("b", 4, closed=True))
    terminal.write("the prompt")
    assert terminal.lines == [bar("a", 4).text(79), bar("b", 4).text(79), "the prompt"]


def test_positions_order_the_bars_of_one_owner(on_terminal, terminal):
    on_terminal.update(bar("low", position=1, owner=5))
    on_terminal.update(bar("other", position=0, owner=6))
    on_terminal.update(bar("high", position=0, owner=5))
    assert [line.partition(":")[0] for line in terminal.lines] == ["high", "low", "other"]


def test_bars_of_an_owner_that_is_gone_stay_as_lines(on_terminal, terminal):
    on_terminal.update(bar("dead", owner=5))
    on_terminal.update(bar("alive", owner=6))
    on_terminal.finish(5)
    on_terminal.finish(5)
    on_terminal.update(bar("alive", 2, owner=6))
    assert terminal.lines == [bar("dead").text(79), bar("alive", 2).text(79)]


def test_more_bars_than_rows_are_counted(on_terminal, terminal):
    for number in range(40):
        on_terminal.update(bar(f"bar{number}"))
    assert len(terminal.lines) == 23
    assert terminal.lines[-1] == "(18 more)"
    for number in range(40):
        on_terminal.update(bar(f"bar{number}", 4, closed=True))
    assert len(terminal.lines) == 40


def test_error_while_lines_are_printed_draws_the_bars_again(on_terminal, terminal):
    on_terminal.update(bar("a"))
    with pytest.raises(OSError, match="full"), on_terminal.hidden():
        raise OSError("full")
    assert terminal.lines == [bar("a").text(79)]


@pytest.mark.parametrize("stream", [None, "closed"])
def test_stream_that_is_gone_does_no_harm(stream):
    if stream is not None:
        stream = Terminal()
        stream.isatty = lambda: (_ for _ in ()).throw(ValueError("closed"))
    display = Display(lambda: stream)
    display.update(bar("a"))
    with display.hidden():
        pass
    display.update(bar("a", closed=True))


# ---------------------------------------------------------------- in a file


def test_file_gets_a_line_every_five_seconds_and_one_at_the_end():
    file, clock = io.StringIO(), Clock()
    display = Display(lambda: file, clock)
    for second in range(12):
        clock.now = 100.0 + second
        display.update(bar("a", second, 20))
        display.update(bar("b", second, 20))
    display.update(bar("a", 20, 20, closed=True))
    display.finish(0)
    counts = [re.findall(r"(\w): .* (\d+)/20", line)[0] for line in file.getvalue().splitlines()]
    assert counts == [
        ("a", "5"),
        ("b", "5"),
        ("a", "10"),
        ("b", "10"),
        ("a", "20"),
        ("b", "11"),
    ]


# ---------------------------------------------------------------- tqdm


@pytest.fixture
def shown(monkeypatch):
    """The bars that the driver is given to draw."""
    bars = []
    monkeypatch.setattr("aioray.shared.terminal.display.update", bars.append)
    return bars


def test_iterating_counts_and_closes(shown):
    assert list(tqdm(range(3), desc="d", flush_interval_s=0)) == [0, 1, 2]
    assert [(each.n, each.total, each.closed) for each in shown] == [
        (0, 3, False),
        (1, 3, False),
        (2, 3, False),
        (3, 3, False),
        (3, 3, True),
    ]
    assert {each.desc for each in shown} == {"d"}


def test_updates_within_the_interval_are_not_shown_until_refresh(shown):
    progress = tqdm(total=10, unit="file", flush_interval_s=1000)
    for _ in range(4):
        progress.update(2)
    progress.set_description("later")
    assert [each.n for each in shown] == [0]
    progress.total = 20
    progress.refresh()
    assert (shown[-1].n, shown[-1].total, shown[-1].desc, shown[-1].unit) == (
        8,
        20,
        "later",
        "file",
    )
    progress.close()
    progress.close()
    progress.update(1)
    assert [each.closed for each in shown] == [False, False, True]


def test_bar_closes_at_the_end_of_a_block_and_of_its_life(shown):
    with tqdm(total=1):
        pass
    assert shown[-1].closed
    progress = tqdm(total=1)
    assert not shown[-1].closed
    del progress
    assert shown[-1].closed


def test_bar_closes_if_the_loop_is_left(shown):
    for _ in tqdm(iter(range(3))):
        break
    assert (shown[-1].closed, shown[-1].total) == (True, None)


def test_iterating_over_nothing_given_is_an_error(shown):
    with pytest.raises(ValueError, match="No iterable"):
        list(tqdm(total=3))


def test_bars_stand_in_the_order_of_their_making_unless_placed(shown):
    bars = [tqdm(total=1), tqdm(total=1), tqdm(total=1, position=0)]
    first, second, placed = (each.position for each in shown)
    assert placed == 0 <= first < second
    assert len(bars) == 3


def test_safe_print_prints(capsys):
    tqdm_ray.safe_print("a", "b", sep="-")
    assert capsys.readouterr().out == "a-b\n"


# ---------------------------------------------------------------- warnings of aioray


@pytest.mark.parametrize("where", ["aioray", "ray", None])
def test_warning_stands_above_the_bars_unless_it_is_somebody_elses_matter(
    terminal, monkeypatch, where
):
    monkeypatch.setattr("sys.stderr", terminal)
    for name in "aioray", "ray", None:
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    display.update(bar("a"))
    logging.getLogger("aioray").warning("take care")
    logging.getLogger("aioray").info("all is well")
    assert terminal.lines == ["take care", bar("a").text(79)]
    records = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment]  # a short handler
    logging.getLogger(where).handlers.append(handler)
    display.update(bar("a", 2))
    logging.getLogger("aioray").warning("once more")
    assert [record.getMessage() for record in records] == ["once more"]
    assert terminal.lines == ["take care", bar("a", 2).text(79)]
    display.update(bar("a", 4, closed=True))
