"""Actor classes, handles and methods as programs see them, on a client that only takes notes."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import aioray
from aioray import cloudpickle
from aioray.actor import (
    ActorClass,
    ActorClassInheritanceException,
    ActorHandle,
    ActorMethod,
    make_actor_class,
)
from aioray.client import arguments
from aioray.client import definitions as calls
from aioray.client.current import execution_context
from aioray.client.entry import ObjectEntry, PlainEntry
from aioray.client.environments import WorkerEnvironment
from aioray.client.placement import ANYWHERE
from aioray.client.protocol import Call, activate, registry
from aioray.client.refs import ObjectRef
from aioray.core.limits import TaskLimits
from aioray.exceptions import (
    ActorAlreadyExistsError,
    ActorHandleNotFoundError,
    PendingCallsLimitExceeded,
)
from aioray.shared import ids
from aioray.shared.actor_exit import SPECIAL_METHODS, ActorExit
from aioray.shared.serialization import dump, load
from aioray.shared.wire import STREAMING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JOB = ids.job_id(77)


class NotingClient:
    """Takes notes of what it is asked for, and gives refs that never become ready."""

    gate = None

    def when_ready(self, entry, callback):
        """Never call back."""

    def __init__(self) -> None:
        self.job = JOB
        self.namespace = "mine"
        self.loop = None
        self.closed = False
        self.created: list[tuple[Call, tuple[Any, ...], Mapping[str, Any]]] = []
        self.submitted: list[tuple[Call, tuple[Any, ...], Mapping[str, Any]]] = []
        self.killed: list[tuple[ObjectRef[Any], bool]] = []
        self.cancelled: list[tuple[ObjectEntry, Any]] = []
        self.looked_up: list[tuple[str, str | None]] = []
        self.names: dict[tuple[str, str], tuple[ObjectRef[Any], bytes]] = {}
        self.taken = False  # the next actor with a name finds that it is taken
        self.pending = 0
        self.entries: weakref.WeakValueDictionary[bytes, ObjectEntry] = (
            weakref.WeakValueDictionary()
        )

    def ref(self, task: bytes) -> ObjectRef[Any]:
        return ObjectRef(self.entry_of(ids.object_id(task, 1)))

    def entry_of(self, identifier: bytes) -> ObjectEntry:
        entry = self.entries.get(identifier)
        if entry is None:
            entry = PlainEntry(self, identifier[: ids.TASK_ID_SIZE], ids.index_of(identifier))
            self.entries[identifier] = entry
        return entry

    def export_entry(self, entry: ObjectEntry) -> None:
        assert entry is self.entry_of(entry.binary())

    def pin(self, entry: ObjectEntry) -> None:
        raise AssertionError("nothing here is pickled by hand")

    def create_actor(self, call: Call, args: Any, kwargs: Any) -> ObjectRef[Any]:
        if self.taken:
            raise ActorAlreadyExistsError("The name is already taken.")
        self.created.append((call, args, kwargs))
        actor = len(self.created).to_bytes(12, "big") + JOB
        ref = self.ref(b"\xff" * 8 + actor)
        name = call.options.name
        if name:
            self.names[call.options.namespace or self.namespace, name] = (
                ref,
                calls.define_actor(call, WorkerEnvironment()).meta,
            )
        return ref

    def submit(self, call: Call, args: Any, kwargs: Any) -> ObjectRef[Any]:
        self.submitted.append((call, args, kwargs))
        owner = b"\xff" * 12 + JOB if call.actor is None else call.actor.binary()[8:24]
        return self.ref(len(self.submitted).to_bytes(8, "big") + owner)

    def get_actor(self, name: str, namespace: str | None) -> Any:
        self.looked_up.append((name, namespace))
        return self.names.get((namespace or self.namespace, name))

    def named_actors(self) -> list[tuple[str, str]]:
        return list(self.names)

    def pending_calls(self, actor: ObjectRef[Any]) -> int:
        return self.pending

    def kill_actor(self, actor: ObjectRef[Any], *, no_restart: bool) -> None:
        self.killed.append((actor, no_restart))

    def cancel(self, entry: ObjectEntry, **how: Any) -> None:
        self.cancelled.append((entry, how))

    def after_fork_in_child(self) -> None:
        self.closed = True


@pytest.fixture
def client() -> Iterator[NotingClient]:
    noting: Any = NotingClient()
    registry.by_job[JOB] = noting
    with activate(noting):
        yield noting
    del registry.by_job[JOB]


class Base:
    def inherited(self, first: int) -> int:
        return first


class Plain(Base):
    """Counts."""

    step = 5

    def __init__(self, start: int, *, factor: int = 1) -> None:
        self.value = start * factor

    def add(self, by: int, times: int = 1) -> int:
        return by * times

    def any(self, *items: Any, **named: Any) -> None: ...

    def items(self) -> Iterator[int]:
        yield 1

    @aioray.method(num_returns=2, max_task_retries=3, retry_exceptions=[OSError])
    def two(self) -> tuple[int, int]:
        return 1, 2

    @aioray.method
    def bare(self) -> None: ...

    @staticmethod
    def static(first: int) -> int:
        return first

    @classmethod
    def of_class(cls, first: int) -> int:
        return first

    @property
    def prop(self) -> int:
        return 3

    def __len__(self) -> int:
        return 7

    def __call__(self) -> None: ...


class Asynchronous:
    async def run(self) -> None: ...


Counter = aioray.remote(Plain)


@pytest.fixture
def handle(client: NotingClient) -> ActorHandle:
    return Counter.remote(1)


# --- classes -----------------------------------------------------------------------------------


def test_actor_class_tells_about_its_class() -> None:
    assert isinstance(Counter, ActorClass)
    assert (Counter.__name__, Counter.__module__, Counter.__doc__) == (
        "Plain",
        __name__,
        "Counts.",
    )
    assert repr(Counter) == "ActorClass(Plain)"
    assert Counter.__ray_actor_class__ is Plain
    assert (Counter.step, Counter.static(4)) == (5, 4)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = Counter.nonsense
    with pytest.raises(AttributeError, match="__nonsense__"):
        _ = Counter.__nonsense__


def test_actor_class_cannot_be_instantiated() -> None:
    with pytest.raises(TypeError, match=r"Instead of 'Plain\(\)', use 'Plain.remote\(\)'"):
        Counter()


def test_actor_class_cannot_be_derived_from_but_its_plain_class_can() -> None:
    with pytest.raises(ActorClassInheritanceException, match="subclass 'Derived' of actor class"):

        class Derived(Counter): ...  # type: ignore[valid-type, misc]  # which is refused

    class Sound(Plain): ...

    assert issubclass(ActorClassInheritanceException, TypeError)
    assert isinstance(aioray.remote(Sound), ActorClass)


def test_actor_classes_are_made_by_remote_alone() -> None:
    with pytest.raises(TypeError, match=r"made by @aioray\.remote"):
        ActorClass("A", (), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'start'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"q": 3}, "unexpected keyword argument 'q'"),
    ],
)
def test_arguments_are_checked_against_init(client: NotingClient, args, kwargs, text) -> None:
    for factory in (Counter, Counter.options(max_restarts=1)):
        with pytest.raises(TypeError, match=text):
            factory.remote(*args, **kwargs)
    assert client.created == []


def test_actor_is_created_with_its_options(client: NotingClient) -> None:
    Counter.options(max_restarts=2).remote(1, factor=3)
    ((call, args, kwargs),) = client.created
    assert (call.code.function, call.options.max_restarts) == (Plain, 2)
    assert (args, kwargs) == ((1,), {"factor": 3})
    assert not hasattr(Counter.options(), "options")


def test_all_options_of_a_class_share_its_code(client: NotingClient) -> None:
    Counter.remote(1)
    Counter.options(name="x").remote(1)
    Counter.options(max_task_retries=5).remote(1)
    assert len({call.code for call, _, _ in client.created}) == 1


def test_class_without_init_takes_no_arguments(client: NotingClient) -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        aioray.remote(Base).remote(1)


def test_class_with_one_hook_is_refused() -> None:
    def hook(self: Any, *_: Any) -> None: ...

    for there, missing in (("save", "restore"), ("restore", "save")):
        cls = type("Half", (), {f"__aioray_{there}__": hook})
        with pytest.raises(ValueError, match=f"has __aioray_{there}__ but not __aioray_{missing}"):
            make_actor_class(cls, {})


def test_undeclared_group_is_an_assertion_error_at_creation(client: NotingClient) -> None:
    @aioray.remote
    class A:
        @aioray.method(concurrency_group="io")
        def m(self) -> None: ...

    with pytest.raises(AssertionError, match=r"A\.m is in the concurrency group 'io'"):
        A.remote()
    assert client.created == []


def test_impossible_order_is_a_value_error_at_creation(client: NotingClient) -> None:
    cls = aioray.remote(allow_out_of_order_execution=False)(Asynchronous)
    with pytest.raises(ValueError, match="using async actors"):
        cls.remote()
    assert client.created == []


def test_what_was_found_out_about_a_class_does_not_outlive_its_options(
    client: NotingClient,
) -> None:
    cls = aioray.remote(Asynchronous)
    cls.remote()
    with pytest.raises(ValueError, match="using async actors"):
        cls.options(allow_out_of_order_execution=False).remote()
    Counter.remote(1)
    Counter.options(interruptible=True).remote(1).add.remote(1)
    assert calls.define_method(client.submitted[0][0]).interruptible


def test_limits_of_a_class_are_those_of_making_an_actor_and_methods_have_their_own(
    client: NotingClient,
) -> None:
    @aioray.remote(timeout=1)
    class A:
        @aioray.method(timeout=2, deadline=3)
        def m(self) -> None: ...

        def n(self) -> None: ...

    handle = A.options(deadline=4).remote()
    handle.m.remote()
    handle.m.options(timeout=None, stall_timeout=5).remote()
    handle.n.remote()
    made = calls.define_actor(client.created[0][0], WorkerEnvironment())
    called = [calls.define_method(call).limits for call, _, _ in client.submitted]
    assert made.limits == TaskLimits(timeout=1.0, deadline=4.0)
    assert called == [
        TaskLimits(timeout=2.0, deadline=3.0),
        TaskLimits(deadline=3.0, stall_timeout=5.0),
        None,
    ]


def test_interruptible_method_of_a_threaded_actor_is_refused(client: NotingClient) -> None:
    @aioray.remote
    class A:
        @aioray.method(interruptible=True)
        def m(self) -> None: ...

    A.remote()
    with pytest.raises(ValueError, match=r"interruptible=True of A.m"):
        A.options(max_concurrency=2).remote()


def test_actor_class_survives_a_pickle(client: NotingClient) -> None:
    cls = cloudpickle.loads(cloudpickle.dumps(aioray.remote(max_restarts=4)(Plain)))
    handle = cls.remote(1)
    ((call, _, _),) = client.created
    assert call.options.max_restarts == 4
    assert "add" in dir(handle)


def test_class_that_refers_to_itself_survives_a_pickle(client: NotingClient) -> None:
    namespace: dict[str, Any] = {"aioray": aioray, "__name__": "__main__"}
    exec(
        "@aioray.remote\nclass Node:\n    def child(self, depth):\n        return Node.remote()\n",
        namespace,
    )
    cls = pickle.loads(cloudpickle.dumps(namespace["Node"]))
    assert "child" in dir(cls.remote())


# --- handles -----------------------------------------------------------------------------------


def test_handle_shows_its_class_and_id(client: NotingClient, handle: ActorHandle) -> None:
    digits = (1).to_bytes(12, "big").hex() + JOB.hex()
    assert repr(handle) == f"Actor(Plain, {digits})"
    assert (handle._actor_id.hex(), handle._ray_actor_id.binary()) == (
        digits,
        bytes.fromhex(digits),
    )


def test_handle_lists_methods_and_nothing_else(handle: ActorHandle) -> None:
    expected = {"add", "any", "items", "two", "bare", "static", "of_class", "inherited"}
    expected |= {"__len__", "__call__", *SPECIAL_METHODS}
    assert set(dir(handle)) == expected
    for name in expected:
        assert isinstance(getattr(handle, name), ActorMethod)


@pytest.mark.parametrize("name", ["step", "prop", "nonsense", "__wrapped__", "value"])
def test_what_is_no_method_is_an_attribute_error(handle: ActorHandle, name: str) -> None:
    with pytest.raises(AttributeError, match=f"'ActorHandle' object has no attribute '{name}'"):
        getattr(handle, name)


def test_handles_of_one_actor_are_equal(client: NotingClient, handle: ActorHandle) -> None:
    data, refs = dump({"handle": handle})
    assert [ref.binary() for ref in refs] == [handle._aioray_ref.binary()]
    again = load(data)["handle"]
    assert again is not handle
    assert (again, hash(again)) == (handle, hash(handle))
    assert handle != Counter.remote(1)
    assert handle != 5
    again.add.remote(1)
    assert client.submitted[0][0].actor == handle._aioray_ref


def test_handle_is_pickled_without_cloudpickle_whatever_its_class(client: NotingClient) -> None:
    """A mention of `__main__` would have the value pickled a second time, the slow way."""
    cls = type("Local", (), {"m": lambda self: None, "__module__": "__main__"})
    data, _ = dump(aioray.remote(cls).remote())
    assert b"__main__" not in bytes(data)


def test_copies_of_a_handle_are_handles(handle: ActorHandle) -> None:
    """The client of this test would object to a ref that is pickled by hand."""
    assert copy.deepcopy([handle]) == [handle]


def test_handle_is_gone_with_its_last_reference(client: NotingClient) -> None:
    """Without the garbage collector: the actor's life hangs on it."""
    gc.disable()
    try:
        handle = Counter.remote(1)
        entry = weakref.ref(handle._aioray_ref.entry)
        handle.add.remote(1)
        client.submitted.clear()
        client.created.clear()
        del handle
        assert entry() is None
    finally:
        gc.enable()


def test_method_keeps_its_actor(client: NotingClient) -> None:
    method = Counter.remote(1).add
    changed = Counter.remote(1).add.options(name="x")
    method.remote(1)
    changed.remote(1)
    assert [call.code.name for call, _, _ in client.submitted] == ["Plain.add", "Plain.add"]


def test_method_stays_on_the_handle_and_survives_a_pickle(handle: ActorHandle) -> None:
    assert handle.add is handle.add
    again = load(dump(handle.add)[0])
    assert again._call.actor == handle._aioray_ref
    assert again._call.code.method == "add"


def test_attributes_can_be_set_on_handles(handle: ActorHandle) -> None:
    handle.note = 1
    assert handle.note == 1


# --- calls -------------------------------------------------------------------------------------


def test_call_reaches_the_client_of_its_actor(client: NotingClient, handle: ActorHandle) -> None:
    elsewhere: Any = NotingClient()
    with activate(elsewhere):
        handle.add.remote(1, times=2)
    ((call, args, kwargs),) = client.submitted
    assert (call.code.name, call.code.method) == ("Plain.add", "add")
    assert (call.actor, args, kwargs) == (handle._aioray_ref, (1,), {"times": 2})
    assert elsewhere.submitted == []


def test_method_cannot_be_called_directly(handle: ActorHandle) -> None:
    with pytest.raises(TypeError, match=r"Instead of running 'object.add\(\)', try"):
        handle.add(1)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "text"),
    [
        ("add", (), {}, "missing a required argument: 'by'"),
        ("add", (1, 2, 3), {}, "too many positional arguments"),
        ("add", (1,), {"q": 1}, "unexpected keyword argument 'q'"),
        ("inherited", (), {}, "missing a required argument: 'first'"),
        ("static", (1, 2), {}, "too many positional arguments"),
        ("of_class", (1, 2), {}, "too many positional arguments"),
        ("__ray_call__", (), {}, "missing a required argument: 'fn'"),
        ("__ray_ready__", (1,), {}, "too many positional arguments"),
    ],
)
def test_arguments_are_checked_against_the_method(
    client: NotingClient, handle: ActorHandle, method: str, args: Any, kwargs: Any, text: str
) -> None:
    for callee in (getattr(handle, method), getattr(handle, method).options()):
        with pytest.raises(TypeError, match=text):
            callee.remote(*args, **kwargs)
    assert client.submitted == []


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("add", (1,)),
        ("add", (1, 2)),
        ("any", (1, 2, 3)),
        ("static", (1,)),
        ("of_class", (1,)),
        ("__len__", ()),
        ("__ray_call__", (len, 1)),
        ("__ray_terminate__", ()),
    ],
)
def test_arguments_that_fit_are_passed_on(
    client: NotingClient, handle: ActorHandle, method: str, args: Any
) -> None:
    getattr(handle, method).remote(*args)
    assert [found for _, found, _ in client.submitted] == [args]


def test_signature_is_known_without_annotations_and_defaults() -> None:
    class Bad:
        def m(self, a: Unknown = lambda: None, *, b: Any = aioray): ...  # type: ignore[name-defined]  # noqa: F821

    (call, meta) = _creation(aioray.remote(Bad))
    found = pickle.loads(meta).methods["m"]
    assert str(inspect.signature(found.function)) == "(a=None, *, b=None)"
    assert call.code.function is Bad


def test_options_of_a_call_are_looked_at_when_it_is_made(
    client: NotingClient, handle: ActorHandle
) -> None:
    for bad, error in (
        ({"foo": 1}, TypeError),
        ({"num_returns": -1}, ValueError),
        ({"num_returns": "streaming"}, ValueError),
        ({"max_task_retries": "s"}, TypeError),
        ({"name": 5}, TypeError),
        ({"concurrency_group": "nope"}, ValueError),
    ):
        changed = handle.add.options(**bad)
        with pytest.raises(error):
            changed.remote(1)
    assert client.submitted == []
    assert not hasattr(handle.add.options(), "options")


def test_call_decides_before_method_and_class(client: NotingClient) -> None:
    handle = Counter.options(max_task_retries=1).remote(1)
    handle.add.remote(1)
    handle.two.remote()
    handle.two.options(max_task_retries=0, num_returns=1, name="mine").remote()
    handle.items.remote()
    found = [calls.define_method(call) for call, _, _ in client.submitted]
    assert [(each.name, each.max_retries, each.num_returns) for each in found] == [
        ("Plain.add", 1, 1),
        ("Plain.two", 3, 2),
        ("mine", 0, 1),
        ("Plain.items", 1, STREAMING),
    ]
    assert found[0].retry_rule is False
    assert pickle.loads(found[1].retry_rule) == (OSError,)
    assert {each.backpressure for each in found} == {0}


def test_group_of_a_call(client: NotingClient) -> None:
    @aioray.remote(concurrency_groups={"io": 2, "cpu": 1})
    class A:
        @aioray.method(concurrency_group="io")
        def m(self) -> None: ...

        def n(self) -> None: ...

    handle = A.remote()
    handle.m.remote()
    handle.n.remote()
    handle.m.options(concurrency_group="cpu").remote()
    found = [calls.define_method(call).concurrency_group for call, _, _ in client.submitted]
    assert found == ["io", "", "cpu"]
    with pytest.raises(ValueError, match=r"'disk' is not declared.*declares 'io', 'cpu'"):
        handle.n.options(concurrency_group="disk").remote()
    with pytest.raises(ValueError, match=r"interruptible=True of A\.n"):
        handle.n.options(interruptible=True).remote()


def test_too_many_pending_calls_are_refused(client: NotingClient) -> None:
    handle = Counter.options(max_pending_calls=2).remote(1)
    client.pending = 1
    handle.add.remote(1)
    client.pending = 2
    with pytest.raises(PendingCallsLimitExceeded, match=r"task add .* to Actor\(Plain, .* than 2"):
        handle.add.remote(1)
    assert len(client.submitted) == 1
    Counter.remote(1).add.remote(1)
    assert len(client.submitted) == 2


def test_handle_of_an_ended_session_is_refused(client: NotingClient, handle: ActorHandle) -> None:
    client.closed = True
    for use in (lambda: handle.add.remote(1), lambda: aioray.kill(handle)):
        with pytest.raises(ActorHandleNotFoundError, match="session in which this actor"):
            use()
    assert repr(handle).startswith("Actor(Plain, ")


# --- what is sent ------------------------------------------------------------------------------


def _creation(cls: ActorClass, *args: Any, **options: Any) -> tuple[Call, bytes]:
    noting: Any = NotingClient()
    with activate(noting):
        (cls.options(**options) if options else cls).remote(*args)
    ((call, _, _),) = noting.created
    return call, calls.define_actor(call, WorkerEnvironment()).meta


def test_definition_of_an_actor() -> None:
    call, _ = _creation(Counter, 1)
    found = calls.define_actor(call, WorkerEnvironment())
    assert found._replace(meta=b"") == calls.ActorDefinition(
        class_name="Plain",
        name="",
        namespace="",
        detached=False,
        max_restarts=0,
        restart_policy=None,
        priority=0.0,
        demand=(("CPU", 10_000),),
        keeps_cpus=False,
        environment=WorkerEnvironment(),
        where=ANYWHERE,
        ordered=True,
        asynchronous=False,
        concurrency_groups=(("", 1),),
        max_pending_calls=-1,
        saves_every=0,
        shuts_down=False,
        meta=b"",
        limits=None,
    )
    assert pickle.loads(found.meta).class_name == "Plain"


def test_definition_has_what_options_say() -> None:
    class Saving:
        def __aioray_save__(self) -> int:
            return 1

        def __aioray_restore__(self, state: int) -> None: ...

    policy = aioray.RestartPolicy(intensity=1)
    call, _ = _creation(
        aioray.remote(Saving),
        name="keeper",
        namespace="other",
        lifetime="detached",
        max_restarts=-1,
        restart_policy=policy,
        checkpoint_every=3,
        num_cpus=2,
        priority=1,
        timeout=3,
        runtime_env={"env_vars": {"A": "1"}},
    )
    found = calls.define_actor(call, WorkerEnvironment())
    assert found.limits == TaskLimits(timeout=3.0)
    assert (found.name, found.namespace, found.detached) == ("keeper", "other", True)
    assert (found.max_restarts, found.restart_policy, found.saves_every) == (-1, policy, 3)
    assert (found.demand, found.keeps_cpus, found.priority) == ((("CPU", 20_000),), True, 1.0)
    assert found.environment.fields() == {"env_vars": {"A": "1"}}


def test_definition_of_an_asynchronous_actor() -> None:
    call, _ = _creation(aioray.remote(Asynchronous))
    found = calls.define_actor(call, WorkerEnvironment())
    assert (found.asynchronous, found.ordered, found.concurrency_groups) == (
        True,
        False,
        (("", 1000),),
    )


def test_class_that_cannot_be_serialized_is_named() -> None:
    class Holds:
        attribute = (each for each in ())

    call, _ = _creation(aioray.remote(Holds))
    with pytest.raises(TypeError, match="Could not serialize the class 'Holds'"):
        arguments.serialize_function(call)


@pytest.mark.parametrize("of", ["class", "method"])
def test_argument_that_cannot_be_serialized_is_named(client: NotingClient, of: str) -> None:
    bad = (each for each in ())
    handle = Counter.remote(bad)
    handle.add.remote(bad)
    call, args, kwargs = (client.created if of == "class" else client.submitted)[0]
    owner: Any = client
    with pytest.raises(TypeError, match="start" if of == "class" else "by"):
        arguments.serialize_call(call, call.code.name, args, kwargs, owner)


# --- names, kill, cancel -----------------------------------------------------------------------


def test_get_actor_finds_by_name_and_namespace(client: NotingClient) -> None:
    handle = Counter.options(name="a", namespace="other").remote(1)
    assert aioray.get_actor("a", "other") == handle
    assert "add" in dir(aioray.get_actor("a", namespace="other"))
    with pytest.raises(ValueError, match="Failed to look up actor with name 'a'"):
        aioray.get_actor("a")
    assert client.looked_up[-1] == ("a", None)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("",), ValueError, "non-empty"),
        ((5,), TypeError, "must be a str"),
        (("a", ""), ValueError, '"" is not a valid namespace'),
        (("a", 5), TypeError, "namespace must be None or a string"),
    ],
)
def test_get_actor_checks_its_arguments(client: NotingClient, arguments, error, text) -> None:
    with pytest.raises(error, match=text):
        aioray.get_actor(*arguments)
    assert client.looked_up == []


def test_get_if_exists_takes_what_there_is(client: NotingClient) -> None:
    first = Counter.options(name="a", get_if_exists=True).remote(1)
    second = aioray.remote(Base).options(name="a", get_if_exists=True).remote()
    assert first == second
    assert "add" in dir(second)
    assert len(client.created) == 1


def test_get_if_exists_takes_what_was_made_meanwhile(client: NotingClient, monkeypatch) -> None:
    """1. Nobody has the name. 2. Another takes it. 3. This one finds it taken, and looks again."""
    first = Counter.options(name="a").remote(1)
    made = client.names.pop(("mine", "a"))

    def create_actor(*_: Any) -> Any:
        client.names["mine", "a"] = made
        raise ActorAlreadyExistsError("taken")

    monkeypatch.setattr(client, "create_actor", create_actor)
    assert Counter.options(name="a", get_if_exists=True).remote(1) == first


def test_name_that_is_taken_is_an_error(client: NotingClient) -> None:
    client.taken = True
    with pytest.raises(ActorAlreadyExistsError):
        Counter.options(name="a").remote(1)


def test_empty_name_is_refused_where_the_actor_is_made(client: NotingClient) -> None:
    nameless = Counter.options(name="")
    with pytest.raises(ValueError, match="cannot be an empty string"):
        nameless.remote(1)
    assert not client.created


def test_named_actors_are_listed(client: NotingClient) -> None:
    handles = [
        Counter.options(name="a").remote(1),
        Counter.options(name="b", namespace="other").remote(1),
        Counter.remote(1),
    ]
    assert aioray.util.list_named_actors() == ["a"]
    assert aioray.util.list_named_actors(all_namespaces=True) == [
        {"name": "a", "namespace": "mine"},
        {"name": "b", "namespace": "other"},
    ]
    del handles


def test_kill_passes_the_actor_on(client: NotingClient, handle: ActorHandle) -> None:
    aioray.kill(handle)
    aioray.kill(handle, no_restart=False)
    assert client.killed == [(handle._aioray_ref, True), (handle._aioray_ref, False)]


def test_kill_takes_handles_only(client: NotingClient, handle: ActorHandle) -> None:
    for other in (handle.add.remote(1), 5, handle.add):
        with pytest.raises(ValueError, match="only supported for actors"):
            aioray.kill(other)
    assert client.killed == []


def test_calls_of_actors_cannot_be_cancelled_by_force(
    client: NotingClient, handle: ActorHandle
) -> None:
    ref = handle.add.remote(1)
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        aioray.cancel(ref, force=True)
    with pytest.raises(ValueError, match="grace is not supported for actor tasks"):
        aioray.cancel(ref, grace=1)
    assert client.cancelled == []
    aioray.cancel(ref)
    put: ObjectRef[Any] = ObjectRef(
        client.entry_of(ids.object_id(ref.binary()[: ids.TASK_ID_SIZE], ids.PUT_INDEX + 1))
    )
    aioray.cancel(put, force=True)
    task = aioray.remote(lambda: None).remote()
    aioray.cancel(task, force=True, grace=1)
    assert [entry for entry, _ in client.cancelled] == [each.entry for each in (ref, put, task)]


def test_handle_cannot_be_cancelled(handle: ActorHandle) -> None:
    with pytest.raises(TypeError, match=r"for actors use kill\(\)"):
        aioray.cancel(handle)


# --- method, exit_actor ------------------------------------------------------------------------


def test_method_decorator_is_used_bare_or_with_options() -> None:
    def f() -> None: ...

    assert aioray.method(f) is f
    assert aioray.method(num_returns=2)(f) is f
    with pytest.raises(AssertionError, match="The @method decorator"):
        aioray.method(5)
    with pytest.raises(ValueError, match="num_returns"):
        aioray.method(num_returns="streaming")(f)


def test_method_refuses_an_unknown_option_at_once() -> None:
    with pytest.raises(AssertionError, match=r"'num_return'.*num_returns"):
        aioray.method(num_return=2)


def test_what_method_says_are_plain_values() -> None:
    """Workers load the class, and could do without the modules that check options."""
    said = {"num_returns": 2, "max_task_retries": 3, "retry_exceptions": (OSError,)}
    assert vars(Plain.two) == {"__aioray_method__": said}


def test_exit_actor_is_for_actors() -> None:
    with pytest.raises(TypeError, match="exit_actor API is called on a non-actor worker"):
        aioray.exit_actor()


def test_exit_actor_leaves_with_code_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inside:
        actor = object()

    monkeypatch.setattr("aioray.client.current.execution_context", Inside)
    with pytest.raises(ActorExit) as caught:
        aioray.exit_actor()
    assert caught.value.code == 0
    assert isinstance(caught.value, SystemExit)
    assert execution_context is not Inside


def test_special_methods() -> None:
    actor = [3]
    assert SPECIAL_METHODS["__ray_ready__"](actor) is True
    assert SPECIAL_METHODS["__ray_call__"](actor, lambda self, by: self[0] * by, 2) == 6
    with pytest.raises(ActorExit):
        SPECIAL_METHODS["__ray_terminate__"](actor)
