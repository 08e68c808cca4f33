"""What a long wait leaves: a list like any other, that is cheap to wait for again."""

from __future__ import annotations

import copy
import operator
import pickle
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

import aioray
from aioray.client.entry import ObjectEntry, PlainEntry
from aioray.client.refs import ObjectRef
from aioray.client.rest import FIRST, LONG_REST, PlainCompletions, Rest
from aioray.engine.waiting import ObjectWaits
from aioray.util import as_completed

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = 30.0  # seconds after which a test has failed
COUNT = 8 * LONG_REST


class Mailbox:
    """Does at once what is to be done on the engine's thread."""

    def __init__(self) -> None:
        self.posted = threading.Event()

    def post(self, item: Callable[[], None]) -> None:
        item()
        self.posted.set()

    def in_own_thread(self) -> bool:
        return False


class Client:
    """Has entries whose outcomes are given by the test."""

    def __init__(self, *, plain: bool = False) -> None:
        self.mailbox = Mailbox()
        box: Any = self.mailbox
        me: Any = self
        waits = ObjectWaits(me, box, lambda _entry: False)
        self.wait = waits.wait
        self.completions: Any = waits.completions
        if plain:
            self.completions = lambda refs: PlainCompletions(me, refs)

    def in_own_thread(self) -> bool:
        return False

    def fetch(self, entry: ObjectEntry) -> None:
        """Let nobody compute it again: the test does."""


class LookedAt(PlainEntry):
    """Counts how often somebody looks whether there is an outcome."""

    looks = 0

    @property
    def outcome(self) -> Any:
        LookedAt.looks += 1
        return self.__dict__.get("found")

    @outcome.setter
    def outcome(self, value: Any) -> None:
        self.__dict__["found"] = value


def made(count: int, client: Client, cls: type[PlainEntry] = PlainEntry) -> list[ObjectRef[Any]]:
    owner: Any = client
    return [ObjectRef(cls(owner, 0, index + 1)) for index in range(count)]


def settle(*refs: ObjectRef[Any]) -> None:
    for ref in refs:
        ref.entry.outcome = b"\0"
        ref.entry.wake_waiters()


def pending_rest(client: Client, count: int = COUNT) -> tuple[list[ObjectRef[Any]], Any]:
    refs = made(count, client)
    ready, rest = aioray.wait(refs, timeout=0)
    assert ready == []
    assert type(rest) is Rest
    return refs, rest


# ---------------------------------------------------------------- waiting again


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_rests_are_what_plain_lists_would_be(seed: int, plain: bool) -> None:
    chance = random.Random(seed)
    client = Client(plain=plain)
    refs = made(COUNT, client)
    left, rest = list(refs), list(refs)
    unready = list(refs)
    chance.shuffle(unready)
    while left:
        for _ in range(chance.choice([0, 1, 3, 100])):
            if unready:
                settle(unready.pop())
        count = min(len(left), chance.choice([1, 1, 2, 70]))
        if not unready:
            assert rest == left
        ready, rest = aioray.wait(rest, num_returns=count, timeout=0)
        expected = [ref for ref in left if ref.entry.outcome is not None][:count]
        assert ready == expected
        taken = set(map(id, ready))
        left = [ref for ref in left if id(ref) not in taken]
        assert len(rest) == len(left)
        if chance.random() < 0.1:
            late = made(1, client)[0]
            left.append(late)
            rest.append(late)
            unready.append(late)
            if len(unready) > COUNT // 2:
                settle(*unready)
                unready.clear()
    assert rest == []


def test_wait_for_one_of_many_looks_at_few() -> None:
    client = Client()
    refs = made(COUNT, client, LookedAt)
    _, rest = aioray.wait(refs, timeout=0)
    settle(*refs[:50])
    _, rest = aioray.wait(rest)
    LookedAt.looks = 0
    for number in range(1, 50):
        ready, rest = aioray.wait(rest)
        assert ready == [refs[number]]
    assert LookedAt.looks <= 2 * 50


def test_client_that_asks_for_each_ref_asks_for_the_first_alone_where_that_is_enough() -> None:
    client = Client(plain=True)
    asked: list[int] = []
    plainly = client.wait

    def wait(refs: Any, *args: Any) -> Any:
        asked.append(len(refs))
        return plainly(refs, *args)

    refs, rest = pending_rest(client)
    client.wait = wait  # type: ignore[assignment]
    settle(*refs[:50], refs[-1])
    for ref in refs[:50]:
        ready, rest = aioray.wait(rest)
        assert ready == [ref]
    assert asked == [FIRST] * 50
    for _ in range(2):
        ready, rest = aioray.wait(rest, timeout=0)
    assert asked[50:] == [FIRST, COUNT - 50, COUNT - 51]


def test_each_entry_is_watched_once() -> None:
    client = Client()
    refs, rest = pending_rest(client)
    for ref in refs[:50]:
        settle(ref)
        _, rest = aioray.wait(rest)
    assert {len(ref.entry.waiters or ()) for ref in refs[50:]} == {1}


def test_lists_that_nobody_waits_for_any_more_leave_few_waiters() -> None:
    client = Client()
    refs = made(COUNT, client)
    for _ in range(30):
        _, rest = aioray.wait(refs, timeout=0)
        aioray.wait(rest, timeout=0)
    assert max(len(ref.entry.waiters or ()) for ref in refs) <= 8


@pytest.mark.parametrize("count", [1, 3])
def test_thread_that_waits_for_a_rest_wakes_with_the_last_it_needs(count: int) -> None:
    client = Client()
    refs, rest = pending_rest(client)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(aioray.wait(rest, num_returns=count)))
    client.mailbox.posted.clear()
    thread.start()
    assert client.mailbox.posted.wait(GUARD)
    for ref in reversed(refs[10 : 10 + count]):
        settle(ref)
    thread.join(GUARD)
    ((ready, others),) = found
    assert ready == refs[10 : 10 + count]
    assert others == refs[:10] + refs[10 + count :]


def test_two_threads_may_wait_for_the_same_rest() -> None:
    client = Client()
    refs, rest = pending_rest(client)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(aioray.wait(rest))) for _ in "ab"]
    client.mailbox.posted.clear()
    for thread in threads:
        thread.start()
    assert client.mailbox.posted.wait(GUARD)
    settle(refs[0])
    for thread in threads:
        thread.join(GUARD)
    assert found == [([refs[0]], refs[1:])] * 2


def test_rest_that_was_waited_for_can_be_waited_for_again() -> None:
    client = Client()
    refs, rest = pending_rest(client)
    settle(refs[3])
    for _ in range(3):
        assert aioray.wait(rest, timeout=0) == ([refs[3]], refs[:3] + refs[4:])
    assert rest == refs


def test_value_that_was_lost_again_is_waited_for_again() -> None:
    client = Client()
    refs, rest = pending_rest(client)
    settle(*refs[:3])
    _, rest = aioray.wait(rest)
    refs[1].entry.outcome, refs[1].entry.missing = None, True
    ready, rest = aioray.wait(rest, num_returns=2, timeout=0.01)
    assert ready == [refs[2]]
    settle(refs[1])
    assert aioray.wait(rest)[0] == [refs[1]]


def test_interrupted_wait_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    refs, rest = pending_rest(client)
    aioray.wait(rest, timeout=0)
    settle(refs[0])
    with monkeypatch.context() as patch:
        patch.setattr("aioray.client.rest._Known.take", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            aioray.wait(rest)
    assert aioray.wait(rest, timeout=0) == ([refs[0]], refs[1:])


def _interrupt(*_args: Any) -> None:
    raise KeyboardInterrupt


def test_refs_that_were_taken_are_not_kept() -> None:
    client = Client()
    refs, rest = pending_rest(client)
    alive = threading.Event()

    class Told(PlainEntry):
        def __del__(self) -> None:
            alive.clear()

    owner: Any = client
    refs[5] = ObjectRef(Told(owner, 0, 6))
    rest = aioray.wait(refs, timeout=0)[1]
    refs.clear()
    alive.set()
    settle(rest[5])
    ready, rest = aioray.wait(rest)
    assert alive.is_set()
    del ready
    assert not alive.is_set()
    assert len(rest) == COUNT - 1


# ---------------------------------------------------------------- appending


def test_appended_refs_are_waited_for_and_cost_no_look_at_the_others() -> None:
    client = Client()
    refs = made(COUNT, client, LookedAt)
    _, rest = aioray.wait(refs, timeout=0)
    late = made(50, client)
    settle(*refs[:50])
    _, rest = aioray.wait(rest)
    LookedAt.looks = 0
    for number, ref in enumerate(late[:-1], 1):
        rest.append(ref)
        ready, rest = aioray.wait(rest)
        assert ready == [refs[number]]
    assert LookedAt.looks <= 3 * 50
    settle(late[2], *refs[50:])
    assert rest == refs[50:] + late[:-1]
    ready, rest = aioray.wait(rest, num_returns=COUNT - 49)
    assert ready == [*refs[50:], late[2]]


@pytest.mark.parametrize(
    ("append", "error"),
    [
        (lambda rest, _refs: rest.append(rest[0]), ValueError),
        (lambda rest, _refs: rest.append(7), TypeError),
        (lambda rest, refs: (rest.append(refs[-1]), rest.append(refs[-1])), ValueError),
        (lambda rest, _refs: rest.append(made(1, Client())[0]), ValueError),
        (lambda rest, refs: rest.extend(refs[:1]), ValueError),
    ],
)
def test_what_may_not_be_in_a_list_to_wait_for_is_refused_in_a_rest(
    append: Any, error: type[Exception]
) -> None:
    client = Client()
    refs, rest = pending_rest(client)
    settle(refs[0])
    _, rest = aioray.wait(rest)
    append(rest, [*refs[1:], *made(1, client)])
    for _ in range(2):
        with pytest.raises(error):
            aioray.wait(rest, timeout=0)


# ---------------------------------------------------------------- a list like any other


def rest_of_numbers(count: int = COUNT) -> tuple[Any, list[int]]:
    numbers: list[Any] = list(range(1, count + 1))
    return Rest.of(numbers), numbers


@pytest.mark.parametrize(
    "use",
    [
        len,
        bool,
        list,
        tuple,
        set,
        repr,
        sorted,
        copy.copy,
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
        lambda x: x[3],
        lambda x: x[3:7],
        lambda x: [*x],
        lambda x: max(*x),
        lambda x: list(reversed(x)),
        lambda x: 5 in x,
        lambda x: x.index(5),
        lambda x: x.count(5),
        lambda x: x.copy(),
        lambda x: operator.add([0], x),
        lambda x: operator.add(x, [0]),
        lambda x: x * 2,
        lambda x: 2 * x,
        lambda x: x == list(range(1, COUNT + 1)),
        lambda x: list(range(1, COUNT + 1)) == x,
        lambda x: x != [],
        lambda x: x < [9],
        lambda x: list(zip(x, x, strict=True)),
        lambda x: (x.append(0), x)[1],
        lambda x: (x.extend([0]), x)[1],
        lambda x: (x.insert(0, 0), x)[1],
        lambda x: (x.pop(), x)[1],
        lambda x: (x.remove(5), x)[1],
        lambda x: (x.reverse(), x)[1],
        lambda x: (x.sort(reverse=True), x)[1],
        lambda x: (x.clear(), x)[1],
        lambda x: (x.__setitem__(0, 9), x)[1],
        lambda x: (x.__delitem__(0), x)[1],
        lambda x: (x.__iadd__([0]), x)[1],
        lambda x: (x.__imul__(2), x)[1],
        lambda x: (repr(x), x.append(0), x)[2],
        lambda x: (x.append(0), len(x), x.append(1), x)[3],
        lambda x: (x.pop(), x.append(1), x)[2],
    ],
)
def test_rest_does_what_a_list_does(use: Callable[[Any], Any]) -> None:
    rest, numbers = rest_of_numbers()
    found, expected = use(rest), use(numbers)
    assert found == expected
    assert list(rest) == numbers


def test_list_takes_in_a_rest_in_place() -> None:
    rest, numbers = rest_of_numbers()
    mine: list[int] = [0]
    same = mine
    mine += rest
    assert same == [0, *numbers]
    same[1:] = rest_of_numbers()[0]
    assert same == [0, *numbers]


def test_every_method_of_list_is_one_of_a_rest() -> None:
    inherited = {name for name in dir(list) if getattr(Rest, name) is getattr(list, name)}
    assert inherited <= {*dir(object), "__class_getitem__"}


# ---------------------------------------------------------------- what is written with it


@pytest.mark.parametrize("chunk_size", [1, 10])
def test_as_completed_looks_at_each_ref_a_few_times(chunk_size: int) -> None:
    refs = made(COUNT, Client(), LookedAt)
    settle(*refs)
    LookedAt.looks = 0
    found = as_completed(refs, chunk_size=chunk_size, yield_obj_refs=True)
    assert list(found) == refs
    assert LookedAt.looks <= 4 * COUNT + LONG_REST**2


def test_iterating_over_what_completes_looks_at_each_ref_a_few_times() -> None:
    refs = made(COUNT, Client(), LookedAt)
    settle(refs[0])
    LookedAt.looks = 0
    found = []
    for ref in aioray.as_completed(refs):
        found.append(ref)
        if len(found) < COUNT:
            settle(refs[len(found)])
    assert found == refs
    assert LookedAt.looks <= 10 * COUNT + 4 * LONG_REST**2
