"""Tasks for the tests: a quick one, slow ones, and how their requests look."""

import itertools
import struct
from collections.abc import Callable

from compute.specs import DType, TensorSpec
from tests.integration.compute_process import REQUESTER, ComputeProcess, until

_numbers = itertools.count(1)


def floats(*shape: int) -> TensorSpec:
    return TensorSpec(DType.FLOAT32, shape)


def request(model_id: str, inputs: list[str], **members: object) -> dict[str, object]:
    number = next(_numbers)
    return {
        "executionId": f"execution-{number}",
        "taskId": f"task-{number}",
        "modelId": model_id,
        "inputUris": inputs,
        "outputCount": 1,
        "requester": REQUESTER,
        "attempt": 10,
        **members,
    }


def tensor(name: str, shape: list[int | str], dtype: str = "float32") -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape}


def call(name: str, op: str, **arguments: object) -> dict[str, object]:
    return {"name": name, "op": op, "args": arguments}


def ref(name: str) -> dict[str, object]:
    return {"ref": name}


ADD = {
    "inputs": [tensor("x", ["n"]), tensor("y", ["n"])],
    "nodes": [call("sum", "aten.add.Tensor", self=ref("x"), other=ref("y"))],
    "outputs": [ref("sum")],
}


def add_task(compute: ComputeProcess, **members: object) -> dict[str, object]:
    """[1, 2, 3] + [10, 20, 30]."""
    left = compute.put_tensor("left", floats(3), struct.pack("<3f", 1, 2, 3))
    right = compute.put_tensor("right", floats(3), struct.pack("<3f", 10, 20, 30), folder="public")
    return request(compute.put_package(ADD), [left, right], **members)


def chain_of_products(count: int) -> dict[str, object]:
    """`count` products of square matrices, one after the other."""
    names = ["x", *(f"p{number}" for number in range(count))]
    nodes = [
        call(name, "aten.mm.default", self=ref(before), mat2=ref("x"))
        for before, name in itertools.pairwise(names)
    ]
    return {"inputs": [tensor("x", ["n", "n"])], "nodes": nodes, "outputs": [ref(names[-1])]}


def slow_task(
    compute: ComputeProcess, side: int = 512, count: int = 3_000, **members: object
) -> dict[str, object]:
    """Many operators, each of milliseconds: runs for half a minute, and looks at its stop byte all the time."""
    matrix = compute.put_tensor(f"zeros{side}", floats(side, side), bytes(side * side * 4))
    return request(compute.put_package(chain_of_products(count)), [matrix], **members)


def deaf_task(compute: ComputeProcess, **members: object) -> dict[str, object]:
    """One operator that computes for many seconds and looks at nothing."""
    return slow_task(compute, side=6_000, count=1, **members)


def big_task(compute: ComputeProcess, side: int = 8_000, **members: object) -> dict[str, object]:
    """An output of 256 MB from small inputs: storing it takes a moment that a test can catch, see `storing`."""
    column = compute.put_tensor("column", floats(side, 1), bytes(side * 4))
    row = compute.put_tensor("row", floats(1, side), bytes(side * 4))
    graph = {
        "inputs": [tensor("x", ["n", 1]), tensor("y", [1, "m"])],
        "nodes": [call("sum", "aten.add.Tensor", self=ref("x"), other=ref("y"))],
        "outputs": [ref("sum")],
    }
    return request(compute.put_package(graph), [column, row], **members)


def storing(compute: ComputeProcess, big: Callable[[], dict[str, object]]) -> dict[str, object]:
    """A task whose output is being stored just now. A busy machine may miss the moment: then it is another one."""
    for _ in range(5):
        task = big()
        compute.post(task)
        seen: list[str] = []

        def is_computed() -> bool:
            seen.append(compute.status(task).json()["stage"])  # noqa: B023 # asked at once
            return seen[-1] in ("storing", "done", "failed")  # noqa: B023

        until(is_computed, "it is computed")
        if seen[-1] == "storing":
            return task
        assert compute.delete(task, acknowledge="unpaid").status_code == 204
    raise AssertionError("no output was seen being stored")
