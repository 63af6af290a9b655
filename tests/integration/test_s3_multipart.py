"""Large objects in parts, on a real server: whole or not at all, and no upload is left over."""

import asyncio
import hashlib
import os

import pytest

from compute.results import Results
from compute.storage import s3, uploads
from compute.storage.retry import RetryPolicy, Transient
from compute.storage.s3 import S3Storage
from compute.storage.threads import Stop
from shared.errors import StorageUnavailable
from shared.ids import ExecutionId, TaskId, TaskKey
from shared.uris import below, parse_prefix
from tests.s3server import running_s3_server
from tests.tcpproxy import running_proxy

pytestmark = pytest.mark.s3

PREFIX = parse_prefix("s3://tensors/out")
KEY = TaskKey(ExecutionId("run"), TaskId("task"))
CONTENT = os.urandom((12 << 20) + 345)
OBJECT = below(PREFIX, "requester", "run", "task", f"{hashlib.sha256(CONTENT).hexdigest()}.safetensors")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.make_bucket("tensors")
        yield running


@pytest.fixture
def opened(server, monkeypatch):
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "ONE_PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(s3, "ONE_PIECE_BYTES_WITHOUT_TLS", 1 << 20)
    monkeypatch.setattr(uploads, "PART_BYTES", 5 << 20)
    storages = []

    def open_on(port=server.port):
        url, policy = f"http://127.0.0.1:{port}", RetryPolicy(patience_s=1.0)
        storage = S3Storage([PREFIX], endpoint_url=url, region="us-east-1", path_style=True, policy=policy)
        storages.append(storage)
        return storage

    yield open_on
    for storage in storages:
        storage.close()


@pytest.fixture
def stored(server):
    file = server.folder / "tensors" / OBJECT.key
    file.unlink(missing_ok=True)
    return file


class Book:
    def __init__(self) -> None:
        self.begun: list[tuple] = []
        self.ended: list[tuple] = []
        self.has_begun = asyncio.Event()

    async def begin_upload(self, *upload):
        self.begun.append(upload)
        self.has_begun.set()

    async def end_upload(self, *upload):
        self.ended.append(upload)


async def test_an_object_in_parts_arrives_whole_and_only_once(opened, stored):
    storage, book = opened(), Book()
    view = memoryview(CONTENT)
    parts = [view[:1000], view[1000 : 7 << 20], view[7 << 20 :]]
    assert await storage.put_new(OBJECT, parts, book) is True
    assert stored.read_bytes() == CONTENT
    assert len(book.begun) == 1 and book.ended == book.begun
    assert await storage.put_new(OBJECT, parts, book) is False
    assert len(book.begun) == 1, "what is there already is not sent again"


async def test_of_two_uploads_at_once_the_object_is_one_and_both_have_ended(opened, stored):
    storage, book = opened(), Book()
    await asyncio.gather(*(storage.put_new(OBJECT, [CONTENT], book) for _ in range(2)))
    assert stored.read_bytes() == CONTENT
    assert sorted(book.ended) == sorted(book.begun)


async def test_nothing_is_sent_before_the_upload_is_written_down(opened, stored, server):
    class Full(Book):
        async def begin_upload(self, *_):
            raise OSError("no room")

    storage = opened()
    sent = []
    put_part = storage._uploads.put_part
    storage._uploads.put_part = lambda *of: sent.append(of) or put_part(*of)
    with pytest.raises(OSError, match="no room"):
        await storage.put_new(OBJECT, [CONTENT], Full())
    assert sent == [] and not stored.exists()
    assert open_uploads(server) == 0


async def test_a_cancelled_upload_is_aborted(opened, stored, server):
    book = Book()
    async with running_proxy(server.port) as proxy:
        proxy.bytes_per_s = 2e6
        putting = asyncio.create_task(opened(proxy.port).put_new(OBJECT, [CONTENT], book))
        await book.has_begun.wait()
        await asyncio.sleep(0.3)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert book.ended == book.begun
    assert not stored.exists() and open_uploads(server) == 0


async def test_an_upload_that_is_cancelled_before_its_id_has_come_is_aborted(opened, stored, server):
    async with running_proxy(server.port) as proxy:
        proxy.bytes_per_s = 1e3
        putting = asyncio.create_task(opened(proxy.port).put_new(OBJECT, [CONTENT], Book()))
        async with asyncio.timeout(60):
            while await asyncio.to_thread(open_uploads, server) == 0:  # noqa: ASYNC110 # the server cannot tell
                await asyncio.sleep(0.02)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert open_uploads(server) == 0 and not stored.exists()


async def test_one_that_could_not_be_aborted_stays_written_down_and_is_aborted_later(
    opened, stored, server, tmp_path
):
    results = Results(tmp_path / "state")
    book = results.uploads_of(KEY)
    storage = opened()

    def gone(*_):
        raise Transient("the server has gone")

    storage._uploads.put_part = storage._uploads.abort = gone
    with pytest.raises(StorageUnavailable):
        await storage.put_new(OBJECT, [CONTENT], book)
    assert open_uploads(server) == 1
    await results.close()
    again = Results(tmp_path / "state")
    (left,) = await again.to_delete()
    assert (left.key, left.uri) == (KEY, OBJECT) and left.upload_id
    storage = opened()
    for _ in range(2):  # one that is gone is aborted too
        await storage.abort_upload(left.uri, left.upload_id)
    await again.deleted(left)
    assert await again.to_delete() == [] and open_uploads(server) == 0
    await again.close()


async def test_a_completion_whose_answer_was_lost_counts_as_done(opened, stored):
    storage, book = opened(), Book()
    complete = storage._uploads.complete

    def twice(*of):
        complete(*of)
        return complete(*of[:-1], Stop())

    storage._uploads.complete = twice
    assert await storage.put_new(OBJECT, [CONTENT], book) is True
    assert stored.read_bytes() == CONTENT and book.ended == book.begun


@pytest.mark.parametrize(("size", "count"), [(1, 1), (uploads.PART_BYTES + 1, 2), (5 << 40, 10_000)])
def test_there_are_never_more_parts_than_s3_takes(size, count):
    step = uploads.part_bytes(size)
    assert -(-size // step) == count


@pytest.mark.parametrize("size", [(4 << 30) - 1, (4 << 30) + 1, 320_000_000_001, uploads.MAX_OBJECT_BYTES])
def test_parts_of_any_size_of_object_are_as_large_as_s3_wants_them(size):
    step = uploads.part_bytes(size)
    assert 5 << 20 <= step <= 5 << 30
    assert -(-size // step) <= 10_000


def open_uploads(server) -> int:
    """As the server lists them."""
    import boto3

    # Not boto3.client: the session that all share keeps the credentials that it was first used with.
    client = boto3.Session().client("s3", endpoint_url=server.url, region_name="us-east-1")
    return len(client.list_multipart_uploads(Bucket="tensors").get("Uploads", []))
