"""A model package: the JSON document of a task graph, read strictly, written in one canonical way.

docs/task-graph.md specifies the format.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence

from compute.graph.arguments import (
    argument_to_json,
    parse_argument,
    parse_dtype,
    parse_ref,
    ref_to_json,
    shown,
)
from compute.graph.operator import Result
from compute.graph.operators import OPERATORS
from compute.graph.task_graph import Argument, GraphInput, Node, Ref, TaskGraph
from compute.specs import MAX_DIMENSIONS, MAX_ELEMENTS, TensorSpec
from compute.strict_json import NotStrictJson, parse_strict_json
from shared.errors import GraphInvalid, InputMismatch, OperatorNotAllowed, TooLarge

FORMAT = "splitup-task-graph"
VERSION = 1
MAX_INPUTS = 4096
MAX_OUTPUTS = 255

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_DOCUMENT = frozenset({"format", "version", "inputs", "nodes", "outputs"})
_INPUT = frozenset({"name", "dtype", "shape", "isWeights"})
_NODE = frozenset({"name", "op", "args"})


def parse_graph(data: bytes, *, max_bytes: int, max_nodes: int) -> TaskGraph:
    """Read a model package.

    Raises TooLarge (more bytes or nodes than allowed), OperatorNotAllowed (names the operator and the node) and
    GraphInvalid (everything else, with the place). What it returns names only allowlisted operators, each with
    arguments of the right kinds, and refers only backwards; shapes are checked by compute/graph/shapes.py.
    """
    if len(data) > max_bytes:
        raise TooLarge(f"the package has {len(data)} bytes; at most {max_bytes} are allowed")
    try:
        document = parse_strict_json(data)
    except NotStrictJson as exc:
        raise GraphInvalid(f"the package is not strict JSON: {exc}") from exc
    members = _object(document, "the package", _DOCUMENT)
    if members["format"] != FORMAT or members["version"] != VERSION or type(members["version"]) is not int:
        given = f"{shown(members['format'])} {shown(members['version'])}"
        raise GraphInvalid(f"the package is {given}; this node reads {FORMAT} {VERSION}")
    inputs = _inputs(_array(members["inputs"], "inputs", MAX_INPUTS))
    scope = {given.name: Result.TENSOR for given in inputs}
    nodes = _array(members["nodes"], "nodes", max_nodes)
    calls = tuple(_node(node, place, scope) for place, node in enumerate(nodes))
    return TaskGraph(inputs, calls, _outputs(_array(members["outputs"], "outputs", MAX_OUTPUTS), scope))


def graph_to_json(graph: TaskGraph) -> bytes:
    """The canonical bytes: the same graph gives the same bytes, and so the same hash."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "inputs": [_input_to_json(given) for given in graph.inputs],
        "nodes": [_node_to_json(node) for node in graph.nodes],
        "outputs": [ref_to_json(ref) for ref in graph.outputs],
    }
    return json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def bind_inputs(graph: TaskGraph, specs: Sequence[TensorSpec]) -> dict[str, int]:
    """The length of each symbolic dimension, as the tensors in `specs` give it.

    Raises InputMismatch where they disagree with the graph's inputs in number, dtype or shape, naming the
    input, what the graph expects and what was given.
    """
    if len(specs) != len(graph.inputs):
        raise InputMismatch(f"the graph has {len(graph.inputs)} inputs, but {len(specs)} tensors were given")
    lengths: dict[str, int] = {}
    for place, (expected, given) in enumerate(zip(graph.inputs, specs, strict=True)):
        what = f"input {place} ({expected.name}) is {given}, but the graph expects {expected}"
        if expected.dtype != given.dtype or len(expected.shape) != len(given.shape):
            raise InputMismatch(what)
        for wanted, length in zip(expected.shape, given.shape, strict=True):
            bound = lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted
            if bound != length:
                raise InputMismatch(what + (f" with {wanted} = {bound}" if isinstance(wanted, str) else ""))
    return lengths


def _object(
    value: object, what: str, members: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict) or not members - optional <= value.keys() <= members:
        raise GraphInvalid(f"{what} must be an object with {', '.join(sorted(members))}, not {shown(value)}")
    return value


def _array(value: object, what: str, most: int) -> list[object]:
    if not isinstance(value, list):
        raise GraphInvalid(f"{what} must be an array, not {shown(value)}")
    if len(value) > most:
        raise TooLarge(f"{what} has {len(value)} elements; at most {most} are allowed")
    return value


def _inputs(values: list[object]) -> tuple[GraphInput, ...]:
    inputs = tuple(_input(value, f"input {place}") for place, value in enumerate(values))
    names = [given.name for given in inputs]
    if len(set(names)) != len(names):
        raise GraphInvalid(f"two inputs have the name {Counter(names).most_common(1)[0][0]}")
    return inputs


def _input(value: object, what: str) -> GraphInput:
    members = _object(value, what, _INPUT, optional=frozenset({"isWeights"}))
    is_weights = members.get("isWeights", False)
    if type(is_weights) is not bool:
        raise GraphInvalid(f"{what}: isWeights must be true or false, not {shown(is_weights)}")
    try:
        dtype = parse_dtype(members["dtype"])
    except GraphInvalid as exc:
        raise GraphInvalid(f"{what}: {exc}") from exc
    return GraphInput(_name(members["name"], what), dtype, _shape(members["shape"], what), is_weights)


def _shape(value: object, what: str) -> tuple[int | str, ...]:
    return tuple(_length(length, what) for length in _array(value, f"{what}: shape", MAX_DIMENSIONS))


def _length(value: object, what: str) -> int | str:
    if isinstance(value, str):
        return _name(value, f"{what}: shape")
    if type(value) is not int or not 0 <= value <= MAX_ELEMENTS:
        raise GraphInvalid(f"{what}: {shown(value)} is no length: a whole number or the name of a dimension is")
    return value


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise GraphInvalid(f"{what}: {shown(value)} is no name: 1 to 128 characters of A-Z a-z 0-9 _ . -")
    return value


def _node(value: object, place: int, scope: dict[str, Result]) -> Node:
    """Read one node and add what it gives to `scope`."""
    members = _object(value, f"node {place}", _NODE)
    name = _name(members["name"], f"node {place}")
    if name in scope:
        raise GraphInvalid(f"node {place}: the name {name} is taken by an input or an earlier node")
    operator = OPERATORS.get(members["op"]) if isinstance(members["op"], str) else None
    if operator is None:
        raise OperatorNotAllowed(f"operator {shown(members['op'])} of node {name} is not in the allowlist")
    given = members["args"]
    if not isinstance(given, dict):
        raise GraphInvalid(f"node {name} ({operator.name}): args must be an object, not {shown(given)}")
    for unknown in given.keys() - operator.parameters.keys():
        raise GraphInvalid(f"node {name} ({operator.name}): there is no argument {shown(unknown)}")
    arguments: dict[str, Argument] = {}
    for parameter in operator.parameters.values():
        if parameter.name in given:
            try:
                arguments[parameter.name] = parse_argument(given[parameter.name], parameter, scope)
            except GraphInvalid as exc:
                raise GraphInvalid(f"node {name} ({operator.name}), argument {parameter.name}: {exc}") from exc
        elif parameter.required:
            raise GraphInvalid(f"node {name} ({operator.name}): the argument {parameter.name} is missing")
    scope[name] = operator.result
    return Node(name, operator, arguments)


def _outputs(values: list[object], scope: dict[str, Result]) -> tuple[Ref, ...]:
    if not values:
        raise GraphInvalid("the package has no outputs")
    try:
        return tuple(parse_ref(value, scope, Result.TENSOR) for value in values)
    except GraphInvalid as exc:
        raise GraphInvalid(f"outputs: {exc}") from exc


def _input_to_json(given: GraphInput) -> dict[str, object]:
    members: dict[str, object] = {"name": given.name, "dtype": given.dtype, "shape": list(given.shape)}
    return members | {"isWeights": True} if given.is_weights else members


def _node_to_json(node: Node) -> dict[str, object]:
    arguments = {name: argument_to_json(value) for name, value in node.arguments.items()}
    return {"name": node.name, "op": node.operator.name, "args": arguments}
