"""What stays between tasks, for whom, and that it stands in nobody's way."""

import asyncio
from collections.abc import Iterator

import pytest

from compute.buffer_pool import LEAST_BYTES, MOST_BUFFERS, BufferPool, Wanted
from compute.machine import MachineMemory
from compute.memory import MEMORY_FLOOR_BYTES, HostMemory
from compute.shared_memory import SharedBuffer
from shared.errors import OutOfMemory

MIB = LEAST_BYTES
ANN, BEN = "ann", "ben"
ALL_MIB = 64


@pytest.fixture
def pool() -> Iterator[BufferPool]:
    made = BufferPool(16 * MIB)
    yield made
    made.reclaim(1 << 40)


@pytest.fixture
def memory(pool: BufferPool) -> HostMemory:
    """Of a machine with 64 MiB for tasks, of which nobody but them takes any."""

    def read() -> MachineMemory:
        written = sum(buffer.capacity - buffer.unwritten_bytes for buffer in made._buffers if buffer.fd >= 0)
        total = ALL_MIB * MIB + MEMORY_FLOOR_BYTES
        return MachineMemory(total, total - written)

    made = HostMemory(read=read, pool=pool)
    return made


def given(pool: BufferPool, wanted: Wanted, mark: bytes = b"\1") -> SharedBuffer:
    """A task's buffer, written and lent, as the pool gets it back."""
    buffer = SharedBuffer("tensors", wanted.size)
    buffer.view[:] = mark * wanted.size
    buffer.lend(writable=wanted.writable)
    pool.give(buffer, wanted)
    return buffer


def test_a_buffer_comes_back_to_its_own_tenant_only(pool: BufferPool) -> None:
    buffer = given(pool, Wanted(2 * MIB, ANN))
    assert pool.take(Wanted(2 * MIB, BEN)) is None
    assert pool.take(Wanted(2 * MIB)) is None
    assert pool.take(Wanted(2 * MIB, ANN)) is buffer
    assert pool.take(Wanted(2 * MIB, ANN)) is None
    buffer.close()


def test_what_workers_read_is_never_what_they_write(pool: BufferPool) -> None:
    read, written = given(pool, Wanted(MIB, ANN)), given(pool, Wanted(MIB, ANN, writable=True))
    assert pool.take(Wanted(MIB, ANN, writable=True)) is written
    assert pool.take(Wanted(MIB, ANN)) is read
    read.close()
    written.close()


def test_the_smallest_that_fits_is_taken_and_shows_as_much_as_was_asked_for(pool: BufferPool) -> None:
    small, large = given(pool, Wanted(3 * MIB, ANN)), given(pool, Wanted(5 * MIB, ANN))
    assert pool.take(Wanted(3 * MIB - 7, ANN)) is small
    assert (small.size, len(small.view), small.capacity) == (3 * MIB - 7, 3 * MIB - 7, 3 * MIB)
    assert pool.take(Wanted(2 * MIB, ANN)) is None, "more than half of it would be wasted"
    assert pool.take(Wanted(4 * MIB, ANN)) is large
    small.resize(3 * MIB)
    assert bytes(small.view[-7:]) == b"\1" * 7
    small.close()
    large.close()


def test_the_least_recently_used_go_where_there_are_too_many_bytes_or_too_many(pool: BufferPool) -> None:
    first, second, third = (given(pool, Wanted(6 * MIB, ANN)) for _ in range(3))
    assert (first.fd, pool.idle_bytes) == (-1, 12 * MIB)
    assert min(second.fd, third.fd) >= 0
    many = BufferPool(1 << 40)
    buffers = [given(many, Wanted(MIB, ANN)) for _ in range(MOST_BUFFERS + 1)]
    assert [buffer.fd < 0 for buffer in buffers] == [True] + [False] * MOST_BUFFERS
    many.reclaim(1 << 40)


@pytest.mark.parametrize("wanted", [Wanted(MIB - 1, ANN), Wanted(17 * MIB, ANN), Wanted(MIB)])
def test_what_is_small_or_beyond_the_budget_or_nobodys_is_closed(pool: BufferPool, wanted: Wanted) -> None:
    assert given(pool, wanted).fd < 0
    assert pool.idle_bytes == 0


async def used(memory: HostMemory, *wanted: Wanted, values_bytes: int = 0) -> tuple[SharedBuffer, ...]:
    async with memory.allotted(wanted, values_bytes) as allotment:
        for buffer in allotment.buffers:
            buffer.view[:] = b"\2" * buffer.size
        return allotment.buffers


async def test_the_next_task_computes_in_the_last_ones_memory(memory: HostMemory) -> None:
    wanted = Wanted(4 * MIB, ANN), Wanted(2 * MIB, ANN, writable=True)
    first = await used(memory, *wanted)
    assert memory.promised_bytes == 0
    assert memory.room_bytes() == (ALL_MIB - 6) * MIB
    assert await used(memory, *wanted) == first
    async with memory.allotted(wanted, 0):
        assert memory.promised_bytes == 6 * MIB
        assert memory.room_bytes() == (ALL_MIB - 6) * MIB


async def test_what_is_kept_for_the_next_goes_before_a_task_waits(memory: HostMemory) -> None:
    (kept,) = await used(memory, Wanted(10 * MIB, ANN))
    async with asyncio.timeout(10):
        await used(memory, Wanted(ALL_MIB * MIB, BEN))
    assert kept.fd < 0


async def test_a_larger_buffer_is_not_used_where_its_waste_is_missing(memory: HostMemory) -> None:
    (kept,) = await used(memory, Wanted(16 * MIB, ANN))
    async with asyncio.timeout(10):
        (buffer,) = await used(memory, Wanted(8 * MIB, ANN), values_bytes=(ALL_MIB - 8) * MIB)
    assert buffer is not kept
    assert kept.fd < 0


async def test_a_task_that_finds_no_descriptor_gives_back_what_it_found(
    memory: HostMemory, pool: BufferPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = await used(memory, Wanted(4 * MIB, ANN))

    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.memfd_create", none)
    with pytest.raises(OutOfMemory, match="Too many open files"):
        await used(memory, Wanted(4 * MIB, ANN), Wanted(2 * MIB, ANN))
    assert (memory.promised_bytes, pool.idle_bytes) == (0, 4 * MIB)
    assert pool.take(Wanted(4 * MIB, ANN)) is kept
    kept.close()
