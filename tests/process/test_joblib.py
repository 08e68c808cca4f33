"""joblib's back end "ray"."""

from __future__ import annotations

import os
import sys
import threading

import joblib
import pytest

import aioray
from aioray.util.joblib import register_ray

from . import jobs, util_jobs

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture(autouse=True)
def registered():
    register_ray()
    register_ray()


def nested(item):
    """A Parallel inside a task: where its two halves ran."""
    inner = joblib.Parallel(n_jobs=2)
    found = inner(joblib.delayed(lambda: (os.getpid(), item))() for _ in range(2))
    return os.getpid(), found


@pytest.mark.parametrize("n_jobs", [-1, 2, 7])
@pytest.mark.parametrize("context", [joblib.parallel_backend, joblib.parallel_config])
def test_work_is_done_in_workers_in_order(context, n_jobs):
    with context("ray", n_jobs=n_jobs):
        values = joblib.Parallel()(joblib.delayed(util_jobs.double)(item) for item in range(50))
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(8))
    assert values == [2 * item for item in range(50)]
    assert os.getpid() not in pids
    assert len(set(pids)) <= 2


def test_number_of_jobs_is_the_sessions_cpus():
    with joblib.parallel_backend("ray"):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(-2) == 1
        assert joblib.effective_n_jobs(5) == 2
        assert joblib.effective_n_jobs(None) == 2  # what parallel_backend has set
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)


def test_one_job_runs_here():
    with joblib.parallel_backend("ray", n_jobs=1):
        assert joblib.Parallel()([joblib.delayed(os.getpid)()]) == [os.getpid()]


def test_error_is_the_users_own():
    with joblib.parallel_backend("ray"), pytest.raises(jobs.CustomError):
        joblib.Parallel()(joblib.delayed(util_jobs.fail_at)(3, item) for item in range(5))
    with joblib.parallel_backend("ray"):
        assert joblib.Parallel()([joblib.delayed(jobs.add)(1)]) == [1]


def test_nested_parallel_stays_in_its_worker():
    with joblib.parallel_backend("ray"):
        for pid, found in joblib.Parallel()(joblib.delayed(nested)(item) for item in range(3)):
            assert {inner for inner, _ in found} == {pid}
            assert pid != os.getpid()


def test_workers_serve_one_parallel_after_the_other():
    with joblib.parallel_backend("ray"):
        pids = [set(joblib.Parallel()([joblib.delayed(os.getpid)()] * 8)) for _ in range(3)]
    assert len(set.union(*pids)) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name == "aioray-pool"]


def test_results_can_be_taken_as_they_come():
    with joblib.parallel_backend("ray"):
        values = joblib.Parallel(return_as="generator")(
            joblib.delayed(util_jobs.double)(item) for item in range(10)
        )
        assert list(values) == [2 * item for item in range(10)]


def test_options_reach_the_tasks():
    with joblib.parallel_backend("ray", ray_remote_args={"num_cpus": 0.5, "name": "mine"}):
        (context,) = joblib.Parallel()([joblib.delayed(jobs.context)()])
    assert (context["resources"], context["name"]) == ({"CPU": 0.5}, "mine")


def test_session_is_started_if_there_is_none():
    aioray.shutdown()
    with joblib.parallel_backend("ray"):
        assert joblib.Parallel(n_jobs=1)([joblib.delayed(jobs.add)(1)]) == [1]
        assert joblib.Parallel()([joblib.delayed(jobs.add)(1)]) == [1]


def test_missing_joblib_is_an_import_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setitem(sys.modules, "joblib.parallel", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        register_ray()
