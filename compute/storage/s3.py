"""`s3://` objects on any S3-compatible server: requests in threads, retried, large objects in ranges and parts."""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from typing import TypeVar

from compute.storage.groups import one_error_group
from compute.storage.multipart import UploadRequests
from compute.storage.retry import ONE_ATTEMPT, PATIENT, RetryPolicy, retried
from compute.storage.s3errors import mapped_errors
from compute.storage.s3http import S3Http
from compute.storage.s3requests import RangeAnswer, S3Requests
from compute.storage.store import NO_BOOK, ObjectStart, UploadBook
from compute.storage.threads import Stop, in_thread
from compute.storage.uploads import put_in_parts
from shared.errors import InputInvalid, InputMissing
from shared.uris import ObjectUri, below

THREADS = 32
PARALLEL_RANGES = min(max(len(os.sched_getaffinity(0)), 3), 12)
"""Requests at once for one large read. A store far away gives each of them less than a core could take; over loopback
and by TLS, more of them than cores take turns and are slower. The threads are shared by all reads."""
MIN_RANGE_BYTES, MAX_RANGE_BYTES = 16 << 20, 64 << 20
"""Each range costs half a millisecond of a core, as much as 2 MiB do over loopback; a failed one is read again."""
FINISH_S = 5.0
"""How long the answer to a cancelled PUT whose body is all sent is waited for."""
ONE_PIECE_BYTES = 64 << 20
ONE_PIECE_BYTES_WITHOUT_TLS = 1 << 30
"""Larger objects are put in parts. Without TLS a body is signed by its hash, and that of a whole object is at hand."""

T = TypeVar("T")


class S3Storage:
    """Storage in buckets. `places` are the prefixes to probe; credentials come by boto3's own chain."""

    def __init__(
        self,
        places: Sequence[ObjectUri],
        *,
        endpoint_url: str | None,
        region: str,
        path_style: bool,
        policy: RetryPolicy = PATIENT,
    ) -> None:
        self._places = {place.bucket: place for place in reversed(places)}
        self._policy = policy
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._http = S3Http(endpoint_url, region, path_style=path_style, connections=THREADS)
        self._requests = S3Requests(self._http)
        self._uploads = UploadRequests(self._http, self._requests)

    async def read_start(self, uri: ObjectUri, length: int) -> ObjectStart:
        buffer = bytearray(length)
        answer = await self._get(uri, 0, memoryview(buffer), None)
        return ObjectStart(bytes(memoryview(buffer)[: answer.count]), answer.size, answer.version)

    async def read_range(self, uri: ObjectUri, start: int, length: int, version: str | None = None) -> bytes:
        buffer = bytearray(length)
        await self.read_into(uri, start, memoryview(buffer), version)
        return bytes(buffer)

    async def read_into(self, uri: ObjectUri, start: int, view: memoryview, version: str | None = None) -> None:
        range_bytes = _range_bytes(len(view))
        offsets = list(range(0, len(view), range_bytes))
        if version is None and len(offsets) > 1:
            first = await self._get_whole(uri, start, view[:range_bytes], None)
            version = first.version
            del offsets[0]
        places = asyncio.Semaphore(PARALLEL_RANGES)

        async def part(offset: int) -> None:
            async with places:
                await self._get_whole(uri, start + offset, view[offset : offset + range_bytes], version)

        async with one_error_group() as group:
            for offset in offsets:
                group.create_task(part(offset))

    async def put_new(
        self, uri: ObjectUri, parts: Sequence[bytes | memoryview], book: UploadBook = NO_BOOK
    ) -> bool:
        size = sum(map(len, parts))
        # With TLS or without is known once the endpoint is, which may take a look at the SDK's files.
        if size > ONE_PIECE_BYTES and size > await self._run(uri, lambda _: self._one_piece_bytes(uri)):
            return await put_in_parts(self._uploads, self._attempts, uri, parts, book)
        return await self._run(uri, lambda stop: self._requests.put_new(uri, parts, stop))

    async def abort_upload(self, uri: ObjectUri, upload_id: str) -> None:
        await self._attempts(uri, lambda stop: self._uploads.abort(uri, upload_id, stop), once=True)

    async def delete(self, uri: ObjectUri) -> None:
        with suppress(InputMissing):
            await self._run(uri, lambda stop: self._requests.delete(uri, stop), ONE_ATTEMPT)

    async def probe(self) -> None:
        async with one_error_group() as group:
            for place in self._places.values():
                group.create_task(self._probe_place(below(place, "probe")))

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    async def _probe_place(self, uri: ObjectUri) -> None:
        # That there is no such object is an answer, and an answer is all that is asked for.
        with suppress(InputMissing):
            await self._run(uri, lambda stop: self._requests.size(uri, stop), ONE_ATTEMPT)

    def _one_piece_bytes(self, uri: ObjectUri) -> int:
        with mapped_errors(uri):
            return ONE_PIECE_BYTES if self._http.is_tls else ONE_PIECE_BYTES_WITHOUT_TLS

    async def _attempts(self, uri: ObjectUri, work: Callable[[Stop], T], *, once: bool = False) -> T:
        return await self._run(uri, work, ONE_ATTEMPT if once else None)

    async def _run(self, uri: ObjectUri, work: Callable[[Stop], T], policy: RetryPolicy | None = None) -> T:
        async def attempt() -> T:
            return await in_thread(self._executor, work, finish_s=FINISH_S)

        return await retried(attempt, policy or self._policy, str(uri))

    async def _get(self, uri: ObjectUri, start: int, view: memoryview, version: str | None) -> RangeAnswer:
        return await self._run(uri, lambda stop: self._requests.read(uri, start, view, version, stop))

    async def _get_whole(self, uri: ObjectUri, start: int, view: memoryview, version: str | None) -> RangeAnswer:
        answer = await self._get(uri, start, view, version)
        if answer.count != len(view):
            raise InputInvalid(f"{uri} has {answer.size} bytes; bytes up to {start + len(view)} were asked for")
        return answer


def _range_bytes(length: int) -> int:
    """As many of them for each connection, so that all are done at about the same time."""
    turns = ceil(length / (PARALLEL_RANGES * MAX_RANGE_BYTES))
    return max(ceil(length / (PARALLEL_RANGES * max(turns, 1))), MIN_RANGE_BYTES)
