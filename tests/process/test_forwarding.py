"""Log records of workers, in the driver's logging."""

from __future__ import annotations

import logging
import os

import pytest

import aioray

from . import correlated
from .support import everywhere, on_both_loops

log = aioray.remote(correlated.log)


class Keeps(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    """The records that reach the driver's handlers."""
    handler = Keeps()
    logger = logging.getLogger("tests.forwarded")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.records
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@everywhere(forward_logging=True)
async def test_record_comes_with_what_it_says_and_where_it_comes_from(kept):
    ref = log.options(name="talks").remote("tests.forwarded.below", "with %s", logging.INFO)
    await ref
    (record,) = kept  # it is there before the value
    assert (record.name, record.levelname, record.levelno) == (
        "tests.forwarded.below",
        "INFO",
        logging.INFO,
    )
    assert record.getMessage() == "with %s"
    assert (record.task_name, record.attempt) == ("talks", 0)
    assert record.task_id == ref.task_id().hex()
    assert record.process not in (os.getpid(), None)
    assert (record.funcName, record.filename) == ("log", "correlated.py")


@everywhere(forward_logging="WARNING")
async def test_levels_of_both_sides_hold(kept):
    await log.remote("tests.forwarded", "below the worker's", logging.INFO)
    logging.getLogger("tests.forwarded").setLevel(logging.ERROR)
    await log.remote("tests.forwarded", "below the driver's", logging.WARNING)
    await log.remote("tests.forwarded", "high enough", logging.ERROR)
    assert [record.getMessage() for record in kept] == ["high enough"]


@everywhere(forward_logging=True)
async def test_exception_comes_with_its_text_and_extras_with_their_values(kept):
    await aioray.remote(correlated.log_exception).remote("tests.forwarded")
    (record,) = kept
    text = logging.Formatter("%(message)s").format(record)
    assert text.startswith("it went wrong\nTraceback (most recent call last):")
    assert text.endswith("ZeroDivisionError: division by zero")
    assert record.order == 7
    assert record.thing == "{1}"


@everywhere(forward_logging=True)
async def test_attempt_and_actor_are_told(kept, tmp_path):
    await aioray.remote(correlated.log_and_die_once).remote("tests.forwarded", str(tmp_path / "x"))
    assert [record.attempt for record in kept] == [0, 1]
    kept.clear()
    actor = aioray.remote(correlated.Talks).options(name="speaker").remote()
    await aioray.gather(actor.talk.remote("tests.forwarded"), actor.talk.remote("tests.forwarded"))
    assert [record.actor_name for record in kept] == ["speaker"] * 2
    assert len({record.task_id for record in kept}) == 2


@on_both_loops
async def test_worker_that_logs_without_end_is_bounded(kept):
    async with aioray.Engine(num_cpus=1, forward_logging=True):
        await aioray.remote(correlated.log_many).remote("tests.forwarded", 50_000)
        assert 2_000 <= len(kept) < 40_000
        await aioray.remote(correlated.pause).remote()
        dropped = []
        logging.getLogger("aioray").addHandler(handler := Keeps())
        await log.remote("tests.forwarded", "last")
        logging.getLogger("aioray").removeHandler(handler)
        dropped = [record.getMessage() for record in handler.records]
        assert any("log records were dropped" in text for text in dropped)
        assert kept[-1].getMessage() == "last"


@everywhere(forward_logging=True)
async def test_handlers_that_fail_harm_nobody(kept, capsys):
    class Fails(logging.Filter):
        def filter(self, record):
            raise LookupError("a filter's own")

    logger = logging.getLogger("tests.forwarded")
    logger.addFilter(bad := Fails())
    await log.remote("tests.forwarded", "text")
    logger.removeFilter(bad)
    assert await log.remote("tests.forwarded", "text") is None
    assert len(kept) == 1
    assert "a filter's own" in capsys.readouterr().err


@everywhere
async def test_nothing_is_forwarded_unasked(kept):
    await log.remote("tests.forwarded", "text")
    assert kept == []


def test_level_that_is_none_is_refused():
    for wrong in ("LOUD", -1, 2.5):
        with pytest.raises(ValueError, match="forward_logging must be"):
            aioray.Engine(forward_logging=wrong)
