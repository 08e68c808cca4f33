"""What holds for all tests: folders of sessions apart from those of whoever runs them, and no
limits that depend on how busy the machine is."""

from __future__ import annotations

import os
import shutil
import tempfile

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "aioray", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("aioray")

_VARIABLE = "RAY_TMPDIR"
_made = pytest.StashKey[str]()


def pytest_configure(config):
    # Before tests are imported, some of which note the environment. Those who run tests beside
    # this process are started by it, and have the variable from here.
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = config.stash[_made] = tempfile.mkdtemp(prefix="aioray-tests-")


def pytest_unconfigure(config):
    folder = config.stash.get(_made, None)
    if folder is not None:
        del os.environ[_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)
