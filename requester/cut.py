"""Cutting a task graph: each part takes what crosses the cut, and its own weights, as inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from compute.graph.operator import Result
from compute.graph.task_graph import Argument, Node, Ref, TaskGraph
from requester.export import Exported


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a cut graph: its inputs are first `activations`, then `weights`, both named as in the whole."""

    graph: TaskGraph
    activations: tuple[Ref, ...]
    weights: tuple[str, ...]
    outputs: tuple[Ref, ...]


def cut_graph(exported: Exported, positions: Sequence[int]) -> list[Part]:
    """Cut before the nodes at `positions` (rising). The parts chained compute what the whole does.

    Inputs of the whole are given again to each part that needs them; a size that a part needs is taken again
    from one of its own tensors.
    """
    nodes = exported.graph.nodes
    bounds = [0, *positions, len(nodes)]
    drafts = [
        _Draft(exported, nodes[begin:end]).take(exported.graph.outputs if end == len(nodes) else ())
        for begin, end in pairwise(bounds)
    ]
    parts = []
    for place, draft in enumerate(drafts):
        wanted = {ref for later in drafts[place + 1 :] for ref in later.activations}
        given = tuple(ref for ref in exported.described if ref in wanted and ref.name in draft.made)
        last = place == len(drafts) - 1
        parts.append(draft.part(exported.graph.outputs if last else given))
    return parts


class _Draft:
    """A part while it is made."""

    def __init__(self, exported: Exported, nodes: Sequence[Node]) -> None:
        self._exported = exported
        self._whole = {node.name: node for node in exported.graph.nodes}
        self._nodes = list(nodes)
        self.made = {node.name for node in nodes}
        self.activations: dict[Ref, None] = {}
        self._weights: dict[str, None] = {}
        self._sizes: dict[Ref, Node] = {}

    def take(self, outputs: Sequence[Ref]) -> "_Draft":
        """Find out what comes from outside: tensors first, since sizes are then read off them."""
        outside = [ref for node in self._nodes for ref in node.references() if ref.name not in self.made]
        outside += [ref for ref in outputs if ref.name not in self.made]
        for ref in outside:
            if not self._is_size(ref):
                self._take_tensor(ref)
        for ref in outside:
            if self._is_size(ref):
                self._take_size(ref)
        self.activations = dict.fromkeys(sorted(self.activations, key=self._order))
        return self

    def part(self, outputs: tuple[Ref, ...]) -> Part:
        described = [self._exported.described[ref] for ref in self.activations]
        described += [self._exported.described[Ref(name)] for name in self._weights]
        renamed = {ref: Ref(self._exported.described[ref].name) for ref in self.activations}
        graph = TaskGraph(
            inputs=tuple(described),
            nodes=tuple(_renamed_node(node, renamed) for node in (*self._sizes.values(), *self._nodes)),
            outputs=tuple(renamed.get(ref, ref) for ref in outputs),
        )
        return Part(graph, tuple(self.activations), tuple(self._weights), outputs)

    def _order(self, ref: Ref) -> tuple[bool, int]:
        """What earlier parts made comes first, in the order in which they give it; then inputs of the whole."""
        return ref.name not in self._whole, list(self._exported.described).index(ref)

    def _is_size(self, ref: Ref) -> bool:
        node = self._whole.get(ref.name)
        return node is not None and node.operator.result is Result.SIZE

    def _take_tensor(self, ref: Ref) -> None:
        if self._exported.described[ref].is_weights:
            self._weights[ref.name] = None
        else:
            self.activations[ref] = None

    def _take_size(self, ref: Ref) -> None:
        """Compute a size of an earlier part again: arithmetic node by node, a length off a tensor at hand."""
        if ref in self._sizes:
            return
        node = self._whole[ref.name]
        if node.operator.name == "size.of":
            node = self._read_off(node)
        else:
            for operand in node.references():
                self._take_size(operand)
        self._sizes[ref] = node

    def _read_off(self, node: Node) -> Node:
        source, dim = node.arguments["self"], node.arguments["dim"]
        assert isinstance(source, Ref) and isinstance(dim, int)
        length = self._exported.described[source].shape[dim]
        inputs = [Ref(given.name) for given in self._exported.graph.inputs if not given.is_weights]
        for ref in (*self.activations, *inputs, source):
            shape = self._exported.described[ref].shape
            if length in shape:
                self._take_tensor(ref)
                return replace(node, arguments={"self": ref, "dim": shape.index(length)})
        raise AssertionError("the source itself has that length")


def _renamed_node(node: Node, renamed: Mapping[Ref, Ref]) -> Node:
    if not any(ref in renamed for ref in node.references()):
        return node
    return replace(node, arguments={name: _renamed(value, renamed) for name, value in node.arguments.items()})


def _renamed(value: Argument, renamed: Mapping[Ref, Ref]) -> Argument:
    if isinstance(value, Ref):
        return renamed.get(value, value)
    if isinstance(value, tuple):
        return tuple(_renamed(element, renamed) for element in value)
    return value


def crossing(graph: TaskGraph) -> list[set[Ref]]:
    """For each position from 0 to the number of nodes: the tensors made before it and needed from it on."""
    made = {node.name: place for place, node in enumerate(graph.nodes) if node.operator.result is not Result.SIZE}
    last: dict[Ref, int] = {}
    for place, node in enumerate(graph.nodes):
        last.update((ref, place) for ref in node.references() if ref.name in made)
    last.update((ref, len(graph.nodes)) for ref in graph.outputs if ref.name in made)
    crossings: list[set[Ref]] = [set() for _ in range(len(graph.nodes) + 1)]
    for ref, end in last.items():
        for position in range(made[ref.name] + 1, end + 1):
            crossings[position].add(ref)
    return crossings
