"""What is built for others: each file of the package, its licence, and where to find the rest."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aioray

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]
PACKAGE = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "aioray").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
INFO = f"aioray-{aioray.__version__}.dist-info"
LICENCE = (ROOT / "aioray" / "LICENSE").read_text(encoding="utf-8")
GUARD_SECONDS = 250


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], set[str]]:
    """The files of a wheel with their texts, and the names of those of an sdist."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=GUARD_SECONDS)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return files, names


@pytest.fixture(scope="module")
def metadata(built: tuple[dict[str, str], set[str]]) -> Message:
    return HeaderParser().parsestr(built[0][f"{INFO}/METADATA"])


def test_wheel_holds_every_file_of_the_package_and_nothing_else(built) -> None:
    assert {name for name in built[0] if not name.startswith(INFO)} == PACKAGE


def test_sdist_holds_the_package_its_tests_and_what_they_read(built) -> None:
    wanted = {"README.md", "pyproject.toml", ".ci/run", ".github/CONTRIBUTING.md"}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert PACKAGE | wanted <= built[1]


def test_licence_is_apache_2_in_full_and_comes_with_the_wheel(built, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["aioray/LICENSE"]
    assert built[0][f"{INFO}/licenses/aioray/LICENSE"] == LICENCE
    assert "Apache License\n                           Version 2.0, January 2004" in LICENCE
    assert "END OF TERMS AND CONDITIONS" in LICENCE
    assert "Copyright 2026 The aioray authors" in LICENCE


def test_metadata_says_where_to_read_on(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    for url in urls.values():  # pages of the repository, whose files are here
        _, _, path = url.partition("/main/")
        assert url.startswith(urls["Source"])
        assert not path or (ROOT / path).exists()


def test_version_is_that_of_the_package(metadata: Message) -> None:
    assert metadata["Version"] == aioray.__version__
