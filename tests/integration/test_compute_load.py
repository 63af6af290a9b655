"""Small tasks of two requesters, run beside each other and beside long ones, give the bytes that each gives alone."""

import random
import struct

import pytest

from tests.integration.compute_process import REQUESTER, compute_process
from tests.integration.compute_tasks import call, chain_of_products, floats, ref, request, tensor

REQUESTERS = (REQUESTER, "SysvarRent111111111111111111111111111111111")
ROUNDS = 2
SIDES = (31, 200)
SCORES = call("scores", "aten.mm.default", self=ref("x"), mat2=ref("w"))
TASKS = {
    # What torch shares among threads: products, sums of rows and of all, a function of each element.
    "attention": [
        call("q", "aten.unsqueeze.default", self=ref("scores"), dim=0),
        call("n", "aten.scaled_dot_product_attention.default", query=ref("q"), key=ref("q"), value=ref("q")),
    ],
    "layers": [
        call("gelu", "aten.gelu.default", self=ref("scores")),
        call("n", "aten.mm.default", self=ref("gelu"), mat2=ref("w")),
    ],
    "softmax": [call("n", "aten.softmax.int", self=ref("scores"), dim=-1)],
    "total": [
        call("exp", "aten.exp.default", self=ref("x")),
        call("sum", "aten.sum.default", self=ref("exp")),
        call("n", "aten.add.Tensor", self=ref("scores"), other=ref("sum")),
    ],
    "running": [call("n", "aten.cumsum.default", self=ref("scores"), dim=1)],
}


@pytest.fixture
def compute(tmp_path):
    # Two threads for each run, so that what is shared among them is; two places for long tasks, two for small ones.
    with compute_process(tmp_path, threads=2, max_running=4, max_in_work=8) as running:
        yield running


@pytest.mark.timeout(300)
def test_small_tasks_of_two_requesters_give_the_same_bytes_under_load_as_alone(compute):
    small = [put_task(compute, name, side) for name in TASKS for side in SIDES]
    alone = []
    for model_id, inputs in small:
        task = request(model_id, inputs)
        compute.post(task)
        alone.append(output_hash(compute, task))
    assert len(set(alone)) == len(small)

    matrix = compute.put_tensor("zeros", floats(1024, 1024), bytes(1024 * 1024 * 4), folder="public")
    product = compute.put_package(chain_of_products(3_000), folder="public")
    long = [request(product, [matrix], requester=each) for each in REQUESTERS]
    for task in long:
        compute.post(task)
    for task in long:
        compute.reach(task, "running")
    drawn = [(place, each) for place in range(len(small)) for each in REQUESTERS] * ROUNDS
    random.Random(0).shuffle(drawn)
    beside = [(place, request(*small[place], requester=each)) for place, each in drawn]
    for _, task in beside:
        assert compute.post(task).status_code == 202
    for place, task in beside:
        assert output_hash(compute, task) == alone[place], f"{small[place]} of {task['requester']}"
    # Each of the long tasks is a thousand times as much work as all small ones together.
    for task in long:
        assert compute.status(task).json()["stage"] == "running"
        compute.delete(task)


def put_task(compute, name: str, side: int) -> tuple[str, list[str]]:
    """A model and its inputs, where every requester may read them."""
    graph = {
        "inputs": [tensor("x", ["n", "n"]), tensor("w", ["n", "n"])],
        "nodes": [SCORES, *TASKS[name]],
        "outputs": [ref("n")],
    }
    rng = random.Random(side)
    uris = []
    for given in ("x", "w"):
        numbers = [rng.gauss(0, 1) for _ in range(side * side)]
        data = struct.pack(f"<{side * side}f", *numbers)
        uris.append(compute.put_tensor(f"{given}{side}", floats(side, side), data, folder="public"))
    return compute.put_package(graph, folder="public"), uris


def output_hash(compute, task) -> str:
    """An output object's name is the SHA-256 of its bytes."""
    status = compute.ended(task)
    assert status["stage"] == "done", status
    (uri,) = status["result"]["outputUris"]
    return uri.rpartition("/")[2]
