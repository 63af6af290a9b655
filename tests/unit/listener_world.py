"""The listener's parts around a real journal, with stand-ins for the endpoint and for compute that a test scripts."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.account_reader import AccountReader
from listener.chain.accounts import Execution, decode_execution
from listener.chain.agreement import Agreement
from listener.chain.answers import (
    Account,
    AccountRead,
    EpochInfo,
    LatestBlockhash,
    ProgramAccounts,
    SignatureRow,
    Simulation,
    Status,
    Statuses,
    TransactionError,
    TransactionRead,
)
from listener.chain.budget import Urgency
from listener.chain.endpoint import Endpoint
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain_clock import ChainClock
from listener.decisions import Sighting
from listener.journal.changes import Insert, Move
from listener.journal.journal import Journal
from listener.journal.records import Assignment, Task
from listener.journal.states import State
from listener.look import AccountLook, Look, sighting
from listener.look_by_transactions import TransactionLook
from listener.looks import Looks
from listener.observe import Observer
from listener.steps import Steps
from shared.clock import Clock
from shared.errors import RpcInvalid
from shared.ids import Slot, TaskKey
from shared.messages import Stage, TaskRequest
from tests.unit.chain_bytes import ADDRESS, ExecutionBytes, program
from tests.unit.journal_rows import NOW, result
from tests.unit.test_rules import RULES

PROGRAM = program()
KEY = Keypair.from_seed(bytes([1] * 32))
NODE = KEY.pubkey()
ACCOUNT = str(ADDRESS)
OURS = ExecutionBytes(assigned_node=NODE, reward=1_000_000, deadline=NOW + 600)
"""An account that assigns a task to this node under attempt 1000."""


class FastClock:
    """A thousand seconds pass in one."""

    def monotonic(self) -> float:
        return time.monotonic() * 1000

    def wall(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 1000)


class FixedClock:
    """No time passes but by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class ScriptedRpc:
    """The methods of an Rpc, answered from what a test puts here. What is asked is counted."""

    def __init__(self) -> None:
        self.slot = 2_000
        self.height = 100
        self.time = float(NOW)
        self.accounts: dict[Pubkey, Account] = {}
        self.statuses: dict[str, Status] = {}
        self.history: dict[str, Status] = {}
        """Of signatures that are only found by searching it."""
        self.rows: list[SignatureRow] = []
        self.finalized_rows: list[SignatureRow] = []
        self.transactions: dict[Signature, TransactionRead | None] = {}
        self.sent: list[bytes] = []
        self.asked: Counter[str] = Counter()
        self.read_addresses: list[Pubkey] = []
        """Of the accounts that were read, alone or together."""
        self.together: list[int] = []
        """How many signatures each question for statuses named."""
        self.faults: dict[str, list[Exception]] = defaultdict(list)
        """For each next call of a method."""
        self.status_slot: int | None = None
        self.finalized_slot = 0
        self.confirmed_slot = 0
        self.genesis_hash = "this cluster"
        self.simulated: list[bytes] = []
        self.simulation_err: TransactionError | None = None
        self.simulated_units = 10_000
        self.slot_fees: list[int] = []
        self.balance = 10**9
        self.rents: dict[int, int] = {}
        """By the bytes of an account, where they are not as many lamports."""

    def _on(self, method: str) -> None:
        self.asked[method] += 1
        if self.faults[method]:
            raise self.faults[method].pop(0)

    async def get_account(
        self, address: Pubkey, *, commitment: str = "confirmed", min_context_slot: Slot | None = None
    ) -> AccountRead:
        self.read_addresses.append(address)
        self._on(f"get_account {commitment}")
        if min_context_slot is not None and self.slot < min_context_slot:
            raise RpcInvalid("the endpoint lags")
        return AccountRead(Slot(self.slot), self.accounts.get(address))

    async def get_multiple_accounts(
        self, addresses: Sequence[Pubkey], *, commitment: str = "confirmed", min_context_slot: Slot | None = None
    ) -> list[AccountRead]:
        self.read_addresses += addresses
        self._on(f"get_multiple_accounts {commitment}")
        if min_context_slot is not None and self.slot < min_context_slot:
            raise RpcInvalid("the endpoint lags")
        return [AccountRead(Slot(self.slot), self.accounts.get(address)) for address in addresses]

    async def get_program_accounts(
        self, _program: Pubkey, *, filters: Sequence[Any], **_: object
    ) -> ProgramAccounts:
        self._on("get_program_accounts")
        state = filters[1]
        found = [
            (address, Account(one.lamports, one.owner, one.data[:120]))
            for address, one in self.accounts.items()
            if one.data[state.offset : state.offset + 1] == state.raw
        ]
        return ProgramAccounts(Slot(self.slot), tuple(found))

    async def get_signatures_for_address(
        self, _address: Pubkey, *, commitment: str = "confirmed", limit: int = 1000, **_: object
    ) -> list[SignatureRow]:
        self._on(f"get_signatures_for_address {commitment}")
        return (self.finalized_rows if commitment == "finalized" else self.rows)[:limit]

    async def get_transaction(
        self, signature: Signature, _commitment: str = "confirmed"
    ) -> TransactionRead | None:
        self._on("get_transaction")
        return self.transactions.get(signature)

    async def get_signature_statuses(
        self, signatures: Sequence[Signature], search_history: bool = False
    ) -> Statuses:
        self._on("get_signature_statuses" + (" in history" if search_history else ""))
        self.together.append(len(signatures))
        known = self.statuses | (self.history if search_history else {})
        slot = self.slot if self.status_slot is None else self.status_slot
        return Statuses(Slot(slot), tuple(known.get(str(one)) for one in signatures))

    async def get_epoch_info(self) -> EpochInfo:
        self._on("get_epoch_info")
        return EpochInfo(Slot(self.slot), self.height)

    async def send_transaction(self, raw: bytes, **_: object) -> Signature:
        self.sent.append(raw)
        self._on("send_transaction")
        return Signature.default()

    async def get_latest_blockhash(self) -> LatestBlockhash:
        self._on("get_latest_blockhash")
        return LatestBlockhash(Hash(self.height.to_bytes(32)), self.height + 150)

    async def get_genesis_hash(self) -> str:
        self._on("get_genesis_hash")
        return self.genesis_hash

    async def get_slot(self, commitment: str = "confirmed") -> int:
        self._on("get_slot")
        return self.finalized_slot if commitment == "finalized" else self.confirmed_slot

    async def simulate_transaction(self, raw: bytes) -> Simulation:
        self._on("simulate_transaction")
        self.simulated.append(raw)
        return Simulation(Slot(self.slot), self.simulation_err, (), self.simulated_units)

    async def get_recent_prioritization_fees(self) -> list[int]:
        self._on("get_recent_prioritization_fees")
        return self.slot_fees

    async def get_clock(self, _commitment: str = "confirmed") -> float:
        self._on("get_clock")
        return self.time

    async def get_rent(self, nbytes: int) -> int:
        self._on("get_rent")
        return self.rents.get(nbytes, nbytes)

    async def get_balance(self, _address: Pubkey) -> int:
        self._on("get_balance")
        return self.balance


class Compute:
    """The methods of a ComputeClient. Each gives the next of its answers, raises it, or waits where none is left."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = defaultdict(list)
        self.called: list[tuple[Any, ...]] = []

    async def _answer(self, call: str, *told: object) -> Any:
        self.called.append((call, *told))
        if not self.answers[call]:
            await asyncio.get_running_loop().create_future()
        answer = self.answers[call].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def calls(self, name: str) -> list[Any]:
        return [told for call, *told in self.called if call == name]

    async def post(self, request: TaskRequest) -> Any:
        return await self._answer("post", request)

    async def status(self, key: TaskKey, wait_s: int, stage: Stage | None) -> Any:
        return await self._answer("status", key, wait_s, stage)

    async def stop(self, key: TaskKey, attempt: int, *, force: bool) -> Any:
        return await self._answer("stop", key, attempt, force)

    async def acknowledge(self, key: TaskKey, attempt: int, requester: str, *, paid: bool) -> Any:
        return await self._answer("acknowledge", key, attempt, requester, paid)

    async def tasks(self) -> Any:
        return await self._answer("tasks")


def endpoints_of(*rpcs: Any) -> Endpoints:
    """Providers that answer what these do."""
    clock, rng = FastClock(), random.Random(1)
    named = enumerate(rpcs)
    return Endpoints(
        [Endpoint(f"endpoint {n}", dict.fromkeys(Urgency, rpc), clock, rng) for n, rpc in named], clock, rng
    )


class World:
    """A journal, an endpoint whose chain holds one assignment, and what looks at it."""

    def __init__(self, journal: Journal, of: Program = PROGRAM, clock: Clock | None = None) -> None:
        self.journal = journal
        self.clock = clock or FastClock()
        self.rpc: Any = ScriptedRpc()
        self.endpoints = endpoints_of(self.rpc)
        self.agreement = Agreement(self.endpoints, self.clock)
        self.rpc.accounts[ADDRESS] = OURS.account()
        self.chain_clock = ChainClock(self._now, self.clock)
        self.steps = Steps(journal, self.chain_clock.known)
        self.look: Look = AccountLook(self.agreement, of, NODE, AccountReader())
        if of.by_transactions is not None:
            self.look = TransactionLook(self.agreement, of, NODE, journal)
            self.rpc.accounts.clear()
        self.compute: Any = Compute()
        self.takes = True
        self.observer = Observer(self.look, RULES, self.chain_clock, self.steps, lambda: self.takes)
        self.looks = Looks(self.observer, self.clock, random.Random(1))

    async def _now(self) -> float:
        return float(await self.rpc.get_clock())

    def shows(self, account: ExecutionBytes | None, slot: int | None = None) -> None:
        """What the chain holds from now on."""
        self.rpc.slot = slot or self.rpc.slot + 1
        if account is None:
            self.rpc.accounts.pop(ADDRESS, None)
        else:
            self.rpc.accounts[ADDRESS] = account.account()

    async def task(self) -> Task:
        task = await self.journal.latest(ACCOUNT)
        assert task is not None
        return task

    async def taken(self, state: State = State.ACCEPTED, account: ExecutionBytes = OURS) -> Task:
        """The assignment, in the journal in this state."""
        await self.journal.apply(Insert(assigned(account), State.ACCEPTED))
        task = await self.task()
        if state is State.COMPUTED:
            done = result(task)
            await self.journal.apply(Move(task.id, State.ACCEPTED, state, result=done, ends_as=State.PAID))
        elif state is State.CANCELLING:
            await self.journal.apply(
                Move(task.id, State.ACCEPTED, state, "CancelledByRequester", refund_at=NOW + 30)
            )
        elif state is not State.ACCEPTED:
            await self.journal.apply(Move(task.id, State.ACCEPTED, state))
        return await self.task()

    async def reaches(self, *states: State) -> Task:
        """The task, once it is in one of these states."""

        async def reached() -> bool:
            task = await self.journal.latest(ACCOUNT)
            return task is not None and task.state in states

        await until(reached)
        return await self.task()


def read(account: ExecutionBytes = OURS) -> Execution:
    return decode_execution(PROGRAM, ADDRESS, account.account())


def sighted(account: ExecutionBytes = OURS, slot: int = 2_000) -> Sighting:
    return sighting(read(account), Slot(slot))


def assigned(account: ExecutionBytes = OURS) -> Assignment:
    return sighted(account).assignment


async def until(true: Callable[[], bool | Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            now = true()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(life: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """It runs for ever beside the block; what it raises ends the test."""
    task = asyncio.ensure_future(life)
    try:
        yield
        assert not task.done() or task.result() is None
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
