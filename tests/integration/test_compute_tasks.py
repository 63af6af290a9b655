import hashlib
import struct

import pytest

from tests.integration.compute_process import REQUESTER, compute_process
from tests.integration.compute_tasks import add_task


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    with compute_process(tmp_path_factory.mktemp("compute")) as running:
        yield running


def test_a_task_is_computed_and_its_output_stored_where_the_protocol_says(compute):
    task = add_task(compute)
    answer = compute.post(task)
    assert answer.status_code == 202
    assert answer.json() == {
        "executionId": task["executionId"],
        "taskId": task["taskId"],
        "accepted": True,
    }
    status = compute.ended(task)
    assert status["stage"] == "done", status
    assert [stage["stage"] for stage in status["stages"]] == [
        "queued",
        "fetching",
        "running",
        "storing",
        "done",
    ]
    assert status["computeUnits"] == 1
    (uri,) = status["result"]["outputUris"]
    folder = compute.outputs / REQUESTER / task["executionId"] / task["taskId"]
    (path,) = folder.iterdir()
    data = path.read_bytes()
    assert uri == f"file://{path}"
    assert path.name == hashlib.sha256(data).hexdigest() + ".safetensors"
    assert struct.unpack("<3f", data[-12:]) == (11, 22, 33)
