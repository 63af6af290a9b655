"""The machine's memory: what is free, and shared buffers only where there is room for them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from compute.shared_memory import SharedBuffer
from shared.errors import OutOfMemory

MEMORY_FLOOR_BYTES = 256 << 20
"""Left to the process itself and to the rest of the machine."""


class HostMemory:
    """Counts what it gave out. A memfd takes its memory only when it is written, and then the kernel kills."""

    def __init__(self) -> None:
        self._given: set[SharedBuffer] = set()

    @contextmanager
    def buffers(self, sizes: Sequence[int], beside_bytes: int) -> Iterator[list[SharedBuffer]]:
        """Zeroed buffers until the block ends; `beside_bytes` is what their use takes in addition.

        Raises OutOfMemory where that does not fit beside what others were promised and have not written yet.
        """
        needed = sum(sizes) + beside_bytes
        promised = sum(buffer.unwritten_bytes for buffer in self._given)
        room = max(available_memory_bytes() - MEMORY_FLOOR_BYTES - promised, 0)
        if needed > room:
            raise OutOfMemory(f"the task needs {needed} bytes of this machine's memory, which has room for {room}")
        with ExitStack() as stack:
            made = [stack.enter_context(closing(SharedBuffer("tensors", size))) for size in sizes]
            self._given.update(made)
            try:
                yield made
            finally:
                self._given.difference_update(made)


def available_memory_bytes() -> int:
    """What the kernel says could be had without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0
