"""`s3://` objects on any S3-compatible server. The only file that imports boto3 and botocore.

boto3 signs, sends one request and parses the answer; retries, ranges, lengths and cancelling are ours.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore.auth
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from compute.storage.body import PartsBody
from compute.storage.groups import one_error_group
from compute.storage.retry import ONE_ATTEMPT, PATIENT, RetryPolicy, Transient, retried
from compute.storage.store import ObjectStart
from compute.storage.threads import CHUNK_BYTES, Stop, in_thread
from shared.errors import InputInvalid, InputMissing, SplitUpError, StorageUnavailable, TooLarge
from shared.uris import ObjectUri, below

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

THREADS = 16
PARALLEL_RANGES = 4
"""Requests at once for one large read; the threads are shared by all reads."""
RANGE_BYTES = 8 << 20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""Longest silence of a server, also between a body and the answer to it."""
FINISH_S = 5.0
"""How long the answer to a cancelled PUT whose body is all sent is waited for."""
MAX_PUT_BYTES = 5 << 30
"""S3's own limit for an object that is put in one piece."""
MAX_SKEW_S = 240.0
"""Servers refuse signatures from 5 to 15 minutes away from their own time."""

_TRANSIENT_STATUSES = {408, 409, 425, 429}
_TRANSIENT_CODES = {"BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
_NO_SUCH_BUCKET = "NoSuchBucket"
_UNKNOWN_CONDITION_STATUSES = {400, 501}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)

T = TypeVar("T")


class _ServerTimeAuth(botocore.auth.S3SigV4Auth):
    """Signs with the server's time, which botocore leaves to this machine's clock."""

    offset_s = 0.0
    """Server's time less this machine's, once a server complained."""

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = _server_now().strftime(botocore.auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc] # botocore's stubs leave it out


botocore.auth.AUTH_TYPE_MAPS["s3v4"] = _ServerTimeAuth


def _server_now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=_ServerTimeAuth.offset_s)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one ranged GET gave: bytes written to the view, bytes of the whole object, its ETag."""

    count: int
    size: int
    version: str


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
        self._endpoint_url = endpoint_url
        self._region = region
        self._path_style = path_style
        self._policy = policy
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._client_lock = threading.Lock()
        self._made_client: S3Client | None = None
        self._server_knows_conditions = True

    async def size(self, uri: ObjectUri) -> int:
        return await self._run(uri, lambda client, _: _head(client, uri))

    async def read_start(self, uri: ObjectUri, length: int) -> ObjectStart:
        buffer = bytearray(length)
        answer = await self._get(uri, 0, memoryview(buffer), None)
        return ObjectStart(bytes(buffer[: answer.count]), answer.size, answer.version)

    async def read_range(self, uri: ObjectUri, start: int, length: int, version: str | None = None) -> bytes:
        buffer = bytearray(length)
        await self.read_into(uri, start, memoryview(buffer), version)
        return bytes(buffer)

    async def read_into(self, uri: ObjectUri, start: int, view: memoryview, version: str | None = None) -> None:
        offsets = list(range(0, len(view), RANGE_BYTES))
        if version is None and len(offsets) > 1:
            first = await self._get_whole(uri, start, view[:RANGE_BYTES], None)
            version = first.version
            del offsets[0]
        places = asyncio.Semaphore(PARALLEL_RANGES)

        async def part(offset: int) -> None:
            async with places:
                await self._get_whole(uri, start + offset, view[offset : offset + RANGE_BYTES], version)

        async with one_error_group() as group:
            for offset in offsets:
                group.create_task(part(offset))

    async def put_new(self, uri: ObjectUri, parts: Sequence[bytes | memoryview]) -> bool:
        size = sum(len(part) for part in parts)
        if size > MAX_PUT_BYTES:
            raise TooLarge(f"{uri} would have {size} bytes; one object may have at most {MAX_PUT_BYTES}")
        return await self._run(uri, lambda client, stop: self._put(client, uri, parts, size, stop))

    async def delete(self, uri: ObjectUri) -> None:
        def work(client: "S3Client", _: Stop) -> None:
            client.delete_object(Bucket=uri.bucket, Key=uri.key)

        await self._run(uri, work)

    async def probe(self) -> None:
        async with one_error_group() as group:
            for place in self._places.values():
                group.create_task(self._probe_place(below(place, "probe")))

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _probe_place(self, uri: ObjectUri) -> None:
        # That there is no such object is an answer, and an answer is all that is asked for.
        with suppress(InputMissing):
            await self._run(uri, lambda client, _: _head(client, uri), ONE_ATTEMPT)

    async def _run(
        self, uri: ObjectUri, work: Callable[["S3Client", Stop], T], policy: RetryPolicy | None = None
    ) -> T:
        def mapped(stop: Stop) -> T:
            try:
                return work(self._client(), stop)
            except (BotoCoreError, ClientError, urllib3.exceptions.HTTPError, OSError) as exc:
                raise _mapped(uri, exc) from exc

        return await retried(
            lambda: in_thread(self._executor, mapped, finish_s=FINISH_S), policy or self._policy, str(uri)
        )

    async def _get(self, uri: ObjectUri, start: int, view: memoryview, version: str | None) -> _Answer:
        return await self._run(uri, lambda client, stop: _ranged_get(client, uri, start, view, version, stop))

    async def _get_whole(self, uri: ObjectUri, start: int, view: memoryview, version: str | None) -> _Answer:
        answer = await self._get(uri, start, view, version)
        if answer.count != len(view):
            raise InputInvalid(f"{uri} has {answer.size} bytes; bytes up to {start + len(view)} were asked for")
        return answer

    def _client(self) -> "S3Client":
        # Made in a thread, at the first use: boto3 takes long to load its description of S3.
        with self._client_lock:
            if self._made_client is None:
                self._made_client = _make_client(self._endpoint_url, self._region, self._path_style)
            return self._made_client

    def _put(
        self, client: "S3Client", uri: ObjectUri, parts: Sequence[bytes | memoryview], size: int, stop: Stop
    ) -> bool:
        if self._server_knows_conditions:
            try:
                return _put_if_none(client, uri, parts, size, stop)
            except ClientError as exc:
                if _status(exc) not in _UNKNOWN_CONDITION_STATUSES or _code(exc) in _TRANSIENT_CODES:
                    raise
                self._server_knows_conditions = False
        stop.unstoppable = False
        if _is_there(client, uri):
            return False
        client.put_object(Bucket=uri.bucket, Key=uri.key, ContentLength=size, Body=_body(parts, size, stop))
        return True


def _make_client(endpoint_url: str | None, region: str, path_style: bool) -> "S3Client":
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=THREADS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if path_style else "virtual"},
        # Newer checksum headers and trailers are unknown to many S3-compatible servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
        tcp_keepalive=True,
    )
    client = boto3.session.Session().client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
    client.meta.events.register("before-call.s3", _follow_no_redirect)
    client.meta.events.register("before-call.s3", _send_small_bodies_at_once)
    return client


def _follow_no_redirect(params: dict[str, Any], **_: object) -> None:
    # botocore follows a server to another region's host once; told that it already has, it does not.
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _send_small_bodies_at_once(params: dict[str, Any], **_: object) -> None:
    # `Expect: 100-continue` costs a round trip, or a second where a server does not know it.
    if not isinstance(params["body"], PartsBody):
        params["headers"].pop("Expect", None)


def _head(client: "S3Client", uri: ObjectUri) -> int:
    length = client.head_object(Bucket=uri.bucket, Key=uri.key).get("ContentLength")
    if length is None:
        raise StorageUnavailable(f"{uri}: the server gives no Content-Length")
    return length


def _is_there(client: "S3Client", uri: ObjectUri) -> bool:
    try:
        _head(client, uri)
    except ClientError as exc:
        if _status(exc) == 404:
            return False
        raise
    return True


def _ranged_get(
    client: "S3Client", uri: ObjectUri, start: int, view: memoryview, version: str | None, stop: Stop
) -> _Answer:
    """Fill as much of `view` as the object has from `start`. The range and the length answered are checked."""
    if not view:
        return _Answer(0, start, version or "")
    stop.check()
    condition: Any = {"IfMatch": version} if version and version.startswith('"') else {}
    answer = client.get_object(
        Bucket=uri.bucket, Key=uri.key, Range=f"bytes={start}-{start + len(view) - 1}", **condition
    )
    body: Any = answer["Body"]  # botocore has no public way to the connection below
    with closing(body), stop.interruptible(body._raw_stream.shutdown):
        size = _answered_size(uri, start, len(view), answer)
        wanted = min(len(view), size - start)
        done = 0
        while done < wanted:
            chunk = body.read(min(CHUNK_BYTES, wanted - done))
            if not chunk:
                raise Transient(f"the body ended after {done} of {wanted} bytes")
            with stop.touching():
                view[done : done + len(chunk)] = chunk
            done += len(chunk)
    return _Answer(done, size, answer.get("ETag", ""))


def _answered_size(uri: ObjectUri, start: int, wanted: int, answer: "GetObjectOutputTypeDef") -> int:
    """Bytes of the whole object, once it is sure that the body is what was asked for, or all that there is."""
    content_range, length = answer.get("ContentRange"), answer.get("ContentLength")
    if content_range is None:
        if start or length is None:
            raise StorageUnavailable(f"{uri}: the server ignores Range; one that answers ranged GET is needed")
        return length
    match = _CONTENT_RANGE.fullmatch(content_range)
    first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
    if first != start or last != min(start + wanted, size) - 1:
        raise Transient(f"the answer is {content_range[:80]!a}, not what was asked for")
    return size


def _put_if_none(
    client: "S3Client", uri: ObjectUri, parts: Sequence[bytes | memoryview], size: int, stop: Stop
) -> bool:
    try:
        client.put_object(
            Bucket=uri.bucket, Key=uri.key, ContentLength=size, Body=_body(parts, size, stop), IfNoneMatch="*"
        )
    except ClientError as exc:
        if _status(exc) == 412:
            return False
        raise
    return True


def _body(parts: Sequence[bytes | memoryview], size: int, stop: Stop) -> Any:
    """Small bodies as a copy, large ones out of the caller's memory."""
    if size > CHUNK_BYTES:
        return PartsBody(parts, stop)
    with stop.touching():
        body = b"".join(parts)
    stop.unstoppable = True
    return body


def _status(exc: ClientError) -> int:
    return exc.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(exc: ClientError) -> str:
    return exc.response.get("Error", {}).get("Code", "")


def _mapped(uri: ObjectUri, exc: Exception) -> Transient | SplitUpError:
    """What a foreign exception means here: to be tried again, or an error of ours."""
    if isinstance(exc, ClientError):
        return _mapped_answer(uri, exc)
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return StorageUnavailable(f"{uri}: {exc}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(exc, ParamValidationError):
        return StorageUnavailable(f"{uri}: {exc}")
    return Transient(f"{type(exc).__name__}: {exc}"[:300])


def _mapped_answer(uri: ObjectUri, exc: ClientError) -> Transient | SplitUpError:
    status, code = _status(exc), _code(exc)
    shown = f"the server answered {status} {ascii(code)[1:81]}".rstrip("'")
    if status >= 500 or status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES:
        return Transient(shown)
    if status == 404 and code != _NO_SUCH_BUCKET:
        return InputMissing(f"{uri} is not there")
    if status == 412:
        return InputInvalid(f"{uri} changed while it was being read")
    if status == 416:
        return InputInvalid(f"{uri} is shorter than the bytes that were asked for")
    if status == 403 and _corrected_time(exc):
        return Transient(f"{shown}: this machine's clock is off; the server's time is used from now on")
    return StorageUnavailable(f"{uri}: {shown}; check the bucket, the region and the credentials' rights")


def _corrected_time(exc: ClientError) -> bool:
    """Take over the server's time if ours was too far off for a signature (HEAD gives no code that says so)."""
    date = exc.response["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        skew_s = (parsedate_to_datetime(date) - _server_now()).total_seconds()
    except (TypeError, ValueError):
        return False
    if abs(skew_s) < MAX_SKEW_S:
        return False
    _ServerTimeAuth.offset_s += skew_s
    return True
