"""`aioray alias`: makes `import ray` mean aioray for all programs of a Python environment.

Room: cli. `aioray run` does it for one program and its children, and leaves no trace. Here the
folder that those find, see `aioray.ray_alias`, is copied to where packages are, with a command
`ray` beside the environment's others. What is written is recorded as pip records it, so that `pip
uninstall ray` takes it away too. An installed Ray is never touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import DistributionFinder, MetadataPathFinder
from pathlib import Path

import click

from aioray.compat.alias import PATH, RAY_VERSION, SPOKEN

__all__ = ["command"]

_INSTALLER = "aioray"
_SCRIPT = """#!{python}
import sys
from aioray.cli import ray_main
sys.exit(ray_main())
"""


_WAITS_FOR_VERSION = "_AIORAY_ALIAS = True\n"  # in the package: a line before aioray is imported


@dataclass(frozen=True)
class AliasLocation:
    """Where an environment has its packages and commands."""

    packages: Path
    script: Path

    @classmethod
    def here(cls) -> AliasLocation:
        """Return the location of the running interpreter."""
        return cls(Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("scripts"), "ray"))

    @property
    def package(self) -> Path:
        """The package `ray`."""
        return self.packages / "ray"

    @property
    def info(self) -> Path:
        """The metadata of the package `ray`, of the version that programs are told."""
        return self.packages / f"ray-{RAY_VERSION}.dist-info"

    def find_ours(self) -> list[Path]:
        """List the metadata of the aliases that are installed here, of whatever version."""
        return [path for path in self.packages.glob("ray-*.dist-info") if _is_ours(path)]

    def find_other(self) -> Path | None:
        """Find something that is in the way, and not ours: a Ray, or a command of its name."""
        if self.find_ours():
            return None
        places = {str(self.packages), sysconfig.get_path("platlib")}
        context = DistributionFinder.Context(name="ray", path=sorted(places))
        for found in MetadataPathFinder.find_distributions(context):
            return Path(str(found.locate_file("")))
        candidates = [*(Path(place, "ray") for place in places), self.script]
        return next((path for path in candidates if path.exists()), None)


def _is_ours(info: Path) -> bool:
    with contextlib.suppress(OSError):
        return (info / "INSTALLER").read_text().strip() == _INSTALLER
    return False


@click.group(name="alias")
def command() -> None:
    """Let `import ray` mean aioray in all programs of this Python environment.

    One program, and the processes it starts, need nothing of this: `aioray run SCRIPT`.
    """


@command.command(name="install")
def install() -> None:
    """Install the alias and a command `ray`. Refused where Ray itself is installed.

    With AIORAY_RAY_VERSION in the environment, programs are told that version of Ray, now and
    later.
    """
    place = AliasLocation.here()
    other = place.find_other()
    if other is not None:
        raise click.ClickException(
            f"There is another ray in this environment: {other}. It is left as it is. Remove it "
            f"(pip uninstall ray), or start programs with `aioray run`, which works beside it."
        )
    try:
        _remove(place)  # of another version, maybe
        written = [
            *_copy(Path(PATH, "ray"), place.package, _WAITS_FOR_VERSION, _tell_version()),
            *_copy(
                Path(PATH, f"ray-{SPOKEN}.dist-info"),
                place.info,
                f"\nVersion: {SPOKEN}\n",
                f"\nVersion: {RAY_VERSION}\n",
            ),
            _write(place.info / "INSTALLER", f"{_INSTALLER}\n"),
            _write(place.script, _SCRIPT.format(python=sys.executable)),
        ]
        place.script.chmod(0o755)
        record = place.info / "RECORD"
        lines = [os.path.relpath(path, place.packages) for path in (*written, record)]
        _write(record, "".join(f"{line},,\n" for line in lines))
    except OSError as error:
        _remove(place)
        raise click.ClickException(
            f"The alias cannot be installed here: {error}. Use an environment of your own: "
            f"python -m venv DIR"
        ) from error
    click.echo(
        f"`import ray` means aioray in {sys.prefix} from now on, and {place.script} is a command. "
        f"`aioray alias uninstall` undoes it."
    )


@command.command(name="uninstall")
def uninstall() -> None:
    """Remove what `aioray alias install` has installed."""
    place = AliasLocation.here()
    if not place.find_ours():
        click.echo(f"The alias is not installed in {sys.prefix}: nothing was removed.")
        return
    try:
        _remove(place)
    except OSError as error:
        raise click.ClickException(f"The alias cannot be removed: {error}") from error
    click.echo(f"The alias was removed from {sys.prefix}.")


def _tell_version() -> str:
    """Write the package's lines about the version, which set it if it is not the one spoken."""
    if RAY_VERSION == SPOKEN:
        return _WAITS_FOR_VERSION
    return f'os.environ.setdefault("AIORAY_RAY_VERSION", {RAY_VERSION!r})\n{_WAITS_FOR_VERSION}'


def _copy(source: Path, target: Path, old: str, new: str) -> list[Path]:
    """Copy the files of a folder, with a part of their text replaced."""
    target.mkdir(parents=True, exist_ok=True)
    return [
        _write(target / path.name, path.read_text().replace(old, new))
        for path in source.iterdir()
        if path.is_file()
    ]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _remove(place: AliasLocation) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _INSTALLER in place.script.read_text():
            place.script.unlink()
    for folder in (place.package, place.info, *place.find_ours()):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
