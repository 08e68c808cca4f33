"""What Ray's own examples and design patterns do, start to end, written as users write it."""

from __future__ import annotations

import collections
import os

import pytest

import aioray
import aioray as ray
from aioray.util import as_completed
from aioray.util.multiprocessing import Pool

from . import jobs, util_jobs
from .support import GUARD

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


def test_tree_of_tasks_sorts_with_nested_parallelism():
    """Ray's pattern "nested tasks": quick sort, whose small parts are sorted where they are."""

    @ray.remote
    def quick_sort(values):
        if len(values) <= 200:
            return sorted(values)
        pivot, *rest = values
        less = quick_sort.remote([value for value in rest if value < pivot])
        more = quick_sort.remote([value for value in rest if value >= pivot])
        return [*ray.get(less), pivot, *ray.get(more)]

    values = [number * 7919 % 3001 for number in range(3000)]
    assert ray.get(quick_sort.remote(values)) == sorted(values)


def test_each_result_goes_on_to_the_next_stage_as_it_comes():
    """Ray's tip "process results as they come, with ray.wait", with two stages."""

    @ray.remote
    def load(number):
        return list(range(number))

    @ray.remote
    def add_up(values):
        return sum(values)

    loading = [load.remote(number) for number in range(30)]
    adding, total = [], 0
    while loading:
        done, loading = ray.wait(loading)
        adding += [add_up.remote(ref) for ref in done]
    while adding:
        done, adding = ray.wait(adding, num_returns=min(4, len(adding)), timeout=GUARD)
        total += sum(ray.get(done))
    assert total == sum(sum(range(number)) for number in range(30))


def test_stream_feeds_the_next_stage_which_streams_too():
    """Ray Data in small: read, transform and batch, each while the others go on."""

    @ray.remote(_generator_backpressure_num_objects=2)
    def read(files):
        for number in range(files):
            yield [number] * 100

    @ray.remote
    def transform(block):
        return [value * 2 for value in block]

    @ray.remote
    def batches(files, size):
        waiting = []
        for ref in read.remote(files):
            waiting += ray.get(transform.remote(ref))
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]
        if waiting:
            yield waiting

    found = [ray.get(ref) for ref in batches.remote(10, 64)]
    assert [len(batch) for batch in found] == [64] * 15 + [40]
    assert sum(map(sum, found)) == sum(number * 2 * 100 for number in range(10))


def test_streams_are_read_together_with_ray_wait():
    """Ray's example for streaming generators: several at once, whichever has something."""

    @ray.remote
    def produce(name, items):
        for number in range(items):
            yield name, number

    unread = [produce.remote(name, items) for name, items in [("a", 3), ("b", 0), ("c", 5)]]
    found = collections.defaultdict(list)
    while unread:
        ready, _ = ray.wait(unread)
        for generator in ready:
            try:
                name, number = ray.get(next(generator))
                found[name].append(number)
            except StopIteration:
                unread.remove(generator)
    assert found == {"a": [0, 1, 2], "c": [0, 1, 2, 3, 4]}


def test_parameter_sweep_survives_flaky_tasks(notes):
    """Trials that crash or raise once are run again; one that cannot work is known by its error."""

    @ray.remote(max_retries=2, retry_exceptions=[ConnectionError])
    def trial(rate, depth):
        first = f"{rate} {depth}" not in jobs.notes(notes)
        jobs.note(notes, f"{rate} {depth}")
        if first and depth == 1:
            raise ConnectionError("the data base is away")
        if first and depth == 2:
            os._exit(1)
        if rate == 0.0:
            raise ValueError("a rate of 0 learns nothing")
        return rate * depth

    @ray.remote
    def sweep(rate):
        trials = {depth: trial.remote(rate, depth) for depth in range(1, 4)}
        scores = {}
        for depth, ref in trials.items():
            try:
                scores[depth] = ray.get(ref)
            except ValueError as error:
                scores[depth] = str(error.cause)
        return scores

    rates = [0.0, 0.5, 1.0]
    by_rate = dict(zip(rates, ray.get([sweep.remote(rate) for rate in rates]), strict=True))
    assert by_rate[0.0] == dict.fromkeys((1, 2, 3), "a rate of 0 learns nothing")
    assert by_rate[0.5] == {1: 0.5, 2: 1.0, 3: 1.5}
    assert by_rate[1.0] == {1: 1.0, 2: 2.0, 3: 3.0}
    runs = collections.Counter(line.split()[1] for line in jobs.notes(notes))
    assert runs == {"1": 6, "2": 6, "3": 3}


def test_number_of_pending_tasks_can_be_limited_with_ray_wait(notes):
    """Ray's pattern "limit the number of pending tasks"."""

    @ray.remote
    def work(number):
        jobs.note(notes, number)
        return number

    limit, pending, found = 4, [], []
    for number in range(40):
        if len(pending) >= limit:
            done, pending = ray.wait(pending)
            found += ray.get(done)
        assert len(jobs.notes(notes)) - len(found) <= len(pending)
        pending.append(work.remote(number))
    found += ray.get(pending)
    assert sorted(found) == list(range(40))
