"""What Ray's own examples do, start to end: Monte Carlo pi with progress, and word counts."""

from __future__ import annotations

import collections

import pytest

import aioray
from aioray.util import as_completed
from aioray.util.multiprocessing import Pool

from . import util_jobs

pytestmark = pytest.mark.usefixtures("session")


def test_monte_carlo_pi_with_progress_as_results_come(capfd):
    sample = aioray.remote(util_jobs.sample_pi)
    samples, tasks = 20_000, 8
    inside = total = 0
    progress = []
    for found in as_completed(
        [sample.remote(samples, seed) for seed in range(tasks)], chunk_size=1
    ):
        inside += found
        total += samples
        progress.append(total / (samples * tasks))
    assert progress == [(1 + done) / tasks for done in range(tasks)]
    assert abs(4 * inside / total - 3.14159) < 0.05
    aioray.shutdown()
    bars = capfd.readouterr().err.splitlines()
    assert all(bar.startswith("(sample_pi pid=") for bar in bars)
    ends = sorted(bar.partition(") ")[2][:15] for bar in bars)
    assert ends == [f"sampling {seed}: 100" for seed in range(tasks)]


@pytest.fixture
def texts(tmp_path):
    paths = []
    for number in range(6):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"the word {number} the\nWord " * (number + 1), encoding="utf-8")
        paths.append(str(path))
    expected = collections.Counter({"the": 42, "word": 42})
    expected.update({str(number): number + 1 for number in range(6)})
    return paths, expected


def test_word_count_with_a_pool(texts):
    paths, expected = texts
    with Pool() as pool:
        counts = pool.imap_unordered(util_jobs.count_words, paths)
        assert sum(counts, collections.Counter()) == expected


def test_word_count_with_a_tree_of_tasks(texts):
    paths, expected = texts
    count = aioray.remote(util_jobs.count_words)

    @aioray.remote
    def merge(one, other):
        return one + other

    level = [count.remote(path) for path in paths]
    while len(level) > 1:
        pairs = [merge.remote(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        level = pairs + (level[-1:] if len(level) % 2 else [])
    assert aioray.get(level[0]) == expected
