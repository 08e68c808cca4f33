"""Graphs of calls: `bind` and `execute`."""

from __future__ import annotations

import asyncio
import collections

import cloudpickle
import pytest

import aioray
from aioray.dag import ClassNode, InputNode, MultiOutputNode
from aioray.exceptions import UnsupportedFeatureError

from . import jobs

same = aioray.remote(jobs.same)
add = aioray.remote(jobs.add)


@aioray.remote
def three():
    return 3


@aioray.remote
class Counter:
    def __init__(self, start=0):
        self.count = start

    def add(self, amount):
        self.count += amount
        return self.count


@pytest.fixture(autouse=True)
def _session(session):
    """Each of these needs one."""


def run(node, *args, **kwargs):
    return aioray.get(node.execute(*args, **kwargs))


def test_graph_of_functions_is_executed_as_often_as_it_is_asked():
    graph = add.bind(three.bind(), 4)
    assert [run(graph) for _ in range(2)] == [7, 7]
    assert isinstance(graph.execute(), aioray.ObjectRef)
    assert (graph.get_args()[1], graph.get_kwargs()) == (4, {})
    assert run(add.options(num_cpus=0).bind(graph, three.bind())) == 10
    assert run(cloudpickle.loads(cloudpickle.dumps(graph))) == 7


def test_node_of_a_graph_is_called_once_for_all_that_need_it():
    counter = Counter.remote()
    once = counter.add.bind(1)
    assert run(add.bind(once, add.bind(once, once))) == 3
    assert run(once) == 2


def test_nodes_inside_of_containers_arrive_as_refs():
    Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024
    node = three.bind()
    found = run(same.bind({"a": [node, 1], "b": (node,), "c": Pair(node, 2)}))
    assert found["a"][0] == found["b"][0] == found["c"].a
    assert (aioray.get(found["a"][0]), found["a"][1], found["c"].b) == (3, 1, 2)
    given = [1, (2,)]
    assert run(same.bind(given)) == given


def test_input_stands_for_what_execute_is_given():
    with InputNode() as given:
        alone = add.bind(given, 1)
        items = add.bind(given[0], given[1])
        attributes = add.bind(given.real, given.imag)
        mixed = add.bind(given[0], given.x)
    assert (run(alone, 5), given.execute(4)) == (6, 4)
    assert (run(items, 5, 6), run(items, [7, 8])) == (11, 15)
    assert (run(mixed, 5, x=6), run(attributes, 3 + 4j)) == (11, 7.0)
    assert run(attributes, real=1, imag=2) == 3
    with pytest.raises(KeyError):
        mixed.execute(5, y=6)
    with pytest.raises(IndexError):
        items.execute()
    with pytest.raises(AssertionError, match="with InputNode"):
        InputNode().execute(4)


def test_actor_of_a_graph_is_made_anew_and_called_in_the_order_of_bind():
    actor = Counter.bind(10)
    first = actor.add.bind(1)
    second = actor.add.options(num_returns=1).bind(first)
    assert isinstance(actor, ClassNode)
    assert [run(second) for _ in range(2)] == [22, 22]
    third = actor.add.bind(5)  # needs nothing of the others, but comes after them
    assert run(third) == 27
    assert aioray.get(actor.execute().add.remote(1)) == 11
    assert run(Counter.options(num_cpus=0).bind(1).add.bind(1)) == 2


def test_method_of_a_handle_is_bound_to_that_actor():
    counter = Counter.remote()
    graph = add.bind(counter.add.bind(three.bind()), counter.add.options(name="x").bind(1))
    assert [run(graph), run(graph)] == [7, 15]


def test_several_outputs_come_as_a_list():
    node = three.bind()
    found = MultiOutputNode([node, add.bind(node, 1)]).execute()
    assert aioray.get(found) == [3, 4]
    with pytest.raises(ValueError, match="list of nodes"):
        MultiOutputNode([1])  # type: ignore[list-item]


def test_long_chain_is_no_deep_recursion():
    node = three.bind()
    for _ in range(1500):
        node = same.bind(node)
    assert run(node) == 3


def test_async_code_awaits_what_execute_returns():
    async def main():
        return await add.bind(three.bind(), 1).execute()

    assert asyncio.run(main()) == 4


def test_what_is_no_part_of_graphs_says_so():
    node, actor = three.bind(), Counter.bind()
    with pytest.raises(AttributeError, match="execute"):
        node.remote()
    with pytest.raises(AttributeError, match="bind"):
        actor.add.remote(1)
    with pytest.raises(AttributeError, match="no method 'sub'"):
        _ = actor.sub
    with pytest.raises(UnsupportedFeatureError, match="compiled graph"):
        node.experimental_compile()
    with pytest.raises(AttributeError, match="compiled graphs"):
        _ = aioray.dag.DAGContext
