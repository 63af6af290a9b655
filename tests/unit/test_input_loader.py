"""Weights are fetched once and used where they lie, by tasks on real files and a machine whose memory a test sets."""

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compute.input_loader import InputLoader
from compute.inputs import Input, selected
from compute.machine import MachineMemory
from compute.memory import MEMORY_FLOOR_BYTES, HostMemory
from compute.safetensors_header import encode_header, parse_header
from compute.specs import DType, TensorSpec
from compute.storage.files import FileStorage
from compute.tensors import read_header
from compute.weights.cache import WeightsCache
from shared.errors import InputInvalid
from shared.uris import parse_prefix, parse_tensor_uri
from tests.written import write_settled

ELEMENTS = 1 << 15
SIZE = 4 * ELEMENTS
SPEC = TensorSpec(DType.FLOAT32, (ELEMENTS,))


class SlowFiles(FileStorage):
    """Real files; what was read is written down, and tensors are read once the test lets it."""

    def __init__(self, roots) -> None:
        super().__init__(roots)
        self.reads: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def read_into(self, uri, start, view, version=None):
        self.reads.append(str(uri))
        await self.open.wait()
        await super().read_into(uri, start, view, version)


class World:
    def __init__(self, folder: Path, budget_bytes: int = 8 * SIZE, machine_bytes: int = 64 * SIZE) -> None:
        self.folder = folder
        self.storage = SlowFiles([parse_prefix(f"file://{folder}")])
        self.weights = WeightsCache(budget_bytes)
        self.available = MEMORY_FLOOR_BYTES + machine_bytes
        self.memory = HostMemory(self.weights.reclaim, read=self.read_machine)
        self.loader = InputLoader(self.storage, self.memory, self.weights)
        self.stay: list[bool] = []
        """Of the last task's inputs, which may be there for the next one."""

    def read_machine(self) -> MachineMemory:
        """As the kernel would tell it, if this process' buffers were all that it has to hold."""
        used = sum(buffer.size - buffer.unwritten_bytes for buffer in self.memory._buffers if buffer.fd >= 0)
        return MachineMemory(self.available, self.available - used)

    def put(self, name: str, fill: bytes = b"\1", metadata: dict[str, str] | None = None) -> str:
        header = encode_header([("0", SPEC)], {"isWeights": "true"} if metadata is None else metadata)
        path = self.folder / name
        write_settled(path, header + fill * SIZE)
        return f"file://{path}"

    async def given(self, uri: str) -> Input:
        parsed = parse_tensor_uri(uri)
        header = await read_header(self.storage, parsed.object, max_header_bytes=1 << 20, max_tensors=10)
        return selected(parsed, header)

    @asynccontextmanager
    async def task(self, *uris: str, owner: str = "ann", values_bytes: int = 0):
        inputs = [await self.given(uri) for uri in uris]
        async with self.loader.loaded(inputs, [64], values_bytes, owner) as loaded:
            (outputs,) = loaded.beside
            assert outputs.size == 64
            self.stay = [buffer in loaded.weights for buffer in loaded.inputs]
            yield [bytes(buffer.view[:SIZE]) for buffer in loaded.inputs]

    async def run(self, *uris: str, **arguments: object) -> list[bytes]:
        async with self.task(*uris, **arguments) as loaded:
            await asyncio.sleep(0.01)
            return loaded


@pytest.fixture
async def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.storage.close()


async def test_the_second_task_reads_no_tensor_and_the_memory_is_counted_once(world: World) -> None:
    uri, x = world.put("w"), world.put("x", b"\2", {})
    for _ in range(2):
        async with world.task(uri, x) as (weights, activations):
            assert (weights, activations) == (b"\1" * SIZE, b"\2" * SIZE)
            assert world.stay == [True, False]
            assert world.memory.promised_bytes == 2 * SIZE + 64
        assert world.memory.promised_bytes == SIZE
    assert world.storage.reads == [uri, x, x]


async def test_what_is_not_marked_as_weights_is_read_each_time(world: World) -> None:
    uri = world.put("x", metadata={"isWeights": "false"})
    for _ in range(2):
        async with world.task(uri):
            assert world.stay == [False]
    assert world.storage.reads == [uri, uri]
    assert world.memory.promised_bytes == 0


async def test_an_object_that_changed_is_read_anew(world: World) -> None:
    uri = world.put("w")
    async with world.task(uri):
        pass
    world.put("w", b"\3")
    async with world.task(uri) as (weights,):
        assert weights == b"\3" * SIZE
    assert world.memory.promised_bytes == SIZE


async def test_an_object_that_is_changed_in_place_at_the_same_moment_as_before_is_read_anew(world: World) -> None:
    uri = world.put("w")
    for fill in (b"\5", b"\6", b"\7"):
        with (world.folder / "w").open("r+b") as file:
            file.seek(-SIZE, os.SEEK_END)
            file.write(fill * SIZE)
        os.utime(world.folder / "w", ns=(1, 1))
        async with world.task(uri) as (weights,):
            assert weights == fill * SIZE


async def test_tasks_that_want_the_same_at_once_fetch_it_once(world: World) -> None:
    uri = world.put("w")
    world.storage.open.clear()

    tasks = [asyncio.create_task(world.run(uri, owner=owner)) for owner in ("ann", "ben", "cem")]
    async with asyncio.timeout(10):
        while not world.storage.reads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    world.storage.open.set()
    assert await asyncio.gather(*tasks) == [[b"\1" * SIZE]] * 3
    assert world.storage.reads == [uri]


async def test_a_task_that_is_cancelled_while_it_fetches_leaves_the_next_one_to_do_it(world: World) -> None:
    uri = world.put("w")
    world.storage.open.clear()
    first = asyncio.create_task(world.run(uri))
    async with asyncio.timeout(10):
        while not world.storage.reads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # Only now: headers are read by threads, and either could be the first to fetch.
        second = asyncio.create_task(world.run(uri))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.wait({first})
        world.storage.open.set()
        assert await second == [b"\1" * SIZE]
    assert world.storage.reads == [uri, uri]


async def test_the_same_weights_twice_in_one_task_are_kept_once(world: World) -> None:
    uri = world.put("w")
    for _ in range(2):
        async with world.task(uri, uri) as loaded:
            assert loaded == [b"\1" * SIZE] * 2
    assert world.storage.reads == [uri]
    assert world.memory.promised_bytes == SIZE


async def test_weights_named_by_their_hash_are_verified_when_they_are_fetched_and_kept_only_then(
    world: World,
) -> None:
    good = (world.folder / "w", world.put("w"))[0].read_bytes()
    name = f"{hashlib.sha256(good).hexdigest()}.safetensors"
    bad = world.put(name, b"\4")
    for _ in range(2):
        with pytest.raises(InputInvalid, match="SHA-256"):
            async with world.task(bad):
                pass
    assert world.memory.promised_bytes == 0
    uri = world.put(name)
    world.storage.reads.clear()
    for _ in range(2):
        async with world.task(uri) as (weights,):
            assert weights == b"\1" * SIZE
    assert world.storage.reads == [uri]


async def test_a_validator_that_promises_no_equal_bytes_keeps_nothing() -> None:
    header = encode_header([("0", SPEC)], {"isWeights": "true"})
    for version in (None, "", 'W/"1"', '"1"'):
        parsed = parse_header(header, len(header) + SIZE)
        object.__setattr__(parsed, "version", version)
        given = selected(parse_tensor_uri("s3://b/public/w"), parsed)
        assert (given.weights is not None) == (version == '"1"')


async def test_idle_weights_make_room_for_a_task_and_weights_in_use_make_it_wait(tmp_path: Path) -> None:
    world = World(tmp_path, machine_bytes=3 * SIZE)
    try:
        uris = [world.put(name) for name in ("a", "b", "c")]
        async with world.task(uris[0], owner="ann"):
            pass
        async with world.task(uris[1], owner="ben"):
            # One SIZE is free, one is idle, one is in use.
            async with world.task(uris[2], owner="cem", values_bytes=SIZE - 256):
                assert len(world.weights._held) == 2
            waiting = asyncio.create_task(world.run(uris[0], values_bytes=2 * SIZE - 256))
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done
        async with asyncio.timeout(10):
            await waiting
    finally:
        world.storage.close()


async def test_tasks_that_hold_weights_and_wait_for_memory_do_not_wait_for_each_other(tmp_path: Path) -> None:
    world = World(tmp_path, machine_bytes=3 * SIZE)
    try:
        uris = [world.put(name) for name in ("a", "b")]
        for uri in uris:
            async with world.task(uri):
                pass

            # Each needs what the other's weights take.
        async with asyncio.timeout(10):
            await asyncio.gather(*(world.run(uri, values_bytes=2 * SIZE - 256) for uri in uris * 2))
    finally:
        world.storage.close()


async def test_who_waits_for_weights_that_another_task_fetches_holds_up_nobody_else(world: World) -> None:
    uri, x = world.put("w"), world.put("x", b"\2", {})
    fetched = asyncio.Event()
    read_into = world.storage.read_into

    async def read_weights_late(given, *arguments):
        if str(given) == uri:
            await fetched.wait()
        await read_into(given, *arguments)

    world.storage.read_into = read_weights_late
    # All three come while another one waits for memory, when nobody fetches the weights yet.
    async with world.loader._turn:
        first, second = (asyncio.create_task(world.run(uri)) for _ in range(2))
        await asyncio.sleep(0.2)
        other = asyncio.create_task(world.run(x, owner="ben"))
        await asyncio.sleep(0.2)
    async with asyncio.timeout(10):
        assert await other == [b"\2" * SIZE]
        fetched.set()
        assert await asyncio.gather(first, second) == [[b"\1" * SIZE]] * 2
    assert world.storage.reads == [x, uri]


async def test_what_is_read_only_for_its_hash_is_promised_before_it_is_read(tmp_path: Path) -> None:
    large = TensorSpec(DType.FLOAT32, (6 << 20,))
    data = encode_header([("0", SPEC), ("1", large)]) + b"\1" * (SIZE + large.nbytes)
    name = f"{hashlib.sha256(data).hexdigest()}.safetensors"
    (tmp_path / name).write_bytes(data)
    world = World(tmp_path, machine_bytes=1024 * SIZE)
    try:
        async with world.task(f"file://{tmp_path}/{name}#0"):
            assert world.memory.promised_bytes == SIZE + 64 + large.nbytes
        assert world.memory.promised_bytes == 0
    finally:
        world.storage.close()
