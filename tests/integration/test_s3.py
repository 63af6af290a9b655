"""S3 storage against a real server: as it should be, and with faults on the way."""

import asyncio
import hashlib
import os
import time

import pytest

from compute.storage.retry import RetryPolicy
from compute.storage.s3 import S3Storage
from compute.tensors import load, read_header, select
from requester.publish import publish_tensors
from shared.errors import InputInvalid, InputMissing, StorageUnavailable
from shared.ids import OPERATOR
from shared.uris import parse_object_uri, parse_prefix, parse_tensor_uri
from tests.s3server import running_s3_server
from tests.tcpproxy import running_proxy
from tests.unit.service_world import until

pytestmark = pytest.mark.s3

PREFIX = parse_prefix("s3://tensors/tasks")
OBJECT = parse_object_uri("s3://tensors/tasks/public/object")
LARGE = 64 << 20
SHORT = RetryPolicy(patience_s=1.0)
SLOW_BYTES_PER_S = 1e6
"""A quarter of a minute for 16 MiB."""
SOON_S = 8.0
"""Less than what is transferred slowly takes, and than a thread waits for a server that is silent."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("tensors")
        yield running


@pytest.fixture
def opened(server, monkeypatch):
    """Opens storage on the server, or on another port; closes it after the test."""
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    storages = []

    def open_on(port=server.port, **options):
        storage = S3Storage(
            [PREFIX], endpoint_url=f"http://127.0.0.1:{port}", region="us-east-1", path_style=True, **options
        )
        storages.append(storage)
        return storage

    yield open_on
    for storage in storages:
        storage.close()


@pytest.fixture(autouse=True)
def stored(server):
    """The file behind OBJECT in the server's folder; there is none before the test."""
    file = server.folder / "tensors" / OBJECT.key
    file.unlink(missing_ok=True)
    return file


async def test_an_object_is_put_once_and_read_in_ranges(opened):
    storage = opened()
    assert await storage.put_new(OBJECT, [b"abc", memoryview(b"defg"), b""]) is True
    assert await storage.put_new(OBJECT, [b"other"]) is False
    assert await storage.read_range(OBJECT, 2, 3) == b"cde"
    assert await storage.read_range(OBJECT, 2, 0) == b""
    start = await storage.read_start(OBJECT, 100)
    assert (start.data, start.size) == (b"abcdefg", 7)
    assert await storage.read_range(OBJECT, 0, 7, start.version) == b"abcdefg"


async def test_of_many_puts_at_once_one_creates(opened):
    storage = opened()
    assert sum(await asyncio.gather(*(storage.put_new(OBJECT, [bytes([n]) * 50_000]) for n in range(8)))) == 1
    assert len(set(await storage.read_range(OBJECT, 0, 50_000))) == 1


async def test_64_mib_go_there_from_several_buffers_and_come_back_in_parallel_ranges(opened, monkeypatch):
    content = os.urandom(LARGE)
    storage = opened()
    view = memoryview(content)
    assert await storage.put_new(OBJECT, [view[:1000], view[1000 : LARGE // 2], view[LARGE // 2 :]]) is True
    buffer = bytearray(LARGE)
    await storage.read_into(OBJECT, 0, memoryview(buffer))
    assert buffer == content
    middle = bytearray(20 << 20)
    await storage.read_into(OBJECT, 12_345, memoryview(middle))
    assert middle == content[12_345 : 12_345 + (20 << 20)]


async def test_delete_removes_and_is_content_with_nothing(opened):
    storage = opened()
    await storage.put_new(OBJECT, [b"x"])
    await storage.delete(OBJECT)
    await storage.delete(OBJECT)
    with pytest.raises(InputMissing):
        await storage.read_start(OBJECT, 1)


async def test_what_is_not_there_is_missing_after_a_short_retry(opened):
    storage = opened()
    begun = time.monotonic()
    for read in (storage.read_start(OBJECT, 8), storage.read_range(OBJECT, 0, 8)):
        with pytest.raises(InputMissing, match="tasks/public/object is not there"):
            await read
    assert time.monotonic() - begun < 20


async def test_an_object_that_appears_during_the_short_retry_is_read(opened, stored):
    storage = opened(policy=RetryPolicy(missing_retries=6))
    await storage.probe()
    stored.parent.mkdir(parents=True, exist_ok=True)
    reading = asyncio.create_task(storage.read_range(OBJECT, 0, 3))
    await asyncio.sleep(0.05)
    whole = stored.with_name("whole")
    whole.write_bytes(b"abc")
    whole.rename(stored)  # at once, or it might be read before it has its bytes
    assert await reading == b"abc"


async def test_reading_beyond_the_end_is_refused(opened):
    storage = opened()
    await storage.put_new(OBJECT, [b"abc"])
    with pytest.raises(InputInvalid, match="has 3 bytes; bytes up to 5"):
        await storage.read_range(OBJECT, 1, 4)
    with pytest.raises(InputInvalid, match="shorter"):
        await storage.read_range(OBJECT, 10, 4)


async def test_an_empty_object_is_invalid_rather_than_a_fault_of_the_server(opened):
    storage = opened()
    await storage.put_new(OBJECT, [])
    with pytest.raises(InputInvalid):
        await storage.read_start(OBJECT, 10)


async def test_an_object_that_changed_between_two_ranges_is_noticed(opened):
    storage = opened()
    await storage.put_new(OBJECT, [b"abc"])
    start = await storage.read_start(OBJECT, 2)
    await storage.delete(OBJECT)
    await storage.put_new(OBJECT, [b"xyz"])
    with pytest.raises(InputInvalid, match="changed"):
        await storage.read_range(OBJECT, 0, 3, start.version)


async def test_a_missing_bucket_and_wrong_credentials_say_so_at_once(opened, monkeypatch):
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        await opened().put_new(parse_object_uri("s3://elsewhere/x"), [b"x"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage = opened()
    for attempt in (storage.read_range(OBJECT, 0, 1), storage.put_new(OBJECT, [b"x"]), storage.probe()):
        with pytest.raises(StorageUnavailable, match="403"):
            await attempt


@pytest.mark.parametrize("offset_s", [7200.0, -7200.0])
async def test_a_clock_that_is_hours_off_is_corrected_by_the_servers_time(opened, offset_s):
    storage = opened(policy=SHORT)
    storage._http.offset_s = offset_s
    assert await storage.put_new(OBJECT, [b"x"]) is True
    assert abs(storage._http.offset_s) < 5


async def test_truncated_bodies_and_resets_are_read_again(opened, server):
    content = os.urandom(3 << 20)
    await opened().put_new(OBJECT, [content])
    async with running_proxy(server.port) as proxy:
        proxy.cuts = [2_000_000, 700, 0, 1]
        assert await opened(proxy.port).read_range(OBJECT, 0, len(content)) == content
        assert proxy.connections >= 5


async def test_a_put_whose_answer_is_lost_is_there_once_and_whole(opened, server, stored):
    content = os.urandom(2 << 20)
    async with running_proxy(server.port) as proxy:
        # The cut comes in the server's answer to the whole body.
        proxy.cuts = [5]
        await opened(proxy.port).put_new(OBJECT, [content])
    assert stored.read_bytes() == content


async def test_a_server_that_is_gone_ends_in_storage_unavailable_after_the_patience(opened, server):
    async with running_proxy(server.port) as proxy:
        port = proxy.port
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable, match="attempts"):
        await opened(port, policy=SHORT).read_range(OBJECT, 0, 1)
    assert 1.0 <= time.monotonic() - begun < 30.0
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await opened(port).probe()
    assert time.monotonic() - begun < 30.0


async def cancelled_within(task: asyncio.Task, seconds: float) -> None:
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < seconds


@pytest.mark.parametrize("stalled", [False, True])
async def test_cancelling_a_slow_read_ends_it_and_leaves_the_buffer_alone(opened, server, stalled):
    await opened().put_new(OBJECT, [b"\1" * (16 << 20)])
    async with running_proxy(server.port) as proxy:
        proxy.bytes_per_s = SLOW_BYTES_PER_S
        buffer = bytearray(16 << 20)
        storage = opened(proxy.port)
        reading = asyncio.create_task(storage.read_into(OBJECT, 0, memoryview(buffer)))
        await until(lambda: buffer.count(1) > 0, SOON_S)
        proxy.stalled = stalled
        await asyncio.sleep(0.1)
        await cancelled_within(reading, SOON_S)
        filled = buffer.count(1)
        assert 0 < filled < len(buffer)
        # The threads have given up too, also those that waited for a stalled server.
        await until(lambda: proxy.open == 0, SOON_S)
        proxy.stalled, proxy.bytes_per_s = False, None
        await asyncio.sleep(0.3)
        assert buffer.count(1) == filled


async def test_cancelling_a_slow_put_leaves_no_object(opened, server, stored):
    async with running_proxy(server.port) as proxy:
        proxy.bytes_per_s = SLOW_BYTES_PER_S
        putting = asyncio.create_task(opened(proxy.port).put_new(OBJECT, [memoryview(bytes(16 << 20))]))
        await asyncio.sleep(0.5)
        await cancelled_within(putting, SOON_S)
        proxy.bytes_per_s = None
        await asyncio.sleep(0.5)
    assert not stored.exists()


async def test_published_tensors_are_loaded_and_an_altered_object_is_refused(opened, server):
    import torch

    storage = opened()
    tensors = [torch.randn(300, 1000), torch.arange(5), torch.randn(7).to(torch.bfloat16)]
    text = await publish_tensors(storage, PREFIX, OPERATOR, tensors, is_weights=True)
    uri = parse_tensor_uri(text)
    header = await read_header(storage, uri.object, max_header_bytes=1 << 20, max_tensors=10)
    entries = select(header, uri.fragment)
    views = [memoryview(bytearray(entry.spec.nbytes)) for entry in entries]
    await load(storage, uri.object, header, entries, views)
    for tensor, view in zip(tensors, views, strict=True):
        assert bytes(tensor.view(torch.uint8).numpy().data) == bytes(view)

    file = server.folder / "tensors" / uri.object.key
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    altered = await read_header(storage, uri.object, max_header_bytes=1 << 20, max_tensors=10)
    with pytest.raises(InputInvalid, match=hashlib.sha256(content).hexdigest()):
        await load(storage, uri.object, altered, entries[:1], views[:1])
