"""Memory that this process and the worker both see: a memfd of fixed size, mapped in each."""

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress

from compute.specs import TensorSpec
from shared.errors import OutOfMemory

ALIGNMENT = 64
"""Tensors of one buffer begin at multiples of this: what vector instructions like best, and any dtype needs."""
BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system."""
_SIZE_IS_FINAL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_F_SEAL_FUTURE_WRITE = 0x10
"""Of linux/fcntl.h: writable mappings that exist stay, no other can be made, and nothing else writes."""


class SharedBuffer:
    """`size` bytes of memory, written through `view`. Another process maps the descriptor that `lend` gives."""

    def __init__(self, name: str, size: int) -> None:
        """All zero. Raises OutOfMemory if the machine has no room for it."""
        self.size = self.capacity = size
        self._is_lent = False
        try:
            self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as exc:
            raise OutOfMemory(f"no shared memory: {exc.strerror}") from exc
        try:
            os.ftruncate(self.fd, max(size, 1))
            # Whoever else holds the descriptor cannot cut the memory from under us.
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SIZE_IS_FINAL)
            self.view = self._all = map_shared(self.fd, size, writable=True)
        except OSError as exc:
            os.close(self.fd)
            raise OutOfMemory(f"no room for {size} bytes of shared memory: {exc.strerror}") from exc

    def lend(self, *, writable: bool) -> int:
        """The descriptor to pass on. Whether its holder may write is settled by the first call, for good."""
        if not self._is_lent:
            seals = fcntl.F_SEAL_SEAL if writable else fcntl.F_SEAL_SEAL | _F_SEAL_FUTURE_WRITE
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
            self._is_lent = True
        return self.fd

    def resize(self, size: int) -> None:
        """Use the first `size` bytes of its `capacity`, with whatever they hold."""
        self.size = size
        self.view = self._all[:size]

    @property
    def unwritten_bytes(self) -> int:
        """What it may still take of the machine's memory."""
        return max(self.capacity - os.fstat(self.fd).st_blocks * BLOCK_BYTES, 0)

    def close(self) -> None:
        """Let go of descriptor and memory. What was lent to be read is free once no view of it is left."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        mapping = self._all.obj
        assert isinstance(mapping, mmap.mmap)
        self.view = self._all = memoryview(b"")
        try:
            mapping.close()
        except BufferError:
            # Frames that an error came through hold views until the collector finds them, which may take minutes. The
            # memory counts as given back from now on, so it cannot wait for that.
            with suppress(OSError):  # of one that was lent to be read only
                mapping.madvise(mmap.MADV_REMOVE)


def map_shared(fd: int, size: int, *, writable: bool) -> memoryview:
    """All bytes of a shared buffer; unmapped when the last view of them is gone. Raises OSError."""
    access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    return memoryview(mmap.mmap(fd, max(size, 1), mmap.MAP_SHARED, access))[:size]


def layout(specs: Sequence[TensorSpec]) -> tuple[tuple[int, ...], int]:
    """Where each tensor begins in a buffer that holds them all, and the buffer's size in bytes."""
    begins, end = [], 0
    for spec in specs:
        begins.append(end)
        end += -(-spec.nbytes // ALIGNMENT) * ALIGNMENT
    return tuple(begins), end


def tensor_views(view: memoryview, specs: Sequence[TensorSpec]) -> list[memoryview]:
    """The bytes of each tensor in a buffer that `layout` describes."""
    begins, _ = layout(specs)
    return [view[begin : begin + spec.nbytes] for begin, spec in zip(begins, specs, strict=True)]
