"""The rooms of the package: who may import whom, read from the sources without running them."""

from __future__ import annotations

import ast
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aioray

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(aioray.__file__).parent

# From the ground up: a room may import from those before it, and a room is a folder.
ROOMS = (
    "core",  # decides
    "shared",  # what both sides of the pipes have in common
    "compat",  # what makes it pass for Ray
    "options",  # what users may ask for
    "state",  # what happened, and who tells of it
    "client",  # what API and workers stand on
    "engine",  # carries out, in the driver
    "worker",  # runs user code, in children
    "local",  # runs it in the driver instead
    "api",  # what programs call
    "services",  # what asyncio services build on that
    "cli",
)
APART = {"engine", "worker"}  # neither of the two knows the other
# Public modules at the top, and Ray's folders, are of the room above all others that programs see.
HOUSED_ELSEWHERE = {
    "asgi": "services",
    "util.multiprocessing": "services",  # imap is a map
    "util.joblib": "services",
    "exceptions": "shared",
    "__main__": "cli",
}
UPWARD = {
    # The version stands in the file that every process runs first, and that file alone.
    ("aioray.compat.features", "aioray"),
    # It is loaded as the module `ray`, also from a copy that `aioray alias install` has made, and
    # so goes by the public name.
    ("aioray.compat.alias_path.ray", "aioray.ray_alias"),
}
CORE_STDLIB = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "heapq",
    "inspect",
    "itertools",
    "math",
    "operator",
    "reprlib",
    "typing",
    "weakref",
}
CORE_STDLIB_FOR_TYPES = {"random"}  # the generator is an argument, so only its type is needed
WORKER_MAY_IMPORT = (
    "aioray.client",
    "aioray.compat.alias",
    "aioray.core.records",  # makes classes, and decides nothing
    "aioray.exceptions",
    "aioray.shared",
    "aioray.worker",
)
WORKER_MAY_IMPORT_LATE = ("aioray.core.outcomes", "aioray.state")  # in functions: most do without


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


@functools.cache
def imports_in(name: str) -> tuple[Import, ...]:
    """Every import in a module of the package."""
    path = PATHS[name]
    return tuple(imports_of(name, path.read_text(), is_package=path.name == "__init__.py"))


def imports_below(*rooms: str) -> list[Import]:
    """All imports of the modules in `rooms`. Fails for an empty room, which would prove nothing."""
    found = []
    for room in rooms:
        names = [name for name in PATHS if name == room or name.startswith(f"{room}.")]
        assert names, f"there is no {room}"
        for name in names:
            found += imports_in(name)
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


def room_of(module: str) -> str:
    names = module.split(".")[1:3]
    for name in (".".join(names), *names[:1]):
        if name in ROOMS or name in HOUSED_ELSEWHERE:
            return HOUSED_ELSEWHERE.get(name, name)
    return "api"


def goes_upward(item: Import) -> bool:
    """Whether a module imports what stands above its room, be it for types or inside a function."""
    if not item.is_below("aioray") or (item.importer, item.imported) in UPWARD:
        return False
    if item.importer in {"aioray", "aioray.util"} and item.for_types_only:
        return False  # faces name what is public, wherever that lives
    here, there = room_of(item.importer), room_of(item.imported)
    return ROOMS.index(there) > ROOMS.index(here) or {here, there} == APART


def test_no_module_imports_what_stands_above_its_room() -> None:
    assert listed(filter(goes_upward, imports_below("aioray"))) == []


def naming(source: str, name: str) -> list[int]:
    """The lines on which something of this name is imported, used, or stands in quotes."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Name) and node.id == name)
        or (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.alias) and node.name.split(".")[-1] == name)
        or (isinstance(node, ast.Constant) and node.value == name)
    ]


def test_no_part_of_the_engine_is_handed_the_whole() -> None:
    whole = "aioray.engine.engine"
    parts = [name for name in PATHS if name.startswith("aioray.engine.") and name != whole]
    assert listed(i for i in imports_below(*parts) if i.is_below(whole)) == []
    lines = {name: naming(PATHS[name].read_text(), "LocalEngine") for name in parts}
    assert {name: found for name, found in lines.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from .engine import LocalEngine",
        "def f(engine: LocalEngine): ...",
        "x: engine.LocalEngine",
        'def f(engine: "LocalEngine"): ...',
    ],
)
def test_checker_finds_who_names_the_engine(source: str) -> None:
    assert naming(source, "LocalEngine")
    assert not naming(source.replace("LocalEngine", "DriverClient"), "LocalEngine")


SHARED_NAMES = {
    # Type checkers see the former, programs the latter: both are `aioray.actor.Actor`.
    "Actor": {"aioray.api.actor_types", "aioray.api.actor_base"},
}


def test_no_two_classes_share_a_name() -> None:
    found: dict[str, set[str]] = {}
    for name, path in PATHS.items():
        if any(part.startswith("_") for part in name.split(".")):
            continue  # Ray's private names
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, set()).add(name)
    assert {name: files for name, files in found.items() if len(files) > 1} == SHARED_NAMES


def test_every_exception_to_the_order_of_rooms_is_needed() -> None:
    found = {(item.importer, item.imported) for item in imports_below("aioray")}
    assert found >= UPWARD
    assert len(UPWARD) <= 3


def test_what_stands_at_the_top_is_an_import_path_of_ray_or_named_in_the_readme() -> None:
    top = {path.stem for path in ROOT.glob("*.py")}
    assert top == {
        "__init__",
        "__main__",
        "_raylet",
        "actor",
        "asgi",
        "cloudpickle",
        "exceptions",
        "internal",
        "ray_alias",
        "remote_function",
        "retry",
        "runtime_context",
        "runtime_env",
        "types",
    }


def test_every_folder_of_tests_is_that_of_a_room_or_known() -> None:
    """`.github/CONTRIBUTING.md` says what goes where."""
    entries = [path for path in Path(__file__).parents[1].iterdir() if path.name[0] not in "_."]
    known = {*ROOMS, "util", "house", "shell", "process", "conformance", "programs", "testing"}
    known |= {"simulate"}
    assert {path.name for path in entries if path.is_dir()} <= known
    assert [path.name for path in entries if path.is_file()] == ["conftest.py"]


def test_worker_imports_only_what_is_meant_for_children() -> None:
    assert listed(filter(forbidden_in_worker, imports_below("aioray.worker"))) == []


@pytest.mark.parametrize("name", PATHS)
def test_module_opens_with_a_docstring(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(PATHS[name].read_text()))
    assert docstring, "every module says what it is for"
    assert len(docstring.splitlines()[0]) <= 100


NO_VERBS = re.compile(
    "(the|what|whether|an?|how|it|this|that|which|who|all|of|those|one|these|none|nothing|some|"
    "where|when|same|from|for|as|in|by|such|something|if|only|there|they|each|every|both|no)\\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", PATHS)
def test_docstrings_of_functions_begin_with_a_verb(name: str) -> None:
    """Properties are nouns. ruff's D401 knows some other verbs that are no imperatives."""
    found = {
        node.name: docstring
        for node in ast.walk(ast.parse(PATHS[name].read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("property" in ast.dump(decorator) for decorator in node.decorator_list)
        and (docstring := ast.get_docstring(node))
        and NO_VERBS.match(docstring)
    }
    assert found == {}


@pytest.mark.parametrize("name", PATHS)
def test_module_names_its_room(name: str) -> None:
    docstring = ast.get_docstring(ast.parse(PATHS[name].read_text())) or ""
    assert re.findall(r"Room: (\w+)", docstring) == [room_of(name)]


def test_tasks_are_created_in_one_place() -> None:
    calls = [
        name
        for name in PATHS
        if name != "aioray.core.model"
        for node in ast.walk(ast.parse(PATHS[name].read_text()))
        if isinstance(node, ast.Call)
        for part in ast.walk(node.func)
        if (getattr(part, "id", None) or getattr(part, "attr", None)) in {"Task", "OwnedTask"}
    ]
    assert sorted(set(calls)) == ["aioray.engine.tasks.owned", "aioray.engine.tasks.submission"]


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


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("aioray.shared.sample", "from ..options import task"),
        ("aioray.options.sample", "def f():\n    from aioray import get"),
        ("aioray.client.sample", "if TYPE_CHECKING:\n    from ..api.session import x"),
        ("aioray.engine.sample", "from ..worker import loop"),
        ("aioray.worker.sample", "from ..engine.objects import store"),
        ("aioray.state.sample", "import aioray.util"),
        ("aioray.actor", "from .cli import main"),
        ("aioray.exceptions", "from .core import model\nfrom .client import refs"),
    ],
)
def test_checker_refuses_an_import_of_what_stands_above(importer, source) -> None:
    *_, found = imports_of(importer, source, is_package=False)
    assert goes_upward(found)


def test_checker_lets_a_worker_import_the_state_inside_functions_only() -> None:
    source = "from ..state import x\ndef f():\n    from ..state import x"
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


LONGEST_FILE = 500  # lines
LONGER = {
    "exceptions.py": "one class per way to fail, and Ray has them all in this module",
}


def test_no_file_is_longer_than_can_be_read_in_one_go() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in PATHS.values()
    }
    long = {name for name, length in lengths.items() if length > LONGEST_FILE}
    assert long == set(LONGER), "split it by subject, or take a short one off the list"
