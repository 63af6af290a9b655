"""Graphs that a worker has seen stay for the next task, within what a stranger may have it keep."""

import weakref

from compute.graph.task_graph import TaskGraph
from compute.worker.graphs import MAX_GRAPHS, MAX_PACKAGES_BYTES, GraphCache
from compute.worker.wire import Limits
from tests.unit.graphs import as_bytes, linear_document

LIMITS = Limits(1 << 20, 20_000, 1 << 30)


class Made:
    def __init__(self, _: TaskGraph) -> None:
        pass


def package(number: int, size: int = 0) -> bytes:
    return as_bytes(linear_document()) + b" " * size + b"\n" * number


def test_a_graph_that_was_seen_is_made_ready_once() -> None:
    graphs = GraphCache(LIMITS, Made)
    assert graphs.get(package(0)) is graphs.get(package(0))
    assert graphs.get(package(0)) is not graphs.get(package(1))


def test_many_graphs_or_large_ones_are_not_kept_for_ever() -> None:
    for size, most in ((0, MAX_GRAPHS), (900_000, MAX_PACKAGES_BYTES // 900_000)):
        graphs = GraphCache(LIMITS, Made)
        made = [weakref.ref(graphs.get(package(number, size))) for number in range(MAX_GRAPHS + 10)]
        assert [one() is not None for one in made] == [False] * (len(made) - most) + [True] * most


def test_one_that_is_larger_than_all_may_be_together_is_kept_until_the_next() -> None:
    graphs = GraphCache(Limits(MAX_PACKAGES_BYTES * 2, 20_000, 1 << 30), Made)
    large = package(0, MAX_PACKAGES_BYTES)
    assert graphs.get(large) is graphs.get(large)
    kept = weakref.ref(graphs.get(large))
    graphs.get(package(1))
    assert kept() is None
