import json
import struct
from contextlib import suppress

import numpy
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from compute.safetensors_header import DEFAULT_LIMITS, HeaderLimits, encode_header, parse_header
from compute.specs import DType, TensorSpec
from compute.tensors import select
from shared.errors import InputInvalid, InputMissing, TaskError, TooLarge


def framed(text: str | bytes, data: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw + data


def parsed(text: str | bytes, data: bytes = b""):
    object_bytes = framed(text, data)
    return parse_header(object_bytes, len(object_bytes))


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def of(**tensors) -> str:
    return json.dumps(tensors)


def test_what_the_safetensors_library_writes_is_read_with_the_same_places():
    tensors = {"weight": numpy.arange(6, dtype="float32").reshape(2, 3), "mask": numpy.ones(3, dtype=bool)}
    written = safetensors.numpy.save(tensors, metadata={"isWeights": "true"})
    header = parse_header(written, len(written))
    assert {e.name: str(e.spec) for e in header.entries} == {"weight": "float32[2, 3]", "mask": "bool[3]"}
    for e in header.entries:
        assert written[header.data_start + e.begin : header.data_start + e.end] == tensors[e.name].tobytes()
    assert header.metadata == {"isWeights": "true"}


def test_what_we_write_is_read_by_the_safetensors_library():
    values = numpy.arange(4, dtype="int64")
    written = encode_header([("0", TensorSpec(DType.INT64, (4,)))]) + values.tobytes()
    assert (safetensors.numpy.load(written)["0"] == values).all()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (of(a=entry(), b=entry(offsets=(4, 12))), "overlaps"),
        (of(a=entry(), b=entry()), "overlaps"),
        (of(a=entry(), b=entry(offsets=(12, 20))), "hole"),
        (of(a=entry(offsets=(4, 12))), "hole"),
        (of(a=entry()), "follow the header"),
        (of(a=entry(shape=(3,))), "takes 12"),
        (of(a=entry(dtype="U16")), "dtype 'U16'"),
        (of(a=entry(dtype=7)), "dtype 7"),
        (of(a=entry(shape=(-2,))), "shape"),
        (of(a=entry(shape=(True,))), "shape"),
        (of(a=entry(shape=("2",))), "shape"),
        (of(a=entry(offsets=(8, 0))), "backwards"),
        (of(a=entry(offsets=(-8, 0))), "backwards"),
        (of(a=entry(offsets=(0,))), "two whole numbers"),
        (of(a=entry(offsets=(0, True))), "two whole numbers"),
        (of(a={**entry(), "extra": 1}), "exactly the fields"),
        (of(a={"dtype": "F32"}), "exactly the fields"),
        (of(a=[]), "exactly the fields"),
        (of(__metadata__={"a": 1}), "object of strings"),
        (of(__metadata__=[]), "object of strings"),
        ('{"a":1,"a":2}', "twice"),
        ('{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', "twice"),
        ('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', "NaN"),
        ('{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}}', "Infinity"),
        ('{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', "shape"),
        ('{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', "1e400"),
        ('{"a":' + "9" * 5000 + "}", "not valid JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "not valid JSON"),
        ("[]", "one JSON object"),
        (' {"a":1}', "one JSON object"),
        ('{"a":1}\n', "one JSON object"),
        ('{"a":1}{}', "not valid JSON"),
        (b'{"\xff":1}', "not valid JSON"),
        ('{"\\ud800":1}', "cannot be printed"),
        ('{"\\u001b[2J":1}', "cannot be printed"),
        ("", "one JSON object"),
    ],
)
def test_a_malformed_header_is_refused_with_the_reason(text, why):
    with pytest.raises(InputInvalid, match=why):
        parsed(text, bytes(20))


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (2**63, 0), (0, 2**63), (10**4000,), (1,) * 65])
def test_a_shape_of_2_to_the_40_elements_is_refused_by_the_tensors_name(shape):
    with pytest.raises(TooLarge, match="'huge'"):
        parsed(of(huge=entry(shape=shape, offsets=(0, 0))))


def test_the_largest_allowed_shape_is_judged_by_its_bytes():
    with pytest.raises(InputInvalid, match="takes"):
        parsed(of(a=entry(shape=(2**40 - 1,), offsets=(0, 0))))


def test_a_header_above_the_limit_is_refused_before_it_is_parsed():
    with pytest.raises(TooLarge, match="104857600 bytes"):
        parse_header(struct.pack("<Q", 100 << 20) + b"{", 200 << 20)


def test_more_tensors_than_allowed_are_refused():
    header = of(**{str(n): entry(shape=(0,), offsets=(0, 0)) for n in range(11)})
    with pytest.raises(TooLarge, match="11 tensors"):
        parse_header(framed(header), len(framed(header)), HeaderLimits(max_tensors=10))


def test_a_header_of_200000_tensors_is_refused_by_its_length_and_by_their_number():
    header = of(**{str(n): entry(shape=(0,), offsets=(0, 0)) for n in range(200_000)})
    with pytest.raises(TooLarge, match=r"the header has \d{8} bytes; at most 1048576"):
        parsed(header)
    with pytest.raises(TooLarge, match="200000 tensors; at most 4096"):
        parse_header(framed(header), len(framed(header)), HeaderLimits(max_header_bytes=100 << 20))


@pytest.mark.parametrize("size", [0, 7])
def test_an_object_shorter_than_the_length_field_is_refused(size):
    with pytest.raises(InputInvalid, match="too few"):
        parse_header(bytes(size), size)


def test_a_header_that_claims_more_than_the_object_has_is_refused():
    with pytest.raises(InputInvalid, match="claims 100 bytes"):
        parse_header(struct.pack("<Q", 100) + b"{}", 10)


def test_empty_tensors_and_scalars_are_read():
    header = parsed(of(a=entry(shape=(0, 3), offsets=(0, 0)), b=entry(shape=(), offsets=(0, 4))), bytes(4))
    assert [e.spec.nbytes for e in header.entries] == [0, 4]


@given(st.binary(max_size=200), st.integers(0, 2**64))
def test_any_bytes_give_a_header_or_a_task_error(data, size):
    for object_bytes in (data, framed(data), framed(b"{" + data + b"}")):
        with suppress(TaskError):
            parse_header(object_bytes, size)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DIMENSIONS = st.lists(st.integers(-1, 4) | st.integers(2**38, 2**64), max_size=4)
NEARLY_AN_ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([dtype.safetensors_name for dtype in DType]) | JSON,
        "shape": DIMENSIONS | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), max_size=3) | JSON,
    }
)


@given(
    st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), NEARLY_AN_ENTRY | JSON, max_size=4),
    st.integers(0, 64),
)
def test_any_json_gives_a_consistent_header_or_a_task_error(document, data_bytes):
    try:
        header = parsed(json.dumps(document), bytes(data_bytes))
    except TaskError:
        return
    assert sum(e.end - e.begin for e in header.entries) == data_bytes
    assert all(e.end - e.begin == e.spec.nbytes for e in header.entries)


SPECS = st.builds(TensorSpec, st.sampled_from(DType), st.lists(st.integers(0, 5), max_size=4).map(tuple))


@given(st.lists(SPECS, max_size=12))
def test_what_we_write_we_read_back(specs):
    names = [str(number) for number in range(len(specs))]
    head = encode_header(list(zip(names, specs, strict=True)))
    size = len(head) + sum(spec.nbytes for spec in specs)
    header = parse_header(head, size, DEFAULT_LIMITS)
    assert len(head) % 8 == 0
    assert [(e.name, e.spec) for e in select(header, "*")] == list(zip(names, specs, strict=True))


def numbered(*names: str):
    return parsed(of(**{name: entry(shape=(0,), offsets=(0, 0)) for name in names}))


def test_a_star_means_all_tensors_in_the_order_of_their_numbers():
    header = numbered("10", "9", "0", "1")
    assert [e.name for e in select(header, "*")] == ["0", "1", "9", "10"]


@pytest.mark.parametrize("name", ["01", "-1", "+1", "a", "", " 1", "1_0", "1.0", "\u0663"])
def test_a_star_refuses_names_that_are_no_plain_integers(name):
    with pytest.raises(InputInvalid, match="decimal integers"):
        select(numbered("0", name), "*")


def test_without_a_fragment_there_must_be_one_tensor_only():
    assert select(numbered("x"), None)[0].name == "x"
    with pytest.raises(InputInvalid, match="2 tensors"):
        select(numbered("x", "y"), None)


def test_a_fragment_names_one_tensor():
    assert [e.name for e in select(numbered("x", "y"), "y")] == ["y"]
    with pytest.raises(InputMissing, match="'z'"):
        select(numbered("x", "y"), "z")
