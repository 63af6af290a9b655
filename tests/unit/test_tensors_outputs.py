import hashlib

import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from compute.outputs import check_output_prefix, plan_outputs
from compute.specs import DType, TensorSpec
from shared.errors import ConfigurationError
from shared.ids import ExecutionId, Requester, TaskId, TaskKey
from shared.uris import ObjectUri, parse_prefix, parse_tensor_uri

PREFIX = parse_prefix("s3://t")
REQUESTER = Requester("9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin")
KEY = TaskKey(ExecutionId("run"), TaskId("task"))


def tensor(count: int, fill: int = 0, dtype: DType = DType.FLOAT32):
    spec = TensorSpec(dtype, (count,))
    return spec, memoryview(bytes([fill]) * spec.nbytes)


def content(parts) -> bytes:
    return b"".join(parts)


def test_one_object_per_output_is_named_by_the_hash_of_its_bytes():
    plan = plan_outputs(PREFIX, REQUESTER, KEY, [tensor(3), tensor(5, 1)])
    assert len(plan.uris) == len(plan.objects) == 2
    for (uri, parts), text in zip(plan.objects, plan.uris, strict=True):
        digest = hashlib.sha256(content(parts)).hexdigest()
        assert text == str(uri) == f"s3://t/{REQUESTER}/run/task/{digest}.safetensors"
        assert b"__metadata__" not in content(parts)
        assert list(safetensors.numpy.load(content(parts))) == ["0"]


def test_the_same_tensors_give_the_same_plan():
    tensors = [tensor(3), tensor(5, 1)]
    first, second = (plan_outputs(PREFIX, REQUESTER, KEY, tensors) for _ in range(2))
    assert first.uris == second.uris
    assert [content(parts) for _, parts in first.objects] == [content(parts) for _, parts in second.objects]


def test_equal_outputs_are_one_object_with_two_uris():
    plan = plan_outputs(PREFIX, REQUESTER, KEY, [tensor(3), tensor(3)])
    assert len(plan.objects) == 1
    assert plan.uris[0] == plan.uris[1]


def test_more_outputs_than_uris_go_into_one_object():
    prefix = ObjectUri("s3", "t", "")
    plan = plan_outputs(prefix, REQUESTER, KEY, [tensor(1, n) for n in range(9)])
    assert len(plan.uris) == len(plan.objects) == 1
    assert plan.uris[0].endswith(".safetensors#*")
    read = safetensors.numpy.load(content(plan.objects[0][1]))
    assert sorted(read) == [str(n) for n in range(9)]
    assert all(read[str(n)].tobytes() == bytes([n]) * 4 for n in range(9))


@pytest.mark.parametrize(("count", "uris"), [(4, 4), (5, 1)])
def test_uris_of_more_than_640_bytes_together_become_one(count, uris):
    # s3://t/<44>/run/task/<64>.safetensors is 137 bytes long.
    plan = plan_outputs(PREFIX, REQUESTER, KEY, [tensor(1, n) for n in range(count)])
    assert len(plan.uris) == uris
    assert len(plan_outputs(PREFIX, REQUESTER, KEY, [tensor(1)]).uris[0]) == 137


def test_in_a_shared_object_each_tensor_begins_at_a_multiple_of_its_width():
    tensors = [tensor(3, dtype=DType.BOOL), tensor(1, 1, DType.INT64), *(tensor(1, n) for n in range(8))]
    read = safetensors.numpy.load(content(plan_outputs(PREFIX, REQUESTER, KEY, tensors).objects[0][1]))
    assert read["0"].dtype == "bool"
    assert read["1"].tobytes() == b"\1" * 8


def test_a_tensor_without_elements_is_an_output_too():
    plan = plan_outputs(PREFIX, REQUESTER, KEY, [tensor(0)])
    assert safetensors.numpy.load(content(plan.objects[0][1]))["0"].shape == (0,)


@given(st.text("ab-", min_size=1, max_size=300), st.integers(1, 255))
def test_a_prefix_that_passes_never_gives_a_uri_that_is_too_long(name, count):
    prefix = ObjectUri("s3", "bucket", name)
    try:
        check_output_prefix(prefix)
    except ConfigurationError:
        assert len(str(prefix)) > 140
        return
    key = TaskKey(ExecutionId("e" * 64), TaskId("t" * 64))
    plan = plan_outputs(prefix, REQUESTER, key, [tensor(1, n) for n in range(count)])
    for text in plan.uris:
        parse_tensor_uri(text)
    assert len(plan.uris) == 1 or sum(map(len, plan.uris)) <= 640
