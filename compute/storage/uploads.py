"""A large object in parts, several at once: the upload is written down before its first part, and always ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from compute.storage.body import Body
from compute.storage.groups import one_error_group
from compute.storage.multipart import Part, UploadRequests
from compute.storage.retry import Transient
from compute.storage.store import UploadBook
from compute.storage.threads import Stop
from shared.errors import TaskError, TooLarge
from shared.uris import ObjectUri

PART_BYTES = 32 << 20
PARALLEL_PARTS = 4
"""Of one object; the threads are shared by all."""
MAX_PARTS = 10_000
MAX_OBJECT_BYTES = 5 << 40
"""S3's own limits."""

T = TypeVar("T")


class Attempts(Protocol):
    """Work in a thread, tried again as the storage does it; `once` is for what is cleaned up again later."""

    def __call__(self, uri: ObjectUri, work: Callable[[Stop], T], *, once: bool = False) -> Awaitable[T]: ...


async def put_in_parts(
    requests: UploadRequests,
    attempts: Attempts,
    uri: ObjectUri,
    parts: Sequence[bytes | memoryview],
    book: UploadBook,
) -> bool:
    """Whole or not at all; see Storage.put_new."""
    body = Body(parts)
    if body.size > MAX_OBJECT_BYTES:
        raise TooLarge(f"{uri} would have {body.size} bytes; one object may have at most {MAX_OBJECT_BYTES}")
    if await attempts(uri, lambda stop: requests.is_there(uri, stop)):
        return False
    begun: list[str] = []
    try:
        await attempts(uri, lambda stop: begun.append(requests.begin(uri, stop)))
        (upload_id,) = begun
        await book.begin_upload(uri, upload_id)
        done = await _put_parts(requests, attempts, uri, upload_id, body)
        created = await attempts(uri, lambda stop: requests.complete(uri, upload_id, done, stop))
    except BaseException:  # also when cancelled: an upload that nobody ends is kept, and paid for
        for upload_id in begun:
            await _end(requests, attempts, uri, upload_id, book)
        raise
    if created:
        await book.end_upload(uri, upload_id)
    else:
        await _end(requests, attempts, uri, upload_id, book)
    return created


def part_bytes(size: int) -> int:
    """Bytes of each part but the last, so that there are not too many."""
    return max(PART_BYTES, -(-size // MAX_PARTS))


async def _put_parts(
    requests: UploadRequests, attempts: Attempts, uri: ObjectUri, upload_id: str, body: Body
) -> list[Part]:
    step = part_bytes(body.size)
    places = asyncio.Semaphore(PARALLEL_PARTS)

    async def put(number: int) -> Part:
        section = body.section((number - 1) * step, min(number * step, body.size))
        async with places:
            etag = await attempts(uri, lambda stop: requests.put_part(uri, upload_id, number, section, stop))
        return Part(number, etag)

    async with one_error_group() as group:
        putting = [group.create_task(put(number)) for number in range(1, -(-body.size // step) + 1)]
    return [task.result() for task in putting]


async def _end(
    requests: UploadRequests, attempts: Attempts, uri: ObjectUri, upload_id: str, book: UploadBook
) -> None:
    """Abort it, once: what is written down and not ended is aborted again by whoever cleans up."""
    with suppress(TaskError, Transient):
        await attempts(uri, lambda stop: requests.abort(uri, upload_id, stop), once=True)
        await book.end_upload(uri, upload_id)
