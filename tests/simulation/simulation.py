"""One run: a world made from a seed, the listener in it, and the books at the end."""

import asyncio
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from solders.keypair import Keypair

from listener.settings import ListenerSettings
from tests.simulation.audit import audit
from tests.simulation.books import Books
from tests.simulation.chain import Chain, Landed
from tests.simulation.compute_model import Compute
from tests.simulation.faults import Fault, Faults
from tests.simulation.listener_process import KEY, Listener
from tests.simulation.people import People
from tests.simulation.plan import REQUESTERS, Plan, plan_of
from tests.simulation.program_model import PROGRAM_ID
from tests.simulation.provider import Provider
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop
from tests.simulation.websocket import Websocket

FUNDED_LAMPORTS: Final = 1_000_000_000
REQUESTERS_LAMPORTS: Final = 100_000_000_000
QUIET_WITHIN_S: Final = 1_500.0
"""After the last fault, for everything to come to its end."""
LOOK_S: Final = 5.0
STAYS_QUIET_S: Final = 30.0
_MEMORY: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    problems: tuple[str, ...]
    digest: str
    trace: tuple[str, ...]
    virtual_s: float
    tasks: dict[str, int]
    """How many ended in each state."""


def simulate(seed: int, *, keep_trace: bool = False) -> Outcome:
    """Run the world of a seed to its end. What went wrong stands in `problems`."""
    plan = plan_of(seed)
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    loop = VirtualLoop()
    trace = Trace(is_kept=keep_trace)
    try:
        with _logs_into(trace if keep_trace else None):
            problems, tasks = loop.run_until_complete(_run(plan, folder, trace))
        return Outcome(seed, tuple(problems), trace.digest, tuple(trace.lines), loop.time(), tasks)
    finally:
        loop.close()
        shutil.rmtree(folder)


@contextmanager
def _logs_into(trace: Trace | None) -> Iterator[None]:
    """What the listener logs, to the trace alone; None: nowhere."""
    log = logging.getLogger("listener")
    before = log.level, log.propagate
    log.setLevel(logging.CRITICAL + 1 if trace is None else logging.DEBUG)
    log.propagate = False
    if trace is not None:
        log.addHandler(trace)
    try:
        yield
    finally:
        log.level, log.propagate = before
        if trace is not None:
            log.removeHandler(trace)


async def _run(plan: Plan, folder: Path, trace: Trace) -> tuple[list[str], dict[str, int]]:
    world = World(plan, folder, trace)
    async with asyncio.TaskGroup() as group:
        life = group.create_task(world.listener.run(plan.lives))
        others = [
            group.create_task(one) for one in (world.chain.run(), world.calm_down(), world.restart_compute())
        ]
        people = group.create_task(world.people.run(plan.wishes, plan.mentions))
        problems = await world.until_quiet(people)
        for task in (life, people, *others):
            task.cancel()
    problems = [*world.books.problems, *world.listener.failures, *problems]
    if not problems:
        problems = audit(world.books, plan, world.calm_at)
    return problems, dict(Counter(str(row["state"]) for row in world.books.tasks().values()))


class World:
    def __init__(self, plan: Plan, folder: Path, trace: Trace) -> None:
        self.plan = plan
        self.trace = trace
        self.chain = chain = Chain(plan.terms, self._rng("chain"))
        self.compute = Compute(trace)
        self.books = Books(chain, self.compute, KEY.pubkey(), lambda: self.listener.journal, FUNDED_LAMPORTS)
        names = [f"rpc-{at}" for at in range(len(plan.providers))]
        self.providers = {
            name: Provider(name, chain, self._faults(faults, name), self.books.on_send)
            for name, faults in zip(names, plan.providers, strict=True)
        }
        self.websockets = {
            name: Websocket(chain, self._faults(faults, f"ws {name}"), self._rng(f"ws {name}"), trace)
            for name, faults in zip(names, plan.websockets, strict=True)
        }
        self.listener = Listener(
            folder,
            _settings(plan, names),
            self.providers,
            self.websockets,
            self.compute,
            self._faults(plan.compute, "compute"),
            plan.commits_s,
            self._rng("listener"),
            trace,
        )
        keys = [Keypair.from_seed(bytes([100 + at] * 32)) for at in range(REQUESTERS)]
        self.people = People(chain, KEY.pubkey(), keys, self._rng("people"))
        for key in keys:
            chain.fund(key.pubkey(), REQUESTERS_LAMPORTS)
        chain.fund(KEY.pubkey(), FUNDED_LAMPORTS)
        chain.watch(self._on_slot)
        self.calm_at = float("inf")

    def _rng(self, of: str) -> random.Random:
        return random.Random(f"{self.plan.seed} {of}")

    def _faults(self, faults: tuple[Fault, ...], of: str) -> Faults:
        return Faults(faults, asyncio.get_running_loop().time, self._rng(f"faults {of}"))

    async def calm_down(self) -> None:
        await asyncio.sleep(self.plan.chaos_s)
        self.chain.is_calm = True
        self.calm_at = self.chain.now
        self.trace("every fault is over")

    async def restart_compute(self) -> None:
        for fault in self.plan.compute:
            if fault.kind == "restart":
                await asyncio.sleep(max(0.0, fault.start_s - asyncio.get_running_loop().time()))
                self.trace("compute is restarted")
                self.compute.restart()

    async def until_quiet(self, people: "asyncio.Task[None]") -> list[str]:
        """Wait until everybody is done and nothing is open, for a while. What keeps it from that, after too long."""
        loop = asyncio.get_running_loop()
        quiet_since = loop.time()
        while loop.time() < self.plan.chaos_s + QUIET_WITHIN_S:
            await asyncio.sleep(LOOK_S)
            is_over = loop.time() > self.plan.chaos_s and people.done() and self.listener.is_in_its_last_life
            if not is_over or not self.books.is_quiet():
                quiet_since = loop.time()
            elif loop.time() - quiet_since >= STAYS_QUIET_S:
                return []
        return [f"it does not come to rest: {self.books.unrest()}, people: {people.done()}"]

    def _on_slot(self) -> None:
        confirmed = self._newly_confirmed()
        for landed in self.chain.head.landed:
            self.trace(f"slot {self.chain.head.slot}: {landed.transaction.signature} {landed.err}")
        for websocket in self.websockets.values():
            websocket.on_slot(confirmed)

    def _newly_confirmed(self) -> list[Landed]:
        found: list[Landed] = []
        for block in self.chain.confirmed_of(self.chain.head).ancestors():
            if block.is_notified:
                break
            block.is_notified = True
            found = [*block.landed, *found]
        return found


def _settings(plan: Plan, names: list[str]) -> ListenerSettings:
    return ListenerSettings(
        keypair=Path("key.json"),
        token_file=Path("token"),
        program_id=str(PROGRAM_ID),
        rpc_url=",".join(f"http://{name}/" for name in names),
        ws_url=",".join(f"ws://{name}/" for name in names),
        compute_url="http://compute",
        submit_commitment=plan.commitment,
        landing_margin_s=plan.landing_margin_s,
        list_interval_s=20.0,
        backfill_interval_s=8.0,
        watchdog_silence_s=8.0,
    )
