"""What a worker says, where the worker is in a stranger's hands."""

import array
import json
import os
import socket

import pytest

from compute.specs import DType, TensorSpec
from compute.worker.answers import Answer, Greeting, parse_answer, parse_plan, receive_answer
from compute.worker.plans import MAX_PLANS, PlanCache
from compute.worker.tenants import tenant_of
from compute.worker.wire import MAX_PACKET_BYTES, Job, Plan, encode_job, encode_plan, framed
from shared.errors import ComputationFailed, OutOfMemory

PLAN = Plan((TensorSpec(DType.FLOAT32, (2, 3)),), 7, 48)


def floats(length: int) -> TensorSpec:
    return TensorSpec(DType.FLOAT32, (length,))


def test_an_answer_is_a_number_and_perhaps_an_error() -> None:
    assert parse_answer(b'{"number": 3}') == Answer(3)
    answer = parse_answer(b'{"number": 3, "error": ["OutOfMemory", "no room"]}')
    assert isinstance(answer, Answer) and isinstance(answer.error, OutOfMemory)
    assert str(answer.error) == "no room"


def test_a_greeting_says_where_tensors_lie_whatever_the_device_is_called() -> None:
    told = {"device": "cpu-like cuda:0", "onHost": False, "sandbox": {"held": [], "gaps": {}}, "freeBytes": 7}
    greeting = parse_answer(json.dumps(told).encode())
    assert isinstance(greeting, Greeting) and not greeting.on_host
    assert greeting.free_bytes == 7
    greeting = parse_answer(json.dumps(told | {"freeBytes": None}).encode())
    assert isinstance(greeting, Greeting) and greeting.free_bytes is None


def test_a_probe_tells_what_the_device_has_free() -> None:
    assert parse_answer(b'{"number": 3, "freeBytes": 7}') == Answer(3, None, 7)


def test_an_error_of_no_known_kind_is_a_failed_computation_in_printable_words() -> None:
    answer = parse_answer(json.dumps({"number": 1, "error": ["SystemExit", "\x1b[2J\u202e\n"]}).encode())
    assert isinstance(answer, Answer) and isinstance(answer.error, ComputationFailed)
    assert str(answer.error) == r"\x1b[2J\u202e\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{}",
        b'{"number": true}',
        b'{"number": 1.0}',
        b'{"number": -1}',
        b'{"number": 1, "number": 2}',
        b'{"number": 1, "outputs": []}',
        b'{"number": 1, "error": "no"}',
        b'{"number": 1, "error": ["OutOfMemory"]}',
        b'{"number": 1, "error": ["OutOfMemory", 5]}',
        b'{"number": 1, "freeBytes": -1}',
        b'{"number": 1, "freeBytes": null}',
        b'{"device": "cpu", "onHost": true, "sandbox": {"held": [], "gaps": {"courage": "none"}}, "freeBytes": null}',
        b'{"device": "cpu", "onHost": 1, "sandbox": {"held": [], "gaps": {}}, "freeBytes": null}',
        b'{"device": "cpu", "onHost": false, "sandbox": {"held": [], "gaps": {}}, "freeBytes": 1.5}',
        b'{"device": "cpu", "sandbox": {"held": [], "gaps": {}}, "freeBytes": null}',
        b'{"device": "cpu", "onHost": true, "sandbox": {"held": [], "gaps": {}}}',
        b'{"number": NaN}',
        b"\xff",
        b"[" * 60_000,
        json.dumps({"number": 1, "error": ["OutOfMemory", "x" * 5_000]}).encode(),
    ],
)
def test_what_no_worker_says_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_answer(said)


def test_a_plan_crosses_unchanged() -> None:
    assert parse_plan(memoryview(encode_plan(PLAN) + bytes(100))) == PLAN


@pytest.mark.parametrize(
    "told",
    [
        {"outputs": [], "computeUnits": 1},
        {"outputs": [], "computeUnits": 1, "peakBytes": -1},
        {"outputs": [], "computeUnits": "1", "peakBytes": 1},
        {"outputs": [["float32", [-1]]], "computeUnits": 1, "peakBytes": 1},
        {"outputs": [["float32", [1 << 40]]], "computeUnits": 1, "peakBytes": 1},
        {"outputs": [["float32", [1] * 65]], "computeUnits": 1, "peakBytes": 1},
        {"outputs": [["complex64", [1]]], "computeUnits": 1, "peakBytes": 1},
        {"outputs": [["float32", []]] * 256, "computeUnits": 1, "peakBytes": 1},
    ],
)
def test_a_plan_that_no_planner_makes_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_plan(memoryview(framed(told)))


def test_a_plan_longer_than_its_room_is_refused() -> None:
    with pytest.raises(ValueError, match="are said to lie"):
        parse_plan(memoryview((1 << 40).to_bytes(8, "little") + b"{}"))


def test_descriptors_that_a_worker_sends_are_closed_and_long_packets_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reading, writing = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))]
        theirs.sendmsg([b'{"number": 1}'], rights)
        os.close(writing)
        assert receive_answer(ours) == b'{"number": 1}'
        assert os.read(reading, 1) == b"", "nobody holds the other end"
        os.close(reading)
        theirs.send(bytes(MAX_PACKET_BYTES + 1))
        with pytest.raises(ValueError, match="longer than"):
            receive_answer(ours)


def test_plans_are_kept_by_tenant_and_job_and_the_oldest_go_first() -> None:
    plans = PlanCache()
    jobs = [encode_job(Job(b"package", ((floats(length),),))) for length in range(MAX_PLANS + 1)]
    for job in jobs[:-1]:
        plans.keep("one", job, PLAN)
    assert plans.get("one", jobs[0]) == PLAN
    plans.keep("one", jobs[-1], PLAN)
    assert plans.get("one", jobs[0]) == PLAN, "it was used after the next one"
    assert plans.get("one", jobs[1]) is None
    assert plans.get("one", encode_job(Job(b"another", ((floats(0),),)))) is None
    assert plans.get("another", jobs[0]) is None, "whose planner may have lied"


def test_inputs_grouped_otherwise_are_another_job() -> None:
    plans = PlanCache()
    plans.keep("one", encode_job(Job(b"package", ((floats(1), floats(2)),))), PLAN)
    assert plans.get("one", encode_job(Job(b"package", ((floats(1),), (floats(2),))))) is None


def test_plans_of_many_dimensions_are_bounded_by_their_bytes() -> None:
    plans = PlanCache()
    large = Plan((TensorSpec(DType.FLOAT32, (1,) * 64),) * 255, 1, 1)
    for number in range(100):
        plans.keep("one", bytes([number]), large)
        plans.keep("one", bytes([number]), large)  # counted once
    kept = [number for number in range(100) if plans.get("one", bytes([number]))]
    assert 10 < len(kept) < 50
    assert kept[-1] == 99


def test_only_a_group_shares_and_who_is_in_two_shares_with_neither() -> None:
    groups = {"a": ["one", "two"], "b": ["two", "three"]}
    assert tenant_of("one", groups) == "group a"
    assert tenant_of("three", groups) == "group b"
    assert tenant_of("two", groups) == "two"
    assert tenant_of("four", groups) == "four"
