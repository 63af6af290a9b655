"""A line of limited speed that all connections of a server share, in one direction."""

import threading
import time
from typing import Final

PIECE_BYTES: Final = 64 << 10
"""Connections take turns by so much."""


class Link:
    def __init__(self, bytes_per_s: float | None) -> None:
        """None: no limit."""
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def piece(self, size: int) -> int:
        """As much of `size` as may go at once."""
        return size if self._bytes_per_s is None else min(size, PIECE_BYTES)

    def passed(self, size: int) -> None:
        """Returns when the line would have carried them, behind all that others have sent."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_per_s
            wait_s = self._free_at - time.monotonic()
        time.sleep(max(wait_s, 0.0))
