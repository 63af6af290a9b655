"""Objects in memory, as descriptors that a server of ours is given, by their paths on it."""

import hashlib
import os
from collections.abc import Iterable, Sequence

from compute.safetensors_header import encode_header
from compute.specs import DType, TensorSpec
from compute.storage.store import NO_BOOK, UploadBook
from shared.uris import ObjectUri, parse_object_uri

CHUNK_BYTES = 1 << 20
OBJECT = parse_object_uri("s3://bench/public/object")

Objects = dict[str, int]


def path_of(uri: ObjectUri) -> str:
    return f"/{uri.bucket}/{uri.key}"


def held(parts: Iterable[bytes | memoryview]) -> int:
    descriptor = os.memfd_create("object")
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]
    return descriptor


def weights_object(spec: TensorSpec) -> int:
    """A safetensors object with one tensor, marked as weights. Every page of it is there."""
    return held((encode_header([("0", spec)], {"isWeights": "true"}), *_random(spec.nbytes)))


def hashed_object(size: int) -> tuple[ObjectUri, int]:
    """A safetensors object with one tensor of `size` bytes, under the name that is its SHA-256."""
    digest = hashlib.sha256()

    def hashing() -> Iterable[bytes]:
        for part in (encode_header([("0", TensorSpec(DType.UINT8, (size,)))]), *_random(size)):
            digest.update(part)
            yield part

    descriptor = held(hashing())
    return parse_object_uri(f"s3://bench/public/{digest.hexdigest()}.safetensors"), descriptor


def _random(size: int) -> Iterable[bytes]:
    for begin in range(0, size, CHUNK_BYTES):
        yield os.urandom(min(CHUNK_BYTES, size - begin))


class Captured:
    """As much of a storage as publishing needs: what is put is held, to be served."""

    def __init__(self) -> None:
        self.objects: Objects = {}

    async def put_new(
        self,
        uri: ObjectUri,
        parts: Sequence[bytes | memoryview],
        book: UploadBook = NO_BOOK,  # noqa: ARG002 # nothing is sent in parts
    ) -> bool:
        self.objects[path_of(uri)] = held(parts)
        return True
