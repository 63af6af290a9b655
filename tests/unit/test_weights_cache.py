"""What stays in memory, what goes first, and that nobody takes what is another's."""

import asyncio
import gc
import os
from pathlib import Path

import pytest

from compute.shared_memory import SharedBuffer, map_shared
from compute.weights.cache import MOST_OBJECTS, Lease, WeightsCache
from compute.weights.key import WeightsKey
from shared.uris import parse_object_uri

SIZE = 1 << 12
ANN, BEN = "ann", "ben"


def key(name: str, *, version: str = '"1"', size: int = SIZE, names: tuple[str, ...] = ("0",)) -> WeightsKey:
    return WeightsKey(parse_object_uri(f"s3://b/public/{name}"), version, b"header", names, size)


def fetched(lease: Lease, wanted: WeightsKey) -> bool:
    """As a task does it: fetch into a buffer of its own, offer it, close it where it was not taken."""
    assert lease.buffer(wanted) is None
    buffer = SharedBuffer("tensors", wanted.size)
    buffer.view[:1] = b"w"
    is_kept = lease.keep(wanted, buffer)
    if not is_kept:
        buffer.close()
    return is_kept


async def use(cache: WeightsCache, wanted: WeightsKey, owner: str | None = ANN) -> bool:
    """Whether it was there already."""
    async with cache.lease([wanted], owner) as lease:
        if lease.buffer(wanted) is None:
            fetched(lease, wanted)
            return False
        return True


async def test_what_was_fetched_is_there_the_next_time_for_any_tenant() -> None:
    cache = WeightsCache(4 * SIZE)
    assert not await use(cache, key("a"), ANN)
    assert await use(cache, key("a"), BEN)


@pytest.mark.parametrize(
    "other", [key("b"), key("a", version='"2"'), key("a", names=("1",)), key("a", size=2 * SIZE)]
)
async def test_another_object_version_or_tensor_is_not_what_is_held(other: WeightsKey) -> None:
    cache = WeightsCache(64 * SIZE)
    await use(cache, key("a"))
    assert not await use(cache, other)


async def test_another_header_of_the_same_version_is_not_what_is_held() -> None:
    cache = WeightsCache(64 * SIZE)
    held = key("a")
    await use(cache, held)
    assert not await use(cache, WeightsKey(held.uri, held.version, b"other", held.names, held.size))


async def test_the_least_recently_used_goes_first_and_the_budget_is_kept() -> None:
    cache = WeightsCache(3 * SIZE)
    for name, owner in (("a", ANN), ("b", BEN), ("c", "cem"), ("a", BEN), ("d", "dan")):
        await use(cache, key(name), owner)
    assert [name for name in "abcd" if cache.holds(key(name))] == ["a", "c", "d"]


async def test_what_is_in_use_stays_and_what_finds_no_room_is_not_kept() -> None:
    cache = WeightsCache(2 * SIZE)
    async with cache.lease([key("a")], ANN) as first, cache.lease([key("b")], BEN) as second:
        assert fetched(first, key("a")) and fetched(second, key("b"))
        async with cache.lease([key("c")], "cem") as third:
            assert not fetched(third, key("c"))
        assert cache.reclaim(1) == 0
        assert cache.holds(key("a")) and cache.holds(key("b"))
    assert cache.reclaim(1) == SIZE
    assert cache.reclaim(10 * SIZE) == SIZE


async def test_what_is_given_back_is_closed() -> None:
    cache = WeightsCache(2 * SIZE)
    async with cache.lease([key("a")], ANN) as lease:
        buffer = SharedBuffer("tensors", SIZE)
        assert lease.keep(key("a"), buffer)
    cache.reclaim(1)
    assert buffer.fd == -1


async def test_one_tenant_takes_half_at_most_and_pushes_out_its_own_only() -> None:
    cache = WeightsCache(4 * SIZE)
    await use(cache, key("bens"), BEN)
    for number in range(10):
        await use(cache, key(str(number)), ANN)
    assert cache.holds(key("bens"))
    assert [number for number in range(10) if cache.holds(key(str(number)))] == [8, 9]
    assert not await use(cache, key("large", size=3 * SIZE), ANN)
    assert not cache.holds(key("large", size=3 * SIZE))


async def test_a_thousand_small_ones_are_not_a_thousand_open_files() -> None:
    cache = WeightsCache(1 << 30)
    gc.collect()  # descriptors of earlier tests' buffers
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3 * MOST_OBJECTS):
        await use(cache, key(str(number)), f"tenant {number}")
    assert len(list(Path("/proc/self/fd").iterdir())) - before == 2 * MOST_OBJECTS
    cache.reclaim(1 << 30)


async def test_what_the_operator_preloaded_makes_room_for_no_task_but_for_memory_at_last() -> None:
    cache = WeightsCache(2 * SIZE)
    await use(cache, key("preloaded"), None)
    for name in ("a", "b"):
        await use(cache, key(name), ANN)
    assert cache.holds(key("preloaded")) and cache.holds(key("b"))
    cache.reclaim(1)
    assert cache.holds(key("preloaded")) and not cache.holds(key("b"))
    cache.reclaim(1)
    assert not cache.holds(key("preloaded"))


async def test_a_newer_version_takes_the_place_of_the_older_also_as_preloaded() -> None:
    cache = WeightsCache(2 * SIZE)
    await use(cache, key("a"), None)
    await use(cache, key("a", version='"2"'), ANN)
    assert not cache.holds(key("a"))
    for name in ("b", "c"):
        await use(cache, key(name), BEN)
    assert cache.holds(key("a", version='"2"'))


async def test_without_a_budget_nothing_is_kept_and_nobody_waits() -> None:
    cache = WeightsCache(0)
    async with cache.lease([key("a")], ANN) as first, cache.lease([key("a")], BEN) as second:
        assert not fetched(first, key("a")) and not fetched(second, key("a"))


async def test_what_is_kept_can_be_written_through_no_descriptor() -> None:
    cache = WeightsCache(2 * SIZE)
    await use(cache, key("a"))
    async with cache.lease([key("a")], BEN) as lease:
        buffer = lease.buffer(key("a"))
        assert buffer is not None and bytes(buffer.view[:1]) == b"w"
        fd = buffer.lend(writable=True)
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        with pytest.raises(PermissionError):
            map_shared(fd, SIZE, writable=True)


async def test_who_wants_what_another_fetches_waits_holding_nothing_and_finds_it() -> None:
    cache = WeightsCache(4 * SIZE)
    await use(cache, key("b"), BEN)

    async def found() -> list[bool]:
        async with cache.lease([key("a"), key("b")], BEN) as second:
            return [second.buffer(wanted) is not None for wanted in (key("a"), key("b"))]

    async with cache.lease([key("a")], ANN) as first:
        second = asyncio.create_task(found())
        await asyncio.sleep(0)
        assert not second.done()
        assert cache.reclaim(1) == SIZE  # what the second will want is not held back by its waiting
        fetched(first, key("a"))
    assert await second == [True, False]


async def test_where_the_first_fails_the_next_one_fetches_and_the_third_waits_for_it() -> None:
    cache = WeightsCache(4 * SIZE)
    fetches = 0

    async def task(*, fails: bool) -> None:
        nonlocal fetches
        async with cache.lease([key("a")], ANN) as lease:
            if lease.buffer(key("a")) is None:
                fetches += 1
                await asyncio.sleep(0)
                if fails:
                    raise ConnectionError
                fetched(lease, key("a"))

    ends = await asyncio.gather(task(fails=True), task(fails=False), task(fails=False), return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionError, type(None), type(None)]
    assert fetches == 2
