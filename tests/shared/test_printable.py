"""Text that is not aioray's own steers no terminal and forges no line, wherever it is printed."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from aioray.cli import memory, stack, status, top
from aioray.client.entry import StoredFailure
from aioray.core.commands import Holding, ReportStarved
from aioray.core.outcomes import DeathCause
from aioray.engine.processes.output import LineReader, Printer
from aioray.engine.telemetry.actor_reports import ActorDescription, ActorEnd
from aioray.engine.telemetry.shortages import infeasible, starved
from aioray.shared.printable import LINES, printable
from aioray.shared.terminal import Bar
from aioray.shared.wire import OUTPUT_MARK, OUTPUT_MARK_END
from aioray.state.read.columns import RESOURCES
from aioray.worker.output import _mark
from tests.cli.cases import run
from tests.state.history import a_session, actor_id, worker_id

EVIL = "a\x1b[2J\x07\x7f\x9b1m\r\n\u202eb\u2028\u2066c\ud800\x00d"
SHOWN = r"a\x1b[2J\x07\x7f\x9b1m\r\n\u202eb\u2028\u2066c\ud800\x00d"


def steers(text: str, keep: str = "\n") -> set[str]:
    """What in the text could do more than to be seen."""
    return {c for c in text if not c.isprintable() and c not in keep}


def test_everything_that_is_no_plain_character_is_written_out():
    assert printable(EVIL) == SHOWN
    assert printable("ünïcode ✓ 日本 \\n") == "ünïcode ✓ 日本 \\n"
    assert printable("two\nlines\tand \x1b", LINES) == "two\nlines\tand \\x1b"


@given(st.text(st.characters()))
def test_any_text_becomes_printable(text):
    assert printable(text).isprintable()
    assert not steers(printable(text, LINES), LINES)


@pytest.fixture
def history():
    """A session whose program has bad names for everything that it may name."""
    made = a_session()
    made.meta(
        entrypoint=EVIL, session=EVIL, total={EVIL: 1.0, "CPU": 2.0}, labels={EVIL: EVIL}, ip=EVIL
    )
    evil = made.signature(
        EVIL,
        func_or_class_name=EVIL,
        required_resources={EVIL: 1.0},
        runtime_env={"env_vars": {EVIL: EVIL}},
        label_selector={EVIL: EVIL},
        call_site=EVIL,
    )
    made.attempt(
        evil,
        40,
        worker=1,
        seq=9,
        created=1.0,
        ready=1.0,
        sent=1.0,
        started=1.0,
        ended=2.0,
        error_type="TASK_EXECUTION_EXCEPTION",
        error_message=EVIL.replace("\ud800", ""),
    )
    made.attempt(
        evil, 41, worker=1, seq=10, created=1.0, ready=1.0, sent=1.0, started=1.0, state="RUNNING"
    )
    made.actor(
        7,
        EVIL,
        "ALIVE",
        name=EVIL,
        ray_namespace=EVIL,
        repr_name=EVIL,
        pid=1007,
        required_resources={EVIL: 1.0},
    )
    made.actor(8, EVIL, "DEAD", death_cause={"reason": "WORKER_DIED", "error_message": EVIL})
    made.worker(8, exit_type="SYSTEM_ERROR", exit_detail=EVIL, ended=2.0, launched=1.0, forked=1.0)
    made.entity(
        "placement_group",
        "x",
        placement_group_id="x",
        name=EVIL,
        creator_job_id="01000000",
        state="CREATED",
        bundles=[{"unit_resources": {EVIL: 1.0}}],
    )
    made.event(5.0, "ERROR", "TASK", EVIL.replace("\ud800", ""))
    made.live |= {
        "now": 1_795_000_010.0,
        "resources": {"total": {EVIL: 1.0, "CPU": 2.0}, "available": {}},
        "store": {"used": 0, "capacity": 1},
        "demands": [[{EVIL: 1.0}, 1]],
    }
    for row in made.live["objects"]:
        row |= {"call_site": EVIL, "location": "memory", "count": 1}
    return made


LISTS = [
    ["list", resource.command, *options]
    for resource in RESOURCES.values()
    for options in ([], ["--detail"], ["--format", "yaml"], ["--format", "json"])
]


@pytest.mark.parametrize(
    "arguments",
    [
        *LISTS,
        *(["summary", name] for name in ("tasks", "actors", "objects")),
        ["get", "actors", actor_id(7)],
        ["get", "workers", worker_id(8)],
        ["timeline", "-o", "-"],
        ["status", "-v"],
        ["memory"],
        ["memory", "--no-format"],
        ["top", "--once"],
    ],
    ids=" ".join,
)
def test_no_command_hands_on_what_steers_a_terminal(arguments, history):
    result = run(arguments, history)
    assert result.exception is None
    assert result.exit_code == 0
    assert not steers(result.stdout + result.stderr)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.command)
def test_json_and_yaml_say_exactly_what_there_is(resource, history):
    told = run(["list", resource.command, "--detail", "--format", "json"], history).stdout
    as_yaml = run(["list", resource.command, "--detail"], history).stdout
    rows = json.loads(told)
    assert next(iter(yaml.safe_load_all(as_yaml))) == rows
    wanted = {"tasks": "name", "actors": "class_name", "placement_groups": "name"}
    if resource.name in wanted:
        assert EVIL in {row[wanted[resource.name]] for row in rows}


def test_names_take_one_line_on_a_terminal_too(history):
    result = run(["list", "tasks"], history, on_terminal=lambda: True)
    assert result.exit_code == 0, result.exception
    assert not steers(result.stdout + result.stderr)
    assert SHOWN in result.stdout.replace("\n", "")


def test_picture_of_top_has_names_written_out(history):
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(top.Frame(lambda _pid: None).draw(history.view(), 10.0))
    text = console.export_text()
    assert not steers(text)
    assert text.count(SHOWN) >= 4  # session, resource, function, actor


def test_status_memory_and_stacks_have_names_written_out(history):
    view = history.view()
    row = {
        "worker_type": "WORKER",
        "pid": 1,
        "worker_id": EVIL,
        "running": [{"name": EVIL, "task_id": "x", "attempt_number": 0, "since": 1.0, "seq": 1}],
        "problem": None,
        "threads": [{"name": EVIL, "frames": [[EVIL, 1, EVIL]], "all_frames": []}],
        "calls": [{"seq": 1, "frames": [[EVIL, 1, EVIL]]}],
    }
    for text in (
        status.render(view, 10.0, verbose=True),
        memory.render(view, 10.0),
        stack.render([row], 10.0),
    ):
        assert not steers(text)
        assert SHOWN in text


class _Loop:
    def add_reader(self, fd, callback):
        pass


class _Printer(Printer):
    def __init__(self):
        super().__init__()
        self.said = ""

    def write(self, pid, prefix, lines, *, to_stderr):
        self.said += "".join(f"{prefix}{line}\n" for line in lines)


def test_prefix_of_a_line_is_clean_and_the_line_is_the_users():
    printer = _Printer()
    reader = LineReader(_Loop(), 0, 7, printer, to_stderr=False)
    forged = OUTPUT_MARK + b"2;x\x07\r\xe2\x80\xae\x9b" + OUTPUT_MARK_END
    reader._take(_mark(1, EVIL) + b"mine \x1b[31m\n" + forged + b"more\n")
    first, second, _ = printer.said.split("\n")
    name, _, line = first.partition(" pid=7) ")
    assert name == f"({SHOWN}"
    assert line == "mine \x1b[31m"
    assert not steers(second)
    assert second.endswith(" pid=7) more")


def test_progress_bar_is_one_line_of_what_can_be_seen():
    bar = Bar("k", 1, 4, desc=EVIL, unit=EVIL, postfix=EVIL, prefix=EVIL, elapsed=1.0)
    assert not steers(bar.text(1_000), "")
    assert len(bar.text(60)) <= 60


def test_messages_of_the_engine_have_names_written_out(caplog):
    description = ActorDescription("ab", EVIL, EVIL, EVIL)
    task = SimpleNamespace(
        name=EVIL,
        scheduling_class=SimpleNamespace(
            reserves=SimpleNamespace(nodes_wanted=1, devices_wanted=(5_000,))
        ),
    )
    one = infeasible(task, {EVIL: 1.0}, {EVIL: 2.0, "GPU": 1.0})
    task.scheduling_class.reserves.nodes_wanted = 2
    two = infeasible(task, {EVIL: 1.0}, {EVIL: 2.0})
    task.scheduling_class.reserves = None
    three = infeasible(task, {EVIL: 3.0}, {EVIL: 2.0})
    notice = ActorEnd(description, DeathCause.WORKER_DIED, None).notice()
    task.name, task.actor = EVIL, SimpleNamespace(payload=SimpleNamespace(description=description))
    task.scheduling_class = SimpleNamespace(reserves=None, group=None, demand=())
    command = ReportStarved(((task, 2),), (Holding(task, ()),))
    four = starved(command, str)
    task.actor = None
    five = starved(command, str)
    for text in (one, two, three, four, five, notice):
        assert not steers(text, "")
        assert SHOWN in text
    with caplog.at_level(logging.ERROR):
        StoredFailure(lambda: ValueError(f"x\n{EVIL}"))  # nobody looks at it
    assert not steers(caplog.messages[-1])
    assert re.search(r"=1\): x\na\\x1b\[2J", caplog.messages[-1])
