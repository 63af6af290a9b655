"""The body of a PUT: several parts as one, sent piece by piece out of the caller's memory."""

import hashlib
from collections.abc import Iterator, Sequence

from compute.storage.threads import CHUNK_BYTES, Stop

LAST_BYTES = 4 << 10
"""So little, at the end of a body, is taken by a socket that can be written to at all."""


class Body:
    """`parts` one after the other. Nothing is copied; the parts are touched only as `Stop.touching` allows."""

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts if len(part)]
        self.size = sum(map(len, self._parts))

    def pieces(self) -> Iterator[memoryview]:
        """All bytes in their order, at most a chunk at once, the last piece at most LAST_BYTES."""
        last = max(self.size - LAST_BYTES, 0)
        for part in (*self._section(0, last), *self._section(last, self.size)):
            for begin in range(0, len(part), CHUNK_BYTES):
                yield part[begin : begin + CHUNK_BYTES]

    def section(self, begin: int, end: int) -> "Body":
        """The bytes from `begin` to `end` as a body of their own."""
        return Body(self._section(begin, end))

    def sha256(self, stop: Stop) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            with stop.touching():
                digest.update(piece)
        return digest.hexdigest()

    def _section(self, begin: int, end: int) -> list[memoryview]:
        found: list[memoryview] = []
        offset = 0
        for part in self._parts:
            if offset < end and begin < offset + len(part):
                found.append(part[max(begin - offset, 0) : end - offset])
            offset += len(part)
        return found
