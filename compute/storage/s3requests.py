"""One S3 request each, blocking, of whole objects. Retries, parallel ranges and threads are the storage's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compute.storage.body import Body
from compute.storage.checksums import check_whole
from compute.storage.response import S3Response
from compute.storage.retry import Transient
from compute.storage.s3errors import TRANSIENT_CODES, mapped_errors
from compute.storage.s3http import Refusal, S3Http, S3Request
from compute.storage.threads import Stop
from shared.errors import InputInvalid, StorageUnavailable
from shared.uris import ObjectUri

DELETE_CONNECT_TIMEOUT_S = 2.0
DELETE_SILENCE_S = 3.0
"""A delete that is given up is over: one that goes on in its thread could meet the pair's next run."""

UNKNOWN_CONDITION_STATUSES = {400, 501}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What one ranged GET gave: bytes written to the view, bytes of the whole object, its ETag."""

    count: int
    size: int
    version: str


class S3Requests:
    """Requests to one endpoint."""

    def __init__(self, http: S3Http) -> None:
        self._http = http
        self._server_knows_conditions = True

    def size(self, uri: ObjectUri, stop: Stop) -> int:
        with mapped_errors(uri), self._http.answered(S3Request("HEAD", uri), stop) as answer:
            length = answer.headers.get("content-length")
            answer.text()
            if length is None:
                raise StorageUnavailable(f"{uri}: the server gives no Content-Length")
            return int(length)

    def is_there(self, uri: ObjectUri, stop: Stop) -> bool:
        try:
            with self._http.answered(S3Request("HEAD", uri), stop) as answer:
                answer.text()
        except Refusal as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    def read(self, uri: ObjectUri, start: int, view: memoryview, version: str | None, stop: Stop) -> RangeAnswer:
        """Fill as much of `view` (not empty) as the object has from `start`, of that version if one is given."""
        headers = {"range": f"bytes={start}-{start + len(view) - 1}", "x-amz-checksum-mode": "ENABLED"}
        if version and version.startswith('"'):
            headers["if-match"] = version
        with mapped_errors(uri), self._http.answered(S3Request("GET", uri, headers=headers), stop) as answer:
            size = _answered_size(uri, start, len(view), answer)
            etag: str = answer.headers.get("etag", "")
            if version and etag != version:  # of a server that passes over If-Match
                raise InputInvalid(f"{uri} changed while it was being read")
            wanted = view[: size - start]
            answer.read_into(wanted, stop)
            if len(wanted) == size:
                check_whole(answer.headers, wanted, stop)
            return RangeAnswer(len(wanted), size, etag)

    def put_new(self, uri: ObjectUri, parts: Sequence[bytes | memoryview], stop: Stop) -> bool:
        """False: an object was there. Told by `If-None-Match`, or by a HEAD where the server lacks that."""
        body = Body(parts)
        with mapped_errors(uri):
            if self._server_knows_conditions:
                try:
                    return self._put(uri, body, stop, {"if-none-match": "*"})
                except Refusal as refusal:
                    if refusal.status not in UNKNOWN_CONDITION_STATUSES or refusal.code in TRANSIENT_CODES:
                        raise
            stop.unstoppable = False
            created = not self.is_there(uri, stop) and self._put(uri, body, stop, {})
            self._server_knows_conditions = False
            return created

    def delete(self, uri: ObjectUri, stop: Stop) -> None:
        request = S3Request("DELETE", uri, connect_timeout_s=DELETE_CONNECT_TIMEOUT_S, silence_s=DELETE_SILENCE_S)
        with mapped_errors(uri), self._http.answered(request, stop) as answer:
            answer.text()

    def _put(self, uri: ObjectUri, body: Body, stop: Stop, condition: dict[str, str]) -> bool:
        """Whether the server took it; False where the condition did not hold."""
        # What the name promises is what the server checks the body against.
        request = S3Request("PUT", uri, headers=condition, body=body, body_sha256=uri.content_hash)
        try:
            with self._http.answered(request, stop) as answer:
                answer.text()
        except Refusal as refusal:
            if refusal.status == 412:
                return False
            raise
        return True


def _answered_size(uri: ObjectUri, start: int, wanted: int, answer: S3Response) -> int:
    """Bytes of the whole object, once it is sure that the body is what was asked for, or all that there is."""
    content_range, length = answer.headers.get("content-range"), answer.headers.get("content-length")
    if content_range is None and answer.status == 206:
        raise Transient("the answer ended within its head")  # which http.client takes for the end of the head
    if content_range is None:
        if start or length is None:
            raise StorageUnavailable(f"{uri}: the server ignores Range; one that answers ranged GET is needed")
        return int(length)
    match = _CONTENT_RANGE.fullmatch(content_range)
    first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
    if first != start or last != min(start + wanted, size) - 1:
        raise Transient(f"the answer is {content_range[:80]!a}, not what was asked for")
    if length is not None and int(length) != last + 1 - first:
        raise Transient(f"the answer has {int(length)} bytes, not the {last + 1 - first} of its range")
    return size
