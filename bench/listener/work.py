"""Assignments as the chain shows them: the account, and the log of the transaction that made it."""

import base64
import itertools
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from solders.pubkey import Pubkey
from solders.signature import Signature

from bench.listener.chain_peer import Held
from shared.ids import ExecutionId, TaskId, TaskKey
from tests.program.instructions import Assignment, Builder, discriminator, string, strings
from tests.unit.chain_bytes import ExecutionBytes

PROGRAM_ID = Pubkey([9] * 32)
REQUESTER = Pubkey([2] * 32)
INPUT = "s3://bucket/tensors/public/x.safetensors#0"
DEADLINE_S = 3_600
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Work:
    """One assignment. `logs` are what its transaction wrote."""

    key: TaskKey
    address: str
    held: Held
    signature: str
    logs: tuple[str, ...]


def assigned(node: Pubkey, slot: int, state: int = 0) -> Work:
    """Of a pair that was not there before."""
    execution_id, task_id = str(uuid.uuid4()), f"task-{uuid.uuid4().hex[:8]}"
    deadline = int(time.time()) + DEADLINE_S
    builder = Builder(PROGRAM_ID, REQUESTER, node, execution_id, task_id)
    account = ExecutionBytes(
        state=state,
        assigned_node=node,
        requester=REQUESTER,
        deadline=deadline,
        attempt=slot,
        compute_units=1,
        execution_id=execution_id,
        task_id=task_id,
        input_uris=(INPUT,),
    )
    terms = Assignment(execution_id, task_id, input_uris=(INPUT,), deadline=deadline, compute_units=1)
    event = discriminator("event", "TaskAssigned") + terms.strings()
    event += struct.pack("<BqQ", 1, deadline, 1) + bytes(node)
    return Work(
        TaskKey(ExecutionId(execution_id), TaskId(task_id)),
        str(builder.address),
        Held(PROGRAM_ID, bytes(account)),
        new_signature(),
        logs_of("AssignTask", event),
    )


def completed_logs(key: TaskKey, node: Pubkey) -> tuple[str, ...]:
    """What a task_completed of this node writes."""
    event = discriminator("event", "TaskCompleted") + string(key.execution_id) + string(key.task_id)
    event += strings((INPUT,)) + struct.pack("<Q", 12) + bytes(node)
    return logs_of("TaskCompleted", event)


def logs_of(instruction: str, event: bytes) -> tuple[str, ...]:
    return (
        f"Program {PROGRAM_ID} invoke [1]",
        f"Program log: Instruction: {instruction}",
        "Program 11111111111111111111111111111111 invoke [2]",
        "Program 11111111111111111111111111111111 success",
        f"Program data: {base64.b64encode(event).decode()}",
        f"Program {PROGRAM_ID} consumed 14873 of 200000 compute units",
        f"Program {PROGRAM_ID} success",
    )


def new_signature() -> str:
    return str(Signature(next(_numbers).to_bytes(64, "big")[::-1]))


def signatures() -> Iterator[str]:
    while True:
        yield new_signature()
