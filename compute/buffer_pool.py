"""Buffers between tasks: memory whose pages are there already.

The kernel zeroes each page when it is first written, while the tensor's bytes wait for it. Reading an object into fresh
memory takes more than twice as long as into memory that a task has used before (docs/performance.md).
"""

from dataclasses import dataclass

from compute.shared_memory import SharedBuffer
from compute.worker.tenants import Tenant

LEAST_BYTES = 1 << 20
"""A smaller buffer is made anew as fast as it is found."""
MOST_BUFFERS = 32
"""Each has two open descriptors."""
MOST_WASTE = 2
"""So many times larger than what is asked for may a buffer be."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A buffer of so many bytes."""

    size: int
    tenant: Tenant | None = None
    """Whose tasks' buffers it may have been, and may become; None: it is made for good and holds zeros."""
    writable: bool = False
    """Whether a worker fills it. Sealing settles that for a buffer's whole life."""


class BufferPool:
    """At most `budget_bytes` (0: none are kept); the least recently used go first.

    A buffer only returns to the tenant whose tasks it has held: its bytes are still in it, and a worker that strayed
    may still look at it.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._idle: dict[SharedBuffer, Wanted] = {}

    @property
    def idle_bytes(self) -> int:
        return sum(buffer.capacity for buffer in self._idle)

    def take(self, wanted: Wanted) -> SharedBuffer | None:
        """The smallest that fits, with a view of `wanted.size` bytes."""
        fitting = [buffer for buffer, last in self._idle.items() if _fits(buffer, last, wanted)]
        if not fitting:
            return None
        buffer = min(fitting, key=lambda one: one.capacity)
        del self._idle[buffer]
        buffer.resize(wanted.size)
        return buffer

    def give(self, buffer: SharedBuffer, last: Wanted) -> None:
        """One that a task needs no more, and what it was wanted for. It is kept or closed."""
        if last.tenant is None or not LEAST_BYTES <= buffer.capacity <= self._budget_bytes:
            buffer.close()
            return
        self._idle[buffer] = last
        while self.idle_bytes > self._budget_bytes or len(self._idle) > MOST_BUFFERS:
            self._drop_oldest()

    def reclaim(self, wanted_bytes: int) -> int:
        """Free at least so many bytes, or all. The bytes freed."""
        freed = 0
        while freed < wanted_bytes and self._idle:
            freed += self._drop_oldest()
        return freed

    def _drop_oldest(self) -> int:
        """The bytes freed."""
        buffer = next(iter(self._idle))
        del self._idle[buffer]
        buffer.close()
        return buffer.capacity


def _fits(buffer: SharedBuffer, last: Wanted, wanted: Wanted) -> bool:
    same_use = (last.tenant, last.writable) == (wanted.tenant, wanted.writable)
    return same_use and wanted.size <= buffer.capacity <= max(wanted.size, 1) * MOST_WASTE
