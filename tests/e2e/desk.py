"""A requester's desk: graphs, tensors, assignments in the ordinary way, and transactions in any other."""

import asyncio
import base64
import json
import sqlite3
import struct
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import torch
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import Transaction

from cli.localnet import RunningNode
from listener.chain.accounts import Execution, ExecutionState
from listener.chain.rpc import Status
from requester.assign import Assigned, Assignment, assign
from requester.publish import publish_package, publish_tensors
from requester.session import Session
from shared.ids import Lamports, ModelId, TaskKey, UnixSeconds, parse_execution_id, parse_task_id
from shared.messages import Stage, TaskStatus
from tests.program.instructions import Assignment as Terms
from tests.program.instructions import Builder, discriminator, string, strings
from tests.unit.graphs import Document, as_bytes, document, node, ref, tensor

REWARD = Lamports(2_000_000)
FEE = 5_000
SHARE_OF_REWARD = REWARD // 5
"""What the fees of a submission may cost, and do in a notice."""
PATIENCE_S = 120.0
FINALITY_S = 150.0
"""Some 13 seconds where the machine is not busy."""
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
SUM = document(
    [tensor("a", ["n"]), tensor("b", ["n"])],
    [node("sum", "aten.add.Tensor", self=ref("a"), other=ref("b"))],
    [ref("sum")],
)
A, B = torch.arange(4, dtype=torch.float32), torch.ones(4)
SLOW_SIZE = 1024
VERY_SLOW, SLOW = 1_500, 120
"""Products of matrices, some 40 ms each on a core of this decade: more than any test lets run, and some seconds."""
OUTLASTS_A_COMMAND = 400
"""A quarter of a minute, in which another task is assigned, a command is heard, or the listener stopped."""


def slow_graph(products: int = VERY_SLOW) -> Document:
    nodes = [
        node(f"p{place}", "aten.mm.default", self=ref(f"p{place - 1}" if place else "x"), mat2=ref("x"))
        for place in range(products)
    ]
    return document([tensor("x", [SLOW_SIZE, SLOW_SIZE])], nodes, [ref(f"p{products - 1}")])


def slow_input() -> torch.Tensor:
    return torch.zeros(SLOW_SIZE, SLOW_SIZE)


async def until(true: Callable[[], Awaitable[object]], what: str, limit_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + limit_s
    while not await true():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Desk:
    session: Session
    key: Keypair

    async def publish(self, graph: Document) -> ModelId:
        return await publish_package(
            self.session.storage, self.session.publish_prefix, self.session.requester, as_bytes(graph)
        )

    async def store(self, *tensors: torch.Tensor) -> str:
        session = self.session
        return await publish_tensors(
            session.storage, session.publish_prefix, session.requester, tensors, is_weights=False
        )

    async def assignment(
        self,
        to: Pubkey,
        graph: Document = SUM,
        tensors: Sequence[torch.Tensor] = (A, B),
        *,
        uris: tuple[str, ...] = (),
        outputs: int = 1,
        units: int = 10_000,
        time_s: int = 3_600,
    ) -> Assignment:
        """Of this graph on these tensors (or on what lies at `uris`); everything is in storage afterwards."""
        return Assignment(
            pair=new_pair(),
            node=to,
            model_id=await self.publish(graph),
            input_uris=uris or (await self.store(*tensors),),
            expected_output_count=outputs,
            deadline=UnixSeconds(await self.session.rpc.get_clock() + time_s),
            compute_units=units,
            reward=REWARD,
        )

    async def assign(self, to: Pubkey, graph: Document = SUM, **terms: object) -> Assigned:
        return await assign(self.session, await self.assignment(to, graph, **terms))  # type: ignore[arg-type]

    def instruction(self, assignment: Assignment, program: Pubkey | None = None) -> Instruction:
        """assign_task, encoded by hand; also of a program that is not the network's."""
        pair = assignment.pair
        builder = Builder(
            program or self.session.program.program_id,
            self.key.pubkey(),
            assignment.node,
            pair.execution_id,
            pair.task_id,
        )
        return builder.assign_task(
            Terms(
                pair.execution_id,
                pair.task_id,
                assignment.model_id,
                assignment.input_uris,
                assignment.expected_output_count,
                assignment.deadline,
                assignment.compute_units,
                assignment.reward,
            )
        )

    async def blockhash(self) -> Hash:
        return (await self.session.rpc.get_latest_blockhash()).blockhash

    async def send(self, *instructions: Instruction) -> Status:
        """As one legacy transaction, without preflight, so that what fails is executed too."""
        message = Message(list(instructions), self.key.pubkey())
        return await self.send_raw(bytes(Transaction([self.key], message, await self.blockhash())))

    def mention(self, node: Pubkey) -> Instruction:
        """A gift to the node: its key stands in the transaction, and nothing of the program."""
        return transfer(TransferParams(from_pubkey=self.key.pubkey(), to_pubkey=node, lamports=1_000_000))

    async def send_failing(self, assignment: Assignment) -> None:
        """In a transaction whose last instruction fails: the event is in its log, the assignment is not made."""
        too_much = TransferParams(from_pubkey=self.key.pubkey(), to_pubkey=assignment.node, lamports=2**62)
        status = await self.send(self.instruction(assignment), transfer(too_much))
        assert status.err is not None

    async def send_forged(self, assignment: Assignment) -> None:
        """A text in the log that reads like the program's event, beside a mention of the node."""
        text = "\nProgram data: " + base64.b64encode(event_bytes(assignment)).decode()
        status = await self.send(self.mention(assignment.node), Instruction(MEMO, text.encode(), []))
        assert status.err is None

    async def in_notice(self, pair: TaskKey) -> None:
        """Wait until the chain shows the pair as cancelled."""

        async def is_cancelled() -> bool:
            execution = await self.session.execution(pair)
            return execution is not None and execution.state is ExecutionState.CANCELLED

        await until(is_cancelled, "the notice stands on the chain")

    async def send_raw(self, raw: bytes) -> Status:
        """What became of the transaction at `confirmed`."""
        signature = await self.session.rpc.send_transaction(raw, skip_preflight=True, max_retries=5)
        return await self.status(signature)

    async def status(self, signature: Signature) -> Status:
        found: list[Status] = []

        async def landed() -> bool:
            (status,) = (await self.session.rpc.get_signature_statuses([signature])).statuses
            if status is not None and status.confirmation_status != "processed":
                found.append(status)
            return bool(found)

        await until(landed, f"{signature} lands")
        return found[0]

    async def ended(self, pair: TaskKey) -> Execution:
        """The account, once it is completed or failed."""
        found: list[Execution] = []

        async def over() -> bool:
            execution = await self.session.execution(pair)
            if execution and execution.state in (ExecutionState.COMPLETED, ExecutionState.FAILED):
                found.append(execution)
            return bool(found)

        await until(over, f"{pair} ends")
        return found[0]

    async def settled(self, desk_node: RunningNode) -> None:
        """A task of ours from assignment to payment: whatever was sent before it has been heard of."""
        assigned = await self.assign(desk_node.address)
        assert (await self.ended(assigned.assignment.pair)).state is ExecutionState.COMPLETED


def event_bytes(assignment: Assignment) -> bytes:
    """TaskAssigned, as the program writes it."""
    pair = assignment.pair
    return (
        discriminator("event", "TaskAssigned")
        + string(pair.execution_id)
        + string(pair.task_id)
        + string(assignment.model_id)
        + strings(assignment.input_uris)
        + struct.pack("<Bqq", assignment.expected_output_count, assignment.deadline, assignment.compute_units)
        + bytes(assignment.node)
    )


def new_pair() -> TaskKey:
    return TaskKey(parse_execution_id(str(uuid.uuid4())), parse_task_id(f"task-{uuid.uuid4().hex[:8]}"))


def stages(running: RunningNode, pair: TaskKey) -> list[str]:
    """Each stage that compute's log shows the pair entering, in order."""
    lines = map(json.loads, running.compute.log.read_text().splitlines())
    return [
        line["stage"]
        for line in lines
        if line.get("message") == "a task entered a stage"
        and (line.get("executionId"), line.get("taskId")) == (pair.execution_id, pair.task_id)
    ]


def journal(running: RunningNode, query: str, *values: object) -> list[tuple[object, ...]]:
    """Rows of the node's journal, read beside the listener."""
    with sqlite3.connect(f"file:{running.folder}/journal.sqlite?mode=ro", uri=True) as db:
        rows = db.execute(query, values).fetchall()
    db.close()
    return rows


def states(running: RunningNode, pair: TaskKey) -> list[tuple[object, ...]]:
    """(state, reason) of each attempt of the pair in the node's journal."""
    sql = "SELECT state, reason FROM tasks WHERE execution_id = ? AND task_id = ? ORDER BY attempt"
    return journal(running, sql, pair.execution_id, pair.task_id)


async def in_state(running: RunningNode, pair: TaskKey, *wanted: tuple[str, str | None]) -> None:
    """Wait until `states` shows these."""

    async def there() -> bool:
        return states(running, pair) == list(wanted)

    await until(there, f"{pair} is {wanted}", FINALITY_S)


async def sees_the_notice(running: RunningNode, pair: TaskKey) -> bool:
    """Whether the node's journal holds when the pair's notice ends."""
    sql = "SELECT refund_at FROM tasks WHERE execution_id = ? AND task_id = ?"
    return journal(running, sql, pair.execution_id, pair.task_id) not in ([], [(0,)])


async def unknown_at_compute(running: RunningNode, pair: TaskKey, limit_s: float = PATIENCE_S) -> None:
    """Wait until compute does not know the pair: it was stopped, or its result acknowledged."""
    url = f"{running.compute_url}/api/task/{pair.execution_id}/{pair.task_id}"

    async def is_unknown() -> bool:
        return (await running.http.get(url)).status_code == 404

    await until(is_unknown, f"compute forgets {pair}", limit_s)


async def at_stage(running: RunningNode, pair: TaskKey, stage: Stage) -> None:
    """Wait until compute has the pair at `stage`."""

    async def there() -> bool:
        answer = await running.http.get(f"{running.compute_url}/api/task/{pair.execution_id}/{pair.task_id}")
        return answer.status_code == 200 and TaskStatus.model_validate_json(answer.content).stage is stage

    await until(there, f"{pair} is {stage}")
