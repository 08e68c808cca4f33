"""Cells of notebooks and lines at a prompt run inside a running loop, and may block there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from .support import GUARD, ROOT

# Runs cells in a real kernel, and prints the outputs of each as JSON.
RUN_CELLS = """
import json, nbclient, nbformat
cells = [nbformat.v4.new_code_cell(source) for source in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=100).execute()
print("OUTPUTS", json.dumps([cell.outputs for cell in notebook.cells]))
"""

# Interrupts a kernel in a blocking cell and restarts it.
STEER_KERNEL = """
import json, os
from jupyter_client.manager import start_new_kernel

def run(client, code, begun=lambda text: None):
    texts = []
    def take(message):
        content = message["content"]
        texts.append(content.get("text") or content.get("ename") or "")
        begun(texts[-1])
    client.execute_interactive(code, timeout=100, output_hook=take, allow_stdin=False)
    return "".join(texts)

def interrupt(text):
    if "begun" in text:
        manager.interrupt_kernel()

manager, client = start_new_kernel()
try:
    run(client, '''
import aioray as ray, time
ray.init(num_cpus=1)
@ray.remote
def hang():
    print("begun", flush=True)
    time.sleep(1000)
@ray.remote
def pid():
    import os
    return os.getpid()
''')
    found = {"hanging": run(client, "ref = hang.remote()\\nray.get(ref)", interrupt)}
    found["after"] = run(client, "print(ray.cancel(ref, force=True).result(100))")
    pids = run(client, "print(ray.get(pid.remote()), *ray.api.session._session.engine.pids())")
    manager.restart_kernel()
    client.wait_for_ready(timeout=100)
    found["restarted"] = run(client, "import aioray; print(aioray.is_initialized())")
    pids += run(
        client,
        "from aioray.api.session import _session\\n"
        "aioray.init(num_cpus=1); print(*_session.engine.pids())",
    )
finally:
    client.stop_channels()
    manager.shutdown_kernel()
found["left"] = [pid for pid in pids.split() if os.path.exists(f"/proc/{pid}")]
print("OUTPUTS", json.dumps(found))
"""


def outputs(driver):
    status, out, err = driver.finish()
    assert status == 0, err
    return json.loads(out.rpartition("OUTPUTS ")[2])


def text_of(cell):
    return "".join(output.get("text", output.get("evalue", "")) for output in cell)


BLOCKING = """
from aioray.util import ActorPool, Queue, placement_group
from aioray.util.joblib import register_ray
from aioray.util.multiprocessing import Pool
import joblib
print(ray.get([double.remote(i) for i in range(3)]))
print(len(ray.wait([double.remote(1), double.remote(2)])[0]))
print(sorted(ray.progress([double.remote(i) for i in range(3)])))
print(list(ActorPool([Voice.remote()]).map(lambda a, x: a.double.remote(x), [1, 2])))
queue = Queue(); queue.put(5); print(queue.get()); queue.shutdown()
with Pool(1) as pool: print(pool.map(abs, [-1, 2]))
register_ray()
with joblib.parallel_backend("ray", n_jobs=1): print(joblib.Parallel()([joblib.delayed(abs)(-7)]))
print(placement_group([{"CPU": 1}]).wait(100))
"""

CELLS = {
    "init": """
        import aioray as ray, asyncio, threading
        _ = ray.init(num_cpus=2)
        @ray.remote
        def double(x):
            return 2 * x
        @ray.remote(num_cpus=0)
        class Voice:
            def double(self, x):
                return 2 * x
            def say(self, text):
                print(text)
        """,
    "blocking": BLOCKING,
    "awaited": "print(await double.remote(5), await asyncio.gather(*map(double.remote, (1, 2))))",
    "voices": "one, two = Voice.remote(), Voice.remote()",
    "first": "ray.get([one.say.remote('the same'), two.say.remote('the same')])",
    "second": "ray.get(one.say.remote('the second'))",
    "raises": "ray.get(one.say.remote('before it raises')); 1 / 0",
    "reload": "%load_ext autoreload\n%autoreload 2",
    "alias": "%load_ext aioray\nimport ray as real; print(real.get(double.remote(6)))",
    "threads": """
        async def main():
            print(await double.remote(7))
        thread = threading.Thread(target=lambda: asyncio.run(main())); thread.start(); thread.join()
        """,
    "shutdown": "ray.shutdown()",
    "awaited_shutdown": "ray.init(num_cpus=1); await ray.shutdown()",
    "unload": "%unload_ext aioray\nimport sys; print('ray' in sys.modules)",
}


def test_cells_of_a_notebook_block_and_have_the_output_of_their_tasks(drive):
    sources = [textwrap.dedent(source) for source in CELLS.values()]
    found = dict(zip(CELLS, outputs(drive(RUN_CELLS, json.dumps(sources))), strict=True))
    texts = {name: text_of(cell) for name, cell in found.items()}
    printed = [
        output.get("text", "") for output in found["blocking"] if output.get("name") == "stdout"
    ]
    assert "".join(printed).splitlines() == [
        "[0, 2, 4]",
        "1",
        "[0, 2, 4]",
        "[2, 4]",
        "5",
        "[1, 2]",
        "[7]",
        "True",
    ]
    bars = [output["data"]["text/plain"] for output in found["blocking"] if "data" in output]
    assert "3/3" in "".join(bars)
    assert texts["awaited"] == "10 [2, 4]\n"
    lines = texts["first"].splitlines()  # the second is folded, and still in this cell
    assert [line.partition(") ")[2] for line in lines if "pid=" in line] == ["the same"] * 2
    assert texts["second"].count("the second") == 1
    assert "before it raises" in texts["raises"]
    assert "division by zero" in texts["raises"]
    assert texts["reload"] == ""
    assert texts["alias"] == "12\n"
    assert texts["threads"] == "14\n"
    assert found["shutdown"] == found["awaited_shutdown"] == []
    assert texts["unload"] == "False\n"


def test_a_kernel_is_interrupted_in_get_and_leaves_no_process_when_restarted_or_shut_down(drive):
    found = outputs(drive(STEER_KERNEL))
    assert "KeyboardInterrupt" in found["hanging"]
    assert "KILLED" in found["after"]
    assert found["restarted"] == "False\n"
    assert found["left"] == []


def test_lines_at_the_prompt_of_asyncio_block_and_shutdown_shows_no_object():
    lines = """
        import aioray as ray
        double = ray.remote(lambda x: 2 * x)
        print("got", ray.get(double.remote(1)), await double.remote(2))
        ray.shutdown()
        """
    shell = subprocess.run(
        [sys.executable, "-q", "-m", "asyncio"],
        check=False,
        input=textwrap.dedent(lines),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=GUARD,
    )
    assert "got 2 4" in shell.stdout, shell.stderr
    assert "Error" not in shell.stderr
    assert "object at" not in shell.stdout + shell.stderr
