"""Runs a script, module or text as Python itself would have, with `import ray` meaning aioray.

Room: cli. It does not parse the command line and knows nothing of tasks.

The script's module takes the place of `__main__` for good: cloudpickle decides by that name whether
a function is sent by value, and atexit handlers and threads run after the script's last line.

The end of a program is left to the interpreter. Exceptions pass through on their way out, so exit
statuses, the order of exit handlers and death by SIGINT are Python's own; only the hook that prints
the traceback is wrapped, to leave out the frames of the launcher. Details were compared with
`python SCRIPT` of 3.11 to 3.13; the tests do it again for the interpreter they run on.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pkgutil
import sys
import textwrap
from dataclasses import dataclass
from importlib.machinery import (
    BuiltinImporter,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import CodeType, ModuleType, TracebackType

from aioray.compat import alias as ray_alias

__all__ = ["CannotStartError", "Launch"]

# What Python does with a terminal, in the namespace of the program.
_INTERACTIVE = "__import__('code').interact(local=globals(), exitmsg='')"


class CannotStartError(Exception):
    """There is nothing to run: no such file, module or `__main__` in a directory or archive.

    Not raised for an error inside the script or a package above the module. `status` is the exit
    status that Python uses for it.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to be run: what `aioray run` was asked for."""

    # The path of a script, directory or archive; or "-", the standard input; or a module's dotted
    # name; or the program itself.
    target: str
    arguments: tuple[str, ...]  # sys.argv[1:] of the program
    as_module: bool = False
    as_code: bool = False

    def start(self) -> None:
        """Run the program in this process. Returns when its last line has run.

        Raises CannotStartError if there is nothing to run. Everything that the program raises
        comes through, SystemExit and KeyboardInterrupt too, and is expected to reach the
        interpreter: its traceback will be printed without the frames of the launcher.
        """
        ray_alias.install()
        try:
            if self.as_code:
                main, code = self._load_text("-c", "<string>", self.target)
            elif self.as_module:
                main, code = self._load_module()
            elif self.target != "-":
                main, code = self._load_path()
            elif sys.stdin.isatty():
                main, code = self._load_text("-", "<stdin>", _INTERACTIVE)
            else:
                main, code = self._load_text("-", "<stdin>", sys.stdin.read())
            exec(code, main.__dict__)
        except (CannotStartError, SystemExit):
            raise
        except BaseException as error:
            _hide_launcher(error)
            raise

    def _load_text(self, name: str, filename: str, text: str) -> tuple[ModuleType, CodeType]:
        """Compile a program that is given as text; name: in sys.argv."""
        sys.argv = [name, *self.arguments]
        _set_first_path("")
        if name == "-c" and sys.version_info >= (3, 14):
            text = textwrap.dedent(text)
        main, code = _install_main(
            filename,
            compile(text, filename, "exec", dont_inherit=True),
            __file__=filename,
            __loader__=BuiltinImporter,
            __package__=None,
            __spec__=None,
        )
        if name == "-c":  # that has no file, where the standard input is one
            del main.__dict__["__file__"]
            main.__dict__.pop("__cached__", None)  # Python 3.15 has none
        return main, code

    def _load_path(self) -> tuple[ModuleType, CodeType]:
        sys.argv = [self.target, *self.arguments]
        path = os.path.abspath(self.target)
        if (importer := pkgutil.get_importer(path)) is not None:
            _set_first_path(path, even_if_safe=True)
            spec = importer.find_spec("__main__", None)
            if spec is None:
                raise CannotStartError(f"can't find '__main__' module in {path!r}", status=1)
            return _main_of_spec(spec, package="")
        try:
            with io.open_code(path) as file:
                data = file.read()
        except OSError as error:
            reason = f"[Errno {error.errno}] {error.strerror}"
            raise CannotStartError(f"can't open file {path!r}: {reason}", status=2) from error
        _set_first_path(os.path.dirname(os.path.realpath(path)))
        loader: SourceFileLoader | SourcelessFileLoader
        if path.endswith(".pyc"):
            loader = SourcelessFileLoader("__main__", path)
            code = loader.get_code("__main__")
        else:
            # Not by the loader: it would leave a .pyc beside the script, which Python does not.
            loader = SourceFileLoader("__main__", path)
            code = compile(data, path, "exec", dont_inherit=True)
        return _install_main(
            path, code, __file__=path, __loader__=loader, __package__=None, __spec__=None
        )

    def _load_module(self) -> tuple[ModuleType, CodeType]:
        sys.argv = ["-m", *self.arguments]  # Python's stand-in while the module is being located
        _set_first_path(os.getcwd())
        spec = _find_module(self.target)
        if spec.submodule_search_locations is not None:
            if self.target.endswith(".__main__"):
                raise CannotStartError("Cannot use package as __main__ module", status=1)
            try:
                spec = _find_module(f"{self.target}.__main__")
            except CannotStartError as error:
                raise CannotStartError(
                    f"{error}; {self.target!r} is a package and cannot be directly executed",
                    status=1,
                ) from None
        main, code = _main_of_spec(spec, package=spec.parent)
        sys.argv[0] = str(spec.origin)
        return main, code


def _find_module(name: str) -> ModuleSpec:
    if name.startswith("."):
        raise CannotStartError("Relative module names not supported", status=1)
    parent = name.rpartition(".")[0]
    try:
        if parent:
            __import__(parent)
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # An import that fails inside the parent is the program's error, and deserves its traceback.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None:
        raise CannotStartError(f"No module named {name}", status=1)
    return spec


def _main_of_spec(spec: ModuleSpec, *, package: str | None) -> tuple[ModuleType, CodeType]:
    get_code = getattr(spec.loader, "get_code", None)
    return _install_main(
        spec.name,
        get_code(spec.name) if get_code is not None else None,
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=package,
        __spec__=spec,
    )


def _install_main(
    name: str, code: CodeType | None, **attributes: object
) -> tuple[ModuleType, CodeType]:
    """Make the module that `code` will run in, and put it in the place of `__main__`."""
    if code is None:
        raise CannotStartError(f"No code object available for {name}", status=1)
    main = ModuleType("__main__")
    given: dict[str, object] = {"__builtins__": builtins, "__cached__": None} | attributes
    if sys.version_info < (3, 14):
        given["__annotations__"] = {}
    if sys.version_info >= (3, 15):
        del given["__cached__"]
    main.__dict__.update(given)
    sys.modules["__main__"] = main
    return main, code


def _set_first_path(directory: str, *, even_if_safe: bool = False) -> None:
    """Put `directory` where Python has put the launcher's own."""
    if not sys.flags.safe_path:
        sys.path[0] = directory
    elif even_if_safe:
        sys.path.insert(0, directory)


def _hide_launcher(error: BaseException) -> None:
    """Let the interpreter print `error`, which is about to leave, from its first own frame on."""
    traceback = error.__traceback__
    while traceback is not None and _is_of_launcher(traceback.tb_frame.f_code):
        traceback = traceback.tb_next
    hook = sys.excepthook  # the program's own, if it has set one

    def print_from_program(
        kind: type[BaseException], raised: BaseException, whole: TracebackType | None
    ) -> None:
        sys.excepthook = hook  # and no more is kept of the program, which ends
        if raised is error:
            raised.__traceback__ = whole = traceback
        hook(kind, raised, whole)

    sys.excepthook = print_from_program


def _is_of_launcher(code: CodeType) -> bool:
    # importlib stands between the launcher and a module whose source does not compile.
    this_file = _is_of_launcher.__code__.co_filename
    return code.co_filename == this_file or code.co_filename.startswith("<frozen importlib")
