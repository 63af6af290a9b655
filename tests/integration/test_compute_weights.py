"""Weights of 40 MB each in the memory of the real process. What it reads of storage is told by the kernel."""

import struct
from pathlib import Path

import pytest

from compute.safetensors_header import encode_header
from tests.integration.compute_process import REQUESTER, ComputeProcess
from tests.integration.compute_tasks import call, floats, ref, request, tensor
from tests.written import write_settled

OTHER_REQUESTER = "4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q"
SPEC = floats(2_500, 4_000)
BUDGET_BYTES = 128 << 20
FEW_BYTES = 1 << 20
"""More than headers, package and outputs of a task."""

FIRST_OF_THREE_ROWS = {
    "inputs": [tensor("w", ["n", "m"])],
    "nodes": [
        call("row", "aten.select.int", self=ref("w"), dim=0, index=0),
        call("first", "aten.slice.Tensor", self=ref("row"), dim=0, start=0, end=3),
        call("sum", "aten.add.Tensor", self=ref("first"), other=ref("first")),
    ],
    "outputs": [ref("sum")],
}


def put_weights(compute: ComputeProcess, name: str, folder: str = REQUESTER, value: float = 1) -> str:
    path = compute.tensors / folder / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    header = encode_header([("0", SPEC)], {"isWeights": "true"})
    write_settled(path, header + struct.pack("<f", value) + bytes(SPEC.nbytes - 4))
    return f"file://{path}"


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    made = ComputeProcess(tmp_path_factory.mktemp("compute"), weights_cache_bytes=BUDGET_BYTES)
    uri = put_weights(made, "preloaded", "public", 7)
    try:
        made.start(preload=uri)
        made.ready()
        yield made
    finally:
        made.http.close()
        made.kill()


def computed(compute: ComputeProcess, uri: str, requester: str = REQUESTER) -> tuple[float, int]:
    """Twice the first of the weights, and bytes that the process read meanwhile."""
    model_id = compute.put_package(FIRST_OF_THREE_ROWS)
    package = compute.tensors / REQUESTER / f"{model_id}.json"
    (compute.tensors / "public" / package.name).write_bytes(package.read_bytes())
    task = request(model_id, [uri], requester=requester)
    before = bytes_read(compute)
    assert compute.post(task).status_code == 202
    status = compute.ended(task)
    assert status["stage"] == "done", status
    read = bytes_read(compute) - before
    (output,) = status["result"]["outputUris"]
    return struct.unpack("<3f", Path(output.removeprefix("file://")).read_bytes()[-12:])[0], read


def bytes_read(compute: ComputeProcess) -> int:
    lines = Path(f"/proc/{compute.process.pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))


def shared_bytes(compute: ComputeProcess) -> int:
    lines = Path(f"/proc/{compute.process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssShmem:"))) << 10


def test_preloaded_weights_are_in_memory_before_the_process_is_ready(compute):
    value, read = computed(compute, f"file://{compute.tensors}/public/preloaded.safetensors")
    assert value == 14
    assert read < FEW_BYTES


def test_a_second_task_reads_no_weights_from_storage_whoever_may_read_them(compute):
    uri = put_weights(compute, "shared", "public", 3)
    value, read = computed(compute, uri)
    assert value == 6
    assert read >= SPEC.nbytes
    for requester in (REQUESTER, OTHER_REQUESTER):
        value, read = computed(compute, uri, requester)
        assert value == 6
        assert read < FEW_BYTES


def test_weights_that_changed_under_their_uri_are_read_anew(compute):
    uri = put_weights(compute, "changing", value=3)
    assert computed(compute, uri)[0] == 6
    put_weights(compute, "changing", value=4)
    value, read = computed(compute, uri)
    assert value == 8
    assert read >= SPEC.nbytes


def test_the_uri_of_anothers_folder_is_refused_though_its_weights_lie_in_memory(compute):
    uri = put_weights(compute, "secret")
    computed(compute, uri)
    answer = compute.post(request("0" * 64, [uri], requester=OTHER_REQUESTER))
    assert (answer.status_code, answer.json()["type"]) == (422, "input-forbidden")


def test_one_requester_neither_fills_the_budget_nor_pushes_out_anothers(compute):
    others = put_weights(compute, "others", OTHER_REQUESTER)
    computed(compute, others, OTHER_REQUESTER)
    for number in range(4):
        computed(compute, put_weights(compute, f"many{number}"))
        assert shared_bytes(compute) < BUDGET_BYTES + FEW_BYTES
    assert computed(compute, others, OTHER_REQUESTER)[1] < FEW_BYTES
    value = compute.http.get("/ready").json()["checks"]["weights"]["value"]
    assert value == "3 held, 114 MiB of 128 MiB"
