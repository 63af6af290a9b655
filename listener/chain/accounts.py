"""Execution accounts: the truth about an assignment, read, checked and listed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from solders.pubkey import Pubkey

from listener.chain.idl import Program
from listener.chain.idl_layout import SYSTEM_PROGRAM
from listener.chain.rpc import Account, Commitment, Memcmp, Rpc
from shared.errors import AccountInvalid, InvalidId, InvalidUri
from shared.ids import (
    MAX_COUNT,
    Attempt,
    ExecutionId,
    Lamports,
    ModelId,
    Slot,
    TaskId,
    UnixSeconds,
    parse_execution_id,
    parse_model_id,
    parse_task_id,
)
from shared.messages import MAX_OUTPUTS
from shared.uris import MAX_URIS, parse_tensor_uri

KNOWN_LAYOUT: Final = 1
"""Of accounts that state the version of their layout."""


class ExecutionState(StrEnum):
    """The variants of the IDL's enum, by their names there."""

    ASSIGNED = "Assigned"
    CANCELLED = "Cancelled"
    FAILED = "Failed"
    COMPLETED = "Completed"


NO_RENT: Final = Lamports(0)
LIVE_STATES: Final = (ExecutionState.ASSIGNED, ExecutionState.CANCELLED)


@dataclass(frozen=True, slots=True)
class ExecutionHead:
    """What the fixed head of an account says; enough for the operator's rules."""

    address: Pubkey
    lamports: Lamports
    state: ExecutionState
    attempt: Attempt
    assigned_node: Pubkey
    requester: Pubkey
    reward: Lamports
    deadline: UnixSeconds
    refund_at: UnixSeconds
    """0 unless cancelled."""
    compute_units: int
    expected_output_count: int


@dataclass(frozen=True, slots=True)
class Execution(ExecutionHead):
    execution_id: ExecutionId
    task_id: TaskId
    model_id: ModelId
    input_uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExecutionRead:
    """`execution` is None where there is no account."""

    slot: Slot
    execution: Execution | None


def content_hash(execution: Execution) -> bytes:
    """SHA-256 of what makes it this piece of work: the assignment's eight fields, requester and reward."""
    parts = [
        execution.execution_id,
        execution.task_id,
        execution.model_id,
        *execution.input_uris,
        execution.expected_output_count,
        execution.deadline,
        execution.compute_units,
        execution.assigned_node,
        execution.requester,
        execution.reward,
    ]
    # None of the parts can hold a line break: ids, URIs, numbers and base58.
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).digest()


def decode_execution(program: Program, address: Pubkey, account: Account) -> Execution:
    """Read an account of the program. Raises AccountInvalid: another owner, discriminator, layout, or bad ids."""
    _check_owner(program, account)
    values: Mapping[str, Any] = program.decode_account(account.data)
    try:
        return Execution(
            **_head(values, address, account),
            execution_id=parse_execution_id(str(values["execution_id"])),
            task_id=parse_task_id(str(values["task_id"])),
            model_id=parse_model_id(str(values["model_id"])),
            input_uris=values["input_uris"],
        )
    except InvalidId as error:
        raise AccountInvalid(str(error)) from error


def verify(
    program: Program, account: Account, address: Pubkey, node: Pubkey, *, rent: Lamports = NO_RENT
) -> Execution:
    """Read an account and check that it is an assignment to `node`, whatever became of it since.

    Owner, layout, the address where the IDL has a rule for it; that it holds `rent` and reward while it is live; and
    each limit that the reference program keeps, since another program may not. `rent` is what the cluster asks for
    its length, given at intake only: it may rise later.
    Raises AccountInvalid with the reason.
    """
    execution = decode_execution(program, address, account)
    check_address(program, execution)
    if execution.assigned_node != node:
        raise AccountInvalid(f"it is assigned to another node, {execution.assigned_node}")
    if execution.state in LIVE_STATES and execution.lamports < rent + execution.reward:
        raise AccountInvalid(
            f"the account holds {execution.lamports} lamports, less than its rent {rent} and reward {execution.reward}"
        )
    check_limits(execution)
    return execution


def check_address(program: Program, execution: Execution) -> None:
    """Where the IDL has a rule: that the account lies where it says. Raises AccountInvalid."""
    known = {field.name: getattr(execution, field.name) for field in fields(execution)}
    if program.address_of(known) not in (None, execution.address):
        raise AccountInvalid("the account does not lie at the address that its ids give")


async def read_execution(
    rpc: Rpc,
    program: Program,
    address: Pubkey,
    *,
    commitment: Commitment = "confirmed",
    min_context_slot: Slot | None = None,
) -> ExecutionRead:
    """Read one account as an execution, without judging it. Raises ChainError."""
    found = await rpc.get_account(address, commitment=commitment, min_context_slot=min_context_slot)
    execution = None if found.account is None else decode_execution(program, address, found.account)
    return ExecutionRead(found.slot, execution)


async def list_live(
    rpc: Rpc, program: Program, node: Pubkey, *, commitment: Commitment = "confirmed"
) -> list[tuple[Pubkey, ExecutionHead]]:
    """The node's accounts that are assigned or in notice, with their addresses.

    An account that cannot be read is left out: it is none of ours to run. Raises ChainError.
    """
    heads: list[tuple[Pubkey, ExecutionHead]] = []
    for state in LIVE_STATES:
        found = await rpc.get_program_accounts(
            program.program_id,
            filters=[
                Memcmp(0, program.discriminator),
                Memcmp(program.offset_of("state"), program.state_tag(state)),
                Memcmp(program.offset_of("assigned_node"), bytes(node)),
            ],
            data_slice=(0, program.head_length),
            commitment=commitment,
        )
        for address, account in found.accounts:
            head = _listed_head(program, address, account)
            if head is not None and head.assigned_node == node and head.state is state:
                heads.append((address, head))
    return heads


def _listed_head(program: Program, address: Pubkey, account: Account) -> ExecutionHead | None:
    try:
        _check_owner(program, account)
        return ExecutionHead(**_head(program.decode_head(account.data), address, account))
    except AccountInvalid:
        return None


def _head(values: Mapping[str, Any], address: Pubkey, account: Account) -> dict[str, Any]:
    """The arguments of an ExecutionHead; the kinds of the fields were checked when the IDL was read."""
    if values.get("layout", KNOWN_LAYOUT) != KNOWN_LAYOUT:
        raise AccountInvalid(f"the account's layout has the version {values['layout']}, known is {KNOWN_LAYOUT}")
    try:
        state = ExecutionState(values["state"])
    except ValueError as error:
        raise AccountInvalid(
            f"the account is in the state {values['state']}, which the node does not know"
        ) from error
    return {
        "address": address,
        "lamports": account.lamports,
        "state": state,
        "attempt": Attempt(counted(values["attempt"], "attempt")),
        "assigned_node": values["assigned_node"],
        "requester": values["requester"],
        "reward": Lamports(counted(values["reward"], "reward")),
        "deadline": UnixSeconds(counted(values["deadline"], "deadline")),
        "refund_at": UnixSeconds(counted(values.get("refund_at", 0), "refund_at")),
        "compute_units": counted(values["compute_units"], "compute_units"),
        "expected_output_count": values["expected_output_count"],
    }


def counted(value: int, name: str) -> int:
    """What JSON and the journal hold exactly."""
    if not 0 <= value <= MAX_COUNT:
        raise AccountInvalid(f"{name} is {value}, not 0 to {MAX_COUNT}")
    return value


def _check_owner(program: Program, account: Account) -> None:
    if account.owner != program.program_id:
        raise AccountInvalid(f"the account is owned by {account.owner}, not by the program")


def check_limits(execution: Execution) -> None:
    """What the reference program keeps, and another may not. Raises AccountInvalid."""
    if not 1 <= len(execution.input_uris) <= MAX_URIS:
        raise AccountInvalid(f"it has {len(execution.input_uris)} input URIs, not 1 to {MAX_URIS}")
    if not 1 <= execution.expected_output_count <= MAX_OUTPUTS:
        raise AccountInvalid(f"{execution.expected_output_count} outputs are expected, not 1 to {MAX_OUTPUTS}")
    keys = {execution.address, execution.requester, execution.assigned_node, SYSTEM_PROGRAM}
    if len(keys) != 4:
        raise AccountInvalid("account, requester, node and system program are not four different keys")
    try:
        for uri in execution.input_uris:
            parse_tensor_uri(uri)
    except InvalidUri as error:
        raise AccountInvalid(str(error)) from error
