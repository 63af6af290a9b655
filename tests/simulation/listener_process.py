"""The listener as it is shipped, in a world that is simulated; killed, stopped and started again."""

import asyncio
import contextvars
import random
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from solders.keypair import Keypair

from listener.chain.idl import Program, load_idl
from listener.journal.journal import Journal
from listener.node import Node
from listener.outside import Outside
from listener.settings import ListenerSettings
from program import IDL_PATH
from tests.simulation.compute_model import Compute
from tests.simulation.faults import Faults
from tests.simulation.http import ComputeTransport, RpcTransport
from tests.simulation.plan import Life
from tests.simulation.process import Gate
from tests.simulation.program_model import PROGRAM_ID
from tests.simulation.provider import Provider
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import DiskQueue, owner
from tests.simulation.websocket import Websocket

KEY: Final = Keypair.from_seed(bytes([1] * 32))
PROGRAM: Final[Program] = load_idl(IDL_PATH, PROGRAM_ID)
GRACE_S: Final = 5.0


class VirtualClock:
    """The loop's time; people's clocks are an hour ahead."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_700_003_600.0 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Listener:
    """Its journal moves to another file with each kill, as it was at that moment."""

    folder: Path
    settings: ListenerSettings
    providers: Mapping[str, Provider]
    websockets: Mapping[str, Websocket]
    compute: Compute
    compute_faults: Faults
    commits_s: tuple[float, float]
    rng: random.Random
    trace: Trace
    starts: int = 0
    gate: Gate | None = None
    failures: list[str] = field(default_factory=list)
    is_in_its_last_life: bool = False

    @property
    def journal(self) -> Path:
        return self.folder / f"journal-{self.starts}.sqlite"

    async def run(self, lives: tuple[Life, ...]) -> None:
        """Through these lives, then until cancelled."""
        for life in lives:
            await self._live(life)
            await asyncio.sleep(life.pause_s)
        self.is_in_its_last_life = True
        await self._live(None)

    async def _live(self, life: Life | None) -> None:
        self.starts += 1
        gate = self.gate = Gate(life.at_effect if life else None, self.trace)
        disk = DiskQueue(lambda: self.rng.uniform(*self.commits_s), gate.effect)
        journal = Journal(self.journal, disk)
        disk.at_once = False
        self.trace(f"the listener starts, its {self.starts}. time")
        try:
            async with AsyncExitStack() as closing:
                node = Node(self.settings, KEY, PROGRAM, await self._outside(gate, closing), journal)
                work = self._start(node)
                try:
                    await self._until_its_end(node, work, gate, life)
                finally:
                    gate.die()
                    await self._bury(work)
        finally:
            disk.close_at_once()
            self._copy_journal()
            journal.close()

    def _start(self, node: Node) -> "asyncio.Task[None]":
        context = contextvars.copy_context()
        context.run(owner.set, self.starts)
        return asyncio.get_running_loop().create_task(node.live(), context=context)

    async def _until_its_end(self, node: Node, work: "asyncio.Task[None]", gate: Gate, life: Life | None) -> None:
        died = asyncio.get_running_loop().create_task(gate.died.wait())
        await asyncio.wait(
            (work, died), timeout=life.after_s if life else None, return_when=asyncio.FIRST_COMPLETED
        )
        if life is not None and life.is_stopped and not work.done():
            self.trace("the listener is told to stop")
            node.close_intake()
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await node.flush()
        died.cancel()
        if work.done() and not gate.is_dead:
            self.failures.append(f"the listener ended by itself: {work.exception()!r}")
        self.trace("the listener ends")

    async def _bury(self, work: "asyncio.Task[None]") -> None:
        """What the process still does reaches nobody. Nothing of it may be left, or somebody forgot a task."""
        work.cancel()
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()
        left = [task for task in asyncio.all_tasks() if getattr(task, "owner", 0) == self.starts]
        if left:
            self.failures.append(f"asyncio tasks are left: {left}")

    async def _outside(self, gate: Gate, closing: AsyncExitStack) -> Outside:
        args = gate, self.rng, self.trace
        rpc = httpx.AsyncClient(
            transport=RpcTransport(self.providers, *args, (0.005, 0.08)), timeout=20.0, trust_env=False
        )
        compute = httpx.AsyncClient(
            base_url="http://compute",
            transport=ComputeTransport(self.compute_faults, self.compute.serve, *args, (0.0005, 0.005)),
            timeout=10.0,
            trust_env=False,
        )
        return Outside(
            rpc_http=await closing.enter_async_context(rpc),
            compute_http=await closing.enter_async_context(compute),
            connect=lambda url: self.websockets[httpx.URL(url).host].connect(gate),
            clock=VirtualClock(),
            rng=random.Random(self.rng.random()),
        )

    def _copy_journal(self) -> None:
        """The file as SIGKILL leaves it, with its write-ahead log, for the next start."""
        for ending in ("", "-wal"):
            old = self.journal.with_name(self.journal.name + ending)
            if old.exists():
                shutil.copyfile(old, self.folder / f"journal-{self.starts + 1}.sqlite{ending}")
