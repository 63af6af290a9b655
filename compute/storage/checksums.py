"""Checksums that a server gives for a whole object. https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html"""

import base64
import hashlib
import zlib
from email.message import Message

from compute.storage.retry import Transient
from compute.storage.threads import CHUNK_BYTES, Stop

_PREFIX = "x-amz-checksum-"


def check_whole(headers: Message, content: memoryview, stop: Stop) -> None:
    """Raises Transient if `content`, all bytes of the object, has not the checksum that stands in the answer's head.

    Those of objects put in parts are of the parts' checksums, and others need more than the standard library has:
    they are passed over.
    """
    if headers.get(f"{_PREFIX}type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return
    for name, found in (("sha256", _sha256), ("crc32", _crc32)):
        stated = headers.get(_PREFIX + name)
        if stated is None or "-" in stated:
            continue
        actual = base64.b64encode(found(content, stop)).decode("ascii")
        if actual != stated:
            raise Transient(f"the body has the {name} {actual}, not {stated[:80]!a} as the server says")
        return


def _sha256(content: memoryview, stop: Stop) -> bytes:
    digest = hashlib.sha256()
    for begin in range(0, len(content), CHUNK_BYTES):
        with stop.touching():
            digest.update(content[begin : begin + CHUNK_BYTES])
    return digest.digest()


def _crc32(content: memoryview, stop: Stop) -> bytes:
    value = 0
    for begin in range(0, len(content), CHUNK_BYTES):
        with stop.touching():
            value = zlib.crc32(content[begin : begin + CHUNK_BYTES], value)
    return value.to_bytes(4, "big")
