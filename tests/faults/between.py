"""The way between the two processes: the listener's parts around a real journal, a proxy, and a real compute process.

The chain is a script, so that a test decides what an account shows; all that goes over HTTP is real.
"""

import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from solders.pubkey import Pubkey

from listener.chain.accounts import decode_execution
from listener.compute_client import ComputeClient, compute_http
from listener.journal.changes import Insert, Move
from listener.journal.journal import Journal
from listener.journal.records import Task
from listener.journal.states import State
from listener.look import sighting
from listener.settlement import Settlement
from listener.tasks import Surroundings, TaskRunner
from shared.clock import SystemClock
from shared.errors import StateConflict
from shared.ids import Slot, UnixSeconds
from tests.faults.http_proxy import HttpProxy, http_proxy
from tests.faults.weather import Weather
from tests.integration.compute_process import REQUESTER, TOKEN, ComputeProcess
from tests.program.instructions import execution_address
from tests.unit.chain_bytes import PROGRAM_ID, ExecutionBytes
from tests.unit.journal_rows import NOW
from tests.unit.listener_world import NODE, PROGRAM, World, running, until

MARGIN_S = 15.0
PATIENCE_S = 120.0


@dataclass
class Between:
    compute: ComputeProcess
    proxy: HttpProxy
    weather: Weather
    world: World
    client: ComputeClient
    submitted: list[Task] = field(default_factory=list)
    """What came as far as the submission, which stays there."""

    @property
    def journal(self) -> Journal:
        return self.world.journal

    async def submit(self, task: Task) -> float:
        self.submitted.append(task)
        return 3600.0

    async def take(self, body: dict[str, object], state: State = State.ACCEPTED, **changed: object) -> Task:
        """The work of a POST's body as an assignment of the chain, in the journal in this state."""
        account = _account_of(body, **changed)
        address = execution_address(PROGRAM_ID, str(account.execution_id), str(account.task_id))[0]
        self.world.rpc.accounts[address] = account.account()
        execution = decode_execution(PROGRAM, address, account.account())
        await self.journal.apply(Insert(sighting(execution, Slot(2_000)).assignment, state))
        self._wake()
        task = await self.journal.latest(str(address))
        assert task is not None
        return task

    async def cancel(self, task: Task, notice_s: float) -> None:
        """The chain shows it cancelled, with a notice that ends so many seconds from now."""
        refund_at = UnixSeconds(int(await self.world.chain_clock.now() + notice_s))
        while True:
            origin = (await self.journal.task(task.id)).state
            cancelling = Move(task.id, origin, State.CANCELLING, "CancelledByRequester", refund_at=refund_at)
            try:
                await self.journal.apply(cancelling)
                break
            except StateConflict:
                if (await self.journal.task(task.id)).state is origin:
                    raise
                # It went on meanwhile, by an answer of compute's.
        self._wake(task.id)

    def _wake(self, task: int | None = None) -> None:
        for wake, _ in self.world.steps._wakes:
            wake(task)

    async def reaches(self, task: Task, *states: State) -> Task:
        async def reached() -> bool:
            return (await self.journal.task(task.id)).state in states

        await until(reached, PATIENCE_S)
        return await self.journal.task(task.id)

    async def owes_nothing(self) -> None:
        async def settled() -> bool:
            return await self.journal.owing() == []

        await until(settled, PATIENCE_S)

    def stages(self, task: Task) -> list[str]:
        """Every stage that compute's log shows it entering."""
        lines = [json.loads(line) for line in self.compute.log().splitlines() if line.startswith("{")]
        return [
            line["stage"]
            for line in lines
            if line["message"] == "a task entered a stage" and line["taskId"] == task.task_id
        ]

    def freeze(self) -> None:
        """Compute hangs: its port takes connections, and nothing answers."""
        assert self.compute.process is not None
        self.compute.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.compute.process is not None
        self.compute.process.send_signal(signal.SIGCONT)


def _account_of(body: dict[str, object], **changed: object) -> ExecutionBytes:
    uris = body["inputUris"]
    assert isinstance(uris, list)
    values: dict[str, object] = {
        "execution_id": body["executionId"],
        "task_id": body["taskId"],
        "model_id": body["modelId"],
        "input_uris": tuple(uris),
        "requester": Pubkey.from_string(REQUESTER),
        "assigned_node": NODE,
        "compute_units": 1_000_000,
        "deadline": NOW + 600,
    }
    return ExecutionBytes(**(values | changed))  # type: ignore[arg-type]


@asynccontextmanager
async def between(compute: ComputeProcess, folder: Path) -> AsyncIterator[Between]:
    """Tasks are driven and settled from the journal until the block ends. `compute` may be running or not."""
    weather = Weather(random.Random(1))
    journal = Journal(folder / "journal.sqlite")
    world = World(journal, clock=SystemClock())
    try:
        async with http_proxy(compute.port, weather) as proxy, compute_http(proxy.url, TOKEN) as http:
            made = Between(compute, proxy, weather, world, ComputeClient(http))
            surroundings = Surroundings(
                steps=world.steps,
                compute=made.client,
                chain_clock=world.chain_clock,
                landing_margin_s=MARGIN_S,
                max_unpaid_a_day=10,
                submit=made.submit,
                look_again=world.observer.look_again,
            )
            runner = TaskRunner(surroundings, random.Random(1))
            settlement = Settlement(world.steps, made.client, world.look, world.chain_clock.now, world.clock)
            world.steps.tell(runner.changed)
            world.steps.tell(settlement.changed)
            async with running(runner.run()), running(settlement.run()):
                yield made
    finally:
        journal.close()
