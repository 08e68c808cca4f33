"""Fixtures for pytest: `aioray_engine`, `aioray_local`, `aioray_virtual` and `aioray_faults`.

Room: api. Found by pytest as an entry point, and inactive unless a test asks for one of them: it
imports pytest and nothing else, as every run of pytest on a machine imports it. Knows neither
pytest-asyncio nor anyio; a coroutine of a test that has `aioray_virtual` runs inside the engine,
whoever runs it.

Settings of the engine, and what else one test wants otherwise, are in its marker:

    @pytest.mark.aioray(num_cpus=4, scope="session", leak_check=False)
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .injection import Faults
    from .leaks import Belongings
    from .virtual import VirtualEngine

__all__ = ["EngineOfTest"]

T = TypeVar("T")
SCOPES = ("function", "session")
_virtual = pytest.StashKey["tuple[VirtualEngine, Belongings]"]()
_faults = pytest.StashKey["list[Faults]"]()
_failed = pytest.StashKey[bool]()
_engine = pytest.StashKey["_SessionEngine"]()


def _load_as_it_is() -> None:
    """Let pytest rewrite no asserts of aioray, as it would because aioray has a plugin.

    It would parse each module of aioray in every run, in whatever thread imports it; and two
    threads that do so at once make Python 3.11 raise SystemError.
    """
    for finder in sys.meta_path:
        marked = getattr(finder, "_must_rewrite", None)
        if isinstance(marked, set):
            marked -= {name for name in marked if f"{name}.".startswith("aioray.")}


_load_as_it_is()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what may be set for all tests."""
    group = parser.getgroup("aioray")
    group.addoption(
        "--aioray-seed",
        type=int,
        default=None,
        help="seed of the faults of aioray_faults, as a test that failed has told it",
    )
    parser.addini(
        "aioray_engine_scope",
        "how long the engine of aioray_engine lives: function, or session for all tests",
        default="function",
    )
    parser.addini(
        "aioray_leak_check",
        "whether a test fails that leaves refs, tasks or processes behind",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "aioray(scope, leak_check, **settings): settings of init() for the aioray fixtures; scope: "
        'of the engine, "function" or "session"; leak_check=False: things may be left behind.',
    )


class EngineOfTest:
    """What `aioray_engine` and `aioray_local` give: the session that calls of the test use."""

    def __init__(self, session: str, pids: Callable[[], list[int]]) -> None:
        """Describe a session by its name, and by a function that lists its processes."""
        self.session = session
        self._pids = pids

    def pids(self) -> list[int]:
        """Return the ids of its processes."""
        return self._pids()

    def __repr__(self) -> str:
        return f"<EngineOfTest {self.session}>"


class _Wishes:
    """What the marker of a test says."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        marker = request.node.get_closest_marker("aioray")
        if marker is not None and marker.args:
            raise pytest.UsageError("@pytest.mark.aioray takes keywords only")
        self.settings: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
        self.scope: str = self.settings.pop("scope", request.config.getini("aioray_engine_scope"))
        if self.scope not in SCOPES:
            raise pytest.UsageError(
                f"the scope of the aioray engine is one of {', '.join(SCOPES)}, not {self.scope!r}"
            )
        checks = request.config.getini("aioray_leak_check")
        self.leak_check: bool = self.settings.pop("leak_check", checks)


class _SessionEngine:
    """The engine that outlives tests, as long as they want the same settings."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] | None = None

    def begin(self, settings: dict[str, Any]) -> None:
        """See to it that an engine with these settings runs."""
        import aioray

        if self.settings == settings and aioray.is_initialized():
            return
        self.end()
        _init(settings)
        self.settings = settings

    def end(self) -> None:
        """End the engine, if there is one."""
        if self.settings is not None:
            import aioray

            self.settings = None
            aioray.shutdown()


def _init(settings: dict[str, Any]) -> None:
    import aioray

    if aioray.is_initialized():
        pytest.fail(
            "An aioray session runs already: the fixtures of aioray start one of their own. Ask "
            "for one of them only, and leave out init().",
            pytrace=False,
        )
    aioray.init(**settings)


def _of_session(config: pytest.Config) -> _SessionEngine:
    return config.stash.setdefault(_engine, _SessionEngine())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the engine of the session."""
    found = config.stash.get(_engine, None)
    if found is not None:
        found.end()


def _engine_of_test() -> EngineOfTest:
    from aioray.client.protocol import registry

    client: Any = registry.current()
    return EngineOfTest(client.session, client.processes.pids)


@pytest.fixture
def aioray_engine(request: pytest.FixtureRequest) -> Iterator[EngineOfTest]:
    """Start a real engine, with worker processes, for this test or for all: see the marker.

    It lives in a thread of its own, so that tests may block or await, on whatever loop.
    """
    wishes = _Wishes(request)
    settings = {"num_cpus": 2, "loop": "thread", **wishes.settings}
    shared = _of_session(request.config)
    if wishes.scope == "session":
        shared.begin(settings)
        yield from _checked(request, wishes, _engine_of_test())
        return
    shared.end()
    yield from _with_session(request, wishes, settings)


@pytest.fixture
def aioray_local(request: pytest.FixtureRequest) -> Iterator[EngineOfTest]:
    """Run tasks and actors in this process, when they are submitted: init(local_mode=True)."""
    wishes = _Wishes(request)
    _of_session(request.config).end()
    settings = {"num_cpus": 2, **wishes.settings, "local_mode": True}
    yield from _with_session(request, wishes, settings)


def _with_session(
    request: pytest.FixtureRequest, wishes: _Wishes, settings: dict[str, Any]
) -> Iterator[EngineOfTest]:
    import aioray

    before = _belongings()
    _init(settings)
    try:
        yield from _checked(request, wishes, _engine_of_test())
    finally:
        aioray.shutdown()
    if wishes.leak_check and not request.node.stash.get(_failed, False):
        _tell(before.new_processes())


def _belongings() -> Belongings:
    from .leaks import Belongings

    return Belongings()


def _checked(request: pytest.FixtureRequest, wishes: _Wishes, engine: T) -> Iterator[T]:
    """Give a test its engine, and see what it leaves there."""
    before = _belongings()
    yield engine
    if wishes.leak_check and not request.node.stash.get(_failed, False):
        before.look(tasks=wishes.scope == "session")
        _tell(before.found)


def _tell(left: list[str]) -> None:
    if left:
        pytest.fail(
            "The test has left things of aioray behind:\n"
            + "\n".join(f"  {each}" for each in left)
            + "\nLet go of them, or mark the test: @pytest.mark.aioray(leak_check=False).",
            pytrace=False,
        )


@pytest.fixture
def aioray_virtual(request: pytest.FixtureRequest) -> Iterator[VirtualEngine]:
    """Run tasks and actors in virtual time, see `aioray.testing.VirtualEngine`.

    A test that is a coroutine runs inside the engine, and its loop has the virtual clock. In
    others `aioray.get` and `engine.advance` let time pass.
    """
    from .virtual import VirtualEngine

    wishes = _Wishes(request)
    _of_session(request.config).end()
    engine = VirtualEngine(**wishes.settings)
    if inspect.iscoroutinefunction(request.node.obj):
        left = _belongings()
        request.node.stash[_virtual] = engine, left
        yield engine
        if wishes.leak_check and not request.node.stash.get(_failed, False):
            _tell(left.found)
    else:
        with engine:
            yield from _checked(request, wishes, engine)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Have a coroutine run inside its virtual engine."""
    __tracebackhide__ = True
    found = item.stash.get(_virtual, None)
    if found is None:
        return (yield)
    import asyncio

    engine, before = found
    target: Any = item
    function = target.obj

    @functools.wraps(function)
    async def inside(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        async with engine:
            await function(*args, **kwargs)
            await asyncio.sleep(0)  # what was cancelled last is held until the loop turns
            before.look()

    target.obj = inside
    try:
        return (yield)
    finally:
        target.obj = function


@pytest.fixture
def aioray_faults(request: pytest.FixtureRequest) -> Iterator[Callable[..., Faults]]:
    """Order faults for the rest of the test: what it gives is called as `aioray.testing.faults`.

    A test that fails tells the seeds; --aioray-seed sets that of all which name none.
    """
    from .injection import faults

    ordered = request.node.stash[_faults] = []

    def order(**settings: Any) -> Faults:
        seed = request.config.getoption("--aioray-seed")
        if seed is not None and settings.get("seed") is None:
            settings["seed"] = seed
        block = faults(**settings)
        block.__enter__()
        ordered.append(block)
        return block

    yield order
    for block in reversed(ordered):
        block.__exit__(None, None, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed, and tell the seeds of its faults."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
        for block in item.stash.get(_faults, ()):
            report.sections.append(("aioray faults", block.describe()))
    return report
