"""The rooms of the package: who may import whom, read from the sources without running them."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aioray

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(aioray.__file__).parent

FACE = ("aioray.actor", "aioray.api.session", "aioray.remote_function", "aioray.cli")
CORE_STDLIB = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "heapq",
    "itertools",
    "math",
    "typing",
}
CORE_STDLIB_FOR_TYPES = {"random"}  # the generator is an argument, so only its type is needed
WORKER_MAY_IMPORT = (
    "aioray.shared.actor_exit",
    "aioray.shared.arena",
    "aioray.client.current",
    "aioray.client.definitions",
    "aioray.client.protocol",
    "aioray.core.messages",
    "aioray.client.environments",
    "aioray.exceptions",
    "aioray.shared.failures",
    "aioray.client.generators",
    "aioray.client.logging_config",
    "aioray.shared.ids",
    "aioray.shared.linux",
    "aioray.shared.packets",
    "aioray.shared.meters",
    "aioray.options.task",
    "aioray.client.placement",
    "aioray.shared.printable",
    "aioray.compat.alias",
    "aioray.client.refs",
    "aioray.runtime_context",
    "aioray.shared.serializability",
    "aioray.shared.serialization",
    "aioray.shared.startup_hook",
    "aioray.shared.wire",
    "aioray.worker",
)
WORKER_MAY_IMPORT_LATE = ("aioray.actor", "aioray.state")  # inside functions: most do without


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    line: int
    for_types_only: bool
    inside_function: bool

    def is_below(self, *modules: str) -> bool:
        return any(self.imported == m or self.imported.startswith(f"{m}.") for m in modules)

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(name: str, source: str, *, is_package: bool) -> Iterator[Import]:
    """Yield every import in `source`, also those inside functions, with absolute names.

    `from aioray import x` is an import of the module `aioray.x` if there is one, else of the face.
    """
    tree = ast.parse(source)
    inside_type_checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    inside_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*above, origin] if origin else above)
            below = [f"{origin}.{alias.name}" for alias in node.names]
            imported = [candidate if candidate in PATHS else origin for candidate in below]
        else:
            continue
        for target in dict.fromkeys(imported):
            yield Import(
                name,
                target,
                node.lineno,
                id(node) in inside_type_checking,
                id(node) in inside_functions,
            )


def imports_below(*rooms: str) -> list[Import]:
    """All imports of the modules in `rooms`. Fails for an empty room, which would prove nothing."""
    found = []
    for room in rooms:
        names = [name for name in PATHS if name == room or name.startswith(f"{room}.")]
        assert names, f"there is no {room}"
        for name in names:
            path = PATHS[name]
            found += imports_of(name, path.read_text(), is_package=path.name == "__init__.py")
    return found


def listed(imports: Iterator[Import] | list[Import]) -> list[str]:
    return [str(item) for item in imports]


def forbidden_in_core(item: Import) -> bool:
    allowed = CORE_STDLIB | (CORE_STDLIB_FOR_TYPES if item.for_types_only else set())
    return not item.is_below("aioray.core", *allowed)


def forbidden_in_worker(item: Import) -> bool:
    allowed = (*WORKER_MAY_IMPORT, "cloudpickle", "setproctitle", *sys.stdlib_module_names)
    if item.importer == "aioray.worker.tracing":  # loaded by attempts that have a span
        allowed += ("opentelemetry",)
    if item.for_types_only:
        allowed += ("_typeshed",)  # exists for type checkers only
    if item.for_types_only or item.inside_function:
        allowed += WORKER_MAY_IMPORT_LATE
    return not item.is_below(*allowed)


def forbidden_extra(item: Import) -> bool:
    """Whether this would load the libraries of an extra where nobody has asked for them."""
    allowed = {
        "opentelemetry": (
            "aioray.engine.telemetry.tracing",
            "aioray.worker.tracing",
            "aioray.util.tracing.setup_local_tmp_tracing",
        ),
        "prometheus_client": ("aioray.util._prometheus",),
    }
    late = item.inside_function or item.for_types_only
    return any(
        item.is_below(library) and item.importer not in importers and not late
        for library, importers in allowed.items()
    )


def test_libraries_of_extras_are_imported_where_they_were_asked_for_only() -> None:
    assert listed(filter(forbidden_extra, imports_below("aioray"))) == []
    loaders = (
        "aioray.engine.telemetry.tracing",
        "aioray.worker.tracing",
        "aioray.util._prometheus",
    )
    at_once = [i for i in imports_below("aioray") if not (i.inside_function or i.for_types_only)]
    assert listed(i for i in at_once if i.is_below(*loaders)) == []


def test_core_imports_only_pure_modules_and_itself() -> None:
    assert listed(filter(forbidden_in_core, imports_below("aioray.core"))) == []


def test_engine_does_not_import_the_face() -> None:
    imports = imports_below("aioray.engine")
    assert listed(i for i in imports if i.is_below(*FACE) or i.imported == "aioray") == []


def test_worker_imports_only_what_is_meant_for_children() -> None:
    assert listed(filter(forbidden_in_worker, imports_below("aioray.worker"))) == []


def test_messages_and_serialization_know_neither_side() -> None:
    imports = imports_below(
        "aioray.shared.wire", "aioray.shared.serialization", "aioray.exceptions"
    )
    sides = ("aioray.engine", "aioray.worker", "aioray.core", *FACE)
    assert listed(i for i in imports if i.is_below(*sides)) == []


def test_client_is_independent_of_who_implements_and_who_uses_it() -> None:
    imports = imports_below("aioray.client.protocol", "aioray.client.refs")
    sides = ("aioray.engine", "aioray.worker", *FACE)
    assert listed(i for i in imports if i.is_below(*sides)) == []


def test_state_knows_no_engine_no_worker_and_no_face() -> None:
    """Whoever looks at a session needs nothing of what has run it."""
    imports = imports_below("aioray.state")
    sides = ("aioray.core", "aioray.engine", "aioray.worker", "aioray.util", *FACE)
    assert listed(i for i in imports if i.is_below(*sides)) == []


def test_nobody_imports_the_command_line() -> None:
    inside = ("aioray.__main__", "aioray.cli")
    imports = imports_below("aioray")
    outside = [i for i in imports if not i.importer.startswith(inside)]
    assert listed(i for i in outside if i.is_below("aioray.cli")) == []


@pytest.mark.parametrize("name", PATHS)
def test_module_opens_with_a_docstring(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(PATHS[name].read_text()))
    assert docstring, "every module says what it is for"
    assert len(docstring.splitlines()[0]) <= 100


@pytest.mark.parametrize("name", PATHS)
def test_module_names_its_room(name: str) -> None:
    assert "Room:" in (ast.get_docstring(ast.parse(PATHS[name].read_text())) or "")


IMPURE = (
    "asyncio",
    "logging",
    "os",
    "os.path",
    "random",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
)


@pytest.mark.parametrize(
    "module", [*IMPURE, "aioray", "aioray.shared.wire", "cloudpickle", "collectionsx"]
)
def test_checker_refuses_an_impure_core(module: str) -> None:
    for source in (f"import {module}", f"def f():\n    from {module} import x"):
        (found,) = imports_of("aioray.core.sample", source, is_package=False)
        assert forbidden_in_core(found)


def test_checker_allows_random_in_the_core_for_types_only() -> None:
    source = "if TYPE_CHECKING:\n    import random\nelse:\n    import random"
    types, run_time = imports_of("aioray.core.sample", source, is_package=False)
    assert (forbidden_in_core(types), forbidden_in_core(run_time)) == (False, True)


@pytest.mark.parametrize(
    "source",
    [
        "from aioray import core",
        "from .. import engine",
        "from ..core.model import Task",
        "import aioray.api.session",
        "from aioray import get",
        "import click",
        "if TYPE_CHECKING:\n    from aioray.engine import Engine",
    ],
)
def test_checker_refuses_a_worker_that_looks_into_the_driver(source: str) -> None:
    (found,) = imports_of("aioray.worker.sample", source, is_package=False)
    assert forbidden_in_worker(found)


def test_checker_lets_a_worker_import_actors_inside_functions_only() -> None:
    source = "from ..actor import x\ndef f():\n    from ..actor import x"
    at_once, late = imports_of("aioray.worker.sample", source, is_package=False)
    assert (forbidden_in_worker(at_once), forbidden_in_worker(late)) == (True, False)


@pytest.mark.parametrize(
    ("importer", "is_package", "source", "imported"),
    [
        ("aioray.core.model", False, "from .retries import x", "aioray.core.retries"),
        ("aioray.core", True, "from .retries import x", "aioray.core.retries"),
        ("aioray.core", True, "from . import retries", "aioray.core.retries"),
        ("aioray.core.model", False, "from . import x", "aioray.core"),
        ("aioray.core.model", False, "from ..shared import wire", "aioray.shared.wire"),
        ("aioray.worker", False, "import os.path as p", "os.path"),
    ],
)
def test_checker_resolves_names(importer, is_package, source, imported) -> None:
    (found,) = imports_of(importer, source, is_package=is_package)
    assert found.imported == imported
