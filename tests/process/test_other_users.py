"""What another user of the machine can do to a session: nothing.

These run as root, who can become somebody else.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from .support import ROOT

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

OTHER = 12_345  # a uid that nobody has
OURS = f"aioray-{os.getuid()}"

SESSION = """
import json, os, sys, time
import aioray

aioray.init(num_cpus=1, object_store_memory=4_000_000, **json.loads(sys.argv[1]))

@aioray.remote
def make(letter):
    return letter.encode() * 3_000_000

refs = [make.remote("a"), make.remote("b"), make.remote("c")]
aioray.wait(refs, num_returns=3, fetch_local=False)
from aioray.util.state import list_tasks
assert len(list_tasks()) == 3
print("ready", flush=True)
sys.stdin.readline()
print([value[:1].decode() * 2 if len(value) == 3_000_000 else value
       for value in aioray.get(refs)], flush=True)
again = aioray.get(make.remote("d"))
print(len(again), flush=True)
"""

AS_ANOTHER = """
import json, os, pickle, signal, socket, sys
os.setgroups([])
os.setgid({uid})
os.setuid({uid})
outcomes = {{}}
def attempt(name, do):
    try:
        outcomes[name] = repr(do())
    except OSError as error:
        outcomes[name] = type(error).__name__
{code}
print(json.dumps(outcomes))
"""


def as_another(code: str, *arguments: object) -> dict[str, str]:
    """Run code as another user; return what came of each `attempt` in it."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER.format(uid=OTHER, code=code), *map(str, arguments)],
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        timeout=250,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture
def temp():
    """A folder for temporary files in which everybody may make something, as /tmp."""
    path = Path(tempfile.mkdtemp(prefix="aioray-everybodys-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def begin(temp):
    """Begins a program with values in memory and on disk, which waits for a line."""
    begun = []

    def begin(umask=-1, drop=(), **settings):
        environment = {**os.environ, "RAY_TMPDIR": str(temp), "PYTHONPATH": str(ROOT)}
        for variable in drop:
            environment.pop(variable, None)
        driver = subprocess.Popen(
            [sys.executable, "-c", SESSION, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=umask,
            env=environment,
        )
        begun.append(driver)
        return driver

    yield begin
    for driver in begun:
        driver.kill()
        driver.communicate()


def wait_until_ready(driver):
    assert driver.stdout.readline() == "ready\n", driver.stderr.read()


def end(driver):
    """Let the program go on; return what it prints until its end, and its complaints."""
    out, complaints = driver.communicate("\n", timeout=250)
    assert driver.returncode == 0, complaints
    return out.splitlines(), complaints


VALUES = ["['aa', 'bb', 'cc']", "3000000"]
NOBODY_MAY = {"PermissionError"}


def test_another_user_can_neither_look_nor_connect_nor_disturb(temp, begin):
    driver = begin()
    wait_until_ready(driver)
    (session,) = (temp / OURS).iterdir()
    (value, *_) = (session / "objects").iterdir()
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    assert len(family) >= 4  # driver, guardian, template, worker
    outcomes = as_another(
        """
root, folder, value, *pids = sys.argv[1:]
for path in (root, folder, os.path.dirname(value)):
    attempt(f"list {path}", lambda: os.listdir(path))
    attempt(f"look into {path}", lambda: os.stat(os.path.join(path, ".")).st_mode and os.stat(
        os.path.join(path, "lock")))
    attempt(f"plant in {path}", lambda: os.mkdir(os.path.join(path, "planted")))
    attempt(f"link in {path}", lambda: os.symlink("/etc/passwd", os.path.join(path, "link")))
    attempt(f"move {path}", lambda: os.rename(path, path + "-moved"))
    attempt(f"remove {path}", lambda: os.rmdir(path))
for name in ("history.db", "history.db-wal", "history.db-shm", "lock", value):
    attempt(f"read {name}", lambda: open(os.path.join(folder, name), "rb"))
    attempt(f"write {name}", lambda: open(os.path.join(folder, name), "ab"))
    attempt(f"remove {name}", lambda: os.unlink(os.path.join(folder, name)))
caller = socket.socket(socket.AF_UNIX)
attempt("connect", lambda: caller.connect(f"/proc/self/cwd/{folder}/state.sock"[:107]))
for pid in map(int, pids):
    attempt(f"signal {pid}", lambda: os.kill(pid, signal.SIGINT))
    attempt(f"signal the group of {pid}", lambda: os.killpg(pid, signal.SIGINT))
    attempt(f"descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    attempt(f"a descriptor of {pid}", lambda: os.open(f"/proc/{pid}/fd/1", os.O_WRONLY))
    for name in ("environ", "mem", "maps"):
        attempt(f"{name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
""",
        temp / OURS,
        session,
        value,
        *(process.pid for process in family),
    )
    gone = {what for what, how in outcomes.items() if how == "ProcessLookupError"}
    assert all(what.startswith("signal the group") for what in gone)  # it leads none
    assert {how for what, how in outcomes.items() if what not in gone} == NOBODY_MAY, outcomes
    assert len(outcomes) > 50
    assert [process.net_connections("inet") for process in family] == [[]] * len(family)
    assert end(driver)[0] == VALUES


def test_whoever_connects_all_the_same_is_not_answered(temp, begin):
    """The folder's mode is one wall; should it fall, the socket's is another, and who asks."""
    driver = begin()
    wait_until_ready(driver)
    (session,) = (temp / OURS).iterdir()
    for folder in (temp / OURS, session):
        folder.chmod(0o755)
    call = """
caller = socket.socket(socket.AF_UNIX)
os.chdir(sys.argv[1])
attempt("connect", lambda: caller.connect("state.sock"))
attempt("ask", lambda: caller.sendall(b'{"want": []}\\n'))
attempt("answer", lambda: caller.recv(100))
for name in ("history.db", "history.db-wal", "lock", "objects"):
    attempt(f"read {name}", lambda: os.open(name, os.O_RDONLY))
"""
    outcomes = as_another(call, session)
    assert outcomes.pop("connect") == "PermissionError"
    assert {outcomes.pop("ask"), outcomes.pop("answer")} <= {
        "BrokenPipeError", "OSError", "ConnectionRefusedError",
    }  # fmt: skip
    assert set(outcomes.values()) == NOBODY_MAY
    (session / "state.sock").chmod(0o666)
    outcomes = as_another(call, session)
    assert outcomes["connect"] == "None"
    assert outcomes["answer"] in ("b''", "ConnectionResetError")
    assert end(driver)[0] == VALUES


def test_nothing_is_open_to_others_with_umask_0(temp, begin):
    deep = temp / "not" / "there"
    driver = begin(umask=0, _temp_dir=str(deep))
    wait_until_ready(driver)
    made = [temp / "not", deep, *deep.rglob("*")]
    assert {path.name for path in made} >= {"history.db", "state.sock", "lock", "objects", OURS}
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made}
    inside = [mode for path, mode in modes.items() if OURS in path]
    assert [mode for mode in inside if mode & 0o077] == [], modes
    assert [mode for mode in modes.values() if mode & 0o022] == [], modes
    assert end(driver)[0] == VALUES


def test_nothing_depends_on_a_home(temp, begin):
    driver = begin(drop=["HOME", "LOGNAME", "USER", "TMPDIR"])
    wait_until_ready(driver)
    assert end(driver)[0] == VALUES


PLANTED = {
    "a folder of theirs": "os.mkdir(ours, 0o700)",
    "a folder of theirs for everybody": "os.mkdir(ours); os.chmod(ours, 0o777)",
    "a link to a folder of theirs": "os.mkdir(theirs); os.symlink(theirs, ours)",
    "a link to a folder of the user's": "os.symlink(victims, ours)",
    "a link to nothing": "os.symlink(theirs, ours)",
    "a file": "open(ours, 'w').close()",
    "a pipe": "os.mkfifo(ours, 0o666)",
    "a socket": "socket.socket(socket.AF_UNIX).bind(ours)",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_was_planted_where_sessions_go_is_left_alone(planted, temp, begin, tmp_path):
    victims = tmp_path / "victims"
    victims.mkdir(mode=0o700)
    (victims / "mine").write_text("precious")
    outcomes = as_another(
        f"ours, theirs, victims = sys.argv[1:]\nattempt('plant', lambda: {{}})\n{PLANTED[planted]}",
        temp / OURS,
        temp / "theirs",
        victims,
    )
    assert outcomes == {"plant": "{}"}
    before = sorted(os.lstat(path) for path in temp.rglob("*"))
    command = [sys.executable, "-m", "aioray", "sessions"]
    environment = {**os.environ, "RAY_TMPDIR": str(temp), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    refused = planted != "a link to nothing" or done.returncode == 1
    assert (done.returncode == 1) == refused, done.stdout + done.stderr
    spilled = tmp_path / "spilled"  # there would be no room for the values otherwise
    driver = begin(object_spilling_directory=str(spilled))
    wait_until_ready(driver)
    printed, complaints = end(driver)
    assert printed == VALUES
    assert "This session's history stays in memory" in complaints
    assert "Give init() another _temp_dir, or set RAY_TMPDIR" in complaints
    assert sorted(os.lstat(path) for path in temp.rglob("*")) == before
    assert [path.name for path in victims.iterdir()] == ["mine"]


def test_a_folder_that_others_may_exchange_gives_them_nothing(temp, begin):
    """In a folder without the sticky bit everybody can put something else in our folder's place."""
    temp.chmod(0o777)
    driver = begin()
    wait_until_ready(driver)
    (session,) = (temp / OURS).iterdir()
    files = list((session / "objects").iterdir())
    assert files
    outcomes = as_another(
        """
ours, session, *values = sys.argv[1:]
os.rename(ours, ours + "-moved")
os.makedirs(f"{session}/objects")
class Evil:
    def __reduce__(self):
        return os.system, (f"touch {ours}-evil",)
evil = pickle.dumps(Evil())
for value in values:
    name, size = value.split(":")
    with open(f"{session}/objects/{name}", "wb") as file:
        file.write(evil)
        file.truncate(int(size))
for name in ("history.db", "history.db-wal", "lock", "state.sock"):
    os.symlink("/etc/passwd", f"{session}/{name}")
attempt("done", lambda: 1)
""",
        temp / OURS,
        session,
        *(f"{path.name}:{path.stat().st_size}" for path in files),
    )
    assert outcomes == {"done": "1"}
    printed, _ = end(driver)
    assert printed == VALUES  # computed again: their files count as gone
    assert not (temp / f"{OURS}-evil").exists()
    inside = [path for path in session.rglob("*") if not path.is_symlink()]
    theirs = {path.name for path in inside if path.is_file() and path.stat().st_uid == OTHER}
    assert theirs <= {path.name for path in files}


def test_spans_are_not_written_where_somebody_else_says(temp):
    pytest.importorskip("opentelemetry.sdk")
    as_another("os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o777)", temp / "spans")
    program = f"""
from aioray.util.tracing import setup_local_tmp_tracing as hook
hook.FOLDER = {str(temp / "spans")!r}
try:
    hook.setup_tracing()
except PermissionError as error:
    print(error.strerror)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert done.stdout.startswith("it belongs to somebody else")
    assert list((temp / "spans").iterdir()) == []


def test_commands_neither_believe_nor_signal_the_processes_of_others(temp):
    """A lock in a folder that looks like a session of ours is no session if it is not ours."""
    name = "session_2026-01-01_00-00-00_000000_1"
    as_another(
        "os.makedirs(sys.argv[1]); open(sys.argv[1] + '/lock', 'w').close()", temp / OURS / name
    )
    done = subprocess.run(
        [sys.executable, "-m", "aioray", "status", "--temp-dir", str(temp)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 1
    assert "belongs to somebody else" in done.stderr
