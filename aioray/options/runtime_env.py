"""What a worker process is to find: the fields of `runtime_env`, checked and completed.

Room: options, used by the runtime context of workers too. It looks at the file system, to refuse
what is not there, and changes nothing. Setting up is done in the worker (`aioray.worker.setup`),
deciding what is equal in `aioray.client.environments`.

Everything is used in place: on one machine there is nothing to copy. So a worker sees files as they
are when it reads them, and what it writes into its `working_dir` stays there.
"""

from __future__ import annotations

import math
import os
import re
from importlib.machinery import all_suffixes
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from aioray.exceptions import UnsupportedFeatureError
from aioray.options.messages import show, show_typed
from aioray.shared.options import SETUP_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["RuntimeEnv", "RuntimeEnvConfig", "check_runtime_env"]


_REMOTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_COMPILED: Final = (".so", ".pyd", ".dylib")

_INSTALL: Final = (
    "Leave it out, and install the packages where the program runs before it starts: workers use "
    "the driver's interpreter and its packages."
)
_UNSUPPORTED: Final = {
    "_nsight": "Leave it out, and start the program under the profiler.",
    "_rocprof_sys": "Leave it out, and start the program under the profiler.",
    "conda": "Leave it out, and start the program in that conda environment: workers share it.",
    "container": "Leave it out, and start the program in that container: workers share it.",
    "image_uri": "Leave it out, and start the program in that container: workers share it.",
    "java_jars": "Leave it out: workers run Python functions only.",
    "pip": _INSTALL,
    "py_executable": "Leave it out, and start the program with that interpreter: workers use it.",
    "uv": _INSTALL,
}


class RuntimeEnvConfig(dict[str, Any]):
    """How the environment is set up: the field `config` of `runtime_env`.

    setup_timeout_seconds: seconds that a new worker may take for its set-up, 600 by default; -1 is
    no limit. A worker that takes longer is killed, and its tasks fail with RuntimeEnvSetupError.
    eager_install, log_files: checked, without effect: nothing is installed.
    Raises TypeError and ValueError for bad values. Source: Ray API reference, RuntimeEnvConfig;
    beyond it, the seconds may be a fraction.
    """

    def __init__(
        self,
        setup_timeout_seconds: float = SETUP_TIMEOUT,
        eager_install: bool = True,
        log_files: Sequence[str] | None = None,
    ) -> None:
        given = {
            "setup_timeout_seconds": setup_timeout_seconds,
            "eager_install": eager_install,
            "log_files": [] if log_files is None else log_files,
        }
        super().__init__(_check_config("config of runtime_env", given))


class RuntimeEnv(dict[str, Any]):
    """A checked runtime environment: a dict, accepted wherever `runtime_env` is.

    working_dir: path of a local directory. It is the worker's current directory, and comes first on
    sys.path. The worker runs in the directory itself, where Ray makes a copy; relative paths are
    those of this process, now.
    py_modules: what the worker can import: paths of packages (directories), modules (files) and
    wheels without compiled parts, and modules that are imported here. The directory in which such
    a package or module lies goes on sys.path, in front of the driver's, so its neighbours can be
    imported as well; a wheel is not unpacked.
    env_vars: str to str, environment variables.
    worker_process_setup_hook: a function without arguments, or its name "module.function". It runs
    once in each new worker, in its environment, before the first task.
    excludes: list of patterns. Checked, without effect: nothing is copied.
    config: a dict or RuntimeEnvConfig.

    None is as good as left out. Modules that `init(preload=...)` names are imported before any
    environment is in force. Raises TypeError for a value of a wrong type; ValueError for what does
    not exist, and for a field that Ray does not have; UnsupportedFeatureError for zip files, remote
    addresses, and the fields that would need another interpreter (pip, uv, conda, container,
    image_uri, py_executable) or have nothing to do here (java_jars, profilers).
    Source: Ray API reference, ray.runtime_env.RuntimeEnv.
    """

    def __init__(
        self,
        *,
        working_dir: str | os.PathLike[str] | None = None,
        py_modules: Sequence[str | os.PathLike[str] | ModuleType] | None = None,
        env_vars: Mapping[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        excludes: Sequence[str] | None = None,
        config: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        given = {
            "working_dir": working_dir,
            "py_modules": py_modules,
            "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook,
            "excludes": excludes,
            "config": config,
        }
        super().__init__(check_runtime_env("runtime_env", given | others) or {})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as a plain dict."""
        return dict(self)

    def working_dir(self) -> str | None:
        """Return the absolute path of the working directory, or None."""
        return self.get("working_dir")

    def py_modules(self) -> list[str] | None:
        """Return the absolute paths of the modules, or None."""
        return self.get("py_modules")

    def env_vars(self) -> dict[str, str]:
        """Return the environment variables; empty if there are none."""
        return dict(self.get("env_vars", {}))


def check_runtime_env(option: str, value: Any) -> dict[str, Any] | None:
    """Return a new dict of the fields that are set, with paths made absolute; None for None.

    option: how to call `value` in errors. Raises what RuntimeEnv does, and TypeError for no dict.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"{option} must be a dict or None, got {show_typed(value)}")
    checked: dict[str, Any] = {}
    for name, content in value.items():
        if name in _FIELDS:
            if content is not None:
                checked[name] = _FIELDS[name](f"{name} of {option}", content)
        elif name not in _UNSUPPORTED:
            raise ValueError(
                f"{option} has no field {show(name)}. Known fields are: "
                f"{', '.join(sorted(_UNSUPPORTED | _FIELDS))}"
            )
        elif content is not None:
            raise UnsupportedFeatureError(
                f"The field {name!r} of {option} is not supported by aioray.", _UNSUPPORTED[name]
            )
    return checked


# --- checks of single fields: (label, value) -> value to keep, or an error ----------------------


def _check_env_vars(label: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{label} must be a dict of str to str, got {show_typed(value)}")
    for name, content in value.items():
        for part in (name, content):
            if not isinstance(part, str):
                raise TypeError(
                    f"{label} must map str to str, got {show_typed(part)} in the entry {show(name)}"
                )
        if not name or "=" in name or not (_fits_environ(name) and _fits_environ(content)):
            raise ValueError(
                f"{label} must hold what an environment can (a name without '=', no NUL, "
                f"encodable text), got the entry {show(name)}: {show(content)}"
            )
    return dict(value)


def _fits_environ(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _check_working_dir(label: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{label} must be the path of a directory, got {show_typed(value)}")
    path = _local_path(label, os.fspath(value))
    if not os.path.isdir(path):
        raise ValueError(f"{label} must be an existing directory, got {show(path)}")
    return path


def _check_py_modules(label: str, value: Any) -> list[str]:
    expected = f"{label} must be a list of paths and imported modules"
    if not isinstance(value, list | tuple):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    return [_check_py_module(label, expected, entry) for entry in value]


def _check_py_module(label: str, expected: str, entry: Any) -> str:
    if isinstance(entry, ModuleType):
        return _path_of_module(label, entry)
    if not isinstance(entry, str | os.PathLike):
        raise TypeError(f"{expected}; it holds {show_typed(entry)}")
    path = _local_path(label, os.fspath(entry))
    if path.endswith(".whl"):
        _check_wheel(label, path)
    elif not os.path.isdir(path) and not (
        os.path.isfile(path) and path.endswith(tuple(all_suffixes()))
    ):
        raise ValueError(
            f"{label} must hold existing directories, Python files or wheels, got {show(path)}"
        )
    return path


def _local_path(label: str, path: Any) -> str:
    """Return an absolute path, or raise the error for what has to be fetched or unpacked."""
    if not isinstance(path, str):
        raise TypeError(f"{label}: a path must be a str, got {show_typed(path)}")
    if _REMOTE.match(path):
        raise UnsupportedFeatureError(
            f"{label} cannot be the remote address {show(path)}: aioray downloads nothing.",
            "Download and unpack it before the program starts, and give the local directory.",
        )
    if path.endswith(".zip"):
        raise UnsupportedFeatureError(
            f"{label} cannot be the zip file {show(path)}: aioray unpacks nothing.",
            "Unpack it before the program starts, and give the directory.",
        )
    if not path or "\0" in path:
        raise ValueError(f"{label}: a path must not be empty or hold NUL, got {show(path)}")
    return os.path.abspath(path)


def _path_of_module(label: str, module: ModuleType) -> str:
    places = list(getattr(module, "__path__", ()))
    if len(places) > 1:
        raise ValueError(
            f"{label} holds the package {module.__name__!r}, which lies in {len(places)} "
            f"directories: give the paths of its parts that are needed instead"
        )
    path = places[0] if places else getattr(module, "__file__", None)
    if not isinstance(path, str) or not os.path.exists(path):
        raise ValueError(
            f"{label} holds the module {module.__name__!r}, which was loaded from no file: give "
            f"the path of a package or a Python file"
        )
    return os.path.abspath(path)


def _check_wheel(label: str, path: str) -> None:
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as wheel:
            compiled = [name for name in wheel.namelist() if name.endswith(_COMPILED)]
    except (OSError, BadZipFile) as error:
        raise ValueError(
            f"{label} holds {show(path)}, which is no readable wheel: {error}"
        ) from None
    if compiled:
        raise UnsupportedFeatureError(
            f"{label} holds the wheel {show(path)} with the compiled module {show(compiled[0])}, "
            f"which cannot be loaded from a wheel that is not unpacked.",
            "Leave it out, and install it where the program runs before it starts.",
        )


def _check_hook(label: str, value: Any) -> Any:
    expected = f'{label} must be a function without arguments or its name, "module.function"'
    if isinstance(value, str):
        if not _DOTTED.fullmatch(value):
            raise ValueError(f"{expected}, got {show(value)}")
    elif not callable(value):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    else:
        import inspect  # few environments have a hook that is a function

        if not inspect.iscoroutinefunction(value):
            return value
        raise TypeError(f"{expected}, got a coroutine function: it must be a plain function")
    return value


def _check_texts(label: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise TypeError(f"{label} must be a list of str, got {show_typed(value)}")
    for entry in value:
        if not isinstance(entry, str):
            raise TypeError(f"{label} must be a list of str; it holds {show_typed(entry)}")
    return list(value)


def _check_config(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{label} must be a dict or a RuntimeEnvConfig, got {show_typed(value)}")
    for name in value:
        if name not in _CONFIG:
            raise ValueError(
                f"{label} has no entry {show(name)}. Known ones are: {', '.join(sorted(_CONFIG))}"
            )
    return {name: _CONFIG[name](f"{name} in {label}", entry) for name, entry in value.items()}


def _check_seconds(label: str, value: Any) -> float:
    expected = f"{label} must be a number of seconds > 0, or -1 for no limit"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{expected}, got {show_typed(value)}")
    if value != -1 and not 0 < value < math.inf:
        raise ValueError(f"{expected}, got {show(value)}")
    return value


def _check_flag(label: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{label} must be a bool, got {show_typed(value)}")
    return value


_CONFIG: Final[dict[str, Callable[[str, Any], Any]]] = {
    "eager_install": _check_flag,
    "log_files": _check_texts,
    "setup_timeout_seconds": _check_seconds,
}
_FIELDS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "config": _check_config,
    "env_vars": _check_env_vars,
    "excludes": _check_texts,
    "py_modules": _check_py_modules,
    "worker_process_setup_hook": _check_hook,
    "working_dir": _check_working_dir,
}
