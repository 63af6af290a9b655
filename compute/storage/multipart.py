"""The requests of a multipart upload, blocking.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape

from compute.storage.body import Body
from compute.storage.retry import Transient
from compute.storage.s3errors import NO_SUCH_UPLOAD, STATUS_OF_CODE, TRANSIENT_CODES, mapped_errors
from compute.storage.s3http import Refusal, S3Http, S3Request, code_in
from compute.storage.s3requests import (
    DELETE_CONNECT_TIMEOUT_S,
    DELETE_SILENCE_S,
    UNKNOWN_CONDITION_STATUSES,
    S3Requests,
)
from compute.storage.threads import Stop
from shared.errors import StorageUnavailable
from shared.uris import ObjectUri

MAX_ID_LENGTH = 2048
_UPLOAD_ID = re.compile(r"<UploadId>([^<>]+)</UploadId>")


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    """From 1."""
    etag: str


class UploadRequests:
    def __init__(self, http: S3Http, objects: S3Requests) -> None:
        self._http = http
        self._objects = objects

    def is_there(self, uri: ObjectUri, stop: Stop) -> bool:
        with mapped_errors(uri):
            return self._objects.is_there(uri, stop)

    def begin(self, uri: ObjectUri, stop: Stop) -> str:
        """The upload's id."""
        with mapped_errors(uri):
            # With a body, though an empty one, it counts as what has an effect: its answer is waited for.
            request = S3Request("POST", uri, {"uploads": ""}, body=Body([]))
            found = _UPLOAD_ID.search(self._document(request, stop))
            upload_id = unescape(found.group(1)) if found else ""
            if not upload_id.isprintable() or not 0 < len(upload_id) <= MAX_ID_LENGTH:
                raise StorageUnavailable(f"{uri}: the server began a multipart upload without an id")
            return upload_id

    def put_part(self, uri: ObjectUri, upload_id: str, number: int, body: Body, stop: Stop) -> str:
        """The part's ETag."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        request = S3Request("PUT", uri, query, body=body)
        with mapped_errors(uri), self._http.answered(request, stop) as answer:
            answer.text()
            etag: str | None = answer.headers.get("etag")
            if not etag:
                raise Transient("the answer to a part has no ETag")
            return etag

    def complete(self, uri: ObjectUri, upload_id: str, parts: Sequence[Part], stop: Stop) -> bool:
        """Whether the object is this upload's; False: another was there first."""
        with mapped_errors(uri):
            try:
                return self._complete(uri, upload_id, parts, {"if-none-match": "*"}, stop)
            except Refusal as refusal:
                if refusal.status == 404 and refusal.code == NO_SUCH_UPLOAD:
                    # Nobody else ends it: an earlier attempt did, whose answer was lost.
                    if self._objects.is_there(uri, stop):
                        return True
                    raise StorageUnavailable(f"{uri}: the server has dropped the multipart upload") from refusal
                if refusal.status not in UNKNOWN_CONDITION_STATUSES or refusal.code in TRANSIENT_CODES:
                    raise
            stop.unstoppable = False
            return not self._objects.is_there(uri, stop) and self._complete(uri, upload_id, parts, {}, stop)

    def abort(self, uri: ObjectUri, upload_id: str, stop: Stop) -> None:
        """No error where there is no such upload."""
        request = S3Request(
            "DELETE",
            uri,
            {"uploadId": upload_id},
            connect_timeout_s=DELETE_CONNECT_TIMEOUT_S,
            silence_s=DELETE_SILENCE_S,
        )
        with mapped_errors(uri):
            try:
                self._document(request, stop)
            except Refusal as refusal:
                if refusal.status != 404:
                    raise

    def _complete(
        self, uri: ObjectUri, upload_id: str, parts: Sequence[Part], condition: dict[str, str], stop: Stop
    ) -> bool:
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>"
            for part in parts
        )
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        document = f'<CompleteMultipartUpload xmlns="{namespace}">{listed}</CompleteMultipartUpload>'
        body = Body([document.encode()])
        request = S3Request("POST", uri, {"uploadId": upload_id}, {**condition}, body)
        try:
            answer = self._document(request, stop)
        except Refusal as refusal:
            if refusal.status == 412:
                return False
            raise
        if "<CompleteMultipartUploadResult" not in answer:
            raise Transient(f"the parts were not joined: {answer[:200]!a}")
        return True

    def _document(self, request: S3Request, stop: Stop) -> str:
        with self._http.answered(request, stop) as answer:
            document = answer.text()
            # The head may be sent before the parts are joined: then the body alone tells of an error.
            if b"<Error" in document:
                code = code_in(document)
                raise Refusal(STATUS_OF_CODE.get(code, answer.status), code)
            return document.decode("utf-8", "replace")
