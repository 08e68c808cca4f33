"""What was printed, read back from a session's history that was made up."""

from __future__ import annotations

import itertools

import pytest

from aioray.shared import ids
from aioray.state.read import logs
from aioray.state.schema import ATTEMPT_COLUMNS

from .printed import ACTOR, ACTOR_ID, JOB, History, make_actor, task_id, worker_id


@pytest.fixture
def history():
    history = History()
    yield history
    history.connection.close()


def of_task(number, attempt=None):
    return lambda view: logs.of_task(view, task_id(number), attempt)


# ---------------------------------------------------------------- tasks


def test_output_of_an_attempt_is_that_of_its_worker_and_number(history):
    history.attempt(1, worker=1, seq=1)
    history.attempt(2, worker=1, seq=2)
    history.attempt(3, worker=2, seq=1)
    for worker, seq in itertools.product((1, 2), (0, 1, 2)):
        history.output(b"%d/%d " % (worker, seq), worker=worker, seq=seq)
        history.output(b"again ", worker=worker, seq=seq)
    assert history.text(of_task(1)) == b"1/1 again "
    assert history.text(of_task(2)) == b"1/2 again "
    assert history.text(of_task(3)) == b"2/1 again "


def test_streams_apart_and_together(history):
    history.attempt(1)
    for number, stream in enumerate((1, 2, 2, 1)):
        history.output(b"%d" % number, stream=stream)
    assert history.text(of_task(1), (1,)) == b"03"
    assert history.text(of_task(1), (2,)) == b"12"
    assert history.text(of_task(1), logs.BOTH) == b"0123"


def test_attempts_of_a_task_in_order_with_titles(history):
    history.attempt(1, attempt=0, worker=2, seq=3, error="WORKER_DIED")
    history.attempt(1, attempt=1, worker=1, seq=5)
    history.output(b"second", worker=1, seq=5)
    history.output(b"first", worker=2, seq=3)
    found = history.chunks(of_task(1))
    assert [(chunk.part.title, chunk.of_several, chunk.data) for chunk in found] == [
        ("work, attempt 0 (pid=102, FAILED)", True, b""),
        ("work, attempt 0 (pid=102, FAILED)", True, b"first"),
        ("work, attempt 1 (pid=101, FINISHED)", True, b""),
        ("work, attempt 1 (pid=101, FINISHED)", True, b"second"),
    ]
    assert history.text(of_task(1, 0)) == b"first"
    assert history.text(of_task(1, 1)) == b"second"


def test_task_that_another_task_or_an_actor_runs_is_found_by_its_id(history):
    child = ids.child_task_id(bytes.fromhex(task_id(1)), 1)
    history.signature(2, "A.m", "ACTOR_TASK", ACTOR_ID, ACTOR.hex())
    history.attempt(child, seq=4)
    history.attempt(7, signature=2, seq=5)
    history.output(b"child", seq=4)
    history.output(b"method", seq=5)
    call = ids.task_id(JOB, (7, ACTOR)).hex()
    assert history.text(lambda view: logs.of_task(view, child.hex())) == b"child"
    assert history.text(lambda view: logs.of_task(view, call)) == b"method"
    with pytest.raises(logs.NoSuchLogError):
        history.text(of_task(7))  # the number belongs to the call


def test_task_that_runs_and_task_that_waits(history):
    history.is_alive = True
    history.running(1, worker=1, seq=1)
    history.running(2, "PENDING_ARGS_AVAIL", worker=None, seq=None)
    history.output(b"so far")
    assert history.text(of_task(1)) == b"so far"
    (chunk,) = history.chunks(of_task(2))
    assert chunk.part == logs.Part("work, attempt 0 (PENDING_ARGS_AVAIL)", None, None, 10.0, False)


@pytest.mark.parametrize(
    ("task", "attempt", "text"),
    [
        ("ab", None, "48 hexadecimal digits.*aioray list tasks"),
        ("no id", None, "48 hexadecimal digits"),
        ("00" * 24, None, "no task 0000.*aioray list tasks"),
        ("00" * 16, None, "aioray logs actor 0000"),
        (task_id(1), 3, "no attempt 3; there are: 0, 1"),
    ],
)
def test_what_is_not_there_is_refused_with_advice(history, task, attempt, text):
    history.attempt(1)
    history.attempt(1, attempt=1)
    with pytest.raises(logs.NoSuchLogError, match=text):
        history.chunks(lambda view: logs.of_task(view, task, attempt))


# ---------------------------------------------------------------- actors, workers, files


@pytest.mark.parametrize("how", [{"actor": ACTOR_ID}, {"actor": "nn"}, {"pid": 103}, {"pid": 101}])
def test_all_processes_of_an_actor_without_what_they_did_before(history, how):
    make_actor(history)
    found = history.chunks(lambda view: logs.of_actor(view, **how))
    assert [(chunk.part.title, chunk.data) for chunk in found if chunk.data] == [
        ("nn (A), process 1 of 2 (pid=101)", b"made "),
        ("nn (A), process 1 of 2 (pid=101)", b"call "),
        ("nn (A), process 1 of 2 (pid=101)", b"thread "),
        ("nn (A), process 2 of 2 (pid=103)", b"made again "),
    ]


def test_of_two_actors_of_one_name_the_newest(history):
    history.actor("0c" * 16, name="nn", created=2.0)
    history.actor("0d" * 16, name="nn", created=1.0)
    history.worker(1, actor_id="0d" * 16)
    history.worker(2, actor_id="0c" * 16)
    history.output(b"older", worker=1)
    history.output(b"newer", worker=2)
    assert history.text(lambda view: logs.of_actor(view, "nn")) == b"newer"


def test_actor_that_has_no_process_yet(history):
    history.is_alive = True
    history.actor(ACTOR_ID, state="PENDING_CREATION")
    (chunk,) = history.chunks(lambda view: logs.of_actor(view, ACTOR_ID))
    assert chunk.part == logs.Part("A (PENDING_CREATION)", None, None, None, False)


@pytest.mark.parametrize("how", [{"actor": "no one"}, {"actor": ""}, {"pid": 102}])
def test_actor_that_is_not_there(history, how):
    make_actor(history)
    with pytest.raises(logs.NoSuchLogError, match="aioray list actors"):
        history.chunks(lambda view: logs.of_actor(view, **how))


@pytest.mark.parametrize("name", ["101", worker_id(1)])
def test_whatever_ran_in_a_worker(history, name):
    make_actor(history)
    text = history.text(lambda view: logs.of_worker(view, name))
    assert text == b"task made call thread "


@pytest.mark.parametrize("name", ["999", "ff" * 28, "driver"])
def test_worker_that_is_not_there(history, name):
    with pytest.raises(logs.NoSuchLogError, match="aioray list workers"):
        history.chunks(lambda view: logs.of_worker(view, name))


def test_driver_is_no_worker(history):
    history.worker(0, pid=7)
    with pytest.raises(logs.NoSuchLogError, match="driver"):
        history.chunks(lambda view: logs.of_worker(view, "7"))


def test_names_of_files(history):
    history.worker(0, pid=7)
    history.worker(4, pid=None)
    history.output(b"printed", worker=2)
    name = f"worker-{worker_id(2)}-01000000-102"
    with history.look() as view:
        assert {group: len(names) for group, names in logs.files(view).items()} == {
            "worker_out": 3,
            "worker_err": 3,
        }
        assert logs.files(view, "*-102.*") == {
            "worker_out": [f"{name}.out"],
            "worker_err": [f"{name}.err"],
        }
        assert logs.files(view, "nothing*") == {}
    assert history.text(lambda view: logs.of_file(view, f"{name}.out")) == b"printed"
    with pytest.raises(logs.NoSuchLogError, match="aioray logs"):
        history.chunks(lambda view: logs.of_file(view, "raylet.out"))


# ---------------------------------------------------------------- the last lines


@pytest.mark.parametrize(
    "text", [b"a\nbb\nccc\n", b"a\nbb\nccc", b"\n\n\n", b"", b"no end", b"a\n\n"]
)
@pytest.mark.parametrize("lines", range(5))
@pytest.mark.parametrize("size", [1, 2, 100])
def test_tail_is_what_it_would_be_of_a_file(history, text, lines, size):
    history.attempt(1)
    for start in range(0, len(text), size):
        history.output(text[start : start + size])
    whole = text.splitlines(keepends=True)
    expected = b"".join(whole[-lines:]) if lines else b""
    found = history.chunks(of_task(1), tail=lines)
    assert b"".join(chunk.data for chunk in found) == expected
    assert found[0].is_cut == (lines < len(whole))


def test_tail_of_each_part(history):
    history.attempt(1, attempt=0, seq=1, error="WORKER_DIED")
    history.attempt(1, attempt=1, seq=2)
    history.output(b"1\n2\n", seq=1)
    history.output(b"3\n4\n", seq=2)
    assert history.text(of_task(1), tail=1) == b"2\n4\n"


# ---------------------------------------------------------------- output that was dropped


@pytest.mark.parametrize(
    ("started", "is_dropped", "oldest", "expected"),
    [
        (10.0, False, 12.0, False),
        (10.0, True, 12.0, True),  # what it has printed before 12 would be gone
        (13.0, True, 12.0, False),
        (None, True, 12.0, True),
        (13.0, True, None, True),  # all is gone
    ],
)
def test_attempt_that_may_have_lost_output_says_so(history, started, is_dropped, oldest, expected):
    history.attempt(1, started=started)
    if started is None:
        history.connection.execute("UPDATE attempts SET sent = NULL")
    history.output(b"gone", at=1.0)
    if oldest is not None:
        history.output(b"there", at=oldest)
    history.connection.execute("DELETE FROM output WHERE data = x'676f6e65'")
    if is_dropped:
        history.meta(output_dropped=True)
    (first, *_) = history.chunks(of_task(1))
    assert first.is_incomplete is expected


def test_where_the_disk_was_too_slow_anything_may_be_missing(history):
    history.attempt(1, started=100.0)
    history.output(b"there", at=1.0)
    history.meta(output_dropped=True)
    assert history.chunks(of_task(1))[0].is_incomplete


# ---------------------------------------------------------------- following


def test_follow_reads_what_comes_until_the_attempt_has_ended(history):
    history.is_alive = True
    history.running(1)
    history.output(b"one ")

    def finish():
        history.output(b"three ")
        history.attempt(1)

    history.news = [
        lambda: history.output(b"two "),
        lambda: history.output(b"others ", seq=2),
        finish,
        lambda: history.output(b"late "),
    ]
    assert history.text(of_task(1), follow=True) == b"one two three late "
    assert history.news == []


def test_follow_waits_for_what_has_not_begun_and_for_its_retries(history):
    history.is_alive = True
    history.running(1, "PENDING_ARGS_AVAIL", worker=None, seq=None)

    def begin():
        history.tasks.clear()
        history.running(1)
        history.output(b"first ")

    def fail():
        history.tasks.clear()
        history.attempt(1, error="WORKER_DIED")

    def retry():
        history.running(1, attempt=1, worker=2)
        history.output(b"second ", worker=2)

    def finish():
        history.tasks.clear()
        history.attempt(1, attempt=1, worker=2)

    history.news = [begin, fail, retry, finish]
    found = history.chunks(of_task(1), follow=True)
    assert b"".join(chunk.data for chunk in found) == b"first second "
    assert [chunk.part.title for chunk in found if not chunk.data] == [
        "work, attempt 0 (pid=101, RUNNING)",
        "work, attempt 1 (pid=102, RUNNING)",
    ]
    assert history.news == []


def test_follow_of_the_last_lines(history):
    history.is_alive = True
    history.running(1)
    history.output(b"1\n2\n3\n")
    history.news = [lambda: history.output(b"4\n5\n"), lambda: history.attempt(1)]
    assert history.text(of_task(1), follow=True, tail=1) == b"3\n4\n5\n"


def test_follow_of_nothing_but_what_is_to_come(history):
    history.is_alive = True
    history.running(1)
    history.output(b"1\n2\n3\n")
    history.news = [lambda: history.output(b"4\n5\n"), lambda: history.attempt(1)]
    assert history.text(of_task(1), follow=True, tail=0) == b"4\n5\n"


def test_follow_of_a_worker_ends_with_it(history):
    history.is_alive = True
    history.news = [lambda: history.output(b"x"), lambda: history.worker(1, is_alive=False)]
    assert history.text(lambda view: logs.of_worker(view, "101"), follow=True) == b"x"


def test_follow_of_an_actor_goes_on_in_its_next_process(history):
    history.is_alive = True
    make_actor(history)
    history.news = [
        lambda: history.worker(2, actor_id=ACTOR_ID),
        lambda: history.actor(ACTOR_ID, state="DEAD"),
    ]
    text = history.text(lambda view: logs.of_actor(view, ACTOR_ID), follow=True)
    assert text == b"made call thread made again other "


def test_follow_ends_with_the_session(history):
    history.is_alive = True
    history.running(1)
    history.connection.execute(
        f"INSERT INTO running VALUES ({','.join('?' * len(ATTEMPT_COLUMNS))})",
        (1, 1, 0, None, 1, 1, 1.0, 1.0, 1.0, 10.0, None, None, None),
    )

    def die():
        history.is_alive = False

    history.news = [die]
    history.output(b"so far")
    assert history.text(of_task(1), follow=True) == b"so far"
    assert history.looks == 3


def test_follow_ends_with_a_driver_that_was_killed_before_it_could_note_the_attempt(history):
    history.is_alive = True
    history.running(1)
    history.output(b"so far ")

    def die():
        history.output(b"the end")
        history.is_alive = False

    history.news = [die]
    assert history.text(of_task(1), follow=True) == b"so far the end"
    with pytest.raises(logs.NoSuchLogError):
        history.text(of_task(1), follow=True)


def test_one_look_where_nothing_is_followed(history):
    history.is_alive = True
    history.running(1)
    history.chunks(of_task(1))
    assert (history.looks, history.sleeps) == (1, [])


def test_looks_are_as_far_apart_as_was_asked(history):
    history.is_alive = True
    history.running(1)
    history.news = [lambda: None, lambda: history.attempt(1)]
    history.chunks(of_task(1), follow=True, interval=100.0)
    assert set(history.sleeps) == {100.0}
