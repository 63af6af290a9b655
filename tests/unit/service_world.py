"""The real service on real files and a real state folder; the test plays the worker's part, step by step."""

import asyncio
import hashlib
import itertools
import struct
from contextlib import asynccontextmanager
from pathlib import Path

from compute.input_loader import InputLoader
from compute.memory import HostMemory
from compute.results import Results
from compute.safetensors_header import encode_header
from compute.service import Service
from compute.settings import ComputeSettings
from compute.shared_memory import SharedBuffer
from compute.specs import DType, TensorSpec
from compute.storage.files import FileStorage
from compute.storage.store import NO_BOOK
from compute.weights.cache import WeightsCache
from compute.weights.preload import Preload
from compute.worker.lock.sandbox import Sandbox
from compute.worker.wire import Plan
from shared.clock import SystemClock
from shared.ids import TaskKey
from shared.messages import Stage, TaskRequest
from shared.uris import parse_prefix

REQUESTER = "So11111111111111111111111111111111111111112"
OTHER_REQUESTER = "4Nd1mYQzvgV8Vr3Z3nYb7pD6T8K2jqB2eqwY3xgWqV5Q"
PATIENCE_S = 60.0
MODEL = "named"
SPEC = TensorSpec(DType.FLOAT32, (2,))
_numbers = itertools.count(1)


class Held:
    """A place where work waits until the test lets it on."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    def close(self) -> None:
        self.open.clear()

    async def pass_by(self) -> None:
        self.reached.set()
        await self.open.wait()


class HeldStorage(FileStorage):
    """Real files; reads and PUTs wait where the test says so."""

    def __init__(self, roots) -> None:
        super().__init__(roots)
        self.reads, self.puts, self.after_puts = Held(), Held(), Held()

    async def read_into(self, uri, start, view, version=None):
        await self.reads.pass_by()
        await super().read_into(uri, start, view, version)

    async def read_start(self, uri, length):
        await self.reads.pass_by()
        return await super().read_start(uri, length)

    async def put_new(self, uri, parts, book=NO_BOOK):
        await self.puts.pass_by()
        created = await super().put_new(uri, parts, book)
        await self.after_puts.pass_by()
        return created


class HandPool:
    """Copies the first input to each output, once the test lets it."""

    def __init__(self) -> None:
        self.runs = Held()
        self.plan_of = Plan((SPEC,), 7, 0)
        self.run_count = 0
        self.pid: int | None = 1
        self.state = "a test's hand"
        self.on_host = True
        self.sandbox = Sandbox(("a test's hand",))
        self.device_weights = ""
        self.weights_given: list[frozenset[SharedBuffer]] = []

    async def probe(self):
        pass

    async def plan(self, _job, _tenant):
        return self.plan_of

    def check_room(self, _device_bytes):
        pass

    async def run(self, _job, inputs, outputs, started, _tenant, _device_bytes, weights):
        started()
        self.weights_given.append(weights)
        self.run_count += 1
        await self.runs.pass_by()
        outputs.view[: SPEC.nbytes] = inputs[0].view[: SPEC.nbytes]


class WorldClock(SystemClock):
    """The system's, ahead of it by as much as the test says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.slept = asyncio.Event()
        """Set when the service has kept house for the first time, and sleeps until the next."""

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        self.slept.set()
        await super().sleep(seconds)


class World:
    def __init__(self, folder: Path, memory: HostMemory | None = None, **settings: object) -> None:
        self.folder = folder
        for made in (folder / "tensors" / REQUESTER, folder / "tensors" / "public", folder / "outputs"):
            made.mkdir(parents=True, exist_ok=True)
        self.settings = ComputeSettings(
            _env_file=None,
            token_file=folder / "token",
            state_dir=folder / "state",
            allowed_prefixes=f"file://{folder}/tensors",
            output_prefix=f"file://{folder}/outputs",
            catalogue={MODEL: _put_package(folder / "tensors" / "public")},
            **settings,
        )
        self.storage = HeldStorage([parse_prefix(f"file://{folder}")])
        self.pool = HandPool()
        self.results = Results(self.settings.state_dir)
        self.weights = WeightsCache(self.settings.weights_cache_bytes)
        self.memory = memory or HostMemory(self.weights.reclaim)
        self.loader = InputLoader(self.storage, self.memory, self.weights)
        self.preload = Preload(self.settings, self.storage, self.loader, self.weights, SystemClock())
        self.clock = WorldClock()
        self.service = Service(self.settings, self.storage, self.pool, self.results, self.clock, self.loader)
        self.uri = self.tensor_of(REQUESTER)

    def tensor_of(self, requester: str) -> str:
        """The URI of [1, 2] in this requester's folder."""
        path = self.folder / "tensors" / requester / "x.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_header([("0", SPEC)]) + struct.pack("<2f", 1, 2))
        return f"file://{path}"

    def request(self, **members: object) -> TaskRequest:
        number = next(_numbers)
        names = {
            "execution_id": f"execution-{number}",
            "task_id": f"task-{number}",
            "model_id": MODEL,
            "input_uris": [self.uri],
            "output_count": 1,
            "requester": REQUESTER,
            "attempt": 10,
        }
        return TaskRequest(**(names | members))

    async def end(self, key: TaskKey):
        async with asyncio.timeout(PATIENCE_S):
            entry = await self.service.wait(key, None, 60)
        assert entry is not None
        assert not entry.unfinished
        return entry.status()

    async def reach(self, key: TaskKey, stage: Stage) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.service.find(key).stage is not stage:
                await self.service.find(key).change()

    def output_files(self) -> list[Path]:
        return sorted(path for path in (self.folder / "outputs").rglob("*") if path.is_file())


async def until(true, seconds: float = PATIENCE_S) -> None:
    """Waits for what nobody announces."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _put_package(folder: Path) -> str:
    package = b"a package that only the worker would read"
    digest = hashlib.sha256(package).hexdigest()
    (folder / f"{digest}.json").write_bytes(package)
    return digest


@asynccontextmanager
async def world(folder: Path, memory: HostMemory | None = None, **settings: object):
    made = World(folder, memory, **settings)
    try:
        async with made.service.running():
            # Else it may change what a test has just looked at or set.
            async with asyncio.timeout(PATIENCE_S):
                await made.clock.slept.wait()
            yield made
    finally:
        made.storage.close()
        await made.results.close()
