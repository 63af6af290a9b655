import asyncio
import hashlib
import random
import threading
from pathlib import Path

import pytest

from compute import loading, tensors
from compute.safetensors_header import encode_header, parse_header
from compute.specs import DType, TensorSpec
from compute.storage.files import FileStorage
from compute.storage.threads import Stop, in_thread
from compute.tensors import START_BYTES, load, read_header, select
from shared.errors import InputInvalid, TooLarge
from shared.uris import ObjectUri, parse_object_uri, parse_prefix


class CountingStorage(FileStorage):
    """Real files; what was read is written down."""

    def __init__(self, roots) -> None:
        super().__init__(roots)
        self.reads: list[tuple[int, int]] = []

    async def read_start(self, uri, length):
        self.reads.append((0, length))
        return await super().read_start(uri, length)

    async def read_into(self, uri, start, view, version=None):
        self.reads.append((start, len(view)))
        await super().read_into(uri, start, view, version)


@pytest.fixture
def storage(tmp_path: Path):
    counting = CountingStorage([parse_prefix(f"file://{tmp_path}")])
    yield counting
    counting.close()


def write(folder: Path, specs: list[TensorSpec], *, hashed: bool) -> tuple[ObjectUri, list[bytes]]:
    """An object of random tensors named 0, 1, …; under a name that commits to it, or not."""
    rng = random.Random(7)
    contents = [
        bytes(rng.choices(b"\0\1", k=spec.nbytes)) if spec.dtype is DType.BOOL else rng.randbytes(spec.nbytes)
        for spec in specs
    ]
    header = encode_header([(str(number), spec) for number, spec in enumerate(specs)])
    data = header + b"".join(contents)
    name = f"{hashlib.sha256(data).hexdigest()}.safetensors" if hashed else "plain.safetensors"
    (folder / name).write_bytes(data)
    return parse_object_uri(f"file://{folder}/{name}"), contents


async def loaded(storage, uri: ObjectUri, fragment: str | None) -> list[bytes]:
    header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=4096)
    entries = select(header, fragment)
    views = [memoryview(bytearray(entry.spec.nbytes)) for entry in entries]
    await load(storage, uri, header, entries, views)
    return [bytes(view) for view in views]


def floats(*shape: int) -> TensorSpec:
    return TensorSpec(DType.FLOAT32, shape)


BOOLS = TensorSpec(DType.BOOL, (5,))
MIXED = [floats(3), floats(600_000), floats(0, 2), BOOLS, floats(400_000), floats(), floats(7)]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("step_bytes", [loading.HASHED_AT_ONCE_BYTES, 1 << 20])
async def test_all_tensors_land_in_their_own_buffers(tmp_path, storage, monkeypatch, hashed, step_bytes):
    monkeypatch.setattr(loading, "HASHED_AT_ONCE_BYTES", step_bytes)
    monkeypatch.setattr(loading, "BESIDE_BYTES", step_bytes)
    uri, contents = write(tmp_path, MIXED, hashed=hashed)
    assert await loaded(storage, uri, "*") == contents


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("number", range(len(MIXED)))
async def test_one_tensor_of_many_lands_in_its_buffer(tmp_path, storage, hashed, number):
    uri, contents = write(tmp_path, MIXED, hashed=hashed)
    assert await loaded(storage, uri, str(number)) == [contents[number]]


@pytest.mark.parametrize("hashed", [True, False])
async def test_a_tensor_that_is_asked_for_several_times_is_read_once(tmp_path, storage, hashed):
    uri, contents = write(tmp_path, MIXED, hashed=hashed)
    header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=4096)
    entries = [*select(header, "*"), *select(header, "1"), *select(header, "*")]
    views = [memoryview(bytearray(entry.spec.nbytes)) for entry in entries]
    await load(storage, uri, header, entries, views)
    assert [bytes(view) for view in views] == [*contents, contents[1], *contents]
    assert sum(length for _, length in storage.reads) <= header.object_size + START_BYTES


@pytest.mark.parametrize("hashed", [True, False])
async def test_a_small_object_takes_one_request(tmp_path, storage, hashed):
    uri, contents = write(tmp_path, [floats(100), floats(8, 16, 220)], hashed=hashed)
    assert await loaded(storage, uri, "*") == contents
    assert storage.reads == [(0, START_BYTES)]


@pytest.mark.parametrize("hashed", [True, False])
async def test_bytes_that_came_with_the_header_are_not_asked_for_again(tmp_path, storage, hashed):
    uri, contents = write(tmp_path, [floats(10_000), floats(50_000), floats(400_000)], hashed=hashed)
    assert await loaded(storage, uri, "*") == contents
    size = (tmp_path / uri.key.rpartition("/")[2]).stat().st_size
    assert sum(length for _, length in storage.reads) == size


async def test_a_long_header_takes_a_second_request_and_no_tensor_bytes_are_asked_for(tmp_path, storage):
    uri, _ = write(tmp_path, [floats(1)] * 4000, hashed=False)
    header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=4096)
    assert storage.reads == [(0, START_BYTES), (START_BYTES, header.data_start - START_BYTES)]


async def test_hundreds_of_small_tensors_share_a_request(tmp_path, storage):
    uri, contents = write(tmp_path, [floats(10_000)] * 300, hashed=False)
    assert await loaded(storage, uri, "*") == contents
    assert len(storage.reads) <= 4


async def test_without_a_hash_in_the_name_only_the_tensor_asked_for_is_read(tmp_path, storage):
    uri, contents = write(tmp_path, [floats(600_000), floats(500_000)], hashed=False)
    assert await loaded(storage, uri, "1") == [contents[1]]
    assert sum(length for _, length in storage.reads) == START_BYTES + 2_000_000


def last_byte_changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def middle_byte_changed(content: bytes) -> bytes:
    return content[:3_000_000] + bytes([content[3_000_000] ^ 1]) + content[3_000_001:]


def header_padded(content: bytes) -> bytes:
    """Eight more spaces behind the header: another object with the same tensors."""
    length = int.from_bytes(content[:8], "little")
    return (length + 8).to_bytes(8, "little") + content[8 : 8 + length] + b" " * 8 + content[8 + length :]


@pytest.mark.parametrize("change", [last_byte_changed, middle_byte_changed, header_padded])
async def test_an_object_that_breaks_its_names_promise_is_refused_even_for_one_tensor(tmp_path, storage, change):
    uri, _ = write(tmp_path, [floats(600_000), floats(500_000)], hashed=True)
    file = tmp_path / uri.key.rsplit("/", 1)[-1]
    changed = change(file.read_bytes())
    file.write_bytes(changed)
    with pytest.raises(InputInvalid, match=hashlib.sha256(changed).hexdigest()):
        await loaded(storage, uri, "0")


async def test_a_hash_in_upper_case_is_a_promise_too(tmp_path, storage):
    uri, contents = write(tmp_path, [floats(3)], hashed=True)
    file = tmp_path / uri.key.rsplit("/", 1)[-1]
    upper = file.rename(tmp_path / f"{file.stem.upper()}.safetensors")
    there = parse_object_uri(f"file://{upper}")
    assert await loaded(storage, there, "0") == contents
    upper.write_bytes(last_byte_changed(upper.read_bytes()))
    with pytest.raises(InputInvalid, match="not the one in its name"):
        await loaded(storage, there, "0")


@pytest.mark.parametrize("count", [10, 3_000_000])
async def test_a_bool_tensor_with_other_bytes_than_0_and_1_is_refused(tmp_path, storage, count):
    header = encode_header([("0", TensorSpec(DType.BOOL, (count,)))])
    (tmp_path / "bools").write_bytes(header + bytes(count - 1) + b"\2")
    with pytest.raises(InputInvalid, match="other than 0 and 1"):
        await loaded(storage, parse_object_uri(f"file://{tmp_path}/bools"), None)


async def test_errors_in_a_header_name_the_object(tmp_path, storage):
    (tmp_path / "odd").write_bytes(b"\xff" * 100)
    uri = parse_object_uri(f"file://{tmp_path}/odd")
    with pytest.raises(TooLarge, match=f"{uri}: the header has"):
        await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=10)


async def test_a_long_header_is_parsed_while_everything_else_goes_on(tmp_path, storage, monkeypatch):
    uri, _ = write(tmp_path, [floats(0)] * 1_000, hashed=False)
    has_gone_on = threading.Event()

    def parse_late(*arguments):
        assert has_gone_on.wait(5)
        return parse_header(*arguments)

    monkeypatch.setattr(tensors, "parse_header", parse_late)
    reading = asyncio.create_task(read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=1_000))
    await asyncio.wait({reading}, timeout=0.2)
    has_gone_on.set()
    assert len((await reading).entries) == 1_000


async def test_a_buffer_of_another_length_is_a_fault_of_the_caller(tmp_path, storage):
    uri, _ = write(tmp_path, [floats(2)], hashed=False)
    header = await read_header(storage, uri, max_header_bytes=1 << 20, max_tensors=10)
    with pytest.raises(ValueError, match="as long as its tensor"):
        await load(storage, uri, header, header.entries, [memoryview(bytearray(4))])


async def test_once_a_cancelled_load_is_over_no_thread_writes_any_more_also_where_another_read_fails_meanwhile(
    tmp_path, storage
):
    uri, _ = write(tmp_path, [floats(600_000), floats(600_000)], hashed=True)
    writes, may_end, fails = threading.Event(), threading.Event(), asyncio.Event()

    async def read_into(_uri, _start, view, _version):
        if writes.is_set():
            await fails.wait()
            raise InputInvalid("it changed")

        def slowly(stop: Stop) -> None:
            with stop.touching():
                writes.set()
                may_end.wait(60)
                view[0] = 1

        await in_thread(None, slowly)

    storage.read_into = read_into
    loading_it = asyncio.create_task(loaded(storage, uri, "*"))
    await asyncio.to_thread(writes.wait, 60)
    loading_it.cancel()
    await asyncio.sleep(0.05)
    fails.set()
    done, _ = await asyncio.wait({loading_it}, timeout=0.3)
    assert not done
    may_end.set()
    await asyncio.wait({loading_it}, timeout=60)
    assert loading_it.done()
    assert loading_it.cancelled() or loading_it.exception()
