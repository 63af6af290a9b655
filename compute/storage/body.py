"""The body of a PUT, read piece by piece out of the caller's memory."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from compute.storage.threads import CHUNK_BYTES, Stop


class PartsBody(io.RawIOBase):
    """A seekable reader of several parts as one. It stops with its transfer, and then lets go of the memory."""

    def __init__(self, parts: Sequence[bytes | memoryview], stop: Stop) -> None:
        self._parts = [memoryview(part) for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))
        self._size = self._ends[-1] if self._ends else 0
        self._stop = stop
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        self._stop.unstoppable = False
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, of one part and one chunk; empty at the end."""
        index = bisect_right(self._ends, self._position)
        if index == len(self._parts):
            return b""
        part = self._parts[index]
        begin = self._position - (self._ends[index] - len(part))
        length = CHUNK_BYTES if size < 0 else min(size, CHUNK_BYTES)
        with self._stop.touching():
            chunk = bytes(part[begin : begin + length])
        self._position += len(chunk)
        # From here the server may hold all of it: only the answer can tell.
        self._stop.unstoppable = self._position == self._size
        return chunk
