"""One S3 request each, blocking. The only file that imports boto3 and botocore.

boto3 finds credentials, signs, sends and parses; its errors become ours or `Transient` here. Retries, parallel
ranges and threads are the storage's.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

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
from compute.storage.retry import Transient
from compute.storage.threads import CHUNK_BYTES, Stop
from shared.errors import InputInvalid, InputMissing, SplitUpError, StorageUnavailable
from shared.uris import ObjectUri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""Longest silence of a server, also between a body and the answer to it."""
DELETE_CONNECT_TIMEOUT_S = 2.0
DELETE_READ_TIMEOUT_S = 3.0
"""A delete that is given up is over: one that goes on in its thread could meet the pair's next run."""
MAX_SKEW_S = 240.0
"""Servers refuse signatures from 5 to 15 minutes away from their own time."""

_TRANSIENT_STATUSES = {408, 409, 425, 429}
_TRANSIENT_CODES = {"BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
_NO_SUCH_BUCKET = "NoSuchBucket"
_UNKNOWN_CONDITION_STATUSES = {400, 501}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)


class ServerTimeAuth(botocore.auth.S3SigV4Auth):
    """Signs with the server's time, which botocore leaves to this machine's clock."""

    offset_s = 0.0
    """Server's time less this machine's, once a server complained."""

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = _server_now().strftime(botocore.auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc] # botocore's stubs leave it out


botocore.auth.AUTH_TYPE_MAPS["s3v4"] = ServerTimeAuth


def _server_now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=ServerTimeAuth.offset_s)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What one ranged GET gave: bytes written to the view, bytes of the whole object, its ETag."""

    count: int
    size: int
    version: str


class S3Requests:
    """Requests to one endpoint. boto3 loads its description of S3 at the first of them, not at start."""

    def __init__(self, endpoint_url: str | None, region: str, *, path_style: bool, connections: int) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._path_style = path_style
        self._connections = connections
        self._lock = threading.Lock()
        self._session: boto3.session.Session | None = None
        self._made: S3Client | None = None
        self._made_for_deletes: S3Client | None = None
        self._server_knows_conditions = True

    def size(self, uri: ObjectUri) -> int:
        with _mapped_errors(uri):
            return _head(self._client(), uri)

    def read(self, uri: ObjectUri, start: int, view: memoryview, version: str | None, stop: Stop) -> RangeAnswer:
        """Fill as much of `view` (not empty) as the object has from `start`, of that version if one is given."""
        with _mapped_errors(uri):
            return _ranged_get(self._client(), uri, start, view, version, stop)

    def put_new(self, uri: ObjectUri, parts: Sequence[bytes | memoryview], stop: Stop) -> bool:
        """False: an object was there. Told by `If-None-Match`, or by a HEAD where the server lacks that."""
        with _mapped_errors(uri):
            client = self._client()
            if self._server_knows_conditions:
                try:
                    return _put(client, uri, parts, stop, {"IfNoneMatch": "*"})
                except ClientError as exc:
                    if _status(exc) not in _UNKNOWN_CONDITION_STATUSES or _code(exc) in _TRANSIENT_CODES:
                        raise
            stop.unstoppable = False
            created = not _is_there(client, uri) and _put(client, uri, parts, stop, {})
            self._server_knows_conditions = False
            return created

    def delete(self, uri: ObjectUri) -> None:
        with _mapped_errors(uri):
            self._client_for_deletes().delete_object(Bucket=uri.bucket, Key=uri.key)

    def _client(self) -> "S3Client":
        with self._lock:
            if self._made is None:
                self._made = self._make_client(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            return self._made

    def _client_for_deletes(self) -> "S3Client":
        with self._lock:
            if self._made_for_deletes is None:
                self._made_for_deletes = self._make_client(DELETE_CONNECT_TIMEOUT_S, DELETE_READ_TIMEOUT_S)
            return self._made_for_deletes

    def _make_client(self, connect_timeout_s: float, read_timeout_s: float) -> "S3Client":
        config = Config(
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            max_pool_connections=self._connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path" if self._path_style else "virtual"},
            # Newer checksum headers and trailers are unknown to many S3-compatible servers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            signature_version="s3v4",
            tcp_keepalive=True,
        )
        if self._session is None:
            self._session = boto3.session.Session()
        client = self._session.client(
            "s3", region_name=self._region, endpoint_url=self._endpoint_url, config=config
        )
        client.meta.events.register("before-call.s3", _follow_no_redirect)
        client.meta.events.register("before-call.s3", _send_small_bodies_at_once)
        return client


@contextmanager
def _mapped_errors(uri: ObjectUri) -> Iterator[None]:
    try:
        yield
    # ValueError: botocore parses numbers and dates of headers, also of a head that was cut within one.
    except (BotoCoreError, ClientError, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
        raise _mapped(uri, exc) from exc


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
) -> RangeAnswer:
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
    return RangeAnswer(done, size, answer.get("ETag", ""))


def _answered_size(uri: ObjectUri, start: int, wanted: int, answer: "GetObjectOutputTypeDef") -> int:
    """Bytes of the whole object, once it is sure that the body is what was asked for, or all that there is."""
    content_range, length = answer.get("ContentRange"), answer.get("ContentLength")
    if content_range is None and answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
        raise Transient("the answer ended within its head")  # which http.client takes for the end of the head
    if content_range is None:
        if start or length is None:
            raise StorageUnavailable(f"{uri}: the server ignores Range; one that answers ranged GET is needed")
        return length
    match = _CONTENT_RANGE.fullmatch(content_range)
    first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
    if first != start or last != min(start + wanted, size) - 1:
        raise Transient(f"the answer is {content_range[:80]!a}, not what was asked for")
    return size


def _put(
    client: "S3Client", uri: ObjectUri, parts: Sequence[bytes | memoryview], stop: Stop, condition: Any
) -> bool:
    """Whether the server took it; False where the condition did not hold."""
    size = sum(len(part) for part in parts)
    try:
        client.put_object(
            Bucket=uri.bucket, Key=uri.key, ContentLength=size, Body=_body(parts, size, stop), **condition
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
    ServerTimeAuth.offset_s += skew_s
    return True
