"""From a torch module to pieces: each a model package and its weights, to be run one after the other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from compute.graph.cost import node_cost
from compute.graph.document import graph_to_json, parse_graph
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.graph.task_graph import TaskGraph
from compute.specs import TensorSpec
from requester.cut import Part, crossing, cut_graph
from requester.export import Exported, export_model
from shared.errors import CannotSplit
from shared.uris import MAX_URIS

MAX_PACKAGE_BYTES = 1 << 20
MAX_NODES = 20_000
BALANCE = 0.25
"""A cut may lie this part of a piece's share of the cost beside the even one, to cross where little crosses."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a model, as a task runs it.

    `package` is the canonical document of `graph`, `package_id` its SHA-256 in hex, which is the modelId. The
    graph's inputs are `activations` and then the names of `weights`, both in order. An activation is an input of
    the whole model or an output of an earlier piece, under the same name there.
    """

    graph: TaskGraph
    package: bytes
    package_id: str
    activations: tuple[str, ...]
    weights: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]


def split_model(
    module: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    dynamic_shapes: object = None,
    *,
    cut_points: Sequence[str] = (),
    pieces: int = 1,
) -> list[Piece]:
    """Export `module` with torch.export and cut it, after the modules at the paths `cut_points`, or into `pieces`.

    The example inputs give dtypes and ranks; `dynamic_shapes` says, as for torch.export.export, which lengths may
    vary. With `pieces`, the cuts make pieces of about the same cost on the example's shapes.

    Raises CannotSplit (a cut that is no module's path, crosses too much, or leaves a piece empty; a model that is
    not a pure function of tensors) and OperatorNotAllowed (names operator and node).
    """
    exported = export_model(module, example_inputs, dynamic_shapes)
    if cut_points:
        positions = [_after_module(exported, path) for path in cut_points]
    else:
        positions = _even_cuts(exported, example_inputs, pieces)
    bounds = [0, *positions, len(exported.graph.nodes)]
    if any(begin >= end for begin, end in pairwise(bounds)):
        raise CannotSplit(
            f"the cuts {list(cut_points) or pieces} leave a piece without nodes, or are not in order"
        )
    return [_piece(part, exported) for part in cut_graph(exported, positions)]


def _piece(part: Part, exported: Exported) -> Piece:
    package = graph_to_json(part.graph)
    # What the node would refuse is refused here, before anything is published or paid for.
    parse_graph(package, max_bytes=MAX_PACKAGE_BYTES, max_nodes=MAX_NODES)
    uris = len(part.activations) + bool(part.weights)
    if uris > MAX_URIS:
        named = ", ".join(exported.described[ref].name for ref in part.activations)
        raise CannotSplit(f"a piece would take {uris} URIs, at most {MAX_URIS} are allowed; it takes {named}")
    return Piece(
        graph=part.graph,
        package=package,
        package_id=hashlib.sha256(package).hexdigest(),
        activations=tuple(exported.described[ref].name for ref in part.activations),
        weights={name: exported.weights[name] for name in part.weights},
        outputs=tuple(exported.described[ref].name for ref in part.outputs),
    )


def _after_module(exported: Exported, path: str) -> int:
    """The position after the last node that stands in the module at `path`."""
    inside = [
        place
        for place, node in enumerate(exported.graph.nodes)
        if exported.modules[node.name] == path or exported.modules[node.name].startswith(path + ".")
    ]
    if not inside:
        known = ", ".join(sorted({name for name in exported.modules.values() if name}))
        raise CannotSplit(f"no node stands in a module {path!r}; there are {known[:2000]}")
    return inside[-1] + 1


def _even_cuts(exported: Exported, example_inputs: Sequence[torch.Tensor], pieces: int) -> list[int]:
    """Positions that give `pieces` pieces of about the same cost, each where the fewest bytes cross nearby."""
    graph = exported.graph
    if not 1 <= pieces <= max(1, len(graph.nodes)):
        raise CannotSplit(f"{pieces} pieces of a graph with {len(graph.nodes)} nodes are not possible")
    tensors = [*example_inputs, *(exported.weights[given.name] for given in graph.inputs if given.is_weights)]
    specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in tensors]
    inference = infer(graph, specs, max_bytes=2**63)
    before = [0]
    for node in graph.nodes:
        before.append(before[-1] + node_cost(node, inference))
    crossing_bytes = [sum(inference.spec(ref).nbytes for ref in refs) for refs in crossing(graph)]
    positions: list[int] = []
    for number in range(1, pieces):
        even = before[-1] * number / pieces
        lowest = positions[-1] + 1 if positions else 1
        allowed = range(lowest, len(graph.nodes) - (pieces - number) + 1)
        near = [place for place in allowed if abs(before[place] - even) <= BALANCE * before[-1] / pieces]
        positions.append(
            min(near, key=lambda place: (crossing_bytes[place], abs(before[place] - even)))
            if near
            else min(allowed, key=lambda place: abs(before[place] - even))
        )
    return positions
