"""Functions that run in workers and use aioray there: see `jobs` for how they talk to the test."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import aioray
from aioray.exceptions import (
    GetTimeoutError,
    RayError,
    RayTaskError,
    TaskPlacementGroupRemoved,
    WorkerCrashedError,
)
from aioray.testing import lose
from aioray.util import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from aioray.util.placement_group import PlacementGroup
from aioray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from . import jobs

same = aioray.remote(jobs.same)
add = aioray.remote(jobs.add)
hold = aioray.remote(jobs.hold)
numbers = aioray.remote(jobs.numbers)
total = aioray.remote(jobs.total)
kept_refs = []


def add_up(count):
    return sum(aioray.get([same.remote(number) for number in range(count)]))


@aioray.remote
def decorated(value):
    return value * 2


@aioray.remote
def fib(n):
    return n if n < 2 else sum(aioray.get([fib.remote(n - 1), fib.remote(n - 2)]))


@aioray.remote
def dive(depth):
    return 0 if depth == 0 else 1 + aioray.get(dive.remote(depth - 1))


def chain(count):
    ref = aioray.put(0)
    for _ in range(count):
        ref = add.remote(ref, 1)
    return aioray.get(ref)


def wait_for_some(gates):
    refs = [same.remote("quick")]
    refs += [aioray.remote(jobs.listen).remote(gate) for gate in gates]
    ready, pending = aioray.wait(refs)
    late = aioray.wait(pending, timeout=0)
    jobs.say(gates[0], "go")
    jobs.say(gates[1], "go")
    everything = aioray.wait(refs, num_returns=3)
    return aioray.get(ready), len(pending), [len(part) for part in late], len(everything[0])


def child_ref(value):
    return same.remote(value)


def child_refs(values):
    return {"refs": [same.remote(value) for value in values]}


def put_and_return(value):
    return [aioray.put(value), aioray.put(value)]


def get_inside(refs):
    return aioray.get(refs)


def double_get(ref):
    (inner,) = ref
    return [aioray.get(inner), aioray.get([inner, inner])]


def child_ids(count):
    refs = [aioray.remote(jobs.context).remote() for _ in range(count)]
    told = [each["task"] for each in aioray.get(refs)]
    return [ref.task_id() for ref in refs], told, aioray.put(1).hex()


def ids_and_crash(notes, crashes):
    """What this attempt submits and puts, noted, before it dies the first times."""
    ref, put = same.remote(1), aioray.put(1)
    aioray.get([ref, put])
    jobs.note(notes, f"{ref.hex()} {put.hex()}")
    if aioray.get_runtime_context().get_attempt_number() < crashes:
        os._exit(3)


def errors_of_children():
    found = []
    try:
        aioray.get(aioray.remote(jobs.fail).remote("mine"))
    except ValueError as error:
        found.append((isinstance(error, RayTaskError), error.args[0].args[0]))
    dying = aioray.remote(max_retries=0)(end_with)
    try:
        aioray.get(dying.remote(7))
    except WorkerCrashedError as error:
        found.append(error.exit_code)
    try:
        aioray.get([same.remote(1), add.remote(dying.remote(8))])
    except WorkerCrashedError as error:
        found.append(isinstance(error, RayTaskError))
    return found


def end_with(status):
    os._exit(status)


def let_escape(notes):
    jobs.note(notes, "run")
    return aioray.get(aioray.remote(jobs.fail).remote("escapes"))


def too_late(started, gate):
    ref = hold.remote(started, gate)
    found = []
    for timeout in (0, 0.01):
        try:
            aioray.get([same.remote(1), ref], timeout=timeout)
        except GetTimeoutError as error:
            found.append(str(error))
    return found, ref


def hold_child(started, gate):
    """Submits a child that holds, and waits for it."""
    return aioray.get(hold.remote(started, gate))


def hold_child_twice(started, gate):
    return aioray.get(aioray.remote(hold_child).remote(started, gate))


def submit_when_interrupted(started, gate, notes):
    try:
        hold_child(started, gate)
    except KeyboardInterrupt:
        try:
            aioray.get(aioray.remote(jobs.note).remote(notes, "ran"))
        except aioray.exceptions.TaskCancelledError:
            return "cancelled before it ran"
    return "not interrupted"


def crash_with_child(started, gate, when):
    ref = hold.remote(started, gate)
    aioray.get(same.remote(None))
    del ref
    jobs.listen(when)
    os._exit(5)


def crash_after_handing_on(started, gate, other_started):
    ref = hold.remote(started, gate)
    jobs.listen(other_started)
    waiting = aioray.remote(get_inside).remote([ref])
    aioray.get(same.remote(None))
    jobs.note(gate + "-ref", aioray.cloudpickle.dumps(waiting).hex())
    os._exit(5)


def put_large(started, gate, count):
    ref = aioray.put(jobs.numbers(count))
    jobs.say(started, jobs.total(aioray.get(ref)))
    jobs.listen(gate)
    del ref
    jobs.say(started, "dropped")
    jobs.listen(gate)
    return "done"


def many_large(rounds, count):
    """Far more than the store can hold at once."""
    sums = 0.0
    for number in range(rounds):
        ref = numbers.remote(count, number)
        sums += aioray.get(total.remote(ref))
        sums += jobs.total(aioray.get(ref))
    return sums


def large_loop(rounds, count):
    """Reads what it has put, again and again, and keeps nothing."""
    return [
        float(aioray.get(aioray.put(jobs.numbers(count, number)))[0]) for number in range(rounds)
    ]


def in_threads(count):
    found = []

    def work(number):
        found.append(aioray.get(add.remote(number, 1)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def in_a_loop(count):
    async def one(number):
        return await add.remote(number, 1)

    async def main():
        gathered = await asyncio.gather(*[add.remote(number, 1) for number in range(count)])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(count)]
        waited, _ = await asyncio.wait([same.remote(1), same.remote(2)])
        try:
            await aioray.remote(jobs.fail).remote("awaited")
        except ValueError as error:
            text = str(error.args[0])
        large = await numbers.remote(50_000)
        future = same.remote("future").as_future()
        return (
            gathered,
            [task.result() for task in tasks],
            sorted(ref.result() for ref in waited),
            text,
            jobs.total(large),
            await future,
        )

    return asyncio.run(main())


def give_up_waiting(started, gate):
    async def main():
        ref = hold.remote(started, gate)
        try:
            await asyncio.wait_for(ref, 0.01)
        except TimeoutError:
            return ref
        return None

    return [asyncio.run(main())]


def cancel_child(started, gate, when, how):
    ref = hold.remote(started, gate)
    jobs.listen(when)
    if how == "result":
        return aioray.cancel(ref).result(100).name, _error_of(ref)

    async def main():
        return (await aioray.cancel(ref)).name

    return asyncio.run(main()), _error_of(ref)


def _error_of(ref):
    try:
        aioray.get(ref)
    except aioray.exceptions.RayError as error:
        return type(error).__name__
    return None


def fork_while_holding(count):
    """A forked child that ends must not let go of what its parent holds."""
    ref = aioray.put(jobs.numbers(count))
    aioray.get(ref)
    pid = os.fork()
    if not pid:
        del ref
        os._exit(0)
    os.waitpid(pid, 0)
    aioray.get(same.remote(None))
    return jobs.total(aioray.get(ref))


def about_the_session():
    try:
        aioray.init()
    except RuntimeError as error:
        refused = str(error)
    aioray.init(ignore_reinit_error=True)
    aioray.shutdown()
    return (
        aioray.is_initialized(),
        refused,
        aioray.cluster_resources()["CPU"],
        "CPU" in aioray.available_resources(),
        aioray.nodes()[0]["Alive"],
        aioray.get(same.remote("still here")),
    )


def lose_and_get(count):
    ref = numbers.remote(count)
    first = jobs.total(aioray.get(ref))
    lose(ref)
    return first == jobs.total(aioray.get(ref))


def closures(values):
    """Functions made here, with refs in them; and one that changes."""
    refs = [aioray.put(value) for value in values]
    found = [aioray.get(aioray.remote(lambda ref=ref: aioray.get(ref)).remote()) for ref in refs]

    @aioray.remote
    def changing():
        return "before"

    before = aioray.get(changing.remote())

    @aioray.remote  # type: ignore[no-redef]  # it changes
    def changing():
        return "after"

    return found, before, aioray.get(changing.remote())


def keep_ref(refs):
    kept_refs.extend(refs)


def use_kept():
    return aioray.get(kept_refs.pop())


class LoadedHere:
    """Says where it is loaded."""

    def __init__(self, notes):
        self.notes = notes

    def __reduce__(self):
        return _load_here, (self.notes,)


def _load_here(notes):
    jobs.note(notes, os.getpid())
    return LoadedHere(notes)


def call_often(notes, count):
    marker = LoadedHere(notes)

    @aioray.remote
    def marked():
        return marker is not None

    return all(aioray.get([marked.remote() for _ in range(count)]))


def report_readiness(started, gate):
    ref = hold.remote(started, gate)
    before = ref.done()
    jobs.say(gate, "value")
    aioray.get(ref)
    other = same.remote(1)
    aioray.wait([other])
    return before, ref.done(), other.done(), other.result()


def call_wrongly(how):
    try:
        if how == "arguments":
            add.remote()
        elif how == "unpicklable":
            same.remote(threading.Lock())
        elif how == "put":
            aioray.put(threading.Lock())
        elif how == "get":
            aioray.get(5)
        else:
            lock = threading.Lock()
            aioray.remote(lambda: lock).remote()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def environment_of_child(**options):
    child: Any = aioray.remote(jobs.variable)
    child = child.options(**options) if options else child
    return aioray.get([child.remote("OUTER"), child.remote("INNER")])


def fork_and_forget(array):
    """A forked child lets go of its copy of an array that this process keeps."""
    jobs.keep("forked", array)
    jobs.keep("slice", array[10:])
    del array
    pid = os.fork()
    if not pid:
        jobs.drop("forked")
        jobs.drop("slice")
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def ask_in_a_fork():
    reader, writer = os.pipe()
    ref = same.remote(1)
    pid = os.fork()
    if not pid:
        try:
            aioray.get(ref)
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode()


where = aioray.remote(jobs.where)
where_free = aioray.remote(num_cpus=0)(jobs.where)


def inside(group, index=-1):
    return PlacementGroupSchedulingStrategy(group, index)


def see_children(options):
    """The groups of this task and of children with each of these options."""
    me = aioray.get_runtime_context()
    refs = [where.options(**each).remote() for each in options]
    groups = [seen["group"] for seen in aioray.get(refs)]
    return me.should_capture_child_tasks_in_placement_group, groups


def see_grandchild():
    (_, (group,)) = aioray.get(aioray.remote(see_children).remote([{}]))
    return group


def group_of_child():
    """The group of a child, which is submitted by the same call object every time."""
    return aioray.get(where_free.remote())["group"]


def use_group_of_its_own():
    """All that can be done with a placement group, done in a task."""
    group = placement_group([{"CPU": 1}, {"CPU": 1}], name="mine")
    assert aioray.get(group.ready()) == group
    assert group.wait(100)
    assert get_placement_group("mine") == group
    assert PlacementGroup(group.id).bundle_specs == [{"CPU": 1.0}, {"CPU": 1.0}]
    seen = aioray.get(where.options(scheduling_strategy=inside(group, 1)).remote())
    left = aioray.available_resources().get("CPU", 0)
    state = placement_group_table(group)["state"]
    try:
        placement_group([{"CPU": 1}], name="mine")
    except ValueError as error:
        says = str(error)
    remove_placement_group(group)
    removed = placement_group_table(group)["state"]
    try:
        aioray.get(group.ready())
    except TaskPlacementGroupRemoved:
        gone = True
    return seen["group"] == group.id.hex(), left, state, says, removed, gone


def make_group():
    group = placement_group([{"CPU": 1}])
    return group, group.ready()


def call_misplaced(options):
    """How a child with these options is refused: at the call, or by its ref."""
    try:
        ref = where.options(**options).remote()
    except ValueError as error:
        return f"call: {error}"
    try:
        aioray.get(ref)
    except RayError as error:
        return f"get: {type(error).__name__}: {error}"
    return "nothing"


def call_in_forgotten_group():
    """How a child is refused whose group was still known when the call was made first."""
    first, second = placement_group([{"CPU": 1}]), placement_group([{"CPU": 1}])
    call = where.options(scheduling_strategy=inside(first))
    aioray.get(call.remote())
    remove_placement_group(first)
    remove_placement_group(second)
    try:
        aioray.get(call.remote())
    except RayError as error:
        return f"{type(error).__name__}: {error}"


def submit_in_order(notes, priorities):
    """Children of these priorities, submitted before one of them can run."""
    note = aioray.remote(jobs.note)
    refs = [note.options(priority=each).remote(notes, str(each)) for each in priorities]
    aioray.get(refs)


def submit_when_told(started, gate):
    jobs.say(started)
    jobs.listen(gate)
    return aioray.get(same.remote("in time"))


def submit_after_failing_to():
    """The first call of a function does not get as far as being submitted."""
    fresh = aioray.remote(jobs.same)
    try:
        fresh.remote(threading.Lock())
    except TypeError:
        return aioray.get(fresh.remote("second"))
    return None


def get_what_is_cancelled():
    """Raise the TaskCancelledError of a child. It is on a single CPU: the child has not begun."""
    ref = same.remote(None)
    aioray.cancel(ref)
    return aioray.get(ref)


async def await_what_is_cancelled():
    ref = same.remote(None)
    aioray.cancel(ref)
    return await ref


def yield_and_get_what_is_cancelled():
    yield 1
    yield get_what_is_cancelled()


class GetsWhatIsCancelled:
    def get(self):
        return get_what_is_cancelled()


class AwaitsWhatIsCancelled:
    async def get(self):
        return await await_what_is_cancelled()


def raise_another_cancel_when_interrupted(started, gate):
    """What a parent does whose child hears of a recursive cancel first."""
    try:
        jobs.hold(started, gate)
    except KeyboardInterrupt:
        return get_what_is_cancelled()
