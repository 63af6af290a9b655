import pytest
import torch

from compute.storage.files import FileStorage
from compute.tensors import load, read_header, select
from requester.publish import publish_tensors
from shared.errors import InvalidUri
from shared.ids import OPERATOR
from shared.uris import parse_prefix, parse_tensor_uri

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@pytest.fixture
def prefix(tmp_path):
    return parse_prefix(f"file://{tmp_path}")


@pytest.fixture
def storage(prefix):
    files = FileStorage([prefix])
    yield files
    files.close()


async def read(storage, text):
    uri = parse_tensor_uri(text)
    header = await read_header(storage, uri.object, max_header_bytes=1 << 20, max_tensors=100)
    entries = select(header, uri.fragment)
    views = [memoryview(bytearray(entry.spec.nbytes)) for entry in entries]
    await load(storage, uri.object, header, entries, views)
    return header, entries, views


async def test_tensors_of_every_dtype_come_back_with_the_same_bytes(storage, prefix):
    # Strided on purpose: what is stored is row by row.
    tensors = [(torch.arange(12) % 2).reshape(3, 4).to(dtype).t() for dtype in DTYPES]
    text = await publish_tensors(storage, prefix, OPERATOR, tensors, is_weights=False)
    assert text.endswith(".safetensors#*")
    header, entries, views = await read(storage, text)
    for tensor, entry, view in zip(tensors, entries, views, strict=True):
        assert (str(entry.spec.dtype), entry.spec.shape) == (str(tensor.dtype).removeprefix("torch."), (4, 3))
        assert torch.equal(torch.frombuffer(view, dtype=tensor.dtype).reshape(4, 3).double(), tensor.double())
    assert header.metadata == {}


async def test_a_single_tensor_needs_no_fragment_and_weights_are_marked(storage, prefix):
    text = await publish_tensors(storage, prefix, OPERATOR, [torch.ones(())], is_weights=True)
    assert text.endswith(".safetensors")
    header, _, _ = await read(storage, text)
    assert header.metadata == {"isWeights": "true"}


async def test_the_same_tensors_are_stored_once(storage, prefix, tmp_path):
    tensors = [torch.arange(10), torch.zeros(0, 3)]
    first, second = [await publish_tensors(storage, prefix, OPERATOR, tensors, is_weights=True) for _ in range(2)]
    assert first == second
    assert len(list((tmp_path / "operator").iterdir())) == 1


async def test_a_prefix_too_long_for_a_uri_is_refused_before_anything_is_stored(storage, prefix, tmp_path):
    long = parse_prefix(f"{prefix}/{'x' * 200}/{'y' * 100}")
    with pytest.raises(InvalidUri, match="longer than 400"):
        await publish_tensors(storage, long, OPERATOR, [torch.ones(1)], is_weights=True)
    assert list(tmp_path.iterdir()) == []
