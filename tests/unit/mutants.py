"""Mutants of a task graph's document: the kinds of harm that a stranger's package may carry, drawn from a seed.

Half of them are wrong as documents; the others are well formed and wrong, or extreme, in what they compute.
"""

import copy
import json
import random
from collections.abc import Callable

from compute.graph.operator import Kind, Parameter, Result
from compute.graph.operators import OPERATORS
from compute.specs import DType
from tests.unit.graphs import Document

INTS = [0, 1, -1, 2, 3, 7, -3, 64, 4096, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]
NUMBERS: list[object] = [*INTS, 0.5, -2.5, 1e308, 1e-45, "inf", "-inf", True]
JUNK: list[object] = [
    None, True, 2**63, 0.5, "nan", "complex64", "x", "", [], [[1]], [1] * 70, {}, {"ref": "absent"}, {"ref": 0},
]  # fmt: skip
Draw = Callable[[random.Random], object]


def mutant(original: Document, rng: random.Random) -> bytes:
    """One to three changes of structure, and in a tenth of all cases one changed byte."""
    changed = copy.deepcopy(original)
    for _ in range(rng.randint(1, 3)):
        rng.choice(_CHANGES)(changed, rng)
    data = bytearray(json.dumps(changed).encode())
    if rng.random() < 0.1:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _reference(doc: Document, place: int, wanted: Result, rng: random.Random) -> object:
    """A reference to something that stands before node `place` and is, mostly, of the wanted sort."""
    given = [(entry["name"], Result.TENSOR) for entry in doc["inputs"]]
    given += [(n["name"], OPERATORS[n["op"]].result) for n in doc["nodes"][:place] if n["op"] in OPERATORS]
    fitting = [pair for pair in given[-30:] if pair[1] is not (Result.SIZE if wanted is Result.TENSOR else None)]
    if not given:
        return {"ref": "absent"}
    sizes = [pair for pair in given if pair[1] is Result.SIZE]
    name, result = rng.choice(sizes if wanted is Result.SIZE and sizes else fitting or given)
    return {"ref": name} | ({"item": rng.randrange(3)} if result is Result.TENSORS else {})


def _typed(parameter: Parameter, doc: Document, place: int, rng: random.Random) -> object:
    """A value of the parameter's kind, ordinary or extreme."""

    def a_tensor(rng: random.Random) -> object:
        return _reference(doc, place, Result.TENSOR, rng)

    def an_int(rng: random.Random) -> object:
        return _reference(doc, place, Result.SIZE, rng) if rng.random() < 0.1 else rng.choice(INTS)

    def several(draw: Draw) -> Draw:
        return lambda rng: [draw(rng) for _ in range(rng.choice((0, 1, 2, 2, 3, 4)))]

    def small(rng: random.Random) -> object:
        return rng.randrange(-3, 6)

    draws: dict[Kind, Draw] = {
        Kind.TENSOR: a_tensor,
        Kind.TENSORS: several(a_tensor),
        Kind.INDICES: several(lambda rng: None if rng.random() < 0.3 else a_tensor(rng)),
        Kind.INT: rng.choice((an_int, small)),
        Kind.INTS: several(rng.choice((an_int, small))),
        Kind.SIZE: several(rng.choice((an_int, small))),
        Kind.FLOAT: lambda rng: rng.choice(NUMBERS),
        Kind.FLOATS: several(lambda rng: rng.choice(NUMBERS)),
        Kind.NUMBER: lambda rng: rng.choice(NUMBERS),
        Kind.BOOL: lambda rng: rng.random() < 0.5,
        Kind.DTYPE: lambda rng: rng.choice(list(DType)),
        Kind.CHOICE: lambda rng: rng.choice(sorted(parameter.choices)),
    }
    return rng.choice(JUNK) if rng.random() < 0.05 else draws[parameter.kind](rng)


def _draw_node(doc: Document, rng: random.Random) -> tuple[int, Document]:
    place = rng.randrange(len(doc["nodes"]))
    return place, doc["nodes"][place]


def _change_argument(doc: Document, rng: random.Random) -> None:
    place, chosen = _draw_node(doc, rng)
    if chosen["op"] in OPERATORS:
        parameter = rng.choice(list(OPERATORS[chosen["op"]].parameters.values()))
        chosen["args"][parameter.name] = _typed(parameter, doc, place, rng)


def _change_element(doc: Document, rng: random.Random) -> None:
    _, chosen = _draw_node(doc, rng)
    lists = [value for value in chosen["args"].values() if isinstance(value, list) and value]
    if lists:
        elements = rng.choice(lists)
        elements[rng.randrange(len(elements))] = rng.choice(INTS)


def _change_operator(doc: Document, rng: random.Random) -> None:
    place, chosen = _draw_node(doc, rng)
    chosen["op"] = rng.choice(list(OPERATORS))
    parameters = OPERATORS[chosen["op"]].parameters
    chosen["args"] = {
        name: _typed(parameter, doc, place, rng)
        for name, parameter in parameters.items()
        if parameter.required or rng.random() < 0.5
    }


def _junk_argument(doc: Document, rng: random.Random) -> None:
    _, chosen = _draw_node(doc, rng)
    chosen["args"][rng.choice([*chosen["args"], "out", "device"])] = copy.deepcopy(rng.choice(JUNK))


def _drop_argument(doc: Document, rng: random.Random) -> None:
    _, chosen = _draw_node(doc, rng)
    if chosen["args"]:
        chosen["args"].pop(rng.choice(list(chosen["args"])))


def _change_input(doc: Document, rng: random.Random) -> None:
    if not doc["inputs"]:
        return
    given = rng.choice(doc["inputs"])
    given[rng.choice(list(given))] = copy.deepcopy(rng.choice([*JUNK, *INTS, *DType]))


def _change_outputs(doc: Document, rng: random.Random) -> None:
    place = len(doc["nodes"])
    doc["outputs"] = [_reference(doc, place, Result.TENSOR, rng) for _ in range(rng.randrange(4))]


def _swap_nodes(doc: Document, rng: random.Random) -> None:
    nodes = doc["nodes"]
    one, other = rng.randrange(len(nodes)), rng.randrange(len(nodes))
    nodes[one], nodes[other] = nodes[other], nodes[one]


_CHANGES = (
    *(_change_argument,) * 4,
    *(_change_operator,) * 6,
    *(_change_element,) * 2,
    _junk_argument,
    _drop_argument,
    _change_input,
    _change_outputs,
    _swap_nodes,
)
