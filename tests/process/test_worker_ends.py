"""A worker that is wanted no more ends as a Python process does: nothing of user code is lost."""

from __future__ import annotations

import asyncio
import os
import select

import pytest

import aioray

from . import leaving
from .support import GUARD, everywhere


async def wait_for_end(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended
        return
    try:
        ended, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], GUARD)
        assert ended
    finally:
        os.close(pidfd)


def is_there(folder):
    return folder is not None and os.path.exists(folder)


CASES = [
    pytest.param(number, is_foreign, id=f"{way.__name__}-{'extension' if is_foreign else 'python'}")
    for is_foreign, ways in ((False, leaving.ALL_WAYS), (True, leaving.WAYS))
    for number, way in enumerate(ways)
]


@pytest.mark.parametrize(("number", "is_foreign"), CASES)
@everywhere(num_cpus=1)
async def test_what_user_code_leaves_is_finalized(number, is_foreign, tmp_path):
    path = tmp_path / "note"
    leave = aioray.remote(max_calls=1)(leaving.leave)
    pid, folder = await leave.remote(number, str(path), is_foreign)
    await wait_for_end(pid)
    assert path.read_text() == "noted"
    assert not is_there(folder)


@everywhere(num_cpus=1)
async def test_functions_sent_by_value_keep_nothing_back(tmp_path):
    scope = {"path": str(tmp_path / "note")}
    exec(
        "import os\n"
        "class Witness:\n"
        "    def __del__(self):\n"
        "        with open(path, 'w') as file: file.write('noted')\n"
        "def make():\n"
        "    global witness, log\n"
        "    witness = Witness()\n"
        "    log = open(path + '.log', 'w')\n"
        "    log.write('logged')\n"
        "    return os.getpid()\n",
        scope,
    )
    await wait_for_end(await aioray.remote(max_calls=1)(scope["make"]).remote())
    assert (tmp_path / "note").read_text() == "noted"
    assert (tmp_path / "note.log").read_text() == "logged"


@everywhere(num_cpus=1)
async def test_extension_modules_of_others_leave_the_end_to_the_interpreter():
    is_plain = aioray.remote(leaving.is_plain)
    assert await is_plain.remote("tests.process.jobs")
    assert await is_plain.remote("sqlite3")  # has one, which is Python's own
    assert not await is_plain.remote("psutil")
