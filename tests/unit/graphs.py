"""Small task graphs for tests, as documents that a test can change before it is read."""

import json
from typing import Any

from compute.graph.document import parse_graph
from compute.graph.task_graph import TaskGraph

Document = dict[str, Any]
LIMITS = {"max_bytes": 1 << 20, "max_nodes": 20_000}


def ref(name: str, item: int | None = None) -> dict[str, object]:
    return {"ref": name} if item is None else {"ref": name, "item": item}


def tensor(name: str, shape: list[object], dtype: str = "float32", **more: object) -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape, **more}


def node(name: str, op: str, **args: object) -> dict[str, object]:
    return {"name": name, "op": op, "args": args}


def document(inputs: list[object], nodes: list[object], outputs: list[object]) -> Document:
    return {"format": "splitup-task-graph", "version": 1, "inputs": inputs, "nodes": nodes, "outputs": outputs}


def linear_document() -> Document:
    """x float32[rows, 3] times the transpose of w float32[4, 3], and a relu."""
    return document(
        [tensor("x", ["rows", 3]), tensor("w", [4, 3], isWeights=True)],
        [
            node("product", "aten.linear.default", input=ref("x"), weight=ref("w")),
            node("positive", "aten.relu.default", self=ref("product")),
        ],
        [ref("positive")],
    )


def as_bytes(doc: object) -> bytes:
    return json.dumps(doc).encode()


def read(doc: object) -> TaskGraph:
    return parse_graph(as_bytes(doc), **LIMITS)
